"""Short films and figures with sliders for notebooks: frames that are drawn in advance, and a player.

Matplotlib's own player loads its icons from the network, starts without a click and has a new random name
each time. This one needs no network, starts paused, and consists of the same bytes each time, so that
notebooks do not change when they are run again.
"""

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from minifcn.viz._png import DPI, png_of, small_png

MOST_FRAMES = 50
_DPI = 100
_GAP = 6  # pixels between the frames of a strip

_PLAYER = Template(Path(__file__).with_name("player.html").read_text(encoding="utf-8").rstrip())


class Player:
    """Frames with captions, and the HTML that shows them; the base of `Film` and `Sliders`."""

    captions: Sequence[str]
    choices: Mapping[str, Sequence[Any]] = {}
    dpi = _DPI

    def figure(self, k: int) -> Figure:
        """Return frame k as a figure."""
        raise NotImplementedError

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The frames as PNG files."""
        return tuple(png_of(self.figure(k), self.dpi) for k in range(len(self.captions)))

    def html(self) -> str:
        """Return the player as HTML; without JavaScript it shows the first frame."""
        encoded = [base64.b64encode(frame).decode("ascii") for frame in self.frames]
        name = hashlib.sha256("".join([*encoded, *self.choices]).encode()).hexdigest()[:12]
        return _PLAYER.substitute(
            name=name,
            first=encoded[0],
            alt=html.escape(self.captions[0]),
            frames=json.dumps(encoded),
            captions=_json(self.captions),
            sliders=_json([[name, *values] for name, values in self.choices.items()]),
        )

    def strip(self, most: int = 4) -> bytes:
        """Return up to `most` frames, from the first to the last, two in a row, as one PNG file."""
        from PIL import Image

        count = min(most, len(self.frames))
        last = len(self.frames) - 1
        chosen = [self.frames[round(k * last / max(count - 1, 1))] for k in range(count)]
        pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in chosen]
        width, height = (max(sides) + _GAP for sides in zip(*(one.size for one in pictures), strict=True))
        columns, rows = min(2, count), -(-count // 2)
        strip = Image.new("RGB", (columns * width - _GAP, rows * height - _GAP), "white")
        for k, picture in enumerate(pictures):
            strip.paste(picture, (k % columns * width, k // columns * height))
        return small_png(strip)


@dataclass(eq=False)
class Film(Player):
    """A few frames, each with a caption.

    Attributes:
        draw: `draw(figure, k)` draws frame k into an empty figure.
        captions: One for each frame, a sentence or a formula that describes the frame.
        size: Width and height of a frame in inches.

    Raises:
        ValueError: If there is no frame, or more than 50.

    Example:
        >>> def draw(figure, k):
        ...     figure.text(0.5, 0.5, str(k))
        >>> film = Film(draw, ["zero", "one", "two"], (2, 1))
        >>> len(film.frames), film.html().count("<script>"), film.html() == film.html()
        (3, 1, True)
    """

    draw: Callable[[Figure, int], None]
    captions: Sequence[str]
    size: tuple[float, float]

    def __post_init__(self) -> None:
        count = len(self.captions)
        if not 1 <= count <= MOST_FRAMES:
            raise ValueError(f"a film has 1 to {MOST_FRAMES} frames, got {count}: choose smaller arrays")

    def figure(self, k: int) -> Figure:
        """Return frame k as a figure."""
        figure = Figure(figsize=self.size, dpi=_DPI)
        self.draw(figure, k)
        return figure


class Sliders(Player):
    """A figure that depends on a few numbers, with a slider for each.

    All figures are drawn in advance, so that the sliders work without a kernel, and without other packages.

    Args:
        draw: `draw(name=value, ...)` returns the figure for these values, and a sentence that describes it.
        choices: The values of each slider by name, at most 50 combinations in all. The last one changes
            fastest in `captions` and `frames`.

    Raises:
        ValueError: If a slider has no values, or there are more than 50 combinations.

    Example:
        >>> import numpy as np
        >>> from minifcn.viz import panels
        >>> def window(start, size):
        ...     box = {"x": [(0, start, 1, size)]}
        ...     return panels({"x": np.arange(6)}, boxes=box), f"cells {start} to {start + size - 1}"
        >>> Sliders(window, {"start": (0, 1, 2), "size": (1, 3)}).captions[-1]
        'cells 2 to 4'
    """

    dpi = DPI

    def __init__(self, draw: Callable[..., tuple[Figure, str]], choices: Mapping[str, Sequence[Any]]):
        self.choices = {name: list(values) for name, values in choices.items()}
        sizes = {name: len(values) for name, values in self.choices.items()}
        if not 1 <= math.prod(sizes.values()) <= MOST_FRAMES:
            raise ValueError(f"choices must have 1 to {MOST_FRAMES} combinations, got {sizes}")
        drawn = [
            draw(**dict(zip(self.choices, values, strict=True))) for values in product(*self.choices.values())
        ]
        self._figures = [figure for figure, _ in drawn]
        self.captions = [says for _, says in drawn]

    def figure(self, k: int) -> Figure:
        """Return frame k as a figure."""
        return self._figures[k]


def _json(value: Any) -> str:
    """Return a value as JSON that can stand in a script element."""
    return json.dumps(value).replace("</", "<\\/")
