"""Checks on many random cases, drawn by Hypothesis; if one fails, the smallest failing case is named."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minifcn.checks.comparing import CheckFailedError
from minifcn.checks.gradient import check_gradient
from minifcn.layers.base import Layer

try:
    import hypothesis
    import hypothesis.strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "these checks search for failing cases with Hypothesis: pip install hypothesis", name=error.name
    ) from error

__all__ = ["check_everywhere", "check_layer", "draw", "find_smallest", "hypothesis", "st"]

Case = TypeVar("Case")


def check_everywhere(
    check: Callable[[Case], None], cases: st.SearchStrategy[Case], *, examples: int = 200
) -> None:
    """Call `check` with many cases; if it fails for one, search for the smallest case for which it fails.

    The cases are the same in every run; nothing is stored on disk.

    Args:
        check: Function of a case that raises an exception if something is wrong.
        cases: Hypothesis strategy, for example `strategies.conv_geometries()`.
        examples: Number of cases.

    Raises:
        CheckFailedError: Says what is wrong in the smallest failing case, and names the case.
        NotImplementedError: If `check` raises it: there is nothing to check yet.

    Example:
        >>> from minifcn.checks.strategies import conv_geometries
        >>> def no_stride(case):
        ...     if case.stride != (1, 1):
        ...         raise CheckFailedError("this works for a stride of 1 only")
        >>> try:
        ...     check_everywhere(no_stride, conv_geometries())
        ... except CheckFailedError as failure:
        ...     print(failure)
        this works for a stride of 1 only
        smallest failing case: 1 image, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1x2, padding 0, \
dilation 1, groups 1
    """

    def problem_of(case: Case) -> Exception | None:
        try:
            check(case)
        except Exception as error:  # a layer under test may raise anything; it is reported in the end
            return error
        return None

    failure = find_smallest(cases, problem_of, examples)
    if failure is None:
        return
    error = failure.problem
    if isinstance(error, NotImplementedError):
        raise error
    what = str(error) if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {error}"
    found = "smallest failing case" if failure.deterministic else "this case fails in some runs, not in all"
    raise CheckFailedError(f"{what}\n{found}: {failure.case}") from error


def check_layer(
    make_layer: Callable[[Any], Layer], cases: st.SearchStrategy[Any], *, examples: int = 50
) -> None:
    """Check the gradients of your own layer on many cases.

    The layer is converted to float64, and its parameters are set to random values: zeros hide mistakes.

    Args:
        make_layer: Returns the layer for a case.
        cases: Their method `input()` returns a float64 array: for example `strategies.conv_geometries()` or
            `strategies.pool_geometries()`.
        examples: Number of cases.

    Raises:
        CheckFailedError: Says which gradient is wrong and names the smallest failing case.

    Example:
        >>> from minifcn.checks.strategies import pool_geometries
        >>> from minifcn.layers import MaxPool2d
        >>> check_layer(lambda case: MaxPool2d(**case.options), pool_geometries(), examples=5)
    """

    def check(case: Any) -> None:
        layer = make_layer(case).astype("float64")
        rng = np.random.default_rng(0)
        for parameter in layer.parameters():
            parameter.data = rng.standard_normal(parameter.data.shape)
        check_gradient(layer, case.input())

    check_everywhere(check, cases, examples=examples)


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

    phases = hypothesis.Phase.generate, hypothesis.Phase.shrink  # "explain" would run many more cases
    settings = hypothesis.settings(max_examples=examples, database=None, deadline=None, phases=phases)
    deterministic = True
    try:
        hypothesis.find(cases, fails, settings=settings, random=random.Random(0))
    except hypothesis.errors.NoSuchExample:
        return None
    except hypothesis.errors.Flaky:
        deterministic = False
    return Failure(*last, deterministic)  # Hypothesis tries the smallest case last


def draw(cases: st.SearchStrategy[Any], examples: int) -> list[Any]:
    """Return some cases, the simplest one among them; the same ones in each run."""
    drawn: list[Any] = []
    find_smallest(cases, drawn.append, examples)  # which finds nothing wrong with them
    return drawn
