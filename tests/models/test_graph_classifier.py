"""A classifier in graphs, from definition to a trained and saved FCN."""

import subprocess
import sys

import numpy as np

from minifcn.checks import check_conventions
from minifcn.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Graph, Linear, MaxPool2d, ReLU
from minifcn.losses import softmax_cross_entropy
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, explain
from minifcn.optim import SGD
from minifcn.weights import load, save

LOAD = """
import sys
import numpy as np
from minifcn.weights import load

model = load(sys.argv[1]).eval()
np.save(sys.argv[3], model(np.load(sys.argv[2])))
"""


def residual(rng=0):
    rng = np.random.default_rng(rng)
    features = Graph(
        {
            "stem": (Conv2d(3, 4, 3, padding=1, rng=rng), "input"),
            "norm": (BatchNorm2d(4), "stem"),
            "relu": (ReLU(inplace=True), "norm"),
            "pool": (MaxPool2d(2), "relu"),
            "conv": (Conv2d(4, 4, 3, padding=1, rng=rng), "pool"),
            "sum": ("add", "conv", "pool"),
            "gate": ("multiply", "sum", "pool"),
            "joined": ("concat", "sum", "gate"),
            "last": (MaxPool2d(2), "joined"),
        },
        output="last",
    )
    head = Graph(
        {
            "average": (GlobalAvgPool2d(), "input"),
            "flat": (Flatten(), "average"),
            "hidden": (Linear(8, 6, rng=rng), "flat"),
            "active": (ReLU(), "hidden"),
            "scores": (Linear(6, 5, rng=rng), "active"),
        },
        output="scores",
    )
    return Classifier(features, head, input_shape=(3, 16, 16))


def info(classes):
    names = tuple(f"class {number}" for number in range(classes))
    return ModelInfo(names, Preprocessing("RGB", (128.0,) * 3, (64.0,) * 3))


def images(size, batch=1):
    return np.random.default_rng(1).normal(size=(batch, 3, *size)).astype("float32")


def test_it_keeps_the_conventions():
    check_conventions(residual().features, (3, 9, 8))
    check_conventions(FCN(residual(), 3, stride=2), (3, 9, 8))


def test_it_is_loaded_in_a_fresh_process(tmp_path):
    for model, x in (
        (residual(), images((16, 16), 2)),
        (FCN(residual(), 3, stride=2), images((21, 18))),
    ):
        model.info = info(3 if isinstance(model, FCN) else 5)
        save(model, tmp_path / "model.safetensors")
        np.save(tmp_path / "x.npy", x)
        paths = [str(tmp_path / name) for name in ("model.safetensors", "x.npy", "y.npy")]
        subprocess.run([sys.executable, "-c", LOAD, *paths], check=True, timeout=60)
        assert np.array_equal(np.load(tmp_path / "y.npy"), model.eval()(x))
        assert repr(load(paths[0])) == repr(model)


def test_one_step_lowers_the_loss_and_explain_tells_its_cost():
    fcn = FCN(residual(), 3, stride=2).train()
    x, labels = images((21, 18), 2), np.random.default_rng(2).integers(0, 3, (2, 21, 18)).astype("uint8")
    update, losses = SGD(fcn, lr=0.05), []
    for _ in range(2):
        loss, dscores = softmax_cross_entropy(fcn(x), labels)
        losses.append(float(loss))
        fcn.backward_parameters(dscores)
        update.step()
        update.zero_grad()
    assert losses[1] < losses[0]
    explanation = explain(fcn, (21, 18), batch=2)
    rows = {row.name: row for row in explanation.rows}
    assert rows["features.concat"].output_shape == (8, 11, 9)
    assert explanation.total.parameters == sum(p.data.size for p in fcn.parameters())
