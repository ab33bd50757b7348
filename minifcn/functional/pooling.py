"""Max and average pooling, with their gradients.

Pooling slides a window as convolution does, with stride = kernel size unless told otherwise. All four maps
walk over the few taps of the window, not over the many positions: tap (a, b) of all windows at once.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_float, check_rank
from minifcn.geometry import ConvGeometry, Padding, Pair
from minifcn.kernels.phases import Dealt, strips_of_planes
from minifcn.kernels.threads import parallel_map, workspace


def pool_geometry(
    kernel_size: Pair, stride: Pair | None = None, padding: Padding = 0, ceil_mode: bool = False
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
        if 2 * max(window.padding) > window.kernel:
            raise ValueError(
                f"padding of a pooling window is at most half of its kernel_size {window.kernel}, "
                f"got {max(window.padding)}"
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
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Keep the largest number of each window.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window; a number or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Rows and columns of -inf set around the image, at most half of the kernel. They never win
            against a finite number.
        ceil_mode: Round the output size up: the last window may hang over the end, as in Caffe.
        return_indices: Return the positions of the largest numbers, too, which the gradient needs.

    Returns:
        y (N, C, OH, OW), or with `return_indices` (y, indices), where `indices` (int64, of the same shape)
        holds for each output the position of its number in the flattened plane, row * W + column. Of equal
        numbers the first one of a window counts.

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If the window does not fit.

    Example:
        >>> import numpy as np
        >>> x = np.array([[[[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]]]])
        >>> y, indices = max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        >>> y[0, 0], indices[0, 0]
        (array([[5., 2.]]), array([[1, 2]]))
    """
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    y, winners = max_pooling(x, geometry, find_winners=return_indices)
    return y if winners is None else (y, _indices(winners, geometry, x.shape[2:]))


def _indices(winners: Array, geometry: ConvGeometry, size: tuple[int, ...]) -> Array:
    """Return positions row * W + column for numbers of taps, (N, C, OH, OW)."""
    xp, (height, width) = array_module(winners=winners), size
    first_rows, first_cols = _first_positions(xp, winners.shape, geometry)
    number = winners.astype(xp.int64)
    # A tap in the padding wins only if no number of its window is finite.
    rows = xp.clip(number // geometry.cols.kernel + first_rows, 0, height - 1)
    cols = xp.clip(number % geometry.cols.kernel + first_cols, 0, width - 1)
    positions: Array = rows * width + cols
    return positions


def _first_positions(xp: Any, shape: tuple[int, ...], geometry: ConvGeometry) -> tuple[Array, Array]:
    """Return the first row (OH, 1) and the first column (OW,) of each window."""
    rows, cols = (
        xp.arange(outputs) * window.stride - window.padding[0]
        for outputs, window in zip(shape[2:], (geometry.rows, geometry.cols), strict=True)
    )
    return rows[:, None], cols


def max_pooling(x: Array, geometry: ConvGeometry, *, find_winners: bool) -> tuple[Array, Array | None]:
    """Return `max_pool2d` for the window of a geometry, and the winners if they are wanted.

    Returns:
        y (N, C, OH, OW), and the number (uint8 or int32, row-major) of the largest tap of each window, or
        `None`. Finding it takes half of the time.
    """
    _check(x)
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

    parallel_map(largest, strips_of_planes(xp, len(planes), planes[:1].size), xp)
    shape = (*x.shape[:2], *size)
    return y.reshape(shape), None if winners is None else winners.reshape(shape)


def max_pool2d_grad(
    dy: Array,
    indices: Array,
    *,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    """Return the gradient of `max_pool2d`: each window passes its gradient to its largest number.

    Args:
        dy: Gradient to the output, (N, C, OH, OW).
        indices: From `max_pool2d` with `return_indices=True`.
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
        >>> y, indices = max_pool2d(np.array([[[[1.0, 5.0], [3.0, 4.0]]]]), 2, return_indices=True)
        >>> max_pool2d_grad(np.array([[[[7.0]]]]), indices, input_size=(2, 2), kernel_size=2)[0, 0]
        array([[0., 7.],
               [0., 0.]])
    """
    xp = array_module(dy=dy, indices=indices)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    check_rank(4, "(N, C, OH, OW), from max_pool2d", indices=indices)
    if indices.shape != dy.shape:
        raise ValueError(f"indices {indices.shape} and dy {dy.shape} must have one shape")
    first_rows, first_cols = _first_positions(xp, dy.shape, geometry)
    rows, cols = indices // input_size[1] - first_rows, indices % input_size[1] - first_cols
    winners = (rows * geometry.cols.kernel + cols).astype(xp.int32)
    return max_pooling_grad(dy, winners, geometry, input_size)


def max_pooling_grad(dy: Array, winners: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Return the gradient of `max_pooling`, given its winners."""
    xp = array_module(dy=dy, winners=winners)
    _check_gradient(dy, geometry, input_size)
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
        max(size + sum(window.padding), (outputs - 1) * window.stride + window.extent)
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
        places = workspace(np, (count, *windows.shape[1:]), windows.dtype, "places")
        np.take(taps, winning[strip], out=places, mode="clip")
        places += windows[:count]
        padded = workspace(np, (count, height, width), dy.dtype, "padded")
        padded[...] = 0
        if overlap:
            np.add.at(padded.reshape(-1), places.reshape(-1), gradients[strip].reshape(-1))
        else:  # no place twice: NumPy lets other threads run meanwhile
            padded.reshape(-1)[places] = gradients[strip]
        dx[strip] = padded[:, rows.padding[0] :, cols.padding[0] :][:, : input_size[0], : input_size[1]]

    parallel_map(add, strips)
    return dx.reshape(*dy.shape[:2], *input_size)


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
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
    return avg_pooling(x, pool_geometry(kernel_size, stride, padding, ceil_mode))


def avg_pooling(x: Array, geometry: ConvGeometry) -> Array:
    """Return `avg_pool2d` for the window of a geometry."""
    _check(x)
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

    parallel_map(averages, strips_of_planes(xp, len(planes), planes[:1].size), xp)
    return y.reshape(*x.shape[:2], *size)


def avg_pool2d_grad(
    dy: Array,
    *,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
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
    return avg_pooling_grad(dy, pool_geometry(kernel_size, stride, padding, ceil_mode), input_size)


def avg_pooling_grad(dy: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> Array:
    """Return the gradient of `avg_pooling`."""
    xp = array_module(dy=dy)
    _check_gradient(dy, geometry, input_size)
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


def _check_gradient(dy: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> None:
    """Demand that a window leads from the input size to the shape of dy."""
    check_float(dy=dy)
    check_rank(4, "(N, C, OH, OW)", dy=dy)
    expected = geometry.output_size(input_size)
    if dy.shape[2:] != expected:
        raise ValueError(f"input_size {input_size} gives an output of {expected}, but dy is {dy.shape[2:]}")


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

    parallel_map(hand_back, strips_of_planes(xp, len(dx), dx[:1].size), xp)
    return dx.reshape(*dy.shape[:2], *input_size)


def _counts(xp: Any, geometry: ConvGeometry, size: tuple[int, int], dtype: Any) -> Array:
    """Return (OH, OW): how many taps of each window lie inside the padded input."""
    rows, cols = (
        [
            min(i * window.stride + window.extent, n + sum(window.padding)) - i * window.stride
            for i in range(window.output_size(n))
        ]
        for window, n in zip((geometry.rows, geometry.cols), size, strict=True)
    )
    counts: Array = xp.asarray(rows, dtype)[:, None] * xp.asarray(cols, dtype)
    return counts
