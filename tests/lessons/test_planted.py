"""Every exercise takes its solution, waits for its blank, and refuses the planted wrong answers."""

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
    """Return {function's name: {wrong answer: what must be said about it}} of a lesson."""
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
def test_three_wrong_answers_or_more_are_planted(number, exercise: Exercise):
    assert len(planted(number)[exercise.function]) >= 3


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        pytest.param(exercise, answer, words, id=f"{number}-{exercise.function}-{answer.__name__}")
        for number, exercise in (parameters.values for parameters in EXERCISES)
        for answer, words in planted(number).get(exercise.function, {}).items()
    ],
)
def test_a_wrong_answer_is_refused_and_its_mistake_is_named(exercise: Exercise, answer, words):
    said = exercise.says(answer)
    assert said.startswith("no    ")
    assert "Smallest failing case: " in said
    assert words
    assert words in said


def test_no_answer_is_planted_for_an_exercise_that_is_not_there():
    for source in SOURCES:
        assert set(planted(source.stem[:2])) == {exercise.function for exercise in exercises(source)}
