"""GoogLeNet (Szegedy et al. 2015): parallel branches with different kernels, and few parameters.

Names and shapes are those of torchvision's weight file, behind the prefixes `features.` and `classifier.`.
"""

from typing import Any, TypeAlias

import numpy as np

from minifcn.layers import BatchNorm2d, Concat, Conv2d, Layer, MaxPool2d, ReLU, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, average_scores, named
from minifcn.models.registry import built_in

__all__ = ["googlenet"]

_Widths: TypeAlias = tuple[int, int, int, int, int, int]
"""Channels of an Inception module: of the 1 x 1 branch; of the second branch, between and out; of the third,
likewise; behind the pool."""

# What follows the first two pools: modules, and the kernels of further pools.
_BLOCKS: dict[str, _Widths | int] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "maxpool3": 3,
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "maxpool4": 2,
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


def _convolution(
    in_channels: int, channels: int, kernel_size: int, *, stride: int = 1, **weights: Any
) -> Sequential:
    """Return a convolution that keeps the size (up to its stride), batch normalisation, and ReLU."""
    padding = kernel_size // 2
    conv = Conv2d(in_channels, channels, kernel_size, stride, padding, bias=False, **weights)
    return Sequential(conv=conv, bn=BatchNorm2d(channels, eps=0.001), relu=ReLU(inplace=True))


def inception(in_channels: int, widths: _Widths, *, init: Init = "he", rng: Rng = None) -> Concat:
    """Return an Inception module: four branches over one map, joined by channel.

    The third branch has a 3 x 3 kernel, as in torchvision, where the paper has 5 x 5.

    Args:
        in_channels: C.
        widths: Channels of the 1 x 1 branch; of the second branch, between and out; of the third, likewise;
            behind the pool.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> inception(192, (64, 96, 128, 16, 32, 32)).output_shape((192, 28, 28))
        (256, 28, 28)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    one, reduced3, out3, reduced5, out5, pooled = widths

    def conv(channels: int, kernel_size: int, inputs: int = in_channels) -> Sequential:
        return _convolution(inputs, channels, kernel_size, **weights)

    return Concat(
        branch1=conv(one, 1),
        branch2=Sequential(conv(reduced3, 1), conv(out3, 3, reduced3)),
        branch3=Sequential(conv(reduced5, 1), conv(out5, 3, reduced5)),
        branch4=Sequential(MaxPool2d(3, 1, padding=1, ceil_mode=True), conv(pooled, 1)),
    )


@built_in("half", "googlenet-1378be20.pth", prefixed=True)
def googlenet(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """GoogLeNet as in torchvision: batch normalisation after every convolution, and no auxiliary heads.

    6,624,904 parameters for 1000 classes; entries `aux1.` and `aux2.` of the file are not used. Takes
    RGB images of 224 x 224. The published weights expect (image - 127.5) / 127.5: torchvision's network
    converts the usual ImageNet normalisation to that itself (`transform_input`). An FCN of it has stride
    32, and may tap the last maps at strides 8 and 16. It has no global average, as in the paper.

    Batch normalisation uses the statistics of the batch in training: use batches of several images, or
    freeze the trunk of its FCN.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> model = googlenet(init="zeros")
        >>> model.output_shape((3, 224, 224)), sum(p.data.size for p in model.parameters())
        ((1000,), 6624904)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    layers: dict[str, Layer] = {
        "conv1": _convolution(3, 64, 7, stride=2, **weights),
        "maxpool1": MaxPool2d(3, 2, ceil_mode=True),
        "conv2": _convolution(64, 64, 1, **weights),
        "conv3": _convolution(64, 192, 3, **weights),
        "maxpool2": MaxPool2d(3, 2, ceil_mode=True),
    }
    channels = 192
    for name, block in _BLOCKS.items():
        if isinstance(block, int):
            layers[name] = MaxPool2d(block, 2, ceil_mode=True)
        else:
            layers[name] = inception(channels, block, **weights)
            channels = block[0] + block[2] + block[4] + block[5]
    scores = average_scores(channels, num_classes, weights, dropout=0.2)
    features, architecture = Sequential(**layers), named("googlenet", num_classes)
    taps = {8: "inception3b", 16: "inception4e"}
    return Classifier(features, scores, input_shape=(3, 224, 224), taps=taps, architecture=architecture)
