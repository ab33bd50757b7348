"""Where a training stands, and what may be done beside it."""

import math
from dataclasses import dataclass, field
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.data import Loader
from minifcn.layers import Layer
from minifcn.metrics import ConfusionMatrix
from minifcn.optim import Optimizer


class Diverged(ValueError):
    """Scores, the loss or the weights became NaN or infinite; the message says when, and what to do."""


@dataclass
class Training:
    """A training in progress: what `fit` works on, callbacks look at, and a checkpoint holds.

    Attributes:
        model: The network.
        loader: Its position says which batches come next.
        optimizer: Its `lr` is that of the last step.
        epochs: How many there will be.
        settings: What must be the same for a resumed training to end alike, as JSON knows it.
        epoch: Epochs finished.
        step: Updates made.
        loss: Loss of the last update, a labelled pixel.
        scores: Scores of the last batch, (N, C, H, W), while callbacks look at a step.
        matrix: The last evaluation.
        records: One for each epoch finished; see `fit`.
        total_loss: Loss of this epoch so far, summed over pixels times their weight.
        weight: What it is divided by: labelled pixels, times their weight.
        images: Images seen in this epoch so far.
        seconds: Time taken by them.
    """

    model: Layer
    loader: Loader
    optimizer: Optimizer
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    loss: float = math.nan
    scores: Array | None = None
    matrix: ConfusionMatrix | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    total_loss: float = 0.0
    weight: float = 0.0
    images: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Updates that there will be in all."""
        accumulate: int = self.settings.get("accumulate", 1)
        return self.epochs * -(-len(self.loader) // accumulate)

    @property
    def lr(self) -> float:
        """The learning rate as it was chosen, before a schedule scaled it."""
        return float(self.settings.get("lr", self.optimizer.lr))

    @property
    def batches(self) -> int:
        """Batches of this epoch that have been worked on."""
        return self.loader.state_dict()["batches"]

    @property
    def ends_epoch(self) -> bool:
        """Whether the batch that is worked on is the last one of its epoch."""
        return self.batches == len(self.loader)

    def check_finite(self) -> None:
        """Demand finite weights: nothing else may be evaluated or saved.

        Raises:
            Diverged: Otherwise; the first parameter that is not finite is named.
        """
        for name, parameter in self.model.named_parameters():
            if not array_module(parameter.data).isfinite(parameter.data).all():
                raise self.diverged(f"{name} is NaN or infinite")

    def diverged(self, what: str) -> Diverged:
        """Return the error that says that training has diverged, and what to do."""
        return Diverged(
            f"step {self.step}, learning rate {self.optimizer.lr:.2e}: {what}; the training has diverged, "
            f"and nothing of it was saved: begin again, or from what was saved before (--from), with a tenth "
            f"of the rate (--lr {self.lr / 10:.1e})"
        )


class Callback:
    """Something that `fit` calls beside the training, such as `Checkpoints` or `Watch`.

    A subclass overrides what it needs. What it raises ends the training.

    Example:
        >>> class Patience(Callback):
        ...     def epoch(self, training):
        ...         if training.records[-1]["loss"] > training.records[0]["loss"]:
        ...             raise ValueError("it has become worse")
    """

    def start(self, training: Training) -> None:
        """Called once before the first step; the place to continue an earlier training."""

    def step(self, training: Training) -> None:
        """Called after each update."""

    def epoch(self, training: Training) -> None:
        """Called after each epoch, when it is evaluated and its record is the last of `training.records`."""


def best(records: list[dict[str, Any]]) -> int | None:
    """Return which record has the highest mean IoU, the first of equals; the last one if none has any.

    Example:
        >>> best([{"mean_iou": 0.2}, {"mean_iou": 0.5}, {"mean_iou": None}])
        1
        >>> best([{"loss": 2.0}, {"loss": 1.0}]), best([])
        (1, None)
    """
    scored = [i for i, record in enumerate(records) if record.get("mean_iou") is not None]
    if scored:
        return max(scored, key=lambda i: records[i]["mean_iou"])
    return len(records) - 1 if records else None
