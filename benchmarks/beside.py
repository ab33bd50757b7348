"""Compare libraries: each runs in its own process, and they alternate.

So threads and memory of one do not affect the other, and both see the same background load. Results are
medians, and ratios of medians.
"""

import multiprocessing as mp
import time
from collections.abc import Callable
from typing import Any


class Side:
    """A process for one library, which waits for work."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self._pipe, end = context.Pipe()
        context.Process(target=_serve, args=(end,), daemon=True).start()

    def make(self, maker: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        """Call `maker` in the process; the function that it returns is what `run` times."""
        self._pipe.send((maker, arguments))
        self._answer()

    def run(self) -> float:
        """Run the function once, and return the seconds."""
        self._pipe.send("run")
        return float(self._answer())

    def peak_mb(self) -> float:
        """Return the peak memory of the process in MB."""
        self._pipe.send("memory")
        return float(self._answer()) / 1e3

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def in_turn(sides: dict[str, Side], runs: int, *, warm_up: bool = False) -> dict[str, list[float]]:
    """Return the seconds of each side's runs, after a first run that is not counted.

    Args:
        sides: The sides by name.
        runs: Number of runs for each side.
        warm_up: Precede each run by one that is not counted. Short runs would otherwise find the caches
            filled by the other side, and sleeping cores.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(runs + 1):
        for name, side in sides.items():
            if warm_up:
                side.run()
            taken = side.run()
            if i:
                seconds[name].append(taken)
    return seconds


def _serve(pipe: Any) -> None:
    """Work until the other end of the pipe is closed."""
    job: Callable[[], Any] | None = None
    while True:
        try:
            message = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if message == "memory":
                import resource  # not on Windows

                pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            elif message == "run" and job is not None:
                started = time.perf_counter()
                job()
                pipe.send(time.perf_counter() - started)
            else:
                maker, arguments = message
                job = None  # frees its arrays first
                job = maker(*arguments)
                pipe.send(None)
        except Exception as error:  # raised in the other process
            pipe.send(error)
