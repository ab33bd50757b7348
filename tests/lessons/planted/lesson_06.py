"""Wrong answers to the exercises of lesson 6, and what must be said about each."""

import numpy as np


def channels_last(weights, channels, height, width):
    return weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)


def columns_first(weights, channels, height, width):
    return weights.reshape(-1, channels, width, height).transpose(0, 1, 3, 2)


def turned(weights, channels, height, width):
    return weights.reshape(-1, channels, height, width)[..., ::-1, ::-1]


def transposed(weights, channels, height, width):
    return weights.T.reshape(len(weights), channels, height, width)


def flat(weights, channels, height, width):
    return weights.reshape(-1, channels, height * width)


def too_few_numbers(weights, channels, height, width):
    return weights.reshape(channels, height, width)


def without_stride(i, j, size, stride):
    return i, j, i + size, j + size


def x_first(i, j, size, stride):
    return j * stride, i * stride, j * stride + size, i * stride + size


def last_pixels(i, j, size, stride):
    return i * stride, j * stride, i * stride + size - 1, j * stride + size - 1


def next_window(i, j, size, stride):
    return i * stride, j * stride, (i + 1) * stride, (j + 1) * stride


def side_by_side(i, j, size, stride):
    return i * size, j * size, (i + 1) * size, (j + 1) * size


def slices(i, j, size, stride):
    return i * stride, i * stride + size, j * stride, j * stride + size


def three_numbers(i, j, size, stride):
    return i * stride, j * stride, size


def mixed(x, weights, bias):
    channels, height, width = x.shape
    scores = x.reshape(-1, channels) @ weights.T + bias
    return scores.T.reshape(-1, height, width)


def places_first(x, weights, bias):
    return np.einsum("kc,chw->hwk", weights, x) + bias


def without_bias(x, weights, bias):
    return np.einsum("kc,chw->khw", weights, x)


def bias_by_column(x, weights, bias):
    return np.einsum("kc,chw->khw", weights, x) + bias


def bias_by_place(x, weights, bias):
    channels, height, width = x.shape
    return (weights @ x.reshape(channels, -1) + bias).reshape(len(weights), height, width)


def averaged(x, weights, bias):
    scores = weights @ x.mean(axis=(1, 2)) + bias
    return np.tile(scores[:, None, None], (1, *x.shape[1:]))


WRONG = {
    "my_dense_to_conv": {
        channels_last: "Likely mistake: The order is H, W, C, as in Keras",
        columns_first: "Likely mistake: The columns of a map come before its rows",
        turned: "Likely mistake: The filters are turned",
        transposed: "Likely mistake: The matrix is read column by column",
        flat: "the result must have shape (1, 1, 1, 1), yours has (1, 1, 1)",
        too_few_numbers: "the result must have shape (1, 1, 1, 1), yours has (1, 1, 1)",
    },
    "my_window": {
        without_stride: "Likely mistake: The stride is forgotten",
        x_first: "Likely mistake: Rows and columns are swapped",
        last_pixels: "Likely mistake: Bottom and right are the last pixels themselves",
        next_window: "Likely mistake: The window ends where the next one begins",
        side_by_side: "Likely mistake: The windows lie side by side",
        slices: "Likely mistake: The order is another one",
        three_numbers: "the result must be 4 values, yours are 3",
    },
    "my_one_by_one": {
        mixed: "Likely mistake: `reshape(H * W, C)` mixes channels and places",
        places_first: "Likely mistake: The scores are the last axis",
        without_bias: "Likely mistake: The bias is missing",
        bias_by_column: "the result must have shape (2, 1, 1), yours has (2, 1, 2)",
        bias_by_place: "Likely mistake: The bias goes along the places",
        averaged: "Likely mistake: The places are averaged",
    },
}
