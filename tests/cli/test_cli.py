import json
import os
import stat
import subprocess
import sys

import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import demo, main

LOGS = {
    f"{name}.jsonl"
    for name in ("classifier", "stride-8", "stride-4", "stride-2", "from-the-classifier", "from-scratch")
}


@pytest.fixture
def short(monkeypatch):
    """The demo with so little data that it takes seconds."""
    monkeypatch.setattr(demo, "CROPS", 1)
    monkeypatch.setattr(demo, "CANVASES", {8: 42, 4: 42, 2: 42})
    monkeypatch.setattr(demo, "UNSEEN", 4)
    monkeypatch.setattr(demo, "FEW", 6)
    monkeypatch.setattr(demo, "FEW_EPOCHS", 8)


def test_demo_writes_figures_logs_and_a_model_that_loads(short, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert "stride 2, 126 canvases" in said
    assert "from scratch" in said
    assert str(out) in said
    names = {"heat-maps.png", "strides.png", "predictions.png", "confusion-matrix.png"}
    assert {path.name for path in out.iterdir()} == names | LOGS | {"digits-fcn.safetensors"}
    for name in names:
        with Image.open(out / name) as picture:
            picture.load()
    for log in LOGS:
        *_, line = (out / log).read_text().splitlines()
        assert json.loads(line)["loss"] > 0
    fcn = mf.load(out / "digits-fcn.safetensors")
    assert fcn.info.class_names == ("background", *"0123456789")
    assert fcn.stride == 2


def test_ctrl_c_stops_in_one_line(monkeypatch, tmp_path, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "fit", interrupted)
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.skipif(os.name != "posix", reason="broken pipes are different on other systems")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["info"], ["explain", "squeezenet1_0"], ["weights", "inspect", "nowhere"]]
)
def test_a_closed_pipe_ends_it_silently(arguments):
    """Whether it is closed while something is printed, at the last flush, or when an error is reported."""
    reader, writer = os.pipe()
    os.close(reader)
    errors = writer if "nowhere" in arguments else subprocess.PIPE
    command = [sys.executable, "-m", "minifcn", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=writer, stderr=errors, text=True, env=environment)
    os.close(writer)
    assert done.returncode == 141
    assert not done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--device", "tpu"], "unknown device 'tpu': expected 'cpu', 'cuda' or 'cuda:N'"),
        (["--device", "cuda:x"], "unknown device 'cuda:x'"),
        (["--seed", "-1"], "--seed must be an integer >= 0, got -1"),
    ],
)
def test_wrong_input_is_refused_in_one_line_before_anything_is_written(arguments, expected, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["demo", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert main(["demo", "--out", str(file)]) == 2
    assert f"--out: {file} cannot be written to" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="this user can write everywhere")
def test_no_write_permission(tmp_path, capsys):
    tmp_path.chmod(stat.S_IREAD | stat.S_IEXEC)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_info_names_versions_and_threads(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert mf.__version__ in said
    assert "threads" in said
