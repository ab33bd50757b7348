import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.backends.backend_agg import FigureCanvasAgg

from minifcn.viz import panels

GRIDS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(-99, 99)
)


@settings(max_examples=10)
@given(GRIDS)
def test_small_arrays_show_each_number_in_its_cell(array):
    array[0, 0] = np.nan
    axes = panels({"a": array}).axes[0]
    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {
        index: str(int(number)) for index, number in np.ndenumerate(array) if not np.isnan(number)
    }


def test_large_arrays_are_grey_pictures_with_their_range():
    array = np.linspace(-1, 3, 400).reshape(20, 20)
    axes = panels({"a": array}).axes[0]
    assert not axes.texts
    assert axes.get_xlabel() == "-1 to 3"
    assert axes.images[0].get_clim() == (-3, 3), "0 is the grey in the middle"
    assert panels({"a": array + 1}).axes[0].images[0].get_clim() == (0, 4)


def test_arrays_of_up_to_16_x_16_show_numbers():
    numbered = panels({"a": np.ones((16, 16)), "rows": np.ones((17, 1)), "columns": np.ones((1, 17))}).axes
    assert [len(axes.texts) for axes in numbered] == [256, 0, 0]


def test_photographs_are_shown_as_they_are():
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    figure = panels({"photo": photo, "grey": photo[..., :1]})
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), photo)
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), np.repeat(photo[..., :1], 3, axis=2))


def test_one_scale_for_all_on_request():
    arrays = {"a": np.array([[0.0, 2]]), "b": np.array([[1.0, 8]])}
    limits = [axes.images[0].get_clim() for axes in panels(arrays, shared=True).axes]
    assert limits == [(0, 8), (0, 8)]
    limits = [axes.images[0].get_clim() for axes in panels(arrays).axes]
    assert limits == [(0, 2), (0, 8)]


def test_boxes_lie_on_their_cells_and_can_be_told_apart_without_colour():
    axes = panels({"a": np.zeros((4, 5))}, boxes={"a": [(1, 2, 3, 1), (0, 0, 2, 2)]}).axes[0]
    first, second = axes.patches
    assert (*first.get_xy(), first.get_width(), first.get_height()) == (1.5, 0.5, 1, 3)
    assert first.get_linestyle() != second.get_linestyle()
    assert [text.get_text() for text in axes.texts[-2:]] == ["1", "2"]
    assert "1" not in {
        text.get_text() for text in panels({"a": np.zeros((4, 5))}, boxes={"a": [(1, 2, 3, 1)]}).axes[0].texts
    }


def test_each_box_is_an_outline_with_its_own_line_and_a_number_at_one_of_its_corners():
    boxes = [(row, 2, 1.0, 3) for row in range(6)]
    axes = panels({"a": np.full((8, 8), np.nan)}, boxes={"a": boxes}).axes[0]
    assert not any(box.get_fill() for box in axes.patches)
    assert {box.get_linewidth() for box in axes.patches} == {2}
    looks = [(box.get_edgecolor(), box.get_linestyle(), box._dash_pattern) for box in axes.patches]
    assert len({color for color, *_ in looks}) == len({str(look[1:]) for look in looks}) == 5
    assert looks[5] == looks[0]
    corners = [tuple(float(part) for part in text.xy) for text in axes.texts]
    left, right = 1.5, 4.5
    expected = [(left, -0.5), (right, 0.5), (right, 2.5), (left, 3.5), (left, 3.5), (right, 4.5)]
    assert corners == expected
    assert [text.get_text() for text in axes.texts] == list("123456")


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (3, 2)])
def test_the_figure_has_space_for_cells_and_names(rows, columns):
    figure = panels({f"p{k}": np.zeros((8, 9)) for k in range(rows * columns)}, columns=columns)
    np.testing.assert_allclose(
        figure.get_size_inches(), (columns * (9 * 0.32 + 0.25), rows * (8 * 0.32 + 0.45))
    )
    narrow = panels({f"p{k}": np.zeros((16, 16)) for k in range(2)}, width=4.0)
    side = ((4 - 0.2) / 2 - 0.1) / 16
    np.testing.assert_allclose(narrow.get_size_inches(), (4, 16 * side + 0.45))


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([2.0, 8], (0, 8)),  # white is 0
        ([0.0, 0], (0, 1)),
        ([-3.0, 1], (-3, 3)),
        ([-1.0, 3], (-3, 3)),
        ([np.nan, 5], (0, 5)),
        ([np.inf, 5], (0, 5)),
        ([np.nan, np.nan], (0, 1)),
    ],
)
def test_the_scale_of_numbers(values, limits):
    assert panels({"a": np.array([values])}).axes[0].images[0].get_clim() == limits


def test_grey_pictures_take_their_own_range_or_the_shared_one():
    ramp = np.linspace(2, 4, 400).reshape(20, 20)
    low, high = panels({"a": ramp, "b": ramp + 2}).axes
    assert (low.images[0].get_clim(), high.images[0].get_clim()) == ((2, 4), (4, 6))
    assert (low.get_xlabel(), high.get_xlabel()) == ("2 to 4", "4 to 6")
    shared = panels({"a": ramp, "b": ramp + 2}, shared=True).axes
    assert [axes.images[0].get_clim() for axes in shared] == [(2, 6), (2, 6)]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.25, "-0.25"),
        (1e-7, "0"),
        (1e-5, "1e-05"),
        (99.4, "99"),
        (100.4, "100"),
        (-150.6, "-151"),
        (7.99999999, "8"),
        (0.125, "0.12"),
        (np.inf, "inf"),
        (-np.inf, "-inf"),
    ],
)
def test_numbers_in_cells_are_short(number, text):
    assert [shown.get_text() for shown in panels({"a": np.array([number])}).axes[0].texts] == [text]


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(3, None, (1, 3)), (5, 2, (3, 2)), (2, 9, (1, 2)), (4, 4, (1, 4))]
)
def test_panels_stand_in_rows(count, columns, grid):
    figure = panels({f"p{k}": np.eye(2) for k in range(count)}, columns=columns)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
    shown = [axes.axison for axes in figure.axes]
    assert shown == [True] * count + [False] * (grid[0] * grid[1] - count)


@pytest.mark.parametrize("shapes", [[(6, 12), (12, 6)], [(4, 9), (9, 4)], [(12, 3), (2, 2)]])
def test_names_are_not_cut(shapes):
    figure = panels({f"panel {k}": np.zeros(shape) for k, shape in enumerate(shapes)})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        assert axes.title.get_window_extent(canvas.get_renderer()).y1 < figure.bbox.y1


def test_titles_columns_and_width():
    figure = panels({name: np.zeros((2, 12)) for name in ("a", "$b", "c")}, columns=2, width=5)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["a", "$b", "c"]
    assert figure.get_figwidth() <= 5
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": {}}, "at least one array"),
        ({"arrays": {"a": np.zeros((2, 2, 2))}}, r"'a' must be numbers \(H, W\) .* got float64 of shape"),
        ({"arrays": {"a": np.array(["x"])}}, "'a' must be numbers"),
        ({"arrays": {"a": np.zeros((0, 2))}}, "'a' must be numbers"),
        ({"arrays": {"a": np.eye(2)}, "boxes": {"b": []}}, r"boxes are given for \['b'\], but .* \['a'\]"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        panels(**arguments)
