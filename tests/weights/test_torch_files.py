"""PyTorch files that are written by hand, so these tests need no PyTorch."""

import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.files import FileError
from minifcn.weights import read_tensors
from tests.weights.pickles import (
    MAGIC,
    STORAGES,
    Called,
    Name,
    Storage,
    instructions,
    old,
    tensor,
    whole,
    zipped,
)

FORMATS = pytest.mark.parametrize("write", [zipped, old])
SIX = Storage("0", "float32", np.arange(6, dtype="<f4").tobytes())
ONE = tensor(SIX, (2, 3), (3, 1))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


def read(file, data):
    file.write_bytes(data)
    return read_tensors(file)


def refused(file, data, match):
    file.write_bytes(data)
    with pytest.raises(FileError, match=match) as refusal:
        read_tensors(file)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 700


@st.composite
def views(draw):
    """Shape, steps and offset of a part of 40 elements."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    steps = tuple(draw(st.integers(0, 3)) for _ in shape)
    last = sum(max(n - 1, 0) * step for n, step in zip(shape, steps, strict=True))
    return shape, steps, draw(st.integers(0, 39 - last))


@FORMATS
@settings(max_examples=25)
@given(dtype=st.sampled_from(list(STORAGES)), drawn=st.lists(views(), max_size=3), big=st.booleans())
def test_every_view_of_a_storage_has_its_values(file, write, dtype, drawn, big):
    """Every element is looked up by index arithmetic."""
    bits = np.dtype("u2" if dtype == "bfloat16" else dtype).newbyteorder(">" if big else "<")
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 99, 40).astype(bits)
    storage = Storage("7", dtype, values.tobytes())
    drawn.append(((40,), (1,), 0))
    content = {str(number): tensor(storage, *view) for number, view in enumerate(drawn)}
    endian = {"order": b"big" if big else b"little"} if write is zipped else {"little": not big}
    tensors = read(file, write(content, [storage], **endian))
    assert list(tensors.arrays) == list(content)
    assert set(tensors.dtypes.values()) == {dtype}
    for (shape, steps, offset), got in zip(drawn, tensors.arrays.values(), strict=True):
        places = sum(
            (i * step for i, step in zip(np.indices(shape), steps, strict=True)), np.full(shape, offset)
        )
        expected = values[places]
        if dtype == "bfloat16":
            expected = np.ldexp(1.0 + (expected & 127) / 128, (expected >> 7).astype(int) - 127)
            expected = np.where(values[places] < 128, np.ldexp(values[places] / 128.0, -126), expected)
        assert got.shape == shape
        assert got.dtype == np.dtype("float32" if dtype in ("bfloat16", "float16") else dtype)
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert np.array_equal(got, expected)


@FORMATS
def test_a_checkpoint_of_pytorch_fcn_is_read(file, write):
    """With its optimizer, and with a NumPy scalar, as its trainer writes them."""
    dtype = Called("numpy.dtype", "f8", 0, 1, state=(3, "<", None, None, None, -1, -1, 0))
    scalar = Called("numpy.core.multiarray.scalar", dtype, Called("_codecs.encode", "\x00" * 8, "latin1"))
    content = {
        "epoch": 11,
        "iteration": 100_000,
        "arch": "FCN32s",
        "optim_state_dict": {"state": {140: {"step": 3, "buffer": ONE}}, "param_groups": [{"lr": 1e-10}]},
        "model_state_dict": OrderedDict({"conv1_1.weight": ONE}),
        "best_mean_iu": scalar,
    }
    tensors = read(file, write(content, [SIX]))
    assert tensors.arrays["conv1_1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (tensors.inside, tensors.metadata) == (("model_state_dict",), {"arch": "FCN32s"})


ATTRIBUTES = Called("torch._utils._rebuild_parameter_with_state", ONE, True, OrderedDict(), {"sharded": True})
SUBCLASS = (
    "torch._tensor._rebuild_from_type_v2",
    Name("torch._utils._rebuild_tensor_v2"),
    Name("torch.Tensor"),
)
VALUES = {
    "a parameter": Called("torch._utils._rebuild_parameter", ONE, True, OrderedDict()),
    "a parameter with attributes": ATTRIBUTES,
    "a tensor with attributes": Called(*SUBCLASS, ONE.arguments, {"sharded": True}),
    "the first version": Called("torch._utils._rebuild_tensor", SIX, 0, (2, 3), (3, 1)),
    "a list for a shape": tensor(SIX, [2, 3], [3, 1]),
}


@FORMATS
@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_tensors_in_all_forms(file, write, value):
    assert read(file, write({"a": value}, [SIX])).arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_dtypes_that_have_no_storage_class(file):
    """uint16, uint32 and uint64 are stored as bytes."""
    data = np.arange(3, dtype="<u4").tobytes()
    kind = Name("torch.storage.UntypedStorage")
    stored = instructions(("storage", kind, "0", "cpu", len(data))) + b"Q"
    rebuilt = Called(
        "torch._utils._rebuild_tensor_v3", stored, 1, (2,), (1,), False, None, Name("torch.uint32")
    )
    tensors = read(file, zipped({"a": rebuilt}, [Storage("0", "uint8", data)]))
    assert (tensors.arrays["a"].tolist(), tensors.dtypes) == ([1, 2], {"a": "uint32"})


def test_old_files_with_parts_of_storages(file):
    part = Storage("0", "float32", SIX.data, part=("view", 2, 3))
    assert read(file, old({"a": tensor(part, (3,), (1,))}, [SIX])).arrays["a"].tolist() == [2, 3, 4]


OTHER_VALUES = {
    "python 2": b"ccollections\nOrderedDict\n(](](U\x01aNeee",
    "protocol 1": b"(dX\x01\x00\x00\x00aI01\nsX\x01\x00\x00\x00bL5L\nsX\x01\x00\x00\x00cF1.5\ns",
    "protocol 4": b"\x95\x12\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R",
    "settings": Called("argparse.Namespace", state={"lr": 0.1}),
    "a set": b"\x8f(K\x01K\x02\x90",
    "a frozen set": b"(K\x01K\x02\x91",
    "a defaultdict": Called("collections.defaultdict", Name("builtins.dict")),
    "a device": Called("torch.device", "cuda", 0),
    "a size": Called("torch.Size", (3, 4)),
    "numbers": [1, 1.5, True, None, -3, 10**30, b"\x8b\x02\x00\x00\x00\x01\x02", "é" * 300],
}


@pytest.mark.parametrize("value", OTHER_VALUES.values(), ids=list(OTHER_VALUES))
def test_other_values_beside_tensors_are_skipped(file, value):
    value = value.replace(b"(](](U\x01aNeee", b"(](](U\x01aNeetR") if isinstance(value, bytes) else value
    tensors = read(file, zipped({"x": value, "a": ONE, 3: value}, [SIX]))
    assert list(tensors.arrays) == ["a"]


@FORMATS
@pytest.mark.parametrize(
    "name",
    [
        *("posix.system", "builtins.eval", "builtins.getattr", "os.system", "torch.load", "torch.hub.load"),
        *(
            "torch._utils._rebuild_sparse_tensor",
            "torch._utils._rebuild_qtensor",
            "torch.ComplexFloatStorage",
        ),
        *(
            "torch._utils._rebuild_meta_tensor_no_storage",
            "torch.float8_e4m3fn",
            "torch.nn.modules.linear.Linear",
        ),
        "tests.weights.pickles.\x1b[31m",
    ],
)
def test_everything_else_is_refused_by_name(file, write, name):
    said = name.encode("unicode_escape").decode().replace("[", r"\[").replace("\\x", r"\\x")
    refused(
        file, write({"a": ONE, "b": Called(name, "true")}, [SIX]), rf"weights.pth asks for '?{said}'?, which"
    )


INSTRUCTIONS = {
    b"\x82\x01": "EXT1",
    b"(ccollections\nCounter\no": "OBJ",
    b"(ios\nsystem\n": "INST",
    b"Pid\n": "PERSID",
}
INSTRUCTIONS |= {b"N2": "DUP", b"\x97": "NEXT_BUFFER", b"cposix\nsystem\n": "posix.system"}
INSTRUCTIONS |= {b"\x8c\x05posix\x8c\x06system\x93": "posix.system"}


@pytest.mark.parametrize(("code", "said"), INSTRUCTIONS.items())
def test_other_instructions_are_refused_by_name(file, code, said):
    refused(file, zipped({"a": ONE, "b": code}, [SIX]), said)


HUGE = 10**30
SIZES = {
    "beyond the storage": tensor(SIX, (7,), (1,)),
    "an offset beyond it": tensor(SIX, (2,), (1,), 5),
    "steps beyond it": tensor(SIX, (3,), (3,)),
    "a huge step": tensor(SIX, (2,), (HUGE,)),
    "a huge axis": tensor(SIX, (HUGE,), (0,)),
    "a huge axis beside none": tensor(SIX, (0, 2**62), (0, 0)),
    "two gigabytes of one value": tensor(SIX, (10**6, 500), (0, 0)),
    "nine axes": tensor(SIX, (1,) * 9, (1,) * 9),
    "a negative axis": tensor(SIX, (-2,), (1,)),
    "a negative step": tensor(SIX, (2,), (-1,), 3),
    "a negative offset": tensor(SIX, (2,), (1,), -1),
    "too few steps": tensor(SIX, (2, 3), (1,)),
    "a broken axis": tensor(SIX, (2.0,), (1,)),
    "a boolean axis": tensor(SIX, (True,), (1,)),
    "no shape": tensor(SIX, None, None),
    "a longer storage": tensor(Storage("0", "float32", b"", 7), (2,), (1,)),
    "a storage of another type": tensor(Storage("0", "float64", b"", 6), (2,), (1,)),
    "a huge storage": tensor(Storage("0", "float32", b"", HUGE), (2,), (1,)),
    "a negative storage": tensor(Storage("0", "float32", b"", -1), (2,), (1,)),
    "a storage that is missing": tensor(Storage("1", "float32", SIX.data), (2,), (1,)),
    "no storage": tensor(3, (2,), (1,)),
    "half precision that is widened": tensor(Storage("0", "float16", b"", 6), (300_000_000,), (0,)),
}


SAID = {
    "a huge axis beside none": "a declares a shape that is refused, expected at most 8 axes and",
    "two gigabytes of one value": "declares tensors of 2,000,000,024 bytes",
    "nine axes": "a declares a shape that is refused, expected at most 8 axes",
    "half precision that is widened": "declares tensors of 1,200,000,000 bytes",
} | dict.fromkeys(
    ["beyond the storage", "an offset beyond it", "steps beyond it", "a longer storage"], "is not complete"
)


@FORMATS
@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_compared_with_the_file(file, write, name):
    value = SIZES[name]
    content = {"a": value, "b": ONE} if value.arguments[0] is SIX else {"a": value}
    refused(file, write(content, [SIX]), rf"weights\.pth.*{SAID.get(name, 'is cut off or damaged')}")


@FORMATS
@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (9, "a declares a shape that is refused, expected at most 8 axes"),
        (65, r"cut off or damaged \(ValueError\)"),
    ],
)
def test_too_many_axes(file, write, axes, said):
    assert read(file, write({"a": tensor(SIX, (1,) * 8, (1,) * 8)}, [SIX])).arrays["a"].shape == (1,) * 8
    refused(file, write({"a": tensor(SIX, (1,) * axes, (1,) * axes)}, [SIX]), rf"weights\.pth.*{said}")


@FORMATS
def test_a_view_may_end_where_its_storage_ends(file, write):
    last = {
        "whole": ((6,), (1,)),
        "rows": ((2, 2), (3, 1), 1),
        "steps": ((3,), (2,), 1),
        "one": ((1,), (9,), 5),
    }
    content = {name: tensor(SIX, *view) for name, view in last.items()}
    assert [float(array.flat[-1]) for array in read(file, write(content, [SIX])).arrays.values()] == [5] * 4
    for name, (shape, steps, *offset) in last.items():
        beyond = {name: tensor(SIX, shape, steps, sum(offset) + 1)}
        refused(file, write(beyond, [SIX]), rf"weights\.pth is cut off or damaged: {name} is not complete")


@FORMATS
@pytest.mark.parametrize(
    "content",
    [3, None, [1], {}, {"a": 3}, ONE, {"state_dict": {}}, {1: ONE}],
    ids=["number", "None", "list", "nothing", "no tensor", "tensor", "empty state", "number as a name"],
)
def test_tensors_must_have_names(file, write, content):
    storages = [SIX] if content in (ONE, {1: ONE}) else []
    refused(file, write(content, storages), "holds no tensors by name, neither directly nor in one of")


HOSTILE = {
    "many marks": b"(" * 11_000,
    "many values": b"N" * 11_000,
    "a deep list": b"]" + b"]" * 6_000 + b"a" * 6_000,
    "a dict of itself": b"}q\x00X\x05\x00\x00\x00modelh\x00s",
    "a key of keys": b"}" + b"(" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Nu",
    "a storage's key of keys": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    + b")q\x00"
    + b"h\x00h\x00\x86q\x00" * 60
    + b"X\x03\x00\x00\x00cpuK\x06tQ",
    "a module of modules": b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"X\x01\x00\x00\x00a\x93",
    "one dict copied often": b"ccollections\nOrderedDict\nq\x00]("
    + b"X\x01\x00\x00\x00aN\x86" * 2_000
    + b"e\x85q\x010"
    + b"h\x00h\x01R0" * 900,
    "a long shape, often": b"("
    + b"K\x01" * 2_000
    + b"tq\x000"
    + b"ctorch._utils\n_rebuild_tensor\nq\x010"
    + b"h\x01(NK\x00h\x00h\x00tR" * 900,
    "places that collide": b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(1, 3)),
    "long numbers": b"L" + b"9" * 1_000_000 + b"L\n",
    "an endless text": b"X\xff\xff\xff\xffa",
    "an endless array of bytes": b"\x96" + struct.pack("<Q", 2**40),
    "a text of 8 bytes' length": b"\x8d" + struct.pack("<Q", 2**63 - 1),
    "nothing on the stack": b"0" * 10,
    "no mark": b"t",
    "an unknown place": b"g7\n",
    "a huge place": b"g" + b"7" * 4000 + b"\n",
}


@FORMATS
@pytest.mark.parametrize("code", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.timeout(5)
def test_hostile_pickles_end_soon(file, write, code, monkeypatch):
    """The limit is lower here; with the real one, none takes longer than two seconds."""
    monkeypatch.setattr("minifcn.weights.torch_files._MAX_INSTRUCTIONS", 10_000)
    refused(file, write(code, [SIX]), "weights.pth")


@pytest.mark.parametrize("change", ["text", "magic", "short", "count", "twice", "unknown", "extra"])
def test_damaged_old_files(file, change):
    data = old({"a": ONE}, [SIX])
    if change == "text":
        data = pickle.dumps("weights")
    elif change == "magic":
        data = data.replace(pickle.dumps(MAGIC, 2), pickle.dumps(MAGIC + 1, 2))
    elif change == "short":
        data = data[:-1]
    elif change == "count":
        data = data.replace((6).to_bytes(8, "little"), (2**40).to_bytes(8, "little"))
    elif change == "twice":
        data = old({"a": ONE}, [SIX, SIX])
    elif change == "unknown":
        data = old({"a": ONE}, [SIX, Storage("9", "float32", b"")])
    else:
        data = old({"a": ONE}, []) + SIX.data
    refused(file, data, "weights.pth")


def test_damaged_zip_files(file):
    data = zipped({"a": ONE}, [SIX])
    refused(file, data.replace(SIX.data, SIX.data[::-1]), "weights.pth is cut off or damaged")
    file.write_bytes(data)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["archive/data.pkl"] += bytes(10**6)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(file, file.read_bytes(), r"declares 1,000,\d+ bytes and has \d")


def test_only_what_is_needed_is_read(file, monkeypatch):
    """The state of an optimizer may be larger than the limit."""
    monkeypatch.setattr("minifcn.weights.tensors.MAX_BYTES", 1000)
    large = whole("1", np.ones(1000))
    content = {"state_dict": {"a": ONE}, "optimizer": {"state": {"large": large}}}
    assert read(file, zipped(content, [SIX, large.arguments[0]])).arrays["a"].shape == (2, 3)
    refused(
        file,
        zipped({"a": ONE, "b": large}, [SIX, large.arguments[0]]),
        "tensors of 8,024 bytes, and at most 1,000",
    )


@pytest.mark.parametrize(
    ("content", "inside", "prefix"),
    [
        ({"a": ONE}, (), ""),
        *[
            ({key: {"a": ONE}, "epoch": 3}, (key,), "")
            for key in ("state_dict", "model_state", "net", "model")
        ],
        ({"model": {"state_dict": {"a": ONE}}}, ("model", "state_dict"), ""),
        ({"state_dict": {"model.a": ONE, "model.b": ONE}, "other": ONE}, ("state_dict",), "model."),
        *[
            ({f"{prefix}a": ONE}, (), prefix)
            for prefix in ("module.", "model.", "net.", "backbone.", "encoder.")
        ],
        ({"module.backbone.a": ONE}, (), "module.backbone."),
        ({"_orig_mod.module.a": ONE}, (), "_orig_mod.module."),
        ({"backbone.a": ONE, "classifier.a": ONE}, (), ""),
    ],
)
def test_wrappers_and_prefixes_are_reported(file, content, inside, prefix):
    tensors = read(file, zipped(content, [SIX]))
    assert (tensors.inside, tensors.prefix) == (inside, prefix)
    assert "a" in {name.rpartition(".")[2] for name in tensors.arrays}
    if prefix:
        assert "a" in tensors.arrays
        assert "a" in tensors.dtypes


@FORMATS
@pytest.mark.parametrize(
    ("kind", "said"),
    [("one dict copied often", "10,000 instructions"), ("places that collide", "ValueError")],
)
def test_the_reason_is_work_that_is_not_begun(file, write, kind, said, monkeypatch):
    monkeypatch.setattr("minifcn.weights.torch_files._MAX_INSTRUCTIONS", 10_000)
    refused(file, write(HOSTILE[kind], [SIX]), said)
