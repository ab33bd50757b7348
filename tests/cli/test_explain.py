import pytest

from minifcn.cli import main
from minifcn.layers import Conv2d, GlobalAvgPool2d, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier, explain
from minifcn.weights import save

GREY = Preprocessing("L", (128.0,), (64.0,))


def said(capsys, *arguments):
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_a_classifier_at_the_size_it_was_made_for(capsys):
    out = said(capsys, "digit_classifier")
    assert out.rstrip() == str(explain(digit_classifier(rng=0), 32))
    assert out.startswith("digit_classifier: 1 image of 32 x 32 (width x height)\n")


def test_at_another_size_it_is_convolutionalized(capsys):
    out = said(capsys, "digit_classifier", "--size", "60x40")
    assert out.startswith("digit_classifier, convolutionalized: 1 image of 60 x 40 (width x height)\n")
    assert "10 x 2 x 4" in out  # heights before widths


def test_an_fcn_with_both_alignments(capsys):
    out = said(
        capsys, "digit_classifier", "--size", "60x40", "--classes", "11", "--stride", "2", "--batch", "3"
    )
    assert out.startswith("FCN of digit_classifier, stride 2, alignment exact: 3 images of 60 x 40 (width")
    assert "11 x 40 x 60" in out
    exact, paper = (
        explain(FCN(digit_classifier(rng=0), 11, 2, alignment=name), (40, 60), batch=3).total
        for name in ("exact", "paper")
    )
    assert f"alignment exact:  {exact.multiplications / 1e9:8.2f} G multiplications" in out
    assert f"alignment paper:  {paper.multiplications / 1e9:8.2f} G multiplications" in out
    share = exact.multiplications / paper.multiplications
    assert f"exact alignment needs {share:.0%} of the multiplications of paper" in out


def test_vgg16_at_the_size_of_pascal_voc(capsys):
    out = said(capsys, "vgg16", "--size", "500x375", "--stride", "8", "--alignment", "paper")
    assert out.startswith("FCN of vgg16, stride 8, alignment paper: 1 image of 500 x 375 (width x height)\n")
    assert "64 x 573 x 698" in out
    assert "alignment paper:    146.37 G" in out
    assert "exact alignment needs 55% of the multiplications of paper" in out


@pytest.fixture
def file(tmp_path):
    fcn = FCN(digit_classifier(rng=0), 11, 4, alignment="paper")
    fcn.info = ModelInfo(("background", *"0123456789"), GREY)
    path = tmp_path / "digits.safetensors"
    save(fcn, path)
    return str(path)


def test_a_model_file_is_explained_as_it_is(file, capsys):
    out = said(capsys, file, "--size", "60x40")
    assert out.startswith("FCN of digit_classifier, stride 4, alignment paper: 1 image of 60 x 40")
    out = said(capsys, file, "--size", "60x40", "--stride", "2", "--alignment", "exact")
    assert out.startswith("FCN of digit_classifier, stride 2, alignment exact: 1 image of 60 x 40")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["vgg61"], "'vgg61' is neither a file nor one of alexnet, caffenet"),
        (["digit_classifier", "--stride", "3"], "--stride must be one of [2, 4, 8], got 3"),
        (["digit_classifier", "--classes", "1"], "--classes must be an integer >= 2, got 1"),
        (["digit_classifier", "--batch", "0"], "--batch must be an integer >= 1, got 0"),
        (["digit_classifier", "--size", "4x50"], "does not fit into"),
        ([__file__], "test_explain.py"),
        (["tests"], "tests is a folder"),
    ],
)
def test_wrong_input_gets_one_sentence(arguments, sentence, capsys):
    assert main(["explain", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minifcn explain: ")
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("size", ["500", "0x5", "5x-5", "9" * 9 + "x5"])
def test_a_size_is_width_x_height(size, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["explain", "vgg16", "--size", size])
    assert ended.value.code == 2
    assert f"argument --size: expected WIDTHxHEIGHT such as 500x375, got '{size}'" in capsys.readouterr().err


@pytest.fixture
def unnamed(tmp_path):
    """An FCN of a classifier that has no registered name."""
    features = Sequential(Conv2d(1, 4, 3, rng=0), ReLU(), MaxPool2d(2))
    scores = Sequential(Conv2d(4, 3, 1, rng=0), GlobalAvgPool2d())
    fcn = FCN(Classifier(features, scores, input_shape=(1, 10, 10)), 3)
    fcn.info = ModelInfo(("a", "b", "c"), GREY)
    save(fcn, tmp_path / "unnamed.safetensors")
    return str(tmp_path / "unnamed.safetensors"), fcn


def test_a_network_without_a_registered_name_is_explained_itself(unnamed, capsys):
    path, fcn = unnamed
    out = said(capsys, path, "--size", "60x40")
    assert out.rstrip() == str(explain(fcn, (40, 60)))
    assert main(["explain", path]) == 2
    assert f"--size must be given for {path}" in capsys.readouterr().err
    assert main(["explain", path, "--size", "60x40", "--classes", "4"]) == 2
    assert "with a registered name, got FCN" in capsys.readouterr().err
