"""Weights in files."""

from minifcn.weights.model_file import load, save

__all__ = ["load", "save"]
