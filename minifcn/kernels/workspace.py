"""Scratch memory that is used again, and slices into which work is cut."""

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from minifcn.backend import Array

CHUNK_BYTES = 1 << 23
"""Workspace of a chunk: what a cache holds, and long enough for the work on it to outweigh the few
microseconds that each call of NumPy costs where threads take turns in Python."""

GPU_CHUNK_BYTES = 1 << 28
"""Workspace of a chunk on a GPU, which takes one chunk at a time and should get a large one."""

PARTS = 8
"""Chunks, about, where chunks are not independent or would be too few."""

_thread = threading.local()


def chunk_bytes(xp: Any) -> int:
    """Return the workspace that a chunk should have."""
    return CHUNK_BYTES if xp is np else GPU_CHUNK_BYTES


def parts(xp: Any) -> int:
    """Return into how many parts to cut work of which each part has a price; a GPU takes it whole."""
    return PARTS if xp is np else 1


def cut(total: int, size: int) -> Iterator[slice]:
    """Cut `range(total)` into slices of nearly equal length, at most `size` long.

    Example:
        >>> list(cut(7, 4))
        [slice(0, 3, None), slice(3, 7, None)]
    """
    count = -(-total // max(size, 1))
    bounds = [total * i // count for i in range(count + 1)] if count else []
    return map(slice, bounds, bounds[1:])


def workspace(xp: Any, shape: tuple[int, ...], dtype: Any, slot: str = "") -> Array:
    """Return an uninitialised array that the calling thread may use until it asks for this slot again.

    On the CPU the same memory is returned every time: fresh pages would cost as much as the work itself. CuPy
    has a memory pool of its own.

    Args:
        xp: The array library.
        shape: Shape of the array.
        dtype: Its dtype.
        slot: Arrays of different slots do not overlap.

    Example:
        >>> first, again = workspace(np, (4, 5), "float32"), workspace(np, (3, 2), "float32")
        >>> np.shares_memory(first, again)
        True
    """
    if xp is not np:
        fresh: Array = xp.empty(shape, dtype)
        return fresh
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffers: dict[str, Array] = _thread.__dict__
    if slot not in buffers or buffers[slot].nbytes < size:
        buffers[slot] = np.empty(size, np.uint8)
    space: Array = buffers[slot][:size].view(dtype).reshape(shape)
    return space
