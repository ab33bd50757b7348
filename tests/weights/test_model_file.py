import json
import os
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn import convolutionalize, layers, load, save
from minifcn.files import FileError
from minifcn.layers import Conv2d, Flatten, Graph, Layer, Linear, Parameter, ReLU, Sequential, to_config
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier, squeezenet1_1
from minifcn.weights import load_classifier
from tests.weights.files import GREY, contents, equal, small


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def networks():
    classifier = small(3)
    fcn = FCN(classifier, 3, 4, upsampling="learned")
    rng = np.random.default_rng(0)
    for parameter in fcn.parameters():
        parameter.data[...] = rng.normal(size=parameter.data.shape)
    fcn.info = classifier.info
    return {"classifier": classifier, "fcn": fcn, "finer": _with_info(fcn.finer(), classifier.info)}


def _with_info(model, info):
    model.info = info
    return model


@pytest.mark.parametrize("kind", ["classifier", "fcn", "finer"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_network_is_loaded_bit_for_bit(path, kind, as_text):
    model = networks()[kind]
    x = np.random.default_rng(1).normal(size=(2, 1, 32, 32)).astype("float32")
    before = {name: array.copy() for name, array in model.state_dict().items()}
    save(model, str(path) if as_text else path)
    back = load(str(path) if as_text else path)
    assert type(back) is type(model)
    assert equal(back, model)
    assert back.info == model.info
    assert back.architecture == model.architecture
    assert not any(layer.training for layer in back.layers())
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert np.array_equal(back(x), model.eval()(x))
    again = path.with_name("again")
    save(back, again)
    assert equal(load(again), model)


def test_special_values_are_kept(path):
    model = small()
    model.features[0].bias.data[:3] = -0.0, 1e-45, np.finfo("f4").max
    save(model, path)
    assert equal(load(path), model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(path, value):
    model = small()
    model.features[0].bias.data[2:5] = value
    save(model, path)
    with pytest.raises(FileError, match=r"model.*: 3 of 16 values of features.0.bias are NaN or infinite"):
        load(path)


def test_arrays_need_not_be_contiguous(path):
    model = small()
    dense = model["classifier"][0].weight
    dense.data = np.asfortranarray(dense.data)
    save(model, path)
    assert np.array_equal(load(path)["classifier"][0].weight.data, dense.data)


def test_a_network_on_the_gpu_is_saved_and_loaded_on_the_cpu(strict, path):
    model = small()
    expected = {name: array.copy() for name, array in model.state_dict().items()}
    save(model.to("cuda"), path)
    assert all(isinstance(array, strict.module.ndarray) for array in model.state_dict().values())
    assert all(np.array_equal(array, expected[name]) for name, array in load(path).state_dict().items())


def test_the_file_is_plain_safetensors(path):
    model = small()
    save(model, path)
    tensors, metadata = contents(path)
    assert tensors.keys() == model.state_dict().keys()
    assert metadata["format"] == "minifcn 2"
    assert json.loads(metadata["layers"]) == to_config(model)
    info = json.loads(metadata["info"])
    assert info["class_names"] == list(model.info.class_names)
    assert info["preprocessing"] == {
        "channels": "L",
        "mean": [127.5],
        "std": [63.25],
        "bit_depth": 8,
        "bands": None,
    }
    assert info["colors"][1] == [255, 128, 1]


ODD_INFO = {
    "a text for names": {"class_names": "abc"},
    "a list of names": {"class_names": ["a", "b", "c"]},
    "numbers for names": {"class_names": (1, 2, 3)},
    "NumPy colours": {"colors": tuple(map(tuple, np.eye(3, dtype=np.uint8)))},
    "an array of colours": {"colors": np.eye(3, dtype=np.uint8)},
    "colours above 255": {"colors": ((300, 0, 0), (0, 0, 0), (1, 1, 1))},
    "colours of two numbers": {"colors": ((0, 0), (1, 1), (2, 2))},
    "broken colours": {"colors": ((0.5, 0, 0), (0, 0, 0), (1, 1, 1))},
    "NumPy means": {"mean": (np.float32(3),)},
    "a list of means": {"mean": [3]},
    "an array of means": {"mean": np.array([3.0])},
    "a text for a mean": {"mean": ("3",)},
}


@pytest.mark.parametrize("odd", ODD_INFO)
def test_accepted_info_is_kept(path, odd):
    given = {"class_names": ("a", "b", "c"), "colors": (), "mean": (3.0,)} | ODD_INFO[odd]
    try:
        preprocessing = Preprocessing("L", given["mean"], (1.0,))
        info = ModelInfo(given["class_names"], preprocessing, given["colors"])
    except (TypeError, ValueError):
        return  # refused when it is made, not after the training
    model = digit_classifier(3, rng=0)
    model.info = info
    save(model, path)
    assert load(path).info == info


def test_numpy_integers_are_written_as_integers(path):
    for model in (
        digit_classifier(np.int64(3), rng=0),
        FCN(digit_classifier(rng=0), np.int64(3), np.uint8(4)),
    ):
        model.info = ModelInfo(("a", "b", "c"), GREY)
        save(model, path)
        assert load(path).architecture == model.architecture


def test_a_network_without_info_is_not_saved(path):
    with pytest.raises(ValueError, match=r"model.info is not set"):
        save(digit_classifier(rng=0), path)
    model = small()
    model.info = ModelInfo(("a", "b"), GREY)
    with pytest.raises(ValueError, match="the model has 3 classes, its info names 2"):
        save(model, path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_file(path, monkeypatch, error):
    old = small(seed=1)
    save(old, path)

    def fails(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fails)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with pytest.raises(expected) as raised:
        save(small(seed=2), path)
    if expected is OSError:
        assert f"cannot write the model file {path}: disk full" in str(raised.value)
    assert equal(load(path), old)
    assert os.listdir(path.parent) == [path.name]


def test_no_temporary_files_are_left(path):
    for _ in range(2):
        save(small(), path)
    with pytest.raises(OSError, match="cannot write the model file"):
        save(small(), path.parent / "missing" / "model.safetensors")
    with pytest.raises(OSError, match="cannot write the model file"):
        save(small(), path.parent)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="umask belongs to POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_follow_the_umask(path, umask):
    before = os.umask(umask)
    try:
        save(small(), path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


class Scale(Layer):
    """A layer of one's own, which tests register."""

    def __init__(self, channels, power=1):
        self.channels, self.power = channels, power
        self.factor = Parameter(np.full((channels, 1, 1), 2, np.float32))

    def forward(self, x):
        y = x * self.factor.data**self.power
        self.keep(x, output=y)
        return y

    def output_shape(self, shape):
        return shape

    def reach(self):
        return ReLU().reach()


@pytest.fixture
def registered():
    layers.register(Scale)
    yield Scale
    del layers.config._classes["Scale"]


def own_networks():
    conv, block = Conv2d(2, 3, 3, padding=((0, 1), (2, 0)), bias=False, rng=0), Conv2d(3, 3, 1, rng=1)
    graph = Graph({"conv": (conv, "input"), "block": (block, "conv"), "sum": ("add", "conv", "block")}, "sum")
    yield "graph", graph
    yield "sequential", Sequential(graph, ReLU(), Flatten(), Linear(3 * 8 * 9, 2, rng=2))
    features = Sequential(
        scale=Scale(2, power=3), conv=Conv2d(2, 4, 3, stride=2, padding=1, rng=0), relu=ReLU()
    )
    classifier = Classifier(features, Sequential(Linear(4 * 5 * 5, 3, rng=1)), input_shape=(2, 9, 9))
    classifier.info = ModelInfo(("a", "b", "c"), Preprocessing("RGB", (1, 2, 3), (1, 2, 3), 12, (3, 1, 0)))
    yield "classifier", classifier
    fcn = FCN(classifier, 3, 1)
    fcn.info = classifier.info
    yield "fcn", fcn


@pytest.mark.parametrize("kind", ["graph", "sequential", "classifier", "fcn"])
def test_networks_of_ones_own_are_loaded(path, registered, kind):
    model = dict(own_networks())[kind].eval()
    save(model, path)
    back = load(path)
    x = np.random.default_rng(1).normal(size=(2, 2, 9, 9)).astype("float32")
    assert type(back) is type(model)
    assert equal(back, model)
    assert repr(back) == repr(model)
    assert getattr(back, "info", None) == getattr(model, "info", None)
    assert np.array_equal(back(x), model(x))
    if kind == "classifier":
        assert back.taps == model.taps
        assert (
            load_classifier(path).report.summary().startswith("Classifier in the names of minifcn: 5 copied")
        )


def test_own_classes_must_be_registered(path, registered):
    model = dict(own_networks())["fcn"]
    save(model, path)
    del layers.config._classes["Scale"]
    with pytest.raises(FileError, match=r"unknown class 'Scale': .*minifcn.layers.register"):
        load(path)
    with pytest.raises(ValueError, match=r"FCN.features.scale is a Scale, .*minifcn.layers.register"):
        save(model, path)
    layers.register(Scale)
    load(path)


def test_a_network_that_config_does_not_describe_is_not_saved(path, registered):
    scale = Scale(2)
    scale.factor.data = np.ones((5, 1, 1), np.float32)
    with pytest.raises(ValueError, match="Scale"):
        save(scale, path)
    scale = Scale(2)
    del scale.power
    with pytest.raises(ValueError, match="Scale has no attribute 'power'"):
        save(scale, path)
    scale = Scale(2, power=np.ones(2))
    with pytest.raises(ValueError, match=r"Scale\.power is"):
        save(scale, path)
    scale = Scale(2)
    scale.factor.data = np.ones((2, 1, 1), np.int32)
    with pytest.raises(ValueError, match="factor must be floating-point, got int32"):
        save(scale, path)
    with pytest.raises(TypeError, match="model must be a layer, got int"):
        save(3, path)
    assert not path.exists()


def test_changed_layers_are_saved_as_they_are(path):
    model = convolutionalize(squeezenet1_1(4, rng=0), (3, 224, 224))
    model["features"][0].geometry = model["features"][0].geometry.replace(padding=(1, 2))
    model["classifier"][0].p = 0.25
    save(model, path)
    back = load(path)
    assert repr(back) == repr(model)
    assert (back["features"][0].padding, back["classifier"][0].p) == ((1, 2), 0.25)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "model.npz"])
def test_suffixes_of_other_formats_are_refused(path, name):
    wrong = path.with_name(name)
    with pytest.raises(ValueError, match=rf"{name} ends in \.\w+, .* call it .*model\.safetensors$"):
        save(small(), wrong)
    assert not wrong.exists()


def test_a_full_disk(path, monkeypatch):
    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=rf"^cannot write the model file {path}: No space left on device$"):
        save(small(), path)


def test_messages_for_other_files(path, tmp_path):
    state = small().state_dict()
    save_file(state, path)
    with pytest.raises(FileError, match="lack the format 'minifcn 2'; weights of a classifier are for load"):
        load(path)
    np.savez(tmp_path / "weights.npz", **state)
    with pytest.raises(FileError, match=r"is not a safetensors file: .*; weights of a cl"):
        load(tmp_path / "weights.npz")
    save_file(state, path, {"training": '{"format": "minifcn checkpoint 1", "epoch": 3}'})
    with pytest.raises(
        FileError, match=r"it is the checkpoint of a training, which Checkpoints\(resume=True"
    ):
        load(path)
    save_file(state, tmp_path / "last.safetensors", {"training": '{"format": "minifcn checkpoint 1"}'})
    with pytest.raises(FileError, match=rf"continues; its best network is {path}$"):
        load(tmp_path / "last.safetensors")
    with pytest.raises(FileError, match=r"is the checkpoint of a training, and holds no classifier"):
        load_classifier(path)


@pytest.mark.parametrize("length", [0x0280, 0x4B50])
def test_the_length_of_the_header_may_look_like_another_format(path, length):
    """The first bytes are its length: 0x0280 is how pickles begin, and 0x4B50 how zip files do."""
    save(small(), path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    padded = content[8:end].rstrip()
    length += 0x10000 * -(-max(0, len(padded) - length) // 0x10000)
    path.write_bytes(length.to_bytes(8, "little") + padded.ljust(length) + content[end:])
    assert equal(load(path), small())


def test_equal_networks_give_equal_bytes(path):
    model = digit_classifier(3, rng=0)
    model.info = ModelInfo(("a", "b", "c"), Preprocessing("L", (3.0,), (1.0,)))
    contents = set()
    for _ in range(3):
        save(model, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
