"""Which algorithm computes one of the three maps of convolution: the one with the fewest estimated seconds.

The choice depends on geometry, shapes, dtype and array library alone, never on threads, a clock or files, so
equal inputs give equal bits. To add an algorithm, write a module in `minifcn/kernels/` and add it to
`ALGORITHMS`.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels import bands, blocks, im2col, loops, plain, polyphase, taps, winograd
from minifcn.kernels.plans import Plan, Problem
from minifcn.printing import brief

Planner: TypeAlias = Callable[[Problem], Plan | None]
"""Makes a plan for a problem, or returns `None` if the algorithm is not suitable."""

ALGORITHMS = polyphase, im2col, blocks, winograd, bands, taps, plain, loops

_PLANNERS: dict[str, dict[str, Planner]] = {
    operation: {
        module.__name__.rpartition(".")[2]: getattr(module, planner)
        for module in ALGORITHMS
        if hasattr(module, planner)
    }
    for operation, planner in (
        ("conv2d", "plan_conv2d"),
        ("conv2d_input_grad", "plan_input_grad"),
        ("conv2d_weight_grad", "plan_weight_grad"),
    )
}

OPERATIONS = tuple(_PLANNERS)


def plans(operation: str, problem: Problem) -> dict[str, Plan]:
    """Return the plans of all algorithms that are suitable for a problem, by name."""
    candidates = {name: planner(problem) for name, planner in _PLANNERS[operation].items()}
    return {name: plan for name, plan in candidates.items() if plan is not None}


@lru_cache(maxsize=1024)  # a network asks for the same few plans in every step
def best(operation: str, problem: Problem) -> Plan:
    """Return the plan with the fewest estimated seconds."""
    return min(plans(operation, problem).values(), key=attrgetter("seconds"))


def algorithms_for(operation: str, geometry: ConvGeometry | None = None) -> tuple[str, ...]:
    """Return the names that `algorithm=` may have for an operation.

    Args:
        operation: `"conv2d"`, `"conv2d_input_grad"` or `"conv2d_weight_grad"`.
        geometry: Leave out the algorithms that are not suitable for such convolutions.

    Example:
        >>> algorithms_for("conv2d_input_grad")
        ('polyphase', 'im2col', 'winograd', 'bands', 'taps', 'plain', 'loops')
        >>> algorithms_for("conv2d", ConvGeometry.of(kernel_size=5))
        ('im2col', 'blocks', 'bands', 'taps', 'plain', 'loops')
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {brief(operation)}")
    if geometry is None:
        return tuple(_PLANNERS[operation])
    if not isinstance(geometry, ConvGeometry):
        raise TypeError(f"geometry must be a ConvGeometry, got {brief(geometry)}")
    size, channels = geometry.input_size_range((1, 1))[0], geometry.groups
    problem = Problem(geometry, 1, channels, channels, size, (1, 1), np.dtype("float32"), np)
    return tuple(plans(operation, problem))


@lru_cache(maxsize=64)
def _planned(operation: str, algorithm: str, problem: Problem) -> Plan | None:
    """Return the plan of one algorithm, if it is known and suitable."""
    planner = _PLANNERS[operation].get(algorithm)
    return planner(problem) if planner else None


def _plan(operation: str, algorithm: str, problem: Problem) -> Plan:
    """Return the plan of an algorithm, or the best one for "auto"."""
    if algorithm == "auto":
        return best(operation, problem)
    plan = _planned(operation, algorithm, problem) if isinstance(algorithm, str) else None
    if plan is None:
        offered = ", ".join(("auto", *plans(operation, problem)))
        raise ValueError(f"algorithm for {operation} must be one of {offered}, got {algorithm!r}")
    return plan


def _problem(x: Array, y: Array, geometry: ConvGeometry) -> Problem:
    """Return the problem of a convolution from arrays like x (N, C, H, W) to arrays like y (N, O, OH, OW)."""
    n, channels, height, width = x.shape
    _, filters, *size = y.shape
    outputs = size[0], size[1]
    # A stride larger than the padded image has no meaning, but there are algorithms with work for each phase.
    if max(geometry.stride) > min(height, width):
        axes = zip(geometry.stride, (height, width), (geometry.rows, geometry.cols), strict=True)
        stride = tuple(min(step, max(n + sum(window.padding), 1)) for step, n, window in axes)
        geometry = geometry.replace(stride=stride)
    return Problem(geometry, n, channels, filters, (height, width), outputs, y.dtype, array_module(x=x, y=y))


def convolve(
    x: Array,
    w: Array,
    b: Array | None,
    geometry: ConvGeometry,
    y: Array,
    *,
    relu: bool = False,
    algorithm: str = "auto",
) -> None:
    """Write the convolution of x (N, C, H, W) with filters w, plus a bias b, to y (N, O, OH, OW).

    Args:
        x: Images.
        w: Filters (O, C / groups, KH, KW).
        b: Bias (O,) or `None`.
        geometry: The window; its kernel is that of w.
        y: The result; it may be some channels of a larger array.
        relu: Write max(y, 0) instead, in one pass, while the outputs are in the cache.
        algorithm: One of `algorithms_for("conv2d")`, or "auto" for the fastest.

    Example:
        >>> import numpy as np
        >>> y = np.zeros((1, 2, 1, 3))
        >>> x, w = np.array([[[[1.0, -2.0, 3.0]]]]), np.ones((1, 1, 1, 1))
        >>> convolve(x, w, None, ConvGeometry.of(1), y[:, 1:], relu=True)
        >>> y[0, :, 0]
        array([[0., 0., 0.],
               [1., 0., 3.]])
    """
    _plan("conv2d", algorithm, _problem(x, y, geometry)).run(x, w, b, y, relu)


def convolve_input_grad(
    dy: Array, w: Array, geometry: ConvGeometry, dx: Array, algorithm: str = "auto"
) -> None:
    """Write the gradient of `convolve` to its input to dx (N, C, H, W)."""
    _plan("conv2d_input_grad", algorithm, _problem(dx, dy, geometry)).run(dy, w, dx)


def convolve_weight_grad(
    x: Array, dy: Array, geometry: ConvGeometry, dw: Array, algorithm: str = "auto"
) -> None:
    """Write the gradient of `convolve` to its filters to dw (O, C / groups, KH, KW), a C-contiguous array."""
    _plan("conv2d_weight_grad", algorithm, _problem(x, dy, geometry)).run(x, dy, dw)
