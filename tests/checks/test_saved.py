import linecache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from minifcn import FileError
from minifcn.checks import check_exercise, saved_functions, whole_numbers
from minifcn.checks.saved import FOLDER, save_function
from minifcn.cli.lessons import copy_lessons

NOTEBOOK = """
import numpy as np
import minifcn as mf
from minifcn.layers import Layer, Parameter
from numpy.lib.stride_tricks import sliding_window_view

scale = 2
count = 7


def helper(x):
    return scale * np.asarray(x)


def my_double(x):
    count = mf.functional.relu(x)
    return helper(count) + sum(sliding_window_view(count, 1).ravel() * 0)


class MyScale(Layer):
    def __init__(self, a):
        self.a = Parameter(np.array(a))

    def forward(self, x):
        return self.a.data * x
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """The names of a notebook in a learner's folder, as IPython runs it."""
    monkeypatch.delenv("MINIFCN_STRICT", raising=False)
    lesson = tmp_path / "01_lesson.ipynb"
    lesson.write_text("{}")
    copy_lessons([lesson], tmp_path / "learner")
    monkeypatch.chdir(tmp_path / "learner")
    return run(NOTEBOOK)


def run(code, filename="<cell>"):
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    names = {"__name__": "__main__"}
    exec(compile(code, filename, "exec"), names)
    return names


def test_a_saved_function_brings_what_it_needs_and_nothing_else(notebook):
    path = save_function(notebook["my_double"])
    text = path.read_text(encoding="utf-8")
    assert "import minifcn as mf\nimport numpy as np\n" in text
    assert "scale = 2" in text
    assert "count = 7" not in text  # the function has a local variable of this name
    assert "Layer" not in text
    assert np.array_equal(saved_functions()["my_double"](np.array([1.0, -2.0])), [2.0, 0.0])


def test_a_class_is_saved(notebook):
    save_function(notebook["MyScale"])
    assert saved_functions()["MyScale"](3.0)(np.ones(2)).tolist() == [3.0, 3.0]


def test_nothing_is_saved_outside_a_learners_folder(notebook, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert save_function(notebook["my_double"]) is None
    assert list(Path().iterdir()) == []
    assert saved_functions() == {}


def test_a_function_without_source_is_not_saved(notebook):
    assert save_function(np.flip) is None
    assert save_function(lambda x: x) is None
    assert saved_functions() == {}


def test_no_version_is_overwritten_and_the_latest_is_loaded(notebook):
    first = save_function(notebook["my_double"])
    assert save_function(notebook["my_double"]) == first
    edited = first.read_text(encoding="utf-8").replace("scale = 2", "scale = 5")
    first.write_text(edited, encoding="utf-8")
    assert saved_functions()["my_double"](np.ones(1)) == 5
    for number in range(2, 12):  # 10 comes after 9, not after 1
        newer = NOTEBOOK.replace("scale = 2", f"scale = {number + 10}")
        assert save_function(run(newer)["my_double"]).name == f"my_double-{number}.py"
    assert saved_functions()["my_double"](np.ones(1)) == 21
    assert first.read_text(encoding="utf-8") == edited
    assert not [path for path in (Path(FOLDER)).iterdir() if path.name.startswith(".")]


def test_other_files_in_the_folder_do_not_matter(notebook):
    save_function(notebook["my_double"])
    for name in ("__init__.py", "my notes.py", "my_double-old.py", "notes.txt"):
        (Path(FOLDER) / name).write_text("", encoding="utf-8")
    assert list(saved_functions()) == ["my_double"]


def test_a_damaged_file_is_named(notebook):
    save_function(notebook["my_double"])
    (Path(FOLDER) / "my_double.py").write_text("def my_double(:", encoding="utf-8")
    with pytest.raises(FileError, match=r"my_double\.py cannot be used.*SyntaxError"):
        saved_functions()


def test_the_check_saves_what_is_right(notebook, capsys):
    cases = st.tuples(whole_numbers(2))
    check_exercise(notebook["my_double"], lambda x: x, cases)
    assert not (Path(FOLDER)).exists()
    check_exercise(notebook["my_double"], lambda x: 2 * np.maximum(x, 0), cases)
    assert capsys.readouterr().out.endswith(
        "ok    my_double: right in all cases tried.\n      Saved as my/my_double.py, for later lessons.\n"
    )


def test_a_folder_that_cannot_be_written_is_reported(notebook, capsys):
    (Path(FOLDER)).write_text("a file where the folder should be", encoding="utf-8")
    check_exercise(notebook["my_double"], lambda x: 2 * np.maximum(x, 0), st.tuples(whole_numbers(2)))
    said = capsys.readouterr().out
    assert said.startswith("ok    my_double")
    assert "could not be saved" in said


def test_a_file_that_is_no_text_is_kept_and_named(notebook):
    save_function(notebook["my_double"]).write_bytes(b"\xff\x00")
    with pytest.raises(FileError, match=r"my_double\.py cannot be used"):
        saved_functions()
    assert save_function(notebook["my_double"]).name == "my_double-2.py"
    assert (Path(FOLDER) / "my_double.py").read_bytes() == b"\xff\x00"
    assert list(saved_functions()) == ["my_double"]
