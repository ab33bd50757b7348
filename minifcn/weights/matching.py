"""Which tensor of a file belongs to which tensor of a network, and how its shape changes on the way.

A match looks at names, shapes and dtypes only, so it is quick for any file, and safe for a hostile one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.files import FileError
from minifcn.models import FCN, Classifier
from minifcn.weights.names import Naming
from minifcn.weights.tensors import shown

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Transfer:
    """One tensor that was copied from a file into a network.

    Attributes:
        name: In the network.
        shape: In the network.
        source: Its name in the file.
        source_shape: Its shape in the file.

    Example:
        >>> transfer = Transfer("head.0.weight", (128, 64, 4, 4), "classifier.0.weight", (128, 1024))
        >>> transfer.shape == transfer.source_shape  # a dense weight became that of a convolution
        False
    """

    name: str
    shape: Shape
    source: str
    source_shape: Shape


@dataclass(frozen=True)
class Report:
    """What was loaded, and what was not.

    Attributes:
        architecture: Name of the network.
        source: Whose names the file uses.
        copied: Tensors that were copied as they are.
        reshaped: Tensors that were reshaped, transposed or reordered; above all a dense layer and the
            convolution that does the same.
        missing: Shapes of the network's tensors that the file does not have, or not in a shape that fits.
        left_over: Shapes of the file's tensors that the network does not use. Batch counters of batch
            normalisation (`num_batches_tracked`), which nothing here uses, are not listed.

    Example:
        >>> report = Report("vgg16", "timm", (), (Transfer("a", (2, 3), "b", (2, 3, 1, 1)),), {"c": (2,)}, {})
        >>> print(report)
        vgg16 in the names of timm: 0 copied, 1 reshaped, 1 missing, 0 left over
        reshaped   a  (2, 3)  from b (2, 3, 1, 1)
        missing    c  (2)
    """

    architecture: str
    source: str
    copied: tuple[Transfer, ...]
    reshaped: tuple[Transfer, ...]
    missing: dict[str, Shape]
    left_over: dict[str, Shape]

    def summary(self) -> str:
        """Return how many tensors were copied, reshaped, missing and left over, in one line."""
        return (
            f"{self.architecture} in the names of {self.source}: {len(self.copied)} copied, "
            f"{len(self.reshaped)} reshaped, {len(self.missing)} missing, {len(self.left_over)} left over"
        )

    def __str__(self) -> str:
        rows = [("copied", e.name, e.shape, f"from {shown(e.source)}") for e in self.copied]
        for e in self.reshaped:
            rows.append(("reshaped", e.name, e.shape, f"from {shown(e.source)} {_text(e.source_shape)}"))
        for what, shapes in (("missing", self.missing), ("left over", self.left_over)):
            rows += [(what, shown(name), shape, "") for name, shape in shapes.items()]
        names = max((len(name) for _, name, _, _ in rows), default=0)
        widest = max((len(_text(shape)) for _, _, shape, _ in rows), default=0)
        lines = [
            f"{what:9}  {name:{names}}  {_text(shape):{widest}}  {origin}".rstrip()
            for what, name, shape, origin in rows
        ]
        return "\n".join([self.summary(), *lines])


@dataclass(frozen=True)
class Match:
    """A network beside the tensors of a file.

    Attributes:
        model: The network; its weights are not touched by the match.
        naming: The names that the file uses.
        found: Names of the file's tensors that fit, by the network's names.
        missing: The network's names for which no tensor fits, with what is there instead, or "".
    """

    model: Classifier | FCN
    naming: Naming
    found: dict[str, str]
    missing: dict[str, str]

    @property
    def share(self) -> float:
        """Fraction of the network's tensors that were found."""
        return len(self.found) / (len(self.found) + len(self.missing))

    @property
    def architecture(self) -> str:
        """Name of the network."""
        return str(self.model.architecture.get("name", type(self.model).__name__))

    def __str__(self) -> str:
        tensors = f"{len(self.found)} of {len(self.naming.names)} tensors"
        return f"{self.architecture} in the names of {self.naming.source}, with {tensors}"


def match(model: Classifier | FCN, naming: Naming, arrays: Mapping[str, Array]) -> Match:
    """Look up each tensor of a network in a file.

    Example:
        >>> from minifcn.models import digit_classifier
        >>> model = digit_classifier(init="zeros")
        >>> naming = Naming("mine", {name: name.upper() for name in model.state_dict()})
        >>> match(model, naming, {"FEATURES.0.BIAS": np.zeros(16)}).found
        {'features.0.bias': 'FEATURES.0.BIAS'}
    """
    filters = filter_shapes(model)
    found, missing = {}, {}
    for ours, own in model.state_dict().items():
        theirs = naming.names[ours]
        array = arrays.get(theirs)
        if array is None:
            missing[ours] = ""
        elif array.dtype.kind == "f" and array.shape in _forms(ours, filters[ours], naming.channels_last):
            found[ours] = theirs
        else:
            missing[ours] = f"{shown(theirs)} is {array.dtype.name} {array.shape} instead of {own.shape}"
    return Match(model, naming, found, missing)


def filter_shapes(model: Classifier | FCN) -> dict[str, Shape]:
    """Return the shape of each tensor of a network, with dense weights as those of convolutions (O, C, H, W).

    Example:
        >>> from minifcn.models import digit_classifier
        >>> shapes = filter_shapes(digit_classifier(init="zeros"))
        >>> shapes["classifier.0.weight"], shapes["classifier.3.weight"]
        ((128, 64, 4, 4), (10, 128, 1, 1))
    """
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    if isinstance(model, Classifier):
        flattened = model.features.output_shape(model.input_shape)
        for name, shape in shapes.items():
            if len(shape) == 2:
                outputs, inputs = shape
                map_shape = flattened if inputs == math.prod(flattened) else (inputs, 1, 1)
                shapes[name] = (outputs, *map_shape)
                flattened = (outputs, 1, 1)  # input of the next dense layer
    return shapes


def _forms(name: str, shape: Shape, channels_last: bool) -> set[Shape]:
    """Return the shapes in which a file may hold a tensor."""
    if len(shape) != 4:
        return {shape}
    outputs, channels, height, width = shape
    if name.startswith("upsamples."):
        return {shape, (outputs, outputs, height, width)}  # a kernel from each class to each
    forms: set[Shape] = {shape}
    if not name.startswith("features."):
        forms.add((outputs, channels * height * width))
    if channels_last:
        return {(*form[2:], *reversed(form[:2])) for form in forms}
    return forms


def left_over(found: Match, arrays: Mapping[str, Array]) -> dict[str, Shape]:
    """Return names and shapes of the tensors that a match does not use, except batch counters."""
    used = set(found.found.values())
    return {
        name: array.shape
        for name, array in arrays.items()
        if name not in used and not name.endswith("num_batches_tracked")
    }


def transfer(file: Path, found: Match, arrays: dict[str, Array], order: str) -> Report:
    """Copy what a match found into its network.

    Args:
        file: Where the tensors come from, for messages.
        found: The match.
        arrays: The file's tensors; those that are copied are removed, so that memory holds each once.
        order: How maps were flattened for dense weights: "CHW" or "HWC".

    Raises:
        FileError: If a kernel mixes classes where the network upsamples each by itself. The network is then
            partly loaded, and should be dropped.
    """
    model, naming = found.model, found.naming
    state, filters = model.state_dict(), filter_shapes(model)
    order = "HWC" if naming.channels_last else order
    unused = left_over(found, arrays)
    copied: list[Transfer] = []
    reshaped: list[Transfer] = []
    for ours, theirs in found.found.items():
        array = arrays.pop(theirs)
        entry = Transfer(ours, state[ours].shape, theirs, array.shape)
        if ours.startswith("upsamples.") and array.shape != entry.shape:
            changed = _depthwise(file, theirs, array)
        else:
            changed = _channels_first(array, filters[ours], naming.channels_last, order)
        model.load_state_dict({ours: changed.reshape(entry.shape)}, strict=False)
        (copied if changed is array and array.shape == entry.shape else reshaped).append(entry)
    missing = {ours: state[ours].shape for ours in found.missing}
    return Report(found.architecture, naming.source, tuple(copied), tuple(reshaped), missing, unused)


def _channels_first(array: Array, filters: Shape, channels_last: bool, order: str) -> Array:
    """Bring weights into the order (O, C, H, W); dense ones may stay flattened."""
    if array.ndim not in (2, 4):
        return array
    if channels_last:
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    if order == "HWC" and array.ndim == 2 and math.prod(filters[2:]) > 1:
        outputs, channels, height, width = filters
        # (O, H * W * C) -> (O, H, W, C) -> (O, C, H, W)
        array = array.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)
    return array


def _depthwise(file: Path, name: str, kernels: Array) -> Array:
    """Return the diagonal (classes, 1, k, k) of kernels (classes, classes, k, k) that are zero elsewhere."""
    classes = np.arange(len(kernels))
    diagonal = kernels[classes, classes]
    if np.count_nonzero(kernels) != np.count_nonzero(diagonal):
        raise FileError(f"{file}: {shown(name)} mixes the scores of different classes off its diagonal")
    return diagonal[:, None]


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
