"""A learner's functions: saved beside the notebooks when their checks print ok, loaded by later lessons."""

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from minifcn.files import FileError, atomic_write

RECORDS = (".minifcn", ".minifcn-lessons.json")
"""Files of which `minifcn lessons` writes one beside the notebooks that it copies for a learner."""
FOLDER = "my"  # beside the notebooks


def save_function(function: Callable[..., Any]) -> Path | None:
    """Save a function or class, with what it needs of the notebook, as `my/NAME.py`.

    Nothing is overwritten: if there is another version, the new one is `my/NAME-2.py`, and so on. Only in a
    folder that `minifcn lessons` made is anything saved at all.

    Returns:
        The file with this version, or `None` if nothing was saved.

    Raises:
        OSError: If the file cannot be written.
    """
    if not any(Path(record).exists() for record in RECORDS) or not (text := _with_needs(function)):
        return None
    number, path = _versions().get(function.__name__, [(0, Path())])[-1]
    if number and path.read_bytes() == text.encode():
        return path
    path = Path(FOLDER, f"{function.__name__}{f'-{number + 1}' if number else ''}.py")
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def saved_functions() -> dict[str, Callable[..., Any]]:
    """Return the learner's functions by name: the latest version of each in the folder `my`.

    `check_exercise` saves a function there when it prints ok, if the notebooks were opened with
    `minifcn lessons`. The files are Python; they are executed.

    Raises:
        FileError: If a file, perhaps edited since, cannot be executed.

    Example:
        >>> from minifcn.checks import saved_functions
        >>> saved_functions()  # nothing is saved outside a folder of lessons
        {}
    """
    functions = {}
    for name, versions in _versions().items():
        _, path = versions[-1]
        space: dict[str, Any] = {"__name__": FOLDER}
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
        except Exception as error:  # a learner's code may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise FileError(f"{path} cannot be used; mend it, or delete it ({reason})") from error
        if name in space:
            functions[name] = space[name]
    return functions


def _versions() -> dict[str, list[tuple[int, Path]]]:
    """Return the numbered files of each function, the latest one last."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in Path(FOLDER).glob("*.py"):
        if named := re.fullmatch(r"(\w+)(?:-(\d+))?", path.stem):
            found.setdefault(named[1], []).append((int(named[2] or 1), path))
    return {name: sorted(found[name]) for name in sorted(found)}


def _with_needs(function: Callable[..., Any]) -> str:
    """Return a module with a function and the imports, numbers and functions of the notebook that it uses.

    It is empty if the source of the function is not known.
    """
    imports, numbers, definitions = set(), set(), [_definition(function)]
    if not definitions[0]:
        return ""
    space, seen = _with_code(function).__globals__, {function.__name__}
    for source in definitions:
        nodes = list(ast.walk(ast.parse(source)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        for name in sorted({node.id for node in names} - own - seen):
            seen.add(name)
            value = space.get(name)
            home = getattr(value, "__module__", None) or ""
            if isinstance(value, ModuleType):
                imports.add(f"import {value.__name__} as {name}")
            elif isinstance(value, int | float | str):
                numbers.add(f"{name} = {value!r}")
            elif home == space.get("__name__"):
                definitions.append(_definition(value))
            elif package := _public_home(home, name, value):
                imports.add(f"from {package} import {name}")
    head = f'"""Saved when the check of {function.__name__} printed ok. You may edit this file."""'
    parts = [head, "\n".join([*sorted(imports), *sorted(numbers)]), *definitions[::-1]]
    return "\n\n\n".join(filter(None, parts)) + "\n"


def _public_home(module: str, name: str, value: Any) -> str:
    """Return the outermost package that has `value` under this name, or an empty string."""
    parts = module.split(".")
    packages = (".".join(parts[: depth + 1]) for depth in range(len(parts)))
    return next((one for one in packages if getattr(sys.modules.get(one), name, None) is value), "")


def _with_code(function: Any) -> Any:
    """Return a function itself, or the first method of a class, which knows its file; else `None`."""
    methods = vars(function).values() if inspect.isclass(function) else [function]
    return next((one for one in methods if hasattr(one, "__code__")), None)


def _definition(function: Any) -> str:
    """Return the source of a function or class, which may be one of a notebook; empty if it is not known."""
    if (one := _with_code(function)) is None:
        return ""
    source = "".join(linecache.getlines(one.__code__.co_filename))
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == function.__name__:
            return ast.get_source_segment(source, node) or ""
    return ""
