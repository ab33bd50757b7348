"""Pictures in a notebook: small files, the same bytes every time, and one sentence that says what to see."""

import base64
import io
import sys
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from minifcn.viz.film import Film

DPI = 96
_COLORS = 128


def show(picture: "Figure | Film", says: str) -> None:
    """Show a picture in a notebook, and print one sentence that says what there is to see.

    The sentence is the picture's text for those who cannot see it, too. Outside a notebook only the sentence
    is printed.

    Args:
        picture: A figure, or a film, which is followed by a strip of some of its frames.
        says: The sentence.

    Raises:
        ValueError: If the sentence is empty.

    Example:
        >>> import numpy as np
        >>> from minifcn.viz import panels
        >>> show(panels({"x": np.eye(3)}), "Ones stand on the diagonal, zeros everywhere else.")
        Ones stand on the diagonal, zeros everywhere else.
    """
    if not says.strip():
        raise ValueError("says must be a sentence that tells what to see in the picture")
    if isinstance(picture, Figure):
        _display_png(png_of(picture), says)
    else:
        _display({"text/html": picture.html(), "text/plain": says}, {})
        _display_png(picture.strip(), f"{says} (Some frames of the film above.)")
    print(says)


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
    indexed = picture.quantize(_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed.save(small, format="PNG", optimize=True)
    return small.getvalue()


def _display_png(png: bytes, says: str) -> None:
    encoded = base64.b64encode(png).decode("ascii")
    _display({"image/png": encoded, "text/plain": says}, {"image/png": {"alt": says}})


def _display(data: dict[str, str], metadata: dict[str, Any]) -> None:
    """Hand data by MIME type to the notebook, if there is one."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(data, raw=True, metadata=metadata)
