"""Local response (AlexNet), batch and group normalisation, with their gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import (
    check_channels,
    check_float,
    check_number,
    check_rank,
    check_same_shape,
)
from minifcn.geometry import check_integer
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.workspace import cut

PAIR = 1 << 21
"""Elements of two chunks of channels, at most. Chunks are larger than the cache of a core, because each takes
a dozen calls of NumPy, and threads often wait for the interpreter's lock if calls are short."""

SMALL = 1 << 18
"""So many elements are not worth a second thread."""


def _channel_sums(x: Array, size: int) -> Array:
    """Sum each channel of x (N, C, H, W) with its neighbours, `size` in all, or fewer at the ends."""
    before, after = size // 2, (size - 1) // 2
    channels = x.shape[1]
    sums: Array = x.copy()
    for shift in range(1, max(before, after) + 1):
        if shift <= before:
            sums[:, shift:] += x[:, : channels - shift]
        if shift <= after:
            sums[:, : channels - shift] += x[:, shift:]
    return sums


def local_response_norm(
    x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, Array]:
    """Divide each element by the energy of its neighbours in other channels.

    y = x / scale ** beta,  scale = k + alpha / size * (sum of x ** 2 over `size` neighbouring channels)

    (Krizhevsky et al. 2012, section 3.3, with alpha divided by the size as Caffe and PyTorch do.)

    Args:
        x: (N, C, H, W), float32 or float64.
        size: Number of channels in the sum, an odd number.
        alpha: Weight of the sum.
        beta: Exponent.
        k: Added to the sum.

    Returns:
        y and `scale`, which the gradient needs.

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If x does not have 4 axes, or size is not odd.

    Example:
        >>> import numpy as np
        >>> y, scale = local_response_norm(np.full((1, 1, 1, 1), 2.0), size=1, alpha=1.0, beta=1.0)
        >>> float(y[0, 0, 0, 0]), float(scale[0, 0, 0, 0])
        (0.4, 5.0)
    """
    check_float(x=x)
    check_rank(4, "(N, C, H, W)", x=x)
    _check_size(size)
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        check_number(value, name)
    scale = _channel_sums(x * x, min(size, 2 * x.shape[1] - 1))
    scale *= alpha / size
    scale += k
    return x * scale**-beta, scale


def local_response_norm_grad(
    dy: Array, x: Array, scale: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Return the gradient of `local_response_norm`.

    dx = dy scale ** -beta - 2 alpha beta / size * x * (sum over neighbours of dy x scale ** (-beta - 1))

    Example:
        >>> import numpy as np
        >>> x = np.full((1, 1, 1, 1), 2.0)
        >>> y, scale = local_response_norm(x, size=1, alpha=1.0, beta=1.0)
        >>> round(float(local_response_norm_grad(np.ones_like(x), x, scale, 1, 1.0, 1.0)[0, 0, 0, 0]), 3)
        -0.12
    """
    check_float(dy=dy, x=x, scale=scale)
    check_rank(4, "(N, C, H, W)", dy=dy, x=x, scale=scale)
    check_same_shape(dy=dy, x=x, scale=scale)
    _check_size(size)
    for name, value in (("alpha", alpha), ("beta", beta)):
        check_number(value, name)
    power = scale**-beta
    shared = _channel_sums(dy * x * power / scale, min(size, 2 * x.shape[1] - 1))
    dx: Array = dy * power - (2 * alpha * beta / size) * x * shared
    return dx


def _check_size(size: int) -> None:
    if check_integer(size, "size", 1) % 2 == 0:
        raise ValueError(f"size must be an odd number of channels, got {size}")


class BatchNormCache(NamedTuple):
    """What the gradient of `batch_norm` needs, and the statistics by which it normalised, each (C,)."""

    normalized: Array
    inverse_std: Array
    mean: Array
    variance: Array


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array | None = None,
    variance: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, BatchNormCache]:
    """Normalise each channel with a mean and a variance, then scale and shift it.

    y = gamma (x - mean) / sqrt(variance + eps) + beta   (Ioffe & Szegedy 2015)

    Args:
        x: (N, C, H, W), float32 or float64.
        gamma: Scale (C,).
        beta: Shift (C,).
        mean: (C,), of all batches; `None` means that of x, as in training.
        variance: (C,), likewise, dividing by the number of values.
        eps: Added to the variance.

    Returns:
        y and the cache that the gradient needs.

    Raises:
        TypeError: If x is not a floating-point array, or only one of mean and variance is given.
        ValueError: If x does not have 4 axes.

    Example:
        >>> import numpy as np
        >>> x = np.array([1.0, 3.0]).reshape(1, 1, 1, 2)
        >>> y, cache = batch_norm(x, np.ones(1), np.zeros(1), eps=0.0)
        >>> y, cache.mean, cache.variance
        (array([[[[-1.,  1.]]]]), array([2.]), array([1.]))
    """
    xp = check_float(x=x, gamma=gamma, beta=beta)
    check_rank(4, "(N, C, H, W)", x=x)
    check_number(eps, "eps")
    of_batch = mean is None and variance is None
    means: Any = xp.empty_like(gamma) if of_batch else mean
    variances: Any = xp.empty_like(gamma) if of_batch else variance
    check_float(x=x, mean=means, variance=variances)
    check_channels(x.shape[1], gamma=gamma, beta=beta, mean=means, variance=variances)
    inverse_std = xp.empty_like(gamma)
    y, normalized = (xp.empty(x.shape, x.dtype) for _ in range(2))
    count = max(x.size // max(x.shape[1], 1), 1)

    def normalize(some: slice) -> None:
        # The channels of a chunk stay in the cache for all of this, (N, some of C, pixels).
        values, part, result = (_planes(array[:, some]) for array in (x, normalized, y))
        if of_batch:
            means[some] = values.mean(axis=(0, 2))
        xp.subtract(values, means[some, None], out=part)
        if of_batch:
            variances[some] = _sums(xp.multiply(part, part, out=result)) / count
        inverse_std[some] = 1 / xp.sqrt(variances[some] + x.dtype.type(eps))
        part *= inverse_std[some, None]
        xp.multiply(part, gamma[some, None], out=result)
        result += beta[some, None]

    _for_channels(normalize, x)
    return y, BatchNormCache(normalized, inverse_std, means, variances)


def _planes(x: Array) -> Array:
    """Return x (N, C, H, W) as (N, C, H * W): a view of an array whose pixels lie side by side."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def _sums(planes: Array) -> Array:
    """Return the sum (C,) of each channel of planes (N, C, pixels), by a product with ones, which is fast."""
    xp = array_module(planes)
    total: Array = xp.dot(planes, xp.ones(planes.shape[2], planes.dtype)).sum(axis=0)
    return total


def _for_channels(function: Callable[[slice], None], x: Array) -> None:
    """Call a function with slices that cover the channels of x (N, C, H, W), on all cores."""
    xp, channels = array_module(x=x), x.shape[1]
    chunks = 2 * -(-x.size // PAIR) if xp is np and x.size > SMALL else 1
    parallel_map(function, cut(channels, -(-channels // chunks)), xp)


def batch_norm_grad(
    dy: Array, gamma: Array, cache: BatchNormCache, *, of_batch: bool
) -> tuple[Array, Array, Array]:
    """Return the gradients of `batch_norm` to x, gamma and beta.

    Args:
        dy: Gradient to the output, (N, C, H, W).
        gamma: Scale (C,).
        cache: From `batch_norm`.
        of_batch: Whether mean and variance were those of x itself, so that they depend on x, too.

    Example:
        >>> import numpy as np
        >>> y, cache = batch_norm(np.array([[[[1.0, 3.0]]]]), np.ones(1), np.zeros(1), eps=0.0)
        >>> batch_norm_grad(np.array([[[[0.0, 2.0]]]]), np.ones(1), cache, of_batch=True)[0]
        array([[[[0., 0.]]]])
    """
    if not isinstance(cache, BatchNormCache):
        raise TypeError(f"cache must come from batch_norm, got {type(cache).__name__}")
    normalized, inverse_std, *_ = cache
    check_float(dy=dy, gamma=gamma, normalized=normalized, inverse_std=inverse_std)
    check_rank(4, "(N, C, H, W)", dy=dy, normalized=normalized)
    check_same_shape(dy=dy, normalized=normalized)
    check_channels(dy.shape[1], gamma=gamma, inverse_std=inverse_std)
    xp = array_module(dy=dy)
    count = max(dy.size // max(dy.shape[1], 1), 1)
    dx = xp.empty(dy.shape, dy.dtype)
    dgamma, dbeta = (xp.empty_like(gamma) for _ in range(2))
    scale = gamma * inverse_std

    def gradients(some: slice) -> None:
        gradient, values, result = (_planes(array[:, some]) for array in (dy, normalized, dx))
        dgamma[some] = _sums(xp.multiply(gradient, values, out=result))
        dbeta[some] = _sums(gradient)
        if of_batch:  # without what mean and variance take away
            xp.multiply(values, dgamma[some, None] / count, out=result)
            result += dbeta[some, None] / count
            gradient = xp.subtract(gradient, result, out=result)
        xp.multiply(gradient, scale[some, None], out=result)

    _for_channels(gradients, dy)
    return dx, dgamma, dbeta


def group_norm(
    x: Array, gamma: Array, beta: Array, num_groups: int, eps: float = 1e-5
) -> tuple[Array, BatchNormCache]:
    """Normalise each group of channels of each image by its own mean and variance, then scale and shift.

    This is `batch_norm` of one image whose channels are the groups (Wu & He 2018).

    Args:
        x: (N, C, H, W), float32 or float64.
        gamma: Scale (C,).
        beta: Shift (C,).
        num_groups: Number of groups, a divisor of C.
        eps: Added to the variance.

    Returns:
        y and the cache that the gradient needs.

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If x does not have 4 axes, or the groups do not divide its channels.

    Example:
        >>> import numpy as np
        >>> x = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)
        >>> group_norm(x, np.ones(2), np.zeros(2), 1, eps=0.0)[0].ravel()
        array([-1.,  1.])
    """
    xp = check_float(x=x, gamma=gamma, beta=beta)
    check_rank(4, "(N, C, H, W)", x=x)
    if x.shape[1] % check_integer(num_groups, "num_groups", 1):
        raise ValueError(f"num_groups must divide the {x.shape[1]} channels of x, got {num_groups}")
    groups = x.reshape(1, len(x) * num_groups, -1, 1)  # (N, C, H, W) -> (1, N * G, C / G * H * W, 1)
    one = xp.ones(groups.shape[1], x.dtype)
    _, cache = batch_norm(groups, one, one, eps=eps)
    normalized = cache.normalized.reshape(x.shape)
    y = normalized * gamma[:, None, None] + beta[:, None, None]
    return y, cache._replace(normalized=normalized)


def group_norm_grad(dy: Array, gamma: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Return the gradients of `group_norm` to x, gamma and beta.

    Example:
        >>> import numpy as np
        >>> y, cache = group_norm(np.array([[[[1.0, 3.0]]]]), np.ones(1), np.zeros(1), 1, eps=0.0)
        >>> group_norm_grad(np.array([[[[0.0, 2.0]]]]), np.ones(1), cache)[0]
        array([[[[0., 0.]]]])
    """
    xp = check_float(dy=dy, gamma=gamma, normalized=cache.normalized)
    grouped = 1, len(cache.inverse_std), -1, 1  # (N, C, H, W) -> (1, N * G, C / G * H * W, 1)
    of_groups = cache._replace(normalized=cache.normalized.reshape(grouped))
    dgroups = (dy * gamma[:, None, None]).reshape(grouped)
    one = xp.ones(len(cache.inverse_std), dy.dtype)
    dx, _, _ = batch_norm_grad(dgroups, one, of_groups, of_batch=True)
    return dx.reshape(dy.shape), (dy * cache.normalized).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
