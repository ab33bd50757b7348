"""Compares results with what they should be, and says in one sentence how they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module, to_numpy

_MAX_WRITTEN = 12  # elements up to which an array is written out


class CheckFailedError(AssertionError):
    """A check has found a mistake; the message says which one, and where.

    Example:
        >>> import numpy as np
        >>> from minifcn.checks import CheckFailedError, check_gradient
        >>> from minifcn.layers import ReLU
        >>> class Wrong(ReLU):
        ...     def backward(self, dy):
        ...         return dy
        >>> try:
        ...     check_gradient(Wrong(), np.random.default_rng(0).normal(size=(3, 4)))
        ... except CheckFailedError as error:
        ...     print("the gradient to x is wrong" in str(error))
        True
    """


def number(value: float) -> str:
    """Return a number with six digits, and a zero without a sign, as messages show it."""
    return f"{value + 0.0:.6g}"


def as_numpy(value: Any) -> Array:
    """Return an array, or the scalar that a reduction gives, as a NumPy array."""
    return np.asarray(value) if isinstance(value, float | np.generic) else to_numpy(value)


def worst_index(expected: Array, got: Array) -> tuple[int, ...]:
    """Return the index of the largest difference; a NaN on one side only differs by infinity.

    Example:
        >>> worst_index(np.array([1.0, 2.0, np.nan]), np.array([1.5, 4.0, np.nan]))
        (1,)
    """
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.abs(got - expected)
    difference[np.isnan(difference)] = np.inf
    difference[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape))


def worst_entry(expected: Array, got: Array) -> str:
    """Return the sentence about the largest difference.

    Example:
        >>> worst_entry(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        'at [1] expected 2, got 4 (relative error 1)'
    """
    index = worst_index(expected, got)
    right, wrong = float(expected[index]), float(got[index])
    relative = f" (relative error {abs(wrong - right) / abs(right):.2g})" if right else ""
    return f"at {list(index)} expected {number(right)}, got {number(wrong)}{relative}"


def constant_ratio(expected: Array, got: Array) -> str:
    """Return the sentence about a factor that all elements share, or an empty string.

    Example:
        >>> constant_ratio(np.array([1.0, 2.0]), np.array([1.01, 2.02]))
        '; every element is 1.01 times too large'
        >>> constant_ratio(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        ''
    """
    if got.size < 2 or not expected.any() or not np.isfinite(expected).all() or not np.isfinite(got).all():
        return ""
    if not got.any():
        return "; every element is 0"
    ratio = float(np.vdot(expected, got) / np.vdot(expected, expected))
    same = np.allclose(got, ratio * expected, rtol=0, atol=1e-6 * float(np.abs(got).max()))
    if not same or abs(ratio - 1) < 1e-5:
        return ""
    too_large = "too large" if ratio > 1 else "the expected value"
    return f"; every element is {number(ratio)} times {too_large}" + ", the sign is wrong" * (ratio < 0)


def in_place(culprit: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the sentence about the first array that was changed, or an empty string.

    Example:
        >>> x = np.zeros(2)
        >>> in_place("f", {"x": x}, {"x": x + 1}), in_place("f", {"x": x}, {"x": x.copy()})
        ('f changes x in place; work on a copy', '')
    """
    for name, old in before.items():
        if isinstance(old, str) or not hasattr(old, "dtype"):
            continue
        if not np.array_equal(as_numpy(old), as_numpy(after[name]), equal_nan=old.dtype.kind == "f"):
            return f"{culprit} changes {name} in place; work on a copy"
    return ""


def form_problem(got: Any, shape: tuple[int, ...], dtype: Any, module: Any = np) -> str:
    """Return what is wrong with the type, shape or dtype of an array of `module`, or an empty string.

    Example:
        >>> form_problem(np.zeros(2, np.float32), (2,), "float64"), form_problem(np.zeros(2), (2,), "float64")
        ('must have dtype float64, got float32', '')
    """
    if not isinstance(got, module.ndarray | np.generic):
        return f"must be an array, got {type(got).__name__}"
    if got.shape != shape:
        return f"must have shape {shape}, got {got.shape}"
    return "" if got.dtype == dtype else f"must have dtype {dtype}, got {got.dtype}"


def array_problem(got: Any, expected: Array, tolerance: float) -> str:
    """Return what is wrong with an array, or an empty string; `tolerance` is relative to the largest element.

    Example:
        >>> print(array_problem(np.array([1.0, 4.0]), np.array([1.0, 2.0]), 1e-6))
        is wrong
        at [1] expected 2, got 4 (relative error 1)
    """
    if problem := form_problem(got, expected.shape, expected.dtype, array_module(expected)):
        return problem
    right, wrong = as_numpy(expected), as_numpy(got)
    if np.allclose(wrong, right, rtol=0, atol=tolerance * float(np.abs(right).max(initial=0))):
        return ""
    return f"is wrong{constant_ratio(right, wrong)}\n{worst_entry(right, wrong)}"


def problem_with(got: Any, right: Any, tolerance: float) -> str:
    """Return what is wrong with a result, or an empty string.

    Numbers, arrays and nested sequences and dictionaries of them are compared: shapes, NaNs, and values up to
    `tolerance` relative to the largest expected one. Anything else must be equal.

    Example:
        >>> problem_with(np.ones((2, 3)), np.ones((3, 2)), 1e-6)
        'the result must have shape (3, 2), yours has (2, 3)'
        >>> problem_with([1, 2.0000001], (1, 2), 1e-6)
        ''
        >>> problem_with({"loss": 2.0}, {"loss": 3.0}, 1e-6)
        'loss: the result must be 3, yours is 2'
        >>> problem_with(None, 3, 1e-6)
        'the function returns None: is there a "return"?'
    """
    if got is None and right is not None:
        return 'the function returns None: is there a "return"?'
    if isinstance(right, Sequence) and not isinstance(right, str):
        return _sequence_problem(got, right, tolerance)
    if isinstance(right, Mapping) and isinstance(got, Mapping) and right.keys() == got.keys():
        problems = ((name, problem_with(got[name], right[name], tolerance)) for name in right)
        return next((f"{name}: {problem}" for name, problem in problems if problem), "")
    if not isinstance(right, np.ndarray | np.generic | int | float):
        return "" if bool(got == right) else f"the result must be {right!r}, yours is {got!r}"
    try:
        yours = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return f"the result must be {_kind(right)}, yours is {_kind(got)}"
    truth = np.asarray(right, np.float64)
    if yours.shape != truth.shape:
        return f"the result must have shape {truth.shape}, yours has {yours.shape}"
    scale = float(np.abs(truth[np.isfinite(truth)]).max(initial=0)) or 1.0
    if np.allclose(yours, truth, rtol=0, atol=tolerance * scale, equal_nan=True):
        return ""
    if yours.ndim == 0:
        return f"the result must be {number(float(truth))}, yours is {number(float(yours))}"
    index = worst_index(truth, yours)
    return (
        f"the result is wrong: at {list(index)} expected {number(float(truth[index]))}, "
        f"yours {number(float(yours[index]))} (largest difference){constant_ratio(truth, yours)}"
    )


def _sequence_problem(got: Any, right: Sequence[Any], tolerance: float) -> str:
    if not isinstance(got, Sequence | np.ndarray) or isinstance(got, str):
        return f"the result must be {len(right)} values, yours is {_kind(got)}"
    if len(got) != len(right):
        return f"the result must be {len(right)} values, yours has {len(got)}"
    for position, (one, other) in enumerate(zip(got, right, strict=True), 1):
        if problem := problem_with(one, other, tolerance):
            return f"value {position} of {len(right)}: {problem}"
    return ""


def short_value(value: Any) -> str:
    """Return an argument as a message shows it.

    Example:
        >>> short_value(np.array([[1.0, -2.5]])), short_value(np.ones((9, 9))), short_value(3)
        ('(1, 2) = [[1, -2.5]]', '(9, 9)', '= 3')
    """
    if not isinstance(value, np.ndarray):
        return f"= {value!r}"
    return str(value.shape) if value.size > _MAX_WRITTEN else f"{value.shape} = {_written(value)}"


def _written(array: Array) -> str:
    return f"[{', '.join(map(_written, array))}]" if array.ndim else number(float(array))


def _kind(value: Any) -> str:
    return f"an array {value.shape}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
