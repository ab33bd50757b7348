import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minifcn.data import photograph
from minifcn.layers import Dropout, Sequential
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from minifcn.models.tiling import smallest_tile
from minifcn.training import any_channels, label
from minifcn.training.label import evaluation_mode, predict
from tests.models.trunks import NARROW, randomised

PLAIN = {name: Preprocessing(name, (0.0,) * n, (1.0,) * n) for name, n in (("L", 1), ("RGB", 3), ("BGR", 3))}


@given(st.integers(0, 2**32 - 1))
def test_colour_becomes_grey_as_in_pillow(seed):
    image = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    grey = any_channels(PLAIN["L"])(image[None])[0, 0]
    assert np.abs(grey - np.array(Image.fromarray(image).convert("L"))).max() <= 1
    assert np.array_equal(grey, np.rint(image @ np.array([0.299, 0.587, 0.114]) + 1e-9))


def test_grey_becomes_colour():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    for name in ("RGB", "BGR"):
        assert np.array_equal(any_channels(PLAIN[name])(image), np.broadcast_to(image[..., 0], (1, 3, 2, 3)))


def test_images_that_fit_are_not_changed():
    rng = np.random.default_rng(0)
    for name, preprocessing in PLAIN.items():
        images = rng.integers(0, 256, (2, 4, 5, len(preprocessing.mean)), np.uint8)
        assert np.array_equal(any_channels(preprocessing)(images), preprocessing(images)), name


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 11, 256, 257]), st.booleans())
def test_the_class_is_the_first_of_the_highest_scores(seed, num_classes, with_nan):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (2, num_classes, 9, 5)).astype(np.float32)  # with many equal ones
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    if with_nan:
        scores[rng.random(scores.shape) < 0.05] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[predict.__module__], "ROWS_CHUNK", 20)  # four rows
        found = predict(Sequential().eval(), scores)  # which returns its input
    assert found.dtype == (np.uint8 if num_classes <= 256 else np.int64)
    np.testing.assert_array_equal(found, scores.argmax(axis=1))


def network(channels="L"):
    fcn = FCN(digit_classifier(rng=0), 3, 2)
    rng = np.random.default_rng(0)
    for layer in fcn.score_layers():
        layer.weight.data[...] = rng.normal(size=layer.weight.data.shape)
    fcn.info = ModelInfo(("a", "b", "c"), Preprocessing(channels, (90.0,), (50.0,)))
    return fcn


def test_label_equals_the_steps_by_hand():
    """Preprocessing, evaluation mode and argmax; the mode of each layer is restored."""
    fcn = network()
    image = np.random.default_rng(1).integers(0, 256, (30, 41, 3), np.uint8)
    fcn.head.eval()
    modes = [layer.training for layer in fcn.layers()]
    labels = label(fcn, image)
    assert [layer.training for layer in fcn.layers()] == modes
    scores = fcn.eval()(any_channels(fcn.info.preprocessing)(image[None]))
    assert np.array_equal(labels, scores[0].argmax(axis=0))
    assert (labels.dtype, labels.shape) == (np.uint8, (30, 41))
    assert len(np.unique(labels)) > 1


@pytest.mark.slow
def test_two_hundred_random_cuts_of_photographs():
    """In float32, labels differ only where the two best scores are almost equal, which is rare."""
    rng, names = np.random.default_rng(0), sorted(NARROW)
    rgb = Preprocessing("RGB", (124.0, 117.0, 104.0), (58.0, 57.0, 57.0))
    different = pixels = varied = 0
    for number in range(200):
        classifier = NARROW[names[number % len(names)]]()
        strides = sorted({FCN(classifier, 2).stride, *classifier.taps})
        alignment = str(rng.choice(["exact", "paper"]))
        model = randomised(FCN(classifier, 5, int(rng.choice(strides)), alignment=alignment), number).eval()
        longest = smallest_tile(model) + int(rng.integers(200))
        size = rng.permutation([rng.integers(1, 60), longest + rng.integers(1, 100)])
        image = photograph(rng.choice(["cat", "cup"]))
        top, left = (int(rng.integers(edge)) for edge in image.shape[:2])
        image = np.pad(image[top:, left:], ((0, size[0]), (0, size[1]), (0, 0)), "symmetric")
        image = image[: size[0], : size[1]]
        preprocess = any_channels(rgb) if model.channels == 3 else any_channels(PLAIN["L"])
        scores = model(preprocess(image[None]))[0]
        labels = label(model, image, preprocess=preprocess, tile=longest)
        other = labels != scores.argmax(axis=0)
        second, first = np.sort(scores, axis=0)[-2:]
        assert (first - second)[other].max(initial=0) < 1e-4 * abs(scores).max(), (number, other.sum())
        different, pixels = different + int(other.sum()), pixels + labels.size
        varied += len(np.unique(labels)) > 1
    print(f"{different} of {pixels} labels differ; {varied} of 200 images have several classes")
    assert different < 1e-5 * pixels
    assert varied > 50


def test_a_preprocessing_can_be_given_and_one_is_needed():
    fcn, image = network(), np.full((20, 20, 1), 100, np.uint8)
    other = Preprocessing("L", (0.0,), (1000.0,))
    expected = fcn.eval()(other(image[None]))[0].argmax(axis=0)
    assert np.array_equal(label(fcn, image, preprocess=other), expected)
    fcn.info = None
    with pytest.raises(ValueError, match="preprocess must be given"):
        label(fcn, image)


def test_a_classifier_gives_one_class():
    classifier = digit_classifier(rng=0)
    classifier.info = ModelInfo(tuple("0123456789"), PLAIN["L"])
    result = label(classifier, np.zeros((32, 32, 1), np.uint8))
    assert (result.shape, result.dtype) == ((), np.uint8)


def test_a_network_on_a_gpu_gives_labels_as_a_numpy_array(strict):
    fcn, image = network(), np.random.default_rng(1).integers(0, 256, (24, 24, 1), np.uint8)
    expected = label(fcn, image)
    labels = label(fcn.to("cuda"), image)
    assert isinstance(labels, np.ndarray)
    assert (labels == expected).mean() > 0.99


def test_modes_are_restored_after_an_error():
    dropout = Dropout(rng=0)
    with suppress(RuntimeError), evaluation_mode(dropout):
        assert not dropout.training
        raise RuntimeError
    assert dropout.training
