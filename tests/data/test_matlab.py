import contextlib
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.data.matlab import read_segmentation
from minifcn.files import FileError
from tests.data.mutations import mutations, survivors

scipy_io = pytest.importorskip("scipy.io", reason="SciPy writes the files")
sparse = pytest.importorskip("scipy.sparse")


def as_sbd(labels):
    """The structure of an SBD file: boundaries as sparse matrices in cells, labels, categories."""
    boundaries = np.empty((3, 1), object)
    for i in range(3):
        boundaries[i, 0] = sparse.csc_matrix(np.eye(*labels.shape))
    return {
        "GTcls": {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    }


def write(path, contents, **options):
    scipy_io.savemat(path, contents, **options)
    return path


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 20)),
    st.booleans(),
    st.sampled_from([np.uint8, np.float64, np.int16, np.uint16, np.int32]),
)
@settings(max_examples=60)
def test_labels_come_back(tmp_path, labels, compressed, dtype):
    path = write(tmp_path / "a.mat", as_sbd(labels.astype(dtype)), do_compression=compressed)
    read = read_segmentation(path)
    assert (read.dtype, read.flags.c_contiguous) == (np.uint8, True)
    assert np.array_equal(read, labels)


LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_labels_of_all_dtypes(tmp_path, dtype):
    labels = LABELS * (10 if dtype == "i1" else 23)
    assert np.array_equal(read_segmentation(write(tmp_path / "a.mat", as_sbd(labels.astype(dtype)))), labels)
    wrong = {"i1": [-1], "u1": []}.get(dtype, [256] if dtype[0] == "u" else [-1, 256])
    for value in [*wrong, np.nan, 0.5] if dtype[0] == "f" else wrong:
        values = LABELS.astype(dtype)
        values[1, 2] = value
        with pytest.raises(FileError, match="labels that are not integers from 0 to 255"):
            read_segmentation(write(tmp_path / "a.mat", as_sbd(values)))


@pytest.mark.parametrize("compressed", [False, True])
def test_other_variables_are_skipped(tmp_path, compressed):
    contents = {"first": np.ones((50, 50)), "text": "hello", **as_sbd(LABELS), "last": np.ones(3)}
    path = write(tmp_path / "a.mat", contents, do_compression=compressed)
    assert np.array_equal(read_segmentation(path), LABELS)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"GTinst": {"Segmentation": LABELS}}, "'GTcls'"),
        ({"GTcls": LABELS}, "'GTcls'"),
        ({"GTcls": {"Other": LABELS, "More": 1}}, "'Segmentation', only Other, More"),
        ({"GTcls": {"Segmentation": LABELS / 2}}, "integers from 0 to 255"),
        ({"GTcls": {"Segmentation": LABELS * 300.0}}, "integers from 0 to 255"),
        ({"GTcls": {"Segmentation": LABELS * np.nan}}, "integers from 0 to 255"),
        ({"GTcls": {"Segmentation": -LABELS.astype(np.int16)}}, "integers from 0 to 255"),
        ({"GTcls": {"Segmentation": np.zeros((2, 3, 4))}}, r"shape \(2, 3, 4\)"),
        ({"GTcls": {"Segmentation": np.zeros((0, 3))}}, r"shape \(0, 3\)"),
        ({"GTcls": {"Segmentation": "text"}}, "not a numeric array"),
    ],
)
def test_other_contents_are_rejected(tmp_path, contents, message):
    path = write(tmp_path / "a.mat", contents)
    with pytest.raises(FileError, match=rf"a\.mat: .*{message}"):
        read_segmentation(path)


def test_decompression_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("minifcn.data.matlab._MAX_BYTES", 1_000_000)
    path = write(tmp_path / "a.mat", as_sbd(np.zeros((2_000, 2_000), np.uint8)), do_compression=True)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(FileError, match="more than 0 MB"):
        read_segmentation(path)


@pytest.mark.parametrize(
    "data", [b"", b"MATLAB 5.0 MAT-file", bytes(128), bytes(4096), b"MATLAB 7.3 MAT-file".ljust(512)]
)
def test_files_that_are_not_matlab_files_are_rejected(tmp_path, data):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    with pytest.raises(FileError, match="MATLAB 5" + (".*-v7" if b"7.3" in data else "")):
        read_segmentation(path)


def test_missing_files_are_rejected(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_segmentation(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_are_rejected(tmp_path, compressed):
    path = write(tmp_path / "a.mat", as_sbd(LABELS), do_compression=compressed)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 16, 7):
        path.write_bytes(whole[:length])
        with contextlib.suppress(FileError):
            assert np.array_equal(read_segmentation(path), LABELS)  # only what follows the labels is missing
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"a\.mat"):
        read_segmentation(path)


def damage(tmp_path, count, compressed):
    path = write(tmp_path / "a.mat", as_sbd(LABELS), do_compression=compressed)

    def read(data):
        path.write_bytes(data)
        assert read_segmentation(path).ndim == 2

    return survivors(read, mutations(path.read_bytes(), count), FileError)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_read_or_rejected(tmp_path, compressed):
    accepted, rejected = damage(tmp_path, 300, compressed)
    assert accepted > 5
    assert rejected > 50


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_many_damaged_files(tmp_path, compressed):
    assert sum(damage(tmp_path, 3_000, compressed)) == 3_000


# Small files that would take long or much memory


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def structure(step, names, fields):
    """A structure GTcls with these bytes as the names of its fields."""
    flags = element(6, struct.pack("<II", 2, 0))
    parts = [
        flags,
        element(5, struct.pack("<ii", 1, 1)),
        element(1, b"GTcls"),
        element(5, struct.pack("<i", step)),
    ]
    return HEADER + element(14, b"".join([*parts, element(1, names), *fields]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (structure(1, bytes(24_000_000), []), "names of 1 bytes in 24,000,000 bytes"),
        (structure(1, bytes(10_001), []), "names of 1 bytes in 10,001 bytes"),
        (structure(1, bytes(10_000), []), "has no field 'Segmentation'"),
        (structure(0, bytes(100), []), "names of 0 bytes"),
        (structure(-5, bytes(100), []), "names of -5 bytes"),
        (structure(32, bytes(32 * 9_000), [element(14, b"")] * 20_000), "has no field"),
        (HEADER + element(14, b"") * 20_000, ""),
        (HEADER + element(9, bytes(8)) * 20_000, "more than 10,000 elements"),
    ],
    ids=["names", "a name more", "most names", "zero", "negative", "fields", "arrays", "elements"],
)
def test_numbers_of_names_and_elements_are_bounded(tmp_path, data, message):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(FileError, match=rf"a\.mat: .*{message}"):
        read_segmentation(path)
    assert time.monotonic() - started < 2


def test_all_compressed_elements_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("minifcn.data.matlab._MAX_BYTES", 1_000_000)
    other = zlib.compress(
        element(14, structure(4, b"abc\0", [])[136:].replace(b"GTcls", b"other") + bytes(400_000))
    )
    path = tmp_path / "a.mat"
    wanted = write(tmp_path / "b.mat", as_sbd(LABELS), do_compression=True).read_bytes()[128:]
    for count, fits in ((2, True), (3, False)):
        path.write_bytes(HEADER + (struct.pack("<II", 15, len(other)) + other) * count + wanted)
        if fits:
            assert np.array_equal(read_segmentation(path), LABELS)
        else:
            with pytest.raises(FileError, match="MB of compressed data"):
                read_segmentation(path)
