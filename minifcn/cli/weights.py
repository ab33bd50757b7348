"""`minifcn weights`: inspect a file of weights, convert it to a model file, download public weights."""

import argparse
import os
from pathlib import Path
from typing import Any

from minifcn.cli.outputs import new_files
from minifcn.files import existing_file
from minifcn.models import FCN, Classifier, registry
from minifcn.printing import show
from minifcn.weights import PREPROCESSING, PUBLISHED, Tensors, download, load_classifier, load_fcn, save
from minifcn.weights.formats import read_tensors, shown
from minifcn.weights.loading import known_preprocessing, read_class_names, recognise_classifier, recognise_fcn
from minifcn.weights.matching import Match, left_over
from minifcn.weights.model_file import check_name, class_count, is_checkpoint, is_model_file
from minifcn.weights.names import parse_preprocessing

_NAMED = 3  # tensors without a counterpart that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    inspect = actions.add_parser("inspect", help="format, metadata, tensors, and the network they belong to")
    inspect.add_argument("file", type=Path, help="safetensors, npz or PyTorch file")

    convert = actions.add_parser("convert", help="make a model file that minifcn.load reads")
    convert.add_argument("source", type=Path, help="safetensors, npz or PyTorch file")
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
    convert.add_argument("--at-once", action="store_true", help="an FCN-8s at once of the reference code")
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
        "partial": arguments.partial,
        "rng": 0,
        "class_names": None if names is None else read_class_names(names),
        "preprocessing": None if preprocessing is None else parse_preprocessing(preprocessing),
    }
    fcn = "score_fr.weight" in read_tensors(source).arrays
    if fcn and (arguments.architecture is not None or arguments.order != "CHW"):
        raise ValueError(f"--architecture and --order are for classifiers, but {source} contains an FCN")
    if arguments.at_once and not fcn:
        raise ValueError(f"--at-once is for FCNs of the reference code, but {source} contains none")
    model: Classifier | FCN
    if fcn:
        model = load_fcn(source, at_once=arguments.at_once, **options)
    else:
        model = load_classifier(source, arguments.architecture, order=arguments.order, **options)
    save(model, target)
    show(model.report.summary())
    fates = (("missing, now random", model.report.missing), ("left over", model.report.left_over))
    for fate, tensors in fates:
        if tensors:
            first = ", ".join(shown(name) for name in list(tensors)[:_NAMED])
            more = f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
            show(f"{fate}: {first}{more}")
    show(f"wrote {target}")


def _inspect(arguments: argparse.Namespace) -> None:
    file, tensors = arguments.file, read_tensors(arguments.file)
    numbers = sum(array.size for array in tensors.arrays.values())
    show(f"{file}: {tensors.format}, {len(tensors.arrays)} tensors, {numbers:,} values")
    for key, text in tensors.metadata.items():
        show(f"  {shown(key)}: {shown(text, 200)}")
    width = max((len(shown(name)) for name in tensors.arrays), default=0)
    for name, array in tensors.arrays.items():
        show(f"  {shown(name):{width}}  {tensors.dtypes[name]:8}  {array.shape}")
    if is_model_file(tensors.metadata):
        show("a model file of minifcn, which minifcn.load reads")
    elif is_checkpoint(tensors.metadata):
        show("the checkpoint of a training, which minifcn train --resume continues")
    elif (found := recognise_fcn(tensors.arrays) or recognise_classifier(tensors.arrays)) is not None:
        _print_match(file, tensors, found)
    else:
        show("no known network")


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
