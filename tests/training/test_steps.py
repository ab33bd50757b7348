"""A step of `fit`: accumulation, reductions, class weights, and divergence."""

import numpy as np
import pytest

from minifcn.data import Loader
from minifcn.losses import softmax_cross_entropy
from minifcn.models import FCN, digit_classifier
from minifcn.optim import SGD, Poly
from minifcn.training import Callback, Checkpoints, DivergedError, fit, predict
from minifcn.training.checkpoint import Checkpoint
from minifcn.training.network import set_dropout
from tests.training.small import GREY, Blobs, digits, parts


class Waits(Callback):
    """Counts how often each step has waited for the GPU."""

    def __init__(self, ndarray):
        self.ndarray, self.counts = ndarray, []

    def start(self, training):
        self.before = self.ndarray.waits

    def step(self, training):
        self.counts.append(self.ndarray.waits - self.before)
        self.before = self.ndarray.waits


@pytest.mark.parametrize("class_weights", [None, [1.0, 3.0]])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_step_waits_for_the_gpu_once(strict, kind, class_weights):
    """For its loss, which is checked and shown."""
    model, loader, optimizer = parts(kind=kind)
    waits = Waits(strict.module.ndarray)
    fit(model.to("cuda"), loader, optimizer, class_weights=class_weights, progress=None, callbacks=[waits])
    assert waits.counts == [1] * len(loader)


def test_a_prediction_waits_for_nothing(strict):
    model, x = digits().to("cuda").eval(), strict.array(np.zeros((1, 1, 20, 24), np.float32))
    before = strict.module.ndarray.waits
    predict(model, x)
    assert strict.module.ndarray.waits == before


class Gradients(Callback):
    """Keeps what each step changed."""

    def start(self, training):
        self.before = self.weights(training)
        self.losses, self.steps, self.rates = [], [], []

    def step(self, training):
        after = self.weights(training)
        self.steps.append({name: self.before[name] - after[name] for name in after})
        self.losses.append(training.loss)
        self.rates.append(training.optimizer.lr)
        self.before = after

    @staticmethod
    def weights(training):
        return {name: p.data.astype(np.float64) for name, p in training.model.named_parameters()}


def network():
    """A network whose scores are not zero, for nothing behind them would learn, and without dropout."""
    model = digits()
    for layer in model.score_layers():
        layer.weight.data[...] = np.random.default_rng(0).normal(0, 0.05, layer.weight.data.shape)
    set_dropout(model, 0.0)
    return model


def steps(batch_size, accumulate, reduction="mean", class_weights=None, lr=1e-2, length=6):
    model = network()
    optimizer = SGD(model, lr)
    loader = Loader(Blobs(length), batch_size, preprocess=GREY, workers=0)
    watch = Gradients()
    options = {"reduction": reduction, "class_weights": class_weights, "accumulate": accumulate}
    records = fit(model, loader, optimizer, progress=None, callbacks=[watch], **options)
    return watch, records[0]


def agree(one, other):
    assert len(one.steps) == len(other.steps)
    for a, b in zip(one.steps, other.steps, strict=True):
        for name in a:
            scale = np.abs(b[name]).max()
            assert np.abs(a[name] - b[name]).max() <= 2e-3 * scale, name  # float32 differences of weights
        assert sum(np.abs(change).max() > 0 for change in b.values()) > len(b) / 2
    assert one.losses == pytest.approx(other.losses, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
@pytest.mark.parametrize("class_weights", [None, [0.3, 2.0]])
def test_accumulated_batches_make_the_step_of_one_large_batch(reduction, class_weights):
    lr = {"mean": 1e-2, "sum": 1e-5, "batch": 1e-5}[reduction]
    large, record = steps(3, 1, reduction, class_weights, lr)
    small, other = steps(1, 3, reduction, class_weights, lr)
    agree(small, large)
    assert other["loss"] == pytest.approx(record["loss"], rel=1e-5)
    assert other["step"] == record["step"] == 2


def test_the_mean_of_means_would_give_another_step():
    """So the test above can fail: images with few labels would count as much as images with many."""
    large, _ = steps(6, 1)
    model = network()
    gradients = []
    for image, labels in (Blobs()[i] for i in range(6)):
        _, dscores = softmax_cross_entropy(model.eval()(GREY(image[None])), labels[None])
        gradients.append(dscores.sum(axis=(0, 2, 3)))
    mean_of_means = 1e-2 * np.mean(gradients, axis=0)
    change = large.steps[0]["score.bias"]
    assert np.abs(change - mean_of_means).max() > 0.02 * np.abs(change).max()


def test_remaining_batches_make_a_smaller_step():
    watch, record = steps(1, 4, length=6)
    rest, _ = steps(1, 2, length=2)
    assert record["step"] == len(watch.steps) == 2
    assert len(rest.steps) == 1


@pytest.mark.parametrize("reduction", ["mean", "sum", "batch"])
def test_the_recorded_loss_is_the_mean_over_pixels_for_every_reduction(reduction):
    """At a learning rate of zero, it is the mean over the dataset."""
    watch, record = steps(2, 1, reduction, lr=0.0)
    model = network()
    total, pixels = 0.0, 0
    for i in range(6):
        image, labels = Blobs()[i]
        loss, _ = softmax_cross_entropy(model.eval()(GREY(image[None])), labels[None], reduction="sum")
        total, pixels = total + loss, pixels + (labels != 255).sum()
    assert record["loss"] == pytest.approx(total / pixels, rel=1e-6)
    assert watch.losses[0] == pytest.approx(record["loss"], rel=0.2)


def test_an_image_without_labels_changes_nothing_and_does_not_count():
    class Void(Blobs):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            return image, labels if index else np.full_like(labels, 255)

    model = digits()
    optimizer = SGD(model, 0.1)
    watch = Gradients()
    loader = Loader(Void(2), 1, preprocess=GREY, workers=0)
    [record] = fit(model, loader, optimizer, progress=None, callbacks=[watch])
    assert all((change == 0).all() for change in watch.steps[0].values())
    assert watch.losses[0] == 0
    assert record["loss"] == watch.losses[1] == pytest.approx(np.log(2))


def test_the_schedule_counts_steps_not_batches():
    model, loader, optimizer = parts(digits, batch_size=1)
    watch = Gradients()
    options = {"schedule": Poly(6), "accumulate": 3, "progress": None, "callbacks": [watch]}
    fit(model, loader, optimizer, epochs=2, **options)
    assert watch.rates == pytest.approx([0.05 * (1 - i / 6) ** 0.9 for i in range(6)])


def test_callbacks_are_called_in_order():
    calls = []

    class Name(Callback):
        def __init__(self, name):
            self.name = name

        def start(self, training):
            calls.append(f"start {self.name}")

        def step(self, training):
            calls.append(f"step {self.name}{training.step}")

        def epoch(self, training):
            calls.append(f"epoch {self.name}{len(training.records)}")

    model, loader, optimizer = parts(digits, batch_size=4)
    fit(model, loader, optimizer, progress=None, callbacks=[Name("a"), Name("b")])
    assert calls == ["start a", "start b", "step a1", "step b1", "step a2", "step b2", "epoch a1", "epoch b1"]


def test_records_contain_each_class_by_name():
    model, loader, optimizer = parts(digits)
    validation = Loader(Blobs(3, seed=1), 1, preprocess=GREY)
    [record] = fit(model, loader, optimizer, validation=validation, progress=None)
    assert record["iou"].keys() == {"ground", "blob"}
    assert record["images_per_second"] > 0


def test_exactly_255_classes():
    """Class 254 is the last one that labels can have: it is learned and weighted, and 255 is void."""

    class Many(Blobs):
        class_names = tuple(map(str, range(255)))

        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            labels[labels == 1] = 254
            return image, labels

    weights = np.ones(255)
    weights[254] = 3.0
    losses = []
    for accumulate in (1, 2):
        model = FCN(digit_classifier(rng=0), 255, 8)
        set_dropout(model, 0.0)
        loader = Loader(Many(2), 2 // accumulate, preprocess=GREY, workers=0)
        validation = Loader(Many(2), 1, preprocess=GREY, workers=0)
        [record] = fit(
            model,
            loader,
            SGD(model, 0.1),
            class_weights=weights,
            accumulate=accumulate,
            validation=validation,
            progress=None,
        )
        losses.append(record["loss"])
        assert model.score.bias.data[254] > max(0, model.score.bias.data[1:254].max())
        assert record["pixels"] == sum((Many(2)[i][1] != 255).sum() for i in range(2))
    assert losses == pytest.approx([np.log(255)] * 2, rel=1e-5)  # the weighted mean over all labelled pixels


# Errors

RUNAWAY = pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")


@RUNAWAY
def test_weights_that_are_not_finite_are_neither_evaluated_nor_saved(tmp_path):
    """The step that breaks them is the last of an epoch, and its loss is still finite."""

    class Break(Callback):
        def step(self, training):
            if training.step == 6:
                training.model.score.bias.data[0] = np.inf

    model, loader, optimizer = parts(digits, batch_size=3)
    keep = Checkpoints(tmp_path / "last", every_steps=1)
    options = {"epochs": 3, "progress": None, "validation": Loader(Blobs(2), 1, preprocess=GREY)}
    with pytest.raises(DivergedError, match=r"step 6, learning rate 5\.00e-02: score\.bias "):
        fit(model, loader, optimizer, **options, callbacks=[Break(), keep])
    stands = Checkpoint.read(tmp_path / "last")
    assert stands.entries["step"] == 5
    assert all(np.isfinite(array).all() for array in stands.part("model").values())


@RUNAWAY
def test_divergence_suggests_a_smaller_rate():
    model, loader, optimizer = parts(digits)
    optimizer.lr = 1e25
    with pytest.raises(DivergedError, match=r"learning rate 1\.00e\+25: .* 1\.0e\+24$"):
        fit(model, loader, optimizer, epochs=3, progress=None)


def test_wrong_labels_are_not_divergence():
    class Wrong(Blobs):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            return image, labels * 0 + 7

    model, _, optimizer = parts(digits)
    loader = Loader(Wrong(2), 1, preprocess=GREY)
    with pytest.raises(ValueError, match="step 0: labels must be") as raised:
        fit(model, loader, optimizer, progress=None)
    assert not isinstance(raised.value, DivergedError)
