"""Each check accepts the solution, reports the blank as todo, and rejects the planted wrong answers."""

import importlib

import pytest

from minifcn.checks import CheckFailedError
from tests.lessons.cells import SOURCES, Exercise, exercises

EXERCISES = [
    pytest.param(source.stem[:2], exercise, id=f"{source.stem[:2]}-{exercise.function}")
    for source in SOURCES
    for exercise in exercises(source)
]


def planted(number):
    """Return {name of the function: {wrong answer: expected words}} of a lesson."""
    return importlib.import_module(f"tests.lessons.planted.lesson_{number}").WRONG


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    monkeypatch.delenv("MINIFCN_STRICT", raising=False)


@pytest.mark.parametrize(("number", "exercise"), EXERCISES)
def test_the_solution_is_ok(number, exercise: Exercise):
    assert exercise.says(exercise.solved).startswith(f"ok    {exercise.function}")


@pytest.mark.parametrize(("number", "exercise"), EXERCISES)
def test_the_blank_is_todo(number, exercise: Exercise, monkeypatch):
    assert exercise.says(exercise.blank).startswith(f"todo  {exercise.function}")
    monkeypatch.setenv("MINIFCN_STRICT", "1")
    with pytest.raises(CheckFailedError, match=r"^todo"):
        exercise.says(exercise.blank)


@pytest.mark.parametrize(("number", "exercise"), EXERCISES)
def test_at_least_three_wrong_answers_are_planted(number, exercise: Exercise):
    assert len(planted(number)[exercise.function]) >= 3


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        pytest.param(
            exercise,
            answer,
            words,
            id=f"{number}-{exercise.function}-{answer.__name__}",
            marks=[pytest.mark.slow] * (place > 2),  # of each exercise, three are checked every day
        )
        for number, exercise in (parameters.values for parameters in EXERCISES)
        for place, (answer, words) in enumerate(planted(number).get(exercise.function, {}).items())
    ],
)
def test_a_wrong_answer_is_rejected_with_the_expected_words(exercise: Exercise, answer, words):
    said = exercise.says(answer)
    assert said.startswith("no    ")
    assert "Smallest failing case: " in said or "this exercise does not allow" in said
    assert words
    assert words in said


def test_planted_answers_belong_to_existing_exercises():
    for source in SOURCES:
        assert set(planted(source.stem[:2])) == {exercise.function for exercise in exercises(source)}
