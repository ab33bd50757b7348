"""Fully convolutional networks for semantic segmentation (Long, Shelhamer & Darrell, CVPR 2015).

The networks of the paper, made from `minifcn.models.vgg16`, `caffenet` and `googlenet`:

| in the paper | here |
|---|---|
| FCN-32s, 16s, 8s | `FCN(vgg16(), 21, stride=32)`, `stride=16`, `stride=8` |
| FCN-16s trained from FCN-32s | `fcn16s = fcn32s.finer()`, and `fcn8s = fcn16s.finer()` |
| FCN-8s at once | `FCN(vgg16(), 21, stride=8, at_once=True)` |
| FCN-AlexNet, FCN-GoogLeNet | `FCN(caffenet(), 21)`, `FCN(googlenet(), 21)` |

With `alignment="paper"` they have the geometry of the reference code, its padding of 100 and its crops,
so that converted checkpoints give their numbers. The default, `alignment="exact"`, needs about half of the
multiplications at the size of PASCAL VOC's images.
"""

import copy
from collections.abc import Iterable
from typing import Any, Literal, Self, get_args

from minifcn.backend import Array, device_of
from minifcn.geometry import CoordinateMap, whole_number
from minifcn.kernels.padding import Sides, pad_or_crop
from minifcn.kernels.threads import add_to
from minifcn.layers import Layer, LayerDict, Sequential
from minifcn.layers.base import Shape, indented
from minifcn.layers.containers import AnyLayer
from minifcn.models.classifiers import Classifier, check_images
from minifcn.models.info import ModelInfo
from minifcn.models.scoring import ScoreLayer
from minifcn.models.trunk import Trunk, trunk_from_parts, trunk_of
from minifcn.models.upsampling import AlignedUpsample, PaperUpsample

Alignment = Literal["exact", "paper"]
Upsampling = Literal["fixed", "learned"]


class FCN(Layer):
    """A classifier turned into a network that labels every pixel.

    The classifier's features and its head, convolutionalized and without the layer that scores its own
    classes, are taken over with their weights. A 1 x 1 convolution scores each position, and bilinear
    upsampling brings the scores back to the size of the image. *Skips* score finer maps, too, and are added
    on the way up: at stride 32 alone the network knows what; from stride 16 and 8 it learns where.

    All score layers begin at zero, so training starts with every class equally likely, and a network made by
    `finer()` starts with the scores of the one it came from. Where every map lies in the picture is computed
    from the layers, never written down as a number, and the scores come out at the size of the image.

    Args:
        classifier: Where features and head come from; its layers are copied.
        num_classes: Number of scores at each pixel.
        stride: Of the finest map that is scored: the classifier's own (32 for VGG16), or one of its taps (16,
            8). The coarsest unless given.
        alignment: `"exact"`: padding as the classifier has it, and maps that continue with their border
            values, for images of every size. Or `"paper"`, as the reference code does it: the first
            convolution pads by 100, dense kernels do not pad, and of two maps that meet the larger one is
            cropped. Scores near the border of a picture are then weaker: beyond it, there are zeros.
        upsampling: `"fixed"` bilinear, as in the reference code, or `"learned"`, which begins as bilinear.
            For the middle way of the 2015 paper, learned but for the last step, make it learned and say
            `fcn.upsamples[-1].deconv.weight.trainable = False`.
        at_once: Whether skips learn together with all the rest, not stage by stage. Their maps are then
            scaled by 0.01 (the first skip), 0.0001 (the second), and so on.

    Attributes:
        info: Class names, colours and preprocessing, once known.
        report: What `minifcn.weights.load_fcn` took from a file, if it came from there.
        trunk_frozen: Whether `freeze_trunk` was called.

    Raises:
        TypeError: If it is not made from a classifier.
        ValueError: If the classifier offers no such stride, an argument is out of range, or the layers leave
            alignment "paper" no whole crop offset.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import digit_classifier
        >>> fcn = FCN(digit_classifier(), num_classes=11, stride=4)
        >>> fcn(np.zeros((1, 1, 50, 75), np.float32)).shape
        (1, 11, 50, 75)
    """

    info: ModelInfo | None = None
    report: Any = None
    trunk_frozen = False

    def __init__(
        self,
        classifier: Classifier,
        num_classes: int,
        stride: int | None = None,
        *,
        alignment: Alignment = "exact",
        upsampling: Upsampling = "fixed",
        at_once: bool = False,
    ):
        if not isinstance(classifier, Classifier):
            raise TypeError(f"an FCN is made from a Classifier, got {type(classifier).__name__}")
        self._set_options(num_classes, alignment, upsampling, at_once)
        self._assemble(trunk_of(classifier, alignment), stride, classifier.architecture)

    # How it is made

    def _set_options(
        self, num_classes: int, alignment: Alignment, upsampling: Upsampling, at_once: bool
    ) -> None:
        for name, value, known in (
            ("alignment", alignment, get_args(Alignment)),
            ("upsampling", upsampling, get_args(Upsampling)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
        if not isinstance(at_once, bool):
            raise ValueError(f"at_once must be True or False, got {at_once!r}")
        self.num_classes = whole_number(num_classes, "num_classes", 2)
        if num_classes > 255:
            raise ValueError(f"num_classes must be at most 255, for 255 is void, got {num_classes}")
        self.alignment, self.upsampling, self.at_once = alignment, upsampling, at_once

    def _assemble(self, trunk: Trunk, stride: int | None, architecture: dict[str, Any]) -> None:
        """Take over a trunk, and put score layers and upsampling on it down to a stride."""
        self._classifier = architecture
        self.features, self.head = trunk.features, trunk.head
        self.taps, self.channels, self.smallest = trunk.taps, trunk.channels, trunk.smallest
        self._maps = trunk.maps

        self.stride = max(self._maps)
        wanted = self.stride if stride is None else whole_number(stride, "stride", 1)
        if wanted not in self._maps:
            raise ValueError(f"stride must be one of {sorted(self._maps)}, got {stride}")
        self.score = self._score_layer(self.stride)
        self.skips: LayerDict[ScoreLayer] = LayerDict()
        self.upsamples: LayerDict[AlignedUpsample] = LayerDict()
        self._grid = self._maps[self.stride].grid
        self.train(trunk.features.training)
        while self.stride > wanted:
            self._add_skip()
        self._upsample_to_pixels()

    def config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`: the parts, not the classifier that they came from."""
        return {
            "features": self.features,
            "head": self.head,
            "channels": self.channels,
            "taps": tuple(self.taps.items()),
            "smallest": self.smallest,
            "num_classes": self.num_classes,
            "stride": self.stride,
            "alignment": self.alignment,
            "upsampling": self.upsampling,
            "at_once": self.at_once,
            "architecture": self._classifier,
        }

    @classmethod
    def from_config(
        cls,
        features: Sequential,
        head: Sequential,
        channels: int,
        taps: Iterable[tuple[int, str]],
        smallest: int,
        num_classes: int,
        stride: int,
        alignment: Alignment,
        upsampling: Upsampling,
        at_once: bool,
        architecture: dict[str, Any],
    ) -> Self:
        """Return the network with this `config`; score layers are zero, and upsampling is bilinear."""
        fcn = cls.__new__(cls)
        fcn._set_options(num_classes, alignment, upsampling, at_once)
        fcn._assemble(trunk_from_parts(features, head, channels, dict(taps), smallest), stride, architecture)
        return fcn

    def _score_layer(self, stride: int, scale: float = 1.0) -> ScoreLayer:
        return self._like_the_rest(ScoreLayer(self._maps[stride].channels, self.num_classes, scale=scale))

    def _upsample(self, coarse: CoordinateMap, fine: CoordinateMap) -> AlignedUpsample:
        kind = PaperUpsample if self.alignment == "paper" else AlignedUpsample
        return self._like_the_rest(kind(self.num_classes, coarse, fine, learned=self.upsampling == "learned"))

    def _like_the_rest(self, layer: AnyLayer) -> AnyLayer:
        """Give a new layer the dtype, the device and the mode of the layers there are."""
        parameter = next(self.parameters(), None)
        if parameter is None:  # features of pools only, and no head
            return layer
        here = parameter.data
        return layer.astype(here.dtype.name).to(device_of(here)).train(self.training)

    def _upsample_to_pixels(self) -> None:
        """Add the last upsampling, which begins where the scores lie now."""
        last = self._upsample(self._grid, CoordinateMap())
        if last.skip_offset:
            raise ValueError(
                f"alignment 'paper' does not suit this classifier: its scores at stride {self.stride}, "
                f"upsampled, begin {last.skip_offset} pixels inside the picture, and nothing fills its border"
            )
        self.upsamples.parts[f"{self.stride}to1"] = last

    def _add_skip(self) -> None:
        """Score the next finer map, too, and upsample to it."""
        coarse, fine = self.stride, max(stride for stride in self._maps if stride < self.stride)
        scale = 0.01 ** (len(self.skips) + 1) if self.at_once else 1.0
        self.skips.parts[str(fine)] = self._score_layer(fine, scale)
        upsample = self.upsamples.parts[f"{coarse}to{fine}"] = self._upsample(
            self._grid, self._maps[fine].grid
        )
        self.stride, self._grid = fine, upsample.grid

    def finer(self) -> Self:
        """Return this network with one more skip, at the next finer stride it offers.

        So FCN-16s is trained from FCN-32s, and FCN-8s from that. The new score layer begins at zero, so the
        new network starts with this one's scores, up to upsampling in two steps instead of one. Both ways
        interpolate linearly; they differ where the coarse scores bend. With

            bend = largest |s[i-1] - 2 s[i] + s[i+1]| along rows + the same along columns

        over the coarse scores s, and a step of 2, the difference is

        - in exact alignment at most bend / 4, where s continues with its border values, and half of it away
          from the border. At the border this takes a finer map whose first and last centres lie within half
          of its step of the border of the picture, as padded convolutions with 2 x 2 pools give it, or a
          dense kernel of odd size;
        - in the paper's alignment at most bend / 8, where s continues with zeros.

        So they agree wherever the coarse scores are linear. The derivations stand beside their tests. Learned
        kernels of the step that is split begin anew, as bilinear.

        Raises:
            ValueError: If this network is the finest one.
        """
        if self.stride == min(self._maps):
            raise ValueError(f"stride {self.stride} is the finest that this network offers")
        child = copy.deepcopy(self)
        del child.upsamples.parts[f"{child.stride}to1"]
        child._add_skip()
        child._upsample_to_pixels()
        return child

    # How it is trained

    def score_layers(self) -> list[ScoreLayer]:
        """Return the new layers, coarsest first: they begin at zero and may learn faster than the trunk."""
        return [self.score, *self.skips]

    def freeze_trunk(self) -> Self:
        """Train the score layers (and learned upsampling) alone, and leave features and head as they are.

        Their parameters are no longer trainable, they run in evaluation mode even after `train()`, so they
        keep nothing for backward. `backward_parameters` stops before it enters them, and `backward`, which
        would need them for the gradient to the images, raises `ValueError`.

        This is a state of training like dropout's mode, not a part of the network: a model file does not keep
        it, but `finer()` does.
        """
        return self._set_trunk(frozen=True)

    def unfreeze_trunk(self) -> Self:
        """Train all of features and head again."""
        return self._set_trunk(frozen=False)

    def _set_trunk(self, *, frozen: bool) -> Self:
        self.trunk_frozen = frozen
        for part in (self.features, self.head):
            for parameter in part.parameters():
                parameter.trainable, parameter.grad = not frozen, None
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; a frozen trunk stays in evaluation."""
        super().train(mode)
        if self.trunk_frozen:
            self.features.eval()
            self.head.eval()
        return self

    # The network

    def forward(self, x: Array) -> Array:
        """Return scores (N, num_classes, H, W) for images (N, C, H, W), preprocessed.

        Raises:
            TypeError: If x is not preprocessed.
            ValueError: If x does not have 4 axes or the right channels, or is empty, or has a size that
                alignment "paper" does not know.
        """
        check_images(self, x, self.channels)
        height, width = x.shape[2:]
        sides = 0, max(self.smallest - height, 0), 0, max(self.smallest - width, 0)
        features = pad_or_crop(x, *sides)
        tapped: dict[str, Array] = {}
        for name, layer in self.features.children():
            features = layer(features)
            if (stride := self.stride_of(name)) in self.skips.parts:
                tapped[stride] = features

        scores = self.score(self.head(features))
        overhangs: list[Sides] = []
        *between, last = self.upsamples
        for upsample, (stride, skip) in zip(between, self.skips.children(), strict=True):
            finer = skip(tapped[stride])
            scores = upsample.forward(scores, finer.shape[2:])
            overhangs.append(_overhang(finer, scores, upsample.skip_offset))
            scores = scores + pad_or_crop(finer, *(-side for side in overhangs[-1]))
        scores = last.forward(scores, (height, width))
        self.keep(sides, overhangs, output=scores)
        return scores

    def backward(self, dy: Array) -> Array:
        """Return the gradient to the images: `forward` line by line, in reverse.

        Raises:
            ValueError: If the trunk is frozen: then it keeps nothing for this gradient.
        """
        if self.trunk_frozen:
            raise ValueError(
                "FCN.backward needs the gradient of features and head, and the trunk is frozen: call "
                "backward_parameters(dy), or unfreeze_trunk() before forward"
            )
        dx = self._backward(dy, to_images=True)
        assert dx is not None
        return dx

    def backward_parameters(self, dy: Array) -> None:
        """Do the same, without the gradient to the images; a frozen trunk is not entered."""
        self._backward(dy, to_images=False)

    def _backward(self, dy: Array, *, to_images: bool) -> Array | None:
        """Do `forward` line by line, in reverse, as far as gradients are needed."""
        sides, overhangs = self.recall(dy)
        *between, last = self.upsamples
        dscores = last.backward(dy)
        dtapped: dict[str, Array] = {}
        for upsample, (stride, skip), overhang in reversed(
            list(zip(between, self.skips.children(), overhangs, strict=True))
        ):
            dfiner = pad_or_crop(dscores, *overhang)
            if self.trunk_frozen:
                skip.backward_parameters(dfiner)
            else:
                dtapped[stride] = skip.backward(dfiner)
            dscores = upsample.backward(dscores)
        if self.trunk_frozen:
            self.score.backward_parameters(dscores)
            return None
        dfeatures = self.head.backward(self.score.backward(dscores))

        for name, layer in reversed(list(self.features.children())):
            if (stride := self.stride_of(name)) in self.skips.parts:
                dfeatures = add_to(dtapped[stride], dfeatures)
            if layer is self.features[0] and not to_images:
                layer.backward_parameters(dfeatures)
                return None
            dfeatures = layer.backward(dfeatures)
        return pad_or_crop(dfeatures, *(-side for side in sides))

    def stride_of(self, layer: str) -> str:
        """Return the stride at which a layer of `features` is tapped, as the name of its skip."""
        return next((str(stride) for stride, name in self.taps.items() if name == layer), "")

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
                "alignment": self.alignment,
                "upsampling": self.upsampling,
                "at_once": self.at_once,
            },
        }

    def __repr__(self) -> str:
        return "\n".join(["FCN(", *(indented(name, layer) for name, layer in self.children()), ")"])


def _overhang(finer: Array, scores: Array, offset: int) -> Sides:
    """Return how far a finer map reaches beyond scores that begin at an offset of it, on each side."""
    below, right = (finer.shape[axis] - offset - scores.shape[axis] for axis in (2, 3))
    return offset, below, offset, right
