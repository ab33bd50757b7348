import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minifcn.data import Augment, CamVid
from minifcn.data.augment import _recolored
from tests.data.pictures import noise
from tests.real_data import CAMVID, needs_camvid


def rng(seed=0):
    return np.random.default_rng(seed)


def ramps(height, width):
    """An image whose first two channels are the row and the column of each pixel."""
    rows, cols = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, cols, np.zeros_like(rows)], axis=2)


sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))
seeds = st.integers(0, 2**32)


@given(sizes, st.booleans(), st.floats(0.3, 3), st.floats(1, 3), st.none() | sizes, seeds, st.integers(0, 1))
@settings(max_examples=150)
def test_image_and_labels_move_together(size, flip, least, more, crop, seed, axis):
    """Rows (columns) of the image are its labels: they must stay together."""
    image = ramps(*size)
    labels = image[..., axis].copy()
    augment = Augment(flip=flip, scale=(least, least * more), crop=crop)
    seen, moved = augment(image, labels, rng(seed))
    assert seen.shape[:2] == moved.shape
    # Bilinear and nearest differ by half a pixel and rounding; averaging reaches further, at edges one way.
    away = np.abs(seen[..., axis].astype(int) - moved)
    assert away.max() <= 1 + 0.5 / least
    inner = away[2:-2, 2:-2]
    assert inner.size == 0 or np.median(inner) <= 1
    if crop is not None:
        assert all(length <= most for length, most in zip(moved.shape, crop, strict=True))


@given(sizes, sizes, st.booleans(), seeds)
@settings(max_examples=80)
def test_crop_copies_pixels_exactly(size, crop, flip, seed):
    image = ramps(*size)
    labels = image[..., 0] ^ image[..., 1]
    seen, moved = Augment(crop=crop, flip=flip)(image, labels, rng(seed))
    assert moved.shape == tuple(map(min, size, crop))
    assert np.array_equal(moved, seen[..., 0] ^ seen[..., 1])
    step = -1 if seen[0, 0, 1] > seen[0, -1, 1] else 1
    assert (np.diff(seen[..., 0].astype(int), axis=0) == 1).all()
    assert (np.diff(seen[..., 1].astype(int), axis=1) == step).all()


def test_all_crop_positions_occur_and_half_of_the_images_are_mirrored():
    image = ramps(6, 7)
    pieces = [Augment(crop=(4, 5), flip=True)(image, image[..., 0], rng(seed))[0] for seed in range(400)]
    corners = {(int(piece[0, 0, 0]), int(piece[..., 1].min())) for piece in pieces}
    assert corners == {(row, col) for row in range(3) for col in range(3)}
    assert 150 < sum(piece[0, 0, 1] > piece[0, 1, 1] for piece in pieces) < 250


def test_scales_are_uniform_on_a_logarithmic_scale():
    heights = [
        Augment(scale=(0.5, 2))(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8), rng(i))[
            1
        ].shape[0]
        for i in range(400)
    ]
    assert 32 <= min(heights) <= 34
    assert 124 <= max(heights) <= 128
    assert 150 < sum(height < 64 for height in heights) < 250


@given(sizes, seeds)
@settings(max_examples=40)
def test_no_new_label_appears(size, seed):
    labels = rng(seed).choice(np.array([0, 7, 255], np.uint8), size)
    _, moved = Augment(flip=True, scale=(0.3, 3), crop=(50, 50), color=1)(noise(*size), labels, rng(seed))
    assert set(np.unique(moved)) <= {0, 7, 255}


@given(seeds, st.booleans(), st.booleans())
@settings(max_examples=30)
def test_options_do_not_change_what_is_drawn_for_others(seed, flip, color):
    image, labels = noise(40, 50), noise(40, 50, 1)
    geometry = Augment(flip=flip, scale=(0.5, 2), crop=20)(image, labels, rng(seed))
    both = Augment(flip=flip, scale=(0.5, 2), crop=20, color=0.5 if color else 0)(image, labels, rng(seed))
    assert np.array_equal(geometry[1], both[1])
    again = Augment(flip=flip, scale=(0.5, 2), crop=20)(image, labels, rng(seed))
    assert np.array_equal(geometry[0], again[0])


def test_without_options_items_are_copied_unchanged():
    image, labels = noise(5, 6), noise(5, 6, 1)
    seen, moved = Augment()(image, labels, rng())
    assert np.array_equal(seen, image)
    assert np.array_equal(moved, labels)
    seen[:] = moved[:] = 3  # the results are copies
    assert np.array_equal(image, noise(5, 6))
    assert np.array_equal(labels, noise(5, 6, 1))


def colored_by_steps(image, brightness, contrast, saturation, hue):
    """The four changes one after the other, pixel by pixel, with the conversions of `colorsys`."""
    bright = image * (1 + brightness)
    middle = (bright @ [0.299, 0.587, 0.114]).mean()
    changed = middle + (1 + contrast) * (bright - middle)
    result = np.empty_like(changed)
    turn = complex(np.exp(1j * np.radians(45 * hue))) * (1 + saturation)
    for place in np.ndindex(image.shape[:2]):
        y, i, q = colorsys.rgb_to_yiq(*changed[place].tolist())
        turned = complex(i, q) * turn
        r, g, b = changed[place] - colorsys_linear(y, i, q) + colorsys_linear(y, turned.real, turned.imag)
        result[place] = r, g, b
    return np.clip(result, 0, 255)


def colorsys_linear(y, i, q):
    """As `colorsys.yiq_to_rgb`, but without clipping to 0 and 1."""
    return np.array(
        [
            y + 0.9468822 * i + 0.6235565 * q,
            y - 0.2747879 * i - 0.6356910 * q,
            y - 1.1085450 * i + 1.7090069 * q,
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_colours_change_as_by_four_separate_steps(seed):
    image = np.kron(
        noise(3, 4, seed=seed), np.ones((4, 4, 1), np.uint8)
    )  # blocks, so that a sample has the mean
    labels = noise(12, 16, 1)
    seen, moved = Augment(color=0.4)(image, labels, rng(seed))
    assert np.array_equal(moved, labels)
    generator = rng(seed)
    generator.random(4)
    tint = (0.4 * generator.uniform(-1, 1, 4)).tolist()
    assert (
        np.abs(seen - colored_by_steps(image.astype(float), *tint)).max() <= 3
    )  # colorsys rounds its constants


def test_grey_pixels_stay_grey():
    grey = np.repeat(noise(8, 8, 1)[..., None], 3, axis=2)
    for seed in range(10):
        seen, _ = Augment(color=1)(grey, grey[..., 0], rng(seed))
        assert np.ptp(seen.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("tint", [[0.5, 0.5, 0, 0], [-0.5, 0.9, 0.3, 0.3], [0.2, -0.7, 0, 0], [0, 0, 1, 1]])
def test_grey_images_have_brightness_and_contrast_alone(tint):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    mean = image[::4, ::4].mean()
    bright, contrast = 1 + tint[0], 1 + tint[1]
    expected = np.clip(mean * bright + contrast * (image[..., 0] * bright - mean * bright), 0, 255)
    changed = np.asarray(_recolored(Image.fromarray(image[..., 0]), image, tint))
    assert np.abs(changed - expected).max() <= 0.5 + 1e-9


def test_grey_images_and_one_label_per_image():
    image, label = noise(20, 30, 1)[..., None], np.array(4, np.uint8)
    augment = Augment(flip=True, scale=(0.5, 2), crop=(10, 12), color=0.5)
    seen, same = augment(image, label, rng())
    assert (seen.shape, seen.dtype, same.shape, int(same)) == ((10, 12, 1), np.uint8, (), 4)
    repeated, _ = augment(np.repeat(image, 3, axis=2), label, rng())
    assert np.abs(repeated.astype(int) - seen).max() <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2, 1)}, r"scale .*\(2, 1\)"),
        ({"scale": (0, 1)}, "scale"),
        ({"scale": (1, float("inf"))}, "scale"),
        ({"scale": 2}, "scale .*got 2"),
        ({"scale": (1, 2, 3)}, r"scale .*\(1, 2, 3\)"),
        ({"crop": 0}, "crop .*>= 1, got 0"),
        ({"crop": (3, 4, 5)}, r"crop .*\(rows, columns\), got \(3, 4, 5\)"),
        ({"color": -0.1}, "color .*0 to 1, got -0.1"),
        ({"color": float("nan")}, "color .*0 to 1, got nan"),
    ],
)
def test_wrong_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        Augment(**options)


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (
            noise(4, 5) / 255,
            noise(4, 5, 1),
            r"image must be uint8 \(H, W, 3\) or \(H, W, 1\), got float64 \(4, 5, 3\)",
        ),
        (noise(4, 5, 4), noise(4, 5, 1), r"got uint8 \(4, 5, 4\)"),
        (noise(4, 5)[:0], noise(4, 5, 1)[:0], r"got uint8 \(0, 5, 3\)"),
        (noise(4, 5), noise(5, 4, 1), r"labels must be uint8 \(4, 5\) or \(\), got uint8 \(5, 4\)"),
        (noise(4, 5), noise(4, 5, 1).astype(np.int64), r"got int64 \(4, 5\)"),
    ],
)
def test_wrong_items_are_rejected(image, labels, message):
    with pytest.raises(ValueError, match=message):
        Augment()(image, labels, rng())


@needs_camvid
def test_on_real_scenes_the_classes_keep_their_shares():
    """Mirrored and moved, road is still road: where it is sky it is brighter than where it is road."""
    scenes = CamVid(CAMVID, "train")
    augment = Augment(flip=True, scale=(0.5, 2), crop=(240, 320), color=0.2)
    brighter = 0
    for index in range(0, 300, 15):
        image, labels = augment(*scenes[index], rng(index))
        if {0, 3} <= set(np.unique(labels)):
            brighter += image[labels == 0].mean() > image[labels == 3].mean() + 10
    assert brighter >= 12
