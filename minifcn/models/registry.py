"""Classifiers by name, for the command line and for files of weights."""

from collections.abc import Callable
from typing import Any, TypeAlias, overload

from minifcn.geometry import check_integer
from minifcn.layers import Layer
from minifcn.layers import register as register_class
from minifcn.layers.config import load_entry_point
from minifcn.layers.parameter import Init, Rng
from minifcn.models.alexnet import alexnet, caffenet
from minifcn.models.classifiers import Classifier, digit_classifier, named, vgg16
from minifcn.models.fcn import FCN
from minifcn.models.googlenet import googlenet
from minifcn.models.scoring import ScoreLayer
from minifcn.models.squeezenet import Fire, squeezenet1_0, squeezenet1_1
from minifcn.models.upsampling import AlignedUpsample, PaperUpsample

Builder: TypeAlias = Callable[..., Classifier]
"""A function `builder(num_classes=..., *, init="he", rng=None)` that returns a classifier."""

ENTRY_POINTS = "minifcn.models"
"""Group of the entry points in which installed packages offer builders under names."""

MAX_CLASSES = 100_000
CLASSIFIERS: dict[str, Builder] = {
    "alexnet": alexnet,
    "caffenet": caffenet,
    "digit_classifier": digit_classifier,
    "googlenet": googlenet,
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "vgg16": vgg16,
}
"""The builders that are known already; `builder` also finds those of entry points."""

_LAYERS: tuple[type[Layer], ...] = (AlignedUpsample, Classifier, FCN, Fire, PaperUpsample, ScoreLayer)
for _layer in _LAYERS:
    register_class(_layer)


@overload
def register(name: str) -> Callable[[Builder], Builder]: ...
@overload
def register(name: str, builder: Builder) -> Builder: ...
def register(name: str, builder: Builder | None = None) -> Builder | Callable[[Builder], Builder]:
    """Give a classifier of one's own a name, for `build`, `minifcn train --model` and files of weights.

    A package that is installed need not be imported for that: it declares an entry point of this name in the
    group "minifcn.models", which refers to the builder.

    Args:
        name: The name.
        builder: A function `builder(num_classes=..., *, init="he", rng=None)` that returns a `Classifier`;
            without it, the result is a decorator.

    Raises:
        TypeError: If the builder cannot be called, or the name is not a text.
        ValueError: If the name is empty or taken.

    Example:
        >>> from minifcn.layers import Conv2d, GlobalAvgPool2d, Sequential
        >>> @register("tiny")
        ... def tiny(num_classes=2, *, init="he", rng=None):
        ...     features = Sequential(Conv2d(1, 4, 3, init=init, rng=rng))
        ...     scores = Sequential(Conv2d(4, num_classes, 1, init=init, rng=rng), GlobalAvgPool2d())
        ...     return Classifier(features, scores, input_shape=(1, 8, 8), taps={})
        >>> build("tiny", 5, rng=0).output_shape((1, 8, 8))
        (5,)
        >>> del CLASSIFIERS["tiny"]
    """
    if builder is None:
        return lambda function: register(name, function)
    if not isinstance(name, str) or not callable(builder):
        raise TypeError(f"register takes a text and a function, got {name!r} and {builder!r}")
    if not name or name == "fcn" or CLASSIFIERS.get(name, builder) is not builder:
        raise ValueError(f"name must be one that is not taken, got {name!r}")
    CLASSIFIERS[name] = builder
    return builder


def names() -> list[str]:
    """Return the names that `build` knows, those of entry points included; no package is imported for it.

    Example:
        >>> "vgg16" in names()
        True
    """
    from importlib.metadata import entry_points

    return sorted({*CLASSIFIERS, *entry_points(group=ENTRY_POINTS).names})


def builder(name: str) -> Builder:
    """Return the function that builds the classifier of a name.

    Raises:
        ValueError: If the name is unknown, or its entry point leads to no function.

    Example:
        >>> builder("vgg16") is vgg16
        True
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    loaded: Builder | None = load_entry_point(ENTRY_POINTS, name)
    if loaded is None:
        raise ValueError(f"unknown architecture {name[:50]!r}: known are {', '.join(names())}")
    if not callable(loaded):
        raise ValueError(f"the entry point {name} of {ENTRY_POINTS} is not a function but {loaded!r}")
    return register(name, loaded)


def build(
    architecture: str | dict[str, Any], num_classes: int | None = None, *, init: Init = "he", rng: Rng = None
) -> Classifier | FCN:
    """Make a network from a name, or from the name and arguments in the `architecture` of a network.

    Args:
        architecture: A name, such as "vgg16", or `{"name": ..., "arguments": {...}}`. It may come from a
            file, so it is checked.
        num_classes: Number of scores, together with a name; the builder's default unless given.
        init: Initial weights, `"he"` or `"zeros"`.
        rng: Generator or seed for random weights; `None` means fresh entropy.

    Returns:
        The network, without `info`.

    Raises:
        ValueError: If the name is unknown or the arguments do not fit.
        TypeError: If a registered builder returns something else than a classifier.

    Example:
        >>> build("digit_classifier", 7, rng=0).architecture
        {'name': 'digit_classifier', 'arguments': {'num_classes': 7}}
    """
    if isinstance(architecture, str):
        chosen = {} if num_classes is None else {"num_classes": num_classes}
        return _classifier(architecture, chosen, init, rng)
    if num_classes is not None:
        raise ValueError(f"num_classes goes with a name, got {num_classes!r} with {str(architecture)[:50]}")
    name, arguments = _parts(architecture)
    if name != "fcn" and arguments.keys() != {"num_classes"}:
        builder(name)  # refuses an unknown name first
        raise ValueError(f"arguments of {name!r} must be num_classes alone, got {str([*arguments])[:100]}")
    try:
        if name != "fcn":
            return _classifier(name, arguments, init, rng)
        inner, inner_arguments = _parts(arguments.get("classifier"))
        others = {key: value for key, value in arguments.items() if key != "classifier"}
        return FCN(_classifier(inner, inner_arguments, init, rng), **others)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the arguments of architecture {name!r} do not fit: {str(error)[:300]}") from error


def _classifier(name: str, arguments: dict[str, Any], init: Init, rng: Rng) -> Classifier:
    make = builder(name)
    if not arguments.keys() <= {"num_classes"}:
        raise ValueError(f"a classifier takes num_classes alone, got {str([*arguments])[:100]}")
    for classes in arguments.values():
        if check_integer(classes, "num_classes", 1) > MAX_CLASSES:
            raise ValueError(f"num_classes must be at most {MAX_CLASSES}, got {classes}")
    model = make(**arguments, init=init, rng=rng)
    if not isinstance(model, Classifier):
        raise TypeError(f"the builder of {name!r} must return a Classifier, got {type(model).__name__}")
    if not model.architecture:
        (classes,) = model.output_shape(model.input_shape)
        model.architecture = named(name, classes)
    return model


def _parts(architecture: object) -> tuple[str, dict[str, Any]]:
    if isinstance(architecture, dict):
        name, arguments = architecture.get("name"), architecture.get("arguments")
        if isinstance(name, str) and isinstance(arguments, dict):
            return name, arguments
    raise ValueError(f"an architecture is a name and arguments, got {str(architecture)[:100]}")
