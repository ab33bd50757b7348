"""Winograd's algorithm at its edges, its accuracy, and where it is chosen."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn.checks import ConvCase
from minifcn.geometry import ConvGeometry
from minifcn.kernels import choosing, convolve, winograd
from minifcn.kernels import threads as kernel_threads
from minifcn.kernels.plans import Problem

SIZES = st.one_of(st.integers(1, 13), st.integers(1, 40))


@st.composite
def cases(draw):
    """Draw the outputs and the padding, and derive the input, so that every case is valid."""
    # Some tiles lie in the padding.
    padding = tuple((draw(st.integers(0, 9)), draw(st.integers(0, 9))) for _ in range(2))
    # Padding of more than 2 in all needs so many outputs that the input has 1 element.
    size = tuple(draw(SIZES) + max(sum(p) - 2, 0) for p in padding)
    return ConvCase(
        batch=draw(st.integers(0, 3)),
        in_channels=draw(st.integers(1, 5)),
        out_channels=draw(st.integers(1, 5)),
        input_size=tuple(outputs + 2 - sum(p) for outputs, p in zip(size, padding, strict=True)),
        kernel_size=(3, 3),
        padding=padding,
    )


@pytest.fixture(params=["tiles", "filters"])
def kept(request, monkeypatch):
    """What is transformed first and kept, whichever is smaller."""
    monkeypatch.setattr(winograd, "has_few_tiles", lambda tiles, *_: tiles > 0 and request.param == "tiles")
    return request.param


@settings(max_examples=200)
@given(case=cases())
def test_the_maps_equal_im2col_and_are_adjoint(kept, case):
    x, w, g = case.operands()
    results = {}
    for name in ("winograd", "im2col"):
        options = case.options | {"algorithm": name}
        results[name] = (
            F.conv2d(x, w, **options),
            F.conv2d_input_grad(g, w, input_size=case.input_size, **options),
            F.conv2d_weight_grad(x, g, kernel_size=3, **options),
        )
    y, dx, dw = results["winograd"]
    scale = np.linalg.norm(y) * np.linalg.norm(g)
    assert abs(np.vdot(y, g) - np.vdot(x, dx)) <= 1e-12 * scale
    assert abs(np.vdot(y, g) - np.vdot(w, dw)) <= 1e-12 * scale
    for mine, right in zip(*results.values(), strict=True):
        assert mine.shape == right.shape
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-12 * max(np.abs(right).max(initial=0), 1))


def single(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_three_matrices_correlate_integers_exactly(outputs):
    a, g, b = winograd.transforms(outputs)
    rng = np.random.default_rng(0)
    for _ in range(50):
        d, f = rng.integers(-99, 100, outputs + 2), rng.integers(-99, 100, 3)
        right = scipy.signal.correlate(d, f, mode="valid")
        np.testing.assert_array_equal(np.rint(a @ ((g @ f) * (b @ d))), right)


def test_the_error_in_float32_is_below_1e_4_over_512_channels(kept):
    rng = np.random.default_rng(0)
    x, w, g = (
        rng.normal(size=(1, 512, 12, 16)),
        rng.normal(size=(64, 512, 3, 3)),
        rng.normal(size=(1, 64, 12, 16)),
    )
    for operation, operands, more in (
        (F.conv2d, (x, w), {}),
        (F.conv2d_input_grad, (g, w), {"input_size": (12, 16)}),
        (F.conv2d_weight_grad, (x, g), {"kernel_size": 3}),
    ):
        right = operation(*operands, padding=1, algorithm="im2col", **more)
        single = (a.astype(np.float32) for a in operands)
        error = np.abs(operation(*single, padding=1, algorithm="winograd", **more) - right).max()
        assert error < 1e-4 * np.abs(right).max()


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_the_error_in_float32_is_at_most_4_5_times_that_of_im2col(kept, channels):
    rng = np.random.default_rng(0)
    x, w = single(rng, 1, channels, 16, 20), single(rng, 8, channels, 3, 3)
    exact = F.conv2d(x.astype(float), w.astype(float), padding=1)
    mine, direct = (
        np.linalg.norm(F.conv2d(x, w, padding=1, algorithm=name) - exact) for name in ("winograd", "im2col")
    )
    assert mine <= 4.5 * direct


def test_the_bias_is_added_to_every_output(kept):
    case = ConvCase(2, 3, 4, (5, 9), (3, 3), padding=(1, 0))
    x, w, _ = case.operands()
    b = np.arange(4.0)
    with_bias = F.conv2d(x, w, b, algorithm="winograd", **case.options)
    np.testing.assert_allclose(
        with_bias, F.conv2d(x, w, algorithm="winograd", **case.options) + b[:, None, None], atol=1e-12
    )


def test_results_are_written_to_some_channels_of_a_larger_array(kept):
    case = ConvCase(2, 3, 4, (9, 6), (3, 3), padding=(1, 1))
    x, w, _ = case.operands()
    y = np.full((2, 9, 9, 6), np.nan)
    convolve(x, w, None, ConvGeometry.of(3, padding=1), y[:, 2:6], algorithm="winograd")
    np.testing.assert_allclose(y[:, 2:6], F.conv2d(x, w, algorithm="loops", **case.options), atol=1e-12)
    assert np.isnan(y[:, [0, 1, 6, 7, 8]]).all()


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"stride": (1, 2)}])
def test_other_convolutions_raise(options):
    x, w = np.zeros((1, 2, 9, 9)), np.zeros((2, 2 // options.get("groups", 1), 3, 3))
    with pytest.raises(ValueError, match=r"algorithm .* auto, im2col,.* loops, got 'winograd'"):
        F.conv2d(x, w, algorithm="winograd", **options)


def chosen(dtype, shape, channels=(64, 64), kernel=3, **options):
    geometry = ConvGeometry.of(kernel, padding=1, **options)
    n, _, *size = shape
    outputs = geometry.output_size(size)
    problem = Problem(geometry, n, *channels, tuple(size), outputs, np.dtype(dtype), np)
    return choosing.best("conv2d", problem).algorithm


def test_it_is_chosen_where_it_is_fast_and_never_in_float64():
    assert chosen("float32", (1, 64, 90, 120)) == "winograd"
    assert chosen("float64", (1, 64, 90, 120)) != "winograd"
    assert chosen("float32", (1, 64, 90, 120), stride=2) != "winograd"
    assert chosen("float32", (1, 3, 360, 480), channels=(3, 64)) != "winograd"  # few products to save
    # Filters cost more than tiles.
    assert chosen("float32", (1, 512, 6, 6), channels=(512, 512)) != "winograd"
    # VGG16's last layers at 480 x 360: few tiles of 4 x 4, but of many channels.
    assert chosen("float32", (1, 512, 22, 30), channels=(512, 512)) == "winograd"
    assert winograd.has_few_tiles(48, 512, 512)
    assert not winograd.has_few_tiles(48, 64, 64)
    assert not winograd.has_few_tiles(720, 512, 512)
    assert not winograd.has_few_tiles(0, 512, 512)


def test_results_are_identical_for_any_number_of_threads(kept, monkeypatch):
    case = ConvCase(2, 32, 16, (40, 50), (3, 3), padding=(1, 1))
    operands = [a.astype(np.float32) for a in case.operands()]

    def results():
        x, w, g = operands
        options = case.options | {"algorithm": "winograd"}
        return (
            F.conv2d(x, w, **options),
            F.conv2d_input_grad(g, w, input_size=case.input_size, **options),
            F.conv2d_weight_grad(x, g, kernel_size=3, **options),
        )

    several = results()
    monkeypatch.setitem(kernel_threads._state, "threads", 1)
    for one, more in zip(results(), several, strict=True):
        np.testing.assert_array_equal(one, more)


# What the docstring states of large and of non-finite numbers

BOUND = 2e-5  # of the largest input of a tile, times the sum of |w|


def largest_of_tiles(x):
    """Return the largest |input| of the tile of each output, with padding 1."""
    padded = np.pad(abs(x).max(axis=(0, 1)), 1)
    tops = 4 * (np.arange(x.shape[2]) // 4)
    return np.array([[padded[i : i + 6, j : j + 6].max() for j in tops] for i in tops])


@pytest.mark.parametrize("large", [1.0, 1e3, 1e7, 1e15])
@pytest.mark.parametrize("channels", [1, 64])
def test_the_error_is_bounded_by_the_largest_input_of_the_tile(channels, large):
    rng = np.random.default_rng(0)
    x, w = single(rng, 1, channels, 20, 20), single(rng, 8, channels, 3, 3)
    x[:, :, 9, 10] *= large
    exact = F.conv2d(x.astype(float), w.astype(float), padding=1)
    error = abs(F.conv2d(x, w, padding=1, algorithm="winograd") - exact)
    sums = abs(w).sum(axis=(1, 2, 3), dtype=float)[:, None, None]
    assert (error <= BOUND * largest_of_tiles(x) * sums).all()


@pytest.mark.parametrize("operation", [F.conv2d, F.conv2d_input_grad])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_reach_8_x_8_positions_at_most(operation, value):
    rng = np.random.default_rng(0)
    x, w = single(rng, 1, 2, 18, 19), single(rng, 2, 2, 3, 3)
    more = {"input_size": (18, 19)} if operation is F.conv2d_input_grad else {}
    with np.errstate(invalid="ignore"):
        for i, j in [(0, 0), (3, 4), (4, 7), (8, 9), (17, 18)]:
            one = x.copy()
            one[0, 1, i, j] = value
            y = operation(one, w, padding=1, algorithm="winograd", **more)
            least = ~np.isfinite(operation(one, w, padding=1, algorithm="loops", **more))
            reached = ~np.isfinite(y)
            assert reached[least].all()
            rows, cols = np.nonzero(reached.any(axis=(0, 1)))
            for found, at in ((rows, i), (cols, j)):
                assert found.max() - found.min() < 8
                assert found.min() >= at - 5
                assert found.max() <= at + 5


def test_inputs_up_to_1e37_stay_finite():
    rng = np.random.default_rng(0)
    x, w = single(rng, 1, 3, 12, 12), single(rng, 4, 3, 3, 3)
    x *= np.float32(1e37) / abs(x).max()
    w /= 256 * abs(w).sum(axis=(1, 2, 3), keepdims=True)
    y = F.conv2d(x, w, padding=1, algorithm="winograd")
    assert np.isfinite(y).all()
