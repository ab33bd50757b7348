"""What is read from a file of weights, whatever its format."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from minifcn.files import FileError

Numbers: TypeAlias = npt.NDArray[Any]
"""An array of numbers of any kind."""

MAX_BYTES = 10**9
"""What the tensors of a file may take: 1 GB, about twice as much as VGG16 has."""


@dataclass(frozen=True)
class Tensors:
    """What a file of weights holds.

    Attributes:
        arrays: The tensors by name. Half precision has become float32; all else is as it was.
        metadata: What the file says about them, as texts.
        format: "safetensors", "npz" or "PyTorch".
        dtypes: What each tensor was in the file: "float16".

    Example:
        >>> import numpy as np
        >>> Tensors({"bias": np.zeros(3, np.float32)}).arrays["bias"].shape
        (3,)
    """

    arrays: dict[str, Numbers]
    metadata: dict[str, str] = field(default_factory=dict)
    format: str = ""
    dtypes: dict[str, str] = field(default_factory=dict)


def check_size(file: Path, size: int) -> None:
    """Refuse tensors that would take too much memory, before it is taken.

    Raises:
        FileError: If there are more than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise FileError(f"{file} declares tensors of {size:,} bytes, and at most {MAX_BYTES:,} are read")


def check_shape(file: Path, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a shape that no array has, such as one of absurd size beside an axis of length zero.

    Raises:
        FileError: If there are more than 8 axes, a negative one, or more than `MAX_BYTES` entries.
    """
    if len(shape) > 8 or any(axis < 0 for axis in shape) or math.prod(filter(None, shape)) > MAX_BYTES:
        raise FileError(f"{file}: {shown(name)} declares the shape {shown(shape)}, which no tensor here has")


def shown(name: object, limit: int = 100) -> str:
    """Return a text from a file as it may stand in a message: not too long, without control characters."""
    text = str(name)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
