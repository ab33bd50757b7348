import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn import conv_to_dense, convolutionalize, dense_to_conv
from minifcn.layers import (
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifcn.models import digit_classifier

seeds = st.integers(0, 2**32 - 1)


@st.composite
def unpadded_classifiers(draw):
    """Draw a classifier without padding, the size it was made for, and the step between its positions.

    The size of the last map is drawn first; each layer, from the last to the first, then says how large its
    input is, with some rows that no window sees.
    """
    rng = np.random.default_rng(draw(seeds))
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    last_map, step, kinds = size, (1, 1), []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from([Conv2d, MaxPool2d, AvgPool2d]))
        kernel, stride = (draw(st.tuples(st.integers(1, 3), st.integers(1, 2))) for _ in "ks")
        unseen = [draw(st.integers(0, s - 1)) for s in stride]
        size = tuple((n - 1) * s + k + u for n, s, k, u in zip(size, stride, kernel, unseen, strict=True))
        step = step[0] * stride[0], step[1] * stride[1]
        kinds.insert(0, (kind, kernel, stride))
    channels = in_channels = draw(st.integers(1, 3))
    features = []
    for kind, kernel, stride in kinds:
        if kind is Conv2d:
            features.append(Conv2d(channels, 2, kernel, stride=stride, rng=rng))
            channels = 2
        else:
            features.append(kind(kernel, stride))
        features.append(ReLU())
    if draw(st.booleans()):
        features.append(GlobalAvgPool2d())
        width = channels
    else:
        width = channels * last_map[0] * last_map[1]
    dense = []
    for outputs in draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
        dense += [Linear(width, outputs, rng=rng, bias=draw(st.booleans())), ReLU(), Dropout(0.5, rng=0)]
        width = outputs
    model = Sequential(features=Sequential(*features), flatten=Flatten(), head=Sequential(*dense[:-2]))
    return model.astype("float64").eval(), (in_channels, *size), step


@given(drawn=unpadded_classifiers(), seed=seeds, more=st.tuples(*[st.integers(0, 3)] * 2))
def test_each_position_gives_the_scores_of_its_crop(drawn, seed, more):
    model, (channels, height, width), step = drawn
    rng = np.random.default_rng(seed)
    network = convolutionalize(model, (channels, height, width))
    x = rng.normal(size=(2, channels, height, width))
    scores = network(x)
    assert scores.shape[2:] == (1, 1)
    assert np.allclose(scores[:, :, 0, 0], model(x), rtol=1e-12, atol=1e-12)

    size = [n + m * s + int(rng.integers(s)) for n, m, s in zip((height, width), more, step, strict=True)]
    x = rng.normal(size=(1, channels, *size))
    scores = network(x)
    assert scores.shape[2] > more[0]
    assert scores.shape[3] > more[1]
    for i, j in np.ndindex(more[0] + 1, more[1] + 1):
        top, left = i * step[0], j * step[1]
        crop = x[:, :, top : top + height, left : left + width]
        assert np.allclose(scores[:, :, i, j], model(crop), rtol=1e-12, atol=1e-12), (i, j)


@given(seed=seeds)
def test_the_gradient_is_the_classifiers_too(seed):
    rng = np.random.default_rng(seed)
    model = Sequential(
        Conv2d(1, 2, 2, rng=rng), MaxPool2d(2), Flatten(), Linear(8, 3, rng=rng), ReLU(), Linear(3, 2, rng=0)
    )
    model.astype("float64")
    network = convolutionalize(model, (1, 5, 5))
    x = rng.normal(size=(3, 1, 5, 5))
    dy = rng.normal(size=(3, 2))
    model(x)
    network(x)
    assert np.allclose(network.backward(dy[:, :, None, None]), model.backward(dy), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(network.parameters(), model.parameters(), strict=True):
        assert np.allclose(ours.grad.reshape(theirs.grad.shape), theirs.grad, rtol=1e-12, atol=1e-12)


def test_with_padding_the_borders_of_a_crop_differ():
    rng = np.random.default_rng(0)
    model = Sequential(Conv2d(1, 2, 3, padding=1, rng=rng), Flatten(), Linear(2 * 4 * 4, 3, rng=rng)).astype(
        "float64"
    )
    network = convolutionalize(model, (1, 4, 4))
    x = rng.normal(size=(1, 1, 6, 6))
    crop = x[:, :, 1:5, 1:5]
    assert np.allclose(network(crop)[:, :, 0, 0], model(crop), rtol=1e-12)  # on the trained size all is well
    scores = network(x)[:, :, 1, 1]
    assert not np.allclose(scores, model(crop), rtol=0.01)
    # What differs is the frame of one pixel that the large image has and the crop does not.
    x[:, :, [0, -1]] = x[:, :, :, [0, -1]] = 0
    assert np.allclose(network(x)[:, :, 1, 1], model(crop), rtol=1e-12)


@given(drawn=unpadded_classifiers(), seed=seeds)
def test_same_size_only_pads(drawn, seed):
    model, (channels, height, width), step = drawn
    x = np.random.default_rng(seed).normal(size=(1, channels, height + step[0], width + step[1]))
    plain = convolutionalize(model, (channels, height, width))
    padded = convolutionalize(model, (channels, height, width), same_size=True)
    kernel = plain["head"][0].kernel_size
    last_map = padded["features"](x)
    scores = padded(x)
    assert scores.shape[2:] == tuple(
        n + (k % 2 == 0) for n, k in zip(last_map.shape[2:], kernel, strict=True)
    )
    expected = plain(x)
    top, left = (k // 2 for k in kernel)
    inner = scores[:, :, top : top + expected.shape[2], left : left + expected.shape[3]]
    assert np.allclose(inner, expected, rtol=1e-12, atol=1e-12)


# Single layers


def dense_layer(inputs, outputs=4, bias=True):
    layer = Linear(inputs, outputs, bias=bias, rng=1).astype("float64")
    if bias:
        layer.bias.data[...] = np.arange(outputs)
    return layer


@pytest.mark.parametrize("order", ["CHW", "HWC"])
@pytest.mark.parametrize("bias", [True, False])
def test_both_orders_of_flattening(xp, order, bias):
    linear = dense_layer(2 * 3 * 4, bias=bias)
    conv = dense_to_conv(linear, (2, 3, 4), order)
    x = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    image = x if order == "CHW" else np.moveaxis(x, 1, 3)  # Keras flattens (N, H, W, C)
    flat = np.array([list(one.ravel(order="C")) for one in image])
    expected = flat @ linear.weight.data.T + (linear.bias.data if bias else 0)
    if xp.name in ("strict", "cupy"):
        conv.to("cuda")
    assert np.allclose(xp.numpy(conv(xp.array(x)))[:, :, 0, 0], expected, rtol=1e-12)
    assert (conv.bias is None) is not bias
    assert repr(conv) == f"Conv2d(2, 4, kernel_size=(3, 4){'' if bias else ', bias=False'})"


@given(seed=seeds, shape=st.tuples(*[st.integers(1, 4)] * 3), outputs=st.integers(1, 4), bias=st.booleans())
@pytest.mark.parametrize("order", ["CHW", "HWC"])
def test_there_and_back(seed, shape, outputs, bias, order):
    linear = Linear(int(np.prod(shape)), outputs, bias=bias, rng=seed)
    back = conv_to_dense(dense_to_conv(linear, shape, order), order)
    assert np.array_equal(back.weight.data, linear.weight.data)
    assert back.weight.data.flags.c_contiguous
    assert (back.in_features, back.out_features, back.bias is None) == (linear.in_features, outputs, not bias)
    conv = Conv2d(shape[0], outputs, shape[1:], bias=bias, rng=seed)
    again = dense_to_conv(conv_to_dense(conv, order), shape, order)
    assert np.array_equal(again.weight.data, conv.weight.data)


def test_only_the_shape_of_the_weights_changes():
    linear = dense_layer(24)
    conv = dense_to_conv(linear, (2, 3, 4), padding=(1, 2))
    assert np.array_equal(conv.weight.data.ravel(), linear.weight.data.ravel())
    assert conv.padding == (1, 2)
    assert conv_to_dense(conv).weight.data.shape == (4, 24)


def test_a_model_on_the_gpu_stays_there(strict):
    model = Sequential(Conv2d(1, 2, 2, rng=0), GlobalAvgPool2d(), Flatten(), Linear(2, 3, rng=0)).to("cuda")
    network = convolutionalize(model, (1, 4, 4))
    x = strict.array(np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype("float32"))
    assert np.allclose(strict.numpy(network(x))[:, :, 0, 0], strict.numpy(model(x)), rtol=1e-6)


# Copies


def test_training_one_does_not_change_the_other():
    model = digit_classifier(rng=0)
    network = convolutionalize(model, (1, 32, 32))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    for parameter in network.parameters():
        parameter.data += 1
        parameter.lr_multiplier = 0.0
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert {parameter.lr_multiplier for parameter in model.parameters()} == {1.0}
    for array in model.state_dict().values():
        assert not any(np.shares_memory(array, other) for other in network.state_dict().values())


def test_parts_keep_their_names_and_multipliers():
    model = digit_classifier(rng=0)
    multipliers = {}
    for i, (name, parameter) in enumerate(model.named_parameters()):
        parameter.lr_multiplier, parameter.decay_multiplier, parameter.trainable = i, 2 * i, bool(i % 2)
        multipliers[name] = i, 2 * i, bool(i % 2)
    network = convolutionalize(model, (1, 32, 32))
    assert list(network.state_dict()) == list(model.state_dict())
    for name, parameter in network.named_parameters():
        assert (parameter.lr_multiplier, parameter.decay_multiplier, parameter.trainable) == multipliers[name]


def test_a_new_network_starts_fresh():
    model = digit_classifier(rng=0)
    x = np.random.default_rng(0).normal(size=(2, 1, 32, 32)).astype("float32")
    model.backward(model(x))
    model(x)  # and now it keeps what its own backward needs
    gradients = [parameter.grad for parameter in model.parameters()]
    network = convolutionalize(model, (1, 32, 32))
    assert [parameter.grad for parameter in network.parameters()] == [None] * len(gradients)
    with pytest.raises(ValueError, match="forward has not run"):
        network["features"].backward(np.zeros((2, 64, 4, 4), np.float32))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    model.backward(np.zeros((2, 10), np.float32))  # the model is as it was


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_the_models(training):
    model = Sequential(
        Conv2d(1, 2, 2, rng=0),
        BatchNorm2d(2),
        GlobalAvgPool2d(),
        Flatten(),
        Dropout(rng=0),
        Linear(2, 3, rng=0),
    )
    network = convolutionalize(model.train(training), (1, 4, 4))
    assert {layer.training for layer in network.layers()} == {training}


def test_dropout_is_kept_and_drops():
    model = Sequential(Flatten(), Linear(16, 50, rng=0), Dropout(0.5, rng=3), Linear(50, 2, rng=0))
    twin = copy.deepcopy(model)
    network = convolutionalize(model, (1, 4, 4))
    assert [repr(layer) for layer in network if isinstance(layer, Dropout)] == ["Dropout()"]
    x = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype("float32")
    scores = network(x)
    assert not np.allclose(scores, network(x))
    assert np.allclose(scores[:, :, 0, 0], model(x), rtol=1e-4)  # the same numbers were dropped
    twin(x)
    assert np.array_equal(model(x), twin(x))  # and the model's own generator was not touched


# What is refused


@pytest.mark.parametrize("shape", [(1, 32), (1, 32, 32, 1), (0, 4, 4), (1, 4, 0), (1, -4, 4)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\), got "):
        convolutionalize(digit_classifier(rng=0), shape)
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\), got "):
        dense_to_conv(Linear(4, 2, rng=0), shape)


def test_models_that_do_not_fit_are_refused():
    said = r"Linear\(1024, 128\) does not take a flattened map of 64 x 5 x 5 = 1600"
    with pytest.raises(ValueError, match=said):
        convolutionalize(digit_classifier(rng=0), (1, 40, 40))
    with pytest.raises(ValueError, match=r"takes \(N, 1, H, W\), got items of shape \(3, 32, 32\)"):
        convolutionalize(digit_classifier(rng=0), (3, 32, 32))
    with pytest.raises(ValueError, match="does not fit into height"):
        convolutionalize(Sequential(Conv2d(1, 1, 5, rng=0), Flatten(), Linear(1, 1, rng=0)), (1, 4, 9))
    with pytest.raises(ValueError, match="does not take a flattened map of 2 x 3 x 5 = 30"):
        dense_to_conv(Linear(24, 2, rng=0), (2, 3, 5))


@pytest.mark.parametrize("container", [Concat, Add])
def test_what_hides_in_branches_is_converted_or_refused(container):
    model = Sequential(
        container(Sequential(ReLU(), GlobalAvgPool2d())), Flatten(), Linear(1, 2, rng=0)
    ).astype("float64")
    try:
        network = convolutionalize(model, (1, 4, 4))
    except ValueError as refusal:
        assert container.__name__ in str(refusal)  # noqa: PT017
    else:
        x = np.random.default_rng(0).normal(size=(1, 1, 5, 6))
        assert np.allclose(network(x)[:, :, 1, 2], model(x[:, :, 1:5, 2:6]))


@pytest.mark.parametrize("order", ["WHC", "chw", None])
def test_unknown_orders_are_refused(order):
    with pytest.raises(ValueError, match=f"order must be one of 'CHW', 'HWC', got {order!r}"):
        dense_to_conv(Linear(24, 2, rng=0), (2, 3, 4), order)
    with pytest.raises(ValueError, match=f"order must be one of 'CHW', 'HWC', got {order!r}"):
        conv_to_dense(Conv2d(1, 1, 3, rng=0), order)


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_not_every_convolution_is_dense(options):
    with pytest.raises(ValueError, match="has stride, dilation or groups: it is not a dense layer"):
        conv_to_dense(Conv2d(2, 2, 3, **options))


def test_normalisation_of_vectors_becomes_one_of_maps():
    rng = np.random.default_rng(0)
    norm = BatchNorm1d(5, eps=0.1, frozen=True)
    for array in norm.state_dict().values():
        array[...] = rng.uniform(0.5, 2, 5)
    model = Sequential(MaxPool2d(2), Flatten(), Linear(12, 5, rng=rng), norm, ReLU(), Linear(5, 2, rng=rng))
    fully = convolutionalize(model.eval(), (3, 4, 4))
    x = rng.normal(size=(2, 3, 4, 4)).astype("float32")
    assert np.allclose(fully(x)[:, :, 0, 0], model(x), rtol=1e-5, atol=1e-6)
    assert isinstance(fully["3"], BatchNorm2d)
    assert not isinstance(fully["3"], BatchNorm1d)
    assert (fully["3"].eps, fully["3"].frozen, fully["3"].weight.trainable) == (0.1, True, False)
    assert not np.shares_memory(fully["3"].weight.data, norm.weight.data)
    with pytest.raises(ValueError, match=r"BatchNorm2d\(12.* takes \(N, 12, H, W\)"):
        convolutionalize(Sequential(Flatten(), BatchNorm1d(12), Linear(12, 5, rng=0)), (3, 2, 2))
