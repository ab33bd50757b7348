"""Networks as ONNX files, which onnxruntime and other programs run.

A visitor goes through the network as `explain` does, and notes a node of ONNX for each layer and joint. The
sizes of maps are nodes, too, so one file takes images of every size that the network takes.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from minifcn import layers
from minifcn.backend import Array, to_numpy
from minifcn.files import atomic_write, check_ending
from minifcn.functional.operands import check_choice
from minifcn.layers import Layer, Visitor
from minifcn.models import FCN, Classifier, Preprocessing
from minifcn.models.scoring import ScoreLayer
from minifcn.weights.onnx_file import FLOAT, INT64, UINT8, Message, encode, encoded, to_attribute, to_tensor

OPSET = 17
"""Version of ONNX's operators in the files that are written: onnxruntime 1.12 (2022) and later know it."""

_IR_VERSION = 8  # of the file format, which goes with that
_MAX_BYTES = 2**31 - 2**20  # readers of Protocol Buffers refuse 2 GB and more
_SHIFT = 2**31  # larger than any size

ImageLayout = Literal["NHWC", "NCHW"]


class _Size:
    """A number of rows or columns as the name of a value (int64, of shape (1,)) in a graph."""

    def __init__(self, graph: "OnnxGraph", name: str):
        self.graph, self.name = graph, name

    def _node(self, op: str, a: Any, b: Any) -> "_Size":
        return _Size(self.graph, self.graph.node(op, self.graph.number(a), self.graph.number(b)))

    def __add__(self, other: Any) -> "_Size":
        return self._node("Add", self, other)

    def __sub__(self, other: Any) -> "_Size":
        return self._node("Sub", self, other)

    def __rsub__(self, other: Any) -> "_Size":
        return self._node("Sub", other, self)

    def __mul__(self, other: Any) -> "_Size":
        return self._node("Mul", self, other)

    def __floordiv__(self, other: int) -> "_Size":
        # Div of ONNX rounds towards zero, so the dividend is made positive.
        return self._node("Div", self + other * _SHIFT, other) - _SHIFT

    __radd__, __rmul__ = __add__, __mul__


class OnnxGraph:
    """The nodes and weights of an ONNX graph; values are names.

    A layer of one's own that is not made of others has a method `to_onnx(graph, x)`, which adds nodes for
    what the layer does in evaluation mode and returns the name of its output.

    Args:
        names: The name of each parameter and buffer by its identity.

    Example:
        >>> class Half(layers.Pointwise):
        ...     def to_onnx(self, graph, x):
        ...         return graph.node("Mul", x, graph.constant(0.5))
        >>> graph = OnnxGraph()
        >>> Half().to_onnx(graph, "images"), graph.weights
        ('mul_1', {'constant_0': array(0.5, dtype=float32)})
    """

    def __init__(self, names: dict[int, str] | None = None):
        self.names = names or {}
        self.nodes: dict[str, Message] = {}  # by the name of their output
        self.weights: dict[str, Array] = {}
        self._made: dict[bytes, str] = {}

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output; equal nodes are made once.

        Args:
            op: Type of the operator, such as "Conv".
            *inputs: Names of values; "" for an input that is left out.
            **attributes: Numbers, texts, arrays, or lists of numbers.
        """
        given = [to_attribute(key, value) for key, value in attributes.items()]
        made = {"input": inputs, "op_type": op, "attribute": given}
        name = self._made.setdefault(encode("Node", made), f"{op.lower()}_{len(self._made)}")
        self.nodes[name] = made | {"output": [name], "name": name}
        return name

    def constant(self, values: Any) -> str:
        """Return the name of a constant; weights are float32."""
        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = self._made.setdefault(encode("Tensor", to_tensor(array)), f"constant_{len(self._made)}")
        self.weights[name] = array
        return name

    def weight(self, parameter: layers.Parameter | layers.Buffer | None) -> str:
        """Return the name of a parameter or buffer; "" for `None`."""
        if parameter is None:
            return ""
        name = self.names.get(id(parameter), f"weight_{len(self.weights)}")
        self.weights[name] = to_numpy(parameter.data).astype(np.float32, copy=False)
        return name

    def number(self, size: Any) -> str:
        """Return the name of a size, which may be an integer."""
        return size.name if isinstance(size, _Size) else self.constant(np.array([size], np.int64))

    def _numbers(self, *sizes: Any) -> str:
        """Return the name of an array of sizes."""
        if any(isinstance(size, _Size) for size in sizes):
            return self.node("Concat", *map(self.number, sizes), axis=0)
        return self.constant(np.array(sizes, np.int64))


class _Exporter(OnnxGraph, Visitor):
    """Adds nodes for each layer and each joint."""

    def __init__(self, names: dict[int, str]):
        super().__init__(names)
        self.vectors: set[str] = set()
        """Values that are (N, features) instead of (N, C, H, W)."""

    def leaf(self, layer: Layer, x: str) -> str:
        if own := getattr(layer, "to_onnx", None):
            y: str = own(self, x)
        elif type(layer) in LAYERS:
            y = LAYERS[type(layer)](self, layer, x)
        else:
            raise ValueError(
                f"no ONNX operators are known for {type(layer).__name__}: give the class a method "
                f"to_onnx(self, graph, x), as docs/own-layers.md shows"
            )
        if x in self.vectors or isinstance(layer, layers.Flatten):
            self.vectors.add(y)
        return y

    def per_channel(self, parameter: layers.Parameter, x: str) -> str:
        """Return a parameter (C,) as (C, 1, 1), unless x is a vector."""
        name = self.weight(parameter)
        return name if x in self.vectors else self.node("Reshape", name, self.constant(np.array([-1, 1, 1])))

    def _join(self, op: str, xs: tuple[str, ...]) -> str:
        y = xs[0]
        for x in xs[1:]:
            y = self.node(op, y, x)
        return y

    def add(self, *xs: str) -> str:
        return self._join("Add", xs)

    def multiply(self, *xs: str) -> str:
        return self._join("Mul", xs)

    def concat(self, *xs: str) -> str:
        return self.node("Concat", *xs, axis=1)

    def pad(self, x: str, sides: tuple[Any, Any, Any, Any], mode: str = "zeros") -> str:
        if not any(isinstance(side, _Size) or side for side in sides):
            return x
        top, bottom, left, right = sides
        pads = self._numbers(0, 0, top, left, 0, 0, bottom, right)
        return self.node("Pad", x, pads, mode="edge" if mode == "edge" else "constant")

    def crop(self, x: str, sides: tuple[Any, Any, Any, Any]) -> str:
        top, bottom, left, right = sides
        rows, cols = self.size(x)
        return self.slice(x, (top, left), (rows - bottom, cols - right))

    def slice(self, x: str, first: tuple[Any, Any], end: tuple[Any, Any]) -> str:
        axes = self.constant(np.array([2, 3]))
        return self.node("Slice", x, self._numbers(*first), self._numbers(*end), axes)

    def size(self, x: str) -> tuple[Any, Any]:
        return (
            _Size(self, self.node("Shape", x, start=2, end=3)),
            _Size(self, self.node("Shape", x, start=3, end=4)),
        )

    def maximum(self, a: Any, b: Any) -> Any:
        return _Size(self, self.node("Max", self.number(a), self.number(b)))

    def minimum(self, a: Any, b: Any) -> Any:
        return _Size(self, self.node("Min", self.number(a), self.number(b)))


# Layers: each function gets the graph, the layer and the name of its input, and returns that of its output


def _window(geometry: Any) -> dict[str, list[int]]:
    (top, bottom), (left, right) = geometry.rows.padding, geometry.cols.padding
    return {
        "kernel_shape": [*geometry.kernel_size],
        "strides": [*geometry.stride],
        "pads": [top, left, bottom, right],
    }


def _convolution(graph: _Exporter, layer: Any, x: str) -> str:
    """Add a convolution, or a transposed one, which has output padding, too."""
    more = {"dilations": [*layer.dilation], "group": layer.groups}
    op = "Conv"
    if isinstance(layer, layers.ConvTranspose2d):
        op = "ConvTranspose"
        more["output_padding"] = [*layer.output_padding]
    inputs = [graph.weight(layer.weight), *([graph.weight(layer.bias)] if layer.bias else [])]
    return graph.node(op, x, *inputs, **_window(layer.geometry), **more)


def _score(graph: _Exporter, layer: Any, x: str) -> str:
    scaled = x if layer.scale == 1 else graph.node("Mul", x, graph.constant(np.float32(layer.scale)))
    return _convolution(graph, layer, scaled)


def _pool(op: str, **attributes: int) -> Callable[[_Exporter, Any, str], str]:
    return lambda graph, layer, x: graph.node(
        op, x, **_window(layer.geometry), ceil_mode=int(layer.ceil_mode), **attributes
    )


def _linear(graph: _Exporter, layer: Any, x: str) -> str:
    inputs = [graph.weight(layer.weight), *([graph.weight(layer.bias)] if layer.bias else [])]
    return graph.node("Gemm", x, *inputs, transB=1)


def _batch_norm(graph: _Exporter, layer: Any, x: str) -> str:
    arrays = layer.weight, layer.bias, layer.running_mean, layer.running_var
    return graph.node("BatchNormalization", x, *map(graph.weight, arrays), epsilon=layer.eps)


def _local_norm(graph: _Exporter, layer: Any, x: str) -> str:
    values = {"alpha": float(layer.alpha), "beta": float(layer.beta), "bias": float(layer.k)}
    return graph.node("LRN", x, size=layer.size, **values)


def _crop(graph: _Exporter, layer: Any, x: str) -> str:
    end = layer.top + layer.height, layer.left + layer.width
    return graph.slice(x, (layer.top, layer.left), end)


def _clip(graph: _Exporter, layer: Any, x: str) -> str:
    limits = [
        graph.constant(float(limit)) if limit is not None else "" for limit in (layer.min_val, layer.max_val)
    ]
    return graph.node("Clip", x, *limits)


def _group_norm(graph: _Exporter, layer: Any, x: str) -> str:
    """Normalise groups as the channels of an instance normalisation."""
    groups = graph.node("Reshape", x, graph.constant(np.array([0, layer.num_groups, -1])))
    ones, zeros = (graph.constant(np.full(layer.num_groups, value, float)) for value in (1, 0))
    y = graph.node("InstanceNormalization", groups, ones, zeros, epsilon=float(layer.eps))
    y = graph.node("Reshape", y, graph.node("Shape", x))
    scaled = graph.node("Mul", y, graph.per_channel(layer.weight, x))
    return graph.node("Add", scaled, graph.per_channel(layer.bias, x))


def _upsample(graph: _Exporter, layer: Any, x: str) -> str:
    place = "align_corners" if layer.align_corners else "half_pixel"
    more = {"mode": "linear", "coordinate_transformation_mode": place}
    if layer.mode == "nearest":
        more = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    if layer.size is None:
        return graph.node("Resize", x, "", graph.constant(np.array([1.0, 1.0, *layer.scale_factor])), **more)
    same = graph.node("Shape", x, start=0, end=2)
    size = graph.node("Concat", same, graph.constant(np.array(layer.size)), axis=0)
    return graph.node("Resize", x, "", "", size, **more)


def _plain(op: str, **attributes: Any) -> Callable[[_Exporter, Any, str], str]:
    """Return the function for a layer that is one operator."""
    return lambda graph, layer, x: graph.node(op, x, **attributes)


LAYERS: dict[type[Layer], Callable[[_Exporter, Any, str], str]] = {
    layers.AvgPool2d: _pool("AveragePool", count_include_pad=1),
    layers.BatchNorm1d: _batch_norm,
    layers.BatchNorm2d: _batch_norm,
    layers.Conv2d: _convolution,
    layers.ConvTranspose2d: _convolution,
    layers.Crop: _crop,
    layers.Dropout: lambda graph, layer, x: x,
    layers.Flatten: _plain("Flatten", axis=1),
    layers.GlobalAvgPool2d: _plain("GlobalAveragePool"),
    layers.GroupNorm: _group_norm,
    layers.Hardsigmoid: _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    layers.Hardswish: _plain("HardSwish"),
    layers.Hardtanh: _clip,
    layers.LeakyReLU: lambda graph, layer, x: graph.node("LeakyRelu", x, alpha=float(layer.negative_slope)),
    layers.Linear: _linear,
    layers.LocalResponseNorm: _local_norm,
    layers.MaxPool2d: _pool("MaxPool"),
    layers.PReLU: lambda graph, layer, x: graph.node("PRelu", x, graph.per_channel(layer.weight, x)),
    layers.ReLU: _plain("Relu"),
    layers.ReLU6: _clip,
    layers.Sigmoid: _plain("Sigmoid"),
    layers.SiLU: lambda graph, layer, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    layers.Upsample: _upsample,
    ScoreLayer: _score,
}
"""How each class of layers becomes nodes; a subclass is another class."""


def save_onnx(
    model: Layer,
    path: str | os.PathLike[str],
    *,
    preprocessing: ImageLayout | None = None,
    argmax: bool = False,
) -> None:
    """Write a network as an ONNX file, as a whole or not at all.

    The network is written in evaluation mode and in float32. Its input "images" is float32 (N, C, H, W) of
    any N; H and W are free, too, except for a `Classifier`, which takes images of its own size. The output
    "scores" has the scores as the network returns them. Class names, colours and preprocessing are texts
    (JSON) in the file's metadata "class_names", "colors" and "preprocessing".

    Args:
        model: A `Classifier`, an `FCN`, or another network of layers that ONNX has, or that have a method
            `to_onnx`; see `OnnxGraph`.
        path: The file to write or replace, with the suffix ".onnx".
        preprocessing: Put the preprocessing of `model.info` into the graph: "images" is then uint8 RGB (or
            grey), (N, H, W, C) for "NHWC" and (N, C, H, W) for "NCHW".
        argmax: Put the choice of the class into the graph: instead of scores, the output is "labels", uint8
            (N, H, W) of an `FCN`, and otherwise int64.

    Raises:
        TypeError: If the model is not a layer.
        ValueError: If a layer has no counterpart in ONNX, preprocessing is asked for and not known, the path
            has another suffix, or the file would have 2 GB or more.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from minifcn.models import digit_classifier
        >>> fcn = FCN(digit_classifier(rng=0), 11, stride=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_onnx(fcn, f"{folder}/digits.onnx", argmax=True)
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a layer, got {type(model).__name__}")
    check_ending(path, ".onnx")
    parts = encoded("Model", _to_message(model, preprocessing, argmax))
    if (size := sum(map(len, parts))) > _MAX_BYTES:
        raise ValueError(f"{path!s} would have {size:,} bytes, and an ONNX file has less than 2 GB")
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def _to_message(model: Layer, layout: ImageLayout | None, argmax: bool) -> Message:
    """Return the message "Model" for a network."""
    info = getattr(model, "info", None)
    graph = _Exporter({id(value): name for name, value in model._named_arrays()})
    images, scores = _shapes(model)
    x = "images"
    if layout is not None:
        check_choice(layout, "preprocessing", get_args(ImageLayout))
        if info is None:
            raise ValueError(f"preprocessing must be None for a network without info, got {layout!r}")
        x = _preprocessed(graph, info.preprocessing, layout)
    if layout == "NHWC":
        images = [images[0], *images[2:], images[1]]
    y, name, code = model.walk(graph, x), "scores", FLOAT
    if argmax:
        name, code = "labels", UINT8 if isinstance(model, FCN) else INT64
        del scores[1]
        y = graph.node("Cast", graph.node("ArgMax", y, axis=1, keepdims=0), to=code)
    end = {"input": [y], "output": [name], "name": name, "op_type": "Identity", "attribute": []}
    texts = {} if info is None else asdict(info)
    return {
        "ir_version": _IR_VERSION,
        "producer_name": "minifcn",
        "graph": {
            "node": [*graph.nodes.values(), end],
            "name": type(model).__name__,
            "initializer": [to_tensor(array, name) for name, array in graph.weights.items()],
            "input": [_value("images", FLOAT if layout is None else UINT8, images)],
            "output": [_value(name, code, scores)],
        },
        "opset_import": [{"domain": "", "version": OPSET}],
        "metadata_props": [{"key": key, "value": json.dumps(value)} for key, value in texts.items()],
    }


def _shapes(model: Layer) -> tuple[list[Any], list[Any]]:
    """Return the shapes of images and scores; texts stand for sizes that are free."""
    if isinstance(model, Classifier):
        return ["N", *model.input_shape], ["N", *model.output_shape(model.input_shape)]
    if isinstance(model, FCN):
        return ["N", model.channels, "H", "W"], ["N", model.num_classes, "H", "W"]
    taken = [getattr(layer, "in_channels", getattr(layer, "num_features", 0)) for layer in model.layers()]
    known = [channels for channels in taken if channels]
    channels, *_ = [*known, 1]
    for size in (2**power for power in range(12)):
        with suppress(ValueError):
            scores = model.output_shape((channels, size, size))
            free = ("C", "rows", "columns")[: len(scores)]
            return ["N", channels if known else "C", "H", "W"], ["N", *free]
    raise ValueError(f"{type(model).__name__} takes no images (N, {channels}, H, W), as ONNX files get them")


def _value(name: str, code: int, shape: list[Any]) -> Message:
    """Return the message "Value" for an input or output."""
    dims = [{"dim_param" if isinstance(side, str) else "dim_value": side} for side in shape]
    return {"name": name, "type": {"tensor_type": {"elem_type": code, "shape": {"dim": dims}}}}


def _preprocessed(graph: _Exporter, preprocessing: Preprocessing, layout: ImageLayout) -> str:
    """Add nodes that make network input of uint8 images, and return the name of their output."""
    x = "images" if layout == "NCHW" else graph.node("Transpose", "images", perm=[0, 3, 1, 2])
    x = graph.node("Cast", x, to=FLOAT)
    if preprocessing.channels == "BGR":
        x = graph.node("Gather", x, graph.constant(np.array([2, 1, 0])), axis=1)
    for op, values in (("Sub", preprocessing.mean), ("Div", preprocessing.std)):
        x = graph.node(op, x, graph.constant(np.array(values)[:, None, None]))  # (C, 1, 1)
    return x
