"""What the classes of a dataset are, and the text files that say so; lists of names, too."""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import Color, DataError, StrPath, open_data
from minifcn.data.images import IMAGE_SUFFIXES
from minifcn.palette import VOID
from minifcn.palette import palette as default_palette

_MAX_BYTES = 1 << 24  # of a text file: a list of half a million names
_MAX_LINES = 1_000_000
_MAX_LINE = 4_096  # characters, as of a path
_MAX_CLASS_LINE = 200  # the time of the patterns below grows with the square
_COMMENT = re.compile(r"(^|\s)#(\s.*)?$")
_COLORED = re.compile(r"(.*?)[\s,;:]+(?:#([0-9a-fA-F]{6})|(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3}))[\s,;:]*")
_CVAT = re.compile(r"([^:]+):(?:(\d+),(\d+),(\d+))?:[^:]*:[^:]*")  # name, colour, parts and actions
_HALF_COLORED = re.compile(  # two numbers in a row, or something with a "#" at the end
    r"(^|[\s,;:(])-?\d[\d.]*[\s,;:]+-?\d[\d.]*($|[\s,;:)])|(^|[\s,;:])#\S*$"
)
_IGNORED = "__ignore__"


class Classes(NamedTuple):
    """The classes of a dataset.

    Attributes:
        names: Names of the K classes.
        palette: Their colours, uint8 (K, 3).
        table: The label of each value in a mask, uint8 (256,): a class or `VOID`.
        known: Which values of a mask mean something, boolean (256,).
        colors: The value that each colour of a colour mask stands for; None if masks have values only.
        void_listed: Whether void is listed among the classes, so that much of it is intended.
        guessed: Whether the classes were found in the masks, not listed.
    """

    names: tuple[str, ...]
    palette: Array
    table: Array
    known: Array
    colors: dict[Color, int] | None = None
    void_listed: bool = False
    guessed: bool = False

    @classmethod
    def of(
        cls,
        names: tuple[str, ...],
        colors: Array | None = None,
        *,
        values: dict[int, int] | None = None,
        color_map: dict[Color, int] | None = None,
    ) -> "Classes":
        """Return classes with these names.

        Args:
            names: K names.
            colors: uint8 (K, 3); by default those of `minifcn.palette`.
            values: The label of each value in a mask; by default 0 to K - 1 stand for themselves. 255 is
                void unless it is listed here.
            color_map: See `colors` above.
        """
        table, known = np.full(256, VOID, np.uint8), np.zeros(256, bool)
        known[VOID] = True
        for value, label in (values or dict(enumerate(range(len(names))))).items():
            table[value], known[value] = label, True
        return cls(names, default_palette(len(names)) if colors is None else colors, table, known, color_map)


def read_classes(path: StrPath) -> Classes:
    r"""Return the classes that a text or JSON file lists.

    Text: one class per line, a name and, if masks are painted in colours, red, green and blue from 0 to 255,
    or #rrggbb; what follows "# " is a comment. Lines of CVAT's `labelmap.txt` are read: "cat:200,30,30::",
    with parts and actions, which are ignored, or "cat:::" without a colour.
    JSON: a list of names, a list of {"name": ..., "color": [r, g, b]}, or {name: [r, g, b], ...}.

    The first class has the value 0 in masks, the next has 1. One named "void" has a value but is not a class:
    its pixels are void. "__ignore__", the first line of LabelMe's lists, is void and has no value, so that
    the "_background_" after it is 0, as in LabelMe's masks. Neither needs a colour.

    Args:
        path: A JSON file if its suffix is .json, otherwise a text file.

    Raises:
        FileError: If it is none of these, a colour is malformed, a name or a colour occurs twice, only some
            classes have colours, or the number of classes is not from 1 to 255.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = path.write_text("sky 0 0 255\nvoid 0 0 0\nroad 90 90 90")
        >>> classes = read_classes(path)
        >>> classes.names, classes.table[:3].tolist()
        (('sky', 'road'), [0, 255, 1])
    """
    path = Path(path)
    entries = _json_entries(path) if path.suffix.lower() == ".json" else _text_entries(path)
    if not 1 <= len(entries) <= 255:
        raise DataError("unreadable", path, f"lists {len(entries)} classes, expected 1 to 255")
    names = [name for name, _ in entries]
    colors = [color for _, color in entries if color is not None]
    for what, values in (("name", names), ("colour", colors)):
        for position, value in enumerate(values):
            if value in values[:position]:
                raise DataError("unreadable", path, f"has the {what} {str(value)[:100]} twice")
    value_of = {name: value for value, name in enumerate(name for name in names if name != _IGNORED)}
    real = {name: color for name, color in entries if name in value_of and name.lower() != "void"}
    if not real:
        raise DataError("unreadable", path, "lists no class besides void")
    if colors and None in real.values():
        bare = next(name for name, color in real.items() if color is None)
        raise DataError("unreadable", path, f"gives colours to some classes but none to {bare[:100]!r}")
    label_of = {name: label for label, name in enumerate(real)}
    labels = {value: label_of.get(name, VOID) for name, value in value_of.items()}
    color_map = {color: value_of.get(name, VOID) for name, color in entries if color is not None} or None
    palette = np.array(list(real.values()), np.uint8) if colors else None
    classes = Classes.of(tuple(real), palette, values=labels, color_map=color_map)
    return classes._replace(void_listed=len(real) < len(entries))


Entry = tuple[str, Color | None]


def _text_entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for number, whole in read_lines(path):
        if len(whole) > _MAX_CLASS_LINE:
            reason = f"line {number} has {len(whole)} characters, expected at most {_MAX_CLASS_LINE}"
            raise DataError("unreadable", path, reason)
        line = _COMMENT.sub("", whole).strip()
        if not line:
            continue
        name, numbers = line, None
        if match := _CVAT.fullmatch(line):
            name, *parts = match.groups()
            numbers = list(map(int, parts)) if parts[0] else None
        elif match := _COLORED.fullmatch(line):
            name, digits, *parts = match.groups()
            numbers = list(bytes.fromhex(digits)) if digits else list(map(int, parts))
        color = _color(numbers)
        if color is None and (numbers or (not match and _HALF_COLORED.search(line))):
            reason = (
                f"line {number} has a malformed colour, expected a name and three integers from 0 to 255, "
                f"or a name and # with six hexadecimal digits: {line[:50]!r}"
            )
            raise DataError("unreadable", path, reason)
        entries.append((_name(name, path), color))
    return entries


def _json_entries(path: Path) -> list[Entry]:
    text = read_text(path)
    try:
        value = json.loads(text)
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
        checked = _color(color)
        if not isinstance(name, str) or (color is not None and checked is None):
            reason = f"each class must have a name, and a color [r, g, b] or none, got {str(item)[:80]}"
            raise DataError("unreadable", path, reason)
        entries.append((_name(name, path), checked))
    return entries


def _name(text: str, path: Path) -> str:
    name = text.strip()
    if len(name) <= _MAX_CLASS_LINE:  # the time that this takes may grow with the square
        name = unicodedata.normalize("NFC", name)
    if not name or len(name) > 100:
        raise DataError("unreadable", path, f"has a class name of {len(name)} characters, expected 1 to 100")
    return name


def _color(value: Any) -> Color | None:
    """Return a list of three integers from 0 to 255 as a colour, and None for anything else."""
    if isinstance(value, list) and all(type(part) is int and 0 <= part <= 255 for part in value):
        return (value[0], value[1], value[2]) if len(value) == 3 else None
    return None


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the contents of a file of at most so many bytes.

    Raises:
        OSError: If the file cannot be opened.
        DataError: If there is no such file, it is no regular file, or it is too large.
    """
    try:
        with open_data(path) as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise DataError("missing", path, "does not exist") from None
    if len(data) > limit:
        raise DataError("unreadable", path, f"is larger than {limit >> 20} MB")
    return data


def read_text(path: Path) -> str:
    """Return the contents of a text file in UTF-8 or, as some Windows programs write it, UTF-16.

    Raises:
        OSError: If the file cannot be opened.
        DataError: If there is no such file, it is too large, or it is not text.
    """
    data = read_bytes(path, _MAX_BYTES)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("unreadable", path, f"is not text in UTF-8: byte {error.start} is wrong") from None
    if "\0" in text:
        raise DataError("unreadable", path, "is not text: it contains null characters")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number (counted from 1) and the text of each line that is not blank.

    Raises:
        DataError: As `read_text`, or if a line is too long, or there are too many.
    """
    text = read_text(path)
    if (count := text.count("\n")) > _MAX_LINES:
        raise DataError("unreadable", path, f"has {count:,} lines, expected at most {_MAX_LINES:,}")
    for number, whole in enumerate(text.splitlines(), 1):
        if len(whole) > _MAX_LINE:
            reason = f"line {number} has {len(whole)} characters, expected at most {_MAX_LINE}"
            raise DataError("unreadable", path, reason)
        if line := whole.strip():
            yield number, line


def read_names(path: Path) -> list[str]:
    """Return the names in a list, one per line, without folders and image suffixes.

    Raises:
        DataError: If the file is not a list of different names.
    """
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        name = unicodedata.normalize("NFC", stem(re.split(r"[\\/]", line)[-1]))
        if name in ("", ".", ".."):
            raise DataError("unreadable", path, f"line {number} is not a name: {line[:50]!r}")
        if name in lines:
            raise DataError("unreadable", path, f"line {number} repeats {name[:100]!r} of line {lines[name]}")
        lines[name] = number
    return list(lines)


def stem(name: str) -> str:
    """Return a file name without the suffix of an image; other dots belong to the name."""
    base, dot, suffix = name.rpartition(".")
    return base if base and dot + suffix.lower() in IMAGE_SUFFIXES else name
