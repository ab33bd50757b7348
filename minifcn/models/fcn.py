"""Fully convolutional networks for semantic segmentation (Long, Shelhamer & Darrell, CVPR 2015).

The networks of the paper, made from `minifcn.models.vgg16`, `caffenet` and `googlenet`:

| in the paper | here |
|---|---|
| FCN-32s, 16s, 8s | `FCN(vgg16(), 21, stride=32)`, `stride=16`, `stride=8` |
| FCN-16s trained from FCN-32s | `fcn16s = fcn32s.finer()`, and `fcn8s = fcn16s.finer()` |
| FCN-8s at once | `FCN(vgg16(), 21, stride=8, at_once=True)` |
| FCN-AlexNet, FCN-GoogLeNet | `FCN(caffenet(), 21)`, `FCN(googlenet(), 21)` |

With `alignment="paper"` they have the geometry of the reference code, its padding of 100 and its crops, so
that converted checkpoints give the same scores. The default, `alignment="exact"`, needs about half of the
multiplications at the size of PASCAL VOC's images.
"""

import copy
from collections.abc import Iterable
from typing import Any, Literal, Self, get_args

from minifcn.backend import Array, device_of
from minifcn.functional.operands import check_choice
from minifcn.geometry import CoordinateMap, check_integer
from minifcn.kernels.padding import Sides, pad_or_crop
from minifcn.layers import BatchNorm2d, Layer, LayerDict, Parameter
from minifcn.layers.base import Shape, indented
from minifcn.layers.containers import AnyLayer, Stack
from minifcn.layers.visitor import Value, Visitor
from minifcn.models.classifiers import Classifier, check_images
from minifcn.models.info import ModelInfo
from minifcn.models.scoring import ScoreLayer
from minifcn.models.trunk import Trunk, trunk_from_parts, trunk_of
from minifcn.models.upsampling import AlignedUpsample, GridUpsample, PaperUpsample, TorchvisionUpsample

Alignment = Literal["exact", "paper", "torchvision"]
Upsampling = Literal["fixed", "learned"]

_UPSAMPLES = {"exact": AlignedUpsample, "paper": PaperUpsample, "torchvision": TorchvisionUpsample}


class FCN(Layer):
    """A classifier turned into a network that labels every pixel.

    The classifier's features and its head, convolutionalized and without the layer that scores its own
    classes, are taken over with their weights. A 1 x 1 convolution scores each position, and bilinear
    upsampling brings the scores back to the size of the image. *Skips* score finer maps, too, and are added
    on the way up: the scores at stride 32 know what is in the image, those at 16 and 8 where it is.

    All score layers begin at zero, so training starts with every class equally likely, and a network made by
    `finer()` starts with the scores of the one it came from. Where each map lies in the image is computed
    from the layers' coordinate maps, and the scores have the size of the image.

    Args:
        classifier: Any `Classifier` whose layers have coordinate maps; its layers are copied.
        num_classes: Number of scores at each pixel, 2 to 255.
        stride: Stride of the finest map that is scored: the classifier's own (32 for VGG16), or that of a tap
            (16, 8). The coarsest by default.
        alignment: `"exact"`: padding as in the classifier, and coarse maps extended by their border values,
            for images of every size. Or `"paper"`, as in the reference code: the first convolution pads by
            100, dense kernels do not pad, and of two maps that meet the larger one is cropped. Scores near
            the border of an image are then weaker, because there are zeros beyond it. Or `"torchvision"`:
            coarse maps are resized to the size of the image, which shifts scores by half a stride; see
            `fcn_resnet50`.
        upsampling: `"fixed"` bilinear, as in the reference code, or `"learned"`, which begins as bilinear.
            For upsampling that is learned except for the last step, as in the 2015 paper, set
            `fcn.upsamples[-1].deconv.weight.trainable = False`.
        at_once: Whether skips are trained together with the rest instead of stage by stage. Their maps are
            then scaled by 0.01 (the first skip), 0.0001 (the second), and so on.

    Attributes:
        info: Class names, colours and preprocessing, once known.
        report: What `minifcn.weights.load_fcn` took from a file, if it came from there.
        trunk_frozen: Whether features and head are frozen; see `freeze_trunk`.

    Raises:
        TypeError: If it is not made from a classifier.
        ValueError: If the classifier offers no such stride, an argument is out of range, a layer has no
            coordinate map, or the crop offsets of alignment "paper" are no integers.

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
            raise TypeError(
                f"classifier must be a Classifier, which holds features and the layers that score them, got "
                f"{type(classifier).__name__}: Classifier(features, classifier, input_shape=...) makes one"
            )
        self._set_options(num_classes, alignment, upsampling, at_once)
        self._assemble(trunk_of(classifier, alignment), stride, classifier.architecture)

    # How it is made

    def _set_options(
        self, num_classes: int, alignment: Alignment, upsampling: Upsampling, at_once: bool
    ) -> None:
        check_choice(alignment, "alignment", get_args(Alignment))
        check_choice(upsampling, "upsampling", get_args(Upsampling))
        if not isinstance(at_once, bool):
            raise ValueError(f"at_once must be True or False, got {at_once!r}")
        self.num_classes = check_integer(num_classes, "num_classes", 2)
        if num_classes > 255:
            raise ValueError(f"num_classes must be at most 255, for 255 is void, got {num_classes}")
        self.alignment, self.upsampling, self.at_once = alignment, upsampling, at_once

    def _assemble(self, trunk: Trunk, stride: int | None, architecture: dict[str, Any]) -> None:
        """Take over a trunk, and add score layers and upsampling down to a stride."""
        self._classifier = architecture
        self.features, self.head = trunk.features, trunk.head
        self.taps, self.channels, self.smallest = trunk.taps, trunk.channels, trunk.smallest
        self._maps = trunk.maps

        self.stride = max(self._maps)
        wanted = self.stride if stride is None else check_integer(stride, "stride", 1)
        if wanted not in self._maps:
            raise ValueError(f"stride must be one of {sorted(self._maps)}, got {stride}")
        self.score = self._score_layer(self.stride)
        self.skips: LayerDict[ScoreLayer] = LayerDict()
        self.upsamples: LayerDict[GridUpsample] = LayerDict()
        self._grid = self._maps[self.stride].grid
        self.train(trunk.features.training)
        while self.stride > wanted:
            self._add_skip()
        self._upsample_to_pixels()

    def config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`: the parts, not the classifier that they came from."""
        return super().config() | {"taps": tuple(self.taps.items()), "architecture": self._classifier}

    @classmethod
    def from_config(
        cls,
        features: Stack,
        head: Stack,
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

    def _upsample(self, coarse: CoordinateMap, fine: CoordinateMap) -> GridUpsample:
        kind: type[GridUpsample] = _UPSAMPLES[self.alignment]
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
                f"upsampled, begin {last.skip_offset} pixels inside the image, and nothing fills its border"
            )
        self.upsamples.parts[f"{self.stride}to1"] = last

    def _add_skip(self) -> None:
        """Score the next finer map, too, and upsample to it."""
        coarse, fine = self.stride, max(stride for stride in self._maps if stride < self.stride)
        scale = 0.01 ** (len(self.skips) + 1) if self.at_once else 1.0
        self.skips.parts[str(fine)] = self._score_layer(fine, scale)
        upsample = self._upsample(self._grid, self._maps[fine].grid)
        self.upsamples.parts[f"{coarse}to{fine}"] = upsample
        self.stride, self._grid = fine, upsample.grid

    def finer(self) -> Self:
        """Return this network with one more skip, at the next finer stride it offers.

        So FCN-16s is trained from FCN-32s, and FCN-8s from that. The new score layer begins at zero, so the
        new network starts with this one's scores, except that they are upsampled in two steps instead of one.
        Both ways interpolate linearly; they differ where the coarse scores bend. With

            bend = largest |s[i-1] - 2 s[i] + s[i+1]| along rows + the same along columns

        over the coarse scores s, and a step of 2, the difference is

        - in exact alignment at most bend / 4, where s is extended by its border values, and half of that away
          from the border. At the border this requires a finer map whose first and last centres lie within
          half of its step of the border of the image, as padded convolutions with 2 x 2 pools give it, or a
          dense kernel of odd size;
        - in the paper's alignment at most bend / 8, where s is extended by zeros.

        So they agree wherever the coarse scores are linear. The derivations stand beside their tests. Learned
        kernels of the step that is split begin again as bilinear.

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
        """Return the score layers, coarsest first; they begin at zero and may have a higher learning rate."""
        return [self.score, *self.skips]

    def freeze_trunk(self, *, frozen: bool = True) -> Self:
        """Train the score layers (and learned upsampling) alone, or, with `frozen=False`, everything again.

        In a frozen trunk, features and head are no longer trainable and stay in evaluation mode even after
        `train()`, so they keep nothing for backward. `backward_parameters` stops before them, and `backward`,
        which would need them for the gradient to the images, raises `ValueError`.

        This is a state of training, as dropout's mode is, not a part of the network: a model file does not
        keep it, but `finer()` does.
        """
        self.trunk_frozen = frozen
        for layer in (*self.features.layers(), *self.head.layers()):
            always_frozen = isinstance(layer, BatchNorm2d) and layer.frozen
            for parameter in vars(layer).values():
                if isinstance(parameter, Parameter):
                    parameter.trainable, parameter.grad = not (frozen or always_frozen), None
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
                alignment "paper" cannot crop.
        """
        check_images(self, x, self.channels)
        height, width = x.shape[2:]
        sides = 0, max(self.smallest - height, 0), 0, max(self.smallest - width, 0)
        tapped: dict[str, Any] = dict.fromkeys(self._tapped())
        scores = self.score(self.head(self.features.forward(pad_or_crop(x, *sides), tapped)))

        overhangs: list[Sides] = []
        *between, last = self.upsamples
        for upsample, skip, tap in zip(between, self.skips, self._tapped(), strict=True):
            finer = skip(tapped.pop(tap))
            scores = upsample.forward(scores, finer.shape[2:])
            overhangs.append(_overhang(finer.shape[2:], scores.shape[2:], upsample.skip_offset))
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
                "backward_parameters(dy), or freeze_trunk(frozen=False) before forward"
            )
        dx = self._backward(dy, to_images=True)
        assert dx is not None
        return dx

    def backward_parameters(self, dy: Array) -> None:
        """Do the same, without the gradient to the images and without a frozen trunk."""
        self._backward(dy, to_images=False)

    def _backward(self, dy: Array, *, to_images: bool) -> Array | None:
        """Do `forward` line by line, in reverse, as far as gradients are needed."""
        sides, overhangs = self.recall(dy)
        *between, last = self.upsamples
        dscores = last.backward(dy)
        dtapped: dict[str, Array] = {}
        for upsample, skip, tap, overhang in reversed(
            list(zip(between, self.skips, self._tapped(), overhangs, strict=True))
        ):
            dfiner = pad_or_crop(dscores, *overhang)
            if self.trunk_frozen:
                skip.backward_parameters(dfiner)
            else:
                dtapped[tap] = skip.backward(dfiner)
            dscores = upsample.backward(dscores)

        if self.trunk_frozen:
            self.score.backward_parameters(dscores)
            return None
        dfeatures = self.head.backward(self.score.backward(dscores))
        if not to_images:
            self.features.backward_parameters(dfeatures, dtapped)
            return None
        return pad_or_crop(self.features.backward(dfeatures, dtapped), *(-side for side in sides))

    def walk(self, visitor: Visitor, x: Value) -> Value:
        """Lead a visitor the way of `forward`, line by line."""
        height, width = size = visitor.size(x)
        below, right = (visitor.maximum(self.smallest - side, 0) for side in size)
        tapped: dict[str, Any] = dict.fromkeys(self._tapped())
        features = visitor.visit(self.features, visitor.pad(x, (0, below, 0, right)), tapped)
        scores = visitor.visit(self.score, visitor.visit(self.head, features))

        *between, last = self.upsamples
        for upsample, skip, tap in zip(between, self.skips, self._tapped(), strict=True):
            finer = visitor.visit(skip, tapped.pop(tap))
            scores = visitor.visit(upsample, scores, visitor.size(finer))
            overhang = _overhang(visitor.size(finer), visitor.size(scores), upsample.skip_offset)
            scores = visitor.add(scores, visitor.crop(finer, overhang))
        return visitor.visit(last, scores, (height, width))

    def _tapped(self) -> list[str]:
        """Return the names of the layers in `features` that the skips score, in the order of the skips."""
        return [self.taps[int(stride)] for stride, _ in self.skips.children()]

    def output_shape(self, shape: Shape) -> Shape:
        """Return (num_classes, H, W) for (C, H, W)."""
        return (self.num_classes, *shape[1:])

    @property
    def architecture(self) -> dict[str, Any]:
        """Name and arguments for `minifcn.models.build`; the classifier's are {} if it has no name."""
        options = ("num_classes", "stride", "alignment", "upsampling", "at_once")
        arguments = {name: getattr(self, name) for name in options}
        return {"name": "fcn", "arguments": {"classifier": self._classifier} | arguments}

    def __repr__(self) -> str:
        return "\n".join(["FCN(", *(indented(name, layer) for name, layer in self.children()), ")"])


def _overhang(finer: tuple[Any, ...], scores: tuple[Any, ...], offset: int) -> Sides:
    """Return how far a finer map extends beyond scores that begin at an offset of it, on each side."""
    below, right = (large - offset - small for large, small in zip(finer, scores, strict=True))
    return offset, below, offset, right
