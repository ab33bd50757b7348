"""How time and memory grow with the size of the image, the batch and the threads, beside PyTorch.

    python benchmarks/growth.py --network fcn4s-squeezenet --what inference

Each case is a process of its own, so its peak of memory is its own, too.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

from networks import JOBS, NETWORKS

from minifcn.backend import num_threads, set_num_threads
from minifcn.cli.beside import Side, in_turn

SIZES = ((120, 160), (240, 320), (360, 480), (720, 960))
BATCHES = (1, 2, 4, 8)


def with_threads(threads: int, library: str, *arguments: Any) -> Callable[[], Any]:
    """Return a job of a library that works with so many threads."""
    set_num_threads(threads)
    return JOBS[library](*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS), default="fcn4s-squeezenet")
    parser.add_argument("--what", choices=("inference", "training"), default="inference")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    threads = num_threads()
    cases = [(size, 1, threads) for size in SIZES] + [((360, 480), batch, threads) for batch in BATCHES[1:]]
    cases += [((360, 480), 4, count) for count in range(1, threads)]
    print(f"{arguments.network}, {arguments.what}, float32, medians of {arguments.runs}")
    print(f"{'size':>9}{'batch':>7}{'threads':>9}{'minifcn':>10}{'PyTorch':>10}{'ratio':>7}", end="")
    print(f"{'us/pixel':>10}{'peak MB':>9}{'PyTorch':>9}")
    results: list[dict[str, Any]] = []
    for (height, width), batch, count in cases:
        sides = {library: Side() for library in JOBS}
        for library, side in sides.items():
            side.make(with_threads, count, library, arguments.network, arguments.what, batch, (height, width))
        seconds = in_turn(sides, arguments.runs)
        ours, theirs = map(median, seconds.values())
        peaks = {library: side.peak_mb() for library, side in sides.items()}
        case = {"size": [width, height], "batch": batch, "threads": count}
        results.append({**case, "seconds": seconds, "peak_mb": peaks})
        each = 1e6 * ours / (height * width * batch)
        print(
            f"{f'{width}x{height}':>9}{batch:7}{count:9}{ours:9.3f}s{theirs:9.3f}s{ours / theirs:7.2f}"
            f"{each:10.2f}" + "".join(f"{peak:9.0f}" for peak in peaks.values()),
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
