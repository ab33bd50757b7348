# %% [markdown]
# # 3. Backward, and how to prove it
#
# **Question.** How much does the loss change with each input and each weight of a convolution, and
# how do you prove that your answer is right?
#
# **Minutes:** 14 to read, 1 to run, 50 for the exercises.
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
# A network ends in one number, the *loss* $L$. Training makes it small. For that it must know, for
# each number in the network: if that number rises a little, how many times as much does $L$ rise?
# This is the derivative of $L$; those of a whole array are its *gradient*. Gradients are computed
# from the end to the beginning, layer after layer, in the *backward pass*. Each layer is handed the
# gradient to its output,
#
# $$g_{ij} = \frac{\partial L}{\partial y_{ij}},$$
#
# an array of the shape of $y$, and hands on the gradient to its input, `dx`, of the shape of $x$.
# On the way it finds those to its weights and bias, `dw` and `db`.
#
# One rule does it: **a number that is used in several places contributes through each of them, and
# the contributions are added.** A pixel is used by each window that covers it.

# %%
x = np.array([[1.0, 2, 0, 3], [0, 1, 4, 1], [2, 0, 1, 1]])  # 3 rows, 4 columns
w = np.array([[1.0, 2], [0, -1]])
g = np.array([[2.0, -1, 3], [1, 4, -2]])  # 2 rows, 3 columns, as y has
clockwise = [(0, 0), (0, 1), (1, 1), (1, 0)]
cells = [(row, col, 1, 1) for row, col in clockwise]
show(
    panels(
        {"x": x, "w": w, "w turned": w[::-1, ::-1], "g": g},
        boxes={
            "x": [(row, col, 2, 2) for row, col in clockwise],
            "w turned": cells,
            "g": cells,
        },
    ),
    "The pixel x[1, 1] lies in windows 1 to 4, each time under another weight.",
)
dx = conv2d_input_grad(g[None, None], w[None, None], input_size=(3, 4))[0, 0]
print("by hand:", 2 * -1 + -1 * 0 + 4 * 1 + 1 * 2, " minifcn:", dx[1, 1])

# %% [markdown]
# Window 1 has the pixel in its lower right corner, under weight -1; window 3 in its upper left one,
# under weight 1. So the weights that touch the pixel are those of $w$ turned by 180 degrees. By
# hand, one forgets this turn easily.
#
# There is an easier way: do not ask a pixel who touched it. Let each window hand back what it has
# to say. Forward, window ($i$, $j$) read its pixels. Backward, it adds $g_{ij} \cdot w$ to the same
# pixels, and nothing is turned. Step through the film: it paints `dx`. (Lesson 7 will use this very
# map forward, hence the names in the film: what we call g is its x, and `dx` is its y.)

# %%
show(
    painting_film(g, w),
    "Each number of g adds its multiple of w to the window that it came from.",
)

# %% [markdown]
# ## Predict
#
# 1. 5 rows, 5 columns, a filter of 3 x 3: how many windows touch the corner, how many the middle?
# 2. The same with stride 2?
# 3. With 6 rows and columns and stride 2, which pixels have `dx` = 0 whatever $g$ is?
#
# If $g$ and $w$ are 1 everywhere, `dx` counts the windows.


# %%
def windows_that_touch(size, stride):
    places = mf.geometry.Window(3, stride).output_size(size)
    ones, w = np.ones((1, 1, places, places)), np.ones((1, 1, 3, 3))
    return conv2d_input_grad(ones, w, input_size=(size, size), stride=stride)[0, 0]


show(
    panels(
        {
            "1. stride 1": windows_that_touch(5, 1),
            "2. stride 2": windows_that_touch(5, 2),
            "3. stride 2, 6 x 6": windows_that_touch(6, 2),
        }
    ),
    "The middle is in 9 windows, then in 4; no window reaches the last row and column of 6.",
)

# %% [markdown]
# ## Exercise 3.1: back to the input
#
# *15 minutes.* One input, one filter, any stride. Only $g$, $w$ and the size of x are given.
#
# <details><summary>Hint 1</summary>
#
# Begin with zeros of the shape of x. Loop over the places (i, j) of g.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The window at (i, j) begins at row `i * stride`, column `j * stride`. Windows overlap: use `+=`.
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


def turned(g, w, height, width, stride):
    """The filter is turned by 180 degrees; each window adds it as it lies."""
    return right_input_grad(g, w[::-1, ::-1], height, width, stride)


def no_stride(g, w, height, width, stride):
    """The stride is forgotten: window (i, j) begins at row i * stride."""
    dx = np.zeros((height, width))
    small = g.shape[0] + w.shape[0] - 1, g.shape[1] + w.shape[1] - 1
    dx[: small[0], : small[1]] = right_input_grad(g, w, *small, 1)
    return dx


def last_window(g, w, height, width, stride):
    """The last window overwrites what others have added: use +=."""
    dx = np.zeros((height, width))
    for place in np.ndindex(g.shape):
        alone = np.zeros(g.shape)
        alone[place] = 1
        touched = right_input_grad(alone, np.ones(w.shape), height, width, stride) > 0
        dx = np.where(touched, right_input_grad(g * alone, w, height, width, stride), dx)
    return dx


def mean(g, w, height, width, stride):
    """The contributions to a pixel are averaged; add them up."""
    count = right_input_grad(np.ones(g.shape), np.ones(w.shape), height, width, stride)
    return right_input_grad(g, w, height, width, stride) / np.maximum(count, 1)


def swapped(g, w, height, width, stride):
    """Rows and columns are swapped: g[i, j] belongs to row i * stride, column j * stride."""
    return right_input_grad(g.T, w.T, width, height, stride)


def without_g(g, w, height, width, stride):
    """Each window adds w alone; it must be g[i, j] times w."""
    return right_input_grad(np.ones(g.shape), w, height, width, stride)


check_exercise(
    my_input_grad,
    right_input_grad,
    gradients_and_filters(),
    mistakes=[turned, no_stride, last_window, mean, swapped, without_g],
    example={
        "g": np.array([[2.0, -1, 3], [1, 4, -2]]),
        "w": np.array([[1.0, 2], [0, -1]]),
        "height": 3,
        "width": 4,
        "stride": 1,
    },
)

# %% [markdown]
# ## Back to the weights
#
# A weight is used in every window. In the window at ($i$, $j$), weight $w_{ab}$ meets
# $x_{i+a,\,j+b}$. So $w_{01}$ meets, one after the other, all pixels of the box below:

# %%
show(
    panels({"x": x, "g": g}, boxes={"x": [(0, 1, 2, 3)]}),
    "The box begins at row 0, column 1, is as large as g, and holds what weight w[0, 1] meets.",
)
dw = conv2d_weight_grad(x[None, None], g[None, None], kernel_size=2)[0, 0]
print("sum of box times g:", (x[0:2, 1:4] * g).sum(), " minifcn:", dw[0, 1])
print("all of dw:         ", dw.ravel())
print("x convolved with g:", conv2d(x[None, None], g[None, None]).ravel())

# %% [markdown]
# So with stride 1, `dw` is again a convolution, with $g$ as the filter. The bias is added to every
# output number, so `db` is the sum of all $g$ of its filter.
#
# All images of a batch use the same weights. By the rule, **`dw` and `db` are summed over the
# images**, too. `dx` is not: each image has pixels of its own.
#
# ## Exercise 3.2: back to weights and bias
#
# *20 minutes.* Now with all axes: $N$ images, $C$ channels, $O$ filters.
#
# <details><summary>Hint 1</summary>
#
# Loop over n, o, i, j. The window is `x[n, :, top : top + rows, left : left + cols]`, of the shape
# of one filter.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Forward, this window gave the one number y[n, o, i, j]. Backward, it adds `g[n, o, i, j] * window`
# to `dw[o]`.
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
    """Only the first image counts; sum over the batch."""
    return right_weight_grads(x[:1], g[:1], rows, cols, stride)


def last_image(x, g, rows, cols, stride):
    """Only the last image counts; sum over the batch."""
    return right_weight_grads(x[-1:], g[-1:], rows, cols, stride)


def last_window(x, g, rows, cols, stride):
    """In dw only the last window counts: use +=."""
    last = np.zeros(g.shape)
    last[-1, :, -1, -1] = g[-1, :, -1, -1]
    return right_weight_grads(x, last, rows, cols, stride)[0], conv2d_bias_grad(g)


def batch_mean(x, g, rows, cols, stride):
    """You take the mean over the batch; the sum is wanted, for a mean belongs in the loss."""
    return right_weight_grads(x, g / len(g), rows, cols, stride)


def no_stride(x, g, rows, cols, stride):
    """The stride is forgotten: window (i, j) begins at row i * stride."""
    part = x[:, :, : g.shape[2] + rows - 1, : g.shape[3] + cols - 1]
    return right_weight_grads(part, g, rows, cols, 1)


def turned(x, g, rows, cols, stride):
    """The filters are turned by 180 degrees; each window is added as it lies."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw[:, :, ::-1, ::-1], db


def one_channel(x, g, rows, cols, stride):
    """The channels are added up; each channel has weights of its own."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw.sum(axis=1, keepdims=True) + 0 * dw, db


def all_filters(x, g, rows, cols, stride):
    """db is added over the filters, too; each filter has a bias of its own."""
    dw, db = right_weight_grads(x, g, rows, cols, stride)
    return dw, db.sum() + 0 * db


def bias_of_one_image(x, g, rows, cols, stride):
    """In db only the first image counts; sum over the batch."""
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
        turned,
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
# What are gradients good for? Somebody has convolved an input with a filter and shows you only what
# came in and what came out. Begin with a filter of zeros. The error is your $y$ minus theirs, and
# the loss half the mean of its squares; so $g$ is the error, divided by how many numbers it has. Go
# a step against `dw`, so that the loss falls, and again.
#
# Predict: how near is the filter after 2 steps, and after 30?

# %%
rng = np.random.default_rng(0)
hidden = rng.integers(-9, 10, (1, 1, 3, 3)).astype(float)
x = rng.normal(size=(1, 1, 30, 30))
target = conv2d(x, hidden)
w, seen = np.zeros((1, 1, 3, 3)), {"hidden": hidden[0, 0]}
for step in range(31):
    if step in (0, 2, 30):
        seen[f"after {step} steps"] = w[0, 0].copy()
    error = conv2d(x, w) - target
    w -= 0.5 * conv2d_weight_grad(x, error / error.size, kernel_size=3)
show(panels(seen, shared=True), "After 30 steps the filter is the hidden one.")
print(f"largest difference: {abs(w - hidden).max():.1e}")

# %% [markdown]
# Training a network is this, with more layers and a loss that measures what one wants.
#
# ## One dot product proves it
#
# The *dot product* $\langle a, b \rangle$ of two arrays of one shape is the sum of all products
# $a_k b_k$. Without bias, a convolution is linear in $x$: with $x$ and $y$ written as one long
# column each, $y = W x$ for some matrix $W$ (not the width). If $x$ changes by a small $u$, then $y$
# changes by $W u$, and $L$ by $\langle g, W u \rangle = \langle W^T g, u \rangle$. So `dx` is $W^T g$:
# **backward is the transposed matrix.** A map with the transposed matrix is called the *adjoint*.

# %%
w = np.array([[1.0, 2], [0, -1]])
matrix = convolution_matrix(w, (3, 3))
show(
    panels({"W": matrix, "W transposed": matrix.T}),
    "A row of W is one window; a row of the transposed W is one pixel, and all that touch it.",
)
g = rng.integers(-3, 4, (2, 2)).astype(float)
dx = conv2d_input_grad(g[None, None], w[None, None], input_size=(3, 3))
print("W transposed times g:", matrix.T @ g.ravel())
print("backward            :", dx.ravel())

# %% [markdown]
# A convolution is linear in $w$ as well. This makes one law, for **all** $x$, $w$ and $g$:
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
# Now the other way round: somebody hands you a backward pass. Draw $x$ and $g$ at random. Each wrong
# number of `dx` enters $\langle x, dx \rangle$ with a random factor, so it spoils the equation, but
# for an accident of probability 0. Two numbers are compared, whatever the sizes. `check_adjoint`
# does it.

# %%
options = {"stride": 2}


def right(g):
    return conv2d_input_grad(g, w, input_size=(7, 8), **options)


def turned_filter(g):
    return conv2d_input_grad(g, w[:, :, ::-1, ::-1], input_size=(7, 8), **options)


def one_number_off(g):
    dx = right(g)
    dx[1, 2, 3, 4] += 0.001
    return dx


for name, backward in {
    "right": right,
    "turned filter": turned_filter,
    "one number off by 0.001": one_number_off,
}.items():
    try:
        check_adjoint(lambda x: conv2d(x, w, **options), backward, x.shape)
        print(f"{name}: passes")
    except CheckFailedError as failure:
        print(f"{name}: {failure}")

# %% [markdown]
# ## What is not linear: measure the slope
#
# Other layers have no matrix. For these, measure: go a step $h$ to both sides, and divide the rise
# by $2h$. That is the *central difference*. Predict: is a smaller $h$ better? Below is the number of
# correct digits for the slope of sin at 1, which is known to be cos 1.

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
    "Each row of digits has a peak: about 8 from one side, 11 from both, in float32 below 5.",
)

# %% [markdown]
# Left of the peak, the curve bends within $h$. Right of it, rounding errors are divided by an
# ever smaller number. So measure in float64, to both sides, with a medium step.
#
# `check_gradient` does so for any layer: it draws $g$ and a direction at random, measures the slope
# of $\langle y, g \rangle$ in this direction, and asks `backward` for the same. It finds its steps
# itself.
#
# A layer of one's own is a class. `forward` keeps what `backward` will need (and `output=y`, to see
# that $g$ fits). `backward` recalls it, adds to the gradients of the parameters (*accumulate*), and
# returns the gradient to the input. minifcn calls $g$ `dy`. This one has a mistake; can you find it?


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
# *15 minutes.* A ReLU makes negative numbers 0. Yours multiplies them by a slope, one for each
# channel, and the slopes are learned (He et al. 2015 call this PReLU).
#
# <details><summary>Hint 1</summary>
#
# `self.slopes.data[:, None, None]` fits x (N, C, H, W). `np.where(x > 0, ..., ...)` chooses.
#
# </details>
# <details><summary>Hint 2</summary>
#
# dx is dy times 1 or the slope. A slope is used at each negative number of its channel, in all rows,
# columns and images: add up dy * x over these.
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
    """The gradient to the slopes is that of the first image only; sum over the batch."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy[:1], x[:1])


class Mean(Right):
    """The gradient to the slopes is a mean; add up instead."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy, x) / (x.size / x.shape[1])


class AllNumbers(Right):
    """The gradient to the slopes counts positive x, too; but no slope is used there."""

    def to_slopes(self, dy, x):
        return super().to_slopes(dy, x) - super().to_slopes(dy, -x)


class Overwritten(Right):
    """The gradient to the slopes is overwritten; call self.slopes.accumulate."""

    def backward(self, dy):
        self.slopes.grad = None
        return super().backward(dy)


class LikeReLU(Right):
    """Where x is negative, dx is 0 as for a ReLU; it is dy times the slope."""

    def to_x(self, dy, x):
        return np.where(x > 0, dy, 0)


class WithoutDy(Right):
    """dx is the slope of the layer alone; multiply it by dy."""

    def to_x(self, dy, x):
        return super().to_x(np.ones_like(dy), x)


class SlopesWithoutDy(Right):
    """The gradient to the slopes is a sum of x alone; each x counts dy times."""

    def to_slopes(self, dy, x):
        return super().to_slopes(np.ones_like(dy), x)


class KeptY(Right):
    """forward keeps y; backward needs x."""

    def keep(self, *values, output):
        super().keep(output, output=output)


class NothingKept(Right):
    """forward must say self.keep(x, output=y), so that backward can recall x."""

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
        AllNumbers,
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
# **Tests that see nothing.** A backward pass turns the filter of 3 x 3 by mistake. $g$ is 5 x 5, so
# `dx` is 7 x 7. How many of its 49 numbers are wrong? Predict: for a filter of ones; for $g$ of ones;
# for random $w$ and $g$.

# %%
ones, random_w, random_g = np.ones((3, 3)), rng.normal(size=(3, 3)), rng.normal(size=(5, 5))
for name, w, g in (
    ("w of ones, random g", ones, random_g),
    ("random w, g of ones", random_w, np.ones((5, 5))),
    ("random w, random g", random_w, random_g),
):
    right, turned = (
        conv2d_input_grad(g[None, None], filters[None, None], input_size=(7, 7))
        for filters in (w, w[::-1, ::-1])
    )
    print(f"{name}: {(~np.isclose(right, turned)).sum()} of 49 are wrong")

# %% [markdown]
# In the middle, all nine weights meet a 1, so their order does not matter. And a batch of one image
# hides a missing sum over the batch:

# %%
for images in (1, 2):
    g = rng.normal(size=(images, 4, 5, 5))
    forgotten = g[0].sum(axis=(1, 2))
    print(f"{images} image(s), db right: {np.allclose(forgotten, conv2d_bias_grad(g))}")

# %% [markdown]
# **Inputs that spoil a check.** One has a zero, where a ReLU bends. The other is float32. Predict
# what `check_gradient` says to each.

# %%
for x in (np.array([[-1.0, 0.0, 2.0]]), np.array([[-1, 3, 2]], np.float32)):
    try:
        check_gradient(ReLU(), x)
    except (TypeError, ValueError) as error:
        print(error, end="\n\n")

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is g, and what shape has it?</summary>
#
# How much the loss rises with each output number; the shape of the output.
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
# <details><summary>4. Why can one dot product test thousands of numbers?</summary>
#
# Each wrong number enters it with a random factor, and nothing is approximated.
#
# </details>
# <details><summary>5. Why is the smallest step h not the best?</summary>
#
# Rounding errors are divided by h.
#
# </details>
