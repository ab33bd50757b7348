"""Metrics of a network on a dataset."""

import math

from minifcn.backend import device_of, to_device
from minifcn.data import Loader
from minifcn.layers import Layer
from minifcn.metrics import Absent, ConfusionMatrix
from minifcn.training.label import evaluation_mode, predict
from minifcn.training.progress import Progress


def evaluate(
    model: Layer, loader: Loader, *, absent: Absent = "exclude", progress: str | None = None
) -> ConfusionMatrix:
    """Count the predictions of a network against the labels of a whole dataset.

    The network is switched to evaluation mode, and back to its mode afterwards.

    Args:
        model: A network.
        loader: Batches of preprocessed images and labels.
        absent: How a class without pixels counts; see `minifcn.metrics.ConfusionMatrix`.
        progress: Name of the progress bar; without a terminal it is one line per minute. `None` for none.

    Returns:
        The confusion matrix, from which the four metrics follow.

    Example:
        >>> from minifcn.data import DigitCrops, Loader
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> loader = Loader(DigitCrops("validation"), 50, preprocess=Preprocessing("L", (128.0,), (64.0,)))
        >>> int(evaluate(digit_classifier(), loader).matrix.sum()) == len(loader.dataset)
        True
    """
    names = loader.dataset.class_names
    matrix = ConfusionMatrix(len(names), class_names=names, absent=absent)
    device = device_of(next(model.parameters()).data)
    with evaluation_mode(model), Progress(progress, len(loader.dataset)) as bar:
        for x, labels in loader:
            matrix.update(to_device(labels, device), predict(model, to_device(x, device)))
            bar.update(len(x))
    return matrix


def json_number(value: float) -> float | None:
    """Return a metric as a JSON value: NaN, of a metric over no pixels, becomes `None`."""
    return None if math.isnan(value) else value
