"""What became of the tensors of a file, and of those of a network."""

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from minifcn.weights.tensors import shown

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Transfer:
    """One tensor that went from a file into a network.

    Attributes:
        name: In the network.
        shape: In the network.
        source: Its name in the file.
        source_shape: Its shape in the file.
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
        copied: Tensors that were taken as they are.
        reshaped: Tensors that were reshaped, transposed or put into another order: a dense layer and the
            convolution that does the same, above all.
        missing: Shapes of the network's tensors that the file does not have, or not in a shape that fits.
        left_over: Shapes of the file's tensors that the network has no use for. Batch counters of batch
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

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries, lists and texts, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """Return how many tensors were copied, reshaped, missing and left over, in a line."""
        return (
            f"{self.architecture} in the names of {self.source}: {len(self.copied)} copied, "
            f"{len(self.reshaped)} reshaped, {len(self.missing)} missing, {len(self.left_over)} left over"
        )

    def __str__(self) -> str:
        rows = [("copied", entry.name, entry.shape, f"from {shown(entry.source)}") for entry in self.copied]
        rows += [
            (
                "reshaped",
                entry.name,
                entry.shape,
                f"from {shown(entry.source)} {_text(entry.source_shape)}",
            )
            for entry in self.reshaped
        ]
        rows += [("missing", name, shape, "") for name, shape in self.missing.items()]
        rows += [("left over", shown(name), shape, "") for name, shape in self.left_over.items()]
        widths = [max((len(name) for _, name, _, _ in rows), default=0)]
        widths.append(max((len(_text(shape)) for _, _, shape, _ in rows), default=0))
        lines = [self.summary()]
        lines += [
            f"{fate:9}  {name:{widths[0]}}  {_text(shape):{widths[1]}}  {origin}".rstrip()
            for fate, name, shape, origin in rows
        ]
        return "\n".join(lines)


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
