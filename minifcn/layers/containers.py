"""Layers made of layers: what they have in common, and layers that run one after another."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from inspect import Parameter as Argument
from inspect import signature
from typing import Any, Generic, TypeAlias, TypeVar

from minifcn.backend import Array
from minifcn.geometry import CoordinateMap
from minifcn.kernels.threads import add as add_arrays
from minifcn.layers.base import Layer, Shape, indented
from minifcn.layers.cost import Reach
from minifcn.layers.joints import Place, join, join_grad, joint_map, joint_shape
from minifcn.layers.visitor import Value, Visitor

AnyLayer = TypeVar("AnyLayer", bound=Layer)


class LayerDict(Layer, Generic[AnyLayer]):
    """Layers under names: "0", "1", ... for those given by position.

    It holds them for a layer that calls them one by one; it has no `forward`. `layers["name"] = layer` and
    `layers[2] = layer` replace a layer, and a new name adds one at the end.

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
        self.parts: dict[str, AnyLayer] = {}
        for name, layer in ({str(i): layer for i, layer in enumerate(layers)} | named).items():
            LayerDict.__setitem__(self, name, layer)

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

    def __setitem__(self, name: str | int, layer: AnyLayer) -> None:
        """Replace a part by name or by position, or add one with a new name at the end."""
        if not isinstance(layer, Layer):
            raise TypeError(f"{type(self).__name__} is made of layers, but {name} is {layer!r}")
        self.parts[name if isinstance(name, str) else list(self.parts)[name]] = layer

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Layer):
            raise TypeError(
                f"{type(self).__name__} does not find layers that are attributes: set layers[{name!r}], "
                f"which replaces a layer or adds it at the end, instead of layers.{name}"
            )
        super().__setattr__(name, value)

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
Step: TypeAlias = tuple[str, Any, list[str]]
"""The name of a value, the layer or the kind of joint that makes it, and the names of what this reads."""


def sees_whole_input(layer: Layer) -> bool:
    """Return whether every output of a layer sees the whole input, and has no place in it.

    Example:
        >>> from minifcn.layers import GlobalAvgPool2d, GroupNorm, ReLU
        >>> sees_whole_input(Sequential(ReLU(), GlobalAvgPool2d(), ReLU())), sees_whole_input(ReLU())
        (True, False)
        >>> sees_whole_input(GroupNorm(1, 4))  # its outputs lie where its inputs lie
        False
    """
    with suppress(ValueError):  # where it does not say, or is made of others
        if layer.reach() == "global":
            with suppress(ValueError):
                layer.coordinate_map()
                return False
            return True
    return False


def fuse(steps: list[Step], taps: Taps = None, *, modes: bool = True) -> list[Step]:
    """Return steps in which layers include what follows them, where nothing else reads the value between.

    A layer whose `forward` or `keep` has been replaced, as by `minifcn.training.record`, is called itself.

    Args:
        steps: The steps.
        taps: Names of values that are wanted, too.
        modes: Leave layers out that are in training mode.

    Example:
        >>> from minifcn.layers import BatchNorm2d, Conv2d, ReLU
        >>> net = Sequential(conv=Conv2d(1, 4, 3), norm=BatchNorm2d(4), relu=ReLU())
        >>> [name for name, *_ in fuse(net.eval().steps())], [name for name, *_ in fuse(net.train().steps())]
        (['relu'], ['conv', 'norm', 'relu'])
    """
    readers = Counter(read for _, _, reads in steps for read in reads)
    made: dict[str, Step] = {}
    for name, kind, reads in steps:
        before, wanted = made.get(reads[0]), readers[reads[0]] > 1 or reads[0] in (taps or ())
        if before and not wanted and (both := _fused(before[1], kind, modes)):
            del made[reads[0]]
            kind, reads = both, before[2]
        made[name] = name, kind, reads
    return list(made.values())


def _fused(first: Any, second: Any, modes: bool) -> Layer | None:
    """Return a layer that computes both steps, or `None` if they have to be made one by one."""
    layers = [step for step in (first, second) if isinstance(step, Layer)]
    replaced = any({"forward", "keep"} & vars(layer).keys() for layer in layers)
    trained = modes and any(layer.training for layer in layers)
    both: Layer | None = None if len(layers) < 2 or replaced or trained else first.fused(second)
    if both:
        both.training = False
    return both


class Stack(Layer):
    """Layers and joints in steps: `steps` describes how data flows, once for every purpose.

    Arrays, gradients, visitors, shapes and coordinates all go from step to step. A subclass writes `steps`.

    Example:
        >>> from minifcn.layers import Conv2d, MaxPool2d
        >>> taps = {"0": None}
        >>> Sequential(Conv2d(1, 4, 3), MaxPool2d(2)).output_shape((1, 10, 10), taps), taps
        ((4, 4, 4), {'0': (4, 8, 8)})
    """

    def steps(self) -> list[Step]:
        """Return the steps in the order of computation; the last one makes the output."""
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

    def names(self) -> list[str]:
        """Return the names of all values that can be tapped, in the order of computation."""
        return [name for name, *_ in self.steps()]

    def readers(self) -> Iterator[tuple[str, str, Layer]]:
        """Yield for each layer the name of the value that it reads, its own name, and the layer."""
        for name, kind, reads in self.steps():
            if isinstance(kind, Layer):
                yield reads[0], name, kind

    def follow(
        self,
        x: Any,
        layer: Callable[[Layer, Any], Any],
        joint: Callable[[str, str, list[str], list[Any]], Any],
        taps: Taps = None,
        steps: list[Step] | None = None,
    ) -> Any:
        """Return the output for x, which may be an array or anything else that the two functions take.

        Args:
            x: The input. It and all other values are released after their last reader.
            layer: Called with a layer and what it reads.
            joint: Called with a description of the place, the kind of a joint, and the names and the values
                of what it reads.
            taps: Filled in with the values whose names are its keys.
            steps: Other steps that make the same values; by default those of `steps()`.
        """
        steps, values, name = self.steps() if steps is None else steps, {INPUT: x}, INPUT
        left = Counter(read for _, _, reads in steps for read in reads)
        for name, kind, reads in steps:
            inputs = [values[read] for read in reads]
            if isinstance(kind, Layer):
                values[name] = layer(kind, *inputs)
            else:
                values[name] = joint(self._where(name, kind), kind, reads, inputs)
            del inputs
            if taps and name in taps:
                taps[name] = values[name]
            left.subtract(reads)
            for read in {*reads}:
                if not left[read]:
                    del values[read]
        return values[name]

    def _where(self, name: str, kind: str) -> str:
        return f"node {name!r} ({kind})"

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

        steps = self.steps() if self.training else fuse(self.steps(), taps)
        y: Array = self.follow(x, lambda layer, x: layer(x), meet, taps, steps)
        self.keep(saved, output=y)
        return y

    def backward(self, dy: Array, taps: Taps = None) -> Array:
        """Return the gradient to the input; `taps` holds gradients to tapped values."""
        return self._backward(dy, taps or {}, to_input=True)[INPUT]

    def backward_parameters(self, dy: Array, taps: Taps = None) -> None:
        """Do the same, without the gradient to the input."""
        self._backward(dy, taps or {}, to_input=False)

    def _backward(self, dy: Array, taps: dict[str, Any], *, to_input: bool) -> dict[str, Array]:
        """Return the gradient to the input by its name, if it is wanted."""
        (saved,) = self.recall(dy)
        steps = self.steps()
        gradients = {steps[-1][0] if steps else INPUT: dy}
        del dy

        def add(value: str, gradient: Array) -> None:
            before = gradients.get(value)
            gradients[value] = gradient if before is None else add_arrays(before, gradient)

        for name, kind, reads in reversed(steps):
            if name in taps:
                add(name, taps.pop(name))
            gradient = gradients.pop(name)
            if not isinstance(kind, Layer):
                for read, part in zip(reads, join_grad(kind, gradient, saved.pop()), strict=True):
                    if to_input or read != INPUT:
                        add(read, part)
            elif to_input or reads != [INPUT]:
                add(reads[0], kind.backward(gradient))
            else:
                kind.backward_parameters(gradient)
        return gradients

    def walk(self, visitor: Visitor, x: Value, taps: Taps = None) -> Value:
        """Visit the layers, and meet at the joints."""
        return self.follow(x, visitor.visit, lambda _, kind, __, xs: getattr(visitor, kind)(*xs), taps)

    def whole_input(self) -> dict[str, bool]:
        """Return for each value whether all its elements see the whole input, as behind a global average."""
        found: dict[str, Any] = {INPUT: False} | dict.fromkeys(self.names())
        self.follow(
            False, lambda layer, seen: seen or sees_whole_input(layer), lambda *xs: all(xs[-1]), found
        )
        return found

    def reach(self) -> Reach:
        """Return "global" if every output sees the whole input; otherwise `walk` says what they see."""
        return "global" if [*self.whole_input().values()][-1] else super().reach()

    def output_shape(self, shape: Shape, taps: Taps = None) -> Shape:
        """Return the shape of the output, and put those of tapped values into `taps`."""
        output: Shape = self.follow(shape, lambda layer, shape: layer.output_shape(shape), joint_shape, taps)
        return output

    def coordinate_map(self, taps: Taps = None) -> CoordinateMap:
        """Return where the outputs lie in the input, and put where tapped values lie into `taps`.

        A tapped value of which every element sees the whole input has no place: `None`.
        """

        def place(layer: Layer, before: Place) -> Place:
            return None if before is None or sees_whole_input(layer) else before @ layer.coordinate_map()

        output: Place = self.follow(CoordinateMap(), place, joint_map, taps)
        return super().coordinate_map() if output is None else output

    @property
    def returns_input(self) -> bool:  # type: ignore[override]  # it follows from the parts
        """Whether the output may be a view of the input, or the input itself."""
        passed: bool = self.follow(True, lambda layer, x: x and layer.returns_input, lambda *_: False)
        return passed

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
        ValueError: If a layer has the name "input".

    Example:
        >>> from minifcn.layers import Conv2d, ReLU
        >>> net = Sequential(Conv2d(1, 4, 3), ReLU())
        >>> net.output_shape((1, 8, 8)), [name for name, _ in net.named_parameters()]
        ((4, 6, 6), ['0.weight', '0.bias'])
    """

    def __init__(self, *layers: Layer, **named: Layer):
        super().__init__(*layers, **named)
        if INPUT in self.parts:
            raise ValueError(f"no layer of {type(self).__name__} can have the name {INPUT!r}")

    def steps(self) -> list[Step]:
        """Return the layers, each of which reads the value before it."""
        before = [INPUT, *self.parts]
        return [(name, layer, [before[i]]) for i, (name, layer) in enumerate(self.children())]

    def replaced(self, layers: Mapping[str, Layer | None], output: str | None = None) -> "Sequential | None":
        """Return the same with other layers in some places; see `Stack.replaced`."""
        names = [INPUT, *self.parts]
        kept = names[1:] if output is None else names[1 : names.index(output) + 1]
        parts = {name: layers.get(name, self.parts[name]) for name in kept}
        kept_layers = {name: layer for name, layer in parts.items() if layer is not None}
        return Sequential(**kept_layers) if kept_layers else None
