import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.layers import Conv2d, Linear, Parameter, ReLU, Sequential
from minifcn.optim import SGD, Adam, Constant, Cosine, Poly, StepDecay

OPTIMIZERS = {
    "plain": lambda parameters: SGD(parameters, lr=0.1),
    "momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda parameters: Adam(parameters, lr=0.1, betas=(0.8, 0.99), weight_decay=0.01),
}
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def network(seed=0, dtype=np.float64):
    """Three parameters, as of a convolution with bias and a fixed upsampling."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": Parameter(rng.normal(size=(4, 3, 2, 2)).astype(dtype)),
        "conv.bias": Parameter(rng.normal(size=4).astype(dtype), lr_multiplier=2, decay_multiplier=0),
        "up.weight": Parameter(rng.normal(size=(2, 1, 4, 4)).astype(dtype), trainable=False),
    }


def give_gradients(parameters, rng):
    for parameter in parameters.values():
        parameter.grad = rng.normal(size=parameter.data.shape).astype(parameter.data.dtype)


def train(optimizer, steps, rng):
    for _ in range(steps):
        give_gradients(optimizer.parameters, rng)
        optimizer.step()


def values(parameters):
    return {name: parameter.data.copy() for name, parameter in parameters.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def sgd_by_hand(w, gradients, lr, momentum, decay):
    v = 0.0
    for g in gradients:
        v = momentum * v + g + decay * w
        w = w - lr * v
    return w


def adam_by_hand(w, gradients, lr, beta1, beta2, eps, decay):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        d = g + decay * w
        m = beta1 * m + (1 - beta1) * d
        v = beta2 * v + (1 - beta2) * d * d
        w = w - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return w


unit = st.floats(0, 0.99)
numbers = st.floats(-10, 10, allow_subnormal=False)


multipliers = st.sampled_from([(1.0, 1.0), (2.0, 0.0), (0.5, 3.0)])


def run_on_a_number(make, start, gradients, lr_multiplier, decay_multiplier):
    weight = Parameter(np.array([start]), lr_multiplier=lr_multiplier, decay_multiplier=decay_multiplier)
    optimizer = make({"w": weight})
    for gradient in gradients:
        weight.grad = np.array([gradient])
        optimizer.step()
    return float(weight.data[0])


@given(numbers, st.lists(numbers, min_size=1, max_size=6), unit, unit, unit, multipliers)
def test_sgd_equals_the_definition(start, gradients, lr, momentum, decay, factors):
    def make(parameters):
        return SGD(parameters, lr, momentum=momentum, weight_decay=decay)

    result = run_on_a_number(make, start, gradients, *factors)
    expected = sgd_by_hand(start, gradients, lr * factors[0], momentum, decay * factors[1])
    assert result == pytest.approx(expected, rel=1e-11, abs=1e-10)


@given(numbers, st.lists(numbers, min_size=1, max_size=6), unit, unit, unit, unit, multipliers)
def test_adam_equals_the_definition(start, gradients, lr, beta1, beta2, decay, factors):
    def make(parameters):
        return Adam(parameters, lr, betas=(beta1, beta2), eps=1e-3, weight_decay=decay)

    result = run_on_a_number(make, start, gradients, *factors)
    expected = adam_by_hand(start, gradients, lr * factors[0], beta1, beta2, 1e-3, decay * factors[1])
    assert result == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0.0, 0.02])
@pytest.mark.parametrize("momentum", [0.0, 0.9, "adam"])
def test_parity_with_pytorch(dtype, decay, momentum):
    torch = pytest.importorskip("torch")
    ours = network(dtype=dtype)
    theirs = {name: torch.nn.Parameter(torch.tensor(p.data)) for name, p in ours.items()}
    groups = [
        {
            "params": [theirs[name]],
            "lr": 0.05 * p.lr_multiplier,
            "weight_decay": decay * p.decay_multiplier,
        }
        for name, p in ours.items()
        if p.trainable
    ]
    if momentum == "adam":
        optimizer, reference = Adam(ours, 0.05, weight_decay=decay), torch.optim.Adam(groups)
    else:
        optimizer = SGD(ours, 0.05, momentum=momentum, weight_decay=decay)
        reference = torch.optim.SGD(groups, momentum=momentum)
    rng = np.random.default_rng(1)
    for step in range(8):
        give_gradients(ours, rng)
        if step < 3:
            ours["conv.bias"].grad = None  # starts late: the step count is its own
        for name, p in ours.items():
            theirs[name].grad = None if p.grad is None else torch.tensor(p.grad)
        optimizer.step()
        reference.step()
        for name, p in ours.items():
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            assert p.data.dtype == dtype
            np.testing.assert_allclose(
                p.data, theirs[name].detach().numpy(), rtol=tolerance, atol=tolerance / 10, err_msg=name
            )


@each_optimizer
def test_updates_are_in_place_and_leave_gradients_alone(make):
    parameters = network()
    optimizer = make(parameters)
    give_gradients(parameters, np.random.default_rng(1))
    arrays = {name: parameter.data for name, parameter in parameters.items()}
    before = values(parameters)
    gradients = {name: parameter.grad.copy() for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad.flags.writeable = False
    optimizer.step()
    for name, parameter in parameters.items():
        assert parameter.data is arrays[name]
        assert (parameter.data != before[name]).all() == parameter.trainable
        np.testing.assert_array_equal(parameter.grad, gradients[name])


@each_optimizer
def test_every_library_takes_the_same_steps(make, xp):
    expected, parameters = network(), network()
    for parameter in parameters.values():
        parameter.data = xp.array(parameter.data).copy()  # parameters are written to, gradients never
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    train(make(expected), 3, rng)
    optimizer = make(parameters)
    for _ in range(3):
        give_gradients(parameters, again)
        for parameter in parameters.values():
            parameter.grad = xp.array(parameter.grad)
        optimizer.step()
    for name, data in values(expected).items():
        np.testing.assert_allclose(xp.numpy(parameters[name].data), data, rtol=1e-13, err_msg=name)


@each_optimizer
def test_without_gradient_nothing_changes(make):
    parameters = network()
    optimizer = make(parameters)
    parameters["up.weight"].grad = np.ones((2, 1, 4, 4))
    for parameter in parameters.values():
        parameter.data.flags.writeable = False
    before = optimizer.state_dict()
    optimizer.step()
    assert_same(optimizer.state_dict(), before)


@each_optimizer
def test_zero_grad_forgets_all_gradients(make):
    parameters = network()
    give_gradients(parameters, np.random.default_rng(1))
    make(parameters).zero_grad()
    assert all(parameter.grad is None for parameter in parameters.values())


@each_optimizer
def test_chunks_equal_the_whole(make, monkeypatch):
    whole, cut = network(), network()
    train(make(whole), 3, np.random.default_rng(1))
    monkeypatch.setattr("minifcn.kernels.threads.FLAT_CHUNK", 5)
    train(make(cut), 3, np.random.default_rng(1))
    assert_same(values(cut), values(whole))


@each_optimizer
def test_arrays_that_are_not_contiguous_are_updated(make):
    plain, turned = network(), network()
    for parameter in turned.values():
        parameter.data = np.asfortranarray(parameter.data)
    train(make(plain), 3, np.random.default_rng(1))
    train(make(turned), 3, np.random.default_rng(1))
    assert not turned["conv.weight"].data.flags.c_contiguous
    assert_same(values(turned), values(plain))


@each_optimizer
def test_the_same_run_gives_the_same_bits(make):
    first, second = network(dtype=np.float32), network(dtype=np.float32)
    train(make(first), 5, np.random.default_rng(1))
    train(make(second), 5, np.random.default_rng(1))
    assert_same(values(first), values(second))


@each_optimizer
@pytest.mark.parametrize("done", [0, 1, 4])
def test_resumed_equals_uninterrupted(make, done):
    through, until, after = (network(dtype=np.float32) for _ in range(3))
    optimizer = make(through)
    train(optimizer, done, np.random.default_rng(1))
    optimizer.lr = 0.03
    train(optimizer, 3, np.random.default_rng(2))

    interrupted = make(until)
    train(interrupted, done, np.random.default_rng(1))
    interrupted.lr = 0.03
    state = interrupted.state_dict()
    for name, parameter in after.items():
        parameter.data[...] = until[name].data
    train(interrupted, 1, np.random.default_rng(3))  # the state that was taken must not follow

    resumed = make(after)
    train_state = {key: np.asarray(value) for key, value in state.items()}  # numbers as arrays, as files hold
    resumed.load_state_dict(train_state)
    train(resumed, 3, np.random.default_rng(2))
    assert resumed.lr == 0.03
    assert_same(values(after), values(through))
    assert_same(resumed.state_dict(), optimizer.state_dict())


@each_optimizer
def test_loaded_arrays_are_copies(make):
    parameters = network()
    optimizer = make(parameters)
    train(optimizer, 2, np.random.default_rng(1))
    state = optimizer.state_dict()
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    optimizer.load_state_dict(state)
    train(optimizer, 1, np.random.default_rng(2))


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_layer_parameters_and_named_parameters_take_the_same_steps(make):
    """The positions of parameters without names are their names; a generator is an iterable, too."""

    def trained(choose):
        model = Sequential(Conv2d(2, 3, 3, rng=0), Conv2d(3, 1, 1, rng=1)).astype("float64")
        optimizer = make(choose(model), 0.1)
        rng = np.random.default_rng(1)
        for _ in range(3):
            give_gradients(dict(model.named_parameters()), rng)
            optimizer.step()
        return [parameter.data for parameter in model.parameters()], optimizer.state_dict()

    expected, state = trained(lambda model: model)
    assert {"step.0.weight", "step.1.bias"} < state.keys()
    for choose, names in (
        (lambda model: dict(model.named_parameters()), ["0.weight", "0.bias", "1.weight", "1.bias"]),
        (lambda model: model.parameters(), ["0", "1", "2", "3"]),
        (lambda model: list(model.parameters()), ["0", "1", "2", "3"]),
    ):
        values, state = trained(choose)
        for one, other in zip(values, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert [key.removeprefix("step.") for key in state if key.startswith("step.")] == names


def test_positional_arguments_are_in_the_order_of_pytorch():
    parameters = list(network().values())
    assert (SGD(parameters).lr, Adam(parameters).lr) == (1e-3, 1e-3)
    sgd, adam = SGD(parameters, 0.1, 0.9), Adam(parameters, 0.1, (0.8, 0.9), 1e-3, 0.2)
    assert (sgd.lr, sgd.momentum) == (0.1, 0.9)
    assert (adam.lr, adam.betas, adam.eps, adam.weight_decay) == (0.1, (0.8, 0.9), 1e-3, 0.2)


def test_state_is_flat_and_by_name():
    parameters = network()
    adam = Adam(parameters, 0.1)
    train(adam, 2, np.random.default_rng(1))
    expected = {"lr"} | {
        f"{kind}.{name}"
        for kind in ("step", "exp_avg", "exp_avg_sq")
        for name in ("conv.weight", "conv.bias")
    }
    state = adam.state_dict()
    assert state.keys() == expected
    assert (state["lr"], state["step.conv.bias"]) == (0.1, 2)
    assert state["exp_avg_sq.conv.weight"].shape == (4, 3, 2, 2)
    sgd = SGD(parameters, 0.1, momentum=0.9)
    assert {key.partition(".")[0] for key in sgd.state_dict()} == {"lr", "step", "momentum_buffer"}


def test_state_survives_freezing():
    parameters = network()
    optimizer = SGD(parameters, 0.1, momentum=0.9)
    train(optimizer, 2, np.random.default_rng(1))
    parameters["conv.weight"].trainable = False
    state = optimizer.state_dict()
    assert state["momentum_buffer.conv.weight"].any()
    fresh = SGD(parameters, 0.1, momentum=0.9)
    fresh.load_state_dict(state)
    assert_same(fresh.state_dict(), state)


def test_a_wrong_state_is_refused_with_all_its_faults_and_nothing_is_loaded():
    optimizer = Adam(network(), 0.1)
    train(optimizer, 1, np.random.default_rng(1))
    before = optimizer.state_dict()
    other = Adam(network(), 0.2)
    train(other, 2, np.random.default_rng(2))
    state = other.state_dict()
    del state["exp_avg.conv.weight"], state["step.conv.weight"]
    state["exp_avg.conv.bias"] = np.zeros(5)
    state["exp_avg_sq.conv.bias"] = np.zeros(4, np.float32)
    state["exp_avg_sq.conv.weight"] = 3.0
    state["momentum_buffer.conv.bias"] = np.zeros(4)
    faults = (
        "step.conv.weight is missing",
        "exp_avg.conv.weight is missing",
        "momentum_buffer.conv.bias is unexpected",
        "exp_avg_sq.conv.weight must be (4, 3, 2, 2) float64, got float",
        "exp_avg.conv.bias must be (4,) float64, got (5,) float64",
        "exp_avg_sq.conv.bias must be (4,) float64, got (4,) float32",
    )
    with pytest.raises(ValueError, match=re.escape("; ".join(faults))):
        optimizer.load_state_dict(state)
    assert_same(optimizer.state_dict(), before)


@pytest.mark.parametrize(("key", "value"), [("lr", -1.0), ("step.conv.bias", 1.5), ("step.conv.weight", -1)])
def test_wrong_values_are_refused_and_nothing_is_loaded(key, value):
    optimizer = Adam(network(), 0.1)
    before = optimizer.state_dict()
    other = Adam(network(), 0.2)
    train(other, 2, np.random.default_rng(2))
    with pytest.raises(ValueError, match=re.escape(key)):
        optimizer.load_state_dict(other.state_dict() | {key: value})
    assert_same(optimizer.state_dict(), before)


@each_optimizer
@pytest.mark.parametrize("grad", [np.zeros((4, 1)), np.zeros(4, np.float32)])
def test_a_gradient_unlike_its_data_is_refused_and_nothing_is_updated(make, grad):
    parameters = network()
    optimizer = make(parameters)
    give_gradients(parameters, np.random.default_rng(1))
    parameters["conv.bias"].grad = grad  # the second of them
    before, state = values(parameters), optimizer.state_dict()
    with pytest.raises(
        ValueError, match=r"the gradient of conv.bias must be \(4,\) float64 as its data, got"
    ):
        optimizer.step()
    assert_same(values(parameters), before)
    assert_same(optimizer.state_dict(), state)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: SGD(3, 0.1), TypeError, "params must be a Layer, an iterable of Parameters"),
        (
            lambda p: SGD([np.zeros(2)], 0.1),
            TypeError,
            "got an iterable of ndarrays; pass net or net.parameters()",
        ),
        (lambda p: SGD({"w": None}, 0.1), TypeError, "got an iterable of NoneTypes"),
        (
            lambda p: SGD(Linear(3, 2, rng=0).named_parameters()),
            TypeError,
            "got an iterable of tuples; pass net",
        ),
        (lambda p: SGD(p["conv.bias"], 0.1), TypeError, "got Parameter"),
        (lambda p: SGD({}, 0.1), ValueError, "params must contain at least one parameter"),
        (lambda p: SGD(ReLU(), 0.1), ValueError, "params must contain at least one parameter"),
        (lambda p: SGD([p["conv.bias"]] * 2, 0.1), ValueError, "params 0 and 1 are one parameter"),
        (
            lambda p: SGD({**p, "tied": p["conv.bias"]}, 0.1),
            ValueError,
            "conv.bias and tied are one parameter",
        ),
        (lambda p: SGD(p, -0.1), ValueError, "lr must be finite and not negative, got -0.1"),
        (lambda p: SGD(p, math.nan), ValueError, "lr must be finite and not negative, got nan"),
        (lambda p: Adam(p, math.inf), ValueError, "lr must be finite and not negative, got inf"),
        (
            lambda p: SGD(p, 0.1, momentum=1.0),
            ValueError,
            "momentum must be below 1 and not negative, got 1.0",
        ),
        (lambda p: SGD(p, 0.1, weight_decay=-1), ValueError, "weight_decay must be finite and not negative"),
        (lambda p: Adam(p, 0.1, betas=(0.9, 1.0)), ValueError, "betas[1] must be below 1"),
        (lambda p: Adam(p, 0.1, eps=-1e-8), ValueError, "eps must be finite and not negative"),
    ],
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(network())


schedules = st.one_of(
    st.just(Constant()),
    st.builds(
        lambda rest, power, warmup: Poly(rest + warmup, power, warmup),
        st.integers(1, 50),
        st.floats(0.1, 3),
        st.integers(0, 10),
    ),
    st.builds(StepDecay, st.integers(1, 50), st.floats(0, 1)),
    st.builds(lambda rest, warmup: Cosine(rest + warmup, warmup), st.integers(1, 50), st.integers(0, 10)),
)


@given(schedules)
def test_schedules_peak_at_one_and_fall_from_there(schedule):
    factors = [schedule(step) for step in range(80)]
    assert all(type(factor) is float for factor in factors)
    peak = factors.index(max(factors))
    assert factors[peak] == 1
    assert peak == max(0, getattr(schedule, "warmup_steps", 0) - 1)
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert min(factors) >= 0


def test_schedules_equal_those_of_pytorch():
    torch = pytest.importorskip("torch")

    def their_rates(make, steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = make(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    theirs = torch.optim.lr_scheduler
    for schedule, make in (
        (Poly(30, 0.9), lambda o: theirs.PolynomialLR(o, 30, 0.9)),
        (Poly(7, 2), lambda o: theirs.PolynomialLR(o, 7, 2)),
        (StepDecay(4, 0.3), lambda o: theirs.StepLR(o, 4, 0.3)),
        (Cosine(30), lambda o: theirs.CosineAnnealingLR(o, 30)),
    ):
        steps = getattr(schedule, "total_steps", 30)
        ours = [schedule(step) for step in range(steps)]
        np.testing.assert_allclose(ours, their_rates(make, steps), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poly(0), "total_steps must be an integer >= 1, got 0"),
        (lambda: Poly(5, warmup_steps=5), "total_steps must be an integer >= 6, got 5"),
        (lambda: Poly(10, power=-1), "power must be finite and not negative"),
        (lambda: StepDecay(0), "step_size must be an integer >= 1, got 0"),
        (lambda: StepDecay(5, gamma=math.nan), "gamma must be finite and not negative"),
        (lambda: Cosine(5, warmup_steps=5), "total_steps must be an integer >= 6, got 5"),
        (lambda: Cosine(5, warmup_steps=-1), "warmup_steps must be an integer >= 0, got -1"),
    ],
)
def test_wrong_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_schedule_sets_the_rate():
    weight = Parameter(np.zeros(1))
    optimizer, schedule = SGD({"w": weight}, lr=1.0), StepDecay(1, gamma=0.5)
    for step in range(3):
        optimizer.lr = 8.0 * schedule(step)
        weight.grad = np.ones(1)
        optimizer.step()
    assert weight.data[0] == -(8 + 4 + 2)
