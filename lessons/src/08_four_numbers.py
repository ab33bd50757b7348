# %% [markdown]
# # 8. Four numbers
#
# **Question.** 95 of 100 pixels are right, and the answer is useless. How can that be, and which number
# tells?
#
# **Minutes:** 12 to read, 1 to run, 45 for the exercises.
#
# **You need** labels for pixels, and what void is (lesson 1). No network is trained here.

# %%
import math

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise
from minifcn.data import DigitCanvases
from minifcn.viz import confusion_matrix, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# Class 0 is background, class $d + 1$ is the digit $d$. Here is an answer that needs no network:
# *everything is background*.

# %%
canvases = DigitCanvases("test", 40, size=(96, 144), digits_per_canvas=3)
pictures, truths = map(np.stack, zip(*(canvases[i] for i in range(40)), strict=True))
nothing = np.zeros_like(truths)  # class 0 everywhere
show(
    prediction_strips(
        pictures[:1], truths[:1], nothing[:1], canvases.class_names, canvases.palette
    ),
    "No digit is found, and yet only the red pixels of the last panel are wrong: 3.7 per cent.",
)
labelled = truths != 255
print(f"right: {(nothing == truths)[labelled].mean():.3f} of the labelled pixels")

# %% [markdown]
# ## One matrix
#
# All that is needed to judge an answer is one table. $n_{ij}$ is the number of pixels of class $i$ that
# were predicted as class $j$: rows are the truth, columns the prediction. This is the *confusion
# matrix*. Pixels that are void in the truth are not counted. With $K$ classes it is ($K$, $K$), whatever
# the number of pictures.

# %%
truth = np.array([[0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 2, 2, 255]], np.uint8)
guess = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 2, 2]], np.uint8)
counts = mf.metrics.ConfusionMatrix(3)
counts.update(truth, guess)
n = counts.matrix
show(
    panels({"truth": truth, "prediction": guess, "n": n}, columns=3),
    "n[0, 1] = 1: one pixel of class 0, in the first row, was taken for class 1. The void pixel is in no "
    "cell.",
)

# %% [markdown]
# $t_i = \sum_j n_{ij}$ is the number of pixels of class $i$: the sum of row $i$. The sum of column $i$
# is the number of pixels that were *called* $i$. The diagonal, $n_{ii}$, is what is right.
#
# The *intersection over union* (IoU) of class $i$ looks at the pixels that are $i$ in truth or in
# prediction, and asks how many are so in both:
#
# $$\mathrm{IoU}_i = \frac{n_{ii}}{t_i + \sum_j n_{ji} - n_{ii}}$$
#
# Long et al. (2015) report four numbers:
#
# | | |
# |---|---|
# | pixel accuracy | $\sum_i n_{ii} \,/\, \sum_i t_i$ |
# | mean accuracy | $\frac{1}{K} \sum_i n_{ii} \,/\, t_i$ |
# | mean IoU | $\frac{1}{K} \sum_i \mathrm{IoU}_i$ |
# | frequency-weighted IoU | $\sum_i t_i \, \mathrm{IoU}_i \,/\, \sum_i t_i$ |
#
# ## Predict
#
# For the small matrix above, with a pencil:
#
# 1. What are $t_0$, $t_1$ and $t_2$?
# 2. What is the IoU of class 1?
# 3. What is the pixel accuracy, and what the mean accuracy?

# %%
print("1. t =", n.sum(axis=1))
print(
    f"2. {n[1, 1]} / ({n[1].sum()} + {n[:, 1].sum()} - {n[1, 1]}) = {counts.iou_per_class()[1]:.3f}"
)
print(f"3. {n.trace()} / {n.sum()} = {counts.pixel_accuracy():.3f}", end="; ")
parts = " + ".join(f"{n[i, i]} / {n[i].sum()}" for i in range(3))
print(f"({parts}) / 3 = {counts.mean_accuracy():.3f}")

# %% [markdown]
# ## Exercise 8.1: count
#
# *15 minutes.* Make the confusion matrix of a picture, without void.
#
# <details><summary>Hint 1</summary>
#
# `truth[valid]` are the labels that count, in one row; `prediction[valid]` are their predictions, in the
# same order.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Give each pair a number of its own, `i * K + j`. `np.bincount(numbers, minlength=K * K)` counts them.
# Labels are uint8: turn them into int first, or `i * K` overflows beyond 255.
#
# </details>


# %%
def my_confusion(truth, prediction, K):
    """Return n (K, K) for truth and prediction (H, W) of uint8; truth may hold 255."""
    ### BEGIN SOLUTION
    valid = truth != 255
    pairs = truth[valid].astype(int) * K + prediction[valid]
    return np.bincount(pairs, minlength=K * K).reshape(K, K)
    ### END SOLUTION


# %%
# Check of exercise 8.1: run this cell.
def right_confusion(truth, prediction, K):
    counts = mf.metrics.ConfusionMatrix(K)
    counts.update(truth, prediction)
    return counts.matrix


@st.composite
def answers(draw):
    K = draw(st.sampled_from([2, 3, 4, 21]))
    pixels = draw(st.integers(1, 8))
    true = st.sampled_from([*range(K), 255])
    called = st.integers(0, K - 1)
    truth, prediction = (
        np.array([draw(st.lists(label, min_size=pixels, max_size=pixels))], np.uint8)
        for label in (true, called)
    )
    return truth, prediction, K


def of_pairs(truth, prediction, K):
    n = np.zeros((K, K), int)
    np.add.at(n, (truth.ravel(), prediction.ravel()), 1)
    return n


def transposed(truth, prediction, K):
    """Rows and columns have changed places: rows are the truth."""
    return right_confusion(truth, prediction, K).T


def void_is_background(truth, prediction, K):
    """Void pixels are counted as class 0; they must be in no cell."""
    return of_pairs(np.where(truth == 255, 0, truth), prediction, K)


def void_is_the_last_class(truth, prediction, K):
    """Void pixels are counted as the last class; they must be in no cell."""
    return of_pairs(np.minimum(truth, K - 1), prediction, K)


def overflowing(truth, prediction, K):
    """Numbers above 255 are lost, for labels are uint8: turn them into int before you multiply."""
    valid = truth != 255
    pairs = truth[valid] * np.uint8(K) + prediction[valid]
    return np.bincount(pairs, minlength=K * K)[: K * K].reshape(K, K)


def only_right(truth, prediction, K):
    """Only what is right is counted; n_ij with i and j unlike are the confusions."""
    return np.diag(np.diag(right_confusion(truth, prediction, K)))


def by_share(truth, prediction, K):
    """These are shares; n counts pixels."""
    n = right_confusion(truth, prediction, K)
    return n / max(n.sum(), 1)


check_exercise(
    my_confusion,
    right_confusion,
    answers(),
    mistakes=[
        transposed,
        void_is_background,
        void_is_the_last_class,
        overflowing,
        only_right,
        by_share,
    ],
)

# %% [markdown]
# ## Exercise 8.2: the four numbers
#
# *15 minutes.* Each class has at least one pixel here.
#
# <details><summary>Hint 1</summary>
#
# `n.sum(axis=1)` is $t$, `n.sum(axis=0)` the number of pixels called so, `np.diag(n)` what is right:
# three arrays of ($K$,).
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.average(iou, weights=t)` is a weighted mean.
#
# </details>


# %%
def my_four_numbers(n):
    """Return (pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU) for n (K, K)."""
    ### BEGIN SOLUTION
    right, t, called = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    iou = right / (t + called - right)
    return (
        right.sum() / t.sum(),
        (right / t).mean(),
        iou.mean(),
        np.average(iou, weights=t),
    )
    ### END SOLUTION


# %%
# Check of exercise 8.2: run this cell.
def right_numbers(n):
    counts = mf.metrics.ConfusionMatrix(len(n))
    rows, columns = np.indices(n.shape)
    truth = np.repeat(rows.ravel(), n.ravel()).astype(np.uint8)
    counts.update(truth, np.repeat(columns.ravel(), n.ravel()))
    return (
        counts.pixel_accuracy(),
        counts.mean_accuracy(),
        counts.mean_iou(),
        counts.frequency_weighted_iou(),
    )


@st.composite
def matrices(draw):
    K = draw(st.integers(2, 4))
    numbers = draw(st.lists(st.integers(1, 9), min_size=K * K, max_size=K * K))
    return (np.array(numbers).reshape(K, K),)


def columns_for_rows(n):
    """Rows and columns have changed places: t is the sum of each row, along axis 1."""
    return right_numbers(n.T)


def shared_twice(n):
    """The union counts n_ii twice: subtract it once from the sum of row and column."""
    right, t, called = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    pixel, accuracy, *_ = right_numbers(n)
    iou = right / (t + called)
    return pixel, accuracy, iou.mean(), np.average(iou, weights=t)


def plain_means(n):
    """The frequency-weighted IoU is weighted by t, the number of true pixels of each class."""
    pixel, accuracy, iou, _ = right_numbers(n)
    return pixel, accuracy, iou, iou


def weighted_by_calls(n):
    """The frequency-weighted IoU is weighted by how often a class is true, not how often it is called."""
    right, t, called = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    iou = right / (t + called - right)
    return *right_numbers(n)[:3], np.average(iou, weights=called)


def precision(n):
    """The mean accuracy divides by t, the sum of each row; what is called so is another number."""
    pixel, _, iou, weighted = right_numbers(n)
    return pixel, (np.diag(n) / n.sum(axis=0)).mean(), iou, weighted


def of_sums(n):
    """The mean IoU is the mean of each class's IoU, not the IoU of all pixels together."""
    pixel, accuracy, _, weighted = right_numbers(n)
    right = n.trace()
    return pixel, accuracy, right / (2 * n.sum() - right), weighted


check_exercise(
    my_four_numbers,
    right_numbers,
    matrices(),
    mistakes=[
        columns_for_rows,
        shared_twice,
        plain_means,
        weighted_by_calls,
        precision,
        of_sums,
    ],
)

# %% [markdown]
# ## Run: three answers
#
# Three answers to the 40 canvases, each wrong in its own way:
#
# - *nothing*: all is background;
# - *shifted*: every label is right, but stands 2 pixels too far to the right;
# - *mixed up*: every shape is right, but each 4 is called 9.
#
# Predict: which has the best pixel accuracy? Which the best mean IoU?

# %%
shifted = np.roll(np.where(labelled, truths, 0), 2, axis=2)
mixed_up = np.where(labelled, truths, 0)
mixed_up[mixed_up == 5] = 10
matrices_of = {}
print(f"{'':10}{'pixel acc.':>12}{'mean acc.':>12}{'mean IoU':>12}{'f.w. IoU':>12}")
for name, answer in {
    "nothing": nothing,
    "shifted": shifted,
    "mixed up": mixed_up,
}.items():
    counts = mf.metrics.ConfusionMatrix(11, class_names=canvases.class_names)
    counts.update(truths, answer)
    matrices_of[name] = counts
    four = (
        counts.pixel_accuracy(),
        counts.mean_accuracy(),
        counts.mean_iou(),
        counts.frequency_weighted_iou(),
    )
    print(f"{name:10}" + "".join(f"{number:12.3f}" for number in four))

# %% [markdown]
# Pixel accuracy and frequency-weighted IoU follow the largest class: background. The two means give each
# class one vote. For *nothing* the mean accuracy is 1/11: one class of eleven is always right.
#
# Mean IoU punishes more than mean accuracy does, for a wrong pixel harms two classes: the one it was
# missing from, and the one it was added to. In *mixed up*, 4 has lost all its pixels, and 9 has too many.

# %%
show(
    confusion_matrix(matrices_of["mixed up"].matrix, canvases.class_names),
    "Row 4 has its 100 per cent in column 9. All other rows are right.",
)
print(matrices_of["mixed up"].table())

# %% [markdown]
# ## Classes that are not there
#
# On one canvas with three digits, seven or more classes do not occur. Their $t_i$ is 0, and their
# accuracy 0 / 0: not a number. minifcn leaves such classes out, and says over how many the mean is. Here
# is a canvas with a 4 and without a 9, as *mixed up* answers it.

# %%
i = next(k for k in range(40) if (truths[k] == 5).any() and not (truths[k] == 10).any())
one = mf.metrics.ConfusionMatrix(11, class_names=canvases.class_names)
one.update(truths[i], mixed_up[i])
print(one.table())

# %% [markdown]
# Look at the two numbers of classes. A class that is predicted but nowhere true has a union, so it
# counts in the mean IoU, as 0. It has no true pixels, so it does not count in the mean accuracy.
#
# ## Exercise 8.3: a mean that says over what
#
# *15 minutes.* Write the mean IoU that leaves out the classes that are neither true nor predicted
# anywhere, and say how many are left.
#
# <details><summary>Hint</summary>
#
# A class is left out if its union is 0.
#
# </details>


# %%
def my_mean_iou(n):
    """Return (mean IoU, number of classes it is over) for n (K, K); some union is above 0."""
    ### BEGIN SOLUTION
    right = np.diag(n)
    union = n.sum(axis=1) + n.sum(axis=0) - right
    there = union > 0
    return (right[there] / union[there]).mean(), there.sum()
    ### END SOLUTION


# %%
# Check of exercise 8.3: run this cell.
def iou_parts(n):
    right, t, called = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    return right, t, called, t + called - right


def right_mean_iou(n):
    right, _, _, union = iou_parts(n)
    ious = [right[i] / union[i] for i in range(len(n)) if union[i]]
    return math.fsum(ious) / len(ious), len(ious)


@st.composite
def sparse_matrices(draw):
    K = draw(st.integers(2, 4))
    n = np.zeros((K, K), int)
    for _ in range(draw(st.integers(1, 4))):
        i, j = draw(st.integers(0, K - 1)), draw(st.integers(0, K - 1))
        n[i, j] += draw(st.integers(1, 9))
    return (n,)


def absent_is_zero(n):
    """A class that is nowhere counts as 0; it must be left out of the mean."""
    right, _, _, union = iou_parts(n)
    return (right / np.maximum(union, 1)).mean(), len(n)


def absent_is_one(n):
    """A class that is nowhere counts as 1; it must be left out of the mean."""
    right, _, _, union = iou_parts(n)
    return np.where(union > 0, right / np.maximum(union, 1), 1).mean(), len(n)


def true_classes_only(n):
    """Classes that are predicted but nowhere true are left out; they have a union, and count as 0."""
    right, t, _, union = iou_parts(n)
    return (right[t > 0] / union[t > 0]).mean(), (t > 0).sum()


def divided_by_all(n):
    """The sum is divided by K; divide it by the number of classes that are there."""
    right, _, _, union = iou_parts(n)
    return (right / np.maximum(union, 1)).sum() / len(n), (union > 0).sum()


check_exercise(
    my_mean_iou,
    right_mean_iou,
    sparse_matrices(),
    mistakes=[absent_is_zero, absent_is_one, true_classes_only, divided_by_all],
)

# %% [markdown]
# ## Break it
#
# **A matrix on its side.** Programs differ in what is a row. Predict: which of the four numbers of
# *shifted, and 4 called 9* change if the matrix is transposed?

# %%
both = np.roll(mixed_up, 2, axis=2)
counts = mf.metrics.ConfusionMatrix(11)
counts.update(truths, both)
n = counts.matrix
right = np.diag(n)
for name, m in {"n": n, "n transposed": n.T}.items():
    t, called = m.sum(axis=1), m.sum(axis=0)
    there = t > 0
    accuracy = right[there] / t[there]
    iou = right / (t + called - right)
    print(
        f"{name:13} pixel {right.sum() / t.sum():.3f}, "
        f"mean acc. {accuracy.mean():.3f} over {there.sum()} classes, "
        f"mean IoU {iou.mean():.3f}, f.w. IoU {np.average(iou, weights=t):.3f}"
    )

# %% [markdown]
# Pixel accuracy and mean IoU do not notice: the diagonal and the unions stay. The mean accuracy changes,
# and so does what it is over: nobody called anything 4, so on its side that class seems to be absent. Test
# your matrix, then, not only your mean IoU.
#
# **A mean of means.** Is the mean IoU of each picture, averaged, the mean IoU of all pictures?

# %%
each = []
for truth, answer in zip(truths, shifted, strict=True):
    counts = mf.metrics.ConfusionMatrix(11)
    counts.update(truth, answer)
    each.append(counts.mean_iou())
print(f"mean over pictures:   {np.mean(each):.3f}")
print(f"one matrix over all:  {matrices_of['shifted'].mean_iou():.3f}")

# %% [markdown]
# It is another number: in each picture only a few classes have a vote, and background always has one.
# The published figures come from one matrix over the whole set.
#
# **Void as a class.** What if the void pixels, which nobody predicts, were counted as background?

# %%
for name, answer in {"nothing": nothing, "shifted": shifted}.items():
    counts = mf.metrics.ConfusionMatrix(11)
    counts.update(np.where(labelled, truths, 0).astype(np.uint8), answer)
    before = matrices_of[name]
    print(
        f"{name:8} pixel accuracy {before.pixel_accuracy():.3f} -> {counts.pixel_accuracy():.3f}, "
        f"mean IoU {before.mean_iou():.3f} -> {counts.mean_iou():.3f}"
    )

# %% [markdown]
# The border of a digit is where *shifted* goes wrong, and where nobody knows what is right. Count it, and
# scores of different programs can no longer be compared.
#
# ## Recall
#
# <details><summary>1. What is n_ij?</summary>
#
# The number of pixels of class i that were predicted as class j, over the whole set.
#
# </details>
# <details><summary>2. With 21 classes, what is the mean accuracy of "all background"?</summary>
#
# 1/21: background is always right, the others never.
#
# </details>
# <details><summary>3. Why does a wrong pixel lower two IoUs?</summary>
#
# It is missing from its own class, and adds to the union of the class it was taken for.
#
# </details>
# <details><summary>4. Which two of the numbers follow the largest class?</summary>
#
# Pixel accuracy and frequency-weighted IoU.
#
# </details>
# <details><summary>5. When can the mean IoU of two papers be compared?</summary>
#
# If pictures, classes, void and the rule for absent classes are the same, and each has one matrix over
# all pictures.
#
# </details>
