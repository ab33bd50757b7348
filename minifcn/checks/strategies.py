"""Hypothesis strategies for cases: every geometry that they draw is possible, and none is rejected.

The number of outputs is drawn first, and the size of the input is derived from it: a window of extent
d (k - 1) + 1 that makes OH steps of s needs (OH - 1) s + d (k - 1) + 1 padded rows, and up to s - 1 more rows
at the end belong to no window. All values shrink towards the smallest case.
"""

from typing import Any

from minifcn.checks.cases import ConvCase, PoolCase
from minifcn.checks.random_cases import st
from minifcn.geometry import ConvGeometry

__all__ = ["conv_geometries", "pool_geometries"]


def _pairs(rows: dict[str, Any], cols: dict[str, Any]) -> dict[str, Any]:
    """Join the values of both axes to pairs; the padding to two pairs if the two ends of an axis differ."""
    pairs = {name: (rows[name], cols[name]) for name in rows}
    return pairs | {"padding": ConvGeometry.of(1, padding=pairs["padding"]).padding}


@st.composite
def _conv_axes(
    draw: st.DrawFn, outputs: int, kernel: int, stride: int, padding: int, dilation: int, asymmetric: bool
) -> dict[str, Any]:
    d = draw(st.integers(1, dilation))
    s = draw(st.integers(1, stride))
    k = draw(st.integers(1, kernel))
    padded = (draw(st.integers(1, outputs)) - 1) * s + d * (k - 1) + 1
    padded += draw(st.integers(0, s - 1))
    before = after = draw(st.integers(0, min(padding, (padded - 1) // 2)))  # at least one row is the image
    if asymmetric and draw(st.booleans()):
        after = draw(st.integers(0, min(padding, padded - 1 - before)))
    size = padded - before - after
    return {"input_size": size, "kernel_size": k, "stride": s, "padding": (before, after), "dilation": d}


@st.composite
def conv_geometries(
    draw: st.DrawFn,
    *,
    max_batch: int = 2,
    max_channels: int = 3,
    max_groups: int = 3,
    max_outputs: int = 4,
    max_kernel: int = 4,
    max_stride: int = 3,
    max_padding: int = 3,
    max_dilation: int = 3,
    asymmetric: bool = True,
) -> ConvCase:
    """Draw a `ConvCase`; rows and columns differ.

    Args:
        draw: Given by Hypothesis.
        max_batch: Most images.
        max_channels: Most channels, and most filters, of one group; with 1 and 1 it is depthwise.
        max_groups: Most groups.
        max_outputs: Most outputs along an axis.
        max_kernel: Largest kernel along an axis.
        max_stride: Largest stride.
        max_padding: Largest padding at one end of an axis.
        max_dilation: Largest dilation.
        asymmetric: Whether the padding may differ at the two ends of an axis.

    Example:
        >>> from hypothesis import find
        >>> print(find(conv_geometries(), lambda case: case.groups > 1 and case.padding == (1, 0)))
        1 image, 2 -> 2 channels, input 1x1, kernel 1x1, stride 1, padding 1x0, dilation 1, groups 2
    """
    groups = draw(st.integers(1, max_groups))
    axes = _conv_axes(max_outputs, max_kernel, max_stride, max_padding, max_dilation, asymmetric)
    window = _pairs(draw(axes), draw(axes))
    channels = st.integers(1, max_channels)
    batch, inputs, outputs = draw(st.integers(1, max_batch)), groups * draw(channels), groups * draw(channels)
    return ConvCase(batch, inputs, outputs, groups=groups, **window)


@st.composite
def _pool_axes(
    draw: st.DrawFn, outputs: int, kernel: int, stride: int, ceil_mode: bool, asymmetric: bool
) -> dict[str, Any]:
    s = draw(st.integers(1, stride))
    k = draw(st.integers(1, kernel))
    before = draw(st.integers(0, k // 2))
    after = draw(st.integers(0, k // 2)) if asymmetric and draw(st.booleans()) else before
    # At least one row is the image: with an even kernel padded by half at both ends, one output is too few.
    fewest = 2 if k == before + after else 1
    size = (draw(st.integers(fewest, outputs)) - 1) * s + k - before - after
    off = draw(st.integers(0, min(s - 1, size - 1) if ceil_mode else s - 1))
    size += -off if ceil_mode else off
    return {"input_size": size, "kernel_size": k, "stride": s, "padding": (before, after)}


@st.composite
def pool_geometries(
    draw: st.DrawFn,
    *,
    max_outputs: int = 4,
    max_kernel: int = 4,
    max_stride: int = 4,
    asymmetric: bool = True,
) -> PoolCase:
    """Draw a `PoolCase`; rows and columns differ, and the padding is at most half of the kernel.

    Args:
        draw: Given by Hypothesis.
        max_outputs: Most outputs along an axis, at least 2.
        max_kernel: Largest window along an axis.
        max_stride: Largest stride.
        asymmetric: Whether the padding may differ at the two ends of an axis.

    Example:
        >>> from hypothesis import find
        >>> print(find(pool_geometries(), lambda case: case.ceil_mode and case.stride[1] > 1))
        1 image, 1 channel, input 1x1, kernel 1x1, stride 1x2, padding 0, rounding up
    """
    ceil_mode = draw(st.booleans())
    axes = _pool_axes(max_outputs, max_kernel, max_stride, ceil_mode, asymmetric)
    window = _pairs(draw(axes), draw(axes))
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return PoolCase(batch, channels, ceil_mode=ceil_mode, **window)
