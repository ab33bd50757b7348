"""Tiles: the same scores as for the whole image, and no pixel more than that takes."""

import numpy as np
import pytest

from minifcn.layers import Conv2d, GlobalAvgPool2d, MaxPool2d, Sequential
from minifcn.models import FCN, digit_classifier, dilated_resnet50
from minifcn.models.tiling import _follow, smallest_tile, tiles
from tests.models.test_flow import LARGE, SMALL
from tests.models.trunks import randomised

TRUNKS = [
    pytest.param(
        make, strides[-1], alignment, id=f"{name}-{alignment}", marks=[pytest.mark.slow] * (name in slow)
    )
    for slow in [{*LARGE, "googlenet", "squeezenet1_0", "squeezenet1_1"}]
    for name, (make, strides) in (SMALL | LARGE).items()
    for alignment in ("exact", "paper")
]
every_trunk = pytest.mark.parametrize(("make", "stride", "alignment"), TRUNKS)


def network(make, stride, alignment):
    return randomised(FCN(make(), 3, stride, alignment=alignment)).astype("float64").eval()


def images(model, size, seed=0, count=1):
    return np.random.default_rng(seed).standard_normal((count, model.channels, *size))


def transposed(x, axis):
    """Exchange rows and columns if the axis is that of the columns."""
    return np.ascontiguousarray(x.swapaxes(2, 3)) if axis else x


@every_trunk
@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_scores_of_cores_are_those_of_the_whole_image(make, stride, alignment, axis):
    model = network(make, stride, alignment)
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
@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_the_halo_has_no_pixel_more_than_needed(make, stride, alignment, axis):
    """The pixel before the first unchanged one is changed, and so is the one after the last."""
    model = network(make, stride, alignment)
    size = smallest_tile(model) + 40
    valid = _follow(model, axis, size, (True, True))
    first, last, step = int(valid.first), int(valid.last), valid.stride
    x = images(model, (size + 2 * step, 61), count=3)  # the cut is along rows here
    whole, part = (
        transposed(model(transposed(image, axis)), axis) for image in (x, x[:, :, step : step + size])
    )
    changed = abs(whole[:, :, step : step + size] - part).max(axis=(0, 1, 3)) > 1e-11 * abs(whole).max()
    assert not changed[first : last + 1].any()
    assert changed[first - 1]
    assert changed[last + 1]


@pytest.mark.parametrize("seed", range(4))
def test_random_sizes(seed):
    rng = np.random.default_rng(seed)
    model = network(lambda: digit_classifier(rng=0), 2, "exact")
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
