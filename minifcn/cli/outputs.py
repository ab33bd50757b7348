"""Folders that commands write to: one command at a time, which replaces only what minifcn has written.

The record of a folder, `.minifcn`, has a line of JSON for each time that a file was written, with its hash.
The line is written before the file, so a file is ours if its contents have one of the hashes of its name.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from minifcn.files import (
    NO_LINKS,
    FileError,
    InUseError,
    StrPath,
    locked,
    open_foreign,
    open_outputs,
    remove_leftovers,
)

RECORD = ".minifcn"
"""The name of the record, which is also the file that is locked."""

_HEADER = b'{"record": "minifcn 1"}\n'
_LARGEST_RECORD = 1 << 28


class OutputFolder:
    """A folder that a command writes to, made by `output_folder`.

    Names of files are relative to the folder, with "/" on all systems.

    Attributes:
        path: The folder.
        entries: What is in the record, in the order in which it was written.

    Example:
        >>> import tempfile
        >>> from minifcn.files import atomic_write
        >>> with output_folder(tempfile.mkdtemp()) as folder:
        ...     with atomic_write(folder.path / "a.txt") as temporary:
        ...         _ = temporary.write_text("complete")
        ...     folder.entries[0]["file"], folder.holds("a.txt")
        ('a.txt', True)
    """

    def __init__(self, path: Path, record: FileIO):
        self.path, self._record = path, record
        self._root = Path(os.path.abspath(path))
        self.entries, self._before = _read_record(record, path)
        self._hashes: dict[str, list[str]] = {}
        for entry in self.entries:
            self._hashes.setdefault(entry["file"], []).append(entry["sha256"])
        self._ours: dict[str, tuple[int, ...]] = {}  # files that were found to be ours, as they were then
        self._appending: dict[str, Any] = {}  # hashes of the files that are appended to
        self._inputs: set[tuple[int, ...]] = set()

    def protect(self, *inputs: StrPath) -> None:
        """Do not replace files that are read, even if minifcn has written them."""
        for file in inputs:
            with suppress(OSError):  # one that is missing
                self._inputs.add(_identity(os.stat(file)))

    def name_of(self, path: StrPath) -> str | None:
        """Return the name of a file in the folder, or `None` for a file elsewhere."""
        file = Path(os.path.abspath(path))
        return file.relative_to(self._root).as_posix() if file.is_relative_to(self._root) else None

    def check(self, *names: str) -> None:
        """Refuse names of files that may not be replaced.

        Raises:
            FileExistsError: For the first that is there and is not as the record has it, or is an input, or
                is a link or behind a link.
        """
        for name in names:
            file, parts = self.path / name, Path(name).parts
            for step in (self.path.joinpath(*parts[: n + 1]) for n in range(len(parts))):
                _refuse_link(step)
            if not self.exists(name):
                continue
            if _identity(os.stat(file)) in self._inputs:
                raise FileExistsError(f"{file} is an input, and is not replaced: take another output folder")
            if not self._is_ours(name):
                raise FileExistsError(
                    f"{file} was not written by minifcn, or was changed since, and is not replaced: "
                    f"move it away, or take another output folder"
                )

    def exists(self, name: str) -> bool:
        """Return whether anything is there under a name."""
        return os.path.lexists(self.path / name)

    def holds(self, name: str) -> bool:
        """Return whether the file that was written last under a name is there, unchanged."""
        return self._hash(name) in self._hashes.get(name, ())[-1:]

    def wrote(self, contents: bytes) -> bool:
        """Return whether a file with these contents was written, under any name."""
        return any(hashlib.sha256(contents).hexdigest() in hashes for hashes in self._hashes.values())

    def may_replace(self, name: str) -> bool:
        """Return whether `check` accepts a name."""
        with suppress(FileExistsError):
            self.check(name)
            return True
        return False

    def subfolder(self, name: str) -> Path:
        """Return a folder in this folder; it is made if it is missing, and leftovers in it are removed."""
        path = self.path / name
        _refuse_link(path)
        path.mkdir(exist_ok=True)
        remove_leftovers(path)
        return path

    def remove(self, *names: str) -> None:
        """Remove files, if they are there; none, if one of them may not be replaced."""
        self.check(*names)
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def adopt(self, name: str) -> None:
        """Add a file to the record that is not in it, because a folder was copied without its record."""
        if name not in self._hashes:
            self._add({"file": name, "sha256": _sha256(self.path / name)})

    def record(self, name: str, temporary: Path) -> None:
        """Add a file to the record, before it is renamed from `temporary`."""
        self._add({"file": name, "sha256": _sha256(temporary)})
        self._ours[name] = _identity(os.stat(temporary), contents=True)
        self._appending.pop(name, None)

    def note(self, **about: Any) -> None:
        """Add JSON values to the record that are about no file."""
        self._add(about | {"file": "", "sha256": ""})

    def append(self, name: str, text: str, about: dict[str, Any]) -> None:
        """Append to a file that was written before; if that fails, as on a full disk, nothing is added.

        Args:
            name: The file.
            text: What is added.
            about: JSON values, which become part of the entry, as the text does ("added").
        """
        self.check(name)
        file, data = self.path / name, _encoded(text)
        if name not in self._appending:
            self._appending[name] = hashlib.sha256(file.read_bytes())
        contents = self._appending[name].copy()
        contents.update(data)
        self._add(about | {"file": name, "sha256": contents.hexdigest(), "added": text})
        with open(os.open(file, os.O_RDWR | os.O_APPEND | NO_LINKS), "ab", buffering=0) as opened:
            _append(opened, data)
            self._ours[name] = _identity(os.fstat(opened.fileno()), contents=True)
        self._appending[name] = contents

    def _add(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"  # ASCII, which can express every name of a file
        _append(self._record, self._before + line)
        os.fsync(self._record.fileno())
        self._before = b""
        self.entries.append(entry)
        self._hashes.setdefault(entry["file"], []).append(entry["sha256"])

    def _is_ours(self, name: str) -> bool:
        file = self.path / name
        now = _identity(os.lstat(file), contents=True)
        if self._ours.get(name) != now:
            if not (self._hash(name) in self._hashes.get(name, ()) or self._is_torn(name)):
                return False
            self._ours[name] = now
        return True

    def _hash(self, name: str) -> str:
        """Return the hash of a file, or "" if there is none that can be read."""
        with suppress(OSError, FileError):
            return _sha256(self.path / name)
        return ""

    def _is_torn(self, name: str) -> bool:
        """Return whether a file ends in a part of what was appended last, by a process that was killed."""
        appended = (one["added"] for one in self.entries[::-1] if one["file"] == name and "added" in one)
        added = _encoded(str(next(appended, "")))
        contents = (self.path / name).read_bytes() if added else b""
        whole = (contents[:-n] for n in range(1, len(added)) if contents.endswith(added[:n]))
        return any(hashlib.sha256(part).hexdigest() in self._hashes[name] for part in whole)


class _NewFiles:
    """Files that are written once, as `atomic_write` sees them."""

    def __init__(self, paths: Iterable[StrPath]):
        self.paths = list(map(os.path.abspath, paths))

    def name_of(self, path: StrPath) -> str | None:
        return name if (name := os.path.abspath(path)) in self.paths else None

    def check(self, *names: str) -> None:
        for name in names:
            if os.path.lexists(name):
                raise FileExistsError(f"{name} exists, and is not replaced: choose another name")

    def record(self, name: str, temporary: Path) -> None:
        pass


@contextmanager
def new_files(*paths: StrPath | None) -> Iterator[None]:
    """Refuse files that exist already, at once and when `atomic_write` finishes them; `None` is no file.

    Raises:
        FileExistsError: If one of them exists.
        PermissionError: If the folder of one may not be written to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.json"
        >>> path.touch()
        >>> with new_files(path):
        ...     pass
        Traceback (most recent call last):
            ...
        FileExistsError: ...metrics.json exists, and is not replaced: choose another name
    """
    files = _NewFiles(path for path in paths if path is not None)
    files.check(*files.paths)
    for path in files.paths:
        place = Path(path).parent
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError(f"{place} cannot be written to, for {path}")
        with suppress(OSError):
            remove_leftovers(place)
    open_outputs.append(files)
    try:
        yield
    finally:
        open_outputs.remove(files)


@contextmanager
def output_folder(path: StrPath, argument: str = "out", *, record: str = RECORD) -> Iterator[OutputFolder]:
    """Open a folder for a command; it is made if it is missing, and removed again if nothing is written.

    In the block, no other process can open it, and `atomic_write` adds each file in it to its record, with
    its hash and before the file is there, and replaces only what is in the record.

    Args:
        path: The folder.
        argument: Its name, for messages.
        record: The name of the record; commands with different ones share the folder.

    Raises:
        InUseError: If another process has opened it.
        FileError: If its record is none.
        OSError: If it cannot be made or written to.

    Example:
        >>> import tempfile
        >>> from minifcn.files import atomic_write
        >>> path = Path(tempfile.mkdtemp())
        >>> _ = (path / "mine.txt").write_text("mine")
        >>> with output_folder(path), atomic_write(path / "mine.txt") as temporary:
        ...     pass
        Traceback (most recent call last):
            ...
        FileExistsError: ...mine.txt was not written by minifcn, or was changed since, and is not replaced...
    """
    folder = Path(path)
    exists = os.path.exists
    new, missing = not exists(folder / record), [one for one in (folder, *folder.parents) if not exists(one)]
    with ExitStack() as stack:
        for one in reversed(missing):
            stack.callback(_remove_if_empty, one)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened = stack.enter_context(locked(folder / record))
        except InUseError:
            raise InUseError(
                f"{argument}: {folder} is in use by another command: wait until it ends"
            ) from None
        except OSError as error:
            raise OSError(f"{argument}: {folder} cannot be written to: {error.strerror or error}") from error
        output = OutputFolder(folder, opened)
        remove_leftovers(folder)
        open_outputs.append(output)
        try:
            yield output
        finally:
            open_outputs.remove(output)
            if new and not output.entries:
                if os.name == "nt":  # where open files cannot be removed
                    opened.close()
                (folder / record).unlink(missing_ok=True)


def recorded(folder: StrPath) -> set[Path]:
    """Return the files that the records of a folder list; none if it has no record.

    Example:
        >>> recorded("nowhere")
        set()
    """
    records = Path(folder).glob(f"{RECORD}*")
    return {Path(folder, entry["file"]) for record in records for entry in recorded_entries(record)}


def recorded_entries(record: Path) -> list[dict[str, Any]]:
    """Return the entries of a record, without locking it; none if it is missing or no record.

    Example:
        >>> recorded_entries(Path("nowhere"))
        []
    """
    with suppress(OSError, FileError), open_foreign(record) as file:
        return _read_record(file, record.parent)[0]
    return []


def _read_record(record: BufferedReader | FileIO, folder: Path) -> tuple[list[dict[str, Any]], bytes]:
    """Return the entries of a record, and what must come before the next one.

    Lines that are incomplete, because the process was killed, are left out.
    """
    record.seek(0)
    contents = record.read(_LARGEST_RECORD + 1) or b""
    start = contents[: len(_HEADER)]
    if not _HEADER.startswith(start) or len(contents) > _LARGEST_RECORD:
        raise FileError(f"{folder / RECORD} is not a record of minifcn: move it away")
    if start != _HEADER:
        return [], _HEADER[len(start) :]
    entries = []
    for line in contents.split(b"\n")[1:]:
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("file", "sha256")):
                entries.append(entry)
    return entries, b"" if contents.endswith(b"\n") else b"\n"


def _append(file: FileIO, data: bytes) -> None:
    """Append everything, or nothing."""
    size = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(size)
        raise


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names of files may not be UTF-8


def _sha256(path: Path) -> str:
    with open_foreign(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(status: os.stat_result, *, contents: bool = False) -> tuple[int, ...]:
    """Return what distinguishes a file from others; with `contents`, also from itself when it is changed."""
    return (status.st_dev, status.st_ino, *((status.st_size, status.st_mtime_ns) if contents else ()))


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link, and nothing is written through it: move it away")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
