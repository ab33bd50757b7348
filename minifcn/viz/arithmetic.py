"""Films of convolution arithmetic, with a number in each cell.

The numbers are computed by `minifcn.functional`, and the positions of windows by `minifcn.geometry`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minifcn.backend import Array, to_numpy
from minifcn.functional import conv2d, conv_transpose2d
from minifcn.viz._drawing import FONT_SIZE
from minifcn.viz.film import Film
from minifcn.viz.panels import draw_box, draw_numbers, short

_CELL = 0.27
"""Width of a cell, in inches."""


def convolution_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show a convolution with one output per frame: its window, the filter, and the sum.

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
    grey = np.pad(np.zeros(x.shape, bool), padding, constant_values=True)
    titles = "x" + ", padding grey" * bool(padding), "w", "y"
    return _sliding_film(np.pad(x, padding), grey, w, y, stride, titles)


def painting_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show a transposed convolution as painting: each element of x adds its multiple of the filter.

    Args:
        x: Numbers (H, W).
        w: Filter (KH, KW).
        stride: Distance between the patches of neighbouring elements.
        padding: Number of rows and columns cut off at each side of the canvas; they are grey.

    Raises:
        ValueError: If an array is not 2-D, nothing is left of the canvas, or x has more than 50 elements.

    Example:
        >>> import numpy as np
        >>> film = painting_film(np.array([[2.0, 3.0]]), np.array([[1.0, 1.0, 1.0]]), stride=2)
        >>> film.captions[1]
        'x[0, 1] = 3: add 3 times the filter; 1 of its cells were painted before'
    """
    x, w = _grid("x", x), _grid("w", w)
    y = conv_transpose2d(x[None, None], w[None, None], stride=stride, padding=padding)[0, 0]
    cut = np.pad(np.zeros(y.shape, bool), padding, constant_values=True)
    # The painted canvas after each frame, before anything is cut off: row k holds the elements up to k.
    so_far = np.tril(np.tile(x.ravel(), (x.size, 1))).reshape(-1, 1, *x.shape)
    canvases = conv_transpose2d(so_far, w[None, None], stride=stride)[:, 0]
    windows = [_window(w, stride, index) for index in np.ndindex(x.shape)]
    painted = np.zeros(canvases[0].shape, bool)
    captions, reached = [], []
    for (i, j), window in zip(np.ndindex(x.shape), windows, strict=True):
        value, before = short(float(x[i, j])), int(painted[window].sum())
        adding = f"x[{i}, {j}] = {value}: add {value} times the filter"
        captions.append(f"{adding}; {before} of its cells were painted before")
        painted[window] = True
        reached.append(painted.copy())

    def draw(figure: Figure, k: int) -> None:
        i, j = divmod(k, x.shape[1])
        patch = x[i, j] * w
        titles = "x", f"{short(float(x[i, j]))} w", "y so far" + ", cut grey" * bool(padding)
        left, middle, right = _axes(figure, titles, x, patch, canvases[k])
        draw_numbers(left, x)
        draw_box(left, (i, j, 1, 1))
        draw_numbers(middle, patch, (min(patch.min(), 0), max(patch.max(), 0)))
        canvas = np.where(reached[k], canvases[k], np.nan)
        draw_numbers(right, canvas, (canvases[-1].min(), canvases[-1].max()))
        _mark(right, cut)
        _box(right, windows[k])

    return Film(draw, captions, _size(x, w, canvases[0]))


def zeros_film(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Film:
    """Show the same transposed convolution as a convolution with zeros between the elements of x.

    There are `stride` - 1 zeros between neighbouring elements and K - 1 - `padding` around them. The filter,
    rotated by 180 degrees, slides over them in steps of 1.

    Args:
        x: Numbers (H, W).
        w: Filter (KH, KW), not rotated.
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
    titles = "x, new zeros grey", "w rotated", "y"
    return _sliding_film(spread, ~real, w[::-1, ::-1], y, 1, titles)


def _sliding_film(x: Array, grey: Array, w: Array, y: Array, stride: int, titles: Sequence[str]) -> Film:
    """Show how the filter w slides over x, where `grey` marks the zeros that were added, and gives y."""
    windows = [_window(w, stride, index) for index in np.ndindex(y.shape)]
    captions = []
    for (i, j), window in zip(np.ndindex(y.shape), windows, strict=True):
        terms = " + ".join(f"{short(a)}*{short(b)}" for a, b in zip(x[window].flat, w.flat, strict=True))
        captions.append(f"y[{i}, {j}] = {terms} = {short(float(y[i, j]))}")

    def draw(figure: Figure, k: int) -> None:
        left, middle, right = _axes(figure, titles, x, w, y)
        draw_numbers(left, x, (x.min(), x.max()))
        _mark(left, grey)
        _box(left, windows[k])
        draw_numbers(middle, w)
        computed = np.where(np.arange(y.size).reshape(y.shape) <= k, y, np.nan)
        draw_numbers(right, computed, (y.min(), y.max()))
        draw_box(right, (*divmod(k, y.shape[1]), 1, 1))

    return Film(draw, captions, _size(x, w, y))


def _grid(name: str, array: Array) -> Array:
    array = np.asarray(to_numpy(array), np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be numbers (H, W), got shape {array.shape}")
    return array


def _window(w: Array, stride: int, index: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of the (padded) input that an output depends on."""
    rows, cols = (slice(i * stride, i * stride + k) for i, k in zip(index, w.shape, strict=True))
    return rows, cols


def _size(*grids: Array) -> tuple[float, float]:
    width = sum(grid.shape[1] for grid in grids) * _CELL + 0.3 * (len(grids) + 1)
    return width, max(grid.shape[0] for grid in grids) * _CELL + 0.45


def _axes(figure: Figure, titles: Sequence[str], *grids: Array) -> Iterator[Axes]:
    """Place grids from left to right, with cells of one size, at the same positions in every frame."""
    width, height = figure.get_size_inches()
    left = 0.3
    for title, grid in zip(titles, grids, strict=True):
        rows, cols = grid.shape
        bottom = (height - 0.45 - rows * _CELL) / 2 + 0.1
        axes = figure.add_axes((left / width, bottom / height, cols * _CELL / width, rows * _CELL / height))
        axes.set_title(title, fontsize=FONT_SIZE + 1, pad=3, loc="left")
        yield axes
        left += cols * _CELL + 0.3


def _box(axes: Axes, window: tuple[slice, slice]) -> None:
    rows, cols = window
    draw_box(axes, (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start))


def _mark(axes: Axes, grey: Array) -> None:
    """Fill cells that hold no element of x: zeros that were added, or elements that are cut off."""
    for row, col in np.argwhere(grey):
        axes.add_patch(Rectangle((col - 0.5, row - 0.5), 1, 1, facecolor="0.82", zorder=1.5))
