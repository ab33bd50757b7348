"""torchvision's FCN: its names, numbers and gradients, and where it puts its scores."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import minifcn as mf
from minifcn.checks import check_gradient
from minifcn.geometry import CoordinateMap
from minifcn.layers import BatchNorm2d, Dropout, freeze_batch_norm
from minifcn.models import FCN, dilated_resnet50, explain, fcn_resnet50, fcn_resnet101
from minifcn.models.upsampling import AlignedUpsample, TorchvisionUpsample
from minifcn.weights import Tensors, load_classifier, load_fcn
from minifcn.weights.names import torchvision_fcn_naming
from minifcn.weights.recognition import recognise_fcn

ZERO = np.zeros((), "f4")
AUXILIARY = {f"aux_classifier.{end}": (1,) for end in ("0.weight", "1.running_mean", "4.bias")}
BLOCKS = {fcn_resnet50: (3, 4, 6, 3), fcn_resnet101: (3, 4, 23, 3)}


def scores(torch, depths, t, x, training):
    """Return the scores of torchvision's network, from its tensors t."""
    F = torch.nn.functional

    def conv(x, name, stride=1, dilation=1):
        w = t[f"{name}.weight"]
        return F.conv2d(x, w, t.get(f"{name}.bias"), stride, dilation * (w.shape[2] // 2), dilation)

    def bn(x, name):
        mean, var = t[f"{name}.running_mean"].clone(), t[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, t[f"{name}.weight"], t[f"{name}.bias"], training)

    y = F.max_pool2d(F.relu(bn(conv(x, "backbone.conv1", 2), "backbone.bn1")), 3, 2, 1)
    # Stride and dilation of the first block of a layer, and dilation of the others
    steps = ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4))
    for layer, (depth, (stride, first, others)) in enumerate(zip(depths, steps, strict=True), 1):
        for block in range(depth):
            here = f"backbone.layer{layer}.{block}."
            step, dilation = (stride, first) if block == 0 else (1, others)
            z = F.relu(bn(conv(y, f"{here}conv1"), f"{here}bn1"))
            z = F.relu(bn(conv(z, f"{here}conv2", step, dilation), f"{here}bn2"))
            z = bn(conv(z, f"{here}conv3"), f"{here}bn3")
            if block == 0:
                y = bn(conv(y, f"{here}downsample.0", step), f"{here}downsample.1")
            y = F.relu(y + z)
    y = conv(F.relu(bn(conv(y, "classifier.0"), "classifier.1")), "classifier.4")
    return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


def randomised(make):
    rng = np.random.default_rng(0)
    fcn = make(5, rng=rng).astype("float64")
    fcn.score.weight.data = rng.normal(0, 0.1, fcn.score.weight.data.shape)
    for layer in fcn.layers():
        if isinstance(layer, BatchNorm2d):
            for array in layer.state_dict().values():
                array[...] = rng.uniform(0.5, 1.5, array.shape)
        if isinstance(layer, Dropout):
            layer.p = 0
    return fcn


def compare(make, sizes):
    torch = pytest.importorskip("torch")
    fcn = randomised(make)
    names = torchvision_fcn_naming(fcn).names
    tensors = {names[ours]: torch.tensor(array) for ours, array in fcn.state_dict().items()}
    rng = np.random.default_rng(1)
    for size in sizes:
        x = rng.normal(size=(2, 3, *size))
        with torch.no_grad():
            expected = scores(torch, BLOCKS[make], tensors, torch.tensor(x), False).numpy()
        y = fcn.eval()(x)
        assert np.allclose(y, expected, rtol=1e-10, atol=1e-10 * abs(y).max())
    for ours, _ in fcn.named_parameters():
        tensors[names[ours]].requires_grad_()
    tx = torch.tensor(x, requires_grad=True)
    expected = scores(torch, BLOCKS[make], tensors, tx, True)
    y = fcn.train()(x)
    assert np.allclose(y, expected.detach(), rtol=1e-10, atol=1e-10 * abs(y).max())
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    dx = fcn.backward(dy)
    assert np.allclose(dx, tx.grad, rtol=1e-8, atol=1e-10 * abs(dx).max())
    for ours, parameter in fcn.named_parameters():
        gradient = tensors[names[ours]].grad.numpy()
        slack = 1e-9 * (1 + abs(gradient).max())
        assert np.allclose(parameter.grad, gradient, rtol=1e-7, atol=slack), ours


def test_scores_and_gradients_are_torchvisions():
    compare(fcn_resnet50, [(17, 23)])


@pytest.mark.slow
@pytest.mark.parametrize("make", [fcn_resnet50, fcn_resnet101])
def test_scores_and_gradients_at_three_sizes(make):
    compare(make, [(240, 240), (97, 131), (65, 64)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101"])
def test_torchvisions_own_names(name):
    torchvision = pytest.importorskip("torchvision")
    network = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)
    fcn = getattr(mf.models, name)(init="zeros")
    names = torchvision_fcn_naming(fcn).names
    theirs = {key: tuple(array.shape) for key, array in network.state_dict().items()}
    assert {names[key]: array.shape for key, array in fcn.state_dict().items()} == {
        key: shape for key, shape in theirs.items() if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("make", [fcn_resnet50, fcn_resnet101])
def test_it_is_recognised_by_its_names(make):
    fcn = make(7, init="zeros")
    names = torchvision_fcn_naming(fcn).names
    shapes = {names[ours]: array.shape for ours, array in fcn.state_dict().items()} | AUXILIARY
    arrays = {key: np.broadcast_to(ZERO, shape) for key, shape in shapes.items()}
    found = recognise_fcn(Path("file"), Tensors(arrays))
    assert (found.share, found.naming.source, found.model.alignment) == (1, "torchvision", "torchvision")
    assert found.model.architecture == fcn.architecture
    assert found.naming.preprocessing.mean == (123.675, 116.28, 103.53)


def test_a_file_is_loaded_saved_and_trained(tmp_path):
    fcn = fcn_resnet50(3, rng=0).eval()
    fcn.score.weight.data[...] = 0.01
    names = torchvision_fcn_naming(fcn).names
    auxiliary = {name: np.zeros(shape, "f4") for name, shape in AUXILIARY.items()}
    np.savez(
        tmp_path / "a.npz", **{names[key]: array for key, array in fcn.state_dict().items()}, **auxiliary
    )
    with pytest.raises(mf.FileError, match="holds an FCN: load_fcn reads it"):
        load_classifier(tmp_path / "a.npz")
    loaded = load_fcn(tmp_path / "a.npz", class_names=("background", "cat", "dog"))
    assert loaded.report.left_over.keys() == AUXILIARY.keys()
    assert not loaded.report.missing
    x = np.random.default_rng(0).normal(size=(1, 3, 40, 33)).astype("float32")
    y = fcn(x)
    assert y.any()
    assert np.array_equal(loaded(x), y)
    mf.save(loaded, tmp_path / "b.safetensors")
    assert np.array_equal(mf.load(tmp_path / "b.safetensors")(x), y)
    loaded.train()(x)
    loaded.backward_parameters(y)
    norms = [layer for layer in loaded.layers() if isinstance(layer, BatchNorm2d)]
    assert all(norm.frozen and norm.weight.grad is None for norm in norms)
    assert all(parameter.grad is not None for parameter in loaded.parameters() if parameter.trainable)


# Where it puts its scores


def test_explain_shows_half_a_stride_beside_the_exact_place():
    classifier, size = dilated_resnet50(3, init="zeros"), (240, 320)
    for alignment, offset in (("torchvision", "1 i - 7/2"), ("exact", "1 i + 0")):
        last = explain(FCN(classifier, 3, alignment=alignment), size).rows[-1]
        assert [str(view.grid) for view in last.views] == [offset] * 2
        assert last.output_shape == (3, *size)
    stretched = explain(FCN(classifier, 3, alignment="torchvision"), (233, 320)).rows[-1].views
    assert stretched[0].grid.scale == Fraction(240, 233)  # 30 rows of scores for 233 of pixels


@pytest.mark.parametrize(("stride", "offset"), [(8, 0), (8, Fraction(7, 2)), (4, 1), (2, Fraction(1, 2))])
def test_a_ramp_is_shifted_by_the_offset_that_its_grid_lacks(stride, offset):
    """Coarse values that are their own places come out as places: exactly, or too small by the shift."""
    grid, size = CoordinateMap(Fraction(stride), Fraction(offset)), (6 * stride, 6 * stride)
    ramp = np.array([float(grid(i)) for i in range(6)])[None, None, None].repeat(6, axis=2)
    shift = Fraction(stride - 1, 2) - offset
    inner = slice(stride, 5 * stride)
    exact = AlignedUpsample(1, grid, CoordinateMap()).astype("float64").forward(ramp, size)
    theirs = TorchvisionUpsample(1, grid, CoordinateMap()).forward(ramp, size)
    assert np.allclose(exact[0, 0, 0, inner], np.arange(6 * stride)[inner])
    assert np.allclose(theirs[0, 0, 0, inner], np.arange(6 * stride)[inner] - float(shift))


def test_gradients_of_the_upsampling():
    layer = TorchvisionUpsample(2, CoordinateMap(Fraction(3), Fraction(1)), CoordinateMap())
    check_gradient(layer, np.random.default_rng(0).normal(size=(2, 2, 3, 4)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'fixed' with alignment 'torchvision', got 'learned'"):
        FCN(dilated_resnet50(3, init="zeros"), 3, alignment="torchvision", upsampling="learned")
    with pytest.raises(ValueError, match="cannot be upsampled"):
        TorchvisionUpsample(1, CoordinateMap(Fraction(3, 2)), CoordinateMap())


def test_skips_and_finer_networks_exist_in_this_alignment_too():
    fcn = FCN(dilated_resnet50(3, init="zeros"), 3, alignment="torchvision")
    finer = fcn.finer()
    assert (fcn.stride, finer.stride) == (8, 4)
    x = np.random.default_rng(0).normal(size=(1, 3, 33, 18)).astype("float32")
    assert finer.eval()(x).shape == (1, 3, 33, 18)
    freeze_batch_norm(finer)
