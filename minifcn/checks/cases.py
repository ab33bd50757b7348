"""Cases for checks: sizes of operands and the window that slides over them, with a description in words."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry, Sides

IntPair: TypeAlias = tuple[int, int]


class _Case:
    """What both kinds of cases have: images, and a window that slides over them."""

    batch: int
    input_size: IntPair
    kernel_size: IntPair
    stride: IntPair
    padding: IntPair | Sides
    _options: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """The window, as keyword arguments of the maps in `minifcn.functional`."""
        return {name: getattr(self, name) for name in self._options}

    @property
    def geometry(self) -> ConvGeometry:
        """The window, as the layers keep it."""
        return ConvGeometry.of(**{"kernel_size": self.kernel_size, **self.options})

    @property
    def sides(self) -> Sides:
        """The padding as ((top, bottom), (left, right))."""
        return self.geometry.rows.padding, self.geometry.cols.padding

    @property
    def output_size(self) -> IntPair:
        """(OH, OW)."""
        return self.geometry.output_size(self.input_size)

    def _described(self, channels: str) -> str:
        (top, bottom), (left, right) = self.sides
        padding = _short((top, left)) if (top, left) == (bottom, right) else str(self.sides)
        return (
            f"{self.batch} image{'s' * (self.batch != 1)}, {channels}, input {_size(self.input_size)}, "
            f"kernel {_size(self.kernel_size)}, stride {_short(self.stride)}, padding {padding}"
        )


@dataclass(frozen=True)
class ConvCase(_Case):
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

    _options = "stride", "padding", "dilation", "groups"

    @property
    def output_padding(self) -> IntPair:
        """What makes the transposed convolution lead from `output_size` back to `input_size`."""
        rows, cols = (
            (size + sum(window.padding) - window.extent) % window.stride
            for size, window in zip(self.input_size, (self.geometry.rows, self.geometry.cols), strict=True)
        )
        return rows, cols

    def operands(self, rng: int | np.random.Generator = 0) -> tuple[Array, Array, Array]:
        """Return random float64 x (N, C, H, W), w (O, C / groups, KH, KW) and dy (N, O, OH, OW)."""
        generator = np.random.default_rng(rng)
        filters = self.out_channels, self.in_channels // self.groups, *self.kernel_size
        outputs = self.batch, self.out_channels, *self.output_size
        return self.input(generator), generator.standard_normal(filters), generator.standard_normal(outputs)

    def input(self, rng: int | np.random.Generator = 0) -> Array:
        """Return a random float64 x (N, C, H, W)."""
        shape = self.batch, self.in_channels, *self.input_size
        return np.random.default_rng(rng).standard_normal(shape)

    def __str__(self) -> str:
        window = self._described(f"{self.in_channels} -> {self.out_channels} channels")
        return f"{window}, dilation {_short(self.dilation)}, groups {self.groups}"


@dataclass(frozen=True)
class PoolCase(_Case):
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

    _options = "kernel_size", "stride", "padding", "ceil_mode"

    def input(self, rng: int | np.random.Generator = 0) -> Array:
        """Return a float64 x (N, C, H, W) in random order, of which no two elements are closer than 0.1.

        So there are no ties, and a small step makes none.
        """
        shape = self.batch, self.channels, *self.input_size
        order = np.random.default_rng(rng).permutation(math.prod(shape))
        return (order.reshape(shape) - order.size / 2 + 0.25) / 10

    def __str__(self) -> str:
        window = self._described(f"{self.channels} channel{'s' * (self.channels != 1)}")
        return f"{window}, rounding {'up' if self.ceil_mode else 'down'}"


def _size(pair: IntPair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _short(pair: IntPair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _size(pair)
