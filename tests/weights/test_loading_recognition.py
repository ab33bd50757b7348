"""Networks are recognised by names and shapes alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.layers.parameter import shapes_only
from minifcn.models.registry import CLASSIFIERS
from minifcn.weights import Tensors, recognition
from minifcn.weights.matching import filter_shapes
from minifcn.weights.model_file import class_count
from minifcn.weights.names import classifier_namings
from minifcn.weights.recognition import recognise_classifier, recognise_fcn

ZERO = np.zeros((), "f4")


def files():
    """Every network in all names it is known by, as arrays that take no memory."""
    for name, make in CLASSIFIERS.items():
        for classes in (7, 1000) if name in ("vgg16", "resnet50", "googlenet") else (7,):
            model = make(classes, init="zeros")
            for number, naming in enumerate(classifier_namings(model)):
                shapes = {n: array.shape for n, array in model.state_dict().items()}
                if naming.source == "timm":
                    convolutions = filter_shapes(model)
                    shapes |= {n: convolutions[n] for n in ("classifier.0.weight", "classifier.3.weight")}
                if naming.channels_last:
                    shapes = {n: (*s[2:], *reversed(s[:2])) if len(s) > 1 else s for n, s in shapes.items()}
                arrays = {naming.names[n]: np.broadcast_to(ZERO, shape) for n, shape in shapes.items()}
                yield pytest.param(name, classes, naming, arrays, id=f"{name}-{number}-{classes}")


FILES = list(files())


@pytest.mark.parametrize(("name", "classes", "naming", "arrays"), FILES)
def test_every_network_is_recognised_in_all_names(name, classes, naming, arrays):
    extra = {"epoch": np.zeros((), "i8"), "aux.weight": np.broadcast_to(ZERO, (3, 3))}
    for given_name in (None, name):
        found = recognise_classifier(arrays | extra, given_name)
        assert found.model.architecture == {"name": name, "arguments": {"num_classes": classes}}
        assert found.share == 1.0
        assert found.found == naming.names
        assert found.naming.channels_last == naming.channels_last


@settings(max_examples=30)
@given(seed=st.integers(0, 999), which=st.integers(0, len(FILES) - 1))
def test_three_quarters_of_a_network_are_enough(seed, which):
    name, _, naming, arrays = FILES[which].values
    kept = np.random.default_rng(seed).permutation(list(arrays))[: -(-3 * len(arrays) // 4)]
    found = recognise_classifier({key: arrays[key] for key in kept})
    assert found.model.architecture["name"] == name
    assert set(found.found.values()) <= set(kept)
    assert 0.6 < found.share < 0.8
    assert found.naming.channels_last == naming.channels_last


def test_unknown_tensors_are_not_recognised():
    assert recognise_classifier({}) is None
    assert recognise_classifier({"layer1.0.conv1.weight": ZERO}) is None
    torchvision = {"backbone.conv1.weight": ZERO, "classifier.4.weight": ZERO}
    for arrays in (
        {},
        torchvision,
        *({"score_fr.weight": np.zeros((n, 4096, 1, 1), "f4")} for n in (1, 300)),
    ):
        assert recognise_fcn(Path("file"), Tensors(arrays)) is None
    with pytest.raises(ValueError, match="unknown architecture 'fcn': known are alexnet"):
        recognise_classifier({}, "fcn")


@pytest.mark.parametrize(
    ("scores", "more"),
    [("score_fr.weight", ("conv1.weight",)), ("classifier.4.weight", ("backbone.conv1.weight",))],
    ids=["reference", "torchvision"],
)
def test_an_fcn_has_2_to_255_classes(monkeypatch, scores, more):
    for name in ("FCN", "fcn_naming", "torchvision_fcn_naming"):  # which would take seconds
        monkeypatch.setattr(recognition, name, lambda *_, **__: None)
    monkeypatch.setattr(recognition, "match", lambda *_: "found")

    def found(classes):
        arrays = dict.fromkeys(more, ZERO) | {scores: np.broadcast_to(ZERO, (classes, 4096, 1, 1))}
        with shapes_only():
            return recognise_fcn(Path("file"), Tensors(arrays))

    assert [found(classes) for classes in (1, 2, 255, 256)] == [None, "found", "found", None]


def test_the_number_of_classes_is_bounded_by_the_file():
    """A weight with many classes and few inputs asked for a large network."""
    state = dict(CLASSIFIERS["digit_classifier"](10, init="zeros").state_dict())
    state["classifier.3.weight"] = np.zeros((90_000, 1), "f4")
    assert class_count(recognise_classifier(state).model) == 1000


def test_caffenet_has_no_skips():
    scores = np.broadcast_to(ZERO, (21, 4096, 1, 1))
    arrays = {"score_fr.weight": scores, "conv1.weight": ZERO, "score_pool4.weight": scores}
    assert recognise_fcn(Path("file"), Tensors(arrays)) is None
