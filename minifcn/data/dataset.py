"""What a dataset is, and what all datasets of image and mask files share."""

import os
import unicodedata
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from minifcn.backend import Array
from minifcn.data.classes import Classes, stem
from minifcn.data.errors import WARNINGS, DataError, StrPath, counted
from minifcn.data.images import IMAGE_SUFFIXES, common_bit_depth, is_rotated, pixel_count, read_image
from minifcn.data.masks import Mask, mask_values, most_frequent, read_mask
from minifcn.data.opening import unread_message
from minifcn.data.scanning import UNREAD
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


class Pair(NamedTuple):
    """One item of a dataset in files: its name, and the paths of its image and of its mask."""

    name: str
    image: str
    mask: str


class Listing(NamedTuple):
    """The files of one split.

    Attributes:
        pairs: Its items.
        problems: What is wrong with the other files.
        chosen: How the items were chosen, if neither a folder nor a list says so; otherwise empty.
    """

    pairs: list[Pair]
    problems: list[DataError]
    chosen: str = ""

    @classmethod
    def of(cls, items: Iterable[Pair]) -> "Listing":
        """Return those of the given items whose files exist."""
        listing = cls([], [])
        for item in items:
            if not os.path.exists(item.image):
                listing.problems.append(DataError("missing", item.image, "is listed, but does not exist"))
            elif not os.path.exists(item.mask):
                reason = f"has no mask: {item.mask} does not exist"
                listing.problems.append(DataError("missing", item.image, reason))
            else:
                listing.pairs.append(item)
        return listing

    @classmethod
    def by_name(
        cls, images: Path, masks: Path, names: Sequence[str] | None = None, exclude: Container[str] = ()
    ) -> "Listing":
        """Return the images and masks of two folders that have the same name.

        Names that differ only in how Unicode composes their accents are the same.

        Args:
            images: Folder of images.
            masks: Folder of masks.
            names: Names of the items; by default all.
            exclude: Names of items to leave out, if `names` is left out.
        """
        image_names, unread, problems = image_files(images)
        mask_names, unread_masks, mask_problems = image_files(masks)
        problems += mask_problems
        listed = names
        if names is not None:
            mine = set(names)
            problems = [p for p in problems if unicodedata.normalize("NFC", Path(p.path).stem) in mine]
        else:
            names = [name for name in image_names if name not in exclude]
            if not image_names and not unread:
                problems.append(DataError("missing", images, f"has no images ({_contents(images)})"))
        orphans = [name for name in mask_names if name not in image_names and name not in exclude]
        lone = [name for name in names if name in image_names and name not in mask_names]
        alike = _alike(lone, orphans)
        for name in lone:
            if name not in unread_masks:
                path = masks / mask_names.get(alike.get(name, ""), f"{name}.*")
                reason = f"has no mask: {path} does not exist"
                if name in alike:
                    reason = f"has no mask of its name, but {path} has nearly that name: rename one"
                problems.append(DataError("missing", images / image_names[name], reason))
        paired = {*alike.values(), *unread}
        if listed is None:
            reason = f"has no image of the same name in {images}"
            lonely = [name for name in orphans if name not in paired]
            problems += [DataError("missing", masks / mask_names[name], reason) for name in lonely]
        there = [name for name in names if name not in image_names or name in mask_names]
        image_paths = [os.path.join(images, image_names.get(name, name)) for name in there]
        mask_paths = [os.path.join(masks, mask_names.get(name, f"{name}.*")) for name in there]
        listing = cls.of(map(Pair, there, image_paths, mask_paths))
        return cls(listing.pairs, [*problems, *listing.problems])

    def require_complete(self, root: Path, split: str) -> None:
        """Raise a `FileError` if there are problems, or no items."""
        if problems := [problem for problem in self.problems if problem.kind not in WARNINGS]:
            first, more = problems[0], len(problems) - 1
            others = f" (and {counted(more, 'more problem')}: see check_dataset)" if more else ""
            raise DataError(first.kind, first.path, first.reason + others)
        if not self.pairs:
            raise DataError("missing", root, f"has no images in its {split} split")


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

    def __init__(
        self,
        root: Path,
        split: str,
        listing: Listing,
        classes: Classes,
        *,
        strict: bool,
        images: Sequence[str] | None = None,
    ) -> None:
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
        self._bit_depth: int | None = None
        self._all_images = [pair.image for pair in listing.pairs] if images is None else images

    @property
    def bit_depth(self) -> int:
        """Bits of the values of those images that have 16 bits per channel; see `read_image`.

        Found once, from the images of all splits, because one image may be dark; or assigned.
        """
        if self._bit_depth is None:
            self._bit_depth = common_bit_depth(self._all_images)
        return self._bit_depth

    @bit_depth.setter
    def bit_depth(self, bits: int) -> None:
        self._bit_depth = bits

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

    def check_sizes(self, index: int, image: Sequence[int], labels: Sequence[int]) -> None:
        """Raise a `FileError` unless the shapes (H, W, ...) of image and labels agree."""
        (height, width), (rows, columns) = image[:2], labels[:2]
        if (height, width) != (rows, columns):
            _, image_path, path = self.pair(index)
            reason = f"has {columns} x {rows} pixels, but its image has {width} x {height}"
            if (height, width) == (columns, rows) and is_rotated(image_path):
                reason += "; the image is rotated by its EXIF orientation"
            raise DataError("size", path, reason)


class Reordered:
    """A dataset whose classes have the numbers that another list of names gives them.

    Args:
        dataset: All of its class names are in the list.
        class_names: The names.
        palette: Their colours, uint8 (K, 3).

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> canvases = DigitCanvases("train", 1)
        >>> other = Reordered(canvases, canvases.class_names[::-1], canvases.palette[::-1])
        >>> int(canvases[0][1][0, 0]), int(other[0][1][0, 0]), other.class_names[10]
        (0, 10, 'background')
    """

    def __init__(self, dataset: Dataset, class_names: tuple[str, ...], palette: Array) -> None:
        self.class_names = class_names
        self.palette = palette
        self._dataset = dataset
        self._table = np.full(256, VOID, np.uint8)
        self._table[: len(dataset.class_names)] = [class_names.index(name) for name in dataset.class_names]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        image, labels = self._dataset[index]
        return image, self._table[labels]


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


def image_files(folder: Path) -> tuple[dict[str, str], set[str], list[DataError]]:
    """Return the image files in a folder, and a problem for each that is left out.

    The folder is read once, however many files it has; hidden files are ignored.

    Returns:
        The names of the files by their stem (with accents composed), sorted; the stems of those in formats
        that are not read; and the problems.
    """
    found: dict[str, str] = {}
    unread: dict[str, str] = {}
    problems = []
    for name in sorted(os.listdir(folder)):
        base, suffix = unicodedata.normalize("NFC", stem(name)), Path(name).suffix.lower()
        if name.startswith("."):
            continue
        if suffix in UNREAD:
            unread[base[: -len(suffix)]] = name
        elif stem(name) == name:
            continue
        elif base in found:
            problems.append(DataError("missing", folder / name, f"and {found[base]} have the same name"))
        else:
            found[base] = name
    for base, name in unread.items():
        reason = unread_message(UNREAD[Path(name).suffix.lower()])
        if base in found:
            problems.append(DataError("skipped", folder / name, f"is skipped for {found[base]}: it {reason}"))
        else:
            problems.append(DataError("unreadable", folder / name, reason))
    return found, unread.keys() - found.keys(), problems


def _alike(images: Sequence[str], masks: Sequence[str]) -> dict[str, str]:
    """Return for images without mask those masks whose name has something more or less at one end."""
    ways: tuple[tuple[Sequence[str], Sequence[str]], ...] = ((images, masks), (masks, images))
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for way, (short, long) in enumerate(ways):
        known = {name.casefold(): name for name in short}
        for name in long:
            folded = name.casefold()
            cuts = [k for k in range(1, len(folded)) if not folded[k - 1 : k + 1].isdecimal()]  # 1 is not 10
            parts = (part for k in cuts for part in (folded[:k], folded[k:]))
            if part := max((part for part in (folded, *parts) if part in known), key=len, default=""):
                image, mask = (known[part], name) if way == 0 else (name, known[part])
                if image not in pairs and mask not in taken:
                    pairs[image] = mask
                    taken.add(mask)
    return pairs


def _contents(folder: Path) -> str:
    """Return which kinds of files a folder has instead of images."""
    suffixes = sorted({Path(name).suffix.lower() or "without suffix" for name in os.listdir(folder)})
    expected = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    return f"it has files {', '.join(suffixes[:5])}; expected {expected}" if suffixes else "it is empty"
