"""What the first bytes and the structure of an image file say, before Pillow reads it.

Pillow's readers accept some files that take very long or very much memory: a JPEG with thousands of scans, a
TIFF whose tiles or tags are far larger than the file, a PNG or GIF of millions of tiny blocks. Each function
here reads as little of a file as it can, in a time that is bounded.
"""

import mmap
import re
import struct
from typing import BinaryIO, NamedTuple

UNREAD = {  # by suffix: formats in which photographs are also stored
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".jpc"), "JPEG 2000"),
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".raf", ".rw2"), "camera raw"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
    ".psd": "Photoshop",
    ".xcf": "GIMP",
    ".exr": "OpenEXR",
    ".tga": "TGA",
    ".svg": "SVG",
    ".dcm": "DICOM",
    ".ico": "ICO",
    ".pcx": "PCX",
    ".jxr": "JPEG XR",
}
"""Names of image formats that are not read, by the suffix of their files."""

_UNREAD = {  # by the first bytes
    rb".{4}ftyp(hei|hev|mif1|msf1)": "HEIC",
    rb".{4}ftypavi": "AVIF",
    rb".{4}jP  |\xff\x4f\xff\x51": "JPEG 2000",
    rb".{4}JXL |\xff\x0a": "JPEG XL",
    rb"8BPS": "Photoshop",
    rb"gimp xcf": "GIMP",
    rb"\x76\x2f\x31\x01": "OpenEXR",
    rb"II\+\0|MM\0\+": "BigTIFF",
    rb"(\xef\xbb\xbf)?\s*<(\?xml|svg)": "SVG",
}
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)  # bytes of a value of each type of a TIFF
_MAX_TAG_BYTES = 1 << 23
_MAX_PAGES = 1_000
_MAX_BLOCKS = 200_000  # of a PNG or GIF, or segments of a JPEG; 64 megapixels in chunks of 8 KB have 50,000
_MAX_COMMENT = 1 << 18


class ScanError(ValueError):
    """A file has something that would take too long or too much memory, or is damaged."""


def unread_format(head: bytes) -> str | None:
    """Return the name of a format that is not read, found from the first bytes of a file.

    Example:
        >>> unread_format(bytes(4) + b"ftypheic"), unread_format(b"GIF89a")
        ('HEIC', None)
    """
    return next((name for begin, name in _UNREAD.items() if re.match(begin, head, re.DOTALL)), None)


class Tiff(NamedTuple):
    """The structure of a TIFF: numbers of pages and bands, and bits of a band.

    Smaller copies of the first page, and masks of its opacity, are no pages.
    """

    pages: int
    bands: int
    bits: int


def scan_tiff(file: BinaryIO, size: int) -> Tiff:
    """Return the structure of a TIFF.

    Args:
        file: Open at any position.
        size: Bytes of the file.

    Raises:
        ScanError: If its tags or tiles are too large, or it begins with a preview.
    """
    file.seek(0)
    order = "<" if file.read(4)[:2] == b"II" else ">"
    at = struct.unpack(f"{order}I", _exactly(file, 4))[0]
    file.seek(at)
    (count,) = struct.unpack(f"{order}H", _exactly(file, 2))
    tags: dict[int, int] = {}
    total = 0
    for tag, kind, number, value in struct.iter_unpack(f"{order}HHI4s", _exactly(file, 12 * count)):
        length = number * (_SIZES[kind] if kind < len(_SIZES) else 1)
        total += length if length > 4 else 0
        if tag == 258 and kind == 3 and length > 4:  # bits of each band: the first
            here = file.tell()
            file.seek(struct.unpack(f"{order}I", value)[0])
            value = file.read(4).ljust(4, b"\0")
            file.seek(here)
        if kind in (3, 4):
            tags[tag] = (
                struct.unpack(f"{order}I", value)[0] if kind == 4 else struct.unpack(f"{order}HH", value)[0]
            )
    if total > min(size, _MAX_TAG_BYTES):
        raise ScanError(f"has {total:,} bytes of tags")
    pixels = tags.get(256, 0) * tags.get(257, 0)
    width, height = tags.get(322, 0), tags.get(323, 0)
    if width * height > 4 * max(pixels, 1 << 20):
        raise ScanError(f"has tiles of {width} x {height} pixels for {pixels:,} in all")
    if tags.get(254, 0) & 1:
        raise ScanError("begins with a preview of another image, as files of cameras do")
    pages, seen = 1, {at}
    while len(seen) < _MAX_PAGES:
        rest = file.read(4)
        at = struct.unpack(f"{order}I", rest)[0] if len(rest) == 4 else 0
        if at == 0 or at in seen:
            break
        seen.add(at)
        file.seek(at)
        begin = file.read(14).ljust(14, b"\0")
        count, tag, kind, _, value = struct.unpack(f"{order}HHHI4s", begin)
        subfile = struct.unpack(f"{order}I", value)[0] if (tag, kind) == (254, 4) else 0
        pages += count > 0 and not subfile & 5
        file.seek(at + 2 + 12 * count)
    return Tiff(pages, tags.get(277, 1), tags.get(258, 1))


def jpeg_scans(file: BinaryIO) -> int:
    """Return how many scans a JPEG has; decoding each takes time in proportion to the pixels.

    The data are only searched if there may be more than one.

    Raises:
        ScanError: If it has too many segments.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:  # keeps the position
        at, scans, components, progressive = 2, 0, 0, False
        marker = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in compressed data; others do not end them
        for _ in range(_MAX_BLOCKS):
            found = marker.search(data, at)
            if found is None or found[1] == b"\xd9":
                return scans
            code, at = found[1][0], found.end()
            length = int.from_bytes(data[at : at + 2], "big")
            if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
                progressive, components = (
                    code in (0xC2, 0xC6, 0xCA, 0xCE),
                    int.from_bytes(data[at + 7 : at + 8]),
                )
            elif code == 0xDA:
                scans += 1
                if not progressive and data[at + 2 : at + 3] == bytes([components]):
                    return scans
            at += length
    raise ScanError(f"has more than {_MAX_BLOCKS:,} segments")


def gif_frames(file: BinaryIO) -> int:
    """Return how many frames a GIF has.

    Raises:
        ScanError: If it has too many blocks, or too long comments, which Pillow copies again and again.
    """
    file.seek(10)
    flags = _exactly(file, 3)[0]
    file.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, 1)
    frames = comments = blocks = 0
    while (kind := file.read(1)) and kind != b";":
        blocks += 1
        comment = False
        if kind == b"!":
            comment = file.read(1) == b"\xfe"
        elif kind == b",":
            frames += 1
            flags = _exactly(file, 9)[8]
            file.seek((3 << (flags & 7) + 1 if flags & 0x80 else 0) + 1, 1)
        while kind in b"!," and (length := int.from_bytes(file.read(1))):
            file.seek(length, 1)
            comments += length if comment else 0
            blocks += 1
            if comments > _MAX_COMMENT:
                raise ScanError(f"has more than {_MAX_COMMENT:,} bytes of comments")
        if blocks > 2 * _MAX_BLOCKS:
            raise ScanError(f"has more than {2 * _MAX_BLOCKS:,} blocks")
    return frames


def check_png(file: BinaryIO) -> None:
    """Refuse a PNG of too many chunks.

    Raises:
        ScanError: If it has too many.
    """
    file.seek(8)
    for _ in range(_MAX_BLOCKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        file.seek(int.from_bytes(head[:4]) + 4, 1)
    raise ScanError(f"has more than {_MAX_BLOCKS:,} chunks")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ScanError("is truncated")
    return data
