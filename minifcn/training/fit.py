"""The training loop."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from minifcn.backend import Array, array_module, device_of, to_device
from minifcn.data import Loader
from minifcn.geometry import whole_number
from minifcn.layers import Layer, seed_dropout
from minifcn.losses import Reduction, softmax_cross_entropy
from minifcn.optim import Constant, Optimizer, Schedule
from minifcn.palette import VOID
from minifcn.training.evaluation import evaluate, json_number
from minifcn.training.outputs import Log
from minifcn.training.state import Callback, Training


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
) -> list[dict[str, Any]]:
    """Train a network, and say after each epoch how far it is.

    A step is one update of the weights, from `accumulate` batches. Their gradients are added up and divided
    once, by what `reduction` says of all their pixels together: so accumulating k batches gives, up to
    rounding, the step of one batch k times as large. (Caffe's `iter_size` averages the means of its batches
    instead; there an image with few labelled pixels counts as much as one with many.) Where the batches of an
    epoch run out, the last step takes those that are left.

    Args:
        model: The network; it is left in evaluation mode.
        loader: Batches of preprocessed images and labels.
        optimizer: Updates the network's parameters. Its learning rate now is the base that `schedule` scales.
        epochs: How often to go through the data.
        schedule: Factor of the learning rate for each step, counted from 0.
        reduction: How the loss is averaged; see `minifcn.losses.softmax_cross_entropy`.
        class_weights: A weight for each class, likewise.
        accumulate: How many batches make one step.
        validation: Batches to score after each epoch.
        log: A file to which one JSON object a line is added after each epoch. A resumed training writes it
            anew, so that no line is there twice.
        progress: Name of the progress bar, which is drawn on terminals only; `None` for none.
        callbacks: Called in this order, before the first step and after each step and epoch.

    Returns:
        A record for each epoch: "epoch", "step", "loss" (mean over the epoch's labelled pixels, so it is
        comparable whatever the reduction; with class weights it is the weighted mean), "lr", "seconds",
        "images_per_second", and where there is a validation set the entries of `ConfusionMatrix.summary`
        and "iou" for each class by name. Its means leave out classes without labelled pixels ("truth"), of
        which a few predicted pixels would otherwise decide which network is the best.

    Raises:
        Diverged: If scores, loss or weights become NaN or infinite (the message names the step and the
            learning rate).
        ValueError: If the data do not fit the network.

    Example:
        >>> from minifcn.data import DigitCrops, Loader
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> from minifcn.optim import Adam
        >>> model, grey = digit_classifier(), Preprocessing("L", (128.0,), (64.0,))
        >>> loader = Loader(DigitCrops("validation"), 64, preprocess=grey, shuffle=True, seed=0)
        >>> adam = Adam(dict(model.named_parameters()), lr=1e-3)
        >>> [record] = fit(model, loader, adam, progress=None)
        >>> record["step"]
        4
    """
    schedule = schedule or Constant()
    base_lr, device = optimizer.lr, device_of(next(model.parameters()).data)
    objective = _Objective(reduction, class_weights, whole_number(accumulate, "accumulate", 1), device)
    settings = {
        "epochs": whole_number(epochs, "epochs", 1),
        "optimizer": type(optimizer).__name__,
        **{name: value for name, value in vars(optimizer).items() if isinstance(value, float | tuple)},
        "schedule": repr(schedule) if is_dataclass(schedule) else getattr(schedule, "__qualname__", ""),
        **objective.settings(),
    }
    training = Training(model, loader, optimizer, epochs, settings)
    optimizer.zero_grad()
    callbacks = [*callbacks, *([] if log is None else [Log(log)])]
    for callback in callbacks:
        callback.start(training)
    bar = tqdm(
        total=epochs * len(loader.dataset),
        initial=training.epoch * len(loader.dataset) + training.images,
        desc=progress,
        disable=True if progress is None else None,
        unit="img",
        leave=False,
    )
    try:
        while training.epoch < epochs:
            model.train()
            clock = time.perf_counter()
            for x, labels in loader:
                optimizer.lr = base_lr * schedule(training.step)
                seed_dropout(model, loader.seed, training.epoch, training.batches)
                objective.add_gradients(training, x, labels)
                bar.update(len(x))
                if training.batches % accumulate and not training.ends_epoch:
                    continue
                objective.divide_gradients(training)
                optimizer.step()
                optimizer.zero_grad()
                training.step += 1
                now = time.perf_counter()
                training.seconds, clock = training.seconds + now - clock, now
                bar.set_postfix(loss=f"{training.loss:.3f}", lr=f"{optimizer.lr:.1e}", refresh=False)
                for callback in callbacks:
                    callback.step(training)
                training.scores = None
                clock += time.perf_counter() - now  # what callbacks do is no training
            _finish_epoch(training, validation, progress)
            for callback in callbacks:
                callback.epoch(training)
    finally:
        bar.close()
        model.eval()
        optimizer.lr = base_lr
    return training.records


class _Objective:
    """The loss of a step, over all the batches that it is accumulated from."""

    def __init__(
        self,
        reduction: Reduction,
        class_weights: Sequence[float] | Array | None,
        accumulate: int,
        device: str,
    ):
        self.reduction, self.accumulate, self.device = reduction, accumulate, device
        self.class_weights = None if class_weights is None else np.array([float(w) for w in class_weights])
        self._forget()

    def settings(self) -> dict[str, Any]:
        """Return what decides about the gradients."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {"reduction": self.reduction, "accumulate": self.accumulate, "class_weights": weights}

    def add_gradients(self, training: Training, x: Array, labels: Array) -> None:
        """Do forward, loss and backward for one batch."""
        counts = np.bincount(labels.reshape(-1), minlength=VOID)[:VOID]  # (N, ...) -> (pixels,)
        labels = to_device(labels, self.device)
        scores = training.scores = training.model(to_device(x, self.device))
        weights = self.class_weights
        if weights is not None:
            weights = to_device(weights.astype(scores.dtype), self.device)
        # One batch alone is divided within the loss; of several, only all together know their divisor.
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
        self._total += loss * self._divisor(reduction, weight, len(x))
        self._weight += weight
        self._images += len(x)

    def divide_gradients(self, training: Training) -> None:
        """Turn what was added up into the gradient of one step, and put its loss on record."""
        if self.accumulate > 1:
            factor = 1 / self._divisor(self.reduction, self._weight, self._images)
            for parameter in training.optimizer.parameters.values():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad * factor
        training.loss = self._total / (self._weight or 1.0)
        training.total_loss += self._total
        training.weight += self._weight
        training.images += self._images
        self._forget()

    @staticmethod
    def _divisor(reduction: Reduction, weight: float, images: int) -> float:
        """Return by what the summed loss is divided; 1 where no pixel counts, for the sum is 0 then."""
        return {"mean": weight or 1.0, "sum": 1.0, "batch": float(images)}[reduction]

    def _forget(self) -> None:
        self._total, self._weight, self._images = 0.0, 0.0, 0


def _finish_epoch(training: Training, validation: Loader | None, progress: str | None) -> None:
    """Evaluate, and put the epoch on record."""
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
        bar = progress and "evaluating"
        matrix = training.matrix = evaluate(training.model, validation, absent="truth", progress=bar)
        ious = zip(matrix.class_names, matrix.iou_per_class().tolist(), strict=True)
        record |= {name: json_number(value) for name, value in matrix.summary().items()}
        record["iou"] = {name: json_number(value) for name, value in ious}
    training.records.append(record)
    training.total_loss, training.weight, training.images, training.seconds = 0.0, 0.0, 0, 0.0
