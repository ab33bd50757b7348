"""Networks from files that somebody else wrote."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minifcn.backend import Array
from minifcn.files import FileError, existing_file
from minifcn.functional import bilinear_kernel
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, build
from minifcn.weights.matching import Match, transfer
from minifcn.weights.model_file import is_checkpoint, is_model_file, stored_info
from minifcn.weights.published import parse_preprocessing
from minifcn.weights.reading import read_tensors
from minifcn.weights.recognition import recognise_classifier, recognise_fcn
from minifcn.weights.report import Report
from minifcn.weights.tensors import Numbers, Tensors, shown

_MAX_NAMES = 10_000_000  # characters


def load_classifier(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    *,
    order: str = "CHW",
    partial: bool = False,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[Classifier, Report]:
    """Read a classifier from a file with the names of torchvision, timm, Caffe, TensorFlow, Keras or minifcn.

    Args:
        path: A safetensors, npz or PyTorch file; see `read_tensors`.
        architecture: Name of the network, such as "vgg16"; recognised from names and shapes unless given.
        order: How the last map was flattened for the first dense layer: "CHW", or "HWC". Files whose filters
            are (KH, KW, C, O) are always read as "HWC".
        partial: Take what there is, and leave the rest of the network random, where more is missing than the
            layer that scores the classes.
        class_names: For each score; from the file unless given, and numbers if it has none.
        preprocessing: From the file unless given, and if it has none, the one published with such weights.

    Returns:
        The network in evaluation mode, in float32, with its `info`; and what was loaded.

    Raises:
        OSError: If the file cannot be read.
        FileError: If it is damaged, no network is recognised, more than the score layer is missing, or
            nothing says how images are preprocessed.
        ValueError: If an argument is wrong.

    Example:
        >>> import tempfile
        >>> from minifcn.models import squeezenet1_1
        >>> path = Path(tempfile.mkdtemp()) / "squeezenet.npz"
        >>> np.savez(path, **squeezenet1_1(5).state_dict())
        >>> classifier, report = load_classifier(path)
        >>> classifier.architecture["name"], len(report.copied), classifier.info.preprocessing.channels
        ('squeezenet1_1', 52, 'RGB')
    """
    if order not in ("CHW", "HWC"):
        raise ValueError(f"order must be 'CHW' or 'HWC', got {order!r}")
    file, tensors = Path(path), read_tensors(path)
    if "score_fr.weight" in tensors.arrays:
        raise FileError(f"{file} holds an FCN in the names of the reference code: load_fcn reads it")
    if is_model_file(tensors.metadata) and "score.weight" in tensors.arrays:
        raise FileError(
            f"{file} is a model file of minifcn that holds an FCN: load reads it, and minifcn train --from"
        )
    if is_checkpoint(tensors.metadata):
        raise FileError(
            f"{file} is the checkpoint of a training, which minifcn train --resume goes on from; it holds no "
            f"classifier"
        )
    found = recognise_classifier(tensors.arrays, architecture)
    if found is None or (architecture is None and found.share <= 0.5):
        what = f"{architecture or 'known classifier'}{_nearest(found)}"
        raise FileError(
            f"{file} holds no {what}: {_some(tensors.arrays)}; minifcn weights inspect shows all of them"
        )
    *_, last = found.naming.names
    scores = last.rpartition(".")[0] + "."
    found = _complete_enough(file, found, lambda name: name.startswith(scores), partial)
    classifier = found.model
    assert isinstance(classifier, Classifier)
    info = _info(file, tensors, found, class_names, preprocessing)
    report = transfer(file, found, tensors.arrays, order)
    classifier.info = info
    return classifier.eval(), report


def load_fcn(
    path: str | os.PathLike[str],
    *,
    at_once: bool = False,
    partial: bool = False,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[FCN, Report]:
    """Read an FCN from a file with the layer names of the reference code, as PyTorch's ports write them.

    The network is `FCN(vgg16(), classes, stride, alignment="paper")` or, for names `conv1` to `fc7`, one of
    `caffenet`. Stride and classes follow from the file; upsampling is learned if its kernels are not
    bilinear.

    Args:
        path: A safetensors, npz or PyTorch file; see `read_tensors`.
        at_once: Whether it is the FCN-8s that was trained at once, with scaled skips: its names do not tell.
        partial: As in `load_classifier`.
        class_names: As in `load_classifier`.
        preprocessing: From the file unless given, and if it has none, the reference code's.

    Returns:
        The network in evaluation mode, in float32, with its `info`; and what was loaded.

    Raises:
        OSError: If the file cannot be read.
        FileError: If it is damaged, is no such network, lacks layers other than upsampling, or its upsampling
            mixes classes.
    """
    file, tensors = Path(path), read_tensors(path)
    found = recognise_fcn(tensors.arrays, at_once=at_once)
    if found is None:
        raise FileError(f"{file} holds no FCN in the names of the reference code: {_some(tensors.arrays)}")
    found = _complete_enough(file, found, lambda name: name.startswith("upsamples."), partial)
    fcn = found.model
    assert isinstance(fcn, FCN)
    info = _info(file, tensors, found, class_names, preprocessing)
    report = transfer(file, found, tensors.arrays, "CHW")
    fcn.info = info
    kernels = [(layer.deconv.weight, layer.factor) for layer in fcn.upsamples]
    if not all(_is_bilinear(weight.data, factor) for weight, factor in kernels):
        fcn.upsampling = "learned"
        for weight, _ in kernels:
            weight.trainable = True
    return fcn.eval(), report


def _is_bilinear(kernels: Array, factor: int) -> bool:
    classes, _, size, _ = kernels.shape
    return np.allclose(kernels, bilinear_kernel(classes, factor, size), atol=1e-4)


def _complete_enough(file: Path, found: Match, may_miss: Callable[[str], bool], partial: bool) -> Match:
    """Refuse a match that would leave layers random; if that is wanted, make them random instead of zero.

    Args:
        file: Where the tensors are from, for the message.
        found: The match.
        may_miss: Whether the tensor of this name may be missing.
        partial: Whether all others may be missing, too.

    Raises:
        FileError: If tensors are missing that may not.
    """
    missing = {name: why for name, why in found.missing.items() if not may_miss(name)}
    if not missing:
        return found
    if not partial:
        named = [f"{name} ({why})" if why else name for name, why in list(missing.items())[:3]]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileError(
            f"{file}: {len(missing)} of {len(found.naming.names)} tensors are missing for "
            f"{found.model.architecture['name']} in the names of {found.naming.source}, and would stay "
            f"random (partial takes what there is): {', '.join(named)}{more}"
        )
    return dataclasses.replace(found, model=build(found.model.architecture, rng=0))


def _info(
    file: Path,
    tensors: Tensors,
    found: Match,
    class_names: Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> ModelInfo:
    """Return class names and preprocessing: those that are given, or the file's, or what is usual."""
    classes = found.model.architecture["arguments"]["num_classes"]
    preprocessing = preprocessing or known_preprocessing(file, tensors, found)
    if preprocessing is None:
        raise FileError(
            f"{file} does not say how images are preprocessed, and no weights of "
            f"{found.model.architecture['name']} are published: preprocessing must be given"
        )
    colors: tuple[tuple[int, int, int], ...] = ()
    if is_model_file(tensors.metadata):
        stored = stored_info(file, tensors.metadata)
        if len(stored.class_names) == classes:
            class_names = stored.class_names if class_names is None else class_names
            colors = stored.colors
    names = tuple(map(str, range(classes))) if class_names is None else tuple(class_names)
    if len(names) != classes:
        raise ValueError(f"{file} has {classes} classes, and {len(names)} class names were given")
    return ModelInfo(names, preprocessing, colors)


def known_preprocessing(file: Path, tensors: Tensors, found: Match) -> Preprocessing | None:
    """Return how a file says that images become input, or how they do with published weights of its kind.

    Raises:
        FileError: If what the file says is not understood.
    """
    metadata = tensors.metadata
    if is_model_file(metadata):
        return stored_info(file, metadata).preprocessing
    if "preprocessing" not in metadata:
        return found.naming.preprocessing
    try:
        return parse_preprocessing(metadata["preprocessing"])
    except ValueError as error:
        raise FileError(f"{file}: {error}") from error


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of classes from a text file with one on each line.

    Raises:
        OSError: If it cannot be read.
        FileError: If it is no text in UTF-8, or has an empty line.
    """
    file = existing_file(path)
    try:
        with file.open(encoding="utf-8") as text:
            names = tuple(line.strip() for line in text.read(_MAX_NAMES).splitlines())
    except UnicodeDecodeError as error:
        raise FileError(f"{file} is no text in UTF-8") from error
    for number, name in enumerate(names or [""], 1):
        if not name:
            raise FileError(f"{file} must have the name of a class on each line, and line {number} is empty")
    return names


def _nearest(found: Match | None) -> str:
    if found is None:
        return ""
    count = len(found.naming.names)
    return (
        f" (of {found.model.architecture['name']} in the names of {found.naming.source} it has "
        f"{len(found.found)} of {count} tensors)"
    )


def _some(arrays: dict[str, Numbers]) -> str:
    """Return the first names of a file, for a message."""
    if not arrays:
        return "it is empty"
    more = ", ..." if len(arrays) > 3 else ""
    return f"its tensors are {', '.join(shown(name) for name in list(arrays)[:3])}{more}"
