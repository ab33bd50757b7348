"""Training on one image, as a test: a pipeline that cannot learn one image is broken."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minifcn.backend import Array
from minifcn.data import Dataset, Loader
from minifcn.data.loader import Preprocess
from minifcn.losses import Reduction
from minifcn.models import FCN
from minifcn.optim import Optimizer
from minifcn.palette import VOID
from minifcn.training.callbacks import Callback, Watch
from minifcn.training.fit import fit
from minifcn.training.progress import show
from minifcn.training.state import Training

STEPS = 400
"""Steps that should be enough to learn one image."""
_INTERVAL = 20  # steps between two evaluations
_LEARNED = 0.95


@dataclass(frozen=True)
class Verdict:
    """The result of training on one image.

    Attributes:
        learned: Whether the image was learned.
        sentence: What happened and, if it was not learned, why.
        accuracy: Share of its labelled pixels that are right.
        index: Index of the image in the dataset.
    """

    learned: bool
    sentence: str
    accuracy: float
    index: int = 0


def overfit_one(
    model: FCN,
    dataset: Dataset,
    optimizer: Optimizer,
    *,
    preprocess: Preprocess,
    reduction: Reduction = "mean",
    steps: int = STEPS,
    tell: Callable[[str], None] = show,
    progress: str | None = "one image",
) -> Verdict:
    """Train on one image of a dataset until it is learned, or report why it is not.

    It is the first image with more than one class: predicting one class is what even a dead network learns.
    There should be no dropout and no augmentation; the rate is constant after a short warm-up. The image
    counts as learned if 95 % of its labelled pixels are right, or 98 % of what is possible with one label per
    cell of a grid of the network's stride, if that is less.

    Args:
        model: The network.
        dataset: Contains the image.
        optimizer: Updates the network's parameters.
        preprocess: Turns images into network input.
        reduction: How the loss is averaged.
        steps: Number of steps at most.
        tell: Called with a line after every 20 steps.
        progress: Name of the progress bar, or `None`.
    """
    index = next((i for i in range(len(dataset)) if len(_classes_in(dataset[i][1])) > 1), 0)
    one = _One(dataset, index, steps=min(_INTERVAL, steps))
    _, labels = one[0]
    if len(present := _classes_in(labels)) < 2:
        what = "no image has more than one class" if present else "all of its pixels are void"
        return Verdict(False, f"{what}, so there is nothing to learn", 0.0)
    limit = min(_LEARNED, 0.98 * grid_accuracy(labels, model.stride))
    loader = Loader(one, 1, preprocess=preprocess, workers=0, seed=0)
    score = Loader(_One(dataset, index, steps=1), 1, preprocess=preprocess, workers=0, seed=0)
    watch = Watch(tell)
    look = _Look(limit, watch, tell)
    if not any(parameter.data.any() for layer in model.score_layers() for parameter in layer.parameters()):
        k = model.num_classes
        start = f"the loss starts at about ln {k} = {math.log(k):.3f}"
        tell(f"{start}: the score layers begin at zero, so all classes are equally likely")
    records = fit(
        model,
        loader,
        optimizer,
        epochs=max(1, steps // len(one)),
        schedule=lambda step: min(1.0, (step + 1) / _INTERVAL),  # Adam's first steps are large
        reduction=reduction,
        validation=score,
        progress=progress,
        callbacks=[watch, look],
    )
    accuracy = records[-1]["pixel_accuracy"]
    first, last = records[0]["loss"], records[-1]["loss"]
    fell = f"{first:.3f} to {last:.3f}" if len(records) > 1 else f"{last:.3f}"
    sentence = f"learned in {records[-1]['step']} steps: loss {fell}, {accuracy:.1%} of its pixels right"
    if not look.learned:
        if watch.told:
            why = "; ".join(watch.told.values())
        elif last > 0.8 * first:
            why = "the loss hardly fell: is the rate too small, or the trunk frozen or without weights?"
        elif last < 0.3 * first:
            why = "the loss is still falling: try a larger rate or the recipe 'quick'"
        else:
            why = "the loss fell and then stayed: do labels and image belong together? Is the stride fine?"
        sentence = f"not {sentence}; {why}"
    return Verdict(look.learned, sentence, accuracy, index)


def _classes_in(labels: Array) -> list[int]:
    """Return the labels that occur, except void."""
    return [int(label) for label in np.unique(labels) if label != VOID]


def grid_accuracy(labels: Array, stride: int) -> float:
    """Return the share of labelled pixels that agree with the most frequent label of their grid cell.

    Example:
        >>> grid_accuracy(np.array([[0, 0, 1, 1], [0, 1, 1, 255]], np.uint8), 2)
        0.8571428571428571
    """
    right = 0
    for top in range(0, labels.shape[0], stride):
        for left in range(0, labels.shape[1], stride):
            cell = labels[top : top + stride, left : left + stride]
            right += int(np.bincount(cell[cell != VOID], minlength=1).max())
    return right / max(1, int((labels != VOID).sum()))


class _One(list[tuple[Array, Array]]):
    """A dataset that repeats one item of another."""

    def __init__(self, dataset: Dataset, index: int, steps: int):
        super().__init__([dataset[index]] * steps)
        self.class_names, self.palette = dataset.class_names, dataset.palette


class _Look(Callback):
    """Ends the training when the image is learned, or a warning says that it will not be."""

    def __init__(self, limit: float, watch: Watch, tell: Callable[[str], None]):
        self.limit, self.watch, self.tell = limit, watch, tell
        self.learned = False

    def epoch(self, training: Training) -> None:
        record = training.records[-1]
        accuracy = record["pixel_accuracy"]
        self.tell(f"step {record['step']}: loss {record['loss']:.3f}, {accuracy:.1%} of the pixels right")
        self.learned = accuracy >= self.limit
        if self.learned or {"constant scores", "loss at chance"} & self.watch.told.keys():
            training.epochs = training.epoch
