import numpy as np

from minifcn.checks.failure import worst_entry


def test_a_zero_has_no_sign():
    """A learner's -1 * 0 reads as 0, and two ways to come to it give one sentence."""
    assert worst_entry(np.array([1.0]), np.array([-0.0])) == "at [0] expected 1, got 0 (relative error 1)"
