"""Checks that one can turn on one's own layers: gradients, adjoints, and the search for the smallest failure.

>>> import numpy as np
>>> from minifcn.checks import check_gradient, check_layer, strategies
>>> from minifcn.layers import Conv2d
>>> layer = Conv2d(2, 3, 3, stride=2, rng=np.random.default_rng(0)).astype("float64")
>>> check_gradient(layer, np.random.default_rng(1).normal(size=(2, 2, 5, 6)))

On every geometry, the smallest failing one named:

>>> def make_layer(case):
...     return Conv2d(case.in_channels, case.out_channels, case.kernel_size, **case.options)
>>> check_layer(make_layer, strategies.conv_geometries(), examples=5)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minifcn.checks.adjoint import check_adjoint
from minifcn.checks.cases import ConvCase, PoolCase
from minifcn.checks.failure import CheckFailed
from minifcn.checks.gradient import check_gradient

if TYPE_CHECKING:
    from minifcn.checks import strategies
    from minifcn.checks.everywhere import check_conv2d, check_everywhere, check_layer
    from minifcn.checks.exercise import check_exercise, whole_numbers

__all__ = [
    "CheckFailed",
    "ConvCase",
    "PoolCase",
    "check_adjoint",
    "check_conv2d",
    "check_everywhere",
    "check_exercise",
    "check_gradient",
    "check_layer",
    "strategies",
    "whole_numbers",
]


def __getattr__(name: str) -> Any:
    """Import what needs Hypothesis when it is asked for."""
    if name == "strategies":
        return import_module("minifcn.checks.strategies")
    if name in ("check_conv2d", "check_everywhere", "check_layer"):
        return getattr(import_module("minifcn.checks.everywhere"), name)
    if name in ("check_exercise", "whole_numbers"):
        return getattr(import_module("minifcn.checks.exercise"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
