import json
import os
import re
import stat
import subprocess
import sys

import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import COMMANDS, demo, for_command_line, main
from minifcn.optim import Cosine

LOGS = {
    f"{name}.jsonl"
    for name in ("classifier", "stride-8", "stride-4", "stride-2", "from-the-classifier", "from-scratch")
}


@pytest.fixture
def short(monkeypatch):
    """The demo with so little data that it takes seconds."""
    monkeypatch.setattr(demo, "CROPS", 1)
    monkeypatch.setattr(demo, "CANVASES", {8: 14, 4: 14, 2: 14})
    monkeypatch.setattr(demo, "UNSEEN", 4)
    monkeypatch.setattr(demo, "FEW", 6)
    monkeypatch.setattr(demo, "FEW_EPOCHS", 2)
    monkeypatch.setattr(demo, "Cosine", lambda steps, warmup_steps: Cosine(steps))  # shorter than the warm-up


def test_demo_writes_figures_logs_and_a_model_that_loads(short, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert "stride 2, 42 canvases" in said
    assert "from scratch" in said
    assert str(out) in said
    names = {"heat-maps.png", "strides.png", "predictions.png", "confusion-matrix.png"}
    assert {path.name for path in out.iterdir()} == names | LOGS | {"digits-fcn.safetensors", ".minifcn"}
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


def help_of(*arguments):
    call = f"main({[*arguments, '--help']})"
    code = f"import sys; from minifcn.cli import main\ntry: {call}\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.rsplit("\n", 2)[0], set(done.stdout.splitlines()[-1].split())


def test_the_help_of_the_command_loads_no_numpy():
    text, modules = help_of()
    assert all(command in text for command in COMMANDS)
    assert "argparse" in modules
    assert not {"numpy", "tqdm", "minifcn.cli.train"} & modules


def test_matplotlib_is_loaded_only_to_draw():
    _, modules = help_of("evaluate")
    assert "minifcn.training.fit" in modules
    assert "matplotlib" not in modules


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: minifcn {command}" in capsys.readouterr().out


def test_train_has_at_most_32_options(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    options = set(re.findall(r"^ {2,8}(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--out", "--lr", "--overfit-one"} < options
    assert len(options) <= 32


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("batch_size must be an integer >= 1, got 0", "--batch must be an integer >= 1, got 0"),
        ("start: no such file", "--from: no such file"),
        ("class_weights must be x", "--class-weights must be x"),
        ("batch_size 3 is too large", "batch_size 3 is too large"),
        ("stride must be 4", "stride must be 4"),  # not an argument of this command
        ("step 3: lr must be 4", "step 3: lr must be 4"),
        ("b is missing (partial=True)", "b is missing (minifcn weights convert --partial)"),
        ("weights are for load_classifier", "weights are for minifcn weights convert"),
    ],
)
def test_errors_of_the_library_name_the_option(message, expected):
    options = {"batch_size": "--batch", "start": "--from", "class_weights": "--class-weights", "lr": "--lr"}
    assert for_command_line(message, options) == expected
