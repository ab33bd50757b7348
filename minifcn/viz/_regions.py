"""Regions of a label image: their borders, and their names where there is space."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from minifcn.backend import Array
from minifcn.palette import VOID
from minifcn.viz._drawing import FONT_SIZE, LETTER, POINTS_PER_INCH, write_text


def draw_borders(axes: Axes, labels: Array) -> None:
    """Draw a line along every pixel edge between two classes of (H, W), but none at void."""
    segments: list[Array] = []
    for image, order in ((labels, 1), (labels.T, -1)):  # edges below pixels, then those beside them
        rows, cols = np.nonzero((image[1:] != image[:-1]) & (image[1:] != VOID) & (image[:-1] != VOID))
        ends = np.stack([[cols - 0.5, rows + 0.5], [cols + 0.5, rows + 0.5]])  # (ends, xy, edges)
        segments += list(ends[:, ::order].transpose(2, 0, 1))
    axes.add_collection(LineCollection(segments, colors="white", linewidths=0.7, capstyle="projecting"))


def write_names(axes: Axes, labels: Array, class_names: Sequence[str], width: float) -> None:
    """Write the class name into each region that is large enough.

    The name may be wider than a narrow region if the class has no name elsewhere.

    Args:
        axes: Axes that show the image.
        labels: (H, W).
        class_names: One for each class.
        width: Width of the image in inches.
    """
    last = labels.shape[1] - 1
    letter = FONT_SIZE * labels.shape[1] / (width * POINTS_PER_INCH)  # a font size, in pixels
    taken: list[tuple[float, float, float]] = []
    named: set[int] = set()
    for row, col, depth in innermost_pixels(labels):
        if depth < 0.75 * letter:
            break  # the largest distances come first
        label = int(labels[row, col])
        half = 0.5 * LETTER * letter * len(class_names[label])
        x = float(np.clip(col, min(half, last / 2), max(last - half, last / 2)))
        around = labels[row, max(0, round(x - half)) : round(x + half) + 1]
        if (label in named and (around != label).any()) or any(
            abs(x - x2) < half + half2 and abs(row - row2) < 1.2 * letter for x2, row2, half2 in taken
        ):
            continue
        taken.append((x, row, half))
        named.add(label)
        outline = [withStroke(linewidth=2, foreground="black")]
        write_text(axes, x, row, class_names[label], color="white", path_effects=outline)


def innermost_pixels(labels: Array) -> Iterator[tuple[int, int, int]]:
    """Yield (row, col, distance to the border) of the innermost pixel of each region, largest distance first.

    A region is 4-connected. Distances are city-block distances, 1 for a pixel at the border of its region or
    of the image. Void is no region. Of images with more than 160 rows or columns, only some are used, because
    the position of a name need not be exact.
    """
    step = -(-max(labels.shape) // 160)
    coarse = np.ascontiguousarray(labels[::step, ::step])
    padded = np.pad(coarse, 1, constant_values=VOID)
    depth = np.zeros(coarse.shape, np.int64)
    alive = padded != VOID
    while alive.any():  # each iteration removes the border of every region
        depth += alive[1:-1, 1:-1]
        inner = alive.copy()
        for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
            inner &= (np.roll(padded, shift, axis) == padded) & np.roll(alive, shift, axis)
        alive = inner
    deepest = np.argsort(-depth, axis=None, kind="stable")  # indices of all pixels
    _, first = np.unique(_regions(coarse).ravel()[deepest], return_index=True)
    for index in deepest[np.sort(first)].tolist():
        row, col = divmod(index, coarse.shape[1])
        if depth[row, col]:
            yield row * step, col * step, int(depth[row, col]) * step


def _regions(labels: Array) -> Array:
    """Return for each pixel the smallest index of a pixel in its 4-connected region, (H, W)."""
    indices = np.arange(labels.size).reshape(labels.shape)
    while True:  # until nothing changes, each run of equal labels takes its smallest index
        before = indices
        for _ in range(2):  # the runs in rows, and those in columns
            begins = np.ones(labels.shape, bool)
            begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
            smallest = np.minimum.reduceat(indices.ravel(), np.flatnonzero(begins))
            indices = smallest[np.cumsum(begins) - 1].reshape(labels.shape).T
            labels = labels.T
        if (indices == before).all():
            return indices
