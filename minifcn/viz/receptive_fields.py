"""Receptive fields, the coverage of transposed convolutions, and convolutions as matrices."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from minifcn.backend import Array, to_numpy
from minifcn.functional import conv2d, conv_transpose2d
from minifcn.geometry import Pair, check_integer
from minifcn.layers import Layer
from minifcn.models import explain
from minifcn.viz._drawing import FONT_SIZE
from minifcn.viz._inputs import rgb_image
from minifcn.viz.panels import Box, panels


def receptive_fields(image: Array, model: Layer, layers: Sequence[str], place: tuple[int, int]) -> Figure:
    """Outline the pixels of an image on which one output of each of several layers depends.

    Args:
        image: Image (H, W, 3), (H, W, 1) or (H, W) of uint8.
        model: A network, as for `minifcn.models.explain`.
        layers: Names of layers, as listed by `explain`.
        place: Pixel (row, column); the output of each layer that is nearest to it is taken.

    Returns:
        The figure. Its x label names the layers of the boxes, and their sizes.

    Raises:
        ValueError: If the network does not take images of this size, a layer does not exist, or the place is
            outside the image.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import digit_classifier
        >>> model = digit_classifier().features
        >>> figure = receptive_fields(np.zeros((40, 60), np.uint8), model, ["0", "2"], (20, 30))
        >>> print(figure.axes[0].get_xlabel())
        1: layer 0 (Conv2d), 3 x 3 pixels
        2: layer 2 (MaxPool2d), 4 x 4 pixels
    """
    picture = rgb_image(image)
    height, width = picture.shape[:2]
    if not (0 <= place[0] < height and 0 <= place[1] < width):
        raise ValueError(f"place must lie in the image of {height} x {width}, got {place}")
    rows = {row.name: row for row in explain(model, (height, width)).rows}
    boxes: list[Box] = []
    words = []
    for index, name in enumerate(layers):
        views = rows[name].views if name in rows else None
        if views is None:
            raise ValueError(f"no layer {name!r} with a receptive field; there are {', '.join(rows)}")
        edges = []
        for view, cells, pixel in zip(views, rows[name].output_shape[1:], place, strict=True):
            cell = min(max(round(view.grid.inverse()(pixel)), 0), cells - 1)
            centre = float(view.grid(cell))
            edges.append((centre - (view.field - 1) / 2, view.field))
        (top, tall), (left, wide) = edges
        boxes.append((top, left, tall, wide))
        words.append(f"{index + 1}: layer {name} ({rows[name].kind}), {tall} x {wide} pixels")
    title = "the image"
    figure = panels({title: picture}, boxes={title: boxes}, width=5.0)
    axes = figure.axes[0]
    axes.set_xlabel("\n".join(words), fontsize=FONT_SIZE, loc="left")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))  # boxes may reach over the edge
    return figure


def coverage(kernels: Sequence[tuple[int, int]], size: int = 4) -> Figure:
    """Draw how many inputs contribute to each output of a transposed convolution.

    Args:
        kernels: Pairs (kernel size, stride), one per panel.
        size: Number of rows and columns of the input.

    Returns:
        The figure; the titles of the panels are "k 3, s 2" and so on.

    Example:
        >>> figure = coverage([(3, 2)], size=2)
        >>> [text.get_text() for text in figure.axes[0].texts[:5]]
        ['1', '1', '2', '1', '1']
    """
    counts = {}
    for kernel, stride in kernels:
        ones, w = np.ones((1, 1, size, size)), np.ones((1, 1, kernel, kernel))
        counts[f"k {kernel}, s {stride}"] = conv_transpose2d(ones, w, stride=stride)[0, 0]
    return panels(counts)


def convolution_matrix(
    w: Array, input_size: tuple[int, int], *, stride: Pair = 1, padding: Pair = 0
) -> Array:
    """Return the matrix of a one-channel convolution: flattened y = matrix @ flattened x.

    Column k is the output of `conv2d` for an input that is 1 at position k and 0 elsewhere. `panels` draws
    the matrix and its transpose.

    Args:
        w: Filter (KH, KW).
        input_size: (H, W) of the input.
        stride: Step of the window.
        padding: Zeros around the input.

    Returns:
        float64 (OH * OW, H * W).

    Raises:
        ValueError: If w is not 2-D, or does not fit the input.

    Example:
        >>> import numpy as np
        >>> convolution_matrix(np.array([[1.0, 2.0]]), (1, 3))
        array([[1., 2., 0.],
               [0., 1., 2.]])
    """
    w = np.asarray(to_numpy(w), np.float64)
    if w.ndim != 2:
        raise ValueError(f"w must be a filter (KH, KW), got shape {w.shape}")
    height, width = (check_integer(n, "input_size", 1) for n in input_size)
    units = np.eye(height * width).reshape(-1, 1, height, width)
    columns: Array = conv2d(units, w[None, None], stride=stride, padding=padding)
    return columns.reshape(len(units), -1).T.copy()
