import math

import pytest

from minifcn.models import FCN, digit_classifier
from minifcn.optim import SGD, Adam, Constant, Poly
from minifcn.training import RECIPES

PIXELS = 500 * 375


def fcn(stride=8, **options):
    return FCN(digit_classifier(rng=0), 11, stride, **options)


def multipliers(model, suffix):
    return {
        (p.lr_multiplier, p.decay_multiplier)
        for name, p in model.named_parameters()
        if name.endswith(suffix) and not name.startswith(("score", "skips"))
    }


@pytest.mark.parametrize("name", ["online", "accumulated", "heavy"])
def test_biases_of_the_papers_recipes_have_twice_the_rate_and_no_decay(name):
    model = fcn()
    optimizer = RECIPES[name].optimizer(model)
    assert multipliers(model, "weight") == {(1, 1)}
    assert multipliers(model, "bias") == {(2, 0)}
    assert (model.score.bias.lr_multiplier, model.score.weight.lr_multiplier) == (2, 1)
    assert isinstance(optimizer, SGD)
    assert optimizer.weight_decay == 5e-4


def test_quick_is_adam_with_faster_score_layers():
    model = fcn(2)
    optimizer = RECIPES["quick"].optimizer(model)
    assert isinstance(optimizer, Adam)
    assert (optimizer.lr, optimizer.weight_decay) == (2e-4, 1e-4)
    assert multipliers(model, "weight") == multipliers(model, "bias") == {(1, 1)}
    for layer in model.score_layers():
        assert optimizer.lr * layer.weight.lr_multiplier == pytest.approx(1e-3)
        assert layer.bias.lr_multiplier == 5


def test_the_rates_of_heavy_are_those_of_the_reference_code():
    coarse = fcn(8)
    assert RECIPES["heavy"].optimizer(coarse).lr == 1e-10
    fine, finest = coarse.finer(), coarse.finer().finer()
    assert RECIPES["heavy"].optimizer(fine, staged=True).lr == pytest.approx(1e-12)
    assert RECIPES["heavy"].optimizer(finest, staged=True).lr == pytest.approx(1e-14)
    assert RECIPES["heavy"].optimizer(fcn(2, at_once=True)).lr == 1e-10
    assert RECIPES["heavy"].momentum == 0.99


def test_online_and_heavy_have_the_same_effective_rate():
    online, heavy = RECIPES["online"], RECIPES["heavy"]
    for recipe in (online, heavy):
        assert recipe.lr / (1 - recipe.momentum) == pytest.approx(1e-8)
        assert recipe.reduction == "sum"


def test_momentum_remembers_as_many_images():
    """.99 for single images is nearly .9 for twenty: the weight of an image halves after 69 or 132 others."""
    accumulated, heavy = RECIPES["accumulated"], RECIPES["heavy"]
    images = [
        recipe.batch_size * recipe.accumulate * math.log(0.5) / math.log(recipe.momentum)
        for recipe in (heavy, accumulated)
    ]
    assert images == pytest.approx([69, 132], abs=1)


def test_a_rate_for_stages_is_refused_without_stages():
    for name in ("online", "accumulated", "heavy"):
        with pytest.raises(ValueError, match=f"recipe '{name}' .* 2 skips"):
            RECIPES[name].optimizer(fcn(2))
        RECIPES[name].optimizer(fcn(2), staged=True)
        RECIPES[name].changed(lr=1e-11).optimizer(fcn(2))
    RECIPES["quick"].optimizer(fcn(2))


@pytest.mark.parametrize("name", ["online", "heavy"])
def test_a_rate_for_a_mean_is_refused_for_a_sum(name):
    with pytest.raises(ValueError, match=r"lr 1\.0e-04 .*1\.9e\+01.*187,500 pixels.*5\.3e-10"):
        RECIPES[name].changed(lr=1e-4).check_rate(1e-4, PIXELS)


@pytest.mark.parametrize("name", ["quick", "accumulated"])
def test_a_rate_for_a_sum_is_refused_for_a_mean(name):
    with pytest.raises(ValueError, match=r"lr 1\.0e-10 .*187,500 pixels.*1\.9e-05"):
        RECIPES[name].changed(lr=1e-10).check_rate(1e-10, PIXELS)


def test_the_largest_and_the_smallest_rate_are_accepted():
    RECIPES["online"].check_rate(0.1, 1)  # of one pixel, the sum is the mean
    with pytest.raises(ValueError, match=r"lr 1\.0e-01"):
        RECIPES["online"].check_rate(math.nextafter(0.1, 1), 1)
    RECIPES["quick"].check_rate(5e-9, PIXELS)
    with pytest.raises(ValueError, match=r"lr 5\.0e-09"):
        RECIPES["quick"].check_rate(math.nextafter(5e-9, 0), PIXELS)


def test_every_recipe_accepts_its_own_rate_and_similar_ones():
    for recipe in RECIPES.values():
        for pixels in (64 * 64, PIXELS, 1024 * 2048):
            for factor in (0.1, 1, 10):
                recipe.check_rate(factor * recipe.lr, pixels)


def test_the_rate_on_the_mean():
    heavy = RECIPES["heavy"]
    assert heavy.rate_on_mean(1e-10, PIXELS) == pytest.approx(1.875e-5)
    assert heavy.changed(batch_size=4).rate_on_mean(1e-10, PIXELS) == pytest.approx(7.5e-5)
    assert RECIPES["quick"].rate_on_mean(2e-4, PIXELS) == 2e-4


def test_fewer_batches_are_accumulated_if_they_are_larger():
    accumulated = RECIPES["accumulated"]
    assert accumulated.changed(batch_size=4).accumulate == 5
    assert accumulated.changed(batch_size=30).accumulate == 1
    assert accumulated.changed(batch_size=4, accumulate=2).accumulate == 2
    assert RECIPES["quick"].changed(batch_size=8).accumulate == 1
    assert accumulated.changed() == accumulated


@pytest.mark.parametrize("steps", [2, 3, 8, 30, 299, 300, 1000])
def test_the_warm_up_is_at_most_a_third_of_a_training(steps):
    """Ten photographs give a few dozen steps; with a short warm-up, Adam's first steps blow scores up."""
    schedule = RECIPES["quick"].schedule_of(1, steps)
    factors = [schedule(step) for step in range(steps)]
    rising = min(100, steps // 3)
    assert factors[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert all(before > after for before, after in zip(factors[rising:], factors[rising + 1 :], strict=False))
    assert max(factors) == 1


def test_schedules():
    quick = RECIPES["quick"].schedule_of(15, 92)
    assert isinstance(quick, Poly)
    assert quick(15 * 92) == 0
    assert [round(quick(step), 2) for step in (0, 49, 99)] == [0.01, 0.5, 1.0]
    assert RECIPES["quick"].schedule_of(1, 1)(0) == 1
    assert isinstance(RECIPES["heavy"].schedule_of(15, 92), Constant)
