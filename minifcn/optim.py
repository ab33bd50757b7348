"""Optimisers, which update parameters in place from their gradients, and schedules of the learning rate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from minifcn.backend import Array, array_module, to_numpy
from minifcn.geometry import whole_number
from minifcn.kernels.threads import flat_chunks, parallel_map
from minifcn.kernels.workspace import workspace
from minifcn.layers.base import Parameter


class Optimizer(ABC):
    """What all optimisers share: whom to update, at what rate, and state that can be saved and resumed.

    A parameter learns at the rate `lr * lr_multiplier` with the weight decay `weight_decay *
    decay_multiplier`. One that is not trainable, or has no gradient, is not touched, and its state neither.

    Args:
        parameters: The parameters by name, as `dict(model.named_parameters())`.
        lr: Learning rate. An attribute too, for schedules to set.
        weight_decay: Factor of the L2 penalty: this much of the weight is added to its gradient.

    Raises:
        TypeError: If `parameters` is no mapping.
        ValueError: If `parameters` is empty or names a parameter twice, or a number is out of its range.
    """

    _kinds: tuple[str, ...] = ()
    """Names of the arrays kept for each parameter, in the shape of its data."""

    def __init__(self, parameters: Mapping[str, Parameter], lr: float, weight_decay: float):
        if not isinstance(parameters, Mapping):
            raise TypeError(
                f"parameters must be a mapping of names to parameters, such as "
                f"dict(model.named_parameters()), got {type(parameters).__name__}"
            )
        if not parameters:
            raise ValueError("parameters must name at least one parameter, got an empty mapping")
        names: dict[int, str] = {}
        for name, parameter in parameters.items():
            if (other := names.setdefault(id(parameter), name)) != name:
                raise ValueError(
                    f"{other} and {name} are one parameter, which one step would change twice: name it once"
                )
        self.parameters = dict(parameters)
        self.lr = _number(lr, "lr")
        self.weight_decay = _number(weight_decay, "weight_decay")
        self._steps = dict.fromkeys(self.parameters, 0)
        self._arrays: dict[str, tuple[Array, ...]] = {}  # made when first needed: frozen ones cost nothing

    def step(self) -> None:
        """Update every trainable parameter that has a gradient, in place.

        Raises:
            TypeError: If the data, gradient and state of a parameter are not all in one place.
            ValueError: If a gradient has another shape or dtype than its data.
            After either, nothing has been updated.
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
            update = partial(
                self._update,
                xp,
                self._steps[name] + 1,
                float(self.lr * parameter.lr_multiplier),
                float(self.weight_decay * parameter.decay_multiplier),
            )
            work += [(update, piece) for piece in flat_chunks(data, grad, *kept)]
            updated.append(name)
        # All at once: a network has many small parameters, none of which is worth waking a core for.
        parallel_map(lambda strip: strip[0](strip[1]), work, library)
        for name in updated:
            self._steps[name] += 1

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Array | float]:
        """Return copies of everything that training changes here, flat and by name.

        Returns:
            "lr", and for each parameter NAME that is trainable or was updated before: "step.NAME", the number
            of its updates, and one array for each thing kept, such as "momentum_buffer.NAME".
        """
        state: dict[str, Array | float] = {"lr": self.lr}
        for name, parameter in self.parameters.items():
            if parameter.trainable or name in self._arrays:
                state[f"step.{name}"] = self._steps[name]
                for kind, array in zip(self._kinds, self._kept(name), strict=True):
                    state[f"{kind}.{name}"] = array.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, so that training goes on as if it had not been interrupted.

        Arrays move to where their parameters are; numbers may come as arrays without axes.

        Raises:
            ValueError: If entries are missing, unexpected or of another shape or dtype; all are named, and
                nothing is loaded.
        """
        keys = {
            name: ("step." + name, *(f"{kind}.{name}" for kind in self._kinds)) for name in self.parameters
        }
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
        steps = {name: whole_number(state[key], key, 0) for name, (key, *_) in wanted.items()}
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
    def _update(self, xp: Any, step: int, lr: float, decay: float, piece: tuple[Array, ...]) -> None:
        """Make update number `step` (from 1) of one piece: data, gradient and the arrays kept."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as PyTorch's.

    With d = gradient + weight_decay * weight, each step does v = momentum * v + d (v = d at first) and
    weight = weight - lr * v. Caffe takes the rate into v instead, which is the same while the rate stays.

    Args:
        parameters: The parameters by name, as `dict(model.named_parameters())`.
        lr: Learning rate.
        momentum: How much of v stays, from 0 to below 1.
        weight_decay: Factor of the L2 penalty.

    Raises:
        TypeError: If `parameters` is no mapping.
        ValueError: If `parameters` is empty, or a number is out of its range.

    Example:
        >>> import numpy as np
        >>> weight = Parameter(np.array([1.0, 2.0]))
        >>> optimizer = SGD({"weight": weight}, lr=0.5)
        >>> weight.grad = np.array([1.0, -1.0])
        >>> optimizer.step()
        >>> weight.data.tolist()
        [0.5, 2.5]
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.momentum = _number(momentum, "momentum", below=1)
        if self.momentum:
            self._kinds = ("momentum_buffer",)

    def _update(self, xp: Any, step: int, lr: float, decay: float, piece: tuple[Array, ...]) -> None:
        weight, gradient, *kept = piece
        d = _decayed(xp, weight, gradient, decay)
        if self.momentum:
            (v,) = kept
            v *= self.momentum
            v += d
            d[...] = v
        d *= lr
        weight -= d


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with L2 decay, as PyTorch's: steps of about lr, whatever the gradient's scale.

    With d = gradient + weight_decay * weight, step t does m = beta1 * m + (1 - beta1) * d and
    v = beta2 * v + (1 - beta2) * d^2, and then
    weight = weight - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        parameters: The parameters by name, as `dict(model.named_parameters())`.
        lr: Learning rate.
        betas: How much of m and of v stays, each from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: Factor of the L2 penalty.

    Raises:
        TypeError: If `parameters` is no mapping.
        ValueError: If `parameters` is empty, or a number is out of its range.

    Example:
        >>> import numpy as np
        >>> weight = Parameter(np.array([1.0, 2.0]))
        >>> optimizer = Adam({"weight": weight}, lr=0.5)
        >>> weight.grad = np.array([1e-3, -1e3])
        >>> optimizer.step()
        >>> weight.data.round(3).tolist()
        [0.5, 2.5]
    """

    _kinds = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.betas = _number(betas[0], "betas[0]", below=1), _number(betas[1], "betas[1]", below=1)
        self.eps = _number(eps, "eps")

    def _update(self, xp: Any, step: int, lr: float, decay: float, piece: tuple[Array, ...]) -> None:
        weight, gradient, m, v = piece
        beta1, beta2 = self.betas
        d = _decayed(xp, weight, gradient, decay)
        m -= d  # beta1 * (m - d) + d = beta1 * m + (1 - beta1) * d, without a second work space
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
"""Gives the factor of the learning rate at a step, counted from 0: `optimizer.lr = base * schedule(step)`."""


@dataclass(frozen=True)
class Constant:
    """The same rate throughout.

    Example:
        >>> Constant()(1000)
        1.0
    """

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        return 1.0


@dataclass(frozen=True)
class Poly:
    """(1 - step / total_steps) ** power: Caffe's "poly", from 1 down to 0, and 0 from then on.

    A warm-up, in which it rises linearly, goes before, and the steps are counted from its end.

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
        whole_number(self.warmup_steps, "warmup_steps", 0)
        whole_number(self.total_steps, "total_steps", self.warmup_steps + 1)
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
        whole_number(self.step_size, "step_size", 1)
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
        whole_number(self.warmup_steps, "warmup_steps", 0)
        whole_number(self.total_steps, "total_steps", self.warmup_steps + 1)

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _number(value: float, name: str, below: float = math.inf) -> float:
    """Return `value` as a float, or say in one sentence why it is not from 0 on and below a bound."""
    if not 0 <= value < below:
        limit = "finite" if below == math.inf else f"below {below}"
        raise ValueError(f"{name} must be {limit} and not negative, got {value!r}")
    return float(value)


def _describe(value: Any) -> str:
    """Return shape and dtype of an array, or the type of what is none."""
    return f"{value.shape} {value.dtype}" if hasattr(value, "dtype") else type(value).__name__


def _decayed(xp: Any, weight: Array, gradient: Array, decay: float) -> Array:
    """Return gradient + decay * weight in work space that lasts until it is asked for again."""
    d = workspace(xp, weight.shape, weight.dtype)
    xp.multiply(weight, decay, out=d)
    d += gradient
    return d
