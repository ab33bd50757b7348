import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn import convolutionalize
from minifcn.checks import check_gradient
from minifcn.layers import AvgPool2d, BatchNorm2d, Dropout, GlobalAvgPool2d
from minifcn.models import FCN, googlenet
from minifcn.models.googlenet import inception


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="module")
def model():
    return googlenet(rng=0).eval()


# The published widths: input channels, then #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def convolutions():
    """Name, channels in and out, and kernel size of each convolution, by torchvision's names."""
    yield from (("conv1", 3, 64, 7), ("conv2", 64, 64, 1), ("conv3", 64, 192, 3))
    for name, (channels, one, reduced3, out3, reduced5, out5, pooled) in TABLE.items():
        block = f"inception{name}"
        yield f"{block}.branch1", channels, one, 1
        yield f"{block}.branch2.0", channels, reduced3, 1
        yield f"{block}.branch2.1", reduced3, out3, 3
        yield f"{block}.branch3.0", channels, reduced5, 1
        yield f"{block}.branch3.1", reduced5, out5, 3
        yield f"{block}.branch4.1", channels, pooled, 1


def test_names_and_shapes_are_torchvisions(model):
    expected = {}
    for name, channels, out, kernel in convolutions():
        expected[f"features.{name}.conv.weight"] = (out, channels, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            expected[f"features.{name}.bn.{part}"] = (out,)
    expected |= {"classifier.fc.weight": (1000, 1024), "classifier.fc.bias": (1000,)}
    assert {name: array.shape for name, array in model.state_dict().items()} == expected
    assert sum(parameter.data.size for parameter in model.parameters()) == 6_624_904
    assert {layer.eps for layer in model.layers() if isinstance(layer, BatchNorm2d)} == {0.001}
    assert [layer.p for layer in model.layers() if isinstance(layer, Dropout)] == [0.2]


def test_maps_have_the_published_sizes(model):
    shape, shapes = (3, 224, 224), {}
    for name, layer in model.features.children():
        shapes[name] = shape = layer.output_shape(shape)
    assert shapes["conv1"] == (64, 112, 112)
    assert shapes["maxpool2"] == (192, 28, 28)
    assert shapes["inception3b"] == (480, 28, 28)
    assert shapes["inception4e"] == (832, 14, 14)
    assert shapes["inception5b"] == (1024, 7, 7)


def reference(torch, state, x):
    """GoogLeNet built from PyTorch functions, from a state dict by torchvision's names."""
    F = torch.nn.functional

    def conv(name, x, stride=1, padding=0):
        x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        x = F.batch_norm(x, mean, var, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"], eps=1e-3)
        return F.relu(x)

    def block(name, x):
        name = f"inception{name}"
        branches = [
            conv(f"{name}.branch1", x),
            conv(f"{name}.branch2.1", conv(f"{name}.branch2.0", x), padding=1),
            conv(f"{name}.branch3.1", conv(f"{name}.branch3.0", x), padding=1),
            conv(f"{name}.branch4.1", F.max_pool2d(x, 3, 1, 1, ceil_mode=True)),
        ]
        return torch.cat(branches, 1)

    x = F.max_pool2d(conv("conv1", x, 2, 3), 3, 2, ceil_mode=True)
    x = F.max_pool2d(conv("conv3", conv("conv2", x), padding=1), 3, 2, ceil_mode=True)
    x = F.max_pool2d(block("3b", block("3a", x)), 3, 2, ceil_mode=True)
    for name in ("4a", "4b", "4c", "4d", "4e"):
        x = block(name, x)
    x = block("5b", block("5a", F.max_pool2d(x, 2, 2, ceil_mode=True)))
    return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("size", [(96, 96), (75, 110)])
def test_scores_equal_those_of_pytorch(size):
    torch = pytest.importorskip("torch")
    model = googlenet(20, rng=0).astype("float64").eval()
    rng = np.random.default_rng(1)
    for name, array in model.state_dict().items():
        if "running_mean" in name or name.endswith("bias"):
            array[...] = rng.normal(size=array.shape)
        elif "bn" in name:
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    state = {name.partition(".")[2]: torch.tensor(array) for name, array in model.state_dict().items()}
    x = normal((2, 3, *size))
    theirs = reference(torch, state, torch.tensor(x)).numpy()
    assert theirs.std() > 0.01
    assert np.allclose(model(x), theirs, rtol=1e-9, atol=1e-9)


def test_the_gradient_of_a_module():
    module = inception(3, (2, 2, 3, 1, 2, 2), rng=0).astype("float64")
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = normal(parameter.data.shape, seed)
    check_gradient(module, normal((2, 3, 4, 5), 9))


def test_as_convolutions_it_scores_every_position(model):
    sliding = convolutionalize(model, (3, 224, 224))
    assert sliding.output_shape((3, 224, 288)) == (1000, 1, 3)
    x = normal((1, 3, 224, 224)).astype("float32")
    assert np.allclose(sliding(x)[..., 0, 0], model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("stride", "widths"), [(32, [63]), (16, [4, 31]), (8, [4, 3, 15])])
@settings(max_examples=3)
@given(size=st.tuples(*[st.integers(1, 70)] * 2))
def test_as_fcn_it_labels_every_pixel(model, stride, widths, size):
    fcn = FCN(model, 3, stride)
    assert [upsample.deconv.kernel_size[0] for upsample in fcn.upsamples] == widths
    assert not any(isinstance(layer, GlobalAvgPool2d | AvgPool2d) for layer in fcn.layers())  # as the paper
    assert [name for name, _ in fcn.head.children()] == ["dropout"]
    assert fcn(normal((1, 3, *size)).astype("float32")).shape == (1, 3, *size)


def test_its_fcn_learns_on_frozen_statistics(model):
    fcn = FCN(model, 3).freeze_trunk().train()
    before = {name: array.copy() for name, array in fcn.state_dict().items() if "running" in name}
    assert len(before) == 2 * 57
    fcn.backward_parameters(
        fcn(normal((1, 3, 1, 1)).astype("float32"))
    )  # one value per channel is enough then
    assert all(np.array_equal(fcn.state_dict()[name], array) for name, array in before.items())
