"""CamVid: road scenes with 11 classes."""

import os
import re
from pathlib import Path

import numpy as np

from minifcn.data.errors import DataError
from minifcn.data.files import (
    FileDataset,
    Listing,
    Pair,
    check_split,
    folder_of,
    paired,
)
from minifcn.data.lists import Classes, read_lines, stem
from minifcn.palette import VOID

_COLORS = {  # as published with the data (Brostow, Fauqueur, Cipolla 2009)
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
_VOID_NUMBER = 11
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}


class CamVid(FileDataset):
    """CamVid as the SegNet tutorial laid it out: 480 x 360, 11 classes; number 11 in the masks is void.

    The folder holds `train.txt`, `val.txt` and `test.txt`, each line a picture and its mask; of these paths
    only the last folder and the name count, whatever machine they were written on. Where there is no list,
    the pictures in `train/` go with the masks of the same name in `trainannot/`, and so on.

    Args:
        path: The folder.
        split: "train", "validation" or "test". The validation frames lie near the training frames in the same
            films and are far easier than the test frames: say which of the two a score is of.
        strict: Refuse a folder in which a file is missing; else it is left out and told in `problems`.

    Raises:
        ValueError: If there is no such split.
        FileError: If the folder, a list or a file is missing, or a list is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], split: str, *, strict: bool = True) -> None:
        check_split(split)
        root = folder_of(path)
        name = _FOLDERS[split]
        lists = root / f"{name}.txt"
        if lists.exists():
            listing = _listed(root, lists)
        elif (root / name).is_dir() and (root / f"{name}annot").is_dir():
            listing = paired(root / name, root / f"{name}annot")
        else:
            raise DataError(
                "missing",
                root,
                f"has no {split} part: expected {name}.txt, or folders {name} and {name}annot",
            )
        numbers = {label: label for label in range(len(_COLORS))} | {_VOID_NUMBER: VOID}
        classes = Classes.of(tuple(_COLORS), np.array(list(_COLORS.values()), np.uint8), numbers=numbers)
        super().__init__(root, split, listing, classes, strict=strict)

    @staticmethod
    def splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Return the parts that the folder has.

        Raises:
            FileError: If there is no such folder, or it has no part.
        """
        root = folder_of(path)
        found = [s for s, n in _FOLDERS.items() if (root / f"{n}.txt").exists() or (root / n).is_dir()]
        if not found:
            lists = ", ".join(f"{name}.txt" for name in _FOLDERS.values())
            raise DataError("missing", root, f"has no part of CamVid: expected {lists}, or such folders")
        return tuple(found)


def _listed(root: Path, lists: Path) -> Listing:
    """Return the pairs that a list names."""
    pairs, problems = [], []
    there: dict[str, set[str]] = {}
    for number, line in read_lines(lists):
        paths = [[part for part in re.split(r"[\\/]", text) if part] for text in line.split()]
        if len(paths) != 2 or any(len(parts) < 2 or {"..", "."} & set(parts[-2:]) for parts in paths):
            raise DataError(
                "unreadable",
                lists,
                f"line {number} must be two paths, folder/picture and folder/mask, got {line[:80]!r}",
            )
        files = []
        for folder, name in (parts[-2:] for parts in paths):
            if folder not in there:
                there[folder] = set(os.listdir(root / folder)) if os.path.isdir(root / folder) else set()
            if name in there[folder]:
                files.append(os.path.join(root, folder, name))
            else:
                problems.append(
                    DataError(
                        "missing",
                        root / folder / name,
                        f"is not there, but line {number} of {lists.name} names it",
                    )
                )
        if len(files) == 2:
            pairs.append(Pair(stem(paths[0][-1]), files[0], files[1]))
    return Listing(pairs, problems)
