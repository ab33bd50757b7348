"""What all layers share: parameters by name, training and evaluation, and what is kept for backward."""

from collections.abc import Iterator, Mapping
from inspect import Parameter as Argument
from inspect import signature
from typing import Any, Self, TypeAlias

from minifcn.backend import Array, array_module, cuda_device, to_device, to_numpy
from minifcn.geometry import CoordinateMap, Window
from minifcn.layers.cost import Cost, Reach
from minifcn.layers.parameter import Buffer, Parameter
from minifcn.layers.visitor import Value, Visitor

Shape: TypeAlias = tuple[int, ...]
"""Shape of one item, without the batch axis: (C, H, W), or (features,) after flattening."""

NOT_KEPT = ("init", "rng")
"""Arguments that say how weights begin, which says nothing about the layer."""


class Layer:
    """A map with a forward and a backward pass.

    A subclass writes `forward`, which keeps what backward needs by `self.keep(...)`, and `backward`, which
    gets it back by `self.recall(dy)`, adds to the gradients of its parameters and returns the gradient to its
    input. Parameters, buffers and other layers are found where they are set as attributes, in that order.

    A layer may also describe itself, for `FCN` and `explain`: by `output_shape`, `reach` and `cost`. A layer
    made of others has `walk` instead of `reach` and `cost`.

    Example:
        A layer of one's own, and the proof that its gradients are right:

        >>> import numpy as np
        >>> class Scale(Layer):
        ...     def __init__(self, factor):
        ...         self.factor = Parameter(np.array([factor]))
        ...     def forward(self, x):
        ...         y = x * self.factor.data
        ...         self.keep(x, output=y)
        ...         return y
        ...     def backward(self, dy):
        ...         (x,) = self.recall(dy)
        ...         self.factor.accumulate((dy * x).sum(keepdims=True).reshape(1))
        ...         return dy * self.factor.data
        >>> from minifcn.checks import check_gradient
        >>> check_gradient(Scale(3.0), np.random.default_rng(0).normal(size=(2, 3)))
    """

    training = True
    returns_input = False
    """Whether the output may be a view of the input, or the input itself."""

    joins_in_place = False
    """Whether `forward` lets branches write to their own part of the map that `walk` joins from them."""

    _kept: tuple[Any, ...] | None = None
    _expected: tuple[Shape, Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what the last forward pass kept out of copies."""
        return {name: value for name, value in vars(self).items() if name not in ("_kept", "_expected")}

    def forward(self, x: Array) -> Array:
        """Return the output for x."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: Array) -> Array:
        """Add to the gradients of the parameters, and return the gradient to the input.

        Args:
            dy: Gradient to the output of the last forward pass, of its shape and dtype.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Array) -> Array:
        """Return `forward(x)`."""
        return self.forward(x)

    def backward_parameters(self, dy: Array) -> None:
        """Add to the gradients of the parameters, where the gradient to the input is not needed.

        By default this is `backward`, with its result dropped. A convolution saves the gradient to its input,
        and a container passes the call on to the layers that get its input.

        Args:
            dy: Gradient to the output of the last forward pass, of its shape and dtype.
        """
        self.backward(dy)

    # What a layer says about itself; nothing is computed

    def walk(self, visitor: Visitor, x: Value) -> Value:
        """Lead a visitor through the layer as `forward` leads an array, and return the visitor's output.

        A layer that is not made of others is a leaf. A layer made of others overrides this beside `forward`:
        `visitor.visit(part, x)` where `forward` has `part(x)`, and a joint of the visitor, such as
        `visitor.add(a, b)`, where it combines arrays.
        """
        return visitor.leaf(self, x)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output item for the shape of one input item.

        Raises:
            ValueError: If the layer does not take such items, or does not say.
        """
        raise ValueError(f"{self!r} does not say its output_shape")

    def reach(self) -> Reach:
        """Return which inputs an output sees: a window for the rows and one for the columns, or "global".

        Raises:
            ValueError: If the layer does not say.
        """
        raise ValueError(f"{self!r} does not say which inputs its outputs see: it has no reach")

    def coordinate_map(self) -> CoordinateMap:
        """Return where output (i, i) lies in the input; by default this follows from `reach`.

        Raises:
            ValueError: If rows and columns differ, if every output sees all inputs, or if the layer does not
                say.
        """
        reach = self.reach()
        if reach == "global":
            raise ValueError(f"an output of {self._title()} sees the whole input: it has no coordinate_map")
        rows, cols = (axis.coordinate_map() for axis in reach)
        if rows != cols:
            raise ValueError(f"{self!r} treats rows and columns differently: it has no single coordinate_map")
        return rows

    def cost(self, shape: Shape) -> Cost:
        """Return what the layer does and holds for one item of this shape.

        By default the layer keeps its input, and its multiplications are unknown if it has parameters.
        """
        return Cost(multiplications=None if any(self.parameters()) else 0, keeps_input=True)

    def workspace(self, shape: Shape, images: int, *, training: bool) -> dict[str, int]:
        """Return the bytes of scratch memory of each thread, by purpose, for a batch of items of this shape.

        Layers use the same memory for the same purpose, one after another. By default there is none.
        """
        return {}

    def fused(self, following: "Layer") -> "Layer | None":
        """Return a layer that computes this one and the one that follows at once, in evaluation.

        By default there is none: `None`.
        """
        return None

    def overwrites_input(self) -> bool:
        """Return whether `forward` writes over its input, as `ReLU(inplace=True)` does."""
        return False

    def config(self) -> dict[str, Any]:
        """Return the arguments with which the class makes this layer again, without `init` and `rng`.

        By default they are the attributes that are named like the arguments of the constructor, or of the
        class method `from_config` if there is one. A class that keeps them otherwise overrides this method.
        See `minifcn.layers.to_config`.

        Raises:
            ValueError: If there is no attribute of the name of an argument.
        """
        make = getattr(self, "from_config", type(self))
        arguments = [one for one in signature(make).parameters.values() if one.name not in NOT_KEPT]
        try:
            return {one.name: self._argument(one) for one in arguments}
        except AttributeError as error:
            raise ValueError(
                f"{type(self).__name__} has no attribute {error.name!r} that keeps the argument of that "
                f"name: set it, or override config()"
            ) from error

    def _argument(self, argument: Argument) -> Any:
        """Return the attribute that keeps an argument; `bias` is a parameter or `None` instead of a bool."""
        value = getattr(self, argument.name)
        return bool(value) if argument.annotation is bool else value

    # What backward needs

    def keep(self, *values: Any, output: Array) -> None:
        """In training, keep values for `backward`, and remember what the gradient must look like."""
        if self.training:
            self._kept = values
            self._expected = output.shape, output.dtype, array_module(output)

    def recall(self, dy: Array) -> tuple[Any, ...]:
        """Return what `forward` kept, once.

        Raises:
            ValueError: Without a forward pass in training mode before this backward pass, or if dy does not
                have the shape of the output.
            TypeError: If dy does not have its dtype, or is not an array of the same module.
        """
        if self._kept is None or self._expected is None:
            raise self._refusal(
                ValueError,
                "forward has not run since the last backward, or it did not call self.keep(..., output=y)"
                if self.training
                else "in eval mode forward keeps nothing for it; call train() before forward",
            )
        shape, dtype, module = self._expected
        if dy is None or array_module(dy=dy) is not module:
            got = type(dy).__module__.partition(".")[0] if dy is not None else None
            raise self._refusal(TypeError, f"dy must be an array of {module.__name__}, got {got}")
        if dy.shape != shape:
            raise self._refusal(ValueError, f"dy must have the output's shape {shape}, got {dy.shape}")
        if dy.dtype != dtype:
            raise self._refusal(TypeError, f"dy must have the output's dtype {dtype}, got {dy.dtype}")
        kept, self._kept, self._expected = self._kept, None, None
        return kept

    def _refusal(self, error: type[Exception], why: str) -> Exception:
        return error(f"{self._title()}.backward: {why}")

    def _title(self) -> str:
        title = repr(self)
        return type(self).__name__ if "\n" in title else title

    # Parts

    def __setattr__(self, name: str, value: Any) -> None:
        now = vars(self).get(name)
        if isinstance(now, Parameter | Buffer) and not isinstance(value, Parameter | Buffer | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {type(now).__name__}: set its array, {name}.data, "
                f"instead of {name} to the {type(value).__name__}"
            )
        super().__setattr__(name, value)

    def children(self) -> Iterator[tuple[str, "Layer"]]:
        """Yield the layers this one is made of, with their names.

        Raises:
            TypeError: If an attribute is a list, a tuple or a dictionary of layers or parameters.
        """
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value
            elif isinstance(value, list | tuple | dict):
                held = value.values() if isinstance(value, dict) else value
                if any(isinstance(one, Layer | Parameter) for one in held):
                    raise TypeError(
                        f"{type(self).__name__}.{name} is a {type(value).__name__} of layers or parameters, "
                        f"which are not found in there: use Sequential or LayerDict, or an attribute for each"
                    )

    def layers(self) -> Iterator["Layer"]:
        """Yield this layer and all layers inside it."""
        for _, layer in self.named_layers():
            yield layer

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, "Layer"]]:
        """Yield this layer and all layers inside it with their names, such as "", "features", "features.0".

        Args:
            prefix: What names begin with: the name of this layer and a dot, where it is inside another one.
        """
        yield prefix[:-1], self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}{name}.")

    def _named_arrays(self) -> Iterator[tuple[str, Parameter | Buffer]]:
        for layer_name, layer in self.named_layers():
            for name, value in vars(layer).items():
                if isinstance(value, Parameter | Buffer):
                    yield name if layer is self else f"{layer_name}.{name}", value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its name, in the order of definition: "features.0.weight"."""
        for name, value in self._named_arrays():
            if isinstance(value, Parameter):
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Yield each parameter."""
        for _, parameter in self.named_parameters():
            yield parameter

    # State

    def state_dict(self) -> dict[str, Array]:
        """Return all parameters and buffers by name; the arrays are the layer's own, not copies."""
        return {name: value.data for name, value in self._named_arrays()}

    def load_state_dict(self, state: Mapping[str, Array], *, strict: bool = True) -> None:
        """Copy values into the parameters and buffers, all of them or none.

        Args:
            state: Arrays by name, as `state_dict` returns them; they are converted to the layer's dtype and
                device.
            strict: Refuse names that are missing or left over. Shapes must agree in any case.

        Raises:
            ValueError: Names every entry that is missing, left over or misshapen; nothing has been loaded.
        """
        own = dict(self._named_arrays())
        problems = []
        if strict:
            problems += [f"{name} is missing" for name in own.keys() - state.keys()]
            problems += [f"{name} is not known here" for name in state.keys() - own.keys()]
        shared = [(name, state[name], value.data) for name, value in own.items() if name in state]
        for name, new, here in shared:
            try:
                array_module(new)
            except TypeError:
                problems.append(f"{name} is no NumPy or CuPy array but {type(new).__name__}")
                continue
            if new.shape != here.shape:
                problems.append(f"{name} has shape {new.shape}, expected {here.shape}")
            elif new.dtype.kind != "f":
                problems.append(f"{name} has dtype {new.dtype}, expected floating-point numbers")
        if problems:
            found = "; ".join(sorted(problems))
            raise ValueError(f"the state does not fit {type(self).__name__}, nothing was loaded: {found}")
        converted = [(here, to_numpy(new).astype(here.dtype)) for _, new, here in shared]
        for here, values in converted:
            here[...] = array_module(here).asarray(values)

    def train(self, mode: bool = True) -> Self:
        """Switch to training: layers keep what backward needs, and dropout drops."""
        for layer in self.layers():
            layer.training = mode
            layer._kept = layer._expected = None
        return self

    def eval(self) -> Self:
        """Switch to evaluation: nothing is kept, nothing is dropped."""
        return self.train(False)

    def to(self, device: str) -> Self:
        """Move parameters, gradients and buffers to a device, as `minifcn.to_device` does."""
        cuda_device(device)  # a layer without parameters refuses an unknown device, too
        for _, value in self._named_arrays():
            value.data = to_device(value.data, device)
            if isinstance(value, Parameter) and value.grad is not None:
                value.grad = to_device(value.grad, device)
        return self

    def astype(self, dtype: str) -> Self:
        """Convert all parameters and buffers to "float32" (work) or "float64" (checks)."""
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        for _, value in self._named_arrays():
            value.data = value.data.astype(dtype)
            if isinstance(value, Parameter):
                value.grad = None
        return self

    def __repr__(self) -> str:
        shown = []
        for name, argument in signature(type(self)).parameters.items():
            value = self._argument(argument) if hasattr(self, name) else None
            usual = argument.default
            if isinstance(value, int | float | str | tuple) and value not in (usual, (usual, usual)):
                by_position = usual is argument.empty and not isinstance(value, tuple)
                shown.append(repr(value) if by_position else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Pointwise(Layer):
    """A layer whose outputs have the shape and the places of its inputs.

    Example:
        >>> from minifcn.layers import ReLU
        >>> isinstance(ReLU(), Pointwise), ReLU().output_shape((3, 8, 9))
        (True, (3, 8, 9))
    """

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same shape."""
        return shape

    def reach(self) -> Reach:
        """Return windows of one pixel."""
        return Window(1), Window(1)


def check_image_shape(layer: Layer, shape: Shape, channels: int | None = None) -> None:
    """Demand the shape of one image item, (C, H, W), with a number of channels if it matters.

    Raises:
        ValueError: Otherwise, in the layer's name.
    """
    if len(shape) != 3 or channels not in (None, shape[0]):
        raise ValueError(f"{layer!r} takes (N, {channels or 'C'}, H, W), got items of shape {shape}")


def indented(name: str, layer: Layer) -> str:
    """Return a line of a container's repr, with what is inside moved to the right."""
    return f"  ({name}): " + repr(layer).replace("\n", "\n  ")
