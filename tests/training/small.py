"""The smallest training in which everything that a checkpoint must hold is at work."""

import numpy as np

from minifcn.data import Loader
from minifcn.layers import BatchNorm2d, Conv2d, Dropout, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier, ModelInfo, Preprocessing, digit_classifier
from minifcn.optim import SGD, Adam, Poly

GREY = Preprocessing("L", (128.0,), (64.0,))


class Blobs:
    """Noisy pictures (20, 24) in which a bright rectangle is class 1, with a void column beside it."""

    class_names = ("ground", "blob")
    palette = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)

    def __init__(self, length=7, seed=0):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(0, 100, (20, 24, 1), np.uint8)
        labels = np.zeros((20, 24), np.uint8)
        top, left = rng.integers(2, 8, 2)
        labels[top : top + 9, left : left + 11] = 1
        image[labels == 1] += 120
        labels[:, left - 1] = 255
        labels[: index * 3] = 255  # images with few labelled pixels, and images with many
        return image, labels


def normed():
    """A network with batch normalisation and dropout; it is in no registry."""
    rng = np.random.default_rng(0)
    features = Sequential(Conv2d(1, 6, 3, padding=1, rng=rng), BatchNorm2d(6), ReLU(), MaxPool2d(2))
    head = Sequential(Conv2d(6, 8, 1, rng=rng), ReLU(), Dropout(0.5, rng=1), Conv2d(8, 2, 1, rng=rng))
    return FCN(
        Classifier(
            features, head, input_shape=(1, 8, 8), taps={}, architecture={"name": "normed", "arguments": {}}
        ),
        2,
    )


def digits():
    fcn = FCN(digit_classifier(rng=0), 2, 2)
    fcn.info = ModelInfo(Blobs.class_names, GREY)
    return fcn


def parts(make=normed, *, kind="sgd", batch_size=2, seed=3, **options):
    """Return model, loader and optimiser."""
    model = make()
    parameters = model
    optimizer = (
        SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-3) if kind == "sgd" else Adam(parameters, 2e-3)
    )
    loader = Loader(Blobs(), batch_size, preprocess=GREY, shuffle=True, seed=seed, workers=0, **options)
    return model, loader, optimizer


def settings(loader, epochs=3, accumulate=1):
    return {
        "epochs": epochs,
        "schedule": Poly(epochs * len(loader)),
        "accumulate": accumulate,
        "validation": Loader(Blobs(3, seed=1), 1, preprocess=GREY, workers=0),
        "progress": None,
    }


def state(model, optimizer):
    """Return every number that training changes, as bytes."""
    arrays = {
        **model.state_dict(),
        **{f"optimizer {k}": v for k, v in optimizer.state_dict().items() if k != "lr"},
    }
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


def timeless(records):
    return [
        {k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in records
    ]
