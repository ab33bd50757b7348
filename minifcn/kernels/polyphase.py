"""The gradient to the input, and with it the transposed convolution, by phases: no zero is multiplied.

A transposed convolution of stride s is often drawn as zeros inserted between the inputs, followed by a
convolution: of all products only one in s * s meets something else than a zero. But an output at position
u = s Q + r, of *phase* r, only ever meets the taps a with a d = r modulo s. For each phase these few taps
form a small convolution of stride 1 over the small input, and the results of all phases are interleaved:

    dx[s Q + r]  =  sum over m of  dy[Q - q - d' m] * w[j + s' m],

where, with g = gcd(s, d), s' = s / g and d' = d / g, the taps a = j + s' m, j < s', share the phase
r = j d mod s and the shift q = j d // s. Phases with equally many taps are channels of one convolution: at
most two groups an axis without dilation, so a 64 x 64 kernel of stride 32 is one 2 x 2 convolution with
32 * 32 times the channels. (Polyphase filters are textbook signal processing; Shi et al. 2016 call the
interleaving a pixel shuffle.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.im2col import (
    RUN,
    STRIP_BYTES,
    Strip,
    Windows,
    multiply,
)
from minifcn.kernels.padding import pad_or_crop
from minifcn.kernels.threads import GPU_STRIP_BYTES, parallel_map, pieces_of, shares_of, workspace

FEW_PRODUCTS = 16
"""So few products of an output that they do not matter, nor whether the matrices are thin."""


@dataclass(frozen=True)
class _Phases:
    """Neighbouring phases along one axis whose taps are alike."""

    first_tap: int  # j of the first of them
    count: int
    taps: int  # the number of m
    phase: int  # r of the first of them
    shift: int  # q


def _phases(window: Window) -> list[_Phases]:
    """Group the phases of a window by the number and the shift of their taps."""
    period = window.stride // gcd(window.stride, window.dilation)
    groups: list[_Phases] = []
    for tap in range(min(period, window.kernel)):
        shift, phase = divmod(tap * window.dilation, window.stride)
        one = _Phases(tap, 1, -(-(window.kernel - tap) // period), phase, shift)
        last = groups[-1] if groups else None
        if last and (last.taps, last.shift, last.phase + last.count) == (one.taps, shift, phase):
            groups[-1] = replace(last, count=last.count + 1)
        else:
            groups.append(one)
    return groups


@dataclass(frozen=True)
class _Part:
    """Phases of rows and columns with equally many taps: one small convolution."""

    rows: slice  # its phases
    cols: slice
    filters: Array  # (G, C/G * phases * phases, O/G * m * m), or as below
    windows: Windows  # of dy
    side_by_side: bool
    """Whether the phases of columns come out of the product side by side, and not one after the other: then
    the filters are (G, C/G * phases of rows, O/G * m * m, phases of columns)."""


def _parts(dy: Array, w: Array, geometry: ConvGeometry, first: tuple[int, int]) -> Iterator[_Part]:
    """Yield the small convolutions, which give the outputs Q from `first` on."""
    xp = array_module(dy=dy, w=w)
    axes = (geometry.rows, geometry.cols)
    period = [window.stride // gcd(window.stride, window.dilation) for window in axes]
    dilation = [window.dilation // gcd(window.stride, window.dilation) for window in axes]
    groups = geometry.groups
    filters = w.reshape(groups, len(w) // groups, w.shape[1], *w.shape[2:])
    for a in _phases(geometry.rows):
        for b in _phases(geometry.cols):
            top, left = (
                start - group.shift - d * (group.taps - 1)
                for start, group, d in zip(first, (a, b), dilation, strict=True)
            )
            # The taps a = j + s' m as (phases, m), the last m first: correlation runs backwards.
            tap_rows, tap_cols = (
                group.first_tap
                + xp.arange(group.count)[:, None]
                + step * xp.arange(group.taps - 1, -1, -1)[None, :]
                for group, step in zip((a, b), period, strict=True)
            )
            # (G, O/G, C/G, phases, m, phases, m)
            taps = filters[..., tap_rows[:, :, None, None], tap_cols[None, None]]
            products = filters.shape[1] * a.taps * b.taps  # of an output
            side_by_side = geometry.cols.stride > 1 and (products <= FEW_PRODUCTS or b.count >= RUN)
            if side_by_side:  # -> (G, C/G * phases, O/G * m * m, phases)
                taps = taps.transpose(0, 2, 3, 1, 4, 6, 5).reshape(groups, -1, products, b.count)
            else:  # -> (G, C/G * phases * phases, O/G * m * m)
                taps = taps.transpose(0, 2, 3, 5, 1, 4, 6).reshape(groups, -1, products)
            unit = ConvGeometry(
                Window(a.taps, dilation=dilation[0]), Window(b.taps, dilation=dilation[1]), groups
            )
            yield _Part(
                slice(a.phase, a.phase + a.count),
                slice(b.phase, b.phase + b.count),
                taps,
                Windows(dy, unit, (top, left)),
                side_by_side,
            )


def _filled(w: Array, geometry: ConvGeometry) -> tuple[Array, ConvGeometry]:
    """Return filters and geometry with taps of zeros up to a whole number of periods."""
    rows, cols = (
        replace(window, kernel=-(-window.kernel // period) * period)
        for window in (geometry.rows, geometry.cols)
        for period in [window.stride // gcd(window.stride, window.dilation)]
    )
    filled = pad_or_crop(w, 0, rows.kernel - w.shape[2], 0, cols.kernel - w.shape[3])
    return filled, ConvGeometry(rows, cols, geometry.groups)


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """One small convolution of stride 1 for each group of phases, interleaved strip by strip."""
    xp = array_module(dy=dy, w=w)
    if len(w) * w.shape[1] <= FEW_PRODUCTS * geometry.groups:
        # Taps of zeros, so that all phases have equally many: one part is less work than four.
        w, geometry = _filled(w, geometry)
    rows, cols, groups = geometry.rows, geometry.cols, geometry.groups
    channels = w.shape[1] * groups
    # Q of the first position that is not padding, how many Q there are, and the padding before the first.
    first, top = divmod(rows.padding[0], rows.stride)
    first_col, left = divmod(cols.padding[0], cols.stride)
    blocks = -(-(top + input_size[0]) // rows.stride), -(-(left + input_size[1]) // cols.stride)
    parts = list(_parts(dy, w, geometry, (first, first_col)))
    dx: Array = xp.empty((len(dy), channels, *input_size), dy.dtype)
    if rows.stride == cols.stride == 1:  # there is one phase, and nothing to interleave
        (part,) = parts
        multiply(part.filters, part.windows, None, dx)
        return dx

    whole = slice(0, rows.stride), slice(0, cols.stride)
    covered = sum((p.rows.stop - p.rows.start) * (p.cols.stop - p.cols.start) for p in parts)
    width = blocks[1] * cols.stride

    def strip_of_blocks(strip: Strip) -> None:
        # (C, Q, phases, Q, phases): the order of dx, of which Q and phases are rows and columns.
        shape = channels, strip.rows.stop - strip.rows.start, rows.stride, blocks[1], cols.stride
        block: Array | None = None
        for part in parts:
            phases = _phases_of(part, part.windows.columns(strip), shape[1::2])
            if part.side_by_side and (part.rows, part.cols) == whole:
                block = phases  # a view will do
                continue
            if block is None:
                block = workspace(xp, shape, dy.dtype, "block")
                if covered < rows.stride * cols.stride:
                    block[...] = 0  # some phases meet no tap
            place = block[:, :, part.rows, :, part.cols]
            if part.side_by_side:
                place[...] = phases
            else:
                for phase in range(place.shape[-1]):
                    place[..., phase] = phases[..., phase]
        assert block is not None
        for phase in range(rows.stride):
            start = strip.rows.start * rows.stride + phase - top  # of dx; before 0 there is padding
            skip = max(-(start // rows.stride), 0)
            here = dx[strip.images.start, :, start + skip * rows.stride :: rows.stride][:, : shape[1] - skip]
            some = block[:, skip : skip + here.shape[1], phase].reshape(*here.shape[:2], width)
            here[...] = some[..., left : left + input_size[1]]

    parallel_map(strip_of_blocks, _strips(xp, len(dy), blocks, channels * rows.stride * cols.stride), xp)
    return dx


def _phases_of(part: _Part, columns: Array, blocks: tuple[int, ...]) -> Array:
    """Return what a part gives for columns (G, O/G * m * m, Q): (C, Q, phases, Q, phases), a view."""
    xp, (groups, filters, *_) = array_module(columns=columns), part.filters.shape
    rows, cols = part.rows.stop - part.rows.start, part.cols.stop - part.cols.start
    if part.side_by_side:
        product = workspace(xp, (groups, filters, columns.shape[2], cols), columns.dtype, "product")
        # (G, C/G * phases, Q, phases) = (G, 1, Q, O/G * m * m) @ (G, C/G * phases, O/G * m * m, phases)
        xp.matmul(columns.transpose(0, 2, 1)[:, None], part.filters, out=product)
        return product.reshape(-1, rows, *blocks, cols).transpose(0, 2, 1, 3, 4)
    product = workspace(xp, (groups, filters, columns.shape[2]), columns.dtype, "product")
    # (G, C/G * phases * phases, Q) = (G, C/G * phases * phases, O/G * m * m) @ (G, O/G * m * m, Q)
    xp.matmul(part.filters, columns, out=product)
    return product.reshape(-1, rows, cols, *blocks).transpose(0, 3, 1, 4, 2)


def _strips(xp: Any, images: int, blocks: tuple[int, int], numbers: int) -> list[Strip]:
    """Cut the blocks Q of each image into strips of rows, given the numbers of dx in one block."""
    wanted = max((STRIP_BYTES if xp is np else GPU_STRIP_BYTES) // (4 * numbers * blocks[1]), 1)
    wanted = min(wanted, -(-images * blocks[0] // shares_of(xp)))  # so many that all cores have some
    return [
        Strip(slice(image, image + 1), piece, slice(0, blocks[1]))
        for image in range(images)
        for piece in pieces_of(blocks[0], wanted)
    ]
