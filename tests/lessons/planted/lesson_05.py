"""Wrong answers to the exercises of lesson 5, and what must be said about each."""

import numpy as np


def windows(x, size, stride):
    """Yield the place of each output, and its window of x."""
    for i in range((x.shape[0] - size) // stride + 1):
        for j in range((x.shape[1] - size) // stride + 1):
            yield (i, j), np.s_[i * stride : i * stride + size, j * stride : j * stride + size]


def pool(x, size, stride, of=np.max):
    y = np.zeros([(n - size) // stride + 1 for n in x.shape])
    for place, window in windows(x, size, stride):
        y[place] = of(x[window])
    return y


def averaged(x, size, stride):
    return pool(x, size, stride, of=np.mean)


def summed(x, size, stride):
    return pool(x, size, stride, of=np.sum)


def smallest(x, size, stride):
    return pool(x, size, stride, of=np.min)


def never_negative(x, size, stride):
    y = np.zeros([(n - size) // stride + 1 for n in x.shape])
    for place, window in windows(x, size, stride):
        for number in x[window].flat:
            y[place] = max(y[place], number)
    return y


def side_by_side(x, size, stride):
    return pool(x, size, size)


def in_steps_of_one(x, size, stride):
    return pool(x, size, 1)


def hanging_over(x, size, stride):
    return np.array(
        [
            [x[top : top + size, left : left + size].max() for left in range(0, x.shape[1], stride)]
            for top in range(0, x.shape[0], stride)
        ]
    )


def one_place_less(x, size, stride):
    return pool(x, size, stride)[: (x.shape[0] - size) // stride, : (x.shape[1] - size) // stride]


def places_of_x(x, size, stride):
    y = np.zeros(x.shape)
    for place, window in windows(x, size, stride):
        y[place] = x[window].max()
    return y


def hand_back(x, dy, size, stride, shares):
    """Backward by loops; `shares(window)` says who gets how much."""
    dx = np.zeros(x.shape)
    for place, window in windows(x, size, stride):
        dx[window] += dy[place] * shares(x[window])
    return dx


def to_all_winners(x, dy, size, stride):
    return hand_back(x, dy, size, stride, lambda window: window == window.max())


def shared_by_winners(x, dy, size, stride):
    return hand_back(
        x, dy, size, stride, lambda window: (window == window.max()) / (window == window.max()).sum()
    )


def to_the_last(x, dy, size, stride):
    def last(window):
        share = np.zeros(window.shape)
        share.flat[window.size - 1 - np.argmax(window.ravel()[::-1])] = 1
        return share

    return hand_back(x, dy, size, stride, last)


def down_the_columns(x, dy, size, stride):
    def first(window):
        share = np.zeros(window.shape)
        share.T.flat[np.argmax(window.T)] = 1
        return share

    return hand_back(x, dy, size, stride, first)


def to_everyone(x, dy, size, stride):
    return hand_back(x, dy, size, stride, np.ones_like)


def as_an_average(x, dy, size, stride):
    return hand_back(x, dy, size, stride, lambda window: np.full(window.shape, 1 / window.size))


def last_window_only(x, dy, size, stride):
    dx = np.zeros(x.shape)
    for place, window in windows(x, size, stride):
        a, b = divmod(int(np.argmax(x[window])), size)
        dx[window][a, b] = dy[place]
    return dx


def place_within_x(x, dy, size, stride):
    dx = np.zeros(x.shape)
    for place, window in windows(x, size, stride):
        dx.flat[np.argmax(x[window])] += dy[place]
    return dx


def times_the_number(x, dy, size, stride):
    return x * hand_back(x, dy, size, stride, first_winner)


def first_winner(window):
    share = np.zeros(window.shape)
    share.flat[np.argmax(window)] = 1
    return share


def as_large_as_dy(x, dy, size, stride):
    return dy * (pool(x, size, stride) > 0)


def stride_too_early(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        step *= stride
        field += (kernel - 1) * dilation * step
    return field, step


def without_steps(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation
        step *= stride
    return field, step


def kernel_not_less_one(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += kernel * dilation * step
        step *= stride
    return field, step


def from_zero(layers):
    field, step = 0, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step *= stride
    return field, step


def last_layer_first(layers):
    field, step = 1, 1
    for kernel, stride, dilation in reversed(layers):
        field += (kernel - 1) * dilation * step
        step *= stride
    return field, step


def strides_added(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step += stride
    return field, step


def own_stride_only(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * stride
        step *= stride
    return field, step


def the_field_alone(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step *= stride
    return field


def without_dilation(layers):
    field, step = 1, 1
    for kernel, stride, _ in layers:
        field += (kernel - 1) * step
        step *= stride
    return field, step


def dilation_in_the_step(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step *= stride * dilation
    return field, step


def kernel_dilated(layers):
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel * dilation - 1) * step
        step *= stride
    return field, step


def four_in_a_row(x):
    return x.reshape(x.shape[0] // 2, x.shape[1] // 2, 4).max(axis=-1)


def axes_of_the_blocks(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).max(axis=(0, 2))


def two_halves(x):
    return x.reshape(2, x.shape[0] // 2, 2, x.shape[1] // 2).max(axis=(0, 2))


def pairs_of_columns(x):
    return x.reshape(x.shape[0], x.shape[1] // 2, 2).max(axis=2)


def four_slices(x):
    return np.maximum(np.maximum(x[::2, ::2], x[1::2, ::2]), np.maximum(x[::2, 1::2], x[1::2, 1::2]))


def block_by_block(x):
    y = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).max(axis=(1, 3))
    for _ in range(1):
        y = y.reshape(y.shape)
    return y


WRONG = {
    "my_max_pool": {
        averaged: "Likely mistake: The result is the mean of each window",
        summed: "Smallest failing case: x (",
        smallest: "Likely mistake: The result is the smallest value of each window",
        never_negative: "Likely mistake: Negative values became 0",
        side_by_side: "Likely mistake: The windows do not overlap",
        in_steps_of_one: "Likely mistake: The windows move by 1",
        hanging_over: "Likely mistake: The last windows extend beyond the edge",
        one_place_less: "the result must have shape (1, 1), yours has (0, 0)",
        places_of_x: "the result must have shape (1, 1), yours has (2, 2)",
    },
    "my_max_pool_backward": {
        to_all_winners: "Likely mistake: All maxima of a window get the gradient",
        shared_by_winners: "Likely mistake: The maxima of a window share the gradient",
        to_the_last: "Likely mistake: Of equal values the last one gets the gradient",
        down_the_columns: "Likely mistake: The first maximum is searched column by column",
        to_everyone: "Likely mistake: All values of a window get its gradient",
        as_an_average: "Smallest failing case: x (",
        last_window_only: "Likely mistake: A value that is the maximum of several windows keeps one",
        place_within_x: "Smallest failing case: x (",
        times_the_number: "Likely mistake: The gradient is multiplied by x",
        as_large_as_dy: "Smallest failing case: x (",
    },
    "my_receptive_field": {
        stride_too_early: "Likely mistake: The step is multiplied too early",
        without_steps: "Likely mistake: The field grows by k - 1 pixels",
        kernel_not_less_one: "Likely mistake: The field grows by k steps",
        from_zero: "Likely mistake: A pixel depends on itself",
        last_layer_first: "Likely mistake: The layers are taken in the wrong order",
        strides_added: "Likely mistake: The strides are added",
        without_dilation: "Likely mistake: The dilation is missing",
        dilation_in_the_step: "Smallest failing case: layers = [(1, 1, 2)]",
        kernel_dilated: "Smallest failing case: layers = [(1, 1, 2)]",
        own_stride_only: "Smallest failing case: layers",
        the_field_alone: "the result must be 2 values, yours is of type int",
    },
    "my_pool_by_reshape": {
        four_in_a_row: "Likely mistake: Four successive values of a row",
        axes_of_the_blocks: "Likely mistake: The wrong axes are pooled",
        two_halves: "Likely mistake: Rows and columns far apart",
        pairs_of_columns: "Likely mistake: Only columns are pooled",
        four_slices: "this exercise does not allow maximum, np",
        block_by_block: "this exercise does not allow loops",
    },
}
