"""Wrong answers to the exercises of lesson 4, and what must be said about each."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows_of(x, rows, cols, stride):
    """Return the windows (C, OH, OW, rows, cols)."""
    return sliding_window_view(x, (rows, cols), axis=(1, 2))[:, ::stride, ::stride]


def reshaped_at_once(x, rows, cols, stride):
    return windows_of(x, rows, cols, stride).reshape(len(x) * rows * cols, -1)


def window_by_window(x, rows, cols, stride):
    windows = windows_of(x, rows, cols, stride).transpose(1, 2, 0, 3, 4)
    return windows.reshape(-1, len(x) * rows * cols)


def channels_last(x, rows, cols, stride):
    windows = windows_of(x, rows, cols, stride).transpose(3, 4, 0, 1, 2)
    return windows.reshape(len(x) * rows * cols, -1)


def columns_of_the_window_first(x, rows, cols, stride):
    windows = windows_of(x, rows, cols, stride).transpose(0, 4, 3, 1, 2)
    return windows.reshape(len(x) * rows * cols, -1)


def across_before_down(x, rows, cols, stride):
    windows = windows_of(x, rows, cols, stride).transpose(0, 3, 4, 2, 1)
    return windows.reshape(len(x) * rows * cols, -1)


def every_place(x, rows, cols, stride):
    windows = windows_of(x, rows, cols, 1).transpose(0, 3, 4, 1, 2)
    return windows.reshape(len(x) * rows * cols, -1)


def steps_of_one(x, rows, cols, stride):
    """As many windows as there should be, but side by side."""
    _, down, across, _, _ = windows_of(x, rows, cols, stride).shape
    windows = windows_of(x, rows, cols, 1)[:, :down, :across].transpose(0, 3, 4, 1, 2)
    return windows.reshape(len(x) * rows * cols, -1)


def still_a_view(x, rows, cols, stride):
    return windows_of(x, rows, cols, stride).transpose(0, 3, 4, 1, 2)


def bias_forgotten(columns, w, b, height, width):
    return (w.reshape(len(w), -1) @ columns).reshape(len(w), height, width)


def bias_along_columns(columns, w, b, height, width):
    return (w.reshape(len(w), -1) @ columns + b).reshape(len(w), height, width)


def filters_as_columns(columns, w, b, height, width):
    y = w.reshape(-1, len(w)).T @ columns + b[:, None]
    return y.reshape(len(w), height, width)


def filters_channels_last(columns, w, b, height, width):
    y = np.moveaxis(w, 1, -1).reshape(len(w), -1) @ columns + b[:, None]
    return y.reshape(len(w), height, width)


def places_by_filters(columns, w, b, height, width):
    y = columns.T @ w.reshape(len(w), -1).T + b
    return y.reshape(len(w), height, width)


def places_first(columns, w, b, height, width):
    y = columns.T @ w.reshape(len(w), -1).T + b
    return y.reshape(height, width, len(w))


def width_first(columns, w, b, height, width):
    y = w.reshape(len(w), -1) @ columns + b[:, None]
    return y.reshape(len(w), width, height)


def not_reshaped(columns, w, b, height, width):
    return w.reshape(len(w), -1) @ columns + b[:, None]


def number_by_number(columns, w, b, height, width):
    return (w.reshape(len(w), -1) * columns).reshape(len(w), height, width)


def fold(columns, shape, rows, cols, stride, add=True, step=None, order="ij"):
    """Columns back into their windows, with slots for mistakes."""
    channels, height, width = shape
    down, across = (height - rows) // stride + 1, (width - cols) // stride + 1
    step = step or stride
    x = np.zeros(shape)
    for i, j in np.ndindex(down, across):
        column = columns[:, i * across + j if order == "ij" else j * down + i]
        window = column.reshape(channels, rows, cols)
        place = slice(None), slice(i * step, i * step + rows), slice(j * step, j * step + cols)
        x[place] = x[place] + window if add else window
    return x


def overwritten(columns, shape, rows, cols, stride):
    return fold(columns, shape, rows, cols, stride, add=False)


def undone(columns, shape, rows, cols, stride):
    """The inverse, so that it undoes im2col."""
    count = fold(np.ones_like(columns), shape, rows, cols, stride)
    return fold(columns, shape, rows, cols, stride) / np.where(count > 0, count, 1)


def without_stride(columns, shape, rows, cols, stride):
    return fold(columns, shape, rows, cols, stride, step=1)


def numbered_down(columns, shape, rows, cols, stride):
    return fold(columns, shape, rows, cols, stride, order="ji")


def channels_change_first(columns, shape, rows, cols, stride):
    other = columns.reshape(rows, cols, shape[0], -1).transpose(2, 0, 1, 3)
    return fold(other.reshape(columns.shape), shape, rows, cols, stride)


def smallest_image(columns, shape, rows, cols, stride):
    channels, height, width = shape
    down, across = (height - rows) // stride + 1, (width - cols) // stride + 1
    reached = channels, (down - 1) * stride + rows, (across - 1) * stride + cols
    return fold(columns, reached, rows, cols, stride)


WRONG = {
    "my_im2col": {
        reshaped_at_once: "Likely mistake: `reshape` alone mixes windows and positions",
        window_by_window: "Likely mistake: Each window is a row",
        channels_last: "Likely mistake: Within a column the channel changes fastest",
        columns_of_the_window_first: "Likely mistake: Within a column the window is read column by column",
        across_before_down: "Likely mistake: The positions are numbered column by column",
        every_place: "the result must have shape (1, 1), yours has (1, 2)",
        steps_of_one: "Likely mistake: The stride is ignored",
        still_a_view: "the result must have shape (1, 1), yours has (1, 1, 1, 1, 1)",
    },
    "my_conv_by_product": {
        bias_forgotten: "Likely mistake: The bias is missing",
        bias_along_columns: "Likely mistake: The bias is added along the columns",
        filters_as_columns: "Likely mistake: A row contains values of different filters",
        filters_channels_last: "Likely mistake: The filters are flattened in a different order",
        places_by_filters: "Likely mistake: The product has one row for each filter",
        places_first: "the result must have shape (1, 1, 2), yours has (1, 2, 1)",
        width_first: "Likely mistake: Height and width are swapped",
        not_reshaped: "the result must have shape (1, 1, 1), yours has (1, 1)",
        number_by_number: "Smallest failing case: columns (1, 1) = [[8]]",
    },
    "my_col2im": {
        overwritten: "Likely mistake: The last window overwrites what other windows have added",
        undone: "Likely mistake: The sum is divided by the number of windows",
        without_stride: "Likely mistake: The stride is ignored",
        numbered_down: "Likely mistake: The positions are numbered row by row",
        channels_change_first: "Likely mistake: Within a column all values of channel 0 come first",
        smallest_image: "yours has (1, 1, 1)",
    },
}
