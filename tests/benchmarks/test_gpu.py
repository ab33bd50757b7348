"""`benchmarks/gpu.py`, on the stand-in for CuPy and without any GPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def _run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=480
    )


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_a_gpu_it_says_so_and_exits_with_2():
    done = _run()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CuPy" in done.stderr
    assert not done.stdout


@pytest.mark.slow
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


def test_if_a_part_fails_the_others_still_run(monkeypatch, strict, capsys):
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    gpu = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(gpu)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--stand-in"])
    monkeypatch.setattr(gpu, "LIMITS", {"tests": 0.01, "demo": 0.01, "minifcn": 60, "PyTorch": 0.01})
    assert gpu.main() == 1
    said = capsys.readouterr().out
    for name in ("tests", "demo"):
        assert f"{name:20}failed: longer than 0 s" in said
    assert f"{'minifcn, TF32 on':20}passed" in said
    assert "3 x 3, forward" in said
