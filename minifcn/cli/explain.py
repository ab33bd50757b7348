"""`minifcn explain`: what each layer of a network gives for images of a size, and what it costs."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minifcn.cli.shared import size
from minifcn.dense import convolutionalize
from minifcn.models import FCN, Classifier, Explanation, build, explain
from minifcn.models.explanation import Totals
from minifcn.models.registry import CLASSIFIERS

_VOC_CLASSES = 21


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Prints the output, receptive field and cost of each layer of a network for images of a size, "
        "without computing them. With --classes, --stride or --alignment, it describes the FCN made from the "
        "classifier, and compares both alignments."
    )
    parser.add_argument("model", metavar="MODEL", help=f"a model file, or one of {', '.join(CLASSIFIERS)}")
    parser.add_argument("--size", type=size, metavar="WxH", help="of the images (default: the classifier's)")
    parser.add_argument("--classes", type=int, help=f"classes of the FCN (default: {_VOC_CLASSES})")
    parser.add_argument("--stride", type=int, help="of the finest scored map (default: the coarsest)")
    parser.add_argument("--alignment", choices=("exact", "paper"), help="of the FCN (default: exact)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch (default: 1)")
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
        known = {k: {"refused": v} if isinstance(v, str) else asdict(v) for k, v in totals.items()}
        print(json.dumps(explanation.as_dict() | ({"alignments": known} if totals else {}), indent=2))
        return
    print(explanation)
    if totals:
        print(f"\n{_comparison(totals)}")


def _architecture(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the architecture of the model, or that of an FCN made from it."""
    name = arguments.model
    if name in CLASSIFIERS:
        architecture = CLASSIFIERS[name](init="zeros").architecture
    elif Path(name).exists():
        from minifcn.weights import load

        architecture = load(name).architecture
    else:
        raise ValueError(f"{name!r} is neither a file nor one of {', '.join(CLASSIFIERS)}")
    names = {"num_classes": "classes", "stride": "stride", "alignment": "alignment"}
    given = {key: getattr(arguments, option) for key, option in names.items()}
    asked = {key: value for key, value in given.items() if value is not None}
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
    images = trained if arguments.size is None else arguments.size
    if isinstance(model, FCN) or images == trained:
        return explain(model, images, batch=arguments.batch)
    sliding = explain(convolutionalize(classifier, classifier.input_shape), images, batch=arguments.batch)
    title = sliding.title.split(":", 1)[1]
    return replace(sliding, title=f"{architecture['name']}, convolutionalized:{title}")


def _both_alignments(
    architecture: dict[str, Any], arguments: argparse.Namespace, explanation: Explanation
) -> dict[str, Totals | str]:
    """Return the totals of both alignments, or why there are none."""
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


def _comparison(totals: dict[str, Totals | str]) -> str:
    lines = []
    for name, total in totals.items():
        costs = total
        if not isinstance(total, str):
            products, kept = total.multiplications / 1e9, total.activation_bytes / 1e6
            costs = f"{products:8.2f} G multiplications, {kept:8.1f} MB kept for backward"
        lines.append(f"alignment {name}:  {costs}")
    exact, paper = totals["exact"], totals["paper"]
    if isinstance(exact, Totals) and isinstance(paper, Totals):
        share = exact.multiplications / paper.multiplications
        lines.append(f"exact alignment needs {share:.0%} of the multiplications of paper alignment")
    return "\n".join(lines)
