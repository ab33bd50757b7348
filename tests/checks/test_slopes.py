"""Measured slopes and the estimates of their errors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
