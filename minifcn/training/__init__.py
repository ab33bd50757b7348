"""Training, evaluation, and labels of images.

| file | contents |
|---|---|
| `fit` | the training loop |
| `evaluation` | metrics of a network on a dataset |
| `label` | labels of one image, or of a batch |
| `recipes` | reduction, learning rate and momentum that belong together |
| `network` | the FCN for a dataset, from a classifier or a trained network |
| `state` | the state of a training, which callbacks see |
| `checkpoint` | that state as a file |
| `callbacks/` | checkpoints, Ctrl-C, log, curve, warnings |
| `recording` | activations and gradients of each layer |
| `overfit` | training on one image, as a test |
| `ranks` | several processes, with the bits of one |
| `memory` | memory that a step takes, and that is free |
| `progress` | progress bars and messages |
"""

from minifcn.training.callbacks import Callback, Checkpoints, Curve, EpochLine, Interruptible, Log, Watch
from minifcn.training.evaluation import evaluate
from minifcn.training.fit import fit
from minifcn.training.label import any_channels, label, predict
from minifcn.training.recipes import RECIPES, Recipe
from minifcn.training.recording import Record, record
from minifcn.training.state import DivergedError, Training

__all__ = [
    "RECIPES",
    "Callback",
    "Checkpoints",
    "Curve",
    "DivergedError",
    "EpochLine",
    "Interruptible",
    "Log",
    "Recipe",
    "Record",
    "Training",
    "Watch",
    "any_channels",
    "evaluate",
    "fit",
    "label",
    "predict",
    "record",
]
