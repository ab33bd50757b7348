import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.palette import VOID, VOID_COLOR, palette
from minifcn.viz import label_map, overlay

NAMES = ("_background_", "cat", r"$\dog$")  # matplotlib would drop the first and fail to typeset the last
COLORS = palette(3)
LABELS = st.sampled_from([0, 1, 2, VOID])
SIZES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


def scene():
    """A grey photograph; a cat on the left, a dog on the right, a void stripe, and ground."""
    image = np.full((60, 90, 3), 100, np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    labels[10:50, 5:35] = 1
    labels[10:50, 50:85] = 2
    labels[:, 40:42] = VOID
    return image, labels


def shown(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@given(hnp.arrays(np.uint8, SIZES, elements=LABELS))
def test_label_map_paints_each_pixel_in_the_color_of_its_class(labels):
    picture = label_map(labels, COLORS)
    assert (picture.shape, picture.dtype) == ((*labels.shape, 3), np.uint8)
    for index, label in np.ndenumerate(labels):
        assert tuple(picture[index]) == (VOID_COLOR if label == VOID else tuple(COLORS[label]))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_label_map_takes_any_integers(dtype):
    labels = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(label_map(labels.astype(dtype), COLORS), COLORS[labels])


def test_label_map_takes_arrays_from_the_gpu(strict):
    labels = np.array([[0, 2], [1, VOID]], np.uint8)
    picture = label_map(strict.array(labels), COLORS)
    assert type(picture) is np.ndarray
    np.testing.assert_array_equal(picture, label_map(labels, COLORS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 3, 1), int), r"labels must be integers \(H, W\), got int64 of shape \(2, 3, 1\)"),
        (np.zeros((2, 3)), r"labels must be integers \(H, W\), got float64"),
        (np.zeros((0, 3), int), r"got int64 of shape \(0, 3\)"),
        (np.array([[0, 3]]), r"labels must lie in 0 to 2 or be 255 \(void\), got 3 at \(0, 1\); 1 of 2"),
        (np.array([[0, -1]]), r"labels must lie in 0 to 2 or be 255 \(void\), got -1"),
    ],
)
def test_label_map_refuses_what_are_no_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        label_map(labels, COLORS)


@pytest.mark.parametrize("colors", [COLORS[:, :2], COLORS[0], COLORS / 255, COLORS[:0]])
def test_label_map_refuses_what_is_no_palette(colors):
    with pytest.raises(ValueError, match="palette must"):
        label_map(np.zeros((2, 2), int), colors)


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, (5, 6), elements=LABELS),
    hnp.arrays(np.uint8, (5, 6, 3)),
    st.floats(0, 1),
)
def test_overlay_mixes_picture_and_color_and_leaves_void_alone(labels, image, opacity):
    before = image.copy(), labels.copy()
    mixed = shown(overlay(image, labels, NAMES, COLORS, opacity=opacity)).astype(float)
    for index, label in np.ndenumerate(labels):
        expected = (
            image[index]
            if label == VOID
            else image[index] + opacity * (COLORS[label].astype(float) - image[index])
        )
        np.testing.assert_allclose(mixed[index], expected, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("shape", [(60, 90), (60, 90, 1)])
def test_overlay_takes_grey_pictures(shape):
    image, labels = scene()
    np.testing.assert_array_equal(
        shown(overlay(np.full(shape, 100, np.uint8), labels, NAMES, COLORS)),
        shown(overlay(image, labels, NAMES, COLORS)),
    )


def test_overlay_names_only_classes_that_occur():
    image, labels = scene()
    assert legend(overlay(image, labels, NAMES, COLORS)) == [*NAMES, "void: not tinted"]
    labels[labels == 1] = 0
    labels[labels == VOID] = 0
    assert legend(overlay(image, labels, NAMES, COLORS)) == ["_background_", NAMES[2]]


def test_overlay_writes_names_into_their_regions():
    image, labels = scene()
    texts = overlay(image, labels, NAMES, COLORS).axes[0].texts
    assert {text.get_text() for text in texts} == set(NAMES)
    for text in texts:
        x, y = text.get_position()
        if text.get_text() != "_background_":  # of which no part is wide enough for the word
            assert NAMES[labels[round(y), round(x)]] == text.get_text()


def test_overlay_draws_the_borders():
    image, labels = scene()
    assert len(overlay(image, labels, NAMES, COLORS).axes[0].collections[0].get_segments()) == 2 * (
        40 + 30
    ) + 2 * (40 + 35)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (200, 161)])
def test_overlay_can_be_saved_at_any_size(size):
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, VOID], np.uint8), size)
    file = io.BytesIO()
    overlay(np.zeros(size, np.uint8), labels, NAMES, COLORS).savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((60, 90, 4), np.uint8)}, r"image must be a uint8 image .* \(60, 90, 4\)"),
        ({"image": np.zeros((60, 90, 3))}, "image must be a uint8 image .* got float64"),
        ({"image": np.zeros((1, 60, 90, 3), np.uint8)}, "image must be a uint8 image"),
        ({"image": np.zeros((60, 91), np.uint8)}, r"labels of size \(60, 90\) .* image of size \(60, 91\)"),
        ({"class_names": NAMES[:2]}, "palette has 3 colours for 2 class_names"),
        ({"labels": np.full((60, 90), 9)}, "labels must lie in 0 to 2"),
        ({"opacity": 1.5}, "opacity must lie in 0 to 1, got 1.5"),
        ({"opacity": float("nan")}, "opacity must lie in 0 to 1, got nan"),
    ],
)
def test_overlay_refuses_what_does_not_fit(change, message):
    image, labels = scene()
    arguments = {"image": image, "labels": labels, "class_names": NAMES, "palette": COLORS} | change
    with pytest.raises(ValueError, match=message):
        overlay(**arguments)


def test_letters_that_the_font_lacks_cause_no_warning(tmp_path):
    """Warnings are errors here."""
    colors = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    image, labels = np.zeros((30, 40, 3), np.uint8), np.ones((30, 40), np.uint8)
    overlay(image, labels, ("\u80cc\u666f", "\u732b"), colors).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
