"""Names of parameters, state dicts, devices and dtypes."""

import numpy as np
import pytest

from minifcn import to_numpy
from minifcn.layers import (
    BatchNorm2d,
    Buffer,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    Linear,
    Parameter,
    ReLU,
    Sequential,
)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


class Net(Layer):
    """A layer with parameters, a buffer, child layers, and other attributes."""

    def __init__(self):
        self.scale = Parameter(np.ones(2, np.float32))
        self.name = "net"
        self.first = Conv2d(1, 2, 3, rng=0)
        self.seen = Buffer(np.zeros(1, np.float32))
        self.parts = Sequential(ReLU(), second=Linear(3, 1, bias=False, rng=0))
        self.shift = Parameter(np.zeros(2, np.float32))
        self.nothing = None


NAMES = ["scale", "seen", "shift", "first.weight", "first.bias", "parts.second.weight"]


def test_names_come_in_the_order_of_definition_as_pytorchs():
    net = Net()
    assert list(net.state_dict()) == NAMES
    assert [name for name, _ in net.named_parameters()] == [name for name in NAMES if name != "seen"]
    assert list(net.parameters()) == [parameter for _, parameter in net.named_parameters()]
    assert [name for name, _ in net.children()] == ["first", "parts"]
    assert list(net.layers()) == [net, net.first, net.parts, *net.parts]


def test_names_are_pytorchs():
    nn = pytest.importorskip("torch").nn
    theirs = nn.Sequential()
    theirs.features = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 3, 2)
    )
    theirs.classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    ours = Sequential(
        features=Sequential(Conv2d(1, 2, 3, rng=0), ReLU(), BatchNorm2d(2), ConvTranspose2d(2, 3, 2, rng=0)),
        classifier=Sequential(Flatten(), Linear(4, 5, rng=0)),
    )
    state = {k: v.numpy() for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict(state)
    assert all(np.array_equal(value, state[name]) for name, value in ours.state_dict().items())


def test_state_is_the_layers_own_and_is_loaded_by_value():
    net = Net()
    state = net.state_dict()
    assert state["first.weight"] is net.first.weight.data
    new = {name: normal(array.shape, 1) for name, array in state.items()}  # float64
    before = dict(state)
    net.load_state_dict(new)
    for name, array in net.state_dict().items():
        assert array is before[name]  # an optimiser that holds it sees the new values
        assert array.dtype == np.float32
        assert np.array_equal(array, new[name].astype("float32"))
        new[name][...] = 0
        assert array.any()


@pytest.mark.parametrize("strict_names", [True, False])
def test_everything_that_does_not_fit_is_named_and_nothing_is_loaded(strict_names):
    net = Net()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state = {
        "scale": np.full(3, 7.0),  # misshapen
        "shift": np.full(2, 7),  # integers
        "seen": np.full(1, 7.0),  # fits
        "first.bias": np.array(["a", "b"]),  # not numbers
        "stranger": np.zeros(1),
        "first.stranger": np.zeros(1),
    }
    with pytest.raises(ValueError, match="the state does not fit Net, nothing was loaded: ") as refusal:
        net.load_state_dict(state, strict=strict_names)
    said = str(refusal.value)
    assert "scale has shape (3,), expected (2,)" in said
    assert "shift has dtype int64, expected floating-point numbers" in said
    assert "first.bias has dtype <U1" in said
    for missing in ("first.weight", "parts.second.weight"):
        assert (f"{missing} is missing" in said) is strict_names
    for extra in ("stranger", "first.stranger"):
        assert (f"{extra} is not known here" in said) is strict_names
    assert "seen" not in said
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name]), name


def test_a_value_that_is_not_an_array_is_named():
    layer = Linear(1, 1, rng=0)
    with pytest.raises((TypeError, ValueError), match="weight"):
        layer.load_state_dict({"weight": [[1.0]], "bias": np.ones(1)})
    assert not layer.bias.data.any()


def test_a_value_too_large_for_float32_changes_nothing():
    layer = Linear(1, 1, rng=0)
    before = layer.weight.data.copy()
    with pytest.raises((RuntimeWarning, ValueError)):  # warnings are errors here
        layer.load_state_dict({"weight": np.full((1, 1), 7.0), "bias": np.full(1, 1e300)})
    assert np.array_equal(layer.weight.data, before)


def test_part_of_a_state_can_be_loaded():
    net = Net()
    net.load_state_dict({"shift": np.array([1.0, 2.0]), "stranger": np.zeros(9)}, strict=False)
    assert net.shift.data.tolist() == [1, 2]
    assert net.scale.data.tolist() == [1, 1]


def test_state_is_copied_between_libraries(strict):
    here, there = Net(), Net().to("cuda")
    here.load_state_dict({name: normal(array.shape, 2) for name, array in here.state_dict().items()})
    there.load_state_dict(here.state_dict())
    assert all(isinstance(array, strict.module.ndarray) for array in there.state_dict().values())
    back = Net()
    back.load_state_dict(there.state_dict())
    for name, array in back.state_dict().items():
        assert np.array_equal(array, here.state_dict()[name])


def test_moving_moves_all_arrays(strict):
    layer = Conv2d(1, 2, 3, rng=0)
    layer.backward(layer(np.ones((1, 1, 4, 4), np.float32)))
    gradient = layer.weight.grad.copy()
    assert layer.to("cuda") is layer
    assert isinstance(layer.weight.data, strict.module.ndarray)
    assert isinstance(layer.weight.grad, strict.module.ndarray)
    assert np.array_equal(to_numpy(layer.to("cpu").weight.grad), gradient)
    norm = BatchNorm2d(2).to("cuda")
    assert all(isinstance(array, strict.module.ndarray) for array in norm.state_dict().values())


def test_converting():
    layer = Conv2d(1, 2, 3, rng=0)
    layer.backward(layer(np.ones((1, 1, 4, 4), np.float32)))
    assert layer.astype("float64") is layer
    assert layer.weight.data.dtype == np.float64
    assert layer.weight.grad is None  # it would be of the old dtype
    for dtype in ("float16", "int32"):
        with pytest.raises((TypeError, ValueError), match=dtype):
            layer.astype(dtype)


@pytest.mark.parametrize("change", ["missing", "left over", "none"])
def test_every_name_must_fit_unless_told_otherwise(change):
    layer, other = Linear(3, 2, rng=0), Linear(3, 2, rng=1)
    state = {"weight": other.weight.data}
    state |= {
        "missing": {},
        "left over": {"bias": np.ones(2), "more": np.ones(2)},
        "none": {"bias": np.ones(2)},
    }[change]
    before = layer.weight.data.copy()
    if change != "none":
        said = "bias is missing" if change == "missing" else "more is not known here"
        with pytest.raises(ValueError, match=f"nothing was loaded: {said}$"):
            layer.load_state_dict(state)
        np.testing.assert_array_equal(layer.weight.data, before)
        layer.load_state_dict(state, strict=False)
    else:
        layer.load_state_dict(state)
    np.testing.assert_array_equal(layer.weight.data, other.weight.data)
    assert (layer.bias.data == (0 if change == "missing" else 1)).all()
