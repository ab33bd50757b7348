"""Convolution as one copy and one matrix product: the algorithm to read first.

The windows of all images, flattened, are the columns of a matrix with C KH KW rows and one column for each
position. The filters times that matrix are the outputs ("im2col", Chellapilla et al. 2006), and so the two
gradients are products with a transposed matrix:

    y = w @ columns,        dw = dy @ columns^T,        dcolumns = w^T @ dy,

the last of which is added back, tap by tap, to the windows that the columns were copied from. The matrix is
KH KW times as large as the images: `im2col` does the same in chunks that fit the cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.costs import Work, copy, matmul
from minifcn.kernels.padding import pad_or_crop, padded_zeros
from minifcn.kernels.plans import Plan, Problem, add_bias
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.windows import Chunk, places


def columns(x: Array, geometry: ConvGeometry) -> Array:
    """Return all windows of x (N, C, H, W) as columns (G, C/G * KH * KW, N * OH * OW).

    Example:
        >>> import numpy as np
        >>> columns(np.arange(4.0).reshape(1, 1, 1, 4), ConvGeometry.of((1, 2), padding=((0, 0), (0, 1))))
        array([[[0., 1., 2., 3.],
                [1., 2., 3., 0.]]])
    """
    xp, rows, cols, groups = array_module(x=x), geometry.rows, geometry.cols, geometry.groups
    padded = pad_or_crop(x, *rows.padding, *cols.padding)
    windows = xp.lib.stride_tricks.sliding_window_view(padded, (rows.extent, cols.extent), axis=(2, 3))
    # (N, C, OH, OW, KH, KW)
    windows = windows[:, :, :: rows.stride, :: cols.stride, :: rows.dilation, :: cols.dilation]
    n, channels, height, width, *kernel = windows.shape
    windows = windows.transpose(1, 4, 5, 0, 2, 3)  # (C, KH, KW, N, OH, OW)
    matrix: Array = windows.reshape(groups, channels // groups * kernel[0] * kernel[1], n * height * width)
    return matrix


def _rows(dy: Array, groups: int) -> Array:
    """Return dy (N, O, OH, OW) as (G, O/G, N * OH * OW)."""
    n, filters, height, width = dy.shape
    return dy.transpose(1, 0, 2, 3).reshape(groups, filters // groups, n * height * width)


def _conv2d(geometry: ConvGeometry, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    filters = w.reshape(geometry.groups, len(w) // geometry.groups, -1)  # (G, O/G, C/G * KH * KW)
    outputs = filters @ columns(x, geometry)  # (G, O/G, N * OH * OW)
    y[...] = outputs.reshape(len(w), len(y), *y.shape[2:]).transpose(1, 0, 2, 3)  # (N, O, OH, OW)
    add_bias(y, b, relu)


def _weight_grad(geometry: ConvGeometry, x: Array, dy: Array, dw: Array) -> None:
    product = _rows(dy, geometry.groups) @ columns(x, geometry).transpose(0, 2, 1)
    dw[...] = product.reshape(dw.shape)


def _input_grad(geometry: ConvGeometry, dy: Array, w: Array, dx: Array) -> None:
    groups, (n, _, height, width) = geometry.groups, dy.shape
    filters = w.reshape(groups, len(w) // groups, -1).transpose(0, 2, 1)  # (G, C/G * KH * KW, O/G)
    products = filters @ _rows(dy, groups)  # (G, C/G * KH * KW, N * OH * OW)
    # (C, KH * KW, N, OH, OW) -> (KH * KW, N, C, OH, OW)
    taps = products.reshape(dx.shape[1], geometry.taps, n, height, width).transpose(1, 2, 0, 3, 4)
    padded, inside = padded_zeros(dx, geometry)
    whole = Chunk(slice(0, n), slice(0, height), slice(0, width))
    for tap, place in zip(taps, places(padded, geometry, whole), strict=True):
        place += tap
    dx[...] = inside


def _run(function: Callable[..., None], p: Problem, *arrays: Any) -> None:
    """Run a map as a single chunk, which limits BLAS to one thread."""
    parallel_map(lambda _: function(p.geometry, *arrays), [None], p.xp)


def _plan(p: Problem, function: Callable[..., None], product: Work, calls: int) -> Plan:
    elements = p.groups * p.column * p.positions  # of the columns
    images = p.images * p.channels * p.input_size[0] * p.input_size[1]
    work = product + copy(elements, p.output_size[1] if p.geometry.cols.stride == 1 else 1)
    work += copy(p.positions * p.filters + images, p.output_size[1]) + Work(calls=calls, maps=1)
    space = (elements + p.positions * p.filters + images) * p.dtype.itemsize
    return Plan("plain", p.dtype, work, space, partial(_run, function, p))


def plan_conv2d(p: Problem) -> Plan:
    """Filters times columns."""
    return _plan(p, _conv2d, matmul(p.group_filters, p.column, p.positions, p.groups), 20)


def plan_weight_grad(p: Problem) -> Plan:
    """Gradients times transposed columns."""
    return _plan(p, _weight_grad, matmul(p.group_filters, p.positions, p.column, p.groups), 20)


def plan_input_grad(p: Problem) -> Plan:
    """Transposed filters times gradients, added back to the windows."""
    product = matmul(p.column, p.group_filters, p.positions, p.groups)
    return _plan(p, _input_grad, product, 20 + 4 * p.geometry.taps)
