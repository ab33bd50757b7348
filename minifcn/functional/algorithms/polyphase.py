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

from dataclasses import dataclass, replace
from math import gcd

from minifcn.backend import Array, array_module
from minifcn.functional.algorithms import im2col
from minifcn.functional.padding import pad_or_crop
from minifcn.geometry import ConvGeometry, Window


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


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """One convolution of stride 1 for each group of phases, interleaved."""
    xp = array_module(dy=dy, w=w)
    rows, cols, groups = geometry.rows, geometry.cols, geometry.groups
    channels = w.shape[1] * groups
    axes = (rows, cols)
    # Q of the first position that is not padding, and how many Q there are.
    first = [window.padding // window.stride for window in axes]
    blocks = [
        (window.padding + size - 1) // window.stride + 1 - start
        for window, size, start in zip(axes, input_size, first, strict=True)
    ]
    period = [window.stride // gcd(window.stride, window.dilation) for window in axes]
    dilation = [window.dilation // gcd(window.stride, window.dilation) for window in axes]
    filters = w.reshape(groups, len(w) // groups, w.shape[1], rows.kernel, cols.kernel)
    dx: Array = xp.zeros((len(dy), channels, blocks[0] * rows.stride, blocks[1] * cols.stride), dy.dtype)
    interleaved = dx.reshape(len(dy), channels, blocks[0], rows.stride, blocks[1], cols.stride)

    for a in _phases(rows):
        for b in _phases(cols):
            pads = []  # before and after, along rows and then columns
            for i, group in enumerate((a, b)):
                start = first[i] - group.shift - dilation[i] * (group.taps - 1)
                stop = first[i] - group.shift + blocks[i]
                pads += [-start, stop - dy.shape[2 + i]]
            # The taps a = j + s' m as (phases, m), the last m first: correlation runs backwards.
            tap_rows, tap_cols = (
                group.first_tap
                + xp.arange(group.count)[:, None]
                + step * xp.arange(group.taps - 1, -1, -1)[None, :]
                for group, step in zip((a, b), period, strict=True)
            )
            # (G, O/G, C/G, phases, m, phases, m) -> (G * C/G * phases * phases, O/G, m, m)
            taps = filters[..., tap_rows[:, :, None, None], tap_cols[None, None]]
            taps = taps.transpose(0, 2, 3, 5, 1, 4, 6).reshape(-1, filters.shape[1], a.taps, b.taps)
            unit = ConvGeometry(
                Window(a.taps, dilation=dilation[0]), Window(b.taps, dilation=dilation[1]), groups
            )
            part: Array = xp.empty((len(dy), len(taps), *blocks), dy.dtype)
            im2col.conv2d(pad_or_crop(dy, *pads), taps, unit, None, part)
            if rows.stride == cols.stride == 1:
                return part  # one phase: nothing to interleave
            # (N, C * phases * phases, Q, Q) -> (N, C, Q, phases, Q, phases)
            part = part.reshape(len(dy), channels, a.count, b.count, *blocks).transpose(0, 1, 4, 2, 5, 3)
            interleaved[:, :, :, a.phase : a.phase + a.count, :, b.phase : b.phase + b.count] = part
    top, left = (window.padding % window.stride for window in axes)
    bottom, right = (
        have - skipped - wanted
        for have, skipped, wanted in zip(dx.shape[2:], (top, left), input_size, strict=True)
    )
    return pad_or_crop(dx, -top, -bottom, -left, -right)
