"""The problems that users of other implementations of FCN keep meeting, and what happens here instead.

They are numbered as in the collection of their reports that this project began with: one group of tests for
each, at the level at which one would meet it (a folder, a file of weights, a training, a prediction). What is
tested in depth elsewhere is named beside each number.
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
    """A network that needs no training: what is brighter than half is "bright", at every stride it scores."""
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
    """Cut the photographs so that no two have the same size, and none is a multiple of anything."""
    for i in range(8):
        for folder in ("images", "masks"):
            path = root / folder / f"photo{i}.png"
            Image.fromarray(np.array(Image.open(path))[: 35 - 2 * i, : 31 + 2 * i]).save(path)


def masks_of(root, change):
    """Rewrite all masks; `change` takes and returns what `Image.fromarray` takes."""
    for path in (root / "masks").iterdir():
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def scores(model, data, tmp_path, *options):
    """Return what `minifcn evaluate` counts."""
    assert run("evaluate", model, data, *options, "--json", tmp_path / "scores.json") == 0
    return json.loads((tmp_path / "scores.json").read_text())


def refused(capsys, *arguments):
    """Run a command that must end with one sentence; return it."""
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
def test_01_labels_lie_where_things_are(alignment, stride):
    """A wrong crop offset moves all labels; here it follows from the layers, so none can be mistyped."""
    x = np.zeros((8, 1, 131, 203), np.float32)
    for shift in range(8):  # over all places on the coarsest grid: there max pools round, evenly in the mean
        x[shift, :, 40 + shift : 88 + shift, 60 + shift : 124 + shift] = 1
    labels = predict(seeing(stride, alignment=alignment), x)
    for axis, middle in ((2, 64), (1, 92)):
        seen = [np.flatnonzero(image.any(axis=axis - 1)) for image in labels]
        centres = [(line[0] + line[-1] + 1) / 2 - shift for shift, line in enumerate(seen)]
        assert np.mean(centres) == pytest.approx(middle, abs=1)
        assert max(abs(np.array(centres) - middle)) <= 4


def test_01_nobody_pays_for_a_padding_of_100(capsys):
    """100 pixels around an image double the work, for the sake of the crops; by default there are none."""
    assert run("explain", "vgg16", "--size", "500x375", "--stride", 8, "--json") == 0
    totals = json.loads(capsys.readouterr().out)["alignments"]
    assert totals["exact"]["multiplications"] < 0.56 * totals["paper"]["multiplications"]


# 2. Sizes that are no multiple of 32 (tests/models/test_fcn.py)


@alignments
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(375, 500), (1, 1), (33, 257)])
def test_02_any_size_goes_in_and_comes_out(alignment, stride, size):
    """Elsewhere maps do not meet, or the labels are resized to what comes out; here H x W gives H x W."""
    fcn = FCN(trunks.vgg(), 21, stride, alignment=alignment)
    assert fcn(np.zeros((1, 1, *size), np.float32)).shape == (1, 21, *size)


def test_02_sizes_of_ones_own_from_training_to_prediction(data, tmp_path):
    """Photographs of eight sizes, none a multiple of 32 or like another, are trained on as they are."""
    root, out = tmp_path / "photos", tmp_path / "out"
    of_unequal_sizes(root)
    assert run("train", data, *SCRATCH, "--epochs", 1, "--batch", 1, "--out", out) == 0
    assert run("predict", out / "model.safetensors", root / "images", "--out", out) == 0
    for path in (root / "images").iterdir():
        with Image.open(path) as image, Image.open(out / "masks" / path.name) as mask:
            assert mask.size == image.size


# 3. The scale of the loss, the rate that belongs to it, and NaN (tests/training/test_recipes.py, test_fit.py)


@pytest.mark.parametrize("recipe", ["quick", "online", "accumulated", "heavy"])
def test_03_the_loss_shown_is_that_of_a_pixel(data, tmp_path, recipe):
    """Sums over pixels look like 374605; whatever is minimised, ln K is shown at the beginning."""
    begin = ("--model", "digit_classifier", "--from-workspace", "--stride", 8, "--recipe", recipe)
    assert run("train", data, *begin, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert records(tmp_path / "out")[0]["loss"] == pytest.approx(np.log(2), rel=0.05)


@pytest.mark.parametrize(
    ("recipe", "rate", "sentence"),
    [("quick", 1e-10, "belongs to a loss summed over pixels"), ("heavy", 1e-3, "belongs to a mean over")],
)
def test_03_a_rate_for_another_loss_is_refused(data, tmp_path, capsys, recipe, rate, sentence):
    """1e-10 on a mean learns nothing, and 1e-3 on a sum gives NaN: each is told before the first step."""
    begin = ("--model", "digit_classifier", "--from-workspace", "--recipe", recipe, "--lr", rate)
    assert sentence in refused(capsys, "train", data, *begin, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_03_nan_ends_a_training_at_once(data, tmp_path, capsys):
    """A loss of NaN is trained on for hours; here step and rate are told, and nothing of it is saved."""
    begin = ("--model", "digit_classifier", "--from-workspace", "--lr", "1e30")
    assert run("train", data, *begin, "--epochs", 2, "--out", tmp_path / "out") == 2
    assert "a tenth of the rate" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "model.safetensors").exists()


# 4. Zero output from weights that were not loaded (tests/training/test_watch.py)


def test_04_a_trunk_without_weights_is_told_before_the_first_step(data, tmp_path, capsys):
    """A network of zeros trains for days at ln 21 = 3.0445; here a look at its features tells at once."""
    dead = digit_classifier(init="zeros")
    dead.info = ModelInfo(tuple("0123456789"), LIGHT)
    start = stored(dead, tmp_path / "dead.safetensors")
    assert run("train", data, "--from", start, "--epochs", 1, "--out", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert error.index("the trunk is dead: all of its features are zero") < error.index("epoch 1")


def test_04_a_trunk_that_would_stay_random_is_refused(data, tmp_path, capsys):
    """A file that lacks layers is loaded as far as it goes; here what is missing is named and refused."""
    tensors = {name: np.array(a) for name, a in squeezenet1_1(rng=0).state_dict().items()}
    del tensors["features.3.squeeze.weight"], tensors["features.12.expand3x3.bias"]
    save_file(tensors, tmp_path / "cut.safetensors")
    error = refused(capsys, "train", data, "--weights", tmp_path / "cut.safetensors", "--out", tmp_path / "o")
    assert "2 of 52 tensors are missing for squeezenet1_1" in error
    assert "partial" in error
    assert "features.3.squeeze.weight, features.12.expand3x3.bias" in error


# 5. Everything is background (tests/training/test_watch.py)


def test_05_predictions_of_one_class_are_told_with_the_frequencies(data, tmp_path, capsys):
    """91 % of the pixels right, and all of them background: the warning says which classes there are."""

    def mostly_dark(mask):
        mask[:, :20][mask[:, :20] == 1] = 0
        return mask

    masks_of(tmp_path / "photos", mostly_dark)
    begin = ("--model", "digit_classifier", "--from-workspace", "--lr", 1e-6)
    assert run("train", data, *begin, "--epochs", 1, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "100.0 % of the pixels are predicted as 'dark'" in said.err
    assert "bright" in said.err
    assert "--class-weights median" in said.err
    record = records(tmp_path / "out")[0]
    assert record["pixel_accuracy"] > 0.85
    assert record["iou"]["bright"] == 0
    assert f"mean IoU {record['pixel_accuracy'] / 2:.4f}" in said.out


def test_05_a_validation_part_of_one_class_is_told(data, tmp_path, capsys):
    """On background alone the mean IoU is 1.0, whatever the network does elsewhere: it is said beforehand."""
    for i in (6, 7):
        Image.new("L", (48, 36)).save(tmp_path / "photos" / "masks" / f"photo{i}.png")
    assert run("train", data, *SCRATCH, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert (
        "warning: every pixel of the 2 images to evaluate on is 'dark' or void (255)"
        in capsys.readouterr().err
    )


def test_05_one_image_of_one_class_proves_nothing(data, tmp_path, capsys):
    """To call a picture of background background, a dead network learns, too: another one is taken."""
    Image.new("L", (48, 36)).save(tmp_path / "photos" / "masks" / "photo0.png")
    dead = digit_classifier(init="zeros")
    dead.info = ModelInfo(tuple("0123456789"), LIGHT)
    start = stored(dead, tmp_path / "dead.safetensors")
    assert run("train", data, "--from", start, "--overfit-one", "--out", tmp_path / "out") == 1
    assert "not learnt" in capsys.readouterr().out


# 6. Colours, indices and palettes (tests/data/test_masks.py, test_folder.py)


def test_06_masks_mean_the_same_however_they_are_saved(model, tmp_path):
    """Palette masks read as RGB, colours as grey, indices as colours: here each way gives the same labels."""
    colors = np.array([(90, 10, 0), (0, 200, 40)], np.uint8)
    classes = "dark 90 10 0\nbright 0 200 40\nvoid 255 255 255"

    def grey(mask):
        return Image.fromarray(mask)

    def painted(mask):
        return Image.fromarray(np.where((mask == 255)[..., None], 255, colors[mask % 255]).astype(np.uint8))

    def numbered_as_a_paint_program_likes(mask):
        return painted(mask).convert("P", palette=Image.Palette.ADAPTIVE)

    def opaque(mask):
        return painted(mask).convert("RGBA")

    counted = []
    for save in (grey, painted, numbered_as_a_paint_program_likes, opaque):
        data = photographs(tmp_path / save.__name__, classes=classes)
        for path in (tmp_path / save.__name__ / "masks").iterdir():
            save(np.array(Image.open(path))).save(path)
        counted.append(scores(model, data, tmp_path)["confusion_matrix"])
    assert counted[0][1][1] > 0
    assert all(matrix == counted[0] for matrix in counted)


@pytest.mark.parametrize("classes", ["dark\nbright", "dark 10 20 30\nbright 250 120 0", None])
def test_06_predicted_masks_are_masks_to_train_on(model, tmp_path, classes):
    """Predictions come out black, or in colours that lead nowhere; here they are labels again as they are."""
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


def test_06_soft_edges_are_told(tmp_path, capsys):
    """A soft brush mixes colours that mean no class: the file, the colours and the remedy are named."""
    data = photographs(tmp_path / "photos", classes="dark 0 0 0\nbright 200 0 0")
    edge = np.zeros((36, 48, 3), np.uint8)
    edge[..., 0] = np.linspace(0, 200, 48)
    Image.fromarray(edge).save(tmp_path / "photos" / "masks" / "photo3.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo3.png: has 46 colours that mean no class" in error
    assert "paint with a hard one" in error


# 7. Void is 255, and masks of 0 and 255 (tests/data/test_check.py, tests/test_losses.py)


def test_07_void_is_in_no_number(model, data, tmp_path):
    """255 is taken for a class, or for background: here it is neither counted nor predicted."""
    labels = [read_labels(tmp_path / "photos" / "masks" / f"photo{i}.png") for i in (6, 7)]
    found = scores(model, data, tmp_path)
    assert found["pixels"] == sum(int((mask != 255).sum()) for mask in labels) < 2 * 36 * 48
    assert np.array(found["confusion_matrix"]).shape == (2, 2)
    assert [c["pixels"] for c in found["classes"]] == [
        sum(int((m == k).sum()) for m in labels) for k in (0, 1)
    ]


def test_07_void_teaches_nothing():
    """What lies under void, the network may call what it likes: nothing in it changes."""

    class Void:
        class_names, palette = NAMES, np.zeros((2, 3), np.uint8)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.full((20, 24, 1), 99, np.uint8), np.full((20, 24), 255, np.uint8)

    fcn = FCN(digit_classifier(rng=0), 2, 2)
    before = {name: array.copy() for name, array in fcn.state_dict().items()}
    sgd = mf.optim.SGD(dict(fcn.named_parameters()), 1.0)
    [record] = fit(fcn, Loader(Void(), 1, preprocess=LIGHT), sgd, progress=None)
    assert record["loss"] == 0
    assert all(np.array_equal(array, before[name]) for name, array in fcn.state_dict().items())


def white(mask):
    """Paint what is bright in white, and all else in black."""
    return np.where(mask == 1, 255, 0).astype(np.uint8)


def test_07_masks_of_0_and_255_are_not_trained_on_as_void(data, tmp_path, capsys):
    """With white as void one class is left, and the mean IoU is 1.0 at once: refused, with the remedy."""
    masks_of(tmp_path / "photos", white)
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "every pixel of the 6 images to train on is 'dark' or void (255)" in error
    assert "see minifcn check-data" in error
    assert not (tmp_path / "out").exists()
    assert run("check-data", data) == 1
    assert "save white as 1, or list black and white as classes" in capsys.readouterr().out


@pytest.mark.parametrize("classes", ["dark 0 0 0\nbright 255 255 255", None])
def test_07_black_and_white_are_two_classes_if_they_are_listed_or_nothing_is(model, tmp_path, classes):
    """So a folder of photographs and black-and-white masks is enough."""
    data = photographs(tmp_path / "photos", classes=classes or "")
    if classes is None:
        (tmp_path / "photos" / "classes.txt").unlink()
    masks_of(tmp_path / "photos", white)
    found = scores(model, data, tmp_path)
    assert found["classes_in_mean_iou"] == 2
    assert found["classes"][1]["pixels"] > 0


# 8. As many classes as labels (tests/training/test_network.py, tests/data/test_camvid.py)


def test_08_a_label_that_is_no_class_is_named_with_its_file(data, tmp_path, capsys):
    """Labels beyond the classes crash the loss, or are clipped; here number, file and range are told."""
    mask = np.full((36, 48), 2, np.uint8)
    Image.fromarray(mask).save(tmp_path / "photos" / "masks" / "photo2.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo2.png: has labels that are no class: 2 on 1,728 pixels; expected 0 to 1" in error


def test_08_a_thousand_classes_become_those_of_the_data(data, tmp_path):
    """The classifier's last layer does not fit and must be cut out by hand; here it is, and nothing else."""
    save_file(
        {name: np.array(a) for name, a in squeezenet1_1(rng=0).state_dict().items()},
        tmp_path / "w.safetensors",
    )
    classifier = load_classifier(tmp_path / "w.safetensors")
    assert len(classifier.info.class_names) == 1000
    fcn = fcn_from(classifier, open_dataset(data, "train"))
    assert fcn.info.class_names == NAMES
    assert fcn.eval()(np.zeros((1, 3, 40, 50), np.float32)).shape == (1, 2, 40, 50)


def test_08_the_background_is_a_class_too(tmp_path, capsys):
    """Who lists the things to find alone, has one class, and a network that finds them everywhere."""
    data = photographs(tmp_path / "photos", classes="bright")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "the dataset has one class only (bright)" in error
    assert "the background is a class, too" in error


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_08_a_network_for_other_classes_is_refused(model, data, tmp_path, capsys, command):
    """20 or 21, 11 or 12: both numbers are told, and the first names."""
    (tmp_path / "photos" / "classes.txt").write_text("dark\nbright\nvery bright")
    if command == "evaluate":
        error = refused(capsys, "evaluate", model, data)
    else:
        error = refused(capsys, "train", data, "--from", model, "--out", tmp_path / "out")
    assert "the network has 2 classes (dark, bright), the dataset 3 (dark, bright, very bright)" in error


# 9. Running out of memory (tests/training/test_memory.py, tests/models/test_walk.py)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_09_what_cannot_fit_is_refused_with_advice(data, tmp_path, capsys, monkeypatch, part):
    """Hours later one large photograph among small ones ends it all: here the largest is looked for first."""
    index = {"train": 3, "validation": 7}[part]  # not the first of its part, which is looked at anyway
    monkeypatch.setattr(train, "_LOOKED_AT", 1)
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


def test_09_evaluation_keeps_nothing(model, data, tmp_path):
    """Elsewhere each image scored holds on to what only training needs; here eight take no more than two."""

    fcn = mf.load(model)

    def peak(names):
        (tmp_path / "photos" / "val.txt").write_text("\n".join(names))
        loader = Loader(open_dataset(data, "validation"), 1, preprocess=mf.training.fitted(LIGHT), workers=0)
        tracemalloc.start()
        try:
            mf.training.evaluate(fcn, loader)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(["photo0"])  # what is loaded once
    assert peak([f"photo{i}" for i in range(8)]) < 1.2 * peak(["photo0", "photo1"])


def test_09_a_picture_too_large_costs_only_itself(model, tmp_path, capsys, monkeypatch):
    """The others of a folder are labelled, and the one is named with what it takes."""
    monkeypatch.setattr(memory, "available_memory", lambda: 60_000_000)
    for name, size in (("huge", (1500, 1400)), ("small", (40, 30))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    paths = (tmp_path / "huge.png", tmp_path / "small.png")
    assert run("predict", model, *paths, "--out", tmp_path / "out") == 1
    assert "huge.png: labelling 1500 x 1400 pixels takes about" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["small.png"]


# 10. Batches of unequal sizes (tests/data/test_loader.py, tests/training/test_steps.py)


def test_10_images_of_unequal_sizes_share_a_batch(data, tmp_path):
    """Elsewhere a batch is one image, or all are squeezed to one size; here they are padded, with void."""
    of_unequal_sizes(tmp_path / "photos")
    assert run("train", data, *SCRATCH, "--batch", 3, "--epochs", 1, "--out", tmp_path / "out") == 0
    dataset = open_dataset(data, "train")
    batches = list(Loader(dataset, 3, preprocess=mf.training.fitted(LIGHT), shuffle=True))
    assert [x.shape[0] for x, _ in batches] == [3, 3]
    labelled = sum(np.bincount(labels.ravel(), minlength=256)[:2] for _, labels in batches)
    assert labelled.tolist() == class_counts(dataset).pixels[:2].tolist()


def test_10_scores_do_not_depend_on_the_batch(model, data, tmp_path):
    """Means over batches change with their size, and so do padded borders; here whole images are scored at
    their own size, whatever one trains with."""
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


def test_11_transposed_and_left_over_weights_are_told(tmp_path, capsys):
    """A matrix the other way round is told with both shapes, and what nothing needs is listed."""
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


def test_11_dense_weights_flattened_the_other_way(tmp_path):
    """TensorFlow flattens H, W, C: shapes are the same, and scores are nonsense, unless one says so."""
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


def test_11_the_preprocessing_travels_with_the_weights(data, tmp_path):
    """BGR or RGB, 255 or 1, which mean: asked for once, kept from the classifier to the prediction."""
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


def test_11_unknown_preprocessing_is_asked_for(tmp_path, capsys):
    """Weights without a word on their input are not used with a guess."""
    tensors = {name: np.array(a) for name, a in digit_classifier(rng=0).state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors")
    error = refused(capsys, "weights", "convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "does not say how images are preprocessed" in error


# 12. Reproduction, and stages (tests/models/test_fcn_finer.py, tests/cli/test_train.py)


def test_12_a_finer_network_begins_where_the_coarser_one_ended(data, tmp_path):
    """FCN-16s scores below FCN-32s, for its skip begins as noise; here it begins at zero."""
    begin = ("--model", "digit_classifier", "--from-workspace", "--lr", "3e-3", "--stride", 8)
    assert run("train", data, *begin, "--epochs", 8, "--batch", 2, "--out", tmp_path / "8") == 0
    parent = tmp_path / "8" / "model.safetensors"
    coarse = scores(parent, data, tmp_path)["mean_iou"]
    assert coarse > 0.6
    still = ("--recipe", "heavy", "--lr", "1e-20", "--epochs", 1)
    for stride in (4, 2):
        out = tmp_path / str(stride)
        assert run("train", data, "--from", parent, "--stride", stride, *still, "--out", out) == 0
        assert records(out)[0]["mean_iou"] > coarse - 0.05  # bilinear in two steps instead of one


@alignments
def test_12_the_dense_layers_come_along(alignment):
    """30 % instead of 63 %: fc6 and fc7 were left random. Here the head is the classifier's, reshaped."""
    classifier = digit_classifier(rng=0)
    fcn = FCN(classifier, 21, 8, alignment=alignment)
    dense, head = classifier.state_dict()["classifier.0.weight"], fcn.state_dict()["head.0.weight"]
    assert np.array_equal(head.reshape(dense.shape), dense)
    taken = {name: a for name, a in fcn.state_dict().items() if name.startswith("features")}
    assert all(np.array_equal(a, classifier.state_dict()[name]) for name, a in taken.items())


# 13. Metrics (tests/test_metrics.py)


def test_13_scores_are_those_of_the_masks_over_the_whole_set(data, tmp_path):
    """Means over images, absent classes as 1, void as background: each makes another number. Here pixels of
    the whole set are counted, absent classes are left out, and the number of classes is told."""
    root = tmp_path / "photos"
    names = ("dark", "bright", "nowhere", "only predicted")
    (root / "classes.txt").write_text("\n".join(names))
    fcn = seeing(names=names)
    fcn.score.bias.data[:] = 1, 0, -9, -1.9
    for layer in fcn.score_layers():
        layer.weight.data[3, 0] = 2  # what is very bright
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


# 14. One's own picture (tests/cli/test_predict.py, tests/data/test_images.py)


def test_14_a_picture_is_labelled_as_it_is_seen(model, tmp_path):
    """Elsewhere it must be RGB, 224 x 224 and upright, or its mask does not fit; here any picture will do."""
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


# 15. Labels resized, JPEG masks, grey and transparent pictures (tests/data/test_augment.py, test_masks.py)


def test_15_a_mask_of_another_size_is_not_resized(data, tmp_path, capsys):
    """Resizing by half and smoothing make labels that nobody painted: both sizes are told instead."""
    Image.new("L", (24, 18)).save(tmp_path / "photos" / "masks" / "photo0.png")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo0.png: has 24 x 18 pixels, but its image has 48 x 36" in error


def test_15_a_jpeg_mask_is_refused(data, tmp_path, capsys):
    """Its compression makes labels of 3 and 197 along every edge, whatever the name of the file."""
    mask = Image.fromarray(np.array(Image.open(tmp_path / "photos" / "masks" / "photo0.png")))
    mask.save(tmp_path / "photos" / "masks" / "photo0.png", format="JPEG")
    error = refused(capsys, "train", data, *SCRATCH, "--out", tmp_path / "out")
    assert "photo0.png: a mask must be a PNG, BMP or TIFF, this is a JPEG" in error


def test_15_scaled_labels_are_labels_that_were_there():
    """Smoothed, 0 and 7 make 3: image and labels are scaled together, labels by nearest neighbour."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(np.array([[0, 7, 255], [255, 0, 7]], np.uint8), 9, axis=0), 7, axis=1)
    image = np.repeat(labels[..., None], 3, axis=2)
    for _ in range(20):
        scaled, moved = Augment(flip=True, scale=(0.5, 2), crop=(17, 15))(image, labels, rng)
        assert scaled.shape[:2] == moved.shape
        assert set(np.unique(moved)) <= {0, 7, 255}
        assert np.mean(abs(scaled[..., 0].astype(int) - moved) > 60) < 0.25  # but for edges, as in the image


def test_15_photographs_of_all_kinds_train_together(data, tmp_path):
    """Grey, transparent, with a palette: shapes do not fit elsewhere; here all become RGB."""
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


def test_16_a_resumed_training_keeps_the_best_and_the_order(data, tmp_path, monkeypatch):
    """The best score begins again at 0, so a worse network takes the best one's place; images come in the
    order of the first epoch. Here the resumed training is the one that never stopped."""
    for i in (6, 7):  # what is learned is wrong for these: the first epoch is the best
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


# 17. Upsampling: fixed, learned, class by class, checkerboards (tests/models/test_upsampling.py)


@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
def test_17_upsampling_learns_if_it_is_told_to(data, tmp_path, upsampling):
    """Fixed kernels drift, learned ones begin as noise and mix classes; here both begin as bilinear."""
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
def test_17_no_checkerboard(make):
    """Kernels whose weights do not sum up evenly print a grid on the scores; equal scores stay equal here."""
    fcn = FCN(make(), 3, min(make().taps)).astype("float64")
    for layer in fcn.score_layers():
        layer.bias.data[...] = np.random.default_rng(0).normal(size=3)
    flat = fcn(np.random.default_rng(1).normal(size=(1, 1, 150, 131)))
    assert abs(flat - flat[..., :1, :1]).max() < 1e-12
    assert abs(flat).min() > 0.01


# 18. At once: the scales of the skips (tests/models/test_fcn_training.py)


def test_18_all_strides_at_once(data, tmp_path, capsys):
    """Without its scales the at-once network diverges or ignores its skips, and no file tells that it needs
    them. Here one word makes it, the recipe asks for it, and the file remembers."""
    begin = ("--model", "digit_classifier", "--from-workspace", "--recipe", "heavy", "--epochs", 1)
    assert "--at-once" in refused(capsys, "train", data, *begin, "--out", tmp_path / "out")
    assert run("train", data, *begin, "--at-once", "--out", tmp_path / "out") == 0
    fcn = mf.load(tmp_path / "out" / "model.safetensors")
    assert fcn.at_once
    assert [layer.scale for layer in fcn.score_layers()] == pytest.approx([1, 0.01, 0.0001])
