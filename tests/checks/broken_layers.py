"""Layers that each break one convention, and the words that must be in the message."""

import numpy as np

from minifcn import layers
from minifcn.geometry import CoordinateMap
from minifcn.layers import Layer, MaxPool2d, Parameter, Pointwise, ReLU


@layers.register
class Rescale(Pointwise):
    """y = factor x, as a user would write it; the planted errors below change one method each."""

    def __init__(self):
        self.factor = Parameter(np.array([3.0], np.float32))

    def __init_subclass__(cls):
        layers.register(cls)

    def forward(self, x):
        y = self.factor.data * x
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.factor.accumulate((x * dy).sum().reshape(1))
        return self.factor.data * dy


class OutputDtype(Rescale):
    def forward(self, x):
        y = super().forward(x).astype(np.float64)
        self.keep(x, output=y)
        return y


class GradientDtype(Rescale):
    def backward(self, dy):
        return super().backward(dy).astype(np.float64)


class ForwardInPlace(Rescale):
    def forward(self, x):
        y = super().forward(x)
        x += 1
        return y


class BackwardInPlace(Rescale):
    def backward(self, dy):
        dx = super().backward(dy)
        dy *= 2
        return dx


class ParameterChanged(Rescale):
    def backward(self, dy):
        dx = super().backward(dy)
        self.factor.data += 1
        return dx


class InPlaceWithoutWords(Rescale):
    """Only its attribute shows that it works in place."""

    inplace = True


class RandomInEval(Rescale):
    generator = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x) * x.dtype.type(self.generator.random())


class KeepsInEval(Rescale):
    def forward(self, x):
        y = super().forward(x)
        self._kept, self._expected = (x,), (y.shape, y.dtype, np)
        return y


class BackwardAnyTime(Rescale):
    """Keeps the input itself, and checks nothing."""

    def forward(self, x):
        y = super().forward(x)
        self._input = x if self.training else None
        return y

    def backward(self, dy):
        if getattr(self, "_input", None) is None:
            raise ValueError("no forward")
        self.factor.accumulate((self._input * dy).sum().reshape(1))
        return self.factor.data * dy


class ShapeUnchecked(Rescale):
    def recall(self, dy):
        (x,) = super().recall(np.zeros(self._expected[0], dy.dtype) if self._expected else dy)
        return (x[: len(dy)],)


class DtypeUnchecked(Rescale):
    def recall(self, dy):
        return super().recall(dy.astype(self._expected[1]) if self._expected else dy)


class NoBackwardState(Rescale):
    def backward(self, dy):
        return self.factor.data * dy


class WrongGradientShape(Rescale):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.factor.accumulate((x * dy).sum())
        return self.factor.data * dy


class NoGradient(Rescale):
    def backward(self, dy):
        self.recall(dy)
        return self.factor.data * dy


class Overwrites(Rescale):
    def backward(self, dy):
        self.factor.grad = None
        return super().backward(dy)


class OtherParameterGradients(Rescale):
    def backward_parameters(self, dy):
        self.backward(2 * dy)


class HiddenState(Rescale):
    """A running mean that is neither Parameter nor Buffer."""

    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = x.mean()
        return super().forward(x) + x.dtype.type(self.mean)


class WrongShape(Rescale):
    def output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 1)


class NoShape(Rescale):
    output_shape = Layer.output_shape


@layers.register
class Pool(MaxPool2d):
    """A pool with a wrong place."""

    def __init__(self):
        super().__init__(2)

    def coordinate_map(self):
        return CoordinateMap(scale=CoordinateMap().scale * 2)


class LooksFurther(Rescale):
    """Adds the pixel to the right: its reach is 2 columns, not 1."""

    def forward(self, x):
        y = super().forward(x)
        return y + np.concatenate([x[..., 1:], 0 * x[..., :1]], axis=-1)


class NotItsArgument(Rescale):
    """Its attribute does not have the value of the argument."""

    def __init__(self, power=1):
        super().__init__()
        self.power = power + 1

    def forward(self, x):
        return super().forward(x) * self.power


class NoOutput(Rescale):
    def forward(self, x):
        super().forward(x)


class NoKeep(Rescale):
    def forward(self, x):
        return self.factor.data * x


class NoWalk(Rescale):
    """Holds a layer, and inherits the walk of a layer that holds none."""

    def __init__(self):
        super().__init__()
        self.part = ReLU()


class WalkComputes(NoWalk):
    def walk(self, visitor, x):
        return self.part(x)


class WalkAdds(NoWalk):
    def walk(self, visitor, x):
        return x + x


class WalkReturnsNone(NoWalk):
    def walk(self, visitor, x):
        visitor.leaf(self, x)


class WrongWalk(Rescale):
    def walk(self, visitor, x):
        y = visitor.leaf(self, x)
        return visitor.add(y, y)


PLANTED = [
    (OutputDtype, "dtype", "the output", "float32, got float64"),
    (GradientDtype, "dtype", "the gradient to the input", "float32, got float64"),
    (ForwardInPlace, "in place", "forward changes x"),
    (BackwardInPlace, "in place", "backward changes dy"),
    (ParameterChanged, "in place", "backward changes factor"),
    (InPlaceWithoutWords, "in place", "docstring of InPlaceWithoutWords", "inplace"),
    (RandomInEval, "eval", "expected", "got", "relative error"),
    (KeepsInEval, "backward", "backward in eval mode", "ValueError", "got no error"),
    (BackwardAnyTime, "backward", r"dy of shape (1, 2, 1, 1) for an output of shape (2, 2, 1, 1)"),
    (ShapeUnchecked, "backward", r"dy of shape (1, 2, 1, 1) for an output of shape (2, 2, 1, 1)"),
    (DtypeUnchecked, "backward", "dy of float32", "TypeError", "got no error"),
    (NoBackwardState, "backward", "ValueError", "got no error"),
    (WrongGradientShape, "gradients", "the gradient to factor", "shape (1,), got ()"),
    (NoGradient, "gradients", "the gradient to factor", "got NoneType"),
    (Overwrites, "gradients", "second backward", "factor", "relative error 0.5"),
    (OtherParameterGradients, "backward_parameters", "factor", "relative error 1"),
    (HiddenState, "state", "load_state_dict", "expected"),
    (WrongShape, "output_shape", "(2, 1, 1)", "(2, 1, 2)"),
    (NoShape, "output_shape", "(2, 1, 1)", "ValueError"),
    (Pool, "place", "2 i"),
    (LooksFurther, "place", "output column 0 depends on input columns 0 to 1", "reach is 1"),
    (NotItsArgument, "config", "the output of a layer made from its config", "expected"),
    (NoOutput, "forward", "must return an array, got NoneType"),
    (NoKeep, "backward", "", "self.keep"),
    (NoWalk, "walk", "NoWalk holds layers", "must have a walk"),
    (WalkComputes, "walk", "visitor.visit(part, x)", "visitor.leaf", "visitor.add", "got TypeError"),
    (WalkAdds, "walk", "visitor.add", "got TypeError"),
    (WalkReturnsNone, "walk", "visitor.leaf", "got NoneType"),
    (WrongWalk, "walk", "relative error 1"),
]  # fmt: skip
