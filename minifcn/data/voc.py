"""PASCAL VOC 2012, and the labels that the Semantic Boundaries Dataset (SBD) adds to it."""

import os
from pathlib import Path

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError
from minifcn.data.files import FileDataset, Listing, Pair, check_split, folder_of, image_files
from minifcn.data.lists import Classes, read_names
from minifcn.data.masks import Mask
from minifcn.data.matlab import read_segmentation
from minifcn.palette import VOID

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
_LISTS = {"train": "train", "validation": "val", "test": "test"}


def voc_colors(count: int) -> Array:
    """Return the first colours of VOC's colour map, uint8 (count, 3).

    The bits of a class's number go in turn to red, green and blue, from their highest bit downwards.

    Example:
        >>> voc_colors(4).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    numbers = np.arange(count)
    colors = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


class VOC(FileDataset):
    """PASCAL VOC 2012's segmentation part: 20 classes and background; outlines are void.

    The folder holds `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation` with `train.txt` (1,464)
    and `val.txt` (1,449); it may also be the folder above, `VOCdevkit` or what holds that.

    With `sbd`, training takes every other picture that SBD labels as well, except those of VOC's validation
    list: 10,582 in all. The FCN papers went the other way: they trained on SBD's own training list (8,498)
    and validated on those 736 pictures of VOC 2011's validation list that are not in it ("seg11valid").

    Args:
        path: The folder.
        split: "train", "validation" or, where there are masks for it, "test".
        sbd: SBD's folder `benchmark_RELEASE` or its `dataset` (`cls/*.mat`, `train.txt`, `val.txt`), or a
            folder of PNG masks by the name of `SegmentationClassAug`, which holds VOC's masks and SBD's.
        strict: Refuse a folder in which a file is missing; else it is left out and told in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If a folder, a list or a file is missing, or a list is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        sbd: str | os.PathLike[str] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        check_split(split)
        root = _root(path)
        sets = root / "ImageSets" / "Segmentation"
        masks = dict.fromkeys(read_names(sets / f"{_LISTS[split]}.txt"), root / "SegmentationClass")
        pictures = [root / "JPEGImages"]
        if sbd is not None and split == "train":
            added, folder = _sbd(folder_of(sbd))
            held_back = set(read_names(sets / "val.txt"))
            masks |= {name: folder for name in added if name not in masks and name not in held_back}
            pictures.append(folder.parent / "img")  # SBD brings its pictures along
        listing = _listing(masks, pictures)
        colors = voc_colors(len(_NAMES))
        color_map = {(int(r), int(g), int(b)): label for label, (r, g, b) in enumerate(colors)}
        color_map[224, 224, 192] = VOID
        super().__init__(root, split, listing, Classes.of(_NAMES, colors, color_map=color_map), strict=strict)

    @staticmethod
    def splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Return the parts that the folder has lists and, for the first picture, masks of."""
        root = _root(path)
        found = []
        for split, name in _LISTS.items():
            file = root / "ImageSets" / "Segmentation" / f"{name}.txt"
            if split != "test" or (file.exists() and _has_mask(root, file)):
                found.append(split)
        return tuple(found)

    def mask(self, index: int) -> Mask:
        """Return the mask of an item as it is in its file."""
        path = self.pair(index).mask
        return Mask(read_segmentation(path)) if path.endswith(".mat") else super().mask(index)


def _root(path: str | os.PathLike[str]) -> Path:
    """Return the folder that holds `JPEGImages`, at `path` or where VOC's archive puts it below."""
    folder = folder_of(path)
    for below in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if (below / "JPEGImages").is_dir():
            return below
    raise DataError("missing", folder, "has no folder JPEGImages: expected the layout of VOC 2012")


def _sbd(folder: Path) -> tuple[list[str], Path]:
    """Return the names that SBD labels, and the folder of its masks."""
    dataset = folder / "dataset" if (folder / "dataset").is_dir() else folder
    if (dataset / "cls").is_dir():
        lists = [file for name in ("train", "val") if (file := dataset / f"{name}.txt").exists()]
        if not lists:
            raise DataError("missing", dataset, "has neither train.txt nor val.txt")
        return [name for file in lists for name in read_names(file)], dataset / "cls"
    painted, _ = image_files(folder)
    if not painted:
        raise DataError("missing", folder, "has neither a folder cls of .mat files nor masks in PNG files")
    return list(painted), folder


def _listing(masks: dict[str, Path], pictures: list[Path]) -> Listing:
    """Return the pictures and masks of these names.

    Args:
        masks: The folder that each name's mask is in.
        pictures: Folders that a picture may be in.
    """
    names = {
        folder: set(os.listdir(folder)) if folder.is_dir() else set()
        for folder in {*masks.values(), *pictures}
    }
    listing = Listing([], [])
    for name, folder in masks.items():
        image = next((place / f"{name}.jpg" for place in pictures if f"{name}.jpg" in names[place]), None)
        mask = folder / f"{name}{'.mat' if folder.name == 'cls' else '.png'}"
        if image is None:
            missing = pictures[0] / f"{name}.jpg"
            listing.problems.append(DataError("missing", missing, "is listed, but there is no such image"))
        elif mask.name not in names[folder]:
            listing.problems.append(DataError("missing", image, f"has no mask {mask}"))
        else:
            listing.pairs.append(Pair(name, os.fspath(image), os.fspath(mask)))
    return listing


def _has_mask(root: Path, file: Path) -> bool:
    names = read_names(file)
    return bool(names) and (root / "SegmentationClass" / f"{names[0]}.png").exists()


def sbd_in(path: str | os.PathLike[str]) -> Path:
    """Return where SBD's labels are in a folder with VOC: as masks beside VOC's own, or as it was released.

    Raises:
        FileError: If they are not there.
    """
    root = _root(path)
    places = (
        root / "SegmentationClassAug",
        Path(path).expanduser() / "benchmark_RELEASE",
        root / "benchmark_RELEASE",
    )
    for place in places:
        if place.is_dir():
            return place
    raise DataError("missing", root, "has neither SegmentationClassAug nor, beside VOC, benchmark_RELEASE")
