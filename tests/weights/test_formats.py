import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from minifcn import load
from minifcn.files import FileError
from minifcn.weights import Tensors, load_classifier, load_fcn, read_class_names, read_tensors
from tests.weights.pickles import Storage, tensor, whole, zipped

DTYPES = [
    np.dtype(name)
    for name in (
        *("float16", "float32", "float64", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\:\0"), min_size=1, max_size=12)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights"


def bits(array):
    return array.dtype, array.shape, array.tobytes()


def expected(array):
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check(tensors, arrays):
    assert tensors.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert bits(tensors.arrays[name]) == bits(expected(array))
        assert tensors.dtypes[name] == array.dtype.name
        assert tensors.arrays[name].flags.owndata or tensors.arrays[name].base.flags.owndata


@given(
    arrays=st.dictionaries(NAMES, ARRAYS, max_size=5), metadata=st.dictionaries(NAMES, st.text(max_size=9))
)
def test_safetensors_are_read(file, arrays, metadata):
    save_file(arrays, file, metadata or None)
    tensors = read_tensors(file)
    check(tensors, arrays)
    assert (tensors.format, tensors.metadata) == ("safetensors", metadata)


@given(
    arrays=st.dictionaries(NAMES, ARRAYS, max_size=5),
    save=st.sampled_from([np.savez, np.savez_compressed]),
    layout=st.sampled_from(["C", "F"]),
    order=st.sampled_from("<>"),
)
def test_npz_files_are_read(file, arrays, save, layout, order):
    written = {
        name: np.array(array, array.dtype.newbyteorder(order), order=layout) for name, array in arrays.items()
    }
    with file.open("wb") as opened:  # savez adds .npz to names of files
        save(opened, **{f"_{name}": array for name, array in written.items()})
    tensors = read_tensors(file)
    check(tensors, {f"_{name}": array for name, array in arrays.items()})
    assert (tensors.format, tensors.metadata) == ("npz", {})


def test_large_arrays_are_read_from_npz_files(file):
    array = np.random.default_rng(0).normal(size=(3, 700_001)).astype(np.float32)
    with file.open("wb") as opened:
        np.savez_compressed(opened, a=array, b=array.T)
    check(read_tensors(file), {"a": array, "b": array.T})


@pytest.mark.parametrize("prefixed", [True, False])
def test_the_prefix_module_is_removed_if_all_names_have_it(file, prefixed):
    arrays = {"module.a": np.ones(2, np.float32), "module.b" if prefixed else "b": np.zeros(1, np.float32)}
    save_file(arrays, file)
    assert list(read_tensors(file).arrays) == (["a", "b"] if prefixed else ["b", "module.a"])


def test_other_files_are_refused(file, tmp_path):
    for content in (b"", b"GIF89a", b"TFL3", bytes(4096)):
        file.write_bytes(content)
        with pytest.raises(FileError, match="weights is not a safetensors, npz or PyTorch file"):
            read_tensors(file)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "missing")
    with pytest.raises(OSError, match="is a folder, and a file is expected"):
        read_tensors(tmp_path)


def test_tensors_have_defaults():
    assert Tensors({}) == Tensors({}, {}, "", {}, (), "")


def narrow_npz(file, size):
    np.savez_compressed(file, a=np.zeros(size, np.float16))


def narrow_safetensors(file, size):
    header = {"a": {"dtype": "BF16", "shape": [size], "data_offsets": [0, 2 * size]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(2 * size))


def narrow_torch(file, size):
    file.write_bytes(
        zipped({"a": whole("0", np.zeros(size, "f2"))}, [Storage("0", "float16", bytes(2 * size))])
    )


@pytest.mark.parametrize("write", [narrow_npz, narrow_safetensors, narrow_torch])
def test_the_size_after_widening_is_bounded(file, write, monkeypatch):
    file = file.with_suffix(".npz")
    monkeypatch.setattr("minifcn.weights.tensors.MAX_BYTES", 1000)
    write(file, 250)
    assert read_tensors(file).arrays["a"].nbytes == 1000
    write(file, 251)
    with pytest.raises(FileError, match="declares tensors of 1,004 bytes, and at most 1,000 are read"):
        read_tensors(file)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch"])
def test_the_number_of_tensors_is_bounded(file, kind, monkeypatch):
    monkeypatch.setattr("minifcn.weights.tensors.MAX_TENSORS", 9)
    one = np.zeros((), "f4")
    for count in (9, 10):
        arrays = {f"a{i}": one for i in range(count)}
        if kind == "npz":
            file = file.with_suffix(".npz")
            np.savez(file, **arrays)
        elif kind == "safetensors":
            save_file(arrays, file)
        else:
            storage = Storage("0", "float32", bytes(4))
            file.write_bytes(zipped({name: tensor(storage, (), ()) for name in arrays}, [storage]))
        if count == 9:
            assert len(read_tensors(file).arrays) == 9
    with pytest.raises(FileError, match="declares more than 9 tensors"):
        read_tensors(file)


def test_headers_of_many_entries_are_refused_before_they_are_parsed(file):
    entry = b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,0]}'
    text = b"{" + b",".join(entry % i for i in range(210_000)) + b"}"
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    for read in (read_tensors, load):
        with pytest.raises(FileError, match="declares more than 20,000 tensors"):
            read(file)


def test_the_last_of_many_names_is_there_twice(file):
    """This was quadratic."""
    with zipfile.ZipFile(file, "w") as archive:
        for name in range(10_000):
            archive.writestr(f"{name}.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"{name}.npy", b"")
    with pytest.raises(FileError, match=r"holds 9999\.npy twice"):
        read_tensors(file)


def test_a_table_of_contents_is_bounded(file):
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    entries = entry * (33_000_000 // len(entry))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(entries), 4, 0)
    file.write_bytes(b"PK\3\4" + entries + end)
    with pytest.raises(FileError, match="is cut off or damaged: it has no table of contents"):
        read_tensors(file)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(file, method):
    """An LZMA stream may ask for gigabytes."""
    data = io.BytesIO()
    np.save(data, np.ones(3))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.npy", data.getvalue())
    with pytest.raises(FileError, match=r"a cannot be read: .*compressed by another method"):
        read_tensors(file)


def test_too_little_memory_is_an_error_of_the_file(file, monkeypatch):
    def fails(*_):
        raise MemoryError

    save_file({"a": np.zeros(3)}, file)
    monkeypatch.setattr(np, "fromfile", fails)
    with pytest.raises(FileError, match="weights holds more than there is memory for"):
        read_tensors(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.timeout(5)
@pytest.mark.parametrize("read", [read_tensors, load, load_classifier, load_fcn, read_class_names])
def test_fifos_devices_and_folders_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path / "pipe", "is no regular file"),
        (os.devnull, "is no regular file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises((FileError, IsADirectoryError), match=said):
            read(path)
