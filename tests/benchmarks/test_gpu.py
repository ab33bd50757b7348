"""`benchmarks/gpu.py`, on the stand-in for CuPy and without any GPU."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def _run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=110
    )


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_a_gpu_it_says_so_and_exits_with_2():
    done = _run()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CuPy" in done.stderr
    assert not done.stdout


def test_on_the_stand_in_every_part_runs_and_is_in_the_table(tmp_path):
    done = _run("--stand-in", "--json", tmp_path / "raw.json")
    assert done.returncode == 0, done.stdout + done.stderr
    raw = json.loads((tmp_path / "raw.json").read_text("utf-8"))
    assert {name.partition(",")[0] for name in raw["parts"]} == {"tests", "demo", "minifcn", "PyTorch"}
    assert raw["parts"]["tests"].startswith("passed")
    assert "mean IoU" in raw["parts"]["demo"]
    assert len(raw["cases"]) == 5
    for case, values in raw["cases"].items():
        assert case in done.stdout
        assert min(values[f"minifcn, TF32 {tf32}"] for tf32 in ("off", "on")) > 0
