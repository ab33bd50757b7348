"""minifcn: fully convolutional networks from scratch, on NumPy and CuPy.

Convolution, transposed convolution and the conversion of dense layers to convolutions, every backward pass
written by hand, after Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation"
(CVPR 2015).

    import minifcn as mf

    classifier = mf.models.digit_classifier()
    heat_maps = mf.convolutionalize(classifier, (1, 32, 32))    # scores at every position
    fcn = mf.models.FCN(classifier, num_classes=11, stride=2)   # a label at every pixel
"""

TYPE_CHECKING = False  # as in `typing`, which is not imported here: Ctrl-C may come while the command starts
if TYPE_CHECKING:
    from typing import Any

    from minifcn import (
        checks,
        data,
        functional,
        geometry,
        layers,
        losses,
        metrics,
        models,
        optim,
        palette,
        training,
        viz,
        weights,
    )
    from minifcn.backend import array_module, to_device, to_numpy
    from minifcn.dense import conv_to_dense, convolutionalize, dense_to_conv
    from minifcn.files import FileError
    from minifcn.kernels.threads import num_threads, set_num_threads
    from minifcn.weights import load, save

__version__ = "0.1.0"

__all__ = [
    "FileError",
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
    "palette",
    "save",
    "set_num_threads",
    "to_device",
    "to_numpy",
    "training",
    "viz",
    "weights",
]

_MODULES = {
    "FileError": "files",
    "array_module": "backend",
    "conv_to_dense": "dense",
    "convolutionalize": "dense",
    "dense_to_conv": "dense",
    "load": "weights",
    "num_threads": "kernels.threads",
    "save": "weights",
    "set_num_threads": "kernels.threads",
    "to_device": "backend",
    "to_numpy": "backend",
}
"""Where the functions are; all other public names are modules. Each is imported when it is first used, so
that `minifcn --help` does not wait for NumPy, nor `import minifcn` for Matplotlib."""


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f"minifcn.{_MODULES[name]}"), name)
    if name in __all__:
        return import_module(f"minifcn.{name}")
    raise AttributeError(f"module 'minifcn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
