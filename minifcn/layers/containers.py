"""Layers made of layers: one after another, or side by side."""

from collections.abc import Iterator
from inspect import Parameter as Argument
from inspect import signature
from typing import Any, Generic, TypeVar

from minifcn.backend import Array, array_module
from minifcn.geometry import CoordinateMap
from minifcn.kernels.threads import add_to
from minifcn.layers.base import Layer, Shape, indented
from minifcn.layers.visitor import Value, Visitor

AnyLayer = TypeVar("AnyLayer", bound=Layer)


class LayerDict(Layer, Generic[AnyLayer]):
    """Layers under names: "0", "1", ... for those given by position.

    It holds them for a layer that calls them one by one; it has no `forward`.

    Args:
        *layers: Layers named "0", "1", ...
        **named: Layers with names of their own.

    Raises:
        TypeError: If something is not a layer.

    Example:
        >>> from minifcn.layers import ReLU
        >>> LayerDict(last=ReLU())["last"]
        ReLU()
    """

    def __init__(self, *layers: AnyLayer, **named: AnyLayer):
        self.parts: dict[str, AnyLayer] = {str(i): layer for i, layer in enumerate(layers)} | named
        for name, layer in self.parts.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__} is made of layers, but {name} is {layer!r}")

    def children(self) -> Iterator[tuple[str, AnyLayer]]:
        """Yield the layers with their names, in order."""
        yield from self.parts.items()

    def config(self) -> dict[str, Any]:
        """Return the layers by name; a subclass with another constructor has its own arguments."""
        kinds = {argument.kind for argument in signature(type(self)).parameters.values()}
        return dict(self.parts) if Argument.VAR_KEYWORD in kinds else super().config()

    def __getitem__(self, name: str | int) -> AnyLayer:
        """Return a part by name, or by position."""
        return self.parts[name] if isinstance(name, str) else list(self.parts.values())[name]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[AnyLayer]:
        return iter(self.parts.values())

    def __repr__(self) -> str:
        lines = [indented(name, layer) for name, layer in self.parts.items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class Sequential(LayerDict[Layer]):
    """One layer after another.

    Args:
        *layers: Layers named "0", "1", ...
        **named: Layers with names of their own.

    Raises:
        TypeError: If something is not a layer.

    Example:
        >>> from minifcn.layers import Conv2d, ReLU
        >>> net = Sequential(Conv2d(1, 4, 3), ReLU())
        >>> net.output_shape((1, 8, 8)), [name for name, _ in net.named_parameters()]
        ((4, 6, 6), ['0.weight', '0.bias'])
    """

    def forward(self, x: Array, taps: dict[str, Any] | None = None) -> Array:
        """Return the output of the last layer.

        Args:
            x: Input of the first layer.
            taps: Filled in with the outputs of the layers whose names are its keys. `backward` takes the
                gradients to them in the same form, and `walk` does what `forward` does.
        """
        for name, layer in self.children():
            x = layer(x)
            if taps and name in taps:
                taps[name] = x
        self.keep(output=x)
        return x

    def backward(self, dy: Array, taps: dict[str, Any] | None = None) -> Array:
        """Return the gradient to the input of the first layer; `taps` holds gradients to tapped outputs."""
        return self._backward(dy, taps or {}, to_input=True)

    def backward_parameters(self, dy: Array, taps: dict[str, Any] | None = None) -> None:
        """Do the same, without the gradient to the input of the first layer."""
        self._backward(dy, taps or {}, to_input=False)

    def _backward(self, dy: Array, taps: dict[str, Any], *, to_input: bool) -> Array:
        self.recall(dy)
        for number, (name, layer) in reversed(list(enumerate(self.children()))):
            if name in taps:
                dy = add_to(taps.pop(name), dy)
            if number == 0 and not to_input:
                layer.backward_parameters(dy)
            else:
                dy = layer.backward(dy)
        return dy

    def walk(self, visitor: Visitor, x: Value, taps: dict[str, Any] | None = None) -> Value:
        """Visit one layer after another."""
        for name, layer in self.children():
            x = visitor.visit(layer, x)
            if taps and name in taps:
                taps[name] = x
        return x

    def output_shapes(self, shape: Shape) -> Iterator[tuple[str, Shape]]:
        """Yield the name and the output shape of each layer."""
        for name, layer in self.children():
            shape = layer.output_shape(shape)
            yield name, shape

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape after the last layer."""
        for _, after in self.output_shapes(shape):
            shape = after
        return shape

    def coordinate_maps(self) -> Iterator[tuple[str, CoordinateMap]]:
        """Yield the name of each layer, and where its outputs lie in the input of the first one."""
        place = CoordinateMap()
        for name, layer in self.children():
            place = place @ layer.coordinate_map()
            yield name, place

    def coordinate_map(self) -> CoordinateMap:
        """Return where the outputs of the last layer lie in the input of the first one."""
        place = CoordinateMap()
        for _, after in self.coordinate_maps():
            place = after
        return place

    def overwrites_input(self) -> bool:
        """Return whether a layer writes over the input, which may come to it through views."""
        for layer in self:
            if layer.overwrites_input():
                return True
            if not layer.returns_input:
                return False
        return False


class _Branches(LayerDict[Layer]):
    """What `Concat` and `Add` share: branches get the same input, and their outputs meet."""

    def __init__(self, *layers: Layer, **named: Layer):
        super().__init__(*layers, **named)
        if not self.parts:
            raise ValueError(f"{type(self).__name__} needs one branch or more")

    def _check_sizes(self, shapes: list[Shape], first_axis: int) -> None:
        """Refuse branches whose outputs differ from some axis on."""
        if len({shape[first_axis:] for shape in shapes}) > 1:
            raise ValueError(f"branches of {type(self).__name__} differ in shape: {shapes}")

    def coordinate_map(self) -> CoordinateMap:
        """Return the map that all branches share."""
        return shared_map(
            type(self).__name__, {name: part.coordinate_map() for name, part in self.children()}
        )

    def overwrites_input(self) -> bool:
        """Return whether a branch does."""
        return any(branch.overwrites_input() for branch in self)


class Concat(_Branches):
    """Branches side by side, their outputs joined by channel.

    Args:
        *layers: Branches named "0", "1", ...
        **named: Branches with names of their own.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import Conv2d, ReLU
        >>> Concat(ReLU(), Conv2d(2, 5, 3, padding=1))(np.ones((1, 2, 4, 4), np.float32)).shape
        (1, 7, 4, 4)
    """

    def forward(self, x: Array) -> Array:
        """Return (N, sum of the branches' channels, H, W)."""
        outputs = [branch(x) for branch in self]
        self._check_sizes([output.shape for output in outputs], 2)
        y: Array = array_module(*outputs).concatenate(outputs, axis=1)
        self.keep([output.shape[1] for output in outputs], output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return the sum of the branches' gradients."""
        (channels,) = self.recall(dy)
        gradients = split_channels(dy, channels)
        dx = self[0].backward(next(gradients))
        for branch, gradient in zip(list(self)[1:], gradients, strict=True):
            dx = dx + branch.backward(gradient)
        return dx

    def walk(self, visitor: Visitor, x: Value) -> Value:
        """Visit each branch, and join."""
        return visitor.concat(*[visitor.visit(branch, x) for branch in self])

    def output_shape(self, shape: Shape) -> Shape:
        """Return (sum of the branches' channels, H, W)."""
        shapes = [branch.output_shape(shape) for branch in self]
        self._check_sizes(shapes, 1)
        return (sum(one[0] for one in shapes), *shapes[0][1:])


class Add(_Branches):
    """Branches side by side, their outputs summed.

    Args:
        *layers: Branches named "0", "1", ...
        **named: Branches with names of their own.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import ReLU
        >>> Add(ReLU(), ReLU())(np.array([-1.0, 2.0]))
        array([0., 4.])
    """

    def forward(self, x: Array) -> Array:
        """Return the sum of the branches' outputs."""
        outputs = [branch(x) for branch in self]
        self._check_sizes([output.shape for output in outputs], 0)
        y: Array = sum(outputs[1:], start=outputs[0])
        self.keep(output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return the sum of the branches' gradients."""
        self.recall(dy)
        dx = self[0].backward(dy)
        for branch in list(self)[1:]:
            dx = dx + branch.backward(dy)  # not in place: a branch may return dy itself
        return dx

    def walk(self, visitor: Visitor, x: Value) -> Value:
        """Visit each branch, and add."""
        return visitor.add(*[visitor.visit(branch, x) for branch in self])

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape that all branches share."""
        shapes = [branch.output_shape(shape) for branch in self]
        self._check_sizes(shapes, 0)
        return shapes[0]


def split_channels(dy: Array, channels: list[int]) -> Iterator[Array]:
    """Yield the gradients to maps that were joined along their channels."""
    start = 0
    for count in channels:
        yield array_module(dy=dy).ascontiguousarray(dy[:, start : start + count])
        start += count


def shared_map(where: str, maps: dict[str, CoordinateMap]) -> CoordinateMap:
    """Return the coordinate map of values that meet.

    Raises:
        ValueError: If they do not have the same one.
    """
    if len(set(maps.values())) > 1:
        lie = ", ".join(f"{name} at {place}" for name, place in maps.items())
        raise ValueError(f"maps that meet in {where} do not lie over one another: {lie}")
    return next(iter(maps.values()))
