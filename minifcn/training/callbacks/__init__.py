"""Callbacks: what `fit` calls before the first step, after each step and after each epoch."""

from minifcn.training.callbacks.base import Callback
from minifcn.training.callbacks.checkpoints import Checkpoints
from minifcn.training.callbacks.interrupt import Interruptible
from minifcn.training.callbacks.log import Curve, EpochLine, Log
from minifcn.training.callbacks.watch import Watch

__all__ = ["Callback", "Checkpoints", "Curve", "EpochLine", "Interruptible", "Log", "Watch"]
