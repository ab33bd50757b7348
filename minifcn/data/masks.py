"""Label masks from files: values as they are, colours looked up in a colour map, and nothing guessed."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import Color, ContentsError, DataError, StrPath, counted
from minifcn.data.opening import check_bands, opened, raw_mode, sixteen_bits, upright

ColorMap: TypeAlias = Mapping[Color, int]

_REFUSED = {  # by Pillow's name of the format
    "JPEG": "its compression mixes the labels along every edge",
    "WEBP": "its compression may mix the labels along every edge",
    "GIF": "programs renumber the colours whenever they write such a file",
    "PPM": "its values are scaled to 0 to 255",
}
_MAX_COLORS = 20  # that an error lists; a soft brush makes hundreds

# Pillow scales grey values of 2 and 4 bits to 0 to 255, which is right for photographs but not for labels.
_SCALED = {"L;2": 85, "L;4": 17}


class Mask(NamedTuple):
    """The contents of a mask file, before they are interpreted.

    Attributes:
        pixels: uint8 (H, W), grey values or indices of the palette; or uint8 (H, W, 3), colours.
        palette: The colours that the indices stand for, uint8 (256, 3), or None.
    """

    pixels: Array
    palette: Array | None = None


def read_labels(path: StrPath, colors: ColorMap | None = None, *, palette_colors: bool = False) -> Array:
    """Read a label mask.

    Of masks with one value per pixel (grey of 1 to 16 bits, or with a palette), the values are the labels;
    of a palette, these are the indices. Colour masks are looked up in `colors`; without it, they are read
    only if red, green and blue are equal everywhere, as some programs save grey. If every colour of the map
    is grey, grey masks are looked up, too, because 255 then means white and not the label 255.

    Args:
        path: A PNG, BMP or TIFF file: formats that keep each pixel as it was.
        colors: The value that each colour (r, g, b) stands for.
        palette_colors: Look up the colours of palettes, too, instead of taking the indices: paint programs
            number the colours arbitrarily.

    Returns:
        uint8 (H, W).

    Raises:
        OSError: If the file does not exist or cannot be opened.
        FileError: If its format changes labels, as JPEG does; if it is damaged, too large or partly
            transparent; or if it has values above 255 or colours that are not in the map. These are listed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("RGB", (3, 2), (0, 128, 0)).save(path)
        >>> read_labels(path, {(0, 0, 0): 0, (0, 128, 0): 7}).tolist()
        [[7, 7, 7], [7, 7, 7]]
    """
    return mask_values(read_mask(path), path, colors, palette_colors=palette_colors)


def read_mask(path: StrPath) -> Mask:
    """Read a mask without interpreting it; see `read_labels` for what is refused."""
    from PIL import Image

    with opened(path) as image:
        name = "JPEG" if image.info.get("compression") == "jpeg" else image.format  # inside TIFF, too
        if name in _REFUSED:
            reason = f"a mask must be a PNG, BMP or TIFF file, this is {name}: {_REFUSED[name]}"
            raise ContentsError(reason, "lossy")
        check_bands(image)
        scale = _SCALED.get(raw_mode(image), 1)
        if not image.mode.startswith("I") and (wide := sixteen_bits(image)) is not None:
            if (wide % 257).any():  # 257 times a value of 8 bits
                raise ContentsError("has colours of 16 bits: save the mask with 8 bits", "mode")
            image = Image.fromarray((wide // 257).astype(np.uint8))
        image = upright(image)
        if image.mode == "P":
            colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
            # Indices beyond it are black, as in image viewers.
            return Mask(np.array(image), np.pad(colors, ((0, 256 - len(colors)), (0, 0))))
        if image.mode in ("1", "L"):
            return Mask(np.array(image).astype(np.uint8) // np.uint8(scale))
        if image.mode.startswith("I"):
            return Mask(_to_uint8(np.asarray(image)))
        if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() != (255, 255):
            reason = "is partly transparent: fill the background with the colour of a class"
            raise ContentsError(reason, "mode")
        if image.mode in ("LA", "RGBA", "RGB"):
            return Mask(np.array(image.convert("RGB")))
        raise ContentsError(f"has the mode {image.mode}: save the mask as grey, palette or RGB", "mode")


def _to_uint8(values: Array) -> Array:
    """Return labels of 16 or 32 bits as uint8."""
    wrong = values[(values < 0) | (values > 255)]
    if wrong.size:
        where = f"on {counted(wrong.size, 'pixel')}, for example {int(wrong[0])}"
        raise ContentsError(f"has values outside 0 to 255 {where}", "labels")
    return values.astype(np.uint8)


def mask_values(mask: Mask, path: StrPath, colors: ColorMap | None, *, palette_colors: bool = False) -> Array:
    """Return the values that a mask has or its colours stand for, uint8 (H, W); see `read_labels`."""
    pixels, palette = mask
    if pixels.ndim == 3:
        if colors is not None:
            return _looked_up(pixels, colors, path)
        if (pixels == pixels[..., :1]).all():
            return pixels[..., 0].copy()
        raise _unknown_colors(color_codes(pixels), path)
    if colors is not None and palette is not None and palette_colors:
        return _looked_up(palette[pixels], colors, path)
    if colors is not None and palette is None and all(len(set(color)) == 1 for color in colors):
        return _looked_up(np.repeat(pixels[..., None], 3, axis=2), colors, path)
    return pixels


def color_codes(colors: Array) -> Array:
    """Return colours, uint8 (..., 3), as one integer each, uint32 (...)."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def color_of(code: int) -> Color:
    """Return the colour (r, g, b) of an integer from `color_codes`."""
    return code >> 16, code >> 8 & 255, code & 255


def hex_of(color: Color) -> str:
    """Return a colour as #rrggbb."""
    return "#" + bytes(color).hex()


def most_frequent(values: Array, limit: int) -> tuple[dict[int, int], int]:
    """Return the most frequent values and how often they occur, and how many different values there are."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:limit]
    return dict(zip(found[order].tolist(), counts[order].tolist(), strict=True)), len(found)


def _looked_up(rgb: Array, colors: ColorMap, path: StrPath) -> Array:
    """Return the value of each colour, uint8 (H, W), or list the colours that have none."""
    codes = color_codes(rgb)
    ordered = sorted(colors)
    known = color_codes(np.array(ordered, np.uint8).reshape(-1, 3))
    index = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    wrong = known[index] != codes
    if wrong.any():
        raise _unknown_colors(codes[wrong], path)
    return np.array([colors[color] for color in ordered], np.uint8)[index]


def _unknown_colors(codes: Array, path: StrPath) -> DataError:
    """Return the error that lists the colours (integers from `color_codes`) that are no class."""
    most, different = most_frequent(codes, _MAX_COLORS)
    colors = {color_of(code): pixels for code, pixels in most.items()}
    listed = ", ".join(f"{color} on {counted(pixels, 'pixel')}" for color, pixels in list(colors.items())[:3])
    verb = "is" if different == 1 else "are"
    reason = f"has {counted(different, 'colour')} that {verb} no class: {listed}"
    if different > _MAX_COLORS:
        return DataError("labels", path, f"{reason}; soft brushes mix colours: paint with a hard one")
    return DataError("labels", path, reason, colors)
