"""Layers: they own parameters, keep what backward needs, and call the maps in `minifcn.functional`."""

from minifcn.layers.activations import (
    Activation,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
)
from minifcn.layers.base import Layer, Pointwise
from minifcn.layers.config import from_config, register, to_config
from minifcn.layers.containers import LayerDict, Sequential
from minifcn.layers.convolution import Conv2d, ConvTranspose2d, Linear
from minifcn.layers.cost import Cost, Shift
from minifcn.layers.graph import Add, Concat, Graph, Multiply
from minifcn.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    LocalResponseNorm,
    freeze_batch_norm,
)
from minifcn.layers.parameter import Buffer, Parameter
from minifcn.layers.pointwise import ChannelShuffle, ChannelSlice, Dropout, Flatten, seed_dropout
from minifcn.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minifcn.layers.resizing import Upsample
from minifcn.layers.visitor import Visitor

__all__ = [
    "Activation",
    "Add",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "ChannelShuffle",
    "ChannelSlice",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Cost",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Graph",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Layer",
    "LayerDict",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Multiply",
    "PReLU",
    "Parameter",
    "Pointwise",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Shift",
    "SiLU",
    "Sigmoid",
    "Upsample",
    "Visitor",
    "freeze_batch_norm",
    "from_config",
    "register",
    "seed_dropout",
    "to_config",
]

for _cls in [value for name, value in globals().items() if name in __all__]:
    if isinstance(_cls, type) and issubclass(_cls, Layer) and _cls not in (Layer, Pointwise, Activation):
        register(_cls)  # model files may name it
