"""Optimisers, which update parameters in place from their gradients, and schedules of the learning rate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from minifcn.backend import Array, array_module, to_numpy
from minifcn.geometry import check_integer
from minifcn.kernels.threads import flat_chunks, parallel_map
from minifcn.kernels.workspace import workspace
from minifcn.layers.base import Layer
from minifcn.layers.parameter import Parameter

Params: TypeAlias = Layer | Iterable[Parameter] | Mapping[str, Parameter]
"""What an optimiser updates: a layer with all its parameters, parameters, or parameters by name."""


class Optimizer(ABC):
    """The base of all optimisers: parameters, learning rate, and a state that can be saved and resumed.

    A parameter is updated with the learning rate `lr * lr_multiplier` and the weight decay `weight_decay *
    decay_multiplier`. A parameter that is not trainable or has no gradient is left unchanged, with its state.

    Args:
        params: A layer, an iterable of parameters, or a mapping of names to parameters. The names, or the
            positions "0", "1", ... of parameters without names, are the keys of `state_dict`.
        lr: Learning rate. It is an attribute, too, which schedules set.
        weight_decay: Factor of the L2 penalty: this much of the weight is added to its gradient.

    Attributes:
        parameters: The parameters by name.

    Raises:
        TypeError: If `params` is none of these.
        ValueError: If `params` is empty or contains a parameter twice, or a value is out of range.

    Example:
        >>> from minifcn.layers import Linear
        >>> optimizer = SGD(Linear(3, 2, rng=0), lr=0.1)
        >>> isinstance(optimizer, Optimizer), list(optimizer.parameters)
        (True, ['weight', 'bias'])
    """

    _kinds: tuple[str, ...] = ()
    """Names of the arrays kept for each parameter, in the shape of its data."""

    def __init__(self, params: Params, lr: float, weight_decay: float):
        self.parameters = _named(params)
        self.lr = _number(lr, "lr")
        self.weight_decay = _number(weight_decay, "weight_decay")
        self._steps = dict.fromkeys(self.parameters, 0)
        self._arrays: dict[str, tuple[Array, ...]] = {}  # made when first needed: frozen ones cost nothing

    def step(self) -> None:
        """Update every trainable parameter that has a gradient, in place.

        Raises:
            TypeError: If the data, gradient and state of a parameter are not all on one device.
            ValueError: If a gradient has another shape or dtype than its data; nothing has been updated.
        """
        work: list[tuple[Callable[[tuple[Array, ...]], None], tuple[Array, ...]]] = []
        updated, library = [], None
        for name, parameter in self.parameters.items():
            data, grad = parameter.data, parameter.grad
            if not parameter.trainable or grad is None:
                continue
            if (grad.shape, grad.dtype) != (data.shape, data.dtype):
                raise ValueError(
                    f"the gradient of {name} must be {_describe(data)} as its data, got {_describe(grad)}"
                )
            kept = self._kept(name)
            xp = library = array_module(data=data, grad=grad, **dict(zip(self._kinds, kept, strict=True)))
            lr = float(self.lr * parameter.lr_multiplier)
            decay = float(self.weight_decay * parameter.decay_multiplier)
            update = partial(self._update, xp, self._steps[name] + 1, lr, decay)
            work += [(update, chunk) for chunk in flat_chunks(data, grad, *kept)]
            updated.append(name)
        # All at once: a network has many small parameters, and none of them alone is worth a thread.
        parallel_map(lambda task: task[0](task[1]), work, library)
        for name in updated:
            self._steps[name] += 1

    def zero_grad(self) -> None:
        """Set all gradients to `None`."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Array | float]:
        """Return copies of everything that training changes here, in one flat dictionary.

        These are "lr", and for each parameter NAME that is trainable or was updated before: "step.NAME", the
        number of its updates, and its arrays, such as "momentum_buffer.NAME".
        """
        state: dict[str, Array | float] = {"lr": self.lr}
        for name, parameter in self.parameters.items():
            if parameter.trainable or name in self._arrays:
                state[f"step.{name}"] = self._steps[name]
                for kind, array in zip(self._kinds, self._kept(name), strict=True):
                    state[f"{kind}.{name}"] = array.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, so that training continues as if it had not been interrupted.

        Arrays are copied to the device of their parameters; scalars may be arrays without axes.

        Raises:
            ValueError: If entries are missing, unexpected or of another shape or dtype. The message names all
                of them, and nothing is loaded.
        """
        kinds = ("step", *self._kinds)
        keys = {name: tuple(f"{kind}.{name}" for kind in kinds) for name in self.parameters}
        wanted = {
            name: keys[name]
            for name, parameter in self.parameters.items()
            if parameter.trainable or any(key in state for key in keys[name])
        }
        expected = ["lr", *(key for group in wanted.values() for key in group)]
        problems = [f"{key} is missing" for key in expected if key not in state]
        problems += [f"{key} is unexpected" for key in sorted(state.keys() - set(expected))]
        for name, (_, *array_keys) in wanted.items():
            like = _describe(self.parameters[name].data)
            problems += [
                f"{key} must be {like}, got {_describe(state[key])}"
                for key in array_keys
                if key in state and _describe(state[key]) != like
            ]
        if problems:
            raise ValueError("the state does not fit this optimizer: " + "; ".join(problems))

        lr = _number(float(state["lr"]), "lr")
        steps = {name: check_integer(state[key], key, 0) for name, (key, *_) in wanted.items()}
        arrays = {}
        for name, (_, *array_keys) in wanted.items():
            xp = array_module(data=self.parameters[name].data)
            arrays[name] = tuple(xp.array(to_numpy(state[key])) for key in array_keys)
        self.lr, self._steps, self._arrays = lr, dict.fromkeys(self.parameters, 0) | steps, arrays

    def _kept(self, name: str) -> tuple[Array, ...]:
        """Return the arrays kept for a parameter, zeros at first."""
        if name not in self._arrays:
            data = self.parameters[name].data
            zeros_like = array_module(data=data).zeros_like
            self._arrays[name] = tuple(zeros_like(data) for _ in self._kinds)
        return self._arrays[name]

    @abstractmethod
    def _update(self, xp: Any, step: int, lr: float, decay: float, chunk: tuple[Array, ...]) -> None:
        """Make update number `step` (from 1) of one chunk: data, gradient and the arrays kept."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as in PyTorch.

    With d = gradient + weight_decay * weight, each step does v = momentum * v + d (v = d at first) and
    weight = weight - lr * v. Caffe multiplies by the rate within v, which is the same for a constant rate.

    Args:
        params: A layer, an iterable of parameters, or a mapping of names to parameters.
        lr: Learning rate.
        momentum: Factor of the old v, 0 <= momentum < 1.
        weight_decay: Factor of the L2 penalty.

    Raises:
        TypeError, ValueError: As `Optimizer` does.

    Example:
        >>> import numpy as np
        >>> weight = Parameter(np.array([1.0, 2.0]))
        >>> optimizer = SGD([weight], lr=0.5)
        >>> weight.grad = np.array([1.0, -1.0])
        >>> optimizer.step()
        >>> weight.data.tolist()
        [0.5, 2.5]
    """

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0.0, *, weight_decay: float = 0.0):
        super().__init__(params, lr, weight_decay)
        self.momentum = _number(momentum, "momentum", below=1)
        if self.momentum:
            self._kinds = ("momentum_buffer",)

    def _update(self, xp: Any, step: int, lr: float, decay: float, chunk: tuple[Array, ...]) -> None:
        weight, gradient, *kept = chunk
        d = _decayed(xp, weight, gradient, decay)
        if self.momentum:
            (v,) = kept
            v *= self.momentum
            v += d
            d[...] = v
        d *= lr
        weight -= d


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with L2 decay, as in PyTorch: steps of about lr for any scale of the gradient.

    With d = gradient + weight_decay * weight, step t does m = beta1 * m + (1 - beta1) * d and
    v = beta2 * v + (1 - beta2) * d^2, and then
    weight = weight - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        params: A layer, an iterable of parameters, or a mapping of names to parameters.
        lr: Learning rate.
        betas: Factors of the old m and v, 0 <= beta < 1.
        eps: Added to the denominator, to keep the quotient finite.
        weight_decay: Factor of the L2 penalty.

    Raises:
        TypeError, ValueError: As `Optimizer` does.

    Example:
        >>> import numpy as np
        >>> weight = Parameter(np.array([1.0, 2.0]))
        >>> optimizer = Adam([weight], lr=0.5)
        >>> weight.grad = np.array([1e-3, -1e3])
        >>> optimizer.step()
        >>> weight.data.round(3).tolist()
        [0.5, 2.5]
    """

    _kinds = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay)
        self.betas = _number(betas[0], "betas[0]", below=1), _number(betas[1], "betas[1]", below=1)
        self.eps = _number(eps, "eps")

    def _update(self, xp: Any, step: int, lr: float, decay: float, chunk: tuple[Array, ...]) -> None:
        weight, gradient, m, v = chunk
        beta1, beta2 = self.betas
        d = _decayed(xp, weight, gradient, decay)
        m -= d  # beta1 * (m - d) + d = beta1 * m + (1 - beta1) * d, without a second workspace
        m *= beta1
        m += d
        d *= d
        d *= 1 - beta2
        v *= beta2
        v += d
        xp.sqrt(v, out=d)
        d /= math.sqrt(1 - beta2**step)
        d += self.eps
        xp.divide(m, d, out=d)
        d *= lr / (1 - beta1**step)
        weight -= d


Schedule: TypeAlias = Callable[[int], float]
"""Returns the factor of the learning rate at a step >= 0: `optimizer.lr = base * schedule(step)`."""


@dataclass(frozen=True)
class Constant:
    """A constant rate.

    Example:
        >>> Constant()(1000)
        1.0
    """

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        return 1.0


@dataclass(frozen=True)
class Poly:
    """(1 - step / total_steps) ** power: Caffe's "poly", from 1 down to 0, and 0 afterwards.

    It may begin with a linear warm-up; the steps of the formula are then counted from the end of it.

    Example:
        >>> schedule = Poly(total_steps=100, power=0.9)
        >>> [round(schedule(step), 3) for step in (0, 50, 100)]
        [1.0, 0.536, 0.0]
        >>> [Poly(12, 1.0, warmup_steps=4)(step) for step in (0, 3, 4, 8, 12)]
        [0.25, 1.0, 1.0, 0.5, 0.0]
    """

    total_steps: int
    power: float = 0.9
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_integer(self.warmup_steps, "warmup_steps", 0)
        check_integer(self.total_steps, "total_steps", self.warmup_steps + 1)
        _number(self.power, "power")

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = (self.total_steps - step) / (self.total_steps - self.warmup_steps)
        return math.pow(max(0.0, left), self.power)


@dataclass(frozen=True)
class StepDecay:
    """gamma ** (step // step_size): the rate falls by a factor at every step_size-th step.

    Example:
        >>> schedule = StepDecay(step_size=10, gamma=0.5)
        >>> [schedule(step) for step in (0, 9, 10, 20)]
        [1.0, 1.0, 0.5, 0.25]
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_integer(self.step_size, "step_size", 1)
        _number(self.gamma, "gamma")

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        return self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to 0 (Loshchilov & Hutter 2017), after a linear rise over the warm-up.

    Example:
        >>> schedule = Cosine(total_steps=12, warmup_steps=2)
        >>> [round(schedule(step), 3) for step in (0, 1, 2, 7, 12)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    total_steps: int
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_integer(self.warmup_steps, "warmup_steps", 0)
        check_integer(self.total_steps, "total_steps", self.warmup_steps + 1)

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _named(params: Params) -> dict[str, Parameter]:
    """Return parameters by name; those without names get their positions."""
    named: dict[str, Parameter] = {}
    if isinstance(params, Layer):
        named = dict(params.named_parameters())
    elif isinstance(params, Mapping):
        named = dict(params)
    elif isinstance(params, Iterable):
        named = {str(number): parameter for number, parameter in enumerate(params)}
    wrong = [value for value in named.values() if not isinstance(value, Parameter)]
    if wrong or not isinstance(params, Layer | Iterable):
        got = f"an iterable of {type(wrong[0]).__name__}s" if wrong else type(params).__name__
        raise TypeError(
            f"params must be a Layer, an iterable of Parameters or a dict of named ones, got {got}; "
            f"pass net or net.parameters()"
        )
    if not named:
        raise ValueError("params must contain at least one parameter, got none")
    names: dict[int, str] = {}
    for name, parameter in named.items():
        if (other := names.setdefault(id(parameter), name)) != name:
            raise ValueError(f"params {other} and {name} are one parameter: a step would update it twice")
    return named


def _number(value: float, name: str, below: float = math.inf) -> float:
    """Return `value` as a float if 0 <= value < below."""
    if not 0 <= value < below:
        limit = "finite" if below == math.inf else f"below {below}"
        raise ValueError(f"{name} must be {limit} and not negative, got {value!r}")
    return float(value)


def _describe(value: Any) -> str:
    """Return shape and dtype of an array, or the type of anything else."""
    return f"{value.shape} {value.dtype}" if hasattr(value, "dtype") else type(value).__name__


def _decayed(xp: Any, weight: Array, gradient: Array, decay: float) -> Array:
    """Return gradient + decay * weight in a workspace, which the next call reuses."""
    d = workspace(xp, weight.shape, weight.dtype)
    xp.multiply(weight, decay, out=d)
    d += gradient
    return d
