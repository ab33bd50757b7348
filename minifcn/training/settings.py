"""What one may choose about a training, as one object that a checkpoint remembers."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from minifcn.backend import cuda_device
from minifcn.data import Augment, Dataset
from minifcn.files import FileError
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, build
from minifcn.models.registry import CLASSIFIERS
from minifcn.training.checkpoint import Checkpoint, different
from minifcn.training.network import check_classes, fcn_from
from minifcn.training.outputs import say
from minifcn.training.recipes import RECIPES
from minifcn.weights import load, load_classifier


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a training ends; a resumed one takes it from its checkpoint."""

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
    batch: int | None = None
    accumulate: int | None = None
    epochs: int = 15
    crop: tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    flip: bool | None = None
    color: float = 0.0
    class_weights: str = "none"
    freeze_trunk: bool = False
    dropout: float | None = None
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Refuse what cannot be, before anything is read."""
        if not self.data:
            raise ValueError("say what to train on: digits, camvid:PATH, voc:PATH or folder:PATH")
        for name in ("epochs", "batch", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be an integer >= 1, got {value}")
        if self.seed < 0:
            raise ValueError(f"--seed must be an integer >= 0, got {self.seed}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"--lr must be positive and finite, got {self.lr}")
        begins = [self.weights is not None, self.start is not None, self.from_scratch]
        if sum(begins) != 1:
            raise ValueError(
                f"say what the network begins with, one of: --weights FILE (a trained classifier, such as "
                f"minifcn weights download fetches), --from MODEL (a model file), --from-scratch (random "
                f"weights); got {sum(begins)} of them"
            )
        if self.from_scratch and self.model is None:
            raise ValueError(f"--from-scratch needs --model, one of {', '.join(sorted(CLASSIFIERS))}")
        if self.start is not None and self.model is not None:
            raise ValueError(f"--from {self.start} says itself which network it is: leave --model out")
        for name, known in (("recipe", RECIPES), ("class_weights", ("none", "median"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        self.augment()  # refuses amounts that are out of range
        cuda_device(self.device)

    def network(self, dataset: Dataset) -> tuple[FCN, bool]:
        """Return the network at the beginning, and whether it is a stage that follows a trained one."""
        options: dict[str, Any] = {
            name: getattr(self, name) for name in ("stride", "alignment", "upsampling", "at_once")
        }
        start: Classifier | FCN
        if self.start is not None:
            start = load(self.start)
            if isinstance(start, FCN) and (word := check_classes(start.info, dataset)) is not None:
                raise ValueError(f"--from {self.start}: {word}")
        elif self.weights is not None:
            try:
                start, report = load_classifier(self.weights, self.model)
            except FileNotFoundError as error:
                fetch = "minifcn weights download NAME fetches public ones"
                raise FileNotFoundError(f"--weights: {error}; {fetch}") from error
            say(f"weights: {report.summary()}")
        else:
            start = CLASSIFIERS[str(self.model)](rng=self.seed)
        return fcn_from(start, dataset, **options).train(), isinstance(start, FCN)

    def anywhere(self) -> "Settings":
        """Return the same with absolute paths, which mean the same in whatever folder they are read."""
        return replace(self, **_absolute(vars(self)))

    def augment(self) -> Augment:
        """Return what is done to images at random."""
        flip = self.data != "digits" if self.flip is None else self.flip
        options: dict[str, Any] = {"flip": flip, "color": self.color}
        for name in ("crop", "scale"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return Augment(**options)


def stored_settings(checkpoint: Checkpoint, given: dict[str, Any]) -> Settings:
    """Return the settings of a checkpoint, of which those that are said again must not differ."""
    try:
        stored = dict(checkpoint.entries["settings"]["command"])
        values = {name: stored[name] for name in Settings.__dataclass_fields__}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{checkpoint.path} was not written by minifcn train: it lacks {error}") from error
    before = {name: values[name] for name in given}
    if differences := different(before, dict(given) | _absolute(given)):
        network = checkpoint.path.with_name("model.safetensors")
        more = f"; for more epochs begin it with --from {network}" if "epochs" in given else ""
        raise ValueError(
            f"--resume: {checkpoint.path} belongs to a training with other settings: "
            f"{'; '.join(differences)}; leave them out, or begin another training in another folder{more}"
        )
    try:
        settings = Settings(
            **values | {name: values[name] and tuple(values[name]) for name in ("crop", "scale")}
        )
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
    """Return the network of a checkpoint, whose weights `Checkpoints` loads."""
    try:
        model = build(checkpoint.entries["architecture"], init="zeros")
        info = checkpoint.entries["info"]
        model.info = ModelInfo(**info | {"preprocessing": Preprocessing(**info["preprocessing"])})
        staged = checkpoint.entries["settings"]["command"]["staged"] is True
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{checkpoint.path} does not say which network it is of: {error}") from error
    if not isinstance(model, FCN):
        raise FileError(f"{checkpoint.path} is of a classifier, not of a network that labels pixels")
    return model, staged
