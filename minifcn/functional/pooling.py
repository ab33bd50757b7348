"""Max and average pooling, with their gradients.

Pooling slides a window as convolution does; the default stride is the kernel size. All four maps loop over
the few taps of the window, not over the many positions: tap (a, b) of all windows at once.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_float, check_padded_size, check_rank
from minifcn.geometry import ConvGeometry, Padding, Pair, pair
from minifcn.kernels.phases import PhaseGrid, count_taps, cut_planes
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.workspace import workspace
from minifcn.printing import brief

MAX_TAPS = 2**18
"""Elements of a window at most: they are visited one after the other."""


def pool_geometry(
    kernel_size: Pair, stride: Pair | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> ConvGeometry:
    """Return the geometry of a pooling window.

    Raises:
        ValueError: If a value is out of range, or the padding is more than half of the kernel (a window could
            then lie entirely in the padding).
    """
    if math.prod(pair(kernel_size, "kernel_size", 1)) > MAX_TAPS:
        raise ValueError(f"kernel_size must have at most {MAX_TAPS} elements, got {brief(kernel_size)}")
    step = kernel_size if stride is None else stride
    geometry = ConvGeometry.of(kernel_size, step, padding, ceil_mode=ceil_mode)
    for window in (geometry.rows, geometry.cols):
        if 2 * max(window.padding) > window.kernel:
            expected = f"at most half of the pooling kernel_size {window.kernel}"
            raise ValueError(f"padding must be {expected}, got {max(window.padding)}")
    return geometry


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest element of each window, or NaN where there is one; its index is then undefined.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window, an integer or a pair (rows, columns).
        stride: Step of the window, likewise; `None` means the kernel size.
        padding: Rows and columns of -inf around the image, at most half of the kernel: an integer, a pair, or
            ((top, bottom), (left, right)). They are never larger than a finite element.
        ceil_mode: Round the output size up: the last window may reach past the end, as in Caffe.
        return_indices: Return the positions of the largest elements, too, which the gradient needs.

    Returns:
        y (N, C, OH, OW), or with `return_indices` (y, indices), where `indices` (int64, of the same shape)
        holds for each output the position of its element in the flattened plane, row * W + column. Of equal
        elements the first one of a window counts.

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
    # A tap in the padding wins only if no element of its window is finite.
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
    """Return `max_pool2d` for the window of a geometry, with the winners if they are wanted.

    Returns:
        y (N, C, OH, OW), and the number (uint8 or int32, row-major) of each largest tap, or `None`.
    """
    xp = array_module(x=x)

    def largest(grid: PhaseGrid, best: Array, winner: Array | None = None) -> None:
        taps = grid.taps()
        best[...] = next(taps)
        if winner is None:
            for tap in taps:
                xp.maximum(best, tap, out=best)
            return
        winner[...] = 0
        larger = grid.flat(grid.workspace("larger", xp.uint8))
        number = grid.flat(grid.workspace("number", winner.dtype))
        for i, tap in enumerate(taps, 1):
            xp.greater(tap, best, out=larger.view(bool))
            xp.multiply(larger, winner.dtype.type(i), out=number)  # 0 or i
            xp.maximum(winner, number, out=winner)  # a later winner has the larger number
            xp.maximum(best, tap, out=best)

    winner_dtypes = [xp.int32 if geometry.taps > 255 else xp.uint8] if find_winners else []
    y, *winners = _pool(x, geometry, -np.inf, largest, winner_dtypes)
    return y, winners[0] if winners else None


def _pool(
    x: Array,
    geometry: ConvGeometry,
    fill: float,
    reduce: Callable[..., None],
    more_dtypes: Iterable[Any] = (),
) -> list[Array]:
    """Return what a function computes from the taps of all windows.

    Args:
        x: (N, C, H, W).
        geometry: The window.
        fill: What the padding is filled with.
        reduce: Called with a `PhaseGrid` of some planes, and with a flat grid for each result.
        more_dtypes: Of the results after the first one, which has the dtype of x.

    Returns:
        The results, each (N, C, OH, OW).
    """
    xp = check_float(x=x)
    check_rank(4, "(N, C, H, W)", x=x)
    check_padded_size(geometry, x.shape[2:])
    size = geometry.output_size((x.shape[2], x.shape[3]))
    planes = x.reshape(-1, *x.shape[2:])  # (N, C, H, W) -> (N * C, H, W)
    results = [xp.empty((len(planes), *size), dtype) for dtype in (x.dtype, *more_dtypes)]

    def pool(chunk: slice) -> None:
        image = planes[chunk]
        grid = PhaseGrid(xp, len(image), geometry, image.shape[1:], size, x.dtype)
        grid.split(image, fill)
        spaces = [grid.workspace(f"result {i}", result.dtype) for i, result in enumerate(results)]
        reduce(grid, *map(grid.flat, spaces))
        for result, space in zip(results, spaces, strict=True):
            result[chunk] = grid.inside(space)

    parallel_map(pool, cut_planes(xp, len(planes), planes[:1].size), xp)
    return [result.reshape(*x.shape[:2], *size) for result in results]


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
    """Return the gradient of `max_pool2d`: each window passes its gradient to its largest element.

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
        >>> max_pool2d_grad(np.array([[[[7.0]]]]), indices, input_size=(2, 2), kernel_size=2).tolist()
        [[[[0.0, 7.0], [0.0, 0.0]]]]
    """
    xp = array_module(dy=dy, indices=indices)
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    check_rank(4, "(N, C, OH, OW), from max_pool2d", dy=dy, indices=indices)
    input_size = pair(input_size, "input_size", 1)
    if indices.dtype.kind != "i":
        raise TypeError(f"indices must be integers, from max_pool2d, got {indices.dtype}")
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
    add = _add_to_winners if xp is np else _add_to_taps
    return add(dy, geometry, input_size, winners.reshape(-1, *dy.shape[2:]))  # (N * C, OH, OW)


def _add_to_winners(dy: Array, geometry: ConvGeometry, input_size: tuple[int, int], winning: Array) -> Array:
    """Return dx, where each gradient is added at one place; a GPU would add in an undefined order."""
    rows, cols = geometry.rows, geometry.cols
    gradients = dy.reshape(winning.shape)  # (N, C, OH, OW) -> (N * C, OH, OW)
    # The padded image, and what the last windows reach past its end: the first tap wins if none is finite.
    height, width = (
        max(size + sum(window.padding), (outputs - 1) * window.stride + window.extent)
        for size, outputs, window in zip(input_size, dy.shape[2:], (rows, cols), strict=True)
    )
    # Places in some flattened planes: of each tap in its window, and of each window.
    taps = (np.arange(rows.kernel)[:, None] * width + np.arange(cols.kernel)).reshape(-1)
    chunks = cut_planes(np, len(winning), height * width)
    planes = max((chunk.stop - chunk.start for chunk in chunks), default=0)
    windows = (
        np.arange(planes)[:, None, None] * (height * width)
        + np.arange(dy.shape[2])[:, None] * (rows.stride * width)
        + np.arange(dy.shape[3]) * cols.stride
    )  # (planes, OH, OW)
    overlap = rows.kernel > rows.stride or cols.kernel > cols.stride
    dx: Array = np.empty((len(winning), *input_size), dy.dtype)

    def add(chunk: slice) -> None:
        count = chunk.stop - chunk.start
        places = workspace(np, (count, *windows.shape[1:]), windows.dtype, "places")
        np.take(taps, winning[chunk], out=places, mode="clip")
        places += windows[:count]
        padded = workspace(np, (count, height, width), dy.dtype, "padded")
        padded[...] = 0
        if overlap:
            np.add.at(padded.reshape(-1), places.reshape(-1), gradients[chunk].reshape(-1))
        else:  # no place twice: NumPy releases the interpreter's lock here
            padded.reshape(-1)[places] = gradients[chunk]
        dx[chunk] = padded[:, rows.padding[0] :, cols.padding[0] :][:, : input_size[0], : input_size[1]]

    parallel_map(add, chunks)
    return dx.reshape(*dy.shape[:2], *input_size)


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Average each window.

    Padding counts as zeros, as by default in PyTorch; what reaches past it in `ceil_mode` does not count.

    Args:
        x: (N, C, H, W), float32 or float64.
        kernel_size: Size of the window, an integer or a pair (rows, columns).
        stride: Step of the window, likewise; `None` means the kernel size.
        padding: Zeros around the image, at most half of the kernel; as in `max_pool2d`.
        ceil_mode: Round the output size up.
        count_include_pad: Whether padding counts; without it, the mean is over pixels of the image only.

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
    return avg_pooling(x, pool_geometry(kernel_size, stride, padding, ceil_mode), count_include_pad)


def avg_pooling(x: Array, geometry: ConvGeometry, count_padding: bool) -> Array:
    """Return `avg_pool2d` for the window of a geometry."""

    def total(grid: PhaseGrid, sums: Array) -> None:
        taps = grid.taps()
        sums[...] = next(taps)
        for tap in taps:
            sums += tap

    (y,) = _pool(x, geometry, 0.0, total)
    y /= count_taps(array_module(x), geometry, (x.shape[2], x.shape[3]), x.dtype, count_padding)
    return y


def avg_pool2d_grad(
    dy: Array,
    *,
    input_size: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Return the gradient of `avg_pool2d`: each window passes every tap an equal part.

    Args:
        dy: Gradient to the output, (N, C, OH, OW).
        input_size: (H, W) of the input.
        kernel_size: As in `avg_pool2d`; so are the arguments after it.
        stride: See `avg_pool2d`.
        padding: See `avg_pool2d`.
        ceil_mode: See `avg_pool2d`.
        count_include_pad: See `avg_pool2d`.

    Returns:
        dx (N, C, H, W).

    Raises:
        ValueError: If the sizes do not fit together.

    Example:
        >>> import numpy as np
        >>> avg_pool2d_grad(np.array([[[[4.0]]]]), input_size=(2, 2), kernel_size=2).tolist()
        [[[[1.0, 1.0], [1.0, 1.0]]]]
    """
    geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)
    return avg_pooling_grad(dy, geometry, pair(input_size, "input_size", 1), count_include_pad)


def avg_pooling_grad(
    dy: Array, geometry: ConvGeometry, input_size: tuple[int, int], count_padding: bool
) -> Array:
    """Return the gradient of `avg_pooling`."""
    _check_gradient(dy, geometry, input_size)
    share = dy / count_taps(array_module(dy), geometry, input_size, dy.dtype, count_padding)
    return _add_to_taps(share, geometry, input_size)


def _check_gradient(dy: Array, geometry: ConvGeometry, input_size: tuple[int, int]) -> None:
    """Raise an error unless the window leads from the input size to the shape of dy."""
    check_float(dy=dy)
    check_rank(4, "(N, C, OH, OW)", dy=dy)
    check_padded_size(geometry, input_size)
    expected = geometry.output_size(input_size)
    if dy.shape[2:] != expected:
        raise ValueError(f"input_size {input_size} gives an output of {expected}, but dy is {dy.shape[2:]}")


def _add_to_taps(
    dy: Array, geometry: ConvGeometry, input_size: tuple[int, int], winning: Array | None = None
) -> Array:
    """Return dx, where the gradient of a window is added to all of its taps, or only to the winning one."""
    xp = array_module(dy=dy)
    gradients = dy.reshape(-1, *dy.shape[2:])  # (N, C, OH, OW) -> (N * C, OH, OW)
    dx: Array = xp.empty((len(gradients), *input_size), dy.dtype)

    def add(chunk: slice) -> None:
        outputs = dy.shape[2], dy.shape[3]
        grid = PhaseGrid(xp, len(gradients[chunk]), geometry, input_size, outputs, dy.dtype)
        for array in grid.arrays:
            array[...] = 0
        gradient = grid.workspace("gradient", dy.dtype)
        gradient[...] = 0
        grid.inside(gradient)[...] = gradients[chunk]
        if winning is None:
            for tap in grid.taps():
                tap += grid.flat(gradient)
        else:
            winner = grid.workspace("winner", winning.dtype)
            grid.inside(winner)[...] = winning[chunk]
            for number, tap in enumerate(grid.taps()):
                tap += grid.flat(gradient) * (grid.flat(winner) == number)
        grid.merge(dx[chunk])

    parallel_map(add, cut_planes(xp, len(dx), dx[:1].size), xp)
    return dx.reshape(*dy.shape[:2], *input_size)
