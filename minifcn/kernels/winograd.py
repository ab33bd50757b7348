"""3 x 3 convolutions with a quarter of the multiplications (Winograd's minimal filtering).

Four neighbouring outputs of a filter g with three taps are twelve products of six inputs d: by the definition
twelve multiplications, but six are enough. Read both as polynomials. To multiply two polynomials one may
evaluate them at as many points as their product has coefficients, multiply the values, and interpolate (Toom
and Cook); a correlation is the transpose of such a product, and so takes the same three steps in the order

    y  =  A^T [ (G g) * (B^T d) ],        * element by element,

where G evaluates the filter at the points, B^T combines the inputs, and A^T puts the outputs together. With
five points and "infinity" (the leading coefficient), six multiplications give m = 4 outputs: F(4, 3). In two
dimensions rows and columns are transformed alike, and a *tile* of 6 x 6 inputs gives 4 x 4 outputs by 36
multiplications instead of 144: F(4 x 4, 3 x 3) (Lavin & Gray 2016). Over C channels, and over all tiles of an
image, the multiplications are 36 matrix products, one for each of the 36 elements k of a tile:

    M[k]  =  U[k] @ V[k],     (O, tiles) = (O, C) @ (C, tiles),

with U = G w G^T of the filters and V = B^T x B of the tiles. Each transform, too, is two matrix products for
all tiles at once: first along the rows of the tiles, then along their columns.

The gradient to the filters is the same steps transposed, in the opposite order, and with dM = A dy A^T

    dw  =  G^T (dM V^T) G.

The gradient to the input is a convolution again, of dy with the filters turned by half a turn.

The price is rounding: powers of the points lead to sums of terms of different magnitude. How much is lost
depends on the points (Barabasz et al. 2020). With 0, 5/8, -5/8, 3/2 and -3/2 the error in float32 is three to
four times that of the definition; with the usual 0, 1, -1, 2 and -2 it would be more than twice as large. All
inputs of a tile take part in all of its outputs, with weights that cancel only up to rounding, so:

- The error of an output is up to 2e-5 times the largest |input| of its tile, in any channel, times the sum of
  |w| of its filter (the sums of |A^T|, |G| and |B^T| multiply a rounding of 2^-24 by up to 204). Beside one
  pixel that is far larger than its neighbours, this can be more than the outputs themselves.
- NaN or infinity in one input reaches all outputs of the tiles that it lies in, at most 8 x 8 positions. By
  the definition these are 3 x 3.
- Inputs above 1e37 may overflow, and so may outputs above a 256th of the largest float32.
"""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from minifcn.backend import Array
from minifcn.kernels.costs import CORES, Work, copy, matmul
from minifcn.kernels.plans import Plan, Problem, add_bias, elapsed
from minifcn.kernels.threads import add, parallel_map
from minifcn.kernels.windows import MIN_CHUNKS, Chunk, cut_rows, region
from minifcn.kernels.workspace import chunk_bytes, cut, parts, workspace

TAPS = 3

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.625, -0.625, 1.5, -1.5)}
"""Where polynomials are evaluated, for each number of outputs of a tile: those with small errors among
numbers with few binary digits."""

MIN_TILES = 96
"""Tiles of a chunk, at least: fewer make thin matrix products."""

FEW_TILES = 256
FILTERS_OF_A_TILE = 90
"""Tiles are few if there are not more of them, and so many filters times channels for each; measured."""

FEW_FILTERS = 64
FEW_CHUNKS = 4
"""Filters, or channels, of a chunk then, at most; and how many chunks there are at least."""

SUM_BYTES = 1 << 20
"""Products that are added to a sum at a time, so that they are in the cache."""

SMALL_SUM_BYTES = 1 << 22
"""Sums over tiles, from which the gradient to the weight is made: up to this size there are four of them."""


def has_few_tiles(tiles: int, filters: int, channels: int) -> bool:
    """Return whether there are so few tiles that all of them are kept transformed, and not the filters."""
    return 0 < tiles <= min(FEW_TILES, filters * channels / FILTERS_OF_A_TILE)


def _cut_few(total: int) -> list[slice]:
    """Cut filters or channels into chunks, where tiles are few."""
    return list(cut(total, min(FEW_FILTERS, -(-total // FEW_CHUNKS))))


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
    points = np.array(POINTS[outputs])
    # Values at the points, and the leading coefficient, of polynomials with so many coefficients.
    values = [np.vander(points, n, increasing=True) for n in (outputs, TAPS)]
    at_infinity = [np.eye(n)[-1:] for n in (outputs, TAPS)]
    a, g = (np.concatenate(parts) for parts in zip(values, at_infinity, strict=True))
    # Lagrange: the polynomial that vanishes at all points but one, divided by its value there.
    others = [np.delete(points, i) for i in range(len(points))]
    g[:-1] /= [[np.prod(point - rest)] for point, rest in zip(points, others, strict=True)]
    b = [np.append(np.poly(rest)[::-1], 0.0) for rest in others] + [np.poly(points)[::-1]]
    return a.T, g, np.array(b)


class _Tiling:
    """How the outputs of a correlation are cut into tiles, and the tiles into chunks.

    Args:
        p: The problem.
        shape: (N, O, OH, OW) of the outputs.
        channels: C.
        padding: Zeros before the first row and column of the input; negative where some are left out.
    """

    def __init__(self, p: Problem, shape: tuple[int, ...], channels: int, padding: tuple[int, int]):
        self.xp, self.dtype, self.padding, self.channels = p.xp, p.dtype, padding, channels
        self.images, self.filters, height, width = shape
        self.m = 4 if max(height, width) > 2 else 2  # tiles of 4 would be mostly empty
        self.n = self.m + TAPS - 1
        self.rows, self.cols = -(-height // self.m), -(-width // self.m)
        self.plane = slice(0, self.rows), slice(0, self.cols)
        self.tiles = self.images * self.rows * self.cols
        self.few = self.xp is np and has_few_tiles(self.tiles, self.filters, channels)
        self.all = Chunk(slice(0, self.images), *self.plane)
        self.tile_bytes = self.n**2 * (channels + self.filters) * self.dtype.itemsize
        self.chunks = [] if self.few else self._cut()

    @cached_property
    def matrices(self) -> tuple[Array, Array, Array]:
        """A^T, G and B^T."""
        a, g, b = transforms(self.m)
        return self.xp.asarray(a, self.dtype), self.xp.asarray(g, self.dtype), self.xp.asarray(b, self.dtype)

    def _cut(self) -> list[Chunk]:
        """Cut all tiles into chunks."""
        wanted = max(chunk_bytes(self.xp) // self.tile_bytes, MIN_TILES)
        if self.xp is np:
            wanted = min(wanted, max(self.tiles // MIN_CHUNKS, MIN_TILES))
        plane = max(self.rows * self.cols, 1)
        if wanted >= plane:
            return [Chunk(some, *self.plane) for some in cut(self.images, wanted // plane)]
        return cut_rows(self.images, self.rows, self.cols, wanted // self.cols)

    def work(self, inputs: int, outputs: int, chunks: int) -> Work:
        """Return the work on all tiles, whose inputs are transformed so many times, and so the outputs."""
        n, channels, filters = self.n**2, self.channels, self.filters
        tiles = self.tiles // max(chunks, 1)
        once = matmul(filters, channels, tiles, n) + Work(calls=12 + self.m)
        once += self._transforms(channels * tiles, self.n, self.n) * inputs + copy(n * channels * tiles, 1)
        once += self._transforms(filters * tiles, self.m, self.n) * outputs
        return once * chunks

    def _transforms(self, tiles: int, small: int, large: int) -> Work:
        """Return the work of a transform of tiles between (small, small) and (large, large)."""
        both = matmul(large, small, small * tiles) + matmul(large, small, tiles, large)
        return both + copy(self.m * small * tiles, self.m * self.cols)

    def inputs(self, x: Array, chunk: Chunk, out: Array | None = None) -> Array:
        """Return V = B^T x B of the tiles of a chunk, (n * n, C, tiles), in workspace or in `out`."""
        (rows, cols), (top, left) = chunk.size, self.padding
        # The part of the padded image below the chunk, (C, images, rows, columns).
        size = rows * self.m + TAPS - 1, cols * self.m + TAPS - 1
        part = region(x[chunk.images].transpose(1, 0, 2, 3), chunk.rows.start * self.m - top, -left, size)
        return self._transform(self.matrices[2], part, rows, cols, "inputs", out)

    def _transform(
        self, matrix: Array, image: Array, rows: int, cols: int, slot: str, out: Array | None
    ) -> Array:
        """Return M d M^T for the tiles d of an image (C, images, H, W) and M (n, k): (n * n, C, tiles)."""
        xp, m, n, k, (channels, images, _, width) = self.xp, self.m, *matrix.shape, image.shape
        as_strided = xp.lib.stride_tricks.as_strided
        c, i, h, w = image.strides
        # (k, C, images, rows, W): tiles begin m rows apart
        tall = workspace(xp, (k, channels, images, rows, width), self.dtype, "tall")
        tall[...] = as_strided(image, tall.shape, (h, c, i, m * h, w))
        half = workspace(xp, (n, *tall.shape[1:]), self.dtype, "half")
        xp.matmul(matrix, tall.reshape(k, -1), out=half.reshape(n, -1))
        if k == m:  # tiles side by side: (n, C * tiles, m) -> (n, m, C * tiles), a view
            tiles = half.reshape(n, -1, m).transpose(0, 2, 1)
        else:
            first, *others, w = half.strides
            wide = workspace(xp, (n, k, channels, images, rows, cols), self.dtype, "wide")
            wide[...] = as_strided(half, wide.shape, (first, w, *others, m * w))
            tiles = wide.reshape(n, k, -1)
        if out is None:
            out = workspace(xp, (n * n, channels, images * rows * cols), self.dtype, slot)
        # (n, n, C * tiles) = (n, k) @ (n, k, C * tiles)
        xp.matmul(matrix, tiles, out=out.reshape(n, n, -1))
        return out

    def _rows(self, y: Array, chunk: Chunk) -> Array:
        """Return the part (O, images, rows, columns) of y that belongs to a chunk, as a view."""
        rows: Array = y[chunk.images, :, chunk.rows.start * self.m : chunk.rows.stop * self.m]
        return rows.transpose(1, 0, 2, 3)

    def outputs(self, products: Array, b: Array | None, chunk: Chunk, y: Array, relu: bool) -> None:
        """Write y = A^T M A + b, or max(y, 0), for products M (n * n, O, tiles), to the tiles of a chunk."""
        xp, m, n, (rows, cols), part = self.xp, self.m, self.n, chunk.size, self._rows(y, chunk)
        filters, images, _, width = part.shape
        half = workspace(xp, (m, n, products[0].size), self.dtype, "half")
        # (m, n * O * tiles) = (m, n) @ (n, n * O * tiles)
        xp.matmul(self.matrices[0], products.reshape(n, -1), out=half.reshape(m, -1))
        wide = workspace(xp, (m, products[0].size, m), self.dtype, "wide")
        # (m, O * tiles, m) = (m, O * tiles, n) @ (n, m): the outputs of a row of tiles side by side
        xp.matmul(half.transpose(0, 2, 1), self.matrices[0].T, out=wide)
        image = wide.reshape(m, filters, images, rows, cols * m)
        for i in range(m):
            here = part[:, :, i::m]  # the last tiles may reach beyond y
            here[...] = image[i, :, :, : here.shape[2], :width]
        part = part.transpose(1, 0, 2, 3)
        # As long rows, if they touch one another: (images, O, H, W) -> (images, O, H * W), a view
        touch = part.strides[2] == width * part.strides[3]
        add_bias(part.reshape(images, filters, -1) if touch else part, b, relu)

    def gradients(self, dy: Array, chunk: Chunk, out: Array | None = None) -> Array:
        """Return dM = A dy A^T of the tiles of a chunk, (n * n, O, tiles), in workspace or in `out`."""
        rows, cols = chunk.size
        part = region(self._rows(dy, chunk), 0, 0, (rows * self.m, cols * self.m))
        return self._transform(self.matrices[0].T, part, rows, cols, "products", out)

    def weights(self, w: Array, u: Array, *, turned: bool) -> None:
        """Write U = G w G^T of filters (O, C, 3, 3), as they are or turned, to u (n * n, O, C)."""
        g, n = self.matrices[1][:, ::-1] if turned else self.matrices[1], self.n
        half = workspace(self.xp, (TAPS, n, w[:, :, 0, 0].size), self.dtype, "half")
        # (3, n, O * C) = (n, 3) @ (3, 3, O * C), and (n, n, O * C) = (n, 3) @ (n, 3, O * C) turned
        self.xp.matmul(g, w.reshape(-1, TAPS, TAPS).transpose(1, 2, 0), out=half)
        self.xp.matmul(g, half.transpose(1, 0, 2), out=u.reshape(n, n, -1).transpose(1, 0, 2))

    def taps(self, du: Array, dw: Array) -> None:
        """Write dw = G^T dU G (O, C, 3, 3) for dU (n * n, O, C)."""
        g, n = self.matrices[1], self.n
        half = workspace(self.xp, (TAPS, n, du[0].size), self.dtype, "half")
        # (n, 3, O * C) = (3, n) @ (n, n, O * C), with rows and columns exchanged
        self.xp.matmul(g.T, du.reshape(n, n, -1).transpose(1, 0, 2), out=half.transpose(1, 0, 2))
        taps = workspace(self.xp, (TAPS, du[0].size, TAPS), self.dtype, "wide")
        self.xp.matmul(half.transpose(0, 2, 1), g, out=taps)  # (3, O * C, 3) = (3, O * C, n) @ (n, 3)
        dw[...] = taps.reshape(TAPS, *dw.shape[:2], TAPS).transpose(1, 2, 0, 3)  # (O, C, 3, 3)

    def of_all_tiles(self, transform: Callable[..., Array], x: Array, slot: str) -> Array:
        """Return a transform of all tiles of x (N, C, H, W); threads share the channels."""
        whole = workspace(self.xp, (self.n**2, x.shape[1], self.tiles), self.dtype, slot)

        def some_channels(some: slice) -> None:
            transform(x[:, some], self.all, out=whole[:, some])

        parallel_map(some_channels, _cut_few(x.shape[1]), self.xp)
        return whole


def _correlate(
    tiling: _Tiling, turned: bool, x: Array, w: Array, b: Array | None, y: Array, relu: bool
) -> None:
    """Write the correlation of x with filters, or with filters turned and seen from y, to y.

    The smaller operand is transformed first and kept: all filters, or all tiles. The other one is transformed
    chunk by chunk.
    """
    xp = tiling.xp

    def multiply(u: Array, v: Array, chunk: Chunk, some: slice) -> None:
        u = u.transpose(0, 2, 1) if turned else u  # (n * n, O, C), for x and y of C and O channels
        products = workspace(xp, (len(u), u.shape[1], v.shape[2]), x.dtype, "products")
        xp.matmul(u, v, out=products)  # (n * n, O, tiles) = (n * n, O, C) @ (n * n, C, tiles)
        tiling.outputs(products, b if b is None else b[some], chunk, y[:, some], relu)

    if tiling.few:
        v = tiling.of_all_tiles(tiling.inputs, x, "all inputs")

        def some_filters(some: slice) -> None:
            filters = w[:, some] if turned else w[some]
            u = workspace(xp, (tiling.n**2, *filters.shape[:2]), x.dtype, "filters")
            tiling.weights(filters, u, turned=turned)
            multiply(u, v, tiling.all, some)

        parallel_map(some_filters, _cut_few(y.shape[1]), xp)
        return

    u = workspace(xp, (tiling.n**2, *w.shape[:2]), x.dtype, "filters")
    # Few filters are not worth a second core.
    step = max(-(-len(w) // parts(xp)), (1 << 14) // w.shape[1], 1)
    parallel_map(lambda part: tiling.weights(w[part], u[:, part], turned=turned), cut(len(w), step), xp)

    def outputs_of(chunk: Chunk) -> None:
        multiply(u, tiling.inputs(x, chunk), chunk, slice(None))

    parallel_map(outputs_of, tiling.chunks, xp)


def _input_grad(tiling: _Tiling, dy: Array, w: Array, dx: Array) -> None:
    _correlate(tiling, True, dy, w, None, dx, False)


def _number_of_sums(tiling: _Tiling) -> int:
    size = tiling.n**2 * tiling.filters * tiling.channels * tiling.dtype.itemsize
    return (4 if size <= SMALL_SUM_BYTES else 2) if tiling.xp is np else 1


def _weight_grad(tiling: _Tiling, x: Array, dy: Array, dw: Array) -> None:
    xp, (filters, channels) = tiling.xp, dw.shape[:2]
    if tiling.few:
        dm = tiling.of_all_tiles(tiling.gradients, dy, "all gradients")

        def some_channels(some: slice) -> None:
            v = tiling.inputs(x[:, some], tiling.all).transpose(0, 2, 1)
            du = workspace(xp, (tiling.n**2, filters, v.shape[2]), x.dtype, "product")
            xp.matmul(dm, v, out=du)  # (n * n, O, some C) = (n * n, O, tiles) @ (n * n, tiles, some C)
            tiling.taps(du, dw[:, some])

        parallel_map(some_channels, _cut_few(channels), xp)
        return

    shape, count = (tiling.n**2, filters, channels), _number_of_sums(tiling)
    # Workspace of the caller: fresh pages for arrays as large as these would cost as much as the products.
    totals = [workspace(xp, shape, x.dtype, f"sum {i}") for i in range(count)]
    step = max(SUM_BYTES // (filters * channels * x.itemsize), 1) if xp is np else tiling.n**2

    def partial_sum(i: int) -> None:
        total, chunks = totals[i], tiling.chunks[i::count]
        if not chunks:
            total[...] = 0
        for chunk in chunks:
            # (some n * n, O, C) = (some n * n, O, tiles) @ (some n * n, tiles, C)
            dm, v = tiling.gradients(dy, chunk), tiling.inputs(x, chunk).transpose(0, 2, 1)
            for k in range(0, tiling.n**2, step):
                some = slice(k, k + step)
                if chunk is chunks[0]:
                    xp.matmul(dm[some], v[some], out=total[some])
                else:
                    product = workspace(xp, total[some].shape, x.dtype, "product")
                    total[some] += xp.matmul(dm[some], v[some], out=product)

    parallel_map(partial_sum, range(count), xp)
    du, *others = totals
    for other in others:
        add(du, other, out=du)
    some_filters = cut(filters, -(-filters // parts(xp)))
    parallel_map(lambda some: tiling.taps(du[:, some], dw[some]), some_filters, xp)


def _plan(p: Problem, tiling: _Tiling, sums: int, run: Callable[..., None]) -> Plan:
    n, weights = tiling.n**2, p.filters * p.channels
    once = matmul(n, TAPS**2, weights) + copy(TAPS**2 * weights, 1)
    tiles = tiling.tiles * (p.channels + p.filters)
    if p.dtype == "float64":  # asked for where rounding matters, as in checks: never chosen there
        return Plan("winograd", p.dtype, Work(calls=float("inf")), 0, run)

    def halves(tiles: int, weights: int) -> int:  # elements between the two products of a transform
        return tiling.n * (tiling.m * tiles + TAPS * weights)

    if tiling.few:
        chunks = len(_cut_few(p.channels if sums else p.filters))
        work = tiling.work(1, 1, 1) + once * (2 if sums else 1) + Work(calls=20 * chunks, maps=2 * CORES)
        space = n * (tiles + weights // chunks) + halves(tiles // chunks, weights // chunks)
        return Plan("winograd", p.dtype, work * elapsed(chunks), space * p.dtype.itemsize, run)
    chunks = len(tiling.chunks)
    work = tiling.work(1, 1, chunks) + copy(2 * n * weights, n) * (chunks if sums else 0)
    work = work * elapsed(min(chunks, sums) if sums else chunks)
    work += (once + copy(2 * n * weights, n) * sums) * elapsed(CORES) + Work(maps=2 + sums)
    each = tiles // max(chunks, 1)
    space = n * (each + weights * max(sums, 1)) + halves(each, weights // parts(p.xp))
    return Plan("winograd", p.dtype, work, space * p.dtype.itemsize, run)


def _fits(p: Problem) -> bool:
    g = p.geometry
    return (g.kernel_size, g.stride, g.dilation, g.groups) == ((TAPS, TAPS), (1, 1), (1, 1), 1)


def _forward_tiling(p: Problem) -> _Tiling:
    return _Tiling(p, p.output_shape, p.channels, (p.geometry.rows.padding[0], p.geometry.cols.padding[0]))


def plan_conv2d(p: Problem) -> Plan | None:
    """Filters and tiles, transformed and multiplied, are outputs, transformed."""
    if not _fits(p):
        return None
    tiling = _forward_tiling(p)
    return _plan(p, tiling, 0, partial(_correlate, tiling, False))


def plan_input_grad(p: Problem) -> Plan | None:
    """Each element of dx meets the taps in reverse order: a convolution of dy with the filters turned."""
    if not _fits(p):
        return None
    padding = TAPS - 1 - p.geometry.rows.padding[0], TAPS - 1 - p.geometry.cols.padding[0]
    tiling = _Tiling(p, (p.images, p.channels, *p.input_size), p.filters, padding)
    return _plan(p, tiling, 0, partial(_input_grad, tiling))


def plan_weight_grad(p: Problem) -> Plan | None:
    """The steps of `plan_conv2d` transposed: dw = G^T (dM V^T) G, summed over chunks."""
    if not _fits(p):
        return None
    tiling = _forward_tiling(p)
    return _plan(p, tiling, _number_of_sums(tiling), partial(_weight_grad, tiling))
