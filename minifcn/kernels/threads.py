"""Chunks of work, spread over the cores of a CPU.

A large operation is cut into chunks that fit the cache, and a pool of threads works on them. NumPy releases
the interpreter's lock inside its loops and inside BLAS, so threads do run at the same time. Meanwhile BLAS is
limited to one thread, or two thread pools would compete for the same cores.
"""

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from minifcn.backend import Array, array_module
from minifcn.geometry import check_integer
from minifcn.kernels.workspace import cut, parts

T = TypeVar("T")
R = TypeVar("R")

BUFFER = 1024
"""Elements of NumPy's buffers within chunks. NumPy copies operands that are not contiguous, such as a bias
beside rows of an image, through buffers; with the usual 8192 elements this takes up to four times as long."""

MOST_THREADS = 1024

FLAT_CHUNK = 1 << 19
"""Elements of a chunk of element-wise work: so many that threads seldom wait for the interpreter's lock,
which each call of NumPy takes again at its end."""

_thread = threading.local()
_state: dict[str, Any] = {"threads": None, "pool": None, "blas": None}
_turn = threading.Lock()  # of two threads that have chunks to run, one waits: there is one limit on BLAS


class _Pool:
    """Threads that take calls from one queue, beside the calling thread.

    `ThreadPoolExecutor` does the same, but takes twice as long to pass on a call as a chunk of a small layer
    takes to run.
    """

    def __init__(self, threads: int):
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends a thread
        self.threads: list[threading.Thread] = []
        with suppress(RuntimeError):  # this platform has no threads, or no more: the caller does the work
            for _ in range(threads):
                thread = threading.Thread(target=self._work, name="minifcn", daemon=True)
                thread.start()
                self.threads.append(thread)

    def _work(self) -> None:
        np.setbufsize(BUFFER)
        while (call := self.calls.get()) is not None:
            call()
            del call  # and the arrays that it knows

    def submit(self, call: Callable[[], None], threads: int) -> None:
        """Let so many threads make a call, or as many as there are."""
        for _ in range(min(threads, len(self.threads))):
            self.calls.put(call)

    def shutdown(self) -> None:
        """End the threads when they have done their work."""
        for _ in self.threads:
            self.calls.put(None)
        for thread in self.threads:
            thread.join()


def _forget_threads() -> None:
    """In a forked process, start anew: it has the pool, but none of its threads."""
    global _turn
    _state["pool"], _turn = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _keep_memory() -> None:
    """Ask the C library to keep the memory of large arrays for the next ones.

    By default it returns it to the system, and fetching fresh pages for every result costs a fifth of a
    training step. Only glibc can be asked.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: 32 MB, the largest value that it accepts
            libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: keep what is free at the end


def num_threads() -> int:
    """Return how many threads work on chunks.

    By default these are the cores that this process may use, or the value of `MINIFCN_NUM_THREADS`.

    Raises:
        ValueError: If `MINIFCN_NUM_THREADS` is not an integer from 1 to 1024.

    Example:
        >>> num_threads() >= 1
        True
    """
    if _state["threads"] is None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        setting = os.environ.get("MINIFCN_NUM_THREADS", str(min(available, MOST_THREADS)))
        number = int(setting) if setting.isdecimal() and len(setting) < 1000 else setting
        _state["threads"] = check_integer(number, "MINIFCN_NUM_THREADS", 1, MOST_THREADS)
    return int(_state["threads"])


def set_num_threads(threads: int) -> None:
    """Set how many threads work on chunks, from now on and for the whole process.

    Results do not depend on it.

    Raises:
        ValueError: If it is not an integer from 1 to 1024.

    Example:
        >>> before = num_threads()
        >>> set_num_threads(1)
        >>> num_threads()
        1
        >>> set_num_threads(before)
    """
    threads = check_integer(threads, "threads", 1, MOST_THREADS)
    with _turn:
        if _state["pool"] is not None:
            _state["pool"].shutdown()
        _state.update(pool=None, threads=threads)


def parallel_map(function: Callable[[T], R], chunks: Iterable[T], xp: Any = np) -> list[R]:
    """Call `function` on every chunk, on all cores, and return the results in the order of the chunks.

    A chunk must write only to its own part of a result. How work is cut must not depend on the number of
    threads; then neither does the result. If a call raises an exception, or Ctrl-C interrupts, no further
    chunk is begun, and the exception is raised when no thread is working on a chunk any more.

    Args:
        function: Called with one chunk.
        chunks: What to call it with.
        xp: The library that the arrays belong to. With CuPy all chunks run in the calling thread: a GPU
            spreads each of them over its own cores, and the current GPU and stream belong to a thread.

    Example:
        >>> parallel_map(abs, [-1, 2, -3])
        [1, 2, 3]
    """
    work = list(chunks)
    # Chunks within a chunk run in its thread: all other threads are busy.
    if xp is not np or getattr(_thread, "busy", False):
        return [function(chunk) for chunk in work]
    with _turn:
        if _state["blas"] is None:
            _state["blas"] = ThreadpoolController()
            _keep_memory()
        with _state["blas"].limit(limits=1, user_api="blas"), np.errstate():
            np.setbufsize(BUFFER)
            return _run(function, work)


def _run(function: Callable[[T], R], work: list[T]) -> list[R]:
    """Call a function on all chunks, in this thread and in those of the pool."""
    results: list[Any] = [None] * len(work)
    waiting = deque(range(len(work)))
    running: set[int] = set()  # threads
    finished: SimpleQueue[None] = SimpleQueue()
    errors: list[BaseException] = []

    def run_chunks() -> None:
        running.add(threading.get_ident())  # before it takes a chunk
        _thread.busy = True
        try:
            while waiting:
                try:
                    i = waiting.popleft()
                except IndexError:  # another thread has taken the last one
                    break
                results[i] = function(work[i])
        except BaseException as error:
            errors.append(error)
            waiting.clear()
        finally:
            _thread.busy = False
            running.discard(threading.get_ident())
            finished.put(None)

    try:
        if len(work) > 1:
            if _state["pool"] is None:
                _state["pool"] = _Pool(num_threads() - 1)
            _state["pool"].submit(run_chunks, len(work) - 1)
    except BaseException as error:
        errors.append(error)
        waiting.clear()
    run_chunks()
    # Threads that begin only now find nothing to do. Ctrl-C has to wait for the others, which write to arrays
    # of the caller.
    waiting.clear()
    while running:
        try:
            finished.get()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def flat_chunks(*arrays: Array) -> list[tuple[Array, ...]]:
    """Cut arrays of one shape into flat views for `parallel_map`, for element-wise work.

    Arrays that are not C-contiguous, and those of a GPU, are returned whole.

    Example:
        >>> import numpy as np
        >>> [(a.size, b.size) for a, b in flat_chunks(np.zeros((512, 300)), np.zeros((512, 300)))]
        [(153600, 153600)]
    """
    if array_module(*arrays) is not np or not all(array.flags.c_contiguous for array in arrays):
        return [arrays]
    flat = [array.reshape(-1) for array in arrays]  # (...) -> (elements,), views
    if 0 < arrays[0].size <= FLAT_CHUNK:
        return [tuple(flat)]
    slices = list(cut(arrays[0].size, FLAT_CHUNK))
    return list(zip(*([array[some] for some in slices] for array in flat), strict=True))


def add(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return a + b, for arrays of one shape, on all cores; with `out=a` in place.

    Example:
        >>> import numpy as np
        >>> add(np.ones(3), np.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    xp = array_module(a=a, b=b)
    total: Array = xp.empty(a.shape, a.dtype) if out is None else out
    parallel_map(lambda chunk: xp.add(chunk[0], chunk[1], out=chunk[2]), flat_chunks(a, b, total), xp)
    return total


def scaled(a: Array, factors: Array) -> Array:
    """Return an array (N, ...) with each of its N items times a factor, on all cores.

    Example:
        >>> import numpy as np
        >>> scaled(np.ones((2, 1, 2)), np.array([3.0, 4.0])).tolist()
        [[[3.0, 3.0]], [[4.0, 4.0]]]
    """
    xp = array_module(a=a, factors=factors)
    rows = a.reshape(len(a), -1)  # (N, ...) -> (N, elements)
    product: Array = xp.empty(rows.shape, a.dtype)

    def some_rows(some: slice) -> None:
        xp.multiply(rows[some], factors[some, None], out=product[some])

    step = max(FLAT_CHUNK // max(rows.shape[1], 1), 1) if xp is np else len(a)
    parallel_map(some_rows, cut(len(a), step), xp)
    return product.reshape(a.shape)


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product a @ b, some columns at a time.

    The threads of BLAS itself go on to wait for more work in a loop when theirs is done, and take the cores
    from chunks that come next.

    Example:
        >>> import numpy as np
        >>> matmul(np.ones((2, 3)), np.ones((3, 1))).tolist()
        [[3.0], [3.0]]
    """
    xp = array_module(a=a, b=b)
    product: Array = xp.empty((len(a), b.shape[1]), a.dtype)
    step = max(b.shape[1] // parts(xp), 64) if xp is np else max(b.shape[1], 1)

    def some_columns(columns: slice) -> None:
        xp.matmul(a, b[:, columns], out=product[:, columns])

    parallel_map(some_columns, cut(b.shape[1], step), xp)
    return product
