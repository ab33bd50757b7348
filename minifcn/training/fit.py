"""The training loop."""

import math
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minifcn.backend import Array, array_module, device_of, to_device
from minifcn.data import Loader
from minifcn.geometry import check_integer
from minifcn.layers import Layer, seed_dropout
from minifcn.losses import Reduction, softmax_cross_entropy
from minifcn.optim import Constant, Optimizer, Schedule
from minifcn.palette import VOID
from minifcn.training.callbacks.base import Callback
from minifcn.training.callbacks.log import Log
from minifcn.training.evaluation import evaluate, json_number
from minifcn.training.progress import Progress
from minifcn.training.state import Training

if TYPE_CHECKING:
    from minifcn.training.ranks import GradientSum, Ranks


def fit(
    model: Layer,
    loader: Loader,
    optimizer: Optimizer,
    *,
    epochs: int = 1,
    schedule: Schedule | None = None,
    reduction: Reduction = "mean",
    class_weights: Sequence[float] | Array | None = None,
    accumulate: int = 1,
    validation: Loader | None = None,
    log: str | os.PathLike[str] | None = None,
    progress: str | None = "training",
    callbacks: Sequence[Callback] = (),
    ranks: "Ranks | None" = None,
) -> list[dict[str, Any]]:
    """Train a network, and return a record of each epoch.

    A step is one update of the weights, from `accumulate` batches. Their gradients are summed and divided
    once, by what `reduction` says of all their pixels together: up to rounding, accumulating k batches gives
    the step of one batch k times as large. (Caffe's `iter_size` averages the means of its batches instead, so
    an image with few labelled pixels counts as much as one with many.) If the number of batches in an epoch
    is not divisible by `accumulate`, the last step of the epoch uses those that are left.

    Dropout is seeded for each batch from the loader's seed, the epoch and the batch.

    Args:
        model: The network; it is left in evaluation mode.
        loader: Batches of preprocessed images and labels.
        optimizer: Updates the network's parameters. Its learning rate is the base that `schedule` scales.
        epochs: Number of passes over the data.
        schedule: Factor of the learning rate for each step, counted from 0.
        reduction: How the loss is averaged; see `minifcn.losses.softmax_cross_entropy`.
        class_weights: A weight for each class; see there.
        accumulate: Number of batches in a step.
        validation: Batches to evaluate after each epoch.
        log: A file to which one JSON object is added after each epoch, one per line. A resumed training
            writes it anew, without duplicates.
        progress: Name of the progress bar, also of the evaluation; without a terminal it is one line per
            minute. `None` for none.
        callbacks: Called in this order, before the first step and after each step and epoch.
        ranks: Processes that share the batches of each step, with the result of one process, bit for bit; see
            `minifcn.training.ranks`. Only rank 0 calls the callbacks and writes the log.

    Returns:
        A record for each epoch: "epoch", "step", "loss" (the mean over the epoch's labelled pixels, so it is
        comparable for every reduction; with class weights, the weighted mean), "lr", "seconds",
        "images_per_second", and with a validation set the entries of `ConfusionMatrix.summary` and "iou", the
        IoU of each class by name. Its means leave out classes without labelled pixels ("truth"): otherwise a
        few predicted pixels of such a class would decide which network is the best.

    Raises:
        DivergedError: If scores, loss or weights become NaN or infinite; the message names the step and the
            learning rate.
        TypeError: If `loader` is no `Loader`.
        ValueError: If the data do not fit the network, or if ranks differ or are more than the batches of a
            step.

    Example:
        >>> from minifcn.data import DigitCrops, Loader
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> from minifcn.optim import Adam
        >>> model, grey = digit_classifier(rng=0), Preprocessing("L", (128.0,), (64.0,))
        >>> loader = Loader(DigitCrops("validation"), 64, preprocess=grey, shuffle=True, seed=0)
        >>> [record] = fit(model, loader, Adam(model, lr=1e-3), progress=None)
        >>> record["step"]
        4
    """
    if not isinstance(loader, Loader):
        raise TypeError(
            f"loader must be a minifcn.data.Loader, got {type(loader).__name__}; "
            f"Loader(dataset, batch_size, preprocess=...) makes batches of a dataset"
        )
    schedule = schedule or Constant()
    weights = None if class_weights is None else [float(weight) for weight in class_weights]
    settings = {
        "epochs": check_integer(epochs, "epochs", 1),
        "optimizer": type(optimizer).__name__,
        "lr": float(optimizer.lr),
        **{name: value for name, value in vars(optimizer).items() if isinstance(value, float | tuple)},
        "schedule": repr(schedule) if is_dataclass(schedule) else getattr(schedule, "__qualname__", ""),
        "reduction": reduction,
        "accumulate": check_integer(accumulate, "accumulate", 1),
        "class_weights": weights,
    }
    device = device_of(next(model.parameters()).data)
    objective = _Objective(reduction, weights, accumulate, device)
    training = Training(model, loader, optimizer, epochs, settings)
    optimizer.zero_grad()
    callbacks = [*callbacks, *([] if log is None else [Log(log)])]
    if ranks is not None and ranks.rank:
        callbacks, progress = [], None
    with ranks or nullcontext():
        summed = None if ranks is None else ranks.begin(training, validation)
        for callback in callbacks:
            callback.start(training)
        if ranks is not None:
            ranks.share_state(training)
        done = training.epoch * len(loader.dataset) + training.images
        try:
            with Progress(progress, epochs * len(loader.dataset), done) as bar:
                while training.epoch < training.epochs:
                    _epoch(training, objective, schedule, callbacks, bar, summed)
                    _finish_epoch(training, validation, progress, ranks)
                    for callback in callbacks:
                        callback.epoch(training)
                    if ranks is not None:  # a callback may have changed the number of epochs
                        both = training.epochs, training.records
                        training.epochs, training.records = ranks.broadcast(both)
        finally:
            model.eval()
            optimizer.lr = training.lr
    return training.records


def _epoch(
    training: Training,
    objective: "_Objective",
    schedule: Schedule,
    callbacks: Sequence[Callback],
    bar: Progress,
    summed: "GradientSum | None",
) -> None:
    """Make the steps of one epoch."""
    model, loader, optimizer = training.model, training.loader, training.optimizer
    model.train()
    clock = time.perf_counter()
    for batch in loader if summed is None else loader.share(summed.is_own):
        optimizer.lr = training.lr * schedule(training.step)
        counts: Any = None
        if batch is not None:
            seed_dropout(model, loader.seed, training.epoch, training.batches)
            counts = objective.add_gradients(training, *batch)
        complete = training.batches % objective.accumulate == 0 or training.ends_epoch
        rows = [counts] if summed is None else summed.add(counts, complete)
        for row in rows:
            objective.count(*row)
        if complete:
            objective.divide_gradients(training)
            optimizer.step()
            optimizer.zero_grad()
            training.step += 1
            now = time.perf_counter()
            training.seconds, clock = training.seconds + now - clock, now
        bar.update(sum(images for *_, images in rows), f"loss={training.loss:.3f}, lr={optimizer.lr:.1e}")
        if complete:
            for callback in callbacks:
                callback.step(training)
            training.scores = None
            clock += time.perf_counter() - now  # the time of callbacks is no training time


class _Objective:
    """The loss of a step, over the batches that are accumulated."""

    def __init__(self, reduction: Reduction, weights: list[float] | None, accumulate: int, device: str):
        self.reduction, self.accumulate, self.device = reduction, accumulate, device
        self.class_weights = None if weights is None else np.array(weights)
        self._reset()

    def add_gradients(self, training: Training, x: Array, labels: Array) -> tuple[float, float, int]:
        """Run forward, loss and backward for one batch; return its summed loss, its weight and its images."""
        counts = np.bincount(labels.reshape(-1), minlength=VOID)[:VOID]  # (N, ...) -> (pixels,)
        labels = to_device(labels, self.device)
        scores = training.scores = training.model(to_device(x, self.device))
        weights = self.class_weights
        if weights is not None:
            weights = to_device(weights.astype(scores.dtype), self.device)
        # The loss divides a single batch; the divisor of several is known only when all have been seen.
        reduction = self.reduction if self.accumulate == 1 else "sum"
        try:
            loss, dscores = softmax_cross_entropy(scores, labels, reduction=reduction, class_weights=weights)
        except ValueError as error:
            if not array_module(scores).isfinite(scores).all():
                raise training.diverged(str(error)) from error
            raise ValueError(f"step {training.step}: {error}") from error
        if not math.isfinite(loss):
            raise training.diverged(f"the loss is {loss}")
        training.model.backward_parameters(dscores)

        counts = counts[: scores.shape[1]]
        weight = float(counts.sum() if self.class_weights is None else counts @ self.class_weights[:VOID])
        return loss * self._divisor(reduction, weight, len(x)), weight, len(x)

    def count(self, total: float, weight: float, images: int) -> None:
        """Add what `add_gradients` returned to the step."""
        self._total += total
        self._weight += weight
        self._images += images

    def divide_gradients(self, training: Training) -> None:
        """Divide the summed gradients, and add the loss of the step to the totals."""
        if self.accumulate > 1:
            factor = 1 / self._divisor(self.reduction, self._weight, self._images)
            for parameter in training.optimizer.parameters.values():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad * factor
        training.loss = self._total / (self._weight or 1.0)
        training.total_loss += self._total
        training.weight += self._weight
        training.images += self._images
        self._reset()

    @staticmethod
    def _divisor(reduction: Reduction, weight: float, images: int) -> float:
        """Return the divisor of the summed loss; 1 where no pixel counts, because the sum is 0 then."""
        return {"mean": weight or 1.0, "sum": 1.0, "batch": float(images)}[reduction]

    def _reset(self) -> None:
        self._total, self._weight, self._images = 0.0, 0.0, 0


def _finish_epoch(
    training: Training, validation: Loader | None, progress: str | None, ranks: "Ranks | None"
) -> None:
    """Evaluate, and add the record of the epoch."""
    training.check_finite()
    training.epoch += 1
    record: dict[str, Any] = {
        "epoch": training.epoch,
        "step": training.step,
        "loss": training.total_loss / (training.weight or 1.0),
        "lr": training.optimizer.lr,
        "seconds": round(training.seconds, 2),
        "images_per_second": round(training.images / max(training.seconds, 1e-9), 2),
    }
    if validation is not None:
        how: dict[str, Any] = {"absent": "truth", "progress": progress and "evaluating", "ranks": ranks}
        matrix = training.matrix = evaluate(training.model, validation, **how)
        ious = zip(matrix.class_names, matrix.iou_per_class().tolist(), strict=True)
        record |= {name: json_number(value) for name, value in matrix.summary().items()}
        record["iou"] = {name: json_number(value) for name, value in ious}
    training.records.append(record)
    training.total_loss, training.weight, training.images, training.seconds = 0.0, 0.0, 0, 0.0
