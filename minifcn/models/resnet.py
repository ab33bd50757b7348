"""ResNet (He et al. 2016): blocks that add what they compute to their input.

Names and shapes are those of torchvision's weight files, behind the prefixes `features.` and `classifier.`.
Batch normalisation uses the statistics of the batch in training: use batches of several images, or freeze
it (`minifcn.layers.freeze_batch_norm`).
"""

from typing import Any

import numpy as np

from minifcn.layers import BatchNorm2d, Conv2d, Dropout, GlobalAvgPool2d, Graph, MaxPool2d, ReLU, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, average_scores, named
from minifcn.models.fcn import FCN
from minifcn.models.registry import built_in

__all__ = [
    "dilated_resnet50",
    "dilated_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]


def _block(
    channels: int, width: int, stride: int, dilation: int, bottleneck: bool, weights: dict[str, Any]
) -> tuple[Graph, int]:
    """Return a block of two 3 x 3 convolutions, or one between two of 1 x 1, and its output channels."""
    convs = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]  # channels, kernel, stride
    if not bottleneck:
        convs = [(width, 3, stride), (width, 3, 1)]
    nodes: dict[str, tuple[Any, ...]] = {}
    value, inputs = "input", channels
    for number, (out, kernel, step) in enumerate(convs, 1):
        wide = dilation if kernel == 3 else 1
        conv = Conv2d(inputs, out, kernel, step, wide * (kernel // 2), wide, bias=False, **weights)
        nodes[f"conv{number}"] = conv, value
        nodes[f"bn{number}"] = BatchNorm2d(out), f"conv{number}"
        if number < len(convs):
            nodes[f"relu{number}"] = ReLU(inplace=True), f"bn{number}"
        value, inputs = f"relu{number}", out
    shortcut = "input"
    if stride > 1 or channels != out:
        shortcut = "downsample"
        conv = Conv2d(channels, out, 1, stride, bias=False, **weights)
        nodes[shortcut] = Sequential(conv, BatchNorm2d(out)), "input"
    nodes["sum"] = "add", f"bn{len(convs)}", shortcut
    nodes["relu"] = ReLU(inplace=True), "sum"
    return Graph(nodes, "relu"), out


def resnet_features(
    depths: tuple[int, ...], *, bottleneck: bool, dilated: bool = False, init: Init = "he", rng: Rng = None
) -> tuple[Sequential, int]:
    """Return the features of a ResNet and their channels.

    Args:
        depths: Number of blocks in each of the four layers.
        bottleneck: Whether a block has three convolutions, the outer ones 1 x 1.
        dilated: Whether the last two layers have dilation instead of a stride, as in torchvision's FCN.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> features, channels = resnet_features((1, 1, 1, 1), bottleneck=False, dilated=True, init="zeros")
        >>> features.output_shape((3, 64, 64)), channels
        ((512, 8, 8), 512)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    layers: dict[str, Any] = {
        "conv1": Conv2d(3, 64, 7, stride=2, padding=3, bias=False, **weights),
        "bn1": BatchNorm2d(64),
        "relu": ReLU(inplace=True),
        "maxpool": MaxPool2d(3, 2, padding=1),
    }
    channels, dilation = 64, 1
    for number, depth in enumerate(depths):
        stride, before, blocks = min(number, 1) + 1, dilation, []
        if dilated and number >= 2:
            stride, dilation = 1, 2 * dilation
        for first in [True] + [False] * (depth - 1):
            steps = (stride, before) if first else (1, dilation)
            block, channels = _block(channels, 64 << number, *steps, bottleneck, weights)
            blocks.append(block)
        layers[f"layer{number + 1}"] = Sequential(*blocks)
    return Sequential(**layers), channels


def _resnet(
    name: str, depths: tuple[int, ...], bottleneck: bool, num_classes: int, init: Init, rng: Rng
) -> Classifier:
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    features, channels = resnet_features(depths, bottleneck=bottleneck, **weights)
    scores = average_scores(channels, num_classes, weights)
    taps, architecture = {4: "layer1", 8: "layer2", 16: "layer3"}, named(name, num_classes)
    return Classifier(features, scores, input_shape=(3, 224, 224), taps=taps, architecture=architecture)


@built_in("torchvision", "resnet18-f37072fd.pth", prefixed=True)
def resnet18(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-18: 11,689,512 parameters for 1000 classes.

    Takes RGB images of 224 x 224. An FCN of it has stride 32, and may tap the last maps at strides 4, 8 and
    16.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in resnet18(init="zeros").parameters())
        11689512
    """
    return _resnet("resnet18", (2, 2, 2, 2), False, num_classes, init, rng)


@built_in("torchvision", "resnet34-b627a593.pth", prefixed=True)
def resnet34(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-34: 21,797,672 parameters for 1000 classes.

    See `resnet18`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in resnet34(init="zeros").parameters())
        21797672
    """
    return _resnet("resnet34", (3, 4, 6, 3), False, num_classes, init, rng)


@built_in("torchvision", "resnet50-0676ba61.pth", prefixed=True)
def resnet50(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-50: 25,557,032 parameters for 1000 classes.

    See `resnet18`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in resnet50(init="zeros").parameters())
        25557032
    """
    return _resnet("resnet50", (3, 4, 6, 3), True, num_classes, init, rng)


@built_in("torchvision", "resnet101-63fe2227.pth", prefixed=True)
def resnet101(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-101: 44,549,160 parameters for 1000 classes.

    See `resnet18`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in resnet101(init="zeros").parameters())
        44549160
    """
    return _resnet("resnet101", (3, 4, 23, 3), True, num_classes, init, rng)


@built_in("torchvision", "resnet152-394f9c45.pth", prefixed=True)
def resnet152(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-152: 60,192,808 parameters for 1000 classes.

    See `resnet18`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in resnet152(init="zeros").parameters())
        60192808
    """
    return _resnet("resnet152", (3, 8, 36, 3), True, num_classes, init, rng)


def _dilated(name: str, depths: tuple[int, ...], num_classes: int, init: Init, rng: Rng) -> Classifier:
    """Return a dilated ResNet with the head of torchvision's FCN, averaged over the image."""
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    features, channels = resnet_features(depths, bottleneck=True, dilated=True, **weights)
    head = Sequential(
        Conv2d(channels, channels // 4, 3, padding=1, bias=False, **weights),
        BatchNorm2d(channels // 4),
        ReLU(inplace=True),
        Dropout(0.1, rng=weights["rng"]),
        Conv2d(channels // 4, num_classes, 1, **weights),
        GlobalAvgPool2d(),
    )
    taps, architecture = {4: "layer1"}, named(name, num_classes)
    return Classifier(features, head, input_shape=(3, 224, 224), taps=taps, architecture=architecture)


@built_in("torchvision")
def dilated_resnet50(num_classes: int = 21, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-50 without its last two strides, with a convolutional head.

    The last two layers are dilated by 2 and 4 where ResNet has a stride, so its maps have stride 8. It is
    what torchvision's `fcn_resnet50` is made of; here it scores images by the average of the scores.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> dilated_resnet50(init="zeros").features.output_shape((3, 224, 224))
        (2048, 28, 28)
    """
    return _dilated("dilated_resnet50", (3, 4, 6, 3), num_classes, init, rng)


@built_in("torchvision")
def dilated_resnet101(num_classes: int = 21, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """ResNet-101 without its last two strides, with a convolutional head.

    The last two layers are dilated by 2 and 4 where ResNet has a stride, so its maps have stride 8. It is
    what torchvision's `fcn_resnet101` is made of; here it scores images by the average of the scores.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> dilated_resnet101(init="zeros").features.output_shape((3, 224, 224))
        (2048, 28, 28)
    """
    return _dilated("dilated_resnet101", (3, 4, 23, 3), num_classes, init, rng)


def fcn_resnet50(num_classes: int = 21, *, init: Init = "he", rng: Rng = None) -> FCN:
    """Torchvision's FCN of a dilated ResNet-50, without its auxiliary head.

    Its scores are those of torchvision's network, resized to the image as it does. `minifcn.weights.load_fcn`
    reads its file of weights. `FCN(dilated_resnet50(), 21)` is the same network with exact alignment.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> fcn = fcn_resnet50(init="zeros")
        >>> fcn.alignment, fcn.stride, fcn.output_shape((3, 480, 360))
        ('torchvision', 8, (21, 480, 360))
    """
    return FCN(dilated_resnet50(num_classes, init=init, rng=rng), num_classes, alignment="torchvision")


def fcn_resnet101(num_classes: int = 21, *, init: Init = "he", rng: Rng = None) -> FCN:
    """Torchvision's FCN of a dilated ResNet-101, without its auxiliary head.

    See `fcn_resnet50`.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> fcn = fcn_resnet101(init="zeros")
        >>> fcn.alignment, fcn.stride, fcn.output_shape((3, 480, 360))
        ('torchvision', 8, (21, 480, 360))
    """
    return FCN(dilated_resnet101(num_classes, init=init, rng=rng), num_classes, alignment="torchvision")
