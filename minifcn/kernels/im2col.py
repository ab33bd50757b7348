"""Convolution as one large matrix product, made strip by strip.

Written as columns, the windows of an image form a matrix with C KH KW rows and one column for each output
position; the filters times that matrix are the outputs ("im2col", Chellapilla et al. 2006). The whole matrix
is KH KW times as large as the image: more than a gigabyte for one layer of VGG16 at 500 x 375. So it is never
made whole. A *strip* of output positions at a time is copied into a small work space that stays in the cache,
multiplied, and forgotten. Strips are independent, so all cores work at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.padding import pad_or_crop
from minifcn.kernels.threads import GPU_STRIP_BYTES, parallel_map, pieces_of, shares_of, workspace

STRIP_BYTES = 1 << 23
"""Columns of one strip and what they are multiplied into: what a cache holds, and long enough for the work on
it to outweigh the few microseconds that each call of NumPy costs where threads take turns in Python."""

MIN_POSITIONS = 64
MAX_POSITIONS = 512
"""Output positions of a strip, at least: between these, as many as there are filters, which each strip reads
again. The columns of VGG16's first dense layer (7 x 7 on 512 channels) take 51 MB then."""

RUN = 16
"""Numbers side by side that are worth copying as one."""

STRIPS = 16
"""Strips at least, where there is much to do."""

MANY_WEIGHTS = 1 << 20
FEW = 4
"""So many weights are worth sharing, if there are fewer strips than this."""


FEW_RESULTS = 500
LONG = 1024
"""So few results, and so long a sum: see `multiply_long`."""


@dataclass(frozen=True)
class Strip:
    """Some output positions: whole images, or rows of one image, or a part of one row."""

    images: slice
    rows: slice
    cols: slice


def strips_of(xp: Any, shape: tuple[int, ...], bytes_each: int, wanted: int = STRIPS) -> list[Strip]:
    """Cut the outputs (N, O, OH, OW) into strips, given the bytes that one output position costs.

    There are as many as are wanted, or more, if there is much to do. The cut depends on sizes alone, never on
    the number of threads: so the result does not, either.
    """
    images, filters, height, width = shape
    # Fewer positions would read large filters from memory again and again for next to nothing.
    least = min(max(filters, MIN_POSITIONS), MAX_POSITIONS)
    most = max((STRIP_BYTES if xp is np else GPU_STRIP_BYTES) // bytes_each, least)
    # Small enough that cores which take them in turn finish at about the same time, if there is much to do.
    some = max(images * height * width // wanted, most // 8, least)
    positions = min(most, some) if xp is np else most
    if positions >= height * width:
        whole = slice(0, height), slice(0, width)
        return [Strip(piece, *whole) for piece in pieces_of(images, positions // max(height * width, 1))]
    return [
        Strip(slice(n, n + 1), rows, cols)
        for n in range(images)
        for rows in pieces_of(height, positions // width)
        for cols in pieces_of(width, positions if positions < width else width)
    ]


class Windows:
    """The windows of an image, as columns of a matrix, a strip at a time.

    Args:
        x: (N, C, H, W).
        geometry: Of the windows.
        first: Row and column of x where the first window begins; before 0 there is padding, and there are
            zeros on all sides.
    """

    def __init__(self, x: Array, geometry: ConvGeometry, first: tuple[int, int]):
        images, channels, *size = x.shape
        self.x = x.reshape(images, geometry.groups, channels // geometry.groups, *size)
        self.geometry, self.first = geometry, first
        self.xp = array_module(x=x)

    def columns(self, strip: Strip, channels: slice = slice(None)) -> Array:
        """Return the columns (G, C/G * KH * KW, positions) of a strip, for all channels or for some."""
        xp, rows, cols = self.xp, self.geometry.rows, self.geometry.cols
        x = self.x[strip.images, :, channels]
        n, groups, c = x.shape[:3]
        height, width = strip.rows.stop - strip.rows.start, strip.cols.stop - strip.cols.start
        top = self.first[0] + strip.rows.start * rows.stride
        tall = (height - 1) * rows.stride + rows.extent
        left = self.first[1] + strip.cols.start * cols.stride
        wide = (width - 1) * cols.stride + cols.extent
        part = self._part(x, top, tall, left, wide)
        shape = groups, c * rows.kernel * cols.kernel, n * height * width
        if n == rows.kernel == cols.kernel == rows.stride == cols.stride == 1:
            return part.reshape(shape)  # the pixels are the columns already
        image, group, channel, down, across = part.strides
        taps = (channel, rows.dilation * down, cols.dilation * across)
        places = (image, rows.stride * down, cols.stride * across)
        if cols.stride > 1 and cols.dilation == 1 and cols.kernel >= RUN:  # a row of a window is a run
            windows = workspace(
                xp, (groups, n, height, width, c, rows.kernel, cols.kernel), x.dtype, "columns"
            )
            windows[...] = xp.lib.stride_tricks.as_strided(part, windows.shape, (group, *places, *taps))
            # (G, n, rows, cols, C/G, KH, KW) -> (G, positions, C/G * KH * KW) -> its transpose
            return windows.reshape(groups, -1, shape[1]).transpose(0, 2, 1)
        columns = workspace(xp, (groups, c, rows.kernel, cols.kernel, n, height, width), x.dtype, "columns")
        columns[...] = xp.lib.stride_tricks.as_strided(part, columns.shape, (group, *taps, *places))
        return columns.reshape(shape)

    def _part(self, x: Array, top: int, tall: int, left: int, wide: int) -> Array:
        """Return `tall` rows and `wide` columns of x from a place on, with zeros where x has none."""
        height, width = x.shape[3:]
        start, stop = min(max(top, 0), height), max(min(top + tall, height), 0)
        begin, end = min(max(left, 0), width), max(min(left + wide, width), 0)
        within = x[..., start:stop, begin:end]
        if within.shape[3:] == (tall, wide):
            return within
        part = workspace(self.xp, (*x.shape[:3], tall, wide), x.dtype, "part")
        part[...] = 0
        part[..., start - top : stop - top, begin - left : end - left] = within
        return part


def windows_of(x: Array, geometry: ConvGeometry) -> Windows:
    """Return the windows of a convolution."""
    return Windows(x, geometry, (-geometry.rows.padding[0], -geometry.cols.padding[0]))


def _part(y: Array, strip: Strip, groups: int) -> Array:
    """Return the part (G, O/G, n, rows, cols) of y (N, O, OH, OW) that belongs to a strip, as a view."""
    part = y[strip.images, :, strip.rows, strip.cols]
    n, o, height, width = part.shape
    return part.reshape(n, groups, o // groups, height, width).transpose(1, 2, 0, 3, 4)


def _matrix(y: Array, strip: Strip, groups: int) -> Array:
    """Return that part as (G, O/G, positions): a view where the strip is rows of one image, else a copy."""
    part = _part(y, strip, groups)
    return part.reshape(*part.shape[:2], -1)


def conv2d(x: Array, w: Array, geometry: ConvGeometry, b: Array | None, y: Array, relu: bool) -> None:
    """Filters times columns, plus the bias."""
    groups = geometry.groups
    filters = w.reshape(groups, len(w) // groups, -1)  # (G, O/G, C/G * KH * KW)
    multiply(filters, windows_of(x, geometry), b, y, relu)


def multiply(filters: Array, windows: Windows, b: Array | None, y: Array, relu: bool = False) -> None:
    """Write filters (G, O/G, C/G * KH * KW) times windows, plus a bias (O,), to y (N, O, OH, OW)."""
    xp = array_module(y=y)
    groups, per_group, taps = filters.shape
    shift = None if b is None else b.reshape(groups, -1, 1)  # (O,) -> (G, O/G, 1)

    strips = strips_of(xp, y.shape, groups * (taps + per_group) * y.itemsize)
    rows_touch = y.strides[2] == y.shape[3] * y.strides[3]  # not so in every array that a user hands in
    # Few positions of many filters, as in dense layers: cores share the filters instead.
    many = xp is np and filters.size >= MANY_WEIGHTS
    parts = -(-FEW // len(strips)) if strips and many else 1
    blocks = list(pieces_of(per_group, -(-per_group // parts)))

    def share_of_outputs(share: tuple[Strip, slice]) -> None:
        strip, block = share
        part = _part(y, strip, groups)[:, block]
        columns = windows.columns(strip)
        # Rows of one image that lie one behind another: a view of them is a matrix.
        direct = rows_touch and part.shape[2] == 1 and strip.cols == slice(0, y.shape[3])
        shape = groups, part.shape[1], columns.shape[2]
        outputs = part.reshape(shape) if direct else workspace(xp, shape, y.dtype, "outputs")
        # (G, O/G, positions) = (G, O/G, C/G * KH * KW) @ (G, C/G * KH * KW, positions)
        xp.matmul(filters[:, block], columns, out=outputs)
        if shift is not None:
            outputs += shift[:, block]
        if relu:
            xp.maximum(outputs, 0, out=outputs)
        if not direct:
            part[...] = outputs.reshape(part.shape)

    parallel_map(share_of_outputs, [(strip, block) for strip in strips for block in blocks], xp)


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """Gradients of the outputs times columns, summed over strips."""
    xp = array_module(x=x, dy=dy)
    groups, filters = geometry.groups, dy.shape[1]
    windows = windows_of(x, geometry)
    kh, kw, channels = geometry.rows.kernel, geometry.cols.kernel, x.shape[1] // groups
    taps = kh * kw
    dw: Array = xp.empty((groups, filters // groups, channels * taps), x.dtype)
    # A share of the work is some channels of the filters and some of the strips; shares of the same channels
    # are added up in the end. Few channels give small sums, so they are cut into more sums.
    most = shares_of(xp)
    blocks = list(pieces_of(channels, max(-(-channels // most), -(-256 // taps))))
    numbers = channels * taps * groups // len(blocks) + filters
    strips = strips_of(xp, dy.shape, numbers * x.itemsize, -(-most // len(blocks)))
    sums = max(1, min(most // len(blocks), len(strips)))
    shares = [(block, part) for block in blocks for part in pieces_of(len(strips), -(-len(strips) // sums))]

    def share_of_sum(share: tuple[slice, slice]) -> Array:
        block, part = share
        columns_of_dw = dw[:, :, block.start * taps : block.stop * taps]
        # The first strips of each block are summed in place.
        total = columns_of_dw if part.start == 0 else xp.empty(columns_of_dw.shape, x.dtype)
        for i, strip in enumerate(strips[part]):
            gradient = _matrix(dy, strip, groups)
            columns = windows.columns(strip, block).transpose(0, 2, 1)
            # (G, O/G, C/G * KH * KW) = (G, O/G, positions) @ (G, positions, C/G * KH * KW)
            product = workspace(xp, total.shape, x.dtype, "product") if i else total
            multiply_long(xp, gradient, columns, product)
            if i:
                total += product
        return total

    totals = parallel_map(share_of_sum, shares, xp)
    for (block, part), total in zip(shares, totals, strict=True):
        if part.start:
            dw[:, :, block.start * taps : block.stop * taps] += total
    if not strips:
        dw[...] = 0
    return dw.reshape(filters, channels, kh, kw)


def multiply_long(xp: Any, a: Array, b: Array, out: Array) -> None:
    """Write a (G, O/G, positions) @ b (G, positions, taps) to out.

    NumPy keeps all other threads waiting during a product with few results, however long the sums are. So
    they are cut into parts, many products at once, and added up.
    """
    parts = a.shape[2] // LONG
    if xp is not np or out.size >= FEW_RESULTS or parts < 2:
        xp.matmul(a, b, out=out)
        return
    done = parts * LONG
    # (G, O/G, parts, LONG) -> (G, parts, O/G, LONG), and (G, parts, LONG, taps): views
    some = a[:, :, :done].reshape(*a.shape[:2], parts, LONG).transpose(0, 2, 1, 3)
    xp.sum(xp.matmul(some, b[:, :done].reshape(len(b), parts, LONG, -1)), axis=1, out=out)
    out += xp.matmul(a[:, :, done:], b[:, done:])


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Filters, transposed, times gradients are columns of gradients; each is added back into its window."""
    xp = array_module(dy=dy, w=w)
    (height, width), rows, cols, groups = input_size, geometry.rows, geometry.cols, geometry.groups
    channels = w.shape[1]
    # (O, C/G, KH, KW) -> (G, C/G, KH * KW, O/G)
    filters = w.reshape(groups, len(w) // groups, channels, -1).transpose(0, 2, 3, 1)
    dx: Array = xp.zeros(
        (len(dy), groups, channels, height + sum(rows.padding), width + sum(cols.padding)), dy.dtype
    )
    # Windows overlap, and so do strips here. What can be shared among cores are images and channels.
    blocks = list(pieces_of(channels, max(-(-channels * len(dy) // shares_of(xp)), 1)))
    bytes_each = (w[0].size * groups // len(blocks) + len(w)) * dy.itemsize
    strips = strips_of(xp, (1, *dy.shape[1:]), bytes_each, 1)
    shares = [(image, block) for image in range(len(dy)) for block in blocks]

    def share_of_windows(share: tuple[int, slice]) -> None:
        image, block = share
        part = dx[image, :, block]
        taps = filters[:, block].reshape(groups, -1, len(w) // groups)
        for strip in strips:
            gradient = _matrix(dy[image : image + 1], strip, groups)
            strip_height = strip.rows.stop - strip.rows.start
            strip_width = strip.cols.stop - strip.cols.start
            columns = workspace(xp, (groups, taps.shape[1], gradient.shape[2]), dy.dtype, "columns")
            # (G, C/G * KH * KW, positions) = (G, C/G * KH * KW, O/G) @ (G, O/G, positions)
            xp.matmul(taps, gradient, out=columns)
            windows = columns.reshape(groups, -1, rows.kernel, cols.kernel, strip_height, strip_width)
            for a in range(rows.kernel):
                for b in range(cols.kernel):
                    top = strip.rows.start * rows.stride + a * rows.dilation
                    left = strip.cols.start * cols.stride + b * cols.dilation
                    places = part[
                        :,
                        :,
                        top : top + (strip_height - 1) * rows.stride + 1 : rows.stride,
                        left : left + (strip_width - 1) * cols.stride + 1 : cols.stride,
                    ]
                    places += windows[:, :, a, b]  # `part[...] +=` would be a copy more in CuPy

    parallel_map(share_of_windows, shares, xp)
    dx = dx.reshape(len(dy), groups * channels, *dx.shape[3:])
    return pad_or_crop(dx, *(-side for side in (*rows.padding, *cols.padding)))
