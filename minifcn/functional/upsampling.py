"""Bilinear interpolation as a kernel of a transposed convolution."""

from typing import Literal

import numpy as np

from minifcn.backend import Array
from minifcn.functional.operands import check_choice
from minifcn.geometry import check_integer


def bilinear_kernel(
    channels: int,
    stride: int,
    kernel_size: int | None = None,
    *,
    dtype: Literal["float32", "float64"] = "float32",
) -> Array:
    """Return weights with which a depthwise transposed convolution interpolates bilinearly.

    Along one axis the kernel is a triangle: 1 at its centre and 0 at a distance of `stride`. The shifted
    triangles of all inputs sum to 1 except at the border, so there is no checkerboard. With the even width 2s
    the centre lies between two outputs, with the odd width 2s - 1 on one: which is needed depends on how the
    coarse grid lies over the fine one (`minifcn.models.fcn`). The reference code of Long et al. (2015) uses
    64 for VGG16 and 63 for AlexNet, both at stride 32.

    Args:
        channels: Number of channels; each is upsampled on its own.
        stride: Factor of the upsampling.
        kernel_size: 2 * stride (the default) or 2 * stride - 1.
        dtype: `"float32"` or `"float64"`.

    Returns:
        (channels, 1, kernel_size, kernel_size), for `conv_transpose2d(..., stride=stride, groups=channels)`.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> bilinear_kernel(1, 2)[0, 0, 0] * 16
        array([1., 3., 3., 1.], dtype=float32)
        >>> bilinear_kernel(1, 2, 3)[0, 0, 1] * 2
        array([1., 2., 1.], dtype=float32)
    """
    check_integer(channels, "channels", 1, 2**16)
    stride = check_integer(stride, "stride", 1, 2**12)
    size = 2 * stride if kernel_size is None else kernel_size
    check_choice(size, f"kernel_size for stride {stride}", (2 * stride, 2 * stride - 1))
    check_choice(dtype, "dtype", ("float32", "float64"))
    tent = 1 - abs(np.arange(size) - (size - 1) / 2) / stride
    return np.tile(np.outer(tent, tent).astype(dtype), (channels, 1, 1, 1))
