"""The search for the smallest failing case, and what it says."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn import layers
from minifcn.checks import CheckFailedError, check_everywhere, check_layer, strategies
from minifcn.layers import Layer, Parameter

SMALLEST = "smallest failing case: "


def loud(check, *args, **kwargs):
    """Return the message that a check fails with."""
    with pytest.raises(CheckFailedError) as caught:
        check(*args, **kwargs)
    return str(caught.value)


def case_of(message):
    return message.partition(SMALLEST)[2]


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


class PaddingOffByOne(OwnConv):
    def backward(self, dy):
        return np.roll(super().backward(dy), 1, axis=3)


class StrideForgotten(OwnConv):
    def backward(self, dy):
        (x,) = self.recall(dy)
        options = self.options | {"stride": (1, 1), "padding": (0, 0)}
        kernel = self.weight.data.shape[2:]
        dilated = (d * (k - 1) for d, k in zip(options["dilation"], kernel, strict=True))
        h, w = (n + extra for n, extra in zip(dy.shape[2:], dilated, strict=True))
        self.weight.accumulate(F.conv2d_weight_grad(x[:, :, :h, :w], dy, kernel_size=kernel, **options))
        return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], **self.options)


class BatchSumMissing(OwnConv):
    def backward(self, dy):
        (x,) = self.recall(dy)
        kernel_size = self.weight.data.shape[2:]
        self.weight.accumulate(F.conv2d_weight_grad(x[:1], dy[:1], kernel_size=kernel_size, **self.options))
        return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], **self.options)


class OnePercentTooLarge(OwnConv):
    def backward(self, dy):
        return 1.01 * super().backward(dy)


def test_right_layers_pass():
    check_layer(OwnConv, strategies.conv_geometries())
    check_layer(lambda case: layers.MaxPool2d(**case.options), strategies.pool_geometries(), examples=20)


@pytest.mark.parametrize(
    ("wrong", "gradient", "smallest"),
    [
        (Flipped, "x", "1 image, 1 -> 1 channels, input 1x2, kernel 1x2, stride 1, padding 0"),
        (PaddingOffByOne, "x", "1 image, 1 -> 1 channels, input 1x2, kernel 1x1, stride 1, padding 0"),
        (StrideForgotten, "weight", "1 image, 1 -> 1 channels, input 1x3, kernel 1x1, stride 1x2, padding 0"),
        (BatchSumMissing, "weight", "2 images, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1, padding 0"),
        (OnePercentTooLarge, "x", "1 image, 1 -> 1 channels, input 1x1, kernel 1x1, stride 1, padding 0"),
    ],
)
def test_a_wrong_layer_is_refused_in_its_smallest_case(wrong, gradient, smallest):
    cases = strategies.conv_geometries(**({"max_padding": 0} if wrong is StrideForgotten else {}))
    message = loud(check_layer, wrong, cases)
    assert message.startswith(f"{wrong.__name__}(): the gradient to {gradient} is wrong")
    assert case_of(message) == f"{smallest}, dilation 1, groups 1"


def test_a_layer_that_raises_and_one_that_is_not_written_yet():
    class Crashing(OwnConv):
        def forward(self, x):
            return x[:, 7]

    class Todo(OwnConv):
        def forward(self, x):
            raise NotImplementedError("your turn")

    crash = loud(check_layer, Crashing, strategies.conv_geometries())
    assert crash.startswith("IndexError: index 7 is out of bounds for axis 1 with size 1\n" + SMALLEST)
    with pytest.raises(NotImplementedError, match="your turn"):
        check_layer(Todo, strategies.conv_geometries())


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
    for name in ("strategies", "check_layer", "check_everywhere"):
        last = run(code + name).stderr.strip().splitlines()[-1]
        assert last.endswith("with Hypothesis: pip install hypothesis"), last
    assert run(code + "no_such_check").stderr.strip().endswith("has no attribute 'no_such_check'")
