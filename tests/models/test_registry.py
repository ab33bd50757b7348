import importlib.metadata
import json
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

from minifcn.layers import Conv2d, GlobalAvgPool2d, Parameter, Sequential
from minifcn.models import FCN, Classifier, Preprocessing, build, digit_classifier, register, registry
from minifcn.weights import load_classifier


def digits(num_classes=10):
    return {"name": "digit_classifier", "arguments": {"num_classes": num_classes}}


def fcn(**changed):
    arguments = {
        "classifier": digits(),
        "num_classes": 11,
        "stride": 4,
        "alignment": "exact",
        "upsampling": "learned",
        "at_once": False,
    }
    return {"name": "fcn", "arguments": arguments | changed}


@pytest.mark.parametrize(
    "architecture",
    [
        digits(),
        digits(3),
        fcn(),
        fcn(stride=8, upsampling="fixed"),
        fcn(stride=2, alignment="paper", at_once=True),
        {"name": "googlenet", "arguments": {"num_classes": 7}},
    ],
)
def test_a_network_is_built_from_its_architecture(architecture):
    model = build(json.loads(json.dumps(architecture)), rng=1)
    assert model.architecture == architecture
    assert json.loads(json.dumps(model.architecture)) == architecture
    assert model.info is None


def test_the_default_alignment_is_exact():
    old = fcn()
    del old["arguments"]["alignment"], old["arguments"]["at_once"]
    assert build(old, init="zeros").architecture == fcn()


def test_build_makes_the_same_network():
    built, made = build(fcn(), rng=1), FCN(digit_classifier(rng=1), 11, 4, upsampling="learned")
    assert {name: array.shape for name, array in built.state_dict().items()} == {
        name: array.shape for name, array in made.state_dict().items()
    }
    assert all(np.array_equal(array, made.state_dict()[name]) for name, array in built.state_dict().items())
    assert repr(built) == repr(made)


def test_zero_weights_except_the_upsampling():
    model = build(fcn(), init="zeros")
    filled = {
        name.partition(".")[0]
        for name, p in model.named_parameters()
        if isinstance(p, Parameter) and p.data.any()
    }
    assert filled == {"upsamples"}


def test_a_finer_network_is_built_again():
    child = FCN(digit_classifier(init="zeros"), 5, 8).finer().finer()
    assert list(build(child.architecture, init="zeros").state_dict()) == list(child.state_dict())


def nested(depth):
    architecture = digits()
    for _ in range(depth):
        architecture = fcn(classifier=architecture)
    return architecture


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (None, "an architecture is a name and arguments, got None"),
        ([], "an architecture is a name and arguments"),
        ({}, "an architecture is a name and arguments"),
        ({"name": "vgg16"}, "an architecture is a name and arguments"),
        ({"name": ["vgg16"], "arguments": {}}, "an architecture is a name and arguments"),
        ({"name": "vgg16", "arguments": [1000]}, "an architecture is a name and arguments"),
        (
            {"name": "vgg99", "arguments": {}},
            "unknown architecture 'vgg99': known are alexnet, caffenet, digit_classifier",
        ),
        (
            {"name": "digit_classifier", "arguments": {}},
            "arguments of 'digit_classifier' must be num_classes alone",
        ),
        (digits(0), "num_classes must be .* got 0"),
        (digits(100_001), "num_classes must be .* 100000, got 100001"),
        (digits(10**30), "num_classes must be .* 100000"),
        (digits(2.5), "num_classes must be .* got 2.5"),
        (digits("10"), "num_classes must be .* got '10'"),
        (digits(None), "num_classes must be .* got None"),
        (fcn(num_classes=1), "num_classes must be an integer >= 2, got 1"),
        (fcn(num_classes="11"), "num_classes"),
        (fcn(stride=3), r"stride must be one of \[2, 4, 8\], got 3"),
        (fcn(stride=[4]), "stride"),
        (fcn(upsampling=None), "upsampling must be one of 'fixed', 'learned', got None"),
        (fcn(upsampling=["fixed"]), "upsampling must be one of 'fixed', 'learned'"),
        (fcn(alignment="centred"), "alignment must be one of 'exact', 'paper', 'torchvision', got 'centred'"),
        (fcn(alignment=["paper"]), "alignment must be one of 'exact', 'paper'"),
        (fcn(at_once=1), "at_once must be True or False, got 1"),
        (fcn(at_once="yes"), "at_once must be True or False, got 'yes'"),
        (fcn(classifier="vgg16"), "an architecture is a name and arguments, got vgg16"),
        (fcn(classifier=None), "an architecture is a name and arguments, got None"),
        (fcn(surprise=1), "arguments of architecture 'fcn' do not fit"),
        (fcn(rng=1), "arguments of architecture 'fcn' do not fit"),
        (fcn(self=1), "arguments of architecture 'fcn' do not fit"),
        (
            {"name": "fcn", "arguments": {"classifier": digits()}},
            "arguments of architecture 'fcn' do not fit",
        ),
        (nested(2), "unknown architecture 'fcn'"),
        (nested(5000), "fcn|architecture|classifier"),
    ],
)
def test_malformed_architectures_are_refused(architecture, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, init="zeros")


def test_extra_arguments_are_refused():
    architecture = digits()
    architecture["arguments"]["surprise"] = 1
    with pytest.raises(ValueError, match=r"surprise|do not fit"):
        build(architecture, init="zeros")


def tiny(num_classes=2, *, init="he", rng=None):
    """A custom builder."""
    rng = np.random.default_rng(rng)
    features = Sequential(Conv2d(3, 4, 3, init=init, rng=rng))
    scores = Sequential(Conv2d(4, num_classes, 1, init=init, rng=rng, bias=False), GlobalAvgPool2d())
    return Classifier(features, scores, input_shape=(3, 8, 8), taps={})


not_a_builder = 3


def wrong(num_classes=2, *, init="he", rng=None):
    return Sequential()


@pytest.fixture
def known():
    """Undo changes of the registry after the test."""
    before = dict(registry.CLASSIFIERS)
    yield
    registry.CLASSIFIERS.clear()
    registry.CLASSIFIERS.update(before)


def test_build_by_name():
    assert build("digit_classifier", init="zeros").output_shape((1, 32, 32)) == (10,)
    assert build("digit_classifier", 7, rng=0).architecture == digits(7)
    with pytest.raises(ValueError, match="num_classes must be an integer >= 1, got 0"):
        build("digit_classifier", 0)
    with pytest.raises(ValueError, match="num_classes goes with a name, got 3"):
        build(digits(), 3)


def test_a_registered_builder(known, tmp_path):
    assert register("tiny", tiny) is tiny
    register("tiny", tiny)  # the same one again
    model = build("tiny", 5, rng=1)
    assert model.architecture == {"name": "tiny", "arguments": {"num_classes": 5}}
    assert build(model.architecture, init="zeros").output_shape((3, 8, 8)) == (5,)
    assert FCN(model, 3).architecture["arguments"]["classifier"] == model.architecture
    np.savez(tmp_path / "tiny.npz", **model.state_dict())
    colour = Preprocessing("RGB", (1, 2, 3), (1, 1, 1))
    loaded = load_classifier(tmp_path / "tiny.npz", preprocessing=colour)
    assert loaded.architecture == model.architecture
    assert "tiny" in registry.names()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("vgg16", tiny), ValueError, "got 'vgg16'"),
        (("fcn", tiny), ValueError, "got 'fcn'"),
        (("", tiny), ValueError, "got ''"),
        ((3, tiny), TypeError, "got 3"),
        (("mine", "tiny"), TypeError, "got 'mine' and 'tiny'"),
    ],
)
def test_names_that_cannot_be_registered(known, arguments, error, message):
    with pytest.raises(error, match=message):
        register(*arguments)


@pytest.fixture
def installed(known, monkeypatch):
    """Entry points, as if packages that declare them were installed; and the groups that were asked for."""
    asked = []
    points = EntryPoints(
        EntryPoint(name, value, "minifcn.models")
        for name, value in (
            ("tiny", f"{__name__}:tiny"),
            ("number", f"{__name__}:not_a_builder"),
            ("wrong", f"{__name__}:wrong"),
            ("missing", "no_such_package.models:net"),
            ("twice", "a:b"),
            ("twice", "c:d"),
        )
    )

    def entry_points(**selection):
        asked.append(selection)
        return points.select(**selection)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return asked


def test_entry_points_are_looked_up_for_unknown_names_only(installed):
    build("digit_classifier", init="zeros")
    assert installed == []
    assert build("tiny", 4, rng=0).output_shape((3, 8, 8)) == (4,)
    assert installed == [{"group": "minifcn.models", "name": "tiny"}]
    build("tiny", 4, rng=0)
    assert len(installed) == 1
    assert {"tiny", "vgg16", "missing"} <= set(registry.names())


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("number", ValueError, "entry point number of minifcn.models is not a function but 3"),
        ("wrong", TypeError, "the builder of 'wrong' must return a Classifier, got Sequential"),
        ("missing", ValueError, "entry point missing = no_such_package.models:net cannot be loaded"),
        ("twice", ValueError, "'twice' is offered by several packages: a:b, c:d"),
        ("other", ValueError, "unknown architecture 'other': known are alexnet, .*tiny"),
    ],
)
def test_entry_points_that_do_not_fit(installed, name, error, message):
    with pytest.raises(error, match=message):
        build(name)
