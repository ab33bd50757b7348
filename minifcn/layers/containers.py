"""Layers made of layers: one after another, or side by side."""

import operator
from collections.abc import Iterator
from functools import reduce
from inspect import Parameter as Argument
from inspect import signature
from typing import Any, Generic, TypeVar

from minifcn.backend import Array, array_module
from minifcn.geometry import CoordinateMap
from minifcn.layers.base import Layer, Shape, indented

AnyLayer = TypeVar("AnyLayer", bound=Layer)


class LayerDict(Layer, Generic[AnyLayer]):
    """Layers under names: "0", "1", ... for those given by position.

    It holds them for a layer that calls them one by one; it has no forward of its own.

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

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer."""
        for layer in self:
            x = layer(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Return the gradient to the input of the first layer."""
        for layer in reversed(list(self)):
            dy = layer.backward(dy)
        return dy

    def backward_parameters(self, dy: Array) -> None:
        """Do the same, without the gradient to the input of the first layer."""
        first, *rest = self
        for layer in reversed(rest):
            dy = layer.backward(dy)
        first.backward_parameters(dy)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape after the last layer."""
        for layer in self:
            shape = layer.output_shape(shape)
        return shape

    def coordinate_map(self) -> CoordinateMap:
        """Return the maps of all layers, one after the other."""
        return reduce(operator.matmul, (layer.coordinate_map() for layer in self), CoordinateMap())


class _Branches(LayerDict[Layer]):
    """What `Concat` and `Add` share: branches must lie over one another."""

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
        maps = {branch.coordinate_map() for branch in self}
        if len(maps) > 1:
            raise ValueError(
                f"branches of {type(self).__name__} do not lie over one another: {', '.join(map(str, maps))}"
            )
        return maps.pop()


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
        xp = array_module(dy=dy)
        start, parts = 0, []
        for branch, count in zip(self, channels, strict=True):
            parts.append(branch.backward(xp.ascontiguousarray(dy[:, start : start + count])))
            start += count
        dx: Array = sum(parts[1:], start=parts[0])
        return dx

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
        parts = [branch.backward(dy) for branch in self]
        dx: Array = sum(parts[1:], start=parts[0])
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape that all branches share."""
        shapes = [branch.output_shape(shape) for branch in self]
        self._check_sizes(shapes, 0)
        return shapes[0]
