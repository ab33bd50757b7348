"""Scores of a network on a dataset."""

import math

from tqdm import tqdm

from minifcn.backend import Array, array_module, device_of, to_device
from minifcn.data import Loader
from minifcn.data.loader import Preprocess
from minifcn.layers import Layer
from minifcn.metrics import Absent, ConfusionMatrix
from minifcn.models import Preprocessing


def predict(model: Layer, x: Array) -> Array:
    """Return the class with the highest score: (N, H, W), or (N,) from a classifier.

    They are uint8, as labels are, or int64 where there are more than 256 classes.

    Args:
        model: A network in evaluation mode; in training mode dropout would drop.
        x: Preprocessed images (N, C, H, W), on the network's device.

    Raises:
        ValueError: If the network is in training mode, or does not take x.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import FCN, digit_classifier
        >>> predict(FCN(digit_classifier(), 11).eval(), np.zeros((1, 1, 40, 50), np.float32)).shape
        (1, 40, 50)
    """
    if model.training:
        raise ValueError("predict takes a network in evaluation mode; call model.eval() first")
    scores = model(x)
    classes: Array = scores.argmax(axis=1).astype("uint8" if scores.shape[1] <= 256 else "int64")
    return classes


def fitted(preprocessing: Preprocessing) -> Preprocess:
    """Return a preprocessing that takes colour images for grey networks, and grey ones for colour networks.

    Colours become grey as in ITU-R BT.601 (.299 R + .587 G + .114 B), rounded; grey is repeated.

    Example:
        >>> import numpy as np
        >>> red = np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3)
        >>> fitted(Preprocessing("L", (0.0,), (1.0,)))(red).tolist()
        [[[[76.0]]]]
    """
    wanted = len(preprocessing.mean)

    def preprocess(images: Array) -> Array:
        xp = array_module(images=images)
        if images.ndim == 4 and (images.shape[3], wanted) == (3, 1):
            red, green, blue = (images[..., channel].astype(xp.uint32) for channel in range(3))
            images = ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(xp.uint8)[..., None]
        elif images.ndim == 4 and (images.shape[3], wanted) == (1, 3):
            images = xp.repeat(images, 3, axis=3)
        return preprocessing(images)

    return preprocess


def json_number(value: float) -> float | None:
    """Return a metric as JSON knows it: over no pixel it is NaN, which JSON does not know."""
    return None if math.isnan(value) else value


def evaluate(
    model: Layer, loader: Loader, *, absent: Absent = "exclude", progress: str | None = None
) -> ConfusionMatrix:
    """Count a network's predictions against the labels of a whole dataset.

    The network is switched to evaluation mode and back to the mode it was in.

    Args:
        model: A network.
        loader: Batches of preprocessed images and labels.
        absent: What a class without pixels counts as; see `minifcn.metrics.ConfusionMatrix`.
        progress: Name of the progress bar, which is drawn on terminals only; `None` for none.

    Returns:
        The confusion matrix, from which the four metrics follow.
    """
    names = loader.dataset.class_names
    matrix = ConfusionMatrix(len(names), class_names=names, absent=absent)
    device, training = device_of(next(model.parameters()).data), model.training
    model.eval()
    try:
        for x, labels in tqdm(
            loader, desc=progress, disable=True if progress is None else None, leave=False, unit="batch"
        ):
            matrix.update(to_device(labels, device), predict(model, to_device(x, device)))
    finally:
        model.train(training)
    return matrix
