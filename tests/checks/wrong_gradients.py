"""Layers with one wrong gradient each, and the words that must be in the message."""

import numpy as np

from minifcn import functional as F
from minifcn.layers import Layer, Parameter


class Planted(Layer):
    """A convolution whose backward pass can be spoilt: one method for each mistake."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.weight = Parameter(rng.standard_normal((4, 2, 3, 3)))
        self.bias = Parameter(rng.standard_normal(4))
        self.options = {"stride": 2, "padding": 1}

    def forward(self, x):
        y = F.conv2d(x, self.weight.data, self.bias.data, **self.options)
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.weight.accumulate(self.dw(x, dy))
        self.bias.accumulate(self.db(dy))
        return self.dx(x, dy)

    def dx(self, x, dy):
        return F.conv2d_input_grad(dy, self.weight.data, input_size=x.shape[2:], **self.options)

    def dw(self, x, dy):
        return F.conv2d_weight_grad(x, dy, kernel_size=3, **self.options)

    def db(self, dy):
        return dy.sum(axis=(0, 2, 3))


class KernelFlipped(Planted):
    def dx(self, x, dy):
        flipped = self.weight.data[:, :, ::-1, ::-1]
        return F.conv2d_input_grad(dy, flipped, input_size=x.shape[2:], **self.options)


class StrideForgotten(Planted):
    def dw(self, x, dy):
        h, w = dy.shape[2:]
        return F.conv2d_weight_grad(x[:, :, :h, :w], dy, kernel_size=3, stride=1, padding=1)


class BatchSumMissing(Planted):
    def dw(self, x, dy):
        return super().dw(x[:1], dy[:1])


class BatchMeanOfBias(Planted):
    def db(self, dy):
        return super().db(dy) / len(dy)


class PaddingOffByOne(Planted):
    def dx(self, x, dy):
        padded = np.pad(dy, ((0, 0), (0, 0), (1, 0), (1, 0)))[:, :, :-1, :-1]
        return super().dx(x, padded)


class OnePercentTooLarge(Planted):
    def dw(self, x, dy):
        return 1.01 * super().dw(x, dy)


class AxesTransposed(Planted):
    def dw(self, x, dy):
        return np.ascontiguousarray(super().dw(x, dy).transpose(0, 1, 3, 2))


class SignWrong(Planted):
    def db(self, dy):
        return -super().db(dy)


class Zero(Planted):
    def dx(self, x, dy):
        return np.zeros_like(x)


class OneEntryWrong(Planted):
    def dw(self, x, dy):
        dw = super().dw(x, dy)
        dw[3, 1, 2, 0] *= 1.001
        return dw


class NotANumber(Planted):
    def dw(self, x, dy):
        dw = super().dw(x, dy)
        dw[0, 1, 0, 2] = np.nan
        return dw


class Overwritten(Planted):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.weight.grad = self.dw(x, dy)
        self.bias.accumulate(self.db(dy))
        return self.dx(x, dy)


class AddedTwice(Planted):
    def backward(self, dy):
        (x,) = self.recall(dy)
        if self.bias.grad is not None:
            self.bias.accumulate(self.db(dy))
        self.bias.accumulate(self.db(dy))
        self.weight.accumulate(self.dw(x, dy))
        return self.dx(x, dy)


class NoGradient(Planted):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.weight.accumulate(self.dw(x, dy))
        return self.dx(x, dy)


class InputChangedByForward(Planted):
    def forward(self, x):
        y = super().forward(x)
        x *= 2
        return y


class InputChangedByBackward(Planted):
    def dx(self, x, dy):
        dx = super().dx(x, dy)
        x[...] = dx
        return x


class WeightChanged(Planted):
    def dx(self, x, dy):
        dx = super().dx(x, dy)
        self.weight.data *= 1 - 1e-9
        return dx


class GradientChanged(Planted):
    def db(self, dy):
        db = super().db(dy)
        dy *= 0.5
        return db


class GradientKept(Layer):
    """y = x + shift: the gradient to the shift is dy itself, and adding to it changes the caller's array."""

    def __init__(self):
        self.shift = Parameter(np.ones((2, 3)))

    def forward(self, x):
        y = x + self.shift.data
        self.keep(output=y)
        return y

    def backward(self, dy):
        self.recall(dy)
        if self.shift.grad is None:
            self.shift.grad = dy
        else:
            self.shift.grad += dy
        return dy.copy()


class WrongShape(Planted):
    def db(self, dy):
        return super().db(dy)[:, None]


class WrongDtype(Planted):
    def dx(self, x, dy):
        return super().dx(x, dy).astype(np.float32)


class NotAnArray(Planted):
    def dx(self, x, dy):
        return super().dx(x, dy).tolist()


class OutputFloat32(Planted):
    def forward(self, x):
        return super().forward(x).astype(np.float32)


PLANTED = [
    (
        KernelFlipped,
        r"the gradient to x is wrong\nat \[\d, \d, \d, \d\] expected .*, got .* \(relative error",
    ),
    (StrideForgotten, r"the gradient to weight is wrong\nat \[\d, \d, \d, \d\] expected"),
    (BatchSumMissing, r"the gradient to weight is wrong\nat \[\d, \d, \d, \d\] expected"),
    (BatchMeanOfBias, r"the gradient to bias is wrong; every element is 0.333333 times the expected value\n"),
    (PaddingOffByOne, r"the gradient to x is wrong\nat \[\d, \d, \d, \d\] expected"),
    (OnePercentTooLarge, r"the gradient to weight is wrong; every element is 1.01 times too large\n"),
    (AxesTransposed, r"the gradient to weight is wrong\nat \[\d, \d, \d, \d\] expected"),
    (
        SignWrong,
        r"the gradient to bias is wrong; every element is -1 times the expected value, the sign is wrong\n",
    ),
    (Zero, r"the gradient to x is wrong; every element is 0\nat \[\d, \d, \d, \d\] expected .*, got 0 "),
    (
        OneEntryWrong,
        r"the gradient to weight is wrong\nat \[3, 1, 2, 0\] expected .* \(relative error 0.001\)",
    ),
    (NotANumber, r"the gradient to weight is not a finite number at \[0, 1, 0, 2\]"),
    (Overwritten, r"a second backward pass must add to the gradient to weight, but it overwrites it"),
    (AddedTwice, r"a second backward pass must add to the gradient to bias, but at \[\d\] expected"),
    (NoGradient, r"the backward pass gives no gradient to bias"),
    (InputChangedByForward, r"the forward pass changes x in place; work on a copy"),
    (InputChangedByBackward, r"the backward pass changes x in place; work on a copy"),
    (WeightChanged, r"the backward pass changes weight in place; work on a copy"),
    (GradientChanged, r"the backward pass changes the gradient it receives in place; work on a copy"),
    (WrongShape, r"the gradient to bias must have shape \(4,\), got \(4, 1\)"),
    (WrongDtype, r"the gradient to x must have dtype float64, got float32"),
    (NotAnArray, r"backward returned 3 gradient\(s\) for 1 input\(s\)"),
    (OutputFloat32, r"the output for float64 inputs must be float64, got float32"),
]
