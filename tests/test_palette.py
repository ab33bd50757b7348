import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minifcn
from minifcn.palette import VOID, VOID_COLOR, palette

# How linear RGB looks to readers without one kind of cones: Machado, Oliveira & Fernandes (2009), severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colors, vision):
    """CIELAB coordinates (D65) of RGB colours as a reader with this vision sees them."""
    rgb = np.asarray(colors) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ VISION[vision].T, 0, 1) @ SRGB_TO_XYZ.T / SRGB_TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def smallest_distance(colors, vision):
    points = lab(colors, vision)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return distances[~np.eye(len(points), dtype=bool)].min()


def test_the_distances_used_here():
    # Published CIELAB values of sRGB red, and of white; red and dark green, which deuteranopes confuse.
    np.testing.assert_allclose(
        lab([[255, 0, 0], [255, 255, 255]], "normal"), [[53.24, 80.09, 67.2], [100, 0, 0]], atol=0.05
    )
    pair = [[163, 112, 102], [120, 124, 100]]
    assert smallest_distance(pair, "deuteranopia") < 0.4 * smallest_distance(pair, "normal")


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("classes", "distance"), [(12, 15), (21, 11)])
def test_classes_and_void_are_distinct_for_every_kind_of_vision(vision, classes, distance):
    assert smallest_distance([*palette(classes), VOID_COLOR], vision) > distance


def test_colors_differ_in_lightness_too():
    lightness = lab(palette(12), "normal")[:, 0]
    assert np.ptp(lightness) > 60
    assert np.std(lightness) > 15


def test_class_0_is_dark_grey():
    lightness, a, b = lab(palette(1), "normal")[0]
    assert lightness < 30
    assert np.hypot(a, b) < 2


def test_generated_colors_are_distinct():
    everything = {tuple(color) for color in palette(VOID).tolist()}
    assert len(everything) == VOID
    assert VOID_COLOR not in everything
    assert smallest_distance(palette(100), "normal") > 5


@given(st.integers(1, VOID))
def test_a_smaller_palette_is_the_start_of_a_larger_one(classes):
    colors = palette(classes)
    assert (colors.shape, colors.dtype) == ((classes, 3), np.uint8)
    np.testing.assert_array_equal(colors, palette(VOID)[:classes])


def test_a_changed_palette_does_not_change_the_next_one():
    palette(3)[:] = 0
    assert palette(3).any()


@pytest.mark.parametrize("classes", [0, -1, 256, 2.0, "3", None])
def test_numbers_of_classes_out_of_range_are_refused(classes):
    with pytest.raises(ValueError, match=r"num_classes .* 1 to 255, got"):
        palette(classes)


def test_the_palette_is_public():
    assert minifcn.palette.palette is palette
    assert "palette" in minifcn.__all__
