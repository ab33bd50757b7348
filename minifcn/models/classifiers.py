"""What a classifier is, and the two built from plain blocks: the digit classifier and VGG16."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.layers import Conv2d, Dropout, Flatten, Graph, Layer, Linear, MaxPool2d, ReLU, Sequential
from minifcn.layers.parameter import Init, Rng
from minifcn.models.info import ModelInfo


class Classifier(Sequential):
    """A network that names what is in an image: `features`, and `classifier`, the layers that score them.

    Args:
        features: Layers from the image to the last map, as a `Sequential` or a `Graph`.
        classifier: Layers from there to the scores, likewise: dense ones on the flattened map, or
            convolutions and a global average, after which the map is flattened, or layers with a `Flatten` of
            their own.
        input_shape: (C, H, W) of the images it is made for.
        taps: Where an FCN may take finer scores from: the name of a layer (or node) in `features` for each
            stride, as a dictionary or as pairs. By default they are found by `find_taps`.
        architecture: Name and arguments with which `minifcn.models.build` makes it, if it has a name.

    Attributes:
        info: Class names, colours and preprocessing, once known.
        report: What `minifcn.weights.load_classifier` took from a file, if it came from there.

    Raises:
        ValueError: If the parts do not fit together.

    Example:
        >>> from minifcn.models import FCN
        >>> features = Sequential(Conv2d(3, 6, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(6, 8, 1))
        >>> model = Classifier(features, Sequential(Linear(8 * 4 * 4, 5)), input_shape=(3, 8, 8))
        >>> model.taps, FCN(model, num_classes=2, stride=1).output_shape((3, 50, 70))
        ({1: '1'}, (2, 50, 70))
    """

    info: ModelInfo | None = None
    report: Any = None

    def __init__(
        self,
        features: Sequential | Graph,
        classifier: Sequential | Graph,
        *,
        input_shape: tuple[int, int, int],
        taps: Mapping[int, str] | Iterable[tuple[int, str]] | None = None,
        architecture: dict[str, Any] | None = None,
    ):
        if any(isinstance(layer, Flatten) for layer in classifier.layers()):
            super().__init__(features=features, classifier=classifier)
        elif any(isinstance(layer, Linear) for layer in classifier.layers()):
            super().__init__(features=features, flatten=Flatten(), classifier=classifier)
        else:
            super().__init__(features=features, classifier=classifier, flatten=Flatten())
        if not any(classifier.parameters()):
            raise ValueError("classifier must hold a layer that scores classes")
        self.output_shape(input_shape)
        self.taps = find_taps(features) if taps is None else dict(taps)
        for stride, name in self.taps.items():
            if name not in features.names():
                raise ValueError(f"the tap at stride {stride} names no layer of features: {name!r}")
        self.input_shape = input_shape
        self.architecture = architecture or {}

    @property
    def features(self) -> Any:
        """The layers from the image to the last map."""
        return self["features"]

    @property
    def classifier(self) -> Any:
        """The layers from there to the scores."""
        return self["classifier"]

    def forward(self, x: Array, taps: dict[str, Any] | None = None) -> Array:
        """Return scores (N, classes) for preprocessed images (N, C, H, W)."""
        check_images(self, x, self.input_shape[0])
        return super().forward(x, taps)

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, with the taps as pairs."""
        return super().config() | {"taps": tuple(self.taps.items())}


def find_taps(features: Sequential | Graph) -> dict[int, str]:
    """Return the last layer (or node) of features at each stride but the last one.

    Maps whose stride is no integer, and those after a layer without a coordinate map, are left out.

    Example:
        >>> conv, pool = Conv2d(1, 1, 3, padding=1, rng=0), MaxPool2d(2)
        >>> find_taps(Sequential(conv=conv, pool=pool, relu=ReLU(), pool2=MaxPool2d(2)))
        {1: 'conv', 2: 'relu'}
    """
    places: dict[str, Any] = dict.fromkeys(features.names())
    with suppress(ValueError):
        features.coordinate_map(places)
    strides = {name: place.scale for name, place in places.items() if place is not None}
    *_, last = Fraction(1), *strides.values()
    return {
        int(stride): name for name, stride in strides.items() if stride.denominator == 1 and stride < last
    }


def check_images(model: Layer, x: Array, channels: int) -> None:
    """Demand preprocessed images (N, C, H, W).

    Raises:
        TypeError: If they are integers, as images are before preprocessing.
        ValueError: If they do not have 4 axes or the right channels, or are empty.
    """
    array_module(x=x)
    name = type(model).__name__
    if x.ndim != 4 or x.shape[1] != channels or min(x.shape[2:]) < 1:
        raise ValueError(f"{name} takes images (N, {channels}, H, W), got shape {x.shape}")
    if x.dtype.kind in "iu":
        raise TypeError(
            f"{name} takes preprocessed images in float32, got {x.dtype}: see model.info.preprocessing"
        )


def named(name: str, num_classes: int) -> dict[str, Any]:
    """Return the `architecture` of a classifier that `minifcn.models.build` makes from its name.

    Example:
        >>> named("vgg16", 21)
        {'name': 'vgg16', 'arguments': {'num_classes': 21}}
    """
    return {"name": name, "arguments": {"num_classes": int(num_classes)}}


def with_relu(layer: Conv2d | Linear) -> tuple[Layer, Layer]:
    """Return a layer, and a ReLU that writes over its output.

    Example:
        >>> with_relu(Linear(3, 2))
        (Linear(3, 2), ReLU(inplace=True))
    """
    return layer, ReLU(inplace=True)


def _blocks(
    widths: tuple[tuple[int, ...], ...], in_channels: int, weights: dict[str, Any]
) -> tuple[Sequential, list[str]]:
    """Return blocks of 3 x 3 convolutions, each block ending in a pool, and the names of the pools."""
    layers: list[Layer] = []
    pools = []
    for block in widths:
        for width in block:
            layers += with_relu(Conv2d(in_channels, width, 3, padding=1, **weights))
            in_channels = width
        pools.append(str(len(layers)))
        layers.append(MaxPool2d(2))
    return Sequential(*layers), pools


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
    features, pools = _blocks(((16,), (32, 32), (64, 64)), 1, weights)
    scores = Linear(128, num_classes, **weights)
    scores.weight.data *= np.float32(0.1)
    hidden = with_relu(Linear(64 * 4 * 4, 128, **weights))
    dense = Sequential(*hidden, Dropout(0.2, rng=weights["rng"]), scores)
    taps, architecture = {2: pools[0], 4: pools[1]}, named("digit_classifier", num_classes)
    return Classifier(features, dense, input_shape=(1, 32, 32), taps=taps, architecture=architecture)


def vgg16(num_classes: int = 1000, *, init: Init = "he", rng: Rng = None) -> Classifier:
    """VGG16 (Simonyan & Zisserman 2015), with the names and shapes of torchvision's weight files.

    138,357,544 parameters for 1000 classes. Takes RGB images of 224 x 224. FCN taps the outputs of the third
    and the fourth pool, at strides 8 and 16.

    Args:
        num_classes: Number of scores.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Example:
        >>> model = vgg16(init="zeros")
        >>> model.output_shape((3, 224, 224)), sum(p.data.size for p in model.parameters())
        ((1000,), 138357544)
    """
    weights: dict[str, Any] = {"init": init, "rng": np.random.default_rng(rng)}
    widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    features, pools = _blocks(widths, 3, weights)
    dense = Sequential(
        *with_relu(Linear(512 * 7 * 7, 4096, **weights)),
        Dropout(0.5, rng=weights["rng"]),
        *with_relu(Linear(4096, 4096, **weights)),
        Dropout(0.5, rng=weights["rng"]),
        Linear(4096, num_classes, **weights),
    )
    taps, architecture = {8: pools[2], 16: pools[3]}, named("vgg16", num_classes)
    return Classifier(features, dense, input_shape=(3, 224, 224), taps=taps, architecture=architecture)
