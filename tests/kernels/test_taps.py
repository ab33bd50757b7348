"""The algorithm for groups of few channels; that its results are right is tested with those of all others."""

import numpy as np
import pytest

from minifcn.kernels import choosing, taps
from tests.kernels.test_bands import operands, problem


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
def test_it_is_chosen_for_groups_of_four_channels(operation):
    assert choosing.best(operation, problem(128, 56, groups=32)).algorithm == "taps"
    assert choosing.best(operation, problem(128, 56, groups=1)).algorithm != "taps"


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
def test_results_do_not_depend_on_how_the_work_is_cut(monkeypatch, operation):
    p, results = problem(12, 11, images=3), []
    for chunk, joined in ((1 << 20, 1024), (1 << 20, 1), (1, 1024), (1000, 200)):
        monkeypatch.setattr(taps, "CHUNK", chunk)
        monkeypatch.setattr(taps, "JOINED", joined)
        arrays = operands(operation, p)
        choosing.plans(operation, p)["taps"].run(*arrays)
        results.append(arrays[3 if operation == "conv2d" else 2])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-4, atol=1e-4)
