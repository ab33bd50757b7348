# %% [markdown]
# # 10. Skips
#
# **Question.** A network has one score for every eighth pixel. Where does fine detail come from?
#
# **Minutes:** 13 to read, 1 to run, 35 for the exercises.
#
# **You need** the bilinear kernel (lesson 7), mean IoU (lesson 8), and the network of lesson 9.

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.layers import Add, Conv2d, Layer
from minifcn.viz import panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# How well could a network do that has scores at stride 8 only, if its scores were the truth? Take
# the true labels, let each cell of 8 x 8 pixels hold the share of each class in it, and upsample these
# shares as a network upsamples scores. The same for cells of 4 x 4 and 2 x 2.

# %%
sizes = {"size": (48, 96), "digits_per_canvas": 3}
unseen = DigitCanvases("test", 40, **sizes)
canvases, truths = map(np.stack, zip(*(unseen[i] for i in range(40)), strict=True))


def true_shares(stride):
    """Return the labels (N, H, W) that cells of the true labels can tell."""
    onehot = np.arange(11)[:, None, None] == truths[:, None]  # (N, K, H, W)
    shares = mf.functional.avg_pool2d(onehot.astype(np.float32), stride, stride=stride)
    cells = mf.geometry.Window(stride, stride).coordinate_map()
    up = mf.models.AlignedUpsample(11, coarse=cells, fine=mf.geometry.CoordinateMap())
    return up(shares).argmax(axis=1)


def mean_iou(guesses):
    matrix = mf.metrics.ConfusionMatrix(11)
    matrix.update(truths, guesses)
    return matrix.mean_iou()


told = {stride: true_shares(stride) for stride in (8, 4, 2)}
which = 5
show(
    panels(
        {"canvas": canvases[which], "truth": truths[which] % 255 > 0}
        | {
            f"shares at stride {stride}": labels[which] > 0
            for stride, labels in told.items()
        },
        columns=3,
    ),
    "White is digit. At stride 8 strokes vanish and bays fill up; at 4 the bay of the 0 is back, "
    "at 2 the hole of the 6, too.",
)
for stride, labels in told.items():
    print(f"stride {stride}: mean IoU {mean_iou(labels):.2f} from true shares")

# %% [markdown]
# So stride 8 cannot tell much more, however long one trains. (A little more: scores may exaggerate to
# bring out a thin stroke, shares may not.) Finer maps are there already: each pool of the
# network leaves one. What do they see?

# %%
grey = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))
classifier = mf.models.digit_classifier(rng=0)
fcn8 = mf.models.FCN(classifier, 11)  # stride 8
rows = {row.name: row for row in mf.models.explain(fcn8, (48, 96)).rows}
for name in ("features.2", "features.7", "score"):
    view = rows[name].views[0]
    print(
        f"{name:10} {rows[name].kind:10} {rows[name].output_shape!s:13}",
        f"stride {view.grid.scale}, sees {view.field:2} x {view.field:2} pixels",
    )

# %% [markdown]
# Four pixels of a stroke look alike in all digits: the map at stride 2 knows *where*, but not *what*. The
# score map sees whole digits: it knows what, but not where.
#
# A *skip* uses both. A score layer, a convolution of 1 x 1, makes $K$ scores of the finer map, too. They
# are **added** to the coarser scores, upsampled by 2. Scores can be added, for they mean the same:
# "how much speaks for class k here". Features cannot: channel 5 of 32 has nothing to do with channel 5 of
# 128. Long et al. (2015) do this twice:
#
# | in the paper | finest map | here |
# |---|---|---|
# | FCN-32s | the last one | stride 8 |
# | FCN-16s | the pool before | stride 4 |
# | FCN-8s | the pool before that | stride 2 |
#
# ## Predict
#
# `fcn8.finer()` is the same network with one more skip, whose weights begin at **zero**.
#
# 1. Before any training, how do its scores differ from those of its parent?
# 2. A sum has two summands. How much of the gradient of the sum does each get?
# 3. Can a layer whose weights are all zero learn?
#
# First the parent has to know something: classifier and FCN as in lesson 9.


# %%
def train(network, dataset, batch_size, lr):
    batches = Loader(dataset, batch_size, preprocess=grey, shuffle=True, seed=0)
    adam = mf.optim.Adam(network, lr=lr)
    schedule = mf.optim.Cosine(len(batches), warmup_steps=20)
    mf.training.fit(network, batches, adam, schedule=schedule, progress=None)


def train_fcn(network, count, seed):
    for layer in network.score_layers():
        for parameter in layer.parameters():
            parameter.lr_multiplier = 3
    train(network, DigitCanvases("train", count, seed=seed, **sizes), 2, lr=2e-3)


train(classifier, DigitCrops("train", repeats=4), 32, lr=3e-3)
fcn8 = mf.models.FCN(classifier, 11)
train_fcn(fcn8, 1200, seed=0)
x = grey(canvases)
parent, child = fcn8(x), fcn8.finer()(x)
same = (parent.argmax(axis=1) == child.argmax(axis=1)).mean()
print(f"1. parent and child give the same label to {100 * same:.1f} % of the pixels")
print(
    f"   largest score {abs(parent).max():.1f}, largest difference {abs(parent - child).max():.1f}"
)

a, b = Conv2d(1, 1, 1, rng=0), Conv2d(1, 1, 1, rng=0)
both = Add(a, b)  # y = a(x) + b(x)
both(np.ones((1, 1, 1, 1), np.float32))
both.backward(np.full((1, 1, 1, 1), 5, np.float32))
print("2. of a gradient of 5:", a.bias.grad, "and", b.bias.grad)

fcn4 = fcn8.finer().train()
loss, dscores = mf.losses.softmax_cross_entropy(fcn4(x[:2]), truths[:2])
fcn4.backward(dscores)
skip = fcn4.skips["4"]
print(
    f"3. weights {abs(skip.weight.data).max():.0f}, their gradient {abs(skip.weight.grad).max():.5f}"
)

# %% [markdown]
# 1. A little. The skip adds zeros; what is left is upsampling in two steps, by 2 and by 4, rather than in
#    one by 8. Where scores run straight from place to place that is the same; bends get rounded otherwise.
# 2. All of it, both. A sum does not divide a gradient.
# 3. Yes. The gradient of a weight is the gradient of the score times the *feature*, and features are not
#    zero.
#
# So a child begins about where its parent ended, and goes on from there: training in *stages*.
#
# ## Exercise 10.1: fuse
#
# *20 minutes.* Upsample scores by 2, score the finer map, and add. Score $i$ lies at position
# $2 i + \frac12$ of the finer map, along both axes. So a fine number is $\frac34$ of the nearest score
# and $\frac14$ of the next nearest. Beyond the border the first and the last score go on. Pools round
# up, so the finer map may have an odd number of rows or columns: cut what is too much at the end.
#
# <details><summary>Hint 1</summary>
#
# Along one axis: fine numbers $2i$ and $2i + 1$ have score $i$ nearest; the next nearest is $i - 1$ for
# the first and $i + 1$ for the second. `np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")` continues
# them.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Do the rows first: `up = np.empty((K, 2 * h, w + 2))`, `up[:, ::2] = ...`, `up[:, 1::2] = ...`. Then the
# same with columns. `np.einsum("kc,chw->khw", weights, features)` is a convolution of 1 x 1.
#
# </details>


# %%
def my_fuse(scores, features, weights, bias):
    """Return fused scores (K, H, W) for scores (K, h, w), features (C, H, W), weights (K, C), bias (K,).

    H is 2 h or 2 h - 1, and W is 2 w or 2 w - 1.
    """
    ### BEGIN SOLUTION
    _, height, width = features.shape
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")
    up = np.empty((len(scores), 2 * scores.shape[1], padded.shape[2]))
    up[:, ::2] = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, :-2]
    up[:, 1::2] = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    large = np.empty((len(scores), up.shape[1], 2 * scores.shape[2]))
    large[:, :, ::2] = 0.75 * up[:, :, 1:-1] + 0.25 * up[:, :, :-2]
    large[:, :, 1::2] = 0.75 * up[:, :, 1:-1] + 0.25 * up[:, :, 2:]
    skip = np.einsum("kc,chw->khw", weights, features) + bias[:, None, None]
    return large[:, :height, :width] + skip
    ### END SOLUTION


# %%
# Check of exercise 10.1: run this cell.
def upsampled(scores, size):
    coarse = mf.geometry.Window(2, 2).coordinate_map()
    up = mf.models.AlignedUpsample(len(scores), coarse, mf.geometry.CoordinateMap())
    return up.astype("float64").forward(scores[None], size)[0]


def with_skip(up, features, weights, bias):
    return up + mf.functional.conv2d(features[None], weights[:, :, None, None], bias)[0]


def right_fuse(scores, features, weights, bias):
    return with_skip(upsampled(scores, features.shape[1:]), features, weights, bias)


@st.composite
def maps(draw):
    classes, channels, rows, columns = (draw(st.integers(1, 3)) for _ in range(4))
    height, width = (
        2 * rows - draw(st.integers(0, 1)),
        2 * columns - draw(st.integers(0, 1)),
    )
    return {
        "scores": draw(whole_numbers(classes, rows, columns)),
        "features": draw(whole_numbers(channels, height, width)),
        "weights": draw(whole_numbers(classes, channels)),
        "bias": draw(whole_numbers(classes)),
    }


def no_skip(scores, features, weights, bias):
    """The scores of the finer map are missing."""
    return upsampled(scores, features.shape[1:])


def no_bias(scores, features, weights, bias):
    """The bias is missing."""
    return right_fuse(scores, features, weights, 0 * bias)


def whole(scores):
    return upsampled(scores, (2 * scores.shape[1], 2 * scores.shape[2]))


def repeated(scores, features, weights, bias):
    """Each score is repeated; a fine number is 3/4 of the nearest and 1/4 of the next nearest."""
    _, height, width = features.shape
    up = np.kron(scores, np.ones((2, 2)))[:, :height, :width]
    return with_skip(up, features, weights, bias)


def cut_in_front(scores, features, weights, bias):
    """Rows or columns are cut at the beginning; there the maps agree, so cut at the end."""
    _, height, width = features.shape
    return with_skip(whole(scores)[:, -height:, -width:], features, weights, bias)


def fading(scores, features, weights, bias):
    """Beyond the border you take zeros; there the first and the last score go on."""
    _, height, width = features.shape
    up = whole(np.pad(scores, ((0, 0), (1, 1), (1, 1))))
    return with_skip(up[:, 2 : 2 + height, 2 : 2 + width], features, weights, bias)


def one_off(scores, features, weights, bias):
    """The upsampled scores stand one fine number too far up and left."""
    _, height, width = features.shape
    up = whole(np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge"))
    return with_skip(up[:, 3 : 3 + height, 3 : 3 + width], features, weights, bias)


def features_added(scores, features, weights, bias):
    """You add features; score them first, by a convolution of 1 x 1 with `weights`, and add scores."""
    return upsampled(scores, features.shape[1:]) + features


check_exercise(
    my_fuse,
    right_fuse,
    maps(),
    mistakes=[no_skip, no_bias, repeated, cut_in_front, fading, one_off, features_added],
    example={
        "scores": np.array([[[0.0, 4, 0], [8, 0, 0]]]),
        "features": np.zeros((1, 4, 5)),
        "weights": np.ones((1, 1)),
        "bias": np.zeros(1),
    },
)

# %% [markdown]
# ## Run: three strides
#
# Three stages: stride 8 is trained. Then comes a skip from stride 4, and training goes on; then one from
# stride 2. But is it the skips that help, or only the longer training? To tell, the network of stride 8
# trains on, too, on as many canvases as the others have seen.

# %%
longer = mf.models.FCN(classifier, 11)
longer.load_state_dict(fcn8.state_dict())
train_fcn(longer, 1200, seed=1)

fcn4 = fcn8.finer()
train_fcn(fcn4, 600, seed=1)
fcn2 = fcn4.finer()
train_fcn(fcn2, 600, seed=2)

# %% tags=["varies"]
networks = {
    "stride 8": fcn8,
    "stride 8, trained on": longer,
    "stride 4": fcn4,
    "stride 2": fcn2,
}
guesses = {name: mf.training.predict(network, x) for name, network in networks.items()}
for name, labels in guesses.items():
    print(f"{name:21} mean IoU {mean_iou(labels):.3f}")
picture, truth = canvases[which], truths[which]
chosen = ["stride 8", "stride 4", "stride 2"]
show(
    prediction_strips(
        [picture] * 3,
        [truth] * 3,
        [guesses[name][which] for name in chosen],
        unseen.class_names,
        unseen.palette,
        row_names=chosen,
    ),
    "At stride 8 there are blobs, and the 0 is in pieces; at 4 and 2 strokes and bays are there, "
    "and what is wrong lies along the edges.",
)

# %% [markdown]
# Both help: longer training, and, on as many canvases, the skips. In the paper the mean IoU of FCN-32s, 16s
# and 8s is 59.4, 62.4 and 62.7 percent, on photographs (PASCAL VOC 2011) whose objects are large. Here
# everything is edge.
#
# Look at one edge closely. Predict: where will stride 8 be wrong?

# %%
rows, columns = slice(12, 24), slice(67, 79)  # the corner between stem and bow of the 6
ink = {name: guesses[name][which][rows, columns].astype(float) for name in chosen}
ink["truth"] = np.where(truth == 255, np.nan, truth)[rows, columns]
show(
    panels(ink, columns=2, width=6, shared=True),
    "The corner between stem and bow of the 6, whose class is 7; 0 is ground, void is empty. Stride 8 "
    "cuts the corner; strides 4 and 2 follow it.",
)

# %% [markdown]
# ## Exercise 10.2: a sum, backward
#
# *15 minutes.* A skip ends in a sum. Write the layer that adds the outputs of two branches, which have
# the same input. `forward` is there; write `backward`. Each branch is a layer with a `backward` of its
# own, which takes the gradient of its output and returns that of its input.
#
# <details><summary>Hint 1</summary>
#
# $y = a(x) + b(x)$. How much does $y$ change if $a(x)$ changes by 1?
#
# </details>
# <details><summary>Hint 2</summary>
#
# x reaches y on two paths. What it contributes on both adds up.
#
# </details>


# %%
class MyAdd(Layer):
    """The sum of two layers' outputs."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def forward(self, x):
        """Return y of shape (N, K, H, W) for x of shape (N, C, H, W)."""
        return self.a(x) + self.b(x)

    def backward(self, dy):
        """Return dx of shape (N, C, H, W) for dy of shape (N, K, H, W)."""
        ### BEGIN SOLUTION
        return self.a.backward(dy) + self.b.backward(dy)
        ### END SOLUTION


# %%
# Check of exercise 10.2: run this cell.
def gradients(layer_class, case):
    layers = [
        Conv2d(*case["w"].shape[1::-1], size, padding=size // 2, rng=0) for size in (1, 3)
    ]
    for layer, weight in zip(layers, (case["w"], case["v"]), strict=True):
        layer.astype("float64").weight.data = weight.copy()
    both = layer_class(*layers)
    both(case["x"])
    dx = both.backward(case["dy"].copy())
    of_weights = [layer.weight.grad for layer in layers]
    return [dx, *(np.zeros(1) if gradient is None else gradient for gradient in of_weights)]


@st.composite
def two_branches(draw):
    channels, classes, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    return {
        "x": draw(whole_numbers(1, channels, height, width)),
        "dy": draw(whole_numbers(1, classes, height, width)),
        "w": draw(whole_numbers(classes, channels, 1, 1)),
        "v": draw(whole_numbers(classes, channels, 3, 3)),
    }


class Halved(Add):
    """You share the gradient out; a sum passes all of it to both."""

    def backward(self, dy):
        return super().backward(dy / 2)


class Averaged(Add):
    """The gradients of x add up; yours are averaged."""

    def backward(self, dy):
        return super().backward(dy) / 2


class Concatenated(Add):
    """Only the first branch gets a gradient; the second learns nothing."""

    def backward(self, dy):
        self.recall(dy)
        return self[0].backward(dy)


class SecondOnly(Add):
    """Only the second branch gets a gradient; the first learns nothing."""

    def backward(self, dy):
        self.recall(dy)
        return self[1].backward(dy)


class FirstReturned(Add):
    """Both branches get their gradient, but you return that of one path; x is reached by both."""

    def backward(self, dy):
        self.recall(dy)
        dx = self[0].backward(dy)
        self[1].backward(dy)
        return dx


class Untouched(Add):
    """The gradient does not go through the branches: call their backward."""

    def backward(self, dy):
        return 2 * dy


check_exercise(
    MyAdd,
    Add,
    two_branches(),
    run=gradients,
    mistakes=[Halved, Averaged, Concatenated, SecondOnly, FirstReturned, Untouched],
)

# %% [markdown]
# ## Break it
#
# **Without what, without where.** Take the trained network of stride 2 and silence some of its three score
# layers: their weights become 0. Predict: what do the skips alone take for digits, and what do the coarse
# scores alone?

# %% tags=["varies"]
layers = dict(zip((8, 4, 2), fcn2.score_layers(), strict=True))
kept = {name: array.copy() for name, array in fcn2.state_dict().items()}
found = {}
for name, silent in {
    "all three": [],
    "without 2": [2],
    "without 4": [4],
    "skips alone": [8],
    "coarse scores alone": [4, 2],
}.items():
    for stride in silent:
        layers[stride].weight.data = 0 * layers[stride].weight.data
    found[name] = mf.training.predict(fcn2, x)
    fcn2.load_state_dict(kept)
    print(f"{name:19} mean IoU {mean_iou(found[name]):.3f}")
shown = ("all three", "skips alone", "coarse scores alone")
show(
    panels(
        {"canvas": picture} | {name: found[name][which] > 0 for name in shown}, columns=2
    ),
    "White is digit. The skips alone take dark stripes of the ground for digits: they see edges, "
    "and not whose. The coarse scores alone give blobs, but their mean IoU is far higher.",
)

# %% [markdown]
# **One pixel off.** A skip that is laid over the scores one place too far to the right, as wrong crops
# do. Predict: which is worse, one place at stride 2 or at stride 4?


# %% tags=["varies"]
class Moved(Layer):
    """A layer whose output is moved to the right by one place."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return np.roll(self.layer(x), 1, axis=3)


print(f"as it is: mean IoU {mean_iou(mf.training.predict(fcn2, x)):.3f}")
for stride in ("2", "4"):
    skip = fcn2.skips[stride]
    fcn2.skips.parts[stride] = Moved(skip).eval()
    print(f"skip {stride} moved: {mean_iou(mf.training.predict(fcn2, x)):.3f}")
    fcn2.skips.parts[stride] = skip

# %% [markdown]
# One place is 2 pixels at stride 2, and 4 pixels at stride 4.
#
# **A random beginning.** A new skip with random weights instead of zeros: what does it do to what the
# parent knows?

# %% tags=["varies"]
child = fcn8.finer()
skip = child.skips["4"]
draw = np.random.default_rng(0).standard_normal
for size in (0, 0.01, 0.1, 1):
    skip.weight.data = (size * draw(skip.weight.data.shape)).astype(np.float32)
    scores = child(x)
    loss, _ = mf.losses.softmax_cross_entropy(scores, truths)
    print(
        f"weights of {size:<4}: loss {loss:5.2f}, mean IoU {mean_iou(scores.argmax(axis=1)):.3f}"
    )

# %% [markdown]
# The loss at the beginning says it: with large weights, the child has forgotten what its parent knew.
#
# ## Recall
#
# <details><summary>1. What does a skip add to what?</summary>
#
# Scores of a finer map, by a convolution of 1 x 1, to the coarser scores, upsampled by 2.
#
# </details>
# <details><summary>2. Why scores and not features?</summary>
#
# Channel k of both is the score of class k. Channels of features mean different things, and there are
# different numbers of them.
#
# </details>
# <details><summary>3. What does the map of a skip know that the coarsest does not, and the reverse?</summary>
#
# Where, but not what: it has many places and sees few pixels. The coarsest sees whole things.
#
# </details>
# <details><summary>4. Why does a new skip begin at zero?</summary>
#
# So that the network begins with the scores of its parent, up to upsampling in two steps.
#
# </details>
# <details><summary>5. Why can it learn from zero?</summary>
#
# The gradient of its weights is that of the scores times the features, and neither is zero.
#
# </details>
