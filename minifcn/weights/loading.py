"""Networks from files that others wrote: which network a file holds, and its weights."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

import numpy as np

from minifcn import layers
from minifcn.backend import Array
from minifcn.dense import ORDERS
from minifcn.files import FileError, existing_file
from minifcn.functional import bilinear_kernel
from minifcn.functional.operands import check_choice
from minifcn.layers.parameter import Rng, shapes_only
from minifcn.models import FCN, AlignedUpsample, Classifier, ModelInfo, Preprocessing, build
from minifcn.models.registry import CLASSIFIERS, MAX_CLASSES, Builder, builder
from minifcn.weights.formats import read_tensors
from minifcn.weights.matching import Match, match, other_layers, transfer
from minifcn.weights.model_file import class_count, is_checkpoint, is_model_file, load
from minifcn.weights.names import (
    Naming,
    classifier_namings,
    fcn_naming,
    fcn_scores,
    is_fcn,
    is_torchvision_fcn,
    own_names,
    parse_preprocessing,
    told_at_once,
    torchvision_fcn_naming,
)
from minifcn.weights.tensors import Tensors, shown

_DEFAULT_CLASSES = 1000  # of a network whose score layer is not in the file
_MAX_NAMES = 10_000_000  # characters


def load_classifier(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    *,
    order: str = "CHW",
    partial: bool = False,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    freeze_batch_norm: bool = True,
    rng: Rng = None,
) -> Classifier:
    """Read a classifier from a file with the names of torchvision, timm, Caffe, TensorFlow, Keras or minifcn.

    Args:
        path: A safetensors, npz or PyTorch file; see `read_tensors`.
        architecture: Name of the network, such as "vgg16"; recognised from names and shapes by default.
        order: How the last map was flattened for the first dense layer: "CHW", or "HWC". Files whose filters
            are (KH, KW, C, O) are always read as "HWC".
        partial: Accept a file that lacks more than the layer that scores the classes; what is missing stays
            random.
        class_names: For each score; from the file by default, or numbers if it has none.
        preprocessing: From the file by default, or if it has none, as published with such weights.
        freeze_batch_norm: Whether batch normalisation keeps its running averages, weight and bias in training
            (`minifcn.layers.freeze_batch_norm`), which suits the small batches of large images.
        rng: Generator or seed for what stays random in a partial load; `None` means fresh entropy.

    Returns:
        The network in evaluation mode, in float32, with its `info`; `report` tells what was loaded.

    Raises:
        OSError: If the file cannot be read.
        FileError: If it is damaged, no network is recognised, more than the score layer is missing, or the
            preprocessing is unknown.
        ValueError: If an argument is wrong.

    Example:
        >>> import tempfile
        >>> from minifcn.models import squeezenet1_1
        >>> path = Path(tempfile.mkdtemp()) / "squeezenet.npz"
        >>> np.savez(path, **squeezenet1_1(5, rng=0).state_dict())
        >>> classifier = load_classifier(path)
        >>> classifier.architecture["name"], classifier.info.preprocessing.channels
        ('squeezenet1_1', 'RGB')
        >>> print(classifier.report.summary())
        squeezenet1_1 in the names of torchvision: 52 copied, 0 reshaped, 0 missing, 0 left over
    """
    check_choice(order, "order", ORDERS)
    file, tensors = Path(path), read_tensors(path)
    if is_fcn(tensors.arrays):
        raise FileError(f"{file} holds an FCN: load_fcn reads it")
    if is_checkpoint(tensors.metadata):
        raise FileError(f"{file} is the checkpoint of a training, and holds no classifier")
    if is_model_file(tensors.metadata):
        found: Match | None = _own_classifier(file, tensors, architecture)
    else:
        found = recognise_classifier(tensors.arrays, architecture)
    if found is None or (architecture is None and found.share <= 0.5):
        nearest = "" if found is None else f" (the nearest is {found})"
        what = f"{architecture or 'known classifier'}{nearest}"
        raise FileError(f"{file} holds no {what}: {_some(tensors.arrays)}")
    _refuse_other_layers(file, found, tensors.arrays)
    *_, last = found.naming.names
    scores = last.rpartition(".")[0] + "."
    found = _complete_enough(file, found, scores, partial, rng)
    classifier = _loaded(file, tensors, found, order, class_names, preprocessing)
    assert isinstance(classifier, Classifier)
    if freeze_batch_norm:
        layers.freeze_batch_norm(classifier)
    return classifier.eval()


def load_fcn(
    path: str | os.PathLike[str],
    *,
    at_once: bool | None = None,
    partial: bool = False,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    rng: Rng = None,
) -> FCN:
    """Read an FCN from a file with the names of the reference code, or of torchvision.

    From the reference code's names, as PyTorch's ports write them, the network is
    `FCN(vgg16(), classes, stride, alignment="paper")` or, for names `conv1` to `fc7`, one of `caffenet`.
    Stride and classes follow from the file; upsampling is learned if its kernels are not bilinear.
    torchvision's networks are `minifcn.models.fcn_resnet50` and `fcn_resnet101`, with frozen batch
    normalisation. The auxiliary head is left over, as the report says.

    Args:
        path: A safetensors, npz or PyTorch file; see `read_tensors`.
        at_once: Whether it is an FCN that was trained at once, with scaled skips. By default the file tells,
            by its layers `scale_pool4` and `scale_pool3`, or, as pytorch-fcn's checkpoints do, by `arch`. A
            file that does not tell is taken for an FCN that was trained stage by stage.
        partial: As in `load_classifier`.
        class_names: As in `load_classifier`.
        preprocessing: From the file by default, or if it has none, the reference code's.
        rng: As in `load_classifier`.

    Returns:
        The network in evaluation mode, in float32, with its `info`; `report` tells what was loaded.

    Raises:
        OSError: If the file cannot be read.
        FileError: If it is damaged, is no such network, lacks layers other than upsampling, or its upsampling
            mixes classes.

    Example:
        >>> fcn = load_fcn("fcn8s-atonce.pth", at_once=True)  # doctest: +SKIP
    """
    file, tensors = Path(path), read_tensors(path)
    found = recognise_fcn(file, tensors, at_once=at_once)
    if found is None:
        raise FileError(
            f"{file} holds no FCN in the names of the reference code or torchvision: {_some(tensors.arrays)}"
        )
    _refuse_other_layers(file, found, tensors.arrays)
    found = _complete_enough(file, found, "upsamples.", partial, rng)
    fcn = _loaded(file, tensors, found, "CHW", class_names, preprocessing)
    assert isinstance(fcn, FCN)
    layers.freeze_batch_norm(fcn)
    aligned = (layer for layer in fcn.upsamples if isinstance(layer, AlignedUpsample))
    kernels = [(layer.deconv.weight, layer.factor) for layer in aligned]
    if not all(
        np.allclose(k.data, bilinear_kernel(len(k.data), factor, k.data.shape[2]), atol=1e-4)
        for k, factor in kernels
    ):
        fcn.upsampling = "learned"
        for kernel, _ in kernels:
            kernel.trainable = True
    return fcn.eval()


def load_network(path: str | os.PathLike[str]) -> Classifier | FCN:
    """Read a classifier or an FCN from a model file.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        FileError: If it is damaged, no model file, or contains another layer, such as a `Graph`.
    """
    model = load(path)
    if not isinstance(model, Classifier | FCN):
        raise FileError(
            f"{path} contains a {type(model).__name__}, not a Classifier or an FCN: "
            f"minifcn.models.Classifier(features, scores, input_shape=...) makes one of two such networks"
        )
    return model


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
        scoring, namings = _namings(name, builder(name))
        for naming in namings:
            fit = _fit(sum(theirs in arrays for theirs in naming.names.values()), naming, arrays)
            candidates.append((fit, name, scoring, naming))
    best, best_rank = None, (False, 0.0)
    for fit, name, scoring, naming in sorted(candidates, key=itemgetter(0), reverse=True):
        if (True, fit) <= best_rank:
            break
        classes = _num_classes(arrays.get(naming.names[scoring]), naming.channels_last)
        found = match(_classifier(name, classes), naming, arrays)
        rank = not other_layers(found, arrays), _fit(len(found.found), naming, arrays)
        if found.found and rank > best_rank:
            best, best_rank = found, rank
    return best


@lru_cache(maxsize=100)
def _namings(name: str, make: Builder) -> tuple[str, list[Naming]]:
    """Return the name of the weight that scores the classes, and all known namings, of a classifier."""
    with shapes_only():
        usual = _classifier(name)
    *_, scoring = (ours for ours, own in usual.state_dict().items() if own.ndim > 1)
    return scoring, list(classifier_namings(usual))


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
        at_once: Whether its skips are scaled; as the file tells by default.

    Raises:
        ValueError: If `at_once` is given and the file has no skips, or tells otherwise.
        FileError: If the file scales its skips by other numbers.
    """
    arrays = tensors.arrays
    if is_torchvision_fcn(arrays):
        classes = len(arrays["classifier.4.weight"])
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
    told = told_at_once(file, tensors, scaling, ends[1])
    if None not in (told, at_once) and told != at_once:
        raise ValueError(f"at_once is {at_once}, and {file} tells that it is {told}")
    fcn = FCN(trunk, classes, stride, alignment="paper", at_once=bool(told if at_once is None else at_once))
    return match(fcn, fcn_naming(fcn, trunk, ends, channels_last), arrays)


def _refuse_other_layers(file: Path, found: Match, arrays: Mapping[str, Array]) -> None:
    if others := other_layers(found, arrays):
        raise FileError(
            f"{file} holds another network than {found.architecture}, with more layers or at other places: "
            f"{_some(others)}"
        )


def known_preprocessing(file: Path, tensors: Tensors, found: Match) -> Preprocessing | None:
    """Return the preprocessing that a file describes, or that was published with weights of its kind.

    Raises:
        FileError: If the description is malformed.
    """
    if found.model.info is not None:
        return found.model.info.preprocessing
    if "preprocessing" not in tensors.metadata:
        return found.naming.preprocessing
    try:
        return parse_preprocessing(tensors.metadata["preprocessing"])
    except ValueError as error:
        raise FileError(f"{file}: {error}") from error


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of classes from a text file with one name on each line.

    Raises:
        OSError: If it cannot be read.
        FileError: If it is not text in UTF-8, or has an empty line.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "names.txt")
        ...     _ = path.write_text("cat")
        ...     read_class_names(path)
        ('cat',)
    """
    file = existing_file(path)
    try:
        with file.open(encoding="utf-8") as text:
            names = tuple(line.strip() for line in text.read(_MAX_NAMES).splitlines())
    except UnicodeDecodeError as error:
        raise FileError(f"{file} is not text in UTF-8") from error
    for number, name in enumerate(names or [""], 1):
        if not name:
            raise FileError(f"{file} must have the name of a class on each line, and line {number} is empty")
    return names


def _own_classifier(file: Path, tensors: Tensors, architecture: str | None) -> Match:
    """Return the classifier that a model file of minifcn holds."""
    model = load_network(file)
    if isinstance(model, FCN):
        raise FileError(f"{file} contains an FCN, not a Classifier: minifcn.load reads it")
    found = match(model, own_names(model), tensors.arrays)
    if architecture not in (None, found.architecture):
        raise FileError(f"{file} holds no {architecture} but {found.architecture}")
    return found


def _classifier(name: str, num_classes: int = _DEFAULT_CLASSES) -> Classifier:
    model = build(name, num_classes, init="zeros")
    assert isinstance(model, Classifier)
    return model


def _num_classes(weight: Array | None, channels_last: bool) -> int:
    """Return the number of classes that the weight of the score layer in a file has."""
    if weight is None or weight.ndim < 2:
        return _DEFAULT_CLASSES
    classes: int = weight.shape[-1 if channels_last else 0]
    return classes if 1 <= classes <= MAX_CLASSES else _DEFAULT_CLASSES


def _complete_enough(file: Path, found: Match, may_miss: str, partial: bool, rng: Rng) -> Match:
    """Refuse a match that would leave layers at zero, or make them random if that is allowed.

    Args:
        file: Where the tensors come from, for the message.
        found: The match.
        may_miss: Prefix of the names of tensors that may be missing.
        partial: Whether all others may be missing, too.
        rng: Source of the random weights.

    Raises:
        FileError: If tensors are missing that may not.
    """
    missing = {name: why for name, why in found.missing.items() if not name.startswith(may_miss)}
    if not missing:
        return found
    if not partial:
        named = [f"{name} ({why})" if why else name for name, why in list(missing.items())[:3]]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileError(
            f"{file}: {len(missing)} of {len(found.naming.names)} tensors are missing for "
            f"{found.architecture} in the names of {found.naming.source} (partial=True accepts that): "
            f"{', '.join(named)}{more}"
        )
    return dataclasses.replace(found, model=build(found.model.architecture, rng=rng))


def _loaded(
    file: Path,
    tensors: Tensors,
    found: Match,
    order: str,
    class_names: Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> Classifier | FCN:
    """Return the network of a match with its weights, its report and its info.

    Class names and preprocessing are as given, as in the file, or as usual, in this order.
    """
    model = found.model
    classes = class_count(model)
    preprocessing = preprocessing or known_preprocessing(file, tensors, found)
    if preprocessing is None:
        raise FileError(
            f"{file} does not describe the preprocessing for {found.architecture}, which must be given"
        )
    usual = model.info or ModelInfo(tuple(map(str, range(classes))), preprocessing)
    names = usual.class_names if class_names is None else tuple(class_names)
    if len(names) != classes:
        raise ValueError(f"{file} has {classes} classes, and {len(names)} class names were given")
    model.info = ModelInfo(names, preprocessing, usual.colors)
    model.report = transfer(file, found, tensors.arrays, order)
    return model


def _some(names: Collection[str]) -> str:
    """Return the first names of a file, for a message."""
    if not names:
        return "it is empty"
    more = ", ..." if len(names) > 3 else ""
    return f"its tensors are {', '.join(shown(name) for name in list(names)[:3])}{more}"
