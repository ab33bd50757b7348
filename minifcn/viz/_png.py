"""Figures as small PNG files, with the same bytes each time."""

import io
from typing import Any

from matplotlib.figure import Figure

DPI = 96
_COLORS = 128
_DRAWING = 4096
"""An image with more colours than this is treated as a photograph."""


def png_of(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as a small PNG file."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    with Image.open(drawn) as picture:
        return small_png(picture.convert("RGB"))


def small_png(picture: Any) -> bytes:
    """Return one of Pillow's RGB images as a PNG file with a palette."""
    from PIL import Image

    small = io.BytesIO()
    # Median cut is better for photographs, but a colour of few pixels, as in a legend, may become grey.
    drawing = picture.getcolors(_DRAWING) is not None
    method = Image.Quantize.MAXCOVERAGE if drawing else Image.Quantize.MEDIANCUT
    indexed = picture.quantize(_COLORS, method=method, dither=Image.Dither.NONE)
    indexed.save(small, format="PNG", optimize=True)
    return small.getvalue()
