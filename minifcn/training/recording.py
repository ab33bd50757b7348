"""A record of what flows through a network, forward and backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minifcn.backend import Array
from minifcn.layers import Layer, LayerDict


@dataclass(frozen=True)
class Record:
    """Measured values by name of the layer, in the order in which they were computed.

    Attributes:
        outputs: Of the output of each layer, a value for each forward pass.
        gradients: Of the gradient to this output, a value for each backward pass that reaches the layer.

    Example:
        >>> Record(outputs={"0": [0.5]}, gradients={"0": []}).outputs["0"]
        [0.5]
    """

    outputs: dict[str, list[Any]]
    gradients: dict[str, list[Any]]


@contextmanager
def record(model: Layer, measure: Callable[[Array], Any]) -> Iterator[Record]:
    """Measure the output of each layer, and the gradient to it, as long as the context lasts.

    A layer is measured where it calls `keep` and `recall`; layers that are made of others are not measured
    themselves. The arrays are measured on the device where they are, and are not kept.

    Args:
        model: The network; it works as before.
        measure: Called with each array; it returns what is recorded, for example a number or a histogram. It
            must not change the array.

    Yields:
        The record, which is filled in by every forward and backward pass.

    Raises:
        ValueError: If the model is being recorded already.

    Example:
        >>> import numpy as np
        >>> from minifcn.layers import ReLU, Sequential
        >>> network = Sequential(half=ReLU())
        >>> with record(network, lambda values: float((values == 0).mean())) as seen:
        ...     y = network(np.array([[-1.0, 2.0]]))
        ...     dx = network.backward(np.array([[3.0, 4.0]]))
        >>> seen.outputs, seen.gradients
        ({'half': [0.5]}, {'half': [0.0]})
    """
    leaves = dict(_leaves(model))
    if any("recall" in vars(layer) for layer in leaves.values()):
        raise ValueError("model is being recorded already: end that context first")
    seen = Record({name: [] for name in leaves}, {name: [] for name in leaves})
    try:
        for name, layer in leaves.items():
            _listen(layer, measure, seen.outputs[name], seen.gradients[name])
        yield seen
    finally:
        for layer in leaves.values():
            for method in ("keep", "recall"):
                vars(layer).pop(method, None)


def _listen(layer: Layer, measure: Callable[[Array], Any], outputs: list[Any], gradients: list[Any]) -> None:
    """Measure what passes through `keep` and `recall`, which each layer calls once forward and backward."""
    keep, recall = layer.keep, layer.recall

    def measured_keep(*values: Any, output: Array) -> None:
        outputs.append(measure(output))
        keep(*values, output=output)

    def measured_recall(dy: Array) -> tuple[Any, ...]:
        kept = recall(dy)
        gradients.append(measure(dy))
        return kept

    vars(layer).update(keep=measured_keep, recall=measured_recall)


def _leaves(layer: Layer, name: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield the layers that are not made of others, with names such as "features.0"."""
    children = list(layer.children())
    if not children and not isinstance(layer, LayerDict):  # which may be empty
        yield name, layer
    for child_name, child in children:
        yield from _leaves(child, f"{name}.{child_name}" if name else child_name)
