"""Readers of a network's data flow: what `Layer.walk` calls."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from minifcn.layers.base import Layer

Value: TypeAlias = Any
"""What a visitor passes along in place of an array: an array, a shape, a name in a graph, ..."""

Size: TypeAlias = Any
"""A number of rows or columns: an integer, or an expression that stands for one."""


class Visitor:
    """Base class of everything that follows the data through a network, as `explain` does.

    `model.walk(visitor, x)` calls `leaf` for each layer that is not made of others, in the order of
    `forward`, and a *joint* wherever maps are added, multiplied, concatenated, padded, cropped or resized.
    Values go from one call to the next; what they are is up to the visitor.

    Sizes come from `size` and are combined by +, -, * and // and by `maximum` and `minimum` only, never
    compared or converted, so they may be symbolic.

    Example:
        Count the layers that data passes:

        >>> from minifcn.layers import Add, ReLU, Sequential
        >>> class Depth(Visitor):
        ...     def leaf(self, layer, x):
        ...         return x + 1
        ...     def add(self, *xs):
        ...         return max(xs)
        >>> Sequential(ReLU(), Add(ReLU(), Sequential(ReLU(), ReLU()))).walk(Depth(), 0)
        3
    """

    def visit(self, layer: "Layer", x: Value, *arguments: Any) -> Value:
        """Walk through a part of a network; composites call this for each part.

        Override it to know in which part a leaf or a joint is.
        """
        return layer.walk(self, x, *arguments)

    def leaf(self, layer: "Layer", x: Value) -> Value:
        """Return the output of a layer that is not made of others."""
        raise NotImplementedError(f"{type(self).__name__} has no leaf")

    def add(self, *xs: Value) -> Value:
        """Return the sum of maps of one shape."""
        return self.join("add", xs)

    def multiply(self, *xs: Value) -> Value:
        """Return the elementwise product of maps of one shape, and of gates (C, 1, 1), in any order."""
        return self.join("multiply", xs)

    def concat(self, *xs: Value) -> Value:
        """Return maps joined along their channels."""
        return self.join("concat", xs)

    def join(self, kind: str, xs: tuple[Value, ...]) -> Value:
        """Return the output of a joint of a kind whose own method, such as `add`, is not overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no {kind}")

    def pad(self, x: Value, sides: tuple[Size, Size, Size, Size], mode: str = "zeros") -> Value:
        """Return a map with (top, bottom, left, right) rows and columns added.

        `mode` is "zeros", or "edge" for copies of the border values.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pad")

    def crop(self, x: Value, sides: tuple[Size, Size, Size, Size]) -> Value:
        """Return a map with (top, bottom, left, right) rows and columns removed.

        A visitor that knows the sizes refuses negative ones by `ValueError`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no crop")

    def resize(self, x: Value, size: tuple[Size, Size]) -> Value:
        """Return a map resized bilinearly, as `minifcn.functional.interpolate` does."""
        raise NotImplementedError(f"{type(self).__name__} has no resize")

    def size(self, x: Value) -> tuple[Size, Size]:
        """Return (rows, columns) of a map."""
        raise NotImplementedError(f"{type(self).__name__} has no size")

    def maximum(self, a: Size, b: Size) -> Size:
        """Return the larger of two sizes."""
        return max(a, b)

    def minimum(self, a: Size, b: Size) -> Size:
        """Return the smaller of two sizes."""
        return min(a, b)
