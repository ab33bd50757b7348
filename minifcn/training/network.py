"""The FCN for a dataset: from a classifier, from a trained network, or from a model file."""

import os
from dataclasses import replace
from typing import Any

import numpy as np

from minifcn.data import Dataset, FileDataset
from minifcn.layers import Dropout
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing
from minifcn.models.fcn import Alignment, Upsampling
from minifcn.weights import PREPROCESSING
from minifcn.weights.loading import load_network

GREY = Preprocessing("L", (128.0,), (64.0,))
"""Of grey images for classifiers without preprocessing; RGB images get that of torchvision."""


def fcn_from(
    start: Classifier | FCN,
    dataset: Dataset,
    *,
    stride: int | None = None,
    alignment: Alignment | None = None,
    upsampling: Upsampling | None = None,
    at_once: bool | None = None,
) -> FCN:
    """Return a network for a dataset, from a classifier or from a trained network.

    A trained network is used as it is, or gets skips down to a finer stride. For it, arguments that are
    `None` keep its values; for a classifier they mean the finest stride, "exact", "fixed" and `False`.
    Bit depth and bands of the dataset are recorded in its info, unless it has a bit depth already.

    Args:
        start: A classifier or a trained network.
        dataset: Defines the class names and colours.
        stride: Stride of the finest map that is scored.
        alignment: See `FCN`.
        upsampling: See `FCN`.
        at_once: See `FCN`.

    Raises:
        ValueError: If the trained network does not fit the arguments or the classes of the dataset, or the
            dataset has only one class.

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> from minifcn.models import digit_classifier
        >>> canvases = DigitCanvases("train", 1)
        >>> fcn = fcn_from(digit_classifier(), canvases, stride=8)
        >>> fcn_from(fcn, canvases, stride=2).stride, fcn.info.class_names[1]
        (2, '0')
    """
    if len(dataset.class_names) < 2:
        raise ValueError(
            f"dataset must have at least 2 classes, got 1 ({_listed(tuple(dataset.class_names))}): the "
            f"background is a class, too, usually the first one"
        )
    wanted = {"alignment": alignment, "upsampling": upsampling, "at_once": at_once}
    if isinstance(start, FCN):
        for name, value in wanted.items():
            if value not in (None, getattr(start, name)):
                raise ValueError(
                    f"{name} must be {getattr(start, name)!r} as in the trained network, got {value!r}"
                )
        check_classes(start.info, dataset)
        fcn = start
        while stride is not None and stride < fcn.stride:
            fcn = fcn.finer()
        if stride not in (None, fcn.stride):
            raise ValueError(
                f"stride must be {start.stride} as in the trained network, or a finer one of its classifier, "
                f"got {stride}"
            )
    else:
        finest = min(start.taps, default=None)
        given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        fcn = FCN(start, len(dataset.class_names), finest if stride is None else stride, **given)
    usual = GREY if fcn.channels == 1 else PREPROCESSING["torchvision"]
    preprocessing = usual if start.info is None else start.info.preprocessing
    if isinstance(dataset, FileDataset):
        if preprocessing.bit_depth == 8:
            preprocessing = replace(preprocessing, bit_depth=dataset.bit_depth)
        if dataset.bands is not None:
            preprocessing = replace(preprocessing, bands=dataset.bands)
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in np.asarray(dataset.palette))
    fcn.info = ModelInfo(tuple(dataset.class_names), preprocessing, colors)
    return fcn


def load_trained(path: str | os.PathLike[str]) -> tuple[FCN, ModelInfo]:
    """Read an FCN and its info from a model file.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        FileError: If it is damaged or no model file.
        ValueError: If it contains a classifier or another layer.
    """
    model = load_network(path)
    if isinstance(model, Classifier):
        raise ValueError(
            f"{path} contains a classifier, which does not label pixels: train an FCN that starts from it"
        )
    assert model.info is not None  # no FCN is saved without
    return model, model.info


def check_classes(info: ModelInfo | None, dataset: Dataset) -> str | None:
    """Compare the classes of a network and of a dataset.

    Returns:
        A warning if their names differ, else `None`.

    Raises:
        ValueError: If their numbers differ.
    """
    if info is None:
        return None
    ours, theirs = info.class_names, tuple(dataset.class_names)
    if len(ours) != len(theirs):
        raise ValueError(
            f"the network has {len(ours)} classes ({_listed(ours)}), "
            f"the dataset {len(theirs)} ({_listed(theirs)})"
        )
    differ = [k for k in range(len(ours)) if ours[k] != theirs[k]]
    if not differ:
        return None
    k, names = differ[0], f"{len(differ)} of {len(ours)} names differ"
    return f"class {k} is {ours[k]!r} for the network and {theirs[k]!r} for the dataset ({names})"


def match_classes(info: ModelInfo, dataset: Dataset) -> str | None:
    """Number the classes of a dataset in files as a network does; they are matched by name.

    The classes of a folder without a list of them are numbers, and are matched by those.

    Returns:
        A sentence if the classes are not those of the network in the same order.

    Raises:
        ValueError: If the dataset has a class that the network does not have, or another order and no files.

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> canvases = DigitCanvases("train", 1)
        >>> match_classes(ModelInfo(canvases.class_names, GREY), canvases) is None
        True
    """
    ours, theirs = info.class_names, tuple(dataset.class_names)
    if ours == theirs:
        return None
    if isinstance(dataset, FileDataset) and dataset.classes.guessed and dataset.classes.colors is None:
        warning = check_classes(info, dataset)
        return f"warning: {warning}: without names, classes are matched by number"
    unknown = tuple(name for name in theirs if name not in ours)
    if unknown or not isinstance(dataset, FileDataset):
        lacks = f": the network does not have {_listed(unknown)}" if unknown else ", in another order"
        raise ValueError(
            f"the network has {len(ours)} classes ({_listed(ours)}), the dataset {len(theirs)} "
            f"({_listed(theirs)}){lacks}"
        )
    dataset.order_classes(ours, info.palette)
    return f"classes are matched by name: the dataset has {_listed(theirs)}, the network {_listed(ours)}"


def set_dropout(model: FCN, p: float) -> None:
    """Set the probability of all dropout layers.

    Raises:
        ValueError: If p is no probability, or the network has no dropout layer and p is not 0.
    """
    dropouts = [layer for layer in model.layers() if isinstance(layer, Dropout)]
    if p and not dropouts:
        raise ValueError(f"dropout must be 0 for a network without dropout layers, got {p}")
    for layer in dropouts:
        layer.p = Dropout(p).p  # checks the value


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
