"""Predicted peaks of memory are compared with what NumPy allocates."""

import gc
import tracemalloc

import numpy as np
import pytest

from minifcn.kernels.threads import num_threads, set_num_threads
from minifcn.kernels.workspace import _thread
from minifcn.losses import softmax_cross_entropy
from minifcn.models import (
    FCN,
    alexnet,
    build,
    caffenet,
    digit_classifier,
    explain,
    googlenet,
    squeezenet1_0,
    squeezenet1_1,
    vgg16,
)
from minifcn.optim import SGD, Adam
from tests.models.trunks import normal


def measured(make, channels, size, batch, optimizer):
    """Return the peak of inference and of the second training step, as NumPy reports its memory."""
    _thread.__dict__.clear()  # the workspace of this thread; those of the pool are new
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        model = make()
        x = normal((batch, channels, *size)).astype("float32")
        gc.collect()
        tracemalloc.reset_peak()
        model.eval()(x)
        inference = tracemalloc.get_traced_memory()[1] - before
        model.train()
        update = optimizer(dict(model.named_parameters()))
        labels = np.zeros((batch, *size), np.uint8)
        for _ in range(2):
            gc.collect()
            tracemalloc.reset_peak()
            scores = model(x)
            _, dscores = softmax_cross_entropy(scores, labels)
            model.backward_parameters(dscores)
            update.step()
            update.zero_grad()
            training = tracemalloc.get_traced_memory()[1] - before
            del scores, dscores
        return inference, training
    finally:
        tracemalloc.stop()


OPTIMIZERS = {
    "SGD": lambda parameters: SGD(parameters, lr=0.0, momentum=0.9),
    "Adam": lambda parameters: Adam(parameters, lr=0.0),
}
NETWORKS = {
    "digits": (lambda: FCN(digit_classifier(rng=0), 11, 2), (160, 160)),
    "squeezenet1_1": (lambda: FCN(squeezenet1_1(rng=0), 11, 4), (120, 160)),
    "squeezenet1_0-paper": (
        lambda: FCN(squeezenet1_0(rng=0), 11, 8, alignment="paper", at_once=True),
        (90, 100),
    ),
    "squeezenet1_0-frozen": (lambda: FCN(squeezenet1_0(rng=0), 11, 4).freeze_trunk(), (120, 160)),
    "googlenet": (lambda: FCN(googlenet(rng=0), 5, 16), (96, 96)),
    "resnet18": (lambda: FCN(build("resnet18", rng=0), 5, 4), (96, 96)),
    "mobilenet_v2": (lambda: FCN(build("mobilenet_v2", rng=0), 5, 8), (96, 128)),
    "alexnet": (lambda: FCN(alexnet(rng=0), 5), (96, 96)),
    "caffenet-paper": (lambda: FCN(caffenet(rng=0), 5, alignment="paper"), (32, 32)),
    "vgg16": (lambda: FCN(vgg16(rng=0), 21, 8), (96, 96)),
}
EVERY_DAY = [("digits", "SGD", 2), ("squeezenet1_1", "Adam", 1), ("squeezenet1_0-frozen", "SGD", 1)]
CASES = [(name, *rest) for name in NETWORKS for rest in (("SGD", 1), ("SGD", 2), ("Adam", 1))]


@pytest.mark.parametrize(
    ("name", "optimizer", "threads"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in EVERY_DAY)) for case in CASES],
)
def test_a_peak_is_never_above_the_forecast_nor_far_below(name, optimizer, threads):
    make, size = NETWORKS[name]
    channels = 1 if name == "digits" else 3
    before = num_threads()
    set_num_threads(threads)
    try:
        inference, training = measured(make, channels, size, 2, OPTIMIZERS[optimizer])
        total = explain(make(), size, batch=2).total
    finally:
        set_num_threads(before)
    far = 1.5 if threads == 1 else 2.2  # a busy machine may run the threads one after the other
    assert 1 <= total.inference_bytes / inference < far
    assert 1 <= total.training_bytes[optimizer] / training < far
