"""What several commands share: options, and JSON files."""

import argparse
import json
from pathlib import Path
from typing import Any

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


def save_json(content: Any, path: Path, indent: int = 2) -> None:
    """Write an object as JSON."""
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")
