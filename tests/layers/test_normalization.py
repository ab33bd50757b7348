import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn.checks import check_gradient
from minifcn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    GroupNorm,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
    freeze_batch_norm,
)
from minifcn.models import explain


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(1, 2, shape)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 4)), min_size=1, max_size=3
    ),
    momentum=st.sampled_from([0.1, 0.5, 1.0]),
    eps=st.sampled_from([1e-5, 1e-2]),
)
def test_batch_norm_is_pytorchs(seed, shapes, momentum, eps):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    theirs = torch.nn.BatchNorm2d(3, eps=eps, momentum=momentum).double()
    ours = BatchNorm2d(3, eps=eps, momentum=momentum).astype("float64")
    state = {name: rng.uniform(0.5, 2, 3) for name in ours.state_dict()}
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)

    for n, h, w in shapes:
        x, dy = rng.normal(size=(n, 3, h, w)), rng.normal(size=(n, 3, h, w))
        tensor = torch.tensor(x, requires_grad=True)
        y = theirs(tensor)
        y.backward(torch.tensor(dy))  # gradients add up over the batches in both
        assert np.allclose(ours(x), y.detach(), rtol=1e-10, atol=1e-10)
        assert np.allclose(ours.backward(dy), tensor.grad, rtol=1e-7, atol=1e-8)
        for name, parameter in theirs.named_parameters():
            assert np.allclose(getattr(ours, name).grad, parameter.grad, rtol=1e-9, atol=1e-9), name
        for name in ("running_mean", "running_var"):
            assert np.allclose(ours.state_dict()[name], theirs.state_dict()[name], rtol=1e-12), name

    x = rng.normal(size=(2, 3, 4, 5))
    before = {name: value.copy() for name, value in ours.state_dict().items()}
    assert np.allclose(ours.eval()(x), theirs.eval()(torch.tensor(x)).detach(), rtol=1e-12, atol=1e-12)
    assert all(np.array_equal(value, before[name]) for name, value in ours.state_dict().items())


def test_running_statistics_move_towards_each_batch():
    layer = BatchNorm2d(2, momentum=0.25).astype("float64")
    x = normal((3, 2, 4, 5))
    layer(x)
    for channel in (0, 1):
        values = x[:, channel].ravel().tolist()
        mean = sum(values) / 60
        unbiased = sum((value - mean) ** 2 for value in values) / 59
        assert layer.running_mean.data[channel] == pytest.approx(0.25 * mean)
        assert layer.running_var.data[channel] == pytest.approx(0.75 + 0.25 * unbiased)


def test_in_evaluation_images_are_independent():
    layer = BatchNorm2d(2).astype("float64")
    layer(normal((4, 2, 3, 3)))
    layer.eval()
    x = normal((3, 2, 5, 5), 1)
    assert np.allclose(layer(x)[1:2], layer(x[1:2]), rtol=1e-14)
    assert layer(x[:1, :, :1, :1]).shape == (1, 2, 1, 1)  # one value is enough


def test_batch_norm_refuses_single_values():
    layer = BatchNorm2d(2).astype("float64")
    with pytest.raises(
        ValueError, match=r"BatchNorm2d\(2\) needs two values a channel in training, got .*\(1, 2, 1, 1\)"
    ):
        layer(normal((1, 2, 1, 1)))
    for shape in ((1, 3, 2, 2), (1, 1, 2, 2)):
        with pytest.raises(ValueError, match=r"BatchNorm2d\(2\) takes \(N, 2, H, W\), got"):
            layer(normal(shape))
        with pytest.raises(ValueError, match=r"BatchNorm2d\(2\) takes \(N, 2, H, W\), got"):
            layer.output_shape(shape[1:])
    assert layer.running_mean.data.tolist() == [0, 0]
    assert layer.running_var.data.tolist() == [1, 1]
    with pytest.raises(ValueError, match="num_features must be an integer >= 1, got 0"):
        BatchNorm2d(0)


@pytest.mark.parametrize("x", [np.ones((2, 2, 3, 3)), np.ones((2, 2, 3, 3), np.uint8)])
def test_a_refused_batch_leaves_the_statistics_alone(x):
    layer = BatchNorm2d(2)
    with pytest.raises(TypeError, match="float"):
        layer(x)
    assert layer.running_mean.data.tolist() == [0, 0]
    assert layer.running_var.data.tolist() == [1, 1]


def test_local_response_norm_calls_the_function():
    x, dy = normal((2, 6, 3, 3)), normal((2, 6, 3, 3), 1)
    layer = LocalResponseNorm(3, alpha=0.5, beta=0.6, k=2.0)
    y, scale = F.local_response_norm(x, 3, 0.5, 0.6, 2.0)
    assert np.array_equal(layer(x), y)
    assert np.array_equal(layer.backward(dy), F.local_response_norm_grad(dy, x, scale, 3, 0.5, 0.6))
    assert repr(layer) == "LocalResponseNorm(size=3, alpha=0.5, beta=0.6, k=2.0)"


@pytest.mark.parametrize("size", [0, 2, 4, -1, 2.5])
def test_the_number_of_channels_in_a_sum_is_odd(size):
    with pytest.raises(ValueError, match=f"size must be .*, got {size}"):
        LocalResponseNorm(size)


# Frozen batch normalisation


def test_gradients_of_frozen_statistics():
    norm = BatchNorm2d(3, frozen=True).astype("float64")
    rng = np.random.default_rng(1)
    for array in norm.state_dict().values():
        array[...] = rng.uniform(0.5, 1.5, array.shape)
    before = {name: array.copy() for name, array in norm.state_dict().items()}
    x = rng.normal(size=(2, 3, 4, 5))
    check_gradient(norm, x)
    y = norm(x)
    norm.backward(y)
    assert all(np.array_equal(array, before[name]) for name, array in norm.state_dict().items())
    assert all(p.grad is None and not p.trainable for p in norm.parameters())
    assert np.array_equal(y, norm.eval()(x))
    assert norm.train()(x[:1, :, :1, :1]).shape == (1, 3, 1, 1)  # one value per channel is enough
    assert repr(norm) == "BatchNorm2d(3, frozen=True)"


def test_a_network_is_frozen_and_unfrozen():
    net = Sequential(Conv2d(1, 2, 3, rng=0), Sequential(BatchNorm2d(2)))
    assert freeze_batch_norm(net) is net
    assert [parameter.trainable for parameter in net.parameters()] == [True, True, False, False]
    freeze_batch_norm(net, frozen=False)
    assert not net[1][0].frozen
    assert all(parameter.trainable for parameter in net.parameters())


# Vectors, and groups of channels


def test_vectors_are_images_of_one_pixel():
    ours, images = (norm(3).astype("float64") for norm in (BatchNorm1d, BatchNorm2d))
    x, dy = normal((5, 3)), normal((5, 3), 1)
    assert np.array_equal(ours(x), images(x[:, :, None, None])[:, :, 0, 0])
    assert np.array_equal(ours.backward(dy), images.backward(dy[:, :, None, None])[:, :, 0, 0])
    assert np.array_equal(ours.weight.grad, images.weight.grad)
    assert np.array_equal(ours.running_var.data, images.running_var.data)
    freeze_batch_norm(ours)
    check_gradient(ours, x)
    for wrong in (x[:, :2], x[:, :, None, None]):
        with pytest.raises(ValueError, match=r"BatchNorm1d\(3\) takes \(N, 3\), got items of shape"):
            BatchNorm1d(3).astype("float64")(wrong)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_is_pytorchs(xp, groups):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(groups)
    theirs, ours = (
        torch.nn.GroupNorm(groups, 6, eps=0.01).double(),
        GroupNorm(groups, 6, eps=0.01).astype("float64"),
    )
    state = {name: rng.normal(size=6) for name in ours.state_dict()}
    ours.load_state_dict(state)
    ours.to("cpu" if xp.module is np else "cuda")
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    x, dy = rng.normal(2, 3, (2, 6, 4, 5)), rng.normal(size=(2, 6, 4, 5))
    tensor = torch.tensor(x, requires_grad=True)
    expected = theirs(tensor)
    expected.backward(torch.tensor(dy))
    assert np.allclose(xp.numpy(ours(xp.array(x))), expected.detach(), rtol=1e-11, atol=1e-12)
    assert np.allclose(xp.numpy(ours.backward(xp.array(dy))), tensor.grad, rtol=1e-9, atol=1e-11)
    for name, parameter in theirs.named_parameters():
        assert np.allclose(xp.numpy(getattr(ours, name).grad), parameter.grad, rtol=1e-10, atol=1e-11), name


def test_gradients_of_group_norm():
    check_gradient(GroupNorm(2, 4).astype("float64"), normal((2, 4, 3, 2)))


def test_group_norm_has_places_although_it_sees_all_of_the_image():
    net = Sequential(Conv2d(1, 4, 3, padding=1, rng=0), GroupNorm(2, 4), ReLU(), MaxPool2d(2))
    assert str(net.coordinate_map()) == "2 i + 1/2"
    row = explain(net, (10, 12)).rows[-1]
    assert [str(view.grid) for view in row.views] == ["2 i + 1/2"] * 2
    assert all(view.field >= size for view, size in zip(row.views, (10, 12), strict=True))


@pytest.mark.parametrize("groups", [0, 4, -1, 1.5])
def test_groups_divide_the_channels(groups):
    with pytest.raises(ValueError, match=f"num_groups must .*, got {groups}"):
        GroupNorm(groups, 6)


@pytest.mark.parametrize("value", [np.inf, np.nan, None])
def test_constants_must_be_finite(value):
    for make in (lambda: BatchNorm2d(3, eps=value), lambda: GroupNorm(1, 3, eps=value)):
        with pytest.raises(ValueError, match=f"eps must be a finite number, got {value}"):
            make()
    for name in ("alpha", "beta", "k"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number, got {value}"):
            LocalResponseNorm(**{name: value})
