"""FCNs in the names of the reference code."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from minifcn import load, save
from minifcn.files import FileError
from minifcn.functional import bilinear_kernel
from minifcn.models import FCN, caffenet, squeezenet1_1
from minifcn.weights import PREPROCESSING, load_classifier, load_fcn
from tests.weights.files import equal

CAFFE = PREPROCESSING["caffe"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.safetensors"


def full(kernels):
    classes = np.arange(len(kernels))
    square = np.zeros((len(kernels), *kernels.shape[:1], *kernels.shape[2:]), "f4")
    square[classes, classes] = kernels[:, 0]
    return square


def caffe_fcn(classes=4, seed=0):
    """FCN-AlexNet in the names of the reference code: smaller than VGG16, and with the same rules."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 256, 6, 6),
        "fc7": (4096, 4096, 1, 1),
        "score_fr": (classes, 4096, 1, 1),
    }.items():
        state[f"{name}.weight"] = rng.standard_normal(shape, "f4") * np.float32(np.prod(shape[1:]) ** -0.5)
        state[f"{name}.bias"] = rng.standard_normal(shape[0], "f4")
    return state | {"upscore.weight": full(bilinear_kernel(classes, 32, 63))}


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True])
def test_fcn8s_gives_the_scores_of_the_reference_code(file, at_once):
    """The oracle is written from the published layers: padding 100, crops of 5, 9 and 31, all literal."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    F = torch.nn.functional
    generator = torch.Generator().manual_seed(0)
    blocks = ((1, 3, 64, 2), (2, 64, 128, 2), (3, 128, 256, 3), (4, 256, 512, 3), (5, 512, 512, 3))
    layers = {
        f"conv{block}_{i}": (outputs, inputs if i == 1 else outputs, 3)
        for block, inputs, outputs, count in blocks
        for i in range(1, count + 1)
    }
    layers |= {"fc6": (4096, 512, 7), "fc7": (4096, 4096, 1), "score_fr": (5, 4096, 1)}
    layers |= {"score_pool4": (5, 512, 1), "score_pool3": (5, 256, 1)}
    state = {}
    for name, (outputs, inputs, size) in layers.items():
        deviation = (2 / (inputs * size * size)) ** 0.5
        state[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, size, size, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    for name, stride in (("upscore2", 2), ("upscore_pool4", 2), ("upscore8", 8)):
        state[f"{name}.weight"] = torch.from_numpy(full(bilinear_kernel(5, stride)))
    if at_once:  # the file tells
        state["scale_pool4.weight"] = torch.full((512,), 0.01)
        state["scale_pool3.weight"] = torch.full((256,), 0.0001)
    torch.save({"arch": "FCN8s", "model_state_dict": state}, file)

    def conv(x, name, padding=0):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    def up(x, name, stride):
        return F.conv_transpose2d(x, state[f"{name}.weight"], stride=stride)

    def cropped(x, offset, like):
        return x[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]

    x = torch.randn(1, 3, 33, 50, generator=generator)
    y, pools = x, {}
    for block, _, _, count in blocks:
        for i in range(1, count + 1):
            y = conv(y, f"conv{block}_{i}", 100 if (block, i) == (1, 1) else 1).relu()
        y = pools[block] = F.max_pool2d(y, 2, ceil_mode=True)
    y = up(conv(conv(conv(y, "fc6").relu(), "fc7").relu(), "score_fr"), "upscore2", 2)
    y = y + cropped(conv(pools[4] * (0.01 if at_once else 1), "score_pool4"), 5, y)
    y = up(y, "upscore_pool4", 2)
    y = y + cropped(conv(pools[3] * (0.0001 if at_once else 1), "score_pool3"), 9, y)
    y = cropped(up(y, "upscore8", 8), 31, x)

    fcn = load_fcn(file)
    assert fcn.at_once == at_once
    report = fcn.report
    assert (len(report.copied), len(report.reshaped), report.missing) == (36, 3, {})
    assert report.left_over == {}
    scores = fcn(x.numpy())
    assert np.abs(scores - y.numpy()).max() < 1e-4 * y.abs().max().item()


@pytest.fixture(scope="module")
def alexnet_state():
    return caffe_fcn()


def test_an_fcn_of_the_reference_code_gives_its_scores(alexnet_state, file):
    save_file(alexnet_state, file)
    fcn = load_fcn(file)
    report = fcn.report
    arguments = {"num_classes": 4, "stride": 32, "alignment": "paper", "upsampling": "fixed"}
    assert fcn.architecture["arguments"].items() >= arguments.items()
    assert (len(report.copied), len(report.reshaped), report.missing, report.left_over) == (16, 1, {}, {})
    assert fcn.info.preprocessing == CAFFE
    assert fcn.info.class_names == ("0", "1", "2", "3")
    by_hand = FCN(caffenet(init="zeros"), 4, alignment="paper").eval()
    for name, part in by_hand.state_dict().items():
        layer, kind = name.split(".")[-2:]
        if name.startswith("upsamples"):
            assert np.array_equal(fcn.state_dict()[name], part)
        else:
            part[...] = alexnet_state[f"{'score_fr' if layer == 'score' else layer}.{kind}"]
    x = np.random.default_rng(1).normal(size=(1, 3, 40, 50)).astype("f4")
    assert np.array_equal(fcn(x), by_hand(x))
    save(fcn, file)
    assert np.array_equal(load(file)(x), fcn(x))


def test_kernels_that_are_not_bilinear_are_learned(alexnet_state, file):
    kernels = bilinear_kernel(4, 32, 63)
    kernels[2] *= 1.5
    save_file(alexnet_state | {"upscore.weight": full(kernels)}, file)
    fcn = load_fcn(file)
    assert fcn.upsampling == "learned"
    assert np.array_equal(fcn.upsamples["32to1"].deconv.weight.data, kernels)
    assert fcn.upsamples["32to1"].deconv.weight.trainable
    save(fcn, file)
    assert equal(load(file), fcn)


def test_missing_upsampling_is_bilinear(alexnet_state, file):
    save_file({name: a for name, a in alexnet_state.items() if not name.startswith("upscore")}, file)
    fcn = load_fcn(file)
    report = fcn.report
    assert report.missing == {"upsamples.32to1.deconv.weight": (4, 1, 63, 63)}
    assert np.array_equal(fcn.upsamples["32to1"].deconv.weight.data, bilinear_kernel(4, 32, 63))


def test_an_fcn_without_its_trunk_is_refused(alexnet_state, file):
    save_file({name: array for name, array in alexnet_state.items() if name != "fc6.weight"}, file)
    with pytest.raises(FileError, match="1 of 17 tensors are missing for fcn in the names of reference FCN"):
        load_fcn(file)
    fcn = load_fcn(file, partial=True, rng=0)
    report = fcn.report
    assert list(report.missing) == ["head.fc6.weight"]
    assert fcn.state_dict()["head.fc6.weight"].std() > 0.01


def test_files_without_an_fcn_are_refused(file):
    save_file(squeezenet1_1(5, rng=0).state_dict(), file)
    with pytest.raises(FileError, match="holds no FCN in the names of the reference code"):
        load_fcn(file)
    save_file({"score_fr.weight": np.zeros((), "f4")}, file)
    with pytest.raises(FileError, match="holds no FCN in the names of the reference code"):
        load_fcn(file)
    save_file({"score_fr.weight": np.zeros((21, 4096, 1, 1), "f4")}, file)
    with pytest.raises(FileError, match=r"31 of 33 tensors are missing for fcn"):
        load_fcn(file)
    with pytest.raises(FileError, match="holds an FCN: load_fcn reads it"):
        load_classifier(file)
    with pytest.raises(ValueError, match="at_once is about skips, and the file has none"):
        load_fcn(file, at_once=True)
