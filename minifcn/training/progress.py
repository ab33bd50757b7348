"""Progress of long work: a bar on a terminal, elsewhere one line per minute."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tqdm import tqdm

from minifcn.printing import say as say
from minifcn.printing import show as show

INTERVAL = 60.0
"""Seconds between two lines of progress where standard error is no terminal."""


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Report a file that cannot be written and continue: a long training is worth more than one file."""
    try:
        yield
    except OSError as error:
        say(f"{what} could not be written: {error.strerror or error}")


class Progress:
    """Progress over a number of images, or of other units, on standard error.

    Args:
        name: What is being done, such as "training"; `None` for no output.
        total: Images in all.
        done: Images that were done before.
        unit: What is counted.

    Example:
        >>> with Progress(None, 10) as progress:
        ...     progress.update(4)
        >>> progress.done
        4
    """

    def __init__(self, name: str | None, total: int, done: int = 0, unit: str = "images"):
        self.name, self.total, self.done, self.unit, self._before = name, total, done, unit, done
        off = True if name is None else None  # None: a bar on terminals only
        options = {"unit": f" {unit}", "unit_scale": total >= 1_000_000, "leave": False, "disable": off}
        self._bar = tqdm(total=total, initial=done, desc=name, **options)
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def update(self, images: int, note: str = "") -> None:
        """Count images as done.

        Args:
            images: How many.
            note: Shown behind the numbers, for example the loss.
        """
        self.done += images
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(images)
        now = time.monotonic()
        if self.name is None or not self._bar.disable or now - self._told < INTERVAL:
            return
        self._told = now
        rate = (self.done - self._before) / (now - self._started)
        left = f", {(self.total - self.done) / rate / 60:.0f} min left" if rate else ""
        speed, extra = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}", f", {note}" if note else ""
        done = f"{self.done:,} of {self.total:,} {self.unit}"
        say(f"{self.name.strip()}: {done}, {speed} {self.unit}/s{left}{extra}")
