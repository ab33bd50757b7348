"""Ctrl-C in a training: the step is finished and saved first."""

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from minifcn.training.callbacks.base import Callback
from minifcn.training.callbacks.checkpoints import Checkpoints
from minifcn.training.progress import say
from minifcn.training.state import Training


class Interruptible(Callback):
    """On Ctrl-C, finishes the step, writes a checkpoint and stops; a second Ctrl-C stops at once.

    It is a callback and a context manager that handles SIGINT. Signals reach only the main thread; in other
    threads it does nothing.

    Args:
        checkpoints: Writes the state.
        advice: How to continue; part of the message.

    Raises:
        KeyboardInterrupt: After the step; its message names the step and ends with the advice.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / "last.safetensors")
        >>> with Interruptible(checkpoints, "resume with Checkpoints(path, resume=True)") as interruptible:
        ...     callbacks = [checkpoints, interruptible]  # fit(..., callbacks=callbacks)
    """

    def __init__(self, checkpoints: Checkpoints, advice: str):
        self.checkpoints, self.advice = checkpoints, advice
        self._asked = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before: Any = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def step(self, training: Training) -> None:
        """Save and stop after Ctrl-C."""
        if self._asked:
            self.checkpoints.write(training)
            raise KeyboardInterrupt(f"stopped after step {training.step}; {self.advice}")

    def epoch(self, training: Training) -> None:
        """Stop after Ctrl-C in the evaluation; `Checkpoints`, called before, has written the state."""
        if self._asked and training.epoch < training.epochs:
            raise KeyboardInterrupt(f"stopped after epoch {training.epoch}; {self.advice}")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt(f"stopped at once; {self.advice}")
        self._asked = True
        with suppress(RuntimeError):  # the signal may come while another line is being printed
            say("Ctrl-C: finishing the step and saving; press it again to stop at once")
