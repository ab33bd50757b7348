"""Wrong answers to the exercises of lesson 14, and what must be said about each."""

import numpy as np


def stroke(shape, points, radius, *, limit=True, norm=np.hypot):
    """A brush with slots for mistakes."""
    rows, cols = np.indices(shape)
    painted = np.zeros(shape, bool)
    for (a, b), (c, d) in zip(points, points[1:] or points, strict=False):
        t = ((rows - a) * (c - a) + (cols - b) * (d - b)) / max((c - a) ** 2 + (d - b) ** 2, 1e-9)
        t = np.clip(t, 0, 1) if limit else t
        painted |= norm(rows - a - t * (c - a), cols - b - t * (d - b)) <= radius
    return painted


def dots(shape, points, radius):
    return np.any([stroke(shape, [point], radius) for point in points], axis=0)


def endless_lines(shape, points, radius):
    return stroke(shape, points, radius, limit=False)


def x_and_y(shape, points, radius):
    return stroke(shape, [(y, x) for x, y in points], radius)


def square_brush(shape, points, radius):
    return stroke(shape, points, radius, norm=lambda y, x: np.maximum(abs(y), abs(x)))


def half_as_wide(shape, points, radius):
    return stroke(shape, points, radius / 2)


def back_to_the_start(shape, points, radius):
    return stroke(shape, [*points, points[0]], radius)


def one_line(shape, points, radius):
    return stroke(shape, points[:2], radius)


def overwritten(shape, points, radius):
    return stroke(shape, points[-2:], radius)


def no_dots(shape, points, radius):
    return stroke(shape, points, radius) if len(points) > 1 else np.zeros(shape, bool)


def sum_of_distances(shape, points, radius):
    return stroke(shape, points, radius, norm=lambda y, x: abs(y) + abs(x))


def place(margin):
    row, column = np.unravel_index(margin.argmin(), margin.shape)
    return int(row), int(column)


def ordered(p):
    return np.sort(p, axis=0)


def largest_margin(p):
    return place(ordered(p)[-2] - ordered(p)[-1])


def smallest_of_the_best(p):
    return place(p.max(axis=0))


def column_and_row(p):
    return place(ordered(p)[-1] - ordered(p)[-2])[::-1]


def range_of_all(p):
    return place(np.ptp(p, axis=0))


def index(p):
    return int((ordered(p)[-1] - ordered(p)[-2]).argmin())


def counted_down(p):
    margin = ordered(p)[-1] - ordered(p)[-2]
    return divmod(int(margin.argmin()), margin.shape[0])


def always_the_first(p):
    return 0, 0


WRONG = {
    "my_stroke": {
        dots: "Likely mistake: Only the points are painted",
        endless_lines: "Likely mistake: The lines go on beyond their ends",
        x_and_y: "Likely mistake: Rows and columns are swapped",
        square_brush: "Likely mistake: The brush is a square",
        half_as_wide: "Likely mistake: The brush is half as wide",
        back_to_the_start: "Likely mistake: The last point is connected with the first one",
        one_line: "Likely mistake: Only the first line is painted",
        overwritten: "Likely mistake: Only the last line is painted",
        no_dots: "points = [(0, 0)]",
        sum_of_distances: "Smallest failing case: shape",
    },
    "my_next_place": {
        largest_margin: "Likely mistake: This is the most certain pixel",
        smallest_of_the_best: "Likely mistake: The largest probability is smallest there",
        column_and_row: "Likely mistake: Row and column are swapped",
        range_of_all: "Likely mistake: The largest probability is compared with the smallest",
        index: "Likely mistake: This is a flat index",
        counted_down: "Likely mistake: Rows and columns are counted in the wrong order",
        always_the_first: "Smallest failing case: p (2, 1, ",
    },
}
