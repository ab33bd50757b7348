"""Reads image files of any of Pillow's modes as uint8 RGB, and refuses what would need a guess."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import ContentsError, DataError, StrPath
from minifcn.data.opening import check_bands, opened, raw_mode, sixteen_bits, upright
from minifcn.data.scanning import UNREAD
from minifcn.functional.operands import check_choice
from minifcn.geometry import check_integer

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
)
_NEVER_SIXTEEN = (".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp")  # formats without 16 bits


def read_image(path: StrPath, *, bit_depth: int | None = None, bands: Sequence[int] | None = None) -> Array:
    """Read an image file as RGB.

    Every mode is converted: grey is repeated, palettes are looked up, and transparent pixels are put on
    white. The EXIF orientation is applied. What cannot be converted without a guess is refused:
    floating-point pixels, bands beyond red, green, blue and opacity, a fourth band that holds data and not
    opacity, and files with several pages or frames.

    Of files with 16 bits per channel, 0 to 2 ** bit_depth - 1 becomes 0 to 255, because many cameras and
    microscopes store 10, 12 or 14 bits in 16. Files with 8 bits are read as they are.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file, whatever its suffix.
        bit_depth: Bits in which the values of files with 16 bits are, 8 to 16; as recorded in
            `minifcn.models.Preprocessing`. By default, or with 8, it is 16 for images with a value above
            16383. For darker images it cannot be known, and they are refused, except that with 8 an image of
            values up to 255 is taken as it is.
        bands: The bands of the file that become red, green and blue, or one that becomes grey, counted from
            0. Opacity is then ignored. By default, the file must have one band (grey) or three, and possibly
            opacity.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ValueError: If `bit_depth` is not from 8 to 16.
        OSError: If the file does not exist or cannot be opened.
        FileError: If it is not such an image, is damaged or truncated, has more than `MAX_PIXELS` pixels (the
            size is checked before anything is decoded), or cannot be converted without a guess.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (5, 4), 200).save(path)
        >>> read_image(path).shape, read_image(path)[0, 0].tolist()
        ((4, 5, 3), [200, 200, 200])
        >>> twelve_bits = np.full((4, 5), 2048, np.uint16)
        >>> Image.fromarray(twelve_bits).save(path)
        >>> read_image(path, bit_depth=12)[0, 0].tolist()
        [128, 128, 128]
    """
    if bit_depth is not None:
        check_integer(bit_depth, "bit_depth", 8, 16)
    with opened(path) as image:
        check_bands(image, bands)
        wide = sixteen_bits(image)
        decoded = upright(image) if wide is None else _to_eight_bits(image, wide, bit_depth)
        rgb = _to_rgb(decoded, bands)
        if rgb is not image:
            image.close()  # frees its memory before one more copy is made
        return np.array(rgb)


def largest_value(path: StrPath) -> int | None:
    """Return the largest value of an image of 16 bits per channel; None if its bit depth is known.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        FileError: As `read_image`.
    """
    with opened(path) as image:
        if raw_mode(image).partition(";")[2][:2] != "16" and not image.mode.startswith("I"):
            return None
        wide = None if _declared_bits(image) else sixteen_bits(image)
        return None if wide is None else int(wide.max())


def common_bit_depth(paths: Iterable[StrPath]) -> int:
    """Return the fewest bits, of 8, 10, 12, 14 and 16, that hold the values of all images of 16 bits.

    It is 8 without such images. Images that cannot be read are left out.
    """
    highest = 0
    for path in paths:
        if Path(path).suffix.lower() not in _NEVER_SIXTEEN:
            with suppress(OSError, DataError):
                highest = max(highest, largest_value(path) or 0)
        if highest > 0x3FFF:  # the others cannot change it
            break
    return smallest_depth(highest)


def photograph(name: str) -> Array:
    """Return one of the two photographs that come with the package.

    Both were taken from scikit-image's data and are in the public domain (CC0): "cat" shows Chelsea, by
    Stéfan van der Walt; "cup" shows an espresso, by Rachel Michetti, courtesy of Pikolo Espresso Bar.

    Args:
        name: "cat" (300 x 451 pixels) or "cup" (400 x 600).

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ValueError: If there is no such photograph.

    Example:
        >>> photograph("cat").shape, photograph("cup").shape
        ((300, 451, 3), (400, 600, 3))
    """
    check_choice(name, "name", ("cat", "cup"))
    with as_file(files("minifcn.data") / "bundled" / f"{name}.jpg") as path:
        return read_image(path)


def images_in(folder: StrPath) -> list[Path]:
    """Return the images in a folder and the folders in it, sorted, without the masks of datasets.

    Left out are hidden files and folders, and folders that contain the masks of their neighbours: `masks`
    beside `images`, `SegmentationClass...` and `SegmentationObject` beside `JPEGImages`, `trainannot` beside
    `train`. Links to folders are not followed. Images in formats that `read_image` does not read are
    returned, too, so that each can be reported.

    Args:
        folder: A folder; if it is a folder of masks itself, its files are returned.

    Raises:
        OSError: If the folder does not exist or cannot be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("images/a.jpg", "masks/a.png", ".hidden.png", "notes.txt"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> [str(file.relative_to(root).as_posix()) for file in images_in(root)]
        ['images/a.jpg']
    """

    def refuse(error: OSError) -> None:
        if error.filename is not None and Path(error.filename) == Path(folder):
            raise error  # a folder inside it that cannot be read does not hide the others

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        here = {name.casefold() for name in folders}
        folders[:] = [name for name in folders if not (name.startswith(".") or _has_masks(name, here))]
        images = (Path(place, name) for name in names if not name.startswith("."))
        found += (file for file in images if file.suffix.lower() in IMAGE_SUFFIXES | UNREAD.keys())
    return sorted(found)


def _has_masks(name: str, beside: set[str]) -> bool:
    """Return whether a folder contains the masks for the images in one of the folders beside it."""
    name = name.casefold()
    if name.startswith("segmentation"):
        return "jpegimages" in beside
    return "images" in beside if name == "masks" else name.removesuffix("annot") in beside - {name}


def pixel_count(path: StrPath) -> int:
    """Return height times width of an image as its file declares them; nothing is decoded.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        FileError: As `read_image`, as far as the header shows.
    """
    with opened(path) as image:
        return int(image.width * image.height)


def is_rotated(path: StrPath) -> bool:
    """Return whether the EXIF orientation of an image that is not square exchanges height and width."""
    with opened(path) as image:
        width = image.width
        return bool(upright(image).width != width)


def _declared_bits(image: Any) -> int | None:
    """Return how many bits the values of an image of 16 bits have, if the file says so.

    Pillow scales the values of a PPM file to 16 bits.
    """
    bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16
    return int(bits) if bits < 16 else 16 if image.format == "PPM" else None


def _to_eight_bits(image: Any, values: Array, bit_depth: int | None) -> Any:
    """Return Pillow's image of values of 16 bits, scaled to 8."""
    from PIL import Image

    high, bits = int(values.max()), _declared_bits(image)
    if bits is None and bit_depth in (None, 8):
        bits = 16 if high > 0x3FFF else 8 if high <= (255 if bit_depth else 0) else None
        if bits is None:
            raise ContentsError(
                f"has pixels up to {high} in 16 bits, so that it is unknown which value is white in "
                f"{smallest_depth(high)} to 16 bits: pass bit_depth, or save the image with 8 bits",
                "mode",
            )
    bits = bits or bit_depth or 8
    if high >> bits:
        reason = f"has pixels up to {high}, expected at most {2**bits - 1} ({bits} bits)"
        raise ContentsError(reason, "mode")
    values >>= bits - 8
    return Image.fromarray(values.astype(np.uint8))


def smallest_depth(high: int) -> int:
    """Return the fewest bits, of those that cameras use, for values up to `high`.

    Example:
        >>> smallest_depth(255), smallest_depth(4095), smallest_depth(16384)
        (8, 12, 16)
    """
    return next(bits for bits in (8, 10, 12, 14, 16) if high < 1 << bits)


def _to_rgb(image: Any, bands: Sequence[int] | None) -> Any:
    """Return a decoded image of 8 bits in mode RGB."""
    from PIL import Image

    if image.mode == "F":
        reason = "has floating-point pixels, whose range is unknown: save it with 8 or 16 bits"
        raise ContentsError(reason, "mode")
    if bands is not None:
        channels = [image.getchannel(band) for band in bands]
        return Image.merge("RGB", channels if len(channels) == 3 else channels * 3)
    if image.mode in ("LA", "RGBA"):
        _check_opacity(image.getchannel("A").histogram())
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_opacity(counts: list[int]) -> None:
    """Refuse an alpha channel that holds data; `counts` are the pixels of each of its 256 values.

    Opacity is 0 or 255 nearly everywhere, and between only along edges, or the same everywhere.
    """
    total, between = sum(counts), sum(counts[1:255])
    if counts[0] == total:
        reason = "has a last band that is 0 everywhere, so that all pixels are transparent"
    elif between > total / 4 and max(counts[1:255]) < total:
        reason = (
            f"has a last band that is marked as opacity but is between 1 and 254 in {between / total:.0%} of "
            f"the pixels, so that it seems to hold data such as near infrared"
        )
    else:
        return
    raise ContentsError(f"{reason}: choose bands with the argument bands, or save a copy without it", "mode")
