"""Checkpoints: files with everything that a training needs to continue as if it had not been interrupted.

A checkpoint is one safetensors file. Its tensors are the weights and buffers ("model.NAME") and the state of
the optimiser ("optimizer.KIND.NAME"). Its metadata hold, as JSON, the counts, the position of the loader, the
records so far, the settings, and the network, described as in a model file. Augmentation follows from the
seed, the epoch and the index of an image, and dropout from the seed, the epoch and the batch, so no state of
a random generator is stored.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from minifcn.backend import Array
from minifcn.files import FileError, existing_file
from minifcn.layers import Layer
from minifcn.printing import brief
from minifcn.training.state import Training
from minifcn.weights import write_safetensors
from minifcn.weights.model_file import from_metadata, to_metadata

_FORMAT = "minifcn checkpoint 2"
_EARLIER = "minifcn checkpoint 1"
_COUNTS = {"epoch": int, "step": int, "images": int, "total_loss": float, "weight": float, "seconds": float}
"""The counts of a `Training`, and their types."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        path: The file. Tensors may be large and are read from it only when they are needed.
        entries: Everything else, from JSON.
    """

    path: Path
    entries: dict[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Read the entries of a file.

        Raises:
            OSError: If the file is missing or cannot be read.
            FileError: If it is damaged, incomplete, no checkpoint, or one of an earlier version.
        """
        file = existing_file(path)
        with _stored(file) as stored:
            entries = json.loads((stored.metadata() or {}).get("training", "null"))
            form = entries.get("format") if isinstance(entries, dict) else None
            if form not in (_FORMAT, _EARLIER):
                raise ValueError(f"it lacks the format {_FORMAT!r}")
        if form == _EARLIER:
            raise FileError(
                f"{file} has the format {_EARLIER!r}, of an earlier version of minifcn that drew dropout in "
                f"another way, so this version ({_FORMAT!r}) cannot resume it exactly; start a new training "
                f"from the best model of that training"
            )
        return cls(file, entries)

    def network(self) -> Layer:
        """Return the network that the file describes, with weights of zero.

        Raises:
            FileError: If it describes none, or one that does not fit its tensors.
        """
        try:
            shapes = {name: array.shape for name, array in self.part("model").items()}
            return from_metadata(self.entries["network"], shapes)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{self.path} does not describe its network: {error}") from error

    def part(self, name: str) -> dict[str, Array]:
        """Return the tensors of "model" or "optimizer" by name."""
        with _stored(self.path) as stored:
            return {
                key.removeprefix(f"{name}."): stored.get_tensor(key)
                for key in stored.offset_keys()
                if key.startswith(f"{name}.")
            }


@contextmanager
def _stored(path: Path) -> Iterator[Any]:
    """Open a safetensors file; any error in its contents becomes a `FileError`."""
    try:
        with safe_open(path, framework="numpy") as stored:
            yield stored
    except (SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged or is no checkpoint: {str(error)[:200]}") from error


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Set a training to the state in a checkpoint.

    Raises:
        ValueError: If the settings differ; the message names them.
        FileError: If the contents do not fit the training.
    """
    entries = checkpoint.entries
    try:
        differences = different(entries["settings"], training.settings)
        counts = {name: kind(entries[name]) for name, kind in _COUNTS.items()}
        if wrong := [name for name, value in counts.items() if not 0 <= value < math.inf]:
            raise ValueError(f"{wrong[0]} must be a number >= 0")
        records = list(entries["records"])
        if len(records) != counts["epoch"] or not all(map(_is_record, records, range(1, len(records) + 1))):
            raise ValueError("there must be one record for each epoch, of numbers")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{checkpoint.path}: its entries do not fit a checkpoint ({brief(error)})") from error
    if differences:
        raise ValueError(
            f"{checkpoint.path} belongs to a training with other settings: {'; '.join(differences)}; "
            f"resume with the same settings, or start a new training in another folder"
        )
    try:
        training.model.load_state_dict(checkpoint.part("model"))
        training.optimizer.load_state_dict(entries["optimizer"] | checkpoint.part("optimizer"))
        training.loader.load_state_dict(entries["loader"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{checkpoint.path} does not fit this training: {error}") from error
    for name, value in counts.items():
        setattr(training, name, value)
    training.records = records


def _is_record(record: Mapping[str, Any], epoch: int) -> bool:
    """Return whether an entry is a record that `fit` can have made for an epoch."""
    values = [*record.values(), *(record.get("iou") or {}).values()]
    numbers = all(isinstance(value, int | float | dict | None) for value in values)
    return numbers and record["epoch"] == epoch and isinstance(record["loss"], int | float)


def different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a clause for each setting that has changed.

    Example:
        >>> different({"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0})
        ['lr was 0.1, is 0.2']
    """
    plain = json.loads(json.dumps(dict(now)))  # tuples become lists, as in the file
    return [
        f"{name} was {_shown(before.get(name))}, is {_shown(plain.get(name))}"
        for name in dict.fromkeys((*before, *plain))
        if before.get(name) != plain.get(name)
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 200 else brief(value)


def write(training: Training, path: Path) -> None:
    """Write a checkpoint, as a whole or not at all."""
    optimizer = training.optimizer.state_dict()
    scalars = {name: value for name, value in optimizer.items() if isinstance(value, int | float)}
    entries = {
        "format": _FORMAT,
        "settings": training.settings,
        **{name: getattr(training, name) for name in _COUNTS},
        "optimizer": scalars,
        "loader": training.loader.state_dict(),
        "records": training.records,
    }
    with suppress(ValueError):  # a network that no file can describe is resumed by the program that made it
        entries["network"] = to_metadata(training.model)
    tensors = {f"model.{name}": array for name, array in training.model.state_dict().items()}
    tensors |= {f"optimizer.{k}": v for k, v in optimizer.items() if not isinstance(v, int | float)}
    write_safetensors(path, tensors, {"training": json.dumps(entries)})
