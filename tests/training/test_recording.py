"""Activations and gradients of each layer, compared with those of the layers called one by one."""

import numpy as np
import pytest

from minifcn.layers import Conv2d, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, digit_classifier
from minifcn.training import record


def network():
    layers = Sequential(Conv2d(1, 2, 3, rng=0), ReLU(), Sequential(pool=MaxPool2d(2)))
    return layers.astype("float64").train()


def test_the_values_are_those_of_the_layers_one_by_one():
    net, rng = network(), np.random.default_rng(0)
    x = rng.normal(size=(2, 1, 6, 6))
    y, outputs = x, []
    for layer in net:
        outputs.append(y := layer(y))
    dy, gradients = rng.normal(size=y.shape), []
    g = dy
    for layer in reversed(list(net)):
        gradients.insert(0, g)
        g = layer.backward(g)
    with record(net, np.copy) as seen:
        np.testing.assert_array_equal(net(x), y)
        np.testing.assert_array_equal(net.backward(dy), g)
    assert list(seen.outputs) == list(seen.gradients) == ["0", "1", "2.pool"]
    for name, output, gradient in zip(seen.outputs, outputs, gradients, strict=True):
        np.testing.assert_array_equal(seen.outputs[name], [output])
        np.testing.assert_array_equal(seen.gradients[name], [gradient])


def test_each_pass_adds_one_value_also_without_the_gradient_to_the_input():
    net, x = network(), np.ones((1, 1, 6, 6))
    with record(net, np.shape) as seen:
        for _ in range(3):
            net.backward_parameters(net(x))
        net.eval()(x)
    assert {len(values) for values in seen.outputs.values()} == {4}
    assert {len(values) for values in seen.gradients.values()} == {3}


def test_a_whole_network_is_measured_layer_by_layer():
    fcn = FCN(digit_classifier(rng=0), 11, 4).train()
    with record(fcn, np.shape) as seen:
        fcn.backward_parameters(fcn(np.zeros((1, 1, 32, 32), np.float32)))
    assert {len(values) for values in (*seen.outputs.values(), *seen.gradients.values())} == {1}
    assert {"features.0", "score", "skips.4"} <= set(seen.outputs)
    with record(FCN(digit_classifier(rng=0), 11), np.shape) as seen:
        assert "skips" not in seen.outputs, "it holds no layers"


def test_afterwards_nothing_is_recorded():
    net = network()
    with record(net, np.shape) as seen, pytest.raises(ValueError, match="channels"):
        net(np.ones((1, 2, 6, 6)))
    net(np.ones((1, 1, 6, 6)))
    assert seen.outputs == {"0": [], "1": [], "2.pool": []}
    assert not any("keep" in vars(layer) or "recall" in vars(layer) for layer in net.layers())


def test_an_error_ends_the_record():
    net = network()
    with pytest.raises(ValueError, match="has no backward"), record(net, np.shape):
        raise ValueError("has no backward")
    assert not any("keep" in vars(layer) for layer in net.layers())


def test_two_records_of_one_network_are_refused():
    net = network()
    with record(net, np.shape) as seen:
        with pytest.raises(ValueError, match="model is being recorded already"), record(net, np.shape):
            pass
        net(np.ones((1, 1, 6, 6)))
    assert len(seen.outputs["0"]) == 1


def test_a_refused_gradient_is_not_counted():
    net = Sequential(MaxPool2d(2)).train()
    with record(net, np.shape) as seen, pytest.raises(ValueError, match="forward has not run"):
        net[0].backward(np.ones((1, 2)))
    assert seen.gradients == {"0": []}
