"""A network that is read from an ONNX graph: its values, its layers so far, and what is computed at once.

A value is either a constant, an array, or depends on the images: then it is the output of a layer or joint,
and its shape is known, because the size of the images is.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from minifcn import layers
from minifcn.backend import Array
from minifcn.dense import dense_to_conv
from minifcn.geometry import Sides
from minifcn.layers import Layer
from minifcn.layers.containers import INPUT
from minifcn.layers.joints import joint_shape
from minifcn.weights.tensors import check_finite

_MAX_ELEMENTS = 10**9  # of a map of one image, and of a constant that is one number repeated
_MAX_FOLDED = 10**8  # elements of all constants that are computed, in total
_MAX_EXCITING = 10  # layers of a squeeze-and-excitation
_MAX_INTEGERS = 1000  # of a shape, axes and the like
_VIEWS = "Constant", "ConstantOfShape", "Identity", "Shape", "Squeeze", "Transpose", "Unsqueeze"
"""Operators on constants that take no memory."""

NO_PADS: Sides = ((0, 0), (0, 0))
SPATIAL = {"CHW": (2, 3), "HWC": (1, 2)}
"""The axes of rows and columns in ONNX."""


@dataclass(frozen=True)
class Flow:
    """A value that depends on the images.

    Attributes:
        name: Of the node that makes it, or "input".
        shape: Of one item, as layers have it: (C, H, W) or (features,).
        order: "HWC" if ONNX has the channels last here, or had when it flattened a map to this vector.
        pads: ((top, bottom), (left, right)) of zeros around it, which the next layer adds.
        view: Shape in ONNX if it is reshaped, as (groups, ...) before a normalization or a shuffle.
        before: Shape of the map that was flattened to this vector in the order "HWC".
    """

    name: str
    shape: tuple[int, ...]
    order: str = "CHW"
    pads: Sides = NO_PADS
    view: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    @property
    def onnx_shape(self) -> tuple[int, ...]:
        """Shape of one item in ONNX."""
        here = (*self.shape[1:], self.shape[0]) if self.order == "HWC" else self.shape
        return self.view or here


Value: TypeAlias = Flow | Array | None


@dataclass(frozen=True)
class Call:
    """A node of ONNX with the values of its inputs; those that are left out are `None`."""

    op: str
    inputs: Sequence[Any]
    attributes: dict[str, Any]
    outputs: int = 1

    def input(self, number: int) -> Any:
        """Return an input, or `None` if there is none."""
        return self.inputs[number] if number < len(self.inputs) else None

    def flow(self) -> Flow:
        """Return the first input, which must depend on the images."""
        x = self.input(0)
        if not isinstance(x, Flow):
            raise ValueError("its first input is a constant")
        return x

    def constant(self, number: int, attribute: str = "") -> Any:
        """Return an input as an array, or the attribute that older versions have instead, or `None`."""
        value = self.input(number)
        if value is None:
            return self.attributes.get(attribute)
        if isinstance(value, Flow):
            raise ValueError(f"its input {number} depends on the images")
        return value

    def integers(self, number: int, attribute: str = "") -> tuple[int, ...] | None:
        """Return `constant` as integers, which must be few, or `None`."""
        values = self.constant(number, attribute)
        if values is None:
            return None
        if np.size(values) > _MAX_INTEGERS:
            raise ValueError(f"its input {number} has {np.size(values):,} numbers")
        return tuple(int(value) for value in np.reshape(values, -1))

    def weights(self, number: int, shape: tuple[int, ...]) -> Array:
        """Return an input as weights in float32, which must have this shape and be finite."""
        values = self.constant(number)
        if np.shape(values) != shape:  # before they are copied
            raise ValueError(f"its input {number} has the shape {np.shape(values)}, expected {shape}")
        array = np.asarray(values, np.float32)
        check_finite(f"input {number}", array)
        return array

    def integer(self, name: str, default: int = 0) -> int:
        """Return an attribute that is an integer."""
        return int(self.attributes.get(name, default))

    def flag(self, name: str, default: int = 0) -> bool:
        """Return an attribute that is 0 or 1."""
        value = self.attributes.get(name, default)
        if value not in (0, 1):
            raise ValueError(f"{name} is {value}, expected 0 or 1")
        return bool(value)

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        return float(self.attributes.get(name, default))


class Network:
    """The nodes of a `Graph` under construction.

    Attributes:
        nodes: As `Graph` takes them.
        batch: What the file says about the number of images, -1 if it is free.
        notices: What was changed.
        opset: Version of the operators; they have changed their defaults.
    """

    opset = 13

    def __init__(self, batch: int):
        self.nodes: dict[str, tuple[Any, ...]] = {}
        self._read_once: dict[str, bool] = {}
        self.batch = batch
        self.notices: dict[str, None] = {}
        self._folded = 0
        self._counts: Counter[str] = Counter()
        self._shapes: dict[str, tuple[int, ...]] = {}

    def _add(self, kind: str, node: tuple[Any, ...], shape: tuple[int, ...], **more: Any) -> Flow:
        if math.prod(shape) > _MAX_ELEMENTS:
            raise ValueError(f"it makes {math.prod(shape):,} elements, expected {_MAX_ELEMENTS:,} at most")
        self._counts[kind] += 1
        name = f"{kind}_{self._counts[kind]}"
        self.nodes[name], self._shapes[name] = node, shape
        return Flow(name, shape, **more)

    def layer(self, x: Flow, layer: Layer) -> Flow:
        """Add a layer that reads x."""
        same = isinstance(layer, layers.Activation | layers.Dropout)
        if not same and (x.order == "HWC" or x.view):
            raise ValueError("its input is not in the order (N, C, H, W)")
        if x.pads != NO_PADS:
            raise ValueError("its input is padded by Pad")
        more = {"order": x.order, "view": x.view, "before": x.before} if same else {}
        shape = layer.output_shape(x.shape)
        return self._add(type(layer).__name__.lower(), (layer, x.name), shape, **more)

    def joint(self, kind: str, xs: Sequence[Value]) -> Flow:
        """Add a joint that reads several values."""
        flows = [x for x in xs if isinstance(x, Flow) and x.pads == NO_PADS and not x.view]
        layouts = {(x.order, x.before) for x in flows}
        order, before = layouts.pop() if flows else ("CHW", ())
        if len(flows) < len(xs) or layouts or (before and kind == "concat"):
            raise ValueError("its inputs are not maps of one layout")
        names = [x.name for x in flows]
        shape = joint_shape("it", kind, names, [x.shape for x in flows])
        return self._add(kind, (kind, *names), shape, order=order, before=before)

    def made_by(self, x: Flow) -> Any:
        """Return the layer or the kind of joint that makes a value; `None` for the images."""
        return None if x.name == INPUT else self.nodes[x.name][0]

    def count(self, x: Flow, readers: int) -> None:
        """Note how many nodes of ONNX read a value, which may have several names in the file."""
        self._read_once[x.name] = readers == 1 and self._read_once.get(x.name, True)

    def writable(self, x: Flow, *kinds: type[Layer]) -> Any:
        """Return the layer that makes a value, if it is of these kinds and nobody else reads the value."""
        layer = self.made_by(x)
        return layer if isinstance(layer, kinds) and self._read_once.get(x.name) else None

    def fold(self, elements: int) -> None:
        """Count elements that are computed from constants, before they are."""
        self._folded += elements
        if self._folded > _MAX_FOLDED:
            raise ValueError(f"its constants have more than {_MAX_FOLDED:,} elements")

    def unflattened(self, x: Flow) -> Flow:
        """Return the map (C, 1, 1) that a vector is in the branch of a squeeze-and-excitation.

        Since the map was flattened, there are a few activations, and dense layers, which become convolutions.
        """
        chain: list[Layer] = []
        name = x.name
        while isinstance(layer := self.nodes.get(name, [None])[0], layers.Activation | layers.Linear):
            chain.append(layer)
            name = self.nodes[name][1]
        shape = self._shapes.get(self.nodes[name][1], ()) if isinstance(layer, layers.Flatten) else ()
        if shape[1:] != (1, 1) or len(chain) > _MAX_EXCITING:
            raise ValueError("it makes a map of a vector")
        y = Flow(self.nodes[name][1], shape)
        for layer in reversed(chain):
            conv = dense_to_conv(layer, y.shape) if isinstance(layer, layers.Linear) else None
            y = self.layer(y, conv or deepcopy(layer))
        return y

    def flatten(self, x: Flow) -> Flow:
        """Make a vector of a map; the order matters only if the map has several pixels."""
        y = self.layer(replace(x, order="CHW"), layers.Flatten())
        last = x.order == "HWC" and x.shape[1:] != (1, 1)
        return replace(y, order="HWC", before=x.shape) if last else y


def _constant(call: Call) -> Any:
    kinds = {"value": None, "value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    (name,) = kinds.keys() & call.attributes.keys()
    return np.asarray(call.attributes[name], kinds[name])


def _constant_of_shape(call: Call) -> Any:
    shape, value = call.integers(0) or (), call.attributes.get("value", np.zeros(1, np.float32))
    if math.prod(shape) > _MAX_ELEMENTS:
        raise ValueError(f"it makes {math.prod(shape):,} elements, expected {_MAX_ELEMENTS:,} at most")
    return np.broadcast_to(np.reshape(value, ()), shape)  # which takes no memory


def slices(call: Call) -> list[tuple[int, slice]]:
    """Return the axes of an operator "Slice", and what it keeps of each."""
    starts, ends = call.integers(1, "starts") or (), call.integers(2, "ends") or ()
    axes, steps = call.integers(3, "axes"), call.integers(4)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    return [(axis, slice(*kept)) for axis, *kept in zip(axes, starts, ends, steps, strict=True)]


def _slice(call: Call) -> Any:
    array = call.constant(0)
    index: list[slice] = [slice(None)] * array.ndim
    for axis, kept in slices(call):
        index[axis] = kept
    return array[tuple(index)]


def _shape(call: Call) -> Any:
    sides = np.shape(call.inputs[0])
    return np.array(sides[call.integer("start") : call.attributes.get("end")], np.int64)


def _divided(call: Call) -> Any:
    a, b = call.inputs
    if a.dtype.kind in "iu":
        return np.sign(a) * np.sign(b) * (abs(a) // abs(b))  # towards zero
    return a / b


_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float64}
FOLDED: dict[str, Callable[[Call], Any]] = {
    "Add": lambda call: np.add(*call.inputs),
    "Cast": lambda call: np.asarray(call.inputs[0]).astype(_CASTS[call.integer("to")]),
    "Concat": lambda call: np.concatenate(call.inputs, axis=call.integer("axis")),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divided,
    "Gather": lambda call: np.take(call.inputs[0], call.inputs[1], axis=call.integer("axis")),
    "Identity": lambda call: call.inputs[0],
    "Mul": lambda call: np.multiply(*call.inputs),
    "Reshape": lambda call: np.reshape(call.inputs[0], call.integers(1) or ()),
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": lambda call: np.squeeze(call.inputs[0], call.integers(1, "axes")),
    "Sub": lambda call: np.subtract(*call.inputs),
    "Transpose": lambda call: np.transpose(call.inputs[0], call.attributes.get("perm")),
    "Unsqueeze": lambda call: np.expand_dims(call.inputs[0], call.integers(1, "axes") or ()),
}
"""How operators on constants are computed."""


def folded(network: Network, call: Call) -> Array:
    """Return the constant that an operator makes of constants."""
    if call.op in ("Add", "Div", "Mul", "Sub"):
        network.fold(math.prod(np.broadcast_shapes(*map(np.shape, call.inputs))))
    elif call.op == "Gather":
        network.fold(np.size(call.inputs[0]) * np.size(call.inputs[1]))
    elif call.op not in _VIEWS:
        network.fold(sum(map(np.size, call.inputs)))
    return np.asarray(FOLDED[call.op](call))
