"""Layers as plain data, which JSON can hold, and back.

A layer becomes `{"class": NAME, ...}` with the arguments of its constructor beside the name:

    {"class": "Conv2d", "in_channels": 3, "out_channels": 8, "kernel_size": [3, 3], ...}

Layers among the arguments become such dictionaries in turn. Weights are not part of it. The way back may
start from a file of unknown origin, so it knows the registered classes only, and bounds every number.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from typing import Any, TypeAlias, TypeVar

from minifcn.layers.base import Layer
from minifcn.layers.parameter import element_limit

Config: TypeAlias = dict[str, Any]
AnyClass = TypeVar("AnyClass", bound=type[Layer])

ENTRY_POINTS = "minifcn.layers"
"""Group of the entry points in which installed packages offer layers under the names of their classes."""

MAX_DEPTH = 64
"""How deep layers and other values may be nested."""

MAX_VALUES = 100_000
"""Numbers, texts, lists and layers that one description may have; ResNet-152 has about 6,000."""

_MAX_NUMBER = 100_000  # a larger integer must not exceed the number of elements in the file
_MAX_TEXT = 1_000  # characters
_PLAIN: dict[str, Any] = {"bool": bool, "int": int, "float": (int, float), "str": str}  # by annotation

_classes: dict[str, type[Layer]] = {}  # filled by `register`


def register(cls: AnyClass) -> AnyClass:
    """Add a class of layers to those that model files may name; for use as a decorator.

    A package that is installed need not be imported for that: it declares an entry point with the name of the
    class in the group "minifcn.layers", which refers to the class or to a module that registers it.

    A file that names the class is loaded by calling `cls(**layer.config())`, with `init="zeros"` if the
    constructor takes `init`, or `cls.from_config(**layer.config())` if there is such a class method.

    Args:
        cls: A subclass of `Layer`; the name of the class is its name in files.

    Raises:
        TypeError: If it is not a class of layers.
        ValueError: If another class has the name. The same class may be defined again, as in a notebook.

    Example:
        >>> from minifcn.layers import Pointwise, Sequential
        >>> @register
        ... class Shift(Pointwise):
        ...     def __init__(self, amount):
        ...         self.amount = amount
        ...     def forward(self, x):
        ...         self.keep(output=x)
        ...         return x + self.amount
        ...     def backward(self, dy):
        ...         self.recall(dy)
        ...         return dy
        >>> from_config(to_config(Sequential(Shift(2.0))))[0].amount
        2.0
    """
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise TypeError(f"cls must be a subclass of Layer, got {cls!r}")
    name = cls.__name__
    known = _classes.setdefault(name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {name!r} is taken by {known.__module__}.{known.__qualname__}")
    _classes[name] = cls
    return cls


def load_entry_point(group: str, name: str) -> Any:
    """Return what installed packages offer under a name in a group of entry points, or `None`.

    Only a name that a package has declared is ever imported.

    Raises:
        ValueError: If several packages offer it, or it cannot be imported.

    Example:
        >>> load_entry_point("minifcn.layers", "NoSuchLayer")
    """
    from importlib.metadata import entry_points

    found = {point.value: point for point in entry_points(group=group, name=name)}
    if len(found) > 1:
        raise ValueError(f"{name!r} is offered by several packages: {', '.join(sorted(found))}")
    for value, point in found.items():
        try:
            return point.load()
        except Exception as error:  # whatever the package raises when it is imported
            raise ValueError(f"the entry point {name} = {value} cannot be loaded: {error!r}") from error
    return None


def to_config(layer: Layer) -> Config:
    """Describe a layer, and the layers in it, by dictionaries, lists, numbers and texts.

    Raises:
        ValueError: If the class of a layer is not registered, or an argument is none of these.

    Example:
        >>> from minifcn.layers import MaxPool2d
        >>> to_config(MaxPool2d(2))
        {'class': 'MaxPool2d', 'kernel_size': [2, 2], 'stride': [2, 2], 'padding': [0, 0], 'ceil_mode': False}
    """
    config: Config = _encode(layer, "", 0)
    return config


def from_config(config: object, *, max_elements: int | None = None) -> Layer:
    """Make the layer that a description stands for, with weights of zero.

    The description may come from a file of unknown origin: nothing is executed but the constructors of
    registered classes.

    Args:
        config: What `to_config` returned, or the same from JSON.
        max_elements: How many elements the parameters and buffers may have in total; no limit by default.

    Raises:
        ValueError: If a class is unknown, arguments do not fit, or something is too large or too deep.

    Example:
        >>> from_config({"class": "Linear", "in_features": 4, "out_features": 10**9}, max_elements=54)
        Traceback (most recent call last):
            ...
        ValueError: the number 1000000000 is too large, expected at most 100,000
    """
    largest = 10**12 if max_elements is None else max(_MAX_NUMBER, max_elements)
    for count, _ in enumerate(_checked(config, 0, largest)):
        if count >= MAX_VALUES:
            raise ValueError(f"the description has more than {MAX_VALUES:,} values")
    with element_limit(max_elements):
        layer = _decode(config)
    if not isinstance(layer, Layer):
        raise ValueError(f"a layer is described by a dictionary with a class, got {str(config)[:50]!r}")
    return layer


def _encode(value: Any, where: str, depth: int) -> Any:
    """Return plain data for a value; `where` names it in messages."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Layer):
        name = type(value).__name__
        if _classes.get(name) is not type(value):
            raise ValueError(
                f"{where or 'the model'} is a {name}, and model files do not know that class: put "
                f"@minifcn.layers.register before its definition, here and wherever the file is loaded"
            )
        return {"class": name} | _encode(value.config(), where or name, depth)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        if "class" in value:
            raise ValueError(f"{where}: nothing in a network can have the name 'class'")
        return {key: _encode(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"{where} is {str(value)[:50]!r}, and a model file holds finite numbers, texts, True, False, None, "
        f"layers, and tuples of them"
    )


def _checked(value: object, depth: int, largest: int) -> Iterator[None]:
    """Check each value in a description for its type and its bounds, and yield once for each."""
    yield
    if depth > MAX_DEPTH:
        raise ValueError(f"the description is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict | list | tuple):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _checked(item, depth + 1, largest)
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueError(f"a text of {len(value):,} characters is too long: {value[:50]!r}...")
    elif isinstance(value, int | float):
        if not abs(value) <= largest:  # NaN, too
            raise ValueError(f"the number {str(value)[:20]} is too large, expected at most {largest:,}")
    elif value is not None:
        raise ValueError(f"a description has no {type(value).__name__}")


def _decode(value: Any) -> Any:
    """Return what plain data stand for; lists become tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_decode, value))
    if not isinstance(value, dict):
        return value
    arguments = {name: _decode(item) for name, item in value.items() if name != "class"}
    if "class" not in value:
        return arguments
    name = str(value["class"])
    if name not in _classes and isinstance(cls := load_entry_point(ENTRY_POINTS, name), type):
        register(cls)
    if name not in _classes:
        raise ValueError(
            f"unknown class {name[:50]!r}: import the module that defines it first, with "
            f"@minifcn.layers.register before the definition, or install a package that offers it in the "
            f"entry points {ENTRY_POINTS!r}"
        )
    make: Callable[..., Layer] = getattr(_classes[name], "from_config", _classes[name])
    for argument, annotation in _annotations(make).items():
        kind, given = _PLAIN.get(annotation), arguments.get(argument)
        if not kind or argument not in arguments:
            continue
        if not isinstance(given, kind) or isinstance(given, bool) != (kind is bool):
            raise ValueError(f"{name}: {argument} must be {annotation}, got {str(given)[:50]!r}")
    if "init" in _annotations(make):
        arguments["init"] = "zeros"
    try:
        return make(**arguments)
    except Exception as error:  # whatever a constructor makes of arguments that do not fit
        raise ValueError(f"{name}: {str(error)[:300]}") from error


@cache
def _annotations(make: Callable[..., Layer]) -> dict[str, str]:
    """Return the names of the arguments that make a layer, and of the types that they are annotated with."""
    arguments = signature(make).parameters.items()
    return {name: getattr(one.annotation, "__name__", str(one.annotation)) for name, one in arguments}
