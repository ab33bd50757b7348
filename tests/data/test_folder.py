import json
import os
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minifcn.data import DataError, Folder, read_image
from minifcn.data.classes import Classes
from minifcn.data.dataset import read_like
from minifcn.data.folder import _held_back
from minifcn.data.listing import _alike
from minifcn.files import FileError
from tests.data.folders import folder
from tests.data.pictures import noise, write, write_palette


def names(dataset):
    return [dataset.pair(i).name for i in range(len(dataset))]


def masks(root, *arrays):
    """A folder with the given masks, all in training."""
    for name, array in zip("abcdefgh", arrays, strict=False):
        write(root / "images" / f"{name}.png", noise(*array.shape[:2]))
        write(root / "masks" / f"{name}.png", array)
    (root / "train.txt").write_text("\n".join("abcdefgh"[: len(arrays)]))
    return root


# Splits


@pytest.mark.parametrize("layout", ["images/train", "train/images"])
@pytest.mark.parametrize("validation", ["val", "validation", "valid"])
def test_splits_by_folders(tmp_path, layout, validation):
    for part, entries in (("train", "abc"), (validation, "de"), ("test", "f")):
        images = layout.replace("train", part)
        folder(tmp_path, entries, images=images, masks=images.replace("images", "masks"))
    assert [names(Folder(tmp_path, split)) for split in ("train", "validation", "test")] == [
        [*"abc"],
        [*"de"],
        ["f"],
    ]
    assert Folder.splits(tmp_path) == ("train", "validation", "test")


def test_splits_by_lists(tmp_path):
    folder(tmp_path, "abcde", suffix=".jpg")
    (tmp_path / "train.txt").write_text("c\nimages/a.jpg\n")
    (tmp_path / "val.txt").write_text("b.jpg\nd")
    assert names(Folder(tmp_path, "train")) == ["c", "a"]
    assert names(Folder(tmp_path, "validation")) == ["b", "d"]
    with pytest.raises(FileError, match=r"test .*train, validation.*test\.txt"):
        Folder(tmp_path, "test")
    (tmp_path / "val.txt").write_text("b\nz")
    with pytest.raises(FileError, match="z: is listed"):
        Folder(tmp_path, "validation")


@pytest.mark.parametrize(
    ("lists", "train", "validation", "chosen"),
    [
        ({"val": "b d"}, "ace", "bd", ("those not in val.txt", "")),
        ({"train": "b d"}, "bd", "ace", ("", "those not in train.txt")),
        ({"valid": "b", "test": "d"}, "ace", "b", ("those not in valid.txt or test.txt", "")),
        ({"train": "a c", "val": "b"}, "ac", "b", ("", "")),
    ],
)
def test_images_in_no_list_form_the_other_split(tmp_path, lists, train, validation, chosen):
    folder(tmp_path, "abcde")
    for name, entries in lists.items():
        (tmp_path / f"{name}.txt").write_text(entries.replace(" ", "\n"))
    parts = Folder(tmp_path, "train"), Folder(tmp_path, "validation")
    assert [names(part) for part in parts] == [[*train], [*validation]]
    assert tuple(part.chosen for part in parts) == chosen
    assert Folder.splits(tmp_path) == ("train", "validation", "test")[: 3 if "test" in lists else 2]


def test_images_in_no_list_must_be_complete(tmp_path):
    folder(tmp_path, "abcd")
    (tmp_path / "val.txt").write_text("a\nd")
    for file in ("masks/a.png", "images/b.png", "images/d.png"):
        (tmp_path / file).unlink()
    assert len(Folder(tmp_path, "validation", strict=False).problems) == 2
    [problem] = Folder(tmp_path, "train", strict=False).problems
    assert problem.path.endswith("b.png")
    with pytest.raises(FileError, match=r"\(and 1 more problem: see check_dataset\)"):
        Folder(tmp_path, "validation")
    with pytest.raises(FileError, match=r"b\.png: has no image of the same name in [^(]*images$"):
        Folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("image", "mask", "alike"),
    [
        ("img1", "img1b", True),
        ("img1", "img1b0", True),
        ("img1", "img10", False),
        ("img1", "img10b", False),
        ("b1", "01b1", True),
        ("1b", "01b", False),
        ("img1_rgb", "img1", True),
        ("img", "IMG-mask", True),
    ],
)
def test_names_with_something_more_or_less_are_alike(image, mask, alike):
    """A number is not cut in two."""
    assert _alike([image], [mask]) == ({image: mask} if alike else {})


def test_the_number_of_other_problems_is_told(tmp_path):
    folder(tmp_path, "abcd")
    (tmp_path / "train.txt").write_text("a\nb\nc\nd")
    for removed, more in (
        ("a", "does not exist$"),
        ("b", r"and 1 more problem:"),
        ("c", r"and 2 more problems:"),
    ):
        (tmp_path / f"masks/{removed}.png").unlink()
        with pytest.raises(FileError, match=rf"images.a\.png: has no mask: .*{more}"):
            Folder(tmp_path, "train")


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_up_to_five_kinds_of_files_and_folders_are_named(tmp_path, count):
    found = [f"k{i}" for i in range(count)]
    for name in found:
        (tmp_path / name).mkdir()
    has = f"only {', '.join(found[:5])}$" if found else "no folders$"
    with pytest.raises(FileError, match=f"images and masks, but has {has}"):
        Folder(tmp_path, "train")
    (tmp_path / "masks").mkdir()
    for name in found:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"a.{name}").touch()
    if found:
        kinds = ", ".join(f".{name}" for name in found[:5])
        with pytest.raises(FileError, match=f"no images .it has files {kinds}; expected bmp, gif"):
            Folder(tmp_path, "train")


def test_a_list_of_all_images_leaves_no_other_split(tmp_path):
    folder(tmp_path, "ab")
    (tmp_path / "val.txt").write_text("a\nb")
    assert Folder.splits(tmp_path) == ("validation",)
    with pytest.raises(FileError, match=r"train .*validation.*train\.txt"):
        Folder(tmp_path, "train")


def test_with_a_test_list_alone_the_rest_is_split_by_hashes(tmp_path):
    folder(tmp_path)
    (tmp_path / "test.txt").write_text("a\nb\nc\nd")
    parts = [names(Folder(tmp_path, split)) for split in ("train", "validation", "test")]
    assert sorted(parts[0] + parts[1]) == [*"efghij"]
    assert [len(part) for part in parts] == [5, 1, 4]


@given(
    st.sets(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), max_size=40),
    st.text(max_size=8),
)
@settings(max_examples=60)
def test_adding_an_image_moves_at_most_one_other(some, another):
    chosen = _held_back(some)
    assert chosen <= some
    assert len(chosen) == (max(1, len(some) // 5) if len(some) > 1 else 0)
    moved = chosen ^ (_held_back({*some, another}) - {another})
    assert len(moved) <= 1


def test_hashes_do_not_depend_on_the_pattern_of_names():
    for prefix in ("IMG_", "photo-", ""):
        chosen = _held_back(f"{prefix}{i:04}" for i in range(5_000))
        assert sum(int(name[-4:]) < 2_500 for name in chosen) == pytest.approx(500, abs=80)


def test_hashes_do_not_depend_on_the_encoding_of_accents():
    composed, decomposed = [f"caf\u00e9{i}" for i in range(30)], [f"cafe\u0301{i}" for i in range(30)]
    assert [name in _held_back(composed) for name in composed] == [
        name in _held_back(decomposed) for name in decomposed
    ]


def test_ten_images_are_enough(tmp_path):
    folder(tmp_path)
    train, validation = Folder(tmp_path, "train"), Folder(tmp_path, "validation")
    assert sorted(names(train) + names(validation)) == [*"abcdefghij"]
    assert len(validation) == 2
    assert (train.chosen, validation.chosen) == ("", "held back, because there is no val.txt")
    assert Folder.splits(tmp_path) == ("train", "validation")


def test_a_single_image_is_for_training(tmp_path):
    folder(tmp_path, "a")
    assert names(Folder(tmp_path, "train")) == ["a"]
    with pytest.raises(FileError, match=r"validation .*train"):
        Folder(tmp_path, "validation")


@pytest.mark.slow
def test_ten_thousand_images_are_listed_quickly(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for i in range(10_000):
            (tmp_path / part / f"{i}.png").touch()
    (tmp_path / "classes.txt").write_text("a\nb")
    started = time.perf_counter()
    assert len(Folder(tmp_path, "train")) + len(Folder(tmp_path, "validation")) == 10_000
    assert time.perf_counter() - started < 3


def test_names_that_differ_in_how_accents_are_composed_are_pairs(tmp_path):
    """A zip file made on a Mac has them decomposed."""
    names = ["b\u00f6den", "caf\u00e9", "plain", "z\u00fcrich"]
    folder(tmp_path, names)
    for name in names:
        decomposed = unicodedata.normalize("NFD", name)
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{decomposed}.png")
    (tmp_path / "val.txt").write_text(unicodedata.normalize("NFD", "z\u00fcrich"), encoding="utf-8")
    assert [Folder(tmp_path, "train").pair(i).name for i in range(3)] == names[:3]
    validation = Folder(tmp_path, "validation")
    assert validation.pair(0).name == "z\u00fcrich"
    assert validation[0][0].shape == (6, 8, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_that_is_no_text_is_a_name(tmp_path):
    folder(tmp_path, "abc")
    for part in (b"images", b"masks"):
        root = os.fsencode(tmp_path) + b"/" + part
        os.rename(root + b"/a.png", root + b"/b\xf6den.png")
    names = {Folder(tmp_path, split).pair(0).name for split in ("train", "validation")}
    names |= {Folder(tmp_path, "train").pair(1).name}
    assert names == {"b", "c", os.fsdecode(b"b\xf6den")}


def test_a_picture_in_two_formats_is_skipped_once(tmp_path):
    folder(tmp_path, "abc", classes=2)
    (tmp_path / "images" / "a.heic").touch()
    (tmp_path / "masks" / "b.xcf").touch()
    problems = [*Folder(tmp_path, "train").problems, *Folder(tmp_path, "validation").problems]
    assert [(problem.kind, Path(problem.path).name) for problem in problems] == [
        ("skipped", "a.heic"),
        ("skipped", "b.xcf"),
    ]
    assert "skipped for a.png: it is in a format that is not read (HEIC)" in str(problems[0])


def twelve_bits(root, **brightest):
    """Write images of 16 bits, each with this largest value."""
    folder(root, list(brightest))
    for name, most in brightest.items():
        values = np.linspace(0, most, 48).astype(np.uint16).reshape(6, 8)
        write(root / "images" / f"{name}.png", values)


@pytest.mark.parametrize(
    ("brightest", "bits"),
    [
        ({"a": 200, "b": 4095, "c": 1000, "d": 900}, 12),
        ({"a": 200, "b": 16384, "c": 1000, "d": 900}, 16),
        ({"a": 200, "b": 1023, "c": 3, "d": 9}, 10),
        ({"a": 200, "b": 255, "c": 3, "d": 9}, 8),
        ({"a": 16383, "b": 0, "c": 3, "d": 9}, 14),
    ],
)
def test_one_bit_depth_for_all_images(tmp_path, brightest, bits):
    twelve_bits(tmp_path, **brightest)
    (tmp_path / "val.txt").write_text("a\nc")  # the two splits have different maxima
    for split in ("train", "validation"):
        dataset = Folder(tmp_path, split)
        assert dataset.bit_depth == bits
        for index in range(2):
            most = brightest[dataset.pair(index).name]
            assert dataset[index][0].max() == most >> (bits - 8)


def test_images_of_eight_bits_are_not_scaled(tmp_path):
    folder(tmp_path, "ab")
    dataset = Folder(tmp_path, "train")
    assert dataset.bit_depth == 8
    dataset.bit_depth = 12
    assert np.array_equal(dataset[0][0], read_image(dataset.pair(0).image))


def test_bands_are_those_that_are_asked_for(tmp_path):
    folder(tmp_path, "ab")
    dataset = Folder(tmp_path, "train")
    image = dataset[0][0]
    read_like([dataset], 8, [2, 0, 0])
    assert np.array_equal(dataset[0][0], image[..., [2, 0, 0]])


def grey(root, *masks):
    folder(root, "abcdef"[: len(masks)])
    for name, values in zip("abcdef", masks, strict=False):
        write(root / "masks" / f"{name}.png", np.resize(np.array(values, np.uint8), (6, 8)))


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (([0, 128], [0, 255], [0, 128, 255]), r"c\.png: .* \(0, 128, 255 in all masks\).*\n.*class1 0 0 0 "),
        (([0, 85, 170, 255],) * 2, r"a\.png: .*0, 85, 170, 255"),
        (([0, 16, 255],) * 2, r"a\.png: .*\(0, 16, 255"),
        (([0, 239, 255],) * 2, r"a\.png: .*\(0, 239, 255"),
        ((range(48), range(10)), r"a\.png: .*48 values .* more than 32"),
        ((range(200, 248), [0]), r"a\.png: .*49 values .* more than 32"),
    ],
)
def test_grey_masks_whose_values_are_no_classes(tmp_path, masks, says):
    grey(tmp_path, *masks)
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=says) as caught:
            Folder(tmp_path, split)
        assert caught.value.kind == "labels"
    splits = [Folder(tmp_path, split, strict=False) for split in ("train", "validation")]
    assert [error.kind for split in splits for error in split.problems] == ["labels"]
    levels = sorted({level for mask in masks for level in mask})
    (tmp_path / "classes.txt").write_text("\n".join(f"c{v} {v} {v} {v}" for v in levels))
    assert Folder(tmp_path, "train").problems == ()


@pytest.mark.parametrize(
    "masks",
    [
        ([0, 1, 255],) * 2,
        ([0, 15, 255],) * 2,
        ([0, 240, 255],) * 2,
        ([0, 128],) * 2,
        ([0, 255],) * 2,
        ([1, 2, 3], [0, 255]),
        (range(32), [0]),
    ],
)
def test_grey_masks_whose_values_may_be_classes(tmp_path, masks):
    grey(tmp_path, *masks)
    assert Folder(tmp_path, "train").problems == ()


@pytest.mark.parametrize("bands", [(), (3,)])
def test_each_pixel_of_grey_masks_counts_once(tmp_path, bands):
    levels = np.resize(np.array([0, 128, 128, 255], np.uint8), (6, 8))
    masks(tmp_path, *[np.broadcast_to(levels.reshape(6, 8, *[1] * len(bands)), (6, 8, *bands))] * 2)
    with pytest.raises(DataError, match="0, 128, 255 in all masks") as caught:
        Folder(tmp_path, "train")
    assert caught.value.colors == {(0, 0, 0): 24, (128, 128, 128): 48, (255, 255, 255): 24}


@pytest.mark.parametrize(
    ("classes", "wrong", "message"),
    [
        ([0, 1, 2], [9], "no class: 9 on 1 pixel; expected 0 to 2 or 255 for void"),
        ([1, 2], [0, 0], "no class: 0 on 2 pixels; expected 1 to 2 or 255"),
        ([0, 2], [9], r"no class: 9 on 1 pixel; expected \[0, 2\] or 255"),
        ([0, 1], [9, 8, 8, 7], "no class: 8 on 2 pixels, 7 on 1 pixel, 9 on 1 pixel; expected"),
        ([0, 1], [9, 8, 8, 7, 6], "8 on 2 pixels, 6 on 1 pixel, 7 on 1 pixel and 1 other value; expected"),
    ],
)
def test_values_that_are_no_class_are_counted(tmp_path, classes, wrong, message):
    dataset = Folder(folder(tmp_path, "ab"), "train")
    labels = {value: label for label, value in enumerate(classes)}
    dataset.classes = Classes.of(tuple(map(str, classes)), values=labels)
    values = np.array([*classes, 255, *wrong], np.uint8)[None]
    with pytest.raises(DataError, match=message):
        dataset.to_labels(0, values)
    good = values[:, : len(classes) + 1]
    assert dataset.to_labels(0, good).tolist() == [[*range(len(classes)), 255]]


@pytest.mark.parametrize(
    ("masks", "numbers"),
    [
        ((range(4), range(6), range(9), range(3)), True),
        (([0, 1, 2, 3, 4, 255], [0], [0, 1, 255]), True),
        ((range(5), range(5), range(5)), False),
        ((range(5), [0, 2], range(3)), False),
        ((range(5), range(2)), True),
        ((range(4), range(2)), False),
        ((range(3), range(2), range(3)), False),
    ],
)
def test_numbers_of_objects_are_a_warning(tmp_path, masks, numbers):
    grey(tmp_path, *masks)
    found = [error for split in ("train", "validation") for error in Folder(tmp_path, split).problems]
    assert [error.kind for error in found] == ["objects"] * numbers
    (tmp_path / "classes.txt").write_text("\n".join("abcdefghi"))
    assert Folder(tmp_path, "train").problems == Folder(tmp_path, "validation").problems == ()


# Errors


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "images and masks"),
        (["pictures/a.png", "labels/a.png"], "labels, pictures$"),
        (["images/a.png"], "images$"),
        (
            ["images/a.png", "masks/b.png"],
            r"a\.png: has no mask: .*masks.a.* \(and 1 more",
        ),
        (["images/a.png", "masks/notes.txt"], r"a\.png: has no mask: .*masks.a\.\*"),
        (
            ["images/IMG_1.HEIC", "masks/IMG_1.png"],
            r"IMG_1\.HEIC: .* not read \(HEIC\): convert it to PNG, TIFF or JPEG$",
        ),
        (["images/a.xyz", "masks/a.png"], r"images: .*\.xyz; expected bmp, gif"),
        (["images/a.png", "masks/a.xcf"], r"a\.xcf: .* not read \(GIMP\): convert it to PNG, TIFF or JPEG$"),
        (["images/a.jpg", "masks/a_mask.png"], r"a\.jpg: has no mask .*masks.a_mask\.png .*rename one$"),
        (["images/a.jpg", "masks/a.jpg.png"], r"a\.jpg: has no mask .*masks.a\.jpg\.png .*rename one$"),
        (["images/1.jpg", "masks/10.png"], r"1\.jpg: has no mask: .*masks.1\.\* does not exist \(and 1 more"),
        (["images/x_rgb.jpg", "masks/X.png"], r"x_rgb\.jpg: has no mask .*masks.X\.png .*rename one$"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], r"a\.png: and a\.jpg have the same name"),
        (["images/train/a.png", "masks/a.png"], r"train: does not exist"),
    ],
)
def test_wrong_folders_are_rejected(tmp_path, files, message):
    for file in files:
        write(tmp_path / "x.png", np.zeros((2, 2), np.uint8))
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / file)
    with pytest.raises(FileError, match=message) as caught:
        Folder(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_hidden_files_are_ignored(tmp_path):
    folder(tmp_path)
    for name in ("._a.png", ".DS_Store"):
        (tmp_path / "images" / name).write_bytes(b"Mac OS X")
    assert len(Folder(tmp_path, "train")) + len(Folder(tmp_path, "validation")) == 10


def test_sizes_must_agree(tmp_path):
    folder(tmp_path, "abc")
    (tmp_path / "train.txt").write_text("a")
    write(tmp_path / "images" / "a.png", noise(6, 9))
    with pytest.raises(DataError, match=r"a\.png: .*8 x 6.* 9 x 6$"):
        Folder(tmp_path, "train")[0]
    write(tmp_path / "images" / "a.png", noise(8, 6))
    with pytest.raises(DataError, match=r"8 x 6.* 6 x 8$"):
        Folder(tmp_path, "train")[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "images" / "a.png", noise(6, 8), exif=exif)
    with pytest.raises(DataError, match=r"6 x 8; .*EXIF orientation"):
        Folder(tmp_path, "train")[0]


# Classes


def test_class_names(tmp_path):
    folder(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog")
    assert Folder(tmp_path, "train").class_names == ("ground", "cat", "dog")
    (tmp_path / "classes.txt").rename(tmp_path / "classes.json")
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    assert Folder(tmp_path, "train").class_names == ("a", "b", "c")
    (tmp_path / "classes.txt").touch()
    with pytest.raises(FileError, match=r"classes\.txt and classes\.json"):
        Folder(tmp_path, "train")


def test_colour_masks_with_listed_colours(tmp_path):
    red, green = (255, 0, 0), (0, 255, 0)
    image = np.array([[red, green], [green, green]], np.uint8)
    masks(tmp_path, image)
    (tmp_path / "classes.txt").write_text("grass 0 255 0\nrose 255 0 0")
    dataset = Folder(tmp_path, "train")
    assert dataset[0][1].tolist() == [[1, 0], [0, 0]]
    assert dataset.palette.tolist() == [[0, 255, 0], [255, 0, 0]]
    # A paint program numbers colours arbitrarily; they still mean the same.
    write_palette(tmp_path / "masks" / "a.png", np.array([[0, 1], [1, 1]], np.uint8), [red, green])
    assert dataset[0][1].tolist() == [[1, 0], [0, 0]]


def test_the_error_has_lines_for_classes_txt(tmp_path):
    """The lines can be pasted, and the masks are then read."""
    image = np.array([[(200, 30, 30), (0, 0, 0)], [(0, 0, 0), (0, 0, 0)]], np.uint8)
    masks(tmp_path, image)
    (tmp_path / "classes.txt").write_text("ground\nrose")
    with pytest.raises(DataError, match=r"a\.png: has 2 colours") as caught:
        Folder(tmp_path, "train")[0]
    lines = str(caught.value).splitlines()[1:]
    assert [line.strip() for line in lines] == ["class1 0 0 0  # 3 pixels", "class2 200 30 30  # 1 pixel"]
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    dataset = Folder(tmp_path, "train")
    assert dataset.class_names == ("class1", "class2")
    assert dataset[0][1].tolist() == [[1, 0], [0, 0]]


def test_black_and_white_with_listed_colours(tmp_path):
    masks(tmp_path, np.array([[0, 255]], np.uint8))
    (tmp_path / "classes.txt").write_text("ground 0 0 0\ncat 255 255 255")
    assert Folder(tmp_path, "train")[0][1].tolist() == [[0, 1]]


def test_void_by_name(tmp_path):
    masks(tmp_path, np.array([[0, 1, 2, 255]], np.uint8))
    (tmp_path / "classes.txt").write_text("ground\nvoid\ncat")
    assert Folder(tmp_path, "train")[0][1].tolist() == [[0, 255, 1, 255]]


def test_without_names_the_values_are_the_classes(tmp_path):
    folder(tmp_path, "ab")
    write(tmp_path / "masks" / "b.png", np.full((6, 8), 33, np.uint8))
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "val.txt").write_text("b")  # both splits have the same classes
    train, validation = Folder(tmp_path, "train"), Folder(tmp_path, "validation")
    assert train.class_names == validation.class_names == ("0", "1", "2", "33")
    assert (validation[0][1] == 3).all()
    assert np.unique(train[0][1]).tolist() == [0, 1, 2]


def test_without_names_black_and_white_are_two_classes(tmp_path):
    for value in (np.array([[0, 255]], np.uint8), np.array([[[0] * 3, [255] * 3]], np.uint8)):
        dataset = Folder(masks(tmp_path, value), "train")
        assert dataset.class_names == ("0", "255")
        assert dataset[0][1].tolist() == [[0, 1]]


def test_without_names_the_colours_are_the_classes(tmp_path):
    dataset = Folder(masks(tmp_path, np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)), "train")
    assert dataset.class_names == ("#000000", "#ff0000")
    assert dataset[0][1].tolist() == [[1, 0]]
    assert dataset.palette.tolist() == [[0, 0, 0], [255, 0, 0]]


def test_palettes_that_differ_are_read_by_colours(tmp_path):
    masks(tmp_path, *[np.zeros((1, 3), np.uint8)] * 2)
    red, blue, grey = (200, 0, 0), (0, 0, 200), (9, 9, 9)
    write_palette(tmp_path / "masks" / "a.png", np.array([[0, 1, 1]], np.uint8), [red, blue, grey])
    write_palette(tmp_path / "masks" / "b.png", np.array([[0, 1, 2]], np.uint8), [blue, grey, red])
    dataset = Folder(tmp_path, "train")
    assert dataset.class_names == ("#0000c8", "#090909", "#c80000")
    assert [dataset[i][1].tolist() for i in (0, 1)] == [[[2, 0, 0]], [[0, 1, 2]]]
    write_palette(tmp_path / "masks" / "b.png", np.array([[1, 1, 0]], np.uint8), [red, blue, grey])
    dataset = Folder(tmp_path, "train")
    assert dataset.class_names == ("0", "1")  # equal palettes, so the values count
    assert dataset.palette.tolist() == [[*red], [*blue]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([noise(9, 9)], "more than 32"),
        (
            [noise(1, 2), np.zeros((1, 2), np.uint8)],
            r"a\.png: .*b\.png",
        ),
        ([np.zeros((1, 2), np.uint8)], "only class 0"),
        ([np.full((1, 2), 255, np.uint8)], "no class"),
    ],
)
def test_masks_without_clear_classes_are_rejected(tmp_path, arrays, message):
    with pytest.raises(FileError, match=message):
        Folder(masks(tmp_path, *arrays), "train")
