import json

import numpy as np
import pytest

from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.models import FCN, Preprocessing, digit_classifier
from minifcn.optim import SGD, Adam, Poly
from minifcn.training import Callback, evaluate, fit, predict
from tests.training.small import Blobs

GREY = Preprocessing("L", (150.0,), (54.0,))


def crops(**options):
    return Loader(DigitCrops("validation"), 50, preprocess=GREY, shuffle=True, **{"seed": 0, **options})


def adam(model, lr=2e-3):
    return Adam(model, lr)


def test_a_few_canvases_are_learned():
    """Loader, loss, backward and optimiser in one test."""
    canvases = DigitCanvases("train", 2, size=(48, 64))
    fcn = FCN(digit_classifier(rng=0), 11, stride=2)
    loader = Loader(canvases, 2, preprocess=GREY)
    records = fit(fcn, loader, adam(fcn, 5e-3), epochs=60, progress=None)
    assert records[0]["loss"] == pytest.approx(
        np.log(11), abs=1e-4
    )  # zero scores: all classes are equally likely
    assert records[-1]["loss"] < 0.1
    assert evaluate(fcn, loader).pixel_accuracy() > 0.97


def test_batches_without_a_loader_are_refused():
    model = digit_classifier(rng=0)
    with pytest.raises(TypeError, match=r"loader must be a minifcn.data.Loader, got list"):
        fit(model, [(np.zeros((1, 1, 32, 32), np.float32), np.zeros(1, np.uint8))], adam(model))


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    def weights(seed):
        model = digit_classifier(rng=0)
        fit(model, crops(seed=seed), adam(model), progress=None)
        return np.concatenate([p.data.ravel() for p in model.parameters()])

    first = weights(0)
    assert np.array_equal(first, weights(0))
    assert not np.array_equal(first, weights(1))


def test_records_and_log(tmp_path):
    model = digit_classifier(rng=0)
    optimizer = SGD(model, 1e-3)
    log = tmp_path / "log.jsonl"
    records = fit(
        model,
        crops(),
        optimizer,
        epochs=2,
        schedule=Poly(8),
        validation=Loader(DigitCrops("validation", seed=1), 99, preprocess=GREY),
        log=log,
        progress=None,
    )
    assert [json.loads(line) for line in log.read_text().splitlines()] == records
    assert [record["epoch"] for record in records] == [1, 2]
    assert [record["step"] for record in records] == [4, 8]
    assert records[1]["lr"] == pytest.approx(1e-3 * (1 - 7 / 8) ** 0.9)
    assert 0 <= records[0]["pixel_accuracy"] <= 1
    assert optimizer.lr == 1e-3  # the base rate is restored
    assert not model.training


def test_classes_without_labelled_pixels_do_not_decide_which_network_is_best():
    """Predictions of class 2, which no label has, lower the IoU of other classes but add no class."""

    class Three(Blobs):
        class_names = ("ground", "blob", "never")

    model = FCN(digit_classifier(rng=0), 3, 2)
    model.skips["2"].weight.data[2, 0] = 1
    [record] = fit(
        model,
        Loader(Three(2), 2, preprocess=GREY),
        adam(model, lr=1e-9),
        validation=Loader(Three(4), 1, preprocess=GREY),
        progress=None,
    )
    matrix = evaluate(model, Loader(Three(4), 1, preprocess=GREY)).matrix
    assert matrix[:, 2].sum() > 0
    ious = [matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]) for k in range(2)]
    assert record["mean_iou"] == pytest.approx(sum(ious) / 2)
    assert record["classes_in_mean_iou"] == 2
    assert record["iou"]["never"] is None


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
def test_divergence_is_an_error_at_once():
    model = digit_classifier(rng=0)
    with pytest.raises(ValueError, match=r"step \d+, learning rate 1\.00e\+30: scores "):
        fit(model, crops(), SGD(model, 1e30), epochs=2, progress=None)


def test_evaluate_counts_every_labelled_pixel_once_and_restores_the_mode():
    canvases = DigitCanvases("test", 5, size=(40, 56))
    fcn = FCN(digit_classifier(rng=0), 11)
    fcn.score.bias.data[3] = 1  # everything is class 3
    matrix = evaluate(fcn, Loader(canvases, 2, preprocess=GREY)).matrix
    labels = np.concatenate([canvases[i][1].ravel() for i in range(5)])
    assert np.array_equal(matrix[:, 3], np.bincount(labels[labels < 255], minlength=11))
    assert matrix.sum() == (labels < 255).sum()
    assert fcn.training


def test_a_thousand_classes_are_distinguished():
    classifier = digit_classifier(1000, rng=0).eval()
    scores = classifier(np.zeros((1, 1, 32, 32), np.float32))
    classifier["classifier"][-1].bias.data[300] = 1 + np.abs(scores).max()
    assert predict(classifier, np.zeros((1, 1, 32, 32), np.float32)).tolist() == [300]


def test_the_loss_is_the_mean_over_the_steps_that_were_made(tmp_path):
    """In a resumed epoch, these are the remaining steps."""
    model, loader = digit_classifier(rng=0), crops()
    loader.load_state_dict(loader.state_dict() | {"batches": len(loader) - 1})
    [record] = fit(model, loader, adam(model, 1e-9), log=str(tmp_path / "log"), progress=None)
    assert record["step"] == 1
    assert record["loss"] == pytest.approx(np.log(10), rel=0.1)


def test_a_log_that_cannot_be_written_is_an_error_before_training(tmp_path):
    model = digit_classifier(init="zeros")
    with pytest.raises(OSError, match="nowhere"):
        fit(model, crops(), adam(model), log=tmp_path / "nowhere" / "log", progress=None)


def test_predict_gives_the_best_class():
    classifier = digit_classifier(rng=3)
    with pytest.raises(ValueError, match="model must be"):
        predict(classifier, np.zeros((1, 1, 32, 32), np.float32))
    classifier.eval()
    x = np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32)
    predictions = predict(classifier, x)
    scores = classifier(x)
    assert predictions.dtype == np.uint8
    assert (scores[np.arange(4), predictions] == scores.max(axis=1)).all()


def test_training_on_a_gpu_agrees_with_the_cpu(gpu):
    """Dataset, loader, FCN with skips, loss, optimiser and metrics."""

    def trained(device):
        loader = Loader(DigitCanvases("train", 3, size=(30, 41)), 2, preprocess=GREY, seed=0)
        fcn = FCN(digit_classifier(rng=0), 11, stride=2).to(device)
        [record] = fit(fcn, loader, adam(fcn), progress=None)
        return record["loss"], evaluate(fcn, loader).matrix, fcn.to("cpu").state_dict()

    loss, matrix, state = trained("cpu")
    # The stand-in has two GPUs; the second one is not current until it is selected.
    gpu_loss, gpu_matrix, gpu_state = trained("cuda:1" if gpu.name == "strict" else "cuda")
    assert gpu_loss == pytest.approx(loss, rel=1e-5)
    assert np.abs(matrix - gpu_matrix).sum() <= 4
    assert all(np.allclose(state[name], gpu_state[name], atol=1e-5) for name in state)


def test_a_callback_can_end_a_training():
    class TwoSteps(Callback):
        def step(self, training):
            if training.step == 2:
                training.epochs = training.epoch + 1

    model = digit_classifier(rng=0)
    records = fit(model, crops(), adam(model), epochs=3, progress=None, callbacks=[TwoSteps()])
    assert len(records) == 1
    assert not model.training
