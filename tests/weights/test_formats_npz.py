"""npz files that declare what they do not hold, or hold objects that only unpickling could make."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from minifcn.files import FileError
from minifcn.weights import read_tensors


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.npz"


def npy(array):
    data = io.BytesIO()
    np.lib.format.write_array(data, array)
    return data.getvalue()


def header(text, version=(1, 0)):
    encoded = text.encode("latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(encoded))
    return b"\x93NUMPY" + bytes(version) + length + encoded


def declared(descr="'<f4'", shape="(2,)", fortran="False"):
    return header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n")


def write(file, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)


class Trap:
    """Unpickling it leaves a mark."""

    sprung = False

    def __reduce__(self):
        return (_spring, ())


def _spring():
    Trap.sprung = True


def test_objects_are_refused_and_nothing_is_unpickled(file):
    trap = np.array([Trap()], dtype=object)
    np.savez(file, a=np.ones(2), b=trap)
    with pytest.raises(FileError, match=r"weights.npz: b holds object, expected real numbers"):
        read_tensors(file)
    write(file, [("a.npy", pickle.dumps(trap))])
    with pytest.raises(FileError, match="a cannot be read"):
        read_tensors(file)
    assert not Trap.sprung


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([1j]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.zeros(2, "V2"),
        np.zeros(2, np.longdouble),
    ],
)
def test_dtypes_other_than_real_numbers_are_refused(file, array):
    np.savez(file, a=array)
    with pytest.raises(FileError, match=r"a holds .*, expected real numbers"):
        read_tensors(file)


@pytest.mark.parametrize(
    "shape",
    [
        *("(3,)", "(-2,)", "(2, 2**3)", "(99999999999,)", "(1000000000000,) * 9"),
        *("(-1, -2)", "(True, 2)", "(2.0,)", "[2]", "2", "None", "(0, 10000000000000000000)", "(1,)" * 9),
        str((1,) * 70),
        str((10**30,)),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_shapes_larger_than_the_data_are_refused(file, shape, method):
    write(file, [("a.npy", declared(shape=shape) + bytes(8))], method)
    with pytest.raises(FileError, match=r"weights.npz: a "):
        read_tensors(file)


@pytest.mark.parametrize(
    "descr",
    [
        "'O'",
        "'|O'",
        "'<f4,<f4'",
        "'<f3'",
        "'abc'",
        "None",
        "3",
        "['<f4']",
        "('<f4', (2,))",
        "'<f4' * 10**9",
        "''",
    ],
)
def test_malformed_dtypes_are_refused(file, descr):
    write(file, [("a.npy", declared(descr) + bytes(8))])
    with pytest.raises(FileError, match=r"weights.npz: a "):
        read_tensors(file)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\xff\xff",
        header("x" * 9_000),
        header("(" * 9_000),
        header("{" * 60_000),
        header("[" * 200_000, (2, 0)),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        header("{'descr': '<f4', 'fortran_order': 3, 'shape': (2,), }") + bytes(8),
        header("{'descr': '<f4', 'shape': (2,), }") + bytes(8),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}") + bytes(8),
        header("__import__('os').getcwd()"),
    ],
)
def test_malformed_headers_are_refused(file, data):
    write(file, [("a.npy", data)])
    with pytest.raises(FileError, match=r"weights.npz: a "):
        read_tensors(file)


def test_zip_bombs_are_refused_before_they_are_unpacked(file):
    zeros = bytes(10**6)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(zeros) for _ in range(20)) + packer.flush()
    crc, size = zlib.crc32(bytes(20 * len(zeros))), 2_000_000_000
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, 5, 0) + b"a.npy"
    central = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), size, 5, 0, 0, 0, 0, 0, 0
    )
    central += b"a.npy"
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    file.write_bytes(local + packed + central + end)
    assert file.stat().st_size < 30_000
    with pytest.raises(FileError, match=r"declares tensors of 2,000,000,000 bytes"):
        read_tensors(file)

    small = declared(shape="(2,)") + bytes(8)  # the table of contents says little, and there is much
    central = central.replace(struct.pack("<I", size), struct.pack("<I", len(small)))
    file.write_bytes(local + packed + central + end)
    with pytest.raises(FileError, match=r"weights.npz"):
        read_tensors(file)


def test_many_members_that_are_large_together_are_refused(file):
    write(file, [(f"{i}.npy", declared(shape="(250000000,)")) for i in range(3)])
    data = bytearray(file.read_bytes())
    for place in range(len(data) - 4):
        if data[place : place + 4] == b"PK\1\2":
            data[place + 24 : place + 28] = struct.pack("<I", 400_000_000)
    file.write_bytes(data)
    with pytest.raises(FileError, match=r"declares tensors of 1,200,000,000 bytes"):
        read_tensors(file)


def test_duplicate_names_are_refused(file):
    with pytest.warns(UserWarning, match="Duplicate"):
        write(file, [("a.npy", npy(np.ones(2))), ("b.npy", npy(np.ones(2))), ("a.npy", npy(np.zeros(2)))])
    with pytest.raises(FileError, match=r"weights.npz holds a.npy twice"):
        read_tensors(file)


def test_members_that_are_not_arrays_are_refused(file):
    write(file, [("a.npy", npy(np.ones(2))), ("readme.txt", b"hello")])
    with pytest.raises(FileError, match=r"weights.npz holds readme.txt, .*\.npy"):
        read_tensors(file)


def test_checksums_are_compared(file):
    np.savez(file, a=np.arange(1000.0))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(FileError, match=r"a cannot be read: .*Bad CRC-32"):
        read_tensors(file)


def test_control_characters_in_names_are_escaped(file):
    write(file, [("\x1b[31mred.npy", declared("'O'"))])
    with pytest.raises(FileError) as refusal:
        read_tensors(file)
    assert str(refusal.value).isprintable()
