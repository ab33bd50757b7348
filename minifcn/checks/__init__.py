"""Checks for your own layers and functions: gradients, adjoints, conventions, and learners' exercises.

Where a check tries many cases, its message shows the smallest failing one.

>>> import numpy as np
>>> from minifcn.checks import check_gradient, check_layer, strategies
>>> from minifcn.layers import Conv2d
>>> layer = Conv2d(2, 3, 3, stride=2, rng=np.random.default_rng(0)).astype("float64")
>>> check_gradient(layer, np.random.default_rng(1).normal(size=(2, 2, 5, 6)))

With many kernels, strides, paddings, dilations and groups:

>>> def make_layer(case):
...     return Conv2d(case.in_channels, case.out_channels, case.kernel_size, **case.options)
>>> check_layer(make_layer, strategies.conv_geometries(), examples=5)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minifcn.checks.cases import ConvCase, PoolCase
from minifcn.checks.comparing import CheckFailedError
from minifcn.checks.conventions import check_conventions
from minifcn.checks.gradient import check_adjoint, check_gradient
from minifcn.checks.saved import saved_functions

if TYPE_CHECKING:
    from minifcn.checks import strategies
    from minifcn.checks.exercise import check_exercise, checked, whole_numbers
    from minifcn.checks.random_cases import check_everywhere, check_layer

__all__ = [
    "CheckFailedError",
    "ConvCase",
    "PoolCase",
    "check_adjoint",
    "check_conventions",
    "check_everywhere",
    "check_exercise",
    "check_gradient",
    "check_layer",
    "checked",
    "saved_functions",
    "strategies",
    "whole_numbers",
]


def __getattr__(name: str) -> Any:
    """Import the checks that need Hypothesis on first use."""
    if name == "strategies":
        return import_module("minifcn.checks.strategies")
    if name in ("check_everywhere", "check_layer"):
        return getattr(import_module("minifcn.checks.random_cases"), name)
    if name in ("check_exercise", "checked", "whole_numbers"):
        return getattr(import_module("minifcn.checks.exercise"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
