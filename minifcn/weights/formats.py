"""Tensors in files: safetensors, npz, and PyTorch's own format.

What a file declares is checked before memory is taken for it, and nothing in it is executed.
"""

import io
import json
import math
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from minifcn.backend import Array, to_numpy
from minifcn.files import FileError, atomic_write, open_foreign
from minifcn.weights import torch_files
from minifcn.weights.foreign import named_by_members, named_by_start
from minifcn.weights.tensors import MAX_TENSORS, Tensors, check_declared, check_size, shown, widened

_MAX_HEADER = 32_000_000  # bytes of a safetensors header, and of a zip file's table of contents
_DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_MAX_BRACES = 10 * MAX_TENSORS
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "encoder.")
_MAX_PREFIXES = 4


def read_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Read the tensors of a safetensors, npz or PyTorch file (.pt, .pth, .bin).

    The format follows from the first bytes, not from the name. A PyTorch file may be a state dict, or hold
    one in a nested entry such as "state_dict" or "model". Prefixes that training programs put before all
    names, such as "module." or "backbone.", are removed. `Tensors.inside` and `Tensors.prefix` report both.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file or it cannot be read.
        FileError: If it is damaged, has another format, holds more than 1 GB or anything but real numbers.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.npz"
        >>> np.savez(path, **{"module.fc.bias": np.ones(3, np.float16)})
        >>> tensors = read_tensors(path)
        >>> tensors.format, tensors.prefix, tensors.arrays["fc.bias"].dtype.name
        ('npz', 'module.', 'float32')
    """
    file = Path(path)
    with open_foreign(file) as opened:
        start = opened.read(300)
        opened.seek(0)
        try:
            return _without_prefix(_read(file, opened, start))
        except FileError:
            raise
        except MemoryError as error:
            raise FileError(f"{file} holds more than there is memory for") from error
        except Exception as error:  # whatever a damaged file makes of its reader
            raise FileError(f"{file} is cut off or damaged ({type(error).__name__})") from error


def _read(file: Path, opened: BinaryIO, start: bytes) -> Tensors:
    """Read the tensors in the format that the first bytes show."""
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER:
        return _read_safetensors(file, opened)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _read_zip(file, opened)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle
        return torch_files.read_old(file, opened)
    if (known := named_by_start(start)) is not None:
        raise FileError(f"{file} is {known}")
    raise FileError(f"{file} is not a safetensors, npz or PyTorch file, judging by its first bytes")


def _without_prefix(tensors: Tensors) -> Tensors:
    """Remove the prefixes that all names have."""
    prefix = ""
    for _ in range(_MAX_PREFIXES if tensors.arrays else 0):
        for known in _PREFIXES:
            if all(name.startswith(known, len(prefix)) for name in tensors.arrays):
                prefix += known
                break
    arrays = {name.removeprefix(prefix): array for name, array in tensors.arrays.items()}
    dtypes = {name.removeprefix(prefix): dtype for name, dtype in tensors.dtypes.items()}
    return replace(tensors, arrays=arrays, dtypes=dtypes, prefix=prefix)


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


@contextmanager
def open_safetensors(file: Path) -> Iterator[Any]:
    """Open a safetensors file by the library of this name, after a look at the size of its header.

    The library checks the header: the tensors lie one after another without gaps.

    Raises:
        OSError: If the file cannot be opened.
        FileError: If its header is malformed, too large or describes too many tensors.
    """
    with open_foreign(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        # there is one for each tensor, and there are those of texts
        braces = opened.read(length).count(b"{") if length <= _MAX_HEADER else 0
    if braces > _MAX_BRACES:
        raise FileError(f"{file} declares more than {MAX_TENSORS:,} tensors")
    try:
        if length > _MAX_HEADER:
            raise SafetensorError(f"its header would have {length:,} bytes")
        with safe_open(file, framework="numpy") as library:
            yield library
    except SafetensorError as error:
        raise FileError(f"{file} is cut off or is not a safetensors file: {shown(error, 200)}") from error


def _read_safetensors(file: Path, opened: BinaryIO) -> Tensors:
    """Read a safetensors file; the values are read here, because NumPy has no bfloat16."""
    with open_safetensors(file) as library:
        tensors = Tensors({}, dict(sorted((library.metadata() or {}).items())), "safetensors")
        slices = {name: library.get_slice(name) for name in library.offset_keys()}
        shapes = {name: tuple(described.get_shape()) for name, described in slices.items()}
        for name, described in slices.items():
            tensors.dtypes[name] = _DTYPES.get(code := described.get_dtype(), code)
    check_declared(file, ((name, tensors.dtypes[name], shape) for name, shape in shapes.items()))
    opened.seek(8 + int.from_bytes(opened.read(8), "little"))
    for name, shape in shapes.items():
        dtype = tensors.dtypes[name]
        bits = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
        array = np.fromfile(opened, bits, math.prod(shape)).reshape(shape)
        tensors.arrays[name] = widened(array, dtype)
    return tensors


class _Limited(io.BufferedReader):
    """A file of which at most `limit` bytes are read at once, as a table of contents is."""

    limit = _MAX_HEADER

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.limit:
            raise ValueError(f"a table of contents of {size:,} bytes")
        return super().read(size)


def _read_zip(file: Path, opened: BinaryIO) -> Tensors:
    """Read an npz file, or the kind of PyTorch file that is a zip file, too (since PyTorch 1.6)."""
    limited = _Limited(io.FileIO(opened.fileno(), closefd=False))
    try:
        archive = zipfile.ZipFile(limited)
    except Exception as error:  # the zip module has no one error for what may be wrong with a file
        raise FileError(f"{file} is cut off or damaged: it has no table of contents") from error
    limited.limit = os.fstat(opened.fileno()).st_size
    with archive:
        names = Counter(archive.namelist())
        if len(names) > 2 * MAX_TENSORS:
            raise FileError(f"{file} declares more than {MAX_TENSORS:,} tensors")
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise FileError(f"{file} holds {shown(twice)} twice")
        if (known := named_by_members(names)) is not None:
            raise FileError(f"{file} is {known}")
        if any(name.endswith("/data.pkl") for name in names):
            return torch_files.read_zip(file, archive)
        return _read_npz(file, archive)


def _read_npz(file: Path, archive: zipfile.ZipFile) -> Tensors:
    """Read the arrays of an npz file, after a look at all sizes that it declares."""
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    check_size(file, sum(member.file_size for member in members.values()))
    headers = {}
    for name, member in members.items():
        if name == member.filename:
            raise FileError(f"{file} holds {shown(name)}, which is not an array (.npy)")
        with _reading(file, name, archive, member) as data:
            first = np.lib.format.read_magic(data) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, kind = header(data)
        headers[name] = name, kind.name, shape
    check_declared(file, headers.values())
    tensors = Tensors({}, {}, "npz")
    for name, member in members.items():
        _, dtype, shape = headers[name]
        with _reading(file, name, archive, member) as data:
            if math.prod(shape) > member.file_size:
                raise ValueError(f"it declares {math.prod(shape):,} elements")
            array = np.lib.format.read_array(data, allow_pickle=False)
        tensors.arrays[name], tensors.dtypes[name] = widened(array, dtype), dtype
    return tensors


@contextmanager
def _reading(file: Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[Any]:
    """Open a member of an npz file; whatever goes wrong becomes an error with its name."""
    try:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed by another method than deflate")  # which may take more memory
        with warnings.catch_warnings(), archive.open(member) as data:
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            yield data
    except Exception as error:
        raise FileError(f"{file}: {shown(name)} cannot be read: {shown(repr(error), 200)}") from error
