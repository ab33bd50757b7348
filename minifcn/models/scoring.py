"""The layers that score classes at every position of a map."""

import math
from dataclasses import replace

from minifcn.backend import Array
from minifcn.layers import Conv2d, Cost
from minifcn.layers.base import Shape


class ScoreLayer(Conv2d):
    """A 1 x 1 convolution that begins at zero, so that training starts with every class equally likely.

    Args:
        in_channels: Channels of the map that is scored.
        num_classes: Number of scores at each position.
        scale: Factor of the map before it is scored. Skips that are trained at once with the rest have the
            factors 1/100 and 1/10,000: finer maps have larger values, and so larger gradients (the at-once
            training of Shelhamer et al. 2017).

    Example:
        >>> import numpy as np
        >>> ScoreLayer(512, 21, scale=0.01)(np.ones((1, 512, 3, 4), np.float32)).any()
        np.False_
    """

    def __init__(self, in_channels: int, num_classes: int, *, scale: float = 1.0):
        super().__init__(in_channels, num_classes, 1, init="zeros")
        self.num_classes, self.scale = num_classes, scale

    def forward(self, x: Array) -> Array:
        """Return (N, num_classes, H, W)."""
        return super().forward(x if self.scale == 1 else x * self.scale)

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        dx = super().backward(dy)
        return dx if self.scale == 1 else dx * self.scale

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: a scaled copy of the input is kept."""
        cost, inputs = super().cost(shape), math.prod(shape)
        return cost if self.scale == 1 else replace(cost, keeps_input=False, extra=inputs, backward=inputs)
