import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from minifcn.files import FileError
from minifcn.weights import Tensors, read_tensors

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
