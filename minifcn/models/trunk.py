"""A classifier without its last layer, as convolutions: what an FCN stands on, and where its maps lie."""

from dataclasses import dataclass

from minifcn.dense import convolutionalize
from minifcn.geometry import CoordinateMap
from minifcn.layers import Conv2d, GlobalAvgPool2d, MaxPool2d, ReLU, Sequential
from minifcn.layers.base import Shape
from minifcn.models.classifiers import Classifier

PAPER_PADDING = 100
"""Zeros around the image in the reference code: the first convolution pads by this."""


@dataclass(frozen=True)
class ScoredMap:
    """A map that an FCN can score: where it lies in the picture, and its channels."""

    grid: CoordinateMap
    channels: int


@dataclass(frozen=True)
class Trunk:
    """Features and head of an FCN.

    Attributes:
        features: From the image to the last map.
        head: From there to what the coarsest scores are made of: the dense layers as convolutions.
        channels: Of the image.
        taps: Names of the layers in `features` whose outputs can be scored, by stride.
        smallest: The smallest square image that features and head take.
        maps: What can be scored, by stride: the taps, and the output of the head.
    """

    features: Sequential
    head: Sequential
    channels: int
    taps: dict[int, str]
    smallest: int
    maps: dict[int, ScoredMap]


def trunk_of(classifier: Classifier, alignment: str) -> Trunk:
    """Take features and head from a classifier, with copies of its weights.

    Max pools round their size up, so no row of a picture is left out. A global average goes: it would forget
    where things are. In exact alignment the dense kernel is padded by half its size, so that even a small map
    has scores. In the paper's it is not, and the first convolution is padded by 100 instead of what it had.

    Raises:
        ValueError: If the parts do not fit together, or the taps lie elsewhere than their strides say.
    """
    paper = alignment == "paper"
    converted = convolutionalize(_without_scores(classifier), classifier.input_shape, same_size=not paper)
    features, dense = converted["features"], converted["classifier"]
    assert isinstance(features, Sequential)
    assert isinstance(dense, Sequential)
    averages = [
        name for name, layer in classifier["classifier"].children() if isinstance(layer, GlobalAvgPool2d)
    ]
    head = Sequential(**{name: layer for name, layer in dense.children() if name not in averages})
    for layer in features.layers():
        if isinstance(layer, MaxPool2d):
            layer.geometry = layer.geometry.replace(ceil_mode=True)
    _spare_taps(features, head, classifier.taps)
    if paper:
        _pad_first_convolution(features)
    channels, *trained = classifier.input_shape
    smallest = _smallest_input(features, head, channels, max(trained))
    maps = _maps_to_score(features, head, classifier.taps, (channels, smallest, smallest))
    return Trunk(features, head, channels, classifier.taps, smallest, maps)


def _without_scores(classifier: Classifier) -> Sequential:
    """Return a classifier's parts up to the layer that scores its own classes."""
    head = classifier["classifier"]
    assert isinstance(head, Sequential)
    scoring = max(i for i, layer in enumerate(head) if any(layer.parameters()))
    kept = Sequential(**dict(list(head.children())[:scoring]))
    parts = Sequential(**{**classifier.parts, "classifier": kept})
    parts.training = classifier.training
    return parts


def _spare_taps(features: Sequential, head: Sequential, taps: dict[int, str]) -> None:
    """Let no layer write over a map that is scored later: the one behind a tap works on a copy."""
    for name, behind in zip(features.parts, [*features, *head][1:], strict=False):
        if name in taps.values():
            for layer in behind.layers():
                if isinstance(layer, ReLU):
                    layer.inplace = False


def _pad_first_convolution(features: Sequential) -> None:
    conv = next((layer for layer in features.layers() if isinstance(layer, Conv2d)), None)
    if conv is None:
        raise ValueError("alignment 'paper' pads the first convolution, and these features have none")
    conv.geometry = conv.geometry.replace(padding=PAPER_PADDING)


def _smallest_input(features: Sequential, head: Sequential, channels: int, trained: int) -> int:
    """Return the side of the smallest square image that the trunk takes; smaller ones are padded."""
    for size in range(1, trained + 1):
        try:
            head.output_shape(features.output_shape((channels, size, size)))
        except ValueError:
            continue
        return size
    raise ValueError(f"the classifier takes no square image of up to {trained} pixels")


def _maps_to_score(
    features: Sequential, head: Sequential, taps: dict[int, str], shape: Shape
) -> dict[int, ScoredMap]:
    maps = {}
    grid = CoordinateMap()
    strides = {name: stride for stride, name in taps.items()}
    for name, layer in features.children():
        grid, shape = grid @ layer.coordinate_map(), layer.output_shape(shape)
        if name in strides:
            if grid.scale != strides[name]:
                raise ValueError(f"the tap {name!r} is at stride {grid.scale}, not {strides[name]}")
            maps[strides[name]] = ScoredMap(grid, shape[0])
    grid, shape = grid @ head.coordinate_map(), head.output_shape(shape)
    if grid.scale.denominator != 1:
        raise ValueError(f"the scores would lie {grid.scale} pixels apart, which is no whole number")
    return maps | {int(grid.scale): ScoredMap(grid, shape[0])}
