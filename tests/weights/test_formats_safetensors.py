"""Safetensors files: bfloat16, malformed headers, and writing."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file

from minifcn.files import FileError
from minifcn.weights import read_tensors, write_safetensors


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.safetensors"


def write(file, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def described(dtype, shape, size):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


def test_bfloat16_is_the_upper_half_of_float32(file):
    values = np.array([1, -2.5, 0, np.inf, 3.140625, 2.0**-126, 2.0**-133], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    write(file, described("BF16", [7, 1], 14), upper.tobytes())
    tensors = read_tensors(file)
    assert np.array_equal(tensors.arrays["a"], values[:, None])
    assert tensors.arrays["a"].dtype == np.float32
    assert tensors.dtypes == {"a": "bfloat16"}


def test_all_bit_patterns_of_bfloat16(file):
    every = np.arange(2**16, dtype="<u2")
    write(file, described("BF16", [2**16], 2**17), every.tobytes())
    read = read_tensors(file).arrays["a"]
    assert np.array_equal(read.view(np.uint32) >> 16, every)


@pytest.mark.parametrize(("dtype", "size"), [("F8_E4M3", 4), ("F8_E5M2", 4), ("F4", 2), ("E8M0", 4)])
def test_other_dtypes_are_refused(file, dtype, size):
    write(file, described(dtype, [4], size), bytes(size))
    with pytest.raises(FileError, match=r"weights.safetensors"):
        read_tensors(file)


@pytest.mark.parametrize(
    "shape",
    [[2**62], [2**32, 2**32], [0, 2**63], [0, 10**9, 10**9], [0] * 70, [1] * 70, [-1], [1.5], "2", [[2]]],
)
def test_malformed_shapes_are_refused(file, shape):
    for dtype in ("F32", "F64", "U8"):
        for data in (b"", bytes(4), bytes(8)):
            write(file, described(dtype, shape, len(data)), data)
            with pytest.raises(FileError, match=r"weights.safetensors"):
                read_tensors(file)


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 5000,
        b'{"a":' * 5000,
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": 3}',
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"a": 3}}',
        b"{\xff}",
    ],
)
def test_malformed_headers_are_refused(file, header):
    write(file, header, bytes(4))
    with pytest.raises(FileError, match="is cut off or is not a safetensors file"):
        read_tensors(file)


def test_more_than_a_gigabyte_is_refused_without_reading_it(file):
    size = 10**9 + 4
    write(file, described("F32", [size // 4], size))
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size + size)  # a hole, which takes no room on the disk
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        FileError, match=r"declares tensors of 1,000,000,004 bytes, and at most 1,000,000,000"
    ):
        read_tensors(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_written_files_are_read_by_the_library_and_here(file):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 2, (3, 5)).astype(name)
        for name in ("float16", "bool", "float64", "int8", "float32", "uint64")
    }
    arrays |= {
        "transposed": arrays["float32"].T,
        "scalar": np.array(3.0),
        "none": np.zeros((0, 2)),
    }
    write_safetensors(file, arrays, {"b": "naïve \x00", "a": "1"})
    read, library = read_tensors(file), load_file(file)
    assert list(read.metadata.items()) == [("a", "1"), ("b", "naïve \x00")]
    for name, array in arrays.items():
        assert np.array_equal(read.arrays[name], array)
        assert np.array_equal(library[name], array)
        assert library[name].dtype == array.dtype


def test_equal_contents_give_equal_bytes(file):
    arrays = {"b": np.ones(3), "a": np.zeros((2, 2), np.float32)}
    write_safetensors(file, arrays, {"x": "1", "y": "2"})
    before = file.read_bytes()
    write_safetensors(file, arrays, {"y": "2", "x": "1"})
    assert file.read_bytes() == before


def test_dtypes_that_cannot_be_written(file):
    with pytest.raises(TypeError, match="weight has dtype complex128"):
        write_safetensors(file, {"weight": np.zeros(2, complex)}, {})
    assert not file.exists()


def test_writing_makes_no_copy_of_everything(file):
    arrays = {str(i): np.ones(1_000_000, np.float32) for i in range(20)}
    tracemalloc.start()
    write_safetensors(file, arrays, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("length", range(9))
def test_values_begin_at_a_multiple_of_8(file, length):
    write_safetensors(file, {"a": np.ones(3)}, {"text": "x" * length})
    data = file.read_bytes()
    header = int.from_bytes(data[:8], "little")
    assert header % 8 == 0
    assert len(data) == 8 + header + 24
    text = data[8 : 8 + header].decode()
    assert json.loads(text)["__metadata__"] == {"text": "x" * length}
    assert len(text) - len(text.rstrip()) < 8
