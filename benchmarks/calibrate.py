"""Time all algorithms on typical convolutions, and fit the constants of minifcn/kernels/costs.py to them.

python benchmarks/calibrate.py                            # measures, fits, and prints constants to paste
python benchmarks/calibrate.py --times times.json         # keeps the times, and measures only missing ones

Times are those that one thread spends on a CPU, so other programs on the machine disturb little. Needs SciPy.
The last lines compare the chosen algorithms with the fastest ones.
"""

import argparse
import json
import math
import operator
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from minifcn import set_num_threads
from minifcn.geometry import ConvGeometry
from minifcn.kernels import plans as kernel_plans
from minifcn.kernels.choosing import OPERATIONS, plans
from minifcn.kernels.costs import NANOSECONDS, Work
from minifcn.kernels.plans import Plan, Problem

LONGEST = 0.05  # seconds of a run that is repeated
MOST_PRODUCTS = 3 * 10**8  # multiplications of a problem; with more, all chunks are alike


def problems() -> Iterator[tuple[str, Problem]]:
    """Yield names and problems: layers of VGG16, SqueezeNet and the heads of FCN, and small problems."""

    def problem(
        channels: int, filters: int, size: tuple[int, int], dtype: str = "float32", n: int = 1, **window: Any
    ) -> Problem:
        geometry = ConvGeometry.of(**window)
        return Problem(geometry, n, channels, filters, size, geometry.output_size(size), np.dtype(dtype), np)

    for n, (height, width) in ((1, (360, 480)), (1, (180, 240)), (4, (96, 96))):

        def at(stride: int, height: int = height, width: int = width) -> tuple[int, int]:
            return -(-height // stride), -(-width // stride)

        for channels, filters, stride in (
            (3, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 2), (128, 256, 4), (256, 256, 4), (256, 512, 8),
            (512, 512, 8), (512, 512, 16), (16, 64, 4), (32, 128, 8), (48, 192, 8), (64, 256, 16),
        ):  # fmt: skip
            yield "3 x 3", problem(channels, filters, at(stride), n=n, kernel_size=3, padding=1)
        for channels, filters, stride in (
            (4096, 21, 32), (256, 21, 8), (96, 16, 4), (16, 64, 4), (256, 32, 8), (32, 128, 8), (512, 64, 16),
            (64, 256, 16),
        ):  # fmt: skip
            yield "1 x 1", problem(channels, filters, at(stride), n=n, kernel_size=1)
        yield "dense", problem(512, 1024, at(32), n=n, kernel_size=7, padding=3)
        yield "first", problem(3, 96, (height, width), n=n, kernel_size=7, stride=2)
        yield "first", problem(3, 64, (height, width), n=n, kernel_size=11, stride=4, padding=2)
        for kernel, stride, channels, groups in (
            (64, 32, 21, 1), (64, 32, 21, 21), (16, 8, 21, 21), (7, 4, 11, 11), (4, 2, 21, 21), (4, 2, 21, 1)
        ):  # fmt: skip
            window = {
                "kernel_size": kernel,
                "stride": stride,
                "padding": (kernel - stride) // 2,
                "groups": groups,
            }
            size = -(-height // stride) * stride, -(-width // stride) * stride
            yield "up", problem(channels, channels, size, n=n, **window)
    for n in (1, 4, 32):
        for channels, filters, side, kernel, stride in (
            (1, 8, 8, 3, 1), (1, 8, 28, 3, 1), (8, 16, 14, 3, 1), (16, 32, 32, 3, 1), (16, 32, 32, 3, 2),
            (3, 16, 32, 5, 1), (32, 10, 8, 1, 1), (10, 10, 32, 4, 2), (64, 64, 16, 3, 1), (1, 6, 28, 5, 1),
        ):  # fmt: skip
            yield (
                "small",
                problem(
                    channels,
                    filters,
                    (side, side),
                    n=n,
                    kernel_size=kernel,
                    stride=stride,
                    padding=kernel // 2,
                ),
            )
            yield (
                "small, float64",
                problem(channels, filters, (side, side), "float64", n, kernel_size=kernel, stride=stride),
            )
    for channels, groups in ((32, 32), (128, 4)):
        for dilation in (1, 2):
            window = {"kernel_size": 3, "padding": dilation, "dilation": dilation, "groups": groups}
            yield "groups", problem(channels, channels, (45, 60), **window)


def arrays(operation: str, problem: Problem) -> tuple[Any, ...]:
    """Return arguments for `run`."""
    rng = np.random.default_rng(0)
    p = problem
    x, w, y = (
        rng.standard_normal(shape, np.float32).astype(p.dtype)
        for shape in (
            (p.images, p.channels, *p.input_size),
            (p.filters, p.group_channels, *p.geometry.kernel_size),
            p.output_shape,
        )
    )
    return {
        "conv2d": (x, w, None, y, False),
        "conv2d_input_grad": (y, w, x),
        "conv2d_weight_grad": (x, y, w),
    }[operation]


def measure(runs: int, found: dict[str, float], path: Path | None) -> None:
    """Add the seconds of each plan to `found`, whose keys are those of `cases`."""
    for key, name, problem, operation in cases():
        candidates = plans(operation, problem)
        candidates = {name: plan for name, plan in candidates.items() if name != "loops"}
        keys = {f"{key} {algorithm}": plan for algorithm, plan in candidates.items()}
        if all(key in found for key in keys):
            continue
        operands, taken = arrays(operation, problem), dict.fromkeys(keys, math.inf)
        for run in range(runs):
            for one, plan in keys.items():  # alternating, so that disturbances affect all of them
                if taken[one] > LONGEST and run:
                    continue
                for _ in range(1 if taken[one] > 0.005 else 5):
                    start = time.thread_time()
                    plan.run(*operands)
                    taken[one] = min(taken[one], time.thread_time() - start)
        found |= taken
        print(f"{name:15}", key, *(f"{1e3 * seconds:.2f}" for seconds in taken.values()), flush=True)
        if path:
            path.write_text(json.dumps(found))


def cases() -> Iterator[tuple[str, str, Problem, str]]:
    """Yield a key, a name, a problem and an operation."""
    for name, p in problems():
        if p.positions * p.filters * p.column > MOST_PRODUCTS:
            continue
        size = f"{p.images}x{p.channels}-{p.filters}x{p.input_size[0]}x{p.input_size[1]}"
        window = (
            f"k{p.geometry.kernel_size} s{p.geometry.stride} p{p.geometry.padding} d{p.geometry.dilation}"
        )
        for operation in OPERATIONS:
            yield f"{operation} {size} {window} g{p.groups} {p.dtype}", name, p, operation


def fit(found: dict[str, float]) -> dict[str, Work]:
    """Return the constants that minimise the relative errors of the estimates."""
    constants = {}
    for dtype in ("float32", "float64"):
        rows, times = [], []
        for key, _, problem, operation in cases():
            if problem.dtype == dtype:
                for algorithm, plan in plans_of_one_core(operation, problem).items():
                    if math.isfinite(sum(plan.work)):
                        rows.append(plan.work)
                        times.append(found[f"{key} {algorithm}"] * 1e9)
        matrix, right = np.array(rows), np.array(times)
        weights = 1 / right
        for _ in range(30):  # reweighted, so that errors count about linearly
            solution, _ = nnls(matrix * weights[:, None], right * weights)
            errors = abs(np.log(matrix @ solution / right))
            weights = 1 / right / np.sqrt(0.1 + errors)
        constants[dtype] = Work(*(float(f"{value:.3g}") for value in solution))
    return constants


def estimate(plan: Plan, constants: dict[str, Work]) -> float:
    """Return the seconds that a plan would take with these constants."""
    return 1e-9 * sum(map(operator.mul, plan.work, constants[plan.dtype.name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--times", type=Path, help="file for the times")
    parser.add_argument(
        "--committed", action="store_true", help="report on the committed constants, not fitted ones"
    )
    arguments = parser.parse_args()
    set_num_threads(1)
    found = json.loads(arguments.times.read_text()) if arguments.times and arguments.times.exists() else {}
    measure(arguments.runs, found, arguments.times)
    constants = NANOSECONDS if arguments.committed else fit(found)
    for dtype, work in constants.items():
        print(f'    "{dtype}": {work},')
    report(found, constants)


def report(found: dict[str, float], constants: dict[str, Work]) -> None:
    """Print how much slower than the fastest algorithms the chosen ones are, and the worst choices."""
    ratios: dict[str, list[float]] = {}
    for key, name, problem, operation in cases():
        estimates, times = {}, {}
        for algorithm, plan in plans(operation, problem).items():
            if algorithm != "loops":
                estimates[algorithm] = estimate(plan, constants)
                times[algorithm] = found[f"{key} {algorithm}"]
        for algorithm, alone in plans_of_one_core(operation, problem).items():
            if algorithm in times and math.isfinite(estimates[algorithm]):
                # The part of the work that is on the busiest core.
                times[algorithm] *= estimates[algorithm] / estimate(alone, constants)
        chosen, best = (min(some, key=some.__getitem__) for some in (estimates, times))
        ratios.setdefault(name, []).append(times[chosen] / times[best])
        if times[chosen] > 1.2 * times[best]:
            listed = (f"{a} {1e3 * times[a]:.2f} (estimate {1e3 * estimates[a]:.2f})" for a in times)
            print(f"{name}: {key}: {chosen}, not {best}:", ", ".join(listed))
    for name, some in ratios.items():
        print(f"{name:15} {len(some):4} choices, {np.exp(np.mean(np.log(some))):.3f} times the shortest time")


def plans_of_one_core(operation: str, problem: Problem) -> dict[str, Plan]:
    """Return plans whose work is not divided among cores."""
    kernel_plans.CORES, cores = 1, kernel_plans.CORES
    try:
        return plans(operation, problem)
    finally:
        kernel_plans.CORES = cores


if __name__ == "__main__":
    main()
