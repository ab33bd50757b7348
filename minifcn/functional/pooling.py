"""Max and average pooling, with their gradients.

Pooling slides a window as convolution does, with stride = kernel size unless told otherwise. All four maps
walk over the few taps of the window, not over the many positions: tap (a, b) of all windows at once is one
view of the image. Neighbouring windows lie a stride apart, and a CPU reads numbers that do not lie side by
side slowly; so the columns are dealt out first, every stride-th one to the same array.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module, run_strips, scratch
from minifcn.functional.operands import check_float, check_rank
from minifcn.geometry import ConvGeometry, Pair

STRIP_SIZE = 1 << 18
"""Numbers of the image in one strip: with what comes of them, about what the cache of a core holds."""


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


class _Dealt:
    """Work space for some planes with their padding, its columns dealt out by their remainder by the stride.

    Args:
        planes: How many planes (H, W).
        geometry: Of the window.
        size: (H, W).
        outputs: (OH, OW).
    """

    def __init__(
        self, xp: Any, planes: int, geometry: ConvGeometry, size: tuple[int, int], outputs: tuple[int, int],
        dtype: Any,
    ):  # fmt: skip
        self.rows, self.cols = geometry.rows, geometry.cols
        self.outputs = outputs
        height, width = (
            (count - 1) * window.stride + window.extent
            for window, count in zip((self.rows, self.cols), outputs, strict=True)
        )
        self.arrays, self.places = [], []
        used = min(size[0], height - self.rows.padding)  # rows of the image that some window sees
        stride, padding = self.cols.stride, self.cols.padding
        for remainder in range(min(stride, self.cols.kernel)):
            count = -(-(width - remainder) // stride)
            array = scratch(xp, (planes, height, count), dtype, f"dealt {remainder}")
            first = (remainder - padding) % stride  # column of the image
            start = (first + padding - remainder) // stride  # its column in the array
            taken = max(min(count - start, -(-(size[1] - first) // stride)), 0)
            here = array[:, self.rows.padding : self.rows.padding + used, start : start + taken]
            self.arrays.append(array)
            columns = slice(first, first + (taken - 1) * stride + 1, stride) if taken else slice(0)
            self.places.append((here, (slice(None), slice(used), columns)))

    def tap(self, a: int, b: int) -> Array:
        """Return the view (planes, OH, OW) of tap (a, b) of all windows."""
        part, start = b % self.cols.stride, b // self.cols.stride
        stop = a + (self.outputs[0] - 1) * self.rows.stride + 1
        view: Array = self.arrays[part][:, a : stop : self.rows.stride, start : start + self.outputs[1]]
        return view

    def taps(self) -> Iterator[Array]:
        """Yield the view of each tap, in row-major order."""
        for a in range(self.rows.kernel):
            for b in range(self.cols.kernel):
                yield self.tap(a, b)

    def deal(self, planes: Array, fill: float) -> None:
        """Copy the planes of an image (planes, H, W) in, with `fill` in the padding and beyond the end."""
        for array, (here, place) in zip(self.arrays, self.places, strict=True):
            if here.size < array.size:
                array[...] = fill
            here[...] = planes[place]

    def clear(self) -> None:
        """Set everything to zero."""
        for array in self.arrays:
            array[...] = 0

    def collect(self, planes: Array) -> None:
        """Copy what lies inside the image out, and zero where no window looks."""
        if sum(here.size for here, _ in self.places) < planes.size:
            planes[...] = 0
        for here, place in self.places:
            planes[place] = here


def _strips(xp: Any, planes: int, size: int) -> list[slice]:
    """Cut planes of some size into strips; a GPU takes them all at once."""
    step = max(STRIP_SIZE // max(size, 1), 1) if xp is np else max(planes, 1)
    return [slice(start, min(start + step, planes)) for start in range(0, planes, step)]


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
    planes = x.reshape(-1, *x.shape[2:])  # (N, C, H, W) -> (N * C, H, W)
    y: Array = xp.empty((len(planes), *size), x.dtype)
    many = geometry.rows.kernel * geometry.cols.kernel > 255
    winners: Array = xp.empty(y.shape, xp.int32 if many else xp.uint8)

    def largest(strip: slice) -> None:
        image, best, winner = planes[strip], y[strip], winners[strip]
        dealt = _Dealt(xp, len(image), geometry, image.shape[1:], size, x.dtype)
        dealt.deal(image, -xp.inf)
        larger = scratch(xp, best.shape, bool, "larger")
        number = scratch(xp, best.shape, winner.dtype, "number")
        for i, tap in enumerate(dealt.taps()):
            if i == 0:
                best[...], winner[...] = tap, 0
                continue
            xp.greater(tap, best, out=larger)
            xp.multiply(larger, winner.dtype.type(i), out=number)
            xp.maximum(winner, number, out=winner)  # a later winner has the larger number
            xp.maximum(best, tap, out=best)

    run_strips(largest, _strips(xp, len(planes), planes[:1].size))
    shape = (*x.shape[:2], *size)
    return y.reshape(shape), winners.reshape(shape)


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
    if winners.shape != dy.shape:
        raise ValueError(f"winners {winners.shape} and dy {dy.shape} must have one shape")
    winning = winners.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)

    def shares(strip: slice, gradient: Array) -> Iterator[Array]:
        won = scratch(xp, gradient.shape, bool, "won")
        share = scratch(xp, gradient.shape, dy.dtype, "share")
        for number in range(geometry.rows.kernel * geometry.cols.kernel):
            xp.equal(winning[strip], number, out=won)
            yield xp.multiply(gradient, won, out=share)

    return _handed_back(dy, geometry, input_size, shares)


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
        image, sums = planes[strip], y[strip]
        dealt = _Dealt(xp, len(image), geometry, image.shape[1:], size, x.dtype)
        dealt.deal(image, 0.0)
        sums[...] = 0
        for tap in dealt.taps():
            sums += tap
        sums /= counts

    run_strips(averages, _strips(xp, len(planes), planes[:1].size))
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

    def shares(strip: slice, gradient: Array) -> Iterator[Array]:
        share = gradient / counts
        for _ in range(geometry.rows.kernel * geometry.cols.kernel):
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
    shares: Callable[[slice, Array], Iterator[Array]],
) -> Array:
    """Return dx, given the share of the gradient of some planes that each tap of the windows gets."""
    xp = array_module(dy=dy)
    gradients = dy.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)
    dx: Array = xp.empty((len(gradients), *input_size), dy.dtype)

    def hand_back(strip: slice) -> None:
        gradient = gradients[strip]
        outputs = (dy.shape[2], dy.shape[3])
        dealt = _Dealt(xp, len(gradient), geometry, input_size, outputs, dy.dtype)
        dealt.clear()
        for tap, share in zip(dealt.taps(), shares(strip, gradient), strict=True):
            tap += share
        dealt.collect(dx[strip])

    run_strips(hand_back, _strips(xp, len(dx), dx[:1].size))
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
