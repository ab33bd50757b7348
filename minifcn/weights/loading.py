"""Networks from files that others wrote: which network a file holds, and its weights."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minifcn.dense import ORDERS
from minifcn.files import FileError, existing_file
from minifcn.functional import bilinear_kernel
from minifcn.functional.operands import check_choice, check_class_names
from minifcn.layers import freeze_batch_norm as freeze
from minifcn.layers.parameter import Rng
from minifcn.models import FCN, AlignedUpsample, Classifier, ModelInfo, Preprocessing, build
from minifcn.weights.formats import read_tensors
from minifcn.weights.matching import Match, match, other_layers, transfer
from minifcn.weights.model_file import class_count, is_checkpoint, is_model_file, load
from minifcn.weights.names import is_fcn, own_names, parse_preprocessing
from minifcn.weights.recognition import recognise_classifier, recognise_fcn
from minifcn.weights.tensors import Tensors, listed

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
        The network in evaluation mode, in float32, with its `info`; `report` says what was loaded.

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
    *_, last = found.naming.names
    scores = last.rpartition(".")[0] + "."
    found = _complete_enough(file, tensors, found, scores, partial, rng)
    classifier = _loaded(file, tensors, found, order, class_names, preprocessing)
    assert isinstance(classifier, Classifier)
    if freeze_batch_norm:
        freeze(classifier)
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
        at_once: Whether it is an FCN that was trained at once, with scaled skips. By default as the
            file says, by its layers `scale_pool4` and `scale_pool3`, or, as pytorch-fcn's checkpoints do, by
            `arch`. A file that does not say it is taken for an FCN that was trained stage by stage.
        partial: As in `load_classifier`.
        class_names: As in `load_classifier`.
        preprocessing: From the file by default, or if it has none, the reference code's.
        rng: As in `load_classifier`.

    Returns:
        The network in evaluation mode, in float32, with its `info`; `report` says what was loaded.

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
    found = _complete_enough(file, tensors, found, "upsamples.", partial, rng)
    fcn = _loaded(file, tensors, found, "CHW", class_names, preprocessing)
    assert isinstance(fcn, FCN)
    freeze(fcn)
    aligned = [layer for layer in fcn.upsamples if isinstance(layer, AlignedUpsample)]
    if not all(map(_is_bilinear, aligned)):
        fcn.upsampling = "learned"
        for layer in aligned:
            layer.deconv.weight.trainable = True
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


def _is_bilinear(layer: AlignedUpsample) -> bool:
    kernels = layer.deconv.weight.data
    usual = bilinear_kernel(len(kernels), layer.factor, kernels.shape[2])
    return np.allclose(kernels, usual, atol=1e-4)


def _own_classifier(file: Path, tensors: Tensors, architecture: str | None) -> Match:
    """Return the classifier that a model file of minifcn holds."""
    model = load_network(file)
    if isinstance(model, FCN):
        raise FileError(f"{file} contains an FCN, not a Classifier: minifcn.load reads it")
    found = match(model, own_names(model), tensors.arrays)
    if architecture not in (None, found.architecture):
        raise FileError(f"{file} holds no {architecture} but {found.architecture}")
    return found


def _complete_enough(
    file: Path, tensors: Tensors, found: Match, may_miss: str, partial: bool, rng: Rng
) -> Match:
    """Refuse a match with another network, or one that would leave layers at zero; or make these random.

    Args:
        file: Where the tensors come from, for the message.
        tensors: Its contents.
        found: The match.
        may_miss: Prefix of the names of tensors that may be missing.
        partial: Whether all others may be missing, too.
        rng: Source of the random weights.

    Raises:
        FileError: If the file holds another network, or tensors are missing that may not.
    """
    if others := other_layers(found, tensors.arrays):
        raise FileError(
            f"{file} holds another network than {found.architecture}, with more layers or at other places: "
            f"{_some(others)}"
        )
    missing = {name: why for name, why in found.missing.items() if not name.startswith(may_miss)}
    if missing and not partial:
        named = listed([f"{name} ({why})" if why else name for name, why in missing.items()])
        raise FileError(
            f"{file}: {len(missing)} of {len(found.naming.names)} tensors are missing for "
            f"{found.architecture} in the names of {found.naming.source} (partial=True accepts that): {named}"
        )
    return replace(found, model=build(found.model.architecture, rng=rng)) if missing else found


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
    names = usual.class_names if class_names is None else check_class_names(class_names)
    if len(names) != classes:
        raise ValueError(f"{file} has {classes} classes, and {len(names)} class names were given")
    model.info = ModelInfo(names, preprocessing, usual.colors)
    model.report = transfer(file, found, tensors.arrays, order)
    return model


def _some(names: Collection[str]) -> str:
    return f"its tensors are {listed(names)}" if names else "it is empty"
