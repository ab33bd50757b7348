import json
from dataclasses import asdict

import numpy as np
import pytest

from minifcn.models import ModelInfo, Preprocessing

GREY = Preprocessing("L", (128.0,), (64.0,))
MEAN, STD = (104.0, 116.0, 122.0), (1.0, 2.0, 4.0)


@pytest.mark.parametrize(("channels", "order"), [("L", [0]), ("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_preprocessing_pixel_by_pixel(channels, order):
    mean, std = MEAN[: len(order)], STD[: len(order)]
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, len(order)), np.uint8)
    before = images.copy()
    x = Preprocessing(channels, mean, std)(images)
    assert x.dtype == np.float32
    assert x.shape == (2, len(order), 3, 4)
    assert x.flags.c_contiguous
    for n, i, j in np.ndindex(2, 3, 4):
        for c, source in enumerate(order):  # mean and std are in the network's order
            assert x[n, c, i, j] == pytest.approx(
                (float(images[n, i, j, source]) - mean[c]) / std[c], rel=1e-6
            )
    assert np.array_equal(images, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RGBA", (0.0,) * 4, (1.0,) * 4), "channels must be one of L, RGB, BGR, got 'RGBA'"),
        (("rgb", MEAN, STD), "channels must be one of L, RGB, BGR, got 'rgb'"),
        (("RGB", (0.0,), STD), r"mean must be 3 finite number\(s\) for channels RGB, got \(0.0,\)"),
        (("L", MEAN, (1.0,)), r"mean must be 1 finite number\(s\) for channels L, got "),
        (("L", (0.0,), (0.0,)), "every std must be positive"),
        (("L", (0.0,), (-1.0,)), "every std must be positive"),
        (("L", (float("nan"),), (1.0,)), "mean must be 1 finite"),
        (("L", (0.0,), (float("inf"),)), "std must be 1 finite"),
        (("L", ("a",), (1.0,)), "mean must be numbers"),
        (("L", (0.0,), (1.0,), 7), "bit_depth must be an integer >= 8, got 7"),
        (("L", (0.0,), (1.0,), 17), "bit_depth must be at most 16, got 17"),
        (("L", (0.0,), (1.0,), 8.0), "bit_depth must be an integer >= 8, got 8.0"),
        (("L", (0.0,), (1.0,), 8, (0, 1)), r"bands must be 1 integer.* for channels L, got \(0, 1\)"),
        (("RGB", MEAN, STD, 8, (0, 1, -1)), r"bands must be 3 integer.* got \(0, 1, -1\)"),
        (("RGB", MEAN, STD, 8, (0, 1, 2.5)), "bands must be numbers"),
        (("RGB", MEAN, STD, 8, "012"), "bands must be numbers"),
    ],
)
def test_invalid_preprocessing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(*arguments)


def test_images_of_a_wrong_shape_are_refused():
    with pytest.raises(TypeError, match="images must be uint8 from 0 to 255, got float32"):
        GREY(np.zeros((1, 2, 2, 1), np.float32))
    for shape in ((2, 2, 1), (1, 2, 2, 3), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"images must be \(N, H, W, 1\) for channels L, got "):
            GREY(np.zeros(shape, np.uint8))


def test_colours_are_chosen_or_given():
    info = ModelInfo(("nothing", "something"), GREY)
    assert info.palette.shape == (2, 3)
    assert info.palette.dtype == np.uint8
    assert len({tuple(color) for color in info.palette.tolist()}) == 2
    given = ModelInfo(("a", "b"), GREY, ((1, 2, 3), (4, 5, 6)))
    assert given.palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert given == ModelInfo(("a", "b"), GREY, ((1, 2, 3), (4, 5, 6)))
    with pytest.raises(ValueError, match="2 class names but 1 colours"):
        ModelInfo(("a", "b"), GREY, ((1, 2, 3),))
    for color in ((1, 2), (1, 2, 3, 4), (0, 0, 256), (-1, 0, 0)):
        with pytest.raises(ValueError, match=r"three integers from 0 to 255, got \("):
            ModelInfo(("a", "b"), GREY, ((0, 0, 0), color))
    for names in ((), 3, "ab", (1, 2)):
        with pytest.raises(ValueError, match="class_names must be texts"):
            ModelInfo(names, GREY)


def test_a_thousand_classes():
    info = ModelInfo(tuple(map(str, range(1000))), GREY)
    assert info.palette.shape == (1000, 3)


def test_bit_depth_and_bands_are_recorded():
    assert (GREY.bit_depth, GREY.bands) == (8, None)
    infrared = Preprocessing("RGB", MEAN, STD, bit_depth=np.int64(12), bands=[3, 1, np.int8(0)])
    assert (infrared.bit_depth, infrared.bands) == (12, (3, 1, 0))
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 2, 3), np.uint8)
    assert np.array_equal(infrared(images), Preprocessing("RGB", MEAN, STD)(images))
    info = ModelInfo(("a", "b"), infrared)
    assert ModelInfo.from_dict(json.loads(json.dumps(asdict(info)))) == info
    old = {"channels": "RGB", "mean": MEAN, "std": STD}
    assert ModelInfo.from_dict({"class_names": ("a",), "preprocessing": old}).preprocessing.bit_depth == 8


@pytest.mark.parametrize("values", [{}, {"class_names": ("a",)}, {"class_names": ("a",), "preprocessing": 3}])
def test_incomplete_dictionaries_are_refused(values):
    with pytest.raises(ValueError, match="the info does not fit"):
        ModelInfo.from_dict(values)
