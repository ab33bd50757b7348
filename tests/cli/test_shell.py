"""What a shell may do to the commands: closed and full streams, odd encodings and variables, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import explain, main
from minifcn.models import ModelInfo, Preprocessing, digit_classifier

posix = pytest.mark.skipif(os.name != "posix", reason="other systems have another shell")
MODULE = f'"{sys.executable}" -m minifcn'


def shell(command, **environment):
    """Run a command in a shell; `minifcn` in it is this one."""
    line = command.replace("minifcn", MODULE, 1)
    return subprocess.run(line, shell=True, capture_output=True, text=True, env=os.environ | environment)


@posix
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("minifcn --help >&-", 0),
        ("minifcn info <&- >&- 2>&-", 0),
        ("minifcn nonsense 2>&-", 2),
        ("minifcn --help | true", 0),
    ],
)
def test_closed_streams(command, status):
    done = shell(command)
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("command", ["minifcn --help >/dev/full", "minifcn info >/dev/full"])
def test_a_full_disk_is_reported(command):
    done = shell(command)
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell("minifcn nonsense 2>/dev/full").returncode == 2


@posix
def test_odd_environments():
    odd = {
        "MPLBACKEND": "nonsense",
        "COLUMNS": "many",
        "LINES": "-1",
        "TERM": "nonsense",
        "TMPDIR": "/nowhere",
    }
    odd |= {"LANG": "nonsense", "LC_ALL": "C", "HOME": "/nowhere", "PYTHONUTF8": "0"}
    done = shell("minifcn check-data digits --split validation", **odd)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr


HOSTILE = "x\x1b[31m\nminifcn: forged\u202e"


@posix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_hostile_arguments_are_shown_in_every_encoding(encoding):
    arguments = [sys.executable, "-m", "minifcn", HOSTILE + "böden道"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    done = subprocess.run(arguments, capture_output=True, env=environment)
    text = done.stderr.decode(encoding)
    assert done.returncode == 2
    assert text.count("\n") == 2  # with the usage
    assert text.replace("\n", "").isprintable()


@pytest.fixture
def hostile_model(tmp_path):
    """A model file whose class names are hostile."""
    model = digit_classifier(init="zeros")
    fcn = mf.models.FCN(model, 3)
    fcn.info = ModelInfo((HOSTILE, "\r", "böden"), Preprocessing("L", (128.0,), (64.0,)))
    mf.save(fcn, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_names_in_files_cannot_control_the_terminal(hostile_model, tmp_path, capsys):
    image, out = tmp_path / "image.png", tmp_path / "out"
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(image)
    for arguments in (
        ["predict", str(hostile_model), str(image), "--out", str(out)],
        ["weights", "inspect", str(hostile_model)],
        ["explain", str(hostile_model), "--size", "32x32"],
        ["evaluate", str(hostile_model), "digits"],
        ["train", "digits", "--from", str(hostile_model), "--out", str(tmp_path / "run")],
    ):
        main(arguments)
        printed = capsys.readouterr()
        text = printed.out + re.sub(r"\r.*?\r", "", printed.err)
        assert text
        assert text.replace("\n", "").isprintable(), arguments
        assert not re.search(r"^minifcn: forged", text, re.MULTILINE)


def test_an_unexpected_error_is_one_sentence_and_can_be_traced(monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("the \x1b[31mcause")

    monkeypatch.setattr(explain, "_model", fail)
    monkeypatch.delenv("MINIFCN_DEBUG", raising=False)
    assert main(["explain", "alexnet"]) == 2
    sentence = capsys.readouterr().err
    expected = "unexpected RuntimeError: the \\x1b[31mcause; MINIFCN_DEBUG=1 shows where it comes from"
    assert sentence == f"minifcn explain: {expected}\n"
    monkeypatch.setenv("MINIFCN_DEBUG", "1")
    assert main(["explain", "alexnet"]) == 2
    traced = capsys.readouterr().err
    assert traced.startswith("Traceback")
    assert "in fail" in traced
    assert traced.endswith(sentence)


@pytest.mark.parametrize("kind", [PermissionError, IsADirectoryError, FileNotFoundError, OSError])
def test_errors_of_the_system_are_shown_without_their_number(monkeypatch, capsys, kind):
    def fail(*_):
        raise kind(13, "Permission denied", "böden.png")

    monkeypatch.setattr(explain, "run", fail)
    assert main(["explain", "alexnet"]) == 2
    assert capsys.readouterr().err == "minifcn explain: böden.png: Permission denied\n"


def test_warnings_are_lines_without_places_in_the_code(monkeypatch, capsys):
    import warnings

    def warn(*_):
        warnings.warn("odd \x1b[31m", stacklevel=1)

    monkeypatch.setattr(explain, "run", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["explain", "alexnet"]) == 0
    assert capsys.readouterr().err == "warning: odd \\x1b[31m\n"


@posix
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_ctrl_c_while_modules_are_imported_prints_nothing(delay):
    """From the first line of the package on; what comes before it is Python's own."""
    code = (
        "import minifcn; print(1, flush=True); import runpy; runpy.run_module('minifcn', run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code, "train", "--help"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(0.03 + delay)  # until runpy has found the module
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert errors == ""
    assert process.returncode in (0, 130)
