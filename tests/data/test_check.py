import os
import re
import shutil
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from minifcn.data import Folder, check_dataset, class_counts
from minifcn.data.check import KINDS
from tests.data.folders import folder
from tests.data.pictures import noise, write, write_palette


@pytest.fixture
def root(tmp_path):
    """A folder without faults: eight images for training, four for validation, three classes."""
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


def test_a_good_dataset_has_no_findings(root):
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


def void_split(root):
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
        (damage_image, ("unreadable", "train", "images/train/a.png"), "truncated"),
        (damage_mask, ("unreadable", "train", "masks/train/a.png"), "is not an image"),
        (take_mask, ("missing", "train", "images/train/a.png"), "has no mask"),
        (take_image, ("missing", "validation", "masks/val/k.png"), "no image of the same name"),
        (
            other_size,
            ("size", "train", "masks/train/a.png"),
            "8 x 6 .* 6 x 8$",
        ),
        (jpeg_mask, ("lossy", "train", "masks/train/a.jpg"), "JPEG"),
        (strange_mask, ("mode", "train", "masks/train/a.png"), "transparent"),
        (
            out_of_range,
            ("labels", "train", "masks/train/a.png"),
            "3 on 48 pixels.* 0 to 2 or 255",
        ),
        (
            same_name,
            ("overlap", "validation", "images/val/a.png"),
            "images.train.a.png.* train$",
        ),
        (same_bytes, ("overlap", "validation", "images/val/k.png"), "in train.* images.train.c.png"),
        (absent, ("absent", "train", ""), r"unicorn \(1 of 4 classes\) in any split$"),
        (void_split, ("void", "validation", ""), "void.* 4 masks"),
        (
            in_training_only,
            ("absent", "validation", ""),
            r"cat, dog \(2 of 3 classes\), but other splits have some$",
        ),
        (
            in_validation_only,
            ("absent", "train", ""),
            r"dog \(1 of 3 classes\), but other splits have some$",
        ),
    ],
)
def test_each_fault_gives_one_finding(root, spoil, finding, says):
    spoil(root)
    report = check(root)
    assert [(f.kind, f.split, f.file.replace(os.sep, "/")) for f in report.findings] == [finding]
    message = str(report.findings[0])
    assert "\n" not in message
    assert re.search(says, message)
    assert message.startswith(report.findings[0].file or finding[1])


def test_several_faults_are_sorted_by_kind(root):
    for spoil in (damage_image, take_image, same_name, absent):
        spoil(root)
    write(root / "masks/train/b.png", noise(6, 9, 1) % 3)
    write(root / "masks/train/c.png", np.full((6, 8), 9, np.uint8))
    kinds = [kind for kind, _, _ in found(root)]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert set(kinds) == {"unreadable", "missing", "size", "labels", "overlap", "absent"}


def test_a_split_without_images(root):
    for name in "ijkl":
        (root / f"images/val/{name}.png").unlink()
        (root / f"masks/val/{name}.png").unlink()
    (root / "images/val/i.png").write_bytes(b"")  # an image without its mask
    assert found(root) == [("missing", "validation", "images/val/i.png"), ("void", "validation", "")]


def test_splits_that_are_not_checked_are_not_mentioned(root):
    absent(root)
    [finding] = check(root, "train").findings
    assert finding.message.endswith("unicorn (1 of 4 classes)")


def test_masks_of_black_and_white(root):
    (root / "classes.txt").write_text("ground\ncat")
    values = (np.arange(48).reshape(6, 8) % 2 * 255).astype(np.uint8)
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for name in names:
            write(root / "masks" / part / f"{name}.png", values)
    findings = check(root).findings
    assert [finding.kind for finding in findings] == ["binary"] * 12 + ["absent"]
    (root / "classes.txt").write_text("background 0 0 0\nobject 255 255 255")  # as the message advises
    assert check(root).findings == ()


def test_a_single_mask_of_one_class_and_void_is_a_finding_only_for_two_classes(root):
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for name in names:
            write(root / "masks" / part / f"{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 2)
    write(root / "masks/train/a.png", (np.arange(48).reshape(6, 8) % 2 * 255).astype(np.uint8))
    (root / "classes.txt").write_text("ground\ncat\ndog")
    assert "binary" not in {kind for kind, _, _ in found(root)}
    (root / "classes.txt").write_text("ground\ncat")
    assert found(root) == [("binary", "train", "masks/train/a.png")]


def test_faults_are_found_without_class_names(root):
    (root / "classes.txt").unlink()
    damage_mask(root)
    write_palette(root / "masks/val/i.png", noise(6, 8, 1) % 3, [[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    assert found(root) == [("unreadable", "train", "masks/train/a.png")]


def scribbles(root):
    labels = np.full((6, 8), 255, np.uint8)
    labels[1, 2:5] = 0, 1, 2
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for name in names:
            write(root / "masks" / part / f"{name}.png", labels)


def test_mostly_void_is_a_finding_unless_it_is_intended(root):
    scribbles(root)
    findings = check(root).findings
    assert [(finding.kind, finding.split) for finding in findings] == [
        ("unlabelled", "train"),
        ("unlabelled", "validation"),
    ]
    assert re.search(r"93\.8% .* \(255\).* __ignore__ to classes\.txt", findings[0].message)
    (root / "classes.txt").write_text("__ignore__\nground\ncat\ndog")  # as the message advises
    assert check(root).findings == ()


@pytest.mark.parametrize(("void", "kinds"), [(24, []), (25, ["unlabelled"])])
def test_half_of_the_pixels_may_be_void(tmp_path, void, kinds):
    folder(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog")
    (tmp_path / "val.txt").write_text("b")
    labels = np.arange(48, dtype=np.uint8) % 3
    labels[:void] = 255
    write(tmp_path / "masks/a.png", labels.reshape(6, 8))
    assert [finding.kind for finding in check(tmp_path, "train").findings] == kinds


def test_painted_levels_come_with_lines_for_the_list(root):
    (root / "classes.txt").unlink()
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for name in names:
            levels = np.array([0, 128, 255], np.uint8)[np.arange(48).reshape(6, 8) % 3]
            write(root / "masks" / part / f"{name}.png", levels)
    report = check(root)
    assert [finding.kind for finding in report.findings] == ["labels"]
    assert report.unknown == {(0, 0, 0): 192, (128, 128, 128): 192, (255, 255, 255): 192}


def test_numbers_of_objects_are_a_finding(root):
    (root / "classes.txt").unlink()
    for count, name in enumerate("abcdefgh", 2):
        write(root / f"masks/train/{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % count)
    for name in "ijkl":
        write(root / f"masks/val/{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 9)
    assert [finding.kind for finding in check(root).findings] == ["objects"]


def test_a_picture_in_a_second_format_is_told(root):
    (root / "images/train/a.heic").touch()
    assert found(root) == [("skipped", "train", "images/train/a.heic")]


@pytest.mark.parametrize("mode", ["RGBA", "pages", "bands"])
def test_pictures_that_would_be_reinterpreted_are_findings(root, mode):
    pixels = noise(6, 8, 4)
    if mode == "RGBA":
        write(root / "images/train/a.png", pixels)
        assert found(root) == [("mode", "train", "images/train/a.png")]
        return
    (root / "images/train/a.png").unlink()
    first = Image.fromarray(pixels[..., :3])
    if mode == "pages":
        first.save(root / "images/train/a.tif", save_all=True, append_images=[first])
    else:
        first.convert("CMYK").save(root / "images/train/a.tif")
        data = (root / "images/train/a.tif").read_bytes()  # CMYK, said to be RGB with a fourth band
        tag = struct.pack("<HHI", 262, 3, 1)
        at = data.index(tag) + len(tag)
        (root / "images/train/a.tif").write_bytes(data[:at] + struct.pack("<I", 2) + data[at + 4 :])
    assert found(root) == [("mode", "train", "images/train/a.tif")]


@pytest.mark.parametrize("count", [check_dataset, class_counts])
def test_a_progress_bar_is_shown_by_name_on_terminals(root, monkeypatch, count):
    shown = []

    def bar(iterable, *, desc, disable, **options):
        shown.append((desc, disable))
        return iterable

    for module in ("minifcn.data.check", "minifcn.data.class_weights"):
        monkeypatch.setattr(sys.modules[module], "tqdm", bar)
    dataset = Folder(root, "train")
    for name in (None, "counting"):
        count({"train": dataset} if count is check_dataset else dataset, progress=name)
    assert shown == [(None, True), ("counting", None)]  # None: quiet where there is no terminal


def test_twelve_bits_are_reported(root):
    for part in ("train", "val"):
        for path in (root / "images" / part).iterdir():
            write(path, np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
    report = check(root)
    assert (report.findings, report.bit_depth) == ((), 12)


def test_a_sample_is_checked_without_counting_classes(root):
    absent(root)
    damage_image(root)
    splits = {split: Folder(root, split, strict=False) for split in ("train", "validation")}
    report = check_dataset(splits, indices={"train": [1, 2], "validation": [0]})
    assert report.findings == ()
    assert report.splits["train"].items == 8
    assert report.splits["train"].counts.pixels.sum() == 2 * 48
    report = check_dataset(splits, indices={"train": [0], "validation": [0]})
    assert [finding.kind for finding in report.findings] == ["unreadable"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_a_finding_at_once(root):
    for file in ("images/train/a.png", "masks/train/b.png"):
        (root / file).unlink()
        os.mkfifo(root / file)
    (root / "images/val/i.png").unlink()
    (root / "images/val/i.png").mkdir()
    assert sorted(found(root)) == [
        ("unreadable", "train", "images/train/a.png"),
        ("unreadable", "train", "masks/train/b.png"),
        ("unreadable", "validation", "images/val/i.png"),
    ]


def test_an_unexpected_error_is_a_finding_of_its_item(root, monkeypatch):
    def fails(self, index):
        raise MemoryError if index else ValueError("embedded null byte")

    monkeypatch.setattr(Folder, "image", fails)
    assert found(root) == [
        *(("unreadable", "train", f"images/train/{name}.png") for name in "abcdefgh"),
        *(("unreadable", "validation", f"images/val/{name}.png") for name in "ijkl"),
    ]


RED, GREEN, BLUE, BLACK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)


def test_palettes_that_differ(root):
    """A paint program numbers colours arbitrarily, so the same value means another class."""
    numbers = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    numbers[0, 0] = 255
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for seed, name in enumerate(names):  # unused colours and the colour of void may differ
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
    assert re.search("1 .*#00c800.* masks/train/b.png .*#c80000", message)


def test_palettes_may_differ_if_colours_are_listed(root):
    (root / "classes.txt").write_text("ground 0 0 0\ncat 200 0 0\ndog 0 200 0")
    for part, names in (("train", "abcdefgh"), ("val", "ijkl")):
        for seed, name in enumerate(names):
            colors = np.roll([BLACK, RED, GREEN], seed, axis=0)
            write_palette(
                root / f"masks/{part}/{name}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 3, colors
            )
    assert check(root).findings == ()


def test_unknown_colours_are_counted_over_all_masks(root):
    image = np.zeros((6, 8, 3), np.uint8)
    image[0] = RED
    write(root / "masks/train/a.png", image)
    image[1] = GREEN
    write(root / "masks/val/i.png", image)
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
def test_report_says_what_is_void(root, classes, void, row):
    (root / "classes.txt").write_text(classes)
    report = check(root)
    assert report.void == void
    assert report.table().splitlines()[-1].split("  ")[0] == row


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="this user may read everything"
)
def test_unreadable_by_permission(root):
    (root / "images/train/a.png").chmod(0)
    assert found(root) == [("unreadable", "train", "images/train/a.png")]


def test_exif_orientation_is_mentioned_if_it_explains_the_sizes(root):
    exif = Image.Exif()
    exif[0x0112] = 8
    write(root / "images/train/a.png", noise(6, 8), exif=exif)
    exif[0x0112] = 3  # upside down, which does not change the size
    write(root / "images/train/b.png", noise(8, 6), exif=exif)
    turned, other = check(root).findings
    assert {turned.kind, other.kind} == {"size"}
    assert "EXIF orientation" in turned.message
    assert "EXIF" not in other.message


def test_keyboard_interrupt_stops_the_check(root, monkeypatch):
    def interrupted(self, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(root)
