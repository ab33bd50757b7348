"""What is wrong with a dataset, found before training."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minifcn.backend import Array
from minifcn.data.class_weights import ClassCounts, count_labels
from minifcn.data.dataset import Dataset, FileDataset
from minifcn.data.errors import Color, DataError, counted, open_data
from minifcn.data.masks import color_codes, color_of, hex_of
from minifcn.kernels.threads import num_threads
from minifcn.palette import VOID
from minifcn.printing import escape

TITLES = {
    "unreadable": "cannot be read",
    "missing": "images without mask, or masks without image",
    "size": "image and mask of different sizes",
    "lossy": "masks in a format that changes labels",
    "mode": "unsupported kinds of pixels",
    "labels": "labels outside of the classes",
    "void": "parts without labels",
    "binary": 'masks of 0 and 255 (as lines of classes.txt: "background 0 0 0", "object 255 255 255")',
    "unlabelled": "most pixels without label",
    "objects": "numbers of objects instead of classes",
    "palette": "palettes that differ (if colours mean classes, list them in classes.txt)",
    "overlap": "images in two parts",
    "absent": "classes that do not occur (train.txt and val.txt can list the images of the parts)",
    "skipped": "files that are left out",
}
"""The kinds of findings, the worst first: what stops training, then what makes it or its scores worse."""

KINDS = tuple(TITLES)

ERRORS = KINDS[:7]
"""Those that stop training."""

_MOSTLY = 0.5  # share of void pixels that is reported


class Finding(NamedTuple):
    """Something that is wrong with a dataset.

    Attributes:
        kind: One of `KINDS`.
        split: The split it was found in.
        file: The file, relative to the dataset's folder if it is in there; empty if the finding is about the
            split as a whole.
        message: What is wrong, and what to do.

    Example:
        >>> print(Finding("absent", "validation", "", "no pixel is cat"))
        validation: no pixel is cat
    """

    kind: str
    split: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file or self.split}: {self.message}"


@dataclass(frozen=True)
class SplitReport:
    """The contents of a split.

    Attributes:
        items: Number of items, including those that cannot be used.
        counts: Pixels of each class in each item that can be used.
        sizes: Number of images of each (height, width).
        chosen: How the items were chosen, if neither a folder nor a list says so; otherwise empty.
    """

    items: int
    counts: ClassCounts
    sizes: Counter[tuple[int, int]]
    chosen: str


@dataclass(frozen=True)
class DatasetReport:
    """The contents of a dataset, and what is wrong with it.

    Attributes:
        class_names: Names of the K classes.
        splits: The contents of each split.
        findings: What is wrong, the worst first.
        void: What is void in masks: values, or colours as #rrggbb.
        unknown: Colours that are no class but would be if `classes.txt` listed them, with their pixels.
        bit_depth: Bits of the values of images with 16 bits per channel; see `read_image`.

    Example:
        >>> from minifcn.data import DigitCrops
        >>> report = check_dataset({"train": DigitCrops("train")})
        >>> report.class_names[:3], report.findings
        (('0', '1', '2'), ())
    """

    class_names: tuple[str, ...]
    splits: dict[str, SplitReport]
    findings: tuple[Finding, ...]
    void: tuple[str, ...]
    unknown: Counter[Color]
    bit_depth: int = 8

    def table(self) -> str:
        """Return how frequent each class is in each split: per cent of the pixels, and number of images."""
        void = "void" if self.void in ((), (str(VOID),)) else f"void ({', '.join(self.void)})"
        names = [escape(name) for name in (*self.class_names, void)]
        width = max(map(len, names))
        lines = [" " * width + "".join(f"  {split:>20}" for split in self.splits)]
        lines.append(" " * width + f"  {'pixels':>9} {'images':>10}" * len(self.splits))
        for k, name in enumerate(names):
            cells = ""
            for report in self.splits.values():
                pixels = report.counts.pixels
                percent = 100 * pixels[k] / max(int(pixels.sum()), 1)
                cells += f"  {percent:8.3f}% {int(report.counts.images[k]):10}"
            lines.append(f"{name:{width}}{cells}")
        return "\n".join(lines)


@dataclass
class _Item:
    """What was found in one item; names and paths only for datasets in files."""

    split: str
    name: str = ""
    image_file: str = ""
    mask_file: str = ""
    problems: list[DataError] = field(default_factory=list)
    size: tuple[int, int] | None = None
    counts: Array | None = None
    binary: bool = False
    """Whether the mask has the values 0 and 255 only, and 255 is void."""
    digest: bytes = b""
    palette: dict[int, Color] = field(default_factory=dict)
    """The colours that a palette gives to the values in the mask, if the values are what counts."""


def check_dataset(
    splits: Mapping[str, Dataset],
    *,
    indices: Mapping[str, Sequence[int]] | None = None,
    progress: str | None = None,
) -> DatasetReport:
    """Read the files of a dataset and report what is wrong with it.

    Args:
        splits: The splits by name. Open datasets in files with `strict=False`, so that missing files are
            findings, too.
        indices: The items of each split that are read, by default all. With it, nothing is said about classes
            that do not occur.
        progress: Name of the progress bar, which is shown on terminals only; `None` for none.

    Returns:
        The report; nothing is wrong if it has no `findings`.

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> report = check_dataset({"train": DigitCanvases("train", 30)})
        >>> report.findings, report.splits["train"].sizes
        ((), Counter({(96, 96): 30}))
    """
    first = next(iter(splits.values()))
    names = first.class_names
    work = [
        (split, dataset, index)
        for split, dataset in splits.items()
        for index in (range(len(dataset)) if indices is None else indices[split])
    ]
    depths: dict[Path, int] = {}  # found once for a folder, before threads ask for it
    for dataset in splits.values():
        if isinstance(dataset, FileDataset):
            dataset.bit_depth = depths.setdefault(dataset.root, depths.get(dataset.root) or dataset.bit_depth)
    quiet = True if progress is None else None  # None: quiet unless on a terminal
    pool = ThreadPoolExecutor(num_threads())
    try:
        results = pool.map(lambda arguments: _inspect(*arguments), work)
        items = list(tqdm(results, desc=progress, total=len(work), disable=quiet, leave=False, unit="image"))
    finally:
        pool.shutdown(cancel_futures=True)
    reports: dict[str, SplitReport] = {}
    findings: list[Finding] = []
    unknown: Counter[Color] = Counter()
    for split, dataset in splits.items():
        mine = [item for item in items if item.split == split]
        rows = [item.counts for item in mine if item.counts is not None]
        counts = ClassCounts(np.array(rows, np.int64).reshape(-1, len(names) + 1))
        sizes = Counter(item.size for item in mine if item.size is not None)
        reports[split] = SplitReport(len(dataset), counts, sizes, getattr(dataset, "chosen", ""))
        problems = [*getattr(dataset, "problems", ()), *(error for item in mine for error in item.problems)]
        findings += [Finding(e.kind, split, _relative(dataset, e.path), e.reason) for e in problems]
        if isinstance(dataset, FileDataset) and dataset.palette_colors:  # its users choose the colours
            for problem in problems:
                unknown.update(problem.colors)
        findings += _binary_masks(mine, len(names))
        findings += _mostly_void(split, dataset, counts)
    findings += [*_palettes(items), *_overlaps(items)]
    findings += _absent_classes(names, reports) if indices is None else ()
    findings.sort(key=lambda finding: KINDS.index(finding.kind))
    bits = first.bit_depth if isinstance(first, FileDataset) else 8
    return DatasetReport(names, reports, tuple(findings), _void(first), unknown, bits)


def _inspect(split: str, dataset: Dataset, index: int) -> _Item:
    """Read one item."""
    num_classes = len(dataset.class_names)
    if not isinstance(dataset, FileDataset):
        image, labels = dataset[index]
        size = (image.shape[0], image.shape[1])
        return _Item(split, size=size, counts=count_labels(labels, num_classes))
    name, image_path, mask_path = dataset.pair(index)
    item = _Item(split, name, _relative(dataset, image_path), _relative(dataset, mask_path))
    with _recorded(item, image_path):
        image = dataset.image(index)
        item.size = (image.shape[0], image.shape[1])
    with _recorded(item, mask_path):
        mask = dataset.mask(index)
        values = dataset.values(index, mask)
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
        item.binary = present == [0, VOID] and dataset.classes.table[VOID] == VOID
        if mask.palette is not None and values is mask.pixels:  # not looked up by their colours
            codes = color_codes(mask.palette).tolist()
            item.palette = {value: color_of(codes[value]) for value in present if value != VOID}
        with _recorded(item, mask_path):
            item.counts = count_labels(dataset.to_labels(index, values), num_classes)
        if item.size is not None:
            dataset.check_sizes(index, item.size, values.shape)
    with suppress(OSError, DataError), open_data(image_path) as file:
        item.digest = hashlib.file_digest(file, "sha256").digest()
    return item


@contextmanager
def _recorded(item: _Item, path: str) -> Iterator[None]:
    """Record an error in the block as a problem of the item."""
    try:
        yield
    except DataError as error:
        item.problems.append(error)
    except (OSError, ValueError, MemoryError) as error:  # one bad item does not end the check
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        item.problems.append(DataError("unreadable", path, f"cannot be read: {reason}"))


def _relative(dataset: Dataset, path: str) -> str:
    """Return a path relative to the folder of a dataset, or as it is if it is elsewhere."""
    if isinstance(dataset, FileDataset) and Path(path).is_relative_to(dataset.root):
        return str(Path(path).relative_to(dataset.root))
    return path


def _binary_masks(items: list[_Item], num_classes: int) -> list[Finding]:
    """Return the masks of 0 and 255 only, unless such masks with void are to be expected."""
    message = "has 0 and 255 only, and 255 is void: save white as 1, or list black and white as classes"
    if num_classes > 2 and not all(item.binary for item in items if item.counts is not None):
        return []
    return [Finding("binary", item.split, item.mask_file, message) for item in items if item.binary]


def _mostly_void(split: str, dataset: Dataset, counts: ClassCounts) -> Iterator[Finding]:
    """Yield whether most pixels are void, unless `classes.txt` lists void among the classes."""
    pixels = counts.pixels
    share = pixels[-1] / max(int(pixels.sum()), 1)
    if isinstance(dataset, FileDataset) and _MOSTLY < share < 1 and not dataset.classes.void_listed:
        white = "" if dataset.classes.colors else " (255)"
        message = (
            f"{share:.1%} of the pixels are void{white}, which counts nowhere: if that is a class, list the "
            f"classes and their colours in classes.txt; if it is intended, as with scribbles, add the line "
            f"__ignore__ to classes.txt"
        )
        yield Finding("unlabelled", split, "", message)


def _palettes(items: list[_Item]) -> Iterator[Finding]:
    """Yield the masks that show a value in another colour than most masks do."""
    votes = Counter(entry for item in items for entry in item.palette.items())
    # Reversed, so that the most frequent colour of a value is the one that stays.
    usual = {value: color for (value, color), _ in reversed(votes.most_common())}
    for item in items:
        for value, color in item.palette.items():
            if color != usual[value]:
                other = next(other.mask_file for other in items if other.palette.get(value) == usual[value])
                example = f"{other} shows it as {hex_of(usual[value])}"
                message = f"shows {value} as {hex_of(color)}, but {example}: it may mean another class there"
                yield Finding("palette", item.split, item.mask_file, message)
                break


def _overlaps(items: list[_Item]) -> Iterator[Finding]:
    """Yield the images that are in two splits, by name or byte for byte."""
    first: dict[str | bytes, _Item] = {}  # with a name, and with a hash
    for item in items:
        same_bytes = first.setdefault(item.digest, item) if item.digest else item
        same_name = first.setdefault(item.name, item) if item.name else item
        if same_bytes.split != item.split:
            message = f"is in {same_bytes.split}, too, as {same_bytes.image_file}"
        elif same_name.split != item.split:
            message = f"has the name of {same_name.image_file}, which is in {same_name.split}"
        else:
            continue
        yield Finding("overlap", item.split, item.image_file, message)


def _absent_classes(names: tuple[str, ...], reports: Mapping[str, SplitReport]) -> Iterator[Finding]:
    """Yield the splits that are void or empty, and the classes that are nowhere, or not in each split."""
    occurs: dict[str, Array] = {}
    for split, report in reports.items():
        pixels = report.counts.pixels
        if pixels[:-1].any():
            occurs[split] = pixels[:-1] > 0
        elif pixels[-1]:
            masks = counted(len(report.counts.per_image), "mask")
            yield Finding("void", split, "", f"every pixel is void, in {masks}")
        elif not report.items:
            yield Finding("void", split, "", "there is no image with a mask")
    if not occurs:
        return
    anywhere = np.any(list(occurs.values()), axis=0)
    rows = [(next(iter(occurs)), ~anywhere, " in any split" if len(occurs) > 1 else "")]
    for split in sorted(occurs.keys() & {"train", "validation"}):
        rows.append((split, anywhere & ~occurs[split], ", but other splits have some"))
    for split, missing, why in rows:
        absent = [names[k] for k in np.flatnonzero(missing)]
        if absent:
            share = f"{len(absent)} of {counted(len(names), 'class')}"
            yield Finding("absent", split, "", f"no pixel is {', '.join(absent)} ({share}){why}")


def _void(dataset: Dataset) -> tuple[str, ...]:
    """Return what is void in the masks of a dataset: values, or colours as #rrggbb."""
    if not isinstance(dataset, FileDataset):
        return ()
    table, known, colors = dataset.classes[2:5]
    if colors is not None and dataset.palette_colors:
        return tuple(hex_of(color) for color, value in colors.items() if table[value] == VOID)
    return tuple(map(str, np.flatnonzero(known & (table == VOID))))
