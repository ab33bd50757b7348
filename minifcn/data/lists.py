"""Text files of a dataset: lists of names, and the names and colours of classes."""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.data.masks import Color
from minifcn.palette import VOID, palette

_MAX_BYTES = 1 << 26  # of a text file: a list of half a million names
_COLORED = re.compile(r"(.*?)[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})")


def read_text(path: Path) -> str:
    """Return a text file, in UTF-8 or, as some Windows programs write it, UTF-16.

    Raises:
        OSError: If there is no such file.
        DataError: If it is too large, or no text.
    """
    if not path.is_file():
        raise DataError("missing", path, "is not there, or is not a file")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError("unreadable", path, f"is longer than {_MAX_BYTES >> 20} MB")
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("unreadable", path, f"is no text in UTF-8: byte {error.start} is wrong") from None
    if "\0" in text:
        raise DataError("unreadable", path, "is no text")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number, from 1 on, and text of each line of a file that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def read_names(path: Path) -> list[str]:
    """Return the names in a list, one a line, without folders and without an image's suffix.

    Raises:
        DataError: If the file is no list of different names.
    """
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        name = stem(re.split(r"[\\/]", line)[-1])
        if name in ("", ".", ".."):
            raise DataError("unreadable", path, f"line {number} is no name: {line[:50]!r}")
        if name in lines:
            raise DataError("unreadable", path, f"line {number} repeats {name[:100]!r} of line {lines[name]}")
        lines[name] = number
    return list(lines)


def stem(name: str) -> str:
    """Return a file's name without the suffix of an image; other dots belong to the name."""
    base, dot, suffix = name.rpartition(".")
    return base if base and dot + suffix.lower() in IMAGE_SUFFIXES else name


class Classes(NamedTuple):
    """The classes of a dataset.

    Attributes:
        names: Of the K classes.
        palette: Their colours, uint8 (K, 3).
        table: What each number in a mask means, uint8 (256,): the label, or `VOID`.
        known: Which numbers mean something, boolean (256,).
        colors: The number that each colour in a colour mask stands for; None if only numbers count.
    """

    names: tuple[str, ...]
    palette: Array
    table: Array
    known: Array
    colors: dict[Color, int] | None = None

    @classmethod
    def of(
        cls,
        names: tuple[str, ...],
        colors: Array | None = None,
        *,
        numbers: dict[int, int] | None = None,
        color_map: dict[Color, int] | None = None,
    ) -> "Classes":
        """Return classes with these names.

        Args:
            names: K names.
            colors: uint8 (K, 3); chosen by `minifcn.palette` if left out.
            numbers: The label that each number in a mask means; 0 to K - 1 mean themselves if left out. 255
                is void unless said otherwise.
            color_map: See `colors` above.
        """
        table, known = np.full(256, VOID, np.uint8), np.zeros(256, bool)
        known[VOID] = True
        for number, label in (numbers or {label: label for label in range(len(names))}).items():
            table[number], known[number] = label, True
        return cls(names, palette(len(names)) if colors is None else colors, table, known, color_map)


def read_classes(path: Path) -> Classes:
    """Return the classes that a text or JSON file lists.

    Text: a name a line, and after it, if masks are painted in colours, red, green and blue from 0 to 255.
    JSON: a list of names, a list of {"name": ..., "color": [r, g, b]}, or {name: [r, g, b], ...}. The first
    class is number 0 in masks of numbers. One that is called "void" is none: its pixels are left out.

    Args:
        path: A file named *.json, or text otherwise.

    Raises:
        DataError: If it is none of these, a name or a colour occurs twice, only some classes have colours, or
            there are no classes or more than 255.
    """
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _text_entries(path)
    if not 1 <= len(entries) <= 255:
        raise DataError("unreadable", path, f"lists {len(entries)} classes, expected 1 to 255")
    names = [name for name, _ in entries]
    colors = [color for _, color in entries if color is not None]
    for what, values in (("name", names), ("colour", colors)):
        for position, value in enumerate(values):
            if value in values[:position]:
                raise DataError("unreadable", path, f"has the {what} {str(value)[:100]} twice")
    if colors and len(colors) < len(names):
        bare = next(name for name, color in entries if color is None)
        raise DataError("unreadable", path, f"gives colours to some classes but none to {bare[:100]!r}")
    real = [name for name in names if name.lower() != "void"]
    if not real:
        raise DataError("unreadable", path, "lists no class besides void")
    labels = {
        number: VOID if name.lower() == "void" else real.index(name) for number, name in enumerate(names)
    }
    if not colors:
        return Classes.of(tuple(real), numbers=labels)
    shown = [color for name, color in entries if name.lower() != "void"]
    color_map = {color: number for number, color in enumerate(colors)}
    return Classes.of(tuple(real), np.array(shown, np.uint8), numbers=labels, color_map=color_map)


Entry = tuple[str, Color | None]


def _text_entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for number, line in read_lines(path):
        match = _COLORED.fullmatch(line)
        if match is None:
            entries.append((_name(line, path), None))
            continue
        color = _color([int(part) for part in match.groups()[1:]])
        if color is None:
            raise DataError("unreadable", path, f"line {number} has a colour beyond 0 to 255: {line[:50]!r}")
        entries.append((_name(match[1], path), color))
    return entries


def _json_entries(path: Path) -> list[Entry]:
    try:
        value = json.loads(read_text(path))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError("unreadable", path, f"is not JSON: {str(error)[:100]}") from None
    if isinstance(value, dict):
        value = [{"name": name, "color": color} for name, color in value.items()]
    if not isinstance(value, list):
        raise DataError("unreadable", path, "must be a list of classes, or an object of names and colours")
    entries: list[Entry] = []
    for item in value:
        entry = item if isinstance(item, dict) else {"name": item}
        name, color = entry.get("name"), entry.get("color")
        checked = None if color is None else _color(color)
        if not isinstance(name, str) or (color is not None and checked is None):
            raise DataError(
                "unreadable",
                path,
                f"each class must have a name, and a color [r, g, b] or none, got {str(item)[:80]}",
            )
        entries.append((_name(name, path), checked))
    return entries


def _name(text: str, path: Path) -> str:
    name = unicodedata.normalize("NFC", text.strip())
    if not name or len(name) > 100:
        raise DataError("unreadable", path, f"has a class name of {len(name)} characters, expected 1 to 100")
    return name


def _color(value: Any) -> Color | None:
    """Return three whole numbers from 0 to 255 as a colour, or None if the value is something else."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(type(part) is int and 0 <= part <= 255 for part in value):
        return None
    return value[0], value[1], value[2]
