"""Large TIFF files: any part of any layout, masks with their georeference, and clear errors."""

import numpy as np
import pytest

from minifcn.data.tiff import Tiff, write_mask
from minifcn.files import FileError

tifffile = pytest.importorskip("tifffile")

SIZE = 150, 211
GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
LAYOUTS = {
    "tiles": {"tile": (32, 48)},
    "strips": {"rowsperstrip": 7},
    "one strip": {},
    "compressed tiles": {"tile": (64, 32), "compression": "zlib", "predictor": True},
    "compressed strips": {"rowsperstrip": 20, "compression": "zlib"},
    "bigtiff": {"tile": (32, 32), "bigtiff": True},
    "big-endian": {"tile": (32, 32), "byteorder": ">"},
}


def picture(channels, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (*SIZE, channels)).astype(np.uint8)
    return values[..., 0] if channels == 1 else values


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_part_of_every_layout(tmp_path, layout, channels):
    image = picture(channels)
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb" if channels == 3 else None, **LAYOUTS[layout]
    )
    image = image.reshape(*SIZE, channels)
    rng = np.random.default_rng(1)
    with Tiff(tmp_path / "a.tif") as opened:
        assert (opened.size, opened.channels) == (SIZE, channels)
        for _ in range(20):
            (top, bottom), (left, right) = (np.sort(rng.choice(edge + 1, 2, replace=False)) for edge in SIZE)
            part = slice(int(top), int(bottom)), slice(int(left), int(right))
            assert np.array_equal(opened.read(part), image[part])


def test_jpeg_tiles_of_ycbcr(tmp_path):
    pytest.importorskip("imagecodecs")
    smooth = np.full((96, 96, 3), (200, 100, 50), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", smooth, tile=(32, 32), compression="jpeg", photometric="rgb")
    with Tiff(tmp_path / "a.tif") as opened:
        assert abs(opened.read((slice(20, 70), slice(0, 96))).astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("band", [1, 100, 256, 300, 700])
def test_masks_are_written_in_strips(tmp_path, band):
    labels = np.random.default_rng(band).integers(0, 9, (700, 90)).astype(np.uint8)
    parts = [
        (
            (slice(top, min(top + band, 700)), slice(left, left + 45)),
            labels[top : top + band, left : left + 45],
        )
        for top in range(0, 700, band)
        for left in (0, 45)
    ]
    write_mask(tmp_path / "mask.tif", labels.shape, GREY, parts)
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        assert np.array_equal(file.asarray(), labels)
        assert np.array_equal(file.pages[0].colormap[:, :9].T // 257, GREY[:9])


@pytest.mark.parametrize(("size", "big"), [((1 << 16, 1 << 15), False), ((1 << 15, (1 << 16) + 1), True)])
def test_large_masks_are_bigtiff(monkeypatch, size, big):
    """The offsets of other TIFF files have 32 bits."""
    written = {}
    monkeypatch.setattr(tifffile, "imwrite", lambda path, tiles, **options: written.update(options))
    write_mask("mask.tif", size, GREY, [])
    assert (written["shape"], written["bigtiff"]) == (size, big)


def test_the_mask_lies_where_the_image_lies(tmp_path):
    tags = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0, 0, 0, 4e5, 5e6, 0.0), True)]
    tags += [(34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 25832), True), (42113, "s", 0, "255", True)]
    tifffile.imwrite(tmp_path / "a.tif", picture(3), photometric="rgb", extratags=tags, metadata=None)
    with Tiff(tmp_path / "a.tif") as image:
        everything = slice(0, 150), slice(0, 211)
        labels = np.zeros(SIZE, np.uint8)
        write_mask(tmp_path / "m.tif", SIZE, GREY, [(everything, labels)], image.georeference())
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        written = file.pages[0].tags
        assert {code: written[code].value for code, *_ in tags} == {
            code: value for code, _, _, value, _ in tags
        }


@pytest.mark.parametrize(
    ("image", "options", "found"),
    [
        (np.zeros((9, 9), np.uint16), {}, "uint16"),
        (np.zeros((9, 9), np.float32), {}, "float32"),
        (np.zeros((9, 9, 4), np.uint8), {"photometric": "rgb"}, "samples 4"),
        (np.zeros((5, 9, 9), np.uint8), {"photometric": "minisblack"}, "pages 2"),
        (np.zeros((3, 9, 9), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}, "planes 3"),
        (np.zeros((9, 9), np.uint8), {"photometric": "miniswhite"}, "white is 0"),
    ],
)
def test_other_images_are_refused_by_what_they_are(tmp_path, image, options, found):
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    with pytest.raises(FileError, match=rf"a\.tif.*{found}"):
        Tiff(tmp_path / "a.tif")


def test_numbers_and_sizes_of_tiles_up_to_the_limits_are_read(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", picture(3), photometric="rgb", tile=(32, 48))  # 5 x 5 tiles
    monkeypatch.setattr("minifcn.data.tiff._LARGEST_SEGMENT", 32 * 48 * 3)
    monkeypatch.setattr("minifcn.data.tiff._MOST_SEGMENTS", 25)
    with Tiff(tmp_path / "a.tif") as image:
        assert np.array_equal(image.read((slice(0, 150), slice(0, 211))), picture(3))
    said = r"a\.tif has 25 tiles or strips of 4,608 bytes, expected at most"
    for limit, value in (("_LARGEST_SEGMENT", 32 * 48 * 3 - 1), ("_MOST_SEGMENTS", 24)):
        with monkeypatch.context() as lower:
            lower.setattr(f"minifcn.data.tiff.{limit}", value)
            with pytest.raises(FileError, match=f"{said} .*{value:,}"):
                Tiff(tmp_path / "a.tif")


def test_smaller_copies_are_no_further_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture(3), photometric="rgb")
        file.write(picture(3)[::2, ::2], photometric="rgb", subfiletype=1)
    with Tiff(tmp_path / "a.tif") as image:
        assert image.size == SIZE


def test_damaged_files_give_one_error_or_an_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(3), photometric="rgb", tile=(32, 32), compression="zlib")
    whole, rng = bytearray((tmp_path / "a.tif").read_bytes()), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.choice(600 if rng.random() < 0.8 else len(whole), 3):
            damaged[-place if rng.random() < 0.5 else place] = rng.integers(256)
        (tmp_path / "b.tif").write_bytes(
            damaged[: rng.integers(1, len(whole))] if rng.random() < 0.2 else damaged
        )
        try:
            with Tiff(tmp_path / "b.tif") as image:
                rows, cols = (slice(0, min(edge, 200)) for edge in image.size)
                assert image.read((rows, cols)).dtype == np.uint8
        except FileError:
            refused += 1
    assert refused > 20
