"""`minifcn predict`: labels for one's own pictures.

For each picture the folder gets `masks/NAME.png`, whose palette indices are the classes, and
`overlays/NAME.png` to look at; and for all of them `areas.csv` and `areas.json`, which are written anew after
each picture, so that nothing is lost where it stops.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from minifcn import viz
from minifcn.backend import Array, cuda_device, to_device, to_numpy
from minifcn.data import read_image
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.files import FileError, atomic_write
from minifcn.models import FCN, ModelInfo
from minifcn.palette import VOID, VOID_COLOR
from minifcn.training import fitted, predict
from minifcn.training.memory import check_inference
from minifcn.training.network import trained

AREAS, MASKS, OVERLAYS = "areas.json", "masks", "overlays"
_COLUMNS = ("image", "mask", "class", "pixels", "percent")

Areas: TypeAlias = dict[str, list[dict[str, Any]]]
"""For each picture, by its path as it was given, a row for each class."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="label your own pictures",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Writes a mask, an overlay and the areas of the classes for each picture, of any size.",
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="folders with all in them"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder; what it holds of other pictures, labelled earlier, stays",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Label the pictures; return 1 if some could not be."""
    cuda_device(arguments.device)
    out = arguments.out
    if out.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"--out {out} must be a folder: it gets a mask, PNG, for each picture, and more")
    model, info = trained(arguments.model)
    areas = _earlier_areas(out)
    paths = _images(arguments.images, out)
    model.to(arguments.device)
    out.mkdir(parents=True, exist_ok=True)
    _write_areas(out, areas)  # first of all, for it tells that the masks beside it are ours
    for folder in (MASKS, OVERLAYS):
        (out / folder).mkdir(exist_ok=True)
    failed = 0
    for path, name in _named(paths, areas):
        try:
            image = read_image(path)
            height, width = image.shape[:2]
            what = f"{path}: labelling {width} x {height} pixels"
            check_inference(model, what, (height, width), arguments.device)
            labels = _labels(model, image, arguments.device)
        except (OSError, ValueError) as error:
            word = error if isinstance(error, ValueError) else f"{path}: {error.strerror or error}"
            print(f"minifcn predict: {word}", file=sys.stderr)
            failed += 1
            continue
        except MemoryError:
            print(f"minifcn predict: {path}: it does not fit into memory", file=sys.stderr)
            failed += 1
            continue
        mask = f"{MASKS}/{name}.png"
        _write_mask(out / mask, labels, info)
        figure = viz.overlay(image, labels, info.class_names, info.palette)
        with atomic_write(out / OVERLAYS / f"{name}.png") as temporary:
            figure.savefig(temporary)
        rows = [{"image": str(path), "mask": mask, **area} for area in _areas(labels, info)]
        areas[str(path)] = rows
        _write_areas(out, areas)
        print(f"{path}: {width} x {height} pixels, {mask}")
        for row in rows:
            if row["pixels"]:
                print(f"  {row['class']:22}  {row['pixels']:>12,}  {row['percent']:6.2f} %")
    done = len(paths) - failed
    print(f"{done} of {len(paths)} pictures labelled; masks, overlays and areas: {out}")
    return 1 if failed else 0


def _images(given: list[Path], out: Path) -> list[Path]:
    """Return the files that are meant, and the pictures in folders but for masks and overlays of ours."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        places = [out.resolve(), *(areas.resolve().parent for areas in path.rglob(AREAS))]
        ours = [place / folder for place in places for folder in (MASKS, OVERLAYS)]
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in IMAGE_SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and not any(file.resolve().is_relative_to(folder) for folder in ours)
        ]
        if not inside:
            raise ValueError(f"there are no pictures in the folder {path}")
        paths += inside
    return list(dict.fromkeys(paths))


def _named(paths: list[Path], areas: Areas) -> Iterator[tuple[Path, str]]:
    """Yield each path with a name of its own: its stem, with a number behind it where that is taken.

    A picture that was labelled earlier keeps its name.
    """
    names = {image: Path(rows[0]["mask"]).stem for image, rows in areas.items()}
    taken = {name.casefold() for name in names.values()}
    for path in paths:
        if (earlier := names.get(str(path))) is not None:
            yield path, earlier
            continue
        name, number = path.stem, 2
        while name.casefold() in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name.casefold())
        yield path, name


def _labels(model: FCN, image: Array, device: str) -> Array:
    """Return the class of each pixel, uint8 (H, W)."""
    assert model.info is not None
    x = fitted(model.info.preprocessing)(image[None])
    labels: Array = to_numpy(predict(model, to_device(x, device)))[0]
    return labels


def _write_mask(path: Path, labels: Array, info: ModelInfo) -> None:
    """Write labels as a palette image: what programs read as numbers and people see as colours."""
    colors = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(info.palette)] = info.palette
    mask = Image.fromarray(labels)
    mask.putpalette(colors.tobytes())
    with atomic_write(path) as temporary:
        mask.save(temporary)


def _areas(labels: Array, info: ModelInfo) -> list[dict[str, Any]]:
    """Return pixels and percent of each class."""
    counts = np.bincount(labels.ravel(), minlength=len(info.class_names)).tolist()
    return [
        {"class": name, "pixels": count, "percent": round(100 * count / labels.size, 4)}
        for name, count in zip(info.class_names, counts, strict=True)
    ]


def _earlier_areas(out: Path) -> Areas:
    """Return the rows of each picture that an earlier run has labelled into the same folder.

    Raises:
        ValueError: If the folder holds masks of somebody else, which could be replaced.
        FileError: If the file of the areas is damaged.
    """
    file = out / AREAS
    if not file.exists():
        if (out / MASKS).is_dir() and any((out / MASKS).iterdir()):
            raise ValueError(
                f"--out {out} holds {MASKS} without the {AREAS} of minifcn predict, so they may be your own: "
                f"take another folder"
            )
        return {}
    areas: Areas = {}
    try:
        for row in json.loads(file.read_text(encoding="utf-8")):
            if not all(isinstance(row[name], str) for name in ("image", "mask", "class")):
                raise TypeError("names must be texts")
            areas.setdefault(row["image"], []).append({name: row[name] for name in _COLUMNS})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileError(f"{file} is damaged or not of minifcn predict: move it away") from error
    return areas


def _write_areas(out: Path, areas: Areas) -> None:
    """Write the areas of all pictures for spreadsheets, and for programs."""
    rows = [row for picture in areas.values() for row in picture]
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(out / "areas.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with atomic_write(out / AREAS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
