"""Arrays of odd kinds, and absurd numbers, are refused by name, before memory or time is taken for them."""

import time
import tracemalloc

import numpy as np
import pytest

from minifcn import functional as F
from minifcn.losses import softmax_cross_entropy

X, W, C = np.ones((1, 2, 4, 4)), np.ones((2, 2, 3, 3)), np.ones(2)
LABELS = np.zeros((1, 4, 4), np.uint8)
CACHE = F.batch_norm(X, C, C, C, C)[1]

MAPS = {
    "relu": lambda a: F.relu(a),
    "relu out": lambda a: F.relu(X, out=a),
    "relu_grad": lambda a: F.relu_grad(a, X),
    "relu_grad y": lambda a: F.relu_grad(X, a),
    "softmax": lambda a: F.softmax(a),
    "softmax_grad": lambda a: F.softmax_grad(a, X),
    "conv2d": lambda a: F.conv2d(a, W),
    "conv2d_input_grad": lambda a: F.conv2d_input_grad(a, W, input_size=(6, 6)),
    "conv2d_weight_grad": lambda a: F.conv2d_weight_grad(X, a, kernel_size=1),
    "conv2d_bias_grad": lambda a: F.conv2d_bias_grad(a),
    "conv_transpose2d": lambda a: F.conv_transpose2d(a, W),
    "max_pool2d": lambda a: F.max_pool2d(a, 2),
    "max_pool2d_grad": lambda a: F.max_pool2d_grad(a, X.astype(int), input_size=(4, 4), kernel_size=1),
    "avg_pool2d": lambda a: F.avg_pool2d(a, 2),
    "avg_pool2d_grad": lambda a: F.avg_pool2d_grad(a, input_size=(4, 4), kernel_size=1),
    "local_response_norm": lambda a: F.local_response_norm(a),
    "local_response_norm_grad": lambda a: F.local_response_norm_grad(a, X, X),
    "batch_norm": lambda a: F.batch_norm(a, C, C, C, C),
    "batch_norm_grad": lambda a: F.batch_norm_grad(a, C, CACHE, of_batch=True),
    "softmax_cross_entropy": lambda a: softmax_cross_entropy(a, LABELS),
}


class Subclass(np.ndarray):
    pass


REFUSED = {
    "masked": np.ma.masked_array(X, mask=X > 0),
    "subclass": X.view(Subclass),
    "objects": X.astype(object),
    "fields": np.zeros(X.shape, [("a", "f8")]),
    "byte order": X.astype(X.dtype.newbyteorder("S")),
    "integers": X.astype(int),
    "half": X.astype(np.float16),
    "texts": np.full(X.shape, "a"),
    "list": X.tolist(),
    "number": 1.0,
    "None": None,
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", MAPS)
def test_arrays_of_other_kinds_are_refused_by_name(name, kind):
    if name == "relu out" and kind == "None":
        return
    with pytest.raises((TypeError, ValueError), match=r"(x|dy|y|out|scores) must be") as caught:
        MAPS[name](REFUSED[kind])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in MAPS if "out" not in name])
def test_views_and_read_only_arrays_give_the_same_numbers(name):
    values = np.random.default_rng(0).normal(size=X.shape)
    expected = MAPS[name](values.copy())
    turned = np.ascontiguousarray(values[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    fixed = values.copy()
    fixed.setflags(write=False)
    for same in (turned, fixed, np.asfortranarray(values)):
        found = MAPS[name](same)
        if isinstance(found, tuple):
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


HUGE = [2**31, 2**62, 2**63, 2**64, 10**30, 10**5000]
WINDOWS = [
    lambda **window: F.conv2d(X, np.ones((2, 2, 1, 1)), **window),
    lambda **window: F.conv2d_input_grad(X, np.ones((2, 2, 1, 1)), input_size=(4, 4), **window),
    lambda **window: F.conv2d_weight_grad(X, X, kernel_size=1, **window),
    lambda **window: F.conv_transpose2d(X, np.ones((2, 2, 1, 1)), **window),
]
POOLS = [lambda **window: F.max_pool2d(X, 2, **window), lambda **window: F.avg_pool2d(X, 2, **window)]


@pytest.mark.parametrize("value", HUGE, ids=lambda value: f"{value.bit_length()} bits")
def test_what_cannot_be_an_index_is_refused(value):
    for name, maps in {"stride": WINDOWS + POOLS, "padding": WINDOWS + POOLS, "dilation": WINDOWS}.items():
        for function in maps:
            with pytest.raises(ValueError, match=f"{name} must be an integer <= 2147483647, got "):
                function(**{name: value})


ABSURD = [2**10, 2**20, 2**31 - 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", ABSURD)
def test_large_strides_take_no_more_than_small_ones(stride, dtype):
    """There is one output, and each algorithm gives the numbers of stride 4."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.normal(size=shape).astype(dtype) for shape in ((1, 2, 4, 4), (3, 2, 3, 3), (1, 3, 1, 1)))
    started = time.perf_counter()
    tracemalloc.start()
    for name, function in {
        "conv2d": lambda **o: F.conv2d(x, w, **o),
        "conv2d_input_grad": lambda **o: F.conv2d_input_grad(dy, w, input_size=(4, 4), **o),
        "conv2d_weight_grad": lambda **o: F.conv2d_weight_grad(x, dy, kernel_size=3, **o),
    }.items():
        expected = function(stride=4)
        for algorithm in F.algorithms_for(name, F.convolution.ConvGeometry.of(3, 4)):
            found = function(stride=stride, algorithm=algorithm)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(X, W, padding=2**30, dilation=2**30), "image with padding must have at most"),
        (lambda: F.conv_transpose2d(X, W, stride=2**30), "image with padding must have at most"),
        (lambda: F.max_pool2d(X, 10**6, padding=2, ceil_mode=True), "kernel_size must have at most 262144"),
        (lambda: F.bilinear_kernel(1, 2**31), "stride must be an integer <= 4096"),
        (lambda: F.bilinear_kernel(2**62, 1), "channels must be an integer <= 65536"),
        (lambda: F.algorithms_for("x"), "operation must be one of"),
        (lambda: F.algorithms_for("conv2d", 3), "geometry must be a ConvGeometry, got 3"),
        (lambda: F.conv2d(X, W, algorithm=[]), r"must be one of .* got \[\]"),
        (lambda: F.softmax(np.array(1.0)), "x must have at least one axis"),
        (lambda: F.softmax(np.ones((3, 0))), "x must have at least one element along axis 1"),
        (lambda: F.softmax(X, axis=4), "axis must be an integer <= 3, got 4"),
        (lambda: F.softmax_grad(X, X, axis=1.5), "axis must be an integer"),
        (lambda: F.relu(X, out=X[:, :1]), "out must be a writable array"),
        (lambda: F.local_response_norm(X, alpha=float("nan")), "alpha must be a finite number, got nan"),
        (lambda: F.local_response_norm(X, k=10**5000), "k must be a finite number"),
        (lambda: F.local_response_norm_grad(X, X, X[:, :1]), "shapes differ"),
        (lambda: F.batch_norm(X, np.ones(3), C, C, C), r"gamma must have shape \(2,\), .* got \(3,\)"),
        (lambda: F.batch_norm_grad(X, np.ones(1), CACHE, of_batch=True), r"gamma must have shape \(2,\)"),
        (lambda: F.avg_pool2d_grad(X, input_size="x", kernel_size=1), "input_size must be an integer"),
    ],
)
def test_absurd_values_are_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("name", [name for name in MAPS if "out" not in name])
def test_no_images(name):
    """Zero images are a batch like any other."""
    empty = {"relu_grad": F.relu_grad, "relu_grad y": F.relu_grad, "softmax_grad": F.softmax_grad}
    x = X[:0]
    if name in empty:
        assert empty[name](x, x).shape == x.shape
    elif name in ("conv2d_weight_grad", "max_pool2d_grad", "local_response_norm_grad", "batch_norm_grad"):
        with pytest.raises(ValueError, match=r"shapes differ|gives|one shape"):
            MAPS[name](x)
    elif name == "softmax_cross_entropy":
        assert softmax_cross_entropy(x, LABELS[:0])[0] == 0
    else:
        MAPS[name](x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_spread_no_further_than_the_definition(value):
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    x[0, 1, 2, 3] = value
    there = np.zeros(x.shape, bool)
    there[0, 1, 2, 3] = True
    with np.errstate(invalid="ignore"):
        assert (~np.isfinite(F.relu(x)) == there).all()
        assert (~np.isfinite(F.max_pool2d(x, 2)) == there[:, :, ::2, 1::2]).all()
        assert (~np.isfinite(F.avg_pool2d(x, 2)) == there[:, :, ::2, 1::2]).all()
        everywhere = np.isnan(F.softmax(x)) == there.any(axis=1, keepdims=True)
    assert everywhere.all()
    with pytest.raises(ValueError, match=r"scores must be finite, got .* at \(0, 1, 2, 3\)"):
        softmax_cross_entropy(x, np.zeros((2, 6, 6), np.uint8))
