"""All texts of the repository: links lead somewhere, messages are quoted exactly, and nothing is private."""

import ast
import re
from pathlib import Path

import pytest

import minifcn

ROOT = Path(__file__).parents[1]
PACKAGE = Path(minifcn.__file__).parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "lessons" / "README.md"]
FOLDERS = [PACKAGE, *(ROOT / name for name in (".ci", ".github", "benchmarks", "docs", "lessons", "tests"))]
KINDS = {".cff", ".ipynb", ".md", ".py", ".toml", ".yaml", ".yml"}
TEXTS = sorted(
    path
    for path in [*ROOT.iterdir(), *(path for folder in FOLDERS for path in folder.rglob("*"))]
    if path.suffix in KINDS or path.name in ("run", "LICENSE")
)

PRIVATE = [
    r"(?<![\w.~>\])}*])/(?:home(?!/me\b)|root|Users|work|opt|mnt)/\w",
    r"pypi\s*\.\s*org|pythonhosted\s*\.|anaconda\s*\.\s*org|test\.pypi",
]
"""Paths of somebody's machine, and the hosts of package registries."""


def anchors(document):
    """Return the anchors of the headings of a Markdown document, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        if name.startswith("minifcn/") and not (ROOT / "minifcn").exists():
            continue  # the tests of an installed package lie beside no source
        target = document.parent / name if name else document
        assert target.exists(), link
        if target.suffix == ".md":  # tests/lessons checks the headings of lessons
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("pattern", PRIVATE)
def test_no_path_of_a_machine_and_no_registry(pattern):
    found = [
        f"{path.name}: {match[0]}"
        for path in TEXTS
        if path != Path(__file__)
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_address_is_needed_before_it_is_known():
    for document in DOCUMENTS:
        assert "badge" not in document.read_text(encoding="utf-8"), document.name


def messages():
    """Return all strings of the package, with the variable parts of f-strings as "..."."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_troubles_quotes_messages_as_they_are():
    troubles = ROOT / "docs" / "troubles.md"
    headings = re.findall(r"^### `(.*)`$", troubles.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 10
    everything = "\n".join(messages())
    patterns = {
        heading: ".*".join(re.escape(part.strip()) for part in heading.split("...") if part.strip())
        for heading in headings
    }
    assert [heading for heading, pattern in patterns.items() if not re.search(pattern, everything)] == []
