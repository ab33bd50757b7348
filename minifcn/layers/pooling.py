"""Layers that pool: windows of an image, or all of it."""

import math

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_float, check_rank
from minifcn.functional.pooling import (
    avg_pooling,
    avg_pooling_grad,
    max_pooling,
    max_pooling_grad,
    pool_geometry,
)
from minifcn.geometry import Padding, Pair
from minifcn.kernels.phases import PLANE_CHUNK
from minifcn.layers.base import Layer, Shape, check_image_shape
from minifcn.layers.cost import Cost, Reach
from minifcn.layers.window import WindowLayer


class Pool2d(WindowLayer):
    """The window, which `MaxPool2d` and `AvgPool2d` share."""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Padding = 0, *, ceil_mode: bool = False
    ):
        self.geometry = pool_geometry(kernel_size, stride, padding, ceil_mode)

    def workspace(self, shape: Shape, images: int, *, training: bool) -> dict[str, int]:
        """Return the scratch memory: an array for each phase of a chunk, and some for their maximum."""
        rows, cols = self.geometry.stride
        chunk = 4 * min(math.prod(shape) * images, PLANE_CHUNK // (rows * cols))
        return {"pool": (rows * cols + (8 if training else 1)) * chunk}


class MaxPool2d(Pool2d):
    """Largest value of each window; of equal ones the first. See `minifcn.functional.max_pool2d`.

    Args:
        kernel_size: Size of the window; an integer or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Rows and columns around the image that never win, at most half of the kernel.
        ceil_mode: Round the output size up.

    Example:
        >>> import numpy as np
        >>> MaxPool2d(2, ceil_mode=True)(np.ones((1, 3, 5, 5))).shape
        (1, 3, 3, 3)
    """

    def forward(self, x: Array) -> Array:
        """Return (N, C, OH, OW)."""
        y, winners = max_pooling(x, self.geometry, find_winners=self.training)
        self.keep(winners, x.shape[2:], output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        winners, input_size = self.recall(dy)
        return max_pooling_grad(dy, winners, self.geometry, input_size)

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: each window's winning tap is kept, in one byte where that is enough."""
        outputs = math.prod(self.output_shape(shape))
        return Cost(extra_bytes=outputs * (1 if self.geometry.taps <= 255 else 4))


class AvgPool2d(Pool2d):
    """Average of each window; padding counts as zeros. See `minifcn.functional.avg_pool2d`.

    Args:
        kernel_size: Size of the window; an integer or a pair (rows, columns), as are the next two.
        stride: Step of the window; the kernel size unless given.
        padding: Zeros around the image, at most half of the kernel.
        ceil_mode: Round the output size up.
        count_include_pad: Whether padding counts; without it, the mean is over pixels of the image only.

    Example:
        >>> import numpy as np
        >>> AvgPool2d(2)(np.ones((1, 3, 5, 5))).shape
        (1, 3, 2, 2)
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Array) -> Array:
        """Return (N, C, OH, OW)."""
        y = avg_pooling(x, self.geometry, self.count_include_pad)
        self.keep(x.shape[2:], output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        (input_size,) = self.recall(dy)
        return avg_pooling_grad(dy, self.geometry, input_size, self.count_include_pad)

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: nothing is kept."""
        return Cost()


class GlobalAvgPool2d(Layer):
    """Average over the whole image: (N, C, H, W) becomes (N, C, 1, 1), whatever H and W are.

    Example:
        >>> import numpy as np
        >>> GlobalAvgPool2d()(np.arange(4.0).reshape(1, 1, 2, 2))
        array([[[[1.5]]]])
    """

    def forward(self, x: Array) -> Array:
        """Return (N, C, 1, 1)."""
        check_float(x=x)
        check_rank(4, "(N, C, H, W)", x=x)
        y: Array = x.mean(axis=(2, 3), keepdims=True)
        self.keep(x.shape, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W): an equal share for every pixel."""
        (shape,) = self.recall(dy)
        dx: Array = array_module(dy=dy).broadcast_to(dy / (shape[2] * shape[3]), shape).copy()
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, 1, 1)."""
        check_image_shape(self, shape)
        return (shape[0], 1, 1)

    def reach(self) -> Reach:
        """Return "global"."""
        return "global"

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: nothing is kept."""
        return Cost()
