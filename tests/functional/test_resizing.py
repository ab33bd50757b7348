"""Resizing by matrices, beside the definition pixel by pixel, the law, and PyTorch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.functional import interpolate, interpolate_grad

seeds, sizes = st.integers(0, 2**32 - 1), st.integers(1, 7)
modes = st.sampled_from([("nearest", False), ("bilinear", False), ("bilinear", True)])
factors = st.one_of(st.none(), st.floats(0.3, 3.7))


def position(i, inputs, outputs, mode, corners, scale):
    step = inputs / outputs if scale is None else 1 / scale
    if mode == "nearest":
        return i * inputs // outputs if scale is None else math.floor(i * step)
    if corners:
        return i * (inputs - 1) / (outputs - 1) if outputs > 1 else 0
    return (i + 0.5) * step - 0.5


@given(
    seed=st.integers(0, 2**32 - 1), size=st.tuples(sizes, sizes), target=st.tuples(sizes, sizes), mode=modes
)
def test_values_and_law(xp, seed, size, target, mode):
    rng = np.random.default_rng(seed)
    kind, corners = mode
    x, dy = rng.normal(size=(2, 3, *size)), rng.normal(size=(2, 3, *target))
    y = xp.numpy(interpolate(xp.array(x), target, kind, align_corners=corners))
    dx = xp.numpy(interpolate_grad(xp.array(dy), size, kind, align_corners=corners))
    assert dx.shape == x.shape
    assert np.vdot(y, dy) == pytest.approx(np.vdot(x, dx), rel=1e-10, abs=1e-10)
    for i, j in np.ndindex(target):
        expected = 0.0
        places = [
            min(max(position(at, n, m, kind, corners, None), 0), n - 1)
            for at, n, m in zip((i, j), size, target, strict=True)
        ]
        for a, b in np.ndindex(2, 2):
            corner = [
                min(math.floor(p) + side, n - 1) for p, side, n in zip(places, (a, b), size, strict=True)
            ]
            parts = [p - math.floor(p) for p in places]
            weight = math.prod(f if side else 1 - f for f, side in zip(parts, (a, b), strict=True))
            expected = expected + weight * x[:, :, corner[0], corner[1]]
        assert np.allclose(y[:, :, i, j], expected, rtol=1e-10, atol=1e-12)


@given(seed=seeds, size=st.tuples(sizes, sizes), mode=modes, scale=factors, target=sizes)
def test_pytorch_does_the_same(seed, size, mode, scale, target):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    kind, corners = mode
    options = {"align_corners": corners} if kind == "bilinear" else {}
    x = rng.normal(size=(2, 3, *size))
    tensor = torch.tensor(x, requires_grad=True)
    if scale is None:
        expected = torch.nn.functional.interpolate(tensor, (target, 2 * target), mode=kind, **options)
    else:
        if min(int(n * scale) for n in size) < 1:
            return
        expected = torch.nn.functional.interpolate(tensor, scale_factor=scale, mode=kind, **options)
    target_size, scales = tuple(expected.shape[2:]), scale and (scale, scale)
    for n, m in zip(size, target_size, strict=True):
        positions = [i * (1 / scale if scale else n / m) for i in range(1, m)]
        near_another = any(abs(p - round(p)) < 1e-5 for p in positions)  # PyTorch computes in float32
        if kind == "nearest" and (near_another or (scale and m in (n, 2 * n))):  # where it ignores the scale
            return
    y = interpolate(x, target_size, kind, align_corners=corners, scales=scales)
    assert np.allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    dx = interpolate_grad(dy, size, kind, align_corners=corners, scales=scales)
    assert np.allclose(dx, tensor.grad, rtol=1e-10, atol=1e-12)


def test_invalid_arguments_are_refused():
    x = np.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match="mode must be one of 'nearest', 'bilinear', got 'cubic'"):
        interpolate(x, 3, "cubic")
    with pytest.raises(ValueError, match=r"x must have 4 axes .* got shape \(2, 2\)"):
        interpolate(x[0, 0], 3)
    with pytest.raises(ValueError, match=r"x must hold pixels, got shape \(1, 1, 0, 2\)"):
        interpolate(x[:, :, :0], 3)
    with pytest.raises(ValueError, match="size must be an integer >= 1, got 0"):
        interpolate(x, 0)
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        interpolate(x.astype(int), 3)
