# %% [markdown]
# # 3. Backward, and how to prove it
#
# **Question.** How much does the loss change with each input and each weight of a convolution, and
# how can one prove that the answer is right?
#
# **Minutes:** 15 to read, 1 to run, 50 for the exercises.
#
# **You need** the convolution by loops (lesson 2), and the derivative of a sum and of a product.

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import (
    CheckFailedError,
    check_adjoint,
    check_exercise,
    check_gradient,
    checked,
    whole_numbers,
)
from minifcn.functional import (
    conv2d,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
)
from minifcn.layers import Layer, Parameter, ReLU
from minifcn.viz import convolution_matrix, painting_film, panels, show

# %% [markdown]
# ## The picture
#
# The result of a network is one number, the *loss* $L$. Training makes it small. It needs, for each value in
# the network, the derivative of $L$: if this value rises a little, how many times as much does $L$
# rise? The derivatives for a whole array are its *gradient*. The *backward pass* computes gradients
# layer by layer, from the end of the network to its beginning. Each layer receives the gradient with respect
# to its output,
#
# $$g_{ij} = \frac{\partial L}{\partial y_{ij}},$$
#
# an array of the shape of $y$, and returns the gradient with respect to its input, `dx`, of the shape of
# $x$. It also computes those with respect to its weights and bias, `dw` and `db`.
#
# **Two layers by hand.** Let $y = 3x$, then $z = y^2$, and let $L = z$. At $x = 2$: $y = 6$ and $z = 36$.
# Backward, the last layer receives $\partial L / \partial z = 1$ and returns $1 \cdot 2y = 12$. The first
# layer receives 12 and returns $12 \cdot 3 = 36$. This is the *chain
# rule*: each layer multiplies what it receives by its own derivative.
#
# If a value is used more than once, one more rule is needed: **a value that is used in several places
# contributes through each of them, and the contributions are added.** A pixel is used by each window that
# covers it.

# %%
x = np.array([[1.0, 2, 0, 3], [0, 1, 4, 1], [2, 0, 1, 1]])  # 3 rows, 4 columns
w = np.array([[1.0, 2], [0, -1]])
g = np.array([[2.0, -1, 3], [1, 4, -2]])  # 2 rows, 3 columns, as y has
clockwise = [(0, 0), (0, 1), (1, 1), (1, 0)]
cells = [(row, col, 1, 1) for row, col in clockwise]
show(
    panels(
        {"x": x, "w": w, "w rotated": w[::-1, ::-1], "g": g},
        boxes={
            "x": [(row, col, 2, 2) for row, col in clockwise],
            "w rotated": cells,
            "g": cells,
        },
    ),
    "The pixel x[1, 1] lies in windows 1 to 4, each time under a different weight.",
)
dx = conv2d_input_grad(g[None, None], w[None, None], input_size=(3, 4))[0, 0]
print("by hand:", 2 * -1 + -1 * 0 + 4 * 1 + 1 * 2, " minifcn:", dx[1, 1])

# %% [markdown]
# Window 1 has the pixel in its lower right corner, under weight -1; window 3 in its upper left corner,
# under weight 1. So the weights over the pixel are those of $w$ rotated by 180 degrees.
#
# There is an easier way: forward, window ($i$, $j$) read its pixels. Backward, let it add $g_{ij} \cdot w$
# to the same pixels; nothing is rotated. The film shows how this fills `dx`. (Its names are those of
# lesson 7, where the map is a forward pass: g is called x, and `dx` is called y.)

# %%
show(
    painting_film(g, w),
    "Each value of g adds its multiple of w to the window that it came from.",
)

# %% [markdown]
# ## Predict
#
# 1. 5 rows, 5 columns, a filter of 3 x 3: how many windows contain the corner, how many the middle?
# 2. The same with stride 2?
# 3. With 6 rows and columns and stride 2, for which pixels is `dx` = 0, whatever $g$ is?
#
# If $g$ and $w$ are 1 everywhere, `dx` counts the windows.


# %%
def count_windows(size, stride):
    positions = mf.geometry.Window(3, stride).output_size(size)
    ones, w = np.ones((1, 1, positions, positions)), np.ones((1, 1, 3, 3))
    return conv2d_input_grad(ones, w, input_size=(size, size), stride=stride)[0, 0]


show(
    panels(
        {
            "1. stride 1": count_windows(5, 1),
            "2. stride 2": count_windows(5, 2),
            "3. stride 2, 6 x 6": count_windows(6, 2),
        }
    ),
    "The middle is in 9 windows, then in 4; no window contains the last row and column of 6.",
)

# %% [markdown]
# ## Exercise 3.1: the gradient with respect to the input
#
# *15 minutes, medium.* One input, one filter, any stride. Only $g$, $w$ and the size of x are given.
#
# <details><summary>Hint 1</summary>
#
# Start with zeros of the shape of x. Loop over the positions (i, j) of g.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The window at (i, j) starts at row `i * stride`, column `j * stride`. Windows overlap: use `+=`.
#
# </details>


# %%
def my_input_grad(g, w, height, width, stride):
    """Return dx (height, width) for g (OH, OW) and w (KH, KW)."""
    ### BEGIN SOLUTION
    rows, cols = w.shape
    dx = np.zeros((height, width))
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            top, left = i * stride, j * stride
            dx[top : top + rows, left : left + cols] += g[i, j] * w
    return dx
    ### END SOLUTION


# %%
# Check of exercise 3.1: run this cell.
def right_input_grad(g, w, height, width, stride):
    return conv2d_input_grad(
        g[None, None], w[None, None], input_size=(height, width), stride=stride
    )[0, 0]


@st.composite
def gradients_and_filters(draw):
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    out_rows, out_cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.integers(1, 3))
    unread = st.integers(0, stride - 1)
    return {
        "g": draw(whole_numbers(out_rows, out_cols)),
        "w": draw(whole_numbers(rows, cols)),
        "height": (out_rows - 1) * stride + rows + draw(unread),
        "width": (out_cols - 1) * stride + cols + draw(unread),
        "stride": stride,
    }


def rotated(g, w, height, width, stride):
    """The filter is rotated by 180 degrees; each window adds it unchanged."""
    return right_input_grad(g, w[::-1, ::-1], height, width, stride)


def no_stride(g, w, height, width, stride):
    """The stride is ignored: window (i, j) starts at row i * stride."""
    dx = np.zeros((height, width))
    small = g.shape[0] + w.shape[0] - 1, g.shape[1] + w.shape[1] - 1
    dx[: small[0], : small[1]] = right_input_grad(g, w, *small, 1)
    return dx


def last_window(g, w, height, width, stride):
    """The last window overwrites what other windows have added: use +=."""
    dx = np.zeros((height, width))
    for position in np.ndindex(g.shape):
        alone = np.zeros(g.shape)
        alone[position] = 1
        touched = right_input_grad(alone, np.ones(w.shape), height, width, stride) > 0
        dx = np.where(touched, right_input_grad(g * alone, w, height, width, stride), dx)
    return dx


def mean(g, w, height, width, stride):
    """The contributions to a pixel are averaged; add them."""
    count = right_input_grad(np.ones(g.shape), np.ones(w.shape), height, width, stride)
    return right_input_grad(g, w, height, width, stride) / np.maximum(count, 1)


def swapped(g, w, height, width, stride):
    """Rows and columns are swapped: g[i, j] belongs to row i * stride, column j * stride."""
    return right_input_grad(g.T, w.T, width, height, stride)


def without_g(g, w, height, width, stride):
    """Each window adds w; it must add g[i, j] times w."""
    return right_input_grad(np.ones(g.shape), w, height, width, stride)


check_exercise(
    my_input_grad,
    right_input_grad,
    gradients_and_filters(),
    mistakes=[rotated, no_stride, last_window, mean, swapped, without_g],
    example={
        "g": np.array([[2.0, -1, 3], [1, 4, -2]]),
        "w": np.array([[1.0, 2], [0, -1]]),
        "height": 3,
        "width": 4,
        "stride": 1,
    },
)

# %% [markdown]
# ## The gradient with respect to the weights
#
# A weight is used in every window. In the window at ($i$, $j$), weight $w_{ab}$ is multiplied by
# $x_{i+a,\,j+b}$. So $w_{01}$ is multiplied by the pixels of the box below, one for each window:

# %%
show(
    panels({"x": x, "g": g}, boxes={"x": [(0, 1, 2, 3)]}),
    "The box starts at row 0, column 1, and has the size of g: the pixels that are multiplied by w[0, 1].",
)
dw = conv2d_weight_grad(x[None, None], g[None, None], kernel_size=2)[0, 0]
print("sum of box times g:", (x[0:2, 1:4] * g).sum(), " minifcn:", dw[0, 1])
print("all of dw:         ", dw.ravel())
print("x convolved with g:", conv2d(x[None, None], g[None, None]).ravel())

# %% [markdown]
# So with stride 1, `dw` is again a convolution, with $g$ as the filter. The bias is added to every
# output value, so `db` is the sum of all $g$ of its filter.
#
# A network usually works on several images at once, a *batch*. All images of a batch use the same weights.
# By the rule above, **`dw` and `db` are summed over the images**, too. `dx` is not: each image has its own
# pixels.
#
# ## Exercise 3.2: the gradients with respect to weights and bias
#
# *20 minutes, medium.* Now with all axes: $N$ images, $C$ channels, $O$ filters.
#
# <details><summary>Hint 1</summary>
#
# Loop over n, o, i, j. The window is `x[n, :, top : top + rows, left : left + cols]`, of the shape
# of one filter.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Forward, this window gave the value y[n, o, i, j]. Backward, it adds `g[n, o, i, j] * window` to `dw[o]`.
#
# </details>


# %%
def my_weight_grads(x, g, rows, cols, stride):
    """Return dw (O, C, rows, cols) and db (O,) for x (N, C, H, W) and g (N, O, OH, OW)."""
    ### BEGIN SOLUTION
    dw = np.zeros((g.shape[1], x.shape[1], rows, cols))
    for n, o, i, j in np.ndindex(g.shape):
        top, left = i * stride, j * stride
        dw[o] += g[n, o, i, j] * x[n, :, top : top + rows, left : left + cols]
    return dw, g.sum(axis=(0, 2, 3))
    ### END SOLUTION


# %%
# Check of exercise 3.2: run this cell.
def right_weight_grads(x, g, rows, cols, stride):
    dw = conv2d_weight_grad(x, g, kernel_size=(rows, cols), stride=stride)
    return dw, conv2d_bias_grad(g)


@st.composite
def inputs_and_gradients(draw):
    images, channels, filters = (draw(st.integers(1, 2)) for _ in range(3))
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    out_rows, out_cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.integers(1, 3))
    unread = st.integers(0, stride - 1)
    height = (out_rows - 1) * stride + rows + draw(unread)
    width = (out_cols - 1) * stride + cols + draw(unread)
    return {
        "x": draw(whole_numbers(images, channels, height, width)),
        "g": draw(whole_numbers(images, filters, out_rows, out_cols)),
        "rows": rows,
        "cols": cols,
        "stride": stride,
    }


def first_image(x, g, rows, cols, stride):
    """Only the first image is used; sum over the batch."""
    return right_weight_grads(x[:1], g[:1], rows, cols, stride)


def last_image(x, g, rows, cols, stride):
    """Only the last image is used; sum over the batch."""
    return right_weight_grads(x[-1:], g[-1:], rows, cols, stride)


def last_window(x, g, rows, cols, stride):
    """In dw only the last window is used: use +=."""
    last = np.zeros(g.shape)
    last[-1, :, -1, -1] = g[-1, :, -1, -1]
    return right_weight_grads(x, last, rows, cols, stride)[0], conv2d_bias_grad(g)


def batch_mean(x, g, rows, cols, stride):
    """The result is the mean over the batch; it must be the sum (a mean is part of the loss)."""
    return right_weight_grads(x, g / len(g), rows, cols, stride)


def no_stride(x, g, rows, cols, stride):
    """The stride is ignored: window (i, j) starts at row i * stride."""
    part = x[:, :, : g.shape[2] + rows - 1, : g.shape[3] + cols - 1]
    return right_weight_grads(part, g, rows, cols, 1)


def rotated(x, g, rows, cols, stride):
    """The filters are rotated by 180 degrees; each window is added unchanged."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw[:, :, ::-1, ::-1], db


def one_channel(x, g, rows, cols, stride):
    """The channels are added; each channel has its own weights."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw.sum(axis=1, keepdims=True) + 0 * dw, db


def all_filters(x, g, rows, cols, stride):
    """db is summed over the filters, too; each filter has its own bias."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw, db.sum() + 0 * db


def bias_of_one_image(x, g, rows, cols, stride):
    """In db only the first image is used; sum over the batch."""
    return right_weight_grads(x, g, rows, cols, stride)[0], conv2d_bias_grad(g[:1])


check_exercise(
    my_weight_grads,
    right_weight_grads,
    inputs_and_gradients(),
    mistakes=[
        first_image,
        last_image,
        last_window,
        batch_mean,
        no_stride,
        rotated,
        one_channel,
        all_filters,
        bias_of_one_image,
    ],
    example={
        "x": np.arange(20.0).reshape(1, 1, 4, 5) % 7,
        "g": np.array([[[[1.0, -2, 3], [2, 0, 1]]]]),
        "rows": 3,
        "cols": 3,
        "stride": 1,
    },
)

# %% [markdown]
# ## Run: find the hidden filter
#
# Gradients can find a filter when only its input and output are known. Start with zeros. The error is our
# $y$ minus the known one, and the loss is half the mean of its squares; so $g$ is the error divided by the
# number of its elements. Subtract a multiple of `dw` from the filter, so that the loss falls, and repeat.
#
# Predict: how close is the filter after 2 steps, and after 30?

# %%
rng = np.random.default_rng(0)
hidden = rng.integers(-9, 10, (1, 1, 3, 3)).astype(float)
x = rng.normal(size=(1, 1, 30, 30))
target = conv2d(x, hidden)
# Once its check prints ok, your function finds the filter; until then, the solution does.
weight_grads = checked(my_weight_grads, otherwise=right_weight_grads)
w, seen = np.zeros((1, 1, 3, 3)), {"hidden": hidden[0, 0]}
for step in range(31):
    if step in (0, 2, 30):
        seen[f"after {step} steps"] = w[0, 0].copy()
    error = conv2d(x, w) - target
    dw, _ = weight_grads(x, error / error.size, 3, 3, 1)
    w -= 0.5 * dw
show(panels(seen, shared=True), "After 30 steps the filter is the hidden one.")
print(f"largest difference: {abs(w - hidden).max():.1e}")

# %% [markdown]
# ## One dot product proves it
#
# The *dot product* $\langle a, b \rangle$ of two arrays of the same shape is the sum of all products
# $a_k b_k$. Without bias, a convolution is linear in $x$: if $x$ and $y$ are each written as one column,
# $y = W x$ for some matrix $W$ (not the width). If $x$ changes by a small $u$, then $y$
# changes by $W u$, and $L$ by $\langle g, W u \rangle = \langle W^T g, u \rangle$. So `dx` is $W^T g$:
# **backward multiplies by the transposed matrix.** A map with the transposed matrix is called the *adjoint*.

# %%
w = np.array([[1.0, 2], [0, -1]])
matrix = convolution_matrix(w, (3, 3))
show(
    panels({"W": matrix, "W transposed": matrix.T}),
    "A row of W is one window; a row of W transposed is one pixel, with the weights of all its windows.",
)
g = rng.integers(-3, 4, (2, 2)).astype(float)
dx = conv2d_input_grad(g[None, None], w[None, None], input_size=(3, 3))
print("W transposed times g:", matrix.T @ g.ravel())
print("backward            :", dx.ravel())

# %% [markdown]
# A convolution is linear in $w$ as well. This gives one law, for **all** $x$, $w$ and $g$:
#
# $$\langle \mathrm{conv}(x, w),\, g \rangle \;=\; \langle x,\, dx \rangle \;=\; \langle w,\, dw
# \rangle$$

# %%
x, w = rng.normal(size=(2, 3, 7, 8)), rng.normal(size=(4, 3, 3, 2))
y = conv2d(x, w, stride=2)
g = rng.normal(size=y.shape)
dx = conv2d_input_grad(g, w, input_size=(7, 8), stride=2)
dw = conv2d_weight_grad(x, g, kernel_size=(3, 2), stride=2)
for a, b in ((y, g), (x, dx), (w, dw)):
    print(f"{np.vdot(a, b):.12f}")  # vdot: the dot product

# %% [markdown]
# The law is also a test. Draw $x$ and $g$ at random. Each wrong element of `dx` enters
# $\langle x, dx \rangle$ with a random factor, so the equation fails with probability 1. `check_adjoint`
# does this.

# %%
options = {"stride": 2}


def right(g):
    return conv2d_input_grad(g, w, input_size=(7, 8), **options)


def rotated_filter(g):
    return conv2d_input_grad(g, w[:, :, ::-1, ::-1], input_size=(7, 8), **options)


def one_value_off(g):
    dx = right(g)
    dx[1, 2, 3, 4] += 0.001
    return dx


for name, backward in {
    "right": right,
    "rotated filter": rotated_filter,
    "one value off by 0.001": one_value_off,
}.items():
    try:
        check_adjoint(lambda x: conv2d(x, w, **options), backward, x.shape)
        print(f"{name}: passes")
    except CheckFailedError as failure:
        print(f"{name}: {failure}")

# %% [markdown]
# ## Layers that are not linear: measure the slope
#
# Other layers have no matrix. For these, measure the slope: evaluate at $x + h$ and $x - h$, and divide the
# difference by $2h$. This is the *central difference*. Predict: is a smaller $h$ better? The next cell
# computes the number of correct digits for the slope of sin at 1, which is cos 1.

# %%
exponents = -np.arange(1, 13)


def correct_digits(slopes):
    error = abs(slopes / np.cos(1.0) - 1)
    return -np.log10(np.maximum(error, 1e-16))


h = 10.0**exponents
small, one = h.astype(np.float32), np.float32(1)
show(
    panels(
        {
            "exponent of h: 0.1 to 1e-12": exponents,
            "digits, one side, float64": correct_digits((np.sin(1 + h) - np.sin(1)) / h),
            "digits, both sides, float64": correct_digits(
                (np.sin(1 + h) - np.sin(1 - h)) / (2 * h)
            ),
            "digits, both sides, float32": correct_digits(
                (np.sin(one + small) - np.sin(one - small)) / (2 * small)
            ),
        },
        columns=1,
    ),
    "Each row of digits has a peak: about 8 with one side, 11 with both, below 5 in float32.",
)

# %% [markdown]
# Left of the peak, the curve is not straight within $h$. Right of it, rounding errors are divided by an
# ever smaller number. So measure in float64, on both sides, with a medium step.
#
# `check_gradient` does so for any layer: it draws $g$ and a direction at random, measures the slope
# of $\langle y, g \rangle$ in this direction, and compares it with the result of `backward`.
#
# A layer of your own is a class. `forward` keeps what `backward` will need (and `output=y`, to check
# the shape of $g$). `backward` recalls it, adds to the gradients of the parameters (*accumulate*), and
# returns the gradient with respect to the input. minifcn calls $g$ `dy`. This layer
# has a mistake: find it.


# %%
class ScaledSquare(Layer):
    """y = a * x * x, with one parameter a."""

    def __init__(self, a):
        self.a = Parameter(np.array(a))

    def forward(self, x):
        y = self.a.data * x * x
        self.keep(x, output=y)
        return y

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.a.accumulate(np.asarray((dy * x * x).sum()))
        return dy * self.a.data * x


try:
    check_gradient(ScaledSquare(3.0), rng.normal(size=(2, 3)))
except CheckFailedError as failure:
    print(failure)

# %% [markdown]
# ## Exercise 3.3: a layer of your own
#
# *15 minutes, hard.* A ReLU replaces negative values by 0. Your layer multiplies them by a slope instead, one
# for each channel, and the slopes are learned (PReLU, He et al. 2015).
#
# <details><summary>Hint 1</summary>
#
# `self.slopes.data[:, None, None]` broadcasts to x (N, C, H, W). `np.where(x > 0, ..., ...)` chooses.
#
# </details>
# <details><summary>Hint 2</summary>
#
# dx is dy times 1 or the slope. A slope is used at each negative value of its channel, in all rows,
# columns and images: sum dy * x over these.
#
# </details>


# %%
class MyPReLU(Layer):
    """y = x where x > 0, and slope * x elsewhere; x is (N, C, H, W), slopes are (C,)."""

    def __init__(self, slopes):
        self.slopes = Parameter(slopes)

    def forward(self, x):
        ### BEGIN SOLUTION
        y = np.where(x > 0, x, self.slopes.data[:, None, None] * x)
        self.keep(x, output=y)
        return y
        ### END SOLUTION

    def backward(self, dy):
        ### BEGIN SOLUTION
        (x,) = self.recall(dy)
        self.slopes.accumulate((dy * np.minimum(x, 0)).sum(axis=(0, 2, 3)))
        return dy * np.where(x > 0, 1, self.slopes.data[:, None, None])
        ### END SOLUTION


# %%
# Check of exercise 3.3: run this cell.
class Right(Layer):
    def __init__(self, slopes):
        self.slopes = Parameter(slopes)

    def forward(self, x):
        y = np.maximum(x, 0) + self.slopes.data[:, None, None] * np.minimum(x, 0)
        self.keep(x, output=y)
        return y

    def to_x(self, dy, x):
        return np.where(x > 0, dy, self.slopes.data[:, None, None] * dy)

    def to_slopes(self, dy, x):
        return np.einsum("nchw,nchw->c", dy, np.minimum(x, 0))

    def backward(self, dy):
        (x,) = self.recall(dy)
        self.slopes.accumulate(self.to_slopes(dy, x))
        return self.to_x(dy, x)


class OneImage(Right):
    """The gradient of the slopes is that of the first image only; sum over the batch."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy[:1], x[:1])


class Mean(Right):
    """The gradient of the slopes is a mean; it must be a sum."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy, x) / (x.size / x.shape[1])


class AllValues(Right):
    """The gradient of the slopes includes positive x, where no slope is used."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy, x) - super().to_slopes(dy, -x)


class Overwritten(Right):
    """The gradient of the slopes is overwritten; call self.slopes.accumulate."""

    def backward(self, dy):
        self.slopes.grad = None
        return super().backward(dy)


class LikeReLU(Right):
    """Where x is negative, dx is 0 as for a ReLU; it must be dy times the slope."""

    def to_x(self, dy, x):
        return np.where(x > 0, dy, 0)


class WithoutDy(Right):
    """dx is the derivative of the layer alone; multiply it by dy."""

    def to_x(self, dy, x):
        return super().to_x(np.ones_like(dy), x)


class SlopesWithoutDy(Right):
    """The gradient of the slopes is a sum of x alone; multiply each x by dy."""

    def to_slopes(self, dy, x):
        return super().to_slopes(np.ones_like(dy), x)


class KeptY(Right):
    """forward keeps y; backward needs x."""

    def keep(self, *values, output):
        super().keep(output, output=output)


class NothingKept(Right):
    """forward must call self.keep(x, output=y), so that backward can recall x."""

    def keep(self, *values, output):
        pass


def run(layer_class, case):
    layer, x = layer_class(case["slopes"]), case["x"]
    y, right = layer(x.copy()), Right(case["slopes"])(x)
    if np.shape(y) != x.shape:
        raise CheckFailedError(
            f"forward must return the shape of x, {x.shape}, not {np.shape(y)}"
        )
    for index in np.argwhere(~np.isclose(y, right)).tolist()[:1]:
        at = tuple(index)
        raise CheckFailedError(
            f"forward is wrong: for x {x[at]:g} and slope {case['slopes'][at[1]]:g} expected "
            f"{right[at]:g}, yours {y[at]:g}"
        )
    check_gradient(layer, x)


@st.composite
def inputs_and_slopes(draw):
    images, channels, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    x, slopes = whole_numbers(images, channels, height, width), whole_numbers(channels)
    return {"x": draw(x), "slopes": draw(slopes)}


check_exercise(
    MyPReLU,
    None,
    inputs_and_slopes(),
    run=run,
    mistakes=[
        OneImage,
        Mean,
        AllValues,
        Overwritten,
        LikeReLU,
        WithoutDy,
        SlopesWithoutDy,
        KeptY,
        NothingKept,
    ],
    examples=40,
)

# %% [markdown]
# ## Break it
#
# **Tests that see nothing.** A backward pass rotates the filter of 3 x 3 by mistake. $g$ is 5 x 5, so
# `dx` is 7 x 7. How many of its 49 values are wrong? Predict: for a filter of ones; for $g$ of ones;
# for random $w$ and $g$.

# %%
ones, random_w, random_g = np.ones((3, 3)), rng.normal(size=(3, 3)), rng.normal(size=(5, 5))
for name, w, g in (
    ("w of ones, random g", ones, random_g),
    ("random w, g of ones", random_w, np.ones((5, 5))),
    ("random w, random g", random_w, random_g),
):
    right, rotated = (
        conv2d_input_grad(g[None, None], filters[None, None], input_size=(7, 7))
        for filters in (w, w[::-1, ::-1])
    )
    print(f"{name}: {(~np.isclose(right, rotated)).sum()} of 49 are wrong")

# %% [markdown]
# In the middle, all nine weights are multiplied by 1, so their order does not matter. Likewise, a batch of
# one image hides a missing sum over the batch:

# %%
for images in (1, 2):
    g = rng.normal(size=(images, 4, 5, 5))
    first_only = g[0].sum(axis=(1, 2))
    print(f"{images} image(s), db right: {np.allclose(first_only, conv2d_bias_grad(g))}")

# %% [markdown]
# **Unsuitable inputs.** One contains a zero, where ReLU has a kink. The other is float32. Predict the
# answer of `check_gradient`.

# %%
for x in (np.array([[-1.0, 0.0, 2.0]]), np.array([[-1, 3, 2]], np.float32)):
    try:
        check_gradient(ReLU(), x)
    except (TypeError, ValueError) as error:
        print(error, end="\n\n")

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is g, and what is its shape?</summary>
#
# The derivative of the loss with respect to each output value; it has the shape of the output.
#
# </details>
# <details><summary>2. Why does backward add into windows?</summary>
#
# A pixel lies in several windows and contributes through each.
#
# </details>
# <details><summary>3. Which of dx, dw, db are summed over the batch, and why?</summary>
#
# dw and db: all images use the same weights and bias.
#
# </details>
# <details><summary>4. Why can one dot product test thousands of values?</summary>
#
# Each wrong value enters it with a random factor, and nothing is approximated.
#
# </details>
# <details><summary>5. Why is the smallest step h not the best?</summary>
#
# Rounding errors are divided by h.
#
# </details>
