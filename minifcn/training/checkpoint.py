"""Checkpoints: files with everything that a training needs to continue as if it had not been interrupted.

A checkpoint is one safetensors file. Its tensors are the weights and buffers ("model.NAME") and the state of
the optimiser ("optimizer.KIND.NAME"). Its metadata hold, as JSON, the counts, the position of the loader, the
records so far and the settings. Augmentation follows from the seed, the epoch and the index of an image,
and dropout from the seed, the epoch and the batch, so no state of a random generator is stored.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minifcn.backend import Array, to_numpy
from minifcn.files import FileError, atomic_write, existing_file
from minifcn.models import FCN, Classifier
from minifcn.training.state import Training

_FORMAT = "minifcn checkpoint 2"
_EARLIER = "minifcn checkpoint 1"
_DTYPES = {"float32": "F32", "float64": "F64"}
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
        with file.open("rb"):  # an unreadable file raises its own error here
            pass
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
        records = entries["records"]
        if [record["epoch"] for record in list(records)] != [*range(1, counts["epoch"] + 1)]:
            raise ValueError("there must be one record for each epoch")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{checkpoint.path}: its entries do not fit a checkpoint ({error!r})") from error
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


def different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a clause for each setting that has changed.

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


def write(training: Training, path: Path) -> None:
    """Write a checkpoint, one array at a time: a copy of all of them would double the memory."""
    optimizer = training.optimizer.state_dict()
    scalars = {name: value for name, value in optimizer.items() if isinstance(value, int | float)}
    tensors = {f"model.{name}": array for name, array in training.model.state_dict().items()}
    tensors |= {f"optimizer.{k}": v for k, v in optimizer.items() if not isinstance(v, int | float)}
    entries = {
        "format": _FORMAT,
        "settings": training.settings,
        **{name: getattr(training, name) for name in _COUNTS},
        "optimizer": scalars,
        "loader": training.loader.state_dict(),
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
