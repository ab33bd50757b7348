import io
import os
import struct
import time
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minifcn.data import DataError, images_in, photograph, read_image
from minifcn.data.images import largest_value, pixel_count
from minifcn.data.masks import read_mask
from minifcn.data.opening import MAX_PIXELS, _webp_size
from minifcn.files import FileError
from tests.data.mutations import mutations, survivors, with_right_checksums
from tests.data.pictures import noise, write, write_palette
from tests.real_data import DATA

RGB = noise(7, 5)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width, height, kind=2, depth=8):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "no-suffix", "wrong.jpg"])
def test_lossless_formats_come_back_as_they_were(tmp_path, name):
    kinds = {".bmp": "BMP", ".tif": "TIFF", ".ppm": "PPM", ".webp": "WebP"}
    path = tmp_path / name
    Image.fromarray(RGB).save(path, kinds.get(path.suffix, "PNG"), lossless=True)
    image = read_image(path)
    assert (image.dtype, image.flags.owndata, image.flags.writeable) == (np.uint8, True, True)
    assert np.array_equal(image, RGB)


def test_a_jpeg_is_close(tmp_path):
    smooth = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
    image = read_image(write(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(image.astype(int) - smooth).max() < 8


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]))
@settings(max_examples=60)
def test_every_mode_becomes_rgb_on_white(tmp_path, height, width, mode):
    pixels = noise(height, width, 4, seed=height * 41 + width)
    pixels[..., 3] = np.where(pixels[..., 3] < 200, np.where(pixels[..., 3] < 90, 0, 255), 255)
    pixels[0, 0, 3] = 255
    if height * width > 8 and width > 1:
        pixels[-1, -2:, 3] = 77, 130  # the edge of something
    source = Image.fromarray(pixels).convert(mode)
    path = tmp_path / "a.png"
    source.save(path)
    image = read_image(path)
    r, g, b, a = (np.asarray(source.convert("RGBA"))[..., i].astype(float) for i in range(4))
    expected = np.stack([255 + (c - 255) * a / 255 for c in (r, g, b)], axis=2)
    assert image.shape == (height, width, 3)
    assert np.abs(image - expected).max() <= 1


def test_cmyk(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(path)
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(path)
    assert np.abs(read_image(path)[0, 0].astype(int) - [255, 0, 0]).max() < 6


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    path = write_palette(
        tmp_path / "a.png", np.array([[0, 1]], np.uint8), [[9, 8, 7], [0, 200, 0]], transparency=1
    )
    assert read_image(path).tolist() == [[[9, 8, 7], [255, 255, 255]]]


DEPTHS = (8, 10, 12, 14, 16)


def sixteen_bit_files(folder, values):
    """Write grey values of 16 bits, (H, W), or colours, (H, W, 3 or 4), in each format that has them."""
    data = values.reshape(*values.shape[:2], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in data)
    kind = {1: 0, 3: 2, 4: 6}[data.shape[2]]
    png = png_header(data.shape[1], data.shape[0], kind, 16) + chunk(b"IDAT", zlib.compress(rows))
    files = {"a.png": png + chunk(b"IEND", b"")}
    extra = {338: [2]} if data.shape[2] == 4 else {}
    photometric = 1 if data.shape[2] == 1 else 2
    for order in "<>":
        for compression in (1, 8):
            name = f"{'little' if order == '<' else 'big'}-{compression}.tif"
            files[name] = tiff(data, order, compression, {262: [photometric], **extra})
    for name, content in files.items():
        (folder / name).write_bytes(content)
        yield folder / name


def tiff(data, order="<", compression=1, tags=(), pages=1):
    """Return a TIFF of an array (H, W, bands), uint8 or uint16, with tags of short integers."""
    height, width, bands = data.shape
    content = data.astype(data.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if compression == 8 else content
    content += bytes(len(content) % 2)
    values = {256: [width], 257: [height], 258: [8 * data.itemsize] * bands, 259: [compression], 262: [2]}
    values |= {273: [8], 277: [bands], 278: [height], 279: [len(content)], **dict(tags)}
    entries, rest, begin = b"", b"", 8 + len(content)
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            entries += struct.pack(
                f"{order}HHII", tag, 3, len(numbers), begin + 6 + 12 * len(values) + len(rest)
            )
            rest += packed + bytes(len(packed) % 2)
        else:
            entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
    directories, at = b"", begin
    for page in range(pages):
        size = 6 + len(entries)
        at += size + (len(rest) if page == 0 else 0)
        following = 0 if page == pages - 1 else at
        directories += struct.pack(f"{order}H", len(values)) + entries + struct.pack(f"{order}I", following)
        directories += rest if page == 0 else b""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", begin) + content + directories


@pytest.mark.parametrize("bands", [(), (3,), (4,)])
@pytest.mark.parametrize("bits", DEPTHS)
def test_sixteen_bits_are_scaled_by_their_depth(tmp_path, bits, bands):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (5, 7, *bands)).astype(np.uint16)
    values[0, 0] = (1 << bits) - 1
    if bands == (4,):
        values[..., 3] = (1 << bits) - 1
    expected = (values >> (bits - 8)).astype(np.uint8).reshape(5, 7, -1)[..., :3]
    for path in sixteen_bit_files(tmp_path, values):
        image = read_image(path, bit_depth=bits)
        assert np.array_equal(image, np.broadcast_to(expected, (5, 7, 3))), path.name
        if bits == 16:
            assert np.array_equal(read_image(path), image)
            assert np.array_equal(read_image(path, bit_depth=8), image)
            with pytest.raises(FileError, match=r"65535, expected at most 4095 \(12 bits\)"):
                read_image(path, bit_depth=12)
        else:
            with pytest.raises(
                FileError, match=f"up to {values.max()} in 16 bits.* {bits} to 16 bits: pass bit_depth"
            ):
                read_image(path)


def test_files_that_say_how_many_bits_they_use(tmp_path):
    pgm = tmp_path / "a.pgm"
    for most, values in ((65535, [0, 255, 256, 513]), (4095, [0, 15, 16, 33])):
        pgm.write_bytes(b"P5 4 1 %d\n" % most + np.array(values, ">u2").tobytes())
        assert read_image(pgm)[0, :, 0].tolist() == [0, 0, 1, 2], most
        assert largest_value(pgm) is None
    packed = tmp_path / "a.tif"  # two values of 12 bits in three bytes
    packed.write_bytes(
        tiff(np.array([[[0x12], [0x34], [0x56]]], np.uint8), tags={256: [2], 258: [12], 262: [1]})
    )
    assert read_image(packed)[0, :, 0].tolist() == [0x12, 0x45]


def test_depths_that_do_not_exist_are_refused(tmp_path):
    path = write(tmp_path / "a.png", RGB)
    for wrong in (7, 17, 12.0):
        with pytest.raises((ValueError, TypeError), match="bit_depth") as caught:
            read_image(path, bit_depth=wrong)
        assert not isinstance(caught.value, FileError)


def test_black_needs_no_depth(tmp_path):
    assert not read_image(write(tmp_path / "a.png", np.zeros((3, 4), np.uint16))).any()


def test_largest_value(tmp_path):
    for path in sixteen_bit_files(tmp_path, np.full((2, 3, 3), 4001, np.uint16)):
        assert largest_value(path) == 4001
    assert largest_value(write(tmp_path / "eight.png", RGB)) is None


def test_more_than_sixteen_bits_and_floating_point_are_rejected(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[0, 70_000]], np.int32))
    with pytest.raises(FileError, match=r"a\.tif: .* 0 to 70000, expected 0 to 65535"):
        read_image(path)
    path = write(tmp_path / "signed.tif", np.array([[-3, 7]], np.int32))
    with pytest.raises(FileError, match=r"signed\.tif: .* -3 to 7, expected 0 to 65535"):
        read_image(path)
    path = write(tmp_path / "f.tif", np.array([[0.5]], np.float32))
    with pytest.raises(FileError, match=r"f\.tif: .*floating-point"):
        read_image(path)


def upright_by_hand(stored, orientation):
    """Where EXIF 2.32 puts the first row and the first column of the stored image."""
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored  # rows and columns are exchanged
    row_from_end = orientation in (3, 4, 7, 8)
    column_from_end = orientation in (2, 3, 6, 7)
    return turned[:: -1 if row_from_end else 1, :: -1 if column_from_end else 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_all_orientations(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / name, RGB, exif=exif, lossless=True)
    assert np.array_equal(read_image(path), upright_by_hand(RGB, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_a_photograph(tmp_path, orientation):
    quarters = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((16, 24), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(write(tmp_path / "a.jpg", quarters, exif=exif, quality=95))[..., 0]
    expected = upright_by_hand(quarters, orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() < 10


@pytest.mark.parametrize(
    "notes", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_data_are_ignored(tmp_path, notes):
    assert read_image(write(tmp_path / "a.png", RGB, exif=notes)).shape == RGB.shape


BANDS = noise(4, 6, 8)
FOURTH = np.repeat(np.arange(20) * 9 + 30, 30).astype(np.uint8).reshape(20, 30)
INFRARED = np.dstack([noise(20, 30), FOURTH])


@pytest.mark.parametrize("bands", [2, 4, 5, 6, 8])
def test_bands_that_would_be_left_out_are_refused(tmp_path, bands):
    extra = [0] * (bands - (3 if bands > 3 else 1))
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(BANDS[..., :bands], tags={338: extra, 262: [2 if bands > 3 else 1]}))
    unknown = "|cannot be read" if bands == 2 else ""  # two bands are unknown to Pillow before 13
    for read in (read_image, read_mask):
        with pytest.raises(
            DataError, match=rf"a\.tif: (has {bands} bands, .* argument bands{unknown})"
        ) as caught:
            read(path)
        assert caught.value.kind == ("unreadable" if "cannot" in str(caught.value) else "mode")


@pytest.mark.parametrize("mark", [0, 1, 2, None])
@pytest.mark.parametrize("compression", [1, 8])
def test_bands_are_chosen(tmp_path, mark, compression):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(INFRARED, "<", compression, {} if mark is None else {338: [mark]}))
    with pytest.raises(DataError, match=r"a\.tif: has (4 bands|a last band .* 100% .* infrared)"):
        read_image(path)
    assert np.array_equal(read_image(path, bands=(3, 0, 1)), INFRARED[..., [3, 0, 1]])
    assert np.array_equal(read_image(path, bands=[2]), np.repeat(INFRARED[..., 2:3], 3, axis=2))
    for wrong in ((4, 0, 1), (0, 1), (-1, 0, 1)):
        with pytest.raises(DataError, match=r"has 4 bands .* bands \("):
            read_image(path, bands=wrong)


def test_bands_of_sixteen_bits_are_chosen(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (3, 5, 4)).astype(np.uint16)
    for path in sixteen_bit_files(tmp_path, values):
        image = read_image(path, bands=(3, 2, 0), bit_depth=12)
        assert np.array_equal(image, values[..., [3, 2, 0]] >> 4), path.name


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_fourth_band_that_is_no_opacity_is_refused(tmp_path, mode):
    path = tmp_path / "a.png"
    pixels = INFRARED.copy()
    for alpha, says in ((pixels[..., 3], "100% of the pixels"), (0, "0 everywhere")):
        pixels[..., 3] = alpha
        Image.fromarray(pixels if mode == "RGBA" else pixels[..., 2:]).save(path)
        with pytest.raises(DataError, match=rf"a\.png: .*{says}.* argument bands"):
            read_image(path)
    pixels[..., 3] = 128  # all of it half transparent
    Image.fromarray(pixels if mode == "RGBA" else pixels[..., 2:]).save(path)
    assert read_image(path).shape == (20, 30, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_up_to_a_quarter_of_the_pixels_may_be_half_transparent(tmp_path, mode):
    """They are edges of what is cut out; more of them are data."""
    path = tmp_path / "a.png"
    for count in (5, 6):
        alpha = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
        alpha[alpha >= 12 * count] = 255
        alpha.flat[0] = 1
        bands = [np.full((4, 5), 90, np.uint8)] * (len(mode) - 1)
        Image.fromarray(np.stack([*bands, alpha], axis=2)).save(path)
        if count == 5:
            assert read_image(path).shape == (4, 5, 3)
        else:
            with pytest.raises(DataError, match="between 1 and 254 in 30% of the pixels"):
                read_image(path)


@pytest.mark.parametrize(
    ("most", "bit_depth", "expected"),
    [
        (16384, None, 64),
        (16383, None, r"up to 16383 in 16 bits.* white in 14 to 16 bits"),
        (0, None, 0),
        (1, None, "up to 1 in 16 bits.* 8 to 16 bits"),
        (255, 8, 255),
        (256, 8, "up to 256 in 16 bits.* 10 to 16 bits"),
        (16384, 8, 64),
        (511, 9, 255),
        (512, 9, r"up to 512, expected at most 511 \(9 bits\)"),
        (4095, 12, 255),
        (4096, 12, r"up to 4096, expected at most 4095 \(12 bits\)"),
        (65535, 16, 255),
    ],
)
def test_the_brightest_value_of_each_depth(tmp_path, most, bit_depth, expected):
    path = write(tmp_path / "a.png", np.array([[0, most]], np.uint16))
    if isinstance(expected, int):
        assert read_image(path, bit_depth=bit_depth).tolist() == [[[0] * 3, [expected] * 3]]
        return
    with pytest.raises(DataError, match=expected) as caught:
        read_image(path, bit_depth=bit_depth)
    assert caught.value.kind == "mode"


def test_several_frames_or_pages_are_refused(tmp_path):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "lime", "blue")]
    for name, noun in (("a.gif", "frames"), ("a.png", "frames"), ("a.webp", "frames"), ("a.tif", "pages")):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        for read in (read_image, pixel_count, read_mask):
            with pytest.raises(DataError, match=rf"{name}: has 3 {noun}, expected 1: save each") as caught:
                read(tmp_path / name)
            assert caught.value.kind == "mode"
        frames[0].save(tmp_path / name, lossless=True)
        assert (read_image(tmp_path / name) == (255, 0, 0)).all(), name


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path):
    path = tmp_path / "a.tif"
    whole = tiff(RGB, tags={254: [0]}, pages=2)
    assert whole.count(struct.pack("<HHI", 254, 3, 1)) == 2
    path.write_bytes(whole)
    with pytest.raises(DataError, match="has 2 pages"):
        read_image(path)
    second = whole.rindex(struct.pack("<HHI", 254, 3, 1))
    for subfile, message in ((1, None), (4, None), (2, "2 pages")):
        path.write_bytes(whole[:second] + struct.pack("<HHII", 254, 4, 1, subfile) + whole[second + 12 :])
        if message is None:
            assert np.array_equal(read_image(path), RGB)
        else:
            with pytest.raises(DataError, match=message):
                read_image(path)
    path.write_bytes(tiff(RGB, tags={254: [1]}))
    with pytest.raises(DataError, match="preview"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "HEIC"),
        ("wrong.jpg", b"\0\0\0\x18ftypmif1", "HEIC"),
        ("a.avif", b"\0\0\0\x18ftypavif", "AVIF"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        ("a.png", b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        ("a.jxl", b"\xff\x0a\0", "JPEG XL"),
        ("a.psd", b"8BPS\0\1", "Photoshop"),
        ("a.tif", b"II+\0\x08\0", "BigTIFF"),
        ("a.dng", b"II*\0\x08\0\0\0", "camera raw"),
        ("a.tga", bytes(18), "TGA"),
    ],
)
def test_other_formats_are_named(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: .* not read \({kind}\): convert"):
        read_image(tmp_path / name)


def test_the_photographs_of_the_package():
    cat, cup = photograph("cat"), photograph("cup")
    assert (cat.shape, cup.shape) == ((300, 451, 3), (400, 600, 3))
    assert cat.dtype == cup.dtype == np.uint8
    eye, coffee = cat[120, 160], cup[150, 280].astype(int)  # dark pupil; brown: more red than green than blue
    assert eye.max() < 120
    assert coffee[0] > coffee[1] + 20 > coffee[2] + 40
    cat[:] = 0  # a copy
    assert photograph("cat").any()
    with pytest.raises(ValueError, match="'cat', 'cup', got 'dog'"):
        photograph("dog")


@pytest.mark.skipif(not DATA.exists(), reason="the originals are not here (MINIFCN_DATA)")
@pytest.mark.parametrize(("name", "original"), [("cat", "chelsea.png"), ("cup", "coffee.png")])
def test_the_photographs_are_those_of_scikit_image(name, original):
    difference = photograph(name).astype(int) - read_image(DATA / original)
    assert np.abs(difference).mean() < 4


def test_all_bundled_files_are_described_and_small():
    folder = files("minifcn.data") / "bundled"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for file in folder.iterdir():
        assert file.name == "README.md" or f"## {file.name}" in text
        assert len(file.read_bytes()) < 80_000


def names_in(root):
    return [file.relative_to(root).as_posix() for file in images_in(root)]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["images/b.JPG", "images/a.png"], ["masks/a.png", "masks/b.png"]),
        (["Images/train/a.png", "Images/val/b.png"], ["Masks/train/a.png", "Masks/val/b.png"]),
        (["train/images/a.png"], ["train/masks/a.png"]),
        (["deep/photos/images/a.png"], ["deep/photos/masks/x/a.png"]),
        (["train/a.png", "val/b.png"], ["trainannot/a.png", "valannot/b.png"]),
        (["JPEGImages/a.jpg"], ["SegmentationClass/a.png", "SegmentationClassAug/b.png"]),
        (["masks/a.png"], []),  # masks of nothing: the carnival
        (["x/annot/a.png", "annot.png"], []),
    ],
)
def test_images_are_found_without_the_masks_of_datasets(tmp_path, images, masks):
    touch(tmp_path, *images, *masks, ".hidden.png", ".cache/a.png", "notes.txt", "no-suffix")
    assert names_in(tmp_path) == sorted(images)


def test_the_files_of_a_folder_of_masks_are_its_images(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    assert names_in(tmp_path / "masks") == ["a.png"]


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path, "one/a.png")
    try:
        (tmp_path / "one" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert names_in(tmp_path) == ["one/a.png"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        images_in(tmp_path / "nowhere")


# Errors


def webp_header(kind, body):
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", 10) + body.ljust(90, b"\0")


def too_large():
    yield "PNG", png_header(60_000, 60_000) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    yield (
        "PNG just beyond",
        png_header(MAX_PIXELS // 1000 + 1, 1000) + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
    )
    yield (
        "JPEG",
        (
            b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x22\0\2\x11\1\3\x11\1"
            b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0\xff\xd9"
        ),
    )
    yield "GIF", b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;"
    yield (
        "BMP",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield "PPM", b"P6 50000 50000 255\n" + bytes(50)
    yield "WebP VP8X", webp_header(b"VP8X", bytes(4) + b"\xff\xff\xff" + b"\xff\xff\xff")
    edge = (MAX_PIXELS // 2000).to_bytes(3, "little")  # the last column, and one more row than is allowed
    yield "WebP just beyond", webp_header(b"VP8X", bytes(4) + (999).to_bytes(3, "little") + edge)
    yield "WebP VP8L", webp_header(b"VP8L", b"\x2f\xff\xff\xff\x0f")
    yield "WebP VP8", webp_header(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f")
    tags = (
        (256, 3, 50_000),
        (257, 3, 50_000),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (279, 4, 8),
    )
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    yield "TIFF", b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in too_large()])
def test_sizes_above_the_limit_are_rejected_before_decoding(tmp_path, data, monkeypatch):
    def decodes(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decodes)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: has \d+ x \d+ pixels, .*(64|32) megapixels") as caught:
        read_image(path)
    assert caught.value.kind == "unreadable"


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (301, 2), (256, 257)])
@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}], ids=str
)
def test_the_declared_size_of_a_webp_is_that_of_its_image(size, options):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "WEBP", **options)
    assert _webp_size(file.getvalue()[:64]) == size


def test_the_largest_size_is_accepted(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(
        png_header(MAX_PIXELS // 1000, 1000, 0, 1) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(FileError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"not an image at all", bytes(1000)],
)
def test_files_that_are_not_images_are_rejected(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"a\.png: "):
        read_image(path)


def test_paths_that_are_not_files_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "a.png")
    with pytest.raises(FileError, match="is not a file"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_are_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileError, match=r"pipe\.png: is not a file"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.tif", "a.webp", "a.ppm"])
def test_truncated_files_are_rejected(tmp_path, name):
    path = write(tmp_path / name, noise(64, 64))
    whole = path.read_bytes()
    for part in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(FileError, match=name):
            read_image(path)


def kinds():
    """The files that are damaged: name, how it is written, whether its checksums are repaired."""
    yield "rgb.png", lambda path: write(path, noise(20, 30)), True
    yield "grey.png", lambda path: write(path, noise(20, 30, 1)), False
    yield (
        "palette.png",
        lambda path: write_palette(path, noise(20, 30, 1) % 16, noise(16, 3, 1), transparency=3),
        True,
    )
    yield "sixteen.png", lambda path: write(path, noise(20, 30, 1).astype(np.uint16) * 257), True
    yield "a.jpg", lambda path: write(path, noise(20, 30)), False
    yield "progressive.jpg", lambda path: write(path, noise(40, 30), progressive=True, exif=_exif()), False
    yield "a.gif", lambda path: write(path, noise(20, 30, 1) % 8), False
    yield "a.bmp", lambda path: write(path, noise(20, 30)), False
    yield "a.tif", lambda path: write(path, noise(20, 30), compression="tiff_lzw"), False
    yield "plain.tif", lambda path: write(path, noise(20, 30)), False
    yield "a.webp", lambda path: write(path, noise(20, 30)), False
    yield "a.ppm", lambda path: write(path, noise(20, 30)), False


def _exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def damage(tmp_path, write_file, name, count, checksums):
    path: Path = write_file(tmp_path / name)
    copies = mutations(path.read_bytes(), count)
    if checksums:
        copies = map(with_right_checksums, copies)

    def read(data):
        path.write_bytes(data)
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3

    return survivors(read, copies, FileError)


@pytest.mark.parametrize(
    ("name", "write_file", "checksums"), [pytest.param(*kind, id=kind[0]) for kind in kinds()]
)
def test_damaged_images_are_read_or_rejected(tmp_path, name, write_file, checksums):
    accepted, rejected = damage(tmp_path, write_file, name, 60, checksums)
    assert rejected > 5
    assert accepted + rejected == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write_file", "checksums"), [pytest.param(*kind, id=kind[0]) for kind in kinds()]
)
def test_many_damaged_images_take_little_memory(tmp_path, name, write_file, checksums):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted, rejected = damage(tmp_path, write_file, name, 1_000, checksums)
    assert accepted + rejected == 1_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: 1 GB


# Small files that would take long or much memory


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(noise(24, 32)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def repeated_scans(count):
    """A progressive JPEG whose last scan is repeated."""
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def large_tags():
    entries = b"".join(struct.pack("<HHII", 300 + tag, 1, 700_000, 8) for tag in range(2_000))
    return b"II*\0" + struct.pack("<IH", 8, 2_000) + entries + bytes(4 + 700_000)


def overlapping_exif():
    count = 60_000
    entries = b"".join(struct.pack("<HHII", 1 + tag, 1, 700_000, 8) for tag in range(count))
    exif = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)
    return png_header(1, 1, 0) + chunk(b"eXIf", exif) + chunk(b"IDAT", zlib.compress(bytes(2)))


def small_and_expensive():
    tile = {322: [46_000], 323: [46_000], 324: [8], 325: [100], 262: [1]}
    yield "tile.tif", tiff(np.zeros((16, 16, 1), np.uint8), "<", 8, tile), "tiles of 46000 x 46000 .* 256"
    yield "tags.tif", large_tags(), "1,400,000,000 bytes of tags"
    yield "scans.jpg", repeated_scans(120), "has 130 scans, expected at most 100"
    yield "segments.jpg", jpeg()[:2] + b"\xff\xfe\0\2" * 210_000 + jpeg()[2:], "more than 200,000 segments"
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 2_000 + b"\0"
    yield (
        "comment.gif",
        b"GIF89a\1\0\1\0\0\0\0" + comment + b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;",
        "262,144 bytes",
    )
    yield "junk.gif", b"GIF89a\1\0\1\0\0\0\0" + bytes(410_000), "more than 400,000 blocks"
    yield "chunks.png", png_header(9, 9) + chunk(b"teSt", b"") * 210_000, "more than 200,000 chunks"
    yield "exif.png", overlapping_exif(), "720,020 bytes of EXIF data"
    yield "plain.ppm", b"P3 2000 1000 255\n1", "2000 x 1000 pixels, expected at most 1 megapixels"
    yield "deep.ppm", b"P6 2000 1000 1023\n1", "2000 x 1000 pixels, expected at most 1 megapixels"


@pytest.mark.parametrize(("name", "data", "says"), [pytest.param(*c, id=c[0]) for c in small_and_expensive()])
def test_small_files_that_would_take_long_or_much_memory(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    started = time.monotonic()
    with pytest.raises(DataError, match=f"{name}: .*{says}") as caught:
        read_image(tmp_path / name)
    assert caught.value.kind == "unreadable"
    assert time.monotonic() - started < 3


def test_the_larger_a_jpeg_the_fewer_scans(monkeypatch, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated_scans(90))
    assert read_image(path).shape == (24, 32, 3)
    path.write_bytes(repeated_scans(91))
    with pytest.raises(DataError, match="has 101 scans, expected at most 100 for 768 pixels"):
        read_image(path)
    path.write_bytes(repeated_scans(30))
    assert read_image(path).shape == (24, 32, 3)
    monkeypatch.setattr("minifcn.data.opening.MAX_PIXELS", 24 * 32)
    with pytest.raises(DataError, match="has 40 scans, expected at most 20 for 768 pixels"):
        read_image(path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"\xff\xda" * 500}])
def test_what_looks_like_a_scan_elsewhere_does_not_count(tmp_path, options):
    """In a comment or after the end: a telephone appends a film to a photograph."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(**options) + b"\xff\xda" * 500)
    assert read_image(path).shape == (24, 32, 3)


def test_libtiff_writes_nothing_to_stderr(tmp_path, capfd):
    path = write(tmp_path / "a.tif", noise(64, 64), compression="tiff_lzw")
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(3000) + data[3100:])
    with pytest.raises(DataError):
        read_image(path)
    assert capfd.readouterr().err == ""
