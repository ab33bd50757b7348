"""How networks become the nodes of an ONNX graph: sizes, joints, and a table of layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minifcn import layers
from minifcn.backend import Array, to_numpy
from minifcn.layers import Layer, Visitor
from minifcn.models.scoring import ScoreLayer
from minifcn.weights.onnx_file import Message, encode, to_attribute, to_tensor

_SHIFT = 2**31  # larger than any size
_BILINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


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
        """Return the name of a parameter or buffer; for `None` "", which stands for an input left out."""
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


class Exporter(OnnxGraph, Visitor):
    """Adds nodes for each layer and each joint that it visits.

    Example:
        >>> exporter = Exporter({})
        >>> layers.Sequential(layers.ReLU(), layers.Sigmoid()).walk(exporter, "images")
        'sigmoid_1'
    """

    def __init__(self, names: dict[int, str]):
        super().__init__(names)
        self.vectors: set[str] = set()
        """Values that are (N, features) instead of (N, C, H, W)."""

    def leaf(self, layer: Layer, x: str) -> str:
        """Add the nodes of a layer."""
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
        """Add nodes for a sum."""
        return self._join("Add", xs)

    def multiply(self, *xs: str) -> str:
        """Add nodes for a product."""
        return self._join("Mul", xs)

    def concat(self, *xs: str) -> str:
        """Add a node that joins channels."""
        return self.node("Concat", *xs, axis=1)

    def pad(self, x: str, sides: tuple[Any, Any, Any, Any], mode: str = "zeros") -> str:
        """Add a node that pads, unless all sides are zero."""
        if not any(isinstance(side, _Size) or side for side in sides):
            return x
        top, bottom, left, right = sides
        pads = self._numbers(0, 0, top, left, 0, 0, bottom, right)
        return self.node("Pad", x, pads, mode="edge" if mode == "edge" else "constant")

    def crop(self, x: str, sides: tuple[Any, Any, Any, Any]) -> str:
        """Add nodes that crop."""
        top, bottom, left, right = sides
        rows, cols = self.size(x)
        return self.slice(x, (top, left), (rows - bottom, cols - right))

    def slice(self, x: str, first: tuple[Any, Any], end: tuple[Any, Any]) -> str:
        """Add a node that keeps a window from (row, column) `first` to before `end`."""
        axes = self.constant(np.array([2, 3]))
        return self.node("Slice", x, self._numbers(*first), self._numbers(*end), axes)

    def resize(self, x: str, size: tuple[Any, Any], **modes: str) -> str:
        """Add a node that resizes, bilinearly unless other modes are given."""
        sizes = self.node("Concat", self.node("Shape", x, start=0, end=2), *map(self.number, size), axis=0)
        return self.node("Resize", x, "", "", sizes, **(modes or _BILINEAR))

    def size(self, x: str) -> tuple[Any, Any]:
        """Add nodes for the rows and columns of a map."""
        return (
            _Size(self, self.node("Shape", x, start=2, end=3)),
            _Size(self, self.node("Shape", x, start=3, end=4)),
        )

    def maximum(self, a: Any, b: Any) -> Any:
        """Add a node for the larger size."""
        return _Size(self, self.node("Max", self.number(a), self.number(b)))

    def minimum(self, a: Any, b: Any) -> Any:
        """Add a node for the smaller size."""
        return _Size(self, self.node("Min", self.number(a), self.number(b)))


# Layers: each function gets the graph, the layer and the name of its input, and returns that of its output


def _window(geometry: Any) -> dict[str, list[int]]:
    (top, bottom), (left, right) = geometry.rows.padding, geometry.cols.padding
    return {
        "kernel_shape": [*geometry.kernel_size],
        "strides": [*geometry.stride],
        "pads": [top, left, bottom, right],
    }


def _convolution(graph: Exporter, layer: Any, x: str) -> str:
    """Add a convolution, or a transposed one, which has output padding, too."""
    more = {"dilations": [*layer.dilation], "group": layer.groups}
    op = "Conv"
    if isinstance(layer, layers.ConvTranspose2d):
        op = "ConvTranspose"
        more["output_padding"] = [*layer.output_padding]
    weights = graph.weight(layer.weight), graph.weight(layer.bias)
    return graph.node(op, x, *weights, **_window(layer.geometry), **more)


def _score(graph: Exporter, layer: Any, x: str) -> str:
    scaled = x if layer.scale == 1 else graph.node("Mul", x, graph.constant(np.float32(layer.scale)))
    return _convolution(graph, layer, scaled)


def _pool(graph: Exporter, layer: Any, x: str, op: str = "MaxPool", **attributes: int) -> str:
    return graph.node(op, x, **_window(layer.geometry), ceil_mode=int(layer.ceil_mode), **attributes)


def _average(graph: Exporter, layer: Any, x: str) -> str:
    return _pool(graph, layer, x, "AveragePool", count_include_pad=int(layer.count_include_pad))


def _linear(graph: Exporter, layer: Any, x: str) -> str:
    return graph.node("Gemm", x, graph.weight(layer.weight), graph.weight(layer.bias), transB=1)


def _batch_norm(graph: Exporter, layer: Any, x: str) -> str:
    arrays = layer.weight, layer.bias, layer.running_mean, layer.running_var
    return graph.node("BatchNormalization", x, *map(graph.weight, arrays), epsilon=layer.eps)


def _local_norm(graph: Exporter, layer: Any, x: str) -> str:
    values = {"alpha": float(layer.alpha), "beta": float(layer.beta), "bias": float(layer.k)}
    return graph.node("LRN", x, size=layer.size, **values)


def _channels(graph: Exporter, layer: Any, x: str) -> str:
    start, stop, axis = (graph.constant(np.array([n])) for n in (layer.start, layer.stop, 1))
    return graph.node("Slice", x, start, stop, axis)


def _shuffle(graph: Exporter, layer: Any, x: str) -> str:
    """Exchange two axes of (N, groups, C / groups, H, W)."""
    first = graph.constant(np.array([0, layer.groups, -1]))
    grouped = graph.node("Concat", first, graph.node("Shape", x, start=2), axis=0)
    parts = graph.node("Transpose", graph.node("Reshape", x, grouped), perm=[0, 2, 1, 3, 4])
    return graph.node("Reshape", parts, graph.node("Shape", x))


def _clip(graph: Exporter, layer: Any, x: str) -> str:
    limits = [
        graph.constant(float(limit)) if limit is not None else "" for limit in (layer.min_val, layer.max_val)
    ]
    return graph.node("Clip", x, *limits)


def _group_norm(graph: Exporter, layer: Any, x: str) -> str:
    """Normalise groups as the channels of an instance normalisation."""
    groups = graph.node("Reshape", x, graph.constant(np.array([0, layer.num_groups, -1])))
    ones, zeros = (graph.constant(np.full(layer.num_groups, value, float)) for value in (1, 0))
    y = graph.node("InstanceNormalization", groups, ones, zeros, epsilon=float(layer.eps))
    y = graph.node("Reshape", y, graph.node("Shape", x))
    scaled = graph.node("Mul", y, graph.per_channel(layer.weight, x))
    return graph.node("Add", scaled, graph.per_channel(layer.bias, x))


def _upsample(graph: Exporter, layer: Any, x: str) -> str:
    modes = dict(_BILINEAR)
    if layer.mode == "nearest":
        modes = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    elif layer.align_corners:
        modes["coordinate_transformation_mode"] = "align_corners"
    if layer.size is not None:
        return graph.resize(x, layer.size, **modes)
    return graph.node("Resize", x, "", graph.constant(np.array([1.0, 1.0, *layer.scale_factor])), **modes)


def _plain(op: str, **attributes: Any) -> Callable[[Exporter, Any, str], str]:
    """Return the function for a layer that is one operator."""
    return lambda graph, layer, x: graph.node(op, x, **attributes)


LAYERS: dict[type[Layer], Callable[[Exporter, Any, str], str]] = {
    layers.AvgPool2d: _average,
    layers.BatchNorm1d: _batch_norm,
    layers.BatchNorm2d: _batch_norm,
    layers.ChannelShuffle: _shuffle,
    layers.ChannelSlice: _channels,
    layers.Conv2d: _convolution,
    layers.ConvTranspose2d: _convolution,
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
    layers.MaxPool2d: _pool,
    layers.PReLU: lambda graph, layer, x: graph.node("PRelu", x, graph.per_channel(layer.weight, x)),
    layers.ReLU: _plain("Relu"),
    layers.ReLU6: _clip,
    layers.Sigmoid: _plain("Sigmoid"),
    layers.SiLU: lambda graph, layer, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    layers.Upsample: _upsample,
    ScoreLayer: _score,
}
"""How each class of layers becomes nodes; a subclass is another class."""
