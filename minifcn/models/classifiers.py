"""What a classifier is."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.layers import Conv2d, Dropout, Flatten, GlobalAvgPool2d, Graph, Layer, Linear, ReLU, Sequential
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
        >>> from minifcn.layers import MaxPool2d
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
        >>> from minifcn.layers import MaxPool2d
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


def average_scores(
    channels: int, num_classes: int, weights: dict[str, Any], *, dropout: float = 0.0, name: str = "fc"
) -> Sequential:
    """Return an average over the image, dropout, and a dense layer that scores the classes.

    Args:
        channels: Channels of the map.
        num_classes: Number of scores.
        weights: `init` and `rng`.
        dropout: Probability; no such layer if it is 0.
        name: Of the dense layer.

    Example:
        >>> average_scores(8, 5, {"init": "he", "rng": 0}).output_shape((8, 7, 7))
        (5,)
    """
    layers: dict[str, Layer] = {"avgpool": GlobalAvgPool2d(), "flatten": Flatten()}
    if dropout:
        layers["dropout"] = Dropout(dropout, rng=weights["rng"])
    return Sequential(**layers, **{name: Linear(channels, num_classes, **weights)})
