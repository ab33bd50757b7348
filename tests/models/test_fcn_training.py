"""How an FCN is trained: its score layers alone, all skips at once, and with learned upsampling."""

import numpy as np
import pytest

from minifcn.checks import check_gradient
from minifcn.layers import BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier, digit_classifier
from minifcn.models.scoring import ScoreLayer
from minifcn.optim import SGD
from tests.models.trunks import digits, float64, normal, randomised, squeezenet, vgg

both_alignments = pytest.mark.parametrize("alignment", ["exact", "paper"])


def trunk_and_rest(fcn):
    named = dict(fcn.named_parameters())
    trunk = {name: parameter for name, parameter in named.items() if name.startswith(("features", "head"))}
    return trunk, {name: parameter for name, parameter in named.items() if name not in trunk}


# Frozen trunk


@both_alignments
@pytest.mark.parametrize("at_once", [False, True])
def test_a_frozen_trunk_is_left_as_it_is_and_the_score_layers_get_the_same_gradients(alignment, at_once):
    free, frozen = (float64(digits, 2, alignment=alignment, at_once=at_once) for _ in range(2))
    frozen.freeze_trunk()
    x, dy = normal((2, 1, 13, 9)), normal((2, 2, 13, 9), 1)
    assert np.array_equal(free(x), frozen(x))
    free.backward(dy)
    with pytest.raises(ValueError, match=r"the trunk is frozen: call backward_parameters\(dy\)"):
        frozen.backward(dy)
    assert frozen.backward_parameters(dy) is None
    trunk, rest = trunk_and_rest(frozen)
    assert all(not parameter.trainable and parameter.grad is None for parameter in trunk.values())
    theirs = dict(free.named_parameters())
    for name, parameter in rest.items():
        if parameter.trainable:
            assert np.array_equal(parameter.grad, theirs[name].grad), name
    assert {name for name, parameter in rest.items() if parameter.trainable} == {
        f"{layer}.{part}" for layer in ("score", "skips.4", "skips.2") for part in ("weight", "bias")
    }


def test_a_frozen_trunk_stays_in_evaluation_mode():
    fcn = FCN(digit_classifier(rng=0), 3, 4).freeze_trunk()
    dropout = next(layer for layer in fcn.head if isinstance(layer, Dropout))
    x = normal((1, 1, 32, 32)).astype("float32")
    for mode in (True, False, True):
        fcn.train(mode)
        assert fcn.training is fcn.score.training is mode
        assert not any(layer.training for part in (fcn.features, fcn.head) for layer in part.layers())
        assert np.array_equal(fcn(x), fcn(x))  # no dropout
    assert all(layer._kept is None for part in (fcn.features, fcn.head) for layer in part.layers())
    fcn.freeze_trunk(frozen=False)
    assert dropout.training
    assert all(layer.training for layer in fcn.layers())
    fcn.eval().freeze_trunk().freeze_trunk(frozen=False)
    assert not any(layer.training for layer in fcn.layers())


def test_an_unfrozen_trunk_is_trained_again():
    fcn = float64(digits, 4)
    x, dy = normal((1, 1, 9, 8)), normal((1, 2, 9, 8), 1)
    fcn(x)
    expected = fcn.backward(dy)
    fcn.freeze_trunk().freeze_trunk(frozen=False)
    assert all(parameter.grad is None for parameter in trunk_and_rest(fcn)[0].values())
    fcn(x)
    assert np.array_equal(fcn.backward(dy), expected)
    assert all(parameter.grad.any() for parameter in trunk_and_rest(fcn)[0].values())
    check_gradient(fcn, x, rng=1)


def test_an_optimizer_changes_the_score_layers_alone():
    fcn = randomised(FCN(digits(), 3, 4)).freeze_trunk().train()
    optimizer = SGD(fcn, lr=0.1, momentum=0.9, weight_decay=0.1)
    before = {name: array.copy() for name, array in fcn.state_dict().items()}
    for _ in range(2):
        fcn.backward_parameters(fcn(normal((1, 1, 9, 8)).astype("float32")))
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, array in fcn.state_dict().items() if not np.array_equal(array, before[name])}
    assert changed == {"score.weight", "score.bias", "skips.4.weight", "skips.4.bias"}


def test_a_frozen_trunk_keeps_its_running_statistics():
    features = Sequential(Conv2d(1, 2, 3, padding=1, rng=0), BatchNorm2d(2), ReLU(inplace=True), MaxPool2d(2))
    model = Classifier(
        features, Sequential(Linear(8, 3, rng=0)), input_shape=(1, 4, 4), taps={}, architecture={}
    )
    fcn = FCN(model, 2).freeze_trunk()
    fcn(normal((2, 1, 4, 4)).astype("float32"))
    assert not fcn.features["1"].running_mean.data.any()
    fcn.freeze_trunk(frozen=False)(normal((2, 1, 4, 4)).astype("float32"))
    assert fcn.features["1"].running_mean.data.any()


def test_a_finer_network_stays_frozen_and_its_new_layer_learns():
    child = FCN(digits(), 3, 8).freeze_trunk().finer()
    assert child.trunk_frozen
    child.train().backward_parameters(child(normal((1, 1, 9, 8)).astype("float32")) + 1)
    assert child.skips["4"].weight.grad.any()
    assert not any(parameter.trainable for parameter in trunk_and_rest(child)[0].values())
    assert "frozen" not in str(child.architecture)  # a state of training, not of the network


def test_freezing_between_forward_and_backward():
    fcn = FCN(digits(), 3, 4).train()
    y = fcn(normal((1, 1, 9, 8)).astype("float32"))
    fcn.freeze_trunk()
    with pytest.raises(ValueError, match="forward has not run"):
        fcn.backward_parameters(y)


def test_the_gradient_to_the_images_may_be_left_out():
    fcn, other = (float64(digits, 2) for _ in range(2))
    x, dy = normal((1, 1, 9, 8)), normal((1, 2, 9, 8), 1)
    fcn(x), other(x)
    fcn.backward_parameters(dy)
    assert other.backward(dy).any()
    for ours, theirs in zip(fcn.parameters(), other.parameters(), strict=True):
        assert ours.grad is theirs.grad is None or np.array_equal(ours.grad, theirs.grad)


# All skips at once


def test_skips_are_scaled_by_a_hundredth_and_a_ten_thousandth():
    assert [layer.scale for layer in FCN(vgg(), 2, 8, at_once=True).score_layers()] == [
        1,
        pytest.approx(0.01),
        pytest.approx(0.0001),
    ]
    assert [layer.scale for layer in FCN(squeezenet(), 2, 8, at_once=True).skips] == [pytest.approx(0.01)]
    assert [layer.scale for layer in FCN(vgg(), 2, 8).score_layers()] == [1, 1, 1]
    child = FCN(vgg(), 2, 32, at_once=True).finer().finer()
    assert [layer.scale for layer in child.skips] == [pytest.approx(0.01), pytest.approx(0.0001)]


@both_alignments
def test_the_maps_are_scaled_not_the_scores(alignment):
    at_once, staged = (float64(digits, 2, alignment=alignment, at_once=at_once) for at_once in (True, False))
    for layer, scale in zip(staged.skips, (0.01, 0.0001), strict=True):
        layer.weight.data *= scale  # the same as scaling the map; the bias stays
    x = normal((1, 1, 21, 18))
    assert np.allclose(at_once(x), staged(x), rtol=1e-12)


def test_the_gradient_with_scales():
    check_gradient(float64(digits, 2, at_once=True), normal((2, 1, 9, 6)), rng=1)


def test_a_score_layer():
    layer = ScoreLayer(3, 2, scale=0.5)
    assert not layer(np.ones((1, 3, 2, 2), np.float32)).any()
    layer.weight.data[...] = 1
    assert np.array_equal(layer(np.ones((1, 3, 2, 2), np.float32)), np.full((1, 2, 2, 2), 1.5, np.float32))
    assert repr(layer) == "ScoreLayer(3, 2, scale=0.5)"
    assert repr(ScoreLayer(3, 2)) == "ScoreLayer(3, 2)"
    x = normal((2, 3, 4, 3))
    layer = layer.astype("float64")
    layer.weight.data = normal((2, 3, 1, 1), 5)
    check_gradient(layer, x)


# Upsampling


def test_learned_upsampling_with_a_fixed_last_step():
    """Learned between the score layers, fixed at the end: one line, as in the docstring."""
    fcn = randomised(FCN(digits(), 3, 2, upsampling="learned"))
    fcn.upsamples[-1].deconv.weight.trainable = False
    fcn.backward(fcn(normal((1, 1, 21, 18)).astype("float32")))
    grads = [upsample.deconv.weight.grad for upsample in fcn.upsamples]
    assert grads[0].any()
    assert grads[1].any()
    assert grads[2] is None


@both_alignments
def test_finer_keeps_all_options(alignment):
    coarsest = FCN(digits(), 3, 8, alignment=alignment, upsampling="learned", at_once=True)
    child = coarsest.finer().finer()
    fresh = FCN(digits(), 3, 2, alignment=alignment, upsampling="learned", at_once=True)
    assert child.architecture == fresh.architecture
    assert repr(child) == repr(fresh)
    assert [p.trainable for p in child.parameters()] == [p.trainable for p in fresh.parameters()]


def test_invalid_arguments_are_refused():
    for alignment in ("centred", None, 1):
        with pytest.raises(
            ValueError, match="alignment must be one of 'exact', 'paper', 'torchvision', got "
        ):
            FCN(digits(), 3, alignment=alignment)
    for at_once in (None, 1, "no"):
        with pytest.raises(ValueError, match="at_once must be True or False, got "):
            FCN(digits(), 3, at_once=at_once)
