"""Exercises: what a learner wrote, held against what is right; the answer is todo, ok or no, in words."""

import inspect
import os
import random
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from minifcn.backend import Array
from minifcn.checks._hypothesis import hypothesis, st
from minifcn.checks.comparing import problem_with, short_value
from minifcn.checks.comparison_picture import show_comparison
from minifcn.checks.failure import CheckFailed

__all__ = ["check_exercise", "whole_numbers"]

_SAMPLE = 30  # cases by which one likely mistake is told from another


def whole_numbers(*shape: int) -> st.SearchStrategy[Array]:
    """Draw float64 arrays of whole numbers from -9 to 9 without 0; only their seed is drawn.

    They are easy to read, and no accident: with zeros, ones or symmetric filters a mistake can hide.

    Example:
        >>> from hypothesis import find
        >>> find(whole_numbers(2, 3), lambda x: True)
        array([[-8., -6., -5.],
               [ 3.,  3.,  1.]])
    """

    def array(seed: int) -> Array:
        rng = np.random.default_rng(seed)
        numbers: Array = rng.integers(1, 10, shape) * rng.choice([-1.0, 1.0], shape)
        return numbers

    return st.integers(0, 2**32 - 1).map(array)


@dataclass(frozen=True)
class _Outcome:
    """What a function gave for a case: a value, or the words about what it did: raised, or changed."""

    value: Any = None
    error: str = ""


@dataclass(frozen=True)
class _Answer:
    """What a learner's function gave for a case, what is right, and what is wrong, in words, if it is."""

    case: Any
    got: _Outcome
    right: Any
    problem: str


def check_exercise(
    mine: Callable[..., Any],
    expected: Callable[..., Any] | None,
    cases: st.SearchStrategy[Any],
    *,
    mistakes: Sequence[Callable[..., Any]] = (),
    run: Callable[[Callable[..., Any], Any], Any] | None = None,
    example: Any = None,
    tolerance: float = 1e-6,
    examples: int = 100,
) -> None:
    """Say in words whether a learner's function is right: todo, ok or no.

    *todo*: it raises `NotImplementedError`, as blanks do. *ok*: it is right in every case that was tried.
    *no*: it is not; then the likely mistake is named if it is a known one, the smallest failing case is told
    in numbers, and where results have rows and columns there is a picture: yours, expected, difference.

    With MINIFCN_STRICT=1 in the environment, todo and no are errors.

    Args:
        mine: The learner's function, or class.
        expected: The right one. `None` if `run` does the checking, by raising `CheckFailed`.
        cases: Hypothesis strategy of the arguments: tuples (by position) or dicts (by name). Of anything
            else, such as the cases of `strategies.conv_geometries()`, if there is a `run`.
        mistakes: Known wrong implementations; the docstring of each is the sentence that names the mistake.
            Where the learner's answers are those of one of them, the sentence is printed.
        run: `run(function, case)` calls the function, mine or any other, and returns what is compared.
        example: The case that is drawn; by default the largest of the failing ones.
        tolerance: How far a number may be off, relative to the largest one.
        examples: Number of cases.

    Raises:
        CheckFailed: In strict mode, with what is printed.
        ValueError: If a mistake has no docstring.

    Example:
        >>> cases = st.integers(1, 3).flatmap(lambda n: st.tuples(whole_numbers(n)))
        >>> check_exercise(lambda x: x[::-1], np.flip, cases)
        ok    <lambda>: right in all cases that were tried.
        >>> def unturned(x):
        ...     "The numbers come out in the old order."
        ...     return x
        >>> def turn(x):
        ...     return x + 0
        >>> check_exercise(turn, np.flip, cases, mistakes=[unturned])
        no    turn is not right yet.
              Likely mistake: The numbers come out in the old order.
              Smallest failing case: x (2,) = [8, -6].
              There the result is wrong: at [0] expected -6, yours 8 (largest difference).
    """
    for mistake in mistakes:
        if not mistake.__doc__:
            raise ValueError(f"{mistake.__name__} needs a docstring: the sentence that names the mistake")
    call = run or _call

    def answer(case: Any) -> _Answer:
        right = None if expected is None else call(expected, deepcopy(case))
        given = deepcopy(case)
        got = _outcome(mine, call, given)
        problem = got.error
        if not problem and expected is not None:
            problem = problem_with(got.value, right, tolerance)
            if not problem:  # the value is right, so no mistake may be named by it
                got = _Outcome(got.value, _changed(case, given))
        return _Answer(case, got, right, problem or got.error)

    name = getattr(mine, "__name__", "your function")
    with _nothing_left_behind():
        drawn = _drawn(cases, examples)
        try:
            failing = next((one for one in map(answer, drawn) if one.problem), None)
            if failing is None:
                print(f"ok    {name}: right in all cases that were tried.")
                return
            failing = _smallest(cases, answer, examples) or failing
            sample = [answer(case) for case in drawn[:_SAMPLE]]
        except NotImplementedError:
            failing, sample = None, []
    if failing is None:
        words = (
            f"todo  {name} is not written yet.\n"
            f'      Replace "raise NotImplementedError" by your code, run that cell, then this one.'
        )
        shown = None
    else:
        words = _explanation(mine, name, failing, _likely(name, failing, sample, mistakes, call, tolerance))
        shown = max([failing, *(one for one in sample if one.problem)], key=_numbers_in)
    print(words)
    if example is not None:
        right = None if expected is None else call(expected, deepcopy(example))
        yours = None if failing is None else _outcome(mine, call, deepcopy(example)).value
        show_comparison(yours, right, "" if failing is None else _described(example, mine))
    elif shown is not None:
        show_comparison(
            shown.got.value, shown.right, "" if shown is failing else _described(shown.case, mine)
        )
    if os.environ.get("MINIFCN_STRICT") == "1":
        raise CheckFailed(words)


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Keep Hypothesis from making a folder beside the learner's notebook."""
    with tempfile.TemporaryDirectory() as folder:
        hypothesis.configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            hypothesis.configuration.set_hypothesis_home_dir(None)


def _find(
    cases: st.SearchStrategy[Any], predicate: Callable[[Any], bool], examples: int, *phases: Any
) -> Any:
    """Return the smallest case with a property; the same one each time."""
    settings = hypothesis.settings(max_examples=examples, database=None, deadline=None, phases=phases)
    return hypothesis.find(cases, predicate, settings=settings, random=random.Random(0))


def _drawn(cases: st.SearchStrategy[Any], examples: int) -> list[Any]:
    """Return so many cases, the simplest one among them."""
    drawn: list[Any] = []

    def keep(case: Any) -> bool:
        drawn.append(deepcopy(case))
        return False

    with suppress(hypothesis.errors.NoSuchExample):
        _find(cases, keep, examples, hypothesis.Phase.generate)
    return drawn


def _smallest(
    cases: st.SearchStrategy[Any], answer: Callable[[Any], _Answer], examples: int
) -> _Answer | None:
    """Return the wrong answer to the smallest case, or `None` if the function answers now so, now so."""
    phases = hypothesis.Phase.generate, hypothesis.Phase.shrink
    try:
        smallest = answer(_find(cases, lambda case: bool(answer(case).problem), examples, *phases))
    except (hypothesis.errors.Flaky, hypothesis.errors.NoSuchExample):
        return None
    return smallest if smallest.problem else None


def _call(function: Callable[..., Any], case: Any) -> Any:
    if isinstance(case, Mapping):
        return function(**case)
    if isinstance(case, tuple):
        return function(*case)
    raise TypeError(f"a case must be a tuple or a dict of arguments, got {case!r}; or give run=")


def _outcome(function: Callable[..., Any], call: Callable[..., Any], case: Any) -> _Outcome:
    """Return what a function gives, or what is to be said about its error."""
    try:
        return _Outcome(call(function, case))
    except NotImplementedError:
        raise
    except AssertionError as error:  # a check inside `run`
        return _Outcome(error=str(error) or "an assertion fails")
    except Exception as error:  # a learner's code may raise anything, and is told so in words
        return _Outcome(error=f"{type(error).__name__}: {error}{_line(function, error)}")


def _line(function: Callable[..., Any], error: Exception) -> str:
    """Return the words about the line of the learner's code at which an error came up."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename and frame.line:
            return f' (at "{frame.line}")'
    return ""


def _changed(case: Any, given: Any) -> str:
    """Return the sentence about an argument that was changed, or nothing."""
    before = case.values() if isinstance(case, Mapping) else case
    after = given.values() if isinstance(given, Mapping) else given
    if not isinstance(case, Mapping | tuple):
        return ""
    for position, (old, new) in enumerate(zip(before, after, strict=True)):
        if isinstance(old, np.ndarray) and not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
            name = list(case)[position] if isinstance(case, Mapping) else f"number {position + 1}"
            return f"the function changes its argument {name} in place; work on a copy"
    return ""


def _likely(
    name: str,
    failing: _Answer,
    sample: list[_Answer],
    mistakes: Sequence[Callable[..., Any]],
    call: Callable[..., Any],
    tolerance: float,
) -> str:
    """Return the sentence of the known mistake that gives the learner's answers.

    It must do so in all failing cases, for in a small one it may by chance; of several, the one that does so
    most often is taken.
    """

    def words(outcome: _Outcome, name: str) -> str:
        return outcome.error.partition(" (at ")[0].replace(name, "it")  # layers are called by their names

    def agrees(mistake: Callable[..., Any], answer: _Answer) -> bool:
        try:
            other = _outcome(mistake, call, deepcopy(answer.case))
        except NotImplementedError:
            return False
        if other.error or answer.got.error:
            return words(other, mistake.__name__) == words(answer.got, name)
        return answer.got.value is not None and not problem_with(answer.got.value, other.value, tolerance)

    wrong = [failing, *(answer for answer in sample if answer.problem)]
    candidates = [mistake for mistake in mistakes if all(agrees(mistake, answer) for answer in wrong)]
    if not candidates:
        return ""
    best = max(candidates, key=lambda mistake: sum(agrees(mistake, answer) for answer in sample))
    return " ".join((best.__doc__ or "").split())


def _explanation(mine: Callable[..., Any], name: str, smallest: _Answer, likely: str) -> str:
    """Return all that is said when the answer is no."""
    lines = [f"no    {name} is not right yet."]
    if likely:
        lines.append(f"Likely mistake: {likely}")
    lines.append(f"Smallest failing case: {_described(smallest.case, mine)}.")
    end = "" if smallest.problem.endswith((".", "?")) else "."
    lines += f"There {smallest.problem}{end}".splitlines()
    return "\n      ".join(lines)


def _numbers_in(answer: _Answer) -> int:
    return answer.right.size if isinstance(answer.right, np.ndarray) else 0


def _described(case: Any, function: Callable[..., Any]) -> str:
    """Return a case in words: names, shapes and numbers."""
    if isinstance(case, Mapping):
        named = dict(case)
    elif isinstance(case, tuple):
        named = {_argument_name(function, i): value for i, value in enumerate(case)}
    else:
        return str(case)
    return ", ".join(f"{name} {short_value(value)}" for name, value in named.items())


def _argument_name(function: Callable[..., Any], position: int) -> str:
    names = list(inspect.signature(function).parameters)
    return names[position] if position < len(names) else f"argument {position + 1}"
