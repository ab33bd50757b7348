import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minifcn.data import DigitCrops, class_counts, median_frequency_weights, open_dataset
from tests.data.folders import camvid


class Labelled:
    """A dataset of the given label arrays."""

    palette = np.zeros((4, 3), np.uint8)
    class_names = ("a", "b", "c", "d")

    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return np.zeros((*self.labels[index].shape, 3), np.uint8), self.labels[index]


arrays = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.sampled_from([0, 1, 2, 3, 255]),
)


@given(st.lists(arrays, min_size=1, max_size=6))
@settings(max_examples=60)
def test_counts_and_weights_as_defined(images):
    counts = class_counts(Labelled(*images))
    assert counts.per_image.shape == (len(images), 5)
    assert counts.per_image.dtype == np.int64
    for k, value in enumerate((0, 1, 2, 3, 255)):
        assert counts.pixels[k] == sum((labels == value).sum() for labels in images)
        assert counts.images[k] == sum((labels == value).any() for labels in images)
    frequency = {}
    for k in range(4):
        beside = [labels for labels in images if (labels == k).any()]
        if beside:
            frequency[k] = sum((labels == k).sum() for labels in beside) / sum(
                (labels != 255).sum() for labels in beside
            )
    if not frequency:
        with pytest.raises(ValueError, match="void"):
            median_frequency_weights(counts)
        return
    weights = median_frequency_weights(counts)
    assert (weights.dtype, weights.shape) == (np.float32, (4,))
    median = np.median(list(frequency.values()))
    for k in range(4):
        assert weights[k] == pytest.approx(median / frequency[k] if k in frequency else 1)


def test_a_label_that_is_no_class_is_rejected():
    with pytest.raises(ValueError, match="num_classes = 4"):
        class_counts(Labelled(np.full((2, 2), 7, np.uint8)))


def test_images_with_one_label_are_counted():
    crops = DigitCrops("validation")
    counts = class_counts(crops)
    assert counts.pixels.sum() == len(crops) == 199


def test_only_masks_of_files_are_read(tmp_path):
    camvid(tmp_path)
    for file in (tmp_path / "train").iterdir():
        file.write_bytes(b"not an image")
    counts = class_counts(open_dataset(f"camvid:{tmp_path}", "train"))
    assert counts.pixels.sum() == 3 * 6 * 8
