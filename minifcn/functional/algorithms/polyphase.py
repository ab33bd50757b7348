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
from minifcn.functional.algorithms.im2col import (
    GPU_STRIP_BYTES,
    RUN,
    SHARES,
    STRIP_BYTES,
    Strip,
    Windows,
    multiply,
    pieces_of,
)
from minifcn.functional.padding import pad_or_crop
from minifcn.geometry import ConvGeometry, Window
from minifcn.strips import run_strips, scratch

FEW_PRODUCTS = 16
"""So few products of an output that they do not matter."""


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
    filters: Array  # (G, C/G * phases * phases, O/G * m * m)
    windows: Windows  # of dy


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
            # (G, O/G, C/G, phases, m, phases, m) -> (G, C/G * phases * phases, O/G * m * m)
            taps = filters[..., tap_rows[:, :, None, None], tap_cols[None, None]]
            taps = taps.transpose(0, 2, 3, 5, 1, 4, 6).reshape(
                groups, w.shape[1] * a.count * b.count, filters.shape[1] * a.taps * b.taps
            )
            unit = ConvGeometry(
                Window(a.taps, dilation=dilation[0]), Window(b.taps, dilation=dilation[1]), groups
            )
            yield _Part(
                slice(a.phase, a.phase + a.count),
                slice(b.phase, b.phase + b.count),
                taps,
                Windows(dy, unit, (top, left)),
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
    first, top = divmod(rows.padding, rows.stride)
    first_col, left = divmod(cols.padding, cols.stride)
    blocks = -(-(top + input_size[0]) // rows.stride), -(-(left + input_size[1]) // cols.stride)
    parts = list(_parts(dy, w, geometry, (first, first_col)))
    dx: Array = xp.empty((len(dy), channels, *input_size), dy.dtype)
    if rows.stride == cols.stride == 1:  # there is one phase, and nothing to interleave
        (part,) = parts
        multiply(part.filters, part.windows, None, dx)
        return dx

    def strip_of_blocks(strip: Strip) -> None:
        count = strip.rows.stop - strip.rows.start
        block = scratch(xp, (channels, count, rows.stride, blocks[1], cols.stride), dy.dtype, "block")
        if sum((p.rows.stop - p.rows.start) * (p.cols.stop - p.cols.start) for p in parts) < (
            rows.stride * cols.stride
        ):
            block[...] = 0  # some phases meet no tap
        for part in parts:
            columns = part.windows.columns(strip)
            place = block[:, :, part.rows, :, part.cols]  # (C, Q, phases, Q, phases)
            _, _, row_phases, _, col_phases = place.shape
            # What lies side by side in `place` should do so in the product, if it is a run of some length.
            if col_phases >= RUN:
                space = groups, columns.shape[2], part.filters.shape[1]
                # (G, Q, C/G * phases * phases)
                #     = (G, Q, O/G * m * m) @ (G, O/G * m * m, C/G * phases * phases)
                product = scratch(xp, space, dy.dtype, "product")
                xp.matmul(columns.transpose(0, 2, 1), part.filters.transpose(0, 2, 1), out=product)
                # (G, Q, Q, C/G, phases, phases) -> (G, C/G, Q, phases, Q, phases)
                place.reshape(groups, -1, *place.shape[1:])[...] = product.reshape(
                    groups, count, blocks[1], -1, row_phases, col_phases
                ).transpose(0, 3, 1, 4, 2, 5)
                continue
            space = groups, part.filters.shape[1], columns.shape[2]
            # (G, C/G * phases * phases, Q) = (G, C/G * phases * phases, O/G * m * m) @ (G, O/G * m * m, Q)
            product = xp.matmul(part.filters, columns, out=scratch(xp, space, dy.dtype, "product"))
            product = product.reshape(channels, row_phases, col_phases, count, blocks[1])
            for phase in range(col_phases):
                # (C, phases, Q, Q) -> (C, Q, phases, Q)
                place[..., phase] = product[:, :, phase].transpose(0, 2, 1, 3)
        flat = block.reshape(channels, count * rows.stride, blocks[1] * cols.stride)
        start = strip.rows.start * rows.stride - top  # of dx; before 0 there is padding
        here = dx[strip.images.start, :, max(start, 0) : start + flat.shape[1]]
        skip = max(-start, 0)
        here[...] = flat[:, skip : skip + here.shape[1], left : left + input_size[1]]

    run_strips(strip_of_blocks, _strips(xp, len(dy), blocks, channels * rows.stride * cols.stride))
    return dx


def _strips(xp: Any, images: int, blocks: tuple[int, int], numbers: int) -> list[Strip]:
    """Cut the blocks Q of each image into strips of rows, given the numbers of dx in one block."""
    wanted = max((STRIP_BYTES if xp is np else GPU_STRIP_BYTES) // (4 * numbers * blocks[1]), 1)
    if xp is np:  # so many that all cores have some
        wanted = min(wanted, -(-images * blocks[0] // SHARES))
    return [
        Strip(slice(image, image + 1), piece, slice(0, blocks[1]))
        for image in range(images)
        for piece in pieces_of(blocks[0], wanted)
    ]
