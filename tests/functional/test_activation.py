import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.functional import relu, relu_grad, softmax, softmax_grad

seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@given(shape=shapes, seed=seeds)
def test_relu_and_its_gradient(xp, shape, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    x[rng.random(shape) < 0.2] = 0  # the gradient at 0 is 0, by convention
    y = relu(xp.array(x))
    assert xp.numpy(y).tolist() == np.where(x > 0, x, 0.0).tolist()
    assert np.array_equal(xp.numpy(relu_grad(xp.array(dy), y)), np.where(x > 0, dy, 0.0))


@given(shape=shapes, seed=seeds, scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]), data=st.data())
def test_softmax_equals_its_definition(xp, shape, seed, scale, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(seed).normal(scale=scale, size=shape)
    y = xp.numpy(softmax(xp.array(x), axis))
    scores = np.moveaxis(x, axis, 0)
    with np.errstate(over="ignore"):  # 1 / inf is 0, as it should be
        expected = [1 / np.exp(scores - one).sum(axis=0) for one in scores]
    assert np.allclose(np.moveaxis(y, axis, 0), expected, rtol=1e-11, atol=1e-300)
    assert np.allclose(y.sum(axis=axis), 1, rtol=1e-13)


@given(shape=shapes, seed=seeds, data=st.data())
def test_the_gradient_of_softmax_equals_a_complex_step(xp, shape, seed, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(seed)
    x, u, dy = (rng.normal(size=shape) for _ in range(3))
    e = np.exp(x + 1e-30j * u)  # the imaginary part is the derivative along u, to rounding
    derivative = (e / e.sum(axis=axis, keepdims=True)).imag / 1e-30
    dx = xp.numpy(softmax_grad(xp.array(dy), softmax(xp.array(x), axis), axis))
    assert np.vdot(dx, u) == pytest.approx(np.vdot(dy, derivative), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_and_dtypes(xp, dtype):
    x = xp.array(np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]], dtype))
    y = softmax(x)
    assert np.allclose(xp.numpy(y), [[0.5, 0, 0.5], [1 / 3] * 3], atol=1e-7)
    assert {str(a.dtype) for a in (relu(x), relu_grad(x, x), y, softmax_grad(x, y))} == {dtype}


def test_results_own_their_memory():
    x = np.abs(np.random.default_rng(0).normal(size=(2, 3)))
    for result in (relu(x), relu_grad(x, x), softmax(x), softmax_grad(x, x)):
        assert not np.shares_memory(result, x)


@pytest.mark.parametrize("function", [relu, softmax])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "complex128", "longdouble"])
def test_other_dtypes_raise(function, dtype):
    with pytest.raises(TypeError, match=f"x must be float32 or float64, got {np.dtype(dtype)}"):
        function(np.zeros((2, 3), dtype))


@pytest.mark.parametrize("gradient", [relu_grad, softmax_grad])
def test_mixed_libraries_raise(strict, gradient):
    with pytest.raises(TypeError, match=r"dy is on the CPU \(NumPy\), y is on the GPU \(CuPy\)"):
        gradient(np.zeros((2, 3)), strict.array(np.zeros((2, 3))))
