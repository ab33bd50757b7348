"""Small model files, whole and changed."""

from safetensors import safe_open
from safetensors.numpy import save_file

from minifcn import save
from minifcn.layers import Conv2d, Dropout, Linear, MaxPool2d, ReLU, Sequential
from minifcn.models import Classifier, ModelInfo, Preprocessing, digit_classifier

GREY = Preprocessing("L", (127.5,), (63.25,))


def small(num_classes=3, seed=0):
    """The smallest registered network, with weights, names and colours of its own."""
    model = digit_classifier(num_classes, rng=seed)
    names = ("nothing", "naïve “quotes”", "日本\n")[:num_classes]
    model.info = ModelInfo(names, GREY, ((0, 0, 0), (255, 128, 1), (9, 9, 9))[:num_classes])
    return model


def tiny():
    """A classifier of 119 parameters, for tests that write many files."""
    features = Sequential(Conv2d(1, 2, 3, padding=1, rng=0), ReLU(), MaxPool2d(2))
    scores = Sequential(Dropout(0.5, rng=0), Linear(2 * 4 * 4, 3, rng=1))
    model = Classifier(features, scores, input_shape=(1, 8, 8))
    model.info = ModelInfo(("a", "b", "c"), GREY)
    return model


def contents(path):
    """Return tensors and metadata of a file, to be changed and written again."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def equal(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(
        array.dtype == theirs[name].dtype and array.tobytes() == theirs[name].tobytes()
        for name, array in ours.items()
    )


def header_size(path):
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def rewritten(path, change):
    """Write a small model file in which something was changed."""
    save(small(), path)
    tensors, metadata = contents(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)
