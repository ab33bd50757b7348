"""Rules that every lesson must follow, and comparison of the notebooks with their sources."""

import ast
import importlib
import itertools
import re
import sys

import nbformat
import pytest

import minifcn
from tests.lessons.cells import LESSONS, SOURCES, build, code_cells, exercises, prose

MOST_WORDS, MOST_BYTES = 1_500, 500_000
ROOMS = {"minifcn"} | {
    f"minifcn.{room}"
    for room in (
        "checks",
        "data",
        "functional",
        "geometry",
        "layers",
        "losses",
        "metrics",
        "models",
        "optim",
        "palette",
        "training",
        "viz",
        "weights",
    )
}
OTHERS = {"hypothesis", "matplotlib", "numpy"} | sys.stdlib_module_names

pytestmark = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def test_it_has_all_parts(source):
    number, text = int(source.stem[:2]), prose(source)
    assert re.search(rf"^# {number}\. \w", text, re.MULTILINE)
    assert re.search(r"^\*\*Question\.\*\* .*\?", text, re.MULTILINE | re.DOTALL)
    assert re.search(
        r"^\*\*Minutes:\*\* \d+ to read, \d+ to run, \d+ for the exercises\.$", text, re.MULTILINE
    )
    assert re.search(r"^\*\*You need\*\* ", text, re.MULTILINE)
    assert "Predict" in text
    for heading in ("## The picture", "## Break it", "## Recall"):
        assert text.count(f"\n{heading}\n") == 1
    count = len(exercises(source))
    assert count >= 1
    for k in range(1, count + 1):
        part = re.search(rf"^## Exercise {number}\.{k}: \w.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert part, f"no heading for exercise {number}.{k}"
        assert re.search(r"^\*\d+ minutes, (easy|medium|hard)\.\*", part[0], re.MULTILINE)
        assert "<details><summary>Hint" in part[0]
    recall = text.split("\n## Recall\n")[1]
    questions = re.findall(r"<details><summary>(\d)\. .+\?</summary>", recall)
    assert questions == list("12345")
    assert text.count("<details>") == text.count("</details>")


def test_minutes_of_the_exercises_add_up(source):
    text = prose(source)
    total = re.search(r"to run, (\d+) for the exercises", text)
    assert total
    assert int(total[1]) == sum(map(int, re.findall(r"^\*(\d+) minutes, ", text, re.MULTILINE)))


def test_it_is_short_and_plain(source):
    written = re.sub(r"^(\[Open in Colab|\*\*Next:).*$", "", prose(source), flags=re.MULTILINE)
    text = re.sub(r"\]\(.*?\)|</?\w+>|[*#$`]", " ", written)
    assert len(text.split()) <= MOST_WORDS
    assert max(map(ord, source.read_text(encoding="utf-8"))) < 0x2600, "no pictographs"


def test_a_learners_function_is_used_only_after_its_check_prints_ok(source):
    """Other cells than its own and its check use it as the first argument of `checked` only."""
    cells = code_cells(source, solved=True)
    for exercise in exercises(source):
        for code in cells:
            nodes = list(ast.walk(ast.parse(code)))
            used = sum(isinstance(node, ast.Name) and node.id == exercise.function for node in nodes)
            guarded = sum(
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "checked"
                and ast.unparse(node.args[0]) == exercise.function
                for node in nodes
            )
            assert code in (exercise.solved, exercise.check) or used == guarded
        assert exercise.function in exercise.check


def test_it_uses_public_names_only(source):
    for code in code_cells(source, solved=True):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                if modules[0].startswith("minifcn"):
                    assert modules[0] in ROOMS
                    public = importlib.import_module(modules[0])
                    names = getattr(public, "__all__", [n for n in vars(public) if n[0] != "_"])
                    assert {alias.name for alias in node.names} <= set(names)
            else:
                if isinstance(node, ast.Attribute):
                    assert not node.attr.startswith("_"), f"{node.attr} is private"
                continue
            assert all(m in ROOMS or m.split(".")[0] in OTHERS for m in modules), modules


def test_outputs_of_predicted_cells_are_hidden(source):
    cells = build.generate(source).cells
    predicted = [
        cell
        for before, cell in itertools.pairwise(cells)
        if cell.cell_type == "code" and before.cell_type == "markdown" and "Predict" in before.source
    ]
    assert predicted
    assert [cell for cell in cells if cell.metadata.get("jupyter") == {"outputs_hidden": True}] == predicted
    assert all("hide-output" in cell.metadata["tags"] for cell in predicted)


def test_the_code_of_imports_and_checks_is_hidden(source):
    cells = [cell for cell in build.generate(source).cells if cell.cell_type == "code"]
    hidden = [cell for cell in cells if cell.metadata.get("jupyter") == {"source_hidden": True}]
    assert (
        hidden == [*cells[:2], *(cell for cell in cells if "check_exercise(" in cell.source)][: len(hidden)]
    )
    assert len(hidden) == 2 + len(exercises(source))
    assert all(cell.metadata["cellView"] == "form" for cell in hidden)


def test_it_links_to_the_paper_and_the_documents_and_names_the_version(source):
    links = build.generate(source).cells[0].source.splitlines()[-1]
    assert re.search(r"\[The paper, section [\d.]+\]\(https://arxiv\.org/", links)
    for page in re.findall(r"blob/main/docs/(.+?)\)", links):
        assert (LESSONS.parent / "docs" / page).exists()
    assert links.endswith(f"Made with minifcn {minifcn.__version__}")


def test_it_links_to_the_next_lesson(source):
    links = re.findall(r"^\*\*Next:\*\* \[(\d+)\. .+\]\((.+)\)$", prose(source), re.MULTILINE)
    following = SOURCES[SOURCES.index(source) + 1 :][:1]
    assert links == [(str(int(other.stem[:2])), f"{other.stem}.ipynb") for other in following]


def test_the_notebook_is_up_to_date(source):
    assert build.problem(source) == ""


def test_the_notebook_is_small_and_has_no_trace_of_its_run(source):
    path = build.notebook_of(source)
    assert path.stat().st_size < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == [
        f"lesson-{source.stem[:2]}-{index:02d}" for index in range(len(notebook.cells))
    ]
    outputs = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert set(cell.metadata) <= {"tags", "jupyter", "cellView"}
            outputs += cell.outputs
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8"))


def test_each_exercise_is_todo_in_the_notebook(source):
    notebook = nbformat.read(build.notebook_of(source), as_version=4)
    said = [
        "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and "check_exercise(" in cell.source
    ]
    assert [words.split()[:2] for words in said] == [["todo", e.function] for e in exercises(source)]
