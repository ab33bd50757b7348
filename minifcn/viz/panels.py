"""Arrays side by side: small ones with a number in each cell, large ones as images."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minifcn.backend import Array, to_numpy
from minifcn.viz._drawing import FONT_SIZE, draw_grid, image_size, new_figure, show_image, write_text

Box: TypeAlias = tuple[float, float, float, float]
"""(top, left, height, width) in cells; row 0 and column 0 begin at 0."""

MOST_NUMBERS = 16
"""Largest size along an axis for which numbers are written into the cells."""
CELL = 0.32
"""Width of a cell with a number, in inches."""
LINES = (
    ("#C2185B", "solid"),
    ("#1A4FBF", (0, (4, 1.5))),
    ("#8A5A00", (0, (1, 1))),
    ("black", "dashdot"),
    ("#2E7D32", (0, (6, 1, 1, 1, 1, 1))),
)
"""Colours and dashes of boxes, in this order; they differ without colours, too."""

_TINT = LinearSegmentedColormap.from_list("tint", ["white", "#9CC7E8"])
_EMPTY = "0.93"


def panels(
    arrays: Mapping[str, Array],
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    shared: bool = False,
    columns: int | None = None,
    width: float = 7.0,
) -> Figure:
    """Draw arrays side by side, each under its name.

    Arrays of up to 16 x 16 elements are drawn as cells with numbers; a larger number makes a cell darker, and
    a NaN leaves it empty. Larger arrays are drawn in grey, from black for the smallest to white for the
    largest element; both values are written below. If there are negative elements, 0 is medium grey. Colour
    images are shown unchanged.

    Args:
        arrays: Arrays by name: numbers (H, W) or (W,), or images, uint8 (H, W, 1) or (H, W, 3).
        boxes: Boxes to outline by name of the array: (top, left, height, width) in cells. They differ in
            colour and dashes, and have numbers if there are several.
        shared: Use one scale for all arrays, so that equal colours mean equal numbers.
        columns: Number of panels in a row; all of them by default.
        width: Maximum width of the figure in inches.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no array, an array has another shape, or `boxes` has an unknown name.

    Example:
        >>> import numpy as np
        >>> figure = panels({"x": np.arange(6).reshape(2, 3), "w": np.array([[1.0, -0.5]])})
        >>> [text.get_text() for text in figure.axes[1].texts]
        ['1', '-0.5']
    """
    shown = {name: _drawable(name, array) for name, array in arrays.items()}
    boxes = boxes or {}
    if not shown:
        raise ValueError("arrays must hold at least one array")
    if unknown := set(boxes) - set(shown):
        raise ValueError(f"boxes are given for {sorted(unknown)}, but the arrays are {list(shown)}")
    columns = min(columns or len(shown), len(shown))
    rows = -(-len(shown) // columns)
    sizes = [_panel_size(array, (width - 0.2) / columns - 0.1) for array in shown.values()]
    widths = [max(size[0] for size in sizes[column::columns]) for column in range(columns)]
    heights = [max(size[1] for size in sizes[row * columns : (row + 1) * columns]) for row in range(rows)]
    figure = new_figure(min(sum(widths) + 0.25 * columns, width), sum(heights) + 0.45 * rows)
    ratios = {"width_ratios": widths, "height_ratios": heights}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    numbers = [array for array in shown.values() if array.ndim == 2]
    limits = _limits(np.concatenate([array.ravel() for array in numbers])) if shared and numbers else None
    for axes, (name, array) in zip(grid.flat, shown.items(), strict=False):
        axes.set_title(name, fontsize=FONT_SIZE + 1, parse_math=False)
        if array.ndim == 3:
            show_image(axes, array, interpolation="antialiased")
        elif max(array.shape) <= MOST_NUMBERS:
            draw_numbers(axes, array, limits)
        else:
            _draw_grey(axes, array, limits)
        many = len(boxes.get(name, ())) > 1
        for index, box in enumerate(boxes.get(name, ())):
            draw_box(axes, box, index, str(index + 1) if many else "")
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # in addition to the one when it is drawn, which may cut a name off
    return figure


def draw_numbers(axes: Axes, array: Array, limits: tuple[float, float] | None = None) -> None:
    """Draw an array (H, W) with a number in each cell; NaN leaves a cell empty."""
    low, high = limits or _limits(array)
    axes.set_facecolor(_EMPTY)
    axes.imshow(np.ma.masked_invalid(array), cmap=_TINT, vmin=min(low, 0), vmax=high or 1)
    for (row, col), number in np.ndenumerate(array):
        if not np.isnan(number):
            write_text(axes, col, row, short(number), va="center_baseline")
    axes.set(xticks=[], yticks=[])
    draw_grid(axes, array.shape, color="0.7", linewidth=0.6)
    axes.spines[:].set(linewidth=0.8, color="0.4")


def draw_box(axes: Axes, box: Box, index: int = 0, label: str = "") -> None:
    """Outline cells; the index selects the style of the line and the corner of the label."""
    top, left, height, width = box
    color, dashes = LINES[index % len(LINES)]
    line: dict[str, Any] = {"edgecolor": color, "linestyle": dashes, "linewidth": 2, "zorder": 3}
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, **line))
    if label:
        down, right = ((0, 0), (0, 1), (1, 1), (1, 0))[index % 4]
        corner = left - 0.5 + right * width, top - 0.5 + down * height
        background = {"boxstyle": "square,pad=0.15", "facecolor": color, "edgecolor": "none"}
        style: dict[str, Any] = {"color": "white", "ha": "center", "va": "center", "bbox": background}
        axes.annotate(label, corner, fontsize=FONT_SIZE, **style)


def short(number: float) -> str:
    """Return a number as text that fits into a cell: integers as such, others with two digits.

    Example:
        >>> short(-3.0), short(0.0625), short(1234.5), short(2.0000000001)
        ('-3', '0.062', '1234', '2')
    """
    if np.isfinite(number) and (abs(number - round(number)) < 1e-6 or abs(number) >= 100):
        return str(round(number))
    return f"{number:.2g}"


def _drawable(name: str, array: Array) -> Array:
    """Return numbers as float64 (H, W), and images as uint8 (H, W, 3)."""
    array = to_numpy(array)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (1, 3) and array.size:
        return np.broadcast_to(array, (*array.shape[:2], 3))
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "biuf":
        expected = "numbers (H, W) or a uint8 image (H, W, 1) or (H, W, 3)"
        raise ValueError(f"{name!r} must be {expected}, got {array.dtype} of shape {array.shape}")
    return np.atleast_2d(array).astype(np.float64)


def _panel_size(array: Array, width: float) -> tuple[float, float]:
    """Return (width, height) of a panel in inches."""
    height, cells = array.shape[:2]
    if array.ndim == 2 and max(height, cells) <= MOST_NUMBERS:
        side = min(CELL, width / cells)
        return cells * side, height * side
    return image_size(array, width, 4.5)


def _limits(array: Array) -> tuple[float, float]:
    """Return the smallest and largest element, or limits symmetric about 0 if there are negative ones."""
    finite = array[np.isfinite(array)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low >= 0 else (-max(-low, high), max(-low, high))


def _draw_grey(axes: Axes, array: Array, limits: tuple[float, float] | None) -> None:
    low, high = limits or _limits(array)
    show_image(axes, array, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
    axes.set_xlabel(f"{short(np.nanmin(array))} to {short(np.nanmax(array))}", fontsize=FONT_SIZE)
