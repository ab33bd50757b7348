"""The settings of `minifcn train`, as one object that a checkpoint stores."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_type_hints

from minifcn.backend import cuda_device
from minifcn.cli.shared import DATA
from minifcn.data import Augment, Dataset
from minifcn.files import FileError
from minifcn.functional.operands import check_choice
from minifcn.geometry import MAX_SIZE, check_integer
from minifcn.layers import freeze_batch_norm
from minifcn.models import FCN, Classifier, build
from minifcn.models.registry import names
from minifcn.printing import brief
from minifcn.training import RECIPES, Recipe
from minifcn.training.checkpoint import Checkpoint, different
from minifcn.training.network import check_classes, fcn_from, match_classes, set_dropout
from minifcn.training.progress import say
from minifcn.weights import load_classifier
from minifcn.weights.loading import load_network


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result of a training; a resumed one takes it from its checkpoint."""

    data: str = ""
    model: str | None = None
    weights: str | None = None
    start: str | None = None
    from_scratch: bool = False
    stride: int | None = None
    alignment: str | None = None
    upsampling: str | None = None
    at_once: bool | None = None
    recipe: str = "quick"
    lr: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    epochs: int = 15
    crop: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    flip: bool | None = None
    color: float = 0.0
    class_weights: str = "none"
    freeze_trunk: bool = False
    train_batch_norm: bool = False
    dropout: float | None = None
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Refuse impossible settings, before anything is read."""
        if not self.data:
            raise ValueError(f"give a dataset: {DATA}")
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) is not None:
                check_integer(getattr(self, name), name, 1, MAX_SIZE)
        check_integer(self.seed, "seed", 0)
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        begins = [self.weights is not None, self.start is not None, self.from_scratch]
        if sum(begins) != 1:
            raise ValueError(
                f"give one of --weights FILE (weights of a classifier; see minifcn weights download), "
                f"--from MODEL (a model file) and --from-scratch (random weights), got {sum(begins)} of them"
            )
        if self.from_scratch and self.model is None:
            raise ValueError(f"--from-scratch needs --model, one of {', '.join(names())}")
        if self.start is not None and self.model is not None:
            raise ValueError(f"--from {self.start} contains its network: leave out --model")
        check_choice(self.recipe, "recipe", RECIPES)
        check_choice(self.class_weights, "class_weights", ("none", "median"))
        self.augment()  # checks its own values
        cuda_device(self.device)

    def network(self, dataset: Dataset) -> tuple[FCN, bool]:
        """Return the initial network, and whether it continues a trained FCN."""
        start: Classifier | FCN
        if self.start is not None:
            start = load_network(self.start)
            if isinstance(start, FCN) and start.info is not None:
                warning = check_classes(start.info, dataset)
                changed = match_classes(start.info, dataset)
                if tuple(dataset.class_names) != start.info.class_names:  # which have no names
                    raise ValueError(f"start: {warning}")
                if changed is not None:
                    say(changed)
        elif self.weights is not None:
            try:
                start = load_classifier(self.weights, self.model)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"weights: {error}; minifcn weights download fetches some") from error
            say(f"weights: {start.report.summary()}")
        else:
            start = build(str(self.model), rng=self.seed)
        options = ("stride", "alignment", "upsampling", "at_once")
        given = {name: getattr(self, name) for name in options}
        return fcn_from(start, dataset, **given), isinstance(start, FCN)

    def prepare(self, fcn: FCN, dropout: float | None) -> FCN:
        """Set a network to the state of training that no model file stores."""
        if dropout is not None:
            set_dropout(fcn, dropout)
        freeze_batch_norm(fcn, frozen=not (self.from_scratch or self.train_batch_norm))
        if self.freeze_trunk:
            fcn.freeze_trunk()
        return fcn.train().to(self.device)

    def optimization(self) -> Recipe:
        """Return the recipe with the values that were given."""
        recipe = RECIPES[self.recipe]
        return recipe.changed(lr=self.lr, batch_size=self.batch_size, accumulate=self.accumulate)

    def stored(self) -> dict[str, Any]:
        """Return the settings with absolute paths, which are valid in every folder."""
        return asdict(replace(self, **_absolute(vars(self))))

    def augment(self) -> Augment:
        """Return the random changes of images."""
        flip = self.data != "digits" if self.flip is None else self.flip
        given = {name: getattr(self, name) for name in ("crop", "scale") if getattr(self, name) is not None}
        return Augment(flip=flip, color=self.color, **given)


def stored_settings(checkpoint: Checkpoint, given: dict[str, Any]) -> Settings:
    """Return the settings of a checkpoint; those that are given again must be equal."""
    try:
        stored = {"bands": None, **checkpoint.entries["settings"]["command"]}  # older checkpoints lack bands
        values = {name: stored[name] for name in Settings.__dataclass_fields__}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{checkpoint.path} was not written by minifcn train: it lacks {error}") from error
    before = {name: values[name] for name in given}
    if differences := different(before, dict(given) | _absolute(given)):
        network = checkpoint.path.with_name("model.safetensors")
        more = f"; for more epochs, start it with --from {network}" if "epochs" in given else ""
        raise ValueError(
            f"resume: {checkpoint.path} belongs to a training with other settings: {'; '.join(differences)}; "
            f"leave them out, or start another training in another folder{more}"
        )
    try:
        pairs = {name: values[name] and tuple(values[name]) for name in ("crop", "scale", "bands")}
        settings = Settings(**values | pairs)
        kinds = get_type_hints(Settings)
        for name in values.keys() - pairs.keys():
            if not isinstance(values[name], kinds[name]):
                raise TypeError(f"{name} is {brief(values[name])}")
        settings.check()
        return settings
    except TypeError as error:
        raise FileError(f"{checkpoint.path}: its settings do not fit: {error}") from error


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are paths, as absolute ones."""
    paths = {name: settings.get(name) for name in ("weights", "start")}
    found = {name: os.path.abspath(path) for name, path in paths.items() if path is not None}
    kind, colon, path = settings.get("data", "").partition(":")
    if colon and os.path.isdir(path := os.path.expanduser(path)):
        found["data"] = f"{kind}:{os.path.abspath(path)}"
    return found


def stored_network(checkpoint: Checkpoint) -> tuple[FCN, bool]:
    """Return the network of a checkpoint, without its weights, and whether it continues a trained FCN."""
    model = checkpoint.network()
    if not isinstance(model, FCN):
        raise FileError(f"{checkpoint.path} contains a {type(model).__name__}, not an FCN")
    return model, checkpoint.entries["settings"]["command"].get("staged") is True
