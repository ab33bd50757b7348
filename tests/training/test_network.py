import numpy as np
import pytest

from minifcn.data import Folder
from minifcn.data.dataset import read_like
from minifcn.layers import Dropout
from minifcn.models import FCN, ModelInfo, Preprocessing, digit_classifier
from minifcn.training.network import GREY, check_classes, fcn_from, in_order_of, load_trained, set_dropout
from minifcn.weights import save
from tests.data.folders import folder
from tests.data.pictures import write
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


def test_a_classifier_without_preprocessing_gets_a_usual_one():
    fcn = fcn_from(
        digit_classifier(rng=0), Blobs(), stride=8, upsampling="learned", alignment="paper", at_once=True
    )
    assert fcn.info.preprocessing == GREY
    assert (fcn.stride, fcn.alignment, fcn.upsampling, fcn.at_once) == (8, "paper", "learned", True)


def test_a_trained_network_becomes_finer_and_keeps_its_weights():
    coarse = fcn_from(digit_classifier(rng=0), Blobs(), stride=8)
    coarse.score.weight.data[...] = 3
    fine = fcn_from(coarse, Blobs(), stride=2)
    assert (fine.stride, list(fine.skips.parts)) == (2, ["4", "2"])
    assert (fine.score.weight.data == 3).all()
    assert fcn_from(coarse, Blobs()).stride == 8


def test_bit_depth_and_bands_of_the_dataset_are_recorded(tmp_path):
    folder(tmp_path, "ab")
    for i, name in enumerate("ab"):
        write(tmp_path / "images" / f"{name}.png", np.full((6, 8), 1000 + 1500 * i, np.uint16))
    dataset = Folder(tmp_path, "train")
    read_like([dataset], 8, (0,))
    fcn = fcn_from(digit_classifier(rng=0), dataset)
    assert (fcn.info.preprocessing.bit_depth, fcn.info.preprocessing.bands) == (12, (0,))
    fcn.info = ModelInfo(fcn.info.class_names, Preprocessing("L", (7.0,), (3.0,), bit_depth=14))
    assert fcn_from(fcn, dataset).info.preprocessing.bit_depth == 14  # that of the network stays


def test_classes_are_matched_by_name(tmp_path):
    info = ModelInfo(("blob", "other", "ground"), GREY)
    dataset, sentence = in_order_of(info, Named("ground", "blob"))
    assert dataset.class_names == info.class_names
    assert "ground, blob, the network blob, other, ground" in sentence
    labels, expected = Named("ground", "blob")[0][1], dataset[0][1]
    assert np.array_equal(np.array([2, 0, *[255] * 254], np.uint8)[labels], expected)
    same = Named(*info.class_names)
    assert in_order_of(info, same) == (same, None)
    with pytest.raises(ValueError, match=r"3 classes .*the dataset 2 .* does not have cat"):
        in_order_of(info, Named("ground", "cat"))
    folder(tmp_path, "ab")  # without names: values 0 to 2
    guessed = Folder(tmp_path, "train")
    dataset, sentence = in_order_of(info, guessed)
    assert dataset is guessed
    assert "by number" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stride": 8}, "stride must be 4 .*got 8"),
        ({"stride": 3}, "stride must be 4 .*got 3$"),
        ({"alignment": "paper"}, "alignment must be .*'exact'.*'paper'"),
        ({"upsampling": "learned"}, "upsampling must be .*'fixed'.*'learned'"),
        ({"at_once": True}, "at_once must be False .*True"),
    ],
)
def test_arguments_that_do_not_fit_a_trained_network_are_refused(options, sentence):
    fcn = fcn_from(digit_classifier(rng=0), Blobs(), stride=4)
    with pytest.raises(ValueError, match=sentence):
        fcn_from(fcn, Blobs(), **options)


def test_only_an_fcn_is_a_trained_network(tmp_path):
    fcn = fcn_from(digit_classifier(rng=0), Blobs())
    save(fcn, tmp_path / "model.safetensors")
    model, info = load_trained(tmp_path / "model.safetensors")
    assert info == model.info == fcn.info
    with pytest.raises(IsADirectoryError, match=r"folder.*model\.safetensors"):
        load_trained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*a$"):
        load_trained(tmp_path / "a")
    classifier = digit_classifier(2, rng=0)
    classifier.info = fcn.info
    save(classifier, tmp_path / "classifier")
    with pytest.raises(ValueError, match="classifier contains a classifier"):
        load_trained(tmp_path / "classifier")


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


def test_the_probability_of_all_dropout_layers_is_set():
    fcn = FCN(digit_classifier(rng=0), 2)
    [dropout] = [layer for layer in fcn.layers() if isinstance(layer, Dropout)]
    assert dropout.p == 0.2
    set_dropout(fcn, 0.5)
    assert dropout.p == 0.5
    with pytest.raises(ValueError, match=r"p must be .*1\.5"):
        set_dropout(fcn, 1.5)


def test_a_network_without_dropout_accepts_only_zero():
    fcn = FCN(digit_classifier(rng=0), 2)
    parts = fcn.head.parts
    for name in [name for name, layer in parts.items() if isinstance(layer, Dropout)]:
        del parts[name]
    set_dropout(fcn, 0.0)
    with pytest.raises(ValueError, match=r"dropout must be 0 .*0\.5"):
        set_dropout(fcn, 0.5)
