import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minifcn.data import DigitCanvases, DigitCrops, digit_images
from minifcn.data.digits import _collection
from minifcn.palette import palette

SPLITS = ("train", "validation", "test")


def as_bytes(images):
    return [image.tobytes() for image in images]


def test_each_digit_of_the_collection_is_in_one_split_only():
    parts = [as_bytes(digit_images(split)[0]) for split in SPLITS]
    assert len(set(chain(*parts))) == 1797  # no two images are equal, so comparing their bytes is enough
    assert [len(part) for part in parts] == [1198, 199, 400]


def test_the_digits_are_those_of_scikit_learn_in_the_same_order():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    images, digits = _collection()
    assert np.array_equal(images, load_digits().images)
    assert np.array_equal(digits, load_digits().target)
    assert images.dtype == digits.dtype == np.uint8


def test_splits_are_stratified_and_keep_image_and_digit_together():
    everything, targets = _collection()
    truth = dict(zip(as_bytes(everything), targets.tolist(), strict=True))
    for split, share in zip(SPLITS, (6 / 9, 1 / 9, 2 / 9), strict=True):
        images, digits = digit_images(split)
        assert [truth[image] for image in as_bytes(images)] == digits.tolist()
        per_class = np.bincount(digits)
        assert np.abs(per_class - share * np.bincount(targets)).max() < 2
        assert not images.flags.writeable
        assert not digits.flags.writeable


def test_the_splits_never_change():
    """Scores on these data are compared between versions."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for array in digit_images(split):
            digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == "be9afadc95f70e91"


def test_crops_are_images_with_one_label():
    crops = DigitCrops("validation", repeats=2, size=20)
    assert len(crops) == 2 * 199
    for index in (0, 198, 199, 397):
        image, label = crops[index]
        assert (image.shape, image.dtype, label.shape, label.dtype) == ((20, 20, 1), np.uint8, (), np.uint8)
        assert label == digit_images("validation")[1][index % 199]
    assert not np.array_equal(crops[0][0], crops[199][0])  # a repetition shows the digit differently


def test_class_names_and_palettes_agree():
    crops, canvases = DigitCrops("train"), DigitCanvases("train", 1)
    assert crops.class_names == tuple("0123456789")
    assert canvases.class_names == ("background", *crops.class_names)
    assert np.array_equal(canvases.palette, palette(11))
    assert np.array_equal(crops.palette, canvases.palette[1:])


def both(split, seed):
    return DigitCrops(split, seed=seed), DigitCanvases(split, 200, size=(40, 50), seed=seed)


@given(st.integers(0, 2**70), st.integers(0, 198), st.sampled_from(SPLITS))
@settings(max_examples=20, deadline=None)
def test_an_item_is_a_function_of_split_seed_and_index(seed, index, split):
    for mine, other in zip(both(split, seed), both(split, seed), strict=True):
        other[(index + 1) % 199]  # items read before do not matter
        for array, again in zip(mine[index], other[index], strict=True):
            assert np.array_equal(array, again)
        mine[index][0][:] = 0  # nor changes by the caller
        assert np.array_equal(mine[index][0], other[index][0])


def test_other_seeds_splits_and_indices_give_other_images():
    images = [
        dataset[index][0].tobytes()
        for split in SPLITS
        for seed in (0, 1)
        for dataset in both(split, seed)
        for index in (0, 1)
    ]
    images += [DigitCanvases(split, 1, digits_per_canvas=0)[0][0].tobytes() for split in SPLITS]
    assert len(set(images)) == len(images)  # the backgrounds alone differ, too


def test_the_images_of_a_seed_stay_as_they_are():
    """So that scores can be compared with those of other versions; libraries may round differently."""

    def blocks(image):
        height, width = (edge // 4 for edge in image.shape[:2])
        return image.reshape(4, height, 4, width).mean(axis=(1, 3))

    image, label = DigitCrops("test", size=32, seed=5, repeats=2)[450]
    expected = [[188, 173.5, 171.3, 190.5], [161.3, 114.2, 88.5, 162.7]]
    expected += [[191, 143.5, 128.9, 177.8], [171.8, 144.7, 150.6, 167.5]]
    np.testing.assert_allclose(blocks(image), expected, atol=0.5)
    assert label == 3
    crops = DigitCrops("validation")
    sums = [int(crops[i][0].sum()) for i in (12, 14, 36, 40)]
    np.testing.assert_allclose(sums, [124866, 164311, 140283, 119953], atol=20)
    image, labels = DigitCanvases("validation", 9)[3]
    expected = [[172.7, 167.1, 176.6, 203.1], [179.6, 181.7, 169.5, 185.9]]
    expected += [[202.3, 164, 203.9, 181.4], [207.3, 183.1, 205.4, 198.9]]
    np.testing.assert_allclose(blocks(image), expected, atol=0.5)
    counts = [7357, 432, 233, 0, 122, 127, 0, 0, 237, 0, 0, 708]
    np.testing.assert_allclose(np.bincount(np.minimum(labels, 11).ravel()), counts, atol=5)


def test_items_are_the_same_in_threads():
    canvases = DigitCanvases("train", 30)
    alone = [canvases[i][0].tobytes() for i in range(30)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: canvases[i][0].tobytes(), range(30))) == alone


def test_labels_lie_on_visible_ink():
    """The canvas differs from the one without digits where there is ink, and nowhere else."""
    for index in range(60):
        image, labels = DigitCanvases("train", 60, seed=5)[index]
        bare, nothing = DigitCanvases("train", 60, seed=5, digits_per_canvas=0)[index]
        assert not nothing.any()
        difference = np.abs(image[..., 0].astype(int) - bare[..., 0].astype(int))
        ink = (labels > 0) & (labels < 255)
        # Where half of a pixel is ink, at least half of the minimum contrast of 60 is left, minus rounding.
        # The noise is the same in both images and cancels, unless it was clipped at black or white.
        unclipped = (image[..., 0] > 0) & (image[..., 0] < 255) & (bare[..., 0] > 0) & (bare[..., 0] < 255)
        assert difference[ink & unclipped].min() >= 29
        inner = ndimage.binary_erosion(ink, iterations=2)
        assert (difference[inner & unclipped] >= 55).mean() > 0.9
        assert (difference[labels == 0] > 30).mean() < 0.01
        far = ~ndimage.binary_dilation(labels > 0, iterations=12)
        assert not difference[far].any()


def test_ink_is_darker_than_the_background():
    for index in range(40):
        image, labels = DigitCanvases("test", 40, digits_per_canvas=1)[index]
        bare, _ = DigitCanvases("test", 40, digits_per_canvas=0)[index]
        ink = (labels > 0) & (labels < 255)
        assert (image[ink] < bare[ink]).mean() > 0.99


def test_void_is_a_border_of_one_pixel_around_ink():
    eight = np.ones((3, 3), bool)
    for index in range(30):
        _, labels = DigitCanvases("train", 30, digits_per_canvas=1)[index]
        ink = (labels > 0) & (labels < 255)
        assert np.array_equal(labels == 255, ndimage.binary_dilation(ink, eight) & ~ink)
        _, crowded = DigitCanvases("train", 30, digits_per_canvas=8)[index]
        ink = (crowded > 0) & (crowded < 255)
        assert not ((crowded == 0) & ndimage.binary_dilation(ink, eight)).any()  # no ink without its border
        assert (crowded == 255).sum() < 1.5 * ink.sum()


def test_every_class_occurs_and_no_digit_is_hidden(monkeypatch):
    """Some ink of each pasted digit stays visible where digits overlap."""
    counts = np.zeros(256, int)
    for index in range(80):
        canvases = DigitCanvases("train", 80, digits_per_canvas=(3, 6), size=(120, 120))
        drawn = []

        def record(rng, *, original=canvases._positions, drawn=drawn):
            drawn.extend(original(rng))
            return drawn

        monkeypatch.setattr(canvases, "_positions", record)
        _, labels = canvases[index]
        assert 3 <= len(drawn) <= 6
        ink = (labels > 0) & (labels < 255)
        for (row, col), height in drawn:
            near = ink[max(0, int(row - height / 2)) :, max(0, int(col - height / 2)) :]
            assert near[: int(height), : int(height)].sum() >= 0.05 * height**2
        counts += np.bincount(labels.ravel(), minlength=256)
    assert (counts[:11] > 0).all()
    assert counts[11:255].sum() == 0
    assert counts[1:11].min() > 0.02 * counts[1:11].sum()


def test_digits_overlap_only_a_little():
    """Digits fill about a box of height h and width 3/4 h; two boxes share less than 2/5 of the smaller."""
    shares = []
    for index in range(60):
        canvases = DigitCanvases("train", 60, digits_per_canvas=20)
        places = canvases._positions(np.random.default_rng(index))
        for (mine, height), (other, other_height) in combinations(places, 2):
            overlap = [
                max(0.0, min(a + m, b + n) - max(a - m, b - n))
                for a, b, m, n in (
                    (mine[0], other[0], height / 2, other_height / 2),
                    (mine[1], other[1], 3 / 8 * height, 3 / 8 * other_height),
                )
            ]
            shares.append(overlap[0] * overlap[1] / (0.75 * min(height, other_height) ** 2))
    assert 0.05 < max(shares) < 0.4


def test_a_single_digit_has_one_class_and_the_right_height():
    canvases = DigitCanvases("test", 60, digits_per_canvas=1, size=64)
    heights = []
    for index in range(60):
        _, labels = canvases[index]
        classes = set(np.unique(labels).tolist()) - {0, 255}
        assert len(classes) == 1
        rows = np.flatnonzero(((labels > 0) & (labels < 255)).any(1))
        heights.append(rows[-1] - rows[0] + 1)
    assert 11 <= min(heights) <= 20
    assert 24 <= max(heights) <= 34


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_any_size_works(height, width, seed):
    image, labels = DigitCanvases("validation", 3, size=(height, width), seed=seed)[2]
    assert (image.shape, labels.shape) == ((height, width, 1), (height, width))
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)
    assert set(np.unique(labels).tolist()) <= {*range(11), 255}
    crop, _ = DigitCrops("validation", size=height, seed=seed)[2]
    assert crop.shape == (height, height, 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 200), (200, 7), (1, 500)])
def test_extreme_sizes_work(size):
    for index in range(5):
        image, labels = DigitCanvases("train", 5, size=size, digits_per_canvas=6)[index]
        assert (image.shape, labels.shape) == ((*size, 1), size)
        assert (labels > 0).any() or size == (1, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: digit_images("val"), "split .*'train', 'validation', 'test', got 'val'"),
        (lambda: DigitCrops("train", size=0), "size .*>= 1, got 0"),
        (lambda: DigitCrops("train", repeats=0), "repeats .*>= 1, got 0"),
        (lambda: DigitCrops("train", seed=-1), "seed .*>= 0, got -1"),
        (lambda: DigitCanvases("train", 0), "length .*>= 1, got 0"),
        (lambda: DigitCanvases("train", 1, size=(4, 0)), "size .*>= 1, got 0"),
        (lambda: DigitCanvases("train", 1, digits_per_canvas=(5, 2)), r"digits_per_canvas .*\(5, 2\)"),
    ],
)
def test_wrong_arguments_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_index_out_of_range_is_rejected():
    canvases = DigitCanvases("train", 3, size=5)
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"index must be from 0 to 2, got {index}"):
            canvases[index]
    assert len(list(canvases)) == 3  # so a for loop ends


def test_import_loads_nothing_heavy():
    code = "import sys, minifcn.data; print(*({'scipy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
