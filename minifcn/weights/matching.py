"""Which tensor of a file belongs to which tensor of a network, and what has to be done to its shape.

A match looks at names, shapes and dtypes only, so it is quick for any file, and safe for a hostile one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minifcn.files import FileError
from minifcn.models import FCN, Classifier
from minifcn.weights.naming import Naming
from minifcn.weights.report import Report, Shape, Transfer
from minifcn.weights.tensors import Numbers, shown


@dataclass(frozen=True)
class Match:
    """A network beside the tensors of a file.

    Attributes:
        model: The network; its weights are not touched by the match.
        naming: What the file calls its tensors.
        found: Names of the file's tensors that fit, by ours.
        missing: For each of our tensors that none fits, what there is instead, in words, or "".
    """

    model: Classifier | FCN
    naming: Naming
    found: dict[str, str]
    missing: dict[str, str]

    @property
    def share(self) -> float:
        """The share of the network's tensors that were found."""
        return len(self.found) / (len(self.found) + len(self.missing))


def match(model: Classifier | FCN, naming: Naming, arrays: Mapping[str, Numbers]) -> Match:
    """Look up each tensor of a network in a file.

    Example:
        >>> from minifcn.models import digit_classifier
        >>> model = digit_classifier()
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
    """Return the shape of each tensor of a network, that of dense weights as a convolution's, (O, C, H, W).

    Example:
        >>> from minifcn.models import digit_classifier
        >>> shapes = filter_shapes(digit_classifier())
        >>> shapes["classifier.0.weight"], shapes["classifier.3.weight"]
        ((128, 64, 4, 4), (10, 128, 1, 1))
    """
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    if isinstance(model, Classifier):
        flattened = model.features.output_shape(model.input_shape)
        for name, shape in shapes.items():
            if len(shape) == 2:
                outputs, inputs = shape
                shapes[name] = (
                    (outputs, *flattened) if inputs == math.prod(flattened) else (outputs, inputs, 1, 1)
                )
                flattened = (outputs, 1, 1)  # what the next dense layer takes
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


def left_over(found: Match, arrays: Mapping[str, Numbers]) -> dict[str, Shape]:
    """Return names and shapes of the tensors that a match has no use for, but for batch counters."""
    used = set(found.found.values())
    return {
        name: array.shape
        for name, array in arrays.items()
        if name not in used and not name.endswith("num_batches_tracked")
    }


def transfer(file: Path, found: Match, arrays: dict[str, Numbers], order: str) -> Report:
    """Copy what a match found into its network.

    Args:
        file: Where the tensors are from, for messages.
        found: The match.
        arrays: The file's tensors; those that are copied are taken out, so that each is there only once.
        order: How maps were flattened for dense weights: "CHW" or "HWC".

    Raises:
        FileError: If a kernel mixes classes where the network upsamples each by itself. The network is then
            partly loaded, and should be dropped.
    """
    model, naming = found.model, found.naming
    state, filters = model.state_dict(), filter_shapes(model)
    order = "HWC" if naming.channels_last else order  # the maps lay in memory that way
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
    return Report(model.architecture["name"], naming.source, tuple(copied), tuple(reshaped), missing, unused)


def _channels_first(array: Numbers, filters: Shape, channels_last: bool, order: str) -> Numbers:
    """Bring weights into the order (O, C, H, W); dense ones may stay flattened."""
    if array.ndim not in (2, 4):
        return array
    if channels_last:
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    if order == "HWC" and array.ndim == 2 and math.prod(filters[2:]) > 1:
        outputs, channels, height, width = filters
        array = array.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)
    return array


def _depthwise(file: Path, name: str, kernels: Numbers) -> Numbers:
    """Return the diagonal (classes, 1, k, k) of kernels (classes, classes, k, k), all else being zero."""
    classes = np.arange(len(kernels))
    diagonal = kernels[classes, classes]
    if np.count_nonzero(kernels) != np.count_nonzero(diagonal):
        raise FileError(
            f"{file}: {shown(name)} mixes the scores of different classes: it is not zero off the diagonal, "
            f"and here each class is upsampled by itself"
        )
    return diagonal[:, None]
