"""The search for the smallest failing case, with Hypothesis."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

try:
    import hypothesis
    import hypothesis.strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "these checks search for failing cases with Hypothesis: pip install hypothesis", name=error.name
    ) from error

__all__ = ["Failure", "draw", "find_smallest", "hypothesis", "st"]


class Failure(NamedTuple):
    """A failing case, what is wrong with it, and whether it fails each time that it is tried."""

    case: Any
    problem: Any
    deterministic: bool


def find_smallest(
    cases: st.SearchStrategy[Any], problem_of: Callable[[Any], Any], examples: int
) -> Failure | None:
    """Return the smallest case with a problem, or `None` if no case has one; the same one in each run.

    Args:
        cases: Hypothesis strategy.
        problem_of: Returns what is wrong with a case; anything that is false means nothing.
        examples: Number of cases to try before the failing one is made smaller.

    Example:
        >>> find_smallest(st.integers(0, 10**6), lambda n: n >= 1000 and "too large", 100)
        Failure(case=1000, problem='too large', deterministic=True)
    """
    last: tuple[Any, Any] = None, None

    def fails(case: Any) -> bool:
        nonlocal last
        if problem := problem_of(case):
            last = case, problem
        return bool(problem)

    deterministic = True
    try:
        _run(cases, fails, examples)
    except hypothesis.errors.NoSuchExample:
        return None
    except hypothesis.errors.Flaky:
        deterministic = False
    return Failure(*last, deterministic)  # Hypothesis tries the smallest case last


def draw(cases: st.SearchStrategy[Any], examples: int) -> list[Any]:
    """Return some cases, the simplest one among them; the same ones in each run."""
    drawn: list[Any] = []

    def keep(case: Any) -> bool:
        drawn.append(case)
        return False  # so that Hypothesis goes on

    with suppress(hypothesis.errors.NoSuchExample):
        _run(cases, keep, examples)
    return drawn


def _run(cases: st.SearchStrategy[Any], condition: Callable[[Any], bool], examples: int) -> None:
    phases = hypothesis.Phase.generate, hypothesis.Phase.shrink  # "explain" would run many more cases
    settings = hypothesis.settings(max_examples=examples, database=None, deadline=None, phases=phases)
    hypothesis.find(cases, condition, settings=settings, random=random.Random(0))
