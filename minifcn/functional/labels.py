"""Checks of labels: uint8 class numbers, and one value for void pixels.

Loss and metrics both ignore the pixels that `valid_pixels` marks as void.
"""

from minifcn.backend import Array, array_module
from minifcn.geometry import check_integer


def check_classes(num_classes: int, ignore_index: int) -> None:
    """Raise an error for a number of classes, or a void label, that uint8 labels cannot hold.

    Args:
        num_classes: Classes are numbered 0 to num_classes - 1.
        ignore_index: The label of void, 0 to 255; inside 0 to num_classes - 1 that class becomes void.

    Raises:
        ValueError: If one of them is not an integer in its range.
    """
    check_integer(num_classes, "num_classes", 1)
    if check_integer(ignore_index, "ignore_index", 0) > 255:
        raise ValueError(f"ignore_index must be from 0 to 255 (labels are uint8), got {ignore_index}")


def refuse(wrong: Array, values: Array, expected: str) -> None:
    """Raise an error that shows the first of the wrong values, if there are any, and how many there are.

    Args:
        wrong: Boolean array, any shape.
        values: Array of the same shape.
        expected: Beginning of the message: what the values must be.

    Raises:
        ValueError: If an element of `wrong` is true.

    Example:
        >>> import numpy as np
        >>> values = np.array([[1, 2], [3, 4]])
        >>> refuse(values > 2, values, "values must be at most 2")
        Traceback (most recent call last):
        ...
        ValueError: values must be at most 2, got 3 at (1, 0); 2 of 4 values are out of range
    """
    if wrong.any():
        where = array_module(wrong=wrong).argwhere(wrong)
        first = tuple(where[0].tolist())
        counts = f"{len(where)} of {values.size} values are out of range"
        raise ValueError(f"{expected}, got {values[first].item()} at {first}; {counts}")


def split_pixels(labels: Array, num_classes: int, ignore_index: int = 255) -> tuple[Array, Array]:
    """Return which pixels are labelled with a class, and which with an invalid label.

    No value is read on the CPU, so this does not wait for a GPU.

    Args:
        labels: Class numbers and void, any shape, uint8.
        num_classes: Number of classes.
        ignore_index: The label of void.

    Returns:
        Two boolean arrays of the shape of `labels`. Both are false at void pixels.

    Raises:
        TypeError: If `labels` is not an array of uint8.

    Example:
        >>> import numpy as np
        >>> [mask.tolist() for mask in split_pixels(np.array([0, 2, 7, 255], np.uint8), num_classes=3)]
        [[True, True, False, False], [False, False, True, False]]
    """
    xp = array_module(labels=labels)
    check_classes(num_classes, ignore_index)
    if labels.dtype != xp.uint8:
        void = f"give void (-1 or -100 elsewhere) the number {ignore_index}"
        fix = f"{void} and convert with labels.astype('uint8')"
        raise TypeError(f"labels must be uint8, got {labels.dtype}; {fix}")
    not_void, known = labels != ignore_index, labels <= min(num_classes - 1, 255)
    return not_void & known, not_void & ~known


def valid_pixels(labels: Array, num_classes: int, ignore_index: int = 255) -> Array:
    """Return which pixels are labelled with a class, after checking that the others are void.

    Args:
        labels: Class numbers and void, any shape, uint8.
        num_classes: Number of classes.
        ignore_index: The label of void.

    Returns:
        Boolean array of the shape of `labels`, false at void pixels.

    Raises:
        TypeError: If `labels` is not an array of uint8.
        ValueError: If a label is neither a class nor void.

    Example:
        >>> import numpy as np
        >>> valid_pixels(np.array([[0, 2], [1, 255]], np.uint8), num_classes=3).tolist()
        [[True, True], [True, False]]
    """
    valid, wrong = split_pixels(labels, num_classes, ignore_index)
    allowed = f"below num_classes = {num_classes} or equal to ignore_index = {ignore_index}"
    refuse(wrong, labels, f"labels must be {allowed}")
    return valid
