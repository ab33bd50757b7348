"""ResNet, VGG and MobileNetV2 beside torchvision's: names, shapes, numbers, gradients, and what uses them.

The oracles below compute with PyTorch's functions from nothing but a state dict in torchvision's names.
"""

import math

import numpy as np
import pytest

import minifcn as mf
from minifcn import models
from minifcn.layers import BatchNorm2d, Dropout
from minifcn.models import FCN, build, explain
from minifcn.models.registry import CLASSIFIERS, PUBLISHED
from minifcn.weights import load_classifier

RESNETS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
VGGS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2,) * 5, "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VGGS |= {f"{name}_bn": depths for name, depths in VGGS.items()}
MOBILE = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
FAMILIES = [*RESNETS, *VGGS, "mobilenet_v2"]
SMALL = ["resnet18", "resnet50", "vgg11_bn", "mobilenet_v2"]


def norm(name, channels):
    return {f"{name}.{end}": (channels,) for end in ("weight", "bias", "running_mean", "running_var")}


def resnet_shapes(name):
    bottleneck = int(name[6:]) >= 50
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for layer, depth in enumerate(RESNETS[name], 1):
        width = 32 * 2**layer
        out = 4 * width if bottleneck else width
        for block in range(depth):
            here = f"layer{layer}.{block}."
            kernels = [(width, channels, 1), (width, width, 3), (out, width, 1)]
            for i, (o, c, k) in enumerate(kernels if bottleneck else [(out, channels, 3), (out, out, 3)], 1):
                shapes |= {f"{here}conv{i}.weight": (o, c, k, k), **norm(f"{here}bn{i}", o)}
            if block == 0 and (layer > 1 or bottleneck):
                shapes |= {f"{here}downsample.0.weight": (out, channels, 1, 1)}
                shapes |= norm(f"{here}downsample.1", out)
            channels = out
    return shapes | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


def vgg_shapes(name):
    shapes, channels, place = {}, 3, 0
    for block, depth in enumerate(VGGS[name]):
        for _ in range(depth):
            width = min(64 * 2**block, 512)
            shapes |= {
                f"features.{place}.weight": (width, channels, 3, 3),
                f"features.{place}.bias": (width,),
            }
            channels, place = width, place + 2
            if name.endswith("_bn"):
                shapes |= norm(f"features.{place - 1}", width)
                place += 1
        place += 1
    for place, shape in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        shapes |= {f"classifier.{place}.weight": shape, f"classifier.{place}.bias": shape[:1]}
    return shapes


def mobilenet_shapes(name):
    shapes = {"features.0.0.weight": (32, 3, 3, 3), **norm("features.0.1", 32)}
    channels, place = 32, 1
    for factor, out, count in MOBILE:
        for _ in range(count):
            inside, here, unit = factor * channels, f"features.{place}.conv.", 0
            if factor > 1:
                shapes |= {f"{here}0.0.weight": (inside, channels, 1, 1), **norm(f"{here}0.1", inside)}
                unit = 1
            shapes |= {f"{here}{unit}.0.weight": (inside, 1, 3, 3), **norm(f"{here}{unit}.1", inside)}
            shapes |= {f"{here}{unit + 1}.weight": (out, inside, 1, 1), **norm(f"{here}{unit + 2}", out)}
            channels, place = out, place + 1
    shapes |= {"features.18.0.weight": (1280, 320, 1, 1), **norm("features.18.1", 1280)}
    return shapes | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def shapes_of(name):
    make = resnet_shapes if name in RESNETS else vgg_shapes if name in VGGS else mobilenet_shapes
    return make(name)


def theirs(name, ours):
    """Return torchvision's name of a tensor."""
    return ours.partition(".")[2] if PUBLISHED[name].prefixed else ours


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_shapes_are_torchvisions(name):
    model = build(name, init="zeros")
    shapes = {theirs(name, key): array.shape for key, array in model.state_dict().items()}
    assert shapes == shapes_of(name)
    assert list(shapes) == list(shapes_of(name))
    assert model.architecture == {"name": name, "arguments": {"num_classes": 1000}}
    assert getattr(models, name) is CLASSIFIERS[name]
    assert name in models.__all__


def scores(torch, name, t, x, training):
    """Return the scores of torchvision's network, from its tensors t."""
    F = torch.nn.functional

    def conv(x, name, stride=1, **options):
        w = t[f"{name}.weight"]
        return F.conv2d(x, w, t.get(f"{name}.bias"), stride, w.shape[2] // 2, **options)

    def bn(x, name):
        mean, var = t[f"{name}.running_mean"].clone(), t[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, t[f"{name}.weight"], t[f"{name}.bias"], training)

    if name in RESNETS:
        x = F.max_pool2d(F.relu(bn(conv(x, "conv1", 2), "bn1")), 3, 2, 1)
        for layer, depth in enumerate(RESNETS[name], 1):
            for block in range(depth):
                here, stride, y = f"layer{layer}.{block}.", 1 + (layer > 1 and block == 0), x
                last = 3 if f"{here}conv3.weight" in t else 2
                for i in range(1, last + 1):
                    y = bn(conv(y, f"{here}conv{i}", stride if i == last - 1 else 1), f"{here}bn{i}")
                    y = y if i == last else F.relu(y)
                if f"{here}downsample.0.weight" in t:
                    x = bn(conv(x, f"{here}downsample.0", stride), f"{here}downsample.1")
                x = F.relu(x + y)
        return F.linear(x.mean((2, 3)), t["fc.weight"], t["fc.bias"])
    if name in VGGS:
        place, norms = 0, name.endswith("_bn")
        for depth in VGGS[name]:
            for _ in range(depth):
                x = conv(x, f"features.{place}")
                x = F.relu(bn(x, f"features.{place + 1}") if norms else x)
                place += 2 + norms
            x, place = F.max_pool2d(x, 2), place + 1
        x = x.flatten(1)
        for place in (0, 3, 6):
            x = F.linear(x, t[f"classifier.{place}.weight"], t[f"classifier.{place}.bias"])
            x = F.relu(x) if place < 6 else x
        return x
    x = F.relu6(bn(conv(x, "features.0.0", 2), "features.0.1"))
    strides, place = (1, 2, 2, 2, 1, 2, 1), 1
    for (_, _, count), first in zip(MOBILE, strides, strict=True):
        for step in (first, *[1] * (count - 1)):
            here, y, unit = f"features.{place}.conv.", x, 0
            if f"{here}1.0.weight" in t:
                y, unit = F.relu6(bn(conv(y, f"{here}0.0"), f"{here}0.1")), 1
            y = F.relu6(bn(conv(y, f"{here}{unit}.0", step, groups=y.shape[1]), f"{here}{unit}.1"))
            y = bn(conv(y, f"{here}{unit + 1}"), f"{here}{unit + 2}")
            x, place = x + y if step == 1 and x.shape == y.shape else y, place + 1
    x = F.relu6(bn(conv(x, "features.18.0"), "features.18.1")).mean((2, 3))
    return F.linear(x, t["classifier.1.weight"], t["classifier.1.bias"])


def randomised(name, seed=0):
    """Return a network in float64 with random statistics, and without dropout."""
    rng = np.random.default_rng(seed)
    model = build(name, 5, rng=rng).astype("float64")
    for layer in model.layers():
        if isinstance(layer, BatchNorm2d):
            for array in layer.state_dict().values():
                array[...] = rng.uniform(0.5, 1.5, array.shape)
        if isinstance(layer, Dropout):
            layer.p = 0
    return model


def compare(name, size, training):
    torch = pytest.importorskip("torch")
    model = randomised(name).train(training)
    tensors = {theirs(name, key): torch.tensor(array) for key, array in model.state_dict().items()}
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, *size))
    trained = {theirs(name, key): parameter for key, parameter in model.named_parameters()}
    for key in trained:
        tensors[key].requires_grad_()
    tx = torch.tensor(x, requires_grad=True)
    expected = scores(torch, name, tensors, tx, training)
    y = model(x)
    assert np.allclose(y, expected.detach(), rtol=1e-10, atol=1e-10 * abs(y).max())
    if training:
        dy = rng.normal(size=y.shape)
        expected.backward(torch.tensor(dy))
        dx = model.backward(dy)
        assert np.allclose(dx, tx.grad, rtol=1e-8, atol=1e-10 * abs(dx).max())
        for key, parameter in trained.items():
            gradient = tensors[key].grad.numpy()
            # Behind a bias follows a normalisation that removes it: the gradient is zero but for rounding.
            assert np.allclose(parameter.grad, gradient, rtol=1e-7, atol=1e-9 * (1 + abs(gradient).max())), (
                key
            )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_scores_and_gradients_are_torchvisions(name, training):
    compare(name, (33, 47), training)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_and_gradients_of_all_at_three_sizes(name, training):
    for size in [(224, 224)] if name in VGGS else [(96, 96), (97, 131), (160, 128)]:
        compare(name, size, training)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_torchvisions_own_networks(name):
    torchvision = pytest.importorskip("torchvision")
    network = getattr(torchvision.models, name)(weights=None)
    shapes = {key: tuple(array.shape) for key, array in network.state_dict().items()}
    assert {key: shape for key, shape in shapes.items() if "num_batches" not in key} == shapes_of(name)


@pytest.mark.parametrize("name", SMALL)
def test_an_fcn_at_every_stride(name):
    classifier = build(name, 5, init="zeros")
    assert sorted(classifier.taps) == [4, 8, 16]
    for stride in (4, 8, 16, 32) if name != "vgg11_bn" else (8,):  # it is large
        fcn = FCN(classifier, 3, stride)
        assert fcn.output_shape((3, 33, 47)) == (3, 33, 47)
        rows = explain(fcn, (65, 97)).rows
        scored = [row for row in rows if row.name.startswith(("score", "skips"))]
        assert [int(row.views[0].grid.scale) for row in scored][-1] == stride
        assert rows[-1].output_shape == (3, 65, 97)
        assert str(rows[-1].views[0].grid) == "1 i + 0"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_an_fcn_gives_scores_and_trains(name):
    fcn = FCN(build(name, 5, rng=0), 3, 4)
    optimizer = mf.optim.SGD(fcn, lr=1e-3)
    y = fcn(np.random.default_rng(0).normal(size=(2, 3, 33, 47)).astype("float32"))
    assert y.shape == (2, 3, 33, 47)
    fcn.backward_parameters(np.ones_like(y))
    before = fcn.features["conv1" if name == "resnet18" else "0"]
    optimizer.step()
    assert all(np.isfinite(array).all() for array in before.state_dict().values())


@pytest.mark.parametrize("name", SMALL)
def test_convolutionalized_scores_at_the_trained_size(name):
    model = build(name, 5, init="zeros")
    fully = mf.convolutionalize(model, (3, 224, 224))
    assert fully.output_shape((3, 224, 224)) == (5, 1, 1)
    assert fully.output_shape((3, 288, 320)) == (5, 3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_convolutionalized_networks_give_the_same_scores(name):
    model = randomised(name).eval()
    x = np.random.default_rng(2).normal(size=(1, 3, 224, 224))
    assert np.allclose(mf.convolutionalize(model, x.shape[1:])(x)[:, :, 0, 0], model(x), rtol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_files_in_torchvisions_names_and_files_of_minifcn(name, tmp_path):
    model = build(name, 5, rng=0)
    arrays = {theirs(name, key): array for key, array in model.state_dict().items()}
    counters = {
        f"{key[: -len('running_mean')]}num_batches_tracked": np.array(3) for key in arrays if "mean" in key
    }
    np.savez(tmp_path / "torchvision.npz", **arrays, **counters)
    loaded = load_classifier(tmp_path / "torchvision.npz")
    assert loaded.report.source == "torchvision"
    assert not loaded.report.missing
    assert not loaded.report.left_over
    assert loaded.info.preprocessing.mean == (123.675, 116.28, 103.53)
    fcn = FCN(loaded, 5, 8)
    fcn.info = loaded.info
    mf.save(fcn, tmp_path / "fcn.safetensors")
    x = np.random.default_rng(0).normal(size=(1, 3, 40, 33)).astype("float32")
    assert np.array_equal(mf.load(tmp_path / "fcn.safetensors")(x), fcn.eval()(x))


@pytest.mark.parametrize(("deep", "shallow"), [("resnet101", "resnet50"), ("resnet34", "resnet18")])
def test_a_deeper_network_is_not_taken_for_a_shallower_one(deep, shallow):
    """It has all of the tensors of the other, in the same shapes."""
    from minifcn.weights.recognition import recognise_classifier

    zero = np.zeros((), "f4")
    for name in (deep, shallow):
        arrays = {key: np.broadcast_to(zero, shape) for key, shape in shapes_of(name).items()}
        assert recognise_classifier(arrays).architecture == name
    assert shapes_of(shallow).items() <= shapes_of(deep).items()


@pytest.mark.parametrize("name", FAMILIES)
def test_products_and_parameters(name):
    """Multiplications as the authors of torchvision's documentation count them (GFLOPS)."""
    known = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "resnet101": 7.80, "resnet152": 11.51}
    known |= {"vgg11": 7.61, "vgg13": 11.31, "vgg16": 15.47, "vgg19": 19.63, "mobilenet_v2": 0.30}
    total = explain(build(name, init="zeros"), (224, 224)).total
    assert total.multiplications / 1e9 == pytest.approx(known[name.removesuffix("_bn")], abs=0.02)
    counted = [math.prod(s) for key, s in shapes_of(name).items() if "running" not in key]
    assert total.parameters == sum(counted)
