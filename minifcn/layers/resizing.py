"""Resizing to a size, or by a factor."""

import math
from typing import get_args

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_choice
from minifcn.functional.resizing import Mode, Scales, interpolate, interpolate_grad
from minifcn.geometry import Pair, Transposed, Window, pair
from minifcn.layers.base import Layer, Shape, check_image_shape
from minifcn.layers.cost import Cost, Reach


class Upsample(Layer):
    """Resize images to a size or by a factor; see `minifcn.functional.interpolate`.

    Only with integer factors and without `align_corners` do outputs lie at the same place of images of every
    size, so that the layer has a `coordinate_map`.

    Args:
        size: Height and width of the output, or one integer for both.
        scale_factor: Factor of height and width instead, or a pair; sizes are rounded down.
        mode: `"nearest"` or `"bilinear"`.
        align_corners: Whether the centres of the corner pixels stay corners.

    Raises:
        ValueError: If not just one of size and factor is given, or a value is out of range.

    Example:
        >>> import numpy as np
        >>> Upsample(scale_factor=2, mode="bilinear")(np.ones((1, 3, 5, 7), np.float32)).shape
        (1, 3, 10, 14)
    """

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: Mode = "nearest",
        align_corners: bool = False,
    ):
        check_choice(mode, "mode", get_args(Mode))
        if (size is None) == (scale_factor is None):
            raise ValueError(f"give either size or scale_factor, got {size} and {scale_factor}")
        self.size = None if size is None else pair(size, "size", 1)
        self.scale_factor = None if scale_factor is None else _factors(scale_factor)
        self.mode, self.align_corners = mode, bool(align_corners)

    def _target(self, size: tuple[int, int]) -> tuple[tuple[int, int], Scales]:
        """Return the output size, and the factors that it was rounded down from."""
        if self.size is not None:
            return self.size, None
        assert self.scale_factor is not None
        height, width = (n * factor for n, factor in zip(size, self.scale_factor, strict=True))
        rounded = height % 1 or width % 1
        return (int(height), int(width)), self.scale_factor if rounded else None

    def forward(self, x: Array) -> Array:
        """Return (N, C, OH, OW)."""
        array_module(x=x)
        check_image_shape(self, x.shape[1:])
        size, scales = self._target(x.shape[2:])
        y = interpolate(x, size, self.mode, align_corners=self.align_corners, scales=scales)
        self.keep(x.shape[2:], scales, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        size, scales = self.recall(dy)
        return interpolate_grad(dy, size, self.mode, align_corners=self.align_corners, scales=scales)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, OH, OW) for (C, H, W)."""
        check_image_shape(self, shape)
        size, _ = self._target((shape[1], shape[2]))
        if min(size) < 1:
            raise ValueError(f"{self!r} leaves no pixel of an item of shape {shape}")
        return (shape[0], *size)

    def reach(self) -> Reach:
        """Return the windows of the transposed convolutions that do the same, border aside."""
        if self.scale_factor is None or self.align_corners or any(f % 1 for f in self.scale_factor):
            return super().reach()
        return self._window(int(self.scale_factor[0])), self._window(int(self.scale_factor[1]))

    def _window(self, factor: int) -> Transposed:
        kernel = factor if self.mode == "nearest" else 2 * factor - factor % 2
        return Transposed(Window(kernel, factor, (kernel - factor) // 2))

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: products with two matrices."""
        channels, height, width = shape
        _, rows, cols = self.output_shape(shape)
        products = channels * height * cols * (width + rows)
        return Cost(products)


def _factors(value: float | tuple[float, float]) -> tuple[float, float]:
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(isinstance(f, int | float) and 0 < f < math.inf for f in pair):
        raise ValueError(f"scale_factor must be a positive number or two, got {value!r}")
    return pair
