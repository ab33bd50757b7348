"""Checks of the first bytes and the structure of an image file, before Pillow reads it.

Pillow's readers accept some files that take very long or very much memory: a JPEG with thousands of scans, a
TIFF whose tiles or tags are far larger than the file, a PNG or GIF of millions of tiny blocks. Each function
here reads as little of a file as it can, in a time that is bounded.
"""

import mmap
import re
from contextlib import suppress
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.errors import ContentsError, counted

_Order: TypeAlias = Literal["little", "big"]

_FORMATS = {  # the suffixes of their files, and their first bytes
    "HEIC": (".heic .heif .hif", rb".{4}ftyp(hei|hev|mif1|msf1)"),
    "AVIF": (".avif", rb".{4}ftypavi"),
    "JPEG 2000": (".jp2 .j2k .jpf .jpx .jpc", rb".{4}jP  |\xff\x4f\xff\x51"),
    "JPEG XL": (".jxl", rb".{4}JXL |\xff\x0a"),
    "Photoshop": (".psd", rb"8BPS"),
    "GIMP": (".xcf", rb"gimp xcf"),
    "OpenEXR": (".exr", rb"\x76\x2f\x31\x01"),
    "BigTIFF": ("", rb"II\+\0|MM\0\+"),
    "camera raw": (".arw .cr2 .cr3 .dng .nef .nrw .orf .raf .rw2", rb"FUJIFILM"),
    "SVG": (".svg", rb"(\xef\xbb\xbf)?\s*<(\?xml|svg)"),
}
UNREAD = {suffix: name for name, (suffixes, _) in _FORMATS.items() for suffix in suffixes.split()}
UNREAD |= {".tga": "TGA", ".dcm": "DICOM", ".ico": "ICO", ".pcx": "PCX", ".jxr": "JPEG XR"}
"""Names of formats in which images are also stored and that are not read, by the suffix of their files."""

_SIZES = np.array((0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 1))  # bytes of a value of each type of a TIFF
EIGHT_BITS = "save it with 8 bits"
BANDS = (
    "expected one (grey) or three (RGB), and possibly opacity: choose three of up to four bands with the "
    "argument bands, or save a copy with three"
)
_ENTRY = np.dtype([("tag", "u2"), ("kind", "u2"), ("count", "u4"), ("value", "u4")])  # of a TIFF
_MAX_TAG_BYTES = 1 << 23
_MAX_PAGES = 1_000
_MAX_BLOCKS = 200_000  # of a PNG or GIF, or segments of a JPEG; 64 megapixels in chunks of 8 KB have 50,000
_MAX_COMMENT = 1 << 18


def unread_format(head: bytes) -> str | None:
    """Return the name of a format that is not read, found from the first bytes of a file.

    Example:
        >>> unread_format(bytes(4) + b"ftypheic"), unread_format(b"GIF89a")
        ('HEIC', None)
    """
    return next((name for name, (_, begin) in _FORMATS.items() if re.match(begin, head, re.DOTALL)), None)


def scan(file: BinaryIO, name: str, size: int) -> int:
    """Refuse a file that would be expensive to read, or of which Pillow would leave something out.

    Args:
        file: Open at any position.
        name: Of Pillow's plugin for its format, such as "Png".
        size: Bytes of the file.

    Returns:
        How many scans it has, if it is a JPEG; otherwise 0.

    Raises:
        ContentsError: If it is refused.
    """
    if name == "Tiff":
        _check_tiff(file, size)
    elif name == "Gif":
        _check_gif(file)
    elif name == "Png":
        _check_png(file)
    return _jpeg_scans(file) if name == "Jpeg" else 0


def _check_tiff(file: BinaryIO, size: int) -> None:
    """Refuse a TIFF that would be expensive to read, or of which Pillow would leave something out.

    Smaller copies of the first page, and masks of its opacity, are no pages.

    Raises:
        ContentsError: If its tags or tiles are too large, it begins with a preview, or it has several pages,
            more than four bands, or bands of more than 16 bits.
    """
    file.seek(0)
    order: _Order = "little" if file.read(4)[:2] == b"II" else "big"
    first = int.from_bytes(_exactly(file, 4), order)
    entries, at = _directory(file, first, order)
    tags = _numbers(entries, order)
    lengths = entries["count"] * _SIZES[np.minimum(entries["kind"], len(_SIZES) - 1)]
    if (total := int(lengths[lengths > 4].sum())) > min(size, _MAX_TAG_BYTES):
        raise ContentsError(f"has {total:,} bytes of tags")
    pixels = tags.get(256, 0) * tags.get(257, 0)
    width, height = tags.get(322, 0), tags.get(323, 0)
    if width * height > 4 * max(pixels, 1 << 20):
        raise ContentsError(f"has tiles of {width} x {height} pixels for {pixels:,} in all")
    if tags.get(254, 0) & 1:
        raise ContentsError("begins with a preview of another image, as files of cameras do")
    bands, bits = tags.get(277, 1), tags.get(258, 1)
    if any(lengths[(entries["tag"] == 258) & (entries["kind"] == 3)] > 4):  # `bits` is where they are stored
        file.seek(bits)
        bits = int.from_bytes(file.read(2), order)
    pages, seen = 1, {first, 0}
    with suppress(ContentsError):  # of what is behind the last page
        while at not in seen and len(seen) < _MAX_PAGES:
            seen.add(at)
            entries, at = _directory(file, at, order)
            pages += len(entries) > 0 and not _numbers(entries[:1], order).get(254, 0) & 5
    check_frames(pages, "page")
    if bands > 4:
        raise ContentsError(f"has {bands} bands, {BANDS}", "mode")
    if bits > 32 or (bits > 16 and bands > 1):
        raise ContentsError(f"has {bits} bits in each of {counted(bands, 'band')}: {EIGHT_BITS}", "mode")


def check_frames(count: int, noun: str = "frame") -> None:
    """Refuse a file with several frames or pages."""
    if count > 1:
        raise ContentsError(f"has {counted(count, noun)}, expected 1: save each as a file of its own", "mode")


def _directory(file: BinaryIO, at: int, order: _Order) -> tuple[Array, int]:
    """Return the entries of a directory of a TIFF, and where the next one is."""
    file.seek(at)
    count = int.from_bytes(_exactly(file, 2), order)
    entries = np.frombuffer(_exactly(file, 12 * count), _ENTRY.newbyteorder(order))
    return entries, int.from_bytes(file.read(4), order)


def _numbers(entries: Array, order: _Order) -> dict[int, int]:
    """Return the first number of each tag, or where its numbers are stored if they do not fit in here."""
    values, short = entries["value"], entries["kind"] == 3
    first = values >> 16 if order == "big" else values & 0xFFFF
    values = np.where(short & (entries["count"] < 3), first, values)
    there = short | (entries["kind"] == 4)
    return dict(zip(entries["tag"][there].tolist(), values[there].tolist(), strict=True))


def _jpeg_scans(file: BinaryIO) -> int:
    """Return how many scans a JPEG has; decoding each takes time in proportion to the pixels.

    The data are only searched if there may be more than one.

    Raises:
        ContentsError: If it has too many segments.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:  # keeps the position
        at, scans, components, progressive = 2, 0, b"", False
        marker = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in compressed data; others do not end them
        for _ in range(_MAX_BLOCKS):
            found = marker.search(data, at)
            if found is None or found[1] == b"\xd9":
                return scans
            code, at = found[1][0], found.end()
            length = int.from_bytes(data[at : at + 2], "big")
            if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
                progressive = code in (0xC2, 0xC6, 0xCA, 0xCE)
                components = data[at + 7 : at + 8]
            elif code == 0xDA:
                scans += 1
                if not progressive and data[at + 2 : at + 3] == components:
                    return scans
            at += length
    raise ContentsError(f"has more than {_MAX_BLOCKS:,} segments")


def _check_gif(file: BinaryIO) -> None:
    """Refuse a GIF that would be expensive to read, or has several frames.

    Raises:
        ContentsError: If it has too many blocks or frames, or too long comments, which Pillow copies again
            and again.
    """
    file.seek(10)
    flags = _exactly(file, 3)[0]
    file.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, 1)
    frames = comments = blocks = 0
    while (kind := file.read(1)) and kind != b";":
        blocks += 1
        comment = kind == b"!" and file.read(1) == b"\xfe"
        if kind == b",":
            frames += 1
            flags = _exactly(file, 9)[8]
            file.seek((3 << (flags & 7) + 1 if flags & 0x80 else 0) + 1, 1)
        while kind in b"!," and (length := int.from_bytes(file.read(1))):
            file.seek(length, 1)
            comments += length if comment else 0
            blocks += 1
            if comments > _MAX_COMMENT:
                raise ContentsError(f"has more than {_MAX_COMMENT:,} bytes of comments")
        if blocks > 2 * _MAX_BLOCKS:
            raise ContentsError(f"has more than {2 * _MAX_BLOCKS:,} blocks")
    check_frames(frames)


def _check_png(file: BinaryIO) -> None:
    """Refuse a PNG of too many chunks.

    Raises:
        ContentsError: If it has too many.
    """
    file.seek(8)
    for _ in range(_MAX_BLOCKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        file.seek(int.from_bytes(head[:4]) + 4, 1)
    raise ContentsError(f"has more than {_MAX_BLOCKS:,} chunks")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ContentsError("is truncated")
    return data
