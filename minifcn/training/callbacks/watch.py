"""Warnings about failing trainings, early, while little time is lost."""

import math
from collections import deque
from collections.abc import Callable
from statistics import median

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN
from minifcn.printing import escape
from minifcn.training.callbacks.base import Callback
from minifcn.training.label import evaluation_mode
from minifcn.training.progress import say
from minifcn.training.state import Training

_FIRST_STEPS = 3
"""Steps whose scores are inspected. All numbers of steps here are smaller if a training has fewer."""
_PATIENCE = 30
"""Steps after which an unchanged loss, or predictions of one class, are reported."""
_NO_CHANGE = 1e-4
"""A loss within this share of ln K around ln K has not changed."""
_BLOWN_UP = 3.0
"""Multiple of ln K, the initial loss, above which the median loss of `_RECENT` steps is reported."""
_RECENT = 10
_ALL = 0.995
"""Share of pixels above which predictions count as one class."""


def _say_lines(warning: str) -> None:
    say(*warning.split("\n"))


class Watch(Callback):
    """Detects common ways in which trainings fail, and reports each of them once.

    It warns about a trunk without weights (scores that are equal everywhere), a loss that stays at ln K or
    rises far above it, and predictions that are all of one class. It does not stop the training; `fit` does
    so for NaN and infinity.

    Args:
        tell: Called with each warning.

    Attributes:
        told: The warnings so far, by subject.

    Example:
        >>> watch = Watch()  # for `fit(..., callbacks=[watch])`
        >>> watch.told
        {}
    """

    def __init__(self, tell: Callable[[str], None] = _say_lines):
        self.tell = tell
        self.told: dict[str, str] = {}
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._constant = 0  # number of the first steps whose scores were constant

    def step(self, training: Training) -> None:
        """Inspect the scores of the first steps, and the loss."""
        scores = training.scores
        if scores is None:
            return
        chance = math.log(scores.shape[1])
        looks = min(_FIRST_STEPS, training.steps - 1)
        if 1 < training.step <= 1 + looks:  # before the first update, score layers give 0 everywhere
            self._constant += _is_constant(scores)
            if self._constant == looks:
                self._say(
                    "constant scores",
                    f"the scores of the first {looks} steps are the same at every pixel: the trunk does not "
                    f"distinguish pixels. Were its weights loaded?",
                )
        patience = max(2, min(_PATIENCE, training.steps))  # the first loss is before any update
        if training.step == patience and abs(training.loss - chance) < _NO_CHANGE * chance:
            self._say(
                "loss at chance",
                f"after {patience} steps the loss is still ln {scores.shape[1]} = {chance:.5f}, as if every "
                f"class were equally likely: nothing is learned. Either the trunk is dead (weights not "
                f"loaded), or the learning rate of {training.lr:.1e} is too small for this loss",
            )
        self._recent.append(training.loss)
        recent, middle = len(self._recent), median(self._recent)
        if recent == max(2, min(_RECENT, training.steps)) and middle > _BLOWN_UP * chance:
            self._say(
                "loss blown up",
                f"step {training.step}: the median loss of the last {recent} steps is {middle:.3g}, and that "
                f"of random predictions is {chance:.3f}: the learning rate of {training.lr:.1e} is too high, "
                f"try {training.lr / 10:.1e}",
            )

    def epoch(self, training: Training) -> None:
        """Inspect the predictions, once there was time to learn."""
        if training.matrix is not None and training.step >= min(_PATIENCE, training.steps):
            warning = one_class(training.matrix)
            if warning is not None:
                self._say("one class", f"epoch {training.epoch}: {warning}")

    def _say(self, about: str, warning: str) -> None:
        if about not in self.told:
            self.told[about] = warning
            self.tell(f"warning: {warning}")


def dead_features(model: FCN, x: Array) -> str | None:
    """Return a warning if the trunk gives the same features everywhere, or zeros: its weights are missing.

    Args:
        model: The network; its mode does not change.
        x: Preprocessed images (N, C, H, W).
    """
    if _is_constant(x):
        return None  # nothing follows from blank images
    height, width = (max(size, model.smallest) for size in x.shape[2:])
    padded = array_module(x).zeros((*x.shape[:2], height, width), x.dtype)
    padded[:, :, : x.shape[2], : x.shape[3]] = x
    with evaluation_mode(model):
        features = model.head(model.features(padded))
    if not features.any():
        what = "all of its features are zero"
    elif max(features.shape[2:]) > 2 and _is_constant(features):
        what = "its features are the same at every position"
    else:
        return None
    return f"the trunk is dead: {what} for the first images. Were its weights loaded?"


def one_class(matrix: ConfusionMatrix) -> str | None:
    """Return a warning if nearly all pixels are predicted as one class, with the frequencies of all classes.

    Example:
        >>> import numpy as np
        >>> matrix = ConfusionMatrix(2, class_names=["ground", "cat"])
        >>> matrix.update(np.array([0, 0, 0, 1], np.uint8), np.zeros(4, np.int64))
        >>> print(one_class(matrix))
        100.0 % of the pixels are predicted as 'ground'
          class     labels  predictions
          ground    75.0 %      100.0 %
          cat       25.0 %        0.0 %
        Early in a training this is normal. If it persists: train longer, try another learning rate
        or recipe, or give rare classes larger class weights.
    """
    counts = matrix.matrix
    total = counts.sum()
    if not total:
        return None
    labels, predictions = counts.sum(axis=1) / total, counts.sum(axis=0) / total
    most = int(predictions.argmax())
    if predictions[most] < _ALL or labels[most] == 1:
        return None
    names = [*map(escape, matrix.class_names)]
    width = max(8, *map(len, names))
    lines = [
        f"{100 * predictions[most]:.1f} % of the pixels are predicted as {matrix.class_names[most]!r}",
        f"  {'class':{width}}  {'labels':>6}  {'predictions':>11}",
    ]
    for name, seen, predicted in zip(names, labels, predictions, strict=True):
        lines.append(f"  {name:{width}}  {100 * seen:4.1f} %  {100 * predicted:9.1f} %")
    lines.append(
        "Early in a training this is normal. If it persists: train longer, try another learning rate"
    )
    lines.append("or recipe, or give rare classes larger class weights.")
    return "\n".join(lines)


def _is_constant(maps: Array) -> bool:
    """Return whether each map (N, C, H, W) is the same everywhere, except near its border.

    Near the border, padding shows in the features and in the upsampled scores.
    """
    if maps.ndim != 4:
        return False
    height, width = maps.shape[2:]
    inner = maps[:, :, height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)]
    spread = float((inner.max(axis=(2, 3)) - inner.min(axis=(2, 3))).max())
    return spread <= 8 * float(np.finfo(np.float32).eps) * float(abs(inner).max())
