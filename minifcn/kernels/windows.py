"""The windows of an image as columns of a matrix, one chunk at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.workspace import chunk_bytes, cut, workspace

MIN_POSITIONS = 64
MAX_POSITIONS = 512
"""Positions of a chunk, at least: the number of filters, which every chunk reads again, but within these
limits. The columns of VGG16's first dense layer (7 x 7 on 512 channels) take 51 MB then."""

MIN_CHUNKS = 16
"""Chunks, at least, where there is much to do."""

CALLS = 12
"""Calls of NumPy, about, that `Windows.columns` takes."""

LONG_RUN = 16
"""Elements side by side that are worth copying as one run."""


@dataclass(frozen=True)
class Chunk:
    """Some positions: whole images, or rows of one image, or a part of one row."""

    images: slice
    rows: slice
    cols: slice

    @property
    def size(self) -> tuple[int, int]:
        """How many rows and columns."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


def cut_rows(images: int, rows: int, cols: int, size: int) -> list[Chunk]:
    """Cut images of so many rows and columns into chunks of at most `size` rows of one image."""
    return [
        Chunk(slice(n, n + 1), some, slice(0, cols))
        for n in range(images)
        for some in cut(rows, max(size, 1))
    ]


def cut_positions(xp: Any, shape: tuple[int, ...], bytes_each: int, wanted: int = MIN_CHUNKS) -> list[Chunk]:
    """Cut the positions of outputs into chunks.

    Args:
        xp: The array library.
        shape: (N, O, OH, OW) of the outputs.
        bytes_each: Workspace of one position.
        wanted: How many chunks there should be, if there is enough to do; more if there is much.
    """
    images, filters, height, width = shape
    # Fewer positions would read large filters from memory again and again for next to nothing.
    least = min(max(filters, MIN_POSITIONS), MAX_POSITIONS)
    most = max(chunk_bytes(xp) // bytes_each, least)
    # Small enough that threads which take them in turn finish at about the same time, if there is much to do.
    some = max(images * height * width // wanted, most // 8, least)
    positions = min(most, some) if xp is np else most
    if positions >= height * width:
        whole = slice(0, height), slice(0, width)
        return [Chunk(some, *whole) for some in cut(images, positions // max(height * width, 1))]
    return [
        Chunk(slice(n, n + 1), rows, cols)
        for n in range(images)
        for rows in cut(height, positions // width)
        for cols in cut(width, positions if positions < width else width)
    ]


class Windows:
    """The windows of an image, as columns of a matrix, one chunk at a time.

    Args:
        x: (N, C, H, W).
        geometry: Window and groups; its padding is ignored.
        first: Row and column of x where the first window begins; there are zeros wherever x has no elements.
    """

    def __init__(self, x: Array, geometry: ConvGeometry, first: tuple[int, int]):
        images, channels, *size = x.shape
        self.x = x.reshape(images, geometry.groups, channels // geometry.groups, *size)
        self.geometry, self.first = geometry, first
        self.xp = array_module(x=x)

    @classmethod
    def of(cls, x: Array, geometry: ConvGeometry) -> "Windows":
        """Return the windows of a convolution: the first begins in the padding."""
        return cls(x, geometry, (-geometry.rows.padding[0], -geometry.cols.padding[0]))

    def columns(self, chunk: Chunk, channels: slice = slice(None)) -> Array:
        """Return the columns (G, C/G * KH * KW, positions) of a chunk, for all channels or for some."""
        xp, rows, cols = self.xp, self.geometry.rows, self.geometry.cols
        x = self.x[chunk.images, :, channels]
        n, groups, c = x.shape[:3]
        height, width = chunk.size
        top = self.first[0] + chunk.rows.start * rows.stride
        left = self.first[1] + chunk.cols.start * cols.stride
        size = (height - 1) * rows.stride + rows.extent, (width - 1) * cols.stride + cols.extent
        part = region(x, top, left, size)
        shape = groups, c * rows.kernel * cols.kernel, n * height * width
        if n == rows.kernel == cols.kernel == rows.stride == cols.stride == 1:
            return part.reshape(shape)  # the pixels are the columns already
        image, group, channel, down, across = part.strides
        taps = (channel, rows.dilation * down, cols.dilation * across)
        places = (image, rows.stride * down, cols.stride * across)
        if cols.stride > 1 and cols.dilation == 1 and cols.kernel >= LONG_RUN:  # copy by rows of a window
            turned = groups, n, height, width, c, rows.kernel, cols.kernel
            windows = workspace(xp, turned, x.dtype, "columns")
            windows[...] = xp.lib.stride_tricks.as_strided(part, windows.shape, (group, *places, *taps))
            # (G, n, rows, cols, C/G, KH, KW) -> (G, positions, C/G * KH * KW) -> its transpose
            return windows.reshape(groups, -1, shape[1]).transpose(0, 2, 1)
        columns = workspace(xp, (groups, c, rows.kernel, cols.kernel, n, height, width), x.dtype, "columns")
        columns[...] = xp.lib.stride_tricks.as_strided(part, columns.shape, (group, *taps, *places))
        return columns.reshape(shape)


def region(x: Array, top: int, left: int, size: tuple[int, int]) -> Array:
    """Return so many rows and columns of x (..., H, W) from (top, left) on, with zeros where x has none.

    It is a view if all of them lie inside x, and otherwise workspace.
    """
    height, width = x.shape[-2:]
    start, stop = min(max(top, 0), height), max(min(top + size[0], height), 0)
    begin, end = min(max(left, 0), width), max(min(left + size[1], width), 0)
    within = x[..., start:stop, begin:end]
    if within.shape[-2:] == size:
        return within
    part = workspace(array_module(x), (*x.shape[:-2], *size), x.dtype, "region")
    part[...] = 0
    part[..., start - top : stop - top, begin - left : end - left] = within
    return part


def places(padded: Array, geometry: ConvGeometry, chunk: Chunk) -> Iterator[Array]:
    """Yield for each tap the elements (..., rows, cols) of padded images that it meets, as views."""
    for down, across in product(_taps(geometry.rows, chunk.rows), _taps(geometry.cols, chunk.cols)):
        yield padded[..., down, across]


def _taps(window: Window, positions: slice) -> list[slice]:
    """Return for each tap along one axis the elements that it meets at some positions."""
    first = positions.start * window.stride
    length = (positions.stop - positions.start - 1) * window.stride + 1
    starts = range(first, first + window.extent, window.dilation)
    return [slice(start, start + length, window.stride) for start in starts]


def run_length(geometry: ConvGeometry, width: int) -> int:
    """Return how many elements `Windows.columns` copies as one run, for so many positions in a row."""
    cols = geometry.cols
    if cols.stride == 1:
        return width
    return cols.kernel if cols.dilation == 1 and cols.kernel >= LONG_RUN else 1


def matrix(y: Array, chunk: Chunk, groups: int) -> Array:
    """Return the part of y (N, O, OH, OW) that belongs to a chunk, as (G, O/G, positions).

    It is a view where the chunk is rows of one image, and otherwise a copy.
    """
    part = part_of(y, chunk, groups)
    return part.reshape(*part.shape[:2], -1)


def part_of(y: Array, chunk: Chunk, groups: int) -> Array:
    """Return the part (G, O/G, n, rows, cols) of y (N, O, OH, OW) that belongs to a chunk, as a view."""
    part = y[chunk.images, :, chunk.rows, chunk.cols]
    n, o, height, width = part.shape
    return part.reshape(n, groups, o // groups, height, width).transpose(1, 2, 0, 3, 4)
