"""Colours of classes, and the label for pixels without a class.

    >>> import minifcn as mf
    >>> mf.palette.palette(2).tolist(), mf.palette.VOID
    ([[48, 48, 48], [230, 159, 0]], 255)

The first 21 colours can be distinguished by colour-blind readers. They are a dark grey, the seven colours of
Okabe and Ito, and colours of Paul Tol's schemes that are neither very dark nor very pale. Each of the latter
is the one farthest from all colours before it, in CIELAB, under normal vision and under simulated protanopia
and deuteranopia. The colours differ in lightness as well as in hue.

Sources: M. Okabe, K. Ito, "Color Universal Design" (2008); P. Tol, "Colour Schemes", SRON technical note
SRON/EPS/TN/09-002 (2021); for the colours after these, M. Roberts, "The unreasonable effectiveness of
quasirandom sequences" (2018).
"""

import colorsys

import numpy as np
import numpy.typing as npt

VOID = 255
"""The label of pixels without a class, which loss, gradient and metrics ignore."""

VOID_COLOR = (255, 255, 255)
"""The colour of `VOID`, white; no class has it."""

_CHOSEN = (
    "303030",  # class 0, usually the background: less conspicuous than the others
    *("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7"),  # Okabe and Ito
    *("CAE0AB", "225522", "882E72", "99DDFF", "FFAABB", "DDCC77", "EE6677"),  # Tol
    *("999933", "882255", "004488", "117733", "44BB99", "CCEEFF"),
)
_RHO = 1.2207440846057596
"""The positive root of x**4 == x + 1: multiples of its negative powers fill a cube evenly (Roberts)."""


def _color(index: int) -> tuple[int, int, int]:
    if index < len(_CHOSEN):
        red, green, blue = bytes.fromhex(_CHOSEN[index])
        return red, green, blue
    hue, light, strong = (index / _RHO**power % 1 for power in (1, 2, 3))
    rgb = colorsys.hls_to_rgb(hue, 0.25 + 0.55 * light, 0.3 + 0.6 * strong)
    red, green, blue = (round(255 * value) for value in rgb)
    return red, green, blue


def palette(num_classes: int) -> npt.NDArray[np.uint8]:
    """Return one colour for each class; the first colours are the same for all numbers of classes.

    Args:
        num_classes: Number of classes, 1 to 255; 255 itself is the label of void.

    Returns:
        uint8 array (num_classes, 3), RGB. Class 0, usually the background, is dark grey. The next 20 colours
        are chosen for colour-blind readers, the others are generated.

    Raises:
        ValueError: If `num_classes` is not an integer from 1 to 255.

    Example:
        >>> palette(3).tolist()
        [[48, 48, 48], [230, 159, 0], [86, 180, 233]]
    """
    if not isinstance(num_classes, int | np.integer) or not 1 <= num_classes <= VOID:
        raise ValueError(f"num_classes must be an integer from 1 to {VOID}, got {num_classes!r}")
    return np.array([_color(index) for index in range(num_classes)], np.uint8)
