"""What all figures share."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from minifcn.viz import overlay, prediction_strips

NAMES, COLORS = ("ground", "a tree with a long name"), np.array([[9, 9, 9], [0, 200, 0]], np.uint8)


def figures():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 140, 3), np.uint8)
    labels = np.kron(rng.integers(0, 2, (3, 4)), np.ones((30, 35))).astype(np.uint8)
    return {
        "overlay": overlay(image, labels, NAMES, COLORS),
        "strips": prediction_strips([image], [labels], [1 - labels], NAMES, COLORS),
    }


def pixels(save, figure, **options):
    file = io.BytesIO()
    save(figure, file, format="png", **options)
    with Image.open(file) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("options", [{}, {"dpi": 70}], ids=str)
@pytest.mark.parametrize("kind", ["overlay", "strips"])
def test_a_saved_figure_has_the_pixels_that_matplotlib_draws(kind, options):
    expected = pixels(Figure.savefig, figures()[kind], **options)
    figure = figures()[kind]
    for _ in range(2):  # saving leaves the figure as it was
        np.testing.assert_array_equal(pixels(type(figure).savefig, figure, **options), expected)
