"""`minifcn explain`: what a network does to images of a size, layer by layer, and what it costs."""

import argparse
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minifcn.convolutionalize import convolutionalize
from minifcn.models import FCN, Classifier, Explanation, build, explain
from minifcn.models.explanation import Totals
from minifcn.models.registry import CLASSIFIERS

_VOC_CLASSES = 21


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="every layer's shape, receptive field, place, parameters, multiplications and bytes",
        description="Print what each layer of a network gives, sees and costs, for images of a size. Nothing "
        "is computed. With --classes, --stride or --alignment it is about the FCN made from the classifier, "
        "and both alignments are compared.",
    )
    parser.add_argument("model", metavar="MODEL", help=f"a model file, or one of {', '.join(CLASSIFIERS)}")
    parser.add_argument(
        "--size",
        metavar="WxH",
        help="width x height of the images, for example 500x375; the size the classifier was made for unless "
        "given",
    )
    parser.add_argument("--classes", type=int, help=f"classes of the FCN ({_VOC_CLASSES} unless given)")
    parser.add_argument("--stride", type=int, help="finest map that the FCN scores (the coarsest it can)")
    parser.add_argument("--alignment", choices=("exact", "paper"), help="of the FCN (exact)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch (1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the explanation."""
    architecture = _architecture(arguments)
    explanation = _explain(architecture, arguments)
    totals = {}
    if architecture["name"] == "fcn":
        totals = _both_alignments(architecture, arguments, explanation)
    if arguments.json:
        alignments = {name: _plain(total) for name, total in totals.items()}
        print(json.dumps(explanation.as_dict() | ({"alignments": alignments} if totals else {}), indent=2))
        return
    print(explanation)
    if totals:
        print(f"\n{_comparison(totals)}")


def _architecture(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the architecture that is asked for: the model's own, or that of an FCN of it."""
    name = arguments.model
    if name in CLASSIFIERS:
        architecture = CLASSIFIERS[name](init="zeros").architecture
    elif Path(name).exists():
        from minifcn.weights import load

        architecture = load(name).architecture
    else:
        known = ", ".join(CLASSIFIERS)
        raise ValueError(f"{name!r} is neither a file nor an architecture; those are {known}")
    asked = {
        "num_classes": arguments.classes,
        "stride": arguments.stride,
        "alignment": arguments.alignment,
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    if architecture["name"] == "fcn":
        return {"name": "fcn", "arguments": architecture["arguments"] | asked}
    if not asked:
        return architecture
    fresh = {"classifier": architecture, "num_classes": _VOC_CLASSES, "alignment": "exact"}
    return {"name": "fcn", "arguments": fresh | asked}


def _explain(architecture: dict[str, Any], arguments: argparse.Namespace) -> Explanation:
    model = build(architecture, init="zeros")
    classifier = (
        build(architecture["arguments"]["classifier"], init="zeros") if isinstance(model, FCN) else model
    )
    assert isinstance(classifier, Classifier)
    trained = classifier.input_shape[1:]
    size = trained if arguments.size is None else _size(arguments.size)
    if isinstance(model, FCN) or size == trained:
        return explain(model, size, batch=arguments.batch)
    sliding = explain(convolutionalize(classifier, classifier.input_shape), size, batch=arguments.batch)
    _, images = sliding.title.split(":", 1)
    return replace(sliding, title=f"{architecture['name']}, convolutionalized:{images}")


def _size(text: str) -> tuple[int, int]:
    """Return (height, width) for "500x375"."""
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip(), re.ASCII | re.IGNORECASE)
    if not found:
        raise ValueError(f"--size must be width x height, for example 500x375, got {text[:50]!r}")
    return int(found[2]), int(found[1])


def _both_alignments(
    architecture: dict[str, Any], arguments: argparse.Namespace, explanation: Explanation
) -> dict[str, Totals | str]:
    """Return the totals in either alignment, or why there are none."""
    mine = architecture["arguments"].get("alignment", "exact")
    totals: dict[str, Totals | str] = {}
    for name in ("exact", "paper"):
        if name == mine:
            totals[name] = explanation.total
            continue
        other = {"name": "fcn", "arguments": architecture["arguments"] | {"alignment": name}}
        try:
            totals[name] = _explain(other, arguments).total
        except ValueError as error:
            totals[name] = str(error)
    return totals


def _plain(total: Totals | str) -> Any:
    return {"refused": total} if isinstance(total, str) else asdict(total)


def _comparison(totals: dict[str, Totals | str]) -> str:
    lines = []
    for name, total in totals.items():
        said = total if isinstance(total, str) else _costs(total)
        lines.append(f"alignment {name}:  {said}")
    exact, paper = totals["exact"], totals["paper"]
    if isinstance(exact, Totals) and isinstance(paper, Totals):
        share = exact.multiplications / paper.multiplications
        lines.append(f"exact alignment does it with {share:.0%} of the multiplications of paper's")
    return "\n".join(lines)


def _costs(total: Totals) -> str:
    products, kept = total.multiplications / 1e9, total.activation_bytes / 1e6
    return f"{products:8.2f} G multiplications, {kept:8.1f} MB kept for backward"
