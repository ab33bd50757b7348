"""Published datasets (CamVid, PASCAL VOC 2012, SBD), and opening any dataset by a line of text."""

import os
import re
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.classes import Classes, read_lines, read_names, stem
from minifcn.data.dataset import SPLITS, Dataset, FileDataset, folder_of
from minifcn.data.digits import DigitCanvases
from minifcn.data.errors import DataError, StrPath
from minifcn.data.folder import Folder
from minifcn.data.listing import Listing, Pair
from minifcn.data.masks import Mask
from minifcn.data.matlab import read_segmentation
from minifcn.functional.operands import check_choice
from minifcn.palette import VOID

_CAMVID_COLORS = {  # as published with the data (Brostow, Fauqueur, Cipolla 2009)
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (0, 0, 192),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
_CAMVID_VOID = 11  # the value of void in its masks
_VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_VOC_VOID_COLOR = (224, 224, 192)
_NAMES = {"train": "train", "validation": "val", "test": "test"}  # of the files and folders of a split
_CANVASES = {"train": 1_000, "validation": 100, "test": 200}
_FORMS = "digits, camvid:PATH, voc:PATH, voc+sbd:PATH or folder:PATH"


class CamVid(FileDataset):
    """CamVid as the SegNet tutorial distributes it: 480 x 360 pixels, 11 classes; 11 in the masks is void.

    The folder holds `train.txt`, `val.txt` and `test.txt`. Each line has the paths of an image and its mask,
    of which only the last folder and the file name are used, because these paths are of another machine.
    Without a list, the images in `train` belong to the masks of the same name in `trainannot`, and so on.

    Args:
        path: The folder.
        split: "train", "validation" or "test". The validation frames are near the training frames in the same
            videos and are much easier than the test frames: name the split with every score.
        strict: Refuse a folder in which a file is missing; otherwise it is left out and listed in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If the folder, a list or a file is missing, or a list is malformed.

    Example:
        >>> image, labels = CamVid("CamVid", "train")[0]  # doctest: +SKIP
    """

    def __init__(self, path: StrPath, split: str, *, strict: bool = True) -> None:
        check_choice(split, "split", SPLITS)
        root = folder_of(path)
        name = _NAMES[split]
        if (root / f"{name}.txt").exists():
            listing = _camvid_listing(root, root / f"{name}.txt")
        elif (root / name).is_dir() and (root / f"{name}annot").is_dir():
            listing = Listing.by_name(root / name, root / f"{name}annot")
        else:
            reason = f"has no {split} split: expected {name}.txt, or folders {name} and {name}annot"
            raise DataError("missing", root, reason)
        values = {label: label for label in range(len(_CAMVID_COLORS))} | {_CAMVID_VOID: VOID}
        colors = np.array(list(_CAMVID_COLORS.values()), np.uint8)
        classes = Classes.of(tuple(_CAMVID_COLORS), colors, values=values)
        super().__init__(root, split, listing, classes, strict=strict)

    @staticmethod
    def splits(path: StrPath) -> tuple[str, ...]:
        """Return the splits that the folder has.

        Raises:
            FileError: If there is no such folder, or it has no split.
        """
        root = folder_of(path)
        found = [s for s, name in _NAMES.items() if (root / f"{name}.txt").exists() or (root / name).is_dir()]
        if not found:
            raise DataError("missing", root, "has no split of CamVid: expected train.txt or a folder train")
        return tuple(found)


def _camvid_listing(root: Path, file: Path) -> Listing:
    """Return the pairs that a list names."""
    items = []
    for number, line in read_lines(file):
        paths = [[part for part in re.split(r"[\\/]", text) if part][-2:] for text in line.split()]
        if list(map(len, paths)) != [2, 2] or any({"..", "."} & set(parts) for parts in paths):
            reason = f"line {number} must be two paths, folder/image and folder/mask, got {line[:80]!r}"
            raise DataError("unreadable", file, reason)
        image, mask = (os.path.join(root, *parts) for parts in paths)
        items.append(Pair(stem(paths[0][-1]), image, mask))
    return Listing.of(items)


def voc_colors(count: int) -> Array:
    """Return the first colours of VOC's colour map, uint8 (count, 3).

    The bits of a class index go in turn to red, green and blue, from their highest bit downwards.

    Example:
        >>> voc_colors(4).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    bits = np.arange(count)[:, None] >> np.arange(24) & 1  # (count, 24), the lowest bit first
    return np.packbits(bits.reshape(count, 8, 3).astype(np.uint8), axis=1)[:, 0]


class VOC(FileDataset):
    """The segmentation part of PASCAL VOC 2012: 20 classes and background; outlines are void.

    The folder holds `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation` with `train.txt` (1,464)
    and `val.txt` (1,449); it may also be the folder above, `VOCdevkit`, or the parent of that.

    With `sbd`, the training split has all other images that SBD labels, too, except those of VOC's validation
    list: 10,582 in all. The FCN papers did it the other way round: they trained on SBD's own training list
    (8,498) and validated on those 736 images of VOC 2011's validation list that are not in it ("seg11valid").

    Args:
        path: The folder.
        split: "train", "validation" or, if there are masks for it, "test".
        sbd: SBD's folder `benchmark_RELEASE` or its `dataset` (`cls/*.mat`, `train.txt`, `val.txt`), or a
            folder of PNG masks named `SegmentationClassAug`, which holds the masks of VOC and SBD.
        strict: Refuse a folder in which a file is missing; otherwise it is left out and listed in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If a folder, a list or a file is missing, or a list is malformed.

    Example:
        >>> dataset = VOC("VOCdevkit", "train", sbd="benchmark_RELEASE")  # doctest: +SKIP
    """

    def __init__(self, path: StrPath, split: str, sbd: StrPath | None = None, *, strict: bool = True) -> None:
        check_choice(split, "split", SPLITS)
        root = _voc_root(path)
        lists = root / "ImageSets" / "Segmentation"
        masks = dict.fromkeys(read_names(lists / f"{_NAMES[split]}.txt"), root / "SegmentationClass")
        image_folders = [root / "JPEGImages"]
        if sbd is not None and split == "train":
            names, folder = _sbd_masks(folder_of(sbd))
            held_back = set(read_names(lists / "val.txt"))
            masks |= {name: folder for name in names if name not in masks and name not in held_back}
            image_folders.append(folder.parent / "img")  # SBD has its own copies of the images
        colors = voc_colors(len(_VOC_CLASSES))
        color_map = {(int(r), int(g), int(b)): label for label, (r, g, b) in enumerate(colors)}
        classes = Classes.of(_VOC_CLASSES, colors, color_map={**color_map, _VOC_VOID_COLOR: VOID})
        listing = Listing.of(_voc_item(name, folder, image_folders) for name, folder in masks.items())
        super().__init__(root, split, listing, classes, strict=strict)

    @staticmethod
    def splits(path: StrPath) -> tuple[str, ...]:
        """Return the splits: training, validation and, if the first image of its list has a mask, test."""
        root = _voc_root(path)
        test = root / "ImageSets" / "Segmentation" / "test.txt"
        names = read_names(test) if test.exists() else []
        return SPLITS if names and (root / "SegmentationClass" / f"{names[0]}.png").exists() else SPLITS[:2]

    def mask(self, index: int) -> Mask:
        """Return the mask of an item as it is in its file."""
        path = self.pair(index).mask
        return Mask(read_segmentation(path)) if path.endswith(".mat") else super().mask(index)


def _voc_root(path: StrPath) -> Path:
    """Return the folder that holds `JPEGImages`, at `path` or where VOC's archive puts it below."""
    folder = folder_of(path)
    for root in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir():
            return root
    raise DataError("missing", folder, "has no folder JPEGImages: expected the layout of VOC 2012")


def _sbd_masks(folder: Path) -> tuple[list[str], Path]:
    """Return the names of the images that SBD labels, and the folder of its masks."""
    dataset = folder / "dataset" if (folder / "dataset").is_dir() else folder
    if (dataset / "cls").is_dir():
        lists = [file for name in ("train", "val") if (file := dataset / f"{name}.txt").exists()]
        if not lists:
            raise DataError("missing", dataset, "has neither train.txt nor val.txt")
        return [name for file in lists for name in read_names(file)], dataset / "cls"
    names = [stem(name) for name in sorted(os.listdir(folder)) if name.endswith(".png")]
    if not names:
        raise DataError("missing", folder, "has neither a folder cls of .mat files nor PNG masks")
    return names, folder


def _voc_item(name: str, mask_folder: Path, image_folders: list[Path]) -> Pair:
    """Return an item; its image may be in any of the folders."""
    images = [os.path.join(folder, f"{name}.jpg") for folder in image_folders]
    image = next(filter(os.path.exists, images), images[0])
    suffix = ".mat" if mask_folder.name == "cls" else ".png"
    return Pair(name, image, os.path.join(mask_folder, name + suffix))


def _sbd_folder(path: StrPath) -> Path:
    """Return the folder of SBD's labels: masks beside VOC's own, or SBD as it was released.

    Raises:
        FileError: If there is neither.
    """
    root, released = _voc_root(path), "benchmark_RELEASE"
    for folder in (root / "SegmentationClassAug", Path(path).expanduser() / released, root / released):
        if folder.is_dir():
            return folder
    raise DataError("missing", root, f"has neither SegmentationClassAug nor {released}")


_Kind: TypeAlias = type[CamVid] | type[VOC] | type[Folder]
_KINDS: dict[str, _Kind] = {"camvid": CamVid, "voc": VOC, "voc+sbd": VOC, "folder": Folder}


def open_dataset(spec: str, split: str, *, strict: bool = True) -> Dataset:
    """Open a split of a dataset.

    Args:
        spec: "digits" (1,000, 100 and 200 canvases with handwritten digits), "camvid:PATH", "voc:PATH",
            "folder:PATH", or "voc+sbd:PATH", which adds SBD's labels from `SegmentationClassAug` beside VOC's
            masks or from `benchmark_RELEASE` in PATH. See `CamVid`, `VOC` and `Folder`.
        split: "train", "validation" or "test".
        strict: Refuse a folder in which files are missing; otherwise they are left out and listed in
            `problems`.

    Raises:
        ValueError: If there is no such kind of dataset, or no such split.
        FileError: If the folder is missing or something in it is wrong.

    Example:
        >>> dataset = open_dataset("digits", "test")
        >>> len(dataset), dataset[0][0].shape
        (200, (96, 96, 1))
    """
    check_choice(split, "split", SPLITS)
    kind, path = _parse_spec(spec)
    if kind == "digits":
        return DigitCanvases(split, _CANVASES[split])
    if kind == "voc+sbd":
        return VOC(path, split, _sbd_folder(path), strict=strict)
    return _KINDS[kind](path, split, strict=strict)


def dataset_splits(spec: str) -> tuple[str, ...]:
    """Return the splits that a dataset has.

    Args:
        spec: As for `open_dataset`.

    Raises:
        ValueError: As `open_dataset`.

    Example:
        >>> dataset_splits("digits")
        ('train', 'validation', 'test')
    """
    kind, path = _parse_spec(spec)
    return SPLITS if kind == "digits" else _KINDS[kind].splits(path)


def _parse_spec(spec: str) -> tuple[str, str]:
    """Return kind and folder, which exists; the first colon separates them, so drive letters may follow."""
    kind, colon, path = spec.partition(":")
    if spec == "digits":
        return kind, ""
    if kind not in _KINDS or not colon:
        is_folder = Path(spec).expanduser().is_dir()
        hint = f"; for a folder of images and masks write folder:{spec}" if is_folder else ""
        raise ValueError(f"unknown dataset {spec!r}: expected {_FORMS}{hint}")
    if not path:
        raise ValueError(f"dataset {spec!r} has no path: expected {kind}:PATH")
    path = os.path.expanduser(path)
    try:
        folder_of(path)
    except DataError as error:
        raise DataError(error.kind, os.path.abspath(path), f"{error.reason} (dataset {spec!r})") from None
    return kind, path
