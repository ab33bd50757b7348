"""What each kind of layer costs: multiplications, and what it keeps for backward. Nothing is computed.

`minifcn.models.explain` walks through a network and asks here. A layer made of other layers, which calls them
in an order of its own, is told to it by `structure`.
"""

import math
from dataclasses import dataclass
from functools import singledispatch

from minifcn.geometry import ConvGeometry, Transposed, Window
from minifcn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Crop,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifcn.layers.base import Shape
from minifcn.models.scoring import ScoreLayer
from minifcn.models.squeezenet import Fire


@singledispatch
def structure(layer: Layer) -> Layer:
    """Return the `Sequential`, `Concat` or `Add` that does with a layer's parts what its `forward` does.

    Other layers are returned as they are. For a block of one's own, register a function:

    Example:
        >>> from minifcn.layers import ReLU
        >>> class Block(Layer):
        ...     def __init__(self):
        ...         self.conv, self.activation = Conv2d(3, 8, 3), ReLU()
        >>> @structure.register
        ... def _(block: Block) -> Layer:
        ...     return Sequential(block.conv, block.activation)
        >>> structure(Block())
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3))
          (1): ReLU()
        )
    """
    return layer


@structure.register
def _(fire: Fire) -> Layer:
    branches = Concat(fire.expand1x1, fire.expand3x3)
    return Sequential(fire.squeeze, fire.squeeze_activation, branches, fire.activation)


@dataclass(frozen=True)
class Memory:
    """What a layer holds for each image, and for all of them.

    Attributes:
        keeps_input: Whether it keeps its input for backward: the array that is there anyway, not a copy.
        keeps_output: Whether it keeps its output.
        reuses_input: Whether its output is no new array, but the one that it got.
        extra: Numbers that it keeps besides, in the dtype of its input.
        extra_bytes: Bytes that it keeps besides.
        forward: Numbers of work space in forward, as large as whole maps; strips do not count.
        backward: The same in backward.
        filters: Numbers of work space in backward that do not depend on the images: copies of filters.
    """

    keeps_input: bool = False
    keeps_output: bool = False
    reuses_input: bool = False
    extra: int = 0
    extra_bytes: int = 0
    forward: int = 0
    backward: int = 0
    filters: int = 0


def multiplications(layer: Layer, before: Shape, after: Shape) -> int | None:
    """Return the products that a layer sums for one image; `None` where nobody knows.

    Those of convolutions and dense layers count, with zeros of the padding among them, for they are
    multiplied like all else. Work number by number does not: it is a thousandth of that.

    Args:
        layer: A layer that is not made of others.
        before: Shape of its input.
        after: Shape of its output.

    Example:
        >>> multiplications(Conv2d(3, 64, 3, padding=1), (3, 224, 224), (64, 224, 224))
        86704128
    """
    if isinstance(layer, Conv2d):
        return math.prod(after) * math.prod(layer.kernel_size) * layer.in_channels // layer.groups
    if isinstance(layer, ConvTranspose2d):
        return math.prod(before) * math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    if isinstance(layer, Linear):
        return layer.in_features * layer.out_features
    known = isinstance(layer, BatchNorm2d) or not any(layer.parameters())
    return 0 if known else None


def memory(layer: Layer, before: Shape, after: Shape) -> Memory:
    """Return what a layer keeps and needs for one image; one's own layers are taken to keep their input.

    Args:
        layer: A layer that is not made of others.
        before: Shape of its input.
        after: Shape of its output.

    Example:
        >>> memory(Dropout(), (4096,), (4096,)).extra
        4096
    """
    inputs, outputs = math.prod(before), math.prod(after)
    match layer:
        case ScoreLayer() if layer.scale != 1:
            return Memory(extra=inputs, backward=inputs)
        case Conv2d():
            rows, cols = layer.geometry.rows, layer.geometry.cols
            padded = before[0] * (before[1] + sum(rows.padding)) * (before[2] + sum(cols.padding))
            around = padded if padded > inputs else 0
            return Memory(keeps_input=True, forward=around, backward=around, filters=layer.weight.data.size)
        case ReLU():
            return Memory(keeps_output=True, reuses_input=layer.inplace)
        case MaxPool2d():
            taps = layer.geometry.rows.kernel * layer.geometry.cols.kernel
            return Memory(extra_bytes=outputs * (1 if taps <= 256 else 4), backward=outputs)
        case Dropout():
            return Memory(extra=outputs, forward=outputs)
        case BatchNorm2d():
            return Memory(extra=outputs, forward=outputs, backward=3 * outputs)
        case LocalResponseNorm():
            return Memory(keeps_input=True, extra=outputs, forward=outputs, backward=4 * outputs)
        case Flatten():
            return Memory(reuses_input=True)
        case AvgPool2d() | GlobalAvgPool2d() | Crop():
            return Memory()
    return Memory(keeps_input=True)


def windows(layer: Layer, before: Shape) -> tuple[Window | Transposed, Window | Transposed] | None:
    """Return how a layer slides over rows and columns; `None` for one that does not say.

    A layer of one's own says it by an attribute `geometry`, a `ConvGeometry`, as `Conv2d` has it. `Flatten`
    is a window over all there is: with it, a dense layer is a convolution.

    Example:
        >>> windows(Flatten(), (512, 7, 7))[0].kernel
        7
    """
    geometry = getattr(layer, "geometry", None)
    if isinstance(layer, GlobalAvgPool2d | Flatten) and len(before) == 3:
        return Window(before[1]), Window(before[2])
    if isinstance(layer, Linear):
        return Window(1), Window(1)
    if not isinstance(geometry, ConvGeometry):
        return None
    if isinstance(layer, ConvTranspose2d):
        return Transposed(geometry.rows), Transposed(geometry.cols)
    return geometry.rows, geometry.cols


def detail(layer: Layer) -> str:
    """Return how the windows of a layer slide, in a few words.

    Example:
        >>> detail(Conv2d(96, 256, 5, padding=2, groups=2)), detail(MaxPool2d(3, 2)), detail(ReLU())
        ('5x5, padding 2, 2 groups', '3x3, stride 2', '')
    """
    if isinstance(layer, Dropout):
        return f"{layer.p:g}"
    geometry = getattr(layer, "geometry", None)
    if not isinstance(geometry, ConvGeometry):
        return ""
    rows, cols = geometry.rows, geometry.cols
    words = [f"{rows.kernel}x{cols.kernel}"]
    for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1)):
        numbers = getattr(rows, name), getattr(cols, name)
        if numbers != (usual, usual):
            words.append(f"{name} {_both(*numbers)}")
    if geometry.groups > 1:
        depthwise = geometry.groups == getattr(layer, "in_channels", 0)
        words.append("depthwise" if depthwise else f"{geometry.groups} groups")
    if isinstance(layer, ScoreLayer) and layer.scale != 1:
        words.append(f"scale {layer.scale:g}")
    return ", ".join(words)


def _both(rows: int, cols: int) -> str:
    return str(rows) if rows == cols else f"{rows}x{cols}"
