"""How often each class occurs in a dataset, and the weights for the loss that follow from it."""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from minifcn.backend import Array
from minifcn.data.dataset import Dataset, FileDataset
from minifcn.functional.labels import valid_pixels
from minifcn.palette import VOID


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Pixels of each class in each image.

    Attributes:
        per_image: int64 (N, K + 1): one row per image, the last column is void.

    Example:
        >>> counts = ClassCounts(np.array([[90, 10, 0], [100, 0, 5]]))
        >>> counts.pixels.tolist(), counts.images.tolist()
        ([190, 10, 5], [2, 1, 1])
    """

    per_image: Array

    @property
    def pixels(self) -> Array:
        """Pixels of each class in all images, and of void at the end: int64 (K + 1,)."""
        return np.asarray(self.per_image.sum(axis=0))

    @property
    def images(self) -> Array:
        """Number of images in which each class occurs, and void at the end: int64 (K + 1,)."""
        return np.asarray((self.per_image > 0).sum(axis=0))


def class_counts(dataset: Dataset, *, progress: str | None = None) -> ClassCounts:
    """Count the pixels of each class in each image of a dataset.

    Of datasets in files, only the masks are read.

    Args:
        dataset: Any dataset.
        progress: Name of the progress bar, which is shown on terminals only; `None` for none.

    Raises:
        ValueError: If a label is neither a class nor void.

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> counts = class_counts(DigitCanvases("train", 3, size=(40, 50)))
        >>> counts.per_image.shape, int(counts.pixels.sum())
        ((3, 12), 6000)
    """
    count = len(dataset.class_names)
    quiet = True if progress is None else None  # None: quiet unless on a terminal
    indices = tqdm(range(len(dataset)), desc=progress, disable=quiet, leave=False, unit="image")
    masks = (dataset.labels(i) if isinstance(dataset, FileDataset) else dataset[i][1] for i in indices)
    return ClassCounts(np.array([count_labels(labels, count) for labels in masks]))


def count_labels(labels: Array, num_classes: int) -> Array:
    """Return the pixels of each class in one image, and of void at the end, int64 (K + 1,)."""
    valid_pixels(labels, num_classes)
    counts = np.bincount(labels.reshape(-1), minlength=256)  # (H, W) -> (pixels,)
    return np.append(counts[:num_classes], counts[VOID])


def median_frequency_weights(counts: ClassCounts) -> Array:
    """Return weights that make rare classes count as much as frequent ones.

    The weight of a class is the median frequency divided by the frequency of the class: the share of its
    pixels among the labelled pixels of those images in which it occurs (D. Eigen, R. Fergus, "Predicting
    Depth, Surface Normals and Semantic Labels", 2015). A class that never occurs has weight 1.

    Args:
        counts: From `class_counts`, of the training split.

    Returns:
        float32 (K,), to be passed to the loss as `class_weights`.

    Raises:
        ValueError: If no class occurs.

    Example:
        >>> counts = ClassCounts(np.array([[90, 10, 0, 5], [100, 0, 0, 0], [50, 30, 20, 0]]))
        >>> median_frequency_weights(counts).tolist()  # the frequencies are .8, .2 and .2
        [0.25, 1.0, 1.0]
    """
    classes = counts.per_image[:, :-1]  # (N, K), without void
    pixels = classes.sum(axis=0)
    occurs = pixels > 0
    if not occurs.any():
        raise ValueError("no class occurs in the dataset: all pixels are void")
    labelled = ((classes > 0) * classes.sum(axis=1, keepdims=True)).sum(axis=0)  # beside it
    frequency = pixels[occurs] / labelled[occurs]
    weights = np.ones(len(pixels), np.float32)
    weights[occurs] = np.median(frequency) / frequency
    return weights
