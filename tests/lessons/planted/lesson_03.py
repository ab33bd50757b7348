"""Wrong answers to the exercises of lesson 3, and what must be said about each."""

import numpy as np

from minifcn.layers import Layer, Parameter


def spread(g, w, height, width, stride):
    """Each window gets its share back."""
    rows, cols = w.shape
    dx = np.zeros((height, width))
    for i, j in np.ndindex(g.shape):
        dx[i * stride : i * stride + rows, j * stride : j * stride + cols] += g[i, j] * w
    return dx


def turned(g, w, height, width, stride):
    return spread(g, np.rot90(w, 2), height, width, stride)


def stride_forgotten(g, w, height, width, stride):
    return spread(g, w, height, width, 1)


def overwritten(g, w, height, width, stride):
    rows, cols = w.shape
    dx = np.zeros((height, width))
    for i, j in np.ndindex(g.shape):
        dx[i * stride : i * stride + rows, j * stride : j * stride + cols] = g[i, j] * w
    return dx


def as_small_as_can_be(g, w, height, width, stride):
    reached = [(n - 1) * stride + k for n, k in zip(g.shape, w.shape, strict=True)]
    return spread(g, w, *reached, stride)


def forward_once_more(g, w, height, width, stride):
    """The filter slides over g, with zeros around it, as it did over x."""
    rows, cols = w.shape
    spaced = np.zeros((height + rows - 1, width + cols - 1))
    for i, j in np.ndindex(g.shape):
        spaced[rows - 1 + i * stride, cols - 1 + j * stride] = g[i, j]
    dx = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        dx[i, j] = (spaced[i : i + rows, j : j + cols] * w).sum()
    return dx


def g_left_out(g, w, height, width, stride):
    return spread(np.ones_like(g), w, height, width, stride)


def sums(x, g, rows, cols, stride, images=slice(None)):
    """All sums, over some of the images."""
    dw = np.zeros((g.shape[1], x.shape[1], rows, cols))
    for one, gradient in zip(x[images], g[images], strict=True):
        for o, i, j in np.ndindex(gradient.shape):
            window = one[:, i * stride : i * stride + rows, j * stride : j * stride + cols]
            dw[o] += gradient[o, i, j] * window
    return dw, g[images].sum(axis=(0, 2, 3))


def first_image_only(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, stride, slice(1))


def last_image_stays(x, g, rows, cols, stride):
    """dw and db begin anew with each image."""
    return sums(x, g, rows, cols, stride, slice(-1, None))


def window_assigned(x, g, rows, cols, stride):
    """dw is overwritten by each window, db is not."""
    _, db = sums(x, g, rows, cols, stride)
    dw = np.zeros((g.shape[1], x.shape[1], rows, cols))
    for n, o, i, j in np.ndindex(g.shape):
        top, left = i * stride, j * stride
        dw[o] = g[n, o, i, j] * x[n, :, top : top + rows, left : left + cols]
    return dw, db


def mean_over_images(x, g, rows, cols, stride):
    dw, db = sums(x, g, rows, cols, stride)
    return dw / len(x), db / len(x)


def steps_of_one(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, 1)


def flipped(x, g, rows, cols, stride):
    dw, db = sums(x, g, rows, cols, stride)
    return np.flip(dw, (2, 3)), db


def channels_first(x, g, rows, cols, stride):
    dw, db = sums(x, g, rows, cols, stride)
    return dw.swapaxes(0, 1), db


def one_bias(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, stride)[0], g.sum()


def bias_of_each_image(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, stride)[0], g.sum(axis=(2, 3))


def bias_of_the_first_image(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, stride)[0], g[0].sum(axis=(1, 2))


def no_bias(x, g, rows, cols, stride):
    return sums(x, g, rows, cols, stride)[0]


class PReLU(Layer):
    """A right one, with places for mistakes."""

    def __init__(self, slopes):
        self.slopes = Parameter(slopes)

    def factor(self, x):
        return np.where(x < 0, self.slopes.data.reshape(-1, 1, 1), 1.0)

    def forward(self, x):
        y = self.factor(x) * x
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0).sum(axis=(0, 2, 3)))
        return dy * self.factor(x)


class BatchForgotten(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0)[0].sum(axis=(1, 2)))
        return dy * self.factor(x)


class BatchKept(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0).sum(axis=(2, 3)))
        return dy * self.factor(x)


class EverywhereX(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate((dy * x).sum(axis=(0, 2, 3)))
        return dy * self.factor(x)


class Assigned(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.grad = np.where(x < 0, dy * x, 0).sum(axis=(0, 2, 3))
        return dy * self.factor(x)


class Averaged(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0).mean(axis=(0, 2, 3)))
        return dy * self.factor(x)


class ReLUs(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0).sum(axis=(0, 2, 3)))
        return np.where(x > 0, dy, 0)


class ChainForgotten(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, dy * x, 0).sum(axis=(0, 2, 3)))
        return self.factor(x)


class SlopesChainForgotten(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(np.where(x < 0, x, 0).sum(axis=(0, 2, 3)))
        return dy * self.factor(x)


class OutputKept(PReLU):
    def forward(self, x):
        y = self.factor(x) * x
        self.keep(y, output=y)
        return y


class NothingKept(PReLU):
    def forward(self, x):
        return self.factor(x) * x


class SlopesNotLearned(PReLU):
    def backward(self, dy):
        (x,) = self.recall(dy)
        return dy * self.factor(x)


class TwoSlopes(PReLU):
    """It scales positive numbers, too."""

    def factor(self, x):
        return self.slopes.data.reshape(-1, 1, 1) * np.ones_like(x)


class InPlace(PReLU):
    def forward(self, x):
        y = super().forward(x)
        x[x < 0] = 0
        return y


class NoReturn(PReLU):
    def forward(self, x):
        super().forward(x)


WRONG = {
    "my_input_grad": {
        turned: "Likely mistake: The filter is rotated by 180 degrees",
        stride_forgotten: "Likely mistake: The stride is ignored",
        overwritten: "Likely mistake: The last window overwrites what other windows have added",
        as_small_as_can_be: "the result must have shape (1, 2), yours has (1, 1)",
        forward_once_more: "Likely mistake: The filter is rotated by 180 degrees",
        g_left_out: "Likely mistake: Each window adds w",
    },
    "my_weight_grads": {
        first_image_only: "Likely mistake: Only the first image is used",
        last_image_stays: "Likely mistake: Only the last image is used",
        window_assigned: "Likely mistake: In dw only the last window is used",
        mean_over_images: "Likely mistake: The result is the mean over the batch",
        steps_of_one: "Likely mistake: The stride is ignored",
        flipped: "Likely mistake: The filters are rotated by 180 degrees",
        channels_first: "value 1 of 2: the result must have shape (2, 1, 1, 1), yours has (1, 2, 1, 1)",
        one_bias: "value 2 of 2: the result must have shape (1,), yours has ()",
        bias_of_each_image: "value 2 of 2: the result must have shape (1,), yours has (1, 1)",
        bias_of_the_first_image: "Likely mistake: In db only the first image is used",
        no_bias: "the result must be 2 values, yours has 1",
    },
    "MyPReLU": {
        BatchForgotten: "Likely mistake: The gradient of the slopes is that of the first image only",
        BatchKept: "the gradient to slopes must have shape (1,), got (1, 1)",
        EverywhereX: "Likely mistake: The gradient of the slopes includes positive x",
        Assigned: "Likely mistake: The gradient of the slopes is overwritten",
        Averaged: "Likely mistake: The gradient of the slopes is a mean",
        ReLUs: "Likely mistake: Where x is negative, dx is 0 as for a ReLU",
        ChainForgotten: "Likely mistake: dx is the derivative of the layer alone",
        SlopesChainForgotten: "Likely mistake: The gradient of the slopes is a sum of x alone",
        OutputKept: "Likely mistake: forward keeps y; backward needs x",
        NothingKept: "Likely mistake: forward must call self",
        SlopesNotLearned: "the backward pass gives no gradient to slopes",
        TwoSlopes: "forward is wrong: for x",
        InPlace: "the forward pass changes x in place",
        NoReturn: "forward must return the shape of x, (1, 1, 1, 1), not ()",
    },
}
