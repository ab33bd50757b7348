"""Reads one array out of SBD's MATLAB files, and as little as possible of the rest.

MATLAB 5 files ("MAT-File Format", MathWorks): a header of 128 bytes, then elements, each a tag (type and
length) and its data, padded to 8 bytes; elements of up to 4 bytes have their data in the tag. An array is an
element that consists of elements: flags, dimensions, name, and then numbers, or, in a structure, the names of
its fields and an array for each.

SciPy's reader is not used: it takes 5 GB of memory for a damaged file of 230 KB, and crashes on others.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError
from minifcn.data.images import MAX_PIXELS

_MAX_BYTES = 1 << 28  # of a file, and of the compressed data in it
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT8, _INT32, _UINT32, _ARRAY, _COMPRESSED = 1, 5, 6, 14, 15
_STRUCTURE, _NUMERIC = 2, range(6, 16)  # classes of arrays: double, single, int8, ..., uint64


class _BadFileError(ValueError):
    """The file is damaged, or is not what it should be."""


class _Element(NamedTuple):
    type: int
    data: memoryview


def read_segmentation(
    path: str | os.PathLike[str], variable: str = "GTcls", field: str = "Segmentation"
) -> Array:
    """Read the labels from a file of the Semantic Boundaries Dataset.

    Args:
        path: A MATLAB 5 file, compressed or not.
        variable: Name of a structure in it.
        field: The field of the structure that holds the labels.

    Returns:
        uint8 (H, W).

    Raises:
        OSError: If the file cannot be opened.
        FileError: If there is no such file, it is damaged or too large, or has something other than labels.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError("missing", path, "does not exist, or is not a file")
    if file.stat().st_size > _MAX_BYTES:
        raise DataError("unreadable", path, f"is larger than {_MAX_BYTES >> 20} MB")
    try:
        return _segmentation(file.read_bytes(), variable, field)
    except _BadFileError as error:
        raise DataError("unreadable", path, str(error)) from None


def _segmentation(data: bytes, variable: str, field: str) -> Array:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack(f"{order}H", data[124:126])[0] >> 8 != 1:
        newer = " (version 7.3 is HDF5: save it with -v7)" if b"MATLAB 7.3" in data[:20] else ""
        raise _BadFileError(f"is not a MATLAB 5 file{newer}")
    for element in _elements(memoryview(data)[128:], order):
        if element.type == _COMPRESSED:
            element = next(_elements(memoryview(_decompressed(element.data)), order), element)
        if element.type == _ARRAY:
            kind, _, name, parts = _array(element, order)
            if name == variable and kind == _STRUCTURE:
                return _labels(_field(parts, field, order), order)
    raise _BadFileError(f"has no structure {variable!r}")


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements in the data one after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack(f"{order}II", data[at : at + 8])
        if kind >> 16:  # a small element: length and type share four bytes, the data are the other four
            kind, length, start, at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if length > 4:
                raise _BadFileError(f"is damaged: a small element of {length} bytes")
        else:
            start = at + 8
            at = start + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            left = len(data) - start
            raise _BadFileError(f"is damaged or truncated: an element of {length} bytes, {left} are left")
        yield _Element(kind, data[start : start + length])


def _decompressed(data: memoryview) -> bytes:
    """Return decompressed data, of which at most the limit is ever in memory."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise _BadFileError(f"is damaged: {error}") from None
    if stream.unconsumed_tail:
        raise _BadFileError(f"has more than {_MAX_BYTES >> 20} MB of compressed data")
    return plain


def _array(element: _Element, order: str) -> tuple[int, tuple[int, ...], str, Iterator[_Element]]:
    """Return class, dimensions and name of an array, and its other elements."""
    parts = _elements(element.data, order)
    head = list(islice(parts, 3))
    if [part.type for part in head] != [_UINT32, _INT32, _INT8]:
        raise _BadFileError("is damaged: an array without flags, dimensions and name")
    flags, size, name = (part.data for part in head)
    if len(flags) != 8 or len(size) % 4 or not 8 <= len(size) <= 128:
        raise _BadFileError(f"is damaged: flags of {len(flags)} bytes, dimensions of {len(size)}")
    kind = struct.unpack(f"{order}I", flags[:4])[0] & 0xFF
    shape = struct.unpack(f"{order}{len(size) // 4}i", size)
    return kind, shape, bytes(name).decode("latin-1"), parts


def _field(parts: Iterator[_Element], field: str, order: str) -> _Element:
    """Return one field of a structure with one element."""
    head = list(islice(parts, 2))
    if [part.type for part in head] != [_INT32, _INT8] or len(head[0].data) != 4:
        raise _BadFileError("is damaged: a structure without names of fields")
    (width,) = struct.unpack(f"{order}i", head[0].data)
    if width < 1:
        raise _BadFileError(f"is damaged: names of fields of {width} characters")
    text = bytes(head[1].data)
    names = [text[at : at + width].split(b"\0")[0].decode("latin-1") for at in range(0, len(text), width)]
    for name, part in zip(names, parts, strict=False):
        if name == field:
            return part
    raise _BadFileError(f"has no field {field!r}, only {', '.join(names)[:100]}")


def _labels(element: _Element, order: str) -> Array:
    """Return an array of two dimensions as labels, uint8 (H, W)."""
    if element.type != _ARRAY:
        raise _BadFileError("is damaged: the labels are not an array")
    kind, shape, _, parts = _array(element, order)
    numbers = next(parts, None)
    if (
        kind not in _NUMERIC
        or len(shape) != 2
        or min(shape) < 1
        or not numbers
        or numbers.type not in _NUMBERS
    ):
        raise _BadFileError(f"has labels that are not a numeric array (H, W), but of shape {shape}")
    if math.prod(shape) > MAX_PIXELS:
        raise _BadFileError(f"has labels of shape {shape}, expected at most {MAX_PIXELS} elements")
    dtype = np.dtype(order + _NUMBERS[numbers.type])
    if len(numbers.data) != math.prod(shape) * dtype.itemsize:
        raise _BadFileError(f"is damaged: {len(numbers.data)} bytes for labels of shape {shape}")
    values = np.frombuffer(numbers.data, dtype).reshape(shape, order="F")  # MATLAB stores columns
    with np.errstate(invalid="ignore"):  # NaN becomes some integer, which differs from it in the next line
        labels = values.astype(np.uint8, order="C", casting="unsafe")
    if not np.array_equal(labels, values):
        raise _BadFileError("has labels that are not integers from 0 to 255")
    return labels
