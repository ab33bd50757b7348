"""Wrong answers to the exercises of lesson 10, and what must be said about each."""

import numpy as np

from minifcn.layers import Layer


def twice(scores, axis, near=0.75, mode="edge"):
    """Upsample along an axis by 2, with slots for mistakes."""
    scores = np.moveaxis(scores, axis, -1)
    padded = np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(1, 1)], mode=mode)
    up = np.empty((*scores.shape[:-1], 2 * scores.shape[-1]))
    up[..., ::2] = near * scores + (1 - near) * padded[..., :-2]
    up[..., 1::2] = near * scores + (1 - near) * padded[..., 2:]
    return np.moveaxis(up, -1, axis)


def large(scores, **how):
    return twice(twice(scores, 1, **how), 2, **how)


def skip(features, weights, bias):
    return np.einsum("kc,chw->khw", weights, features) + bias[:, None, None]


def fused(scores, features, weights, bias, **how):
    _, height, width = features.shape
    return large(scores, **how)[:, :height, :width] + skip(features, weights, bias)


def without_skip(scores, features, weights, bias):
    return large(scores)[:, : features.shape[1], : features.shape[2]]


def without_bias(scores, features, weights, bias):
    return fused(scores, features, weights, 0 * bias)


def each_twice(scores, features, weights, bias):
    return fused(scores, features, weights, bias, near=1)


def quarters_turned(scores, features, weights, bias):
    return fused(scores, features, weights, bias, near=0.25)


def halves(scores, features, weights, bias):
    return fused(scores, features, weights, bias, near=0.5)


def zeros_beyond(scores, features, weights, bias):
    return fused(scores, features, weights, bias, mode="constant")


def cut_in_front(scores, features, weights, bias):
    _, height, width = features.shape
    return large(scores)[:, -height:, -width:] + skip(features, weights, bias)


def one_too_far(scores, features, weights, bias):
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")
    _, height, width = features.shape
    return large(padded)[:, 3 : 3 + height, 3 : 3 + width] + skip(features, weights, bias)


def not_cut(scores, features, weights, bias):
    return large(scores) + skip(features, weights, bias)


def features_added(scores, features, weights, bias):
    return large(scores)[:, : features.shape[1], : features.shape[2]] + features


def in_place(scores, features, weights, bias):
    scores += 0.5
    return fused(scores - 0.5, features, weights, bias)


class MyAdd(Layer):
    def __init__(self, a, b):
        self.a, self.b = a, b

    def forward(self, x):
        return self.a(x) + self.b(x)


class Halved(MyAdd):
    def backward(self, dy):
        return self.a.backward(dy / 2) + self.b.backward(dy / 2)


class Averaged(MyAdd):
    def backward(self, dy):
        return (self.a.backward(dy) + self.b.backward(dy)) / 2


class FirstOnly(MyAdd):
    def backward(self, dy):
        return self.a.backward(dy)


class SecondOnly(MyAdd):
    def backward(self, dy):
        return self.b.backward(dy)


class FirstReturned(MyAdd):
    def backward(self, dy):
        dx = self.a.backward(dy)
        self.b.backward(dy)
        return dx


class OneAfterTheOther(MyAdd):
    def backward(self, dy):
        return self.a.backward(self.b.backward(dy))


class Untouched(MyAdd):
    def backward(self, dy):
        return 2 * dy


class NothingReturned(MyAdd):
    def backward(self, dy):
        self.a.backward(dy)
        self.b.backward(dy)


WRONG = {
    "my_fuse": {
        without_skip: "Likely mistake: The scores of the finer map are missing",
        without_bias: "Likely mistake: The bias is missing",
        each_twice: "Likely mistake: Each score is repeated",
        quarters_turned: "Smallest failing case: scores (1, 1, 2) = [[[8, -6]]]",
        halves: "Smallest failing case: scores (1, 1, 2) = [[[8, -6]]]",
        zeros_beyond: "Likely mistake: Beyond the border there are zeros",
        cut_in_front: "Likely mistake: Rows or columns are removed at the start",
        one_too_far: "Likely mistake: The upsampled scores are one position too far up and to the left",
        not_cut: "the result must have shape (1, 2, 1), yours has (1, 2, 2)",
        features_added: "Likely mistake: Features are added",
        in_place: "changes scores in place",
    },
    "MyAdd": {
        Halved: "Likely mistake: The gradient is divided between the branches",
        Averaged: "Likely mistake: The gradients of x are averaged",
        FirstOnly: "Likely mistake: Only the first branch gets a gradient",
        SecondOnly: "Likely mistake: Only the second branch gets a gradient",
        FirstReturned: "Likely mistake: Both branches get their gradient",
        OneAfterTheOther: "Smallest failing case: x (1, 1, 1, 1) = [[[[8]]]]",
        Untouched: "Likely mistake: The gradient does not pass through the branches",
        NothingReturned: "returns None",
    },
}
