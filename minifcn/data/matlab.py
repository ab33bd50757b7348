"""The one array that is wanted out of SBD's MATLAB files, and as little as possible of the rest.

MATLAB 5 files ("MAT-File Format", MathWorks): a header of 128 bytes, then elements, each a tag (type and
length) and its data, padded to 8 bytes; elements of up to 4 bytes have them inside the tag. An array is an
element made of elements: flags, dimensions, name, and then numbers, or, in a structure, names of fields and
an array for each.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError
from minifcn.data.images import MAX_PIXELS

_MAX_BYTES = 1 << 28  # of a file, and of what is compressed in it
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT8, _INT32, _UINT32, _ARRAY, _COMPRESSED = 1, 5, 6, 14, 15
_STRUCTURE, _NUMERIC = 2, range(6, 16)  # classes of arrays: double, single, int8, ..., uint64


class _BadFileError(ValueError):
    """The file is not what it should be."""


class _Element(NamedTuple):
    type: int
    data: memoryview


def read_segmentation(
    path: str | os.PathLike[str], variable: str = "GTcls", field: str = "Segmentation"
) -> Array:
    """Read the labels out of a file of the Semantic Boundaries Dataset.

    Args:
        path: A MATLAB 5 file, compressed or not.
        variable: Name of a structure in it.
        field: The field of the structure that holds the labels.

    Returns:
        uint8 (H, W).

    Raises:
        OSError: If there is no such file, or it may not be read.
        FileError: If it is no such file, is damaged, too large, or holds anything but labels there.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError("missing", path, "is not there, or is not a file")
    if file.stat().st_size > _MAX_BYTES:
        raise DataError("unreadable", path, f"is longer than {_MAX_BYTES >> 20} MB")
    try:
        return _segmentation(file.read_bytes(), variable, field)
    except _BadFileError as error:
        raise DataError("unreadable", path, str(error)) from None


def _segmentation(data: bytes, variable: str, field: str) -> Array:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if len(data) < 128 or order is None or struct.unpack(f"{order}H", data[124:126])[0] >> 8 != 1:
        newer = " (of version 7.3, that is HDF5: save it with -v7)" if b"MATLAB 7.3" in data[:20] else ""
        raise _BadFileError(f"is no MATLAB 5 file{newer}")
    for element in _elements(memoryview(data)[128:], order):
        if element.type == _COMPRESSED:
            element = next(_elements(memoryview(_inflated(element.data)), order), element)
        if element.type == _ARRAY:
            kind, _, name, rest = _array(element, order)
            if name == variable and kind == _STRUCTURE:
                return _labels(_field(rest, field, order), order)
    raise _BadFileError(f"holds no structure {variable!r}")


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that lie one after the other in the data."""
    at = 0
    while at + 8 <= len(data):
        first, length = struct.unpack(f"{order}II", data[at : at + 8])
        if first >> 16:  # a small element: length and type share four bytes, the data are the other four
            kind, length, start, at = first & 0xFFFF, first >> 16, at + 4, at + 8
            if length > 4:
                raise _BadFileError(f"is damaged: a small element of {length} bytes")
        else:
            kind, start = first, at + 8
            at = start + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            raise _BadFileError(
                f"is damaged or cut off: an element of {length} bytes, {len(data) - start} are left"
            )
        yield _Element(kind, data[start : start + length])


def _inflated(data: memoryview) -> bytes:
    """Return what is compressed, up to the limit and not a byte further."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise _BadFileError(f"is damaged: {error}") from None
    if stream.unconsumed_tail:
        raise _BadFileError(f"holds more than {_MAX_BYTES >> 20} MB")
    return plain


def _array(element: _Element, order: str) -> tuple[int, tuple[int, ...], str, Iterator[_Element]]:
    """Return class, dimensions, name and the further elements of an array."""
    parts = _elements(element.data, order)
    flags, size, name = next(parts, None), next(parts, None), next(parts, None)
    if flags is None or size is None or name is None:
        raise _BadFileError("is damaged: an array without flags, dimensions and name")
    if (flags.type, size.type, name.type) != (_UINT32, _INT32, _INT8) or len(flags.data) != 8:
        raise _BadFileError("is damaged: an array begins with elements of the wrong types")
    kind = struct.unpack(f"{order}I", flags.data[:4])[0] & 0xFF
    if len(size.data) % 4 or not 8 <= len(size.data) <= 128:
        raise _BadFileError(f"is damaged: dimensions of {len(size.data)} bytes")
    shape = struct.unpack(f"{order}{len(size.data) // 4}i", size.data)
    return kind, shape, bytes(name.data).decode("latin-1"), parts


def _field(parts: Iterator[_Element], field: str, order: str) -> _Element:
    """Return one field of a structure of one element; the others are passed over."""
    width, names = next(parts, None), next(parts, None)
    if width is None or names is None or width.type != _INT32 or len(width.data) != 4 or names.type != _INT8:
        raise _BadFileError("is damaged: a structure without names of fields")
    (step,) = struct.unpack(f"{order}i", width.data)
    if step < 1:
        raise _BadFileError(f"is damaged: names of fields of {step} characters")
    texts = bytes(names.data)
    fields = [texts[at : at + step].split(b"\0")[0].decode("latin-1") for at in range(0, len(texts), step)]
    for name, part in zip(fields, parts, strict=False):
        if name == field:
            return part
    raise _BadFileError(f"has no field {field!r}, only {', '.join(fields)[:100]}")


def _labels(element: _Element, order: str) -> Array:
    """Return an array of two dimensions as labels."""
    if element.type != _ARRAY:
        raise _BadFileError("is damaged: the labels are no array")
    kind, shape, _, parts = _array(element, order)
    numbers = next(parts, None)
    if (
        kind not in _NUMERIC
        or len(shape) != 2
        or min(shape) < 1
        or numbers is None
        or numbers.type not in _NUMBERS
    ):
        raise _BadFileError(f"is damaged: the labels are no array of numbers (H, W), but of shape {shape}")
    if math.prod(shape) > MAX_PIXELS:
        raise _BadFileError(
            f"has labels of {shape[0]} x {shape[1]}, expected {MAX_PIXELS // 10**6} million at most"
        )
    dtype = np.dtype(order + _NUMBERS[numbers.type])
    if len(numbers.data) != math.prod(shape) * dtype.itemsize:
        raise _BadFileError(f"is damaged: {len(numbers.data)} bytes for labels of shape {shape}")
    values = np.frombuffer(numbers.data, dtype).reshape(shape, order="F")  # MATLAB goes down the columns
    with np.errstate(invalid="ignore"):  # NaN becomes something else, which the next line sees
        labels = values.astype(np.uint8, order="C", casting="unsafe")
    if not np.array_equal(labels, values):
        raise _BadFileError("has labels that are no whole numbers from 0 to 255")
    return labels
