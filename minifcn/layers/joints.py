"""Where maps meet in a network: they are added, multiplied, or joined along their channels."""

import math
import operator
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.geometry import CoordinateMap
from minifcn.kernels.threads import add

Shape = tuple[int, ...]
Place = CoordinateMap | None
"""Where the elements of a map lie; `None` if each of them sees the whole input."""

JOINTS = ("add", "multiply", "concat")


def joint_shape(where: str, kind: str, reads: Sequence[str], shapes: Sequence[Shape]) -> Shape:
    """Return the output shape of a joint for the shapes of what it reads.

    Args:
        where: What the message begins with.
        kind: One of `JOINTS`.
        reads: Names of the values that it reads.
        shapes: Their shapes, without the batch axis.

    Raises:
        ValueError: If they do not fit together.

    Example:
        >>> joint_shape("node 'c'", "concat", ["a", "b"], [(2, 5, 7), (1, 5, 7)])
        (3, 5, 7)
        >>> joint_shape("node 'm'", "multiply", ["gate", "map"], [(2, 1, 1), (2, 5, 7)])
        (2, 5, 7)
    """
    axis = 1 if kind == "concat" else 0
    largest = max(shapes, key=math.prod)
    gate = (*largest[:1], *(1 for _ in largest[1:])) if kind == "multiply" else largest
    if any(shape[axis:] != largest[axis:] and shape != gate for shape in shapes):
        got = ", ".join(f"{read} {shape}" for read, shape in zip(reads, shapes, strict=True))
        raise ValueError(f"{where} reads maps that differ in shape: {got}")
    return (sum(shape[0] for shape in shapes), *largest[1:]) if axis else largest


def joint_map(where: str, kind: str, reads: Sequence[str], maps: Sequence[Place]) -> Place:
    """Return the coordinate map of values that meet; a factor that has none is a gate, which counts nowhere.

    Raises:
        ValueError: If they do not have the same one.

    Example:
        >>> joint_map("node 'c'", "add", ["a", "b"], [CoordinateMap(), CoordinateMap()])
        CoordinateMap(scale=Fraction(1, 1), offset=Fraction(0, 1))
    """
    meeting = {place for place in maps if kind != "multiply" or place is not None}
    if len(meeting) > 1:
        lie = ", ".join(f"{read} at {place or 'no place'}" for read, place in zip(reads, maps, strict=True))
        raise ValueError(f"maps that meet in {where} do not lie over one another: {lie}")
    return next(iter(meeting), None)


def join(kind: str, inputs: list[Array]) -> tuple[Array, Any]:
    """Return the value of a joint, and what `join_grad` needs.

    Example:
        >>> import numpy as np
        >>> join("add", [np.ones(2), np.ones(2)])
        (array([2., 2.]), 2)
    """
    if kind == "concat":
        return array_module(*inputs).concatenate(inputs, axis=1), [x.shape[1] for x in inputs]
    if len(inputs) == 1:
        return inputs[0].copy(), inputs if kind == "multiply" else 1
    if kind == "multiply":
        return reduce(operator.mul, inputs), inputs
    return reduce(add, inputs), len(inputs)


def join_grad(kind: str, dy: Array, saved: Any) -> Iterator[Array]:
    """Yield the gradient to each input of a joint.

    Example:
        >>> import numpy as np
        >>> list(join_grad("multiply", np.ones(1), [np.array([2.0]), np.array([3.0])]))
        [array([3.]), array([2.])]
    """
    if kind == "concat":
        start = 0
        for count in saved:
            yield array_module(dy=dy).ascontiguousarray(dy[:, start : start + count])
            start += count
    elif kind == "multiply":
        for number, x in enumerate(saved):
            dx = reduce(operator.mul, saved[:number] + saved[number + 1 :], dy)
            # a gate (N, C, 1, 1) has a part in every pixel
            yield dx if dx.shape == x.shape else dx.sum(axis=tuple(range(2, dx.ndim)), keepdims=True)
    else:
        yield from [dy] * saved
