"""Convolution as one large matrix product, made strip by strip.

Written as columns, the windows of an image form a matrix with C KH KW rows and one column for each output
position; the filters times that matrix are the outputs ("im2col", Chellapilla et al. 2006). The whole matrix
is KH KW times as large as the image: more than a gigabyte for one layer of VGG16 at 500 x 375. So it is never
made whole. A *strip* of output positions at a time is copied into a small work space that stays in the cache,
multiplied, and forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minifcn.backend import Array, array_module, run_strips, scratch
from minifcn.functional.padding import pad_or_crop
from minifcn.geometry import ConvGeometry

STRIP_BYTES = 1 << 20
"""Columns of one strip and what they are multiplied into: about what the cache of one core holds."""

MIN_POSITIONS = 64
"""Output positions of a strip, at least: the columns of a 7 x 7 kernel on 4096 channels take 51 MB then."""

MAX_PARTIAL_BYTES = 1 << 22
"""Up to this size, gradients of the weights are summed in four parts side by side."""


@dataclass(frozen=True)
class Strip:
    """Some output positions: whole images, or rows of one image, or a part of one row."""

    images: slice
    rows: slice
    cols: slice


def _pieces(total: int, size: int) -> Iterator[slice]:
    """Cut `total` into slices of nearly equal length, at most `size` long."""
    count = -(-total // max(size, 1))
    bounds = [total * i // count for i in range(count + 1)] if count else []
    yield from map(slice, bounds, bounds[1:])


def _strips(shape: tuple[int, ...], bytes_each: int) -> list[Strip]:
    """Cut the outputs (N, O, OH, OW) into strips, given the bytes that one output position costs.

    The cut depends on sizes alone, never on the number of threads: so the result does not, either.
    """
    images, _, height, width = shape
    # Fewer positions would read large filters from memory again and again for next to nothing.
    positions = max(STRIP_BYTES // bytes_each, MIN_POSITIONS)
    # Four strips at least, so that there is something to share, unless that makes the products too thin.
    positions = min(positions, max(images * height * width // 4, 64))
    if positions >= height * width:
        whole = slice(0, height), slice(0, width)
        return [Strip(piece, *whole) for piece in _pieces(images, positions // max(height * width, 1))]
    return [
        Strip(slice(n, n + 1), rows, cols)
        for n in range(images)
        for rows in _pieces(height, positions // width)
        for cols in _pieces(width, positions if positions < width else width)
    ]


def _windows(x: Array, geometry: ConvGeometry) -> Array:
    """Return a view (N, G, C/G, KH, KW, OH, OW) of the windows of x; only padding makes a copy."""
    rows, cols, groups = geometry.rows, geometry.cols, geometry.groups
    height, width = geometry.output_size((x.shape[2], x.shape[3]))
    x = pad_or_crop(x, rows.padding, rows.padding, cols.padding, cols.padding)
    channels = x.shape[1] // groups
    n, c, h, w = x.strides
    view: Array = array_module(x=x).lib.stride_tricks.as_strided(
        x,
        shape=(len(x), groups, channels, rows.kernel, cols.kernel, height, width),
        strides=(n, channels * c, c, rows.dilation * h, cols.dilation * w, rows.stride * h, cols.stride * w),
    )
    return view


def _columns(windows: Array, strip: Strip, xp: Any) -> Array:
    """Return the columns (G, C/G * KH * KW, positions) of one strip."""
    part = windows[strip.images, ..., strip.rows, strip.cols]
    n, groups, c, kh, kw, height, width = part.shape
    shape = groups, c * kh * kw, n * height * width
    if kh == kw == n == 1:  # the pixels are the columns already
        return part.reshape(shape)
    # (n, G, C/G, KH, KW, rows, cols) -> (G, C/G, KH, KW, n, rows, cols)
    columns = scratch(xp, (groups, c, kh, kw, n, height, width), part.dtype)
    columns[...] = part.transpose(1, 2, 3, 4, 0, 5, 6)
    return columns.reshape(shape)


def _outputs(y: Array, strip: Strip, groups: int) -> Array:
    """Return the part (G, O/G, n, rows, cols) of y (N, O, OH, OW) that belongs to a strip, as a view."""
    part = y[strip.images, :, strip.rows, strip.cols]
    n, o, height, width = part.shape
    return part.reshape(n, groups, o // groups, height, width).transpose(1, 2, 0, 3, 4)


def conv2d(x: Array, w: Array, geometry: ConvGeometry) -> Array:
    """Filters times columns."""
    xp = array_module(x=x, w=w)
    groups = geometry.groups
    windows = _windows(x, geometry)
    y: Array = xp.empty((len(x), len(w), *windows.shape[-2:]), x.dtype)
    filters = w.reshape(groups, len(w) // groups, -1)  # (G, O/G, C/G * KH * KW)

    def strip_of_outputs(strip: Strip) -> None:
        # (G, O/G, positions) = (G, O/G, C/G * KH * KW) @ (G, C/G * KH * KW, positions)
        product = filters @ _columns(windows, strip, xp)
        outputs = _outputs(y, strip, groups)
        outputs[...] = product.reshape(outputs.shape)

    run_strips(strip_of_outputs, _strips(y.shape, (w[0].size * groups + len(w)) * x.itemsize))
    return y


def conv2d_weight_grad(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    """Gradients of the outputs times columns, summed over strips."""
    xp = array_module(x=x, dy=dy)
    groups, filters = geometry.groups, dy.shape[1]
    windows = _windows(x, geometry)
    _, _, channels, kh, kw, _, _ = windows.shape
    shape = groups, filters // groups, channels * kh * kw
    strips = _strips(dy.shape, (channels * kh * kw * groups + filters) * x.itemsize)
    size = filters * channels * kh * kw * x.itemsize

    def partial_sum(part: slice) -> Array:
        total: Array = xp.zeros(shape, x.dtype)
        for strip in strips[part]:
            gradient = _outputs(dy, strip, groups).reshape(groups, filters // groups, -1)
            # (G, O/G, C/G * KH * KW) = (G, O/G, positions) @ (G, positions, C/G * KH * KW)
            total += gradient @ _columns(windows, strip, xp).transpose(0, 2, 1)
        return total

    parts = _pieces(len(strips), -(-len(strips) // 4) if size <= MAX_PARTIAL_BYTES else len(strips))
    total, *others = run_strips(partial_sum, parts) or [xp.zeros(shape, x.dtype)]
    for other in others:
        total += other
    return total.reshape(filters, channels, kh, kw)


def conv2d_input_grad(dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Filters, transposed, times gradients are columns of gradients; each is added back into its window."""
    xp = array_module(dy=dy, w=w)
    (height, width), rows, cols, groups = input_size, geometry.rows, geometry.cols, geometry.groups
    channels = w.shape[1]
    filters = w.reshape(groups, len(w) // groups, -1).transpose(0, 2, 1)  # (G, C/G * KH * KW, O/G)
    dx: Array = xp.zeros(
        (len(dy), groups, channels, height + 2 * rows.padding, width + 2 * cols.padding), dy.dtype
    )
    # Windows overlap, and so do the strips here: they take turns.
    for strip in _strips(dy.shape, (w[0].size * groups + len(w)) * dy.itemsize):
        gradient = _outputs(dy, strip, groups)
        n, strip_height, strip_width = gradient.shape[2:]
        # (G, C/G * KH * KW, positions) = (G, C/G * KH * KW, O/G) @ (G, O/G, positions)
        columns = (filters @ gradient.reshape(groups, len(w) // groups, -1)).reshape(
            groups, channels, rows.kernel, cols.kernel, n, strip_height, strip_width
        )
        for a in range(rows.kernel):
            for b in range(cols.kernel):
                top = strip.rows.start * rows.stride + a * rows.dilation
                left = strip.cols.start * cols.stride + b * cols.dilation
                dx[
                    strip.images,
                    :,
                    :,
                    top : top + (strip_height - 1) * rows.stride + 1 : rows.stride,
                    left : left + (strip_width - 1) * cols.stride + 1 : cols.stride,
                ] += columns[:, :, a, b].transpose(2, 0, 1, 3, 4)
    dx = dx.reshape(len(dy), groups * channels, *dx.shape[3:])
    return pad_or_crop(dx, -rows.padding, -rows.padding, -cols.padding, -cols.padding)
