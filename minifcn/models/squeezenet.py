"""SqueezeNet (Iandola et al. 2016): AlexNet's accuracy with 1.2 million parameters instead of 61 million.

Names and shapes are those of torchvision's weight files.
"""

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import CoordinateMap
from minifcn.layers import Conv2d, Dropout, GlobalAvgPool2d, Layer, MaxPool2d, ReLU, Sequential
from minifcn.layers.base import Rng, Shape
from minifcn.models.classifiers import Classifier, dropout_seed, generator
from minifcn.strips import add_to


class Fire(Layer):
    """Squeeze to few channels by 1 x 1, then expand by 1 x 1 and by 3 x 3 side by side.

    Args:
        in_channels: C.
        squeezed: Channels between.
        expanded: Channels of each of the two branches; the output has twice as many.
        rng: Generator or seed for the weights, or `None` for zeros that are loaded next.

    Example:
        >>> Fire(96, 16, 64).output_shape((96, 55, 55))
        (128, 55, 55)
    """

    def __init__(self, in_channels: int, squeezed: int, expanded: int, *, rng: Rng = 0):
        self.squeeze = Conv2d(in_channels, squeezed, 1, rng=rng)
        self.squeeze_activation = ReLU(inplace=True)
        self.expand1x1 = Conv2d(squeezed, expanded, 1, rng=rng)
        self.expand3x3 = Conv2d(squeezed, expanded, 3, padding=1, rng=rng)
        self.activation = ReLU(inplace=True)

    def forward(self, x: Array) -> Array:
        """Return (N, 2 * expanded, H, W)."""
        # The convolutions rectify what they write, so that nobody has to read it again.
        squeezed = self.squeeze.forward(x, relu=True)
        self.squeeze_activation.keep(squeezed, output=squeezed)
        half = self.expand1x1.out_channels
        y: Array = array_module(x=x).empty((len(x), 2 * half, *squeezed.shape[2:]), x.dtype)
        self.expand1x1.forward(squeezed, out=y[:, :half], relu=True)  # both write to their channels
        self.expand3x3.forward(squeezed, out=y[:, half:], relu=True)
        self.activation.keep(y, output=y)
        self.keep(output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        self.recall(dy)
        dbranches = self.activation.backward(dy)
        half = dbranches.shape[1] // 2
        dsqueezed = add_to(
            self.expand1x1.backward(dbranches[:, :half]), self.expand3x3.backward(dbranches[:, half:])
        )
        return self.squeeze.backward(self.squeeze_activation.backward(dsqueezed))

    def output_shape(self, shape: Shape) -> Shape:
        """Return (2 * expanded, H, W) for (C, H, W)."""
        return (2 * self.expand1x1.out_channels, *self.squeeze.output_shape(shape)[1:])

    def coordinate_map(self) -> CoordinateMap:
        """Return the identity: both branches are centred on their pixel."""
        return CoordinateMap()

    def __repr__(self) -> str:
        widths = self.squeeze.in_channels, self.squeeze.out_channels, self.expand1x1.out_channels
        return f"Fire{widths}"


def squeezenet1_0(num_classes: int = 1000, *, rng: Rng = 0) -> Classifier:
    """SqueezeNet 1.0. Takes images of 224 x 224 or 227 x 227; pools round up.

    1,248,424 parameters for 1000 classes. FCN taps the outputs of the modules fire4 and fire8, the last maps
    at strides 4 and 8.

    Args:
        num_classes: Number of scores.
        rng: Generator or seed for the weights, or `None` for zeros that are loaded next.

    Example:
        >>> model = squeezenet1_0(rng=None)
        >>> model.output_shape((3, 227, 227)), sum(p.data.size for p in model.parameters())
        ((1000,), 1248424)
    """
    rng = generator(rng)
    features = Sequential(
        Conv2d(3, 96, 7, stride=2, rng=rng),
        ReLU(inplace=True),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(96, 16, 64, rng=rng),
        Fire(128, 16, 64, rng=rng),
        Fire(128, 32, 128, rng=rng),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 32, 128, rng=rng),
        Fire(256, 48, 192, rng=rng),
        Fire(384, 48, 192, rng=rng),
        Fire(384, 64, 256, rng=rng),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(512, 64, 256, rng=rng),
    )
    return _squeezenet("squeezenet1_0", features, {4: "5", 8: "10"}, num_classes, rng)


def squeezenet1_1(num_classes: int = 1000, *, rng: Rng = 0) -> Classifier:
    """SqueezeNet 1.1: the same with 3 x 3 first filters and earlier pools, for 2.4 times fewer products.

    1,235,496 parameters for 1000 classes. FCN taps the last maps at strides 4 and 8.

    Args:
        num_classes: Number of scores.
        rng: Generator or seed for the weights, or `None` for zeros that are loaded next.

    Example:
        >>> sum(p.data.size for p in squeezenet1_1(rng=None).parameters())
        1235496
    """
    rng = generator(rng)
    features = Sequential(
        Conv2d(3, 64, 3, stride=2, rng=rng),
        ReLU(inplace=True),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64, rng=rng),
        Fire(128, 16, 64, rng=rng),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128, rng=rng),
        Fire(256, 32, 128, rng=rng),
        MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192, rng=rng),
        Fire(384, 48, 192, rng=rng),
        Fire(384, 64, 256, rng=rng),
        Fire(512, 64, 256, rng=rng),
    )
    return _squeezenet("squeezenet1_1", features, {4: "4", 8: "7"}, num_classes, rng)


def _squeezenet(
    name: str, features: Sequential, taps: dict[int, str], num_classes: int, rng: np.random.Generator | None
) -> Classifier:
    scores = Sequential(
        Dropout(0.5, rng=dropout_seed(rng)), Conv2d(512, num_classes, 1, rng=rng), ReLU(), GlobalAvgPool2d()
    )
    return Classifier(
        features,
        scores,
        input_shape=(3, 224, 224),
        taps=taps,
        architecture={"name": name, "arguments": {"num_classes": int(num_classes)}},
    )
