"""Options that several commands share."""

import argparse

DATA = "digits, camvid:PATH, voc:PATH or folder:PATH"
"""What a dataset may be."""


BANDS = "bands of the images to use as red, green and blue, or one as grey, counted from 0 (default: all)"
"""What the option for bands means."""


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


def bands(text: str) -> tuple[int, ...]:
    """Read numbers of bands, separated by commas.

    Example:
        >>> bands("3,0,1")
        (3, 0, 1)
    """
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() and len(part) < 6 for part in parts):
        raise argparse.ArgumentTypeError(f"expected one or three bands such as 3,0,1, got {text[:50]!r}")
    return tuple(map(int, parts))
