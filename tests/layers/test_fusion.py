"""In evaluation a convolution includes the batch normalisation and the ReLU that follow it."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.layers import BatchNorm2d, Conv2d, Graph, MaxPool2d, ReLU, Sequential
from minifcn.layers.containers import fuse
from minifcn.models import explain

KINDS = ["conv", "conv", "grouped", "norm", "norm", "relu", "inplace", "pool"]
chains = st.lists(st.sampled_from(KINDS), max_size=9)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def norm(channels, seed):
    rng, layer = np.random.default_rng(seed), BatchNorm2d(channels).astype("float64")
    for array in (layer.weight, layer.bias, layer.running_mean):
        array.data[...] = rng.normal(size=channels)
    layer.running_var.data[...] = rng.uniform(0.1, 2, channels)
    return layer


def network(kinds, seed):
    """Return layers of these kinds, one after another, with 4 channels."""
    make = {
        "conv": lambda i: Conv2d(4, 4, 3, padding=1, bias=bool((seed + i) % 2), rng=i).astype("float64"),
        "grouped": lambda i: Conv2d(4, 4, (1, 3), padding=(0, 1), groups=2, rng=i).astype("float64"),
        "norm": lambda i: norm(4, seed + i),
        "relu": lambda _: ReLU(),
        "inplace": lambda _: ReLU(inplace=True),
        "pool": lambda _: MaxPool2d(3, 1, padding=1),
    }
    layers = [make[kind](i) for i, kind in enumerate(kinds)]
    for i, layer in enumerate(layers):
        if isinstance(layer, Conv2d) and layer.bias:
            layer.bias.data[...] = normal(4, i)
    return Sequential(*layers)


def one_by_one(net, x):
    values = []
    for layer in net:
        x = layer(x)
        values.append(x.copy())
    return values


@given(kinds=chains, seed=st.integers(0, 99), tapped=st.integers(0, 8))
def test_outputs_and_tapped_values_are_those_of_the_layers_one_by_one(kinds, seed, tapped):
    net, x = network(kinds, seed).eval(), normal((2, 4, 5, 6), seed)
    values = one_by_one(net, x.copy())
    taps = {str(tapped): None} if tapped < len(kinds) else {}
    y = net.forward(x.copy(), taps)
    assert np.allclose(y, values[-1] if values else x, rtol=1e-10, atol=1e-10)
    if taps and kinds[tapped + 1 : tapped + 2] != ["inplace"]:  # which writes over it
        assert np.allclose(taps[str(tapped)], values[tapped], rtol=1e-10, atol=1e-10)


@given(kinds=chains, seed=st.integers(0, 99))
def test_training_is_not_changed_by_an_evaluation_before_it(kinds, seed):
    net, x = network(kinds, seed), normal((2, 4, 5, 6), seed)
    other = copy.deepcopy(net)
    net.eval()(x.copy())
    y = net.train()(x.copy())
    expected = one_by_one(other, x.copy())
    assert np.array_equal(y, expected[-1] if expected else x)
    states = net.state_dict().values(), other.state_dict().values()
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


def names(net, taps=None):
    return [name for name, *_ in fuse(net.steps(), taps)]


def test_which_layers_are_fused():
    net = network(["conv", "norm", "relu", "norm", "conv", "relu", "pool"], 0).eval()
    assert names(net) == ["2", "3", "5", "6"]
    assert names(net, {"0": None}) == ["0", "1", "2", "3", "5", "6"]
    assert names(net, {"2": None}) == ["2", "3", "5", "6"]
    net[1].train()
    assert names(net) == ["0", "1", "2", "3", "5", "6"]


@pytest.mark.parametrize("method", ["forward", "keep"])
def test_a_layer_with_a_method_of_its_own_is_called(method):
    for replaced, expected in (("0", ["0", "1", "2"]), ("1", ["0", "1", "2"]), ("2", ["1", "2"])):
        net = network(["conv", "norm", "relu"], 0).eval()
        layer = net[replaced]
        setattr(layer, method, getattr(layer, method))
        assert names(net) == expected


class Doubled(Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_subclasses_compute_what_they_say():
    net = Sequential(Doubled(4, 4, 1, rng=0), ReLU()).astype("float64").eval()
    x = normal((1, 4, 3, 3))
    assert np.array_equal(net(x), one_by_one(net, x)[-1])


def test_a_value_with_two_readers_is_computed_by_itself():
    conv, relu = Conv2d(4, 4, 1, rng=0).astype("float64"), ReLU()
    nodes = {"conv": (conv, "input"), "relu": (relu, "conv"), "sum": ("add", "conv", "relu")}
    net, x = Graph(nodes, "sum").eval(), normal((1, 4, 3, 3))
    assert names(net) == ["conv", "relu", "sum"]
    assert np.allclose(net(x), conv(x) + relu(conv(x)), rtol=1e-12)


def test_a_normalisation_of_another_width_is_refused():
    net = Sequential(Conv2d(4, 6, 1, rng=0), BatchNorm2d(5)).eval()
    with pytest.raises(ValueError, match=r"BatchNorm2d\(5\).*6"):
        net(np.zeros((1, 4, 3, 3), np.float32))


def test_explain_marks_the_layers_that_are_not_run(monkeypatch):
    net = network(["conv", "norm", "relu", "norm", "conv", "relu", "pool"], 0)
    run = []

    def watch(cls):
        forward = cls.forward

        def watched(self, x):
            run.append(id(self))
            return forward(self, x)

        monkeypatch.setattr(cls, "forward", watched)

    watch(BatchNorm2d)
    watch(ReLU)
    net.eval()(normal((1, 4, 5, 6)))
    assert {name for name, layer in net.children() if id(layer) in run} == {"3"}
    explanation = explain(net.train(), (5, 6))
    assert {row.name for row in explanation.rows if row.fused} == {"1", "2", "5"}
    assert str(explanation).count("(fused)") == 3
