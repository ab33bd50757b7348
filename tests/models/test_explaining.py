"""What `explain` predicts is compared with what happens."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn import convolutionalize
from minifcn.functional import bilinear_kernel
from minifcn.geometry import ConvGeometry
from minifcn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Parameter,
    ReLU,
    Sequential,
)
from minifcn.models import (
    FCN,
    AlignedUpsample,
    caffenet,
    digit_classifier,
    explain,
    googlenet,
    squeezenet1_0,
    vgg16,
)
from minifcn.models.googlenet import inception
from minifcn.models.squeezenet import Fire
from tests.models.trunks import digits, normal, squeezenet, vgg
from tests.visitors import Computing


@pytest.fixture(scope="module")
def vgg16_zeros():
    return vgg16(init="zeros")


def rows_of(model, size, **options):
    return {row.name: row for row in explain(model, size, **options).rows}


# Published values


def test_the_reference_network_in_numbers(vgg16_zeros):
    explanation = explain(FCN(vgg16_zeros, 21, alignment="paper"), (500, 500))
    rows = {row.name: row for row in explanation.rows}
    heights = [rows[f"features.{i}"].output_shape[1] for i in (0, 4, 9, 16, 23, 30)]
    assert heights == [698, 349, 175, 88, 44, 22]
    assert rows["head.0"].output_shape == (4096, 16, 16)
    assert explanation.rows[-1].output_shape == (21, 500, 500)
    upscore = rows["upsamples.32to1.deconv"].parameters
    assert upscore == 86_016
    assert explanation.total.parameters - upscore == 134_346_581
    # VGG16's own receptive field, 404 pixels wide, and one coarse step more for bilinear interpolation
    assert [view.field for view in rows["head.0"].views] == [404, 404]
    views = rows["upsamples.32to1.crop"].views
    assert [(view.field, view.grid.scale, view.grid.offset) for view in views] == [(436, 1, 0)] * 2


@pytest.mark.parametrize(
    ("size", "giga", "unpadded"),
    [((500, 500), 180.9, 89.1), ((375, 500), 146.3, 65.0), ((480, 640), 215.0, 109.0), (224, 62.7, 15.5)],
)
def test_multiplications_of_both_alignments(vgg16_zeros, size, giga, unpadded):
    paper = explain(FCN(vgg16_zeros, 21, alignment="paper"), size)
    assert paper.total.multiplications / 1e9 == pytest.approx(giga, abs=0.1)
    # The figure beside it is that of a network with padding 1 and unpadded dense layers; ours pads those.
    exact = FCN(vgg16_zeros, 21)
    exact.head["0"].geometry = ConvGeometry.of(7)
    assert explain(exact, size).total.multiplications / 1e9 == pytest.approx(unpadded, abs=0.1)
    padded = explain(FCN(vgg16_zeros, 21), size)
    assert padded.total.multiplications < 0.62 * paper.total.multiplications
    assert padded.total.activation_bytes < 0.62 * paper.total.activation_bytes


def test_parameters_of_the_score_layers(vgg16_zeros):
    rows = rows_of(FCN(vgg16_zeros, 21, 8), 500)
    assert [rows[name].parameters for name in ("score", "skips.16", "skips.8")] == [86_037, 10_773, 5_397]
    assert [rows[f"upsamples.{name}.deconv"].detail for name in ("32to16", "8to1")] == [
        "4x4, stride 2, depthwise, fixed",
        "16x16, stride 8, depthwise, fixed",
    ]


def test_any_size_is_explained(vgg16_zeros):
    explanation = explain(FCN(vgg16_zeros, 21, 8), 5000)
    assert explanation.rows[-1].output_shape == (21, 5000, 5000)
    assert explanation.total.multiplications > 1e13


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (vgg16, {"features.30": 212, "flatten": 404}),
        (caffenet, {"features.pool5": 195, "flatten": 355}),  # 355 is the paper's figure for AlexNet, too
        (googlenet, {"features.maxpool2": 27}),
    ],
)
def test_receptive_fields(make, fields):
    model = make(init="zeros")
    rows = rows_of(model, model.input_shape[1:])
    assert {name: rows[name].views[0].field for name in fields} == fields


# Predictions are compared with real passes


MODELS = {
    "vgg-8": lambda: FCN(vgg(), 2, 8),
    "vgg-16-paper": lambda: FCN(vgg(), 2, 16, alignment="paper"),
    "squeezenet-4-at-once": lambda: FCN(squeezenet(), 2, 4, at_once=True),
    "digits-2-learned": lambda: FCN(digits(), 2, 2, upsampling="learned"),
    "digits-frozen": lambda: FCN(digits(), 2, 2, at_once=True).freeze_trunk(),
    "digits-paper": lambda: FCN(digits(), 2, 2, alignment="paper"),
    "double": lambda: FCN(digits(), 2, 4).astype("float64"),
    "blocks": lambda: Sequential(
        Conv2d(1, 4, 3, stride=2, bias=False, rng=0),
        BatchNorm2d(4),
        ReLU(inplace=True),
        LocalResponseNorm(3),
        Fire(4, 2, 3, rng=0),
        inception(6, (1, 2, 3, 1, 2, 2), rng=0),
        Add(
            Conv2d(8, 6, 1, rng=0),
            Sequential(Conv2d(8, 6, 3, padding=1, groups=2, rng=0), ReLU(), Dropout(0.2, rng=0)),
        ),
        Concat(MaxPool2d(3, 1, padding=1), AvgPool2d(3, 1, padding=1)),
        ConvTranspose2d(12, 2, 4, stride=2, padding=1, rng=0),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(2, 3, rng=0),
    ),
}


def named_layers(layer, name=""):
    yield name, layer
    for part, child in layer.children():
        yield from named_layers(child, f"{name}.{part}" if name else part)


class Shapes(Computing):
    """Notes the shape of each leaf's and each joint's output."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def leaf(self, layer, x):
        return self.noted(super().leaf(layer, x))

    def add(self, *xs):
        return self.noted(super().add(*xs))

    def concat(self, *xs):
        return self.noted(super().concat(*xs))

    def pad(self, x, sides, mode="zeros"):
        return self.noted(super().pad(x, sides, mode)) if any(sides) else x

    def crop(self, x, sides):
        return self.noted(super().crop(x, sides)) if any(sides) else x

    def noted(self, y):
        self.shapes.append(y.shape[1:])
        return y


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@settings(max_examples=5)
@given(size=st.tuples(*[st.integers(1, 45)] * 2))
def test_shapes_are_those_of_a_forward_pass(make, size):
    model = make()
    if isinstance(model, Sequential):
        size = (size[0] + 3, size[1] + 3)
    rows = explain(model, size).rows
    visitor = Shapes()
    model.walk(visitor, normal((2, 1, *size)).astype(next(model.parameters()).data.dtype))
    assert [row.output_shape for row in rows] == visitor.shapes
    assert len({row.name for row in rows}) == len(rows)


def kept_by(model):
    """Return the arrays that layers keep, each once: a view counts as what it is a view of."""
    arrays, todo = {}, [layer._kept for layer in model.layers()]
    while todo:
        value = todo.pop()
        if isinstance(value, np.ndarray):
            while value.base is not None:
                value = value.base
            arrays[id(value)] = value
        elif isinstance(value, list | tuple):
            todo.extend(value)
    return arrays.values()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("size", [(33, 47), (64, 50)])
def test_bytes_kept_are_those_that_layers_keep(make, size):
    model = make().train()
    x = normal((2, 1, *size)).astype(next(model.parameters()).data.dtype)
    y = model(x)
    kept = [array for array in kept_by(model) if array is not x]
    small = sum(array.nbytes for array in kept if array.ndim == 1)  # a batch norm's deviations
    total = explain(model, size, batch=2).total
    assert total.activation_bytes == sum(array.nbytes for array in kept) - small
    assert y.nbytes == explain(model, size, batch=2).rows[-1].output_bytes


class Products(Computing):
    """Counts multiplications by what each array of weights meets: positions times its size."""

    products = 0

    def leaf(self, layer, x):
        y = super().leaf(layer, x)
        if isinstance(layer, Conv2d | ConvTranspose2d | Linear):
            small = x if isinstance(layer, ConvTranspose2d) else y
            self.products += layer.weight.data.size * math.prod(small.shape[2:])
        return y


def products_of(model, size):
    visitor = Products()
    model.eval().walk(visitor, normal((1, 1, *size)).astype(next(model.parameters()).data.dtype))
    return visitor.products


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_multiplications_are_those_of_every_weight_at_every_position(make):
    model = make()
    assert explain(model, (37, 41)).total.multiplications == products_of(model, (37, 41))
    assert explain(make(), (37, 41), batch=3).total.multiplications == 3 * products_of(make(), (37, 41))


@pytest.mark.parametrize("name", ["vgg-8", "squeezenet-4-at-once", "digits-2-learned"])
def test_fields_and_places_are_what_a_pixel_reaches(name):
    """Change one pixel: the scores that change are those whose field, about their place, holds it."""
    model = MODELS[name]().astype("float64").eval()
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[...] = rng.uniform(0.1, 1, parameter.data.shape)  # nothing is cut off by ReLU
    size = 120, 120
    explanation = {row.name: row for row in explain(model, size).rows}
    for pool in model.features.layers():
        if isinstance(pool, MaxPool2d):  # which would hide all but the largest pixel
            pool.forward = lambda x, pool=pool: AvgPool2d(
                pool.kernel_size, pool.stride, ceil_mode=True
            ).eval()(x)
    row = explanation[f"features.{list(model.features.parts)[-1]}"]
    x = np.ones((1, 1, *size))
    features = model.features(x)
    for pixel in (40, 61):
        changed = x.copy()
        changed[0, 0, pixel, pixel] += 1
        reached = np.flatnonzero((model.features(changed) != features)[0, 0].any(axis=1))
        view = row.views[0]
        half = (view.field - 1) / 2
        places = np.array([float(view.grid(i)) for i in range(features.shape[2])])
        assert reached.tolist() == np.flatnonzero(abs(places - pixel) <= half).tolist()


# Memory


def test_what_grows_with_the_batch_and_what_does_not():
    fcn = FCN(digit_classifier(rng=0), 11, 2)
    one, four = (explain(fcn, (50, 60), batch=batch).total for batch in (1, 4))
    assert four.activation_bytes == 4 * one.activation_bytes
    assert four.output_bytes == 4 * one.output_bytes
    assert four.weight_bytes == one.weight_bytes == sum(a.nbytes for a in fcn.state_dict().values())
    trained = sum(parameter.data.nbytes for parameter in fcn.parameters() if parameter.trainable)
    assert one.gradient_bytes == trained
    assert one.optimizer_bytes == {"SGD": trained, "Adam": 2 * trained}
    assert one.training_bytes["Adam"] - one.training_bytes["SGD"] == trained
    frozen = explain(fcn.freeze_trunk(), (50, 60)).total
    assert frozen.gradient_bytes == sum(layer.weight.data.nbytes + 44 for layer in fcn.score_layers())
    assert frozen.activation_bytes < one.activation_bytes / 3


# Custom layers


class Silent(Layer):
    """A layer that says nothing about its shape."""

    def forward(self, x):
        return x


class Weighted(Silent):
    """A layer with parameters, of whose products nobody knows."""

    def __init__(self):
        self.weight = Parameter(np.ones((2, 3), np.float32))

    def output_shape(self, shape):
        return shape


def test_a_layer_that_does_not_say_its_shape_is_named():
    with pytest.raises(ValueError, match=r"^1\.0: Silent\(\) does not say its output_shape$"):
        explain(Sequential(Conv2d(1, 2, 3, rng=0), Sequential(Silent())), 9)


def test_a_layer_whose_products_nobody_knows():
    explanation = explain(
        Sequential(first=Conv2d(1, 2, 3, rng=0), own=Weighted(), last=Conv2d(2, 2, 1, rng=0)), 9
    )
    own, last = explanation.rows[1:]
    assert (own.multiplications, own.parameters, own.views, last.views) == (None, 6, None, None)
    assert explanation.total.multiplications == 49 * (18 + 4)
    assert "without own" in str(explanation)


class Residual(Layer):
    """A block that calls its parts in an order of its own."""

    def __init__(self):
        self.conv = Conv2d(2, 2, 3, padding=1, rng=0)
        self.shortcut = Conv2d(2, 2, 1, rng=0)

    def output_shape(self, shape):
        return shape

    def walk(self, visitor, x):
        return visitor.add(visitor.visit(self.conv, x), self.shortcut.walk(visitor, x))


def test_a_block_of_ones_own_walks_through_its_parts():
    explanation = explain(Sequential(stem=Conv2d(1, 2, 3, rng=0), block=Residual()), 9)
    assert [row.name for row in explanation.rows] == ["stem", "block.conv", "block.shortcut", "block"]
    assert explanation.rows[-1].views[0].field == 5
    assert explanation.total.multiplications == 49 * (18 + 36 + 4)


def test_blocks_are_named_as_their_parameters_are():
    model = squeezenet1_0(init="zeros")
    names = {row.name for row in explain(model, 227).rows}
    layers = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    assert layers < names
    assert "features.12" in names  # where its branches are joined
    resized = FCN(digit_classifier(init="zeros"), 2, 4, alignment="torchvision")
    last = [row.name for row in explain(resized, 40).rows][-4:]
    assert last == ["skips.4", "upsamples.8to4", "add", "upsamples.4to1"]


def test_branches_that_do_not_lie_over_one_another_have_no_place():
    model = Sequential(
        Concat(Conv2d(1, 2, 3, rng=0), Sequential(Conv2d(1, 2, 2, rng=0), Conv2d(2, 2, 2, rng=0)))
    )
    assert explain(model, 9).rows[-1].views[0].field == 3
    model = Sequential(Concat(Conv2d(1, 2, 2, stride=2, rng=0), Conv2d(1, 2, 3, stride=2, padding=1, rng=0)))
    assert explain(model, 8).rows[-1].views is None


def test_kernels_that_are_not_square_are_seen_as_they_are():
    explanation = explain(Sequential(Conv2d(1, 2, (1, 7), stride=(1, 2), padding=(0, 3), rng=0)), (9, 20))
    rows, cols = explanation.rows[0].views
    assert (rows.field, cols.field) == (1, 7)
    assert (rows.grid.scale, cols.grid.scale) == (1, 2)
    assert "1 x 7" in str(explanation)


def test_upsampling_alone():
    grid = Conv2d(1, 3, 4, stride=4, rng=0).coordinate_map()
    layer = AlignedUpsample(3, grid, Conv2d(1, 1, 1, rng=0).coordinate_map())
    *_, deconv, row = explain(Sequential(conv=Conv2d(1, 3, 4, stride=4, rng=0), up=layer), (20, 24)).rows
    assert (row.name, row.output_shape) == ("up.crop", (3, 20, 24))
    assert (deconv.name, deconv.parameters) == ("up.deconv", bilinear_kernel(3, 4).size)
    assert [(view.field, view.grid.scale, view.grid.offset) for view in row.views] == [(8, 1, 0)] * 2


# What is refused


def test_sizes_that_do_not_fit():
    model = digit_classifier(rng=0)
    with pytest.raises(
        ValueError,
        match=r"takes images of its own size, 32 x 32 \(width x height\), and not 50 x 40: convolutionalize",
    ):
        explain(model, (40, 50))
    sliding = convolutionalize(model, (1, 32, 32))
    assert explain(sliding, (40, 50)).rows[-1].output_shape == (10, 2, 3)
    with pytest.raises(ValueError, match=r"^classifier\.0: kernel .* does not fit into height 2"):
        explain(sliding, (20, 50))
    for size in (0, (5,), "big", (3, -1), 2.5):
        with pytest.raises(ValueError, match="size must be"):
            explain(model, size)
    for batch in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="batch must be an integer >= 1, got "):
            explain(model, 32, batch=batch)
    with pytest.raises(ValueError, match="Sequential holds no convolution that says how many channels"):
        explain(Sequential(ReLU()), 8)


def test_a_size_that_alignment_paper_does_not_know():
    fcn = FCN(vgg(make_pool=AvgPool2d), 2, alignment="paper")  # average pools round down
    with pytest.raises(ValueError, match=r"^upsamples\.32to1: a map of .* cannot be cropped by .* 'exact'"):
        explain(fcn, (375, 500))
    with pytest.raises(ValueError, match="do not cover one another at the crop offset 19"):
        fcn(np.zeros((1, 1, 375, 64), np.float32))


# How it looks


def test_the_table():
    explanation = explain(FCN(digit_classifier(rng=0), 11, 2, alignment="paper"), (50, 75), batch=2)
    lines = str(explanation).splitlines()
    assert lines[0] == (
        "FCN of digit_classifier, stride 2, alignment paper: 2 images of 75 x 50 (width x height)"
    )
    table = lines[2 : 4 + len(explanation.rows)]
    assert set(table[1]) == {"-"}
    assert {len(line) for line in table} <= set(range(len(table[1]) + 1))
    ends = {line.find("  ", 40) for line in table[2:]}
    assert ends
    assert "features.0" in table[2]
    assert "Conv2d 3x3, padding 100" in table[2]
    assert "16 x 248 x 273" in table[2]
    said = "\n".join(lines)
    for words in ("parameters", "multiplications", "peak of inference", "peak of training, Adam", "MB"):
        assert words in said
