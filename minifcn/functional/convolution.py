"""Convolution, its two gradients, and the transposed convolution, which is one of them.

Convolution is a bilinear map y = conv2d(x, w). Both its gradients are adjoints of it:

    <conv2d(x, w), g>  =  <x, conv2d_input_grad(g, w)>  =  <w, conv2d_weight_grad(x, g)>     for all x, w, g.

A transposed ("fractionally strided") convolution is `conv2d_input_grad` used as a forward map, so its own
gradients are `conv2d` and, with the operands exchanged, `conv2d_weight_grad`.

Notation: N images, C input channels, O output channels (filters), H x W input, KH x KW kernel. Convolution
means cross-correlation, as everywhere in deep learning: the kernel is not flipped. Padding is always the
padding of the forward convolution: an integer for all sides, a pair (rows, columns), or ((top, bottom),
(left, right)).
"""

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_bias, check_float, check_padded_size, check_rank
from minifcn.geometry import ConvGeometry, Padding, Pair, Transposed, pair
from minifcn.kernels.choosing import convolve, convolve_input_grad, convolve_weight_grad
from minifcn.kernels.threads import parallel_map
from minifcn.kernels.workspace import cut

BIAS_CHUNK = 1 << 18
"""Elements that are summed in one chunk, at least: less is not worth a second thread."""


def _check_groups(groups: int, channels: int, filters: int) -> None:
    if channels < 1 or filters < 1:
        raise ValueError(f"a convolution needs channels and filters, got {channels} and {filters}")
    if channels % groups or filters % groups:
        raise ValueError(f"groups {groups} must divide channels and filters, got {channels} and {filters}")


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Array:
    """Convolve images with filters.

    y[n, o, i, j] = b[o] + sum over c, a, b of x[n, c, i s + a d - p, j s + b d - p] * w[o, c, a, b]

    Args:
        x: Images (N, C, H, W), float32 or float64.
        w: Filters (O, C / groups, KH, KW), of the same dtype.
        b: Bias (O,), added to every position, or `None`.
        stride: Step of the window, an integer or a pair (rows, columns).
        padding: Zeros around the image: an integer, a pair (rows, columns), or ((top, bottom), (left,
            right)).
        dilation: Distance between the taps of the kernel, an integer or a pair.
        groups: Channels and filters are divided into this many independent groups; with `groups == C` the
            convolution is depthwise.
        algorithm: `"auto"` or one of `algorithms_for("conv2d")`. `"auto"` chooses `"winograd"` for many
            windows of 3 x 3 in float32, which computes tiles of 4 x 4 outputs from 6 x 6 inputs. The error of
            an output is up to 2e-5 times the largest |x| of its tile times the sum of |w|, so a value more
            than 1,000 times as large as its neighbours costs their accuracy. NaN and infinity reach whole
            tiles, up to 8 x 8 positions instead of 3 x 3. Inputs above 1e37, and outputs above 1e36, may
            overflow. Give `"im2col"` where that matters. So it is for the gradient to the input.

    Returns:
        (N, O, OH, OW) in the dtype of x, with OH = (H + p - d (KH - 1) - 1) // s + 1, where p is the padding
        of both ends together.

    Raises:
        TypeError: If the operands are not floating-point arrays of one dtype in one place.
        ValueError: If shapes or options do not fit together.

    Example:
        >>> import numpy as np
        >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
        >>> conv2d(x, np.ones((1, 1, 2, 2)), stride=2)[0, 0]
        array([[10., 18.],
               [42., 50.]])
    """
    check_rank(4, "(O, C / groups, KH, KW)", w=w)
    return convolution(x, w, b, ConvGeometry.of(w.shape[2:], stride, padding, dilation, groups), algorithm)


def convolution(
    x: Array,
    w: Array,
    b: Array | None,
    geometry: ConvGeometry,
    algorithm: str = "auto",
    *,
    relu: bool = False,
    out: Array | None = None,
) -> Array:
    """Return `conv2d` for the window of a geometry, whose kernel is that of w.

    `relu=True` returns max(y, 0), in one pass; `out` may be some channels of a larger array.
    """
    shape = check_convolution(x, w, b, geometry)
    y: Array = array_module(x).empty(shape, x.dtype) if out is None else out
    convolve(x, w, b, geometry, y, relu=relu, algorithm=algorithm)
    return y


def check_convolution(
    x: Array, w: Array, b: Array | None, geometry: ConvGeometry
) -> tuple[int, int, int, int]:
    """Return the shape (N, O, OH, OW) of `convolution`, after checking its operands."""
    check_float(x=x, w=w, b=b)
    check_rank(4, "(N, C, H, W)", x=x)
    groups = geometry.groups
    _check_groups(groups, x.shape[1], len(w))
    if (taken := w.shape[1] * groups) != x.shape[1]:
        raise ValueError(f"x has {x.shape[1]} channels but w {w.shape} with groups {groups} takes {taken}")
    check_bias(b, len(w))
    check_padded_size(geometry, x.shape[2:])
    return (len(x), len(w), *geometry.output_size((x.shape[2], x.shape[3])))


def conv2d_bias_grad(dy: Array) -> Array:
    """Return the gradient of `conv2d` to its bias: the gradients of all outputs, summed for each filter.

    Args:
        dy: Gradient to the output, (N, O, OH, OW).

    Returns:
        db (O,).

    Example:
        >>> import numpy as np
        >>> conv2d_bias_grad(np.ones((2, 3, 4, 5)))
        array([40., 40., 40.])
    """
    xp = check_float(dy=dy)
    check_rank(4, "(N, O, OH, OW)", dy=dy)
    images, filters, height, width = dy.shape
    # (1, N * O, pixels), or (N, O, pixels) where dy is a part of a larger array: so these are views.
    whole = (1, images * filters) if dy.flags.c_contiguous else (images, filters)
    planes = dy.reshape(*whole, height * width)
    sums: Array = xp.empty(planes.shape[:2], dy.dtype)
    # A product with ones sums faster than `sum` does, and `dot`, unlike `matmul`, releases the interpreter's
    # lock even if its result is small.
    ones = xp.ones(height * width, dy.dtype)

    def sum_some(chunk: tuple[int, slice]) -> None:
        xp.dot(planes[chunk], ones, out=sums[chunk])

    step = max(BIAS_CHUNK // max(height * width, 1), 1) if xp is np else images * filters
    some = list(cut(planes.shape[1], step))
    parallel_map(sum_some, [(n, rows) for n in range(len(planes)) for rows in some], xp)
    total: Array = sums.reshape(images, filters).sum(axis=0)
    return total


def conv2d_input_grad(
    dy: Array,
    w: Array,
    *,
    input_size: tuple[int, int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Return the gradient of `conv2d` to its input: the gradient of each output, times its filter, added to
    its window.

    Args:
        dy: Gradient to the output, (N, O, OH, OW).
        w: Filters of the convolution, (O, C / groups, KH, KW).
        input_size: (H, W) of the input. With a stride above 1 several sizes give the same (OH, OW).
        stride: As in `conv2d`; so are `padding`, `dilation` and `groups`.
        padding: See `conv2d`.
        dilation: See `conv2d`.
        groups: See `conv2d`.
        algorithm: `"auto"` or one of `algorithms_for("conv2d_input_grad")`.

    Returns:
        dx (N, C, H, W).

    Raises:
        TypeError: If the operands are not floating-point arrays of one dtype in one place.
        ValueError: If shapes or options do not fit together.

    Example:
        >>> import numpy as np
        >>> conv2d_input_grad(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), input_size=(3, 3))[0, 0]
        array([[1., 2., 1.],
               [2., 4., 2.],
               [1., 2., 1.]])
    """
    check_rank(4, "(O, C / groups, KH, KW)", w=w)
    geometry = ConvGeometry.of(w.shape[2:], stride, padding, dilation, groups)
    return convolution_input_grad(dy, w, geometry, pair(input_size, "input_size", 1), algorithm)


def convolution_input_grad(
    dy: Array, w: Array, geometry: ConvGeometry, input_size: tuple[int, int], algorithm: str = "auto"
) -> Array:
    """Return `conv2d_input_grad` for the window of a geometry, whose kernel is that of w."""
    xp = check_float(dy=dy, w=w)
    check_rank(4, "(N, O, OH, OW)", dy=dy)
    groups = geometry.groups
    _check_groups(groups, w.shape[1] * groups, len(w))
    if dy.shape[1] != len(w):
        raise ValueError(f"dy has {dy.shape[1]} channels but w {w.shape} has {len(w)} filters")
    check_padded_size(geometry, input_size)
    expected = geometry.output_size(input_size)
    if dy.shape[2:] != expected:
        smallest, largest = geometry.input_size_range(dy.shape[2:])
        got = f"input_size {input_size} gives an output of {expected}, but dy is {dy.shape[2:]}"
        raise ValueError(f"{got}: valid input sizes range from {smallest} to {largest}")
    dx: Array = xp.empty((len(dy), w.shape[1] * groups, *input_size), dy.dtype)
    convolve_input_grad(dy, w, geometry, dx, algorithm)
    return dx


def conv2d_weight_grad(
    x: Array,
    dy: Array,
    *,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Return the gradient of `conv2d` to its filters: the gradient of each output, times its window, summed.

    Args:
        x: Input of the convolution, (N, C, H, W).
        dy: Gradient to the output, (N, O, OH, OW).
        kernel_size: KH, KW; with a stride above 1 they do not follow from the shapes of x and dy.
        stride: As in `conv2d`; so are `padding`, `dilation` and `groups`.
        padding: See `conv2d`.
        dilation: See `conv2d`.
        groups: See `conv2d`.
        algorithm: `"auto"` or one of `algorithms_for("conv2d_weight_grad")`.

    Returns:
        dw (O, C / groups, KH, KW).

    Raises:
        TypeError: If the operands are not floating-point arrays of one dtype in one place.
        ValueError: If shapes or options do not fit together.

    Example:
        >>> import numpy as np
        >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> conv2d_weight_grad(x, np.ones((1, 1, 2, 2)), kernel_size=2)[0, 0]
        array([[ 8., 12.],
               [20., 24.]])
    """
    geometry = ConvGeometry.of(kernel_size, stride, padding, dilation, groups)
    return convolution_weight_grad(x, dy, geometry, algorithm)


def convolution_weight_grad(x: Array, dy: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """Return `conv2d_weight_grad` for the window of a geometry."""
    xp = check_float(x=x, dy=dy)
    check_rank(4, "(N, C, H, W)", x=x)
    check_rank(4, "(N, O, OH, OW)", dy=dy)
    groups = geometry.groups
    _check_groups(groups, x.shape[1], dy.shape[1])
    check_padded_size(geometry, x.shape[2:])
    expected = (len(x), dy.shape[1], *geometry.output_size((x.shape[2], x.shape[3])))
    if dy.shape != expected:
        given = f"x {x.shape} with kernel_size {geometry.kernel_size}"
        raise ValueError(f"{given} gives {expected}, but dy is {dy.shape}")
    dw: Array = xp.empty((dy.shape[1], x.shape[1] // groups, *geometry.kernel_size), x.dtype)
    convolve_weight_grad(x, dy, geometry, dw, algorithm)
    return dw


def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    output_size: tuple[int, int] | None = None,
    algorithm: str = "auto",
) -> Array:
    """Transposed convolution: the gradient of `conv2d` to its input, used as a forward map.

    Its stride of s over the output is a step of 1/s over the input, hence "fractionally strided". The same
    array w that takes `conv2d` from (H, W) down to (OH, OW) takes this one from (OH, OW) up to (H, W).

    Args:
        x: (N, C, H, W), float32 or float64.
        w: (C, O / groups, KH, KW): the filters of the convolution from O to C channels that this one is the
            adjoint of, neither flipped nor exchanged.
        b: Bias (O,) or `None`.
        stride: Step of the window over the *output*, an integer or a pair (rows, columns).
        padding: Padding of the forward convolution, which here removes rows and columns; as in `conv2d`.
        output_padding: With a stride of s, s output sizes belong to one input size; this many rows and
            columns are added (0 to s - 1), and they are real values, not zeros.
        groups: Number of independent groups of channels.
        dilation: Distance between the taps of the kernel.
        output_size: The output size itself, in place of `output_padding`.
        algorithm: `"auto"` or one of `algorithms_for("conv2d_input_grad")`.

    Returns:
        (N, O, OH, OW) with OH = (H - 1) s - p + d (KH - 1) + output_padding + 1, where p is the padding of
        both ends together.

    Raises:
        TypeError: If the operands are not floating-point arrays of one dtype in one place.
        ValueError: If shapes or options do not fit together; for `output_size` with the valid range.

    Example:
        >>> import numpy as np
        >>> conv_transpose2d(np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0, 100.0]]]]), stride=(1, 2))
        array([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    check_rank(4, "(C, O / groups, KH, KW)", w=w)
    check_rank(4, "(N, C, H, W)", x=x)
    geometry = ConvGeometry.of(w.shape[2:], stride, padding, dilation, groups)
    extra = pair(output_padding, "output_padding")
    if output_size is None:
        return transposed_convolution(x, w, b, geometry, extra, algorithm)
    if extra != (0, 0):
        raise ValueError("output_size and output_padding exclude each other: give one of them")
    output_size = pair(output_size, "output_size", 1)
    smallest, largest = geometry.input_size_range(x.shape[2:])
    if not all(lo <= n <= hi for lo, n, hi in zip(smallest, output_size, largest, strict=True)):
        given = f"output_size {output_size} cannot come from an input of {x.shape[2:]}"
        raise ValueError(f"{given}: valid sizes range from {smallest} to {largest}")
    rows, cols = (n - hi + s - 1 for n, hi, s in zip(output_size, largest, geometry.stride, strict=True))
    return transposed_convolution(x, w, b, geometry, (rows, cols), algorithm)


def transposed_convolution(
    x: Array,
    w: Array,
    b: Array | None,
    geometry: ConvGeometry,
    output_padding: tuple[int, int],
    algorithm: str = "auto",
) -> Array:
    """Return `conv_transpose2d` for the window of a geometry, whose kernel is that of w."""
    xp = check_float(x=x, w=w, b=b)
    check_rank(4, "(N, C, H, W)", x=x)
    if x.shape[1] != len(w):
        raise ValueError(f"x has {x.shape[1]} channels but w {w.shape} takes {len(w)}")
    filters = w.shape[1] * geometry.groups
    _check_groups(geometry.groups, len(w), filters)
    check_bias(b, filters)
    rows, cols = map(Transposed, (geometry.rows, geometry.cols), output_padding)
    size = rows.output_size(x.shape[2], "height"), cols.output_size(x.shape[3], "width")
    check_padded_size(geometry, size)
    y: Array = xp.empty((len(x), filters, *size), x.dtype)
    convolve_input_grad(x, w, geometry, y, algorithm)
    if b is not None:
        y += b[:, None, None]
    return y
