"""Ctrl-C in a training: the step is finished and saved first."""

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from minifcn.training.checkpoint import Checkpoints
from minifcn.training.outputs import say
from minifcn.training.state import Callback, Training


class Interruptible(Callback):
    """Lets Ctrl-C wait for the end of a step, then writes the state and stops; a second one stops at once.

    It is a callback and a context in which Ctrl-C is treated so. It needs the main thread; in others, such as
    those of a server, it does nothing.

    Args:
        checkpoints: What writes the state.
        advice: What to tell about how to go on.

    Raises:
        KeyboardInterrupt: After the step, with the advice as its message.
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
        """Stop, if that was asked for."""
        if self._asked:
            self.checkpoints.write(training)
            raise KeyboardInterrupt(f"stopped after step {training.step}; {self.advice}")

    def epoch(self, training: Training) -> None:
        """Stop here, too: `Checkpoints`, called before, has written the state."""
        if self._asked and training.epoch < training.epochs:
            raise KeyboardInterrupt(f"stopped after epoch {training.epoch}; {self.advice}")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt(f"stopped at once; {self.advice}")
        self._asked = True
        with suppress(RuntimeError):  # it comes in the middle of another line
            say("Ctrl-C: finishing the step and saving; press it again to stop at once")
