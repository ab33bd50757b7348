"""What several figures draw alike: picture panels, and legends with class names."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from minifcn.backend import Array
from minifcn.palette import VOID

Swatch: TypeAlias = tuple[str, Any]
"""What a legend says, and the colour (0-1) beside it; `None` leaves the box empty."""

FONT_SIZE = 8
POINTS_PER_INCH = 72
LETTER = 0.65  # width of an average letter, in font sizes


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that arranges its own parts when it is drawn or saved."""
    # Pictures may be a few pixels wide or high; names and scales need room all the same.
    return Figure(figsize=(max(width, 2.5), max(height, 1.5)), dpi=150, layout="constrained")


def picture_size(picture: Array, width: float, height: float) -> tuple[float, float]:
    """Return the largest width and height within these in which a picture keeps its shape."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    return picture.shape[1] * scale, picture.shape[0] * scale


def show_picture(axes: Axes, picture: Array) -> None:
    """Show an RGB picture with a thin frame and without ticks."""
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color="0.5")


def class_swatches(label_images: Sequence[Array], class_names: Sequence[str], palette: Array) -> list[Swatch]:
    """Return name and colour of each class that occurs in any of the label images."""
    occurring = sorted({int(label) for labels in label_images for label in np.unique(labels)} - {VOID})
    return [(class_names[index], palette[index] / 255) for index in occurring]


def legend_shape(swatches: Sequence[Swatch], width: float) -> tuple[int, float]:
    """Return how many columns a legend has in a figure of this width, and how high it is, both in inches."""
    room = width * POINTS_PER_INCH / FONT_SIZE
    needs = np.array([len(name) * LETTER + 4 for name, _ in swatches])  # letters, box and gaps, in font sizes
    for rows in range(1, len(swatches) + 1):
        columns = -(-len(swatches) // rows)
        if columns == 1 or sum(column.max() for column in np.array_split(needs, columns)) <= room:
            break
    return columns, 0.18 * rows + 0.15


def add_legend(figure: Figure, swatches: Sequence[Swatch]) -> None:
    """Write a legend below everything else."""
    handles = [
        Patch(facecolor="none" if color is None else color, edgecolor="0.4", linewidth=0.5)
        for _, color in swatches
    ]
    columns, _ = legend_shape(swatches, float(figure.get_figwidth()))
    legend = figure.legend(
        handles,
        ["name"] * len(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=FONT_SIZE,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.2,
    )
    # Set afterwards: as labels, "_background_" would be dropped and "$" read as mathematics.
    for text, (name, _) in zip(legend.get_texts(), swatches, strict=True):
        text.set(text=name, parse_math=False)
