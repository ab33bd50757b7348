"""Convolution with a stride, by blocks of as many rows and columns as the stride.

Cut the padded image into blocks of s x s numbers, s the stride. A window of k x k lies in m = ceil(k / s)
blocks in each direction, and the next window begins one block further. So with the numbers of a block as its
channels, the convolution is one of stride 1 with m x m taps, whose filters have zeros up to m s ("space to
depth"),

    y[i]  =  sum over a < m of  W[a] * block[i + a],        W[a, r] = w[a s + r],  r < s.

All taps multiply each block at once, and what they give is shifted and added. Where windows overlap and
filters are few, as in the gradient of FCN's upsampling, this saves most of the work of `im2col`, which copies
each number to all the windows that it lies in; here it is copied once.
"""

from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.im2col import (
    STRIP_BYTES,
    Strip,
    Windows,
    multiply_long,
)
from minifcn.kernels.padding import pad_or_crop
from minifcn.kernels.threads import GPU_STRIP_BYTES, parallel_map, pieces_of, shares_of, workspace


def fits(geometry: ConvGeometry) -> bool:
    """Return whether a convolution is of the kind that is computed here."""
    return geometry.rows.dilation == geometry.cols.dilation == 1


def taps(geometry: ConvGeometry) -> tuple[int, int]:
    """Return m, the blocks that a window covers, for rows and columns."""
    rows, cols = geometry.rows, geometry.cols
    return -(-rows.kernel // rows.stride), -(-cols.kernel // cols.stride)


class _Blocks:
    """The padded input of a convolution in blocks, a strip of output rows at a time.

    Args:
        x: (N, C, H, W).
        outputs: (OH, OW).
        geometry: Of the convolution.
    """

    def __init__(self, x: Array, outputs: tuple[int, int], geometry: ConvGeometry):
        self.xp = array_module(x=x)
        self.stride = s, t = geometry.rows.stride, geometry.cols.stride
        self.taps = taps(geometry)
        self.images, (self.height, self.width) = len(x), outputs
        self.across = self.width + self.taps[1] - 1
        self.numbers = x.shape[1] * s * t  # of a block
        # Each block is a window of s x s, and none overlap.
        unit = ConvGeometry(Window(s, s), Window(t, t), geometry.groups)
        self.windows = Windows(x, unit, (-geometry.rows.padding[0], -geometry.cols.padding[0]))

    def strips(self) -> list[Strip]:
        """Cut the rows of outputs of each image into strips."""
        limit = STRIP_BYTES // 4 if self.xp is np else GPU_STRIP_BYTES
        rows = max(limit // (self.windows.x.itemsize * self.numbers * self.across), 1)
        return [
            Strip(slice(n, n + 1), piece, slice(0, self.width))
            for n in range(self.images)
            for piece in pieces_of(self.height, rows)
        ]

    def columns(self, strip: Strip) -> Array:
        """Return the blocks that a strip needs, (G, C/G * s * s, blocks)."""
        rows = slice(strip.rows.start, strip.rows.stop + self.taps[0] - 1)
        return self.windows.columns(Strip(strip.images, rows, slice(0, self.across)))

    def grid(self, strip: Strip) -> tuple[int, int]:
        """Return how many rows and columns of blocks those are."""
        return strip.rows.stop - strip.rows.start + self.taps[0] - 1, self.across

    def shifted(self, maps: Array, strip: Strip, a: int, b: int) -> Array:
        """Return the part of maps (..., rows, columns) of blocks that tap (a, b) sees, as a view."""
        rows = strip.rows.stop - strip.rows.start
        view: Array = maps[..., a : a + rows, b : b + self.width]
        return view


def conv2d(x: Array, w: Array, geometry: ConvGeometry, b: Array | None, y: Array, relu: bool) -> None:
    """All taps times blocks, shifted and added, plus the bias."""
    xp, (rows, cols), groups = array_module(x=x), taps(geometry), geometry.groups
    per_group = len(w) // groups
    blocks = _Blocks(x, (y.shape[2], y.shape[3]), geometry)
    s, t = blocks.stride
    filled = pad_or_crop(w, 0, rows * s - w.shape[2], 0, cols * t - w.shape[3])
    # (G, O/G, C/G, m, s, m, s) -> (G, m * m * O/G, C/G * s * s)
    filters = filled.reshape(groups, per_group, w.shape[1], rows, s, cols, t).transpose(0, 3, 5, 1, 2, 4, 6)
    filters = filters.reshape(groups, rows * cols * per_group, -1)
    outputs = y.reshape(len(y), groups, per_group, *y.shape[2:])
    shift = None if b is None else b.reshape(groups, per_group, 1, 1)

    def strip_of_outputs(strip: Strip) -> None:
        columns = blocks.columns(strip)
        products = workspace(xp, (*filters.shape[:2], columns.shape[2]), x.dtype, "products")
        # (G, m * m * O/G, blocks) = (G, m * m * O/G, C/G * s * s) @ (G, C/G * s * s, blocks)
        xp.matmul(filters, columns, out=products)
        maps = products.reshape(groups, rows, cols, per_group, *blocks.grid(strip))
        total = blocks.shifted(maps[:, 0, 0], strip, 0, 0)
        for i in range(1, rows * cols):
            total += blocks.shifted(maps[:, i // cols, i % cols], strip, i // cols, i % cols)
        if shift is not None:
            total += shift
        if relu:
            xp.maximum(total, 0, out=total)
        outputs[strip.images.start, :, :, strip.rows] = total

    parallel_map(strip_of_outputs, blocks.strips(), xp)


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """Gradients, shifted to the blocks that each tap sees, times blocks, summed over strips."""
    xp, (rows, cols), groups = array_module(x=x, dy=dy), taps(geometry), geometry.groups
    per_group, channels = dy.shape[1] // groups, x.shape[1] // groups
    blocks = _Blocks(x, (dy.shape[2], dy.shape[3]), geometry)
    s, t = blocks.stride
    gradients = dy.reshape(len(dy), groups, per_group, *dy.shape[2:])
    strips = blocks.strips()
    shape = groups, rows * cols * per_group, channels * s * t

    def share_of_sum(share: slice) -> Array:
        total: Array = xp.zeros(shape, x.dtype)
        product = workspace(xp, shape, x.dtype, "product")
        for strip in strips[share]:
            maps = workspace(xp, (groups, rows, cols, per_group, *blocks.grid(strip)), x.dtype, "products")
            maps[...] = 0
            for i in range(rows * cols):
                part = blocks.shifted(maps[:, i // cols, i % cols], strip, i // cols, i % cols)
                part[...] = gradients[strip.images.start, :, :, strip.rows]
            # (G, m * m * O/G, C/G * s * s) = (G, m * m * O/G, blocks) @ (G, blocks, C/G * s * s)
            columns = blocks.columns(strip).transpose(0, 2, 1)
            multiply_long(xp, maps.reshape(*shape[:2], -1), columns, product)
            total += product
        return total

    totals = parallel_map(share_of_sum, pieces_of(len(strips), -(-len(strips) // shares_of(xp))), xp)
    dw: Any = sum(totals, xp.zeros(shape, x.dtype))
    # (G, m, m, O/G, C/G, s, s) -> (O, C/G, m * s, m * s), and without the taps that are no part of w
    dw = dw.reshape(groups, rows, cols, per_group, channels, s, t).transpose(0, 3, 4, 1, 5, 2, 6)
    dw = dw.reshape(groups * per_group, channels, rows * s, cols * t)
    whole: Array = xp.ascontiguousarray(dw[:, :, : geometry.rows.kernel, : geometry.cols.kernel])
    return whole
