"""A network of any acyclic form, as named nodes, and the forms with branches side by side."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minifcn.layers.base import Layer, indented
from minifcn.layers.containers import INPUT, LayerDict, Stack, Step
from minifcn.layers.joints import JOINTS


class Graph(Stack):
    """Named nodes, each a layer that reads one value or a joint that reads one or more.

    The values are the outputs of the nodes, and "input". They may be read several times; gradients to them
    are then summed. A value is released as soon as its last reader has used it.

    Args:
        nodes: For each name a layer and the name of the value it reads, or a joint and the names of the
            values it reads: "add" and "multiply" take maps of one shape, "concat" joins maps along their
            channels. A factor of "multiply" may also be a gate (C, 1, 1), which holds for every pixel, as in
            squeeze-and-excitation. The order of the nodes does not matter.
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
            elif not reads:
                raise ValueError(f"{self._where(name, kind)} reads one value or more, got none")
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

    # The flow of data

    def steps(self) -> list[Step]:
        """Return the nodes in the order of computation."""
        return [(name, kind, reads) for name in self._order for kind, *reads in [self.nodes[name]]]

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers with the names of their nodes, in the order of computation."""
        for _, name, layer in self.readers():
            yield name, layer

    def replaced(self, layers: Mapping[str, Layer | None], output: str | None = None) -> "Graph | None":
        """Return the graph with other layers in some nodes; see `Stack.replaced`.

        What read a node that is left out then reads what that node read.
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


class _Branches(LayerDict[Layer], Graph):
    """Branches that get the same input, and a joint where their outputs meet."""

    joint: str

    def __init__(self, *layers: Layer, **named: Layer):
        LayerDict.__init__(self, *layers, **named)
        branches = {name: (layer, INPUT) for name, layer in self.children()}
        Graph.__init__(self, branches | {self.joint: (self.joint, *branches)}, self.joint)

    def __setitem__(self, name: str | int, layer: Layer) -> None:
        """Replace a branch, or add one."""
        branches: LayerDict[Layer] = LayerDict(**self.parts)
        branches[name] = layer
        vars(self).update(vars(type(self)(**branches.parts)))  # checked as a whole before anything changes

    def _where(self, name: str, kind: str) -> str:
        return type(self).__name__


class Concat(_Branches):
    """Branches side by side, their outputs joined by channel.

    Args:
        *layers: Branches named "0", "1", ...
        **named: Branches with names of their own.

    Raises:
        ValueError: If there is no branch, or one writes over the input that others read.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import Conv2d, ReLU
        >>> Concat(ReLU(), Conv2d(2, 5, 3, padding=1))(np.ones((1, 2, 4, 4), np.float32)).shape
        (1, 7, 4, 4)
    """

    joint = "concat"


class Add(_Branches):
    """Branches side by side, their outputs summed.

    Args:
        *layers: Branches named "0", "1", ...
        **named: Branches with names of their own.

    Raises:
        ValueError: If there is no branch, or one writes over the input that others read.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import ReLU
        >>> Add(ReLU(), ReLU())(np.array([-1.0, 2.0]))
        array([0., 4.])
    """

    joint = "add"


class Multiply(_Branches):
    """Branches side by side, their outputs multiplied; some may be gates (C, 1, 1).

    A gate holds for every pixel of the other maps, as in squeeze-and-excitation (Hu et al. 2018).

    Args:
        *layers: Branches named "0", "1", ...
        **named: Branches with names of their own.

    Raises:
        ValueError: If there is no branch, or one writes over the input that others read.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import GlobalAvgPool2d, Sequential
        >>> Multiply(Sequential(), GlobalAvgPool2d())(np.array([[[[1.0, 3.0]]]]))
        array([[[[2., 6.]]]])
    """

    joint = "multiply"
