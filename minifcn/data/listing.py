"""Which files of a folder are images, which masks belong to them, and what is wrong with the others."""

import os
import unicodedata
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from minifcn.data.classes import stem
from minifcn.data.errors import WARNINGS, DataError, counted
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.data.opening import unread_message
from minifcn.data.scanning import UNREAD


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
