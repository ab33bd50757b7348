"""Films of a few frames for notebooks: paused at first, stepped by hand or played, with a strip beside them.

Matplotlib's own player fetches the pictures on its buttons from the network, starts by itself and gets a new
random name each time. This one needs nothing, waits, and is the same bytes every time.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from string import Template

from matplotlib.figure import Figure

from minifcn.viz._png import png_of, small_png

MOST_FRAMES = 50
_DPI = 100

_PLAYER = Template("""<div data-film="$name">
<div style="max-width:100%"><img data-part="picture" src="data:image/png;base64,$first" alt="$alt"></div>
<p data-part="caption" style="font-family:monospace;margin:2px 0">$alt</p>
<div data-part="controls"><em>Run this cell to get the buttons that play the film.</em></div>
</div>
<script>
document.querySelectorAll('[data-film="$name"]').forEach(function (film) {
  if (film.dataset.ready) return;
  film.dataset.ready = "yes";
  var frames = $frames, captions = $captions, now = 0, timer = null;
  function part(name) { return film.querySelector('[data-part="' + name + '"]'); }
  function make(tag, label, act) {
    var it = document.createElement(tag);
    it.textContent = tag === "button" ? label : "";
    it.setAttribute("aria-label", label);
    it.addEventListener(tag === "button" ? "click" : "input", act);
    it.style.marginRight = "4px";
    part("controls").appendChild(it);
    return it;
  }
  function go(to) {
    now = Math.max(0, Math.min(frames.length - 1, to));
    part("picture").src = "data:image/png;base64," + frames[now];
    part("picture").alt = part("caption").textContent = captions[now];
    slider.value = now;
    count.textContent = "frame " + (now + 1) + " of " + frames.length;
  }
  function stop() { clearInterval(timer); timer = null; play.textContent = "play"; }
  function step(by) { return function () { stop(); go(now + by); }; }
  part("controls").textContent = "";
  make("button", "first", step(-frames.length));
  make("button", "back", step(-1));
  var play = make("button", "play", function () {
    if (timer) { stop(); return; }
    if (now === frames.length - 1) go(0);
    play.textContent = "pause";
    timer = setInterval(function () {
      if (now === frames.length - 1 || !film.isConnected) stop(); else go(now + 1);
    }, 900);
  });
  make("button", "next", step(1));
  var slider = make("input", "frame", function () { stop(); go(Number(slider.value)); });
  slider.type = "range"; slider.min = 0; slider.max = frames.length - 1;
  slider.style.verticalAlign = "middle";
  slider.dataset.lmSuppressShortcuts = "true";  // JupyterLab leaves its arrow keys alone
  var count = document.createElement("span");
  part("controls").appendChild(count);
  go(0);
});
</script>""")


class Film:
    """A few frames, each with a caption.

    Args:
        draw: `draw(figure, k)` draws frame k into an empty figure.
        captions: One for each frame; they say in words, or as a formula, what the frame shows.
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

    def __init__(
        self, draw: Callable[[Figure, int], None], captions: Sequence[str], size: tuple[float, float]
    ) -> None:
        if not 1 <= len(captions) <= MOST_FRAMES:
            raise ValueError(
                f"a film has 1 to {MOST_FRAMES} frames, got {len(captions)}: choose smaller arrays"
            )
        self.captions = tuple(captions)
        self._draw = draw
        self._size = size

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The frames as PNG files."""
        return tuple(png_of(self.figure(k), _DPI) for k in range(len(self.captions)))

    def figure(self, k: int) -> Figure:
        """Return frame k as a figure."""
        figure = Figure(figsize=self._size, dpi=_DPI)
        self._draw(figure, k)
        return figure

    def html(self) -> str:
        """Return the player as a piece of HTML; without JavaScript it is the first frame."""
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
        """Return up to so many frames, from the first to the last, two in a row, as one PNG file."""
        from PIL import Image

        count = min(most, len(self.frames))
        last = len(self.frames) - 1
        chosen = [self.frames[round(k * last / max(count - 1, 1))] for k in range(count)]
        pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in chosen]
        width, height = pictures[0].size
        columns = min(2, count)
        gap = 6
        strip = Image.new(
            "RGB", (columns * (width + gap) - gap, -(-count // columns) * (height + gap) - gap), "white"
        )
        for k, picture in enumerate(pictures):
            strip.paste(picture, ((k % columns) * (width + gap), (k // columns) * (height + gap)))
        return small_png(strip)
