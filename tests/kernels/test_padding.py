import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minifcn.kernels.padding import pad_or_crop, replicate_pad2d, replicate_pad2d_grad

sizes = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def sides_of(draw, size):
    """Draw how much to pad, or to cut, before and after an axis; at most the whole axis is cut."""
    before = draw(st.integers(-size, 4))
    return before, draw(st.integers(-(size + min(before, 0)), 4))


@given(size=sizes, seed=seeds, data=st.data())
def test_pad_or_crop_moves_pixels(xp, size, seed, data):
    sides = top, bottom, left, right = data.draw(sides_of(size[2])) + data.draw(sides_of(size[3]))
    height, width = size[2] + top + bottom, size[3] + left + right
    x = np.random.default_rng(seed).normal(size=size)
    y = xp.numpy(pad_or_crop(xp.array(x), *sides))
    assert y.shape == (*size[:2], height, width)
    for i, j in itertools.product(range(height), range(width)):
        inside = 0 <= i - top < size[2] and 0 <= j - left < size[3]
        assert np.array_equal(y[:, :, i, j], x[:, :, i - top, j - left] if inside else np.zeros(size[:2]))


@given(size=sizes, seed=seeds, sides=st.tuples(*[st.integers(0, 4)] * 4))
def test_padding_is_undone_by_cropping_and_is_its_adjoint(size, seed, sides):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=size)
    y = pad_or_crop(x, *sides)
    g = rng.normal(size=y.shape)
    back = [-side for side in sides]
    assert np.array_equal(pad_or_crop(y, *back), x)
    assert np.isclose(np.vdot(y, g), np.vdot(x, pad_or_crop(g, *back)), rtol=1e-12)


def test_nothing_to_do_copies_nothing():
    x = np.ones((1, 1, 2, 2))
    assert pad_or_crop(x, 0, 0, 0, 0) is x


@given(size=sizes, seed=seeds, sides=st.tuples(*[st.integers(0, 4)] * 4))
def test_replication_and_its_adjoint(xp, size, seed, sides):
    rng = np.random.default_rng(seed)
    top, bottom, left, right = sides
    x = rng.normal(size=size)
    y = xp.numpy(replicate_pad2d(xp.array(x), sides))
    rows = np.clip(np.arange(-top, size[2] + bottom), 0, size[2] - 1)
    cols = np.clip(np.arange(-left, size[3] + right), 0, size[3] - 1)
    assert np.array_equal(y, x[:, :, rows][:, :, :, cols])
    g = rng.normal(size=y.shape)
    dx = xp.numpy(replicate_pad2d_grad(xp.array(g), sides))
    assert dx.shape == size
    assert np.isclose(np.vdot(y, g), np.vdot(x, dx), rtol=1e-12, atol=1e-12)
