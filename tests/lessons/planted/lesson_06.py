"""Wrong answers to the exercises of lesson 6, and what must be said about each."""

import numpy as np


def right(weights, channels, height, width, order):
    if order == "HWC":
        return weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return weights.reshape(-1, channels, height, width)


def order_ignored(weights, channels, height, width, order):
    return weights.reshape(-1, channels, height, width)


def order_after_reshape(weights, channels, height, width, order):
    filters = weights.reshape(-1, channels, height, width)
    return filters.transpose(0, 3, 1, 2) if order == "HWC" else filters


def still_hwc(weights, channels, height, width, order):
    if order == "HWC":
        return weights.reshape(-1, height, width, channels)
    return weights.reshape(-1, channels, height, width)


def channels_last(weights, channels, height, width, order):
    return weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)


def columns_first(weights, channels, height, width, order):
    return right(weights, channels, width, height, order).transpose(0, 1, 3, 2)


def turned(weights, channels, height, width, order):
    return right(weights, channels, height, width, order)[..., ::-1, ::-1]


def transposed(weights, channels, height, width, order):
    columns = weights.T.reshape(weights.shape)
    return right(columns, channels, height, width, order)


def flat(weights, channels, height, width, order):
    return weights.reshape(-1, channels, height * width)


def too_few_numbers(weights, channels, height, width, order):
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


def reshaped_at_the_end(x, weights, bias):
    channels, height, width = x.shape
    scores = x.reshape(channels, -1).T @ weights.T + bias
    return scores.reshape(len(weights), height, width)


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
        order_ignored: "Likely mistake: The matrix is reshaped to (O, C, H, W) for both orders",
        order_after_reshape: "Smallest failing case: weights (",
        still_hwc: "Likely mistake: For HWC the filters must be (O, C, H, W), too",
        channels_last: "Likely mistake: The matrix is reshaped to (O, H, W, C) for both orders",
        columns_first: "Likely mistake: The columns of a map come before its rows",
        turned: "Likely mistake: The filters are rotated",
        transposed: "Likely mistake: The matrix is read column by column",
        flat: "the result must have shape (1, 1, 1, 1), yours has (1, 1, 1)",
        too_few_numbers: "the result must have shape (1, 1, 1, 1), yours has (1, 1, 1)",
    },
    "my_window": {
        without_stride: "Likely mistake: The stride is ignored",
        x_first: "Likely mistake: Rows and columns are swapped",
        last_pixels: "Likely mistake: Bottom and right are the last pixels",
        next_window: "Likely mistake: The window ends where the next one starts",
        side_by_side: "Likely mistake: The windows do not overlap",
        slices: "Likely mistake: The order is wrong",
        three_numbers: "the result must be 4 values, yours has 3",
    },
    "my_one_by_one": {
        mixed: "Likely mistake: `reshape(H * W, C)` mixes channels and positions",
        places_first: "Likely mistake: The classes are the last axis",
        reshaped_at_the_end: "Likely mistake: The final reshape mixes classes and positions",
        without_bias: "Likely mistake: The bias is missing",
        bias_by_column: "the result must have shape (2, 1, 1), yours has (2, 1, 2)",
        bias_by_place: "Likely mistake: The bias is added along the positions",
        averaged: "Likely mistake: The positions are averaged",
    },
}
