"""Tensors from safetensors files."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from minifcn.files import FileError
from minifcn.weights.tensors import Numbers, Tensors, check_shape, check_size, shown

MAX_HEADER = 100_000_000
"""Bytes that the library takes for the header of a file."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: Path) -> Tensors:
    """Read the tensors of a safetensors file; see `read_tensors`.

    The library checks the header, in which the tensors lie one after the other without gaps. They are read
    here, for NumPy has no bfloat16.
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
        check_size(file, file.stat().st_size - 8 - length)
        data.seek(8 + length)
        for name, described in slices.items():
            dtype = _DTYPES.get(described.get_dtype())
            if dtype is None:
                raise FileError(
                    f"{file}: {shown(name)} is {described.get_dtype()}, expected one of {', '.join(_DTYPES)}"
                )
            shape = tuple(described.get_shape())
            check_shape(file, name, shape)
            tensors.arrays[name] = _read(data, dtype, shape)
            tensors.dtypes[name] = dtype
    return tensors


def _read(data: BinaryIO, dtype: str, shape: tuple[int, ...]) -> Numbers:
    """Read the next array; half precision becomes float32."""
    bits = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
    array = np.fromfile(data, bits, math.prod(shape)).reshape(shape)
    if dtype == "bfloat16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32 if dtype == "float16" else dtype, copy=False)
