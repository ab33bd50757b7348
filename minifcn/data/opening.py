"""Opens and decodes image files with Pillow.

Refused are files that are too large, take too long, or of which Pillow would leave something out.

The format of a file is found from its first bytes, whatever its name, and only the formats below are read:
Pillow knows others that start programs or refer to other files.
"""

import ctypes
import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import ContentsError, DataError, StrPath, counted, open_data
from minifcn.data.scanning import BANDS, EIGHT_BITS, UNREAD, check_frames, scan, unread_format

logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise it prints errors that it also raises

MAX_PIXELS = 64_000_000
"""Height times width of the largest image that is decoded; converting it takes 0.7 to 0.9 GB of memory. For
WebP, whose decoder keeps two more copies, and for colours of 16 bits, which are decoded twice, the limit is
half of that."""

_MAX_BYTES = 1 << 30  # of a file; WebP files are read as a whole
_MAX_SCANS = 100  # of a JPEG, and 20 of the largest one; programs make about 10
_MAX_EXIF = 1 << 18
_SLOW_DECODERS = ("ppm", "ppm_plain", "bmp_rle")  # written in Python; a megapixel takes some seconds

_SIGNATURES = {  # the first bytes of a file, and the name of Pillow's plugin for it
    rb"\x89PNG\r\n\x1a\n": "Png",
    rb"\xff\xd8\xff": "Jpeg",
    rb"GIF8[79]a": "Gif",
    rb"BM": "Bmp",
    rb"II\*\0|MM\0\*": "Tiff",
    rb"RIFF....WEBP": "WebP",
    rb"P[1-6]\s": "Ppm",
}


@contextmanager
def opened(path: StrPath) -> Iterator[Any]:
    """Yield Pillow's image of a file; its size is within the limit, and it is not decoded yet.

    `PIL.Image.open` is not used, because its warning about large images can only be switched off globally.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        DataError: Instead of whatever else is raised here or in the block, which decodes the image.
    """
    with open_data(path) as file:
        try:
            yield _not_decoded(file, Path(path).suffix.lower())
        except DataError:
            raise
        except ContentsError as error:
            raise DataError(error.kind, path, str(error)) from None
        except Exception as error:  # damaged files make Pillow raise many kinds of errors
            reason = f"cannot be read, it is damaged or truncated: {str(error)[:200]}"
            raise DataError("unreadable", path, reason) from error


def _not_decoded(file: BinaryIO, suffix: str) -> Any:
    """Return Pillow's image of an open file, after what can be checked before it is decoded."""
    if (size := os.fstat(file.fileno()).st_size) > _MAX_BYTES:
        raise ContentsError(f"has {size:,} bytes, expected at most {_MAX_BYTES:,}")
    head = file.read(30)
    name = next((name for begin, name in _SIGNATURES.items() if re.match(begin, head, re.DOTALL)), "")
    unread = UNREAD.get(suffix) if name in ("", "Tiff") else None  # camera raw files look like TIFF
    if unread or (not name and (unread := unread_format(head))):
        raise ContentsError(unread_message(unread))
    if not name:
        raise ContentsError("is not an image: expected PNG, JPEG, BMP, GIF, TIFF, WebP or PPM")
    if name == "Tiff":
        _silence_libtiff()
    elif name == "WebP":  # its decoder takes memory as soon as it is made
        _check_size(_webp_size(head), MAX_PIXELS // 2)
    scans = scan(file, name, size)
    file.seek(0)
    plugin = importlib.import_module(f"PIL.{name}ImagePlugin")
    image = getattr(plugin, f"{name}ImageFile")(file)
    slow = image.tile and image.tile[0][0] in _SLOW_DECODERS
    twice = re.search("RGB.*;16", raw_mode(image))  # see `sixteen_bits`
    _check_size(image.size, MAX_PIXELS // (64 if slow else 2 if twice else 1))
    pixels = image.width * image.height
    if scans > (most := min(_MAX_SCANS, 20 * MAX_PIXELS // max(pixels, 1))):  # each takes time for all pixels
        reason = f"has {scans:,} scans, expected at most {most} for {pixels:,} pixels: save it again"
        raise ContentsError(reason)
    if name in ("Png", "WebP"):
        check_frames(getattr(image, "n_frames", 1))
    return image


def unread_message(name: str) -> str:
    """Return what is said of an image in a format that is not read."""
    return f"is in a format that is not read ({name}): convert it to PNG, TIFF or JPEG"


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing to stderr by itself; Pillow raises an exception for the same errors."""
    with suppress(Exception):  # some builds of Pillow do not show the function
        from PIL import _imaging

        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(ctypes.CDLL(_imaging.__file__), name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)


def _check_size(size: tuple[int, int], limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise ContentsError(
            f"has {width} x {height} pixels, expected at most {limit // 10**6} megapixels; with "
            f"minifcn[tiff], minifcn predict labels larger TIFF files of 8 bits, grey or RGB"
        )


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
    if (size := len(image.info.get("exif", b""))) > _MAX_EXIF:
        raise ContentsError(f"has {size:,} bytes of EXIF data, expected at most {_MAX_EXIF:,}")
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data do not make the image unreadable
        pass
    return image


def raw_mode(image: Any) -> str:
    """Return how the pixels of an image are stored in its file, before it is decoded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def check_bands(image: Any, bands: Sequence[int] | None = None) -> None:
    """Refuse an image with bands that Pillow leaves out, or without those that are asked for.

    With `bands`, a fourth band that Pillow would leave out or multiply is made an ordinary one.
    """
    tags = getattr(image, "tag_v2", {})
    there, read = int(tags.get(277, 1)) if tags else len(image.getbands()), len(image.getbands())
    if bands is not None:
        if match := re.fullmatch(r"RGB[Xa](;16.)?", raw_mode(image)):
            _set_raw_mode(image, "RGBA", "RGBA" + (match[1] or ""))
            read = 4
        if read != there or len(bands) not in (1, 3) or not all(0 <= band < there for band in bands):
            bad = f"has {counted(there, 'band')} (mode {image.mode}), and bands {tuple(bands)} were asked for"
            raise ContentsError(bad, "mode")
    elif read != there:
        raise ContentsError(f"has {counted(there, 'band')}, {BANDS}", "mode")


def sixteen_bits(image: Any) -> Array | None:
    """Decode an image whose channels have 16 bits, upright: uint16 (H, W) or (H, W, C); None for others.

    Pillow keeps only the high bytes of colours. The same data are decoded again with the other order of the
    bytes, which gives the low ones.
    """
    mode, raw = image.mode, raw_mode(image)
    if mode.startswith("I"):
        values = np.asarray(upright(image))
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFF:
            raise ContentsError(f"has pixels from {low} to {high}, expected 0 to 65535 (16 bits)", "mode")
        return values.astype(np.uint16)
    match = re.fullmatch(r"((RGB|RGBA|RGBX);16)([BLN])", raw)
    if match is None:
        if ";16" in raw:
            raise ContentsError(f"has 16 bits in each channel of the kind {raw}: {EIGHT_BITS}", "mode")
        return None
    native = "L" if sys.byteorder == "little" else "B"
    swapped = match[1] + ("B" if (native if match[3] == "N" else match[3]) == "L" else "L")
    image.fp.seek(0)
    other = type(image)(image.fp)
    _set_raw_mode(other, mode, swapped)
    wide = np.asarray(upright(image)).astype(np.uint16)
    wide <<= 8
    wide |= np.asarray(upright(other))
    return wide


def _set_raw_mode(image: Any, mode: str, raw: str) -> None:
    """Have an image decoded to another mode, from pixels that are stored in another way."""
    image._mode = mode
    image.tile = [
        type(tile)(*tile[:3], (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw)
        for tile in image.tile
    ]
