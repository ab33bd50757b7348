"""Whole networks from files of others."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.functional import bilinear_kernel, softmax
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
from minifcn.weights import load_classifier, load_fcn, read_class_names
from minifcn.weights.published import CAFFE, HALF, TORCHVISION
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights
from tests.weights.files import GREY, equal, small


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.safetensors"


def squeezenet(classes=5, seed=3):
    return squeezenet1_1(classes, rng=seed).eval()


# Classifiers


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
    loaded, report = load_classifier(file, architecture and model.architecture["name"])
    assert loaded.architecture == model.architecture
    assert equal(loaded, model)
    assert not any(layer.training for layer in loaded.layers())
    assert loaded.info.class_names == ("0", "1", "2", "3", "4")
    assert loaded.info.preprocessing == (HALF if make is googlenet else TORCHVISION)
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
    loaded, report = load_classifier(file)
    assert loaded.architecture == model.architecture
    assert equal(loaded, model)
    assert loaded.info.preprocessing == (CAFFE if make is caffenet else TORCHVISION)
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
    loaded, report = load_classifier(file)
    assert report.missing.keys() == {"classifier.1.bias"} | (
        {"classifier.1.weight"} if missing == "score layer" else set()
    )
    assert np.array_equal(loaded.features[0].weight.data, model.features[0].weight.data)
    assert not loaded.state_dict()["classifier.1.bias"].any()


def test_a_score_layer_in_name_only_takes_no_memory(file):
    state = {name: array for name, array in squeezenet().state_dict().items() if name.startswith("features")}
    save_file(state | {"classifier.1.bias": np.zeros(90_000, "f4")}, file)
    loaded, report = load_classifier(file)
    assert loaded.architecture["arguments"] == {"num_classes": 1000}
    assert report.left_over == {"classifier.1.bias": (90_000,)}


def test_a_trunk_that_would_stay_random_is_refused_unless_wanted(file):
    state = dict(squeezenet().state_dict())
    del state["features.0.bias"]
    state["features.3.squeeze.weight"] = state["features.3.squeeze.weight"][:, :7].copy()
    save_file(state, file)
    with pytest.raises(FileError) as refusal:
        load_classifier(file)
    for said in (
        str(file),
        "2 of 52 tensors are missing for squeezenet1_1 in the names of torchvision, and would stay random",
        "features.0.bias, features.3.squeeze.weight "
        "(features.3.squeeze.weight is float32 (16, 7, 1, 1) instead of (16, 64, 1, 1))",
    ):
        assert said in str(refusal.value)
    loaded, report = load_classifier(file, partial=True)
    assert report.missing.keys() == {"features.0.bias", "features.3.squeeze.weight"}
    assert report.left_over == {"features.3.squeeze.weight": (16, 7, 1, 1)}
    assert loaded.state_dict()["features.3.squeeze.weight"].std() > 0.05  # random, not dead
    assert np.array_equal(loaded.state_dict()["features.0.weight"], state["features.0.weight"])
    again, _ = load_classifier(file, partial=True)
    assert equal(again, loaded)


def test_unknown_networks_are_refused(file):
    save_file({"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3), "f4"), "b": np.zeros(1, "f4")}, file)
    with pytest.raises(FileError, match=r"no known classifier: its tensors are b, layer1.0.conv1.weight"):
        load_classifier(file)
    few = dict(list(squeezenet().state_dict().items())[:9])
    save_file(few, file)
    with pytest.raises(
        FileError, match=r"no known classifier \(of squeezenet1_1 in the names of torchvision"
    ):
        load_classifier(file)
    _, report = load_classifier(file, "squeezenet1_1", partial=True)
    assert len(report.copied) == 9
    assert len(report.missing) == 43
    with pytest.raises(
        FileError, match=r"holds no caffenet: its .*; minifcn weights inspect shows all of them$"
    ):
        load_classifier(file, "caffenet")
    np.savez(file.with_suffix(".npz"))
    with pytest.raises(FileError, match="holds no known classifier: it is empty"):
        load_classifier(file.with_suffix(".npz"))


def test_wrong_arguments_are_refused_before_the_file_is_read(file):
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="order must be 'CHW' or 'HWC', got 'hwc'"):
        load_classifier(file, order="hwc")
    save_file(squeezenet().state_dict(), file)
    with pytest.raises(ValueError, match="unknown architecture 'resnet': known are alexnet, caffenet"):
        load_classifier(file, "resnet")
    with pytest.raises(ValueError, match="has 5 classes, and 2 class names were given"):
        load_classifier(file, class_names=["cat", "dog"])


def test_names_and_preprocessing(file):
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
    loaded, _ = load_classifier(file, class_names=names)
    assert loaded.info == ModelInfo(names, Preprocessing("BGR", (5, 10, 15), (0.5, 0.5, 1)))
    loaded, _ = load_classifier(file, preprocessing=CAFFE)
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
    with pytest.raises(FileError, match=r"weights.safetensors: no preprocessing is said by") as refusal:
        load_classifier(file)
    assert len(str(refusal.value)) < 700
    assert load_classifier(file, preprocessing=CAFFE)[0].info.preprocessing == CAFFE


def test_without_any_preprocessing_it_must_be_given(file):
    save_file(digit_classifier(3, rng=1).state_dict(), file)
    with pytest.raises(
        FileError, match="no weights of digit_classifier are published: preprocessing must be"
    ):
        load_classifier(file)
    assert load_classifier(file, preprocessing=GREY)[0].info.preprocessing == GREY


def test_model_files_of_minifcn(file):
    model = small()
    save(model, file)
    loaded, report = load_classifier(file)
    assert equal(loaded, model)
    assert loaded.info == model.info
    assert (report.source, report.left_over) == ("minifcn", {})
    assert load_classifier(file, class_names=["x", "y", "z"])[0].info.colors == model.info.colors
    fcn = FCN(small(), 3, 4)
    fcn.info = model.info
    save(fcn, file)
    with pytest.raises(FileError, match="is a model file of minifcn that holds an FCN: load reads it"):
        load_classifier(file)


def test_weights_that_are_no_floating_point_numbers_do_not_fit(file):
    state = {name: array.astype("i4") for name, array in squeezenet().state_dict().items()}
    save_file(state, file)
    with pytest.raises(FileError, match="no known classifier"):
        load_classifier(file)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_floating_point_numbers_become_float32(file, dtype):
    model = squeezenet()
    save_file({name: array.astype(dtype) for name, array in model.state_dict().items()}, file)
    loaded, _ = load_classifier(file)
    for name, array in loaded.state_dict().items():
        assert array.dtype == np.float32
        assert np.allclose(array, model.state_dict()[name], rtol=1e-3, atol=1e-6)


@needs_weights
def test_squeezenet_knows_a_cat_as_a_file_of_ours(tmp_path):
    names = read_class_names(CLASS_NAMES)
    model, report = load_classifier(WEIGHTS, class_names=names)
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


# Class names


def test_class_names_are_read_from_text_files(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("Katze, Felis\r\n  犬 \nmouse", "utf-8", newline="")
    assert read_class_names(file) == ("Katze, Felis", "犬", "mouse")
    for content, said in [
        (b"", "line 1 is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ]:
        file.write_bytes(content)
        with pytest.raises(FileError, match=f"names.txt .*{said}"):
            read_class_names(file)


# FCN


def full(kernels):
    classes = np.arange(len(kernels))
    square = np.zeros((len(kernels), *kernels.shape[:1], *kernels.shape[2:]), "f4")
    square[classes, classes] = kernels[:, 0]
    return square


def caffe_fcn(classes=4, seed=0):
    """FCN-AlexNet in the names of the reference code: smaller than VGG16, and with the same rules."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 256, 6, 6),
        "fc7": (4096, 4096, 1, 1),
        "score_fr": (classes, 4096, 1, 1),
    }.items():
        state[f"{name}.weight"] = rng.standard_normal(shape, "f4") * np.float32(np.prod(shape[1:]) ** -0.5)
        state[f"{name}.bias"] = rng.standard_normal(shape[0], "f4")
    return state | {"upscore.weight": full(bilinear_kernel(classes, 32, 63))}


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True])
def test_fcn8s_gives_the_scores_of_the_reference_code(file, at_once):
    """The oracle is written from the published layers: padding 100, crops of 5, 9 and 31, all literal."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    F = torch.nn.functional
    generator = torch.Generator().manual_seed(0)
    blocks = ((1, 3, 64, 2), (2, 64, 128, 2), (3, 128, 256, 3), (4, 256, 512, 3), (5, 512, 512, 3))
    layers = {
        f"conv{block}_{i}": (outputs, inputs if i == 1 else outputs, 3)
        for block, inputs, outputs, count in blocks
        for i in range(1, count + 1)
    }
    layers |= {"fc6": (4096, 512, 7), "fc7": (4096, 4096, 1), "score_fr": (5, 4096, 1)}
    layers |= {"score_pool4": (5, 512, 1), "score_pool3": (5, 256, 1)}
    state = {}
    for name, (outputs, inputs, size) in layers.items():
        deviation = (2 / (inputs * size * size)) ** 0.5
        state[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, size, size, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    for name, stride in (("upscore2", 2), ("upscore_pool4", 2), ("upscore8", 8)):
        state[f"{name}.weight"] = torch.from_numpy(full(bilinear_kernel(5, stride)))
    torch.save({"arch": "FCN8s", "model_state_dict": state}, file)

    def conv(x, name, padding=0):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    def up(x, name, stride):
        return F.conv_transpose2d(x, state[f"{name}.weight"], stride=stride)

    def cropped(x, offset, like):
        return x[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]

    x = torch.randn(1, 3, 33, 50, generator=generator)
    y, pools = x, {}
    for block, _, _, count in blocks:
        for i in range(1, count + 1):
            y = conv(y, f"conv{block}_{i}", 100 if (block, i) == (1, 1) else 1).relu()
        y = pools[block] = F.max_pool2d(y, 2, ceil_mode=True)
    y = up(conv(conv(conv(y, "fc6").relu(), "fc7").relu(), "score_fr"), "upscore2", 2)
    y = y + cropped(conv(pools[4] * (0.01 if at_once else 1), "score_pool4"), 5, y)
    y = up(y, "upscore_pool4", 2)
    y = y + cropped(conv(pools[3] * (0.0001 if at_once else 1), "score_pool3"), 9, y)
    y = cropped(up(y, "upscore8", 8), 31, x)

    fcn, report = load_fcn(file, at_once=at_once)
    assert (len(report.copied), len(report.reshaped), report.missing) == (36, 3, {})
    scores = fcn(x.numpy())
    assert np.abs(scores - y.numpy()).max() < 1e-4 * y.abs().max().item()


@pytest.fixture(scope="module")
def alexnet_state():
    return caffe_fcn()


def test_an_fcn_of_the_reference_code_gives_its_scores(alexnet_state, file):
    save_file(alexnet_state, file)
    fcn, report = load_fcn(file)
    arguments = {"num_classes": 4, "stride": 32, "alignment": "paper", "upsampling": "fixed"}
    assert fcn.architecture["arguments"].items() >= arguments.items()
    assert (len(report.copied), len(report.reshaped), report.missing, report.left_over) == (16, 1, {}, {})
    assert fcn.info.preprocessing == CAFFE
    assert fcn.info.class_names == ("0", "1", "2", "3")
    by_hand = FCN(caffenet(init="zeros"), 4, alignment="paper").eval()
    for name, part in by_hand.state_dict().items():
        layer, kind = name.split(".")[-2:]
        if name.startswith("upsamples"):
            assert np.array_equal(fcn.state_dict()[name], part)
        else:
            part[...] = alexnet_state[f"{'score_fr' if layer == 'score' else layer}.{kind}"]
    x = np.random.default_rng(1).normal(size=(1, 3, 40, 50)).astype("f4")
    assert np.array_equal(fcn(x), by_hand(x))
    save(fcn, file)
    assert np.array_equal(load(file)(x), fcn(x))


def test_kernels_that_are_not_bilinear_are_learned(alexnet_state, file):
    kernels = bilinear_kernel(4, 32, 63)
    kernels[2] *= 1.5
    save_file(alexnet_state | {"upscore.weight": full(kernels)}, file)
    fcn, _ = load_fcn(file)
    assert fcn.upsampling == "learned"
    assert np.array_equal(fcn.upsamples["32to1"].deconv.weight.data, kernels)
    assert fcn.upsamples["32to1"].deconv.weight.trainable
    save(fcn, file)
    assert equal(load(file), fcn)


def test_upsampling_that_is_not_in_the_file_is_bilinear(alexnet_state, file):
    save_file({name: a for name, a in alexnet_state.items() if not name.startswith("upscore")}, file)
    fcn, report = load_fcn(file)
    assert report.missing == {"upsamples.32to1.deconv.weight": (4, 1, 63, 63)}
    assert np.array_equal(fcn.upsamples["32to1"].deconv.weight.data, bilinear_kernel(4, 32, 63))


def test_an_fcn_without_its_trunk_is_refused(alexnet_state, file):
    save_file({name: array for name, array in alexnet_state.items() if name != "fc6.weight"}, file)
    with pytest.raises(FileError, match="1 of 17 tensors are missing for fcn in the names of reference FCN"):
        load_fcn(file)
    fcn, report = load_fcn(file, partial=True)
    assert list(report.missing) == ["head.fc6.weight"]
    assert fcn.state_dict()["head.fc6.weight"].std() > 0.01


def test_what_is_no_fcn_is_refused(file):
    save_file(squeezenet().state_dict(), file)
    with pytest.raises(FileError, match="holds no FCN in the names of the reference code"):
        load_fcn(file)
    save_file({"score_fr.weight": np.zeros((), "f4")}, file)
    with pytest.raises(FileError, match="holds no FCN in the names of the reference code"):
        load_fcn(file)
    save_file({"score_fr.weight": np.zeros((21, 4096, 1, 1), "f4")}, file)
    with pytest.raises(FileError, match=r"31 of 33 tensors are missing for fcn"):
        load_fcn(file)
    with pytest.raises(FileError, match="holds an FCN in the names of the reference code: load_fcn reads it"):
        load_classifier(file)
    with pytest.raises(ValueError, match="at_once is about skips, and the file has none"):
        load_fcn(file, at_once=True)
