"""Datasets of pictures and masks in files: what they share."""

import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError, counted
from minifcn.data.images import IMAGE_SUFFIXES, lies_on_its_side, pixel_count, read_image
from minifcn.data.lists import Classes, stem
from minifcn.data.masks import Mask, labels_of, read_mask
from minifcn.palette import VOID

SPLITS = ("train", "validation", "test")


class Pair(NamedTuple):
    """One item: its name, and the paths of its picture and of its mask."""

    name: str
    image: str
    mask: str


class Listing(NamedTuple):
    """What a part of a folder holds.

    Attributes:
        pairs: Its items.
        problems: What is wrong with the rest.
        chosen: Which items these are, if neither a folder nor a list says so.
    """

    pairs: list[Pair]
    problems: list[DataError]
    chosen: str = ""


class FileDataset:
    """Pictures with masks in files; base of `CamVid`, `VOC` and `Folder`.

    Files are read when their item is asked for, and nothing is kept.

    Attributes:
        root: The folder.
        split: "train", "validation" or "test".
        class_names: Of the K classes.
        palette: Their colours, uint8 (K, 3).
        problems: What was missing when the folder was listed; empty unless `strict` was False.
        chosen: Which items these are, if neither a folder nor a list says so; else empty.
    """

    palette_colors = False
    """Whether the colours of palettes are looked up in the colour map; else it is the indices that count."""

    def __init__(self, root: Path, split: str, listing: Listing, classes: Classes, *, strict: bool) -> None:
        if strict:
            require_complete(root, split, listing)
        self.root = root
        self.split = split
        self.classes = classes
        self.class_names = classes.names
        self.palette = classes.palette
        self.problems = tuple(listing.problems)
        self.chosen = listing.chosen
        self._pairs = listing.pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return the picture, uint8 (H, W, 3), and its labels, uint8 (H, W) with 255 for void.

        Raises:
            IndexError: If there is no such item.
            OSError: If a file may not be read.
            FileError: If a file cannot be used, or picture and mask differ in size.
        """
        image, labels = self.image(index), self.labels(index)
        self.check_sizes(index, image.shape, labels.shape)
        return image, labels

    def item_name(self, index: int) -> str:
        """Return the name of an item: that of its files, without suffix."""
        return self.pair(index).name

    def pair(self, index: int) -> Pair:
        """Return name and paths of an item."""
        if not 0 <= index < len(self._pairs):
            raise IndexError(f"index must be from 0 to {len(self._pairs) - 1}, got {index}")
        return self._pairs[index]

    def image(self, index: int) -> Array:
        """Return the picture of an item alone, uint8 (H, W, 3)."""
        return read_image(self.pair(index).image)

    def pixel_count(self, index: int) -> int:
        """Return height times width of an item, of which only the head of the picture is read."""
        return pixel_count(self.pair(index).image)

    def labels(self, index: int) -> Array:
        """Return the labels of an item alone, uint8 (H, W): a mask is read much faster than a picture."""
        return self.translated(index, self.numbers(index))

    def numbers(self, index: int) -> Array:
        """Return the numbers that the mask of an item holds, uint8 (H, W), before they become labels."""
        return self.numbers_of(index, self.mask(index))

    def mask(self, index: int) -> Mask:
        """Return the mask of an item as it is in its file."""
        return read_mask(self.pair(index).mask)

    def numbers_of(self, index: int, mask: Mask) -> Array:
        """Return the numbers that a mask holds or its colours stand for, uint8 (H, W)."""
        path = self.pair(index).mask
        return labels_of(mask, path, self.classes.colors, palette_colors=self.palette_colors)

    def translated(self, index: int, numbers: Array) -> Array:
        """Return the labels that the numbers of a mask mean, uint8 (H, W).

        Raises:
            FileError: If one means no class.
        """
        known = self.classes.known[numbers]
        if not known.all():
            values, counts = np.unique(numbers[~known], return_counts=True)
            most = np.argsort(-counts, kind="stable")
            named = ", ".join(f"{values[i]} on {counted(int(counts[i]), 'pixel')}" for i in most[:3])
            more = f" and {counted(len(most) - 3, 'other number')}" if len(most) > 3 else ""
            raise DataError(
                "labels",
                self.pair(index).mask,
                f"has labels that are no class: {named}{more}; expected {self._expected()}",
            )
        labels: Array = self.classes.table[numbers]
        return labels

    def _expected(self) -> str:
        numbers = [number for number in range(256) if self.classes.known[number] and number != VOID]
        span = f"{numbers[0]} to {numbers[-1]}"
        return f"{span if len(numbers) == numbers[-1] - numbers[0] + 1 else numbers} or {VOID} for void"

    def check_sizes(self, index: int, image: Sequence[int], labels: Sequence[int]) -> None:
        """Raise a `FileError` unless shapes (H, W, ...) of picture and mask agree."""
        (height, width), (rows, columns) = image[:2], labels[:2]
        if (height, width) != (rows, columns):
            image_path, path = self.pair(index)[1:]
            turned = (height, width) == (columns, rows) and lies_on_its_side(image_path)
            raise DataError(
                "size",
                path,
                f"has {columns} x {rows} pixels, but its image has {width} x {height}"
                + ("; it is turned by the photograph's EXIF orientation" if turned else ""),
            )


def check_split(split: str) -> None:
    """Raise ValueError unless a dataset can have such a part."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")


def require_complete(root: Path, split: str, listing: Listing) -> None:
    """Raise a `FileError` if something is missing in a listing, or if it is empty."""
    if listing.problems:
        first, more = listing.problems[0], len(listing.problems) - 1
        others = f" (and {more} more: see minifcn check-data)" if more else ""
        raise DataError(first.kind, first.path, first.reason + others)
    if not listing.pairs:
        raise DataError("missing", root, f"has no images in its {split} part")


def folder_of(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, `~` written out.

    Raises:
        FileError: If there is none.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError("missing", folder, "is no folder" if folder.exists() else "is not there")
    return folder


def image_files(folder: Path) -> tuple[dict[str, str], list[DataError]]:
    """Return the names of the image files in a folder by stem, sorted, and a problem for each stem with two.

    One look at the folder, however many files it has; hidden files are left out.
    """
    found: dict[str, str] = {}
    problems = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        base = stem(name)
        if base == name:
            continue
        if base in found:
            problems.append(DataError("missing", folder / name, f"and {found[base]} have the same name"))
        else:
            found[base] = name
    return found, problems


def paired(
    images: Path, masks: Path, names: Sequence[str] | None = None, *, without: Container[str] = ()
) -> Listing:
    """Return the pictures and masks of two folders that have the same name.

    Args:
        images: Folder of pictures.
        masks: Folder of masks.
        names: Those that are wanted; all if left out.
        without: Those that are not, if all others are.
    """
    pictures, problems = image_files(images)
    painted, more = image_files(masks)
    problems += more
    if names is None:
        names = [name for name in pictures if name not in without]
        if not pictures:
            problems.append(DataError("missing", images, f"holds no images ({_contents(images)})"))
        problems += [
            DataError("missing", masks / painted[name], f"has no image of the same name in {images}")
            for name in painted
            if name not in pictures and name not in without
        ]
    pairs = []
    for name in names:
        if name not in pictures:
            problems.append(DataError("missing", images / name, "is listed, but there is no such image"))
        elif name not in painted:
            problems.append(
                DataError("missing", images / pictures[name], f"has no mask of the same name in {masks}")
            )
        else:
            pairs.append(Pair(name, os.path.join(images, pictures[name]), os.path.join(masks, painted[name])))
    return Listing(pairs, problems)


def _contents(folder: Path) -> str:
    """Say which kinds of files a folder has instead of images."""
    suffixes = sorted({Path(name).suffix.lower() or "without suffix" for name in os.listdir(folder)})
    read = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    return f"it has files {', '.join(suffixes[:5])}; these are read: {read}" if suffixes else "it is empty"
