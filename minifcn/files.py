"""Files: written atomically, opened safely, locked; one kind of error for damaged or unexpected ones."""

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

if sys.platform == "win32":
    import msvcrt
else:
    try:
        import fcntl
    except ImportError:  # WebAssembly
        fcntl = None  # type: ignore[assignment]

StrPath: TypeAlias = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\.minifcn-[0-9a-f]{16}(\.\w{1,8})?")
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NO_LINKS = _NO_WAITING | getattr(os, "O_NOFOLLOW", 0)
_LOCKED_BYTE = (1 << 31) - 2  # on Windows, where a locked byte cannot be read; far behind the end


class FileError(ValueError):
    """A file is damaged, hostile, or of another kind than expected; the message names the file.

    Example:
        >>> issubclass(FileError, ValueError)
        True
    """


class InUseError(OSError):
    """A file or folder is being written by another process.

    Example:
        >>> issubclass(InUseError, OSError)
        True
    """


class _OutputFolder(Protocol):
    def name_of(self, path: StrPath) -> str | None: ...
    def check(self, *names: str) -> None: ...
    def record(self, name: str, temporary: Path) -> None: ...


open_folders: list[_OutputFolder] = []
"""The folders that this process has opened by `minifcn.cli.outputs.output_folder`."""


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends without an error.

    If the block fails, or the machine stops, a file that was at `path` before is still there, unchanged. In
    an output folder that a command has opened, only files that its record lists are replaced.

    Args:
        path: The file to write or to replace.

    Raises:
        FileExistsError: If the file is in an open output folder and may not be replaced.
        OSError: If the folder does not exist or may not be written to, or the disk is full. It names `path`
            instead of the temporary file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_write(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("complete")
        >>> [(file.name, file.read_text()) for file in folder.iterdir()]
        [('a.txt', 'complete')]
    """
    target = Path(path)
    owners = [(folder, name) for folder in open_folders if (name := folder.name_of(target)) is not None]
    suffix = target.suffix if re.fullmatch(r"\.\w{1,8}", target.suffix) else ""
    temporary = target.parent / f".minifcn-{os.urandom(8).hex()}{suffix}"
    try:
        for folder, name in owners:
            folder.check(name)
        with locked(temporary) as file:  # which shows `remove_leftovers` that it is none
            if os.name == "nt":  # where files that are open cannot be replaced, renamed or removed
                file.close()
            try:
                yield temporary
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
                for folder, name in owners:
                    folder.check(name)
                    folder.record(name, temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        other_file = error.filename is not None and Path(str(error.filename)).name != temporary.name
        if error.errno is None or other_file:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


@contextmanager
def locked(path: StrPath) -> Iterator[FileIO]:
    """Open a file to read it and append to it, made if it is missing, that no other process has locked.

    The lock ends with the block or with the process. Without locks, as in some network file systems, the
    file is opened all the same.

    Raises:
        InUseError: If another process has locked it.
        FileError: If it is a link or no regular file.
        OSError: If it cannot be written to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lock"
        >>> with locked(path), locked(path):
        ...     pass
        Traceback (most recent call last):
            ...
        minifcn.files.InUseError: ...lock is in use by another command
    """
    file = Path(path)
    for _ in range(100):
        if os.path.lexists(file):
            _check_regular(file, os.lstat(file))
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINKS
        with open(os.open(file, flags, 0o666), "a+b", buffering=0) as opened:
            _lock(opened.fileno(), file)
            try:
                same = os.path.samestat(os.fstat(opened.fileno()), os.lstat(file))
            except FileNotFoundError:
                continue
            if same:  # and not a file that the last process has renamed or removed meanwhile
                yield opened
                return
    raise InUseError(f"{file} is in use by another command")


def _lock(handle: int, file: Path) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        elif fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK):
            raise InUseError(f"{file} is in use by another command") from error


def remove_leftovers(folder: StrPath) -> None:
    """Remove the temporary files in a folder that belong to no process any more.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".minifcn-0123456789abcdef.png").touch()  # of a process that was killed
        >>> remove_leftovers(folder)
        >>> list(folder.iterdir())
        []
    """
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            with suppress(OSError, FileError):
                with locked(Path(folder, name)):
                    pass
                os.unlink(Path(folder, name))


def check_ending(path: StrPath, ending: str) -> None:
    """Refuse a name for a file that does not have the suffix of its format.

    Raises:
        ValueError: With the right name.

    Example:
        >>> check_ending("matrix.jpg", ".png")
        Traceback (most recent call last):
            ...
        ValueError: matrix.jpg does not end in .png, the format that is written: call it matrix.png
    """
    file = Path(path)
    if file.suffix.lower() != ending:
        better = file.with_suffix(ending)
        raise ValueError(f"{file} does not end in {ending}, the format that is written: call it {better}")


def existing_file(path: StrPath) -> Path:
    """Return a path if it is that of a file that `open_foreign` opens, with the same errors.

    Example:
        >>> existing_file("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no file nowhere.safetensors
    """
    with open_foreign(path):
        return Path(path)


def open_foreign(path: StrPath) -> BufferedReader:
    """Open a file of unknown origin to read its bytes, and nothing that could wait or is no file.

    Raises:
        FileNotFoundError: If nothing is there.
        IsADirectoryError: If it is a folder; the message suggests a file in it.
        FileError: If it is a FIFO, a socket or a device. It is not opened, because that may wait forever or
            have an effect.
        OSError: If it may not be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = path.write_text("sky")
        >>> with open_foreign(path) as file:
        ...     file.read(100)
        b'sky'
    """
    file = Path(path)
    try:
        _check_regular(file, os.stat(file))
        # O_NONBLOCK in case a FIFO has taken its place since; a regular file is read as without it
        handle = os.open(file, os.O_RDONLY | _NO_WAITING)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {file}") from None
    try:
        _check_regular(file, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _check_regular(file: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        inside = sorted(file.glob("*.safetensors"), key=lambda found: found.name != "model.safetensors")
        such = f": give a file in it, such as {inside[0]}" if inside else ", and a file is expected"
        raise IsADirectoryError(f"{file} is a folder{such}")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{file} is no regular file, but a link, a FIFO, a socket or a device")
