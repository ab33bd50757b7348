import numpy as np
import pytest

from minifcn.checks import check_gradient
from minifcn.functional import interpolate
from minifcn.layers import Conv2d, Sequential, Upsample

LAYERS = [
    Upsample(3),
    Upsample((5, 2), mode="bilinear"),
    Upsample((1, 6), mode="bilinear", align_corners=True),
    *(
        Upsample(scale_factor=factor, mode=mode)
        for factor in (1, 2, 3, 4)
        for mode in ("nearest", "bilinear")
    ),
    Upsample(scale_factor=(2, 3), mode="bilinear"),
    Upsample(scale_factor=1.7, mode="bilinear"),
    Upsample(scale_factor=2.5, mode="nearest"),
    Upsample(scale_factor=0.6, mode="bilinear", align_corners=True),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_gradients(layer):
    check_gradient(layer, np.random.default_rng(0).normal(size=(2, 2, 4, 3)))


def test_places_of_integer_factors():
    for mode in ("nearest", "bilinear"):
        for factor, place in ((1, "1 i + 0"), (2, "1/2 i - 1/4"), (3, "1/3 i - 1/3"), (8, "1/8 i - 7/16")):
            assert str(Upsample(scale_factor=float(factor), mode=mode).coordinate_map()) == place
    for layer in (Upsample(4), Upsample(scale_factor=1.5), Upsample(scale_factor=2, align_corners=True)):
        with pytest.raises(ValueError, match="has no reach"):
            layer.coordinate_map()


def test_a_size_that_was_rounded_down_keeps_the_factor():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 7))
    for corners in (False, True):
        y = Upsample(scale_factor=1.3, mode="bilinear", align_corners=corners)(x)
        theirs = torch.nn.Upsample(scale_factor=1.3, mode="bilinear", align_corners=corners)(torch.tensor(x))
        assert y.shape == (1, 2, 6, 9)
        assert np.allclose(y, theirs, rtol=1e-12)
    assert not np.allclose(y, interpolate(x, (6, 9), "bilinear"))


def test_it_is_bilinear_upsampling_of_a_network():
    net = Sequential(Conv2d(2, 3, 3, stride=2, padding=1, rng=0), Upsample(scale_factor=2, mode="bilinear"))
    assert str(net.coordinate_map()) == "1 i - 1/2"
    assert net.output_shape((2, 7, 10)) == net(np.ones((1, 2, 7, 10), np.float32)).shape[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either size or scale_factor, got None and None"),
        ({"size": 2, "scale_factor": 2}, "give either size or scale_factor, got 2 and 2"),
        ({"size": 0}, "size must be an integer >= 1, got 0"),
        ({"scale_factor": 0}, "scale_factor must be a positive number or two, got 0"),
        ({"scale_factor": (1, float("inf"))}, "scale_factor must be a positive number or two"),
        ({"scale_factor": 2, "mode": "cubic"}, "mode must be one of 'nearest', 'bilinear', got 'cubic'"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Upsample(**options)


def test_an_image_that_vanishes_is_refused():
    with pytest.raises(ValueError, match=r"leaves no pixel of an item of shape \(1, 1, 5\)"):
        Upsample(scale_factor=0.4).output_shape((1, 1, 5))
    with pytest.raises(ValueError, match="size must be an integer >= 1, got 0"):
        Upsample(scale_factor=0.4)(np.ones((1, 1, 1, 5)))
