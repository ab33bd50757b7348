"""Weights in files: minifcn's own model files, and weights that others published."""

from minifcn.weights.downloads import PUBLISHED, download
from minifcn.weights.formats import read_tensors, write_safetensors
from minifcn.weights.loading import load_classifier, load_fcn, read_class_names
from minifcn.weights.matching import Report, Transfer
from minifcn.weights.model_file import load, save
from minifcn.weights.names import PREPROCESSING, parse_preprocessing
from minifcn.weights.onnx_export import save_onnx
from minifcn.weights.onnx_import import OnnxReport, load_onnx
from minifcn.weights.onnx_nodes import OnnxGraph
from minifcn.weights.tensors import Tensors

__all__ = [
    "PREPROCESSING",
    "PUBLISHED",
    "OnnxGraph",
    "OnnxReport",
    "Report",
    "Tensors",
    "Transfer",
    "download",
    "load",
    "load_classifier",
    "load_fcn",
    "load_onnx",
    "parse_preprocessing",
    "read_class_names",
    "read_tensors",
    "save",
    "save_onnx",
    "write_safetensors",
]
