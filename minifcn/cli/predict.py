"""`minifcn predict`: labels for one's own pictures.

For each picture the folder gets `masks/NAME.png`, whose palette indices are the classes, and
`overlays/NAME.png` to look at; and for all of them `areas.csv` and `areas.json`.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minifcn import viz
from minifcn.backend import Array, cuda_device, to_device, to_numpy
from minifcn.data import read_image
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.files import atomic_write
from minifcn.models import FCN, ModelInfo
from minifcn.palette import VOID, VOID_COLOR
from minifcn.training import fitted, predict
from minifcn.training.memory import available_on, check_memory, inference_memory
from minifcn.weights import load


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
    parser.add_argument("--out", type=Path, required=True, help="folder; files of the same name are replaced")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Label the pictures; return 1 if some could not be."""
    cuda_device(arguments.device)
    model = load(arguments.model)
    if not isinstance(model, FCN) or model.info is None:
        raise ValueError(
            f"{arguments.model} is a classifier: it says what is in an image, not where; "
            f"minifcn train --from {arguments.model} makes a network that labels pixels of it"
        )
    model.to(arguments.device)
    paths = _images(arguments.images, arguments.out)
    for folder in ("masks", "overlays"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    failed = 0
    for path, name in _named(paths):
        try:
            image = read_image(path)
            _check_memory(model, path, image, arguments.device)
            labels = _labels(model, image, arguments.device)
        except (OSError, ValueError) as error:
            print(f"minifcn predict: {error}", file=sys.stderr)
            failed += 1
            continue
        except MemoryError:
            print(f"minifcn predict: {path}: it does not fit into memory", file=sys.stderr)
            failed += 1
            continue
        _write_mask(arguments.out / "masks" / f"{name}.png", labels, model.info)
        figure = viz.overlay(image, labels, model.info.class_names, model.info.palette)
        with atomic_write(arguments.out / "overlays" / f"{name}.png") as temporary:
            figure.savefig(temporary)
        areas = _areas(labels, model.info)
        print(f"{path}: {image.shape[1]} x {image.shape[0]} pixels, masks/{name}.png")
        for area in areas:
            if area["pixels"]:
                print(f"  {area['class']:22}  {area['pixels']:>12,}  {area['percent']:6.2f} %")
        rows += [{"image": str(path), "mask": f"masks/{name}.png", **area} for area in areas]
    _write_areas(arguments.out, rows)
    done = len(paths) - failed
    print(f"{done} of {len(paths)} pictures labelled; masks, overlays and areas: {arguments.out}")
    return 1 if failed else 0


def _images(given: list[Path], out: Path) -> list[Path]:
    """Return the files that are meant, and the pictures in folders but for those in `out`."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in IMAGE_SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and not file.resolve().is_relative_to(out.resolve())
        ]
        if not inside:
            raise ValueError(f"there are no pictures in the folder {path}")
        paths += inside
    return list(dict.fromkeys(paths))


def _named(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each path with a name of its own: its stem, with a number behind it where that is taken."""
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 2
        while name.casefold() in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name.casefold())
        yield path, name


def _check_memory(model: FCN, path: Path, image: Array, device: str) -> None:
    """Refuse an image that would not fit, before the system ends the program for it."""
    height, width = image.shape[:2]
    check_memory(
        inference_memory(model, (height, width)),
        f"{path}: labelling {width} x {height} pixels",
        "make it smaller",
        available=lambda: available_on(device),
    )


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


def _write_areas(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write the areas of all pictures for spreadsheets, and for programs."""
    text = io.StringIO()
    table = csv.DictWriter(text, ["image", "mask", "class", "pixels", "percent"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(out / "areas.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with atomic_write(out / "areas.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
