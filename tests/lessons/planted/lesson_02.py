"""Wrong answers to the exercises of lesson 2, and what must be said about each."""

import math

import numpy as np


def turned(x, w):
    """As mathematics has it."""
    rows, cols = w.shape
    y = np.zeros((x.shape[0] - rows + 1, x.shape[1] - cols + 1))
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            for a in range(rows):
                for b in range(cols):
                    y[i, j] += x[i + a, j + b] * w[rows - 1 - a, cols - 1 - b]
    return y


def one_less(x, w):
    rows, cols = w.shape
    y = np.zeros((x.shape[0] - rows, x.shape[1] - cols))
    for i, j in np.ndindex(y.shape):
        y[i, j] = (x[i : i + rows, j : j + cols] * w).sum()
    return y


def mean(x, w):
    rows, cols = w.shape
    y = np.zeros((x.shape[0] - rows + 1, x.shape[1] - cols + 1))
    for i, j in np.ndindex(y.shape):
        y[i, j] = (x[i : i + rows, j : j + cols] * w).mean()
    return y


def as_large_as_x(x, w):
    rows, cols = w.shape
    y = np.zeros(x.shape)
    for i in range(x.shape[0] - rows + 1):
        for j in range(x.shape[1] - cols + 1):
            y[i, j] = (x[i : i + rows, j : j + cols] * w).sum()
    return y


def out_of_range(x, w):
    y = np.zeros((x.shape[0] - w.shape[0] + 1, x.shape[1] - w.shape[1] + 1))
    for i, j in np.ndindex(x.shape):
        y[i, j] = (x[i : i + w.shape[0], j : j + w.shape[1]] * w).sum()
    return y


def nothing_returned(x, w):
    y = np.zeros(x.shape)
    y[0, 0] = (x * w[0, 0]).sum()


def size_one_less(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride


def size_up(size, kernel, stride, padding):
    return math.ceil((size + 2 * padding - kernel) / stride) + 1


def size_one_side(size, kernel, stride, padding):
    return (size + padding - kernel) // stride + 1


def size_early(size, kernel, stride, padding):
    return (size + 2 * padding - kernel + 1) // stride


def size_fraction(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) / stride + 1


def size_without_padding(size, kernel, stride, padding):
    return (size - kernel) // stride + 1


def size_without_stride(size, kernel, stride, padding):
    return size + 2 * padding - kernel + 1


def size_kernel_late(size, kernel, stride, padding):
    return (size + 2 * padding) // stride - kernel + 1


def convolve(x, w, b, stride, padding, pad=None, step=None):
    """A convolution by loops, with a slot for mistakes."""
    if pad is None:
        pad = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(x, pad)
    filters, _, rows, cols = w.shape
    height = (x.shape[1] + 2 * padding - rows) // stride + 1
    width = (x.shape[2] + 2 * padding - cols) // stride + 1
    step = step or stride
    y = np.zeros((filters, height, width))
    for o, i, j in np.ndindex(y.shape):
        window = padded[:, i * step : i * step + rows, j * step : j * step + cols]
        y[o, i, j] = (window * w[o]).sum() + b[o]
    return y


def filters_turned(x, w, b, stride, padding):
    return convolve(x, w[:, :, ::-1, ::-1], b, stride, padding)


def padded_on_one_side(x, w, b, stride, padding):
    return convolve(x, w, b, stride, padding, pad=((0, 0), (0, 2 * padding), (0, 2 * padding)))


def stride_forgotten(x, w, b, stride, padding):
    return convolve(x, w, b, stride, padding, step=1)


def bias_forgotten(x, w, b, stride, padding):
    return convolve(x, w, np.zeros(len(w)), stride, padding)


def bias_in_each_product(x, w, b, stride, padding):
    return convolve(x, w, w[0].size * b, stride, padding)


def first_channel_only(x, w, b, stride, padding):
    return convolve(x[:1], w[:, :1], b, stride, padding)


def padding_forgotten(x, w, b, stride, padding):
    return convolve(x, w, b, stride, 0)


def input_changed(x, w, b, stride, padding):
    y = convolve(x, w, b, stride, padding)
    x -= 1
    return y


WRONG = {
    "my_convolution": {
        turned: "Likely mistake: The filter is rotated by 180 degrees",
        one_less: "Likely mistake: The last position along each axis is missing",
        mean: "Likely mistake: The result is the mean of the products",
        as_large_as_x: "the result must have shape (1, 1), yours has (1, 2)",
        out_of_range: "IndexError: index 1 is out of bounds",
        nothing_returned: 'returns None: is there a "return"?',
    },
    "my_output_size": {
        size_one_less: "Likely mistake: The first position is not counted",
        size_up: "Likely mistake: The division rounds up",
        size_one_side: "Likely mistake: The padding is counted once",
        size_early: "Likely mistake: Divide by the stride first",
        size_without_padding: "Likely mistake: The padding is missing",
        size_without_stride: "Likely mistake: The stride is missing",
        size_kernel_late: "Likely mistake: Subtract the kernel before you divide by the stride",
        size_fraction: "size = 2, kernel = 1, stride = 2, padding = 0",
    },
    "my_conv2d": {
        filters_turned: "Likely mistake: The filters are rotated by 180 degrees",
        padded_on_one_side: "Likely mistake: All zeros are added below and on the right",
        stride_forgotten: "Likely mistake: The window moves by 1",
        bias_forgotten: "Likely mistake: The bias is missing",
        bias_in_each_product: "Likely mistake: The bias is added to each product",
        first_channel_only: "Likely mistake: Only the first channel is used",
        padding_forgotten: "Likely mistake: The padding is missing",
        input_changed: "changes x in place",
    },
}
