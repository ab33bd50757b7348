"""The confusion matrix as a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from minifcn.backend import Array, to_numpy
from minifcn.viz._drawing import FONT_SIZE, draw_grid, new_figure, write_text
from minifcn.viz._inputs import check_names


def confusion_matrix(matrix: Array, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: for each true class, the percentage of its pixels predicted as each class.

    Args:
        matrix: Numbers of pixels, integers (K, K); rows are true classes, columns predicted ones.
        class_names: One name for each class.

    Returns:
        The figure. A row without pixels is empty.

    Raises:
        ValueError: If the matrix does not hold counts, or its shape does not fit `class_names`.

    Example:
        >>> import numpy as np
        >>> figure = confusion_matrix(np.array([[90, 10], [0, 0]]), ["ground", "line"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['90.0', '10.0']
    """
    check_names(class_names)
    matrix, classes = to_numpy(matrix), len(class_names)
    if matrix.dtype.kind not in "iu" or matrix.shape != (classes, classes) or classes == 0:
        expected = f"integers ({classes}, {classes}), a row and a column for each of the class_names"
        raise ValueError(f"matrix must be {expected}, got {matrix.dtype} of shape {matrix.shape}")
    if matrix.min() < 0:
        raise ValueError(f"matrix must hold counts, got {int(matrix.min())}")
    totals = matrix.sum(axis=1, keepdims=True)
    percent = 100 * matrix / np.maximum(totals, 1)

    side = max(0.42 * classes, 2.0)
    names = 0.07 * max(len(name) for name in class_names)
    figure = new_figure(1.08 * side + names + 1.6, side + names + 0.9)
    figure.suptitle("percent of the pixels of each true class (rows add up to 100)", fontsize=FONT_SIZE + 1)
    axes = figure.subplots()
    shown = np.ma.masked_array(percent, np.broadcast_to(totals == 0, matrix.shape))
    cells = axes.imshow(shown, cmap="Blues", vmin=0, vmax=100)
    for row, col in np.argwhere(np.broadcast_to(totals > 0, matrix.shape)):
        value = percent[row, col]
        text = "0" if matrix[row, col] == 0 else "<0.1" if value < 0.05 else f"{value:.1f}"
        color = "white" if value > 55 else "0.7" if matrix[row, col] == 0 else "black"
        write_text(axes, col, row, text, fontsize=FONT_SIZE - 1, color=color)
    ticks = range(classes), class_names
    axes.set_xticks(*ticks, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(*ticks, parse_math=False)
    draw_grid(axes, matrix.shape, color="0.9", linewidth=0.5)
    axes.tick_params(labelsize=FONT_SIZE)
    axes.set_xlabel("prediction", fontsize=FONT_SIZE + 2)
    axes.set_ylabel("truth", fontsize=FONT_SIZE + 2)
    bar = figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=FONT_SIZE)
    return figure
