"""Networks of named nodes."""

import weakref

import numpy as np
import pytest

from minifcn import convolutionalize
from minifcn.checks import check_gradient
from minifcn.geometry import CoordinateMap
from minifcn.layers import (
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifcn.models import FCN, Classifier, explain
from tests.models.trunks import randomised
from tests.visitors import Computing


def conv(seed, channels=2, out=2):
    return Conv2d(channels, out, 3, padding=1, rng=seed)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def example():
    """Maps that are read two and three times, every joint, and nodes out of order."""
    return Graph(
        {
            "relu": (ReLU(inplace=True), "sum"),
            "a": (conv(0), "input"),
            "b": (conv(1), "a"),
            "product": ("multiply", "a", "b", "input"),
            "sum": ("add", "a", "product", "input"),
            "joined": ("concat", "relu", "b", "b"),
            "pool": (MaxPool2d(2), "joined"),
        },
        output="pool",
    ).astype("float64")


def test_values_are_those_of_the_formula():
    graph, x = example(), normal((2, 2, 4, 6))
    a = graph.nodes["a"][0](x)
    b = graph.nodes["b"][0](a)
    joined = np.concatenate([np.maximum(a + a * b * x + x, 0), b, b], axis=1)
    assert np.array_equal(graph(x), MaxPool2d(2)(joined))
    assert graph.output_shape((2, 4, 6)) == (6, 2, 3)
    assert str(graph.coordinate_map()) == "2 i + 1/2"
    assert {name for name, _ in graph.named_parameters()} == {"a.weight", "a.bias", "b.weight", "b.bias"}


def test_gradients_of_values_read_several_times_are_summed():
    check_gradient(example(), normal((2, 2, 4, 6)), rng=1)


def test_backward_parameters_gives_the_same_gradients():
    one, other, x = example(), example(), normal((2, 2, 4, 6))
    dy = normal(one(x).shape, 1)
    other(x)
    assert one.backward(dy).shape == x.shape
    assert other.backward_parameters(dy) is None
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert np.allclose(ours.grad, theirs.grad, rtol=1e-13)


def test_walk_is_forward():
    graph, x = example().eval(), normal((2, 2, 4, 6))
    assert np.array_equal(graph.walk(Computing(), x), graph(x))
    rows = {row.name: row for row in explain(Sequential(g=example()), (8, 6)).rows}
    assert rows["g.pool"].output_shape == (6, 4, 3)
    assert rows["g.pool"].views[0].field == 6


class Watch(Layer):
    """Returns x + 1, and records whether earlier arrays are still alive."""

    def __init__(self, watched):
        self.watched = watched

    def forward(self, x):
        self.alive = [one() is not None for one in self.watched]
        self.watched.append(weakref.ref(y := x + 1))
        return y


def test_values_are_released_after_their_last_reader():
    watched = []
    first, second, third = (Watch(watched) for _ in range(3))
    graph = Graph({"a": (first, "input"), "b": (second, "a"), "c": (third, "b")}, output="c").eval()
    graph(np.ones((1, 1, 2, 2)))
    assert third.alive == [False, True]


@pytest.mark.parametrize(
    ("nodes", "output", "said"),
    [
        ({"a": (ReLU(), "b"), "b": (ReLU(), "a")}, "a", "cycle: 'a' reads 'b' reads 'a'"),
        ({"a": (ReLU(), "nowhere")}, "a", "'a' reads 'nowhere'"),
        ({"a": (ReLU(), "input"), "b": (ReLU(), "a")}, "a", "'a' does not need the nodes 'b'"),
        ({"a": (ReLU(), "input")}, "c", "output 'c' is no node"),
        ({"a": (ReLU(), "input", "input")}, "a", "'a' is a layer, which reads one value"),
        ({"a": ("add",)}, "a", "'a' .add. reads one value or more"),
        ({"a.b": (ReLU(), "input")}, "a.b", "name of a node .* 'a.b'"),
        ({"input": (ReLU(), "input")}, "input", "name of a node .* 'input'"),
        (
            {"a": (conv(0), "input"), "r": (ReLU(inplace=True), "a"), "s": ("add", "a", "r")},
            "s",
            "'r' .* writes over 'a', and these nodes read it: 'r', 's'",
        ),
        (
            {"d": (Dropout(rng=0), "input"), "r": (ReLU(inplace=True), "d"), "s": ("add", "input", "r")},
            "s",
            "'r' .* writes over 'input', and these nodes read it: 'd', 's'",
        ),
        (
            {"q": (Sequential(ReLU(inplace=True)), "input"), "s": ("add", "input", "q")},
            "s",
            "'q' .* writes over 'input'",
        ),
    ],
)
def test_invalid_graphs_are_refused_by_name(nodes, output, said):
    with pytest.raises(ValueError, match=f"(?s){said}"):
        Graph(nodes, output)


def test_other_refusals():
    relu = ReLU()
    with pytest.raises(ValueError, match="'a' and 'b' share a layer"):
        Graph({"a": (relu, "input"), "b": (relu, "a")}, "b")
    with pytest.raises(TypeError, match="'a' must be a layer or one of add, multiply, concat, got 'divide'"):
        Graph({"a": ("divide", "input", "input")}, "a")
    graph = Graph({"p": (MaxPool2d(2), "input"), "s": ("add", "p", "input")}, "s")
    for attempt in (lambda: graph(np.ones((1, 1, 4, 4))), lambda: graph.output_shape((1, 4, 4))):
        with pytest.raises(ValueError, match=r"'s' \(add\) reads maps that differ .*p \(1, 2, 2\)"):
            attempt()
    with pytest.raises(ValueError, match=r"node 's' \(add\) do not lie over one another: p at 2 i"):
        graph.coordinate_map()


def dense_graph(seed=0):
    """A classifier in one graph, with two dense branches."""
    rng = np.random.default_rng(seed)
    return Graph(
        {
            "conv": (Conv2d(1, 3, 3, rng=rng), "input"),
            "flat": (Flatten(), "conv"),
            "one": (Linear(3 * 6 * 6, 4, rng=rng), "flat"),
            "other": (Linear(3 * 6 * 6, 4, rng=rng), "flat"),
            "sum": ("add", "one", "other"),
            "scores": (Linear(4, 5, rng=rng), "sum"),
        },
        output="scores",
    ).astype("float64")


def test_dense_nodes_become_convolutions():
    model, x = dense_graph(), normal((1, 1, 11, 9))
    sliding = convolutionalize(model, (1, 8, 8))
    assert "flat" not in sliding.nodes
    y = sliding(x)
    assert y.shape == (1, 5, 4, 2)
    assert np.allclose(y[:, :, 2, 1], model(x[:, :, 2:10, 1:9]), rtol=1e-12)


def graph_classifier(seed=0):
    rng = np.random.default_rng(seed)
    features = Graph(
        {
            "stem": (Conv2d(1, 3, 3, padding=1, rng=rng), "input"),
            "relu": (ReLU(inplace=True), "stem"),
            "pool": (MaxPool2d(2), "relu"),
            "conv": (Conv2d(3, 3, 3, padding=1, rng=rng), "pool"),
            "sum": ("add", "conv", "pool"),
            "last": (MaxPool2d(2), "sum"),
        },
        output="last",
    )
    head = Graph(
        {
            "average": (GlobalAvgPool2d(), "input"),
            "flat": (Flatten(), "average"),
            "hidden": (Linear(3, 4, rng=rng), "flat"),
            "active": (ReLU(), "hidden"),
            "scores": (Linear(4, 5, rng=rng), "active"),
        },
        output="scores",
    )
    return Classifier(features, head, input_shape=(1, 8, 8))


@pytest.mark.parametrize("alignment", ["exact", "paper"])
def test_an_fcn_taps_the_nodes_of_a_graph(alignment):
    model = graph_classifier()
    assert model.taps == {1: "relu", 2: "sum"}
    fcn = randomised(FCN(model, 3, stride=1, alignment=alignment).astype("float64"))
    assert list(fcn.head.nodes) == ["hidden", "active"]
    check_gradient(fcn, normal((1, 1, 7, 10)), rng=1)
    assert fcn.output_shape((1, 7, 10)) == (3, 7, 10)


def test_a_reader_of_a_tap_does_not_write_over_it():
    features = Graph(
        {
            "conv": (Conv2d(1, 2, 3, padding=1, rng=0), "input"),
            "drop": (Dropout(0.0, rng=0), "conv"),
            "relu": (ReLU(inplace=True), "drop"),
            "pool": (MaxPool2d(2), "relu"),
        },
        output="pool",
    )
    model = Classifier(features, Sequential(Linear(8, 3, rng=0)), input_shape=(1, 4, 4), taps={1: "conv"})
    assert not FCN(model, 2, stride=1).features.nodes["relu"][0].inplace
    assert features.nodes["relu"][0].inplace


def test_a_concat_reads_one_value_twice():
    graph = Graph({"a": ("concat", "input", "input")}, "a")
    assert graph.output_shape((2, 3, 3)) == Concat(ReLU(), ReLU()).output_shape((2, 3, 3)) == (4, 3, 3)
    assert graph.coordinate_map() == CoordinateMap()
