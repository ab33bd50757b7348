"""Upsampling that puts every score where it belongs, by coordinate maps instead of literal offsets.

There are three ways. `AlignedUpsample` covers the whole finer grid, because it extends the coarse map beyond
its border. `PaperUpsample` does what the reference code of FCN does: nothing is extended, and of the two maps
that meet, the larger one is cropped. `TorchvisionUpsample` resizes to the size of the finer map, whatever the
coordinate maps say, as torchvision's networks do.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Self

from minifcn.backend import Array, array_module
from minifcn.functional import bilinear_kernel, interpolate, interpolate_grad
from minifcn.geometry import CoordinateMap, Transposed, Window, crop_offset, pair
from minifcn.kernels.padding import pad_or_crop, replicate_pad2d, replicate_pad2d_grad
from minifcn.layers import ConvTranspose2d, Layer
from minifcn.layers.base import Shape, check_image_shape
from minifcn.layers.visitor import Size, Value, Visitor


class GridUpsample(Layer):
    """What all ways of upsampling share: where the coarse and the finer grid lie.

    Args:
        channels: Number of channels; each is upsampled by itself.
        coarse: Where the input lies in the image.
        fine: Where the finer map lies in the image.
        learned: Whether training changes the kernels.

    Raises:
        ValueError: If the factor between the grids is not an integer.
    """

    def __init__(self, channels: int, coarse: CoordinateMap, fine: CoordinateMap, *, learned: bool = False):
        self.between = fine.inverse() @ coarse  # coarse index -> fine index
        if self.between.scale.denominator != 1:
            raise self._refusal_of(coarse, fine)
        self.factor = int(self.between.scale)
        self.channels, self.learned = channels, learned
        self.grid = fine
        self._fine = fine

    def _refusal_of(self, coarse: CoordinateMap, fine: CoordinateMap) -> ValueError:
        return ValueError(
            f"a grid at {coarse} cannot be upsampled to one at {fine}: index i of the first is index "
            f"{self.between} of the second, which needs an integer factor and a multiple of 1/2"
        )

    def config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`: each map as ((numerator, denominator), ...)."""
        coarse, fine = (
            tuple(number.as_integer_ratio() for number in (grid.scale, grid.offset))
            for grid in (self._fine @ self.between, self._fine)
        )
        return {"channels": self.channels, "coarse": coarse, "fine": fine, "learned": self.learned}

    @classmethod
    def from_config(cls, channels: int, coarse: Any, fine: Any, learned: bool) -> Self:
        """Return the layer with this `config`."""
        maps = (CoordinateMap(Fraction(*scale), Fraction(*offset)) for scale, offset in (coarse, fine))
        return cls(channels, *maps, learned=learned)

    @property
    def skip_offset(self) -> int:
        """Number of elements of the finer map before the first element of the output, on either axis."""
        return 0

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, f h, f w) for (C, h, w), as without an `output_size`."""
        check_image_shape(self, shape, self.channels)
        return (shape[0], shape[1] * self.factor, shape[2] * self.factor)

    def forward(self, x: Array, output_size: tuple[int, int] | None = None) -> Array:
        """Return (N, C, *output_size), by default f times as large as x (N, C, h, w)."""
        array_module(x=x)
        check_image_shape(self, x.shape[1:], self.channels)
        wanted = output_size or (x.shape[2] * self.factor, x.shape[3] * self.factor)
        return self._upsample(x, pair(wanted, "output_size", 1))

    def _upsample(self, x: Array, output_size: tuple[int, int]) -> Array:
        raise NotImplementedError


class AlignedUpsample(GridUpsample):
    """Bilinear upsampling from a coarse grid to a finer one, given where both lie in the image.

    Index i of the coarse grid lies at position f i + delta of the fine grid. The transposed convolution has
    the factor f as its stride; its kernel is 2 f wide where delta is half an odd integer, and 2 f - 1 wide
    where it is an integer: with that parity the crop offset is an integer. The coarse map is extended by its
    border values, so every output is an average of inputs with weights that sum to 1.

    Args:
        channels: Number of channels; each is upsampled by itself.
        coarse: Where the input lies in the image.
        fine: Where the output lies in the image.
        learned: Whether training changes the kernels; they begin as bilinear in any case.

    Attributes:
        grid: Where the output lies in the image.

    Raises:
        ValueError: If the factor is not an integer, or the offset no multiple of one half.

    Example:
        >>> import numpy as np
        >>> pool = Window(2, stride=2).coordinate_map()
        >>> AlignedUpsample(1, coarse=pool, fine=CoordinateMap())(np.array([[[[0.0, 4.0]]]], np.float32))
        array([[[[0., 1., 3., 4.],
                 [0., 1., 3., 4.]]]], dtype=float32)
    """

    def __init__(self, channels: int, coarse: CoordinateMap, fine: CoordinateMap, *, learned: bool = False):
        super().__init__(channels, coarse, fine, learned=learned)
        if (delta := self.between.offset).denominator > 2:
            raise self._refusal_of(coarse, fine)
        kernel_size = 2 * self.factor - (delta.denominator == 1)
        self.deconv = ConvTranspose2d(
            channels, channels, kernel_size, stride=self.factor, groups=channels, bias=False, init="zeros"
        )
        self.deconv.weight.data = bilinear_kernel(channels, self.factor, kernel_size)
        self.deconv.weight.trainable = learned

    def output_size(self, size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the output for a coarse map of this size, where another size is wanted."""
        return wanted

    def plan(
        self, size: Size, output_size: Size, maximum: Callable[[Size, Size], Size] = max
    ) -> tuple[int, Size, int]:
        """Return, for one axis, how many border values to add before and after, and the crop offset.

        Sizes may be symbolic; `maximum` is then the one of the visitor.
        """
        delta, factor = self.between.offset, self.factor
        before = max(math.ceil(delta / factor), 0)
        # ceil((output_size - 1 - delta) / factor) - (size - 1), in integers
        after = maximum((2 * output_size - int(2 * delta) + 2 * factor - 3) // (2 * factor) - size + 1, 0)
        window = Transposed(Window(self.deconv.geometry.rows.kernel, stride=factor))
        padded_to_coarse = CoordinateMap(offset=Fraction(-before))
        upsampled = self.between @ padded_to_coarse @ window.coordinate_map()
        return before, after, crop_offset(upsampled, CoordinateMap())

    def _upsample(self, x: Array, output_size: tuple[int, int]) -> Array:
        output_size = self.output_size((x.shape[2], x.shape[3]), output_size)
        top, bottom, row = self.plan(x.shape[2], output_size[0])
        left, right, col = self.plan(x.shape[3], output_size[1])
        sides = top, bottom, left, right
        y = self.deconv(replicate_pad2d(x, sides) if any(sides) else x)
        crops = row, y.shape[2] - row - output_size[0], col, y.shape[3] - col - output_size[1]
        y = pad_or_crop(y, *(-crop for crop in crops))
        self.keep(sides, crops, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, h, w)."""
        sides, crops = self.recall(dy)
        dx = self.deconv.backward(pad_or_crop(dy, *crops))
        return replicate_pad2d_grad(dx, sides) if any(sides) else dx

    def walk(self, visitor: Visitor, x: Value, output_size: tuple[Size, Size] | None = None) -> Value:
        """Pad, upsample and crop."""
        rows, cols = visitor.size(x)
        if output_size is None:
            output_size = rows * self.factor, cols * self.factor
        top, bottom, row = self.plan(rows, output_size[0], visitor.maximum)
        left, right, col = self.plan(cols, output_size[1], visitor.maximum)
        y = visitor.visit(self.deconv, visitor.pad(x, (top, bottom, left, right), "edge"))
        rows, cols = visitor.size(y)
        return visitor.crop(y, (row, rows - row - output_size[0], col, cols - col - output_size[1]))

    def coordinate_map(self) -> CoordinateMap:
        """Return where a fine index lies on the coarse grid."""
        return self.between.inverse()

    def __repr__(self) -> str:
        kind = "learned" if self.deconv.weight.trainable else "fixed"
        return f"{type(self).__name__}({self.deconv!r}, {kind}, coarse index i at {self.between})"


class PaperUpsample(AlignedUpsample):
    """Bilinear upsampling as the reference code does it, with a transposed convolution and crops.

    Nothing is padded: beyond its border the coarse map is zero. Where the finer map begins further out than
    the upsampled one (a skip), the output is the whole upsampled map, and the caller crops the finer map by
    `skip_offset`: 5 and 9 in FCN-16s and FCN-8s of VGG16. Otherwise (the image) the upsampled map is
    cropped by `offset`: 19, 27 and 31.

    Args:
        channels: Number of channels; each is upsampled by itself.
        coarse: Where the input lies in the image.
        fine: Where the finer map lies in the image, or the identity for the image itself.
        learned: Whether training changes the kernels; they begin as bilinear in any case.

    Attributes:
        offset: Number of elements of the upsampled map before the first one of the finer map; negative where
            that one begins further out.
        grid: Where the output lies in the image.

    Raises:
        ValueError: If the factor is not an integer, or no integer offset aligns the two grids.

    Example:
        >>> pool4 = CoordinateMap(Fraction(16), Fraction(15, 2) - 99)  # in VGG16 with 100 pixels of padding
        >>> scores = CoordinateMap(Fraction(32), Fraction(31, 2) - 99 + 3 * 32)
        >>> PaperUpsample(21, coarse=scores, fine=CoordinateMap()).offset
        19
        >>> to_pool4 = PaperUpsample(21, coarse=scores, fine=pool4)
        >>> to_pool4.skip_offset, PaperUpsample(21, coarse=to_pool4.grid, fine=CoordinateMap()).offset
        (5, 27)
    """

    def __init__(self, channels: int, coarse: CoordinateMap, fine: CoordinateMap, *, learned: bool = False):
        super().__init__(channels, coarse, fine, learned=learned)
        upsampled = coarse @ self.deconv.coordinate_map()
        self.offset = crop_offset(upsampled, fine)
        self.grid = fine if self.offset >= 0 else upsampled

    @property
    def skip_offset(self) -> int:
        """Number of elements of the finer map before the first element of the output, on either axis."""
        return max(-self.offset, 0)

    def output_size(self, size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        """Return the wanted size if the upsampled map is cropped, or the upsampled size if the finer map is.

        Raises:
            ValueError: If the map that is to be cropped does not reach far enough.
        """
        _, *upsampled = self.deconv.output_shape((self.deconv.in_channels, *size))
        larger, smaller = (wanted, upsampled) if self.skip_offset else (upsampled, wanted)
        if any(abs(self.offset) + least > most for most, least in zip(larger, smaller, strict=True)):
            raise ValueError(
                f"scores upsampled to {tuple(upsampled)} and a finer map of {tuple(wanted)} do not cover one "
                f"another at the crop offset {abs(self.offset)} of alignment 'paper': an image of this size "
                f"takes alignment 'exact'"
            )
        return (smaller[0], smaller[1])

    def plan(
        self, size: Size, output_size: Size, maximum: Callable[[Size, Size], Size] = max
    ) -> tuple[int, Size, int]:
        """Return no border values before and after, and the crop offset."""
        return 0, 0, max(self.offset, 0)

    def walk(self, visitor: Visitor, x: Value, output_size: tuple[Size, Size] | None = None) -> Value:
        """Upsample, and crop unless the finer map is the one to be cropped."""
        return visitor.visit(self.deconv, x) if self.skip_offset else super().walk(visitor, x, output_size)


class TorchvisionUpsample(GridUpsample):
    """Bilinear resizing to the size of the finer map, without aligned corners, as torchvision does it.

    A coarse element is taken for the centre of the pixels that it stands for, `factor` of them. So its scores
    come out half a stride beside the place where a network without an offset of its own has them:
    (factor - 1) / 2 pixels towards the lower right.

    Args:
        channels: Number of channels.
        coarse: Where the input lies in the image.
        fine: Where the finer map lies in the image.
        learned: False; there is nothing to learn.

    Raises:
        ValueError: If the factor between the grids is not an integer, or kernels are to be learned.

    Example:
        >>> import numpy as np
        >>> grid = CoordinateMap(Fraction(2))  # of a convolution of stride 2: its outputs lie at pixels 0, 2
        >>> TorchvisionUpsample(1, grid, CoordinateMap())(np.array([[[[0.0, 4.0]]]]))
        array([[[[0., 1., 3., 4.],
                 [0., 1., 3., 4.]]]])
        >>> AlignedUpsample(1, grid, CoordinateMap())(np.array([[[[0.0, 4.0]]]], np.float32))[0, 0, 0]
        array([0., 2., 4., 4.], dtype=float32)
    """

    def __init__(self, channels: int, coarse: CoordinateMap, fine: CoordinateMap, *, learned: bool = False):
        super().__init__(channels, coarse, fine, learned=learned)
        if learned:
            raise ValueError("upsampling must be 'fixed' with alignment 'torchvision', got 'learned'")

    def _upsample(self, x: Array, output_size: tuple[int, int]) -> Array:
        y = interpolate(x, output_size, "bilinear")
        self.keep(x.shape[2:], output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, h, w)."""
        (size,) = self.recall(dy)
        return interpolate_grad(dy, size, "bilinear")

    def walk(self, visitor: Visitor, x: Value, output_size: tuple[Size, Size] | None = None) -> Value:
        """Resize."""
        rows, cols = visitor.size(x)
        return visitor.resize(x, output_size or (rows * self.factor, cols * self.factor))

    def coordinate_map(self) -> CoordinateMap:
        """Return where a fine index is read on the coarse grid: (i + 1/2) / f - 1/2."""
        scale = Fraction(1, self.factor)
        return CoordinateMap(scale, (scale - 1) / 2)
