"""Model files: safetensors that carry everything needed to use them again.

The weights lie in the file under the names of `state_dict`. Its metadata hold, as JSON, the architecture, the
class names, the colours and the preprocessing. Nothing in it is ever executed.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minifcn.backend import to_numpy
from minifcn.files import FileError, atomic_write, existing_file
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, build

_FORMAT = "minifcn 1"
_DTYPES = ("F16", "F32", "F64")
_CONVERT = (
    "weights of a classifier are for minifcn train --weights, or minifcn weights convert makes one of them"
)
_OTHER_FORMATS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".h5", ".onnx")


def save(model: Classifier | FCN, path: str | os.PathLike[str]) -> None:
    """Write a network to a safetensors file, whole or not at all.

    Args:
        model: A network of `minifcn.models`; its `info` must be set, so that the file can be used.
        path: The file to write or replace; by custom it ends in ".safetensors".

    Raises:
        TypeError: If the model is neither a `Classifier` nor an `FCN`.
        ValueError: If `model.info` is missing or names another number of classes, if `load` would not know
            the architecture, or if the path ends as files of another format do.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from minifcn.models import digit_classifier
        >>> model = digit_classifier()
        >>> model.info = ModelInfo(tuple("0123456789"), Preprocessing("L", (128.0,), (64.0,)))
        >>> path = Path(tempfile.mkdtemp()) / "digits.safetensors"
        >>> save(model, path)
        >>> load(path).info.class_names[3]
        '3'
    """
    if not isinstance(model, Classifier | FCN):
        raise TypeError(f"model must be a Classifier or an FCN, got {type(model).__name__}")
    check_name(path)
    build(model.architecture, init="zeros")
    if model.info is None:
        raise ValueError("model.info is not set: a model file needs class names and preprocessing")
    architecture = model.architecture
    classes = architecture["arguments"]["num_classes"]
    if len(model.info.class_names) != classes:
        raise ValueError(f"the model has {classes} classes, its info names {len(model.info.class_names)}")
    metadata = {
        "format": _FORMAT,
        "architecture": json.dumps(architecture),
        "info": json.dumps(asdict(model.info)),
    }
    # The file gets the bytes as they lie in memory, so they must lie in order.
    state = {name: np.ascontiguousarray(to_numpy(array)) for name, array in model.state_dict().items()}
    try:
        with atomic_write(path) as temporary:
            save_file(state, temporary, metadata)
            _sort_metadata(temporary)
    except (SafetensorError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise OSError(f"cannot write the model file {os.fspath(path)}: {why}") from error


def check_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name for a model file that ends as those of another format do.

    Raises:
        ValueError: It says which ending is right.

    Example:
        >>> check_name("model.pt")
        Traceback (most recent call last):
            ...
        ValueError: model.pt ends in .pt, and model files are safetensors: call it model.safetensors
    """
    file = Path(path)
    if file.suffix.lower() in _OTHER_FORMATS:
        better = file.with_suffix(".safetensors")
        raise ValueError(f"{file} ends in {file.suffix}, and model files are safetensors: call it {better}")


def _sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into order: the library writes them in a random one.

    So the same network always gives the same bytes. The file begins with the length of its header (8 bytes,
    little-endian) and the header itself, JSON that may end in spaces.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= length:  # else it would run into the tensors
            file.seek(8)
            file.write(ordered.ljust(length))


def load(path: str | os.PathLike[str]) -> Classifier | FCN:
    """Read a network from a file that `save` wrote; nothing else is needed.

    Args:
        path: A safetensors file.

    Returns:
        The network in evaluation mode, on the CPU, in float32, with its `info`.

    Raises:
        OSError: If there is no such file or it cannot be read.
        FileError: If it is cut off, is something else, or its contents do not fit together.
    """
    file = existing_file(path)
    with file.open("rb") as opened:  # an unreadable file says so by its own error
        start = opened.read(4)
    try:
        with safe_open(file, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
            if not is_model_file(metadata):
                raise FileError(f"{file} is no model file of minifcn: {_instead(file, metadata)}")
            model = build(_json(file, metadata, "architecture"), init="zeros")
            model.info = stored_info(file, metadata)
            _check_tensors(file, model, tensors)
            model.load_state_dict({name: tensors.get_tensor(name) for name in tensors.offset_keys()})
    except FileError:
        raise
    except SafetensorError as error:
        if start == b"PK\x03\x04" or start[:2] == b"\x80\x02":
            raise FileError(
                f"{file} is a PyTorch or npz file, no model file of minifcn; {_CONVERT}"
            ) from error
        raise FileError(f"{file} is cut off or is not a safetensors file: {error}") from error
    except (
        ValueError,
        MemoryError,
    ) as error:  # an architecture that is unknown or too large, or other tensors
        raise FileError(f"{file}: {str(error)[:2_000]}") from error
    return model.eval()


def is_model_file(metadata: dict[str, str]) -> bool:
    """Return whether the metadata of a safetensors file are those that `save` writes."""
    return metadata.get("format") == _FORMAT


def is_checkpoint(metadata: dict[str, str]) -> bool:
    """Return whether the metadata of a safetensors file are those of a training's checkpoint."""
    return '"minifcn checkpoint' in metadata.get("training", "")[:100]


def _instead(file: Path, metadata: dict[str, str]) -> str:
    """Say what a safetensors file that is no model file is, and what to do."""
    if is_checkpoint(metadata):
        model = file.with_name("model.safetensors")
        beside = f"; its best network is {model}" if model.exists() else ""
        return f"it is the checkpoint of a training, which minifcn train --resume goes on from{beside}"
    return f"it lacks the mark {_FORMAT!r}; {_CONVERT}"


def _json(file: Path, metadata: dict[str, str], key: str) -> Any:
    try:
        return json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{file}: its {key} is not JSON") from error


def stored_info(file: Path, metadata: dict[str, str]) -> ModelInfo:
    """Return the `ModelInfo` in the metadata of a model file; it checks what it is given.

    Raises:
        FileError: If there is none.
    """
    info = _json(file, metadata, "info")
    try:
        preprocessing = Preprocessing(**info["preprocessing"])
        return ModelInfo(**{**info, "preprocessing": preprocessing})
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{file}: its info does not fit: {str(error)[:200]}") from error


def _check_tensors(file: Path, model: Classifier | FCN, tensors: Any) -> None:
    """Compare dtypes before anything is read; `load_state_dict` then compares names and shapes."""
    classes = model.architecture["arguments"]["num_classes"]
    if model.info is None or len(model.info.class_names) != classes:
        raise FileError(f"{file}: its architecture has {classes} classes, its info another number")
    for name in tensors.offset_keys():
        dtype = tensors.get_slice(name).get_dtype()
        if dtype not in _DTYPES:
            raise FileError(f"{file}: {name} is {dtype}, expected one of {', '.join(_DTYPES)}")
