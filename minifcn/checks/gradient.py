"""Checks of a backward pass: against slopes measured with the forward pass, and as an adjoint.

For an output y = f(x) and any g of its shape, backward(g) must be the gradient of <f(x), g>. In a direction
u, this number changes with the slope <backward(g), u>, and the slope is measured by a few evaluations of f,
whatever the size of x (the dot-product test, as `check_vjp` of HIPS autograd). g must be random: with ones, a
flipped kernel gives the right result at all interior pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.checks.comparing import (
    CheckFailedError,
    as_numpy,
    constant_ratio,
    form_problem,
    in_place,
    number,
    worst_entry,
    worst_index,
)
from minifcn.checks.slopes import Function, Subject, kink, measure_slope, root_mean_square
from minifcn.layers.base import Layer, Shape
from minifcn.layers.parameter import Rng

DIRECTIONS = 3
MAX_ENTRIES = 100
EPS = float(np.finfo(np.float64).eps)


def check_gradient(
    layer_or_function: Layer | Function, *inputs: Array, rng: Rng = 0, tolerance: float = 1e-6
) -> None:
    """Check every gradient of a layer or a function against measured slopes.

    The gradients to all inputs and all trainable parameters are checked: their values, shapes and dtypes;
    that neither pass changes the inputs, the parameters or the gradient it receives; and that a second
    backward pass of a layer adds to the gradients of its parameters. Afterwards the layer has the same
    parameters, gradients and buffers as before.

    Args:
        layer_or_function: A `Layer`, or a function `f(*inputs) -> (output, backward)`, where `backward(dy)`
            returns the gradient to each input, in their order.
        *inputs: float64 arrays, away from kinks and ties (zeros into ReLU, equal neighbours into max
            pooling), where there is no gradient to compare with.
        rng: Generator or seed of the random directions and of the random gradient to the output.
        tolerance: Relative error above which a gradient is wrong.

    Raises:
        CheckFailedError: Names each wrong gradient and its worst entry, expected and actual.
        TypeError: If an input or a parameter is not a float64 array.
        ValueError: If the inputs lie on a kink or a jump.

    Example:
        A layer whose backward pass lacks a factor:

        >>> import numpy as np
        >>> from minifcn.layers import Layer
        >>> class Square(Layer):
        ...     def forward(self, x):
        ...         y = x * x
        ...         self.keep(x, output=y)
        ...         return y
        ...     def backward(self, dy):
        ...         (x,) = self.recall(dy)
        ...         return x * dy
        >>> x = np.random.default_rng(0).normal(size=(2, 3))
        >>> try:
        ...     check_gradient(Square(), x)
        ... except CheckFailedError as failure:
        ...     print(failure)
        Square(): the gradient to x is wrong; every element is 0.5 times the expected value
        at [0, 2] expected 0.820282, got 0.410141 (relative error 0.5)

        A function that returns its output and its backward pass:

        >>> def scaled(x, factor):
        ...     return x * factor, lambda dy: (dy * factor, (dy * x).sum())
        >>> check_gradient(scaled, x, np.array(3.0))
    """
    check = _GradientCheck(Subject(layer_or_function, inputs), np.random.default_rng(rng), tolerance)
    with check.subject.restored():
        results = [check.compare(index, gradient) for index, gradient in enumerate(check.analytic())]
    if problems := [problem for problem in results if problem]:
        raise CheckFailedError("\n".join(problems))


def check_adjoint(
    forward: Callable[[Array], Array], adjoint: Callable[[Array], Array], input_shape: Shape, *, rng: Rng = 0
) -> None:
    """Check that <forward(x), g> = <x, adjoint(g)> for random x and g.

    The gradient of a linear map is its adjoint (the transpose of its matrix), so this checks a backward pass
    to the last digits, without a step size and without approximation: the two numbers may differ by 1e-12 of
    ||forward(x)|| ||g|| + ||x|| ||adjoint(g)||. A wrong adjoint passes with probability 0.

    Args:
        forward: A linear map, without bias.
        adjoint: The map that should be its adjoint.
        input_shape: Shape of x. The shape of g is that of forward(x).
        rng: Generator or seed of x and g, which are float64.

    Raises:
        CheckFailedError: Shows both dot products.

    Example:
        >>> matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> check_adjoint(lambda x: matrix @ x, lambda g: matrix.T @ g, (2,))
        >>> try:
        ...     check_adjoint(lambda x: matrix @ x, lambda g: matrix @ g, (2,))
        ... except CheckFailedError as failure:
        ...     print(failure)
        not the adjoint: <forward(x), g> is -0.104549, but <x, adjoint(g)> is -0.202341
    """
    generator = np.random.default_rng(rng)
    zero = forward(np.zeros(input_shape))
    if zero.any():
        raise CheckFailedError(
            f"forward is not linear: zeros give values up to {np.abs(zero).max():.6g}; leave out the bias"
        )
    x = generator.standard_normal(input_shape)
    y = forward(x.copy())
    g = generator.standard_normal(y.shape)
    x_back = adjoint(g.copy())
    if x_back.shape != x.shape:
        raise CheckFailedError(
            f"not the adjoint: for g {g.shape} it must return the shape of x {x.shape}, got {x_back.shape}"
        )
    there, back = float(np.vdot(y, g)), float(np.vdot(x, x_back))
    norm = np.linalg.norm
    if not abs(there - back) <= 1e-12 * (norm(y) * norm(g) + norm(x) * norm(x_back)):
        raise CheckFailedError(
            f"not the adjoint: <forward(x), g> is {there:.6g}, but <x, adjoint(g)> is {back:.6g}"
        )


class _GradientCheck:
    """The slopes of <f, g> for one subject and one random g, from the backward and from the forward pass."""

    def __init__(self, subject: Subject, rng: np.random.Generator, tolerance: float):
        self.subject, self.rng, self.tolerance = subject, rng, tolerance
        self.g = np.asarray(rng.standard_normal(subject.output.shape))

    def analytic(self) -> list[Array]:
        """Return the gradients to all variables from backward; check all but their values."""
        subject = self.subject
        for parameter in subject.parameters:
            parameter.grad = None
        inputs, g = subject.inputs(subject.values), subject.xp.asarray(self.g.copy())

        _, backward = subject.run(inputs)
        self.check_unchanged("the forward pass", inputs, g)
        to_inputs = backward(g)
        to_inputs = list(to_inputs) if isinstance(to_inputs, tuple | list) else [to_inputs]
        if len(to_inputs) != len(inputs):
            raise self.failed(f"backward returned {len(to_inputs)} gradient(s) for {len(inputs)} input(s)")
        to_all = to_inputs + [parameter.grad for parameter in subject.parameters]
        for name, value, gradient in zip(subject.names, subject.values, to_all, strict=True):
            self.check_form(name, value, gradient)
        gradients = [as_numpy(gradient).copy() for gradient in to_all]

        _, backward = subject.run(subject.inputs(subject.values))
        backward(subject.xp.asarray(self.g.copy()))
        # After the second pass, because it adds to the gradient, which may be g itself, not a copy.
        self.check_unchanged("the backward pass", inputs, g)
        sums = zip(subject.names[len(inputs) :], subject.parameters, gradients[len(inputs) :], strict=True)
        for name, parameter, once in sums:
            self.check_sum(name, once, as_numpy(parameter.grad))
        return gradients

    def failed(self, sentence: str) -> CheckFailedError:
        return CheckFailedError(f"{self.subject.title}: {sentence}")

    def check_unchanged(self, culprit: str, inputs: list[Array], g: Array) -> None:
        names = [*self.subject.names, "the gradient it receives"]
        arrays = [*inputs, *(parameter.data for parameter in self.subject.parameters), g]
        before = dict(zip(names, [*self.subject.values, self.g], strict=True))
        if problem := in_place(culprit, before, dict(zip(names, arrays, strict=True))):
            raise self.failed(problem)

    def check_form(self, name: str, value: Array, gradient: Any) -> None:
        if gradient is None:
            raise self.failed(f"the backward pass gives no gradient to {name}")
        if problem := form_problem(gradient, value.shape, "float64", self.subject.xp):
            raise self.failed(f"the gradient to {name} {problem}")
        if lost := np.argwhere(~np.isfinite(as_numpy(gradient))).tolist():
            raise self.failed(f"the gradient to {name} is not a finite number at {lost[0]}")

    def check_sum(self, name: str, once: Array, twice: Array) -> None:
        if np.allclose(twice, 2 * once, rtol=1e-10, atol=1e-10 * float(np.abs(once).max(initial=0))):
            return
        how = "it overwrites it" if np.allclose(twice, once) else worst_entry(2 * once, twice)
        raise self.failed(f"a second backward pass must add to the gradient to {name}, but {how}")

    def slope(self, index: int, direction: Array) -> tuple[float, float]:
        """Measure the slope of <f, g> along a direction; return it with an estimate of its error."""
        amount = float(np.abs(self.subject.output * self.g).sum())
        rise, scale = self.subject.rise(index, direction, self.g), self.subject.scale(index)
        slope, error = measure_slope(rise, scale=scale, rounding=EPS * amount, tolerance=self.tolerance)
        if not error <= max(self.tolerance * abs(slope), 1e-8 * amount):
            raise ValueError(
                f"{self.subject.title} has a jump or a kink so near to this {self.subject.names[index]} "
                f"that no slope can be measured; choose other values"
            )
        return slope, error

    def compare(self, index: int, gradient: Array) -> str:
        """Return what is wrong with the gradient to a variable, or an empty string."""
        wrong = f"{self.subject.title}: the gradient to {self.subject.names[index]} is wrong"
        for _ in range(DIRECTIONS if gradient.size else 0):
            direction = np.asarray(self.rng.standard_normal(gradient.shape))
            direction /= np.sqrt(np.vdot(direction, direction))
            computed = float(np.vdot(gradient, direction))
            measured, error = self.slope(index, direction)
            # The slope may be close to 0 by cancellation; then the size of the gradient counts.
            typical = max(abs(measured), abs(computed), root_mean_square(gradient))
            if not abs(measured - computed) <= self.tolerance * typical + error:
                return wrong + (
                    self.wrong_entries(index, gradient)
                    or f": in a random direction the slope is {number(measured)}, but according to the "
                    f"gradient {number(computed)}"
                )
        return ""

    def wrong_entries(self, index: int, gradient: Array) -> str:
        """Compare each entry (some, if there are many) with its slope; return what is wrong, if anything."""
        entries = np.arange(gradient.size)
        if gradient.size > MAX_ENTRIES:
            entries = np.sort(self.rng.choice(gradient.size, MAX_ENTRIES, replace=False))
        expected = gradient.copy()
        for entry in entries:
            where = np.unravel_index(int(entry), gradient.shape)
            measured, error = self.slope(index, _unit(gradient.shape, where))
            if abs(measured - gradient[where]) > error:
                expected[where] = measured
        if np.array_equal(expected, gradient):
            return ""
        self.refuse_kink(index, worst_index(expected, gradient), gradient)
        some = f" (among {len(entries)} entries checked)" if len(entries) < gradient.size else ""
        pattern = constant_ratio(expected.reshape(-1)[entries], gradient.reshape(-1)[entries])
        return f"{pattern}\n{worst_entry(expected, gradient)}{some}"

    def refuse_kink(self, index: int, where: tuple[int, ...], gradient: Array) -> None:
        """Raise if an entry lies on a kink, and the gradient is between the slopes on its two sides."""
        unit = _unit(gradient.shape, where)
        sides = kink(self.subject.rise(index, unit, self.g), self.subject.scale(index))
        if sides and min(sides) - 1e-6 <= gradient[where] <= max(sides) + 1e-6:
            raise ValueError(
                f"{self.subject.title} has a kink in {self.subject.names[index]} at {list(where)}: the slope "
                f"is {number(sides[0])} below and {number(sides[1])} above, so there is no gradient to "
                f"compare with; choose values without zeros and without equal neighbours"
            )


def _unit(shape: tuple[int, ...], index: tuple[Any, ...]) -> Array:
    unit = np.zeros(shape)
    unit[index] = 1
    return unit
