"""What is wrong with a file of a dataset, in a form that `check_dataset` can sort."""

import os
from typing import Literal

from minifcn.files import FileError

Kind = Literal["unreadable", "missing", "size", "lossy", "labels", "mode"]


class DataError(FileError):
    """A file of a dataset that cannot be used.

    Attributes:
        kind: "unreadable" (damaged, too large, or no image at all), "missing" (there is nothing to go with
            it), "size" (image and mask differ), "lossy" (a mask whose format changes labels), "labels"
            (numbers or colours that mean no class) or "mode" (a kind of pixel that has no agreed meaning
            here).
        path: The file.
        reason: What is wrong with it.

    Example:
        >>> print(DataError("lossy", "masks/cat.jpg", "a mask must not be a JPEG"))
        masks/cat.jpg: a mask must not be a JPEG
    """

    def __init__(self, kind: Kind, path: str | os.PathLike[str], reason: str) -> None:
        self.kind: Kind = kind
        self.path = os.fspath(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")
