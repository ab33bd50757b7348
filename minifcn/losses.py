"""The loss that training minimises: softmax cross-entropy at every labelled pixel."""

import math
from typing import Any, Literal, get_args

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.labels import refuse, split_pixels, valid_pixels
from minifcn.functional.operands import check_choice, check_float
from minifcn.kernels.threads import parallel_map

CHUNK_SIZE = 1 << 18
"""Scores in one chunk: with intermediate results, they fit into the cache of a core."""

Reduction = Literal["mean", "sum", "batch"]


def softmax_cross_entropy(
    scores: Array,
    labels: Array,
    *,
    ignore_index: int = 255,
    reduction: Reduction = "mean",
    class_weights: Array | None = None,
) -> tuple[float, Array]:
    """Return the cross-entropy between labels and the softmax of scores, and its gradient to the scores.

    With p = softmax(scores) over the classes, a pixel of class k and weight w_k adds -w_k log p_k to the sum,
    and w_k (p - onehot(k)) to the gradient; a void pixel adds nothing to either. The sum, with its gradient,
    is then divided according to `reduction`:

    - "mean": by the sum of the weights of all labelled pixels; without class weights, by their number.
    - "sum": by 1. At one image a batch this is the loss of the reference FCN (Caffe's `normalize: false`),
      whose learning rates of 1e-10 and below belong to this reduction.
    - "batch": by the number of images, which is Caffe's `normalize: false` at any batch.

    Args:
        scores: Unnormalised scores, (N, C, H, W), or generally (N, C, ...); float32 or float64.
        labels: Class numbers, (N, H, W), or generally (N, ...); uint8.
        ignore_index: The label of void.
        reduction: "mean", "sum" or "batch".
        class_weights: Weights of the classes, (C,), none negative, in the dtype of `scores`; all 1 by
            default.

    Returns:
        The loss, summed in float64, and its gradient in the shape and dtype of `scores`. If no pixel counts,
        both are 0.

    Raises:
        TypeError: If an argument is not an array, NumPy and CuPy arrays are mixed, or a dtype is wrong.
        ValueError: If shapes do not fit, a label is out of range, a score is NaN or infinite, a weight is
            negative, NaN or infinite, or the reduction is unknown.

    Example:
        >>> import numpy as np
        >>> scores = np.zeros((1, 4, 1, 2))
        >>> loss, dscores = softmax_cross_entropy(scores, np.array([[[2, 255]]], np.uint8))
        >>> round(loss, 4)  # ln 4: all classes are equally likely; the void pixel does not count
        1.3863
        >>> dscores[0, :, 0, 0].tolist(), dscores[0, :, 0, 1].any().item()
        ([0.25, 0.25, -0.75, 0.25], False)
    """
    xp = array_module(scores=scores, labels=labels, class_weights=class_weights)
    _check_arguments(scores, labels, reduction, class_weights)
    num_classes = scores.shape[1]
    valid, wrong = split_pixels(labels, num_classes, ignore_index)
    # Invalid values make the loss NaN and are searched for then; to search now would be to wait for a GPU.
    bad = wrong.any()

    # Void pixels get class 0 and weight 0, so that no index is out of range (CuPy would wrap it around).
    classes = labels * valid  # (N, ...), uint8
    weights = valid.astype(scores.dtype)
    if class_weights is not None:
        usable = (class_weights >= 0) & (class_weights < xp.inf)
        bad = bad | ~usable.all()
        weights *= xp.where(usable, class_weights, 0.0)[classes]
    if reduction == "mean":
        divisor = weights.sum(dtype=xp.float64)
        # It is 0 only if no pixel counts; then loss and gradient are 0 anyway.
        weights /= xp.where(divisor > 0, divisor, 1.0).astype(scores.dtype)
    elif reduction == "batch":
        weights /= max(len(labels), 1)

    dscores: Array = xp.empty_like(scores, order="C")
    images = len(scores)
    # (N, C, ...) -> (N, C, pixels), and (N, ...) -> (N, pixels)
    size = math.prod(labels.shape[1:])
    flat, dflat = (array.reshape(images, num_classes, size) for array in (scores, dscores))
    classes, weights = classes.reshape(images, size), weights.reshape(images, size)

    values = dscores.reshape(-1)  # (N, C, ...) -> (N * C * pixels,)
    firsts = xp.arange(images)[:, None] * (num_classes * size)  # index of the first score of each image

    def chunk_of_pixels(chunk: tuple[slice, slice]) -> Any:
        image, pixels = chunk
        part, d = flat[image, :, pixels], dflat[image, :, pixels]
        weight = weights[chunk]
        # Index of the score of each pixel's class, (n, pixels).
        places = xp.multiply(classes[chunk], size, dtype=xp.int64)
        places += firsts[image]
        places += xp.arange(size)[pixels]
        with np.errstate(invalid="ignore", over="ignore"):  # where scores are not finite
            xp.subtract(part, part.max(axis=1, keepdims=True), out=d)  # at most 0: exp cannot overflow
            chosen = values[places]
            xp.exp(d, out=d)
            total = d.sum(axis=1)  # (n, pixels), at least 1
            pixel_losses = weight * (xp.log(total) - chosen)
            d *= (weight / total)[:, None]
            values[places] -= weight
            return pixel_losses.sum(dtype=xp.float64) + xp.where(xp.isfinite(part).all(), 0.0, xp.nan)

    losses = parallel_map(chunk_of_pixels, _chunks(xp, images, size, num_classes), xp)
    loss = float(xp.where(bad, xp.nan, sum(losses)))  # the only place that waits for a GPU
    if math.isnan(loss):
        _check_values(scores, labels, ignore_index, class_weights)
    return loss, dscores


def _chunks(xp: Any, images: int, pixels: int, num_classes: int) -> list[tuple[slice, slice]]:
    """Return chunks of images and pixels that fit into the cache of a core; one chunk for a GPU."""
    if xp is not np:
        return [(slice(images), slice(pixels))]
    step = max(CHUNK_SIZE // num_classes, 1)
    together = max(step // max(pixels, 1), 1)  # images
    return [
        (slice(image, image + together), slice(start, start + step))
        for image in range(0, images, together)
        for start in range(0, pixels, step)
    ]


def _check_arguments(scores: Array, labels: Array, reduction: Reduction, class_weights: Array | None) -> None:
    check_choice(reduction, "reduction", get_args(Reduction))
    check_float(scores=scores, class_weights=class_weights)
    if labels is None:
        raise TypeError("labels must be an array of uint8, got NoneType")
    if scores.ndim < 2 or scores.shape[1] == 0:
        raise ValueError(f"scores must have shape (N, C, ...) with at least one class, got {scores.shape}")
    if labels.shape != (expected := scores.shape[:1] + scores.shape[2:]):
        because = f"{expected}, that of scores {scores.shape} without the class axis"
        raise ValueError(f"labels must have shape {because}, got {labels.shape}")
    if class_weights is not None and class_weights.shape != scores.shape[1:2]:
        each = f"one weight for each of {scores.shape[1]} classes"
        raise ValueError(f"class_weights must have {each}, got shape {class_weights.shape}")


def _check_values(scores: Array, labels: Array, ignore_index: int, class_weights: Array | None) -> None:
    """Raise the error for what makes the loss NaN."""
    xp = array_module(scores=scores)
    if class_weights is not None and not all(0 <= weight < math.inf for weight in class_weights.tolist()):
        raise ValueError(f"class_weights must be finite and none negative, got {class_weights.tolist()}")
    valid_pixels(labels, scores.shape[1], ignore_index)
    refuse(~xp.isfinite(scores), scores, "scores must be finite")
