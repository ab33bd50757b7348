import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn.layers import ChannelShuffle, ChannelSlice, Dropout, Flatten, ReLU

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
def test_relu_calls_the_function(seed, shape):
    rng = np.random.default_rng(seed)
    x, dy, layer = rng.normal(size=shape), rng.normal(size=shape), ReLU()
    assert np.array_equal(layer(x), F.relu(x))
    assert np.array_equal(layer.backward(dy), np.where(x > 0, dy, 0.0))


@given(seed=seeds, p=st.floats(0, 0.95))
def test_dropout_uses_one_mask_forward_and_backward(xp, seed, p):
    rng = np.random.default_rng(seed)
    x, dy = rng.uniform(1, 2, (4, 5)), rng.uniform(1, 2, (4, 5))
    layer = Dropout(p, rng=seed)
    y, dx = xp.numpy(layer(xp.array(x))), xp.numpy(layer.backward(xp.array(dy)))
    kept = y != 0
    assert np.allclose(y, np.where(kept, x / (1 - p), 0), rtol=1e-12)
    assert np.allclose(dx, np.where(kept, dy / (1 - p), 0), rtol=1e-12)


def test_dropout_drops_a_fraction_p_and_keeps_the_mean():
    y = Dropout(0.3, rng=0)(np.ones((200, 200)))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.02)


def test_dropout_is_deterministic_by_seed():
    x = np.ones(1000)
    first, again, other = Dropout(0.5, rng=1), Dropout(0.5, rng=1), Dropout(0.5, rng=2)
    one, two = first(x), first(x)
    assert not np.array_equal(one, two)  # a new mask for every batch
    assert np.array_equal(one, again(x))
    assert np.array_equal(two, again(x))
    assert not np.array_equal(one, other(x))
    assert np.array_equal(Dropout(0.5, rng=np.random.default_rng(1))(x), one)


def test_dropout_in_evaluation_uses_no_randomness():
    x, layer = np.ones(100), Dropout(0.5, rng=1)
    assert np.array_equal(layer.eval()(x), x)
    assert np.array_equal(layer.train()(x), Dropout(0.5, rng=1)(x))
    assert np.array_equal(Dropout(0, rng=0)(x), x)
    assert repr(Dropout(0.25, rng=0)) == "Dropout(p=0.25)"


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_invalid_probabilities_are_refused(p):
    with pytest.raises(ValueError, match=f"p must be a probability from 0 to below 1, got {p}"):
        Dropout(p, rng=0)


@given(seed=seeds, shape=st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple))
def test_flatten_has_the_order_channel_row_column(xp, seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    layer = Flatten()
    y = layer(xp.array(x))
    assert xp.numpy(y).tolist() == [list(item.flat) for item in x]
    assert np.array_equal(xp.numpy(layer.backward(y)), x)
    assert layer.output_shape(shape[1:]) == (y.shape[1],)


def test_flatten_of_no_images():
    assert Flatten()(np.zeros((0, 2, 3))).shape == (0, 6)


def test_shuffled_channels_equal_pytorch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 12, 3, 4))
    for groups in (1, 2, 3, 4, 6, 12):
        expected = torch.nn.ChannelShuffle(groups)(torch.tensor(x)).numpy()
        layer = ChannelShuffle(groups)
        assert np.array_equal(layer(x), expected)
        assert np.array_equal(layer.backward(layer(x)), x)
    with pytest.raises(ValueError, match=r"multiple of 5 .*\(12, 3, 4\)"):
        ChannelShuffle(5)(x)


def test_slices_of_channels():
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    layer = ChannelSlice(1, 4)
    assert np.array_equal(layer(x), x[:, 1:4])
    dx = layer.backward(x[:, 1:4].copy())
    assert np.array_equal(dx[:, 1:4], x[:, 1:4])
    assert not dx[:, [0, 4]].any()
    with pytest.raises(ValueError, match=r"6 channels .*\(5, 3, 4\)"):
        ChannelSlice(0, 6)(x)
    with pytest.raises(ValueError, match="stop must be an integer >= 3, got 2"):
        ChannelSlice(2, 2)
