"""Wrong answers to the exercises of lesson 1, and what must be said about each."""

import numpy as np


def plain_counts(labels, classes):
    return np.array([(labels == k).sum() for k in range(classes)])


def mean_of_masks(labels, classes):
    return np.array([(labels == k).mean() for k in range(classes)])


def void_is_zero(labels, classes):
    ground = np.where(labels == 255, 0, labels)
    return np.array([(ground == k).mean() for k in range(classes)])


def those_that_occur(labels, classes):
    counts = np.unique(labels[labels != 255], return_counts=True)[1]
    return counts / counts.sum()


def digits_only(labels, classes):
    counts = plain_counts(labels, classes)
    counts[0] = 0
    return counts / max(counts.sum(), 1)


def with_void_at_the_end(labels, classes):
    counts = np.bincount(labels.ravel(), minlength=256)
    return counts / counts[:-1].sum()


def in_percent(labels, classes):
    counts = plain_counts(labels, classes)
    return 100 * counts / counts.sum()


def blend(grey, colours, alpha):
    return (1 - alpha) * grey[..., None] + alpha * colours


def void_as_class_0(grey, labels, palette, alpha):
    return blend(grey, palette[np.where(labels == 255, 0, labels)], alpha)


def void_clipped(grey, labels, palette, alpha):
    return blend(grey, palette[labels.clip(max=len(palette) - 1)], alpha)


def colour_no_255(grey, labels, palette, alpha):
    return blend(grey, palette[labels], alpha)


def the_wrong_share(grey, labels, palette, alpha):
    tinted = blend(grey, palette[np.where(labels == 255, 0, labels)], 1 - alpha)
    return np.where((labels == 255)[..., None], grey[..., None], tinted)


def colour_on_top(grey, labels, palette, alpha):
    colours = palette[np.where(labels == 255, 0, labels)] * (labels != 255)[..., None]
    return grey[..., None] + alpha * colours


def ground_not_tinted(grey, labels, palette, alpha):
    tinted = void_as_class_0(grey, labels, palette, alpha)
    return np.where(((labels == 255) | (labels == 0))[..., None], grey[..., None], tinted)


def black_void(grey, labels, palette, alpha):
    return void_as_class_0(grey, labels, palette, alpha) * (labels != 255)[..., None]


def channels_first(grey, labels, palette, alpha):
    tinted = void_as_class_0(grey, labels, palette, alpha)
    return np.where((labels == 255)[..., None], grey[..., None], tinted).transpose(2, 0, 1)


WRONG = {
    "my_frequencies": {
        plain_counts: "Likely mistake: These are counts of pixels",
        mean_of_masks: "Likely mistake: The counts are divided by the number of all pixels",
        void_is_zero: "Likely mistake: Void pixels are counted as background",
        those_that_occur: "Likely mistake: Classes that do not occur are left out",
        digits_only: "Likely mistake: Background is left out",
        with_void_at_the_end: "the result must have shape (2,), yours has (256,)",
        in_percent: "Smallest failing case: labels (1, 1) = [[0]], classes = 2",
    },
    "my_overlay": {
        void_as_class_0: "Likely mistake: Void pixels get the colour of class 0",
        void_clipped: "Likely mistake: Void pixels get the last colour",
        colour_no_255: "IndexError: index 255 is out of bounds",
        the_wrong_share: "Likely mistake: alpha is the weight of the colour",
        colour_on_top: "Likely mistake: The colour is added to the image",
        ground_not_tinted: "Likely mistake: Class 0 is not coloured",
        black_void: "Likely mistake: Void pixels are black",
        channels_first: "the result must have shape (1, 1, 3), yours has (3, 1, 1)",
    },
}
