"""Limits of what a file may declare: what reaches them is read, and one more is refused."""

import io
import struct

import pytest

from minifcn.data import scanning
from minifcn.data.errors import ContentsError
from minifcn.data.scanning import scan


def tiff(*directories, order="<"):
    """Return a TIFF of directories of (tag, kind, count, value), one after another."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    for number, entries in enumerate(directories, 1):
        data += struct.pack(f"{order}H", len(entries))
        for tag, kind, count, value in entries:
            here = value << 16 if kind == 3 and order == ">" and count == 1 else value
            data += struct.pack(f"{order}HHII", tag, kind, count, here)
        end = len(data) + 4
        data += struct.pack(f"{order}I", end if number < len(directories) else 0)
    return data


def image(**tags):
    """Return a directory of an image of 16 x 16 pixels."""
    codes = {"width": 256, "height": 257, "bits": 258, "bands": 277, "tile_width": 322, "tile_height": 323}
    values = {256: 16, 257: 16, 258: 8, 277: 1} | {codes.get(name, name): tags[name] for name in tags}
    return [(tag, 3, 1, value) for tag, value in sorted(values.items())]


def check(data, name="Tiff", size=None):
    return scan(io.BytesIO(data), name, len(data) if size is None else size)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("allowed", "refused", "says"),
    [
        ({"tile_width": 2048, "tile_height": 2048}, {"tile_width": 2048, "tile_height": 2049}, "for 256 in"),
        (
            {"width": 2048, "height": 1024, "tile_width": 4096, "tile_height": 2048},
            {"width": 2048, "height": 1024, "tile_width": 4096, "tile_height": 2049},
            "tiles of 4096 x 2049 pixels for 2,097,152 in all",
        ),
        ({"bands": 4}, {"bands": 5}, "has 5 bands"),
        ({"bits": 32}, {"bits": 33}, "has 33 bits in each of 1 band"),
        ({"bits": 16, "bands": 2}, {"bits": 17, "bands": 2}, "has 17 bits in each of 2 bands"),
    ],
    ids=["small tiles", "large tiles", "bands", "bits", "bits of several bands"],
)
def test_tiffs_up_to_the_limits_are_read(order, allowed, refused, says):
    assert check(tiff(image(**allowed), order=order)) == 0
    with pytest.raises(ContentsError, match=says):
        check(tiff(image(**refused), order=order))


BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 1, 99: 1}


@pytest.mark.parametrize(("kind", "size"), BYTES.items())
def test_tags_may_be_as_large_as_the_file(kind, size):
    """With values of each type in TIFF 6.0, 13 and others; up to 4 bytes are in the entry itself."""
    data = tiff([*image(), (700, kind, 100, 8), (701, 1, 4, 8)])
    check(data, size=100 * size)
    with pytest.raises(ContentsError, match=f"has {100 * size} bytes of tags"):
        check(data, size=100 * size - 1)


def test_tags_of_a_huge_file_are_limited():
    check(tiff([*image(), (700, 1, 1 << 23, 8)]), size=1 << 30)
    with pytest.raises(ContentsError, match="has 8,388,609 bytes of tags"):
        check(tiff([*image(), (700, 1, (1 << 23) + 1, 8)]), size=1 << 30)


def with_subfile(kind):
    return [(254, 4, 1, kind), *image()]


def test_smaller_copies_and_masks_are_no_pages_and_a_preview_is_no_image():
    check(tiff(image(), with_subfile(1), with_subfile(4), []))
    check(tiff(with_subfile(2)))
    for others, pages in (([image()], 2), ([with_subfile(0), with_subfile(1), with_subfile(2)], 3)):
        with pytest.raises(ContentsError, match=f"has {pages} pages, expected 1"):
            check(tiff(image(), *others))
    with pytest.raises(ContentsError, match="begins with a preview"):
        check(tiff(with_subfile(1), image()))


def test_directories_in_a_circle_end():
    data = bytearray(tiff(image(), with_subfile(1)))
    data[-4:] = struct.pack("<I", 8)
    check(bytes(data))


def png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + bytes(4) for kind, data in chunks
    )


def test_chunks_of_a_png_are_limited(monkeypatch):
    monkeypatch.setattr(scanning, "_MAX_BLOCKS", 5)
    text = (b"tEXt", b"IEND" * 3)
    check(png([text] * 4 + [(b"IEND", b"")] + [text] * 9), "Png")  # what follows the end does not count
    check(png([text] * 4), "Png")
    with pytest.raises(ContentsError, match="more than 5 chunks"):
        check(png([text] * 5 + [(b"IEND", b"")]), "Png")


def gif(*blocks, palette=None):
    """Return a GIF with a palette of 2^(palette + 1) colours."""
    flags = 0 if palette is None else 0x80 | palette
    colors = b"" if palette is None else b";" * (3 << palette + 1)
    return b"GIF89a\1\0\1\0" + bytes([flags, 0, 0]) + colors + b"".join(blocks) + b";"


def frame(palette=None, data=(b"x",)):
    flags = 0 if palette is None else 0x80 | palette
    colors = b"" if palette is None else b";" * (3 << palette + 1)
    parts = b"".join(bytes([len(part)]) + part for part in data)
    return b"," + bytes(8) + bytes([flags]) + colors + b"\2" + parts + b"\0"


def extension(kind, *data):
    return b"!" + kind + b"".join(bytes([len(part)]) + part for part in data) + b"\0"


@pytest.mark.parametrize("palette", [None, 0, 3, 7])
def test_frames_of_a_gif_are_counted_whatever_their_palettes(palette):
    notes = extension(b"\xf9", b"1234"), extension(b"\xfe", b"a comment", b"; and more,")
    check(gif(*notes, frame(palette), palette=palette), "Gif")
    with pytest.raises(ContentsError, match="has 2 frames"):
        check(gif(frame(palette), *notes, frame(), palette=palette), "Gif")


def test_comments_and_blocks_of_a_gif_are_limited(monkeypatch):
    monkeypatch.setattr(scanning, "_MAX_COMMENT", 20)
    other = extension(b"\xff", b"x" * 200)
    check(gif(other, extension(b"\xfe", b"x" * 10), extension(b"\xfe", b"x" * 10), frame()), "Gif")
    with pytest.raises(ContentsError, match="more than 20 bytes of comments"):
        check(gif(extension(b"\xfe", b"x" * 10, b"x" * 11), frame()), "Gif")
    monkeypatch.setattr(scanning, "_MAX_BLOCKS", 3)
    check(gif(frame(data=[b"x"] * 5)), "Gif")  # the frame and its five blocks
    with pytest.raises(ContentsError, match="more than 6 blocks"):
        check(gif(frame(data=[b"x"] * 6)), "Gif")


@pytest.mark.parametrize("name", ["Gif", "Tiff"])
def test_truncated_headers_are_refused(name):
    data = gif(frame()) if name == "Gif" else tiff(image())
    for length in (5, 12):
        with pytest.raises(ContentsError, match="is truncated"):
            check(data[:length], name)
