"""A finer network begins with the scores of its parent, up to upsampling in two steps instead of one.

How far may that take them apart? Along one axis, let S be the step of the coarse scores s, and h = S / 2
that of the finer map. The parent's scores P(x) go through the s linearly, and are constant beyond the
outermost. The child takes the values of P at the centres of the finer map and interpolates between those:
Q(x). So Q = P there.

- Between two neighbouring fine centres P has one kink at most, for kinks lie S = 2h apart. There its slope
  changes by D2 / S, where D2 = s[i-1] - 2 s[i] + s[i+1] (at the ends: of s continued with its border values).
  If the kink lies a from one centre and h - a from the other, Q is off by at most
  |D2| / S * a (h - a) / h <= |D2| / S * h / 4 = |D2| / 8.
- Beyond the first or the last fine centre Q is constant, while P may go on with the slope D1 / S of its
  outermost piece. D1 = s[1] - s[0] is D2 at the border. If P goes on for at most h / 2 (inside the picture,
  and before it becomes constant, too), the difference is at most |D1| / S * h / 2 = |D1| / 4.

In two dimensions P is R C s, interpolation along rows after interpolation along columns, and Q is R' C' s. So
P - Q = (R - R') C s + R' (C - C') s. All four are averages: they make neither numbers nor second differences
larger. So the bound along rows and the one along columns add up.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.models import FCN
from tests.models.trunks import (
    classifier,
    coarse_scores,
    digits,
    every_step,
    float64,
    normal,
    randomised,
    vgg,
)


def bend(s, axis):
    """Return the largest second difference along an axis, of s continued with its border values."""
    s = np.moveaxis(s, axis, -1)
    s = np.concatenate([s[..., :1], s, s[..., -1:]], axis=-1)
    return float(np.abs(s[..., :-2] - 2 * s[..., 1:-1] + s[..., 2:]).max())


def between_fine_centres(child, fine_size):
    """Return the pixels from the first to the last centre of the finer map, as slices."""
    pixel = child.upsamples[-1].between
    rows, cols = (slice(max(math.ceil(pixel(0)), 0), math.floor(pixel(n - 1)) + 1) for n in fine_size)
    return ..., rows, cols


def up_to_pixels(parent, child, s, size):
    """Upsample scores as parent and child do; return both, and what lies between the child's centres."""
    *_, to_fine, to_pixels = child.upsamples
    fine_size = coarse_scores(child, np.zeros((1, 1, *size)))[0].shape[2:]
    z = to_pixels.forward(to_fine.forward(s, fine_size), size)
    return parent.upsamples[-1].forward(s, size), z, between_fine_centres(child, fine_size)


@every_step
@settings(max_examples=25)
@given(size=st.tuples(*[st.integers(1, 130)] * 2), seed=st.integers(0, 2**32 - 1))
def test_a_finer_network_starts_within_the_bound(make, stride, size, seed):
    parent = float64(make, stride, seed).eval()
    child = parent.finer()
    assert child.stride == stride // 2
    x = normal((1, 1, *size), seed)
    s, y = coarse_scores(parent, x)
    fine, z = coarse_scores(child, x)
    difference = np.abs(z - y)
    bound = (bend(s, 2) + bend(s, 3)) / 4
    assert difference.max() <= bound + 1e-12
    assert difference[between_fine_centres(child, fine.shape[2:])].max(initial=0) <= bound / 2 + 1e-12


@every_step
@settings(max_examples=25)
@given(
    size=st.tuples(*[st.integers(1, 150)] * 2),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["+-0", "ramp", "jump"]),
)
def test_the_bound_holds_for_arbitrary_scores(make, stride, size, seed, kind):
    """As above, with scores that no trunk may ever give, put in before the last upsampling."""
    parent = float64(make, stride).eval()
    child = parent.finer()
    x = np.zeros((1, 1, *size))
    shape = coarse_scores(parent, x)[0].shape
    rng = np.random.default_rng(seed)
    rows, cols = np.ogrid[: shape[2], : shape[3]]
    s = {
        "+-0": rng.integers(-1, 2, shape).astype(float),
        "ramp": np.broadcast_to(rng.normal() * np.abs(rows - rng.integers(9)) + rng.normal() * cols, shape),
        "jump": np.broadcast_to(
            1.0 * (rows > rng.integers(shape[2])) - (cols > rng.integers(shape[3])), shape
        ),
    }[kind]
    y, z, inside = up_to_pixels(parent, child, s, size)
    difference = np.abs(z - y)
    bound = (bend(s, 2) + bend(s, 3)) / 4
    assert difference.max() <= bound + 1e-12
    assert difference[inside].max(initial=0) <= bound / 2 + 1e-12


def test_the_bound_is_nearly_reached():
    parent = float64(vgg, 32).eval()
    child = parent.finer()
    s = np.zeros((1, 2, 9, 9))
    s[:, :, 4] = 1  # one bend, and pixels beside it
    y, z, _ = up_to_pixels(parent, child, s, (288, 288))
    assert np.abs(z - y).max() >= 0.9 * bend(s, 2) / 8


TRUNKS_THAT_CUT_THE_BORDER = {
    "unpadded": ([{"kernel_size": 9, "padding": 0}, {}], (2,), {2: 0}, 4),
    "strided": ([{"stride": 2}] * 3, (1,), {4: 1}, 8),
}


@pytest.mark.parametrize("dense", [3, 4])
@pytest.mark.parametrize("trunk", TRUNKS_THAT_CUT_THE_BORDER)
def test_at_the_border_the_bound_needs_maps_that_reach_it(trunk, dense):
    """An even dense kernel puts coarse centres half a step further out, where no fine ones are."""
    convs, pool, taps, stride = TRUNKS_THAT_CUT_THE_BORDER[trunk]
    parent = FCN(classifier(convs, pool, taps, dense), 2, stride).astype("float64").eval()
    child, ratios = parent.finer(), []
    for height in range(20, 60):
        size = height, 30
        shape = coarse_scores(parent, np.zeros((1, 1, *size)))[0].shape
        s = np.broadcast_to(np.arange(float(shape[2]))[:, None], shape)  # it bends at the border only
        y, z, inside = up_to_pixels(parent, child, s, size)
        ratios.append(np.abs(z - y).max() / (bend(s, 2) / 4))
        assert np.abs(z - y)[inside].max() <= bend(s, 2) / 8 + 1e-12
    assert bool(max(ratios) <= 1 + 1e-9) is (dense == 3)


def test_learned_kernels_are_bilinear_again():
    parent = FCN(digits(), 2, 8, upsampling="learned")
    parent.upsamples["8to1"].deconv.weight.data *= 3
    fresh = FCN(digits(), 2, 4, upsampling="learned")
    child = parent.finer()
    assert list(dict(child.upsamples.children())) == ["8to4", "4to1"]
    for name, upsample in child.upsamples.children():
        assert upsample.deconv.weight.trainable
        assert np.array_equal(upsample.deconv.weight.data, fresh.upsamples[name].deconv.weight.data)


@every_step
def test_where_the_coarse_scores_are_linear_nothing_changes(make, stride):
    parent = float64(make, stride).eval()
    child = parent.finer()
    size = 400, 350
    shape = coarse_scores(parent, np.zeros((1, 1, *size)))[0].shape
    rows, cols = np.ogrid[: shape[2], : shape[3]]
    y, z, _ = up_to_pixels(parent, child, np.broadcast_to(3.0 * rows - 2.0 * cols, shape), size)
    inside = ..., slice(stride, -2 * stride), slice(stride, -2 * stride)
    assert np.allclose(z[inside], y[inside], rtol=1e-12, atol=1e-10)
    assert np.ptp(y[inside]) > 10
    assert np.allclose(up_to_pixels(parent, child, np.ones(shape), size)[1], 1)


def test_a_finer_network_keeps_what_was_learned():
    parent = randomised(FCN(digits(), 3, 8))
    settings_of = {}
    for number, (name, parameter) in enumerate(parent.named_parameters()):
        parameter.lr_multiplier, parameter.decay_multiplier = number, -number
        if not name.startswith("upsamples"):
            settings_of[name] = number, -number
    before = {name: array.copy() for name, array in parent.state_dict().items()}
    child = parent.finer().finer()
    assert (parent.stride, child.stride) == (8, 2)
    named = dict(child.named_parameters())
    for name, multipliers in settings_of.items():
        assert (named[name].lr_multiplier, named[name].decay_multiplier) == multipliers
        assert np.array_equal(named[name].data, before[name])
        assert not np.shares_memory(named[name].data, parent.state_dict()[name])
    assert all(np.array_equal(array, before[name]) for name, array in parent.state_dict().items())
    assert list(child.state_dict()) == list(FCN(digits(), 3, 2).state_dict())
    assert not child.skips["4"].weight.data.any()
    assert child.architecture["arguments"]["stride"] == 2
    with pytest.raises(ValueError, match="stride 2 is the finest that this network offers"):
        child.finer()
