import os
import socket
import stat

import pytest

from minifcn.files import FileError, atomic_write, check_ending, existing_file, open_foreign, remove_leftovers


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        assert temporary.parent == tmp_path  # a rename across file systems would not be atomic
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_whole(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(str(path)) as temporary:  # noqa: PT012
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_writer_may_replace_the_temporary_file_itself(tmp_path):
    with atomic_write(tmp_path / "a") as temporary:
        other = tmp_path / "other"
        other.write_bytes(b"whole")
        other.replace(temporary)
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OSError), atomic_write(tmp_path / "missing" / "a.txt"):  # noqa: PT011
        raise AssertionError("there is no folder to write to")
    (tmp_path / "folder.d").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "folder.d") as temporary:  # noqa: PT011
        temporary.write_text("x")
    assert os.listdir(tmp_path) == ["folder.d"]


def test_an_error_names_the_file_that_was_meant(tmp_path):
    """Not the temporary one, which is gone when the message is read."""
    (tmp_path / "folder.d").mkdir()
    for target in (tmp_path / "missing" / "a.txt", tmp_path / "folder.d"):
        with pytest.raises(OSError) as raised, atomic_write(target) as temporary:  # noqa: PT011
            temporary.write_text("x")
        assert raised.value.filename == str(target)
        assert type(raised.value) is type(raised.value.__cause__)
        assert f"{tmp_path / '.'}" not in str(raised.value).replace(str(target), "")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"),
        atomic_write(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")


def test_errors_of_other_files_keep_their_names(tmp_path):
    other = tmp_path / "other"
    with pytest.raises(FileNotFoundError) as raised, atomic_write(tmp_path / "a.txt"):
        other.read_text()
    assert raised.value.filename == str(other)
    with pytest.raises(OSError, match=r"^in my own words$"), atomic_write(tmp_path / "a.txt"):
        raise OSError("in my own words")


def test_a_file_that_is_there(tmp_path):
    (tmp_path / "a.txt").touch()
    assert existing_file(str(tmp_path / "a.txt")) == tmp_path / "a.txt"
    with pytest.raises(FileNotFoundError, match=r"^there is no file .*missing$"):
        existing_file(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match=r"is a folder, and a file is expected$"):
        existing_file(tmp_path)
    for name in ("last", "model", "zoo"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(
        IsADirectoryError, match=r"is a folder: give a file in it, such as .*model.safetensors$"
    ):
        existing_file(tmp_path)


def test_endings():
    check_ending("a.PNG", ".png")
    for name in ("a.jpg", "a", "a.png.txt"):
        with pytest.raises(ValueError, match=rf"^{name} does not end in \.png, .* call it a\..*png"):
            check_ending(name, ".png")


@pytest.mark.skipif(os.name != "posix", reason="umask belongs to POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("x")
        assert os.umask(umask) == umask  # and it is put back
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.timeout(5)
@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs, sockets and devices in the file system")
@pytest.mark.parametrize("opening", [open_foreign, existing_file])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, opening, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("fifo")
    os.symlink("fifo", "link")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in ("fifo", "link", "socket", "/dev/zero", os.ttyname(os.openpty()[1])):
            with pytest.raises(FileError, match=rf"^{name} is no regular file"):
                opening(name)


@pytest.mark.timeout(5)
@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs")
def test_a_fifo_that_replaces_a_file_while_it_is_opened(tmp_path, monkeypatch):
    path, real = tmp_path / "a", os.stat
    path.touch()
    regular = real(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *arguments, **options: regular)
    with pytest.raises(FileError, match=r"a is no regular file"):
        open_foreign(path)


def test_a_foreign_file_is_read_as_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1\r\n\x1a2")
    with open_foreign(str(tmp_path / "a")) as file:
        assert file.read(2) == b"1\r"
        assert file.read() == b"\n\x1a2"


@pytest.mark.skipif(os.name == "nt", reason="where a file that is open cannot be replaced")
def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        remove_leftovers(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "new"
