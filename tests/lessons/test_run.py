"""Runs all lessons from top to bottom, blank and solved, in a Jupyter kernel."""

import re

import nbformat
import pytest

from tests.lessons.cells import SOURCES, build, exercises

resource = pytest.importorskip("resource", reason="processor time is measured with POSIX functions")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem),
]

MOST_SECONDS = 120  # of two cores together: a minute


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Send requests to the network to a port without a server."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def run(source, *, solved):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    notebook = build.run(build.generate(source, solved=solved), strict=solved)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < MOST_SECONDS
    return notebook


def verdicts(notebook):
    said = "\n".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    return re.findall(r"^(todo|ok|no)  +(\w+)", said, re.MULTILINE)


@pytest.mark.filterwarnings("ignore:.*")  # from packages of Jupyter
def test_the_blank_notebook_runs_and_has_the_committed_outputs(source):
    notebook = run(source, solved=False)
    assert verdicts(notebook) == [("todo", exercise.function) for exercise in exercises(source)]
    committed = nbformat.read(build.notebook_of(source), as_version=4)
    assert build.words_shown(notebook) == build.words_shown(committed)


@pytest.mark.filterwarnings("ignore:.*")
def test_the_solved_notebook_passes_in_strict_mode(source):
    notebook = run(source, solved=True)
    assert verdicts(notebook) == [("ok", exercise.function) for exercise in exercises(source)]
