import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.metrics import ConfusionMatrix

RULES = ("exclude", "zero", "one", "truth")
SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")

# The table of six classes: three occur, class 3 is only predicted, 4 and 5 are nowhere.
TOY = np.zeros((6, 6), np.int64)
TOY[0, :4] = 55, 3, 0, 5
TOY[1, :4] = 1, 20, 0, 1
TOY[2, 2] = 30


def pixels_of(matrix):
    """Labels and predictions that are counted as this matrix."""
    rows, columns = np.indices(matrix.shape)
    times = matrix.reshape(-1)
    return np.repeat(rows.reshape(-1), times).astype(np.uint8), np.repeat(columns.reshape(-1), times)


def counted(matrix, **options):
    counts = ConfusionMatrix(len(matrix), **options)
    counts.update(*pixels_of(matrix))
    return counts


def scores_of(counts):
    return [getattr(counts, name)() for name in SCORES]


def by_loops(labels, predictions, num_classes, ignore_index):
    """The matrix, one pixel after another."""
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for label, prediction in zip(labels.reshape(-1).tolist(), predictions.reshape(-1).tolist(), strict=True):
        if label != ignore_index:
            matrix[label][prediction] += 1
    return matrix


def scores_by_loops(n):
    """The four numbers by the formulas of the paper, absent classes left out."""
    classes = range(len(n))
    t = [sum(n[i]) for i in classes]
    union = [t[i] + sum(n[j][i] for j in classes) - n[i][i] for i in classes]
    there, met = [i for i in classes if t[i]], [i for i in classes if union[i]]
    if not there:
        return [math.nan] * 4
    return [
        sum(n[i][i] for i in classes) / sum(t),
        sum(n[i][i] / t[i] for i in there) / len(there),
        sum(n[i][i] / union[i] for i in met) / len(met),
        sum(t[i] * n[i][i] / union[i] for i in there) / sum(t),
    ]


@st.composite
def labellings(draw, void=True):
    """Number of classes, labels with some void, predictions that are often right, a generator."""
    k = draw(st.integers(1, 6))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    used = draw(st.integers(1, k))  # the others are absent
    labels = rng.integers(0, used, shape).astype(np.uint8)
    predictions = np.where(rng.random(shape) < 0.6, labels, rng.integers(0, k, shape))
    if void:
        labels[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 255
    return k, labels, predictions.astype(draw(st.sampled_from(["uint8", "int8", "int64", "uint64"]))), rng


@given(case=labellings())
def test_equals_the_definition(xp, case):
    k, labels, predictions, _ = case
    counts = ConfusionMatrix(k)
    counts.update(xp.array(labels), xp.array(predictions))
    expected = by_loops(labels, predictions, k, 255)
    assert counts.matrix.dtype == np.int64
    assert counts.matrix.tolist() == expected
    np.testing.assert_allclose(scores_of(counts), scores_by_loops(expected), rtol=1e-13)


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")

    @given(labellings())
    def check(case):
        k, labels, predictions, _ = case
        truth, predicted = labels[labels != 255], predictions[labels != 255]
        if k == 1 or not truth.size:
            return  # scikit-learn refuses these
        counts = ConfusionMatrix(k)
        counts.update(labels, predictions)
        expected = metrics.confusion_matrix(truth, predicted, labels=range(k))
        np.testing.assert_array_equal(counts.matrix, expected)

    check()


@given(labellings())
def test_images_add_up(case):
    k, labels, predictions, _ = case
    whole, in_turn = ConfusionMatrix(k), ConfusionMatrix(k)
    whole.update(labels, predictions)
    summed = ConfusionMatrix(k)
    for label, prediction in zip(labels, predictions, strict=True):
        in_turn.update(label, prediction)
        single = ConfusionMatrix(k)
        single.update(label, prediction)
        summed = summed + single
    np.testing.assert_array_equal(in_turn.matrix, whole.matrix)
    np.testing.assert_array_equal(summed.matrix, whole.matrix)


@given(labellings())
def test_numbering_of_the_classes_does_not_matter(case):
    k, labels, predictions, rng = case
    order = rng.permutation(k)
    for absent in RULES:
        counts, renumbered = ConfusionMatrix(k, absent=absent), ConfusionMatrix(k, absent=absent)
        counts.update(labels, predictions)
        relabelled = np.append(order, np.full(256 - k, 255)).astype(np.uint8)[labels]
        renumbered.update(relabelled, order[predictions.astype(int)])
        np.testing.assert_allclose(scores_of(renumbered), scores_of(counts), rtol=1e-13)
        np.testing.assert_array_equal(renumbered.iou_per_class()[order], counts.iou_per_class())


@given(labellings())
def test_void_pixels_change_nothing(case):
    k, labels, predictions, rng = case
    counts, others = ConfusionMatrix(k), ConfusionMatrix(k)
    counts.update(labels, predictions)
    anything = rng.integers(-500, 500, labels.shape)
    others.update(labels, np.where(labels == 255, anything, predictions.astype(int)))
    np.testing.assert_array_equal(others.matrix, counts.matrix)


@given(labellings(void=False), st.sampled_from(RULES))
def test_perfect_predictions_score_one(case, absent):
    k, labels, _, _ = case
    counts = ConfusionMatrix(k, absent=absent)
    counts.update(labels, labels)
    if labels.size and absent != "zero":
        assert scores_of(counts) == [1, 1, 1, 1]
    elif labels.size:
        present = len(np.unique(labels))
        assert scores_of(counts) == pytest.approx([1, present / k, present / k, 1])


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from(RULES))
def test_mean_iou_is_at_most_mean_accuracy_when_all_classes_occur(k, seed, absent):
    matrix = np.random.default_rng(seed).integers(0, 9, (k, k))
    matrix[:, 0] += 1
    counts = counted(matrix, absent=absent)
    assert counts.mean_iou() <= counts.mean_accuracy() + 1e-15
    assert counts.classes_in_mean_iou() == counts.classes_in_mean_accuracy() == k


@pytest.mark.parametrize(
    ("absent", "per_class", "mean", "classes"),
    [
        ("exclude", [0.859, 0.8, 1, 0, math.nan, math.nan], 0.665, 4),
        ("zero", [0.859, 0.8, 1, 0, 0, 0], 0.443, 6),
        ("one", [0.859, 0.8, 1, 0, 1, 1], 0.777, 6),
        ("truth", [0.859, 0.8, 1, math.nan, math.nan, math.nan], 0.886, 3),
    ],
)
def test_the_toy_table(absent, per_class, mean, classes):
    counts = counted(TOY, absent=absent)
    np.testing.assert_array_equal(counts.matrix, TOY)
    np.testing.assert_allclose(counts.iou_per_class(), per_class, atol=5e-4)
    assert counts.mean_iou() == pytest.approx(mean, abs=5e-4)
    assert counts.classes_in_mean_iou() == classes


@pytest.mark.parametrize(
    ("absent", "rest", "classes"),
    [("exclude", [], 3), ("zero", [0] * 3, 6), ("one", [1] * 3, 6), ("truth", [], 3)],
)
def test_a_class_that_is_only_predicted_has_no_accuracy(absent, rest, classes):
    counts = counted(TOY, absent=absent)
    assert counts.mean_accuracy() == pytest.approx(np.mean([55 / 63, 20 / 22, 1, *rest]))
    assert counts.classes_in_mean_accuracy() == classes


@pytest.mark.parametrize("absent", RULES)
def test_pixel_accuracy_and_weighted_iou_do_not_depend_on_the_rule(absent):
    counts = counted(TOY, absent=absent)
    assert counts.pixel_accuracy() == pytest.approx(105 / 115)
    assert counts.frequency_weighted_iou() == pytest.approx((63 * 55 / 64 + 22 * 0.8 + 30) / 115)


@pytest.mark.parametrize("absent", RULES)
def test_nothing_counted_gives_nan(absent):
    counts = ConfusionMatrix(3, absent=absent)
    counts.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), int))
    assert all(math.isnan(score) for score in scores_of(counts))
    assert counts.classes_in_mean_iou() == counts.classes_in_mean_accuracy() == 0
    assert "mean IoU                     -  over 0 of 3 classes" in counts.table()


def test_large_tallies_are_exact():
    counts, doublings = counted(TOY), 52
    for _ in range(doublings):
        counts = counts + counts
    one = counted(np.eye(6, dtype=np.int64))
    total = counts + one
    assert total.matrix[2, 2] == 30 * 2**doublings + 1  # beyond what float64 counts
    assert (counts.matrix >= 0).all()
    assert scores_of(counts) == pytest.approx(scores_of(counted(TOY)), rel=1e-14)


def test_adding_leaves_both_as_they_were():
    first, second = counted(TOY), counted(TOY.T)
    both = first + second
    np.testing.assert_array_equal(both.matrix, TOY + TOY.T)
    np.testing.assert_array_equal(first.matrix, TOY)
    np.testing.assert_array_equal(second.matrix, TOY.T)
    both.update(np.zeros(1, np.uint8), np.zeros(1, int))
    np.testing.assert_array_equal(first.matrix, TOY)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (ConfusionMatrix(4), "num_classes must be equal in matrices to be added, got 3 and 4"),
        (ConfusionMatrix(3, ignore_index=0), "ignore_index must"),
        (ConfusionMatrix(3, class_names=("a", "b", "c")), "got ('0', '1', '2') and ('a', 'b', 'c')"),
        (ConfusionMatrix(3, absent="zero"), "got 'exclude' and 'zero'"),
    ],
)
def test_different_matrices_cannot_be_added(other, what):
    with pytest.raises(ValueError, match=re.escape(what)):
        ConfusionMatrix(3) + other


def test_only_matrices_can_be_added():
    with pytest.raises(TypeError):
        ConfusionMatrix(3) + 1


def test_the_matrix_is_a_copy():
    counts = counted(TOY)
    counts.matrix[:] = 0
    np.testing.assert_array_equal(counts.matrix, TOY)


@pytest.mark.parametrize(
    ("labels", "predictions", "error", "message"),
    [
        (np.array([0, 7, 1, 9], "u1"), np.zeros(4, int), ValueError, "got 7 at (1,); 2 of 4 values"),
        (np.array([0, 1], "u1"), np.array([0, 3]), ValueError, "num_classes - 1 = 2, got 3 at (1,); 1 of 2"),
        (np.array([0, 1], "u1"), np.array([-1, -1]), ValueError, "got -1 at (0,); 2 of 2 values"),
        (np.array([0], "u1"), np.array([2**64 - 1], "u8"), ValueError, "got 18446744073709551615 at (0,)"),
        (np.array([[0, 1]], "u1"), np.array([0, 1]), ValueError, "labels is (1, 2), predictions is (2,)"),
        (np.array([0, 1]), np.array([0, 1]), TypeError, "labels must be uint8, got int64"),
        (np.array([0, 1], "u1"), np.array([0.0, 1.0]), TypeError, "must be integers, got float64; of scores"),
        (np.array([0, 1], "u1"), np.array([False, True]), TypeError, "must be integers, got bool"),
        (np.array([0, 1], "u1"), [0, 1], TypeError, "predictions must be a NumPy or CuPy array, got list"),
    ],
)
def test_wrong_pixels_are_refused_and_not_counted(labels, predictions, error, message):
    counts = ConfusionMatrix(3)
    with pytest.raises(error, match=re.escape(message)):
        counts.update(labels, predictions)
    assert not counts.matrix.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer >= 1, got 0"),
        ({"num_classes": 257}, "num_classes must be at most 256"),
        ({"ignore_index": -100}, "ignore_index must be an integer >= 0, got -100"),
        ({"class_names": ["a", "b"]}, "class_names must have 3 names, got 2"),
        ({"class_names": 3}, "class_names must be texts, one for each class, got 3"),
        ({"class_names": "abc"}, "class_names must be texts, one for each class, got 'abc'"),
        ({"class_names": [1, 2, 3]}, "class_names must be texts, one for each class, got [1, 2, 3]"),
        ({"absent": "nan"}, "absent must be one of 'exclude', 'zero', 'one', 'truth', got 'nan'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ConfusionMatrix(**({"num_classes": 3} | options))


def test_inputs_are_not_touched():
    labels, predictions = pixels_of(TOY)
    labels.flags.writeable = predictions.flags.writeable = False
    ConfusionMatrix(6).update(labels, predictions)


def test_summary_holds_plain_numbers():
    summary = counted(TOY).summary()
    assert {name: type(value) for name, value in summary.items()} == {
        **dict.fromkeys(SCORES, float),
        "classes_in_mean_accuracy": int,
        "classes_in_mean_iou": int,
        "pixels": int,
    }
    assert [summary[name] for name in SCORES] == scores_of(counted(TOY))
    assert (summary["classes_in_mean_accuracy"], summary["classes_in_mean_iou"], summary["pixels"]) == (
        3,
        4,
        115,
    )


def test_table_shows_names_and_what_each_mean_is_over():
    names = ["background", "a class of a name longer than the rest", "c", "d", "e", "f"]
    lines = counted(TOY * 1000, class_names=names).table().splitlines()
    assert [line.split()[-3:] for line in lines[1:7]] == [
        ["0.859", "0.873", "63,000"],
        ["0.800", "0.909", "22,000"],
        ["1.000", "1.000", "30,000"],
        ["0.000", "-", "0"],
        ["-", "-", "0"],
        ["-", "-", "0"],
    ]
    assert all(line.startswith(name) for line, name in zip(lines[1:7], names, strict=True))
    assert len({len(line) for line in lines[:7]}) == 1
    assert [line.split("  ")[-1] for line in lines[8:]] == [
        "over 115,000 pixels",
        "over 3 of 6 classes",
        "over 4 of 6 classes",
        "over 115,000 pixels",
    ]


@pytest.mark.parametrize("k", [255, 256])
def test_the_largest_numbers_of_classes(k):
    """With 255 classes each label below void is a class; with 256, void is a class that never counts."""
    counts = ConfusionMatrix(k)
    labels = np.arange(256, dtype=np.uint8)
    counts.update(labels, np.full(256, k - 1))
    expected = np.zeros((k, k), np.int64)
    expected[:255, k - 1] = 1
    np.testing.assert_array_equal(counts.matrix, expected)
    assert counts.summary()["pixels"] == 255
