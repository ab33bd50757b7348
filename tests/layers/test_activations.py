"""Functions of single elements."""

import math

import numpy as np
import pytest

from minifcn.checks import check_gradient
from minifcn.layers import (
    Conv2d,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    PReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    SiLU,
)


def logistic(x):
    return 1 / (1 + math.exp(-x))


def limited(x, low, high):
    return min(max(x, low), high)


# A layer, its definition for one number, and PyTorch's layer
LAYERS = [
    (Hardtanh(-0.5, 2), lambda x: limited(x, -0.5, 2), "Hardtanh(-0.5, 2)"),
    (Hardtanh(None, 1.5), lambda x: min(x, 1.5), "Hardtanh(-torch.inf, 1.5)"),
    (Hardtanh(0, None, inplace=True), lambda x: max(x, 0), "Hardtanh(0, torch.inf)"),
    (ReLU6(), lambda x: limited(x, 0, 6), "ReLU6()"),
    (LeakyReLU(0.2), lambda x: x if x > 0 else 0.2 * x, "LeakyReLU(0.2)"),
    (LeakyReLU(), lambda x: x if x > 0 else 0.01 * x, "LeakyReLU()"),
    (Sigmoid(), logistic, "Sigmoid()"),
    (SiLU(), lambda x: x * logistic(x), "SiLU()"),
    (Hardsigmoid(), lambda x: limited(x / 6 + 0.5, 0, 1), "Hardsigmoid()"),
    (Hardswish(), lambda x: x * limited(x / 6 + 0.5, 0, 1), "Hardswish()"),
    (PReLU(), lambda x: x if x > 0 else 0.25 * x, "PReLU()"),
    (PReLU(3), lambda x: x if x > 0 else 0.25 * x, "PReLU(3)"),
]
layers = pytest.mark.parametrize(
    ("layer", "definition", "theirs"), LAYERS, ids=[repr(one[0]) for one in LAYERS]
)


@layers
def test_values_are_those_of_the_definition(xp, layer, definition, theirs):
    x = np.random.default_rng(0).normal(0, 4, (2, 3, 4, 5))
    expected = np.vectorize(definition)(x)
    layer.to("cpu" if xp.module is np else "cuda")
    for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-6)):
        given = xp.array(x.astype(dtype))
        y = xp.numpy(layer.astype(dtype)(given.copy() if getattr(layer, "inplace", False) else given))
        assert y.dtype == dtype
        assert np.allclose(y, expected, rtol=tolerance, atol=tolerance)
    layer.to("cpu")


@layers
def test_gradients(layer, definition, theirs):
    rng = np.random.default_rng(1)
    if not getattr(layer, "inplace", False):
        check_gradient(layer.astype("float64"), rng.normal(0, 3, (2, 3, 4, 5)))
    check_gradient(
        Sequential(Conv2d(3, 3, 1, rng=0), layer).astype("float64"), rng.normal(0, 3, (2, 3, 4, 5))
    )


@layers
def test_pytorch_has_the_same_gradients_also_at_the_corners(layer, definition, theirs):
    torch = pytest.importorskip("torch")
    module = eval(f"torch.nn.{theirs}", {"torch": torch}).double()
    corners = [-3, -0.5, 0, 1, 1.5, 2, 6, -1e4, 1e4, 0.3, 3]
    x = np.resize(np.array(corners, float), (4, 3, 4))
    dy = np.random.default_rng(2).normal(size=x.shape)
    tensor = torch.tensor(x, requires_grad=True)
    expected = module(tensor)
    expected.backward(torch.tensor(dy))
    layer.astype("float64")
    assert np.allclose(layer(x.copy()), expected.detach(), rtol=1e-13, atol=1e-15)
    assert np.allclose(layer.backward(dy.copy()), tensor.grad, rtol=1e-7, atol=1e-15)  # a float32 1/6 there
    for name, parameter in layer.named_parameters():
        assert np.allclose(parameter.grad, getattr(module, name).grad, rtol=1e-12)
        parameter.grad = None


def test_sigmoids_do_not_overflow():
    x = np.array([-1e30, -100, 100, 1e30], np.float32)
    assert Sigmoid()(x).round(9).tolist() == [0, 0, 1, 1]
    assert SiLU()(x)[2:].tolist() == x[2:].tolist()


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="min_val must be below max_val, got 1 and 1"):
        Hardtanh(1, 1)
    with pytest.raises(ValueError, match="min_val must be below max_val, got nan"):
        Hardtanh(math.nan, 1)
    with pytest.raises(ValueError, match="negative_slope must be a finite number, got nan"):
        LeakyReLU(math.nan)
    with pytest.raises(ValueError, match="num_parameters must be an integer >= 1, got 0"):
        PReLU(0)
    with pytest.raises(ValueError, match=r"takes 3 channels, got items of shape \(4, 2, 2\)"):
        PReLU(3)(np.ones((1, 4, 2, 2), np.float32))
