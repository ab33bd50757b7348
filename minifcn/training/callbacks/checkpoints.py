"""The callback that writes checkpoints and the best network."""

import copy
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minifcn.files import remove_leftovers
from minifcn.geometry import check_integer
from minifcn.layers import Layer
from minifcn.models import FCN, Classifier
from minifcn.training import checkpoint
from minifcn.training.callbacks.base import Callback
from minifcn.training.progress import say
from minifcn.training.state import Training, best
from minifcn.weights import save


class Checkpoints(Callback):
    """Writes the newest state of a training to a file, and the best network to another.

    The state is written before the first step, before each evaluation, after each epoch, and within an epoch
    every `every_steps` steps or `every_minutes` minutes. Each file is replaced as a whole or not at all. If
    one cannot be written, as on a full disk, that is reported and tried again at the next occasion; the
    earlier file remains, and training continues. Only for the first and the last state it is an error.

    The best network, by mean IoU, is written before the state that counts it, so a training that is killed
    between the two finds the same network best again.

    Args:
        path: The file for the newest state.
        best: The model file for the best network, or `None`; without a validation set the newest network is
            the best.
        every_steps: Number of steps between two checkpoints.
        every_minutes: Minutes between two checkpoints.
        resume: Continue from `path` before the first step.
        settings: Further settings, JSON values, that must be equal when the training is resumed.

    Raises:
        ValueError: When training starts, if `resume` finds other settings; the message names them.
        FileError: If the file is damaged, or of another network.
        OSError: If the file is missing, or the first or the last state cannot be written.

    Example:
        >>> import tempfile
        >>> from minifcn.data import DigitCrops, Loader
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> from minifcn.optim import SGD
        >>> from minifcn.training import fit
        >>> path = Path(tempfile.mkdtemp()) / "last.safetensors"
        >>> def train(**options):
        ...     model, grey = digit_classifier(rng=0), Preprocessing("L", (128.0,), (64.0,))
        ...     loader = Loader(DigitCrops("validation"), 64, preprocess=grey, shuffle=True, seed=0)
        ...     sgd = SGD(model, 1e-3, momentum=0.9)
        ...     return fit(model, loader, sgd, progress=None, callbacks=[Checkpoints(path, **options)])
        >>> train() == train(resume=True)  # all epochs are done already
        True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        best: str | os.PathLike[str] | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
    ):
        self.path = Path(path)
        self.best = None if best is None else Path(best)
        self.every_steps = None if every_steps is None else check_integer(every_steps, "every_steps", 1)
        self.every_minutes = every_minutes
        self.resume = resume
        self.settings = dict(settings or {})
        self._unsaved: Layer | None = None  # the best network, until it is written

    def start(self, training: Training) -> None:
        """Continue from the file, or write the first state."""
        for file in filter(None, (self.path, self.best)):
            remove_leftovers(file.parent)
        training.settings |= self.settings
        self._written, self._clock = training.step, time.monotonic()
        if self.resume:
            checkpoint.restore(training, checkpoint.Checkpoint.read(self.path))
        else:
            self._write(training)
        self._written = training.step

    def step(self, training: Training) -> None:
        """Write at the intervals, and before an evaluation."""
        steps, seconds = training.step - self._written, time.monotonic() - self._clock
        if (
            training.ends_epoch
            or (self.every_steps is not None and steps >= self.every_steps)
            or (self.every_minutes is not None and seconds >= 60 * self.every_minutes)
        ):
            self.write(training)

    def epoch(self, training: Training) -> None:
        """Write the network if it is the best, and the state."""
        if self.best is not None and best(training.records) == len(training.records) - 1:
            self._unsaved = training.model
        if training.epoch < training.epochs:
            self.write(training)
        else:
            self._write(training)

    def write(self, training: Training) -> None:
        """Write the state now, and the best network if that is still to be done; report a failure.

        Raises:
            DivergedError: If the weights are not finite; the earlier state remains.
        """
        try:
            self._write(training)
        except OSError as error:
            say(f"{error}; training continues, and it is tried again later")

    def _write(self, training: Training) -> None:
        training.check_finite()
        try:
            if self.best is not None and isinstance(self._unsaved, FCN | Classifier):
                save(self._unsaved, self.best)
            self._unsaved = None
            checkpoint.write(training, self.path)
        except OSError as error:
            if self._unsaved is training.model:
                self._unsaved = copy.deepcopy(training.model)  # the next step changes the original
            self._clock = time.monotonic()
            kept = f"; that of step {self._written} remains, to resume from" if self.path.exists() else ""
            reason = error.strerror or error
            raise OSError(f"the checkpoint {self.path} could not be written: {reason}{kept}") from error
        self._written, self._clock = training.step, time.monotonic()
