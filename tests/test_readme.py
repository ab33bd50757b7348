"""The README's Python, run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.checks import CheckFailed

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_shapes_in_comments_are_those_that_come_out(capsys):
    names = {}
    exec(BLOCKS[0], names)
    assert "background" not in capsys.readouterr().out
    assert names["sliding"](np.zeros((1, 1, 128, 256), np.float32)).shape == (1, 10, 13, 29)
    assert names["scores"].shape == (2, 11, 50, 75)


def test_the_demo_network_labels_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fcn = mf.models.FCN(mf.models.digit_classifier(), 11, stride=2)
    fcn.info = mf.models.ModelInfo(("background", *"0123456789"), mf.models.Preprocessing("L", (150,), (54,)))
    Path("minifcn-demo").mkdir()
    mf.save(fcn, "minifcn-demo/digits-fcn.safetensors")
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save("picture.png")
    exec(BLOCKS[1], {"np": np, "mf": mf})
    with Image.open("labels.png") as picture:
        assert picture.size > (100, 100)


def test_the_planted_mistake_is_found_and_described_as_printed():
    with pytest.raises(CheckFailed) as failure:
        exec(BLOCKS[2], {"np": np})
    printed = re.search(r"# CheckFailed: (.*)\n((?:# .*\n)*)", BLOCKS[2])
    assert printed
    expected = printed[1] + " " + " ".join(printed[2].replace("# ", "").split())
    assert " ".join(str(failure.value).split()) == " ".join(expected.split())
