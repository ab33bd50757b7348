"""Everything that needs a GPU, in one run of less than eight minutes, and one table at its end.

    python benchmarks/gpu.py               on a machine with CuPy and a GPU; beside PyTorch, if installed
    python benchmarks/gpu.py --stand-in    tiny sizes on the stand-in for CuPy, to try the script itself

The parts are the GPU tests, the demo, and the networks and convolutions of the other benchmarks in both
libraries, first without and then with TF32. Each part is a process with a time limit of its own. If one fails
or takes too long, the others still run, and what it has measured until then is in the table.

The exit status is 0 if all parts succeeded, 1 if one failed, and 2 if there is no GPU.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

LIMITS = {"tests": 150, "demo": 90, "minifcn": 70, "PyTorch": 40}
"""Seconds for each part. Those of the libraries count twice, without and with TF32: 460 seconds in all."""

LIBRARIES = ("minifcn", "PyTorch")
RUNS, SECONDS_PER_CASE = 10, 2.0


def main() -> int:
    """Run all parts, each in a process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stand-in", action="store_true", help="tiny sizes, on the stand-in for CuPy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results there")
    parser.add_argument("--part", choices=("demo", *LIBRARIES), help=argparse.SUPPRESS)  # a child process
    arguments = parser.parse_args()
    if arguments.stand_in:
        from tests import strict_cupy

        sys.modules["cupy"] = strict_cupy.make()
    if arguments.part:
        return child(arguments.part, arguments.stand_in)

    from minifcn.backend import cuda_device

    try:
        cuda_device("cuda")
    except ValueError as error:
        print(f"gpu.py: nothing was measured: {error}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    outcomes = [tests(arguments.stand_in), part("demo", arguments.stand_in)]
    results: dict[str, dict[str, Any]] = {}
    for tf32 in ("off", "on"):
        for library in LIBRARIES:
            if library == "PyTorch" and find_spec("torch") is None:
                outcomes.append((f"{library}, TF32 {tf32}", "is not installed", ""))
                continue
            outcome = part(library, arguments.stand_in, tf32)
            outcomes.append(outcome)
            for line in outcome[2].splitlines():
                if line.startswith("{"):
                    measured = json.loads(line)
                    results.setdefault(measured["case"], {})[f"{library}, TF32 {tf32}"] = measured["value"]
    for name, outcome, output in outcomes:
        print(f"{name:20}{outcome}")
        if outcome.startswith("failed"):
            print("\n".join(f"    {line}" for line in output.splitlines()[-15:]))
    print_table(results)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if arguments.json is not None:
        parts = {name: outcome for name, outcome, _ in outcomes}
        arguments.json.write_text(json.dumps({"parts": parts, "cases": results}, indent=1) + "\n")
    errors = any(isinstance(value, str) for case in results.values() for value in case.values())
    return int(errors or any(outcome.startswith("failed") for _, outcome, _ in outcomes))


def tests(stand_in: bool) -> tuple[str, str, str]:
    """Run the tests that are marked gpu; on the stand-in, those of the losses that use it."""
    chosen = (
        ["-k", "strict", "-n", "0", "tests/test_losses.py"] if stand_in else ["-m", "gpu", "-n", "4", "tests"]
    )
    command = [sys.executable, "-m", "pytest", *chosen]
    name, outcome, output = run("tests", command, LIMITS["tests"], dict(os.environ))
    counts = re.findall(r"^=*\s*(\d+ (?:passed|failed|skipped).*?) in ", output, re.MULTILINE)
    return name, f"{outcome}, {counts[-1]}" if counts else outcome, output


def part(name: str, stand_in: bool, tf32: str | None = None) -> tuple[str, str, str]:
    """Run this script for one part; return the name of the part, its outcome in words, and its output."""
    environment = os.environ | {"CUPY_TF32": str(int(tf32 == "on"))}
    command = [sys.executable, __file__, "--part", name, *(["--stand-in"] if stand_in else [])]
    title = name if tf32 is None else f"{name}, TF32 {tf32}"
    title, outcome, output = run(title, command, LIMITS[name], environment)
    found = re.search(r"^  stride 2,.*", output, re.MULTILINE)
    if name == "demo" and found:
        outcome += f", mean IoU at stride 2 {found[0].split()[-2]}"
    return title, outcome, output


def run(name: str, command: list[str], limit: float, environment: dict[str, str]) -> tuple[str, str, str]:
    """Run a command in the root folder, and return its name, its outcome in words, and its output."""
    print(f"{name} ...", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=limit
            ).returncode
            outcome = (
                f"passed in {time.perf_counter() - started:.0f} s" if status == 0 else f"failed ({status})"
            )
        except subprocess.TimeoutExpired:
            outcome = f"failed: longer than {limit:.0f} s"
        output.seek(0)
        return name, outcome, output.read()


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """Print a line for each case: milliseconds of both libraries and their ratio, without and with TF32."""
    print(f"\n{'milliseconds':46}{'TF32 off':^28}{'TF32 on':^28}")
    print(" " * 46 + f"{'minifcn':>10}{'PyTorch':>10}{'ratio':>8}" * 2)
    notes = []
    for case, values in results.items():
        line = f"{case:46}"
        for tf32 in ("off", "on"):
            pair = [values.get(f"{library}, TF32 {tf32}") for library in LIBRARIES]
            notes += [f"{case}: {value}" for value in pair if isinstance(value, str)]
            ours, theirs = (value if isinstance(value, float) else None for value in pair)
            line += "".join(f"{1e3 * value:10.2f}" if value else f"{'-':>10}" for value in (ours, theirs))
            line += f"{ours / theirs:8.2f}" if ours and theirs else f"{'-':>8}"
        print(line)
    print("\n".join(notes))


def child(name: str, stand_in: bool) -> int:
    """Run one part in this process."""
    if name == "demo":
        from minifcn.cli import demo
        from minifcn.cli import main as command

        if stand_in:
            demo.CROPS, demo.UNSEEN, demo.FEW, demo.FEW_EPOCHS = 1, 4, 6, 8
            demo.CANVASES = {8: 42, 4: 42, 2: 42}
        with tempfile.TemporaryDirectory() as out:
            return command(["demo", "--device", "cuda", "--out", out])
    if name == "PyTorch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            os.environ["CUPY_TF32"] == "1"
        )
        device = "cpu" if stand_in else "cuda"
        wait = (lambda: None) if stand_in else torch.cuda.synchronize
    else:
        import cupy

        device, wait = "cuda", cupy.cuda.Device().synchronize
    for case, make in jobs(name, device, stand_in):
        try:
            value: float | str = seconds(make(), wait, 1 if stand_in else RUNS)
        except Exception as error:  # such as no memory: the other cases are measured all the same
            value = f"{name}: {type(error).__name__}: {error}"
        print(json.dumps({"case": case, "value": value}), flush=True)
    return 0


def jobs(library: str, device: str, stand_in: bool) -> Iterator[tuple[str, Callable[[], Callable[[], Any]]]]:
    """Yield the name of each case, and a function that prepares it and returns what is to be timed."""
    import convolutions
    import networks

    make_network = {"minifcn": networks.minifcn_job, "PyTorch": networks.torch_job}[library]
    make_convolution = {"minifcn": convolutions.minifcn_job, "PyTorch": convolutions.torch_job}[library]
    names, size = tuple(networks.NETWORKS), (360, 480)
    cases: tuple[convolutions.Case, ...] = convolutions.CASES
    if stand_in:
        names, size = names[:1], (48, 64)
        cases = (convolutions.Case("3 x 3", 2, 3, (8, 9), 3, padding=1),)
    for network in names:
        for what in ("inference", "training"):
            for batch in (1,) if stand_in else networks.NETWORKS[network].batches:
                title = f"{network}, {what}, batch {batch}"
                yield title, partial(make_network, network, what, batch, size, device)
    for case in cases:
        for which in convolutions.MAPS:
            yield f"{case.name}, {which}", partial(make_convolution, case, 1, which, device)


def seconds(job: Callable[[], Any], wait: Callable[[], None], runs: int) -> float:
    """Return the median time of some runs after two that do not count, waiting for the GPU each time."""
    times: list[float] = []
    for i in range(runs + 2):
        wait()
        started = time.perf_counter()
        job()
        wait()
        if i > 1:
            times.append(time.perf_counter() - started)
        if sum(times) > SECONDS_PER_CASE:
            break
    return median(times)


if __name__ == "__main__":
    sys.exit(main())
