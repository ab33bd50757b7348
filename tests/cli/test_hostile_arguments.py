"""Absurd values of every option of every command end in one sentence, and never in an unexpected error."""

import argparse
import random
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import COMMANDS, demo, evaluate, lessons, main, predict, train
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier

NUMBERS = [
    "0",
    "-1",
    "-0",
    "1.5",
    "1e3",
    "0x10",
    "1_0",
    "١٢",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "1e-320",
]
NUMBERS += ["1" + "0" * 30, "-1" + "0" * 30, "9" * 5000, str(2**31), str(2**63), str(2**64)]
PAIRS = [
    "1e308,1e308",
    "nan,nan",
    "0,0",
    "1,",
    ",",
    "2,1",
    "1e-320,1",
    "1,2,3",
    "0x0",
    "-1x5",
    "1x",
    "x",
    "axb",
    "999999x999999",
]
PAIRS += [f"{'9' * 5000}x1", *["m", "0m", "nanm", "1e400m", "-5m"]]
TEXTS = ["", " ", "\0", "\x1b[31mred", "a\nb", "\udcff", "böden", "a" * 300, "a" * 5000]
TEXTS += ["{}", "[" * 2000, '{"mean": 1}', "cuda:-1", "cuda", "cuda:" + "9" * 20, "--", "-", "@file", "%s%n"]
TEXTS += [
    ".",
    "nowhere/nothing",
    "folder:",
    "voc:nowhere",
    "camvid:\0",
    "digits:x",
    ":",
    "folder:" + "a" * 5000,
]
VALUES = [*NUMBERS, *PAIRS, *TEXTS]


class ReachedError(KeyboardInterrupt):
    """The command has accepted its arguments, and would begin to work."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, an image and weights, in which no command gets to its work."""

    def reached(*_, **__):
        raise ReachedError

    for module, name in [(demo, "_classifier"), (train, "fit"), (train, "overfit_one"), (predict, "label")]:
        monkeypatch.setattr(module, name, reached)
    monkeypatch.setattr(evaluate, "evaluate", reached)
    monkeypatch.setattr(lessons, "_wait_for", lambda *_: 0)
    monkeypatch.chdir(tmp_path)
    fcn = FCN(digit_classifier(init="zeros"), 11)
    fcn.info = ModelInfo(("background", *"0123456789"), Preprocessing("L", (128.0,), (64.0,)))
    mf.save(fcn, "model.safetensors")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("image.png")
    return tmp_path


USUAL = {
    "demo": [],
    "check-data": ["nowhere"],
    "train": ["digits", "--out", "out", "--from-scratch", "--model", "digit_classifier"],
    "evaluate": ["model.safetensors", "digits"],
    "predict": ["model.safetensors", "image.png", "--out", "labels"],
    "export": ["model.safetensors", "model.onnx"],
    "explain": ["digit_classifier"],
    "weights inspect": ["model.safetensors"],
    "weights convert": ["model.safetensors", "converted.safetensors"],
    "weights download": ["vgg16"],
    "lessons": [],
    "info": [],
}
"""Arguments with which each command can begin."""


def parsers():
    """Yield each command, or action of a command, with its parser."""
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        import_module(f"minifcn.cli.{name.replace('-', '_')}").add_arguments(parser)
        actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not actions:
            yield name, parser
        for action in actions:
            yield from ((f"{name} {choice}", inner) for choice, inner in action.choices.items())


def calls():
    """Yield every command with every value for every option, and for every argument without one."""
    for name, parser in parsers():
        usual, position = USUAL[name], 0
        for action in parser._actions:
            if action.nargs == 0:
                continue
            for value in VALUES if name != "weights download" else ():  # it would download
                if action.option_strings:
                    yield [*name.split(), *usual, f"{action.option_strings[0]}={value}"]
                else:
                    yield [*name.split(), *usual[:position], value, *usual[position + 1 :]]
            position += not action.option_strings


CALLS = list(calls())


def outcome(arguments, capsys):
    """Run a command; return its status and what it printed."""
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_all_commands_and_options_are_called():
    assert {name for name, _ in parsers()} == set(USUAL)
    assert sum("--batch=0" in call for call in CALLS) == 2
    assert len(CALLS) > 2000


def check(calls, capsys):
    """Run commands, and check what they print and return."""
    for arguments in calls:
        status, text = outcome(arguments, capsys)
        assert status in (0, 1, 2, 130), arguments
        assert "unexpected" not in text, (arguments, text)
        assert len(text) < 20_000, arguments
        assert text.replace("\n", "").isprintable(), arguments
        if status == 2:
            assert text.startswith("usage:") or text.rstrip("\n").rpartition("\n")[2].startswith("minifcn")


def test_hostile_arguments(folder, capsys):
    """Some of all calls, and those that once had no end or ended in a traceback."""
    train = ["train", "digits", "--out", "out", "--from-scratch", "--model", "digit_classifier"]
    huge = "1" + "0" * 30
    known = [[*train, f"--{o}={v}"] for o, v in (("batch", huge), ("scale", "1e308,1e308"), ("out", "--"))]
    known += [
        ["explain", "squeezenet1_0", f"--{o}={v}"] for o, v in (("batch", huge), ("size", "999999x999999"))
    ]
    check([*known, *random.Random(0).sample(CALLS, 70)], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_all_hostile_arguments(part, folder, capsys):
    check(CALLS[part::10], capsys)
