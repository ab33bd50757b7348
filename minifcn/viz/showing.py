"""Figures in a notebook, each with a sentence that describes it."""

import base64
import sys
from typing import Any

from matplotlib.figure import Figure

from minifcn.viz._png import png_of
from minifcn.viz.film import Player


def show(picture: Figure | Player, says: str) -> None:
    """Display a figure in a notebook, and print a sentence that describes it.

    The sentence is also the alternative text of the figure. Outside a notebook, only the sentence is printed.

    Args:
        picture: A figure, or a film or sliders, which are followed by a strip of some of their frames.
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
        raise ValueError(f"says must be a sentence that describes the figure, got {says!r}")
    if isinstance(picture, Figure):
        _display_png(png_of(picture), says)
    else:
        _display({"text/html": picture.html(), "text/plain": says}, {})
        _display_png(picture.strip(), f"{says} (Some of the frames above.)")
    print(says)


def _display_png(png: bytes, says: str) -> None:
    encoded = base64.b64encode(png).decode("ascii")
    _display({"image/png": encoded, "text/plain": says}, {"image/png": {"alt": says}})


def _display(data: dict[str, str], metadata: dict[str, Any]) -> None:
    if in_notebook():
        sys.modules["IPython"].display.display(data, raw=True, metadata=metadata)


def in_notebook() -> bool:
    """Return whether the code runs in a notebook (or another IPython shell)."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
