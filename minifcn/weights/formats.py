"""Tensors in files: safetensors, npz, and PyTorch's own format.

What a file declares is checked before memory is taken for it, and nothing in it is executed: pickles are
opened by PyTorch alone, in the mode that makes tensors and nothing else.
"""

import json
import math
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minifcn.backend import Array, to_numpy
from minifcn.files import FileError, atomic_write, existing_file

MAX_BYTES = 10**9
"""Limit for all tensors of a file: 1 GB, about twice the size of VGG16."""

_MAX_HEADER = 100_000_000  # bytes that the safetensors library takes
_DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_NESTED = ("state_dict", "model_state_dict", "model")  # where PyTorch files hold their state dict
_PREFIX = "module."  # of networks that PyTorch has spread over several GPUs


@dataclass(frozen=True)
class Tensors:
    """Contents of a file of weights.

    Attributes:
        arrays: The tensors by name. Half precision has become float32; all else is as in the file.
        metadata: Further texts in the file.
        format: "safetensors", "npz" or "PyTorch".
        dtypes: Dtype of each tensor in the file, such as "float16".

    Example:
        >>> Tensors({"bias": np.zeros(3, np.float32)}).arrays["bias"].shape
        (3,)
    """

    arrays: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    format: str = ""
    dtypes: dict[str, str] = field(default_factory=dict)


def read_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Read the tensors of a safetensors, npz or PyTorch file (.pt, .pth, .bin).

    The format follows from the first bytes, not from the name. A PyTorch file may be a state dict, or hold
    one under "state_dict", "model_state_dict" or "model". If all names begin with "module.", that is removed.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file or it cannot be read.
        FileError: If it is damaged, has another format, holds more than 1 GB or anything but real numbers, or
            if it is a PyTorch file and PyTorch is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.npz"
        >>> np.savez(path, **{"module.fc.bias": np.ones(3, np.float16)})
        >>> tensors = read_tensors(path)
        >>> tensors.format, tensors.arrays["fc.bias"].dtype.name
        ('npz', 'float32')
    """
    file = existing_file(path)
    with file.open("rb") as opened:
        start = opened.read(16)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER:
        tensors = _read_safetensors(file)
    elif start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        tensors = _read_zip(file)
    elif start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle
        tensors = _read_torch(file)
    else:
        raise FileError(f"{file} is not a safetensors, npz or PyTorch file, judging by its first bytes")
    if not tensors.arrays or not all(name.startswith(_PREFIX) for name in tensors.arrays):
        return tensors
    arrays = {name.removeprefix(_PREFIX): array for name, array in tensors.arrays.items()}
    dtypes = {name.removeprefix(_PREFIX): dtype for name, dtype in tensors.dtypes.items()}
    return replace(tensors, arrays=arrays, dtypes=dtypes)


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, array by array, so that no copy of everything is made.

    The file is replaced as a whole or not at all. Equal contents give equal bytes.

    Args:
        path: The file to write or replace.
        tensors: NumPy or CuPy arrays by name, in the order in which they are written.
        metadata: Texts by name; they are sorted.

    Raises:
        TypeError: If safetensors has no such dtype.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> write_safetensors(path, {"weight": np.eye(2)}, {"by": "me"})
        >>> read_tensors(path).arrays["weight"].tolist(), read_tensors(path).metadata
        ([[1.0, 0.0], [0.0, 1.0]], {'by': 'me'})
    """
    codes = {dtype: code for code, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, array in tensors.items():
        if array.dtype.name not in codes:
            raise TypeError(f"{name} has dtype {array.dtype}, expected one of {', '.join(codes)}")
        offsets, end = (end, end + array.nbytes), end + array.nbytes
        header[name] = {"dtype": codes[array.dtype.name], "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # so that the arrays begin at a multiple of 8
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            values = to_numpy(array)
            file.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)


def shown(text: object, limit: int = 100) -> str:
    """Return a text from a file for a message: shortened, and without control characters.

    Example:
        >>> shown("abcdef", 4)
        'abc…'
    """
    text = str(text)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _check_size(file: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise FileError(f"{file} declares tensors of {size:,} bytes, and at most {MAX_BYTES:,} are read")


def _check_shape(file: Path, name: str, shape: tuple[int, ...]) -> None:
    """Refuse shapes that no array has, such as a huge one that has an axis of length zero, too."""
    if len(shape) > 8 or any(axis < 0 for axis in shape) or math.prod(filter(None, shape)) > MAX_BYTES:
        raise FileError(f"{file}: {shown(name)} declares the shape {shown(shape)}, expected 8 axes at most")


def _read_safetensors(file: Path) -> Tensors:
    """Read a safetensors file.

    The library checks the header: the tensors lie one after another without gaps. The values are read here,
    because NumPy has no bfloat16.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
    except SafetensorError as error:
        raise FileError(f"{file} is cut off or is not a safetensors file: {shown(error, 200)}") from error
    tensors = Tensors({}, dict(sorted(metadata.items())), "safetensors")
    with file.open("rb") as data:
        length = int.from_bytes(data.read(8), "little")
        _check_size(file, file.stat().st_size - 8 - length)
        data.seek(8 + length)
        for name, described in slices.items():
            dtype = _DTYPES.get(described.get_dtype())
            if dtype is None:
                raise FileError(f"{file}: {shown(name)} is {described.get_dtype()}, which is not known here")
            shape = tuple(described.get_shape())
            _check_shape(file, name, shape)
            bits = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
            array = np.fromfile(data, bits, math.prod(shape)).reshape(shape)
            if dtype == "bfloat16":  # the upper half of a float32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            tensors.arrays[name] = _usual(array)
            tensors.dtypes[name] = dtype
    return tensors


def _usual(array: Array) -> Array:
    """Return an array in native byte order and in C order; half precision becomes float32."""
    half = array.dtype.name == "float16"
    return array.astype(np.float32 if half else array.dtype.newbyteorder("="), order="C", copy=False)


def _read_zip(file: Path) -> Tensors:
    """Read an npz file, or the kind of PyTorch file that is a zip file, too (since PyTorch 1.6)."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # the zip module has no one error for what may be wrong with a file
        raise FileError(f"{file} is cut off or damaged: it has no table of contents") from error
    with archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise FileError(f"{file} holds {shown(twice)} twice")
        if not any(name.endswith("/data.pkl") for name in names):
            return _read_npz(file, archive)
        _check_torch_members(file, archive)
    return _read_torch(file)


def _read_npz(file: Path, archive: zipfile.ZipFile) -> Tensors:
    """Read the arrays of an npz file, after a look at the sizes that its table of contents declares."""
    tensors = Tensors({}, {}, "npz")
    _check_size(file, sum(member.file_size for member in archive.infolist()))
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise FileError(f"{file} holds {shown(name)}, which is not an array (.npy)")
        try:
            with warnings.catch_warnings(), archive.open(member) as data:
                warnings.simplefilter("ignore")  # about headers that Python 2 wrote
                array = np.lib.format.read_array(data, allow_pickle=False)
        except Exception as error:  # see above
            raise FileError(f"{file}: {shown(name)} cannot be read: {shown(repr(error), 200)}") from error
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise FileError(f"{file}: {shown(name)} holds {shown(array.dtype)}, expected real numbers")
        tensors.arrays[name], tensors.dtypes[name] = _usual(array), array.dtype.name
    return tensors


def _check_torch_members(file: Path, archive: zipfile.ZipFile) -> None:
    """Check sizes and checksums, which PyTorch does not; it compresses nothing."""
    declared = sum(member.file_size for member in archive.infolist())
    if declared > file.stat().st_size:
        raise FileError(f"{file} declares {declared:,} bytes and has {file.stat().st_size:,}")
    try:
        damaged = archive.testzip()
    except Exception as error:  # see above
        raise FileError(f"{file} is cut off or damaged: {shown(error, 200)}") from error
    if damaged is not None:
        raise FileError(f"{file} is damaged: the checksum of {shown(damaged)} is wrong")


def _read_torch(file: Path) -> Tensors:
    """Read the state dict of a PyTorch file."""
    try:
        import torch
    except ImportError as error:
        raise FileError(f"{file} is a PyTorch file: pip install torch, or use safetensors") from error

    try:
        with warnings.catch_warnings(), file.open("rb") as opened:  # a path would be judged by its ending
            warnings.simplefilter("ignore")  # about PyTorch's own formats
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle makes of its reader
        why = "is cut off, damaged, or holds more than tensors"
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            why = f"asks for {shown(asked[1])}, which could run code: save model.state_dict() alone"
        raise FileError(f"{file} {why}") from error
    texts = content.items() if isinstance(content, Mapping) else ()
    metadata = {key: value for key, value in texts if isinstance(key, str) and isinstance(value, str)}
    tensors = Tensors({}, metadata, "PyTorch")
    size = 0
    for name, tensor in _state_dict(file, content, torch.Tensor).items():
        size += tensor.numel() * tensor.element_size()
        _check_size(file, size)  # few bytes can be expanded to a large shape
        tensors.dtypes[name] = str(tensor.dtype).removeprefix("torch.")
        tensors.arrays[name] = _from_torch(file, name, tensor)
    return tensors


def _state_dict(file: Path, content: Any, tensor_type: type) -> dict[str, Any]:
    """Find the tensors by name in the contents of a PyTorch file."""
    places = [content.get(key) for key in _NESTED] if isinstance(content, Mapping) else []
    for place in [*places, content]:
        if isinstance(place, Mapping):
            state = {name: value for name, value in place.items() if isinstance(value, tensor_type)}
            if state:
                if not all(isinstance(name, str) for name in state):
                    raise FileError(f"{file}: its tensors have no names")
                return state
    raise FileError(f"{file} holds no tensors by name, neither directly nor in one of {_NESTED}")


def _from_torch(file: Path, name: str, tensor: Any) -> Array:
    """Return a tensor as an array, which may share its memory."""
    _check_shape(file, name, tuple(tensor.shape))
    try:
        small = tensor.is_floating_point() and tensor.element_size() < 4
        array = np.asarray((tensor.float() if small else tensor).detach().numpy(), order="C")
    except Exception as error:  # sparse, quantised, without values, ...
        raise FileError(f"{file}: {shown(name)} is {tensor.dtype}, which NumPy cannot hold") from error
    if array.dtype.kind not in "fiub":
        raise FileError(f"{file}: {shown(name)} holds {array.dtype.name}, expected real numbers")
    return array
