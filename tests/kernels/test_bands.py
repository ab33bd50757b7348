"""The algorithm for depthwise convolution; that its results are right is tested with those of all others."""

import numpy as np
import pytest

from minifcn.geometry import ConvGeometry
from minifcn.kernels import bands, choosing, taps
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
@pytest.mark.parametrize(("channels", "size"), [(32, 112), (144, 56), (192, 28), (384, 14), (960, 7)])
def test_it_is_chosen_for_the_depthwise_layers_of_mobilenet(operation, channels, size):
    for images in (1, 4):
        assert choosing.best(operation, problem(channels, size, images=images)).algorithm == "bands"
    assert choosing.best(operation, problem(channels, size, groups=1)).algorithm != "bands"


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
@pytest.mark.parametrize("module", [bands, taps])
@pytest.mark.parametrize(
    "p", [problem(32, 40), problem(48, 9, images=4), problem(24, 31, stride=2, images=2)]
)
def test_the_forecast_of_the_workspace_covers_what_is_taken(monkeypatch, operation, p, module):
    taken = {}

    def counted(xp, shape, dtype, slot=""):
        taken[slot] = max(taken.get(slot, 0), np.dtype(dtype).itemsize * int(np.prod(shape)))
        return workspace(xp, shape, dtype, slot)

    workspace = module.workspace
    monkeypatch.setattr(module, "workspace", counted)
    plan = choosing.plans(operation, p)[module.__name__.rpartition(".")[2]]
    plan.run(*operands(operation, p))
    assert 0 < sum(taken.values()) <= plan.workspace


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
def test_results_do_not_depend_on_how_the_work_is_cut(monkeypatch, operation):
    p, results = problem(12, 11, images=3), []
    for chunk, few in ((1 << 20, 16), (1, 16), (1, 3), (9000, 3)):
        monkeypatch.setattr(bands, "CHUNK", chunk)
        monkeypatch.setattr(bands, "FEW_ROWS", few)
        arrays = operands(operation, p)
        choosing.plans(operation, p)["bands"].run(*arrays)
        results.append(arrays[3 if operation == "conv2d" else 2])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-4, atol=1e-4)
