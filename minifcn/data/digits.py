"""Real handwriting on synthetic grounds: scikit-learn's 1,797 digits, enlarged and pasted.

The digits are 8 x 8 pixels with 17 grey levels (E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998). They come with scikit-learn, so nothing is downloaded. Before
anything is pasted they are split into training, validation and test digits; a picture holds digits of one
part only.
"""

import functools
import math
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Pair, pair, whole_number
from minifcn.palette import VOID, palette

Place: TypeAlias = tuple[float, float]
Window: TypeAlias = tuple[slice, slice]

DIGIT_NAMES = tuple("0123456789")

# Of every nine digits of a class, in the order of the collection, so many go to each part.
_PARTS = {"train": (0, 2, 3, 5, 6, 8), "validation": (4,), "test": (1, 7)}

_HEIGHTS = (16.0, 30.0)  # of a digit, in pixels; crops and canvases draw from the same range
_CONTRAST = 60.0  # by how many grey levels ink is darker than any ground near it, at least
_JITTER = 3.0  # pixels by which a crop's digit is off the middle, at most
_ATTEMPTS = 10  # to find a place for a digit


@functools.cache
def digit_images(split: str) -> tuple[Array, Array]:
    """Return the handwritten digits of one part of the collection.

    The split is always the same, and is stratified: each class is dealt out by itself, six digits to
    training, one to validation, two to test, and so on. No two of the 1,797 images are equal, so none is in
    two parts.

    Args:
        split: `"train"` (1,198 digits), `"validation"` (199) or `"test"` (400).

    Returns:
        Read-only arrays: the images, uint8 (N, 8, 8) with values from 0 (paper) to 16 (ink), and their
        digits 0 to 9, uint8 (N,).

    Raises:
        ValueError: If there is no such part.
        ImportError: If scikit-learn is not installed.

    Example:
        >>> images, digits = digit_images("validation")
        >>> images.shape, digits.shape
        ((199, 8, 8), (199,))
    """
    if split not in _PARTS:
        raise ValueError(f"split must be one of {', '.join(map(repr, _PARTS))}, got {split!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the handwritten digits come with scikit-learn: pip install scikit-learn"
        ) from error
    collection = load_digits()
    rank = np.empty(len(collection.target), np.int64)  # how many digits of its class come before each one
    for digit in range(10):
        members = np.flatnonzero(collection.target == digit)
        rank[members] = np.arange(len(members))
    chosen = np.isin(rank % 9, _PARTS[split])
    images, digits = collection.images[chosen].astype(np.uint8), collection.target[chosen].astype(np.uint8)
    images.flags.writeable = digits.flags.writeable = False  # shared by all who ask
    return images, digits


@functools.cache
def _glyphs(split: str) -> list[Any]:
    """Return the digits of a part as Pillow's images, ink from 0 to 1, with the margin that bicubic wants."""
    from PIL import Image

    padded = np.pad(digit_images(split)[0].astype(np.float32) / 16, ((0, 0), (2, 2), (2, 2)))
    return [Image.fromarray(glyph) for glyph in padded]


class DigitCrops:
    """One handwritten digit in the middle of a textured patch: examples for a classifier.

    Item i shows digit `i % N` of the N digits of the part, so an epoch shows each of them `repeats` times,
    each time with another ground, height (16 to 30 pixels), shade and slant, up to 3 pixels off the middle.
    Item i is a function of the part, the seed and i.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        size: Height and width of the patch in pixels. Digits taller than that are cut off.
        seed: Whole number from 0 on.
        repeats: How often each digit is shown.

    Attributes:
        class_names: `("0", ..., "9")`.
        palette: The digits' colours on canvases, uint8 (10, 3).

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: If scikit-learn is not installed.

    Example:
        >>> image, label = DigitCrops("train")[7]
        >>> image.shape, image.dtype.name, label.shape, label.dtype.name
        ((32, 32, 1), 'uint8', (), 'uint8')
    """

    def __init__(self, split: str, *, size: int = 32, seed: int = 0, repeats: int = 1) -> None:
        self.class_names = DIGIT_NAMES
        self.palette = palette(11)[1:]
        self._digits = digit_images(split)[1]
        self._glyphs = _glyphs(split)
        self._size = whole_number(size, "size", 1)
        self._length = whole_number(repeats, "repeats", 1) * len(self._glyphs)
        self._key = (whole_number(seed, "seed", 0), list(_PARTS).index(split))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return the patch, uint8 (size, size, 1), and its digit 0 to 9, uint8 ()."""
        rng = _item_rng(self._key, index, len(self))
        which = index % len(self._glyphs)
        ground, noise = _ground(rng, (self._size, self._size))
        row, col = self._size / 2 + rng.uniform(-_JITTER, _JITTER, 2)
        window, alpha, shade = _pasted(rng, self._glyphs[which], ground, (row, col), rng.uniform(*_HEIGHTS))
        picture = ground.copy()
        picture[window] += alpha * (shade - picture[window])
        return _as_image(picture + noise), np.array(self._digits[which])


class DigitCanvases:
    """Textured canvases with several handwritten digits, labelled pixel by pixel.

    Digits are 16 to 30 pixels tall, darker than the ground as ink is, and may lie over one another in part;
    the later one is on top. A pixel has a digit's label where ink covers at least half of it; the pixels that
    touch ink are void. Item i is a function of the part, the seed, the size and i.

    Args:
        split: `"train"`, `"validation"` or `"test"`: whose digits are pasted.
        length: Number of canvases.
        size: Height and width in pixels, from 1 on.
        seed: Whole number from 0 on.
        digits_per_canvas: Least and largest number of digits, or one number for both. Where no place is left
            there are fewer.

    Attributes:
        class_names: `("background", "0", ..., "9")`: label d + 1 means digit d.
        palette: uint8 (11, 3).

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: If scikit-learn is not installed.

    Example:
        >>> image, labels = DigitCanvases("test", 5, size=(60, 90))[0]
        >>> image.shape, image.dtype.name, labels.shape, labels.dtype.name
        ((60, 90, 1), 'uint8', (60, 90), 'uint8')
    """

    def __init__(
        self,
        split: str,
        length: int,
        *,
        size: Pair = (96, 96),
        seed: int = 0,
        digits_per_canvas: Pair = (4, 8),
    ) -> None:
        self.class_names = ("background", *DIGIT_NAMES)
        self.palette = palette(11)
        self._digits = digit_images(split)[1]
        self._glyphs = _glyphs(split)
        self._length = whole_number(length, "length", 1)
        self._size = pair(size, "size", 1)
        self._fewest, self._most = pair(digits_per_canvas, "digits_per_canvas")
        if self._fewest > self._most:
            raise ValueError(
                f"digits_per_canvas must be (least, largest), got ({self._fewest}, {self._most})"
            )
        self._key = (whole_number(seed, "seed", 0), list(_PARTS).index(split))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return the canvas, uint8 (H, W, 1), and its labels, uint8 (H, W) with 255 for void."""
        rng = _item_rng(self._key, index, len(self))
        ground, noise = _ground(rng, self._size)
        picture, labels = ground.copy(), np.zeros(self._size, np.uint8)
        for place, height in self._places(rng):
            which = int(rng.integers(len(self._glyphs)))
            window, alpha, shade = _pasted(rng, self._glyphs[which], ground, place, height)
            picture[window] += alpha * (shade - picture[window])
            ink = alpha >= 0.5
            labels[window][_grown(ink)] = VOID
            labels[window][ink] = self._digits[which] + 1
        return _as_image(picture + noise), labels

    def _places(self, rng: np.random.Generator) -> list[tuple[Place, float]]:
        """Draw centres and heights of digits that overlap in part at most."""
        places: list[tuple[Place, float]] = []
        for _ in range(rng.integers(self._fewest, self._most + 1)):
            height = rng.uniform(*_HEIGHTS)
            for _ in range(_ATTEMPTS):
                row, col = (rng.uniform(m, n - m) for n in self._size for m in [min(n, height) / 2])
                if all(_far_enough((row, col), height, *place) for place in places):
                    places.append(((row, col), height))
                    break
        return places


def _far_enough(centre: Place, height: float, other_centre: Place, other_height: float) -> bool:
    """Tell whether two digits are so far apart that they overlap by a fifth of their height at most."""
    down, right = centre[0] - other_centre[0], centre[1] - other_centre[1]
    return math.hypot(down, right / 0.75) >= 0.8 * (height + other_height) / 2  # width is 3/4 of height


def _item_rng(key: tuple[int, int], index: int, length: int) -> np.random.Generator:
    """Return the generator that draws item `index`, whatever was drawn before."""
    if not 0 <= index < length:
        raise IndexError(f"index must be from 0 to {length - 1}, got {index}")
    return np.random.default_rng([*key, index])


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw a textured ground, and the grain that goes over ground and ink alike, each float32 (H, W).

    The texture is a random mixture of smooth noise of three scales, a gradient and stripes, each within
    [-1, 1], so that the ground keeps within its amplitude of the middle.
    """
    from PIL import Image

    height, width = size
    rows = np.arange(height, dtype=np.float32)[:, None]
    cols = np.arange(width, dtype=np.float32)
    textures = []
    for cell in (4, 12, 36):
        coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
        textures.append(
            np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
        )
    down, right = rng.uniform(-1, 1, 2).tolist()
    textures.append(down * (rows / height - 0.5) + right * (cols / width - 0.5))
    angle, period, phase = rng.uniform(0, math.pi), rng.uniform(6, 24), rng.uniform(0, math.tau)
    across = math.sin(angle) * rows + math.cos(angle) * cols
    textures.append(np.sin(math.tau / period * across + phase))

    amplitude = rng.uniform(10, 50)
    # Nowhere darker than leaves room for ink.
    ground = np.full(size, rng.uniform(_CONTRAST + 20 + amplitude, 255 - amplitude), np.float32)
    shares = rng.dirichlet(np.ones(len(textures))).tolist()
    for share, texture in zip(shares, textures, strict=True):
        ground += amplitude * share * texture
    grain = rng.uniform(2, 8) * rng.standard_normal(size, np.float32)
    return ground, grain


def _pasted(
    rng: np.random.Generator, glyph: Any, ground: Array, centre: Place, height: float
) -> tuple[Window, Array, float]:
    """Enlarge a digit smoothly to `height` pixels around `centre`, turned and slanted a little.

    Returns:
        The part of the ground it may touch; there, how much of each pixel is ink, float32 in [0, 1]; and the
        ink's shade, which is darker than all of that ground by at least the least contrast.
    """
    from PIL import Image

    reach = 0.6 * height + 2  # half the side of the window: slanted corners and soft edges included
    window = tuple(
        slice(max(math.floor(c - reach), 0), min(math.ceil(c + reach), n))
        for c, n in zip(centre, ground.shape, strict=True)
    )
    rows, cols = window

    # Pillow wants the way back: (x, y) of the picture -> (x, y) of the glyph.
    scale = 8 / height
    angle, slant = rng.uniform(-0.15, 0.15, 2)
    stretch = rng.uniform(0.85, 1.15)
    xx, xy = scale / stretch * math.cos(angle), scale / stretch * (math.sin(angle) + slant)
    yx, yy = -scale * math.sin(angle), scale * math.cos(angle)
    y, x = rows.start - centre[0], cols.start - centre[1]
    soft = glyph.transform(
        (cols.stop - cols.start, rows.stop - rows.start),
        Image.Transform.AFFINE,
        (xx, xy, xx * x + xy * y + glyph.width / 2, yx, yy, yx * x + yy * y + glyph.height / 2),
        Image.Resampling.BICUBIC,
    )
    # An enlarged edge is as wide as an old pixel was; this makes it a little less than two new pixels wide.
    alpha = np.clip(0.5 + np.float32(0.6 / scale) * (np.asarray(soft) - 0.5), 0, 1)

    return (rows, cols), alpha, rng.uniform(0, float(ground[window].min()) - _CONTRAST)


def _grown(mask: Array) -> Array:
    """Return the mask grown by one pixel in all eight directions."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    grown = tall.copy()
    grown[:, 1:] |= tall[:, :-1]
    grown[:, :-1] |= tall[:, 1:]
    return grown


def _as_image(picture: Array) -> Array:
    """Round float32 (H, W) to uint8 (H, W, 1)."""
    image: Array = np.rint(np.clip(picture, 0, 255)).astype(np.uint8)[..., None]
    return image
