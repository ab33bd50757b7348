"""What a layer says about itself without computing anything: what it costs, and which inputs it sees."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from minifcn.geometry import CoordinateMap, Transposed, Window


@dataclass(frozen=True)
class Shift:
    """Along one axis, output i sees input `i + offset` alone.

    Example:
        >>> Shift(3).input_range(0, 4)
        (3, 7)
    """

    offset: int = 0

    def input_range(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and the last input that the outputs `first` to `last` see."""
        return first + self.offset, last + self.offset

    def coordinate_map(self) -> CoordinateMap:
        """Return i + offset."""
        return CoordinateMap(offset=Fraction(self.offset))


Axis: TypeAlias = Window | Transposed | Shift
"""How a layer moves along one axis: it has `input_range(first, last)` and `coordinate_map()`."""

Reach: TypeAlias = tuple[Axis, Axis] | Literal["global"]
"""Which inputs an output sees, along rows and columns; "global" if every output sees all of them."""


@dataclass(frozen=True)
class Cost:
    """What a layer does and holds for one item of a batch.

    Counts are elements of the layer's dtype unless the name says bytes. The workspace of threads, whose size
    does not grow with the maps, is not included.

    Attributes:
        multiplications: Products that a forward pass sums, those with zeros of the padding included; `None`
            if unknown. Elementwise work is not counted: it is about a thousandth of a convolution's.
        keeps_input: Whether backward needs the input: the array itself, not a copy.
        keeps_output: Whether backward needs the output.
        reuses_input: Whether the output is the input's memory: a view of it, or written over it.
        extra: Elements kept for backward besides input and output.
        extra_bytes: Bytes kept for backward besides those.
        forward: Elements of other temporary arrays in forward, at their peak.
        backward: The same in backward, besides the gradients to output and input.
        backward_weights: The same, for arrays whose size does not depend on the batch.

    Example:
        >>> from minifcn.layers import Conv2d
        >>> Conv2d(3, 8, 3, rng=0).cost((3, 10, 10)).multiplications  # 8 x 8 positions, 8 x 27 weights
        13824
    """

    multiplications: int | None = 0
    keeps_input: bool = False
    keeps_output: bool = False
    reuses_input: bool = False
    extra: int = 0
    extra_bytes: int = 0
    forward: int = 0
    backward: int = 0
    backward_weights: int = 0
