"""Training steps and inference of whole networks, minifcn beside PyTorch.

python benchmarks/steps.py --plot speed.png    # the table, and a figure of it
python benchmarks/steps.py --network fcn8s-vgg16 --batch 1 --what training
"""

import argparse

from networks import HEAD, NETWORKS, Comparison

from minifcn.kernels.threads import num_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS))
    parser.add_argument("--what", choices=("inference", "training"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", help="file for the raw results")
    parser.add_argument("--plot", help="file for a figure, such as speed.png")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    print(f"{num_threads()} threads, float32, {arguments.size}, medians of {arguments.runs}")
    print(f"{'network':18}{'what':11}{'batch':>5}{HEAD}")
    comparison = Comparison(arguments.runs)
    for network in [arguments.network] if arguments.network else NETWORKS:
        for what in [arguments.what] if arguments.what else ("inference", "training"):
            for batch in [arguments.batch] if arguments.batch else (1, 4):
                line = comparison.time(network, what, batch, (height, width), num_threads())
                print(f"{network:18}{what:11}{batch:5}{line}", flush=True)
    comparison.write(arguments.json)
    comparison.plot(arguments.plot)


if __name__ == "__main__":
    main()
