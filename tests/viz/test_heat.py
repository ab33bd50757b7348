import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minifcn.geometry import Window, coordinate_map
from minifcn.viz import heat_maps

NAMES = tuple("abcdefg")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
SCORES = np.random.default_rng(1).normal(size=(7, 4, 6))


def maps(figure):
    """The heat of each panel, which lies below the picture; the colour bar has none."""
    return [axes.images[0] for axes in figure.axes if len(axes.images) == 2]


def look(figure):
    """Return a function that tells the colour in which pixel (x, y) of the first panel comes out."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    drawn = np.asarray(Image.open(file).convert("RGB"))

    def color(x, y):
        col, row = figure.axes[0].transData.transform((x, y))
        return drawn[len(drawn) - 1 - int(row), int(col)]

    return color


@settings(max_examples=10)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True))
def test_one_panel_for_each_chosen_class_in_one_scale(classes):
    figure = heat_maps(IMAGE, SCORES, NAMES, classes=classes)
    heats = maps(figure)
    assert [heat.axes.get_title() for heat in heats] == [NAMES[index] for index in classes]
    for heat, index in zip(heats, classes, strict=True):
        np.testing.assert_array_equal(heat.get_array(), SCORES[index])
        assert heat.get_clim() == (SCORES[classes].min(), SCORES[classes].max())
        assert tuple(heat.get_extent()) == (-0.5, 55.5, 39.5, -0.5)


def test_all_classes_unless_chosen_and_a_labelled_scale():
    figure = heat_maps(IMAGE, SCORES, NAMES)
    assert len(maps(figure)) == 7
    assert figure.axes[-1].get_ylabel() == "score"
    assert heat_maps(IMAGE, SCORES, NAMES, label="probability").axes[-1].get_ylabel() == "probability"


def test_a_map_lies_where_the_network_looked():
    # Nothing is padded, so no cell is centred on the outer pixels: cell i looks at 8 i + 7.5.
    place = coordinate_map([Window(9), Window(8, stride=8)])
    edges = [float(place(index - Fraction(1, 2))) for index in (0, 6, 4, 0)]  # left, right, bottom, top
    scores = np.zeros((1, 4, 6))
    scores[0, 2, 3] = 1
    figure = heat_maps(np.full((40, 56), 255, np.uint8), scores, ["it"], extent=tuple(edges))
    colors = look(figure)
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((-0.5, 55.5), (39.5, -0.5))
    hot = [(x, y) for y in range(40) for x in range(56) if colors(x, y)[1] < 100]
    assert hot == [(x, y) for y in range(20, 28) for x in range(28, 36)]  # 8 pixels around 31.5 and 23.5


def test_a_map_that_reaches_over_the_edge_does_not_move_the_picture():
    figure = heat_maps(IMAGE, SCORES, NAMES, classes=[0], extent=(-20, 80, 60, -20))
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((-0.5, 55.5), (39.5, -0.5))


@pytest.mark.parametrize("shape", [(40, 56), (40, 56, 1), (40, 56, 3)])
def test_dark_parts_of_the_picture_darken_the_heat(shape):
    image = np.zeros(shape, np.uint8)
    image[:, 28:] = 255
    colors = look(heat_maps(image, np.zeros((2, 2, 2)), "ab"))
    assert colors(40, 20).min() == 255
    assert 100 < colors(10, 20).max() < 180


def test_a_map_has_an_outline_and_the_last_class_may_be_chosen_first():
    figure = heat_maps(IMAGE, SCORES, NAMES, classes=[6, 0], extent=(3.5, 51.5, 35.5, 3.5))
    assert [heat.axes.get_title() for heat in maps(figure)] == ["g", "a"]
    for heat in maps(figure):
        (outline,) = heat.axes.patches
        assert not outline.get_fill()
        assert outline.get_bbox().extents.tolist() == [3.5, 3.5, 51.5, 35.5]


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (4, (1, 4)), (5, (1, 5)), (6, (2, 4)), (7, (2, 4)), (8, (2, 4))]
)
def test_panels_stand_in_rows_of_at_most_five(count, grid):
    figure = heat_maps(IMAGE, np.ones((count, 2, 2)), "abcdefgh"[:count])
    panels = figure.axes[:-1]
    assert panels[0].get_subplotspec().get_gridspec().get_geometry() == grid
    assert [axes.axison for axes in panels] == [True] * count + [False] * (grid[0] * grid[1] - count)


def test_any_name_will_do_and_inputs_are_left_alone():
    image, scores = IMAGE.copy(), SCORES.copy()
    heat_maps(image, scores, [rf"$\{name}$" for name in NAMES]).savefig(io.BytesIO(), format="png")
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(scores, SCORES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4))}, "image must be a uint8 image"),
        ({"scores": SCORES[0]}, r"scores must be \(K, h, w\) .* 7 class_names, got shape \(4, 6\)"),
        ({"scores": SCORES[:3]}, r"one map for each of the 7 class_names, got shape \(3, 4, 6\)"),
        ({"scores": SCORES[:, :0]}, r"got shape \(7, 0, 6\)"),
        ({"scores": np.where(SCORES > 0, SCORES, np.nan)}, "scores must be finite"),
        ({"classes": [0, 7]}, r"classes must be some of 0 to 6, got \[0, 7\]"),
        ({"classes": [-1]}, r"classes must be some of 0 to 6, got \[-1\]"),
        ({"classes": []}, r"classes must be some of 0 to 6, got \[\]"),
        ({"extent": (0, 5, 0, 5)}, r"extent must be \(left, right, bottom, top\)"),
        ({"extent": (5, 0, 5, 0)}, r"extent must be \(left, right, bottom, top\)"),
        ({"extent": (0, 5)}, r"extent must be \(left, right, bottom, top\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"image": IMAGE, "scores": SCORES, "class_names": NAMES} | change
    with pytest.raises(ValueError, match=message):
        heat_maps(**arguments)
