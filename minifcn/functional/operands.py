"""Checks of arguments that several maps share."""

from collections.abc import Iterable
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.printing import brief


def check_float(**arrays: Array | None) -> Any:
    """Return the library of the arrays, after checking that all of them are float32, or all float64.

    Raises:
        TypeError: If they are not, with the conversion that helps, or if `array_module` raises it.
    """
    xp = array_module(**arrays)
    present = {name: array for name, array in arrays.items() if array is not None}
    for name, array in present.items():
        if array.dtype.char not in "fd":
            fix = f"convert it with {name}.astype('float32')"
            raise TypeError(f"{name} must be float32 or float64, got {array.dtype.name}; {fix}")
    if len({array.dtype for array in present.values()}) > 1:
        listed = ", ".join(f"{name} is {array.dtype.name}" for name, array in present.items())
        raise TypeError(f"dtypes are mixed: {listed}; convert them to one with .astype")
    return xp


def check_rank(rank: int, layout: str, **arrays: Array) -> None:
    """Raise an error unless all arrays have this number of axes, for example 4 for "(N, C, H, W)".

    Raises:
        TypeError: If one is not an array, or is `None`, which other checks allow.
        ValueError: If one has a different number of axes.
    """
    array_module(**arrays)
    for name, array in arrays.items():
        if array is None:
            raise TypeError(f"{name} must be an array {layout}, got NoneType")
        if array.ndim != rank:
            raise ValueError(f"{name} must have {rank} axes {layout}, got shape {array.shape}")


def check_same_shape(**arrays: Array) -> None:
    """Raise an error unless all arrays have the same shape.

    Raises:
        ValueError: Otherwise.
    """
    if len({array.shape for array in arrays.values()}) > 1:
        listed = ", ".join(f"{name} is {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes differ: {listed}")


def check_choice(value: object, name: str, choices: Iterable[object]) -> None:
    """Raise `ValueError` unless the value is one of the choices.

    Example:
        >>> check_choice("median", "reduction", ("mean", "sum"))
        Traceback (most recent call last):
        ...
        ValueError: reduction must be one of 'mean', 'sum', got 'median'
    """
    if value not in (allowed := tuple(choices)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {brief(value)}")


def check_bias(b: Array | None, channels: int) -> None:
    """Raise an error unless b is `None` or has one value for each output channel.

    Raises:
        ValueError: Otherwise.
    """
    if b is not None and b.shape != (channels,):
        raise ValueError(f"b must have shape ({channels},), one value for each output channel, got {b.shape}")
