"""Compare libraries: each runs in a process of its own, and they take turns.

So threads and memory of one do not affect the other, and all see the same background load. Before each turn
nothing runs for a moment: idle threads of a library wait for more work in a loop, and would take the cores
from the one that is timed next.
"""

import multiprocessing as mp
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

PAUSE = 0.1
"""Seconds before a turn; threads of OpenBLAS and OpenMP go to sleep after less than 50 ms without work."""


class Side:
    """A process for one library, which waits for work."""

    def __init__(self) -> None:
        kept = without_overrides(os.environ)
        for name in os.environ.keys() - kept.keys():
            del os.environ[name]
        context = mp.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end,), daemon=True)
        self._process.start()
        end.close()  # so that the end of the process is noticed here

    def make(self, maker: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        """Call `maker` in the process; the function that it returns is what is timed."""
        self._ask("make", maker, *arguments)

    def turn(self, seconds: float) -> list[float]:
        """Run the function for so many seconds, at least twice, and return the times of all but the first."""
        time.sleep(PAUSE)
        taken: list[float] = self._ask("run", seconds)
        return taken

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what another function returns in the process."""
        time.sleep(PAUSE)
        return self._ask("call", function, *arguments)

    def peak_mb(self) -> float:
        """Return the peak memory of the process in MB."""
        return float(self._ask("call", _peak)) / 1e3

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def _ask(self, *message: Any) -> Any:
        self._pipe.send(message)
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process has ended, perhaps for lack of memory") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def in_turn(sides: Mapping[str, Side], turns: int = 3, seconds: float = 0.3) -> dict[str, list[float]]:
    """Return the seconds of each side's runs, in so many turns of so many seconds for each side."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            taken[name] += side.turn(seconds)
    return taken


def without_overrides(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which all libraries choose their kernels and threads as usual."""
    prefixes = "OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_"
    return {
        name: value
        for name, value in environment.items()
        if "BLAS" not in name and not name.startswith(prefixes)
    }


def processor() -> str:
    """Return the name of the processor and the number of its cores that this process may use."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        name = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def times(job: Callable[[], Any], seconds: float) -> list[float]:
    """Run a function for so many seconds, at least twice, and return the times of all runs but the first."""
    clock = [time.perf_counter()]
    while clock[-1] - clock[0] < seconds or len(clock) < 3:
        job()
        clock.append(time.perf_counter())
    return [after - before for before, after in pairwise(clock[1:])]


def _peak() -> int:
    """Return the peak memory of this process in KB."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _serve(pipe: Any) -> None:
    """Work until the other end of the pipe is closed."""
    job: Any = None
    while True:
        try:
            what, *given = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if what == "run":
                pipe.send(times(job, *given))
            elif what == "call":
                function, *arguments = given
                pipe.send(function(*arguments))
            else:
                maker, *arguments = given
                job = None  # frees its arrays first
                job = maker(*arguments)
                job()  # compiles, plans and takes memory
                pipe.send(None)
        except Exception as error:  # raised in the other process
            try:
                pipe.send(error)
            except Exception:  # an error that cannot be sent
                pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
