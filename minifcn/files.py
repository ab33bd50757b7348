"""Files: written atomically, and one kind of error for damaged or unexpected ones."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class FileError(ValueError):
    """A file is damaged, hostile, or of another kind than expected; the message names the file.

    Example:
        >>> issubclass(FileError, ValueError)
        True
    """


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends without an error.

    If the block fails, or the machine stops, a file that was at `path` before is still there, unchanged.

    Args:
        path: The file to write or to replace.

    Raises:
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
    prefix = f".{target.stem}-"
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp lets only the owner read
        temporary.replace(target)
    except OSError as error:
        other_file = error.filename is not None and not Path(str(error.filename)).name.startswith(prefix)
        if error.errno is None or other_file:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_ending(path: str | os.PathLike[str], ending: str) -> None:
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


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return a path if it is that of a file that `open_foreign` opens, with the same errors.

    Example:
        >>> existing_file("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no file nowhere.safetensors
    """
    with open_foreign(path):
        return Path(path)


def open_foreign(path: str | os.PathLike[str]) -> BinaryIO:
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
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(file, flags)
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
        raise FileError(f"{file} is a FIFO, a socket or a device, and a file is expected")
