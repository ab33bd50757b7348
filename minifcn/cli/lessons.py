"""`minifcn lessons`: the notebooks, copied to a folder of the learner and opened in JupyterLab."""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from minifcn.cli.outputs import output_folder
from minifcn.files import atomic_write
from minifcn.printing import say, show

_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "lessons", _PACKAGE.parent / "lessons")
"""Where the notebooks are: in an installed package, or in a clone of the repository."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = (
        "Copies the notebooks to a folder of yours and opens JupyterLab there. A notebook that you have "
        "changed is never overwritten."
    )
    parser.add_argument("--to", type=Path, default=Path("minifcn-lessons"), help="the folder")
    parser.add_argument("--no-browser", action="store_true", help="start JupyterLab without a browser")


def run(arguments: argparse.Namespace) -> int:
    """Copy the notebooks, and run JupyterLab until it is stopped."""
    for sentence in copy_lessons(find_lessons(), arguments.to):
        show(sentence)
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError(
            f"the notebooks are in {arguments.to.resolve()}, but JupyterLab, which opens them, is not "
            f'installed: pip install "minifcn[lessons]"'
        )
    options = [f"--LabApp.default_url=/lab/tree/{find_lessons()[0].name}"]  # the start page
    options += ["--no-browser"] if arguments.no_browser else []
    show("Opening JupyterLab; Ctrl-C here stops it.")
    status = _wait_for([sys.executable, "-m", "jupyterlab", *options], arguments.to)
    if status:  # JupyterLab has printed the reason
        say(
            f"minifcn lessons: JupyterLab ended with status {status}. The notebooks are in "
            f"{arguments.to.resolve()}; to start it with options, go there and run: jupyter lab OPTIONS"
        )
    return status


def find_lessons(places: Sequence[Path] | None = None) -> list[Path]:
    """Return the notebooks that come with this installation.

    Args:
        places: Folders to look in, the first one that has any; by default `PLACES`.

    Raises:
        FileNotFoundError: If there are none.

    Example:
        >>> find_lessons()[0].suffix
        '.ipynb'
    """
    for place in PLACES if places is None else places:
        if notebooks := sorted(place.glob("[0-9][0-9]_*.ipynb")):
            return notebooks
    raise FileNotFoundError("this installation of minifcn has no lessons: reinstall it")


def copy_lessons(notebooks: Sequence[Path], folder: Path) -> list[str]:
    """Copy notebooks to a folder, and return messages about what was done.

    A notebook that the learner has changed is kept; running and saving it counts as a change. If there is a
    newer version, it is written beside it under another name.

    Args:
        notebooks: The files to copy.
        folder: Where to; it is created if it does not exist.

    Raises:
        OSError: If the folder cannot be written to.
    """
    sentences, copied = [], 0
    with output_folder(folder, "to") as out:
        for notebook in notebooks:
            mine, new = folder / notebook.name, notebook.read_bytes()
            if mine.is_file() and mine.read_bytes() == new:
                continue
            if out.may_replace(notebook.name):
                _write(mine, new)
                copied += 1
                continue
            newer = ""
            if not out.wrote(new):
                beside = _beside(mine)
                _write(beside, new)
                newer = f"; the new version is {beside.name}"
            sentences.append(f"{mine.name} was changed by you and is kept{newer}.")
    return [f"{copied} of {len(notebooks)} notebooks copied to {folder.resolve()}", *sentences]


def _beside(mine: Path) -> Path:
    """Return a path that is free."""
    names = (mine.with_name(f"{mine.stem}-new{count}{mine.suffix}") for count in ("", *range(2, 1000)))
    return next(beside for beside in names if not os.path.lexists(beside))


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _wait_for(command: Sequence[str], folder: Path) -> int:
    """Run a command in a folder until it ends; the command handles Ctrl-C itself."""
    process = subprocess.Popen(command, cwd=folder)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # JupyterLab received it, too, and asks for confirmation
            continue
