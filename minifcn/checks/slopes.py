"""Slopes measured from values of a function, with an estimate of how far they may be off."""

from collections.abc import Callable
from typing import TypeAlias

Rise: TypeAlias = Callable[[float], float]
"""t -> phi(t) - phi(0), for a number phi that changes along a line."""

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)


def measure_slope(rise: Rise, *, scale: float, rounding: float, tolerance: float) -> tuple[float, float]:
    """Measure the slope at t = 0; return it with an estimate of its error.

    Central differences with steps h, h/2, h/4 give two values of Richardson's extrapolation. Their difference
    is the error of truncation; the error of rounding is added. A kink within reach makes the two differ, and
    a smaller step is tried.

    Args:
        rise: The function, less its value at 0.
        scale: Typical size of what is moved; the steps are taken relative to it.
        rounding: How exactly values of the function are known.
        tolerance: Relative error that is wanted.

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

    On a smooth function the two come closer in step with the step size, at a kink they do not.

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
