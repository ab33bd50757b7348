"""Times of the convolutions of VGG16, SqueezeNet, MobileNetV2 and FCN's heads, each map, beside PyTorch.

python benchmarks/convolutions.py --batch 1 --size 480x360
python benchmarks/convolutions.py --few        # nine of them, as a quick look at a machine
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from statistics import geometric_mean, median
from typing import Any, NamedTuple

import numpy as np
from beside import Side, processor, times

from minifcn import functional as F
from minifcn.backend import Array, to_device
from minifcn.kernels.threads import num_threads

MAPS = ("forward", "input gradient", "weight gradient")


class Case(NamedTuple):
    """A convolution to time, or a transposed one, whose input and output are exchanged.

    Attributes:
        name: Name in the table.
        channels: Channels of the larger side, the input of the convolution.
        filters: Channels of the smaller side.
        size: (H, W) of the larger side.
        kernel: Height and width of the kernel.
        stride: Stride of the window.
        padding: Zeros around the larger side.
        groups: Groups of channels.
        transposed: Whether the forward map is the transposed convolution.
    """

    name: str
    channels: int
    filters: int
    size: tuple[int, int]
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False

    def operands(self, batch: int) -> tuple[Array, Array, Array]:
        """Return x on the larger side, w, and dy on the smaller one, float32."""
        rng = np.random.default_rng(0)
        rows, cols = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in self.size)
        return (
            rng.standard_normal((batch, self.channels, *self.size), np.float32),
            rng.standard_normal(
                (self.filters, self.channels // self.groups, self.kernel, self.kernel), np.float32
            ),
            rng.standard_normal((batch, self.filters, rows, cols), np.float32),
        )

    @property
    def options(self) -> dict[str, Any]:
        """The window, as arguments of the functions."""
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}


CASES = (
    Case("VGG16 conv1_2", 64, 64, (360, 480), 3, padding=1),
    Case("VGG16 conv3_2", 256, 256, (90, 120), 3, padding=1),
    Case("VGG16 conv5", 512, 512, (23, 30), 3, padding=1),
    Case("SqueezeNet conv1", 3, 96, (360, 480), 7, stride=2),
    Case("SqueezeNet fire4, 1 x 1", 128, 32, (88, 118), 1),
    Case("SqueezeNet fire4, 3 x 3", 32, 128, (88, 118), 3, padding=1),
    Case("MobileNetV2, depthwise", 144, 144, (90, 120), 3, padding=1, groups=144),
    Case("upsampling 64 / 32", 21, 21, (384, 480), 64, stride=32, padding=16, groups=21, transposed=True),
    Case("upsampling 16 / 8", 21, 21, (360, 480), 16, stride=8, padding=4, groups=21, transposed=True),
)


def all_cases(height: int, width: int) -> list[Case]:
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
        (64, 32, 21, 1), (64, 32, 21, 21), (16, 8, 21, 1), (16, 8, 21, 21), (8, 4, 21, 1), (8, 4, 21, 21),
        (7, 4, 11, 11), (4, 2, 21, 1), (4, 2, 21, 21),
    ):  # fmt: skip
        size = -(-height // stride) * stride, -(-width // stride) * stride
        name = f"up {kernel}/{stride}, {'each class' if groups > 1 else 'all to all'}"
        padding = (kernel - stride) // 2
        found.append(Case(name, channels, channels, size, kernel, stride, padding, groups, transposed=True))
    for channels, smaller, stride in (
        (32, 2, 1), (96, 2, 2), (144, 4, 1), (144, 4, 2), (192, 8, 1), (384, 16, 1), (576, 16, 2),
        (960, 32, 1),
    ):  # fmt: skip
        name = f"mobilenet {channels} depthwise" + (f" / {stride}" if stride > 1 else "")
        found.append(Case(name, channels, channels, at(smaller), 3, stride, 1, channels))
    return found


def compare(cases: Sequence[Case], batch: int, turns: int, seconds: float) -> list[dict[str, Any]]:
    """Time all maps of some convolutions, print a line for each, and return the seconds of all runs."""
    beside = find_spec("torch") is not None
    sides = {name: Side() for name in (["minifcn", "PyTorch"] if beside else ["minifcn"])}
    what = "minifcn / PyTorch = ratio" if beside else "PyTorch is not installed: minifcn alone"
    print(processor())
    print(f"milliseconds, medians; {num_threads()} threads, batch {batch}, float32; {what}")
    print(f"{'':26}" + "".join(f"{name:>{26 if beside else 17}}" for name in MAPS))
    results = []
    for case in cases:
        taken: dict[str, dict[str, list[float]]] = {which: {name: [] for name in sides} for which in MAPS}
        for _ in range(turns):
            for name, side in sides.items():
                for which, some in side.call(times_of_maps, name, case, batch, seconds).items():
                    taken[which][name] += some
        line = f"{case.name:26}"
        for which, found in taken.items():
            results.append({"case": case._asdict(), "batch": batch, "map": which, "seconds": found})
            ours = 1e3 * median(found["minifcn"])
            if beside:
                theirs = 1e3 * median(found["PyTorch"])
                line += f"{ours:10.2f} /{theirs:7.2f} = {ours / theirs:4.2f}"
            else:
                line += f"{ours:17.2f}"
        print(line, flush=True)
    if beside:
        print(*summary(results), sep="\n")
    return results


def times_of_maps(library: str, case: Case, batch: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of runs of each map of a convolution."""
    make = {"minifcn": minifcn_job, "PyTorch": torch_job}[library]
    return {which: times(make(case, batch, which), seconds) for which in MAPS}


def summary(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each kind of convolution: the geometric mean of the ratios, and the largest one."""
    ratios: dict[str, dict[str, float]] = {}
    for result in results:
        case = Case(**result["case"])
        kind = "depthwise" if case.groups == case.channels else "convolutions"
        kind = "deconvolutions" if case.transposed else kind
        ours, theirs = (median(result["seconds"][name]) for name in ("minifcn", "PyTorch"))
        ratios.setdefault(kind, {})[f"{case.name}, {result['map']}"] = ours / theirs
    for kind, found in ratios.items():
        mean, worst = geometric_mean(found.values()), max(found, key=found.__getitem__)
        above = sum(value > 1.2 for value in found.values())
        yield (
            f"{kind}: geometric mean {mean:.2f} of {len(found)}, {above} above 1.2, "
            f"the largest {found[worst]:.2f} ({worst})"
        )


def minifcn_job(case: Case, batch: int, which: str, device: str = "cpu") -> Callable[[], Any]:
    """Return a function that computes a map of a convolution."""
    x, w, dy = (to_device(operand, device) for operand in case.operands(batch))
    jobs: dict[str, Callable[[], Any]] = {
        "forward": lambda: F.conv2d(x, w, **case.options),
        "input gradient": lambda: F.conv2d_input_grad(dy, w, input_size=case.size, **case.options),
        "weight gradient": lambda: F.conv2d_weight_grad(x, dy, kernel_size=case.kernel, **case.options),
    }
    return jobs[_adjoint(which) if case.transposed else which]


def torch_job(case: Case, batch: int, which: str, device: str = "cpu") -> Callable[[], Any]:
    """Return a function that computes the same with PyTorch."""
    torch: Any = import_module("torch")
    torch.set_num_threads(num_threads())
    x, w, dy = (torch.tensor(operand, device=device) for operand in case.operands(batch))

    def backward(needed: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            dy, x, w, [0], [case.stride] * 2, [case.padding] * 2, [1, 1], False, [0, 0], case.groups, needed
        )

    jobs: dict[str, Callable[[], Any]] = {
        "forward": lambda: torch.nn.functional.conv2d(x, w, **case.options),
        "input gradient": lambda: backward([True, False, False]),
        "weight gradient": lambda: backward([False, True, False]),
    }
    if case.transposed and which == "forward":
        return lambda: torch.nn.functional.conv_transpose2d(dy, w, **case.options)
    return jobs[_adjoint(which) if case.transposed else which]


def _adjoint(which: str) -> str:
    """Return the map of the convolution that a map of the transposed one is."""
    return {"forward": "input gradient", "input gradient": "forward"}.get(which, which)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--turns", type=int, default=2, help="of each library")
    parser.add_argument("--seconds", type=float, default=0.05, help="of each map in each turn")
    parser.add_argument("--few", action="store_true", help="only nine typical convolutions")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    listed = CASES if arguments.few else all_cases(height, width)
    chosen = [case for case in listed if arguments.only in case.name]
    results = compare(chosen, arguments.batch, arguments.turns, arguments.seconds)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
