"""Checks made loose on all cases of a strategy; when one fails, the smallest failing case is named."""

import random
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from minifcn import functional as reference
from minifcn.backend import Array
from minifcn.checks._hypothesis import hypothesis, st
from minifcn.checks.cases import ConvCase
from minifcn.checks.failure import CheckFailed, constant_ratio, number, worst_entry
from minifcn.checks.gradient import check_gradient
from minifcn.checks.strategies import conv_geometries
from minifcn.layers.base import Layer

__all__ = ["check_conv2d", "check_everywhere", "check_layer"]

Case = TypeVar("Case")


class HasInput(Protocol):
    """A case that can draw an input, as `ConvCase` and `PoolCase` do."""

    def input(self, rng: int = 0) -> Array:
        """Return a float64 array."""


CaseWithInput = TypeVar("CaseWithInput", bound=HasInput)


def check_everywhere(
    check: Callable[[Case], None], cases: st.SearchStrategy[Case], *, examples: int = 200
) -> None:
    """Call `check` with many cases; if it fails for one, look for the smallest case for which it fails.

    The cases are the same in every run, and none is remembered on disk.

    Args:
        check: Raises any exception where something is wrong.
        cases: Hypothesis strategy, for example `strategies.conv_geometries()`.
        examples: Number of cases.

    Raises:
        CheckFailed: Says what is wrong in the smallest failing case, and names it.
        NotImplementedError: As `check` raises it: there is nothing to check yet.

    Example:
        >>> from minifcn.checks.strategies import conv_geometries
        >>> def no_stride(case):
        ...     if case.stride != (1, 1):
        ...         raise CheckFailed("this works for a stride of 1 only")
        >>> try:
        ...     check_everywhere(no_stride, conv_geometries())
        ... except CheckFailed as failure:
        ...     print(failure)
        this works for a stride of 1 only
        smallest failing case: 1 image, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1x2, padding 0, \
dilation 1, groups 1
    """
    failure: list[tuple[Case, Exception]] = []

    def fails(case: Case) -> bool:
        try:
            check(case)
        except Exception as error:  # a layer under test may raise anything; it is told at the end
            failure[:] = [(case, error)]
            return True
        return False

    settings = hypothesis.settings(max_examples=examples, database=None, deadline=None)
    steady = True
    try:
        hypothesis.find(cases, fails, settings=settings, random=random.Random(0))
    except hypothesis.errors.NoSuchExample:
        return
    except hypothesis.errors.Flaky:
        steady = False
    case, error = failure[0]
    if isinstance(error, NotImplementedError):
        raise error
    what = str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"
    found = "smallest failing case" if steady else "on some runs, not on others, this case fails"
    raise CheckFailed(f"{what}\n{found}: {case}") from error


def check_conv2d(
    conv2d: Callable[..., Array] | None = None,
    conv2d_input_grad: Callable[..., Array] | None = None,
    conv2d_weight_grad: Callable[..., Array] | None = None,
    *,
    cases: st.SearchStrategy[ConvCase] | None = None,
    examples: int = 200,
) -> None:
    """Check a convolution of one's own, or its gradients, or all three.

    `conv2d` must give what the definition gives (the algorithm "loops"), and all three must obey the one law
    <conv2d(x, w), g> = <x, conv2d_input_grad(g, w)> = <w, conv2d_weight_grad(x, g)>. They take the arguments
    of their namesakes in `minifcn.functional`. Of `stride`, `padding`, `dilation` and `groups` only those
    are passed that differ from the default: a function without groups can be checked on cases without.

    Args:
        conv2d: `conv2d(x, w, **options)`.
        conv2d_input_grad: `conv2d_input_grad(dy, w, input_size=..., **options)`.
        conv2d_weight_grad: `conv2d_weight_grad(x, dy, kernel_size=..., **options)`.
        cases: Where to look; by default `strategies.conv_geometries(asymmetric=False)`.
        examples: Number of cases.

    Raises:
        CheckFailed: Says what is wrong and names the smallest failing case.

    Example:
        >>> from minifcn.functional import conv2d_input_grad
        >>> def without_flip(dy, w, **options):
        ...     return conv2d_input_grad(dy, w[:, :, ::-1, ::-1], **options)
        >>> try:
        ...     check_conv2d(conv2d_input_grad=without_flip)
        ... except CheckFailed as failure:
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
        product = float(np.vdot(y, g))
        if conv2d:
            _compare("conv2d", y, _call("conv2d", conv2d, x, w, **options))
        if conv2d_input_grad:
            name, sizes = "conv2d_input_grad", dict[str, Any](input_size=case.input_size)
            dx = _call(name, conv2d_input_grad, g, w, **sizes, **options)
            right = reference.conv2d_input_grad(g, w, **sizes, **loops)
            _compare(name, right, dx, (product, f"<x, {name}(g, w)>", x))
        if conv2d_weight_grad:
            name, sizes = "conv2d_weight_grad", dict[str, Any](kernel_size=case.kernel_size)
            dw = _call(name, conv2d_weight_grad, x, g, **sizes, **options)
            right = reference.conv2d_weight_grad(x, g, **sizes, **loops)
            _compare(name, right, dw, (product, f"<w, {name}(x, g)>", w))

    check_everywhere(check, conv_geometries(asymmetric=False) if cases is None else cases, examples=examples)


def check_layer(
    make_layer: Callable[[CaseWithInput], Layer],
    cases: st.SearchStrategy[CaseWithInput],
    *,
    examples: int = 50,
) -> None:
    """Check the gradients of a layer of one's own, on many cases.

    The layer is converted to float64, and its parameters are set to random numbers: zeros hide mistakes.

    Args:
        make_layer: Returns the layer for a case.
        cases: For example `strategies.conv_geometries()` or `strategies.pool_geometries()`.
        examples: Number of cases.

    Raises:
        CheckFailed: Says which gradient is wrong and names the smallest failing case.

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


def _call(name: str, function: Callable[..., Array], a: Array, b: Array, **options: Any) -> Array:
    """Call a function, and refuse one that changes what it is given."""
    kept = a.copy(), b.copy()
    result = function(a, b, **options)
    for old, new, position in zip(kept, (a, b), ("first", "second"), strict=True):
        if not np.array_equal(old, new):
            raise CheckFailed(f"{name} changes its {position} argument in place; work on a copy")
    return result


def _compare(name: str, right: Array, got: Array, law: tuple[float, str, Array] | None = None) -> None:
    """Refuse a result that is not the right one, and say what it does to the law."""
    if not isinstance(got, np.ndarray):
        raise CheckFailed(f"{name} must return an array, got {type(got).__name__}")
    if got.shape != right.shape:
        raise CheckFailed(f"{name} must return shape {right.shape}, got {got.shape}")
    if got.dtype != right.dtype:
        raise CheckFailed(f"{name} must return {right.dtype} for {right.dtype} arguments, got {got.dtype}")
    if np.allclose(got, right, rtol=0, atol=1e-10 * (1 + float(np.abs(right).max()))):
        return
    message = f"{name} is wrong{constant_ratio(right, got)}\n{worst_entry(right, got)}"
    if law:
        product, words, operand = law
        message += (
            f"\nso <conv2d(x, w), g> is {number(product)}, but {words} is "
            f"{number(float(np.vdot(operand, got)))}"
        )
    raise CheckFailed(message)
