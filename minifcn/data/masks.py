"""Label masks from files: numbers as they are, colours through a colour map, and nothing guessed."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import Color, DataError, counted
from minifcn.data.images import opened, upright

ColorMap: TypeAlias = Mapping[Color, int]

_REFUSED = {
    "JPEG": "its compression mixes the labels along every edge",
    "WebP": "its compression may mix the labels along every edge",
    "GIF": "programs that write it number the colours anew in every file",
    "PPM": "its numbers are stretched to 0..255",
}

_MOST_COLORS = 20  # that are told; a soft brush makes hundreds

# How Pillow stretches grey of fewer than eight bits to 0..255: right for a picture, but labels are counted.
_STRETCHED = {"L;2": 85, "L;4": 17}


class Mask(NamedTuple):
    """What a mask file holds, before anyone says what it means.

    Attributes:
        pixels: uint8 (H, W), grey values or indices of the palette; or uint8 (H, W, 3), colours.
        palette: The colours that the indices stand for, uint8 (256, 3), or None.
    """

    pixels: Array
    palette: Array | None = None


def read_labels(
    path: str | os.PathLike[str], colors: ColorMap | None = None, *, palette_colors: bool = False
) -> Array:
    """Read a label mask.

    Masks of one number a pixel (grey of 1 to 16 bits, or with a palette) give these numbers; of a palette it
    is the indices that count. Colour masks are looked up in `colors`; without it, only those are taken in
    which red, green and blue are equal, as some programs save grey. If every colour of the map is grey, grey
    masks are looked up too, since then 255 means white and not the label 255.

    Args:
        path: A PNG, BMP or TIFF file: formats that keep each pixel as it was.
        colors: The number that each colour (r, g, b) stands for.
        palette_colors: Look up the colours of palettes as well, instead of taking the indices: paint programs
            number the colours as they please.

    Returns:
        uint8 (H, W).

    Raises:
        OSError: If there is no such file, or it may not be read.
        FileError: If it is of a format that changes labels, such as JPEG, or is damaged, too large, partly
            transparent, or has numbers above 255 or colours that are not in the map; these are named.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("RGB", (3, 2), (0, 128, 0)).save(path)
        >>> read_labels(path, {(0, 0, 0): 0, (0, 128, 0): 7}).tolist()
        [[7, 7, 7], [7, 7, 7]]
    """
    return labels_of(read_mask(path), path, colors, palette_colors=palette_colors)


def read_mask(path: str | os.PathLike[str]) -> Mask:
    """Read a mask as it is; see `read_labels` for what is refused."""
    with opened(path) as (image, name):
        if name == "TIFF" and image.info.get("compression") == "jpeg":
            name = "JPEG"
        if name in _REFUSED:
            raise DataError(
                "lossy", path, f"a mask must be a PNG, BMP or TIFF, this is a {name}: {_REFUSED[name]}"
            )
        stretch = _STRETCHED.get(_raw_mode(image), 1)
        image = upright(image)
        if image.mode == "P":
            return Mask(np.array(image), _palette(image))
        if image.mode in ("1", "L"):
            return Mask(np.array(image).astype(np.uint8) // np.uint8(stretch))
        if image.mode.startswith("I"):
            return Mask(_small(np.asarray(image), path))
        if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() != (255, 255):
            raise DataError(
                "mode", path, "is transparent in places: fill the ground with the colour of a class"
            )
        if image.mode in ("LA", "RGBA", "RGB"):
            return Mask(np.array(image.convert("RGB")))
        raise DataError("mode", path, f"has the mode {image.mode}: save the mask as grey, palette or RGB")


def _raw_mode(image: Any) -> str:
    """Return how the pixels of an image lie in its file, before it is decoded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _palette(image: Any) -> Array:
    """Return the palette of an image as uint8 (256, 3); indices beyond it are black, as viewers show them."""
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    return palette


def _small(values: Array, path: str | os.PathLike[str]) -> Array:
    """Return labels of 16 or 32 bits as uint8."""
    wrong = (values < 0) | (values > 255)
    if wrong.any():
        first = int(values[wrong][0])
        raise DataError(
            "labels",
            path,
            f"has labels that are not in 0 to 255, {counted(int(wrong.sum()), 'pixel')}, for example {first}",
        )
    return values.astype(np.uint8)


def labels_of(
    mask: Mask, path: str | os.PathLike[str], colors: ColorMap | None, *, palette_colors: bool = False
) -> Array:
    """Return the numbers that a mask means, uint8 (H, W); see `read_labels`."""
    pixels, palette = mask
    if pixels.ndim == 3:
        if colors is not None:
            return _looked_up(pixels, colors, path)
        red, green, blue = (pixels[..., channel] for channel in range(3))
        if (red == green).all() and (green == blue).all():
            return red.copy()
        raise _unknown(color_codes(pixels), path)
    if colors is not None and palette is not None and palette_colors:
        return _looked_up(palette[pixels], colors, path)
    if colors is not None and palette is None and all(len(set(color)) == 1 for color in colors):
        return _looked_up(np.repeat(pixels[..., None], 3, axis=2), colors, path)
    return pixels


def color_codes(colors: Array) -> Array:
    """Return colours, uint8 (..., 3), as one number each."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def color_of(code: int) -> Color:
    """Return the colour (r, g, b) that a number of `color_codes` stands for."""
    return code >> 16, code >> 8 & 255, code & 255


def hex_of(color: Color) -> str:
    """Return a colour as #rrggbb."""
    return "#" + bytes(color).hex()


def _looked_up(rgb: Array, colors: ColorMap, path: str | os.PathLike[str]) -> Array:
    """Return the number of each colour, or say which have none."""
    codes = color_codes(rgb)
    known = np.array(sorted(colors), np.uint8).reshape(-1, 3)
    labels = np.array([colors[color] for color in sorted(colors)], np.uint8)
    known_codes = color_codes(known)
    where = np.minimum(np.searchsorted(known_codes, codes), len(known_codes) - 1)
    wrong = known_codes[where] != codes
    if wrong.any():
        raise _unknown(codes[wrong], path)
    return labels[where]


def _unknown(codes: Array, path: str | os.PathLike[str]) -> DataError:
    """Return the error that names the colours, by `color_codes`, which mean no class."""
    unknown, counts = np.unique(codes, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_MOST_COLORS]
    colors = {
        color_of(code): n for code, n in zip(unknown[most].tolist(), counts[most].tolist(), strict=True)
    }
    named = ", ".join(f"{color} on {counted(colors[color], 'pixel')}" for color in list(colors)[:3])
    mean = "means" if len(unknown) == 1 else "mean"
    reason = f"has {counted(len(unknown), 'colour')} that {mean} no class: {named}"
    if len(unknown) > _MOST_COLORS:
        return DataError("labels", path, f"{reason}; soft brushes mix colours: paint with a hard one")
    return DataError("labels", path, reason, colors)
