"""Training steps and inference of whole networks: minifcn, PyTorch in three ways, and onnxruntime.

    python benchmarks/steps.py --plot speed.png    # the table, and a figure of it
    python benchmarks/steps.py --network fcn4s-squeezenet --what training --batch 1 --sides minifcn eager

Each side runs in a process of its own, and they take turns. Libraries that are not installed are left out.
"""

import argparse

from beside import processor
from networks import NETWORKS, Comparison, installed

from minifcn.kernels.threads import num_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="*", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--what", choices=("inference", "training"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--sides", nargs="*", choices=installed(), default=installed())
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn, at least two runs")
    parser.add_argument("--json", help="file for the raw results")
    parser.add_argument("--plot", help="file for a figure, such as speed.png")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    comparison = Comparison(arguments.sides, arguments.turns, arguments.seconds)
    print(processor())
    print(f"{num_threads()} threads, float32, {arguments.size}; medians in ms of {arguments.turns} turns")
    print(f"{'network':18}{'what':11}{'batch':>5}{comparison.head}")
    for network in arguments.network:
        for what in [arguments.what] if arguments.what else ("inference", "training"):
            for batch in [arguments.batch] if arguments.batch else NETWORKS[network].batches:
                line = comparison.time(network, what, batch, (height, width), num_threads())
                print(f"{network:18}{what:11}{batch:5}{line}", flush=True)
    print(*comparison.errors, sep="\n")
    comparison.write(arguments.json)
    comparison.plot(arguments.plot)


if __name__ == "__main__":
    main()
