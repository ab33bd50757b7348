"""Times of all convolutions of VGG16, SqueezeNet and the heads of their FCNs, all three maps, beside PyTorch.

python benchmarks/convolutions.py --batch 1 --size 480x360
"""

import argparse
import json

from minifcn.cli.bench import Case, compare


def cases(height: int, width: int) -> list[Case]:
    """Return the different convolutions of the networks, for images of a size."""

    def at(stride: int) -> tuple[int, int]:
        return -(-height // stride), -(-width // stride)

    found = [
        Case(f"vgg16 {name}", channels, filters, at(stride), 3, padding=1)
        for name, channels, filters, stride in (
            ("conv1_1", 3, 64, 1), ("conv1_2", 64, 64, 1), ("conv2_1", 64, 128, 2), ("conv2_2", 128, 128, 2),
            ("conv3_1", 128, 256, 4), ("conv3_2", 256, 256, 4), ("conv4_1", 256, 512, 8),
            ("conv4_2", 512, 512, 8), ("conv5", 512, 512, 16),
        )
    ]  # fmt: skip
    found += [
        Case("vgg16 fc6", 512, 4096, at(32), 7, padding=3),
        Case("vgg16 fc7", 4096, 4096, at(32), 1),
        Case("vgg16 score", 4096, 21, at(32), 1),
        Case("vgg16 skip 8", 256, 21, at(8), 1),
        Case("squeezenet conv1", 3, 96, (height, width), 7, stride=2),
    ]
    for name, inputs, squeezed, expanded, stride in (
        ("fire2", 96, 16, 64, 4), ("fire4", 128, 32, 128, 4), ("fire5", 256, 32, 128, 8),
        ("fire6", 256, 48, 192, 8), ("fire8", 384, 64, 256, 8), ("fire9", 512, 64, 256, 16),
    ):  # fmt: skip
        found += [
            Case(f"squeezenet {name} squeeze", inputs, squeezed, at(stride), 1),
            Case(f"squeezenet {name} 1x1", squeezed, expanded, at(stride), 1),
            Case(f"squeezenet {name} 3x3", squeezed, expanded, at(stride), 3, padding=1),
        ]
    found.append(Case("squeezenet skip 4", 256, 11, at(4), 1))
    for kernel, stride, channels, groups in (
        (64, 32, 21, 1), (64, 32, 21, 21), (16, 8, 21, 21), (7, 4, 11, 11), (4, 2, 21, 21)
    ):  # fmt: skip
        size = -(-height // stride) * stride, -(-width // stride) * stride
        name = f"up {kernel}/{stride}, {'each class' if groups > 1 else 'all to all'}"
        padding = (kernel - stride) // 2
        found.append(Case(name, channels, channels, size, kernel, stride, padding, groups, transposed=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    chosen = tuple(case for case in cases(height, width) if arguments.only in case.name)
    results = compare(chosen, arguments.batch, arguments.runs)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
