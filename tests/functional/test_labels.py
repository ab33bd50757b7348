import numpy as np
import pytest

from minifcn.functional.labels import check_classes, refuse, valid_pixels


def test_every_label_is_a_class_or_void_or_raises():
    for num_classes in (1, 2, 21, 254, 255, 256, 300):
        for ignore_index in (0, 11, 255):
            for label in range(256):
                labels = np.array([[label]], np.uint8)
                if label == ignore_index or label < num_classes:
                    valid = valid_pixels(labels, num_classes, ignore_index)
                    assert valid.dtype == bool
                    assert valid.tolist() == [[label != ignore_index]]
                else:
                    with pytest.raises(ValueError, match=f"got {label} at "):
                        valid_pixels(labels, num_classes, ignore_index)


def test_the_error_names_value_position_and_count():
    labels = np.full((2, 3, 4), 255, np.uint8)
    labels[1, 0, 2], labels[1, 2, 3], labels[0, 1, 1] = 7, 9, 11
    with pytest.raises(ValueError, match=r"num_classes = 7 .* 255, got 11 at \(0, 1, 1\); 3 of 24 values"):
        valid_pixels(labels, 7)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "float32", "bool"])
def test_other_dtypes_raise(dtype):
    with pytest.raises(TypeError, match=f"labels must be uint8, got {dtype}"):
        valid_pixels(np.zeros((2, 2), dtype), 3)


def test_a_list_raises():
    with pytest.raises(TypeError, match=r"labels must be .* got list"):
        valid_pixels([[0, 1]], 3)


@pytest.mark.parametrize(
    ("num_classes", "ignore_index", "message"),
    [
        (0, 255, "num_classes must be an integer >= 1, got 0"),
        (2.0, 255, "num_classes must be an integer"),
        (3, -100, "ignore_index must be an integer >= 0, got -100"),
        (3, 256, "ignore_index must be from 0 to 255"),
    ],
)
def test_values_that_uint8_labels_cannot_hold_raise(num_classes, ignore_index, message):
    with pytest.raises(ValueError, match=message):
        check_classes(num_classes, ignore_index)


def test_empty_labels_are_valid():
    assert valid_pixels(np.zeros((0, 5), np.uint8), 3).shape == (0, 5)


def test_the_first_wrong_value_in_row_order_is_shown():
    values, wrong = np.arange(12).reshape(3, 4), np.zeros((3, 4), bool)
    refuse(wrong, values, "values must be right")
    wrong[1, 3] = wrong[2, 0] = True
    with pytest.raises(ValueError, match=r"got 7 at \(1, 3\); 2 of 12 values"):
        refuse(wrong, values, "values must be right")
