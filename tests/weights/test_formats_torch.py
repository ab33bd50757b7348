"""PyTorch files: what PyTorch writes is read, and nothing is executed."""

import argparse
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from minifcn.files import FileError
from minifcn.weights import read_tensors

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


def state():
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        (name, torch.randn(shape, generator=generator))
        for name, shape in (("conv.weight", (4, 3, 2, 2)), ("conv.bias", (4,)), ("bn.count", ()))
    )


def same(tensors, expected):
    return list(tensors.arrays) == list(expected) and all(
        np.array_equal(tensors.arrays[name], tensor.float().numpy()) for name, tensor in expected.items()
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read(file, zipped):
    torch.save(state(), file, _use_new_zipfile_serialization=zipped)
    tensors = read_tensors(file)
    assert same(tensors, state())
    assert tensors.format == "PyTorch"
    assert set(tensors.dtypes.values()) == {"float32"}
    torch.save({}, file)  # the arrays do not lie in the file
    assert same(tensors, state())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_nested_state_dicts_are_found(file, key):
    content = {"epoch": 3, "arch": "vgg16", key: state(), "optimizer": {"state": {}, "lr": torch.ones(1)}}
    torch.save(content, file)
    tensors = read_tensors(file)
    assert same(tensors, state())
    assert tensors.metadata == {"arch": "vgg16"}


def test_the_prefix_module_is_removed(file):
    torch.save({f"module.{name}": tensor for name, tensor in state().items()}, file)
    assert same(read_tensors(file), state())


DTYPES = ["float16", "bfloat16", "float32", "float64", "bool", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["int8", "int16", "int32", "int64"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(file, dtype, zipped):
    tensor = torch.tensor([0.0, 1.0, 2.0, 96.0]).to(getattr(torch, dtype))
    torch.save({"a": tensor}, file, _use_new_zipfile_serialization=zipped)
    tensors = read_tensors(file)
    assert tensors.dtypes == {"a": dtype}
    small = tensor.element_size() < 4 and tensor.is_floating_point()
    assert tensors.arrays["a"].dtype.name == ("float32" if small else dtype)
    assert tensors.arrays["a"].astype("float64").tolist() == tensor.double().tolist()


@pytest.mark.parametrize("ending", ["", ".pt", ".bin", ".npz", ".safetensors"])
def test_the_suffix_does_not_matter(file, ending):
    file = file.with_suffix(ending)
    torch.save(state(), file)
    assert same(read_tensors(file), state())


def of_all_kinds():
    """Whatever torch.save writes that is made of tensors, by name."""
    base = torch.arange(24.0).reshape(4, 6)
    tagged = torch.nn.Parameter(base[1:2])
    tagged.sharded = True
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 2))
    yield "views of one storage", {"all": base, "view": base.T[1:, ::2], "row": base[3], "last": base[3, 5]}
    yield "expanded", {"a": base[:, :1].expand(4, 1000), "b": torch.ones(()).expand(2, 3)}
    yield "the same twice", {"a": base, "b": base}
    yield "overlapping", {"a": base.unfold(1, 3, 1), "b": torch.as_strided(base, (3, 3), (1, 1), 2)}
    yield "empty", {"a": torch.ones(0), "b": torch.ones(3, 0, 2), "c": torch.ones(2, 3)[:, 3:]}
    yield "scalars", {"a": torch.tensor(3.5), "b": torch.tensor(7), "c": torch.tensor(True)}
    yield "parameters", {"a": torch.nn.Parameter(base), "b": torch.nn.Parameter(base[2], False), "c": tagged}
    yield "buffers", {"a": torch.nn.Buffer(base)}
    yield "with gradients", {"a": base.clone().requires_grad_()}
    yield "channels last", {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    yield "a state dict", net.state_dict()
    yield "an ordinary dict", {**net.state_dict()}
    yield "complex parts", {"a": torch.view_as_real(torch.ones(3, dtype=torch.complex64) * 1j)}
    yield "names", {"": base, "é.\x1b\n": base, "a" * 3000: base}


@pytest.mark.parametrize(("zipped", "protocol"), [(True, 2), (False, 2), (True, 3), (False, 4), (True, 5)])
@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in of_all_kinds()])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_values_are_those_of_torch_load(file, content, zipped, protocol):
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    expected = torch.load(file, weights_only=protocol < 4)  # that reads no later protocol
    arrays = read_tensors(file).arrays
    assert list(arrays) == list(expected)
    for name, tensor in expected.items():
        assert arrays[name].shape == tuple(tensor.shape)
        assert str(tensor.dtype) == f"torch.{arrays[name].dtype}"
        assert np.array_equal(arrays[name], tensor.detach().numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_its_optimizer(file, zipped):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    states = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    content = {
        "epoch": 3,
        "best": np.float64(0.5),
        "size": torch.Size([3]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "args": argparse.Namespace(lr=0.1, sizes=(1, 2)),
        **states,
        "model": net.state_dict(),
    }
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert same(read_tensors(file), net.state_dict())


@pytest.mark.filterwarnings("ignore")
def test_programs_of_torchscript_are_named(file):
    torch.jit.script(torch.nn.Linear(2, 3)).save(file)
    with pytest.raises(FileError, match=r"is TorchScript, .* torch.jit.load.* torch.save"):
        read_tensors(file)


class Runs:
    def __reduce__(self):
        return (os.mkdir, (os.environ["MINIFCN_TEST_MARK"],))


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_executed(file, tmp_path, monkeypatch, zipped):
    mark = tmp_path / "mark"
    monkeypatch.setenv("MINIFCN_TEST_MARK", str(mark))
    torch.save({"a": torch.ones(1), "b": Runs()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileError, match=rf"asks for {os.mkdir.__module__}.mkdir, which") as refusal:
        read_tensors(file)
    assert str(refusal.value).count("\n") == 0
    file.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(FileError, match=r"weights.pth"):
        read_tensors(file)
    assert not mark.exists()


def test_pickled_networks_are_refused(file):
    torch.save(torch.nn.Linear(2, 3), file)
    with pytest.raises(FileError, match=r"asks for torch.nn.*Linear, .* save model.state_dict\(\)"):
        read_tensors(file)


@pytest.mark.parametrize(
    "content", [3, None, [1, 2], {}, {"a": 3}, torch.ones(3), {"state_dict": {}}, {1: torch.ones(3)}]
)
def test_files_without_named_tensors_are_refused(file, content):
    torch.save(content, file)
    with pytest.raises(FileError, match="holds no tensors by name, neither directly nor in one of"):
        read_tensors(file)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.ones(3, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.ones(3).to(torch.float8_e4m3fn),
        lambda: torch.ones(3, dtype=torch.complex64).conj(),
        lambda: torch.ones(3, dtype=torch.complex64).conj().imag,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_tensors_are_refused(file, make):
    torch.save({"odd": make()}, file)
    with pytest.raises(FileError, match=r"weights.pth (asks for torch|holds a tensor that is conj)"):
        read_tensors(file)


def test_expanded_tensors_are_refused(file):
    torch.save({"a": torch.ones(1).expand(20_000, 20_000)}, file)
    assert file.stat().st_size < 10_000
    with pytest.raises(FileError, match="declares tensors of 1,600,000,000 bytes"):
        read_tensors(file)


def members(file):
    with zipfile.ZipFile(file) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_compressed_members_are_refused(file):
    torch.save({"a": torch.zeros(1_000_000)}, file)
    contents = members(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents:
            archive.writestr(name, data)
    with pytest.raises(FileError, match=r"declares 4,\d{3},\d{3} bytes and has [\d,]+$"):
        read_tensors(file)


@pytest.mark.parametrize("change", ["shorter storage", "no storage", "no pickle"])
def test_malformed_storages_are_refused(file, change):
    torch.save(state(), file)
    contents = members(file)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents:
            if name.endswith("/data/0"):
                if change == "no storage":
                    continue
                data = data[: len(data) // 2] if change == "shorter storage" else data
            if change == "no pickle" and name.endswith("data.pkl"):
                data = b""
            archive.writestr(name, data)
    with pytest.raises(FileError, match=r"weights.pth"):
        read_tensors(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncations_and_flipped_bits_are_refused_or_harmless(file, zipped):
    whole = io.BytesIO()
    torch.save(state(), whole, _use_new_zipfile_serialization=zipped)
    whole = whole.getvalue()
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        try:
            tensors = read_tensors(file)
        except FileError as error:
            refused.append(str(error))
        else:
            assert sum(array.size for array in tensors.arrays.values()) < 1000
    assert len(refused) > 50
    assert max(map(len, refused)) < 1000
    assert not any("\n" in sentence for sentence in refused)
