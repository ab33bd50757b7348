"""Are two answers the same? And if not, what is wrong, in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.checks.failure import constant_ratio, number

_MOST_NUMBERS = 12  # up to which an array is written out


def problem_with(got: Any, right: Any, tolerance: float) -> str:
    """Return what is wrong with an answer, or nothing.

    Numbers, arrays and nested sequences of them are compared: shapes, NaNs, and values up to `tolerance`
    relative to the largest right one. Anything else must be equal.

    Example:
        >>> problem_with(np.ones((2, 3)), np.ones((3, 2)), 1e-6)
        'the result must have shape (3, 2), yours has (2, 3)'
        >>> problem_with([1, 2.0000001], (1, 2), 1e-6)
        ''
        >>> problem_with(None, 3, 1e-6)
        'the function returns None: is there a "return"?'
    """
    if got is None and right is not None:
        return 'the function returns None: is there a "return"?'
    if isinstance(right, Sequence) and not isinstance(right, str):
        return _sequence_problem(got, right, tolerance)
    if not isinstance(right, np.ndarray | np.generic | int | float):
        return "" if bool(got == right) else f"the result must be {right!r}, yours is {got!r}"
    try:
        yours = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return f"the result must be {_kind(right)}, yours is {_kind(got)}"
    truth = np.asarray(right, np.float64)
    if yours.shape != truth.shape:
        return f"the result must have shape {truth.shape}, yours has {yours.shape}"
    return _number_problem(yours, truth, tolerance)


def _sequence_problem(got: Any, right: Sequence[Any], tolerance: float) -> str:
    if not isinstance(got, Sequence | np.ndarray) or isinstance(got, str):
        return f"the result must be {len(right)} values, yours is {_kind(got)}"
    if len(got) != len(right):
        return f"the result must be {len(right)} values, yours are {len(got)}"
    for position, (one, other) in enumerate(zip(got, right, strict=True)):
        if problem := problem_with(one, other, tolerance):
            return f"of the results, number {position + 1}: {problem}"
    return ""


def _number_problem(yours: Array, truth: Array, tolerance: float) -> str:
    both = np.isnan(yours) & np.isnan(truth)
    yours, truth = np.where(both, 0.0, yours), np.where(both, 0.0, truth)  # NaN where it is expected is right
    scale = float(np.abs(truth[np.isfinite(truth)]).max(initial=0)) or 1.0
    if np.allclose(yours, truth, rtol=0, atol=tolerance * scale):
        return ""
    if yours.ndim == 0:
        return f"the result must be {number(float(truth))}, yours is {number(float(yours))}"
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.abs(yours - truth)
    difference[np.isnan(difference)] = np.inf  # nothing is further off
    difference[yours == truth] = 0
    index = np.unravel_index(int(np.argmax(difference)), truth.shape)
    factor = constant_ratio(truth, yours) if np.isfinite(yours).all() and np.isfinite(truth).all() else ""
    return (
        f"the result is wrong: at {[int(i) for i in index]} expected {number(float(truth[index]))}, "
        f"yours {number(float(yours[index]))} (largest difference){factor}"
    )


def short_value(value: Any) -> str:
    """Return an argument as a message shows it.

    Example:
        >>> short_value(np.array([[1.0, -2.5]])), short_value(np.ones((9, 9))), short_value(3)
        ('(1, 2) = [[1, -2.5]]', '(9, 9)', '= 3')
    """
    if not isinstance(value, np.ndarray):
        return f"= {value!r}"
    if value.size > _MOST_NUMBERS:
        return str(value.shape)
    return f"{value.shape} = {_written(value)}"


def _written(array: Array) -> str:
    if array.ndim == 0:
        return number(float(array))
    return f"[{', '.join(_written(part) for part in array)}]"


def _kind(value: Any) -> str:
    return f"an array {value.shape}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
