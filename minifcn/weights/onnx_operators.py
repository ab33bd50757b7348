"""Operators of ONNX as layers: a function for each, in a table.

A function gets the network under construction and a call, adds a layer or a joint, and returns its output. It
raises `ValueError` for what layers cannot do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minifcn import layers
from minifcn.backend import Array
from minifcn.layers import Layer, Parameter
from minifcn.weights.onnx_network import NO_PADS, Call, Flow, Network, Value, slices
from minifcn.weights.tensors import check_finite

_FLOATS = 1, 10, 11, 16  # data types
_SPATIAL = {"CHW": (2, 3), "HWC": (1, 2)}


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
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
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
    rows, cols = _SPATIAL[x.order]
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


# Shapes


def _reshape(network: Network, call: Call) -> Flow:
    x, (batch, *rest) = call.flow(), call.integers(1, "shape") or ()
    here = x.onnx_shape
    if not call.flag("allowzero"):
        rest = [here[i] if side == 0 and i < len(here) else side for i, side in enumerate(rest)]
    known = math.prod(side for side in rest if side != -1)
    size = math.prod(x.shape)
    if batch not in (0, -1, network.batch) or known < 1 or size % known:
        raise ValueError(f"it makes {(batch, *rest)} of {('N', *here)}")
    return _viewed(network, x, tuple(size // known if side == -1 else side for side in rest))


def _viewed(network: Network, x: Flow, target: tuple[int, ...]) -> Flow:
    """Give a value another shape in ONNX: flatten it, or note how its elements are grouped."""
    plain, channels = replace(x, view=()), x.shape[0]
    if target == x.onnx_shape:
        return x
    if target == plain.onnx_shape:
        return plain
    if target and min(target) > 0 and math.prod(target) == math.prod(x.shape):
        if target in ((channels, 1, 1), (1, 1, channels)):  # a map of one pixel
            pixel = network.unflattened(plain) if len(x.shape) == 1 else plain
            return replace(pixel, order="CHW" if target[0] == channels else "HWC")
        if len(target) == 1:
            return network.flatten(plain)
        groups, rest = target[0], channels // target[0]
        fits = len(target) == 2 or target == (groups, rest, *x.shape[1:])
        if x.order == "CHW" and channels % groups == 0 and fits:
            return replace(x, view=target)
    raise ValueError(f"it makes {('N', *target)} of {('N', *x.onnx_shape)}")


def _flatten(network: Network, call: Call) -> Flow:
    x = call.flow()
    if call.integer("axis", 1) not in (1, -len(x.onnx_shape)):
        raise ValueError("it joins images")
    return _viewed(network, x, (math.prod(x.shape),))


def _squeeze(network: Network, call: Call) -> Flow:
    x, axes = call.flow(), call.integers(1, "axes") or ()
    sides = dict(enumerate(x.onnx_shape, 1))
    taken = [sides.pop(axis % (len(x.onnx_shape) + 1), 0) for axis in axes]
    if not taken or max(taken) > 1 or min(taken) < 1:
        raise ValueError(f"it takes the axes {axes} out of {('N', *x.onnx_shape)}")
    return _viewed(network, x, tuple(sides.values()))


def _unsqueeze(network: Network, call: Call) -> Flow:
    x, axes = call.flow(), call.integers(1, "axes") or ()
    target = [0, *x.onnx_shape]
    for axis in sorted(axis % (len(target) + len(axes)) for axis in axes):
        target.insert(axis, 1)
    if target[0]:
        raise ValueError("it adds an axis before the images")
    return _viewed(network, x, tuple(target[1:]))


def _mean(network: Network, call: Call) -> Flow:
    x, axes = call.flow(), call.integers(1, "axes") or ()
    if len(x.shape) != 3 or {axis % 4 for axis in axes} != {*_SPATIAL[x.order]}:
        raise ValueError("it does not average over rows and columns")
    y = network.layer(replace(x, order="CHW"), layers.GlobalAvgPool2d())
    return replace(y, order=x.order) if call.flag("keepdims", 1) else network.flatten(y)


def _transpose(network: Network, call: Call) -> Flow:
    x, perm = call.flow(), tuple(call.attributes.get("perm", ()))
    if perm == tuple(range(len(x.onnx_shape) + 1)):
        return x
    if perm == (0, 2, 1, 3, 4) and len(x.view) == 4:
        groups, rest, *size = x.view
        shuffled = network.layer(replace(x, view=()), layers.ChannelShuffle(groups))
        return replace(shuffled, view=(rest, groups, *size))
    moves = {("CHW", (0, 2, 3, 1)): "HWC", ("HWC", (0, 3, 1, 2)): "CHW"}
    if len(x.shape) != 3 or x.view or (x.order, perm) not in moves:
        raise ValueError(f"it reorders the axes as {perm}")
    return replace(x, order=moves[x.order, perm])


def _is_channels(x: Flow, axis: int) -> bool:
    """Return whether an axis in ONNX is that of the channels."""
    rank = len(x.onnx_shape) + 1
    return axis % rank == (rank - 1 if x.order == "HWC" else 1)


def _concat(network: Network, call: Call) -> Flow:
    if not _is_channels(call.flow(), call.integer("axis")):
        raise ValueError("it does not join channels")
    return network.joint("concat", call.inputs)


def _slice(network: Network, call: Call) -> Flow:
    """Keep some channels."""
    x, (channels, *_) = call.flow(), call.flow().shape
    for axis, kept in slices(call):
        if not _is_channels(x, axis) or kept.step != 1:
            raise ValueError("it does not keep neighbouring channels")
        start, stop, _ = kept.indices(channels)
        y = network.layer(replace(x, order="CHW"), layers.ChannelSlice(start, stop))
        x, channels = replace(y, order=x.order), stop - start
    return x


def _split(network: Network, call: Call) -> list[Flow]:
    """Divide the channels."""
    x, (channels, *_) = call.flow(), call.flow().shape
    sizes = call.integers(1, "split") or (-(-channels // call.outputs),) * call.outputs
    ends = np.minimum(np.cumsum(sizes), channels).tolist()
    axis = call.integer("axis")
    each = [
        Call("Slice", [x, [start], [end], [axis]], {}) for start, end in zip([0, *ends], ends, strict=False)
    ]
    return [_slice(network, one) for one in each]


def _resize(network: Network, call: Call) -> Flow:
    x, mode = call.flow(), call.attributes.get("mode", "nearest")
    place = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    scales, sizes = call.constant(2), call.constant(3)
    nearest = (mode, place, call.attributes.get("nearest_mode")) == ("nearest", "asymmetric", "floor")
    linear = mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners")
    full, channels = (scales, 1) if sizes is None else (sizes, x.shape[0])
    other = call.flag("antialias") or call.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    if not (nearest or linear) or other or "axes" in call.attributes or full[1] != channels:
        raise ValueError(f"its mode is {mode}, {place}, or it resizes more than rows and columns")
    target: Any = tuple(float(side) if sizes is None else int(side) for side in full[2:])
    how: dict[str, Any] = {"mode": "nearest" if nearest else "bilinear"}
    how["size" if scales is None or sizes is not None else "scale_factor"] = target
    y = network.layer(x, layers.Upsample(**how, align_corners=place == "align_corners"))
    if place == "pytorch_half_pixel" and 1 in y.shape[1:]:
        raise ValueError("it resizes to a single row or column")
    return y


def _shape(network: Network, call: Call) -> Array:
    x = call.input(0)
    shape = (network.batch, *x.onnx_shape) if isinstance(x, Flow) else np.shape(x)
    if isinstance(x, Flow) and x.pads != NO_PADS:
        raise ValueError("its input is padded by Pad")
    return np.array(shape[call.integer("start") : call.attributes.get("end")], np.int64)


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
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Div": _arithmetic,
    "Dropout": _dropout,
    "Flatten": _flatten,
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
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Sigmoid": _activation(lambda call: layers.Sigmoid()),
    "Squeeze": _squeeze,
    "Sub": _arithmetic,
    "Sum": lambda network, call: network.joint("add", call.inputs),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""How each operator becomes a layer or a joint, where an input depends on the images."""
