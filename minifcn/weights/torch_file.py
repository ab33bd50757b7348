"""Tensors from PyTorch files, read by PyTorch itself, in the mode that makes tensors and runs nothing."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minifcn.files import FileError
from minifcn.weights.npz_file import open_zip
from minifcn.weights.tensors import Numbers, Tensors, check_shape, check_size, shown

_NESTED = ("state_dict", "model_state_dict", "model")


def is_torch_zip(file: Path) -> bool:
    """Return whether a zip file is one of PyTorch's and not an npz file.

    Raises:
        FileError: If it is damaged.
    """
    with open_zip(file) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def read_torch_file(file: Path, *, zipped: bool) -> Tensors:
    """Read the state dict of a PyTorch file, which is a zip file since PyTorch 1.6; see `read_tensors`."""
    try:
        import torch
    except ImportError as error:
        raise FileError(
            f"{file} is a PyTorch file, which PyTorch reads: pip install torch, or take the same weights as "
            f"safetensors"
        ) from error

    if zipped:
        _check_members(file)
    try:
        with warnings.catch_warnings(), file.open("rb") as opened:  # of a path it would look at the ending
            warnings.simplefilter("ignore")  # PyTorch's remarks about formats of its own
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle makes of its reader
        raise FileError(_refusal(file, error)) from error
    state = _state_dict(file, content, torch.Tensor)
    tensors = Tensors({}, _texts(content), "PyTorch")
    size = 0
    for name, tensor in state.items():
        size += tensor.numel() * tensor.element_size()
        check_size(file, size)  # few bytes can be stretched over many places
        tensors.dtypes[name] = str(tensor.dtype).removeprefix("torch.")
        tensors.arrays[name] = _numbers(file, name, tensor)
    return tensors


def _check_members(file: Path) -> None:
    """Refuse a zip file with wrong checksums, or one that says it holds more than it is long.

    PyTorch does not compare the checksums, and compresses nothing.
    """
    with open_zip(file) as archive:
        declared = sum(member.file_size for member in archive.infolist())
        if declared > file.stat().st_size:
            raise FileError(f"{file} declares {declared:,} bytes and has {file.stat().st_size:,}")
        try:
            damaged = archive.testzip()
        except Exception as error:  # the zip module has no one error for what may be wrong with a file
            raise FileError(f"{file} is cut off or damaged: {shown(error, 200)}") from error
    if damaged is not None:
        raise FileError(f"{file} is damaged: the checksum of {shown(damaged)} is wrong")


def _refusal(file: Path, error: Exception) -> str:
    """Return what is wrong with a file, in one sentence: PyTorch says it in many."""
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked is not None:
        return (
            f"{file} asks for {shown(asked[1])}, not for tensors alone, and opening it could run code: where "
            f"it comes from, save model.state_dict() and nothing else"
        )
    return f"{file} is cut off, damaged, or holds more than tensors: PyTorch cannot read it as weights alone"


def _state_dict(file: Path, content: Any, tensor_type: type) -> dict[str, Any]:
    """Find the tensors by name in what a file holds."""
    places = [content.get(key) for key in _NESTED] if isinstance(content, Mapping) else []
    for place in [*places, content]:
        if isinstance(place, Mapping):
            state = {name: value for name, value in place.items() if isinstance(value, tensor_type)}
            if state:
                if not all(isinstance(name, str) for name in state):
                    raise FileError(f"{file}: its tensors have no names")
                return state
    raise FileError(
        f"{file} holds no tensors by name, neither by itself nor under {', '.join(map(repr, _NESTED))}"
    )


def _texts(content: Mapping[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, str)}


def _numbers(file: Path, name: str, tensor: Any) -> Numbers:
    """Return a tensor as an array, which may share its memory; half precision becomes float32."""
    try:
        check_shape(file, name, tuple(tensor.shape))
        small = tensor.is_floating_point() and tensor.element_size() < 4
        array: Numbers = np.asarray((tensor.float() if small else tensor).detach().numpy(), order="C")
    except FileError:
        raise
    except Exception as error:  # sparse, quantised, without values, ...
        raise FileError(
            f"{file}: {shown(name)} is a tensor of {tensor.dtype} that NumPy cannot hold"
        ) from error
    if array.dtype.kind not in "fiub":
        raise FileError(f"{file}: {shown(name)} holds {array.dtype.name}, expected real numbers")
    return array
