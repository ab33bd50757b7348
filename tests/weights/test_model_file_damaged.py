"""What comes from a file is checked: it is loaded whole, or refused with a FileError."""

import json
import os
import pickle
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.weights import load_classifier
from tests.weights.files import GREY, contents, equal, header_size, rewritten, small


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# What is no model file


def test_what_is_no_file(path):
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
    with pytest.raises(FileError, match=r"safetensors file|no model file of minifcn"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "minifcn 2"}])
def test_other_safetensors_files_are_refused(path, metadata):
    save_file(small().state_dict(), path, metadata)
    with pytest.raises(FileError, match="is no model file of minifcn: it lacks the mark 'minifcn 1'"):
        load(path)


def test_every_truncation_is_refused(path):
    save(small(), path)
    size, header = path.stat().st_size, header_size(path)
    somewhere = np.random.default_rng(0).integers(header, size - 1, 100).tolist()
    for length in sorted({size - 1, *somewhere, *range(header)}, reverse=True):
        os.truncate(path, length)
        with pytest.raises(FileError, match=r"cut off or is not a safetensors file|lacks the mark"):
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
def test_changed_files_of_others_are_refused_or_harmless(path, kind):
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
            model, _ = load_classifier(path, "digit_classifier", partial=True, preprocessing=GREY)
        except FileError as error:
            refused.append(str(error))
        else:
            assert model(np.zeros((1, 1, 32, 32), np.float32)).ndim == 2
    assert len(refused) > 50
    assert max(map(len, refused)) < 1000


def test_bytes_too_many_are_refused(path):
    save(small(), path)
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(FileError, match="not a safetensors file"):
        load(path)


# What does not fit together


def test_tensors_that_do_not_fit_are_all_named(path):
    def change(tensors, metadata):
        del tensors["features.0.bias"]
        tensors["stranger"] = np.zeros(2, np.float32)
        tensors["classifier.0.bias"] = np.zeros(7, np.float32)

    rewritten(path, change)
    with pytest.raises(FileError, match="does not fit") as refusal:
        load(path)
    for said in (
        "features.0.bias is missing",
        "stranger is not known here",
        "classifier.0.bias has shape (7,)",
    ):
        assert said in str(refusal.value)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "int64"])
def test_tensors_of_other_dtypes_are_refused(path, dtype):
    name = "features.0.bias"
    rewritten(path, lambda tensors, metadata: tensors.update({name: tensors[name].astype(dtype)}))
    with pytest.raises(FileError, match=f"{name} is .*, expected one of F16, F32, F64"):
        load(path)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floating_point_numbers_are_converted(path, dtype):
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
    with pytest.raises(FileError, match="its architecture has 3 classes, its info another number"):
        load(path)

    def claim_four(tensors, metadata):
        metadata["architecture"] = metadata["architecture"].replace("3", "4")
        change(tensors, metadata)

    rewritten(path, claim_four)
    with pytest.raises(FileError, match=r"classifier.3.bias has shape \(3,\), expected \(4,\)"):
        load(path)


@pytest.mark.parametrize("key", ["architecture", "info"])
@pytest.mark.parametrize("text", [None, "", "{", "nul", "'a'", "[" * 100_000, '{"a":' * 50_000])
def test_metadata_that_are_no_json(path, key, text):
    def change(tensors, metadata):
        if text is None:
            del metadata[key]
        else:
            metadata[key] = text

    rewritten(path, change)
    with pytest.raises(FileError, match=f"model.safetensors: its {key} is not JSON"):
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
    """Yield the way to each part of a nested value."""
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


@pytest.mark.parametrize("key", ["architecture", "info"])
def test_metadata_of_wrong_types_are_refused_or_harmless(path, key):
    model = small()
    save(model, path)
    tensors, metadata = contents(path)
    value = {"architecture": model.architecture, "info": json.loads(json.dumps(asdict(model.info)))}[key]
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


def test_missing_parts_of_the_info_are_refused(path):
    info = json.loads(json.dumps(asdict(small().info)))
    for place in places(info):
        if place and isinstance(place[-1], str) and place != ("colors",):  # colours can be chosen anew
            whole = info if len(place) == 1 else info[place[0]]
            less = {k: v for k, v in whole.items() if k != place[-1]}
            changed = json.dumps(less if len(place) == 1 else replaced(info, place[:-1], less))
            rewritten(path, lambda tensors, metadata, changed=changed: metadata.update(info=changed))
            with pytest.raises(FileError, match="its info does not fit: "):
                load(path)
