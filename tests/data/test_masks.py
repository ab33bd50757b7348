import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from minifcn.data import DataError, read_labels
from minifcn.data.masks import read_mask
from minifcn.files import FileError
from tests.data.mutations import mutations, survivors, with_right_checksums
from tests.data.pictures import noise, write, write_palette
from tests.data.test_images import chunk, sixteen_bit_files, upright_by_hand

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
labels = sizes.flatmap(lambda size: hnp.arrays(np.uint8, size))


@given(labels, st.sampled_from(["a.png", "a.bmp", "a.tif"]))
@settings(max_examples=80)
def test_grey_values_are_labels(tmp_path, values, name):
    read = read_labels(write(tmp_path / name, values))
    assert read.dtype == np.uint8
    assert np.array_equal(read, values)


@given(labels, st.sampled_from(["a.png", "a.tif"]), st.integers(0, 9))
@settings(max_examples=60)
def test_palette_indices_are_labels(tmp_path, values, name, seed):
    path = write_palette(tmp_path / name, values, noise(256, 3, 1, seed))
    assert np.array_equal(read_labels(path), values)
    assert np.array_equal(read_labels(path, {(1, 2, 3): 4}), values)  # unless palette_colors is set


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["grey", "palette"])
def test_few_bits_are_not_scaled(tmp_path, bits, kind):
    """Optimised PNG files store few grey levels with few bits; viewers scale these to 0 to 255."""
    import zlib

    count = min(1 << bits, 16)
    header = struct.pack(">IIBBBBB", count, 1, bits, 0 if kind == "grey" else 3, 0, 0, 0)
    packed = int("".join(f"{value:0{bits}b}" for value in range(count)), 2) << (-count * bits % 8)
    row = b"\0" + packed.to_bytes((count * bits + 7) // 8)
    palette = chunk(b"PLTE", noise(count, 3, 1).tobytes()) if kind == "palette" else b""
    path = tmp_path / "a.png"
    data = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert read_labels(path).tolist() == [list(range(count))]


def test_black_and_white_of_one_bit_are_0_and_1(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[False, True]])).save(path)
    assert read_labels(path).tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_labels_of_more_bits(tmp_path, dtype):
    path = write(tmp_path / "a.tif", np.array([[0, 7, 255]], dtype))
    assert read_labels(path).tolist() == [[0, 7, 255]]
    write(path, np.array([[0, 300, 7, 256]], dtype))
    with pytest.raises(FileError, match=r"a\.tif: .* 0 to 255 .*2 pixels.* 300"):
        read_labels(path)


@given(
    st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20, unique=True),
    sizes,
    st.data(),
)
@settings(max_examples=60)
def test_colours_are_looked_up(tmp_path, colors, size, data):
    numbers = data.draw(st.lists(st.integers(0, 255), min_size=len(colors), max_size=len(colors)))
    which = data.draw(hnp.arrays(np.intp, size, elements=st.integers(0, len(colors) - 1)))
    path = write(tmp_path / "a.png", np.array(colors, np.uint8)[which])
    color_map = dict(zip(colors, numbers, strict=True))
    assert np.array_equal(read_labels(path, color_map), np.array(numbers, np.uint8)[which])
    Image.open(path).convert("RGBA").save(path)  # opaque
    assert np.array_equal(read_labels(path, color_map), np.array(numbers, np.uint8)[which])


def test_palettes_are_looked_up_on_request(tmp_path):
    path = write_palette(
        tmp_path / "a.png", np.array([[0, 1, 2]], np.uint8), [[9, 9, 9], [0, 0, 0], [0, 9, 0]]
    )
    colors = {(0, 0, 0): 0, (9, 9, 9): 1, (0, 9, 0): 2}
    assert read_labels(path, colors, palette_colors=True).tolist() == [[1, 0, 2]]
    del colors[0, 9, 0]
    with pytest.raises(FileError, match=r"1 colour .*\(0, 9, 0\) on 1 pixel;"):
        read_labels(path, colors, palette_colors=True)


def test_grey_is_looked_up_if_all_colours_are_grey(tmp_path):
    path = write(tmp_path / "a.png", np.array([[0, 255]], np.uint8))
    assert read_labels(path, {(0, 0, 0): 0, (255, 255, 255): 1}).tolist() == [[0, 1]]
    assert read_labels(path, {(0, 0, 0): 0, (255, 0, 0): 1}).tolist() == [[0, 255]]


def test_grey_saved_as_colour_is_grey(tmp_path):
    values = noise(4, 5, 1)
    assert np.array_equal(read_labels(write(tmp_path / "a.png", np.repeat(values[..., None], 3, 2))), values)


def test_unknown_colours_are_listed(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    image[0], image[1, :2] = (1, 2, 3), (250, 0, 9)
    path = write(tmp_path / "a.png", image)
    with pytest.raises(DataError, match="2 colour") as caught:
        read_labels(path, {(0, 0, 0): 0})
    assert "(1, 2, 3) on 5 pixels, (250, 0, 9) on 2 pixels" in str(caught.value)
    assert caught.value.kind == "labels"
    assert caught.value.colors == {(1, 2, 3): 5, (250, 0, 9): 2}
    with pytest.raises(FileError, match=r"3 colours .*\(0, 0, 0\) on 13 pixels, \(1, 2"):
        read_labels(path)
    with pytest.raises(DataError, match="soft brush") as caught:
        read_labels(write(path, noise(9, 9)), {(0, 0, 0): 0})
    assert caught.value.colors == {}


@pytest.mark.parametrize("count", [8, 9, 20])
def test_the_first_unknown_colours_are_given_as_lines(tmp_path, count):
    image = np.repeat(np.arange(count, dtype=np.uint8)[None, :, None], 3, axis=2) + np.array(
        [1, 0, 0], np.uint8
    )
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path / "a.png", image))
    lines = str(caught.value).splitlines()[1:]
    assert lines[:8] == [f"    class{i + 1} {i + 1} {i} {i}  # 1 pixel" for i in range(8)]
    assert lines[8:] == {8: [], 9: ["    # and 1 more colour"], 20: ["    # and 12 more colours"]}[count]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.webp", {"lossless": True}),
        ("renamed.png", {"format": "JPEG"}),
        ("a.gif", {}),
        ("a.pgm", {}),
        ("a.tif", {"compression": "jpeg"}),
    ],
)
def test_lossy_masks_are_rejected_with_the_reason(tmp_path, name, options):
    path = write(tmp_path / name, noise(20, 20, 1), **options)
    with pytest.raises(DataError, match=r"PNG, BMP or TIFF.* (JPEG|WEBP|GIF|PPM): ") as caught:
        read_labels(path)
    assert caught.value.kind == "lossy"


def test_transparent_and_floating_point_masks_are_rejected(tmp_path):
    image = noise(4, 4, 4)
    with pytest.raises(FileError, match="transparent"):
        read_labels(write(tmp_path / "a.png", image))
    with pytest.raises(FileError, match="mode F"):
        read_labels(write(tmp_path / "a.tif", np.ones((2, 2), np.float32)))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_masks_are_rotated_like_images(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = noise(3, 5, 1)
    path = write(tmp_path / "a.png", values, exif=exif)
    assert np.array_equal(read_labels(path), upright_by_hand(values, orientation))


def damage(tmp_path, count):
    path = write_palette(tmp_path / "a.png", noise(20, 30, 1) % 21, noise(21, 3, 1))
    copies = [*mutations(path.read_bytes(), count // 2, seed=1)]
    copies += [
        with_right_checksums(copy) for copy in mutations(path.read_bytes(), count - count // 2, seed=2)
    ]

    def read(data):
        path.write_bytes(data)
        mask = read_labels(path)
        assert mask.dtype == np.uint8
        assert mask.ndim == 2

    return survivors(read, iter(copies), FileError)


def test_damaged_masks_are_read_or_rejected(tmp_path):
    accepted, rejected = damage(tmp_path, 300)
    assert accepted > 5
    assert rejected > 50


@pytest.mark.slow
def test_many_damaged_masks(tmp_path):
    assert sum(damage(tmp_path, 4_000)) == 4_000


def test_colours_of_sixteen_bits_are_those_of_eight_bits_or_refused(tmp_path):
    """The high byte alone would turn labels 0 to 255, saved as colours of 16 bits, into 0."""
    colors = np.array([[[0, 0, 0], [200, 30, 30]], [[7, 8, 9], [255, 255, 255]]], np.uint16)
    for path in sixteen_bit_files(tmp_path, colors * 257):
        assert np.array_equal(read_mask(path).pixels, colors), path.name
    for path in sixteen_bit_files(tmp_path, colors):
        with pytest.raises(DataError, match=f"{path.name}: has colours of 16 bits") as caught:
            read_mask(path)
        assert caught.value.kind == "mode"


def test_grey_of_sixteen_bits_has_the_labels_as_they_are(tmp_path):
    labels = np.array([[0, 3], [255, 7]], np.uint16)
    for path in sixteen_bit_files(tmp_path, labels):
        assert np.array_equal(read_mask(path).pixels, labels), path.name
