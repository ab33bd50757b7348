"""Convolution with a stride s, on blocks of s x s elements.

Cut the padded image into blocks of s x s elements. A window of k x k lies in m = ceil(k / s) blocks along
each axis, and the next window begins one block further. So with the elements of a block as its channels, the
convolution is one of stride 1 with m x m taps, whose filters are padded with zeros to m s ("space to depth"),

    y[i]  =  sum over a < m of  W[a] * block[i + a],        W[a, r] = w[a s + r],  r < s.

All taps multiply each block at once, and their products are shifted and added. Where windows overlap and
filters are few, as in the gradient of FCN's upsampling, this saves most of the work of `im2col`, which copies
each element to all the windows that it lies in; here it is copied once.
"""

from functools import partial
from math import prod
from typing import Any

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry
from minifcn.kernels.costs import Work, copy, matmul
from minifcn.kernels.im2col import multiply_long
from minifcn.kernels.padding import pad_or_crop
from minifcn.kernels.plans import Plan, Problem, elapsed, rectify
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.windows import CALLS, Chunk, Windows, cut_rows, run_length
from minifcn.kernels.workspace import chunk_bytes, cut, parts, workspace


class _Blocks:
    """The sizes of a convolution in blocks, and the cut of its output rows into chunks."""

    def __init__(self, p: Problem):
        self.p, rows, cols = p, p.geometry.rows, p.geometry.cols
        self.stride = p.geometry.stride
        self.taps = -(-rows.kernel // rows.stride), -(-cols.kernel // cols.stride)  # m
        # Each block is a window of s x s, and none overlap.
        self.unit = ConvGeometry.of(self.stride, self.stride, groups=p.groups)
        self.height, self.width = p.output_size
        self.across = self.width + self.taps[1] - 1  # blocks in a row
        self.filters = prod(self.taps) * p.group_filters  # of a group, for all taps at once
        self.block = p.group_channels * prod(self.stride)  # elements of a block and a group
        row_bytes = p.dtype.itemsize * p.groups * self.block * self.across
        self.chunks = cut_rows(p.images, self.height, self.width, chunk_bytes(p.xp) // 4 // row_bytes)

    def windows(self, x: Array) -> Windows:
        """Return the blocks of x as windows."""
        return Windows(x, self.unit, (-self.p.geometry.rows.padding[0], -self.p.geometry.cols.padding[0]))

    def grid(self, chunk: Chunk) -> tuple[int, int]:
        """Return how many rows and columns of blocks a chunk needs."""
        return chunk.size[0] + self.taps[0] - 1, self.across

    def columns(self, windows: Windows, chunk: Chunk) -> Array:
        """Return these blocks, (G, C/G * s * s, blocks)."""
        rows = slice(chunk.rows.start, chunk.rows.start + self.grid(chunk)[0])
        return windows.columns(Chunk(chunk.images, rows, slice(0, self.across)))

    def shifted(self, maps: Array, chunk: Chunk, tap: int) -> Array:
        """Return the part of maps (G, m * m, O/G, rows, columns) of blocks that a tap sees, as a view."""
        a, b = divmod(tap, self.taps[1])
        view: Array = maps[:, tap, :, a : a + chunk.size[0], b : b + self.width]
        return view

    def work(self, sums: int) -> tuple[Work, int]:
        """Return work and workspace of one map, in which so many chunks run independently."""
        p, chunks = self.p, max(len(self.chunks), 1)
        blocks = p.images * (self.height + chunks // max(p.images, 1) * (self.taps[0] - 1)) * self.across
        product = matmul(self.filters, self.block, blocks // chunks, p.groups) * chunks
        copies = copy(p.groups * self.block * blocks, run_length(self.unit, self.across))
        calls = Work(calls=(6 + CALLS + 3 * prod(self.taps)) * chunks)
        shift = copy(2 * p.groups * self.filters * blocks, self.width) + calls
        space = p.groups * (self.block + self.filters) * blocks // chunks * p.dtype.itemsize
        return (product + copies + shift) * elapsed(sums) + Work(maps=1), space


def _conv2d(blocks: _Blocks, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    p, (rows, cols), (s, t) = blocks.p, blocks.taps, blocks.stride
    xp, groups, per_group = p.xp, p.groups, p.group_filters
    filled = pad_or_crop(w, 0, rows * s - w.shape[2], 0, cols * t - w.shape[3])
    # (G, O/G, C/G, m, s, m, s) -> (G, m * m * O/G, C/G * s * s)
    filters = filled.reshape(groups, per_group, w.shape[1], rows, s, cols, t).transpose(0, 3, 5, 1, 2, 4, 6)
    filters = filters.reshape(groups, blocks.filters, blocks.block)
    outputs = y.reshape(len(y), groups, per_group, *y.shape[2:])
    shift = None if b is None else b.reshape(groups, per_group, 1, 1)
    windows = blocks.windows(x)

    def outputs_of(chunk: Chunk) -> None:
        columns = blocks.columns(windows, chunk)
        products = workspace(xp, (*filters.shape[:2], columns.shape[2]), x.dtype, "products")
        # (G, m * m * O/G, blocks) = (G, m * m * O/G, C/G * s * s) @ (G, C/G * s * s, blocks)
        xp.matmul(filters, columns, out=products)
        maps = products.reshape(groups, rows * cols, per_group, *blocks.grid(chunk))
        total = blocks.shifted(maps, chunk, 0)
        for tap in range(1, rows * cols):
            total += blocks.shifted(maps, chunk, tap)
        if shift is not None:
            total += shift
        if relu:
            rectify(total, total)
        outputs[chunk.images.start, :, :, chunk.rows] = total

    parallel_map(outputs_of, blocks.chunks, xp)


def _weight_grad(blocks: _Blocks, x: Array, dy: Array, dw: Array) -> None:
    p, (rows, cols), (s, t) = blocks.p, blocks.taps, blocks.stride
    xp, groups, per_group = p.xp, p.groups, p.group_filters
    gradients = dy.reshape(len(dy), groups, per_group, *dy.shape[2:])
    shape = groups, blocks.filters, blocks.block
    windows = blocks.windows(x)

    def partial_sum(some: slice) -> Array:
        total: Array = xp.zeros(shape, x.dtype)
        product = workspace(xp, shape, x.dtype, "product")
        for chunk in blocks.chunks[some]:
            maps = workspace(xp, (groups, rows * cols, per_group, *blocks.grid(chunk)), x.dtype, "products")
            maps[...] = 0
            for tap in range(rows * cols):
                blocks.shifted(maps, chunk, tap)[...] = gradients[chunk.images.start, :, :, chunk.rows]
            # (G, m * m * O/G, C/G * s * s) = (G, m * m * O/G, blocks) @ (G, blocks, C/G * s * s)
            columns = blocks.columns(windows, chunk).transpose(0, 2, 1)
            multiply_long(xp, maps.reshape(*shape[:2], -1), columns, product)
            total += product
        return total

    sums = parallel_map(partial_sum, _sums(blocks), xp)
    total: Any = sum(sums, xp.zeros(shape, x.dtype))
    # (G, m, m, O/G, C/G, s, s) -> (O, C/G, m * s, m * s), and without the taps that are no part of w
    total = total.reshape(groups, rows, cols, per_group, -1, s, t).transpose(0, 3, 4, 1, 5, 2, 6)
    dw[...] = total.reshape(*dw.shape[:2], rows * s, cols * t)[:, :, : dw.shape[2], : dw.shape[3]]


def _sums(blocks: _Blocks) -> list[slice]:
    """Cut the chunks among which the gradient to the weight is a sum."""
    count = len(blocks.chunks)
    return list(cut(count, -(-count // parts(blocks.p.xp))))


def _fits(p: Problem) -> bool:
    """Return whether no element of a block lies between two windows, where filters would be mostly zeros."""
    gaps = any(window.stride > window.kernel for window in (p.geometry.rows, p.geometry.cols))
    return p.geometry.dilation == (1, 1) and not gaps


def plan_conv2d(p: Problem) -> Plan | None:
    """All taps times blocks, shifted and added, plus the bias."""
    if not _fits(p):
        return None
    blocks = _Blocks(p)
    work, space = blocks.work(len(blocks.chunks))
    return Plan("blocks", p.dtype, work, space, partial(_conv2d, blocks))


def plan_weight_grad(p: Problem) -> Plan | None:
    """Gradients, shifted to the blocks that each tap sees, times blocks, summed over chunks."""
    if not _fits(p):
        return None
    blocks = _Blocks(p)
    sums = _sums(blocks)
    work, space = blocks.work(len(sums))
    add = copy(2 * p.groups * blocks.filters * blocks.block, blocks.block) * (len(sums) + 1)
    return Plan("blocks", p.dtype, work + add, space, partial(_weight_grad, blocks))
