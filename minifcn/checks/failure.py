"""What a check says when it fails."""

import numpy as np
import numpy.typing as npt


class CheckFailed(AssertionError):
    """A check has found a mistake; the message says which one and where."""


def number(value: float) -> str:
    """Return a number as messages show it: six digits, and a zero without a sign."""
    return f"{value + 0.0:.6g}"


def worst_entry(expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> str:
    """Return the sentence about the entry that is furthest off.

    Example:
        >>> worst_entry(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        'at [1] expected 2, got 4 (relative error 1)'
    """
    difference = np.abs(got - expected)
    difference[np.isnan(difference)] = np.inf  # nothing is further off
    index = np.unravel_index(int(np.argmax(difference)), expected.shape)
    right, wrong = float(expected[index]), float(got[index])
    relative = f" (relative error {abs(wrong - right) / abs(right):.2g})" if right else ""
    return f"at {[int(i) for i in index]} expected {number(right)}, got {number(wrong)}{relative}"


def constant_ratio(expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> str:
    """Return the sentence about a factor that all entries share, or nothing.

    Example:
        >>> constant_ratio(np.array([1.0, 2.0]), np.array([1.01, 2.02]))
        '; it is everywhere 1.01 times too large'
        >>> constant_ratio(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        ''
    """
    if got.size < 2 or not expected.any():
        return ""
    if not got.any():
        return "; it is zero everywhere"
    ratio = float(np.vdot(expected, got) / np.vdot(expected, expected))
    if not np.allclose(got, ratio * expected, rtol=0, atol=1e-6 * float(np.abs(got).max())):
        return ""
    if ratio > 1:
        return f"; it is everywhere {number(ratio)} times too large"
    if ratio > 0:
        return f"; it is everywhere {number(ratio)} times what it should be"
    return f"; it is everywhere {number(ratio)} times what it should be: the sign is wrong"
