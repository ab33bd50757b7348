"""Files: written whole or not at all, and one kind of error for those that are not what they should be."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileError(ValueError):
    """A file from outside is damaged, hostile, or something else than it should be; the message names it.

    Example:
        >>> raise FileError("weights.npz is cut off")
        Traceback (most recent call last):
        ...
        minifcn.files.FileError: weights.npz is cut off
    """


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place when the block ends well.

    If the block fails, or the machine stops, a file that was at `path` before is still there, whole.

    Args:
        path: The file to write or to replace.

    Raises:
        OSError: If the folder is not there or may not be written to, or the disk is full. It names `path`,
            which its reader knows, and not the temporary one.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_write(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [(file.name, file.read_text()) for file in folder.iterdir()]
        [('a.txt', 'whole')]
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
        of_another = error.filename is not None and not Path(str(error.filename)).name.startswith(prefix)
        if error.errno is None or of_another:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_ending(path: str | os.PathLike[str], ending: str) -> None:
    """Refuse a name for a file that does not end as files of its format do.

    Raises:
        ValueError: It says which ending is right.

    Example:
        >>> check_ending("matrix.jpg", ".png")
        Traceback (most recent call last):
            ...
        ValueError: matrix.jpg does not end in .png, and that is what is written: call it matrix.png
    """
    file = Path(path)
    if file.suffix.lower() != ending:
        better = file.with_suffix(ending)
        raise ValueError(f"{file} does not end in {ending}, and that is what is written: call it {better}")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return a path, if there is a file at it.

    Raises:
        FileNotFoundError: If there is nothing.
        IsADirectoryError: If it is a folder; it names a file in it that may be meant.

    Example:
        >>> existing_file("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no file nowhere.safetensors
    """
    file = Path(path)
    if file.is_dir():
        inside = sorted(file.glob("*.safetensors"), key=lambda found: found.name != "model.safetensors")
        such = f": give a file in it, such as {inside[0]}" if inside else ", and a file is expected"
        raise IsADirectoryError(f"{file} is a folder{such}")
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    return file
