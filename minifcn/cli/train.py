"""`minifcn train`: train an FCN on labelled images, starting from a classifier, in a folder of its own.

The folder contains `model.safetensors`, the best network so far; `last.safetensors`, the checkpoint to resume
from; `log.jsonl`, a record for each epoch; `curve.png`; and at the end `predictions.png`.
"""

import argparse
import math
import shlex
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from minifcn.backend import Array, to_device
from minifcn.cli.figures import save_strips
from minifcn.cli.outputs import OutputFolder, output_folder
from minifcn.cli.settings import Settings, stored_network, stored_settings
from minifcn.cli.shared import BANDS, DATA, bands, size
from minifcn.data import Dataset, Loader, check_dataset, class_counts, median_frequency_weights, open_dataset
from minifcn.data.check import ERRORS, SplitReport
from minifcn.data.dataset import read_like
from minifcn.data.errors import counted
from minifcn.data.loader import Preprocess
from minifcn.models import FCN
from minifcn.models.fcn import Alignment
from minifcn.models.registry import names
from minifcn.optim import Optimizer
from minifcn.palette import VOID
from minifcn.printing import brief
from minifcn.training import RECIPES, Recipe, any_channels, fit
from minifcn.training.callbacks import Checkpoints, Curve, EpochLine, Interruptible, Watch
from minifcn.training.callbacks.watch import dead_features
from minifcn.training.checkpoint import Checkpoint
from minifcn.training.memory import check_inference, check_step, largest_item
from minifcn.training.network import match_classes
from minifcn.training.overfit import STEPS, overfit_one
from minifcn.training.progress import attempt, say, show
from minifcn.weights import load

if TYPE_CHECKING:
    from minifcn.training.ranks import Ranks

MODEL, LAST, LOG = "model.safetensors", "last.safetensors", "log.jsonl"
CURVE, PREDICTIONS, OVERFIT = "curve.png", "predictions.png", "overfit-one.png"
_SHOWN = 4  # validation images in the figure of predictions
_SAMPLED = 24  # images whose sizes and labels are checked, besides the largest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Makes an FCN from a classifier, and trains it. Ctrl-C saves and stops."
    parser.argument_default = argparse.SUPPRESS  # a resumed training must know which options were given
    parser.add_argument("data", nargs="?", help=DATA)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")

    begin = parser.add_argument_group("initial weights (one of the three)")
    begin.add_argument("--weights", metavar="FILE", help="weights of a classifier; --model if not recognised")
    begin.add_argument("--from", dest="start", metavar="MODEL", help="a model file to continue from")
    begin.add_argument("--from-scratch", action="store_true", help="random weights, for --model")
    begin.add_argument("--model", choices=names(), help="the classifier")

    network = parser.add_argument_group("network")
    network.add_argument("--stride", type=int, help="of the finest scored map (default: the finest there is)")
    network.add_argument("--alignment", choices=get_args(Alignment), help="default: exact")
    network.add_argument("--upsampling", choices=("fixed", "learned"), help="default: fixed")
    network.add_argument("--at-once", action="store_true", help="scale skips, to train all strides at once")
    network.add_argument("--freeze-trunk", action="store_true", help="train only the score layers")
    frozen = "also of pretrained weights (default: frozen)"
    network.add_argument("--train-batch-norm", action="store_true", help=frozen)
    network.add_argument("--dropout", type=float, metavar="P", help="default: the classifier's")

    how = parser.add_argument_group("optimisation")
    recipes = "; ".join(f"{recipe.name}: {recipe.purpose}" for recipe in RECIPES.values())
    how.add_argument("--recipe", choices=tuple(RECIPES), help=f"default: quick. {recipes}")
    how.add_argument("--epochs", type=int, metavar="N", help="default: 15")
    how.add_argument("--lr", type=float, metavar="RATE", help="default: the recipe's")
    how.add_argument("--batch", dest="batch_size", type=int, metavar="N", help="default: the recipe's")
    how.add_argument("--accumulate", type=int, metavar="N", help="batches per step (default: the recipe's)")
    how.add_argument("--class-weights", choices=("none", "median"), help="median frequency / frequency")
    how.add_argument("--seed", type=int, metavar="N", help="default: 0")
    how.add_argument("--device", help="cpu (default), cuda or cuda:N")

    images = parser.add_argument_group("random changes of images and labels")
    images.add_argument("--flip", action=argparse.BooleanOptionalAction, help="default: all but digits")
    images.add_argument("--scale", type=_range, metavar="LOW,HIGH", help="resize by a factor in this range")
    images.add_argument("--crop", type=size, metavar="WxH", help="cut out a window")
    images.add_argument("--bands", type=bands, metavar="N,N,N", help=BANDS)
    images.add_argument("--color", type=float, metavar="AMOUNT", help="change colours by up to 0 to 1")

    course = parser.add_argument_group("run")
    course.add_argument("--resume", action="store_true", help="continue the training in --out, bit for bit")
    every = "steps, or minutes, between checkpoints within an epoch (default: 10m)"
    course.add_argument("--checkpoint-every", type=_every, metavar="N|Nm", help=every)
    course.add_argument("--overfit-one", action="store_true", help="only test if one image can be learned")


def run(arguments: argparse.Namespace) -> int:
    """Run the training."""
    given = {name: value for name, value in vars(arguments).items() if name in Settings.__dataclass_fields__}
    out, resume, one_image = arguments.out, hasattr(arguments, "resume"), hasattr(arguments, "overfit_one")
    if out.is_file() or out.suffix.lower() in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"out must be a folder, for the model ({MODEL}), a checkpoint and more, got {out}")
    if resume and one_image:
        raise ValueError("--overfit-one cannot be combined with --resume")
    if arguments.ranks is not None:
        if one_image:
            raise ValueError("--overfit-one needs only one process")
        if arguments.ranks.rank:  # rank 0 writes, and all others read
            return _train(arguments, given, Checkpoint.read(out / LAST) if resume else None)
    with output_folder(out) as folder:
        if one_image:
            folder.check(OVERFIT)
            return _train(arguments, given, None)
        return _train(arguments, given, _checkpoint(folder, resume))


def _train(arguments: argparse.Namespace, given: dict[str, Any], checkpoint: Checkpoint | None) -> int:
    """Train into a folder that may be written to."""
    out, one_image = arguments.out, hasattr(arguments, "overfit_one")
    settings = Settings(**given) if checkpoint is None else stored_settings(checkpoint, given)
    settings.check()
    dataset, validation = open_dataset(settings.data, "train"), open_dataset(settings.data, "validation")
    read_like([dataset, validation], 8, settings.bands)

    model, staged = settings.network(dataset) if checkpoint is None else stored_network(checkpoint)
    assert model.info is not None
    preprocessing = model.info.preprocessing
    read_like([dataset, validation], preprocessing.bit_depth, preprocessing.bands)
    for part in (dataset, validation):
        match_classes(model.info, part)
    settings.prepare(model, 0.0 if one_image else settings.dropout)
    recipe = settings.optimization()
    if one_image:
        recipe = recipe.changed(batch_size=1, accumulate=1)
    optimizer = recipe.optimizer(model, staged=staged)
    ranks = arguments.ranks
    if ranks is not None:
        ranks.check(model, recipe.batch_size, recipe.accumulate)
    job = _Job(settings, recipe, optimizer, model, dataset, validation, ranks)
    job.check(f"at most {STEPS} steps" if one_image else counted(settings.epochs, "epoch"))
    preprocess = any_channels(preprocessing)
    if checkpoint is None and not one_image:
        x = to_device(preprocess(dataset[0][0][None]), settings.device)
        if (warning := dead_features(model, x)) is not None:
            say(f"warning: {warning}")
    if one_image:
        return job.overfit(preprocess, out)

    changes: dict[str, Any] = {"shuffle": True, "seed": settings.seed, "augment": settings.augment()}
    loader = Loader(dataset, recipe.batch_size, preprocess=preprocess, **changes)
    steps, minutes = getattr(arguments, "checkpoint_every", (None, 10.0))
    checkpoints = Checkpoints(
        out / LAST,
        best=out / MODEL,
        every_steps=steps,
        every_minutes=minutes,
        resume=checkpoint is not None,
        settings={"command": settings.stored() | {"staged": staged}},
    )
    advice = f"continue with: minifcn train --resume --out {shlex.quote(str(out))}"
    with Interruptible(checkpoints, advice) as interruptible, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # `fit` reports divergence itself
        fit(
            model,
            loader,
            optimizer,
            epochs=settings.epochs,
            schedule=recipe.schedule_of(settings.epochs, len(loader)),
            reduction=recipe.reduction,
            class_weights=job.class_weights(),
            accumulate=recipe.accumulate,
            validation=Loader(validation, 1, preprocess=preprocess, seed=0),
            log=out / LOG,
            callbacks=[checkpoints, Watch(), EpochLine(), Curve(out / CURVE), interruptible],
            ranks=ranks,
        )
    if ranks is not None and ranks.rank:
        return 0
    shown = np.unique(np.linspace(0, len(validation) - 1, _SHOWN).astype(int)).tolist()
    with attempt(f"the figure {out / PREDICTIONS}"):
        save_strips(validation, shown, load(out / MODEL), out / PREDICTIONS)
    show(f"best network: {out / MODEL}; figures: {out / CURVE}, {out / PREDICTIONS}")
    if checkpoint is not None and checkpoint.entries["epoch"] == settings.epochs:
        show(f"all {settings.epochs} epochs were done before; for more, train with --from {out / MODEL}")
    return 0


def _checkpoint(folder: OutputFolder, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to resume from; refuse folders with another training, or with files of others."""
    out = folder.path
    if resume and not folder.exists(LAST):
        raise ValueError(f"resume: {out} contains no checkpoint ({LAST})")
    used = next((name for name in (LAST, MODEL, LOG) if folder.exists(name)), None)
    if used and not resume:
        raise ValueError(f"out: {out} contains a training ({used}): use --resume, or another folder")
    checkpoint = Checkpoint.read(out / LAST) if resume else None
    if resume:
        folder.adopt(LAST)
    folder.check(MODEL, LAST, LOG, CURVE, PREDICTIONS)
    return checkpoint


@dataclass(frozen=True)
class _Job:
    """What is trained, and how."""

    settings: Settings
    recipe: Recipe
    optimizer: Optimizer
    model: FCN
    dataset: Dataset
    validation: Dataset
    ranks: "Ranks | None"

    def check(self, course: str) -> None:
        """Refuse an unsuitable rate, size or labels, from a sample of the images; print the settings."""
        settings, recipe, lr = self.settings, self.recipe, self.optimizer.lr
        parts = _checked(self.dataset, self.validation)
        seen, scored = parts["train"], parts["validation"]
        factor = max(settings.scale or (1.0, 1.0))
        height, width = (math.ceil(factor * max(edge)) for edge in zip(*seen.sizes, strict=True))
        if settings.crop is not None:
            height, width = min(height, settings.crop[0]), min(width, settings.crop[1])
        recipe.check_rate(lr, height * width)
        batch, images = recipe.batch_size, recipe.batch_size * recipe.accumulate
        how = images, (height, width), settings.device, self.ranks
        message = check_step(self.model, self.optimizer, batch, *how)
        rows, columns = max(scored.sizes, key=math.prod)
        check_inference(self.model, "evaluating an image", (rows, columns), settings.device)
        say(message)
        trained = sum(parameter.data.size for parameter in self.model.parameters() if parameter.trainable)
        on_mean = recipe.rate_on_mean(lr, height * width)
        equal = "" if recipe.reduction == "mean" else f" (as {on_mean:.1e} on their mean)"
        show(
            f"{len(self.dataset)} images to train on, {len(self.validation)} to evaluate, "
            f"{len(self.dataset.class_names)} classes, up to {width} x {height} pixels",
            f"stride {self.model.stride}, alignment {self.model.alignment}, {trained:,} parameters to train",
            f"recipe {recipe.name}: {type(self.optimizer).__name__}, rate {lr:.1e} on the {recipe.reduction} "
            f"over pixels{equal}, {counted(images, 'image')} per step, {course}",
        )

    def class_weights(self) -> Array | None:
        """Return the weight of each class, or `None` for no weights."""
        if self.settings.class_weights == "none":
            return None
        weights: Array | None = None
        if self.ranks is None or self.ranks.rank == 0:
            weights = median_frequency_weights(class_counts(self.dataset))
            named = zip(self.dataset.class_names, weights.tolist(), strict=True)
            show(f"class weights: {', '.join(f'{name} {weight:.2f}' for name, weight in named)}")
        return weights if self.ranks is None else self.ranks.broadcast(weights)

    def overfit(self, preprocess: Preprocess, out: Path) -> int:
        """Test whether one image can be learned, and draw the prediction."""
        dataset, path = self.dataset, out / OVERFIT
        how: dict[str, Any] = {"preprocess": preprocess, "reduction": self.recipe.reduction}
        verdict = overfit_one(self.model, dataset, self.optimizer, **how)
        save_strips(dataset, [verdict.index], self.model, path)
        show(f"one image: {verdict.sentence}. Figure: {path}")
        return 0 if verdict.learned else 1


def _checked(dataset: Dataset, validation: Dataset) -> dict[str, SplitReport]:
    """Return the contents of some items of both parts, checked as `minifcn check-data` checks all.

    Raises:
        ValueError: If there is an error, or all labels are of one class. Warnings are printed.
    """
    parts = {"train": dataset, "validation": validation}
    indices = {
        name: sorted({int(i) for i in np.linspace(0, len(part) - 1, _SAMPLED)} | {largest_item(part)})
        for name, part in parts.items()
    }
    complete = all(len(indices[name]) == len(part) for name, part in parts.items())
    report = check_dataset(parts, indices=None if complete else indices)
    told = {kind: _told(group) for kind, group in groupby(report.findings, lambda finding: finding.kind)}
    if errors := [sentence for kind, sentence in told.items() if kind in ERRORS]:
        raise ValueError(errors[0])
    for part in parts:
        if (problem := _one_class(parts[part], report.splits[part].counts.pixels, part)) is not None:
            if part == "train":
                raise ValueError(f"{problem}: there is nothing to learn (see minifcn check-data)")
            say(f"warning: {problem}: the metrics will not cover the other classes")
    for sentence in told.values():
        say(f"warning: {sentence}")
    return report.splits


def _told(findings: Iterable[object]) -> str:
    """Return the first of several findings, and how many more there are."""
    first, *others = findings
    return f"{first} (and {len(others)} more: see minifcn check-data)" if others else str(first)


def _one_class(dataset: Dataset, pixels: Array, part: str) -> str | None:
    """Return a message if all labels are of one class, such as masks of 0 and 255, where 255 is void.

    All labels are counted only if the sample, with these pixels of each class, contains a single class.
    """
    if np.count_nonzero(pixels[:-1]) > 1:
        return None
    there = np.flatnonzero(class_counts(dataset, progress="counting classes").pixels[:-1]).tolist()
    if len(there) > 1:
        return None
    names = "".join(f"{dataset.class_names[k]!r} or " for k in there)
    return f"every pixel of the {counted(len(dataset), f'{part} image')} is {names}void ({VOID})"


def _range(text: str) -> tuple[float, float]:
    """Read LOW,HIGH."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.01 <= low <= high <= 100:
        expected = "two factors LOW,HIGH from 0.01 to 100, such as 0.5,2"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {brief(text)}")
    return low, high


def _every(text: str) -> tuple[int | None, float | None]:
    """Read a number of steps, or of minutes, as (steps, minutes)."""
    number, minutes = (text[:-1], True) if text.endswith("m") else (text, False)
    try:
        value = float(number) if minutes else int(number)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected steps such as 200, or minutes such as 5m, got {brief(text)}"
        )
    return (None, value) if minutes else (int(value), None)
