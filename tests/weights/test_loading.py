"""Classifiers from files that others wrote."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.functional import softmax
from minifcn.models import (
    FCN,
    ModelInfo,
    Preprocessing,
    alexnet,
    caffenet,
    digit_classifier,
    googlenet,
    squeezenet1_0,
    squeezenet1_1,
)
from minifcn.weights import PREPROCESSING, load_classifier, read_class_names
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights
from tests.weights.files import GREY, equal, small

CAFFE = PREPROCESSING["caffe"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.safetensors"


def squeezenet(classes=5, seed=3):
    return squeezenet1_1(classes, rng=seed).eval()


@pytest.mark.parametrize("make", [squeezenet1_0, squeezenet1_1, googlenet])
@pytest.mark.parametrize("architecture", [None, "given"])
def test_torchvisions_names_are_recognised(file, make, architecture):
    model = make(5, rng=1).eval()
    state = model.state_dict()
    if make is googlenet:  # whose names have no prefix there
        extra = {
            "aux1.fc2.weight": np.zeros((1000, 4), "f4"),
            "conv1.bn.num_batches_tracked": np.zeros((), "i8"),
        }
        state = {name.partition(".")[2]: array for name, array in state.items()} | extra
    save_file(state, file)
    loaded = load_classifier(file, architecture and model.architecture["name"])
    report = loaded.report
    assert loaded.architecture == model.architecture
    assert equal(loaded, model)
    assert not any(layer.training for layer in loaded.layers())
    assert loaded.info.class_names == ("0", "1", "2", "3", "4")
    assert loaded.info.preprocessing == PREPROCESSING["half" if make is googlenet else "torchvision"]
    assert (report.source, report.missing, report.reshaped) == ("torchvision", {}, ())
    assert report.left_over == ({"aux1.fc2.weight": (1000, 4)} if make is googlenet else {})
    assert len(report.copied) == len(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("make", [alexnet, caffenet])
def test_large_networks_are_recognised(file, make):
    model = make(5, rng=1).eval()
    state = model.state_dict()
    if make is caffenet:
        state = {name.partition(".")[2]: array for name, array in state.items()}
        state["fc6.weight"] = state["fc6.weight"].reshape(4096, 256, 6, 6)
    save_file(state, file)
    loaded = load_classifier(file)
    report = loaded.report
    assert loaded.architecture == model.architecture
    assert equal(loaded, model)
    assert loaded.info.preprocessing == PREPROCESSING["caffe" if make is caffenet else "torchvision"]
    assert [entry.source for entry in report.reshaped] == (["fc6.weight"] if make is caffenet else [])


@pytest.mark.parametrize("missing", ["score layer", "half of the score layer", "score layer of another kind"])
def test_the_score_layer_may_be_missing(file, missing):
    model = squeezenet(1000)
    state = dict(model.state_dict())
    del state["classifier.1.bias"]
    if missing == "score layer":
        del state["classifier.1.weight"]
    elif missing == "score layer of another kind":
        state["classifier.1.bias"] = np.zeros((1, 1000), "f4")
    save_file(state, file)
    loaded = load_classifier(file)
    report = loaded.report
    assert report.missing.keys() == {"classifier.1.bias"} | (
        {"classifier.1.weight"} if missing == "score layer" else set()
    )
    assert np.array_equal(loaded.features[0].weight.data, model.features[0].weight.data)
    assert not loaded.state_dict()["classifier.1.bias"].any()


def test_a_bias_alone_does_not_determine_the_classes(file):
    state = {name: array for name, array in squeezenet().state_dict().items() if name.startswith("features")}
    save_file(state | {"classifier.1.bias": np.zeros(90_000, "f4")}, file)
    loaded = load_classifier(file)
    report = loaded.report
    assert loaded.architecture["arguments"] == {"num_classes": 1000}
    assert report.left_over == {"classifier.1.bias": (90_000,)}


def test_an_incomplete_trunk_needs_partial(file):
    state = dict(squeezenet().state_dict())
    del state["features.0.bias"]
    state["features.3.squeeze.weight"] = state["features.3.squeeze.weight"][:, :7].copy()
    save_file(state, file)
    with pytest.raises(FileError) as refusal:
        load_classifier(file)
    for said in (
        str(file),
        "2 of 52 tensors are missing for squeezenet1_1 in the names of torchvision (partial=True",
        "features.0.bias, features.3.squeeze.weight "
        "(features.3.squeeze.weight is float32 (16, 7, 1, 1) instead of (16, 64, 1, 1))",
    ):
        assert said in str(refusal.value)
    loaded = load_classifier(file, partial=True, rng=0)
    report = loaded.report
    assert report.missing.keys() == {"features.0.bias", "features.3.squeeze.weight"}
    assert report.left_over == {"features.3.squeeze.weight": (16, 7, 1, 1)}
    assert loaded.state_dict()["features.3.squeeze.weight"].std() > 0.05  # random, not dead
    assert np.array_equal(loaded.state_dict()["features.0.weight"], state["features.0.weight"])
    again = load_classifier(file, partial=True, rng=0)
    assert equal(again, loaded)


def test_unknown_networks_are_refused(file):
    save_file({"stage1.0.conv1.weight": np.zeros((64, 64, 3, 3), "f4"), "b": np.zeros(1, "f4")}, file)
    with pytest.raises(FileError, match=r"no known classifier: its tensors are b, stage1.0.conv1.weight"):
        load_classifier(file)
    few = dict(list(squeezenet().state_dict().items())[:9])
    save_file(few, file)
    with pytest.raises(
        FileError, match=r"no known classifier \(the nearest is squeezenet1_1 in the names of torch"
    ):
        load_classifier(file)
    report = load_classifier(file, "squeezenet1_1", partial=True, rng=0).report
    assert len(report.copied) == 9
    assert len(report.missing) == 43
    with pytest.raises(FileError, match=r"holds no caffenet: its tensors are"):
        load_classifier(file, "caffenet")
    np.savez(file.with_suffix(".npz"))
    with pytest.raises(FileError, match="holds no known classifier: it is empty"):
        load_classifier(file.with_suffix(".npz"))


def test_wrong_arguments_are_refused_before_the_file_is_read(file):
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="order must be one of 'CHW', 'HWC', got 'hwc'"):
        load_classifier(file, order="hwc")
    save_file(squeezenet().state_dict(), file)
    with pytest.raises(ValueError, match="unknown architecture 'resnet': known are alexnet, caffenet"):
        load_classifier(file, "resnet")
    with pytest.raises(ValueError, match="has 5 classes, and 2 class names were given"):
        load_classifier(file, class_names=["cat", "dog"])
    with pytest.raises(ValueError, match="class_names must be texts, one for each class, got 3"):
        load_classifier(file, class_names=3)


def test_class_names_and_preprocessing_are_stored(file):
    state = squeezenet().state_dict()
    said = {
        "channel_order": "BGR",
        "scale": 2.0,
        "mean": [10, 20, 30],
        "std": [1, 1, 2],
        "input_size": [9, 9],
    }
    save_file(state, file, {"preprocessing": json.dumps(said)})
    names = ["a", "b", "c", "d", "e"]
    loaded = load_classifier(file, class_names=names)
    assert loaded.info == ModelInfo(names, Preprocessing("BGR", (5, 10, 15), (0.5, 0.5, 1)))
    loaded = load_classifier(file, preprocessing=CAFFE)
    assert loaded.info.preprocessing == CAFFE


WRONG = ["", "{", "3", "[]", '"RGB"', "{}", '{"channels": "RGB"}', "[" * 100_000, "caffe2"]
WRONG += [
    json.dumps({"channels": "RGB", "mean": [1, 1, 1], "std": [1, 1, 1]} | wrong)
    for wrong in (
        {"channels": "HSV"},
        {"channels": None},
        {"channels": ["RGB"]},
        {"mean": 3},
        {"mean": [1, 1]},
        {"mean": "123"},
        {"mean": [1, 1, "x"]},
        {"mean": [None] * 3},
        {"mean": [10**400] * 3},
        {"std": [0, 0, 0]},
        {"std": {}},
        {"std": [float("nan")] * 3},
        {"scale": 0},
        {"scale": "big"},
        {"scale": float("inf")},
        {"scale": -1},
    )
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_preprocessing_in_a_file_is_refused(file, text):
    save_file(squeezenet().state_dict(), file, {"preprocessing": text})
    with pytest.raises(FileError, match=r"weights.safetensors: unknown preprocessing") as refusal:
        load_classifier(file)
    assert len(str(refusal.value)) < 700
    assert load_classifier(file, preprocessing=CAFFE).info.preprocessing == CAFFE


def test_unknown_preprocessing_must_be_given(file):
    save_file(digit_classifier(3, rng=1).state_dict(), file)
    with pytest.raises(FileError, match="does not describe the preprocessing for digit_classifier"):
        load_classifier(file)
    assert load_classifier(file, preprocessing=GREY).info.preprocessing == GREY


def test_model_files_of_minifcn(file):
    model = small()
    save(model, file)
    loaded = load_classifier(file)
    report = loaded.report
    assert equal(loaded, model)
    assert loaded.info == model.info
    assert (report.source, report.left_over) == ("minifcn", {})
    assert load_classifier(file, class_names=["x", "y", "z"]).info.colors == model.info.colors
    fcn = FCN(small(), 3, 4)
    fcn.info = model.info
    save(fcn, file)
    with pytest.raises(FileError, match=r"contains an FCN, not a Classifier: minifcn\.load"):
        load_classifier(file)


def test_integer_weights_do_not_fit(file):
    state = {name: array.astype("i4") for name, array in squeezenet().state_dict().items()}
    save_file(state, file)
    with pytest.raises(FileError, match="no known classifier"):
        load_classifier(file)


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "f4"), (np.inf, "f2"), (-np.inf, "f8"), (1e300, "f8")])
def test_weights_that_are_not_finite_in_float32_are_refused(file, value, dtype):
    state = {name: array.astype(dtype) for name, array in squeezenet().state_dict().items()}
    state["features.3.squeeze.bias"][3:5] = value
    save_file(state, file)
    with pytest.raises(FileError, match=r"2 of 16 values of features.3.squeeze.bias are NaN or infinite"):
        load_classifier(file)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_floating_point_dtypes_become_float32(file, dtype):
    model = squeezenet()
    save_file({name: array.astype(dtype) for name, array in model.state_dict().items()}, file)
    loaded = load_classifier(file)
    for name, array in loaded.state_dict().items():
        assert array.dtype == np.float32
        assert np.allclose(array, model.state_dict()[name], rtol=1e-3, atol=1e-6)


@needs_weights
def test_squeezenet_recognises_a_cat_after_saving(tmp_path):
    names = read_class_names(CLASS_NAMES)
    model = load_classifier(WEIGHTS, class_names=names)
    report = model.report
    assert model.info.preprocessing == Preprocessing("BGR", (104, 117, 123), (1, 1, 1))
    assert (len(report.copied), report.missing, report.left_over) == (52, {}, {})
    save(model, tmp_path / "squeezenet.safetensors")
    model = load(tmp_path / "squeezenet.safetensors")
    with Image.open(DATA / "chelsea.png") as picture:
        left, side = (picture.width - picture.height) // 2, picture.height
        crop = picture.convert("RGB").crop((left, 0, left + side, side))
        pixels = np.asarray(crop.resize((227, 227), Image.Resampling.BILINEAR))
    probabilities = softmax(model(model.info.preprocessing(pixels[None])))[0]
    assert model.info.class_names[probabilities.argmax()] == "Egyptian cat"
    assert probabilities.max() == pytest.approx(0.63, abs=0.02)


def test_class_names_are_read_from_text_files(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("Katze, Felis\r\n  犬 \nmouse", "utf-8", newline="")
    assert read_class_names(file) == ("Katze, Felis", "犬", "mouse")
    for content, said in [
        (b"", "line 1 is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ]:
        file.write_bytes(content)
        with pytest.raises(FileError, match=f"names.txt .*{said}"):
            read_class_names(file)
