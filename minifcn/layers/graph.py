"""A network of any acyclic form, as named nodes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.geometry import CoordinateMap
from minifcn.layers.base import Layer, Shape, indented
from minifcn.layers.containers import shared_map, split_channels
from minifcn.layers.visitor import Value, Visitor

INPUT = "input"
JOINTS = ("add", "multiply", "concat")


class Graph(Layer):
    """Named nodes, each a layer that reads one value or a joint that reads two or more.

    The values are the outputs of the nodes, and "input". They may be read several times; gradients to them
    are then summed. A value is released as soon as its last reader has used it.

    Args:
        nodes: For each name a layer and the name of the value it reads, or a joint and the names of the
            values it reads: "add" and "multiply" take maps of one shape, "concat" joins maps along their
            channels. The order does not matter.
        output: Name of the node whose value is the output.

    Raises:
        TypeError: If a node is no layer or joint with names.
        ValueError: If a name is unknown, nodes form a cycle, a node is not used for the output, a layer
            belongs to two nodes, or a layer writes over a value that another node reads.

    Example:
        A residual block:

        >>> import numpy as np
        >>> from minifcn.layers import Conv2d, ReLU
        >>> block = Graph(
        ...     {
        ...         "conv": (Conv2d(4, 4, 3, padding=1), "input"),
        ...         "sum": ("add", "conv", "input"),
        ...         "relu": (ReLU(), "sum"),
        ...     },
        ...     output="relu",
        ... )
        >>> block(np.ones((1, 4, 5, 7), np.float32)).shape, list(block.state_dict())
        ((1, 4, 5, 7), ['conv.weight', 'conv.bias'])
    """

    def __init__(self, nodes: Mapping[str, Sequence[Any]], output: str):
        self.nodes = {name: tuple(node) for name, node in nodes.items()}
        self.output = output
        self._check_nodes()
        self._order = self._sorted()
        self._readers = Counter(read for name in self._order for read in self.nodes[name][1:])
        self._check_overwriting()

    # Checks

    def _check_nodes(self) -> None:
        owners: dict[int, str] = {}
        for name, (kind, *reads) in self.nodes.items():
            if not isinstance(name, str) or name == INPUT or not name or "." in name:
                raise ValueError(f'the name of a node is a text without ".", and not "input", got {name!r}')
            if isinstance(kind, Layer):
                if len(reads) != 1:
                    raise ValueError(f"node {name!r} is a layer, which reads one value, got {reads}")
                if id(kind) in owners:
                    raise ValueError(f"nodes {owners[id(kind)]!r} and {name!r} share a layer: {kind!r}")
                owners[id(kind)] = name
            elif kind not in JOINTS:
                raise TypeError(f"node {name!r} must be a layer or one of {', '.join(JOINTS)}, got {kind!r}")
            elif len(reads) < 2:
                raise ValueError(f"node {name!r} ({kind}) reads two values or more, got {reads}")
            for read in reads:
                if read != INPUT and read not in self.nodes:
                    raise ValueError(f"node {name!r} reads {read!r}, which is no node")
        if self.output not in self.nodes:
            raise ValueError(f"output {self.output!r} is no node")

    def _sorted(self) -> list[str]:
        """Return the nodes in an order of computation."""
        order: dict[str, None] = {}  # as ordered sets, because a file may describe thousands of nodes
        open_nodes: dict[str, None] = {}
        todo = [(self.output, False)]
        while todo:  # depth first, without recursion: networks may be deep
            name, done = todo.pop()
            if done:
                del open_nodes[name]
                order[name] = None
            elif name in open_nodes:
                nodes = list(open_nodes)
                cycle = [*nodes[nodes.index(name) :], name]
                raise ValueError(f"nodes form a cycle: {' reads '.join(map(repr, cycle))}")
            elif name not in order and name != INPUT:
                open_nodes[name] = None
                todo.append((name, True))
                todo += [(read, False) for read in reversed(self.nodes[name][1:])]
        unused = [name for name in self.nodes if name not in order]
        if unused:
            raise ValueError(f"output {self.output!r} does not need the nodes {', '.join(map(repr, unused))}")
        return list(order)

    def _check_overwriting(self) -> None:
        """Refuse a layer that writes over an array that another node reads."""
        checked: set[str] = set()
        for name, layer in self.children():
            if not layer.overwrites_input():
                continue
            value = self.nodes[name][1]
            while value not in checked:  # up to where the array comes from, maybe several views away
                checked.add(value)
                if self._readers[value] > 1:
                    others = [other for other in self._order if value in self.nodes[other][1:]]
                    raise ValueError(
                        f"node {name!r} ({layer!r}) writes over {value!r}, and these nodes read it: "
                        f"{', '.join(map(repr, others))}"
                    )
                source = self.nodes[value][0] if value != INPUT else None
                if not (isinstance(source, Layer) and (source.returns_input or source.overwrites_input())):
                    break
                value = self.nodes[value][1]

    # Forward, backward and walk, side by side

    def forward(self, x: Array, taps: dict[str, Any] | None = None) -> Array:
        """Return the value of the output node.

        Args:
            x: The value "input".
            taps: Filled in with the values whose names are its keys. `backward` takes the gradients to them
                in the same form, and `walk` does what `forward` does.
        """
        values, left, saved = {INPUT: x}, self._readers.copy(), {}
        del x  # `values` alone keeps it, and releases it
        for name, (kind, *reads) in self.ordered():
            if isinstance(kind, Layer):
                values[name] = kind(values[reads[0]])
            else:
                inputs = [values[read] for read in reads]
                joint_shape(name, kind, reads, [one.shape[1:] for one in inputs])
                values[name], saved[name] = _join(kind, inputs)
                del inputs
            if taps and name in taps:
                taps[name] = values[name]
            _release(values, left, reads)
        y = values[self.output]
        self.keep(saved, output=y)
        return y

    def backward(self, dy: Array, taps: dict[str, Any] | None = None) -> Array:
        """Return the gradient to "input"; `taps` holds gradients to tapped values."""
        dx = self._backward(dy, taps or {}, to_input=True)
        assert dx is not None
        return dx

    def backward_parameters(self, dy: Array, taps: dict[str, Any] | None = None) -> None:
        """Do the same, without the gradient to "input"."""
        self._backward(dy, taps or {}, to_input=False)

    def _backward(self, dy: Array, taps: dict[str, Any], *, to_input: bool) -> Array | None:
        (saved,) = self.recall(dy)
        gradients = {self.output: dy}
        del dy

        def add(value: str, gradient: Array) -> None:
            before = gradients.get(value)
            gradients[value] = gradient if before is None else before + gradient

        for name in reversed(self._order):
            kind, *reads = self.nodes[name]
            if name in taps:
                add(name, taps.pop(name))
            gradient = gradients.pop(name)
            if not isinstance(kind, Layer):
                for read, part in zip(reads, _join_grad(kind, gradient, saved.pop(name)), strict=True):
                    if to_input or read != INPUT:
                        add(read, part)
            elif to_input or reads != [INPUT]:
                add(reads[0], kind.backward(gradient))
            else:
                kind.backward_parameters(gradient)
        return gradients.get(INPUT)

    def walk(self, visitor: Visitor, x: Value, taps: dict[str, Any] | None = None) -> Value:
        """Visit the layers in their order, and meet at the joints."""
        values, left = {INPUT: x}, self._readers.copy()
        for name, (kind, *reads) in self.ordered():
            if isinstance(kind, Layer):
                values[name] = visitor.visit(kind, values[reads[0]])
            else:
                values[name] = getattr(visitor, kind)(*[values[read] for read in reads])
            if taps and name in taps:
                taps[name] = values[name]
            _release(values, left, reads)
        return values[self.output]

    # What it says about itself

    def output_shapes(self, shape: Shape) -> Iterator[tuple[str, Shape]]:
        """Yield the name of each node and the shape of its value, in the order of computation."""
        shapes = {INPUT: shape}
        for name, (kind, *reads) in self.ordered():
            if isinstance(kind, Layer):
                shapes[name] = kind.output_shape(shapes[reads[0]])
            else:
                shapes[name] = joint_shape(name, kind, reads, [shapes[read] for read in reads])
            yield name, shapes[name]

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output node."""
        return dict(self.output_shapes(shape))[self.output]

    def coordinate_maps(self) -> Iterator[tuple[str, CoordinateMap]]:
        """Yield the name of each node, and where its value lies in the input."""
        places = {INPUT: CoordinateMap()}
        for name, (kind, *reads) in self.ordered():
            if isinstance(kind, Layer):
                places[name] = places[reads[0]] @ kind.coordinate_map()
            else:
                places[name] = shared_map(f"node {name!r}", {read: places[read] for read in reads})
            yield name, places[name]

    def coordinate_map(self) -> CoordinateMap:
        """Return where the output lies in the input."""
        return dict(self.coordinate_maps())[self.output]

    def overwrites_input(self) -> bool:
        """Return whether the only layer that reads the input writes over it."""
        return any(
            layer.overwrites_input() for name, layer in self.children() if self.nodes[name][1] == INPUT
        )

    def ordered(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the nodes with their names, in the order of computation."""
        for name in self._order:
            yield name, self.nodes[name]

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers with the names of their nodes, in the order of computation."""
        for name, (kind, *_) in self.ordered():
            if isinstance(kind, Layer):
                yield name, kind

    def replaced(self, layers: Mapping[str, Layer | None], output: str | None = None) -> "Graph | None":
        """Return the graph with other layers in some nodes; with `None` a node is left out.

        What read a node that is left out then reads what that node read.

        Args:
            layers: A layer or `None` by the name of a node.
            output: Another output; nodes that it does not need are left out.

        Returns:
            The graph, or `None` if the output is "input" itself.
        """

        def resolved(value: str) -> str:
            while value in layers and layers[value] is None:
                value = self.nodes[value][1]
            return value

        nodes: dict[str, tuple[Any, ...]] = {}
        todo = [output := resolved(self.output if output is None else output)]
        while todo:
            name = todo.pop()
            if name == INPUT or name in nodes:
                continue
            kind, *reads = self.nodes[name]
            reads = [resolved(read) for read in reads]
            nodes[name] = (layers.get(name, kind), *reads)
            todo += reads
        ordered = {name: nodes[name] for name in self.nodes if name in nodes}
        return None if output == INPUT else Graph(ordered, output)

    def __repr__(self) -> str:
        lines = [
            f"  {name} <- {', '.join(reads)}: {kind}"
            if isinstance(kind, str)
            else indented(name, kind) + f" <- {reads[0]}"
            for name, (kind, *reads) in self.nodes.items()
        ]
        return "\n".join(["Graph(", *lines, f"  output: {self.output}", ")"])


def joint_shape(name: str, kind: str, reads: Sequence[str], shapes: Sequence[Shape]) -> Shape:
    """Return the output shape of a joint for the shapes of what it reads.

    Raises:
        ValueError: If they do not fit together.
    """
    axis = 1 if kind == "concat" else 0
    if len({shape[axis:] for shape in shapes}) > 1:
        got = ", ".join(f"{read} {shape}" for read, shape in zip(reads, shapes, strict=True))
        raise ValueError(f"node {name!r} ({kind}) reads maps that differ in shape: {got}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if axis else shapes[0]


def _release(values: dict[str, Any], left: Counter[str], reads: list[str]) -> None:
    """Drop the values that no later node reads."""
    for read in reads:
        left[read] -= 1
        if not left[read]:
            values.pop(read, None)


def _join(kind: str, inputs: list[Array]) -> tuple[Array, Any]:
    """Return the value of a joint, and what `_join_grad` needs."""
    y: Array
    if kind == "concat":
        y = array_module(*inputs).concatenate(inputs, axis=1)
        return y, [one.shape[1] for one in inputs]
    if kind == "multiply":
        return reduce(lambda a, b: a * b, inputs), inputs
    return reduce(lambda a, b: a + b, inputs), len(inputs)


def _join_grad(kind: str, dy: Array, saved: Any) -> Iterator[Array]:
    """Yield the gradient to each input of a joint."""
    if kind == "concat":
        yield from split_channels(dy, saved)
    elif kind == "multiply":
        for number in range(len(saved)):
            yield reduce(lambda a, b: a * b, saved[:number] + saved[number + 1 :], dy)
    else:
        yield from [dy] * saved
