"""Resizing to any size by the nearest pixel or bilinearly, as products with matrices.

Rows and columns are resized one after the other, each by a matrix with a row for each output: y = R x C'.
The gradient is the transposed map, dx = R' dy C. Nothing is added at computed indices.
"""

from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from minifcn.backend import Array
from minifcn.functional.operands import check_choice, check_float, check_rank
from minifcn.geometry import Pair, pair
from minifcn.kernels.threads import FLAT_CHUNK, parallel_map
from minifcn.kernels.workspace import cut

Mode: TypeAlias = Literal["nearest", "bilinear"]
Scales: TypeAlias = tuple[float, float] | None


def interpolation_matrix(
    inputs: int, outputs: int, mode: Mode, *, align_corners: bool = False, scale: float | None = None
) -> Array:
    """Return the matrix (outputs, inputs), in float64, that resizes a line of pixels.

    With s = inputs / outputs, or 1 / scale, output i is read at position (i + 1/2) s - 1/2 of the input; with
    `align_corners` at i (inputs - 1) / (outputs - 1); with mode "nearest" at floor(i s). Positions beyond the
    first and the last input are moved to them.

    Args:
        inputs: Number of inputs.
        outputs: Number of outputs.
        mode: `"nearest"` or `"bilinear"`.
        align_corners: Whether the centres of the corner pixels stay corners.
        scale: The factor, where the number of outputs was rounded down from it.

    Example:
        >>> interpolation_matrix(2, 4, "bilinear")
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]])
    """
    i, step = np.arange(outputs), 1 / scale if scale else inputs / outputs
    if mode == "nearest":
        position = np.floor(i * step) if scale else i * inputs // outputs
    elif align_corners:
        position = i * ((inputs - 1) / max(outputs - 1, 1))
    else:
        position = (i + 0.5) * step - 0.5
    position = np.clip(position, 0, inputs - 1)
    weights: Array = np.maximum(1 - abs(position[:, None] - np.arange(inputs)), 0)
    return weights


def _matrices(
    size: tuple[int, int], output_size: tuple[int, int], mode: Mode, align_corners: bool, scales: Scales
) -> list[Array]:
    check_choice(mode, "mode", get_args(Mode))
    axes = zip(size, output_size, scales or (None, None), strict=True)
    return [
        interpolation_matrix(inputs, outputs, mode, align_corners=align_corners, scale=scale)
        for inputs, outputs, scale in axes
    ]


def _multiply(xp: Any, rows: Array, x: Array, cols: Array) -> Array:
    """Return rows @ x @ cols for each map of x (N, C, H, W), some maps at a time."""
    rows, cols = xp.asarray(rows.astype(x.dtype)), xp.asarray(cols.astype(x.dtype))
    maps = x.reshape(-1, *x.shape[2:])  # (N, C, H, W) -> (N * C, H, W)
    y: Array = xp.empty((len(maps), len(rows), cols.shape[1]), x.dtype)

    def resize(some: slice) -> None:
        xp.matmul(rows, xp.matmul(maps[some], cols), out=y[some])

    count = max(FLAT_CHUNK // max(y[:1].size, 1), 1) if xp is np else max(len(maps), 1)
    parallel_map(resize, cut(len(maps), count), xp)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def interpolate(
    x: Array, size: Pair, mode: Mode = "nearest", *, align_corners: bool = False, scales: Scales = None
) -> Array:
    """Resize images to any size.

    Args:
        x: (N, C, H, W), float32 or float64.
        size: (OH, OW), or one integer for both.
        mode: `"nearest"` or `"bilinear"`.
        align_corners: See `interpolation_matrix`.
        scales: Factors of rows and columns, where the size was rounded down from them.

    Returns:
        (N, C, OH, OW).

    Raises:
        TypeError: If x is not a floating-point array.
        ValueError: If x does not have 4 axes or is empty, or another argument is out of range.

    Example:
        >>> interpolate(np.array([[[[0.0, 4.0]]]]), (1, 4), "bilinear")
        array([[[[0., 1., 3., 4.]]]])
    """
    xp = check_float(x=x)
    check_rank(4, "(N, C, H, W)", x=x)
    height, width = x.shape[2:]
    if min(height, width) < 1:
        raise ValueError(f"x must hold pixels, got shape {x.shape}")
    rows, cols = _matrices((height, width), pair(size, "size", 1), mode, align_corners, scales)
    return _multiply(xp, rows, x, cols.T)


def interpolate_grad(
    dy: Array, input_size: Pair, mode: Mode = "nearest", *, align_corners: bool = False, scales: Scales = None
) -> Array:
    """Return the gradient of `interpolate` to images of a size (H, W); the other arguments are its own.

    Example:
        >>> interpolate_grad(np.array([[[[1.0, 1.0, 1.0, 0.0]]]]), (1, 2), "bilinear")
        array([[[[2., 1.]]]])
    """
    xp = check_float(dy=dy)
    check_rank(4, "(N, C, OH, OW)", dy=dy)
    outputs = dy.shape[2], dy.shape[3]
    rows, cols = _matrices(pair(input_size, "input_size", 1), outputs, mode, align_corners, scales)
    return _multiply(xp, rows.T, dy, cols)
