"""Networks of named nodes."""

import weakref

import numpy as np
import pytest

from minifcn import convolutionalize
from minifcn.checks import check_gradient
from minifcn.geometry import CoordinateMap
from minifcn.layers import (
    AvgPool2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    Hardsigmoid,
    Layer,
    Linear,
    MaxPool2d,
    Multiply,
    ReLU,
    Sequential,
)
from minifcn.layers.joints import joint_map, joint_shape
from minifcn.models import FCN, Classifier, explain
from tests.models.trunks import randomised
from tests.visitors import Computing, Size, Symbolic


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


def excitation(channels=3, seed=0, *, gate_first=True):
    """Squeeze-and-excitation: each channel is multiplied by a gate that its global average decides on."""
    rng = np.random.default_rng(seed)
    factors = ("gate", "conv") if gate_first else ("conv", "gate")
    return Graph(
        {
            "conv": (Conv2d(channels, channels, 3, padding=1, rng=rng), "input"),
            "average": (GlobalAvgPool2d(), "conv"),
            "squeeze": (Conv2d(channels, 2, 1, rng=rng), "average"),
            "gate": (Conv2d(2, channels, 1, rng=rng), "squeeze"),
            "scaled": ("multiply", *factors),
        },
        output="scaled",
    )


@pytest.mark.parametrize("gate_first", [True, False])
def test_a_gate_multiplies_every_pixel(gate_first):
    block, x = excitation(gate_first=gate_first).astype("float64"), normal((2, 3, 4, 5))
    y = block.nodes["conv"][0](x)
    gate = block.nodes["gate"][0](block.nodes["squeeze"][0](y.mean(axis=(2, 3), keepdims=True)))
    assert np.allclose(block(x), np.broadcast_to(gate, y.shape) * y, rtol=1e-13)
    assert np.array_equal(block.eval().walk(Computing(), x), block(x))
    assert block.output_shape((3, 4, 5)) == (3, 4, 5)
    assert block.coordinate_map() == CoordinateMap()
    row = explain(block, (4, 5)).rows[-1]
    assert row.output_shape == (3, 4, 5)
    assert [view.field for view in row.views] == [6, 7]  # all of the image, through a kernel of 3
    assert {view.grid for view in row.views} == {CoordinateMap()}
    check_gradient(block.train(), x, rng=1)


def test_a_symbolic_visitor_gets_the_size_of_the_map_and_not_of_the_gate():
    height, width = excitation().walk(Symbolic(), (Size(lambda h, w: h), Size(lambda h, w: w)))
    assert (height.value(7, 9), width.value(7, 9)) == (7, 9)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1)])
def test_a_gate_for_other_channels_is_refused(shape):
    graph = Graph({"average": (GlobalAvgPool2d(), "input"), "m": ("multiply", "average", "input")}, "m")
    assert graph.output_shape((2, 4, 5)) == (2, 4, 5)
    with pytest.raises(ValueError, match=r"differ in shape: a \(2, 4, 5\), b"):
        joint_shape("m", "multiply", ["a", "b"], [(2, 4, 5), shape])
    with pytest.raises(ValueError, match=r"differ in shape"):
        joint_shape("m", "add", ["a", "b"], [(2, 4, 5), (2, 1, 1)])


def test_a_branch_that_sees_the_whole_input_has_no_place():
    gate = Sequential(GlobalAvgPool2d(), Conv2d(2, 2, 1, rng=0))
    with pytest.raises(ValueError, match="Sequential sees the whole input: it has no coordinate_map"):
        gate.coordinate_map()
    graph = Graph({"p": (MaxPool2d(2), "input"), "g": (gate, "p"), "m": ("multiply", "g", "p")}, "m")
    places = {"p": None, "g": 0}
    assert str(graph.coordinate_map(places)) == "2 i + 1/2" == str(places["p"])
    assert places["g"] is None
    with pytest.raises(ValueError, match="lie over one another: a at no place, b at 1 i"):
        joint_map("m", "add", ["a", "b"], [None, CoordinateMap()])


def gated_classifier():
    rng = np.random.default_rng(0)
    features = Sequential(
        Conv2d(1, 3, 3, padding=1, rng=rng), MaxPool2d(2), excitation(), ReLU(), MaxPool2d(2)
    )
    head = Sequential(Conv2d(3, 4, 1, rng=rng), ReLU(), Conv2d(4, 5, 1, rng=rng), GlobalAvgPool2d())
    return Classifier(features, head, input_shape=(1, 8, 8))


def test_an_fcn_of_a_network_with_gates_takes_images_of_every_size():
    model = gated_classifier()
    assert model.taps == {1: "0", 2: "3"}
    sliding = convolutionalize(model, (1, 8, 8)).astype("float64").eval()
    kinds = [type(layer) for layer in sliding.layers()]
    assert kinds.count(GlobalAvgPool2d) == 1  # that of the gate
    assert kinds.count(AvgPool2d) == 1
    x = normal((1, 1, 8, 8))
    assert np.allclose(sliding(x)[..., 0, 0], model.astype("float64").eval()(x), rtol=1e-12)
    assert sliding(normal((1, 1, 13, 22))).shape == (1, 5, 2, 4)
    fcn = randomised(FCN(model.train(), 3, stride=1).astype("float64"))
    check_gradient(fcn, normal((1, 1, 7, 10)), rng=1)
    assert explain(fcn, (7, 10)).rows[-1].output_shape == (3, 7, 10)


def test_a_gate_stays_global_where_the_trained_map_is_one_pixel():
    model = Sequential(excitation(), GlobalAvgPool2d())
    sliding = convolutionalize(model, (3, 1, 1))
    assert [type(layer) for layer in sliding[0].layers()].count(GlobalAvgPool2d) == 1


class Gated(Layer):
    """Squeeze-and-excitation as a class of its own, with a dense layer inside."""

    def __init__(self, channels):
        self.channels = channels
        self.average, self.dense = GlobalAvgPool2d(), Linear(channels, channels, rng=0)

    def forward(self, x):
        average = self.average(x)
        gate = self.dense(average[:, :, 0, 0])[:, :, None, None]
        y = x * gate
        self.keep(x, gate, output=y)
        return y

    def backward(self, dy):
        x, gate = self.recall(dy)
        dgate = self.dense.backward((dy * x).sum(axis=(2, 3)))[:, :, None, None]
        return dy * gate + self.average.backward(dgate)

    def output_shape(self, shape):
        return shape

    def coordinate_map(self):
        return CoordinateMap()


def test_what_is_inside_a_composite_that_makes_maps_of_maps_is_left_as_it_is():
    model = Sequential(Gated(2), Flatten(), Linear(2 * 4 * 4, 3, rng=0))
    sliding = convolutionalize(model, (2, 4, 4))
    assert [type(layer) for layer in sliding[0].layers()] == [Gated, GlobalAvgPool2d, Linear]
    assert sliding(np.ones((1, 2, 6, 7), np.float32)).shape == (1, 3, 3, 4)
    check_gradient(sliding.astype("float64"), normal((1, 2, 6, 7)), rng=1)


def test_a_composite_that_makes_scores_of_maps_is_not_converted():
    class Head(Gated):
        def output_shape(self, shape):
            return (shape[0],)

    class Average(Gated):
        def output_shape(self, shape):
            return (shape[0], 1, 1)

    for kind in (Head, Average):
        with pytest.raises(ValueError, match=rf"inside {kind.__name__}, .* a Graph may hold them"):
            convolutionalize(Sequential(kind(2)), (2, 4, 4))


def test_multiply_is_squeeze_and_excitation():
    gate = Sequential(
        GlobalAvgPool2d(), Conv2d(3, 2, 1, rng=0), ReLU(), Conv2d(2, 3, 1, rng=1), Hardsigmoid()
    )
    block = Multiply(Sequential(), gate=gate).astype("float64")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert np.array_equal(block(x), x * gate(x))
    check_gradient(block, x)
    assert block.coordinate_map() == CoordinateMap()
    assert list(block.state_dict()) == [f"gate.{i}.{name}" for i in (1, 3) for name in ("weight", "bias")]
    with pytest.raises(ValueError, match="Multiply reads maps that differ in shape"):
        Multiply(Sequential(), Conv2d(3, 2, 1, rng=0)).output_shape((3, 4, 5))
