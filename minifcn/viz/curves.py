"""Training curves."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minifcn.palette import palette
from minifcn.viz._drawing import FONT_SIZE, new_figure

_METRICS = {
    "pixel_accuracy": ("pixel accuracy", 5, "o"),
    "mean_accuracy": ("mean accuracy", 1, "s"),
    "mean_iou": ("mean IoU", 6, "D"),
    "frequency_weighted_iou": ("frequency-weighted IoU", 3, "^"),
}
"""Name, colour in the palette, and marker of each metric."""
_MOST_MARKERS = 40


def training_curve(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the loss and the metrics of a training.

    Args:
        records: The lines of a training log in JSON lines: mappings with "loss", and any of
            "pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou" (0 to 1), in some records
            or in all. The x axis is "epoch" if the epochs of all records differ, otherwise "step". Other
            entries are ignored.

    Returns:
        The figure: the loss on the left, and the metrics, if there are any, on the right.

    Raises:
        ValueError: If no record has a loss, or a value is not a number.

    Example:
        >>> log = [{"epoch": 1, "loss": 1.9, "mean_iou": 0.3}, {"epoch": 2, "loss": 0.7, "mean_iou": 0.6}]
        >>> [axes.get_ylabel() for axes in training_curve(log).axes]
        ['loss', 'metric (1 is perfect)']
    """
    drawn = [record for record in records if any(key in record for key in ("loss", *_METRICS))]
    epochs = [record.get("epoch") for record in drawn]
    over = "epoch" if None not in epochs and len(set(epochs)) == len(epochs) else "step"
    losses = _points(drawn, "loss", over)
    if not losses[0]:
        raise ValueError(f"records must hold a 'loss', got {len(records)} without one")
    curves = {key: points for key in _METRICS if (points := _points(drawn, key, over))[0]}

    count = 2 if curves else 1
    figure = new_figure(4.5 * count, 3.2)
    panels = figure.subplots(1, count, squeeze=False, sharex=True)[0]
    marker = "o" if len(losses[0]) <= _MOST_MARKERS else ""
    panels[0].plot(*losses, color="black", marker=marker, markersize=3)
    for key, points in curves.items():
        title, color, symbol = _METRICS[key]
        marker = symbol if len(points[0]) <= _MOST_MARKERS else ""
        panels[1].plot(*points, color=palette(7)[color] / 255, marker=marker, markersize=4, label=title)
    for axes, value in zip(panels, ("loss", "metric (1 is perfect)"), strict=False):
        axes.set_xlabel(over, fontsize=FONT_SIZE + 1)
        axes.set_ylabel(value, fontsize=FONT_SIZE + 1)
        axes.tick_params(labelsize=FONT_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.6)
    if curves:
        panels[1].set_ylim(0, 1)
        panels[1].legend(fontsize=FONT_SIZE, frameon=False)
    return figure


def _points(records: Sequence[Mapping[str, Any]], key: str, over: str) -> tuple[list[float], list[float]]:
    """Return the positions and values of the records that have the value; `None` counts as absent."""
    xs, ys = [], []
    for record in records:
        if record.get(key) is None:
            continue
        for name in (over, key):
            if not isinstance(record.get(name), Real):
                raise ValueError(f"each record needs a number as its {name!r}, got {dict(record)}")
        xs.append(float(record[over]))
        ys.append(float(record[key]))
    return xs, ys
