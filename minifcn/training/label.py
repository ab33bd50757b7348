"""Labels of images: of a batch that is network input already, or of one image as it was read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np

from minifcn.backend import Array, array_module, device_of, to_device, to_numpy
from minifcn.data.loader import Preprocess
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.workspace import cut
from minifcn.layers import Layer
from minifcn.models import Preprocessing
from minifcn.models.tiling import Rectangle, tiles
from minifcn.training.memory import tile_size

ROWS_CHUNK = 1 << 15
"""Pixels whose classes are found in one chunk, whose scores stay in the cache of a core."""


@contextmanager
def evaluation_mode(model: Layer) -> Iterator[None]:
    """Switch a network to evaluation mode for a block, and each layer back to its mode afterwards.

    Example:
        >>> from minifcn.layers import Dropout
        >>> dropout = Dropout()
        >>> with evaluation_mode(dropout):
        ...     dropout.training
        False
        >>> dropout.training
        True
    """
    modes = [(layer, layer.training) for layer in model.layers()]
    model.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def predict(model: Layer, x: Array) -> Array:
    """Return the class with the highest score, (N, H, W), or (N,) for a classifier.

    The dtype is uint8, as for labels, or int64 for more than 256 classes.

    Args:
        model: A network in evaluation mode.
        x: Preprocessed images (N, C, H, W), on the device of the network.

    Raises:
        ValueError: If the network is in training mode, where dropout would be active, or does not accept x.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import FCN, digit_classifier
        >>> predict(FCN(digit_classifier(), 11).eval(), np.zeros((1, 1, 40, 50), np.float32)).shape
        (1, 40, 50)
    """
    if model.training:
        raise ValueError("model must be in evaluation mode; call model.eval() first")
    scores = model(x)
    if array_module(scores=scores) is np and scores.ndim == 4 and scores.shape[1] <= 256:
        return _highest(scores)
    classes: Array = scores.argmax(axis=1).astype("uint8" if scores.shape[1] <= 256 else "int64")
    return classes


def _highest(scores: Array) -> Array:
    """Return what argmax(axis=1) returns, uint8 (N, H, W), several times faster: class after class."""
    n, num_classes, height, width = scores.shape
    classes = np.zeros((n, height, width), np.uint8)

    def some_rows(place: tuple[int, slice]) -> None:
        image, rows = place
        part, found = scores[image, :, rows], classes[image, rows]
        highest = part[0].copy()
        for k in range(1, num_classes):
            higher = part[k] > highest
            np.maximum(highest, part[k], out=highest)
            np.maximum(found, higher.view(np.uint8) * np.uint8(k), out=found)
        if np.isnan(highest).any():
            found[...] = part.argmax(axis=0)

    rows = [*cut(height, max(ROWS_CHUNK // max(width, 1), 1))]
    parallel_map(some_rows, product(range(n), rows))
    return classes


def label(
    model: Layer, image: Array, *, preprocess: Preprocess | None = None, tile: int | None = None
) -> Array:
    """Return the class of each pixel of one image, (H, W), as a NumPy array; of a classifier, its class, ().

    The network computes on the device that it is on, in evaluation mode, and returns to its mode afterwards.

    Args:
        model: A network.
        image: uint8 (H, W, C), grey or RGB.
        preprocess: Turns images uint8 (1, H, W, C) into network input; by default the preprocessing that
            `model.info` records.
        tile: Label the image in tiles of at most this many rows and columns, which takes less memory. By
            default, images that would take much memory are cut, see `minifcn.training.memory.tile_size`. The
            labels are those of the whole image, except where the two best scores differ by rounding only.

    Raises:
        ValueError: If both `preprocess` and `model.info` are missing, the image does not fit the network, or
            tiles are too small for it.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import FCN, Preprocessing, digit_classifier
        >>> grey = Preprocessing("L", (128.0,), (64.0,))
        >>> label(FCN(digit_classifier(), 11), np.zeros((40, 50, 1), np.uint8), preprocess=grey).shape
        (40, 50)
    """
    size = image.shape[0], image.shape[1]
    if tile is None:
        tile = tile_size(model, size)
    if tile is None or max(size) <= tile:
        return _label(model, image, preprocess)
    labels = np.empty(size, np.uint8)
    for (rows, cols), part in label_tiles(model, lambda crop: image[crop], size, tile, preprocess=preprocess):
        labels[rows, cols] = part
    return labels


def label_tiles(
    model: Layer,
    read: Callable[[Rectangle], Array],
    size: tuple[int, int],
    tile: int,
    *,
    preprocess: Preprocess | None = None,
) -> Iterator[tuple[Rectangle, Array]]:
    """Yield (rows, columns) and labels of the parts of an image that is never in memory as a whole.

    Args:
        model: A network whose scores have the size of the image.
        read: Returns a part of the image, uint8 (h, w, C), for (rows, columns); parts overlap.
        size: (H, W) of the image.
        tile: Largest number of rows and of columns of a part that is read.
        preprocess: As for `label`.

    Raises:
        ValueError: As for `label`.

    Example:
        >>> import numpy as np
        >>> from minifcn.models import FCN, Preprocessing, digit_classifier
        >>> fcn, grey = FCN(digit_classifier(rng=0), 11), Preprocessing("L", (128.0,), (64.0,))
        >>> def read(crop):
        ...     rows, cols = crop
        ...     return np.zeros((rows.stop - rows.start, cols.stop - cols.start, 1), np.uint8)
        >>> sum(labels.size for _, labels in label_tiles(fcn, read, (90, 400), 200, preprocess=grey))
        36000
    """
    for part in tiles(model, size, tile):
        yield part.core, _label(model, read(part.crop), preprocess)[part.inner]


def _label(model: Layer, image: Array, preprocess: Preprocess | None) -> Array:
    if preprocess is None:
        info = getattr(model, "info", None)
        if info is None:
            raise ValueError("preprocess must be given for a model without info")
        preprocess = any_channels(info.preprocessing)
    x = to_device(preprocess(image[None]), device_of(next(model.parameters()).data))
    with evaluation_mode(model):
        labels: Array = to_numpy(predict(model, x))[0]
    return labels


def any_channels(preprocessing: Preprocessing) -> Preprocess:
    """Return a preprocessing that accepts grey and RGB images, whichever the network was trained on.

    RGB becomes grey as in ITU-R BT.601 (.299 R + .587 G + .114 B), rounded; grey is repeated.

    Example:
        >>> import numpy as np
        >>> red = np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3)
        >>> any_channels(Preprocessing("L", (0.0,), (1.0,)))(red).tolist()
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
