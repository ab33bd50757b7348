"""The network that a training begins with, and the one that it ends with."""

import os

import numpy as np

from minifcn.data import Dataset
from minifcn.layers import Dropout
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing
from minifcn.models.fcn import Alignment, Upsampling
from minifcn.weights import load

COLOUR = Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of ImageNet's pixels, as torchvision takes them: for networks from scratch."""
GREY = Preprocessing("L", (128.0,), (64.0,))


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

    A trained network is taken as it is, or with skips down to a finer stride. Arguments that are `None` mean
    what it has; from a classifier they mean the finest stride, "exact", "fixed" and stage by stage.

    Args:
        start: Where its weights come from.
        dataset: Names its classes and colours.
        stride: Of the finest map that is scored.
        alignment: See `FCN`.
        upsampling: See `FCN`.
        at_once: See `FCN`.

    Raises:
        ValueError: If the network cannot become what is wanted, or has other classes than the dataset, or
            that has one class only.

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
            f"the dataset has one class only ({_listed(tuple(dataset.class_names))}), and nothing to tell it "
            f"from: the background is a class, too, and as a rule the first one"
        )
    wanted = {"alignment": alignment, "upsampling": upsampling, "at_once": at_once}
    if isinstance(start, FCN):
        for name, value in wanted.items():
            if value not in (None, getattr(start, name)):
                raise ValueError(
                    f"the trained network has {name} = {getattr(start, name)}, so it cannot become {value}"
                )
        check_classes(start.info, dataset)
        fcn = start
        if stride is not None and stride > fcn.stride:
            raise ValueError(
                f"the trained network has stride {fcn.stride}, it cannot become coarser: {stride}"
            )
        while stride is not None and fcn.stride > stride:
            fcn = fcn.finer()
        if stride not in (None, fcn.stride):
            raise ValueError(
                f"stride {stride} is none that this network offers; the next finer is {fcn.stride}"
            )
    else:
        fcn = FCN(
            start,
            len(dataset.class_names),
            min(start.taps, default=None) if stride is None else stride,
            alignment=alignment or "exact",
            upsampling=upsampling or "fixed",
            at_once=bool(at_once),
        )
    preprocessing = start.info.preprocessing if start.info is not None else None
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in np.asarray(dataset.palette))
    fcn.info = ModelInfo(
        tuple(dataset.class_names),
        preprocessing or (GREY if fcn.channels == 1 else COLOUR),
        colors,
    )
    return fcn


def trained(path: str | os.PathLike[str]) -> tuple[FCN, ModelInfo]:
    """Read a network that labels pixels from a model file, and what it says of itself.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        FileError: If it is damaged or no model file.
        ValueError: If it is a classifier.
    """
    try:
        model = load(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}: a training writes its model to model.safetensors in --out"
        ) from error
    if not isinstance(model, FCN) or model.info is None:
        raise ValueError(
            f"{path} is a classifier: it says what is in an image, not where; "
            f"minifcn train --from {path} makes a network that labels pixels of it"
        )
    return model, model.info


def check_classes(info: ModelInfo | None, dataset: Dataset) -> str | None:
    """Compare the classes of a network and of a dataset.

    Returns:
        A sentence if they are as many but have other names, else `None`.

    Raises:
        ValueError: If they are not equally many.
    """
    if info is None:
        return None
    ours, theirs = info.class_names, tuple(dataset.class_names)
    if len(ours) != len(theirs):
        raise ValueError(
            f"the network has {len(ours)} classes ({_listed(ours)}), "
            f"the dataset {len(theirs)} ({_listed(theirs)})"
        )
    if ours == theirs:
        return None
    k = next(k for k in range(len(ours)) if ours[k] != theirs[k])
    return (
        f"class {k} is {ours[k]!r} for the network and {theirs[k]!r} for the dataset"
        f" ({sum(a != b for a, b in zip(ours, theirs, strict=True))} of {len(ours)} names differ)"
    )


def set_dropout(model: FCN, probability: float | None, seed: int) -> None:
    """Give every dropout a generator that follows from the seed, and, if given, a probability.

    Raises:
        ValueError: If the network has no dropout, and some is wanted.
    """
    dropouts = [layer for layer in model.layers() if isinstance(layer, Dropout)]
    if probability and not dropouts:
        raise ValueError("--dropout: this network has no dropout layer")
    for i, dropout in enumerate(dropouts):
        dropout.rng = np.random.default_rng([seed, i])
        if probability is not None:
            dropout.p = Dropout(probability).p  # refuses what is no probability


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
