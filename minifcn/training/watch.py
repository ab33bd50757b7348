"""Early word: what goes wrong in a training is told while little time is lost."""

import math
from collections import deque
from collections.abc import Callable
from statistics import median

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN
from minifcn.training.outputs import say
from minifcn.training.state import Callback, Training

_FIRST_STEPS = 3
"""Steps in which scores are looked at. These numbers of steps are fewer where a training has no more."""
_PATIENCE = 30
"""Steps after which a loss that has not moved, or predictions of one class, are told."""
_NO_CHANGE = 1e-4
"""Share of ln K by which a loss must have moved to be alive."""
_BLOWN_UP = 3.0
"""Times ln K, where it begins, that a loss may reach in most of `_RECENT` steps; one alone may be odd."""
_RECENT = 10
_ALL = 0.995
"""Share of the pixels that make a prediction one of a single class."""


class Watch(Callback):
    """Looks for the ways in which trainings fail, and says each of them once.

    It tells of a trunk without weights (scores that are the same everywhere), of a loss that stays at ln K or
    rises far above it, and of predictions that are all of one class. It does not
    stop the training. NaN and infinity do, in `fit`.

    Args:
        tell: What is called with each sentence.

    Attributes:
        told: The sentences by what they are about.
    """

    def __init__(self, tell: Callable[[str], None] = say):
        self.tell = tell
        self.told: dict[str, str] = {}
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._constant = 0  # of the first steps, how many had scores without any pattern

    def step(self, training: Training) -> None:
        """Look at the scores of the first steps, and at the loss."""
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
                    f"the scores of the first {looks} steps are the same at every pixel: the trunk "
                    f"gives nothing to tell pixels by. Were its weights loaded? See minifcn weights inspect",
                )
        patience = max(2, min(_PATIENCE, training.steps))  # the first loss is before any update
        if training.step == patience and abs(training.loss - chance) < _NO_CHANGE * chance:
            self._say(
                "loss at chance",
                f"after {patience} steps the loss is still ln {scores.shape[1]} = {chance:.5f}, every class "
                f"as likely as another: nothing is learned. Either the trunk is dead (weights not loaded), "
                f"or the learning rate (--lr) of {training.lr:.1e} is too small for this loss",
            )
        self._recent.append(training.loss)
        recent, middle = len(self._recent), median(self._recent)
        if recent == max(2, min(_RECENT, training.steps)) and middle > _BLOWN_UP * chance:
            self._say(
                "loss blown up",
                f"step {training.step}: the loss of the last {recent} steps is about {middle:.3g}, chance "
                f"is {chance:.3f}: the rate {training.lr:.1e} is too high, try a tenth (--lr "
                f"{training.lr / 10:.1e})",
            )

    def epoch(self, training: Training) -> None:
        """Look at the predictions, when there was time to learn others."""
        if training.matrix is not None and training.step >= min(_PATIENCE, training.steps):
            word = one_class(training.matrix)
            if word is not None:
                self._say("one class", f"epoch {training.epoch}: {word}")

    def _say(self, about: str, sentence: str) -> None:
        if about not in self.told:
            self.told[about] = sentence
            self.tell(f"warning: {sentence}")


def dead_features(model: FCN, x: Array) -> str | None:
    """Say in a sentence if the trunk gives the same features everywhere, or none: its weights are not loaded.

    Args:
        model: The network, in either mode, which it keeps.
        x: Preprocessed images (N, C, H, W).
    """
    if _is_constant(x):
        return None  # of blank images, nothing follows
    training = model.training
    model.eval()
    try:
        height, width = (max(size, model.smallest) for size in x.shape[2:])
        xp = array_module(x)
        room = xp.zeros((*x.shape[:2], height, width), x.dtype)
        room[:, :, : x.shape[2], : x.shape[3]] = x
        features = model.head(model.features(room))
    finally:
        model.train(training)
    if not features.any():
        what = "all of its features are zero"
    elif max(features.shape[2:]) > 2 and _is_constant(features):
        what = "its features are the same at every place"
    else:
        return None
    return f"the trunk is dead: {what} for the first images. Were its weights loaded?"


def one_class(matrix: ConfusionMatrix) -> str | None:
    """Say in sentences if nearly all pixels are predicted as one class, with the frequencies of all.

    Example:
        >>> import numpy as np
        >>> matrix = ConfusionMatrix(2, class_names=["ground", "cat"])
        >>> matrix.update(np.array([0, 0, 0, 1], np.uint8), np.zeros(4, np.int64))
        >>> print(one_class(matrix))
        100.0 % of the pixels are predicted as 'ground'
          class     labels  predictions
          ground    75.0 %      100.0 %
          cat       25.0 %        0.0 %
        Early in a training that is no harm. If it stays: train longer, try another rate or recipe,
        or weigh rare classes (--class-weights median).
    """
    counts = matrix.matrix
    total = counts.sum()
    if not total:
        return None
    labels, predictions = counts.sum(axis=1) / total, counts.sum(axis=0) / total
    most = int(predictions.argmax())
    if predictions[most] < _ALL or labels[most] == 1:
        return None
    width = max(8, *map(len, matrix.class_names))
    rows = [
        f"  {name:{width}}  {100 * label:4.1f} %  {100 * prediction:9.1f} %"
        for name, label, prediction in zip(matrix.class_names, labels, predictions, strict=True)
    ]
    return "\n".join(
        [
            f"{100 * predictions[most]:.1f} % of the pixels are predicted as {matrix.class_names[most]!r}",
            f"  {'class':{width}}  {'labels':>6}  {'predictions':>11}",
            *rows,
            "Early in a training that is no harm. If it stays: train longer, try another rate or recipe,",
            "or weigh rare classes (--class-weights median).",
        ]
    )


def _is_constant(maps: Array) -> bool:
    """Return whether each map (N, C, H, W) is the same everywhere, but near its border.

    There padding shows, in the features and in the upsampled scores.
    """
    if maps.ndim != 4:
        return False
    height, width = maps.shape[2:]
    inner = maps[:, :, height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)]
    spread = float((inner.max(axis=(2, 3)) - inner.min(axis=(2, 3))).max())
    return spread <= 8 * float(np.finfo(np.float32).eps) * float(abs(inner).max())
