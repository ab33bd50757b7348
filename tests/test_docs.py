"""The Python in `docs/` runs: the blocks of a page, one after another, in one namespace.

A block that begins with the comment `# not run` is left out, and so is a page without such blocks.
"""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page):
    """Yield each block of a page, with empty lines before it so that errors show the right line."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if not match[1].startswith("# not run"):
            yield "\n" * text.count("\n", 0, match.start(1)) + match[1]


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if list(blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), namespace)


def test_pages_are_found():
    assert DOCS / "own-layers.md" in PAGES
