"""Checks of arguments that several maps share."""

import sys
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from minifcn.backend import Array, array_module
from minifcn.geometry import ConvGeometry, check_integer
from minifcn.printing import brief

MAX_PIXELS = 2**29
_OPTIONAL = {"b", "class_weights"}


def check_float(**arrays: Array | None) -> Any:
    """Return the library of the arrays, after checking that all of them are float32, or all float64.

    Raises:
        TypeError: If they are not, with the conversion that helps, if one is `None` that is not optional (a
            bias, class weights), or if `array_module` raises it.
    """
    xp = array_module(**arrays)
    present = {name: array for name, array in arrays.items() if array is not None}
    if missing := arrays.keys() - present.keys() - _OPTIONAL:
        raise TypeError(f"{min(missing)} must be an array of numbers, got NoneType")
    for name, array in present.items():
        if array.dtype.char not in "fd" or not array.dtype.isnative:
            fix = f"convert it with {name}.astype('float32')"
            got = array.dtype.name if array.dtype.isnative else f"{array.dtype.str} in another byte order"
            raise TypeError(f"{name} must be float32 or float64, got {got}; {fix}")
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


def check_padded_size(geometry: ConvGeometry, size: Sequence[int]) -> None:
    """Raise `ValueError` if an image of (H, W) with its padding has more than `MAX_PIXELS` pixels.

    Some algorithms copy it, even if padding and dilation are so large that the output is small.
    """
    height, width = size[0] + sum(geometry.rows.padding), size[1] + sum(geometry.cols.padding)
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"an image with padding must have at most {MAX_PIXELS} pixels, got {height} x {width}"
        )


def check_axis(axis: int, x: Array) -> None:
    """Raise `ValueError` unless x has an axis of this number, with at least one element."""
    if not x.ndim:
        raise ValueError("x must have at least one axis, got a single number")
    if not x.shape[check_integer(axis, "axis", -x.ndim, x.ndim - 1)]:
        raise ValueError(f"x must have at least one element along axis {axis}, got shape {x.shape}")


def check_out(out: Array, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise `ValueError` unless results of a shape and dtype can be written to an array."""
    array_module(out=out)
    if out.shape != shape or out.dtype != dtype or not getattr(out.flags, "writeable", True):
        given = f"{out.shape} of {out.dtype}"
        raise ValueError(f"out must be a writable array {shape} of {dtype}, got {given}")


def check_number(value: object, name: str) -> None:
    """Raise `ValueError` unless a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number, got {brief(value)}")


def check_choice(value: object, name: str, choices: Iterable[object]) -> None:
    """Raise `ValueError` unless the value is one of the choices.

    Example:
        >>> check_choice("median", "reduction", ("mean", "sum"))
        Traceback (most recent call last):
        ...
        ValueError: reduction must be one of 'mean', 'sum', got 'median'
    """
    allowed = tuple(choices)
    if not isinstance(value, Hashable) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {brief(value)}")


def check_class_names(names: object) -> tuple[str, ...]:
    """Return names of classes as a tuple, after checking that they are texts.

    Example:
        >>> check_class_names(["cat", "dog"])
        ('cat', 'dog')
    """
    listed = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"class_names must be texts, one for each class, got {brief(names)}")
    return listed


def check_channels(channels: int, **arrays: Array) -> None:
    """Raise `ValueError` unless all arrays have the shape (C,), one value for each channel."""
    for name, array in arrays.items():
        if array.shape != (channels,):
            raise ValueError(
                f"{name} must have shape ({channels},), one value for each channel, got {array.shape}"
            )


def check_bias(b: Array | None, channels: int) -> None:
    """Raise an error unless b is `None` or has one value for each output channel.

    Raises:
        ValueError: Otherwise.
    """
    if b is not None and b.shape != (channels,):
        raise ValueError(f"b must have shape ({channels},), one value for each output channel, got {b.shape}")
