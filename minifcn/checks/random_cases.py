"""Checks on many random cases; if one fails, the smallest failing case is named."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from minifcn import functional as reference
from minifcn.backend import Array
from minifcn.checks.cases import ConvCase
from minifcn.checks.comparing import CheckFailedError, array_problem, in_place, number
from minifcn.checks.gradient import check_gradient
from minifcn.checks.search import find_smallest, st
from minifcn.checks.strategies import conv_geometries
from minifcn.layers.base import Layer

__all__ = ["check_conv2d", "check_everywhere", "check_layer"]

Case = TypeVar("Case")


class HasInput(Protocol):
    """A case with a random input, such as `ConvCase` and `PoolCase`."""

    def input(self, rng: int = 0) -> Array:
        """Return a float64 array."""


CaseWithInput = TypeVar("CaseWithInput", bound=HasInput)


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


def check_conv2d(
    conv2d: Callable[..., Array] | None = None,
    conv2d_input_grad: Callable[..., Array] | None = None,
    conv2d_weight_grad: Callable[..., Array] | None = None,
    *,
    cases: st.SearchStrategy[ConvCase] | None = None,
    examples: int = 200,
) -> None:
    """Check your own convolution, its gradients, or all three.

    Each result is compared with that of the algorithm "loops", the definition of the convolution. The message
    about a wrong gradient also shows how it breaks the law
    <conv2d(x, w), g> = <x, conv2d_input_grad(g, w)> = <w, conv2d_weight_grad(x, g)>. The functions take the
    arguments of the functions of the same names in `minifcn.functional`. Of `stride`, `padding`, `dilation`
    and `groups`, only those that differ from the default are passed, so a function without groups can be
    checked on cases without groups.

    Args:
        conv2d: `conv2d(x, w, **options)`.
        conv2d_input_grad: `conv2d_input_grad(dy, w, input_size=..., **options)`.
        conv2d_weight_grad: `conv2d_weight_grad(x, dy, kernel_size=..., **options)`.
        cases: Hypothesis strategy of `ConvCase`; by default `strategies.conv_geometries(asymmetric=False)`.
        examples: Number of cases.

    Raises:
        CheckFailedError: Says what is wrong and names the smallest failing case.

    Example:
        >>> from minifcn.functional import conv2d_input_grad
        >>> def without_flip(dy, w, **options):
        ...     return conv2d_input_grad(dy, w[:, :, ::-1, ::-1], **options)
        >>> try:
        ...     check_conv2d(conv2d_input_grad=without_flip)
        ... except CheckFailedError as failure:
        ...     print(failure)
        conv2d_input_grad is wrong
        at [0, 0, 0, 0] expected -0.343055, got -0.0561918 (relative error 0.84)
        so <conv2d(x, w), g> is -0.0357091, but <x, conv2d_input_grad(g, w)> is 0.0382542
        smallest failing case: 1 image, 1 -> 1 channels, input 1x2, kernel 1x2, stride 1, padding 0, \
dilation 1, groups 1
    """
    defaults = ConvCase().options

    def check(case: ConvCase) -> None:
        x, w, g = case.operands()
        options = {name: value for name, value in case.options.items() if value != defaults[name]}
        loops = case.options | {"algorithm": "loops"}
        y = reference.conv2d(x, w, **loops)

        def compare(name: str, mine: Callable[..., Array], a: Array, b: Array, **size: Any) -> None:
            given = {"its first argument": a.copy(), "its second argument": b.copy()}
            got = mine(*given.values(), **size, **options)
            if problem := in_place(name, dict(zip(given, (a, b), strict=True)), given):
                raise CheckFailedError(problem)
            right = getattr(reference, name)(a, b, **size, **loops)
            if problem := array_problem(got, right, 1e-10):
                law = ""
                if "is wrong" in problem and name != "conv2d":
                    pair, operand = ("<x, {}(g, w)>", x) if b is w else ("<w, {}(x, g)>", w)
                    product = [number(float(np.vdot(*two))) for two in ((y, g), (operand, got))]
                    law = f"\nso <conv2d(x, w), g> is {product[0]}, but {pair.format(name)} is {product[1]}"
                raise CheckFailedError(f"{name} {problem}{law}")

        if conv2d:
            compare("conv2d", conv2d, x, w)
        if conv2d_input_grad:
            compare("conv2d_input_grad", conv2d_input_grad, g, w, input_size=case.input_size)
        if conv2d_weight_grad:
            compare("conv2d_weight_grad", conv2d_weight_grad, x, g, kernel_size=case.kernel_size)

    check_everywhere(check, conv_geometries(asymmetric=False) if cases is None else cases, examples=examples)


def check_layer(
    make_layer: Callable[[CaseWithInput], Layer],
    cases: st.SearchStrategy[CaseWithInput],
    *,
    examples: int = 50,
) -> None:
    """Check the gradients of your own layer on many cases.

    The layer is converted to float64, and its parameters are set to random values: zeros hide mistakes.

    Args:
        make_layer: Returns the layer for a case.
        cases: For example `strategies.conv_geometries()` or `strategies.pool_geometries()`.
        examples: Number of cases.

    Raises:
        CheckFailedError: Says which gradient is wrong and names the smallest failing case.

    Example:
        >>> from minifcn.checks.strategies import pool_geometries
        >>> from minifcn.layers import MaxPool2d
        >>> check_layer(lambda case: MaxPool2d(**case.options), pool_geometries(), examples=5)
    """

    def check(case: CaseWithInput) -> None:
        layer = make_layer(case).astype("float64")
        rng = np.random.default_rng(0)
        for parameter in layer.parameters():
            parameter.data = rng.standard_normal(parameter.data.shape)
        check_gradient(layer, case.input())

    check_everywhere(check, cases, examples=examples)
