"""`minifcn predict`: labels for your own images.

For each image the folder gets `masks/NAME.png`, whose palette indices are the classes, and
`overlays/NAME.png` to look at. When both are written, `areas.csv` gets a row: image, mask, height, width, and
the pixels of each class. So a command that was stopped continues with the images that have no row.
"""

import argparse
import csv
import errno
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minifcn import __version__, viz
from minifcn.backend import Array, cuda_device
from minifcn.cli.figures import save_figure
from minifcn.cli.outputs import RECORD, OutputFolder, output_folder, recorded
from minifcn.cli.shared import add_device
from minifcn.data import images_in, read_image
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.files import atomic_write, open_foreign
from minifcn.models import ModelInfo
from minifcn.palette import VOID, VOID_COLOR
from minifcn.training import label
from minifcn.training.memory import check_inference
from minifcn.training.network import load_trained
from minifcn.training.progress import Progress, say, show

AREAS, MASKS, OVERLAYS = "areas.csv", "masks", "overlays"
_COLUMNS = ("image", "mask", "height", "width")
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
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Label the images; return 1 if some failed."""
    cuda_device(arguments.device)
    out = arguments.out
    if out.is_file() or out.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"out must be a folder, for masks, overlays and areas, got {out}")
    with output_folder(out) as folder:
        model, info = load_trained(arguments.model)
        paths = _images(arguments.images, out)
        folder.protect(arguments.model, *paths)
        with open_foreign(arguments.model) as file:
            maker = f"{__version__} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        header = _line((*_COLUMNS, *info.class_names))
        todo = _unlabelled(folder, paths, header, maker)
        folder.check(AREAS, *(file for _, name in todo for file in _files(name)))
        for subfolder in (MASKS, OVERLAYS):
            folder.subfolder(subfolder)
        _write_table(folder, header)
        model.to(arguments.device)
        failed, before = 0, len(paths) - len(todo)
        with Progress("labelling", len(paths), before) as bar:
            for path, name in todo:
                writing = False
                try:
                    source = _source(path, maker)
                    image = read_image(path)
                    height, width = image.shape[:2]
                    check_inference(model, f"{path}: labelling an image", (height, width), arguments.device)
                    labels = label(model, image)
                    figure = viz.overlay(image, labels, info.class_names, info.palette)
                    writing = True
                    mask, overlay = _files(name)
                    _write_mask(out / mask, labels, info)
                    save_figure(figure, out / overlay)
                except (OSError, ValueError, MemoryError) as error:
                    if writing and isinstance(error, OSError) and error.errno not in _ABOUT_ONE_FILE:
                        raise
                    say(f"minifcn predict: {_problem(path, error)}")
                    failed += 1
                else:
                    counts = np.bincount(labels.ravel(), minlength=len(info.class_names)).tolist()
                    about = {"image": os.path.abspath(path), "name": name, "source": source, "header": header}
                    folder.append(AREAS, _line((path, mask, height, width, *counts)), about)
                    show(f"{path}: {width} x {height} pixels, {mask}")
                    for class_name, count in zip(info.class_names, counts, strict=True):
                        if count:
                            show(f"  {class_name:22}  {count:>12,}  {100 * count / labels.size:6.2f} %")
                bar.update(1)
        _write_table(folder, header)
    earlier = f" ({before} of them before)" if before else ""
    done = f"{len(paths) - failed} of {len(paths)} images labelled{earlier}"
    show(f"{done}; masks, overlays and areas: {out}")
    return 1 if failed else 0


def _problem(path: Path, error: Exception) -> str:
    """Return what is wrong with an image."""
    if isinstance(error, ValueError) and str(path) in str(error):
        return str(error)
    reason = "not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None)
    return f"{path}: {reason or error}"


def _images(given: list[Path], out: Path) -> list[Path]:
    """Return the images that were given and those in folders, except what minifcn has written."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        places = [out, *(record.parent for record in path.rglob(RECORD))]
        ours = {file.resolve() for place in places for file in recorded(place)}
        inside = [file for file in images_in(path) if file.resolve() not in ours]
        if not inside:
            raise ValueError(f"there are no images in the folder {path}")
        paths += inside
    return list(dict.fromkeys(paths))


def _results(folder: OutputFolder) -> dict[str, dict[str, Any]]:
    """Return the newest entry of the record for each image whose mask is there."""
    entries = {}
    for entry in folder.entries:
        texts = all(isinstance(entry.get(key), str) for key in ("image", "name", "source", "header", "added"))
        if entry["file"] == AREAS and texts and entry["name"] == Path(entry["name"]).name:
            entries[entry["image"]] = entry
    return {image: entry for image, entry in entries.items() if folder.exists(_files(entry["name"])[0])}


def _unlabelled(
    folder: OutputFolder, paths: Iterable[Path], header: str, maker: str
) -> list[tuple[Path, str]]:
    """Return the images that must be labelled, and their names.

    The others were labelled by the same model, the images have not changed since, and the results are there.

    Raises:
        ValueError: If the folder contains results with other classes.
    """
    results = _results(folder)
    if any(entry["header"] != header for entry in results.values()):
        raise ValueError(f"out: {folder.path} contains results with other classes: take another folder")
    todo = []
    for path, name in _named(paths, {image: entry["name"] for image, entry in results.items()}):
        entry, (mask, overlay) = results.get(os.path.abspath(path)), _files(name)
        same = entry is not None and entry["source"] == _source(path, maker)
        if not (same and folder.exists(overlay) and folder.holds(mask)):
            todo.append((path, name))
    return todo


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


def _files(name: str) -> tuple[str, str]:
    """Return the mask and the overlay of a name."""
    return f"{MASKS}/{name}.png", f"{OVERLAYS}/{name}.png"


def _source(path: Path, maker: str) -> str:
    """Return a text that changes with an image or the model, or "" if the image is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return hashlib.sha256(f"{maker} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


def _write_mask(path: Path, labels: Array, info: ModelInfo) -> None:
    """Write labels as a palette image: indices for programs, colours for people."""
    colors = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(info.palette)] = info.palette
    mask = Image.fromarray(labels)
    mask.putpalette(colors.tobytes())
    with atomic_write(path) as temporary:
        mask.save(temporary)


def _write_table(folder: OutputFolder, header: str) -> None:
    """Write the rows of all masks that are in the folder, if the table is another one."""
    rows = "".join(entry["added"] for entry in _results(folder).values())
    text = (header + rows).encode("utf-8", "backslashreplace")
    path = folder.path / AREAS
    if not path.exists() or path.read_bytes() != text:
        with atomic_write(path) as temporary:
            temporary.write_bytes(text)


def _line(values: Iterable[object]) -> str:
    """Return a line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
