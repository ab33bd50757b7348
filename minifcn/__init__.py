"""minifcn: fully convolutional networks from scratch, on NumPy and CuPy.

Convolution, transposed convolution and the reading of dense layers as convolutions, every backward pass
written by hand, after Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation"
(CVPR 2015).

    import minifcn as mf

    classifier = mf.models.digit_classifier()
    heat_maps = mf.convolutionalize(classifier, (1, 32, 32))    # scores at every position
    fcn = mf.models.FCN(classifier, num_classes=11, stride=2)   # a label at every pixel
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minifcn import functional, geometry, layers, losses, metrics, models, optim
from minifcn.backend import array_module, to_device, to_numpy
from minifcn.convolutionalize import conv_to_dense, convolutionalize, dense_to_conv
from minifcn.kernels.threads import num_threads, set_num_threads

if TYPE_CHECKING:
    from minifcn import checks, data, training, viz, weights
    from minifcn.weights import load, save

__version__ = "0.1.0"

__all__ = [
    "array_module",
    "checks",
    "conv_to_dense",
    "convolutionalize",
    "data",
    "dense_to_conv",
    "functional",
    "geometry",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "num_threads",
    "optim",
    "save",
    "set_num_threads",
    "to_device",
    "to_numpy",
    "training",
    "viz",
    "weights",
]

# Rooms that load more than NumPy open when they are entered.
_ROOMS = ("checks", "data", "training", "viz", "weights")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"minifcn.{name}")
    if name in ("load", "save"):
        return getattr(import_module("minifcn.weights"), name)
    raise AttributeError(f"module 'minifcn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
