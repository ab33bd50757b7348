"""Layers that drop or only rearrange elements."""

import math

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_float
from minifcn.layers.base import Layer, Pointwise, Shape
from minifcn.layers.cost import Cost, Reach
from minifcn.layers.parameter import Rng


class Dropout(Pointwise):
    """In training, set each element to 0 with probability p and multiply the others by 1 / (1 - p).

    Args:
        p: Probability, 0 <= p < 1.
        rng: Generator or seed; `None` means fresh entropy. `minifcn.training.fit` seeds the layer for each
            batch (`seed_dropout`), so what is dropped depends on the seed, the epoch and the batch alone.

    Raises:
        ValueError: If p is not a probability below 1, or the seed is negative.

    Example:
        >>> import numpy as np
        >>> Dropout(0.5, rng=0)(np.ones(6))
        array([2., 2., 2., 0., 0., 0.])
        >>> Dropout(0.5, rng=0).eval()(np.ones(6))
        array([1., 1., 1., 1., 1., 1.])
    """

    returns_input = True  # in evaluation

    def __init__(self, p: float = 0.5, *, rng: Rng = None):
        if not 0 <= p < 1:
            raise ValueError(f"p must be a probability from 0 to below 1, got {p}")
        self.p = p
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Array) -> Array:
        """Return x with some elements dropped, or, in evaluation, x itself, not a copy."""
        xp = check_float(x=x)
        if not self.training:
            return x
        kept = self.rng.random(x.shape, np.float32) >= self.p
        mask = xp.asarray(kept).astype(x.dtype) / x.dtype.type(1 - self.p)
        y: Array = x * mask
        self.keep(mask, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy, dropped and scaled alike."""
        (mask,) = self.recall(dy)
        dx: Array = dy * mask
        return dx

    def cost(self, shape: Shape) -> Cost:
        """Return the cost in training: the mask is kept, and made from float32 random numbers."""
        return Cost(extra=math.prod(shape), forward=2 * math.prod(shape))


def seed_dropout(model: Layer, *key: int) -> None:
    """Seed each dropout layer of a network from integers >= 0 and from its position in the network.

    The same key gives the same masks, whatever was drawn before.

    Args:
        model: A network.
        *key: For example the seed, the epoch and the batch.

    Example:
        >>> import numpy as np
        >>> dropout = Dropout()
        >>> seed_dropout(dropout, 0, 3)
        >>> first = dropout(np.ones(8))
        >>> seed_dropout(dropout, 0, 3)
        >>> bool((dropout(np.ones(8)) == first).all())
        True
    """
    layers = [layer for layer in model.layers() if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.rng = np.random.default_rng((*key, number))


class Flatten(Layer):
    """(N, C, H, W) becomes (N, C * H * W), in the order channel, row, column; a view, not a copy.

    That order is what makes `minifcn.dense_to_conv` a plain reshape.

    Example:
        >>> import numpy as np
        >>> Flatten()(np.ones((2, 3, 4, 5))).shape
        (2, 60)
    """

    returns_input = True

    def forward(self, x: Array) -> Array:
        """Return (N, C * H * W)."""
        array_module(x=x)
        y: Array = x.reshape(len(x), math.prod(x.shape[1:]))  # (N, C, H, W) -> (N, C * H * W)
        self.keep(x.shape, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape of the input."""
        (shape,) = self.recall(dy)
        dx: Array = dy.reshape(shape)
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C * H * W,)."""
        return (math.prod(shape),)

    def reach(self) -> Reach:
        """Return "global": what follows a flattened map sees all of it."""
        return "global"

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: the output is a view."""
        return Cost(reuses_input=True)
