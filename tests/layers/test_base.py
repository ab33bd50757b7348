import re
import time
import weakref

import numpy as np
import pytest

from minifcn import to_numpy
from minifcn.checks import check_gradient
from minifcn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LayerDict,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Parameter,
    ReLU,
    Sequential,
)
from minifcn.layers.parameter import initial_weights

# One of each, with the shape of an input: (layer, shape)
LEAVES = {
    "Conv2d": lambda: (Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, groups=2, rng=0), (2, 2, 5, 6)),
    "Conv2d without bias": lambda: (Conv2d(2, 3, 1, bias=False, rng=0), (2, 2, 2, 3)),
    "ConvTranspose2d": lambda: (
        ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=(1, 0), groups=2, rng=0),
        (2, 2, 3, 4),
    ),
    "Linear": lambda: (Linear(6, 4, rng=0), (3, 6)),
    "Linear without bias": lambda: (Linear(6, 4, bias=False, rng=0), (3, 6)),
    "ReLU": lambda: (ReLU(), (2, 3, 4)),
    "Dropout": lambda: (Dropout(0.4, rng=3), (2, 3, 4, 5)),
    "Flatten": lambda: (Flatten(), (2, 3, 4, 5)),
    "ChannelShuffle": lambda: (ChannelShuffle(3), (2, 6, 4, 5)),
    "ChannelSlice": lambda: (ChannelSlice(1, 3), (2, 4, 4, 5)),
    "MaxPool2d": lambda: (MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 6, 5)),
    "AvgPool2d": lambda: (AvgPool2d((3, 2), (2, 1), ceil_mode=True), (2, 3, 6, 5)),
    "GlobalAvgPool2d": lambda: (GlobalAvgPool2d(), (2, 3, 4, 5)),
    "LocalResponseNorm": lambda: (LocalResponseNorm(3, alpha=0.3, k=2.0), (2, 5, 2, 3)),
    "BatchNorm2d": lambda: (BatchNorm2d(3), (2, 3, 4, 5)),
}
CONTAINERS = {
    "Sequential": lambda: (
        Sequential(
            Conv2d(2, 4, 3, padding=1, rng=0), ReLU(), last=Sequential(Flatten(), Linear(48, 3, rng=1))
        ),
        (2, 2, 3, 4),
    ),
    "Concat": lambda: (
        Concat(ReLU(), wide=Sequential(Conv2d(2, 5, 3, padding=1, rng=0), ReLU())),
        (2, 2, 3, 4),
    ),
    "Add": lambda: (Add(ReLU(), Conv2d(2, 2, 3, padding=1, rng=0)), (2, 2, 3, 4)),
}
every_layer = pytest.mark.parametrize(
    "make", [pytest.param(m, id=n) for n, m in (LEAVES | CONTAINERS).items()]
)
every_leaf = pytest.mark.parametrize("make", [pytest.param(m, id=n) for n, m in LEAVES.items()])


def normal(shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run(layer, x, seed=9):
    """Return output, gradient to the input and gradients to the parameters, in NumPy."""
    y = layer(x)
    dy = normal(y.shape, seed, y.dtype)
    dx = layer.backward(dy if isinstance(y, np.ndarray) else type(y)(dy))
    gradients = [to_numpy(p.grad) for p in layer.parameters() if p.grad is not None]
    return [to_numpy(y), to_numpy(dx), *gradients]


# Gradients, shapes, and equal values in every array library


class Still(Dropout):
    """Dropout that drops the same elements each time, because numerical slopes need a function."""

    def forward(self, x):
        self.rng = np.random.default_rng(3)
        return super().forward(x)


@every_layer
def test_gradients(make):
    layer, shape = make()
    layer = Still(layer.p) if isinstance(layer, Dropout) else layer
    check_gradient(layer.astype("float64"), normal(shape), rng=1)


@every_layer
def test_output_shape_is_that_of_forward(make):
    layer, shape = make()
    layer.astype("float64")
    assert layer(normal(shape)).shape == (shape[0], *layer.output_shape(shape[1:]))


@every_layer
def test_every_array_library_gives_the_same_values(xp, make):
    layer, shape = make()
    expected = run(layer.astype("float64"), normal(shape))
    layer = make()[0].astype("float64")
    if xp.name in ("strict", "cupy"):
        layer.to("cuda")
    x = xp.array(normal(shape))
    y = layer(x)
    dx = layer.backward(xp.array(normal(y.shape, 9)))
    gradients = [p.grad for p in layer.parameters()]
    for got, want in zip([y, dx, *gradients], expected, strict=True):
        assert np.allclose(xp.numpy(got), want, rtol=1e-12, atol=1e-12)


@every_layer
def test_float32_stays_float32(make):
    layer, shape = make()
    assert {str(result.dtype) for result in run(layer, normal(shape, dtype="float32"))} == {"float32"}


@every_layer
def test_gradients_of_two_passes_are_added(make):
    layer, shape = make()
    layer.astype("float64")
    separate = []
    for seed in (0, 1):
        separate.append(run(layer, normal(shape, seed), seed + 5)[2:])
        for parameter in layer.parameters():
            parameter.grad = None
    run(layer, normal(shape, 0), 5)
    both = run(layer, normal(shape, 1), 6)[2:]
    for total, first, second in zip(both, *separate, strict=True):
        assert np.allclose(total, first + second, rtol=1e-12, atol=1e-12)


@every_layer
def test_a_fixed_parameter_gets_no_gradient(make):
    layer, shape = make()
    _, dx, *gradients = run(layer.astype("float64"), normal(shape))
    for index, (name, _) in enumerate(layer.named_parameters()):
        layer, shape = make()
        fixed = dict(layer.astype("float64").named_parameters())[name]
        fixed.trainable = False
        _, same_dx, *others = run(layer, normal(shape))
        assert fixed.grad is None
        assert np.array_equal(same_dx, dx)
        for got, want in zip(others, gradients[:index] + gradients[index + 1 :], strict=True):
            assert np.array_equal(got, want)


# Backward: after one forward pass in training mode, once, with a gradient that fits


@every_layer
def test_backward_needs_a_forward(make):
    layer, shape = make()
    layer.astype("float64")
    y = layer(normal(shape))
    layer.backward(y)
    with pytest.raises(ValueError, match=r"\.backward: forward has not run since the last backward"):
        layer.backward(y)
    layer, _ = make()
    with pytest.raises(ValueError, match=r"\.backward: forward has not run since the last backward"):
        layer.backward(y)


@every_leaf
def test_refusals_name_the_layer(make):
    layer, shape = make()
    y = layer.astype("float64")(normal(shape))
    name = re.escape(f"{layer!r}.backward: ")
    wrong = y[:1], y[..., :1], y.reshape(-1), y[None]
    for dy in (one for one in wrong if one.shape != y.shape):
        expected = re.escape(f"dy must have the output's shape {y.shape}, got {dy.shape}")
        with pytest.raises(ValueError, match=name + expected):
            layer.backward(dy)
    with pytest.raises(TypeError, match=f"{name}dy must have the output's dtype float64, got float32"):
        layer.backward(y.astype("float32"))
    layer.backward(y)  # the refused calls have changed nothing
    with pytest.raises(ValueError, match=f"{name}forward has not run"):
        layer.backward(y)
    layer.eval()(normal(shape))
    with pytest.raises(ValueError, match=rf"{name}in eval mode forward keeps nothing for it; call train\(\)"):
        layer.backward(y)


@every_layer
def test_containers_refuse_gradients_that_do_not_fit(make):
    layer, shape = make()
    y = layer.astype("float64")(normal(shape))
    with pytest.raises(ValueError, match="dy must have the output's shape"):
        layer.backward(y[..., :1, :1] if y[..., :1, :1].size < y.size else y[:1])
    with pytest.raises(TypeError, match="dy must have the output's dtype float64, got float32"):
        layer.backward(y.astype("float32"))
    layer.backward(y)


@every_layer
@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_a_gradient_from_the_other_library_is_refused(strict, make, home):
    layer, shape = make()
    layer.astype("float64").to(home)
    here, there = (np.array, strict.array) if home == "cpu" else (strict.array, np.array)
    y = layer(here(normal(shape)))
    with pytest.raises(TypeError, match=r"\.backward: dy must be an array of (numpy|cupy)"):
        layer.backward(there(normal(y.shape)))


@every_layer
def test_a_gradient_that_is_not_an_array_is_refused(make):
    layer, shape = make()
    y = layer.astype("float64")(normal(shape))
    with pytest.raises(TypeError, match="dy"):
        layer.backward(y.tolist())


@every_layer
@pytest.mark.parametrize("released", ["in eval", "by backward", "by eval", "by train"])
def test_memory_is_released(make, released):
    layer, shape = make()
    layer.astype("float64")
    if released == "in eval":
        layer.eval()
    x = normal(shape)
    y = layer(x)
    kept = weakref.ref(x), weakref.ref(y)
    if released == "by backward":
        layer.backward(y)
    elif released == "by eval":
        layer.eval()
    elif released == "by train":
        layer.train()
    del x, y
    deadline = time.monotonic() + 10  # a thread of the pool may still be leaving its function
    while any(one() is not None for one in kept) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert all(one() is None for one in kept)


@every_layer
def test_train_and_eval_reach_every_part(make):
    layer, _ = make()
    assert all(part.training for part in layer.layers())
    assert layer.eval() is layer
    assert not any(part.training for part in layer.layers())
    assert layer.train() is layer
    assert all(part.training for part in layer.layers())


# Inputs


@pytest.mark.parametrize("item", [(), (4,), (4, 5), (4, 5, 6, 7)], ids=str)
@every_leaf
def test_a_shape_that_is_not_refused_can_be_computed(make, item):
    layer = make()[0].astype("float64")
    try:
        expected = layer.output_shape(item)
    except ValueError:
        return
    assert layer(normal((2, *item))).shape == (2, *expected)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "bool"])
@every_layer
def test_other_dtypes_are_refused_and_change_nothing(make, dtype):
    layer, shape = make()
    if isinstance(layer, Flatten | ChannelShuffle | ChannelSlice):
        return  # these layers only rearrange elements
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    said = rf"x must be float32 or float64, got {dtype}; convert it with x.astype\('float32'\)"
    with pytest.raises(TypeError, match=said):
        layer(np.ones(shape, dtype))
    for name, array in layer.state_dict().items():
        assert np.array_equal(array, before[name]), name


@every_layer
def test_mixed_dtypes_are_refused_and_change_nothing(make):
    layer, shape = make()
    if not layer.state_dict():
        return
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    with pytest.raises(TypeError, match=r"dtypes are mixed: x is float64, (w|weight|gamma) is float32"):
        layer(normal(shape))
    for name, array in layer.state_dict().items():
        assert np.array_equal(array, before[name]), name


@every_layer
def test_mixed_libraries_are_refused(strict, make):
    layer, shape = make()
    if not list(layer.parameters()):
        return
    with pytest.raises(TypeError, match=r"x is on the GPU \(CuPy\), (w|weight) is on the CPU \(NumPy\)"):
        layer(strict.array(normal(shape, dtype="float32")))


@every_leaf
def test_only_arrays_are_accepted(make):
    layer, shape = make()
    with pytest.raises(TypeError, match="x must be a NumPy or CuPy array, got list"):
        layer(np.ones(shape).tolist())


@every_leaf
def test_the_wrong_number_of_axes_is_refused(make):
    layer, shape = make()
    if isinstance(layer, ReLU | Dropout | Flatten):
        return  # it takes any shape
    for wrong in (shape[1:], (1, *shape)):
        with pytest.raises(ValueError, match="|".join(map(re.escape, (str(wrong), str(wrong[1:]))))):
            layer(normal(wrong, dtype="float32"))


@every_layer
def test_an_unknown_device_is_refused(make):
    with pytest.raises(ValueError, match="unknown device 'gpu': expected 'cpu', 'cuda' or 'cuda:N'"):
        make()[0].to("gpu")


# Parameters, initial weights, and layers without methods


def test_a_parameter_sums_gradients():
    parameter = Parameter(np.zeros(3), lr_multiplier=2.0, decay_multiplier=0.0)
    first, second = np.array([1.0, 2.0, 3.0]), np.ones(3)
    parameter.accumulate(first)
    parameter.accumulate(second)
    assert parameter.grad.tolist() == [2, 3, 4]
    assert second.tolist() == [1, 1, 1]
    assert repr(parameter) == "Parameter(3,)"
    assert (parameter.lr_multiplier, parameter.decay_multiplier, parameter.trainable) == (2, 0, True)


def test_a_layer_without_forward_and_backward_is_refused():
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        Layer()(np.ones(1))
    with pytest.raises(NotImplementedError, match="Layer has no backward"):
        Layer().backward(np.ones(1))
    with pytest.raises(NotImplementedError, match="LayerDict has no forward"):
        LayerDict(ReLU())(np.ones(1))
    with pytest.raises(ValueError, match="has no reach"):
        Layer().coordinate_map()  # no default: a wrong one would misplace the scores of an FCN
    with pytest.raises(ValueError, match="does not say its output_shape"):
        Layer().output_shape((1, 2, 3))


def test_random_weights_come_from_a_generator_or_a_seed():
    shape = (200, 100)
    weights = initial_weights(shape, 100, "he", 5)
    assert np.array_equal(weights, initial_weights(shape, 100, "he", np.random.default_rng(5)))
    assert not np.array_equal(weights, initial_weights(shape, 100, "he", 6))
    rng = np.random.default_rng(5)
    assert not np.array_equal(
        initial_weights(shape, 100, "he", rng), initial_weights(shape, 100, "he", rng)
    )  # the generator has advanced
    assert weights.dtype == np.float32
    assert weights.var() == pytest.approx(2 / 100, rel=0.05)
    assert abs(weights.mean()) < 0.005
    assert not initial_weights(shape, 100, "zeros", None).any()


@pytest.mark.parametrize("kind", [list, tuple, lambda parts: {str(i): part for i, part in enumerate(parts)}])
@pytest.mark.parametrize("part", [ReLU, lambda: Parameter(np.ones(2))])
def test_parts_in_a_list_are_refused_where_they_would_not_be_found(kind, part):
    class Block(Layer):
        def __init__(self):
            self.steps = kind([])
            self.steps = kind([part(), part()])

    for enumerate_parts in (Block().layers, Block().parameters, Block().named_parameters):
        with pytest.raises(TypeError, match=r"Block\.steps is a .*: use Sequential or LayerDict"):
            list(enumerate_parts())


def test_a_parameter_is_not_replaced_by_an_array():
    conv, norm = Conv2d(1, 2, 3, rng=0), BatchNorm2d(2)
    with pytest.raises(TypeError, match=r"Conv2d\.weight is a Parameter: set its array, weight\.data"):
        conv.weight = np.ones((2, 1, 3, 3), np.float32)
    with pytest.raises(TypeError, match=r"BatchNorm2d\.running_mean is a Buffer"):
        norm.running_mean = np.zeros(2)
    conv.weight, conv.bias = Parameter(np.ones((2, 1, 3, 3), np.float32)), None
    assert list(conv.state_dict()) == ["weight"]


def test_other_names_for_trainable_are_refused():
    weight = Conv2d(1, 2, 3, rng=0).weight
    with pytest.raises(AttributeError, match="requires_grad"):
        weight.requires_grad = False


def test_repr_shows_a_missing_bias():
    assert repr(Conv2d(1, 2, 3, bias=False, init="zeros")) == "Conv2d(1, 2, kernel_size=(3, 3), bias=False)"
    assert repr(Linear(3, 2, bias=False, init="zeros")) == "Linear(3, 2, bias=False)"
    assert repr(Linear(3, 2, init="zeros")) == "Linear(3, 2)"


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_an_unknown_argument_of_a_pool_names_no_private_class(kind):
    with pytest.raises(TypeError, match=r"^[A-Z]\w*2d\.__init__.* 'return_indices'"):
        kind(2, return_indices=True)


def test_backward_says_that_keep_may_be_missing():
    class NoKeep(ReLU):
        def forward(self, x):
            return x

    layer = NoKeep()
    layer(np.ones(2))
    with pytest.raises(ValueError, match=r"self\.keep"):
        layer.backward(np.ones(2))


def test_layers_have_names_that_begin_those_of_their_parameters():
    net = Sequential(Conv2d(1, 2, 1, rng=0), Sequential(inner=Conv2d(2, 2, 1, rng=0)))
    named = dict(net.named_layers())
    assert list(named) == ["", "0", "1", "1.inner"]
    assert list(named.values()) == list(net.layers())
    for name, parameter in net.named_parameters():
        layer, _, kind = name.rpartition(".")
        assert getattr(named[layer], kind) is parameter
