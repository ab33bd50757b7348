import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import minifcn as mf
from minifcn.cli import main
from minifcn.functional import softmax
from minifcn.models import FCN, googlenet, squeezenet1_1
from minifcn.weights import PUBLISHED, downloads
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights
from tests.weights.files import small
from tests.weights.pickles import whole, zipped


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source.safetensors"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.safetensors"


def weights(*arguments):
    return main(["weights", *map(str, arguments)])


@needs_weights
def test_from_a_public_file_to_a_prediction(target, capsys):
    assert weights("inspect", WEIGHTS) == 0
    said = capsys.readouterr().out
    assert "safetensors, 52 tensors, 1,248,424 values" in said
    assert "squeezenet1_0 in the names of torchvision, with 52 of 52 tensors; 1000 classes" in said
    assert "input: BGR, (image - (104.0, 117.0, 123.0)) / (1.0, 1.0, 1.0)" in said
    assert "missing" not in said
    assert "left over" not in said

    assert weights("convert", WEIGHTS, target, "--class-names", CLASS_NAMES) == 0
    said = capsys.readouterr().out
    assert "squeezenet1_0 in the names of torchvision: 52 copied, 0 reshaped, 0 missing, 0 left over" in said
    assert said.splitlines()[1:] == [f"wrote {target}"]
    assert weights("inspect", target) == 0
    assert "a model file of minifcn, which minifcn.load reads" in capsys.readouterr().out

    model = mf.load(target)
    with Image.open(DATA / "chelsea.png") as picture:
        left, side = (picture.width - picture.height) // 2, picture.height
        crop = picture.convert("RGB").crop((left, 0, left + side, side))
        pixels = np.asarray(crop.resize((227, 227), Image.Resampling.BILINEAR))
    probabilities = softmax(model(model.info.preprocessing(pixels[None])))[0]
    assert model.info.class_names[probabilities.argmax()] == "Egyptian cat"
    assert probabilities.max() == pytest.approx(0.63, abs=0.02)


def test_inspect_says_what_would_be_missing_or_left_over(source, capsys):
    state = {name.partition(".")[2]: array for name, array in googlenet(7, rng=0).state_dict().items()}
    del state["conv1.conv.weight"]
    state["conv2.conv.weight"] = np.zeros((64, 64, 3, 3), "f2")
    state["aux1.fc2.weight"] = np.zeros((1000, 4), "f4")
    save_file(state, source, {"note": "from\x1b[31m somewhere", "long": "x" * 5000})
    assert weights("inspect", source) == 0
    said = capsys.readouterr().out
    for line in (
        "  note: 'from\\x1b[31m somewhere'",
        f"  long: {'x' * 199}…",
        "googlenet in the names of torchvision, with 285 of 287 tensors; 7 classes",
        "input: RGB, (image - (127.5, 127.5, 127.5)) / (127.5, 127.5, 127.5)",
        "missing: features.conv1.conv.weight",
        "missing: features.conv2.conv.weight, for conv2.conv.weight is float32 (64, 64, 3, 3) instead of "
        "(64, 64, 1, 1)",
        "left over: aux1.fc2.weight (1000, 4)",
    ):
        assert line in said.splitlines()
    assert any(line.split()[:2] == ["conv2.conv.weight", "float16"] for line in said.splitlines())


def test_wrappers_prefixes_and_odd_values_are_reported(source, target, capsys):
    """In a PyTorch file, which is read without PyTorch."""
    state = {f"module.{name}": array for name, array in squeezenet1_1(3, rng=0).state_dict().items()}
    tensors = {name: whole(str(place), array) for place, (name, array) in enumerate(state.items())}
    file = source.with_suffix(".pth")
    file.write_bytes(zipped({"net": tensors, "epoch": 3}, [made.arguments[0] for made in tensors.values()]))
    for action in (["inspect", file], ["convert", file, target]):
        assert weights(*action) == 0
        said = capsys.readouterr().out
        assert "from its entry net\n" in said
        assert "without module. at the beginning of every name\n" in said
    assert mf.load(target).architecture["name"] == "squeezenet1_1"
    save_file({"a": np.array([1, np.nan, np.inf, 2], "f4"), "b": np.ones(3, "i4")}, source)
    assert weights("inspect", source) == 0
    assert "NaN or infinite: 2 values of a\n" in capsys.readouterr().out


def test_inspect_says_when_nothing_is_recognised(source, capsys):
    save_file({"a": np.zeros(3, "f4")}, source)
    assert weights("inspect", source) == 0
    assert capsys.readouterr().out.endswith("no known network\n")
    save_file(small().state_dict(), source)
    assert weights("inspect", source) == 0
    assert "input: unknown, give --preprocessing" in capsys.readouterr().out


def test_convert_takes_what_it_is_told(source, target, capsys):
    save_file(small().state_dict(), source)
    assert weights("convert", source, target) == 2
    assert "source.safetensors does not describe the preprocessing" in capsys.readouterr().err
    assert not target.exists()
    names = source.with_name("names.txt")
    names.write_text("one\ntwo\nthree\n")
    recipe = '{"channels": "L", "mean": [100], "std": [50]}'
    assert weights("convert", source, target, "--preprocessing", recipe, "--class-names", names) == 0
    model = mf.load(target)
    assert model.info.class_names == ("one", "two", "three")
    assert model.info.preprocessing == mf.models.Preprocessing("L", (100,), (50,))


def test_convert_with_order_architecture_and_partial(source, target, capsys):
    state = dict(small().state_dict())
    del state["features.0.bias"]
    dense = state["classifier.0.weight"]
    state["classifier.0.weight"] = dense.reshape(128, 64, 16).transpose(0, 2, 1).reshape(128, -1).copy()
    save_file(state, source, {"preprocessing": '{"channels": "L", "mean": [100]}'})
    arguments = ("convert", source, target, "--order", "HWC", "--architecture", "digit_classifier")
    assert weights(*arguments) == 2
    assert "1 of 14 tensors are missing for digit_classifier" in capsys.readouterr().err
    assert weights(*arguments, "--partial") == 0
    said = capsys.readouterr().out
    assert "12 copied, 1 reshaped, 1 missing, 0 left over" in said
    assert said.splitlines()[1:] == ["missing, now random: features.0.bias", f"wrote {target}"]
    assert np.array_equal(mf.load(target).state_dict()["classifier.0.weight"], dense)


def test_convert_names_a_few_of_those_left_over(source, target, capsys):
    extra = {f"aux.{i}": np.zeros(i + 1, "f4") for i in range(5)}
    save_file(dict(squeezenet1_1(3, rng=0).state_dict()) | extra, source)
    assert weights("convert", source, target) == 0
    assert "left over: aux.0, aux.1, aux.2 and 2 more\n" in capsys.readouterr().out


@pytest.mark.slow
def test_convert_an_fcn_of_the_reference_code(source, target, capsys):
    from minifcn.models import vgg16
    from minifcn.weights.names import fcn_naming

    classifier = vgg16(init="zeros")
    fcn = FCN(classifier, 2, 8, alignment="paper")
    naming = fcn_naming(fcn, classifier)
    save_file({naming.names[name]: array for name, array in fcn.state_dict().items()}, source)
    assert weights("inspect", source) == 0
    said = capsys.readouterr().out
    assert "fcn in the names of reference FCN, with 39 of 39 tensors; 2 classes, stride 8, of vgg16" in said
    assert weights("convert", source, target, "--at-once") == 0
    loaded = mf.load(target)
    assert (loaded.stride, loaded.alignment, loaded.at_once) == (8, "paper", True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "missing"], "there is no file missing"),
        (["inspect", "{folder}"], "is a folder: give a file in it, such as"),
        (["convert", "missing", "{source}"], "there is no file missing"),
        (["convert", "{source}", "{folder}/model.pt"], "model files are safetensors: call it"),
        (["inspect", __file__], "is not a safetensors, npz or PyTorch file"),
        (["convert", "{source}", "{source}"], "target must be another file than the source"),
        (["convert", "{source}", "{target}", "--preprocessing", "x"], "unknown preprocessing 'x'"),
        (["convert", "{source}", "{target}", "--class-names", "{source}"], "source.safetensors"),
        (["convert", "{source}", "{folder}/a/b"], "b: No such file or directory"),
        (["convert", "{source}", "{target}", "--at-once"], "--at-once is for FCNs of the reference code"),
    ],
)
def test_wrong_input_gets_one_sentence(source, target, arguments, said, capsys):
    save_file(squeezenet1_1(3, rng=0).state_dict(), source)
    before = source.read_bytes()
    assert (
        weights(*(text.format(source=source, target=target, folder=source.parent) for text in arguments)) == 2
    )
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("minifcn weights: ")
    assert error.count("\n") == 1
    assert source.read_bytes() == before
    assert not target.exists()


def test_download_then_convert(tmp_path, target, monkeypatch, capsys):
    public = tmp_path / "public"
    public.mkdir()
    np.savez(public / "weights.npz", **squeezenet1_1(3, rng=0).state_dict())
    content = (public / "weights.npz").read_bytes()
    name = f"squeezenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (public / "weights.npz").rename(public / name)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=public)) as server:
        monkeypatch.setitem(PUBLISHED, "vgg16", name)
        monkeypatch.setattr(downloads, "URL", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert weights("download", "vgg16", "--to", tmp_path) == 0
        assert weights("download", "vgg16", "--to", tmp_path) == 0
        server.shutdown()
        thread.join()
    assert capsys.readouterr().out == f"{tmp_path / name}: verified\n" * 2
    assert weights("convert", tmp_path / name, target) == 0
    assert mf.load(target).architecture["name"] == "squeezenet1_1"
