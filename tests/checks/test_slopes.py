"""Measured slopes, the errors that are claimed for them, and the words for what is found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.checks.failure import constant_ratio, worst_entry
from minifcn.checks.slopes import kink, measure_slope


def measure(function, at=0.0, rounding=1e-16, scale=1.0):
    return measure_slope(
        lambda t: function(at + t) - function(at), scale=scale, rounding=rounding, tolerance=1e-6
    )


@given(st.floats(-3, 3))
def test_smooth_functions_are_measured_to_ten_digits(at):
    for function, slope in ((math.sin, math.cos(at)), (math.exp, math.exp(at)), (abs, math.copysign(1, at))):
        if function is not abs or abs(at) > 1e-2:
            measured, error = measure(function, at)
            assert error < 1e-8
            assert measured == pytest.approx(slope, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("distance", [3e-4, 3e-5, 3e-6])
def test_a_kink_nearby_is_avoided_by_smaller_steps(distance):
    measured, error = measure(lambda t: max(t, 0.0), at=distance)
    assert measured == pytest.approx(1, rel=1e-6)
    assert error < 1e-6


def test_a_kink_too_near_shows_in_the_error():
    measured, error = measure(lambda t: max(t, 0.0), at=2e-7)
    assert measured != pytest.approx(1, rel=0.1)
    assert error > 1e-4


def test_the_best_step_is_kept_where_noise_makes_small_ones_worse():
    measured, error = measure(lambda t: t + 1e-8 * math.sin(1e9 * t))
    assert 1e-9 < error < 1e-3  # at the smallest step it would be about 1e-2
    assert abs(measured - 1) < 1e-3


def test_kinks_are_told_from_curvature():
    assert kink(abs, 1.0) == pytest.approx((-1, 1))
    assert kink(lambda t: max(t, 0.0), 1e3) == pytest.approx((0, 1))
    assert kink(lambda t: 1e3 * t * t + t, 1.0) is None
    assert kink(math.sin, 1.0) is None


def test_the_worst_entry():
    expected, got = np.array([[1.0, 0.0], [3.0, -4.0]]), np.array([[1.1, 0.5], [3.0, -4.2]])
    assert worst_entry(expected, got) == "at [0, 1] expected 0, got 0.5"
    got[1, 0] = np.nan
    assert worst_entry(expected, got) == "at [1, 0] expected 3, got nan (relative error nan)"


def test_a_constant_ratio_is_named_and_only_a_constant_one():
    right = np.array([1.0, -2.0, 0.0])
    assert constant_ratio(right, right * 0.25) == "; it is everywhere 0.25 times what it should be"
    assert constant_ratio(right, right * 2) == "; it is everywhere 2 times too large"
    assert constant_ratio(right, -right) == "; it is everywhere -1 times what it should be: the sign is wrong"
    assert constant_ratio(right, right * 0) == "; it is zero everywhere"
    assert constant_ratio(right, np.array([1.01, -2.02, 1e-4])) == ""
    assert constant_ratio(right * 0, right) == ""
    assert constant_ratio(right[:1], 2 * right[:1]) == ""
