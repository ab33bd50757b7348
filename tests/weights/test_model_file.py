import json
import os
import stat

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from minifcn import convolutionalize, load, save
from minifcn.files import FileError
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from minifcn.weights import load_classifier, model_file
from tests.weights.files import GREY, contents, equal, small


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# There and back


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
def test_a_network_comes_back_bit_by_bit(path, kind, as_text):
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


def test_special_numbers_come_back(path):
    model = small()
    model.features[0].bias.data[:5] = np.nan, np.inf, -np.inf, -0.0, 1e-45
    save(model, path)
    assert equal(load(path), model)


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
    assert json.loads(metadata["architecture"]) == model.architecture
    info = json.loads(metadata["info"])
    assert info["class_names"] == list(model.info.class_names)
    assert info["preprocessing"] == {"channels": "L", "mean": [127.5], "std": [63.25]}
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
def test_whatever_info_is_accepted_comes_back(path, odd):
    given = {"class_names": ("a", "b", "c"), "colors": (), "mean": (3.0,)} | ODD_INFO[odd]
    try:
        preprocessing = Preprocessing("L", given["mean"], (1.0,))
        info = ModelInfo(given["class_names"], preprocessing, given["colors"])
    except (TypeError, ValueError):
        return  # refused at once, not after the training
    model = digit_classifier(3, rng=0)
    model.info = info
    save(model, path)
    assert load(path).info == info


def test_numpy_numbers_are_written_as_numbers(path):
    for model in (
        digit_classifier(np.int64(3), rng=0),
        FCN(digit_classifier(rng=0), np.int64(3), np.uint8(4)),
    ):
        model.info = ModelInfo(("a", "b", "c"), GREY)
        save(model, path)
        assert load(path).architecture == model.architecture


# What is not written


def test_a_network_without_info_is_not_saved(path):
    with pytest.raises(ValueError, match=r"model.info is not set"):
        save(digit_classifier(rng=0), path)
    model = small()
    model.info = ModelInfo(("a", "b"), GREY)
    with pytest.raises(ValueError, match="the model has 3 classes, its info names 2"):
        save(model, path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("error", [OSError("disk full"), SafetensorError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_whole(path, monkeypatch, error):
    old = small(seed=1)
    save(old, path)

    def fails(state, temporary, metadata):
        temporary.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(model_file, "save_file", fails)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with pytest.raises(expected) as raised:
        save(small(seed=2), path)
    if expected is OSError:
        assert f"cannot write the model file {path}: disk full" in str(raised.value)
    assert equal(load(path), old)
    assert os.listdir(path.parent) == [path.name]


def test_nothing_but_the_file_is_left_behind(path):
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


def test_what_could_not_be_read_again_is_not_written(path):
    model = digit_classifier(3, rng=0)
    model.info = ModelInfo(("a", "b", "c"), Preprocessing("L", (3.0,), (1.0,)))
    model.architecture = {"name": "mine", "arguments": {"num_classes": 3}}
    with pytest.raises(ValueError, match="unknown architecture 'mine'"):
        save(model, path)
    with pytest.raises(TypeError, match="must be a Classifier or an FCN, got Sequential"):
        save(convolutionalize(digit_classifier(rng=0), (1, 32, 32)), path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "model.npz"])
def test_a_name_of_another_format_is_refused(path, name):
    """Whoever reads it by its ending later would be led astray."""
    wrong = path.with_name(name)
    with pytest.raises(ValueError, match=rf"{name} ends in \.\w+, .* call it .*model\.safetensors$"):
        save(small(), wrong)
    assert not wrong.exists()


def test_a_full_disk_is_told_in_one_clause(path, monkeypatch):
    def fails(state, temporary, metadata):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file, "save_file", fails)
    with pytest.raises(OSError, match=rf"^cannot write the model file {path}: No space left on device$"):
        save(small(), path)


def test_what_is_given_instead_of_a_model_file_is_said(path, tmp_path):
    state = small().state_dict()
    save_file(state, path)
    with pytest.raises(FileError, match="lacks the mark 'minifcn 1'; weights of a classifier are for minif"):
        load(path)
    np.savez(tmp_path / "weights.npz", **state)
    with pytest.raises(
        FileError, match="is a PyTorch or npz file, no model file of minifcn; weights of a cl"
    ):
        load(tmp_path / "weights.npz")
    save_file(state, path, {"training": '{"format": "minifcn checkpoint 1", "epoch": 3}'})
    with pytest.raises(
        FileError, match="it is the checkpoint of a training, which minifcn train --resume goe"
    ):
        load(path)
    save_file(state, tmp_path / "last.safetensors", {"training": '{"format": "minifcn checkpoint 1"}'})
    with pytest.raises(FileError, match=rf"goes on from; its best network is {path}$"):
        load(tmp_path / "last.safetensors")
    with pytest.raises(FileError, match=r"is the checkpoint of a training, .*; it holds no classifier"):
        load_classifier(path)


@pytest.mark.parametrize("length", [0x0280, 0x4B50])
def test_a_header_whose_length_looks_like_another_format_is_no_harm(path, length):
    """The first bytes are its length: 0x0280 is how pickles begin, and 0x4B50 how zip files do."""
    save(small(), path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    padded = content[8:end].rstrip()
    length += 0x10000 * -(-max(0, len(padded) - length) // 0x10000)
    path.write_bytes(length.to_bytes(8, "little") + padded.ljust(length) + content[end:])
    assert equal(load(path), small())


def test_the_same_network_gives_the_same_bytes(path):
    model = digit_classifier(3, rng=0)
    model.info = ModelInfo(("a", "b", "c"), Preprocessing("L", (3.0,), (1.0,)))
    contents = set()
    for _ in range(12):  # the library alone orders the metadata anew each time
        save(model, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
