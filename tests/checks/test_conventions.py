"""Every built-in layer and model keeps the conventions; each planted error is found and named."""

import re

import numpy as np
import pytest

from minifcn import convolutionalize, layers, models
from minifcn import functional as F
from minifcn.checks import CheckFailedError, check_conventions
from minifcn.geometry import CoordinateMap, Window
from minifcn.layers import (
    Add,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Layer,
    MaxPool2d,
    Parameter,
    Pointwise,
    ReLU,
    Sequential,
)
from minifcn.models.upsampling import AlignedUpsample, PaperUpsample

HALF = Window(2, stride=2).coordinate_map().inverse()

LAYERS = {
    "Conv2d": (lambda rng: Conv2d(2, 3, (3, 2), (2, 1), ((0, 1), (1, 0)), rng=rng), (2, 9, 8)),
    "Conv2d dilated": (lambda rng: Conv2d(4, 4, 3, 1, 2, 2, 2, rng=rng), (4, 9, 9)),
    "ConvTranspose2d": (lambda rng: ConvTranspose2d(2, 3, 4, stride=2, padding=1, rng=rng), (2, 5, 6)),
    "Linear": (lambda rng: layers.Linear(6, 4, rng=rng), (6,)),
    "MaxPool2d": (lambda rng: MaxPool2d(3, 2, 1), (2, 9, 8)),
    "MaxPool2d up": (lambda rng: MaxPool2d(2, ceil_mode=True), (2, 9, 8)),
    "AvgPool2d": (lambda rng: layers.AvgPool2d(2), (2, 9, 8)),
    "GlobalAvgPool2d": (lambda rng: layers.GlobalAvgPool2d(), (2, 5, 6)),
    "BatchNorm2d": (lambda rng: layers.BatchNorm2d(2), (2, 5, 6)),
    "LocalResponseNorm": (lambda rng: layers.LocalResponseNorm(3), (4, 5, 6)),
    "ReLU": (lambda rng: ReLU(), (2, 5, 6)),
    "ReLU in place": (lambda rng: ReLU(inplace=True), (2, 5, 6)),
    "Dropout": (lambda rng: layers.Dropout(0.3, rng=rng), (2, 5, 6)),
    "Flatten": (lambda rng: layers.Flatten(), (2, 5, 6)),
    "Crop": (lambda rng: layers.Crop(1, 1, 3, 2), (2, 9, 8)),
    "Concat": (lambda rng: Concat(ReLU(), Conv2d(2, 3, 3, padding=1, rng=rng)), (2, 5, 6)),
    "Add": (lambda rng: Add(ReLU(), Conv2d(2, 2, 3, padding=1, rng=rng)), (2, 5, 6)),
    "Sequential": (lambda rng: Sequential(Conv2d(2, 3, 3, rng=rng), ReLU(inplace=True)), (2, 9, 8)),
    "AlignedUpsample": (lambda rng: AlignedUpsample(2, CoordinateMap(), HALF, learned=True), (2, 3, 4)),
    "PaperUpsample": (lambda rng: PaperUpsample(2, CoordinateMap(), HALF @ HALF), (2, 3, 4)),
    "Fire": (lambda rng: models.squeezenet.Fire(4, 2, 3, rng=rng), (4, 5, 6)),
    "digit classifier": (lambda rng: models.digit_classifier(rng=rng), (1, 32, 32)),
    "squeezenet1_1": (lambda rng: models.squeezenet1_1(5, rng=rng), (3, 24, 25)),
    "squeezenet1_0": (lambda rng: models.squeezenet1_0(5, rng=rng).features, (3, 24, 25)),
    "convolutionalized": (
        lambda rng: convolutionalize(models.digit_classifier(rng=rng), (1, 32, 32)),
        (1, 36, 40),
    ),
} | {
    f"FCN-{stride}s {alignment}": (
        lambda rng, stride=stride, alignment=alignment: models.FCN(
            models.digit_classifier(rng=rng), 3, stride=stride, alignment=alignment
        ),
        (1, 7, 5),
    )
    for alignment in ("exact", "paper")
    for stride in (8, 2)
}


@pytest.mark.parametrize("name", LAYERS)
def test_built_in_layers_and_models_keep_the_conventions(name):
    make, shape = LAYERS[name]
    layer = make(np.random.default_rng(0))
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    check_conventions(layer, shape)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.slow
@pytest.mark.parametrize("make", [models.alexnet, models.caffenet, models.googlenet, models.vgg16])
def test_features_of_large_models_keep_the_conventions(make):
    check_conventions(make(rng=0).features, (3, 39, 40))


def test_every_layer_class_is_checked():
    rng = np.random.default_rng(0)
    checked = {type(layer) for make, _ in LAYERS.values() for layer in make(rng).layers()}
    public = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    complete = {kind for kind in public if issubclass(kind, Layer) and kind.forward is not Layer.forward}
    assert complete - checked == set()


class Scale(Pointwise):
    """y = factor x, as a user would write it; the planted errors below change one method each."""

    def __init__(self):
        self.factor = Parameter(np.array([3.0], np.float32))

    def forward(self, x):
        if x.dtype != self.factor.data.dtype:
            raise TypeError(f"x must be {self.factor.data.dtype}, got {x.dtype}")
        y = self.factor.data * x
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.factor.accumulate((x * dy).sum().reshape(1))
        return self.factor.data * dy


class AnyDtype(Scale):
    def forward(self, x):
        y = self.factor.data * x
        self.keep(x, output=y)
        return y


class OutputDtype(Scale):
    def forward(self, x):
        y = super().forward(x).astype(np.float64)
        self.keep(x, output=y)
        return y


class GradientDtype(Scale):
    def backward(self, dy):
        return super().backward(dy).astype(np.float64)


class ForwardInPlace(Scale):
    def forward(self, x):
        y = super().forward(x)
        x += 1
        return y


class BackwardInPlace(Scale):
    def backward(self, dy):
        dx = super().backward(dy)
        dy *= 2
        return dx


class ParameterChanged(Scale):
    def backward(self, dy):
        dx = super().backward(dy)
        self.factor.data += 1
        return dx


class InPlaceWithoutWords(Scale):
    """Only its attribute shows that it works in place."""

    inplace = True


class RandomInEval(Scale):
    generator = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x) * x.dtype.type(self.generator.random())


class KeepsInEval(Scale):
    def forward(self, x):
        y = super().forward(x)
        self._kept, self._expected = (x,), (y.shape, y.dtype, np)
        return y


class BackwardAnyTime(Scale):
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


class ShapeUnchecked(Scale):
    def recall(self, dy):
        (x,) = super().recall(np.zeros(self._expected[0], dy.dtype) if self._expected else dy)
        return (x[: len(dy)],)


class DtypeUnchecked(Scale):
    def recall(self, dy):
        return super().recall(dy.astype(self._expected[1]) if self._expected else dy)


class NoBackwardState(Scale):
    def backward(self, dy):
        return self.factor.data * dy


class WrongGradientShape(Scale):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.factor.accumulate((x * dy).sum())
        return self.factor.data * dy


class NoGradient(Scale):
    def backward(self, dy):
        self.recall(dy)
        return self.factor.data * dy


class Overwrites(Scale):
    def backward(self, dy):
        self.factor.grad = None
        return super().backward(dy)


class OtherParameterGradients(Scale):
    def backward_parameters(self, dy):
        self.backward(2 * dy)


class HiddenState(Scale):
    """A running mean that is neither Parameter nor Buffer."""

    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = x.mean()
        return super().forward(x) + x.dtype.type(self.mean)


class WrongShape(Scale):
    def output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 1)


class NoShape(Scale):
    output_shape = Layer.output_shape


class Pool(MaxPool2d):
    """A pool with a wrong place."""

    def __init__(self):
        super().__init__(2)

    def coordinate_map(self):
        return CoordinateMap(scale=CoordinateMap().scale * 2)


class LooksFurther(Scale):
    """Adds the pixel to the right: its reach is 2 columns, not 1."""

    def forward(self, x):
        y = super().forward(x)
        return y + np.concatenate([x[..., 1:], 0 * x[..., :1]], axis=-1)


class WrongWalk(Scale):
    def walk(self, visitor, x):
        return 2 * visitor.leaf(self, x)


SHAPE = (2, 6, 5)
PLANTED = [
    (AnyDtype, "dtype", "forward of float32 with parameters of float64", "got no error"),
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
    (WrongWalk, "walk", "relative error 1"),
]  # fmt: skip


def failure_of(layer, shape=SHAPE):
    with pytest.raises(CheckFailedError) as caught:
        check_conventions(layer, shape)
    return str(caught.value)


def test_the_layer_without_a_planted_error_passes():
    check_conventions(Scale(), SHAPE)


@pytest.mark.parametrize(
    ("planted", "convention", "words"), [(kind, name, words) for kind, name, *words in PLANTED]
)
def test_a_planted_error_is_named_with_expected_and_actual_value(planted, convention, words):
    message = failure_of(planted())
    first, example = message.split("\n")
    assert re.match(rf"{planted.__name__}\(.*\): {convention}: ", first), message
    for word in words:
        assert word in first
    assert re.fullmatch(r"smallest example: x of shape \(2, 2, \d, \d\), float(32|64)", example)


def test_the_example_is_the_smallest_size_that_fails():
    class WrongFromThreeRows(Scale):
        def output_shape(self, shape):
            return shape if shape[1] < 3 else (1, *shape[1:])

    assert failure_of(WrongFromThreeRows()).endswith("x of shape (2, 2, 3, 2), float64")
    check_conventions(WrongFromThreeRows(), (2, 2, 40))


def test_half_a_pixel_is_too_far():
    class Shifted(Conv2d):
        def coordinate_map(self):
            place = super().coordinate_map()
            return CoordinateMap(place.scale, place.offset + CoordinateMap().scale / 2)

    assert "place" in failure_of(Shifted(2, 2, 3, padding=1, rng=0), (2, 7, 7))


def test_a_size_that_is_refused_is_skipped_but_not_the_given_one():
    check_conventions(Conv2d(2, 2, 4, rng=0), (2, 9, 9))
    with pytest.raises(ValueError, match="height 3"):
        check_conventions(Conv2d(2, 2, 4, rng=0), (2, 3, 9))


def test_parameters_of_zero_hide_nothing():
    class Zero(Scale):
        def __init__(self):
            self.factor = Parameter(np.zeros(1, np.float32))

        def output_shape(self, shape):
            return shape

        def load_state_dict(self, state, *, strict=True):
            pass

    assert "state" in failure_of(Zero())


def test_functions_of_the_library_make_a_layer_that_passes():
    class Own(Layer):
        def __init__(self):
            self.weight = Parameter(np.random.default_rng(0).standard_normal((3, 2, 3, 3), np.float32))

        def forward(self, x):
            y = F.conv2d(x, self.weight.data, padding=1)
            self.keep(x, output=y)
            return y

        def backward(self, dy):
            (x,) = self.recall(dy)
            self.weight.accumulate(F.conv2d_weight_grad(x, dy, kernel_size=3, padding=1))
            return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], padding=1)

        def output_shape(self, shape):
            return (3, *shape[1:])

    check_conventions(Own(), SHAPE)


def test_on_every_library(xp):
    layer = Conv2d(2, 3, 3, padding=1, rng=0)
    for parameter in layer.parameters():
        parameter.data = xp.module.asarray(parameter.data)
    check_conventions(layer, (2, 4, 5))
