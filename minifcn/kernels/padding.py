"""Padding of images with zeros or with their border values, and cropping."""

from typing import TypeAlias

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry
from minifcn.kernels.threads import parallel_map

Sides: TypeAlias = tuple[int, int, int, int]
"""How much on each side: top, bottom, left, right."""


def pad_or_crop(x: Array, top: int, bottom: int, left: int, right: int) -> Array:
    """Return x (N, C, H, W) with zeros added on each side, or cut where a number is negative.

    No more may be cut than there is. With nothing to do, x itself is returned.
    """
    if not (top or bottom or left or right):
        return x
    xp, (n, c, h, w) = array_module(x=x), x.shape
    padded: Array = xp.empty((n, c, h + top + bottom, w + left + right), x.dtype)
    old = x[:, :, max(-top, 0) : h + min(bottom, 0), max(-left, 0) : w + min(right, 0)]
    new = padded[:, :, max(top, 0) :, max(left, 0) :][:, :, : old.shape[2], : old.shape[3]]

    def copy(part: tuple[slice, slice]) -> None:
        if new.size < padded.size:
            padded[part] = 0
        new[part] = old[part]

    halves = slice(c // 2), slice(c // 2, c)
    parts = [(slice(image, image + 1), half) for image in range(n) for half in halves]
    parallel_map(copy, parts if xp is np else [(slice(n), slice(c))], xp)
    return padded


def padded_zeros(dx: Array, geometry: ConvGeometry) -> tuple[Array, Array]:
    """Return zeros of the shape of dx (N, C, H, W) with its padding, and the view of them without padding."""
    (top, bottom), (left, right) = geometry.rows.padding, geometry.cols.padding
    n, c, h, w = dx.shape
    padded: Array = array_module(dx=dx).zeros((n, c, top + h + bottom, left + w + right), dx.dtype)
    return padded, padded[:, :, top : top + h, left : left + w]


def replicate_pad2d(x: Array, sides: Sides) -> Array:
    """Return x (N, C, H, W) continued on each side with its border values.

    Example:
        >>> import numpy as np
        >>> replicate_pad2d(np.array([[[[1.0, 2.0]]]]), (0, 0, 1, 2))
        array([[[[1., 1., 2., 2., 2.]]]])
    """
    top, bottom, left, right = sides
    padded: Array = array_module(x=x).pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="edge")
    return padded


def replicate_pad2d_grad(dy: Array, sides: Sides) -> Array:
    """Return the gradient of `replicate_pad2d`: border values also get what their copies received.

    Example:
        >>> import numpy as np
        >>> replicate_pad2d_grad(np.ones((1, 1, 1, 5)), (0, 0, 1, 2))
        array([[[[2., 3.]]]])
    """
    top, bottom, left, right = sides
    rows = dy[:, :, top : dy.shape[2] - bottom].copy()
    rows[:, :, 0] += dy[:, :, :top].sum(axis=2)
    rows[:, :, -1] += dy[:, :, dy.shape[2] - bottom :].sum(axis=2)
    dx: Array = rows[:, :, :, left : dy.shape[3] - right].copy()
    dx[:, :, :, 0] += rows[:, :, :, :left].sum(axis=3)
    dx[:, :, :, -1] += rows[:, :, :, dy.shape[3] - right :].sum(axis=3)
    return dx
