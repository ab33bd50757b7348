"""AlexNet in two versions: torchvision's, and the CaffeNet of the reference FCN."""

from typing import Any

import numpy as np

from minifcn.layers import Conv2d, Dropout, Linear, LocalResponseNorm, MaxPool2d, ReLU, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, named, with_relu
from minifcn.models.registry import built_in

__all__ = ["alexnet", "caffenet"]


@built_in("torchvision", "alexnet-owt-7be5be79.pth")
def alexnet(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """AlexNet as in torchvision (Krizhevsky 2014), with the names and shapes of its weight files.

    61,100,840 parameters for 1000 classes. Takes RGB images of 224 x 224. An FCN of it has stride 32.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> model = alexnet(init="zeros")
        >>> model.output_shape((3, 224, 224)), sum(p.data.size for p in model.parameters())
        ((1000,), 61100840)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    features = Sequential(
        *with_relu(Conv2d(3, 64, 11, stride=4, padding=2, **weights)),
        MaxPool2d(3, 2),
        *with_relu(Conv2d(64, 192, 5, padding=2, **weights)),
        MaxPool2d(3, 2),
        *with_relu(Conv2d(192, 384, 3, padding=1, **weights)),
        *with_relu(Conv2d(384, 256, 3, padding=1, **weights)),
        *with_relu(Conv2d(256, 256, 3, padding=1, **weights)),
        MaxPool2d(3, 2),
    )
    dense = Sequential(
        Dropout(0.5, rng=weights["rng"]),
        *with_relu(Linear(256 * 6 * 6, 4096, **weights)),
        Dropout(0.5, rng=weights["rng"]),
        *with_relu(Linear(4096, 4096, **weights)),
        Linear(4096, num_classes, **weights),
    )
    architecture = named("alexnet", num_classes)
    return Classifier(features, dense, input_shape=(3, 224, 224), taps={}, architecture=architecture)


@built_in("caffe")
def caffenet(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """CaffeNet: AlexNet with two groups, response normalisation after pools, and layers named as in Caffe.

    60,965,224 parameters for 1000 classes. Takes BGR images of 227 x 227; pools round up. An FCN of it has
    stride 32; the reference FCN-AlexNet is based on it.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> model = caffenet(init="zeros")
        >>> model.output_shape((3, 227, 227)), sum(p.data.size for p in model.parameters())
        ((1000,), 60965224)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    features = Sequential(
        conv1=Conv2d(3, 96, 11, stride=4, **weights),
        relu1=ReLU(inplace=True),
        pool1=MaxPool2d(3, 2, ceil_mode=True),
        norm1=LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        conv2=Conv2d(96, 256, 5, padding=2, groups=2, **weights),
        relu2=ReLU(inplace=True),
        pool2=MaxPool2d(3, 2, ceil_mode=True),
        norm2=LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        conv3=Conv2d(256, 384, 3, padding=1, **weights),
        relu3=ReLU(inplace=True),
        conv4=Conv2d(384, 384, 3, padding=1, groups=2, **weights),
        relu4=ReLU(inplace=True),
        conv5=Conv2d(384, 256, 3, padding=1, groups=2, **weights),
        relu5=ReLU(inplace=True),
        pool5=MaxPool2d(3, 2, ceil_mode=True),
    )
    dense = Sequential(
        fc6=Linear(256 * 6 * 6, 4096, **weights),
        relu6=ReLU(inplace=True),
        drop6=Dropout(0.5, rng=weights["rng"]),
        fc7=Linear(4096, 4096, **weights),
        relu7=ReLU(inplace=True),
        drop7=Dropout(0.5, rng=weights["rng"]),
        fc8=Linear(4096, num_classes, **weights),
    )
    architecture = named("caffenet", num_classes)
    return Classifier(features, dense, input_shape=(3, 227, 227), taps={}, architecture=architecture)
