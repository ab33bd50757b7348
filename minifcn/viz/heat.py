"""Heat maps: the scores of classes over an image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minifcn.backend import Array, to_numpy
from minifcn.viz._drawing import FONT_SIZE, image_size, new_figure, show_image
from minifcn.viz._inputs import check_names, rgb_image

_PANEL = (2.2, 3.3)
_HEAT = LinearSegmentedColormap.from_list("heat", ["white", "#FFB000", "#D00040"])


def heat_maps(
    image: Array,
    scores: Array,
    class_names: Sequence[str],
    *,
    classes: Sequence[int] | None = None,
    extent: tuple[float, float, float, float] | None = None,
    label: str = "score",
) -> Figure:
    """Draw the score map of each class over the image, all with one colour scale.

    The cells of the map are not interpolated, so that its resolution is visible.

    Args:
        image: Image (H, W, 3), (H, W, 1) or (H, W) of uint8; it is drawn as a grey shadow.
        scores: Scores or probabilities (K, h, w); h and w are usually smaller than H and W.
        class_names: One name for each of the K classes.
        classes: Classes to draw, in this order; all of them by default.
        extent: (left, right, bottom, top), the outer edges of the cells in pixel coordinates of the image, in
            which pixel 0 reaches from -0.5 to 0.5. If a `geometry.CoordinateMap` m places cell i at pixel
            m(i), n cells reach from m(-1/2) to m(n - 1/2). By default, the map covers the whole image.
        label: Label of the colour bar.

    Returns:
        The figure, with one panel for each class and a colour bar.

    Raises:
        ValueError: If shapes disagree, a class does not exist, or a score is not finite.

    Example:
        A network without padding whose cells see 16 pixels at a stride of 8 (the first one centred on 7.5):

        >>> import numpy as np
        >>> photo, scores = np.zeros((40, 56, 1), np.uint8), np.random.default_rng(0).random((3, 4, 6))
        >>> figure = heat_maps(photo, scores, "abc", classes=[0, 2], extent=(3.5, 51.5, 35.5, 3.5))
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['a', 'c']
    """
    picture = rgb_image(image)
    scores = to_numpy(scores)
    check_names(class_names)
    if scores.ndim != 3 or scores.size == 0 or len(scores) != len(class_names):
        expected = f"(K, h, w) with one map for each of the {len(class_names)} class_names"
        raise ValueError(f"scores must be {expected}, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite, got NaN or infinity")
    chosen = list(range(len(scores))) if classes is None else list(classes)
    if not chosen or not all(0 <= index < len(scores) for index in chosen):
        raise ValueError(f"classes must be some of 0 to {len(scores) - 1}, got {chosen}")
    height, width = picture.shape[:2]
    if extent is None:
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    elif len(extent) != 4 or not extent[0] < extent[1] or not extent[3] < extent[2]:
        expected = "(left, right, bottom, top), left < right, top < bottom"
        raise ValueError(f"extent must be {expected}, got {extent}")

    columns = min(len(chosen), min((5, 4), key=lambda n: -len(chosen) % n))
    rows = -(-len(chosen) // columns)
    panel_width, panel_height = image_size(picture, *_PANEL)
    figure = new_figure(columns * panel_width + 0.7, rows * (panel_height + 0.25))
    panels = figure.subplots(rows, columns, squeeze=False)
    # The image is drawn over the map as a shadow, so that its dark parts only darken the colours.
    shadow = np.zeros((height, width, 4), np.uint8)
    shadow[..., 3] = 0.45 * (255 - picture.mean(axis=2))
    lowest, highest = float(scores[chosen].min()), float(scores[chosen].max())
    left, right, bottom, top = extent
    for axes, index in zip(panels.flat, chosen, strict=False):
        limits = {"vmin": lowest, "vmax": highest}
        heat = axes.imshow(scores[index], cmap=_HEAT, extent=extent, interpolation="nearest", **limits)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=0.5))
        show_image(axes, shadow)  # last, so that the axes are cut to the image
        axes.set_title(class_names[index], fontsize=FONT_SIZE + 1, parse_math=False)
    for axes in panels.flat[len(chosen) :]:
        axes.set_axis_off()
    bar = figure.colorbar(heat, ax=panels, shrink=0.8, aspect=30)
    bar.set_label(label, fontsize=FONT_SIZE + 1)
    bar.ax.tick_params(labelsize=FONT_SIZE)
    return figure
