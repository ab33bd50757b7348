"""Invalid operands and options raise one sentence, with what was expected and the value that came."""

# ruff: noqa: E501 - a table is read row by row

import re

import numpy as np
import pytest

from minifcn import functional as F

X = np.zeros((2, 3, 5, 6))
W = np.zeros((4, 3, 3, 2))
DY = np.zeros((2, 4, 3, 5))
UP = np.zeros((4, 3, 3, 2))  # of a transposed convolution from 4 to 3 channels


def conv(x=X, w=W, b=None, **options):
    return F.conv2d(x, w, b, **options)


def input_grad(dy=DY, w=W, input_size=(5, 6), **options):
    return F.conv2d_input_grad(dy, w, input_size=input_size, **options)


def weight_grad(x=X, dy=DY, kernel_size=(3, 2), **options):
    return F.conv2d_weight_grad(x, dy, kernel_size=kernel_size, **options)


def up(x=DY, w=UP, b=None, **options):
    return F.conv_transpose2d(x, w, b, **options)


def single(a):
    return a.astype(np.float32)


def test_the_operands_fit_as_they_are():
    assert conv().shape == DY.shape
    assert input_grad().shape == X.shape
    assert weight_grad().shape == W.shape
    assert up().shape == X.shape


FLOAT = "must be float32 or float64, got"

TABLE = [
    # Not an array
    (conv, {"x": X.tolist()}, TypeError, "x must be a NumPy or CuPy array, got list"),
    (conv, {"w": 3.0}, TypeError, "w must be a NumPy or CuPy array, got float"),
    # Ranks
    (conv, {"x": X[0]}, ValueError, "x must have 4 axes (N, C, H, W), got shape (3, 5, 6)"),
    (conv, {"w": W[0]}, ValueError, "w must have 4 axes (O, C / groups, KH, KW), got shape (3, 3, 2)"),
    (input_grad, {"dy": DY[0]}, ValueError, "dy must have 4 axes (N, O, OH, OW), got shape (4, 3, 5)"),
    (input_grad, {"w": W[..., 0]}, ValueError, "w must have 4 axes (O, C / groups, KH, KW), got shape (4, 3, 3)"),
    (weight_grad, {"x": X[0]}, ValueError, "x must have 4 axes (N, C, H, W), got shape (3, 5, 6)"),
    (weight_grad, {"dy": DY[None]}, ValueError, "dy must have 4 axes (N, O, OH, OW), got shape (1, 2, 4, 3, 5)"),
    (up, {"x": DY[0]}, ValueError, "x must have 4 axes (N, C, H, W), got shape (4, 3, 5)"),
    (up, {"w": UP[0]}, ValueError, "w must have 4 axes (C, O / groups, KH, KW), got shape (3, 3, 2)"),
    # Channels and batches
    (conv, {"x": X[:, :2]}, ValueError, "x has 2 channels but w (4, 3, 3, 2) with groups 1 takes 3"),
    (conv, {"groups": 2, "x": np.zeros((2, 4, 5, 6))}, ValueError, "x has 4 channels but w (4, 3, 3, 2) with groups 2 takes 6"),
    (input_grad, {"dy": DY[:, :3]}, ValueError, "dy has 3 channels but w (4, 3, 3, 2) has 4 filters"),
    (weight_grad, {"dy": DY[:1]}, ValueError, "x (2, 3, 5, 6) with kernel_size (3, 2) gives (2, 4, 3, 5), but dy is (1, 4, 3, 5)"),
    (weight_grad, {"dy": DY[:, :, :2]}, ValueError, "gives (2, 4, 3, 5), but dy is (2, 4, 2, 5)"),
    (weight_grad, {"kernel_size": 3}, ValueError, "x (2, 3, 5, 6) with kernel_size (3, 3) gives (2, 4, 3, 4), but dy is (2, 4, 3, 5)"),
    (up, {"x": X}, ValueError, "x has 3 channels but w (4, 3, 3, 2) takes 4"),
    # Dtypes
    (conv, {"x": single(X)}, TypeError, "dtypes are mixed: x is float32, w is float64; convert them to one with .astype"),
    (conv, {"b": np.zeros(4, np.float32)}, TypeError, "dtypes are mixed: x is float64, w is float64, b is float32"),
    (input_grad, {"w": single(W)}, TypeError, "dtypes are mixed: dy is float64, w is float32"),
    (weight_grad, {"x": single(X)}, TypeError, "dtypes are mixed: x is float32, dy is float64"),
    (up, {"x": single(DY)}, TypeError, "dtypes are mixed: x is float32, w is float64"),
    (conv, {"x": X.astype(np.uint8)}, TypeError, f"x {FLOAT} uint8; convert it with x.astype('float32')"),
    (conv, {"w": W.astype(int)}, TypeError, f"w {FLOAT} int64"),
    (conv, {"x": X.astype(np.float16), "w": W.astype(np.float16)}, TypeError, f"x {FLOAT} float16"),
    (conv, {"x": X > 0}, TypeError, f"x {FLOAT} bool"),
    (conv, {"w": W.astype(complex)}, TypeError, f"w {FLOAT} complex128"),
    (input_grad, {"dy": DY.astype(int)}, TypeError, f"dy {FLOAT} int64"),
    (weight_grad, {"dy": DY.astype(np.float16)}, TypeError, f"dy {FLOAT} float16"),
    (up, {"w": UP.astype(np.uint8)}, TypeError, f"w {FLOAT} uint8"),
    # Biases
    (conv, {"b": np.zeros(3)}, ValueError, "b must have shape (4,), one value for each output channel, got (3,)"),
    (conv, {"b": np.zeros((4, 1))}, ValueError, "b must have shape (4,), one value for each output channel, got (4, 1)"),
    (up, {"b": np.zeros(4)}, ValueError, "b must have shape (3,), one value for each output channel, got (4,)"),
    # Kernels that do not fit
    (conv, {"x": X[:, :, :2]}, ValueError, "kernel of extent 3 (kernel_size 3, dilation 1) does not fit into height 2 with padding 0"),
    (conv, {"dilation": (1, 6)}, ValueError, "kernel of extent 7 (kernel_size 2, dilation 6) does not fit into width 6 with padding 0"),
    (conv, {"dilation": 4, "padding": (1, 0)}, ValueError, "kernel of extent 9 (kernel_size 3, dilation 4) does not fit into height 5 with padding 1"),
    (conv, {"x": X[:, :, :0]}, ValueError, "does not fit into height 0"),
    (conv, {"w": W[:, :, :0]}, ValueError, "kernel_size must be an integer >= 1, got 0"),
    (weight_grad, {"kernel_size": 6}, ValueError, "does not fit into height 5"),
    (weight_grad, {"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1, got 0"),
    (input_grad, {"input_size": (2, 6)}, ValueError, "does not fit into height 2"),
    # Options of the window
    *[
        (f, {name: value}, ValueError, f"{name} must be an integer >= {least}, got {shown!r}")
        for f in (conv, input_grad, weight_grad, up)
        for name, least, value, shown in [
            ("stride", 1, 0, 0),
            ("stride", 1, -1, -1),
            ("stride", 1, (2, 0), 0),
            ("stride", 1, True, True),
            ("stride", 1, 2.0, 2.0),
            ("stride", 1, (1, 1.5), 1.5),
            ("stride", 1, "1", "1"),
            ("padding", 0, -1, -1),
            ("padding", 0, 0.5, 0.5),
            ("padding", 0, "same", "same"),
            ("dilation", 1, 0, 0),
            ("dilation", 1, (1, -2), -2),
            ("dilation", 1, True, True),
            ("groups", 1, 0, 0),
            ("groups", 1, -1, -1),
            ("groups", 1, 1.0, 1.0),
            ("groups", 1, True, True),
        ]
    ],
    (conv, {"stride": (1, 2, 3)}, ValueError, "stride must be an integer or a pair (rows, columns), got (1, 2, 3)"),
    (conv, {"padding": ()}, ValueError, "padding must be an integer, a pair (rows, columns) or ((top, bottom), (left, right)), got ()"),
    (conv, {"groups": 2}, ValueError, "groups 2 must divide channels and filters, got 3 and 4"),
    (conv, {"groups": 3}, ValueError, "groups 3 must divide channels and filters, got 3 and 4"),
    (input_grad, {"groups": 3}, ValueError, "groups 3 must divide channels and filters, got 9 and 4"),
    (weight_grad, {"groups": 2}, ValueError, "groups 2 must divide channels and filters, got 3 and 4"),
    (up, {"groups": 3}, ValueError, "groups 3 must divide channels and filters, got "),
    # Sizes
    (input_grad, {"input_size": (6, 6)}, ValueError, "input_size (6, 6) gives an output of (4, 5), but dy is (3, 5): valid input sizes range from (5, 6) to (5, 6)"),
    (input_grad, {"input_size": (5, 8), "stride": 2, "dy": DY[:, :, :2, :3]}, ValueError, "valid input sizes range from (5, 6) to (6, 7)"),
    (input_grad, {"input_size": (5,)}, ValueError, "input_size must be an integer or a pair (rows, columns), got (5,)"),
    (input_grad, {"input_size": (5.0, 6)}, ValueError, "input_size must be an integer >= 1, got 5.0"),
    (up, {"output_size": (6, 6)}, ValueError, "output_size (6, 6) cannot come from an input of (3, 5): valid sizes range from (5, 6) to (5, 6)"),
    (up, {"output_size": (9, 10), "stride": 2}, ValueError, "valid sizes range from (7, 10) to (8, 11)"),
    (up, {"output_padding": 1}, ValueError, "output_padding must be below the stride 1, got 1"),
    (up, {"output_padding": (0, 3), "stride": 3}, ValueError, "output_padding must be below the stride 3, got 3"),
    (up, {"output_padding": -1, "stride": 2}, ValueError, "output_padding must be an integer >= 0, got -1"),
    (up, {"output_padding": 1, "output_size": (8, 11), "stride": 2}, ValueError, "output_size and output_padding exclude each other"),
    (up, {"padding": 3}, ValueError, "padding 3 removes more than there is"),
    # Algorithms
    (conv, {"algorithm": "fft"}, ValueError, "algorithm for conv2d must be one of auto, im2col, blocks, bands, taps, plain, loops, got 'fft'"),
    (conv, {"algorithm": "polyphase"}, ValueError, "algorithm for conv2d must be one of auto, im2col, blocks, bands, taps, plain, loops, got 'polyphase'"),
    (weight_grad, {"algorithm": None}, ValueError, "algorithm for conv2d_weight_grad must be one of auto"),
    (up, {"algorithm": "winograd?"}, ValueError, "must be one of auto, polyphase, im2col, bands, taps, plain, loops, got 'winograd?'"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "message"), TABLE)
def test_invalid_input_raises_one_sentence(function, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        function(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [conv, input_grad, weight_grad, up])
def test_numpy_and_cupy_are_not_mixed(strict, function):
    name = {conv: "w", up: "w", input_grad: "w", weight_grad: "dy"}[function]
    elsewhere = strict.array({"w": W, "dy": DY}[name])
    with pytest.raises(TypeError, match=f"mixed: .*{name} is on the GPU"):
        function(**{name: elsewhere})


def test_nothing_is_computed_for_an_invalid_geometry(monkeypatch):
    for name in ("convolve", "convolve_input_grad", "convolve_weight_grad"):
        monkeypatch.setattr(F.convolution, name, lambda *_, **__: pytest.fail("this was reached"))
    for function, arguments, error, _ in TABLE:
        if "algorithm" not in arguments:
            with pytest.raises(error):
                function(**arguments)


@pytest.mark.parametrize(
    ("function", "name"),
    [(conv, "x"), (conv, "w"), (input_grad, "dy"), (weight_grad, "dy"), (up, "x"), (up, "w")],
)
def test_only_the_bias_may_be_missing(function, name):
    with pytest.raises(TypeError, match=f"{name} must be an array .* got None"):
        function(**{name: None})
