"""How images become the input of weights that were published without saying so.

Sources: the documentation of torchvision's and timm's weights; the reference code of FCN (`voc_layers.py`);
the description of VGG16's conversion to TensorFlow by D. Frossard (2016); Keras' `preprocess_input` in its
mode "caffe".
"""

import json

from minifcn.models import Preprocessing

_ONES = (1.0, 1.0, 1.0)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of numbers from 0 to 1

TORCHVISION = Preprocessing(
    "RGB", tuple(255 * mean for mean in _IMAGENET_MEAN), tuple(255 * std for std in _IMAGENET_STD)
)
"""Of torchvision's and timm's weights."""

HALF = Preprocessing("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""From -1 to 1, as torchvision's GoogLeNet takes it."""

CAFFE = Preprocessing("BGR", (104.00699, 116.66877, 122.67892), _ONES)
"""Of the reference code of FCN, and of the classifiers that it begins with."""

TENSORFLOW = Preprocessing("RGB", (123.68, 116.779, 103.939), _ONES)
"""Of VGG16 in `vgg16_weights.npz`."""

KERAS = Preprocessing("BGR", (103.939, 116.779, 123.68), _ONES)
"""Of VGG16 in Keras."""

PREPROCESSING = {
    "torchvision": TORCHVISION,
    "half": HALF,
    "caffe": CAFFE,
    "tensorflow": TENSORFLOW,
    "keras": KERAS,
}
"""All of them by name."""


def parse_preprocessing(text: str) -> Preprocessing:
    """Return the preprocessing that a text says: a name from `PREPROCESSING`, or JSON.

    Args:
        text: JSON has "channels" or "channel_order", "mean", and if need be "std" and "scale" (both 1 unless
            given): images from 0 to 255 are multiplied by the scale before the mean is subtracted.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> parse_preprocessing("keras").channels
        'BGR'
        >>> parse_preprocessing('{"channel_order": "RGB", "scale": 0.5, "mean": [50, 50, 50]}')
        Preprocessing(channels='RGB', mean=(100.0, 100.0, 100.0), std=(2.0, 2.0, 2.0))
    """
    if text in PREPROCESSING:
        return PREPROCESSING[text]
    try:
        said = json.loads(text)
        channels = said["channels"] if "channels" in said else said["channel_order"]
        scale, mean = float(said.get("scale", 1)), said["mean"]
        std = said.get("std", [1] * len(mean))
        return Preprocessing(
            channels, tuple(number / scale for number in mean), tuple(number / scale for number in std)
        )
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)[:200]
        raise ValueError(
            f"no preprocessing is said by {text[:100]!r}: it takes one of {', '.join(PREPROCESSING)}, or "
            f"JSON with channels, mean, std and scale ({why})"
        ) from error
