"""The definition of a convolution and of its two adjoints, one output number at a time.

An output number is the sum of the products of a window of the input with a filter,

    y[n, o, i, j] = sum over c, a, b of  x[n, c, i s + a d - p, j s + b d - p] * w[o, c, a, b],

and a bilinear map has two adjoints that walk over the same windows: the gradient to the input adds
`dy * filter` into each window, the gradient to the weight adds `dy * window` to each filter. This is the
reference that the faster algorithms are held against.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.padding import pad_or_crop


def _windows(
    shape: tuple[int, ...], channels: int, geometry: ConvGeometry
) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """Yield the index (n, o, i, j) of each output number with the index of its window in the padded input."""
    _, filters, _, _ = shape
    rows, cols = geometry.rows, geometry.cols
    for n, o, i, j in product(*map(range, shape)):
        group = o // (filters // geometry.groups)
        yield (
            (n, o, i, j),
            (
                n,
                slice(group * channels, (group + 1) * channels),
                slice(i * rows.stride, i * rows.stride + rows.extent, rows.dilation),
                slice(j * cols.stride, j * cols.stride + cols.extent, cols.dilation),
            ),
        )


def conv2d(x: Array, w: Array, geometry: ConvGeometry, b: Array | None, y: Array, relu: bool) -> None:
    """Each output number is the sum of its window times its filter, plus the filter's bias."""
    padded = pad_or_crop(x, *geometry.rows.padding, *geometry.cols.padding)
    for output, window in _windows(y.shape, w.shape[1], geometry):
        y[output] = (padded[window] * w[output[1]]).sum()
    if b is not None:
        y += b[:, None, None]
    if relu:
        array_module(y=y).maximum(y, 0, out=y)


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Each output number hands its gradient, times its filter, back to its window."""
    (height, width), (p, bottom), (q, right) = input_size, geometry.rows.padding, geometry.cols.padding
    channels = w.shape[1] * geometry.groups
    padded = array_module(dy=dy, w=w).zeros(
        (len(dy), channels, height + p + bottom, width + q + right), dy.dtype
    )
    for output, window in _windows(dy.shape, w.shape[1], geometry):
        padded[window] += dy[output] * w[output[1]]
    dx: Array = padded[:, :, p : p + height, q : q + width].copy()
    return dx


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """Each output number adds its gradient, times its window, to its filter."""
    padded = pad_or_crop(x, *geometry.rows.padding, *geometry.cols.padding)
    channels = x.shape[1] // geometry.groups
    dw: Array = array_module(x=x, dy=dy).zeros(
        (dy.shape[1], channels, geometry.rows.kernel, geometry.cols.kernel), x.dtype
    )
    for output, window in _windows(dy.shape, channels, geometry):
        dw[output[1]] += dy[output] * padded[window]
    return dw
