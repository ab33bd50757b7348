"""Arguments that several figures have in common."""

import numpy as np
import pytest

from minifcn import viz

IMAGE, LABELS = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
COLORS = np.zeros((2, 3), np.uint8)


@pytest.mark.parametrize("names", [2, None, ["a", 3], {"a": 1, "b": 2}])
@pytest.mark.parametrize(
    "draw",
    [
        lambda names: viz.overlay(IMAGE, LABELS, names, COLORS),
        lambda names: viz.prediction_strips([IMAGE], [LABELS], [LABELS], names, COLORS),
        lambda names: viz.confusion_matrix(np.eye(2, dtype=int), names),
        lambda names: viz.heat_maps(IMAGE, np.zeros((2, 2, 2)), names, classes=[0], extent=(0, 4, 4, 0)),
    ],
)
def test_class_names_are_texts(draw, names):
    draw(("a", "b"))
    with pytest.raises(TypeError, match="class_names must be a sequence of texts"):
        draw(names)
