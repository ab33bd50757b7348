"""Networks as ONNX files, which onnxruntime and other programs run.

A visitor goes through the network as `explain` does, and notes nodes of ONNX for each layer and joint (see
`onnx_nodes`). The sizes of maps are nodes, too, so one file takes images of every size.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from minifcn.files import atomic_write, check_ending
from minifcn.functional.operands import check_choice
from minifcn.layers import Layer
from minifcn.models import FCN, Classifier, Preprocessing
from minifcn.weights.onnx_file import FLOAT, INT64, UINT8, Message, encoded, to_tensor
from minifcn.weights.onnx_nodes import Exporter

OPSET = 17
"""Version of ONNX's operators in the files that are written: onnxruntime 1.12 (2022) and later know it."""

_IR_VERSION = 8  # of the file format, which goes with that
_MAX_BYTES = 2**31 - 2**20  # readers of Protocol Buffers refuse 2 GB and more

ImageLayout = Literal["NHWC", "NCHW"]


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
            `to_onnx`; see `Exporter`.
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
    graph = Exporter({id(value): name for name, value in model._named_arrays()})
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


def _preprocessed(graph: Exporter, preprocessing: Preprocessing, layout: ImageLayout) -> str:
    """Add nodes that make network input of uint8 images, and return the name of their output."""
    x = "images" if layout == "NCHW" else graph.node("Transpose", "images", perm=[0, 3, 1, 2])
    x = graph.node("Cast", x, to=FLOAT)
    if preprocessing.channels == "BGR":
        x = graph.node("Gather", x, graph.constant(np.array([2, 1, 0])), axis=1)
    for op, values in (("Sub", preprocessing.mean), ("Div", preprocessing.std)):
        x = graph.node(op, x, graph.constant(np.array(values)[:, None, None]))  # (C, 1, 1)
    return x
