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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.threads import GPU_STRIP_BYTES, add_to, parallel_map, pieces_of, shares_of, workspace

TAPS = 3
STRIP_BYTES = 1 << 23
"""Transformed tiles of one strip, in and out: what the nearest caches hold."""

STRIPS = 16
"""Strips at least, where there are so many tiles: cores that take them in turn then finish together."""

MIN_TILES = 96
"""Tiles of a strip, at least: fewer make thin matrix products."""

FEW_TILES = 256
FILTERS_OF_A_TILE = 90
"""Tiles are few if there are not more of them, and so many filters times channels for each; measurements."""

FEW = 64
FEW_SHARES = 4
"""Filters, or channels, of a share of the work then, at most; and how many shares there are at least."""

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


def has_few_tiles(tiles: float, filters: int, channels: int) -> bool:
    """Return whether there are so few tiles that it is they that are all kept, and not the filters."""
    return 0 < tiles <= min(FEW_TILES, filters * channels / FILTERS_OF_A_TILE)


def _few(total: int) -> Iterator[slice]:
    """Cut filters or channels into shares."""
    return pieces_of(total, min(FEW, -(-total // FEW_SHARES)))


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
        self.tiles = self.images * self.rows * self.cols
        self.all = _Strip(slice(0, self.images), slice(0, self.rows))
        self.tile_bytes = self.n**2 * (channels + self.filters) * np.dtype(dtype).itemsize

    def strips(self) -> list[_Strip]:
        """Cut all tiles into strips; the cut depends on sizes alone."""
        on_cpu = self.xp is np
        wanted = max((STRIP_BYTES if on_cpu else GPU_STRIP_BYTES) // self.tile_bytes, MIN_TILES)
        if on_cpu:
            wanted = min(wanted, max(self.tiles // STRIPS, MIN_TILES))
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

    def inputs(self, x: Array, strip: _Strip, out: Array | None = None) -> Array:
        """Return V = B^T x B of the tiles of a strip, (n * n, C, tiles), in work space or in `out`."""
        xp, m, n = self.xp, self.m, self.n
        top, left = self.padding
        channels, height, width = x.shape[1:]
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        # The part of the padded image below the strip, (C, images, rows, columns).
        first = strip.rows.start * m - top
        size = rows * m + TAPS - 1, self.cols * m + TAPS - 1
        part = workspace(xp, (channels, images, *size), self.dtype, "part")
        start, stop = min(max(first, 0), height), max(min(first + size[0], height), 0)
        begin, end = max(-left, 0), min(size[1] - left, width)
        within = x[strip.images, :, start:stop, begin:end].transpose(1, 0, 2, 3)
        if within.shape != part.shape:
            part[...] = 0
        part[:, :, start - first : stop - first, left + begin : left + end] = within
        columns = self._tiles(part, n, rows)
        shape = n * n, channels, images * rows * self.cols
        v = workspace(xp, shape, self.dtype, "inputs") if out is None else out
        # (n * n, C * tiles) = (n * n, n * n) @ (n * n, C * tiles)
        xp.matmul(self.b, columns.reshape(n * n, -1), out=v.reshape(n * n, -1))
        return v

    def _rows(self, y: Array, strip: _Strip) -> Array:
        """Return the part (O, images, rows, columns) of y that belongs to a strip, as a view."""
        rows: Array = y[strip.images, :, strip.rows.start * self.m : strip.rows.stop * self.m]
        return rows.transpose(1, 0, 2, 3)

    def outputs(self, products: Array, strip: _Strip, y: Array, relu: bool) -> None:
        """Write y = A^T M A, or max(y, 0), for products M (n * n, O, tiles), to the tiles of a strip."""
        xp, m, filters = self.xp, self.m, y.shape[1]
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        tiles = workspace(xp, (m, m, filters, images, rows, self.cols), self.dtype, "tiles")
        # (m * m, O * tiles) = (m * m, n * n) @ (n * n, O * tiles)
        xp.matmul(self.a, products.reshape(self.n**2, -1), out=tiles.reshape(m * m, -1))
        # Side by side, in work space: the last tiles may reach beyond y.
        image = workspace(xp, (filters, images, rows, m, self.cols, m), self.dtype, "part")
        for j in range(m):
            # (m, O, images, rows, columns) -> (O, images, rows, m, columns)
            image[..., j] = tiles[:, j].transpose(1, 2, 3, 0, 4)
        part = self._rows(y, strip)
        whole = image.reshape(filters, images, rows * m, -1)[:, :, : part.shape[2], : part.shape[3]]
        if relu:
            xp.maximum(whole, 0, out=part)
        else:
            part[...] = whole

    def gradients(self, dy: Array, strip: _Strip, out: Array | None = None) -> Array:
        """Return dM = A dy A^T of the tiles of a strip, (n * n, O, tiles), in work space or in `out`."""
        xp, m, filters = self.xp, self.m, dy.shape[1]
        images, rows = strip.images.stop - strip.images.start, strip.rows.stop - strip.rows.start
        image = workspace(xp, (filters, images, rows * m, self.cols * m), self.dtype, "part")
        part = self._rows(dy, strip)
        if part.shape != image.shape:
            image[...] = 0
        image[:, :, : part.shape[2], : part.shape[3]] = part
        columns = self._tiles(image, m, rows)
        shape = self.n**2, filters, images * rows * self.cols
        dm = workspace(xp, shape, self.dtype, "products") if out is None else out
        # (n * n, O * tiles) = (n * n, m * m) @ (m * m, O * tiles)
        xp.matmul(self.a.T, columns.reshape(m * m, -1), out=dm.reshape(self.n**2, -1))
        return dm

    def _tiles(self, image: Array, size: int, rows: int) -> Array:
        """Copy an image (C, images, ...) to tiles (size, size, C, images, rows, columns), m apart."""
        c, i, h, w = image.strides
        tiles = workspace(self.xp, (size, size, *image.shape[:2], rows, self.cols), self.dtype, "tiles")
        tiles[...] = self.xp.lib.stride_tricks.as_strided(
            image, tiles.shape, (h, w, c, i, self.m * h, self.m * w)
        )
        return tiles

    def weights(self, w: Array, u: Array, *, turned: bool) -> None:
        """Write U = G w G^T of filters (O, C, 3, 3), as they are or turned, to u (n * n, O, C)."""
        g = self.g[:, ::-1] if turned else self.g
        # (n * n, O * C) = (n * n, 9) @ (9, O * C)
        self.xp.matmul(g, w.reshape(-1, TAPS**2).T, out=u.reshape(self.n**2, -1))

    def taps(self, du: Array, dw: Array) -> None:
        """Write dw = G^T dU G (O, C, 3, 3) for dU (n * n, O, C)."""
        taps = workspace(self.xp, (TAPS**2, *dw.shape[:2]), self.dtype, "tiles")
        # (9, O * C) = (9, n * n) @ (n * n, O * C)
        self.xp.matmul(self.g.T, du.reshape(self.n**2, -1), out=taps.reshape(TAPS**2, -1))
        # (9, O, C) -> (O, C, 3, 3)
        dw[...] = taps.reshape(TAPS, TAPS, *dw.shape[:2]).transpose(2, 3, 0, 1)

    def of_all_tiles(self, transform: Callable[..., Array], x: Array, slot: str) -> Array:
        """Return what a transform gives for all tiles of x (N, C, H, W); cores share the channels."""
        whole = workspace(self.xp, (self.n**2, x.shape[1], self.tiles), self.dtype, slot)

        def some_channels(some: slice) -> None:
            transform(x[:, some], self.all, out=whole[:, some])

        parallel_map(some_channels, _few(x.shape[1]), self.xp)
        return whole


def conv2d(x: Array, w: Array, geometry: ConvGeometry, b: Array | None, y: Array, relu: bool) -> None:
    """Filters and tiles, transformed and multiplied, are outputs, transformed."""
    padding = geometry.rows.padding[0], geometry.cols.padding[0]
    tiling = _Tiling(array_module(x=x, w=w, b=b), y.shape, x.shape[1], padding, x.dtype)
    _correlate(tiling, x, w, b, y, relu, turned=False)


def _correlate(
    tiling: _Tiling, x: Array, w: Array, b: Array | None, y: Array, relu: bool, *, turned: bool
) -> None:
    """Write the correlation of x with filters, or with filters turned and seen from y, to y.

    What there is less of is transformed first, and kept: all filters, or all tiles. The other is transformed
    where it is multiplied, a share at a time, and stays in the cache.
    """
    xp = tiling.xp

    def multiply(u: Array, v: Array, strip: _Strip, some: slice) -> None:
        u = u.transpose(0, 2, 1) if turned else u  # (n * n, O, C), for x and y of C and O channels
        products = workspace(xp, (*u.shape[:2], v.shape[2]), x.dtype, "products")
        xp.matmul(u, v, out=products)  # (n * n, O, tiles) = (n * n, O, C) @ (n * n, C, tiles)
        if b is not None:
            # At the point 1 every power is 1: what is added to this product is added to all outputs.
            products[tiling.n + 1] += b[some, None]
        tiling.outputs(products, strip, y[:, some], relu)

    if xp is np and has_few_tiles(tiling.tiles, *w.shape[:2]):
        v = tiling.of_all_tiles(tiling.inputs, x, "all inputs")

        def some_filters(some: slice) -> None:
            filters = w[:, some] if turned else w[some]
            u = workspace(xp, (tiling.n**2, *filters.shape[:2]), x.dtype, "filters")
            tiling.weights(filters, u, turned=turned)
            multiply(u, v, tiling.all, some)

        parallel_map(some_filters, _few(y.shape[1]), xp)
        return

    u = workspace(xp, (tiling.n**2, *w.shape[:2]), x.dtype, "filters")
    # Few filters are not worth a second core.
    step = max(-(-len(w) // shares_of(xp)), (1 << 14) // w.shape[1], 1)
    parallel_map(lambda part: tiling.weights(w[part], u[:, part], turned=turned), pieces_of(len(w), step), xp)

    def strip_of_outputs(strip: _Strip) -> None:
        multiply(u, tiling.inputs(x, strip), strip, slice(None))

    parallel_map(strip_of_outputs, tiling.strips(), xp)


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """The steps of `conv2d` transposed: dw = G^T (dM V^T) G, summed over strips."""
    xp = array_module(x=x, dy=dy)
    filters, channels = dy.shape[1], x.shape[1]
    padding = geometry.rows.padding[0], geometry.cols.padding[0]
    tiling = _Tiling(xp, dy.shape, channels, padding, x.dtype)
    dw: Array = xp.empty((filters, channels, TAPS, TAPS), x.dtype)
    if xp is np and has_few_tiles(tiling.tiles, filters, channels):
        dm = tiling.of_all_tiles(tiling.gradients, dy, "all gradients")

        def some_channels(some: slice) -> None:
            v = tiling.inputs(x[:, some], tiling.all).transpose(0, 2, 1)
            du = workspace(xp, (tiling.n**2, filters, v.shape[2]), x.dtype, "product")
            xp.matmul(dm, v, out=du)  # (n * n, O, some C) = (n * n, O, tiles) @ (n * n, tiles, some C)
            tiling.taps(du, dw[:, some])

        parallel_map(some_channels, _few(channels), xp)
        return dw

    strips = tiling.strips()
    shape = tiling.n**2, filters, channels

    shares = (4 if math.prod(shape) * x.itemsize <= SMALL_SUM_BYTES else 2) if xp is np else 1
    # Work space of the caller: fresh pages for arrays as large as these would cost as much as the products.
    totals = [workspace(xp, shape, x.dtype, f"sum {share}") for share in range(shares)]
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
                    product = workspace(xp, total[some].shape, x.dtype, "product")
                    total[some] += xp.matmul(dm[some], v[some], out=product)

    parallel_map(share_of_sum, range(shares), xp)
    du, *others = totals
    for other in others:
        add_to(du, other)
    some_filters = pieces_of(filters, -(-filters // shares_of(xp)))
    parallel_map(lambda some: tiling.taps(du[:, some], dw[some]), some_filters, xp)
    return dw


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Each number of dx meets the taps in the opposite order: a convolution of dy with the filters turned."""
    xp, (filters, channels) = array_module(dy=dy, w=w), w.shape[:2]
    padding = TAPS - 1 - geometry.rows.padding[0], TAPS - 1 - geometry.cols.padding[0]
    dx: Array = xp.empty((len(dy), channels, *input_size), dy.dtype)
    tiling = _Tiling(xp, dx.shape, filters, padding, dy.dtype)
    _correlate(tiling, dy, w, None, dx, relu=False, turned=True)
    return dx
