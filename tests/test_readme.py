"""The README's Python, run as it stands."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.checks import CheckFailedError
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def block(words):
    """Return the one block of Python that has these words in it."""
    (found,) = [code for code in BLOCKS if words in code]
    return found


def test_shapes_in_comments_are_those_that_come_out(capsys):
    names = {}
    exec(block("sliding(np.zeros"), names)
    assert "background" not in capsys.readouterr().out
    assert names["sliding"](np.zeros((1, 1, 128, 256), np.float32)).shape == (1, 10, 13, 29)
    assert names["scores"].shape == (2, 11, 50, 75)


def test_the_demo_network_labels_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fcn = mf.models.FCN(mf.models.digit_classifier(rng=0), 11, stride=2)
    fcn.info = mf.models.ModelInfo(("background", *"0123456789"), mf.models.Preprocessing("L", (150,), (54,)))
    Path("minifcn-demo").mkdir()
    mf.save(fcn, "minifcn-demo/digits-fcn.safetensors")
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save("picture.png")
    exec(block("digits-fcn.safetensors"), {"np": np, "mf": mf})
    with Image.open("labels.png") as picture:
        assert picture.size > (100, 100)


@needs_weights
def test_a_classifier_looks_at_a_photograph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(WEIGHTS, "squeezenet1_0.safetensors")
    shutil.copy(CLASS_NAMES, ".")
    shutil.copy(DATA / "coffee.png", "cup.jpg")  # what a file is, its bytes tell
    names = {"mf": mf}
    exec(block("imagenet_classes.txt"), names)
    assert names["classifier"].info.class_names[names["best"][0]] == "espresso"
    assert Path("heat.png").stat().st_size > 10_000


def test_the_planted_mistake_is_found_and_described_as_printed():
    code = block("UpsideDown")
    with pytest.raises(CheckFailedError) as failure:
        exec(code, {"np": np})
    printed = re.search(r"# CheckFailedError: (.*)\n((?:# .*\n)*)", code)
    assert printed
    expected = printed[1] + " " + " ".join(printed[2].replace("# ", "").split())
    assert " ".join(str(failure.value).split()) == " ".join(expected.split())
