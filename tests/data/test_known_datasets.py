import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minifcn.data import (
    VOC,
    CamVid,
    DataError,
    DigitCanvases,
    Folder,
    class_counts,
    dataset_splits,
    median_frequency_weights,
    open_dataset,
)
from minifcn.data.known_datasets import voc_colors
from minifcn.files import FileError
from tests.data.folders import camvid, folder, voc
from tests.data.mutations import mutations, survivors
from tests.data.pictures import noise, write
from tests.real_data import CAMVID, needs_camvid

# CamVid


def listed(root, lines):
    (root / "train.txt").write_text("\n".join(lines))
    return CamVid(root, "train")


def test_without_lists_images_and_masks_are_matched_by_name(tmp_path):
    camvid(tmp_path, "abc"), camvid(tmp_path, "de", "val")
    train, validation = CamVid(tmp_path, "train"), CamVid(tmp_path, "validation")
    assert [train.pair(i).name for i in range(len(train))] == ["a", "b", "c"]
    assert [validation.pair(i).name for i in range(len(validation))] == ["d", "e"]
    image, labels = train[1]
    numbers = noise(6, 8, 1, seed=1) % 12
    assert np.array_equal(image, noise(6, 8, seed=1))
    assert np.array_equal(labels, np.where(numbers == 11, 255, numbers))
    assert np.array_equal(labels, train.labels(1))
    assert len(train.class_names) == len(train.palette) == 11
    assert CamVid.splits(tmp_path) == ("train", "validation")
    with pytest.raises(FileError, match=r"test\.txt.* test and testannot"):
        CamVid(tmp_path, "test")


@pytest.mark.parametrize(
    "line",
    ["/SegNet/CamVid/train/b.png /SegNet/CamVid/trainannot/b.png", r"C:\x\train\b.png D:\trainannot\b.png"],
)
def test_only_folder_and_name_of_listed_paths_are_used(tmp_path, line):
    dataset = listed(camvid(tmp_path), [line, "", "train/a.png trainannot/a.png"])
    assert [dataset.pair(i).name for i in range(len(dataset))] == ["b", "a"]
    assert np.array_equal(dataset[0][0], noise(6, 8, seed=1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/a.png", "line 1 "),
        ("a.png a.png", "line 1 "),
        ("train/../../a.png trainannot/../a.png", "line 1 "),
        ("train/a.png trainannot/a.png more", "line 1 "),
        ("train/z.png trainannot/a.png", r"train.z\.png: is listed"),
        ("nowhere/a.png trainannot/a.png", r"nowhere.a\.png: is listed"),
        ("x" * 300 + "/a.png trainannot/a.png", "does not exist"),
        ("", "no images in its train split"),
    ],
)
def test_wrong_lists_are_rejected(tmp_path, line, message):
    camvid(tmp_path)
    with pytest.raises(FileError, match=message):
        listed(tmp_path, [line])


def test_missing_files_can_be_left_out(tmp_path):
    camvid(tmp_path)
    (tmp_path / "trainannot" / "b.png").unlink()
    with pytest.raises(FileError, match=r"b\.png: .*mask"):
        CamVid(tmp_path, "train")
    dataset = CamVid(tmp_path, "train", strict=False)
    assert len(dataset) == 2
    [problem] = dataset.problems
    assert problem.kind == "missing"


def test_files_are_read_on_request(tmp_path):
    camvid(tmp_path)
    dataset = CamVid(tmp_path, "train")
    (tmp_path / "train" / "a.png").write_bytes(b"broken")
    dataset[1]
    with pytest.raises(FileError, match=r"a\.png: is not an image"):
        dataset[0]
    with pytest.raises(IndexError, match=r"index .*0 to 2, got 3"):
        dataset[3]
    with pytest.raises(IndexError):
        dataset[-1]


def test_values_that_are_no_class_are_listed(tmp_path):
    camvid(tmp_path, "a", numbers=14)
    with pytest.raises(DataError, match=r"a\.png: .*: 1[23] on \d+ pixels, 1[23] on") as caught:
        CamVid(tmp_path, "train")[0]
    assert "expected 0 to 11 or 255 for void" in str(caught.value)


def test_a_folder_of_images_alone_is_no_split_of_camvid(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "testannot").mkdir()
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"no {split} split: expected {split}.txt, or .* {split}annot"):
            CamVid(tmp_path, split)


@pytest.mark.parametrize(("path", "reason"), [("nowhere", "does not exist"), ("file", "is not a folder")])
def test_wrong_folders_are_rejected(tmp_path, path, reason):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=f"{path}: {reason}"):
        CamVid(tmp_path / path, "train")
    with pytest.raises(ValueError, match=r"split .*'train', 'validation', 'test', got 'val'"):
        CamVid(tmp_path, "val")


@pytest.mark.parametrize("count", [200, pytest.param(1_000, marks=pytest.mark.slow)])
def test_damaged_lists_are_read_or_rejected(tmp_path, count):
    camvid(tmp_path, "abcdefgh")
    lines = [f"/SegNet/CamVid/train/{name}.png /SegNet/CamVid/trainannot/{name}.png" for name in "abcdefgh"]

    def read(data):
        (tmp_path / "train.txt").write_bytes(data)
        assert 0 < len(CamVid(tmp_path, "train")) <= 10

    accepted, rejected = survivors(read, mutations("\n".join(lines).encode(), count), FileError)
    assert accepted + rejected == count
    assert min(accepted, rejected) > 3


@needs_camvid
def test_the_real_lists():
    train, validation = CamVid(CAMVID, "train"), CamVid(CAMVID, "validation")
    assert (len(train), len(validation)) == (367, 101)
    assert train.pair(0).name == "0001TP_006690"
    names = [{dataset.pair(i).name for i in range(len(dataset))} for dataset in (train, validation)]
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
    assert sorted(plain.pair(i).name for i in range(101)) == sorted(listed.pair(i).name for i in range(101))
    assert plain.labels(0).tobytes() == listed.labels(0).tobytes()
    shutil.rmtree(tmp_path / "val", ignore_errors=True)


# VOC and SBD


def names(dataset):
    return [dataset.pair(i).name for i in range(len(dataset))]


@pytest.fixture
def root(tmp_path):
    return voc(tmp_path / "VOCdevkit" / "VOC2012", train=["2007_01", "2007_02"], val=["2008_01", "2008_02"])


@pytest.mark.parametrize("up", [0, 1, 2])
def test_lists_name_images_and_masks(root, up):
    path = [root, *root.parents][up]
    dataset = VOC(path, "train")
    assert names(dataset) == ["2007_01", "2007_02"]
    assert names(VOC(path, "validation")) == ["2008_01", "2008_02"]
    image, labels = dataset[0]
    assert image.shape == (6, 8, 3)
    assert (labels[0] == 255).all()
    assert np.array_equal(labels[1:], (noise(6, 8, 1, seed=7) % 21)[1:])
    assert len(dataset.class_names) == 21
    assert (dataset.class_names[15], dataset.palette[15].tolist()) == ("person", [192, 128, 128])
    assert VOC.splits(path) == ("train", "validation")


def test_colours_of_camvid_are_steps_of_a_quarter(tmp_path):
    colors = CamVid(camvid(tmp_path), "train").palette.tolist()
    assert {value for color in colors for value in color} == {0, 64, 128, 192}
    assert len({tuple(color) for color in colors}) == 11


def test_colours_are_those_published_with_voc():
    """As published; 255 is the colour of outlines."""
    published = {1: (128, 0, 0), 6: (0, 128, 128), 8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    colors = voc_colors(256)
    assert {index: tuple(colors[index].tolist()) for index in published} == published
    assert len(np.unique(colors, axis=0)) == 256


def test_masks_saved_as_rgb_give_the_same_labels(root):
    file = root / "SegmentationClass" / "2007_01.png"
    before = VOC(root, "train")[0][1]
    with Image.open(file) as mask:
        mask.convert("RGB").save(file)
    assert np.array_equal(VOC(root, "train")[0][1], before)


def test_missing_files_are_named(root):
    (root / "SegmentationClass" / "2007_02.png").unlink()
    with pytest.raises(FileError, match=r"2007_02\.jpg: .*2007_02\.png does not exist"):
        VOC(root, "train")
    (root / "JPEGImages" / "2008_01.jpg").unlink()
    with pytest.raises(FileError, match=r"2008_01\.jpg: is listed"):
        VOC(root, "validation")
    with pytest.raises(FileError, match=r"test\.txt: does not exist"):
        VOC(root, "test")
    with pytest.raises(FileError, match="JPEGImages"):
        VOC(root / "JPEGImages", "train")


def test_sbd_as_released_adds_all_but_the_validation_images(root):
    savemat = pytest.importorskip("scipy.io").savemat
    sbd = root / "benchmark_RELEASE"
    (sbd / "dataset" / "cls").mkdir(parents=True)
    lists = {"train": ["2009_01", "2008_01", "2007_01"], "val": ["2009_02"]}
    for name, entries in lists.items():
        (sbd / "dataset" / f"{name}.txt").write_text("\n".join(entries))
        for entry in entries:
            labels = noise(6, 8, 1, seed=int(entry[-1]) + 40) % 21
            savemat(
                sbd / "dataset" / "cls" / f"{entry}.mat",
                {"GTcls": {"Segmentation": labels}},
                do_compression=True,
            )
    write(root / "JPEGImages" / "2009_01.jpg", noise(6, 8))
    write(sbd / "dataset" / "img" / "2009_02.jpg", noise(6, 8))  # SBD has its own copies
    for dataset in (
        VOC(root, "train", sbd),
        VOC(root, "train", sbd / "dataset"),
        open_dataset(f"voc+sbd:{root}", "train"),
    ):
        assert names(dataset) == ["2007_01", "2007_02", "2009_01", "2009_02"]
    for index, seed in ((2, 41), (3, 42)):
        image, labels = dataset[index]
        assert image.shape == (6, 8, 3)
        assert np.array_equal(labels, noise(6, 8, 1, seed=seed) % 21)
    assert (dataset[0][1][0] == 255).all()  # VOC's own mask, with outlines, not SBD's
    assert names(VOC(root, "validation", sbd)) == ["2008_01", "2008_02"]
    assert len(open_dataset(f"voc:{root}", "train")) == 2


def test_sbd_as_png_masks(root):
    for entry in ("2007_01", "2008_02", "2009_07"):
        write(root / "SegmentationClassAug" / f"{entry}.png", np.full((6, 8), 9, np.uint8))
    write(root / "JPEGImages" / "2009_07.jpg", noise(6, 8))
    dataset = open_dataset(f"voc+sbd:{root.parent}", "train")
    assert names(dataset) == ["2007_01", "2007_02", "2009_07"]
    assert (dataset[2][1] == 9).all()


def test_missing_sbd_is_reported(root):
    with pytest.raises(FileError, match="SegmentationClassAug nor benchmark_RELEASE"):
        open_dataset(f"voc+sbd:{root}", "train")
    (root / "empty").mkdir()
    with pytest.raises(FileError, match="cls "):
        VOC(root, "train", root / "empty")
    (root / "empty" / "cls").mkdir()
    with pytest.raises(FileError, match=r"train\.txt nor val\.txt"):
        VOC(root, "train", root / "empty")


# Any dataset by one line of text


def test_open_dataset_opens_each_kind(tmp_path):
    camvid(tmp_path / "camvid")
    voc(tmp_path / "voc", train=["a"], val=["b"], test=["c"])
    folder(tmp_path / "own: images")
    assert isinstance(open_dataset("digits", "validation"), DigitCanvases)
    assert isinstance(open_dataset(f"camvid:{tmp_path / 'camvid'}", "train"), CamVid)
    assert isinstance(open_dataset(f"voc:{tmp_path / 'voc'}", "test"), VOC)
    assert isinstance(open_dataset(f"folder:{tmp_path / 'own: images'}", "train"), Folder)
    assert dataset_splits(f"camvid:{tmp_path / 'camvid'}") == ("train",)
    assert dataset_splits(f"voc:{tmp_path / 'voc'}") == ("train", "validation", "test")
    assert dataset_splits(f"folder:{tmp_path / 'own: images'}") == ("train", "validation")


def test_drive_letters_and_home(tmp_path, monkeypatch):
    with pytest.raises(FileError, match=r"C:\\Users\\me\\nowhere: does not exist"):
        open_dataset(r"folder:C:\Users\me\nowhere", "train")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder(tmp_path / "own")
    assert len(open_dataset("folder:~/own", "train")) == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "cityscapes:x",
            "'cityscapes:x': expected digits, camvid:PATH, voc:PATH, voc.sbd:PATH or folder:",
        ),
        (r"C:\photos", "unknown dataset"),
        ("camvid", "unknown dataset 'camvid'"),
        ("digits:x", "unknown dataset 'digits:x'"),
        ("", "unknown dataset ''"),
        ("folder:", "'folder:' .*folder:PATH"),
    ],
)
def test_unknown_kinds_are_rejected(spec, message):
    for call in (dataset_splits, lambda spec: open_dataset(spec, "train")):
        with pytest.raises(ValueError, match=message):
            call(spec)


def test_a_path_without_kind_gets_a_hint(tmp_path):
    with pytest.raises(ValueError, match="folder:/"):
        open_dataset(str(tmp_path), "train")


@pytest.mark.parametrize("kind", ["camvid", "voc", "voc+sbd", "folder"])
def test_a_missing_path(tmp_path, kind):
    with pytest.raises(FileError, match="nowhere: does not exist"):
        open_dataset(f"{kind}:{tmp_path / 'nowhere'}", "train")
    with pytest.raises(ValueError, match=r"split .*'val'"):
        open_dataset(f"{kind}:{tmp_path}", "val")


@pytest.mark.parametrize("kind", ["camvid", "voc", "voc+sbd", "folder"])
def test_missing_relative_paths_are_reported_as_absolute(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for call in (dataset_splits, lambda spec: open_dataset(spec, "train")):
        for name, wrong in (("nowhere", "does not exist"), ("file", "is not a folder")):
            spec = f"{kind}:{name}"
            with pytest.raises(FileError) as caught:
                call(spec)
            assert str(caught.value) == f"{Path.cwd() / name}: {wrong} (dataset {spec!r})"
