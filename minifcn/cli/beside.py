"""Two libraries side by side: each in a process of its own, taking turns run by run.

So neither finds the other's threads or memory, and both meet the same moods of a machine that others use,
too. What is quoted are medians, and the ratio of medians.
"""

import multiprocessing as mp
import time
from collections.abc import Callable
from typing import Any


class Side:
    """One library, in a process that waits for work."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self._pipe, end = context.Pipe()
        context.Process(target=_serve, args=(end,), daemon=True).start()

    def make(self, maker: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        """Make what is to be timed there."""
        self._pipe.send((maker, arguments))
        self._answer()

    def run(self) -> float:
        """Run it once, and return the seconds that it took."""
        self._pipe.send("run")
        return float(self._answer())

    def peak_mb(self) -> float:
        """Return the most memory that the process has had."""
        self._pipe.send("memory")
        return float(self._answer()) / 1e3

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def in_turn(sides: dict[str, Side], runs: int, *, warm_up: bool = False) -> dict[str, list[float]]:
    """Return the seconds of each side's runs, after one that does not count.

    Args:
        sides: By name.
        runs: How many for each side.
        warm_up: Run once more, uncounted, at each turn. Otherwise what takes a few milliseconds finds caches
            that the other side has filled, and cores that have gone to sleep meanwhile.
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
    """Do what is asked for until nobody asks any more."""
    job: Callable[[], Any] | None = None
    while True:
        try:
            message = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if message == "memory":
                import resource  # not on Windows, and only asked for in benchmarks/

                pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            elif message == "run" and job is not None:
                started = time.perf_counter()
                job()
                pipe.send(time.perf_counter() - started)
            else:
                maker, arguments = message
                job = None  # lets go of its arrays first
                job = maker(*arguments)
                pipe.send(None)
        except Exception as error:  # whatever it is, it is raised where the work was asked for
            pipe.send(error)
