"""Lesson 13 with the functions of lessons 2 to 9 in the folder `my`, as a learner has them."""

import contextlib
import io
import linecache
import re
import time

import pytest

from minifcn.checks import saved_functions
from minifcn.checks.saved import RECORDS, save_function
from tests.lessons.cells import SOURCES, code_cells, exercises

CAPSTONE = next(source for source in SOURCES if source.stem.startswith("13"))
NEEDED = re.findall(r'^    "(my_\w+)": ', CAPSTONE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def learners_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / RECORDS[0]).write_text("")
    for source in SOURCES[1:9]:
        for exercise in exercises(source):
            if exercise.function in NEEDED:
                save_function(run(exercise.imports, exercise.solved)[exercise.function])
    return tmp_path


def run(*cells):
    """Run cells as IPython does, so that the source of functions is known."""
    names = {"__name__": "__main__"}
    for number, code in enumerate(cells):
        filename = f"<cell {number} {hash(code)}>"
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        exec(compile(code, filename, "exec"), names)
    return names


def test_every_function_that_the_capstone_needs_is_saved_by_an_earlier_lesson(learners_folder):
    assert len(NEEDED) == 10
    assert set(saved_functions()) == set(NEEDED)


@pytest.mark.slow
def test_the_learners_own_loops_train_the_network_in_a_minute(learners_folder):
    printed, before = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(printed):
        run(*code_cells(CAPSTONE))
    said = printed.getvalue()
    assert time.process_time() - before < 60
    assert said.count("yours\n") == len(NEEDED)
    differences = re.findall(r"^   (?:scores|loss|dx|gradient \d) .*?(\d\S*)", said, re.MULTILINE)
    assert len(differences) == 9
    assert all(float(difference) < 1e-12 for difference in differences)
    losses = [float(loss) for loss in re.findall(r"^step +\d+: loss ([\d.]+)", said, re.MULTILINE)]
    assert losses[11] < 0.9 < losses[0]
