"""Damaged and hostile model files are loaded completely, or refused with a FileError."""

import json
import os
import pickle
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.weights import load_classifier, write_safetensors
from tests.weights.files import GREY, contents, equal, header_size, rewritten, small, tiny


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_missing_files_and_folders(path):
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(OSError, match="is a folder, and a file is expected"):
        load(path.parent)


def foreign():
    yield "empty", b""
    yield "short", b"\x01\x00\x00"
    yield "text", b"These are not the weights that you are looking for."
    yield "zeros", bytes(4096)
    yield "endless header", b"\xff" * 64
    yield "pickle", pickle.dumps({"weight": np.ones(3)})
    yield "zip", b"PK\x03\x04" + bytes(200)
    yield "no json", (12).to_bytes(8, "little") + b"{not json...}" + bytes(8)
    yield "a list", (2).to_bytes(8, "little") + b"[]"
    yield "nothing in it", (2).to_bytes(8, "little") + b"{}"
    yield "deep", (100_000).to_bytes(8, "little") + b"[" * 100_000


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in foreign()])
def test_foreign_files_are_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"safetensors file|not a model file of minifcn"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_other_safetensors_files_are_refused(path, metadata):
    save_file(small().state_dict(), path, metadata)
    with pytest.raises(FileError, match="not a model file of minifcn: its metadata lack the format"):
        load(path)


def test_every_truncation_is_refused(path):
    save(small(), path)
    size, header = path.stat().st_size, header_size(path)
    somewhere = np.random.default_rng(0).integers(header, size - 1, 100).tolist()
    for length in sorted({size - 1, *somewhere, *range(header)}, reverse=True):
        os.truncate(path, length)
        with pytest.raises(FileError, match=r"cut off or is not a safetensors file|lack the format"):
            load(path)


def test_flipped_bits_are_refused_or_harmless(path):
    save(small(), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, header_size(path), 350).tolist(), *rng.integers(0, len(whole), 20).tolist()]
    refused = 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            model = load(path)
        except FileError:
            refused += 1
        else:  # a weight, a name or a colour is another one, and the network works
            assert model(np.zeros((1, 1, 32, 32), np.float32)).shape == (1, 3)
    assert 200 < refused < len(places)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "compressed npz"])
def test_damaged_files_of_others_are_refused_or_harmless(path, kind):
    state = small().state_dict()
    if kind == "safetensors":
        save_file(state, path, {"preprocessing": "caffe", "by": "somebody"})
    else:
        with path.open("wb") as file:
            (np.savez if kind == "npz" else np.savez_compressed)(file, **state)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    interesting = [*range(2_000), *range(len(whole) - 2_000, len(whole))]
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            data[rng.choice(interesting)] = rng.integers(256)
        if rng.random() < 0.2:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        try:
            model = load_classifier(path, "digit_classifier", partial=True, preprocessing=GREY, rng=0)
        except FileError as error:
            refused.append(str(error))
        else:
            assert model(np.zeros((1, 1, 32, 32), np.float32)).ndim == 2
    assert len(refused) > 50
    assert max(map(len, refused)) < 1000


def test_trailing_bytes_are_refused(path):
    save(small(), path)
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(FileError, match="not a safetensors file"):
        load(path)


def test_all_tensors_that_do_not_fit_are_named(path):
    def change(tensors, metadata):
        del tensors["features.0.bias"]
        tensors["stranger"] = np.zeros(2, np.float32)
        tensors["classifier.0.bias"] = np.zeros(7, np.float32)

    rewritten(path, change)
    with pytest.raises(FileError, match="do not fit") as refusal:
        load(path)
    for said in (
        "features.0.bias is missing, expected (16,)",
        "stranger is (2,), expected none",
        "classifier.0.bias is (7,), expected (128,)",
    ):
        assert said in str(refusal.value)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "int64"])
def test_tensors_of_other_dtypes_are_refused(path, dtype):
    name = "features.0.bias"
    rewritten(path, lambda tensors, metadata: tensors.update({name: tensors[name].astype(dtype)}))
    with pytest.raises(FileError, match=f"{name} is .*, expected one of F16, F32, F64"):
        load(path)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floating_point_dtypes_are_converted(path, dtype):
    name = "classifier.0.weight"
    rewritten(path, lambda tensors, metadata: tensors.update({name: tensors[name].astype(dtype)}))
    weight = load(path).state_dict()[name]
    assert weight.dtype == np.float32
    assert np.allclose(weight, small().state_dict()[name], rtol=1e-3, atol=1e-4)


def test_class_counts_must_agree(path):
    def change(tensors, metadata):
        info = json.loads(metadata["info"])
        info["class_names"].append("fourth")
        info["colors"].append([1, 1, 1])
        metadata["info"] = json.dumps(info)

    rewritten(path, change)
    with pytest.raises(FileError, match="the model has 3 classes, its info names 4"):
        load(path)

    def claim_four(tensors, metadata):
        metadata["layers"] = metadata["layers"].replace('"out_features": 3', '"out_features": 4')
        change(tensors, metadata)

    rewritten(path, claim_four)
    with pytest.raises(FileError, match=r"classifier.3.bias is \(3,\), expected \(4,\)"):
        load(path)


@pytest.mark.parametrize("key", ["layers", "info"])
@pytest.mark.parametrize("text", [None, "", "{", "nul", "'a'", "[" * 100_000, '{"a":' * 50_000])
def test_metadata_that_are_not_json(path, key, text):
    def change(tensors, metadata):
        if text is None:
            del metadata[key]
        else:
            metadata[key] = text

    rewritten(path, change)
    with pytest.raises(FileError, match=r"model.safetensors: .*(JSON|not fit)"):
        load(path)


WRONG = [
    None,
    True,
    3,
    -1.5,
    float("nan"),
    float("inf"),
    10**400,
    "text",
    [],
    {},
    [[]],
    [None],
    [1, "a"],
    {"a": 1},
    ["L"] * 3,
    [1] * 5000,
]


def places(value, place=()):
    """Yield the path to each part of a nested value."""
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*place, key))


def replaced(value, place, new):
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


def harmless(back, model):
    return equal(back, model) and len(back.info.class_names) == 3 and back.info.palette.shape == (3, 3)


@pytest.mark.parametrize("key", ["layers", "info"])
def test_metadata_of_wrong_types_are_refused_or_harmless(path, key):
    model = tiny()
    save(model, path)
    tensors, metadata = contents(path)
    value = json.loads(metadata[key])
    refused = []
    for place in places(value):
        for wrong in WRONG:
            save_file(tensors, path, {**metadata, key: json.dumps(replaced(value, place, wrong))})
            try:
                back = load(path)
            except FileError as error:
                refused.append(str(error))
            else:
                assert harmless(back, model), (place, wrong)
    assert len(refused) > 50
    assert max(map(len, refused)) < 500  # a file cannot flood the screen


OPTIONAL = ("colors", "bit_depth", "bands")


def test_missing_parts_of_the_info_are_refused(path):
    info = json.loads(json.dumps(asdict(small().info)))
    for place in places(info):
        if place and isinstance(place[-1], str) and place[-1] not in OPTIONAL:
            whole = info if len(place) == 1 else info[place[0]]
            less = {k: v for k, v in whole.items() if k != place[-1]}
            changed = json.dumps(less if len(place) == 1 else replaced(info, place[:-1], less))
            rewritten(path, lambda tensors, metadata, changed=changed: metadata.update(info=changed))
            with pytest.raises(FileError, match="its info does not fit: "):
                load(path)


def rows(number):
    return {str(i): {"class": "ReLU", "inplace": False} for i in range(number)}


def nested(depth):
    value = {"class": "ReLU", "inplace": False}
    for _ in range(depth):
        value = {"class": "Sequential", "0": value}
    return value


CONV = {"class": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": [1, 1]}
UPSAMPLE = {"class": "AlignedUpsample", "channels": 1, "learned": False, "fine": [[1, 1], [0, 1]]}
HOSTILE = {
    "a huge kernel": CONV | {"kernel_size": 10**9},
    "a large kernel": CONV | {"kernel_size": [50_000, 50_000]},
    "many channels": CONV | {"in_channels": 99_999, "out_channels": 99_999},
    "a number of many digits": CONV | {"in_channels": 10**4000},
    "text for an integer": CONV | {"in_channels": "1"},
    "text for a truth value": CONV | {"bias": "no"},
    "a list for a number": {"class": "Dropout", "p": [0.5]},
    "text for a number": {"class": "LocalResponseNorm", "size": 5, "alpha": "1", "beta": 1, "k": 1},
    "infinity": {"class": "BatchNorm2d", "num_features": 1, "eps": float("inf"), "momentum": 0.1},
    "a negative size": CONV | {"out_channels": -5},
    "unknown argument": CONV | {"surprise": 1},
    "argument self": CONV | {"self": 1},
    "no class": {"in_channels": 1},
    "an unknown class": {"class": "os.system", "command": "true"},
    "a class of Python": {"class": "__import__", "name": "os"},
    "a list as a class": {"class": ["ReLU"]},
    "deep nesting": nested(5_000),
    "nesting": nested(70),
    "20,000 layers": {"class": "Sequential"} | rows(20_000),
    "100,000 layers": {"class": "Sequential"} | rows(100_000),
    "no layer": {"class": "Sequential", "0": 3},
    "a text": "ReLU",
    "nothing": None,
    "a long text": {"class": "x" * 100_000},
    "a huge factor": UPSAMPLE | {"coarse": [[99_999, 1], [0, 1]]},
    "division by zero": UPSAMPLE | {"coarse": [[1, 0], [0, 1]]},
    "a cycle": {"class": "Graph", "nodes": {"a": ["add", "b", "b"], "b": ["add", "a", "a"]}, "output": "a"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_layers_are_refused_without_memory(path, kind):
    text = json.dumps(HOSTILE[kind]) if kind != "deep nesting" else '{"a":' * 50_000
    write_safetensors(path, {"weight": np.zeros((2, 3), "f4")}, {"format": "minifcn 2", "layers": text})
    tracemalloc.start()
    with pytest.raises(FileError, match=r"model\.safetensors: ") as refusal:
        load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(str(refusal.value)) < 700
    assert "\n" not in str(refusal.value)
    assert peak < 20 * len(text) + 1_000_000


@pytest.mark.parametrize("inplace", [False, True])
def test_large_graphs_are_checked_in_linear_time(path, inplace):
    count = 8_000
    relu = {"class": "ReLU", "inplace": inplace}
    nodes = {str(i): [relu, str(i - 1) if i else "input"] for i in range(count)}
    graph = {"class": "Graph", "nodes": nodes, "output": str(count - 1)}
    write_safetensors(path, {}, {"format": "minifcn 2", "layers": json.dumps(graph)})
    assert len(list(load(path).children())) == count  # quadratic checks would take minutes


def test_files_of_a_later_format_are_refused(path):
    write_safetensors(path, {}, {"format": "minifcn 3"})
    with pytest.raises(FileError, match="its format is 'minifcn 3', which a newer version may read"):
        load(path)
