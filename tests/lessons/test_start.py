"""The start page: its table and links follow the sources, and it reads the progress from saved notebooks."""

import contextlib
import io
import json
import re

import nbformat
import pytest

from tests.lessons.cells import LESSONS, SOURCES, build, exercises, prose

PAGE = build.generate(build.START)
TEXT = "\n".join(cell.source for cell in PAGE.cells if cell.cell_type == "markdown")


def headings(source):
    return [heading.replace(" ", "-") for heading in re.findall(r"^## (.+)$", prose(source), re.MULTILINE)]


def test_every_lesson_is_in_the_table_with_what_its_header_says():
    rows = re.findall(
        r"^\| \[(\d+)\. .+?\]\((.+?)\) \| (.+\?.*?) \| (.+?) \| (.+?) \| (\d+) \|$", TEXT, re.MULTILINE
    )
    assert [file for _, file, *_ in rows] == [build.notebook_of(source).name for source in SOURCES]
    for source, (number, _, question, written, needs, minutes) in zip(SOURCES, rows, strict=True):
        assert question.split()[0] in prose(source)
        assert written.count(";") + 1 == len(exercises(source))
        assert needs == (", ".join(map(str, build.needs(source))) or "-")
        assert all(need < int(number) for need in build.needs(source))
        assert int(minutes) > 20


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NumPy", []),
        ("sizes (lesson 2), gradients (lesson 13)", [2, 13]),
        ("lessons 6 and 9, and softmax (lessons 2, 3, and 7)", [2, 3, 6, 7, 9]),
        ("everything in lessons 2 to 5 and 9", [2, 3, 4, 5, 9]),
    ],
)
def test_needs_are_read_from_words(text, found):
    assert build.numbers(text) == found


def test_the_readme_and_the_sources_agree_on_what_a_lesson_needs():
    readme = (LESSONS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| \[.+?\]\((\d+)_.+?\).*? \| ([^|]+) \| [\d.]+ \|$", readme, re.MULTILINE)
    said = {number: build.numbers(f"lessons {needs}") for number, needs in rows}
    assert said == {source.stem[:2]: build.needs(source) for source in SOURCES}


def test_words_link_to_where_they_are_introduced():
    words = re.findall(r"^\| (.+?) \| .+? \| \[\d+: .+?\]\((\d\d\w+)\.ipynb#(.+?)\) \|$", TEXT, re.MULTILINE)
    assert len(words) > 20
    for word, file, heading in words:
        (source,) = (source for source in SOURCES if source.stem == file)
        assert heading in headings(source)
        section = re.split(r"^## ", prose(source), flags=re.MULTILINE)[headings(source).index(heading) + 1]
        emphasised = " ".join(re.findall(r"\*(.+?)\*", section.replace("**", "*").replace("\n", " "))).lower()
        assert any(name in emphasised for name in word.lower().split(", ")), word


def test_the_self_test_spans_lessons():
    questions = TEXT.split("## Test yourself")[1]
    asked = re.findall(r"<summary>(\d+)\. [^<]+ \(([\d, \n]+)\)</summary>|<summary>(\d+)\. ", questions)
    assert [number or other for number, _, other in asked] == [str(k) for k in range(1, len(asked) + 1)]
    assert questions.count("<details>") == questions.count("</details>") == len(asked) >= 8


def progress(folder, monkeypatch):
    """Run the cell in a folder, and return what it prints."""
    monkeypatch.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(PAGE.cells[2].source, {})
    return said.getvalue()


def test_the_progress_is_that_of_the_saved_notebooks(tmp_path, monkeypatch):
    for source in SOURCES[1:]:
        notebook = nbformat.from_dict(build.generate(source))
        checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
        for cell, word in zip(
            checks, ("ok    f: right", "no    f is not right yet.\n  todo  f"), strict=False
        ):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"mine\n{word}\n")]
        nbformat.write(notebook, tmp_path / build.notebook_of(source).name)
    (tmp_path / build.notebook_of(SOURCES[2]).name).write_text(json.dumps(["no notebook"]))
    said = progress(tmp_path, monkeypatch)
    assert re.search(r"^ 1\. .* not found in this folder$", said, re.MULTILINE)
    assert re.search(r"^ 2\. .* ok, no, not run$", said, re.MULTILINE)
    assert re.search(r"^ 3\. .* not found in this folder$", said, re.MULTILINE)
    assert re.search(r"^11\. .* ok, no$", said, re.MULTILINE)


def test_the_start_page_is_up_to_date():
    assert build.problem(build.START) == ""
