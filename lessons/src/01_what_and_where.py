# %% [markdown]
# # 1. What and where
#
# **Question.** What does it mean to label every pixel of a picture, and what must a network know for it?
#
# **Minutes:** 10 to read, 1 to run, 30 for the exercises.
#
# **You need** NumPy: arrays, slices, masks. Nothing about networks.

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise
from minifcn.data import DigitCanvases, DigitCrops, Loader, photograph
from minifcn.viz import heat_maps, overlay, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# A *canvas* with handwritten digits. There are three questions that one can ask about it:
#
# 1. **What** is in it? The answer is a few words: *classification*.
# 2. **Where** is it, roughly? The answer is a map of likely places.
# 3. **Which pixel** belongs to what? The answer is a label for each pixel: *semantic segmentation*.
#
# The third needs both: to know what there is, and to know exactly where.

# %%
canvases = DigitCanvases("test", 40, size=(48, 96), digits_per_canvas=3)
canvas, labels = canvases[5]
print("picture:", canvas.shape, canvas.dtype, " labels:", labels.shape, labels.dtype)
show(
    overlay(canvas, labels, canvases.class_names, canvases.palette),
    "Each digit has its colour and its name, so nobody has to know the colours; what is not tinted is void.",
)

# %% [markdown]
# The labels are an array with as many rows and columns as the picture. Each number is a *class*: here 0
# is background, and $d + 1$ is the digit $d$. 255 is *void*: along the border of a digit nobody can say
# which side a pixel is on, so these pixels count for nothing.

# %%
corner = labels[8:18, 68:84]
show(
    panels({"labels of rows 8 to 17, columns 68 to 83": corner}),
    "The 6 has the number 7; between it and the background, 0, runs a line of 255.",
)

# %% [markdown]
# ## Predict
#
# 1. Which class has the most pixels?
# 2. How many different numbers occur in the labels of this canvas?
# 3. What share of the pixels is void?

# %%
numbers, counts = np.unique(labels, return_counts=True)
print("1. pixels:", dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
print("2.", len(numbers), "numbers: background, the classes of the digits, and void")
print(f"3. {(labels == 255).mean():.3f}")

# %% [markdown]
# ## Exercise 1.1: how often does a class occur?
#
# *10 minutes.* Give the share of each class among the pixels that are not void.
#
# <details><summary>Hint 1</summary>
#
# `labels[labels != 255]` are the pixels that count, in one row.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.bincount(row, minlength=classes)` counts each number from 0 on, and gives 0 for those that do not
# occur.
#
# </details>


# %%
def my_frequencies(labels, classes):
    """Return the shares (classes,) for labels (H, W) of uint8, of which some pixel is not void."""
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
    """These are numbers of pixels; divide them by their sum."""
    return np.bincount(labels[labels != 255], minlength=classes)


def of_all_pixels(labels, classes):
    """You divide by all pixels; void pixels must not count there, either."""
    return counts_only(labels, classes) / labels.size


def void_as_ground(labels, classes):
    """Void pixels are counted as background."""
    return right_frequencies(np.where(labels == 255, 0, labels).astype(np.uint8), classes)


def absent_left_out(labels, classes):
    """Classes that do not occur are left out; their share is 0."""
    shares = right_frequencies(labels, classes)
    return shares[shares > 0]


def without_ground(labels, classes):
    """Background is left out; it is a class like all others."""
    counts = counts_only(labels, classes)
    counts[0] = 0
    return counts / max(counts.sum(), 1)


check_exercise(
    my_frequencies,
    right_frequencies,
    labellings(),
    mistakes=[counts_only, of_all_pixels, void_as_ground, absent_left_out, without_ground],
)

# %%
counts = sum(np.bincount(truth[truth != 255], minlength=11) for _, truth in canvases)
print(f"share of each class, {len(canvases)} canvases together:")
for name, share in zip(canvases.class_names, counts / counts.sum(), strict=True):
    print(f"{name:11} {share:.3f} {'#' * round(50 * share)}")

# %% [markdown]
# Almost nine pixels in ten are background. Who calls everything background is right as often, and has
# found nothing. Lesson 8 is about numbers that tell.
#
# ## Exercise 1.2: tint a picture
#
# *20 minutes.* Lay the labels over a grey picture: each pixel becomes `(1 - alpha) * grey + alpha *
# colour of its class`. Void pixels stay as they are.
#
# <details><summary>Hint 1</summary>
#
# `palette[labels]` would look up a colour for each pixel at once, but there is no colour number 255.
# Give void pixels class 0 for the look-up, and put them right afterwards.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `grey[:, :, None]` is (H, W, 1), and meets (H, W, 3) in every channel. A mask `void[:, :, None]` does
# so in `np.where`.
#
# </details>


# %%
def my_overlay(grey, labels, palette, alpha):
    """Return (H, W, 3) for grey (H, W), labels (H, W) of uint8, palette (K, 3) and alpha from 0 to 1."""
    ### BEGIN SOLUTION
    void = (labels == 255)[:, :, None]
    colours = palette[np.where(labels == 255, 0, labels)]  # (H, W, 3)
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    return np.where(void, picture, (1 - alpha) * picture + alpha * colours)
    ### END SOLUTION


# %%
# Check of exercise 1.2: run this cell.
def right_overlay(grey, labels, palette, alpha):
    tinted = np.zeros((*labels.shape, 3))
    for place in np.ndindex(labels.shape):
        share = 0 if labels[place] == 255 else alpha
        colour = palette[labels[place] % 255]
        tinted[place] = (1 - share) * grey[place] + share * colour
    return tinted


@st.composite
def pictures(draw):
    labels, classes = draw(labellings_of_all())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return {
        "grey": rng.integers(1, 250, labels.shape).astype(float),
        "labels": labels,
        "palette": rng.integers(1, 250, (classes, 3)).astype(float),
        "alpha": draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    }


@st.composite
def labellings_of_all(draw):
    classes = draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    label = st.sampled_from([*range(classes), 255])
    pixels = draw(st.lists(label, min_size=height * width, max_size=height * width))
    return np.array(pixels, np.uint8).reshape(height, width), classes


def void_tinted(grey, labels, palette, alpha):
    """Void pixels get the colour of class 0; they must stay grey."""
    return right_overlay(grey, np.where(labels == 255, 0, labels), palette, alpha)


def void_in_last_colour(grey, labels, palette, alpha):
    """Void pixels get the last colour; they must stay grey."""
    return right_overlay(grey, np.minimum(labels, len(palette) - 1), palette, alpha)


def shares_swapped(grey, labels, palette, alpha):
    """alpha is the share of the colour, not that of the picture."""
    return right_overlay(grey, labels, palette, 1 - alpha)


def added(grey, labels, palette, alpha):
    """The colour is added to the whole picture; the picture keeps a share of 1 - alpha."""
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    return (
        picture
        + right_overlay(0 * grey, labels, palette, alpha) * (labels != 255)[..., None]
    )


def background_left_grey(grey, labels, palette, alpha):
    """Class 0 is not tinted; it has a colour as all others have."""
    return right_overlay(grey, np.where(labels == 0, 255, labels), palette, alpha)


def void_is_black(grey, labels, palette, alpha):
    """Void pixels are black; they must show the picture."""
    return right_overlay(grey, labels, palette, alpha) * (labels != 255)[..., None]


check_exercise(
    my_overlay,
    right_overlay,
    pictures(),
    mistakes=[
        void_tinted,
        void_in_last_colour,
        shares_swapped,
        added,
        background_left_grey,
        void_is_black,
    ],
)

# %% [markdown]
# ## Run: from what to which pixel
#
# Here is the whole way at once, as a machine that this course takes apart. Do not try to understand its
# lines yet: the table below says which lesson explains which.
#
# First a *classifier* learns **what** a digit is, from pictures with one digit and one label each.

# %%
grey = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))


def train(network, dataset, batch_size, lr):
    batches = Loader(dataset, batch_size, preprocess=grey, shuffle=True, seed=0)
    adam = mf.optim.Adam(network, lr=lr)
    schedule = mf.optim.Cosine(len(batches), warmup_steps=20)
    mf.training.fit(network, batches, adam, schedule=schedule, progress=None)


classifier = mf.models.digit_classifier(rng=0)
train(classifier, DigitCrops("train", repeats=4), 32, lr=3e-3)
unseen = Loader(DigitCrops("test"), 100, preprocess=grey)
right = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(
    f"what: right on {100 * right:.1f} % of {len(unseen.dataset)} digits it has never seen"
)
crops = np.stack([unseen.dataset[i][0] for i in range(6)])
digits = mf.training.predict(classifier.eval(), grey(crops))
show(
    panels({f"{i + 1}: a {digits[i]}": crops[i] for i in range(6)}),
    "Over each picture stands what the classifier calls it: one word, and no place.",
)

# %% [markdown]
# The same classifier, turned into a network that slides over a canvas of any size, says roughly
# **where**. Not one weight is changed.

# %%
sliding = mf.convolutionalize(classifier, (1, 32, 32)).eval()
large = DigitCanvases("test", 20, size=(96, 160), digits_per_canvas=6)
wide_canvas, wide_labels = large[3]  # a canvas of another size
likely = mf.functional.softmax(sliding(grey(wide_canvas[None])))[0]  # (10, rows, columns)
place = sliding.coordinate_map()  # where in the canvas each answer lies
rows, columns = likely.shape[1:]
edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)  # left, right, bottom, top
there = sorted(set(wide_labels[(wide_labels > 0) & (wide_labels < 255)].tolist()))[:2]
show(
    heat_maps(
        wide_canvas,
        likely,
        "0123456789",
        classes=[number - 1 for number in there],
        extent=tuple(float(place(edge)) for edge in edges),
        label="probability",
    ),
    "Each square in the frame says how likely the digit is around there: a place, not yet a shape.",
)
print(
    f"where: {rows} x {columns} answers for {wide_canvas.shape[0]} x {wide_canvas.shape[1]} pixels"
)

# %% [markdown]
# The 1 and the 2 glow where they stand. 2 glows in wrong places, too: this classifier has never seen mere
# background, and must call it one of ten digits.
#
# Last, a *fully convolutional network*: the same classifier, scores for eleven classes instead of ten,
# finer maps added, and the way back up to all pixels. It learns from canvases with labels, and answers
# **which pixel**.

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
    "It has learnt on canvases of 48 x 96 and labels one of 96 x 160; what is wrong is red.",
)
print(f"{'right, in %:':12}{'all pixels':>12}{'digits only':>13}{'(all background)':>19}")
for name, dataset in {"48 x 96": canvases, "96 x 160": large}.items():
    n = mf.training.evaluate(fcn, Loader(dataset, 10, preprocess=grey)).matrix  # lesson 8
    right = n.diagonal()
    shares = right.sum() / n.sum(), right[1:].sum() / n[1:].sum(), n[0].sum() / n.sum()
    print(f"{name:12}{{:12.1f}}{{:13.1f}}{{:19.1f}}".format(*(100 * x for x in shares)))

# %% [markdown]
# The last column is what calling everything background would have among all pixels, so the first number
# alone says little. The second does: most pixels of the digits, too, get the right digit, on canvases of a
# size that the network has never seen as well as on those like its own.
#
# | line | what it does | lesson |
# |---|---|---|
# | `digit_classifier()` | convolutions, and how they learn | 2, 3, 4 |
# | `coordinate_map()` | where answers lie, and why they are few | 5 |
# | `convolutionalize(...)` | lets the classifier slide; heat maps | 6 |
# | `FCN(..., 11, 4)` | goes back up to all pixels | 7 |
# | `evaluate(...)` | counts what is right | 8 |
# | `Preprocessing`, `train`, `lr_multiplier` | the whole network, its loss and training | 9 |
# | the 4 in `FCN(..., 11, 4)` | adds finer maps | 10 |
# | `FCN(classifier, ...)` | why the classifier comes first | 11 |
# | every convolution | why it is fast | 12 |
#
# ## Break it
#
# **Labels are names, not amounts.** A photograph is made smaller by averaging. Try that with labels: a
# pixel between class 2 and class 8 becomes ...?

# %%
mask = np.array([[2, 2, 2, 8], [2, 2, 8, 8], [2, 8, 8, 8], [2, 8, 8, 8]], np.uint8)
averaged = mask.reshape(2, 2, 2, 2).mean(axis=(1, 3))
show(
    panels({"labels": mask, "averaged": averaged, "every second": mask[::2, ::2]}),
    "Averaging invents classes that nobody painted, such as 5; taking every second pixel does not.",
)

# %% [markdown]
# So labels are only ever made larger or smaller by taking the *nearest* pixel.
#
# **A file that loses.** JPEG keeps what the eye sees, and changes numbers a little. Here is such a change
# made by hand: -1, 0 or 1 is added to each number, by chance. Predict: what does it do to a photograph, and
# what to labels?

# %%
rng = np.random.default_rng(0)


def changed(numbers, largest):
    noise = rng.integers(-1, 2, numbers.shape)  # -1, 0 or 1
    return np.clip(numbers + noise, 0, largest).astype(np.uint8)


photo = photograph("cup")[::4, ::4]
show(
    panels({"photograph": photo, "changed by up to 1": changed(photo, 255)}),
    "No eye sees the difference.",
)
moved = np.where(labels == 255, 255, changed(labels, 10))
show(
    overlay(canvas, moved, canvases.class_names, canvases.palette),
    "Background is strewn with the digit 0, and each digit with its neighbours in the list of classes.",
)
digit = (labels > 0) & (labels < 255)
print(f"of the pixels of digits, {(moved == labels)[digit].mean():.3f} are still right")

# %% [markdown]
# One step away lies another class, not almost the same one. Masks are saved as PNG, which keeps each number.
#
# ## Recall
#
# <details><summary>1. Which three questions can one ask about a picture?</summary>
#
# What is in it, where is it, and which pixel belongs to what?
#
# </details>
# <details><summary>2. What shape do the labels of a picture (H, W, 3) have?</summary>
#
# (H, W): one class for each pixel.
#
# </details>
# <details><summary>3. What is void, and what is done with it?</summary>
#
# Pixels of which nobody can say what they are, label 255. They are left out everywhere.
#
# </details>
# <details><summary>4. Why is "90 % of the pixels are right" no proof of anything?</summary>
#
# So many are background; calling everything background is as good.
#
# </details>
# <details><summary>5. Why must labels not be averaged?</summary>
#
# They are names: between 2 and 8 there lies no 5.
#
# </details>
