"""Tiles of an image: cut so that a network labels each as it labels the whole image.

A tile is a crop with a part inside, its *core*, whose outputs do not depend on where the crop was cut. The
cores of all tiles cover the image once. Two conditions make this exact:

- a crop begins at a multiple of the largest stride, so that all windows stand where they stand in the whole
  image;
- what a cut changes is followed through the network. An output is changed if it sees one changed input, or
  anything beyond the cut.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from minifcn.geometry import check_integer
from minifcn.layers import Layer
from minifcn.layers.base import Shape
from minifcn.layers.cost import Axis, Shift
from minifcn.layers.joints import joint_shape
from minifcn.layers.visitor import Visitor
from minifcn.models.explaining import image_channels

Rectangle: TypeAlias = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Tile:
    """A part of an image that is labelled by itself.

    Attributes:
        crop: The rows and columns of the image that the network gets.
        core: The rows and columns of the image for which its output counts.
    """

    crop: Rectangle
    core: Rectangle

    @property
    def inner(self) -> Rectangle:
        """The core, as rows and columns of the crop."""
        rows, cols = (
            slice(core.start - crop.start, core.stop - crop.start)
            for crop, core in zip(self.crop, self.core, strict=True)
        )
        return rows, cols


def tiles(model: Layer, size: tuple[int, int], longest: int) -> Iterator[Tile]:
    """Yield tiles whose cores cover an image of (H, W), row by row.

    The scores of a core are those that the network gives for the whole image, up to the rounding of sums in
    another order.

    Args:
        model: A network whose scores have the size of the image, and whose outputs see only a part of it.
        size: (H, W).
        longest: Largest number of rows and of columns of a crop.

    Raises:
        ValueError: If an output sees the whole image, if the scores have another size, or if a crop of
            `longest` has no core; the message contains the smallest that has one.

    Example:
        >>> from minifcn.models import FCN, digit_classifier
        >>> fcn = FCN(digit_classifier(init="zeros"), 11, stride=2)
        >>> for tile in tiles(fcn, (64, 300), longest=160):
        ...     print(tile.crop[1], tile.core[1])
        slice(0, 160, None) slice(0, 125, None)
        slice(88, 248, None) slice(125, 213, None)
        slice(144, 300, None) slice(213, 300, None)
    """
    check_integer(longest, "longest", 1)
    rows, cols = ([*_along(model, axis, size[axis], longest)] for axis in (0, 1))
    for crop_rows, core_rows in rows:
        for crop_cols, core_cols in cols:
            yield Tile((crop_rows, crop_cols), (core_rows, core_cols))


def _along(model: Layer, axis: int, size: int, longest: int) -> Iterator[tuple[slice, slice]]:
    """Yield the crops and cores of the tiles along one axis."""
    if size <= longest:
        yield slice(0, size), slice(0, size)
        return
    least, inside = _inside(model, axis)
    if longest < least:
        raise ValueError(f"tiles of {longest} pixels are too small for this network: take at least {least}")
    start = done = 0
    while done < size:
        stop = min(start + longest, size)
        last = _follow(model, axis, stop - start, (start > 0, stop < size)).last
        core_stop = size if stop == size else start + int(last) + 1
        yield slice(start, stop), slice(done, core_stop)
        done = core_stop
        step = inside.stride  # the last crop is about as long as the others
        start = min(int(done - inside.first) // step * step, -((longest - size) // step) * step)


def smallest_tile(model: Layer) -> int | None:
    """Return the smallest possible `longest` of `tiles`, or `None` if an image cannot be cut.

    Example:
        >>> from minifcn.models import FCN, digit_classifier
        >>> smallest_tile(FCN(digit_classifier(init="zeros"), 11, stride=2))
        78
    """
    try:
        return max(_inside(model, axis)[0] for axis in (0, 1))
    except ValueError:
        return None


def _inside(model: Layer, axis: int) -> tuple[int, "_Span"]:
    """Return the smallest length of a tile along an axis, and what is unchanged of a longer one."""
    size = 256
    while (inside := _follow(model, axis, size, (True, True))).last < inside.first:
        size *= 2
    halo = size - int(inside.last - inside.first + 1)
    # A core takes at least a stride, and the last crop must not be one that an FCN extends to `smallest`.
    least = max(halo + inside.stride, getattr(model, "smallest", 1) + inside.stride - 1)
    # Outputs that are unchanged may end where a pool does, so that some lengths have less than a stride.
    while _follow(model, axis, least, (True, True)).last - inside.first + 1 < inside.stride:
        least += 1
    return least, inside


@dataclass(frozen=True)
class _Span:
    """Where, along one axis, a map is as it is in the whole image.

    Attributes:
        shape: Of the map, (C, H, W).
        first, last: First and last element that no cut has changed; infinite where there is no cut.
        scale: Pixels from one element to the next.
        stride: Least common multiple of all scales on the way here.
    """

    shape: Shape
    first: float
    last: float
    scale: Fraction = Fraction(1)
    stride: int = 1


def _follow(model: Layer, axis: int, size: int, cut: tuple[bool, bool]) -> _Span:
    """Return which outputs of a crop of `size` pixels are as in the whole image."""
    first, last = 0 if cut[0] else -math.inf, size - 1 if cut[1] else math.inf
    visitor = _Follower(axis)
    y: _Span = visitor.visit(model, _Span((image_channels(model), size, size), first, last))
    if (*y.shape[1:], y.scale) != (size, size, 1):
        raise ValueError(
            f"the scores of {type(model).__name__} must have the size of the image, {size} x {size}, got "
            f"{y.shape[1:]}"
        )
    return y


class _Follower(Visitor):
    """Follows what a cut changes through a network."""

    def __init__(self, axis: int):
        self.axis = axis

    def leaf(self, layer: Layer, x: _Span) -> _Span:
        reach = layer.reach()
        if reach == "global":
            raise ValueError(f"an output of {layer!r} sees the whole image, which cannot be cut into tiles")
        return self._through(x, reach[self.axis], layer.output_shape(x.shape))

    def _through(self, x: _Span, window: Axis, shape: Shape) -> _Span:
        outputs = range(shape[1 + self.axis])
        first, last = x.first, x.last
        if math.isfinite(first):
            first = bisect_left(outputs, first, key=lambda output: window.input_range(output, output)[0])
        if math.isfinite(last):
            last = bisect_right(outputs, last, key=lambda output: window.input_range(output, output)[1]) - 1
        scale = x.scale * window.coordinate_map().scale
        return _Span(shape, first, last, scale, math.lcm(x.stride, scale.numerator))

    def join(self, kind: str, xs: tuple[_Span, ...]) -> _Span:
        return _Span(
            joint_shape("a joint", kind, (), [x.shape for x in xs]),
            max(x.first for x in xs),
            min(x.last for x in xs),
            xs[0].scale,
            math.lcm(*(x.stride for x in xs)),
        )

    def pad(self, x: _Span, sides: tuple[int, int, int, int], mode: str = "zeros") -> _Span:
        channels, rows, cols = x.shape
        top, bottom, left, right = sides
        shift = Shift(-sides[2 * self.axis])
        return self._through(x, shift, (channels, rows + top + bottom, cols + left + right))

    def crop(self, x: _Span, sides: tuple[int, int, int, int]) -> _Span:
        top, bottom, left, right = sides
        return self.pad(x, (-top, -bottom, -left, -right))

    def resize(self, x: _Span, size: tuple[int, int]) -> _Span:
        raise ValueError("scores are resized to the whole image, which cannot be cut into tiles exactly")

    def size(self, x: _Span) -> tuple[int, int]:
        return x.shape[1], x.shape[2]
