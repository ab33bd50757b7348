"""The gradient to the input, and with it the transposed convolution, by phases: no zero is multiplied.

A transposed convolution of stride s is often drawn as zeros inserted between the inputs, followed by a
convolution: of all products only one in s * s does not multiply a zero. But an output at position u = s Q +
r, of *phase* r, only depends on the taps a with a d = r modulo s. For each phase these few taps form a small
convolution of stride 1 over the small input, and the results of all phases are interleaved:

    dx[s Q + r]  =  sum over m of  dy[Q - q - d' m] * w[j + s' m],

where, with g = gcd(s, d), s' = s / g and d' = d / g, the taps a = j + s' m, j < s', share the phase
r = j d mod s and the shift q = j d // s. Phases with equally many taps are channels of one convolution.
Without dilation there are at most two groups of them along an axis, so a 64 x 64 kernel of stride 32 is one 2
x 2 convolution with 32 * 32 times the channels. (Polyphase filters are textbook signal processing; Shi et al.
2016 call the interleaving a pixel shuffle.)
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import gcd, prod

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.costs import Work, copy, matmul
from minifcn.kernels.im2col import multiply, work_of_product
from minifcn.kernels.padding import pad_or_crop
from minifcn.kernels.plans import Plan, Problem, elapsed
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.windows import CALLS, LONG_RUN, Chunk, Windows, cut_rows
from minifcn.kernels.workspace import chunk_bytes, parts, workspace

FEW_PRODUCTS = 16
"""With so few products for an output, it does not matter that some are zero or that matrices are thin."""


MAX_PHASES = 4096
"""Of rows times columns: they are visited one after the other."""


@dataclass(frozen=True)
class _Phases:
    """Neighbouring phases along one axis whose taps have the same number and shift."""

    first_tap: int  # j of the first phase
    count: int
    taps: int  # the number of m
    first: int  # r of the first phase
    shift: int  # q


def _period(window: Window) -> int:
    """Return s', the distance between taps of one phase."""
    return window.stride // gcd(window.stride, window.dilation)


def _phases(window: Window) -> list[_Phases]:
    """Group the phases of a window by the number and the shift of their taps."""
    groups: list[_Phases] = []
    for tap in range(min(_period(window), window.kernel)):
        shift, phase = divmod(tap * window.dilation, window.stride)
        one = _Phases(tap, 1, -(-(window.kernel - tap) // _period(window)), phase, shift)
        last = groups[-1] if groups else None
        if last and (last.taps, last.shift, last.first + last.count) == (one.taps, shift, phase):
            groups[-1] = replace(last, count=last.count + 1)
        else:
            groups.append(one)
    return groups


@dataclass(frozen=True)
class _Part:
    """Phases of rows and columns with equally many taps: one small convolution of dy with stride 1.

    Attributes:
        rows: Phases of rows.
        cols: Phases of columns.
        unit: The window of the small convolution.
        products: Length of a sum, O/G * m * m.
        interleaved: Whether the product puts the phases of a column side by side, and not one after the
            other. Then there is little left to copy, but the matrices are thin.
    """

    rows: _Phases
    cols: _Phases
    unit: ConvGeometry
    products: int
    interleaved: bool

    def filters(self, w: Array, geometry: ConvGeometry) -> Array:
        """Return (G, C/G * phases * phases, products), or interleaved (G, C/G * phases, products, phases)."""
        xp, groups = array_module(w=w), geometry.groups
        rows, cols = (
            # The taps a = j + s' m as (phases, m), the last m first: correlation runs backwards.
            xp.arange(phases.first_tap, phases.first_tap + phases.count)[:, None]
            + _period(window) * xp.arange(phases.taps)[::-1]
            for phases, window in ((self.rows, geometry.rows), (self.cols, geometry.cols))
        )
        filters = w.reshape(groups, len(w) // groups, *w.shape[1:])
        # (G, O/G, C/G, phases, m, phases, m)
        taps = filters[..., rows[:, :, None, None], cols[None, None]]
        if self.interleaved:
            taps = taps.transpose(0, 2, 3, 1, 4, 6, 5)
            return taps.reshape(groups, -1, self.products, self.cols.count)
        return taps.transpose(0, 2, 3, 5, 1, 4, 6).reshape(groups, -1, self.products)

    def product(self, filters: Array, columns: Array, shape: tuple[int, ...]) -> Array:
        """Return filters times columns for blocks (C, Q, _, Q, _), as a view (C, Q, phases, Q, phases)."""
        xp, (groups, rows), positions = array_module(columns=columns), filters.shape[:2], columns.shape[2]
        if self.interleaved:
            product = workspace(xp, (groups, rows, positions, self.cols.count), columns.dtype, "product")
            # (G, C/G * phases, Q, phases) = (G, 1, Q, O/G * m * m) @ (G, C/G * phases, O/G * m * m, phases)
            xp.matmul(columns.transpose(0, 2, 1)[:, None], filters, out=product)
            product = product.reshape(-1, self.rows.count, shape[1], shape[3], self.cols.count)
            return product.transpose(0, 2, 1, 3, 4)
        product = workspace(xp, (groups, rows, positions), columns.dtype, "product")
        # (G, C/G * phases * phases, Q) = (G, C/G * phases * phases, O/G * m * m) @ (G, O/G * m * m, Q)
        xp.matmul(filters, columns, out=product)
        product = product.reshape(-1, self.rows.count, self.cols.count, shape[1], shape[3])
        return product.transpose(0, 3, 1, 4, 2)

    def windows(self, dy: Array, first: tuple[int, int]) -> Windows:
        """Return the windows of dy that the blocks Q from `first` on depend on."""
        top = first[0] - self.rows.shift - self.unit.rows.dilation * (self.rows.taps - 1)
        left = first[1] - self.cols.shift - self.unit.cols.dilation * (self.cols.taps - 1)
        return Windows(dy, self.unit, (top, left))


def _parts(geometry: ConvGeometry, group_filters: int) -> Iterator[_Part]:
    """Yield the small convolutions."""
    dilation = [w.dilation // gcd(w.stride, w.dilation) for w in (geometry.rows, geometry.cols)]  # d'
    for rows, cols in itertools.product(_phases(geometry.rows), _phases(geometry.cols)):
        unit = ConvGeometry.of((rows.taps, cols.taps), dilation=dilation, groups=geometry.groups)
        products = group_filters * unit.taps
        thin = products <= FEW_PRODUCTS or cols.count >= LONG_RUN
        yield _Part(rows, cols, unit, products, interleaved=geometry.cols.stride > 1 and thin)


class _Interleaving:
    """The parts of a problem, and the cut of its blocks Q into chunks.

    The input is cut into blocks of s x s positions, from the last one that begins in the padding or before.
    """

    def __init__(self, p: Problem):
        self.p, self.geometry = p, p.geometry
        if p.filters * p.group_channels <= FEW_PRODUCTS * p.groups:
            # With taps of zeros, so that all phases have equally many, one part is less work than four.
            windows = p.geometry.rows, p.geometry.cols
            kernel = [-(-window.kernel // _period(window)) * _period(window) for window in windows]
            self.geometry = p.geometry.replace(kernel_size=kernel)
        rows, cols = self.geometry.rows, self.geometry.cols
        # The first block, and how many of its rows and columns are padding.
        (row, self.top), (col, self.left) = (divmod(w.padding[0], w.stride) for w in (rows, cols))
        self.first = row, col
        height, width = self.top + p.input_size[0], self.left + p.input_size[1]
        self.blocks = -(-height // rows.stride), -(-width // cols.stride)
        self.parts = list(_parts(self.geometry, p.group_filters))
        # Phases, of rows times columns, that depend on any tap.
        self.covered = sum(part.rows.count * part.cols.count for part in self.parts)
        row_bytes = 4 * p.channels * rows.stride * cols.stride * self.blocks[1]
        # So many chunks that all cores have some.
        wanted = min(chunk_bytes(p.xp) // row_bytes, -(-p.images * self.blocks[0] // parts(p.xp)))
        self.chunks = cut_rows(p.images, *self.blocks, wanted)

    def filled(self, w: Array) -> Array:
        """Return w with the taps of zeros."""
        rows, cols = self.geometry.kernel_size
        return pad_or_crop(w, 0, rows - w.shape[2], 0, cols - w.shape[3])

    def write(self, block: Array, chunk: Chunk, dx: Array) -> None:
        """Write a block (C, Q, phases, Q, phases) to the rows of dx, without what lies in the padding."""
        stride, width = self.geometry.rows.stride, dx.shape[3]
        for phase in range(stride):
            start = chunk.rows.start * stride + phase - self.top  # row of dx; before 0 there is padding
            skip = max(-(start // stride), 0)
            rows = dx[chunk.images.start, :, start + skip * stride :: stride][:, : block.shape[1] - skip]
            some = block[:, skip : skip + rows.shape[1], phase]
            some = some.reshape(*rows.shape[:2], block.shape[3] * block.shape[4])  # (C, Q, columns)
            rows[...] = some[..., self.left : self.left + width]


def _place(part: _Part, phases: Array, block: Array) -> None:
    """Copy the phases (C, Q, phases, Q, phases) of a part to their place in a block."""
    rows, cols = (slice(phases.first, phases.first + phases.count) for phases in (part.rows, part.cols))
    place = block[:, :, rows, :, cols]
    if part.interleaved:
        place[...] = phases
    else:  # one phase at a time: NumPy copies short runs slowly
        for phase in range(part.cols.count):
            place[..., phase] = phases[..., phase]


def _input_grad(plan: _Interleaving, dy: Array, w: Array, dx: Array) -> None:
    p, (rows, cols) = plan.p, plan.geometry.stride
    xp, w = p.xp, plan.filled(w)
    ready = [(part, part.filters(w, plan.geometry), part.windows(dy, plan.first)) for part in plan.parts]
    if rows == cols == 1:  # there is one phase, and nothing to interleave
        ((_, filters, windows),) = ready
        multiply(filters, windows, None, dx)
        return

    def write_blocks(chunk: Chunk) -> None:
        # The order of dx, of which Q and phases are rows and columns.
        shape = p.channels, chunk.size[0], rows, chunk.size[1], cols
        block: Array | None = None
        for part, filters, windows in ready:
            phases = part.product(filters, windows.columns(chunk), shape)
            if part.interleaved and phases.shape == shape:
                block = phases  # all phases in order: there is nothing to copy
                break
            if block is None:
                block = workspace(xp, shape, dy.dtype, "block")
                if plan.covered < rows * cols:
                    block[...] = 0
            _place(part, phases, block)
        assert block is not None
        plan.write(block, chunk, dx)

    parallel_map(write_blocks, plan.chunks, xp)


def plan_input_grad(p: Problem) -> Plan | None:
    """One small convolution of stride 1 for each group of phases, interleaved chunk by chunk."""
    if prod(p.geometry.stride) > MAX_PHASES:
        return None
    plan = _Interleaving(p)
    stride, count = plan.geometry.stride, max(len(plan.chunks), 1)
    if stride == (1, 1):
        (part,) = plan.parts
        shape = p.images, p.channels, *p.input_size
        work, space = work_of_product(p, shape, p.group_channels, part.products, part.unit)
        turn = copy(2 * p.filters * p.column, 1) + Work(calls=20)
        return Plan("polyphase", p.dtype, work + turn, space, partial(_input_grad, plan))
    blocks = p.images * plan.blocks[0] * plan.blocks[1]
    work = copy(2 * p.channels * stride[0] * stride[1] * blocks, plan.blocks[1] * stride[1])
    work += Work(calls=(4 * stride[0] + (8 + CALLS) * len(plan.parts)) * count)
    for part in plan.parts:
        rows, cols = p.group_channels * part.rows.count, part.cols.count
        if part.interleaved:
            work += matmul(blocks // count, part.products, cols, p.groups * rows) * count
        else:
            work += matmul(rows * cols, part.products, blocks // count, p.groups) * count
        if len(plan.parts) > 1 or not part.interleaved:
            run = cols if part.interleaved else 1
            work += copy(p.groups * rows * cols * blocks, run) + Work(calls=cols * count)
        if part.products > p.group_filters:
            work += copy(p.groups * part.products * blocks, plan.blocks[1])
    values = p.channels * stride[0] * stride[1] + p.groups * max(part.products for part in plan.parts)
    space = 2 * values * blocks // count * p.dtype.itemsize
    turn = copy(2 * p.filters * p.column, 1) + Work(calls=20 * len(plan.parts))
    work = work * elapsed(count) + turn + Work(maps=1)
    return Plan("polyphase", p.dtype, work, space, partial(_input_grad, plan))
