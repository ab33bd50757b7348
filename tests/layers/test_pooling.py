import re

import numpy as np
import pytest
from hypothesis import given

from minifcn import functional as F
from minifcn.checks import check_gradient, strategies
from minifcn.layers import AvgPool2d, GlobalAvgPool2d, MaxPool2d

pools = pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])


@pools
@given(case=strategies.pool_geometries(max_outputs=3))
def test_gradients_on_every_geometry(pool, case):
    layer = pool(**case.options)
    check_gradient(layer, case.input(1))
    assert layer(case.input()).shape == (case.batch, *layer.output_shape((case.channels, *case.input_size)))


def test_the_layers_call_the_functions():
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8))
    options = {"stride": (1, 2), "padding": (1, 0), "ceil_mode": True}
    assert np.array_equal(MaxPool2d((3, 2), **options)(x), F.max_pool2d(x, (3, 2), **options))
    for counted in (True, False):
        options["count_include_pad"] = counted
        assert np.array_equal(AvgPool2d((3, 2), **options)(x), F.avg_pool2d(x, (3, 2), **options))
        check_gradient(AvgPool2d((3, 2), **options), x)


def test_global_average_is_the_average_of_any_size():
    rng = np.random.default_rng(0)
    layer = GlobalAvgPool2d()
    for size in ((1, 1), (3, 5), (6, 2)):
        x, dy = rng.normal(size=(2, 3, *size)), rng.normal(size=(2, 3, 1, 1))
        y, count = layer(x), size[0] * size[1]
        for n, c in np.ndindex(2, 3):
            assert y[n, c, 0, 0] == pytest.approx(sum(x[n, c].ravel()) / count)
        assert np.allclose(layer.backward(dy), np.broadcast_to(dy / count, x.shape), rtol=1e-14)


@pools
def test_ceil_mode_can_be_changed_later(pool):
    layer = pool(2)
    assert layer.output_shape((1, 5, 4)) == (1, 2, 2)
    layer.geometry = layer.geometry.replace(ceil_mode=True)  # as FCN does with the pools of a classifier
    assert layer.ceil_mode
    assert layer.output_shape((1, 5, 4)) == (1, 3, 2)
    assert layer(np.ones((1, 1, 5, 4))).shape == (1, 1, 3, 2)


@pools
def test_coordinates_and_reprs(pool):
    name = pool.__name__
    assert str(pool(2).coordinate_map()) == "2 i + 1/2"
    assert str(pool(3, 2, 1).coordinate_map()) == "2 i + 0"
    with pytest.raises(ValueError, match="rows and columns differently"):
        pool((2, 3)).coordinate_map()
    assert repr(pool(2)) == f"{name}(kernel_size=(2, 2), stride=(2, 2))"
    assert repr(pool(3, 2, 1, ceil_mode=True)) == (
        f"{name}(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True)"
    )


@pools
def test_invalid_windows_are_refused_by_the_constructor(pool):
    for arguments, said in (
        ((0,), "kernel_size must be an integer >= 1, got 0"),
        ((2, 0), "stride must be an integer >= 1, got 0"),
        ((2, -1), "stride must be an integer >= 1, got -1"),
        ((2, 2, 2), "at most half of the pooling kernel_size 2, got 2"),
    ):
        with pytest.raises(ValueError, match=said):
            pool(*arguments)


@pools
def test_images_of_a_wrong_shape_are_refused(pool):
    with pytest.raises(ValueError, match="does not fit into height 2 with padding 0"):
        pool(3)(np.ones((1, 1, 2, 9)))
    for wrong in ((4,), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match=re.escape(str(wrong))):
            pool(3).output_shape(wrong)


def test_a_global_average_takes_maps_only():
    assert GlobalAvgPool2d().output_shape((5, 7, 8)) == (5, 1, 1)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        GlobalAvgPool2d().output_shape((5,))
