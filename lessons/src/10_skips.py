# %% [markdown]
# # 10. Skips
#
# **Question.** A network has one score for every eighth pixel. Where does fine detail come from?
#
# **Minutes:** 14 to read, 1 to run, 35 for the exercises.
#
# **You need** the bilinear kernel (lesson 7), mean IoU (lesson 8), and the network of lesson 9.

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.layers import Add, Conv2d, Layer, Parameter
from minifcn.viz import panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# How much detail can scores at stride 8 express? A first attempt: take the true labels, let each cell of
# 8 x 8 pixels contain the fraction of each class in it, and upsample these fractions as a network upsamples
# scores. The same for cells of 4 x 4 and 2 x 2.

# %%
sizes = {"size": (48, 96), "digits_per_canvas": 3}
unseen = DigitCanvases("test", 40, **sizes)
canvases, truths = map(np.stack, zip(*(unseen[i] for i in range(40)), strict=True))


def from_fractions(stride):
    """Return the labels (N, H, W) from the fractions of the true classes in each cell."""
    onehot = np.arange(11)[:, None, None] == truths[:, None]  # (N, K, H, W)
    fractions = mf.functional.avg_pool2d(onehot.astype(np.float32), stride, stride=stride)
    cells = mf.geometry.Window(stride, stride).coordinate_map()
    up = mf.models.AlignedUpsample(11, coarse=cells, fine=mf.geometry.CoordinateMap())
    return up(fractions).argmax(axis=1)


def mean_iou(guesses):
    matrix = mf.metrics.ConfusionMatrix(11)
    matrix.update(truths, guesses)
    return matrix.mean_iou()


coarse_labels = {stride: from_fractions(stride) for stride in (8, 4, 2)}
which = 5
show(
    panels(
        {"canvas": canvases[which], "truth": truths[which] % 255 > 0}
        | {
            f"fractions at stride {stride}": labels[which] > 0
            for stride, labels in coarse_labels.items()
        },
        columns=3,
    ),
    "White is digit. At stride 8 strokes vanish and gaps are filled; at 4 the gap of the 0 is visible, "
    "at 2 the hole of the 6, too.",
)
for stride, labels in coarse_labels.items():
    print(f"stride {stride}: mean IoU {mean_iou(labels):.2f} from true fractions")

# %% [markdown]
# These numbers look like a limit for each stride, but they are not: scores need not be fractions. The next
# cell treats the scores at stride 8 of all 40 canvases as free parameters. It computes them by gradient
# descent on the loss, through the upsampling of the network. Predict: how far does the mean IoU rise?

# %%
grey = mf.models.Preprocessing("L", mean=(150.0,), std=(54.0,))
classifier = mf.models.digit_classifier(rng=0)
fcn8 = mf.models.FCN(classifier, 11)  # stride 8
rows = {row.name: row for row in mf.models.explain(fcn8, (48, 96)).rows}
up = mf.models.AlignedUpsample(
    11, coarse=rows["score"].views[0].grid, fine=mf.geometry.CoordinateMap()
)
free = Parameter(np.zeros((40, *rows["score"].output_shape), np.float32))  # (40, 11, 7, 13)
adam = mf.optim.Adam({"scores": free}, lr=1.0)
for step in range(121):
    adam.zero_grad()
    scores = up.forward(free.data, (48, 96))
    loss, dscores = mf.losses.softmax_cross_entropy(scores, truths)
    if step in (0, 10, 40, 120):
        iou, largest = mean_iou(scores.argmax(axis=1)), abs(free.data).max()
        print(f"step {step:3}: mean IoU {iou:.2f}, largest score {largest:5.1f}")
    free.accumulate(up.backward(dscores))
    adam.step()
show(
    panels(
        {
            "canvas": canvases[which],
            "truth": truths[which] % 255 > 0,
            "free scores, stride 8": scores[which].argmax(axis=0) > 0,
        },
        columns=3,
    ),
    "White is digit. The free scores show the strokes, and most of the gaps between them.",
)

# %% [markdown]
# So the grid of stride 8 is not the limit. Between two positions the upsampled scores of two classes are
# nearly straight lines, and the label changes where they cross. The sizes of neighbouring scores can put this
# crossing anywhere, to a fraction of a cell.
#
# The difficulty is to compute these scores. The free ones were fitted to the true labels. A network must get
# them from the image, with the same weights for all canvases, and from a map after three pools, each of which
# loses positions inside its windows (lesson 5). Training can find such weights, but slowly, as the experiment
# below shows. Finer maps have lost less, and they already exist: each pool of the network has one. What do
# they see?

# %%
for name in ("features.2", "features.7", "score"):
    view = rows[name].views[0]
    print(
        f"{name:10} {rows[name].kind:10} {rows[name].output_shape!s:13}",
        f"stride {view.grid.scale}, field {view.field:2} x {view.field:2} pixels",
    )

# %% [markdown]
# Four pixels of a stroke look alike in all digits: the map at stride 2 knows *where*, but not *what*. The
# score map sees whole digits: it knows what, but not where.
#
# A *skip* uses both. A score layer, a convolution of 1 x 1, computes $K$ scores of the finer map, too. They
# are **added** to the coarser scores, upsampled by 2. Scores can be added, because channel $k$ of both means
# "evidence for class $k$ here". Features cannot: channel 5 of 32 is unrelated to channel 5 of
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
# `fcn8.finer()` is the same network with one more skip, whose weights start at **zero**.
#
# 1. Before any training, how do its scores differ from those of its parent?
# 2. A sum has two terms. How much of the gradient of the sum does each get?
# 3. Can a layer whose weights are all zero learn?
#
# First the parent must be trained: classifier and FCN as in lesson 9, about 20 seconds.


# %%
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
    f"3. largest weight {abs(skip.weight.data).max():.0f}, "
    f"largest gradient {abs(skip.weight.grad).max():.5f}"
)

# %% [markdown]
# 1. A little. The skip adds zeros; what remains is upsampling in two steps, by 2 and by 4, instead of
#    one by 8. Where scores follow a straight line this is the same; where they bend, it smooths differently.
# 2. Each gets all of it. A sum does not divide a gradient.
# 3. Yes. The gradient of a weight is the gradient of the score times the *feature*, and features are not
#    zero.
#
# So a child starts about where its parent ended, and continues from there: training in *stages*.
#
# ## Exercise 10.1: fuse
#
# *20 minutes, hard.* Upsample scores by 2, score the finer map, and add. Score $i$ lies at position
# $2 i + \frac12$ of the finer map, along both axes. So an upsampled value is $\frac34$ of the nearest score
# and $\frac14$ of the second nearest. Beyond the border the first and the last score are repeated. Pools
# round up, so the finer map may have an odd number of rows or columns: crop at the end.
#
# <details><summary>Hint 1</summary>
#
# Along one axis: values $2i$ and $2i + 1$ have score $i$ nearest; the second nearest is $i - 1$ for
# the first and $i + 1$ for the second. `np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")` repeats
# the border.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Start with the rows: `up = np.empty((K, 2 * h, w + 2))`, `up[:, ::2] = ...`, `up[:, 1::2] = ...`. Then the
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
    """Each score is repeated; a value must be 3/4 of the nearest score and 1/4 of the second nearest."""
    _, height, width = features.shape
    up = np.kron(scores, np.ones((2, 2)))[:, :height, :width]
    return with_skip(up, features, weights, bias)


def cropped_at_start(scores, features, weights, bias):
    """Rows or columns are removed at the start, where the maps agree; crop at the end."""
    _, height, width = features.shape
    return with_skip(whole(scores)[:, -height:, -width:], features, weights, bias)


def zeros_beyond(scores, features, weights, bias):
    """Beyond the border there are zeros; repeat the first and the last score there."""
    _, height, width = features.shape
    up = whole(np.pad(scores, ((0, 0), (1, 1), (1, 1))))
    return with_skip(up[:, 2 : 2 + height, 2 : 2 + width], features, weights, bias)


def one_off(scores, features, weights, bias):
    """The upsampled scores are one position too far up and to the left."""
    _, height, width = features.shape
    up = whole(np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge"))
    return with_skip(up[:, 3 : 3 + height, 3 : 3 + width], features, weights, bias)


def features_added(scores, features, weights, bias):
    """Features are added; compute scores from them first, by a convolution of 1 x 1 with `weights`."""
    return upsampled(scores, features.shape[1:]) + features


check_exercise(
    my_fuse,
    right_fuse,
    maps(),
    mistakes=[
        no_skip,
        no_bias,
        repeated,
        cropped_at_start,
        zeros_beyond,
        one_off,
        features_added,
    ],
    example={
        "scores": np.array([[[0.0, 4, 0], [8, 0, 0]]]),
        "features": np.zeros((1, 4, 5)),
        "weights": np.ones((1, 1)),
        "bias": np.zeros(1),
    },
)

# %%
# Once its check prints ok, your function fuses what and where; until then, the solution does.
fuse = checked(my_fuse, otherwise=right_fuse)
photo = mf.data.photograph("cat")[::3, ::3].mean(axis=2)[None]  # (1, 100, 151)
coarse = mf.functional.avg_pool2d(photo[None], 2, ceil_mode=True)[
    0
]  # means of 2 x 2 pixels
none, one = np.zeros((1, 1)), np.ones((1, 1))
alone = fuse(coarse, photo, none, np.zeros(1))
detail = photo - alone  # what a finer map would know
show(
    panels(
        {
            "upsampled alone": alone[0],
            "detail": detail[0],
            "fused": fuse(coarse, detail, one, np.zeros(1))[0],
        },
        columns=3,
    ),
    "The coarse map is blurred; with the detail of the finer map, the photograph is complete.",
)

# %% [markdown]
# ## Corners or half pixels?
#
# Libraries differ in where upsampled values lie. With *half pixels*, as above, a score lies in the middle of
# its cell. With `align_corners=True` the first and the last score lie on the first and the last pixel.
# Predict: four scores of a ramp, each equal to the pixel that it lies at, are upsampled in both ways. Is
# pixel $j$ still $j$?


# %%
def upsampled_ramp(stride, align_corners):
    ramp = stride * np.arange(4) + (stride - 1) / 2  # cell centres of four cells
    pixels = np.arange(4 * stride)
    if align_corners:
        return np.interp(pixels * 3 / (4 * stride - 1), np.arange(4), ramp)
    return np.interp((pixels - (stride - 1) / 2) / stride, np.arange(4), ramp)


errors = {
    f"{name}: value - pixel": upsampled_ramp(4, corners) - np.arange(16)
    for name, corners in {"half pixels": False, "align_corners": True}.items()
}
show(
    panels(errors, columns=1),
    "Stride 4. With half pixels the difference is 0 from pixel 2 to pixel 13, and the first and the last "
    "score are repeated at the ends. With align_corners it is 0 nowhere, and grows towards the ends.",
)
for stride in (2, 8, 32):
    off = abs(upsampled_ramp(stride, True) - np.arange(4 * stride)).max()
    print(f"align_corners, stride {stride}: up to {off} pixels off")

# %% [markdown]
# Weights that were trained with one of them need the same one. A pool of 2 x 2 makes half pixels.
#
# ## Added or concatenated?
#
# U-Net and others *concatenate* the channels of two maps, and then convolve them. Predict: how does this
# differ from a sum of scores, if the convolution is 1 x 1?

# %%
rng = np.random.default_rng(0)
coarse, fine = rng.normal(size=(1, 5, 6, 7)), rng.normal(size=(1, 3, 6, 7))
w_coarse, w_fine = rng.normal(size=(4, 5, 1, 1)), rng.normal(size=(4, 3, 1, 1))
conv2d = mf.functional.conv2d
added = conv2d(coarse, w_coarse) + conv2d(fine, w_fine)
joined = np.concatenate([coarse, fine], axis=1)  # (1, 8, 6, 7)
concatenated = conv2d(joined, np.concatenate([w_coarse, w_fine], axis=1))
print(
    "weights:",
    w_coarse.size + w_fine.size,
    "in both; equal:",
    np.allclose(added, concatenated),
)

# %% [markdown]
# Not at all: a sum over eight channels is a sum over five plus a sum over three. They differ if the
# convolution is larger, or if a ReLU follows.
#
# ## Any size
#
# Many libraries want images whose size is a multiple of the stride. Otherwise pools round, and an upsampled
# map does not fit the finer one. Here positions are known, so that the crop of exercise 10.1 can be computed:

# %%
any_size = mf.models.FCN(classifier, 11, 2)
for size in ((48, 96), (45, 91), (1, 1)):
    shapes = {
        row.name: row.output_shape[1:] for row in mf.models.explain(any_size, size).rows
    }
    maps = [shapes[name] for name in ("score", "features.7", "features.2")]
    image = np.zeros((1, 1, *size), np.float32)
    print(f"image {size}: maps {maps}, scores {any_size(image).shape[2:]}")

# %% [markdown]
# ## Run: three strides
#
# Three stages: stride 8 is trained. Then comes a skip from stride 4, and training continues; then one from
# stride 2. But do the skips help, or only the longer training? To find out, the network of stride 8
# is also trained further, on as many canvases as the others have seen. This takes about 20 seconds.

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
    "stride 8, longer": longer,
    "stride 4": fcn4,
    "stride 2": fcn2,
}
guesses = {name: mf.training.predict(network, x) for name, network in networks.items()}
for name, labels in guesses.items():
    print(f"{name:21} mean IoU {mean_iou(labels):.3f}")
print(f"{'free scores, stride 8':21} mean IoU {iou:.3f}")
canvas, truth = canvases[which], truths[which]
chosen = ["stride 8", "stride 4", "stride 2"]
show(
    prediction_strips(
        [canvas] * 3,
        [truth] * 3,
        [guesses[name][which] for name in chosen],
        unseen.class_names,
        unseen.palette,
        row_names=chosen,
    ),
    "At stride 8 there are blobs, and the 0 is in pieces; at 4 and 2 there are strokes and gaps, "
    "and most wrong pixels lie along the edges.",
)

# %% [markdown]
# Both help: longer training, and, on as many canvases, the skips. The free scores show what stride 8 could
# reach; the trained network is far from it, and with the same canvases the skips get closer. In the paper
# the mean IoU of FCN-32s, 16s and 8s is 59.4, 62.4 and 62.7 percent, on photographs (PASCAL VOC 2011) with
# large objects. Our digits consist of edges.
#
# Look at one edge closely. Predict: where will stride 8 be wrong?

# %%
rows, columns = slice(12, 24), slice(67, 79)  # the corner between stem and bowl of the 6
ink = {name: guesses[name][which][rows, columns].astype(float) for name in chosen}
ink["truth"] = np.where(truth == 255, np.nan, truth)[rows, columns]
show(
    panels(ink, columns=2, width=6, shared=True),
    "The corner between stem and bowl of the 6, which has class 7; 0 is background, void is empty. Stride 8 "
    "fills the corner; strides 4 and 2 follow it.",
)

# %% [markdown]
# ## Exercise 10.2: a sum, backward
#
# *15 minutes, easy.* A skip ends in a sum. Write the layer that adds the outputs of two branches with
# the same input. `forward` is given; write `backward`. Each branch is a layer with its own `backward`,
# which takes the gradient of its output and returns that of its input.
#
# <details><summary>Hint 1</summary>
#
# $y = a(x) + b(x)$. How much does $y$ change if $a(x)$ changes by 1?
#
# </details>
# <details><summary>Hint 2</summary>
#
# x reaches y on two paths. Add its contributions on both.
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
        Conv2d(*case["w"].shape[1::-1], size, padding=size // 2, init="zeros")
        for size in (1, 3)
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
    """The gradient is divided between the branches; a sum passes all of it to both."""

    def backward(self, dy):
        return super().backward(dy / 2)


class Averaged(Add):
    """The gradients of x are averaged; add them."""

    def backward(self, dy):
        return super().backward(dy) / 2


class FirstOnly(Add):
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
    """Both branches get their gradient, but only that of one path is returned; add both."""

    def backward(self, dy):
        self.recall(dy)
        dx = self[0].backward(dy)
        self[1].backward(dy)
        return dx


class Untouched(Add):
    """The gradient does not pass through the branches: call their backward."""

    def backward(self, dy):
        return 2 * dy


check_exercise(
    MyAdd,
    Add,
    two_branches(),
    run=gradients,
    mistakes=[Halved, Averaged, FirstOnly, SecondOnly, FirstReturned, Untouched],
)

# %% [markdown]
# ## Break it
#
# **Without what, without where.** Take the trained network of stride 2 and set the weights of some of its
# three score layers to 0. Predict: what do the skips alone label as digits, and what do the coarse
# scores alone?

# %% tags=["varies"]
layers = dict(zip((8, 4, 2), fcn2.score_layers(), strict=True))
kept = {name: array.copy() for name, array in fcn2.state_dict().items()}
found = {}
for name, removed in {
    "all three": [],
    "without 2": [2],
    "without 4": [4],
    "skips alone": [8],
    "coarse scores alone": [4, 2],
}.items():
    for stride in removed:
        layers[stride].weight.data = 0 * layers[stride].weight.data
    found[name] = mf.training.predict(fcn2, x)
    fcn2.load_state_dict(kept)
    print(f"{name:19} mean IoU {mean_iou(found[name]):.3f}")
shown = ("all three", "skips alone", "coarse scores alone")
show(
    panels(
        {"canvas": canvas} | {name: found[name][which] > 0 for name in shown}, columns=2
    ),
    "White is digit. The skips alone label dark stripes of the background as digits: they see edges, "
    "but not what they belong to. The coarse scores alone give blobs, but their mean IoU is far higher.",
)

# %% [markdown]
# **One position off.** Shift a skip by one position to the right before it is added, as a wrong crop
# does. Predict: which is worse, one position at stride 2 or at stride 4?


# %% tags=["varies"]
class Shifted(Layer):
    """A layer whose output is shifted to the right by one position."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return np.roll(self.layer(x), 1, axis=3)


print(f"unchanged: mean IoU {mean_iou(mf.training.predict(fcn2, x)):.3f}")
for stride in ("2", "4"):
    skip = fcn2.skips[stride]
    fcn2.skips.parts[stride] = Shifted(skip).eval()
    print(f"skip {stride} shifted: {mean_iou(mf.training.predict(fcn2, x)):.3f}")
    fcn2.skips.parts[stride] = skip

# %% [markdown]
# One position is 2 pixels at stride 2, and 4 pixels at stride 4.
#
# **A random start.** Give a new skip random weights instead of zeros. What happens to what the parent has
# learned?

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
# The first loss shows it: with large weights, the child has lost what its parent had learned.
#
# ## Recall
#
# <details><summary>1. What does a skip add to what?</summary>
#
# Scores of a finer map, from a convolution of 1 x 1, to the coarser scores, upsampled by 2.
#
# </details>
# <details><summary>2. Why scores and not features?</summary>
#
# Channel k of both is the score of class k. Channels of features mean different things, and their numbers
# differ.
#
# </details>
# <details><summary>3. Can scores at stride 8 express strokes of 3 pixels?</summary>
#
# Mostly, as the free scores show. But a network has to compute them from a map that has lost positions, and
# learns this slowly.
#
# </details>
# <details><summary>4. Why does a new skip start at zero?</summary>
#
# So that the network starts with the scores of its parent, except for upsampling in two steps.
#
# </details>
# <details><summary>5. Why can it learn from zero?</summary>
#
# The gradient of its weights is that of the scores times the features, and neither is zero.
#
# </details>
