"""Wrong answers to the exercises of lesson 8, and what must be said about each."""

import numpy as np


def by_loops(truth, prediction, K, skip=True):
    n = np.zeros((K, K), int)
    for i, j in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if i < K or not skip:
            n[i % K, j] += 1
    return n


def truth_in_columns(truth, prediction, K):
    return by_loops(truth, prediction, K).T


def void_kept_as_ground(truth, prediction, K):
    return by_loops(np.where(truth == 255, 0, truth), prediction, K)


def void_clipped(truth, prediction, K):
    return by_loops(truth.clip(max=K - 1), prediction, K)


def void_not_left_out(truth, prediction, K):
    return np.bincount((truth * K + prediction).ravel(), minlength=K * K).reshape(K, K)


def eight_bits(truth, prediction, K):
    valid = truth != 255
    pairs = (truth[valid].astype(int) * K + prediction[valid]).astype(np.uint8)
    return np.bincount(pairs, minlength=K * K).reshape(K, K)


def without_minlength(truth, prediction, K):
    valid = truth != 255
    return np.bincount(truth[valid].astype(int) * K + prediction[valid]).reshape(K, K)


def errors_only(truth, prediction, K):
    n = by_loops(truth, prediction, K)
    return n - np.diag(np.diag(n))


def diagonal_only(truth, prediction, K):
    return np.diag(np.diag(by_loops(truth, prediction, K)))


def shares(truth, prediction, K):
    n = by_loops(truth, prediction, K)
    return n / max(n.sum(), 1)


def four(n, t, called, weights):
    right = np.diag(n)
    iou = right / (t + called - right)
    return (
        right.sum() / n.sum(),
        (right / t).mean(),
        iou.mean(),
        (weights * iou).sum() / weights.sum(),
    )


def axes_swapped(n):
    return four(n, n.sum(axis=0), n.sum(axis=1), n.sum(axis=0))


def union_too_large(n):
    t, called, right = n.sum(axis=1), n.sum(axis=0), np.diag(n)
    iou = right / (t + called)
    return right.sum() / n.sum(), (right / t).mean(), iou.mean(), (t * iou).sum() / t.sum()


def unweighted(n):
    return four(n, n.sum(axis=1), n.sum(axis=0), np.ones(len(n)))


def weighted_by_predictions(n):
    return four(n, n.sum(axis=1), n.sum(axis=0), n.sum(axis=0))


def precision_for_accuracy(n):
    pixel, _, iou, weighted = four(n, n.sum(axis=1), n.sum(axis=0), n.sum(axis=1))
    return pixel, (np.diag(n) / n.sum(axis=0)).mean(), iou, weighted


def one_iou_for_all(n):
    pixel, accuracy, _, weighted = four(n, n.sum(axis=1), n.sum(axis=0), n.sum(axis=1))
    return pixel, accuracy, pixel / (2 - pixel), weighted


def weights_not_divided(n):
    t, right = n.sum(axis=1), np.diag(n)
    iou = right / (t + n.sum(axis=0) - right)
    return *four(n, t, n.sum(axis=0), t)[:3], (t * iou).sum()


def three_numbers(n):
    return four(n, n.sum(axis=1), n.sum(axis=0), n.sum(axis=1))[:3]


def ious(n, absent):
    right = np.diag(n).astype(float)
    union = n.sum(axis=1) + n.sum(axis=0) - right
    return np.array([r / u if u else absent for r, u in zip(right, union, strict=True)])


def zero_for_absent(n):
    return ious(n, 0).mean(), len(n)


def one_for_absent(n):
    return ious(n, 1).mean(), len(n)


def truth_decides(n):
    there = n.sum(axis=1) > 0
    return ious(n, 0)[there].mean(), there.sum()


def sum_over_all_classes(n):
    found = ious(n, np.nan)
    return np.nansum(found) / len(n), np.isfinite(found).sum()


def right_classes_only(n):
    found = ious(n, 0)
    return found[found > 0].sum() / max((found > 0).sum(), 1), (found > 0).sum()


def not_a_number(n):
    return ious(n, np.nan).mean(), len(n)


def product(truth, prediction, K):
    classes = np.arange(K)
    return (truth.reshape(-1, 1) == classes).astype(int).T @ (prediction.reshape(-1, 1) == classes)


def product_the_other_way(truth, prediction, K):
    return product(truth, prediction, K).T


def product_of_booleans(truth, prediction, K):
    classes = np.arange(K)
    return (truth.reshape(-1, 1) == classes).T @ (prediction.reshape(-1, 1) == classes)


def product_with_void(truth, prediction, K):
    return product(np.where(truth == 255, 0, truth), prediction, K)


def by_bincount(truth, prediction, K):
    valid = truth != 255
    return np.bincount(truth[valid].astype(int) * K + prediction[valid], minlength=K * K).reshape(K, K)


def per_class(truth, prediction, K):
    return np.array([[((truth == i) & (prediction == j)).sum() for j in range(K)] for i in range(K)])


WRONG = {
    "my_confusion": {
        truth_in_columns: "Likely mistake: Rows and columns are swapped",
        void_kept_as_ground: "Likely mistake: Void pixels are counted as class 0",
        void_clipped: "Likely mistake: Void pixels are counted as the last class",
        void_not_left_out: "Smallest failing case: truth (1, 1) = [[255]]",
        eight_bits: "Likely mistake: Values above 255 overflow",
        without_minlength: "cannot reshape array of size 1 into shape (2,2)",
        errors_only: "Smallest failing case: truth (1, 1) = [[0]], prediction (1, 1) = [[0]], K = 2",
        diagonal_only: "Likely mistake: Only correct pixels are counted",
        shares: "Likely mistake: The result contains fractions",
    },
    "my_four_numbers": {
        axes_swapped: "Likely mistake: Rows and columns are swapped",
        union_too_large: "Likely mistake: The union counts n_ii twice",
        unweighted: "Likely mistake: The frequency-weighted IoU must be weighted by t",
        weighted_by_predictions: "Likely mistake: The weights of the frequency-weighted IoU are counts",
        precision_for_accuracy: "Likely mistake: The mean accuracy must divide by t",
        one_iou_for_all: "Likely mistake: The mean IoU is the mean of each class's IoU",
        weights_not_divided: "value 4 of 4: ",
        three_numbers: "the result must be 4 values, yours has 3",
    },
    "my_mean_iou": {
        zero_for_absent: "Likely mistake: An absent class counts as 0",
        one_for_absent: "Likely mistake: An absent class counts as 1",
        truth_decides: "Likely mistake: Classes that are predicted but nowhere true are left out",
        sum_over_all_classes: "Likely mistake: The sum is divided by K",
        right_classes_only: "Smallest failing case: n (2, 2) = [[0, 1], [0, 0]]",
        not_a_number: "Smallest failing case: n (2, 2)",
    },
    "my_product_of_labels": {
        product_the_other_way: "Likely mistake: Rows and columns are swapped",
        product_of_booleans: "Likely mistake: A product of booleans is a boolean",
        product_with_void: "Likely mistake: Void pixels are counted as class 0",
        by_bincount: "this exercise does not allow bincount",
        per_class: "this exercise does not allow loops",
    },
}
