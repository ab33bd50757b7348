import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d

from minifcn.viz import convolution_film, painting_film, zeros_film


@st.composite
def grids(draw):
    """x, w, stride and padding with few outputs, all of them whole numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = [k + draw(st.integers(0, 2)) for k in kernel]
    x, w = rng.integers(-9, 10, size).astype(float), rng.integers(-9, 10, kernel).astype(float)
    return x, w, draw(st.integers(1, 3)), draw(st.integers(0, min(kernel) - 1))


def numbers(axes):
    """The grid of numbers that is written into the cells; NaN for empty ones."""
    shape = axes.images[0].get_array().shape
    grid = np.full(shape, np.nan)
    for text in axes.texts:
        col, row = text.get_position()
        grid[row, col] = float(text.get_text())
    return grid


def some(shape):
    """The first, a middle and the last frame, with their indices: drawing all of them takes long."""
    frames = list(enumerate(np.ndindex(*shape)))
    return [frames[0], frames[len(frames) // 2], frames[-1]]


def box(axes):
    """The outlined cells (top, left, height, width)."""
    (patch,) = (p for p in axes.patches if not p.get_fill())
    left, top = patch.get_xy()
    return top + 0.5, left + 0.5, patch.get_height(), patch.get_width()


def upsampled(x, w, stride):
    """The transposed convolution without padding, by SciPy: zeros inserted, then a full convolution."""
    spread = np.zeros([(n - 1) * stride + 1 for n in x.shape])
    spread[::stride, ::stride] = x
    return convolve2d(spread, w)


def sums_are_right(film):
    for caption in film.captions:
        left, _, right = re.sub(r"^y\[\d+, \d+\] = ", "", caption).rpartition(" = ")
        assert eval(left) == float(right)


@settings(max_examples=8)
@given(grids())
def test_the_window_visits_all_places_and_the_last_frame_shows_all_sums(case):
    x, w, stride, padding = case
    film = convolution_film(x, w, stride=stride, padding=padding)
    expected = correlate2d(np.pad(x, padding), w, mode="valid")[::stride, ::stride]
    sums_are_right(film)
    for k, (i, j) in some(expected.shape):
        left, middle, right = film.figure(k).axes
        assert box(left) == (i * stride, j * stride, *w.shape)
        assert box(right) == (i, j, 1, 1)
        shown = numbers(right)
        assert np.count_nonzero(~np.isnan(shown)) == k + 1
        assert shown[i, j] == expected[i, j]
    np.testing.assert_array_equal(numbers(left), np.pad(x, padding))
    np.testing.assert_array_equal(numbers(middle), w)
    np.testing.assert_array_equal(shown, expected)
    assert len(film.captions) == expected.size


@settings(max_examples=8)
@given(grids())
def test_painting_ends_with_the_transposed_convolution(case):
    x, w, stride, _ = case
    film = painting_film(x, w, stride=stride)
    assert len(film.captions) == x.size
    for k, (i, j) in some(x.shape):
        left, middle, right = film.figure(k).axes
        assert box(left) == (i, j, 1, 1)
        assert box(right) == (i * stride, j * stride, *w.shape)
        np.testing.assert_array_equal(numbers(middle), x[i, j] * w)
    shown, expected = numbers(right), upsampled(x, w, stride)
    painted = convolve2d(upsampled(np.ones_like(x), np.ones((1, 1)), stride), np.ones_like(w)) > 0
    np.testing.assert_array_equal(np.isnan(shown), ~painted)
    np.testing.assert_array_equal(shown[painted], expected[painted])


def test_overlaps_are_told():
    film = painting_film(np.ones((2, 2)), np.ones((3, 3)), stride=2)
    counts = [int(caption.split("; ")[1].split()[0]) for caption in film.captions]
    assert counts == [0, 3, 3, 5]


@settings(max_examples=8)
@given(grids())
def test_zeros_give_the_same_as_painting(case):
    x, w, stride, padding = case
    try:
        film = zeros_film(x, w, stride=stride, padding=padding)
    except ValueError:
        assert min((n - 1) * stride + k - 2 * padding for n, k in zip(x.shape, w.shape, strict=True)) < 1 or (
            np.prod([(n - 1) * stride + k - 2 * padding for n, k in zip(x.shape, w.shape, strict=True)]) > 50
        )
        return
    expected = upsampled(x, w, stride)
    expected = expected[
        padding : expected.shape[0] - padding or None, padding : expected.shape[1] - padding or None
    ]
    sums_are_right(film)
    last = len(film.captions) - 1
    left, middle, right = film.figure(last).axes
    np.testing.assert_array_equal(numbers(right), expected)
    np.testing.assert_array_equal(numbers(middle), w[::-1, ::-1])
    np.testing.assert_array_equal(
        correlate2d(numbers(left), numbers(middle), mode="valid"), expected, "the left grid is the input"
    )


def test_cells_that_hold_no_input_are_grey():
    x, w = np.ones((2, 3)), np.ones((2, 2))
    left, _, _ = convolution_film(x, w, padding=1).figure(0).axes
    grey = {tuple(p.get_xy()) for p in left.patches if p.get_fill()}
    assert len(grey) == 4 * 5 - 2 * 3
    assert (0.5, 0.5) not in grey
    left, _, _ = zeros_film(x, w, stride=2).figure(0).axes
    assert len([p for p in left.patches if p.get_fill()]) == 5 * 7 - 2 * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: convolution_film(np.ones(3), np.ones((1, 1))),
            r"x must be numbers \(H, W\), got shape \(3,\)",
        ),
        (lambda: painting_film(np.ones((2, 2)), np.ones((0, 1))), r"w must be numbers \(H, W\)"),
        (lambda: convolution_film(np.ones((9, 9)), np.ones((1, 1))), "a film has 1 to 50 frames, got 81"),
        (lambda: convolution_film(np.ones((2, 2)), np.ones((3, 1))), "does not fit"),
        (lambda: zeros_film(np.ones((2, 2)), np.ones((3, 3)), padding=3), "padding must be at most 2"),
        (lambda: painting_film(np.ones((1, 1)), np.ones((2, 2)), padding=1), "removes"),
    ],
)
def test_what_cannot_be_filmed_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
