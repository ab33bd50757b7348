"""Which network a file of tensors holds, judging by their names and shapes."""

from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from minifcn.backend import Array
from minifcn.models import FCN, Classifier, build
from minifcn.models.registry import CLASSIFIERS, MAX_CLASSES, Builder, builder
from minifcn.weights.matching import Match, match, other_layers
from minifcn.weights.names import (
    Naming,
    classifier_namings,
    fcn_naming,
    fcn_scores,
    is_torchvision_fcn,
    read_at_once,
    torchvision_fcn_naming,
)
from minifcn.weights.tensors import Tensors


def recognise_classifier(arrays: Mapping[str, Array], architecture: str | None = None) -> Match | None:
    """Return the registered classifier that the tensors fit best, with weights of zero, or `None`.

    Networks with other layers than the file has come last. Whether the best one `fits` is another question.

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
    candidates = []  # how well each can fit at best, by its names alone
    for name in CLASSIFIERS if architecture is None else [architecture]:
        scoring, inputs, namings = _namings(name, builder(name))
        for naming in namings:
            fit = _fit(sum(theirs in arrays for theirs in naming.names.values()), naming, arrays)
            scores = arrays.get(naming.names[scoring])
            classes = 0 if scores is None else scores.size // inputs
            known = scores is not None and classes in scores.shape and 1 <= classes <= MAX_CLASSES
            candidates.append((fit, name, classes if known else 1000, naming))
    best, best_rank = None, (False, 0.0)
    for fit, name, classes, naming in sorted(candidates, key=itemgetter(0), reverse=True):
        if (True, fit) <= best_rank:
            break
        found = match(_classifier(name, classes), naming, arrays)
        rank = not other_layers(found, arrays), _fit(len(found.found), naming, arrays)
        if found.found and rank > best_rank:
            best, best_rank = found, rank
    return best


def _classifier(name: str, num_classes: int = 1000) -> Classifier:
    model = build(name, num_classes, init="zeros")
    assert isinstance(model, Classifier)
    return model


@lru_cache(maxsize=100)
def _namings(name: str, make: Builder) -> tuple[str, int, list[Naming]]:
    """Return the weight that scores the classes, its size for each, and all known namings of a classifier."""
    usual = _classifier(name)
    *_, (scoring, weight) = ((ours, own) for ours, own in usual.state_dict().items() if own.ndim > 1)
    return scoring, weight.size // len(weight), list(classifier_namings(usual))


def _fit(found: int, naming: Naming, arrays: Mapping[str, Array]) -> float:
    """Return what share of the tensors of a network or of a file, together, belong to each other.

    A file of a deep network has all names of a shallower one of its family, so the share of the network's
    tensors does not tell them apart.
    """
    return found / (len(naming.names) + len(arrays) - found)


def recognise_fcn(file: Path, tensors: Tensors, *, at_once: bool | None = None) -> Match | None:
    """Return the FCN that the tensors belong to, with weights of zero, or `None`.

    Args:
        file: For messages.
        tensors: Its contents.
        at_once: Whether its skips are scaled; as the file says by default.

    Raises:
        ValueError: If `at_once` is given and the file has no skips, or says otherwise.
        FileError: If the file scales its skips by other numbers.
    """
    arrays = tensors.arrays
    if is_torchvision_fcn(arrays):
        classes, *_ = *arrays["classifier.4.weight"].shape, 0
        if not 2 <= classes <= 255:
            return None
        depth = 101 if "backbone.layer3.22.conv1.weight" in arrays else 50
        fcn = FCN(_classifier(f"dilated_resnet{depth}", classes), classes, alignment="torchvision")
        return match(fcn, torchvision_fcn_naming(fcn), arrays)
    if (spelling := fcn_scores(arrays)) is None:
        return None
    ends, channels_last, scores = spelling
    classes = scores.shape[-1 if channels_last else 0]
    trunk = _classifier("caffenet" if f"conv1{ends[0]}" in arrays else "vgg16")
    stride = 8 if f"score_pool3{ends[0]}" in arrays else 16 if f"score_pool4{ends[0]}" in arrays else 32
    if stride not in (32, *trunk.taps) or not 2 <= classes <= 255:
        return None
    if at_once and stride == 32:
        raise ValueError("at_once is about skips, and the file has none")
    scaling = {32: (), 16: ("scale_pool4",), 8: ("scale_pool4", "scale_pool3")}[stride]
    in_file = read_at_once(file, tensors, scaling, ends[1])
    if None not in (in_file, at_once) and in_file != at_once:
        raise ValueError(f"at_once is {at_once}, and {file} says that it is {in_file}")
    fcn = FCN(
        trunk, classes, stride, alignment="paper", at_once=bool(in_file if at_once is None else at_once)
    )
    return match(fcn, fcn_naming(fcn, trunk, ends, channels_last), arrays)
