import subprocess
import sys
from pathlib import Path

import pytest
from beside import without_overrides
from networks import NETWORKS, minifcn_network, ratio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", [name for name in NETWORKS if "vgg" not in name])
def test_both_libraries_have_the_same_parameters(name):
    pytest.importorskip("torch")
    from torch_networks import network

    ours = [p.data.size for p in minifcn_network(name).parameters() if p.trainable]
    theirs = [p.numel() for p in network(name).parameters()]
    assert sorted(ours) == sorted(theirs)


def test_the_ratio_is_to_the_best_of_the_rivals():
    seconds = {"minifcn": [2.0, 9.0, 1.0], "eager": [4.0], "compile": [1.0]}
    assert ratio(seconds, ["eager"]) == 0.5
    assert ratio(seconds, list(seconds)) == 2


def test_overrides_of_threads_and_kernels_are_left_out():
    given = {"OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "ZEN", "MKL_NUM_THREADS": "1", "PATH": "here"}
    assert without_overrides(given) == {"PATH": "here"}


@pytest.mark.slow
def test_limits_lists_each_map_of_a_layer():
    options = ["--size", "48x48", "--runs", "1", "--rows", "999"]
    command = [sys.executable, str(BENCHMARKS / "limits.py"), *options]
    said = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    found = [line.split() for line in said.splitlines()]
    for which in (["forward"], ["to", "weights"], ["to", "input"]):
        assert any(line[: 1 + len(which)] == ["features.3.expand3x3", *which] for line in found)
    assert {"loss", "optimizer"} <= {line[0] for line in found if line}
