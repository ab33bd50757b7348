"""`minifcn explain`: what each layer of a network gives for images of a size, and what it costs."""

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from minifcn.cli.shared import size
from minifcn.dense import convolutionalize
from minifcn.layers import Layer
from minifcn.models import FCN, Classifier, Explanation, build, explain, registry
from minifcn.models.fcn import Alignment
from minifcn.printing import show

_VOC_CLASSES = 21


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Prints the output, receptive field and cost of each layer of a network for images of a size, "
        "without computing them. With --classes, --stride or --alignment, it describes the FCN made from the "
        "classifier, and compares both alignments."
    )
    known = ", ".join(registry.names())
    parser.add_argument("model", metavar="MODEL", help=f"a model file, or one of {known}")
    parser.add_argument("--size", type=size, metavar="WxH", help="of the images (default: the classifier's)")
    classes = f"classes of the FCN (default: {_VOC_CLASSES})"
    parser.add_argument("--classes", dest="num_classes", type=int, metavar="N", help=classes)
    parser.add_argument("--stride", type=int, help="of the finest scored map (default: the coarsest)")
    parser.add_argument("--alignment", choices=get_args(Alignment), help="of the FCN (default: exact)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch (default: 1)")


def run(arguments: argparse.Namespace) -> None:
    """Print the explanation."""
    model = _model(arguments.model)
    given = {name: getattr(arguments, name) for name in ("num_classes", "stride", "alignment")}
    asked = {name: value for name, value in given.items() if value is not None}
    classifier, options = _origin(model)
    if asked:
        if classifier is None:
            raise ValueError(
                f"{arguments.model}: --classes, --stride and --alignment need a Classifier, or an FCN of one "
                f"with a registered name, got {type(model).__name__}"
            )
        model = FCN(classifier, **options | asked)
    images = arguments.size or getattr(classifier, "input_shape", (0,))[1:]
    if not images:
        raise ValueError(f"size must be given for {arguments.model}")
    show(*str(_explain(model, images, arguments.batch)).split("\n"))
    if isinstance(model, FCN) and classifier is not None:
        show("", *_comparison(classifier, options | asked, images, arguments.batch))


def _model(name: str) -> Layer:
    """Return the network in a file, or a new classifier."""
    if name in registry.names():
        return build(name, init="zeros")
    if not Path(name).exists():
        raise ValueError(f"{name!r} is neither a file nor one of {', '.join(registry.names())}")
    from minifcn.weights import load

    model: Layer = load(name)
    return model


def _origin(model: Layer) -> tuple[Classifier | None, dict[str, Any]]:
    """Return the classifier that an FCN comes from, if it can be built again, and the FCN's options.

    For a classifier these are itself and the options of an FCN made from it.
    """
    if isinstance(model, Classifier):
        return model, {"num_classes": _VOC_CLASSES}
    if isinstance(model, FCN):
        options = model.architecture["arguments"]
        with suppress(ValueError):  # it has no name, or the package that offers it is not installed
            classifier = build(options.pop("classifier"), init="zeros")
            assert isinstance(classifier, Classifier)
            return classifier, options
    return None, {}


def _explain(model: Layer, images: tuple[int, int], batch: int) -> Explanation:
    """Explain a network; a classifier for images of another size than its own becomes a convolution."""
    if not isinstance(model, Classifier) or images == model.input_shape[1:]:
        return explain(model, images, batch=batch)
    sliding = explain(convolutionalize(model, model.input_shape), images, batch=batch)
    name = model.architecture.get("name", "classifier")
    return replace(sliding, title=f"{name}, convolutionalized:{sliding.title.partition(':')[2]}")


def _comparison(
    classifier: Classifier, options: dict[str, Any], images: tuple[int, int], batch: int
) -> list[str]:
    """Return what the FCN costs in both alignments."""
    lines, products = [], []
    for name in ("exact", "paper"):
        try:
            total = explain(FCN(classifier, **options | {"alignment": name}), images, batch=batch).total
        except ValueError as error:
            lines.append(f"alignment {name}:  {error}")
            continue
        products.append(total.multiplications)
        giga, mega = total.multiplications / 1e9, total.activation_bytes / 1e6
        lines.append(f"alignment {name}:  {giga:8.2f} G multiplications, {mega:8.1f} MB kept for backward")
    if len(products) == 2:
        share = products[0] / products[1]
        lines.append(f"exact alignment needs {share:.0%} of the multiplications of paper alignment")
    return lines
