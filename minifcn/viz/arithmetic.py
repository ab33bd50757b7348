"""Films of convolution arithmetic, with the numbers in the cells.

Every number is computed by the maps of `minifcn.functional`, and every place comes from `minifcn.geometry`;
the films only show them one after the other.
"""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minifcn.backend import Array, to_numpy
from minifcn.functional import conv2d, conv_transpose2d
from minifcn.geometry import ConvGeometry
from minifcn.viz._drawing import FONT_SIZE
from minifcn.viz.film import Film
from minifcn.viz.panels import draw_box, draw_numbers, short

_CELL = 0.27
"""Width of a cell, in inches."""


def convolution_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show a convolution, one output number a frame: its window, the filter, and the sum.

    Args:
        x: Numbers (H, W).
        w: Filter (KH, KW).
        stride: Step of the window.
        padding: Zeros around x; they are grey.

    Raises:
        ValueError: If an array is not 2-D, the filter does not fit, or there are more than 50 outputs.

    Example:
        >>> import numpy as np
        >>> film = convolution_film(np.arange(6.0).reshape(2, 3), np.array([[1.0, 10.0]]))
        >>> film.captions[-1]
        'y[1, 1] = 4*1 + 5*10 = 54'
    """
    x, w = _grid("x", x), _grid("w", w)
    y = conv2d(x[None, None], w[None, None], stride=stride, padding=padding)[0, 0]
    windows = [_window(w, stride, padding, index) for index in np.ndindex(y.shape)]
    padded = np.pad(x, padding)
    captions = [
        f"y[{i}, {j}] = {_sum(padded[rows, cols], w)} = {short(float(y[i, j]))}"
        for (i, j), (rows, cols) in zip(np.ndindex(y.shape), windows, strict=True)
    ]

    def draw(figure: Figure, k: int) -> None:
        left, middle, right = _axes(figure, padded, w, y)
        draw_numbers(left, padded, (padded.min(), padded.max()))
        _grey_border(left, padded.shape, padding)
        _box(left, windows[k])
        draw_numbers(middle, w)
        draw_numbers(right, _first(y, k + 1), (y.min(), y.max()))
        i, j = divmod(k, y.shape[1])
        draw_box(right, (i, j, 1, 1))
        _titles(figure, {left: "x" + ", padding grey" * bool(padding), middle: "w", right: "y"})

    return Film(draw, captions, _size(padded, w, y))


def painting_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show a transposed convolution as painting: each input number adds its multiple of the filter.

    Args:
        x: Numbers (H, W).
        w: Filter (KH, KW).
        stride: Step between the patches that neighbouring inputs paint.
        padding: Rows and columns that are cut off at each side of the canvas; they are grey.

    Raises:
        ValueError: If an array is not 2-D, nothing is left of the canvas, or x has more than 50 numbers.

    Example:
        >>> import numpy as np
        >>> film = painting_film(np.array([[2.0, 3.0]]), np.array([[1.0, 1.0, 1.0]]), stride=2)
        >>> film.captions[1]
        'x[0, 1] = 3: add 3 times the filter; 1 of its cells were painted before'
    """
    x, w = _grid("x", x), _grid("w", w)
    canvases = []  # what has been painted after each frame, before anything is cut off
    for k in range(x.size):
        so_far = np.where(np.arange(x.size).reshape(x.shape) <= k, x, 0.0)
        canvases.append(conv_transpose2d(so_far[None, None], w[None, None], stride=stride)[0, 0])
    conv_transpose2d(x[None, None], w[None, None], stride=stride, padding=padding)  # refuses what cannot be
    windows = [_window(w, stride, 0, index) for index in np.ndindex(x.shape)]
    painted = np.zeros(canvases[0].shape, bool)
    captions, reached = [], []
    for (i, j), window in zip(np.ndindex(x.shape), windows, strict=True):
        captions.append(
            f"x[{i}, {j}] = {short(float(x[i, j]))}: add {short(float(x[i, j]))} times the filter; "
            f"{int(painted[window].sum())} of its cells were painted before"
        )
        painted[window] = True
        reached.append(painted.copy())

    def draw(figure: Figure, k: int) -> None:
        i, j = divmod(k, x.shape[1])
        patch = x[i, j] * w
        left, middle, right = _axes(figure, x, patch, canvases[k])
        draw_numbers(left, x)
        draw_box(left, (i, j, 1, 1))
        draw_numbers(middle, patch, (min(patch.min(), 0), max(patch.max(), 0)))
        canvas = np.where(reached[k], canvases[k], np.nan)
        draw_numbers(right, canvas, (canvases[-1].min(), canvases[-1].max()))
        _grey_border(right, canvas.shape, padding)
        _box(right, windows[k])
        cut = ", cut grey" if padding else ""
        _titles(figure, {left: "x", middle: f"{short(float(x[i, j]))} w", right: f"y so far{cut}"})

    return Film(draw, captions, _size(x, w, canvases[0]))


def zeros_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show the same transposed convolution as a convolution: zeros between the inputs, the filter turned.

    Between neighbouring inputs stand `stride` - 1 zeros, around them K - 1 - `padding`; then the filter,
    turned by 180 degrees, slides in steps of 1.

    Args:
        x: Numbers (H, W).
        w: Filter (KH, KW), not turned.
        stride: As in `painting_film`.
        padding: As in `painting_film`; at most K - 1.

    Raises:
        ValueError: If an array is not 2-D, `padding` is too large, or there are more than 50 outputs.

    Example:
        >>> import numpy as np
        >>> film = zeros_film(np.array([[2.0, 3.0]]), np.array([[1.0, 10.0]]), stride=2)
        >>> film.captions[1]
        'y[0, 1] = 2*10 + 0*1 = 20'
    """
    x, w = _grid("x", x), _grid("w", w)
    borders = [k - 1 - padding for k in w.shape]
    if min(borders) < 0:
        raise ValueError(f"padding must be at most {min(w.shape) - 1} for a filter {w.shape}, got {padding}")
    y = conv_transpose2d(x[None, None], w[None, None], stride=stride, padding=padding)[0, 0]
    spread = np.zeros([(n - 1) * stride + 1 + 2 * b for n, b in zip(x.shape, borders, strict=True)])
    real = np.zeros(spread.shape, bool)
    places = tuple(slice(b, n - b, stride) for n, b in zip(spread.shape, borders, strict=True))
    spread[places], real[places] = x, True
    turned = w[::-1, ::-1]
    windows = [_window(w, 1, 0, index) for index in np.ndindex(y.shape)]
    captions = [
        f"y[{i}, {j}] = {_sum(spread[rows, cols], turned)} = {short(float(y[i, j]))}"
        for (i, j), (rows, cols) in zip(np.ndindex(y.shape), windows, strict=True)
    ]

    def draw(figure: Figure, k: int) -> None:
        left, middle, right = _axes(figure, spread, turned, y)
        draw_numbers(left, spread, (spread.min(), spread.max()))
        for row, col in np.argwhere(~real):
            _grey(left, row, col)
        _box(left, windows[k])
        draw_numbers(middle, turned)
        draw_numbers(right, _first(y, k + 1), (y.min(), y.max()))
        i, j = divmod(k, y.shape[1])
        draw_box(right, (i, j, 1, 1))
        _titles(figure, {left: "x, new zeros grey", middle: "w turned", right: "y"})

    return Film(draw, captions, _size(spread, w, y))


def _grid(name: str, array: Array) -> Array:
    array = np.asarray(to_numpy(array), np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be numbers (H, W), got shape {array.shape}")
    return array


def _window(w: Array, stride: int, padding: int, index: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the cells of the padded input that one output looks at."""
    geometry = ConvGeometry.of(w.shape, stride, padding)
    (top, bottom), (left, right) = (
        axis.input_range(i, i) for axis, i in zip((geometry.rows, geometry.cols), index, strict=True)
    )
    return (
        slice(top + padding, bottom + padding + 1),
        slice(left + padding, right + padding + 1),
    )


def _sum(window: Array, w: Array) -> str:
    terms = [f"{short(a)}*{short(b)}" for a, b in zip(window.flat, w.flat, strict=True)]
    return " + ".join(terms)


def _first(y: Array, count: int) -> Array:
    """Return y with NaN in all but the first numbers."""
    return np.where(np.arange(y.size).reshape(y.shape) < count, y, np.nan)


def _size(*grids: Array) -> tuple[float, float]:
    width = sum(grid.shape[1] for grid in grids) * _CELL + 0.3 * (len(grids) + 1)
    return width, max(grid.shape[0] for grid in grids) * _CELL + 0.45


def _axes(figure: Figure, *grids: Array) -> Iterator[Axes]:
    """Place grids from left to right, all with cells of one size, at the same places in every frame."""
    width, height = figure.get_size_inches()
    left = 0.3
    for grid in grids:
        rows, cols = grid.shape
        bottom = (height - 0.45 - rows * _CELL) / 2 + 0.1
        yield figure.add_axes((left / width, bottom / height, cols * _CELL / width, rows * _CELL / height))
        left += cols * _CELL + 0.3


def _box(axes: Axes, window: tuple[slice, slice]) -> None:
    rows, cols = window
    draw_box(axes, (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start))


def _grey(axes: Axes, row: int, col: int) -> None:
    """Mark a cell that holds no number of x: a zero that was put in, or one that is cut off."""
    axes.add_patch(Rectangle((col - 0.5, row - 0.5), 1, 1, facecolor="0.82", zorder=1.5))


def _grey_border(axes: Axes, shape: tuple[int, ...], width: int) -> None:
    """Mark the outer cells."""
    rows, cols = shape
    for row, col in np.ndindex(rows, cols):
        if not (width <= row < rows - width and width <= col < cols - width):
            _grey(axes, row, col)


def _titles(figure: Figure, names: dict[Axes, str]) -> None:
    for axes, name in names.items():
        axes.set_title(name, fontsize=FONT_SIZE + 1, pad=3, loc="left")
