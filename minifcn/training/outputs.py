"""What a training writes beside its weights: the log, and the curve."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from minifcn import viz
from minifcn.files import atomic_write
from minifcn.training.state import Callback, Training, best


def say(text: str) -> None:
    """Write a line to standard error without tearing a progress bar."""
    tqdm.write(text, file=sys.stderr)


def show(text: str) -> None:
    """Write a line to standard output likewise, at once, so that a file that is followed has it."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Go on if a file cannot be written, and say so: hours of training are worth more than one file."""
    try:
        yield
    except OSError as error:
        say(f"{what} could not be written: {error.strerror or error}")


class Log(Callback):
    """Writes the records of all epochs to a file, one JSON object a line.

    The file is replaced as a whole after each epoch. What it held before stays in front, unless the training
    is a resumed one, whose records say it all.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def start(self, training: Training) -> None:
        """Tell now, not after an epoch, if the file cannot be written."""
        self.path.touch()
        self._before = "" if training.records else self.path.read_text(encoding="utf-8")
        self._write(training)

    def epoch(self, training: Training) -> None:
        """Add a line."""
        with attempt(f"the log {self.path}"):
            self._write(training)

    def _write(self, training: Training) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in training.records)
        with atomic_write(self.path) as temporary:
            temporary.write_text(self._before + lines, encoding="utf-8")


class EpochLine(Callback):
    """Prints a line after each epoch.

    Args:
        tell: What is called with it.
    """

    def __init__(self, tell: Callable[[str], None] = show):
        self.tell = tell

    def epoch(self, training: Training) -> None:
        """Print it."""
        record = training.records[-1]
        words = [
            f"epoch {record['epoch']:>{len(str(training.epochs))}} of {training.epochs}: "
            f"loss {record['loss']:.4f}"
        ]
        for name in ("pixel_accuracy", "mean_accuracy", "mean_iou"):
            if record.get(name) is not None:
                words.append(f"{name.replace('_', ' ').replace('iou', 'IoU')} {record[name]:.4f}")
                classes = len(training.loader.dataset.class_names)
                scored = record.get("classes_in_mean_iou", classes)
                if name == "mean_iou" and scored < classes:
                    words[-1] += f" over {scored} of {classes} classes"
        words.append(f"{record['seconds']:.1f} s at {record['images_per_second']:.1f} images/s")
        if record.get("mean_iou") is not None and best(training.records) == len(training.records) - 1:
            words.append("best so far")
        self.tell(", ".join(words))


class Curve(Callback):
    """Draws loss and metrics over all epochs to a PNG, anew after each epoch.

    Args:
        path: The picture.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def epoch(self, training: Training) -> None:
        """Draw it."""
        with attempt(f"the curve {self.path}"), atomic_write(self.path) as temporary:
            viz.training_curve(training.records).savefig(temporary)
