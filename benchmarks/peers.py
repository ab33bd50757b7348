"""One training step of the same small network in minifcn and in other libraries.

    pip install torch && pip install --no-deps dezero numpy-ml
    python benchmarks/peers.py

The network: 3 x 3 convolutions to 16 and 32 channels, each with ReLU and a 2 x 2 max pool, and a dense layer
to 10 classes, on square colour images; cross-entropy, and a step of SGD. Libraries that are not installed are
omitted. DeZero 0.0.13 and numpy-ml 0.1.2 are older than NumPy 1.20 and Python 3.10: names that were removed
since then are defined for them. Chainer 7.8 cannot be installed on Python 3.11.
"""

import argparse
import collections
import json
import warnings
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
from beside import Side, in_turn, processor

from minifcn.kernels.threads import num_threads

Job = Callable[[], Any]


def data(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, float32 (N, 3, size, size), and their classes (N,)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, 3, size, size), np.float32), rng.integers(0, 10, batch)


def minifcn_job(batch: int, size: int) -> Job:
    import minifcn as mf
    from minifcn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

    x, classes = data(batch, size)
    labels = classes.astype(np.uint8)[:, None, None]  # (N, 1, 1): images of one pixel
    model = Sequential(
        Conv2d(3, 16, 3, padding=1, rng=0), ReLU(inplace=True), MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1, rng=0), ReLU(inplace=True), MaxPool2d(2),
        Flatten(), Linear(32 * (size // 4) ** 2, 10, rng=0),
    ).train()  # fmt: skip
    optimizer = mf.optim.SGD(model, 0.01)

    def step() -> float:
        loss, dscores = mf.losses.softmax_cross_entropy(model(x)[:, :, None, None], labels)
        model.backward_parameters(dscores[:, :, 0, 0])
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_job(batch: int, size: int) -> Job:
    import torch
    from torch import nn

    torch.set_num_threads(num_threads())
    x, classes = map(torch.tensor, data(batch, size))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), classes)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def dezero_job(batch: int, size: int) -> Job:
    np.__dict__["int"] = int
    import dezero
    import dezero.functions as F
    import dezero.layers as L

    x, classes = data(batch, size)

    class Network(dezero.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = L.Conv2d(16, 3, pad=1), L.Conv2d(32, 3, pad=1)
            self.dense = L.Linear(10)

        def forward(self, x: Any) -> Any:
            x = F.pooling(F.relu(self.conv1(x)), 2, 2)
            x = F.pooling(F.relu(self.conv2(x)), 2, 2)
            return self.dense(F.reshape(x, (batch, -1)))

    model = Network()
    optimizer = dezero.optimizers.SGD(0.01).setup(model)

    def step() -> float:
        loss = F.softmax_cross_entropy(model(x), classes)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return float(loss.data)

    return step


def numpy_ml_job(batch: int, size: int) -> Job:
    collections.Hashable = Hashable
    warnings.simplefilter("ignore")  # about an optional package that is missing
    from numpy_ml.neural_nets.layers import Conv2D, Flatten, FullyConnected, Pool2D
    from numpy_ml.neural_nets.losses import CrossEntropy
    from numpy_ml.neural_nets.optimizers import SGD

    x, classes = data(batch, size)
    images, truth = x.transpose(0, 2, 3, 1), np.eye(10)[classes]  # images are (N, H, W, C)
    layers = [
        Conv2D(16, (3, 3), pad=1, act_fn="ReLU", optimizer=SGD()), Pool2D((2, 2), stride=2),
        Conv2D(32, (3, 3), pad=1, act_fn="ReLU", optimizer=SGD()), Pool2D((2, 2), stride=2),
        Flatten(), FullyConnected(10, optimizer=SGD()),
    ]  # fmt: skip

    def step() -> float:
        y = images
        for layer in layers:
            y = layer.forward(y)
        scores = np.exp(y - y.max(axis=1, keepdims=True))
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        loss = CrossEntropy.loss(truth, probabilities) / batch
        dy = CrossEntropy.grad(truth, probabilities) / batch
        for layer in reversed(layers):
            dy = layer.backward(dy)
        for layer in layers:
            layer.update()
        return float(loss)

    return step


PEERS: dict[str, tuple[str, Callable[[int, int], Job]]] = {
    "minifcn": ("minifcn", minifcn_job),
    "PyTorch": ("torch", torch_job),
    "DeZero": ("dezero", dezero_job),
    "numpy-ml": ("numpy_ml", numpy_ml_job),
}
"""The import name of each library, and the function that returns a training step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side, a multiple of 4")
    parser.add_argument("--only", nargs="*", choices=tuple(PEERS), default=tuple(PEERS))
    parser.add_argument("--turns", type=int, default=3, help="of each library")
    parser.add_argument("--json", help="file for the raw results")
    arguments = parser.parse_args()
    sides = {}
    for name, (package, maker) in PEERS.items():
        if name in ("minifcn", *arguments.only) and find_spec(package):
            sides[name] = Side()
            sides[name].make(maker, arguments.batch, arguments.size)
    seconds = in_turn(sides, arguments.turns)
    print(processor())
    print(f"{num_threads()} threads, batch {arguments.batch}, {arguments.size} x {arguments.size}, medians")
    ours = median(seconds["minifcn"])
    for name, taken in seconds.items():
        print(f"{name:10}{1e3 * median(taken):10.2f} ms  {median(taken) / ours:8.2f} times minifcn's")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(seconds, file, indent=1)


if __name__ == "__main__":
    main()
