"""What is wrong with a dataset, found before training."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minifcn.backend import Array
from minifcn.data.counts import ClassCounts, count_labels
from minifcn.data.dataset import Dataset
from minifcn.data.errors import Color, DataError, counted
from minifcn.data.files import FileDataset
from minifcn.data.masks import color_codes, color_of, hex_of
from minifcn.kernels.threads import num_threads
from minifcn.palette import VOID

KINDS = (
    *("unreadable", "missing", "size", "lossy", "mode", "labels", "void"),
    *("binary", "palette", "overlap", "absent"),
)
"""The kinds of findings, the worst first: what stops training, then what spoils it, or the score."""


class Finding(NamedTuple):
    """Something wrong with a dataset.

    Attributes:
        kind: One of `KINDS`.
        split: The part it was found in.
        file: The file, below the dataset's folder where it lies there; empty if it is about the part as a
            whole.
        message: What is wrong, and what to do.
    """

    kind: str
    split: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file or self.split}: {self.message}"


@dataclass(frozen=True)
class SplitReport:
    """What a part of a dataset holds.

    Attributes:
        items: Number of items, those that cannot be used included.
        counts: Pixels of each class, in each item that can be used.
        sizes: How many images there are of each (height, width).
        chosen: Which items these are, if neither a folder nor a list says so; else empty.
    """

    items: int
    counts: ClassCounts
    sizes: Counter[tuple[int, int]]
    chosen: str


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds, and what is wrong with it.

    Attributes:
        class_names: Of the K classes.
        splits: What each part holds.
        findings: What is wrong, the worst first.
        void: What is void in masks: numbers, or colours as #rrggbb.
        unknown: Colours that mean no class but would if `classes.txt` listed them, with their pixels.
    """

    class_names: tuple[str, ...]
    splits: dict[str, SplitReport]
    findings: tuple[Finding, ...]
    void: tuple[str, ...]
    unknown: Counter[Color]

    def table(self) -> str:
        """Return how often each class occurs: its share of the pixels, and in how many images it is."""
        void = "void" if self.void in ((), (str(VOID),)) else f"void ({', '.join(self.void)})"
        names = (*self.class_names, void)
        width = max(map(len, names))
        lines = [" " * width + "".join(f"  {split:>20}" for split in self.splits)]
        lines.append(" " * width + f"  {'pixels':>9} {'images':>10}" * len(self.splits))
        for k, name in enumerate(names):
            cells = ""
            for report in self.splits.values():
                pixels = report.counts.pixels
                share = 100 * pixels[k] / max(int(pixels.sum()), 1)
                cells += f"  {share:8.3f}% {int(report.counts.images[k]):10}"
            lines.append(f"{name:{width}}{cells}")
        return "\n".join(lines)


@dataclass
class _Seen:
    """What was seen of one item."""

    problems: list[DataError] = field(default_factory=list)
    size: tuple[int, int] | None = None
    counts: Array | None = None
    binary: bool = False
    digest: bytes = b""
    shown: dict[int, Color] = field(default_factory=dict)
    """The colours that a palette gives to the numbers in the mask, where it is the numbers that count."""


def check_dataset(splits: Mapping[str, Dataset], *, progress: str | None = None) -> DatasetReport:
    """Read every file of a dataset, and say what is wrong with it.

    Args:
        splits: The parts by name; those in files opened with `strict=False`, so that what is missing is a
            finding among others.
        progress: Name of the progress bar, which is drawn on terminals only; `None` for none.

    Returns:
        The report; nothing is wrong if it has no `findings`.

    Example:
        >>> from minifcn.data import DigitCanvases
        >>> report = check_dataset({"train": DigitCanvases("train", 30)})
        >>> report.findings, report.splits["train"].sizes
        ((), Counter({(96, 96): 30}))
    """
    names = next(iter(splits.values())).class_names
    reports: dict[str, SplitReport] = {}
    findings: list[Finding] = []
    seen: dict[str, list[_Seen]] = {}
    with (
        tqdm(
            total=sum(map(len, splits.values())),
            desc=progress,
            disable=True if progress is None else None,
            leave=False,
            unit="image",
        ) as bar,
        ThreadPoolExecutor(num_threads()) as pool,
    ):
        for split, dataset in splits.items():
            seen[split] = []
            try:
                for result in pool.map(
                    lambda index, dataset=dataset: _look(dataset, index), range(len(dataset))
                ):
                    seen[split].append(result)
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    for split, dataset in splits.items():
        rows = [item.counts for item in seen[split] if item.counts is not None]
        counts = ClassCounts(np.array(rows, np.int64).reshape(-1, len(names) + 1))
        sizes = Counter(item.size for item in seen[split] if item.size is not None)
        chosen = dataset.chosen if isinstance(dataset, FileDataset) else ""
        reports[split] = SplitReport(len(dataset), counts, sizes, chosen)
        findings += _problems(split, dataset, seen[split])
        findings += _binary(split, dataset, seen[split])
    findings += _palettes(splits, seen)
    findings += _overlaps(splits, seen)
    findings += _absent(names, reports)
    findings.sort(key=lambda finding: KINDS.index(finding.kind))
    void = _void(next(iter(splits.values())))
    return DatasetReport(names, reports, tuple(findings), void, _unknown(splits, seen))


def _look(dataset: Dataset, index: int) -> _Seen:
    """Read one item."""
    seen = _Seen()
    if not isinstance(dataset, FileDataset):
        image, labels = dataset[index]
        seen.size = (image.shape[0], image.shape[1])
        seen.counts = count_labels(labels, len(dataset.class_names))
        return seen
    pair = dataset.pair(index)
    mask = numbers = None
    try:
        image = dataset.image(index)
        seen.size = (image.shape[0], image.shape[1])
    except (DataError, OSError) as error:
        seen.problems.append(_as_data_error(error, pair.image))
    try:
        mask = dataset.mask(index)
        numbers = dataset.numbers_of(index, mask)
        seen.counts = count_labels(dataset.translated(index, numbers), len(dataset.class_names))
    except (DataError, OSError) as error:
        seen.problems.append(_as_data_error(error, pair.mask))
    if mask is not None and numbers is not None:
        values = np.flatnonzero(np.bincount(numbers.reshape(-1), minlength=256)).tolist()
        seen.binary = values == [0, VOID] and dataset.classes.table[VOID] == VOID
        if mask.palette is not None and numbers is mask.pixels:  # not looked up by their colours
            codes = color_codes(mask.palette).tolist()
            seen.shown = {number: color_of(codes[number]) for number in values if number != VOID}
        if seen.size is not None:
            try:
                dataset.check_sizes(index, seen.size, numbers.shape)
            except DataError as error:
                seen.problems.append(error)
    with suppress(OSError), open(pair.image, "rb") as file:
        seen.digest = hashlib.file_digest(file, "sha256").digest()
    return seen


def _as_data_error(error: DataError | OSError, path: str) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError("unreadable", path, f"cannot be read: {error.strerror or error}")


def _problems(split: str, dataset: Dataset, seen: list[_Seen]) -> Iterator[Finding]:
    """Yield what is wrong with single files."""
    if isinstance(dataset, FileDataset):
        for error in (*dataset.problems, *(error for item in seen for error in item.problems)):
            yield Finding(error.kind, split, _below(dataset.root, error.path), error.reason)


def _binary(split: str, dataset: Dataset, seen: list[_Seen]) -> Iterator[Finding]:
    """Yield the masks of 0 and 255 only, if that is not what masks with void look like here."""
    if not isinstance(dataset, FileDataset):
        return
    every = all(item.binary for item in seen if item.counts is not None)
    for index, item in enumerate(seen):
        if item.binary and (every or len(dataset.class_names) <= 2):
            yield Finding(
                "binary",
                split,
                _below(dataset.root, dataset.pair(index).mask),
                "has 0 and 255 only, and 255 is void: save white as 1, or list black and white as classes",
            )


def _palettes(splits: Mapping[str, Dataset], seen: Mapping[str, list[_Seen]]) -> Iterator[Finding]:
    """Yield the masks that show a number in another colour than most masks do."""
    masks = [
        (split, _below(dataset.root, dataset.pair(index).mask), item.shown)
        for split, dataset in splits.items()
        if isinstance(dataset, FileDataset)
        for index, item in enumerate(seen[split])
    ]
    votes: dict[int, Counter[Color]] = {}
    first: dict[tuple[int, Color], str] = {}
    for _, file, shown in masks:
        for number, color in shown.items():
            votes.setdefault(number, Counter())[color] += 1
            first.setdefault((number, color), file)
    usual = {number: colors.most_common(1)[0][0] for number, colors in votes.items()}
    for split, file, shown in masks:
        for number, color in shown.items():
            if color != usual[number]:
                yield Finding(
                    "palette",
                    split,
                    file,
                    f"shows {number} as {hex_of(color)}, but {first[number, usual[number]]} shows it as "
                    f"{hex_of(usual[number])}: it may mean another class there",
                )
                break


def _overlaps(splits: Mapping[str, Dataset], seen: Mapping[str, list[_Seen]]) -> Iterator[Finding]:
    """Yield the images that are in two parts, by name or byte for byte."""
    names: dict[str, tuple[str, str]] = {}
    digests: dict[bytes, tuple[str, str]] = {}
    for split, dataset in splits.items():
        if not isinstance(dataset, FileDataset):
            continue
        for index, item in enumerate(seen[split]):
            pair = dataset.pair(index)
            file = _below(dataset.root, pair.image)
            same_bytes = digests.setdefault(item.digest, (split, file)) if item.digest else (split, file)
            same_name = names.setdefault(pair.name, (split, file))
            if same_bytes[0] != split:
                yield Finding("overlap", split, file, f"is in {same_bytes[0]} too, as {same_bytes[1]}")
            elif same_name[0] != split:
                yield Finding(
                    "overlap", split, file, f"has the name of {same_name[1]}, which is in {same_name[0]}"
                )


def _absent(names: tuple[str, ...], reports: Mapping[str, SplitReport]) -> Iterator[Finding]:
    """Yield the parts that are void or empty, and the classes that are nowhere, or not in each part."""
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
    somewhere = np.any(list(occurs.values()), axis=0)
    rows = [(next(iter(occurs)), ~somewhere, ", in any part" if len(occurs) > 1 else "")]
    for split, lost in (("train", "nothing to learn from"), ("validation", "nothing to score")):
        if split in occurs:
            rows.append((split, somewhere & ~occurs[split], f", though other parts have some: {lost}"))
    for split, missing, why in rows:
        absent = [names[k] for k in np.flatnonzero(missing)]
        if absent:
            share = f"{len(absent)} of {counted(len(names), 'class')}"
            yield Finding("absent", split, "", f"no pixel is {', '.join(absent)} ({share}){why}")


def _void(dataset: Dataset) -> tuple[str, ...]:
    """Return what is void in the masks of a dataset: numbers, or colours as #rrggbb."""
    if not isinstance(dataset, FileDataset):
        return ()
    table, known, colors = dataset.classes[2:]
    if colors is not None and dataset.palette_colors:
        return tuple(hex_of(color) for color, number in colors.items() if table[number] == VOID)
    return tuple(map(str, np.flatnonzero(known & (table == VOID))))


def _unknown(splits: Mapping[str, Dataset], seen: Mapping[str, list[_Seen]]) -> Counter[Color]:
    """Return the colours that mean no class, of masks in which colours of one's own choice may mean one."""
    found: Counter[Color] = Counter()
    for split, dataset in splits.items():
        if isinstance(dataset, FileDataset) and dataset.palette_colors:
            for item in seen[split]:
                for error in item.problems:
                    found.update(error.colors)
    return found


def _below(root: Path, path: str) -> str:
    """Return a path as it is below a folder, or as it is if it is elsewhere."""
    file = Path(path)
    return str(file.relative_to(root)) if file.is_relative_to(root) else path
