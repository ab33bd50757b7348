"""`minifcn train`: a network for labelled photographs, from an ImageNet classifier, in a folder of its own.

The folder holds `model.safetensors`, the best network so far; `last.safetensors`, the checkpoint to resume
from; `log.jsonl`, a record for each epoch; `curve.png`; and in the end `predictions.png`.
"""

import argparse
import math
import shlex
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from minifcn import viz
from minifcn.backend import Array, to_device
from minifcn.data import Dataset, Loader, class_counts, median_frequency_weights, open_dataset
from minifcn.data.errors import counted
from minifcn.data.loader import Preprocess
from minifcn.files import atomic_write
from minifcn.models import FCN
from minifcn.models.registry import CLASSIFIERS
from minifcn.optim import Optimizer
from minifcn.palette import VOID
from minifcn.training import RECIPES, Checkpoints, Curve, Interruptible, Recipe, Watch, fit, fitted, predict
from minifcn.training.checkpoint import Checkpoint
from minifcn.training.memory import check_inference, check_step, largest_item
from minifcn.training.network import set_dropout
from minifcn.training.outputs import EpochLine, attempt, say, show
from minifcn.training.overfit import STEPS, overfit_one
from minifcn.training.settings import Settings, stored_network, stored_settings
from minifcn.training.watch import dead_features
from minifcn.weights import load

MODEL, LAST, LOG, CURVE, PREDICTIONS = (
    "model.safetensors",
    "last.safetensors",
    "log.jsonl",
    "curve.png",
    "predictions.png",
)
_SHOWN = 4  # validation images in the picture of predictions
_LOOKED_AT = 24  # images whose sizes and labels are looked at, besides the largest


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network for labelled photographs",
        argument_default=argparse.SUPPRESS,  # so that a resumed training knows what was said and what was not
        description="Makes a network that labels pixels, and trains it. Ctrl-C saves and stops.",
    )
    parser.add_argument("data", nargs="?", help="digits, camvid:PATH, voc:PATH or folder:PATH")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")

    begin = parser.add_argument_group("what it begins with (one of the three)")
    begin.add_argument("--weights", metavar="FILE", help="weights of a classifier, for --model")
    begin.add_argument("--from", dest="start", metavar="MODEL", help="a model file, which is trained on")
    begin.add_argument("--from-scratch", action="store_true", help="random weights, for --model")
    begin.add_argument("--model", choices=sorted(CLASSIFIERS), help="the classifier")

    network = parser.add_argument_group("the network")
    network.add_argument("--stride", type=int, help="of the finest scored map (default: the finest there is)")
    network.add_argument("--alignment", choices=("exact", "paper"), help="default: exact")
    network.add_argument("--upsampling", choices=("fixed", "learned"), help="default: fixed")
    network.add_argument(
        "--at-once", action="store_true", help="scale skips down: all strides train together"
    )
    network.add_argument("--freeze-trunk", action="store_true", help="train the score layers alone")
    network.add_argument("--dropout", type=float, metavar="P", help="default: the classifier's")

    how = parser.add_argument_group("how it is trained")
    recipes = "; ".join(f"{recipe.name}: {recipe.purpose}" for recipe in RECIPES.values())
    how.add_argument("--recipe", choices=tuple(RECIPES), help=f"default: quick. {recipes}")
    how.add_argument("--epochs", type=int, metavar="N", help="default: 15")
    how.add_argument("--lr", type=float, metavar="RATE", help="instead of the recipe's")
    how.add_argument("--batch", type=int, metavar="N", help="images in a batch, instead of the recipe's")
    how.add_argument("--accumulate", type=int, metavar="N", help="batches in a step, instead of the recipe's")
    how.add_argument("--class-weights", choices=("none", "median"), help="median frequency over frequency")
    how.add_argument("--seed", type=int, metavar="N", help="default: 0")
    how.add_argument("--device", help="cpu (default), cuda or cuda:N")

    images = parser.add_argument_group("what is done to images and labels, at random")
    images.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, help="mirror half of them (default, but for digits)"
    )
    images.add_argument("--scale", type=_range, metavar="LOW,HIGH", help="resize by a factor between these")
    images.add_argument("--crop", type=_size, metavar="WxH", help="cut out a window")
    images.add_argument("--color", type=float, metavar="AMOUNT", help="0 to 1: how much colours change")

    course = parser.add_argument_group("its course")
    course.add_argument("--resume", action="store_true", help="continue the training in --out, bit by bit")
    course.add_argument(
        "--checkpoint-every",
        type=_every,
        metavar="N|Nm",
        help="steps, or minutes (default: 10m), besides each epoch",
    )
    course.add_argument(
        "--overfit-one", action="store_true", help="only see whether one image can be learned by heart"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the training."""
    given = {name: value for name, value in vars(arguments).items() if name in Settings.__dataclass_fields__}
    out, one_image = arguments.out, hasattr(arguments, "overfit_one")
    _check_folder(out)
    checkpoint = Checkpoint.read(_resumable(out)) if hasattr(arguments, "resume") else None
    settings = Settings(**given) if checkpoint is None else stored_settings(checkpoint, given)
    settings.check()
    if checkpoint is not None and one_image:
        raise ValueError("--overfit-one begins anew: leave --resume out")
    if checkpoint is None and not one_image:
        _check_unused(out)
    dataset, validation = open_dataset(settings.data, "train"), open_dataset(settings.data, "validation")

    model, staged = settings.network(dataset) if checkpoint is None else stored_network(checkpoint)
    assert model.info is not None
    set_dropout(model, 0.0 if one_image else settings.dropout, settings.seed)
    if settings.freeze_trunk:
        model.freeze_trunk()
    model.to(settings.device)
    recipe = RECIPES[settings.recipe].changed(
        lr=settings.lr, batch_size=settings.batch, accumulate=settings.accumulate
    )
    if one_image:
        recipe = recipe.changed(batch_size=1, accumulate=1)
    optimizer = recipe.optimizer(model, staged=staged)
    preprocess = fitted(model.info.preprocessing)
    size = _check_parts(settings, recipe, optimizer, model, dataset, validation)
    if checkpoint is None and not one_image:
        x = to_device(preprocess(dataset[0][0][None]), settings.device)
        if (word := dead_features(model, x)) is not None:
            say(f"warning: {word}")
    course = f"at most {STEPS} steps" if one_image else counted(settings.epochs, "epoch")
    _describe(recipe, optimizer, model, dataset, validation, size, course)
    out.mkdir(parents=True, exist_ok=True)
    if one_image:
        return _overfit(model, dataset, optimizer, recipe, preprocess, out)

    loader = Loader(
        dataset,
        recipe.batch_size,
        preprocess=preprocess,
        shuffle=True,
        seed=settings.seed,
        augment=settings.augment(),
    )
    steps, minutes = getattr(arguments, "checkpoint_every", (None, 10.0))
    checkpoints = Checkpoints(
        out / LAST,
        best=out / MODEL,
        every_steps=steps,
        every_minutes=minutes,
        resume=checkpoint is not None,
        settings={"command": asdict(settings if checkpoint else settings.anywhere()) | {"staged": staged}},
    )
    advice = f"continue with: minifcn train --resume --out {shlex.quote(str(out))}"
    with Interruptible(checkpoints, advice) as interruptible, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # divergence is told in better words
        fit(
            model,
            loader,
            optimizer,
            epochs=settings.epochs,
            schedule=recipe.schedule_of(settings.epochs, len(loader)),
            reduction=recipe.reduction,
            class_weights=_class_weights(settings, dataset),
            accumulate=recipe.accumulate,
            validation=Loader(validation, 1, preprocess=preprocess),
            log=out / LOG,
            callbacks=[checkpoints, Watch(), EpochLine(), Curve(out / CURVE), interruptible],
        )
    _draw(out, validation)
    if checkpoint is not None and checkpoint.entries["epoch"] == settings.epochs:
        done = f"all {settings.epochs} epochs were done before"
        show(f"{done}; for more, begin another training with --from {out / MODEL}")
    return 0


def _check_folder(out: Path) -> None:
    """Refuse what can be no folder, or looks like a file."""
    if out.is_file() or out.suffix.lower() in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"--out {out} must be a folder: it gets the model ({MODEL}), a checkpoint and more")


def _resumable(out: Path) -> Path:
    """Return the checkpoint of a folder."""
    if not (out / LAST).exists():
        raise ValueError(f"--resume: {out} holds no checkpoint ({LAST}) to continue from")
    return out / LAST


def _check_unused(out: Path) -> None:
    """Refuse a folder in which something of a run lies."""
    for name in (LAST, MODEL, LOG):
        if (out / name).exists():
            raise ValueError(
                f"--out {out} holds a training already ({name}): continue it with --resume, or take another "
                f"folder"
            )


def _check_parts(
    settings: Settings,
    recipe: Recipe,
    optimizer: Optimizer,
    model: FCN,
    dataset: Dataset,
    validation: Dataset,
) -> tuple[int, int]:
    """Refuse a rate, sizes or labels that cannot be, by some items; return (H, W) of the largest batch."""
    seen, scored = _look_at(dataset), _look_at(validation)
    if (word := _one_class(dataset, seen, "train on")) is not None:
        raise ValueError(f"{word}: there is nothing to tell it from (see minifcn check-data)")
    if (word := _one_class(validation, scored, "evaluate on")) is not None:
        say(f"warning: {word}: the scores will say nothing about other classes")
    whole = tuple(map(max, zip(*(labels.shape for labels in seen), strict=True)))
    factor = max(settings.scale or (1.0, 1.0))
    height, width = (math.ceil(factor * side) for side in whole)
    if settings.crop is not None:
        height, width = min(height, settings.crop[0]), min(width, settings.crop[1])
    recipe.check_rate(optimizer.lr, height * width)
    batch = recipe.batch_size
    word = check_step(model, optimizer, batch, batch * recipe.accumulate, (height, width), settings.device)
    rows, columns = max((labels.shape for labels in scored), key=math.prod)
    check_inference(model, f"evaluating an image of {columns} x {rows}", (rows, columns), settings.device)
    say(word)
    return height, width


def _look_at(dataset: Dataset) -> list[Array]:
    """Return the labels of some items, the largest among them, (H, W) each."""
    indices = {int(i) for i in np.linspace(0, len(dataset) - 1, _LOOKED_AT)} | {largest_item(dataset)}
    return [dataset[index][1] for index in sorted(indices)]


def _one_class(dataset: Dataset, seen: list[Array], purpose: str) -> str | None:
    """Say in words if all labels are of one class, as those of masks of 0 and 255 are, where 255 is void.

    Args:
        dataset: All of it is counted where what was seen leaves a doubt.
        seen: Some of its labels.
        purpose: What its images are there for.
    """
    if len(set().union(*(np.unique(labels).tolist() for labels in seen)) - {VOID}) > 1:
        return None
    there = np.flatnonzero(class_counts(dataset, progress="counting classes").pixels[:-1]).tolist()
    if len(there) > 1:
        return None
    words = "".join(f"{dataset.class_names[label]!r} or " for label in there)
    return f"every pixel of the {counted(len(dataset), 'image')} to {purpose} is {words}void ({VOID})"


def _describe(
    recipe: Recipe,
    optimizer: Optimizer,
    model: FCN,
    dataset: Dataset,
    validation: Dataset,
    size: tuple[int, int],
    course: str,
) -> None:
    """Print what is about to happen."""
    parameters = [parameter for parameter in model.parameters() if parameter.trainable]
    on_mean = recipe.rate_on_mean(optimizer.lr, size[0] * size[1])
    show(
        f"{len(dataset)} images to train on, {len(validation)} to evaluate, "
        f"{len(dataset.class_names)} classes, up to {size[1]} x {size[0]} pixels"
    )
    show(
        f"stride {model.stride}, alignment {model.alignment}, "
        f"{sum(parameter.data.size for parameter in parameters):,} parameters to train"
    )
    show(
        f"recipe {recipe.name}: {type(optimizer).__name__}, rate {optimizer.lr:.1e} "
        f"on the {recipe.reduction} over pixels"
        + ("" if recipe.reduction == "mean" else f" (as {on_mean:.1e} on their mean)")
        + f", {counted(recipe.batch_size * recipe.accumulate, 'image')} a step, {course}"
    )


def _class_weights(settings: Settings, dataset: Dataset) -> Array | None:
    """Return a weight for each class, if that is wanted."""
    if settings.class_weights == "none":
        return None
    weights = median_frequency_weights(class_counts(dataset))
    words = (f"{name} {w:.2f}" for name, w in zip(dataset.class_names, weights.tolist(), strict=True))
    show(f"class weights: {', '.join(words)}")
    return weights


def _overfit(
    model: FCN, dataset: Dataset, optimizer: Optimizer, recipe: Recipe, preprocess: Preprocess, out: Path
) -> int:
    """See whether one image can be learned; draw it, too."""
    verdict = overfit_one(model, dataset, optimizer, preprocess=preprocess, reduction=recipe.reduction)
    image, labels = dataset[verdict.index]
    path = out / "overfit-one.png"
    figure = viz.prediction_strips(
        [image], [labels], [verdict.prediction], dataset.class_names, np.asarray(dataset.palette)
    )
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
    show(f"one image: {verdict.sentence}. Picture: {path}")
    return 0 if verdict.learnt else 1


def _draw(out: Path, validation: Dataset) -> None:
    """Draw what the best network makes of some validation images."""
    model = load(out / MODEL)
    assert model.info is not None
    preprocess = fitted(model.info.preprocessing)
    chosen = np.unique(np.linspace(0, len(validation) - 1, _SHOWN).astype(int))
    images, labels = zip(*(validation[int(i)] for i in chosen), strict=True)
    predictions = [predict(model, preprocess(image[None]))[0] for image in images]
    figure = viz.prediction_strips(images, labels, predictions, model.info.class_names, model.info.palette)
    with attempt(f"the picture {out / PREDICTIONS}"), atomic_write(out / PREDICTIONS) as temporary:
        figure.savefig(temporary)
    show(f"best network: {out / MODEL}; pictures: {out / CURVE}, {out / PREDICTIONS}")


def _size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT as (H, W)."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 320x240, got {text!r}")
    return int(height), int(width)


def _range(text: str) -> tuple[float, float]:
    """Read LOW,HIGH."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 < low <= high < math.inf:
        raise argparse.ArgumentTypeError(f"expected two factors LOW,HIGH such as 0.5,2, got {text!r}")
    return low, high


def _every(text: str) -> tuple[int | None, float | None]:
    """Read a number of steps, or of minutes: (steps, minutes)."""
    number, minutes = (text[:-1], True) if text.endswith("m") else (text, False)
    try:
        value = float(number) if minutes else int(number)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected steps such as 200, or minutes such as 5m, got {text!r}")
    return (None, value) if minutes else (int(value), None)
