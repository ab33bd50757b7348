"""Count the lines of code by room and compare them with the budgets of the project.

    python .ci/budget.py

Blank lines, comments and docstrings do not count. The exit status is 1 if a limit is exceeded: all lines,
the length of one file, the options of `minifcn train`, or the doctest lines, which must not become fewer.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minifcn"

MOST_LINES = 17_170
MOST_LINES_PER_FILE = 400  # of text, with blanks, comments and docstrings
MOST_TRAIN_OPTIONS = 32
FEWEST_DOCTEST_LINES = 501

ROOMS = {
    "kernels, functional": 2000,
    "layers": 1100,
    "models": 1600,
    "weights": 1500,
    "data": 1900,
    "training": 1600,
    "checks": 950,
    "viz": 950,
    "cli": 1700,
    "the rest": 1200,
}
"""Lines of code that each room may have when everything that is planned has been built, 14,500 in all."""

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Return the number of lines that are neither blank nor only a comment nor part of a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():  # the body of a lambda is an expression
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                docstrings.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def room_of(path: Path) -> str:
    """Return the name of the room, as in `ROOMS`, that a file of the package belongs to."""
    folder = path.relative_to(PACKAGE).parts[0]
    if folder in ("kernels", "functional"):
        return "kernels, functional"
    return folder if folder in ROOMS else "the rest"


def train_options() -> int:
    """Return how many options `minifcn train` has besides --help."""
    sys.path.insert(0, str(ROOT))
    from minifcn.cli import train

    parser = argparse.ArgumentParser(add_help=False)
    train.add_arguments(parser)
    return sum(bool(action.option_strings) for action in parser._actions)


def main() -> int:
    """Print the table, and return 1 if a limit is exceeded."""
    lines, doctests, too_long = dict.fromkeys(ROOMS, 0), 0, []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines[room_of(path)] += code_lines(source)
        doctests += len(re.findall(r"^ *>>>", source, re.MULTILINE))
        if (length := source.count("\n")) > MOST_LINES_PER_FILE:
            too_long.append(f"{path.relative_to(ROOT)} ({length})")
    print(f"{'room':22}{'lines':>7}{'budget':>8}")
    for room, count in lines.items():
        print(f"{room:22}{count:7,}{ROOMS[room]:8,}{'  over' if count > ROOMS[room] else ''}")
    total, options = sum(lines.values()), train_options()
    print(f"{'all':22}{total:7,}{MOST_LINES:8,}")
    print(f"{'options of train':22}{options:7}{MOST_TRAIN_OPTIONS:8}")
    print(f"{'doctest lines':22}{doctests:7}{FEWEST_DOCTEST_LINES:8}  at least")

    failures = [f"longer than {MOST_LINES_PER_FILE} lines: {', '.join(too_long)}"] if too_long else []
    if total > MOST_LINES:
        failures.append(f"{total - MOST_LINES} lines of code too many")
    if options > MOST_TRAIN_OPTIONS:
        failures.append(f"{options - MOST_TRAIN_OPTIONS} options of train too many")
    if doctests < FEWEST_DOCTEST_LINES:
        failures.append(f"{FEWEST_DOCTEST_LINES - doctests} doctest lines too few")
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
