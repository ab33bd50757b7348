"""Planes of an image split by phase, so that pooling reads contiguous elements instead of every other one.

The windows of pooling lie a stride s apart, and a CPU is slow to read elements that are not side by side. So
rows (and columns) are first sorted by their *phase*, the remainder of the row by s; each phase gets an array
of its own. Tap a of all windows is then one contiguous run of one of these arrays.

Example along one axis: 7 rows, k = 3, s = 2, no padding, so 3 windows. Window i covers the rows 2 i, 2 i + 1
and 2 i + 2:

    row             0   1   2   3   4   5   6
    window 0       [a=0 a=1 a=2]
    window 1               [a=0 a=1 a=2]
    window 2                       [a=0 a=1 a=2]

    phase 0: rows   0   2   4   6         tap a = 0 of windows 0, 1, 2: entries 0, 1, 2 of phase 0
    phase 1: rows   1   3   5   -         tap a = 1:                    entries 0, 1, 2 of phase 1
                                          tap a = 2:                    entries 1, 2, 3 of phase 0

In general tap a of window i is entry i + a // s of phase a % s. Padding of p rows shifts the rows: entry j of
phase r is row s j + r - p, and where there is no such row the entry is filled. In two dimensions there are s
* s arrays, and tap (a, b) of window (i, j) is entry (i + a // s, j + b // s) of the array of its two phases.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.workspace import cut, workspace

PLANE_CHUNK = 1 << 19
"""Elements of the image in one chunk: with what is computed from them, about what the cache of a core
holds."""


class PhaseGrid:
    """Workspace for some planes of an image, split by phase.

    The arrays of all phases are *grids* of one size, a little larger than the output. Taken as flat runs,
    each tap is one of these grids, shifted. What is computed from the margin of a grid is ignored.

    Args:
        xp: The array library.
        planes: How many planes (H, W).
        geometry: The window.
        size: (H, W).
        outputs: (OH, OW).
        dtype: Of the image.

    Example:
        The rows of the example above, as a plane of one column:

        >>> grid = PhaseGrid(np, 1, ConvGeometry.of((3, 1), (2, 1)), (7, 1), (3, 1), np.dtype("int64"))
        >>> grid.split(np.arange(7).reshape(1, 7, 1), fill=-1)
        >>> [array.ravel().tolist() for array in grid.arrays]
        [[0, 2, 4, 6], [1, 3, 5, -1]]
        >>> [tap.tolist() for tap in grid.taps()]
        [[0, 2, 4], [1, 3, 5], [2, 4, 6]]
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
        self.shape = planes, outputs[0] + margins[0], outputs[1] + margins[1]
        self.length = max(math.prod(self.shape) - margins[0] * self.shape[2] - margins[1], 0)
        rows = _places(self.rows, size[0], self.shape[1])
        cols = _places(self.cols, size[1], self.shape[2])
        # For each grid: the part of it that lies inside the image, and the part of the image that this is.
        self.places = [
            ((slice(None), rows_here, cols_here), (slice(None), image_rows, image_cols))
            for rows_here, image_rows in rows
            for cols_here, image_cols in cols
        ]
        self.arrays = [workspace(xp, self.shape, dtype, f"phase {i}") for i in range(len(self.places))]
        self.col_phases = len(cols)

    def workspace(self, slot: str, dtype: Any) -> Array:
        """Return an uninitialised grid."""
        return workspace(self.xp, self.shape, dtype, slot)

    def flat(self, grid: Array) -> Array:
        """Return a grid as one contiguous run, as long as a tap."""
        run: Array = grid.reshape(-1)[: self.length]  # (planes, rows, columns) -> (elements,)
        return run

    def inside(self, grid: Array) -> Array:
        """Return the part (planes, OH, OW) of a grid that belongs to outputs."""
        part: Array = grid[:, : self.outputs[0], : self.outputs[1]]
        return part

    def taps(self) -> Iterator[Array]:
        """Yield each tap of all windows, in row-major order, as one contiguous run."""
        for a in range(self.rows.kernel):
            for b in range(self.cols.kernel):
                array = self.arrays[a % self.rows.stride * self.col_phases + b % self.cols.stride]
                shift = a // self.rows.stride * self.shape[2] + b // self.cols.stride
                yield array.reshape(-1)[shift : shift + self.length]

    def split(self, planes: Array, fill: float) -> None:
        """Copy the planes of an image (planes, H, W) to the grids, with `fill` in the padding and past the
        end.
        """
        for array, (here, there) in zip(self.arrays, self.places, strict=True):
            if array[here].size < array.size:
                array[...] = fill
            array[here] = planes[there]

    def merge(self, planes: Array) -> None:
        """Copy the grids back to planes (planes, H, W), with zeros where no window reaches."""
        inside = sum(array[here].size for array, (here, _) in zip(self.arrays, self.places, strict=True))
        if inside < planes.size:
            planes[...] = 0
        for array, (here, there) in zip(self.arrays, self.places, strict=True):
            planes[there] = array[here]


def _places(window: Window, size: int, length: int) -> list[tuple[slice, slice]]:
    """Return for each phase which entries of a grid of some length are rows of the image, and which rows."""
    places = []
    for phase in range(min(window.stride, window.kernel)):
        first = (phase - window.padding[0]) % window.stride  # the first row of the image of this phase
        start = (first + window.padding[0] - phase) // window.stride
        count = max(min(length - start, -(-(size - first) // window.stride)), 0)
        stop = first + (count - 1) * window.stride + 1 if count else first
        places.append((slice(start, start + count), slice(first, stop, window.stride)))
    return places


def cut_planes(xp: Any, planes: int, size: int) -> list[slice]:
    """Cut planes of so many elements into chunks; a GPU takes them all at once."""
    return list(cut(planes, PLANE_CHUNK // max(size, 1) if xp is np else planes))


def count_taps(
    xp: Any, geometry: ConvGeometry, size: tuple[int, int], dtype: Any, count_padding: bool = True
) -> Array:
    """Return (OH, OW): how many taps of each window lie inside the input, with or without its padding."""
    counted = []
    for window, n in zip((geometry.rows, geometry.cols), size, strict=True):
        before, after = window.padding
        first, end = (0, before + n + after) if count_padding else (before, before + n)
        starts = [i * window.stride for i in range(window.output_size(n))]
        counted.append([min(start + window.extent, end) - max(start, first) for start in starts])
    rows, cols = counted
    counts: Array = xp.asarray(rows, dtype)[:, None] * xp.asarray(cols, dtype)
    return counts
