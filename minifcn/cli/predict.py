"""`minifcn predict`: labels for your own images.

For each image the folder gets `masks/NAME.png`, whose palette indices are the classes, and
`overlays/NAME.png` to look at. When both are written, `areas.csv` gets a row: image, mask, height, width, and
the pixels of each class. So a command that was stopped continues with the images that have no row. Of a TIFF
file that is too large for memory, parts are read, and the mask is a TIFF file, too.

Several commands may divide the images among them (`--share`). Each takes every N-th image of the sorted list,
and has a table of its own; names of results follow from the whole list.
"""

import argparse
import csv
import errno
import hashlib
import io
import math
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from minifcn import __version__, viz
from minifcn.backend import Array, cuda_device
from minifcn.cli import for_command_line
from minifcn.cli.figures import save_figure
from minifcn.cli.outputs import RECORD, OutputFolder, output_folder, recorded, recorded_entries
from minifcn.cli.shared import add_device
from minifcn.data import images_in, read_image
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.data.tiff import Tiff, is_large_tiff, write_mask
from minifcn.files import atomic_write, open_foreign
from minifcn.models import FCN, ModelInfo
from minifcn.models.tiling import Rectangle
from minifcn.palette import VOID, VOID_COLOR
from minifcn.training import label
from minifcn.training.label import label_tiles
from minifcn.training.memory import check_inference, tile_size
from minifcn.training.network import load_trained
from minifcn.training.progress import Progress, say, show

MASKS, OVERLAYS = "masks", "overlays"
_COLUMNS = ("image", "mask", "height", "width")
_LARGEST_OVERLAY = 2000  # pixels of the longer side; drawing makes copies in float64
_LONGEST_NAME = 255  # bytes, in most file systems
_ABOUT_ONE_FILE = (None, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""Numbers of the errors in writing that concern a single file; others, such as a full disk, concern all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Writes a mask, an overlay and the areas of the classes for images of any size. Images that the same "
        "model has labelled into the same folder before are left out."
    )
    parser.add_argument("model", type=Path, help="model file")
    images = "images, and folders of them"
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help=images)
    out = "folder; results of other images in it are kept"
    parser.add_argument("--out", type=Path, required=True, help=out)
    tile = "label in tiles of N x N pixels (default: only images that would take more than 1 GB)"
    parser.add_argument("--tile", type=int, metavar="N", help=tile)
    share = "label the K-th of N shares of the images, from 1; other commands label the others, in one folder"
    parser.add_argument("--share", type=_share, metavar="K/N", help=share)
    add_device(parser)


def _share(text: str) -> tuple[int, int]:
    """Read K/N."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= 100_000):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, such as 2/4, got {text[:50]!r}")
    return int(number), int(count)


def run(arguments: argparse.Namespace) -> int:
    """Label the images; return 1 if some failed."""
    cuda_device(arguments.device)
    out = arguments.out
    if out.is_file() or out.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"out must be a folder, for masks, overlays and areas, got {out}")
    number, count = arguments.share or (1, 1)
    end = "" if arguments.share is None else f"-{number:0{len(str(count))}}-of-{count}"
    with output_folder(out, record=RECORD + end) as folder:
        model, info = load_trained(arguments.model)
        paths = _images(arguments.images, out)
        folder.protect(arguments.model, *paths)
        with open_foreign(arguments.model) as file:
            maker = f"{__version__} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        results = _Results(folder, f"areas{end}.csv", _line((*_COLUMNS, *info.class_names)), maker)
        if arguments.share is None:
            mine = results.named(paths)
        else:
            paths = sorted(paths)
            _check_list(folder, paths, maker, count)
            mine = [*_named(paths, {})][number - 1 :: count]
        todo = results.unlabelled(mine)
        folder.check(results.table, *(file for _, name in todo for file in _files(name)))
        for subfolder in (MASKS, OVERLAYS):
            folder.subfolder(subfolder)
        results.write(header=number == 1)
        model.to(arguments.device)
        failed, before = 0, len(mine) - len(todo)
        with Progress("labelling", len(mine), before) as bar:
            for path, name in todo:
                task = _Task(path, name, model, info, out, arguments)
                try:
                    source = results.source(path)
                    (height, width), counts = task.run()
                except (OSError, ValueError, MemoryError) as error:
                    if task.writing and isinstance(error, OSError) and error.errno not in _ABOUT_ONE_FILE:
                        raise
                    say(f"minifcn predict: {_problem(path, error)}")
                    failed += 1
                else:
                    results.add(path, name, source, (path, task.mask, height, width, *counts))
                    show(f"{path}: {width} x {height} pixels, {task.mask}", *_areas(info, counts))
                bar.update(1, f"{failed} failed" if failed else "")
        results.write(header=number == 1)
    earlier = f" ({before} of them before)" if before else ""
    done = f"{len(mine) - failed} of {len(mine)} images labelled{earlier}"
    show(f"{done}; masks, overlays and areas: {out}")
    return 1 if failed else 0


class _Task:
    """One image, whose mask and overlay are to be written.

    Attributes:
        writing: Whether the results are being written, so that an error concerns these files.
        mask: The name of the mask in the folder.
    """

    def __init__(
        self, path: Path, name: str, model: FCN, info: ModelInfo, out: Path, arguments: argparse.Namespace
    ):
        self.path, self.model, self.info, self.out, self.arguments = path, model, info, out, arguments
        self.mask, self.overlay, self.large_mask = _files(name)
        self.writing = False

    def run(self) -> tuple[tuple[int, int], list[int]]:
        """Label the image, and return its size (H, W) and the pixels of each class."""
        if is_large_tiff(self.path):
            with Tiff(self.path) as large:
                return large.size, self._label_large(large)
        made = self.info.preprocessing
        image = read_image(self.path, bit_depth=made.bit_depth, bands=made.bands)
        height, width = image.shape[:2]
        tile = self._tile((height, width))
        labels = label(self.model, image, tile=tile)
        step = _step((height, width))
        figure = self._figure(image[::step, ::step], labels[::step, ::step])
        self.writing = True
        _write_mask(self.out / self.mask, labels, self.info)
        save_figure(figure, self.out / self.overlay)
        return (height, width), self._counts(labels)

    def _tile(self, size: tuple[int, int]) -> int:
        """Return the size of the tiles, for which memory is free; an image that fits into one is not cut."""
        tile: int = self.arguments.tile or tile_size(self.model, size) or max(size)
        part = min(size[0], tile), min(size[1], tile)
        what = "an image" if part == size else "a tile"
        check_inference(self.model, f"{self.path}: labelling {what}", part, self.arguments.device)
        return tile

    def _label_large(self, image: Tiff) -> list[int]:
        """Label an image in parts, write the mask as they come, and draw a smaller image."""
        size, step = image.size, _step(image.size)
        counts = [0] * len(self.info.class_names)
        rows, cols = (-(-edge // step) for edge in size)
        small = np.zeros((rows, cols, image.channels), np.uint8)
        small_labels = np.zeros((rows, cols), np.uint8)

        def sampled(part: Rectangle) -> tuple[Rectangle, Rectangle]:
            """Return which elements of a small image a part has, and which of its pixels they are."""
            rows, cols = (slice(-(-edge.start // step), -(-edge.stop // step)) for edge in part)
            top, left = (slice(-edge.start % step, None, step) for edge in part)
            return (rows, cols), (top, left)

        def read(crop: Rectangle) -> Array:
            pixels, (there, here) = image.read(crop), sampled(crop)
            small[there] = pixels[here]
            return pixels

        def parts() -> Iterator[tuple[Rectangle, Array]]:
            for core, labels in label_tiles(self.model, read, size, self._tile(size)):
                there, here = sampled(core)
                small_labels[there] = labels[here]
                counts[:] = map(sum, zip(counts, self._counts(labels), strict=True))
                bar.update(labels.size)
                yield core, labels

        self.mask, self.writing = self.large_mask, True  # what is wrong with the image is no `OSError`
        bar = Progress(f"labelling {self.path.name}", math.prod(size), unit="pixels")
        with bar, atomic_write(self.out / self.mask) as temporary:
            write_mask(temporary, size, _colors(self.info), parts(), image.georeference())
        save_figure(self._figure(small, small_labels), self.out / self.overlay)
        return counts

    def _figure(self, image: Array, labels: Array) -> Figure:
        return viz.overlay(image, labels, self.info.class_names, self.info.palette)

    def _counts(self, labels: Array) -> list[int]:
        counts: list[int] = np.bincount(labels.ravel(), minlength=len(self.info.class_names)).tolist()
        return counts


def _step(size: tuple[int, int]) -> int:
    """Return the distance of the pixels of an image that an overlay shows."""
    return -(-max(size) // _LARGEST_OVERLAY)


def _areas(info: ModelInfo, counts: Sequence[int]) -> list[str]:
    """Return a line for each class that has pixels."""
    percent, pixels_of = 100 / sum(counts), zip(info.class_names, counts, strict=True)
    return [f"  {name:22}  {n:>12,}  {n * percent:6.2f} %" for name, n in pixels_of if n]


def _check_list(folder: OutputFolder, paths: Sequence[Path], maker: str, count: int) -> None:
    """Record the list of images of a share, and compare it with that of the others.

    Raises:
        ValueError: If another share in the folder has another list or model, or another number of shares.
    """
    listed = hashlib.sha256("\0".join([str(count), maker, *map(str, paths)]).encode(errors="surrogateescape"))
    about = {"images": len(paths), "shares": count, "list": listed.hexdigest()}
    for record in folder.path.glob(f"{RECORD}-*-of-*"):
        for entry in recorded_entries(record):
            if "list" in entry and any(entry.get(key) != value for key, value in about.items()):
                raise ValueError(
                    f"share: {record.name} in {folder.path} has {entry.get('images')} images in "
                    f"{entry.get('shares')} shares, and this one {len(paths)} in {count}; or lists or models "
                    f"differ: all shares take the same images, in the same spelling, and one model"
                )
    if not any("list" in entry for entry in folder.entries):
        folder.note(**about)


def _problem(path: Path, error: Exception) -> str:
    """Return what is wrong with an image."""
    if isinstance(error, ValueError) and str(path) in str(error):
        return for_command_line(str(error), {})
    reason = "not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None)
    return f"{path}: {reason or error}"


def _images(given: list[Path], out: Path) -> list[Path]:
    """Return the images that were given and those in folders, except what minifcn has written."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        places = {out, *(record.parent for record in path.rglob(f"{RECORD}*"))}
        ours = {file.resolve() for place in places for file in recorded(place)}
        inside = [file for file in images_in(path) if file.resolve() not in ours]
        if not inside:
            raise ValueError(f"there are no images in the folder {path}")
        paths += inside
    return list(dict.fromkeys(paths))


class _Results:
    """The table of the areas, and which images have a row in it.

    Args:
        folder: Where the results are.
        table: The name of the table.
        header: Its first line.
        maker: What made the labels: a text that changes with the version and the model.

    Raises:
        ValueError: If the folder contains results with other classes.
    """

    def __init__(self, folder: OutputFolder, table: str, header: str, maker: str):
        self.folder, self.table, self.header, self.maker = folder, table, header, maker
        if any(entry["header"] != header for entry in self._rows().values()):
            raise ValueError(f"out: {folder.path} contains results with other classes: take another folder")

    def _rows(self) -> dict[str, dict[str, Any]]:
        """Return the newest entry of the record for each image whose mask is there."""
        entries = {}
        for entry in self.folder.entries:
            keys = ("image", "name", "mask", "source", "header", "added")
            texts = all(isinstance(entry.get(key), str) for key in keys)
            if entry["file"] == self.table and texts and entry["mask"] in _files(Path(entry["name"]).name):
                entries[entry["image"]] = entry
        return {image: entry for image, entry in entries.items() if self.folder.exists(entry["mask"])}

    def named(self, paths: Iterable[Path]) -> list[tuple[Path, str]]:
        """Return each path with its unique name; an image that was labelled earlier keeps its name."""
        return [*_named(paths, {image: entry["name"] for image, entry in self._rows().items()})]

    def unlabelled(self, named: Iterable[tuple[Path, str]]) -> list[tuple[Path, str]]:
        """Return the images that must be labelled, and their names.

        The others were labelled by the same model, the images have not changed since, and the results are
        there.
        """
        rows, todo = self._rows(), []
        for path, name in named:
            entry, (_, overlay, _) = rows.get(os.path.abspath(path)), _files(name)
            same = entry is not None and (entry["name"], entry["source"]) == (name, self.source(path))
            if not (entry and same and self.folder.exists(overlay) and self.folder.holds(entry["mask"])):
                todo.append((path, name))
        return todo

    def source(self, path: Path) -> str:
        """Return a text that changes with an image or the model, or "" if the image is missing."""
        try:
            status = os.stat(path)
        except OSError:
            return ""
        return hashlib.sha256(f"{self.maker} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()

    def add(self, path: Path, name: str, source: str, row: Sequence[object]) -> None:
        """Append the row of an image."""
        about = {"image": os.path.abspath(path), "name": name, "mask": str(row[1]), "source": source}
        self.folder.append(self.table, _line(row), about | {"header": self.header})

    def write(self, *, header: bool) -> None:
        """Write the rows of all masks that are in the folder, if the table is another one."""
        rows = "".join(entry["added"] for entry in self._rows().values())
        text = ((self.header if header else "") + rows).encode("utf-8", "backslashreplace")
        path = self.folder.path / self.table
        if not path.exists() or path.read_bytes() != text:
            with atomic_write(path) as temporary:
                temporary.write_bytes(text)


def _named(paths: Iterable[Path], names: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Yield each path with a unique name: its stem, with a number if the stem is taken, cut if it is long.

    An image that was labelled earlier keeps its name.
    """
    taken, numbers = {_folded(name) for name in names.values()}, dict[str, int]()
    for path in paths:
        name = names.get(os.path.abspath(path), "")
        while not name:
            number = numbers[path.stem] = numbers.get(path.stem, 0) + 1
            stem, end = path.stem, f"-{number}" if number > 1 else ""
            while len(os.fsencode(_files(stem + end)[0])) > len(f"{MASKS}/") + _LONGEST_NAME:
                stem = stem[:-1]
            name = "" if _folded(stem + end) in taken else stem + end
        taken.add(_folded(name))
        yield path, name


def _folded(name: str) -> str:
    """Return what is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", name.casefold())


def _files(name: str) -> tuple[str, str, str]:
    """Return the mask and the overlay of a name, and the mask of an image that is read in parts."""
    return f"{MASKS}/{name}.png", f"{OVERLAYS}/{name}.png", f"{MASKS}/{name}.tif"


def _colors(info: ModelInfo) -> Array:
    """Return the colour of each label, uint8 (256, 3)."""
    colors = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(info.palette)] = info.palette
    return colors


def _write_mask(path: Path, labels: Array, info: ModelInfo) -> None:
    """Write labels as a palette image: indices for programs, colours for people."""
    mask = Image.fromarray(labels)
    mask.putpalette(_colors(info).tobytes())
    with atomic_write(path) as temporary:
        mask.save(temporary)


def _line(values: Iterable[object]) -> str:
    """Return a line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
