"""Datasets of your own: a folder of images and a folder of masks."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from minifcn.backend import Array
from minifcn.data.classes import Classes, read_classes, read_names
from minifcn.data.dataset import SPLITS, FileDataset, folder_of
from minifcn.data.errors import WARNINGS, Color, DataError, StrPath
from minifcn.data.listing import Listing
from minifcn.data.masks import color_codes, color_of, hex_of, read_mask
from minifcn.functional.operands import check_choice
from minifcn.palette import VOID

_NAMES = {"train": ("train", "training"), "validation": ("val", "validation", "valid"), "test": ("test",)}
_ONE_IN = 5
_MAX_COLORS = 32  # or values that are taken for classes if none are listed; soft edges have hundreds
_PAINTED_STEP = 16  # between grey levels: numbers of classes are closer
_OBJECTS = 4


class Folder(FileDataset):
    r"""Images in `images/`, and a mask of the same name for each in `masks/`.

    Masks are PNG, BMP or TIFF files: grey or with a palette, where the value of a pixel is its class, or
    painted in colours. 255 is void.

    `classes.txt` (or `classes.json`, see `minifcn.data.read_classes`) lists the classes, one per line: "cat",
    or, for painted masks, "cat 255 0 0". With colours, the colours of palettes count as well, not the
    indices. A class named "void" is void. Without such a file all masks are read once, and the values in
    them, or else up to 32 colours, are the classes; adding a mask may then change the labels of the classes.

    The splits are folders (`images/train`, `masks/train`, or `train/images`, `train/masks`; `val`, `test`),
    or lists of names (`train.txt`, `val.txt`, `test.txt`). With only one of `train.txt` and `val.txt`, the
    images that are in no list form the other split. Without both, every fifth image, at least one, is for
    validation: those whose names have the smallest SHA-256 hashes. So adding an image moves at most one other
    image to the other split.

    Args:
        path: The folder.
        split: "train", "validation" or "test".
        strict: Refuse a folder in which an image has no mask, or a mask no image; otherwise these are left
            out and listed in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If a folder or file is missing or damaged, or the classes cannot be found from the masks.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder in ("images", "masks"):
        ...     (root / folder).mkdir()
        ...     for name in "abcdefgh":
        ...         Image.new("L", (40, 30), 1).save(root / folder / f"{name}.png")
        >>> _ = (root / "classes.txt").write_text("ground\ncat")
        >>> train, validation = Folder(root, "train"), Folder(root, "validation")
        >>> train.class_names, len(train), len(validation)
        (('ground', 'cat'), 7, 1)
    """

    palette_colors = True

    def __init__(self, path: StrPath, split: str, *, strict: bool = True) -> None:
        check_choice(split, "split", SPLITS)
        root = folder_of(path)
        listings = _listings(root)
        if split not in listings:
            has = ", ".join(listings)
            reason = f"has no {split} split, only {has}: list its names in {_NAMES[split][0]}.txt"
            raise DataError("missing", root, reason)
        listing = listings[split]
        if strict:
            listing.require_complete(root, split)  # before masks are read
        files = [file for name in ("classes.txt", "classes.json") if (file := root / name).exists()]
        if len(files) == 2:
            raise DataError("missing", root, "has both classes.txt and classes.json: keep one of them")
        if files:
            classes = read_classes(files[0])
        else:
            masks = sorted({pair.mask for listing in listings.values() for pair in listing.pairs})
            classes, doubts = _classes_in(masks, root, strict=strict)
            here = {pair.mask for pair in listing.pairs}
            listing = listing._replace(problems=[*listing.problems, *(e for e in doubts if e.path in here)])
        super().__init__(root, split, listing, classes, strict=strict)
        self._all_images = sorted({pair.image for listing in listings.values() for pair in listing.pairs})

    @staticmethod
    def splits(path: StrPath) -> tuple[str, ...]:
        """Return the splits that the folder has."""
        return tuple(_listings(folder_of(path)))


def _listings(root: Path) -> dict[str, Listing]:
    """Return the splits of a folder: by folders, by lists, or by hashes of the names."""
    listings: dict[str, Listing] = {}
    for split, name in ((split, name) for split, names in _NAMES.items() for name in names):
        for kinds in (f"images/{name}", f"masks/{name}"), (f"{name}/images", f"{name}/masks"):
            images, masks = (root / kind for kind in kinds)
            if images.is_dir():
                if not masks.is_dir():
                    raise DataError("missing", masks, f"does not exist, but {images} does")
                listings[split] = Listing.by_name(images, masks)
    if listings:
        return listings
    images, masks = root / "images", root / "masks"
    if not (images.is_dir() and masks.is_dir()):
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())[:5]
        has = f"only {', '.join(folders)}" if folders else "no folders"
        raise DataError("missing", root, f"must have the folders images and masks, but has {has}")
    listed: set[str] = set()
    files = []
    for split, names in _NAMES.items():
        for file in (root / f"{name}.txt" for name in names):
            if file.exists():
                items = read_names(file)
                listed |= set(items)
                listings[split] = Listing.by_name(images, masks, items)
                files.append(file.name)
    unlisted = [split for split in ("train", "validation") if split not in listings]
    if not unlisted:
        return listings
    rest = Listing.by_name(images, masks, exclude=listed)
    if len(unlisted) == 1:
        if rest.pairs or rest.problems:
            listings[unlisted[0]] = rest._replace(chosen=f"those not in {' or '.join(files)}")
    else:
        held_back = _held_back(pair.name for pair in rest.pairs)
        listings["train"] = rest._replace(pairs=[pair for pair in rest.pairs if pair.name not in held_back])
        if held_back:
            pairs = [pair for pair in rest.pairs if pair.name in held_back]
            listings["validation"] = Listing(pairs, [], "held back, because there is no val.txt")
    return {split: listings[split] for split in SPLITS if split in listings}


def _held_back(names: Iterable[str]) -> set[str]:
    """Return the names of the validation split: a fifth, at least one; none if there is one name only."""
    ordered = sorted(names, key=_hash)
    return set(ordered[: min(max(1, len(ordered) // _ONE_IN), len(ordered) - 1)])


def _hash(name: str) -> bytes:
    """Return a hash that depends on a name alone, however the file system encodes its accents."""
    return hashlib.sha256(unicodedata.normalize("NFC", name).encode("utf-8", "replace")).digest()


def _classes_in(masks: list[str], root: Path, *, strict: bool) -> tuple[Classes, list[DataError]]:
    """Return the classes that occur in masks, if no file lists them, and reasons to doubt them."""
    colors: set[Color] = set()
    shown: dict[int, set[Color]] = {}  # the values, and their colours in the palettes
    present: dict[str, Array] = {}  # of each mask without colours, which values it has
    pixels_of = np.zeros(256, np.int64)  # each value in these masks
    valued = painted = ""  # a mask that only its values can explain, and one that only its colours can
    for path in masks:
        try:
            pixels, palette = read_mask(path)
        except (DataError, OSError):
            if strict:
                raise
            continue  # `check_dataset` reads it again and reports it
        if pixels.ndim == 3 and (pixels != pixels[..., :1]).any():
            painted = path
            colors.update(map(color_of, np.unique(color_codes(pixels)).tolist()))
        else:
            counts = np.bincount(pixels.reshape(*pixels.shape[:2], -1)[..., 0].ravel(), minlength=256)
            values = np.flatnonzero(counts).tolist()
            for value in values:
                shown.setdefault(value, set())
            if palette is not None:
                for value, code in zip(values, color_codes(palette[values]).tolist(), strict=True):
                    shown[value].add(color_of(code))
                    colors.add(color_of(code))
                    if len(shown[value]) > 1:  # the value does not mean the same everywhere
                        painted = path
            else:
                present[path] = counts > 0
                pixels_of += counts
                colors.update((value, value, value) for value in values if pixels.ndim == 3)
                valued = path if pixels.ndim == 2 else valued
        if painted and valued:
            reason = f"is painted in colours, but {valued} has values: list the classes in classes.txt"
            raise DataError("labels", painted, reason)
        if painted and len(colors) > _MAX_COLORS:
            reason = f"increases the colours in the masks to more than {_MAX_COLORS}: paint with a hard brush"
            raise DataError("labels", path, f"{reason}, and list each class and its colour in classes.txt")
    if painted:
        ordered = sorted(colors)
        color_map = {color: label for label, color in enumerate(ordered)}
        classes = Classes.of(tuple(map(hex_of, ordered)), np.array(ordered, np.uint8), color_map=color_map)
        return classes._replace(guessed=True), []
    doubts = _doubts(present, pixels_of)
    if strict and (refused := [error for error in doubts if error.kind not in WARNINGS]):
        raise refused[0]
    if set(shown) != {0, VOID}:  # black and white: if white were void, there would be a single class
        shown.pop(VOID, None)
    if len(shown) < 2 and strict:
        only = f"only class {min(shown)}" if shown else "no class"
        raise DataError("labels", root, f"has masks with {only}: at least two classes are needed")
    found = sorted(shown) or [0]
    own = [color for value in found for color in shown.get(value, ())]
    own_colors = np.array(own, np.uint8) if len(set(own)) == len(own) == len(found) else None
    labels = {value: label for label, value in enumerate(found)}
    classes = Classes.of(tuple(map(str, found)), own_colors, values=labels)
    return classes._replace(guessed=True), doubts


def _doubts(present: dict[str, Array], pixels: Array) -> list[DataError]:
    """Return why the values in grey masks may not be classes, naming the mask with the most values.

    Args:
        present: Which values each mask has, boolean (256,).
        pixels: The pixels of each value in all masks, (256,).
    """
    if not present:
        return []
    levels = np.flatnonzero(pixels).tolist()
    table = np.array(list(present.values()))  # (masks, 256)
    richest = list(present)[int(table.sum(axis=1).argmax())]
    if len(levels) > _MAX_COLORS:
        reason = (
            f"has some of the {len(levels)} values in the masks, more than {_MAX_COLORS}: soft edges or "
            f"numbers of objects make so many; paint with a hard brush, or list each class in classes.txt"
        )
        return [DataError("labels", richest, reason)]
    steps = np.diff(levels)
    if len(levels) > 2 and levels[-1] == VOID and steps.min() >= _PAINTED_STEP:
        reason = (
            f"has grey levels that look painted ({', '.join(map(str, levels))} in all masks), and 255 is "
            f"void unless classes.txt lists the levels"
        )
        return [DataError("labels", richest, reason, {(v, v, v): int(pixels[v]) for v in levels})]
    objects = table[:, 1:VOID].sum(axis=1)
    numbered = (table[:, 1:VOID] == (np.arange(1, VOID) <= objects[:, None])).all()  # 1, 2, ... without gaps
    if numbered and len(set(objects.tolist()) - {0}) > 1 and objects.max() >= _OBJECTS:
        reason = (
            f"has the values 1 to {objects.max()}, and the other masks begin with 1, too: they look like "
            f"numbers of objects; save the class of each object, or list the classes in classes.txt"
        )
        return [DataError("objects", richest, reason)]
    return []
