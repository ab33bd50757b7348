import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.functional import (
    batch_norm,
    batch_norm_grad,
    local_response_norm,
    local_response_norm_grad,
    normalization,
)

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
odd_sizes = st.sampled_from([1, 3, 5, 7, 9])
constants = st.tuples(st.floats(0.01, 2), st.floats(0.1, 2), st.floats(0.5, 2))  # alpha, beta, k

STEP = 1e-30  # of the complex step: Im f(x + i STEP u) / STEP is the derivative along u, to rounding


def lrn(x, size, alpha, beta, k):
    """Return the definition, channel by channel; x may be complex."""
    y = np.empty_like(x)
    for channel in range(x.shape[1]):
        near = [c for c in range(x.shape[1]) if abs(c - channel) <= size // 2]
        energy = sum(x[:, c] * x[:, c] for c in near)
        y[:, channel] = x[:, channel] / (k + alpha / size * energy) ** beta
    return y


@given(shape=shapes, seed=seeds, size=odd_sizes, constants=constants)
def test_local_response_norm_and_its_gradient(xp, shape, seed, size, constants):
    rng = np.random.default_rng(seed)
    x, u, dy = (rng.normal(size=shape) for _ in range(3))
    y, scale = local_response_norm(xp.array(x), size, *constants)
    assert np.allclose(xp.numpy(y), lrn(x, size, *constants), rtol=1e-12)
    alpha, beta, _ = constants
    dx = xp.numpy(local_response_norm_grad(xp.array(dy), xp.array(x), scale, size, alpha, beta))
    derivative = lrn(x + 1j * STEP * u, size, *constants).imag / STEP
    assert np.vdot(dx, u) == pytest.approx(np.vdot(dy, derivative), rel=1e-10, abs=1e-12)


@given(shape=shapes, seed=seeds, size=odd_sizes, constants=constants)
def test_local_response_norm_equals_pytorch(shape, seed, size, constants):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    alpha, beta, k = constants
    theirs = torch.tensor(x, requires_grad=True)
    result = torch.nn.functional.local_response_norm(theirs, size, alpha, beta, k)
    result.backward(torch.tensor(dy))
    y, scale = local_response_norm(x, size, alpha, beta, k)
    assert np.allclose(y, result.detach(), rtol=1e-12)
    assert np.allclose(
        local_response_norm_grad(dy, x, scale, size, alpha, beta), theirs.grad, rtol=1e-10, atol=1e-12
    )


def normalized(x, gamma, beta, eps):
    """Return batch normalisation with the statistics of x itself; all operands may be complex."""
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * gamma[:, None, None] + beta[:, None, None]


@given(shape=shapes, seed=seeds, eps=st.sampled_from([1e-5, 0.1]))
def test_batch_norm_with_statistics_of_the_batch_and_its_gradients(xp, shape, seed, eps):
    rng = np.random.default_rng(seed)
    x, u, dy = rng.normal(3, 2, shape), rng.normal(size=shape), rng.normal(size=shape)
    gamma, dgamma_u, beta, dbeta_u = rng.normal(size=(4, shape[1]))
    there = [xp.array(a) for a in (x, gamma, beta)]
    y, cache = batch_norm(*there, eps=eps)
    assert np.allclose(xp.numpy(y), normalized(x, gamma, beta, eps), rtol=1e-9, atol=1e-9)
    assert np.allclose(xp.numpy(cache.mean), x.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(xp.numpy(cache.variance), x.var(axis=(0, 2, 3)), rtol=1e-10, atol=1e-12)

    gradients = batch_norm_grad(xp.array(dy), there[1], cache, of_batch=True)
    for gradient, moved, direction in zip(
        map(xp.numpy, gradients),
        (
            (x + 1j * STEP * u, gamma, beta),
            (x, gamma + 1j * STEP * dgamma_u, beta),
            (x, gamma, beta + 1j * STEP * dbeta_u),
        ),
        (u, dgamma_u, dbeta_u),
        strict=True,
    ):
        derivative = normalized(*moved, eps).imag / STEP
        assert np.vdot(gradient, direction) == pytest.approx(np.vdot(dy, derivative), rel=1e-8, abs=1e-8)


@given(shape=shapes, seed=seeds)
def test_batch_norm_with_given_statistics_is_affine(xp, shape, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    gamma, beta, mean = rng.normal(size=(3, shape[1]))
    variance = rng.uniform(0.1, 2, shape[1])
    there = [xp.array(a) for a in (x, gamma, beta, mean, variance)]
    y, cache = batch_norm(*there, 1e-3)
    factor = gamma / np.sqrt(variance + 1e-3)
    expected = np.einsum("nchw,c->nchw", x, factor) + (beta - mean * factor)[:, None, None]
    assert np.allclose(xp.numpy(y), expected, rtol=1e-12, atol=1e-12)
    dx, dgamma, dbeta = map(xp.numpy, batch_norm_grad(xp.array(dy), there[1], cache, of_batch=False))
    assert np.allclose(dx, np.einsum("nchw,c->nchw", dy, factor), rtol=1e-12)
    hat = (x - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None]
    assert np.allclose(dgamma, np.einsum("nchw,nchw->c", dy, hat), rtol=1e-10, atol=1e-12)
    assert np.allclose(dbeta, np.einsum("nchw->c", dy), rtol=1e-10, atol=1e-12)


def test_float32_stays_float32(xp):
    x = xp.array(np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32"))
    one = xp.array(np.ones(3, "float32"))
    y, scale = local_response_norm(x)
    z, cache = batch_norm(x, one, one, one, one)
    results = [y, scale, local_response_norm_grad(y, x, scale), z, *cache]
    results += batch_norm_grad(z, one, cache, of_batch=True)
    assert {str(result.dtype) for result in results} == {"float32"}


@pytest.mark.parametrize("size", [0, -1, 2, 4, 2.5])
def test_even_or_invalid_sizes_raise(size):
    with pytest.raises(ValueError, match=f"size must be an (integer|odd number) .*, got {size}"):
        local_response_norm(np.zeros((1, 3, 2, 2)), size)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((1, 3, 2, 2), np.uint8), TypeError, "x must be float32 or float64, got uint8"),
        (np.zeros((1, 3, 2, 2), np.float16), TypeError, "x must be float32 or float64, got float16"),
        (np.zeros((3, 2, 2)), ValueError, r"x must have 4 axes \(N, C, H, W\), got shape \(3, 2, 2\)"),
    ],
)
def test_invalid_inputs_raise(x, error, message):
    one = np.ones(3)
    with pytest.raises(error, match=message):
        local_response_norm(x)
    with pytest.raises(error, match=message):
        batch_norm(x, one, one, one, one)


def test_mixed_dtypes_or_libraries_raise(strict):
    x, one = np.zeros((1, 3, 2, 2)), np.ones(3)
    with pytest.raises(TypeError, match="dtypes are mixed: x is float64, gamma is float32, beta is float64"):
        batch_norm(x, one.astype("float32"), one, one, one)
    with pytest.raises(TypeError, match=r"x is on the CPU \(NumPy\), gamma is on the GPU \(CuPy\)"):
        batch_norm(x, strict.array(one), one, one, one)
    with pytest.raises(TypeError, match=r"dy is on the GPU \(CuPy\), x is on the CPU \(NumPy\)"):
        local_response_norm_grad(strict.array(x), x, x)


def test_channels_may_be_cut_anywhere(monkeypatch):
    """Threads share the channels, some at a time."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(3, 2, (2, 2, 7, 3, 5))
    gamma, beta = rng.normal(size=(2, 7))

    def everything():
        y, cache = batch_norm(x, gamma, beta)
        return y, *cache, *batch_norm_grad(dy, gamma, cache, of_batch=True)

    whole = everything()
    monkeypatch.setattr(normalization, "SMALL", 0)
    for pair in (1, x.size):
        monkeypatch.setattr(normalization, "PAIR", pair)
        for one, other in zip(everything(), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_mean_and_variance_are_given_together():
    x, one = np.zeros((1, 3, 2, 2)), np.ones(3)
    for one_of_them, missing in ({"mean": one}, "variance"), ({"variance": one}, "mean"):
        with pytest.raises(TypeError, match=f"{missing} must be an array of numbers, got NoneType"):
            batch_norm(x, one, one, **one_of_them)
