import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from minifcn import viz
from minifcn.checks import (
    CheckFailedError,
    check_exercise,
    check_gradient,
    checked,
    strategies,
    whole_numbers,
)
from minifcn.checks.exercise import show_comparison
from minifcn.layers import Layer, MaxPool2d


@st.composite
def matrices(draw):
    return (draw(whole_numbers(draw(st.integers(1, 4)), draw(st.integers(1, 4)))),)


def transpose(x):
    return x.T.copy()


def identity(x):
    """Rows stay rows."""
    return x.copy()


def mirrored(x):
    """Columns are mirrored."""
    return x[:, ::-1].T.copy()


MISTAKES = [identity, mirrored]


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    monkeypatch.delenv("MINIFCN_STRICT", raising=False)


@pytest.fixture
def pictures(monkeypatch):
    """What is displayed, as sentences."""
    sentences = []

    def display(data, raw, metadata):
        assert raw
        assert data["image/png"].startswith("iVBOR")
        assert metadata["image/png"]["alt"] == data["text/plain"]
        sentences.append(data["text/plain"])

    module = ModuleType("IPython")
    module.get_ipython, module.display, module.version_info = object, SimpleNamespace(display=display), (9, 0)
    monkeypatch.setitem(sys.modules, "IPython", module)
    return sentences


def says(capsys, mine, **options):
    check_exercise(mine, transpose, matrices(), **options)
    return capsys.readouterr().out


def blank(x):
    raise NotImplementedError


def test_a_blank_is_todo(capsys):
    assert says(capsys, blank).startswith("todo  blank is not written yet.")


def test_what_is_right_is_ok(capsys):
    assert says(capsys, lambda x: x.swapaxes(0, 1)) == "ok    <lambda>: right in all cases tried.\n"


def test_the_mistake_and_the_smallest_case_are_named(capsys):
    def mine(x):
        return np.flip(x, axis=1).T

    assert says(capsys, mine, mistakes=MISTAKES) == (
        "no    mine is not right yet.\n"
        "      Likely mistake: Columns are mirrored.\n"
        "      Smallest failing case: x (1, 2) = [[8, -6]].\n"
        "      In this case the result is wrong: at [0, 0] expected 8, yours -6 (largest difference).\n"
    )


def test_of_two_likely_mistakes_the_one_that_fits_more_cases_is_named(capsys):
    def zero(x):
        """There are zeros only."""
        return 0 * x.T

    def negative_becomes_zero(x):
        """Negative numbers are lost."""
        return np.maximum(x.T, 0)

    def mine(x):
        return np.clip(x.T, 0, None)

    single = st.integers(-9, 9).filter(bool).map(lambda n: (np.array([[float(n)]]),))
    for mistakes in ([zero, negative_becomes_zero], [negative_becomes_zero, zero]):
        check_exercise(mine, transpose, single, mistakes=mistakes)
        assert "Likely mistake: Negative numbers are lost." in capsys.readouterr().out


def test_an_unknown_mistake_is_not_guessed(capsys):
    said = says(capsys, lambda x: x.T + 1, mistakes=MISTAKES)
    assert "Likely" not in said
    assert "Smallest failing case: x (1, 1) = [[8]]." in said
    assert "at [0, 0] expected 8, yours 9" in said


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (lambda x: None, 'the function returns None: is there a "return"?'),
        (lambda x: x.T[0], "must have shape (1, 1), yours has (1,)"),
        (lambda x: "text", "the result must be an array (1, 1), yours is of type str"),
        (lambda x: x.T * np.nan, "yours nan"),
        (lambda x: x.T[:, 3:] if len(x) > 3 else x.T, "x (4, 1) ="),
        (lambda x: x[9], 'IndexError: index 9 is out of bounds for axis 0 with size 1 (at "'),
        (lambda: 3, "TypeError: "),
        (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_other_answers_are_refused_with_words(capsys, mine, words):
    said = says(capsys, mine)
    assert said.startswith("no    ")
    assert words in said
    assert "Traceback" not in said
    assert "?." not in said


def test_lists_are_as_good_as_arrays(capsys):
    assert says(capsys, lambda x: x.T.tolist()).startswith("ok")


def test_an_argument_that_is_changed_is_told(capsys):
    def mine(x):
        y = x.T.copy()
        x[...] = 0
        return y

    said = says(capsys, mine, mistakes=MISTAKES)
    assert "changes x in place; work on a copy" in said
    assert "Likely" not in said, "identity gives the same for (1, 1), but is right there"
    named = matrices().map(lambda case: {"x": case[0]})
    check_exercise(mine, transpose, named)
    assert "changes x in place" in capsys.readouterr().out


def test_several_results_are_compared_one_by_one(capsys):
    def right(x):
        return x.sum(), [x.mean(), len(x)]

    check_exercise(lambda x: (x.sum(), (x.mean(), len(x))), right, matrices())
    assert capsys.readouterr().out.startswith("ok")
    check_exercise(lambda x: (x.sum(), (x.mean(), 0)), right, matrices())
    said = capsys.readouterr().out
    assert "value 2 of 2: value 2 of 2: the result must be 1" in said
    check_exercise(lambda x: x.sum(), right, matrices())
    assert "the result must be 2 values, yours is of type float64" in capsys.readouterr().out


def test_nan_is_right_where_it_is_expected(capsys):
    def right(x):
        return np.where(x > 0, x, np.nan)

    check_exercise(lambda x: np.where(x > 0, x, np.nan), right, matrices())
    assert capsys.readouterr().out.startswith("ok")
    check_exercise(lambda x: np.maximum(x, 0), right, matrices())
    assert "expected nan, yours 0" in capsys.readouterr().out


@pytest.mark.parametrize(("mine", "verdict"), [(blank, "todo"), (identity, "no")])
def test_strictly_todo_and_no_are_errors(monkeypatch, capsys, mine, verdict):
    monkeypatch.setenv("MINIFCN_STRICT", "1")
    with pytest.raises(CheckFailedError, match=f"^{verdict}") as failure:
        check_exercise(mine, transpose, matrices())
    assert capsys.readouterr().out == f"{failure.value}\n"
    check_exercise(transpose, transpose, matrices())


def test_pictures_show_yours_expected_and_difference(pictures, capsys):
    check_exercise(identity, transpose, matrices())
    check_exercise(blank, transpose, matrices())
    check_exercise(transpose, transpose, matrices())
    assert len(pictures) == 1
    assert "Your result has shape" in pictures[0] or "From left to right" in pictures[0]
    example = (np.arange(6.0).reshape(3, 2),)
    check_exercise(lambda x: x.T + 1, transpose, matrices(), example=example)
    check_exercise(blank, transpose, matrices(), example=example)
    check_exercise(identity, transpose, matrices(), example=example)
    assert [words.split(" The case drawn is ")[0] for words in pictures[1:]] == [
        "From left to right: your result, the expected one, and their difference, which must be 0.",
        "The figure shows the expected result.",
        "Your result has shape (3, 2), the expected one (2, 3).",
    ]
    said = capsys.readouterr().out
    assert all(said.count(words) == pictures.count(words) for words in pictures[:3])


def test_the_words_under_a_picture_tell_its_case_where_that_is_another_one(pictures, capsys):
    example = (np.arange(6.0).reshape(3, 2),)
    check_exercise(lambda x: x.T + 1, transpose, matrices(), example=example)
    assert pictures[0].endswith(" The case drawn is x (3, 2) = [[0, 1], [2, 3], [4, 5]].")
    check_exercise(lambda x: x.T + 1, transpose, matrices())
    assert "Smallest failing case: x (1, 1)" in capsys.readouterr().out
    assert re.search(r" The case drawn is x \([234], [234]\)( = .*)?\.$", pictures[1])
    check_exercise(lambda x: x.T + 1, transpose, st.just(example))
    assert "The case drawn is" not in pictures[2], "the smallest failing case is told above"


def test_an_example_that_the_wrong_function_gets_right_is_not_drawn(pictures):
    symmetric = (np.ones((2, 2)),)
    check_exercise(identity, transpose, matrices(), example=symmetric)
    check_exercise(identity, transpose, matrices())
    assert pictures[0] == pictures[1], "the largest failing case, not one without a difference"


@pytest.fixture
def figures(monkeypatch):
    """The figures of the comparisons that are shown."""
    shown = []
    monkeypatch.setattr(viz.showing, "in_notebook", lambda: True)
    monkeypatch.setattr(viz, "show", lambda figure, says: shown.append(figure))
    return shown


@pytest.mark.parametrize("error", [-18.0, 18.0, np.nan])
@pytest.mark.parametrize("shape", [(3, 4), (20, 30)])
def test_the_colour_of_the_difference_shows_its_size(figures, shape, error):
    expected = np.arange(float(np.prod(shape))).reshape(shape)
    mine = expected.copy()
    mine[1, 2] += error
    show_comparison(mine, expected)
    one, other, difference = (axes.images[0] for axes in figures[0].axes)
    assert one.get_clim() == other.get_clim() == (0, expected.max())
    drawn = difference.norm(difference.get_array()).filled(np.nan)
    assert drawn[1, 2] == (1 if np.isfinite(error) else pytest.approx(np.nan, nan_ok=True))
    drawn[1, 2] = 0
    assert not drawn.any()
    numbers = [text.get_text() for text in figures[0].axes[2].texts]
    assert numbers.count("0") == (11 if shape == (3, 4) else 0)


class Doubled(MaxPool2d):
    """The gradient is twice as large as it should be."""

    def backward(self, dy):
        return 2 * super().backward(dy)


class Twice(MaxPool2d):
    def backward(self, dy):
        return super().backward(dy) * 2


class Unfinished(MaxPool2d):
    def backward(self, dy):
        raise NotImplementedError


def test_a_layer_of_ones_own_by_its_gradient(capsys):
    def run(layer, case):
        check_gradient(layer(**case.options).astype("float64"), case.input())

    def check(layer):
        check_exercise(layer, None, strategies.pool_geometries(), run=run, mistakes=[Doubled], examples=20)
        return capsys.readouterr().out

    assert check(MaxPool2d).startswith("ok    MaxPool2d")
    assert check(Unfinished).startswith("todo  Unfinished")
    said = check(Twice)
    assert "Likely mistake: The gradient is twice as large as it should be." in said
    assert "expected 0.12573, got 0.25146 (relative error 1)" in said
    assert "Smallest failing case: 1 image, 1 channel, input 1x1, kernel 1x1" in said


def test_a_layer_of_ones_own_by_what_it_gives(capsys):
    class Mine(Layer):
        def forward(self, x):
            return x.mean(axis=(2, 3), keepdims=True)

    def run(layer, case):
        return layer().forward(case.input())

    class Right(Layer):
        def forward(self, x):
            return x.max(axis=(2, 3), keepdims=True)

    check_exercise(Mine, Right, strategies.pool_geometries(), run=run)
    assert "Smallest failing case: 1 image, 1 channel, input 1x2" in capsys.readouterr().out


def test_now_right_now_wrong_is_wrong(capsys):
    answers = iter([0.0] * 3 + [1.0] * 1000)
    check_exercise(lambda x: x.T + next(answers), transpose, matrices(), examples=20)
    assert capsys.readouterr().out.startswith("no    <lambda>")


def test_the_same_words_each_time(capsys):
    assert says(capsys, identity) == says(capsys, identity)


def test_a_mistake_of_the_exercise_itself_is_an_error():
    def wrong_reference(x):
        raise KeyError("of the author")

    with pytest.raises(KeyError, match="of the author"):
        check_exercise(identity, wrong_reference, matrices())
    with pytest.raises(ValueError, match="transpose needs a docstring"):
        check_exercise(identity, transpose, matrices(), mistakes=[transpose])
    with pytest.raises(TypeError, match="a case must be a tuple or a dict of arguments, got 0; or give run="):
        check_exercise(identity, transpose, st.integers())


def test_nothing_is_left_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    says(capsys, identity)
    assert not list(tmp_path.iterdir())


def test_whole_numbers_hide_no_mistake():
    drawn = []
    check_exercise(lambda x: drawn.append(x.copy()) or 0, lambda x: 0, st.tuples(whole_numbers(4, 5)))
    assert len({x.tobytes() for x in drawn}) > 50
    for x in drawn:
        assert x.dtype == np.float64
        assert set(np.unique(np.abs(x))) <= set(range(1, 10))
    assert sum((x == x[::-1, ::-1]).all() for x in drawn) == 0


def test_long_arguments_are_told_by_their_shape(capsys):
    check_exercise(identity, lambda x: x + 1, st.tuples(whole_numbers(4, 4)))
    assert re.search(r"Smallest failing case: x \(4, 4\)\.$", capsys.readouterr().out, re.MULTILINE)


def test_a_mistake_that_fits_the_smallest_case_by_chance_is_not_named(capsys):
    """Of one number, twice the first and twice the sum are the same; of two they are not."""

    def twice_the_sum(x):
        """The sum is doubled."""
        return 2 * x.sum()

    @st.composite
    def vectors(draw):
        return (draw(whole_numbers(draw(st.integers(1, 4)))),)

    check_exercise(lambda x: 2 * x[0], np.sum, vectors(), mistakes=[twice_the_sum])
    said = capsys.readouterr().out
    assert "Smallest failing case: x (1,)" in said
    assert "Likely mistake" not in said
    check_exercise(lambda x: x.sum() * 2, np.sum, vectors(), mistakes=[twice_the_sum])
    assert "Likely mistake: The sum is doubled." in capsys.readouterr().out


def test_checked_returns_the_learners_function_after_ok_only(capsys):
    def right(x):
        return x.T.copy()

    def wrong(x):
        return x.copy()

    assert checked(right, otherwise=np.transpose) is np.transpose
    for mine in (right, wrong):
        check_exercise(mine, np.transpose, matrices())
    assert capsys.readouterr().out.startswith("ok    right")
    assert checked(right, otherwise=np.transpose) is right
    assert checked(wrong, otherwise=np.transpose) is np.transpose


def test_results_may_be_values_of_different_shapes(capsys):
    def right(x):
        return x.sum(), x

    def wrong(x):
        return x.sum(), -x

    check_exercise(wrong, right, matrices())
    assert "value 2 of 2" in capsys.readouterr().out


def test_prints_of_the_smallest_failing_case_are_shown_and_no_others(capsys):
    def mine(x):
        print("shape", x.shape)
        print("\n".join(map(str, range(50))))
        return x.T + 1

    said = says(capsys, mine)
    assert said.startswith("no    mine")
    assert said.count("shape (") == 1
    assert said.index("In this case") < said.index("      It printed:\n        shape (1, 1)\n        0\n")
    assert said.endswith("        10\n        ...\n")


def test_prints_of_a_right_function_are_not_shown(capsys):
    def mine(x):
        print("here")
        return x.T

    assert says(capsys, mine) == "ok    mine: right in all cases tried.\n"


def with_a_loop(x):
    y = np.zeros(x.shape[::-1])
    for i, j in np.ndindex(x.shape):
        y[j, i] = x[i, j]
    return y


def with_while(x):
    y, i = np.zeros(x.shape[::-1]), 0
    while i < len(x):
        y[:, i] = x[i]
        i += 1
    return y


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (with_a_loop, "is right, but this exercise does not allow loops."),
        (with_while, "is right, but this exercise does not allow loops."),
        (lambda x: np.array([[row[j] for row in x] for j in range(x.shape[1])]), "does not allow loops."),
        (lambda x: np.transpose(x), "does not allow transpose."),
        (lambda x: (lambda y: y.T)(x), "does not allow T."),
        (lambda x: x, "Smallest failing case"),
    ],
)
def test_a_puzzle_refuses_what_it_does_not_allow(capsys, monkeypatch, mine, words):
    said = says(capsys, mine, only={"np", "einsum", "shape", "zeros", "ndindex", "array"})
    assert said.startswith("no    ")
    assert words in said
    monkeypatch.setenv("MINIFCN_STRICT", "1")
    with pytest.raises(CheckFailedError, match=r"^no "):
        says(capsys, mine, only={"np"})


def test_a_puzzle_accepts_what_it_allows(capsys):
    assert says(capsys, lambda x: np.einsum("ij->ji", x), only={"np", "einsum"}).startswith("ok ")
