"""Model files: safetensors that hold everything needed to use a network again.

The tensors have the names of `state_dict`. The metadata hold, as JSON, the layers (see
`minifcn.layers.to_config`), and the class names, colours and preprocessing. Nothing in a file is executed.
The first edition stored a registered name in place of the layers; such files are still read.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from minifcn.files import FileError
from minifcn.layers import Layer, from_config, to_config
from minifcn.models import FCN, Classifier, ModelInfo, build
from minifcn.weights.formats import open_safetensors, write_safetensors
from minifcn.weights.tensors import check_finite, shown

_FORMAT, _FIRST_FORMAT = "minifcn 2", "minifcn 1"
_MAX_JSON = {"layers": 1_000_000, "info": 10_000_000, "architecture": 10_000}  # characters
_SLACK = 100_000  # elements that a description may have beyond the file's, so that tensors can be compared
_DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}
_CONVERT = "weights of a classifier are for load_classifier"
_OTHER_FORMATS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".h5", ".onnx")


def save(model: Layer, path: str | os.PathLike[str]) -> None:
    """Write a network to a safetensors file, as a whole or not at all.

    Any layer can be saved whose class, and the classes of the layers in it, are minifcn's own or were
    registered by `minifcn.layers.register`. Dropout probabilities and the like are kept; what belongs to
    training (gradients, frozen parameters, rates of single parameters) is not.

    Args:
        model: A network; a `Classifier` or an `FCN` must have its `info`, so that the file can be used.
        path: The file to write or replace, by custom with the suffix ".safetensors".

    Raises:
        TypeError: If the model is not a layer.
        ValueError: If `model.info` is missing or names another number of classes, if a class is not
            registered, if the file could not be loaded again, or if the path has another format's suffix.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from minifcn.models import Preprocessing, digit_classifier
        >>> model = digit_classifier(rng=0)
        >>> model.info = ModelInfo(tuple("0123456789"), Preprocessing("L", (128.0,), (64.0,)))
        >>> path = Path(tempfile.mkdtemp()) / "digits.safetensors"
        >>> save(model, path)
        >>> load(path).info.class_names[3]
        '3'
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a layer, got {type(model).__name__}")
    check_name(path)
    metadata = to_metadata(model)
    try:
        write_safetensors(path, model.state_dict(), metadata)
    except OSError as error:
        raise OSError(f"cannot write the model file {path!s}: {error.strerror or error}") from error


def check_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name for a model file that has the suffix of another format.

    Raises:
        ValueError: With the right name.

    Example:
        >>> check_name("model.pt")
        Traceback (most recent call last):
            ...
        ValueError: model.pt ends in .pt, and model files are safetensors: call it model.safetensors
    """
    file = Path(path)
    if file.suffix.lower() in _OTHER_FORMATS:
        better = file.with_suffix(".safetensors")
        raise ValueError(f"{file} ends in {file.suffix}, and model files are safetensors: call it {better}")


def to_metadata(model: Layer) -> dict[str, str]:
    """Return the metadata with which a file describes a network: its format, layers and info.

    Raises:
        ValueError: If the description does not lead back to such a network, or if the info is missing or
            does not fit.
    """
    config, state = to_config(model), model.state_dict()
    metadata = {"format": _FORMAT, "layers": json.dumps(config)}
    elements = sum(array.size for array in state.values())
    again = from_config(_json(metadata, "layers"), max_elements=elements)
    if to_config(again) != config or _shapes(again) != _shapes(model):
        raise ValueError(f"{type(model).__name__}: config() does not lead back to the same layers and shapes")
    for name, array in state.items():
        if array.dtype.name not in _DTYPES.values():
            raise ValueError(f"{name} must be floating-point, got {array.dtype}")
    info = getattr(model, "info", None)
    if info is None and isinstance(model, Classifier | FCN):
        raise ValueError("model.info is not set: a model file needs class names and preprocessing")
    if info is not None:
        _check_classes(model, info)
        metadata["info"] = json.dumps(asdict(info))
    return metadata


def from_metadata(metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Layer:
    """Return the network that the metadata of a file describe, in training mode and with weights of zero.

    Args:
        metadata: As `to_metadata` returns them, or those of the first edition.
        shapes: Of the file's tensors, which must be those of the network.

    Raises:
        ValueError: If something does not fit. Hardly more memory is allocated than the tensors take.
    """
    if metadata["format"] == _FIRST_FORMAT:
        model: Layer = build(_json(metadata, "architecture"), init="zeros")
    else:
        elements = sum(map(math.prod, shapes.values())) + _SLACK
        model = from_config(_json(metadata, "layers"), max_elements=elements)
    if "info" in metadata or isinstance(model, Classifier | FCN):
        try:
            info = ModelInfo.from_dict(_json(metadata, "info"))
        except ValueError as error:
            raise ValueError(f"its info does not fit: {str(error)[:300]}") from error
        _check_classes(model, info)
        model.info = info
    own = _shapes(model)
    problems = [
        f"{shown(name)} is {shapes.get(name, 'missing')}, expected {own.get(name, 'none')}"
        for name in {**own, **shapes}
        if shapes.get(name) != own.get(name)
    ]
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        named = "; ".join(problems[:10])
        raise ValueError(f"its tensors do not fit its {type(model).__name__}: {named}{more}")
    return model


def load(path: str | os.PathLike[str]) -> Any:
    """Read a network from a file that `save` wrote; nothing else is needed.

    Classes of one's own must have been registered by `minifcn.layers.register` before.

    Args:
        path: A safetensors file.

    Returns:
        The network in evaluation mode, on the CPU, in float32, with its `info` if it has one: a `Classifier`,
        an `FCN`, or whatever was saved.

    Raises:
        OSError: If there is no such file or it cannot be read.
        FileError: If it is cut off, has another format, holds NaN or infinite weights, or its contents do not
            fit together.

    Example:
        >>> import tempfile
        >>> from minifcn.models import ModelInfo, Preprocessing, digit_classifier
        >>> model = digit_classifier(2, rng=0)
        >>> model.info = ModelInfo(("cat", "dog"), Preprocessing("L", (0.0,), (255.0,)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, f"{folder}/model.safetensors")
        ...     load(f"{folder}/model.safetensors").info.class_names
        ('cat', 'dog')
    """
    file = Path(path)
    try:
        with open_safetensors(file) as tensors, np.errstate(over="ignore"):  # check_finite reports that
            metadata = tensors.metadata() or {}
            if not is_model_file(metadata):
                raise ValueError(f"this is not a model file of minifcn: {_instead(file, metadata)}")
            slices = {name: tensors.get_slice(name) for name in tensors.offset_keys()}
            for name, stored in slices.items():
                if (dtype := stored.get_dtype()) not in _DTYPES:
                    raise ValueError(f"{shown(name)} is {dtype}, expected one of {', '.join(_DTYPES)}")
            shapes = {name: tuple(stored.get_shape()) for name, stored in slices.items()}
            model = from_metadata(metadata, shapes)
            for name in slices:
                model.load_state_dict({name: tensors.get_tensor(name)}, strict=False)
            for name, array in model.state_dict().items():
                check_finite(name, array)
    except FileError as error:
        raise FileError(f"{error}; {_CONVERT}") from error
    except (ValueError, MemoryError) as error:
        raise FileError(f"{file}: {str(error)[:2_000]}") from error
    return model.eval()


def is_model_file(metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata of a safetensors file are those of a model file."""
    return metadata.get("format") in (_FORMAT, _FIRST_FORMAT)


def is_checkpoint(metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata of a safetensors file are those of a training's checkpoint."""
    return '"minifcn checkpoint' in metadata.get("training", "")[:100]


def _instead(file: Path, metadata: Mapping[str, str]) -> str:
    """Return what a safetensors file is that is not a model file, and what to do."""
    if is_checkpoint(metadata):
        model = file.with_name("model.safetensors")
        beside = f"; its best network is {model}" if model.exists() else ""
        return f"it is the checkpoint of a training, which Checkpoints(resume=True) continues{beside}"
    if metadata.get("format", "").startswith("minifcn "):
        return f"its format is {shown(metadata['format'], 30)!r}, which a newer version may read"
    return f"its metadata lack the format {_FORMAT!r}; {_CONVERT}"


def _json(metadata: Mapping[str, str], key: str) -> Any:
    text = metadata.get(key, "")
    if len(text) > _MAX_JSON[key]:
        raise ValueError(f"its {key} has {len(text):,} characters, expected at most {_MAX_JSON[key]:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {key} is not JSON") from error


def class_count(model: Classifier | FCN) -> int:
    """Return the number of scores of a network."""
    return model.num_classes if isinstance(model, FCN) else model.output_shape(model.input_shape)[0]


def _check_classes(model: Layer, info: ModelInfo) -> None:
    """Compare the number of scores of a network, where it is known, with the class names."""
    if isinstance(model, Classifier | FCN) and len(info.class_names) != (classes := class_count(model)):
        raise ValueError(f"the model has {classes} classes, its info names {len(info.class_names)}")


def _shapes(model: Layer) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in model.state_dict().items()}
