"""Datasets by one line of text, as commands take them."""

import os
from pathlib import Path

from minifcn.data.camvid import CamVid
from minifcn.data.dataset import Dataset
from minifcn.data.digits import DigitCanvases
from minifcn.data.errors import DataError
from minifcn.data.files import SPLITS, check_split, folder_of
from minifcn.data.folder import Folder
from minifcn.data.voc import VOC, sbd_in

_CANVASES = {"train": 1_000, "validation": 100, "test": 200}
_FORMS = "digits, camvid:PATH, voc:PATH, voc+sbd:PATH or folder:PATH"


def open_dataset(spec: str, split: str, *, strict: bool = True) -> Dataset:
    """Open a part of a dataset.

    Args:
        spec: "digits" (1,000, 100 and 200 canvases of handwriting), "camvid:PATH", "voc:PATH", "folder:PATH",
            or "voc+sbd:PATH", which adds the labels of SBD that lie in `SegmentationClassAug` or, in PATH, in
            `benchmark_RELEASE`. See `CamVid`, `VOC` and `Folder`.
        split: "train", "validation" or "test".
        strict: Refuse a folder in which files are missing; else they are left out and told in `problems`.

    Raises:
        ValueError: If there is no such kind of dataset, or no such split.
        FileError: If the folder is missing or something in it is wrong.
        ImportError: For "digits", if scikit-learn is not installed.

    Example:
        >>> dataset = open_dataset("digits", "test")
        >>> len(dataset), dataset[0][0].shape
        (200, (96, 96, 1))
    """
    check_split(split)
    kind, path = _kind_and_folder(spec)
    if kind == "digits":
        return DigitCanvases(split, _CANVASES[split])
    if kind == "camvid":
        return CamVid(path, split, strict=strict)
    if kind == "folder":
        return Folder(path, split, strict=strict)
    return VOC(path, split, sbd_in(path) if kind == "voc+sbd" else None, strict=strict)


def dataset_splits(spec: str) -> tuple[str, ...]:
    """Return the parts that a dataset has, as `open_dataset` takes them.

    Raises:
        ValueError: As `open_dataset`.

    Example:
        >>> dataset_splits("digits")
        ('train', 'validation', 'test')
    """
    kind, path = _kind_and_folder(spec)
    if kind == "digits":
        return SPLITS
    if kind == "camvid":
        return CamVid.splits(path)
    return Folder.splits(path) if kind == "folder" else VOC.splits(path)


def _kind_and_folder(spec: str) -> tuple[str, str]:
    """Return kind and path, and say where a folder that is not there was looked for, and why."""
    kind, path = _kind_and_path(spec)
    if path:
        try:
            folder_of(path)
        except DataError as error:
            reason = f"{error.reason}, though the dataset {spec!r} names it"
            raise DataError(error.kind, os.path.abspath(path), reason) from None
    return kind, path


def _kind_and_path(spec: str) -> tuple[str, str]:
    """Split at the first colon: a drive's letter has its colon behind that."""
    kind, colon, path = spec.partition(":")
    if kind == "digits" and not colon:
        return kind, ""
    if kind not in ("camvid", "voc", "voc+sbd", "folder") or not colon:
        hint = (
            f"; for a folder of images and masks write folder:{spec}"
            if Path(spec).expanduser().is_dir()
            else ""
        )
        raise ValueError(f"unknown dataset {spec!r}: expected {_FORMS}{hint}")
    if not path:
        raise ValueError(f"dataset {spec!r} names no folder: expected {kind}:PATH")
    return kind, os.path.expanduser(path)
