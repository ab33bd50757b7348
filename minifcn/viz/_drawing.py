"""Parts that several figures share: image panels, and legends with class names."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from minifcn.backend import Array
from minifcn.palette import VOID

Swatch: TypeAlias = tuple[str, Any]
"""An entry of a legend: its text, and its colour (0 to 1) or "none" for an empty box."""

FONT_SIZE = 8
POINTS_PER_INCH = 72
LETTER = 0.65  # width of an average letter, in font sizes


@contextmanager
def _boxes() -> Iterator[None]:
    """Draw letters that the font lacks as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


class _Figure(Figure):
    """A figure that draws letters which its font lacks as boxes, and that is saved in less time."""

    def draw(self, renderer: Any) -> None:
        with _boxes():
            super().draw(renderer)

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save the figure; Matplotlib alone would draw everything twice, first only to arrange it."""
        arrangement = self.get_layout_engine()
        with ExitStack() as restored:
            if arrangement is not None and "dpi" not in options:  # sizes of letters depend on dpi
                with _boxes():
                    arrangement.execute(self)
                off: dict[Any, Any] = {"figure.autolayout": False, "figure.constrained_layout.use": False}
                restored.enter_context(rc_context(off))
                restored.callback(self.set_layout_engine, arrangement)
                self.set_layout_engine(None)
            super().savefig(*args, **options)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that arranges its parts when it is drawn or saved."""
    # An image may be a few pixels wide or high, but names and scales need space.
    return _Figure(figsize=(max(width, 2.5), max(height, 1.5)), dpi=150, layout="constrained")


def image_size(image: Array, width: float, height: float) -> tuple[float, float]:
    """Return the largest width and height within these limits that keep the aspect ratio of an image."""
    scale = min(width / image.shape[1], height / image.shape[0])
    return image.shape[1] * scale, image.shape[0] * scale


def show_image(axes: Axes, image: Array, **options: Any) -> None:
    """Show an image with a thin frame and without ticks; options are those of `Axes.imshow`."""
    axes.imshow(image, **{"interpolation": "nearest"} | options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color="0.5")


def write_text(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Write a text around a point, as it is; options are those of `Axes.text`."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT_SIZE, "parse_math": False}
    axes.text(x, y, text, **style | options)


def draw_grid(axes: Axes, shape: tuple[int, ...], **options: Any) -> None:
    """Draw lines between the cells of an array (rows, columns); options are those of `Axes.grid`."""
    axes.set_xticks(np.arange(1, shape[1]) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, shape[0]) - 0.5, minor=True)
    axes.grid(which="minor", **options)
    axes.tick_params(which="both", length=0)


def class_swatches(label_images: Sequence[Array], class_names: Sequence[str], palette: Array) -> list[Swatch]:
    """Return the name and colour of each class in any of the label images."""
    occurring = sorted({int(label) for labels in label_images for label in np.unique(labels)} - {VOID})
    return [(class_names[index], palette[index] / 255) for index in occurring]


def _legend_shape(swatches: Sequence[Swatch], width: float) -> tuple[int, float]:
    """Return the number of columns of a legend in a figure of this width, and its height; in inches."""
    room = width * POINTS_PER_INCH / FONT_SIZE
    needs = np.array([len(name) * LETTER + 4 for name, _ in swatches])  # letters, box and gaps, in font sizes
    for rows in range(1, len(swatches) + 1):
        columns = -(-len(swatches) // rows)
        if columns == 1 or sum(column.max() for column in np.array_split(needs, columns)) <= room:
            break
    return columns, 0.18 * rows + 0.15


def figure_with_legend(width: float, height: float, swatches: Sequence[Swatch]) -> Figure:
    """Return an empty figure (inches) with a legend below that size."""
    figure = new_figure(width, height + _legend_shape(swatches, width)[1])
    handles = [Patch(facecolor=color, edgecolor="0.4", linewidth=0.5) for _, color in swatches]
    columns, _ = _legend_shape(swatches, float(figure.get_figwidth()))
    layout: dict[str, Any] = {"ncols": columns, "handlelength": 1.4, "columnspacing": 1.2, "frameon": False}
    layout |= {"loc": "outside lower center", "fontsize": FONT_SIZE}
    legend = figure.legend(handles, ["name"] * len(handles), **layout)
    # Set afterwards: as a label, "_background_" would be left out, and "$" would start a formula.
    for text, (name, _) in zip(legend.get_texts(), swatches, strict=True):
        text.set(text=name, parse_math=False)
    return figure
