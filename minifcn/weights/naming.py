"""What others call the tensors of a network.

| names | example | layout as |
|---|---|---|
| torchvision | `features.0.weight`, `classifier.0.weight` (4096, 25088) | here |
| timm | `features.0.weight`, `pre_logits.fc1.weight` (4096, 512, 7, 7), `head.fc.weight` | here |
| Caffe | `conv1_1.weight` or `conv1_1_W`, `fc6.weight` | here |
| TensorFlow | `conv1_1_W` (3, 3, 3, 64), `fc6_W` (25088, 4096) | channels last |
| Keras | `block1_conv1/kernel:0` or `block1_conv1_W_1:0`, `fc1/kernel:0` | channels last |
| reference FCN | `conv1_1.weight`, `fc6.weight` (4096, 512, 7, 7), `score_fr.weight` | here |
"""

from collections.abc import Iterator
from dataclasses import dataclass

from minifcn.layers import Conv2d, Linear, MaxPool2d
from minifcn.models import FCN, Classifier, Preprocessing
from minifcn.weights.published import CAFFE, HALF, KERAS, TENSORFLOW, TORCHVISION

_OF_OUR_NAMES = {
    "alexnet": TORCHVISION,
    "caffenet": CAFFE,
    "googlenet": HALF,
    "squeezenet1_0": TORCHVISION,
    "squeezenet1_1": TORCHVISION,
    "vgg16": TORCHVISION,
}
_PREFIXED = ("caffenet", "googlenet")  # their names here begin with "features." or "classifier.", only here
_CAFFE_ENDS = ((".weight", ".bias"), ("_W", "_b"))
_KERAS_ENDS = (("/kernel:0", "/bias:0"), ("/kernel", "/bias"), ("_W_1:0", "_b_1:0"))

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
    """What somebody calls the tensors of a network.

    Attributes:
        source: Who.
        names: Their names by ours.
        preprocessing: How images become input with the weights published there, if there are any.
        channels_last: Whether filters are (KH, KW, C, O) and dense weights (inputs, O), of maps that were
            flattened as H, W, C.
    """

    source: str
    names: dict[str, str]
    preprocessing: Preprocessing | None = None
    channels_last: bool = False


def classifier_namings(classifier: Classifier) -> Iterator[Naming]:
    """Yield all that is known of a classifier's names.

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
    architecture = classifier.architecture["name"]
    ours = list(classifier.state_dict())
    published = _OF_OUR_NAMES.get(architecture)
    source = "torchvision" if published and architecture not in _PREFIXED else "minifcn"
    yield Naming(source, {name: name for name in ours}, published)
    if architecture == "googlenet":
        yield Naming("torchvision", {name: name.partition(".")[2] for name in ours}, published)
    layers = caffe_layers(classifier)
    for ends in _CAFFE_ENDS if layers else ():
        yield Naming("Caffe", _with_ends(layers, ends), CAFFE)
    if architecture == "vgg16":
        timm = layers | {ours: ours for ours in layers if ours.startswith("features.")}
        timm |= zip(_dense(layers), ("pre_logits.fc1", "pre_logits.fc2", "head.fc"), strict=True)
        yield Naming("timm", _with_ends(timm, _CAFFE_ENDS[0]), TORCHVISION)
        yield Naming("TensorFlow", _with_ends(layers, _CAFFE_ENDS[1]), TENSORFLOW, channels_last=True)
        keras = {ours: name.replace("conv", "block").replace("_", "_conv") for ours, name in layers.items()}
        keras |= zip(_dense(layers), ("fc1", "fc2", "predictions"), strict=True)
        for ends in _KERAS_ENDS:
            yield Naming("Keras", _with_ends(keras, ends), KERAS, channels_last=True)


def caffe_layers(classifier: Classifier) -> dict[str, str]:
    """Return what Caffe calls the layers of VGG16 and CaffeNet; nothing for other networks.

    Example:
        >>> from minifcn.models import vgg16
        >>> layers = caffe_layers(vgg16(init="zeros"))
        >>> layers["features.28"], layers["classifier.6"]
        ('conv5_3', 'fc8')
    """
    architecture = classifier.architecture["name"]
    if architecture not in ("caffenet", "vgg16"):
        return {}
    names, block, conv = {}, 1, 0
    for name, layer in classifier.features.children():
        if isinstance(layer, Conv2d):
            conv += 1
            names[f"features.{name}"] = f"conv{block}_{conv}" if architecture == "vgg16" else name
        elif isinstance(layer, MaxPool2d):
            block, conv = block + 1, 0
    dense = [name for name, layer in classifier["classifier"].children() if isinstance(layer, Linear)]
    return names | {f"classifier.{name}": f"fc{number}" for number, name in enumerate(dense, 6)}


def fcn_naming(fcn: FCN, classifier: Classifier) -> Naming:
    """Return the names of the reference code of FCN.

    Args:
        fcn: Made from the classifier.
        classifier: `vgg16` or `caffenet`.

    Example:
        >>> from minifcn.models import caffenet
        >>> classifier = caffenet(init="zeros")
        >>> naming = fcn_naming(FCN(classifier, 21, alignment="paper"), classifier)
        >>> naming.names["head.fc6.weight"], naming.names["upsamples.32to1.deconv.weight"]
        ('fc6.weight', 'upscore.weight')
    """
    trunk = {name.replace("classifier.", "head."): caffe for name, caffe in caffe_layers(classifier).items()}
    layers = trunk | _FCN_LAYERS
    names = {}
    for ours in fcn.state_dict():
        layer, _, kind = ours.rpartition(".")
        names[ours] = f"{layers[layer]}.{kind}"
    return Naming("reference FCN", names, CAFFE)


def _dense(layers: dict[str, str]) -> list[str]:
    return [name for name in layers if name.startswith("classifier.")]


def _with_ends(layers: dict[str, str], ends: tuple[str, str]) -> dict[str, str]:
    """Return the names of weights and biases, where layers have nothing else."""
    kinds = (".weight", ".bias")
    return {
        ours + kind: theirs + end
        for ours, theirs in layers.items()
        for kind, end in zip(kinds, ends, strict=True)
    }
