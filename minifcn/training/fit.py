"""The training loop."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minifcn.backend import device_of, to_device
from minifcn.data import Loader
from minifcn.layers import Layer
from minifcn.losses import Reduction, softmax_cross_entropy
from minifcn.optim import Constant, Optimizer, Schedule
from minifcn.training.evaluation import evaluate


def fit(
    model: Layer,
    loader: Loader,
    optimizer: Optimizer,
    *,
    epochs: int = 1,
    schedule: Schedule | None = None,
    reduction: Reduction = "mean",
    validation: Loader | None = None,
    log: str | os.PathLike[str] | None = None,
    progress: str | None = "training",
) -> list[dict[str, Any]]:
    """Train a network, and say after each epoch how far it is.

    Args:
        model: The network; it is left in evaluation mode.
        loader: Batches of preprocessed images and labels.
        optimizer: Updates the network's parameters. Its learning rate now is the base that `schedule` scales.
        epochs: How often to go through the data.
        schedule: Factor of the learning rate for each step, counted from 0.
        reduction: How the loss is averaged; see `minifcn.losses.softmax_cross_entropy`.
        validation: Batches to score after each epoch.
        log: A file to which one JSON object a line is added after each epoch.
        progress: Name of the progress bar, which is drawn on terminals only; `None` for none.

    Returns:
        A record for each epoch: "epoch", "step", "loss" (mean over the epoch's steps), "lr", "seconds", and
        the four metrics where there is a validation set.

    Raises:
        ValueError: If the scores become NaN or infinite (the message names the step and the learning rate),
            or the data do not fit the network.

    Example:
        >>> from minifcn.data import DigitCrops, Loader
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> from minifcn.optim import Adam
        >>> model, grey = digit_classifier(), Preprocessing("L", (128.0,), (64.0,))
        >>> loader = Loader(DigitCrops("validation"), 64, preprocess=grey, shuffle=True)
        >>> adam = Adam(dict(model.named_parameters()), lr=1e-3)
        >>> [record] = fit(model, loader, adam, progress=None)
        >>> record["step"]
        4
    """
    schedule = schedule or Constant()
    if log is not None:
        Path(log).touch()  # a log that cannot be written is told now, not after an epoch
    base_lr, device, step, records = optimizer.lr, device_of(next(model.parameters()).data), 0, []
    bar = tqdm(
        total=epochs * len(loader),
        desc=progress,
        disable=True if progress is None else None,
        unit="step",
        leave=False,
    )
    try:
        for epoch in range(1, epochs + 1):
            started, losses = time.perf_counter(), []
            model.train()
            for x, labels in loader:
                optimizer.lr = base_lr * schedule(step)
                batch = to_device(x, device), to_device(labels, device)
                losses.append(_step(model, optimizer, *batch, reduction, step))
                step += 1
                bar.set_postfix(loss=f"{losses[-1]:.3f}", lr=f"{optimizer.lr:.1e}", refresh=False)
                bar.update()
            record: dict[str, Any] = {
                "epoch": epoch,
                "step": step,
                "loss": sum(losses) / max(len(losses), 1),
                "lr": optimizer.lr,
                "seconds": round(time.perf_counter() - started, 2),
            }
            if validation is not None:
                # A metric over no pixel is NaN, which JSON does not know.
                metrics = evaluate(model, validation).summary().items()
                record |= {name: None if math.isnan(value) else value for name, value in metrics}
            records.append(record)
            if log is not None:
                with Path(log).open("a") as file:
                    file.write(json.dumps(record) + "\n")
    finally:
        bar.close()
        model.eval()
        optimizer.lr = base_lr
    return records


def _step(model: Layer, optimizer: Optimizer, x: Any, labels: Any, reduction: Reduction, step: int) -> float:
    """Do one step: forward, loss, backward, update."""
    scores = model(x)
    try:
        loss, dscores = softmax_cross_entropy(scores, labels, reduction=reduction)
    except ValueError as error:
        raise ValueError(f"step {step}, learning rate {optimizer.lr:.2e}: {error}") from error
    model.backward(dscores)
    optimizer.step()
    optimizer.zero_grad()
    return loss
