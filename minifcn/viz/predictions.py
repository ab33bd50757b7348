"""Image, truth, prediction and error side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from minifcn.backend import Array
from minifcn.palette import VOID, VOID_COLOR
from minifcn.viz._drawing import FONT_SIZE, class_swatches, figure_with_legend, image_size, show_image
from minifcn.viz._inputs import check_names, class_palette, label_image, rgb_image
from minifcn.viz._regions import write_names
from minifcn.viz.labels import label_map

RIGHT_COLOR = (222, 222, 222)
WRONG_COLOR = (200, 0, 40)
_PANEL = (2.4, 3.6)


def prediction_strips(
    images: Sequence[Array],
    labels: Sequence[Array],
    predictions: Sequence[Array],
    class_names: Sequence[str],
    palette: Array,
    *,
    row_names: Sequence[str] | None = None,
) -> Figure:
    """Draw one row per image: image, truth, prediction, and error.

    In the error panel, right pixels are light grey, wrong ones red, and void ones, which are ignored, white.
    The percentage of wrong pixels among the others is written below.

    Args:
        images: Images (H, W, 3), (H, W, 1) or (H, W) of uint8; sizes may differ.
        labels: True labels of each image, integers (H, W): classes, or `VOID` (255).
        predictions: Predicted classes of each image, integers (H, W).
        class_names: One name for each class.
        palette: One colour for each class, uint8 (K, 3).
        row_names: Text at the left of each row, for example the name of a network.

    Returns:
        The figure, with four panels a row.

    Raises:
        ValueError: If there is no image, numbers or sizes differ, or a class has no colour or name.

    Example:
        >>> import numpy as np
        >>> from minifcn.palette import palette
        >>> photo, truth = np.zeros((8, 8, 1), np.uint8), np.eye(8, dtype=np.uint8)
        >>> figure = prediction_strips([photo], [truth], [truth * 0], ["ground", "line"], palette(2))
        >>> figure.axes[3].get_xlabel()
        '12.5 % wrong'
    """
    check_names(class_names)
    palette = class_palette(palette, class_names)
    if not len(images) == len(labels) == len(predictions) or len(images) == 0:
        got = f"{len(images)}, {len(labels)} and {len(predictions)}"
        raise ValueError(f"images, labels and predictions must have one length, at least 1, got {got}")
    if row_names is not None and len(row_names) != len(images):
        raise ValueError(f"row_names must name each of {len(images)} rows, got {len(row_names)}")
    pictures = [rgb_image(image, f"images[{i}]") for i, image in enumerate(images)]
    truths = [
        label_image(truth, len(palette), f"labels[{i}]", size=pictures[i].shape[:2])
        for i, truth in enumerate(labels)
    ]
    guesses = [
        label_image(guess, len(palette), f"predictions[{i}]", size=pictures[i].shape[:2], void=False)
        for i, guess in enumerate(predictions)
    ]
    swatches = class_swatches([*truths, *guesses], class_names, palette)
    swatches += [("right", np.divide(RIGHT_COLOR, 255)), ("wrong", np.divide(WRONG_COLOR, 255))]
    if any((truth == VOID).any() for truth in truths):
        swatches.append(("void", np.divide(VOID_COLOR, 255)))
    widths, heights = zip(*(image_size(picture, *_PANEL) for picture in pictures), strict=True)
    width = 4 * (max(widths) + 0.07)
    figure = figure_with_legend(width, sum(heights) + 0.25 * len(heights) + 0.3, swatches)
    panels = figure.subplots(len(pictures), 4, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, title in zip(panels[0], ("image", "truth", "prediction", "error"), strict=True):
        axes.set_title(title, fontsize=FONT_SIZE + 2)
    for row, name in zip(panels, row_names or (), strict=bool(row_names)):
        row[0].set_ylabel(name, fontsize=FONT_SIZE + 2)
    for row, inches, picture, truth, guess in zip(panels, widths, pictures, truths, guesses, strict=True):
        counts, wrong = truth != VOID, (truth != VOID) & (truth != guess)
        error = np.full(picture.shape, VOID_COLOR, np.uint8)
        error[counts], error[wrong] = RIGHT_COLOR, WRONG_COLOR
        shown = picture, label_map(truth, palette), label_map(guess, palette), error
        for axes, panel in zip(row, shown, strict=True):
            show_image(axes, panel)
        write_names(row[1], truth, class_names, inches)
        write_names(row[2], guess, class_names, inches)
        share = f"{100 * wrong.sum() / counts.sum():.1f} % wrong" if counts.any() else "only void"
        row[3].set_xlabel(share, fontsize=FONT_SIZE)
    return figure
