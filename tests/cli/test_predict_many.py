"""Many images in shares, and images that are larger than memory."""

import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from minifcn.cli import predict
from minifcn.data import tiff
from minifcn.models.tiling import smallest_tile
from minifcn.training import progress
from minifcn.weights import load
from tests.cli.test_predict import draw, mask, model, run

__all__ = ["model"]


class Overlay:
    """An overlay that Matplotlib does not draw, which takes most of the time of a small image."""

    def __init__(self, image, labels, class_names, palette):
        self.image, self.labels = image, labels

    def savefig(self, path, format, pil_kwargs):
        Image.fromarray(self.image.squeeze()).save(path, format=format)


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The overlays that have been drawn."""
    overlays = []
    monkeypatch.setattr(predict.viz, "overlay", lambda *args: overlays.append(Overlay(*args)) or overlays[-1])
    return overlays


@pytest.fixture
def photos(tmp_path):
    """Images of two folders, some with the same name."""
    for number in range(7):
        folder = tmp_path / "photos" / ("a" if number % 2 else "b")
        draw(folder / f"{number // 2}.png", (20 + number, 16), slice(5 + number, None))
    return tmp_path / "photos"


def contents(folder):
    """Return the bytes of all files but records and tables."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith((".minifcn", "areas"))
    }


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 10))])
def test_shares_are_together_one_run(model, photos, tmp_path, count):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    images = sorted(photos.rglob("*.png"))
    assert run(model, *images, "--out", whole) == 0
    for number in sorted(range(1, count + 1), reverse=True):
        assert run(model, photos, "--out", shared, "--share", f"{number}/{count}") == 0
    assert contents(shared) == contents(whole)
    tables = [file.read_text() for file in sorted(shared.glob("areas-*.csv"))]
    assert len(tables) == count
    header, *rows = "".join(tables).splitlines()
    expected_header, *expected = (whole / "areas.csv").read_text().splitlines()
    assert header == expected_header
    assert sorted(rows) == sorted(expected)


def test_a_share_that_was_stopped_continues(model, photos, tmp_path, monkeypatch, capsys):
    out, real, calls = tmp_path / "out", predict.label, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(predict, "label", stops)
    assert run(model, photos, "--out", out, "--share", "1/2") == 130
    monkeypatch.setattr(predict, "label", real)
    assert run(model, photos, "--out", out, "--share", "2/2") == 0
    assert run(model, photos, "--out", out, "--share", "1/2") == 0
    assert "4 of 4 images labelled (1 of them before)" in capsys.readouterr().out
    whole = tmp_path / "whole"
    assert run(model, *sorted(photos.rglob("*.png")), "--out", whole) == 0
    assert contents(out) == contents(whole)


def test_shares_of_other_lists_are_refused(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, photos, "--out", out, "--share", "1/2") == 0
    before = contents(out)
    assert run(model, photos, "--out", out, "--share", "2/3") == 2
    draw(photos / "one_more.png")
    assert run(model, photos, "--out", out, "--share", "2/2") == 2
    said = capsys.readouterr().err
    assert "7 images in 2 shares, and this one 7 in 3" in said
    assert "7 images in 2 shares, and this one 8 in 2" in said
    assert contents(out) == before


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", "1/1000000"])
def test_shares_that_do_not_exist(model, photos, tmp_path, capsys, text):
    with pytest.raises(SystemExit, match="2"):
        run(model, photos, "--out", tmp_path / "out", f"--share={text}")
    assert "K/N" in capsys.readouterr().err


def test_tiles_give_the_same_labels(model, tmp_path, capsys):
    path = draw(tmp_path / "a.png", (400, 60), slice(170, 290))
    least = smallest_tile(load(model))
    for name, options in (("whole", ()), ("tiles", ("--tile", least + 10))):
        assert run(model, path, "--out", tmp_path / name, *options) == 0
    assert np.array_equal(*(mask(tmp_path / name / "masks" / "a.png")[0] for name in ("whole", "tiles")))
    assert run(model, path, "--out", tmp_path / "small", "--tile", least - 1) == 1
    assert f"at least {least}" in capsys.readouterr().err


def test_a_large_tiff_is_labelled_in_parts(model, tmp_path, monkeypatch, capsys, drawn):
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    image = (
        np.where(rng.random((7, 13, 1)) < 0.5, 250, 5)
        .astype(np.uint8)
        .repeat(50, 0)
        .repeat(47, 1)
        .repeat(3, 2)
    )
    tags = [(33550, "d", 3, (0.5, 0.5, 0.0), True)]
    path, out = tmp_path / "large.tif", tmp_path / "parts"
    tifffile.imwrite(path, image[:, :610], photometric="rgb", tile=(64, 64), extratags=tags, metadata=None)
    monkeypatch.setattr(predict, "_LARGEST_OVERLAY", 200)
    assert run(model, path, "--out", tmp_path / "whole") == 0
    labels = mask(tmp_path / "whole" / "masks" / "large.png")[0]
    monkeypatch.setattr(tiff, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    assert run(model, path, "--out", out, "--tile", smallest_tile(load(model)) + 30) == 0
    with tifffile.TiffFile(out / "masks" / "large.tif") as file:
        assert np.array_equal(file.asarray(), labels)
        assert file.pages[0].tags[33550].value == (0.5, 0.5, 0.0)
    row, before = ((folder / "areas.csv").read_text().splitlines()[1] for folder in (out, tmp_path / "whole"))
    assert row.replace("large.tif,masks/large.tif", "") == before.replace("large.tif,masks/large.png", "")
    assert (out / "overlays" / "large.png").exists()
    for overlay in drawn:  # read as a whole, and in parts
        assert np.array_equal(overlay.image, image[::4, :610:4])
        assert np.array_equal(overlay.labels, labels[::4, ::4])
    assert "labelling large.tif: 213,500 of 213,500 pixels, " in capsys.readouterr().err
    assert run(model, path, "--out", out) == 0
    assert "1 of 1 images labelled (1 of them before)" in capsys.readouterr().out


def test_a_full_disk_stops_at_a_large_tiff(model, tmp_path, monkeypatch, capsys):
    tifffile = pytest.importorskip("tifffile")
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((300, 300), np.uint8))
    monkeypatch.setattr(tiff, "MAX_PIXELS", 10_000)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(predict, "write_mask", full)
    assert run(model, tmp_path / "a.tif", tmp_path / "b.tif", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count(os.strerror(errno.ENOSPC)) == 1
    assert "b.tif" not in error


def test_a_large_tiff_that_is_cut_off_fails_alone(model, tmp_path, monkeypatch, capsys):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, np.zeros((300, 300, 3), np.uint8), photometric="rgb", tile=(64, 64))
    shutil.copy(path, tmp_path / "cut.tif")
    os.truncate(tmp_path / "cut.tif", 200_000)
    monkeypatch.setattr(tiff, "MAX_PIXELS", 10_000)
    out = tmp_path / "out"
    assert run(model, tmp_path / "cut.tif", path, "--out", out) == 1
    assert "cut.tif" in capsys.readouterr().err
    assert os.listdir(out / "masks") == ["large.tif"]
