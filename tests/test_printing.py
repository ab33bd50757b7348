"""Foreign text cannot control the terminal or forge a line, and lines can be written in every encoding."""

import io
import sys
import unicodedata

import pytest
from tqdm import tqdm

from minifcn.printing import brief, escape, say, show

HOSTILE = [
    *map(chr, [*range(32), *range(127, 160)]),  # C0, DEL, C1
    *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]),  # directions
    *map(chr, [0x2028, 0x2029, 0x85]),  # separators of lines
    *map(chr, [0xD800, 0xDC80, 0xDCFF, 0xFEFF, 0xE0041]),  # surrogates, invisible ones
]
LETTERS = ["böden", "道路", "дорога", "طريق", "सड़क", "道路 2", "🐈", "a\\b", "é"]


@pytest.mark.parametrize("character", HOSTILE, ids=lambda c: f"U+{ord(c):04X}")
def test_what_could_control_a_terminal_is_escaped(character):
    shown = escape(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown[:2] == "a\\"
    assert shown[-1] == "b"


@pytest.mark.parametrize("text", LETTERS)
def test_letters_of_all_scripts_stay(text):
    assert escape(text) == text


def test_every_character_is_shown_as_it_is_or_escaped():
    controls = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for character in map(chr, range(0x3000)):
        assert (escape(character) == character) or "\\" in escape(character)
        if unicodedata.category(character) in controls:
            assert escape(character).isascii()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize(("function", "stream"), [(say, "stderr"), (show, "stdout")])
def test_each_argument_is_one_line_in_every_encoding(monkeypatch, function, stream, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    function("böden 道路", "evil\nforged", *HOSTILE)
    getattr(sys, stream).flush()
    first, second, *others = raw.getvalue().decode(encoding).split("\n")[:-1]
    assert first == "böden 道路".encode(encoding, "backslashreplace").decode(encoding)
    assert second == "evil\\nforged"
    assert len(others) == len(HOSTILE)


def test_a_line_does_not_disturb_a_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=2, file=stream, leave=False) as bar:
        say("a line")
        bar.update()
    assert "\ra line\n" in stream.getvalue().replace(" " * 3, "").replace("\r ", "\r")


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**6, [1] * 10**5, -(10**30)], ids=["huge", "text", "list", "negative"]
)
def test_values_in_messages_are_short(value):
    assert len(brief(value)) <= 61


def test_values_of_up_to_60_characters_are_shown_whole():
    assert brief(int("1" * 60)) == "1" * 60
    assert brief(int("1" * 61)) == "1" * 60 + "…"
    assert brief(16**5000) == "1" + "0" * 59 + "…"  # too long for a decimal number
    assert brief([10**5000]) == "list"
