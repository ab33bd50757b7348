"""What `explain` returns: a row for each layer, the totals, and how they look as a table."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from minifcn.geometry import CoordinateMap, Transposed
from minifcn.layers.base import Shape
from minifcn.layers.cost import Axis
from minifcn.printing import escape


@dataclass(frozen=True)
class View:
    """What outputs see of the image, along one axis.

    Attributes:
        field: Pixels that one output depends on, those of the padding included.
        grid: Where the outputs lie: output i at pixel `scale * i + offset`.

    Example:
        >>> from minifcn.geometry import Window
        >>> pixels = View(1, CoordinateMap())
        >>> behind_pool = pixels.through(Window(3, padding=1)).through(Window(2, stride=2))
        >>> behind_pool.field, str(behind_pool.grid)
        (4, '2 i + 1/2')
    """

    field: int
    grid: CoordinateMap

    def through(self, window: Axis) -> "View":
        """Return what is seen behind one more layer."""
        if isinstance(window, Transposed):  # one in `stride` of the taps meets an input
            inputs = -(-window.window.extent // window.window.stride)
        else:
            first, last = window.input_range(0, 0)
            inputs = last - first + 1
        seen = self.field + math.ceil((inputs - 1) * self.grid.scale)
        return View(seen, self.grid @ window.coordinate_map())

    def resized(self, scale: Fraction) -> "View":
        """Return what is seen behind bilinear resizing, which reads output i at (i + 1/2) scale - 1/2."""
        place = CoordinateMap(scale, (scale - 1) / 2)
        return View(self.field + math.ceil(self.grid.scale), self.grid @ place)


Views: TypeAlias = tuple[View, View] | None
"""Along rows and along columns; `None` behind a layer that has no reach."""


@dataclass(frozen=True)
class Row:
    """One layer, or a place where maps are added, multiplied, concatenated, padded, cropped or resized.

    Bytes and multiplications are those of the whole batch.

    Attributes:
        name: As in `named_parameters`.
        kind: Name of its class, or "add", "multiply", "concat", "pad", "crop" or "resize".
        detail: How its windows slide.
        output_shape: Of one item, (C, H, W).
        views: What one output sees of the image, and where it lies.
        parameters: Number of values that can be trained.
        multiplications: Products summed in a forward pass; `None` if unknown.
        output_bytes: Size of its output.
        activation_bytes: What training keeps of it for backward: its output, if this or a later layer needs
            that, and what it keeps besides.
        fused: Whether evaluation computes it together with the convolution before it.
    """

    name: str
    kind: str
    detail: str
    output_shape: Shape
    views: Views
    parameters: int
    multiplications: int | None
    output_bytes: int
    activation_bytes: int = 0
    fused: bool = False


@dataclass(frozen=True)
class Totals:
    """What a network needs in total.

    Peaks are those of this library's arrays, with the workspace of all threads; the interpreter with its
    libraries takes about 100 MB more.

    Attributes:
        parameters: Number of values that can be trained.
        multiplications: Products summed in a forward pass.
        output_bytes: Outputs of all layers; not all of them exist at once.
        activation_bytes: What training keeps for backward.
        weight_bytes: Parameters and buffers.
        gradient_bytes: Gradients of all parameters that are trained.
        optimizer_bytes: What "SGD" with momentum and "Adam" keep besides.
        inference_bytes: Predicted peak of a forward pass in evaluation.
        training_bytes: Predicted peak of a training step with "SGD" and with "Adam".
    """

    parameters: int
    multiplications: int
    output_bytes: int
    activation_bytes: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: dict[str, int]
    inference_bytes: int
    training_bytes: dict[str, int]


@dataclass(frozen=True)
class Explanation:
    """A network for one size of images, layer by layer, and what it needs in total; `print` shows a table.

    Attributes:
        title: Which network, and which images.
        rows: The layers, in the order of the forward pass.
        total: Sums and predicted peaks.

    Example:
        >>> from minifcn.models import digit_classifier, explain
        >>> explanation = explain(digit_classifier(rng=0), (32, 32))
        >>> explanation.rows[0].name
        'features.0'
    """

    title: str
    rows: tuple[Row, ...]
    total: Totals

    def __str__(self) -> str:
        head = ["layer", "kind", "C x H x W", "sees", "every", "from"]
        head += ["parameters", "products", "output", "kept"]
        legend: tuple[str, ...] = (
            "sees: pixels (rows x columns, where they differ) that one output depends on",
            "every, from: output i lies at pixel  every * i + from",
            "products: multiplications of a forward pass; kept: bytes that training holds for backward",
        )
        if any(row.fused for row in self.rows):
            legend += ("fused: evaluation computes the layer together with the convolution before it",)
        return "\n".join(
            [escape(self.title), "", *_table(head, map(_cells, self.rows)), "", *legend, "", *self._sums()]
        )

    def _sums(self) -> list[str]:
        total = self.total
        unknown = ", ".join(row.name for row in self.rows if row.multiplications is None)
        lines = [
            ("parameters", f"{total.parameters:,}"),
            ("multiplications", _count(total.multiplications) + (f", without {unknown}" if unknown else "")),
            ("outputs of all layers", _bytes(total.output_bytes)),
            ("kept for backward", _bytes(total.activation_bytes)),
            ("weights", _bytes(total.weight_bytes)),
            ("gradients", _bytes(total.gradient_bytes)),
            *((f"state of {name}", _bytes(size)) for name, size in total.optimizer_bytes.items()),
            ("peak of inference", _bytes(total.inference_bytes)),
            *((f"peak of training, {name}", _bytes(size)) for name, size in total.training_bytes.items()),
        ]
        return [f"{name:24}{value:>10}" for name, value in lines]


def _cells(row: Row) -> list[str]:
    def along(numbers: Iterable[Any]) -> str:
        return " x ".join(dict.fromkeys(map(str, numbers))) or "-"

    seen = row.views or ()
    return [
        escape(row.name),
        escape(" ".join(filter(None, (row.kind, row.detail, "(fused)" if row.fused else "")))),
        " x ".join(map(str, row.output_shape)),
        along(view.field for view in seen),
        along(f"{float(view.grid.scale):g}" for view in seen),
        along(f"{float(view.grid.offset):g}" for view in seen),
        f"{row.parameters:,}" if row.parameters else "",
        "?" if row.multiplications is None else _count(row.multiplications) if row.multiplications else "",
        _bytes(row.output_bytes),
        _bytes(row.activation_bytes) if row.activation_bytes else "",
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return aligned lines: the first two columns to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    row = "  ".join(f"{{:{'<' if number < 2 else '>'}{width}}}" for number, width in enumerate(widths))
    first, *others = (row.format(*line).rstrip() for line in lines)
    return [first, "-" * (sum(widths) + 2 * len(widths) - 2), *others]


def _scaled(number: int, units: tuple[str, ...]) -> str:
    """Return a number to four digits, in thousands, millions and so on."""
    scaled, power = float(number), 0
    while scaled >= 999.95 and power < len(units) - 1:
        scaled, power = scaled / 1000, power + 1
    return f"{scaled:.{min(power, 1)}f} {units[power]}"


def _bytes(number: int) -> str:
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def _count(number: int) -> str:
    return _scaled(number, ("", "k", "M", "G", "T")).rstrip()
