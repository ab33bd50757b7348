"""Wrong answers to the exercises of lesson 12, and what must be said about each."""

import numpy as np


def by_definition(d, g):
    return d[0] * g[0] + d[1] * g[1] + d[2] * g[2], d[1] * g[0] + d[2] * g[1] + d[3] * g[2]


def by_matrices(d, g, sign=1):
    """F(2, 3), with a slot for a mistake."""
    at = np.array([[1, 1, 1, 0], [0, 1, -1, -sign]])
    gm = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    return at @ ((gm @ g) * (bt @ d))


def last_sign(d, g):
    return by_matrices(d, g, -1)


def first_sum(d, g):
    m1, m4 = (d[0] + d[2]) * g[0], (d[1] - d[3]) * g[2]
    m2, m3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
    return m1 + m2 + m3, m2 - m3 - m4


def last_sum(d, g):
    m1, m4 = (d[0] - d[2]) * g[0], (d[1] + d[3]) * g[2]
    m2, m3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
    return m1 + m2 + m3, m2 - m3 - m4


def only_the_two_given(d, g):
    m2, m3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
    return m2 + m3, m2 - m3


def filter_turned(d, g):
    return by_matrices(d, g[::-1])


def outputs_exchanged(d, g):
    y0, y1 = by_matrices(d, g)
    return y1, y0


def five_products(d, g):
    m2, m3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
    return (d[0] - d[2]) * g[0] + m2 + m3, m2 - m3 - d[1] * g[2] + d[3] * g[2]


def one_output(d, g):
    return (by_matrices(d, g)[0],)


def rounded_down(channels, filters, height, width, m):
    return (height // m) * (width // m) * (m + 2) * (m + 2) * channels * filters


def rounded_as_area(channels, filters, height, width, m):
    return int(np.ceil(height * width / (m * m))) * (m + 2) ** 2 * channels * filters


def tiles_of_outputs(channels, filters, height, width, m):
    return int(np.ceil(height / m)) * int(np.ceil(width / m)) * m * m * channels * filters


def nine_an_output(channels, filters, height, width, m):
    return 9 * height * width * channels * filters


def not_squared(channels, filters, height, width, m):
    return int(np.ceil(height / m)) * int(np.ceil(width / m)) * (m + 2) * channels * filters


def channels_forgotten(channels, filters, height, width, m):
    return int(np.ceil(height / m)) * int(np.ceil(width / m)) * (m + 2) ** 2 * filters


def not_rounded(channels, filters, height, width, m):
    return height / m * width / m * (m + 2) ** 2 * channels * filters


def one_tile(channels, filters, height, width, m):
    return (m + 2) ** 2 * channels * filters


def as_it_was(xp, x):
    means = np.array([float(channel.mean()) for channel in x])
    framed = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - means[:, None, None]
    return framed * np.linspace(0, 1, framed.shape[2])


def frame_by_numpy(xp, x):
    framed = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - x.mean(axis=(1, 2), keepdims=True)
    return framed * xp.linspace(0, 1, framed.shape[2])


def ramp_by_numpy(xp, x):
    framed = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - x.mean(axis=(1, 2), keepdims=True)
    return framed * np.linspace(0, 1, framed.shape[2])


def number_by_number(xp, x):
    framed = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    for c, i, j in np.ndindex(x.shape):
        framed[c, i + 1, j + 1] = float(x[c, i, j]) - float(x[c].mean())
    return framed * np.linspace(0, 1, framed.shape[2])


def means_one_by_one(xp, x):
    means = xp.asarray([float(channel.mean()) for channel in x])
    padded = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    padded[:, 1:-1, 1:-1] = x - means[:, None, None]
    return padded * xp.linspace(0, 1, padded.shape[2])


def one_mean(xp, x):
    framed = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - x.mean()
    return framed * xp.linspace(0, 1, framed.shape[2])


def top_to_bottom(xp, x):
    framed = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - x.mean(axis=(1, 2), keepdims=True)
    return framed * xp.linspace(0, 1, framed.shape[1])[:, None]


def mean_stays(xp, x):
    framed = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x
    return framed * xp.linspace(0, 1, framed.shape[2])


def right_to_left(xp, x):
    framed = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    framed[:, 1:-1, 1:-1] = x - x.mean(axis=(1, 2), keepdims=True)
    return framed * xp.linspace(1, 0, framed.shape[2])


def no_frame(xp, x):
    return (x - x.mean(axis=(1, 2), keepdims=True)) * xp.linspace(0, 1, x.shape[2])


WRONG = {
    "my_four_products": {
        by_definition: "Likely mistake: These are six products",
        last_sign: "Likely mistake: The sign of m4 is wrong",
        first_sum: "Likely mistake: m1 adds d2 times g0",
        last_sum: "Likely mistake: m4 adds d1 and d3",
        only_the_two_given: "2 products of data and filter were computed; expected 4",
        filter_turned: "Likely mistake: The filter is reversed",
        outputs_exchanged: "Likely mistake: y0 and y1 are swapped",
        five_products: "5 products of data and filter were computed; expected 4",
        one_output: "the result must be 2 values, yours has 1",
    },
    "my_products": {
        rounded_down: "Likely mistake: Tiles that extend beyond the output are left out",
        rounded_as_area: "Likely mistake: The area is rounded up",
        tiles_of_outputs: "Likely mistake: A tile has m + 2 rows and columns",
        nine_an_output: "Likely mistake: This is the count of the definition",
        not_squared: "Likely mistake: Only one row of the tile is counted",
        channels_forgotten: "Likely mistake: Each pair of a channel and a filter",
        not_rounded: "the result must be 16, yours is 4",
        one_tile: "height = 1, width = 3, m = 2",
    },
    "my_fade": {
        as_it_was: "Likely mistake: An array made by np",
        frame_by_numpy: "Likely mistake: The border is made by np",
        ramp_by_numpy: "Likely mistake: An array made by np",
        number_by_number: "x is on the GPU, but the result is not",
        means_one_by_one: "float(...) waits for the GPU 1 times",
        one_mean: "Likely mistake: The mean of all channels is subtracted",
        top_to_bottom: "Likely mistake: The values rise from top to bottom",
        mean_stays: "Likely mistake: The means are not subtracted",
        right_to_left: "Likely mistake: The values rise from right to left",
        no_frame: "the result must have shape",
    },
}
