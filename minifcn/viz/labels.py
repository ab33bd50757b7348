"""Labels as colours: a label map, and labels drawn over their image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from minifcn.backend import Array
from minifcn.palette import VOID, VOID_COLOR
from minifcn.viz._drawing import Swatch, class_swatches, figure_with_legend, image_size, show_image
from minifcn.viz._inputs import check_names, class_palette, label_image, rgb_image
from minifcn.viz._regions import draw_borders, write_names


def label_map(labels: Array, palette: Array) -> Array:
    """Return labels as an image: each pixel in the colour of its class, void in `VOID_COLOR`.

    Args:
        labels: Integers (H, W): classes, or `VOID` (255).
        palette: One colour for each class, uint8 (K, 3).

    Returns:
        RGB image, uint8 (H, W, 3).

    Raises:
        ValueError: If the labels are not (H, W), or contain a class without a colour.

    Example:
        >>> import numpy as np
        >>> from minifcn.palette import palette
        >>> label_map(np.array([[0, 1, 255]]), palette(2)).tolist()
        [[[48, 48, 48], [230, 159, 0], [255, 255, 255]]]
    """
    palette = class_palette(palette)
    colors = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(palette)] = palette
    return colors[label_image(labels, len(palette))]


def overlay(
    image: Array, labels: Array, class_names: Sequence[str], palette: Array, *, opacity: float = 0.6
) -> Figure:
    """Draw labels over their image.

    Regions are tinted and outlined, and have names where there is space. A legend shows the classes in the
    image. Void pixels are not tinted.

    Args:
        image: Image (H, W, 3), (H, W, 1) or (H, W) of uint8.
        labels: Integers (H, W): classes, or `VOID` (255).
        class_names: One name for each class.
        palette: One colour for each class, uint8 (K, 3).
        opacity: Weight of the colour in a tinted pixel, from 0 (image only) to 1 (colour only).

    Returns:
        The figure; save it with `figure.savefig(path)`.

    Raises:
        ValueError: If sizes disagree, a class has no colour or name, or `opacity` is not from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from minifcn.palette import palette
        >>> photo = np.full((40, 60, 3), 128, np.uint8)
        >>> labels = np.zeros((40, 60), np.uint8)
        >>> labels[10:30, 20:40] = 1
        >>> figure = overlay(photo, labels, ["background", "seven"], palette(2))
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['background', 'seven']
    """
    picture = rgb_image(image)
    check_names(class_names)
    palette = class_palette(palette, class_names)
    labels = label_image(labels, len(palette), size=picture.shape[:2])
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in 0 to 1, got {opacity!r}")
    share = np.where(labels == VOID, 0.0, opacity)[..., None]  # (H, W) -> (H, W, 1)
    blended = np.rint((1 - share) * picture + share * label_map(labels, palette)).astype(np.uint8)

    swatches: list[Swatch] = class_swatches([labels], class_names, palette)
    if (labels == VOID).any():
        swatches.append(("void: not tinted", "none"))
    width, height = image_size(picture, 7.0, 7.0)
    figure = figure_with_legend(width, height, swatches)
    axes = figure.subplots()
    show_image(axes, blended)
    draw_borders(axes, labels)
    write_names(axes, labels, class_names, width)
    return figure
