import csv
import itertools
import os

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import main, predict
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from minifcn.training import memory

NAMES = ("dark", "bright")
COLORS = ((10, 20, 30), (250, 120, 0))


@pytest.fixture
def model(tmp_path):
    """A network that labels bright pixels as "bright"."""
    fcn = FCN(digit_classifier(init="zeros"), 2, 2)
    fcn.features[0].weight.data[0, 0, 1, 1] = 1
    fcn.skips["2"].weight.data[1, 0] = 1
    fcn.score.bias.data[0] = 0.5  # grey above 128 + .5 * 64 is more
    fcn.info = ModelInfo(NAMES, Preprocessing("L", (128.0,), (64.0,)), COLORS)
    mf.save(fcn, tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


def draw(path, size=(24, 16), bright=slice(12, None), **options):
    """Write a dark image of (width, height) with bright columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, bright] = 255
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def run(*arguments):
    return main(["predict", *map(str, arguments)])


def mask(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image), image.getpalette()


def test_mask_overlay_and_areas(model, tmp_path, capsys):
    path, out = draw(tmp_path / "a.png"), tmp_path / "new" / "out"
    assert run(model, path, "--out", out) == 0
    labels, palette = mask(out / "masks" / "a.png")
    assert labels.shape == (16, 24)
    assert labels[:, :10].max() == 0
    assert labels[:, 14:].min() == 1
    assert (tuple(palette[:3]), tuple(palette[3:6])) == COLORS
    assert palette[3 * 255 :] == [255, 255, 255]
    with Image.open(out / "overlays" / "a.png") as overlay:
        assert min(overlay.size) > 100
    bright = int((labels == 1).sum())
    assert table(out) == [
        {
            "image": path,
            "mask": "masks/a.png",
            "height": "16",
            "width": "24",
            "dark": str(labels.size - bright),
            "bright": str(bright),
        }
    ]
    assert sorted(os.listdir(out)) == [".minifcn", "areas.csv", "masks", "overlays"]
    said = capsys.readouterr().out
    assert f"{path}: 24 x 16 pixels" in said
    assert f"bright                  {bright:>12,}  {100 * bright / labels.size:6.2f} %" in said
    assert f"1 of 1 images labelled; masks, overlays and areas: {out}" in said


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (41, 2), (97, 61)])
def test_any_size(model, tmp_path, size):
    assert run(model, draw(tmp_path / "a.png", size), "--out", tmp_path / "out") == 0
    labels, _ = mask(tmp_path / "out" / "masks" / "a.png")
    assert labels.shape == size[::-1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA", "I;16"])
def test_any_kind_of_image(model, tmp_path, mode):
    pixels = Image.open(draw(tmp_path / "rgb.png"))
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.array(pixels.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        pixels.convert(mode).save(path)
    assert run(model, path, "--out", tmp_path / "out") == 0
    labels, _ = mask(tmp_path / "out" / "masks" / "a.png")
    assert (labels[:, 14:] == 1).all()
    assert (labels[:, :10] == 0).all()


def test_photographs_are_rotated_by_their_exif_orientation(model, tmp_path):
    """The camera was rotated: bright is at the right as stored, and below as displayed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert run(model, draw(tmp_path / "a.jpg", exif=exif), "--out", tmp_path / "out") == 0
    labels, _ = mask(tmp_path / "out" / "masks" / "a.png")
    assert labels.shape == (24, 16)
    assert labels[:10].max() == 0
    assert labels[14:].min() == 1


def test_advice_speaks_of_flags(model, tmp_path, capsys):
    """The library suggests arguments of Python, which the command does not have."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(99, 200, (8, 8, 4)).astype(np.uint8)).save(tmp_path / "bands.png")
    Image.fromarray(rng.integers(0, 900, (8, 8)).astype(np.uint16)).save(tmp_path / "dark.png")
    assert run(model, tmp_path / "bands.png", tmp_path / "dark.png", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "choose bands with --bands of train and check-data, or save" in said
    assert "in 10 to 16 bits: save the image" in said
    assert "bit_depth" not in said


def test_folders_are_searched_and_names_are_unique(model, tmp_path, capsys):
    folder = tmp_path / "in"
    draw(folder / "one" / "a.png")
    draw(folder / "two" / "a.png", bright=slice(0, 4))
    draw(folder / "a.JPG")
    draw(folder / "A-2.png")
    draw(folder / ".hidden.png")
    (folder / "notes.txt").write_text("no image")
    out = folder / "out"
    for _ in range(2):  # its own output is no input
        assert run(model, folder, draw(tmp_path / "b" / "a.png"), "--out", out) == 0
        assert len(os.listdir(out / "masks")) == len(os.listdir(out / "overlays")) == 5
    masks = areas(out)
    assert len(masks) == len({mask.casefold() for mask in masks.values()}) == 5
    labels, _ = mask(out / masks[str(folder / "two" / "a.png")])
    assert labels[8, 1] == 1
    assert labels[8, 20] == 0


def test_an_unreadable_image_is_reported_and_the_others_are_labelled(model, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.jpg").write_text("no image")
    paths = [
        tmp_path / "broken.png",
        draw(tmp_path / "a.png"),
        tmp_path / "text.jpg",
        tmp_path / "nowhere.png",
    ]
    assert run(model, *paths, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert os.listdir(tmp_path / "out" / "masks") == ["a.png"]
    assert "1 of 4 images labelled" in said.out
    assert len(said.err.splitlines()) == 3
    assert f"minifcn predict: {tmp_path / 'nowhere.png'}: No such file or directory\n" in said.err
    for name in ("broken.png", "text.jpg", "nowhere.png"):
        assert name in said.err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "classifier"}, "classifier contains a classifier"),
        ({"model": "nowhere"}, "nowhere"),
        ({"model": "a.png"}, "a.png"),
        ({"model": "."}, "is a folder"),
        ({"images": ["empty"]}, "empty"),
        ({"options": ["--device", "cuda:x"]}, "'cuda:x'"),
        ({"out": "a.png"}, "--out must be a folder"),
        ({"out": "new.JPG"}, "new.JPG"),
        ({"out": "mine"}, f"{os.sep}a.png was not written by minifcn, or was changed since"),
        ({"out": "bad"}, ".minifcn is not a record of minifcn"),
    ],
)
def test_wrong_input_is_refused_in_one_line(model, tmp_path, capsys, change, expected):
    classifier = digit_classifier(2, rng=0)
    classifier.info = ModelInfo(NAMES, Preprocessing("L", (128.0,), (64.0,)))
    mf.save(classifier, tmp_path / "classifier")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".minifcn").write_text('[{"image": "a.png"}]')
    draw(tmp_path / "mine" / "masks" / "a.png")
    draw(tmp_path / "a.png")
    file = tmp_path / change["model"] if "model" in change else model
    images = [tmp_path / image for image in change.get("images", ["a.png"])]
    out = tmp_path / change.get("out", "out")
    assert run(file, *images, *change.get("options", []), "--out", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "new.JPG").exists()
    assert os.listdir(tmp_path / "mine") == ["masks"]
    assert os.listdir(tmp_path / "bad") == [".minifcn"]


def table(out):
    """Return the rows of the table of areas."""
    with (out / "areas.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert sum(int(row[name]) for name in NAMES) == int(row["height"]) * int(row["width"])
    return rows


def areas(out):
    """Return the images in the table of areas, each of which is there once, and their masks."""
    rows = table(out)
    assert len({row["image"] for row in rows}) == len(rows)
    return {row["image"]: row["mask"] for row in rows}


def test_ctrl_c_loses_nothing(model, tmp_path, monkeypatch, capsys):
    real, calls = predict.label, itertools.count(1)

    def stops(*arguments, **options):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    paths = [draw(tmp_path / f"{name}.png") for name in "abcd"]
    out = tmp_path / "out"
    monkeypatch.setattr(predict, "label", stops)
    assert run(model, *paths, "--out", out) == 130
    assert areas(out) == {paths[0]: "masks/a.png", paths[1]: "masks/b.png"}
    assert sorted(os.listdir(out / "masks")) == ["a.png", "b.png"]


def test_results_of_other_images_are_kept(model, tmp_path):
    one, two = draw(tmp_path / "one" / "a.png"), draw(tmp_path / "two" / "a.png", bright=slice(0, 4))
    other, out = draw(tmp_path / "b.png"), tmp_path / "out"
    assert run(model, one, "--out", out) == 0
    before = (out / "masks" / "a.png").read_bytes()
    for _ in range(2):  # repeated, and each image keeps its mask
        assert run(model, two, other, "--out", out) == 0
        assert areas(out) == {one: "masks/a.png", two: "masks/a-2.png", other: "masks/b.png"}
        assert (out / "masks" / "a.png").read_bytes() == before
    draw(tmp_path / "one" / "a.png", bright=slice(0, 4))
    assert run(model, one, "--out", out) == 0
    assert (out / "masks" / "a.png").read_bytes() == (out / "masks" / "a-2.png").read_bytes() != before
    assert len(areas(out)) == 3


def test_masks_and_overlays_of_all_runs_are_no_input(model, tmp_path):
    """In the folder of the images, below it, and in the folder of an earlier run."""
    folder = tmp_path / "in"
    path = draw(folder / "a.png")
    for _ in range(2):
        for out in (folder, folder / "first", folder / "second"):
            assert run(model, folder, "--out", out) == 0
            assert areas(out) == {path: "masks/a.png"}


def test_an_image_that_does_not_fit_into_memory_is_reported(model, tmp_path, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(predict, "label", fails)
    assert run(model, draw(tmp_path / "a.png"), "--out", tmp_path / "out") == 1
    assert f"{tmp_path / 'a.png'}: not enough memory" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    assert run(model, tmp_path / "a.png", "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'a.png'}: labelling an image of 24 x 16 takes about " in error
    assert " and 0 MB are free: " in error
    enough = memory.inference_memory(mf.load(model), (8, 12))
    monkeypatch.setattr(memory, "available_memory", lambda: enough)
    assert run(model, tmp_path / "a.png", "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.endswith(" 12 x 8 would fit\n")
