"""A dense layer is a convolution whose kernel covers its whole input.

A classifier flattens its last feature map (C, H, W) and multiplies it with a matrix (O, C * H * W). Row o of
that matrix holds one weight for each element of the map: reshaped, it is a filter (C, H, W). Only the shape
of the weights changes, but a filter can slide. On a larger image it gives the classifier's scores at every
position, in one pass (Long et al. 2015, section 3.1).
"""

import copy
import warnings
from contextlib import suppress
from typing import Any

from minifcn.backend import Array
from minifcn.functional.operands import check_choice
from minifcn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    Layer,
    Linear,
    Sequential,
)
from minifcn.layers.base import Shape
from minifcn.layers.containers import Stack
from minifcn.layers.joints import joint_shape
from minifcn.layers.visitor import Visitor
from minifcn.layers.window import WindowLayer

ORDERS = "CHW", "HWC"
"""How a map may have been flattened: by channel first or last."""


def _check_image_shape(input_shape: Shape) -> tuple[int, int, int]:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (C, H, W), got {input_shape}")
    channels, height, width = input_shape
    return channels, height, width


def dense_to_conv(
    linear: Linear, input_shape: Shape, order: str = "CHW", *, padding: tuple[int, int] = (0, 0)
) -> Conv2d:
    """Turn a dense layer on flattened maps into the convolution that does the same.

    Args:
        linear: Dense layer with O outputs and C * H * W inputs.
        input_shape: (C, H, W) of the map that was flattened.
        order: How it was flattened: `"CHW"` (PyTorch, Caffe, `minifcn.layers.Flatten`) or `"HWC"` (Keras,
            TensorFlow).
        padding: Padding of the convolution, (rows, columns).

    Returns:
        A convolution with weights (O, C, H, W), copied: `linear.weight.reshape(O, C, H, W)`.

    Raises:
        ValueError: If the sizes do not agree, or the order is unknown.

    Example:
        >>> import numpy as np
        >>> linear = Linear(2 * 3 * 4, 5)
        >>> x = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype("float32")
        >>> dense, conv = linear(x.reshape(1, -1)), dense_to_conv(linear, (2, 3, 4))(x)
        >>> conv.shape, bool(np.allclose(dense, conv[:, :, 0, 0], atol=1e-6))
        ((1, 5, 1, 1), True)
    """
    channels, height, width = _check_image_shape(input_shape)
    if linear.in_features != channels * height * width:
        raise ValueError(
            f"{linear!r} does not take a flattened map of {channels} x {height} x {width} = "
            f"{channels * height * width} elements"
        )
    outputs = linear.out_features
    weight = linear.weight.data
    check_choice(order, "order", ORDERS)
    if order == "CHW":
        filters = weight.reshape(outputs, channels, height, width)  # (O, C * H * W) -> (O, C, H, W)
    else:
        # (O, H * W * C) -> (O, H, W, C) -> (O, C, H, W)
        filters = weight.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)
    conv = Conv2d(channels, outputs, (height, width), padding=padding, bias=bool(linear.bias), init="zeros")
    _transplant(linear, conv, filters)
    return conv


def conv_to_dense(conv: Conv2d, order: str = "CHW") -> Linear:
    """Turn a convolution back into the dense layer on a flattened map of the kernel's size.

    The inverse of `dense_to_conv`.

    Args:
        conv: Convolution without stride, dilation or groups; its padding is ignored.
        order: As in `dense_to_conv`.

    Raises:
        ValueError: If the convolution is not a dense layer, or the order is unknown.

    Example:
        >>> import numpy as np
        >>> linear = Linear(24, 5)
        >>> back = conv_to_dense(dense_to_conv(linear, (2, 3, 4)))
        >>> bool((back.weight.data == linear.weight.data).all())
        True
    """
    if (conv.geometry.groups, conv.geometry.stride, conv.geometry.dilation) != (1, (1, 1), (1, 1)):
        raise ValueError(f"{conv!r} has stride, dilation or groups: it is not a dense layer")
    check_choice(order, "order", ORDERS)
    weight = conv.weight.data if order == "CHW" else conv.weight.data.transpose(0, 2, 3, 1)
    linear = Linear(weight[0].size, len(weight), bias=bool(conv.bias), init="zeros")
    _transplant(conv, linear, weight.reshape(len(weight), -1))  # (O, C, H, W) -> (O, C * H * W)
    return linear


def _transplant(old: Conv2d | Linear, new: Conv2d | Linear, weight: Array) -> None:
    """Give a new layer a copy of these weights, and the other attributes of the old layer's parameters."""
    new.weight = copy.copy(old.weight)
    new.weight.data = weight.copy()
    new.bias = copy.deepcopy(old.bias)
    new.training = old.training


def convolutionalize(model: Sequential | Graph, input_shape: Shape, *, same_size: bool = False) -> Any:
    """Turn a classifier into a fully convolutional network that gives its scores at every position.

    The first dense layer after the maps are flattened gets a kernel as large as those maps, further ones get
    1 x 1 kernels, `BatchNorm1d` becomes `BatchNorm2d`, a global average becomes an average over a window of
    the trained size, and `Flatten` is left out. All other layers (dropout, too) stay as they are, and so does
    a global average that only feeds a gate, a factor (C, 1, 1) of a larger map, as in squeeze-and-excitation.
    Weights are copied.

    On the trained size the scores (N, classes, 1, 1) are the classifier's. On a larger image of a network
    without padding, the scores at each position are those of the crop that the position sees. With padding
    they are not: a crop's borders see zeros where the large image has pixels, so the scores differ wherever
    a receptive field extends over the edge of the crop. They are not either where a pool with `ceil_mode`
    rounds the size of its output up at the trained size: its last window reaches past the end of the crop's
    map, and on the large image it sees further pixels there. If such a pool is all that stands in the way,
    because no layer pads, there is a warning; networks with padding give none.

    Args:
        model: A `Sequential` or a `Graph` that contains `Flatten` and `Linear`, or a global average.
        input_shape: (C, H, W) of the images that the classifier was made for.
        same_size: Pad the first dense kernel by half its size, so that the map of scores is as large as the
            last feature map (one larger if the kernel is even), and even small images have one.

    Returns:
        A new `Sequential` or `Graph`; the parts keep their names.

    Raises:
        TypeError: If the model is neither.
        ValueError: If the model does not take such images, or a dense layer has a shape that does not fit.

    Warns:
        UserWarning: With the name of a pool that rounds up at the trained size, in a network without padding.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import MaxPool2d, ReLU
        >>> classifier = Sequential(Conv2d(1, 4, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(36, 10))
        >>> fully_convolutional = convolutionalize(classifier, (1, 8, 8))
        >>> fully_convolutional(np.ones((1, 1, 40, 60), np.float32)).shape
        (1, 10, 17, 27)
    """
    if not isinstance(model, Sequential | Graph):
        raise TypeError(f"model must be a Sequential or a Graph of layers, got {type(model).__name__}")
    converted, _ = convert(model, _check_image_shape(input_shape), same_size=same_size)
    windows = _Windows()
    with suppress(NotImplementedError):  # a layer of one's own pads or crops, so it counts as padding
        model.walk(windows, input_shape)
        if windows.rounded_up and not windows.padded:
            name = next(name for name, layer in model.named_layers() if layer is windows.rounded_up[0])
            warnings.warn(
                f"pool {name!r}, {windows.rounded_up[0]!r}, rounds up at the trained size {input_shape}: on "
                f"larger images its last windows see more than in a crop, so the scores differ",
                stacklevel=2,
            )
    return (Sequential() if converted is None else converted).train(model.training)


class _Windows(Visitor):
    """Follows shapes (C, H, W); finds padding, and windows that reach past the end of their map."""

    def __init__(self) -> None:
        self.padded, self.rounded_up = False, list[Layer]()

    def leaf(self, layer: Layer, x: Shape) -> Shape:
        output = layer.output_shape(x)
        if isinstance(layer, WindowLayer):
            for window, size, outputs in zip(
                (layer.geometry.rows, layer.geometry.cols), x[1:], output[1:], strict=True
            ):
                self.padded |= any(window.padding)
                if window.ceil_mode and (outputs - 1) * window.stride + window.extent > size + sum(
                    window.padding
                ):
                    self.rounded_up.append(layer)
        return output

    def join(self, kind: str, xs: tuple[Shape, ...]) -> Shape:
        return joint_shape("a joint", kind, (), xs)


def convert(
    layer: Layer, shape: Shape, *, same_size: bool, keep_average: bool = True
) -> tuple[Layer | None, Shape]:
    """Return a layer as convolutions, or `None` if it is left out, and its output shape (C, H, W).

    The output of a dense layer counts as a map (O, 1, 1), so that further dense layers follow by themselves.

    Args:
        layer: Any layer.
        shape: (C, H, W) of its input at the trained size.
        same_size: As in `convolutionalize`.
        keep_average: Whether a global average becomes a window; if not, it is left out.

    Example:
        >>> from minifcn.layers import Linear
        >>> layer, shape = convert(Linear(12, 5, rng=0), (3, 2, 2), same_size=False)
        >>> layer.kernel_size, shape
        ((2, 2), (5, 1, 1))
    """
    if not any(isinstance(part, Flatten | Linear | GlobalAvgPool2d | BatchNorm1d) for part in layer.layers()):
        return copy.deepcopy(layer), layer.output_shape(shape)
    if isinstance(layer, Flatten):
        return None, shape
    if isinstance(layer, Linear):
        _, height, width = shape
        padding = (height // 2, width // 2) if same_size else (0, 0)
        return dense_to_conv(layer, shape, padding=padding), (layer.out_features, 1, 1)
    if isinstance(layer, BatchNorm1d):  # the same arrays and settings, for maps
        norm = BatchNorm2d(**layer.config())
        vars(norm).update(vars(copy.deepcopy(layer)))
        return norm, norm.output_shape(shape)
    if isinstance(layer, GlobalAvgPool2d):
        return AvgPool2d((shape[1], shape[2]), 1) if keep_average else None, (shape[0], 1, 1)
    if not isinstance(layer, Stack):
        with suppress(ValueError):
            channels, *size = layer.output_shape(shape)
            if size and (size != [1, 1] or shape[1:] == (1, 1)):  # a map of a map: what is inside is a gate
                return copy.deepcopy(layer), (channels, *size)
        raise ValueError(
            f"the dense layers or global averages inside {type(layer).__name__}, whose output is no map, "
            f"cannot be converted: a Sequential or a Graph may hold them instead"
        )
    gates = _gates(layer)
    converted: dict[Layer, Layer | None] = {}

    def convert_part(part: Layer, shape: Shape) -> Shape:
        if part in gates:
            converted[part] = copy.deepcopy(part)
            return part.output_shape(shape)
        converted[part], shape = convert(part, shape, same_size=same_size, keep_average=keep_average)
        return shape

    shape = layer.follow(shape, convert_part, joint_shape)
    return layer.replaced({name: converted[part] for name, part in layer.children()}), shape


def _gates(stack: Stack) -> set[Layer]:
    """Return the layers that the output needs only for factors which see the whole input."""
    steps, whole = stack.steps(), stack.whole_input()
    needed = {steps[-1][0]} if steps else set()
    for name, kind, reads in reversed(steps):
        if name in needed:
            gated = kind == "multiply" and not whole[name]
            needed.update(read for read in reads if not (gated and whole[read]))
    return {layer for _, name, layer in stack.readers() if name not in needed}
