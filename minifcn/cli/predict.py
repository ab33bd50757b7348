"""`minifcn predict`: labels for your own images.

For each image the folder gets `masks/NAME.png`, whose palette indices are the classes, and
`overlays/NAME.png` to look at. `areas.csv` and `areas.json` contain the areas of the classes in all images;
they are written after each image, so that nothing is lost if the command stops.
"""

import argparse
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from minifcn import viz
from minifcn.backend import Array, cuda_device
from minifcn.cli.figures import save_figure
from minifcn.cli.shared import add_device, save_json
from minifcn.data import read_image
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.files import FileError, atomic_write
from minifcn.models import ModelInfo
from minifcn.palette import VOID, VOID_COLOR
from minifcn.training import label
from minifcn.training.memory import check_inference
from minifcn.training.network import load_trained
from minifcn.training.progress import Progress, say, show

AREAS, MASKS, OVERLAYS = "areas.json", "masks", "overlays"
_COLUMNS = ("image", "mask", "class", "pixels", "percent")

Areas: TypeAlias = dict[str, list[dict[str, Any]]]
"""A row for each class, by the path of the image as it was given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Writes a mask, an overlay and the areas of the classes for images of any size."
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
    if out.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"out must be a folder, for masks, overlays and areas, got {out}")
    model, info = load_trained(arguments.model)
    areas = _earlier_areas(out)
    paths = _images(arguments.images, out)
    model.to(arguments.device)
    out.mkdir(parents=True, exist_ok=True)
    _write_areas(out, areas)  # first, because it shows that the masks beside it are ours
    for folder in (MASKS, OVERLAYS):
        (out / folder).mkdir(exist_ok=True)
    failed = 0
    with Progress("labelling", len(paths)) as bar:
        for path, name in _named(paths, areas):
            try:
                image = read_image(path)
                height, width = image.shape[:2]
                check_inference(model, f"{path}: labelling an image", (height, width), arguments.device)
                labels = label(model, image)
            except (OSError, ValueError, MemoryError) as error:
                say(f"minifcn predict: {_problem(path, error)}")
                failed += 1
            else:
                mask = f"{MASKS}/{name}.png"
                _write_mask(out / mask, labels, info)
                figure = viz.overlay(image, labels, info.class_names, info.palette)
                save_figure(figure, out / OVERLAYS / f"{name}.png")
                rows = areas[str(path)] = _rows(path, mask, labels, info)
                _write_areas(out, areas)
                show(f"{path}: {width} x {height} pixels, {mask}")
                for row in rows:
                    if row["pixels"]:
                        show(f"  {row['class']:22}  {row['pixels']:>12,}  {row['percent']:6.2f} %")
            bar.update(1)
    show(f"{len(paths) - failed} of {len(paths)} images labelled; masks, overlays and areas: {out}")
    return 1 if failed else 0


def _problem(path: Path, error: Exception) -> str:
    """Return what is wrong with an image."""
    if isinstance(error, ValueError):
        return str(error)
    reason = "not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None)
    return f"{path}: {reason or error}"


def _images(given: list[Path], out: Path) -> list[Path]:
    """Return the images that were given and those in folders, except masks and overlays that we wrote."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        places = [out.resolve(), *(areas.resolve().parent for areas in path.rglob(AREAS))]
        ours = {place / folder for place in places for folder in (MASKS, OVERLAYS)}
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in IMAGE_SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and ours.isdisjoint(file.resolve().parents)
        ]
        if not inside:
            raise ValueError(f"there are no images in the folder {path}")
        paths += inside
    return list(dict.fromkeys(paths))


def _named(paths: list[Path], areas: Areas) -> Iterator[tuple[Path, str]]:
    """Yield each path with a unique name: its stem, with a number if the stem is taken.

    An image that was labelled earlier keeps its name.
    """
    names = {image: Path(rows[0]["mask"]).stem for image, rows in areas.items()}
    taken = {name.casefold() for name in names.values()}
    for path in paths:
        free = (f"{path.stem}{end}" for end in ("", *(f"-{number}" for number in range(2, len(taken) + 3))))
        name = names.get(str(path)) or next(name for name in free if name.casefold() not in taken)
        taken.add(name.casefold())
        yield path, name


def _write_mask(path: Path, labels: Array, info: ModelInfo) -> None:
    """Write labels as a palette image: indices for programs, colours for people."""
    colors = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(info.palette)] = info.palette
    mask = Image.fromarray(labels)
    mask.putpalette(colors.tobytes())
    with atomic_write(path) as temporary:
        mask.save(temporary)


def _rows(path: Path, mask: str, labels: Array, info: ModelInfo) -> list[dict[str, Any]]:
    """Return a row for each class, with its pixels and its share of the image."""
    counts = np.bincount(labels.ravel(), minlength=len(info.class_names)).tolist()
    return [
        dict(zip(_COLUMNS, (str(path), mask, name, n, round(100 * n / labels.size, 4)), strict=True))
        for name, n in zip(info.class_names, counts, strict=True)
    ]


def _earlier_areas(out: Path) -> Areas:
    """Return the rows of the images that an earlier run has labelled into the same folder.

    Raises:
        ValueError: If the folder contains masks of another origin, which could be replaced.
        FileError: If the file of the areas is damaged.
    """
    file = out / AREAS
    if not file.exists():
        if (out / MASKS).is_dir() and any((out / MASKS).iterdir()):
            raise ValueError(
                f"out: {out} contains {MASKS} of another origin (no {AREAS}): take another folder"
            )
        return {}
    areas: Areas = {}
    try:
        for row in json.loads(file.read_text(encoding="utf-8")):
            if not all(isinstance(row[name], str) for name in ("image", "mask", "class")):
                raise TypeError("names must be strings")
            areas.setdefault(row["image"], []).append({name: row[name] for name in _COLUMNS})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileError(f"{file} is damaged or not of minifcn predict: move it away") from error
    return areas


def _write_areas(out: Path, areas: Areas) -> None:
    """Write the areas in all images as CSV and JSON."""
    rows = [row for image in areas.values() for row in image]
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(out / "areas.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    save_json(rows, out / AREAS, indent=1)
