import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.palette import VOID, VOID_COLOR, palette
from minifcn.viz import label_map, prediction_strips
from minifcn.viz.predictions import RIGHT_COLOR, WRONG_COLOR

NAMES = ("background", "cat", "dog")
COLORS = palette(3)


def panels(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, (4, 6), elements=st.sampled_from([0, 1, 2, VOID])),
    hnp.arrays(np.int64, (4, 6), elements=st.integers(0, 2)),
    hnp.arrays(np.uint8, (4, 6, 3)),
)
def test_panels_show_image_truth_prediction_and_error(truth, guess, image):
    figure = prediction_strips([image], [truth], [guess], NAMES, COLORS)
    pictures = panels(figure)
    np.testing.assert_array_equal(pictures[0], image)
    np.testing.assert_array_equal(pictures[1], label_map(truth, COLORS))
    np.testing.assert_array_equal(pictures[2], label_map(guess, COLORS))
    wrong = 0
    for index, label in np.ndenumerate(truth):
        if label == VOID:
            assert tuple(pictures[3][index]) == VOID_COLOR
        elif label == guess[index]:
            assert tuple(pictures[3][index]) == RIGHT_COLOR
        else:
            assert tuple(pictures[3][index]) == WRONG_COLOR
            wrong += 1
    counted = int((truth != VOID).sum())
    expected = f"{100 * wrong / counted:.1f} % wrong" if counted else "only void"
    assert figure.axes[3].get_xlabel() == expected


def test_one_row_an_image_and_one_legend_for_all():
    images = [np.zeros((8, 12), np.uint8), np.zeros((10, 6, 3), np.uint8)]
    truths = [np.zeros((8, 12), np.uint8), np.full((10, 6), 2, np.uint8)]
    guesses = [np.zeros((8, 12), int), np.full((10, 6), 2)]
    figure = prediction_strips(images, truths, guesses, NAMES, COLORS)
    assert len(figure.axes) == 8
    assert [axes.get_title() for axes in figure.axes[:4]] == ["image", "truth", "prediction", "error"]
    assert [picture.shape for picture in panels(figure)] == [(8, 12, 3)] * 4 + [(10, 6, 3)] * 4
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["background", "dog", "right", "wrong"]
    truths[0][0, 0] = VOID
    guesses[0][0, 1] = 1
    figure = prediction_strips(images, truths, guesses, NAMES, COLORS)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [*NAMES, "right", "wrong", "void"]


def test_regions_are_named_in_truth_and_prediction():
    truth = np.zeros((40, 60), np.uint8)
    truth[:, 30:] = 1
    figure = prediction_strips([truth], [truth], [2 * truth], NAMES, COLORS)
    named = [sorted(text.get_text() for text in axes.texts) for axes in figure.axes]
    assert named == [[], ["background", "cat"], ["background", "dog"], []]


def test_the_figure_fits_its_contents():
    truth = np.random.default_rng(0).choice(np.array([0, 1, 2, VOID], np.uint8), (30, 40))
    figure = prediction_strips([truth] * 2, [truth] * 2, [truth % 3] * 2, NAMES, COLORS)
    figure.savefig(io.BytesIO(), format="png")
    inside = figure.bbox
    for artist in (*figure.axes, figure.legends[0]):
        box = artist.get_tightbbox()
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    assert min(axes.get_window_extent().width for axes in figure.axes) > 2.3 * figure.dpi  # of 2.4 inches
    lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert figure.legends[0].get_tightbbox().y1 <= lowest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "predictions .* got 0, 1 and 1"),
        (
            {"images": [], "labels": [], "predictions": []},
            "predictions .* got 0, 0 and 0",
        ),
        ({"predictions": [np.zeros((4, 6), int)] * 2}, "got 1, 1 and 2"),
        ({"images": [np.zeros((4, 6, 2), np.uint8)]}, r"images\[0\] must be a uint8 image"),
        ({"labels": [np.zeros((6, 4), int)]}, r"labels\[0\] of size \(6, 4\) .* image of size \(4, 6\)"),
        ({"predictions": [np.zeros((1, 4, 6), int)]}, r"predictions\[0\] must be integers \(H, W\)"),
        ({"predictions": [np.full((4, 6), VOID)]}, r"predictions\[0\] must lie in 0 to 2, got 255"),
        ({"class_names": ("one",)}, "palette has 3 colours for 1 class_names"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "images": [np.zeros((4, 6), np.uint8)],
        "labels": [np.zeros((4, 6), np.uint8)],
        "predictions": [np.zeros((4, 6), np.int64)],
        "class_names": NAMES,
        "palette": COLORS,
    } | change
    with pytest.raises(ValueError, match=message):
        prediction_strips(**arguments)


def test_rows_have_names():
    photo, truth = np.zeros((8, 8, 1), np.uint8), np.eye(8, dtype=np.uint8)
    two = [photo] * 2, [truth] * 2, [truth] * 2, ["ground", "line"], palette(2)
    figure = prediction_strips(*two, row_names=["stride 8", "stride 4"])
    assert [axes.get_ylabel() for axes in figure.axes[::4]] == ["stride 8", "stride 4"]
    with pytest.raises(ValueError, match="row_names must name each of 2 rows, got 1"):
        prediction_strips(*two, row_names=["stride 8"])
