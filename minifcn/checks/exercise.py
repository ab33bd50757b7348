"""Exercises: compares a learner's function with the solution, and prints todo, ok or no."""

import dis
import inspect
import io
import os
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from types import CodeType
from typing import Any
from weakref import WeakSet

import numpy as np

from minifcn.backend import Array
from minifcn.checks.comparing import CheckFailedError, in_place, problem_with, short_value
from minifcn.checks.random_cases import draw, find_smallest, hypothesis, st
from minifcn.checks.saved import save_function

__all__ = ["check_exercise", "checked", "show_comparison", "whole_numbers"]

_passed: "WeakSet[Callable[..., Any]]" = WeakSet()  # functions whose check printed ok
_TOLERANCE = 1e-6  # of a number, relative to the largest one
_SAMPLE = 30  # cases by which similar mistakes are distinguished
_LINES = 12  # of what the learner's function prints


def whole_numbers(*shape: int) -> st.SearchStrategy[Array]:
    """Draw float64 arrays of integers from -9 to 9 without 0; only their seed is drawn.

    They are easy to read, and random, because zeros, ones or symmetric filters can hide a mistake.

    Example:
        >>> from hypothesis import find
        >>> find(whole_numbers(2, 3), lambda x: True)
        array([[-8., -6., -5.],
               [ 3.,  3.,  1.]])
    """

    def array(seed: int) -> Array:
        rng = np.random.default_rng(seed)
        values: Array = rng.integers(1, 10, shape) * rng.choice([-1.0, 1.0], shape)
        return values

    return st.integers(0, 2**32 - 1).map(array)


@dataclass(frozen=True)
class _Answer:
    """What the learner's function gives for a case, or the error that it raises, and the expected result."""

    case: Any
    got: Any
    error: str
    right: Any = None
    problem: str = ""
    printed: str = ""


def check_exercise(
    mine: Callable[..., Any],
    expected: Callable[..., Any] | None,
    cases: st.SearchStrategy[Any],
    *,
    mistakes: Sequence[Callable[..., Any]] = (),
    run: Callable[[Callable[..., Any], Any], Any] | None = None,
    example: Any = None,
    only: Collection[str] | None = None,
    examples: int = 100,
) -> None:
    """Print whether a learner's function is right: todo, ok or no.

    *todo*: it raises `NotImplementedError`, as blanks do. *ok*: it is right in every case that was tried, its
    numbers within 1e-6 of the largest one.
    *no*: it is wrong. Then the check prints the likely mistake, if it is a known one, and the smallest
    failing case with its numbers. In a notebook it also draws the result, the expected one and the
    difference, if they have rows and columns. What the function prints is shown for the smallest case only.

    In a folder that `minifcn lessons` made, a function that is right is saved in the folder `my`.

    With MINIFCN_STRICT=1 in the environment, todo and no are errors.

    Args:
        mine: The learner's function, or class.
        expected: The solution. `None` if `run` does the checking, by raising `CheckFailedError`.
        cases: Hypothesis strategy of the arguments: tuples (by position) or dicts (by name). With `run`,
            the cases may be anything else, for example those of `strategies.conv_geometries()`.
        mistakes: Known wrong implementations; the docstring of each is the sentence that names the mistake.
            It is printed if the learner's function gives the same results.
        run: `run(function, case)` calls any of the functions and returns the result to compare.
        example: The case that is drawn; by default, or if a wrong function is right there, the largest of
            the failing ones.
        only: Names of functions, attributes and modules that the learner's function may use, as a puzzle;
            loops are not allowed then.
        examples: Number of cases.

    Raises:
        CheckFailedError: In strict mode, with what is printed.
        ValueError: If one of `mistakes` has no docstring.

    Example:
        >>> cases = st.integers(1, 3).flatmap(lambda n: st.tuples(whole_numbers(n)))
        >>> check_exercise(lambda x: x[::-1], np.flip, cases)
        ok    <lambda>: right in all cases tried.
        >>> def unturned(x):
        ...     "The order is not reversed."
        ...     return x
        >>> def turn(x):
        ...     return x + 0
        >>> check_exercise(turn, np.flip, cases, mistakes=[unturned])
        no    turn is not right yet.
              Likely mistake: The order is not reversed.
              Smallest failing case: x (2,) = [8, -6].
              In this case the result is wrong: at [0] expected -6, yours 8 (largest difference).
    """
    for mistake in mistakes:
        if not mistake.__doc__:
            raise ValueError(f"{mistake.__name__} needs a docstring: the sentence that names the mistake")
    exercise = _Exercise(mine, expected, run or _call, mistakes)
    failing, sample = None, []
    with _temporary_hypothesis_folder():
        try:
            failure = find_smallest(cases, exercise.wrong_answer, examples)
            if failure is None:
                if words := "" if only is None else _against_the_rules(mine, only):
                    words = f"no    {exercise.name} is right, but this exercise does not allow {words}."
                else:
                    print(f"ok    {exercise.name}: right in all cases tried.{_saved(mine)}")
                    _passed.add(mine)
                    return
            else:
                failing, sample = failure.problem, [exercise.answer(case) for case in draw(cases, _SAMPLE)]
                words = exercise.explanation(failing, exercise.likely(failing, sample))
        except NotImplementedError:
            words = (
                f"todo  {exercise.name} is not written yet.\n"
                f'      Replace "raise NotImplementedError" by your code, run that cell, then this one.'
            )
    print(words)
    if failing is not None:
        wrong = [failing, *(one for one in sample if one.problem)]
        drawn = None if example is None else exercise.wrong_answer(example)
        shown = drawn or max(wrong, key=lambda one: _elements(one.right))
        case = "" if shown is failing else exercise.described(shown.case)
        show_comparison(shown.got, shown.right, case)
    elif example is not None:
        show_comparison(None, exercise.right(example))
    if os.environ.get("MINIFCN_STRICT") == "1":
        raise CheckFailedError(words)


@dataclass(frozen=True)
class _Exercise:
    """The learner's function, and what it is compared with."""

    mine: Callable[..., Any]
    expected: Callable[..., Any] | None
    call: Callable[..., Any]
    mistakes: Sequence[Callable[..., Any]]

    @property
    def name(self) -> str:
        return getattr(self.mine, "__name__", "your function")

    def right(self, case: Any) -> Any:
        return None if self.expected is None else self.call(self.expected, deepcopy(case))

    def answer(self, case: Any) -> _Answer:
        right, given = self.right(case), deepcopy(case)
        with redirect_stdout(io.StringIO()) as output:
            got, error = self.outcome(self.mine, given)
        problem = error
        if not error and self.expected and not (problem := problem_with(got, right, _TOLERANCE)):
            # The value is right, so no mistake may be named by it.
            problem = error = in_place("the function", self.arguments(case), self.arguments(given))
        return _Answer(case, got, error, right, problem, output.getvalue())

    def wrong_answer(self, case: Any) -> _Answer | None:
        return answer if (answer := self.answer(case)).problem else None

    def outcome(self, function: Callable[..., Any], case: Any) -> tuple[Any, str]:
        """Return the result of a function and "", or `None` and the description of its error."""
        try:
            return self.call(function, case), ""
        except NotImplementedError:
            raise
        except AssertionError as error:  # a check inside `run`
            return None, str(error) or "an assertion fails"
        except Exception as error:  # a learner's code may raise anything
            return None, f"{type(error).__name__}: {error}{_line(function, error)}"

    def likely(self, failing: _Answer, sample: list[_Answer]) -> str:
        """Return the sentence of the known mistake that gives the learner's results.

        It must do so in all failing cases, since it may in a small one by chance. Of several such mistakes,
        the one that agrees in most cases is taken.
        """
        wrong = [failing, *(answer for answer in sample if answer.problem)]
        candidates = [one for one in self.mistakes if all(self.agrees(one, answer) for answer in wrong)]
        if not candidates:
            return ""
        best = max(candidates, key=lambda one: sum(self.agrees(one, answer) for answer in sample))
        return " ".join((best.__doc__ or "").split())

    def agrees(self, mistake: Callable[..., Any], answer: _Answer) -> bool:
        """Return whether a known mistake gives the same result, or the same error but for its name."""
        try:
            value, error = self.outcome(mistake, deepcopy(answer.case))
        except NotImplementedError:
            return False
        if error or answer.error:
            theirs, mine = (text.partition(" (at ")[0] for text in (error, answer.error))
            return theirs.replace(mistake.__name__, "it") == mine.replace(self.name, "it")
        return answer.got is not None and not problem_with(answer.got, value, _TOLERANCE)

    def explanation(self, smallest: _Answer, likely: str) -> str:
        """Return what is printed if the function is wrong."""
        lines = [f"no    {self.name} is not right yet."]
        if likely:
            lines.append(f"Likely mistake: {likely}")
        lines.append(f"Smallest failing case: {self.described(smallest.case)}.")
        end = "" if smallest.problem.endswith((".", "?")) else "."
        lines += f"In this case {smallest.problem}{end}".splitlines()
        if printed := smallest.printed.splitlines():
            left_out = ["..."] * (len(printed) > _LINES)
            lines += ["It printed:", *(f"  {line}" for line in printed[:_LINES] + left_out)]
        return "\n      ".join(lines)

    def arguments(self, case: Any) -> dict[str, Any]:
        """Return the arguments of a case by name; empty if the case is something else."""
        if isinstance(case, Mapping):
            return dict(case)
        if not isinstance(case, tuple):
            return {}
        names = list(inspect.signature(self.mine).parameters)[: len(case)]
        names += [f"argument {position + 1}" for position in range(len(names), len(case))]
        return dict(zip(names, case, strict=True))

    def described(self, case: Any) -> str:
        """Return the names, shapes and numbers of a case."""
        arguments = self.arguments(case).items()
        return ", ".join(f"{name} {short_value(value)}" for name, value in arguments) or str(case)


def _saved(function: Callable[..., Any]) -> str:
    """Save a learner's function, and return the words that say where, or why not."""
    try:
        path = save_function(function)
    except OSError as error:
        return f"\n      It could not be saved: {error}"
    return f"\n      Saved as {path.as_posix()}, for later lessons." if path else ""


def _against_the_rules(function: Any, only: Collection[str]) -> str:
    """Return what a function uses although the exercise does not allow it, or an empty string."""
    codes = [function.__code__]
    for code in codes:  # the list grows by nested functions and comprehensions
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        operations = [instruction.opname for instruction in dis.get_instructions(code)]
        if any(name == "FOR_ITER" or "BACKWARD" in name for name in operations):
            return "loops"
    names = {name for code in codes for name in code.co_names} - set(only)
    return ", ".join(sorted(names))


def _elements(value: Any) -> int:
    """Return the number of elements of a result, which may be a sequence of arrays of different shapes."""
    return sum(map(_elements, value)) if isinstance(value, tuple | list) else np.size(value)


def checked(mine: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Return the learner's function if `check_exercise` printed ok for it, and another function otherwise.

    A lesson can so use what the learner wrote, and still runs with blanks.

    Args:
        mine: The learner's function, or class.
        otherwise: The function to use instead.

    Example:
        >>> def mean(x):
        ...     return x.sum() / len(x)
        >>> checked(mean, otherwise=np.mean) is np.mean
        True
        >>> check_exercise(mean, np.mean, st.tuples(whole_numbers(3)))
        ok    mean: right in all cases tried.
        >>> checked(mean, otherwise=np.mean) is mean
        True
    """
    return mine if mine in _passed else otherwise


def show_comparison(yours: Any, expected: Any, case: str = "") -> None:
    """In a notebook, draw two results and their difference, and print a sentence about the figure.

    Of more than two axes, the first plane is drawn. Nothing is drawn if the expected result has no rows and
    columns.

    Args:
        yours: The learner's result, or `None`.
        expected: The expected one.
        case: Description of the case that is drawn, if it is not clear from the text above.
    """
    from minifcn.viz import panels, show
    from minifcn.viz.showing import in_notebook

    right, mine = _plane(expected), _plane(yours)
    if right is None or not in_notebook():
        return
    if mine is not None and mine.shape == right.shape:
        figure = panels({"yours": mine, "expected": right, "difference": mine - right})
        one, other, difference = (axes.images[0] for axes in figure.axes)
        one.set_clim(other.get_clim())
        difference.set_data(np.ma.masked_invalid(np.abs(mine - right)))  # equal elements have the colour of 0
        difference.set_clim(0, float(np.nanmax(np.abs(mine - right), initial=0)) or 1)
        says = "From left to right: your result, the expected one, and their difference, which must be 0."
    elif mine is not None:
        figure = panels({"yours": mine, "expected": right})
        says = f"Your result has shape {mine.shape}, the expected one {right.shape}."
    else:
        figure, says = panels({"expected": right}), "The figure shows the expected result."
    show(figure, f"{says} The case drawn is {case}." if case else says)


def _plane(value: Any) -> Array | None:
    """Return the first plane (H, W) of a result, or `None` if it has none with more than one element."""
    if isinstance(value, tuple | list):
        return next((plane for plane in map(_plane, value) if plane is not None), None)
    if not isinstance(value, np.ndarray) or value.size < 2 or value.dtype.kind not in "biuf":
        return None
    rows, cols = np.atleast_2d(value).shape[-2:]
    plane: Array = value.astype(np.float64).reshape(-1, rows, cols)[0]
    return plane


@contextmanager
def _temporary_hypothesis_folder() -> Iterator[None]:
    """Keep Hypothesis from creating a folder beside the learner's notebook."""
    with tempfile.TemporaryDirectory() as folder:
        hypothesis.configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            hypothesis.configuration.set_hypothesis_home_dir(None)


def _call(function: Callable[..., Any], case: Any) -> Any:
    if isinstance(case, Mapping):
        return function(**case)
    if isinstance(case, tuple):
        return function(*case)
    raise TypeError(f"a case must be a tuple or a dict of arguments, got {case!r}; or give run=")


def _line(function: Callable[..., Any], error: Exception) -> str:
    """Return the line of the learner's code at which an error was raised, as a message shows it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename and frame.line:
            return f' (at "{frame.line}")'
    return ""
