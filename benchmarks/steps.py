"""Training steps and inferences of whole networks, minifcn beside PyTorch.

python benchmarks/steps.py                               # the table
python benchmarks/steps.py --network fcn8s-vgg16 --batch 1 --what training
"""

import argparse
import json
from statistics import median
from typing import Any

from networks import JOBS, NETWORKS

from minifcn.backend import num_threads
from minifcn.cli.beside import Side, in_turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS))
    parser.add_argument("--what", choices=("inference", "training"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    print(f"{num_threads()} threads, float32, {arguments.size}, medians of {arguments.runs}")
    head = f"{'network':18}{'what':11}{'batch':>5}{'minifcn':>10}{'PyTorch':>10}{'ratio':>7}"
    print(f"{head}{'peak MB':>9}{'PyTorch':>9}")
    results: list[dict[str, Any]] = []
    for network in [arguments.network] if arguments.network else NETWORKS:
        for what in [arguments.what] if arguments.what else ("inference", "training"):
            for batch in [arguments.batch] if arguments.batch else (1, 4):
                sides = {library: Side() for library in JOBS}
                for library, side in sides.items():
                    side.make(JOBS[library], network, what, batch, (height, width))
                seconds = in_turn(sides, arguments.runs)
                ours, theirs = map(median, seconds.values())
                peaks = {library: side.peak_mb() for library, side in sides.items()}
                case = {"network": network, "what": what, "batch": batch, "size": arguments.size}
                results.append({**case, "seconds": seconds, "peak_mb": peaks})
                print(
                    f"{network:18}{what:11}{batch:5}{ours:9.3f}s{theirs:9.3f}s{ours / theirs:7.2f}"
                    + "".join(f"{peak:9.0f}" for peak in peaks.values()),
                    flush=True,
                )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
