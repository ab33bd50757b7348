"""Pictures from files: any mode of Pillow's in, uint8 RGB out, and nothing decoded that is too large.

Files are opened by their first bytes, whatever their name, and by the few formats below only: Pillow knows
others that start programs or follow pointers into other files.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import DataError

MAX_PIXELS = 64_000_000
"""Height times width of the largest image that is decoded: converting it takes 0.7 to 0.9 GB. Of WebP, whose
decoder keeps two more copies, it is half as many."""

_MAX_BYTES = 1 << 30  # of a file; WebP is read whole

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
)


def read_image(path: str | os.PathLike[str]) -> Array:
    """Read a picture as it is meant to be seen.

    Every mode becomes RGB: grey is repeated, palettes are looked up, what is transparent lies on white, and
    of 16-bit pixels the high byte is kept. The orientation of the EXIF data is honoured, so a photograph
    taken upright comes out upright. Of an animation it is the first frame. Floating-point pixels are refused,
    for their range is not known.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file, whatever its name ends in.

    Returns:
        uint8 (H, W, 3) in RGB.

    Raises:
        OSError: If there is no such file, or it may not be read.
        FileError: If it is no such image, is damaged or cut off, or has more than `MAX_PIXELS` pixels, which
            is seen before anything is decoded.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (5, 4), 200).save(path)
        >>> read_image(path).shape, read_image(path)[0, 0].tolist()
        ((4, 5, 3), [200, 200, 200])
    """
    with opened(path) as (image, _):
        rgb = _rgb(upright(image), path)
        if rgb is not image:
            image.close()  # gives its memory back before there is one more copy
        return np.array(rgb)


def pixel_count(path: str | os.PathLike[str]) -> int:
    """Return height times width of a picture as its file declares them: nothing is decoded.

    Raises:
        OSError: If there is no such file, or it may not be read.
        FileError: As `read_image`, as far as the head of the file tells.
    """
    with opened(path) as (image, _):
        return int(image.width * image.height)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, str]]:
    """Yield Pillow's image of a file, not yet decoded but of a bearable size, and the name of its format.

    Whatever goes wrong in the block, which decodes it, becomes a `DataError`.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise DataError("unreadable", path, "is not a file")
    if status.st_size > _MAX_BYTES:
        raise DataError("unreadable", path, f"has {status.st_size:,} bytes, expected 1 GB at most")
    with Path(path).open("rb") as file:
        try:
            name, image = _plugin(file)
            _check_size(image.size, path)
            yield image, name
        except DataError:
            raise
        except _NoImageError as error:
            raise DataError("unreadable", path, str(error)) from None
        except Exception as error:  # damaged files make Pillow raise errors of a dozen kinds
            raise DataError(
                "unreadable", path, f"cannot be read, it is damaged or cut off: {str(error)[:200]}"
            ) from error


def _check_size(size: tuple[int, int], path: str | os.PathLike[str], limit: int = MAX_PIXELS) -> None:
    width, height = size
    if width * height > limit:
        raise DataError(
            "unreadable",
            path,
            f"has {width} x {height} pixels, expected {limit // 10**6} megapixels at most",
        )


class _NoImageError(ValueError):
    """The file is of none of the formats."""


def _plugin(file: IO[bytes]) -> tuple[str, Any]:
    """Return name and opened image of the format that a file begins like.

    Pillow's `Image.open` is not used: it tries formats that are not wanted here, and warns on standard error
    about sizes that are refused anyway.
    """
    head = file.read(30)
    file.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile

        return "PNG", PngImageFile(file)
    if head.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import JpegImageFile

        return "JPEG", JpegImageFile(file)
    if head.startswith((b"GIF87a", b"GIF89a")):
        from PIL.GifImagePlugin import GifImageFile

        return "GIF", GifImageFile(file)
    if head.startswith(b"BM"):
        from PIL.BmpImagePlugin import BmpImageFile

        return "BMP", BmpImageFile(file)
    if head.startswith((b"II*\0", b"MM\0*")):
        from PIL.TiffImagePlugin import TiffImageFile

        return "TIFF", TiffImageFile(file)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        from PIL.WebPImagePlugin import WebPImageFile

        _check_size(_webp_size(head), file.name, MAX_PIXELS // 2)  # its decoder takes memory when it is made
        return "WebP", WebPImageFile(file)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        from PIL.PpmImagePlugin import PpmImageFile

        return "PPM", PpmImageFile(file)
    raise _NoImageError("is no image: expected PNG, JPEG, BMP, GIF, TIFF, WebP or PPM")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return (width, height) that the first chunk of a WebP file declares."""
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def upright(image: Any) -> Any:
    """Decode an image, and turn or mirror it as its EXIF data say."""
    from PIL import Image

    image.load()
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    image.close()
    return turned


def lies_on_its_side(path: str | os.PathLike[str]) -> bool:
    """Return whether a picture is stored turned by a quarter, as its EXIF data say.

    Raises:
        OSError: If there is no such file, or it may not be read.
        FileError: As `read_image`, as far as the head of the file tells.
    """
    with opened(path) as (image, _):
        return _orientation(image) in (5, 6, 7, 8)


def _orientation(image: Any) -> Any:
    """Return what the EXIF data of an image say of its orientation, or None."""
    from PIL import ExifTags

    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the photograph is whole, only its notes are not
        return None


def _rgb(image: Any, path: str | os.PathLike[str]) -> Any:
    """Return a decoded image in mode RGB."""
    from PIL import Image

    if image.mode == "F":
        raise DataError(
            "mode", path, "has floating-point pixels, whose range is not known: save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits, which some formats keep in 32
        values = np.asarray(image)
        least, largest = int(values.min()), int(values.max())
        if least < 0 or largest > 0xFFFF:
            raise DataError(
                "mode", path, f"has pixels from {least} to {largest}, expected 0 to 65535 (16 bits)"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba)
    return image if image.mode == "RGB" else image.convert("RGB")
