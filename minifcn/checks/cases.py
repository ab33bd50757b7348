"""Cases for checks: sizes of operands and the window that slides over them, with a description in words."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Sides, sides

IntPair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class ConvCase:
    """A convolution: the sizes of its operands, and its window. Pairs are (rows, columns).

    `padding` is a pair, or ((top, bottom), (left, right)) where the two ends of an axis differ.

    Example:
        >>> case = ConvCase(input_size=(5, 4), kernel_size=(3, 2), stride=(2, 1))
        >>> print(case)
        1 image, 1 -> 1 channels, input 5x4, kernel 3x2, stride 2x1, padding 0, dilation 1, groups 1
        >>> x, w, dy = case.operands()
        >>> x.shape, w.shape, dy.shape
        ((1, 1, 5, 4), (1, 1, 3, 2), (1, 1, 2, 3))
    """

    batch: int = 1
    in_channels: int = 1
    out_channels: int = 1
    input_size: IntPair = (1, 1)
    kernel_size: IntPair = (1, 1)
    stride: IntPair = (1, 1)
    padding: IntPair | Sides = (0, 0)
    dilation: IntPair = (1, 1)
    groups: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """The window, as keyword arguments of the maps in `minifcn.functional`."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def sides(self) -> Sides:
        """The padding as ((top, bottom), (left, right))."""
        return sides(self.padding)

    @property
    def output_size(self) -> IntPair:
        """(OH, OW), by the formula."""
        rows, cols = (
            (self.input_size[i] + sum(self.sides[i]) - self.dilation[i] * (self.kernel_size[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return rows, cols

    @property
    def output_padding(self) -> IntPair:
        """What makes the transposed convolution lead from `output_size` back to `input_size`."""
        rows, cols = (
            (self.input_size[i] + sum(self.sides[i]) - self.dilation[i] * (self.kernel_size[i] - 1) - 1)
            % self.stride[i]
            for i in (0, 1)
        )
        return rows, cols

    def operands(self, rng: int | np.random.Generator = 0) -> tuple[Array, Array, Array]:
        """Return random float64 x (N, C, H, W), w (O, C / groups, KH, KW) and dy (N, O, OH, OW)."""
        generator = np.random.default_rng(rng)
        return (
            self.input(generator),
            generator.standard_normal(
                (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
            ),
            generator.standard_normal((self.batch, self.out_channels, *self.output_size)),
        )

    def input(self, rng: int | np.random.Generator = 0) -> Array:
        """Return a random float64 x (N, C, H, W)."""
        shape = self.batch, self.in_channels, *self.input_size
        return np.random.default_rng(rng).standard_normal(shape)

    def __str__(self) -> str:
        return (
            f"{_images(self.batch)}, {self.in_channels} -> {self.out_channels} channels, input "
            f"{_size(self.input_size)}, kernel {_size(self.kernel_size)}, stride {_short(self.stride)}, "
            f"padding {_padding(self.padding)}, dilation {_short(self.dilation)}, groups {self.groups}"
        )


@dataclass(frozen=True)
class PoolCase:
    """A pooling window and the images that it slides over. Pairs are (rows, columns).

    `padding` is a pair, or ((top, bottom), (left, right)) where the two ends of an axis differ.

    Example:
        >>> case = PoolCase(input_size=(5, 4), kernel_size=(2, 2), stride=(2, 2), ceil_mode=True)
        >>> print(case)
        1 image, 1 channel, input 5x4, kernel 2x2, stride 2, padding 0, rounding up
        >>> case.output_size
        (3, 2)
    """

    batch: int = 1
    channels: int = 1
    input_size: IntPair = (1, 1)
    kernel_size: IntPair = (1, 1)
    stride: IntPair = (1, 1)
    padding: IntPair | Sides = (0, 0)
    ceil_mode: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The window, as keyword arguments of the pooling maps and layers."""
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }

    @property
    def sides(self) -> Sides:
        """The padding as ((top, bottom), (left, right))."""
        return sides(self.padding)

    @property
    def output_size(self) -> IntPair:
        """(OH, OW). Rounding up, the last window must start inside the image or its leading padding."""

        def outputs(size: int, kernel: int, stride: int, padding: IntPair) -> int:
            steps = (size + sum(padding) - kernel) / stride
            count = (math.ceil(steps) if self.ceil_mode else math.floor(steps)) + 1
            return count - 1 if self.ceil_mode and (count - 1) * stride >= size + padding[0] else count

        rows, cols = map(outputs, self.input_size, self.kernel_size, self.stride, self.sides)
        return rows, cols

    def input(self, rng: int | np.random.Generator = 0) -> Array:
        """Return a float64 x (N, C, H, W) in random order, of which no two elements are closer than 0.1.

        So there are no ties, and a small step makes none.
        """
        shape = self.batch, self.channels, *self.input_size
        order = np.random.default_rng(rng).permutation(math.prod(shape))
        return (order.reshape(shape) - order.size / 2 + 0.25) / 10

    def __str__(self) -> str:
        return (
            f"{_images(self.batch)}, {self.channels} channel{'s' * (self.channels != 1)}, input "
            f"{_size(self.input_size)}, kernel {_size(self.kernel_size)}, stride {_short(self.stride)}, "
            f"padding {_padding(self.padding)}, rounding {'up' if self.ceil_mode else 'down'}"
        )


def _images(batch: int) -> str:
    return f"{batch} image{'s' * (batch != 1)}"


def _size(pair: IntPair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _short(pair: IntPair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _size(pair)


def _padding(padding: IntPair | Sides) -> str:
    rows, cols = sides(padding)
    return _short((rows[0], cols[0])) if rows[0] == rows[1] and cols[0] == cols[1] else str((rows, cols))
