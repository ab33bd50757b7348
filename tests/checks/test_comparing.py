import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.checks.comparing import constant_ratio, in_place, problem_with, short_value, worst_entry

NUMBERS = st.integers(-(10**6), 10**6).map(lambda n: n / 8) | st.sampled_from([np.nan, np.inf, -np.inf])
ARRAYS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), elements=NUMBERS)


@given(ARRAYS)
def test_an_answer_has_no_problem_with_itself(array):
    assert problem_with(array.copy(), array, 1e-6) == ""
    assert problem_with([array, [array]], (array, (array.copy(),)), 1e-6) == ""


@given(ARRAYS, st.data())
def test_one_changed_number_is_found_where_it_is(array, data):
    index = data.draw(st.tuples(*(st.integers(0, n - 1) for n in array.shape)))
    wrong = array.copy()
    scale = max([abs(x) for x in array.ravel() if np.isfinite(x)] or [1.0]) or 1.0
    wrong[index] = 0.0 if not np.isfinite(array[index]) else array[index] + scale
    problem = problem_with(wrong, array, 1e-6)
    assert f"at {list(index)} " in problem if array.ndim else problem.startswith("the result must be ")


@pytest.mark.parametrize(
    ("got", "right", "problem"),
    [
        (1.0 + 1e-9, 1.0, ""),
        (True, np.True_, ""),
        ("same", "same", ""),
        ("other", "same", "the result must be 'same', yours is 'other'"),
        (2, 1, "the result must be 1, yours is 2"),
        (np.array(3), np.zeros(2), "the result must have shape (2,), yours has ()"),
        ({}, np.zeros(2), "the result must be an array (2,), yours is of type dict"),
        (5, (1, 2), "the result must be 2 values, yours is of type int"),
        ((1,), (1, 2), "the result must be 2 values, yours has 1"),
        ((1, 3), (1, 2), "value 2 of 2: the result must be 2, yours is 3"),
        (np.array([2.0, 4.0]), np.array([1.0, 2.0]), "every element is 2 times too large"),
    ],
)
def test_problems_in_words(got, right, problem):
    found = problem_with(got, right, 1e-6)
    assert found == problem or (len(problem) > 0 and found.endswith(problem))


def test_arguments_in_words():
    assert short_value(np.arange(6).reshape(1, 2, 3)) == "(1, 2, 3) = [[[0, 1, 2], [3, 4, 5]]]"
    assert short_value(np.arange(13)) == "(13,)"
    assert short_value((1, 2)) == "= (1, 2)"


def test_the_worst_entry():
    expected, got = np.array([[1.0, 0.0], [3.0, -4.0]]), np.array([[1.1, 0.5], [3.0, -4.2]])
    assert worst_entry(expected, got) == "at [0, 1] expected 0, got 0.5"
    got[1, 0] = np.nan
    assert worst_entry(expected, got) == "at [1, 0] expected 3, got nan (relative error nan)"


def test_a_constant_ratio_is_named_and_only_a_constant_one():
    right = np.array([1.0, -2.0, 0.0])
    assert constant_ratio(right, right * 0.25) == "; every element is 0.25 times the expected value"
    assert constant_ratio(right, right * 2) == "; every element is 2 times too large"
    assert constant_ratio(right, -right) == (
        "; every element is -1 times the expected value, the sign is wrong"
    )
    assert constant_ratio(right, right * 0) == "; every element is 0"
    assert constant_ratio(right, np.array([1.01, -2.02, 1e-4])) == ""
    assert constant_ratio(right * 0, right) == ""
    assert constant_ratio(right[:1], 2 * right[:1]) == ""


def test_a_negative_zero_is_written_without_sign():
    """-1 * 0 is written as 0, so that two ways of computing it give the same message."""
    assert worst_entry(np.array([1.0]), np.array([-0.0])) == "at [0] expected 1, got 0 (relative error 1)"


def test_the_first_array_that_was_changed_is_named():
    x, y = np.array([1.0, np.nan]), np.zeros(2)
    assert in_place("f", {"x": x, "y": y, "n": 3}, {"x": x.copy(), "y": y, "n": 3}) == ""
    assert in_place("f", {"x": x, "y": y}, {"x": x.copy(), "y": y + 1}).startswith("f changes y in place")
