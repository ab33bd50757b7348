"""Shapes from one layout into another, by index arithmetic as the oracle."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.files import FileError
from minifcn.models import FCN, digit_classifier, googlenet, squeezenet1_1, vgg16
from minifcn.weights.matching import Match, filter_shapes, fits, left_over, match, transfer
from minifcn.weights.names import Naming, classifier_namings

FILE = Path("file.npz")


def identity(model, **changed):
    names = {name: name for name in model.state_dict()}
    return Naming("mine", names, **changed)


def random_state(model, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=array.shape).astype("f4") for name, array in model.state_dict().items()}


def flattened_hwc(weights, channels, height, width):
    """Dense weights for maps that are flattened row by row, pixel by pixel: one entry at a time."""
    other = np.empty_like(weights)
    for c, h, w in np.ndindex(channels, height, width):
        other[:, (h * width + w) * channels + c] = weights[:, (c * height + h) * width + w]
    return other


def keras(state, maps):
    """The same weights with channels last: every value looked up by its indices."""
    changed = {}
    for name, array in state.items():
        if array.ndim == 4:
            o, c, h, w = array.shape
            changed[name] = np.empty((h, w, c, o), "f4")
            for i, j in np.ndindex(h, w):
                changed[name][i, j] = array[:, :, i, j].T
        elif array.ndim == 2:
            size = maps if array.shape[1] == np.prod(maps) else (array.shape[1], 1, 1)
            changed[name] = flattened_hwc(array, *size).T
        else:
            changed[name] = array
    return changed


MAPS = {digit_classifier: (64, 4, 4), squeezenet1_1: (512, 13, 13)}


@pytest.mark.parametrize("make", MAPS)
@pytest.mark.parametrize("layout", ["as here", "HWC", "channels last", "convolutions", "dense"])
def test_all_layouts_give_the_same_scores(make, layout):
    original, loaded = make(7).eval(), make(7, init="zeros").eval()
    state = random_state(original)
    original.load_state_dict(state)
    arrays, naming, order = dict(state), identity(loaded), "CHW"
    if layout == "HWC":
        order = "HWC"
        if "classifier.0.weight" in arrays:
            arrays["classifier.0.weight"] = flattened_hwc(arrays["classifier.0.weight"], *MAPS[make])
    elif layout == "channels last":
        arrays, naming = keras(state, MAPS[make]), identity(loaded, channels_last=True)
    elif layout == "convolutions":
        for name, shape in filter_shapes(loaded).items():
            arrays[name] = arrays[name].reshape(shape)
    elif layout == "dense":
        arrays = {
            n: a.reshape(len(a), -1) if n.startswith("class") and a.ndim > 2 else a for n, a in arrays.items()
        }
    found = match(loaded, naming, arrays)
    assert found.share == 1.0
    report = transfer(FILE, found, arrays, order)
    assert arrays == {}
    x = np.random.default_rng(1).normal(size=(1, *loaded.input_shape)).astype("f4")
    assert np.array_equal(loaded(x), original(x))
    assert all(np.array_equal(array, state[name]) for name, array in loaded.state_dict().items())
    weights = {name for name, array in state.items() if array.ndim > 1}
    reshaped = {entry.name for entry in report.reshaped}
    if layout == "channels last":
        assert reshaped == weights
    else:
        assert reshaped <= {name for name in weights if name.startswith("classifier.")}
        assert bool(reshaped) == (layout != "as here" and (make, layout) not in UNCHANGED)


UNCHANGED = {(digit_classifier, "dense"), (squeezenet1_1, "HWC"), (squeezenet1_1, "convolutions")}


def test_filter_shape_of_the_first_dense_layer():
    shapes = filter_shapes(vgg16(init="zeros"))
    assert shapes["classifier.0.weight"] == (4096, 512, 7, 7)
    assert shapes["classifier.3.weight"] == (4096, 4096, 1, 1)
    assert filter_shapes(googlenet(init="zeros"))["classifier.fc.weight"] == (1000, 1024, 1, 1)


@pytest.mark.parametrize("source", ["torchvision", "Caffe", "timm", "TensorFlow", "Keras"])
def test_vgg16_in_all_names_and_layouts(source):
    """All shapes as they are published; the numbers of those tensors that are not large."""
    model = vgg16(init="zeros")
    large = "classifier.0.weight"
    for naming in classifier_namings(model):
        if naming.source != source:
            continue
        shapes = (
            dict(filter_shapes(model))
            if source == "timm"
            else {n: a.shape for n, a in model.state_dict().items()}
        )
        if source == "timm":
            shapes["classifier.6.weight"] = (1000, 4096)
        if naming.channels_last:
            shapes = {n: (*s[2:], s[1], s[0]) if len(s) > 1 else s for n, s in shapes.items()}
        assert (
            shapes[large]
            == {
                **dict.fromkeys(("torchvision", "Caffe"), (4096, 25088)),
                **dict.fromkeys(("TensorFlow", "Keras"), (25088, 4096)),
                "timm": (4096, 512, 7, 7),
            }[source]
        )
        zero = np.zeros((), "f4")
        published = {naming.names[n]: np.broadcast_to(zero, shape) for n, shape in shapes.items()}
        found = match(model, naming, published)
        assert found.share == 1.0

        state = {n: a for n, a in random_small(model).items() if a.size < 1_000_000}
        arrays = keras(state, (512, 7, 7)) if naming.channels_last else state
        arrays = {naming.names[n]: a.reshape(shapes[n]) for n, a in arrays.items()}
        transfer(FILE, match(model, naming, arrays), arrays, "CHW")
        assert all(np.array_equal(model.state_dict()[n], array) for n, array in state.items())


def random_small(model):
    rng = np.random.default_rng(0)
    return {
        n: rng.normal(size=a.shape).astype("f4") for n, a in model.state_dict().items() if a.size < 1_000_000
    }


@given(classes=st.integers(2, 5), data=st.data())
def test_kernels_become_depthwise_if_they_mix_no_classes(classes, data):
    fcn = FCN(digit_classifier(init="zeros"), classes, 4)
    name = "upsamples.8to4.deconv.weight"
    own = fcn.state_dict()[name]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    diagonal = rng.normal(size=own.shape).astype("f4")
    full = np.zeros((classes, classes, *own.shape[2:]), "f4")
    for c in range(classes):
        full[c, c] = diagonal[c, 0]
    arrays = {name: full.copy()}
    [entry] = transfer(FILE, match(fcn, identity(fcn), arrays), arrays, "CHW").reshaped
    assert np.array_equal(fcn.state_dict()[name], diagonal)
    assert (entry.shape, entry.source_shape) == (own.shape, full.shape)

    one, other = data.draw(st.permutations(range(classes)))[:2]
    full[one, other, 0, 0] = data.draw(st.sampled_from([1e-30, -1.0, np.nan]))
    with pytest.raises(FileError, match=r"file.npz: upsamples.* mixes the scores of different classes"):
        transfer(FILE, match(fcn, identity(fcn), {name: full}), {name: full}, "CHW")


def test_kernels_with_channels_last_become_depthwise():
    fcn = FCN(digit_classifier(init="zeros"), 3, 4)
    name = "upsamples.8to4.deconv.weight"
    own = np.random.default_rng(0).normal(size=fcn.state_dict()[name].shape).astype("f4")
    full = np.zeros((*own.shape[2:], 3, 3), "f4")
    for c in range(3):
        full[:, :, c, c] = own[c, 0]
    naming = identity(fcn, channels_last=True)
    transfer(FILE, match(fcn, naming, {name: full}), {name: full}, "CHW")
    assert np.array_equal(fcn.state_dict()[name], own)


def test_missing_tensors_are_explained():
    model = digit_classifier(rng=0)
    arrays = {
        "features.0.weight": np.zeros((16, 1, 5, 5), "f4"),
        "features.0.bias": np.zeros(16, "i4"),
        "features.3.weight": np.zeros((32, 16 * 9), "f4"),  # a convolution is never flattened
        "classifier.0.weight": np.zeros((128, 4, 4, 64), "f4"),
        "surplus": np.zeros(3, "f4"),
        "bn.num_batches_tracked": np.zeros((), "i8"),
        "features.3.bias": np.zeros(32, "f4"),
    }
    found = match(model, identity(model), arrays)
    assert found.found == {"features.3.bias": "features.3.bias"}
    said = {name: why for name, why in found.missing.items() if why}
    assert said == {
        "features.0.weight": "features.0.weight is float32 (16, 1, 5, 5) instead of (16, 1, 3, 3)",
        "features.0.bias": "features.0.bias is int32 (16,) instead of (16,)",
        "features.3.weight": "features.3.weight is float32 (32, 144) instead of (32, 16, 3, 3)",
        "classifier.0.weight": "classifier.0.weight is float32 (128, 4, 4, 64) instead of (128, 1024)",
    }
    surplus = left_over(found, arrays)
    assert surplus.keys() == {*said, "surplus"}
    assert surplus["surplus"] == (3,)


@pytest.mark.parametrize(
    ("found", "missing", "expected"), [(1, 1, False), (2, 1, True), (0, 2, False), (1, 0, True)]
)
def test_more_than_half_of_the_tensors_are_those_of_the_network(found, missing, expected):
    model = digit_classifier(init="zeros")
    names = list(model.state_dict())
    ours = dict.fromkeys(names[:found], "a"), dict.fromkeys(names[found : found + missing], "")
    assert fits(Match(model, identity(model), *ours), {}) is expected
