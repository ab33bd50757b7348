import json
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.data import read_classes
from minifcn.data.classes import read_names
from minifcn.files import FileError
from minifcn.palette import palette
from tests.data.mutations import mutations, survivors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "classes.txt"


words = st.text(st.characters(categories=["L", "N"], include_characters=" -_"), min_size=1, max_size=20).map(
    lambda text: "x" + text.strip()
)
colors = st.tuples(*[st.integers(0, 255)] * 3)


def distinct(texts):
    import unicodedata

    return len({unicodedata.normalize("NFC", text) for text in texts}) == len(texts) and not any(
        text.lower() == "void" or text[-1].isdigit() for text in texts
    )


@given(
    st.lists(words, min_size=1, max_size=30, unique=True).filter(distinct),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=50)
def test_one_name_per_line(path, names, encoding):
    import unicodedata

    path.write_bytes("\r\n".join(names).encode(encoding))
    classes = read_classes(path)
    assert classes.names == tuple(unicodedata.normalize("NFC", name) for name in names)
    assert np.array_equal(classes.palette, palette(len(names)))
    assert classes.colors is None
    assert classes.table[: len(names)].tolist() == list(range(len(names)))
    assert classes.known.sum() == len(names) + 1  # and void


@pytest.mark.parametrize(
    "text",
    [
        "background 0 0 0\ntraffic light 250 170 30",
        "background, 0, 0, 0\n\ntraffic light,250,170,30\n",
        "background\t0\t0\t0\r\ntraffic light;250;170;30",
        "background #000000\ntraffic light, #faAA1E",
        "# mine\n#\nbackground 0 0 0 # all else\ntraffic light\t#faaa1e  # red, green",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntraffic light:250,170,30::",
    ],
)
def test_one_name_and_colour_per_line(path, text):
    path.write_text(text)
    classes = read_classes(path)
    assert classes.names == ("background", "traffic light")
    assert classes.palette.tolist() == [[0, 0, 0], [250, 170, 30]]
    assert classes.colors == {(0, 0, 0): 0, (250, 170, 30): 1}


@pytest.mark.parametrize(
    "value",
    [
        {"sky": [1, 2, 3], "road": [4, 5, 6]},
        [{"name": "sky", "color": [1, 2, 3]}, {"name": "road", "color": [4, 5, 6]}],
    ],
)
def test_json(path, value):
    path = path.with_suffix(".json")
    path.write_text(json.dumps(value))
    classes = read_classes(path)
    assert classes.names == ("sky", "road")
    assert classes.colors == {(1, 2, 3): 0, (4, 5, 6): 1}
    path.write_text(json.dumps(["sky", "road"]))
    assert read_classes(path).names == ("sky", "road")


def test_void_is_not_a_class(path):
    path.write_text("sky 1 1 1\nVoid 2 2 2\nroad 3 3 3")
    classes = read_classes(path)
    assert classes.names == ("sky", "road")
    assert classes.palette.tolist() == [[1, 1, 1], [3, 3, 3]]
    assert classes.table[[0, 1, 2, 255]].tolist() == [0, 255, 1, 255]
    assert classes.colors == {(1, 1, 1): 0, (2, 2, 2): 1, (3, 3, 3): 2}


def test_names_may_contain_numbers(path):
    path.write_text("lane 1\n7\nC#\nroad: wet\nB1 and B2\nroute 66, north")
    assert read_classes(path).names == ("lane 1", "7", "C#", "road: wet", "B1 and B2", "route 66, north")
    path.write_text("#000000 0 0 0\n7 9 9 9\nlane 1 #ffffff\nlane 2 1 2 3")
    classes = read_classes(path)
    assert classes.names == ("#000000", "7", "lane 1", "lane 2")
    assert classes.colors == {(0, 0, 0): 0, (9, 9, 9): 1, (255, 255, 255): 2, (1, 2, 3): 3}


def test_labelmes_ignore_has_no_value(path):
    """LabelMe writes __ignore__ as 255, and the _background_ in the second line as 0."""
    path.write_text("__ignore__\n_background_\ncat")
    classes = read_classes(path)
    assert classes.names == ("_background_", "cat")
    assert classes.table[[0, 1, 255]].tolist() == [0, 1, 255]
    assert not classes.known[2]
    path.write_text("__ignore__ 8 8 8\n_background_ 0 0 0\ncat 9 9 9")
    classes = read_classes(path)
    assert classes.palette.tolist() == [[0, 0, 0], [9, 9, 9]]
    assert [classes.table[classes.colors[(v,) * 3]] for v in (8, 0, 9)] == [255, 0, 1]


@pytest.mark.parametrize("name", ["void", "__ignore__"])
def test_void_needs_no_colour(path, name):
    path.write_text(f"{name}\nsky 1 1 1\nroad 2 2 2")
    classes = read_classes(path)
    assert classes.names == ("sky", "road")
    assert [classes.table[classes.colors[(v,) * 3]] for v in (1, 2)] == [0, 1]
    path.write_text(name)
    with pytest.raises(FileError, match="void"):
        read_classes(path)


@pytest.mark.parametrize(
    "line",
    [
        *("cat 1 2 300", "cat 1 2", "cat -1 2 3", "cat 0.5 0 1", "cat (1, 2, 3)", "1 2 3"),
        *("cat 1 2 1000", "cat #c81e1", "cat #c81e1e1e", "cat #red", "#c81e1e", "cat rgb(1, 2, 3)"),
        *("cat:1,2,300::", "cat:1,2::"),
    ],
)
def test_malformed_colours_are_rejected_with_their_line(path, line):
    path.write_text(f"sky 7 7 7\n\n{line}\nroad 8 8 8")
    with pytest.raises(FileError, match=r"classes\.txt: line 3 ") as caught:
        read_classes(path)
    assert repr(line) in str(caught.value)


def test_lines_of_cvat_with_parts_and_actions(path):
    path.write_text("# label:color_rgb:parts:actions\nperson:192,128,128:head,hand:jumping\nsky:0,0,9::")
    assert read_classes(path).names == ("person", "sky")
    assert read_classes(path).colors == {(192, 128, 128): 0, (0, 0, 9): 1}
    path.write_text("cat:::\nlittle dog::head:")
    assert read_classes(path).names == ("cat", "little dog")
    assert read_classes(path).colors is None


def test_void_that_is_listed_is_intended(path):
    for text, listed in (("a\nb", False), ("a\nvoid", True), ("a 0 0 0\nb 1 1 1\n__ignore__", True)):
        path.write_text(text)
        assert read_classes(path).void_listed is listed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n" * 1_100_000, "1,100,000 lines, expected at most 1,000,000"),
        (b"a" * 20_000_000, "larger than 16 MB"),
        (b"a\0b", "null characters"),
        (b"b\xf6den", "not text in UTF-8: byte 1 is wrong"),
        (b"\xff\xfea", "not text in UTF-8"),
    ],
    ids=["lines", "bytes", "null", "latin", "half"],
)
def test_lists_that_are_no_lists(tmp_path, data, message):
    path = tmp_path / "val.txt"
    path.write_bytes(data)
    for read in (read_classes, read_names):
        with pytest.raises(FileError, match=rf"val\.txt: .*{message}"):
            read(path)


def test_a_name_of_many_accents_takes_no_time(tmp_path):
    """Normalizing sorts the accents of a letter, in a time that grows with the square of their number."""
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(["a" + "\u0301\u0323" * 500_000, "b"]))
    started = time.monotonic()
    with pytest.raises(FileError, match="1000001 characters"):
        read_classes(path)
    assert time.monotonic() - started < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "classes.txt")
    for read in (read_classes, read_names):
        with pytest.raises(FileError, match=r"classes\.txt: is not a file"):
            read(tmp_path / "classes.txt")


def test_a_very_long_line_is_rejected_quickly(path):
    path.write_text("a" + " " * 1_000_000 + "b")
    with pytest.raises(FileError, match=r"line 1 .*1000002 characters.* 4096"):
        read_classes(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 classes, expected 1 to 255"),
        ("\n".join(map(str, range(256))), "lists 256 classes"),
        ("cat\ndog\ncat", "has the name cat twice"),
        ("cat 1 2 3\ndog 1 2 3", r"has the colour \(1, 2, 3\) twice"),
        ("cat 1 2 3\ndog", "gives colours to some classes but none to 'dog'"),
        ("void", "void"),
        ("x" * 101, "a class name of 101 characters"),
        ("a\0b", "is not text"),
    ],
)
def test_wrong_lists_are_rejected(path, text, message):
    path.write_text(text)
    with pytest.raises(FileError, match=rf"classes\.txt: .*{message}"):
        read_classes(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        '"cat"',
        "null",
        "[1]",
        "[[]]",
        "[null]",
        '{"a": 1}',
        '{"a": [1, 2]}',
        '{"a": [1, 2, 256]}',
        "[" * 100_000,
        '{"a": [1, 2, true]}',
        '{"a": [1, 2, 1.0]}',
        '[{"color": [1, 2, 3]}]',
        '{"a": [1, 2, ' + "9" * 5_000 + "]}",
    ],
)
def test_wrong_json_is_rejected(path, text):
    path = path.with_suffix(".json")
    path.write_text(text)
    with pytest.raises(FileError, match=r"classes\.json: ") as caught:
        read_classes(path)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_files_that_are_not_text_or_do_not_exist_are_rejected(path):
    with pytest.raises(FileError, match="does not exist"):
        read_classes(path)
    path.write_bytes(b"cat\n\xff\xfa")
    with pytest.raises(FileError, match="UTF-8: byte 4"):
        read_classes(path)


def test_names_are_read_without_folders_and_suffixes(path):
    path.write_text("a\nimages/b.jpg\nC:\\my pictures\\c d.PNG\n\n e.5 \n")
    assert read_names(path) == ["a", "b", "c d", "e.5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb.png\nx/b.jpg", "line 3 repeats 'b' of line 2"),
        ("a\n..", "line 2 "),
        ("a/", "line 1 "),
    ],
)
def test_wrong_names_are_rejected(path, text, message):
    path.write_text(text)
    with pytest.raises(FileError, match=message):
        read_names(path)


@pytest.mark.parametrize("count", [300, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_damaged_files_are_read_or_rejected(path, suffix, count):
    path = path.with_suffix(suffix)
    entries = {f"class {i}": [i, 255 - i, 7] for i in range(12)}
    lines = "\n".join(f"{name} {r} {g} {b}" for name, (r, g, b) in entries.items())
    good = json.dumps(entries) if suffix == ".json" else lines

    def read(data):
        path.write_bytes(data)
        classes = read_classes(path)
        assert 1 <= len(classes.names) == len(classes.palette) <= 255

    accepted, refused = survivors(read, mutations(good.encode(), count), FileError)
    assert accepted + refused == count
    assert min(accepted, refused) > 5
