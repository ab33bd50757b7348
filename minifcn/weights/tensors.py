"""Tensors from files, and what all readers check before they take memory for them."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minifcn.backend import Array
from minifcn.files import FileError

MAX_BYTES = 10**9
"""Limit for all tensors of a file, as they are after reading: 1 GB, about twice the size of VGG16."""

MAX_TENSORS = 20_000
"""Limit for the number of tensors of a file."""

WIDTHS = {"bfloat16": 4, "bool": 1, "float16": 4, "float32": 4, "float64": 8}
WIDTHS |= {f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""Bytes of an element after reading, by the names of the dtypes that are read."""


@dataclass(frozen=True)
class Tensors:
    """Contents of a file of weights.

    Attributes:
        arrays: The tensors by name. Half precision has become float32; all else is as in the file.
        metadata: Further texts in the file.
        format: "safetensors", "npz" or "PyTorch".
        dtypes: Dtype of each tensor in the file, such as "float16".
        inside: Names of the nested entries in which the tensors were, such as ("state_dict",).
        prefix: What was removed from the beginning of every name, such as "module.".

    Example:
        >>> Tensors({"bias": np.zeros(3, np.float32)}).arrays["bias"].shape
        (3,)
    """

    arrays: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    format: str = ""
    dtypes: dict[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    prefix: str = ""


def shown(text: object, limit: int = 100) -> str:
    """Return a text from a file for a message: shortened, and without control characters.

    Example:
        >>> shown("abcdef", 4)
        'abc…'
    """
    text = str(text)[: limit + 1]
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(names: Collection[str], most: int = 3) -> str:
    """Return the first names of a collection, and how many more there are, for a message.

    Example:
        >>> listed(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name, 300) for name in list(names)[:most]) + more


def check_declared(file: Path, tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> None:
    """Refuse tensors that are too many or too large, or have shapes that no array has.

    Args:
        file: Where they come from.
        tensors: Name, dtype and shape of each.

    Raises:
        FileError: It names the file, and the tensor if one alone is wrong.
    """
    size = 0
    for number, (name, dtype, shape) in enumerate(tensors, 1):
        if number > MAX_TENSORS:
            raise FileError(f"{file} declares more than {MAX_TENSORS:,} tensors")
        if dtype not in WIDTHS:
            raise FileError(f"{file}: {shown(name)} holds {shown(dtype)}, expected real numbers")
        # a huge shape with an axis of length zero is no shape of an array, either
        if (
            len(shape) > 8
            or not all(0 <= axis <= MAX_BYTES for axis in shape)
            or math.prod(filter(None, shape)) > 2 * MAX_BYTES
        ):
            most = f"at most 8 axes and {MAX_BYTES:,} elements"
            raise FileError(f"{file}: {shown(name)} declares a shape that is refused, expected {most}")
        size += math.prod(shape) * WIDTHS[dtype]
    check_size(file, size)


def check_size(file: Path, size: int) -> None:
    """Refuse tensors that are larger than the limit when all are read.

    Raises:
        FileError: It names the file and the size.
    """
    if size > MAX_BYTES:
        raise FileError(f"{file} declares tensors of {size:,} bytes, and at most {MAX_BYTES:,} are read")


def widened(array: Array, dtype: str) -> Array:
    """Return the values of a file in native byte order and C order; half precision becomes float32.

    Args:
        array: As in the file; for bfloat16, which NumPy does not have, its bits.
        dtype: Name of the dtype in the file.

    Example:
        >>> widened(np.array([0x3FC0], np.uint16), "bfloat16")
        array([1.5], dtype=float32)
    """
    if dtype == "bfloat16":  # the upper half of a float32
        bits = array.astype(np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return array.astype("float32" if dtype == "float16" else dtype, order="C", copy=False)


def check_finite(name: str, array: Array) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: With the name, and how many there are.

    Example:
        >>> check_finite("fc.bias", np.array([0.0, np.inf]))
        Traceback (most recent call last):
            ...
        ValueError: 1 of 2 values of fc.bias are NaN or infinite
    """
    finite = np.isfinite(array)
    if not finite.all():
        count = array.size - np.count_nonzero(finite)
        raise ValueError(f"{count:,} of {array.size:,} values of {shown(name)} are NaN or infinite")
