"""Graphs of ONNX files become nested layers that compute the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn import layers
from minifcn.layers import Add, Graph, Sequential, from_config, to_config
from minifcn.weights.series_parallel import nested
from tests.models.trunks import normal


def unneeded_left_out(nodes, output):
    needed = {output}
    for name in reversed(nodes):
        if name in needed:
            needed.update(nodes[name][1:])
    return {name: node for name, node in nodes.items() if name in needed}


@st.composite
def any_graphs(draw):
    """Draw nodes, each of which reads any value before it."""
    nodes, values = {}, ["input"]
    for i in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["add", "multiply", None, None]))
        many = draw(st.integers(1, 3)) if kind else 1
        reads = [draw(st.sampled_from(values[-4:])) for _ in range(many)]
        nodes[f"n{i}"] = (kind or layers.LeakyReLU(0.5 + i / 8), *reads)
        values.append(f"n{i}")
    return unneeded_left_out(nodes, values[-1]), values[-1]


@st.composite
def series_parallel_graphs(draw, nodes=None, start="input", depth=0):
    """Draw nodes by the two rules; return them with the last name."""
    nodes = {} if nodes is None else nodes
    value = start
    for _ in range(draw(st.integers(1 if depth == 0 else 0, 3))):
        if depth < 3 and draw(st.booleans()):
            count = draw(st.integers(2, 3))
            ends = [
                draw(series_parallel_graphs(nodes=nodes, start=value, depth=depth + 1))[1]
                for _ in range(count)
            ]
            node = (draw(st.sampled_from(["add", "concat"])), *ends)
        else:
            node = (layers.LeakyReLU(0.3), value)
        value = f"n{len(nodes)}"
        nodes[value] = node
    return nodes, value


def same_numbers(nodes, output, found):
    x = normal((2, 3, 2, 2)) / 4
    expected = Graph(nodes, output)
    with np.errstate(all="ignore"):  # products may be too large
        assert np.array_equal(found(x), expected(x), equal_nan=True)
        results = [network.backward(network(x)) for network in (found, expected)]
    assert np.allclose(*results, rtol=1e-12, equal_nan=True)


@given(any_graphs())
def test_any_graph_computes_the_same(graph):
    nodes, output = graph
    same_numbers(nodes, output, nested(nodes, output))


@given(series_parallel_graphs())
def test_series_parallel_graphs_need_no_graph(graph):
    nodes, output = graph
    found = nested(nodes, output)
    assert type(found) is Sequential
    assert Graph not in {type(layer) for layer in found.layers()}
    try:
        channels, *_ = Graph(nodes, output).output_shape((3, 2, 2))
    except ValueError:  # branches of different width are added
        return
    if channels < 1000:
        same_numbers(nodes, output, found)


def test_branches_inside_branches_are_limited():
    """A model file can hold the layers, and no recursion is too deep, however the graph is nested."""
    nodes, value = {}, "input"
    for i in range(2000):
        nodes[f"n{i}"] = ("add", value, "input")
        value = f"n{i}"
    found = nested(nodes, value)
    assert type(found) is Graph
    assert type(nested(dict(list(nodes.items())[:8]), "n7")) is Sequential
    assert type(nested(dict(list(nodes.items())[:9]), "n8")) is Graph
    assert from_config(to_config(found)).names() == found.names()
    same_numbers(nodes, value, found)


def test_a_bridge_stays_a_graph_around_what_can_be_nested():
    """Without the bridge from "a" to "c", it would be branches."""
    relu = lambda value: (layers.ReLU(), value)  # noqa: E731
    nodes = {"a": relu("input"), "b": relu("input"), "c": ("add", "a", "b"), "d": relu("c")}
    nodes |= {"e": ("add", "d", "c"), "f": ("concat", "a", "e")}
    found = nested(nodes, "f")
    assert isinstance(found, Graph)
    assert list(found.nodes) == ["a", "b", "c", "e", "f"]
    assert isinstance(found.nodes["e"][0], Add)
    same_numbers(nodes, "f", found)


@pytest.mark.parametrize("count", [1, 3])
def test_a_joint_reads_one_value_several_times_or_alone(count):
    nodes = {"a": (layers.ReLU(), "input"), "b": ("add", *["a"] * count), "c": (layers.ReLU(), "b")}
    found = nested(nodes, "c")
    assert list(found.parts) == ["a", "b", "c"]
    same_numbers(nodes, "c", found)
