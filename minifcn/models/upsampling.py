"""Upsampling that puts every score where it belongs, by coordinate maps instead of literal offsets."""

import math
from fractions import Fraction

from minifcn.backend import Array, array_module
from minifcn.functional import bilinear_kernel
from minifcn.functional.padding import pad_or_crop, replicate_pad2d, replicate_pad2d_grad
from minifcn.geometry import CoordinateMap, Transposed, Window, crop_offset, pair
from minifcn.layers import ConvTranspose2d, Layer
from minifcn.layers.base import Shape, check_image_shape


class AlignedUpsample(Layer):
    """Bilinear upsampling from a coarse grid to a finer one, given where both lie in the picture.

    Index i of the coarse grid lies at position f i + delta of the fine grid. The transposed convolution has
    the factor f as its stride; its kernel is 2 f wide where delta is half of a whole number, and 2 f - 1 wide
    where it is whole: that parity makes the crop offset a whole number. Beyond its border the coarse map goes
    on with its border values, so every output is an average of inputs with weights that sum to 1.

    Args:
        channels: Number of channels; each is upsampled by itself.
        coarse: Where the input lies in the picture.
        fine: Where the output lies in the picture.
        learned: Whether training changes the kernels; they begin as bilinear in any case.

    Raises:
        ValueError: If the factor is not whole, or the grids are out of step by less than half a step.

    Example:
        >>> import numpy as np
        >>> pool = Window(2, stride=2).coordinate_map()
        >>> AlignedUpsample(1, coarse=pool, fine=CoordinateMap())(np.array([[[[0.0, 4.0]]]], np.float32))
        array([[[[0., 1., 3., 4.],
                 [0., 1., 3., 4.]]]], dtype=float32)
    """

    def __init__(self, channels: int, coarse: CoordinateMap, fine: CoordinateMap, *, learned: bool = False):
        self.between = fine.inverse() @ coarse  # coarse index -> fine index
        factor, delta = self.between.scale, self.between.offset
        if factor.denominator != 1 or delta.denominator > 2:
            raise ValueError(
                f"a grid at {coarse} cannot be upsampled to one at {fine}: index i of the first is index "
                f"{self.between} of the second, which takes a whole factor and a whole or half offset"
            )
        self.factor = int(factor)
        kernel_size = 2 * self.factor - (delta.denominator == 1)
        self.deconv = ConvTranspose2d(
            channels, channels, kernel_size, stride=self.factor, groups=channels, bias=False, rng=None
        )
        self.deconv.weight.data = bilinear_kernel(channels, self.factor, kernel_size)
        self.deconv.weight.trainable = learned

    def plan(self, size: int, output_size: int) -> tuple[int, int, int]:
        """Return, for one axis, how many border values to add before and after, and the crop offset."""
        delta = self.between.offset
        before = max(math.ceil(delta / self.factor), 0)
        after = max(math.ceil((output_size - 1 - delta) / self.factor) - (size - 1), 0)
        window = Transposed(Window(self.deconv.kernel_size[0], stride=self.factor))
        padded_to_coarse = CoordinateMap(offset=Fraction(-before))
        upsampled = self.between @ padded_to_coarse @ window.coordinate_map()
        return before, after, crop_offset(upsampled, CoordinateMap())

    def forward(self, x: Array, output_size: tuple[int, int] | None = None) -> Array:
        """Return (N, C, *output_size), by default f times as large as x (N, C, h, w)."""
        array_module(x=x)
        check_image_shape(self, x.shape[1:], self.deconv.in_channels)
        if output_size is None:
            output_size = (x.shape[2] * self.factor, x.shape[3] * self.factor)
        output_size = pair(output_size, "output_size", 1)
        top, bottom, row = self.plan(x.shape[2], output_size[0])
        left, right, col = self.plan(x.shape[3], output_size[1])
        sides = top, bottom, left, right
        large = self.deconv(replicate_pad2d(x, sides))
        y: Array = large[:, :, row : row + output_size[0], col : col + output_size[1]].copy()
        crops = row, large.shape[2] - row - output_size[0], col, large.shape[3] - col - output_size[1]
        self.keep(sides, crops, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, h, w)."""
        sides, crops = self.recall(dy)
        return replicate_pad2d_grad(self.deconv.backward(pad_or_crop(dy, *crops)), sides)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, f h, f w) for (C, h, w), as without an `output_size`."""
        check_image_shape(self, shape, self.deconv.in_channels)
        return (shape[0], shape[1] * self.factor, shape[2] * self.factor)

    def coordinate_map(self) -> CoordinateMap:
        """Return where a fine index lies on the coarse grid."""
        return self.between.inverse()

    def __repr__(self) -> str:
        kind = "learned" if self.deconv.weight.trainable else "fixed"
        return f"AlignedUpsample({self.deconv!r}, {kind}, coarse index i at {self.between})"
