"""Operators of ONNX become the layers that its specification describes, with its defaults."""

from dataclasses import replace

import numpy as np
import pytest

from minifcn import layers
from minifcn.weights.onnx_network import Call, Flow, Network
from minifcn.weights.onnx_operators import OPERATORS

MAP = Flow("input", (4, 6, 5))
LAST = replace(MAP, order="HWC")  # (N, 6, 5, 4) in ONNX
VECTOR = Flow("input", (4,))
PIXEL = Flow("input", (4, 1, 1))
PADDED = replace(MAP, pads=((1, 2), (0, 3)))
GROUPED = replace(MAP, view=(2, 2, 6, 5))
FOUR = np.arange(1, 5, dtype=np.float32)
KERNEL = np.ones((3, 4, 3, 2), np.float32)


def integers(*values):
    return np.array(values, np.int64)


def convert(op, *inputs, outputs=1, network=None, **attributes):
    """Return the network, the layer that was added last, and the value."""
    network = network or Network(-1)
    y = OPERATORS[op](network, Call(op, inputs, attributes, outputs))
    added = [node[0] for node in network.nodes.values()]
    return network, added[-1] if added else None, y


# The defaults are those of https://onnx.ai/onnx/operators; each layer is compared by its settings.
DEFAULTS = {
    "LeakyRelu": ([MAP], {}, layers.LeakyReLU(0.01)),
    "LRN": ([MAP], {"size": 5}, layers.LocalResponseNorm(5, 1e-4, 0.75, 1.0)),
    "Dropout": ([MAP], {}, layers.Dropout(0.5, rng=0)),
    "BatchNormalization": ([MAP, *[FOUR] * 4], {}, layers.BatchNorm2d(4, eps=1e-5, momentum=0.1)),
    "InstanceNormalization": ([MAP, FOUR, FOUR], {}, layers.GroupNorm(4, 4, eps=1e-5)),
    "MaxPool": ([MAP], {"kernel_shape": [2, 3]}, layers.MaxPool2d((2, 3), 1)),
    "AveragePool": ([MAP], {"kernel_shape": [2, 3]}, layers.AvgPool2d((2, 3), 1)),
    "Conv": ([MAP, KERNEL], {}, layers.Conv2d(4, 3, (3, 2), bias=False, rng=0)),
    "ConvTranspose": (
        [MAP, KERNEL.transpose(1, 0, 2, 3)],
        {},
        layers.ConvTranspose2d(4, 3, (3, 2), bias=False, init="zeros"),
    ),
    "Gemm": ([VECTOR, np.ones((4, 3), "f4")], {}, layers.Linear(4, 3, bias=False, rng=0)),
    "HardSwish": ([MAP], {}, layers.Hardswish()),
    "GlobalAveragePool": ([MAP], {}, layers.GlobalAvgPool2d()),
    "ReduceMean": ([MAP], {"axes": [2, 3]}, layers.GlobalAvgPool2d()),
}


def settings(layer):
    config = layer.config().items()
    return type(layer), {key: round(x, 12) if isinstance(x, float) else x for key, x in config}


@pytest.mark.parametrize("op", DEFAULTS)
def test_defaults_are_those_of_onnx(op):
    inputs, attributes, expected = DEFAULTS[op]
    assert settings(convert(op, *inputs, **attributes)[1]) == settings(expected)


def up(*size, **options):
    return layers.Upsample(size=size, mode="bilinear", **options)


SCALES = np.float32([1, 1, 2, 3])
SIZES = integers(1, 4, 12, 1)
FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
SETTINGS = [
    ("Clip", [MAP, np.float32(0), np.float32(6)], {}, layers.ReLU6()),
    ("Clip", [MAP], {"min": 0.0, "max": 6.0}, layers.ReLU6()),
    ("Clip", [MAP, np.float32(0), np.float32(5)], {}, layers.Hardtanh(0.0, 5.0)),
    ("Clip", [MAP, np.float32(1), np.float32(6)], {}, layers.Hardtanh(1.0, 6.0)),
    ("Clip", [MAP, np.float32(-3e38), np.float32(6)], {}, layers.Hardtanh(None, 6.0)),
    ("Clip", [MAP, np.float32(0), np.float32(3e38)], {}, layers.ReLU()),
    ("HardSigmoid", [MAP], {"alpha": 1 / 6}, layers.Hardsigmoid()),
    ("HardSigmoid", [MAP], {"alpha": 1 / 6, "beta": 0.25}, layers.Hardtanh(0.0, 1.0)),
    ("PRelu", [MAP, FOUR[:1]], {}, layers.PReLU(1)),
    ("PRelu", [MAP, FOUR.reshape(4, 1, 1)], {}, layers.PReLU(4)),
    ("BatchNormalization", [VECTOR, *[FOUR] * 4], {"epsilon": 0.5}, layers.BatchNorm1d(4, eps=0.5)),
    ("BatchNormalization", [MAP, *[FOUR] * 4], {"momentum": 0.75}, layers.BatchNorm2d(4, momentum=0.25)),
    ("InstanceNormalization", [GROUPED, FOUR[[0, 0]], FOUR[[1, 1]]], {}, layers.GroupNorm(2, 4)),
    ("ReduceMean", [LAST, integers(1, 2)], {}, layers.GlobalAvgPool2d()),
    ("ReduceMean", [LAST, integers(-2, -3)], {}, layers.GlobalAvgPool2d()),
    ("Transpose", [GROUPED], {"perm": [0, 2, 1, 3, 4]}, layers.ChannelShuffle(2)),
    ("Slice", [MAP, integers(1), integers(3), integers(-3)], {}, layers.ChannelSlice(1, 3)),
    ("Slice", [LAST, integers(-2), integers(2**62), integers(-1)], {}, layers.ChannelSlice(2, 4)),
    ("Split", [MAP, integers(1, 3)], {"axis": 1, "outputs": 2}, layers.ChannelSlice(1, 4)),
    ("Split", [MAP], {"axis": -3, "outputs": 4}, layers.ChannelSlice(3, 4)),
    ("Resize", [MAP, None, SCALES], {"mode": "linear"}, layers.Upsample(None, (2.0, 3.0), "bilinear")),
    ("Resize", [MAP, None, SCALES], FLOOR, layers.Upsample(scale_factor=(2.0, 3.0), mode="nearest")),
    ("Resize", [MAP, None, None, SIZES], FLOOR, layers.Upsample(size=(12, 1), mode="nearest")),
    ("Resize", [MAP, None, None, SIZES], {"mode": "linear"}, up(12, 1)),
    (
        "Resize",
        [MAP, None, None, SIZES],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        up(12, 1, align_corners=True),
    ),
    (
        "Resize",
        [MAP, None, None, integers(1, 4, 2, 2)],
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
        up(2, 2),
    ),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "expected"), SETTINGS)
def test_settings_of_layers(op, inputs, attributes, expected):
    assert settings(convert(op, *inputs, **attributes)[1]) == settings(expected)


@pytest.mark.parametrize(
    ("channels", "outputs", "parts"), [(4, 2, [2, 2]), (5, 3, [2, 2, 1]), (5, 2, [3, 2]), (6, 6, [1] * 6)]
)
def test_channels_are_divided_equally_and_the_last_part_has_the_rest(channels, outputs, parts):
    for x, axis in ((Flow("input", (channels, 6, 5)), 1), (Flow("input", (channels, 6, 5), "HWC"), 3)):
        values = convert("Split", x, outputs=outputs, axis=axis)[2]
        assert [value.shape for value in values] == [(part, 6, 5) for part in parts]
        assert {value.order for value in values} == {x.order}


@pytest.mark.parametrize("number", [1, 10, 11, 16])
def test_casts_between_floating_point_numbers_change_nothing(number):
    assert convert("Cast", MAP, to=number)[2] is MAP


VALUES = {  # inputs, attributes, shape, order, view
    "vector": ("Flatten", [MAP], {}, (120,), "CHW", ()),
    "negative axis": ("Flatten", [MAP], {"axis": -3}, (120,), "CHW", ()),
    "channels last": ("Flatten", [LAST], {"axis": 1}, (120,), "HWC", ()),
    "pixel with channels last": ("Flatten", [replace(PIXEL, order="HWC")], {}, (4,), "CHW", ()),
    "batch of the file": ("Reshape", [MAP, integers(0, -1)], {}, (120,), "CHW", ()),
    "sides that are there": ("Reshape", [MAP, integers(-1, 0, 0, 0)], {}, (4, 6, 5), "CHW", ()),
    "zeros allowed": ("Reshape", [MAP, integers(0, 120)], {"allowzero": 1}, (120,), "CHW", ()),
    "groups": ("Reshape", [MAP, integers(0, 2, -1)], {}, (4, 6, 5), "CHW", (2, 60)),
    "groups of maps": ("Reshape", [MAP, integers(0, 2, 2, 6, 5)], {}, (4, 6, 5), "CHW", (2, 2, 6, 5)),
    "back from groups": ("Reshape", [GROUPED, integers(0, 4, 6, 5)], {}, (4, 6, 5), "CHW", ()),
    "squeezed": ("Squeeze", [PIXEL, integers(2, 3)], {}, (4,), "CHW", ()),
    "squeezed from the end": ("Squeeze", [PIXEL, integers(-1, -2)], {}, (4,), "CHW", ()),
    "squeezed by an old file": ("Squeeze", [PIXEL], {"axes": [2, 3]}, (4,), "CHW", ()),
    "average": ("ReduceMean", [MAP, integers(-1, -2)], {}, (4, 1, 1), "CHW", ()),
    "average as vector": ("ReduceMean", [MAP, integers(2, 3)], {"keepdims": 0}, (4,), "CHW", ()),
    "average with channels last": ("ReduceMean", [LAST, integers(1, 2)], {}, (4, 1, 1), "HWC", ()),
    "to channels last": ("Transpose", [MAP], {"perm": [0, 2, 3, 1]}, (4, 6, 5), "HWC", ()),
    "to channels first": ("Transpose", [LAST], {"perm": [0, 3, 1, 2]}, (4, 6, 5), "CHW", ()),
    "vector in its order": ("Transpose", [VECTOR], {"perm": [0, 1]}, (4,), "CHW", ()),
    "joined": ("Concat", [MAP, MAP], {"axis": -3}, (8, 6, 5), "CHW", ()),
    "joined with channels last": ("Concat", [LAST, LAST], {"axis": 3}, (8, 6, 5), "HWC", ()),
    "joined vectors": ("Concat", [VECTOR, VECTOR], {"axis": -1}, (8,), "CHW", ()),
}


@pytest.mark.parametrize("name", VALUES)
def test_shapes_of_values(name):
    op, inputs, attributes, *expected = VALUES[name]
    y = convert(op, *inputs, **attributes)[2]
    assert [y.shape, y.order, y.view] == expected


@pytest.mark.parametrize(
    ("pads", "axes", "expected"),
    [
        ((0, 0, 1, 2, 0, 0, 3, 4), None, ((1, 3), (2, 4))),
        ((1, 2, 3, 4), (2, 3), ((1, 3), (2, 4))),
        ((1, 2, 3, 4), (-1, -2), ((2, 4), (1, 3))),
        ((5, 6), (3,), ((0, 0), (5, 6))),
    ],
)
def test_pads_are_those_of_the_axes(pads, axes, expected):
    given = integers(*pads), None, None if axes is None else integers(*axes)
    assert convert("Pad", MAP, *given)[2].pads == expected
    both = tuple((a + c, b + d) for (a, b), (c, d) in zip(PADDED.pads, expected, strict=True))
    assert convert("Pad", PADDED, *given)[2].pads == both


def test_shape_is_that_of_the_file():
    network = Network(7)
    for attributes, expected in (
        ({}, [7, 6, 5, 4]),
        ({"start": 1}, [6, 5, 4]),
        ({"start": -3, "end": -1}, [6, 5]),
    ):
        assert convert("Shape", LAST, network=network, **attributes)[2].tolist() == expected


REFUSED = [
    ("Reshape", [MAP, integers(3, 120)], {}, r"it makes \(3, 120\) of \('N', 4, 6, 5\)"),
    ("Reshape", [MAP, integers(0, 0, 120)], {"allowzero": 1}, r"it makes \(0, 0, 120\)"),
    ("Reshape", [MAP, integers(0, 7, -1)], {}, r"it makes \(0, 7, -1\)"),
    ("Reshape", [MAP, integers(0, 3, 40)], {}, r"it makes \('N', 3, 40\)"),
    ("Reshape", [LAST, integers(0, 2, 60)], {}, r"it makes \('N', 2, 60\) of \('N', 6, 5, 4\)"),
    ("Reshape", [MAP, integers(0, 119)], {}, r"it makes"),
    ("Flatten", [MAP], {"axis": 0}, "it joins images"),
    ("Flatten", [MAP], {"axis": 2}, "it joins images"),
    ("Flatten", [MAP], {"axis": -4}, "it joins images"),
    ("Squeeze", [PIXEL, integers(0)], {}, r"the axes \(0,\)"),
    ("Squeeze", [PIXEL], {}, r"the axes \(\)"),
    ("Squeeze", [PIXEL, integers(2, 2)], {}, r"the axes \(2, 2\)"),
    ("Unsqueeze", [VECTOR, integers(0)], {}, "before the images"),
    ("ReduceMean", [MAP, integers(1, 2)], {}, "rows and columns"),
    ("ReduceMean", [MAP, integers(2)], {}, "rows and columns"),
    ("ReduceMean", [VECTOR, integers(2, 3)], {}, "rows and columns"),
    ("ReduceMean", [LAST, integers(2, 3)], {}, "rows and columns"),
    ("Transpose", [LAST], {"perm": [0, 2, 3, 1]}, "reorders"),
    ("Transpose", [MAP], {"perm": [0, 3, 1, 2]}, "reorders"),
    ("Transpose", [replace(MAP, view=(2, 60))], {"perm": [0, 2, 1]}, "reorders"),
    ("Concat", [LAST, LAST], {"axis": 1}, "join channels"),
    ("Slice", [MAP, integers(0), integers(4), integers(1), integers(2)], {}, "neighbouring"),
    ("Slice", [MAP, integers(0), integers(4), integers(2)], {}, "neighbouring"),
    ("Split", [MAP, integers(1, 2)], {"axis": 1}, "divide"),
    ("Split", [LAST, integers(1, 3)], {"axis": 1}, "divide"),
    ("Resize", [MAP, None, SCALES], FLOOR | {"nearest_mode": "ceil"}, "nearest, asymmetric"),
    ("Resize", [MAP, None, SCALES], {"mode": "cubic"}, "cubic"),
    ("Resize", [MAP, None, SCALES], {"mode": "linear", "antialias": 1}, "linear"),
    ("Resize", [MAP, None, SCALES[:2]], {"mode": "linear"}, "linear"),
    ("Resize", [MAP, None, SCALES], {"mode": "linear", "axes": [0, 1, 2, 3]}, "linear"),
    ("Resize", [MAP, None, None, integers(1, 3, 9, 9)], {"mode": "linear"}, "linear"),
    (
        "Resize",
        [MAP, None, None, SIZES],
        {"mode": "linear", "keep_aspect_ratio_policy": "not_larger"},
        "linear",
    ),
    (
        "Resize",
        [MAP, None, None, SIZES],
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
        "single row or column",
    ),
    ("Shape", [PADDED], {}, "padded by Pad"),
    ("MaxPool", [MAP], {"kernel_shape": [3]}, "two dimensions"),
    ("MaxPool", [VECTOR], {"kernel_shape": [1, 1]}, "two dimensions"),
    ("MaxPool", [MAP], {"kernel_shape": [2, 2], "dilations": [1, 2]}, "dilations"),
    ("Conv", [MAP, KERNEL[0]], {}, "two dimensions"),
    ("ConvTranspose", [MAP, KERNEL], {"output_shape": [9, 9]}, "follows from the size"),
    ("ConvTranspose", [MAP, KERNEL], {"auto_pad": "SAME_UPPER"}, "follows from the size"),
    ("Pad", [MAP, integers(0, 0, -1, 0, 0, 0, 1, 0)], {}, "zeros around maps"),
    ("Pad", [MAP, integers(0, 1, 0, 0, 0, 0, 0, 0)], {}, "zeros around maps"),
    ("Pad", [MAP, integers(0, 0, 1, 0, 0, 0, 0, 0)], {"mode": "reflect"}, "zeros around maps"),
    ("Gemm", [VECTOR, np.ones((4, 3), "f4")], {"transA": 1}, "multiply vectors"),
    ("Gemm", [MAP, np.ones((4, 3), "f4")], {}, r"vectors .* \(4, 6, 5\)"),
    ("Gemm", [VECTOR, np.ones((4, 3), "f4"), FOUR[:2]], {}, "its input 2 has 2 numbers, expected 3"),
    ("BatchNormalization", [MAP, *[FOUR] * 4], {"training_mode": 1}, "training mode"),
    ("BatchNormalization", [MAP, FOUR, FOUR, FOUR, -FOUR], {"epsilon": 1.0}, "variances are negative"),
    ("BatchNormalization", [MAP, FOUR, FOUR, FOUR, -FOUR / 4], {"epsilon": 1.0}, "variances are negative"),
    ("InstanceNormalization", [GROUPED, FOUR[:2], FOUR[[0, 0]]], {}, "different weights"),
    ("InstanceNormalization", [GROUPED, FOUR[[0, 0]], FOUR[:2]], {}, "different weights"),
    ("Mul", [MAP, FOUR[:2].reshape(2, 1, 1)], {}, r"shape \(2, 1, 1\)"),
    ("Mul", [MAP, FOUR.reshape(1, 1, 4, 1, 1)], {}, r"shape \(1, 1, 4, 1, 1\)"),
    ("Mul", [MAP, FOUR], {}, r"shape \(4,\)"),
    ("Add", [GROUPED, FOUR[:1]], {}, "reshaped or padded"),
    ("Add", [PADDED, FOUR[:1]], {}, "reshaped or padded"),
    ("Cast", [MAP], {"to": 12}, "data type 12"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), REFUSED)
def test_what_layers_cannot_do_is_refused(op, inputs, attributes, message):
    with pytest.raises(ValueError, match=message):
        convert(op, *inputs, **attributes)


def test_numbers_for_each_channel():
    for x, values in ((MAP, FOUR.reshape(4, 1, 1)), (LAST, FOUR), (VECTOR, FOUR), (VECTOR, FOUR[None])):
        layer = convert("Mul", x, values)[1]
        assert layer.weight.data.tolist() == [1, 2, 3, 4]
        assert layer.bias.data.tolist() == [0] * 4
    layer = convert("Sub", np.float32(5), MAP)[1]
    assert (layer.weight.data.tolist(), layer.bias.data.tolist()) == ([-1] * 4, [5] * 4)
    for size in (1, 3):
        layer = convert("Gemm", VECTOR, np.ones((4, 3), "f4"), FOUR[:size], alpha=2.0, beta=3.0)[1]
        assert layer.weight.data.tolist() == [[2] * 4] * 3
        assert layer.bias.data.tolist() == ([3] * 3 if size == 1 else [3, 6, 9])


@pytest.mark.parametrize(("batch", "accepted"), [(-1, {0, -1}), (2, {0, -1, 2})])
def test_the_number_of_images_stays_as_it_is(batch, accepted):
    for number in (-2, -1, 0, 1, 2):
        if number in accepted:
            assert convert("Reshape", MAP, integers(number, 120), network=Network(batch))[2].shape == (120,)
        else:
            with pytest.raises(ValueError, match="it makes"):
                convert("Reshape", MAP, integers(number, 120), network=Network(batch))
