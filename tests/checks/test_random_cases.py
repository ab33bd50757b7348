"""The search for the smallest failing case, and what it says."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn import layers
from minifcn.checks import CheckFailedError, check_conv2d, check_everywhere, check_layer, strategies
from minifcn.geometry import sides
from minifcn.layers import Layer, Parameter

SMALLEST = "smallest failing case: "


def loud(check, *args, **kwargs):
    """Return the message that a check fails with."""
    with pytest.raises(CheckFailedError) as caught:
        check(*args, **kwargs)
    return str(caught.value)


def conv2d(x, w, stride=(1, 1), padding=(0, 0)):
    """A learner's convolution, without dilation and groups."""
    sh, sw = stride
    x = np.pad(x, ((0, 0), (0, 0), *sides(padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::sh, ::sw]
    return np.einsum("nchwab,ocab->nohw", windows, w)


SIMPLE = strategies.conv_geometries(max_groups=1, max_dilation=1)


def test_right_convolutions_pass():
    check_conv2d(conv2d, cases=SIMPLE)
    check_conv2d(F.conv2d, F.conv2d_input_grad, F.conv2d_weight_grad)


def case_of(message):
    return message.partition(SMALLEST)[2]


def test_the_smallest_case_shows_the_mistake():
    def flipped(x, w, **options):
        return conv2d(x, w[:, :, ::-1, ::-1], **options)

    message = loud(check_conv2d, flipped, cases=SIMPLE)
    assert message.startswith("conv2d is wrong\nat [0, 0, 0, 0] expected ")
    assert case_of(message) == (
        "1 image, 1 -> 1 channels, input 1x2, kernel 1x2, stride 1, padding 0, dilation 1, groups 1"
    )

    def swapped(x, w, stride=(1, 1), padding=(0, 0)):
        return conv2d(x, w, stride[::-1], padding)

    message = loud(check_conv2d, swapped, cases=SIMPLE)
    assert message.startswith("conv2d must have shape ")
    assert re.search(r"input (1x2|2x1), kernel 1x1, stride (1x2|2x1), padding 0", message)

    message = loud(check_conv2d, lambda x, w, **options: 1.01 * conv2d(x, w, **options), cases=SIMPLE)
    assert re.match(r"conv2d is wrong\nat \[0, 0, 0, 0\] expected .* \(relative error 0.01\)\n", message)
    assert "1 image, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1, padding 0" in message


def test_gradients_are_held_against_the_law():
    def padding_off_by_one(g, w, input_size, **options):
        dx = F.conv2d_input_grad(g, w, input_size=input_size, **options)
        return np.roll(dx, 1, axis=3)

    message = loud(check_conv2d, conv2d_input_grad=padding_off_by_one, cases=SIMPLE)
    assert message.startswith("conv2d_input_grad is wrong\nat [0, 0, 0, ")
    assert "\nso <conv2d(x, w), g> is " in message
    assert ", but <x, conv2d_input_grad(g, w)> is " in message
    assert "1 image, 1 -> 1 channels, input 1x2, kernel 1x1, stride 1, padding 0" in case_of(message)

    def stride_forgotten(x, g, kernel_size, stride=(1, 1), **options):
        h, w = (n + k - 1 for n, k in zip(g.shape[2:], kernel_size, strict=True))
        return F.conv2d_weight_grad(x[:, :, :h, :w], g, kernel_size=kernel_size, **options)

    no_padding = strategies.conv_geometries(max_groups=1, max_dilation=1, max_padding=0)
    message = loud(check_conv2d, conv2d_weight_grad=stride_forgotten, cases=no_padding)
    assert message.startswith("conv2d_weight_grad is wrong\nat [0, 0, 0, 0] expected ")
    assert ", but <w, conv2d_weight_grad(x, g)> is " in message
    assert "1 image, 1 -> 1 channels, input 1x3, kernel 1x1, stride 1x2" in case_of(message)

    def batch_sum_missing(x, g, **options):
        return F.conv2d_weight_grad(x[:1], g[:1], **options)

    message = loud(check_conv2d, conv2d_weight_grad=batch_sum_missing)
    assert case_of(message).startswith(
        "2 images, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1, padding 0"
    )


def test_manners_of_a_learners_function():
    def in_place(x, w, **options):
        y = F.conv2d(x, w, **options)
        w *= 2
        return y

    assert loud(check_conv2d, in_place).startswith(
        "conv2d changes its second argument in place; work on a copy\n"
    )
    to_list = loud(check_conv2d, lambda x, w, **options: F.conv2d(x, w, **options).tolist())
    assert to_list.startswith("conv2d must be an array, got list\n")
    single = loud(check_conv2d, lambda x, w, **options: F.conv2d(x, w, **options).astype(np.float32))
    assert single.startswith("conv2d must have dtype float64, got float32\n")
    crash = loud(check_conv2d, lambda x, w, **options: x[:, 7])
    assert crash.startswith("IndexError: index 7 is out of bounds for axis 1 with size 1\n" + SMALLEST)
    nothing = loud(check_conv2d, lambda x, w, **options: None)
    assert nothing.startswith("conv2d must be an array, got NoneType\n")


def test_todo_stays_todo():
    def todo(x, w, **options):
        raise NotImplementedError("your turn")

    with pytest.raises(NotImplementedError, match="your turn"):
        check_conv2d(todo)


class OwnConv(Layer):
    """A convolution layer as a learner writes it."""

    def __init__(self, case):
        self.options = case.options
        shape = case.out_channels, case.in_channels // case.groups, *case.kernel_size
        self.weight = Parameter(np.zeros(shape, np.float32))

    def forward(self, x):
        y = F.conv2d(x, self.weight.data, **self.options)
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        kernel_size = self.weight.data.shape[2:]
        self.weight.accumulate(F.conv2d_weight_grad(x, dy, kernel_size=kernel_size, **self.options))
        return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], **self.options)


class Flipped(OwnConv):
    def backward(self, dy):
        dx = super().backward(dy)
        w = self.weight.data[:, :, ::-1, ::-1]
        return F.conv2d_input_grad(dy, w, input_size=dx.shape[2:], **self.options)


def test_right_layers_pass():
    check_layer(OwnConv, strategies.conv_geometries())
    check_layer(lambda case: layers.MaxPool2d(**case.options), strategies.pool_geometries(), examples=20)


def test_a_wrong_layer_is_refused_in_its_smallest_case():
    message = loud(check_layer, Flipped, strategies.conv_geometries())
    assert message.startswith("Flipped(): the gradient to x is wrong\nat [0, 0, 0, ")
    assert case_of(message) == (
        "1 image, 1 -> 1 channels, input 1x2, kernel 1x2, stride 1, padding 0, dilation 1, groups 1"
    )


def test_any_strategy_and_any_exception():
    def check(n):
        if n >= 1000:
            raise AssertionError("too large")

    message = loud(check_everywhere, check, st.integers(0, 10**6))
    assert message == f"AssertionError: too large\n{SMALLEST}1000"
    check_everywhere(check, st.integers(0, 999))


def test_the_same_cases_every_time():
    def seen():
        cases = []
        check_everywhere(cases.append, strategies.conv_geometries(), examples=20)
        return cases

    first = seen()
    assert len(first) == 20
    assert seen() == first


def test_what_fails_now_and_then_is_called_so():
    calls = iter(range(10**6))

    def moody(case):
        if next(calls) == 3:
            raise CheckFailedError("not today")

    message = loud(check_everywhere, moody, strategies.conv_geometries())
    assert message.startswith("not today\nthis case fails in some runs, not in all: 1 image")


def test_nothing_is_printed(capsys):
    loud(check_layer, Flipped, strategies.conv_geometries())
    assert capsys.readouterr() == ("", "")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_hypothesis_is_loaded_only_where_it_is_used():
    loaded = "print('hypothesis' in sys.modules)"
    code = f"import sys, minifcn.checks as c; c.check_gradient; {loaded}; c.strategies; {loaded}"
    assert run(code).stdout.split() == ["False", "True"]


def test_without_hypothesis_one_sentence_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import minifcn.checks as c; c."
    for name in ("strategies", "check_layer", "check_conv2d", "check_everywhere"):
        last = run(code + name).stderr.strip().splitlines()[-1]
        assert last.endswith("with Hypothesis: pip install hypothesis"), last
    assert run(code + "no_such_check").stderr.strip().endswith("has no attribute 'no_such_check'")
