# %% [markdown]
# # 9. FCN end to end
#
# **Question.** What is the loss of an image, and how does a classifier learn to label every pixel?
#
# **Minutes:** 15 to read, 1 to run, 45 for the exercises.
#
# **You need** gradients (lesson 3), receptive fields (lesson 5), dense layers as convolutions (lesson 6),
# transposed convolutions (lesson 7) and the four numbers (lesson 8).

# %%
import math

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.layers import Conv2d, Sequential
from minifcn.viz import (
    Sliders,
    overlay,
    panels,
    prediction_strips,
    show,
    training_curve,
)

# %% [markdown]
# ## The picture
#
# As in lesson 1, the *labels* of an image are an array ($H$, $W$): 0 is background and $d + 1$ is the digit
# $d$, so there are $K = 11$ classes; 255 is *void* and is ignored.

# %%
sizes = {"size": (48, 96), "digits_per_canvas": 3}
canvases = DigitCanvases("train", 2, **sizes)
canvas, labels = canvases[0]
show(
    overlay(canvas, labels, canvases.class_names, canvases.palette),
    "Three digits, each with its name; around them a thin border of void, which has no colour.",
)
show(
    panels({"labels of rows 9 to 17, columns 26 to 41": labels[9:18, 26:42]}),
    "The top of the left 5: between background, 0, and its class, 6, there is always a 255.",
)

# %% [markdown]
# A fully convolutional network gives $K$ *scores* for each pixel, ($K$, $H$, $W$). So it is **a
# classifier at each position**, and has the loss of a classifier. *Softmax* turns the scores $s_k$ of a
# pixel into probabilities (lesson 6). With the true class $l$, the loss of the pixel is the *cross-entropy*:
#
# $$p_k = \frac{e^{s_k}}{\sum_j e^{s_j}}, \qquad
# -\log p_l = \log \sum_j e^{s_j} - s_l$$
#
# It is 0 if the network is certain and right, and large if it is certain and wrong. Its gradient follows
# from the second form. The derivative of the logarithm with respect to $s_k$ is $e^{s_k} / \sum_j e^{s_j} =
# p_k$, and that of $s_l$ is 1 for $k = l$ and 0 otherwise, written $[k = l]$:
#
# $$\frac{\partial (-\log p_l)}{\partial s_k} = p_k - [k = l]$$
#
# By hand, for one pixel with scores 2, 1, 0 and label 1: the exponentials are 7.39, 2.72 and 1, their sum is
# 11.11, so $p$ = .67, .24, .09. The loss is $-\log .24 = 1.41$, and the gradient .67, -.76, .09.
#
# The loss of the image is the mean over its $M$ labelled pixels. Its gradient is that of each pixel divided
# by $M$, and 0 at void pixels.
#
# ## Predict
#
# Three classes, 2 x 3 pixels.
#
# 1. All scores are 0. What is the loss?
# 2. What is the gradient at a void pixel?
# 3. At one labelled pixel, what is the sum of the gradients of the three scores?

# %%
small = np.array([[[0, 2, 255], [1, 0, 0]]], np.uint8)  # (1, H, W)
loss, _ = mf.losses.softmax_cross_entropy(np.zeros((1, 3, 2, 3)), small)
print(f"1. {loss:.4f}, which is log 3 = {math.log(3):.4f}")

scores = np.random.default_rng(0).integers(-2, 3, (1, 3, 2, 3)).astype(float)
loss, gradient = mf.losses.softmax_cross_entropy(scores, small)
show(
    panels(
        {
            "labels": small[0],
            "scores of class 0": scores[0, 0],
            "gradient, class 0": gradient[0, 0].round(2),
            "sum of classes": gradient[0].sum(axis=0).round(9),
        },
        columns=4,
    ),
    "2. and 3. The gradient is 0 at the void pixel, and negative only where the label is 0; "
    "the sum is 0 everywhere.",
)

# %% [markdown]
# A negative gradient means that the score should rise. Each labelled pixel raises the score of its own class
# and lowers the others by the same amount in total.
#
# ## Exercise 9.1: the loss of an image
#
# *20 minutes, hard.* Write the mean loss over the labelled pixels, and its gradient. Each image has at least
# one labelled pixel.
#
# <details><summary>Hint 1</summary>
#
# `valid = labels != 255`. There is no score number 255: use any class for void pixels in the look-up, and
# multiply by `valid` afterwards.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `onehot = np.arange(K)[:, None, None] == labels` has shape ($K$, $H$, $W$), and is false for all
# classes at a void pixel.
#
# </details>


# %%
def my_loss(scores, labels):
    """Return (loss, gradient) for scores (K, H, W) and labels (H, W); gradient is (K, H, W)."""
    ### BEGIN SOLUTION
    valid = labels != 255
    exponentials = np.exp(scores - scores.max(axis=0))
    p = exponentials / exponentials.sum(axis=0)
    onehot = np.arange(len(scores))[:, None, None] == labels
    loss = -np.log((p * onehot).sum(axis=0)[valid]).mean()
    return loss, (p - onehot) * valid / valid.sum()
    ### END SOLUTION


# %%
# Check of exercise 9.1: run this cell.
def right_loss(scores, labels):
    loss, gradient = mf.losses.softmax_cross_entropy(scores[None], labels[None])
    return loss, gradient[0]


@st.composite
def scored_images(draw):
    classes, height, width = (
        draw(st.integers(2, 4)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
    )
    label = st.sampled_from([*range(classes), 255])
    pixels = draw(st.lists(label, min_size=height * width, max_size=height * width))
    pixels[0] %= 255  # at least one pixel is labelled
    labels = np.array(pixels, np.uint8).reshape(height, width)
    return draw(whole_numbers(classes, height, width)) / 4, labels


def labelled(labels):
    return (labels != 255).sum() / labels.size


def all_pixels(scores, labels):
    """The sums are divided by the number of all pixels; void pixels do not count, so divide by M."""
    loss, gradient = right_loss(scores, labels)
    return loss * labelled(labels), gradient * labelled(labels)


def loss_of_all_pixels(scores, labels):
    """The loss is divided by the number of all pixels; void pixels do not count, so divide by M."""
    loss, gradient = right_loss(scores, labels)
    return loss * labelled(labels), gradient


def void_is_background(scores, labels):
    """Void pixels are treated as class 0; they must not contribute to loss and gradient."""
    return right_loss(scores, np.where(labels == 255, 0, labels).astype(np.uint8))


def void_gradient_of_class_0(scores, labels):
    """At void pixels the gradient must be 0; yours is that of class 0."""
    loss, gradient = right_loss(scores, labels)
    filled = np.where(labels == 255, 0, labels).astype(np.uint8)
    of_class_0 = right_loss(scores, filled)[1] / labelled(labels)
    return loss, np.where(labels == 255, of_class_0, gradient)


def with_softmax_over(axis, scores, labels):
    valid, count = labels != 255, (labels != 255).sum()
    p = np.exp(scores) / np.exp(scores).sum(axis=axis, keepdims=True)
    onehot = np.arange(len(scores))[:, None, None] == labels
    return -np.log((p * onehot).sum(axis=0)[valid]).mean(), (p - onehot) * valid / count


def softmax_over_columns(scores, labels):
    """Softmax is computed over the columns; compute it over the classes, axis 0."""
    return with_softmax_over(2, scores, labels)


def softmax_over_rows(scores, labels):
    """Softmax is computed over the rows; compute it over the classes, axis 0."""
    return with_softmax_over(1, scores, labels)


def softmax_over_everything(scores, labels):
    """Softmax is computed over all scores of the image; compute it for each pixel, over axis 0."""
    return with_softmax_over((0, 1, 2), scores, labels)


def gradient_at_void(scores, labels):
    """At void pixels the gradient must be 0; yours is p / M there."""
    loss, gradient = right_loss(scores, labels)
    p = mf.functional.softmax(scores[None])[0]
    return loss, np.where(labels == 255, p / (labels != 255).sum(), gradient)


def undivided(scores, labels):
    """The gradient is that of the sum of the losses; the loss is a mean, so divide the gradient by M, too."""
    loss, gradient = right_loss(scores, labels)
    return loss, gradient * (labels != 255).sum()


def summed(scores, labels):
    """The losses of the pixels are summed; take their mean, and divide the gradient by M."""
    loss, gradient = mf.losses.softmax_cross_entropy(
        scores[None], labels[None], reduction="sum"
    )
    return loss, gradient[0]


def wrong_sign(scores, labels):
    """The gradient has the wrong sign: it must be negative where a score should rise."""
    loss, gradient = right_loss(scores, labels)
    return loss, -gradient


def no_minus(scores, labels):
    """The loss has the wrong sign: it is minus the logarithm of a probability, so it is not negative."""
    loss, gradient = right_loss(scores, labels)
    return -loss, gradient


check_exercise(
    my_loss,
    right_loss,
    scored_images(),
    mistakes=[
        all_pixels,
        loss_of_all_pixels,
        void_is_background,
        gradient_at_void,
        void_gradient_of_class_0,
        softmax_over_columns,
        softmax_over_rows,
        softmax_over_everything,
        undivided,
        summed,
        wrong_sign,
        no_minus,
    ],
)

# %% [markdown]
# ## The whole network
#
# `mf.models.FCN` does what lesson 6 did to a classifier: dense layers become convolutions, and the last layer
# is removed. Two layers are new. *score* is a convolution of 1 x 1 to $K$ scores, and
# starts at zero. *8to1* is a transposed convolution with bilinear weights, from stride 8 to 1. In the table,
# "sees" is the receptive field in pixels (lesson 5); the last two columns say that output $i$ lies at pixel
# every · i + from. ReLU and dropout do not change shapes and are left out. *head.0* is the first dense
# layer, now a filter of 4 x 4 with padding 2.

# %%
fcn = mf.models.FCN(mf.models.digit_classifier(rng=0), 11)
print(f"{'layer':15} {'kind':16} {'C, H, W':14} sees  every  from")
for row in mf.models.explain(fcn, (48, 96)).rows:
    view = row.views[0]
    if row.kind not in ("ReLU", "Dropout"):
        place = f"{view.field:4} {float(view.grid.scale):6g} {float(view.grid.offset):5g}"
        print(f"{row.name:15} {row.kind:16} {row.output_shape!s:14} {place}")

# %% [markdown]
# Predict the loss of this network on a canvas before any training. What is it if the score layer has small
# random weights instead of zeros? What is the shape of the scores for an image of 50 x 75?

# %%
grey = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))  # subtract, divide
x, truth = grey(canvas[None]), labels[None]
print(f"log 11         {math.log(11):.4f}")
print(f"zeros          {mf.losses.softmax_cross_entropy(fcn(x), truth)[0]:.4f}")
draw = np.random.default_rng(0).standard_normal
for size in (0.01, 1):
    fcn.score.weight.data = (size * draw((11, 128, 1, 1))).astype(np.float32)
    loss, _ = mf.losses.softmax_cross_entropy(fcn(x), truth)
    print(f"random, {size:<6} {loss:.4f}")
print("50 x 75 pixels:", fcn(np.zeros((1, 1, 50, 75), np.float32)).shape)

# %% [markdown]
# An untrained network finds all classes about equally likely, so its loss is about $\log K$. Check the
# first loss of every training: one far above $\log K$ means that the scores are too large, as in the
# last line.
#
# ## Where does a score lie?
#
# Output $i$ of a layer with kernel $k$, stride $s$ and padding $p$ has the centre of its window at
# position $s i + \frac{k - 1}{2} - p$ of the layer's input. Insert this into the formula of the layer
# before, and so on: this gives the columns "every" and "from". Upsampling must put each score there.
#
# A *ramp* tests it: let each score be the pixel that it lies at. Then each pixel must get its own index.

# %%
pool = mf.geometry.Window(2, stride=2).coordinate_map()
position = pool @ pool  # of two pools, one after the other
print(f"two pools: output i at pixel {position}")
ramp = np.array([[[[float(position(i)) for i in range(3)]]]], np.float32)  # (1, 1, 1, 3)
up = mf.models.AlignedUpsample(1, coarse=position, fine=mf.geometry.CoordinateMap())
pixels = up(ramp)[0, 0, 0]
show(
    panels(
        {
            "three scores": ramp[0, 0, 0],
            "upsampled": pixels,
            "two pixels off": np.array([math.nan, math.nan, *pixels[:-2]]),
        },
        columns=1,
    ),
    "From pixel 2 to pixel 9, pixel j has the value j; at the ends the first and the last score are "
    "repeated. With an error of two pixels, everything is too far to the right.",
)

# %% [markdown]
# A transposed convolution with kernel $k$ and stride $s$ is the reverse: its output $j$ lies at position $(j
# - \frac{k - 1}{2}) / s$ of its input. So upsampled scores start before the image, and the rows and columns
# before pixel 0 are removed: a *crop*. First one axis of the two pools above, upsampled with kernel 8 and
# stride 4 (move the slider); then FCN-32s. The paper's code pads the image by 100 pixels, so that the 7 x 7
# filter of the head fits into small images, too, and contains the crop as the constant 19. It can be
# computed.

# %%


def cropped(crop):
    kept = slice(crop, crop + 12)
    places = np.arange(16) - 2  # the pixel of each upsampled value
    figure = panels(
        {
            "where the upsampled values lie": places,
            f"crop {crop}: kept": places[kept],
            "should be": np.arange(12),
        },
        boxes={"where the upsampled values lie": [(0, crop, 1, 12)]},
        columns=1,
        width=6,
    )
    return figure, f"crop {crop}: everything is {abs(crop - 2)} pixels off"


show(
    Sliders(cropped, {"crop": (0, 1, 2, 3)}),
    "Three scores become (3 - 1) 4 + 8 = 16 values, at pixels -2 to 13. The box is kept. With a crop of 2 "
    "each value is where it belongs.",
)

Window = mf.geometry.Window
conv, pool = Window(3, padding=1), Window(2, stride=2)
vgg16 = [
    Window(3, padding=100),
    conv,
    pool,
    conv,
    conv,
    pool,
    *3 * [conv, conv, conv, pool],
]
head = [Window(7), Window(1), Window(1)]  # the three dense layers
upsampling = mf.geometry.Transposed(Window(64, stride=32))
upsampled = mf.geometry.coordinate_map([*vgg16, *head, upsampling])
print(f"FCN-32s: upsampled score j lies at pixel j {float(upsampled.offset):+g}")
print("crop:", mf.geometry.crop_offset(upsampled, mf.geometry.CoordinateMap()))

# %% [markdown]
# ## Exercise 9.2: the crop
#
# *15 minutes, hard.* Compute it: how many upsampled values lie before pixel 0? `layers` are the layers from
# the image to the scores, each (kernel, stride, padding). `kernel` is that of the upsampling, whose
# stride is the product of all strides. The answer is an integer >= 0 in each case.
#
# <details><summary>Hint 1</summary>
#
# Where does score 0 lie? Loop over the layers and keep two values, `every` = 1 and `start` = 0. A layer
# adds its own shift times `every` to `start`, and then multiplies `every` by its stride.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Score 0 becomes the centre of the first patch, output $\frac{k - 1}{2}$, and lies at
# pixel `start`.
#
# </details>


# %%
def my_crop(layers, kernel):
    """Return how many upsampled values lie before pixel 0."""
    ### BEGIN SOLUTION
    every, start = 1, 0
    for k, s, p in layers:
        start += every * ((k - 1) / 2 - p)
        every *= s
    return (kernel - 1) / 2 - start
    ### END SOLUTION


# %%
# Check of exercise 9.2: run this cell.
def right_position(layers):
    return mf.geometry.coordinate_map([mf.geometry.Window(*layer) for layer in layers])


def right_crop(layers, kernel):
    return (kernel - 1) / 2 - float(right_position(layers).offset)


@st.composite
def networks(draw):
    size, stride, padding = st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)
    layers = draw(st.lists(st.tuples(size, stride, padding), min_size=1, max_size=4))
    position = right_position(layers)
    kernel = int(2 * position.scale) - (position.offset.denominator == 1)
    if (missing := -right_crop(layers, kernel)) > 0:  # more padding, as in the paper
        (first, step, zeros), *rest = layers
        layers = [(first, step, zeros + int(missing)), *rest]
    return layers, kernel


def unscaled(layers, kernel):
    """The shift of a layer is in steps of its input: multiply it by the strides of the layers before it."""
    return (kernel - 1) / 2 - sum(float(right_position([layer]).offset) for layer in layers)


def own_stride(layers, kernel):
    """A layer's stride applies to the layers after it, not to itself: add the shift first, then multiply."""
    shifts = [float(right_position([layer]).offset) for layer in layers]
    strides = [float(right_position(layers[: i + 1]).scale) for i in range(len(layers))]
    return (kernel - 1) / 2 - float(np.dot(shifts, strides))


def from_the_end(layers, kernel):
    """This is the result for the layers in reverse order: a shift is multiplied by the strides before it."""
    return right_crop(layers[::-1], kernel)


def padding_added(layers, kernel):
    """The padding is added; padding moves windows towards the start, so subtract it."""
    bare = [(size, stride, 0) for size, stride, _ in layers]
    return 2 * right_crop(bare, kernel) - right_crop(layers, kernel)


def no_padding(layers, kernel):
    """The padding is missing."""
    return right_crop([(size, stride, 0) for size, stride, _ in layers], kernel)


def first_pixels(layers, kernel):
    """This is where windows start; a score lies in the centre of its window."""
    return right_crop([(1, stride, padding) for _, stride, padding in layers], kernel)


def half(layers, kernel):
    """The centre of k values, counted from 0, is (k - 1) / 2; yours is k / 2."""
    scales = [float(right_position(layers[:i]).scale) for i in range(len(layers))]
    return right_crop(layers, kernel) + 0.5 - 0.5 * sum(scales)


def negative(layers, kernel):
    """The sign is wrong: count the values before pixel 0."""
    return -right_crop(layers, kernel)


def start_only(layers, kernel):
    """This is where score 0 lies; its patch starts half a kernel earlier."""
    return float(right_position(layers).offset)


check_exercise(
    my_crop,
    right_crop,
    networks(),
    mistakes=[
        unscaled,
        own_stride,
        from_the_end,
        padding_added,
        no_padding,
        first_pixels,
        half,
        negative,
        start_only,
    ],
)

# %% [markdown]
# ## Overfit two
#
# Before any long training: train on two canvases only. A network learns two images by heart only if loss,
# gradients, alignment and labels are all right. *Adam* is gradient descent with a separate step size for
# each weight.

# %%
pair = Loader(canvases, 2, preprocess=grey, seed=0)
fcn = mf.models.FCN(mf.models.digit_classifier(rng=0), 11)
adam = mf.optim.Adam(fcn, lr=3e-3)
records = mf.training.fit(fcn, pair, adam, epochs=100, progress=None)
print(f"loss {records[0]['loss']:.3f} to {records[-1]['loss']:.3f}")
print(
    f"right: {100 * mf.training.evaluate(fcn, pair).pixel_accuracy():.1f} % of the pixels"
)
show(
    prediction_strips(
        [canvas],
        [labels],
        mf.training.predict(fcn, x),
        canvases.class_names,
        canvases.palette,
    ),
    "Learned by heart, except that narrow gaps between strokes are filled: the scores have stride 8.",
)

# %% [markdown]
# ## A dead trunk
#
# A ReLU whose outputs are all 0 passes no gradient: the layers before it learn nothing. `mf.training.record`
# measures the output of each layer, and the gradient to it, in each step: here, what fraction of it is not 0.
# Predict: what happens if the learning rate is a hundred times as large?

# %%
pictures, losses = {}, {}
for lr in (0.003, 0.3):
    network = mf.models.FCN(mf.models.digit_classifier(rng=0), 11)
    with mf.training.record(network, lambda values: float((values != 0).mean())) as seen:
        adam = mf.optim.Adam(network, lr=lr)
        losses[lr] = mf.training.fit(network, pair, adam, epochs=12, progress=None)[-1][
            "loss"
        ]
    relus = [f"features.{i}" for i in (1, 4, 6, 9, 11)] + ["head.1"]
    convolutions = [f"features.{i}" for i in (0, 3, 5, 8, 10)] + ["head.0"]
    pictures[f"lr {lr}: active outputs"] = np.array([seen.outputs[name] for name in relus])
    pictures[f"lr {lr}: gradients"] = np.array(
        [seen.gradients[name] for name in convolutions]
    )
show(
    panels(
        {name: picture.round(2) for name, picture in pictures.items()},
        columns=2,
        shared=True,
    ),
    "Rows: the six ReLUs, and the convolutions before them, the first on top. Columns: 12 steps. With 0.3 "
    "the outputs of most ReLUs fall nearly to 0, and then all gradients are 0. (At step 1 the score layer is "
    "0.)",
)
print(
    f"loss after 12 steps: {losses[0.003]:.2f}, and {losses[0.3]:.2f} with the dead trunk"
)

# %% [markdown]
# The loss hardly shows it: the bias of the score layer still learns that most pixels are background.

# %% [markdown]
# ## Train
#
# First the classifier on crops with one digit (lesson 6), then its FCN on 2,000 canvases: about half a
# minute. During training the cell shows, for a canvas of unseen digits, the probability of the right
# label at each pixel.
#
# Predict: what does the network learn first?

# %%
unseen = DigitCanvases("test", 40, **sizes)
test_canvas, test_labels = unseen[3]


def train(network, dataset, batch_size, lr, callbacks=()):
    batches = Loader(dataset, batch_size, preprocess=grey, shuffle=True, seed=0)
    adam = mf.optim.Adam(network, lr=lr)
    schedule = mf.optim.Cosine(len(batches), warmup_steps=20)  # up, then slowly down to 0
    mf.training.fit(
        network, batches, adam, schedule=schedule, callbacks=callbacks, progress=None
    )


def right_probability(network):
    """Return the probability of the right label at each pixel (H, W), and 1 at void."""
    p = mf.functional.softmax(network.eval()(grey(test_canvas[None])))[0]  # (K, H, W)
    network.train()
    valid = test_labels != 255
    chosen = np.take_along_axis(p, (test_labels * valid)[None].astype(int), axis=0)[0]
    return np.where(valid, chosen, 1)


class Look(mf.training.Callback):
    def __init__(self, steps):
        self.steps, self.losses, self.seen = steps, [], {}

    def step(self, training):
        self.losses.append(training.loss)
        if training.step in self.steps:
            self.seen[f"step {training.step}"] = right_probability(training.model)
        if training.step in self.steps or training.step % 200 == 0:
            print(f"step {training.step}: loss {training.loss:.3f}")


classifier = mf.models.digit_classifier(rng=0)
train(classifier, DigitCrops("train", repeats=4), 32, lr=3e-3)
fcn = mf.models.FCN(classifier, 11)
for layer in fcn.score_layers():
    for parameter in layer.parameters():
        parameter.lr_multiplier = 3  # layers that start at zero may learn faster
look = Look([30, 100, 300, 1000])
before = {"step 0": right_probability(fcn)}
train(fcn, DigitCanvases("train", 2000, **sizes), 2, lr=2e-3, callbacks=[look])

show(
    panels({"canvas": test_canvas, **before, **look.seen}, columns=3, shared=True),
    "White is 1, black 0; void is white. At first everything is the dark grey of 1/11; then background "
    "becomes white and digits black; at last the digits become brighter, some earlier than others.",
)

# %% tags=["varies"]
means = [
    {"step": k + 25, "loss": float(np.mean(look.losses[k : k + 25]))}
    for k in range(0, 1000, 25)
]
show(
    training_curve([{"step": 1, "loss": look.losses[0]}, *means]),
    "From log 11 it falls within a few steps, because background is easy; the digits take longer.",
)
matrix = mf.training.evaluate(fcn.eval(), Loader(unseen, 10, preprocess=grey))
background = matrix.matrix[0].sum() / matrix.matrix.sum()
print(
    f"pixel accuracy {matrix.pixel_accuracy():.3f}, for background everywhere {background:.3f}"
)
print(
    f"mean IoU       {matrix.mean_iou():.3f}, for background everywhere {background / 11:.3f}"
)
images, truths = zip(*(unseen[i] for i in (3, 5)), strict=True)
guesses = mf.training.predict(fcn, grey(np.stack(images)))
show(
    prediction_strips(images, truths, guesses, unseen.class_names, unseen.palette),
    "The classes are mostly right, the shapes only roughly. Lesson 10 improves them.",
)

# %% [markdown]
# ## Exercise 9.3: one step
#
# *10 minutes, easy.* `mf.training.fit` repeats one step. Write it: scores, loss, gradients, and then for each
# parameter $w \leftarrow w - \text{lr} \cdot \frac{\partial L}{\partial w}$. Use minifcn:
# `model(x)`, `mf.losses.softmax_cross_entropy(scores, labels)`, `model.backward(dscores)`. Each of
# `model.parameters()` has `.data`, and `.grad`, to which `backward` *adds*; set it to `None` to reset it.
#
# <details><summary>Hint</summary>
#
# Four parts: reset the old gradients, forward, backward, update. The check takes two steps, and
# compares both losses and then the weights.
#
# </details>


# %%
def my_step(model, x, labels, lr):
    """Do one step of gradient descent in place, and return the loss before it."""
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        parameter.grad = None
    loss, dscores = mf.losses.softmax_cross_entropy(model(x), labels)
    model.backward(dscores)
    for parameter in model.parameters():
        parameter.data = parameter.data - lr * parameter.grad
    return loss
    ### END SOLUTION


# %%
# Check of exercise 9.3: run this cell.
def two_steps(step, case):
    model = Sequential(Conv2d(case["x"].shape[1], len(case["bias"]), 1, rng=0)).astype(
        "float64"
    )
    model[0].weight.data, model[0].bias.data = case["weight"].copy(), case["bias"].copy()
    losses = [step(model, case["x"], case["labels"], case["lr"]) for _ in range(2)]
    if losses[0] is None:
        return None
    return {
        "loss before step 1": losses[0],
        "loss after step 1": losses[1],
        "weights after step 2": model[0].weight.data,
        "bias after step 2": model[0].bias.data,
    }


@st.composite
def batches_of_one(draw):
    channels, classes = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    height, width = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    pixels = draw(
        st.lists(st.integers(0, classes - 1), min_size=1, max_size=height * width)
    )
    labels = np.array([*pixels, *[255] * (height * width - len(pixels))], np.uint8)
    return {
        "x": draw(whole_numbers(1, channels, height, width)),
        "labels": labels.reshape(1, height, width),
        "lr": draw(st.sampled_from([0.5, 0.25])),
        "weight": draw(whole_numbers(classes, channels, 1, 1)) / 4,
        "bias": draw(whole_numbers(classes)) / 4,
    }


def right_step(model, x, labels, lr, reduction="mean", frozen=(), reset=True):
    optimizer = mf.optim.SGD(model, lr=max(lr, 0), momentum=0)
    if reset:
        optimizer.zero_grad()
    loss, gradient = mf.losses.softmax_cross_entropy(model(x), labels, reduction=reduction)
    model.backward(gradient if lr > 0 else -gradient)
    for name in frozen:
        optimizer.parameters[name].grad = None
    optimizer.lr = abs(lr)
    optimizer.step()
    return loss


def added_up(model, x, labels, lr):
    """The gradients of the previous step are added: set each parameter.grad to None first."""
    return right_step(model, x, labels, lr, reset=False)


def uphill(model, x, labels, lr):
    """The gradient is added; subtract it."""
    return right_step(model, x, labels, -lr)


def whole_gradient(model, x, labels, lr):
    """The learning rate is missing: multiply the gradient by it."""
    return right_step(model, x, labels, 1.0)


def weights_only(model, x, labels, lr):
    """Only the weights are updated; the bias is a parameter, too."""
    return right_step(model, x, labels, lr, frozen=["0.bias"])


def sum_of_pixels(model, x, labels, lr):
    """The loss is summed; take its mean over the labelled pixels."""
    return right_step(model, x, labels, lr, reduction="sum")


def no_update(model, x, labels, lr):
    """The parameters are not updated."""
    return right_step(model, x, labels, lr, frozen=["0.bias", "0.weight"])


def loss_afterwards(model, x, labels, lr):
    """The result is the loss after the update; return the loss before it."""
    right_step(model, x, labels, lr)
    return mf.losses.softmax_cross_entropy(model(x), labels)[0]


check_exercise(
    my_step,
    right_step,
    batches_of_one(),
    run=two_steps,
    mistakes=[
        added_up,
        uphill,
        whole_gradient,
        weights_only,
        sum_of_pixels,
        no_update,
        loss_afterwards,
    ],
)

# %% [markdown]
# ## A photograph, and your step
#
# With your step, a network of a single layer learns to label a photograph. A convolution of 1 x 1 sees only
# the colour of each pixel. Three rectangles are labelled, everything else is void. Predict: which pixels will
# be wrong?

# %%
# Once its check prints ok, your function trains; until then, the solution does.
step = checked(my_step, otherwise=right_step)
photo = mf.data.photograph("cup")[::2, ::2]  # (200, 300, 3)
x = (photo.transpose(2, 0, 1)[None] / 64 - 2).astype(np.float32)
painted = np.full((1, 200, 300), 255, np.uint8)
painted[0, 130:190, 240:290] = 0
painted[0, 80:125, 48:65] = 1
painted[0, 62:85, 120:160] = 2
pixelwise = Sequential(Conv2d(3, 3, 1, init="zeros"))
losses = [step(pixelwise, x, painted, 0.5) for _ in range(200)]
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
names, palette = ("table", "china", "coffee"), canvases.palette[:3]
show(
    overlay(photo, painted[0], names, palette),
    "The labels: a part of the table, of the saucer and of the coffee.",
)
show(
    overlay(photo, pixelwise(x).argmax(axis=1)[0], names, palette),
    "The lit saucer and the coffee are found. The white rim and bright parts of the table are labelled "
    "coffee, and dark parts of the saucer table: one pixel is not enough.",
)

# %% [markdown]
# ## Break it
#
# **A wrong crop.** Suppose the crop were wrong, so that each prediction is some pixels too far down
# and to the right. Strokes of these digits are about 3 pixels wide. Predict: how much of the mean IoU is
# left at 2 pixels, at 4, at 8?

# %% tags=["varies"]
images, truths = map(np.stack, zip(*(unseen[i] for i in range(40)), strict=True))
guesses = mf.training.predict(fcn, grey(images))
for off in (0, 1, 2, 4, 8):
    matrix = mf.metrics.ConfusionMatrix(11)
    matrix.update(truths, np.roll(guesses, (off, off), axis=(1, 2)))
    print(
        f"{off} off: pixel accuracy {matrix.pixel_accuracy():.3f}, mean IoU {matrix.mean_iou():.3f}"
    )

# %% [markdown]
# Pixel accuracy changes little, because most background pixels are still background. Mean IoU shows the
# error.
#
# **Large scores.** What does a direct softmax return for scores of 1000? And that of minifcn, which
# subtracts the largest score first?

# %%
scores = np.array([1000.0, 0.0]).reshape(1, 2, 1, 1)
with np.errstate(all="ignore"):
    print("direct:          ", (np.exp(scores) / np.exp(scores).sum()).ravel())
print("largest subtracted:", mf.functional.softmax(scores).ravel())

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is the loss of an image?</summary>
#
# The mean of $-\log p_l$ over its labelled pixels, where $l$ is the label of each.
#
# </details>
# <details><summary>2. A network for 21 classes starts with a loss of 3.04. Is that good?</summary>
#
# Yes: it is log 21, the loss of a network that does not know anything yet.
#
# </details>
# <details><summary>3. Which layers of an FCN are not those of its classifier?</summary>
#
# The score layer and the upsampling. All others keep their weights.
#
# </details>
# <details><summary>4. Where does output i of one layer lie in its input?</summary>
#
# At $s i + (k - 1) / 2 - p$: the centre of its window.
#
# </details>
# <details><summary>5. Why overfit two images first?</summary>
#
# It takes seconds, and fails if loss, gradients, alignment or labels are wrong.
#
# </details>
