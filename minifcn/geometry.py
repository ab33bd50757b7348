"""Sizes, receptive fields and coordinates: on which part of the image does output i depend?

Everything here is integers and fractions along one axis; there are no arrays. A convolution, a pooling
layer or a transposed convolution is described by a `Window` (or a `Transposed` one) for its rows and one for
its columns. From a chain of them follow the size of every map, the pixels that one output depends on, and
the *coordinate map* that places each output in the image. The crop offsets that reference
implementations of FCN contain as literals (19, 5, 27, 9, 31) are sums of these maps.

Notation: k kernel size, s stride, p padding, d dilation, as in Dumoulin & Visin, "A guide to convolution
arithmetic for deep learning" (2016).
"""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any, TypeAlias

from minifcn.printing import brief

Pair: TypeAlias = int | Sequence[int]
"""An integer for both axes, or a pair (rows, columns)."""
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]
"""An integer for all sides, a pair (rows, columns), or ((top, bottom), (left, right))."""

Sides: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right))."""


MAX_SIZE = 2**31 - 1
"""Largest kernel size, stride, padding and dilation: positions then fit into the indices of arrays."""


def check_integer(value: object, name: str, minimum: int, maximum: float = math.inf) -> int:
    """Return `value` as an `int`, or raise `ValueError` unless it is one from `minimum` to `maximum`.

    Example:
        >>> check_integer(3, "stride", 1)
        3
        >>> check_integer(0, "stride", 1)
        Traceback (most recent call last):
        ...
        ValueError: stride must be an integer >= 1, got 0
    """
    if type(value) is int and minimum <= value <= maximum:  # usual, hundreds of times in a training step
        return value
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # NumPy's integers pass, floats do not
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not minimum <= number <= maximum:
        bound = f"<= {maximum}" if number is not None and number > maximum else f">= {minimum}"
        raise ValueError(f"{name} must be an integer {bound}, got {brief(value)}")
    return number


def pair(value: Pair, name: str, minimum: int = 0) -> tuple[int, int]:
    """Return (rows, columns) from an integer for both, or from a pair.

    Raises:
        ValueError: If it is neither, or a value is below `minimum`.

    Example:
        >>> pair(3, "stride"), pair((1, 2), "stride")
        ((3, 3), (1, 2))
    """
    if not isinstance(value, int | str) and isinstance(value, Sequence):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (rows, columns), got {brief(value)}")
        return check_integer(value[0], name, minimum), check_integer(value[1], name, minimum)
    number = check_integer(value, name, minimum)
    return number, number


def sides(padding: Padding, name: str = "padding") -> Sides:
    """Return ((top, bottom), (left, right)) from an integer, a pair, or a pair of pairs.

    Raises:
        ValueError: If it is none of them, or a value is negative.

    Example:
        >>> sides(1), sides((0, 2)), sides(((0, 1), (2, 3)))
        (((1, 1), (1, 1)), ((0, 0), (2, 2)), ((0, 1), (2, 3)))
    """
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        if len(padding) != 2:
            expected = "an integer, a pair (rows, columns) or ((top, bottom), (left, right))"
            raise ValueError(f"{name} must be {expected}, got {brief(padding)}")
        return pair(padding[0], name), pair(padding[1], name)
    number = check_integer(padding, name, 0)
    return (number, number), (number, number)


@dataclass(frozen=True)
class CoordinateMap:
    """Places index i of a map at position `scale * i + offset` of another map, in exact fractions.

    `a @ b` places by `b` first and then by `a`, so the map of a chain of layers from its output to its input
    is `first @ second @ ... @ last`.

    Example:
        >>> pool = Window(2, stride=2).coordinate_map()
        >>> print(pool, "|", pool @ pool, "|", (pool @ pool).inverse())
        2 i + 1/2 | 4 i + 3/2 | 1/4 i - 3/8
    """

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    def __call__(self, index: int | Fraction) -> Fraction:
        """Return the position of an index."""
        return self.scale * index + self.offset

    def __matmul__(self, other: "CoordinateMap") -> "CoordinateMap":
        return CoordinateMap(self.scale * other.scale, self(other.offset))

    def inverse(self) -> "CoordinateMap":
        """Return the inverse map."""
        return CoordinateMap(1 / self.scale, -self.offset / self.scale)

    def __str__(self) -> str:
        return f"{self.scale} i {'-' if self.offset < 0 else '+'} {abs(self.offset)}"


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling layer along one axis.

    Attributes:
        kernel: Number of taps.
        stride: Step between neighbouring outputs.
        padding: Zeros (for max pooling: -inf) added before and after the input; one integer means both.
        dilation: Distance between neighbouring taps.
        ceil_mode: Round the number of outputs up, so that the last window may reach past the end, as long as
            it starts inside the input or its leading padding.

    Example:
        >>> Window(3, stride=2, padding=1).output_size(10)
        5
    """

    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    ceil_mode: bool = False

    def __init__(
        self, kernel: int, stride: int = 1, padding: Pair = 0, dilation: int = 1, ceil_mode: bool = False
    ):
        vars(self).update(
            kernel=check_integer(kernel, "kernel_size", 1, MAX_SIZE),
            stride=check_integer(stride, "stride", 1, MAX_SIZE),
            padding=tuple(check_integer(size, "padding", 0, MAX_SIZE) for size in pair(padding, "padding")),
            dilation=check_integer(dilation, "dilation", 1, MAX_SIZE),
            ceil_mode=bool(ceil_mode),
        )

    @cached_property
    def extent(self) -> int:
        """Input positions from the first tap to the last one: d (k - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    def output_size(self, size: int, axis: str = "size") -> int:
        """Return the number of outputs: (size + p - d (k - 1) - 1) / s + 1, rounded down (or up).

        p is the padding of both ends together.

        Args:
            size: Input size.
            axis: What an error message calls the size, for example "height".

        Raises:
            ValueError: If the window does not fit.

        Example:
            >>> Window(7, stride=2).output_size(227), Window(2, stride=2, ceil_mode=True).output_size(5)
            (111, 3)
        """
        room = size + sum(self.padding) - self.extent
        outputs = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        if self.ceil_mode and (outputs - 1) * self.stride >= size + self.padding[0]:
            outputs -= 1
        if size < 1 or outputs < 1:
            kernel = f"extent {self.extent} (kernel_size {self.kernel}, dilation {self.dilation})"
            place = f"{axis} {size} with padding {_brief(self.padding)}"
            raise ValueError(f"kernel of {kernel} does not fit into {place}")
        return outputs

    def input_size_range(self, outputs: int) -> tuple[int, int]:
        """Return the smallest and the largest input size that gives this many outputs (rounding down).

        A transposed convolution may have these sizes: (outputs - 1) s - p + d (k - 1) + 1, up to s - 1 more.

        Example:
            >>> Window(3, stride=2, padding=1).input_size_range(4)
            (7, 8)
        """
        smallest = (outputs - 1) * self.stride - sum(self.padding) + self.extent
        return max(smallest, 1), smallest + self.stride - 1

    def input_range(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and the last input index that the outputs `first` to `last` depend on."""
        start = first * self.stride - self.padding[0]
        return start, start + (last - first) * self.stride + self.extent - 1

    def coordinate_map(self) -> CoordinateMap:
        """Return where the centre of each window lies: s i + (d (k - 1) / 2 - p), p before the first row."""
        return CoordinateMap(Fraction(self.stride), Fraction(self.extent - 1, 2) - self.padding[0])


@dataclass(frozen=True)
class Transposed:
    """The window of a transposed convolution: `window` belongs to the convolution that it is the adjoint of.

    Attributes:
        window: The window of the forward convolution.
        output_padding: How much larger than the smallest possible output the output is, below the stride.

    Example:
        >>> Transposed(Window(4, stride=2, padding=1)).output_size(5)
        10
    """

    window: Window
    output_padding: int = 0

    def output_size(self, size: int, axis: str = "size") -> int:
        """Return (size - 1) s - p + d (k - 1) + 1 + output_padding, with p the padding of both ends together.

        Raises:
            ValueError: If that is less than 1, or if `output_padding` is not below the stride.

        Example:
            >>> Transposed(Window(64, stride=32)).output_size(16)
            544
        """
        window, extra = self.window, check_integer(self.output_padding, "output_padding", 0)
        if extra >= window.stride:
            raise ValueError(f"output_padding must be below the stride {window.stride}, got {extra}")
        outputs = (size - 1) * window.stride - sum(window.padding) + window.extent + extra
        if size < 1 or outputs < 1:
            given = f"{axis} {size} gives a transposed convolution of size {outputs}"
            raise ValueError(f"{given}: padding {_brief(window.padding)} removes more than there is")
        return outputs

    def input_range(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and the last input index that reach the outputs `first` to `last`."""
        window, before = self.window, self.window.padding[0]
        return -((window.extent - 1 - first - before) // window.stride), (last + before) // window.stride

    def coordinate_map(self) -> CoordinateMap:
        """Return the inverse of the forward convolution's map: (i + p - d (k - 1) / 2) / s."""
        return self.window.coordinate_map().inverse()


def _brief(values: tuple[int, int]) -> str:
    """Return "1" for (1, 1), and "(0, 1)" for (0, 1)."""
    return str(values[0]) if values[0] == values[1] else str(values)


Chain: TypeAlias = Iterable[Window | Transposed]


def coordinate_map(chain: Chain) -> CoordinateMap:
    """Return where each output of a chain of layers lies in the input of the first one.

    Example:
        >>> vgg_block = [Window(3, padding=1), Window(3, padding=1), Window(2, stride=2)]
        >>> print(coordinate_map(vgg_block * 2))
        4 i + 3/2
    """
    return reduce(operator.matmul, (window.coordinate_map() for window in chain), CoordinateMap())


def receptive_field(chain: Chain, index: int = 0) -> range:
    """Return the input indices, some of them perhaps in the padding, that one output of a chain depends on.

    Args:
        chain: Windows in the order in which data passes them.
        index: Which output.

    Example:
        >>> receptive_field([Window(3, padding=1), Window(2, stride=2), Window(3, padding=1)], index=4)
        range(5, 13)
    """
    first = last = index
    for window in reversed(list(chain)):
        first, last = window.input_range(first, last)
    return range(first, last + 1)


def crop_offset(larger: CoordinateMap, reference: CoordinateMap) -> int:
    """Return how many entries of `larger` lie before the first entry of `reference`.

    Both maps lead to the same image. Cropping the first map by this offset aligns it with the second one.

    Args:
        larger: Map of the array that is cropped.
        reference: Map of the array that it is aligned with.

    Raises:
        ValueError: If the two grids have different spacing, or differ by a fraction of it.

    Example:
        FCN-32s after VGG16 with 100 pixels of padding (Long et al. 2015):

        >>> conv, pool = Window(3, padding=1), Window(2, stride=2, ceil_mode=True)
        >>> trunk = [Window(3, padding=100), conv, pool, conv, conv, pool] + [conv, conv, conv, pool] * 3
        >>> score = [*trunk, Window(7), Window(1), Window(1)]
        >>> crop_offset(coordinate_map([*score, Transposed(Window(64, stride=32))]), CoordinateMap())
        19
    """
    between = larger.inverse() @ reference
    if between.scale != 1 or between.offset.denominator != 1:
        why = f"an index i of the second is index {between} of the first"
        raise ValueError(f"grids at {larger} and {reference} do not lie on each other: {why}")
    return int(between.offset)


@dataclass(frozen=True)
class ConvGeometry:
    """The window of a 2-D convolution or pooling layer: its rows, its columns, and the groups of channels.

    Layers store one, and nothing that repeats it; kernels take one.

    Example:
        >>> geometry = ConvGeometry.of(3, stride=2, padding=((0, 1), (0, 1)))
        >>> geometry.output_size((8, 8)), geometry.padding
        ((4, 4), ((0, 1), (0, 1)))
        >>> geometry.replace(padding=1).padding
        (1, 1)
    """

    rows: Window
    cols: Window
    groups: int = 1

    @classmethod
    def of(
        cls,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        ceil_mode: bool = False,
    ) -> "ConvGeometry":
        """Build one from integers or pairs (rows, columns), as the layers take them."""
        kernel, step = pair(kernel_size, "kernel_size", 1), pair(stride, "stride", 1)
        axes = zip(kernel, step, sides(padding), pair(dilation, "dilation", 1), strict=True)
        rows, cols = (Window(*axis, ceil_mode=ceil_mode) for axis in axes)
        return cls(rows, cols, check_integer(groups, "groups", 1))

    def replace(self, **changes: Any) -> "ConvGeometry":
        """Return this geometry with other values for some arguments of `of`."""
        names = "kernel_size", "stride", "padding", "dilation", "groups", "ceil_mode"
        return ConvGeometry.of(**{name: getattr(self, name) for name in names} | changes)

    @cached_property
    def kernel_size(self) -> tuple[int, int]:
        """(KH, KW)."""
        return self.rows.kernel, self.cols.kernel

    @cached_property
    def stride(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows.stride, self.cols.stride

    @property
    def padding(self) -> tuple[int, int] | Sides:
        """(rows, columns), or ((top, bottom), (left, right)) where the two ends of an axis differ."""
        (top, bottom), (left, right) = self.rows.padding, self.cols.padding
        return (top, left) if (top, left) == (bottom, right) else ((top, bottom), (left, right))

    @property
    def dilation(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows.dilation, self.cols.dilation

    @property
    def ceil_mode(self) -> bool:
        """Whether output sizes are rounded up."""
        return self.rows.ceil_mode

    @cached_property
    def taps(self) -> int:
        """Number of inputs of one channel in a window."""
        return self.rows.kernel * self.cols.kernel

    def input_size_range(self, size: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the smallest and the largest (rows, columns) that give an output of (rows, columns)."""
        rows, cols = self.rows.input_size_range(size[0]), self.cols.input_size_range(size[1])
        return (rows[0], cols[0]), (rows[1], cols[1])

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the output for an input of (rows, columns)."""
        return self.rows.output_size(size[0], "height"), self.cols.output_size(size[1], "width")
