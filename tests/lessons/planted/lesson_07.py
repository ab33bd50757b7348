"""Wrong answers to the exercises of lesson 7, and what must be said about each."""

import numpy as np

import minifcn as mf


def matrix(w, height, width, stride, *, step=None, turned=False):
    """A matrix of a convolution with slots for mistakes."""
    step = step or stride
    rows, cols = w.shape
    out_rows, out_cols = (height - rows) // stride + 1, (width - cols) // stride + 1
    maps = np.zeros((out_rows * out_cols, height, width))
    for i in range(out_rows):
        for j in range(out_cols):
            number = j * out_rows + i if turned else i * out_cols + j
            maps[number, i * step : i * step + rows, j * step : j * step + cols] = w
    return maps


def rotated_filter(w, height, width, stride):
    return matrix(w[::-1, ::-1], height, width, stride).reshape(-1, height * width)


def one_column_each(w, height, width, stride):
    return matrix(w, height, width, stride).reshape(-1, height * width).T


def windows_down_first(w, height, width, stride):
    return matrix(w, height, width, stride, turned=True).reshape(-1, height * width)


def map_down_first(w, height, width, stride):
    return matrix(w, height, width, stride).transpose(0, 2, 1).reshape(-1, height * width)


def close_windows(w, height, width, stride):
    return matrix(w, height, width, stride, step=1).reshape(-1, height * width)


def not_flattened(w, height, width, stride):
    return matrix(w, height, width, stride)


def ones_for_weights(w, height, width, stride):
    return matrix(np.ones_like(w), height, width, stride).reshape(-1, height * width)


def slide(x, w, stride, above, left, between=None, behind=0):
    """Insert zeros and convolve, with slots for mistakes; w is used as it comes."""
    step = (stride - 1 if between is None else between) + 1
    spread = np.zeros(((x.shape[0] - 1) * step + 1 + behind, (x.shape[1] - 1) * step + 1 + behind))
    spread[::step, ::step][: x.shape[0], : x.shape[1]] = x
    spread = np.pad(spread, ((above, above), (left, left)))
    return mf.functional.conv2d(spread[None, None], w[None, None])[0, 0]


def unturned(x, w, stride, padding):
    return slide(x, w, stride, w.shape[0] - 1 - padding, w.shape[1] - 1 - padding)


def rows_turned_only(x, w, stride, padding):
    return slide(x, w[::-1], stride, w.shape[0] - 1 - padding, w.shape[1] - 1 - padding)


def transposed_filter(x, w, stride, padding):
    turned = w.T[::-1, ::-1]
    return slide(x, turned, stride, w.shape[1] - 1 - padding, w.shape[0] - 1 - padding)


def transposed_instead(x, w, stride, padding):
    return slide(x, w.T, stride, w.shape[0] - 1 - padding, w.shape[1] - 1 - padding)


def padding_taken_literally(x, w, stride, padding):
    return slide(x, w[::-1, ::-1], stride, padding, padding)


def no_zeros_between(x, w, stride, padding):
    return slide(x, w[::-1, ::-1], stride, w.shape[0] - 1 - padding, w.shape[1] - 1 - padding, between=0)


def one_zero_too_many(x, w, stride, padding):
    return slide(x, w[::-1, ::-1], stride, w.shape[0] - 1 - padding, w.shape[1] - 1 - padding, between=stride)


def zeros_behind(x, w, stride, padding):
    above, left = w.shape[0] - 1 - padding, w.shape[1] - 1 - padding
    return slide(x, w[::-1, ::-1], stride, above, left, behind=stride - 1)


def rows_of_the_filter_for_both(x, w, stride, padding):
    return slide(x, w[::-1, ::-1], stride, w.shape[0] - 1 - padding, w.shape[0] - 1 - padding)


def along_one_axis(kernel, stride):
    return sorted({kernel // stride, -(-kernel // stride)})


def squares(kernel, stride):
    return sorted({(kernel // stride) ** 2, (-(-kernel // stride)) ** 2})


def a_mean(kernel, stride):
    return [(kernel / stride) ** 2]


def always_rounded_up_too(kernel, stride):
    along = (kernel // stride, kernel // stride + 1)
    return sorted({a * b for a in along for b in along})


def the_largest(kernel, stride):
    return [(-(-kernel // stride)) ** 2]


def not_sorted_out(kernel, stride):
    along = {kernel // stride, -(-kernel // stride)}
    return sorted(a * b for a in along for b in along)


def all_from_one_on(kernel, stride):
    most = -(-kernel // stride)
    return sorted({a * b for a in range(1, most + 1) for b in range(1, most + 1)})


def tents(tent):
    return np.outer(tent, tent)


def bilinear(stride, *, size=None, padding=None, middle=None, slope=None):
    """A filter and its padding with slots for mistakes."""
    size = size or 2 * stride - stride % 2
    middle = (size - 1) / 2 if middle is None else middle
    w = tents(1 - abs(np.arange(size) - middle) / (slope or stride))
    return w, (size - stride) // 2 if padding is None else padding


def even_for_each_stride(stride):
    return bilinear(stride, size=2 * stride)


def odd_for_each_stride(stride):
    return bilinear(stride, size=2 * stride - 1)


def unpadded(stride):
    return bilinear(stride, padding=0)


def padding_that_keeps_the_size(stride):
    return bilinear(stride, padding=(2 * stride - stride % 2 - 1) // 2)


def top_at_half_the_size(stride):
    return bilinear(stride, middle=(2 * stride - stride % 2) / 2)


def top_on_a_cell(stride):
    return bilinear(stride, middle=(2 * stride - stride % 2) // 2)


def slope_from_the_size(stride):
    return bilinear(stride, slope=(2 * stride - stride % 2) / 2)


def sum_of_one(stride):
    w, padding = bilinear(stride)
    return w / w.sum(), padding


def smaller_of_two(stride):
    w, padding = bilinear(stride)
    tent = np.sqrt(np.diag(w))
    return np.minimum(tent[:, None], tent[None, :]), padding


def filter_alone(stride):
    return bilinear(stride)[0]


def distance_from_the_middle(stride):
    w, padding = bilinear(stride)
    a, b = np.mgrid[: len(w), : len(w)] - (len(w) - 1) / 2
    return np.maximum(1 - np.hypot(a, b) / stride, 0), padding


WRONG = {
    "my_matrix": {
        rotated_filter: "Likely mistake: The filter is rotated",
        one_column_each: "Likely mistake: This is W transposed",
        windows_down_first: "Likely mistake: The windows are numbered column by column",
        map_down_first: "Likely mistake: The map is flattened column by column",
        close_windows: "Likely mistake: The stride is ignored",
        not_flattened: "the result must have shape",
        ones_for_weights: "Smallest failing case: w (1, 1)",
    },
    "my_zeros_inserted": {
        unturned: "Likely mistake: The filter is not rotated",
        rows_turned_only: "Likely mistake: Only the order of the filter's rows is reversed",
        transposed_filter: "Smallest failing case: x (1, 1)",
        transposed_instead: "Likely mistake: The filter is transposed, w.T",
        padding_taken_literally: "Likely mistake: There are `padding` zeros on each side of x",
        no_zeros_between: "Likely mistake: There are no zeros between neighbouring inputs",
        one_zero_too_many: "Likely mistake: There are `stride` zeros between neighbours",
        zeros_behind: "Likely mistake: Zeros follow the last input, too",
        rows_of_the_filter_for_both: "Likely mistake: The same number of zeros is added to rows and columns",
    },
    "my_counts": {
        along_one_axis: "Likely mistake: These are the counts along one axis",
        squares: "Likely mistake: The counts of row and column may differ",
        a_mean: "Likely mistake: The result is the mean of all counts",
        the_largest: "Likely mistake: Only the largest count is returned",
        always_rounded_up_too: "Smallest failing case: kernel = 1, stride = 1",
        not_sorted_out: "the result must be 2 values, yours has 4",
        all_from_one_on: "Smallest failing case: kernel = 1, stride = 2",
    },
    "my_bilinear": {
        even_for_each_stride: "Likely mistake: K is 2 s for each stride",
        odd_for_each_stride: "Likely mistake: K is 2 s - 1 for each stride",
        unpadded: "Likely mistake: The padding is 0",
        padding_that_keeps_the_size: "Likely mistake: The padding is that of a convolution",
        top_at_half_the_size: "Likely mistake: The top is not in the middle",
        top_on_a_cell: "Likely mistake: The middle is rounded to an integer",
        slope_from_the_size: "Likely mistake: The tent falls by 1 / s per cell",
        sum_of_one: "Likely mistake: The values are normalised to the sum 1",
        smaller_of_two: "Likely mistake: The filter is the minimum of the two tents",
        filter_alone: "the result must be 2 values",
        distance_from_the_middle: "Smallest failing case: stride = 2",
    },
}
