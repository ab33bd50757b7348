"""Reads one array out of SBD's MATLAB files, and as little as possible of the rest.

MATLAB 5 files ("MAT-File Format", MathWorks): a header of 128 bytes, then elements, each a tag (type and
length) and its data, padded to 8 bytes; elements of up to 4 bytes have their data in the tag. An array is an
element that consists of elements: flags, dimensions, name, and then numbers, or, in a structure, the names of
its fields and an array for each.

SciPy's reader is not used: it takes 5 GB of memory for a damaged file of 230 KB, and crashes on others.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.classes import read_bytes
from minifcn.data.errors import ContentsError, DataError, StrPath
from minifcn.data.opening import MAX_PIXELS

Element: TypeAlias = tuple[int, memoryview]

_VARIABLE, _FIELD = "GTcls", "Segmentation"  # the structure with the labels of classes, and its field
_MAX_BYTES = 1 << 28  # of a file, and of all compressed data in it
_MAX_ELEMENTS = 10_000  # at one level, and fields of a structure
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ARRAY, _COMPRESSED = 14, 15  # types of elements
_STRUCTURE, _NUMERIC = 2, range(6, 16)  # classes of arrays: double, single, int8, ..., uint64


def read_segmentation(path: StrPath) -> Array:
    """Read the labels from a file of the Semantic Boundaries Dataset.

    Args:
        path: A MATLAB 5 file, compressed or not.

    Returns:
        uint8 (H, W).

    Raises:
        OSError: If the file cannot be opened.
        FileError: If there is no such file, it is damaged or too large, or has something other than labels.
    """
    data = read_bytes(Path(path), _MAX_BYTES)
    try:
        return _segmentation(data)
    except ContentsError as error:
        raise DataError(error.kind, path, str(error)) from None
    except (struct.error, zlib.error, ValueError, StopIteration) as error:
        raise DataError("unreadable", path, f"is damaged or truncated: {str(error)[:200]}") from None


def _segmentation(data: bytes) -> Array:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack(f"{order}H", data[124:126])[0] >> 8 != 1:
        newer = " (version 7.3 is HDF5: save it with -v7)" if b"MATLAB 7.3" in data[:20] else ""
        raise ContentsError(f"is not a MATLAB 5 file{newer}")
    left = _MAX_BYTES
    for kind, content in _elements(memoryview(data)[128:], order):
        if kind == _COMPRESSED:
            plain = _decompressed(content, left)
            left -= len(plain)
            kind, content = next(_elements(plain, order))
        if kind == _ARRAY:
            array_class, _, name, parts = _array(content, order)
            if name == _VARIABLE and array_class == _STRUCTURE:
                return _labels(_field(parts, order), order)
    raise ContentsError(f"has no structure {_VARIABLE!r}")


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield type and data of the elements one after the other."""
    at = number = 0
    while at + 8 <= len(data):
        number += 1
        if number > _MAX_ELEMENTS:
            raise ContentsError(f"has more than {_MAX_ELEMENTS:,} elements")
        kind, length = struct.unpack(f"{order}II", data[at : at + 8])
        if kind >> 16:  # a small element: length and type share four bytes, the data are the other four
            kind, length, start, at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            at = start + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            raise ValueError(f"an element of {length} bytes, {len(data) - start} are left")
        yield kind, data[start : start + length]


def _decompressed(data: memoryview, limit: int) -> memoryview:
    """Return decompressed data, of which at most `limit` bytes are ever in memory."""
    stream = zlib.decompressobj()
    plain = stream.decompress(data, max(limit, 1))  # 0 would mean no limit
    if stream.unconsumed_tail:
        raise ContentsError(f"has more than {_MAX_BYTES >> 20} MB of compressed data")
    return memoryview(plain)


def _array(data: memoryview, order: str) -> tuple[int, list[int], str, Iterator[Element]]:
    """Return class, dimensions and name of an array, and its other elements."""
    parts = _elements(data, order)
    (_, flags), (_, shape), (_, name) = islice(parts, 3)
    array_class = struct.unpack(f"{order}I", flags[:4])[0] & 0xFF
    return array_class, np.frombuffer(shape[:128], f"{order}i4").tolist(), _text(name), parts


def _field(parts: Iterator[Element], order: str) -> memoryview:
    """Return the field with the labels, an array, of a structure with one element."""
    (_, width), (_, names) = islice(parts, 2)
    (step,) = struct.unpack(f"{order}i", width)
    found = []
    if step < 1 or len(names) // step > _MAX_ELEMENTS:
        raise ContentsError(f"has names of {step} bytes in {len(names):,} bytes")
    for start, (kind, content) in zip(range(0, len(names), step), parts, strict=False):
        found.append(_text(names[start : start + step]))
        if found[-1] == _FIELD and kind == _ARRAY:
            return content
    raise ContentsError(f"has no field {_FIELD!r}, only {', '.join(found)[:100]}")


def _text(data: memoryview) -> str:
    """Return a name, which MATLAB limits to 63 characters."""
    return bytes(data[:64]).split(b"\0")[0].decode("latin-1")


def _labels(data: memoryview, order: str) -> Array:
    """Return an array of two dimensions as labels, uint8 (H, W)."""
    array_class, shape, _, parts = _array(data, order)
    if array_class not in _NUMERIC or len(shape) != 2 or not 0 < math.prod(shape) <= MAX_PIXELS:
        raise ContentsError(f"has labels that are not a numeric array (H, W), but of shape {tuple(shape)}")
    kind, numbers = next(parts)
    if kind not in _DTYPES:
        raise ContentsError(f"has labels of the unknown type {kind}")
    values = np.frombuffer(numbers, order + _DTYPES[kind]).reshape(shape, order="F")  # MATLAB stores columns
    with np.errstate(invalid="ignore"):  # NaN becomes some integer, which differs from it in the next line
        labels = values.astype(np.uint8, order="C", casting="unsafe")
    if not np.array_equal(labels, values):
        raise ContentsError("has labels that are not integers from 0 to 255")
    return labels
