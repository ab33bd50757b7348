# %% [markdown]
# # 8. Four numbers
#
# **Question.** 95 of 100 pixels are right, and the answer is useless. How can that be, and which measure
# shows it?
#
# **Minutes:** 13 to read, 1 to run, 55 for the exercises.
#
# **You need** labels for pixels, and what void is (lesson 1). No network is trained here.

# %%
import math

import numpy as np
from hypothesis import strategies as st
from matplotlib.figure import Figure

import minifcn as mf
from minifcn.checks import check_exercise, checked
from minifcn.data import DigitCanvases
from minifcn.viz import confusion_matrix, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# Class 0 is background, class $d + 1$ is the digit $d$. Here is an answer that needs no network:
# *everything is background*.

# %%
canvases = DigitCanvases("test", 40, size=(96, 144), digits_per_canvas=3)
images, truths = map(np.stack, zip(*(canvases[i] for i in range(40)), strict=True))
nothing = np.zeros_like(truths)  # class 0 everywhere
show(
    prediction_strips(
        images[:1], truths[:1], nothing[:1], canvases.class_names, canvases.palette
    ),
    "No digit is found, but only the red pixels of the last panel are wrong: 3.7 percent.",
)
labelled = truths != 255
print(f"right: {(nothing == truths)[labelled].mean():.3f} of the labelled pixels")

# %% [markdown]
# ## One matrix
#
# One table is enough to judge an answer. $n_{ij}$ is the number of pixels of class $i$ that
# were predicted as class $j$: rows are the truth, columns the prediction. This is the *confusion
# matrix*. Pixels that are void in the truth are not counted. With $K$ classes its shape is ($K$, $K$), for
# any number of images.

# %%
truth = np.array([[0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 2, 2, 255]], np.uint8)
guess = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 2, 2]], np.uint8)
counts = mf.metrics.ConfusionMatrix(3)
counts.update(truth, guess)
n = counts.matrix
show(
    panels({"truth": truth, "prediction": guess, "n": n}, columns=3),
    "n[0, 1] = 1: one pixel of class 0, in the first row, was predicted as class 1. The void pixel is not "
    "counted.",
)

# %% [markdown]
# $t_i = \sum_j n_{ij}$ is the number of pixels of class $i$: the sum of row $i$. The sum of column $i$
# is the number of pixels that were *predicted* as $i$. The diagonal, $n_{ii}$, counts the correct pixels.
#
# The *intersection over union* (IoU) of class $i$ considers the pixels that are $i$ in truth or in
# prediction, and computes the fraction that is $i$ in both:
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
# For the small matrix above, by hand:
#
# 1. What are $t_0$, $t_1$ and $t_2$?
# 2. What is the IoU of class 1?
# 3. What is the pixel accuracy, and what is the mean accuracy?

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
# *15 minutes, medium.* Compute the confusion matrix of an image, without void.
#
# <details><summary>Hint 1</summary>
#
# `truth[valid]` is a one-dimensional array of the labels that count; `prediction[valid]` are their
# predictions, in the same order.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Give each pair its own index, `i * K + j`. `np.bincount(indices, minlength=K * K)` counts them.
# Labels are uint8: convert them to int first, or `i * K` overflows above 255.
#
# </details>


# %%
def my_confusion(truth, prediction, K):
    """Return n (K, K) for truth and prediction (H, W), uint8; truth may contain 255."""
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
    predicted = st.integers(0, K - 1)
    truth, prediction = (
        np.array([draw(st.lists(label, min_size=pixels, max_size=pixels))], np.uint8)
        for label in (true, predicted)
    )
    return truth, prediction, K


def of_pairs(truth, prediction, K):
    n = np.zeros((K, K), int)
    np.add.at(n, (truth.ravel(), prediction.ravel()), 1)
    return n


def transposed(truth, prediction, K):
    """Rows and columns are swapped: rows are the truth."""
    return right_confusion(truth, prediction, K).T


def void_is_background(truth, prediction, K):
    """Void pixels are counted as class 0; they must not be counted."""
    return of_pairs(np.where(truth == 255, 0, truth), prediction, K)


def void_is_the_last_class(truth, prediction, K):
    """Void pixels are counted as the last class; they must not be counted."""
    return of_pairs(np.minimum(truth, K - 1), prediction, K)


def overflowing(truth, prediction, K):
    """Values above 255 overflow, because labels are uint8: convert them to int before you multiply."""
    valid = truth != 255
    pairs = truth[valid] * np.uint8(K) + prediction[valid]
    return np.bincount(pairs, minlength=K * K)[: K * K].reshape(K, K)


def only_right(truth, prediction, K):
    """Only correct pixels are counted; n_ij with i different from j counts the confusions."""
    return np.diag(np.diag(right_confusion(truth, prediction, K)))


def fractions(truth, prediction, K):
    """The result contains fractions; n must contain counts of pixels."""
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
        fractions,
    ],
)

# %% [markdown]
# ## Exercise 8.2: the four numbers
#
# *15 minutes, easy.* Each class has at least one pixel here.
#
# <details><summary>Hint 1</summary>
#
# `n.sum(axis=1)` is $t$, `n.sum(axis=0)` the number of pixels predicted as each class, `np.diag(n)` the
# number of correct pixels: three arrays of shape ($K$,).
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
    right, t, predicted = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    iou = right / (t + predicted - right)
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
    """Rows and columns are swapped: t is the sum of each row, along axis 1."""
    return right_numbers(n.T)


def counted_twice(n):
    """The union counts n_ii twice: subtract it once from the sum of row and column."""
    right, t, predicted = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    pixel, accuracy, *_ = right_numbers(n)
    iou = right / (t + predicted)
    return pixel, accuracy, iou.mean(), np.average(iou, weights=t)


def plain_means(n):
    """The frequency-weighted IoU must be weighted by t, the number of true pixels of each class."""
    pixel, accuracy, iou, _ = right_numbers(n)
    return pixel, accuracy, iou, iou


def weighted_by_predictions(n):
    """The weights of the frequency-weighted IoU are counts of true pixels, not of predicted pixels."""
    right, t, predicted = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    iou = right / (t + predicted - right)
    return *right_numbers(n)[:3], np.average(iou, weights=predicted)


def precision(n):
    """The mean accuracy must divide by t, the sum of each row, not by the sum of each column."""
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
        counted_twice,
        plain_means,
        weighted_by_predictions,
        precision,
        of_sums,
    ],
)

# %% [markdown]
# ## Run: three answers
#
# Three answers for the 40 canvases, each wrong in a different way:
#
# - *nothing*: everything is background;
# - *shifted*: every label is right, but 2 pixels too far to the right;
# - *mixed up*: every shape is right, but each 4 is predicted as 9.
#
# Predict: which has the best pixel accuracy? Which has the best mean IoU?

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
# Pixel accuracy and frequency-weighted IoU follow the largest class, the background. The two means give
# each class the same weight. For *nothing* the mean accuracy is 1/11: one class of eleven is always right.
#
# Mean IoU is stricter than mean accuracy, because a wrong pixel lowers the IoU of two classes: its own
# class, and the class it was predicted as. In *mixed up*, class 4 has lost all its pixels, and 9 has too
# many.

# %%
show(
    confusion_matrix(matrices_of["mixed up"].matrix, canvases.class_names),
    "Row 4 has its 100 percent in column 9. All other rows are right.",
)
print(matrices_of["mixed up"].table())

# %% [markdown]
# ## A claim to test
#
# Lectures sometimes say: "frequency-weighted IoU is good when your data is imbalanced." Predict: an answer
# is perfect, except that it never finds one class, which becomes background. For which classes does which
# number fall more?

# %%
for name, lost in {"background": 0, "4": 5, "1": 2}.items():
    without = np.where(truths == lost, 1 if lost == 0 else 0, np.where(labelled, truths, 0))
    counts = mf.metrics.ConfusionMatrix(11)
    counts.update(truths, without)
    print(
        f"{name:10} not found: f.w. IoU {counts.frequency_weighted_iou():.3f}, "
        f"mean IoU {counts.mean_iou():.3f}"
    )

# %% [markdown]
# The claim is wrong. The weights are the frequencies, so the frequency-weighted IoU hardly changes when a
# rare class is lost: it hides exactly the classes that are hard to learn in imbalanced data. It answers
# another question: how good is the answer at a random pixel? For rare classes, use mean IoU, and print the
# IoU of each class.
#
# ## Dice or IoU?
#
# The *Dice coefficient* of a class, also called F1, is $2 n_{ii} \,/\, (t_i + \sum_j n_{ji})$. With $I$ for
# the IoU it is $2 I / (1 + I)$. Predict: which of the two is larger? Can they disagree on which answer is
# better?

# %%
n = matrices_of["shifted"].matrix
both = n.sum(axis=1) + n.sum(axis=0)  # true pixels and predicted pixels of each class
iou, dice = np.diag(n) / (both - np.diag(n)), 2 * np.diag(n) / both
print("the formula holds for each class:", np.allclose(dice, 2 * iou / (1 + iou)))
figure = Figure(figsize=(3.5, 3), layout="constrained")
axes, line = figure.subplots(), np.linspace(0, 1, 50)
axes.plot(line, 2 * line / (1 + line), label="2 I / (1 + I)")
axes.plot(line, line, ":", color="0.6", label="equal")
axes.plot(iou, dice, "o", label='a class of "shifted"')
axes.set(xlabel="IoU", ylabel="Dice")
axes.legend(frameon=False, fontsize=8)
show(figure, "Dice is larger, except at 0 and 1, and rises with the IoU.")
for name, of_two in {
    "equal": np.array([0.5, 0.5]),
    "unequal": np.array([0.15, 0.87]),
}.items():
    print(
        f"two classes, {name:8} mean IoU {of_two.mean():.2f}, "
        f"mean Dice {(2 * of_two / (1 + of_two)).mean():.2f}"
    )

# %% [markdown]
# For one class they always agree on which answer is better, since the curve rises. Means over classes can
# disagree, as in the last two lines. Never compare a Dice with an IoU.
#
# ## Absent classes
#
# On one canvas with three digits, seven or more classes do not occur. Their $t_i$ is 0, and their
# accuracy is 0 / 0: not a number. minifcn leaves such classes out, and reports the number of classes in
# each mean. Here is a canvas with a 4 and without a 9, with the answer *mixed up*.

# %%
i = next(k for k in range(40) if (truths[k] == 5).any() and not (truths[k] == 10).any())
one = mf.metrics.ConfusionMatrix(11, class_names=canvases.class_names)
one.update(truths[i], mixed_up[i])
print(one.table())

# %% [markdown]
# Compare the numbers of classes in the two means. A class that is predicted but nowhere true has a union, so
# it counts in the mean IoU, as 0. It has no true pixels, so it does not count in the mean accuracy.
#
# ## Exercise 8.3: a mean over the classes that occur
#
# *15 minutes, medium.* Write the mean IoU that leaves out the classes that are neither true nor predicted
# anywhere, and also return the number of remaining classes.
#
# <details><summary>Hint</summary>
#
# A class is left out if its union is 0.
#
# </details>


# %%
def my_mean_iou(n):
    """Return (mean IoU, number of classes in the mean) for n (K, K); at least one union is not 0."""
    ### BEGIN SOLUTION
    right = np.diag(n)
    union = n.sum(axis=1) + n.sum(axis=0) - right
    present = union > 0
    return (right[present] / union[present]).mean(), present.sum()
    ### END SOLUTION


# %%
# Check of exercise 8.3: run this cell.
def iou_parts(n):
    right, t, predicted = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    return right, t, predicted, t + predicted - right


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
    """An absent class counts as 0; leave it out of the mean."""
    right, _, _, union = iou_parts(n)
    return (right / np.maximum(union, 1)).mean(), len(n)


def absent_is_one(n):
    """An absent class counts as 1; leave it out of the mean."""
    right, _, _, union = iou_parts(n)
    return np.where(union > 0, right / np.maximum(union, 1), 1).mean(), len(n)


def true_classes_only(n):
    """Classes that are predicted but nowhere true are left out; they have a union and must count as 0."""
    right, t, _, union = iou_parts(n)
    return (right[t > 0] / union[t > 0]).mean(), (t > 0).sum()


def divided_by_all(n):
    """The sum is divided by K; divide it by the number of classes that occur."""
    right, _, _, union = iou_parts(n)
    return (right / np.maximum(union, 1)).sum() / len(n), (union > 0).sum()


check_exercise(
    my_mean_iou,
    right_mean_iou,
    sparse_matrices(),
    mistakes=[absent_is_zero, absent_is_one, true_classes_only, divided_by_all],
)

# %%
# Once their checks print ok, your functions judge the three answers; until then, the solutions do.
confusion = checked(my_confusion, otherwise=right_confusion)
four_numbers = checked(my_four_numbers, otherwise=right_numbers)
for name, answer in {"nothing": nothing, "shifted": shifted, "mixed up": mixed_up}.items():
    n = confusion(truths.reshape(-1, 144), answer.reshape(-1, 144), 11)
    print(f"{name:10}" + "".join(f"{number:12.3f}" for number in four_numbers(n)))

# %% [markdown]
# ## Exercise 8.4: without counting (optional)
#
# *10 minutes, hard.* A puzzle: the confusion matrix by one matrix product. No loops, no `bincount`; besides
# `@` and `==`, only `np.arange`, `reshape`, `astype`, `int` and `T`.
#
# <details><summary>Hint</summary>
#
# `truth.reshape(-1, 1) == np.arange(K)` has a row for each pixel. What is in the row of a void pixel?
#
# </details>


# %%
def my_product_of_labels(truth, prediction, K):
    """Return n (K, K) for truth and prediction (H, W), uint8; truth may contain 255."""
    ### BEGIN SOLUTION
    classes = np.arange(K)
    true = (truth.reshape(-1, 1) == classes).astype(int)  # (H * W, K)
    return true.T @ (prediction.reshape(-1, 1) == classes)
    ### END SOLUTION


# %%
# Check of exercise 8.4: run this cell.
def right_counts(truth, prediction, K):
    counts = mf.metrics.ConfusionMatrix(K)
    counts.update(truth, prediction)
    return counts.matrix


@st.composite
def pairs_of_labels(draw):
    K, height, width = (
        draw(st.integers(2, 4)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth, prediction = rng.integers(0, K, (2, height, width)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    return truth, prediction, K


def transposed(truth, prediction, K):
    """Rows and columns are swapped: rows are the truth."""
    return right_counts(truth, prediction, K).T


def booleans(truth, prediction, K):
    """A product of booleans is a boolean: convert one of the two with astype(int)."""
    return right_counts(truth, prediction, K) > 0


def void_is_background(truth, prediction, K):
    """Void pixels are counted as class 0; they must not be counted."""
    return right_counts(np.where(truth == 255, 0, truth).astype(np.uint8), prediction, K)


check_exercise(
    my_product_of_labels,
    right_counts,
    pairs_of_labels(),
    mistakes=[transposed, booleans, void_is_background],
    only={"np", "arange", "reshape", "astype", "int", "T"},
)

# %% [markdown]
# ## Break it
#
# **A transposed matrix.** Programs differ in what a row is. Predict: which of the four numbers of an answer
# that is *shifted* and *mixed up* change if the matrix is transposed?

# %%
both = np.roll(mixed_up, 2, axis=2)
counts = mf.metrics.ConfusionMatrix(11)
counts.update(truths, both)
n = counts.matrix
right = np.diag(n)
for name, m in {"n": n, "n transposed": n.T}.items():
    t, predicted = m.sum(axis=1), m.sum(axis=0)
    present = t > 0
    accuracy = right[present] / t[present]
    iou = right / (t + predicted - right)
    print(
        f"{name:13} pixel {right.sum() / t.sum():.3f}, "
        f"mean acc. {accuracy.mean():.3f} over {present.sum()} classes, "
        f"mean IoU {iou.mean():.3f}, f.w. IoU {np.average(iou, weights=t):.3f}"
    )

# %% [markdown]
# Pixel accuracy and mean IoU do not change: the diagonal and the unions stay the same. The mean accuracy and
# the frequency-weighted IoU change, and so does the number of classes with an accuracy: no pixel was
# predicted as 4, so in the transposed matrix this class seems to be absent. Therefore test your matrix, not
# only your mean IoU.
#
# **A mean of means.** Is the mean over images of each image's mean IoU the mean IoU of all images?

# %%
each = []
for truth, answer in zip(truths, shifted, strict=True):
    counts = mf.metrics.ConfusionMatrix(11)
    counts.update(truth, answer)
    each.append(counts.mean_iou())
print(f"mean over images:     {np.mean(each):.3f}")
print(f"one matrix for all:   {matrices_of['shifted'].mean_iou():.3f}")

# %% [markdown]
# No: in each image only a few classes count, and background always does.
# Published results come from one matrix over the whole set.
#
# **Void as a class.** What if the void pixels, which are never predicted, were counted as background?

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
# At the border of a digit *shifted* is wrong, and the truth is uncertain. If a program counts
# these pixels, its results cannot be compared with those of other programs.
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
# 1/21: background is always right, the other classes never.
#
# </details>
# <details><summary>3. Why does a wrong pixel lower two IoUs?</summary>
#
# It is missing from its own class, and adds to the union of the class it was predicted as.
#
# </details>
# <details><summary>4. Which two of the numbers follow the largest class?</summary>
#
# Pixel accuracy and frequency-weighted IoU.
#
# </details>
# <details><summary>5. When can the mean IoU of two papers be compared?</summary>
#
# If images, classes, void and the rule for absent classes are the same, and each uses one matrix over
# all images.
#
# </details>
