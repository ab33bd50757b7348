import numpy as np
import pytest

from minifcn.layers import Dropout
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from minifcn.training.network import COLOUR, GREY, check_classes, fcn_from, set_dropout, trained
from minifcn.weights import save
from tests.training.small import Blobs


class Named(Blobs):
    def __init__(self, *names):
        super().__init__()
        self.class_names = names
        self.palette = np.arange(3 * len(names), dtype=np.uint8).reshape(-1, 3)


def test_a_classifier_becomes_a_network_for_the_dataset():
    classifier = digit_classifier(rng=0)
    classifier.info = ModelInfo(tuple("0123456789"), Preprocessing("L", (7.0,), (3.0,)))
    fcn = fcn_from(classifier, Blobs())
    assert (fcn.stride, fcn.num_classes, fcn.alignment, fcn.upsampling, fcn.at_once) == (
        2,
        2,
        "exact",
        "fixed",
        False,
    )
    assert fcn.info.class_names == ("ground", "blob")
    assert fcn.info.preprocessing == classifier.info.preprocessing
    assert fcn.info.colors == ((0, 0, 0), (255, 0, 0))
    assert np.array_equal(fcn.features[0].weight.data, classifier.features[0].weight.data)


def test_without_a_recipe_images_are_normalised():
    fcn = fcn_from(
        digit_classifier(rng=0), Blobs(), stride=8, upsampling="learned", alignment="paper", at_once=True
    )
    assert fcn.info.preprocessing == GREY
    assert (fcn.stride, fcn.alignment, fcn.upsampling, fcn.at_once) == (8, "paper", "learned", True)
    assert COLOUR.channels == "RGB"


def test_a_trained_network_becomes_finer_and_keeps_its_weights():
    coarse = fcn_from(digit_classifier(rng=0), Blobs(), stride=8)
    coarse.score.weight.data[...] = 3
    fine = fcn_from(coarse, Blobs(), stride=2)
    assert (fine.stride, list(fine.skips.parts)) == (2, ["4", "2"])
    assert (fine.score.weight.data == 3).all()
    assert fcn_from(coarse, Blobs()).stride == 8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stride": 8}, "the trained network has stride 4, it cannot become coarser: 8"),
        ({"stride": 3}, "stride 3 is none that this network offers; the next finer is 2"),
        ({"alignment": "paper"}, "the trained network has alignment = exact, so it cannot become paper"),
        ({"upsampling": "learned"}, "the trained network has upsampling = fixed"),
        ({"at_once": True}, "the trained network has at_once = False, so it cannot become True"),
    ],
)
def test_what_a_trained_network_cannot_become(options, sentence):
    fcn = fcn_from(digit_classifier(rng=0), Blobs(), stride=4)
    with pytest.raises(ValueError, match=sentence):
        fcn_from(fcn, Blobs(), **options)


def test_a_trained_network_is_read_and_nothing_else(tmp_path):
    fcn = fcn_from(digit_classifier(rng=0), Blobs())
    save(fcn, tmp_path / "model.safetensors")
    model, info = trained(tmp_path / "model.safetensors")
    assert info == model.info == fcn.info
    with pytest.raises(
        IsADirectoryError, match=r"is a folder: give a file in it, such as .*model\.safetensors"
    ):
        trained(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"there is no file .*/a: a training writes its model to model"
    ):
        trained(tmp_path / "a")
    classifier = digit_classifier(2, rng=0)
    classifier.info = fcn.info
    save(classifier, tmp_path / "classifier")
    with pytest.raises(
        ValueError, match=r"is a classifier: .*; minifcn train --from .*classifier makes a net"
    ):
        trained(tmp_path / "classifier")


def test_classes_are_compared():
    info = ModelInfo(("ground", "blob"), GREY)
    assert check_classes(info, Blobs()) is None
    assert check_classes(None, Blobs()) is None
    word = check_classes(info, Named("blob", "ground"))
    assert word == "class 0 is 'ground' for the network and 'blob' for the dataset (2 of 2 names differ)"
    with pytest.raises(
        ValueError, match=r"the network has 2 classes \(ground, blob\), the dataset 5 \(a, b, c, d, …\)"
    ):
        check_classes(info, Named(*"abcde"))
    trained = fcn_from(digit_classifier(rng=0), Blobs())
    with pytest.raises(ValueError, match="2 classes"):
        fcn_from(trained, Named(*"abc"))


def test_dropout_follows_from_the_seed():
    def draws(seed, probability=None):
        fcn = FCN(digit_classifier(rng=0), 2)
        set_dropout(fcn, probability, seed)
        [dropout] = [layer for layer in fcn.layers() if isinstance(layer, Dropout)]
        return dropout.p, dropout.rng.random(3).tolist()

    assert draws(1) == draws(1)
    assert draws(1)[1] != draws(2)[1]
    assert (draws(1)[0], draws(1, 0.5)[0], draws(1, 0.0)[0]) == (0.2, 0.5, 0.0)
    with pytest.raises(ValueError, match="p must be a probability"):
        draws(1, 1.5)


def test_no_dropout_to_set():
    fcn = FCN(digit_classifier(rng=0), 2)
    parts = fcn.head.parts
    for name in [name for name, layer in parts.items() if isinstance(layer, Dropout)]:
        del parts[name]
    set_dropout(fcn, None, 0)
    set_dropout(fcn, 0.0, 0)
    with pytest.raises(ValueError, match="no dropout layer"):
        set_dropout(fcn, 0.5, 0)
