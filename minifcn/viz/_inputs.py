"""Checks of the arguments of figures."""

from collections.abc import Sequence

import numpy as np

from minifcn.backend import Array, to_numpy
from minifcn.functional.labels import refuse
from minifcn.palette import VOID
from minifcn.printing import brief


def rgb_image(image: Array, name: str = "image") -> Array:
    """Return a uint8 image (H, W), (H, W, 1) or (H, W, 3) as (H, W, 3).

    Raises:
        ValueError: If it is none of these.
    """
    image = to_numpy(image)
    channels = image.shape[2:] if image.ndim != 2 else (1,)
    if image.dtype != np.uint8 or image.size == 0 or channels not in ((1,), (3,)):
        expected = "a uint8 image of shape (H, W), (H, W, 1) or (H, W, 3)"
        raise ValueError(f"{name} must be {expected}, got {image.dtype} of shape {image.shape}")
    height, width = image.shape[:2]
    return np.broadcast_to(image.reshape(height, width, -1), (height, width, 3))  # grey: (H, W, 1) -> 3


def check_names(class_names: Sequence[str]) -> None:
    """Raise `TypeError` unless these are texts, one for each class."""
    if not isinstance(class_names, Sequence) or not all(isinstance(name, str) for name in class_names):
        raise TypeError(f"class_names must be a sequence of texts, got {brief(class_names)}")


def class_palette(palette: Array, class_names: Sequence[str] | None = None) -> Array:
    """Return the palette if it is uint8 (K, 3) and there is one name for each colour.

    Raises:
        ValueError: Otherwise.
    """
    palette = to_numpy(palette)
    if palette.dtype != np.uint8 or palette.ndim != 2 or palette.shape[1] != 3:
        raise ValueError(f"palette must be uint8 (K, 3), got {palette.dtype} of shape {palette.shape}")
    if not 1 <= len(palette) <= VOID:
        raise ValueError(f"palette must have 1 to {VOID} colours, got {len(palette)}")
    if class_names is not None and len(class_names) != len(palette):
        raise ValueError(f"palette has {len(palette)} colours for {len(class_names)} class_names")
    return palette


def label_image(
    labels: Array,
    num_classes: int,
    name: str = "labels",
    *,
    size: tuple[int, int] | None = None,
    void: bool = True,
) -> Array:
    """Return labels (H, W) as uint8 if all of them are classes, or void if that is allowed.

    Args:
        labels: Integers.
        num_classes: Classes are 0 to `num_classes` - 1.
        name: Name of the labels in messages.
        size: Expected (H, W), the size of the image.
        void: Whether `VOID` may occur.

    Raises:
        ValueError: If rank, dtype, size or values are wrong.
    """
    labels = to_numpy(labels)
    if labels.dtype.kind not in "iu" or labels.ndim != 2 or labels.size == 0:
        raise ValueError(f"{name} must be integers (H, W), got {labels.dtype} of shape {labels.shape}")
    if size is not None and labels.shape != size:
        raise ValueError(f"{name} of size {labels.shape} do not fit the image of size {size}")
    wrong = (labels < 0) | (labels >= num_classes)
    if void:
        wrong &= labels != VOID
    or_void = f" or be {VOID} (void)" if void else ""
    refuse(wrong, labels, f"{name} must lie in 0 to {num_classes - 1}{or_void}")
    return labels.astype(np.uint8)
