"""Layers as plain data, and back."""

import json
import sys

import numpy as np
import pytest

from minifcn import layers
from minifcn.geometry import CoordinateMap, Window
from minifcn.layers import (
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    GroupNorm,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Layer,
    LayerDict,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Multiply,
    Parameter,
    Pointwise,
    PReLU,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    SiLU,
    Upsample,
    from_config,
    register,
    to_config,
)
from minifcn.models import FCN, AlignedUpsample, digit_classifier
from minifcn.models.scoring import ScoreLayer
from minifcn.models.squeezenet import Fire
from minifcn.models.upsampling import PaperUpsample, TorchvisionUpsample

POOL = Window(4, stride=4).coordinate_map()
EXAMPLES = [
    Add(ReLU(), Dropout(0.25, rng=0)),
    AvgPool2d((2, 3), 1, ((0, 1), (1, 0)), ceil_mode=True),
    AvgPool2d(2, padding=1, count_include_pad=False),
    BatchNorm1d(3, eps=0.01),
    BatchNorm2d(3, eps=0.01, momentum=0.5, frozen=True),
    ChannelShuffle(3),
    ChannelSlice(1, 3),
    Concat(a=ReLU(), b=Conv2d(2, 2, 1, rng=0)),
    Conv2d(4, 6, (3, 2), (2, 1), ((0, 1), (2, 3)), (1, 2), 2, bias=False, rng=0),
    ConvTranspose2d(4, 6, 4, 2, 1, (1, 0), 2, rng=0),
    Dropout(0.1, rng=0),
    Flatten(),
    GlobalAvgPool2d(),
    Graph({"a": (ReLU(), "input"), "b": ("concat", "a", "input")}, output="b"),
    GroupNorm(2, 6, eps=0.01),
    Hardsigmoid(),
    Hardswish(),
    Hardtanh(None, 0.5, inplace=True),
    LayerDict(ReLU(), x=Flatten()),
    LeakyReLU(0.3),
    Linear(3, 5, bias=False, rng=0),
    LocalResponseNorm(3, 0.1, 0.2, 0.3),
    MaxPool2d(3, 2, (1, 0)),
    Multiply(Sequential(), gate=GlobalAvgPool2d()),
    PReLU(3),
    ReLU(inplace=True),
    ReLU6(inplace=True),
    Sequential(Sequential(), last=ReLU()),
    SiLU(),
    Sigmoid(),
    Upsample((3, 4), mode="bilinear", align_corners=True),
    AlignedUpsample(2, POOL, CoordinateMap(), learned=True),
    PaperUpsample(2, POOL, CoordinateMap()),
    TorchvisionUpsample(2, POOL, CoordinateMap()),
    ScoreLayer(4, 3, scale=0.01),
    Fire(4, 2, 3, rng=0),
    digit_classifier(4, rng=0),
    FCN(digit_classifier(rng=0), 5, 2, alignment="paper", at_once=True),
]


@pytest.mark.parametrize("layer", EXAMPLES, ids=lambda layer: type(layer).__name__)
def test_every_layer_is_made_again_from_its_config(layer):
    config = to_config(layer)
    size = sum(array.size for array in layer.state_dict().values())
    again = from_config(json.loads(json.dumps(config)), max_elements=size)
    assert type(again) is type(layer)
    assert repr(again) == repr(layer)
    assert to_config(again) == config
    assert {n: a.shape for n, a in again.state_dict().items()} == {
        n: a.shape for n, a in layer.state_dict().items()
    }


def test_there_is_an_example_of_every_class():
    known = layers.config._classes.items()  # of them, those of doctests are in no module
    own = {name: cls for name, cls in known if cls.__module__.startswith("minifcn.")}
    built_in = {name for name, cls in own.items() if hasattr(sys.modules[cls.__module__], name)}
    assert {type(layer).__name__ for layer in EXAMPLES} == built_in


def test_weights_are_zero():
    model = from_config(to_config(digit_classifier(rng=0)))
    assert not any(parameter.data.any() for parameter in model.parameters())


@pytest.fixture
def own():
    class Own(Pointwise):
        def __init__(self, amount: float, name="x", *, init="he"):
            self.amount, self.name, self.init = amount, name, init

    yield Own
    layers.config._classes.pop("Own", None)


def test_a_registered_class(own):
    with pytest.raises(ValueError, match=r"0 is a Own|Sequential.0 is a Own"):
        to_config(Sequential(own(1.5)))
    assert register(own) is own
    again = from_config(to_config(Sequential(own(np.float32(1.5), "y"))))[0]
    assert (type(again), again.amount, again.name, again.init) == (own, 1.5, "y", "zeros")
    register(own)  # twice, as when a notebook's cell runs again
    with pytest.raises(ValueError, match=r"Own: amount must be float, got 'big'"):
        from_config({"class": "Own", "amount": "big"})


def test_names_are_not_replaced(own):
    register(own)
    for name in ("Own", "Conv2d", "Classifier"):
        with pytest.raises(ValueError, match=f"the name '{name}' is taken by"):
            register(type(name, (Layer,), {"__module__": "elsewhere"}))
    for wrong in (3, "Own", ReLU(), dict):
        with pytest.raises(TypeError, match="cls must be a subclass of Layer"):
            register(wrong)


def test_a_class_that_reconstructs_itself(own):
    own.config = lambda self: {"text": f"{self.amount}"}
    own.from_config = classmethod(lambda cls, text: cls(float(text)))
    register(own)
    assert from_config(to_config(own(2.5))).amount == 2.5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "amount is 'nan'"),
        (1j, "amount is '1j'"),
        ({1: 2}, "amount is"),
        (np.ones(2), "amount is"),
        (Parameter(np.ones(1)), "amount is"),
        ({"class": "ReLU"}, "amount: nothing .* 'class'"),
    ],
)
def test_values_that_a_file_cannot_hold(own, value, message):
    register(own)
    with pytest.raises(ValueError, match=rf"Sequential\.a\.{message}"):
        to_config(Sequential(a=own(value)))


def test_a_layer_that_contains_itself():
    loop = Sequential(ReLU())
    loop.parts["1"] = loop
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        to_config(loop)


def test_the_limit_counts_all_elements():
    config = to_config(Sequential(Linear(3, 4, rng=0), BatchNorm2d(2)))
    from_config(config, max_elements=24)
    with pytest.raises(ValueError, match=r"\(2,\) are more than the 1 elements"):
        from_config(config, max_elements=23)
    Linear(100, 100, init="zeros")  # the limit ends with the call


def nested(depth):
    value = None
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("largest", "larger", "max_elements", "message"),
    [
        (nested(64), nested(65), None, "more than 64 deep"),
        ([None] * 99_999, [None] * 100_000, None, "more than 100,000 values"),  # the list is one of them
        ("x" * 1_000, "x" * 1_001, None, "a text of 1,001 characters"),
        (10**12, 10**12 + 1, None, "at most 1,000,000,000,000"),
        (-100_000, -100_001, 5, "at most 100,000"),
        (200_000, 200_001, 200_000, "at most 200,000"),
    ],
    ids=["depth", "values", "text", "number", "number of a small file", "number of a large file"],
)
def test_descriptions_up_to_the_limits_are_read(largest, larger, max_elements, message):
    with pytest.raises(ValueError, match="a layer is described by a dictionary with a class"):
        from_config(largest, max_elements=max_elements)
    with pytest.raises(ValueError, match=message):
        from_config(larger, max_elements=max_elements)


def test_arguments_are_written_up_to_the_depth_that_is_read(own):
    register(own)
    config = to_config(own(nested(63)))
    with pytest.raises(ValueError, match="Own: amount must be float"):
        from_config(config)
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        to_config(own(nested(64)))
