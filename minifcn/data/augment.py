"""Other views of the same scene: image and labels changed together, by one generator."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Pair, pair

Size: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[float, float, float, float]

_HUE = 45.0  # degrees that the hue turns by at most, at color=1
_GREY = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue look (ITU-R BT.601)

# The plane of colours, across the grey axis, as in NTSC's YIQ: turning it changes the hue and not the
# brightness.
_YIQ = np.array([_GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Augment:
    """Mirrors, scales, crops and colours an image at random, and its labels with it.

    Each is off unless asked for. Image and labels go through the same geometry: the image smoothly (bilinear,
    averaged where it shrinks), labels by nearest neighbour, so that no label arises that was not there. What
    happens follows from the generator alone, and each draw is its own: switching one on changes no other.

    An image smaller than the crop stays whole. Nothing is padded here: `Loader` pads the images of a batch to
    the largest of them, where the mean is zero and void is known.

    Attributes:
        flip: Mirror left and right, every other time.
        scale: (smallest, largest) factor of the size; drawn evenly on a logarithmic scale, so that halving is
            as frequent as doubling.
        crop: Height and width of the piece that is cut out, or one number for both.
        color: From 0 (none) to 1: brightness, contrast and saturation are multiplied by 1 - color to 1 +
            color, and the hue is turned by up to 45 degrees times `color`. Of grey images, brightness and
            contrast.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> augment = Augment(flip=True, scale=(0.5, 2), crop=(24, 32), color=0.3)
        >>> image, labels = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
        >>> image, labels = augment(image, labels, np.random.default_rng(0))
        >>> image.shape, labels.shape
        ((24, 32, 3), (24, 32))
    """

    flip: bool = False
    scale: tuple[float, float] | None = None
    crop: Pair | None = None
    color: float = 0.0

    def __post_init__(self) -> None:
        if self.scale is not None:
            try:
                least, largest = (float(factor) for factor in self.scale)
            except (TypeError, ValueError):
                raise ValueError(f"scale must be (smallest, largest), got {self.scale!r}") from None
            if not 0 < least <= largest < math.inf:
                raise ValueError(f"scale must be (smallest, largest), both positive, got {self.scale!r}")
            object.__setattr__(self, "scale", (least, largest))  # how a field of a frozen dataclass is set
        if self.crop is not None:
            object.__setattr__(self, "crop", pair(self.crop, "crop", 1))
        if not 0 <= self.color <= 1:
            raise ValueError(f"color must be from 0 to 1, got {self.color!r}")

    def __call__(self, image: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return another view of an image and its labels.

        Args:
            image: uint8 (H, W, 3) or (H, W, 1).
            labels: uint8 (H, W), or () where the image as a whole has one.
            rng: Where the draws come from; eight numbers are taken.

        Raises:
            ValueError: If image or labels are something else.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise ValueError(f"image must be uint8 (H, W, 3) or (H, W, 1), got {image.dtype} {image.shape}")
        if labels.dtype != np.uint8 or labels.shape not in ((), image.shape[:2]):
            raise ValueError(
                f"labels must be uint8 {image.shape[:2]} or (), got {labels.dtype} {labels.shape}"
            )
        from PIL import Image

        mirrored, zoom, down, along = rng.random(4).tolist()
        tint = rng.uniform(-1, 1, 4).tolist()
        picture: Any = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        mask: Any = Image.fromarray(labels) if labels.ndim else None
        if self.scale is not None or self.crop is not None:
            size, box = self._frame(image.shape[:2], zoom, (down, along))
            picture = picture.resize(size, Image.Resampling.BILINEAR, box=box)
            mask = mask and mask.resize(size, Image.Resampling.NEAREST, box=box)
        if self.flip and mirrored < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask and mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.color:
            picture = _colored(picture, image, [self.color * part for part in tint])
        return (
            np.array(picture).reshape(picture.height, picture.width, -1),  # grey gets its channel axis
            labels.copy() if mask is None else np.array(mask),
        )

    def _frame(self, size: tuple[int, ...], zoom: float, place: tuple[float, float]) -> tuple[Size, Box]:
        """Return what is left of an image after scaling and cutting, so that no more is computed than stays.

        Args:
            size: Height and width of the image.
            zoom: From 0 (smallest scale) to 1 (largest).
            place: From 0 (top) to 1 (bottom), and from 0 (left) to 1 (right).

        Returns:
            Width and height of the piece; and left, top, right and bottom of the piece in the image.
        """
        least, largest = self.scale or (1.0, 1.0)
        factor = least * (largest / least) ** zoom
        crop = (None, None) if self.crop is None else pair(self.crop, "crop", 1)
        rows, cols = (
            _cut(length, factor, most, share) for length, most, share in zip(size, crop, place, strict=True)
        )
        return (cols[0], rows[0]), (cols[1], rows[1], cols[2], rows[2])


def _cut(length: int, factor: float, most: int | None, share: float) -> tuple[int, float, float]:
    """Return how many pixels of one axis stay, and where they begin and end in the image."""
    scaled = max(round(length * factor), 1)
    kept = scaled if most is None else min(scaled, most)
    first = math.floor(share * (scaled - kept + 1))
    # min: rounding must not lead out of the image
    return kept, first * length / scaled, min((first + kept) * length / scaled, length)


def _colored(picture: Any, image: Array, tint: list[float]) -> Any:
    """Change brightness, contrast, saturation and hue, in one linear map of the colours of each pixel.

    Args:
        picture: The piece, as Pillow's image.
        image: The whole, uint8 (H, W, C); contrast is about its mean.
        tint: How much of each, from -1 to 1.
    """
    brightness, contrast, saturation, hue = tint
    mean = image[::4, ::4].reshape(-1, image.shape[2]).mean(axis=0)  # a sixteenth of the pixels is enough
    gain = (1 + brightness) * (1 + contrast)
    if len(mean) == 1:
        shift = -contrast * (1 + brightness) * float(mean[0])
        return picture.point([min(max(round(gain * value + shift), 0), 255) for value in range(256)])
    cosine, sine = math.cos(math.radians(_HUE * hue)), math.sin(math.radians(_HUE * hue))
    turn = np.eye(3)
    turn[1:, 1:] = (1 + saturation) * np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.empty((3, 4))
    matrix[:, :3] = gain * (_RGB @ turn @ _YIQ)
    matrix[:, 3] = -contrast * (1 + brightness) * float(mean @ _GREY)
    return picture.convert("RGB", tuple(matrix.reshape(-1).tolist()))
