import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.checks import strategies
from minifcn.functional import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad
from minifcn.functional.pooling import max_pooling, max_pooling_grad
from minifcn.geometry import ConvGeometry

seeds = st.integers(0, 2**32 - 1)


def windows_of(case, size):
    """Yield each output position, and the positions in the image of the taps of its window."""
    for out in itertools.product(*map(range, size)):
        taps = []
        for tap in itertools.product(*map(range, case.kernel_size)):
            position = tuple(
                o * s + t - p for o, s, t, (p, _) in zip(out, case.stride, tap, case.sides, strict=True)
            )
            taps.append(position)
        yield out, taps


def inside(position, size, sides=((0, 0), (0, 0))):
    return all(-p <= i < n + q for i, n, (p, q) in zip(position, size, sides, strict=True))


def loops(x, case, size):
    """Return maximum, its flat index, and average, one position after another."""
    largest, indices, average = (np.zeros((*x.shape[:2], *size)) for _ in range(3))
    for plane in itertools.product(*map(range, x.shape[:2])):
        for out, taps in windows_of(case, size):
            values = {at: x[plane + at] for at in taps if inside(at, x.shape[2:])}
            largest[plane + out] = max(values.values())
            first = next(at for at, value in values.items() if value == largest[plane + out])
            indices[plane + out] = first[0] * x.shape[3] + first[1]
            counted = [at for at in taps if inside(at, x.shape[2:], case.sides)]
            average[plane + out] = sum(values.values()) / len(counted)
    return largest, indices, average


@given(case=strategies.pool_geometries(), seed=seeds, ties=st.booleans())
def test_pools_equal_their_definition(xp, case, seed, ties):
    rng = np.random.default_rng(seed)
    shape = case.batch, case.channels, *case.input_size
    x = rng.integers(-1, 2, shape).astype(float) if ties else rng.normal(size=shape)
    y, indices = max_pool2d(xp.array(x), **case.options, return_indices=True)
    average = avg_pool2d(xp.array(x), **case.options)
    largest, flat, expected = loops(x, case, y.shape[2:])
    assert np.array_equal(xp.numpy(y), largest)
    assert np.array_equal(xp.numpy(indices), flat)  # of equal taps the first one counts
    assert np.allclose(xp.numpy(average), expected, rtol=1e-14, atol=1e-14)


@given(case=strategies.pool_geometries(), seed=seeds)
def test_gradients_equal_differences(xp, case, seed):
    rng = np.random.default_rng(seed)
    shape = case.batch, case.channels, *case.input_size
    # Distinct integers: the largest stays the largest while x changes by less than a half, and both pools are
    # linear there, so a difference is the exact derivative.
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(float)
    u = rng.uniform(-0.5, 0.5, shape)
    options = case.options
    y, indices = max_pool2d(xp.array(x), **options, return_indices=True)
    dy = rng.normal(size=y.shape)
    given_size = {"input_size": case.input_size, **options}

    dx = xp.numpy(max_pool2d_grad(xp.array(dy), indices, **given_size))
    rise = xp.numpy(max_pool2d(xp.array(x + u), **options)) - xp.numpy(y)
    assert dx.shape == shape
    assert np.vdot(dx, u) == pytest.approx(np.vdot(rise, dy), rel=1e-9, abs=1e-9)

    for counted in ({}, {"count_include_pad": False}):
        dx = xp.numpy(avg_pool2d_grad(xp.array(dy), **given_size, **counted))
        assert dx.shape == shape
        assert np.vdot(dx, u) == pytest.approx(
            np.vdot(xp.numpy(avg_pool2d(xp.array(u), **options, **counted)), dy), rel=1e-12, abs=1e-12
        )


@given(case=strategies.pool_geometries(max_kernel=5, max_stride=5, asymmetric=False), seed=seeds)
def test_results_equal_pytorch(case, seed):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(seed)
    x = torch.tensor(
        rng.integers(-2, 3, (case.batch, case.channels, *case.input_size)) * 1.0, requires_grad=True
    )
    options = case.options
    ours, indices = max_pool2d(x.detach().numpy(), **options, return_indices=True)
    theirs, their_indices = functional.max_pool2d(x, **options, return_indices=True)
    assert np.array_equal(ours, theirs.detach())
    assert np.array_equal(indices, their_indices)
    dy = rng.normal(size=ours.shape)
    theirs.backward(torch.tensor(dy))
    dx = max_pool2d_grad(dy, indices, input_size=case.input_size, **options)
    assert np.allclose(dx, x.grad, rtol=1e-14, atol=1e-14)  # ties are broken in the same way

    for counted in (True, False):
        x.grad, options["count_include_pad"] = None, counted
        theirs = functional.avg_pool2d(x, **options)
        ours = avg_pool2d(x.detach().numpy(), **options)
        assert np.allclose(ours, theirs.detach(), rtol=1e-14, atol=1e-14)
        theirs.backward(torch.tensor(dy))
        dx = avg_pool2d_grad(dy, input_size=case.input_size, **options)
        assert np.allclose(dx, x.grad, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept(xp, dtype):
    x = xp.array(np.random.default_rng(0).normal(size=(2, 3, 7, 6)).astype(dtype))
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    y, indices = max_pool2d(x, **options, return_indices=True)
    average = avg_pool2d(x, **options)
    assert (y.dtype, indices.dtype, average.dtype) == (dtype, "int64", dtype)
    assert max_pool2d_grad(y, indices, input_size=(7, 6), **options).dtype == dtype
    assert avg_pool2d_grad(y, input_size=(7, 6), **options).dtype == dtype


@pytest.mark.parametrize(
    ("kernel_size", "dtype"), [((15, 17), "uint8"), ((16, 16), "int32"), ((2, 200), "int32")]
)
def test_windows_of_more_than_255_taps(xp, kernel_size, dtype):
    x = np.random.default_rng(0).normal(size=(1, 2, 20, 201))
    y, winners = max_pooling(xp.array(x), ConvGeometry.of(kernel_size), find_winners=True)
    assert winners.dtype == dtype
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(2, 3))
    flat = windows.reshape(*windows.shape[:4], -1)
    assert np.array_equal(xp.numpy(winners), flat.argmax(axis=-1))
    assert np.array_equal(xp.numpy(y), flat.max(axis=-1))
    dy = np.random.default_rng(1).normal(size=y.shape)
    dx = max_pooling_grad(xp.array(dy), winners, ConvGeometry.of(kernel_size), (20, 201))
    assert xp.numpy(dx).sum() == pytest.approx(dy.sum())
    assert np.vdot(xp.numpy(dx), x) == pytest.approx(np.vdot(dy, xp.numpy(y)))


def test_padding_is_never_the_maximum(xp):
    for value in (-5.0, -1e300):
        x = xp.array(np.full((1, 1, 3, 3), value))
        y, indices = max_pool2d(x, 3, 2, 1, return_indices=True)
        assert (xp.numpy(y) == value).all()
        dy = np.random.default_rng(0).uniform(1, 2, (1, 1, 2, 2))
        dx = max_pool2d_grad(xp.array(dy), indices, input_size=(3, 3), kernel_size=3, stride=2, padding=1)
        assert xp.numpy(dx).sum() == pytest.approx(dy.sum())  # nothing is lost in the padding


def test_results_own_their_memory():
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3))
    y, indices = max_pool2d(x, 1, return_indices=True)
    dx = max_pool2d_grad(y, indices, input_size=(3, 3), kernel_size=1)
    for result in (y, avg_pool2d(x, 1), dx, avg_pool2d_grad(y, input_size=(3, 3), kernel_size=1)):
        assert not np.shares_memory(result, x)
        assert result is y or not np.shares_memory(result, y)
        assert result.flags.c_contiguous


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
@pytest.mark.parametrize(
    ("x", "options", "error", "match"),
    [
        (np.zeros((1, 1, 4, 4), np.uint8), {}, TypeError, "x .* float32 or float64, got uint8"),
        (np.zeros((1, 1, 4, 4), np.float16), {}, TypeError, "got float16"),
        (np.zeros((1, 4, 4)), {}, ValueError, r"x .* 4 axes \(N, C, H, W\), got shape \(1, 4, 4\)"),
        ([[[[1.0]]]], {}, TypeError, "x must be .*, got list"),
        (np.zeros((1, 1, 1, 4)), {}, ValueError, "extent 2 .* height 1 with padding 0"),
        (np.zeros((1, 1, 4, 1)), {}, ValueError, "width 1"),
        (np.zeros((1, 1, 4, 4)), {"padding": (1, 2)}, ValueError, "padding .* kernel_size 2, got 2"),
        (
            np.zeros((1, 1, 4, 4)),
            {"padding": ((0, 0), (0, 2))},
            ValueError,
            "padding .* kernel_size 2, got 2",
        ),
        (np.zeros((1, 1, 4, 4)), {"stride": 0}, ValueError, "stride .* >= 1, got 0"),
        (np.zeros((1, 1, 4, 4)), {"stride": -1}, ValueError, "stride .* >= 1, got -1"),
        (np.zeros((1, 1, 4, 4)), {"padding": -1}, ValueError, "padding .* >= 0, got -1"),
    ],
)
def test_invalid_arguments_raise(pool, x, options, error, match):
    with pytest.raises(error, match=match):
        pool(x, 2, **options)


def test_invalid_arguments_of_gradients_raise(strict):
    dy, indices = np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), np.int64)
    size = {"input_size": (4, 4), "kernel_size": 2}
    match = r"input_size \(4, 6\) gives an output of \(2, 3\), but dy is \(2, 2\)"
    with pytest.raises(ValueError, match=match):
        max_pool2d_grad(dy, indices, input_size=(4, 6), kernel_size=2)
    with pytest.raises(ValueError, match=match):
        avg_pool2d_grad(dy, input_size=(4, 6), kernel_size=2)
    with pytest.raises(ValueError, match=r"indices \(1, 1, 2, 1\) and dy \(1, 1, 2, 2\) must have one shape"):
        max_pool2d_grad(dy, indices[..., :1], **size)
    with pytest.raises(TypeError, match="dy must be float32 or float64, got int64"):
        avg_pool2d_grad(dy.astype(int), **size)
    with pytest.raises(ValueError, match="dy must have 4 axes"):
        avg_pool2d_grad(dy[0], **size)
    with pytest.raises(TypeError, match=r"dy is on the GPU \(CuPy\), indices is on the CPU"):
        max_pool2d_grad(strict.array(dy), indices, **size)


@given(case=strategies.pool_geometries(), seed=seeds)
def test_the_maxima_do_not_depend_on_return_indices(case, seed):
    x = np.random.default_rng(seed).standard_normal((case.batch, case.channels, *case.input_size))
    y, _ = max_pool2d(x, **case.options, return_indices=True)
    np.testing.assert_array_equal(y, max_pool2d(x, **case.options))


def test_a_gradient_without_indices_raises():
    with pytest.raises(TypeError, match="indices must be an array"):
        max_pool2d_grad(np.ones((1, 1, 2, 2)), None, input_size=(4, 4), kernel_size=2)
