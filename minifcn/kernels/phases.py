"""Planes of an image, dealt out so that pooling reads runs of numbers instead of every other one.

Windows lie a stride apart, and a CPU reads numbers that do not lie side by side slowly. Once rows and columns
are dealt out, every stride-th one to the same array, each tap of all windows is one run of numbers.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.threads import workspace

STRIP_SIZE = 1 << 19
"""Numbers of the image in one strip: with what comes of them, about what the cache of a core holds."""


class Dealt:
    """Work space for some planes of an image, dealt out.

    With a stride of s, rows and columns go to s * s arrays by their remainders. Tap (a, b) of window (i, j)
    is then entry (i + a // s, j + b // s) of the array of its remainders. All arrays are *grids* of one size,
    a little larger than the output: so on flattened grids each tap is an array moved by one shift. What lies
    in the margin of a grid is computed, too, and not looked at.

    Args:
        planes: How many planes (H, W).
        geometry: Of the window.
        size: (H, W).
        outputs: (OH, OW).
        dtype: Of the image.
    """

    def __init__(
        self,
        xp: Any,
        planes: int,
        geometry: ConvGeometry,
        size: tuple[int, ...],
        outputs: tuple[int, int],
        dtype: Any,
    ):
        self.rows, self.cols = geometry.rows, geometry.cols
        self.xp, self.outputs = xp, outputs
        margins = [(window.kernel - 1) // window.stride for window in (self.rows, self.cols)]
        self.grid = planes, outputs[0] + margins[0], outputs[1] + margins[1]
        self.length = max(math.prod(self.grid) - margins[0] * self.grid[2] - margins[1], 0)
        rows = _places(self.rows, size[0], self.grid[1])
        cols = _places(self.cols, size[1], self.grid[2])
        # (here, there): the part of a grid that lies inside the image, and where in the image.
        self.places = [
            ((slice(None), r, c), (slice(None), from_rows, from_cols))
            for r, from_rows in rows
            for c, from_cols in cols
        ]
        self.arrays = [workspace(xp, self.grid, dtype, f"dealt {i}") for i in range(len(self.places))]
        self.across = len(cols)

    def space(self, slot: str, dtype: Any) -> Array:
        """Return uninitialised work space, a grid."""
        return workspace(self.xp, self.grid, dtype, slot)

    def flat(self, grid: Array) -> Array:
        """Return a grid as one run of numbers, as long as a tap."""
        run: Array = grid.reshape(-1)[: self.length]  # (planes, rows, columns) -> (numbers,)
        return run

    def inside(self, grid: Array) -> Array:
        """Return the part (planes, OH, OW) of a grid that belongs to outputs."""
        part: Array = grid[:, : self.outputs[0], : self.outputs[1]]
        return part

    def taps(self) -> Iterator[Array]:
        """Yield each tap of the windows, in row-major order, as one run of numbers."""
        for a in range(self.rows.kernel):
            for b in range(self.cols.kernel):
                array = self.arrays[a % self.rows.stride * self.across + b % self.cols.stride]
                shift = a // self.rows.stride * self.grid[2] + b // self.cols.stride
                yield array.reshape(-1)[shift : shift + self.length]

    def deal(self, planes: Array, fill: float) -> None:
        """Copy the planes of an image (planes, H, W) in, with `fill` in the padding and beyond the end."""
        for array, (here, there) in zip(self.arrays, self.places, strict=True):
            if array[here].size < array.size:
                array[...] = fill
            array[here] = planes[there]

    def clear(self) -> None:
        """Set everything to zero."""
        for array in self.arrays:
            array[...] = 0

    def collect(self, planes: Array) -> None:
        """Copy what lies inside the image out, and zero where no window looks."""
        if (
            sum(array[here].size for array, (here, _) in zip(self.arrays, self.places, strict=True))
            < planes.size
        ):
            planes[...] = 0
        for array, (here, there) in zip(self.arrays, self.places, strict=True):
            planes[there] = array[here]


def _places(window: Window, size: int, grid: int) -> list[tuple[slice, slice]]:
    """Return, for each remainder by the stride, which entries of a grid lie in the image, and where there."""
    places = []
    for remainder in range(min(window.stride, window.kernel)):
        first = (remainder - window.padding[0]) % window.stride  # the first row of the image that goes there
        start = (first + window.padding[0] - remainder) // window.stride
        count = max(min(grid - start, -(-(size - first) // window.stride)), 0)
        stop = first + (count - 1) * window.stride + 1 if count else first
        places.append((slice(start, start + count), slice(first, stop, window.stride)))
    return places


def strips_of_planes(xp: Any, planes: int, size: int) -> list[slice]:
    """Cut planes of some size into strips; a GPU takes them all at once."""
    step = max(STRIP_SIZE // max(size, 1), 1) if xp is np else max(planes, 1)
    return [slice(start, min(start + step, planes)) for start in range(0, planes, step)]
