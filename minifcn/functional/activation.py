"""Rectification and softmax, with their gradients."""

from minifcn.backend import Array
from minifcn.functional.operands import check_axis, check_float, check_out, check_same_shape
from minifcn.kernels.plans import rectify
from minifcn.kernels.threads import flat_chunks, parallel_map


def relu(x: Array, *, out: Array | None = None) -> Array:
    """Return max(x, 0), element by element; NaN stays NaN, and its gradient is 0.

    Args:
        x: Any shape, float32 or float64.
        out: Where to write the result, of the shape and dtype of x; x itself, to save memory.

    Raises:
        TypeError: If x is not a floating-point array.

    Example:
        >>> import numpy as np
        >>> relu(np.array([-1.0, 0.0, 2.0]))
        array([0., 0., 2.])
    """
    xp = check_float(x=x)
    if out is not None:
        check_out(out, x.shape, x.dtype)
    y: Array = xp.empty_like(x) if out is None else out
    parallel_map(lambda chunk: rectify(*chunk), flat_chunks(x, y), xp)
    return y


def relu_grad(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Return the gradient of `relu`: dy where the output y is positive, 0 elsewhere.

    It is computed from the output, which a network keeps anyway for the next layer.

    Args:
        dy: Gradient to the output.
        y: The output.
        out: Where to write the result, of the shape and dtype of dy; y itself, to save memory.

    Example:
        >>> import numpy as np
        >>> relu_grad(np.array([5.0, 6.0, 7.0]), relu(np.array([-1.0, 0.0, 2.0])))
        array([0., 0., 7.])
    """
    xp = check_float(dy=dy, y=y)
    check_same_shape(dy=dy, y=y)
    if out is not None:
        check_out(out, dy.shape, dy.dtype)
    dx: Array = xp.empty_like(dy) if out is None else out
    parallel_map(lambda chunk: xp.multiply(chunk[0], chunk[1] > 0, out=chunk[2]), flat_chunks(dy, y, dx), xp)
    return dx


def softmax(x: Array, axis: int = 1) -> Array:
    """Return exp(x) / sum exp(x) along an axis, in a way that does not overflow.

    NaN or positive infinity among the scores of a position makes all of its results NaN.

    Args:
        x: Scores, float32 or float64; the classes lie along `axis`.
        axis: The axis that sums to 1.

    Raises:
        TypeError: If x is not a floating-point array.

    Example:
        >>> import numpy as np
        >>> softmax(np.array([[1e4, 1e4]]))
        array([[0.5, 0.5]])
    """
    xp = check_float(x=x)
    check_axis(axis, x)
    y: Array = x - x.max(axis=axis, keepdims=True)
    xp.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_grad(dy: Array, y: Array, axis: int = 1) -> Array:
    """Return the gradient of `softmax` from its output: y (dy - sum of y dy).

    Example:
        >>> import numpy as np
        >>> softmax_grad(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
        array([[ 0.25, -0.25]])
    """
    check_float(dy=dy, y=y)
    check_same_shape(dy=dy, y=y)
    check_axis(axis, y)
    dx: Array = y * (dy - (dy * y).sum(axis=axis, keepdims=True))
    return dx
