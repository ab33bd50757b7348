"""A layer or a function, seen as one map from variables to an output."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array, array_module, to_numpy
from minifcn.checks.failure import CheckFailed
from minifcn.checks.slopes import Rise
from minifcn.layers.base import Layer, Parameter

Function: TypeAlias = Callable[..., tuple[Array, Callable[[Array], Any]]]
"""`f(*inputs) -> (output, backward)`; `backward(dy)` returns the gradient to each input, in their order."""


class Subject:
    """What is checked, and where: its variables are the inputs, followed by the trainable parameters.

    All numbers that are kept here are NumPy's, wherever the subject computes.

    Attributes:
        title: What messages call it.
        names: What messages call the variables.
        inputs: Values of the inputs.
        parameters: The parameters themselves.
        output: The output for these values.

    Raises:
        CheckFailed: If the output is not float64, not finite, or differs from one pass to the next.
        TypeError: If an input or a parameter is not a float64 array.
    """

    def __init__(self, layer_or_function: Layer | Function, inputs: tuple[Array, ...]):
        self._map = layer_or_function
        self.parameters: list[Parameter] = []
        if isinstance(layer_or_function, Layer):
            self.title = repr(layer_or_function)
            self.names = _argument_names(layer_or_function.forward, len(inputs))
            for name, parameter in layer_or_function.named_parameters():
                if parameter.trainable:
                    self.names.append(name)
                    self.parameters.append(parameter)
        else:
            self.title = getattr(layer_or_function, "__name__", repr(layer_or_function))
            self.names = _argument_names(layer_or_function, len(inputs))
        arrays = [*inputs, *(parameter.data for parameter in self.parameters)]
        self.xp = array_module(**dict(zip(self.names, arrays, strict=True)))
        for name, array in zip(self.names, arrays, strict=True):
            if array.dtype != np.float64:
                raise TypeError(
                    f"a gradient is checked in float64, but {name} is {array.dtype}; convert an input with "
                    f".astype('float64'), a layer with layer.astype('float64')"
                )
        self.inputs = [to_numpy(x).copy() for x in inputs]
        with self.left_as_it_was():
            self.output = self.forward(self.inputs)
            again = self.forward(self.inputs)
        if self.output.dtype != np.float64:
            raise CheckFailed(
                f"{self.title}: the output for float64 inputs must be float64, got {self.output.dtype}"
            )
        if not np.isfinite(self.output).all():
            raise CheckFailed(f"{self.title}: the output for these inputs holds inf or nan")
        if not np.array_equal(self.output, again):
            raise CheckFailed(
                f"{self.title}: two forward passes over the same inputs differ, so there is no slope to "
                f"measure; fix what is random, or what a pass changes"
            )

    def values(self) -> list[Array]:
        """Return the values of all variables."""
        return self.inputs + [to_numpy(parameter.data) for parameter in self.parameters]

    def run(self, inputs: list[Array]) -> tuple[Array, Callable[[Array], Any]]:
        """Return the output, on the subject's own device, and the backward pass."""
        if isinstance(self._map, Layer):
            return self._map(*inputs), self._map.backward
        return self._map(*inputs)

    def forward(self, inputs: list[Array]) -> Array:
        """Return the output."""
        output, _ = self.run([self.xp.asarray(x.copy()) for x in inputs])
        return numbers(output)

    def rise(self, index: int, direction: Array, g: Array) -> Rise:
        """Return t -> <f(variable + t direction) - f(variable), g> for one of the variables."""
        inputs, start = list(self.inputs), self.values()[index].copy()

        def moved(value: Array) -> Array:
            if index < len(inputs):
                inputs[index] = value
                return self.forward(inputs)
            data = self.parameters[index - len(inputs)].data
            data[...] = self.xp.asarray(value)
            try:
                return self.forward(inputs)
            finally:
                data[...] = self.xp.asarray(start)

        return lambda t: float(np.vdot(moved(start + t * direction) - self.output, g))

    @contextmanager
    def left_as_it_was(self) -> Iterator[None]:
        """Give a layer back the parameters, gradients and buffers that it had."""
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


def numbers(value: Any) -> Array:
    """Return an array, or the scalar that a reduction gives, as a NumPy array."""
    return np.asarray(value) if isinstance(value, float | np.generic) else to_numpy(value)


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return what a function calls its first arguments, or "input 0" and so on."""
    try:
        arguments = list(inspect.signature(function).parameters.values())[:count]
    except ValueError:  # some built-in functions do not tell
        arguments = []
    names = [argument.name for argument in arguments if argument.kind is not argument.VAR_POSITIONAL]
    return names + [f"input {i}" for i in range(len(names), count)]
