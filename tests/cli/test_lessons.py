import sys
from importlib.util import find_spec

import pytest

from minifcn.cli import lessons, main


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two notebooks."""
    folder = tmp_path / "package" / "lessons"
    folder.mkdir(parents=True)
    (folder / "01_what.ipynb").write_text("one")
    (folder / "02_where.ipynb").write_text("two")
    (folder / "build.py").write_text("no notebook")
    monkeypatch.setattr(lessons, "PLACES", (folder,))
    return folder


@pytest.fixture
def opened(monkeypatch):
    """What was run instead of JupyterLab: (command, folder)."""
    runs = []
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(lessons, "_wait_for", lambda command, folder: runs.append((command, folder)) or 0)
    return runs


def contents(folder):
    return {path.name: path.read_text() for path in folder.glob("*.ipynb")}


def test_notebooks_are_copied_and_jupyterlab_is_opened_there(package, opened, tmp_path, capsys):
    to = tmp_path / "mine" / "lessons"
    assert main(["lessons", "--to", str(to), "--no-browser"]) == 0
    assert contents(to) == {"01_what.ipynb": "one", "02_where.ipynb": "two"}
    assert f"2 of 2 notebooks copied to {to}" in capsys.readouterr().out
    first = "--LabApp.default_url=/lab/tree/01_what.ipynb"
    assert opened == [([sys.executable, "-m", "jupyterlab", first, "--no-browser"], to)]


def test_a_changed_notebook_stays(package, opened, tmp_path, capsys):
    to = tmp_path / "mine"
    main(["lessons", "--to", str(to)])
    (to / "01_what.ipynb").write_text("my answers")
    capsys.readouterr()
    assert main(["lessons", "--to", str(to)]) == 0
    assert contents(to) == {"01_what.ipynb": "my answers", "02_where.ipynb": "two"}
    said = capsys.readouterr().out
    assert "0 of 2 notebooks copied" in said
    assert "01_what.ipynb was changed" in said


def test_newer_notebooks_replace_unchanged_ones_and_lie_beside_changed_ones(
    package, opened, tmp_path, capsys
):
    to = tmp_path / "mine"
    main(["lessons", "--to", str(to)])
    (to / "01_what.ipynb").write_text("my answers")
    (package / "01_what.ipynb").write_text("one, mended")
    (package / "02_where.ipynb").write_text("two, mended")
    capsys.readouterr()
    main(["lessons", "--to", str(to)])
    expected = {
        "01_what.ipynb": "my answers",
        "01_what-new.ipynb": "one, mended",
        "02_where.ipynb": "two, mended",
    }
    assert contents(to) == expected
    said = capsys.readouterr().out
    assert "1 of 2 notebooks copied" in said
    assert "01_what-new.ipynb" in said
    main(["lessons", "--to", str(to)])
    assert contents(to) == expected, "the third time there is nothing new"
    (to / "01_what-new.ipynb").write_text("more of my answers")
    (package / "01_what.ipynb").write_text("one, mended again")
    main(["lessons", "--to", str(to)])
    assert contents(to) == expected | {
        "01_what-new.ipynb": "more of my answers",
        "01_what-new2.ipynb": "one, mended again",
    }


def test_a_notebook_of_the_same_name_that_we_did_not_put_there_stays(package, opened, tmp_path):
    to = tmp_path / "mine"
    to.mkdir()
    (to / "02_where.ipynb").write_text("somebody else's")
    main(["lessons", "--to", str(to)])
    assert contents(to) == {
        "01_what.ipynb": "one",
        "02_where.ipynb": "somebody else's",
        "02_where-new.ipynb": "two",
    }


def test_a_spoilt_record_loses_nothing(package, opened, tmp_path, capsys):
    to = tmp_path / "mine"
    main(["lessons", "--to", str(to)])
    record = to / ".minifcn"
    for spoilt in (record.read_text() + '[]\n{"file": 1, "sha256": 2}\n{"file": "02', "", "no record"):
        (to / "01_what.ipynb").write_text("my answers")
        record.write_text(spoilt)
        assert main(["lessons", "--to", str(to)]) == (2 if spoilt == "no record" else 0)
        assert contents(to)["01_what.ipynb"] == "my answers"
    assert f"{record} is not a record of minifcn" in capsys.readouterr().err


def test_without_jupyterlab_the_sentence_says_how_to_get_it(package, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: None)
    to = tmp_path / "mine"
    assert main(["lessons", "--to", str(to)]) == 2
    error = capsys.readouterr().err
    assert 'pip install "minifcn[lessons]"' in error
    assert error.count("\n") == 1
    assert len(contents(to)) == 2


def test_when_jupyterlab_fails_the_sentence_says_how_to_give_it_options(
    package, opened, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(lessons, "_wait_for", lambda command, folder: 1)  # as root, without --allow-root
    to = tmp_path / "mine"
    assert main(["lessons", "--to", str(to)]) == 1
    error = capsys.readouterr().err
    assert f"JupyterLab ended with status 1. The notebooks are in {to}; " in error
    assert error.endswith("jupyter lab OPTIONS\n")


def test_a_folder_that_cannot_be_made_is_refused(package, opened, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["lessons", "--to", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
    assert not opened


def test_an_installation_without_lessons_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="this installation of minifcn has no lessons"):
        lessons.find_lessons((tmp_path,))


def test_ctrl_c_is_left_to_the_program_that_runs(tmp_path, monkeypatch):
    class Process:
        waits = 0

        def __init__(self, command, cwd):
            assert (command, cwd) == (["it"], tmp_path)

        def wait(self):
            Process.waits += 1
            if Process.waits == 1:
                raise KeyboardInterrupt
            return 5

    monkeypatch.setattr(lessons.subprocess, "Popen", Process)
    assert lessons._wait_for(["it"], tmp_path) == 5


@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="JupyterLab is not installed")
def test_jupyterlab_takes_the_command(tmp_path):
    assert lessons._wait_for([sys.executable, "-m", "jupyterlab", "--no-browser", "--version"], tmp_path) == 0
