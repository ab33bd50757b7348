"""What all plans of convolutions share."""

import numpy as np
import pytest

from minifcn.kernels.plans import ZEROS, rectify


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (2, 3, 5), (2, len(ZEROS[np.dtype("float32")]) + 1)])
def test_rectify_is_the_maximum_with_zero(xp, dtype, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    x[..., :1] = np.nan
    there = xp.array(x)
    y = there.copy()
    rectify(there, y)
    assert np.array_equal(xp.numpy(y), np.maximum(x, 0), equal_nan=True)
