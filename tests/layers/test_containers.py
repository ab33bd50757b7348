import copy

import numpy as np
import pytest

from minifcn.geometry import CoordinateMap
from minifcn.layers import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Flatten,
    Graph,
    LayerDict,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def conv(channels=2, filters=2, seed=0, **options):
    return Conv2d(channels, filters, 3, padding=1, rng=seed, **options).astype("float64")


def test_sequential_is_one_after_another():
    parts = conv(2, 3), ReLU(), conv(3, 2, 1)
    x, dy = normal((2, 2, 4, 5)), normal((2, 2, 4, 5), 1)
    y, dx = x, dy
    for part in parts:
        y = part(y)
    for part in reversed(parts):
        dx = part.backward(dx)
    expected = [p.grad.copy() for part in parts for p in part.parameters()]
    net = Sequential(*copy.deepcopy(parts))
    for parameter in net.parameters():
        parameter.grad = None
    assert np.array_equal(net(x), y)
    assert np.array_equal(net.backward(dy), dx)
    assert all(np.array_equal(p.grad, g) for p, g in zip(net.parameters(), expected, strict=True))


@pytest.mark.parametrize("container", [Concat, Add])
def test_branches_stand_side_by_side(container):
    branches = conv(2, 2, 1), Sequential(conv(2, 2, 2), ReLU()), ReLU()
    x = normal((2, 2, 4, 5))
    outputs = [copy.deepcopy(branch)(x) for branch in branches]
    net = container(*branches)
    y = net(x)
    dy = normal(y.shape, 1)
    if container is Concat:
        assert np.array_equal(y, np.concatenate(outputs, axis=1))
        parts = [dy[:, 2 * i : 2 * i + 2].copy() for i in range(3)]
    else:
        assert np.allclose(y, outputs[0] + outputs[1] + outputs[2], rtol=1e-14)
        parts = [dy] * 3
    before = dy.copy()
    alone = []
    for branch, part in zip(copy.deepcopy(branches), parts, strict=True):
        branch(x)
        alone.append(branch.backward(part))
    assert np.allclose(net.backward(dy), sum(alone), rtol=1e-13)
    assert np.array_equal(dy, before)


def test_one_branch_is_enough():
    x, dy = normal((1, 2, 3, 3)), normal((1, 2, 3, 3), 1)
    for net in (Concat(ReLU()), Add(ReLU())):
        assert np.array_equal(net(x), np.maximum(x, 0))
        assert np.array_equal(net.backward(dy), np.where(x > 0, dy, 0))
        assert net.output_shape((2, 3, 3)) == (2, 3, 3)


@pytest.mark.parametrize("container", [Concat, Add])
def test_no_branch_is_too_few(container):
    with pytest.raises(ValueError, match=container.__name__):
        container()(normal((1, 2, 3, 3)))


def test_an_empty_sequence_changes_nothing():
    x = normal((1, 2, 3, 3))
    assert np.array_equal(Sequential()(x), x)
    assert Sequential().output_shape((2, 3, 3)) == (2, 3, 3)
    assert Sequential().coordinate_map() == CoordinateMap()


def test_parts_have_names():
    net = Sequential(ReLU(), Flatten(), last=Linear(8, 1, rng=0))
    assert [name for name, _ in net.children()] == ["0", "1", "last"]
    assert net["last"] is net[2] is net[-1] is list(net)[2]
    assert net["0"] is net[0]
    assert len(net) == 3
    assert [name for name, _ in net.named_parameters()] == ["last.weight", "last.bias"]
    with pytest.raises(KeyError):
        _ = net["missing"]
    with pytest.raises(IndexError):
        _ = net[3]


@pytest.mark.parametrize("container", [LayerDict, Sequential, Concat, Add])
def test_only_layers_are_parts(container):
    with pytest.raises(TypeError, match=f"{container.__name__} is made of layers, but 1 is 'relu'"):
        container(ReLU(), "relu")
    with pytest.raises(TypeError, match="but last is "):
        container(last=ReLU)


def test_no_layer_is_called_input():
    with pytest.raises(ValueError, match="Sequential can have the name 'input'"):
        Sequential(input=ReLU())


@pytest.mark.parametrize("container", [Concat, Add])
def test_no_branch_writes_over_the_input_of_the_others(container):
    with pytest.raises(ValueError, match=r"'first' .* writes over 'input'"):
        container(first=ReLU(inplace=True), second=conv())
    alone = container(first=ReLU(inplace=True))
    assert alone.overwrites_input()


def test_reprs_are_indented():
    net = Sequential(ReLU(), more=Concat(ReLU(), Linear(2, 1, rng=0)))
    assert repr(net) == (
        "Sequential(\n  (0): ReLU()\n  (more): Concat(\n    (0): ReLU()\n    (1): Linear(2, 1)\n  )\n)"
    )


def test_shapes_and_coordinates_go_through():
    net = Sequential(
        Conv2d(1, 4, 3, rng=0),
        MaxPool2d(2),
        Concat(Conv2d(4, 2, 1, rng=0), Sequential(Conv2d(4, 3, 3, padding=1, rng=0))),
    )
    assert net.output_shape((1, 11, 8)) == (5, 4, 3)
    assert str(net.coordinate_map()) == "2 i + 3/2"
    assert Add(AvgPool2d(2), MaxPool2d(2)).output_shape((3, 5, 4)) == (3, 2, 2)


def test_branches_must_lie_over_one_another():
    x = normal((1, 2, 5, 5))
    shifted = Concat(Conv2d(2, 2, 3, padding=1, rng=0), Conv2d(2, 2, 3, padding=2, rng=0))
    with pytest.raises(ValueError, match="Concat do not lie over one another") as refusal:
        shifted.coordinate_map()
    assert "1 i - 1" in str(refusal.value)
    assert "1 i + 0" in str(refusal.value)
    for container in (Concat, Add):
        unequal = container(ReLU(), MaxPool2d(2))
        with pytest.raises(ValueError, match=f"{container.__name__} reads maps that differ in shape"):
            unequal.output_shape((2, 5, 5))
        with pytest.raises(ValueError, match=f"{container.__name__} reads maps that differ in shape"):
            unequal(x)
    wider = Add(ReLU(), conv(2, 3))
    with pytest.raises(ValueError, match="Add reads maps that differ in shape"):
        wider(x)


# Invalid backward passes


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequential(ReLU(), ReLU()),
        lambda: Concat(ReLU(), ReLU()),
        lambda: Add(ReLU(), ReLU()),
        lambda: Graph({"a": (ReLU(), "input"), "b": (ReLU(), "a")}, "b"),
    ],
)
def test_backward_needs_a_forward_pass_of_its_shape(make):
    net, x = make(), np.ones((1, 2, 3, 3))
    name = type(net).__name__
    y = net(x)
    with pytest.raises(ValueError, match=rf"^{name}\.backward: dy must have the output's shape"):
        net.backward(np.ones((1, 1, 3, 3)))
    with pytest.raises(TypeError, match=rf"^{name}\.backward: dy must be an array of numpy, got None"):
        net.backward(None)
    assert net.backward(np.ones_like(y)).shape == x.shape  # the refused calls have changed nothing
    for call in (net.backward, net.backward_parameters):
        with pytest.raises(ValueError, match=rf"^{name}\.backward: forward has not run"):
            call(np.ones_like(y))


def test_a_part_is_replaced_by_name_or_position_and_a_new_name_adds_one():
    net = Sequential(conv(), middle=ReLU(), last=conv(seed=1))
    net[1], net["last"], net["end"] = MaxPool2d(2), conv(2, 5), ReLU()
    assert [type(layer) for layer in net] == [Conv2d, MaxPool2d, Conv2d, ReLU]
    assert list(net.parts) == ["0", "middle", "last", "end"]
    assert net(normal((1, 2, 4, 6))).shape == (1, 5, 2, 3)
    with pytest.raises(TypeError, match="made of layers, but 1 is None"):
        net[1] = None
    with pytest.raises(IndexError):
        net[4] = ReLU()


def test_a_branch_is_replaced_for_the_forward_pass_too():
    net, x = Concat(ReLU(), other=ReLU()), normal((1, 2, 4, 6))
    net["other"] = conv(2, 3)
    assert np.array_equal(net(x)[:, 2:], conv(2, 3)(x))
    assert net.backward(normal((1, 5, 4, 6))).shape == x.shape
    assert [name for name, _ in net.named_parameters()] == ["other.weight", "other.bias"]
    with pytest.raises(ValueError, match="writes over 'input'"):
        net[0] = ReLU(inplace=True)
    assert not net[0].inplace


@pytest.mark.parametrize("container", [Sequential, LayerDict, Concat])
def test_a_layer_as_an_attribute_of_a_container_is_refused(container):
    net = container(ReLU())
    with pytest.raises(TypeError, match=rf"{container.__name__} .* layers\['extra'\]"):
        net.extra = conv()


def test_a_container_that_returns_its_input_is_known_to():
    identity, views = Sequential(), Sequential(Sequential(Flatten()))
    assert identity.returns_input
    assert views.returns_input
    assert not Sequential(ReLU(), Flatten()).returns_input
    assert Sequential(identity, ReLU(inplace=True)).overwrites_input()
    assert Sequential(views, ReLU(inplace=True)).overwrites_input()
    with pytest.raises(ValueError, match=r"'b' .* writes over 'input', and these nodes read it: 'a', 'c'"):
        Graph({"a": (Sequential(), "input"), "b": (ReLU(inplace=True), "a"), "c": ("add", "b", "input")}, "c")
