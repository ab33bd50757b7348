"""The transposed convolution compared with zero insertion and with its matrix, and its output sizes."""

import itertools

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn import functional as F
from minifcn.checks import ConvCase, check_adjoint
from minifcn.checks.strategies import conv_geometries
from minifcn.geometry import ConvGeometry

STRIDED = ConvGeometry.of(4, stride=2)
ALGORITHMS = ("auto", *F.algorithms_for("conv2d_input_grad", STRIDED))


def by_zero_insertion(x, w, case, output_size):
    """Insert s - 1 zeros between the inputs, convolve in full with the kernel (SciPy flips it), and crop."""
    (s, t), ((p, _), (q, _)), (d, e) = case.stride, case.sides, case.dilation
    (n, c, h, width), (_, per_group, kh, kw) = x.shape, w.shape
    spaced = np.zeros((n, c, (h - 1) * s + 1, (width - 1) * t + 1))
    spaced[:, :, ::s, ::t] = x
    kernels = np.zeros((c, per_group, d * (kh - 1) + 1, e * (kw - 1) + 1))
    kernels[:, :, ::d, ::e] = w
    y = np.zeros((n, per_group * case.groups, *output_size))
    for image, channel, o in np.ndindex(n, c, per_group):
        full = scipy.signal.convolve2d(spaced[image, channel], kernels[channel, o], mode="full")
        full = np.pad(full, ((0, s), (0, t)))[p : p + output_size[0], q : q + output_size[1]]
        y[image, channel // (c // case.groups) * per_group + o] += full
    return y


@settings(max_examples=300)
@given(conv_geometries(), st.sampled_from(ALGORITHMS))
def test_it_is_zero_insertion_and_a_flipped_kernel(case, algorithm):
    _, w, x = case.operands()
    y = F.conv_transpose2d(x, w, output_size=case.input_size, algorithm=algorithm, **case.options)
    np.testing.assert_allclose(y, by_zero_insertion(x, w, case, case.input_size), rtol=0, atol=1e-12)


@given(conv_geometries())
def test_it_is_the_adjoint_of_the_convolution_with_the_same_array(case):
    _, w, x = case.operands()

    def up(x):
        return F.conv_transpose2d(x, w, output_size=case.input_size, **case.options)

    def down(y):
        return F.conv2d(y, w, **case.options)

    check_adjoint(up, down, x.shape)
    check_adjoint(down, up, (case.batch, case.in_channels, *case.input_size))


@settings(max_examples=50)
@given(conv_geometries(max_batch=1, max_channels=2, max_groups=2, max_outputs=2, max_kernel=3))
def test_its_matrix_is_the_transpose_of_the_matrix_of_the_convolution(case):
    def matrix(function, shape):
        units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
        return np.stack([function(unit[None]).ravel() for unit in units], axis=1)

    _, w, x = case.operands()
    down = matrix(lambda y: F.conv2d(y, w, **case.options), (case.in_channels, *case.input_size))
    up = matrix(lambda x: F.conv_transpose2d(x, w, output_size=case.input_size, **case.options), x.shape[1:])
    np.testing.assert_allclose(up, down.T, rtol=0, atol=1e-12)


@given(conv_geometries())
def test_it_is_the_input_gradient(case):
    _, w, x = case.operands()
    np.testing.assert_array_equal(
        F.conv_transpose2d(x, w, output_size=case.input_size, **case.options),
        F.conv2d_input_grad(x, w, input_size=case.input_size, **case.options),
    )


@given(conv_geometries())
def test_output_padding_and_output_size_are_equivalent(case):
    _, w, x = case.operands()
    np.testing.assert_array_equal(
        F.conv_transpose2d(x, w, output_padding=case.output_padding, **case.options),
        F.conv_transpose2d(x, w, output_size=case.input_size, **case.options),
    )


@settings(max_examples=60)
@given(conv_geometries(max_channels=1, max_groups=1, max_batch=1))
def test_every_size_in_the_range_works_and_its_neighbours_raise(case):
    _, w, x = case.operands()

    def outputs(size, axis):  # counted one by one
        k, s, p, d = (pair[axis] for pair in (case.kernel_size, case.stride, case.sides, case.dilation))
        return len(range(-p[0], size + p[1] - d * (k - 1), s))

    valid = [
        [size for size in range(1, 40) if outputs(size, axis) == case.output_size[axis]] for axis in (0, 1)
    ]
    for size in itertools.product(*valid):
        y = F.conv_transpose2d(x, w, output_size=size, **case.options)
        assert y.shape[2:] == size
        np.testing.assert_allclose(y, by_zero_insertion(x, w, case, size), rtol=0, atol=1e-12)
    lo, hi = ((axis[0], axis[-1]) for axis in valid)
    text = f"from ({lo[0]}, {hi[0]}) to ({lo[1]}, {hi[1]})"
    outside = [(lo[0] - 1, hi[0]), (lo[1] + 1, hi[0]), (lo[0], hi[0] - 1), (lo[0], hi[1] + 1)]
    for size in outside:
        if min(size) < 1:
            continue
        with pytest.raises(ValueError, match="output_size") as caught:
            F.conv_transpose2d(x, w, output_size=size, **case.options)
        assert text in str(caught.value)
        with pytest.raises(ValueError, match=r"valid input sizes|does not fit"):
            F.conv2d_input_grad(x, w, input_size=size, **case.options)


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 3, 3, (160, 128), (64, 64), (32, 32)),  # FCN-32s
        ConvCase(1, 2, 2, (63, 95), (63, 63), (32, 32)),  # AlexNet's
        ConvCase(2, 4, 4, (34, 40), (16, 16), (8, 8), (4, 4), groups=4),
        ConvCase(1, 2, 3, (43, 44), (4, 4), (2, 2), (1, 1)),
        ConvCase(1, 3, 2, (60, 61), (5, 3), (3, 2), (2, 0), (2, 3)),
        ConvCase(2, 3, 5, (33, 30), (3, 3), (1, 1), (1, 1)),
        ConvCase(1, 1, 1, (13, 13), (2, 2), (5, 5)),  # positions that depend on no tap
    ],
    ids=str,
)
def test_the_upsampling_of_real_networks(case):
    _, w, x = case.operands()
    expected = by_zero_insertion(x, w, case, case.input_size)
    for algorithm in ALGORITHMS:
        if algorithm != "loops" or case.kernel_size[0] <= 16:  # for larger kernels, loops take minutes
            y = F.conv_transpose2d(x, w, output_size=case.input_size, algorithm=algorithm, **case.options)
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10, err_msg=algorithm)


def test_output_padding_adds_values_not_zeros():
    """An output of a larger size is the smaller one, continued at its end."""
    x, w = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))
    y = F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)
    assert y.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(y[0, 0, -1], [1, 2, 1, 1])
    np.testing.assert_array_equal(y[..., :3, :3], F.conv_transpose2d(x, w, stride=2, padding=1))


def test_bias_dtype_and_library(xp):
    case = ConvCase(2, 4, 6, (8, 7), (3, 2), (2, 3), (1, 0), (1, 2), 2)
    _, w, x = (a.astype(np.float32) for a in case.operands())
    b = np.arange(4, dtype=np.float32)
    right = by_zero_insertion(x, w, case, case.input_size) + b[:, None, None]
    moved = [xp.array(a) for a in (x, w, b)]
    for algorithm in ALGORITHMS:
        y = F.conv_transpose2d(*moved, output_size=case.input_size, algorithm=algorithm, **case.options)
        back = xp.numpy(y)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, right, rtol=0, atol=1e-5)
    for before, after in zip((x, w, b), moved, strict=True):
        np.testing.assert_array_equal(xp.numpy(after), before)


@pytest.mark.parametrize("factor", [2, 4, 8, 16, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("odd", [0, 1], ids=["between pixels", "on pixels"])
def test_the_upsampling_of_fcn_in_every_library(xp, factor, odd):
    """Depthwise kernels of 2 f and 2 f - 1, forward and both gradients, by every algorithm."""
    size = 2 * factor - odd
    geometry = ConvGeometry.of(size, factor, groups=3)
    w = F.bilinear_kernel(3, factor, size, dtype="float64")
    rng = np.random.default_rng(factor)
    x = rng.normal(size=(2, 3, 3, 2))
    outputs = (2 * factor + size, factor + size)
    dy = rng.normal(size=(2, 3, *outputs))
    case = ConvCase(2, 3, 3, outputs, (size, size), (factor, factor), groups=3)
    y = by_zero_insertion(x, w, case, outputs)
    there = {name: xp.array(array) for name, array in (("x", x), ("w", w), ("dy", dy))}
    options = {"stride": factor, "groups": 3}
    for algorithm in ("auto", *F.algorithms_for("conv2d_input_grad", geometry)):
        up = F.conv_transpose2d(there["x"], there["w"], algorithm=algorithm, **options)
        np.testing.assert_allclose(xp.numpy(up), y, rtol=0, atol=1e-12)
    for algorithm in ("auto", *F.algorithms_for("conv2d", geometry)):
        dx = xp.numpy(F.conv2d(there["dy"], there["w"], algorithm=algorithm, **options))
        assert np.isclose(np.vdot(dx, x), np.vdot(dy, y), rtol=1e-10)
    for algorithm in ("auto", *F.algorithms_for("conv2d_weight_grad", geometry)):
        dw = F.conv2d_weight_grad(
            there["dy"], there["x"], kernel_size=size, algorithm=algorithm, **options
        )  # the map is linear in w, too
        assert np.isclose(np.vdot(xp.numpy(dw), w), np.vdot(dy, y), rtol=1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_empty_batch(algorithm):
    y = F.conv_transpose2d(np.ones((0, 2, 3, 3)), np.ones((2, 5, 4, 4)), stride=2, algorithm=algorithm)
    assert y.shape == (0, 5, 8, 8)
