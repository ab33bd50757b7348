"""`walk` visits layers in the order of `forward`, for every model and alignment."""

import numpy as np
import pytest

from minifcn.layers import BatchNorm2d, Conv2d, Graph, LayerDict, Linear, ReLU, Sequential
from minifcn.models import (
    FCN,
    Classifier,
    alexnet,
    build,
    caffenet,
    digit_classifier,
    googlenet,
    squeezenet1_0,
    squeezenet1_1,
    vgg16,
)
from minifcn.models.upsampling import TorchvisionUpsample
from tests.models.trunks import digits, normal, randomised, squeezenet, vgg
from tests.visitors import Computing, Size, Symbolic

# The windows of each family; where weights are many, the channels are few.


def residual_classifier(rng=0):
    """A network whose features are a graph."""
    rng = np.random.default_rng(rng)
    features = Graph(
        {
            "stem": (Conv2d(3, 4, 3, stride=2, padding=1, rng=rng), "input"),
            "norm": (BatchNorm2d(4), "stem"),
            "conv": (Conv2d(4, 4, 3, padding=1, rng=rng), "norm"),
            "sum": ("add", "conv", "norm"),
            "gate": ("multiply", "sum", "conv"),
            "joined": ("concat", "sum", "gate"),
            "relu": (ReLU(inplace=True), "joined"),
            "down": (Conv2d(8, 8, 3, stride=2, padding=1, rng=rng), "relu"),
        },
        output="down",
    )
    dense = Sequential(Linear(8 * 4 * 4, 6, rng=rng), ReLU(), Linear(6, 5, rng=rng))
    return Classifier(features, dense, input_shape=(3, 16, 16))


def of(make, *arguments, **options):
    return lambda: randomised(FCN(make(), *arguments, **options))


SMALL = {
    "vgg": (vgg, (32, 16, 8)),
    "squeezenet": (squeezenet, (16, 8, 4)),
    "digits": (digits, (8, 4, 2)),
    "digit_classifier": (lambda: digit_classifier(rng=0), (8, 2)),
    "squeezenet1_0": (lambda: squeezenet1_0(5, rng=0), (16, 4)),
    "squeezenet1_1": (lambda: squeezenet1_1(5, rng=0), (16, 4)),
    "googlenet": (lambda: googlenet(5, rng=0), (32, 8)),
    "graph": (residual_classifier, (4, 2)),
}
LARGE = {
    "alexnet": (lambda: alexnet(5, rng=0), (32,)),
    "caffenet": (lambda: caffenet(5, rng=0), (32,)),
    "vgg16": (lambda: vgg16(5, rng=0), (8,)),
}
NETWORKS = [
    pytest.param(
        of(make, 3, stride, alignment=alignment, at_once=alignment == "paper"),
        id=f"{name}-{stride}-{alignment}",
        marks=[pytest.mark.slow] * (name in LARGE),
    )
    for name, (make, strides) in (SMALL | LARGE).items()
    for stride in strides
    for alignment in ("exact", "paper")
]
NETWORKS += [
    pytest.param(of(make, 3, stride, alignment="torchvision"), id=f"{name}-{stride}-torchvision")
    for name, make, stride in (("vgg", vgg, 8), ("digits", digits, 8), ("graph", residual_classifier, 2))
]
NETWORKS += [
    pytest.param(of(lambda name=name: build(name, 5, rng=0), 3, 4), id=f"{name}-4-exact")
    for name in ("resnet18", "mobilenet_v2")
]
every_network = pytest.mark.parametrize("make", NETWORKS)


def leaves(model):
    """Return the layers that are not made of others; resizing is a joint."""
    parts = (layer for layer in model.layers() if not isinstance(layer, LayerDict | TorchvisionUpsample))
    return [layer for layer in parts if not list(layer.children())]


@every_network
def test_walk_is_forward_and_meets_each_leaf_once(make):
    model = make().astype("float64").eval()
    for size in ((19, 41), (64, 33)):
        x = normal((2, model.channels, *size))
        visitor = Computing()
        np.testing.assert_allclose(model.walk(visitor, x), model(x), rtol=1e-8, atol=1e-8)
        assert visitor.met == dict.fromkeys(leaves(model), 1)


@pytest.mark.parametrize("name", SMALL)
def test_classifiers_walk_as_they_score(name):
    model = SMALL[name][0]().astype("float64").eval()
    x = normal((2, *model.input_shape))
    visitor = Computing()
    np.testing.assert_allclose(model.walk(visitor, x), model(x), rtol=1e-8, atol=1e-8)
    assert visitor.met == dict.fromkeys(leaves(model), 1)


class Sizes(Computing):
    """Notes the size of each leaf's output."""

    def __init__(self):
        super().__init__()
        self.sizes = {}

    def leaf(self, layer, x):
        y = super().leaf(layer, x)
        self.sizes[layer] = y.shape[2:]
        return y


@every_network
def test_symbolic_sizes_pass_through(make):
    """One pass with sizes that cannot be compared gives the sizes of every layer for all images."""
    model = make().eval()
    symbolic = Symbolic()
    output = model.walk(symbolic, (Size(lambda height, width: height), Size(lambda height, width: width)))
    for size in ((1, 1), (19, 41), (50, 64)):
        assert tuple(side.value(*size) for side in output) == size
        real = Sizes()
        model.walk(real, normal((1, model.channels, *size)).astype("float32"))
        for layer, expected in real.sizes.items():
            assert tuple(side.value(*size) for side in symbolic.sizes[layer]) == expected
