"""Files of the first edition give the scores that they gave there."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, build
from minifcn.weights import load_classifier
from tests.first_edition.files import expected, unpack
from tests.weights.files import contents, equal


def scores(model, name):
    image = expected()["image"][None]
    return model(model.info.preprocessing(image if name == "classifier" else image[:, :20, :27]))


def close(found, name):
    reference = expected()[name]
    return np.abs(found - reference).max() <= 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize(("name", "kind"), [("classifier", Classifier), ("fcn", FCN)])
def test_model_files(tmp_path, name, kind):
    model = load(unpack(name, tmp_path))
    assert type(model) is kind
    assert close(scores(model, name), name)
    assert (model.info.preprocessing.bit_depth, model.info.preprocessing.bands) == (8, None)
    save(model, tmp_path / "second.safetensors")
    again = load(tmp_path / "second.safetensors")
    assert equal(again, model)
    assert again.info == model.info
    assert np.array_equal(scores(again, name), scores(model, name))


def test_the_classifier_by_its_tensors(tmp_path):
    model = load_classifier(unpack("classifier", tmp_path))
    assert close(scores(model, "classifier"), "classifier")
    assert model.info.class_names == ("cat", "naïve “dog”", "日本")
    assert model.info.preprocessing == Preprocessing("L", (127.5,), (63.25,))
    assert model.report.missing == model.report.left_over == {}


def test_the_network_of_a_checkpoint(tmp_path):
    with safe_open(unpack("checkpoint", tmp_path), framework="numpy") as stored:
        entries = json.loads(stored.metadata()["training"])
        model = build(entries["architecture"], init="zeros")
        model.info = ModelInfo.from_dict(entries["info"])
        state = {name: stored.get_tensor(name) for name in stored.offset_keys()}
    model.load_state_dict({n.removeprefix("model."): a for n, a in state.items() if n.startswith("model.")})
    assert close(scores(model.eval(), "checkpoint"), "checkpoint")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("", "its architecture is not JSON"),
        ('"vgg16"', "the model has 1000 classes"),
        ('{"name": "vgg99", "arguments": {}}', "unknown architecture 'vgg99'"),
        ('{"name": "digit_classifier", "arguments": {"num_classes": 4}}', "the model has 4 classes"),
        (
            '{"name": "digit_classifier", "arguments": {"num_classes": 10e10}}',
            ".* num_classes must be an integer",
        ),
        (
            '{"name": "squeezenet1_1", "arguments": {"num_classes": 3}}',
            ".* do not fit its Classifier: .* and 54 more$",
        ),
    ],
)
def test_damaged_model_files(tmp_path, architecture, message):
    file = unpack("classifier", tmp_path)
    tensors, metadata = contents(file)
    save_file(tensors, file, metadata | {"architecture": architecture})
    with pytest.raises(FileError, match=rf"classifier\.safetensors: {message}"):
        load(file)
