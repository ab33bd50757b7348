"""3 x 3 convolutions with a quarter of the multiplications (Winograd's minimal filtering).

Four neighbouring outputs of a filter g with three taps are twelve products of six inputs d: by the definition
twelve multiplications, but six are enough. Read both as polynomials. To multiply two polynomials one may
evaluate them at as many points as their product has coefficients, multiply the values, and interpolate (Toom
and Cook); a correlation is the transpose of such a product, and so takes the same three steps in the order

    y  =  A^T [ (G g) * (B^T d) ],        * number by number,

where G evaluates the filter at the points, B^T combines the inputs, and A^T puts the outputs together. With
the points 0, 1, -1, 2, -2 and "infinity" (the leading coefficient), six multiplications give m = 4 outputs:
F(4, 3). In two dimensions rows and columns are transformed alike, and a *tile* of 6 x 6 inputs gives 4 x 4
outputs by 36 multiplications instead of 144: F(4 x 4, 3 x 3) (Lavin & Gray 2016). Over C channels, and over
all tiles of an image, the multiplications are 36 matrix products, one for each of the 36 numbers k of a tile:

    M[k]  =  U[k] @ V[k],     (O, tiles) = (O, C) @ (C, tiles),

with U = G w G^T of the filters and V = B^T x B of the tiles. Each transform, too, is one matrix product: on
tiles whose numbers lie along one axis, B^T d B is multiplication by the Kronecker product of B^T with itself.

The gradient to the filters is the same steps transposed, in the opposite order, and with dM = A dy A^T

    dw  =  G^T (dM V^T) G.

The gradient to the input is a convolution again, of dy with the filters turned by half a turn.

The price is rounding: points as large as 2 make numbers of different sizes meet. In float32 the error is
about 1e-5 of the largest output, ten times that of the definition.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.algorithms.im2col import GPU_STRIP_BYTES, pieces_of, shares_of
from minifcn.geometry import ConvGeometry
from minifcn.strips import add_to, matmul, run_strips, scratch

TAPS = 3
STRIP_BYTES = 1 << 23
"""Transformed tiles of one strip, in and out: what the nearest caches hold."""

STRIPS = 16
"""Strips at least, where there are so many tiles: cores that take them in turn then finish together."""

MIN_TILES = 96
"""Tiles of a strip, at least: fewer make thin matrix products."""


SUM_BYTES = 1 << 20
"""Products that are added to a sum in one go."""

SMALL_SUM_BYTES = 1 << 22
"""Sums over tiles, from which the gradient to the weight is made: up to this size there are four of them."""


def fits(geometry: ConvGeometry) -> bool:
    """Return whether a convolution is of the kind that is computed here."""
    return geometry.groups == 1 and all(
        (window.kernel, window.stride, window.dilation) == (TAPS, 1, 1)
        for window in (geometry.rows, geometry.cols)
    )


def transforms(outputs: int) -> tuple[Array, Array, Array]:
    """Return A^T (m, m + 2), G (m + 2, 3) and B^T (m + 2, m + 2) of F(m, 3), in float64.

    Args:
        outputs: m, the outputs of a tile: 2 or 4.

    Example:
        >>> a, g, b = transforms(2)
        >>> d, f = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0])
        >>> a @ ((g @ f) * (b @ d)), np.correlate(d, f)
        (array([321., 432.]), array([321., 432.]))
    """
    points = np.array([0.0, 1.0, -1.0, 2.0, -2.0][: outputs + TAPS - 2])
    # Values at the points, and the leading coefficient, of polynomials with so many coefficients.
    values = [np.vander(points, n, increasing=True) for n in (outputs, TAPS)]
    at_infinity = [np.eye(n)[-1:] for n in (outputs, TAPS)]
    a, g = (np.concatenate(parts) for parts in zip(values, at_infinity, strict=True))
    # Lagrange: the polynomial that vanishes at all points but one, divided by its value there.
    others = [np.delete(points, i) for i in range(len(points))]
    g[:-1] /= [[np.prod(point - rest)] for point, rest in zip(points, others, strict=True)]
    b = [np.append(np.poly(rest)[::-1], 0.0) for rest in others] + [np.poly(points)[::-1]]
    return a.T, g, np.array(b)


@cache
def _on_tiles(outputs: int) -> tuple[Array, Array, Array]:
    """Return the transforms of both axes at once, as matrices on flattened tiles: A^T, G, B^T."""
    a, g, b = (np.kron(matrix, matrix) for matrix in transforms(outputs))
    return a, g, b


@dataclass(frozen=True)
class _Strip:
    """Rows of tiles of some images."""

    images: slice
    rows: slice


class _Tiling:
    """How the outputs of a convolution are cut into tiles, and the tiles into strips.

    Args:
        shape: (N, O, OH, OW) of the outputs.
        channels: C.
        padding: Zeros before the first row and column of the input, or how many of them are left out.
    """

    def __init__(self, xp: Any, shape: tuple[int, ...], channels: int, padding: tuple[int, int], dtype: Any):
        self.xp, self.dtype, self.padding = xp, dtype, padding
        self.images, self.filters, height, width = shape
        self.m = 4 if max(height, width) > 2 else 2  # tiles of 4 would be mostly empty
        self.n = self.m + TAPS - 1
        self.a, self.g, self.b = (xp.asarray(matrix, dtype) for matrix in _on_tiles(self.m))
        self.rows, self.cols = -(-height // self.m), -(-width // self.m)
        self.tile_bytes = self.n**2 * (channels + self.filters) * np.dtype(dtype).itemsize

    def strips(self) -> list[_Strip]:
        """Cut all tiles into strips; the cut depends on sizes alone."""
        on_cpu = self.xp is np
        wanted = max((STRIP_BYTES if on_cpu else GPU_STRIP_BYTES) // self.tile_bytes, MIN_TILES)
        if on_cpu:
            wanted = min(wanted, max(self.images * self.rows * self.cols // STRIPS, MIN_TILES))
        if wanted >= self.rows * self.cols:
            step = max(wanted // max(self.rows * self.cols, 1), 1)
            return [
                _Strip(slice(i, min(i + step, self.images)), slice(0, self.rows))
                for i in range(0, self.images, step)
            ]
        count = -(-self.rows // max(wanted // self.cols, 1))
        bounds = [self.rows * i // count for i in range(count + 1)]
        return [
            _Strip(slice(i, i + 1), slice(*rows)) for i in range(self.images) for rows in pairwise(bounds)
        ]

    def inputs(self, x: Array, strip: _Strip) -> Array:
        """Return V = B^T x B of the tiles of a strip, (n * n, C, tiles)."""
        xp, m, n = self.xp, self.m, self.n
        top, left = self.padding
        channels, height, width = x.shape[1:]
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        # The part of the padded image below the strip, (C, images, rows, columns).
        first = strip.rows.start * m - top
        size = rows * m + TAPS - 1, self.cols * m + TAPS - 1
        part = scratch(xp, (channels, images, *size), self.dtype, "part")
        start, stop = min(max(first, 0), height), max(min(first + size[0], height), 0)
        begin, end = max(-left, 0), min(size[1] - left, width)
        within = x[strip.images, :, start:stop, begin:end].transpose(1, 0, 2, 3)
        if within.shape != part.shape:
            part[...] = 0
        part[:, :, start - first : stop - first, left + begin : left + end] = within
        columns = self._tiles(part, n, rows)
        v = scratch(xp, (n * n, channels * images * rows * self.cols), self.dtype, "inputs")
        # (n * n, C * tiles) = (n * n, n * n) @ (n * n, C * tiles)
        xp.matmul(self.b, columns.reshape(v.shape), out=v)
        return v.reshape(n * n, channels, -1)

    def _rows(self, y: Array, strip: _Strip) -> Array:
        """Return the part (O, images, rows, columns) of y that belongs to a strip, as a view."""
        rows: Array = y[strip.images, :, strip.rows.start * self.m : strip.rows.stop * self.m]
        return rows.transpose(1, 0, 2, 3)

    def outputs(self, products: Array, strip: _Strip, y: Array, relu: bool) -> None:
        """Write y = A^T M A, or max(y, 0), for products M (n * n, O, tiles), to the tiles of a strip."""
        xp, m = self.xp, self.m
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        tiles = scratch(xp, (m, m, self.filters, images, rows, self.cols), self.dtype, "tiles")
        # (m * m, O * tiles) = (m * m, n * n) @ (n * n, O * tiles)
        xp.matmul(self.a, products.reshape(self.n**2, -1), out=tiles.reshape(m * m, -1))
        # Side by side, in work space: the last tiles may reach beyond y.
        image = scratch(xp, (self.filters, images, rows, m, self.cols, m), self.dtype, "part")
        for j in range(m):
            # (m, O, images, rows, columns) -> (O, images, rows, m, columns)
            image[..., j] = tiles[:, j].transpose(1, 2, 3, 0, 4)
        part = self._rows(y, strip)
        whole = image.reshape(self.filters, images, rows * m, -1)[:, :, : part.shape[2], : part.shape[3]]
        if relu:
            xp.maximum(whole, 0, out=part)
        else:
            part[...] = whole

    def gradients(self, dy: Array, strip: _Strip) -> Array:
        """Return dM = A dy A^T of the tiles of a strip, (n * n, O, tiles)."""
        xp, m = self.xp, self.m
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        image = scratch(xp, (self.filters, images, rows * m, self.cols * m), self.dtype, "part")
        part = self._rows(dy, strip)
        if part.shape != image.shape:
            image[...] = 0
        image[:, :, : part.shape[2], : part.shape[3]] = part
        columns = self._tiles(image, m, rows)
        products = scratch(xp, (self.n**2, columns[0, 0].size), self.dtype, "products")
        # (n * n, O * tiles) = (n * n, m * m) @ (m * m, O * tiles)
        xp.matmul(self.a.T, columns.reshape(m * m, -1), out=products)
        return products.reshape(self.n**2, self.filters, -1)

    def _tiles(self, image: Array, size: int, rows: int) -> Array:
        """Copy an image (C, images, ...) to tiles (size, size, C, images, rows, columns), m apart."""
        c, i, h, w = image.strides
        tiles = scratch(self.xp, (size, size, *image.shape[:2], rows, self.cols), self.dtype, "tiles")
        tiles[...] = self.xp.lib.stride_tricks.as_strided(
            image, tiles.shape, (h, w, c, i, self.m * h, self.m * w)
        )
        return tiles

    def weights(self, w: Array, *, turned: bool = False) -> Array:
        """Return U = G w G^T, (n * n, O, C), of the filters as they are, or turned by half a turn."""
        xp, (filters, channels) = self.xp, w.shape[:2]
        u = scratch(xp, (self.n**2, filters, channels), self.dtype, "filters")
        order = -1 if turned else 1

        def some(part: slice) -> None:
            taps = scratch(xp, (TAPS**2, part.stop - part.start, channels), self.dtype, "tiles")
            taps[...] = w[part].reshape(-1, channels, TAPS**2)[..., ::order].transpose(2, 0, 1)
            # (n * n, some O, C) = (n * n, 9) @ (9, some O * C)
            xp.matmul(self.g, taps.reshape(TAPS**2, -1), out=u[:, part].reshape(self.n**2, -1))

        # Few filters are not worth a second core.
        step = max(-(-filters // shares_of(xp)), (1 << 14) // channels, 1)
        run_strips(some, pieces_of(filters, step), xp)
        return u


def conv2d(x: Array, w: Array, geometry: ConvGeometry, b: Array | None, y: Array, relu: bool) -> None:
    """Filters and tiles, transformed and multiplied, are outputs, transformed."""
    padding = geometry.rows.padding, geometry.cols.padding
    tiling = _Tiling(array_module(x=x, w=w, b=b), y.shape, x.shape[1], padding, x.dtype)
    _correlate(tiling, x, tiling.weights(w), b, y, relu)


def _correlate(tiling: _Tiling, x: Array, u: Array, b: Array | None, y: Array, relu: bool) -> None:
    """Write the correlation of x with filters, transformed to u (n * n, O, C), to y."""
    xp = tiling.xp

    def strip_of_outputs(strip: _Strip) -> None:
        v = tiling.inputs(x, strip)
        products = scratch(xp, (*u.shape[:2], v.shape[2]), x.dtype, "products")
        xp.matmul(u, v, out=products)  # (n * n, O, tiles) = (n * n, O, C) @ (n * n, C, tiles)
        if b is not None:
            # At the point 1 every power is 1: what is added to this product is added to all outputs.
            products[tiling.n + 1] += b[:, None]
        tiling.outputs(products, strip, y, relu)

    run_strips(strip_of_outputs, tiling.strips(), xp)


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """The steps of `conv2d` transposed: dw = G^T (dM V^T) G, summed over strips."""
    xp = array_module(x=x, dy=dy)
    filters, channels = dy.shape[1], x.shape[1]
    padding = geometry.rows.padding, geometry.cols.padding
    tiling = _Tiling(xp, dy.shape, channels, padding, x.dtype)
    strips = tiling.strips()
    shape = tiling.n**2, filters, channels

    shares = (4 if math.prod(shape) * x.itemsize <= SMALL_SUM_BYTES else 2) if xp is np else 1
    # Work space of the caller: fresh pages for arrays as large as these would cost as much as the products.
    totals = [scratch(xp, shape, x.dtype, f"sum {share}") for share in range(shares)]
    # A few of the matrices at a time, so that what is added is in the cache.
    step = max(SUM_BYTES // (filters * channels * x.itemsize), 1) if xp is np else tiling.n**2

    def share_of_sum(share: int) -> None:
        total, mine = totals[share], strips[share::shares]
        if not mine:
            total[...] = 0
        for strip in mine:
            # (some n * n, O, C) = (some n * n, O, tiles) @ (some n * n, tiles, C)
            dm, v = tiling.gradients(dy, strip), tiling.inputs(x, strip).transpose(0, 2, 1)
            for k in range(0, tiling.n**2, step):
                some = slice(k, k + step)
                if strip is mine[0]:
                    xp.matmul(dm[some], v[some], out=total[some])
                else:
                    product = scratch(xp, total[some].shape, x.dtype, "product")
                    total[some] += xp.matmul(dm[some], v[some], out=product)

    run_strips(share_of_sum, range(shares), xp)
    du, *others = totals
    for other in others:
        add_to(du, other)
    # (9, O * C) = (9, n * n) @ (n * n, O * C)
    dw = matmul(tiling.g.T, du.reshape(tiling.n**2, -1))
    # (9, O, C) -> (O, C, 3, 3)
    ordered: Array = xp.ascontiguousarray(dw.reshape(TAPS, TAPS, filters, channels).transpose(2, 3, 0, 1))
    return ordered


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Each number of dx meets the taps in the opposite order: a convolution of dy with the filters turned."""
    xp, (filters, channels) = array_module(dy=dy, w=w), w.shape[:2]
    padding = TAPS - 1 - geometry.rows.padding, TAPS - 1 - geometry.cols.padding
    dx: Array = xp.empty((len(dy), channels, *input_size), dy.dtype)
    tiling = _Tiling(xp, dx.shape, filters, padding, dy.dtype)
    turned = tiling.weights(w, turned=True).transpose(0, 2, 1)  # (n * n, O, C) -> (n * n, C, O)
    _correlate(tiling, dy, turned, None, dx, relu=False)
    return dx
