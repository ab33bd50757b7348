"""Training and evaluation."""

from minifcn.training.checkpoint import Checkpoints
from minifcn.training.evaluation import evaluate, fitted, predict
from minifcn.training.fit import fit
from minifcn.training.interrupt import Interruptible
from minifcn.training.outputs import Curve, Log
from minifcn.training.recipes import RECIPES, Recipe
from minifcn.training.state import Callback, Diverged, Training
from minifcn.training.watch import Watch

__all__ = [
    "RECIPES",
    "Callback",
    "Checkpoints",
    "Curve",
    "Diverged",
    "Interruptible",
    "Log",
    "Recipe",
    "Training",
    "Watch",
    "evaluate",
    "fit",
    "fitted",
    "predict",
]
