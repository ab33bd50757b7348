"""VGG (Simonyan & Zisserman 2015): blocks of 3 x 3 convolutions, each ending in a pool.

Names and shapes are those of torchvision's weight files. The classifier of digits is a small VGG.
"""

from typing import Any

import numpy as np

from minifcn.layers import BatchNorm2d, Conv2d, Dropout, Layer, Linear, MaxPool2d, ReLU, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, named, with_relu
from minifcn.models.registry import built_in

__all__ = [
    "digit_classifier",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]


def _blocks(
    widths: tuple[tuple[int, ...], ...], channels: int, norm: bool, weights: dict[str, Any]
) -> tuple[Sequential, list[str]]:
    """Return blocks of 3 x 3 convolutions, and the names of the pools at their ends."""
    layers: list[Layer] = []
    pools = []
    for block in widths:
        for width in block:
            layers.append(Conv2d(channels, width, 3, padding=1, **weights))
            layers += [BatchNorm2d(width)] * norm
            layers.append(ReLU(inplace=True))
            channels = width
        pools.append(str(len(layers)))
        layers.append(MaxPool2d(2))
    return Sequential(*layers), pools


@built_in()
def digit_classifier(num_classes: int = 10, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """A small VGG for grey images of 32 x 32: five convolutions, three pools and two dense layers.

    Its first scores are small, so training starts with all classes about equally likely. FCN taps the outputs
    of the first and the second pool, at strides 2 and 4.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> import numpy as np
        >>> digit_classifier()(np.zeros((2, 1, 32, 32), np.float32)).shape
        (2, 10)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    features, pools = _blocks(((16,), (32, 32), (64, 64)), 1, False, weights)
    scores = Linear(128, num_classes, **weights)
    scores.weight.data *= np.float32(0.1)
    hidden = with_relu(Linear(64 * 4 * 4, 128, **weights))
    dense = Sequential(*hidden, Dropout(0.2, rng=weights["rng"]), scores)
    taps, architecture = {2: pools[0], 4: pools[1]}, named("digit_classifier", num_classes)
    return Classifier(features, dense, input_shape=(1, 32, 32), taps=taps, architecture=architecture)


def _vgg(
    name: str, depths: tuple[int, ...], num_classes: int, init: Init, rng: Rng, *, norm: bool = False
) -> Classifier:
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    widths = tuple((width,) * depth for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True))
    features, pools = _blocks(widths, 3, norm, weights)
    dense = Sequential(
        *with_relu(Linear(512 * 7 * 7, 4096, **weights)),
        Dropout(0.5, rng=weights["rng"]),
        *with_relu(Linear(4096, 4096, **weights)),
        Dropout(0.5, rng=weights["rng"]),
        Linear(4096, num_classes, **weights),
    )
    taps, architecture = {4: pools[1], 8: pools[2], 16: pools[3]}, named(name, num_classes)
    return Classifier(features, dense, input_shape=(3, 224, 224), taps=taps, architecture=architecture)


@built_in("torchvision", "vgg11-8a719046.pth")
def vgg11(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG11: 132,863,336 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg11(init="zeros").parameters())
        132863336
    """
    return _vgg("vgg11", (1, 1, 2, 2, 2), num_classes, init, rng)


@built_in("torchvision", "vgg11_bn-6002323d.pth")
def vgg11_bn(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG11 with batch normalisation behind each convolution: 132,868,840 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg11_bn(init="zeros").parameters())
        132868840
    """
    return _vgg("vgg11_bn", (1, 1, 2, 2, 2), num_classes, init, rng, norm=True)


@built_in("torchvision", "vgg13-19584684.pth")
def vgg13(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG13: 133,047,848 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg13(init="zeros").parameters())
        133047848
    """
    return _vgg("vgg13", (2, 2, 2, 2, 2), num_classes, init, rng)


@built_in("torchvision", "vgg13_bn-abd245e5.pth")
def vgg13_bn(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG13 with batch normalisation behind each convolution: 133,053,736 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg13_bn(init="zeros").parameters())
        133053736
    """
    return _vgg("vgg13_bn", (2, 2, 2, 2, 2), num_classes, init, rng, norm=True)


@built_in("torchvision", "vgg16-397923af.pth")
def vgg16(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG16: 138,357,544 parameters for 1000 classes.

    Takes RGB images of 224 x 224. FCN taps the outputs of the second, the third and the fourth pool, at
    strides 4, 8 and 16.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg16(init="zeros").parameters())
        138357544
    """
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, init, rng)


@built_in("torchvision", "vgg16_bn-6c64b313.pth")
def vgg16_bn(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG16 with batch normalisation behind each convolution: 138,365,992 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg16_bn(init="zeros").parameters())
        138365992
    """
    return _vgg("vgg16_bn", (2, 2, 3, 3, 3), num_classes, init, rng, norm=True)


@built_in("torchvision", "vgg19-dcbb9e9d.pth")
def vgg19(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG19: 143,667,240 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg19(init="zeros").parameters())
        143667240
    """
    return _vgg("vgg19", (2, 2, 4, 4, 4), num_classes, init, rng)


@built_in("torchvision", "vgg19_bn-c79401a0.pth")
def vgg19_bn(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG19 with batch normalisation behind each convolution: 143,678,248 parameters for 1000 classes.

    See `vgg16`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in vgg19_bn(init="zeros").parameters())
        143678248
    """
    return _vgg("vgg19_bn", (2, 2, 4, 4, 4), num_classes, init, rng, norm=True)
