"""Training steps and inferences of whole networks, minifcn beside PyTorch.

    python benchmarks/steps.py                               # the table
    python benchmarks/steps.py --network fcn8s-vgg16 --batch 1 --what training

Each library works in a process of its own, so that neither finds the other's threads or memory; the two take
turns, run by run, so that both meet the same moods of the machine. Medians, and the ratio of medians.
"""

import argparse
import json
import multiprocessing as mp
import os
import platform
import resource
import time
from statistics import median
from typing import Any

from networks import JOBS, NETWORKS


def worker(pipe: Any, library: str, case: tuple[Any, ...]) -> None:
    """Time one run whenever asked."""
    job = JOBS[library](*case)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while pipe.recv():
        started = time.perf_counter()
        job()
        pipe.send(time.perf_counter() - started)
    pipe.send((base, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def compare(case: tuple[Any, ...], runs: int) -> dict[str, Any]:
    """Return seconds and memory of both libraries on one case."""
    context = mp.get_context("spawn")
    pipes = {}
    for library in JOBS:
        pipes[library], end = context.Pipe()
        context.Process(target=worker, args=(end, library, case), daemon=True).start()
    seconds: dict[str, list[float]] = {library: [] for library in JOBS}
    for _ in range(runs + 1):
        for library, pipe in pipes.items():
            pipe.send(True)
            seconds[library].append(pipe.recv())
    result: dict[str, Any] = {"case": case}
    for library, pipe in pipes.items():
        pipe.send(False)
        base, peak = pipe.recv()
        result[library] = {"seconds": seconds[library][1:], "base_kb": base, "peak_kb": peak}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS))
    parser.add_argument("--what", choices=("inference", "training"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    os.environ.setdefault("MINIFCN_NUM_THREADS", "2")
    width, height = map(int, arguments.size.split("x"))
    print(f"{platform.processor() or platform.machine()}, 2 threads, {arguments.size}, float32; medians")
    print(f"{'network':18}{'what':11}{'batch':>5}{'minifcn':>10}{'PyTorch':>10}{'ratio':>7}{'peak MB':>9}{'PyTorch':>9}")
    results = []
    for network in [arguments.network] if arguments.network else NETWORKS:
        for what in [arguments.what] if arguments.what else ("inference", "training"):
            for batch in [arguments.batch] if arguments.batch else (1, 4):
                result = compare((network, what, batch, (height, width)), arguments.runs)
                results.append(result)
                ours, theirs = (median(result[library]["seconds"]) for library in ("minifcn", "torch"))
                peaks = (result[library]["peak_kb"] // 1000 for library in ("minifcn", "torch"))
                print(
                    f"{network:18}{what:11}{batch:5}{ours:9.3f}s{theirs:9.3f}s{ours / theirs:7.2f}"
                    + "".join(f"{peak:9}" for peak in peaks),
                    flush=True,
                )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
