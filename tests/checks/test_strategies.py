"""Every case that is drawn is valid; the strategies reach all edge cases and shrink to the smallest one."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

from minifcn.checks import ConvCase, PoolCase
from minifcn.checks.strategies import conv_geometries, pool_geometries


def windows(size, kernel, stride, padding, dilation=1):
    """Count window positions one by one, without any formula."""
    first, count = -padding[0], 0
    while first + dilation * (kernel - 1) < size + padding[1]:
        first, count = first + stride, count + 1
    return count


@given(conv_geometries())
def test_conv_cases_are_valid(case):
    axes = zip(case.input_size, case.kernel_size, case.stride, case.sides, case.dilation, strict=True)
    counted = tuple(windows(*axis) for axis in axes)
    assert case.output_size == counted
    assert min(*case.input_size, *counted, case.batch, case.groups) >= 1
    assert case.in_channels % case.groups == case.out_channels % case.groups == 0
    x, w, dy = case.operands()
    assert x.shape == (case.batch, case.in_channels, *case.input_size)
    assert w.shape == (case.out_channels, case.in_channels // case.groups, *case.kernel_size)
    assert dy.shape == (case.batch, case.out_channels, *counted)
    assert x.dtype == w.dtype == dy.dtype == np.float64


@given(pool_geometries())
def test_pool_cases_are_valid(case):
    for i, outputs in enumerate(case.output_size):
        size, kernel, stride, padding = (
            pair[i] for pair in (case.input_size, case.kernel_size, case.stride, case.sides)
        )
        assert size >= 1
        assert outputs >= 1
        assert 2 * max(padding) <= kernel
        if case.ceil_mode:
            assert (outputs - 1) * stride < size + padding[0]  # the last window starts inside
            last = outputs * stride
            # No further window would start inside, or the last one covers the end.
            assert last >= size + padding[0] or last - stride + kernel >= size + sum(padding)
        else:
            assert outputs == windows(size, kernel, stride, padding)
    x = case.input()
    assert x.shape == (case.batch, case.channels, *case.input_size)
    assert x.size < 2 or np.diff(np.sort(x, axis=None)).min() > 0.099
    assert np.abs(x).min() > 0.02


@pytest.mark.parametrize(
    "condition",
    [
        lambda c: c.groups == c.in_channels > 1,  # depthwise
        lambda c: c.groups == c.in_channels > 1 and c.out_channels > c.in_channels,  # with a multiplier
        lambda c: c.stride[0] != c.stride[1],
        lambda c: c.padding == (1, 0),
        lambda c: c.sides[0][0] < c.sides[0][1] and c.sides[1][0] > c.sides[1][1],
        lambda c: c.dilation[0] != c.dilation[1],
        lambda c: c.kernel_size[0] != c.kernel_size[1],
        lambda c: c.stride[0] > c.kernel_size[0],
        lambda c: c.stride[0] > c.input_size[0],
        lambda c: c.stride[0] == 3 and c.dilation[0] == 2 and c.kernel_size[0] == 4,
        lambda c: c.sides[0][0] >= c.kernel_size[0],
        lambda c: c.input_size == (1, 1) and c.kernel_size == (4, 4),
        lambda c: (
            (c.input_size[0] + sum(c.sides[0]) - c.kernel_size[0]) % c.stride[0] == 2 and c.dilation[0] == 1
        ),
        lambda c: c.batch == 2,
    ],
)
def test_every_edge_case_is_reached(condition):
    unshrunk = settings(max_examples=5_000, database=None, phases=[Phase.generate])
    find(conv_geometries(), condition, settings=unshrunk)


def test_cases_shrink_towards_ones():
    assert find(conv_geometries(), lambda case: True) == ConvCase()
    assert find(pool_geometries(), lambda case: True) == PoolCase()
    assert find(conv_geometries(), lambda case: case.stride[0] == 2) == ConvCase(stride=(2, 1))
    assert find(conv_geometries(), lambda c: c.input_size[1] > 1) == ConvCase(input_size=(1, 2))
    hangs_over = find(
        pool_geometries(), lambda c: c.ceil_mode and c.kernel_size[0] > c.input_size[0] + sum(c.sides[0])
    )
    assert hangs_over == PoolCase(kernel_size=(2, 1), stride=(2, 1), ceil_mode=True)


@given(
    conv_geometries(max_groups=1, max_dilation=1, max_stride=1, max_padding=0, max_channels=1, max_batch=1)
)
def test_bounds_are_kept(case):
    assert (case.groups, case.dilation, case.stride, case.padding) == (1, (1, 1), (1, 1), (0, 0))
    assert (case.batch, case.in_channels, case.out_channels) == (1, 1, 1)
