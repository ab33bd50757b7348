# %% [markdown]
# # 13. Your own FCN
#
# **Question.** Do the functions that you wrote in lessons 2 to 9 make a network that learns?
#
# **Minutes:** 12 to read, 1 to run, 35 for the exercises.
#
# **You need** lessons 2, 3, 5, 6, 7 and 9. Exercises that you have not solved yet are no obstacle: minifcn's
# functions take their places.

# %%
import importlib
import importlib.util
import time
from functools import reduce
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, saved_functions, whole_numbers
from minifcn.viz import label_map, panels, prediction_strips, show, training_curve

# %% [markdown]
# ## The picture
#
# The task is small, so that plain Python loops can learn it in half a minute: the digits 0 to 4, 8 x 8 pixels
# each, on a dark canvas of 10 x 30. As in lesson 9 there is one label for each pixel: 0 for background, 1 to
# 5 for the digits 0 to 4, and 255 for *void*: pixels whose class is unclear, or that nobody has painted. They
# do not count anywhere.
#
# As in most photographs, the classes are unequal: three quarters of the pixels are background. For training,
# only about every seventh pixel of the background, chosen at random, keeps its label.

# %%
NAMES = ("background", "0", "1", "2", "3", "4")
PALETTE = mf.palette.palette(len(NAMES))


def make_canvas(rng, split, height=10, width=30, digits=3, painted=1.0):
    """Return an image (1, height, width) and its labels (height, width)."""
    glyphs, numbers = mf.data.digit_images(split)  # (N, 8, 8) from 0 to 16, and (N,)
    image = rng.uniform(0, 0.1, (height, width))
    labels = np.where(rng.random(image.shape) < painted, 0, 255).astype(np.uint8)
    room = width // digits  # each digit has as many columns of its own
    for place in range(digits):
        which = rng.choice(np.flatnonzero(numbers < 5))
        top = rng.integers(0, height - 8 + 1)
        left = place * room + rng.integers(0, room - 8 + 1)
        box, ink = np.s_[top : top + 8, left : left + 8], glyphs[which] / 16
        image[box] = np.maximum(image[box], ink)
        labels[box][ink >= 0.25] = 255
        labels[box][ink >= 0.5] = numbers[which] + 1
    return 4 * image[None] - 1, labels


image, labels = make_canvas(np.random.default_rng(3), "train", painted=0.15)
show(
    panels({"image": image[0], "labels": label_map(labels, PALETTE)}, columns=1),
    "Three digits, and the labels of a training canvas: dark is background, white is void.",
)

# %% [markdown]
# The network has seven layers. Follow the shapes:
#
# | layer | output (C, H, W) | functions |
# |---|---|---|
# | convolution 3 x 3 | 8, 10, 30 | `my_conv2d`, `my_weight_grads`, `my_input_grad` |
# | ReLU | 8, 10, 30 | |
# | max pool by 2 | 8, 5, 15 | `my_max_pool`, `my_max_pool_backward` |
# | convolution 5 x 5 | 16, 5, 15 | as above |
# | ReLU | 16, 5, 15 | |
# | scores, 1 x 1 | 6, 5, 15 | `my_one_by_one`, `my_weight_grads` |
# | upsampling by 2 | 6, 10, 30 | `my_zeros_inserted`, `my_bilinear`, `my_conv2d` |
#
# ## Your functions
#
# If you open the lessons with `minifcn lessons`, each check that prints `ok` saves your function in the
# folder `my` beside the notebooks. `saved_functions` loads them. You may edit the files; a newer version gets
# a number and is used instead.
#
# You need not read the next cell. It contains minifcn's functions, with the same arguments as yours, and
# prints which of both are used.


# %%
def library_step(model, x, labels, lr):
    for parameter in model.parameters():
        parameter.grad = None
    loss, dscores = mf.losses.softmax_cross_entropy(model(x), labels)
    model.backward(dscores)
    for parameter in model.parameters():
        parameter.data = parameter.data - lr * parameter.grad
    return loss


def library_pool_backward(x, dy, size, stride):
    pool = mf.layers.MaxPool2d(size, stride).train()
    pool(x[None, None])
    return pool.backward(dy[None, None])[0, 0]


def library_bilinear(stride):
    size = 2 * stride - stride % 2
    kernel = mf.functional.bilinear_kernel(1, stride, size, dtype="float64")
    return kernel[0, 0], (size - stride) // 2


def library_loss(scores, labels):
    loss, gradient = mf.losses.softmax_cross_entropy(scores[None], labels[None])
    return loss, gradient[0]


f = mf.functional
LIBRARY = {  # the same arguments as in the exercises
    "my_conv2d": lambda x, w, b, stride, padding: f.conv2d(
        x[None], w, b, stride=stride, padding=padding
    )[0],
    "my_input_grad": lambda g, w, height, width, stride: f.conv2d_input_grad(
        g[None, None], w[None, None], input_size=(height, width), stride=stride
    )[0, 0],
    "my_weight_grads": lambda x, g, rows, cols, stride: (
        f.conv2d_weight_grad(x, g, kernel_size=(rows, cols), stride=stride),
        f.conv2d_bias_grad(g),
    ),
    "my_max_pool": lambda x, size, stride: f.max_pool2d(x[None, None], size, stride)[0, 0],
    "my_max_pool_backward": library_pool_backward,
    "my_one_by_one": lambda x, weights, bias: f.conv2d(
        x[None], weights[:, :, None, None], bias
    )[0],
    "my_zeros_inserted": lambda x, w, stride, padding: f.conv_transpose2d(
        x[None, None], w[None, None], stride=stride, padding=padding
    )[0, 0],
    "my_bilinear": library_bilinear,
    "my_loss": library_loss,
    "my_step": library_step,
}
saved = saved_functions()
use = {name: saved.get(name, function) for name, function in LIBRARY.items()}
for name, exercise in zip(
    use,
    ("2.3", "3.1", "3.2", "5.1", "5.2", "6.3", "7.2", "7.4", "9.1", "9.3"),
    strict=True,
):
    print(
        f"{exercise}  {name:21} {'yours' if name in saved else 'from minifcn: not solved yet'}"
    )

# %% [markdown]
# ## Exercise 13.1: back, with the forward convolution (optional)
#
# *20 minutes, hard.* A puzzle. In a convolution with many channels, `my_input_grad` is needed for each pair
# of a filter and a channel. It can be done by **one** forward convolution: lesson 7 says how for one filter.
#
# `convolve(x, w, padding)` is a convolution with stride 1, for x ($C$, $H$, $W$) and filters ($O$, $C$, $K$,
# $K$), without bias. Given $g$ ($O$, ...), $w$ ($O$, $C$, $K$, $K$) and the padding of the forward pass,
# return `dx` ($C$, $H$, $W$). No loops; besides `convolve`, only indexing, `transpose`, `swapaxes` and
# `shape`.
#
# <details><summary>Hint 1</summary>
#
# $g$ has $O$ channels, and dx has $C$. Which shape must the filters have?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The stride is 1: no zeros between the values. Each filter is rotated by 180 degrees, and $K - 1 - p$ zeros
# are around $g$.
#
# </details>


# %%
def my_input_grads(convolve, g, w, padding):
    """Return dx (C, H, W) for g (O, OH, OW) and w (O, C, K, K), with one call of convolve."""
    ### BEGIN SOLUTION
    filters = w.swapaxes(0, 1)[:, :, ::-1, ::-1]  # (C, O, K, K)
    return convolve(g, filters, w.shape[2] - 1 - padding)
    ### END SOLUTION


# %%
# Check of exercise 13.1: run this cell.
def convolve(x, w, padding):
    return mf.functional.conv2d(x[None], w, padding=padding)[0]


def right_input_grads(convolve, g, w, padding):
    size = [n + w.shape[2] - 1 - 2 * padding for n in g.shape[1:]]
    return mf.functional.conv2d_input_grad(g[None], w, input_size=size, padding=padding)[0]


def run(function, case):
    return function(convolve, *case.values())


@st.composite
def gradients_and_filters(draw):
    filters, channels, size = (draw(st.integers(1, 3)) for _ in range(3))
    padding = draw(st.integers(0, size - 1))
    least = max(1, 2 * padding - size + 2)
    height, width = (least + draw(st.integers(0, 2)) for _ in range(2))
    return {
        "g": draw(whole_numbers(filters, height, width)),
        "w": draw(whole_numbers(filters, channels, size, size)),
        "padding": padding,
    }


def not_rotated(convolve, g, w, padding):
    """The filters are not rotated by 180 degrees."""
    return right_input_grads(convolve, g, w[:, :, ::-1, ::-1], padding)


def transposed(convolve, g, w, padding):
    """Rows and columns of the filters are swapped; rotate by 180 degrees, [..., ::-1, ::-1]."""
    rotated = w[:, :, ::-1, ::-1].swapaxes(2, 3)
    return right_input_grads(convolve, g, rotated, padding)


def not_swapped(convolve, g, w, padding):
    """The filters are (O, C, K, K); g has O channels, so they must be (C, O, K, K)."""
    return convolve(g, w[:, :, ::-1, ::-1], w.shape[2] - 1 - padding)


def mixed(convolve, g, w, padding):
    """Filters and channels are mixed: swap the two axes; do not reshape."""
    other = w.reshape(w.shape[1], w.shape[0], *w.shape[2:])
    return convolve(g, other[:, :, ::-1, ::-1], w.shape[2] - 1 - padding)


def same_padding(convolve, g, w, padding):
    """There are `padding` zeros around g; there must be K - 1 - padding."""
    return convolve(g, w.swapaxes(0, 1)[:, :, ::-1, ::-1], padding)


def all_zeros(convolve, g, w, padding):
    """There are K - 1 zeros around g for each padding; there must be K - 1 - padding."""
    return convolve(g, w.swapaxes(0, 1)[:, :, ::-1, ::-1], w.shape[2] - 1)


check_exercise(
    my_input_grads,
    right_input_grads,
    gradients_and_filters(),
    run=run,
    mistakes=[not_rotated, transposed, not_swapped, mixed, same_padding, all_zeros],
    only={"transpose", "swapaxes", "shape"},
)

# %% [markdown]
# ## The layers
#
# Each layer has `forward` and `backward` for a batch ($N$, $C$, $H$, $W$), and keeps what `backward` needs.


# %%
class Weights:
    """An array that is trained, and its gradient."""

    def __init__(self, data):
        self.data, self.grad = data, None

    def add(self, gradient):
        self.grad = gradient if self.grad is None else self.grad + gradient


def forward_convolution(x, w, padding):
    return use["my_conv2d"](x, w, np.zeros(len(w)), 1, padding)


def pair_by_pair(convolve, g, w, padding):
    """Return dx by `my_input_grad`, for each filter and each channel."""
    rows, cols = g.shape[1] + w.shape[2] - 1, g.shape[2] + w.shape[3] - 1
    dx = np.zeros((w.shape[1], rows, cols))
    for o, c in np.ndindex(w.shape[:2]):
        dx[c] += use["my_input_grad"](g[o], w[o, c], rows, cols, 1)
    return dx[:, padding : rows - padding, padding : cols - padding]


class Convolution:
    def __init__(self, channels, filters, size, rng):
        deviation = np.sqrt(2 / (channels * size * size))  # He et al. 2015
        self.w = Weights(deviation * rng.normal(size=(filters, channels, size, size)))
        self.b, self.padding = Weights(np.zeros(filters)), size // 2
        self.input_grads = checked(my_input_grads, otherwise=pair_by_pair)

    def forward(self, x):
        self.x, p = x, self.padding
        return np.stack(
            [use["my_conv2d"](one, self.w.data, self.b.data, 1, p) for one in x]
        )

    def backward(self, g):
        p, w = self.padding, self.w.data
        padded = np.pad(self.x, ((0, 0), (0, 0), (p, p), (p, p)))
        dw, db = use["my_weight_grads"](padded, g, *w.shape[2:], 1)
        self.w.add(dw)
        self.b.add(db)
        return np.stack([self.input_grads(forward_convolution, one, w, p) for one in g])


class Scores:
    """A convolution of 1 x 1; its weights start at zero."""

    def __init__(self, channels, classes):
        self.w, self.b = Weights(np.zeros((classes, channels))), Weights(np.zeros(classes))

    def forward(self, x):
        self.x = x
        return np.stack([use["my_one_by_one"](one, self.w.data, self.b.data) for one in x])

    def backward(self, g):
        dw, db = use["my_weight_grads"](self.x, g, 1, 1, 1)
        self.w.add(dw[:, :, 0, 0])
        self.b.add(db)
        no_bias = np.zeros(len(self.w.data.T))
        return np.stack([use["my_one_by_one"](one, self.w.data.T, no_bias) for one in g])


class ReLU:
    def forward(self, x):
        self.positive = x > 0
        return x * self.positive

    def backward(self, g):
        return g * self.positive


def each_map(function, *arrays):
    """Apply a function to each map (H, W) of arrays (N, C, H, W)."""
    maps = [array.reshape(-1, *array.shape[2:]) for array in arrays]
    done = np.stack([function(*several) for several in zip(*maps, strict=True)])
    return done.reshape(*arrays[0].shape[:2], *done.shape[1:])


class Pool:
    def forward(self, x):
        self.x = x
        return each_map(lambda one: use["my_max_pool"](one, 2, 2), x)

    def backward(self, g):
        return each_map(lambda x, one: use["my_max_pool_backward"](x, one, 2, 2), self.x, g)


class Upsampling:
    """Bilinear, by 2; the filter is not trained."""

    def __init__(self):
        self.w, self.padding = use["my_bilinear"](2)

    def forward(self, x):
        return each_map(
            lambda one: use["my_zeros_inserted"](one, self.w, 2, self.padding), x
        )

    def backward(self, g):  # the adjoint: a convolution with stride 2
        w = self.w[None, None]
        return each_map(
            lambda one: use["my_conv2d"](one[None], w, np.zeros(1), 2, self.padding)[0], g
        )


# %% [markdown]
# ## Exercise 13.2: the chain
#
# *15 minutes, easy.* Put layers together. Forward, the output of each layer is the input of the next one.
# Backward, the chain rule of lesson 3: what does each layer get, and in which order?
#
# <details><summary>Hint 1</summary>
#
# One loop and one variable in each of the two methods. `layer.forward(x)` and `layer.backward(g)` return
# arrays.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `reversed(self.layers)` is the list from its end. The gradient that the first layer returns is that of the
# image: return it.
#
# </details>


# %%
class MyNetwork:
    """Layers, one after the other."""

    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x):
        """Return the output of the last layer for the input x of the first."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            x = layer.forward(x)
        return x
        ### END SOLUTION

    def backward(self, g):
        """Return the gradient of the input, given g, that of the output."""
        ### BEGIN SOLUTION
        for layer in reversed(self.layers):
            g = layer.backward(g)
        return g
        ### END SOLUTION

    def parameters(self):
        """Return all arrays that are trained; this is given."""
        values = [value for layer in self.layers for value in vars(layer).values()]
        return [value for value in values if hasattr(value, "grad")]


# %%
# Check of exercise 13.2: run this cell.
class RightNetwork:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x):
        return reduce(lambda value, layer: layer.forward(value), self.layers, x)

    def backward(self, g):
        return reduce(lambda value, layer: layer.backward(value), self.layers[::-1], g)

    def parameters(self):
        values = [value for layer in self.layers for value in vars(layer).values()]
        return [value for value in values if hasattr(value, "grad")]


@st.composite
def chains(draw):
    sizes = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(3, 5)))]
    weights = [draw(whole_numbers(b, a)) for a, b in pairwise(sizes)]
    x, g = draw(whole_numbers(1, sizes[0])), draw(whole_numbers(1, sizes[-1]))
    return {"x": x, "g": g, "weights of dense layers": weights}


def run(network_class, case):
    layers = []
    for weight in case["weights of dense layers"]:
        layer = mf.layers.Linear(*weight.shape[::-1], bias=False, rng=0).astype("float64")
        layer.weight.data = weight.copy()
        layers.append(layer)
    network = network_class(*layers)
    output = network(case["x"])
    if output is None:
        return None
    results = {"output": output, "returned gradient": network.backward(case["g"].copy())}
    for number, layer in enumerate(layers, 1):
        missing = layer.weight.grad is None
        results[f"gradient of layer {number}"] = 0.0 if missing else layer.weight.grad
    return results


class FrontToBack(RightNetwork):
    """The gradient goes through the layers from front to back; start with the last one."""

    def backward(self, g):
        for layer in self.layers:
            g = layer.backward(g)
        return g


class NotChained(RightNetwork):
    """Each layer gets the gradient of the output; give it what the layer after it returned."""

    def backward(self, g):
        return [layer.backward(g) for layer in reversed(self.layers)][-1]


class FirstLayerLeftOut(RightNetwork):
    """The first layer gets no gradient, so its weights do not learn."""

    def backward(self, g):
        for layer in self.layers[:0:-1]:
            g = layer.backward(g)
        return g


class SameInput(RightNetwork):
    """Each layer gets the image; give it the output of the layer before it."""

    def __call__(self, x):
        return [layer.forward(x) for layer in self.layers][-1]


class BackToFront(RightNetwork):
    """Forward, the layers are used in reverse order."""

    def __call__(self, x):
        for layer in reversed(self.layers):
            x = layer.forward(x)
        return x


check_exercise(
    MyNetwork,
    RightNetwork,
    chains(),
    run=run,
    mistakes=[FrontToBack, NotChained, FirstLayerLeftOut, SameInput, BackToFront],
)

# %% [markdown]
# ## Number by number
#
# Is the network right? minifcn's own layers get the same weights, image and labels, and so does PyTorch, if
# it is installed. Scores, loss and all gradients are compared; gradients 0 to 5 are those of the weights and
# biases, in the order of the layers.
#
# Predict:
#
# 1. What is the loss if the weights of the scores are zero?
# 2. How large are the differences, in float64?


# %% tags=["varies"]
def make_network(seed):
    rng = np.random.default_rng(seed)
    return checked(MyNetwork, otherwise=RightNetwork)(
        Convolution(1, 8, 3, rng),
        ReLU(),
        Pool(),
        Convolution(8, 16, 5, rng),
        ReLU(),
        Scores(16, len(NAMES)),
        Upsampling(),
    )


def numbers_of_yours(network, x, labels):
    """Return scores, loss and gradients by name."""
    for weights in network.parameters():
        weights.grad = None
    scores = network(x[None])
    loss, gradient = use["my_loss"](scores[0], labels)
    numbers = {"scores": scores, "loss": loss, "dx": network.backward(gradient[None])}
    return numbers | {f"gradient {i}": w.grad for i, w in enumerate(network.parameters())}


def numbers_of_minifcn(arrays, kernel, padding, x, labels):
    layers = mf.layers.Sequential(
        mf.layers.Conv2d(1, 8, 3, padding=1, init="zeros"),
        mf.layers.ReLU(),
        mf.layers.MaxPool2d(2),
        mf.layers.Conv2d(8, 16, 5, padding=2, init="zeros"),
        mf.layers.ReLU(),
        mf.layers.Conv2d(16, 6, 1, init="zeros"),
    ).astype("float64")
    parameters = list(layers.parameters())
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.data = array.reshape(parameter.data.shape).copy()
    filters, stride = np.stack([[kernel]] * 6), {"stride": 2, "padding": padding}
    scores = f.conv_transpose2d(layers(x[None]), filters, **stride, groups=6)
    loss, gradient = mf.losses.softmax_cross_entropy(scores, labels[None])
    dx = layers.backward(f.conv2d(gradient, filters, **stride, groups=6))
    numbers = {"scores": scores, "loss": loss, "dx": dx}
    return numbers | {f"gradient {i}": p.grad for i, p in enumerate(parameters)}


def numbers_of_pytorch(arrays, kernel, padding, x, labels):
    torch = importlib.import_module("torch")
    arrays = [torch.tensor(array, requires_grad=True) for array in arrays]
    image = torch.tensor(x[None], requires_grad=True)
    t, (w1, b1, w2, b2, w3, b3) = torch.nn.functional, arrays
    y = t.max_pool2d(t.relu(t.conv2d(image, w1, b1, padding=1)), 2)
    y = t.conv2d(t.relu(t.conv2d(y, w2, b2, padding=2)), w3[:, :, None, None], b3)
    filters = torch.tensor(np.stack([[kernel]] * 6))
    scores = t.conv_transpose2d(y, filters, stride=2, padding=padding, groups=6)
    loss = t.cross_entropy(scores, torch.tensor(labels[None]).long(), ignore_index=255)
    loss.backward()
    tensors = {"scores": scores.detach(), "loss": loss.detach(), "dx": image.grad}
    tensors |= {f"gradient {i}": array.grad for i, array in enumerate(arrays)}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


network = make_network(0)
print(
    f"1. loss {numbers_of_yours(network, image, labels)['loss']:.4f}, log 6 {np.log(6):.4f}"
)
for weights in network.parameters():  # so that no gradient is zero
    weights.data = weights.data + 0.1 * np.random.default_rng(1).normal(
        size=weights.data.shape
    )
yours = numbers_of_yours(network, image, labels)
arguments = ([w.data for w in network.parameters()], *use["my_bilinear"](2), image, labels)
others = {"minifcn": numbers_of_minifcn(*arguments)}
if importlib.util.find_spec("torch"):
    others["PyTorch"] = numbers_of_pytorch(*arguments)
print("2. largest difference from", *(f"{name:>12}" for name in others))
for name, value in yours.items():
    differences = [
        np.abs(value - np.reshape(o[name], np.shape(value))).max() for o in others.values()
    ]
    print(f"   {name:22}", *(f"{difference:12.1e}" for difference in differences))

# %% [markdown]
# Differences of 1e-12 or less are rounding: the sums are added in another order. About 1e-7 means that one of
# your functions computes in float32; anything larger, that a function in `my` has been changed since its
# check.
#
# ## Train it
#
# 600 steps, one canvas each. Your `my_step` does plain gradient descent; the learning rate is constant at
# first and then falls to 0. With loops in Python a step takes about a tenth of a second. Predict: the loss
# starts at log 6 = 1.79; where does it end?

# %% tags=["varies"]
STEPS = 600


def train(network, steps):
    rng, records, started = np.random.default_rng(1), [], time.perf_counter()
    for step in range(1, steps + 1):
        image, labels = make_canvas(rng, "train", painted=0.15)
        lr = 0.15 * min(1, 2.5 * (1 - step / STEPS))
        loss = use["my_step"](network, image[None], labels[None], lr)
        records.append({"step": step, "loss": float(loss)})
        if step % 50 == 0:
            mean = np.mean([record["loss"] for record in records[-50:]])
            print(f"step {step:3}: loss {mean:.3f}, {time.perf_counter() - started:5.1f} s")
    return records


network = make_network(0)
records = train(network, STEPS)
means = [
    {"step": k + 10, "loss": float(np.mean([r["loss"] for r in records[k : k + 20]]))}
    for k in range(0, STEPS, 20)
]
show(training_curve(means), "The mean loss of 20 steps falls from log 6 = 1.79.")

# %% [markdown]
# ## Label a canvas
#
# The network was trained on 10 x 30 pixels. It is fully convolutional, so a canvas may have any even size:
# this one has 28 x 60 pixels, and digits that were not used for training. Predict: what will be wrong more
# often, digits or background?

# %% tags=["varies"]
rng = np.random.default_rng(5)
strips = [make_canvas(rng, "test", 14, 60, digits=5) for _ in range(2)]
image, labels = (np.concatenate(both, axis=-2) for both in zip(*strips, strict=True))
guess = network(image[None])[0].argmax(axis=0)
grey = np.clip(60 * (image[0] + 1), 0, 255).astype(np.uint8)
big = [
    np.kron(array, np.ones((4, 4), np.uint8))
    for array in (grey, labels, guess.astype(np.uint8))
]
show(
    prediction_strips(big[:1], big[1:2], big[2:], NAMES, PALETTE),
    "Canvas, labels, and what your network says; each pixel is drawn as 4 x 4.",
)
counts = mf.metrics.ConfusionMatrix(len(NAMES), class_names=NAMES)
for _ in range(40):
    image, labels = make_canvas(rng, "test")
    counts.update(labels[None], network(image[None]).argmax(axis=1))
print(counts.table())

# %% [markdown]
# Most digits are found, and many have the right class: by a network of functions that you know line by line.
# Digits are wrong more often than background, whose errors lie around the digits. The network is small, and
# has seen 1,800 digits. With more steps, more filters and a skip (lesson 10) it becomes better.
#
# ## Break it
#
# **A wrong gradient that learns.** In the backward pass of the convolutions, the filters are not rotated.
# Predict: does the loss still fall? Would you notice the mistake during training?

# %% tags=["varies"]
right = checked(my_input_grads, otherwise=pair_by_pair)


def not_rotated(convolve, g, w, padding):
    return right(convolve, g, w[:, :, ::-1, ::-1], padding)


wrong = make_network(0)
for layer in wrong.layers:
    if isinstance(layer, Convolution):
        layer.input_grads = not_rotated
losses = [record["loss"] for record in train(wrong, 100)]
for name, several in {"right": [r["loss"] for r in records], "wrong": losses}.items():
    print(f"{name}: mean loss of steps 51 to 100 {np.mean(several[50:100]):.3f}")

x, w = rng.normal(size=(8, 5, 15)), rng.normal(size=(16, 8, 5, 5))
y = forward_convolution(x, w, 2)
g = rng.normal(size=y.shape)
for name, backward in {"right": right, "wrong": not_rotated}.items():
    dx = backward(forward_convolution, g, w, 2)
    print(f"{name}: <y, g> = {np.vdot(y, g):.6f}, <x, dx> = {np.vdot(x, dx):.6f}")

# %% [markdown]
# The loss falls in both cases: only the first convolution gets a wrong gradient, and the layers after it
# learn. A falling loss proves nothing about `backward`. The dot product of lesson 3 finds the mistake at
# once.
#
# ## Recall
#
# <details><summary>1. Which layers of an FCN have weights, and which of them are trained here?</summary>
#
# The convolutions, the scores and the upsampling. All but the upsampling are trained: its filter stays
# bilinear.
#
# </details>
# <details><summary>2. What does a layer keep in forward, and why?</summary>
#
# What its gradients depend on: a convolution and a pool their input, ReLU where it is positive.
#
# </details>
# <details><summary>3. Why can dx be computed by a forward convolution?</summary>
#
# With stride 1, a transposed convolution is a convolution with rotated filters and K - 1 - p zeros around g.
#
# </details>
# <details><summary>4. Why does a network trained on 10 x 30 pixels label 28 x 60?</summary>
#
# No layer has weights for positions: each of them slides.
#
# </details>
# <details><summary>5. Why compare gradients, if the loss falls?</summary>
#
# Wrong gradients can lower the loss, too, only less.
#
# </details>
