"""Short films for notebooks, with buttons to step through the frames or to play them.

Matplotlib's own player loads its icons from the network, starts without a click and has a new random name
each time. This one needs no network, starts paused, and consists of the same bytes each time, so that
notebooks do not change when they are run again.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from minifcn.viz._png import png_of, small_png

MOST_FRAMES = 50
_DPI = 100
_GAP = 6  # pixels between the frames of a strip

_PLAYER = Template(Path(__file__).with_name("player.html").read_text(encoding="utf-8").rstrip())


@dataclass(eq=False)
class Film:
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

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The frames as PNG files."""
        return tuple(png_of(self.figure(k), _DPI) for k in range(len(self.captions)))

    def figure(self, k: int) -> Figure:
        """Return frame k as a figure."""
        figure = Figure(figsize=self.size, dpi=_DPI)
        self.draw(figure, k)
        return figure

    def html(self) -> str:
        """Return the player as HTML; without JavaScript it shows the first frame."""
        encoded = [base64.b64encode(frame).decode("ascii") for frame in self.frames]
        name = hashlib.sha256("".join(encoded).encode()).hexdigest()[:12]
        return _PLAYER.substitute(
            name=name,
            first=encoded[0],
            alt=html.escape(self.captions[0]),
            frames=json.dumps(encoded),
            captions=json.dumps(self.captions).replace("</", "<\\/"),
        )

    def strip(self, most: int = 4) -> bytes:
        """Return up to `most` frames, from the first to the last, two in a row, as one PNG file."""
        from PIL import Image

        count = min(most, len(self.frames))
        last = len(self.frames) - 1
        chosen = [self.frames[round(k * last / max(count - 1, 1))] for k in range(count)]
        pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in chosen]
        width, height = (side + _GAP for side in pictures[0].size)
        columns, rows = min(2, count), -(-count // 2)
        strip = Image.new("RGB", (columns * width - _GAP, rows * height - _GAP), "white")
        for k, picture in enumerate(pictures):
            strip.paste(picture, (k % columns * width, k // columns * height))
        return small_png(strip)
