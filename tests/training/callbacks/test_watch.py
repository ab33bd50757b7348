"""Each warning has a planted failure that causes it, and a sound training that does not."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from minifcn.data import Loader
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN, digit_classifier
from minifcn.optim import SGD, Adam, Poly
from minifcn.training import Callback, Watch, fit
from minifcn.training.callbacks.watch import dead_features, one_class
from tests.training.small import GREY, Blobs


def watched(model, *, lr=2e-3, kind=Adam, epochs=10, images=7, validation=None, **options):
    told = []
    watch = Watch(told.append)
    loader = Loader(Blobs(images), 2, preprocess=GREY, shuffle=True, seed=0, workers=0)
    optimizer = kind(model, lr)
    fit(
        model,
        loader,
        optimizer,
        epochs=epochs,
        validation=validation,
        progress=None,
        callbacks=[watch],
        **options,
    )
    assert len(told) == len(watch.told)  # each once
    assert all(sentence.startswith("warning: ") for sentence in told)
    return watch.told


def sound(alignment="exact", **options):
    return FCN(digit_classifier(rng=0), 2, 2, alignment=alignment, **options)


@pytest.mark.parametrize("alignment", ["exact", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_sound_training_gives_no_warning(alignment):
    assert watched(sound(alignment), images=14, epochs=5) == {}


def test_sound_predictions_give_no_warning():
    validation = Loader(Blobs(3, seed=1), 1, preprocess=GREY, workers=0)
    assert watched(sound(), epochs=6, images=14, validation=validation) == {}


@pytest.mark.parametrize("alignment", ["exact", "paper"])
def test_a_trunk_whose_weights_were_not_loaded(alignment):
    """All weights are zero, but the score layers learn their biases, so the loss changes."""
    told = watched(FCN(digit_classifier(init="zeros"), 2, 2, alignment=alignment), epochs=3)
    assert told.keys() == {"constant scores"}
    assert "the same at every pixel" in told["constant scores"]


def test_a_loss_that_stays_at_chance():
    told = watched(sound(), lr=1e-12, kind=SGD)
    assert "loss at chance" in told
    assert "still ln 2 = 0.69315" in told["loss at chance"]
    assert "1.0e-12" in told["loss at chance"]


def test_a_loss_that_blows_up():
    told = watched(sound(), lr=30.0, epochs=5)
    assert re.search(r"step 10: .*10 steps.* 3\.0e\+01 .* 3\.0e\+00", told["loss blown up"])


def test_the_rate_in_a_warning_is_the_one_that_was_chosen():
    """Not what a schedule has made of it."""
    told = watched(sound(), lr=30.0, epochs=4, schedule=Poly(16, 0.9, warmup_steps=5))
    assert re.search(r" 3\.0e\+01 .* 3\.0e\+00", told["loss blown up"])


def test_short_trainings_are_watched_too():
    """One epoch of three batches is shorter than all windows."""
    short = {"epochs": 1, "images": 6}
    blown = watched(sound(), lr=30.0, **short)
    assert re.search("step 3: .* 3 steps", blown["loss blown up"])
    dead = watched(FCN(digit_classifier(init="zeros"), 2, 2), **short)
    assert "2 steps" in dead["constant scores"]
    still = watched(sound(), lr=1e-12, kind=SGD, **short)
    assert "after 3 steps the loss is still ln 2" in still["loss at chance"]
    assert watched(sound(), **short) == {}
    assert watched(sound(), epochs=1, images=2) == {}  # of a single step, ln 2 says nothing
    accumulated = watched(sound(), lr=30.0, epochs=2, images=7, accumulate=2)
    assert re.search("step 4: .* 4 steps", accumulated["loss blown up"])


def test_a_loss_that_jumps_once_gives_no_warning():
    class Jump(Callback):
        def step(self, training):
            if training.step == 5:
                training.loss = 50.0

    told = []
    model = sound()
    loader = Loader(Blobs(), 2, preprocess=GREY, workers=0)
    callbacks = [Jump(), Watch(told.append)]
    fit(
        model,
        loader,
        Adam(model, 1e-3),
        epochs=3,
        progress=None,
        callbacks=callbacks,
    )
    assert told == []


def test_predictions_of_one_class_come_with_the_histogram():
    class Rare(Blobs):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            labels[:, 12:][labels[:, 12:] == 1] = 0
            return image, labels

    model = sound()
    validation = Loader(Rare(3), 1, preprocess=GREY, workers=0)
    model.score.bias.data[0] = 50  # the background, whatever is learned
    told = watched(model, lr=1e-6, epochs=1, validation=validation)
    word = told["one class"]
    assert word.startswith("epoch 1: 100.0 % of the pixels are predicted as 'ground'")
    labels = np.concatenate([Rare(3)[i][1].ravel() for i in range(3)])
    share = 100 * (labels == 0).sum() / (labels != 255).sum()
    assert f"ground    {share:4.1f} %      100.0 %" in word
    assert watched(model, lr=1e-6, epochs=8, validation=validation)["one class"].startswith(
        "epoch 8: 100.0 %"
    )


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([[50, 50], [0, 0]], False),
        ([[50, 0], [50, 0]], True),
        ([[0, 100], [0, 1]], True),
        ([[1000, 0], [5, 0]], True),
        ([[1000, 0], [1, 9]], False),
        ([[100, 0], [0, 0]], False),  # there is nothing else to predict
        ([[0, 0], [0, 0]], False),
        ([[900, 5], [95, 0]], True),
        ([[900, 6], [94, 0]], False),
    ],
)
def test_which_predictions_count_as_one_class(counts, told):
    matrix = ConfusionMatrix(2)
    matrix._matrix = np.array(counts)
    assert (one_class(matrix) is not None) == told


def test_a_warning_of_several_lines_is_printed_as_such(capsys):
    """Line breaks of our own are kept, those in names of classes are escaped."""
    matrix = ConfusionMatrix(2, class_names=["ground", "a\nwarning: forged"])
    matrix._matrix = np.array([[50, 0], [50, 0]])
    Watch()._say("one class", one_class(matrix))
    printed = capsys.readouterr().err
    assert "\n  ground " in printed
    assert r"a\nwarning: forged" in printed
    assert printed.count("\n") == 6


# When each warning comes, in a training that is played back


def played(losses, *, steps=100, scores=None, matrix=None):
    """Return the step at which each warning came, with two classes."""
    told: dict[str, int] = {}
    watch = Watch(lambda warning: None)
    varied = np.random.default_rng(0).normal(size=(1, 2, 8, 8))
    for step, loss in enumerate(losses, 1):
        given = varied if scores is None else scores(step)
        training = SimpleNamespace(
            scores=given, step=step, steps=steps, loss=loss, lr=0.5, epoch=1, matrix=matrix
        )
        watch.step(training)
        watch.epoch(training)
        for about in watch.told.keys() - told.keys():
            told[about] = step
    return told


CHANCE = math.log(2)


@pytest.mark.parametrize(("steps", "last"), [(100, 30), (30, 30), (29, 29), (2, 2), (1, None)])
def test_a_loss_at_chance_is_reported_after_30_steps_or_at_the_end(steps, last):
    told = played([CHANCE] * steps, steps=steps)
    assert told == ({} if last is None else {"loss at chance": last})


@pytest.mark.parametrize(
    ("share", "told"), [(0.9e-4, True), (-0.9e-4, True), (1.1e-4, False), (-1.1e-4, False)]
)
def test_a_loss_near_chance(share, told):
    losses = [1.0] * 29 + [CHANCE * (1 + share)] + [1.0] * 9
    assert played(losses) == ({"loss at chance": 30} if told else {})


@pytest.mark.parametrize(("steps", "first"), [(100, 10), (10, 10), (9, 9), (2, 2), (1, None)])
def test_a_loss_that_is_high_from_the_beginning(steps, first):
    told = played([3.1 * CHANCE] * steps, steps=steps)
    assert told == ({} if first is None else {"loss blown up": first})
    assert played([2.9 * CHANCE] * steps, steps=steps) == {}


def test_the_median_of_ten_losses_counts():
    assert played([1.0] * 20 + [99.0] * 4 + [1.0] * 20) == {}
    assert played([1.0] * 20 + [99.0] * 20) == {"loss blown up": 25}  # half of the last ten


@pytest.mark.parametrize(("steps", "looks"), [(100, 3), (4, 3), (3, 2), (2, 1), (1, 0)])
def test_scores_that_are_constant_in_the_first_steps_after_the_first(steps, looks):
    def constant(step):
        return np.full((1, 2, 8, 8), 0.5)

    expected = {"constant scores": 1 + looks} if looks else {}
    assert played([1.0] * steps, steps=steps, scores=constant) == expected

    def varied_once(step):
        scores = constant(step)
        scores[0, 1, 3, 3] += step == 2
        return scores

    assert played([1.0] * steps, steps=steps, scores=varied_once) == {}


def test_predictions_of_one_class_are_reported_from_step_30_on():
    matrix = ConfusionMatrix(2)
    matrix._matrix = np.array([[50, 0], [50, 0]])
    for steps, first in ((100, 30), (30, 30), (7, 7)):
        assert played([1.0] * steps, steps=steps, matrix=matrix) == {"one class": first}


# Before the first step


def images_():
    return GREY(np.stack([Blobs()[i][0] for i in range(2)]))


@pytest.mark.parametrize("alignment", ["exact", "paper"])
def test_dead_features(alignment):
    dead = FCN(digit_classifier(init="zeros"), 2, 2, alignment=alignment)
    assert "all of its features are zero" in dead_features(dead, images_())
    dead.head[0].bias.data[:] = 1
    assert "its features are the same at every position" in dead_features(
        dead, np.tile(images_(), (1, 1, 3, 3))
    )
    alive = sound(alignment)
    mode = [layer.training for layer in alive.layers()]
    assert dead_features(alive, images_()) is None
    assert [layer.training for layer in alive.layers()] == mode


@pytest.mark.parametrize("wide", [False, True])
def test_dead_features_of_narrow_images(wide):
    dead = FCN(digit_classifier(init="zeros"), 2, 2)
    dead.head[0].bias.data[:] = 1
    narrow = np.tile(images_(), (1, 1, 4, 1))[..., :8]  # its features have two columns
    images = narrow.swapaxes(2, 3) if wide else narrow
    assert "the same at every position" in dead_features(dead, images)


def test_features_of_a_tiny_image_are_not_called_dead():
    assert dead_features(sound(), images_()[:, :, :3, :2]) is None


def test_the_starting_loss_is_the_known_number():
    """3.04452 = ln 21, which those who forgot the weights have asked about for years."""
    assert f"{math.log(21):.5f}" == "3.04452"
