# %% [markdown]
# # 7. Going back up: deconvolution, three ways
#
# **Question.** A network gives a score for every 32nd pixel. Which layer makes its map as large as
# the image again, and what is a stride of 1/2?
#
# **Minutes:** 15 to read, 1 to run, 50 for the exercises.
#
# **You need** what a convolution is (lesson 2), and its gradient with respect to the input (lesson 3).

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.layers import ConvTranspose2d
from minifcn.viz import (
    Sliders,
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
# A convolution reads: it reduces each window of the input to one value. The layer of this lesson
# paints: each value $x_{ij}$ of the input is multiplied by the whole filter $w$, and this patch is added
# to the output $y$. Its upper left corner is at row $i s$, column $j s$. The *stride* $s$ is the
# distance between patches *in the output*. Where patches overlap, they are added:
#
# $$y_{is+a,\;js+b} \mathrel{+}= x_{ij}\,w_{ab} \quad \text{for all } i, j, a, b$$

# %%
x = np.array([[1.0, 2], [3, 1]])
w = np.array([[1.0, 2, 3], [0, -1, 2]])
show(
    painting_film(x, w, stride=2),
    "Four patches of 2 x 3 cells, two cells apart: they overlap in the middle column and are added there.",
)

# %% [markdown]
# ## The second way: a matrix, transposed
#
# Write all values of a map as one column. Then a convolution is a product with a matrix $W$.
# It has one row for each window, which contains the filter at the position of the window, and zeros
# elsewhere. The transposed matrix $W^T$ has these rows as columns, and maps in the other direction: from one
# value for each window to the large map. A product with it adds its columns, each multiplied by one value.
# That is painting.

# %%
W = convolution_matrix(w, (2, 5), stride=2)  # from 2 x 5 = 10 values to 1 x 2
painted = W.T @ x[0]  # only the first row of x, [1, 2]
show(
    panels(
        {"W": W, "W transposed": W.T, "painted": painted.reshape(2, 5)}, columns=3, width=9
    ),
    "Each row of W contains the filter, and so does each column of W transposed, shifted by two cells.",
)
W = convolution_matrix(w, (4, 5), stride=2)  # from 4 x 5 values to 2 x 2
print((W.T @ x.reshape(-1)).reshape(4, 5))

# %% [markdown]
# With the whole of x, these are the values of the last frame of the film.
#
# ## The third way: zeros, and a stride of 1/2
#
# Consider one output value, $y_r$ along one axis. It is the sum of all $x_i\,w_{r-is}$: the next
# input, $i + 1$, is multiplied by a filter value $s$ positions *earlier*. So the filter is read
# backwards, and $s$ of its positions lie between two inputs. So insert
# $s - 1$ zeros between neighbouring inputs, add $K - 1$ zeros around them, rotate the filter by 180
# degrees, and convolve with stride 1.
#
# One step of the window is $1/s$ of the distance between two inputs. This is a *fractionally
# strided* convolution; with $s = 2$ its stride is 1/2.

# %%
show(
    zeros_film(x, w, stride=2),
    "The rotated filter moves by one cell, half the distance between inputs; y is the same again.",
)

# %% [markdown]
# ## Predict
#
# 1. The backward pass of a convolution (lesson 3) spreads each output's gradient over its window.
#    Does `conv2d_input_grad`, given x in place of a gradient, return our y?
# 2. What is the gradient of *this* layer with respect to its input?
# 3. Convolve y with the same filter and stride. Is the result x?

# %%
filters = w[None, None]
y = mf.functional.conv_transpose2d(x[None, None], filters, stride=2)
dx = mf.functional.conv2d_input_grad(x[None, None], filters, input_size=(4, 5), stride=2)
print("1. the same as a gradient:", np.array_equal(y, dx))

layer = ConvTranspose2d(1, 1, (2, 3), stride=2, bias=False, rng=0)
layer.weight.data = filters
layer(x[None, None])
upstream = np.random.default_rng(0).normal(size=y.shape)  # a gradient with respect to y
down = mf.functional.conv2d(upstream, filters, stride=2)
print("2. a convolution:", np.allclose(layer.backward(upstream), down))
print("3. x:", *x, "convolved back:", *mf.functional.conv2d(y, filters, stride=2)[0, 0])

# %% [markdown]
# The forward pass of this layer is the backward pass of a convolution, and its backward pass is a
# convolution.
#
# **Names.** All of these are this layer: *transposed* convolution (the matrix), *fractionally
# strided* convolution (the zeros), *backwards* convolution (the gradient), *up-convolution*, and
# *deconvolution*, as in Long et al. (2015). The last name is misleading: line 3 shows that
# nothing is inverted.
#
# ## Strided, dilated, transposed
#
# Along one axis, with the filter 1, 2, 3. Each row of a matrix is one output value.

# %%
units = np.eye(9)[:, None, None]  # nine inputs (1, 9), each with a single 1
three = np.array([1.0, 2, 3]).reshape(1, 1, 1, 3)
strided = mf.functional.conv2d(units, three, stride=(1, 2))[:, 0, 0].T
dilated = mf.functional.conv2d(units, three, dilation=(1, 2))[:, 0, 0].T
matrices = {"strided": strided, "dilated": dilated, "transposed": strided.T}
show(
    panels({name: np.where(m, m, np.nan) for name, m in matrices.items()}),
    "Strided, 9 to 4 values: the windows are two cells apart. Dilated, 9 to 5: the cells of a window are. "
    "Transposed, 4 to 9: the first matrix with rows and columns swapped.",
)

# %% [markdown]
# *Dilation* keeps the step, and lets a window span more pixels with the same number of weights.
#
# ## Exercise 7.1: the matrix
#
# *10 minutes, medium.* Painting is the loop of exercise 3.1, with x in place of g. Here, write the matrix $W$
# of a convolution from a map (height, width) with one filter, without padding. Windows and the values of the
# map are both numbered row by row.
#
# <details><summary>Hint 1</summary>
#
# Start with zeros of shape (OH * OW, height, width): one map for each window. Window (i, j) is number
# `i * OW + j`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Copy w into each map, at row `i * stride` and column `j * stride`. `reshape` comes last.
#
# </details>


# %%
def my_matrix(w, height, width, stride):
    """Return W (OH * OW, height * width) for w (KH, KW)."""
    ### BEGIN SOLUTION
    rows, cols = w.shape
    out_rows, out_cols = (height - rows) // stride + 1, (width - cols) // stride + 1
    maps = np.zeros((out_rows * out_cols, height, width))
    for i in range(out_rows):
        for j in range(out_cols):
            top, left = i * stride, j * stride
            maps[i * out_cols + j, top : top + rows, left : left + cols] = w
    return maps.reshape(len(maps), -1)
    ### END SOLUTION


# %%
# Check of exercise 7.1: run this cell.
def right_matrix(w, height, width, stride):
    return convolution_matrix(w, (height, width), stride=stride)


@st.composite
def filters_and_sizes(draw):
    rows, cols, stride = (draw(st.integers(1, 3)) for _ in range(3))
    return {
        "w": draw(whole_numbers(rows, cols)),
        "height": rows + draw(st.integers(0, 3)),
        "width": cols + draw(st.integers(0, 3)),
        "stride": stride,
    }


def rotated(w, height, width, stride):
    """The filter is rotated; W contains it unchanged."""
    return right_matrix(w[::-1, ::-1], height, width, stride)


def transposed(w, height, width, stride):
    """This is W transposed; each row of W must be one window."""
    return right_matrix(w, height, width, stride).T


def filter_by_column(w, height, width, stride):
    """The filter is read column by column; read it row by row."""
    other = np.ascontiguousarray(w.T).reshape(w.shape)
    return right_matrix(other, height, width, stride)


def windows_by_column(w, height, width, stride):
    """The windows are numbered column by column; number them row by row."""
    matrix = right_matrix(w, height, width, stride)
    out_rows = (height - len(w)) // stride + 1
    maps = matrix.reshape(out_rows, -1, height * width)
    return maps.swapaxes(0, 1).reshape(matrix.shape)


def map_by_column(w, height, width, stride):
    """The map is flattened column by column; flatten it row by row."""
    matrix = right_matrix(w, height, width, stride)
    return matrix.reshape(-1, height, width).swapaxes(1, 2).reshape(matrix.shape)


def no_stride(w, height, width, stride):
    """The stride is ignored: window (i, j) starts at row i * stride."""
    out_rows, out_cols = (height - len(w)) // stride + 1, (width - w.shape[1]) // stride + 1
    close = right_matrix(w, height, width, 1)
    close = close.reshape(height - len(w) + 1, -1, height * width)
    return close[:out_rows, :out_cols].reshape(-1, height * width)


check_exercise(
    my_matrix,
    right_matrix,
    filters_and_sizes(),
    mistakes=[
        rotated,
        transposed,
        filter_by_column,
        windows_by_column,
        map_by_column,
        no_stride,
    ],
    example={
        "w": np.array([[1.0, 2, 3], [0, -1, 2]]),
        "height": 2,
        "width": 5,
        "stride": 2,
    },
)

# %% [markdown]
# ## Exercise 7.2: insert zeros
#
# *15 minutes, hard.* Write the third way, with `mf.functional.conv2d` and stride 1. *Padding* $p$ is that of
# the convolution in the other direction, which adds $p$ rows and columns of zeros around the large map. Here
# it removes $p$ of the $K - 1$ zeros on each side of x: $K - 1 - p$ remain, here never less than 0. Both
# numbers are sometimes called padding; libraries mean $p$.
#
# <details><summary>Hint 1</summary>
#
# `spread[::stride, ::stride] = x` sets every s-th element. No zeros follow the last input yet:
# how many rows does `spread` have?
#
# </details>
# <details><summary>Hint 2</summary>
#
# $K_H$ and $K_W$ may differ: `np.pad(spread, ((up, up), (left, left)))`. `w[::-1, ::-1]` is rotated.
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


def not_rotated(x, w, stride, padding):
    """The filter is not rotated."""
    return right_up(x, w[::-1, ::-1], stride, padding)


def rows_reversed(x, w, stride, padding):
    """Only the order of the filter's rows is reversed; reverse its columns, too."""
    return right_up(x, w[:, ::-1], stride, padding)


def columns_reversed(x, w, stride, padding):
    """Only the order of the filter's columns is reversed; reverse its rows, too."""
    return right_up(x, w[::-1], stride, padding)


def transposed(x, w, stride, padding):
    """The filter is transposed, w.T; rotate it by 180 degrees, w[::-1, ::-1]."""
    return correlated(x, w.T, stride, *[n - 1 - padding for n in w.shape])


def one_zero_more(x, w, stride, padding):
    """There are `stride` zeros between neighbours; there must be `stride - 1`."""
    return right_up(x, w, stride + 1, padding)


def zeros_after(x, w, stride, padding):
    """Zeros follow the last input, too; before padding there are (H - 1) s + 1 rows."""
    return right_up(x, w, stride, padding, output_padding=stride - 1)


def correlated(x, filters, stride, above, left):
    spread = np.zeros([(n - 1) * stride + 1 for n in x.shape])
    spread[::stride, ::stride] = x
    spread = np.pad(spread, ((above, above), (left, left)))
    return mf.functional.conv2d(spread[None, None], filters[None, None])[0, 0]


def other_padding(x, w, stride, padding):
    """There are `padding` zeros on each side of x; there must be K - 1 - padding."""
    return correlated(x, w[::-1, ::-1], stride, padding, padding)


def one_for_both(x, w, stride, padding):
    """The same number of zeros is added to rows and columns; filters need not be square."""
    return correlated(x, w[::-1, ::-1], stride, *[w.shape[0] - 1 - padding] * 2)


def padding_ignored(x, w, stride, padding):
    """There are K - 1 zeros on each side of x for every padding."""
    return right_up(x, w, stride, 0)


def none_between(x, w, stride, padding):
    """There are no zeros between neighbouring inputs."""
    return right_up(x, w, 1, padding)


check_exercise(
    my_zeros_inserted,
    right_up,
    inputs_and_filters(),
    mistakes=[
        not_rotated,
        rows_reversed,
        columns_reversed,
        transposed,
        one_zero_more,
        zeros_after,
        other_padding,
        one_for_both,
        padding_ignored,
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
# ## How large is the output?
#
# Along one axis $H$ values become $(H - 1)\,s - 2p + K$. In FCN-32s, an image of 500 rows has 16
# rows of scores; then $s = 32$, $K = 64$ and $p = 0$. Predict how many rows the output has.
#
# A convolution rounds down, so two input sizes may give the same output size. In the other direction one
# must choose: with `output_padding`, the number of *additional* rows and columns, below $s$; or by giving
# the `output_size`.

# %%
window = mf.geometry.Window(64, stride=32)
print("FCN-32s: from 16 rows to", mf.geometry.Transposed(window).output_size(16))

window = mf.geometry.Window(3, stride=2, padding=1)
print(
    "convolution: from 7 and 8 rows to", window.output_size(7), "and", window.output_size(8)
)
four, three = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
for options in ({}, {"output_padding": 1}, {"output_size": (8, 7)}):
    up = mf.functional.conv_transpose2d(four, three, stride=2, padding=1, **options)
    print("up:", options, "shape", up.shape[2:], "last row", up[0, 0, -1].astype(int))

# %% [markdown]
# The eighth row is not a row of zeros: `output_padding` restores part of what padding had removed.
#
# ## How many patches cover a cell?

# %%
show(
    coverage([(3, 2), (4, 2), (5, 2), (6, 3)], size=3),
    "The number of patches on each cell: always 4 inside for k 4, s 2 and k 6, s 3; the others vary.",
)

# %% [markdown]
# Where the counts differ, equal weights turn equal values into a pattern: a *checkerboard*. Now along one
# axis: move the sliders.


# %%
def patches(kernel, stride, padding):
    weights = np.arange(1.0, kernel + 1).reshape(1, 1, 1, kernel)
    ones = np.eye(4)[:, None, None]  # four inputs (1, 4), each with a single 1
    up = mf.functional.conv_transpose2d
    rows = up(ones, weights, stride=(1, stride), padding=(0, padding))[:, 0, 0]
    name = f"patches: kernel {kernel}, stride {stride}, padding {padding}"
    counts = (rows > 0).sum(axis=0)
    figure = panels(
        {name: np.where(rows, rows, np.nan), "number of patches": counts},
        columns=1,
        width=4.5,
    )
    return figure, f"{name}: {len(counts)} values, numbers of patches {counts.tolist()}"


show(
    Sliders(patches, {"kernel": (2, 3, 4), "stride": (1, 2, 3), "padding": (0, 1)}),
    "Each row is the patch of one input. The stride moves patches apart, the kernel makes them longer, and "
    "padding removes cells at both ends.",
)

# %% [markdown]
# ## Exercise 7.3: predict the counts
#
# *10 minutes, medium.* Which counts occur away from the border? For $K = 3$ and $s = 2$ the answer is
# `[1, 2, 4]`.
#
# <details><summary>Hint 1</summary>
#
# Along one axis, a cell is covered $K / s$ times, rounded down or up. When do both occur?
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
    """These are the counts along one axis; multiply those of rows and columns."""
    inside = slice(kernel, kernel + stride)
    top = painted(kernel, stride)[0, inside]  # the first row is covered once vertically
    return np.unique(top).tolist()


def squares(kernel, stride):
    """The counts of row and column may differ: the mixed product is missing."""
    return sorted({count**2 for count in one_axis(kernel, stride)})


def with_border(kernel, stride):
    """The counts at the border are included."""
    return np.unique(painted(kernel, stride)).tolist()


def never_none(kernel, stride):
    """If the filter is smaller than the stride, some cells are not covered at all: 0 is a count, too."""
    return [count for count in right_counts(kernel, stride) if count]


def mean(kernel, stride):
    """The result is the mean of all counts, which need not occur."""
    inside = slice(kernel, kernel + stride)
    return [painted(kernel, stride)[inside, inside].mean()]


def largest(kernel, stride):
    """Only the largest count is returned."""
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
# Between two inputs, the output should follow a straight line from one to the other. The patch for this is a
# *tent*, along one axis $t_a = 1 - |a - c| / s$ with its top in the middle, $c = (K - 1) / 2$.
# $K$ is $2s$ or $2s - 1$. Neighbouring tents add up to 1. For rows and columns the tents are multiplied:
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
    "Two bilinear filters; on the right, 1 inside, but 0.75 at the border, and 0.75 x 0.75 in the corners.",
)

# %% [markdown]
# Beyond the border there are no patches.

# %%
# Grey levels (1, 1, 149, 225), and every 4th pixel of every 4th row, (1, 1, 38, 57).
cat = mf.data.photograph("cat").mean(axis=2)[None, None]
photo = mf.functional.avg_pool2d(cat, 2)[:, :, :149, :225]
small = photo[:, :, ::4, ::4].copy()
bilinear = mf.functional.bilinear_kernel(1, 4, 7, dtype="float64")  # s = 4, K = 7
smooth = mf.functional.conv_transpose2d(small, bilinear, stride=4, padding=3)
blocks = mf.functional.conv_transpose2d(small, np.ones((1, 1, 4, 4)), stride=4)
part = np.s_[0, 0, 28:88, 60:140]
show(
    panels(
        {"photo": photo[part], "ones, K = 4": blocks[part], "bilinear, K = 7": smooth[part]}
    ),
    "Ones repeat each value as a block; the bilinear filter interpolates smoothly between values.",
)

# %% [markdown]
# ## Exercise 7.4: exactly s times as large
#
# *15 minutes, medium.* A layer shall turn $H$ rows into exactly $s H$, with a bilinear filter. Choose $K$ and
# $p$, and write the filter. One of the two sizes fits.
#
# <details><summary>Hint 1</summary>
#
# $(H - 1)\,s - 2p + K = s H$. Solve for $K$. Is it even or odd?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.arange(size)` contains all $a$, and `np.outer(t, t)` all products.
#
# </details>


# %%
def my_bilinear(stride):
    """Return (w, padding), w (K, K), of a layer from H rows to stride * H rows."""
    ### BEGIN SOLUTION
    size = 2 * stride - stride % 2
    tent = 1 - abs(np.arange(size) - (size - 1) / 2) / stride
    return np.outer(tent, tent), (size - stride) // 2
    ### END SOLUTION


# %%
# Check of exercise 7.4: run this cell.
def right_bilinear(stride):
    size = 2 * stride if stride % 2 == 0 else 2 * stride - 1
    kernel = mf.functional.bilinear_kernel(1, stride, size, dtype="float64")[0, 0]
    return kernel, (size - stride) // 2


def tents(size, middle, slope):
    tent = 1 - abs(np.arange(size) - middle) / slope
    return np.outer(tent, tent)


def always_even(stride):
    """K is 2 s for each stride; K - 2 p must be s, so for an odd stride K is odd, too."""
    return tents(2 * stride, stride - 0.5, stride), stride // 2


def always_odd(stride):
    """K is 2 s - 1 for each stride; K - 2 p must be s, so for an even stride K is even, too."""
    return tents(2 * stride - 1, stride - 1, stride), (stride - 1) // 2


def no_padding(stride):
    """The padding is 0; then the output has K - s rows too many."""
    return right_bilinear(stride)[0], 0


def of_a_convolution(stride):
    """The padding is that of a convolution that keeps the size, (K - 1) / 2; solve the formula for p."""
    kernel, _ = right_bilinear(stride)
    return kernel, (len(kernel) - 1) // 2


def off_centre(stride):
    """The top is not in the middle: indices start at 0, so it is at (K - 1) / 2."""
    kernel, padding = right_bilinear(stride)
    return tents(len(kernel), len(kernel) / 2, stride), padding


def half_size(stride):
    """The tent falls by 1 / s per cell, not by 2 / K: they differ for odd K."""
    kernel, padding = right_bilinear(stride)
    return tents(len(kernel), (len(kernel) - 1) / 2, len(kernel) / 2), padding


def whole_centre(stride):
    """The middle is rounded to an integer; for an even K it lies between two cells."""
    kernel, padding = right_bilinear(stride)
    return tents(len(kernel), len(kernel) // 2, stride), padding


def pyramid(stride):
    """The filter is the minimum of the two tents; multiply them."""
    kernel, padding = right_bilinear(stride)
    row = 1 - abs(np.arange(len(kernel)) - (len(kernel) - 1) / 2) / stride
    return np.minimum.outer(row, row), padding


def normalised(stride):
    """The values are normalised to the sum 1; their sum must be s * s."""
    kernel, padding = right_bilinear(stride)
    return kernel / kernel.sum(), padding


check_exercise(
    my_bilinear,
    right_bilinear,
    st.fixed_dictionaries({"stride": st.integers(1, 6)}),
    mistakes=[
        always_even,
        always_odd,
        no_padding,
        of_a_convolution,
        off_centre,
        half_size,
        whole_centre,
        pyramid,
        normalised,
    ],
)

# %%
# Once their checks print ok, your functions enlarge the photograph; until then, the solutions do.
enlarge = checked(my_zeros_inserted, otherwise=right_up)
kernel, padding = checked(my_bilinear, otherwise=right_bilinear)(4)
eye = small[0, 0, 7:22, 15:35]
show(
    panels({"every 4th pixel": eye, "enlarged": enlarge(eye, kernel, 4, padding)}),
    "15 x 20 pixels become 60 x 80.",
)

# %% [markdown]
# ## Run: a filter that learns
#
# The filter values are weights, and can be trained; Long et al. start from the bilinear filter. Here a filter
# learns to reconstruct the photograph from every 4th pixel, in 300 steps. Predict: how far from the bilinear
# filter does it end? And from random weights?


# %%
def error(y):
    return float(np.sqrt(np.mean((y - photo) ** 2)))


shown = {"16 w, bilinear": 16 * bilinear[0, 0]}
for start in ("bilinear", "random"):
    layer = ConvTranspose2d(1, 1, 7, stride=4, padding=3, bias=False, rng=0).astype(
        "float64"
    )
    if start == "bilinear":
        layer.weight.data = bilinear.copy()
    before = error(layer(small))
    optimizer = mf.optim.Adam(layer, lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        layer.backward(2 * (layer(small) - photo) / photo.size)
        optimizer.step()
    y = layer(small)
    shown[f"16 w, from {start}"] = 16 * layer.weight.data[0, 0]
    print(f"{start:8}: error {before:5.2f} grey levels before, {error(y):5.2f} after")
shown["y, from random"] = y[part]
show(
    panels(shown, columns=2),
    "The bilinear filter hardly changes; from random weights, a pattern of 4 x 4 pixels is still visible.",
)
picks = np.eye(49).reshape(49, 1, 7, 7)  # one filter for each weight
each = [
    mf.functional.conv_transpose2d(small, pick[None], stride=4, padding=3) for pick in picks
]
best = np.linalg.lstsq(np.stack(each, -1).reshape(-1, 49), photo.ravel(), rcond=None)[0]
y = mf.functional.conv_transpose2d(small, best.reshape(1, 1, 7, 7), stride=4, padding=3)
print(f"best of all 7 x 7 filters: error {error(y):5.2f} grey levels")

# %% [markdown]
# The output is linear in the filter, so the optimum can be computed directly, by *least squares*: the last
# line. The bilinear filter is close to it. The random filter is on its way there, but 300 steps are not
# enough.
#
# ## Break it
#
# **A kernel that is no multiple of the stride.** A map of ones is upsampled with stride 2. Which filters
# keep all values inside equal?

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
# What matters is the sum of the weights that are added in a cell. Bilinear weights compensate for unequal
# counts; random ones make a pattern in any case. A multiple of the stride is safer.
#
# **Resize, then convolve.** Others repeat each value first, and then convolve with stride 1 (Odena et al.
# 2016). Predict: does a random filter make a pattern now?

# %%
repeated = np.ones((1, 1, 6, 6)).repeat(2, axis=2).repeat(2, axis=3)  # (1, 1, 12, 12)
resized = mf.functional.conv2d(repeated, rng.normal(size=(1, 1, 3, 3)))
painted = mf.functional.conv_transpose2d(
    np.ones((1, 1, 6, 6)), rng.normal(size=(1, 1, 4, 4)), stride=2
)
show(
    panels(
        {
            "resized, convolved": resized[0, 0, 2:8, 2:8],
            "transposed": painted[0, 0, 4:10, 4:10],
        }
    ),
    "The inside of an upsampled map of ones: constant on the left, a pattern of 2 x 2 cells on the right.",
)
print("products for each input value:", 2 * 2 * 3 * 3, "and", 4 * 4)

# %% [markdown]
# No, because with stride 1 the same sum is computed everywhere. But it takes more products.
#
# **A mistake that hides.** Suppose the zeros are inserted, but the filter is not rotated. Does a test with
# the bilinear filter detect it?

# %%
for name, filters in {"bilinear": bilinear, "random": cases["random, K = 4"]}.items():
    same = np.allclose(filters, filters[:, :, ::-1, ::-1])
    print(f"{name}: the mistake is {'not detected' if same else 'detected'}")

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is a stride of 1/2?</summary>
#
# With one zero between neighbouring inputs, the window moves half the distance between two inputs.
#
# </details>
# <details><summary>2. 4 rows, K = 3, s = 2, p = 1: how many rows does the output have?</summary>
#
# (4 - 1) 2 - 2 + 3 = 7, or 8 with `output_padding` 1.
#
# </details>
# <details><summary>3. How many zeros are around x in the third way?</summary>
#
# K - 1 - p on each side; p itself belongs to the convolution in the other direction.
#
# </details>
# <details><summary>4. Why is this layer called transposed?</summary>
#
# It multiplies by the transposed matrix of a convolution, as the gradient with respect to its input does.
#
# </details>
# <details><summary>5. Why are K = 4, s = 2 and K = 64, s = 32 better choices than K = 3, s = 2?</summary>
#
# If K is a multiple of the stride, every cell inside is covered equally often.
#
# </details>
