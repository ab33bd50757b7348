"""A sound pipeline learns one image; each planted fault is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.models import FCN, digit_classifier
from minifcn.optim import SGD, Adam
from minifcn.training import label
from minifcn.training.network import set_dropout
from minifcn.training.overfit import grid_accuracy, overfit_one
from tests.training.small import GREY, Blobs


def tried(model=None, dataset=None, *, optimizer=None, **options):
    model = model or FCN(digit_classifier(rng=0), 2, 2)
    set_dropout(model, 0.0)
    optimizer = optimizer or Adam(model, 3e-3)
    said = []
    options = {"tell": said.append, "progress": None} | options
    return overfit_one(model, dataset or Blobs(), optimizer, preprocess=GREY, **options), said


def test_a_sound_pipeline_learns_it():
    model = FCN(digit_classifier(rng=0), 2, 2)
    verdict, said = tried(model)
    assert verdict.learned
    assert verdict.sentence.startswith("learned in ")
    _, labels = Blobs()[0]
    assert verdict.accuracy >= min(0.95, 0.98 * grid_accuracy(labels, 2))
    right = (label(model, Blobs()[0][0], preprocess=GREY) == labels)[labels != 255].mean()
    assert right == pytest.approx(verdict.accuracy)
    assert said[-1].startswith("step ")


def test_it_is_learned_on_a_gpu(strict):
    verdict, _ = tried(FCN(digit_classifier(rng=0), 2, 2).to("cuda"), steps=40)
    assert verdict.accuracy > 0.5


def test_the_loss_of_a_new_network_starts_at_the_log_of_the_number_of_classes():
    """`tell` is called with it; the loss of a trained network starts elsewhere."""
    first = "the loss starts at about ln 2 = 0.693: the score layers begin at zero"
    verdict, said = tried(steps=1)
    assert said[0].startswith(first)
    assert "loss 0.693, " in verdict.sentence
    trained = FCN(digit_classifier(rng=0), 2, 2)
    trained.score.bias.data[1] = 3
    _, said = tried(trained, steps=1)
    assert not any("the loss starts" in line for line in said)


def test_a_dead_trunk_is_named():
    verdict, _ = tried(FCN(digit_classifier(init="zeros"), 2, 2), steps=40)
    assert not verdict.learned
    assert "the same at every pixel" in verdict.sentence


def test_a_rate_that_is_too_small_is_named():
    model = FCN(digit_classifier(rng=0), 2, 2)
    verdict, _ = tried(model, optimizer=SGD(model, 1e-12), steps=40)
    assert not verdict.learned
    assert "still ln 2" in verdict.sentence


def test_a_coarse_network_cannot_learn_noise():
    class Noise(Blobs):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            return image, np.random.default_rng(0).integers(0, 2, labels.shape).astype(np.uint8)

    verdict, _ = tried(FCN(digit_classifier(rng=0), 2, 8), Noise(), steps=60)
    assert not verdict.learned or verdict.accuracy < 0.8  # no more than is possible on a grid of 8


def test_an_image_that_is_all_void_is_named():
    class Void(Blobs):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            return image, np.full_like(labels, 255)

    verdict, _ = tried(dataset=Void())
    assert (verdict.learned, verdict.sentence) == (
        False,
        "all of its pixels are void, so there is nothing to learn",
    )


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(0, 100))
def test_the_accuracy_that_is_possible_on_a_grid(height, width, stride, seed):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint8)
    labels[labels == 2] = 255
    if (labels == 255).all():
        return
    accuracy = grid_accuracy(labels, stride)
    assert 0.5 <= accuracy <= 1  # the more frequent one of two classes has at least half
    assert grid_accuracy(labels, 1) == 1
    assert accuracy >= np.bincount(labels[labels != 255]).max() / (labels != 255).sum()  # one cell for all
