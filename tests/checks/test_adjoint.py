"""The dot product that convicts a wrong adjoint."""

import numpy as np
import pytest

from minifcn import functional as F
from minifcn.checks import CheckFailedError, check_adjoint

W = np.random.default_rng(1).standard_normal((3, 2, 3, 2))


def forward(x):
    return F.conv2d(x, W, stride=2, padding=1)


def adjoint(g, w=W, **options):
    return F.conv2d_input_grad(g, w, **{"input_size": (7, 6), "stride": 2, "padding": 1} | options)


def test_an_adjoint_passes():
    check_adjoint(forward, adjoint, (2, 2, 7, 6))
    check_adjoint(adjoint, forward, (2, 3, 4, 4))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: adjoint(g, W[:, :, ::-1, ::-1]),
        lambda g: 1.01 * adjoint(g),
        lambda g: (1 + 1e-9) * adjoint(g),
        lambda g: np.roll(adjoint(g), 1, axis=2),
        lambda g: adjoint(g[:1]).repeat(2, axis=0),
        lambda g: np.zeros((2, 2, 7, 6)),
    ],
    ids=["flipped", "one percent", "ninth digit", "off by one", "batch", "zero"],
)
def test_what_is_not_the_adjoint_is_refused(wrong):
    with pytest.raises(
        CheckFailedError, match=r"not the adjoint: <forward\(x\), g> is .*, but <x, adjoint\(g\)> is"
    ):
        check_adjoint(forward, wrong, (2, 2, 7, 6))


def test_the_numbers_are_those_of_the_dot_products():
    rng = np.random.default_rng(9)
    x = rng.standard_normal((2, 2, 7, 6))
    g = rng.standard_normal((2, 3, 4, 4))
    there = f"<forward(x), g> is {np.vdot(forward(x), g):.6g}, "
    back = f"<x, adjoint(g)> is {np.vdot(x, -adjoint(g)):.6g}"
    with pytest.raises(CheckFailedError) as caught:
        check_adjoint(forward, lambda g: -adjoint(g), (2, 2, 7, 6), rng=9)
    assert there in str(caught.value)
    assert back in str(caught.value)


def test_a_wrong_shape_and_a_bias_are_named():
    with pytest.raises(CheckFailedError, match=r"shape of x \(2, 2, 7, 6\), got \(2, 2, 8, 6\)"):
        check_adjoint(forward, lambda g: adjoint(g, input_size=(8, 6)), (2, 2, 7, 6))
    with pytest.raises(
        CheckFailedError, match=r"forward is not linear: zeros give values up to 2; leave out the bias"
    ):
        check_adjoint(lambda x: forward(x) + 2, adjoint, (2, 2, 7, 6))
