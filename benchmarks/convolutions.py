"""Every convolution of VGG16, SqueezeNet and the heads of their FCNs, all three maps, beside PyTorch.

python benchmarks/convolutions.py --batch 1 --size 480x360
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from beside import Side, in_turn, machine, medians

MAPS = ("forward", "input gradient", "weight gradient")
Case = tuple[str, int, int, int, int, int, int, int, int]
"""Name, channels, filters, height, width, kernel, stride, padding, groups."""


def cases(height: int, width: int) -> tuple[list[Case], list[Case]]:
    """Return the different convolutions, and the transposed ones (whose input is the small side)."""

    def at(stride: int) -> tuple[int, int]:
        return -(-height // stride), -(-width // stride)

    convolutions: list[Case] = [
        (f"vgg16 {name}", channels, filters, *at(stride), 3, 1, 1, 1)
        for name, channels, filters, stride in (
            ("conv1_1", 3, 64, 1), ("conv1_2", 64, 64, 1), ("conv2_1", 64, 128, 2), ("conv2_2", 128, 128, 2),
            ("conv3_1", 128, 256, 4), ("conv3_2", 256, 256, 4), ("conv4_1", 256, 512, 8),
            ("conv4_2", 512, 512, 8), ("conv5", 512, 512, 16),
        )
    ]  # fmt: skip
    convolutions += [
        ("vgg16 fc6", 512, 4096, *at(32), 7, 1, 3, 1),
        ("vgg16 fc7", 4096, 4096, *at(32), 1, 1, 0, 1),
        ("vgg16 score", 4096, 21, *at(32), 1, 1, 0, 1),
        ("vgg16 skip 8", 256, 21, *at(8), 1, 1, 0, 1),
        ("squeezenet conv1", 3, 96, height, width, 7, 2, 0, 1),
    ]
    for name, inputs, squeezed, expanded, stride in (
        ("fire2", 96, 16, 64, 4), ("fire4", 128, 32, 128, 4), ("fire5", 256, 32, 128, 8),
        ("fire6", 256, 48, 192, 8), ("fire8", 384, 64, 256, 8), ("fire9", 512, 64, 256, 16),
    ):  # fmt: skip
        convolutions += [
            (f"squeezenet {name} squeeze", inputs, squeezed, *at(stride), 1, 1, 0, 1),
            (f"squeezenet {name} 1x1", squeezed, expanded, *at(stride), 1, 1, 0, 1),
            (f"squeezenet {name} 3x3", squeezed, expanded, *at(stride), 3, 1, 1, 1),
        ]
    convolutions.append(("squeezenet skip 4", 256, 11, *at(4), 1, 1, 0, 1))
    transposed: list[Case] = [
        ("up 64/32 full", 21, 21, *at(32), 64, 32, 16, 1),
        ("up 64/32", 21, 21, *at(32), 64, 32, 16, 21),
        ("up 16/8", 21, 21, *at(8), 16, 8, 4, 21),
        ("up 7/4", 11, 11, *at(4), 7, 4, 2, 11),
        ("up 4/2", 21, 21, *at(32), 4, 2, 1, 21),
    ]
    return convolutions, transposed


def operands(case: Case, batch: int, transposed: bool) -> tuple[np.ndarray, ...]:
    """Return x, w, dy of a convolution; a transposed one goes from dy to x."""
    _, channels, filters, height, width, kernel, stride, padding, groups = case
    rng = np.random.default_rng(0)
    small = tuple((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    large = height, width
    if transposed:
        small, large = large, tuple((n - 1) * stride + kernel - 2 * padding for n in large)
    x = rng.standard_normal((batch, channels, *large), np.float32)
    w = rng.standard_normal((filters, channels // groups, kernel, kernel), np.float32)
    return x, w, rng.standard_normal((batch, filters, *small), np.float32)


def minifcn_job(case: Case, batch: int, which: str, transposed: bool) -> Callable[[], Any]:
    from minifcn import functional as F

    x, w, dy = operands(case, batch, transposed)
    *_, kernel, stride, padding, groups = case
    options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    return {
        "forward": lambda: F.conv2d(x, w, **options),
        "input gradient": lambda: F.conv2d_input_grad(dy, w, input_size=x.shape[2:], **options),
        "weight gradient": lambda: F.conv2d_weight_grad(x, dy, kernel_size=kernel, **options),
    }[which]


def torch_job(case: Case, batch: int, which: str, transposed: bool) -> Callable[[], Any]:
    import torch
    from beside import THREADS

    torch.set_num_threads(THREADS)
    x, w, dy = map(torch.tensor, operands(case, batch, transposed))
    *_, stride, padding, groups = case
    backward = torch.ops.aten.convolution_backward
    common = ([0], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    return {
        "forward": lambda: torch.nn.functional.conv2d(x, w, **options),
        "input gradient": (
            (lambda: torch.nn.functional.conv_transpose2d(dy, w, **options))
            if transposed
            else (lambda: backward(dy, x, w, *common, [True, False, False]))
        ),
        "weight gradient": lambda: backward(dy, x, w, *common, [False, True, False]),
    }[which]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    sides = {"minifcn": Side(), "PyTorch": Side()}
    print(f"{machine()}, batch {arguments.batch}, {arguments.size}; milliseconds minifcn / PyTorch = ratio")
    print(f"{'':26}" + "".join(f"{name:>26}" for name in MAPS))
    results = []
    for transposed, group in zip((False, True), cases(height, width), strict=True):
        for case in group:
            if arguments.only not in case[0]:
                continue
            line = f"{case[0]:26}"
            for which in MAPS:
                sides["minifcn"].make(minifcn_job, case, arguments.batch, which, transposed)
                sides["PyTorch"].make(torch_job, case, arguments.batch, which, transposed)
                seconds = in_turn(sides, arguments.runs)
                results.append({"case": case, "batch": arguments.batch, "map": which, "seconds": seconds})
                ours, theirs = medians(seconds).values()
                line += f"{1e3 * ours:10.2f} /{1e3 * theirs:7.2f} = {ours / theirs:4.2f}"
            print(line, flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
