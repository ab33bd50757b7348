"""`minifcn weights`: inspect a file of weights, convert it to a model file, download public weights."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from minifcn.cli.outputs import new_files
from minifcn.cli.shared import size
from minifcn.files import existing_file
from minifcn.models import FCN, Classifier, registry
from minifcn.printing import show
from minifcn.weights import PREPROCESSING, PUBLISHED, download, load_classifier, load_fcn, load_onnx, save
from minifcn.weights.formats import read_tensors
from minifcn.weights.loading import known_preprocessing, read_class_names
from minifcn.weights.matching import Match, fits, left_over
from minifcn.weights.model_file import check_name, class_count, is_checkpoint, is_model_file
from minifcn.weights.names import is_fcn, parse_preprocessing
from minifcn.weights.onnx_import import is_onnx
from minifcn.weights.recognition import recognise_classifier, recognise_fcn
from minifcn.weights.tensors import Tensors, listed, shown

_SIZE = "of the images of an ONNX file that leaves it open"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    inspect = actions.add_parser("inspect", help="format, metadata, tensors, and the network they belong to")
    inspect.add_argument("file", type=Path, help="safetensors, npz, PyTorch or ONNX file")
    inspect.add_argument("--size", type=size, metavar="WxH", help=_SIZE)

    convert = actions.add_parser("convert", help="make a model file that minifcn.load reads")
    convert.add_argument("source", type=Path, help="safetensors, npz, PyTorch or ONNX file")
    convert.add_argument("target", type=Path, help="file to write, NAME.safetensors")
    known = registry.names()
    convert.add_argument("--architecture", choices=known, help="of a classifier (default: recognised)")
    order = "how maps were flattened for dense weights (default: CHW)"
    convert.add_argument("--order", choices=("CHW", "HWC"), default="CHW", help=order)
    convert.add_argument("--class-names", type=Path, metavar="FILE", help="text file with one name per line")
    convert.add_argument(
        "--preprocessing",
        metavar="NAME_OR_JSON",
        help=f"how images become input, if the file does not contain it: {', '.join(PREPROCESSING)}, or "
        '\'{"channels": "RGB", "mean": [...], "std": [...]}\' in units of 0 to 255',
    )
    convert.add_argument(
        "--at-once", action="store_true", help="an FCN trained at once (default: as the file says)"
    )
    convert.add_argument("--size", type=size, metavar="WxH", help=_SIZE)
    convert.add_argument("--partial", action="store_true", help="copy what exists, and leave the rest random")

    fetch = actions.add_parser("download", help="download torchvision's ImageNet weights, and verify them")
    fetch.add_argument("name", choices=PUBLISHED)
    fetch.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where to put the file")


def run(arguments: argparse.Namespace) -> None:
    """Run the action."""
    {"inspect": _inspect, "convert": _convert, "download": _download}[arguments.action](arguments)


def _download(arguments: argparse.Namespace) -> None:
    show(f"{download(arguments.name, arguments.to)}: verified")


def _convert(arguments: argparse.Namespace) -> None:
    source, target = arguments.source, arguments.target
    check_name(target)
    if target.exists() and os.path.samefile(existing_file(source), target):
        raise ValueError(f"target must be another file than the source, got {target}")
    with new_files(target):
        _convert_to(target, arguments)


def _convert_to(target: Path, arguments: argparse.Namespace) -> None:
    source = arguments.source
    names, preprocessing = arguments.class_names, arguments.preprocessing
    options: dict[str, Any] = {
        "class_names": None if names is None else read_class_names(names),
        "preprocessing": None if preprocessing is None else parse_preprocessing(preprocessing),
    }
    if is_onnx(source):
        _convert_onnx(arguments, options)
        return
    if arguments.size:
        raise ValueError(f"--size is for ONNX files, and {source} is none")
    options |= {"partial": arguments.partial, "rng": 0}
    tensors = read_tensors(source)
    fcn = is_fcn(tensors.arrays)
    if fcn and (arguments.architecture is not None or arguments.order != "CHW"):
        raise ValueError(f"--architecture and --order are for classifiers, but {source} contains an FCN")
    if arguments.at_once and not fcn:
        raise ValueError(f"--at-once is for FCNs of the reference code, but {source} contains none")
    model: Classifier | FCN
    if fcn:
        model = load_fcn(source, at_once=arguments.at_once or None, **options)
    else:
        model = load_classifier(source, arguments.architecture, order=arguments.order, **options)
    save(model, target)
    _print_place(tensors)
    show(model.report.summary())
    fates = (("missing, now random", model.report.missing), ("left over", model.report.left_over))
    for fate, tensors in fates:
        if tensors:
            show(f"{fate}: {listed(tensors)}")
    show(f"wrote {target}")


def _convert_onnx(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    """Convert a classifier whose layers are in the file, so that nothing about it needs to be known."""
    source, given = arguments.source, (arguments.architecture, arguments.order, arguments.partial)
    if given != (None, "CHW", False) or arguments.at_once:
        others = "--architecture, --order, --partial and --at-once"
        raise ValueError(f"{others} are for files without layers, and {source} is an ONNX file")
    model = load_onnx(source, size=arguments.size, **options)
    if model.info is None:
        raise ValueError(f"{source} does not describe how images become input: give --preprocessing")
    save(model, arguments.target)
    show(model.report.summary())
    show(f"wrote {arguments.target}")


def _inspect_onnx(file: Path, size: tuple[int, int] | None) -> None:
    """Print the operators and layers of a classifier in an ONNX file."""
    model = load_onnx(file, size=size)
    show(f"{file}: ONNX, a classifier of {class_count(model)} classes")
    operators = ", ".join(f"{shown(op)} {count}" for op, count in model.report.operators.items())
    show(f"operators: {operators}")
    show(model.report.summary())
    channels, height, width = model.input_shape
    show(f"input: {channels} channels, {width} x {height} (width x height)")
    show(f"preprocessing: {model.info.preprocessing if model.info else 'unknown, give --preprocessing'}")
    show(f"maps that an FCN can score: strides {', '.join(map(str, model.taps)) or 'none but the last'}")


def _inspect(arguments: argparse.Namespace) -> None:
    if is_onnx(arguments.file):
        _inspect_onnx(arguments.file, arguments.size)
        return
    file, tensors = arguments.file, read_tensors(arguments.file)
    numbers = sum(array.size for array in tensors.arrays.values())
    show(f"{file}: {tensors.format}, {len(tensors.arrays)} tensors, {numbers:,} values")
    _print_place(tensors)
    for key, text in tensors.metadata.items():
        show(f"  {shown(key)}: {shown(text, 200)}")
    width = max((len(shown(name)) for name in tensors.arrays), default=0)
    for name, array in tensors.arrays.items():
        show(f"  {shown(name):{width}}  {tensors.dtypes[name]:8}  {array.shape}")
    for name, array in tensors.arrays.items():
        if count := array.size - np.count_nonzero(np.isfinite(array)):
            show(f"NaN or infinite: {count:,} values of {shown(name)}")
    if is_model_file(tensors.metadata):
        show("a model file of minifcn, which minifcn.load reads")
    elif is_checkpoint(tensors.metadata):
        show("the checkpoint of a training, which minifcn train --resume continues")
    elif (found := _recognised(file, tensors)) is not None and fits(found, tensors.arrays):
        _print_match(file, tensors, found)
    else:
        show("no known network")


def _recognised(file: Path, tensors: Tensors) -> Match | None:
    return recognise_fcn(file, tensors) if is_fcn(tensors.arrays) else recognise_classifier(tensors.arrays)


def _print_place(tensors: Tensors) -> None:
    """Print where in a file the tensors were, and which part of their names was removed."""
    if tensors.inside:
        show(f"from its entry {' / '.join(tensors.inside)}")
    if tensors.prefix:
        show(f"without {tensors.prefix} at the beginning of every name")


def _print_match(file: Path, tensors: Tensors, found: Match) -> None:
    """Print the network that a file belongs to, and tensors that are missing or left over."""
    model, fcn = found.model, ""
    if isinstance(model, FCN):
        fcn = f", stride {model.stride}, of {model.architecture['arguments']['classifier']['name']}"
    show(f"{found}; {class_count(model)} classes{fcn}")
    said = known_preprocessing(file, tensors, found)
    unknown = "unknown, give --preprocessing"
    show(f"input: {f'{said.channels}, (image - {said.mean}) / {said.std}' if said else unknown}")
    for name, why in found.missing.items():
        show(f"missing: {name}" + (f", for {why}" if why else ""))
    for name, shape in left_over(found, tensors.arrays).items():
        show(f"left over: {shown(name)} {shape}")
