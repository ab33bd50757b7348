"""Convolution as matrix products with columns, one chunk of positions at a time.

The mathematics is that of `plain`. But the matrix of all columns is KH KW times as large as the images: more
than a gigabyte for one layer of VGG16 at 500 x 375. So it is never made whole. The columns of a chunk of
positions are copied to a small workspace that stays in the cache, and multiplied. All cores work at once,
since chunks are independent.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry
from minifcn.kernels.costs import Work, copy, matmul
from minifcn.kernels.padding import padded_zeros
from minifcn.kernels.plans import Plan, Problem, elapsed, rectify
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.windows import CALLS, Chunk, Windows, cut_positions, matrix, part_of, places, run_length
from minifcn.kernels.workspace import cut, parts, workspace

MANY_WEIGHTS = 1 << 20
FEW_CHUNKS = 4
"""With fewer chunks of positions than this, threads share the filters, if there are so many weights."""

FEW_RESULTS = 500
LONG_SUM = 1024
"""Products with so few results and so long sums are cut; see `multiply_long`."""


def _cut_outputs(
    xp: Any, shape: tuple[int, ...], groups: int, per_group: int, column: int, itemsize: int
) -> tuple[list[tuple[Chunk, slice]], int]:
    """Cut outputs (N, O, OH, OW) into positions and filters of a group; return the workspace, too."""
    bytes_each = groups * (column + per_group) * itemsize
    chunks = cut_positions(xp, shape, bytes_each)
    many = xp is np and groups * per_group * column >= MANY_WEIGHTS
    count = -(-FEW_CHUNKS // len(chunks)) if chunks and many else 1
    filters = list(cut(per_group, -(-per_group // count)))
    positions = shape[0] * shape[2] * shape[3] // max(len(chunks), 1)
    return [(chunk, some) for chunk in chunks for some in filters], positions * bytes_each


def multiply(filters: Array, windows: Windows, b: Array | None, y: Array, relu: bool = False) -> None:
    """Write filters (G, O/G, C/G * KH * KW) times windows, plus a bias (O,), to y (N, O, OH, OW)."""
    xp, (groups, per_group, column) = windows.xp, filters.shape
    shift = None if b is None else b.reshape(groups, -1, 1)  # (O,) -> (G, O/G, 1)
    rows_touch = y.strides[2] == y.shape[3] * y.strides[3]  # not so in a part of a larger array

    def outputs_of(chunk_and_filters: tuple[Chunk, slice]) -> None:
        chunk, some = chunk_and_filters
        part = part_of(y, chunk, groups)[:, some]
        columns = windows.columns(chunk)
        # Rows of one image that are contiguous: a view of them is a matrix.
        direct = rows_touch and part.shape[2] == 1 and chunk.cols == slice(0, y.shape[3])
        shape = groups, part.shape[1], columns.shape[2]
        outputs = part.reshape(shape) if direct else workspace(xp, shape, y.dtype, "outputs")
        # (G, O/G, positions) = (G, O/G, C/G * KH * KW) @ (G, C/G * KH * KW, positions)
        xp.matmul(filters[:, some], columns, out=outputs)
        if shift is not None:
            outputs += shift[:, some]
        if relu:
            rectify(outputs, outputs)
        if not direct:
            part[...] = outputs.reshape(part.shape)

    chunks, _ = _cut_outputs(xp, y.shape, groups, per_group, column, y.itemsize)
    parallel_map(outputs_of, chunks, xp)


def work_of_product(
    p: Problem, shape: tuple[int, ...], per_group: int, column: int, unit: ConvGeometry
) -> tuple[Work, int]:
    """Return the work and the workspace of `multiply` for outputs (N, O, OH, OW) with the window `unit`."""
    chunks, space = _cut_outputs(p.xp, shape, p.groups, per_group, column, p.dtype.itemsize)
    positions = shape[0] * shape[2] * shape[3]
    pixels = unit.taps == unit.rows.stride == unit.cols.stride == 1
    count = max(len(chunks), 1)
    filters = chunks[0][1].stop if chunks else 1  # of a chunk and a group
    times = -(-per_group // filters)  # that each column is copied
    product = matmul(filters, column, positions * times // count, p.groups) + Work(calls=5 + CALLS)
    copies = Work() if pixels else copy(times * p.groups * column * positions, run_length(unit, shape[3]))
    return (product * count + copies) * elapsed(len(chunks)) + Work(maps=1), space


def _conv2d(geometry: ConvGeometry, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    filters = w.reshape(geometry.groups, len(w) // geometry.groups, -1)  # (G, O/G, C/G * KH * KW)
    multiply(filters, Windows.of(x, geometry), b, y, relu)


def plan_conv2d(p: Problem) -> Plan:
    """Filters times columns, plus the bias."""
    work, space = work_of_product(p, p.output_shape, p.group_filters, p.column, p.geometry)
    return Plan("im2col", p.dtype, work, space, partial(_conv2d, p.geometry))


class _PartOfSum(NamedTuple):
    """Some input channels of all filters, and the positions over which one thread sums for them."""

    channels: slice
    chunks: list[Chunk]
    first: bool  # of these channels: its sum is made in place, and the others are added to it


def _cut_sum(p: Problem) -> list[_PartOfSum]:
    """Cut the sum of the gradient to the weight by channels and, where these are few, by positions."""
    wanted, taps = parts(p.xp), p.geometry.taps
    # Products with fewer than 256 rows of dw are slow.
    channels = list(cut(p.group_channels, max(-(-p.group_channels // wanted), -(-256 // taps))))
    per_position = p.column * p.groups // len(channels) + p.filters
    chunks = cut_positions(p.xp, p.output_shape, per_position * p.dtype.itemsize, -(-wanted // len(channels)))
    sums = max(1, min(wanted // len(channels), len(chunks)))
    return [
        _PartOfSum(some, chunks[positions], positions.start == 0)
        for some in channels
        for positions in cut(len(chunks), -(-len(chunks) // sums))
    ]


def _weight_grad(geometry: ConvGeometry, plan: list[_PartOfSum], x: Array, dy: Array, dw: Array) -> None:
    windows = Windows.of(x, geometry)
    xp, groups, taps = windows.xp, geometry.groups, geometry.taps
    whole = dw.reshape(groups, len(dw) // groups, -1)  # (G, O/G, C/G * KH * KW), a view

    def view(part: _PartOfSum) -> Array:
        """Return the part of dw for the channels of a part of the sum."""
        return whole[:, :, part.channels.start * taps : part.channels.stop * taps]

    def partial_sum(part: _PartOfSum) -> Array:
        total: Array = view(part) if part.first else xp.empty(view(part).shape, dw.dtype)
        for chunk in part.chunks:
            columns = windows.columns(chunk, part.channels).transpose(0, 2, 1)
            begun = chunk is not part.chunks[0]
            product = workspace(xp, total.shape, dw.dtype, "product") if begun else total
            # (G, O/G, C/G * KH * KW) = (G, O/G, positions) @ (G, positions, C/G * KH * KW)
            multiply_long(xp, matrix(dy, chunk, groups), columns, product)
            if begun:
                total += product
        return total

    sums = parallel_map(partial_sum, plan, xp)
    for part, total in zip(plan, sums, strict=True):
        if not part.first:
            view(part)[...] += total
    if not plan:
        dw[...] = 0


def plan_weight_grad(p: Problem) -> Plan:
    """Gradients of the outputs times columns, summed over chunks."""
    plan = _cut_sum(p)
    chunks = sum(len(part.chunks) for part in plan)
    sums = sum(not part.first for part in plan)
    channels = len(plan) - sums
    width, positions = p.column // max(channels, 1), p.positions * channels // max(chunks, 1)
    product = matmul(p.group_filters, positions, width, p.groups) * chunks
    add = copy(p.filters * width, width) * (chunks - len(plan))
    work = copy(p.groups * p.column * p.positions, run_length(p.geometry, p.output_size[1])) + product + add
    work = (work + Work(calls=(6 + CALLS) * chunks)) * elapsed(len(plan))
    work += copy(p.filters * width, width) * sums
    space = (p.groups * width * positions + p.filters * (positions + width)) * p.dtype.itemsize
    return Plan("im2col", p.dtype, work + Work(maps=1), space, partial(_weight_grad, p.geometry, plan))


def multiply_long(xp: Any, a: Array, b: Array, out: Array) -> None:
    """Write a (G, O/G, positions) @ b (G, positions, taps) to out.

    NumPy keeps the interpreter's lock during a product with few results, however long the sums are. So they
    are cut into parts, many products at once, and added.
    """
    count = a.shape[2] // LONG_SUM
    if xp is not np or out.size >= FEW_RESULTS or count < 2:
        xp.matmul(a, b, out=out)
        return
    done = count * LONG_SUM
    # (G, O/G, count, LONG_SUM) -> (G, count, O/G, LONG_SUM), and (G, count, LONG_SUM, taps): views
    some = a[:, :, :done].reshape(*a.shape[:2], count, LONG_SUM).transpose(0, 2, 1, 3)
    xp.sum(xp.matmul(some, b[:, :done].reshape(len(b), count, LONG_SUM, -1)), axis=1, out=out)
    out += xp.matmul(a[:, :, done:], b[:, done:])


def _cut_windows(p: Problem) -> tuple[list[tuple[int, slice]], list[Chunk]]:
    """Cut the gradient to the input: windows overlap, so threads share images and channels, not positions."""
    channels = list(cut(p.group_channels, max(-(-p.group_channels * p.images // parts(p.xp)), 1)))
    bytes_each = (p.column * p.groups // len(channels) + p.filters) * p.dtype.itemsize
    chunks = cut_positions(p.xp, (1, *p.output_shape[1:]), bytes_each, 1)
    return [(image, some) for image in range(p.images) for some in channels], chunks


def _input_grad(p: Problem, dy: Array, w: Array, dx: Array) -> None:
    xp, groups = p.xp, p.groups
    # (O, C/G, KH, KW) -> (G, C/G, KH * KW, O/G)
    filters = w.reshape(groups, p.group_filters, p.group_channels, -1).transpose(0, 2, 3, 1)
    padded, inside = padded_zeros(dx, p.geometry)
    by_group = padded.reshape(p.images, groups, p.group_channels, *padded.shape[2:])  # a view
    tasks, chunks = _cut_windows(p)

    def add_to_windows(task: tuple[int, slice]) -> None:
        image, channels = task
        part = by_group[image, :, channels]
        taps = filters[:, channels].reshape(groups, -1, p.group_filters)
        for chunk in chunks:
            gradient = matrix(dy[image : image + 1], chunk, groups)
            columns = workspace(xp, (groups, taps.shape[1], gradient.shape[2]), dy.dtype, "columns")
            # (G, C/G * KH * KW, positions) = (G, C/G * KH * KW, O/G) @ (G, O/G, positions)
            xp.matmul(taps, gradient, out=columns)
            windows = columns.reshape(groups, -1, p.geometry.taps, *chunk.size)
            for tap, place in enumerate(places(part, p.geometry, chunk)):
                place += windows[:, :, tap]

    parallel_map(add_to_windows, tasks, xp)
    dx[...] = inside


def plan_input_grad(p: Problem) -> Plan:
    """Transposed filters times gradients are columns of gradients; each is added back to its window."""
    tasks, chunks = _cut_windows(p)
    runs, once = len(tasks) * len(chunks), p.images * len(chunks)
    column, positions = p.column * once // max(runs, 1), p.positions // max(once, 1)
    product = matmul(column, p.group_filters, positions, p.groups) * runs
    run = p.output_size[1] if p.geometry.cols.stride == 1 else 1
    add = copy(2 * p.groups * p.column * p.positions, run) + Work(calls=(2 * p.geometry.taps + 4) * runs)
    crop = copy(2 * p.images * p.channels * p.input_size[0] * p.input_size[1], p.input_size[1])
    space = (p.groups * column + p.filters) * positions * p.dtype.itemsize
    work = (product + add) * elapsed(len(tasks)) + crop + Work(maps=1)
    return Plan("im2col", p.dtype, work, space, partial(_input_grad, p))
