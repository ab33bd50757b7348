# %% [markdown]
# # 6. A dense layer is a convolution
#
# **Question.** A classifier takes pictures of one size and says *what* is in them. How does it come
# to say *where*, on pictures of any size, without one new weight?
#
# **Minutes:** 15 to read, 1 to run, 35 for the exercises.
#
# **You need** what a convolution is (lesson 2), and that a pool keeps the largest number of each 2
# x 2 block (lesson 5).

# %%
import time

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from minifcn.viz import heat_maps, panels, show

# %% [markdown]
# ## The picture
#
# At the end of a classifier, a *map* of $C$ channels, $H$ rows and $W$ columns is flattened: its
# numbers are written into one long row, channel after channel, and within a channel row after row.
# A *dense layer* (also: fully connected) multiplies a matrix by it. The matrix has $O$ rows, one
# for each output, and $C \cdot H \cdot W$ columns, one for each number of the map.
#
# Take one row of the matrix and fold it back, the way the map was flattened. It is a filter of
# shape ($C$, $H$, $W$), and each weight lies on the number that it is multiplied by.

# %%
rng = np.random.default_rng(1)
x = rng.integers(0, 5, (2, 2, 3)).astype(float)  # C, H, W
weights = rng.integers(-3, 4, (2, 12)).astype(float)  # O, C * H * W
filters = weights.reshape(2, 2, 2, 3)  # O, C, H, W
show(
    panels(
        {
            "x flattened": x.reshape(-1),
            "row 0 of the matrix": weights[0],
            "x, channel 0": x[0],
            "filter 0, channel 0": filters[0, 0],
            "x, channel 1": x[1],
            "filter 0, channel 1": filters[0, 1],
        },
        columns=2,
    ),
    "The first 6 weights of the row lie on channel 0, the last 6 on channel 1.",
)
print("dense layer:", weights @ x.reshape(-1))
print("convolution:", mf.functional.conv2d(x[None], filters)[0, :, 0, 0])

# %% [markdown]
# **What is reshaped?** The matrix alone, ($O$, $C \cdot H \cdot W$) to ($O$, $C$, $H$, $W$). No
# number changes, and the bias, one number for each output, stays as it is.
#
# **Where does the sum go?** Nowhere. A dense layer adds up $C \cdot H \cdot W$ products for each
# output. A convolution adds up the products in a window. Here the window is as large as the map, so
# the products are the same. It fits in one place only: 1 row and 1 column of output.
#
# ## Predict
#
# The same two filters meet a larger map, ($C$, $H$, $W$) = (2, 4, 5).
#
# 1. What shape has the output?
# 2. Which part of the map does output row 1, column 2 depend on?
# 3. What would the dense layer say about that part?

# %%
large = rng.integers(0, 5, (2, 4, 5)).astype(float)
y = mf.functional.conv2d(large[None], filters)[0]
print("1. shape:", y.shape)
show(
    panels(
        {"channel 0 of the map": large[0], "output 0": y[0]},
        boxes={"channel 0 of the map": [(1, 2, 2, 3)], "output 0": [(1, 2, 1, 1)]},
    ),
    "2. The number in the small box depends on the large box, in both channels.",
)
print(
    "3. dense layer:", weights @ large[:, 1:3, 2:5].reshape(-1), "convolution:", y[:, 1, 2]
)

# %% [markdown]
# A matrix with 12 columns cannot be multiplied by 40 numbers: a dense layer wants one size. A
# filter slides as far as there is room: a convolution takes any size, and gives the dense layer's
# answer *at every place*.
#
# ## Exercise 6.1: fold
#
# *10 minutes.* Turn the matrix of a dense layer into the filters of the convolution.
#
# <details><summary>Hint 1</summary>
#
# One call of `reshape` is enough. In which order do the axes come?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Flattening runs through the last axis fastest. Reshaping does, too.
#
# </details>


# %%
def my_dense_to_conv(weights, channels, height, width):
    """Return filters (O, C, H, W) for a matrix (O, C * H * W)."""
    ### BEGIN SOLUTION
    return weights.reshape(len(weights), channels, height, width)
    ### END SOLUTION


# %%
# Check of exercise 6.1: run this cell.
def right_filters(weights, channels, height, width):
    layer = Linear(channels * height * width, len(weights), bias=False, rng=0)
    layer.weight.data = weights
    return mf.dense_to_conv(layer, (channels, height, width)).weight.data


@st.composite
def matrices(draw):
    outputs, channels, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    return {
        "weights": draw(whole_numbers(outputs, channels * height * width)),
        "channels": channels,
        "height": height,
        "width": width,
    }


def channels_last(weights, channels, height, width):
    """The order is H, W, C, as in Keras; here maps are flattened channel by channel."""
    return weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)


def columns_first(weights, channels, height, width):
    """The columns of a map come before its rows; it is flattened row by row."""
    return weights.reshape(-1, channels, width, height).swapaxes(2, 3)


def turned(weights, channels, height, width):
    """The filters are turned by 180 degrees; fold the rows as they are."""
    return right_filters(weights, channels, height, width)[:, :, ::-1, ::-1]


def transposed(weights, channels, height, width):
    """The matrix is read column by column; a filter is one of its rows."""
    return weights.T.reshape(-1, channels, height, width)


def swapped(weights, channels, height, width):
    """Height and width have changed places."""
    return weights.reshape(-1, channels, width, height)


check_exercise(
    my_dense_to_conv,
    right_filters,
    matrices(),
    mistakes=[channels_last, columns_first, turned, transposed, swapped],
)

# %% [markdown]
# ## Run: a classifier that slides
#
# This classifier learns handwritten digits, grey pictures of 32 x 32 pixels, in some 10 seconds.
# Its convolutions have no padding. Follow the sizes: 32, 28, 14, 12, 6 rows and columns, and 32 x 6
# x 6 = 1152 numbers are flattened.

# %%
rng = np.random.default_rng(0)
classifier = Sequential(
    Conv2d(1, 16, 5, rng=rng),
    ReLU(),
    MaxPool2d(2),
    Conv2d(16, 32, 3, rng=rng),
    ReLU(),
    MaxPool2d(2),
    Flatten(),
    Linear(1152, 128, rng=rng),
    ReLU(),
    Linear(128, 10, rng=rng),
)
preprocess = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))  # subtract, divide
batches = Loader(DigitCrops("train", repeats=6), 32, preprocess=preprocess, shuffle=True, seed=0)
mf.training.fit(
    classifier,
    batches,
    mf.optim.Adam(classifier, lr=3e-3),
    schedule=mf.optim.Cosine(len(batches), warmup_steps=20),
    progress=None,
)
unseen = Loader(DigitCrops("test"), 100, preprocess=preprocess)
# A classifier gives one answer a crop, so a "pixel" is a crop here.
accuracy = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(f"right on {100 * accuracy:.1f} % of {len(unseen.dataset)} digits it has never seen")

# %% [markdown]
# `mf.convolutionalize` folds every dense layer. The first becomes a filter as large as the last
# map, 6 x 6. Behind it, a map has one row and one column left, so the next dense layer becomes a
# filter of 1 x 1. Flattening is gone.
#
# Predict: on a *canvas*, a picture of 80 rows and 160 columns with three digits, how many rows and
# columns of answers are there? Follow the sizes again.

# %%
sliding = mf.convolutionalize(classifier, (1, 32, 32))
for number in (7, 9):
    print(f"layer {number}: {classifier[number]}  becomes  {sliding[str(number)]}")

canvas, labels = DigitCanvases("test", 8, size=(80, 160), digits_per_canvas=3)[1]
picture = preprocess(canvas[None])  # (1, 1, 80, 160)
scores = sliding(picture)[0]
print("scores:", scores.shape)

# %% [markdown]
# Ten scores at 13 x 33 places. *Softmax* makes probabilities of them, and each class gets a *heat
# map*: its probability at each place.

# %%
place = sliding.coordinate_map()  # where in the picture the middle of each window lies
half = place.scale / 2
top, left = float(place(0) - half), float(place(0) - half)
bottom, right = float(place(12) + half), float(place(32) + half)
show(
    heat_maps(
        canvas,
        mf.functional.softmax(scores[None])[0],
        "0123456789",
        classes=[2, 9],
        extent=(left, right, bottom, top),
        label="probability",
    ),
    "The twos light up in the map of 2, the nine in that of 9; a few other places do so wrongly.",
)

# %% [markdown]
# The frame holds the middles of all windows. Between the digits the network guesses: it has never
# seen ground without a digit, and it has no eleventh answer for it. Lesson 9 gives it one.
#
# **Where does the resolution come from?** From the windows: neighbouring answers come from windows
# that lie apart by the *stride* of the network. Each pool halves the map, so two pools make a
# stride of 4 pixels, and (80 - 32) / 4 + 1 = 13. There is an answer for every fourth pixel, and
# none for the others. Getting back to all pixels is the subject of lesson 7.
#
# ## Exercise 6.2: which window?
#
# *10 minutes.* A network without padding was trained on `size` x `size` pixels, and has a stride.
# Which pixels does its answer in row i and column j depend on?
#
# <details><summary>Hint</summary>
#
# Answer (0, 0) sees rows 0 to size - 1. Answer (1, 0) sees as many rows, `stride` further down.
#
# </details>


# %%
def my_window(i, j, size, stride):
    """Return (top, left, bottom, right), so that picture[top:bottom, left:right] is what is seen."""
    ### BEGIN SOLUTION
    return i * stride, j * stride, i * stride + size, j * stride + size
    ### END SOLUTION


# %%
# Check of exercise 6.2: run this cell.
def right_window(i, j, size, stride):
    window = mf.geometry.Window(size, stride)
    (top, last_row), (left, last_col) = window.input_range(i, i), window.input_range(j, j)
    return top, left, last_row + 1, last_col + 1


answers = st.fixed_dictionaries(
    {name: st.integers(0, 20) for name in "ij"}
    | {"size": st.integers(1, 64), "stride": st.integers(1, 16)}
)


def side_by_side(i, j, size, stride):
    """The windows lie side by side, as if the stride were their size; they overlap."""
    return right_window(i, j, size, size)


def pixel_by_pixel(i, j, size, stride):
    """The stride is forgotten: neighbouring windows are `stride` pixels apart."""
    return right_window(i, j, size, 1)


def x_first(i, j, size, stride):
    """Rows and columns are swapped: i counts rows, from top to bottom."""
    return right_window(j, i, size, stride)


def last_pixel(i, j, size, stride):
    """Bottom and right are the last pixels themselves; a slice ends one behind them."""
    top, left, bottom, right = right_window(i, j, size, stride)
    return top, left, bottom - 1, right - 1


def stride_only(i, j, size, stride):
    """The window ends where the next one begins; it is `size` pixels long."""
    return i * stride, j * stride, (i + 1) * stride, (j + 1) * stride


def slice_by_slice(i, j, size, stride):
    """The order is another one: top and left come first, then bottom and right."""
    top, left, bottom, right = right_window(i, j, size, stride)
    return top, bottom, left, right


check_exercise(
    my_window,
    right_window,
    answers,
    mistakes=[
        side_by_side,
        pixel_by_pixel,
        x_first,
        last_pixel,
        stride_only,
        slice_by_slice,
    ],
)

# %% [markdown]
# Now the claim itself: one pass over the canvas gives what the dense classifier says about each of
# the 13 x 33 = 429 crops. Which way is faster?

# %% tags=["varies"]
started = time.perf_counter()
crops = [
    picture[:, :, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]
    for i in range(13)
    for j in range(33)
]
one_by_one = np.concatenate([classifier(crop) for crop in crops])  # (429, 10)
seconds = time.perf_counter() - started
started = time.perf_counter()
at_once = sliding(picture)[0].reshape(10, 429).T
print(
    f"largest score {abs(at_once).max():.1f}, largest difference {abs(one_by_one - at_once).max():.1e}"
)
print(f"429 crops: {seconds:.2f} s; one pass: {time.perf_counter() - started:.3f} s")

# %% [markdown]
# The difference is rounding. One pass is faster because windows overlap, and it computes what they
# share only once. It is also one call instead of 429 (lesson 4).
#
# ## From 10 classes to 11, as from 1000 to 21
#
# The last layer is a filter of 1 x 1: at each place, a dense layer from 128 channels to 10 scores.
# Other classes need another last layer, and nothing else. That is how Long et al. (2015) make a
# network for 21 classes from one for 1000: the last layer goes, a new one of 1 x 1 comes, and its
# weights begin at zero.

# %%
labelling = Sequential(**{name: sliding.parts[name] for name in list(sliding.parts)[:-1]})
labelling.parts["score"] = Conv2d(128, 11, 1, init="zeros")
print(
    "scores:", labelling(picture).shape, "all of them", float(abs(labelling(picture)).max())
)

# %% [markdown]
# ## Exercise 6.3: a dense layer at each place
#
# *15 minutes.* Write a convolution of 1 x 1 without a convolution: a dense layer on the channels of
# each place.
#
# <details><summary>Hint 1</summary>
#
# `x[:, i, j]` are the channels of one place. Two loops over places will do; one matrix product,
# too.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x.reshape(C, H * W)` has one column for each place. What shape does `weights @` that have?
#
# </details>


# %%
def my_one_by_one(x, weights, bias):
    """Return scores (K, H, W) for x (C, H, W), weights (K, C) and bias (K,)."""
    ### BEGIN SOLUTION
    channels, height, width = x.shape
    scores = weights @ x.reshape(channels, height * width)  # (K, H * W)
    return (scores + bias[:, None]).reshape(len(weights), height, width)
    ### END SOLUTION


# %%
# Check of exercise 6.3: run this cell.
def right_scores(x, weights, bias):
    return mf.functional.conv2d(x[None], weights[:, :, None, None], bias)[0]


@st.composite
def maps(draw):
    classes, channels, height, width = (draw(st.integers(1, 4)) for _ in range(4))
    return (
        draw(whole_numbers(channels, height, width)),
        draw(whole_numbers(classes, channels)),
        draw(whole_numbers(classes)),
    )


def mixed(x, weights, bias):
    """`reshape(H * W, C)` mixes channels and places: x begins with its channels, so transpose it."""
    channels, height, width = x.shape
    scores = x.reshape(height * width, channels) @ weights.T + bias  # (H * W, K)
    return scores.T.reshape(len(weights), height, width)


def places_first(x, weights, bias):
    """The scores are the last axis, (H, W, K); they belong in front, (K, H, W)."""
    return right_scores(x, weights, bias).transpose(1, 2, 0)


def no_bias(x, weights, bias):
    """The bias is missing."""
    return right_scores(x, weights, 0 * bias)


def bias_by_place(x, weights, bias):
    """The bias goes along the places; each class, one row, has its own: bias[:, None]."""
    scores = right_scores(x, weights, 0 * bias)
    return (scores.reshape(len(weights), -1) + bias).reshape(scores.shape)


def averaged(x, weights, bias):
    """The places are averaged; each place has scores of its own."""
    scores = right_scores(x, weights, bias)
    return np.broadcast_to(scores.mean(axis=(1, 2), keepdims=True), scores.shape)


check_exercise(
    my_one_by_one,
    right_scores,
    maps(),
    mistakes=[mixed, places_first, no_bias, bias_by_place, averaged],
)

# %% [markdown]
# ## Break it
#
# **Padding.** minifcn's own digit classifier pads each convolution with zeros. Is one pass still
# the same as the crops? Predict first.

# %%
padded = mf.models.digit_classifier(rng=0).eval()  # stride 8, random weights
at_once = mf.convolutionalize(padded, (1, 32, 32))(picture)[0, :, 2, 3]
crop = padded(picture[:, :, 16:48, 24:56])[0]
print(
    f"largest score of the crop {abs(crop).max():.3f}, difference {abs(at_once - crop).max():.3f}"
)

# %% [markdown]
# <details><summary>Why?</summary>
#
# Around a crop, padding sets zeros. In the canvas the same places hold pixels. So the crop's border
# is another one, and all scores that see it differ. "One pass gives the scores of all crops" holds
# without padding only.
#
# </details>
#
# **Too small.** What does the sliding network say about a picture of 31 x 31?

# %%
try:
    sliding(picture[:, :, :31, :31])
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recall
#
# <details><summary>1. VGG16's first dense matrix is (4096, 25088). Which filters does it become?</summary>
#
# (4096, 512, 7, 7), for 25088 = 512 x 7 x 7: the last map of a 224 x 224 picture.
#
# </details>
# <details><summary>2. Why does a dense layer want one size of picture, and a convolution any?</summary>
#
# The matrix has one column for each number of the map. A filter only has to fit in, and slides.
#
# </details>
# <details><summary>3. Why does the sum of a dense layer not disappear?</summary>
#
# It is the sum over a window, and the window covers the whole map.
#
# </details>
# <details><summary>4. Where does the resolution of the score map come from?</summary>
#
# From the stride of the network, the product of the strides of its layers.
#
# </details>
# <details><summary>5. When do one pass and the crops differ?</summary>
#
# When layers are padded: a crop has zeros where the picture has pixels.
#
# </details>
