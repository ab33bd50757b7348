"""How time and memory grow with the size of the image, the batch and the threads, beside PyTorch.

    python benchmarks/growth.py --network fcn4s-squeezenet --what inference

Each case runs in a process of its own, so that its peak of memory is measured separately.
"""

import argparse

from networks import NETWORKS, Comparison, installed

from minifcn.kernels.threads import num_threads

SIZES = ((120, 160), (240, 320), (360, 480), (720, 960))
BATCHES = (2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS), default="fcn4s-squeezenet")
    parser.add_argument("--what", choices=("inference", "training"), default="inference")
    parser.add_argument("--turns", type=int, default=3, help="of each library")
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    threads = num_threads()
    cases = [(size, 1, threads) for size in SIZES] + [((360, 480), batch, threads) for batch in BATCHES]
    cases += [((360, 480), 4, count) for count in range(1, threads)]
    print(f"{arguments.network}, {arguments.what}, float32, medians in ms")
    libraries = [name for name in ("minifcn", "eager") if name in installed()]
    comparison = Comparison(libraries, arguments.turns, 0.5)
    print(f"{'size':>9}{'batch':>7}{'threads':>9}{comparison.head}")
    for (height, width), batch, count in cases:
        line = comparison.time(arguments.network, arguments.what, batch, (height, width), count)
        print(f"{f'{width}x{height}':>9}{batch:7}{count:9}{line}", flush=True)
    comparison.write(arguments.json)


if __name__ == "__main__":
    main()
