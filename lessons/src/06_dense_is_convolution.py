# %% [markdown]
# # 6. A dense layer is a convolution
#
# **Question.** A classifier takes images of one size and says *what* is in them. How can it say
# *where*, on images of any size, without a single new weight?
#
# **Minutes:** 16 to read, 1 to run, 35 for the exercises.
#
# **You need** what a convolution is (lesson 2), and that a pool keeps the largest value of each 2
# x 2 block (lesson 5).

# %%
import os
import time
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from minifcn.viz import heat_maps, panels, show

# %% [markdown]
# ## The picture
#
# At the end of a classifier, a *map* of $C$ channels, $H$ rows and $W$ columns is flattened: its
# values are written as one long vector, channel after channel, and within a channel row after row.
# A *dense layer* (also: fully connected) multiplies a matrix by this vector. The matrix has $O$ rows, one
# for each output, and $C \cdot H \cdot W$ columns, one for each value of the map.
#
# Take one row of the matrix and reshape it in the order in which the map was flattened. The result is a
# filter of shape ($C$, $H$, $W$), and each weight is at the position of the value that it multiplies.

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
    "The first 6 weights of the row belong to channel 0, the last 6 to channel 1.",
)
print("dense layer:", weights @ x.reshape(-1))
print("convolution:", mf.functional.conv2d(x[None], filters)[0, :, 0, 0])

# %% [markdown]
# **What is reshaped?** Only the matrix, from ($O$, $C \cdot H \cdot W$) to ($O$, $C$, $H$, $W$). No
# value changes, and the bias, one value for each output, stays as it is.
#
# **Where does the sum go?** It is still there. A dense layer adds $C \cdot H \cdot W$ products for each
# output. A convolution adds the products in a window. Here the window is as large as the map, so
# the products are the same. It fits at one position only, so the output has 1 row and 1 column.
#
# ## Predict
#
# The same two filters are applied to a larger map, ($C$, $H$, $W$) = (2, 4, 5).
#
# 1. What is the shape of the output?
# 2. Which part of the map does output row 1, column 2 depend on?
# 3. What is the output of the dense layer for that part?

# %%
large = rng.integers(0, 5, (2, 4, 5)).astype(float)
y = mf.functional.conv2d(large[None], filters)[0]
print("1. shape:", y.shape)
show(
    panels(
        {"channel 0 of the map": large[0], "output 0": y[0]},
        boxes={"channel 0 of the map": [(1, 2, 2, 3)], "output 0": [(1, 2, 1, 1)]},
    ),
    "2. The value in the small box depends on the large box, in both channels.",
)
print(
    "3. dense layer:", weights @ large[:, 1:3, 2:5].reshape(-1), "convolution:", y[:, 1, 2]
)

# %% [markdown]
# A matrix with 12 columns cannot be multiplied by 40 values: a dense layer accepts one size. A
# filter slides as far as there is room: a convolution accepts any size, and gives the dense layer's
# answer *at every position*.
#
# ## Exercise 6.1: reshape the matrix
#
# *10 minutes, medium.* Turn the matrix of a dense layer into the filters of the convolution. Maps were
# flattened in the order `"CHW"`, as above, or `"HWC"`, as in Keras and TensorFlow: all channels of the first
# pixel first. The filters are (O, C, H, W) in both cases.
#
# <details><summary>Hint 1</summary>
#
# For `"CHW"` one call of `reshape` is enough. In which order do the axes come for `"HWC"`?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Reshape to the order in which the map was flattened; then `transpose` the axes.
#
# </details>


# %%
def my_dense_to_conv(weights, channels, height, width, order):
    """Return filters (O, C, H, W) for a matrix (O, C * H * W); order is "CHW" or "HWC"."""
    ### BEGIN SOLUTION
    if order == "HWC":
        return weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return weights.reshape(-1, channels, height, width)
    ### END SOLUTION


# %%
# Check of exercise 6.1: run this cell.
def right_filters(weights, channels, height, width, order):
    layer = Linear(channels * height * width, len(weights), bias=False, rng=0)
    layer.weight.data = weights
    return mf.dense_to_conv(layer, (channels, height, width), order).weight.data


@st.composite
def matrices(draw):
    outputs, channels, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    return {
        "weights": draw(whole_numbers(outputs, channels * height * width)),
        "channels": channels,
        "height": height,
        "width": width,
        "order": draw(st.sampled_from(["CHW", "HWC"])),
    }


def order_ignored(weights, channels, height, width, order):
    """The matrix is reshaped to (O, C, H, W) for both orders; for HWC the channels come last."""
    return weights.reshape(-1, channels, height, width)


def orders_swapped(weights, channels, height, width, order):
    """The two orders are swapped."""
    other = {"CHW": "HWC", "HWC": "CHW"}[order]
    return right_filters(weights, channels, height, width, other)


def channels_last(weights, channels, height, width, order):
    """The matrix is reshaped to (O, H, W, C) for both orders; for CHW the channels come first."""
    return right_filters(weights, channels, height, width, "HWC")


def not_transposed(weights, channels, height, width, order):
    """For HWC the filters must be (O, C, H, W), too: transpose the axes after reshape."""
    if order == "HWC":
        return weights.reshape(-1, height, width, channels)
    return right_filters(weights, channels, height, width, order)


def columns_first(weights, channels, height, width, order):
    """The columns of a map come before its rows; it is flattened row by row."""
    return right_filters(weights, channels, width, height, order).swapaxes(2, 3)


def rotated(weights, channels, height, width, order):
    """The filters are rotated by 180 degrees; only reshape."""
    return right_filters(weights, channels, height, width, order)[:, :, ::-1, ::-1]


def transposed(weights, channels, height, width, order):
    """The matrix is read column by column; a filter is one of its rows."""
    columns = np.ascontiguousarray(weights.T).reshape(weights.shape)
    return right_filters(columns, channels, height, width, order)


def swapped(weights, channels, height, width, order):
    """Height and width are swapped."""
    return right_filters(weights, channels, width, height, order)


check_exercise(
    my_dense_to_conv,
    right_filters,
    matrices(),
    mistakes=[
        order_ignored,
        orders_swapped,
        channels_last,
        not_transposed,
        columns_first,
        rotated,
        transposed,
        swapped,
    ],
)

# %% [markdown]
# ## Run: a classifier that slides
#
# This classifier learns handwritten digits, grey images of 32 x 32 pixels, in about 10 seconds.
# Its convolutions have no padding. Follow the sizes: 32, 28, 14, 12, 6 rows and columns, and 32 x 6
# x 6 = 1152 values are flattened.

# %%


class EverySteps(mf.training.Callback):
    """Prints a line now and then, so that one sees that something happens."""

    def step(self, training):
        if training.step % 50 == 0:
            print(f"step {training.step}: loss {training.loss:.2f}")


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
batches = Loader(
    DigitCrops("train", repeats=6), 32, preprocess=preprocess, shuffle=True, seed=0
)
mf.training.fit(
    classifier,
    batches,
    mf.optim.Adam(classifier, lr=3e-3),
    schedule=mf.optim.Cosine(len(batches), warmup_steps=20),
    callbacks=[EverySteps()],
    progress=None,
)
unseen = Loader(DigitCrops("test"), 100, preprocess=preprocess)
# A classifier gives one answer for each crop, so a "pixel" is a crop here.
accuracy = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(f"right on {100 * accuracy:.1f} % of {len(unseen.dataset)} digits not seen before")

# %% [markdown]
# `mf.convolutionalize` converts every dense layer. The first becomes a filter as large as the last
# map, 6 x 6. After it, the map has one row and one column, so the next dense layer becomes a
# filter of 1 x 1. Flattening disappears.
#
# Predict: on a *canvas*, an image of 80 rows and 160 columns with three digits, how many rows and
# columns of answers are there? Follow the sizes again.

# %%
sliding = mf.convolutionalize(classifier, (1, 32, 32))
for number in (7, 9):
    print(f"layer {number}: {classifier[number]}  becomes  {sliding[str(number)]}")

# Once its check prints ok, your function is compared with minifcn's; until then, the solution is.
to_filters = checked(my_dense_to_conv, otherwise=right_filters)
yours = to_filters(classifier[7].weight.data, 32, 6, 6, "CHW")
print(
    "layer 7 has the filters of exercise 6.1:",
    np.array_equal(yours, sliding["7"].weight.data),
)

canvas, labels = DigitCanvases("test", 8, size=(80, 160), digits_per_canvas=3)[1]
image = preprocess(canvas[None])  # (1, 1, 80, 160)
scores = sliding(image)[0]
print("scores:", scores.shape)

# %% [markdown]
# There are ten scores at each of 13 x 33 positions. *Softmax* turns the scores $s_k$ of one position into
# probabilities: positive values with the sum 1, larger for larger scores,
#
# $$p_k = \frac{e^{s_k}}{\sum_j e^{s_j}}$$
#
# Each class then has a *heat map*: its probability at each position.

# %%
position = sliding.coordinate_map()  # position in the image of the centre of each window
half = position.scale / 2
top, left = float(position(0) - half), float(position(0) - half)
bottom, right = float(position(12) + half), float(position(32) + half)
show(
    heat_maps(
        canvas,
        mf.functional.softmax(scores[None])[0],
        "0123456789",
        classes=[2, 9],
        extent=(left, right, bottom, top),
        label="probability",
    ),
    "The twos are bright in the map of 2, the nine in that of 9; a few other positions are wrong.",
)

# %% [markdown]
# The frame contains the centres of all windows. Between the digits the network guesses: it has never
# seen background without a digit, and has no eleventh answer for it. Lesson 9 adds one.
#
# **Where does the resolution come from?** From the windows: neighbouring answers come from windows
# that are one *stride* of the network apart. Each pool halves the map, so two pools make a
# stride of 4 pixels, and (80 - 32) / 4 + 1 = 13. There is an answer for every fourth pixel, and
# none for the others. Lesson 7 is about getting back to all pixels.
#
# ## Exercise 6.2: which window?
#
# *10 minutes, easy.* A network without padding was trained on `size` x `size` pixels, and has a stride.
# Which pixels does its answer in row i and column j depend on?
#
# <details><summary>Hint</summary>
#
# Answer (0, 0) depends on rows 0 to size - 1. Answer (1, 0) depends on as many rows, `stride` further down.
#
# </details>


# %%
def my_window(i, j, size, stride):
    """Return (top, left, bottom, right), so that image[top:bottom, left:right] is the window."""
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
    """The windows do not overlap, as if the stride were their size."""
    return right_window(i, j, size, size)


def pixel_by_pixel(i, j, size, stride):
    """The stride is ignored: neighbouring windows are `stride` pixels apart."""
    return right_window(i, j, size, 1)


def x_first(i, j, size, stride):
    """Rows and columns are swapped: i counts rows, from top to bottom."""
    return right_window(j, i, size, stride)


def last_pixel(i, j, size, stride):
    """Bottom and right are the last pixels; a slice ends one after them."""
    top, left, bottom, right = right_window(i, j, size, stride)
    return top, left, bottom - 1, right - 1


def stride_only(i, j, size, stride):
    """The window ends where the next one starts; it must be `size` pixels long."""
    return i * stride, j * stride, (i + 1) * stride, (j + 1) * stride


def slice_by_slice(i, j, size, stride):
    """The order is wrong: top and left come first, then bottom and right."""
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
# Now the main claim: one pass over the canvas gives the answers of the dense classifier for each of
# the 13 x 33 = 429 crops. Which way is faster?

# %% tags=["varies"]
started = time.perf_counter()
crops = [
    image[:, :, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]
    for i in range(13)
    for j in range(33)
]
one_by_one = np.concatenate([classifier(crop) for crop in crops])  # (429, 10)
seconds = time.perf_counter() - started
started = time.perf_counter()
at_once = sliding(image)[0].reshape(10, 429).T
print(
    f"largest score {abs(at_once).max():.1f}, largest difference {abs(one_by_one - at_once).max():.1e}"
)
print(f"429 crops: {seconds:.2f} s; one pass: {time.perf_counter() - started:.3f} s")

# %% [markdown]
# The difference is rounding. One pass is faster because windows overlap, and it computes what they
# share only once. It is also one call instead of 429 (lesson 4).
#
# ## A photograph
#
# The same with a real photograph. If you have weights of SqueezeNet from ImageNet beside this notebook
# (`minifcn weights download squeezenet1_1`), or the environment variable `MINIFCN_WEIGHTS` names them, they
# are used here. Otherwise the digit classifier looks at the cup, and knows nothing but digits. Predict: where
# are the scores high?

# %% tags=["varies"]
cup = mf.data.photograph("cup")
files = [os.environ.get("MINIFCN_WEIGHTS", ""), *map(str, Path().glob("squeezenet1_*"))]
if weights_file := next((name for name in files if name), ""):
    network = mf.weights.load_classifier(weights_file)
    seen, prepare = (
        mf.convolutionalize(network, (3, 227, 227)).eval(),
        network.info.preprocessing,
    )
    chosen = {"espresso": 967, "soup bowl": 809}  # the numbers of these classes in ImageNet
else:
    seen, prepare, chosen = sliding, preprocess, {"0": 0, "1": 1}
    cup = cup[::3, ::3].mean(axis=2, keepdims=True).astype(np.uint8)  # grey, (134, 200, 1)
    print("No weights from ImageNet were found: the digit classifier looks at the cup.")
p = mf.functional.softmax(seen(prepare(cup[None])))[0, list(chosen.values())]
position = seen.coordinate_map()
left = top = float(position(-0.5))
bottom, right = (float(position(n - 0.5)) for n in p.shape[1:])
show(
    heat_maps(cup, p, list(chosen), extent=(left, right, bottom, top), label="probability"),
    "With weights from ImageNet: espresso is where the coffee is. With the digit classifier: parts of "
    "rim, saucer and table are a 0 or a 1 for certain; it has no answer for no digit.",
)

# %% [markdown]
# ## Questions after the lecture
#
# Three questions that students often ask. Answer them before you run the next cell.
#
# 1. "If I sum the map over height and width, is that the same as the dense layer?"
# 2. "A map of 256 channels becomes one of 4096. Does the resolution decrease?"
# 3. "Can I flatten, use a dense layer, and reshape its output to a map?"

# %%
one = np.zeros((1, 2, 3))
one[0, 0, 0] = 1  # the same sum as ...
two = np.zeros((1, 2, 3))
two[0, 1, 2] = 1  # ... with the value at another position
dense = np.arange(6.0)  # one row of a dense layer
print("1. sums over height and width:", one.sum(axis=(1, 2)), two.sum(axis=(1, 2)))
print("   dense layer:", dense @ one.reshape(-1), "and", dense @ two.reshape(-1))

wide = np.zeros((1, 256, 14, 14), np.float32)
for name, layer in {
    "1 x 1, 256 to 4096": Conv2d(256, 4096, 1, init="zeros"),
    "pool by 2": MaxPool2d(2),
}.items():
    print(f"2. {name:18}: {wide.shape[1:]} to {layer(wide).shape[1:]}")

last = 32 * 18 * 38  # values of the last map of an 80 x 160 canvas
print(
    f"3. dense layer to 10 x 13 x 33 scores: {last * 10 * 13 * 33:,} weights, for one size"
)
print(
    f"   convolutions:                       {32 * 6 * 6 * 128 + 128 * 10:,} weights, any size"
)

# %% [markdown]
# 1. No. The sum is *global average pooling* up to a factor: it ignores positions. A dense layer has a
#    weight for each position.
# 2. No. Channels say how many values describe a position; resolution is the number of positions. Only
#    strides, and kernels without padding, reduce it.
# 3. Yes, but it needs very many weights, accepts one size, and learns each position separately.
#
# ## From 10 classes to 11, as from 1000 to 21
#
# The last layer is a filter of 1 x 1: at each position, a dense layer from 128 channels to 10 scores.
# Other classes need a different last layer, and nothing else. This is how Long et al. (2015) make a
# network for 21 classes from one for 1000: they replace the last layer by a new one of 1 x 1, whose
# weights start at zero.

# %%
labelling = Sequential(**{name: sliding.parts[name] for name in list(sliding.parts)[:-1]})
labelling.parts["score"] = Conv2d(128, 11, 1, init="zeros")
scores = labelling(image)
print("scores:", scores.shape, "largest absolute value", float(abs(scores).max()))

# %% [markdown]
# ## Exercise 6.3: a dense layer at each position
#
# *15 minutes, medium.* Write a convolution of 1 x 1 without a convolution: a dense layer on the channels of
# each position.
#
# <details><summary>Hint 1</summary>
#
# `x[:, i, j]` are the channels of one position. Use two loops over positions, or one matrix product.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x.reshape(C, H * W)` has one column for each position. What is the shape of `weights @` this matrix?
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
    """`reshape(H * W, C)` mixes channels and positions: the first axis of x is the channels, so transpose."""
    channels, height, width = x.shape
    scores = x.reshape(height * width, channels) @ weights.T + bias  # (H * W, K)
    return scores.T.reshape(len(weights), height, width)


def classes_last(x, weights, bias):
    """The classes are the last axis, (H, W, K); they must be the first, (K, H, W)."""
    return right_scores(x, weights, bias).transpose(1, 2, 0)


def reshaped_only(x, weights, bias):
    """The final reshape mixes classes and positions: transpose (H * W, K) to (K, H * W) before it."""
    scores = right_scores(x, weights, bias)
    return np.ascontiguousarray(scores.transpose(1, 2, 0)).reshape(scores.shape)


def no_bias(x, weights, bias):
    """The bias is missing."""
    return right_scores(x, weights, 0 * bias)


def bias_by_position(x, weights, bias):
    """The bias is added along the positions; each class (one row) has its own: bias[:, None]."""
    scores = right_scores(x, weights, 0 * bias)
    return (scores.reshape(len(weights), -1) + bias).reshape(scores.shape)


def averaged(x, weights, bias):
    """The positions are averaged; each position has its own scores."""
    scores = right_scores(x, weights, bias)
    return np.broadcast_to(scores.mean(axis=(1, 2), keepdims=True), scores.shape)


check_exercise(
    my_one_by_one,
    right_scores,
    maps(),
    mistakes=[mixed, classes_last, reshaped_only, no_bias, bias_by_position, averaged],
)

# %%
# Once its check prints ok, your function is the last layer here; until then, the solution is.
one_by_one = checked(my_one_by_one, otherwise=right_scores)
trunk = Sequential(**{name: sliding.parts[name] for name in list(sliding.parts)[:-1]})
last = sliding["9"]
features = trunk(preprocess(canvas[None]))[0]  # (128, 13, 33)
scores = one_by_one(features, last.weight.data[:, :, 0, 0], last.bias.data)
show(
    panels({"the digit with the largest score": scores.argmax(axis=0)}, columns=1),
    "One digit for each window; runs of one digit are where it was seen.",
)

# %% [markdown]
# ## Break it
#
# **Padding.** minifcn's own digit classifier pads each convolution with zeros. Does one pass still
# give the answers for the crops? Predict first.

# %%
padded = mf.models.digit_classifier(rng=0).eval()  # stride 8, random weights
at_once = mf.convolutionalize(padded, (1, 32, 32))(image)[0, :, 2, 3]
crop = padded(image[:, :, 16:48, 24:56])[0]
print(
    f"largest score of the crop {abs(crop).max():.3f}, difference {abs(at_once - crop).max():.3f}"
)

# %% [markdown]
# <details><summary>Why?</summary>
#
# Padding adds zeros around a crop. In the canvas there are pixels at the same positions. So the border
# of the crop is different, and all scores that depend on it differ. "One pass gives the scores of all
# crops" holds without padding only.
#
# </details>
#
# **Too small.** What does the sliding network do with an image of 31 x 31?

# %%
try:
    sliding(image[:, :, :31, :31])
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recall
#
# <details><summary>1. VGG16's first dense matrix is (4096, 25088). Which filters does it become?</summary>
#
# (4096, 512, 7, 7), since 25088 = 512 x 7 x 7: the last map of an image of 224 x 224.
#
# </details>
# <details><summary>2. Why does a dense layer need one size of image, and a convolution any?</summary>
#
# The matrix has one column for each value of the map. A filter only has to fit in, and slides.
#
# </details>
# <details><summary>3. Why does the sum of a dense layer not disappear?</summary>
#
# It becomes the sum over a window, and the window covers the whole map.
#
# </details>
# <details><summary>4. Where does the resolution of the score map come from?</summary>
#
# From the stride of the network, the product of the strides of its layers.
#
# </details>
# <details><summary>5. When do one pass and the crops differ?</summary>
#
# When layers are padded: a crop has zeros where the image has pixels.
#
# </details>
