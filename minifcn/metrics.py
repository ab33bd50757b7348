"""Metrics: one confusion matrix for a whole dataset, and the four scores computed from it."""

import math
from collections.abc import Sequence
from copy import copy
from typing import Literal, Self, get_args

import numpy as np

from minifcn.backend import Array, array_module, to_numpy
from minifcn.functional.labels import check_classes, refuse, valid_pixels
from minifcn.functional.operands import check_choice, check_class_names, check_same_shape
from minifcn.printing import escape

Absent = Literal["exclude", "zero", "one", "truth"]


class ConfusionMatrix:
    """Counts pixels by true and predicted class, and scores them as in the FCN papers.

    With n_ij pixels of class i predicted as class j, t_i = sum_j n_ij pixels of class i, and K classes
    (Long, Shelhamer & Darrell 2015, section 5):

    - pixel accuracy: sum_i n_ii / sum_i t_i
    - mean accuracy: 1/K sum_i n_ii / t_i
    - mean IoU: 1/K sum_i n_ii / u_i, where the union is u_i = t_i + sum_j n_ji - n_ii
    - frequency-weighted IoU: (sum_k t_k)^-1 sum_i t_i n_ii / u_i

    A quotient 0 / 0 is undefined, and the conventions for it change the means by more than methods differ.
    `absent` chooses the convention for both means:

    - "exclude": such a class is left out. A class that is only predicted has a union but no true pixels, so
      it counts as 0 in the mean IoU and not at all in the mean accuracy. So the two may be over different
      numbers of classes, `classes_in_mean_iou` and `classes_in_mean_accuracy`.
    - "zero", "one": it counts as 0, or as 1.
    - "truth": as "exclude", and classes that are only predicted are left out of the mean IoU too.

    All images of a dataset are counted in one matrix. Means of scores per image differ from that: they depend
    on how the pixels are distributed over images. If nothing was counted, every score is NaN.

    Args:
        num_classes: Number of classes K, at most 256.
        ignore_index: The label of void. Void pixels are not counted, whatever their prediction.
        class_names: A name for each class; by default their numbers.
        absent: "exclude", "zero", "one" or "truth".

    Raises:
        ValueError: If an argument is out of range, or there is not one name for each class.

    Example:
        >>> import numpy as np
        >>> counts = ConfusionMatrix(2, class_names=["ground", "figure"])
        >>> truth = np.array([[0, 0, 1, 255]], np.uint8)
        >>> counts.update(truth, np.array([[0, 1, 1, 0]]))
        >>> counts.matrix.tolist()
        [[1, 1], [0, 1]]
        >>> counts.mean_iou()
        0.5
    """

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        class_names: Sequence[str] | None = None,
        absent: Absent = "exclude",
    ):
        check_classes(num_classes, ignore_index)
        if num_classes > 256:
            raise ValueError(f"num_classes must be at most 256 because labels are uint8, got {num_classes}")
        check_choice(absent, "absent", get_args(Absent))
        names = check_class_names(map(str, range(num_classes)) if class_names is None else class_names)
        if len(names) != num_classes:
            raise ValueError(f"class_names must have {num_classes} names, got {len(names)}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.class_names = names
        self.absent: Absent = absent
        self._matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: Array, predictions: Array) -> None:
        """Count the pixels of an image, or of a batch.

        Args:
            labels: True classes and void, any shape, uint8.
            predictions: Predicted classes, of the shape of `labels`, of any integer dtype. Ignored where
                `labels` are void.

        Raises:
            TypeError: If an argument is not an array, NumPy and CuPy arrays are mixed, or a dtype is wrong.
            ValueError: If the shapes differ, or a label or prediction is out of range; nothing is counted.
        """
        xp = array_module(labels=labels, predictions=predictions)
        if predictions.dtype.kind not in "iu":
            fix = "of scores (N, C, H, W) take scores.argmax(axis=1)"
            raise TypeError(f"predictions must be integers, got {predictions.dtype}; {fix}")
        check_same_shape(labels=labels, predictions=predictions)
        k = self.num_classes
        valid = valid_pixels(labels, k, self.ignore_index)
        predicted = predictions.astype(xp.int64)
        wrong = valid & ((predicted < 0) | (predicted >= k))
        refuse(wrong, predictions, f"predictions must be from 0 to num_classes - 1 = {k - 1}")
        # One index for each (true, predicted), and one more for void, whose count is dropped.
        pairs = xp.where(valid, labels.astype(xp.int64) * k + predicted, k * k)
        counts = xp.bincount(pairs.reshape(-1), minlength=k * k + 1)[: k * k]  # (...) -> (pixels,)
        self._matrix += to_numpy(counts).reshape(k, k)  # (K * K,) -> (K, K)

    def __add__(self, other: Self) -> Self:
        """Return the counts of both together, in a new matrix.

        Raises:
            ValueError: If they differ in classes, names, void label or the convention for absent classes.
        """
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        for name in ("num_classes", "ignore_index", "class_names", "absent"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"{name} must be equal in matrices to be added, got {mine!r} and {theirs!r}")
        both = copy(self)
        both._matrix = self._matrix + other._matrix
        return both

    @property
    def matrix(self) -> Array:
        """The counts n_ij, (K, K), int64: rows are true classes, columns predicted ones. A copy."""
        return self._matrix.copy()

    def pixel_accuracy(self) -> float:
        """Return the share of pixels that are right."""
        total = int(self._matrix.sum())
        return int(self._matrix.trace()) / total if total else math.nan

    def mean_accuracy(self) -> float:
        """Return the mean of `accuracy_per_class` over the classes where it is a number."""
        return _mean(self.accuracy_per_class())

    def mean_iou(self) -> float:
        """Return the mean of `iou_per_class` over the classes where it is a number."""
        return _mean(self.iou_per_class())

    def frequency_weighted_iou(self) -> float:
        """Return the mean of the IoU of classes, weighted by their true pixels.

        Classes without true pixels have no weight, so `absent` has no effect.
        """
        truth, correct, union = self._tallies()
        there = truth > 0
        if not there.any():
            return math.nan
        return float(np.average(correct[there] / union[there], weights=truth[there]))

    def accuracy_per_class(self) -> Array:
        """Return n_ii / t_i for each class, (K,), float64; NaN for a class that the mean leaves out."""
        truth, correct, _ = self._tallies()
        return self._quotients(correct, truth)

    def iou_per_class(self) -> Array:
        """Return n_ii / u_i for each class, (K,), float64; NaN for a class that the mean leaves out."""
        truth, correct, union = self._tallies()
        return self._quotients(correct, np.where(truth > 0, union, 0) if self.absent == "truth" else union)

    def classes_in_mean_accuracy(self) -> int:
        """Return the number of classes that the mean accuracy is over."""
        return int(np.isfinite(self.accuracy_per_class()).sum())

    def classes_in_mean_iou(self) -> int:
        """Return the number of classes that the mean IoU is over."""
        return int(np.isfinite(self.iou_per_class()).sum())

    def summary(self) -> dict[str, float | int]:
        """Return the four scores, the number of classes in each mean, and the number of pixels.

        Example:
            >>> counts = ConfusionMatrix(3)
            >>> counts.update(np.array([0, 0, 1, 1], np.uint8), np.array([0, 0, 1, 0]))
            >>> for name, value in counts.summary().items():
            ...     print(name, round(value, 4))
            pixel_accuracy 0.75
            mean_accuracy 0.75
            mean_iou 0.5833
            frequency_weighted_iou 0.5833
            classes_in_mean_accuracy 2
            classes_in_mean_iou 2
            pixels 4
        """
        scores = "pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"
        names = *scores, "classes_in_mean_accuracy", "classes_in_mean_iou"
        return {name: getattr(self, name)() for name in names} | {"pixels": int(self._matrix.sum())}

    def table(self) -> str:
        """Return a table of the classes and the four scores as text; a dash means NaN.

        Example:
            >>> counts = ConfusionMatrix(3, class_names=["ground", "cat", "dog"])
            >>> counts.update(np.array([0, 0, 1, 1], np.uint8), np.array([0, 0, 1, 0]))
            >>> print(counts.table())
            class                      IoU  accuracy        pixels
            ground                   0.667     1.000             2
            cat                      0.500     0.500             2
            dog                          -         -             0
            <BLANKLINE>
            pixel accuracy           0.750  over 4 pixels
            mean accuracy            0.750  over 2 of 3 classes
            mean IoU                 0.583  over 2 of 3 classes
            frequency-weighted IoU   0.583  over 4 pixels
        """
        names = [escape(name) for name in self.class_names]
        width = max(22, *map(len, names))
        pixels = f"over {self._matrix.sum():,} pixels"
        rows = [f"{'class':{width}}  {'IoU':>6}  {'accuracy':>8}  {'pixels':>12}"]
        columns = self.iou_per_class(), self.accuracy_per_class(), self._matrix.sum(axis=1)
        for name, iou, accuracy, count in zip(names, *columns, strict=True):
            rows.append(f"{name:{width}}  {_show(iou):>6}  {_show(accuracy):>8}  {count:>12,}")
        rows.append("")
        for name, score, over in (
            ("pixel accuracy", self.pixel_accuracy(), pixels),
            ("mean accuracy", self.mean_accuracy(), self._over(self.classes_in_mean_accuracy())),
            ("mean IoU", self.mean_iou(), self._over(self.classes_in_mean_iou())),
            ("frequency-weighted IoU", self.frequency_weighted_iou(), pixels),
        ):
            rows.append(f"{name:{width}}  {_show(score):>6}  {over}")
        return "\n".join(rows)

    def _over(self, count: int) -> str:
        return f"over {count} of {self.num_classes} classes"

    def _tallies(self) -> tuple[Array, Array, Array]:
        """Return t_i, n_ii and u_i, each (K,), int64."""
        truth = self._matrix.sum(axis=1)
        correct = self._matrix.diagonal()
        return truth, correct, truth + self._matrix.sum(axis=0) - correct

    def _quotients(self, above: Array, below: Array) -> Array:
        fill = {"zero": 0.0, "one": 1.0}.get(self.absent, math.nan) if self._matrix.any() else math.nan
        quotients: Array = np.divide(above, below, out=np.full(self.num_classes, fill), where=below > 0)
        return quotients


def _mean(values: Array) -> float:
    numbers = values[np.isfinite(values)]
    return float(numbers.mean()) if numbers.size else math.nan


def _show(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"
