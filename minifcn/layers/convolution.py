"""Convolution, transposed convolution and the dense layer: three layers, one bilinear map."""

import math

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.convolution import (
    conv2d_bias_grad,
    convolution,
    convolution_input_grad,
    convolution_weight_grad,
    transposed_convolution,
)
from minifcn.functional.operands import check_float
from minifcn.geometry import ConvGeometry, Padding, Pair, Transposed, check_integer, pair
from minifcn.kernels.choosing import OPERATIONS, best
from minifcn.kernels.plans import Problem
from minifcn.kernels.threads import matmul, scaled
from minifcn.layers.activations import ReLU
from minifcn.layers.base import Layer, Shape
from minifcn.layers.cost import Cost, Reach
from minifcn.layers.normalization import BatchNorm2d
from minifcn.layers.parameter import Init, Parameter, Rng, initial_weights, zeros
from minifcn.layers.window import WindowLayer


class _Convolution(WindowLayer):
    """The window and the channels, which `Conv2d` and `ConvTranspose2d` share."""

    map = "conv2d"
    """Which of the three maps `forward` is."""

    in_channels: int
    out_channels: int
    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_channels: int, out_channels: int, geometry: ConvGeometry):
        self.in_channels = check_integer(in_channels, "in_channels", 1)
        self.out_channels = check_integer(out_channels, "out_channels", 1)
        self.geometry = geometry
        groups = geometry.groups
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}"
            )

    def _add_gradients(self, x: Array, y: Array, dy: Array) -> None:
        """Add to the gradients of the parameters, for a convolution from maps like x to maps like y."""
        if self.weight.trainable:
            self.weight.accumulate(convolution_weight_grad(x, y, self.geometry))
        if self.bias:
            self.bias.accumulate(conv2d_bias_grad(dy))

    def workspace(self, shape: Shape, images: int, *, training: bool) -> dict[str, int]:
        """Return the scratch memory of the algorithms that are used, by map and algorithm."""
        ends = shape, self.output_shape(shape)
        x, y = ends if self.map == "conv2d" else ends[::-1]
        here = self.weight.data
        problem = Problem(
            self.geometry, images, x[0], y[0], (x[1], x[2]), (y[1], y[2]), here.dtype, array_module(here)
        )
        operations = {self.map}
        if training:
            operations.update(OPERATIONS if self.weight.trainable else ("conv2d", "conv2d_input_grad"))
        plans = {operation: best(operation, problem) for operation in operations}
        return {f"{operation}, {plan.algorithm}": plan.workspace for operation, plan in plans.items()}

    def _padded(self, shape: Shape) -> int:
        """Return the elements of a map with the padding around it, or 0 if there is none."""
        (top, bottom), (left, right) = self.geometry.rows.padding, self.geometry.cols.padding
        channels, height, width = shape
        padding = top + bottom + left + right
        return channels * (height + top + bottom) * (width + left + right) if padding else 0


class Conv2d(_Convolution):
    """Convolution of (N, C, H, W) with filters (O, C / groups, KH, KW); see `minifcn.functional.conv2d`.

    Args:
        in_channels: C.
        out_channels: O, the number of filters.
        kernel_size: KH, KW; an integer or a pair (rows, columns), as are stride, padding and dilation.
        stride: Step of the window.
        padding: Zeros around the image.
        dilation: Distance between the taps.
        groups: Groups of channels that do not see one another.
        bias: Whether to add a constant to the output of each filter.
        init: Initial weights: `"he"` (random, He et al. 2015) or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import numpy as np
        >>> conv = Conv2d(3, 8, 3, padding=1)
        >>> y = conv(np.ones((1, 3, 5, 7), np.float32))
        >>> y.shape, conv.backward(y).shape, conv.weight.grad.shape
        ((1, 8, 5, 7), (1, 3, 5, 7), (8, 3, 3, 3))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: Init = "he",
        rng: Rng = None,
    ):
        geometry = ConvGeometry.of(kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, geometry)
        shape = (out_channels, in_channels // groups, *self.geometry.kernel_size)
        self.weight = Parameter(initial_weights(shape, int(np.prod(shape[1:])), init, rng))
        self.bias = zeros(out_channels) if bias else None

    def forward(self, x: Array) -> Array:
        """Return (N, O, OH, OW)."""
        y = convolution(x, self.weight.data, self.bias.data if self.bias else None, self.geometry)
        self.keep(x, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W)."""
        (x,) = self.recall(dy)
        self._add_gradients(x, dy, dy)
        return convolution_input_grad(dy, self.weight.data, self.geometry, x.shape[2:])

    def backward_parameters(self, dy: Array) -> None:
        """Add to the gradients of weight and bias alone."""
        (x,) = self.recall(dy)
        self._add_gradients(x, dy, dy)

    def fused(self, following: Layer) -> "FusedConv2d | None":
        """Return a convolution that includes the batch normalisation or the ReLU that follows it."""
        return FusedConv2d(self).fused(following) if type(self) is Conv2d else None  # not a subclass

    def cost(self, shape: Shape) -> Cost:
        """Return the cost. The gradient to a padded input may be cut out of a larger array."""
        taps = self.in_channels // self.groups * self.geometry.taps
        products = math.prod(self.output_shape(shape)) * taps
        return Cost(
            products, keeps_input=True, backward=self._padded(shape), backward_weights=self.weight.data.size
        )


class FusedConv2d(Layer):
    """A convolution, and the batch normalisation and the ReLU that follow it, for one pass in evaluation.

    Normalisation by a fixed mean and variance scales and shifts each channel, and so does a convolution with
    other weights:

    norm(conv(x, w) + b) = conv(x, s w) + s (b - mean) + beta,    s = gamma / sqrt(variance + eps)

    Args:
        conv: The convolution.
        norm: What follows it, or `None`.
        relu: Whether a ReLU follows.

    Example:
        >>> from minifcn.layers import ReLU
        >>> FusedConv2d(Conv2d(1, 4, 3)).fused(BatchNorm2d(4)).fused(ReLU()).relu
        True
    """

    def __init__(self, conv: Conv2d, norm: BatchNorm2d | None = None, *, relu: bool = False):
        self.conv, self.norm, self.relu = conv, norm, relu

    def fused(self, following: Layer) -> "FusedConv2d | None":
        """Return the same with one more layer; the ReLU is the last one."""
        if type(following) is ReLU and not self.relu:
            return FusedConv2d(self.conv, self.norm, relu=True)
        if type(following) is BatchNorm2d and not (self.norm or self.relu):
            fits = following.num_features == self.conv.out_channels
            return FusedConv2d(self.conv, following) if fits else None
        return None

    def forward(self, x: Array) -> Array:
        """Return (N, O, OH, OW)."""
        w, b = self.conv.weight.data, self.conv.bias.data if self.conv.bias else None
        if norm := self.norm:
            scale, shift = norm.scale_and_shift()
            w = scaled(w, scale)
            b = shift if b is None else b * scale + shift
        return convolution(x, w, b, self.conv.geometry, relu=self.relu)


class ConvTranspose2d(_Convolution):
    """Transposed convolution, with weights (C, O / groups, KH, KW): the adjoint of `Conv2d(O, C, ...)`.

    It calls the same three maps as `Conv2d` in another order; see `minifcn.functional.conv_transpose2d`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: KH, KW; an integer or a pair (rows, columns), as are the next four.
        stride: Factor of the upsampling.
        padding: Padding of the forward convolution; it takes rows and columns away here.
        output_padding: Rows and columns more than the smallest output, below the stride.
        groups: Groups of channels that do not see one another.
        bias: Whether to add a constant to each output channel.
        dilation: Distance between the taps.
        init: Initial weights: `"he"` (random, He et al. 2015) or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import numpy as np
        >>> up = ConvTranspose2d(4, 2, 4, stride=2, padding=1)
        >>> y = up(np.ones((1, 4, 5, 7), np.float32))
        >>> y.shape, up.backward(y).shape
        ((1, 2, 10, 14), (1, 4, 5, 7))
    """

    map = "conv2d_input_grad"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        *,
        init: Init = "he",
        rng: Rng = None,
    ):
        geometry = ConvGeometry.of(kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, geometry)
        self.output_padding = pair(output_padding, "output_padding")
        for extra, step in zip(self.output_padding, self.geometry.stride, strict=True):
            if extra >= step:
                raise ValueError(f"output_padding must be below the stride {stride}, got {output_padding}")
        shape = (in_channels, out_channels // groups, *self.geometry.kernel_size)
        # One output sums in_channels / groups windows, of whose taps one in stride * stride meets an input.
        taps = self.geometry.taps / np.prod(self.geometry.stride)
        self.weight = Parameter(initial_weights(shape, max(int(in_channels // groups * taps), 1), init, rng))
        self.bias = zeros(out_channels) if bias else None

    def forward(self, x: Array) -> Array:
        """Return (N, O, OH, OW)."""
        bias = self.bias.data if self.bias else None
        y = transposed_convolution(x, self.weight.data, bias, self.geometry, self.output_padding)
        self.keep(x, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, C, H, W): the forward convolution of dy."""
        (x,) = self.recall(dy)
        self._add_gradients(dy, x, dy)
        return convolution(dy, self.weight.data, None, self.geometry)

    def reach(self) -> tuple[Transposed, Transposed]:
        """Return the transposed windows of rows and columns."""
        rows, cols = self.output_padding
        return Transposed(self.geometry.rows, rows), Transposed(self.geometry.cols, cols)

    def cost(self, shape: Shape) -> Cost:
        """Return the cost. With padding, the output may be cut out of a larger array."""
        products = math.prod(shape) * self.out_channels // self.groups * self.geometry.taps
        padded = self._padded(self.output_shape(shape))
        return Cost(products, keeps_input=True, forward=padded, backward_weights=self.weight.data.size)


class Linear(Layer):
    """Dense layer: y = x @ weight.T + bias, for x (N, in_features).

    Each row of the weight sees the whole input: it is a convolution whose kernel covers its input, and
    `minifcn.dense_to_conv` turns it into one.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        bias: Whether to add a constant to each output.
        init: Initial weights: `"he"` (random, He et al. 2015) or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Raises:
        ValueError: If an argument is below 1.

    Example:
        >>> import numpy as np
        >>> Linear(3, 2)(np.ones((4, 3), np.float32)).shape
        (4, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, init: Init = "he", rng: Rng = None
    ):
        self.in_features = check_integer(in_features, "in_features", 1)
        self.out_features = check_integer(out_features, "out_features", 1)
        self.weight = Parameter(initial_weights((out_features, in_features), in_features, init, rng))
        self.bias = zeros(out_features) if bias else None

    def forward(self, x: Array) -> Array:
        """Return (N, out_features)."""
        check_float(x=x, weight=self.weight.data)
        if x.ndim != 2:
            raise ValueError(f"{self!r} takes (N, {self.in_features}), got {x.shape}; flatten it first")
        self.output_shape(x.shape[1:])
        y = matmul(x, self.weight.data.T)
        if self.bias:
            y += self.bias.data
        self.keep(x, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, in_features)."""
        (x,) = self.recall(dy)
        if self.weight.trainable:
            self.weight.accumulate(matmul(dy.T, x))
        if self.bias:
            self.bias.accumulate(dy.sum(axis=0))
        return matmul(dy, self.weight.data)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (out_features,)."""
        if shape != (self.in_features,):
            raise ValueError(f"{self!r} takes (N, {self.in_features}), got items of shape {shape}")
        return (self.out_features,)

    def reach(self) -> Reach:
        """Return "global"."""
        return "global"

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: one product for each weight."""
        return Cost(multiplications=self.weight.data.size, keeps_input=True)
