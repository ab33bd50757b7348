"""Files whose names of tensors are those of a known network, and which hold another one."""

from pathlib import Path

import numpy as np
import pytest

from minifcn.files import FileError
from minifcn.models.registry import CLASSIFIERS
from minifcn.weights import Tensors, load_classifier, loading, recognition
from minifcn.weights.matching import fits
from minifcn.weights.recognition import recognise_classifier, recognise_fcn

FILE = Path("file")
CAFFE = [(".weight", ".bias"), ("_W", "_b")]


def zeros(shapes):
    """Arrays that take no memory."""
    return {name: np.broadcast_to(np.zeros((), "f4"), shape) for name, shape in shapes.items()}


def with_ends(layers, ends):
    weights = {f"{layer}{ends[0]}": shape for layer, shape in layers.items()}
    return weights | {f"{layer}{ends[1]}": shape[:1] for layer, shape in layers.items()}


def vgg(depths, batch_norm=False):
    """Yield places among the features, Caffe's names and shapes, with so many convolutions in each block."""
    place, inputs = 0, 3
    for block, (depth, outputs) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True), 1):
        for number in range(1, depth + 1):
            yield place, f"{block}_{number}", (outputs, inputs, 3, 3)
            if batch_norm:
                yield place + 1, None, (outputs,)
            place, inputs = place + 2 + batch_norm, outputs
        place += 1


DENSE = [(4096, 25088), (4096, 4096), (1000, 4096)]
DEPTHS = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "19": (2, 2, 4, 4, 4), "16_bn": (2, 2, 3, 3, 3)}


def relatives():
    for name, depths in DEPTHS.items():
        layers = {f"features.{place}": shape for place, _, shape in vgg(depths, "bn" in name)}
        layers |= dict(zip(("classifier.0", "classifier.3", "classifier.6"), DENSE, strict=True))
        yield pytest.param(f"vgg{name}", zeros(with_ends(layers, CAFFE[0])), id=f"vgg{name} in torchvision")
    for ends in CAFFE:
        for name in ("11", "13", "19"):
            layers = {f"conv{place}": shape for _, place, shape in vgg(DEPTHS[name])}
            layers |= dict(zip(("fc6", "fc7", "fc8"), DENSE, strict=True))
            id_ = f"vgg{name} in Caffe {ends[0]}"
            yield pytest.param(f"vgg{name}", zeros(with_ends(layers, ends)), id=id_)
    layers = {f"block{place.replace('_', '_conv')}": shape for _, place, shape in vgg(DEPTHS["19"])}
    layers |= dict(zip(("fc1", "fc2", "predictions"), DENSE, strict=True))
    shapes = with_ends(layers, ("/kernel:0", "/bias:0"))
    shapes = {
        name: (*shape[2:], *reversed(shape[:2])) if shape[1:] else shape for name, shape in shapes.items()
    }
    yield pytest.param("vgg19", zeros(shapes), id="vgg19 in Keras")


@pytest.mark.parametrize(("name", "arrays"), [*relatives()])
def test_relatives_of_vgg16_are_not_vgg16(name, arrays, monkeypatch):
    """In VGG19, 25 of 32 tensors have the names and shapes of VGG16's, and in Caffe's names all have.

    VGG11 and VGG13 in Caffe's names looked like a VGG16 from which some tensors are missing.
    """
    found = recognise_classifier(arrays)
    assert found.architecture == name
    assert fits(found, arrays)
    monkeypatch.setattr(loading, "read_tensors", lambda path: Tensors(arrays))
    with pytest.raises(FileError, match=r"^file(: \d+ of 32 tensors are missing| holds another network)"):
        load_classifier(FILE, "vgg16")


def test_a_resnet_is_no_network_that_is_known():
    """It has a tensor or two of GoogLeNet."""
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.weight": (64,),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
    }
    shapes |= {f"layer{i}.0.conv{j}.weight": (64, 64, 3, 3) for i in range(1, 5) for j in (1, 2)}
    found = recognise_classifier(zeros(shapes), "googlenet")
    assert found.found
    assert not fits(found, zeros(shapes))


def test_a_head_of_ones_own_is_no_other_network():
    """Only features decide, so that their weights can be used with `partial`."""
    state = dict(CLASSIFIERS["squeezenet1_1"](5, init="zeros").state_dict())
    state["classifier.9.weight"] = state.pop("classifier.1.weight")
    assert fits(recognise_classifier(state), state)


FCN_LAYERS = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 256, 6, 6),
    "fc7": (4096, 4096, 1, 1),
    "score_fr": (4, 4096, 1, 1),
}
SPELLINGS = [(*ends, False) for ends in CAFFE] + [("_W", "_b", True)]
SPELLINGS += [("/kernel", "/bias", True), ("/kernel:0", "/bias:0", True)]


@pytest.mark.parametrize(("weight", "bias", "last"), SPELLINGS)
def test_an_fcn_is_one_in_all_spellings(weight, bias, last, monkeypatch):
    """An npz of Caffe's names became a classifier with a random last layer."""
    shapes = with_ends(FCN_LAYERS, (weight, bias)) | {f"upscore{weight}": (4, 4, 63, 63)}
    if last:
        shapes = {
            name: (*shape[2:], *reversed(shape[:2])) if shape[1:] else shape for name, shape in shapes.items()
        }
    tensors = Tensors(zeros(shapes))
    found = recognise_fcn(FILE, tensors)
    assert found.share == 1.0
    assert (found.model.num_classes, found.model.stride, found.naming.channels_last) == (4, 32, last)
    assert fits(found, tensors.arrays)
    monkeypatch.setattr(loading, "read_tensors", lambda path: tensors)
    for architecture in (None, "caffenet"):
        with pytest.raises(FileError, match=r"file holds an FCN: load_fcn reads it"):
            load_classifier(FILE, architecture, partial=True)


class Made(Exception):
    """Raised instead of making a large network."""


def skips(stride, ends, scales):
    layers = ["score_fr", "score_pool4", "score_pool3"][: {16: 2, 8: 3}[stride]]
    arrays = {f"{layer}{ends[0]}": np.ones((21, 9, 1, 1), "f4") for layer in layers}
    for layer, value in zip(("scale_pool4", "scale_pool3"), scales, strict=False):
        arrays |= {f"{layer}{ends[0]}": np.full(7, value, "f4"), f"{layer}{ends[1]}": np.zeros(7, "f4")}
    return arrays


@pytest.mark.parametrize("ends", CAFFE)
@pytest.mark.parametrize(
    ("stride", "scales", "arch", "expected"),
    [
        (8, (0.01, 0.0001), "", True),
        (8, (1, 1), "", False),
        (16, (0.01,), "", True),
        (16, (0.010009,), "", True),
        (16, (0.01002,), "", "scale_pool4 scale"),
        (16, (0.00998,), "", "scale_pool4 scale"),
        (8, (), "", False),
        (8, (), "FCN8sAtOnce", True),
        (8, (), "FCN8s", False),
        (8, (0.01,), "", "scale_pool4 scale"),
        (8, (0.01, 0.01), "", "scale_pool4, scale_pool3 scale"),
        (8, (0.5, 0.5), "", "scale_pool4, scale_pool3 scale"),
        (8, (0, 0), "", "scale_pool4, scale_pool3 scale"),
        (8, (np.nan, np.nan), "", "scale_pool4, scale_pool3 scale"),
    ],
)
def test_the_file_says_whether_skips_are_scaled(ends, stride, scales, arch, expected, monkeypatch):
    """An FCN that was trained at once was loaded as one that was not: 10 % of its labels remained."""

    def made(*_, at_once, **__):
        raise Made(at_once)

    monkeypatch.setattr(recognition, "FCN", made)
    tensors = Tensors(skips(stride, ends, scales), {"arch": arch})
    if isinstance(expected, str):
        with pytest.raises(FileError, match=f"file: {expected} the skips otherwise than training at once"):
            recognise_fcn(FILE, tensors)
        return
    for at_once in (None, expected):
        with pytest.raises(Made, match=str(expected)):
            recognise_fcn(FILE, tensors, at_once=at_once)
    if scales:
        with pytest.raises(ValueError, match=f"at_once is {not expected}, and file says .* {expected}"):
            recognise_fcn(FILE, tensors, at_once=not expected)


def test_a_bias_of_a_scale_is_refused():
    arrays = skips(16, CAFFE[1], (0.01,)) | {"scale_pool4_b": np.ones(7, "f4")}
    with pytest.raises(FileError, match="the skips otherwise"):
        recognise_fcn(FILE, Tensors(arrays))
