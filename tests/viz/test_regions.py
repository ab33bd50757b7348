import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from scipy import ndimage

from minifcn.palette import VOID
from minifcn.viz._regions import draw_borders, innermost_pixels, write_names


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, VOID]),
    )
)
@settings(max_examples=50)
def test_lines_run_along_the_edges_between_two_classes(labels):
    expected = set()
    for row, col in np.ndindex(*labels.shape):
        for drow, dcol in ((1, 0), (0, 1)):
            if row + drow < labels.shape[0] and col + dcol < labels.shape[1]:
                pair = {int(labels[row, col]), int(labels[row + drow, col + dcol])}
                if len(pair) == 2 and VOID not in pair:
                    y, x = row + drow / 2, col + dcol / 2  # the middle of the edge
                    expected.add(frozenset({(x - drow / 2, y - dcol / 2), (x + drow / 2, y + dcol / 2)}))
    axes = Figure().subplots()
    draw_borders(axes, labels)
    segments = axes.collections[0].get_segments()
    assert {frozenset(map(tuple, segment.tolist())) for segment in segments} == expected
    assert len(segments) == len(expected)


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
        elements=st.sampled_from([0, 0, 0, 1, VOID]),
    )
)
def test_innermost_pixels_are_the_deepest_of_each_region(labels):
    before = labels.copy()
    found = list(innermost_pixels(labels))
    expected = []
    for label in (0, 1):
        regions, count = ndimage.label(labels == label)
        for region in range(1, count + 1):
            depth = ndimage.distance_transform_cdt(np.pad(regions == region, 1), "taxicab")[1:-1, 1:-1]
            expected.append(depth.max())
            (inside,) = [(row, col, d) for row, col, d in found if regions[row, col] == region]
            assert depth[inside[:2]] == inside[2] == depth.max()
    assert [depth for *_, depth in found] == sorted(expected, reverse=True)
    np.testing.assert_array_equal(labels, before)


def names(labels, class_names, width=4.0):
    axes = Figure().subplots()
    write_names(axes, labels, class_names, width)
    return [(text.get_text(), text.get_position()) for text in axes.texts]


def test_large_images_are_named_at_nearly_the_same_place():
    labels = np.zeros((480, 640), np.uint8)
    labels[100:300, 200:400] = 1
    x, y = dict(names(labels, ["ground", "square"]))["square"]
    assert abs(x - 300) < 10
    assert abs(y - 200) < 10


def test_small_regions_are_not_named():
    labels = np.zeros((100, 400), np.uint8)
    labels[20:23, 20:23] = 1
    assert [name for name, _ in names(labels, ["ground", "speck"])] == ["ground"]


def test_a_name_sticks_out_of_a_narrow_region_only_once():
    labels = np.zeros((200, 400), np.uint8)
    labels[20:180, 50:80] = labels[20:180, 300:330] = 1
    assert [name for name, _ in names(labels, ["ground", "a long name"])].count("a long name") == 1
    assert [name for name, _ in names(labels, ["ground", "a"])].count("a") == 2


def test_names_stay_inside_the_picture_and_off_each_other():
    labels = np.zeros((200, 400), np.uint8)
    labels[:, :60] = 1
    labels[:100, 340:] = 2
    placed = names(labels, ["ground", "left edge name", "right edge name"])
    assert len(placed) == 3
    for name, (x, _) in placed:
        half = 0.5 * len(name) * 0.6 * 8 / 72 * 100  # letters of 0.6 x 8 points at 100 pixels an inch
        assert half <= x <= 400 - half
    assert (
        names(np.kron([[0, 1]], np.ones((40, 30))).astype(np.uint8), ["one long name", "another"], 1.0)[1:]
        == []
    )


def test_a_second_name_lies_within_its_region_up_to_the_edge_of_the_picture():
    labels = np.zeros((160, 160), np.uint8)
    labels[60:, 60:] = labels[:20, :60] = 1
    assert [name for name, _ in names(labels, ["ground", "ONE"], 1.6)].count("ONE") == 2
    labels[:20, 0] = 0  # where the name begins
    assert [name for name, _ in names(labels, ["ground", "ONE"], 1.6)].count("ONE") == 1


@pytest.mark.parametrize("shape", [(3, 160), (160, 3), (3, 161), (161, 3)])
def test_all_pixels_are_used_up_to_160_rows_and_columns(shape):
    labels = np.zeros(shape, np.uint8)
    labels[1, 1] = 1
    found = {int(labels[row, col]) for row, col, _ in innermost_pixels(labels)}
    assert found == ({0, 1} if max(shape) == 160 else {0})  # every second pixel leaves out the speck


@pytest.mark.parametrize(("rows", "named"), [(20, True), (18, False)])
def test_a_name_needs_three_quarters_of_a_letter_on_each_side(rows, named):
    labels = np.zeros((120, 120), np.uint8)
    labels[:rows, 60:] = 1  # the middle is 10 or 9 pixels away from the border
    found = names(labels, ["ground", "A"], width=1.0)  # letters of 8 points are 13.3 pixels
    assert ("A" in dict(found)) == named
