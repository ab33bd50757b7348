"""AlexNet in its two public forms: torchvision's, and the CaffeNet of the reference FCN."""

from minifcn.layers import (
    Conv2d,
    Dropout,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifcn.layers.base import Rng
from minifcn.models.classifiers import Classifier, dropout_seed, generator


def alexnet(num_classes: int = 1000, *, rng: Rng = 0) -> Classifier:
    """AlexNet as torchvision has it (Krizhevsky 2014), with the names and shapes of its weight files.

    61,100,840 parameters for 1000 classes. Takes RGB images of 224 x 224. An FCN of it has stride 32.

    Args:
        num_classes: Number of scores.
        rng: Generator or seed for the weights, or `None` for zeros that are loaded next.

    Example:
        >>> model = alexnet(rng=None)
        >>> model.output_shape((3, 224, 224)), sum(p.data.size for p in model.parameters())
        ((1000,), 61100840)
    """
    rng = generator(rng)
    features = Sequential(
        Conv2d(3, 64, 11, stride=4, padding=2, rng=rng),
        ReLU(inplace=True),
        MaxPool2d(3, 2),
        Conv2d(64, 192, 5, padding=2, rng=rng),
        ReLU(inplace=True),
        MaxPool2d(3, 2),
        Conv2d(192, 384, 3, padding=1, rng=rng),
        ReLU(inplace=True),
        Conv2d(384, 256, 3, padding=1, rng=rng),
        ReLU(inplace=True),
        Conv2d(256, 256, 3, padding=1, rng=rng),
        ReLU(inplace=True),
        MaxPool2d(3, 2),
    )
    seed = dropout_seed(rng)
    dense = Sequential(
        Dropout(0.5, rng=seed),
        Linear(256 * 6 * 6, 4096, rng=rng),
        ReLU(inplace=True),
        Dropout(0.5, rng=seed + 1),
        Linear(4096, 4096, rng=rng),
        ReLU(inplace=True),
        Linear(4096, num_classes, rng=rng),
    )
    return Classifier(
        features,
        dense,
        input_shape=(3, 224, 224),
        taps={},
        architecture={"name": "alexnet", "arguments": {"num_classes": int(num_classes)}},
    )


def caffenet(num_classes: int = 1000, *, rng: Rng = 0) -> Classifier:
    """CaffeNet: AlexNet with two groups, response normalisation after pools, and layers named as in Caffe.

    60,965,224 parameters for 1000 classes. Takes BGR images of 227 x 227; pools round up. An FCN of it has
    stride 32; the reference FCN-AlexNet is made from it.

    Args:
        num_classes: Number of scores.
        rng: Generator or seed for the weights, or `None` for zeros that are loaded next.

    Example:
        >>> model = caffenet(rng=None)
        >>> model.output_shape((3, 227, 227)), sum(p.data.size for p in model.parameters())
        ((1000,), 60965224)
    """
    rng = generator(rng)
    features: dict[str, Layer] = {
        "conv1": Conv2d(3, 96, 11, stride=4, rng=rng),
        "relu1": ReLU(inplace=True),
        "pool1": MaxPool2d(3, 2, ceil_mode=True),
        "norm1": LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        "conv2": Conv2d(96, 256, 5, padding=2, groups=2, rng=rng),
        "relu2": ReLU(inplace=True),
        "pool2": MaxPool2d(3, 2, ceil_mode=True),
        "norm2": LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        "conv3": Conv2d(256, 384, 3, padding=1, rng=rng),
        "relu3": ReLU(inplace=True),
        "conv4": Conv2d(384, 384, 3, padding=1, groups=2, rng=rng),
        "relu4": ReLU(inplace=True),
        "conv5": Conv2d(384, 256, 3, padding=1, groups=2, rng=rng),
        "relu5": ReLU(inplace=True),
        "pool5": MaxPool2d(3, 2, ceil_mode=True),
    }
    seed = dropout_seed(rng)
    dense: dict[str, Layer] = {
        "fc6": Linear(256 * 6 * 6, 4096, rng=rng),
        "relu6": ReLU(inplace=True),
        "drop6": Dropout(0.5, rng=seed),
        "fc7": Linear(4096, 4096, rng=rng),
        "relu7": ReLU(inplace=True),
        "drop7": Dropout(0.5, rng=seed + 1),
        "fc8": Linear(4096, num_classes, rng=rng),
    }
    return Classifier(
        Sequential(**features),
        Sequential(**dense),
        input_shape=(3, 227, 227),
        taps={},
        architecture={"name": "caffenet", "arguments": {"num_classes": int(num_classes)}},
    )
