"""Products with the columns of a kernel, shifted by its rows: for groups of few channels.

In `im2col` the matrix of a depthwise convolution has KH KW rows, all of them copies, and each is used for one
output. Here the input is copied once for each *column* of the kernel only, with its padding, in lines as long
as those of the output. A product with the KH x KW kernel gives KH partial results for every line. An output
is the sum of KH of them, of lines that lie a step apart: views of the product, shifted.

With a stride s, rows of the kernel that read the same phase of the input share a copy, as in `polyphase`:
with g = gcd(s, d), the rows a = j + s / g * m have lines that lie d / g apart. The gradient to the input is
such a sum for each phase of its rows and columns, over the taps in reverse.
"""

from functools import partial
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Window
from minifcn.kernels.costs import Work
from minifcn.kernels.plans import Plan, Problem, add_bias, elapsed
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.workspace import cut, workspace

CHUNK = 1 << 20
"""Elements of the copies of a chunk, about."""

JOINED = 1024
"""Outputs of a map: images with fewer are joined, so that products are not too thin."""


FEW_CHANNELS = 8
"""Groups of more channels or filters are left to other algorithms, whose chunks can be smaller."""


class _Taps(NamedTuple):
    """Taps along one axis that read inputs of one phase."""

    places: slice
    number: int
    first: int  # where the first of them meets the padded input
    step: int  # between their inputs, in strides


def _taps(window: Window) -> list[_Taps]:
    common = gcd(window.stride, window.dilation)
    period, step = window.stride // common, window.dilation // common
    starts = range(min(period, window.kernel))
    return [
        _Taps(slice(j, None, period), len(range(j, window.kernel, period)), j * window.dilation, step)
        for j in starts
    ]


def _overlap(first: int, stride: int, count: int, size: int) -> tuple[slice, slice]:
    """Return for which t < count first + stride * t lies in range(size), and where."""
    start = max(-(first // stride), 0)
    stop = max(min(-((first - size) // stride), count), start)
    place = first + stride * start
    return slice(start, stop), slice(place, place + stride * (stop - start), stride)


class _Copies:
    """Copies (C, columns, n, lines, OW) of maps x (n, C, H, W).

    Args:
        xp: The array library.
        x: Maps.
        row: Which row of x is the first line.
        columns: Which column of x is the first element of the lines, for each copy.
        stride: Of rows and columns.
        size: Rows and columns of the output.
        reach: By how many lines the taps of one column differ, at most.
    """

    def __init__(
        self,
        xp: Any,
        x: Array,
        row: int,
        columns: list[int],
        stride: tuple[int, int],
        size: tuple[int, int],
        reach: int,
    ):
        n, channels, height, width = x.shape
        self.xp, self.size = xp, size
        self.shape = channels, n, size[0] + reach, size[1]
        self.positions = ((n - 1) * self.shape[2] + size[0]) * size[1]
        lines = workspace(xp, (channels, len(columns), *self.shape[1:]), x.dtype, "copies")
        down, rows = _overlap(row, stride[0], self.shape[2], height)
        lines[:, :, :, : down.start] = lines[:, :, :, down.stop :] = 0
        # Lines as long as the rows of x are copied as a whole; what comes from the next row is cleared.
        whole = stride == (1, 1) and size[1] == width and x.strides[2] == width * x.strides[3]
        for copy, column in zip(lines.transpose(1, 2, 0, 3, 4), columns, strict=True):  # (n, C, lines, OW)
            across, cols = _overlap(column, stride[1], size[1], width)
            if whole and abs(column) < width:
                old, new = (array.reshape(n, channels, -1) for array in (x[:, :, rows], copy[:, :, down]))
                length = max(old.shape[2] - abs(column), 0)
                new[..., max(-column, 0) :][..., :length] = old[..., max(column, 0) :][..., :length]
            else:
                copy[:, :, down, across] = x[:, :, rows, cols]
            copy[..., : across.start] = copy[..., across.stop :] = 0
        self.flat = lines.reshape(channels, len(columns), -1)

    def shifted(self, lines: Array, first: int) -> Array:
        """Return the view (..., positions) of flat lines from one of them on."""
        return lines[..., first * self.size[1] :][..., : self.positions]

    def outputs(self, channels: int) -> tuple[Array, Array]:
        """Return an array (C, positions), and the view (n, C, OH, OW) of its elements."""
        maps = workspace(self.xp, (channels, *self.shape[1:]), self.flat.dtype, "outputs")
        flat = self.shifted(maps.reshape(channels, -1), 0)
        return flat, maps[:, :, : self.size[0]].transpose(1, 0, 2, 3)

    def sum(self, weights: Array, firsts: list[int], target: Array, *, add: bool = False) -> None:
        """Write sums over weights (G, O, C, rows, columns) to `target` (n, G * O, OH, OW), or add them.

        Args:
            weights: The weights; their columns are those of the copies.
            firsts: The line that the first outputs see at each row of the weights.
            target: Where to write.
            add: Whether to add instead.
        """
        groups, outputs, channels, rows, columns = weights.shape
        lines = self.flat.reshape(groups, channels * columns, -1)
        # (G, O, C, rows, columns) -> (G, rows * O, C * columns)
        matrix = weights.transpose(0, 3, 1, 2, 4).reshape(groups, rows * outputs, channels * columns)
        products = workspace(self.xp, (groups, rows, outputs, lines.shape[2]), lines.dtype, "products")
        self.xp.matmul(matrix, lines, out=products.reshape(groups, rows * outputs, -1))
        flat, maps = self.outputs(groups * outputs)
        if direct := len(target) == 1 and target.flags.c_contiguous and not add:
            flat = target
        total = flat.reshape(groups, outputs, -1)
        parts = [self.shifted(products[:, row], first) for row, first in enumerate(firsts)]
        if rows == 1:
            total[...] = parts[0]
        else:
            self.xp.add(parts[0], parts[1], out=total)
        for part in parts[2:]:
            total += part
        if add:
            target += maps
        elif not direct:
            target[...] = maps


def _cuts(p: Problem, size: tuple[int, int]) -> tuple[list[slice], list[slice], int]:
    """Cut the work on maps of a size into images and groups; return the elements of a chunk's copies, too."""
    joined = max(min(p.images, JOINED // max(prod(size), 1)), 1) if p.xp is np else p.images
    columns = p.geometry.cols.kernel * max(p.group_channels, p.group_filters)
    each = max(columns * joined * (size[0] + p.geometry.rows.extent) * size[1], 1)
    some = max(min(CHUNK // each, -(-p.groups // 2)), 1) if p.xp is np else p.groups
    return list(cut(p.images, joined)), list(cut(p.groups, some)), some * each


def _part(x: Array, images: slice, groups: slice, count: int) -> Array:
    """Return the channels of some groups, of so many channels each."""
    return x[images, groups.start * count : groups.stop * count]


def _grouped(w: Array, groups: int) -> Array:
    return w.reshape(groups, -1, *w.shape[1:])  # (O, C/G, KH, KW) -> (G, O/G, C/G, KH, KW)


def _copies_of(p: Problem, x: Array, taps: _Taps) -> _Copies:
    """Return the copies of an input for the rows of a kernel that share a phase."""
    (top, _), (left, _), window = p.geometry.rows.padding, p.geometry.cols.padding, p.geometry.cols
    columns = [b * window.dilation - left for b in range(window.kernel)]
    reach = taps.step * (taps.number - 1)
    return _Copies(p.xp, x, taps.first - top, columns, p.geometry.stride, p.output_size, reach)


def _conv2d(p: Problem, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    weights = _grouped(w, p.groups)

    def outputs_of(chunk: tuple[slice, slice]) -> None:
        images, groups = chunk
        target = _part(y, images, groups, p.group_filters)
        for number, taps in enumerate(_taps(p.geometry.rows)):
            copies = _copies_of(p, _part(x, images, groups, p.group_channels), taps)
            firsts = [taps.step * m for m in range(taps.number)]
            copies.sum(weights[groups, :, :, taps.places], firsts, target, add=number > 0)
        add_bias(target, None if b is None else _part(b[None], slice(None), groups, p.group_filters)[0], relu)

    parallel_map(outputs_of, product(*_cuts(p, p.output_size)[:2]), p.xp)


def _input_grad(p: Problem, dy: Array, w: Array, dx: Array) -> None:
    weights = _grouped(w, p.groups).transpose(0, 2, 1, 3, 4)  # (G, C/G, O/G, KH, KW)
    windows = p.geometry.rows, p.geometry.cols
    phases = list(product(*map(_taps, windows)))

    def gradient_of(chunk: tuple[slice, slice]) -> None:
        images, groups = chunk
        target = _part(dx, images, groups, p.group_channels)
        if len(phases) < prod(p.geometry.stride):
            target[...] = 0  # no tap meets the other phases
        for both in phases:
            # Of the elements first, first + stride, ..., the one number t meets output start + t at tap 0.
            firsts, starts, counts = [], [], []
            for taps, window, size in zip(both, windows, p.input_size, strict=True):
                first = (taps.first - window.padding[0]) % window.stride
                firsts.append(first)
                starts.append((first + window.padding[0] - taps.first) // window.stride)
                counts.append(len(range(first, size, window.stride)))
            if 0 in counts:
                continue
            rows, cols = both
            reach = rows.step * (rows.number - 1)
            columns = [starts[1] - cols.step * m for m in range(cols.number)]
            part = _part(dy, images, groups, p.group_filters)
            copies = _Copies(p.xp, part, starts[0] - reach, columns, (1, 1), (counts[0], counts[1]), reach)
            lines = [reach - rows.step * m for m in range(rows.number)]
            phase = target[:, :, firsts[0] :: windows[0].stride, firsts[1] :: windows[1].stride]
            copies.sum(weights[groups, :, :, rows.places, cols.places], lines, phase)

    parallel_map(gradient_of, product(*_cuts(p, p.input_size)[:2]), p.xp)


def _weight_grad(p: Problem, x: Array, dy: Array, dw: Array) -> None:
    grouped = _grouped(dw, p.groups)
    all_images, all_groups, _ = _cuts(p, p.output_size)

    def gradient_of(groups: slice) -> None:
        some = groups.stop - groups.start
        grouped[groups] = 0
        for images, taps in product(all_images, _taps(p.geometry.rows)):
            copies = _copies_of(p, _part(x, images, groups, p.group_channels), taps)
            flat, maps = copies.outputs(some * p.group_filters)
            flat[...] = 0
            maps[...] = _part(dy, images, groups, p.group_filters)
            outputs = flat.reshape(some, p.group_filters, -1)
            lines = copies.flat.reshape(some, -1, copies.flat.shape[2])
            rows = grouped[groups, :, :, taps.places]
            for m in range(taps.number):
                # (G, O, C * columns) = (G, O, positions) @ (G, positions, C * columns)
                seen = copies.shifted(lines, taps.step * m).transpose(0, 2, 1)
                rows[:, :, :, m] += p.xp.matmul(outputs, seen).reshape(rows[:, :, :, m].shape)

    parallel_map(gradient_of, all_groups, p.xp)


def _plan(run: Any, maps: str, p: Problem) -> Plan:
    size = getattr(p, maps)
    all_images, all_groups, copied = _cuts(p, size)
    chunks = len(all_images) * len(all_groups)
    kernel, phases = p.geometry.kernel_size, len(_taps(p.geometry.rows))
    outputs = p.images * p.filters * prod(p.output_size)
    copies = p.images * max(p.channels, p.filters) * kernel[1] * prod(p.output_size) * phases
    strided = 0.7 * copies if maps == "output_size" else 3 * p.images * p.channels * prod(size)
    work = Work(
        products=outputs * p.group_channels * p.geometry.taps,
        operands=copies + outputs * kernel[0],
        copied=1.2 * copies + 2 * outputs * kernel[0],
        strided=0 if p.geometry.stride == (1, 1) else strided,
        calls=chunks * phases * (20 + 6 * kernel[1]) + p.images * p.groups * phases / 8,
    )
    many = max(p.group_channels, p.group_filters) > FEW_CHANNELS
    work = work * (elapsed(chunks) * (10 if many else 1)) + Work(maps=1)
    space = copied + copied // kernel[1] * (kernel[0] + 1)  # copies, products and sums
    return Plan("taps", p.dtype, work, space * p.dtype.itemsize, partial(run, p))


plan_conv2d = partial(_plan, _conv2d, "output_size")
plan_input_grad = partial(_plan, _input_grad, "input_size")
plan_weight_grad = partial(_plan, _weight_grad, "output_size")
