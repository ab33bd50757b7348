import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.checks import strategies
from minifcn.functional import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad

seeds = st.integers(0, 2**32 - 1)


def windows_of(case, size):
    """Yield each output position, the taps of its window by number, and where in the image they lie."""
    for out in itertools.product(*map(range, size)):
        taps = {}
        for number, tap in enumerate(itertools.product(*map(range, case.kernel_size))):
            taps[number] = tuple(
                o * s + t - p for o, s, t, p in zip(out, case.stride, tap, case.padding, strict=True)
            )
        yield out, taps


def inside(position, size, padding=(0, 0)):
    return all(-p <= i < n + p for i, n, p in zip(position, size, padding, strict=True))


def loops(x, case, size):
    """Max with the number of its tap, and average, by one position after another."""
    largest, winners, average = (np.zeros((*x.shape[:2], *size)) for _ in range(3))
    for plane in itertools.product(*map(range, x.shape[:2])):
        for out, taps in windows_of(case, size):
            values = {n: x[plane + at] for n, at in taps.items() if inside(at, x.shape[2:])}
            best = max(values.values())
            largest[plane + out] = best
            winners[plane + out] = next(n for n, value in values.items() if value == best)
            counted = [at for at in taps.values() if inside(at, x.shape[2:], case.padding)]
            average[plane + out] = sum(values.values()) / len(counted)
    return largest, winners, average


@given(case=strategies.pool_geometries(), seed=seeds, ties=st.booleans())
def test_pools_equal_their_definition(xp, case, seed, ties):
    rng = np.random.default_rng(seed)
    shape = case.batch, case.channels, *case.input_size
    x = rng.integers(-1, 2, shape).astype(float) if ties else rng.normal(size=shape)
    y, winners = max_pool2d(xp.array(x), **case.options)
    average = avg_pool2d(xp.array(x), **case.options)
    largest, numbers, expected = loops(x, case, y.shape[2:])
    assert np.array_equal(xp.numpy(y), largest)
    assert np.array_equal(xp.numpy(winners), numbers)  # of equal taps the first one wins
    assert np.allclose(xp.numpy(average), expected, rtol=1e-14, atol=1e-14)


@given(case=strategies.pool_geometries(), seed=seeds)
def test_gradients_are_the_slopes(xp, case, seed):
    rng = np.random.default_rng(seed)
    shape = case.batch, case.channels, *case.input_size
    # Distinct whole numbers: the largest stays the largest while x moves by less than a half, and both pools
    # are linear there, so a difference is the slope itself.
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(float)
    u = rng.uniform(-0.5, 0.5, shape)
    options = case.options
    y, winners = max_pool2d(xp.array(x), **options)
    dy = rng.normal(size=y.shape)
    given_size = {"input_size": case.input_size, **options}

    dx = xp.numpy(max_pool2d_grad(xp.array(dy), winners, **given_size))
    rise = xp.numpy(max_pool2d(xp.array(x + u), **options)[0]) - xp.numpy(y)
    assert dx.shape == shape
    assert np.vdot(dx, u) == pytest.approx(np.vdot(rise, dy), rel=1e-9, abs=1e-9)

    dx = xp.numpy(avg_pool2d_grad(xp.array(dy), **given_size))
    assert dx.shape == shape
    assert np.vdot(dx, u) == pytest.approx(
        np.vdot(xp.numpy(avg_pool2d(xp.array(u), **options)), dy), rel=1e-12, abs=1e-12
    )


@given(case=strategies.pool_geometries(max_kernel=5, max_stride=5), seed=seeds)
def test_the_same_as_pytorch(case, seed):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(seed)
    x = torch.tensor(
        rng.integers(-2, 3, (case.batch, case.channels, *case.input_size)) * 1.0, requires_grad=True
    )
    options = case.options
    ours, winners = max_pool2d(x.detach().numpy(), **options)
    theirs = functional.max_pool2d(x, **options)
    assert np.array_equal(ours, theirs.detach())
    dy = rng.normal(size=ours.shape)
    theirs.backward(torch.tensor(dy))
    dx = max_pool2d_grad(dy, winners, input_size=case.input_size, **options)
    assert np.allclose(dx, x.grad, rtol=1e-14, atol=1e-14)  # ties, too, are broken as there

    x.grad = None
    theirs = functional.avg_pool2d(x, **options)
    assert np.allclose(avg_pool2d(x.detach().numpy(), **options), theirs.detach(), rtol=1e-14, atol=1e-14)
    theirs.backward(torch.tensor(dy))
    dx = avg_pool2d_grad(dy, input_size=case.input_size, **options)
    assert np.allclose(dx, x.grad, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_stay(xp, dtype):
    x = xp.array(np.random.default_rng(0).normal(size=(2, 3, 7, 6)).astype(dtype))
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    y, winners = max_pool2d(x, **options)
    average = avg_pool2d(x, **options)
    assert (y.dtype, winners.dtype, average.dtype) == (dtype, "uint8", dtype)
    assert max_pool2d_grad(y, winners, input_size=(7, 6), **options).dtype == dtype
    assert avg_pool2d_grad(y, input_size=(7, 6), **options).dtype == dtype


@pytest.mark.parametrize(
    ("kernel_size", "dtype"), [((15, 17), "uint8"), ((16, 16), "int32"), ((2, 200), "int32")]
)
def test_windows_of_more_than_255_taps(xp, kernel_size, dtype):
    x = np.random.default_rng(0).normal(size=(1, 2, 20, 201))
    y, winners = max_pool2d(xp.array(x), kernel_size, 1)
    assert winners.dtype == dtype
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(2, 3))
    flat = windows.reshape(*windows.shape[:4], -1)
    assert np.array_equal(xp.numpy(winners), flat.argmax(axis=-1))
    assert np.array_equal(xp.numpy(y), flat.max(axis=-1))
    dy = np.random.default_rng(1).normal(size=y.shape)
    dx = max_pool2d_grad(xp.array(dy), winners, input_size=(20, 201), kernel_size=kernel_size, stride=1)
    assert xp.numpy(dx).sum() == pytest.approx(dy.sum())
    assert np.vdot(xp.numpy(dx), x) == pytest.approx(np.vdot(dy, xp.numpy(y)))


def test_padding_never_wins(xp):
    for value in (-5.0, -1e300):
        x = xp.array(np.full((1, 1, 3, 3), value))
        y, winners = max_pool2d(x, 3, 2, 1)
        assert (xp.numpy(y) == value).all()
        dy = np.random.default_rng(0).uniform(1, 2, (1, 1, 2, 2))
        dx = max_pool2d_grad(xp.array(dy), winners, input_size=(3, 3), kernel_size=3, stride=2, padding=1)
        assert xp.numpy(dx).sum() == pytest.approx(dy.sum())  # none of it is lost in the padding


def test_results_own_their_memory():
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3))
    y, winners = max_pool2d(x, 1)
    dx = max_pool2d_grad(y, winners, input_size=(3, 3), kernel_size=1)
    for result in (y, avg_pool2d(x, 1), dx, avg_pool2d_grad(y, input_size=(3, 3), kernel_size=1)):
        assert not np.shares_memory(result, x)
        assert result is y or not np.shares_memory(result, y)
        assert result.flags.c_contiguous


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
@pytest.mark.parametrize(
    ("x", "options", "error", "said"),
    [
        (
            np.zeros((1, 1, 4, 4), np.uint8),
            {},
            TypeError,
            r"x must be float32 or float64, got uint8; convert it",
        ),
        (np.zeros((1, 1, 4, 4), np.float16), {}, TypeError, "got float16"),
        (np.zeros((1, 4, 4)), {}, ValueError, r"x must have 4 axes \(N, C, H, W\), got shape \(1, 4, 4\)"),
        ([[[[1.0]]]], {}, TypeError, "x must be a NumPy or CuPy array, got list"),
        (np.zeros((1, 1, 1, 4)), {}, ValueError, "extent 2 .* does not fit into height 1 with padding 0"),
        (np.zeros((1, 1, 4, 1)), {}, ValueError, "does not fit into width 1"),
        (np.zeros((1, 1, 4, 4)), {"padding": (1, 2)}, ValueError, "at most half of its kernel_size 2, got 2"),
        (np.zeros((1, 1, 4, 4)), {"stride": 0}, ValueError, "stride must be an integer >= 1, got 0"),
        (
            np.zeros((1, 1, 4, 4)),
            {"stride": -1},
            ValueError,
            "stride must be an integer >= 1, got -1",
        ),
        (
            np.zeros((1, 1, 4, 4)),
            {"padding": -1},
            ValueError,
            "padding must be an integer >= 0, got -1",
        ),
    ],
)
def test_what_is_refused(pool, x, options, error, said):
    with pytest.raises(error, match=said):
        pool(x, 2, **options)


def test_what_the_gradients_refuse(strict):
    dy, winners = np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), np.uint8)
    size = {"input_size": (4, 4), "kernel_size": 2}
    said = r"input_size \(4, 6\) gives an output of \(2, 3\), but dy is \(2, 2\)"
    with pytest.raises(ValueError, match=said):
        max_pool2d_grad(dy, winners, input_size=(4, 6), kernel_size=2)
    with pytest.raises(ValueError, match=said):
        avg_pool2d_grad(dy, input_size=(4, 6), kernel_size=2)
    with pytest.raises(ValueError, match=r"winners \(1, 1, 2, 1\) and dy \(1, 1, 2, 2\) must have one shape"):
        max_pool2d_grad(dy, winners[..., :1], **size)
    with pytest.raises(TypeError, match="dy must be float32 or float64, got int64"):
        avg_pool2d_grad(dy.astype(int), **size)
    with pytest.raises(ValueError, match="dy must have 4 axes"):
        avg_pool2d_grad(dy[0], **size)
    with pytest.raises(TypeError, match=r"dy is on the GPU \(CuPy\), winners is on the CPU"):
        max_pool2d_grad(strict.array(dy), winners, **size)


@given(case=strategies.pool_geometries(), seed=seeds)
def test_without_winners_the_maxima_are_the_same(case, seed):
    x = np.random.default_rng(seed).standard_normal((case.batch, case.channels, *case.input_size))
    y, winners = max_pool2d(x, **case.options, find_winners=False)
    np.testing.assert_array_equal(y, max_pool2d(x, **case.options)[0])
    assert winners is None


def test_a_gradient_without_winners_is_refused():
    with pytest.raises(TypeError, match="winners must be an array"):
        max_pool2d_grad(np.ones((1, 1, 2, 2)), None, input_size=(4, 4), kernel_size=2)
