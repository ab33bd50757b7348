"""Operators of ONNX that change the shape of a value, take parts of it, or join values."""

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from minifcn import layers
from minifcn.backend import Array
from minifcn.weights.onnx_network import NO_PADS, SPATIAL, Call, Flow, Network, slices


def reshape(network: Network, call: Call) -> Flow:
    """Give a value the shape of an input, in which 0 and -1 stand for what is there and for the rest."""
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


def flatten(network: Network, call: Call) -> Flow:
    """Make vectors."""
    x = call.flow()
    if call.integer("axis", 1) not in (1, -len(x.onnx_shape)):
        raise ValueError("it joins images")
    return _viewed(network, x, (math.prod(x.shape),))


def squeeze(network: Network, call: Call) -> Flow:
    """Leave out axes of length 1."""
    x, axes = call.flow(), call.integers(1, "axes") or ()
    sides = dict(enumerate(x.onnx_shape, 1))
    taken = [sides.pop(axis % (len(x.onnx_shape) + 1), 0) for axis in axes]
    if not taken or max(taken) > 1 or min(taken) < 1:
        raise ValueError(f"it takes the axes {axes} out of {('N', *x.onnx_shape)}")
    return _viewed(network, x, tuple(sides.values()))


def unsqueeze(network: Network, call: Call) -> Flow:
    """Add axes of length 1."""
    x, axes = call.flow(), call.integers(1, "axes") or ()
    target = [0, *x.onnx_shape]
    for axis in sorted(axis % (len(target) + len(axes)) for axis in axes):
        target.insert(axis, 1)
    if target[0]:
        raise ValueError("it adds an axis before the images")
    return _viewed(network, x, tuple(target[1:]))


def mean(network: Network, call: Call) -> Flow:
    """Average over rows and columns."""
    x, axes = call.flow(), call.integers(1, "axes") or ()
    if len(x.shape) != 3 or {axis % 4 for axis in axes} != {*SPATIAL[x.order]}:
        raise ValueError("it does not average over rows and columns")
    y = network.layer(replace(x, order="CHW"), layers.GlobalAvgPool2d())
    return replace(y, order=x.order) if call.flag("keepdims", 1) else network.flatten(y)


def transpose(network: Network, call: Call) -> Flow:
    """Note another order of the axes, or shuffle channels."""
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


def is_channels(x: Flow, axis: int) -> bool:
    """Return whether an axis in ONNX is that of the channels, or of the features of a vector."""
    rank = len(x.onnx_shape) + 1
    return axis % rank == (rank - 1 if x.order == "HWC" else 1)


def concat(network: Network, call: Call) -> Flow:
    """Join values along their channels."""
    if not is_channels(call.flow(), call.integer("axis")):
        raise ValueError("it does not join channels")
    return network.joint("concat", call.inputs)


def keep_channels(network: Network, call: Call) -> Flow:
    """Keep some neighbouring channels."""
    x = call.flow()
    for axis, kept in slices(call):
        if not is_channels(x, axis) or kept.step != 1:
            raise ValueError("it does not keep neighbouring channels")
        x = _slice(network, x, *kept.indices(x.shape[0])[:2])
    return x


def split(network: Network, call: Call) -> list[Flow]:
    """Divide the channels."""
    x = call.flow()
    channels = x.shape[0]
    sizes = call.integers(1, "split") or (-(-channels // call.outputs),) * call.outputs
    ends = [min(end, channels) for end in accumulate(sizes)]
    if not is_channels(x, call.integer("axis")) or ends[-1] != channels:
        raise ValueError("it does not divide channels")
    return [_slice(network, x, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def _slice(network: Network, x: Flow, start: int, stop: int) -> Flow:
    y = network.layer(replace(x, order="CHW"), layers.ChannelSlice(start, stop))
    return replace(y, order=x.order)


def resize(network: Network, call: Call) -> Flow:
    """Add a layer that resizes to a fixed size or by fixed factors."""
    x, mode = call.flow(), call.attributes.get("mode", "nearest")
    place = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    scales, sizes = call.constant(2), call.constant(3)
    nearest = (mode, place, call.attributes.get("nearest_mode")) == ("nearest", "asymmetric", "floor")
    linear = mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners")
    full, channels = (scales, 1) if sizes is None else (sizes, x.shape[0])
    other = call.flag("antialias") or call.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    other = other or "axes" in call.attributes or len(full) != 4
    if not (nearest or linear) or other or full[1] != channels:
        raise ValueError(f"its mode is {mode}, {place}, or it resizes more than rows and columns")
    target: Any = tuple(float(side) if sizes is None else int(side) for side in full[2:])
    how: dict[str, Any] = {"mode": "nearest" if nearest else "bilinear"}
    how["size" if scales is None or sizes is not None else "scale_factor"] = target
    y = network.layer(x, layers.Upsample(**how, align_corners=place == "align_corners"))
    if place == "pytorch_half_pixel" and 1 in y.shape[1:]:
        raise ValueError("it resizes to a single row or column")
    return y


def shape(network: Network, call: Call) -> Array:
    """Return the shape of a value, which is known."""
    x = call.flow()
    if x.pads != NO_PADS:
        raise ValueError("its input is padded by Pad")
    sides = network.batch, *x.onnx_shape
    return np.array(sides[call.integer("start") : call.attributes.get("end")], np.int64)
