import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import minifcn as mf
from minifcn.cli import main, train
from minifcn.layers import Conv2d, GlobalAvgPool2d, MaxPool2d, ReLU, Sequential
from minifcn.models import Classifier, ModelInfo, Preprocessing, digit_classifier, registry
from minifcn.training import memory
from minifcn.training.checkpoint import Checkpoint
from tests.cli.folders import SCRATCH, photographs
from tests.training.small import timeless
from tests.training.test_checkpoint import rewrite

OUTPUTS = {".minifcn", "model.safetensors", "last.safetensors", "log.jsonl", "curve.png", "predictions.png"}


@pytest.fixture
def data(tmp_path):
    return photographs(tmp_path / "photos")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training of one epoch, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    assert run(photographs(folder / "photos"), *SCRATCH, "--epochs", 1, "--out", folder / "out") == 0
    return folder / "out"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(*arguments):
    return main(["train", *map(str, arguments)])


def records(out):
    return timeless(json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("minifcn train: ")
    return error.removeprefix("minifcn train: ").strip()


def test_a_folder_of_photographs_becomes_a_network(data, out, capsys):
    assert run(data, *SCRATCH, "--epochs", 12, "--batch", 2, "--out", out) == 0
    said = capsys.readouterr()
    assert "6 images to train on, 2 to evaluate, 2 classes, up to 48 x 36 pixels" in said.out
    assert (
        "recipe quick: Adam, rate 3.0e-03 on the mean over pixels, 2 images per step, 12 epochs" in said.out
    )
    assert "a step on 2 images of 48 x 36 takes about" in said.err
    assert "warning" not in said.err
    assert set(os.listdir(out)) == OUTPUTS
    for name in ("curve.png", "predictions.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100
    lines = records(out)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[0]["loss"] > lines[-1]["loss"]
    best = max(line["mean_iou"] for line in lines)
    assert best > 0.8
    fcn = mf.load(out / "model.safetensors")
    assert fcn.info.class_names == ("ground", "blob")
    assert fcn.stride == 2
    assert main(["evaluate", str(out / "model.safetensors"), data, "--json", str(out / "scores.json")]) == 0
    assert json.loads((out / "scores.json").read_text())["mean_iou"] == pytest.approx(best)


def test_the_same_command_gives_the_same_bytes(data, tmp_path):
    options = [
        data,
        *SCRATCH,
        "--epochs",
        2,
        "--dropout",
        0.5,
        "--color",
        0.3,
        "--scale",
        "0.7,1.5",
        "--crop",
        "40x30",
    ]
    for name in ("a", "b"):
        assert run(*options, "--out", tmp_path / name) == 0
    assert run(*options, "--seed", 1, "--out", tmp_path / "c") == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_stages_frozen_trunk_and_the_papers_recipes(data, tmp_path, capsys):
    """From a classifier's file to stride 8, then finer, each with a recipe of its own."""
    classifier = digit_classifier(10, rng=0)
    classifier.info = ModelInfo(tuple("0123456789"), Preprocessing("L", (90.0,), (50.0,)))
    mf.save(classifier, tmp_path / "classifier.safetensors")
    start, stages = tmp_path / "classifier.safetensors", []
    for number, options in enumerate(
        (
            ["--stride", 8, "--recipe", "heavy"],
            ["--stride", 4, "--recipe", "online"],
            ["--stride", 2, "--recipe", "accumulated", "--batch", 2, "--class-weights", "median"],
            ["--freeze-trunk", "--lr", 1e-3],
        )
    ):
        stages.append(tmp_path / f"stage{number}")
        assert run(data, "--from", start, *options, "--epochs", 1, "--out", stages[-1]) == 0
        start = stages[-1] / "model.safetensors"
    said = capsys.readouterr().out
    assert "SGD, rate 1.0e-10 on the sum over pixels (as 1.7e-07 on their mean), 1 image per step" in said
    assert "SGD, rate 1.0e-11 on the sum" in said
    assert "SGD, rate 1.0e-08 on the mean over pixels, 20 images per step" in said
    assert "class weights: ground" in said
    third, fourth = (mf.load(stage / "model.safetensors") for stage in stages[2:])
    assert third.stride == fourth.stride == 2
    assert third.info.preprocessing == classifier.info.preprocessing
    same = {k: np.array_equal(v, third.state_dict()[k]) for k, v in fourth.state_dict().items()}
    assert all(equal for name, equal in same.items() if name.startswith(("features", "head")))
    assert not any(equal for name, equal in same.items() if name.startswith(("score", "skips")))


def test_weights_of_a_classifier_in_public_names(data, tmp_path, out, capsys):
    model = mf.models.squeezenet1_1(rng=0)
    save_file(
        {name: np.ascontiguousarray(a) for name, a in model.state_dict().items()}, tmp_path / "w.safetensors"
    )
    options = ["--weights", tmp_path / "w.safetensors", "--stride", 16, "--epochs", 1, "--alignment", "exact"]
    assert run(data, *options, "--out", out) == 0
    assert "weights: squeezenet1_1 in the names of torchvision: 52 copied" in capsys.readouterr().err
    assert mf.load(out / "model.safetensors").info.preprocessing.channels == "RGB"


# Resume


def interrupted(monkeypatch, step):
    """Send SIGINT, as Ctrl-C does, in a step."""
    if os.name == "nt":
        pytest.skip("os.kill ends the process on Windows")
    real, count = train.Loader._item, [0]

    def item(self, *arguments, **options):
        if self.batch_size == 2:  # the training's, not that of the evaluation
            count[0] += 1
            if count[0] == 2 * step - 1:
                os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments, **options)

    monkeypatch.setattr(train.Loader, "_item", item)


def test_ctrl_c_and_resume_end_with_the_same_bits(data, tmp_path, out, monkeypatch, capsys):
    options = [data, *SCRATCH, "--batch", 2, "--epochs", 3]
    assert run(*options, "--out", tmp_path / "whole") == 0
    interrupted(monkeypatch, 5)
    assert run(*options, "--out", out) == 130
    said = capsys.readouterr().err
    assert f"continue with: minifcn train --resume --out {out}\n" in said
    monkeypatch.undo()
    assert run("--resume", "--out", out) == 0
    assert records(out) == records(tmp_path / "whole")
    for name in ("model.safetensors",):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, theirs = (Checkpoint.read(folder / "last.safetensors") for folder in (out, tmp_path / "whole"))
    for part in ("model", "optimizer"):
        assert all(np.array_equal(a, theirs.part(part)[name]) for name, a in ours.part(part).items())
    assert run("--resume", "--out", out) == 0  # a finished one, once more


def test_resume_from_any_folder(data, tmp_path, out, monkeypatch):
    """Paths are stored as absolute ones, so the working directory does not matter."""
    classifier = digit_classifier(10, rng=0)
    classifier.info = ModelInfo(tuple("0123456789"), Preprocessing("L", (90.0,), (50.0,)))
    mf.save(classifier, tmp_path / "start.safetensors")
    options = ["folder:photos", "--from", "start.safetensors", "--epochs", 2, "--batch", 2]
    monkeypatch.chdir(tmp_path)
    assert run(*options, "--out", "whole") == 0
    with monkeypatch.context() as patch:
        interrupted(patch, 5)
        assert run(*options, "--out", out) == 130
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = ["folder:../photos", "--from", "../start.safetensors"]  # the same, seen from here
    assert run(*again, "--resume", "--out", "../out") == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_for_more_epochs_there_is_another_training(data, out, capsys):
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    capsys.readouterr()
    error = refused(capsys, "--resume", "--epochs", 3, "--out", out)
    how = f"with --from {out / 'model.safetensors'}"
    assert "epochs was 1, is 3; " in error
    assert error.endswith(how)
    assert run("--resume", "--out", out) == 0
    said = capsys.readouterr().out
    assert f"all 1 epochs were done before; for more, train {how}\n" in said
    assert run(data, "--from", out / "model.safetensors", "--epochs", 1, "--out", out / "more") == 0
    assert "done before" not in capsys.readouterr().out


def test_a_training_continues_with_classes_in_another_order(data, tmp_path, out, capsys):
    """The labels stay those of the network, so the result is the same."""
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    other = photographs(tmp_path / "other", classes="blob\nground")
    for path in (tmp_path / "other" / "masks").iterdir():
        Image.fromarray(np.array([1, 0, *[255] * 254], np.uint8)[np.array(Image.open(path))]).save(path)
    options = ["--from", out / "model.safetensors", "--epochs", 1]
    models = []
    for number, source in enumerate((data, other)):
        capsys.readouterr()
        assert run(source, *options, "--out", tmp_path / str(number)) == 0
        said = "the dataset has blob, ground, the network ground, blob" in capsys.readouterr().err
        assert said == bool(number)
        models.append((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    (tmp_path / "other" / "classes.txt").write_text("blob\ncat")
    assert "the network does not have cat" in refused(capsys, other, *options, "--out", tmp_path / "2")
    (tmp_path / "other" / "classes.txt").unlink()
    assert "class 0 is 'ground'" in refused(capsys, other, *options, "--out", tmp_path / "2")


def test_a_difference_in_settings_is_refused_by_name(data, out, capsys):
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    capsys.readouterr()
    same = ["--model", "digit_classifier", "--epochs", 1]
    assert run(data, *same, "--resume", "--out", out) == 0
    capsys.readouterr()
    error = refused(capsys, "--resume", "--out", out, "--epochs", 2, "--seed", 7, "--no-flip")
    assert error.startswith("--resume: ")
    assert "epochs was 1, is 2; seed was 0, is 7; flip was None, is False" in error


def test_a_used_folder_is_not_overwritten(data, out, capsys):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    error = refused(capsys, data, *SCRATCH, "--epochs", 1, "--out", out)
    assert error.startswith(f"--out: {out} contains a training (last.safetensors): ")
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_nothing_to_resume(out, capsys):
    error = refused(capsys, "--resume", "--out", out)
    assert error == f"--resume: {out} contains no checkpoint (last.safetensors)"
    assert not out.exists()


def test_a_checkpoint_of_something_else_is_refused(out, capsys):
    out.mkdir()
    save_file({"a": np.zeros(3, np.float32)}, out / "last.safetensors")
    assert "is no checkpoint" in refused(capsys, "--resume", "--out", out)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {}},
        {"settings": 3},
        {"network": {"format": "minifcn 2", "layers": '{"class": "Unknown"}'}},
        {"network": {"format": "minifcn 2", "layers": '{"class": "ReLU"}'}},
        {"network": {}},
        {"network": []},
        {"epochs": 3, "records": {}},
    ],
)
def test_a_changed_checkpoint_is_refused(trained, out, capsys, change):
    shutil.copytree(trained, out)
    capsys.readouterr()
    rewrite(out / "last.safetensors", change)
    assert run("--resume", "--out", out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "last.safetensors" in error


def test_changed_settings_in_a_checkpoint_are_refused(trained, out, capsys):
    shutil.copytree(trained, out)
    stored = Checkpoint.read(out / "last.safetensors").entries["settings"]["command"]
    for change in ({"epochs": "many"}, {"crop": 3}, {"seed": [1]}, {"recipe": "none"}, {"scale": "ab"}):
        rewrite(out / "last.safetensors", {"settings": {"command": stored | change}})
        capsys.readouterr()
        assert run("--resume", "--out", out) == 2, change
        assert capsys.readouterr().err.splitlines()[-1].startswith("minifcn train: ")


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one of --weights .* --from .* --from-scratch .* got 0 of them"),
        (["--from-scratch"], "--from-scratch needs --model, one of alexnet"),
        (["--from-scratch", "--from", "x"], "got 2 of them"),
        (["--from", "x", "--model", "vgg16"], "--from x .* --model"),
        ([*SCRATCH, "--epochs", "0"], "--epochs must be an integer >= 1, got 0"),
        ([*SCRATCH, "--batch", "-1"], "--batch must be an integer >= 1, got -1"),
        ([*SCRATCH, "--seed", "-1"], "--seed must be an integer >= 0, got -1"),
        ([*SCRATCH, "--lr", "nan"], "--lr must be positive and finite, got nan"),
        ([*SCRATCH, "--device", "tpu"], "'tpu'"),
        ([*SCRATCH, "--stride", "3"], r"--stride must be one of \[2, 4, 8\], got 3"),
        ([*SCRATCH, "--dropout", "1.5"], "p must be a probability"),
        ([*SCRATCH, "--color", "3"], "--color must be .* got 3.0"),
        (["--from", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["--weights", "nowhere.pth"], "--weights: .*nowhere.pth.* minifcn weights download"),
        (["--from", "tests"], "tests is a folder"),
        ([*SCRATCH, "--recipe", "heavy"], "lr 3.0e-03 .* recipe 'heavy'"),
        (
            ["--model", "digit_classifier", "--from-scratch", "--recipe", "heavy"],
            "recipe 'heavy' .* 2 skips",
        ),
        (
            ["--model", "digit_classifier", "--from-scratch", "--lr", "1e-10"],
            "lr 1.0e-10 .* recipe 'quick'",
        ),
    ],
)
def test_wrong_input_is_refused_in_one_line_before_anything_is_written(
    data, out, capsys, arguments, expected
):
    error = refused(capsys, data, *arguments, "--out", out)
    assert re.search(expected, error), error
    assert not out.exists()


@pytest.mark.parametrize("spec", ["folder:nowhere", "pictures", ""])
def test_unknown_data(spec, out, capsys):
    refused(capsys, spec, *SCRATCH, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--crop", "40"],
        ["--crop", "0x4"],
        ["--scale", "2"],
        ["--scale", "2,1"],
        ["--checkpoint-every", "often"],
    ],
)
def test_arguments_that_cannot_be_read(data, out, capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        run(data, *SCRATCH, *arguments, "--out", out)
    assert exit.value.code == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "file"])
def test_the_name_of_a_file_is_refused_as_folder(data, tmp_path, capsys, name):
    (tmp_path / "file").touch()
    error = refused(capsys, data, *SCRATCH, "--out", tmp_path / name)
    assert error.startswith("--out must be a folder")
    assert name in error


def test_a_wrong_file_is_refused_with_the_right_one(data, out, capsys):
    """A model and a checkpoint are no weights of a classifier, and a folder is no file."""
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    capsys.readouterr()
    model, last = out / "model.safetensors", out / "last.safetensors"
    for arguments, expected in (
        (["--weights", model], f"{model} .* FCN"),
        (["--weights", last], f"{last} .* checkpoint"),
        (["--from", last], f"{last}.* checkpoint .*{model}"),
        (["--from", out], f"{out} is a folder.*{model}"),
    ):
        assert re.search(expected, refused(capsys, data, *arguments, "--out", out.parent / "new"))
    assert main(["weights", "inspect", str(last)]) == 0
    assert "checkpoint" in capsys.readouterr().out


def test_what_does_not_fit_into_memory_is_refused(data, out, capsys, monkeypatch):
    monkeypatch.setattr(memory, "training_memory", lambda model, optimizer, images, size: 400_000 * images)
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    error = refused(capsys, data, *SCRATCH, "--out", out)
    assert "a step on 4 images of 48 x 36 takes about" in error
    batch, rest = re.search(r"batch size (\d) would fit \(accumulate (\d)", error).groups()
    assert int(batch) * int(rest) <= 4
    monkeypatch.undo()
    assert run(data, *SCRATCH, "--batch", batch, "--accumulate", rest, "--epochs", 1, "--out", out) == 0
    shutil.rmtree(out)
    capsys.readouterr()
    monkeypatch.setattr(memory, "training_memory", lambda *arguments: 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)
    assert "evaluating an image of 48 x 36 takes" in refused(
        capsys, data, *SCRATCH, "--crop", "8x8", "--out", out
    )
    assert not out.exists()


# Warnings, and one image


def test_a_dead_trunk_causes_a_warning_before_the_first_step(data, tmp_path, out, capsys):
    dead = digit_classifier(2, init="zeros")
    dead.info = ModelInfo(("a", "b"), Preprocessing("L", (0.0,), (1.0,)))
    mf.save(dead, tmp_path / "dead.safetensors")
    assert run(data, "--from", tmp_path / "dead.safetensors", "--epochs", 1, "--out", out) == 0
    said = capsys.readouterr()
    assert "warning: the trunk is dead: all of its features are zero" in said.err
    assert "100.0 % of the pixels are predicted as" in said.err


def test_divergence_keeps_the_checkpoint(data, out, capsys):
    assert run(data, *SCRATCH[:3], "--lr", "1e30", "--epochs", 3, "--out", out) == 2
    said = capsys.readouterr().err
    assert "diverged" in said.splitlines()[-1]
    assert "RuntimeWarning" not in said
    checkpoint = Checkpoint.read(out / "last.safetensors")
    assert all(np.isfinite(array).all() for array in checkpoint.part("model").values())


def test_one_image_is_learned(data, out, capsys):
    assert run(data, *SCRATCH, "--overfit-one", "--out", out) == 0
    said = capsys.readouterr()
    assert "1 image per step, at most 400 steps\nthe loss starts at about ln 2 = 0.693" in said.out
    assert "one image: learned in " in said.out
    assert "a step on 1 image of 48 x 36 takes about" in said.err
    assert "warning" not in said.err
    assert set(os.listdir(out)) == {"overfit-one.png", ".minifcn"}
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0  # the folder contains no training


def test_one_image_does_not_change_a_training_in_its_folder(data, out, capsys):
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 0
    before = (out / "last.safetensors").read_bytes()
    assert run(data, *SCRATCH, "--overfit-one", "--out", out) == 0
    assert (out / "last.safetensors").read_bytes() == before
    capsys.readouterr()
    assert "--overfit-one" in refused(capsys, "--resume", "--overfit-one", "--out", out)


def test_one_image_that_cannot_be_learned_is_status_1(data, tmp_path, out, capsys):
    dead = digit_classifier(2, init="zeros")
    dead.info = ModelInfo(("a", "b"), Preprocessing("L", (0.0,), (1.0,)))
    mf.save(dead, tmp_path / "dead.safetensors")
    assert run(data, "--from", tmp_path / "dead.safetensors", "--overfit-one", "--out", out) == 1
    assert "not learned in 20 steps" in capsys.readouterr().out


def test_a_damaged_image_is_named(data, tmp_path, out, capsys):
    (tmp_path / "photos" / "images" / "photo3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert run(data, *SCRATCH, "--epochs", 1, "--out", out) == 2
    assert "photo3.png" in capsys.readouterr().err


def test_what_check_data_calls_an_error_is_refused(data, tmp_path, out, capsys):
    root = tmp_path / "photos"
    infrared = np.dstack(
        [np.array(Image.open(root / "images" / "photo3.png")), np.full((36, 48), 9, np.uint8)]
    )
    infrared[5, 5, 3] = 200
    Image.fromarray(infrared).save(root / "images" / "photo3.png")
    (root / "masks" / "photo4.png").unlink()
    (root / "masks" / "photo4_mask.png").touch()
    error = refused(capsys, data, *SCRATCH, "--out", out)
    assert "photo4_mask.png has nearly that name" in error
    (root / "masks" / "photo4_mask.png").unlink()
    (root / "train.txt").write_text("photo1\nphoto2\nphoto3")
    error = refused(capsys, data, *SCRATCH, "--out", out)
    assert "photo3.png: has a last band that is marked as opacity but is between 1 and 254 in 100%" in error
    assert not out.exists()
    error = refused(capsys, data, *SCRATCH, "--bands", "0,1,2", "--out", out)  # of a grey network
    assert "bands must be 1 integer" in error
    error = refused(capsys, data, *SCRATCH, "--bands", "4", "--out", out)
    assert re.search(r"photo1\.png: has 3 bands .* bands \(4,\)", error)


def test_warnings_are_repeated_and_the_bit_depth_is_recorded(data, tmp_path, out, capsys):
    root = tmp_path / "photos"
    for path in (root / "images").iterdir():
        grey = np.array(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)
    (root / "images" / "photo1.heic").touch()
    labels = np.full((36, 48), 255, np.uint8)
    labels[10:20, 10:20], labels[11:14, 11:14] = 0, 1
    for path in (root / "masks").iterdir():
        Image.fromarray(labels).save(path)
    assert run(data, *SCRATCH, "--epochs", 1, "--batch", 4, "--out", out) == 0
    error = capsys.readouterr().err
    assert "warning: train: 94.2% of the pixels are void (255)" in error
    assert "(and 1 more: see minifcn check-data)" in error
    assert re.search(r"warning: images.photo1\.heic: is skipped for photo1\.png", error)
    assert mf.load(out / "model.safetensors").info.preprocessing.bit_depth == 12
    bright = tmp_path / "bright.png"
    Image.fromarray(np.full((36, 48), 4096, np.uint16)).save(bright)
    image = root / "images" / "photo0.png"
    assert main(["predict", str(out / "model.safetensors"), str(image), str(bright), "--out", f"{out}2"]) == 1
    said = capsys.readouterr()
    assert "bright.png: has pixels up to 4096, expected at most 4095 (12 bits)" in said.err
    assert (tmp_path / "out2" / "masks" / "photo0.png").exists()


def test_everything_on_a_gpu(data, tmp_path, out, strict, capsys):
    """On the second one, which is not current until it is selected; the files are as on the CPU."""
    device = "--device", "cuda:1"
    assert run(data, *SCRATCH, "--epochs", 2, "--out", out, *device) == 0
    assert "MB that are free" in capsys.readouterr().err
    assert run("--resume", "--out", out) == 0  # with the settings of the training, the GPU among them
    assert run(data, *SCRATCH, "--overfit-one", "--out", out, *device) == 0
    model, picture = str(out / "model.safetensors"), str(tmp_path / "photos" / "images" / "photo0.png")
    for name, more in (("gpu", device), ("cpu", ())):
        assert main(["evaluate", model, data, "--json", str(tmp_path / f"{name}.json"), *more]) == 0
        assert main(["predict", model, picture, "--out", str(tmp_path / name), *more]) == 0
    scores = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("gpu", "cpu")]
    assert scores[0]["mean_iou"] == pytest.approx(scores[1]["mean_iou"], abs=1e-3)
    masks = [np.array(Image.open(tmp_path / name / "masks" / "photo0.png")) for name in ("gpu", "cpu")]
    assert (masks[0] == masks[1]).mean() > 0.99


def test_a_network_without_a_registered_name_is_resumed(data, tmp_path, monkeypatch):
    features = Sequential(Conv2d(1, 4, 3, rng=0), ReLU(), MaxPool2d(2))
    scores = Sequential(Conv2d(4, 2, 1, rng=0), GlobalAvgPool2d())
    classifier = Classifier(features, scores, input_shape=(1, 10, 10))
    classifier.info = ModelInfo(("a", "b"), Preprocessing("L", (0.0,), (1.0,)))
    mf.save(classifier, tmp_path / "unnamed.safetensors")
    command = (data, "--from", tmp_path / "unnamed.safetensors", "--epochs", 2)
    assert run(*command, "--out", tmp_path / "whole") == 0
    real = train.EpochLine.epoch

    def stop(line, training):
        real(line, training)
        if training.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.EpochLine, "epoch", stop)
    assert run(*command, "--out", tmp_path / "out") == 130
    monkeypatch.undo()
    (tmp_path / "unnamed.safetensors").unlink()
    assert run("--resume", "--out", tmp_path / "out") == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out")]
    assert models[0] == models[1]


def test_a_registered_classifier_can_be_chosen(data, out, monkeypatch):
    monkeypatch.setitem(registry.CLASSIFIERS, "mine", digit_classifier)
    command = (data, "--model", "mine", "--from-scratch", "--epochs", 1)
    assert run(*command, "--out", out) == 0
