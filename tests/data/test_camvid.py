import os
import shutil

import numpy as np
import pytest

from minifcn.data import CamVid, DataError, class_counts, median_frequency_weights
from minifcn.files import FileError
from tests.data.folders import camvid
from tests.data.mutations import mutations, survivors
from tests.data.pictures import noise
from tests.real_data import CAMVID, needs_camvid


def listed(root, lines):
    (root / "train.txt").write_text("\n".join(lines))
    return CamVid(root, "train")


def test_without_lists_pictures_go_with_the_masks_of_their_name(tmp_path):
    camvid(tmp_path, "abc"), camvid(tmp_path, "de", "val")
    train, validation = CamVid(tmp_path, "train"), CamVid(tmp_path, "validation")
    assert [train.item_name(i) for i in range(len(train))] == ["a", "b", "c"]
    assert [validation.item_name(i) for i in range(len(validation))] == ["d", "e"]
    image, labels = train[1]
    numbers = noise(6, 8, 1, seed=1) % 12
    assert np.array_equal(image, noise(6, 8, seed=1))
    assert np.array_equal(labels, np.where(numbers == 11, 255, numbers))
    assert np.array_equal(labels, train.labels(1))
    assert len(train.class_names) == len(train.palette) == 11
    assert CamVid.splits(tmp_path) == ("train", "validation")
    with pytest.raises(
        FileError, match=r"has no test part: expected test\.txt, or folders test and testannot"
    ):
        CamVid(tmp_path, "test")


@pytest.mark.parametrize(
    "line",
    ["/SegNet/CamVid/train/b.png /SegNet/CamVid/trainannot/b.png", r"C:\x\train\b.png D:\trainannot\b.png"],
)
def test_of_listed_paths_only_folder_and_name_count(tmp_path, line):
    dataset = listed(camvid(tmp_path), [line, "", "train/a.png trainannot/a.png"])
    assert [dataset.item_name(i) for i in range(len(dataset))] == ["b", "a"]
    assert np.array_equal(dataset[0][0], noise(6, 8, seed=1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/a.png", "line 1 must be two paths"),
        ("a.png a.png", "line 1 must be two paths"),
        ("train/../../a.png trainannot/../a.png", "line 1 must be two paths"),
        ("train/a.png trainannot/a.png more", "line 1 must be two paths"),
        ("train/z.png trainannot/a.png", r"train.z\.png: is not there, but line 1 of train\.txt names it"),
        ("nowhere/a.png trainannot/a.png", r"nowhere.a\.png: is not there"),
        ("x" * 300 + "/a.png trainannot/a.png", "is not there"),
        ("", "has no images in its train part"),
    ],
)
def test_wrong_lists_are_refused(tmp_path, line, message):
    camvid(tmp_path)
    with pytest.raises(FileError, match=message):
        listed(tmp_path, [line])


def test_what_is_missing_can_be_left_out(tmp_path):
    camvid(tmp_path)
    (tmp_path / "trainannot" / "b.png").unlink()
    with pytest.raises(FileError, match=r"b\.png: has no mask of the same name"):
        CamVid(tmp_path, "train")
    dataset = CamVid(tmp_path, "train", strict=False)
    assert len(dataset) == 2
    [problem] = dataset.problems
    assert problem.kind == "missing"


def test_files_are_read_when_they_are_asked_for(tmp_path):
    camvid(tmp_path)
    dataset = CamVid(tmp_path, "train")
    (tmp_path / "train" / "a.png").write_bytes(b"broken")
    dataset[1]
    with pytest.raises(FileError, match=r"a\.png: is no image"):
        dataset[0]
    with pytest.raises(IndexError, match="index must be from 0 to 2, got 3"):
        dataset[3]
    with pytest.raises(IndexError):
        dataset[-1]


def test_labels_that_are_no_class_are_named(tmp_path):
    camvid(tmp_path, "a", numbers=14)
    with pytest.raises(
        DataError, match=r"a\.png: has labels that are no class: 1[23] on \d+ pixels, 1[23] on"
    ) as refusal:
        CamVid(tmp_path, "train")[0]
    assert "expected 0 to 11 or 255 for void" in str(refusal.value)


@pytest.mark.parametrize(("path", "reason"), [("nowhere", "is not there"), ("file", "is no folder")])
def test_a_folder_that_is_none(tmp_path, path, reason):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=f"{path}: {reason}"):
        CamVid(tmp_path / path, "train")
    with pytest.raises(ValueError, match="split must be one of 'train', 'validation', 'test', got 'val'"):
        CamVid(tmp_path, "val")


@pytest.mark.parametrize("count", [200, pytest.param(1_000, marks=pytest.mark.slow)])
def test_damaged_lists_are_read_or_refused(tmp_path, count):
    camvid(tmp_path, "abcdefgh")
    lines = [f"/SegNet/CamVid/train/{name}.png /SegNet/CamVid/trainannot/{name}.png" for name in "abcdefgh"]

    def read(data):
        (tmp_path / "train.txt").write_bytes(data)
        assert 0 < len(CamVid(tmp_path, "train")) <= 10

    accepted, refused = survivors(read, mutations("\n".join(lines).encode(), count), FileError)
    assert accepted + refused == count
    assert min(accepted, refused) > 3


@needs_camvid
def test_the_real_lists():
    train, validation = CamVid(CAMVID, "train"), CamVid(CAMVID, "validation")
    assert (len(train), len(validation)) == (367, 101)
    assert train.item_name(0) == "0001TP_006690"
    names = [{dataset.item_name(i) for i in range(len(dataset))} for dataset in (train, validation)]
    assert not names[0] & names[1]
    assert train.class_names[:4] == ("Sky", "Building", "Pole", "Road")
    image, labels = validation[50]
    assert image.shape == (360, 480, 3)
    assert labels.shape == (360, 480)


@needs_camvid
def test_the_real_classes():
    counts = class_counts(CamVid(CAMVID, "validation"))
    assert counts.pixels.sum() == 101 * 360 * 480
    assert counts.pixels[:4].tolist() != [0, 0, 0, 0]
    shares = dict(
        zip(
            CamVid(CAMVID, "validation").class_names,
            counts.pixels[:-1] / counts.pixels[:-1].sum(),
            strict=True,
        )
    )
    assert sorted(shares, key=lambda name: -shares[name])[:3] == ["Road", "Building", "Tree"]
    weights = dict(zip(shares, median_frequency_weights(counts).tolist(), strict=True))
    assert weights["Road"] < 0.3 < 3 < weights["Pole"]


@needs_camvid
def test_the_real_folders_without_lists_give_the_same(tmp_path):
    for name in ("val", "valannot"):
        os.symlink(CAMVID / name, tmp_path / name, target_is_directory=True)
    plain, listed = CamVid(tmp_path, "validation"), CamVid(CAMVID, "validation")
    assert sorted(plain.item_name(i) for i in range(101)) == sorted(listed.item_name(i) for i in range(101))
    assert plain.labels(0).tobytes() == listed.labels(0).tobytes()
    shutil.rmtree(tmp_path / "val", ignore_errors=True)
