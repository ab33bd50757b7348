"""Layers made of layers: what they have in common, and layers that run one after another."""

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter as Argument
from inspect import signature
from typing import Any, Generic, TypeAlias, TypeVar

from minifcn.backend import Array
from minifcn.geometry import CoordinateMap
from minifcn.kernels.threads import add_to
from minifcn.layers.base import Layer, Shape, indented
from minifcn.layers.joints import join, joint_map, joint_shape
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


INPUT = "input"
"""Name of the value that a network is given."""

Taps: TypeAlias = dict[str, Any] | None
ApplyLayer: TypeAlias = Callable[[Layer, Any], Any]
"""Called with a layer and what it reads."""
ApplyJoint: TypeAlias = Callable[[str, str, list[str], list[Any]], Any]
"""Called with a description of the place, the kind of a joint, and names and values of what it reads."""


class Stack(Layer):
    """A layer made of others, with one description of how data flows through them: `follow`.

    Arrays, visitors, shapes and coordinates all take this way. A subclass writes `follow` and `_backward`.

    Example:
        >>> from minifcn.layers import Conv2d, MaxPool2d
        >>> taps = {"0": None}
        >>> Sequential(Conv2d(1, 4, 3), MaxPool2d(2)).output_shape((1, 10, 10), taps), taps
        ((4, 4, 4), {'0': (4, 8, 8)})
    """

    def names(self) -> list[str]:
        """Return the names of all values that can be tapped, in the order of computation."""
        raise NotImplementedError

    def follow(self, x: Any, layer: ApplyLayer, joint: ApplyJoint, taps: Taps = None) -> Any:
        """Return the output for x, which may be an array or anything else that the two functions take.

        Args:
            x: The input.
            layer: What to do at a layer.
            joint: What to do where values meet.
            taps: Filled in with the values whose names are its keys.
        """
        raise NotImplementedError

    def readers(self) -> Iterator[tuple[str, str, Layer]]:
        """Yield for each layer the name of the value that it reads, its own name, and the layer."""
        raise NotImplementedError

    def replaced(self, layers: Mapping[str, Layer | None], output: str | None = None) -> "Stack | None":
        """Return the same with other layers in some places; with `None` a layer is left out.

        Args:
            layers: A layer or `None` by its name.
            output: The value to end with; layers that it does not need are left out.

        Returns:
            The new one, or `None` if the output is "input" itself.
        """
        raise NotImplementedError

    def _backward(self, dy: Array, saved: list[Any], taps: dict[str, Any], *, to_input: bool) -> Array | None:
        raise NotImplementedError

    def forward(self, x: Array, taps: Taps = None) -> Array:
        """Return the output.

        Args:
            x: The input.
            taps: Filled in with the values whose names are its keys. `backward` takes the gradients to them
                in the same form.
        """
        saved = []

        def meet(where: str, kind: str, reads: list[str], inputs: list[Array]) -> Array:
            joint_shape(where, kind, reads, [one.shape[1:] for one in inputs])
            y, needed = join(kind, inputs)
            saved.append(needed)
            return y

        y: Array = self.follow(x, lambda layer, x: layer(x), meet, taps)
        self.keep(saved, output=y)
        return y

    def backward(self, dy: Array, taps: Taps = None) -> Array:
        """Return the gradient to the input; `taps` holds gradients to tapped values."""
        (saved,) = self.recall(dy)
        dx = self._backward(dy, saved, taps or {}, to_input=True)
        assert dx is not None
        return dx

    def backward_parameters(self, dy: Array, taps: Taps = None) -> None:
        """Do the same, without the gradient to the input."""
        (saved,) = self.recall(dy)
        self._backward(dy, saved, taps or {}, to_input=False)

    def walk(self, visitor: Visitor, x: Value, taps: Taps = None) -> Value:
        """Visit the layers, and meet at the joints."""
        return self.follow(x, visitor.visit, lambda _, kind, __, xs: getattr(visitor, kind)(*xs), taps)

    def output_shape(self, shape: Shape, taps: Taps = None) -> Shape:
        """Return the shape of the output, and put those of tapped values into `taps`."""
        output: Shape = self.follow(shape, lambda layer, shape: layer.output_shape(shape), joint_shape, taps)
        return output

    def coordinate_map(self, taps: Taps = None) -> CoordinateMap:
        """Return where the outputs lie in the input, and put where tapped values lie into `taps`."""
        start = CoordinateMap()
        output: CoordinateMap = self.follow(
            start, lambda layer, place: place @ layer.coordinate_map(), joint_map, taps
        )
        return output

    def overwrites_input(self) -> bool:
        """Return whether a layer writes over the input, which may come to it through views."""
        found = []

        def passes_on(layer: Layer, is_input: bool) -> bool:
            found.append(is_input and layer.overwrites_input())
            return is_input and layer.returns_input

        self.follow(True, passes_on, lambda *_: False)
        return any(found)


class Sequential(LayerDict[Layer], Stack):
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

    def names(self) -> list[str]:
        """Return the names of the layers."""
        return list(self.parts)

    def follow(self, x: Any, layer: ApplyLayer, joint: ApplyJoint, taps: Taps = None) -> Any:
        """Pass a value from each layer to the next; see `Stack.follow`."""
        for name, part in self.children():
            x = layer(part, x)
            if taps and name in taps:
                taps[name] = x
        return x

    def _backward(self, dy: Array, saved: list[Any], taps: dict[str, Any], *, to_input: bool) -> Array | None:
        for number, (name, layer) in reversed(list(enumerate(self.children()))):
            if name in taps:
                dy = add_to(taps.pop(name), dy)
            if number == 0 and not to_input:
                layer.backward_parameters(dy)
            else:
                dy = layer.backward(dy)
        return dy

    def readers(self) -> Iterator[tuple[str, str, Layer]]:
        """Yield the name before, the name of each layer, and the layer."""
        yield from zip([INPUT, *self.parts], self.parts, self, strict=False)

    def replaced(self, layers: Mapping[str, Layer | None], output: str | None = None) -> "Sequential | None":
        """Return the same with other layers in some places; see `Stack.replaced`."""
        names = [INPUT, *self.parts]
        kept = names[1:] if output is None else names[1 : names.index(output) + 1]
        parts = {name: layers.get(name, self.parts[name]) for name in kept}
        kept_layers = {name: layer for name, layer in parts.items() if layer is not None}
        return Sequential(**kept_layers) if kept_layers else None
