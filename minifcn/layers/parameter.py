"""Arrays that belong to layers, how they begin, and a limit for those that a file describes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from minifcn.backend import Array
from minifcn.functional.operands import check_choice

Rng: TypeAlias = np.random.Generator | int | None
"""Source of random numbers, as in NumPy (SPEC 7): a generator, which is used and advanced; a seed; or `None`
for fresh entropy from the operating system. Two layers of one shape with the same seed have the same weights:
pass one generator to all layers of a network."""

Init: TypeAlias = Literal["he", "zeros"]
"""Initial weights: random, of variance 2 / fan_in (He et al. 2015), or zeros."""


_elements_left: ContextVar[int | None] = ContextVar("elements_left", default=None)


@contextmanager
def element_limit(limit: int | None) -> Iterator[None]:
    """Limit the elements of all parameters and buffers made in a `with` block; `None` means no limit.

    Layers that a file describes are made under a limit: it cannot ask for more memory than it fills.

    Example:
        >>> from minifcn.layers import Linear
        >>> with element_limit(5):
        ...     Linear(10**6, 10**6)
        Traceback (most recent call last):
            ...
        ValueError: parameters of shape (1000000, 1000000) are more than the 5 elements that are left
    """
    token = _elements_left.set(limit)
    try:
        yield
    finally:
        _elements_left.reset(token)


def _check_limit(shape: tuple[int, ...], *, subtract: bool = True) -> None:
    left = _elements_left.get()
    if left is None:
        return
    if prod(shape) > left:
        raise ValueError(f"parameters of shape {shape} are more than the {left:,} elements that are left")
    if subtract:
        _elements_left.set(left - prod(shape))


class Parameter:
    """An array that training changes.

    Attributes:
        data: The values.
        grad: The gradient that `backward` has added up, or `None` before the first one.
        lr_multiplier: Factor of the learning rate.
        decay_multiplier: Factor of the weight decay.
        trainable: Whether optimisers change it; if not, its gradient is not computed.

    Example:
        >>> import numpy as np
        >>> weight = Parameter(np.zeros((2, 3)))
        >>> weight.accumulate(np.ones((2, 3)))
        >>> weight.accumulate(np.ones((2, 3)))
        >>> float(weight.grad[0, 0])
        2.0
    """

    __slots__ = "data", "decay_multiplier", "grad", "lr_multiplier", "trainable"  # refuses other names

    def __init__(
        self,
        data: Array,
        *,
        lr_multiplier: float = 1.0,
        decay_multiplier: float = 1.0,
        trainable: bool = True,
    ):
        _check_limit(data.shape)
        self.data = data
        self.grad: Array | None = None
        self.lr_multiplier = lr_multiplier
        self.decay_multiplier = decay_multiplier
        self.trainable = trainable

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient, if the parameter is trained."""
        if not self.trainable:
            return
        if self.grad is None:
            self.grad = gradient
        else:
            self.grad = self.grad + gradient  # not in place: the first gradient is the caller's array

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """Leave the gradient out of copies."""
        return None, {name: getattr(self, name) for name in self.__slots__} | {"grad": None}

    def __repr__(self) -> str:
        return f"Parameter{self.data.shape}"


class Buffer:
    """An array that belongs to a layer's state but is not trained, such as a running mean.

    Example:
        >>> import numpy as np
        >>> Buffer(np.zeros(3)).data
        array([0., 0., 0.])
    """

    def __init__(self, data: Array):
        _check_limit(data.shape)
        self.data = data


def initial_weights(shape: tuple[int, ...], fan_in: int, init: Init, rng: Rng) -> Array:
    """Return float32 weights: zeros, or random of variance 2 / fan_in, which keeps the scale of activations.

    Args:
        shape: Shape of the weights.
        fan_in: Number of inputs that one output sums.
        init: `"he"` or `"zeros"`.
        rng: Source of random numbers.

    Raises:
        ValueError: If `init` is unknown.
    """
    check_choice(init, "init", get_args(Init))
    _check_limit(shape, subtract=False)  # before the array is allocated
    if init == "zeros":
        return np.zeros(shape, np.float32)
    weights = np.random.default_rng(rng).standard_normal(shape, np.float32)
    weights *= np.float32(np.sqrt(2 / fan_in))
    return weights


def zeros(size: int) -> Parameter:
    """Return a float32 parameter of zeros (size,), such as a bias.

    Example:
        >>> zeros(3)
        Parameter(3,)
    """
    return Parameter(np.zeros(size, np.float32))
