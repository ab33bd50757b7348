from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.checks import check_gradient
from minifcn.functional import bilinear_kernel
from minifcn.geometry import CoordinateMap, Transposed, Window
from minifcn.models import AlignedUpsample

PIXELS = CoordinateMap()


@st.composite
def grids(draw):
    """A fine grid, and a coarse one that starts at an integer or half-integer fine index."""
    fine = CoordinateMap(Fraction(draw(st.integers(1, 4))), Fraction(draw(st.integers(-9, 9)), 4))
    between = CoordinateMap(Fraction(draw(st.integers(1, 5))), Fraction(draw(st.integers(-15, 15)), 2))
    return fine @ between, fine, between


def interpolate(x, between, output_size):
    """Bilinear interpolation of x, extended by its border values, at each fine index."""
    for axis, size in zip((2, 3), output_size, strict=True):
        centres = [float(between(i)) for i in range(x.shape[axis])]
        x = np.apply_along_axis(lambda line, c=centres, n=size: np.interp(range(n), c, line), axis, x)
    return x


@given(
    grids=grids(),
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(1, 5)] * 2),
    output_size=st.tuples(*[st.integers(1, 25)] * 2),
)
def test_it_is_bilinear_interpolation_between_the_grids(xp, grids, seed, size, output_size):
    coarse, fine, between = grids
    layer = AlignedUpsample(2, coarse, fine).astype("float64")
    width = layer.deconv.kernel_size[0]  # the layer's own thirds and fifths were rounded to float32
    layer.deconv.weight.data = bilinear_kernel(2, layer.factor, width, dtype="float64")
    if xp.name in ("strict", "cupy"):
        layer.to("cuda")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 2, *size))
    y = xp.numpy(layer.forward(xp.array(x), output_size))
    assert np.allclose(y, interpolate(x, between, output_size), rtol=1e-11, atol=1e-11)
    g = rng.normal(size=y.shape)
    assert np.isclose(
        np.vdot(y, g), np.vdot(x, xp.numpy(layer.backward(xp.array(g)))), rtol=1e-10, atol=1e-10
    )


@given(grids=grids(), size=st.integers(1, 40), output_size=st.integers(1, 400))
def test_the_crop_always_lies_inside(grids, size, output_size):
    coarse, fine, between = grids
    layer = AlignedUpsample(1, coarse, fine)
    before, after, crop = layer.plan(size, output_size)
    upsampled = Transposed(Window(layer.deconv.kernel_size[0], stride=layer.factor)).output_size(
        size + before + after
    )
    assert min(before, after, crop) >= 0
    assert crop + output_size <= upsampled
    # And no border value more than needed: the outermost ones lie just beyond the first and the last output.
    assert before == 0 or between(-before + 1) > 0 >= between(-before)
    assert after == 0 or between(size - 1 + after - 1) < output_size - 1 <= between(size - 1 + after)


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_on_grids_of_2x2_pools_it_equals_pytorchs(stride):
    torch = pytest.importorskip("torch")
    layer = AlignedUpsample(3, CoordinateMap(Fraction(stride), Fraction(stride - 1, 2)), PIXELS).astype(
        "float64"
    )
    rng = np.random.default_rng(stride)
    x = rng.normal(size=(2, 3, 4, 5))
    theirs = torch.tensor(x, requires_grad=True)
    result = torch.nn.functional.interpolate(
        theirs, scale_factor=stride, mode="bilinear", align_corners=False
    )
    y = layer(x)
    assert np.allclose(y, result.detach(), rtol=1e-12, atol=1e-12)
    dy = rng.normal(size=y.shape)
    result.backward(torch.tensor(dy))
    assert np.allclose(layer.backward(dy), theirs.grad, rtol=1e-11, atol=1e-11)
    assert y.shape[1:] == layer.output_shape(x.shape[1:])


@pytest.mark.parametrize("offset", [Fraction(3, 2), Fraction(1), Fraction(-4)])
@pytest.mark.parametrize("learned", [False, True])
def test_gradients(offset, learned):
    layer = AlignedUpsample(2, CoordinateMap(Fraction(4), offset), PIXELS, learned=learned).astype("float64")
    check_gradient(layer, np.random.default_rng(0).normal(size=(2, 2, 3, 2)))


def test_only_learned_kernels_get_a_gradient():
    grid = CoordinateMap(Fraction(2), Fraction(1, 2))
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype("float32")
    fixed, learned = (AlignedUpsample(2, grid, PIXELS, learned=learned) for learned in (False, True))
    assert np.array_equal(fixed(x), learned(x))  # the learned ones begin as bilinear
    assert np.array_equal(fixed.backward(fixed(x)), learned.backward(learned(x)))
    assert fixed.deconv.weight.grad is None
    assert learned.deconv.weight.grad.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(("offset", "width"), [(Fraction(31, 2), 64), (Fraction(0), 63), (Fraction(-7), 63)])
def test_the_parity_of_the_kernel_follows_from_the_grids(offset, width):
    layer = AlignedUpsample(1, CoordinateMap(Fraction(32), offset), PIXELS)
    assert layer.deconv.kernel_size == (width, width)


def test_coordinates_lead_from_fine_to_coarse():
    layer = AlignedUpsample(1, CoordinateMap(Fraction(4), Fraction(3, 2)), PIXELS)
    assert str(layer.coordinate_map()) == "1/4 i - 3/8"
    assert "fixed" in repr(layer)
    assert "4 i + 3/2" in repr(layer)
    assert "learned" in repr(AlignedUpsample(1, PIXELS, PIXELS, learned=True))


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        (CoordinateMap(Fraction(3, 2)), PIXELS),  # no integer factor
        (PIXELS, CoordinateMap(Fraction(2))),  # from fine to coarse
        (CoordinateMap(Fraction(2), Fraction(1, 4)), PIXELS),  # shifted by a quarter
    ],
)
def test_grids_that_do_not_fit_are_refused(coarse, fine):
    with pytest.raises(ValueError, match=r"cannot be upsampled .* integer factor and a multiple of 1/2"):
        AlignedUpsample(1, coarse, fine)


def test_images_of_a_wrong_shape_are_refused():
    layer = AlignedUpsample(2, CoordinateMap(Fraction(2), Fraction(1, 2)), PIXELS)
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        layer(np.ones((1, 2, 3, 3), int))
    with pytest.raises(ValueError, match=r"3 channels|got items of shape"):
        layer(np.ones((1, 3, 3, 3), np.float32))
    for shape in ((3, 3), (2, 3, 3)):
        with pytest.raises(ValueError, match=r"takes \(N, 2, H, W\), got"):
            layer(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"output|size"):
        layer.forward(np.ones((1, 2, 3, 3), np.float32), (0, 3))
    with pytest.raises(ValueError, match=r"AlignedUpsample.*forward has not run"):
        layer.backward(np.ones((1, 2, 6, 6), np.float32))
