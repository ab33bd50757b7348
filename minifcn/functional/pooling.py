"""Max and average pooling, with their gradients.

Pooling slides a window as convolution does, with stride = kernel size unless told otherwise. All four maps
walk over the few taps of the window, not over the many positions: tap (a, b) of all windows at once.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.dealt import Dealt, strips_of_planes
from minifcn.functional.operands import check_float, check_rank
from minifcn.geometry import ConvGeometry, Pair
from minifcn.strips import run_strips, scratch


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
    find_winners: bool = True,
) -> tuple[Array, Array | None]:
    """Keep the largest number of each window.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window; a number or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Rows and columns of -inf set around the image, at most half of the kernel. They never win
            against a finite number.
        ceil_mode: Round the output size up: the last window may hang over the end, as in Caffe.
        find_winners: Whether to find the winners, too, which takes half of the time.

    Returns:
        y (N, C, OH, OW), and `winners`, the number (uint8 or int32, row-major) of the tap of each window that
        was largest, which the gradient needs, or `None`. Of equal taps the first one wins.

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
    planes = x.reshape(-1, *x.shape[2:])  # (N, C, H, W) -> (N * C, H, W)
    y: Array = xp.empty((len(planes), *size), x.dtype)
    many = geometry.taps > 255
    winners: Array | None = xp.empty(y.shape, xp.int32 if many else xp.uint8) if find_winners else None

    def largest(strip: slice) -> None:
        image = planes[strip]
        dealt = Dealt(xp, len(image), geometry, image.shape[1:], size, x.dtype)
        dealt.deal(image, -xp.inf)
        bests = dealt.space("best", x.dtype)
        best, taps = dealt.flat(bests), dealt.taps()
        best[...] = next(taps)
        if winners is None:
            for tap in taps:
                xp.maximum(best, tap, out=best)
        else:
            numbers = dealt.space("winner", winners.dtype)
            winner, larger, number = map(
                dealt.flat, (numbers, dealt.space("larger", xp.uint8), dealt.space("number", winners.dtype))
            )
            winner[...] = 0
            for i, tap in enumerate(taps, 1):
                xp.greater(tap, best, out=larger.view(bool))
                xp.multiply(larger, winner.dtype.type(i), out=number)  # 0 or i
                xp.maximum(winner, number, out=winner)  # a later winner has the larger number
                xp.maximum(best, tap, out=best)
            winners[strip] = dealt.inside(numbers)
        y[strip] = dealt.inside(bests)

    run_strips(largest, strips_of_planes(xp, len(planes), planes[:1].size), xp)
    shape = (*x.shape[:2], *size)
    return y.reshape(shape), None if winners is None else winners.reshape(shape)


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
    geometry = _grad_geometry(dy, input_size, kernel_size, stride, padding, ceil_mode)
    check_rank(4, "(N, C, OH, OW), from max_pool2d", winners=winners)
    if winners.shape != dy.shape:
        raise ValueError(f"winners {winners.shape} and dy {dy.shape} must have one shape")
    winning = winners.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)
    if xp is np:
        return _added_to_winners(dy, winning, geometry, input_size)

    def shares(strip: slice, gradient: Array, dealt: Dealt) -> Iterator[Array]:
        grid = dealt.space("winner", winners.dtype)
        dealt.inside(grid)[...] = winning[strip]
        winner, share = dealt.flat(grid), dealt.flat(dealt.space("share", dy.dtype))
        won = dealt.flat(dealt.space("won", bool))
        for number in range(geometry.taps):
            xp.equal(winner, number, out=won)
            yield xp.multiply(gradient, won, out=share)

    return _handed_back(dy, geometry, input_size, shares)


def _added_to_winners(
    dy: Array, winning: Array, geometry: ConvGeometry, input_size: tuple[int, int]
) -> Array:
    """Return dx, to which each gradient is added at one place; a GPU would add in an order of its own."""
    rows, cols = geometry.rows, geometry.cols
    gradients = dy.reshape(winning.shape)  # (N, C, OH, OW) -> (N * C, OH, OW)
    # The padded image, and what the last windows hang over it: there the first tap wins if none is finite.
    height, width = (
        max(size + 2 * window.padding, (outputs - 1) * window.stride + window.extent)
        for size, outputs, window in zip(input_size, dy.shape[2:], (rows, cols), strict=True)
    )
    # Places in some flattened planes: of each tap in its window, and of each window.
    taps = (np.arange(rows.kernel)[:, None] * width + np.arange(cols.kernel)).reshape(-1)
    strips = strips_of_planes(np, len(winning), height * width)
    planes = max((strip.stop - strip.start for strip in strips), default=0)
    windows = (
        np.arange(planes)[:, None, None] * (height * width)
        + np.arange(dy.shape[2])[:, None] * (rows.stride * width)
        + np.arange(dy.shape[3]) * cols.stride
    )  # (planes, OH, OW)
    overlap = rows.kernel > rows.stride or cols.kernel > cols.stride
    dx: Array = np.empty((len(winning), *input_size), dy.dtype)

    def add(strip: slice) -> None:
        count = strip.stop - strip.start
        places = scratch(np, (count, *windows.shape[1:]), windows.dtype, "places")
        np.take(taps, winning[strip], out=places, mode="clip")
        places += windows[:count]
        padded = scratch(np, (count, height, width), dy.dtype, "padded")
        padded[...] = 0
        if overlap:
            np.add.at(padded.reshape(-1), places.reshape(-1), gradients[strip].reshape(-1))
        else:  # no place twice: NumPy lets other threads run meanwhile
            padded.reshape(-1)[places] = gradients[strip]
        dx[strip] = padded[:, rows.padding :, cols.padding :][:, : input_size[0], : input_size[1]]

    run_strips(add, strips)
    return dx.reshape(*dy.shape[:2], *input_size)


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
    planes = x.reshape(-1, *x.shape[2:])  # (N, C, H, W) -> (N * C, H, W)
    y: Array = xp.empty((len(planes), *size), x.dtype)
    counts = _counts(xp, geometry, (x.shape[2], x.shape[3]), x.dtype)

    def averages(strip: slice) -> None:
        image = planes[strip]
        dealt = Dealt(xp, len(image), geometry, image.shape[1:], size, x.dtype)
        dealt.deal(image, 0.0)
        grid = dealt.space("sums", x.dtype)
        sums = dealt.flat(grid)
        sums[...] = 0
        for tap in dealt.taps():
            sums += tap
        xp.divide(dealt.inside(grid), counts, out=y[strip])

    run_strips(averages, strips_of_planes(xp, len(planes), planes[:1].size), xp)
    return y.reshape(*x.shape[:2], *size)


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
    geometry = _grad_geometry(dy, input_size, kernel_size, stride, padding, ceil_mode)
    counts = _counts(xp, geometry, input_size, dy.dtype)
    gradients = dy.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)

    def shares(strip: slice, gradient: Array, dealt: Dealt) -> Iterator[Array]:
        grid = dealt.space("share", dy.dtype)
        grid[...] = 0
        xp.divide(gradients[strip], counts, out=dealt.inside(grid))
        share = dealt.flat(grid)
        for _ in range(geometry.taps):
            yield share

    return _handed_back(dy, geometry, input_size, shares)


def _grad_geometry(
    dy: Array,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
) -> ConvGeometry:
    """Return the geometry, after checking that it leads from the input size to the shape of dy."""
    check_float(dy=dy)
    check_rank(4, "(N, C, OH, OW)", dy=dy)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    expected = geometry.output_size(input_size)
    if dy.shape[2:] != expected:
        raise ValueError(f"input_size {input_size} gives an output of {expected}, but dy is {dy.shape[2:]}")
    return geometry


def _handed_back(
    dy: Array,
    geometry: ConvGeometry,
    input_size: tuple[int, int],
    shares: Callable[[slice, Array, Dealt], Iterator[Array]],
) -> Array:
    """Return dx, given the share of the gradient of some planes that each tap of the windows gets."""
    xp = array_module(dy=dy)
    gradients = dy.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)
    dx: Array = xp.empty((len(gradients), *input_size), dy.dtype)

    def hand_back(strip: slice) -> None:
        outputs = (dy.shape[2], dy.shape[3])
        dealt = Dealt(xp, len(gradients[strip]), geometry, input_size, outputs, dy.dtype)
        dealt.clear()
        grid = dealt.space("gradient", dy.dtype)
        grid[...] = 0
        dealt.inside(grid)[...] = gradients[strip]
        for tap, share in zip(dealt.taps(), shares(strip, dealt.flat(grid), dealt), strict=True):
            tap += share
        dealt.collect(dx[strip])

    run_strips(hand_back, strips_of_planes(xp, len(dx), dx[:1].size), xp)
    return dx.reshape(*dy.shape[:2], *input_size)


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
