"""Fully convolutional networks for semantic segmentation (Long, Shelhamer & Darrell, CVPR 2015)."""

import copy
from typing import Any, Self

from minifcn.backend import Array, device_of
from minifcn.convolutionalize import convolutionalize
from minifcn.functional.padding import pad_or_crop
from minifcn.geometry import CoordinateMap, whole_number
from minifcn.layers import Conv2d, Layer, LayerDict, MaxPool2d, Sequential
from minifcn.layers.base import Shape, indented
from minifcn.layers.containers import AnyLayer
from minifcn.models.classifiers import Classifier, check_images
from minifcn.models.info import ModelInfo
from minifcn.models.upsampling import AlignedUpsample


class FCN(Layer):
    """A classifier turned into a network that labels every pixel.

    The classifier's features and its head, convolutionalized and without the layer that scores its own
    classes, are taken over with their weights. A 1 x 1 convolution scores each position, and bilinear
    upsampling brings the scores back to the size of the image. *Skips* score finer maps, too, and are added
    on the way up: at stride 32 alone the network knows what; from stride 16 and 8 it learns where.

    All score layers begin at zero, so training starts with every class equally likely, and a network made by
    `finer()` starts with the scores of the one it came from. Alignment is exact: where every map lies in the
    picture is computed from the layers, and the scores come out at the size of the image, whatever it is.
    Max pools round their size up, so no row of a picture is left out.

    Args:
        classifier: Where features and head come from; its layers are copied.
        num_classes: Number of scores at each pixel.
        stride: Of the finest map that is scored: the classifier's own (32 for VGG16), or one of its taps (16,
            8). The coarsest unless given.
        upsampling: `"fixed"` bilinear, or `"learned"`, which begins as bilinear.

    Attributes:
        info: Class names, colours and preprocessing, once known.

    Raises:
        TypeError: If it is not made from a classifier.
        ValueError: If the classifier offers no such stride, or an argument is out of range.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import digit_classifier
        >>> fcn = FCN(digit_classifier(), num_classes=11, stride=4)
        >>> fcn(np.zeros((1, 1, 50, 75), np.float32)).shape
        (1, 11, 50, 75)
    """

    info: ModelInfo | None = None

    def __init__(
        self,
        classifier: Classifier,
        num_classes: int,
        stride: int | None = None,
        *,
        upsampling: str = "fixed",
    ):
        if not isinstance(classifier, Classifier):
            raise TypeError(f"an FCN is made from a Classifier, got {type(classifier).__name__}")
        if upsampling not in ("fixed", "learned"):
            raise ValueError(f"upsampling must be 'fixed' or 'learned', got {upsampling!r}")
        self.num_classes = whole_number(num_classes, "num_classes", 2)
        if num_classes > 255:
            raise ValueError(f"num_classes must be at most 255, for 255 is void, got {num_classes}")
        self.upsampling = upsampling
        self.taps = classifier.taps
        self._classifier = classifier.architecture

        trunk = convolutionalize(_without_scores(classifier), classifier.input_shape, same_size=True)
        features, head = trunk["features"], trunk["classifier"]
        assert isinstance(features, Sequential)
        assert isinstance(head, Sequential)
        for layer in features.layers():
            if isinstance(layer, MaxPool2d):
                layer.ceil_mode = True
        self.features = features
        self.head = head
        self._channels = classifier.input_shape[0]
        self._smallest = self._smallest_input(max(classifier.input_shape[1:]))
        self._maps = self._maps_to_score()

        self.stride = max(self._maps)
        wanted = self.stride if stride is None else whole_number(stride, "stride", 1)
        if wanted not in self._maps:
            raise ValueError(f"stride must be one of {sorted(self._maps)}, got {stride}")
        self.score = self._score(self.stride)
        self.skips: LayerDict[Conv2d] = LayerDict()
        self.upsamples = LayerDict(**self._upsample(self.stride, 1))
        self.train(classifier.training)
        while self.stride > wanted:
            self._add_skip()

    def score_layers(self) -> list[Conv2d]:
        """Return the new layers, coarsest first: they begin at zero and may learn faster than the trunk."""
        return [self.score, *self.skips]

    def _score(self, stride: int) -> Conv2d:
        """Return a score layer for the map of a stride, at zero."""
        return self._like_head(Conv2d(self._maps[stride][1], self.num_classes, 1, rng=None))

    def _like_head(self, layer: AnyLayer) -> AnyLayer:
        """Give a new layer the dtype, the device and the mode of the layers there are."""
        parameter = next(self.parameters(), None)
        if parameter is None:  # features of pools only, and no head
            return layer
        here = parameter.data
        return layer.astype(here.dtype.name).to(device_of(here)).train(self.training)

    def _upsample(self, coarse: int, fine: int) -> dict[str, AlignedUpsample]:
        """Return the layer that takes scores from one stride to another, under its name."""
        layer = AlignedUpsample(
            self.num_classes,
            self._maps[coarse][0],
            self._maps[fine][0] if fine in self._maps else CoordinateMap(),
            learned=self.upsampling == "learned",
        )
        return {f"{coarse}to{fine}": self._like_head(layer)}

    def _add_skip(self) -> None:
        """Score the next finer map, too, and upsample in one step more."""
        coarse, fine = self.stride, max(stride for stride in self._maps if stride < self.stride)
        del self.upsamples.parts[f"{coarse}to1"]
        self.upsamples.parts |= self._upsample(coarse, fine) | self._upsample(fine, 1)
        self.skips.parts[str(fine)] = self._score(fine)
        self.stride = fine

    def finer(self) -> Self:
        """Return this network with one more skip, at the next finer stride it offers.

        The new score layer begins at zero, so the new network starts with this one's scores, up to upsampling
        in two steps instead of one. Both ways interpolate linearly; they differ where the coarse scores bend.
        For a step of 2 the difference is at most

            (largest |s[i-1] - 2 s[i] + s[i+1]| along rows + the same along columns) / 4

        over the coarse scores s, continued with their border values, and half of it away from the border: so
        they agree wherever the coarse scores are linear. At the border this takes a finer map whose first and
        last centres lie within half of its step of the border of the picture, as padded convolutions with
        2 x 2 pools give it, or a dense kernel of odd size. The derivation stands beside its test. Learned
        kernels of the step that is split begin anew, as bilinear.

        Raises:
            ValueError: If this network is the finest one.
        """
        if self.stride == min(self._maps):
            raise ValueError(f"stride {self.stride} is the finest that this network offers")
        child = copy.deepcopy(self)
        child._add_skip()
        return child

    def _maps_to_score(self) -> dict[int, tuple[CoordinateMap, int]]:
        """Return where each map that can be scored lies in the picture, and its channels, by stride."""
        maps = {}
        position = CoordinateMap()
        shape: Shape = (self._channels, self._smallest, self._smallest)
        names = {name: stride for stride, name in self.taps.items()}
        for name, layer in self.features.children():
            position, shape = position @ layer.coordinate_map(), layer.output_shape(shape)
            if name in names:
                if position.scale != names[name]:
                    raise ValueError(f"the tap {name!r} is at stride {position.scale}, not {names[name]}")
                maps[names[name]] = position, shape[0]
        position, shape = position @ self.head.coordinate_map(), self.head.output_shape(shape)
        return maps | {int(position.scale): (position, shape[0])}

    def _smallest_input(self, trained: int) -> int:
        """Return the smallest square image that the trunk takes; smaller ones are padded."""
        for size in range(1, trained + 1):
            try:
                self.head.output_shape(self.features.output_shape((self._channels, size, size)))
            except ValueError:
                continue
            return size
        raise ValueError(f"the classifier takes no square image of up to {trained} pixels")

    # The network

    def forward(self, x: Array) -> Array:
        """Return scores (N, num_classes, H, W) for images (N, C, H, W), preprocessed.

        Raises:
            TypeError: If x is not preprocessed.
            ValueError: If x does not have 4 axes or the right channels, or is empty.
        """
        check_images(self, x, self._channels)
        height, width = x.shape[2:]
        sides = 0, max(self._smallest - height, 0), 0, max(self._smallest - width, 0)
        features = pad_or_crop(x, *sides)
        tapped: dict[str, Array] = {}
        names = {name: str(stride) for stride, name in self.taps.items()}
        for name, layer in self.features.children():
            features = layer(features)
            if names.get(name) in self.skips.parts:
                tapped[names[name]] = features

        scores = self.score(self.head(features))
        *between, last = self.upsamples
        for upsample, (stride, skip) in zip(between, self.skips.children(), strict=True):
            tap = tapped[stride]
            scores = upsample.forward(scores, tap.shape[2:]) + skip(tap)
        scores = last.forward(scores, (height, width))
        self.keep(sides, output=scores)
        return scores

    def backward(self, dy: Array) -> Array:
        """Return the gradient to the images: `forward` line by line, in reverse."""
        (sides,) = self.recall(dy)
        *between, last = self.upsamples
        dscores = last.backward(dy)
        dtapped: dict[str, Array] = {}
        for upsample, (stride, skip) in reversed(list(zip(between, self.skips.children(), strict=True))):
            dtapped[stride] = skip.backward(dscores)
            dscores = upsample.backward(dscores)
        dfeatures = self.head.backward(self.score.backward(dscores))

        names = {name: str(stride) for stride, name in self.taps.items()}
        for name, layer in reversed(list(self.features.children())):
            if names.get(name) in self.skips.parts:
                dfeatures = dfeatures + dtapped[names[name]]
            dfeatures = layer.backward(dfeatures)
        return pad_or_crop(dfeatures, *(-side for side in sides))

    def output_shape(self, shape: Shape) -> Shape:
        """Return (num_classes, H, W) for (C, H, W)."""
        return (self.num_classes, *shape[1:])

    @property
    def architecture(self) -> dict[str, Any]:
        """Name and arguments with which `minifcn.models.build` makes this network again."""
        return {
            "name": "fcn",
            "arguments": {
                "classifier": self._classifier,
                "num_classes": self.num_classes,
                "stride": self.stride,
                "upsampling": self.upsampling,
            },
        }

    def __repr__(self) -> str:
        return "\n".join(["FCN(", *(indented(name, layer) for name, layer in self.children()), ")"])


def _without_scores(classifier: Classifier) -> Sequential:
    """Return a classifier's parts up to the layer that scores its own classes."""
    head = classifier["classifier"]
    assert isinstance(head, Sequential)
    scoring = max(i for i, layer in enumerate(head) if any(layer.parameters()))
    kept = Sequential(**dict(list(head.children())[:scoring]))
    parts = Sequential(**{**classifier.parts, "classifier": kept})
    parts.training = classifier.training
    return parts
