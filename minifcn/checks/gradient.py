"""Is this backward pass right? Answered by comparing it with slopes that the forward pass shows.

For an output y = f(x) and any g of its shape, backward(g) must be the gradient of <f(x), g>. Walking from x
along a direction u, that number rises with the slope <backward(g), u>, and the slope can be measured by a few
evaluations of f, whatever the size of x (the dot-product test, as `check_vjp` of HIPS autograd). The g must
be random: under ones, a flipped kernel passes almost everywhere.
"""

from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.checks.failure import CheckFailed, constant_ratio, number, worst_entry
from minifcn.checks.slopes import kink, measure_slope
from minifcn.checks.subject import Function, Subject, numbers
from minifcn.layers.base import Layer

DIRECTIONS = 3
MAX_ENTRIES = 100
EPS = float(np.finfo(np.float64).eps)


def check_gradient(
    layer_or_function: Layer | Function,
    *inputs: Array,
    rng: int | np.random.Generator = 0,
    tolerance: float = 1e-6,
) -> None:
    """Check every gradient of a layer or a function against measured slopes; say nothing if all are right.

    Checked are the gradients to all inputs and all trainable parameters: their values, shapes and dtypes;
    that neither pass changes the inputs, the parameters or the gradient it is given; and that a second
    backward pass of a layer adds to the gradients of its parameters. The layer is given its old numbers back.

    Args:
        layer_or_function: A `Layer`, or a function `f(*inputs) -> (output, backward)`, where `backward(dy)`
            returns the gradient to each input, in their order.
        *inputs: float64 arrays. Keep them away from kinks and ties (zeros into ReLU, equal neighbours into
            max pooling), where there is no gradient to compare with.
        rng: Generator or seed of the random directions and of the random gradient to the output.
        tolerance: Relative error from which on a gradient is wrong.

    Raises:
        CheckFailed: Names each wrong gradient, its worst entry, what was expected and what came.
        TypeError: If an input or a parameter is not a float64 array.
        ValueError: If the inputs lie on a kink or a jump.

    Example:
        A layer of one's own, which forgets a factor:

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
        ... except CheckFailed as failure:
        ...     print(failure)
        Square(): the gradient to x is wrong; it is everywhere 0.5 times what it should be
        at [0, 2] expected 0.820282, got 0.410141 (relative error 0.5)

        A function that returns its output and its backward pass:

        >>> def scaled(x, factor):
        ...     return x * factor, lambda dy: (dy * factor, (dy * x).sum())
        >>> check_gradient(scaled, x, np.array(3.0))
    """
    check = _GradientCheck(Subject(layer_or_function, inputs), np.random.default_rng(rng), tolerance)
    with check.subject.left_as_it_was():
        gradients = check.analytic()
        verdicts = [check.compare(index, gradient) for index, gradient in enumerate(gradients)]
    problems = [verdict for verdict in verdicts if verdict]
    if problems:
        raise CheckFailed("\n".join(problems))


class _GradientCheck:
    """One subject, one random g, and what backward and forward say about the slope of <f, g>."""

    def __init__(self, subject: Subject, rng: np.random.Generator, tolerance: float):
        self.subject, self.rng, self.tolerance = subject, rng, tolerance
        self.g = np.asarray(rng.standard_normal(subject.output.shape))

    # What backward says

    def analytic(self) -> list[Array]:
        """Return the gradients to all variables, and check what can be told without the right ones."""
        subject = self.subject
        for parameter in subject.parameters:
            parameter.grad = None
        handed = [subject.xp.asarray(x.copy()) for x in subject.inputs]
        g = subject.xp.asarray(self.g.copy())
        before = [value.copy() for value in subject.values()]

        _, backward = subject.run(handed)
        self.unchanged("the forward pass", handed, before)
        to_inputs = backward(g)
        to_inputs = list(to_inputs) if isinstance(to_inputs, tuple | list) else [to_inputs]
        if len(to_inputs) != len(handed):
            raise self.failed(f"backward returned {len(to_inputs)} gradient(s) for {len(handed)} input(s)")
        self.unchanged("the backward pass", handed, before)
        to_all = to_inputs + [parameter.grad for parameter in subject.parameters]
        for name, value, gradient in zip(subject.names, before, to_all, strict=True):
            self.well_formed(name, value, gradient)
        gradients = [numbers(gradient).copy() for gradient in to_all]

        _, backward = subject.run(handed)
        backward(subject.xp.asarray(self.g.copy()))
        self.g_unchanged(g)  # by the first pass, or by the second, which adds to what the first has kept
        inputs = len(handed)
        for name, parameter, once in zip(
            subject.names[inputs:], subject.parameters, gradients[inputs:], strict=True
        ):
            self.added(name, once, numbers(parameter.grad))
        return gradients

    def failed(self, sentence: str) -> CheckFailed:
        return CheckFailed(f"{self.subject.title}: {sentence}")

    def unchanged(self, culprit: str, handed: list[Array], before: list[Array]) -> None:
        after = handed + [parameter.data for parameter in self.subject.parameters]
        for name, old, new in zip(self.subject.names, before, after, strict=True):
            if not np.array_equal(old, numbers(new), equal_nan=True):
                raise self.failed(f"{culprit} changes {name} in place; work on a copy")

    def g_unchanged(self, g: Array) -> None:
        if not np.array_equal(self.g, numbers(g)):
            raise self.failed("the backward pass changes the gradient it is given in place; work on a copy")

    def well_formed(self, name: str, value: Array, gradient: Any) -> None:
        if gradient is None:
            raise self.failed(f"the backward pass gives no gradient to {name}")
        if not isinstance(gradient, self.subject.xp.ndarray | np.generic):
            raise self.failed(f"the gradient to {name} must be an array, got {type(gradient).__name__}")
        if gradient.shape != value.shape:
            raise self.failed(f"the gradient to {name} must have shape {value.shape}, got {gradient.shape}")
        if gradient.dtype != np.float64:
            raise self.failed(f"the gradient to {name} must be float64, got {gradient.dtype}")
        lost = np.argwhere(~np.isfinite(numbers(gradient))).tolist()
        if lost:
            raise self.failed(f"the gradient to {name} is not a finite number at {lost[0]}")

    def added(self, name: str, once: Array, twice: Array) -> None:
        if np.allclose(twice, 2 * once, rtol=1e-10, atol=1e-10 * float(np.abs(once).max(initial=0))):
            return
        how = "it is overwritten" if np.allclose(twice, once) else worst_entry(2 * once, twice)
        raise self.failed(f"a second backward pass must add to the gradient to {name}, but {how}")

    # What forward shows

    def slope(self, index: int, direction: Array) -> tuple[float, float]:
        """Measure the slope of <f, g> along a direction; return it with an estimate of its error."""
        amount = float(np.abs(self.subject.output * self.g).sum())
        slope, error = measure_slope(
            self.subject.rise(index, direction, self.g),
            scale=self.scale(index),
            rounding=EPS * amount,
            tolerance=self.tolerance,
        )
        if not error <= max(self.tolerance * abs(slope), 1e-8 * amount):
            raise ValueError(
                f"{self.subject.title} jumps or bends so near to this {self.subject.names[index]} that no "
                f"slope can be measured; choose other values"
            )
        return slope, error

    def scale(self, index: int) -> float:
        """Return the typical size of a variable, by which steps are measured."""
        return max(1.0, _rms(self.subject.values()[index]))

    # Both together

    def compare(self, index: int, gradient: Array) -> str:
        """Return what is wrong with the gradient to a variable, or nothing."""
        wrong = f"{self.subject.title}: the gradient to {self.subject.names[index]} is wrong"
        for _ in range(DIRECTIONS if gradient.size else 0):
            direction = np.asarray(self.rng.standard_normal(gradient.shape))
            direction /= np.sqrt(np.vdot(direction, direction))
            said = float(np.vdot(gradient, direction))
            measured, error = self.slope(index, direction)
            typical = max(abs(measured), abs(said), _rms(gradient))
            if not abs(measured - said) <= self.tolerance * typical + error:
                return wrong + (
                    self.wrong_entries(index, gradient)
                    or f": along a random direction the slope is {number(measured)}, but the gradient says "
                    f"{number(said)}"
                )
        return ""

    def wrong_entries(self, index: int, gradient: Array) -> str:
        """Measure the slope for each entry (for some, if there are many), and describe what is found."""
        entries = np.arange(gradient.size)
        if gradient.size > MAX_ENTRIES:
            entries = np.sort(self.rng.choice(gradient.size, MAX_ENTRIES, replace=False))
        expected = gradient.copy()
        for entry in entries:
            where = np.unravel_index(int(entry), gradient.shape)
            unit = np.zeros(gradient.shape)
            unit[where] = 1
            measured, error = self.slope(index, unit)
            if abs(measured - gradient[where]) > error:
                expected[where] = measured
        if np.array_equal(expected, gradient):
            return ""
        self.refuse_kink(index, np.argmax(np.abs(expected - gradient)), gradient)
        some = f" (among {len(entries)} entries looked at)" if len(entries) < gradient.size else ""
        pattern = constant_ratio(expected.reshape(-1)[entries], gradient.reshape(-1)[entries])
        return f"{pattern}\n{worst_entry(expected, gradient)}{some}"

    def refuse_kink(self, index: int, entry: Any, gradient: Array) -> None:
        """Raise if an entry lies on a kink, and the gradient between the slopes on its two sides."""
        where = np.unravel_index(int(entry), gradient.shape)
        unit = np.zeros(gradient.shape)
        unit[where] = 1
        sides = kink(self.subject.rise(index, unit, self.g), self.scale(index))
        if sides and min(sides) - 1e-6 <= gradient[where] <= max(sides) + 1e-6:
            raise ValueError(
                f"{self.subject.title} has a kink where {self.subject.names[index]} lies at "
                f"{[int(i) for i in where]}: the slope is {number(sides[0])} below and {number(sides[1])} "
                f"above, so there is no gradient to compare with; choose values without zeros and without "
                f"equal neighbours"
            )


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0
