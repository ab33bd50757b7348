import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.viz import confusion_matrix

COUNTS = st.integers(1, 5).flatmap(
    lambda n: hnp.arrays(np.int64, (n, n), elements=st.one_of(st.just(0), st.integers(0, 10**9)))
)


def cells(figure):
    return {
        tuple(round(i) for i in reversed(text.get_position())): text.get_text()
        for text in figure.axes[0].texts
    }


@settings(max_examples=40)
@given(COUNTS)
def test_cells_show_the_share_of_their_row(matrix):
    figure = confusion_matrix(matrix, [f"class {i}" for i in range(len(matrix))])
    colors = figure.axes[0].images[0].get_array()
    texts = cells(figure)
    for (row, col), count in np.ndenumerate(matrix):
        total = sum(map(int, matrix[row]))
        if total == 0:
            assert (row, col) not in texts
            assert colors.mask[row, col]
            continue
        percent = 100 * int(count) / total
        assert colors[row, col] == pytest.approx(percent)
        if count == 0:
            assert texts[row, col] == "0"
        elif percent < 0.05:
            assert texts[row, col] == "<0.1"
        else:
            assert abs(float(texts[row, col]) - percent) <= 0.05 + 1e-9


def test_rows_are_truth_and_columns_prediction():
    figure = confusion_matrix(np.array([[3, 1], [0, 1]]), ["cat", "dog"])
    axes, bar = figure.axes
    assert cells(figure) == {(0, 0): "75.0", (0, 1): "25.0", (1, 0): "0", (1, 1): "100.0"}
    assert [text.get_color() for text in axes.texts] == ["white", "black", "0.7", "white"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("truth", "prediction")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog"]
    assert figure.get_suptitle() == "percent of the pixels of each true class (rows add up to 100)"
    assert bar.get_ylim() == (0, 100)


@pytest.mark.parametrize(("classes", "more"), [(2, ""), (2, " of a long name" * 3), (11, ""), (21, "")])
def test_cells_are_wide_enough_for_their_text_and_nothing_is_cut_off(classes, more):
    matrix = np.random.default_rng(0).integers(0, 50, (classes, classes)) + 10**6 * np.eye(classes, dtype=int)
    figure = confusion_matrix(matrix, [rf"$\class_{i}${more}" for i in range(classes)])
    figure.savefig(io.BytesIO(), format="png")
    axes = figure.axes[0]
    room = axes.get_window_extent().width / classes
    assert max(text.get_window_extent().width for text in axes.texts) < 0.9 * room
    for part in figure.axes:
        box = part.get_tightbbox()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_the_matrix_is_left_alone():
    matrix = np.array([[3, 1], [0, 0]])
    confusion_matrix(matrix, ["cat", "dog"])
    np.testing.assert_array_equal(matrix, [[3, 1], [0, 0]])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3), int), r"matrix must be integers \(2, 2\), .* got int64 of shape \(2, 3\)"),
        (np.ones((3, 3), int), r"matrix must be integers \(2, 2\), .* got int64 of shape \(3, 3\)"),
        (np.ones((2, 2)), r"matrix must be integers \(2, 2\), .* got float64"),
        (np.array([[1, 0], [-4, 1]]), "matrix must hold counts, got -4"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(matrix, ["cat", "dog"])
