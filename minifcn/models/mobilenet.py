"""MobileNetV2 (Sandler et al. 2018): depthwise convolutions between 1 x 1 ones.

Names and shapes are those of torchvision's weight files.
"""

from typing import Any

import numpy as np

from minifcn.layers import BatchNorm2d, Conv2d, Graph, Layer, ReLU6, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, average_scores, named
from minifcn.models.registry import built_in

__all__ = ["mobilenet_v2"]

# Factor of the channels inside, output channels, number of blocks, stride of the first one
_BLOCKS = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, weights: dict[str, Any]
) -> Sequential:
    conv = Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False, **weights)
    return Sequential(conv, BatchNorm2d(outputs), ReLU6(inplace=True))


def _block(inputs: int, outputs: int, factor: int, stride: int, weights: dict[str, Any]) -> Layer:
    """Return a block that widens, convolves each channel by itself, and narrows; it is added to its input."""
    inside = inputs * factor
    wider = [_unit(inputs, inside, 1, 1, 1, weights)] if factor > 1 else []
    conv = Sequential(
        *wider,
        _unit(inside, inside, 3, stride, inside, weights),
        Conv2d(inside, outputs, 1, bias=False, **weights),
        BatchNorm2d(outputs),
    )
    if stride > 1 or inputs != outputs:
        return Sequential(conv=conv)
    return Graph({"conv": (conv, "input"), "sum": ("add", "input", "conv")}, "sum")


@built_in("torchvision", "mobilenet_v2-b0353104.pth")
def mobilenet_v2(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """MobileNetV2: 3,504,872 parameters for 1000 classes.

    Takes RGB images of 224 x 224. An FCN of it has stride 32, and may tap the last maps at strides 4, 8 and
    16. Batch normalisation uses the statistics of the batch in training: use batches of several images, or
    freeze it (`minifcn.layers.freeze_batch_norm`).

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> sum(p.data.size for p in mobilenet_v2(init="zeros").parameters())
        3504872
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    layers: list[Layer] = [_unit(3, 32, 3, 2, 1, weights)]
    channels = 32
    for factor, outputs, count, stride in _BLOCKS:
        for step in (stride, *[1] * (count - 1)):
            layers.append(_block(channels, outputs, factor, step, weights))
            channels = outputs
    layers.append(_unit(channels, 1280, 1, 1, 1, weights))
    taps, architecture = {4: "3", 8: "6", 16: "13"}, named("mobilenet_v2", num_classes)
    features, scores = Sequential(*layers), average_scores(1280, num_classes, weights, dropout=0.2, name="1")
    return Classifier(features, scores, input_shape=(3, 224, 224), taps=taps, architecture=architecture)
