"""Training on one image: a pipeline that cannot learn that by heart is broken."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minifcn.backend import Array, device_of, to_device, to_numpy
from minifcn.data import Dataset, Loader
from minifcn.data.loader import Preprocess
from minifcn.losses import Reduction
from minifcn.models import FCN
from minifcn.optim import Optimizer
from minifcn.palette import VOID
from minifcn.training.evaluation import evaluate, predict
from minifcn.training.fit import fit
from minifcn.training.outputs import show
from minifcn.training.state import Callback, Training
from minifcn.training.watch import Watch

STEPS = 400
"""Steps in which one image should be learned."""
_LOOKS = 20  # every so many steps
_LEARNT = 0.95


class _DoneError(Exception):
    """Ends the training early: there is nothing more to learn, or nothing will be."""


@dataclass(frozen=True)
class Verdict:
    """What became of it.

    Attributes:
        learnt: Whether the image is known by heart.
        sentence: What happened and, if it is not learnt, why.
        accuracy: Share of its labelled pixels that are right.
        prediction: Its classes, (H, W).
        index: Of the image in the dataset.
    """

    learnt: bool
    sentence: str
    accuracy: float
    prediction: Array
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
    """Train on one image of a dataset until it is learnt, or say what stands in the way.

    It is the first image with more than one class: to call everything the same, even a dead network learns.
    Neither dropout nor augmentation should be at work, and but for a short warm-up no schedule is. The image
    counts as learnt at 95 % of its labelled pixels, or at what labels on a grid of the network's stride can
    say about it, if that is less.

    Args:
        model: The network.
        dataset: Where the image is taken from.
        optimizer: Its optimiser.
        preprocess: Of the images.
        reduction: Of the loss.
        steps: Steps to try.
        tell: Called with a line now and then.
        progress: Name of the progress bar.
    """
    index = next((i for i in range(len(dataset)) if len(_classes_in(dataset[i][1])) > 1), 0)
    one = _One(dataset, index, steps=min(_LOOKS, steps))
    _, labels = one[0]
    if len(present := _classes_in(labels)) < 2:
        what = "no image has more than one class" if present else "all of its pixels are void"
        return Verdict(False, f"{what}, so there is nothing to learn", 0.0, labels)
    limit = min(_LEARNT, 0.98 * grid_accuracy(labels, model.stride))
    loader = Loader(one, 1, preprocess=preprocess, workers=0)
    score = Loader(_One(dataset, index, steps=1), 1, preprocess=preprocess, workers=0)
    watch = Watch(tell)
    look = _Look(limit, watch, tell)
    if not any(parameter.data.any() for layer in model.score_layers() for parameter in layer.parameters()):
        k = model.num_classes
        start = f"the loss starts at about ln {k} = {math.log(k):.3f}"
        tell(f"{start}: the score layers begin at zero, so every class is as likely as another")
    try:
        records = fit(
            model,
            loader,
            optimizer,
            epochs=max(1, steps // len(one)),
            schedule=_warm_up,
            reduction=reduction,
            validation=score,
            progress=progress,
            callbacks=[watch, look],
        )
    except _DoneError:
        records = look.records
    accuracy = evaluate(model, score).pixel_accuracy()
    x = to_device(preprocess(one[0][0][None]), device_of(next(model.parameters()).data))
    prediction = to_numpy(predict(model.eval(), x))[0]
    first, last = records[0]["loss"], records[-1]["loss"]
    fell = f"{first:.3f} to {last:.3f}" if len(records) > 1 else f"{last:.3f}"
    numbers = f"loss {fell}, {accuracy:.1%} of its pixels right"
    if look.learnt:
        sentence = f"learnt in {records[-1]['step']} steps: {numbers}"
        return Verdict(True, sentence, accuracy, prediction, index)
    if watch.told:
        why = "; ".join(watch.told.values())
    elif last > 0.8 * first:
        why = "the loss hardly fell: is the rate too small, the trunk frozen, or are its weights missing?"
    elif last < 0.3 * first:
        why = "it is still being learnt: try a larger rate or the recipe 'quick'"
    else:
        why = (
            "the loss fell and then stayed: look at the picture whether labels and image belong together "
            "(minifcn check-data), and whether the stride is fine enough"
        )
    sentence = f"not learnt in {records[-1]['step']} steps: {numbers}; {why}"
    return Verdict(False, sentence, accuracy, prediction, index)


def _warm_up(step: int) -> float:
    """Let the rate rise at first: Adam's first steps are as large as its rate, and scores would jump."""
    return min(1.0, (step + 1) / _LOOKS)


def _classes_in(labels: Array) -> list[int]:
    """Return the labels that occur, but for void."""
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


class _One:
    """One item of a dataset, again and again."""

    def __init__(self, dataset: Dataset, index: int, steps: int):
        self.class_names, self.palette = dataset.class_names, dataset.palette
        self._item, self._steps = dataset[index], steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int, /) -> tuple[Array, Array]:
        return self._item


class _Look(Callback):
    """Looks now and then whether the image is known."""

    def __init__(self, limit: float, watch: Watch, tell: Callable[[str], None]):
        self.limit, self.watch, self.tell = limit, watch, tell
        self.learnt = False

    def epoch(self, training: Training) -> None:
        self.records = training.records
        record = training.records[-1]
        accuracy = record["pixel_accuracy"]
        self.tell(f"step {record['step']}: loss {record['loss']:.3f}, {accuracy:.1%} of the pixels right")
        self.learnt = accuracy >= self.limit
        if self.learnt or {"constant scores", "loss at chance"} & self.watch.told.keys():
            raise _DoneError
