"""A classifier without its last layer, as convolutions: what an FCN is built on, and where its maps lie."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minifcn.dense import convert
from minifcn.geometry import CoordinateMap
from minifcn.layers import Conv2d, Layer, MaxPool2d, ReLU, Sequential
from minifcn.layers.containers import INPUT, Stack
from minifcn.models.classifiers import Classifier

PAPER_PADDING = 100
"""Zeros around the image in the reference code: the first convolution pads by this."""


@dataclass(frozen=True)
class ScoredMap:
    """A map that an FCN can score: where it lies in the image, and its channels."""

    grid: CoordinateMap
    channels: int


@dataclass(frozen=True)
class Trunk:
    """Features and head of an FCN.

    Attributes:
        features: From the image to the last map.
        head: From there to the map that the coarsest scores are made of: the dense layers as convolutions.
        channels: Channels of the image.
        taps: Names of the layers (or nodes) in `features` whose outputs can be scored, by stride.
        smallest: Side of the smallest square image that features and head take.
        maps: What can be scored, by stride: the taps, and the output of the head.
    """

    features: Stack
    head: Stack
    channels: int
    taps: dict[int, str]
    smallest: int
    maps: dict[int, ScoredMap]


def trunk_of(classifier: Classifier, alignment: str) -> Trunk:
    """Take features and head from a classifier, with copies of its weights.

    Max pools round their size up, so that no row of an image is left out, except in torchvision's alignment.
    A global average is left out, because its output has no place in the image. In exact alignment the dense
    kernel is padded by half its size, so that even a small map has scores. In the paper's it is not, and the
    first convolution is padded by 100 instead of what it had.

    Raises:
        ValueError: If the parts do not fit together, or the taps are not at their strides.
    """
    paper = alignment == "paper"
    options = {"same_size": not paper, "keep_average": False}
    features, shape = convert(classifier.features, classifier.input_shape, **options)
    dense = _without_scores(classifier["classifier"])
    head = convert(dense, shape, **options)[0] if dense else Sequential()
    head = head or Sequential()
    assert isinstance(features, Stack)
    assert isinstance(head, Stack)
    for part in (features, head):
        part.train(classifier.training)
    for layer in features.layers() if alignment != "torchvision" else ():
        if isinstance(layer, MaxPool2d):
            layer.geometry = layer.geometry.replace(ceil_mode=True)
    taps = classifier.taps
    _spare_taps(features, head, set(taps.values()))
    if paper:
        _pad_first_convolution(features)
    channels, *trained = classifier.input_shape
    smallest = _smallest_input(features, head, channels, max(trained))
    return trunk_from_parts(features, head, channels, taps, smallest)


def trunk_from_parts(
    features: Stack, head: Stack, channels: int, taps: Mapping[int, str], smallest: int
) -> Trunk:
    """Return the trunk with these parts; see `Trunk`.

    Raises:
        ValueError: If the parts do not fit together, or the taps are not at their strides.
    """
    places: dict[str, Any] = dict.fromkeys(taps.values())
    shapes: dict[str, Any] = dict.fromkeys(taps.values())
    grid = features.coordinate_map(places) @ head.coordinate_map()
    shape = head.output_shape(features.output_shape((channels, smallest, smallest), shapes))
    maps = {}
    for stride, name in taps.items():
        found = places[name] and places[name].scale
        if found != stride:
            raise ValueError(f"the tap {name!r} is at stride {found}, not {stride}")
        maps[stride] = ScoredMap(places[name], shapes[name][0])
    if grid.scale.denominator != 1:
        raise ValueError(f"the scores would lie {grid.scale} pixels apart, which is not an integer")
    maps[int(grid.scale)] = ScoredMap(grid, shape[0])
    return Trunk(features, head, channels, dict(taps), smallest, maps)


def _without_scores(head: Layer) -> Stack | None:
    """Return the layers of a classifier up to the one that scores its classes; `None` if there are none."""
    assert isinstance(head, Stack)
    *_, before_scores = (read for read, _, layer in head.readers() if any(layer.parameters()))
    return head.replaced({}, output=before_scores)


def _spare_taps(features: Stack, head: Stack, taps: set[str]) -> None:
    """Let no layer write over a map that is scored later: a ReLU that would do so works on a copy instead."""
    last = [INPUT, *features.names()][-1]
    for read, name, layer in [*features.readers(), (last, "", head)]:
        if read not in taps:
            continue
        if layer.overwrites_input():
            for part in layer.layers():
                if isinstance(part, ReLU):
                    part.inplace = False
        elif layer.returns_input:
            taps.add(name)  # the same array, or a view of it


def _pad_first_convolution(features: Stack) -> None:
    conv = next((layer for layer in features.layers() if isinstance(layer, Conv2d)), None)
    if conv is None:
        raise ValueError("alignment 'paper' pads the first convolution, and these features have none")
    conv.geometry = conv.geometry.replace(padding=PAPER_PADDING)


def _smallest_input(features: Stack, head: Stack, channels: int, trained: int) -> int:
    """Return the side of the smallest square image that the trunk takes; smaller ones are padded."""
    for size in range(1, trained + 1):
        with suppress(ValueError):
            head.output_shape(features.output_shape((channels, size, size)))
            return size
    raise ValueError(f"the classifier takes no square image of up to {trained} pixels")
