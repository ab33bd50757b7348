"""Augmentation: image and labels are changed together, at random."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.geometry import Pair, pair

_HUE = 45.0  # largest change of the hue in degrees, at color=1
_GREY = np.array([0.299, 0.587, 0.114])  # brightness of red, green and blue (ITU-R BT.601)

# NTSC's colour space YIQ: rotating the plane of I and Q changes the hue but not the brightness.
_YIQ = np.array([_GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Augment:
    """Mirrors, scales, crops and recolours an image at random, and its labels with it.

    Each of these is off by default. Image and labels go through the same geometry: the image with bilinear
    interpolation (averaged where it is reduced), the labels with nearest neighbour, so that no new label
    appears. The result depends on the generator only, and switching one option on does not change what is
    drawn for the others.

    An image smaller than the crop is not padded here: `Loader` pads the images of a batch to the largest.

    Attributes:
        flip: Mirror left and right with probability 1/2.
        scale: (minimum, maximum) factor of the size, drawn uniformly on a logarithmic scale, so that halving
            is as frequent as doubling.
        crop: (height, width) of the part that is cut out, or one integer for both, in pixels.
        color: From 0 (none) to 1: brightness, contrast and saturation are multiplied by 1 - color to 1 +
            color, and the hue is rotated by up to 45 degrees times `color`. Of grey images, brightness and
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
                low, high = map(float, self.scale)
            except (TypeError, ValueError):
                low, high = math.nan, math.nan
            if not 0 < low <= high < math.inf:
                raise ValueError(f"scale must be (minimum, maximum), both positive, got {self.scale!r}")
            object.__setattr__(self, "scale", (low, high))  # the dataclass is frozen
        if self.crop is not None:
            object.__setattr__(self, "crop", pair(self.crop, "crop", 1))
        if not 0 <= self.color <= 1:
            raise ValueError(f"color must be from 0 to 1, got {self.color!r}")

    def __call__(self, image: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return a changed copy of an image and its labels.

        Args:
            image: uint8 (H, W, 3) or (H, W, 1).
            labels: uint8 (H, W), or () if the image as a whole has one.
            rng: The generator, of which eight numbers are used.

        Returns:
            uint8 (H', W', 3) or (H', W', 1), and uint8 (H', W') or ().

        Raises:
            ValueError: If image or labels have another dtype or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise ValueError(f"image must be uint8 (H, W, 3) or (H, W, 1), got {image.dtype} {image.shape}")
        if labels.dtype != np.uint8 or labels.shape not in ((), image.shape[:2]):
            expected = f"uint8 {image.shape[:2]} or ()"
            raise ValueError(f"labels must be {expected}, got {labels.dtype} {labels.shape}")
        from PIL import Image

        mirror, zoom, top, left = rng.random(4).tolist()
        tint = (self.color * rng.uniform(-1, 1, 4)).tolist()
        picture: Any = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        mask: Any = Image.fromarray(labels) if labels.ndim else None
        if self.scale is not None or self.crop is not None:
            # Only what is left of the image after scaling and cropping is computed.
            low, high = self.scale or (1.0, 1.0)
            factor = low * (high / low) ** zoom
            crop = (None, None) if self.crop is None else pair(self.crop, "crop", 1)
            sides = zip(image.shape[:2], crop, (top, left), strict=True)
            rows, cols = (_cut(length, factor, limit, at) for length, limit, at in sides)
            size, box = (cols[0], rows[0]), (cols[1], rows[1], cols[2], rows[2])
            picture = picture.resize(size, Image.Resampling.BILINEAR, box=box)
            mask = mask and mask.resize(size, Image.Resampling.NEAREST, box=box)
        if self.flip and mirror < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask and mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.color:
            picture = _recolored(picture, image, tint)
        image = np.array(picture).reshape(picture.height, picture.width, -1)  # grey gets a channel axis
        return image, labels.copy() if mask is None else np.array(mask)


def _cut(length: int, factor: float, limit: int | None, position: float) -> tuple[int, float, float]:
    """Return how many pixels of one axis are left, and where they begin and end in the image."""
    scaled = max(round(length * factor), 1)
    kept = scaled if limit is None else min(scaled, limit)
    first = math.floor(position * (scaled - kept + 1))
    # min: rounding errors must not lead outside the image
    return kept, first * length / scaled, min((first + kept) * length / scaled, length)


def _recolored(picture: Any, image: Array, tint: list[float]) -> Any:
    """Change brightness, contrast, saturation and hue with one affine map of the colours.

    Args:
        picture: The cropped image, as Pillow's image.
        image: The whole image, uint8 (H, W, C); contrast is relative to its mean.
        tint: How much of each, from -1 to 1.
    """
    brightness, contrast, saturation, hue = tint
    mean = image[::4, ::4].reshape(-1, image.shape[2]).mean(axis=0)  # a sixteenth of the pixels is enough
    gain = (1 + brightness) * (1 + contrast)
    shift = -contrast * (1 + brightness) * float(mean[0] if len(mean) == 1 else mean @ _GREY)
    if len(mean) == 1:
        return picture.point([min(max(round(gain * value + shift), 0), 255) for value in range(256)])
    cosine, sine = math.cos(math.radians(_HUE * hue)), math.sin(math.radians(_HUE * hue))
    rotation = np.eye(3)
    rotation[1:, 1:] = (1 + saturation) * np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.column_stack([gain * (_RGB @ rotation @ _YIQ), np.full(3, shift)])
    return picture.convert("RGB", tuple(matrix.reshape(-1).tolist()))
