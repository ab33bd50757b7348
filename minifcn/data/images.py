"""Images from files: any of Pillow's modes in, uint8 RGB out, and nothing decoded that is too large.

The format of a file is found from its first bytes, whatever its name, and only the formats below are read:
Pillow knows others that start programs or refer to other files.
"""

import importlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError, StrPath
from minifcn.functional.operands import check_choice

MAX_PIXELS = 64_000_000
"""Height times width of the largest image that is decoded; converting it takes 0.7 to 0.9 GB of memory. For
WebP, whose decoder keeps two more copies, the limit is half of that."""

_MAX_BYTES = 1 << 30  # of a file; WebP files are read as a whole

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
)

_SIGNATURES = {  # the first bytes of a file, and the name of Pillow's plugin for it
    rb"\x89PNG\r\n\x1a\n": "Png",
    rb"\xff\xd8\xff": "Jpeg",
    rb"GIF8[79]a": "Gif",
    rb"BM": "Bmp",
    rb"II\*\0|MM\0\*": "Tiff",
    rb"RIFF....WEBP": "WebP",
    rb"P[1-6]\s": "Ppm",
}


def read_image(path: StrPath) -> Array:
    """Read an image file as RGB.

    Every mode is converted: grey is repeated, palettes are looked up, transparent pixels are put on white,
    and of 16-bit values the high byte is kept. The EXIF orientation is applied. Of an animation, the first
    frame is read. Floating-point images are refused, because their range is unknown.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file, whatever its suffix.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        FileError: If it is not such an image, is damaged or truncated, or has more than `MAX_PIXELS` pixels;
            the size is checked before anything is decoded.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (5, 4), 200).save(path)
        >>> read_image(path).shape, read_image(path)[0, 0].tolist()
        ((4, 5, 3), [200, 200, 200])
    """
    with opened(path) as image:
        rgb = _to_rgb(upright(image), path)
        if rgb is not image:
            image.close()  # frees its memory before one more copy is made
        return np.array(rgb)


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
        found += (file for file in images if file.suffix.lower() in IMAGE_SUFFIXES)
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


@contextmanager
def opened(path: StrPath) -> Iterator[Any]:
    """Yield Pillow's image of a file; its size is within the limit, and it is not decoded yet.

    `PIL.Image.open` is not used, because its warning about large images can only be switched off globally.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        DataError: Instead of whatever else is raised here or in the block, which decodes the image.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would block
        raise DataError("unreadable", path, "is not a file")
    if status.st_size > _MAX_BYTES:
        raise DataError("unreadable", path, f"has {status.st_size:,} bytes, expected at most {_MAX_BYTES:,}")
    with Path(path).open("rb") as file:
        head = file.read(30)
        file.seek(0)
        name = next((name for begin, name in _SIGNATURES.items() if re.match(begin, head, re.DOTALL)), "")
        if not name:
            reason = "is not an image: expected PNG, JPEG, BMP, GIF, TIFF, WebP or PPM"
            raise DataError("unreadable", path, reason)
        if name == "WebP":  # its decoder takes memory as soon as it is made
            _check_size(_webp_size(head), path, MAX_PIXELS // 2)
        try:
            plugin = importlib.import_module(f"PIL.{name}ImagePlugin")
            image = getattr(plugin, f"{name}ImageFile")(file)
            _check_size(image.size, path)
            yield image
        except DataError:
            raise
        except Exception as error:  # damaged files make Pillow raise many kinds of errors
            reason = f"cannot be read, it is damaged or truncated: {str(error)[:200]}"
            raise DataError("unreadable", path, reason) from error


def _check_size(size: tuple[int, int], path: StrPath, limit: int = MAX_PIXELS) -> None:
    width, height = size
    if width * height > limit:
        reason = f"has {width} x {height} pixels, expected at most {limit // 10**6} megapixels"
        raise DataError("unreadable", path, reason)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return (width, height) that the first chunk of a WebP file declares."""
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def upright(image: Any) -> Any:
    """Decode an image, rotate or mirror it in place as its EXIF data say, and return it."""
    from PIL import ImageOps

    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data do not make the image unreadable
        pass
    return image


def is_rotated(path: StrPath) -> bool:
    """Return whether the EXIF orientation of an image that is not square exchanges height and width."""
    with opened(path) as image:
        width = image.width
        return bool(upright(image).width != width)


def _to_rgb(image: Any, path: StrPath) -> Any:
    """Return a decoded image in mode RGB."""
    from PIL import Image

    if image.mode == "F":
        reason = "has floating-point pixels, whose range is unknown: save it with 8 or 16 bits"
        raise DataError("mode", path, reason)
    if image.mode.startswith("I"):  # 16 bits, which some formats keep in 32
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFF:
            reason = f"has pixels from {low} to {high}, expected 0 to 65535 (16 bits)"
            raise DataError("mode", path, reason)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba)
    return image if image.mode == "RGB" else image.convert("RGB")
