import numpy as np
import pytest

from minifcn.checks import check_gradient
from minifcn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier, digit_classifier, googlenet, squeezenet1_0, squeezenet1_1, vgg16
from minifcn.models.classifiers import find_taps


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_digit_classifier():
    model = digit_classifier(7, rng=0)
    x = normal((3, 1, 32, 32)).astype("float32")
    assert model(x).shape == (3, 7) == (3, *model.output_shape((1, 32, 32)))
    kinds = [type(layer) for layer in model.features]
    assert [kinds.count(kind) for kind in (Conv2d, ReLU, MaxPool2d)] == [5, 5, 3]
    assert sum(isinstance(layer, Linear) for layer in model["classifier"]) == 2
    assert model.info is None
    assert model.input_shape == (1, 32, 32)


def test_its_gradient():
    model = digit_classifier(rng=0).astype("float64")
    for layer in model["classifier"]:
        if isinstance(layer, Dropout):
            layer.p = 0.0
    check_gradient(model, normal((2, 1, 32, 32)), rng=1)


@pytest.mark.parametrize("make", [digit_classifier])
def test_weights_are_reproducible_and_differ(make):
    first, again, other, moving = make(rng=3), make(rng=3), make(rng=4), make(rng=np.random.default_rng(3))
    weights = [parameter.data for name, parameter in first.named_parameters() if name.endswith("weight")]
    for a, b, c, d in zip(*(model.parameters() for model in (first, again, other, moving)), strict=True):
        assert np.array_equal(a.data, b.data)
        assert np.array_equal(a.data, d.data)
        assert a.data.ndim == 1 or not np.array_equal(a.data, c.data)
    heads = {weight.ravel()[:5].tobytes() for weight in weights}
    assert len(heads) == len(weights)  # a seed does not give each layer the same weights
    x = normal((2, 1, 32, 32)).astype("float32")
    assert np.array_equal(first(x), again(x))  # dropout, too
    assert not any(parameter.data.any() for parameter in make(init="zeros").parameters())


def test_activations_keep_their_scale_and_the_first_scores_are_small():
    model = digit_classifier(rng=0).eval()
    x = normal((64, 1, 32, 32)).astype("float32")
    assert 0.1 < model.features(x).std() < 10
    assert 0.01 < model(x).std() < 1


@pytest.mark.parametrize("make", [digit_classifier, vgg16])
def test_taps_lie_at_their_strides(make):
    model = make(init="zeros")
    for stride, name in model.taps.items():
        names = list(dict(model.features.children()))
        through = Sequential(*list(model.features)[: names.index(name) + 1])
        assert isinstance(model.features[name], MaxPool2d)
        assert through.coordinate_map().scale == stride
        assert through.coordinate_map()(0) * 2 == stride - 1  # the middle of the first cell
    assert model.features.coordinate_map().scale == 2 * max(model.taps)


# torchvision.models.vgg16: places of the convolutions and of the dense layers, and their widths
CONVS = dict(
    zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6,
        strict=True,
    )
)
DENSE = {0: (4096, 512 * 7 * 7), 3: (4096, 4096), 6: (1000, 4096)}


def test_vgg16_has_the_names_and_shapes_of_the_public_weights():
    shapes, channels = {}, 3
    for place, width in CONVS.items():
        shapes |= {f"features.{place}.weight": (width, channels, 3, 3), f"features.{place}.bias": (width,)}
        channels = width
    for place, shape in DENSE.items():
        shapes |= {f"classifier.{place}.weight": shape, f"classifier.{place}.bias": shape[:1]}
    model = vgg16(init="zeros")
    assert {name: array.shape for name, array in model.state_dict().items()} == shapes
    assert list(model.state_dict()) == list(shapes)
    assert sum(p.data.size for p in model.features.parameters()) == 14_714_688
    assert model.output_shape((3, 224, 224)) == (1000,)
    assert model.features.output_shape((3, 224, 224)) == (512, 7, 7)
    assert model.taps == {4: "9", 8: "16", 16: "23"}
    assert [layer.p for layer in model["classifier"] if isinstance(layer, Dropout)] == [0.5, 0.5]


def test_its_two_dropouts_have_different_masks():
    first, second = (layer for layer in vgg16(init="zeros")["classifier"] if isinstance(layer, Dropout))
    x = np.ones(100)
    assert not np.array_equal(first(x), second(x))


@pytest.mark.slow
def test_vgg16_runs():
    model = vgg16(10, rng=0)
    y = model(normal((1, 3, 224, 224)).astype("float32"))
    assert y.shape == (1, 10)
    assert 0.01 < np.abs(y).max() < 100
    assert model.backward(y).shape == (1, 3, 224, 224)


def parts(**changed):
    arguments = {
        "features": Sequential(Conv2d(1, 2, 3, padding=1, rng=0), MaxPool2d(2)),
        "classifier": Sequential(Linear(8, 3, rng=0)),
        "input_shape": (1, 4, 4),
        "taps": {2: "1"},
        "architecture": {"name": "small", "arguments": {}},
    }
    return arguments | changed


def test_a_custom_classifier():
    model = Classifier(**parts())
    assert [name for name, _ in model.children()] == ["features", "flatten", "classifier"]
    assert isinstance(model["flatten"], Flatten)
    assert model(np.ones((5, 1, 4, 4), np.float32)).shape == (5, 3)
    assert model.features is model["features"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"input_shape": (1, 6, 6)}, r"Linear\(8, 3\) takes \(N, 8\), got items of shape \(18,\)"),
        ({"input_shape": (3, 4, 4)}, r"takes \(N, 1, H, W\), got items of shape \(3, 4, 4\)"),
        ({"input_shape": (1, 1, 4)}, "does not fit into height 1"),
        ({"input_shape": (4, 4)}, r"\(4, 4\)"),
        ({"classifier": Sequential(Linear(8, 3, rng=0), Linear(4, 2, rng=0))}, r"Linear\(4, 2\) takes"),
        (
            {"features": Sequential(Conv2d(1, 2, 3, padding=1, rng=0), BatchNorm2d(3), MaxPool2d(2))},
            r"BatchNorm2d\(3\) takes",
        ),
        ({"classifier": Sequential()}, "classifier"),
        ({"taps": {2: "pool"}}, "tap at stride 2 names no layer of features: 'pool'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        Classifier(**parts(**changed))


# Taps that are found


@pytest.mark.parametrize("make", [digit_classifier, vgg16, googlenet, squeezenet1_0, squeezenet1_1])
def test_found_taps_are_the_declared_ones_or_finer(make):
    """For each declared tap one is found at the same stride, at the same layer or a later one."""
    model = make(init="zeros")
    found, names = find_taps(model.features), list(model.features.parts)
    for stride, name in model.taps.items():
        assert names.index(found[stride]) >= names.index(name)
        places = {found[stride]: None}
        model.features.coordinate_map(places)
        assert places[found[stride]].scale == stride
    undeclared = Classifier(model.features, model["classifier"], input_shape=model.input_shape)
    assert undeclared.taps == found
    assert undeclared.architecture == {}


class Silent(ReLU):
    """A layer without a coordinate map."""

    def reach(self):
        raise ValueError("Silent() has no reach")


def test_no_taps_behind_a_layer_without_a_coordinate_map():
    conv = Conv2d(1, 1, 3, padding=1, rng=0)
    assert find_taps(Sequential(conv, MaxPool2d(2), ReLU(), MaxPool2d(2), Silent(), MaxPool2d(2))) == {
        1: "0",
        2: "2",
    }


def test_an_fcn_of_something_else_is_refused_by_name():
    with pytest.raises(TypeError, match=r"got Sequential: Classifier\(features, classifier, input_shape"):
        FCN(Sequential(Conv2d(1, 1, 3, rng=0)), 2)
