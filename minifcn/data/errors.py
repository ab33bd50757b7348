"""The error that names a file of a dataset, in a form that `check_dataset` can sort."""

import errno
import os
from collections.abc import Mapping
from io import BufferedReader
from typing import Literal, TypeAlias

from minifcn.files import FileError, open_foreign

Kind = Literal["unreadable", "missing", "size", "lossy", "labels", "mode", "objects", "skipped"]
WARNINGS = ("objects", "skipped")
"""The kinds of errors that do not keep a dataset from being used."""

Color: TypeAlias = tuple[int, int, int]
StrPath: TypeAlias = str | os.PathLike[str]

_MAX_LINES = 8


class DataError(FileError):
    """A file of a dataset that cannot be used.

    Attributes:
        kind: "unreadable" (damaged, too large, or not an image), "missing" (a file that belongs to it does
            not exist), "size" (image and mask differ), "lossy" (a mask whose format changes labels), "labels"
            (values or colours that are no class) or "mode" (a pixel format that has no agreed meaning here);
            or, as a warning, "objects" (values that look like numbers of objects) or "skipped" (a file that
            is left out, although nothing is missing).
        path: The file.
        reason: What is wrong with it.
        colors: Colours in it that are no class, with the number of their pixels. The message then ends with
            lines for them, to be pasted into `classes.txt`.

    Example:
        >>> print(DataError("lossy", "masks/cat.jpg", "a mask must not be a JPEG"))
        masks/cat.jpg: a mask must not be a JPEG
    """

    def __init__(
        self, kind: Kind, path: StrPath, reason: str, colors: Mapping[Color, int] | None = None
    ) -> None:
        self.kind: Kind = kind
        self.path = os.fspath(path)
        self.reason = reason
        self.colors = dict(colors or {})
        lines = f"; {class_lines(self.colors)}" if self.colors else ""
        super().__init__(f"{self.path}: {reason}{lines}")


class ContentsError(ValueError):
    """What is wrong with the contents of a file, raised where its path is not known.

    The function that has opened the file makes it a `DataError` of this kind.
    """

    def __init__(self, reason: str, kind: Kind = "unreadable") -> None:
        self.kind: Kind = kind
        super().__init__(reason)


def open_data(path: StrPath) -> BufferedReader:
    """Open a file of a dataset, as `minifcn.files.open_foreign` does.

    Raises:
        OSError: If it does not exist or cannot be opened.
        DataError: If it is no regular file.
    """
    try:
        return open_foreign(path)
    except FileNotFoundError:  # with the usual parts, of which some messages use one
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
    except (FileError, IsADirectoryError):
        raise DataError("unreadable", path, "is not a file") from None


def class_lines(colors: Mapping[Color, int]) -> str:
    """Return lines of `classes.txt` for colours, the most frequent first, below a heading.

    Args:
        colors: Colours (red, green, blue) and the number of their pixels.

    Example:
        >>> print(class_lines({(200, 30, 30): 1, (0, 0, 0): 99}))
        lines for classes.txt (replace the names):
            class1 0 0 0  # 99 pixels
            class2 200 30 30  # 1 pixel
    """
    ordered = sorted(colors, key=lambda color: (-colors[color], color))
    lines = [
        f"class{number} {color[0]} {color[1]} {color[2]}  # {counted(colors[color], 'pixel')}"
        for number, color in enumerate(ordered[:_MAX_LINES], 1)
    ]
    if len(ordered) > _MAX_LINES:
        lines.append(f"# and {counted(len(ordered) - _MAX_LINES, 'more colour')}")
    return "\n    ".join(["lines for classes.txt (replace the names):", *lines])


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural where that is right.

    Example:
        >>> counted(1, "image"), counted(1464, "image"), counted(0, "class")
        ('1 image', '1,464 images', '0 classes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
