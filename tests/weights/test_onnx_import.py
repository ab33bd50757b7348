"""Classifiers from ONNX files have the scores that onnxruntime computes."""

import json

import numpy as np
import pytest

import minifcn as mf
from minifcn import layers
from minifcn.cli import main
from minifcn.files import FileError
from minifcn.layers import Sequential
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier, explain
from minifcn.weights import load_onnx, save_onnx
from tests.models.test_flow import SMALL
from tests.models.trunks import normal
from tests.weights.onnx_sessions import assert_same_scores, onnx, run

helper, numpy_helper = onnx.helper, onnx.numpy_helper


class Builder:
    """A graph under construction; values are names, and arrays become initializers."""

    def __init__(self, shape=("N", 4, 12, 10), opset=17):
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights, self.outputs = [], [], []
        self.opset = opset
        self.input = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)

    def array(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(self, *shape):
        return self.array(self.rng.normal(size=shape).astype("float32"))

    def positive(self, *shape):
        return self.array(self.rng.uniform(0.5, 2, shape).astype("float32"))

    def ints(self, *values):
        return self.array(np.array(values, np.int64))

    def __call__(self, op, *inputs, domain="", **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def conv(self, x, channels_in=4, channels=4, kernel=3, **attributes):
        weight = self.random(channels, channels_in // attributes.get("group", 1), kernel, kernel)
        return self("Conv", x, weight, self.random(channels), **attributes)

    def head(self, x, channels=4):
        vector = self("Flatten", self("GlobalAveragePool", x))
        return self("Gemm", vector, self.random(5, channels), self.random(5), transB=1)

    def save(self, path, *outputs, **texts):
        given = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        for value in given:  # of any shape, which the checker accepts only if it is inferred
            value.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "net", [self.input], given, self.weights)
        versions = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.acme", 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        helper.set_model_props(model, texts)
        onnx.save(model, str(path))


def check(net, output, path, **options):
    """Compare scores with those of onnxruntime; return the classifier."""
    net.save(path, output)
    classifier = load_onnx(path, **options)
    x = normal((2, *classifier.input_shape)).astype("float32")
    assert_same_scores(classifier(x), run(path, x))
    return classifier


def grouped(net, x):
    """Group normalisation as PyTorch exports it."""
    y = net("Reshape", x, net.ints(0, 2, -1))
    y = net(
        "InstanceNormalization", y, net.array(np.ones(2, "f4")), net.array(np.zeros(2, "f4")), epsilon=0.3
    )
    y = net("Reshape", y, net("Shape", x))
    return net("Add", net("Mul", y, net.random(4, 1, 1)), net.random(4, 1, 1))


def normalised(net, x, channels=4):
    arrays = [net.random(channels) for _ in range(3)]
    return net("BatchNormalization", x, *arrays, net.positive(channels), epsilon=0.2)


def squeezed(net, x):
    gate = net.conv(net("GlobalAveragePool", x), kernel=1)
    return net("Mul", net("Sigmoid", gate), x)


def dense_gate(net, x, *viewed):
    """Squeeze-and-excitation by dense layers; `viewed` are operators that make a map of the vector."""
    vector = net("Squeeze", net("Squeeze", net("GlobalAveragePool", x), net.ints(3)), net.ints(2))
    inner = net("Relu", net("Gemm", vector, net.random(4, 3), net.random(3)))
    gate = net("Sigmoid", net("Add", net("MatMul", inner, net.random(3, 4)), net.random(4)))
    for op, axes in viewed or [("Reshape", [0, 4, 1, 1])]:
        gate = net(op, gate, net.ints(*axes))
    return net("Mul", x, gate)


def shuffled(net, x, groups):
    y = net("Reshape", x, net.ints(0, groups, 4 // groups, 12, 10))
    return net("Reshape", net("Transpose", y, perm=[0, 2, 1, 3, 4]), net.ints(-1, 4, 12, 10))


def parts(net, x):
    """The first part goes through a convolution, as in ShuffleNet v2, and the third is not used."""
    names = ["a", "b", "c"]
    net.nodes.append(helper.make_node("Split", [x, net.ints(1, 2, 1)], names, axis=1))
    return net("Concat", "b", net.conv("a", 1, 2, pads=[1, 1, 1, 1]), axis=1)


def number(value):
    return numpy_helper.from_array(np.float32([value]))


def padded(net, x, op, **attributes):
    y = net("Pad", x, net.ints(0, 0, 1, 0, 0, 0, 0, 1))
    return net.conv(y) if op == "Conv" else net(op, y, kernel_shape=[3, 3], **attributes)


def twice(net, y, *between, vector=False):
    a, b = (net(*between, y), net(*between, y)) if between else (y, y)
    return net("Add", net("Mul", a, net.random(4) if vector else net.random(4, 1, 1)), b)


def tensor(net, *shape):
    return numpy_helper.from_array(net.rng.normal(size=shape).astype("float32"))


MAPS = {
    "conv": lambda net, x: net.conv(x, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2], group=2),
    "conv without bias": lambda net, x: net("Conv", x, net.random(4, 4, 3, 2)),
    "depthwise": lambda net, x: net.conv(x, group=4),
    "same upper": lambda net, x: net.conv(x, kernel=4, strides=[2, 3], auto_pad="SAME_UPPER"),
    "same, pixels": lambda net, x: net.conv(x, kernel=1, strides=[2, 2], auto_pad="SAME_UPPER"),
    "same lower": lambda net, x: net.conv(x, kernel=4, strides=[3, 2], auto_pad="SAME_LOWER"),
    "valid": lambda net, x: net.conv(x, auto_pad="VALID", strides=[2, 2]),
    "transposed": lambda net, x: net(
        "ConvTranspose", x, net.random(4, 2, 3, 3), net.random(4), strides=[2, 3], pads=[1, 0, 2, 1], group=2,
        output_padding=[1, 2],
    ),
    "max pool": lambda net, x: net("MaxPool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 0, 1]),
    "max pool up": lambda net, x: net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average pool": lambda net, x: net("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average with padding": lambda net, x: net(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 0], count_include_pad=1
    ),
    "average of everything": lambda net, x: net("AveragePool", x, kernel_shape=[12, 10]),
    "pad before a convolution": lambda net, x: padded(net, x, "Conv"),
    "pad before padding SAME": lambda net, x: net(
        "Conv", net("Pad", x, net.ints(0, 0, 2, 1, 0, 0, 1, 2)), net.random(4, 4, 3, 3), strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    "pad before a pool": lambda net, x: padded(net, net("Relu", x), "MaxPool"),
    "pad before an average": lambda net, x: padded(net, x, "AveragePool"),
    "batch norm": normalised,
    "instance norm": lambda net, x: net("InstanceNormalization", x, net.random(4), net.random(4)),
    "group norm": grouped,
    "lrn": lambda net, x: net("LRN", x, size=3, alpha=0.3, beta=0.6, bias=1.5),
    "relu": lambda net, x: net("Relu", net.conv(x)),
    "relu6": lambda net, x: net("Clip", x, net.array(np.float32(0)), net.array(np.float32(6))),
    "clip": lambda net, x: net("Clip", x, net.array(np.float32(-0.5)), net.array(np.float32(0.75))),
    "clip below": lambda net, x: net("Clip", x, net.array(np.float32(0))),
    "no limits": lambda net, x: net("Clip", x),
    "leaky": lambda net, x: net("LeakyRelu", x, alpha=0.3),
    "prelu": lambda net, x: net("PRelu", x, net.random(4, 1, 1)),
    "prelu of one slope": lambda net, x: net("PRelu", x, net.random(1)),
    "sigmoid": lambda net, x: net("Sigmoid", x),
    "silu": lambda net, x: net("Mul", x, net("Sigmoid", x)),
    "hardsigmoid": lambda net, x: net("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hardswish": lambda net, x: net("HardSwish", x),
    "gate": squeezed,
    "gate of dense layers": dense_gate,
    "gate of dense layers, by Unsqueeze": lambda net, x: dense_gate(
        net, x, ("Unsqueeze", [2]), ("Unsqueeze", [3])
    ),
    "shuffled": lambda net, x: shuffled(net, x, 2),
    "parts": parts,
    "slice": lambda net, x: net.conv(
        net("Slice", x, net.ints(-3), net.ints(9), net.ints(1)), channels_in=3
    ),
    "average of pixels": lambda net, x: net(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "average of pixels, rounding up": lambda net, x: net(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1
    ),
    "average with padding SAME": lambda net, x: net(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 3], auto_pad="SAME_UPPER"
    ),
    "hardsigmoid of Keras": lambda net, x: net("HardSigmoid", x),
    "hardsigmoid after a convolution": lambda net, x: net("HardSigmoid", net.conv(x), alpha=0.3, beta=0.4),
    "shape of a constant": lambda net, x: net(
        "Conv", x, net("Reshape", net.random(64), net("Shape", net.random(4, 4, 2, 2)))
    ),
    "weights of one number": lambda net, x: net(
        "Conv", x, net("ConstantOfShape", net.ints(4, 4, 3, 3), value=number(0.25)), net.random(4)
    ),
    "sum": lambda net, x: net("Sum", x, net.conv(x, kernel=1), net("Relu", x)),
    "residual": lambda net, x: net("Add", x, net("Relu", net.conv(x, kernel=1))),
    "joined": lambda net, x: net.conv(net("Concat", x, net("Relu", x), axis=1), channels_in=8),
    "dropout": lambda net, x: net("Dropout", x, net.array(np.float32(0.4))),
    "identity": lambda net, x: net("Identity", net("Cast", x, to=1)),
    "nearest": lambda net, x: net(
        "Resize", x, "", net.array(np.float32([1, 1, 2, 3])), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    ),
    "bilinear": lambda net, x: net("Resize", x, "", "", net.ints(2, 4, 17, 11), mode="linear"),
    "scaled images": lambda net, x: net("Div", net("Sub", x, net.random(1, 4, 1, 1)), net.positive(4, 1, 1)),
    "turned": lambda net, x: net("Sub", net.array(np.float32(1)), x),
    "scale after a convolution": lambda net, x: net(
        "Add", net("Mul", net.conv(x), net.random(4, 1, 1)), net.random(1, 4, 1, 1)
    ),
    "scale of what is read twice": lambda net, x: twice(net, net.conv(x)),
    "scale behind two names": lambda net, x: twice(net, net.conv(x), "Identity"),
    "weights that are computed": lambda net, x: net(
        "Conv", x, net("Mul", net.random(4, 4, 3, 3), net.random(4, 1, 1, 1)), net("Identity", net.random(4))
    ),
    "weights in half precision": lambda net, x: net(
        "Conv", x, net("Cast", net.array(net.rng.normal(size=(4, 4, 1, 1)).astype("float16")), to=1)
    ),
    "a constant node": lambda net, x: net("Conv", x, net("Constant", value=tensor(net, 4, 4, 1, 1))),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:pool .* rounds up")
@pytest.mark.parametrize("name", MAPS)
def test_operators_on_maps(name, tmp_path):
    net = Builder()
    y = net.head(MAPS[name](net, "x"))
    classifier = check(net, y, tmp_path / "net.onnx")
    assert not classifier.training
    sliding = mf.convolutionalize(classifier, classifier.input_shape)
    x = normal((1, 4, 12, 10)).astype("float32")
    assert_same_scores(sliding(x)[:, :, 0, 0], classifier(x))


def flat(net, x):
    return net.conv(x, kernel=5, strides=[4, 4]), 4 * 2 * 2


HEADS = {
    "gemm": lambda net, v, n: net("Gemm", v, net.random(n, 5), net.random(1, 5), alpha=0.5, beta=2.0),
    "matmul": lambda net, v, n: net("Add", net("MatMul", v, net.random(n, 5)), net.random(5)),
    "matmul without bias": lambda net, v, n: net("MatMul", v, net.random(n, 5)),
    "transposed weights": lambda net, v, n: net("MatMul", v, net("Transpose", net.random(5, n), perm=[1, 0])),
    "two layers": lambda net, v, n: net(
        "Gemm", net("Relu", normalised(net, net("MatMul", v, net.random(n, 6)), 6)), net.random(6, 5)
    ),
    "vector activations": lambda net, v, n: net(
        "MatMul", net("PRelu", twice(net, net("MatMul", v, net.random(n, 4)), vector=True), net.random(4)),
        net.random(4, 5),
    ),
    "dropout": lambda net, v, n: net("MatMul", net("Dropout", v), net.random(n, 5)),
    "softmax": lambda net, v, n: net("Softmax", net("MatMul", v, net.random(n, 5)), axis=1),
    "softmax, identity": lambda net, v, n: net(
        "Identity", net("Softmax", net("MatMul", v, net.random(n, 5)), axis=1)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 1), (17, 1), (17, -3)])
def test_softmax_of_a_map_of_one_pixel(opset, axis, tmp_path):
    """The default of its axis was 1, and is -1 since opset 13, which is no use here."""
    net = Builder(opset=opset)
    y = net("GlobalAveragePool", net.conv("x", channels=5))
    net.save(tmp_path / "net.onnx", net("Softmax", y, **({} if axis is None else {"axis": axis})))
    scores = load_onnx(tmp_path / "net.onnx")(normal((2, 4, 12, 10)).astype("float32"))
    expected = run(tmp_path / "net.onnx", normal((2, 4, 12, 10)).astype("float32"))
    assert_same_scores(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), expected[:, :, 0, 0])


def test_softmax_over_another_axis_than_the_classes(tmp_path):
    net = Builder()
    y = net("GlobalAveragePool", net.conv("x", channels=5))
    net.save(tmp_path / "net.onnx", net("Softmax", y))
    with pytest.raises(FileError, match=r"Softmax .*classes"):
        load_onnx(tmp_path / "net.onnx")


def view(net, y, *size):
    """Flatten as PyTorch's `x.view(x.size(0), -1)` is exported."""
    batch = net("Unsqueeze", net("Gather", net("Shape", y), net.array(np.int64(0)), axis=0), net.ints(0))
    return net("Reshape", y, net("Concat", batch, net.ints(*size), axis=0))


FLATTENING = {
    "flatten": lambda net, y: net("Flatten", y, axis=1),
    "reshape": lambda net, y: net("Reshape", y, net.ints(0, -1)),
    "reshape to numbers": lambda net, y: net("Reshape", y, net.ints(-1, 16)),
    "view": lambda net, y: view(net, y, -1),
    "view of a size": lambda net, y: view(net, y, 16),
    "mean": lambda net, y: net("Reshape", net("ReduceMean", y, axes=[2, 3]), net.ints(-1, 4)),
    "mean of one axis less": lambda net, y: net("ReduceMean", y, axes=[-1, -2], keepdims=0),
    "squeeze": lambda net, y: net("Squeeze", net("GlobalAveragePool", y), net.ints(2, 3)),
    "mean with channels last": lambda net, y: net(
        "Reshape", net("Reshape", net("GlobalAveragePool", y), net.ints(0, 1, 1, 4)), net.ints(0, 4)
    ),
    "channels last": lambda net, y: net("Reshape", net("Transpose", y, perm=[0, 2, 3, 1]), net.ints(-1, 16)),
}


@pytest.mark.parametrize("flattening", FLATTENING)
@pytest.mark.parametrize("head", HEADS)
def test_dense_layers(flattening, head, tmp_path):
    net = Builder()
    y, n = flat(net, "x")
    vector = FLATTENING[flattening](net, y)
    n = 4 if "mean" in flattening or flattening == "squeeze" else n
    output = HEADS[head](net, vector, n)
    if "softmax" in head:
        (softmax,) = (node for node in net.nodes if node.op_type == "Softmax")
        net.save(tmp_path / "net.onnx", softmax.input[0])
        expected = run(tmp_path / "net.onnx", normal((2, 4, 12, 10)).astype("float32"))
        net.save(tmp_path / "net.onnx", output)
        classifier = load_onnx(tmp_path / "net.onnx")
        assert any("Softmax" in notice for notice in classifier.report.notices)
        assert_same_scores(classifier(normal((2, 4, 12, 10)).astype("float32")), expected)
    else:
        classifier = check(net, output, tmp_path / "net.onnx")
    x = normal((2, 4, 12, 10)).astype("float32")
    sliding = mf.convolutionalize(classifier, classifier.input_shape)
    assert_same_scores(sliding(x)[:, :, 0, 0], classifier(x))


ELEMENTS = {
    "BatchNormalization": lambda net, v: normalised(net, v, 16),
    "Mul": lambda net, v: net("Mul", v, net.random(16)),
    "PRelu": lambda net, v: net("PRelu", v, net.random(16)),
    "Concat": lambda net, v: net("Concat", v, net("Relu", v), axis=1),
}


@pytest.mark.parametrize("op", ELEMENTS)
def test_elements_of_a_map_that_was_flattened_with_channels_last_are_not_mixed_up(op, tmp_path):
    net = Builder()
    y, _ = flat(net, "x")
    vector = ELEMENTS[op](net, FLATTENING["channels last"](net, y))
    net.save(tmp_path / "net.onnx", net("MatMul", vector, net.random(32 if op == "Concat" else 16, 5)))
    with pytest.raises(FileError, match=op):
        load_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("pad", [False, True])
def test_channels_last_from_the_image_on(pad, tmp_path):
    net = Builder(("N", 12, 10, 4))
    x = net("Pad", net("Cast", "x", to=1), net.ints(0, 1, 2, 0, 0, 0, 1, 0)) if pad else "x"
    x = net("Transpose", x, perm=[0, 3, 1, 2])
    y = net("Transpose", net("Relu", net.conv(x, kernel=5, strides=[4, 4])), perm=[0, 2, 3, 1])
    y = net("Add", y, net.random(4))
    y = net("Concat", y, net("Sigmoid", y), axis=3)
    mean = net("ReduceMean", y, axes=[1, 2], keepdims=0)
    net.save(tmp_path / "net.onnx", net("MatMul", mean, net.random(8, 5)))
    classifier = load_onnx(tmp_path / "net.onnx")
    images = normal((2, 12, 10, 4)).astype("float32")
    assert_same_scores(classifier(images.transpose(0, 3, 1, 2)), run(tmp_path / "net.onnx", images))
    assert any("(N, H, W, C)" in notice for notice in classifier.report.notices)


@pytest.mark.parametrize("name", ["digit_classifier", "graph", "squeezenet1_1"])
def test_classifiers_of_minifcn_there_and_back(name, tmp_path):
    model = SMALL[name][0]().eval()
    classes = model.output_shape(model.input_shape)[0]
    channels = {1: ("L", (100.0,), (50.0,)), 3: ("BGR", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))}
    model.info = ModelInfo(
        [f"class {i}" for i in range(classes)], Preprocessing(*channels[model.input_shape[0]])
    )
    save_onnx(model, tmp_path / "net.onnx")
    again = load_onnx(tmp_path / "net.onnx")
    x = normal((2, *model.input_shape)).astype("float32")
    assert_same_scores(again(x), model(x))
    assert again.info == model.info
    assert sorted(array.shape for array in again.state_dict().values()) == sorted(
        array.shape for array in model.state_dict().values()
    )
    finest = min(model.taps)
    assert FCN(again, 3, finest).stride == finest


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_preprocessing_inside_the_file_is_not_done_twice(layout, tmp_path):
    features = Sequential(layers.Conv2d(3, 4, 3, rng=0))
    model = Classifier(features, Sequential(layers.Linear(4 * 36, 5, rng=1)), input_shape=(3, 8, 8)).eval()
    model.info = ModelInfo(tuple("abcde"), Preprocessing("RGB", (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)))
    save_onnx(model, tmp_path / "net.onnx", preprocessing=layout)
    again = load_onnx(tmp_path / "net.onnx")
    photographs = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = model(model.info.preprocessing(photographs))
    assert_same_scores(again(again.info.preprocessing(photographs)), expected)
    assert again.info.class_names == model.info.class_names
    with pytest.raises(FileError, match="3 channels"):
        load_onnx(tmp_path / "net.onnx", preprocessing=Preprocessing("L", (0.0,), (1.0,)))


def test_parts_and_taps(tmp_path):
    """Branches that meet again are one layer; the last map at each stride is a tap."""
    net = Builder()
    stem = net("Relu", net.conv("x", pads=[1, 1, 1, 1]))
    pooled = net("MaxPool", stem, kernel_shape=[2, 2], strides=[2, 2])
    both = net("Add", pooled, net.conv(pooled, pads=[1, 1, 1, 1]))
    last = net.conv(net("Relu", both), strides=[2, 2], pads=[1, 1, 1, 1])
    classifier = check(net, net.head(last), tmp_path / "net.onnx")
    assert isinstance(classifier.features, Sequential)
    names = ["conv2d_1", "relu_1", "maxpool2d_1", "add_1", "relu_2", "conv2d_3"]
    assert list(classifier.features.parts) == names
    assert [type(branch) for branch in classifier.features["add_1"]] == [Sequential, layers.Conv2d]
    assert list(classifier.classifier.parts) == ["globalavgpool2d_1", "flatten_1", "linear_1"]
    assert classifier.taps == {1: "relu_1", 2: "relu_2"}
    assert classifier.report.operators == {"Conv": 3, "Relu": 2, "MaxPool": 1, "Add": 1} | {
        "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1
    }  # fmt: skip
    explain(FCN(classifier, 3, 1), (30, 40))
    chain = Builder()
    y = chain("Relu", chain.conv("x"))
    classifier = check(chain, chain.head(y), tmp_path / "chain.onnx")
    assert isinstance(classifier.features, Sequential)
    assert classifier.features[1].inplace


def test_convolutions_as_scores(tmp_path):
    """SqueezeNet scores by a convolution before the average: it is not among the features."""
    net = Builder()
    y = net.conv(net("Dropout", net("Relu", net.conv("x"))), channels=5, kernel=1)
    classifier = check(net, net("Flatten", net("GlobalAveragePool", y)), tmp_path / "net.onnx")
    assert list(classifier.features.parts) == ["conv2d_1", "relu_1"]
    assert FCN(classifier, 2).score.in_channels == 4


def test_nothing_that_the_first_output_does_not_need_is_read(tmp_path):
    net = Builder()
    y = net.conv("x")
    output, other = net.head(y), net("Softplus", y)
    net.save(tmp_path / "net.onnx", output, other)
    classifier = load_onnx(tmp_path / "net.onnx")
    assert any("only the first output" in notice for notice in classifier.report.notices)
    assert [type(layer) for layer in classifier.features] == [layers.Conv2d]


def test_second_outputs_are_refused(tmp_path):
    net = Builder()
    net.nodes.append(helper.make_node("MaxPool", ["x"], ["a", "places"], kernel_shape=[2, 2]))
    net.save(tmp_path / "net.onnx", net.head(net("Add", "a", net("Cast", "places", to=1))))
    with pytest.raises(FileError, match=r"MaxPool .*more than one output"):
        load_onnx(tmp_path / "net.onnx")


def test_images_of_open_size(tmp_path):
    net = Builder(("N", 4, "H", "W"))
    output = net.head(net.conv("x", strides=[2, 2], auto_pad="SAME_UPPER"))
    net.save(tmp_path / "net.onnx", output)
    with pytest.raises(FileError, match=r"net\.onnx: size must be given"):
        load_onnx(tmp_path / "net.onnx")
    for size in ((12, 10), (13, 7)):
        classifier = check(net, output, tmp_path / "net.onnx", size=size)
        assert classifier.input_shape == (4, *size)
        assert any("SAME" in notice for notice in classifier.report.notices)
    fixed = Builder()
    fixed.save(tmp_path / "net.onnx", fixed.head("x"))
    with pytest.raises(FileError, match=r"size must be \(12, 10\).* got \(9, 10\)"):
        load_onnx(tmp_path / "net.onnx", size=(9, 10))


def test_class_names_and_preprocessing(tmp_path):
    net = Builder(("N", 3, 8, 8))
    net.save(tmp_path / "net.onnx", net.head(net.conv("x", channels_in=3)))
    assert load_onnx(tmp_path / "net.onnx").info is None
    rgb = Preprocessing("RGB", (127.5,) * 3, (127.5,) * 3)
    given = load_onnx(tmp_path / "net.onnx", preprocessing=rgb).info
    assert given == ModelInfo(tuple("01234"), rgb)
    names = ("a", "b", "c", "d", "e")
    assert load_onnx(tmp_path / "net.onnx", preprocessing=rgb, class_names=names).info.class_names == names
    with pytest.raises(FileError, match=r"5 classes.* 2 class names"):
        load_onnx(tmp_path / "net.onnx", preprocessing=rgb, class_names=names[:2])


REFUSED = {
    "Softplus 2 times, Erf, com.acme.Conv": lambda net, x: net(
        "Conv", net("Erf", net("Softplus", net("Softplus", x))), net.random(4, 4, 1, 1), domain="com.acme"
    ),
    r"Reshape \(.*2, 2, 10, 12": lambda net, x: net("Reshape", x, net.ints(0, 2, 2, 10, 12)),
    "AveragePool .*of Pad": lambda net, x: padded(net, x, "AveragePool", pads=[1, 1, 1, 1]),
    "Split .*channels": lambda net, x: net("Split", x, net.ints(12), axis=2),
    "Slice .*neighbouring": lambda net, x: net(
        "Slice", x, net.ints(0), net.ints(4), net.ints(1), net.ints(2)
    ),
    r"Slice .*stop must be an integer >= 4": lambda net, x: net(
        "Slice", x, net.ints(3), net.ints(3), net.ints(1)
    ),
    r"Unsqueeze .*1, 1, 1, 5": lambda net, x: net(
        "Unsqueeze", net("Unsqueeze", net.head(x), net.ints(1)), net.ints(1, 2)
    ),
    r"Reshape .*map of a vector": lambda net, x: net(
        "Reshape", net("MatMul", net("Flatten", x), net.random(480, 4)), net.ints(0, 4, 1, 1)
    ),
    "Squeeze .*12, 10": lambda net, x: net("Squeeze", x, net.ints(2)),
    "MaxPool .*Pad": lambda net, x: padded(net, x, "MaxPool"),
    "Relu .*Pad": lambda net, x: net("Relu", net("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1))),
    "Conv .*stride 12": lambda net, x: net.conv(x, kernel=4, strides=[11, 12], auto_pad="SAME_UPPER"),
    "ConvTranspose .*Pad": lambda net, x: net(
        "ConvTranspose", net("Pad", x, net.ints(0, 0, 1, 0, 0, 0, 0, 1)), net.random(4, 4, 3, 3)
    ),
    "Pad ": lambda net, x: net("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.array(np.float32(1))),
    "MaxPool .*dilations": lambda net, x: net("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2]),
    "Softmax": lambda net, x: net("Softmax", x, axis=1),
    "Resize .*nearest, half_pixel": lambda net, x: net("Resize", x, "", net.array(np.float32([1, 1, 2, 3]))),
    "Resize .*more than rows": lambda net, x: net(
        "Resize", x, "", net.array(np.float32([1, 2, 2, 3])), mode="linear"
    ),
    "Cast .*data type 7": lambda net, x: net("Cast", net("Cast", x, to=7), to=1),
    "Mul .*infinite": lambda net, x: net("Mul", x, net.array(np.float32(np.inf))),
    "Div .*infinite": lambda net, x: net("Div", x, net.array(np.float32(0))),
    "Div .*depends": lambda net, x: net("Div", net.array(np.float32(1)), x),
    "Sub .*both": lambda net, x: net("Sub", x, net("Relu", x)),
    "Mul .*each channel": lambda net, x: net("Mul", x, net.random(12, 10)),
    "Transpose .*0, 3, 2, 1": lambda net, x: net("Transpose", x, perm=[0, 3, 2, 1]),
    "Concat .*channels": lambda net, x: net("Concat", x, x, axis=2),
    "Conv .*16 of 16 values of input 1 are NaN": lambda net, x: net(
        "Conv", x, net.array(np.full((4, 4, 1, 1), np.nan, "f4"))
    ),
    "Conv .*depends": lambda net, x: net("Conv", x, x),
    "Add .*differ in shape": lambda net, x: net("Add", x, net.conv(x)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_layers_cannot_do_is_refused_by_name(message, tmp_path):
    net = Builder()
    net.save(tmp_path / "net.onnx", net.head(REFUSED[message](net, "x")))
    with pytest.raises(FileError, match=rf"net\.onnx: operators that are not known here: .*{message}"):
        load_onnx(tmp_path / "net.onnx")


def test_an_output_in_another_order_is_refused(tmp_path):
    """Its scores would be those of other classes."""
    net = Builder()
    y = net("Transpose", net.conv("x", kernel=5, strides=[4, 4]), perm=[0, 2, 3, 1])
    net.save(tmp_path / "net.onnx", net("Reshape", y, net.ints(-1, 16)))
    with pytest.raises(FileError, match=r"net\.onnx: .*channels last"):
        load_onnx(tmp_path / "net.onnx")


def test_an_output_that_is_padded_is_refused(tmp_path):
    net = Builder()
    net.save(
        tmp_path / "net.onnx", net("Pad", net("GlobalAveragePool", "x"), net.ints(0, 0, 0, 0, 0, 0, 1, 1))
    )
    with pytest.raises(FileError, match=r"net\.onnx: .*padded"):
        load_onnx(tmp_path / "net.onnx")


def test_external_data(tmp_path):
    net = Builder()
    net.save(tmp_path / "net.onnx", net.head(net.conv("x")))
    model = onnx.load(str(tmp_path / "net.onnx"))
    onnx.save(model, str(tmp_path / "net.onnx"), save_as_external_data=True, size_threshold=0)
    with pytest.raises(FileError, match=r"net\.onnx: .*external data"):
        load_onnx(tmp_path / "net.onnx")


def test_no_classifiers(tmp_path):
    net = Builder()
    net.save(tmp_path / "net.onnx", net.conv("x"))
    with pytest.raises(FileError, match=r"its output is \(4, 10, 8\)"):
        load_onnx(tmp_path / "net.onnx")
    pooled = Builder()
    pooled.save(tmp_path / "net.onnx", pooled("GlobalAveragePool", "x"))
    with pytest.raises(FileError, match="no layer at its end"):
        load_onnx(tmp_path / "net.onnx")
    save_onnx(FCN(digit_classifier(rng=0), 3), tmp_path / "net.onnx")
    with pytest.raises(FileError, match="size must be given"):
        load_onnx(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(FileError, match="not an ONNX file"):
        load_onnx(tmp_path / "net.onnx")


def test_commands(tmp_path, capsys):
    net = Builder(("N", 3, "H", "W"))
    y = net("Relu", net.conv("x", channels_in=3, strides=[2, 2], auto_pad="SAME_UPPER"))
    net.save(tmp_path / "net.onnx", net.head(net("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])))
    source, target = str(tmp_path / "net.onnx"), str(tmp_path / "net.safetensors")
    assert main(["weights", "inspect", source]) == 2
    assert "net.onnx: --size must be given" in capsys.readouterr().err
    assert main(["weights", "inspect", source, "--size", "20x16"]) == 0
    said = capsys.readouterr().out
    for text in (
        "ONNX, a classifier of 5 classes",
        "Conv 1, Relu 1",
        "3 channels, 20 x 16",
        "strides 2",
        "SAME",
    ):
        assert text in said
    convert = ["weights", "convert", source, target, "--size", "20x16"]
    assert main(convert) == 2
    assert "give --preprocessing" in capsys.readouterr().err
    assert main([*convert, "--preprocessing", "torchvision", "--partial"]) == 2
    assert main([*convert, "--preprocessing", "torchvision"]) == 0
    assert f"wrote {target}" in capsys.readouterr().out
    x = normal((1, 3, 16, 20)).astype("float32")
    assert_same_scores(mf.load(target)(x), run(source, x))
    assert main(["weights", "convert", target, str(tmp_path / "b.safetensors"), "--size", "20x16"]) == 2
    assert main(["weights", "convert", source, source]) == 2


def test_from_a_file_of_others_to_a_file_for_others(tmp_path):
    """Imported, made an FCN, trained a few steps, saved, loaded, exported, and run by onnxruntime."""
    net = Builder(("N", 3, 16, 16))
    y = net("Relu", net.conv("x", channels_in=3, channels=8, pads=[1, 1, 1, 1]))
    y = net("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    branch = net("Relu", normalised(net, net.conv(y, 8, 8, pads=[1, 1, 1, 1]), 8))
    y = net("MaxPool", net("Add", y, branch), kernel_shape=[2, 2], strides=[2, 2])
    net.save(tmp_path / "net.onnx", net.head(y, 8))
    rgb = Preprocessing("RGB", (127.5,) * 3, (60.0,) * 3)
    fcn = FCN(load_onnx(tmp_path / "net.onnx", preprocessing=rgb), 3, stride=1)
    fcn.info = ModelInfo(("left", "middle", "right"), rgb)

    photographs = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    labels = np.repeat(np.arange(30, dtype=np.uint8)[None, None] // 10, 20, axis=1).repeat(2, axis=0)
    x = rgb(photographs)
    optimizer, losses = mf.optim.Adam(fcn, lr=1e-3), []
    for _ in range(5):
        loss, dscores = mf.losses.softmax_cross_entropy(fcn.train()(x), labels)
        fcn.backward_parameters(dscores)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    assert losses[-1] < losses[0]

    mf.save(fcn, tmp_path / "fcn.safetensors")
    save_onnx(mf.load(tmp_path / "fcn.safetensors"), tmp_path / "fcn.onnx", preprocessing="NHWC")
    scores = run(tmp_path / "fcn.onnx", photographs)
    assert_same_scores(scores, fcn.eval()(x))
    assert scores.argmax(axis=1).any()
    assert json.loads(
        {p.key: p.value for p in onnx.load(tmp_path / "fcn.onnx").metadata_props}["class_names"]
    )
