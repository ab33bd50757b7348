import numpy as np
import pytest

from minifcn.functional import bilinear_kernel, conv_transpose2d


@pytest.mark.parametrize("stride", range(1, 9))
@pytest.mark.parametrize("odd", [0, 1])
def test_it_interpolates_linearly_between_centres(stride, odd):
    size = 2 * stride - odd
    kernel = bilinear_kernel(2, stride, size, dtype="float64")
    assert kernel.shape == (2, 1, size, size)
    x = np.random.default_rng(stride).normal(size=(1, 2, 4, 5))
    y = conv_transpose2d(x, kernel, stride=stride, groups=2)
    # Input i lies at i * stride + (size - 1) / 2; beyond the outermost ones the image is 0.
    expected = y.copy()
    for channel in (0, 1):
        for i, j in np.ndindex(y.shape[2:]):
            place = [(at - (size - 1) / 2) / stride for at in (i, j)]
            low = np.floor(place).astype(int)
            a, b = place - low
            corners = np.pad(x[0, channel], 1)[low[0] + 1 : low[0] + 3, low[1] + 1 : low[1] + 3]
            weights = np.outer([1 - a, a], [1 - b, b])[: corners.shape[0], : corners.shape[1]]
            expected[0, channel, i, j] = (weights * corners).sum()
    assert np.allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("stride", "size"), [(2, 4), (2, 3), (3, 6), (32, 64), (32, 63), (1, 2), (1, 1)])
def test_it_equals_the_reference(stride, size):
    """The formula of `surgery.upsample_filt` in the code of the FCN authors."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    tent = 1 - abs(np.arange(size) - center) / factor
    expected = tent[:, None] * tent
    assert np.array_equal(bilinear_kernel(1, stride, size, dtype="float64")[0, 0], expected)


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_a_constant_stays_constant_inside_the_border(stride):
    for size in (2 * stride, 2 * stride - 1):
        y = conv_transpose2d(
            np.ones((1, 1, 5, 5)), bilinear_kernel(1, stride, size, dtype="float64"), stride=stride
        )
        assert np.allclose(y[:, :, stride:-stride, stride:-stride], 1, rtol=1e-14)


def test_width_and_dtype():
    assert bilinear_kernel(3, 4).shape == (3, 1, 8, 8)
    assert bilinear_kernel(3, 4).dtype == np.float32
    assert bilinear_kernel(np.int64(1), np.int64(2), dtype="float64").dtype == np.float64
    kernel = bilinear_kernel(2, 2)
    kernel[0] = 0
    assert kernel[1].any()  # the channels do not share memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2), "channels must be an integer >= 1, got 0"),
        ((1, 0), "stride must be an integer >= 1, got 0"),
        ((1, 1.5), "stride must be an integer >= 1, got 1.5"),
        ((1, 4, 5), "kernel_size for stride 4 must be one of 8, 7, got 5"),
        ((1, 4, 9), "kernel_size for stride 4 must be one of 8, 7, got 9"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        bilinear_kernel(*arguments)


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_other_dtypes_raise(dtype):
    with pytest.raises((TypeError, ValueError), match=dtype):
        bilinear_kernel(1, 2, dtype=dtype)
