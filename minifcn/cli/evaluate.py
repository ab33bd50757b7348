"""`minifcn evaluate`: the four metrics of a model on a dataset, over whole images at their own size."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from minifcn import viz
from minifcn.backend import cuda_device
from minifcn.data import Loader, open_dataset
from minifcn.files import atomic_write, check_ending
from minifcn.metrics import Absent, ConfusionMatrix
from minifcn.training import evaluate, fitted
from minifcn.training.evaluation import json_number
from minifcn.training.memory import check_inference, largest_item
from minifcn.training.network import check_classes, trained


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="score a model on a dataset",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Scores whole images one at a time, at their own size. All go into one confusion matrix.",
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("data", help="digits, camvid:PATH, voc:PATH or folder:PATH")
    parser.add_argument("--split", default="validation", choices=("train", "validation", "test"))
    parser.add_argument(
        "--absent",
        default="truth",
        choices=get_args(Absent),
        help="what a class without labelled pixels is in the means: left out, as in training (truth); left "
        "out unless it is predicted somewhere (exclude); 0 (zero); 1 (one)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--confusion", type=Path, metavar="PNG", help="draw the confusion matrix there")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Score the model."""
    cuda_device(arguments.device)
    for path, ending in ((arguments.json, ".json"), (arguments.confusion, ".png")):
        if path is not None:
            check_ending(path, ending)
            if not path.resolve().parent.is_dir():
                raise ValueError(f"there is no folder {path.resolve().parent} to write {path.name} to")
    model, info = trained(arguments.model)
    dataset = open_dataset(arguments.data, arguments.split)
    if (word := check_classes(info, dataset)) is not None:
        print(f"warning: {word}", file=sys.stderr)
    height, width = dataset[largest_item(dataset)][1].shape
    check_inference(model, f"evaluating an image of {width} x {height}", (height, width), arguments.device)
    loader = Loader(dataset, 1, preprocess=fitted(info.preprocessing))
    matrix = evaluate(model.to(arguments.device), loader, absent=arguments.absent, progress="evaluating")
    print(f"{arguments.model} on the {arguments.split} split of {arguments.data}: {len(dataset)} images\n")
    print(matrix.table())
    if arguments.json is not None:
        about = {"model": str(arguments.model), "data": arguments.data, "split": arguments.split}
        with atomic_write(arguments.json) as temporary:
            temporary.write_text(
                json.dumps(about | _numbers(matrix, len(dataset)), indent=2, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
        print(f"\nwrote {arguments.json}")
    if arguments.confusion is not None:
        figure = viz.confusion_matrix(matrix.matrix, matrix.class_names)
        with atomic_write(arguments.confusion) as temporary:
            figure.savefig(temporary, format="png")
        print(f"\ndrew {arguments.confusion}")


def _numbers(matrix: ConfusionMatrix, images: int) -> dict[str, Any]:
    """Return everything that is known, as JSON knows it."""
    classes = zip(
        matrix.class_names,
        matrix.iou_per_class().tolist(),
        matrix.accuracy_per_class().tolist(),
        matrix.matrix.sum(axis=1).tolist(),
        strict=True,
    )
    return {
        "images": images,
        "absent": matrix.absent,
        **{name: json_number(value) for name, value in matrix.summary().items()},
        "classes": [
            {"name": name, "iou": json_number(iou), "accuracy": json_number(accuracy), "pixels": pixels}
            for name, iou, accuracy, pixels in classes
        ],
        "confusion_matrix": matrix.matrix.tolist(),
    }
