"""The state of a training in progress."""

import math
from dataclasses import dataclass, field
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.data import Loader
from minifcn.layers import Layer
from minifcn.metrics import ConfusionMatrix
from minifcn.optim import Optimizer


class DivergedError(ValueError):
    """Scores, the loss or the weights became NaN or infinite.

    The message names the step and the learning rate, and suggests a smaller one.

    Example:
        >>> issubclass(DivergedError, ValueError)
        True
    """


@dataclass
class Training:
    """A training in progress: `fit` updates it, callbacks read it, and a checkpoint stores it.

    Attributes:
        model: The network.
        loader: Its position determines which batches come next.
        optimizer: Its `lr` is that of the last step.
        epochs: Number of epochs in all.
        settings: What must be equal for a resumed training to give the same result; JSON values.
        epoch: Epochs finished.
        step: Updates made.
        loss: Mean loss per labelled pixel of the last update.
        scores: Scores of the last batch, (N, C, H, W), during `Callback.step`.
        matrix: The last evaluation.
        records: One record for each epoch finished; see `fit`.
        total_loss: Loss of this epoch so far, summed over pixels times their weights.
        weight: Labelled pixels of this epoch so far, times their weights.
        images: Images of this epoch so far.
        seconds: Time that they took.

    Example:
        A callback that stops after ten updates:

        >>> from minifcn.training import Callback
        >>> class TenSteps(Callback):
        ...     def step(self, training: Training) -> None:
        ...         if training.step == 10:
        ...             training.epochs = training.epoch + 1
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
        """Number of updates in all."""
        accumulate: int = self.settings.get("accumulate", 1)
        return self.epochs * -(-len(self.loader) // accumulate)

    @property
    def lr(self) -> float:
        """The learning rate that was chosen, before a schedule scales it."""
        return float(self.settings.get("lr", self.optimizer.lr))

    @property
    def batches(self) -> int:
        """Batches of this epoch that have been used."""
        return self.loader.state_dict()["batches"]

    @property
    def ends_epoch(self) -> bool:
        """Whether the current batch is the last one of its epoch."""
        return self.batches == len(self.loader)

    def check_finite(self) -> None:
        """Check that all weights are finite, before they are evaluated or saved.

        Raises:
            DivergedError: If not; the message names the first parameter that is not finite.
        """
        for name, parameter in self.model.named_parameters():
            if not array_module(parameter.data).isfinite(parameter.data).all():
                raise self.diverged(f"{name} is NaN or infinite")

    def diverged(self, what: str) -> DivergedError:
        """Return the error for a training that has diverged."""
        return DivergedError(
            f"step {self.step}, learning rate {self.optimizer.lr:.2e}: {what}; the training has diverged, "
            f"and this state was not saved. Start again, or from a model that was saved earlier, with a "
            f"smaller learning rate, such as {self.lr / 10:.1e}"
        )


def best(records: list[dict[str, Any]]) -> int | None:
    """Return the index of the record with the highest mean IoU, the first one if several are equal.

    If no record has a mean IoU, it is the last one.

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
