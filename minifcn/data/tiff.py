"""TIFF files of any size, read and written in parts by tifffile (the extra `tiff`).

Pillow decodes an image as a whole; here only the tiles or strips that a part of the image touches are
decoded, so memory does not depend on the size of the image.
"""

import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.data.opening import MAX_PIXELS
from minifcn.files import FileError, existing_file
from minifcn.models.tiling import Rectangle

_LARGEST_SEGMENT = 1 << 28  # bytes of a tile or strip when it is decoded
_MOST_SEGMENTS = 1 << 22
_TILE = 256  # rows and columns of a tile of a mask
_READ = {(1, "uint8", 1, "grey", 1), (1, "uint8", 3, "RGB", 1), (1, "uint8", 3, "YCbCr", 1)}
"""What a file may be: pages, type, samples, colours, planes."""

_COLORS = {0: "grey, white is 0", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
"""Tags of GeoTIFF and GDAL that say where an image lies on the earth."""


def is_large_tiff(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a TIFF image with more pixels than are decoded at once.

    Example:
        >>> is_large_tiff("nowhere.tif")
        False
    """
    if os.fspath(path).lower().endswith((".tif", ".tiff")):
        # `read_image` says what is wrong with it
        with suppress(OSError, FileError, ImportError), Tiff(path) as image:
            return math.prod(image.size) > MAX_PIXELS
    return False


class Tiff(AbstractContextManager["Tiff"]):
    """A TIFF file of one uint8 image, grey or RGB, of which parts are read.

    Use it in a `with` block, which closes the file.

    Args:
        path: A TIFF or BigTIFF file with one page, in tiles or strips of at most 256 MB.

    Attributes:
        size: (H, W).
        channels: 1 or 3.

    Raises:
        ImportError: If tifffile is not installed.
        OSError: If the file cannot be opened.
        FileError: If it is damaged, or not such an image; the message contains what it is.

    Example:
        >>> import tempfile, tifffile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "large.tif"
        >>> tifffile.imwrite(path, np.full((300, 500, 3), 7, np.uint8), tile=(64, 64))
        >>> with Tiff(path) as image:
        ...     image.size, image.read((slice(290, 300), slice(60, 70))).shape
        ((300, 500), (10, 10, 3))
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path, tifffile = path, _tifffile()
        try:
            self._file = tifffile.TiffFile(existing_file(path))
        except OSError:
            raise
        except Exception as error:
            raise FileError(f"{os.fspath(path)} is no TIFF file: {str(error)[:200]}") from error
        try:
            self._page = self._only_page()
        except BaseException:
            self._file.close()
            raise

    def _only_page(self) -> Any:
        try:
            page, *others = self._file.pages
            pages = 1 if all(other.is_reduced for other in others) else 2  # or more, besides smaller copies
            self.size = int(page.imagelength), int(page.imagewidth)
            self.channels = int(page.samplesperpixel)
            segments, segment = len(page.dataoffsets), math.prod(page.chunks)
            colors = _COLORS.get(int(page.photometric), int(page.photometric))
            self._tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
            planes = 1 if page.planarconfig == 1 else self.channels
            found = pages, str(page.dtype), self.channels, colors, planes
            grid = [-(-edge // step) for edge, step in zip(self.size, page.chunks, strict=False)]
        except Exception as error:  # damaged files make tifffile raise many kinds of errors
            raise self._damaged(error) from error
        if found not in _READ:
            names = "pages", "type", "samples", "colours", "planes"
            known = ", ".join(f"{name} {value}" for name, value in zip(names, found, strict=True))
            raise FileError(f"{self.path}: expected one page of 8 bits, grey or RGB, got {known}")
        if segment > _LARGEST_SEGMENT or segments > _MOST_SEGMENTS:
            raise FileError(
                f"{self.path} has {segments:,} tiles or strips of {segment:,} bytes, expected at most "
                f"{_MOST_SEGMENTS:,} of {_LARGEST_SEGMENT:,}: write it in tiles of about 256 x 256"
            )
        if segments != math.prod(grid):
            raise FileError(
                f"{self.path} is damaged: {segments} tiles or strips do not fit its size {self.size}"
            )
        return page

    def read(self, part: Rectangle) -> Array:
        """Return a part of the image, uint8 (h, w, channels), for (rows, columns).

        Raises:
            FileError: If the file is damaged.
        """
        rows, cols = part
        out = np.empty((rows.stop - rows.start, cols.stop - cols.start, self.channels), np.uint8)
        height, width = self._page.chunks[:2]
        across = -(-self.size[1] // width)
        for down in range(rows.start // height, -(-rows.stop // height)):
            for right in range(cols.start // width, -(-cols.stop // width)):
                segment = self._segment(down * across + right)
                top, left = down * height, right * width
                r0, r1 = max(rows.start, top), min(rows.stop, top + segment.shape[0])
                c0, c1 = max(cols.start, left), min(cols.stop, left + segment.shape[1])
                out[r0 - rows.start : r1 - rows.start, c0 - cols.start : c1 - cols.start] = segment[
                    r0 - top : r1 - top, c0 - left : c1 - left
                ]
        return out

    def _segment(self, index: int) -> Array:
        """Return a decoded tile or strip, (h, w, channels)."""
        page = self._page
        try:
            offset, count = page.dataoffsets[index], page.databytecounts[index]
            if count > _LARGEST_SEGMENT:
                raise ValueError(f"tile {index} has {count} bytes")
            self._file.filehandle.seek(offset)
            data = self._file.filehandle.read(count)
            decoded, _, shape = page.decode(data, index, **self._tables)
            segment: Array = np.zeros(shape, np.uint8) if decoded is None else decoded  # not stored: 0
            return segment.reshape(segment.shape[-3:])
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FileError:
        return FileError(f"{self.path} cannot be read, it is damaged or needs a decoder: {str(error)[:200]}")

    def georeference(self) -> list[tuple[Any, ...]]:
        """Return the tags that say where the image lies on the earth, as `write_mask` takes them."""
        tags = (self._page.tags.get(code) for code in _GEOREFERENCE)
        return [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in tags if tag is not None]

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._file.close()


def write_mask(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    colors: Array,
    parts: Iterable[tuple[Rectangle, Array]],
    georeference: Iterable[tuple[Any, ...]] = (),
) -> None:
    """Write labels as a TIFF file whose palette indices are the classes, compressed without loss.

    Args:
        path: The file to write.
        size: (H, W).
        colors: uint8 (256, 3), RGB.
        parts: (rows, columns) and labels uint8 (h, w) of the parts of the image, row by row, as
            `training.label_tiles` yields them.
        georeference: Tags from `Tiff.georeference`.

    Raises:
        ImportError: If tifffile is not installed.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = tempfile.mkdtemp() + "/mask.tif"
        >>> everything = slice(0, 4), slice(0, 5)
        >>> grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        >>> write_mask(path, (4, 5), grey, [(everything, np.eye(4, 5, dtype=np.uint8))])
        >>> with Image.open(path) as mask:
        ...     mask.mode, mask.size
        ('P', (5, 4))
    """
    _tifffile().imwrite(
        path,
        _tiles(size, parts),
        shape=size,
        dtype=np.uint8,
        photometric="palette",
        colormap=colors.T.astype(np.uint16) * 257,  # 255 -> 65535
        tile=(_TILE, _TILE),
        compression="zlib",
        extratags=[*georeference],
        metadata=None,
        software=False,
        maxworkers=1,
        bigtiff=size[0] * size[1] > 1 << 31,
    )


def _tiles(size: tuple[int, int], parts: Iterable[tuple[Rectangle, Array]]) -> Iterator[Array]:
    """Yield the tiles, row by row, of an image that comes in other parts; they go on with 0 beyond it."""
    height, width = size
    whole_tiles = -(-width // _TILE) * _TILE
    waiting = np.zeros((0, whole_tiles), np.uint8)  # rows that are complete and not written yet
    band = waiting
    for (rows, cols), labels in parts:
        if cols.start == 0:
            band = np.zeros((rows.stop - rows.start, whole_tiles), np.uint8)
        band[:, cols] = labels
        if cols.stop < width:
            continue
        if rows.stop == height:
            band = np.pad(band, ((0, -height % _TILE), (0, 0)))
        waiting = np.concatenate([waiting, band])
        while len(waiting) >= _TILE:
            for left in range(0, whole_tiles, _TILE):
                yield waiting[:_TILE, left : left + _TILE]
            waiting = waiting[_TILE:]


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("TIFF images of this size need tifffile: install minifcn[tiff]") from error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it prints what it finds wrong
    return tifffile
