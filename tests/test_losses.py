import math
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.losses import softmax_cross_entropy

REDUCTIONS = ("mean", "sum", "batch")


def by_loops(scores, labels, ignore_index, reduction, class_weights):
    """The definition, one pixel after another, in Python's own numbers."""
    n, c, *spatial = scores.shape
    terms, weights = [], []
    dscores = np.zeros(scores.shape)
    for where in product(range(n), *map(range, spatial)):
        label = int(labels[where])
        if label == ignore_index:
            continue
        here = [(where[0], k, *where[1:]) for k in range(c)]
        exponentials = [math.exp(float(scores[index])) for index in here]
        p = [value / math.fsum(exponentials) for value in exponentials]
        weight = 1.0 if class_weights is None else float(class_weights[label])
        terms.append(-weight * math.log(p[label]))
        weights.append(weight)
        for k, index in enumerate(here):
            dscores[index] = weight * (p[k] - (k == label))
    divisor = {"mean": math.fsum(weights), "sum": 1, "batch": n}[reduction]
    return (math.fsum(terms) / divisor, dscores / divisor) if divisor else (0.0, dscores)


@st.composite
def cases(draw):
    """Scores, labels with some void, and the options."""
    n, c = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    spatial = draw(st.lists(st.integers(1, 4), max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.normal(scale=draw(st.sampled_from([0.1, 1.0, 10.0])), size=(n, c, *spatial))
    ignore_index = draw(st.sampled_from([255, 0, 100]))
    labels = rng.integers(0, c, (n, *spatial)).astype(np.uint8)
    labels[rng.random(labels.shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = ignore_index
    options = {
        "ignore_index": ignore_index,
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "class_weights": rng.uniform(0, 3, c) if draw(st.booleans()) else None,
    }
    return scores, labels, options, rng


@given(case=cases())
def test_equals_the_definition(xp, case):
    scores, labels, options, _ = case
    expected, dexpected = by_loops(scores, labels, **options)
    if options["class_weights"] is not None:
        options["class_weights"] = xp.array(options["class_weights"])
    loss, dscores = softmax_cross_entropy(xp.array(scores), xp.array(labels), **options)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(xp.numpy(dscores), dexpected, rtol=1e-11, atol=1e-15)


@given(cases())
def test_gradient_is_the_slope_of_the_loss(case):
    scores, labels, options, rng = case
    direction = rng.normal(size=scores.shape)
    _, dscores = softmax_cross_entropy(scores, labels, **options)
    step = 1e-5
    above, _ = softmax_cross_entropy(scores + step * direction, labels, **options)
    below, _ = softmax_cross_entropy(scores - step * direction, labels, **options)
    slope = (above - below) / (2 * step)
    assert np.vdot(dscores, direction) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@given(cases())
def test_a_shift_of_all_scores_of_a_pixel_changes_nothing(case):
    scores, labels, options, rng = case
    shift = rng.normal(size=(len(scores), 1, *scores.shape[2:]))
    loss, dscores = softmax_cross_entropy(scores, labels, **options)
    shifted, dshifted = softmax_cross_entropy(scores + shift, labels, **options)
    assert shifted == pytest.approx(loss, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(dshifted, dscores, atol=1e-12)
    np.testing.assert_allclose(dscores.sum(axis=1), 0, atol=1e-12)


@given(cases())
def test_void_pixels_change_nothing(case):
    scores, labels, options, rng = case
    void = np.broadcast_to((labels == options["ignore_index"])[:, None], scores.shape)
    loss, dscores = softmax_cross_entropy(scores, labels, **options)
    other, dother = softmax_cross_entropy(
        np.where(void, rng.normal(scale=100, size=scores.shape), scores), labels, **options
    )
    assert other == loss
    np.testing.assert_array_equal(dother, dscores)
    assert not dscores[void].any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_all_void_gives_zero(reduction, weighted):
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    loss, dscores = softmax_cross_entropy(
        scores,
        np.full((2, 4, 5), 255, np.uint8),
        reduction=reduction,
        class_weights=np.ones(3, np.float32) if weighted else None,
    )
    assert loss == 0
    assert not dscores.any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (0, 3)])
def test_no_pixel_gives_zero(shape):
    loss, dscores = softmax_cross_entropy(np.zeros(shape), np.zeros(shape[:1] + shape[2:], np.uint8))
    assert loss == 0
    assert dscores.shape == shape


def test_classes_of_weight_zero_do_not_count():
    scores = np.random.default_rng(0).normal(size=(1, 2, 1, 3))
    labels = np.zeros((1, 1, 3), np.uint8)
    loss, dscores = softmax_cross_entropy(scores, labels, class_weights=np.array([0.0, 1.0]))
    assert loss == 0
    assert not dscores.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_ten_thousand(dtype):
    scores = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype)
    loss, dscores = softmax_cross_entropy(scores, np.array([1, 2], np.uint8), reduction="sum")
    assert loss == pytest.approx(2e4 + math.log(2), rel=1e-7)
    np.testing.assert_allclose(dscores, [[1, -1, 0], [0, 0.5, -0.5]], rtol=1e-6)
    assert dscores.dtype == dtype


def test_starting_value_of_the_reference():
    """Zero scores of 21 classes cost ln 21 = 3.0445 a pixel, 5.7e5 summed over 500 x 375."""
    scores, labels = np.zeros((1, 21, 375, 500), np.float32), np.zeros((1, 375, 500), np.uint8)
    assert softmax_cross_entropy(scores, labels)[0] == pytest.approx(3.0445, abs=5e-5)
    assert softmax_cross_entropy(scores, labels, reduction="sum")[0] == pytest.approx(5.7e5, rel=2e-3)


def test_loss_adds_up_in_float64():
    pixels = 1_000_000
    loss, _ = softmax_cross_entropy(
        np.zeros((1, 2, pixels), np.float32), np.zeros((1, pixels), np.uint8), reduction="sum"
    )
    assert loss == pytest.approx(pixels * float(np.log(np.float32(2))), rel=1e-12)


def test_more_classes_than_labels_can_name():
    scores = np.random.default_rng(0).normal(size=(2, 300))
    labels = np.array([254, 255], np.uint8)
    loss, dscores = softmax_cross_entropy(scores, labels)
    expected, dexpected = by_loops(scores, labels, 255, "mean", None)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(dscores, dexpected, rtol=1e-11, atol=1e-15)


def test_inputs_are_not_touched_and_the_gradient_owns_its_memory():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    labels = np.random.default_rng(1).integers(0, 3, (2, 4, 5)).astype(np.uint8)
    weights = np.array([1.0, 2.0, 3.0])
    for array in (scores, labels, weights):
        array.flags.writeable = False
    _, dscores = softmax_cross_entropy(scores, labels, class_weights=weights)
    assert dscores.flags.owndata
    assert dscores.flags.writeable
    assert not np.shares_memory(dscores, scores)


def test_views_give_what_copies_give():
    scores = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).transpose(0, 3, 2, 1)[:, :, ::2]
    labels = np.random.default_rng(1).integers(0, 3, (2, 9, 4)).astype(np.uint8).transpose(0, 2, 1)
    loss, dscores = softmax_cross_entropy(scores, labels)
    expected, dexpected = softmax_cross_entropy(scores.copy(), labels.copy())
    assert loss == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(dscores, dexpected, rtol=1e-13)


SCORES, LABELS = np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": LABELS[:, :3]}, ValueError, "shape (2, 4, 5), that of scores (2, 3, 4, 5)"),
        ({"labels": LABELS[:, None]}, ValueError, "got (2, 1, 4, 5)"),
        ({"labels": LABELS.astype(np.int64)}, TypeError, "labels must be uint8, got int64"),
        ({"labels": LABELS + np.uint8(3)}, ValueError, "got 3 at (0, 0, 0); 40 of 40 values"),
        ({"labels": LABELS.tolist()}, TypeError, "labels must be a NumPy or CuPy array, got list"),
        ({"scores": SCORES.astype(np.float16)}, TypeError, "scores must be float32 or float64, got float16"),
        ({"scores": SCORES.astype(np.int64)}, TypeError, "scores must be float32 or float64, got int64"),
        ({"scores": np.zeros(3), "labels": np.zeros((), np.uint8)}, ValueError, "(N, C, ...)"),
        ({"scores": SCORES[:, :0]}, ValueError, "at least one class, got (2, 0, 4, 5)"),
        ({"reduction": "none"}, ValueError, "reduction must be one of 'mean', 'sum', 'batch', got 'none'"),
        ({"ignore_index": -100}, ValueError, "ignore_index must be an integer >= 0, got -100"),
        ({"class_weights": np.ones(4, np.float32)}, ValueError, "each of 3 classes, got shape (4,)"),
        ({"class_weights": np.ones(3)}, TypeError, "scores is float32, class_weights is float64"),
        ({"class_weights": np.array([1, -1, 1], np.float32)}, ValueError, "none negative, got [1.0, -1.0"),
        ({"class_weights": np.array([1, np.nan, 1], np.float32)}, ValueError, "must be finite"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(change, error, message):
    arguments = {"scores": SCORES, "labels": LABELS} | change
    with pytest.raises(error, match=re.escape(message)):
        softmax_cross_entropy(**arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = SCORES.copy()
    scores[1, 0, 2, 3] = scores[1, 2, 0, 0] = value
    message = f"got {value} at (1, 0, 2, 3); 2 of 120 values"
    with pytest.raises(ValueError, match=re.escape(message)):
        softmax_cross_entropy(scores, LABELS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("where", ["scores of a void pixel", "weight of a class", "weight of another class"])
def test_what_is_not_finite_is_refused_wherever_it_is(xp, value, reduction, where):
    """Also where it could pass unseen, for it changes no loss or, like -inf of another class, nearly none."""
    scores, labels, weights = SCORES.copy(), LABELS.copy(), np.ones(3, np.float32)
    labels[0, 1, 1] = 255
    if where == "scores of a void pixel":
        scores[0, 2, 1, 1] = value
    else:
        weights[0 if where == "weight of a class" else 2] = value
    with pytest.raises(ValueError, match="must be finite"):
        softmax_cross_entropy(
            xp.array(scores), xp.array(labels), reduction=reduction, class_weights=xp.array(weights)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (2, 5, 6, 7)])
def test_parity_with_pytorch(dtype, reduction, weighted, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=3, size=shape).astype(dtype)
    labels = rng.integers(0, 5, shape[:1] + shape[2:]).astype(np.uint8)
    labels[0] = 255
    weights = rng.uniform(0.5, 2, 5).astype(dtype) if weighted else None
    loss, dscores = softmax_cross_entropy(scores, labels, reduction=reduction, class_weights=weights)

    theirs = torch.tensor(scores, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(labels.astype(np.int64)),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=255,
        reduction="mean" if reduction == "mean" else "sum",
    )
    if reduction == "batch":
        expected = expected / shape[0]
    expected.backward()
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert loss == pytest.approx(expected.item(), rel=tolerance)
    assert dscores.dtype == theirs.grad.numpy().dtype
    np.testing.assert_allclose(dscores, theirs.grad.numpy(), rtol=tolerance, atol=tolerance / 10)


def test_exactly_255_classes():
    """Label 254 is the last class, and 255 is void."""
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(1, 255, 3)), np.array([[0, 254, 255]], np.uint8)
    weights = rng.uniform(0.5, 2, 255)
    loss, dscores = softmax_cross_entropy(scores, labels, class_weights=weights)
    expected, dexpected = by_loops(scores, labels, 255, "mean", weights)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(dscores, dexpected, rtol=1e-11, atol=1e-15)
    assert not dscores[0, :, 2].any()
    with pytest.raises(ValueError, match=r"254"):
        softmax_cross_entropy(scores[:, :254], labels)
