"""Networks and layers of one's own in the commands: of installed packages, registered, or only saved."""

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

import minifcn as mf
from minifcn.cli import main
from minifcn.layers import Conv2d, GlobalAvgPool2d, Graph, MaxPool2d, Pointwise, ReLU, Sequential, config
from minifcn.models import FCN, Classifier, registry
from tests.cli.folders import photographs

FAST = ["--epochs", "1", "--lr", "1e-3"]


class Gate(Pointwise):
    """x where x is positive, slope * x elsewhere; nothing but an entry point registers it."""

    def __init__(self, slope=0.1):
        self.slope = slope

    def forward(self, x):
        factor = np.where(x > 0, x.dtype.type(1), x.dtype.type(self.slope))
        y = x * factor
        self.keep(factor, output=y)
        return y

    def backward(self, dy):
        (factor,) = self.recall(dy)
        return dy * factor


def network(activation, num_classes, init, rng):
    rng = np.random.default_rng(rng)
    conv = Conv2d(3, 4, 3, padding=1, init=init, rng=rng)
    scores = Sequential(Conv2d(4, num_classes, 1, init=init, rng=rng), GlobalAvgPool2d())
    return Classifier(Sequential(conv, activation, MaxPool2d(2)), scores, input_shape=(3, 16, 16))


def gated(num_classes=5, *, init="he", rng=None):
    """A builder with a layer of its own; like `plain`, it sets no `architecture`."""
    return network(config.register(Gate)(), num_classes, init, rng)


def plain(num_classes=5, *, init="he", rng=None):
    return network(ReLU(), num_classes, init, rng)


@pytest.fixture
def process(monkeypatch):
    """A function that starts anew, as a process does: nothing is registered but what is installed."""
    points = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **selection: EntryPoints(points).select(**selection)
    )
    monkeypatch.setattr(registry, "CLASSIFIERS", dict(registry.CLASSIFIERS))
    monkeypatch.setattr(config, "_classes", dict(config._classes))

    def start(*installed):
        points[:] = [EntryPoint(name, f"{__name__}:{name}", group) for group, name in installed]
        registry.CLASSIFIERS.pop("gated", None)
        config._classes.pop("Gate", None)

    return start


MODELS, LAYERS = ("minifcn.models", "gated"), ("minifcn.layers", "Gate")


def test_an_installed_builder_and_its_layers_in_all_commands(process, tmp_path, capsys):
    data, out = photographs(tmp_path / "photos"), str(tmp_path / "out")
    process(MODELS, LAYERS)
    assert main(["explain", "gated"]) == 0
    assert capsys.readouterr().out.startswith("gated: 1 image of 16 x 16")
    process(MODELS, LAYERS)
    assert main(["train", data, "--model", "gated", "--from-scratch", *FAST, "--out", out]) == 0
    for command in (
        ["train", "--resume", "--out", out],
        ["explain", f"{out}/model.safetensors"],
        ["evaluate", f"{out}/model.safetensors", data],
        [
            "predict",
            f"{out}/model.safetensors",
            str(tmp_path / "photos" / "images"),
            "--out",
            f"{out}/labels",
        ],
        ["train", data, "--from", f"{out}/model.safetensors", *FAST, "--out", f"{out}/2"],
    ):
        process(MODELS, LAYERS)
        assert main(command) == 0, capsys.readouterr().err
    process(LAYERS)  # without the builder the network is explained as it is
    assert main(["explain", f"{out}/model.safetensors", "--size", "48x36"]) == 0
    assert "Gate" in capsys.readouterr().out
    process(MODELS)
    assert main(["evaluate", f"{out}/model.safetensors", data]) == 2
    assert "unknown class 'Gate': import the module" in capsys.readouterr().err


def test_only_a_declared_class_of_just_that_name_is_imported(process):
    process(("minifcn.layers", "plain"), ("minifcn.layers", "Missing"))
    for name, words in (
        ("Gate", "unknown class 'Gate'"),
        ("plain", "unknown class 'plain'"),  # not a class
        ("os.system", "unknown class 'os.system'"),
        ("Missing", r"entry point Missing = .*:Missing cannot be loaded: AttributeError"),
    ):
        with pytest.raises(ValueError, match=words):
            config.from_config({"class": name})
    process(("minifcn.layers", "Gate"))
    assert config.from_config({"class": "Gate", "slope": 0.5}).slope == 0.5


def test_an_entry_point_may_be_a_module_that_registers_its_layers(process, tmp_path, monkeypatch):
    (tmp_path / "halving_layers.py").write_text(
        "from minifcn.layers import ReLU, register\n\n@register\nclass Halving(ReLU):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    process()
    with pytest.raises(ValueError, match="unknown class 'Halving'"):
        config.from_config({"class": "Halving"})
    module = EntryPoint("Halving", "halving_layers", "minifcn.layers")
    monkeypatch.setattr(importlib.metadata, "entry_points", EntryPoints([module]).select)
    assert isinstance(config.from_config({"class": "Halving"}), ReLU)


def test_a_registered_builder_without_architecture(process, tmp_path, capsys):
    data, out = photographs(tmp_path / "photos"), str(tmp_path / "out")
    process()
    registry.register("plain", plain)
    assert main(["explain", "plain", "--stride", "1"]) == 0
    assert "FCN of plain, stride 1" in capsys.readouterr().out
    assert main(["train", data, "--model", "plain", "--from-scratch", *FAST, "--out", out]) == 0
    assert main(["train", "--resume", "--out", out]) == 0
    assert main(["explain", f"{out}/model.safetensors"]) == 0
    assert "FCN of plain, stride 1" in capsys.readouterr().out
    del registry.CLASSIFIERS["plain"]
    assert main(["explain", f"{out}/model.safetensors", "--size", "48x36"]) == 0
    assert main(["train", "--resume", "--out", out]) == 0
    assert isinstance(mf.load(f"{out}/model.safetensors"), FCN)


@pytest.fixture
def graph(tmp_path):
    nodes = {"conv": (Conv2d(3, 4, 3, rng=0), "input"), "relu": (ReLU(), "conv")}
    mf.save(Graph(nodes, output="relu"), tmp_path / "graph.safetensors")
    return str(tmp_path / "graph.safetensors")


def test_a_graph_is_explained(graph, capsys):
    assert main(["explain", graph, "--size", "20x10"]) == 0
    assert capsys.readouterr().out.startswith("Graph: 1 image of 20 x 10")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["explain", "FILE"], ["--size must be given for FILE"]),
        (["explain", "FILE", "--stride", "2"], ["FILE: ", "--stride", "got Graph"]),
        (
            ["train", "DATA", "--from", "FILE", "--out", "OUT"],
            ["FILE contains a Graph, not a Classifier", "Classifier("],
        ),
        (["train", "DATA", "--weights", "FILE", "--out", "OUT"], ["FILE contains a Graph, not a Classifier"]),
        (["predict", "FILE", "DATA", "--out", "OUT"], ["FILE contains a Graph, not a Classifier"]),
        (["evaluate", "FILE", "DATA"], ["FILE contains a Graph, not a Classifier"]),
        (["weights", "convert", "FILE", "OUT"], ["FILE contains a Graph, not a Classifier"]),
    ],
)
def test_a_graph_in_other_commands_gets_one_sentence(graph, command, words, tmp_path, capsys):
    places = {"FILE": graph, "DATA": photographs(tmp_path / "photos"), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word.replace("FILE", graph) in error
