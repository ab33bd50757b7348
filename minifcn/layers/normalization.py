"""Local response, batch and group normalisation as layers."""

import math

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional import (
    batch_norm,
    batch_norm_grad,
    group_norm,
    group_norm_grad,
    local_response_norm,
    local_response_norm_grad,
)
from minifcn.functional.operands import check_float, check_number
from minifcn.geometry import CoordinateMap, check_integer
from minifcn.layers.base import Pointwise, Shape, check_image_shape
from minifcn.layers.containers import AnyLayer
from minifcn.layers.cost import Cost, Reach
from minifcn.layers.parameter import Buffer, Parameter


class LocalResponseNorm(Pointwise):
    """Divide each value by the energy of neighbouring channels; see `functional.local_response_norm`.

    Args:
        size: Number of channels in the sum, odd.
        alpha: Weight of the sum (divided by the size).
        beta: Exponent.
        k: Added to the sum.

    Example:
        >>> import numpy as np
        >>> LocalResponseNorm(5)(np.ones((1, 8, 2, 2))).shape
        (1, 8, 2, 2)
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        if check_integer(size, "size", 1) % 2 == 0:
            raise ValueError(f"size must be an odd number of channels, got {size}")
        for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
            check_number(value, name)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Array) -> Array:
        """Return (N, C, H, W)."""
        y, scale = local_response_norm(x, self.size, self.alpha, self.beta, self.k)
        self.keep(x, scale, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        x, scale = self.recall(dy)
        return local_response_norm_grad(dy, x, scale, self.size, self.alpha, self.beta)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, H, W)."""
        check_image_shape(self, shape)
        return shape

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: input and scale are kept."""
        elements = math.prod(shape)
        return Cost(keeps_input=True, extra=elements, forward=elements, backward=4 * elements)


class BatchNorm2d(Pointwise):
    """Normalise each channel by the mean and variance of the batch, or, in evaluation, by running averages.

    A frozen layer (see `freeze_batch_norm`) normalises by the running mean and variance in training, too, and
    none of its values change. Like the mode, this is not part of a model file.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running mean and variance.
        frozen: Use the running averages in training, too, without changing them, and do not train weight and
            bias. Pretrained networks are usually trained this way, as their batches are small. See
            `freeze_batch_norm`.

    Example:
        >>> import numpy as np
        >>> norm = BatchNorm2d(3).astype("float64")
        >>> y = norm(np.random.default_rng(0).normal(5, 2, (4, 3, 8, 8)))
        >>> bool(np.allclose(y.mean(axis=(0, 2, 3)), 0)), list(norm.state_dict())
        (True, ['weight', 'bias', 'running_mean', 'running_var'])
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False):
        self.num_features = check_integer(num_features, "num_features", 1)
        check_number(eps, "eps")
        self.eps, self.momentum, self.frozen = eps, momentum, frozen
        self.weight = Parameter(np.ones(num_features, np.float32), trainable=not frozen)
        self.bias = Parameter(np.zeros(num_features, np.float32), trainable=not frozen)
        self.running_mean = Buffer(np.zeros(num_features, np.float32))
        self.running_var = Buffer(np.ones(num_features, np.float32))

    def forward(self, x: Array) -> Array:
        """Return (N, C, H, W)."""
        check_float(x=x, weight=self.weight.data)
        self.output_shape(x.shape[1:])
        shape = x.shape
        x = x.reshape(*shape, *[1] * (4 - x.ndim))  # (N, C) -> (N, C, 1, 1), in BatchNorm1d
        count, learns = x.size // self.num_features, self.training and not self.frozen
        if learns and count < 2:
            raise ValueError(f"{self!r} needs two values a channel in training, got x {x.shape}")
        mean, variance = (None, None) if learns else (self.running_mean.data, self.running_var.data)
        y, cache = batch_norm(x, self.weight.data, self.bias.data, mean, variance, self.eps)
        if learns:
            unbiased = cache.variance * (count / (count - 1))  # as PyTorch keeps it
            for buffer, new in ((self.running_mean, cache.mean), (self.running_var, unbiased)):
                buffer.data += self.momentum * (new - buffer.data)
        y = y.reshape(shape)
        self.keep(self.weight.data * cache.inverse_std if self.frozen else cache, output=y)
        return y

    def scale_and_shift(self) -> tuple[Array, Array]:
        """Return s and t, each (C,), of y = s x + t, which it computes by its running averages."""
        gamma, variance = self.weight.data, self.running_var.data
        scale = gamma / array_module(gamma).sqrt(variance + gamma.dtype.type(self.eps))
        return scale, self.bias.data - self.running_mean.data * scale

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        (kept,) = self.recall(dy)
        shape = dy.shape
        dy = dy.reshape(*shape, *[1] * (4 - dy.ndim))
        if self.frozen:
            dx: Array = dy * kept[:, None, None]
            return dx.reshape(shape)
        dx, dgamma, dbeta = batch_norm_grad(dy, self.weight.data, kept, of_batch=True)
        self.weight.accumulate(dgamma)
        self.bias.accumulate(dbeta)
        return dx.reshape(shape)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, H, W)."""
        check_image_shape(self, shape, self.num_features)
        return shape

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: the normalised values are kept, unless the layer is frozen."""
        elements = math.prod(shape)
        if self.frozen:
            return Cost(forward=elements)
        return Cost(extra=elements)


class BatchNorm1d(BatchNorm2d):
    """Batch normalisation of vectors (N, C), as behind a dense layer; see `BatchNorm2d`.

    Example:
        >>> import numpy as np
        >>> BatchNorm1d(3)(np.ones((4, 3), np.float32)).shape
        (4, 3)
    """

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C,)."""
        if shape != (self.num_features,):
            raise ValueError(f"{self!r} takes (N, {self.num_features}), got items of shape {shape}")
        return shape


class GroupNorm(Pointwise):
    """Normalise each group of channels of each image by its own mean and variance (Wu & He 2018).

    It does the same in training and in evaluation. Every output depends on all of the image.

    Args:
        num_groups: Number of groups: 1 for all channels together, C for each by itself.
        num_channels: C.
        eps: Added to the variance.

    Raises:
        ValueError: If the groups do not divide the channels.

    Example:
        >>> import numpy as np
        >>> y = GroupNorm(2, 4).astype("float64")(np.random.default_rng(0).normal(5, 2, (3, 4, 8, 8)))
        >>> bool(np.allclose(y[:, :2].mean(axis=(1, 2, 3)), 0))
        True
    """

    def __init__(self, num_groups: int, num_channels: int, *, eps: float = 1e-5):
        self.num_groups = check_integer(num_groups, "num_groups", 1)
        self.num_channels = check_integer(num_channels, "num_channels", 1)
        if num_channels % num_groups:
            raise ValueError(f"num_groups must divide num_channels {num_channels}, got {num_groups}")
        check_number(eps, "eps")
        self.eps = eps
        self.weight = Parameter(np.ones(num_channels, np.float32))
        self.bias = Parameter(np.zeros(num_channels, np.float32))

    def forward(self, x: Array) -> Array:
        """Return (N, C, H, W)."""
        array_module(x=x)
        self.output_shape(x.shape[1:])
        y, cache = group_norm(x, self.weight.data, self.bias.data, self.num_groups, self.eps)
        self.keep(cache, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        (cache,) = self.recall(dy)
        dx, dgamma, dbeta = group_norm_grad(dy, self.weight.data, cache)
        self.weight.accumulate(dgamma)
        self.bias.accumulate(dbeta)
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, H, W)."""
        check_image_shape(self, shape, self.num_channels)
        return shape

    def reach(self) -> Reach:
        """Return "global": the statistics are those of the whole image."""
        return "global"

    def coordinate_map(self) -> CoordinateMap:
        """Return the identity: outputs lie where their inputs lie."""
        return CoordinateMap()

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: the normalised values are kept."""
        elements = math.prod(shape)
        return Cost(extra=elements, forward=elements, backward=4 * elements)


def freeze_batch_norm(model: AnyLayer, *, frozen: bool = True) -> AnyLayer:
    """Freeze each batch normalisation of a network, or release it with `frozen=False`; return the network.

    A frozen one uses its running averages in training, too, and neither they nor its weight and bias change.

    Example:
        >>> from minifcn.layers import Conv2d, Sequential
        >>> freeze_batch_norm(Sequential(Conv2d(1, 4, 3), BatchNorm2d(4)))[1]
        BatchNorm2d(4, frozen=True)
    """
    for layer in model.layers():
        if isinstance(layer, BatchNorm2d):
            layer.frozen = frozen
            layer._kept = layer._expected = None
            for parameter in (layer.weight, layer.bias):
                parameter.trainable, parameter.grad = not frozen, None
    return model
