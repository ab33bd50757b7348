"""Right gradients pass; each planted mistake is refused by name, with the entry or the factor that tells."""

import numpy as np
import pytest

from minifcn import functional as F
from minifcn import layers
from minifcn.checks import CheckFailedError, check_gradient
from tests.checks.wrong_gradients import (
    PLANTED,
    GradientKept,
    OneEntryWrong,
    OnePercentTooLarge,
    Planted,
    SignWrong,
)

RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 2, 5, 6))


@pytest.mark.parametrize(("mistake", "message"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_mistake_is_refused(mistake, message):
    with pytest.raises(CheckFailedError, match=message) as caught:
        check_gradient(mistake(), X)
    assert str(caught.value).startswith(f"{mistake.__name__}(): ")
    others = {"x", "weight", "bias"} - {name for name in ("x", "weight", "bias") if f" {name} " in message}
    assert not any(f"gradient to {name} is wrong" in str(caught.value) for name in others)


def test_a_gradient_that_is_kept_without_a_copy_is_refused():
    with pytest.raises(CheckFailedError, match="the backward pass changes the gradient it receives in place"):
        check_gradient(GradientKept(), RNG.standard_normal((2, 3)))


def test_the_worst_entry_is_named_with_the_numbers_that_a_reader_would_find():
    layer, right = OneEntryWrong(), Planted()
    with pytest.raises(CheckFailedError) as caught:
        check_gradient(layer, X, rng=5)
    g = np.random.default_rng(5).standard_normal(right(X).shape)
    right.backward(g)
    expected = right.weight.grad[3, 1, 2, 0]
    assert f"expected {expected:.6g}, got {1.001 * expected:.6g}" in str(caught.value)


def test_two_wrong_gradients_are_both_named():
    class Both(SignWrong, OnePercentTooLarge):
        pass

    with pytest.raises(CheckFailedError) as caught:
        check_gradient(Both(), X)
    assert "gradient to weight is wrong" in str(caught.value)
    assert "gradient to bias is wrong" in str(caught.value)
    assert "gradient to x is wrong" not in str(caught.value)


def test_an_all_ones_cotangent_would_have_passed_the_flipped_kernel():
    """With ones, a flipped kernel is right at all interior pixels; the check must not be taken in."""
    x, w = RNG.standard_normal((1, 1, 9, 9)), RNG.standard_normal((1, 1, 3, 3))
    ones = np.ones((1, 1, 7, 7))
    right, flipped = (
        F.conv2d_input_grad(ones, kernel, input_size=(9, 9)) for kernel in (w, w[:, :, ::-1, ::-1])
    )
    np.testing.assert_allclose(right[..., 2:-2, 2:-2], flipped[..., 2:-2, 2:-2])

    def interior(x):
        padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))

        def backward(dy):
            dx = F.conv2d_input_grad(dy, w[:, :, ::-1, ::-1], input_size=padded.shape[2:])
            return dx[..., 2:-2, 2:-2]

        return F.conv2d(padded, w), backward

    y, backward = interior(x)
    step = 1e-6
    for index in [(0, 0, 4, 4), (0, 0, 0, 0), (0, 0, 8, 3)]:  # each entry passes under ones
        moved = x.copy()
        moved[index] += step
        assert (interior(moved)[0].sum() - y.sum()) / step == pytest.approx(
            backward(np.ones_like(y))[index], rel=1e-6
        )
    with pytest.raises(CheckFailedError, match="the gradient to x is wrong"):
        check_gradient(interior, x)


LAYERS = [
    lambda rng: layers.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, groups=2, rng=rng),
    lambda rng: layers.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, rng=rng),
    lambda rng: layers.Sequential(layers.Conv2d(2, 3, 3, rng=rng), layers.ReLU(), layers.MaxPool2d(2)),
    lambda rng: layers.BatchNorm2d(2),
    lambda rng: layers.LocalResponseNorm(3, alpha=0.5),
    lambda rng: layers.AvgPool2d(2, ceil_mode=True),
    lambda rng: layers.GlobalAvgPool2d(),
]


@pytest.mark.parametrize("make", LAYERS)
def test_right_layers_pass(make):
    check_gradient(make(np.random.default_rng(0)).astype("float64"), X)


def test_right_functions_pass_with_several_inputs_and_scalar_outputs():
    def sum_of_products(a, b, factor):
        total = (a * b).sum() * factor
        return total, lambda dy: (dy * factor * b, dy * factor * a, dy * (a * b).sum())

    a, b = RNG.standard_normal((2, 4, 3))
    check_gradient(sum_of_products, a, b, np.array(-2.0))
    with pytest.raises(CheckFailedError, match=r"sum_of_products: the gradient to b is wrong"):
        check_gradient(
            named(lambda a, b, factor: (sum_of_products(a, b, factor)[0], lambda dy: (
                dy * factor * b, dy * factor * b, dy * (a * b).sum()))), a, b, np.array(-2.0)
        )  # fmt: skip


def named(function):
    function.__name__ = "sum_of_products"
    return function


def test_nonlinear_functions_pass_at_every_scale():
    def bumpy(x):
        y = np.exp(np.sin(x)) / (1 + x * x)
        slope = y * (np.cos(x) - 2 * x / (1 + x * x))
        return y, lambda dy: dy * slope

    for scale in (1e-3, 1.0, 1e3):
        check_gradient(bumpy, scale * RNG.standard_normal((5, 4)))


def test_a_large_input_is_checked_too_and_some_entries_are_looked_at():
    def scaled(x, wrong=1.0):
        return 3 * x, lambda dy: 3 * dy * wrong

    x = RNG.standard_normal((30, 40))
    check_gradient(scaled, x)

    def doubled(x):
        return scaled(x, wrong=2.0)

    with pytest.raises(
        CheckFailedError, match=r"element is 2 times too large\n.*\(among 100 entries checked\)"
    ):
        check_gradient(doubled, x)

    def one_wrong_in_many(x):
        y, backward = scaled(x)

        def wrong(dy):
            dx = backward(dy)
            dx[17, 18] += 1
            return dx

        return y, wrong

    with pytest.raises(CheckFailedError, match="gradient to x is wrong"):
        check_gradient(one_wrong_in_many, x)


def linear(a, error):
    """x -> a . x, with an error in the gradient."""
    return lambda x: (np.vdot(a, x), lambda dy: dy * (a + error))


def test_where_the_slope_is_nearly_zero_the_size_of_the_gradient_counts():
    """The gradient is orthogonal to the first direction, so that the slope is 0 by cancellation."""
    rng = np.random.default_rng(11)
    rng.standard_normal(())  # g
    direction = rng.standard_normal(200)
    direction /= np.linalg.norm(direction)
    a = RNG.standard_normal(200)
    a -= np.vdot(a, direction) * direction
    size = np.sqrt(np.mean(a**2))
    x = RNG.standard_normal(200)
    check_gradient(linear(a, 0.5e-6 * size * direction), x, rng=11)
    with pytest.raises(CheckFailedError, match="the gradient to x is wrong"):
        check_gradient(linear(a, 2e-6 * size * direction), x, rng=11)
    check_gradient(linear(a, 2e-6 * size * direction), x, rng=11, tolerance=1e-5)


def test_a_layer_is_given_its_numbers_back():
    layer = layers.BatchNorm2d(2).astype("float64")
    layer.weight.grad = np.array([5.0, 6.0])
    before = {name: value.copy() for name, value in layer.state_dict().items()}
    x = X.copy()
    check_gradient(layer, x)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(layer.weight.grad, [5.0, 6.0])
    np.testing.assert_array_equal(x, X)


def test_frozen_parameters_are_left_out():
    layer = layers.Conv2d(2, 3, 3, rng=np.random.default_rng(0)).astype("float64")
    layer.weight.trainable = False
    check_gradient(layer, X)


def test_kinks_and_ties_are_named_as_such():
    x = RNG.standard_normal((1, 1, 2, 4))
    x[0, 0, 1, 2] = 0
    with pytest.raises(ValueError, match=r"ReLU\(\) has a kink in x at \[0, 0, 1, 2\]: the slope is"):
        check_gradient(layers.ReLU(), x)
    with pytest.raises(ValueError, match=r"without zeros and without equal neighbours"):
        check_gradient(layers.MaxPool2d(2), np.ones((1, 1, 2, 4)))
    x[0, 0, 1, 2] = 1e-7
    with pytest.raises(ValueError, match=r"ReLU\(\) has a jump or a kink so near to this x"):
        check_gradient(layers.ReLU(), x)
    x[0, 0, 1, 2] = 2e-4  # near, but not too near
    check_gradient(layers.ReLU(), x)


def test_random_layers_are_refused():
    layer = layers.Dropout(0.5, rng=np.random.default_rng(0))
    with pytest.raises(CheckFailedError, match="two forward passes over the same inputs differ"):
        check_gradient(layer, X)


def test_dtypes_other_than_float64_are_refused():
    layer = layers.Conv2d(2, 3, 3, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"in float64, but x is float32; convert an input with .astype"):
        check_gradient(layer.astype("float64"), X.astype(np.float32))
    with pytest.raises(TypeError, match=r"but weight is float32; .* a layer with layer.astype\('float64'\)"):
        check_gradient(layer.astype("float32"), X)
    with pytest.raises(TypeError, match="x must be a NumPy or CuPy array, got list"):
        check_gradient(layer.astype("float64"), X.tolist())


def test_on_every_library(xp):
    layer = layers.Conv2d(2, 3, 3, stride=2, rng=np.random.default_rng(0)).astype("float64")
    for parameter in layer.parameters():
        parameter.data = xp.module.asarray(parameter.data)
    check_gradient(layer, xp.array(X))
    assert isinstance(layer.weight.data, xp.module.ndarray)


def test_a_forward_pass_that_returns_nothing_is_reported():
    class NoReturn(layers.ReLU):
        def forward(self, x):
            self.keep(x, output=x)

    with pytest.raises(CheckFailedError, match=r"NoReturn\(\): the forward pass returns None"):
        check_gradient(NoReturn(), np.ones((2, 3)))
