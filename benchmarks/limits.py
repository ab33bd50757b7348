"""Where the time of a network goes: each map of each layer, beside the limit of the machine.

    python benchmarks/limits.py --network fcn4s-squeezenet --what training --batch 1

The limit of a map is the larger one of two times: its multiplications at the rate of a large matrix product,
and the bytes of its arrays at the bandwidth of memory, both measured here. Winograd's algorithm multiplies
less, and arrays that are still in the cache are not read from memory, so a time can be below its limit.
Layers are sorted by the time above it. Maps that run at the same time count with their own times.
"""

import argparse
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from beside import processor
from networks import NETWORKS, inputs, minifcn_network, minifcn_step

import minifcn as mf
from minifcn.kernels import choosing, threads
from minifcn.kernels.plans import Plan, Problem
from minifcn.kernels.threads import num_threads, parallel_map
from minifcn.layers.convolution import FusedConv2d

MAPS = {"conv2d": "forward", "conv2d_input_grad": "to input", "conv2d_weight_grad": "to weights"}


@dataclass
class Row:
    """What is known about a map of a layer in one run.

    Attributes:
        kind: Of the layer, such as "3x3" or "MaxPool2d".
        seconds: Time, without that of the maps inside it.
        multiplications: Of a convolution.
        bytes: Of the arrays that are read and written.
        algorithm: Of a convolution.
    """

    kind: str = ""
    seconds: float = 0.0
    multiplications: int = 0
    bytes: int = 0
    algorithm: str = ""


@dataclass
class Recorder:
    """Times functions within one another, in each thread."""

    rows: dict[tuple[str, str], Row] = field(default_factory=lambda: defaultdict(Row))
    thread: threading.local = field(default_factory=threading.local)

    def timed(self, function: Callable[..., Any], key: Callable[..., tuple[str, str]]) -> Callable[..., Any]:
        """Return the function, which adds its time to the row that `key` returns for its arguments.

        `thread.where` is the row of the innermost function, `thread.inside` the time of functions inside it.
        """

        @wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            where, before = key(*args), vars(self.thread).copy()
            self.thread.where, self.thread.inside = where, None
            started = time.perf_counter()
            result = function(*args, **options)
            taken = time.perf_counter() - started
            row = self.rows[where]
            row.seconds += taken - (self.thread.inside or 0)
            if self.thread.inside is None:  # not made of others
                arrays = (one for one in (*args, result) if isinstance(one, np.ndarray))
                row.bytes += sum(one.nbytes for one in arrays)
            self.thread.where = before.get("where")
            self.thread.inside = (before.get("inside") or 0) + taken
            return result

        return run


def rates() -> tuple[float, float]:
    """Return the multiplications of a matrix product and the bytes of a copy in a second, with all cores."""
    a, b = (np.random.default_rng(i).standard_normal((2048, 2048), np.float32) for i in range(2))
    large = np.ones((2, 1 << 25), np.float32)
    parts = [slice(i, i + (1 << 20)) for i in range(0, 1 << 25, 1 << 20)]

    def copy() -> None:
        parallel_map(lambda some: np.copyto(large[1, some], large[0, some]), parts)

    product = min(seconds(lambda: threads.matmul(a, b)) for _ in range(5))
    return 2048**3 / product, large.nbytes / min(seconds(copy) for _ in range(5))


def seconds(job: Callable[[], Any]) -> float:
    """Return the time of a run."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def watch(recorder: Recorder, network: mf.layers.Layer) -> None:
    """Time all layers of a network, all maps of convolutions, the loss and the optimiser from now on."""
    names = {id(layer): name or "network" for name, layer in network.named_layers()}
    weights = {id(p.data): name.rpartition(".")[0] for name, p in network.named_parameters()}

    for cls in {base for layer in network.layers() for base in type(layer).__mro__} | {FusedConv2d}:
        for method in ("forward", "backward", "backward_parameters"):
            if method in vars(cls) and cls is not mf.layers.Layer:
                which = method.partition("_")[0]

                def key(layer: Any, *_: Any, which: str = which) -> tuple[str, str]:
                    layer = layer.conv if isinstance(layer, FusedConv2d) else layer
                    where = names.get(id(layer), type(layer).__name__), which
                    recorder.rows[where].kind = type(layer).__name__
                    return where

                setattr(cls, method, recorder.timed(vars(cls)[method], key))

    def watched(plan: Plan | None, operation: str, problem: Problem) -> Plan | None:
        def key(*arrays: Any) -> tuple[str, str]:
            layer = next((weights[id(one)] for one in arrays if id(one) in weights), None)
            return layer or recorder.thread.where[0], MAPS[operation]

        if plan is None:
            return None
        run = recorder.timed(plan.run, key)

        def counted(*arrays: Any, **options: Any) -> None:
            row = recorder.rows[key(*arrays)]
            row.kind = "x".join(map(str, problem.geometry.kernel_size))
            row.multiplications += problem.positions * problem.filters * problem.column
            row.algorithm = plan.algorithm
            run(*arrays, **options)

        return replace(plan, run=counted)

    for operation, planners in choosing._PLANNERS.items():
        for name, planner in planners.items():
            planners[name] = lambda p, o=operation, f=planner: watched(f(p), o, p)  # type: ignore[misc]
    choosing.best.cache_clear()
    mf.losses.softmax_cross_entropy = recorder.timed(mf.losses.softmax_cross_entropy, lambda *_: ("loss", ""))
    mf.optim.Adam.step = recorder.timed(mf.optim.Adam.step, lambda *_: ("optimizer", ""))  # type: ignore[method-assign]


def count_calls(job: Callable[[], Any]) -> Counter[str]:
    """Return how often a run calls each Python function, and C functions together, in all threads."""
    found: list[str] = []  # appending to a list is safe in threads

    def count(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            code = frame.f_code
            found.append(f"{'/'.join(Path(code.co_filename).parts[-2:])} {code.co_name}")
        elif event == "c_call":
            found.append("C")

    threading.setprofile(count)
    mf.set_num_threads(num_threads())  # new threads, which are counted
    sys.setprofile(count)
    job()
    sys.setprofile(None)
    threading.setprofile(None)
    mf.set_num_threads(num_threads())
    return Counter(found)


def in_products(job: Callable[[], Any]) -> float:
    """Return the seconds that a run spends in matrix products, in all threads together."""
    taken: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = product(*args, **options)
        taken.append(time.perf_counter() - started)
        return result

    product, np.matmul = np.matmul, timed  # type: ignore[assignment]
    job()
    np.matmul = product
    return sum(taken)


def lines(
    rows: dict[tuple[str, str], Row], product: float, memory: float
) -> Iterator[tuple[float, float, str]]:
    """Yield the seconds, the limit and the line in the table of each row."""
    for (layer, which), row in rows.items():
        least = limit(row, product, memory)
        numbers = f"{1e3 * row.seconds:9.2f}{1e3 * least:9.2f}{1e3 * (row.seconds - least):9.2f}"
        millions = f"{row.multiplications / 1e6:10.0f}{row.bytes / 1e6:8.1f}"
        yield row.seconds, least, f"{layer:32}{which:12}{numbers}{millions}  {row.algorithm}"


def limit(row: Row, product: float, memory: float) -> float:
    """Return the seconds that a map takes at least, unless it multiplies less or reads from a cache."""
    return max(row.multiplications / product, row.bytes / memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS), default="fcn4s-squeezenet")
    parser.add_argument("--what", choices=("inference", "training"), default="training")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=40, help="rows of the table")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    product, memory = rates()
    x, labels = inputs(arguments.network, arguments.batch, (height, width))
    network = minifcn_network(arguments.network).eval()
    job: Callable[[], Any] = partial(network, x)
    if arguments.what == "training":
        job = minifcn_step(network, arguments.network, x, labels)
    job()
    used = time.process_time()
    alone = [seconds(job) for _ in range(arguments.runs)]
    used = (time.process_time() - used) / arguments.runs
    products, calls = in_products(job), count_calls(job)
    job()

    recorder, runs = Recorder(), []
    watch(recorder, network)
    job()
    for _ in range(arguments.runs):
        recorder.rows.clear()
        taken = seconds(job)
        if arguments.what == "training":  # Adam reads four arrays for each weight and writes three
            recorder.rows["optimizer", ""].bytes = 7 * sum(p.data.nbytes for p in network.parameters())
        runs.append((taken, dict(recorder.rows)))
    whole = median(taken for taken, _ in runs)
    rows = {
        key: replace(row, seconds=median(found.get(key, Row()).seconds for _, found in runs))
        for key, row in runs[-1][1].items()
    }
    table = sorted(lines(rows, product, memory), key=lambda line: line[1] - line[0])
    print(processor())
    print(
        f"{arguments.network}, {arguments.what}, batch {arguments.batch}, {arguments.size}, {num_threads()} "
        f"threads; {product / 1e9:.0f} G multiplications/s in a product, {memory / 1e9:.1f} GB/s in a copy"
    )
    print(f"{'layer':32}{'map':12}{'ms':>9}{'limit':>9}{'above':>9}{'M mults':>10}{'MB':>8}")
    print(*(line for *_, line in table[: arguments.rows]), sep="\n")
    print("\nsums by kind")
    kinds: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for (name, which), row in rows.items():
        kinds[row.kind or name, which].append((row.seconds, limit(row, product, memory)))
    sums = {key: tuple(map(sum, zip(*some, strict=True))) for key, some in kinds.items()}
    for (kind, which), (taken, least) in sorted(sums.items(), key=lambda item: -item[1][0]):
        print(f"{kind:32}{which:12}{1e3 * taken:9.2f}{1e3 * least:9.2f}{1e3 * (taken - least):9.2f}")
    idle = num_threads() * sum(alone) / arguments.runs - used
    print(f"the run: {1e3 * median(alone):.1f} ms, {1e3 * whole:.1f} while it is recorded")
    print(
        f"{num_threads()} cores together: {1e3 * products:.1f} ms in matrix products, "
        f"{1e3 * (used - products):.1f} in copies, other arithmetic and Python, {1e3 * idle:.1f} waiting"
    )
    in_c = calls.pop("C")
    print(f"calls: {sum(calls.values()):,} of Python functions, {in_c:,} of C functions, most of them")
    print(*(f"{times:9,}  {name}" for name, times in calls.most_common(12)), sep="\n")


if __name__ == "__main__":
    main()
