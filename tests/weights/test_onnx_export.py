"""Networks written as ONNX give minifcn's numbers in onnxruntime."""

import inspect
import json
import sys

import numpy as np
import pytest

import minifcn as mf
from minifcn import layers
from minifcn.cli import main
from minifcn.functional.resizing import interpolate
from minifcn.layers import config
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier
from minifcn.models.scoring import ScoreLayer
from minifcn.weights import OnnxGraph, onnx_export, save_onnx
from minifcn.weights.onnx_nodes import LAYERS, Exporter
from tests.models.test_flow import LARGE, SMALL, every_network
from tests.models.trunks import normal, randomised
from tests.weights.onnx_sessions import assert_same_scores, onnx, run, session

BGR = Preprocessing("BGR", (104.0, 116.5, 122.7), (57.0, 58.0, 59.0))


def images(*shape):
    return normal(shape).astype("float32")


def check_sizes(model, folder, *sizes, dtype="float32"):
    """Compare scores with those of the network in a dtype: in float32, both sides round."""
    model.eval()
    save_onnx(model, folder / "fcn.onnx")
    opened = session(folder / "fcn.onnx")
    model.astype(dtype)
    for size in sizes:
        x = images(1, model.channels, *size)
        expected = model(x.astype(dtype)).astype("float32")
        assert_same_scores(opened.run(None, {"images": x})[0], expected)


@every_network
def test_fcns(make, tmp_path):
    check_sizes(make(), tmp_path, (1, 1), (33, 47))


@pytest.mark.slow
@every_network
def test_fcns_of_large_images(make, tmp_path):
    check_sizes(make(), tmp_path, (240, 320), (331, 205), dtype="float64")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE or name == "googlenet"))
        for name in SMALL | LARGE
    ],
)
def test_classifiers(name, tmp_path):
    model = (SMALL | LARGE)[name][0]().eval()
    x = images(2, *model.input_shape)
    save_onnx(model, tmp_path / "classifier.onnx")
    exact = model.astype("float64")(x.astype("float64")).astype("float32")
    assert_same_scores(run(tmp_path / "classifier.onnx", x), exact)


def test_a_convolutionalized_classifier_and_learned_upsampling(tmp_path):
    model = digit_classifier(rng=0).eval()
    sliding = mf.convolutionalize(model, model.input_shape)
    save_onnx(sliding, tmp_path / "sliding.onnx")
    x = images(3, 1, 40, 57)
    assert_same_scores(run(tmp_path / "sliding.onnx", x), sliding(x))
    fcn = randomised(FCN(model, 4, 2, upsampling="learned"))
    for upsample in fcn.upsamples:
        upsample.deconv.weight.data += images(*upsample.deconv.weight.data.shape)
    save_onnx(fcn, tmp_path / "fcn.onnx")
    assert_same_scores(run(tmp_path / "fcn.onnx", x), fcn(x))


def test_every_leaf_of_minifcn_has_an_entry():
    known = config._classes.values()  # of them, those of doctests are in no module
    own = [cls for cls in known if hasattr(sys.modules[cls.__module__], cls.__name__)]
    own = [cls for cls in own if cls.__module__.startswith("minifcn.")]
    composite = {cls for cls in own if cls.walk is not layers.Layer.walk or cls is layers.LayerDict}
    assert {cls for cls in own if cls not in composite} == set(LAYERS)
    assert all(inspect.isfunction(make) for make in LAYERS.values())


def altered(layer):
    """Set random parameters and buffers, the variances positive."""
    for array in layer.state_dict().values():
        array[...] = abs(images(*array.shape)) + 0.1
    return layer


LEAVES = [
    layers.Conv2d(4, 6, (3, 2), (2, 1), ((0, 1), (2, 1)), (1, 2), 2, rng=0),
    layers.Conv2d(4, 6, 1, bias=False, rng=0),
    layers.ConvTranspose2d(4, 6, 3, 2, ((0, 1), (1, 0)), (1, 0), 2, dilation=(1, 2), rng=0),
    layers.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=1.5),
    layers.LocalResponseNorm(11, alpha=2.0),  # more channels than there are
    layers.ChannelShuffle(2),
    layers.ChannelSlice(1, 3),
    layers.AvgPool2d(3, 2, ((1, 0), (0, 1)), count_include_pad=False),
    layers.Dropout(rng=0),
    layers.GlobalAvgPool2d(),
    altered(layers.BatchNorm2d(4, eps=0.3)),
    altered(layers.GroupNorm(2, 4, eps=0.3)),
    altered(layers.GroupNorm(4, 4)),
    altered(layers.PReLU(4)),
    altered(layers.PReLU()),
    layers.LeakyReLU(0.3),
    layers.ReLU(),
    layers.ReLU6(),
    layers.Hardtanh(-0.5, None),
    layers.Hardtanh(None, 0.25),
    layers.Sigmoid(),
    layers.SiLU(),
    layers.Hardsigmoid(),
    layers.Hardswish(),
    layers.Multiply(layers.Sequential(), layers.GlobalAvgPool2d()),
    *(
        layers.Upsample(mode=mode, align_corners=align, **size)
        for mode, align in (("nearest", False), ("bilinear", False), ("bilinear", True))
        for size in ({"size": (13, 8)}, {"size": (4, 21)}, {"scale_factor": 2}, {"scale_factor": (1.5, 0.7)})
    ),
    layers.Upsample((1, 2), mode="bilinear"),
]
VECTORS = [
    altered(layers.BatchNorm1d(6)),
    altered(layers.PReLU(6)),
    altered(layers.PReLU()),
    layers.Hardswish(),
]


@pytest.mark.parametrize("layer", LEAVES, ids=lambda layer: repr(layer).replace("\n", ""))
def test_layers(layer, tmp_path):
    x = images(2, 4, 9, 8)
    layer = layers.Sequential(layers.Conv2d(4, 4, 1, rng=0), layer).eval()
    save_onnx(layer, tmp_path / "layer.onnx")
    assert_same_scores(run(tmp_path / "layer.onnx", x), layer(x))


@pytest.mark.parametrize("layer", VECTORS, ids=repr)
def test_layers_of_vectors(layer, tmp_path):
    dense = layers.Sequential(layers.Linear(4 * 9 * 8, 6, bias=False, rng=0), layer)
    features = layers.Sequential(layers.Conv2d(4, 4, 1, rng=0))
    model = Classifier(features, dense, input_shape=(4, 9, 8)).eval()
    save_onnx(model, tmp_path / "layer.onnx")
    x = images(2, 4, 9, 8)
    assert_same_scores(run(tmp_path / "layer.onnx", x), model(x))


@pytest.mark.parametrize("seed", range(40))
def test_pools_that_round_up_and_pad(seed, tmp_path):
    rng = np.random.default_rng(seed)
    kernel, stride = rng.integers(1, 5, (2, 2)).tolist()
    padding = [rng.integers(0, side // 2 + 1, 2).tolist() for side in kernel]
    kind = (layers.MaxPool2d, layers.AvgPool2d)[seed % 2]
    pool = kind(kernel, stride, padding, ceil_mode=bool(seed % 4 // 2)).eval()
    x = images(1, 2, *rng.integers(4, 12, 2))
    save_onnx(pool, tmp_path / "pool.onnx")
    assert_same_scores(run(tmp_path / "pool.onnx", x), pool(x))


class Arithmetic(layers.Layer):
    """Pads below by what becomes of the height."""

    def __init__(self, rows):
        self.rows = rows

    def walk(self, visitor, x):
        rows, _ = visitor.size(x)
        return visitor.pad(x, (0, self.rows(visitor, rows), 0, 0))

    def output_shape(self, shape):
        return shape


@pytest.mark.parametrize(
    "rows",
    [
        lambda _, rows: (rows - 7) // 3 + 3,
        lambda _, rows: (5 - rows * 2) // 4 + 6,
        lambda visitor, rows: visitor.maximum(rows - 6, 0) + visitor.minimum(9 - rows, 3),
    ],
)
def test_arithmetic_of_sizes_is_pythons(rows, tmp_path):
    save_onnx(Arithmetic(rows), tmp_path / "sizes.onnx")
    opened = session(tmp_path / "sizes.onnx")
    for height in range(1, 9):
        (y,) = opened.run(None, {"images": images(1, 1, height, 2)})
        assert y.shape[2] == height + rows(layers.Visitor(), height)


class Doubled(layers.Layer):
    def walk(self, visitor, x):
        rows, cols = visitor.size(x)
        return visitor.resize(x, (rows * 2, cols + 3))

    def output_shape(self, shape):
        return shape


def test_resizing_to_a_size_that_follows_from_the_image(tmp_path):
    save_onnx(Doubled(), tmp_path / "resized.onnx")
    for size in ((1, 1), (4, 7)):
        x = images(2, 3, *size)
        expected = interpolate(x, (size[0] * 2, size[1] + 3), "bilinear")
        assert_same_scores(run(tmp_path / "resized.onnx", x), expected)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("preprocessing", [BGR, Preprocessing("RGB", BGR.mean, BGR.std)])
def test_preprocessing_and_argmax_inside(layout, preprocessing, tmp_path):
    rng = np.random.default_rng(0)
    features = layers.Sequential(layers.Conv2d(3, 4, 3, padding=1, rng=0), layers.MaxPool2d(2))
    scores = layers.Sequential(layers.Linear(4 * 16, 5, rng=1))
    fcn = randomised(FCN(Classifier(features, scores, input_shape=(3, 8, 8)), 3)).eval()
    fcn.info = ModelInfo(("sky", "cat", "tree"), preprocessing)
    photographs = rng.integers(0, 256, (2, 9, 13, 3), np.uint8)
    expected = fcn(preprocessing(photographs))
    given = photographs if layout == "NHWC" else photographs.transpose(0, 3, 1, 2)
    save_onnx(fcn, tmp_path / "scores.onnx", preprocessing=layout)
    assert_same_scores(run(tmp_path / "scores.onnx", given), expected)
    save_onnx(fcn, tmp_path / "labels.onnx", preprocessing=layout, argmax=True)
    labels = run(tmp_path / "labels.onnx", given)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected.argmax(axis=1))


def test_argmax_of_a_classifier_with_many_classes(tmp_path):
    model = digit_classifier(300, rng=0).eval()
    x = images(4, 1, 32, 32)
    save_onnx(model, tmp_path / "labels.onnx", argmax=True)
    labels = run(tmp_path / "labels.onnx", x)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, model(x).argmax(axis=1))


def digits(path):
    fcn = randomised(FCN(digit_classifier(rng=0), 3, 4))
    fcn.info = ModelInfo(("none", "Größe", "c"), Preprocessing("L", (128.0,), (64.0,)))
    mf.save(fcn, path)
    return mf.load(path)


def test_metadata(tmp_path):
    fcn = digits(tmp_path / "model.safetensors")
    save_onnx(fcn, tmp_path / "model.onnx")
    texts = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert ModelInfo.from_dict({key: json.loads(text) for key, text in texts.items()}) == fcn.info
    model = onnx.load(tmp_path / "model.onnx")
    assert model.opset_import[0].version == onnx_export.OPSET
    names = {weight.name for weight in model.graph.initializer}
    assert set(fcn.state_dict()) <= names


def test_command(tmp_path, capsys):
    fcn = digits(tmp_path / "model.safetensors")
    x = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 1), np.uint8)
    out = tmp_path / "labels.onnx"
    command = ["export", str(tmp_path / "model.safetensors"), str(out), "--preprocessing", "NHWC", "--argmax"]
    assert main(command) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert np.array_equal(run(out, x), fcn(fcn.info.preprocessing(x)).argmax(axis=1))
    assert main(["export", str(tmp_path / "model.safetensors"), str(tmp_path / "labels.pb")]) == 2
    assert "labels.onnx" in capsys.readouterr().err


def test_the_same_model_gives_the_same_bytes_whatever_its_mode(tmp_path):
    fcn = digits(tmp_path / "model.safetensors")
    for name, model in (("a", fcn), ("b", fcn.train()), ("c", fcn.astype("float64"))):
        save_onnx(model, tmp_path / f"{name}.onnx")
    a, b, c = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert a == b == c


class Halved(layers.Conv2d):
    """A subclass that computes something else."""

    def forward(self, x):
        return super().forward(x) / 2


class Negative(layers.Pointwise):
    def forward(self, x):
        return -3 * x

    def to_onnx(self, graph, x):
        return graph.node("Mul", graph.node("Neg", x), graph.constant(3.0))


def test_layers_of_ones_own(tmp_path):
    with pytest.raises(ValueError, match=r"Halved.*to_onnx"):
        save_onnx(layers.Sequential(Halved(1, 1, 1, rng=0)), tmp_path / "own.onnx")
    assert not list(tmp_path.iterdir())
    save_onnx(Negative(), tmp_path / "own.onnx")
    x = images(1, 2, 3, 4)
    assert np.array_equal(run(tmp_path / "own.onnx", x), -3 * x)


def test_refusals(tmp_path, monkeypatch):
    model = digit_classifier(rng=0)
    with pytest.raises(TypeError, match="model must be a layer, got dict"):
        save_onnx({}, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a\.pth.*a\.onnx"):
        save_onnx(model, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"preprocessing must be .*NHWC.*got 'CHW'"):
        save_onnx(model, tmp_path / "a.onnx", preprocessing="CHW")
    with pytest.raises(ValueError, match=r"preprocessing must be None .* info, got 'NHWC'"):
        save_onnx(model, tmp_path / "a.onnx", preprocessing="NHWC")
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"a\.onnx would have .* 2 GB"):
        save_onnx(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 2048, 2049])
def test_networks_for_images_of_up_to_2048_pixels(size, tmp_path):
    network = layers.Sequential(layers.MaxPool2d((size, 1)))
    if size > 2048:
        with pytest.raises(ValueError, match="Sequential takes no images"):
            save_onnx(network, tmp_path / "a.onnx")
    else:
        save_onnx(network, tmp_path / "a.onnx")
        value = onnx.load(str(tmp_path / "a.onnx")).graph.input[0].type.tensor_type
        assert [dim.dim_param for dim in value.shape.dim] == ["N", "C", "H", "W"]


def test_the_largest_file(tmp_path, monkeypatch):
    assert onnx_export._MAX_BYTES < 2**31
    network = layers.Sequential(layers.ReLU())
    save_onnx(network, tmp_path / "a.onnx")
    size = (tmp_path / "a.onnx").stat().st_size
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", size)
    save_onnx(network, tmp_path / "b.onnx")
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"would have {size:,} bytes"):
        save_onnx(network, tmp_path / "c.onnx")


def test_equal_nodes_are_made_once():
    graph = OnnxGraph()
    assert graph.node("Relu", "x") == graph.node("Relu", "x") != graph.node("Relu", "y")
    assert graph.constant(2.0) == graph.constant(np.float32(2.0)) != graph.constant(3.0)
    assert len(graph.nodes) == len(graph.weights) == 2


@pytest.mark.parametrize(
    ("layer", "operators"),
    [
        (ScoreLayer(4, 3), ["Conv"]),
        (ScoreLayer(4, 3, scale=2.0), ["Mul", "Conv"]),
        (layers.Conv2d(4, 6, 3, padding=1, bias=False, rng=0), ["Conv"]),
        (layers.ConvTranspose2d(4, 6, 3, rng=0), ["ConvTranspose"]),
        (layers.Dropout(rng=0), []),
        (layers.PReLU(4), ["Reshape", "PRelu"]),
        (layers.Sequential(layers.Flatten(), layers.PReLU(4)), ["Flatten", "PRelu"]),
        (layers.SiLU(), ["Sigmoid", "Mul"]),
        (layers.MaxPool2d(2), ["MaxPool"]),
    ],
    ids=repr,
)
def test_no_more_operators_than_needed(layer, operators):
    exporter = Exporter({})
    layer.walk(exporter, "images")
    assert [node["op_type"] for node in exporter.nodes.values()] == operators
