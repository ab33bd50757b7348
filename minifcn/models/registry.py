"""Classifiers by name, for the command line and for files of weights."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from minifcn.geometry import check_integer
from minifcn.layers import register as register_class
from minifcn.layers.config import load_entry_point
from minifcn.layers.parameter import Init, Rng
from minifcn.models.classifiers import Classifier, named
from minifcn.models.fcn import FCN
from minifcn.models.scoring import ScoreLayer
from minifcn.models.upsampling import AlignedUpsample, PaperUpsample, TorchvisionUpsample

Builder: TypeAlias = Callable[..., Classifier]
"""A function `builder(num_classes=..., *, init="he", rng=None)` that returns a classifier."""

AnyBuilder = TypeVar("AnyBuilder", bound=Builder)

ENTRY_POINTS = "minifcn.models"
"""Group of the entry points in which installed packages offer builders under names."""

MAX_CLASSES = 100_000
CLASSIFIERS: dict[str, Builder] = {}
"""The builders that are known already; `builder` also finds those of entry points."""


class Published(NamedTuple):
    """What is known of the published weights of a built-in classifier.

    Attributes:
        preprocessing: A name from `minifcn.weights.PREPROCESSING`.
        file: The name of torchvision's file, if there is one.
        prefixed: Whether names in that file lack the prefixes `features.` and `classifier.`.
    """

    preprocessing: str
    file: str = ""
    prefixed: bool = False


PUBLISHED: dict[str, Published] = {}

for _layer in (AlignedUpsample, Classifier, FCN, PaperUpsample, ScoreLayer, TorchvisionUpsample):
    register_class(_layer)


def built_in(*published: Any, **options: Any) -> Callable[[AnyBuilder], AnyBuilder]:
    """Give a classifier of minifcn its name, with the arguments of `Published` if its weights are published.

    This is the only place that lists it: `build`, commands, files of weights and downloads find it here.

    Example:
        >>> "vgg16" in CLASSIFIERS, PUBLISHED["vgg16"].preprocessing
        (True, 'torchvision')
    """

    def declare(make: AnyBuilder) -> AnyBuilder:
        CLASSIFIERS[make.__name__] = make
        if published:
            PUBLISHED[make.__name__] = Published(*published, **options)
        return make

    return declare


def register(name: str, builder: AnyBuilder) -> AnyBuilder:
    """Give a classifier of one's own a name, for `build`, `minifcn train --model` and files of weights.

    A package that is installed need not be imported for that: it declares an entry point of this name in the
    group "minifcn.models", which refers to the builder.

    Args:
        name: The name.
        builder: A function `builder(num_classes=..., *, init="he", rng=None)` that returns a `Classifier`.

    Returns:
        The builder.

    Raises:
        TypeError: If the builder cannot be called, or the name is not a text.
        ValueError: If the name is empty or taken.

    Example:
        >>> from minifcn.layers import Conv2d, GlobalAvgPool2d, Sequential
        >>> def tiny(num_classes=2, *, init="he", rng=None):
        ...     features = Sequential(Conv2d(1, 4, 3, init=init, rng=rng))
        ...     scores = Sequential(Conv2d(4, num_classes, 1, init=init, rng=rng), GlobalAvgPool2d())
        ...     return Classifier(features, scores, input_shape=(1, 8, 8), taps={})
        >>> _ = register("tiny", tiny)
        >>> build("tiny", 5, rng=0).output_shape((1, 8, 8))
        (5,)
        >>> del CLASSIFIERS["tiny"]
    """
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
        >>> builder("vgg16").__name__
        'vgg16'
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
