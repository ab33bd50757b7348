"""The algorithm for groups of few channels; that its results are right is tested with those of all others."""

import numpy as np
import pytest

from minifcn.geometry import ConvGeometry
from minifcn.kernels import choosing, taps
from minifcn.kernels.plans import Problem


def problem(channels, size, stride=1, images=1, groups=None):
    geometry = ConvGeometry.of(3, stride, 1, 1, groups or channels)
    outputs = geometry.output_size((size, size))
    return Problem(geometry, images, channels, channels, (size, size), outputs, np.dtype("float32"), np)


def operands(operation, p):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((p.images, p.channels, *p.input_size), np.float32)
    w = rng.standard_normal((p.filters, p.group_channels, *p.geometry.kernel_size), np.float32)
    y = rng.standard_normal(p.output_shape, np.float32)
    return {
        "conv2d": (x, w, None, y, False),
        "conv2d_input_grad": (y, w, x),
        "conv2d_weight_grad": (x, y, w),
    }[operation]


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
def test_it_is_chosen_for_groups_of_four_channels(operation):
    assert choosing.best(operation, problem(128, 56, groups=32)).algorithm == "taps"
    assert choosing.best(operation, problem(128, 56, groups=1)).algorithm != "taps"


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
@pytest.mark.parametrize(
    "p", [problem(32, 40), problem(48, 9, images=4), problem(24, 31, stride=2, images=2)]
)
def test_its_forecast_of_the_workspace_covers_what_it_takes(monkeypatch, operation, p):
    taken = {}

    def counted(xp, shape, dtype, slot=""):
        taken[slot] = max(taken.get(slot, 0), np.dtype(dtype).itemsize * int(np.prod(shape)))
        return workspace(xp, shape, dtype, slot)

    workspace = taps.workspace
    monkeypatch.setattr(taps, "workspace", counted)
    plan = choosing.plans(operation, p)["taps"]
    plan.run(*operands(operation, p))
    assert 0 < sum(taken.values()) <= plan.workspace


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
