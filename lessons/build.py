"""Make the notebooks from their sources.

    python lessons/build.py              make anew the notebooks whose sources have changed
    python lessons/build.py 02 06        make these anew, changed or not
    python lessons/build.py --check      say which notebooks are not what their sources say; nothing is run
    python lessons/build.py --solved DIR run the solved notebooks, strictly, and write them to a folder

A source, `src/NN_name.py`, is a Python file in jupytext's percent format, with its solutions in it. The
notebook for learners has blanks in their place, and the output of all cells, from one run of the blank
notebook. `lessons/README.md` says how to write one.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

LESSONS = Path(__file__).resolve().parent
REPOSITORY = "minifcn/minifcn"  # owner and name, for the links to Colab
BLANK = "# Your code here.\n{indent}raise NotImplementedError"
VARIES = "varies"  # tag of a cell whose words differ from run to run

_SOLUTION = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION$", re.DOTALL | re.MULTILINE
)
_DECIMAL = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?|\d+e[+-]?\d+")

_INSTALL = """\
# On Google Colab this installs minifcn. Anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install -q minifcn hypothesis"""


def sources() -> list[Path]:
    """Return the sources of all lessons, in their order."""
    return sorted((LESSONS / "src").glob("[0-9][0-9]_*.py"))


def notebook_of(source: Path) -> Path:
    """Return where the notebook of a source belongs."""
    return LESSONS / f"{source.stem}.ipynb"


def generate(source: Path, *, solved: bool = False) -> Any:
    """Return the notebook of a source, without outputs: blank, or solved."""
    number = source.stem[:2]
    cells = jupytext.reads(source.read_text(encoding="utf-8"), "py:percent").cells
    link = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/lessons/{source.stem}.ipynb"
    badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
    cells[0].source = f"{badge}\n\n{cells[0].source}"
    cells.insert(1, nbformat.v4.new_code_cell(_INSTALL))
    for index, cell in enumerate(cells):
        tags = list(cell.metadata.get("tags", []))
        metadata: dict[str, Any] = {}
        if cell.cell_type == "code":
            if not solved:
                cell.source = _SOLUTION.sub(
                    lambda found: found[1] + BLANK.format(indent=found[1]), cell.source
                )
            if "check_exercise(" in cell.source:
                tags.append("check")
                metadata["jupyter"] = {"source_hidden": True}
            cell.execution_count, cell.outputs = None, []
        cell.metadata = {**metadata, "tags": tags} if tags else metadata
        cell.id = f"lesson-{number}-{index:02d}"
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
    )


def run(notebook: Any, *, strict: bool = False) -> Any:
    """Run a notebook in an empty folder, and return it with its outputs, which hold no count and no time.

    Raises:
        CellExecutionError: If a cell fails; in strict mode, an exercise that is not solved does.
    """
    environment = {**os.environ, "MINIFCN_STRICT": "1" if strict else ""}
    # The kernel sees this checkout, whatever is installed.
    paths = [str(LESSONS.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            record_timing=False,
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": folder}},
        )
        with client.setup_kernel(env=environment):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
        left = sorted(path.name for path in Path(folder).iterdir())
    if left:
        raise RuntimeError(f"the lesson leaves files behind: {', '.join(left)}")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _tidy(cell.outputs)
    return notebook


def _tidy(outputs: list[Any]) -> list[Any]:
    """Join what is printed piece by piece, and forget counts."""
    tidy: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and tidy and tidy[-1].get("name") == output.name:
            tidy[-1].text += output.text
            continue
        if "execution_count" in output:
            output.execution_count = None
        tidy.append(output)
    return tidy


def write(notebook: Any, path: Path) -> None:
    """Write a notebook."""
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def without_outputs(notebook: Any) -> Any:
    """Return a copy of a notebook without its outputs, as plain lists and dicts."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return copy


def words_shown(notebook: Any) -> list[list[tuple[str, str]]]:
    """Return for each cell what it shows: kinds of output, and text, in which decimal numbers are left open.

    Pictures differ in their bytes, and numbers with a decimal point in their value, from machine to machine.
    Words and whole numbers do not, unless the cell has the tag "varies".
    """
    shown = []
    for cell in notebook.cells:
        outputs = []
        for output in cell.get("outputs", []):
            text = output.get("text", output.get("data", {}).get("text/plain", ""))
            if VARIES in cell.metadata.get("tags", []):
                text = ""
            kinds = " ".join(sorted(output.get("data", {"stream": ""})))
            outputs.append((kinds, _DECIMAL.sub("#", text)))
        shown.append(outputs)
    return shown


def problem(source: Path) -> str:
    """Return how a committed notebook differs from what its source says, or nothing. Nothing is run."""
    path = notebook_of(source)
    if not path.exists():
        return f"{path.name} is missing"
    committed, made = nbformat.read(path, as_version=4), generate(source)
    if without_outputs(committed) != without_outputs(made):
        return f"{path.name} is not what {source.name} says"
    if not any(cell.get("outputs") for cell in committed.cells):
        return f"{path.name} has no outputs"
    return ""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "lessons", nargs="*", metavar="NN", help="numbers of lessons; by default all"
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what is not up to date"
    )
    parser.add_argument(
        "--solved",
        type=Path,
        metavar="DIR",
        help="write the solved notebooks to this folder",
    )
    arguments = parser.parse_args()
    chosen = [
        source
        for source in sources()
        if not arguments.lessons or source.stem[:2] in arguments.lessons
    ]
    if not chosen:
        parser.error(
            f"no such lesson; there are {', '.join(source.stem for source in sources())}"
        )
    if arguments.solved:
        arguments.solved.mkdir(parents=True, exist_ok=True)
        for source in chosen:
            write(
                run(generate(source, solved=True), strict=True),
                arguments.solved / f"{source.stem}.ipynb",
            )
            print(f"wrote {arguments.solved / source.stem}.ipynb")
        return 0
    stale = [source for source in chosen if problem(source)]
    if arguments.check:
        for source in stale:
            print(f"{problem(source)}: run python lessons/build.py")
        return 1 if stale else 0
    for source in chosen if arguments.lessons else stale:
        write(run(generate(source)), notebook_of(source))
        print(f"wrote {notebook_of(source).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
