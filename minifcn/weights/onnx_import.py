"""Classifiers from ONNX files.

The file is read by `onnx_file`, whose fields are bounded, and each operator becomes a layer or a joint by the
table in `onnx_operators`. Nothing is executed: what is not in the table is refused by name.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minifcn import layers
from minifcn.files import FileError, open_foreign
from minifcn.functional.operands import check_class_names
from minifcn.geometry import Pair, pair
from minifcn.layers import Graph, Layer, Sequential
from minifcn.layers.containers import INPUT
from minifcn.layers.parameter import element_limit
from minifcn.models import Classifier, ModelInfo, Preprocessing
from minifcn.weights.foreign import named_by_start
from minifcn.weights.onnx_file import UINT8, Message, attributes, decode, to_array
from minifcn.weights.onnx_network import FOLDED, NO_PADS, Call, Flow, Network, Value, folded
from minifcn.weights.onnx_operators import OPERATORS
from minifcn.weights.onnx_shapes import is_channels
from minifcn.weights.series_parallel import nested
from minifcn.weights.tensors import MAX_BYTES, shown

_MAX_NODES = 10_000
_MAX_SIDE = 100_000
_DOMAINS = "", "ai.onnx"
_INFO = "class_names", "colors", "preprocessing"
_SOFTMAX = "Softmax", "LogSoftmax"


@dataclass(frozen=True)
class OnnxReport:
    """What became of an ONNX file.

    Attributes:
        operators: How often the file has each operator that the scores need.
        layers: Number of layers and joints they became.
        notices: What was changed or left out.

    Example:
        >>> OnnxReport({"Conv": 2, "Relu": 1}, 3, ()).summary()
        'ONNX: 3 operators became 3 layers and joints'
    """

    operators: Mapping[str, int]
    layers: int
    notices: tuple[str, ...]

    def summary(self) -> str:
        """Return the report in one line."""
        count = sum(self.operators.values())
        return "; ".join([f"ONNX: {count} operators became {self.layers} layers and joints", *self.notices])


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is named as ONNX files are, or begins like one.

    Raises:
        OSError: If there is no such file or it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "net.ONNX").write_bytes(b"")
        ...     is_onnx(Path(folder, "net.ONNX"))
        True
    """
    with open_foreign(path) as file:
        named = named_by_start(file.read(300)) or ""
    return named.startswith("an ONNX file") or Path(path).suffix.lower() == ".onnx"


def load_onnx(
    path: str | os.PathLike[str],
    *,
    size: Pair | None = None,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Classifier:
    """Read a classifier from an ONNX file, as PyTorch, Keras (tf2onnx) and other programs export it.

    The layers up to the last map are the `features`, and those from the first dense layer or global average
    on are the `classifier`. Constants are computed, numbers for each channel become batch normalisation or a
    part of the layer before, and a softmax at the end is left out.

    Args:
        path: The file; its weights must be inside.
        size: Height and width of the images that the classifier was trained for, if the file leaves them
            open; one integer for both.
        class_names: For each score; from the file if `save_onnx` wrote it, or numbers.
        preprocessing: How images become input; from the file if `save_onnx` wrote it. It may contain a part
            of that as layers.

    Returns:
        The network in evaluation mode, in float32, with frozen batch normalisation. `report` says what was
        changed, and `info` is `None` if the preprocessing is not known.

    Raises:
        OSError: If the file cannot be read.
        FileError: If it is damaged, holds no classifier, or has operators that are not known here, which are
            all listed.
        ValueError: If an argument is wrong.

    Example:
        >>> import tempfile
        >>> from minifcn.models import digit_classifier
        >>> from minifcn.weights import save_onnx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_onnx(digit_classifier(rng=0), f"{folder}/digits.onnx")
        ...     classifier = load_onnx(f"{folder}/digits.onnx")
        >>> classifier.input_shape, classifier.taps
        ((1, 32, 32), {1: 'relu_1', 2: 'relu_3', 4: 'relu_5'})
    """
    file, sides = Path(path), None if size is None else pair(size, "size", 1)
    with open_foreign(file) as opened:
        if (length := os.fstat(opened.fileno()).st_size) > MAX_BYTES:
            raise FileError(f"{file} has {length:,} bytes, and at most {MAX_BYTES:,} are read")
        data = opened.read(length)
    try:
        with np.errstate(all="ignore"), element_limit(MAX_BYTES // 4):
            model = decode(memoryview(data), "Model")
            classifier = _classifier(model, sides)
            classifier.info = _info(model, classifier, class_names, preprocessing)
    except (ValueError, MemoryError, RecursionError) as error:
        raise FileError(f"{file}: {shown(error, 2_000)}") from error
    return layers.freeze_batch_norm(classifier).eval()


def _info(
    model: Message,
    classifier: Classifier,
    names: Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> ModelInfo | None:
    """Return the info that is given or in the file; `None` if the preprocessing is not known."""
    channels = classifier.input_shape[0]
    (classes,) = classifier.output_shape(classifier.input_shape)
    texts = {entry.get("key", ""): entry.get("value", "") for entry in model["metadata_props"]}
    usual: tuple[str, ...] = tuple(map(str, range(classes)))
    colors: tuple[tuple[int, int, int], ...] = ()
    known = None
    if texts.keys() >= {*_INFO}:
        stored = ModelInfo.from_dict({key: json.loads(texts[key]) for key in _INFO})
        usual, colors, known = stored.class_names, stored.colors, stored.preprocessing
    if _type(model["graph"]["input"][0]).get("elem_type") == UINT8:  # it has the preprocessing inside
        known = Preprocessing("L" if channels == 1 else "RGB", (0.0,) * channels, (1.0,) * channels)
    if (chosen := preprocessing or known) is None:
        return None
    if len(chosen.mean) != channels:
        raise ValueError(f"it takes images of {channels} channels, and the preprocessing has {chosen}")
    named = usual if names is None else check_class_names(names)
    if len(named) != classes:
        raise ValueError(f"it has {classes} classes, and {len(named)} class names are given")
    return ModelInfo(named, chosen, colors if names is None else ())


def _type(described: Message) -> Message:
    """Return the type of an input: its data type and shape."""
    tensor: Message = described.get("type", {}).get("tensor_type", {})
    return tensor


# From the file to layers


def _classifier(model: Message, size: tuple[int, int] | None) -> Classifier:
    graph = model.get("graph")
    if graph is None:
        raise ValueError("it is damaged, or is not an ONNX file")
    if graph["sparse_initializer"]:
        raise ValueError("it has sparse weights, which are not read")
    if len(graph["node"]) > _MAX_NODES:
        raise ValueError(f"it has {len(graph['node']):,} nodes, expected {_MAX_NODES:,} at most")
    constants: dict[str, Value] = {one.get("name", ""): to_array(one) for one in graph["initializer"]}
    inputs = [one for one in graph["input"] if one.get("name") not in constants]
    if len(inputs) != 1 or not graph["output"]:
        raise ValueError(
            f"it has {len(inputs)} inputs and {len(graph['output'])} outputs, expected one input"
        )
    wanted = graph["output"][0].get("name", "")
    nodes = _needed(graph["node"], wanted)
    network, images = _images(inputs[0], nodes, size)
    versions = (one.get("version", 0) for one in model["opset_import"] if one.get("domain", "") in _DOMAINS)
    network.opset = max(versions, default=network.opset)
    if len(graph["output"]) > 1:
        network.notices[f"only the first output, {shown(wanted, 30)}, is read"] = None
    readers = Counter(name for node in nodes for name in node["input"])
    values = _values(network, nodes, constants | {inputs[0].get("name", ""): images}, wanted, readers)
    output = values.get(wanted)
    if not isinstance(output, Flow) or output.shape[1:] not in ((), (1, 1)):
        shape = output.onnx_shape if isinstance(output, Flow) else "a constant"
        raise ValueError(f"its output is {shape}, and the scores of a classifier are (classes,)")
    if math.prod(output.before[1:]) > 1 or output.pads != NO_PADS:
        raise ValueError("its output is padded, or a map that is flattened with channels last")
    classifier = _split(network, output.name, images.shape)
    operators = Counter(node.get("op_type", "") for node in nodes)
    count = sum(not isinstance(part, Graph | Sequential) for part in classifier.layers())
    joints = sum(isinstance(kind, str) for kind, *_ in network.nodes.values())
    classifier.report = OnnxReport(operators, count + joints, tuple(network.notices))
    return classifier


def _needed(nodes: Sequence[Message], wanted: str) -> list[Message]:
    """Return the nodes that a value needs, in the order of the file."""
    needed, found = {wanted}, []
    for node in reversed(nodes):
        if needed.intersection(name for name in node["output"] if name):
            needed.update(node["input"])
            found.append(node)
    return found[::-1]


def _images(
    described: Message, nodes: Iterable[Message], size: tuple[int, int] | None
) -> tuple[Network, Flow]:
    """Return the network to be built, and its input."""
    dims = [dim.get("dim_value", 0) for dim in _type(described).get("shape", {"dim": []})["dim"]]
    if len(dims) != 4:
        raise ValueError(f"its input has {len(dims)} axes, expected images (N, C, H, W)")
    batch, *rest = dims
    order = "HWC" if _channels_last(described.get("name", ""), nodes) else "CHW"
    channels, height, width = (rest[2], *rest[:2]) if order == "HWC" else rest
    if size is not None:
        if any(given > 0 and given != side for given, side in zip((height, width), size, strict=True)):
            raise ValueError(f"size must be {(height, width)}, as the file says, got {size}")
        height, width = size
    if not (0 < channels <= _MAX_SIDE and 0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(
            f"size must be given, for it does not say the size of its images: it says (C, H, W) = "
            f"{(channels, height, width)}"
        )
    network = Network(batch if batch > 0 else -1)
    if order == "HWC":
        network.notices["images are (N, C, H, W) here, (N, H, W, C) in the file"] = None
    return network, Flow(INPUT, (channels, height, width), order)


def _channels_last(images: str, nodes: Iterable[Message]) -> bool:
    """Return whether the channels of images are brought to the front before the first convolution."""
    reached = {images}
    for node in nodes:
        if reached.intersection(node["input"]):
            if node.get("op_type") in ("Transpose", "Conv"):
                return attributes(node).get("perm") == [0, 3, 1, 2]
            reached.update(node["output"])
    return False


def _values(
    network: Network, nodes: list[Message], values: dict[str, Value], wanted: str, readers: Counter[str]
) -> dict[str, Value]:
    """Add layers and joints for all nodes, and return all values.

    Raises:
        ValueError: With everything that is not known here.
    """
    problems: Counter[str] = Counter()
    unknown: set[str] = set()
    ends = {wanted} - readers.keys()  # values that are the output
    for node in reversed(nodes):
        if node.get("op_type") == "Identity" and node["output"][0] in ends:
            ends |= {name for name in node["input"] if readers[name] == 1}
    for node in nodes:
        op, outputs = node.get("op_type", ""), node["output"]
        if node.get("domain", "") not in _DOMAINS:
            op = f"{node['domain']}.{op}"
        try:
            dropped = op in _SOFTMAX and outputs[0] in ends
            is_known = dropped or op in OPERATORS or op in FOLDED
            if not is_known:
                problems[op] += 1
            if not is_known or unknown.intersection(node["input"]):
                unknown.update(outputs)
                continue
            if dropped:
                values[outputs[0]] = x = values[node["input"][0]]
                axis = attributes(node).get("axis", -1 if network.opset >= 13 else 1)
                if isinstance(x, Flow) and not is_channels(x, axis):
                    raise ValueError("it is not over the classes")
                network.notices[f"the {op} at the end is left out"] = None
                continue
            inputs = [values[name] if name else None for name in node["input"]]
            call = Call(op, inputs, attributes(node), len(outputs))
            if any(isinstance(value, Flow) for value in inputs):
                if op not in OPERATORS:
                    raise ValueError("its input depends on the images")
                made = OPERATORS[op](network, call)
            else:
                if op not in FOLDED:
                    raise ValueError("its inputs are constants")
                made = folded(network, call)
            several = made if isinstance(made, list) else [made]
            if any(name in readers for name in outputs[len(several) :]):
                raise ValueError("it has more than one output")
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
            missing = " is missing" if isinstance(error, KeyError) else ""
            problems[f"{op} ({error}{missing})"] += 1
            unknown.update(outputs)
        else:
            for name, value in zip(outputs, several, strict=False):
                values[name] = value
                if isinstance(value, Flow):
                    network.count(value, readers[name])
    if problems:
        listed = [shown(what, 150) + (f" {n} times" if n > 1 else "") for what, n in problems.items()]
        more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
        raise ValueError(f"operators that are not known here: {', '.join(listed[:10])}{more}")
    return values


def _split(network: Network, output: str, input_shape: tuple[int, ...]) -> Classifier:
    """Return the nodes that the output needs as a classifier."""
    nodes, needed = network.nodes, {output}
    for name in reversed(nodes):  # they are in the order of computation
        if name in needed:
            needed.update(nodes[name][1:])
    nodes = {name: node for name, node in nodes.items() if name in needed}
    readers = Counter(read for _, *reads in nodes.values() for read in reads)
    chain: list[str] = []  # the layers at the end, one after another
    name = output
    while name != INPUT and isinstance(nodes[name][0], Layer) and readers[name] <= 1:
        chain.append(name)
        name = nodes[name][1]
    chain.reverse()
    tail = [nodes[name][0] for name in chain]
    scoring = [i for i, layer in enumerate(tail) if isinstance(layer, layers.Conv2d | layers.Linear)]
    if not scoring:
        raise ValueError("it has no layer at its end that scores classes")
    heads = [i for i, layer in enumerate(tail) if isinstance(layer, layers.Flatten | layers.GlobalAvgPool2d)]
    first = min(heads + scoring[-1:])
    while first and isinstance(tail[first - 1], layers.Dropout):
        first -= 1
    head = Sequential(**{name: nodes[name][0] for name in chain[first:]})
    body = {name: node for name, node in nodes.items() if name not in chain[first:]}
    last = [name, *chain][first]
    channels, height, width = input_shape
    return Classifier(nested(body, last), head, input_shape=(channels, height, width))
