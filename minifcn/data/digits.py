"""Handwritten digits, and training images that are made of them.

The 1,797 digits of 8 x 8 pixels with 17 grey levels come with the package (E. Alpaydin, C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, CC BY 4.0). They are enlarged and
pasted on synthetic backgrounds. They are split into training, validation and test digits before that, and an
image contains digits of one split only.
"""

import functools
import math
from importlib.resources import as_file, files
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.functional.operands import check_choice
from minifcn.geometry import Pair, check_integer, pair
from minifcn.palette import VOID, palette

Point: TypeAlias = tuple[float, float]

DIGIT_NAMES = tuple("0123456789")

# Of every nine digits of a class, in the order of the collection, the positions that go to each split.
_POSITIONS = {"train": (0, 2, 3, 5, 6, 8), "validation": (4,), "test": (1, 7)}

_HEIGHTS = (16.0, 30.0)  # of a digit, in pixels; crops and canvases draw from the same range
_CONTRAST = 60.0  # ink is darker than the background around it by at least so many grey levels
_JITTER = 3.0  # maximum distance of a crop's digit from the centre, in pixels
_ATTEMPTS = 10  # to find a position for a digit


@functools.cache
def digit_images(split: str) -> tuple[Array, Array]:
    """Return the handwritten digits of one split of the collection.

    The split is fixed and stratified: of each class, six digits go to training, one to validation, two to
    test, and so on. No two of the 1,797 images are equal, so none is in two splits.

    Args:
        split: `"train"` (1,198 digits), `"validation"` (199) or `"test"` (400).

    Returns:
        Read-only arrays: the images, uint8 (N, 8, 8) with values from 0 (paper) to 16 (ink), and their
        digits 0 to 9, uint8 (N,).

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> images, digits = digit_images("validation")
        >>> images.shape, digits.shape
        ((199, 8, 8), (199,))
    """
    check_choice(split, "split", _POSITIONS)
    images, digits = _collection()
    # How many digits of the same class come before each one: (N, 10) -> (N,)
    rank = np.cumsum(np.eye(10, dtype=np.int64)[digits], axis=0)[np.arange(len(digits)), digits] - 1
    chosen = np.isin(rank % 9, _POSITIONS[split])
    images, digits = images[chosen], digits[chosen]
    images.flags.writeable = digits.flags.writeable = False  # they are shared by all callers
    return images, digits


def _collection() -> tuple[Array, Array]:
    """Return all images, uint8 (1797, 8, 8), and their digits, uint8 (1797,)."""
    with as_file(files("minifcn.data") / "bundled" / "digits.csv.gz") as path:
        table = np.loadtxt(path, np.uint8, delimiter=",")  # (1797, 65): 64 pixels and the digit
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


@functools.cache
def _glyphs(split: str) -> list[Any]:
    """Return the digits of a split as Pillow's images, ink from 0 to 1, with a margin for bicubic scaling."""
    from PIL import Image

    padded = np.pad(digit_images(split)[0].astype(np.float32) / 16, ((0, 0), (2, 2), (2, 2)))
    return [Image.fromarray(glyph) for glyph in padded]


class _DigitDataset:
    """What the two datasets below share."""

    _length: int

    def __init__(self, split: str, seed: int, class_names: tuple[str, ...], colors: Array) -> None:
        self._digits = digit_images(split)[1]
        self._glyphs = _glyphs(split)
        self._key = (check_integer(seed, "seed", 0), list(_POSITIONS).index(split))
        self.class_names = class_names
        self.palette = colors

    def __len__(self) -> int:
        return self._length

    def _generator(self, index: int) -> np.random.Generator:
        """Return the generator of an item, which does not depend on the items drawn before."""
        if not 0 <= index < self._length:
            raise IndexError(f"index must be from 0 to {self._length - 1}, got {index}")
        return np.random.default_rng([*self._key, index])


class DigitCrops(_DigitDataset):
    """One handwritten digit in the middle of a textured patch: examples for a classifier.

    Item i shows digit `i % N` of the N digits of the split, so an epoch shows each of them `repeats` times,
    each time with another background, height (16 to 30 pixels), shade and slant, and up to 3 pixels away from
    the centre. Item i is a function of the split, the size, the seed and i. The default seed is fixed, so
    that scores on these data can be compared.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        size: Height and width of the patch in pixels. Digits taller than that are cut off.
        seed: Integer >= 0.
        repeats: How often each digit is shown.

    Attributes:
        class_names: `("0", ..., "9")`.
        palette: The digits' colours on canvases, uint8 (10, 3).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> image, label = DigitCrops("train")[7]
        >>> image.shape, image.dtype.name, label.shape, label.dtype.name
        ((32, 32, 1), 'uint8', (), 'uint8')
    """

    def __init__(self, split: str, *, size: int = 32, seed: int = 0, repeats: int = 1) -> None:
        super().__init__(split, seed, DIGIT_NAMES, palette(11)[1:])
        self._size = check_integer(size, "size", 1)
        self._length = check_integer(repeats, "repeats", 1) * len(self._glyphs)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return the patch, uint8 (size, size, 1), and its digit 0 to 9, uint8 ()."""
        rng = self._generator(index)
        which = index % len(self._glyphs)
        background, noise = _background(rng, (self._size, self._size))
        row, col = self._size / 2 + rng.uniform(-_JITTER, _JITTER, 2)
        image = background.copy()
        _add_ink(image, rng, self._glyphs[which], background, (row, col), rng.uniform(*_HEIGHTS))
        return _to_uint8(image + noise), np.array(self._digits[which])


class DigitCanvases(_DigitDataset):
    """Textured canvases with several handwritten digits, labelled pixel by pixel.

    Digits are 16 to 30 pixels tall and darker than the background, as ink is. They may overlap in part; the
    later one is on top. A pixel has a digit's label where ink covers at least half of it; pixels next to ink
    are void. Item i is a function of the split, the seed, the size and i. The default seed is fixed, so that
    scores on these data can be compared.

    Args:
        split: `"train"`, `"validation"` or `"test"`: whose digits are pasted.
        length: Number of canvases.
        size: (height, width) in pixels, or one integer for both; >= 1.
        seed: Integer >= 0.
        digits_per_canvas: (minimum, maximum) number of digits, or one integer for both. There are fewer where
            no room is left.

    Attributes:
        class_names: `("background", "0", ..., "9")`: label d + 1 means digit d.
        palette: uint8 (11, 3).

    Raises:
        ValueError: If an argument is out of its range.

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
        super().__init__(split, seed, ("background", *DIGIT_NAMES), palette(11))
        self._length = check_integer(length, "length", 1)
        self._size = pair(size, "size", 1)
        self._min_digits, self._max_digits = pair(digits_per_canvas, "digits_per_canvas")
        if self._min_digits > self._max_digits:
            raise ValueError(f"digits_per_canvas must be (minimum, maximum), got {digits_per_canvas}")

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return the canvas, uint8 (H, W, 1), and its labels, uint8 (H, W) with 255 for void."""
        rng = self._generator(index)
        background, noise = _background(rng, self._size)
        image, labels = background.copy(), np.zeros(self._size, np.uint8)
        for centre, height in self._positions(rng):
            which = int(rng.integers(len(self._glyphs)))
            window, alpha = _add_ink(image, rng, self._glyphs[which], background, centre, height)
            ink = alpha >= 0.5
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(ink, 1), (3, 3))  # (H, W, 3, 3)
            labels[window][windows.any(axis=(2, 3))] = VOID
            labels[window][ink] = self._digits[which] + 1
        return _to_uint8(image + noise), labels

    def _positions(self, rng: np.random.Generator) -> list[tuple[Point, float]]:
        """Draw centres and heights of digits that overlap in part at most."""
        positions: list[tuple[Point, float]] = []
        for _ in range(rng.integers(self._min_digits, self._max_digits + 1)):
            height = rng.uniform(*_HEIGHTS)
            for _ in range(_ATTEMPTS):
                row, col = (rng.uniform(m, n - m) for n in self._size for m in [min(n, height) / 2])
                if all(_far_enough((row, col), height, *position) for position in positions):
                    positions.append(((row, col), height))
                    break
        return positions


def _far_enough(centre: Point, height: float, other_centre: Point, other_height: float) -> bool:
    """Return whether two digits overlap by at most a fifth of their height."""
    down, right = centre[0] - other_centre[0], centre[1] - other_centre[1]
    return math.hypot(down, right / 0.75) >= 0.8 * (height + other_height) / 2  # width is 3/4 of height


def _background(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw a textured background, and the noise that is added to background and ink, each float32 (H, W).

    The texture is a random mixture of smooth noise of three scales, a gradient and stripes, each within
    [-1, 1], so the background differs from its mean by at most its amplitude.
    """
    from PIL import Image

    height, width = size
    rows = np.arange(height, dtype=np.float32)[:, None]
    cols = np.arange(width, dtype=np.float32)
    textures = []
    for cell in (4, 12, 36):
        coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
        textures.append(np.asarray(smooth))
    down, right = rng.uniform(-1, 1, 2).tolist()
    textures.append(down * (rows / height - 0.5) + right * (cols / width - 0.5))
    angle, period, phase = rng.uniform(0, math.pi), rng.uniform(6, 24), rng.uniform(0, math.tau)
    across = math.sin(angle) * rows + math.cos(angle) * cols
    textures.append(np.sin(math.tau / period * across + phase))

    amplitude = rng.uniform(10, 50)
    # Bright enough everywhere for ink to be darker by the contrast.
    background = np.full(size, rng.uniform(_CONTRAST + 20 + amplitude, 255 - amplitude), np.float32)
    weights = rng.dirichlet(np.ones(len(textures))).tolist()
    for weight, texture in zip(weights, textures, strict=True):
        background += amplitude * weight * texture
    noise = rng.uniform(2, 8) * rng.standard_normal(size, np.float32)
    return background, noise


def _add_ink(
    image: Array, rng: np.random.Generator, glyph: Any, background: Array, centre: Point, height: float
) -> tuple[tuple[slice, slice], Array]:
    """Draw a digit of `height` pixels around `centre`, smooth, and slightly rotated and slanted.

    The ink is darker than the background around it by at least `_CONTRAST`.

    Returns:
        The window of the image that it may touch, and how much of each pixel there is ink, float32 in [0, 1].
    """
    from PIL import Image

    half = 0.6 * height + 2  # half the side of the window, including slanted corners and soft edges
    rows, cols = window = tuple(
        slice(max(math.floor(c - half), 0), min(math.ceil(c + half), n))
        for c, n in zip(centre, background.shape, strict=True)
    )
    # Pillow takes the inverse map: (x, y) of the image -> (x, y) of the glyph.
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
    # An enlarged edge is as wide as a pixel of the glyph; this makes it slightly less than two pixels wide.
    alpha = np.clip(0.5 + np.float32(0.6 / scale) * (np.asarray(soft) - 0.5), 0, 1)
    image[window] += alpha * (rng.uniform(0, float(background[window].min()) - _CONTRAST) - image[window])
    return (rows, cols), alpha


def _to_uint8(image: Array) -> Array:
    """Round float32 (H, W) to uint8 (H, W, 1)."""
    return np.asarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8)[..., None])
