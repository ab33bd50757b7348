"""Build the notebooks from their sources.

    python lessons/build.py              build the notebooks whose sources have changed
    python lessons/build.py 02 06        build these, changed or not
    python lessons/build.py --check      print which notebooks differ from their sources; run nothing
    python lessons/build.py --solved DIR run the solved notebooks in strict mode, and write them to a folder

A source, `src/NN_name.py`, is a Python file in jupytext's percent format that contains the solutions. The
notebook for learners has blanks in their place, and the outputs of all cells from one run of the blank
notebook. The start page, `src/00_start.py`, gets a table of the lessons from the headers of their sources.
`lessons/README.md` describes how to write a lesson.
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

from minifcn import __version__ as VERSION

LESSONS = Path(__file__).resolve().parent
REPOSITORY = "minifcn/minifcn"  # owner and name, for the links to Colab
PAPER = "https://arxiv.org/abs/1605.06211"
DOCS = f"https://github.com/{REPOSITORY}/blob/main/docs"
READ = {  # section of the paper, and page of docs/
    "01": ("1", "how-it-works"),
    "02": ("3", "how-it-works"),
    "03": ("3.3", "own-layers"),
    "04": ("3", "speed"),
    "05": ("3", "how-it-works"),
    "06": ("3.1", "how-it-works"),
    "07": ("3.3", "how-it-works"),
    "08": ("5", "python"),
    "09": ("4.2", "python"),
    "10": ("4.3", "how-it-works"),
    "11": ("4.1", "photographs"),
    "12": ("3", "speed"),
    "13": ("4", "own-layers"),
    "14": ("5", "photographs"),
}
START = LESSONS / "src" / "00_start.py"
BLANK = "# Your code here.\n{indent}raise NotImplementedError"
VARIES = "varies"  # tag of a cell whose text differs from run to run

_SOLUTION = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION$", re.DOTALL | re.MULTILINE
)
_DECIMAL = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?|\d+e[+-]?\d+")

_INSTALL = """\
# On Google Colab this installs minifcn. Elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install -q minifcn hypothesis"""


def sources() -> list[Path]:
    """Return the sources of all lessons, in order, without the start page."""
    return sorted(set((LESSONS / "src").glob("[0-9][0-9]_*.py")) - {START})


def notebook_of(source: Path) -> Path:
    """Return the path of the notebook of a source."""
    return LESSONS / f"{source.stem}.ipynb"


def generate(source: Path, *, solved: bool = False) -> Any:
    """Return the notebook of a source, without outputs: blank, or solved.

    Outputs of a cell that follows a question to predict are collapsed until the learner runs the cell. The
    code of the first two cells, which install and import, and that of the checks is collapsed, too.
    """
    number = source.stem[:2]
    text = source.read_text(encoding="utf-8")
    if source == START:
        text = _with_lessons(text)
    cells = jupytext.reads(text, "py:percent").cells
    cells[0].source += f"\n\n{_links(source)}"
    imports = next(cell for cell in cells if cell.cell_type == "code")
    if not imports.source.startswith("#"):
        imports.source = (
            f"# Run this cell first: it imports what is used below.\n{imports.source}"
        )
    cells.insert(1, nbformat.v4.new_code_cell(_INSTALL))
    if following := next_lesson(source):
        cells[
            -1
        ].source += f"\n\n**Next:** [{title(following)}]({notebook_of(following).name})"
    for index, cell in enumerate(cells):
        tags = list(cell.metadata.get("tags", []))
        metadata: dict[str, Any] = {}
        if cell.cell_type == "code":
            if (
                index > 1
                and cells[index - 1].cell_type == "markdown"
                and "Predict" in cells[index - 1].source
            ):
                tags.append("hide-output")  # for the web pages
                metadata["jupyter"] = {"outputs_hidden": True}  # for JupyterLab
            if not solved:
                cell.source = _SOLUTION.sub(
                    lambda found: found[1] + BLANK.format(indent=found[1]), cell.source
                )
            if "check_exercise(" in cell.source:
                tags.append("check")
            if "check_exercise(" in cell.source or cell in (cells[1], imports):
                tags.append("hide-input")  # for the web pages
                metadata["jupyter"] = {"source_hidden": True}  # for JupyterLab
                metadata["cellView"] = "form"  # for Colab
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


def title(source: Path) -> str:
    """Return the title of a lesson, with its number."""
    return re.findall(r"^# # (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)[0]


def next_lesson(source: Path) -> Path | None:
    """Return the source of the next lesson, or None after the last."""
    later = [other for other in sources() if other.stem > source.stem]
    return later[0] if later else None


def needs(source: Path) -> list[int]:
    """Return the numbers of the lessons that a lesson needs, according to its header."""
    return numbers(_part(source, "You need"))


def numbers(text: str) -> list[int]:
    """Return the numbers of the lessons that a text names: "lesson 2", "lessons 3, 5 and 7 to 9"."""
    found: set[int] = set()
    for named in re.findall(r"lessons? (\d+(?:(?:, | and |, and | to )\d+)*)", text):
        for part in re.split(r", and |, | and ", named):
            first, _, last = part.partition(" to ")
            found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)


def _part(source: Path, name: str) -> str:
    """Return a paragraph of the header of a lesson, such as "**Question.** What ...?", without its name."""
    text = re.sub(r"^# ?", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return " ".join(
        re.findall(rf"^\*\*{name}[.:]?\*\*(.+?)\n\n", text, re.MULTILINE | re.DOTALL)[
            0
        ].split()
    )


def _with_lessons(text: str) -> str:
    """Return the source of the start page with what the headers of the lessons say, and links to headings."""
    rows, lessons, files = (
        [],
        {},
        {source.stem[:2]: notebook_of(source).name for source in sources()},
    )
    for source in sources():
        number, name = title(source).split(". ", 1)
        exercises = re.findall(
            rf"^# ## Exercise {number}\.\d+: (.+)$",
            source.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        minutes = sum(map(int, re.findall(r"\d+", _part(source, "Minutes"))))
        link, before = f"[{number}. {name}]({notebook_of(source).name})", needs(source)
        rows.append(
            f"# | {link} | {_part(source, 'Question')} | {'; '.join(exercises)} "
            f"| {', '.join(map(str, before)) or '-'} | {minutes} |"
        )
        lessons[int(number)] = name, notebook_of(source).name, before
    text = re.sub(
        r"\| (\d+): (.+) \|$",
        lambda found: (
            f"| [{found[1]}: {found[2]}]({files[found[1].zfill(2)]}#{found[2].replace(' ', '-')}) |"
        ),
        text,
        flags=re.MULTILINE,
    )
    return text.replace("# LESSONS", "\n".join(rows)).replace(
        "LESSONS = {}", f"LESSONS = {lessons}"
    )


def _links(source: Path) -> str:
    colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/lessons/{source.stem}.ipynb"
    section, page = READ.get(source.stem[:2], ("", "teaching"))
    paper = f"[The paper{f', section {section}' if section else ''}]({PAPER})"
    docs = f"[{page}]({DOCS}/{page}.md), [questions]({DOCS}/questions.md)"
    return (
        f"[Open in Colab]({colab}) | {paper} | Docs: {docs} | Made with minifcn {VERSION}"
    )


def run(notebook: Any, *, strict: bool = False) -> Any:
    """Run a notebook in an empty folder, and return it with outputs, without execution counts and times.

    Raises:
        CellExecutionError: If a cell fails. In strict mode, an unsolved exercise fails.
        RuntimeError: If the notebook leaves files in the folder.
    """
    environment = {**os.environ, "MINIFCN_STRICT": "1" if strict else ""}
    # The kernel imports this checkout, even if minifcn is installed.
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
    """Join consecutive outputs of one stream, and remove execution counts."""
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
    """Return the kind and the text of all outputs of each cell, with decimal numbers replaced by "#".

    The bytes of images and the values of numbers with a decimal point differ between machines.
    Words and integers do not, unless the cell has the tag "varies".
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
    """Return how a committed notebook differs from its source, or "". Nothing is run."""
    path = notebook_of(source)
    if not path.exists():
        return f"{path.name} is missing"
    committed, made = nbformat.read(path, as_version=4), generate(source)
    if without_outputs(committed) != without_outputs(made):
        return f"{path.name} differs from {source.name}"
    if not any(cell.get("outputs") for cell in committed.cells):
        return f"{path.name} has no outputs"
    return ""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "lessons", nargs="*", metavar="NN", help="numbers of lessons (default: all)"
    )
    parser.add_argument(
        "--check", action="store_true", help="only print what is not up to date"
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
        for source in (START, *sources())
        if not arguments.lessons or source.stem[:2] in arguments.lessons
    ]
    if not chosen:
        parser.error(
            f"lesson must be one of {', '.join(source.stem[:2] for source in (START, *sources()))}, "
            f"got {' '.join(arguments.lessons)}"
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
