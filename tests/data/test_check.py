import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from minifcn.data import Folder, check_dataset
from minifcn.data.check import KINDS
from tests.data.folders import folder
from tests.data.pictures import noise, write, write_palette


@pytest.fixture
def root(tmp_path):
    """A folder with nothing wrong: eight photographs for training, four for validation, three classes."""
    folder(tmp_path, "abcdefgh", images="images/train", masks="masks/train")
    folder(tmp_path, "ijkl", images="images/val", masks="masks/val")
    for seed, name in enumerate("ijkl"):
        write(tmp_path / "images" / "val" / f"{name}.png", noise(6, 8, seed=100 + seed))
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog")
    return tmp_path


def check(root, *splits):
    return check_dataset(
        {split: Folder(root, split, strict=False) for split in splits or ("train", "validation")}
    )


def found(root):
    return [
        (finding.kind, finding.split, finding.file.replace(os.sep, "/")) for finding in check(root).findings
    ]


def test_nothing_is_wrong(root):
    report = check(root)
    assert report.findings == ()
    assert report.splits["train"].items == 8
    assert report.splits["train"].sizes == {(6, 8): 8}
    assert report.splits["train"].counts.pixels.tolist() == [128, 128, 128, 0]
    table = report.table().splitlines()
    assert len(table) == 2 + 3 + 1
    assert [line.split() for line in table[2:]] == [
        [name, "33.333%", "8", "33.333%", "4"] for name in ("ground", "cat", "dog")
    ] + [["void", "0.000%", "0", "0.000%", "0"]]


def damage_image(root):
    (root / "images/train/a.png").write_bytes((root / "images/train/a.png").read_bytes()[:60])


def damage_mask(root):
    (root / "masks/train/a.png").write_bytes(b"")


def take_mask(root):
    (root / "masks/train/a.png").unlink()


def take_image(root):
    (root / "images/val/k.png").unlink()


def other_size(root):
    write(root / "images/train/a.png", noise(8, 6))


def jpeg_mask(root):
    (root / "masks/train/a.png").unlink()
    write(root / "masks/train/a.jpg", noise(6, 8, 1))


def strange_mask(root):
    write(root / "masks/train/a.png", noise(6, 8, 4))


def out_of_range(root):
    write(root / "masks/train/a.png", np.full((6, 8), 3, np.uint8))


def same_name(root):
    write(root / "images/val/a.png", noise(6, 8, seed=999))
    shutil.copy(root / "masks/val/k.png", root / "masks/val/a.png")


def same_bytes(root):
    shutil.copy(root / "images/train/c.png", root / "images/val/k.png")


def absent(root):
    (root / "classes.txt").write_text("ground\ncat\ndog\nunicorn")


def void_part(root):
    for name in "ijkl":
        write(root / f"masks/val/{name}.png", np.full((6, 8), 255, np.uint8))


def in_training_only(root):
    for name in "ijkl":
        write(root / f"masks/val/{name}.png", np.zeros((6, 8), np.uint8))


def in_validation_only(root):
    for name in "abcdefgh":
        write(root / f"masks/train/{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 2)


@pytest.mark.parametrize(
    ("spoil", "finding", "says"),
    [
        (damage_image, ("unreadable", "train", "images/train/a.png"), "damaged or cut off"),
        (damage_mask, ("unreadable", "train", "masks/train/a.png"), "is no image"),
        (take_mask, ("missing", "train", "images/train/a.png"), "has no mask of the same name"),
        (take_image, ("missing", "validation", "masks/val/k.png"), "has no image of the same name"),
        (
            other_size,
            ("size", "train", "masks/train/a.png"),
            "has 8 x 6 pixels, but its image has 6 x 8$",
        ),
        (jpeg_mask, ("lossy", "train", "masks/train/a.jpg"), "its compression mixes the labels"),
        (strange_mask, ("mode", "train", "masks/train/a.png"), "is transparent in places"),
        (
            out_of_range,
            ("labels", "train", "masks/train/a.png"),
            "3 on 48 pixels; expected 0 to 2 or 255 for void",
        ),
        (
            same_name,
            ("overlap", "validation", "images/val/a.png"),
            "has the name of images.train.a.png, which is in train",
        ),
        (same_bytes, ("overlap", "validation", "images/val/k.png"), "is in train too, as images.train.c.png"),
        (absent, ("absent", "train", ""), r"no pixel is unicorn \(1 of 4 classes\), in any part$"),
        (void_part, ("void", "validation", ""), "every pixel is void, in 4 masks"),
        (
            in_training_only,
            ("absent", "validation", ""),
            r"no pixel is cat, dog \(2 of 3 classes\), though other parts have some: nothing to score",
        ),
        (
            in_validation_only,
            ("absent", "train", ""),
            r"no pixel is dog \(1 of 3 classes\), though other parts have some: nothing to learn from",
        ),
    ],
)
def test_each_kind_of_fault_is_found_and_nothing_else(root, spoil, finding, says):
    spoil(root)
    report = check(root)
    assert [(f.kind, f.split, f.file.replace(os.sep, "/")) for f in report.findings] == [finding]
    message = str(report.findings[0])
    assert "\n" not in message
    assert re.search(says, message)
    assert message.startswith(report.findings[0].file or finding[1])


def test_all_faults_at_once_with_the_worst_first(root):
    for spoil in (damage_image, take_image, same_name, absent):
        spoil(root)
    write(root / "masks/train/b.png", noise(6, 9, 1) % 3)
    write(root / "masks/train/c.png", np.full((6, 8), 9, np.uint8))
    kinds = [kind for kind, _, _ in found(root)]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert set(kinds) == {"unreadable", "missing", "size", "labels", "overlap", "absent"}


def test_a_part_without_images(root):
    for name in "ijkl":
        (root / f"images/val/{name}.png").unlink()
        (root / f"masks/val/{name}.png").unlink()
    (root / "images/val/i.png").write_bytes(b"")  # a picture that has lost its mask
    assert found(root) == [("missing", "validation", "images/val/i.png"), ("void", "validation", "")]
    assert check(root).findings[1].message == "there is no image with a mask"


def test_of_parts_that_are_not_checked_nothing_is_said(root):
    absent(root)
    [finding] = check(root, "train").findings
    assert finding.message == "no pixel is unicorn (1 of 4 classes)"


def test_masks_of_black_and_white(root):
    (root / "classes.txt").write_text("ground\ncat")
    values = (np.arange(48).reshape(6, 8) % 2 * 255).astype(np.uint8)
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for name in names:
            write(root / "masks" / part / f"{name}.png", values)
    findings = check(root).findings
    assert [finding.kind for finding in findings] == ["binary"] * 12 + ["absent"]
    assert "save white as 1, or list black and white as classes" in findings[0].message
    (root / "classes.txt").write_text("background 0 0 0\nobject 255 255 255")  # as it says
    assert check(root).findings == ()


def test_void_beside_one_class_is_no_fault_among_others(root):
    write(root / "masks/train/a.png", (np.arange(48).reshape(6, 8) % 2 * 255).astype(np.uint8))
    assert check(root).findings == ()


def test_without_names_faults_are_found_too(root):
    (root / "classes.txt").unlink()
    damage_mask(root)
    write_palette(root / "masks/val/i.png", noise(6, 8, 1) % 3, [[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    assert found(root) == [("unreadable", "train", "masks/train/a.png")]


RED, GREEN, BLUE, BLACK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)


def test_palettes_that_differ(root):
    """A paint program numbers the colours as they come, so the same number means another class."""
    numbers = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    numbers[0, 0] = 255
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for seed, name in enumerate(names):  # what no pixel has, and the colour of void, are as they are
            rest = noise(253, 3, 1, seed)
            write_palette(root / f"masks/{part}/{name}.png", numbers, [BLACK, RED, GREEN, *rest])
    assert check(root).findings == ()
    for file in ("train/a", "val/k"):
        write_palette(root / f"masks/{file}.png", numbers, [BLACK, GREEN, RED, *rest])
    assert found(root) == [
        ("palette", "train", "masks/train/a.png"),
        ("palette", "validation", "masks/val/k.png"),
    ]
    message = check(root).findings[1].message.replace(os.sep, "/")
    assert message.startswith("shows 1 as #00c800, but masks/train/b.png shows it as #c80000")


def test_palettes_that_differ_are_right_where_the_colours_are_listed(root):
    (root / "classes.txt").write_text("ground 0 0 0\ncat 200 0 0\ndog 0 200 0")
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for seed, name in enumerate(names):
            colors = np.roll([BLACK, RED, GREEN], seed, axis=0)
            write_palette(
                root / f"masks/{part}/{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 3, colors
            )
    assert check(root).findings == ()


def test_colours_that_no_class_has_are_counted_over_all_masks(root):
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[0] = RED
    write(root / "masks/train/a.png", picture)
    picture[1] = GREEN
    write(root / "masks/val/i.png", picture)
    report = check(root)
    assert [finding.kind for finding in report.findings] == ["labels"] * 2
    assert "\n" not in report.findings[0].message
    assert report.unknown == {BLACK: 40 + 32, RED: 16, GREEN: 8}


@pytest.mark.parametrize(
    ("classes", "void", "row"),
    [
        ("ground\ncat\ndog", ("255",), "void"),
        ("__ignore__\nground\ncat\ndog", ("255",), "void"),
        ("void\ncat\ndog", ("0", "255"), "void (0, 255)"),
        ("ground 0 0 0\ncat 9 9 9\n__ignore__ 8 8 9", ("#080809",), "void (#080809)"),
        ("ground 0 0 0\ncat 9 9 9", (), "void"),
    ],
)
def test_what_is_void_in_the_masks_is_said(root, classes, void, row):
    (root / "classes.txt").write_text(classes)
    report = check(root)
    assert report.void == void
    assert report.table().splitlines()[-1].split("  ")[0] == row


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="this user may read everything"
)
def test_what_may_not_be_read(root):
    (root / "images/train/a.png").chmod(0)
    assert found(root) == [("unreadable", "train", "images/train/a.png")]


def test_a_photograph_that_is_turned_and_its_mask_that_is_not(root):
    exif = Image.Exif()
    exif[0x0112] = 8
    write(root / "images/train/a.png", noise(6, 8), exif=exif)
    exif[0x0112] = 3  # upside down, which changes no size
    write(root / "images/train/b.png", noise(8, 6), exif=exif)
    turned, other = check(root).findings
    assert {turned.kind, other.kind} == {"size"}
    assert "EXIF orientation" in turned.message
    assert "EXIF" not in other.message


def test_an_interrupted_check_stops(root, monkeypatch):
    def interrupted(self, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(root)
