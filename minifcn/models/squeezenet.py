"""SqueezeNet (Iandola et al. 2016): AlexNet's accuracy with 1.2 million parameters instead of 61 million.

Names and shapes are those of torchvision's weight files.
"""

from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.convolution import convolution
from minifcn.geometry import CoordinateMap
from minifcn.kernels.threads import add
from minifcn.layers import Conv2d, Dropout, GlobalAvgPool2d, Layer, MaxPool2d, ReLU, Sequential
from minifcn.layers.base import Shape
from minifcn.layers.config import register
from minifcn.layers.parameter import Init, Rng
from minifcn.layers.visitor import Value, Visitor
from minifcn.models.classifiers import Classifier, named, with_relu
from minifcn.models.registry import built_in

__all__ = ["squeezenet1_0", "squeezenet1_1"]

_Blocks: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]
"""For each block, (squeezed, expanded) of its Fire modules."""


@register
class Fire(Layer):
    """Squeeze to few channels by 1 x 1, then expand by 1 x 1 and by 3 x 3 side by side.

    Args:
        in_channels: C.
        squeezed: Channels between.
        expanded: Channels of each of the two branches; the output has twice as many.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> Fire(96, 16, 64).output_shape((96, 55, 55))
        (128, 55, 55)
    """

    joins_in_place = True

    def __init__(self, in_channels: int, squeezed: int, expanded: int, *, init: Init = "he", rng: Rng = None):
        weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
        self.in_channels, self.squeezed, self.expanded = in_channels, squeezed, expanded
        self.squeeze = Conv2d(in_channels, squeezed, 1, **weights)
        self.squeeze_activation = ReLU(inplace=True)
        self.expand1x1 = Conv2d(squeezed, expanded, 1, **weights)
        self.expand3x3 = Conv2d(squeezed, expanded, 3, padding=1, **weights)
        self.activation = ReLU(inplace=True)

    def forward(self, x: Array) -> Array:
        """Return (N, 2 * expanded, H, W)."""
        xp, half = array_module(x=x), self.expand1x1.out_channels
        squeezed: Array = xp.empty((len(x), self.squeeze.out_channels, *x.shape[2:]), x.dtype)
        _convolve_relu(self.squeeze, x, squeezed)
        self.squeeze_activation.keep(squeezed, output=squeezed)
        y: Array = xp.empty((len(x), 2 * half, *x.shape[2:]), x.dtype)
        _convolve_relu(self.expand1x1, squeezed, y[:, :half])  # both write to their own channels
        _convolve_relu(self.expand3x3, squeezed, y[:, half:])
        self.activation.keep(y, output=y)
        self.keep(output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        return self.squeeze.backward(self._backward_expand(dy))

    def backward_parameters(self, dy: Array) -> None:
        """Do the same, without the gradient to the input."""
        self.squeeze.backward_parameters(self._backward_expand(dy))

    def _backward_expand(self, dy: Array) -> Array:
        """Return the gradient to the output of `squeeze`."""
        self.recall(dy)
        dbranches = self.activation.backward(dy)
        half = dbranches.shape[1] // 2
        d1x1 = self.expand1x1.backward(dbranches[:, :half])
        dsqueezed = add(d1x1, self.expand3x3.backward(dbranches[:, half:]), out=d1x1)
        return self.squeeze_activation.backward(dsqueezed)

    def walk(self, visitor: Visitor, x: Value) -> Value:
        """Visit the squeezing and the two expanding layers, and join."""
        squeezed = visitor.visit(self.squeeze_activation, visitor.visit(self.squeeze, x))
        branches = [visitor.visit(conv, squeezed) for conv in (self.expand1x1, self.expand3x3)]
        return visitor.visit(self.activation, visitor.concat(*branches))

    def output_shape(self, shape: Shape) -> Shape:
        """Return (2 * expanded, H, W) for (C, H, W)."""
        return (2 * self.expand1x1.out_channels, *self.squeeze.output_shape(shape)[1:])

    def coordinate_map(self) -> CoordinateMap:
        """Return the identity: both branches are centred on their pixel."""
        return CoordinateMap()


def _convolve_relu(conv: Conv2d, x: Array, y: Array) -> None:
    """Write max(conv(x), 0) to y in one pass, while the outputs are in the cache."""
    bias = conv.bias.data if conv.bias else None
    convolution(x, conv.weight.data, bias, conv.geometry, relu=True, out=y)
    conv.keep(x, output=y)


@built_in("torchvision", "squeezenet1_0-b66bff10.pth")
def squeezenet1_0(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """SqueezeNet 1.0. Takes images of 224 x 224 or 227 x 227; pools round up.

    1,248,424 parameters for 1000 classes. FCN taps the outputs of the modules fire4 and fire8, the last maps
    at strides 4 and 8.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> model = squeezenet1_0(init="zeros")
        >>> model.output_shape((3, 227, 227)), sum(p.data.size for p in model.parameters())
        ((1000,), 1248424)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    conv = Conv2d(3, 96, 7, stride=2, **weights)
    blocks = ((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256)), ((64, 256),)
    return _squeezenet("squeezenet1_0", conv, blocks, {4: "5", 8: "10"}, num_classes, weights)


@built_in("torchvision", "squeezenet1_1-b8a52dc0.pth")
def squeezenet1_1(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """SqueezeNet 1.1: the same with 3 x 3 first filters and earlier pools, for 2.4 times fewer products.

    1,235,496 parameters for 1000 classes. FCN taps the last maps at strides 4 and 8.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in squeezenet1_1(init="zeros").parameters())
        1235496
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    conv = Conv2d(3, 64, 3, stride=2, **weights)
    blocks = ((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))
    return _squeezenet("squeezenet1_1", conv, blocks, {4: "4", 8: "7"}, num_classes, weights)


def _squeezenet(
    name: str, conv: Conv2d, blocks: _Blocks, taps: dict[int, str], num_classes: int, weights: dict[str, Any]
) -> Classifier:
    """Return a first convolution, and blocks of a pool and some Fire modules (squeezed, expanded)."""
    layers: list[Layer] = [*with_relu(conv)]
    channels = conv.out_channels
    for block in blocks:
        layers.append(MaxPool2d(3, 2, ceil_mode=True))
        for squeezed, expanded in block:
            layers.append(Fire(channels, squeezed, expanded, **weights))
            channels = 2 * expanded
    scores = Sequential(
        Dropout(0.5, rng=weights["rng"]), Conv2d(512, num_classes, 1, **weights), ReLU(), GlobalAvgPool2d()
    )
    features, architecture = Sequential(*layers), named(name, num_classes)
    return Classifier(features, scores, input_shape=(3, 224, 224), taps=taps, architecture=architecture)
