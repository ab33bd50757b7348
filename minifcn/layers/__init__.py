"""Layers: they own parameters, keep what backward needs, and call the maps in `minifcn.functional`."""

from minifcn.layers.base import Layer, Pointwise
from minifcn.layers.config import from_config, register, to_config
from minifcn.layers.containers import LayerDict, Sequential
from minifcn.layers.convolution import Conv2d, ConvTranspose2d, Linear
from minifcn.layers.cost import Cost, Shift
from minifcn.layers.graph import Add, Concat, Graph
from minifcn.layers.normalization import BatchNorm2d, LocalResponseNorm, freeze_batch_norm
from minifcn.layers.parameter import Buffer, Parameter
from minifcn.layers.pointwise import Crop, Dropout, Flatten, ReLU, seed_dropout
from minifcn.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minifcn.layers.visitor import Visitor

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Cost",
    "Crop",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Graph",
    "Layer",
    "LayerDict",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Parameter",
    "Pointwise",
    "ReLU",
    "Sequential",
    "Shift",
    "Visitor",
    "freeze_batch_norm",
    "from_config",
    "register",
    "seed_dropout",
    "to_config",
]
