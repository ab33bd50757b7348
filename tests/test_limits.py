"""Limits of arguments and files: the largest number is accepted, one more is refused with the limit."""

from pathlib import Path

import pytest

from minifcn.data.classes import read_bytes, read_classes, read_lines
from minifcn.data.matlab import _elements
from minifcn.functional.labels import check_classes
from minifcn.functional.pooling import pool_geometry
from minifcn.geometry import Window
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN, build, digit_classifier
from minifcn.viz.film import Film
from minifcn.weights.model_file import _json
from minifcn.weights.tensors import check_declared, check_size

FILE = Path("a")


def declare(*shape, count=1):
    check_declared(FILE, [("a", "uint8", shape)] * count)


def text(content, read=read_lines):
    FILE.write_text(content)
    return list(read(FILE))


ELEMENT = b"\1\0\0\0" + bytes(4)

LIMITS = {
    "kernel size": (lambda n: Window(n), 2**31 - 1, "kernel_size must be an integer <= 2147483647"),
    "stride": (lambda n: Window(1, stride=n), 2**31 - 1, "stride must be an integer <= 2147483647"),
    "padding": (lambda n: Window(1, padding=n), 2**31 - 1, "padding must be an integer <= 2147483647"),
    "dilation": (lambda n: Window(1, dilation=n), 2**31 - 1, "dilation must be an integer <= 2147483647"),
    "window of a pool": (lambda n: pool_geometry((1, n)), 2**18, "at most 262144 elements"),
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
    "elements of a .mat file": (lambda n: list(_elements(memoryview(ELEMENT * n), "<")), 10**4, "10,000"),
}


@pytest.mark.parametrize(("call", "largest", "message"), LIMITS.values(), ids=list(LIMITS))
def test_arguments_and_files_up_to_the_limits_are_accepted(call, largest, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(largest)
    with pytest.raises(ValueError, match=message):
        call(largest + 1)
