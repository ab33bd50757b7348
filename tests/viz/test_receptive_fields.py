import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.functional import conv2d, conv_transpose2d
from minifcn.layers import AvgPool2d, Conv2d, Sequential
from minifcn.viz import convolution_matrix, coverage, receptive_fields

PHOTO = np.zeros((40, 50, 3), np.uint8)


def boxes(figure):
    """Outlined pixels as (top, left, height, width)."""
    return [
        (patch.get_xy()[1] + 0.5, patch.get_xy()[0] + 0.5, patch.get_height(), patch.get_width())
        for patch in figure.axes[0].patches
    ]


@settings(max_examples=10)
@given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(0, 1), st.data())
def test_a_box_is_where_the_gradient_of_one_output_is(stride, wider, pool, padding, data):
    kernel = stride + wider  # a smaller one would leave holes
    padding = min(padding, kernel // 2)
    model = Sequential(Conv2d(1, 1, kernel, stride=stride, padding=padding, rng=0), AvgPool2d(pool))
    model["0"].weight.data[...] = 1
    y = model(np.ones((1, 1, 40, 50), np.float32))
    i, j = (data.draw(st.integers(0, n - 1)) for n in y.shape[2:])
    dy = np.zeros_like(y)
    dy[0, 0, i, j] = 1
    touched = np.argwhere(model.backward(dy)[0, 0])
    grid = model.coordinate_map()
    place = tuple(min(max(round(grid(index)), 0), n - 1) for index, n in ((i, 40), (j, 50)))
    top, left, height, width = boxes(receptive_fields(PHOTO, model, ["1"], place))[0]
    if grid.scale > 1:  # else two outputs may lie equally near
        assert (max(top, 0), max(left, 0)) == tuple(touched.min(axis=0))
        assert (min(top + height, 40), min(left + width, 50)) == tuple(touched.max(axis=0) + 1)
    assert (height, width) == ((pool - 1) * stride + kernel,) * 2


def test_layers_are_named_with_their_sizes():
    model = Sequential(Conv2d(3, 1, 3, rng=0), Conv2d(1, 1, 5, rng=0))
    figure = receptive_fields(PHOTO, model, ["0", "1"], (20, 20))
    assert (
        figure.axes[0].get_xlabel() == "1: layer 0 (Conv2d), 3 x 3 pixels\n2: layer 1 (Conv2d), 7 x 7 pixels"
    )
    assert boxes(figure) == [(19, 19, 3, 3), (17, 17, 7, 7)]
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((-0.5, 49.5), (39.5, -0.5))


@pytest.mark.parametrize(
    ("layers", "place", "message"),
    [
        (["7"], (0, 0), "no layer '7' with a receptive field; there are 0"),
        (["0"], (40, 0), r"place .* 40 x 50, got \(40, 0\)"),
        (["0"], (0, -1), r"place .* got \(0, -1\)"),
    ],
)
def test_what_cannot_be_outlined_is_refused(layers, place, message):
    with pytest.raises(ValueError, match=message):
        receptive_fields(PHOTO, Sequential(Conv2d(3, 1, 3, rng=0)), layers, place)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=20)
def test_coverage_counts_the_patches_over_each_output(size, kernel, stride):
    counts = np.zeros([(size - 1) * stride + kernel] * 2, int)
    for i, j in np.ndindex(size, size):
        counts[i * stride : i * stride + kernel, j * stride : j * stride + kernel] += 1
    axes = coverage([(kernel, stride)], size).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array().filled(0), counts)
    assert axes.get_title() == f"k {kernel}, s {stride}"


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(0, 2**32 - 1))
def test_a_convolution_is_its_matrix_and_the_transposed_one_its_transpose(rows, cols, stride, padding, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(5, 6)), rng.normal(size=(rows, cols))
    y = conv2d(x[None, None], w[None, None], stride=stride, padding=padding)
    matrix = convolution_matrix(w, (5, 6), stride=stride, padding=padding)
    np.testing.assert_allclose(matrix @ x.reshape(-1), y.reshape(-1), atol=1e-12)
    back = conv_transpose2d(y, w[None, None], stride=stride, padding=padding, output_size=(5, 6))
    np.testing.assert_allclose(matrix.T @ y.reshape(-1), back.reshape(-1), atol=1e-12)


def test_a_filter_has_two_axes():
    with pytest.raises(ValueError, match=r"w must be a filter \(KH, KW\), got shape \(1, 1, 3, 3\)"):
        convolution_matrix(np.ones((1, 1, 3, 3)), (4, 4))
