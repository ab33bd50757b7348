"""The README and docs/python.md: their length, and their Python code, which is run as it stands."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.checks import CheckFailedError
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def block(text, words):
    """Return the one block of Python in a document that contains these words."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if words in code]
    return found


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_it_shows_one_command_for_the_demo_and_one_for_the_tests():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert [command.split("&&")[-1].strip() for command in commands] == [
        ".venv/bin/minifcn demo",
        ".venv/bin/pytest",
    ]


@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed")
def test_ci_finds_the_test_command_in_the_readme():
    script = re.search(r"sed -n '(.*)' README.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    found = subprocess.run(["sed", "-n", script[1]], input=README, capture_output=True, text=True)
    assert found.stdout.count("\n") == 1
    assert found.stdout.endswith('pip install -e ".[test]" && .venv/bin/pytest\n')


@pytest.mark.parametrize("text", [README, PYTHON], ids=["README.md", "python.md"])
def test_shapes_in_comments_are_those_that_come_out(text, capsys):
    names = {}
    exec(block(text, "sliding(np.zeros"), names)
    assert names["sliding"](np.zeros((1, 1, 128, 256), np.float32)).shape == (1, 10, 13, 29)
    assert names["scores"].shape == (2, 11, 50, 75)
    assert names["loss"] > 0
    assert ("mean IoU" in capsys.readouterr().out) == (text is PYTHON)


def test_the_network_of_the_demo_labels_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fcn = mf.models.FCN(mf.models.digit_classifier(rng=0), 11, stride=2)
    fcn.info = mf.models.ModelInfo(("background", *"0123456789"), mf.models.Preprocessing("L", (150,), (54,)))
    Path("minifcn-demo").mkdir()
    mf.save(fcn, "minifcn-demo/digits-fcn.safetensors")
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save("image.png")
    exec(block(PYTHON, "digits-fcn.safetensors"), {"np": np, "mf": mf})
    with Image.open("labels.png") as figure:
        assert figure.size > (100, 100)


@needs_weights
def test_a_classifier_sees_espresso_in_a_photograph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(WEIGHTS, "squeezenet1_0.safetensors")
    shutil.copy(CLASS_NAMES, ".")
    shutil.copy(DATA / "coffee.png", "cup.jpg")  # the kind of a file is found from its bytes
    names = {"mf": mf}
    exec(block(PYTHON, "imagenet_classes.txt"), names)
    assert names["classifier"].info.class_names[names["best"][0]] == "espresso"
    assert Path("heat.png").stat().st_size > 10_000


def test_the_planted_mistake_is_found_and_described_as_printed():
    code = block(PYTHON, "UpsideDown")
    with pytest.raises(CheckFailedError) as failure:
        exec(code, {"np": np})
    printed = re.search(r"# CheckFailedError: (.*)\n((?:# .*\n)*)", code)
    assert printed
    expected = printed[1] + " " + " ".join(printed[2].replace("# ", "").split())
    assert " ".join(str(failure.value).split()) == " ".join(expected.split())
