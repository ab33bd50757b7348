"""What commands write: nothing of the user's is replaced, one command at a time, stopped ones continue."""

import csv
import errno
import hashlib
import os
import signal
import subprocess
import sys
from io import FileIO

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import minifcn as mf
from minifcn.cli import lessons, main, outputs, predict
from minifcn.cli.demo import FIGURES, LOGS, MODEL
from minifcn.cli.outputs import new_files, output_folder
from minifcn.files import InUseError, atomic_write
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier, squeezenet1_1
from tests.cli.folders import SCRATCH, photographs

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, FIFOs and names that are not UTF-8")


def tree(root):
    """Return every file, folder and link below a folder, with its contents."""
    found = {}
    for place, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(place, name)
            if os.path.islink(path):
                found[path] = f"link to {os.readlink(path)}"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = hashlib.file_digest(file, "sha256").hexdigest()
            else:
                found[path] = "folder or FIFO"
    return found


def put(kind, path):
    """Put something of the user's in the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    elsewhere = path.parents[1] / "elsewhere"
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        elsewhere.write_bytes(b"mine")
        (path.symlink_to if kind == "link" else path.hardlink_to)(elsewhere)


KINDS = ("file", "folder", "fifo", "link", "hard link", "dangling link")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model; its overlays are not drawn, which takes long."""

    class Figure:
        def savefig(self, path, **options):
            path.write_bytes(b"drawn")

    monkeypatch.setattr(predict.viz, "overlay", lambda *arguments: Figure())
    fcn = FCN(digit_classifier(rng=0), 2, 2)
    fcn.info = ModelInfo(("dark", "bright"), Preprocessing("L", (128.0,), (64.0,)))
    mf.save(fcn, tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


def draw(path, size=(20, 12), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def command(name, tmp_path):
    """Return a command that writes to tmp_path / "out", and the names of its files."""
    out = str(tmp_path / "out")
    if name == "predict":
        image, file = draw(tmp_path / "a.png"), tmp_path / "model.safetensors"
        return ["predict", file, image, "--out", out], ["masks/a.png", "overlays/a.png", "areas.csv"]
    if name == "train":
        data = photographs(tmp_path / "data")
        files = ["model.safetensors", "last.safetensors", "log.jsonl", "curve.png", "predictions.png"]
        return ["train", data, *SCRATCH, "--epochs", "1", "--out", out], files
    if name == "train --overfit-one":
        data = photographs(tmp_path / "data")
        return ["train", data, *SCRATCH, "--overfit-one", "--out", out], ["overfit-one.png"]
    return ["demo", "--out", out], [*FIGURES, *LOGS, MODEL]


COMMANDS = ("predict", "train", "train --overfit-one", "demo")


def run(arguments):
    return main([str(argument) for argument in arguments])


@posix
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_in_the_way_is_kept(name, model, tmp_path, capsys):
    arguments, files = command(name, tmp_path)
    for file in files:
        for kind in KINDS if name != "demo" else KINDS[:1]:
            path = tmp_path / "out" / file
            put(kind, path)
            before = tree(tmp_path)
            assert run(arguments) == 2, (file, kind)
            assert tree(tmp_path) == before
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert str(path) in error or f"contains a training ({file})" in error
            path.rmdir() if kind == "folder" else path.unlink()


@posix
def test_a_link_in_place_of_a_subfolder_is_not_followed(model, tmp_path, capsys):
    arguments, _ = command("predict", tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "out" / "masks").symlink_to(tmp_path / "mine")
    before = tree(tmp_path)
    assert run(arguments) == 2
    assert "masks is a link" in capsys.readouterr().err
    assert tree(tmp_path) == before
    with output_folder(tmp_path / "out") as folder, pytest.raises(FileExistsError, match="masks is a link"):
        folder.subfolder("masks")


@pytest.mark.parametrize("changed", ["masks/a.png", "overlays/a.png", "areas.csv"])
def test_our_files_are_replaced_until_the_user_changes_them(model, tmp_path, capsys, changed):
    arguments, files = command("predict", tmp_path)
    assert run(arguments) == 0
    before = tree(tmp_path / "out")
    draw(tmp_path / "a.png", seed=1)
    assert run(arguments) == 0
    assert all(tree(tmp_path / "out")[str(tmp_path / "out" / file)] for file in files) != before
    with (tmp_path / "out" / changed).open("ab") as file:
        file.write(b"mine")
    draw(tmp_path / "a.png", (30, 20), seed=2)
    before = tree(tmp_path)
    assert run(arguments) == 2
    assert f"{changed} was not written by minifcn, or was changed since" in capsys.readouterr().err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", ["masks", "overlays"])
def test_an_input_is_never_replaced(model, tmp_path, capsys, place):
    out = tmp_path / "out"
    mine = draw(out / place / "mine.png")
    before = tree(tmp_path)
    assert run(["predict", model, mine, "--out", out]) == 2
    assert f"{mine} is an input" in capsys.readouterr().err
    assert tree(tmp_path) == before
    with output_folder(out) as folder:
        folder.adopt(f"{place}/mine.png")  # even if we had written it
    before = tree(tmp_path)
    assert run(["predict", model, mine, "--out", out]) == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [*COMMANDS, "lessons"])
def test_a_folder_in_use_is_refused_at_once(name, model, tmp_path, capsys, monkeypatch):
    arguments, _ = (
        (["lessons", "--to", tmp_path / "out"], []) if name == "lessons" else command(name, tmp_path)
    )
    monkeypatch.setattr(lessons, "find_lessons", lambda: [draw(tmp_path / "01_a.ipynb")])
    with output_folder(tmp_path / "out"):
        before = tree(tmp_path / "out")
        assert run(arguments) == 1
        assert tree(tmp_path / "out") == before
    error = capsys.readouterr().err
    assert f"out: {tmp_path / 'out'} is in use by another command" in error.replace("to: ", "out: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()  # nothing was written to it


@posix
def test_a_killed_process_leaves_no_lock_and_no_temporary_file(tmp_path):
    code = f"""
import os, signal
from minifcn.cli.outputs import output_folder
from minifcn.files import atomic_write
with output_folder({str(tmp_path)!r}) as folder, atomic_write(folder.path / "a.png"):
    print(flush=True)
    signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(InUseError), output_folder(tmp_path):
        pass
    mine = [".last-mine.safetensors", ".minifcn-mine.png", ".minifcn-0123456789abcdef", ".a-12345678.png"]
    for name in mine[:2] + mine[3:]:
        (tmp_path / name).write_bytes(b"mine")
    assert len(os.listdir(tmp_path)) == len(mine) - 1 + 2
    process.kill()
    process.communicate()
    with output_folder(tmp_path):
        assert set(os.listdir(tmp_path)) == {".minifcn", *mine[:2], *mine[3:]}


def test_files_that_are_written_once_replace_nothing(model, tmp_path, capsys):
    photos = photographs(tmp_path / "data", classes="dark\nbright")
    save_file(squeezenet1_1(3, rng=0).state_dict(), tmp_path / "classifier.safetensors")
    for arguments, target in (
        (["evaluate", model, photos, "--json"], "mine.json"),
        (["evaluate", model, photos, "--confusion"], "mine.png"),
        (["weights", "convert", tmp_path / "classifier.safetensors"], "mine.safetensors"),
    ):
        for kind in ("file", "dangling link") if os.name == "posix" else ("file",):
            put(kind, tmp_path / target)
            before = tree(tmp_path)
            assert run([*arguments, tmp_path / target]) == 2
            assert f"{target} exists, and is not replaced" in capsys.readouterr().err
            assert tree(tmp_path) == before
            (tmp_path / target).unlink()


def test_a_file_that_appears_while_another_is_written_is_kept(tmp_path):
    path = tmp_path / "a.json"
    with new_files(path), pytest.raises(FileExistsError, match=r"a\.json exists"), atomic_write(path):
        path.write_text("mine")
    assert path.read_text() == "mine"
    with output_folder(tmp_path), pytest.raises(FileExistsError), atomic_write(tmp_path / "b"):
        (tmp_path / "b").write_text("mine")
    assert (tmp_path / "b").read_text() == "mine"


# A command that was stopped


def names(out):
    with (out / "areas.csv").open(encoding="utf-8", newline="") as file:
        return [row["mask"] for row in csv.DictReader(file)]


def test_finished_images_are_left_out(model, tmp_path, capsys, monkeypatch):
    images, out = [draw(tmp_path / "in" / f"{name}.png") for name in "abcd"], tmp_path / "out"
    labelled, real = [], predict.read_image
    monkeypatch.setattr(
        predict, "read_image", lambda path, **how: labelled.append(path.stem) or real(path, **how)
    )

    def again():
        labelled.clear()
        assert run(["predict", model, tmp_path / "in", "--out", out]) == 0
        assert sorted(names(out)) == [f"masks/{name}.png" for name in "abcd"]
        return "".join(labelled)

    assert again() == "abcd"
    before = tree(out)
    assert again() == ""
    assert "4 of 4 images labelled (4 of them before)" in capsys.readouterr().out
    assert tree(out) == before
    (out / "masks" / "a.png").unlink()
    (out / "overlays" / "b.png").unlink()
    draw(images[2], (9, 9))
    assert again() == "abc"
    (out / "areas.csv").unlink()
    assert again() == ""
    fcn = mf.load(model)
    fcn.score.bias.data[0] = 1
    mf.save(fcn, model)
    assert again() == "abcd"
    fcn.info = ModelInfo(("dark", "light"), fcn.info.preprocessing)
    mf.save(fcn, model)
    assert run(["predict", model, tmp_path / "in", "--out", out]) == 2
    assert f"--out: {out} contains results with other classes" in capsys.readouterr().err


def test_a_torn_table_and_record_are_continued(model, tmp_path):
    """Killed within a row, or within a line of the record, at each byte."""
    images, out = [draw(tmp_path / "in" / f"{name}.png") for name in "ab"], tmp_path / "out"
    arguments = ["predict", model, tmp_path / "in", "--out", out]
    assert run(arguments) == 0
    table, record = (out / "areas.csv").read_bytes(), (out / ".minifcn").read_bytes()
    row = len(table) - table[:-1].rindex(b"\n") - 1
    for kept in range(len(table) - row, len(table), 7):
        (out / "areas.csv").write_bytes(table[:kept])
        assert run(arguments) == 0
        assert (out / "areas.csv").read_bytes() == table
    (out / "areas.csv").write_bytes(table[:-3] + b"9\n")  # but if the row was changed, it is the user's
    assert run(arguments) == 2
    line = record[:-1].rindex(b"\n") + 1
    for kept in (line, line + 1, len(record) - 2):
        (out / "areas.csv").write_bytes(table[: len(table) - row])
        (out / ".minifcn").write_bytes(record[:kept])
        assert run(arguments) == 0
        assert (out / "areas.csv").read_bytes() == table
    assert len(images) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT if os.name == "posix" else errno.EFBIG])
def test_on_a_full_disk_it_stops_and_continues(model, tmp_path, capsys, monkeypatch, number):
    """Whichever of the files it is that does not fit."""
    for name in "abc":
        draw(tmp_path / "in" / f"{name}.png")
    real = os.fsync
    for last in range(1, 12, 2):
        out, calls = tmp_path / f"out{last}", iter(range(1000))

        def full(handle, calls=calls, last=last):
            if next(calls) >= last:
                raise OSError(number, os.strerror(number))
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        assert run(["predict", model, tmp_path / "in", "--out", out]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert os.strerror(number) in error
        monkeypatch.setattr(os, "fsync", real)
        assert not [name for _, _, files in os.walk(out) for name in files if name.startswith(".minifcn-")]
        assert run(["predict", model, tmp_path / "in", "--out", out]) == 0
        assert names(out) == [f"masks/{name}.png" for name in "abc"]


def test_all_is_appended_or_nothing(tmp_path):
    class Small(FileIO):
        """A file that has room for 8 bytes, and takes 3 at a time."""

        def write(self, data):
            if self.tell() + 3 > 8:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[:3])

    with Small(tmp_path / "a", "ab") as file:
        outputs._append(file, b"12345")
        with pytest.raises(OSError, match="No space left"):
            outputs._append(file, b"6789")
    assert (tmp_path / "a").read_bytes() == b"12345"


# One bad item


@posix
def test_odd_names(model, tmp_path, monkeypatch):
    shown, said = [], []
    monkeypatch.setattr(predict, "show", lambda *lines: shown.extend(lines))
    monkeypatch.setattr(predict, "say", said.append)
    odd = [
        b"x" * 251 + b".png",
        b"x" * 250 + b".jpeg",
        b"caf\xe9.png",
        b"caf\xe8.png",
        b"a\nb.png",
        b"\x1b[31m.png",
        b"-.png",
    ]
    odd += [
        b'a,"b".png',
        "é".encode() * 125 + b".png",
        "e\u0301.png".encode(),
        "\u00e9.png".encode(),
        b" .png",
    ]
    for name in odd:
        draw(tmp_path / "in" / os.fsdecode(name))
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    draw(tmp_path / "other" / ("x" * 251 + ".png"))
    out = tmp_path / "out"
    for _ in range(2):
        assert run(["predict", model, tmp_path / "in", tmp_path / "other", "--out", out]) == 1
        assert f"{len(odd) + 1} of {len(odd) + 2} images labelled" in shown[-1]
        assert len(os.listdir(out / "masks")) == len(os.listdir(out / "overlays")) == len(odd) + 1
        assert len(names(out)) == len(odd) + 1
        assert "broken.png" in said[-1]
    masks = set(os.listdir(os.fsencode(out / "masks")))
    assert masks > {b"caf\xe9.png", b"caf\xe8.png", b"x" * 251 + b".png", b"x" * 249 + b"-2.png"}


def test_an_image_that_fails_in_drawing_fails_alone(model, tmp_path, capsys, monkeypatch):
    for name in "abc":
        draw(tmp_path / "in" / f"{name}.png")
    real = predict.save_figure
    for error in (ValueError("mathtext"), MemoryError(), OSError(errno.ENAMETOOLONG, "File name too long")):

        def fails(figure, path, error=error):
            if path.stem == "b":
                raise error
            real(figure, path)

        monkeypatch.setattr(predict, "save_figure", fails)
        out = tmp_path / type(error).__name__
        assert run(["predict", model, tmp_path / "in", "--out", out]) == 1
        assert names(out) == ["masks/a.png", "masks/c.png"]
        assert capsys.readouterr().err.count("b.png") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user can write everywhere")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_may_only_be_read(name, model, tmp_path, capsys):
    arguments, _ = command(name, tmp_path)
    (tmp_path / "out").mkdir(mode=0o500)
    assert run(arguments) == 2
    assert capsys.readouterr().err.count("cannot be written to: Permission denied\n") == 1


def test_a_hostile_record_is_no_way_out_of_the_folder(model, tmp_path):
    arguments, _ = command("predict", tmp_path)
    assert run(arguments) == 0
    record = tmp_path / "out" / ".minifcn"
    (tmp_path / "mine.png").write_bytes(b"mine")
    spoilt = record.read_text().replace('"name": "a"', '"name": "../../mine"')
    digest = hashlib.sha256(b"mine").hexdigest()
    record.write_text(spoilt + f'{{"file": "masks/../../mine.png", "sha256": "{digest}"}}\n' + "[" * 100_000)
    draw(tmp_path / "a.png", seed=1)
    assert run(arguments) == 0
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_system_without_locks(monkeypatch, tmp_path):
    if os.name == "posix":
        import fcntl

        def unsupported(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", unsupported)
    with output_folder(tmp_path), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert outputs.recorded(tmp_path) == {tmp_path / "a"}


# Killed at any moment


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_predict_killed_at_any_moment(model, tmp_path, seed):
    for name in "abcdefghij":
        draw(tmp_path / "in" / f"{name}.png", seed=ord(name))
    out, rng = tmp_path / "out", np.random.default_rng(seed)
    arguments = ["predict", model, str(tmp_path / "in"), "--out", str(out)]
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-m", "minifcn", *arguments], stdout=subprocess.PIPE)
        for _ in range(int(rng.integers(1, 6))):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert main(arguments) == 0
    assert sorted(names(out)) == [f"masks/{name}.png" for name in "abcdefghij"]
    assert main([*arguments[:-1], str(tmp_path / "whole")]) == 0
    for mask in (out / "masks").iterdir():
        assert mask.read_bytes() == (tmp_path / "whole" / "masks" / mask.name).read_bytes()
    assert len(os.listdir(out / "masks")) == len(os.listdir(out / "overlays")) == 10  # and no leftovers
    assert sorted(os.listdir(out)) == [".minifcn", "areas.csv", "masks", "overlays"]
