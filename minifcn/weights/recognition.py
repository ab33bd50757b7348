"""Which network the tensors of a file belong to."""

from collections.abc import Mapping

from minifcn.models import FCN, Classifier, build
from minifcn.models.registry import CLASSIFIERS, MAX_CLASSES
from minifcn.weights.matching import Match, match
from minifcn.weights.naming import Naming, classifier_namings, fcn_naming
from minifcn.weights.tensors import Numbers

_CLASSES = 1000  # of a network whose score layer is not in the file


def recognise_classifier(arrays: Mapping[str, Numbers], architecture: str | None = None) -> Match | None:
    """Return the classifier that the most tensors fit, with weights of zero, or `None` if none fits.

    Args:
        arrays: Tensors by name.
        architecture: The only one to try.

    Raises:
        ValueError: If the architecture is unknown.

    Example:
        >>> from minifcn.models import alexnet
        >>> found = recognise_classifier(alexnet(7, init="zeros").state_dict())
        >>> found.model.architecture, found.share
        ({'name': 'alexnet', 'arguments': {'num_classes': 7}}, 1.0)
    """
    if architecture is not None and architecture not in CLASSIFIERS:
        raise ValueError(f"unknown architecture {architecture!r}: known are {', '.join(CLASSIFIERS)}")
    best = None
    for name in CLASSIFIERS if architecture is None else [architecture]:
        for naming in classifier_namings(_classifier(name)):
            if arrays.keys().isdisjoint(naming.names.values()):
                continue
            found = match(_classifier(name, _classes(naming, arrays)), naming, arrays)
            if found.found and (best is None or found.share > best.share):
                best = found
    return best


def recognise_fcn(arrays: Mapping[str, Numbers], *, at_once: bool = False) -> Match | None:
    """Return the FCN of the reference code that the tensors belong to, with weights of zero, or `None`.

    Args:
        arrays: Tensors by name.
        at_once: Whether its skips are scaled, which names do not tell.

    Raises:
        ValueError: If it is at once and has no skips.
    """
    scores = arrays.get("score_fr.weight")
    if scores is None or scores.ndim == 0 or not 2 <= len(scores) <= 255:
        return None
    trunk = _classifier("caffenet" if "conv1.weight" in arrays else "vgg16")
    stride = 8 if "score_pool3.weight" in arrays else 16 if "score_pool4.weight" in arrays else 32
    if stride not in (32, *trunk.taps):
        return None
    if at_once and stride == 32:
        raise ValueError("at_once is about skips, and the file has none")
    fcn = FCN(trunk, len(scores), stride, alignment="paper", at_once=at_once)
    return match(fcn, fcn_naming(fcn, trunk), arrays)


def _classifier(name: str, num_classes: int = _CLASSES) -> Classifier:
    model = build({"name": name, "arguments": {"num_classes": num_classes}}, init="zeros")
    assert isinstance(model, Classifier)
    return model


def _classes(naming: Naming, arrays: Mapping[str, Numbers]) -> int:
    """Return the number of classes that the score layer in a file has."""
    *_, weight_name, _ = naming.names.values()
    weight = arrays.get(weight_name)
    if weight is None or weight.ndim < 2:
        return _CLASSES
    classes = weight.shape[-1 if naming.channels_last else 0]
    return classes if 1 <= classes <= MAX_CLASSES else _CLASSES
