import base64
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from minifcn.viz import convolution_film, panels, show

SAYS = "Ones stand on the diagonal."


@pytest.fixture
def notebook(monkeypatch):
    """What is displayed, as (data, metadata)."""
    displayed = []
    display = SimpleNamespace(
        display=lambda data, raw, metadata: displayed.append((data, metadata)) if raw else None
    )
    module = SimpleNamespace(get_ipython=lambda: object(), display=display, version_info=(9, 0))
    monkeypatch.setitem(sys.modules, "IPython", module)
    return displayed


def test_a_figure_is_shown_described_and_followed_by_its_sentence(notebook, capsys):
    show(panels({"x": np.eye(3)}), SAYS)
    ((data, metadata),) = notebook
    assert data["text/plain"] == metadata["image/png"]["alt"] == SAYS
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
        assert picture.mode == "P"
    assert capsys.readouterr().out == SAYS + "\n"


def test_the_same_figure_gives_the_same_bytes(notebook):
    for _ in range(2):
        show(panels({"x": np.eye(3)}), SAYS)
    assert notebook[0] == notebook[1]


def test_a_film_is_followed_by_a_strip(notebook, capsys):
    show(convolution_film(np.eye(3), np.ones((2, 2))), SAYS)
    (film, _), (strip, described) = notebook
    assert set(film) == {"text/html", "text/plain"}
    assert "<script>" in film["text/html"]
    assert SAYS in described["image/png"]["alt"]
    assert strip["image/png"]
    assert capsys.readouterr().out == SAYS + "\n"


def test_outside_a_notebook_the_sentence_remains(monkeypatch, capsys):
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None, version_info=(9, 0))
    )
    show(panels({"x": np.eye(3)}), SAYS)
    monkeypatch.delitem(sys.modules, "IPython")
    show(panels({"x": np.eye(3)}), SAYS)
    assert capsys.readouterr().out == 2 * (SAYS + "\n")


def test_no_picture_without_words():
    with pytest.raises(ValueError, match=r"says .* got ' '"):
        show(panels({"x": np.eye(3)}), " ")
