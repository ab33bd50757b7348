"""Problems and plans: what a convolution asks for, and how an algorithm would compute it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.costs import CORES, NANOSECONDS, Work


class Problem(NamedTuple):
    """Everything that the plan of a convolution, or of one of its gradients, may depend on.

    A problem can be hashed, so plans can be cached by it.

    Attributes:
        geometry: Window and groups.
        images: N.
        channels: C, of all groups together.
        filters: O, of all groups together.
        input_size: (H, W).
        output_size: (OH, OW).
        dtype: Of all arrays.
        xp: The array library, NumPy or CuPy.
    """

    geometry: ConvGeometry
    images: int
    channels: int
    filters: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    dtype: Any
    xp: Any

    @property
    def groups(self) -> int:
        """G."""
        return self.geometry.groups

    @property
    def group_channels(self) -> int:
        """C/G."""
        return self.channels // self.geometry.groups

    @property
    def group_filters(self) -> int:
        """O/G."""
        return self.filters // self.geometry.groups

    @property
    def column(self) -> int:
        """Length of a column: C/G * KH * KW."""
        return self.group_channels * self.geometry.taps

    @property
    def positions(self) -> int:
        """N * OH * OW."""
        return self.images * prod(self.output_size)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, O, OH, OW)."""
        return (self.images, self.filters, *self.output_size)


@dataclass(frozen=True)
class Plan:
    """A computation that is ready to run on arrays of the problem that it was made for.

    Attributes:
        algorithm: Name of the algorithm.
        work: What is done, counted along the busiest of `CORES` cores.
        dtype: Of the arrays.
        workspace: Bytes of scratch memory of each thread, about.
        run: Takes the arrays; see `minifcn.kernels`.
    """

    algorithm: str
    dtype: Any
    work: Work
    workspace: int
    run: Callable[..., None]

    @property
    def seconds(self) -> float:
        """The estimated time."""
        return 1e-9 * float(sum(map(operator.mul, self.work, NANOSECONDS[self.dtype.name])))


def add_bias(y: Array, b: Array | None, relu: bool) -> None:
    """Add a bias (O,) to y (N, O, ...) in place, and then set negative elements to 0, if asked for."""
    if b is not None:
        y += b.reshape(-1, *[1] * (y.ndim - 2))
    if relu:
        rectify(y, y)


ZEROS = {dtype: np.zeros(1 << 17, dtype) for dtype in map(np.dtype, ("float32", "float64"))}
"""What `rectify` compares with; read only."""


def rectify(x: Array, out: Array) -> None:
    """Write max(x, 0) to out.

    NumPy compares two arrays several times as fast as an array and a number.
    """
    if array_module(x=x) is np and 0 < x.shape[-1] <= len(ZEROS[x.dtype]):
        np.maximum(x, ZEROS[x.dtype][: x.shape[-1]], out=out)
    else:
        array_module(x=x).maximum(x, 0, out=out)


def elapsed(chunks: int) -> float:
    """Return the part of the work that the busiest core does, if so many equal chunks are spread over cores.

    Example:
        >>> elapsed(1), elapsed(2), elapsed(3)
        (1.0, 0.5, 0.6666666666666666)
    """
    return -(-chunks // CORES) / max(chunks, 1)
