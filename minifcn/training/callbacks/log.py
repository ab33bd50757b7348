"""Reports of a training: a log file, a line for each epoch, and a picture of the learning curve."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from minifcn.files import atomic_write, open_foreign
from minifcn.training.callbacks.base import Callback
from minifcn.training.progress import attempt, show
from minifcn.training.state import Training, best


class Log(Callback):
    """Writes the records of all epochs to a file, one JSON object per line.

    The file is replaced as a whole after each epoch. Its earlier contents are kept in front, except in a
    resumed training, whose records include them.

    Args:
        path: The file.

    Raises:
        OSError: When training starts, if the file cannot be written; after an epoch that is only reported.

    Example:
        >>> log = Log("run/log.jsonl")  # for `fit(..., callbacks=[log])`
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def start(self, training: Training) -> None:
        """Write the records of a resumed training, or check that the file can be written."""
        self._before = b""
        if not training.records and self.path.exists():
            with open_foreign(self.path) as file:
                self._before = file.read()
        self._write(training)

    def epoch(self, training: Training) -> None:
        """Add a line."""
        with attempt(f"the log {self.path}"):
            self._write(training)

    def _write(self, training: Training) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in training.records)
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(self._before + lines.encode())


class EpochLine(Callback):
    """Prints a line after each epoch: loss, metrics, time.

    Args:
        tell: Called with the line.

    Example:
        >>> lines = []
        >>> line = EpochLine(lines.append)  # for `fit(..., callbacks=[line])`
    """

    def __init__(self, tell: Callable[[str], None] = show):
        self.tell = tell

    def epoch(self, training: Training) -> None:
        """Print the line."""
        record, classes = training.records[-1], len(training.loader.dataset.class_names)
        width = len(str(training.epochs))
        words = [f"epoch {record['epoch']:>{width}} of {training.epochs}: loss {record['loss']:.4f}"]
        for name in ("pixel_accuracy", "mean_accuracy", "mean_iou"):
            if record.get(name) is not None:
                words.append(f"{name.replace('_', ' ').replace('iou', 'IoU')} {record[name]:.4f}")
                if name == "mean_iou" and (scored := record.get("classes_in_mean_iou", classes)) < classes:
                    words[-1] += f" over {scored} of {classes} classes"
        words.append(f"{record['seconds']:.1f} s at {record['images_per_second']:.1f} images/s")
        if record.get("mean_iou") is not None and best(training.records) == len(training.records) - 1:
            words.append("best so far")
        self.tell(", ".join(words))


class Curve(Callback):
    """Draws loss and metrics over all epochs to a PNG file after each epoch.

    Args:
        path: The file.

    Example:
        >>> curve = Curve("run/curve.png")  # for `fit(..., callbacks=[curve])`
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def epoch(self, training: Training) -> None:
        """Draw the curve."""
        from minifcn import viz  # Matplotlib takes longer to import than all else

        with attempt(f"the curve {self.path}"), atomic_write(self.path) as temporary:
            viz.training_curve(training.records).savefig(temporary)
