"""Graphs as nested layers, where they are made of chains and of branches that meet again."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from minifcn.layers import Add, Concat, Graph, Layer, Multiply, Sequential
from minifcn.layers.containers import INPUT

_JOINTS = {"add": Add, "concat": Concat, "multiply": Multiply}
_MAX_DEPTH = 8  # of branches inside branches: other code goes through nested layers by recursion


def nested(nodes: Mapping[str, tuple[Any, ...]], output: str) -> Sequential | Graph:
    """Return a graph as a `Sequential`, in which branches are an `Add`, `Multiply` or `Concat`.

    Two rules are applied in the order of computation, as in the recognition of series-parallel graphs (Valdes
    et al. 1982). Layers of which each reads what only the one before makes are a chain. Chains that begin at
    one value and meet in a joint are one layer of branches, which continues the chain of that value. If what
    remains is more than one chain, it is a `Graph`.

    Args:
        nodes: As `Graph` takes them, in the order of computation; all are needed for the output.
        output: Name of the value that is the output.

    Example:
        >>> from minifcn.layers import ReLU, Sigmoid
        >>> nested({"a": (ReLU(), "input"), "b": (Sigmoid(), "a"), "c": ("add", "b", "a")}, "c")
        Sequential(
          (a): ReLU()
          (c): Add(
            (0): Sigmoid()
            (1): Sequential(
            )
          )
        )
    """
    readers = Counter(read for _, *reads in nodes.values() for read in reads)
    chains: dict[str, tuple[str, dict[str, Layer]]] = {INPUT: (INPUT, {})}
    depths: dict[str, int] = {}

    def chain(value: str) -> tuple[str, dict[str, Layer]]:
        """Return where the chain that makes a value begins, and its layers, unless others read the value."""
        return chains[value] if readers[value] == 1 and chains[value][1] else (value, {})

    for name, (kind, *reads) in nodes.items():
        layer, (start, *others) = kind, reads
        if not isinstance(kind, Layer):
            branches = [chain(read) if others else (read, {}) for read in reads]
            depths[name] = 1 + max(
                (depths.get(part, 0) for _, parts in branches for part in parts), default=0
            )
            start, *others = {start for start, _ in branches}
            if others or depths[name] > _MAX_DEPTH:
                chains[name] = name, {}
                continue
            layer = _JOINTS[kind](*(_one(parts) for _, parts in branches))
            readers[start] -= len(reads) - 1
        start, parts = chain(start)
        parts[name] = layer
        chains[name] = start, parts
    start, parts = chains[output]
    return Sequential(**parts) if start == INPUT else _graph(nodes, chains, output)


def _one(parts: dict[str, Layer]) -> Layer:
    return next(iter(parts.values())) if len(parts) == 1 else Sequential(**parts)


def _graph(
    nodes: Mapping[str, tuple[Any, ...]], chains: Mapping[str, tuple[str, dict[str, Layer]]], output: str
) -> Graph:
    """Return the chains that the output needs as a graph."""
    found: dict[str, tuple[Any, ...]] = {}
    todo = [output]
    while todo:
        value = todo.pop()
        if value == INPUT or value in found:
            continue
        start, parts = chains[value]
        if not parts:  # a joint of chains that begin at different values
            found[value] = nodes[value]
            todo += nodes[value][1:]
            continue
        todo.append(start)
        for name, layer in parts.items():
            found[name], start = (layer, start), name
    return Graph({name: found[name] for name in nodes if name in found}, output)
