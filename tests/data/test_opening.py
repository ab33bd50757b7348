from pathlib import Path

import pytest

from minifcn.data import VOC, CamVid, DigitCanvases, Folder, dataset_splits, open_dataset
from minifcn.data.opening import _kind_and_path
from minifcn.files import FileError
from tests.data.folders import camvid, folder, voc


def test_each_kind(tmp_path):
    camvid(tmp_path / "camvid")
    voc(tmp_path / "voc", train=["a"], val=["b"], test=["c"])
    folder(tmp_path / "own: photographs")
    assert isinstance(open_dataset("digits", "validation"), DigitCanvases)
    assert isinstance(open_dataset(f"camvid:{tmp_path / 'camvid'}", "train"), CamVid)
    assert isinstance(open_dataset(f"voc:{tmp_path / 'voc'}", "test"), VOC)
    assert isinstance(open_dataset(f"folder:{tmp_path / 'own: photographs'}", "train"), Folder)
    assert dataset_splits(f"camvid:{tmp_path / 'camvid'}") == ("train",)
    assert dataset_splits(f"voc:{tmp_path / 'voc'}") == ("train", "validation", "test")
    assert dataset_splits(f"folder:{tmp_path / 'own: photographs'}") == ("train", "validation")


def test_drive_letters_and_home(monkeypatch):
    assert _kind_and_path(r"folder:C:\Users\me\photos") == ("folder", r"C:\Users\me\photos")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert _kind_and_path("folder:~/photos")[1] in ("/home/me/photos", r"/home/me\photos")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "cityscapes:x",
            "unknown dataset 'cityscapes:x': expected digits, camvid:PATH, voc:PATH, voc.sbd:PATH or folder:",
        ),
        (r"C:\photos", "unknown dataset"),
        ("camvid", "unknown dataset 'camvid'"),
        ("digits:x", "unknown dataset 'digits:x'"),
        ("", "unknown dataset ''"),
        ("folder:", "dataset 'folder:' names no folder: expected folder:PATH"),
    ],
)
def test_unknown_kinds_are_refused(spec, message):
    for call in (dataset_splits, lambda spec: open_dataset(spec, "train")):
        with pytest.raises(ValueError, match=message):
            call(spec)


def test_a_bare_folder_gets_a_hint(tmp_path):
    with pytest.raises(ValueError, match="for a folder of images and masks write folder:"):
        open_dataset(str(tmp_path), "train")


@pytest.mark.parametrize("kind", ["camvid", "voc", "voc+sbd", "folder"])
def test_a_missing_path(tmp_path, kind):
    with pytest.raises(FileError, match="nowhere: is not there"):
        open_dataset(f"{kind}:{tmp_path / 'nowhere'}", "train")
    with pytest.raises(ValueError, match="split must be one of"):
        open_dataset(f"{kind}:{tmp_path}", "val")


@pytest.mark.parametrize("kind", ["camvid", "voc", "voc+sbd", "folder"])
def test_a_relative_path_is_told_in_full_with_the_dataset(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for call in (dataset_splits, lambda spec: open_dataset(spec, "train")):
        for name, wrong in (("nowhere", "is not there"), ("file", "is no folder")):
            spec = f"{kind}:{name}"
            with pytest.raises(FileError) as refusal:
                call(spec)
            assert str(refusal.value) == f"{Path.cwd() / name}: {wrong}, though the dataset {spec!r} names it"
