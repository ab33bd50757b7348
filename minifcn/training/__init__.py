"""Training and evaluation."""

from minifcn.training.evaluation import evaluate, predict
from minifcn.training.fit import fit

__all__ = ["evaluate", "fit", "predict"]
