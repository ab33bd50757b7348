"""The one function that prints, and how it shows texts that come from files and other programs.

Names of files, classes and tensors, messages of servers and the like may contain characters that move the
cursor, change colours, reverse the direction of writing, or begin a line that looks like one of ours.
"""

import sys
from contextlib import nullcontext
from typing import TextIO


def escape(text: object) -> str:
    r"""Return a text with backslash escapes in place of all characters that are not printable.

    Those are control characters with newlines, separators other than the space, marks of direction, and what
    stands for bytes of a file name that are no text. Letters of all scripts stay as they are.

    Example:
        >>> print(escape("böden \x1b[31m\n\udcff"))
        böden \x1b[31m\n\udcff
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def brief(value: object) -> str:
    """Return the repr of a value for a message, cut off after 60 characters.

    Example:
        >>> brief("abc"), len(brief("a" * 999))
        ("'abc'", 61)
    """
    try:
        text = repr(value)
    except ValueError:  # of an integer with more than 4,300 digits
        text = f"{value:x}" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def say(*lines: object) -> None:
    """Write lines to standard error, as `show` does to standard output.

    Example:
        >>> say("warning: nothing was labelled")
    """
    _write(sys.stderr, lines)


def show(*lines: object) -> None:
    r"""Write lines to standard output, without disturbing a progress bar, and flush it.

    Each argument is exactly one line: what would begin another one, or control the terminal, is escaped. So
    are characters that the encoding of the stream lacks.

    Example:
        >>> show("one", "t\nwo")
        one
        t\nwo
    """
    _write(sys.stdout, lines)
    sys.stdout.flush()


def _write(stream: TextIO, lines: tuple[object, ...]) -> None:
    text = "".join(f"{escape(line)}\n" for line in lines)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    bars = sys.modules.get("tqdm")  # without it there is no bar, and its import would take time
    with bars.tqdm.external_write_mode(file=stream) if bars else nullcontext():
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
