# %% [markdown]
# # 1. What and where
#
# **Question.** What does it mean to label every pixel of an image, and what must a network know to do it?
#
# **Minutes:** 10 to read, 1 to run, 30 for the exercises.
#
# **You need** NumPy: arrays, slices, masks. No knowledge of neural networks.

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.viz import heat_maps, overlay, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# A car must know which part of the camera image is road; a robot must know which pixels belong to the cup
# before it reaches for the handle. One can ask three questions about an image:
#
# 1. **What** is in it? The answer is a few words: *classification*.
# 2. **Where** is it, roughly? The answer is a map of likely positions.
# 3. **Which pixel** belongs to what? The answer is a label for each pixel: *semantic segmentation*.
#
# The third question needs both of the others: what there is, and exactly where it is.
#
# Our images are *canvases* with handwritten digits, because a network learns them in seconds. Everything in
# this course applies to photographs as well.

# %%
canvases = DigitCanvases("test", 40, size=(48, 96), digits_per_canvas=3)
canvas, labels = canvases[7]
print("image:", canvas.shape, canvas.dtype, " labels:", labels.shape, labels.dtype)
show(
    overlay(canvas, labels, canvases.class_names, canvases.palette),
    "Each digit is shown in the colour of its class, with its name; pixels without a colour are void.",
)

# %% [markdown]
# The labels are an array with as many rows and columns as the image. Each value is a *class*: here 0 is
# background, and $d + 1$ is the digit $d$. The value 255 is *void*: along the border of a digit it is not
# clear which side a pixel belongs to, so these pixels are ignored.

# %%
corner = labels[10:20, 52:68]
show(
    panels({"labels of rows 10 to 19, columns 52 to 67": corner}),
    "The digit 6 has class 7; between it and the background, class 0, there is a line of 255.",
)

# %% [markdown]
# ## Predict
#
# 1. Which class has the most pixels?
# 2. How many different values occur in the labels of this canvas?
# 3. What fraction of the pixels is void?

# %%
values, counts = np.unique(labels, return_counts=True)
print("1. pixels:", dict(zip(values.tolist(), counts.tolist(), strict=True)))
print("2.", len(values), "values: background, the classes of the digits, and void")
print(f"3. {(labels == 255).mean():.3f}")

# %% [markdown]
# ## Exercise 1.1: how often does a class occur?
#
# *10 minutes, easy.* Compute the fraction of each class among the pixels that are not void.
#
# <details><summary>Hint 1</summary>
#
# `labels[labels != 255]` is a one-dimensional array of the pixels that count.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.bincount(values, minlength=classes)` counts each integer from 0 up, and gives 0 for those that do not
# occur.
#
# </details>


# %%
def my_frequencies(labels, classes):
    """Return fractions (classes,) for labels (H, W), uint8, with at least one pixel that is not void."""
    ### BEGIN SOLUTION
    counts = np.bincount(labels[labels != 255], minlength=classes)
    return counts / counts.sum()
    ### END SOLUTION


# %%
# Check of exercise 1.1: run this cell.
def right_frequencies(labels, classes):
    counts = mf.metrics.ConfusionMatrix(classes)
    counts.update(labels, np.where(labels == 255, 0, labels))
    n = counts.matrix.sum(axis=1)
    return n / n.sum()


@st.composite
def labellings(draw):
    classes = draw(st.integers(2, 4))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    label = st.sampled_from([*range(classes), 255])
    pixels = draw(st.lists(label, min_size=height * width, max_size=height * width))
    pixels[0] %= 255  # some pixel counts
    return np.array(pixels, np.uint8).reshape(height, width), classes


def counts_only(labels, classes):
    """These are counts of pixels; divide them by their sum."""
    return np.bincount(labels[labels != 255], minlength=classes)


def of_all_pixels(labels, classes):
    """The counts are divided by the number of all pixels; leave out void pixels there, too."""
    return counts_only(labels, classes) / labels.size


def void_as_background(labels, classes):
    """Void pixels are counted as background."""
    return right_frequencies(np.where(labels == 255, 0, labels).astype(np.uint8), classes)


def absent_left_out(labels, classes):
    """Classes that do not occur are left out; their fraction is 0."""
    fractions = right_frequencies(labels, classes)
    return fractions[fractions > 0]


def without_background(labels, classes):
    """Background is left out; it is a class like any other."""
    counts = counts_only(labels, classes)
    counts[0] = 0
    return counts / max(counts.sum(), 1)


check_exercise(
    my_frequencies,
    right_frequencies,
    labellings(),
    mistakes=[
        counts_only,
        of_all_pixels,
        void_as_background,
        absent_left_out,
        without_background,
    ],
)

# %%
counts = sum(np.bincount(truth[truth != 255], minlength=11) for _, truth in canvases)
print(f"fraction of each class in {len(canvases)} canvases:")
for name, fraction in zip(canvases.class_names, counts / counts.sum(), strict=True):
    print(f"{name:11} {fraction:.3f} {'#' * round(50 * fraction)}")

# %% [markdown]
# Almost nine out of ten pixels are background. A network that calls everything background is right on all of
# them, and has found nothing. Lesson 8 introduces measures that show the difference.
#
# ## Exercise 1.2: draw an overlay
#
# *20 minutes, medium.* Blend the colours of the labels with a grey image: each pixel becomes
# `(1 - alpha) * grey + alpha * colour of its class`. Void pixels stay as they are.
#
# <details><summary>Hint 1</summary>
#
# `palette[labels]` would look up the colours of all pixels at once, but the palette has no row 255. Replace
# void by class 0 for the look-up, and correct these pixels afterwards.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `grey[:, :, None]` has shape (H, W, 1) and broadcasts to (H, W, 3). A mask `void[:, :, None]` broadcasts in
# the same way in `np.where`.
#
# </details>


# %%
def my_overlay(grey, labels, palette, alpha):
    """Return (H, W, 3) for grey (H, W), labels (H, W), uint8, palette (K, 3) and alpha in [0, 1]."""
    ### BEGIN SOLUTION
    void = (labels == 255)[:, :, None]
    colours = palette[np.where(labels == 255, 0, labels)]  # (H, W, 3)
    image = np.repeat(grey[:, :, None], 3, axis=2)
    return np.where(void, image, (1 - alpha) * image + alpha * colours)
    ### END SOLUTION


# %%
# Check of exercise 1.2: run this cell.
def right_overlay(grey, labels, palette, alpha):
    blended = np.zeros((*labels.shape, 3))
    for pixel in np.ndindex(labels.shape):
        weight = 0 if labels[pixel] == 255 else alpha
        colour = palette[labels[pixel] % 255]
        blended[pixel] = (1 - weight) * grey[pixel] + weight * colour
    return blended


@st.composite
def images(draw):
    labels, classes = draw(any_labellings())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return {
        "grey": rng.integers(1, 250, labels.shape).astype(float),
        "labels": labels,
        "palette": rng.integers(1, 250, (classes, 3)).astype(float),
        "alpha": draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    }


@st.composite
def any_labellings(draw):
    classes = draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    label = st.sampled_from([*range(classes), 255])
    pixels = draw(st.lists(label, min_size=height * width, max_size=height * width))
    return np.array(pixels, np.uint8).reshape(height, width), classes


def void_coloured(grey, labels, palette, alpha):
    """Void pixels get the colour of class 0; they must stay grey."""
    return right_overlay(grey, np.where(labels == 255, 0, labels), palette, alpha)


def void_in_last_colour(grey, labels, palette, alpha):
    """Void pixels get the last colour of the palette; they must stay grey."""
    return right_overlay(grey, np.minimum(labels, len(palette) - 1), palette, alpha)


def weights_swapped(grey, labels, palette, alpha):
    """alpha is the weight of the colour, not that of the grey image."""
    return right_overlay(grey, labels, palette, 1 - alpha)


def added(grey, labels, palette, alpha):
    """The colour is added to the image; the image must be multiplied by 1 - alpha first."""
    image = np.repeat(grey[:, :, None], 3, axis=2)
    return (
        image + right_overlay(0 * grey, labels, palette, alpha) * (labels != 255)[..., None]
    )


def background_left_grey(grey, labels, palette, alpha):
    """Class 0 is not coloured; it has a colour like any other class."""
    return right_overlay(grey, np.where(labels == 0, 255, labels), palette, alpha)


def void_is_black(grey, labels, palette, alpha):
    """Void pixels are black; they must show the grey image."""
    return right_overlay(grey, labels, palette, alpha) * (labels != 255)[..., None]


check_exercise(
    my_overlay,
    right_overlay,
    images(),
    mistakes=[
        void_coloured,
        void_in_last_colour,
        weights_swapped,
        added,
        background_left_grey,
        void_is_black,
    ],
)

# %%
# Once its check prints ok, your function draws this figure; until then, the solution does.
draw = checked(my_overlay, otherwise=right_overlay)
grey_canvas, palette = canvas[:, :, 0].astype(float), canvases.palette.astype(float)
show(
    panels({"overlay": draw(grey_canvas, labels, palette, 0.5).round().astype(np.uint8)}),
    "The canvas with its labels, drawn by your function.",
)

# %% [markdown]
# ## Run: from what to which pixel
#
# This section shows the complete path, before the course takes it apart. You do not need to understand the
# code yet: the table below says which lesson explains which line.
#
# First, a *classifier* learns **what** a digit is, from images that each show one digit and have one label.

# %%
grey = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))


class EverySteps(mf.training.Callback):
    """Prints a line now and then, so that one sees that something happens."""

    def step(self, training):
        if training.step % 250 == 0:
            print(f"step {training.step}: loss {training.loss:.2f}")


def train(network, dataset, batch_size, lr):
    batches = Loader(dataset, batch_size, preprocess=grey, shuffle=True, seed=0)
    adam = mf.optim.Adam(network, lr=lr)
    schedule = mf.optim.Cosine(len(batches), warmup_steps=20)
    mf.training.fit(
        network, batches, adam, schedule=schedule, callbacks=[EverySteps()], progress=None
    )


classifier = mf.models.digit_classifier(rng=0)
train(classifier, DigitCrops("train", repeats=4), 32, lr=3e-3)
unseen = Loader(DigitCrops("test"), 100, preprocess=grey)
right = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(
    f"what: right on {100 * right:.1f} % of {len(unseen.dataset)} digits that it has not seen before"
)
crops = np.stack([unseen.dataset[i][0] for i in range(6)])
digits = mf.training.predict(classifier.eval(), grey(crops))
show(
    panels({f"{i + 1}: a {digits[i]}": crops[i] for i in range(6)}),
    "Above each image is the answer of the classifier: one word, and no position.",
)

# %% [markdown]
# The same classifier, turned into a network that slides over a canvas of any size, says roughly **where** the
# digits are. Not a single weight is changed.

# %%
sliding = mf.convolutionalize(classifier, (1, 32, 32)).eval()
large = DigitCanvases("test", 20, size=(96, 160), digits_per_canvas=6)
wide_canvas, wide_labels = large[12]  # a canvas of another size
likely = mf.functional.softmax(sliding(grey(wide_canvas[None])))[0]  # (10, rows, columns)
position = sliding.coordinate_map()  # where in the canvas each answer lies
rows, columns = likely.shape[1:]
edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)  # left, right, bottom, top
show(
    heat_maps(
        wide_canvas,
        likely,
        "0123456789",
        classes=[3, 8],
        extent=tuple(float(position(edge)) for edge in edges),
        label="probability",
    ),
    "Each cell in the frame is the probability of the digit around there: a position, not yet a shape.",
)
print(
    f"where: {rows} x {columns} answers for {wide_canvas.shape[0]} x {wide_canvas.shape[1]} pixels"
)

# %% [markdown]
# The maps of 3 and 8 are bright where these digits are. Some other positions are bright, too: the
# classifier has never seen background alone, and has to choose one of ten digits everywhere.
#
# The last step is a *fully convolutional network* (FCN): the same classifier with scores for eleven classes
# instead of ten, additional finer maps, and upsampling to the full resolution. It learns from canvases with
# labels, and answers **which pixel**.

# %%
fcn = mf.models.FCN(classifier, 11, 4)
for layer in fcn.score_layers():
    for parameter in layer.parameters():
        parameter.lr_multiplier = 3
train(fcn, DigitCanvases("train", 2000, size=(48, 96), digits_per_canvas=3), 2, lr=2e-3)
fcn.eval()
answer = mf.training.predict(fcn, grey(wide_canvas[None]))[0]
show(
    prediction_strips(
        [wide_canvas], [wide_labels], [answer], large.class_names, large.palette
    ),
    "The network was trained on canvases of 48 x 96 and labels one of 96 x 160; wrong pixels are red.",
)
print(f"{'right, in %:':12}{'all pixels':>12}{'digits only':>13}{'(all background)':>19}")
for name, dataset in {"48 x 96": canvases, "96 x 160": large}.items():
    n = mf.training.evaluate(fcn, Loader(dataset, 10, preprocess=grey)).matrix  # lesson 8
    right = n.diagonal()
    fractions = right.sum() / n.sum(), right[1:].sum() / n[1:].sum(), n[0].sum() / n.sum()
    print(f"{name:12}{{:12.1f}}{{:13.1f}}{{:19.1f}}".format(*(100 * x for x in fractions)))

# %% [markdown]
# The last column is the accuracy of an answer that is background everywhere. It is about 90 percent, too, so
# the first column alone says little. The second column says more: most pixels of the digits get the right
# digit, on canvases of a size that the network has never seen as well as on those it was trained for.
#
# | line | what it does | lesson |
# |---|---|---|
# | `digit_classifier()` | convolutions, and how they learn | 2, 3, 4 |
# | `coordinate_map()` | positions of the answers, and why there are few | 5 |
# | `convolutionalize(...)` | lets the classifier slide; heat maps | 6 |
# | `FCN(..., 11, 4)` | upsamples to all pixels | 7 |
# | `evaluate(...)` | measures the result | 8 |
# | `Preprocessing`, `train`, `lr_multiplier` | the whole network, its loss and training | 9 |
# | the 4 in `FCN(..., 11, 4)` | adds finer maps | 10 |
# | `FCN(classifier, ...)` | why training starts from a classifier | 11 |
# | every convolution | why it is fast | 12 |
#
# ## Break it
#
# **Labels are names, not quantities.** A photograph can be made smaller by averaging. Try that with labels:
# what becomes of a pixel between class 2 and class 8?

# %%
mask = np.array([[2, 2, 2, 8], [2, 2, 8, 8], [2, 8, 8, 8], [2, 8, 8, 8]], np.uint8)
averaged = mask.reshape(2, 2, 2, 2).mean(axis=(1, 3))
show(
    panels({"labels": mask, "averaged": averaged, "every second": mask[::2, ::2]}),
    "Averaging creates classes that are not in the labels, such as 5; taking every second pixel does not.",
)

# %% [markdown]
# Therefore labels are always resized by taking the *nearest* pixel.
#
# **Lossy compression.** JPEG keeps what the eye sees, and changes the values a little. The next cell imitates
# this: it adds -1, 0 or 1 at random to each value. Predict: what does this do to a photograph, and what to
# labels?

# %%
rng = np.random.default_rng(0)


def changed(values, largest):
    noise = rng.integers(-1, 2, values.shape)  # -1, 0 or 1
    return np.clip(values + noise, 0, largest).astype(np.uint8)


photo = mf.data.photograph("cat")[::3, ::3]  # every third pixel, (H, W, 3)
show(
    panels({"photograph": photo, "changed by up to 1": changed(photo, 255)}),
    "The difference is not visible.",
)
changed_labels = np.where(labels == 255, 255, changed(labels, 10))
show(
    overlay(canvas, changed_labels, canvases.class_names, canvases.palette),
    "Many background pixels became the digit 0, and the digits contain neighbouring classes of the list.",
)
digit = (labels > 0) & (labels < 255)
print(
    f"of the pixels of digits, {(changed_labels == labels)[digit].mean():.3f} are still right"
)

# %% [markdown]
# A value that is off by one is a different class, not a similar one. Masks are therefore saved as PNG, which
# keeps each value exactly.
#
# **Masks of 0 and 255.** Paint programs save a mask of two classes in black and white, as 0 and 255. Predict:
# what does such a mask mean here?

# %%
mask = np.array([[0, 0, 255, 255], [0, 255, 255, 255]], np.uint8)
kept = mask[mask != 255]
print(f"{kept.size} of {mask.size} pixels have a label, with the classes", np.unique(kept))
print("mask // 255 has the classes", np.unique(mask // 255))
scores = np.zeros((1, 2, 2, 4))  # of two classes, 0 and 1
try:
    mf.losses.softmax_cross_entropy(scores, 2 * (mask[None] // 255))
except ValueError as error:
    print("with a label 2:", error)

# %% [markdown]
# White was void, so that only background was left to learn. Print the values of a mask before you train.
# Other libraries report an invalid label as a failed assertion, such as `t >= 0 && t < n_classes`.
#
# ## Recall
#
# <details><summary>1. Which three questions can one ask about an image?</summary>
#
# What is in it, where is it, and which pixel belongs to what?
#
# </details>
# <details><summary>2. What is the shape of the labels of an image (H, W, 3)?</summary>
#
# (H, W): one class for each pixel.
#
# </details>
# <details><summary>3. What is void, and how is it treated?</summary>
#
# Pixels whose class is not known, label 255. They are ignored in the loss and in all metrics.
#
# </details>
# <details><summary>4. Why does "90 % of the pixels are right" prove nothing?</summary>
#
# About 90 % of the pixels are background; an answer that is background everywhere is just as good.
#
# </details>
# <details><summary>5. Why must labels not be averaged?</summary>
#
# They are names: the average of classes 2 and 8 is class 5, which is something else.
#
# </details>
