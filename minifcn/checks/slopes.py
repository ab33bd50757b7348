"""A layer or a function as one map from variables to an output, and the slopes measured along it."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array, array_module, to_numpy
from minifcn.checks.comparing import CheckFailedError, as_numpy
from minifcn.layers.base import Layer
from minifcn.layers.parameter import Parameter

Function: TypeAlias = Callable[..., tuple[Array, Callable[[Array], Any]]]
"""`f(*inputs) -> (output, backward)`; `backward(dy)` returns the gradient to each input, in their order."""

Rise: TypeAlias = Callable[[float], float]
"""t -> phi(t) - phi(0), for a number phi that changes along a line."""

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)


class Subject:
    """What is checked: its variables are the inputs, followed by the trainable parameters.

    All arrays kept here are NumPy arrays, also if the subject computes on a GPU.

    Attributes:
        title: Name of the subject in messages.
        names: Names of the variables in messages.
        values: Values of the variables.
        parameters: The trainable parameters.
        output: The output for these values.

    Raises:
        CheckFailedError: If the output is not float64, not finite, or differs from one pass to the next.
        TypeError: If an input or a parameter is not a float64 array.
    """

    def __init__(self, layer_or_function: Layer | Function, inputs: tuple[Array, ...]):
        self._map, self._inputs = layer_or_function, len(inputs)
        self.title = getattr(layer_or_function, "__name__", repr(layer_or_function))
        function: Callable[..., Any] = layer_or_function
        trainable: dict[str, Parameter] = {}
        if isinstance(layer_or_function, Layer):
            function = layer_or_function.forward
            trainable = {name: p for name, p in layer_or_function.named_parameters() if p.trainable}
        self.parameters = list(trainable.values())
        self.names = [*_argument_names(function, len(inputs)), *trainable]
        arrays = dict(zip(self.names, [*inputs, *(p.data for p in self.parameters)], strict=True))
        self.xp = array_module(**arrays)
        for name, array in arrays.items():
            if array.dtype != np.float64:
                raise TypeError(
                    f"a gradient is checked in float64, but {name} is {array.dtype}; convert an input with "
                    f".astype('float64'), a layer with layer.astype('float64')"
                )
        self.values = [to_numpy(array).copy() for array in arrays.values()]
        with self.restored():
            self.output, again = self.forward(self.values), self.forward(self.values)
        if self.output.dtype != np.float64:
            problem = f"the output for float64 inputs must be float64, got {self.output.dtype}"
        elif not np.isfinite(self.output).all():
            problem = "the output for these inputs contains inf or nan"
        elif not np.array_equal(self.output, again):
            problem = (
                "two forward passes over the same inputs differ, so no slope can be measured; use a fixed "
                "seed, and change no state in the forward pass"
            )
        else:
            return
        raise CheckFailedError(f"{self.title}: {problem}")

    def inputs(self, values: list[Array]) -> list[Array]:
        """Return copies of the inputs among the values, on the subject's own device."""
        return [self.xp.asarray(x.copy()) for x in values[: self._inputs]]

    def run(self, inputs: list[Array]) -> tuple[Array, Callable[[Array], Any]]:
        """Return the output, on the subject's own device, and the backward pass."""
        if isinstance(self._map, Layer):
            return self._map(*inputs), self._map.backward
        return self._map(*inputs)

    def forward(self, values: list[Array]) -> Array:
        """Return the output for these values of all variables; the parameters keep them."""
        for parameter, value in zip(self.parameters, values[self._inputs :], strict=True):
            parameter.data[...] = self.xp.asarray(value)
        output, _ = self.run(self.inputs(values))
        return as_numpy(output)

    def scale(self, index: int) -> float:
        """Return the typical size of a variable; steps are relative to it."""
        return max(1.0, root_mean_square(self.values[index]))

    def rise(self, index: int, direction: Array, g: Array) -> Rise:
        """Return t -> <f(variable + t direction) - f(variable), g> for one of the variables."""

        def rise(t: float) -> float:
            values = self.values.copy()
            values[index] = values[index] + t * direction
            return float(np.vdot(self.forward(values) - self.output, g))

        return rise

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the parameters, gradients and buffers of a layer at the end."""
        if not isinstance(self._map, Layer):
            yield
            return
        state = {name: array.copy() for name, array in self._map.state_dict().items()}
        gradients = [parameter.grad for parameter in self.parameters]
        try:
            yield
        finally:
            self._map.load_state_dict(state)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient


def root_mean_square(x: Array) -> float:
    """Return the typical size of the elements of an array, 0 if there are none."""
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first arguments, or "input 0" and so on."""
    try:
        arguments = list(inspect.signature(function).parameters.values())[:count]
    except ValueError:  # some built-in functions have no signature
        arguments = []
    names = [argument.name for argument in arguments if argument.kind is not argument.VAR_POSITIONAL]
    return names + [f"input {i}" for i in range(len(names), count)]


def measure_slope(rise: Rise, *, scale: float, rounding: float, tolerance: float) -> tuple[float, float]:
    """Measure the slope at t = 0; return it with an estimate of its error.

    Central differences with steps h, h/2 and h/4 give two values of Richardson's extrapolation. Their
    difference estimates the truncation error; the rounding error is added. If there is a kink within the
    step, the two values differ, and a smaller step is tried.

    Args:
        rise: The function minus its value at 0.
        scale: Typical size of the variable; the steps are relative to it.
        rounding: Absolute rounding error of the function's values.
        tolerance: Relative error at which the search for a better step ends.

    Example:
        >>> import math
        >>> slope, error = measure_slope(math.sin, scale=1.0, rounding=1e-16, tolerance=1e-6)
        >>> abs(slope - 1) < 1e-11, error < 1e-11
        (True, True)
    """
    best = (0.0, float("inf"))
    for step in (scale * factor for factor in STEPS):
        whole, half, quarter = ((rise(h) - rise(-h)) / (2 * h) for h in (step, step / 2, step / 4))
        rough, fine = (4 * half - whole) / 3, (4 * quarter - half) / 3
        error = abs(fine - rough) + 8 * rounding / step
        if error < best[1]:
            best = fine, error
        if error <= max(tolerance / 10 * abs(fine), 64 * rounding / STEPS[0]):
            break
    return best


def kink(rise: Rise, scale: float) -> tuple[float, float] | None:
    """Return the slopes to the left and to the right of t = 0 if they differ, otherwise `None`.

    For a smooth function their difference shrinks in proportion to the step, at a kink it does not.

    Example:
        >>> kink(abs, 1.0), kink(lambda t: t * t + t, 1.0)
        ((-1.0, 1.0), None)
    """
    far, near = scale * STEPS[-2], scale * STEPS[-1]
    gap = abs(rise(far) + rise(-far)) / far
    left, right = -rise(-near) / near, rise(near) / near
    if abs(right - left) > max(gap / 2, 1e-4 * max(abs(left), abs(right))):
        return left, right
    return None
