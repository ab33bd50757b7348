"""What a dataset is, and what all datasets of image and mask files share."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from minifcn.backend import Array
from minifcn.data.classes import Classes
from minifcn.data.errors import DataError, StrPath, counted
from minifcn.data.images import common_bit_depth, is_rotated, pixel_count, read_image
from minifcn.data.listing import Listing, Pair
from minifcn.data.masks import Mask, mask_values, most_frequent, read_mask
from minifcn.palette import VOID

SPLITS = ("train", "validation", "test")


class Dataset(Protocol):
    """Anything with a length, items, class names and a palette.

    A class of your own need not inherit from this one; it only needs these members. The same index must give
    the same item every time, also when several threads ask at once.

    Example:
        >>> import numpy as np
        >>> class Squares:
        ...     class_names = ("background", "square")
        ...     palette = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
        ...     def __len__(self):
        ...         return 10
        ...     def __getitem__(self, index):
        ...         labels = np.zeros((16, 16), np.uint8)
        ...         labels[index : index + 4, 2:6] = 1
        ...         return np.uint8(255) * labels[..., None], labels  # image (H, W, 1), labels (H, W)
        >>> dataset: Dataset = Squares()
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes; label k means `class_names[k]`."""

    @property
    def palette(self) -> Array:
        """Colours of the classes, uint8 (K, 3), RGB."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, index: int, /) -> tuple[Array, Array]:
        """Return item `index`, counted from 0.

        Returns:
            The image, uint8 (H, W, C), and its labels: uint8 (H, W) with 255 for void, or, if the image as a
            whole has one class, a uint8 array of shape ().

        Raises:
            IndexError: If there is no such item.
        """


class FileDataset:
    """Images with masks in files; base class of `CamVid`, `VOC` and `Folder`.

    Files are read when their item is requested, and nothing is cached.

    Attributes:
        root: The folder.
        split: "train", "validation" or "test".
        class_names: Names of the K classes.
        palette: Their colours, uint8 (K, 3).
        problems: What was wrong when the folder was listed; only warnings unless `strict` was False.
        chosen: How the items were chosen, if neither a folder nor a list says so; otherwise empty.
        bands: Which bands of the files become the channels of the images; see `read_image`.

    Example:
        >>> from minifcn.data import VOC, FileDataset, Folder
        >>> issubclass(Folder, FileDataset), issubclass(VOC, FileDataset)
        (True, True)
    """

    palette_colors = False
    """Whether colours of palettes are looked up in the colour map; otherwise the indices are the values."""

    def __init__(self, root: Path, split: str, listing: Listing, classes: Classes, *, strict: bool) -> None:
        if strict:
            listing.require_complete(root, split)
        self.root = root
        self.split = split
        self.classes = classes
        self.class_names = classes.names
        self.palette = classes.palette
        self.problems = tuple(listing.problems)
        self.chosen = listing.chosen
        self.bands: tuple[int, ...] | None = None
        self._pairs = listing.pairs
        self._all_images = [pair.image for pair in listing.pairs]

    @cached_property
    def bit_depth(self) -> int:
        """Bits of the values of those images that have 16 bits per channel; see `read_image`.

        Found once, from the images of all splits, because one image may be dark; or assigned.
        """
        return common_bit_depth(self._all_images)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return an image, uint8 (H, W, 3), and its labels, uint8 (H, W) with 255 for void.

        Raises:
            IndexError: If there is no such item.
            OSError: If a file cannot be opened.
            FileError: If a file cannot be used, or image and mask differ in size.
        """
        image, labels = self.image(index), self.labels(index)
        self.check_sizes(index, image.shape, labels.shape)
        return image, labels

    def pair(self, index: int) -> Pair:
        """Return name and paths of an item."""
        if not 0 <= index < len(self._pairs):
            raise IndexError(f"index must be from 0 to {len(self._pairs) - 1}, got {index}")
        return self._pairs[index]

    def image(self, index: int) -> Array:
        """Return the image of an item alone, uint8 (H, W, 3)."""
        return read_image(self.pair(index).image, bit_depth=self.bit_depth, bands=self.bands)

    def pixel_count(self, index: int) -> int:
        """Return height times width of an item; only the header of its image file is read."""
        return pixel_count(self.pair(index).image)

    def labels(self, index: int) -> Array:
        """Return the labels of an item alone, uint8 (H, W); masks are read much faster than images."""
        return self.to_labels(index, self.values(index, self.mask(index)))

    def mask(self, index: int) -> Mask:
        """Return the mask of an item as it is in its file."""
        return read_mask(self.pair(index).mask)

    def values(self, index: int, mask: Mask) -> Array:
        """Return the values that the mask of an item has or its colours stand for, uint8 (H, W)."""
        path = self.pair(index).mask
        return mask_values(mask, path, self.classes.colors, palette_colors=self.palette_colors)

    def to_labels(self, index: int, values: Array) -> Array:
        """Return the labels of the values of a mask, uint8 (H, W).

        Raises:
            FileError: If a value is no class.
        """
        known = self.classes.known[values]
        if not known.all():
            wrong, different = most_frequent(values[~known], 3)
            listed = ", ".join(f"{value} on {counted(pixels, 'pixel')}" for value, pixels in wrong.items())
            more = f" and {counted(different - 3, 'other value')}" if different > 3 else ""
            right = [value for value in np.flatnonzero(self.classes.known).tolist() if value != VOID]
            contiguous = len(right) == right[-1] - right[0] + 1
            expected = f"{right[0]} to {right[-1]}" if contiguous else right
            reason = f"has values that are no class: {listed}{more}; expected {expected} or {VOID} for void"
            raise DataError("labels", self.pair(index).mask, reason)
        return np.asarray(self.classes.table[values])

    def order_classes(self, class_names: tuple[str, ...], palette: Array) -> None:
        """Number the classes as in another list of names, which contains theirs.

        Args:
            class_names: The names.
            palette: Their colours, uint8 (K, 3).
        """
        label_of = np.full(256, VOID, np.uint8)
        label_of[: len(self.class_names)] = [class_names.index(name) for name in self.class_names]
        table = label_of[self.classes.table]
        self.classes = self.classes._replace(names=class_names, palette=palette, table=table)
        self.class_names, self.palette = class_names, palette

    def check_sizes(self, index: int, image: Sequence[int], labels: Sequence[int]) -> None:
        """Raise a `FileError` unless the shapes (H, W, ...) of image and labels agree."""
        (height, width), (rows, columns) = image[:2], labels[:2]
        if (height, width) != (rows, columns):
            _, image_path, path = self.pair(index)
            reason = f"has {columns} x {rows} pixels, but its image has {width} x {height}"
            if (height, width) == (columns, rows) and is_rotated(image_path):
                reason += "; the image is rotated by its EXIF orientation"
            raise DataError("size", path, reason)


def read_like(datasets: Iterable[Dataset], bit_depth: int, bands: Sequence[int] | None) -> None:
    """Have datasets in files read their images as a network requires it.

    Args:
        datasets: Other datasets stay as they are.
        bit_depth: As recorded with the network; 8, for files of 8 bits, lets the datasets find it themselves.
        bands: Likewise.
    """
    for dataset in datasets:
        if isinstance(dataset, FileDataset):
            if bit_depth > 8:
                dataset.bit_depth = bit_depth
            dataset.bands = None if bands is None else tuple(bands)


def folder_of(path: StrPath) -> Path:
    """Return the path of a folder, with `~` expanded.

    Raises:
        FileError: If there is no such folder.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError("missing", folder, "is not a folder" if folder.exists() else "does not exist")
    return folder
