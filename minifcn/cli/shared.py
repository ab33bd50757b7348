"""What several commands share: options, and files that are written as a whole."""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minifcn import viz
from minifcn.backend import Array
from minifcn.data import Dataset
from minifcn.files import atomic_write

DATA = "digits, camvid:PATH, voc:PATH or folder:PATH"
"""What a dataset may be."""


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option for the device."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT as (height, width).

    Example:
        >>> size("500x375")
        (375, 500)
    """
    width, _, height = text.strip().lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 10**6 and 0 < int(height) < 10**6):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 500x375, got {text[:50]!r}")
    return int(height), int(width)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of Matplotlib as PNG."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def save_strips(dataset: Dataset, indices: Iterable[int], predictions: Sequence[Array], path: Path) -> None:
    """Draw items of a dataset, each with its labels and its prediction."""
    images, labels = zip(*(dataset[index] for index in indices), strict=True)
    names, palette = dataset.class_names, np.asarray(dataset.palette)
    save_figure(viz.prediction_strips(images, labels, predictions, names, palette), path)


def save_json(content: Any, path: Path, indent: int = 2) -> None:
    """Write an object as JSON."""
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")
