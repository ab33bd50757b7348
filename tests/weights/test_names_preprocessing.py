import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.models import Preprocessing
from minifcn.weights import PREPROCESSING, parse_preprocessing

GREYS = st.integers(0, 255)
MEANS = st.lists(st.floats(-10, 300), min_size=3, max_size=3)
STDS = st.lists(st.floats(0.01, 300), min_size=3, max_size=3)
PIXEL = np.array([[[[200, 100, 50]]]], np.uint8)  # red, green, blue


def test_published_values():
    """(x / 255 - mean) / std for torchvision; BGR minus the means for Caffe; -1 to 1 for GoogLeNet."""
    torchvision = (np.array([200, 100, 50]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = {
        "torchvision": torchvision,
        "half": np.array([200, 100, 50]) / 255 * 2 - 1,
        "caffe": [50 - 104.00699, 100 - 116.66877, 200 - 122.67892],
        "tensorflow": [200 - 123.68, 100 - 116.779, 50 - 103.939],
        "keras": [50 - 103.939, 100 - 116.779, 200 - 123.68],
    }
    assert expected.keys() == PREPROCESSING.keys()
    for name, numbers in expected.items():
        assert np.allclose(parse_preprocessing(name)(PIXEL)[0, :, 0, 0], numbers, atol=1e-5)


def test_googlenets_own_transformation_is_included():
    normalised = PREPROCESSING["torchvision"](PIXEL)[0, :, 0, 0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert np.allclose(
        normalised * (std / 0.5) + (mean - 0.5) / 0.5, PREPROCESSING["half"](PIXEL)[0, :, 0, 0]
    )


@given(
    pixel=st.tuples(GREYS, GREYS, GREYS),
    mean=MEANS,
    std=STDS,
    scale=st.floats(1e-3, 10),
    key=st.sampled_from(["channels", "channel_order"]),
    order=st.sampled_from(["RGB", "BGR"]),
)
def test_images_are_multiplied_by_the_scale_first(pixel, mean, std, scale, key, order):
    said = json.dumps({key: order, "mean": mean, "std": std, "scale": scale, "input_size": [227, 227]})
    x = parse_preprocessing(said)(np.array(pixel, np.uint8)[None, None, None])[0, :, 0, 0]
    channels = np.array(pixel if order == "RGB" else pixel[::-1], float)
    expected = (channels * scale - mean) / std
    size = (abs(channels * scale) + np.abs(mean)) / std + 1
    assert (abs(x - expected) <= 1e-6 * size).all()


def test_std_and_scale_have_defaults():
    assert parse_preprocessing('{"channels": "L", "mean": [3]}') == Preprocessing("L", (3,), (1,))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value: .*"),
        ("Caffe", "Expecting value: .*"),
        ("{}", "'channel_order' is missing"),
        ('{"channels": "L"}', "'mean' is missing"),
        ('{"mean": [1]}', "'channel_order' is missing"),
        ('{"channels": "RGB", "mean": [1]}', "mean must be 3 .*"),
        ("null", ".*NoneType.*"),
    ],
)
def test_malformed_descriptions_are_refused(text, why):
    names = "torchvision, half, caffe, tensorflow, keras, or JSON"
    with pytest.raises(ValueError, match=rf"expected one of {names} .* \({why}\)$"):
        parse_preprocessing(text)
