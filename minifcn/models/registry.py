"""Networks by name, so that a weight file can say which one it belongs to."""

from typing import Any

from minifcn.layers.base import Rng
from minifcn.models.classifiers import Classifier, digit_classifier, vgg16
from minifcn.models.fcn import FCN

CLASSIFIERS = {"digit_classifier": digit_classifier, "vgg16": vgg16}


def build(architecture: dict[str, Any], *, rng: Rng = None) -> Classifier | FCN:
    """Make a network from the name and the arguments in its `architecture`.

    Args:
        architecture: `{"name": ..., "arguments": {...}}`, as the attribute of a network says it. It may come
            from a file, so it is checked.
        rng: Generator or seed for the weights; `None` (the default) gives zeros, to be loaded next.

    Returns:
        The network, without `info`.

    Raises:
        ValueError: If the name is unknown or the arguments do not fit.

    Example:
        >>> build({"name": "digit_classifier", "arguments": {"num_classes": 7}}).output_shape((1, 32, 32))
        (7,)
    """
    name, arguments = _parts(architecture)
    try:
        if name in CLASSIFIERS:
            num_classes = arguments["num_classes"]
            if not isinstance(num_classes, int) or not 1 <= num_classes <= 100_000:
                raise ValueError(f"num_classes must be from 1 to 100000, got {num_classes!r}")
            return CLASSIFIERS[name](num_classes, rng=rng)
        if name == "fcn":
            classifier = build(arguments["classifier"], rng=rng)
            if not isinstance(classifier, Classifier):
                raise ValueError("an FCN is made from a classifier")
            others = {key: value for key, value in arguments.items() if key != "classifier"}
            return FCN(classifier, **others)
    except (TypeError, KeyError) as error:
        raise ValueError(f"the arguments of architecture {name!r} do not fit: {error}") from error
    known = ", ".join((*CLASSIFIERS, "fcn"))
    raise ValueError(f"unknown architecture {name!r}: known are {known}")


def _parts(architecture: object) -> tuple[str, dict[str, Any]]:
    if isinstance(architecture, dict):
        name, arguments = architecture.get("name"), architecture.get("arguments")
        if isinstance(name, str) and isinstance(arguments, dict):
            return name, arguments
    raise ValueError(f"an architecture is a name and arguments, got {str(architecture)[:100]}")
