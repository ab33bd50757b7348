"""Metrics of a network on a dataset."""

import math
from contextlib import nullcontext
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from minifcn.backend import device_of, to_device
from minifcn.data import Loader
from minifcn.layers import Layer
from minifcn.metrics import Absent, ConfusionMatrix
from minifcn.training.label import evaluation_mode, predict
from minifcn.training.progress import Progress

if TYPE_CHECKING:
    from minifcn.training.ranks import Ranks


def evaluate(
    model: Layer,
    loader: Loader,
    *,
    absent: Absent = "exclude",
    progress: str | None = None,
    ranks: "Ranks | None" = None,
) -> ConfusionMatrix:
    """Count the predictions of a network against the labels of a whole dataset.

    The network is switched to evaluation mode, and back to its mode afterwards.

    Args:
        model: A network.
        loader: Batches of preprocessed images and labels.
        absent: How a class without pixels counts; see `minifcn.metrics.ConfusionMatrix`.
        progress: Name of the progress bar; without a terminal it is one line per minute. `None` for none.
        ranks: Processes that share the batches; each gets the confusion matrix of all of them.

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
    rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
    bar = Progress(None if rank else progress, len(loader.dataset))
    with ranks or nullcontext(), evaluation_mode(model), bar:
        for batch in loader.share(lambda number: number % size == rank):
            if batch is not None:
                x, labels = batch
                matrix.update(to_device(labels, device), predict(model, to_device(x, device)))
            bar.update(min(loader.batch_size, len(loader.dataset) - bar.done))
        return matrix if ranks is None else reduce(add, ranks.gather(matrix))


def json_number(value: float) -> float | None:
    """Return a metric as a JSON value: NaN, of a metric over no pixels, becomes `None`."""
    return None if math.isnan(value) else value
