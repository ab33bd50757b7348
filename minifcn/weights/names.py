"""Names that others give to the tensors of a network, and the preprocessing published with such weights.

| names | example | layout |
|---|---|---|
| torchvision | `features.0.weight`, `classifier.0.weight` (4096, 25088) | ours |
| timm | `features.0.weight`, `pre_logits.fc1.weight` (4096, 512, 7, 7), `head.fc.weight` | ours |
| Caffe | `conv1_1.weight` or `conv1_1_W`, `fc6.weight` | ours |
| TensorFlow | `conv1_1_W` (3, 3, 3, 64), `fc6_W` (25088, 4096) | channels last |
| Keras | `block1_conv1/kernel:0` or `block1_conv1_W_1:0`, `fc1/kernel:0` | channels last |
| reference FCN | `conv1_1.weight`, `fc6.weight` (4096, 512, 7, 7), `score_fr.weight` | ours |

All of these are known for VGG of 11 to 19 layers; of those with batch normalisation only torchvision's and
timm's, and of CaffeNet only Caffe's. An FCN may also have the ends of names, and the layout, of the Caffe,
TensorFlow and Keras rows.

Sources of the preprocessing: the documentation of torchvision's and timm's weights; the reference code of FCN
(`voc_layers.py`); the description of VGG16's conversion to TensorFlow by D. Frossard (2016); Keras'
`preprocess_input` in its mode "caffe".
"""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minifcn.backend import Array
from minifcn.files import FileError
from minifcn.layers import Conv2d, Linear, MaxPool2d
from minifcn.models import FCN, Classifier, Preprocessing
from minifcn.models.registry import PUBLISHED
from minifcn.weights.tensors import Tensors

_ONES = (1.0, 1.0, 1.0)
PREPROCESSING = {
    # torchvision and timm; published for values from 0 to 1, as (.485, .456, .406) and (.229, .224, .225)
    "torchvision": Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # -1 to 1, which torchvision's GoogLeNet takes
    "half": Preprocessing("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    # the reference code of FCN, and the classifiers that it starts from
    "caffe": Preprocessing("BGR", (104.00699, 116.66877, 122.67892), _ONES),
    # VGG16 in `vgg16_weights.npz`
    "tensorflow": Preprocessing("RGB", (123.68, 116.779, 103.939), _ONES),
    "keras": Preprocessing("BGR", (103.939, 116.779, 123.68), _ONES),
}
"""Preprocessing of published weights, by name."""

_CAFFE_ENDS = ((".weight", ".bias"), ("_W", "_b"))
_KERAS_ENDS = (("/kernel:0", "/bias:0"), ("/kernel", "/bias"), ("_W_1:0", "_b_1:0"))
_FCN_ENDS = dict.fromkeys(_CAFFE_ENDS, False) | dict.fromkeys(_KERAS_ENDS, True)  # whether channels are last
_VGG = ("vgg11", "vgg13", "vgg16", "vgg19")
_VGG_DENSE = ("classifier.0", "classifier.3", "classifier.6")
_FCN_LAYERS = {
    "score": "score_fr",
    "skips.16": "score_pool4",
    "skips.8": "score_pool3",
    "upsamples.32to1.deconv": "upscore",
    "upsamples.32to16.deconv": "upscore2",
    "upsamples.16to1.deconv": "upscore16",
    "upsamples.16to8.deconv": "upscore_pool4",
    "upsamples.8to1.deconv": "upscore8",
}


@dataclass(frozen=True)
class Naming:
    """The names of a network's tensors in files of one origin.

    Attributes:
        source: The origin, such as "timm".
        names: Names in the file, by the network's own names.
        preprocessing: What was published with such weights, if any were.
        channels_last: Whether filters are (KH, KW, C, O) and dense weights (inputs, O), of maps that were
            flattened as H, W, C.
    """

    source: str
    names: dict[str, str]
    preprocessing: Preprocessing | None = None
    channels_last: bool = False


def own_names(classifier: Classifier | FCN, source: str = "minifcn") -> Naming:
    """Return the names that a network has here."""
    published = PUBLISHED.get(str(classifier.architecture.get("name")))
    names = {name: name for name in classifier.state_dict()}
    return Naming(source, names, PREPROCESSING[published.preprocessing] if published else None)


def classifier_namings(classifier: Classifier) -> Iterator[Naming]:
    """Yield all known namings of a classifier.

    Example:
        >>> from minifcn.models import vgg16
        >>> for naming in classifier_namings(vgg16(init="zeros")):
        ...     print(naming.source, naming.names["features.2.weight"], naming.names["classifier.0.weight"])
        torchvision features.2.weight classifier.0.weight
        Caffe conv1_2.weight fc6.weight
        Caffe conv1_2_W fc6_W
        timm features.2.weight pre_logits.fc1.weight
        TensorFlow conv1_2_W fc6_W
        Keras block1_conv2/kernel:0 fc1/kernel:0
        Keras block1_conv2/kernel fc1/kernel
        Keras block1_conv2_W_1:0 fc1_W_1:0
    """
    architecture = str(classifier.architecture.get("name"))
    _, file, prefixed = PUBLISHED.get(architecture, ("", "", False))
    own = own_names(classifier, "torchvision" if file and not prefixed else "minifcn")
    yield own
    if prefixed:
        names = {name: name.partition(".")[2] for name in own.names}
        yield Naming("torchvision", names, own.preprocessing)
    layers = caffe_layers(classifier)
    for ends in _CAFFE_ENDS if layers else ():
        yield Naming("Caffe", _with_ends(layers, ends), PREPROCESSING["caffe"])
    if architecture.removesuffix("_bn") in _VGG:
        timm = dict(zip(_VGG_DENSE, ("pre_logits.fc1", "pre_logits.fc2", "head.fc"), strict=True))
        parts = {name: name.rpartition(".") for name in own.names}
        names = {name: f"{timm.get(layer, layer)}.{kind}" for name, (layer, _, kind) in parts.items()}
        yield Naming("timm", names, own.preprocessing)
    if architecture in _VGG:
        names = _with_ends(layers, _CAFFE_ENDS[1])
        yield Naming("TensorFlow", names, PREPROCESSING["tensorflow"], channels_last=True)
        keras = {ours: name.replace("conv", "block").replace("_", "_conv") for ours, name in layers.items()}
        keras |= zip(_VGG_DENSE, ("fc1", "fc2", "predictions"), strict=True)
        for ends in _KERAS_ENDS:
            yield Naming("Keras", _with_ends(keras, ends), PREPROCESSING["keras"], channels_last=True)


def caffe_layers(classifier: Classifier) -> dict[str, str]:
    """Return Caffe's names of the layers of VGG (without batch normalisation) and CaffeNet.

    For other networks it returns nothing.

    Example:
        >>> from minifcn.models import vgg16
        >>> layers = caffe_layers(vgg16(init="zeros"))
        >>> layers["features.28"], layers["classifier.6"]
        ('conv5_3', 'fc8')
    """
    architecture = classifier.architecture.get("name")
    if architecture not in ("caffenet", *_VGG):
        return {}
    names, block, conv = {}, 1, 0
    for name, layer in classifier.features.children():
        if isinstance(layer, Conv2d):
            conv += 1
            names[f"features.{name}"] = name if architecture == "caffenet" else f"conv{block}_{conv}"
        elif isinstance(layer, MaxPool2d):
            block, conv = block + 1, 0
    dense = [name for name, layer in classifier["classifier"].children() if isinstance(layer, Linear)]
    return names | {f"classifier.{name}": f"fc{number}" for number, name in enumerate(dense, 6)}


def is_fcn(names: Iterable[str]) -> bool:
    """Return whether names of tensors are those of an FCN of the reference code, or of torchvision.

    Example:
        >>> is_fcn(["conv1_1_W", "score_fr_W"]), is_fcn(["conv1_1_W", "fc8_W"])
        (True, False)
    """
    names = {*names}
    return is_torchvision_fcn(names) or any(
        re.search(r"(^|[./])(score_fr|score_pool|upscore)", name) for name in names
    )


def is_torchvision_fcn(names: Container[str]) -> bool:
    """Return whether names of tensors are those of torchvision's `fcn_resnet50` or `fcn_resnet101`."""
    return "backbone.conv1.weight" in names and "classifier.4.weight" in names


def fcn_scores(arrays: Mapping[str, Array]) -> tuple[tuple[str, str], bool, Array] | None:
    """Return the spelling of an FCN and its score weight: ends of names, channels last, weight."""
    for ends, channels_last in _FCN_ENDS.items():
        scores = arrays.get(f"score_fr{ends[0]}")
        if scores is not None and scores.ndim > 1:
            return ends, channels_last or scores.shape[:2] == (1, 1), scores
    return None


def read_at_once(file: Path, tensors: Tensors, layers: Sequence[str], bias: str) -> bool | None:
    """Return whether a file says that its skips are scaled as in training at once, or `None` if it does not.

    Args:
        file: For messages.
        tensors: Its contents.
        layers: Names of the layers that scale the skips, coarsest first.
        bias: End of the names of biases; those that are zero say nothing.

    Raises:
        FileError: If the scales are others.
    """
    scales: dict[str, list[Array]] = {}
    for name, array in tensors.arrays.items():
        for layer in layers:
            if name.startswith(layer) and (array.any() or not name.endswith(bias)):
                scales.setdefault(layer, []).append(array)
    if not scales:
        return True if layers and "atonce" in tensors.metadata.get("arch", "").lower() else None
    for at_once, scale in ((True, 0.01), (False, 1.0)):
        if len(scales) == len(layers) and all(
            np.allclose(array, scale**number, rtol=1e-3, atol=0)
            for number, layer in enumerate(layers, 1)
            for array in scales[layer]
        ):
            return at_once
    raise FileError(f"{file}: {', '.join(scales)} scale the skips otherwise than training at once does")


def fcn_naming(
    fcn: FCN,
    classifier: Classifier,
    ends: tuple[str, str] = _CAFFE_ENDS[0],
    channels_last: bool = False,
) -> Naming:
    """Return the names of the reference code of FCN.

    Args:
        fcn: Made from the classifier.
        classifier: `vgg16` or `caffenet`.
        ends: Ends of the names of weights and biases.
        channels_last: See `Naming`.

    Example:
        >>> from minifcn.models import caffenet
        >>> classifier = caffenet(init="zeros")
        >>> naming = fcn_naming(FCN(classifier, 21, alignment="paper"), classifier)
        >>> naming.names["head.fc6.weight"], naming.names["upsamples.32to1.deconv.weight"]
        ('fc6.weight', 'upscore.weight')
        >>> naming.channels_last
        False
    """
    trunk = {name.replace("classifier.", "head."): caffe for name, caffe in caffe_layers(classifier).items()}
    layers = trunk | _FCN_LAYERS
    names = {}
    for ours in fcn.state_dict():
        layer, _, kind = ours.rpartition(".")
        names[ours] = layers[layer] + ends[kind == "bias"]
    return Naming("reference FCN", names, PREPROCESSING["caffe"], channels_last)


def torchvision_fcn_naming(fcn: FCN) -> Naming:
    """Return torchvision's names of an FCN of a dilated ResNet; its auxiliary head has no counterpart.

    Example:
        >>> from minifcn.models import fcn_resnet50
        >>> names = torchvision_fcn_naming(fcn_resnet50(init="zeros")).names
        >>> names["features.conv1.weight"], names["head.0.weight"], names["score.bias"]
        ('backbone.conv1.weight', 'classifier.0.weight', 'classifier.4.bias')
    """
    parts = {"features": "backbone", "head": "classifier", "score": "classifier.4"}
    names = {}
    for ours in fcn.state_dict():
        part, _, rest = ours.partition(".")
        names[ours] = f"{parts[part]}.{rest}"
    return Naming("torchvision", names, PREPROCESSING["torchvision"])


def parse_preprocessing(text: str) -> Preprocessing:
    """Return the preprocessing that a text describes: a name from `PREPROCESSING`, or JSON.

    Args:
        text: JSON has "channels" or "channel_order", "mean", and optionally "std", "scale" (both 1 by
            default), "bit_depth" and "bands": images from 0 to 255 are multiplied by the scale before the
            mean is subtracted.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> parse_preprocessing("keras").channels
        'BGR'
        >>> parse_preprocessing('{"channel_order": "RGB", "scale": 0.5, "mean": [50, 50, 50]}').mean
        (100.0, 100.0, 100.0)
    """
    if text in PREPROCESSING:
        return PREPROCESSING[text]
    try:
        values = json.loads(text)
        channels = values["channels"] if "channels" in values else values["channel_order"]
        scale, mean = float(values.get("scale", 1)), values["mean"]
        std = values.get("std", [1] * len(mean))
        return Preprocessing(
            channels,
            tuple(value / scale for value in mean),
            tuple(value / scale for value in std),
            **{name: values[name] for name in ("bit_depth", "bands") if name in values},
        )
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)[:200]
        raise ValueError(
            f"unknown preprocessing {text[:100]!r}: expected one of {', '.join(PREPROCESSING)}, or JSON with "
            f"channels, mean, std and scale ({why})"
        ) from error


def _with_ends(layers: dict[str, str], ends: tuple[str, str]) -> dict[str, str]:
    """Return the names of weights and biases; the layers have nothing else."""
    return {
        ours + kind: theirs + end
        for ours, theirs in layers.items()
        for kind, end in zip((".weight", ".bias"), ends, strict=True)
    }
