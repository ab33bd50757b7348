import json

import numpy as np
import pytest

from minifcn.layers import Parameter
from minifcn.models import FCN, build, digit_classifier


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
def test_a_network_says_how_to_build_it_again(architecture):
    model = build(json.loads(json.dumps(architecture)), rng=1)
    assert model.architecture == architecture
    assert json.loads(json.dumps(model.architecture)) == architecture
    assert model.info is None


def test_files_from_before_there_were_alignments_are_exact():
    old = fcn()
    del old["arguments"]["alignment"], old["arguments"]["at_once"]
    assert build(old, init="zeros").architecture == fcn()


def test_what_is_built_is_the_network():
    built, made = build(fcn(), rng=1), FCN(digit_classifier(rng=1), 11, 4, upsampling="learned")
    assert {name: array.shape for name, array in built.state_dict().items()} == {
        name: array.shape for name, array in made.state_dict().items()
    }
    assert all(np.array_equal(array, made.state_dict()[name]) for name, array in built.state_dict().items())
    assert repr(built) == repr(made)


def test_without_a_seed_weights_are_zero_but_for_the_upsampling():
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
    ("architecture", "said"),
    [
        (None, "an architecture is a name and arguments, got None"),
        ("vgg16", "an architecture is a name and arguments, got vgg16"),
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
            "arguments of architecture 'digit_classifier' do not fit",
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
        (fcn(upsampling=None), "upsampling must be 'fixed' or 'learned', got None"),
        (fcn(upsampling=["fixed"]), "upsampling must be 'fixed' or 'learned'"),
        (fcn(alignment="centred"), "alignment must be 'exact' or 'paper', got 'centred'"),
        (fcn(alignment=["paper"]), "alignment must be 'exact' or 'paper'"),
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
        (nested(2), "an FCN is made from a classifier"),
        (nested(5000), "fcn|architecture|classifier"),
    ],
)
def test_what_a_file_may_say_is_checked(architecture, said):
    with pytest.raises(ValueError, match=said):
        build(architecture, init="zeros")


def test_extra_arguments_are_refused_not_dropped():
    architecture = digits()
    architecture["arguments"]["surprise"] = 1
    with pytest.raises(ValueError, match=r"surprise|do not fit"):
        build(architecture, init="zeros")
