"""The picture of an exercise: yours, expected, difference."""

import base64
import io
import sys
from typing import Any

import numpy as np

from minifcn.backend import Array

DIFFERENCE = "difference"
_MOST_NUMBERS = 10  # cells along an axis up to which numbers are written into them


def show_comparison(yours: Any, expected: Any, case: str = "") -> None:
    """Draw two results side by side, and their difference, in a notebook; print what is to be seen.

    Of more than two axes the first plane is drawn; what has no rows and columns is not drawn, and neither is
    anything outside a notebook.

    Args:
        yours: The learner's result, or `None` if there is none yet.
        expected: The right one.
        case: The case that is drawn, in words, if that is not clear.
    """
    ipython = sys.modules.get("IPython")
    right, mine = _plane(expected), _plane(yours)
    if ipython is None or ipython.get_ipython() is None or right is None:
        return
    if yours is None:
        grids, says = {"expected": right}, "The picture shows what is expected."
    elif mine is None or mine.shape != right.shape:
        grids = {"expected": right} if mine is None else {"yours": mine, "expected": right}
        says = "The picture shows what is expected; yours has another shape."
    else:
        grids = {"yours": mine, "expected": right, DIFFERENCE: mine - right}
        says = "From left to right: yours, what is expected, and the difference, to be 0 everywhere."
    says += f" The case drawn is {case}." if case else ""
    encoded = base64.b64encode(comparison_png(grids)).decode("ascii")
    ipython.display.display(
        {"image/png": encoded, "text/plain": says}, raw=True, metadata={"image/png": {"alt": says}}
    )
    print(says)


def comparison_png(grids: dict[str, Array]) -> bytes:
    """Draw grids (H, W) side by side: results in one scale, their difference by its size, 0 the least."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    tint = LinearSegmentedColormap.from_list("tint", ["white", "#9CC7E8"])
    results = np.concatenate([grid.ravel() for name, grid in grids.items() if name != DIFFERENCE])
    finite = results[np.isfinite(results)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    height, width = (max(sizes) for sizes in zip(*(grid.shape for grid in grids.values()), strict=True))
    inches = min(0.32 * max(width, 4), 2.4)
    size = ((inches + 0.1) * len(grids), min(inches * height / max(width, 4), 3.0) + 0.5)
    figure = Figure(figsize=size, dpi=96, layout="constrained")
    panels = figure.subplots(1, len(grids), squeeze=False).flat
    for axes, (name, grid) in zip(panels, grids.items(), strict=True):
        most = float(np.abs(grid[np.isfinite(grid)]).max(initial=0)) or 1.0
        limits = (0.0, most) if name == DIFFERENCE else (low, high if high > low else low + 1)
        written = max(grid.shape) <= _MOST_NUMBERS
        shown = np.ma.masked_invalid(np.abs(grid) if name == DIFFERENCE else grid)
        axes.imshow(shown, cmap=tint if written else "gray", vmin=limits[0], vmax=limits[1])
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=9)
        if written:
            for (row, col), value in np.ndenumerate(grid):
                axes.text(col, row, f"{value:.3g}", ha="center", va="center", fontsize=7)
        else:
            axes.set_xlabel(f"{np.nanmin(grid):.3g} to {np.nanmax(grid):.3g}", fontsize=8)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _plane(value: Any) -> Array | None:
    """Return the first plane (H, W) of a result; `None` if there is none with more than one number."""
    if isinstance(value, tuple | list):
        planes = [plane for plane in map(_plane, value) if plane is not None]
        return planes[0] if planes else None
    if not isinstance(value, np.ndarray) or value.size < 2 or value.dtype.kind not in "biuf":
        return None
    plane = value.astype(np.float64)
    while plane.ndim > 2:
        plane = plane[0]
    return np.atleast_2d(plane)
