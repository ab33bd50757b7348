"""Max and average pooling, with their gradients.

Pooling slides a window as convolution does, with stride = kernel size unless told otherwise. Both maps walk
over the few taps of the window, not over the many positions: tap (a, b) of all windows at once is one strided
view of the image.
"""

from collections.abc import Iterator
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_float, check_rank
from minifcn.geometry import ConvGeometry, Pair


def pool_geometry(
    kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
) -> ConvGeometry:
    """Return the geometry of a pooling window.

    Raises:
        ValueError: If a number is out of range, or the padding is more than half of the kernel (a window
            could then lie wholly in the padding).
    """
    geometry = ConvGeometry.of(
        kernel_size, kernel_size if stride is None else stride, padding, ceil_mode=ceil_mode
    )
    for window in (geometry.rows, geometry.cols):
        if 2 * window.padding > window.kernel:
            raise ValueError(
                f"padding of a pooling window is at most half of its kernel_size {window.kernel}, "
                f"got {window.padding}"
            )
    return geometry


def _taps(geometry: ConvGeometry, output_size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Yield, for each tap of the window in row-major order, its slices of the padded image."""
    rows, cols = geometry.rows, geometry.cols
    height, width = ((n - 1) * window.stride + 1 for n, window in zip(output_size, (rows, cols), strict=True))
    for a in range(rows.kernel):
        for b in range(cols.kernel):
            yield slice(a, a + height, rows.stride), slice(b, b + width, cols.stride)


def _padded(x: Array, geometry: ConvGeometry, output_size: tuple[int, int], value: float) -> Array:
    """Return x with its padding, and with what the last windows hang over the end."""
    sides = []
    for window, size, outputs in zip((geometry.rows, geometry.cols), x.shape[2:], output_size, strict=True):
        needed = (outputs - 1) * window.stride + window.extent
        sides.append((window.padding, max(needed - window.padding - size, 0)))
    if not any(map(any, sides)):
        return x
    padded: Array = array_module(x=x).pad(x, ((0, 0), (0, 0), *sides), constant_values=value)
    return padded


def _check(x: Array) -> None:
    array_module(x=x)
    check_float(x=x)
    check_rank(4, "(N, C, H, W)", x=x)


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Keep the largest number of each window.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window; a number or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Rows and columns of -inf set around the image, at most half of the kernel. They never win
            against a finite number.
        ceil_mode: Round the output size up: the last window may hang over the end, as in Caffe.

    Returns:
        y (N, C, OH, OW), and `winners`, the number (uint8 or int32, row-major) of the tap of each window that
        was largest, which the gradient needs. Of equal taps the first one wins.

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If the window does not fit.

    Example:
        >>> import numpy as np
        >>> y, winners = max_pool2d(np.array([[[[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]]]]), 2, ceil_mode=True)
        >>> y[0, 0], winners[0, 0]
        (array([[5., 2.]]), array([[1, 0]], dtype=uint8))
    """
    _check(x)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    size = geometry.output_size((x.shape[2], x.shape[3]))
    xp = array_module(x=x)
    padded = _padded(x, geometry, size, -xp.inf)
    y: Array | None = None
    for number, (rows, cols) in enumerate(_taps(geometry, size)):
        tap = padded[:, :, rows, cols]
        if y is None:
            y = tap.copy()
            many = geometry.rows.kernel * geometry.cols.kernel > 255
            winners: Array = xp.zeros(y.shape, xp.int32 if many else xp.uint8)
        else:
            winners[tap > y] = number
            xp.maximum(y, tap, out=y)
    assert y is not None  # a window has at least one tap
    return y, winners


def max_pool2d_grad(
    dy: Array,
    winners: Array,
    *,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Array:
    """Return the gradient of `max_pool2d`: each window hands its gradient to the tap that won.

    Args:
        dy: Gradient to the output, (N, C, OH, OW).
        winners: From `max_pool2d`.
        input_size: (H, W) of the input.
        kernel_size: As in `max_pool2d`; so are `stride`, `padding` and `ceil_mode`.
        stride: See `max_pool2d`.
        padding: See `max_pool2d`.
        ceil_mode: See `max_pool2d`.

    Returns:
        dx (N, C, H, W).

    Raises:
        ValueError: If the sizes do not fit together.

    Example:
        >>> import numpy as np
        >>> y, winners = max_pool2d(np.array([[[[1.0, 5.0], [3.0, 4.0]]]]), 2)
        >>> max_pool2d_grad(np.array([[[[7.0]]]]), winners, input_size=(2, 2), kernel_size=2)[0, 0]
        array([[0., 7.],
               [0., 0.]])
    """
    xp = array_module(dy=dy, winners=winners)
    geometry, dx, inside = _grad_space(dy, input_size, kernel_size, stride, padding, ceil_mode)
    if winners.shape != dy.shape:
        raise ValueError(f"winners {winners.shape} and dy {dy.shape} must have one shape")
    for number, (rows, cols) in enumerate(_taps(geometry, (dy.shape[2], dy.shape[3]))):
        dx[:, :, rows, cols] += xp.where(winners == number, dy, dy.dtype.type(0))
    gradient: Array = xp.ascontiguousarray(dx[inside])
    return gradient


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
) -> Array:
    """Average each window.

    Padding counts as zeros, as PyTorch counts it by default; what hangs over the padded end in `ceil_mode`
    does not count.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window; a number or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Zeros around the image, at most half of the kernel.
        ceil_mode: Round the output size up.

    Returns:
        (N, C, OH, OW).

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If the window does not fit.

    Example:
        >>> import numpy as np
        >>> avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2), 2)
        array([[[[1.5]]]])
    """
    _check(x)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    size = geometry.output_size((x.shape[2], x.shape[3]))
    xp = array_module(x=x)
    padded = _padded(x, geometry, size, 0.0)
    y: Array = xp.zeros((*x.shape[:2], *size), x.dtype)
    for rows, cols in _taps(geometry, size):
        y += padded[:, :, rows, cols]
    y /= _counts(xp, geometry, (x.shape[2], x.shape[3]), x.dtype)
    return y


def avg_pool2d_grad(
    dy: Array,
    *,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Array:
    """Return the gradient of `avg_pool2d`: each window hands every tap an equal share.

    Args:
        dy: Gradient to the output, (N, C, OH, OW).
        input_size: (H, W) of the input.
        kernel_size: As in `avg_pool2d`; so are `stride`, `padding` and `ceil_mode`.
        stride: See `avg_pool2d`.
        padding: See `avg_pool2d`.
        ceil_mode: See `avg_pool2d`.

    Returns:
        dx (N, C, H, W).

    Raises:
        ValueError: If the sizes do not fit together.

    Example:
        >>> import numpy as np
        >>> avg_pool2d_grad(np.array([[[[4.0]]]]), input_size=(2, 2), kernel_size=2)[0, 0]
        array([[1., 1.],
               [1., 1.]])
    """
    xp = array_module(dy=dy)
    geometry, dx, inside = _grad_space(dy, input_size, kernel_size, stride, padding, ceil_mode)
    share = dy / _counts(xp, geometry, input_size, dy.dtype)
    for rows, cols in _taps(geometry, (dy.shape[2], dy.shape[3])):
        dx[:, :, rows, cols] += share
    gradient: Array = xp.ascontiguousarray(dx[inside])
    return gradient


def _grad_space(
    dy: Array,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
) -> tuple[ConvGeometry, Array, tuple[slice, ...]]:
    """Return the geometry, zeros as large as the padded input, and the index of the input in them."""
    check_float(dy=dy)
    check_rank(4, "(N, C, OH, OW)", dy=dy)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    expected = geometry.output_size(input_size)
    if dy.shape[2:] != expected:
        raise ValueError(f"input_size {input_size} gives an output of {expected}, but dy is {dy.shape[2:]}")
    sizes = [
        max(size + 2 * window.padding, (outputs - 1) * window.stride + window.extent)
        for window, size, outputs in zip((geometry.rows, geometry.cols), input_size, expected, strict=True)
    ]
    top, left = geometry.rows.padding, geometry.cols.padding
    inside = slice(None), slice(None), slice(top, top + input_size[0]), slice(left, left + input_size[1])
    return geometry, array_module(dy=dy).zeros((*dy.shape[:2], *sizes), dy.dtype), inside


def _counts(xp: Any, geometry: ConvGeometry, size: tuple[int, int], dtype: Any) -> Array:
    """Return (OH, OW): how many taps of each window lie inside the padded input."""
    rows, cols = (
        [
            min(i * window.stride + window.extent, n + 2 * window.padding) - i * window.stride
            for i in range(window.output_size(n))
        ]
        for window, n in zip((geometry.rows, geometry.cols), size, strict=True)
    )
    counts: Array = xp.asarray(rows, dtype)[:, None] * xp.asarray(cols, dtype)
    return counts
