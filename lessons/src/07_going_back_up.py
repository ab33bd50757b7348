# %% [markdown]
# # 7. Going back up: deconvolution, three ways
#
# **Question.** A network gives a score for every 32nd pixel. Which layer makes its map as large as
# the picture again, and what is a stride of 1/2?
#
# **Minutes:** 15 to read, 1 to run, 45 for the exercises.
#
# **You need** what a convolution is (lesson 2), and its gradient to the input (lesson 3).

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, whole_numbers
from minifcn.data import photograph
from minifcn.layers import ConvTranspose2d
from minifcn.viz import (
    convolution_matrix,
    coverage,
    painting_film,
    panels,
    show,
    zeros_film,
)

# %% [markdown]
# ## The picture
#
# A convolution gathers: each window of the input becomes one number. The layer of this lesson
# paints: each number $x_{ij}$ of the input multiplies the whole filter $w$, and this patch is added
# to the output $y$. Its upper left corner lies at row $i s$, column $j s$. The *stride* $s$ is the
# step from patch to patch *on the output*. Where patches overlap, they add up:
#
# $$y_{is+a,\;js+b} \mathrel{+}= x_{ij}\,w_{ab} \quad \text{for all } i, j, a, b$$

# %%
x = np.array([[1.0, 2], [3, 1]])
w = np.array([[1.0, 2, 3], [0, -1, 2]])
show(
    painting_film(x, w, stride=2),
    "Four patches of 2 x 3 cells, two cells apart: they share the middle column and add up there.",
)

# %% [markdown]
# ## The second way: a matrix, transposed
#
# Write all numbers of a map one below the other. Then a convolution is a product with a matrix $W$.
# It has one row for each window, which holds the filter where the window lies, and zeros elsewhere.
# The transposed matrix $W^T$ has these rows as columns, and leads the other way: from one number
# for each window to the large map. A product with it adds up its columns, each times one number.
# That is painting.

# %%
W = convolution_matrix(w, (2, 5), stride=2)  # from 2 x 5 = 10 numbers to 1 x 2
painted = W.T @ x[0]  # only the first row of x, [1, 2]
show(
    panels(
        {"W": W, "W transposed": W.T, "painted": painted.reshape(2, 5)}, columns=3, width=9
    ),
    "Each row of W holds the filter, as each column of W transposed does; the second is two cells on.",
)
W = convolution_matrix(w, (4, 5), stride=2)  # from 4 x 5 numbers to 2 x 2
print((W.T @ x.reshape(-1)).reshape(4, 5))

# %% [markdown]
# With all of x, these are the numbers of the film's last frame.
#
# ## The third way: zeros, and a stride of 1/2
#
# Turn to one output number, $y_r$ along one axis. It is the sum of all $x_i\,w_{r-is}$: the next
# input, $i + 1$, meets a number of the filter that lies $s$ places *before*. So the filter runs
# backwards, and $s$ of its places lie between two inputs. Hence: set $s - 1$ zeros between
# neighbouring inputs, and $K - 1$ around them. Turn the filter by 180 degrees. Convolve with
# stride 1.
#
# One step of the window is $1/s$ of the way from one input to the next. This is a *fractionally
# strided* convolution; with $s = 2$ its stride is 1/2.

# %%
show(
    zeros_film(x, w, stride=2),
    "The turned filter moves by one cell, half the way from input to input; y is the same again.",
)

# %% [markdown]
# ## Predict
#
# 1. Going backward through a convolution (lesson 3) spreads each output's gradient over its window.
#    Does `conv2d_input_grad`, given x in place of a gradient, give our y?
# 2. What is the gradient of *this* layer to its input?
# 3. Convolve y with the same filter and stride. Does x come back?

# %%
filters = w[None, None]
y = mf.functional.conv_transpose2d(x[None, None], filters, stride=2)
dx = mf.functional.conv2d_input_grad(x[None, None], filters, input_size=(4, 5), stride=2)
print("1. the same as a gradient:", np.array_equal(y, dx))

layer = ConvTranspose2d(1, 1, (2, 3), stride=2, bias=False, rng=0)
layer.weight.data = filters
layer(x[None, None])
upstream = np.random.default_rng(0).normal(size=y.shape)  # a gradient to y
down = mf.functional.conv2d(upstream, filters, stride=2)
print("2. a convolution:", np.allclose(layer.backward(upstream), down))
print("3. x:", *x, "convolved back:", *mf.functional.conv2d(y, filters, stride=2)[0, 0])

# %% [markdown]
# Up is backward through a convolution, and backward through this layer is down. One set of
# functions serves both.
#
# **Names.** All of these are this layer: *transposed* convolution (the matrix), *fractionally
# strided* convolution (the zeros), *backwards* convolution (the gradient), *up-convolution*, and
# *deconvolution*, as Long et al. (2015) say, too. The last name misleads: line 3 shows that nothing
# is undone.
#
# ## Exercise 7.1: paint
#
# *10 minutes.* Write painting for one input ($H$, $W$) and one filter ($K_H$, $K_W$). *Padding* $p$
# is that of the convolution that leads down, which sets $p$ rows and columns of zeros around the
# large map. On the way up they are cut off again, at all four sides.
#
# <details><summary>Hint 1</summary>
#
# Before anything is cut off, there are $(H - 1) s + K_H$ rows.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `y[i * s : i * s + KH, j * s : j * s + KW] += ...`, in two loops. Cut with
# `y[p : rows - p, p : cols - p]`; `-p` as an end fails for `p = 0`.
#
# </details>


# %%
def my_painting(x, w, stride, padding):
    """Return y, ((H - 1) s + KH - 2 p, (W - 1) s + KW - 2 p), for x (H, W) and w (KH, KW)."""
    ### BEGIN SOLUTION
    height, width = x.shape
    rows, cols = w.shape
    y = np.zeros(((height - 1) * stride + rows, (width - 1) * stride + cols))
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            y[top : top + rows, left : left + cols] += x[i, j] * w
    return y[padding : y.shape[0] - padding, padding : y.shape[1] - padding]
    ### END SOLUTION


# %%
# Check of exercise 7.1: run this cell.
def right_up(x, w, stride, padding):
    up = mf.functional.conv_transpose2d
    return up(x[None, None], w[None, None], stride=stride, padding=padding)[0, 0]


@st.composite
def inputs_and_filters(draw):
    height, width, rows, cols, stride = (draw(st.integers(1, 3)) for _ in range(5))
    smaller = min((height - 1) * stride + rows, (width - 1) * stride + cols)
    return {
        "x": draw(whole_numbers(height, width)),
        "w": draw(whole_numbers(rows, cols)),
        "stride": stride,
        "padding": draw(st.integers(0, min(2, (smaller - 1) // 2))),
    }


def turned(x, w, stride, padding):
    """The filter is turned; in painting it is used as it lies."""
    return right_up(x, w[::-1, ::-1], stride, padding)


def swapped(x, w, stride, padding):
    """Rows and columns of the filter are swapped."""
    return right_up(x, w.T, stride, padding)


def painted_over(x, w, stride, padding):
    """A patch replaces what lies under it; add it to that, with += in place of =."""
    y = np.zeros_like(right_up(x, w, stride, 0))
    for place in np.ndindex(x.shape):
        only = np.zeros_like(x)
        only[place] = 1
        patch = right_up(only, np.ones_like(w), stride, 0) > 0
        y = np.where(patch, right_up(only * x, w, stride, 0), y)
    return y[padding : len(y) - padding, padding : y.shape[1] - padding]


def steps_of_one(x, w, stride, padding):
    """The patches lie one cell apart, whatever the stride is: they begin at row i * stride."""
    y, close = np.zeros_like(right_up(x, w, stride, 0)), right_up(x, w, 1, 0)
    y[: len(close), : close.shape[1]] = close
    return y[padding : len(y) - padding, padding : y.shape[1] - padding]


def uncut(x, w, stride, padding):
    """The padding is not cut off."""
    return right_up(x, w, stride, 0)


def cut_once(x, w, stride, padding):
    """Padding is cut off above and on the left only; cut it at all four sides."""
    return right_up(x, w, stride, 0)[padding:, padding:]


def one_sided(x, w, stride, padding):
    """All padding is cut off below and on the right; half of it lies above and on the left."""
    y = right_up(x, w, stride, 0)
    return y[: len(y) - 2 * padding, : y.shape[1] - 2 * padding]


def set_around(x, w, stride, padding):
    """Padding is set around y; on the way up it is cut off."""
    return np.pad(right_up(x, w, stride, 0), padding)


check_exercise(
    my_painting,
    right_up,
    inputs_and_filters(),
    mistakes=[
        turned,
        swapped,
        painted_over,
        steps_of_one,
        uncut,
        cut_once,
        one_sided,
        set_around,
    ],
    example={
        "x": np.array([[1.0, 2], [3, 1]]),
        "w": np.array([[1.0, 2, 3], [0, -1, 2], [4, 0, 1]]),
        "stride": 2,
        "padding": 0,
    },
)

# %% [markdown]
# ## Exercise 7.2: insert zeros
#
# *15 minutes.* Write the third way, with `mf.functional.conv2d` and stride 1. Of the $K - 1$ zeros
# around x, padding takes $p$ away: $K - 1 - p$ remain, here never less than 0. Both numbers are
# called padding in places; libraries mean $p$.
#
# <details><summary>Hint 1</summary>
#
# `spread[::stride, ::stride] = x` sets every s-th cell. After the last input no zeros follow yet:
# how many rows has `spread`?
#
# </details>
# <details><summary>Hint 2</summary>
#
# $K_H$ and $K_W$ may differ: `np.pad(spread, ((up, up), (left, left)))`. `w[::-1, ::-1]` is turned.
#
# </details>


# %%
def my_zeros_inserted(x, w, stride, padding):
    """Return y, ((H - 1) s + KH - 2 p, (W - 1) s + KW - 2 p), for x (H, W) and w (KH, KW)."""
    ### BEGIN SOLUTION
    height, width = x.shape
    spread = np.zeros(((height - 1) * stride + 1, (width - 1) * stride + 1))
    spread[::stride, ::stride] = x
    up, left = w.shape[0] - 1 - padding, w.shape[1] - 1 - padding
    spread = np.pad(spread, ((up, up), (left, left)))
    return mf.functional.conv2d(spread[None, None], w[None, None, ::-1, ::-1])[0, 0]
    ### END SOLUTION


# %%
# Check of exercise 7.2: run this cell.
def right_up(x, w, stride, padding, **options):
    up = mf.functional.conv_transpose2d
    return up(x[None, None], w[None, None], stride=stride, padding=padding, **options)[0, 0]


@st.composite
def inputs_and_filters(draw):
    height, width, rows, cols, stride = (draw(st.integers(1, 3)) for _ in range(5))
    smaller = min((height - 1) * stride + rows, (width - 1) * stride + cols)
    most = min(rows - 1, cols - 1, (smaller - 1) // 2)
    return {
        "x": draw(whole_numbers(height, width)),
        "w": draw(whole_numbers(rows, cols)),
        "stride": stride,
        "padding": draw(st.integers(0, most)),
    }


def unturned(x, w, stride, padding):
    """The filter is not turned."""
    return right_up(x, w[::-1, ::-1], stride, padding)


def half_turned(x, w, stride, padding):
    """Only the rows of the filter are turned around; its columns must be, too."""
    return right_up(x, w[:, ::-1], stride, padding)


def other_half_turned(x, w, stride, padding):
    """Only the columns of the filter are turned around; its rows must be, too."""
    return right_up(x, w[::-1], stride, padding)


def one_zero_more(x, w, stride, padding):
    """There are `stride` zeros between neighbours; one less makes steps of `stride`."""
    return right_up(x, w, stride + 1, padding)


def zeros_behind(x, w, stride, padding):
    """Zeros follow the last input, too; there are (H - 1) s + 1 rows without those around."""
    return right_up(x, w, stride, padding, output_padding=stride - 1)


def surrounded(x, w, stride, above, left):
    spread = np.zeros([(n - 1) * stride + 1 for n in x.shape])
    spread[::stride, ::stride] = x
    spread = np.pad(spread, ((above, above), (left, left)))
    return mf.functional.conv2d(spread[None, None], w[None, None, ::-1, ::-1])[0, 0]


def other_padding(x, w, stride, padding):
    """Around x are `padding` zeros; there must be K - 1 - padding."""
    return surrounded(x, w, stride, padding, padding)


def one_for_both(x, w, stride, padding):
    """As many zeros are left and right as above and below; filters need not be square."""
    return surrounded(x, w, stride, *[w.shape[0] - 1 - padding] * 2)


def padding_forgotten(x, w, stride, padding):
    """Around x are K - 1 zeros, whatever the padding is."""
    return right_up(x, w, stride, 0)


def none_between(x, w, stride, padding):
    """No zeros stand between neighbouring inputs."""
    return right_up(x, w, 1, padding)


check_exercise(
    my_zeros_inserted,
    right_up,
    inputs_and_filters(),
    mistakes=[
        unturned,
        half_turned,
        other_half_turned,
        one_zero_more,
        zeros_behind,
        other_padding,
        one_for_both,
        padding_forgotten,
        none_between,
    ],
    example={
        "x": np.array([[1.0, 2], [3, 1]]),
        "w": np.array([[1.0, 2, 3], [0, -1, 2], [4, 0, 1]]),
        "stride": 2,
        "padding": 0,
    },
)

# %% [markdown]
# ## How large?
#
# Along one axis $H$ numbers become $(H - 1)\,s - 2p + K$. In FCN-32s, a picture of 500 rows has 16
# rows of scores; then come $s = 32$, $K = 64$ and $p = 0$. Predict how many rows come out.
#
# A convolution rounds down, so two sizes may lead down to the same one. On the way up one must
# choose: by `output_padding`, rows and columns *more* than the formula says, below $s$; or by naming
# the `output_size`.

# %%
window = mf.geometry.Window(64, stride=32)
print("FCN-32s: from 16 rows to", mf.geometry.Transposed(window).output_size(16))

window = mf.geometry.Window(3, stride=2, padding=1)
print("down: from 7 and 8 rows to", window.output_size(7), "and", window.output_size(8))
four, three = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
for options in ({}, {"output_padding": 1}, {"output_size": (8, 7)}):
    up = mf.functional.conv_transpose2d(four, three, stride=2, padding=1, **options)
    print("up:", options, "gives", up.shape[2:], "last row", up[0, 0, -1].astype(int))

# %% [markdown]
# The eighth row is not a row of zeros: `output_padding` gives back what padding had cut off. FCN-32s
# cuts off in the end what it has too much (lesson 9).
#
# ## How often is a cell painted?

# %%
show(
    coverage([(3, 2), (4, 2), (5, 2), (6, 3)], size=3),
    "The patches on each cell: inside all 4 for k 4, s 2 and k 6, s 3; the others change from cell to cell.",
)

# %% [markdown]
# Where counts differ, equal weights turn equal numbers into a pattern: a *checkerboard*.
#
# ## Exercise 7.3: predict the counts
#
# *10 minutes.* Which counts occur away from the border? For $K = 3$ and $s = 2$ the answer is
# `[1, 2, 4]`.
#
# <details><summary>Hint 1</summary>
#
# Along one axis, a cell is painted $K / s$ times, rounded down or up. When do both occur?
#
# </details>
# <details><summary>Hint 2</summary>
#
# A patch covers a cell if it does so along both axes: multiply the counts of a row and a column.
#
# </details>


# %%
def my_counts(kernel, stride):
    """Return the sorted list of different counts, for a filter of kernel x kernel."""
    ### BEGIN SOLUTION
    along = {kernel // stride, -(-kernel // stride)}  # rounded down, and up
    return sorted({rows * cols for rows in along for cols in along})
    ### END SOLUTION


# %%
# Check of exercise 7.3: run this cell.
def painted(kernel, stride):
    ones = np.ones((1, 1, kernel + 2, kernel + 2)), np.ones((1, 1, kernel, kernel))
    return mf.functional.conv_transpose2d(*ones, stride=stride)[0, 0].round().astype(int)


def right_counts(kernel, stride):
    inside = slice(kernel, kernel + stride)
    return np.unique(painted(kernel, stride)[inside, inside]).tolist()


def one_axis(kernel, stride):
    """These are the counts along one axis; those of rows and columns multiply."""
    inside = slice(kernel, kernel + stride)
    top = painted(kernel, stride)[0, inside]  # one patch above one another: a single axis
    return np.unique(top).tolist()


def squares(kernel, stride):
    """Rows may be painted more often than columns: the mixed product is missing."""
    return sorted({count**2 for count in one_axis(kernel, stride)})


def with_border(kernel, stride):
    """Those at the border are counted, too."""
    return np.unique(painted(kernel, stride)).tolist()


def never_none(kernel, stride):
    """With a filter smaller than the stride, some cells are not painted at all: 0 is a count, too."""
    return [count for count in right_counts(kernel, stride) if count]


def mean(kernel, stride):
    """That is the mean of all counts, and it need not occur."""
    inside = slice(kernel, kernel + stride)
    return [painted(kernel, stride)[inside, inside].mean()]


def largest(kernel, stride):
    """Only the largest count is there."""
    return right_counts(kernel, stride)[-1:]


check_exercise(
    my_counts,
    right_counts,
    st.fixed_dictionaries({"kernel": st.integers(1, 8), "stride": st.integers(1, 4)}),
    mistakes=[one_axis, squares, with_border, never_none, mean, largest],
)

# %% [markdown]
# ## Smooth: the bilinear filter
#
# Between two inputs, one would like a straight line from one to the other. The patch for that is a
# *tent*, along one axis $t_a = 1 - |a - c| / s$ with its top in the middle, $c = (K - 1) / 2$.
# $K$ is $2s$ or $2s - 1$. Neighbouring tents add up to 1. For rows and columns the tents multiply:
# the filter is *bilinear*, $w_{ab} = t_a t_b$.
#
# Predict: an input of ones is upsampled. Are all outputs 1?

# %%
four = mf.functional.bilinear_kernel(1, 2, 4, dtype="float64")  # 1 channel, s = 2, K = 4
ones = mf.functional.conv_transpose2d(np.ones((1, 1, 3, 3)), four, stride=2, padding=1)
show(
    panels(
        {
            "16 w, K = 4": 16 * four[0, 0],
            "4 w, K = 3": 4 * mf.functional.bilinear_kernel(1, 2, 3)[0, 0],
            "ones, upsampled": ones[0, 0],
        }
    ),
    "Two tents; on the right ones inside, but 0.75 at the border, and 0.75 x 0.75 in the corners.",
)

# %% [markdown]
# No patches come from beyond the border, so it gets darker.

# %%
# Grey levels (1, 1, 197, 297), and every 4th pixel of every 4th row, (1, 1, 50, 75).
cup = photograph("cup").mean(axis=2)[None, None]
photo = mf.functional.avg_pool2d(cup, 2)[:, :, :197, :297]
small = photo[:, :, ::4, ::4].copy()
bilinear = mf.functional.bilinear_kernel(1, 4, 7, dtype="float64")  # s = 4, K = 7
smooth = mf.functional.conv_transpose2d(small, bilinear, stride=4, padding=3)
blocks = mf.functional.conv_transpose2d(small, np.ones((1, 1, 4, 4)), stride=4)
part = np.s_[0, 0, 40:112, 60:156]
show(
    panels(
        {"photo": photo[part], "ones, K = 4": blocks[part], "bilinear, K = 7": smooth[part]}
    ),
    "Ones repeat each number as a block; the bilinear filter leads smoothly from one to the next.",
)

# %% [markdown]
# ## Exercise 7.4: the bilinear filter
#
# *10 minutes.* Write it from its formula.
#
# <details><summary>Hint</summary>
#
# `np.arange(size)` are all $a$ at once, and `np.outer(t, t)` all products.
#
# </details>


# %%
def my_bilinear(stride, size):
    """Return the filter (size, size); size is 2 * stride or 2 * stride - 1."""
    ### BEGIN SOLUTION
    tent = 1 - abs(np.arange(size) - (size - 1) / 2) / stride
    return np.outer(tent, tent)
    ### END SOLUTION


# %%
# Check of exercise 7.4: run this cell.
def right_bilinear(stride, size):
    return mf.functional.bilinear_kernel(1, stride, size, dtype="float64")[0, 0]


sizes = st.tuples(st.integers(1, 6), st.integers(0, 1)).map(
    lambda pair: {"stride": pair[0], "size": 2 * pair[0] - pair[1]}
)


def tent(middle, slope, size):
    return 1 - abs(np.arange(size) - middle) / slope


def off_centre(stride, size):
    """The top is not in the middle: cells are counted from 0, so it is at (size - 1) / 2."""
    return np.outer(*[tent(size / 2, stride, size)] * 2)


def half_size(stride, size):
    """The tent falls by 1 / stride a cell, not by 2 / size: that differs for odd sizes."""
    return np.outer(*[tent((size - 1) / 2, size / 2, size)] * 2)


def whole_centre(stride, size):
    """The middle is rounded to a whole cell; for an even size it lies between two."""
    return np.outer(*[tent(size // 2, stride, size)] * 2)


def lower_centre(stride, size):
    """The middle is rounded down to a whole cell; for an even size it lies between two."""
    return np.outer(*[tent((size - 1) // 2, stride, size)] * 2)


def pyramid(stride, size):
    """Of the two tents you take the smaller one; multiply them."""
    row = tent((size - 1) / 2, stride, size)
    return np.minimum.outer(row, row)


def added(stride, size):
    """The two tents are added; multiply them."""
    row = tent((size - 1) / 2, stride, size)
    return np.add.outer(row, row)


def normalised(stride, size):
    """The numbers add up to 1; they should to stride * stride, one for each output."""
    return right_bilinear(stride, size) / right_bilinear(stride, size).sum()


check_exercise(
    my_bilinear,
    right_bilinear,
    sizes,
    mistakes=[
        off_centre,
        half_size,
        whole_centre,
        lower_centre,
        pyramid,
        added,
        normalised,
    ],
)

# %% [markdown]
# ## Run: a filter that learns
#
# These filters are weights, and can be trained. Long et al. train some of theirs, and begin with
# the bilinear one. Here a filter learns to fill in the photograph from every 4th pixel, in 300 steps
# down the gradient of the squared error. Predict: how far from the bilinear one does it end? And
# from random weights?


# %%
def off_by(y):
    return float(np.sqrt(np.mean((y - photo) ** 2)))


pictures = {"16 w, bilinear": 16 * bilinear[0, 0]}
for start in ("bilinear", "random"):
    layer = ConvTranspose2d(1, 1, 7, stride=4, padding=3, bias=False, rng=0).astype(
        "float64"
    )
    if start == "bilinear":
        layer.weight.data = bilinear.copy()
    before = off_by(layer(small))
    optimizer = mf.optim.Adam(layer, lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        layer.backward(2 * (layer(small) - photo) / photo.size)
        optimizer.step()
    y = layer(small)
    pictures[f"16 w, from {start}"] = 16 * layer.weight.data[0, 0]
    print(f"{start:8}: off by {before:5.1f} grey levels before, {off_by(y):4.1f} after")
pictures["y, from random"] = y[part]
show(
    panels(pictures, columns=2),
    "The bilinear filter hardly changes; from random weights, a pattern of 4 x 4 pixels remains.",
)

# %% [markdown]
# For this photograph the bilinear filter is nearly the best of its size, and a good start.
#
# ## Break it
#
# **A kernel that is no multiple of the stride.** A map of ones goes up by stride 2. Which filters
# keep all numbers inside equal?

# %%
rng = np.random.default_rng(1)
cases = {
    "ones, K = 3": np.ones((1, 1, 3, 3)),
    "ones, K = 4": np.ones((1, 1, 4, 4)),
    "bilinear, K = 3": mf.functional.bilinear_kernel(1, 2, 3, dtype="float64"),
    "random, K = 4": rng.normal(size=(1, 1, 4, 4)),
}
for name, filters in cases.items():
    y = mf.functional.conv_transpose2d(np.ones((1, 1, 6, 6)), filters, stride=2)
    inside = y[0, 0, 4:6, 4:6]
    print(
        f"{name:16}{'equal  ' if np.ptp(inside) < 1e-9 else 'unequal'}",
        inside.round(2).tolist(),
    )

# %% [markdown]
# Equal counts are neither enough nor needed: what matters is the sum of the weights that meet in a
# cell. Bilinear weights make up for unequal counts, and random ones make a pattern in any case. But
# with unequal counts even equal weights make one; a multiple of the stride is safer.
#
# **A mistake that hides.** Someone inserts zeros, but does not turn the filter. Does a test with the
# bilinear one notice?

# %%
for name, filters in {"bilinear": bilinear, "random": cases["random, K = 4"]}.items():
    same = np.allclose(filters, filters[:, :, ::-1, ::-1])
    print(f"{name}: the mistake {'cannot be seen' if same else 'is seen'}")

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is a stride of 1/2?</summary>
#
# With a zero between neighbouring inputs, the window moves half the way from one to the next.
#
# </details>
# <details><summary>2. 4 rows, K = 3, s = 2, p = 1: how many rows come out?</summary>
#
# (4 - 1) 2 - 2 + 3 = 7, or 8 with `output_padding` 1.
#
# </details>
# <details><summary>3. How many zeros stand around x in the third way?</summary>
#
# K - 1 - p on each side; p itself belongs to the convolution that leads down.
#
# </details>
# <details><summary>4. Why is this layer called transposed?</summary>
#
# It multiplies by the transposed matrix of a convolution, as the gradient to its input does.
#
# </details>
# <details><summary>5. Why do K = 4, s = 2 and K = 64, s = 32 suit, and K = 3, s = 2 less so?</summary>
#
# A multiple of the stride paints each cell inside equally often.
#
# </details>
