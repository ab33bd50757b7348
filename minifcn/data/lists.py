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
from minifcn.data.errors import Color, DataError
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.palette import VOID, palette

_MAX_BYTES = 1 << 26  # of a text file: a list of half a million names
_MAX_LINE = 200  # characters of a class: the patterns below take time that grows with the square
_COMMENT = re.compile(r"(^|\s)#(\s.*)?$")
_COLORED = re.compile(r"(.*?)[\s,;:]+(?:#([0-9a-fA-F]{6})|(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3}))[\s,;:]*")
_HALF_COLORED = re.compile(  # two numbers one after the other, or something with a "#" at the end
    r"(^|[\s,;:(])-?\d[\d.]*[\s,;:]+-?\d[\d.]*($|[\s,;:)])|(^|[\s,;:])#\S*$"
)
_IGNORED = "__ignore__"


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

    Text: a name a line, and after it, if masks are painted in colours, red, green and blue from 0 to 255, or
    #rrggbb; what follows "# " is a comment. The lines of CVAT's `labelmap.txt` ("cat:200,30,30::") are read.
    JSON: a list of names, a list of {"name": ..., "color": [r, g, b]}, or {name: [r, g, b], ...}.

    The first class is number 0 in masks of numbers, the next is 1. One that is called "void" has a number but
    is no class: its pixels are left out. "__ignore__", with which the lists of LabelMe begin, is left out and
    has no number, so that the "_background_" below it is 0, as in LabelMe's masks. Neither needs a colour.

    Args:
        path: A file named *.json, or text otherwise.

    Raises:
        DataError: If it is none of these, a colour is malformed, a name or a colour occurs twice, only some
            classes have colours, or there are no classes or more than 255.
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
    numbered = [name for name in names if name != _IGNORED]
    real = {name: color for name, color in entries if name in numbered and name.lower() != "void"}
    if not real:
        raise DataError("unreadable", path, "lists no class besides void")
    if colors and None in real.values():
        bare = next(name for name, color in real.items() if color is None)
        raise DataError("unreadable", path, f"gives colours to some classes but none to {bare[:100]!r}")
    numbers = {name: number for number, name in enumerate(numbered)}
    order = list(real)
    labels = {number: order.index(name) if name in real else VOID for name, number in numbers.items()}
    if not colors:
        return Classes.of(tuple(real), numbers=labels)
    color_map = {color: numbers.get(name, VOID) for name, color in entries if color is not None}
    return Classes.of(
        tuple(real), np.array(list(real.values()), np.uint8), numbers=labels, color_map=color_map
    )


Entry = tuple[str, Color | None]


def _text_entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for number, whole in read_lines(path):
        if len(whole) > _MAX_LINE:
            raise DataError(
                "unreadable", path, f"line {number} has {len(whole)} characters, expected {_MAX_LINE} at most"
            )
        line = _COMMENT.sub("", whole).strip()
        if not line:
            continue
        entry = _text_entry(line)
        if entry is None:
            raise DataError(
                "unreadable",
                path,
                f"line {number} has a malformed colour, expected a name and three numbers from 0 to 255, "
                f"or a name and # with six hex digits: {line[:50]!r}",
            )
        entries.append((_name(entry[0], path), entry[1]))
    return entries


def _text_entry(line: str) -> Entry | None:
    """Return the name in a line and its colour, or None if that is malformed."""
    match = _COLORED.fullmatch(line)
    if match is None:
        return None if _HALF_COLORED.search(line) else (line, None)
    name, digits, *parts = match.groups()
    color = _color(list(bytes.fromhex(digits)) if digits else [int(part) for part in parts])
    return None if color is None else (name, color)


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
