"""Checkpoints: everything a training needs to go on as if it had never stopped.

A checkpoint is one safetensors file. Its tensors are the weights and buffers ("model.NAME") and what the
optimiser keeps ("optimizer.KIND.NAME"); its metadata hold, as JSON, the counts, the position of the loader,
the states of the random generators, the records so far and the settings. What is drawn at random for an image
follows from seed, epoch and index, so the position says it all. Nothing in it is ever executed.
"""

import copy
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minifcn.backend import Array, to_numpy
from minifcn.files import FileError, atomic_write, existing_file
from minifcn.geometry import whole_number
from minifcn.layers import Layer
from minifcn.models import FCN, Classifier
from minifcn.training.outputs import say
from minifcn.training.state import Callback, Training, best
from minifcn.weights import save

_FORMAT = "minifcn checkpoint 1"
_DTYPES = {"float32": "F32", "float64": "F64"}
_COUNTS = {"epoch": int, "step": int, "images": int, "total_loss": float, "weight": float, "seconds": float}
"""What a `Training` counts, and as what."""


class Checkpoints(Callback):
    """Keeps the newest state of a training in a file, and the best network in another.

    The newest state is written before the first step, before each evaluation, after each epoch, and within
    an epoch as `every_steps` or `every_minutes` say. A file is replaced as a whole or not at all. One that
    cannot be written, as on a full disk, is told in a sentence and tried again at the next occasion: the
    earlier one stands, and the training goes on. Only where the first or the last state cannot be written
    does it end in an error.

    The best network, by mean IoU, is written before the state that knows about it. So a training killed
    between the two finds the same network best again.

    Args:
        path: The file of the newest state.
        best: Where the best network goes, as a model file, or `None` for nowhere; without a validation set
            the newest one is the best.
        every_steps: Write after so many steps, too.
        every_minutes: Write after so many minutes, too.
        resume: Continue from `path` before the first step.
        settings: What else must be the same for the training to end alike, as JSON knows it; for whoever
            resumes it to compare.

    Raises:
        ValueError: When training starts: if `resume` finds other settings than now; it names them.
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
        ...     model, grey = digit_classifier(), Preprocessing("L", (128.0,), (64.0,))
        ...     loader = Loader(DigitCrops("validation"), 64, preprocess=grey, shuffle=True, seed=0)
        ...     sgd = SGD(dict(model.named_parameters()), 1e-3, momentum=0.9)
        ...     return fit(model, loader, sgd, progress=None, callbacks=[Checkpoints(path, **options)])
        >>> train() == train(resume=True)  # everything is done already
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
        self.every_steps = None if every_steps is None else whole_number(every_steps, "every_steps", 1)
        self.every_minutes = every_minutes
        self.resume = resume
        self.settings = dict(settings or {})
        self._unsaved: Layer | None = None  # the best network, until it is written

    def start(self, training: Training) -> None:
        """Continue from the file, if that is wanted."""
        for file in (self.path, self.best):
            _remove_leftovers(file)
        training.settings |= self.settings
        self._written, self._clock = training.step, time.monotonic()
        if self.resume:
            restore(training, Checkpoint.read(self.path))
        elif (error := self._write(training)) is not None:
            raise error
        self._written = training.step

    def step(self, training: Training) -> None:
        """Write if it is time, or if an evaluation comes next."""
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
        elif (error := self._write(training)) is not None:
            raise OSError(f"{error}: make room, and resume")

    def write(self, training: Training) -> None:
        """Write the state now, and the best network if that is still to be done; tell if that fails.

        Raises:
            Diverged: If the weights are not finite; the earlier state stands.
        """
        if (error := self._write(training)) is not None:
            say(f"{error}, training goes on and tries again later")

    def _write(self, training: Training) -> OSError | None:
        training.check_finite()
        try:
            if self.best is not None and isinstance(self._unsaved, FCN | Classifier):
                save(self._unsaved, self.best)
            self._unsaved = None
            _write(training, self.path)
        except OSError as error:
            if self._unsaved is training.model:
                self._unsaved = copy.deepcopy(training.model)  # the next step changes the original
            self._clock = time.monotonic()
            stands = f"; that of step {self._written} stands" if self.path.exists() else ""
            return OSError(
                f"the checkpoint {self.path} could not be written: {error.strerror or error}{stands}"
            )
        self._written, self._clock = training.step, time.monotonic()
        return None


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: The file, from which tensors are read when they are asked for: they may be large.
        entries: Everything else, from JSON.
    """

    path: Path
    entries: dict[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Read what a file says of itself.

        Raises:
            OSError: If there is none, or it may not be read.
            FileError: If it is damaged or cut off, or no checkpoint.
        """
        file = existing_file(path)
        with file.open("rb"):  # an unreadable file says so by its own error
            pass
        with _stored(file) as stored:
            entries = json.loads((stored.metadata() or {}).get("training", "null"))
            if not isinstance(entries, dict) or entries.get("format") != _FORMAT:
                raise ValueError(f"it lacks the mark {_FORMAT!r}")
        return cls(file, entries)

    def part(self, name: str) -> dict[str, Array]:
        """Read the tensors of "model" or "optimizer", under their names there."""
        with _stored(self.path) as stored:
            return {
                key.removeprefix(f"{name}."): stored.get_tensor(key)
                for key in stored.offset_keys()
                if key.startswith(f"{name}.")
            }


@contextmanager
def _stored(path: Path) -> Iterator[Any]:
    """Open a safetensors file; whatever is wrong with it becomes a `FileError`."""
    try:
        with safe_open(path, framework="numpy") as stored:
            yield stored
    except (SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged or is no checkpoint of a training: {str(error)[:200]}") from error


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Put a training where a checkpoint was written.

    Raises:
        ValueError: If the settings differ; it names them.
        FileError: If the contents do not fit the training.
    """
    entries = checkpoint.entries
    try:
        differences = different(entries["settings"], training.settings)
        counts = {name: kind(entries[name]) for name, kind in _COUNTS.items()}
        records, states = entries["records"], list(entries["generators"])
        if not isinstance(records, list) or [record["epoch"] for record in records] != [
            *range(1, counts["epoch"] + 1)
        ]:
            raise ValueError("records must be one for each epoch")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{checkpoint.path}: its entries do not fit a checkpoint ({error!r})") from error
    if differences:
        raise ValueError(
            f"{checkpoint.path} belongs to a training with other settings: {'; '.join(differences)}; "
            f"resume with the same ones, or begin anew elsewhere"
        )
    try:
        training.model.load_state_dict(checkpoint.part("model"))
        training.optimizer.load_state_dict(entries["optimizer"] | checkpoint.part("optimizer"))
        training.loader.load_state_dict(entries["loader"])
        for generator, state in zip(_generators(training.model), states, strict=True):
            generator.bit_generator.state = state
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{checkpoint.path} does not fit this training: {error}") from error
    for name, value in counts.items():
        setattr(training, name, value)
    training.records = records


def different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a clause for each setting that is not what it was.

    Example:
        >>> different({"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0})
        ['lr was 0.1, is 0.2']
    """
    plain = json.loads(json.dumps(dict(now)))  # tuples become lists, as in the file
    return [
        f"{name} was {before.get(name)}, is {plain.get(name)}"
        for name in dict.fromkeys((*before, *plain))
        if before.get(name) != plain.get(name)
    ]


def _write(training: Training, path: Path) -> None:
    """Write a checkpoint, array by array: a copy of everything would need its memory once more."""
    optimizer = training.optimizer.state_dict()
    tensors = {f"model.{name}": array for name, array in training.model.state_dict().items()}
    tensors |= {
        f"optimizer.{name}": value for name, value in optimizer.items() if not isinstance(value, int | float)
    }
    entries = {
        "format": _FORMAT,
        "settings": training.settings,
        **{name: getattr(training, name) for name in _COUNTS},
        "optimizer": {name: value for name, value in optimizer.items() if isinstance(value, int | float)},
        "loader": training.loader.state_dict(),
        "generators": [generator.bit_generator.state for generator in _generators(training.model)],
        "records": training.records,
    }
    if isinstance(training.model, FCN | Classifier) and training.model.info is not None:
        entries |= {"architecture": training.model.architecture, "info": asdict(training.model.info)}

    header: dict[str, Any] = {"__metadata__": {"training": json.dumps(entries)}}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # so that the arrays begin at a multiple of 8
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(to_numpy(array)).data)


def _generators(model: Layer) -> Iterator[np.random.Generator]:
    """Yield the generators of a network's layers, such as dropout's."""
    for layer in model.layers():
        yield from (value for value in vars(layer).values() if isinstance(value, np.random.Generator))


def _remove_leftovers(path: Path | None) -> None:
    """Remove the unfinished files that a killed training left beside a file it was writing."""
    if path is not None:
        for leftover in path.parent.glob(f".{path.stem}-*{path.suffix}"):
            with suppress(OSError):
                leftover.unlink()
