"""Is this map the adjoint of that one? One dot product answers, without any step size."""

from collections.abc import Callable

import numpy as np

from minifcn.backend import Array
from minifcn.checks.failure import CheckFailed


def check_adjoint(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    input_shape: tuple[int, ...],
    *,
    rng: int | np.random.Generator = 0,
    tolerance: float = 1e-12,
) -> None:
    """Check that <forward(x), g> = <x, adjoint(g)> for random x and g; say nothing if it is so.

    The gradient of a linear map is its adjoint (its matrix, transposed), so this checks a backward pass to
    the last digit. Nothing is approximated, and a wrong adjoint does not pass by luck.

    Args:
        forward: A linear map; leave out the bias.
        adjoint: The map that should be its adjoint.
        input_shape: Shape of x. That of g is the shape of forward(x).
        rng: Generator or seed of x and g, which are float64.
        tolerance: Relative to the lengths ||forward(x)|| ||g|| and ||x|| ||adjoint(g)||.

    Raises:
        CheckFailed: Shows both numbers.

    Example:
        >>> matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> check_adjoint(lambda x: matrix @ x, lambda g: matrix.T @ g, (2,))
        >>> try:
        ...     check_adjoint(lambda x: matrix @ x, lambda g: matrix @ g, (2,))
        ... except CheckFailed as failure:
        ...     print(failure)
        not the adjoint: <forward(x), g> is -0.104549, but <x, adjoint(g)> is -0.202341
    """
    generator = np.random.default_rng(rng)
    zero = forward(np.zeros(input_shape))
    if zero.any():
        raise CheckFailed(
            f"forward is not linear: zeros give numbers up to {np.abs(zero).max():.6g}; leave out the bias"
        )
    x = generator.standard_normal(input_shape)
    y = forward(x.copy())
    g = generator.standard_normal(y.shape)
    x_back = adjoint(g.copy())
    if x_back.shape != x.shape:
        raise CheckFailed(
            f"not the adjoint: for g {g.shape} it must give the shape of x {x.shape}, got {x_back.shape}"
        )
    there, back = float(np.vdot(y, g)), float(np.vdot(x, x_back))
    norm = np.linalg.norm
    if not abs(there - back) <= tolerance * (norm(y) * norm(g) + norm(x) * norm(x_back)):
        raise CheckFailed(
            f"not the adjoint: <forward(x), g> is {there:.6g}, but <x, adjoint(g)> is {back:.6g}"
        )
