"""The three maps are adjoint; all algorithms equal `loops`; `loops` equal SciPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings

from minifcn import functional as F
from minifcn.checks import ConvCase
from minifcn.checks.strategies import conv_geometries
from minifcn.geometry import ConvGeometry
from minifcn.kernels import convolve, im2col, polyphase, windows, winograd, workspace
from minifcn.kernels import threads as kernel_threads

EXACT = 1e-12

LARGER = {
    "max_batch": 3, "max_channels": 4, "max_groups": 4, "max_outputs": 9,
    "max_kernel": 8, "max_stride": 7, "max_padding": 6, "max_dilation": 5,
}  # fmt: skip


def geometry_of(case):
    return ConvGeometry.of(case.kernel_size, **case.options)


def all_results(case, x, w, g):
    """Return the results of every algorithm: y, dx, dw by name."""
    options = case.options

    def names(operation):
        return ("auto", *F.algorithms_for(operation, geometry_of(case)))

    y = {name: F.conv2d(x, w, algorithm=name, **options) for name in names("conv2d")}
    dx = {
        name: F.conv2d_input_grad(g, w, input_size=case.input_size, algorithm=name, **options)
        for name in names("conv2d_input_grad")
    }
    dw = {
        name: F.conv2d_weight_grad(x, g, kernel_size=case.kernel_size, algorithm=name, **options)
        for name in names("conv2d_weight_grad")
    }
    return y, dx, dw


def check_adjoints_and_algorithms(case):
    x, w, g = case.operands()
    y, dx, dw = all_results(case, x, w, g)
    for operand, results in ((g, y), (x, dx), (w, dw)):
        scale = np.linalg.norm(y["loops"]) * np.linalg.norm(g)
        for name, result in results.items():
            assert abs(np.vdot(operand, result) - np.vdot(y["loops"], g)) <= EXACT * scale, name
    for results in (y, dx, dw):
        right = results["loops"]
        for name, result in results.items():
            assert result.shape == right.shape, name
            assert np.abs(result - right).max() <= EXACT * np.abs(right).max(), name


@settings(max_examples=400)
@given(conv_geometries())
def test_the_maps_are_adjoint_and_the_algorithms_agree(case):
    check_adjoints_and_algorithms(case)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(conv_geometries(**LARGER))
def test_the_maps_are_adjoint_and_the_algorithms_agree_on_2000_larger_geometries(case):
    check_adjoints_and_algorithms(case)


# `loops` compared with SciPy, which shares no code with it


def dilated(w, dilation):
    """Return kernels with zeros between their taps."""
    o, c, kh, kw = w.shape
    spread = np.zeros((o, c, dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1))
    spread[:, :, :: dilation[0], :: dilation[1]] = w
    return spread


def correlated(x, w, case):
    """Convolution by SciPy: pad, spread the kernel, correlate plane by plane, keep every stride-th output."""
    s, t = case.stride
    x = np.pad(x, ((0, 0), (0, 0), *case.sides))
    kernels = dilated(w, case.dilation)
    per_group = case.out_channels // case.groups
    y = np.zeros((case.batch, case.out_channels, *case.output_size))
    for n, o, c in np.ndindex(case.batch, case.out_channels, w.shape[1]):
        plane = x[n, o // per_group * w.shape[1] + c]
        y[n, o] += scipy.signal.correlate2d(plane, kernels[o, c], mode="valid")[::s, ::t]
    return y


@settings(max_examples=300)
@given(conv_geometries())
def test_loops_equal_scipy(case):
    x, w, _ = case.operands()
    np.testing.assert_allclose(
        F.conv2d(x, w, algorithm="loops", **case.options), correlated(x, w, case), rtol=0, atol=1e-12
    )


@given(conv_geometries())
def test_bias_is_added_to_every_position(case):
    x, w, _ = case.operands()
    b = np.random.default_rng(1).standard_normal(case.out_channels)
    expected = F.conv2d(x, w, algorithm="loops", **case.options) + b[None, :, None, None]
    for name in ("auto", *F.algorithms_for("conv2d", geometry_of(case))):
        y = F.conv2d(x, w, b, algorithm=name, **case.options)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_bias_gradients_are_sums_however_they_are_cut(monkeypatch, chunk):
    monkeypatch.setattr(F.convolution, "BIAS_CHUNK", chunk)
    whole = np.random.default_rng(0).standard_normal((3, 10, 2, 3))
    for dy in (whole, whole[:, 2:9], whole[:, :, :, ::-1]):
        np.testing.assert_allclose(F.conv2d_bias_grad(dy), dy.sum(axis=(0, 2, 3)), rtol=0, atol=1e-13)


@given(conv_geometries())
def test_a_fused_relu_equals_relu_after_the_convolution(case):
    x, w, _ = case.operands()
    b = np.random.default_rng(1).standard_normal(case.out_channels)
    for name in ("auto", *F.algorithms_for("conv2d", geometry_of(case))):
        y = F.conv2d(x, w, b, algorithm=name, **case.options)
        rectified = np.empty_like(y)
        convolve(x, w, b, geometry_of(case), rectified, relu=True, algorithm=name)
        np.testing.assert_array_equal(rectified, np.where(y > 0, y, 0))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("axis", range(4))
def test_results_are_written_to_any_view(images, axis):
    case = ConvCase(images, 3, 4, (20, 21), (3, 3), padding=(1, 1))
    x, w, _ = case.operands()
    expected = F.conv2d(x, w, algorithm="loops", **case.options)
    for name in F.algorithms_for("conv2d", geometry_of(case)):
        for step in (2, -1):
            whole = np.full([abs(step) ** (i == axis) * n for i, n in enumerate(expected.shape)], np.nan)
            view = whole[tuple(slice(None, None, step if i == axis else None) for i in range(4))]
            convolve(x, w, None, geometry_of(case), view, algorithm=name)
            np.testing.assert_allclose(view, expected, rtol=0, atol=1e-11, err_msg=f"{name}, {step}")
            assert np.isnan(whole).sum() == whole.size - view.size


# Operations so large that they are cut into chunks

BIG = [
    ConvCase(2, 3, 4, (41, 50), (3, 3), padding=(1, 1)),
    ConvCase(5, 4, 6, (30, 31), (2, 3), stride=(2, 1), dilation=(1, 2), groups=2),
    ConvCase(1, 8, 8, (64, 64), (5, 5), padding=(2, 2), groups=8),
    ConvCase(1, 64, 2, (12, 90), (7, 7), padding=(3, 3)),  # a chunk is less than a row
    ConvCase(1, 6, 5, (90, 90), (1, 1)),
    ConvCase(40, 2, 3, (8, 8), (3, 3)),
    ConvCase(1, 2, 2, (130, 130), (64, 64), stride=(32, 32)),
    ConvCase(
        2, 3, 3, (60, 70), (17, 18), stride=(5, 8), padding=(6, 7), groups=3
    ),  # windows are copied by rows
    ConvCase(1, 300, 260, (6, 7), (3, 3), padding=(1, 1)),  # too many weights for several sums
    ConvCase(1, 1, 1, (1, 5000), (1, 3), padding=(0, 1)),
    ConvCase(1, 1, 1, (5000, 1), (3, 1), stride=(2, 1)),
]


@pytest.mark.parametrize("case", BIG, ids=str)
def test_large_operations(case):
    check_adjoints_and_algorithms(case)


TINY = {
    workspace: {"CHUNK_BYTES": 64},
    windows: {"MAX_POSITIONS": 2, "MIN_POSITIONS": 1, "LONG_RUN": 2},
    im2col: {"MANY_WEIGHTS": 1, "LONG_SUM": 1},
    polyphase: {"LONG_RUN": 2},
    winograd: {"MIN_TILES": 1, "SUM_BYTES": 100, "SMALL_SUM_BYTES": 500},
}
"""Limits so low that every small case is cut into many chunks."""


@settings(max_examples=200)
@given(conv_geometries(max_outputs=6, max_stride=4))
def test_the_maps_are_adjoint_and_the_algorithms_agree_with_many_chunks(case):
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module, limits in TINY.items():
            for name, limit in limits.items():
                monkeypatch.setattr(module, name, limit)
        check_adjoints_and_algorithms(case)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, threads):
    case = BIG[1]
    x, w, g = case.operands()
    expected = all_results(case, x, w, g)
    monkeypatch.setitem(kernel_threads._state, "threads", threads)
    monkeypatch.setitem(kernel_threads._state, "pool", None)
    for before, now in zip(expected, all_results(case, x, w, g), strict=True):
        for name in before:
            np.testing.assert_array_equal(before[name], now[name])


# Properties


@given(conv_geometries())
def test_the_maps_are_linear_in_each_operand(case):
    x, w, _ = case.operands(1)
    more_x, more_w, _ = case.operands(2)

    def conv(x, w):
        return F.conv2d(x, w, **case.options)

    np.testing.assert_allclose(conv(x + 2 * more_x, w), conv(x, w) + 2 * conv(more_x, w), atol=1e-11)
    np.testing.assert_allclose(conv(x, w + 2 * more_w), conv(x, w) + 2 * conv(x, more_w), atol=1e-11)


@given(conv_geometries(max_padding=0))
def test_shifting_the_input_by_a_stride_shifts_the_output_by_one(case):
    (s, t), (h, w) = case.stride, case.input_size
    canvas = np.random.default_rng(0).standard_normal((case.batch, case.in_channels, h + s, w + t))
    _, kernel, _ = case.operands()
    whole = F.conv2d(canvas, kernel, **case.options)
    shifted = F.conv2d(canvas[:, :, s:, t:], kernel, **case.options)
    np.testing.assert_allclose(whole[:, :, 1:, 1:], shifted, rtol=0, atol=1e-12)


def test_one_by_one_and_depthwise_convolutions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5))
    w = rng.standard_normal((6, 3, 1, 1))
    np.testing.assert_allclose(F.conv2d(x, w), np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]), atol=1e-13)
    w = rng.standard_normal((3, 1, 2, 2))
    apart = [F.conv2d(x[:, c : c + 1], w[c : c + 1]) for c in range(3)]
    np.testing.assert_allclose(F.conv2d(x, w, groups=3), np.concatenate(apart, axis=1), atol=1e-13)


def test_integers_and_pairs_are_equivalent():
    x, w, g = ConvCase(1, 2, 2, (7, 7), (3, 3), (2, 2), (1, 1), (2, 2)).operands()
    numbers = {"stride": 2, "padding": 1, "dilation": 2}
    pairs = {"stride": (2, 2), "padding": [1, 1], "dilation": (np.int64(2), 2)}
    np.testing.assert_array_equal(F.conv2d(x, w, **numbers), F.conv2d(x, w, **pairs))
    np.testing.assert_array_equal(
        F.conv2d_weight_grad(x, g, kernel_size=3, **numbers),
        F.conv2d_weight_grad(x, g, kernel_size=(3, 3), **pairs),
    )


# Operands of every kind, in every library

MIXED = ConvCase(2, 4, 6, (7, 8), (3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), 2)
ALGORITHMS = [
    (operation, name)
    for operation in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    for name in ("auto", *F.algorithms_for(operation))
]


def mixed(algorithm):
    """Return a case that the algorithm is suitable for, with as many options as possible."""
    if algorithm == "winograd":
        return ConvCase(2, 4, 6, (7, 10), (3, 3), padding=((1, 0), (2, 1)))
    return replace(MIXED, dilation=(1, 1)) if algorithm == "blocks" else MIXED


def call(operation, algorithm, case, x, w, g):
    """Call one of the three maps; return its operands and its result."""
    options = case.options | {"algorithm": algorithm}
    if operation == "conv2d":
        return (x, w), F.conv2d(x, w, **options)
    if operation == "conv2d_input_grad":
        return (g, w), F.conv2d_input_grad(g, w, input_size=case.input_size, **options)
    return (x, g), F.conv2d_weight_grad(x, g, kernel_size=case.kernel_size, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("operation", "algorithm"), ALGORITHMS)
def test_every_library_gives_the_same_result_and_dtype(xp, operation, algorithm, dtype):
    host = [a.astype(dtype) for a in mixed(algorithm).operands()]
    _, expected = call(operation, "loops", mixed(algorithm), *mixed(algorithm).operands())
    moved = [xp.array(a) for a in host]
    operands, result = call(operation, algorithm, mixed(algorithm), *moved)
    back = xp.numpy(result)
    assert back.dtype == dtype
    scale = np.abs(expected).max()
    np.testing.assert_allclose(back, expected, rtol=0, atol=scale * (1e-12 if dtype == "float64" else 1e-5))
    for before, after in zip(host, moved, strict=True):
        np.testing.assert_array_equal(xp.numpy(after), before)
    assert all(operand is not result for operand in operands)


@pytest.mark.parametrize(("operation", "algorithm"), ALGORITHMS)
@pytest.mark.parametrize("case", [None, ConvCase(2, 3, 3, (4, 4), (1, 1)), ConvCase()], ids=str)
def test_results_own_their_memory(operation, algorithm, case):
    if case is None or algorithm == "winograd":
        case = mixed(algorithm)
    x, w, g = case.operands()
    operands, result = call(operation, algorithm, case, x, w, g)
    kept = result.copy()
    assert result.flags.writeable
    assert not any(np.shares_memory(result, operand) for operand in operands)
    _, again = call(operation, algorithm, case, -x, w, -g)
    assert not np.shares_memory(result, again)
    np.testing.assert_array_equal(result, kept)


@pytest.mark.parametrize(("operation", "algorithm"), ALGORITHMS)
@pytest.mark.parametrize(
    "view",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=3)[:, :, :, ::2],
        lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
        lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    ],
    ids=["fortran", "every other", "reversed", "channels last"],
)
def test_operands_need_not_be_contiguous(operation, algorithm, view):
    operands = mixed(algorithm).operands()
    _, expected = call(operation, algorithm, mixed(algorithm), *operands)
    views = [view(a) for a in operands]
    assert not any(a.flags.c_contiguous for a in views)
    _, result = call(operation, algorithm, mixed(algorithm), *views)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_gradients_may_be_broadcast():
    _, w, _ = MIXED.operands()
    ones = np.broadcast_to(1.0, (2, 6, *MIXED.output_size))
    options = MIXED.options | {"input_size": MIXED.input_size}
    np.testing.assert_allclose(
        F.conv2d_input_grad(ones, w, **options), F.conv2d_input_grad(ones.copy(), w, **options), atol=1e-13
    )


@pytest.mark.parametrize(("operation", "algorithm"), ALGORITHMS)
def test_an_empty_batch_gives_an_empty_result_and_a_zero_weight_gradient(xp, operation, algorithm):
    x, w, g = mixed(algorithm).operands()
    _, expected = call(operation, algorithm, mixed(algorithm), x, w, g)
    _, result = call(operation, algorithm, mixed(algorithm), xp.array(x[:0]), xp.array(w), xp.array(g[:0]))
    back = xp.numpy(result)
    if operation == "conv2d_weight_grad":
        np.testing.assert_array_equal(back, np.zeros_like(expected))
    else:
        assert back.shape == (0, *expected.shape[1:])


@pytest.mark.parametrize(("operation", "algorithm"), ALGORITHMS)
def test_nan_stays_in_its_image(operation, algorithm):
    """A nan in one image must not reach another image through a workspace."""
    x, w, g = mixed(algorithm).operands()
    x[1], g[1] = np.nan, np.nan
    _, result = call(operation, algorithm, mixed(algorithm), x, w, g)
    if operation == "conv2d_weight_grad":
        assert np.isnan(result).any()
    else:
        assert np.isfinite(result[0]).all()
        assert np.isnan(result[1]).any()


def test_the_error_in_float32_is_near_rounding():
    case = ConvCase(1, 64, 8, (20, 20), (3, 3), padding=(1, 1))
    x, w, g = case.operands()
    for operation, algorithm in ALGORITHMS:
        _, right = call(operation, "loops" if operation != "conv2d_weight_grad" else "im2col", case, x, w, g)
        _, single = call(operation, algorithm, case, *(a.astype(np.float32) for a in (x, w, g)))
        assert np.abs(single - right).max() <= 1e-6 * math.sqrt(576) * np.abs(right).max()
