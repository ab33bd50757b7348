"""The names in the published files, as literals."""

import pytest

from minifcn.models import FCN, alexnet, caffenet, digit_classifier, googlenet, squeezenet1_0, vgg16
from minifcn.weights.names import classifier_namings, fcn_naming

VGG = (
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "fc8"),
)
TORCHVISION_VGG = (
    *(f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
    *(f"classifier.{i}" for i in (0, 3, 6)),
)
CAFFENET = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def with_ends(layers, weight, bias):
    return [layer + end for layer in layers for end in (weight, bias)]


@pytest.fixture(scope="module")
def vgg():
    return vgg16(init="zeros")


def namings(classifier, source):
    return [naming for naming in classifier_namings(classifier) if naming.source == source]


def test_vgg16_in_torchvision(vgg):
    [naming] = namings(vgg, "torchvision")
    assert list(naming.names) == list(naming.names.values()) == with_ends(TORCHVISION_VGG, ".weight", ".bias")


def test_vgg16_in_caffe_and_tensorflow(vgg):
    dotted, short = namings(vgg, "Caffe")
    assert list(dotted.names.values()) == with_ends(VGG, ".weight", ".bias")
    assert list(short.names.values()) == with_ends(VGG, "_W", "_b")
    [tensorflow] = namings(vgg, "TensorFlow")
    assert tensorflow.names == short.names
    assert (short.channels_last, tensorflow.channels_last) == (False, True)
    assert short.preprocessing != tensorflow.preprocessing


def test_vgg16_in_timm(vgg):
    [naming] = namings(vgg, "timm")
    layers = [*TORCHVISION_VGG[:-3], "pre_logits.fc1", "pre_logits.fc2", "head.fc"]
    assert list(naming.names.values()) == with_ends(layers, ".weight", ".bias")


@pytest.mark.parametrize(
    ("number", "ends"), [(0, ("/kernel:0", "/bias:0")), (1, ("/kernel", "/bias")), (2, ("_W_1:0", "_b_1:0"))]
)
def test_vgg16_in_keras(vgg, number, ends):
    naming = namings(vgg, "Keras")[number]
    layers = [
        *(
            f"block{block}_conv{i}"
            for block, count in enumerate((2, 2, 3, 3, 3), 1)
            for i in range(1, count + 1)
        ),
        *("fc1", "fc2", "predictions"),
    ]
    assert list(naming.names.values()) == with_ends(layers, *ends)
    assert naming.channels_last


def test_caffenet_in_caffe():
    dotted, short = namings(caffenet(init="zeros"), "Caffe")
    assert list(dotted.names.values()) == with_ends(CAFFENET, ".weight", ".bias")
    assert list(short.names.values()) == with_ends(CAFFENET, "_W", "_b")


def test_googlenet_in_torchvision():
    model = googlenet(init="zeros")
    [naming] = namings(model, "torchvision")
    shapes = {naming.names[name]: array.shape for name, array in model.state_dict().items()}
    known = {
        "conv1.conv.weight": (64, 3, 7, 7),
        "conv1.bn.weight": (64,),
        "conv1.bn.bias": (64,),
        "conv1.bn.running_mean": (64,),
        "conv1.bn.running_var": (64,),
        "conv2.conv.weight": (64, 64, 1, 1),
        "inception3a.branch1.conv.weight": (64, 192, 1, 1),
        "inception3a.branch2.0.conv.weight": (96, 192, 1, 1),
        "inception3a.branch2.1.bn.bias": (128,),
        "inception5b.branch4.1.conv.weight": (128, 832, 1, 1),
        "fc.weight": (1000, 1024),
        "fc.bias": (1000,),
    }
    assert known.items() <= shapes.items()
    assert len(shapes) == 57 * 5 + 2
    assert naming.preprocessing.mean == naming.preprocessing.std == (127.5,) * 3


@pytest.mark.parametrize("make", [alexnet, caffenet, digit_classifier, googlenet, squeezenet1_0, vgg16])
def test_every_naming_has_a_different_name_for_every_tensor(make):
    model = make(init="zeros")
    first, *_ = classifier_namings(model)
    assert list(first.names.values()) == list(model.state_dict())  # files that others made from ours
    for naming in classifier_namings(model):
        assert list(naming.names) == list(model.state_dict())
        assert len(set(naming.names.values())) == len(naming.names)


TRUNK = with_ends(VGG[:-1], ".weight", ".bias")
REFERENCE = {
    32: {"upscore.weight"},
    16: {"upscore2.weight", "upscore16.weight", "score_pool4.weight", "score_pool4.bias"},
    8: {
        *("upscore2.weight", "upscore_pool4.weight", "upscore8.weight"),
        *("score_pool4.weight", "score_pool4.bias", "score_pool3.weight", "score_pool3.bias"),
    },
}


@pytest.mark.parametrize("stride", [32, pytest.param(16, marks=pytest.mark.slow), 8])
def test_fcn_in_the_reference_code(vgg, stride):
    fcn = FCN(vgg, 21, stride, alignment="paper")
    naming = fcn_naming(fcn, vgg)
    assert list(naming.names) == list(fcn.state_dict())
    assert set(naming.names.values()) == {*TRUNK, "score_fr.weight", "score_fr.bias", *REFERENCE[stride]}
    assert naming.names["head.0.weight"] == "fc6.weight"
    assert (
        naming.names[f"upsamples.{stride}to1.deconv.weight"]
        == f"upscore{stride if stride < 32 else ''}.weight"
    )
