import json
import os

import numpy as np
import pytest
from PIL import Image

import minifcn as mf
from minifcn.cli import main
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from tests.cli.folders import photographs

GREY = Preprocessing("L", (90.0,), (50.0,))


@pytest.fixture
def data(tmp_path):
    return photographs(tmp_path / "photos")


@pytest.fixture
def model(tmp_path):
    """A network that labels everything as "blob"."""
    return stored(tmp_path / "model.safetensors", ("ground", "blob"))


def stored(path, names):
    fcn = FCN(digit_classifier(rng=0), len(names), 8)
    fcn.score.bias.data[1] = 1
    fcn.info = ModelInfo(names, GREY)
    mf.save(fcn, path)
    return str(path)


def counted(root, names=("photo6", "photo7")):
    """Count the pixels of each class in masks."""
    masks = np.concatenate([np.array(Image.open(root / "masks" / f"{name}.png")).ravel() for name in names])
    return int((masks == 0).sum()), int((masks == 1).sum())


def test_the_four_metrics_and_their_numbers_of_pixels_and_classes(data, model, tmp_path, capsys):
    files = ["--json", str(tmp_path / "a.json"), "--confusion", str(tmp_path / "a.png")]
    assert main(["evaluate", model, data, *files]) == 0
    said = capsys.readouterr()
    ground, blob = counted(tmp_path / "photos")
    assert f"{model} on the validation split of {data}: 2 images" in said.out
    iou = blob / (ground + blob)
    assert f"pixel accuracy           {iou:.3f}  over {ground + blob:,} pixels" in said.out
    assert "mean accuracy            0.500  over 2 of 2 classes" in said.out
    assert f"mean IoU                 {iou / 2:.3f}  over 2 of 2 classes" in said.out
    assert "blob " in said.out
    assert said.err == ""
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["confusion_matrix"] == [[0, ground], [0, blob]]
    assert numbers["mean_iou"] == pytest.approx(iou / 2)
    assert numbers["classes"][1] == {
        "name": "blob",
        "iou": pytest.approx(iou),
        "accuracy": 1.0,
        "pixels": blob,
    }
    assert (numbers["images"], numbers["split"], numbers["absent"]) == (2, "validation", "truth")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def test_the_split_and_the_rule_for_absent_classes_are_chosen(data, tmp_path, capsys):
    model = stored(tmp_path / "three.safetensors", ("ground", "blob", "never"))
    (tmp_path / "photos" / "classes.txt").write_text("ground\nblob\nnever")
    means = {}
    for absent in ("exclude", "zero", "one", "truth"):
        path = tmp_path / f"{absent}.json"
        assert (
            main(["evaluate", model, data, "--split", "train", "--absent", absent, "--json", str(path)]) == 0
        )
        means[absent] = json.loads(path.read_text())
    assert means["exclude"]["images"] == 6
    assert means["exclude"]["classes"][2]["iou"] is None
    two = 2 * means["exclude"]["mean_iou"]
    assert means["zero"]["mean_iou"] == pytest.approx(two / 3)
    assert means["one"]["mean_iou"] == pytest.approx((two + 1) / 3)
    assert means["truth"]["mean_iou"] == pytest.approx(two / 2)


def test_a_class_that_is_only_predicted_is_left_out_as_in_training(data, tmp_path, capsys):
    model = stored(tmp_path / "three.safetensors", ("ground", "never", "blob"))
    (tmp_path / "photos" / "classes.txt").write_text("ground\nnever\nblob")
    for mask in (tmp_path / "photos" / "masks").iterdir():
        labels = np.array(Image.open(mask))
        labels[labels == 1] = 2
        Image.fromarray(labels).save(mask)
    assert main(["evaluate", model, data]) == 0  # everything is "never": the IoU of the others is 0
    said = capsys.readouterr().out
    assert "mean IoU                 0.000  over 2 of 3 classes" in said
    assert "never                        -         -             0" in said


def test_images_are_scored_whole_at_their_own_size(tmp_path, capsys):
    """Padding to a common size would change scores near the border."""
    root = tmp_path / "photos"
    data = photographs(root)
    small = np.array(Image.open(root / "images" / "photo6.png"))[:20, :30]
    mask = np.array(Image.open(root / "masks" / "photo6.png"))[:20, :30]
    Image.fromarray(small).save(root / "images" / "photo6.png")
    Image.fromarray(mask).save(root / "masks" / "photo6.png")
    fcn = FCN(digit_classifier(rng=0), 2, 2)
    for layer in fcn.score_layers():
        layer.weight.data[...] = np.random.default_rng(0).normal(size=layer.weight.data.shape)
    fcn.info = ModelInfo(("ground", "blob"), GREY)
    mf.save(fcn.eval(), tmp_path / "m")
    assert main(["evaluate", str(tmp_path / "m"), data, "--json", str(tmp_path / "a.json")]) == 0
    expected = np.zeros((2, 2), np.int64)
    for name in ("photo6", "photo7"):
        image = Image.open(root / "images" / f"{name}.png").convert("L")
        scores = fcn(GREY(np.array(image)[None, :, :, None]))
        labels, predicted = np.array(Image.open(root / "masks" / f"{name}.png")), scores[0].argmax(axis=0)
        for t in range(2):
            for p in range(2):
                expected[t, p] += ((labels == t) & (predicted == p)).sum()
    counts = np.array(json.loads((tmp_path / "a.json").read_text())["confusion_matrix"])
    assert np.abs(counts - expected).sum() <= 4  # Pillow rounds grey in another way


def test_classes_in_another_order_are_matched_by_name(data, tmp_path, capsys):
    files = ["--json", str(tmp_path / "a.json")]
    ground, blob = counted(tmp_path / "photos")
    model = stored(tmp_path / "m", ("blob", "ground"))  # labels everything as "ground"
    assert main(["evaluate", model, data, *files]) == 0
    assert capsys.readouterr().err == (
        "classes are matched by name: the dataset has ground, blob, the network blob, ground\n"
    )
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["confusion_matrix"] == [[0, blob], [0, ground]]
    assert [entry["name"] for entry in numbers["classes"]] == ["blob", "ground"]
    model = stored(tmp_path / "m", ("never", "blob", "ground"))  # the dataset may lack some
    assert main(["evaluate", model, data, "--json", str(tmp_path / "b.json")]) == 0
    numbers = json.loads((tmp_path / "b.json").read_text())
    assert numbers["confusion_matrix"] == [[0, 0, 0], [0, blob, 0], [0, ground, 0]]


def test_images_are_read_as_in_training(tmp_path, capsys):
    """12 bits in 16, and another order of the bands."""
    root = tmp_path / "photos"
    data = photographs(root)
    for name in ("photo6", "photo7"):
        path = root / "images" / f"{name}.png"
        grey = np.array(Image.open(path))[..., 0]
        Image.fromarray(grey.astype(np.uint16) * 16).save(path)
    for bit_depth, bands, expected in ((12, None, 0), (14, None, 0), (16, None, 0), (10, None, 2)):
        fcn = FCN(digit_classifier(rng=0), 2, 8)
        fcn.info = ModelInfo(("ground", "blob"), Preprocessing("L", (90.0,), (50.0,), bit_depth, bands))
        mf.save(fcn, tmp_path / "m")
        assert main(["evaluate", str(tmp_path / "m"), data]) == expected, bit_depth
    assert "expected at most 1023 (10 bits)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "classifier"}, "classifier contains a classifier"),
        ({"model": "three"}, "the network has 3 classes (a, b, c), the dataset 2 (ground, blob)"),
        ({"model": "nowhere"}, "nowhere"),
        ({"data": "folder:nowhere"}, "nowhere"),
        ({"options": ["--device", "tpu"]}, "'tpu'"),
        ({"options": ["--json", "nowhere/a.json"]}, "there is no folder"),
        ({"options": ["--json", "a.txt"]}, "a.txt does not end in .json"),
        ({"options": ["--confusion", "a.jpg"]}, "a.jpg does not end in .png"),
        ({"model": "."}, "is a folder: give a file in it, such as"),
        ({"options": ["--split", "test"]}, "test"),
    ],
)
def test_wrong_input_is_refused_in_one_line(data, model, tmp_path, capsys, change, expected):
    classifier = digit_classifier(2, rng=0)
    classifier.info = ModelInfo(("a", "b"), GREY)
    mf.save(classifier, tmp_path / "classifier")
    stored(tmp_path / "three", ("a", "b", "c"))
    file = str(tmp_path / change["model"]) if "model" in change else model
    before = set(os.listdir(tmp_path))
    assert main(["evaluate", file, change.get("data", data), *change.get("options", [])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert set(os.listdir(tmp_path)) == before
