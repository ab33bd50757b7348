"""`minifcn demo`: handwriting classified, and then labelled pixel by pixel.

A classifier learns handwritten digits. Its dense layers become convolutions, so it scores every position of a
canvas. It becomes an FCN that labels every pixel, at three strides, each starting from the coarser one.
With few labelled canvases, a network from the classifier is compared with one from scratch.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifcn import viz
from minifcn.backend import cuda_device, to_device, to_numpy
from minifcn.cli.figures import save_figure, save_strips
from minifcn.cli.outputs import output_folder
from minifcn.cli.shared import add_device
from minifcn.data import Dataset, DigitCanvases, DigitCrops, Loader
from minifcn.dense import convolutionalize
from minifcn.functional import softmax
from minifcn.geometry import check_integer
from minifcn.layers import Sequential
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier
from minifcn.optim import Adam, Cosine
from minifcn.printing import show
from minifcn.training import evaluate, fit, label
from minifcn.weights import load, save

GREY = Preprocessing("L", mean=(150.0,), std=(54.0,))  # about the mean and standard deviation of a canvas

CROPS = 14  # crops of each handwritten digit for the classifier, each on another background
CANVASES = {8: 300, 4: 400, 2: 700}  # labelled canvases for training at each stride
UNSEEN = 60  # canvases of other digits, for evaluation
FEW, FEW_EPOCHS = 40, 8  # labelled canvases for the comparison, and epochs
SCORE_RATE = 3.0  # factor of the learning rate of score layers, which begin at zero

MODEL = "digits-fcn.safetensors"
FIGURES = ("heat-maps.png", "predictions.png", "strides.png", "confusion-matrix.png")
STARTS = ("from the classifier", "from scratch")
LOGS = tuple(
    f"{name.replace(' ', '-')}.jsonl"
    for name in ("classifier", *(f"stride {stride}" for stride in CANVASES), *STARTS)
)


@dataclass(frozen=True)
class Demo:
    """The options, and the steps that several parts of the demo share."""

    seed: int
    out: Path
    device: str

    def draw(self, figure: Any, name: str) -> None:
        """Write a figure to the folder."""
        save_figure(figure, self.out / name)
        show(f"  drew {self.out / name}")

    def train(
        self, model: Classifier | FCN, data: Dataset, name: str, *, batch: int = 2, epochs: int = 1
    ) -> None:
        """Train with Adam, a warm-up, and a cosine down to zero; score layers with a larger learning rate."""
        for layer in model.score_layers() if isinstance(model, FCN) else ():
            for parameter in layer.parameters():
                parameter.lr_multiplier = SCORE_RATE
        loader = Loader(data, batch, preprocess=GREY, shuffle=True, seed=self.seed)
        schedule = Cosine(epochs * len(loader), warmup_steps=20)
        log = self.out / f"{name.replace(' ', '-')}.jsonl"
        adam = Adam(model, lr=2e-3)
        fit(model, loader, adam, epochs=epochs, schedule=schedule, log=log, progress=f"  {name}")

    def score(self, model: Classifier | FCN, data: Dataset) -> ConfusionMatrix:
        """Evaluate a network on a dataset."""
        return evaluate(model, Loader(data, 10, preprocess=GREY, seed=0), progress="  evaluating")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = "Trains on real handwriting for about two minutes, without GPU and internet."
    parser.add_argument("--seed", type=int, default=0, help="integer >= 0; equal seeds give equal results")
    out = "folder for figures, logs and the model; files of an earlier run are replaced"
    parser.add_argument("--out", type=Path, default=Path("minifcn-demo"), help=out)
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    check_integer(arguments.seed, "seed", 0)
    cuda_device(arguments.device)
    demo, started = Demo(arguments.seed, arguments.out, arguments.device), time.perf_counter()
    with output_folder(demo.out) as folder:
        folder.check(*FIGURES, MODEL)
        folder.remove(*LOGS)  # of an earlier run
        classifier = _classifier(demo)
        _heat_maps(demo, classifier)
        _strides(demo, classifier)
        _few_labels(demo, classifier)
    show("", f"Done in {time.perf_counter() - started:.0f} s. Figures, logs and model: {demo.out.resolve()}")


def _classifier(demo: Demo) -> Classifier:
    """Train the classifier on crops with one digit each."""
    show("1. A classifier recognises digits")
    crops = DigitCrops("train", seed=demo.seed, repeats=CROPS)
    classifier = digit_classifier(rng=demo.seed).to(demo.device)
    classifier.info = ModelInfo(crops.class_names, GREY)
    demo.train(classifier, crops, "classifier", batch=32)
    unseen = DigitCrops("test", seed=demo.seed, repeats=2)
    accuracy = demo.score(classifier, unseen).pixel_accuracy()
    show(f"  {accuracy:.1%} right on {len(unseen)} crops of unseen digits")
    return classifier


def _heat_maps(demo: Demo, classifier: Classifier) -> None:
    """Score every position of a canvas: the dense layers become convolutions."""
    show("2. As convolutions, it also locates them")
    sliding = convolutionalize(classifier, classifier.input_shape)
    crops = DigitCrops("test", seed=demo.seed)
    x = to_device(GREY(np.stack([crops[i][0] for i in range(100)])), demo.device)
    difference = float(abs(classifier(x) - sliding(x)[:, :, 0, 0]).max())
    show(f"  dense and convolutional scores of 100 crops differ by {difference:.1e} at most")

    canvas, labels = DigitCanvases("test", 1, size=(128, 256), digits_per_canvas=14, seed=demo.seed)[0]
    started = time.perf_counter()
    scores = to_numpy(softmax(sliding(to_device(GREY(canvas[None]), demo.device)))[0])
    milliseconds = 1e3 * (time.perf_counter() - started)
    show(f"  a canvas of 128 x 256: {scores[0].size} positions scored in {milliseconds:.0f} ms")
    digits = [int(k) - 1 for k in np.unique(labels) if 1 <= k <= 10][:6]
    names, extent = crops.class_names, _extent(sliding, scores.shape[1:])
    figure = viz.heat_maps(canvas, scores, names, classes=digits, extent=extent, label="probability")
    demo.draw(figure, "heat-maps.png")


def _extent(network: Sequential, size: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return the outer edges (left, right, bottom, top) of a network's score cells in the image."""
    position = network.coordinate_map()
    half = position.scale / 2
    bottom, right = (float(position(cells - 1) + half) for cells in size)
    start = float(position(0) - half)
    return start, right, bottom, start


def _strides(demo: Demo, classifier: Classifier) -> None:
    """Label every pixel, from coarse to fine."""
    show("3. A fully convolutional network labels every pixel")
    unseen = DigitCanvases("test", UNSEEN, seed=demo.seed)
    fcn = FCN(classifier, len(unseen.class_names), stride=max(CANVASES)).to(demo.device)
    fcn.info = ModelInfo(unseen.class_names, GREY)
    image, labels = DigitCanvases("test", 1, size=(96, 144), digits_per_canvas=8, seed=demo.seed)[0]
    rows, predictions, seen = [], [], 0
    for stride, count in CANVASES.items():
        if stride < fcn.stride:
            fcn = fcn.finer()
        canvases = DigitCanvases("train", count, seed=demo.seed + seen)
        seen += count
        demo.train(fcn, canvases, f"stride {stride}")
        matrix = demo.score(fcn, unseen)
        rows.append((f"stride {stride}, {seen} canvases", matrix))
        predictions.append(label(fcn, image))
    _print_table(rows)

    path = demo.out / MODEL
    save(fcn, path)
    show(f"  wrote {path}")
    save_strips(unseen, range(3), load(path).to(demo.device), demo.out / "predictions.png")
    show(f"  drew {demo.out / 'predictions.png'}")
    names, titles = unseen.class_names, [f"stride {stride}" for stride in CANVASES]
    images, truths = [image] * len(rows), [labels] * len(rows)
    strips = viz.prediction_strips(images, truths, predictions, names, unseen.palette, row_names=titles)
    demo.draw(strips, "strides.png")
    demo.draw(viz.confusion_matrix(rows[-1][1].matrix, names), "confusion-matrix.png")


def _few_labels(demo: Demo, classifier: Classifier) -> None:
    """Compare a network from the classifier with one from scratch."""
    show(f"4. With {FEW} labelled canvases only")
    few = DigitCanvases("train", FEW, seed=demo.seed + 10_000)
    unseen = DigitCanvases("test", UNSEEN, seed=demo.seed)
    rows = []
    for name, start in zip(STARTS, (classifier, digit_classifier(rng=demo.seed + 1)), strict=True):
        fcn = FCN(start, len(few.class_names), stride=min(CANVASES)).to(demo.device)
        demo.train(fcn, few, name, epochs=FEW_EPOCHS)
        rows.append((name, demo.score(fcn, unseen)))
    _print_table(rows)


def _print_table(rows: list[tuple[str, ConfusionMatrix]]) -> None:
    """Print the four metrics of several networks."""
    show(f"  {'':24}pixel acc.  mean acc.   mean IoU   f.w. IoU")
    for name, matrix in rows:
        four = list(matrix.summary().values())[:4]
        show(f"  {name:24}" + " ".join(f"{number:10.3f}" for number in four))
