"""Weights in files: minifcn's own, and those that others wrote."""

from minifcn.weights.downloading import PUBLISHED, download
from minifcn.weights.loading import load_classifier, load_fcn, read_class_names
from minifcn.weights.model_file import load, save
from minifcn.weights.published import PREPROCESSING, parse_preprocessing
from minifcn.weights.reading import read_tensors
from minifcn.weights.report import Report, Transfer
from minifcn.weights.tensors import Tensors

__all__ = [
    "PREPROCESSING",
    "PUBLISHED",
    "Report",
    "Tensors",
    "Transfer",
    "download",
    "load",
    "load_classifier",
    "load_fcn",
    "parse_preprocessing",
    "read_class_names",
    "read_tensors",
    "save",
]
