"""One's own photographs and masks."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from minifcn.data.errors import Color, DataError
from minifcn.data.files import SPLITS, FileDataset, Listing, check_split, folder_of, paired, require_complete
from minifcn.data.lists import Classes, read_classes, read_names
from minifcn.data.masks import color_codes, color_of, hex_of, read_mask
from minifcn.palette import VOID

_NAMES = {"train": ("train", "training"), "validation": ("val", "validation", "valid"), "test": ("test",)}
_ONE_IN = 5
_MOST_COLORS = 32  # that are taken for classes where none are listed; paint with soft edges has hundreds


class Folder(FileDataset):
    r"""Photographs in `images/`, and a mask of the same name for each in `masks/`.

    Masks are PNG, BMP or TIFF files: grey or with a palette, where a pixel's number is its class, or
    painted in colours. 255 is void.

    `classes.txt` (or `classes.json`, see `minifcn.data.read_classes`) names the classes, a line each: "cat",
    or, for painted masks, "cat 255 0 0". Then the colours of palettes count as well, not the indices. A class
    called "void" is left out of everything. Without such a file all masks are read once, and the numbers
    found in them, or else up to 32 colours, are the classes; adding a mask may then change which class has
    which label.

    Which photographs are for training and which for validation is told by folders (`images/train`,
    `masks/train`, or `train/images`, `train/masks`; `val`, `test`), or by lists of names (`train.txt`,
    `val.txt`, `test.txt`). If there is only one of `train.txt` and `val.txt`, the photographs that are in no
    list are the other part. Without both, one in five of these, at least one, is for validation: those whose
    names have the least SHA-256. So each photograph that is added moves one other at most.

    Args:
        path: The folder.
        split: "train", "validation" or "test".
        strict: Refuse a folder in which a photograph has no mask, or a mask no photograph; else these are
            left out and told in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If a folder or file is missing or damaged, or the masks do not say what the classes are.

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

    def __init__(self, path: str | os.PathLike[str], split: str, *, strict: bool = True) -> None:
        check_split(split)
        root = folder_of(path)
        parts = _parts(root)
        if split not in parts:
            raise DataError(
                "missing",
                root,
                f"has no {split} part, only {', '.join(parts)}: list its names in {_NAMES[split][0]}.txt",
            )
        listing = parts[split]
        if strict:
            require_complete(root, split, listing)  # before masks are read
        files = [file for name in ("classes.txt", "classes.json") if (file := root / name).exists()]
        if len(files) == 2:
            raise DataError("missing", root, "has classes.txt and classes.json: keep one of them")
        if files:
            classes = read_classes(files[0])
        else:
            masks = sorted({pair.mask for part in parts.values() for pair in part.pairs})
            classes = _found(root, masks, strict=strict)
        super().__init__(root, split, listing, classes, strict=strict)

    @staticmethod
    def splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Return the parts that the folder has."""
        return tuple(_parts(folder_of(path)))


def _parts(root: Path) -> dict[str, Listing]:
    """Return the parts of a folder: by folders, by lists, or by hashes of the names."""
    parts: dict[str, Listing] = {}
    for split, names in _NAMES.items():
        for name in names:
            for images, masks in (
                (root / "images" / name, root / "masks" / name),
                (root / name / "images", root / name / "masks"),
            ):
                if images.is_dir():
                    if not masks.is_dir():
                        raise DataError("missing", masks, f"is not there, but {images} is")
                    parts[split] = paired(images, masks)
    if parts:
        return parts
    images, masks = root / "images", root / "masks"
    if not (images.is_dir() and masks.is_dir()):
        there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())[:5]
        has = f"the folder{'s' if len(there) > 1 else ''} {', '.join(there)}" if there else "no folders"
        raise DataError("missing", root, f"must hold the folders images and masks, but has {has}")
    listed: dict[str, list[str]] = {}
    files = []
    for split, names in _NAMES.items():
        for file in (root / f"{name}.txt" for name in names):
            if file.exists():
                listed[split] = read_names(file)
                parts[split] = paired(images, masks, listed[split])
                files.append(file.name)
    unsaid = [split for split in ("train", "validation") if split not in parts]
    if not unsaid:
        return parts
    rest = paired(images, masks, without={name for names in listed.values() for name in names})
    if len(unsaid) == 1:
        if rest.pairs or rest.problems:
            parts[unsaid[0]] = rest._replace(chosen=f"those not in {' or '.join(files)}")
    else:
        held_back = _held_back(pair.name for pair in rest.pairs)
        parts["train"] = rest._replace(pairs=[pair for pair in rest.pairs if pair.name not in held_back])
        if held_back:
            pairs = [pair for pair in rest.pairs if pair.name in held_back]
            parts["validation"] = Listing(pairs, [], "held back, as there is no val.txt")
    return {split: parts[split] for split in SPLITS if split in parts}


def _held_back(names: Iterable[str]) -> set[str]:
    """Return the names of the validation part: a fifth, at least one; none if there is one name only."""
    order = sorted(names, key=_hash)
    return set(order[: min(max(1, len(order) // _ONE_IN), len(order) - 1)])


def _hash(name: str) -> int:
    """Return a number that follows from a name alone, however a file system writes its accents."""
    return int.from_bytes(
        hashlib.sha256(unicodedata.normalize("NFC", name).encode("utf-8", "replace")).digest()
    )


def _found(root: Path, masks: list[str], *, strict: bool) -> Classes:
    """Return the classes that occur in masks, where no file names them."""
    numbers: set[int] = set()
    shown: dict[int, set[Color]] = {}  # the colours of each number in the palettes
    colors: set[Color] = set()
    numbered = painted = ""  # a mask that can only be read by its numbers, and one that only by its colours
    for path in masks:
        try:
            pixels, palette = read_mask(path)
        except (DataError, OSError):
            if strict:
                raise
            continue  # `check_dataset` meets it again
        if pixels.ndim == 3:
            here = {color_of(code) for code in np.unique(color_codes(pixels)).tolist()}
            colors |= here
            numbers |= {red for red, _, _ in here}
            if any(len(set(color)) > 1 for color in here):
                painted = path
        else:
            here_numbers = np.unique(pixels).tolist()
            numbers |= set(here_numbers)
            if palette is None:
                numbered = path
            else:
                for number in here_numbers:
                    color = color_of(int(color_codes(palette[number])))
                    colors.add(color)
                    shown.setdefault(number, set()).add(color)
                    if len(shown[number]) > 1:  # the numbers do not mean the same everywhere
                        painted = path
        if painted and numbered:
            raise DataError(
                "labels",
                painted,
                f"is painted in colours, but {numbered} has numbers: list the classes in classes.txt",
            )
        if painted and len(colors) > _MOST_COLORS:
            raise DataError(
                "labels",
                path,
                f"brings the masks to more than {_MOST_COLORS} colours: paint with a hard brush, and list "
                "each class and its colour in classes.txt",
            )
    if painted:
        names = tuple(map(hex_of, sorted(colors)))
        color_map = {color: label for label, color in enumerate(sorted(colors))}
        return Classes.of(names, np.array(sorted(colors), np.uint8), color_map=color_map)
    if numbers != {0, VOID}:  # black and white: with white as void there would be a single class
        numbers.discard(VOID)
    if len(numbers) < 2 and strict:
        only = f"class {min(numbers)}" if numbers else "no class"
        raise DataError("labels", root, f"has masks that hold {only} and nothing to tell it from")
    found = sorted(numbers) or [0]
    distinct = {color for number in found for color in shown.get(number, ())}
    own = [next(iter(shown[number])) for number in found] if len(distinct) == len(found) else None
    return Classes.of(
        tuple(map(str, found)),
        None if own is None else np.array(own, np.uint8),
        numbers={number: label for label, number in enumerate(found)},
    )
