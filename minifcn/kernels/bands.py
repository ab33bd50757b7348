"""Depthwise convolution as products with banded matrices.

Filters of a depthwise convolution are too small for matrix products with windows: each channel has one filter
w of its own, with KH KW taps. But the taps of a column b of the filter, slid over the rows of an image, are a
matrix T_b with a band of KH elements in each row. For a stride s, a dilation d and padding p,

    P_b = T_b x,   T_b[h, s h + d a - p] = w[a, b],        y[h, v]  =  sum over b of  P_b[h, s v + d b - p].

Most elements of T_b are zeros, but matrix products are so much faster than other operations of NumPy that
this pays. Rows are cut into blocks of a few outputs, so that the matrices are not much wider than their
bands. All T_b of a filter stand below each other, and so do all P_b. Where a group has several channels,
their matrices stand side by side.

Rows of P_b are stored without a gap, and the shift along them is a shift of the whole array. What it brings
in from a neighbouring row has to be zero; no output depends on those elements.

The gradient to the input takes transposed matrices and opposite shifts. The gradient to the filter is a sum
along the bands of a matrix: of the shifted gradients times the transposed image.
"""

from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Window
from minifcn.kernels.costs import Work
from minifcn.kernels.plans import Plan, Problem, add_bias, elapsed
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.windows import region
from minifcn.kernels.workspace import cut, workspace

CHUNK = 1 << 20
"""Elements of the products of a chunk, about, and of what is multiplied."""

ROWS = 8
FEW_ROWS = 16
LONG_ROW = 64
"""Rows of a block, at most: all of them if there are few, and half as many if they are long."""

FACTOR = 0.6
"""Of the estimated time: other algorithms take longer for groups of one channel than they estimate."""


class _Rows(NamedTuple):
    """How rows of one map, the target, depend on rows of another one, the source.

    Attributes:
        blocks: Number of blocks of target rows.
        size: Target rows of a block.
        first: The first source row of the first block; it may lie in the padding.
        step: Source rows between two blocks.
        reach: Source rows of a block.
        bands: Whether row `r` of a block depends on its source row `k` by tap `a`, (KH, size, reach).
    """

    blocks: int
    size: int
    first: int
    step: int
    reach: int
    bands: Array

    @property
    def sources(self) -> int:
        """Source rows of all blocks."""
        return (self.blocks - 1) * self.step + self.reach


def _rows(window: Window, sources: int, targets: int, most: int, turned: bool, dtype: Any) -> _Rows:
    """Return how outputs depend on inputs or, if turned, inputs on outputs."""
    stride, blocks = window.stride, -(-targets // most)
    size = -(-targets // blocks)
    if turned and blocks > 1:
        size = -(-size // stride) * stride  # all blocks begin with the same phase
        blocks = -(-targets // size)
    met = []
    for a in range(window.kernel):
        offset = a * window.dilation - window.padding[0]
        for r in range(size):
            source, rest = divmod(r - offset, stride) if turned else (stride * r + offset, 0)
            if rest == 0 and (blocks > 1 or 0 <= source < sources):
                met.append((a, r, source))
    first, reach, step = 0, sources, 0
    if blocks > 1:
        first = min(source for _, _, source in met)
        reach = max(source for _, _, source in met) - first + 1
        step = size // stride if turned else size * stride
    bands = np.zeros((window.kernel, size, reach), dtype)
    for a, r, source in met:
        bands[a, r, source - first] = 1
    return _Rows(blocks, size, first, step, reach, bands)


EVERYWHERE = slice(0, None)


class _Part(NamedTuple):
    """Elements of a flat P_b that are added to elements of the flat target."""

    column: int
    target: slice
    source: slice


def _shift(shift: int, step: int) -> tuple[slice, slice]:
    """Return the t, and step * t + shift, for which neither is outside of arrays of n and step * n."""
    if shift < 0:
        first = -(shift // step)
        return slice(first, None), slice(step * first + shift, shift, step)
    return slice(0, -(shift // step) or None), slice(shift, None, step)


class _Bands:
    """One of the three maps, prepared.

    Args:
        p: The problem.
        turned: Whether the map is the gradient to the input.
    """

    def __init__(self, p: Problem, turned: bool):
        self.p, self.xp, window = p, p.xp, p.geometry.cols
        self.inner, self.outer = p.group_channels, p.group_filters
        sizes = p.input_size, p.output_size
        if turned:
            self.inner, self.outer, sizes = self.outer, self.inner, sizes[::-1]
        (height, self.width), self.target = sizes
        targets = self.target[0]
        most = targets if targets <= FEW_ROWS else ROWS if self.width < LONG_ROW else ROWS // 2
        self.rows = _rows(p.geometry.rows, height, targets, most, turned, p.dtype)
        # Columns of P_b lie `step` apart for neighbouring targets, or are for one target of each phase.
        self.step, self.phases = (1, window.stride) if turned else (window.stride, 1)
        across = -(-self.target[1] // self.phases)
        self.length = -(-max(self.width, self.step * across) // self.step) * self.step
        # For each column of the filter the shift of P_b, and for each phase of the targets what is added.
        self.shifts: list[int] = []
        self.added: list[list[_Part]] = [[] for _ in range(self.phases)]
        for b in range(window.kernel):
            offset = b * window.dilation - window.padding[0]
            quotient, phase = divmod(offset, window.stride)
            phase, shift = (phase, -quotient) if turned else (0, offset)
            self.shifts.append(shift)
            if abs(shift) < self.length:
                self.added[phase].append(_Part(b, *_shift(shift, self.step)))
        for parts in self.added:
            parts.sort(key=lambda part: part.target != EVERYWHERE)
        planes = self.outer * self.rows.blocks * self.rows.size * self.length * (window.kernel + 1)
        matrices = self.inner * self.outer * window.kernel * self.rows.size * self.rows.reach
        self.elements = planes + matrices + self.inner * self.rows.sources * self.width  # of a group
        joined = max(min(p.images, CHUNK // self.elements), 1)
        self.joined = joined if p.xp is np else max(p.images, 1)  # images at once

    def groups(self) -> list[slice]:
        """Cut the groups into those of a chunk."""
        groups = self.p.groups
        if self.xp is not np:
            return [slice(0, groups)]
        count = -(-groups * self.elements * self.joined // CHUNK)
        if count > 1:  # smaller work is done before another thread has begun
            count += count % 2  # for two cores
        return list(cut(groups, -(-groups // count)))

    def images(self) -> list[slice]:
        """Cut the images into those that are computed at once."""
        return list(cut(self.p.images, self.joined))

    def part(self, x: Array, chunk: tuple[slice, slice]) -> Array:
        """Return some images and groups of x (N, C, H, W)."""
        images, groups = chunk
        count = x.shape[1] // self.p.groups
        part: Array = x[images, groups.start * count : groups.stop * count]
        return part

    def blocks_of(self, x: Array) -> Array:
        """Return the sources of all blocks, (n, G, blocks, C/G * reach, W), of x (n, C, H, W)."""
        rows, (images, channels, height, width) = self.rows, x.shape
        if rows.blocks == 1:
            return x.reshape(images, channels // self.inner, 1, self.inner * height, width)
        padded = workspace(self.xp, (images, channels, rows.sources, width), x.dtype, "rows")
        top, first = max(-rows.first, 0), max(rows.first, 0)
        here = x[:, :, first : rows.first + rows.sources]
        padded[:, :, :top] = padded[:, :, top + here.shape[2] :] = 0
        padded[:, :, top : top + here.shape[2]] = here
        image, channel, down, across = padded.strides
        shape = images, channels // self.inner, rows.blocks, self.inner, rows.reach, width
        strides = image, self.inner * channel, rows.step * down, channel, down, across
        blocks: Array = self.xp.lib.stride_tricks.as_strided(padded, shape, strides)
        return blocks.reshape(*shape[:3], -1, width)  # a view if groups have one channel

    def matrices(self, w: Array) -> Array:
        """Return T (KW, 1, G, 1, O * rows, C * reach) for filters (G, O, C, KH, KW)."""
        rows, (groups, outer, inner, height, columns) = self.rows, w.shape
        bands = self.xp.asarray(rows.bands).reshape(height, -1)
        # (KW * G * O * C, rows * reach) = (KW * G * O * C, KH) @ (KH, rows * reach)
        matrices: Array = w.transpose(4, 0, 1, 2, 3).reshape(-1, height) @ bands
        matrices = matrices.reshape(columns, groups, outer, inner, rows.size, rows.reach).swapaxes(3, 4)
        return matrices.reshape(columns, 1, groups, 1, outer * rows.size, inner * rows.reach)

    def clear(self, planes: Array) -> None:
        """Set elements of the P_b (KW, ..., length) to zero that shifts bring in from neighbouring rows."""
        if self.length > self.width:
            planes[..., self.width :] = 0
        for plane, shift in zip(planes, self.shifts, strict=True):
            if shift > 0:
                plane[..., :shift] = 0
            elif shift < 0:
                plane[..., shift:] = 0

    def multiply(self, x: Array, w: Array, y: Array) -> None:
        """Write the target y for sources x, and filters (G, target channels, source channels, KH, KW)."""
        xp, rows, images, columns = self.xp, self.rows, len(x), len(self.shifts)
        blocks = images, len(w), rows.blocks
        planes = workspace(xp, (columns, *blocks, self.outer * rows.size, self.length), x.dtype, "planes")
        # (KW, n, G, blocks, O * rows, W) = (KW, 1, G, 1, O * rows, C * reach) @ (n, G, blocks, C * reach, W)
        xp.matmul(self.matrices(w), self.blocks_of(x), out=planes[..., : self.width])
        self.clear(planes)
        across = self.length // self.step * self.phases
        shape = *blocks, self.outer, rows.size, across
        whole = (rows.blocks * rows.size, across) == self.target and 1 in (rows.blocks, self.outer)
        direct = whole and y[0].flags.c_contiguous
        total = y.reshape(shape) if direct else workspace(xp, shape, y.dtype, "total")
        flat, flat_planes = total.reshape(images, -1), planes.reshape(columns, images, -1)
        for phase, parts in enumerate(self.added):
            _add(xp, [(flat_planes[b], *places) for b, *places in parts], flat[:, phase :: self.phases])
        if not direct:
            # (n, G, blocks, O, rows, columns) -> (n, G * O, blocks * rows, columns)
            maps = total.swapaxes(2, 3).reshape(*y.shape[:2], -1, across)
            y[...] = maps[:, :, : y.shape[2], : y.shape[3]]

    def shifted(self, dy: Array) -> Array:
        """Return (n, G, blocks, O * KW * rows, W): for each b the elements of dy at the places of P_b."""
        rows, columns = self.rows, len(self.shifts)
        padded = region(dy, 0, 0, (rows.blocks * rows.size, self.length // self.step))
        shape = len(dy), dy.shape[1] // self.outer, rows.blocks, self.outer
        flat = padded.reshape(*shape[:2], self.outer, rows.blocks, -1).swapaxes(2, 3)
        planes = workspace(self.xp, (*shape, columns, rows.size, self.length), dy.dtype, "planes")
        if self.step > 1:
            planes[...] = 0
        flat_planes = planes.reshape(*shape, columns, -1)
        for b, target, source in self.added[0]:
            flat_planes[..., b, source] = flat[..., target]
        self.clear(planes.transpose(4, 0, 1, 2, 3, 5, 6))
        return planes.reshape(*shape[:3], -1, self.length)[..., : self.width]

    def taps(self, products: Array) -> Array:
        """Return the sums (G, O, C, KH, KW) along the bands of (n, G, blocks, O * KW * rows, C * reach)."""
        rows, (images, groups) = self.rows, products.shape[:2]
        shape = images, groups, rows.blocks, self.outer, len(self.shifts)
        products = products.reshape(*shape, rows.size, self.inner, rows.reach).swapaxes(5, 6)
        bands = self.xp.asarray(rows.bands).reshape(len(rows.bands), -1)
        # (n * G * blocks * O * KW * C, KH) = (n * G * blocks * O * KW * C, rows * reach) @ (rows * reach, KH)
        taps: Array = products.reshape(-1, bands.shape[1]) @ bands.T
        taps = taps.reshape(*shape, self.inner, -1).sum(axis=(0, 2))
        return taps.transpose(0, 1, 3, 4, 2)


def _add(xp: Any, parts: list[tuple[Array, slice, slice]], total: Array) -> None:
    """Write to `total` the sum of parts: arrays, where to add them, and which of their elements."""
    whole = [array[..., source] for array, target, source in parts[:2] if target == EVERYWHERE]
    if len(whole) == 2:
        xp.add(whole[0], whole[1], out=total)
    else:
        total[...] = whole[0] if whole else 0
    for array, target, source in parts[len(whole) :]:
        total[..., target] += array[..., source]


def _grouped(w: Array, groups: int) -> Array:
    return w.reshape(groups, -1, *w.shape[1:])  # (O, C/G, KH, KW) -> (G, O/G, C/G, KH, KW)


def _conv2d(bands: _Bands, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    filters, count = _grouped(w, bands.p.groups), bands.outer

    def outputs_of(chunk: tuple[slice, slice]) -> None:
        target, groups = bands.part(y, chunk), chunk[1]
        bands.multiply(bands.part(x, chunk), filters[groups], target)
        add_bias(target, None if b is None else b[groups.start * count : groups.stop * count], relu)

    parallel_map(outputs_of, product(bands.images(), bands.groups()), bands.xp)


def _input_grad(bands: _Bands, dy: Array, w: Array, dx: Array) -> None:
    filters = _grouped(w, bands.p.groups).swapaxes(1, 2)  # (G, C/G, O/G, KH, KW)

    def gradient_of(chunk: tuple[slice, slice]) -> None:
        bands.multiply(bands.part(dy, chunk), filters[chunk[1]], bands.part(dx, chunk))

    parallel_map(gradient_of, product(bands.images(), bands.groups()), bands.xp)


def _weight_grad(bands: _Bands, x: Array, dy: Array, dw: Array) -> None:
    grouped = _grouped(dw, bands.p.groups)

    def gradient_of(groups: slice) -> None:
        grouped[groups] = 0
        for images in bands.images():
            gradients = bands.shifted(bands.part(dy, (images, groups)))
            blocks = bands.blocks_of(bands.part(x, (images, groups))).swapaxes(3, 4)
            # (n, G, blocks, O * KW * rows, C * reach), the same @ (n, G, blocks, W, C * reach)
            grouped[groups] += bands.taps(bands.xp.matmul(gradients, blocks))

    parallel_map(gradient_of, bands.groups(), bands.xp)


def _plan(run: Any, turned: bool, p: Problem) -> Plan:
    bands = _Bands(p, turned)
    groups, rows = bands.groups(), bands.rows
    chunks = len(groups) * (1 if run is _weight_grad else len(bands.images()))
    maps = p.images * p.groups
    planes = maps * bands.outer * rows.blocks * rows.size * bands.length * p.geometry.kernel_size[1]
    matrices = p.groups * bands.inner * bands.outer * rows.size * rows.reach * p.geometry.kernel_size[1]
    work = Work(
        products=planes * bands.inner * rows.reach + matrices * p.geometry.kernel_size[0],
        operands=planes,
        copied=1.2 * planes,
        strided=planes * (0, 0.25, 1)[min(p.geometry.cols.stride, 3) - 1],
        calls=chunks * (16 + 4 * p.geometry.kernel_size[1]) + maps * rows.blocks / 10,
    )
    depthwise = bands.inner == bands.outer == 1  # other matrices would be mostly zeros without need
    work = work * (elapsed(chunks) * (FACTOR if depthwise else 10)) + Work(maps=chunks > 1)
    some = max(groups[0].stop if groups else 0, 1)
    space = 2 * bands.elements * bands.joined * some * p.dtype.itemsize
    return Plan("bands", p.dtype, work, space, partial(run, bands))


plan_conv2d = partial(_plan, _conv2d, False)
plan_input_grad = partial(_plan, _input_grad, True)
plan_weight_grad = partial(_plan, _weight_grad, False)
