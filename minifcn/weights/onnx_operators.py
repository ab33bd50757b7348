"""Operators of ONNX as layers: a function for each, in a table.

A function gets the network under construction and a call, adds a layer or a joint, and returns its output. It
raises `ValueError` for what layers cannot do.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minifcn import layers
from minifcn.backend import Array
from minifcn.layers import Layer, Parameter
from minifcn.weights import onnx_shapes
from minifcn.weights.onnx_network import NO_PADS, SPATIAL, Call, Flow, Network, Value
from minifcn.weights.tensors import check_finite

_FLOATS = 1, 10, 11, 16  # data types


# Windows


def _window(network: Network, call: Call, x: Flow, kernel: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of a layer for its window; padding includes that of a `Pad` before."""
    if len(kernel) != 2 or len(x.shape) != 3:
        raise ValueError("it has not two dimensions")
    stride = call.attributes.get("strides", [1, 1])
    dilation = call.attributes.get("dilations", [1, 1])
    pads = call.attributes.get("pads", [0, 0, 0, 0])
    auto = call.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0, 0, 0, 0]
        sizes = [side + sum(added) for side, added in zip(x.shape[1:], x.pads, strict=True)]
        for axis, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
            total = (-(-size // s) - 1) * s + (k - 1) * d + 1 - size
            if total < -1:  # onnxruntime begins with the second element or later, TensorFlow with the first
                raise ValueError(f"its stride {s} is larger than its window, with padding {auto}")
            total = max(total, 0)
            less, more = total // 2, total - total // 2
            pads[axis], pads[axis + 2] = (less, more) if auto == "SAME_UPPER" else (more, less)
            if s > 1:
                network.notices["padding SAME is fixed to what it is for images of the trained size"] = None
    elif auto == "VALID":
        pads = [0, 0, 0, 0]
    before = (pads[0], pads[2]), (pads[1], pads[3])
    padding = [[a + c, b + d] for (a, b), (c, d) in zip(before, x.pads, strict=True)]
    return {"kernel_size": [*kernel], "stride": stride, "padding": padding, "dilation": dilation}


def _convolution(network: Network, call: Call) -> Flow:
    x, groups, shape = call.flow(), call.integer("group", 1), np.shape(call.constant(1))
    if len(shape) != 4:
        raise ValueError("it has not two dimensions")
    options = _window(network, call, x, shape[2:]) | {"groups": groups, "init": "zeros"}
    options["bias"] = call.constant(2) is not None
    conv: Any
    if call.op == "Conv":
        conv = layers.Conv2d(shape[1] * groups, shape[0], **options)
    else:
        if x.pads != NO_PADS:  # its own padding takes rows and columns away
            raise ValueError("its input is padded by Pad")
        if "output_shape" in call.attributes or call.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            raise ValueError("its padding follows from the size")
        options["output_padding"] = call.attributes.get("output_padding", [0, 0])
        conv = layers.ConvTranspose2d(shape[0], shape[1] * groups, **options)
    conv.weight.data[...] = call.weights(1, shape)
    if conv.bias is not None:
        conv.bias.data[...] = call.weights(2, conv.bias.data.shape)
    return network.layer(replace(x, pads=NO_PADS), conv)


def _pool(network: Network, call: Call) -> Flow:
    x = call.flow()
    options = _window(network, call, x, call.attributes["kernel_shape"])
    if any(side != 1 for side in options.pop("dilation")):
        raise ValueError("it has dilations")
    own_pads = options["padding"] != [[*sides] for sides in x.pads]
    if call.op == "MaxPool":
        kind: Any = layers.MaxPool2d
        positive = isinstance(network.made_by(x), layers.ReLU | layers.ReLU6)
        if x.pads != NO_PADS and not positive:
            raise ValueError("Pad before it may win")
    else:
        kind = layers.AvgPool2d
        counted = call.flag("count_include_pad")
        if own_pads and x.pads != NO_PADS and not counted:
            raise ValueError("its own padding does not count in its averages, and that of Pad before does")
        options["count_include_pad"] = counted or not own_pads
        if options["kernel_size"] == [*x.shape[1:]] and not any(map(any, options["padding"])):
            return network.layer(x, layers.GlobalAvgPool2d())
    pool = kind(**options, ceil_mode=call.flag("ceil_mode"))
    return network.layer(replace(x, pads=NO_PADS), pool)


def _pad(network: Network, call: Call) -> Flow:
    x = call.flow()
    given, axes = call.integers(1, "pads") or (), call.integers(3)
    value, pads = call.constant(2, "value"), [0] * 8
    for i, axis in enumerate(range(4) if axes is None else axes):
        pads[axis % 4], pads[axis % 4 + 4] = given[i], given[i + len(given) // 2]
    rows, cols = SPATIAL[x.order]
    sides = (pads[rows], pads[rows + 4]), (pads[cols], pads[cols + 4])
    zeros = call.attributes.get("mode", "constant") == "constant" and not np.any(value or 0)
    if len(x.shape) != 3 or not zeros or min(pads) < 0 or sum(pads) != sum(map(sum, sides)):
        raise ValueError("it does not add zeros around maps")
    (a, b), (c, d) = x.pads
    (e, f), (g, h) = sides
    return replace(x, pads=((a + e, b + f), (c + g, d + h)))


# Dense layers, and numbers for each channel


def _linear(network: Network, call: Call) -> Flow:
    """Add a dense layer; weights of a map that was flattened with its channels last are brought in order."""
    x, shape, transposed = call.flow(), np.shape(call.constant(1)), call.flag("transB")
    if len(x.shape) != 1 or len(shape) != 2 or call.flag("transA"):
        raise ValueError(f"it does not multiply vectors (N, features) but {x.onnx_shape}")
    outputs, features = shape if transposed else shape[::-1]
    bias = call.constant(2)
    linear = layers.Linear(features, outputs, bias is not None, init="zeros")
    weight = call.weights(1, shape)
    weight = call.number("alpha", 1.0) * (weight if transposed else weight.T)
    if x.order == "HWC":
        channels, height, width = x.before
        maps = weight.reshape(-1, height, width, channels)  # (O, H * W * C) -> (O, H, W, C)
        weight = maps.transpose(0, 3, 1, 2).reshape(len(weight), -1)  # -> (O, C * H * W)
    linear.weight.data[...] = weight
    if linear.bias is not None:
        if np.size(bias) not in (1, outputs):
            raise ValueError(f"its input 2 has {np.size(bias):,} numbers, expected {outputs}")
        linear.bias.data[...] = call.number("beta", 1.0) * call.weights(2, np.shape(bias)).reshape(-1)
    return network.layer(replace(x, order="CHW"), linear)


def _per_channel(values: Array, x: Flow) -> Array:
    """Return (C,) values, in float64, that are added to, or multiplied with, a map or a vector."""
    rank = len(x.shape) + 1
    channel = 1 if x.order == "CHW" else 3
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    several = full.size > 1 and full.shape[channel:][:1] != (full.size,)
    if full.ndim > rank or several or full.size not in (1, x.shape[0]):
        raise ValueError(f"a constant of shape {values.shape} has not one value for each channel")
    return np.broadcast_to(full.reshape(-1).astype(np.float64), x.shape[:1])


def _affine(network: Network, x: Flow, scale: Array, shift: Array) -> Flow:
    """Scale and shift each channel, in the layer before if it can do that, and nobody else reads it."""
    if x.view or x.pads != NO_PADS:
        raise ValueError("its input is reshaped or padded")
    layer = network.writable(x, layers.Conv2d, layers.Linear, layers.BatchNorm2d, layers.GroupNorm)
    if layer is None:
        layer = (layers.BatchNorm1d if len(x.shape) == 1 else layers.BatchNorm2d)(x.shape[0], eps=0.0)
        x = replace(x, name=network.layer(replace(x, order="CHW"), layer).name)
    weight, bias = layer.weight.data, 0 if layer.bias is None else layer.bias.data
    if not (scale == 1).all():
        network.fold(weight.size)
        layer.weight.data = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
    layer.bias = layer.bias or Parameter(shift)
    layer.bias.data = (bias * scale + shift).astype(np.float32)
    for parameter in (layer.weight, layer.bias):
        check_finite("its result", parameter.data)
    return x


def _arithmetic(network: Network, call: Call) -> Flow:
    """Join two values, or scale or shift one by a constant."""
    a, b = call.inputs
    if isinstance(a, Flow) and isinstance(b, Flow):
        if call.op not in ("Add", "Mul"):
            raise ValueError("both inputs depend on the images")
        return network.joint("add" if call.op == "Add" else "multiply", [a, b])
    first = isinstance(a, Flow)
    x, values = (a, b) if first else (b, a)
    given = _per_channel(np.asarray(values), x)
    one, zero = np.ones_like(given), np.zeros_like(given)
    if call.op == "Div" and not first:
        raise ValueError("it divides by what depends on the images")
    if call.op in ("Mul", "Div"):
        return _affine(network, x, given if call.op == "Mul" else one / given, zero)
    sign = -one if call.op == "Sub" else one
    return _affine(network, x, one, sign * given) if first else _affine(network, x, sign, given)


def _batch_norm(network: Network, call: Call) -> Flow:
    x = call.flow()
    if call.flag("training_mode"):
        raise ValueError("it is in training mode")
    kind = layers.BatchNorm1d if len(x.shape) == 1 else layers.BatchNorm2d
    norm = kind(x.shape[0], eps=call.number("epsilon", 1e-5), momentum=1 - call.number("momentum", 0.9))
    arrays: tuple[Any, ...] = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for number, array in enumerate(arrays, 1):
        array.data[...] = call.weights(number, x.shape[:1])
    if norm.running_var.data.min() <= -norm.eps:
        raise ValueError("its variances are negative")
    return network.layer(x, norm)


def _instance_norm(network: Network, call: Call) -> Flow:
    x = call.flow()
    groups, eps = x.onnx_shape[0], call.number("epsilon", 1e-5)
    norm = layers.GroupNorm(groups, x.shape[0], eps=eps)
    for number, parameter in enumerate((norm.weight, norm.bias), 1):
        parameter.data = np.repeat(call.weights(number, (groups,)), x.shape[0] // groups)
    if x.view and not (np.ptp(norm.weight.data) == np.ptp(norm.bias.data) == 0):
        raise ValueError("its groups have different weights")
    return replace(network.layer(replace(x, view=()), norm), view=x.view)


def _prelu(network: Network, call: Call) -> Flow:
    x, slope = call.flow(), call.constant(1)
    each = _per_channel(np.asarray(slope), x)
    prelu = layers.PReLU(1 if np.size(slope) == 1 else len(each))
    prelu.weight.data[...] = each[: len(prelu.weight.data)]
    check_finite("input 1", prelu.weight.data)
    return network.layer(x, prelu)


# Activations and the rest


def _clip(network: Network, call: Call) -> Flow:
    low, high = (
        None if limit is None or abs(float(limit)) > 1e30 else float(limit)
        for limit in (call.constant(1, "min"), call.constant(2, "max"))
    )
    if (low, high) == (None, None):
        return call.flow()
    if low == 0 and high is None:
        return _relu(network, call)
    if (low, high) == (0, 6):
        return network.layer(call.flow(), layers.ReLU6())
    return network.layer(call.flow(), layers.Hardtanh(low, high))


def _cast(network: Network, call: Call) -> Flow:
    if call.integer("to") not in _FLOATS:
        raise ValueError(f"it makes other numbers (data type {call.integer('to')})")
    return call.flow()


def _hard_sigmoid(network: Network, call: Call) -> Flow:
    x, alpha, beta = call.flow(), call.number("alpha", 0.2), call.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return network.layer(x, layers.Hardsigmoid())
    line = _affine(network, x, np.full(x.shape[0], alpha), np.full(x.shape[0], beta))
    return network.layer(line, layers.Hardtanh(0.0, 1.0))


def _dropout(network: Network, call: Call) -> Flow:
    ratio = call.constant(1, "ratio")
    return network.layer(call.flow(), layers.Dropout(0.5 if ratio is None else float(ratio), rng=0))


def _local_norm(network: Network, call: Call) -> Flow:
    alpha, beta, bias = call.number("alpha", 1e-4), call.number("beta", 0.75), call.number("bias", 1.0)
    return network.layer(call.flow(), layers.LocalResponseNorm(call.integer("size"), alpha, beta, bias))


def _relu(network: Network, call: Call) -> Flow:
    x = call.flow()
    made_here = network.writable(x, layers.Conv2d, layers.Linear, layers.BatchNorm2d)
    return network.layer(x, layers.ReLU(inplace=made_here is not None))


def _activation(make: Callable[[Call], Layer]) -> Callable[[Network, Call], Flow]:
    return lambda network, call: network.layer(call.flow(), make(call))


OPERATORS: dict[str, Callable[[Network, Call], Value | list[Flow]]] = {
    "Add": _arithmetic,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": onnx_shapes.concat,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Div": _arithmetic,
    "Dropout": _dropout,
    "Flatten": onnx_shapes.flatten,
    "Gemm": _linear,
    "GlobalAveragePool": _activation(lambda call: layers.GlobalAvgPool2d()),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation(lambda call: layers.Hardswish()),
    "Identity": lambda network, call: call.flow(),
    "InstanceNormalization": _instance_norm,
    "LRN": _local_norm,
    "LeakyRelu": _activation(lambda call: layers.LeakyReLU(call.number("alpha", 0.01))),
    "MatMul": _linear,
    "MaxPool": _pool,
    "Mul": _arithmetic,
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": onnx_shapes.mean,
    "Relu": _relu,
    "Reshape": onnx_shapes.reshape,
    "Resize": onnx_shapes.resize,
    "Shape": onnx_shapes.shape,
    "Slice": onnx_shapes.keep_channels,
    "Split": onnx_shapes.split,
    "Sigmoid": _activation(lambda call: layers.Sigmoid()),
    "Squeeze": onnx_shapes.squeeze,
    "Sub": _arithmetic,
    "Sum": lambda network, call: network.joint("add", call.inputs),
    "Transpose": onnx_shapes.transpose,
    "Unsqueeze": onnx_shapes.unsqueeze,
}
"""How each operator becomes a layer or a joint, where an input depends on the images."""
