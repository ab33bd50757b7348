"""Every built-in layer and model keeps the conventions; each planted error is found and named."""

import re

import numpy as np
import pytest

from minifcn import convolutionalize, layers, models
from minifcn import functional as F
from minifcn.checks import CheckFailedError, check_conventions
from minifcn.geometry import CoordinateMap, Window
from minifcn.layers import Conv2d, Layer, MaxPool2d, Parameter, Pointwise, ReLU
from minifcn.models.upsampling import AlignedUpsample, PaperUpsample, TorchvisionUpsample
from tests.checks.broken_layers import PLANTED, Rescale

HALF = Window(2, stride=2).coordinate_map().inverse()

LAYERS = {
    "Conv2d": (lambda rng: Conv2d(2, 3, (3, 2), (2, 1), ((0, 1), (1, 0)), rng=rng), (2, 9, 8)),
    "Conv2d dilated": (lambda rng: Conv2d(4, 4, 3, 1, 2, 2, 2, rng=rng), (4, 9, 9)),
    "ConvTranspose2d": (lambda rng: layers.ConvTranspose2d(2, 3, 4, stride=2, padding=1, rng=rng), (2, 5, 6)),
    "Linear": (lambda rng: layers.Linear(6, 4, rng=rng), (6,)),
    "MaxPool2d": (lambda rng: MaxPool2d(3, 2, 1), (2, 9, 8)),
    "MaxPool2d up": (lambda rng: MaxPool2d(2, ceil_mode=True), (2, 9, 8)),
    "AvgPool2d": (lambda rng: layers.AvgPool2d(2), (2, 9, 8)),
    "GlobalAvgPool2d": (lambda rng: layers.GlobalAvgPool2d(), (2, 5, 6)),
    "BatchNorm2d": (lambda rng: layers.BatchNorm2d(2), (2, 5, 6)),
    "BatchNorm1d": (lambda rng: layers.BatchNorm1d(5), (5,)),
    "GroupNorm": (lambda rng: layers.GroupNorm(2, 4), (4, 5, 6)),
    "LocalResponseNorm": (lambda rng: layers.LocalResponseNorm(3), (4, 5, 6)),
    "ReLU": (lambda rng: ReLU(), (2, 5, 6)),
    "ReLU in place": (lambda rng: ReLU(inplace=True), (2, 5, 6)),
    "ReLU6 in place": (lambda rng: layers.ReLU6(inplace=True), (2, 5, 6)),
    "Hardtanh": (lambda rng: layers.Hardtanh(None, 0.5), (2, 5, 6)),
    "LeakyReLU": (lambda rng: layers.LeakyReLU(0.2), (2, 5, 6)),
    "PReLU": (lambda rng: layers.PReLU(2), (2, 5, 6)),
    "PReLU of vectors": (lambda rng: layers.PReLU(), (5,)),
    **{
        kind.__name__: (lambda rng, kind=kind: kind(), (2, 5, 6))
        for kind in (layers.Sigmoid, layers.SiLU, layers.Hardsigmoid, layers.Hardswish)
    },
    "Upsample nearest": (lambda rng: layers.Upsample(scale_factor=3), (2, 5, 6)),
    "Upsample bilinear": (lambda rng: layers.Upsample(scale_factor=(2, 4), mode="bilinear"), (2, 5, 6)),
    "Upsample to a size": (lambda rng: layers.Upsample((7, 2), None, "bilinear", True), (2, 5, 6)),
    "Multiply": (
        lambda rng: layers.Multiply(
            layers.Sequential(), layers.Sequential(layers.GlobalAvgPool2d(), layers.Sigmoid())
        ),
        (2, 5, 6),
    ),
    "Dropout": (lambda rng: layers.Dropout(0.3, rng=rng), (2, 5, 6)),
    "Flatten": (lambda rng: layers.Flatten(), (2, 5, 6)),
    "ChannelShuffle": (lambda rng: layers.ChannelShuffle(3), (6, 5, 4)),
    "ChannelSlice": (lambda rng: layers.ChannelSlice(1, 3), (4, 5, 6)),
    "AvgPool2d of pixels": (lambda rng: layers.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 9, 8)),
    "Concat": (lambda rng: layers.Concat(ReLU(), Conv2d(2, 3, 3, padding=1, rng=rng)), (2, 5, 6)),
    "Add": (lambda rng: layers.Add(ReLU(), Conv2d(2, 2, 3, padding=1, rng=rng)), (2, 5, 6)),
    "Sequential": (lambda rng: layers.Sequential(Conv2d(2, 3, 3, rng=rng), ReLU(inplace=True)), (2, 9, 8)),
    "Graph": (
        lambda rng: layers.Graph(
            {"conv": (Conv2d(2, 2, 3, padding=1, rng=rng), "input"), "sum": ("add", "input", "conv")}, "sum"
        ),
        (2, 5, 6),
    ),
    "AlignedUpsample": (lambda rng: AlignedUpsample(2, CoordinateMap(), HALF, learned=True), (2, 3, 4)),
    "PaperUpsample": (lambda rng: PaperUpsample(2, CoordinateMap(), HALF @ HALF), (2, 3, 4)),
    "TorchvisionUpsample": (lambda rng: TorchvisionUpsample(2, CoordinateMap(), HALF), (2, 3, 4)),
    "FCN-2s torchvision": (
        lambda rng: models.FCN(models.digit_classifier(rng=rng), 3, stride=2, alignment="torchvision"),
        (1, 7, 5),
    ),
    "Fire": (lambda rng: models.squeezenet.Fire(4, 2, 3, rng=rng), (4, 5, 6)),
    "digit classifier": (lambda rng: models.digit_classifier(rng=rng), (1, 32, 32)),
    "squeezenet1_1": (lambda rng: models.squeezenet1_1(5, rng=rng), (3, 24, 25)),
    "squeezenet1_0": (lambda rng: models.squeezenet1_0(5, rng=rng).features, (3, 24, 25)),
    "convolutionalized": (
        lambda rng: convolutionalize(models.digit_classifier(rng=rng), (1, 32, 32)),
        (1, 36, 40),
    ),
} | {
    f"FCN-{stride}s {alignment}": (
        lambda rng, stride=stride, alignment=alignment: models.FCN(
            models.digit_classifier(rng=rng), 3, stride=stride, alignment=alignment
        ),
        (1, 7, 5) if alignment == "exact" else (1, 3, 2),  # the paper's padding of 100 makes large maps
    )
    for alignment in ("exact", "paper")
    for stride in (8, 2)
}
SLOW = {"FCN-8s exact", "FCN-8s paper", "FCN-2s paper"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LAYERS]
)
def test_built_in_layers_and_models_keep_the_conventions(name):
    make, shape = LAYERS[name]
    layer = make(np.random.default_rng(0))
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    check_conventions(layer, shape)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.slow
@pytest.mark.parametrize("make", [models.alexnet, models.caffenet, models.googlenet, models.vgg16])
def test_features_of_large_models_keep_the_conventions(make):
    check_conventions(make(rng=0).features, (3, 63, 64) if make is models.alexnet else (3, 39, 40))


def test_every_layer_class_is_checked():
    rng = np.random.default_rng(0)
    checked = {type(layer) for make, _ in LAYERS.values() for layer in make(rng).layers()}
    public = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    complete = {kind for kind in public if issubclass(kind, Layer) and kind.forward is not Layer.forward}
    assert complete - checked == {layers.Activation}  # which is abstract


SHAPE = (2, 6, 5)


def failure_of(layer, shape=SHAPE):
    with pytest.raises(CheckFailedError) as caught:
        check_conventions(layer, shape)
    return str(caught.value)


def test_the_layer_without_a_planted_error_passes():
    check_conventions(Rescale(), SHAPE)


@pytest.mark.parametrize(
    ("planted", "convention", "words"), [(kind, name, words) for kind, name, *words in PLANTED]
)
def test_a_planted_error_is_named_with_expected_and_actual_value(planted, convention, words):
    message = failure_of(planted())
    first, example = message.split("\n")
    assert re.match(rf"{planted.__name__}\(.*\): {convention}: ", first), message
    for word in words:
        assert word in first
    assert re.fullmatch(r"smallest example: x of shape \(2, 2, \d, \d\), float(32|64)", example)


def test_the_example_is_the_smallest_size_that_fails():
    class WrongFromThreeRows(Rescale):
        def output_shape(self, shape):
            return shape if shape[1] < 3 else (1, *shape[1:])

    assert failure_of(WrongFromThreeRows()).endswith("x of shape (2, 2, 3, 2), float64")
    check_conventions(WrongFromThreeRows(), (2, 2, 40))


def test_half_a_pixel_is_too_far():
    @layers.register
    class Shifted(Conv2d):
        def coordinate_map(self):
            place = super().coordinate_map()
            return CoordinateMap(place.scale, place.offset + CoordinateMap().scale / 2)

    assert "place" in failure_of(Shifted(2, 2, 3, padding=1, rng=0), (2, 7, 7))


def test_a_size_that_is_refused_is_skipped_but_not_the_given_one():
    check_conventions(Conv2d(2, 2, 4, rng=0), (2, 9, 9))
    with pytest.raises(ValueError, match="height 3"):
        check_conventions(Conv2d(2, 2, 4, rng=0), (2, 3, 9))


def test_an_output_of_zeros_depends_on_nothing():
    class Zeros(Pointwise):
        def forward(self, x):
            y = 0 * x
            self.keep(output=y)
            return y

        def backward(self, dy):
            self.recall(dy)
            return 0 * dy

    check_conventions(layers.register(Zeros)(), SHAPE)


@pytest.mark.parametrize("value", [0, 1])
def test_initial_values_hide_nothing(value):
    class Initial(Rescale):
        def __init__(self):
            self.factor = Parameter(np.full(1, value, np.float32))

        def output_shape(self, shape):
            return shape

        def load_state_dict(self, state, *, strict=True):
            pass

    assert "state" in failure_of(Initial())


def test_functions_of_the_library_make_a_layer_that_passes():
    @layers.register
    class Own(Layer):
        def __init__(self):
            self.weight = Parameter(np.random.default_rng(0).standard_normal((3, 2, 3, 3), np.float32))

        def forward(self, x):
            y = F.conv2d(x, self.weight.data, padding=1)
            self.keep(x, output=y)
            return y

        def backward(self, dy):
            (x,) = self.recall(dy)
            self.weight.accumulate(F.conv2d_weight_grad(x, dy, kernel_size=3, padding=1))
            return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], padding=1)

        def output_shape(self, shape):
            return (3, *shape[1:])

    check_conventions(Own(), SHAPE)


def test_a_class_that_is_not_registered_is_refused():
    class Unregistered(layers.Flatten):
        pass

    assert "Unregistered(): config: " in failure_of(Unregistered())


def test_the_class_that_is_not_registered_is_reported_after_all_other_mistakes():
    class WrongAtTheLargestSize(layers.Flatten):
        def output_shape(self, shape):
            return (0,) if shape == SHAPE else super().output_shape(shape)

    assert "output_shape: " in failure_of(WrongAtTheLargestSize())


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("FCN")])
def test_built_in_layers_with_parameters_refuse_another_dtype(name):
    make, shape = LAYERS[name]
    layer = make(np.random.default_rng(0))
    if any(layer.parameters()):
        with pytest.raises((TypeError, ValueError), match="float64"):
            layer(np.ones((2, *shape)))


def gate(channels):
    rng = np.random.default_rng(0)
    return layers.Sequential(layers.GlobalAvgPool2d(), Conv2d(channels, channels, 1, rng=rng))


@pytest.mark.parametrize("factors", [("input", "gate"), ("gate", "input")])
def test_a_graph_with_a_gate_keeps_the_conventions(factors):
    graph = layers.Graph({"gate": (gate(2), "input"), "product": ("multiply", *factors)}, "product")
    check_conventions(graph, (2, 6, 5))


def test_on_every_library(xp):
    layer = Conv2d(2, 3, 3, padding=1, rng=0)
    for parameter in layer.parameters():
        parameter.data = xp.module.asarray(parameter.data)
    check_conventions(layer, (2, 4, 5))
