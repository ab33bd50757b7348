"""Problems that users of other implementations of FCN have reported, and what minifcn does instead.

One numbered group of tests for each problem, at the level at which a user would meet it (a folder, a file of
weights, a training, a prediction). The comment beside each number names the files that test it in depth.
"""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import minifcn as mf
from minifcn.cli import main, train
from minifcn.data import Augment, Loader, class_counts, open_dataset, read_labels
from minifcn.functional import bilinear_kernel
from minifcn.kernels.threads import num_threads
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier, squeezenet1_1
from minifcn.training import fit, memory, predict
from minifcn.training.network import fcn_from
from minifcn.weights import load_classifier
from tests.cli.folders import SCRATCH, photographs
from tests.models import trunks

NAMES = ("dark", "bright")
LIGHT = Preprocessing("L", (0.0,), (255.0,))
alignments = pytest.mark.parametrize("alignment", ["exact", "paper"])


def run(*arguments):
    return main([str(argument) for argument in arguments])


def seeing(stride=2, names=NAMES, **options):
    """Return a network that needs no training: pixels above half the range are "bright"."""
    fcn = FCN(digit_classifier(init="zeros"), len(names), stride, **options)
    for layer in fcn.features:
        if hasattr(layer, "weight"):
            layer.weight.data[0, 0, 1, 1] = 1
    fcn.head["0"].weight.data[0, 0] = 1 / 16  # the average over its window
    for layer in fcn.score_layers():
        layer.weight.data[1, 0] = 1
    fcn.score.bias.data[0] = 0.5 * len(fcn.score_layers())
    fcn.info = ModelInfo(names, LIGHT, ((10, 20, 30), (250, 120, 0)) if names == NAMES else ())
    return fcn.eval()


def stored(model, path):
    mf.save(model, path)
    return path


@pytest.fixture
def model(tmp_path):
    return stored(seeing(), tmp_path / "seeing.safetensors")


@pytest.fixture
def data(tmp_path):
    return photographs(tmp_path / "photos", classes="\n".join(NAMES))


def of_unequal_sizes(root):
    """Crop the photographs to different sizes, none of which is a multiple of 32."""
    for i in range(8):
        for folder in ("images", "masks"):
            path = root / folder / f"photo{i}.png"
            Image.fromarray(np.array(Image.open(path))[: 35 - 2 * i, : 31 + 2 * i]).save(path)


def masks_of(root, change):
    """Rewrite all masks with `change`, a function of arrays."""
    for path in (root / "masks").iterdir():
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def scores(model, data, tmp_path, *options):
    """Return what `minifcn evaluate` writes as JSON."""
    path = tmp_path / "scores.json"
    path.unlink(missing_ok=True)
    assert run("evaluate", model, data, *options, "--json", path) == 0
    return json.loads(path.read_text())


def refused(capsys, *arguments):
    """Run a command that must fail with one line on stderr; return that line."""
    capsys.readouterr()
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def records(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


# 1. Crop offsets, and a padding of 100 (tests/models/test_fcn_paper.py, test_upsampling.py, test_walk.py)


@alignments
@pytest.mark.parametrize("stride", [8, 4, 2])
def test_01_labels_are_aligned_with_objects(alignment, stride):
    """A wrong crop offset shifts all labels. Here offsets are computed from the layers."""
    x = np.zeros((8, 1, 131, 203), np.float32)
    for shift in range(
        8
    ):  # all positions relative to the coarsest grid: max pools shift edges by up to half a cell
        x[shift, :, 40 + shift : 88 + shift, 60 + shift : 124 + shift] = 1
    labels = predict(seeing(stride, alignment=alignment), x)
    for axis, middle in ((2, 64), (1, 92)):
        seen = [np.flatnonzero(image.any(axis=axis - 1)) for image in labels]
        centres = [(line[0] + line[-1] + 1) / 2 - shift for shift, line in enumerate(seen)]
        assert np.mean(centres) == pytest.approx(middle, abs=1)
        assert max(abs(np.array(centres) - middle)) <= 4


def test_01_exact_alignment_needs_no_padding_of_100(capsys):
    """100 pixels around an image double the multiplications; exact alignment, the default, needs none."""
    assert run("explain", "vgg16", "--size", "500x375", "--stride", 8) == 0
    assert "exact alignment needs 55% of the multiplications" in capsys.readouterr().out


# 2. Sizes that are not multiples of 32 (tests/models/test_fcn.py)


@alignments
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(375, 500), (1, 1), (33, 257)])
def test_02_scores_have_the_size_of_the_image(alignment, stride, size):
    """Other implementations fail when maps are added, or resize the labels; here H x W gives H x W."""
    fcn = FCN(trunks.vgg(), 21, stride, alignment=alignment)
    assert fcn(np.zeros((1, 1, *size), np.float32)).shape == (1, 21, *size)


def test_02_images_of_different_sizes_are_trained_on_and_predicted(data, tmp_path):
    """Photographs of eight different sizes, none a multiple of 32, are used without resizing."""
    root, out = tmp_path / "photos", tmp_path / "out"
    of_unequal_sizes(root)
    assert run("train", data, *SCRATCH, "--epochs", 1, "--batch", 1, "--out", out) == 0
    assert run("predict", out / "model.safetensors", root / "images", "--out", out) == 0
    for path in (root / "images").iterdir():
        with Image.open(path) as image, Image.open(out / "masks" / path.name) as mask:
            assert mask.size == image.size


# 3. The scale of the loss, learning rates, NaN (tests/training/test_recipes.py, test_fit.py)


@pytest.mark.parametrize("recipe", ["quick", "online", "accumulated", "heavy"])
def test_03_the_loss_is_shown_as_a_mean_over_pixels(data, tmp_path, recipe):
    """A sum over pixels, such as 374605, cannot be judged. All recipes show a mean, which begins at ln K."""
    begin = ("--model", "digit_classifier", "--from-scratch", "--stride", 8, "--recipe", recipe)
    assert run("train", data, *begin, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert records(tmp_path / "out")[0]["loss"] == pytest.approx(np.log(2), rel=0.05)


@pytest.mark.parametrize(
    ("recipe", "rate", "fitting"),
    [("quick", 1e-10, "1.7e-07"), ("heavy", 1e-3, "5.8e-07")],
)
def test_03_a_learning_rate_for_another_reduction_is_refused(data, tmp_path, capsys, recipe, rate, fitting):
    """1e-10 for a mean learns nothing, and 1e-3 for a sum gives NaN: both are refused."""
    begin = ("--model", "digit_classifier", "--from-scratch", "--recipe", recipe, "--lr", rate)
    assert fitting in refused(capsys, "train", data, *begin, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_03_nan_stops_a_training_at_once(data, tmp_path, capsys):
    """Training with a loss of NaN may continue for hours. Here it stops, and nothing of it is saved."""
    begin = ("--model", "digit_classifier", "--from-scratch", "--lr", "1e30")
    assert run("train", data, *begin, "--epochs", 2, "--out", tmp_path / "out") == 2
    assert "learning rate 1.00e+30" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "model.safetensors").exists()


# 4. Zero output from weights that were not loaded (tests/training/test_watch.py)


def test_04_a_trunk_of_zeros_is_reported_before_the_first_step(data, tmp_path, capsys):
    """A network of zeros can be trained for days at a loss of ln 21 = 3.0445."""
    dead = digit_classifier(init="zeros")
    dead.info = ModelInfo(tuple("0123456789"), LIGHT)
    start = stored(dead, tmp_path / "dead.safetensors")
    assert run("train", data, "--from", start, "--epochs", 1, "--out", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert error.index("the trunk is dead: all of its features are zero") < error.index("epoch 1")


def test_04_weights_with_missing_layers_are_refused(data, tmp_path, capsys):
    """Other implementations load what there is and leave the rest random. Here what is missing is listed."""
    tensors = {name: np.array(a) for name, a in squeezenet1_1(rng=0).state_dict().items()}
    del tensors["features.3.squeeze.weight"], tensors["features.12.expand3x3.bias"]
    save_file(tensors, tmp_path / "cut.safetensors")
    error = refused(capsys, "train", data, "--weights", tmp_path / "cut.safetensors", "--out", tmp_path / "o")
    assert "2 of 52 tensors are missing for squeezenet1_1" in error
    assert "partial" in error
    assert "features.3.squeeze.weight, features.12.expand3x3.bias" in error


# 5. All predictions are background (tests/training/test_watch.py)


def test_05_predictions_of_one_class_are_reported_with_frequencies(data, tmp_path, capsys):
    """91 % of the pixels are right, and all are background: a warning lists the class frequencies."""

    def mostly_dark(mask):
        mask[:, :20][mask[:, :20] == 1] = 0
        return mask

    masks_of(tmp_path / "photos", mostly_dark)
    begin = ("--model", "digit_classifier", "--from-scratch", "--lr", 1e-6)
    assert run("train", data, *begin, "--epochs", 1, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "100.0 % of the pixels are predicted as 'dark'" in said.err
    assert "bright" in said.err
    assert "class weights" in said.err
    record = records(tmp_path / "out")[0]
    assert record["pixel_accuracy"] > 0.85
    assert record["iou"]["bright"] == 0
    assert f"mean IoU {record['pixel_accuracy'] / 2:.4f}" in said.out


def test_05_a_validation_set_of_one_class_is_reported(data, tmp_path, capsys):
    """On images of background only, the mean IoU is 1.0 for any network that predicts background."""
    for i in (6, 7):
        Image.new("L", (48, 36)).save(tmp_path / "photos" / "masks" / f"photo{i}.png")
    assert run("train", data, *SCRATCH, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert "every pixel of the 2 validation images is 'dark' or void (255)" in capsys.readouterr().err


def test_05_overfitting_uses_an_image_with_two_classes(data, tmp_path, capsys):
    """Even a network of zeros can learn an image of background only, so another image is used."""
    Image.new("L", (48, 36)).save(tmp_path / "photos" / "masks" / "photo0.png")
    dead = digit_classifier(init="zeros")
    dead.info = ModelInfo(tuple("0123456789"), LIGHT)
    start = stored(dead, tmp_path / "dead.safetensors")
    assert run("train", data, "--from", start, "--overfit-one", "--out", tmp_path / "out") == 1
    assert "not learned" in capsys.readouterr().out


# 6. Colours, indices and palettes (tests/data/test_masks.py, test_folder.py)


def test_06_masks_mean_the_same_in_every_format(model, tmp_path):
    """Grey values, painted colours, palettes and RGBA give the same labels."""
    colors = np.array([(90, 10, 0), (0, 200, 40)], np.uint8)
    classes = "dark 90 10 0\nbright 0 200 40\nvoid 255 255 255"

    def grey(mask):
        return Image.fromarray(mask)

    def painted(mask):
        return Image.fromarray(np.where((mask == 255)[..., None], 255, colors[mask % 255]).astype(np.uint8))

    def with_another_palette(mask):
        return painted(mask).convert("P", palette=Image.Palette.ADAPTIVE)

    def opaque(mask):
        return painted(mask).convert("RGBA")

    counted = []
    for save in (grey, painted, with_another_palette, opaque):
        data = photographs(tmp_path / save.__name__, classes=classes)
        for path in (tmp_path / save.__name__ / "masks").iterdir():
            save(np.array(Image.open(path))).save(path)
        counted.append(scores(model, data, tmp_path)["confusion_matrix"])
    assert counted[0][1][1] > 0
    assert all(matrix == counted[0] for matrix in counted)


@pytest.mark.parametrize("classes", ["dark\nbright", "dark 10 20 30\nbright 250 120 0", None])
def test_06_predicted_masks_can_be_trained_on(model, tmp_path, classes):
    """Masks that `predict` writes are labels again, and visible: they are not black."""
    root = tmp_path / "photos"
    data = photographs(root, classes=classes or "")
    assert run("predict", model, root / "images", "--out", tmp_path / "out") == 0
    for path in (root / "masks").iterdir():
        path.write_bytes((tmp_path / "out" / "masks" / path.name).read_bytes())
        assert len(np.unique(np.array(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0)) == 2
    if classes is None:
        (root / "classes.txt").unlink()
    found = scores(model, data, tmp_path)
    assert found["mean_iou"] == 1
    assert found["classes_in_mean_iou"] == 2


def test_06_soft_edges_are_refused(tmp_path, capsys):
    """A soft brush makes colours that are no class: the message has file, colours and remedy."""
    data = photographs(tmp_path / "photos", classes="dark 0 0 0\nbright 200 0 0")
    edge = np.zeros((36, 48, 3), np.uint8)
    edge[..., 0] = np.linspace(0, 200, 48)
    Image.fromarray(edge).save(tmp_path / "photos" / "masks" / "photo3.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo3.png: has 46 colours" in error
    assert "paint with a hard one" in error


# 7. Void is 255, and masks of 0 and 255 (tests/data/test_check.py, tests/test_losses.py)


def test_07_void_is_excluded_from_all_metrics(model, data, tmp_path):
    """Others treat 255 as a class or as background. Here it is neither counted nor predicted."""
    labels = [read_labels(tmp_path / "photos" / "masks" / f"photo{i}.png") for i in (6, 7)]
    found = scores(model, data, tmp_path)
    assert found["pixels"] == sum(int((mask != 255).sum()) for mask in labels) < 2 * 36 * 48
    assert np.array(found["confusion_matrix"]).shape == (2, 2)
    assert [c["pixels"] for c in found["classes"]] == [
        sum(int((m == k).sum()) for m in labels) for k in (0, 1)
    ]


def test_07_void_changes_no_parameter():
    """Predictions under void may be anything: a step on images that are all void changes nothing."""

    class Void:
        class_names, palette = NAMES, np.zeros((2, 3), np.uint8)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.full((20, 24, 1), 99, np.uint8), np.full((20, 24), 255, np.uint8)

    fcn = FCN(digit_classifier(rng=0), 2, 2)
    before = {name: array.copy() for name, array in fcn.state_dict().items()}
    sgd = mf.optim.SGD(fcn, 1.0)
    [record] = fit(fcn, Loader(Void(), 1, preprocess=LIGHT), sgd, progress=None)
    assert record["loss"] == 0
    assert all(np.array_equal(array, before[name]) for name, array in fcn.state_dict().items())


def white(mask):
    """Return a mask where class 1 is white and all else is black."""
    return np.where(mask == 1, 255, 0).astype(np.uint8)


def test_07_masks_of_0_and_255_are_refused(data, tmp_path, capsys):
    """If white is void, only one class is left and the mean IoU is 1.0. The message says what to do."""
    masks_of(tmp_path / "photos", white)
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "every pixel of the 6 train images is 'dark' or void (255)" in error
    assert "see minifcn check-data" in error
    assert not (tmp_path / "out").exists()
    assert run("check-data", data) == 1
    assert "save white as 1, or list black and white as classes" in capsys.readouterr().out


@pytest.mark.parametrize("classes", ["dark 0 0 0\nbright 255 255 255", None])
def test_07_black_and_white_are_two_classes_if_listed_or_without_a_list(model, tmp_path, classes):
    """So a folder of photographs and black-and-white masks is enough."""
    data = photographs(tmp_path / "photos", classes=classes or "")
    if classes is None:
        (tmp_path / "photos" / "classes.txt").unlink()
    masks_of(tmp_path / "photos", white)
    found = scores(model, data, tmp_path)
    assert found["classes_in_mean_iou"] == 2
    assert found["classes"][1]["pixels"] > 0


# 8. The number of classes (tests/training/test_network.py, tests/data/test_camvid.py)


def test_08_a_label_that_is_no_class_is_reported_with_its_file(data, tmp_path, capsys):
    """Others crash in the loss, or clip the labels. Here label, file and range are reported."""
    mask = np.full((36, 48), 2, np.uint8)
    Image.fromarray(mask).save(tmp_path / "photos" / "masks" / "photo2.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo2.png: has values that are no class: 2 on 1,728 pixels; expected 0 to 1" in error


def test_08_the_score_layer_has_the_classes_of_the_dataset(data, tmp_path):
    """The last layer of a classifier of 1000 classes is replaced, and nothing else."""
    save_file(
        {name: np.array(a) for name, a in squeezenet1_1(rng=0).state_dict().items()},
        tmp_path / "w.safetensors",
    )
    classifier = load_classifier(tmp_path / "w.safetensors")
    assert len(classifier.info.class_names) == 1000
    fcn = fcn_from(classifier, open_dataset(data, "train"))
    assert fcn.info.class_names == NAMES
    assert fcn.eval()(np.zeros((1, 3, 40, 50), np.float32)).shape == (1, 2, 40, 50)


def test_08_a_single_class_is_refused(tmp_path, capsys):
    """A list without background has one class, and a network for it would find it everywhere."""
    data = photographs(tmp_path / "photos", classes="bright")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "at least 2 classes, got 1 (bright)" in error
    assert "background" in error


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_08_a_network_for_other_classes_is_refused(model, data, tmp_path, capsys, command):
    """20 or 21, 11 or 12: the message has both numbers, and the names."""
    (tmp_path / "photos" / "classes.txt").write_text("dark\nbright\nvery bright")
    if command == "evaluate":
        error = refused(capsys, "evaluate", model, data)
    else:
        error = refused(capsys, "train", data, "--from", model, "--out", tmp_path / "out")
    assert "the network has 2 classes (dark, bright), the dataset 3 (dark, bright, very bright)" in error


# 9. Running out of memory (tests/training/test_memory.py, tests/models/test_walk.py)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_09_what_does_not_fit_into_memory_is_refused_with_advice(data, tmp_path, capsys, monkeypatch, part):
    """One large image among small ones would end a training after hours: the largest is checked."""
    index = {"train": 3, "validation": 7}[part]  # not the first one of its part, which is always checked
    monkeypatch.setattr(train, "_SAMPLED", 1)
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000_000)
    command = ("train", data, *SCRATCH, "--batch", 1, "--epochs", 1)
    assert run(*command, "--out", tmp_path / "small") == 0
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (1500, 1400)).save(tmp_path / "photos" / folder / f"photo{index}.png")
    error = refused(capsys, *command, "--out", tmp_path / "out")
    assert "1500 x 1400" in error
    assert "100 MB are free" in error
    assert not (tmp_path / "out").exists()
    scored = ("evaluate", tmp_path / "small" / "model.safetensors", data, "--split", part)
    assert "evaluating an image of 1500 x 1400 takes about" in refused(capsys, *scored)


def test_09_evaluation_keeps_nothing_of_an_image(model, data, tmp_path):
    """Evaluating eight images needs no more memory than evaluating two.

    With one thread, because the peak of several depends on how they happen to overlap.
    """
    fcn = mf.load(model)
    threads = num_threads()
    mf.set_num_threads(1)

    def peak(names):
        (tmp_path / "photos" / "val.txt").write_text("\n".join(names))
        loader = Loader(
            open_dataset(data, "validation"), 1, preprocess=mf.training.any_channels(LIGHT), workers=0
        )
        tracemalloc.start()
        try:
            mf.training.evaluate(fcn, loader)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    try:
        peak(["photo0"])  # what is loaded once
        assert peak([f"photo{i}" for i in range(8)]) < 1.2 * peak(["photo0", "photo1"])
    finally:
        mf.set_num_threads(threads)


def test_09_an_image_that_is_too_large_does_not_stop_the_others(model, tmp_path, capsys, monkeypatch):
    """The others are labelled, and the message names the large one and the memory that it needs."""
    monkeypatch.setattr(memory, "available_memory", lambda: 60_000_000)
    for name, size in (("huge", (1500, 1400)), ("small", (40, 30))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    paths = (tmp_path / "huge.png", tmp_path / "small.png")
    assert run("predict", model, *paths, "--out", tmp_path / "out") == 1
    assert "huge.png: labelling an image of 1500 x 1400 takes about" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["small.png"]


# 10. Batches of unequal sizes (tests/data/test_loader.py, tests/training/test_steps.py)


def test_10_images_of_unequal_sizes_share_a_batch(data, tmp_path):
    """Other implementations use batches of one image, or resize. Here images are padded, with void."""
    of_unequal_sizes(tmp_path / "photos")
    assert run("train", data, *SCRATCH, "--batch", 3, "--epochs", 1, "--out", tmp_path / "out") == 0
    dataset = open_dataset(data, "train")
    batches = list(Loader(dataset, 3, preprocess=mf.training.any_channels(LIGHT), shuffle=True, seed=0))
    assert [x.shape[0] for x, _ in batches] == [3, 3]
    labelled = sum(np.bincount(labels.ravel(), minlength=256)[:2] for _, labels in batches)
    assert labelled.tolist() == class_counts(dataset).pixels[:2].tolist()


def test_10_scores_do_not_depend_on_the_batch(model, data, tmp_path):
    """Means over batches would depend on their size: whole images are evaluated, one at a time."""
    of_unequal_sizes(tmp_path / "photos")
    still = ("--from", model, "--recipe", "heavy", "--lr", "1e-20", "--epochs", 1)
    for batch in (1, 6):
        out = tmp_path / str(batch)
        assert run("train", data, *still, "--batch", batch, "--out", out) == 0
    one, six = (records(tmp_path / str(batch))[0] for batch in (1, 6))
    assert one["pixels"] == class_counts(open_dataset(data, "validation")).pixels[:2].sum()
    assert all(one[name] == six[name] for name in ("mean_iou", "pixel_accuracy", "pixels"))
    assert one["loss"] == pytest.approx(six["loss"], rel=0.02)


# 11. Weights: transposed, left over, with another preprocessing (tests/weights/)


def test_11_transposed_and_left_over_weights_are_reported(tmp_path, capsys):
    """A transposed matrix is reported with both shapes, and unused tensors are listed."""
    tensors = {name: np.array(a) for name, a in digit_classifier(rng=0).state_dict().items()}
    tensors["classifier.0.weight"] = np.ascontiguousarray(tensors["classifier.0.weight"].T)
    tensors["optimizer.step"] = np.ones(3, np.float32)
    save_file(tensors, tmp_path / "a.safetensors")
    convert = ("weights", "convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    said = '{"channels": "L", "mean": [0], "std": [255]}'
    error = refused(capsys, *convert, "--preprocessing", said)
    assert "classifier.0.weight is float32 (1024, 128) instead of (128, 1024)" in error
    tensors["classifier.0.weight"] = np.ascontiguousarray(tensors["classifier.0.weight"].T)
    save_file(tensors, tmp_path / "a.safetensors")
    assert run(*convert, "--preprocessing", said) == 0
    assert "left over: optimizer.step" in capsys.readouterr().out


def test_11_dense_weights_flattened_in_the_other_order(tmp_path):
    """TensorFlow flattens H, W, C. Shapes are equal, so the order must be given."""
    model = digit_classifier(rng=0)
    model.info = ModelInfo(tuple("0123456789"), LIGHT)
    tensors = {name: np.array(a) for name, a in model.state_dict().items()}
    dense = tensors["classifier.0.weight"].reshape(128, 64, 4, 4).transpose(0, 2, 3, 1)
    save_file(tensors | {"classifier.0.weight": dense.reshape(128, 1024)}, tmp_path / "hwc.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 1, 32, 32)).astype(np.float32)
    right, wrong = (
        load_classifier(tmp_path / "hwc.safetensors", order=order, preprocessing=LIGHT)(x)
        for order in ("HWC", "CHW")
    )
    assert np.array_equal(right, model.eval()(x))
    assert not np.allclose(wrong, right, atol=1e-3)


def test_11_the_preprocessing_is_stored_with_the_weights(data, tmp_path):
    """Channel order, mean and range are given once, and kept from the classifier to the prediction."""
    tensors = {name: np.array(a) for name, a in squeezenet1_1(rng=0).state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    picture[:, :40] //= np.array([1, 2, 4], np.uint8)
    rng = np.random.default_rng(1)
    weight, bias, predicted = rng.normal(size=(2, 512, 1, 1)), None, []
    for channels, shown in (("RGB", picture), ("BGR", picture[..., ::-1])):
        files = (tmp_path / "w.safetensors", tmp_path / f"{channels}.safetensors")
        said = json.dumps({"channels": channels, "mean": [104, 117, 123]})
        assert run("weights", "convert", *files, "--preprocessing", said) == 0
        fcn = fcn_from(mf.load(files[1]), open_dataset(data, "train"), stride=16)
        fcn.score.weight.data[...] = weight
        if bias is None:
            before = fcn.eval()(fcn.info.preprocessing(shown[None]))
            bias = np.median(before[0, 0] - before[0, 1])
        fcn.score.bias.data[1] = bias
        Image.fromarray(shown).save(tmp_path / f"{channels}.png")
        model = stored(fcn, tmp_path / "fcn.safetensors")
        assert run("predict", model, tmp_path / f"{channels}.png", "--out", tmp_path / "out") == 0
        predicted.append(np.array(Image.open(tmp_path / "out" / "masks" / f"{channels}.png")))
    assert len(np.unique(predicted[0])) == 2
    assert np.array_equal(*predicted)
    command = ("train", data, "--from", files[1], "--stride", 16, "--epochs", 1, "--crop", "24x24")
    assert run(*command, "--out", tmp_path / "trained") == 0
    assert mf.load(tmp_path / "trained" / "model.safetensors").info.preprocessing.channels == "BGR"


def test_11_unknown_preprocessing_is_refused(tmp_path, capsys):
    """The preprocessing of weights is not guessed."""
    tensors = {name: np.array(a) for name, a in digit_classifier(rng=0).state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors")
    error = refused(capsys, "weights", "convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "preprocessing" in error


# 12. Training in stages (tests/models/test_fcn_finer.py, tests/cli/test_train.py)


def test_12_a_finer_network_starts_with_the_scores_of_the_coarser_one(data, tmp_path):
    """With random skips, FCN-16s starts below FCN-32s. Here the weights of skips begin at zero."""
    begin = ("--model", "digit_classifier", "--from-scratch", "--lr", "3e-3", "--stride", 8)
    assert run("train", data, *begin, "--epochs", 8, "--batch", 2, "--out", tmp_path / "8") == 0
    parent = tmp_path / "8" / "model.safetensors"
    coarse = scores(parent, data, tmp_path)["mean_iou"]
    assert coarse > 0.6
    still = ("--recipe", "heavy", "--lr", "1e-20", "--epochs", 1)
    for stride in (4, 2):
        out = tmp_path / str(stride)
        assert run("train", data, "--from", parent, "--stride", stride, *still, "--out", out) == 0
        assert records(out)[0]["mean_iou"] > coarse - 0.05  # upsampled in two steps instead of one


@alignments
def test_12_the_dense_layers_keep_their_weights(alignment):
    """With random fc6 and fc7, others got 30 % instead of 63 %: the head is the classifier's, reshaped."""
    classifier = digit_classifier(rng=0)
    fcn = FCN(classifier, 21, 8, alignment=alignment)
    dense, head = classifier.state_dict()["classifier.0.weight"], fcn.state_dict()["head.0.weight"]
    assert np.array_equal(head.reshape(dense.shape), dense)
    taken = {name: a for name, a in fcn.state_dict().items() if name.startswith("features")}
    assert all(np.array_equal(a, classifier.state_dict()[name]) for name, a in taken.items())


# 13. Metrics (tests/test_metrics.py)


def test_13_metrics_are_computed_over_the_whole_dataset(data, tmp_path):
    """Means over images, absent classes as 1, and void as background all change the result. Here pixels are
    counted over the whole dataset, absent classes are excluded, and the number of classes is reported."""
    root = tmp_path / "photos"
    names = ("dark", "bright", "nowhere", "only predicted")
    (root / "classes.txt").write_text("\n".join(names))
    fcn = seeing(names=names)
    fcn.score.bias.data[:] = 1, 0, -9, -1.9
    for layer in fcn.score_layers():
        layer.weight.data[3, 0] = 2  # very bright pixels
    model = stored(fcn, tmp_path / "model.safetensors")
    mask = np.array(Image.open(root / "masks" / "photo7.png"))
    mask[:20][mask[:20] == 1] = 0  # the images are not equally hard
    Image.fromarray(mask).save(root / "masks" / "photo7.png")
    assert run("predict", model, root / "images", "--out", tmp_path / "out") == 0
    photos = ("photo6.png", "photo7.png")
    truths = [np.array(Image.open(root / "masks" / name)) for name in photos]
    guesses = [np.array(Image.open(tmp_path / "out" / "masks" / name)) for name in photos]

    def ious(truth, guess):
        valid = truth != 255
        pairs = [((truth == k) & valid, (guess == k) & valid) for k in range(4)]
        return [(t & g).sum() / (t | g).sum() for t, g in pairs if t.any()]

    whole = ious(np.array(truths), np.array(guesses))
    found = scores(model, data, tmp_path)
    assert found["mean_iou"] == pytest.approx(np.mean(whole))
    assert found["classes_in_mean_iou"] == found["classes_in_mean_accuracy"] == len(whole) == 2
    assert np.sum(np.array(found["confusion_matrix"])[:, 3]) > 0
    assert found["classes"][2]["iou"] is found["classes"][3]["iou"] is None
    each = np.mean([np.mean(ious(*pair)) for pair in zip(truths, guesses, strict=True)])
    assert found["mean_iou"] != pytest.approx(each, abs=1e-3)


# 14. Images of any kind (tests/cli/test_predict.py, tests/data/test_images.py)


def test_14_images_of_all_modes_get_the_same_labels(model, tmp_path):
    """Mode, bit depth, format and EXIF orientation do not change the labels."""
    pixels = np.full((61, 97), 20, np.uint8)
    pixels[10:30, 50:90] = 230
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    upright.save(tmp_path / "grey.png")
    upright.convert("RGB").save(tmp_path / "colour.png")
    upright.convert("RGBA").save(tmp_path / "opaque.png")
    upright.convert("P").save(tmp_path / "palette.png")
    upright.convert("CMYK").save(tmp_path / "print.tif")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    pictures = sorted(path for path in tmp_path.iterdir() if path.suffix in (".png", ".tif"))
    assert run("predict", model, *pictures, "--out", tmp_path / "out") == 0
    masks = [np.array(Image.open(tmp_path / "out" / "masks" / f"{path.stem}.png")) for path in pictures]
    assert len(masks) == 7
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert masks[0].shape == (61, 97)
    assert masks[0][12:28, 52:88].all()
    assert not masks[0][:, :48].any()


# 15. Resized labels, JPEG masks, grey and transparent images (tests/data/test_augment.py, test_masks.py)


def test_15_a_mask_of_another_size_is_not_resized(data, tmp_path, capsys):
    """Resizing would interpolate labels. The message has both sizes."""
    Image.new("L", (24, 18)).save(tmp_path / "photos" / "masks" / "photo0.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo0.png: has 24 x 18 pixels, but its image has 48 x 36" in error


def test_15_a_jpeg_mask_is_refused(data, tmp_path, capsys):
    """JPEG changes labels along every edge. The format is found from the bytes, not from the name."""
    mask = Image.fromarray(np.array(Image.open(tmp_path / "photos" / "masks" / "photo0.png")))
    mask.save(tmp_path / "photos" / "masks" / "photo0.png", format="JPEG")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo0.png: a mask must be a PNG, BMP or TIFF file, this is JPEG" in error


def test_15_scaling_makes_no_new_labels():
    """Interpolating 0 and 7 would give 3. Labels are scaled together with the image, by nearest neighbour."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(np.array([[0, 7, 255], [255, 0, 7]], np.uint8), 9, axis=0), 7, axis=1)
    image = np.repeat(labels[..., None], 3, axis=2)
    for _ in range(20):
        scaled, moved = Augment(flip=True, scale=(0.5, 2), crop=(17, 15))(image, labels, rng)
        assert scaled.shape[:2] == moved.shape
        assert set(np.unique(moved)) <= {0, 7, 255}
        assert np.mean(abs(scaled[..., 0].astype(int) - moved) > 60) < 0.25  # except at edges


def test_15_images_of_all_modes_are_trained_on_together(data, tmp_path):
    """Grey, transparent and palette images all become RGB."""
    for i, mode in enumerate(("L", "RGBA", "P", "1", "CMYK")):
        path = tmp_path / "photos" / "images" / f"photo{i}.png"
        image = Image.open(path).convert(mode)
        path.unlink()
        image.save(path.with_suffix(".tif" if mode == "CMYK" else ".png"))
    assert run("train", data, *SCRATCH, "--batch", 6, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert {image.shape for image, _ in map(open_dataset(data, "train").__getitem__, range(6))} == {
        (36, 48, 3)
    }


# 16. Resume (tests/training/test_checkpoint.py, tests/cli/test_killed.py)


def test_16_a_resumed_training_equals_one_without_interruption(data, tmp_path, monkeypatch):
    """Others forget the best score, so that a worse model replaces the best one, and repeat the order of the
    images of the first epoch."""
    for i in (6, 7):  # inverted labels: training makes these worse, so the first epoch is the best
        path = tmp_path / "photos" / "masks" / f"photo{i}.png"
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, 255, 1 - mask % 255).astype(np.uint8)).save(path)
    command = ("train", data, *SCRATCH, "--epochs", 4, "--batch", 2)
    assert run(*command, "--out", tmp_path / "whole") == 0
    real = train.EpochLine.epoch

    def stop(line, training):
        real(line, training)
        if training.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.EpochLine, "epoch", stop)
    assert run(*command, "--out", tmp_path / "out") == 130
    monkeypatch.undo()
    best = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert run("train", "--resume", "--out", tmp_path / "out") == 0
    ious = [record["mean_iou"] for record in records(tmp_path / "out")]
    assert len(ious) == 4
    assert ious.index(max(ious)) < 2
    assert max(ious[2:]) > 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == best
    assert best == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert records(tmp_path / "out") == records(tmp_path / "whole")


# 17. Upsampling: fixed, learned, per class, checkerboards (tests/models/test_upsampling.py)


@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
def test_17_only_learned_upsampling_changes(data, tmp_path, upsampling):
    """Both kinds begin as bilinear kernels for each class; only learned ones change."""
    command = ("train", data, *SCRATCH, "--epochs", 2, "--upsampling", upsampling)
    assert run(*command, "--out", tmp_path / "out") == 0
    fcn = mf.load(tmp_path / "out" / "model.safetensors")
    assert fcn.upsampling == upsampling
    for upsample in fcn.upsamples:
        kernel = upsample.deconv.weight.data
        bilinear = bilinear_kernel(2, upsample.factor, kernel.shape[-1])
        assert kernel.shape == bilinear.shape == (2, 1, *kernel.shape[2:])
        assert np.array_equal(kernel, bilinear) == (upsampling == "fixed")
        assert np.allclose(kernel, bilinear, atol=0.1)


@pytest.mark.parametrize("make", [trunks.vgg, trunks.squeezenet, trunks.digits])
def test_17_constant_scores_stay_constant(make):
    """Kernels whose weights do not sum to the same value at each phase would make a checkerboard."""
    fcn = FCN(make(), 3, min(make().taps)).astype("float64")
    for layer in fcn.score_layers():
        layer.bias.data[...] = np.random.default_rng(0).normal(size=3)
    flat = fcn(np.random.default_rng(1).normal(size=(1, 1, 150, 131)))
    assert abs(flat - flat[..., :1, :1]).max() < 1e-12
    assert abs(flat).min() > 0.01


# 18. Training all strides at once: the scales of the skips (tests/models/test_fcn_training.py)


def test_18_all_strides_at_once(data, tmp_path, capsys):
    """Without scales, a network trained at once diverges or ignores its skips. Here an option sets them, the
    recipes of the papers require it, and model files store it."""
    begin = ("--model", "digit_classifier", "--from-scratch", "--recipe", "heavy", "--epochs", 1)
    assert "at once" in refused(capsys, "train", data, *begin, "--out", tmp_path / "out")
    assert run("train", data, *begin, "--at-once", "--out", tmp_path / "out") == 0
    fcn = mf.load(tmp_path / "out" / "model.safetensors")
    assert fcn.at_once
    assert [layer.scale for layer in fcn.score_layers()] == pytest.approx([1, 0.01, 0.0001])
