"""Tiles: the same scores as for the whole image, and no pixel more than that takes."""

import copy

import numpy as np
import pytest

from minifcn.layers import Conv2d, GlobalAvgPool2d, MaxPool2d, Sequential
from minifcn.models import FCN, digit_classifier, dilated_resnet50
from minifcn.models.tiling import _follow, smallest_tile, tiles
from tests.models.test_flow import residual_classifier
from tests.models.trunks import NARROW, digits, randomised, squeezenet, vgg

MADE = {"vgg": vgg, "squeezenet": squeezenet, "digits": digits, "graph": residual_classifier}
QUICK = {*MADE, "digit_classifier", "resnet18", "squeezenet1_0"}
CASES = [(min, "exact", 0), (min, "exact", 1), (min, "paper", 0), (max, "exact", 1)]
TRUNKS = [
    pytest.param(make, which, alignment, axis, id=f"{name}-{which.__name__}-{alignment}-{axis}", marks=marks)
    for name, make in (MADE | NARROW).items()
    for which, alignment, axis in CASES
    for marks in [[] if name in QUICK and which is min else [pytest.mark.slow]]
]
every_trunk = pytest.mark.parametrize(("make", "which", "alignment", "axis"), TRUNKS)


def network(make, which, alignment):
    """Return an FCN that scores all maps down to the finest (min), or only the coarsest (max)."""
    classifier = make()
    stride = which([FCN(classifier, 2).stride, *classifier.taps])
    return randomised(FCN(classifier, 3, stride, alignment=alignment)).astype("float64").eval()


def images(model, size, seed=0):
    return np.random.default_rng(seed).standard_normal((1, model.channels, *size))


def transposed(x, axis):
    """Exchange rows and columns if the axis is that of the columns."""
    return np.ascontiguousarray(x.swapaxes(2, 3)) if axis else x


@every_trunk
def test_scores_of_cores_are_those_of_the_whole_image(make, which, alignment, axis):
    model = network(make, which, alignment)
    longest = smallest_tile(model) + 19
    size = (37, 3 * longest // 2)[:: 1 if axis else -1]
    x = images(model, size)
    whole, covered = model(x), np.zeros(size, int)
    for tile in tiles(model, size, longest):
        part = model(np.ascontiguousarray(x[(..., *tile.crop)]))[(..., *tile.inner)]
        np.testing.assert_allclose(part, whole[(..., *tile.core)], rtol=0, atol=1e-11 * abs(whole).max())
        assert max(edge.stop - edge.start for edge in tile.crop) <= longest
        covered[tile.core] += 1
    assert (covered == 1).all()


@every_trunk
def test_the_halo_has_no_pixel_more_than_needed(make, which, alignment, axis):
    """The pixel before the first unchanged one is changed, and so is the one after the last."""
    model = network(make, which, alignment)
    size = smallest_tile(model) + 40
    valid = _follow(model, axis, size, (True, True))
    first, last, step = int(valid.first), int(valid.last), valid.stride

    def changed(model, x):  # the cut is along rows here
        whole, part = (
            transposed(model(transposed(image, axis)), axis) for image in (x, x[:, :, step : step + size])
        )
        difference = abs(whole[:, :, step : step + size] - part).max(axis=(0, 1, 3))
        return difference > 1e-11 * abs(whole).max()

    x = images(model, (size + 2 * step, 41))
    assert not changed(model, x)[first : last + 1].any()
    ramp = np.broadcast_to(np.arange(size + 2.0 * step)[:, None] * 1e-100, x.shape)
    assert changed(with_edges(model, axis, 0), ramp[:, :, ::-1])[first - 1]
    assert changed(with_edges(model, axis, -1), ramp)[last + 1]


def with_edges(model, axis, edge):
    """Return a copy whose outputs depend on the pixel furthest up (edge 0) or down (-1).

    In a deep network, it would vanish among the others. So kernels get only their first or last row, or
    column, with positive weights; and biases are 0. If an image increases in that direction, all maps do, and
    the maximum of a window is there, too. The weights have a sum of 4, so that the branches of residual
    blocks outweigh what they are added to. The image must be tiny, so that nothing is clipped.
    """
    model = copy.deepcopy(model)
    for layer in model.layers():
        if isinstance(layer, Conv2d):
            kernel = np.moveaxis(layer.weight.data, 2 + axis, 0)  # a view
            kept = abs(kernel[edge])  # (O, C / groups, K)
            kernel[...] = 0
            kernel[edge] = 4 * kept / kept.sum(axis=(1, 2), keepdims=True)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data[...] = 0
    return model


@pytest.mark.parametrize("seed", range(4))
def test_random_sizes(seed):
    rng = np.random.default_rng(seed)
    model = network(lambda: digit_classifier(rng=0), min, "exact")
    longest = smallest_tile(model) + int(rng.integers(40))
    size = tuple(int(edge) for edge in rng.integers(1, 3 * longest, 2))
    x = images(model, size, seed)
    whole = model(x)
    for tile in tiles(model, size, longest):
        part = model(np.ascontiguousarray(x[(..., *tile.crop)]))[(..., *tile.inner)]
        np.testing.assert_allclose(part, whole[(..., *tile.core)], rtol=0, atol=1e-12)


def test_tiles_that_are_too_small_are_refused():
    model = FCN(digit_classifier(init="zeros"), 11)
    least = smallest_tile(model)
    assert list(tiles(model, (least, 5 * least), least))
    with pytest.raises(ValueError, match=f"{least - 1}.*{least}"):
        list(tiles(model, (least, 5 * least), least - 1))


def test_networks_without_tiles():
    gate = Sequential(Conv2d(1, 2, 3, padding=1, init="zeros"), GlobalAvgPool2d())
    smaller = Sequential(Conv2d(1, 2, 3, padding=1, init="zeros"), MaxPool2d(2))
    resized = FCN(dilated_resnet50(init="zeros"), 3, alignment="torchvision")
    for model in (gate, smaller, resized):
        assert smallest_tile(model) is None
        with pytest.raises(ValueError, match=r"GlobalAvgPool2d|Sequential.*\(128, 128\)|resized"):
            list(tiles(model, (1000, 1000), 500))


def test_tiles_of_every_length_come_to_an_end():
    """With less than a stride of new pixels, the next tile would begin where the last one began."""
    model = FCN(NARROW["vgg13"](), 5, 16).eval()
    least = smallest_tile(model)
    for longest in range(least, least + 34):
        cores = [tile.core[1] for tile in tiles(model, (1, longest + 300), longest)]
        assert [core.stop for core in cores[:-1]] == [core.start for core in cores[1:]]
        assert all(core.stop > core.start for core in cores)
