"""`minifcn demo`: handwriting classified, and then labelled pixel by pixel.

A classifier learns handwritten digits. Its dense layers become convolutions, so it scores every place of a
canvas. It becomes a fully convolutional network that labels every pixel, at three strides, each finer one
begun from the one before. And with few labelled canvases it shows what starting from a classifier is worth.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifcn import viz
from minifcn.backend import Array, cuda_device, to_device, to_numpy
from minifcn.convolutionalize import convolutionalize
from minifcn.data import Dataset, DigitCanvases, DigitCrops, Loader
from minifcn.files import atomic_write
from minifcn.functional import softmax
from minifcn.layers import Sequential
from minifcn.metrics import ConfusionMatrix
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier
from minifcn.optim import Adam, Cosine
from minifcn.training import evaluate, fit, predict
from minifcn.weights import load, save

GREY = Preprocessing("L", mean=(150.0,), std=(54.0,))  # about the mean and deviation of a canvas

CROPS = 14  # times that the classifier sees each handwritten digit, on another ground each time
CANVASES = {8: 300, 4: 400, 2: 700}  # labelled canvases that the network learns from at each stride
UNSEEN = 60  # canvases of unseen digits that it is scored on
FEW, FEW_EPOCHS = 40, 8  # labelled canvases for the comparison, and how often they are seen
SCORE_RATE = 3.0  # score layers begin at zero: they learn faster than what the classifier knows already


@dataclass(frozen=True)
class Demo:
    """What all parts of the demo share."""

    seed: int
    out: Path
    device: str

    def picture(self, figure: Any, name: str) -> None:
        """Write a figure to the folder."""
        with atomic_write(self.out / name) as temporary:
            figure.savefig(temporary)
        print(f"  drew {self.out / name}")

    def train(
        self, model: Classifier | FCN, data: Dataset, batch_size: int, name: str, epochs: int = 1
    ) -> None:
        """Train with Adam, a warm start, and a cosine down to zero."""
        loader = Loader(data, batch_size, preprocess=GREY, shuffle=True, seed=self.seed)
        steps = epochs * len(loader)
        fit(
            model,
            loader,
            Adam(dict(model.named_parameters()), lr=2e-3),
            epochs=epochs,
            schedule=Cosine(steps, warmup_steps=20),
            log=self.out / f"{name.replace(' ', '-')}.jsonl",
            progress=f"  {name}",
        )

    def train_fcn(self, fcn: FCN, data: Dataset, name: str, epochs: int = 1) -> None:
        """Train a network that labels pixels."""
        for layer in fcn.score_layers():
            for parameter in layer.parameters():
                parameter.lr_multiplier = SCORE_RATE
        self.train(fcn, data, batch_size=2, name=name, epochs=epochs)

    def score(self, model: Classifier | FCN, data: Dataset) -> ConfusionMatrix:
        """Count a network's predictions on a dataset."""
        return evaluate(model, Loader(data, 10, preprocess=GREY), progress="  scoring")

    def predict(self, model: Classifier | FCN, image: Array) -> Array:
        """Return the class of each pixel of one image, on the CPU."""
        labels: Array = to_numpy(predict(model, to_device(GREY(image[None]), self.device)))[0]
        return labels


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="handwriting: classifier, heat maps, FCN at three strides, metrics, pictures",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains on real handwriting for about two minutes; needs no GPU and no network.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="whole number; the same seed gives the same result"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("minifcn-demo"),
        help="folder for pictures, logs and the model; files of an earlier run are replaced",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    if arguments.seed < 0:
        raise ValueError(f"--seed must be an integer >= 0, got {arguments.seed}")
    cuda_device(arguments.device)  # refuses an unknown one before anything is done
    _check_folder(arguments.out)
    demo = Demo(arguments.seed, arguments.out, arguments.device)
    for log in demo.out.glob("*.jsonl"):
        log.unlink()  # of an earlier run
    started = time.perf_counter()

    classifier = _classifier(demo)
    _heat_maps(demo, classifier)
    _strides(demo, classifier)
    _few_labels(demo, classifier)
    print(f"\nDone in {time.perf_counter() - started:.0f} s. Pictures, logs and model: {demo.out.resolve()}")


def _classifier(demo: Demo) -> Classifier:
    """Train the classifier on crops with one digit each."""
    print("1. A classifier says what")
    crops = DigitCrops("train", seed=demo.seed, repeats=CROPS)
    classifier = digit_classifier(rng=demo.seed).to(demo.device)
    classifier.info = ModelInfo(crops.class_names, GREY)
    demo.train(classifier, crops, batch_size=32, name="classifier")
    unseen = DigitCrops("test", seed=demo.seed, repeats=2)
    accuracy = demo.score(classifier, unseen).pixel_accuracy()
    print(f"  {accuracy:.1%} right on {len(unseen)} crops of unseen digits")
    return classifier


def _heat_maps(demo: Demo, classifier: Classifier) -> None:
    """Let the classifier slide: its dense layers become convolutions."""
    print("2. As convolutions it says where, too")
    sliding = convolutionalize(classifier, classifier.input_shape)
    crops = DigitCrops("test", seed=demo.seed)
    x = to_device(GREY(np.stack([crops[i][0] for i in range(100)])), demo.device)
    difference = float(abs(classifier(x) - sliding(x)[:, :, 0, 0]).max())
    print(f"  dense and convolutional scores of 100 crops differ by {difference:.1e} at most")

    canvas, labels = DigitCanvases("test", 1, size=(128, 256), digits_per_canvas=14, seed=demo.seed)[0]
    started = time.perf_counter()
    scores = to_numpy(softmax(sliding(to_device(GREY(canvas[None]), demo.device)))[0])
    places = scores[0].size
    print(
        f"  a canvas of 128 x 256: {places} places scored in {1e3 * (time.perf_counter() - started):.0f} ms"
    )
    digits = [int(label) - 1 for label in np.unique(labels) if 1 <= label <= 10][:6]
    extent = _extent(sliding, scores.shape[1:])
    figure = viz.heat_maps(
        canvas, scores, crops.class_names, classes=digits, extent=extent, label="probability"
    )
    demo.picture(figure, "heat-maps.png")


def _extent(network: Sequential, size: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return the outer edges (left, right, bottom, top) of a network's score cells in its picture."""
    position = network.coordinate_map()
    half = position.scale / 2
    bottom, right = (float(position(cells - 1) + half) for cells in size)
    start = float(position(0) - half)
    return start, right, bottom, start


def _strides(demo: Demo, classifier: Classifier) -> None:
    """Label every pixel, from coarse to fine."""
    print("3. A fully convolutional network labels every pixel")
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
        demo.train_fcn(fcn, canvases, f"stride {stride}")
        matrix = demo.score(fcn, unseen)
        rows.append((f"stride {stride}, {seen} canvases", matrix))
        predictions.append(demo.predict(fcn, image))
    _print_table(rows)

    path = demo.out / "digits-fcn.safetensors"
    save(fcn, path)
    print(f"  wrote {path}")
    names, colors = unseen.class_names, unseen.palette
    loaded = load(path)
    shown = [unseen[i] for i in range(3)]
    strips = viz.prediction_strips(
        [image for image, _ in shown],
        [labels for _, labels in shown],
        [demo.predict(loaded.to(demo.device), image) for image, _ in shown],
        names,
        colors,
    )
    demo.picture(strips, "predictions.png")
    strips = viz.prediction_strips(
        [image] * len(rows),
        [labels] * len(rows),
        predictions,
        names,
        colors,
        row_names=[f"stride {stride}" for stride in CANVASES],
    )
    demo.picture(strips, "strides.png")
    demo.picture(viz.confusion_matrix(rows[-1][1].matrix, names), "confusion-matrix.png")


def _few_labels(demo: Demo, classifier: Classifier) -> None:
    """Compare starting from the classifier with starting from workspace."""
    print(f"4. With {FEW} labelled canvases only")
    few = DigitCanvases("train", FEW, seed=demo.seed + 10_000)
    unseen = DigitCanvases("test", UNSEEN, seed=demo.seed)
    starts = {"from the classifier": classifier, "from workspace": digit_classifier(rng=demo.seed + 1)}
    rows = []
    for name, start in starts.items():
        fcn = FCN(start, len(few.class_names), stride=min(CANVASES)).to(demo.device)
        demo.train_fcn(fcn, few, name, FEW_EPOCHS)
        rows.append((name, demo.score(fcn, unseen)))
    _print_table(rows)


def _print_table(rows: list[tuple[str, ConfusionMatrix]]) -> None:
    """Print the four metrics of several networks."""
    print(f"  {'':24}pixel acc.  mean acc.   mean IoU   f.w. IoU")
    for name, matrix in rows:
        numbers = (
            matrix.pixel_accuracy(),
            matrix.mean_accuracy(),
            matrix.mean_iou(),
            matrix.frequency_weighted_iou(),
        )
        print(f"  {name:24}" + " ".join(f"{number:10.3f}" for number in numbers))


def _check_folder(out: Path) -> None:
    """Make the folder, and see that it can be written to, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"--out {out} cannot be written to: {error.strerror or error}") from error
