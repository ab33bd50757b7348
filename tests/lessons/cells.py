"""Cells and exercises of the lessons, for the tests."""

import ast
import contextlib
import functools
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupytext", reason="the lessons are made with jupytext")

LESSONS = Path(__file__).parents[2] / "lessons"
sys.path.insert(0, str(LESSONS))
import build  # noqa: E402

SOURCES = build.sources()


@dataclass(frozen=True)
class Exercise:
    """One exercise: the function that a learner writes, and the code around it.

    Attributes:
        function: Name of the function or class.
        imports: Code of the lesson's first cell.
        blank: Code of the exercise's cell for learners.
        solved: Code of the same cell with the solution.
        check: Code of its check.
    """

    function: str
    imports: str
    blank: str
    solved: str
    check: str

    def says(self, answer: str | Callable[..., Any]) -> str:
        """Return the output of the check for an answer: code of the cell, or a function.

        Of the other cells only the imports are run, because a check may not use anything else.
        """
        names: dict[str, Any] = {"__name__": "lesson"}
        exec(self.imports, names)
        if isinstance(answer, str):
            exec(answer, names)
        else:
            names[self.function] = answer
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(self.check, names)
        return printed.getvalue()


def code_cells(source: Path, *, solved: bool = False) -> list[str]:
    """Return the code of a lesson's cells, without the cell that installs minifcn on Colab."""
    cells = build.generate(source, solved=solved).cells
    return [cell.source for cell in cells if cell.cell_type == "code"][1:]


@functools.cache
def prose(source: Path) -> str:
    """Return the text of a lesson's Markdown cells."""
    return "\n".join(cell.source for cell in build.generate(source).cells if cell.cell_type == "markdown")


def exercises(source: Path) -> list[Exercise]:
    """Return the exercises of a lesson, in order."""
    blank, solved = code_cells(source), code_cells(source, solved=True)
    found = []
    for index, code in enumerate(solved):
        if "### BEGIN SOLUTION" not in code:
            continue
        (function,) = (
            node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        )
        assert "check_exercise(" in blank[index + 1], f"no check follows {function}"
        found.append(Exercise(function, solved[0], blank[index], code, blank[index + 1]))
    return found
