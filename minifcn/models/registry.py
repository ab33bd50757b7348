"""Networks by name, so that a weight file can say which one it belongs to."""

from typing import Any

from minifcn.geometry import whole_number
from minifcn.layers.base import Init, Rng
from minifcn.models.alexnet import alexnet, caffenet
from minifcn.models.classifiers import Classifier, digit_classifier, vgg16
from minifcn.models.fcn import FCN
from minifcn.models.googlenet import googlenet
from minifcn.models.squeezenet import squeezenet1_0, squeezenet1_1

MAX_CLASSES = 100_000
CLASSIFIERS = {
    "alexnet": alexnet,
    "caffenet": caffenet,
    "digit_classifier": digit_classifier,
    "googlenet": googlenet,
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "vgg16": vgg16,
}


def build(architecture: dict[str, Any], *, init: Init = "he", rng: Rng = None) -> Classifier | FCN:
    """Make a network from the name and the arguments in its `architecture`.

    Args:
        architecture: `{"name": ..., "arguments": {...}}`, as the attribute of a network says it. It may come
            from a file, so it is checked.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Returns:
        The network, without `info`.

    Raises:
        ValueError: If the name is unknown or the arguments do not fit.

    Example:
        >>> build({"name": "digit_classifier", "arguments": {"num_classes": 7}}).output_shape((1, 32, 32))
        (7,)
    """
    name, arguments, inner = known_parts(architecture)
    try:
        if inner is None:
            return _classifier(name, arguments, init, rng)
        others = {key: value for key, value in arguments.items() if key != "classifier"}
        return FCN(_classifier(*inner, init, rng), **others)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the arguments of architecture {name!r} do not fit: {str(error)[:200]}") from error


def known_parts(
    architecture: object,
) -> tuple[str, dict[str, Any], tuple[str, dict[str, Any]] | None]:
    """Return name, arguments, and for an FCN name and arguments of its classifier.

    Raises:
        ValueError: If it is no architecture, or `build` does not know its name.
    """
    name, arguments = _parts(architecture)
    if name == "fcn":
        inner = _parts(arguments.get("classifier"))
        if inner[0] not in CLASSIFIERS:
            raise ValueError(f"an FCN is made from a classifier, not from {inner[0][:50]!r}")
        return name, arguments, inner
    if name not in CLASSIFIERS:
        known = ", ".join((*CLASSIFIERS, "fcn"))
        raise ValueError(f"unknown architecture {name[:50]!r}: known are {known}")
    return name, arguments, None


def _classifier(name: str, arguments: dict[str, Any], init: Init, rng: Rng) -> Classifier:
    if arguments.keys() != {"num_classes"}:
        raise ValueError(f"a classifier takes num_classes alone, got {', '.join(map(str, arguments))}")
    if whole_number(arguments["num_classes"], "num_classes", 1) > MAX_CLASSES:
        raise ValueError(f"num_classes must be at most {MAX_CLASSES}, got {arguments['num_classes']}")
    return CLASSIFIERS[name](arguments["num_classes"], init=init, rng=rng)


def _parts(architecture: object) -> tuple[str, dict[str, Any]]:
    if isinstance(architecture, dict):
        name, arguments = architecture.get("name"), architecture.get("arguments")
        if isinstance(name, str) and isinstance(arguments, dict):
            return name, arguments
    raise ValueError(f"an architecture is a name and arguments, got {str(architecture)[:100]}")
