import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.checks import check_gradient, strategies
from minifcn.geometry import CoordinateMap
from minifcn.kernels import choosing
from minifcn.layers import Conv2d, ConvTranspose2d, Linear


def normal(shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@given(case=strategies.conv_geometries(), seed=st.integers(0, 2**32 - 1))
def test_conv2d_and_its_transpose_are_adjoint_by_sharing_their_weights(case, seed):
    rng = np.random.default_rng(seed)
    down = Conv2d(case.in_channels, case.out_channels, case.kernel_size, bias=False, **case.options).astype(
        "float64"
    )
    x = rng.normal(size=(case.batch, case.in_channels, *case.input_size))
    y = down(x)
    g = rng.normal(size=y.shape)
    dx = down.backward(g)

    up = ConvTranspose2d(
        case.out_channels,
        case.in_channels,
        case.kernel_size,
        output_padding=case.output_padding,
        bias=False,
        **case.options,
    ).astype("float64")
    assert up.weight.data.shape == down.weight.data.shape
    up.weight = down.weight
    z = up(g)
    assert np.allclose(z, dx, rtol=1e-12, atol=1e-12)
    gradient, up.weight.grad = down.weight.grad, None
    up.backward(x)
    assert np.allclose(up.weight.grad, gradient, rtol=1e-12, atol=1e-12)


@given(case=strategies.conv_geometries(max_outputs=3), seed=st.integers(0, 2**32 - 1), bias=st.booleans())
def test_gradients_on_every_geometry(case, seed, bias):
    down = Conv2d(case.in_channels, case.out_channels, case.kernel_size, bias=bias, **case.options)
    check_gradient(down.astype("float64"), normal((case.batch, case.in_channels, *case.input_size), seed))
    up = ConvTranspose2d(case.out_channels, case.in_channels, case.kernel_size, bias=bias, **case.options)
    y = normal((case.batch, case.out_channels, *case.output_size), seed)
    try:
        up.output_shape(y.shape[1:])
    except ValueError:
        return  # the padding removes the whole output
    check_gradient(up.astype("float64"), y)


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_forecast_of_scratch_memory_is_that_of_the_algorithms_that_run(monkeypatch, kind, frozen):
    used, real = {}, choosing.best

    def best(operation, problem):
        plan = real(operation, problem)
        used[f"{operation}, {plan.algorithm}"] = plan.workspace
        return plan

    monkeypatch.setattr(choosing, "best", best)
    layer = kind(4, 6, (3, 5), stride=(2, 1), padding=1, groups=2, rng=0)
    layer.weight.trainable = not frozen
    x = normal((3, 4, 9, 14), dtype="float32")
    y = layer(x)
    assert used == layer.workspace(x.shape[1:], 3, training=False)
    layer.backward(normal(y.shape, dtype="float32"))
    assert used == layer.workspace(x.shape[1:], 3, training=True)
    assert len(used) == 2 + (not frozen)


def test_linear_follows_its_definition():
    layer = Linear(3, 2, rng=0).astype("float64")
    layer.bias.data[...] = 5, -5
    x = normal((4, 3))
    expected = [[sum(a * b for a, b in zip(row, w, strict=True)) for w in layer.weight.data] for row in x]
    assert np.allclose(layer(x), np.add(expected, [5, -5]), rtol=1e-14)


def test_coordinates():
    assert str(Conv2d(1, 1, 3, stride=2, padding=1, rng=0).coordinate_map()) == "2 i + 0"
    assert str(Conv2d(1, 1, 7, dilation=2, rng=0).coordinate_map()) == "1 i + 6"
    up, down = (
        ConvTranspose2d(1, 1, 4, stride=2, padding=1, rng=0),
        Conv2d(1, 1, 4, stride=2, padding=1, rng=0),
    )
    assert up.coordinate_map() @ down.coordinate_map() == CoordinateMap()
    for layer in (Conv2d(1, 1, (3, 1), rng=0), ConvTranspose2d(1, 1, 3, stride=(1, 2), rng=0)):
        with pytest.raises(ValueError, match="rows and columns differently: it has no single coordinate_map"):
            layer.coordinate_map()


def test_reprs_show_the_geometry():
    assert repr(Conv2d(3, 8, 3, rng=0)) == "Conv2d(3, 8, kernel_size=(3, 3))"
    assert repr(Conv2d(4, 8, (3, 1), stride=2, padding=(1, 0), dilation=3, groups=2, rng=0)) == (
        "Conv2d(4, 8, kernel_size=(3, 1), stride=(2, 2), padding=(1, 0), dilation=(3, 3), groups=2)"
    )
    assert "output_padding=(1, 0)" in repr(ConvTranspose2d(1, 1, 2, stride=2, output_padding=(1, 0), rng=0))
    assert repr(Linear(3, 2, rng=0)) == "Linear(3, 2)"


@pytest.mark.parametrize("make", [Conv2d, ConvTranspose2d])
def test_weights_are_reproducible_and_scaled(make):
    first, again, other = (make(8, 16, 3, stride=2, rng=seed) for seed in (4, 4, 5))
    assert np.array_equal(first.weight.data, again.weight.data)
    assert not np.array_equal(first.weight.data, other.weight.data)
    assert not make(8, 16, 3, init="zeros").weight.data.any()
    assert not first.bias.data.any()
    x = normal((4, 8, 33, 33), dtype="float32")
    assert make(8, 16, 3, stride=2)(x).var() == pytest.approx(2, rel=0.2)  # ReLU halves it


@pytest.mark.parametrize("make", [Conv2d, ConvTranspose2d])
@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((0, 1, 3), {}, "in_channels must be an integer >= 1, got 0"),
        ((1, 1.5, 3), {}, "out_channels must be an integer >= 1, got 1.5"),
        ((1, 1, 0), {}, "kernel_size must be an integer >= 1, got 0"),
        (
            (1, 1, (3, 3, 3)),
            {},
            r"kernel_size must be an integer or a pair \(rows, columns\), got \(3, 3, 3\)",
        ),
        ((1, 1, 3), {"stride": 0}, "stride must be an integer >= 1, got 0"),
        ((1, 1, 3), {"stride": (1, -1)}, "stride must be an integer >= 1, got -1"),
        ((1, 1, 3), {"padding": -1}, "padding must be an integer >= 0, got -1"),
        ((1, 1, 3), {"dilation": 0}, "dilation must be an integer >= 1, got 0"),
        ((1, 1, 3), {"groups": 0}, "groups must be an integer >= 1, got 0"),
        ((4, 6, 3), {"groups": 4}, "groups 4 must divide in_channels 4 and out_channels 6"),
        ((3, 6, 3), {"groups": 2}, "groups 2 must divide in_channels 3 and out_channels 6"),
    ],
)
def test_invalid_convolutions_are_refused(make, arguments, options, said):
    with pytest.raises(ValueError, match=said):
        make(*arguments, **options)


@pytest.mark.parametrize("output_padding", [2, (0, 3), -1])
def test_invalid_output_padding_is_refused_by_the_constructor(output_padding):
    with pytest.raises(ValueError, match="output_padding"):
        ConvTranspose2d(1, 1, 3, stride=2, output_padding=output_padding, rng=0)


def test_images_of_a_wrong_shape_are_refused():
    conv, up = Conv2d(2, 3, 3, rng=0), ConvTranspose2d(2, 3, 3, padding=2, rng=0)
    with pytest.raises(ValueError, match=r"x has 3 channels but w \(3, 2, 3, 3\) with groups 1 takes 2"):
        conv(normal((1, 3, 5, 5), dtype="float32"))
    with pytest.raises(ValueError, match=r"x has 3 channels but w \(2, 3, 3, 3\) takes 2"):
        up(normal((1, 3, 5, 5), dtype="float32"))
    with pytest.raises(ValueError, match=r"kernel of extent 3 .* does not fit into height 2 with padding 0"):
        conv(normal((1, 2, 2, 5), dtype="float32"))
    with pytest.raises(ValueError, match="width 2 gives a transposed convolution of size 0"):
        up(normal((1, 2, 5, 2), dtype="float32"))
    for layer in (conv, up):
        said = re.escape(f"{layer!r} takes (N, 2, H, W), got items of shape (3, 5, 5)")
        with pytest.raises(ValueError, match=said):
            layer.output_shape((3, 5, 5))
        with pytest.raises(ValueError, match="got items of shape"):
            layer.output_shape((2, 5))


def test_inputs_of_a_wrong_shape_are_refused_by_linear():
    with pytest.raises(ValueError, match=r"Linear\(3, 2\) takes \(N, 3\), got items of shape \(4,\)"):
        Linear(3, 2, rng=0)(normal((1, 4), dtype="float32"))
    with pytest.raises(ValueError, match=r"takes \(N, 3\), got \(1, 3, 1, 1\); flatten it first"):
        Linear(3, 2, rng=0)(normal((1, 3, 1, 1), dtype="float32"))
    with pytest.raises(ValueError, match="in_features must be an integer >= 1, got 0"):
        Linear(0, 2, rng=0)
    with pytest.raises(ValueError, match="out_features must be an integer >= 1, got -2"):
        Linear(2, -2, rng=0)
