import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minifcn.models import Preprocessing
from minifcn.training import any_channels

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
