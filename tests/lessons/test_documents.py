"""Runs the examples of the guide for authors and of the page for teachers."""

import contextlib
import io
import re

from tests.lessons.cells import LESSONS, build, exercises

GUIDE = (LESSONS / "README.md").read_text(encoding="utf-8")
TEACHING = (LESSONS.parent / "docs" / "teaching.md").read_text(encoding="utf-8")


def test_the_template_is_a_lesson(tmp_path):
    template = tmp_path / "07_a_title.py"
    template.write_text(re.findall(r"```python\n(# %%.*?)```", GUIDE, re.DOTALL)[0], encoding="utf-8")
    (exercise,) = exercises(template)
    assert exercise.says(exercise.blank).startswith("todo  my_sum")
    assert exercise.says(exercise.solved).startswith("ok    my_sum")
    assert "Likely mistake: The columns are summed" in exercise.says(lambda x: x.sum(axis=0))
    kinds = [cell.cell_type for cell in build.generate(template).cells]
    assert kinds == [
        "markdown",
        "code",
        "code",
        *["markdown", "code"] * 3,
        "code",
        "markdown",
        "code",
        "markdown",
    ]


def test_the_teachers_example_prints_what_is_shown():
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", TEACHING, re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    assert said.getvalue() == printed


def test_the_guide_names_real_functions():
    from minifcn import viz

    table = GUIDE.split("| function | draws |")[1].split("\n\n")[0]
    names = re.findall(r"`(\w+)", table)
    assert {"panels", "convolution_film", "Film"} <= set(names)
    assert [name for name in names if name not in viz.__all__ and name not in ("panels", "film")] == []


def test_the_readme_lists_every_lesson_in_order():
    readme = (LESSONS.parent / "README.md").read_text(encoding="utf-8")
    notebooks = [build.notebook_of(source).name for source in build.sources()]
    assert re.findall(r"\]\(lessons/(\d\w+\.ipynb)\)", readme) == notebooks
