"""Limits of arguments and files: the largest number is accepted, one more is refused with the limit."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minifcn.data.classes import read_bytes, read_classes, read_lines
from minifcn.data.errors import class_lines
from minifcn.data.folder import _doubts
from minifcn.data.masks import _unknown_colors
from minifcn.data.matlab import _decompressed, _elements
from minifcn.data.opening import _not_decoded, upright
from minifcn.functional.labels import check_classes
from minifcn.functional.operands import check_padded_size
from minifcn.functional.pooling import pool_geometry
from minifcn.geometry import ConvGeometry, Window
from minifcn.kernels.threads import num_threads, set_num_threads
from minifcn.layers import Conv2d, Sequential
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN, build, digit_classifier, explain
from minifcn.viz.film import Film
from minifcn.weights.downloads import _check_room
from minifcn.weights.model_file import _json
from minifcn.weights.tensors import WIDTHS, check_declared, check_size, widened

FILE = Path("a")


def declare(*shape, count=1):
    check_declared(FILE, [("a", "uint8", shape)] * count)


def text(content, read=read_lines):
    FILE.write_text(content)
    return list(read(FILE))


def set_and_restore(threads):
    before = num_threads()
    set_num_threads(threads)
    set_num_threads(before)


def grey_levels(count):
    pixels = np.arange(256) < count
    for doubt in _doubts({"mask.png": pixels}, pixels.astype(int)):
        raise doubt


def opened(content):
    FILE.write_bytes(content)
    with FILE.open("rb") as file:
        _not_decoded(file, ".png")


def png(width, height, depth, kind):
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, kind, 0, 0, 0])
    parts = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    chunks = [
        (len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def exif(size):
    image = Image.new("L", (1, 1))
    image.info["exif"] = bytes(size)
    upright(image)


PADDED = ConvGeometry.of((3, 3), padding=((0, 0), (2, 3)))
POINTWISE = Sequential(Conv2d(1, 1, 1, rng=0))
ELEMENT = b"\1\0\0\0" + bytes(4)

LIMITS = {
    "kernel size": (lambda n: Window(n), 2**31 - 1, "kernel_size must be an integer <= 2147483647"),
    "stride": (lambda n: Window(1, stride=n), 2**31 - 1, "stride must be an integer <= 2147483647"),
    "padding": (lambda n: Window(1, padding=n), 2**31 - 1, "padding must be an integer <= 2147483647"),
    "dilation": (lambda n: Window(1, dilation=n), 2**31 - 1, "dilation must be an integer <= 2147483647"),
    "window of a pool": (lambda n: pool_geometry((1, n)), 2**18, "at most 262144 elements"),
    "pixels with padding": (
        lambda n: check_padded_size(PADDED, (8, n)),
        2**26 - 5,
        "at most 536870912 pixels",
    ),
    "pixels to explain": (lambda n: explain(POINTWISE, (1, n)), 2**29, "at most 536,870,912 pixels"),
    "images to explain": (
        lambda n: explain(POINTWISE, (2**10, 2**10), batch=n),
        2**9,
        "at most 536,870,912 pixels",
    ),
    "threads": (set_and_restore, 1024, "threads must be an integer <= 1024, got 1025"),
    "grey levels": (grey_levels, 32, "has some of the 33 values in the masks, more than 32"),
    "classes of an FCN": (lambda n: FCN(digit_classifier(rng=0), n), 255, "255"),
    "classes of a matrix": (lambda n: ConfusionMatrix(n), 256, "256"),
    "classes of a classifier": (
        lambda n: build("digit_classifier", n, init="zeros"),
        10**5,
        "at most 100000",
    ),
    "void": (lambda n: check_classes(3, n), 255, "255"),
    "frames of a film": (lambda n: Film(lambda figure, k: None, ["x"] * n, (1, 1)), 50, "1 to 50 frames"),
    "bytes of tensors": (lambda n: check_size(FILE, n), 10**9, "at most 1,000,000,000 are read"),
    "elements of a tensor": (lambda n: declare(n), 10**9, "at most 8 axes and 1,000,000,000 elements"),
    "elements beside none": (lambda n: declare(0, 10**9, n), 2, "at most 8 axes and 1,000,000,000 elements"),
    "axes of a tensor": (lambda n: declare(*[1] * n), 8, "at most 8 axes"),
    "tensors": (lambda n: declare(1, count=n), 20_000, "more than 20,000 tensors"),
    "layers as JSON": (lambda n: _json({"layers": "1".ljust(n)}, "layers"), 10**6, "1,000,001 .* 1,000,000"),
    "info as JSON": (lambda n: _json({"info": "1".ljust(n)}, "info"), 10**7, "10,000,001 .* 10,000,000"),
    "a name as JSON": (
        lambda n: _json({"architecture": "1".ljust(n)}, "architecture"),
        10**4,
        "10,001 .* 10,000",
    ),
    "bytes of a file": (
        lambda n: text("x" * n, lambda path: read_bytes(path, 1 << 20)),
        1 << 20,
        "than 1 MB",
    ),
    "lines": (lambda n: text("\n" * n), 10**6, "1,000,001 lines, expected at most 1,000,000"),
    "characters of a line": (lambda n: text("\n" + "x" * n), 4096, "line 2 has 4097 characters.* 4096"),
    "line of a class": (lambda n: text("sky # ".ljust(n, "x"), read_classes), 200, "line 1 has 201 .* 200"),
    "name of a class": (lambda n: text("x" * n, read_classes), 100, "a class name of 101 characters"),
    "classes": (lambda n: text("\n".join(f"c{i}" for i in range(n)), read_classes), 255, "lists 256 classes"),
    "pixels of an image": (lambda n: opened(png(1000, n, 8, 2)), 64_000, "1000 x 64001 .* 64 megapixels"),
    "pixels of 16 bits": (lambda n: opened(png(1000, n, 16, 0)), 64_000, "1000 x 64001 .* 64 megapixels"),
    "colours of 16 bits": (lambda n: opened(png(1000, n, 16, 2)), 32_000, "1000 x 32001 .* 32 megapixels"),
    "pixels of a text": (lambda n: opened(b"P3 1000 %d 255 " % n), 1000, "1000 x 1001 .* 1 megapixels"),
    "bytes of EXIF data": (exif, 2**18, "262,145 bytes of EXIF data, expected at most 262,144"),
    "decompressed bytes": (
        lambda n: _decompressed(memoryview(zlib.compress(bytes(n))), 5000),
        5000,
        "more than 256 MB of compressed data",
    ),
    "bytes of a download": (
        lambda n: _check_room("url", Path(), n, n),
        10**9,
        "url has 1,000,000,001 bytes, and at most 1,000,000,000",
    ),
    "elements of a .mat file": (lambda n: list(_elements(memoryview(ELEMENT * n), "<")), 10**4, "10,000"),
}


@pytest.mark.parametrize(("call", "largest", "message"), LIMITS.values(), ids=list(LIMITS))
def test_arguments_and_files_up_to_the_limits_are_accepted(call, largest, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(largest)
    with pytest.raises(ValueError, match=message):
        call(largest + 1)


def test_up_to_8_colours_are_listed_for_a_list_of_classes():
    colors = {(value, 0, 0): 10 - value for value in range(9)}
    assert class_lines(dict(list(colors.items())[:8])).count("\n    class") == 8
    assert "more" not in class_lines(dict(list(colors.items())[:8]))
    assert class_lines(colors).endswith("class8 7 0 0  # 3 pixels\n    # and 1 more colour")


@pytest.mark.parametrize("count", [20, 21])
def test_more_than_20_unknown_colours_come_from_a_soft_brush(count):
    error = _unknown_colors(np.repeat(np.arange(count), 2), FILE)
    assert f"has {count} colours that are no class" in str(error)
    assert ("soft brushes mix colours" in str(error)) == (count > 20)
    assert len(error.colors) == (20 if count == 20 else 0)


@pytest.mark.parametrize("dtype", WIDTHS)
def test_the_size_of_tensors_is_that_after_reading(dtype):
    """Half precision becomes float32."""
    width = widened(np.zeros(1, "uint16" if dtype == "bfloat16" else dtype), dtype).itemsize
    most = 10**9 // width
    check_declared(FILE, [("a", dtype, (most,))])
    with pytest.raises(ValueError, match=f"tensors of {(most + 1) * width:,} bytes"):
        check_declared(FILE, [("a", dtype, (most,)), ("b", dtype, (1,))])


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (1, r"has 1 colour that is no class: \(0, 0, 0\) on 2 pixels; lines"),
        (2, r"has 2 colours that are no class: .*\(0, 0, 1\) on 2 pixels; lines"),
        (3, r"\(0, 0, 2\) on 2 pixels; lines"),
        (4, r"has 4 colours .*\(0, 0, 2\) on 2 pixels; lines"),
    ],
)
def test_up_to_3_unknown_colours_are_in_the_message(count, listed):
    with pytest.raises(ValueError, match=listed):
        raise _unknown_colors(np.repeat(np.arange(count), 2), FILE)
