"""What is wrong with a file of a dataset, in a form that `check_dataset` can sort."""

import os
from collections.abc import Mapping
from typing import Literal, TypeAlias

from minifcn.files import FileError

Kind = Literal["unreadable", "missing", "size", "lossy", "labels", "mode"]
Color: TypeAlias = tuple[int, int, int]

_MOST_LINES = 8


class DataError(FileError):
    """A file of a dataset that cannot be used.

    Attributes:
        kind: "unreadable" (damaged, too large, or no image at all), "missing" (there is nothing to go with
            it), "size" (image and mask differ), "lossy" (a mask whose format changes labels), "labels"
            (numbers or colours that mean no class) or "mode" (a kind of pixel that has no agreed meaning
            here).
        path: The file.
        reason: What is wrong with it.
        colors: Colours in it that mean no class, with their pixels. The text of the error goes on with lines
            for them, to be pasted into `classes.txt`.

    Example:
        >>> print(DataError("lossy", "masks/cat.jpg", "a mask must not be a JPEG"))
        masks/cat.jpg: a mask must not be a JPEG
    """

    def __init__(
        self, kind: Kind, path: str | os.PathLike[str], reason: str, colors: Mapping[Color, int] | None = None
    ) -> None:
        self.kind: Kind = kind
        self.path = os.fspath(path)
        self.reason = reason
        self.colors = dict(colors or {})
        lines = f"; {class_lines(self.colors)}" if self.colors else ""
        super().__init__(f"{self.path}: {reason}{lines}")


def class_lines(colors: Mapping[Color, int]) -> str:
    """Return lines of `classes.txt` for colours and their pixels, under a heading; the most frequent first.

    Example:
        >>> print(class_lines({(200, 30, 30): 1, (0, 0, 0): 99}))
        lines for classes.txt, with names to be changed:
            class1 0 0 0  # 99 pixels
            class2 200 30 30  # 1 pixel
    """
    most = sorted(colors, key=lambda color: (-colors[color], color))
    lines = [
        f"class{number} {red} {green} {blue}  # {counted(colors[red, green, blue], 'pixel')}"
        for number, (red, green, blue) in enumerate(most[:_MOST_LINES], 1)
    ]
    if len(most) > _MOST_LINES:
        lines.append(f"# and {counted(len(most) - _MOST_LINES, 'more colour')}")
    return "\n    ".join(["lines for classes.txt, with names to be changed:", *lines])


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    Example:
        >>> counted(1, "image"), counted(1464, "image"), counted(0, "class")
        ('1 image', '1,464 images', '0 classes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
