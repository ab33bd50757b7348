"""Plans: what they may depend on, and that the fastest one is chosen."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given

from minifcn import num_threads, set_num_threads
from minifcn.checks.strategies import conv_geometries
from minifcn.functional import conv2d
from minifcn.geometry import ConvGeometry
from minifcn.kernels import algorithms_for, choosing, convolve
from minifcn.kernels import threads as kernel_threads
from minifcn.kernels.plans import Problem
from minifcn.kernels.workspace import _thread


def problem_of(case, dtype="float32"):
    geometry = ConvGeometry.of(case.kernel_size, **case.options)
    sizes = case.input_size, case.output_size
    return Problem(geometry, case.batch, case.in_channels, case.out_channels, *sizes, np.dtype(dtype), np)


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(case=conv_geometries())
def test_the_best_plan_has_the_fewest_seconds(operation, dtype, case):
    problem = problem_of(case, dtype)
    plans = choosing.plans(operation, problem)
    best = choosing.best(operation, problem)
    assert all(name == plan.algorithm for name, plan in plans.items())
    assert best.seconds == min(plan.seconds for plan in plans.values())
    assert 0 < best.seconds < 1e-2
    assert best.algorithm != "loops"
    assert all(plan.workspace > 0 for plan in plans.values() if math.isfinite(plan.seconds))


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
def test_the_choice_does_not_depend_on_the_number_of_threads(operation):
    geometry, before, chosen = ConvGeometry.of(3, padding=1), num_threads(), []
    problems = [
        Problem(geometry, n, c, o, (size, size), (size, size), np.dtype("float32"), np)
        for n in (1, 4)
        for c, o in ((3, 64), (64, 64), (512, 512))
        for size in (7, 30, 120)
    ]
    try:
        for threads in (1, 2, 16):
            set_num_threads(threads)
            choosing.best.cache_clear()
            chosen.append([choosing.best(operation, problem).algorithm for problem in problems])
    finally:
        set_num_threads(before)
    assert chosen[0] == chosen[1] == chosen[2]


@pytest.mark.parametrize("operation", choosing.OPERATIONS)
@pytest.mark.parametrize(
    "geometry",
    [ConvGeometry.of(3, padding=1), ConvGeometry.of(3, 2, groups=2), ConvGeometry.of(5), ConvGeometry.of(1)],
    ids=str,
)
def test_a_run_takes_little_more_than_the_forecast_of_its_workspace(monkeypatch, operation, geometry):
    monkeypatch.setitem(kernel_threads._state, "threads", 1)
    rng, size, outputs = np.random.default_rng(0), (60, 70), geometry.output_size((60, 70))
    problem = Problem(geometry, 2, 16, 24, size, outputs, np.dtype("float32"), np)
    x = rng.standard_normal((2, 16, *size), np.float32)
    y = rng.standard_normal((2, 24, *outputs), np.float32)
    w = rng.standard_normal((24, 16 // geometry.groups, *geometry.kernel_size), np.float32)
    for name, plan in choosing.plans(operation, problem).items():
        if name != "loops":
            _thread.__dict__.clear()  # what was kept of earlier runs
            arguments = {
                "conv2d": (x, w, None, np.empty_like(y), False),
                "conv2d_input_grad": (y, w, np.empty_like(x)),
                "conv2d_weight_grad": (x, y, np.empty_like(w)),
            }[operation]
            tracemalloc.start()
            plan.run(*arguments)
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert taken < 3.5 * plan.workspace, name


def test_an_unsuitable_algorithm_has_no_plan():
    strided = ConvGeometry.of(3, stride=2)
    assert "winograd" not in choosing.algorithms_for("conv2d", strided)
    assert "winograd" in choosing.algorithms_for("conv2d", ConvGeometry.of(3))
    assert "blocks" not in choosing.algorithms_for("conv2d", strided.replace(dilation=2))


@pytest.mark.parametrize("algorithm", algorithms_for("conv2d", ConvGeometry.of(3, padding=1)))
@pytest.mark.parametrize(
    ("shape", "part"),
    [((2, 4, 7, 9), np.s_[:, 1:]), ((2, 3, 9, 9), np.s_[:, :, 2:]), ((2, 3, 7, 11), np.s_[..., 1:-1])],
    ids=["channels", "rows", "columns"],
)
def test_outputs_may_be_any_part_of_a_larger_array(algorithm, shape, part):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 2, 7, 9)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)
    expected = np.maximum(conv2d(x, w, b, padding=1, algorithm="loops"), 0)
    whole = np.full(shape, -1.0)
    convolve(x, w, b, ConvGeometry.of(3, padding=1), whole[part], relu=True, algorithm=algorithm)
    np.testing.assert_allclose(whole[part], expected, rtol=1e-10, atol=1e-10)
    assert (whole == -1).sum() == whole.size - expected.size
