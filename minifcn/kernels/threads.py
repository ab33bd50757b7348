"""How work is cut into strips and spread over the cores of a CPU.

A large operation is cut into pieces that fit the cache, and the pieces are handed to a pool of threads. NumPy
lets go of the interpreter's lock inside its loops and inside BLAS, so threads do run side by side. Meanwhile
BLAS is held to one thread, or two pools would fight over the same cores.
"""

import ctypes
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from minifcn.backend import Array, array_module

T = TypeVar("T")
R = TypeVar("R")

_scratch = threading.local()
_state: dict[str, Any] = {"threads": None, "pool": None, "blas": None}
_turn = threading.Lock()  # of two threads that have strips to run, one waits: there is one limit on BLAS


BUFFER = 1024
"""Elements of NumPy's buffers within strips. NumPy copies operands that do not lie in one run, such as a bias
beside rows of an image, through buffers; the usual 8192 elements take up to four times as long."""


class _Helpers:
    """Threads that wait for calls.

    An executor of the standard library keeps books on each call. There are hundreds of calls in a training
    step, and this one costs half as much.
    """

    def __init__(self, threads: int):
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._serve, name="minifcn", daemon=True).start()

    def call(self, function: Callable[[], None]) -> None:
        """Have one of them call a function, which must not raise anything."""
        self._calls.put(function)

    def shutdown(self) -> None:
        """Let them end."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _serve(self) -> None:
        np.setbufsize(BUFFER)
        while (function := self._calls.get()) is not None:
            function()
            del function  # and the arrays that it knows


class _Job:
    """A function and the strips that it is called with, by all threads at once.

    Each thread has a share of neighbouring strips, and what one wrote is mostly read by the same core in the
    next layer. Who is done takes from the shares of the others.
    """

    def __init__(self, function: Callable[[Any], Any], work: list[Any], workers: int):
        bounds = [len(work) * i // workers for i in range(workers + 1)]
        # Queues, for without the interpreter's lock two threads may not draw from one iterator.
        self._shares = [deque(range(*pair)) for pair in pairwise(bounds)]
        self._function, self._work = function, work
        self._results: list[Any] = [None] * len(work)
        self._errors: list[BaseException] = []
        self._helping: set[int] = set()
        self._done: SimpleQueue[None] = SimpleQueue()

    def help(self, first: int) -> None:
        """Take part, with a share to begin with."""
        self._helping.add(first)
        self._take(first)
        self._helping.remove(first)
        self._done.put(None)

    def run(self, helpers: _Helpers) -> list[Any]:
        """Have it done, and return the results when all are there. One of the errors is raised again."""
        try:
            for first in range(1, len(self._shares)):
                helpers.call(partial(self.help, first))
            self._take(0)
        finally:
            self._wait()
        results, errors = self._results, self._errors
        # A helper that wakes up late still has this object: it must not keep arrays alive until then.
        self._function, self._work, self._results, self._errors = abs, [], [], []
        if errors:
            raise errors[0]
        return results

    def _take(self, first: int) -> None:
        """Do strips until none is left."""
        try:
            _scratch.busy = True
            for share in self._shares[first:] + self._shares[:first]:
                while (i := _drawn(share)) is not None:
                    self._results[i] = self._function(self._work[i])
        except BaseException as error:
            self._errors.append(error)
            self._drop()  # nobody needs the others any more
        finally:
            _scratch.busy = False

    def _drop(self) -> None:
        """Leave no strip to be taken."""
        for share in self._shares:
            share.clear()

    def _wait(self) -> None:
        """Wait for the helpers that are at work; one that wakes up later finds nothing to take.

        Ctrl-C counts when they are done, for until then they write to arrays that are the caller's.
        """
        self._drop()  # there are some if Ctrl-C came before the caller took any
        while self._helping:
            try:
                self._done.get()
            except BaseException as error:
                self._errors.append(error)


def _drawn(share: deque[int]) -> int | None:
    """Return the next of a share, or `None`; another thread may draw from it at the same time."""
    try:
        return share.popleft()
    except IndexError:
        return None


def _forget_threads() -> None:
    """In a forked process, start anew: it has the pool, but none of its threads."""
    global _turn
    _state["pool"], _turn = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _keep_memory() -> None:
    """Ask the C library to keep the memory of large arrays for the next ones.

    By default it hands it back to the system, and fetching fresh pages for every result costs a fifth of a
    training step. Only glibc can be asked.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: 32 MB, the largest it takes
            libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: keep what is free at the end


def num_threads() -> int:
    """Return how many threads work on strips: the cores this process may use, unless told otherwise."""
    if _state["threads"] is None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        setting = os.environ.get("MINIFCN_NUM_THREADS", str(available))
        if not setting.isdecimal() or int(setting) < 1:
            raise ValueError(f"MINIFCN_NUM_THREADS must be an integer >= 1, got {setting!r}")
        _state["threads"] = int(setting)
    return int(_state["threads"])


def set_num_threads(threads: int) -> None:
    """Set how many threads work on strips, from now on and for the whole process.

    Results do not depend on it.

    Raises:
        ValueError: If it is no whole number from 1 on.

    Example:
        >>> before = num_threads()
        >>> set_num_threads(1)
        >>> num_threads()
        1
        >>> set_num_threads(before)
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1, got {threads!r}")
    with _turn:
        if _state["pool"] is not None:
            _state["pool"].shutdown()
            _state["pool"] = None
        _state["threads"] = threads


def parallel_map(function: Callable[[T], R], strips: Iterable[T], xp: Any = np) -> list[R]:
    """Call `function` on every strip, on all cores, and return the results in the order of the strips.

    A strip must write only to its own part of a result. Cutting must not depend on the number of threads;
    then neither does the result.

    Args:
        function: Called with one strip.
        strips: What to call it with.
        xp: The library that the arrays belong to. With CuPy the caller does all strips itself: a GPU spreads
            each of them over its own cores, and which GPU and which stream is in use, each thread says for
            itself.

    Example:
        >>> parallel_map(abs, [-1, 2, -3])
        [1, 2, 3]
    """
    work = list(strips)
    # A strip that cuts strips of its own is done by its thread, too: all others are taken.
    if xp is not np or getattr(_scratch, "busy", False):
        return [function(strip) for strip in work]
    workers = max(min(num_threads(), len(work)), 1)
    job = _Job(function, work, workers)
    with _turn:
        if _state["blas"] is None:
            _state["blas"] = ThreadpoolController()
            _keep_memory()
        if _state["pool"] is None:
            _state["pool"] = _Helpers(num_threads() - 1)
        with _state["blas"].limit(limits=1, user_api="blas"), np.errstate():
            np.setbufsize(BUFFER)
            results = job.run(_state["pool"])
    return results


def add_to(total: Array, part: Array) -> Array:
    """Add `part` to `total`, in place and on all cores, and return `total`.

    Example:
        >>> import numpy as np
        >>> add_to(np.ones(3), np.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    xp = array_module(total=total, part=part)
    parallel_map(lambda piece: xp.add(piece[0], piece[1], out=piece[0]), pieces(total, part), xp)
    return total


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product a @ b, some columns at a time.

    BLAS has threads of its own, which go on to wait for more work in a loop when theirs is done, and take the
    cores from strips that come next.

    Example:
        >>> import numpy as np
        >>> matmul(np.ones((2, 3)), np.ones((3, 1))).tolist()
        [[3.0], [3.0]]
    """
    xp = array_module(a=a, b=b)
    product: Array = xp.empty((len(a), b.shape[1]), a.dtype)
    step = max(b.shape[1] // 8, 64) if xp is np else max(b.shape[1], 1)

    def some_columns(start: int) -> None:
        xp.matmul(a, b[:, start : start + step], out=product[:, start : start + step])

    parallel_map(some_columns, range(0, b.shape[1], step), xp)
    return product


GPU_STRIP_BYTES = 1 << 28
"""Work space of a strip on a GPU, which takes one strip at a time and wants it large."""

SHARES = 8
"""Shares of the work, about, where strips are not independent, or would be too few."""


def shares_of(xp: Any) -> int:
    """Return how many shares to cut work into; a GPU takes it whole."""
    return SHARES if xp is np else 1


def pieces_of(total: int, size: int) -> Iterator[slice]:
    """Cut `total` into slices of nearly equal length, at most `size` long.

    Example:
        >>> list(pieces_of(7, 4))
        [slice(0, 3, None), slice(3, 7, None)]
    """
    count = -(-total // max(size, 1))
    bounds = [total * i // count for i in range(count + 1)] if count else []
    yield from map(slice, bounds, bounds[1:])


PIECE = 1 << 17
"""Elements of a piece: few enough for the piece of each operand to stay in the cache of a core."""


def pieces(*arrays: Array) -> list[tuple[Array, ...]]:
    """Cut arrays of one shape into flat views for `parallel_map`, for work that is done number by number.

    Arrays that do not lie in memory in one order, and those of a GPU, come back whole.

    Example:
        >>> import numpy as np
        >>> [(a.size, b.size) for a, b in pieces(np.zeros((512, 300)), np.zeros((512, 300)))]
        [(131072, 131072), (22528, 22528)]
    """
    if array_module(*arrays) is not np or not all(array.flags.c_contiguous for array in arrays):
        return [arrays]
    flat = [array.reshape(-1) for array in arrays]  # (...) -> (elements,), views
    return [tuple(array[start : start + PIECE] for array in flat) for start in range(0, flat[0].size, PIECE)]


def workspace(xp: Any, shape: tuple[int, ...], dtype: Any, slot: str = "") -> Array:
    """Return uninitialised work space that the calling thread may use until it asks for this slot again.

    On the CPU the same memory is handed out every time: fresh pages would cost as much as the work itself.
    CuPy keeps a pool of its own.
    """
    if xp is not np:
        fresh: Array = xp.empty(shape, dtype)
        return fresh
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffers: dict[str, Array] = _scratch.__dict__.setdefault("buffers", {})
    if slot not in buffers or buffers[slot].nbytes < size:
        buffers[slot] = np.empty(size, np.uint8)
    space: Array = buffers[slot][:size].view(dtype).reshape(shape)
    return space
