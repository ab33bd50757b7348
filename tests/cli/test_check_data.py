import os
import re
from pathlib import Path

import numpy as np
import pytest

from minifcn.cli import main
from tests.data.folders import folder
from tests.data.pictures import noise, write
from tests.real_data import CAMVID, needs_camvid


def run(*arguments):
    """Run the command; return its exit status."""
    try:
        return main(["check-data", *map(str, arguments)])
    except SystemExit as ended:
        return ended.code


@pytest.fixture
def root(tmp_path):
    folder(tmp_path, [f"photo {i:02}" for i in range(30)])
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog")
    return tmp_path


def test_a_clean_dataset(root, capsys):
    assert run(f"folder:{root}") == 0
    said = capsys.readouterr()
    assert "no findings" in said.out
    assert "of 8 x 6" in said.out
    assert said.err == ""


def test_findings_are_told_line_by_line_with_the_rest_counted(root, capsys):
    names = sorted(file.name for file in (root / "masks").iterdir())
    for name in names[:14]:
        write(root / "masks" / name, np.full((6, 8), 77, np.uint8))
    (root / "images" / names[20]).write_bytes(b"nothing")
    assert run(f"folder:{root}") == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("cannot be read: 1")
    assert lines[start + 1].startswith(f"  {Path('images') / names[20]}: is not an image")
    assert lines[start + 2] == "labels outside of the classes: 14"
    shown = lines[start + 3 : start + 13]
    assert all("77 on 48 pixels; expected 0 to 2 or 255 for void" in line for line in shown)
    assert lines[start + 13 :] == ["  and 4 more", "15 findings"]


def test_one_is_no_plural(tmp_path, capsys):
    folder(tmp_path, "ab")
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog")
    mask = np.zeros((6, 8), np.uint8)
    mask[0, :4] = 3, 4, 5, 6
    write(tmp_path / "masks" / "a.png", mask)
    assert run(f"folder:{tmp_path}") == 1
    said = capsys.readouterr().out
    assert said.count(": 1 image") == 2
    assert "3 on 1 pixel, 4 on 1 pixel, 5 on 1 pixel and 1 other value;" in said
    assert said.endswith("\n1 finding\n")
    assert not re.search(r"\b1 \w+s\b|\(s\)", said)


def test_it_is_said_who_is_held_back(root, capsys):
    run(f"folder:{root}")
    assert (
        "validation: 6 images (held back, because there is no val.txt): 6 of 8 x 6" in capsys.readouterr().out
    )
    (root / "val.txt").write_text("photo 03.png\nphoto 04")
    run(f"folder:{root}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "train: 28 images (those not in val.txt): 28 of 8 x 6",
        "validation: 2 images: 2 of 8 x 6",
    ]


@pytest.mark.parametrize(
    ("names", "listed", "finding"),
    [
        ("a", {}, "validation: there is no such part, and training needs one"),
        ("ab", {"val": "a\nb"}, "train: there is no such part, and training needs one"),
        ("ab", {"train": "a\nb"}, "validation: there is no such part, and training needs one"),
        ("ab", {"val": ""}, "validation: there is no image with a mask"),
    ],
)
def test_a_folder_that_training_would_refuse(tmp_path, capsys, names, listed, finding):
    folder(tmp_path, names)
    for name, text in listed.items():
        (tmp_path / f"{name}.txt").write_text(text)
    assert run(f"folder:{tmp_path}") == 1
    assert capsys.readouterr().out.endswith(f"\nparts without labels: 1\n  {finding}\n1 finding\n")
    there = "train" if finding.startswith("validation") else "validation"
    assert run(f"folder:{tmp_path}", "--split", there) == 0


def test_lines_for_painted_masks_can_be_pasted(root, capsys):
    colors = np.array([[0, 0, 0], [200, 30, 30], [30, 200, 30]], np.uint8)
    for file in (root / "masks").iterdir():
        write(file, colors[np.arange(48).reshape(6, 8) % 3])
    assert run(f"folder:{root}") == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("  lines for classes.txt (replace the names):")
    pasted = lines[start + 1 : start + 4]
    assert pasted[0] == "    class1 0 0 0  # 480 pixels"
    (root / "classes.txt").write_text("\n".join(pasted))
    assert run(f"folder:{root}") == 0
    assert "class3" in capsys.readouterr().out


def test_one_split_alone(root, capsys):
    (root / "masks" / "photo 03.png").unlink()
    assert run(f"folder:{root}", "--split", "train") == 1
    out = capsys.readouterr().out
    assert "train: 24 images: 24 of 8 x 6" in out
    assert "validation" not in out
    assert f"{Path('images') / 'photo 03.png'}: has no mask" in out


def test_bit_depth_and_bands(root, capsys):
    for i, path in enumerate((root / "images").iterdir()):
        write(path, np.full((6, 8), 900 - i, np.uint16))
    assert run(f"folder:{root}", "--bands", "0") == 0
    assert "files of 16 bits have 10 bits: 0 to 1023 becomes 0 to 255" in capsys.readouterr().out
    assert run(f"folder:{root}", "--bands", "0,1,2") == 1
    assert "has 1 band (mode I;16), and bands (0, 1, 2) were asked for" in capsys.readouterr().out
    write(root / "images" / "photo 00.png", noise(6, 8, 4))
    assert run(f"folder:{root}") == 1
    assert "choose bands with --bands of train and check-data, or save" in capsys.readouterr().out
    assert run(f"folder:{root}", "--bands", "0,1") == 2
    assert "one or three bands such as 3,0,1, got '0,1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("folder:{root}/nowhere", "nowhere: does not exist (dataset 'folder:"),
        ("camvid:{root}", "has no split of CamVid"),
        ("photos:x", "unknown dataset 'photos:x'"),
        ("folder:{root}", "line 2 has"),
    ],
)
def test_what_cannot_be_opened(root, capsys, spec, sentence):
    (root / "classes.txt").write_text("a 1 2 3\nb 1 2 999")
    assert run(spec.format(root=root)) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("minifcn check-data: ")
    assert sentence in said.err


def test_digits(capsys):
    assert run("digits", "--split", "validation") == 0
    assert "validation: 100 images: 100 of 96 x 96" in capsys.readouterr().out


@needs_camvid
@pytest.mark.slow
def test_camvid_is_clean(capsys):
    assert run(f"camvid:{CAMVID}") == 0
    said = capsys.readouterr().out
    assert "train: 367 images: 367 of 480 x 360" in said
    assert "validation: 101 images: 101 of 480 x 360" in said
    assert "no findings" in said


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist here")
def test_each_finding_takes_one_line_whatever_the_names_contain(root, capsys):
    names = ("a\nb", "c\x1b[31m", "e\u2028f", "g\rh")
    for name in names:
        write(root / "masks" / f"{name}.png", np.zeros((6, 8), np.uint8))
        (root / "images" / f"{name}.png").write_bytes(b"")
    (root / "classes.txt").write_text("ground\ncat\x1b[0m\ndog")
    assert run(f"folder:{root}") == 1
    said = capsys.readouterr().out
    assert said.isascii()
    assert not {"\x1b", "\r"} & set(said)
    lines = [line for line in said.split("\n") if "is not an image" in line]
    assert [line.count(".png: is not an image") for line in lines] == [1] * len(names)
