"""`minifcn evaluate`: the four metrics of a model on a dataset, over whole images at their own size."""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from minifcn.backend import cuda_device
from minifcn.cli.outputs import new_files
from minifcn.cli.shared import DATA, add_device
from minifcn.data import Loader, open_dataset
from minifcn.data.dataset import read_like
from minifcn.files import atomic_write, check_ending
from minifcn.metrics import Absent, ConfusionMatrix
from minifcn.printing import say, show
from minifcn.training import any_channels, evaluate
from minifcn.training.evaluation import json_number
from minifcn.training.memory import check_inference, largest_item
from minifcn.training.network import load_trained, match_classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = "Evaluates whole images one at a time, in one confusion matrix for all of them."
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("data", help=DATA)
    parser.add_argument("--split", default="validation", choices=("train", "validation", "test"))
    absent = (
        "how a class without labelled pixels counts in the means: not, as in training (truth); not unless it "
        "is predicted somewhere (exclude); as 0 (zero); as 1 (one)"
    )
    parser.add_argument("--absent", default="truth", choices=get_args(Absent), help=absent)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--confusion", type=Path, metavar="PNG", help="draw the confusion matrix there")
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate the model."""
    outputs = () if arguments.ranks and arguments.ranks.rank else (arguments.json, arguments.confusion)
    with new_files(*outputs):
        _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    cuda_device(arguments.device)
    for path, ending in ((arguments.json, ".json"), (arguments.confusion, ".png")):
        if path is not None:
            check_ending(path, ending)
            if not path.resolve().parent.is_dir():
                raise ValueError(f"there is no folder {path.resolve().parent} to write {path.name} to")
    ranks = arguments.ranks
    model, info = load_trained(arguments.model)
    dataset = open_dataset(arguments.data, arguments.split)
    read_like([dataset], info.preprocessing.bit_depth, info.preprocessing.bands)
    if (changed := match_classes(info, dataset)) is not None:
        say(changed)
    size = dataset[largest_item(dataset)][1].shape
    check_inference(model, "evaluating an image", size, arguments.device)
    loader = Loader(dataset, 1, preprocess=any_channels(info.preprocessing), seed=0)
    if ranks is not None:
        ranks.compare({"size of the model file": arguments.model.stat().st_size})
        ranks.compare_data(loader)
    how: dict[str, Any] = {"absent": arguments.absent, "progress": "evaluating", "ranks": ranks}
    matrix = evaluate(model.to(arguments.device), loader, **how)
    if ranks is not None and ranks.rank:
        return
    show(f"{arguments.model} on the {arguments.split} split of {arguments.data}: {len(dataset)} images", "")
    show(*matrix.table().split("\n"))
    if arguments.json is not None:
        about = {"model": str(arguments.model), "data": arguments.data, "split": arguments.split}
        text = json.dumps(about | _numbers(matrix, len(dataset)), indent=2, ensure_ascii=False)
        with atomic_write(arguments.json) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")
        show("", f"wrote {arguments.json}")
    if arguments.confusion is not None:
        from minifcn import viz
        from minifcn.cli.figures import save_figure  # Matplotlib takes longer to import than all else

        save_figure(viz.confusion_matrix(matrix.matrix, matrix.class_names), arguments.confusion)
        show("", f"drew {arguments.confusion}")


def _numbers(matrix: ConfusionMatrix, images: int) -> dict[str, Any]:
    """Return all metrics and counts as JSON values."""
    columns = (matrix.iou_per_class().tolist(), matrix.accuracy_per_class().tolist())
    rows = zip(matrix.class_names, *columns, matrix.matrix.sum(axis=1).tolist(), strict=True)
    return {
        "images": images,
        "absent": matrix.absent,
        **{name: json_number(value) for name, value in matrix.summary().items()},
        "classes": [
            {"name": name, "iou": json_number(iou), "accuracy": json_number(accuracy), "pixels": count}
            for name, iou, accuracy, count in rows
        ],
        "confusion_matrix": matrix.matrix.tolist(),
    }
