import pytest

from minifcn.training import evaluate, fit, progress
from minifcn.training.progress import Progress
from tests.training.small import digits, parts, settings


@pytest.fixture
def clock(monkeypatch):
    """The time, which tests set."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def bars(monkeypatch):
    """Names of the progress bars that are shown, as on a terminal."""
    shown, real = [], progress.tqdm

    class Bar(real):
        def __init__(self, **options):
            super().__init__(**options | {"disable": True})
            if options["disable"] is not True:
                shown.append(options["desc"])

    monkeypatch.setattr(progress, "tqdm", Bar)
    return shown


def test_without_a_terminal_there_is_one_line_per_minute(clock, capsys):
    with Progress("training", 1000, done=100) as bar:
        for _ in range(25):
            clock.now += 10
            bar.update(20, "loss=0.5")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" of")[0] for line in lines] == [
        f"training: {100 + 20 * steps}" for steps in (6, 12, 18, 24)
    ]
    assert lines[0] == "training: 220 of 1,000 images, 2 images/s, 6 min left, loss=0.5"


def test_fast_progress_in_other_units(clock, capsys):
    with Progress("labelling a.tif", 400_000_000, unit="pixels") as bar:
        clock.now = 100
        bar.update(41_234_567)
    assert capsys.readouterr().err == (
        "labelling a.tif: 41,234,567 of 400,000,000 pixels, 412,346 pixels/s, 15 min left\n"
    )


def test_without_a_name_nothing_is_printed(clock, capsys):
    with Progress(None, 10) as bar:
        clock.now = 1000
        bar.update(5)
    assert bar.done == 5
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "expected"), [("training", ["training", *["evaluating"] * 3]), (None, [])])
def test_the_progress_bar_of_the_evaluation_is_shown_with_that_of_the_training(bars, name, expected):
    model, loader, optimizer = parts(digits)
    fit(model, loader, optimizer, **settings(loader) | {"progress": name})
    assert bars == expected


def test_evaluate_alone_shows_a_bar_only_by_name(bars):
    model, loader, _ = parts(digits)
    evaluate(model, loader)
    assert bars == []
    evaluate(model, loader, progress="scores")
    assert bars == ["scores"]
