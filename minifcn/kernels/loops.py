"""The definition of a convolution and of its two gradients, one output at a time.

An output is the sum of the products of a window of the input with a filter,

    y[n, o, i, j] = sum over c, a, b of  x[n, c, i s + a d - p, j s + b d - p] * w[o, c, a, b],

and a bilinear map has two adjoints that use the same windows: the gradient to the input adds `dy * filter` to
each window, the gradient to the weight adds `dy * window` to each filter. The tests compare all faster
algorithms to these loops.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry
from minifcn.kernels.costs import Work
from minifcn.kernels.padding import pad_or_crop, padded_zeros
from minifcn.kernels.plans import Plan, Problem, add_bias


def _windows(
    shape: tuple[int, ...], channels: int, geometry: ConvGeometry
) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """Yield the index (n, o, i, j) of each output, and the index of its window in the padded input."""
    filters, rows, cols = shape[1], geometry.rows, geometry.cols
    for n, o, i, j in product(*map(range, shape)):
        group = o // (filters // geometry.groups)
        window = (
            n,
            slice(group * channels, (group + 1) * channels),
            slice(i * rows.stride, i * rows.stride + rows.extent, rows.dilation),
            slice(j * cols.stride, j * cols.stride + cols.extent, cols.dilation),
        )
        yield (n, o, i, j), window


def _conv2d(geometry: ConvGeometry, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    padded = pad_or_crop(x, *geometry.rows.padding, *geometry.cols.padding)
    for output, window in _windows(y.shape, w.shape[1], geometry):
        y[output] = (padded[window] * w[output[1]]).sum()
    add_bias(y, b, relu)


def _input_grad(geometry: ConvGeometry, dy: Array, w: Array, dx: Array) -> None:
    padded, inside = padded_zeros(dx, geometry)
    for output, window in _windows(dy.shape, w.shape[1], geometry):
        padded[window] += dy[output] * w[output[1]]
    dx[...] = inside


def _weight_grad(geometry: ConvGeometry, x: Array, dy: Array, dw: Array) -> None:
    padded = pad_or_crop(x, *geometry.rows.padding, *geometry.cols.padding)
    dw[...] = 0
    for output, window in _windows(dy.shape, dw.shape[1], geometry):
        dw[output[1]] += dy[output] * padded[window]


def _plan(run: Any, p: Problem) -> Plan:
    """Return a plan that is never the fastest: this is a definition, not an algorithm to compute with."""
    return Plan("loops", p.dtype, Work(calls=float("inf")), 0, partial(run, p.geometry))


plan_conv2d = partial(_plan, _conv2d)
plan_input_grad = partial(_plan, _input_grad)
plan_weight_grad = partial(_plan, _weight_grad)
