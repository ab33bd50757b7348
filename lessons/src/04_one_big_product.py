# %% [markdown]
# # 4. One big product
#
# **Question.** A matrix product does the multiplications of a convolution about a thousand times faster
# than loops do. Why, and what does it cost?
#
# **Minutes:** 13 to read, 1 to run, 50 for the exercises.
#
# **You need** the convolution (lesson 2), backward and the adjoint (lesson 3), and the product of
# two matrices.

# %%
import time

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

import minifcn as mf
from minifcn.checks import check_adjoint, check_exercise, checked, whole_numbers
from minifcn.functional import conv2d, conv2d_input_grad, conv2d_weight_grad
from minifcn.viz import panels, show

# %% [markdown]
# ## The picture
#
# An output value is the sum of the products of a window and the filter. An element of a matrix
# product is the sum of the products of a row and a column. So write the filter as a row, and each
# window as a column. The matrix of all windows is called *im2col*, "image to columns". One matrix
# product then gives all output values at once.

# %%
x = np.array([[1.0, 2, 0, 3], [0, 1, 4, 1], [2, 0, 1, 1]])  # 3 rows, 4 columns
w = np.array([[1.0, 2], [0, -1]])
y = conv2d(x[None, None], w[None, None])[0, 0]  # 2 rows, 3 columns
columns = np.array([x[i : i + 2, j : j + 2].ravel() for i in (0, 1) for j in (0, 1, 2)]).T
show(
    panels(
        {
            "x": x,
            "windows as columns": columns,
            "filter as a row": w.reshape(1, 4),
            "row times columns": w.reshape(1, 4) @ columns,
        },
        boxes={
            "x": [(0, 0, 2, 2), (1, 2, 2, 2)],
            "windows as columns": [(0, 0, 4, 1), (0, 5, 4, 1)],
            "row times columns": [(0, 0, 1, 1), (0, 5, 1, 1)],
        },
        columns=2,
    ),
    "Window 1 is the first column, window 2 the last; they give the first and the last value.",
)
print("convolution:", y.ravel())

# %% [markdown]
# With $C$ channels, a column contains the window of channel 0, then that of channel 1, and so on: $C
# \cdot K_H \cdot K_W$ values, in the order in which `reshape` flattens a filter ($C$, $K_H$,
# $K_W$). With $O$ filters, there are $O$ rows. The product has $O$ rows and one column for each position
# of the window.
#
# ## Predict
#
# The input has 3 channels of 64 x 64, and there are 8 filters of 3 x 3.
#
# 1. What is the shape of the matrix of columns?
# 2. How many times as many values as the input does it have?
# 3. How many multiplications does the product need, and how many do the loops need?

# %%
positions = mf.geometry.Window(3).output_size(64)
print("1. shape:", (3 * 3 * 3, positions * positions))
print(f"2. {3 * 3 * 3 * positions * positions / (3 * 64 * 64):.2f} times as many values")
print(
    f"3. product: {8 * (3 * 3 * 3) * (positions * positions):,} = rows x length x columns"
)
print(f"   loops:   {(8 * positions * positions) * (3 * 3 * 3):,} = output values x window")

# %% [markdown]
# ## Exercise 4.1: windows as columns
#
# *20 minutes, medium.* Write im2col. You may use loops over the positions.
#
# <details><summary>Hint 1</summary>
#
# There are OH = (H - rows) // stride + 1 positions vertically, and OW horizontally by the same formula.
# Number them row by row: position (i, j) is column `i * OW + j`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x[:, top : top + rows, left : left + cols].ravel()` is one column, in the right order.
#
# </details>


# %%
def my_im2col(x, rows, cols, stride):
    """Return columns (C * rows * cols, OH * OW) for x (C, H, W)."""
    ### BEGIN SOLUTION
    channels, height, width = x.shape
    out_rows, out_cols = (height - rows) // stride + 1, (width - cols) // stride + 1
    columns = np.zeros((channels * rows * cols, out_rows * out_cols))
    for i in range(out_rows):
        for j in range(out_cols):
            top, left = i * stride, j * stride
            window = x[:, top : top + rows, left : left + cols]
            columns[:, i * out_cols + j] = window.ravel()
    return columns
    ### END SOLUTION


# %%
# Check of exercise 4.1: run this cell.
def right_columns(x, rows, cols, stride):
    count = len(x) * rows * cols
    picks = np.eye(count).reshape(count, len(x), rows, cols)  # each filter picks one value
    return conv2d(x[None], picks, stride=stride)[0].reshape(count, -1)


@st.composite
def images(draw):
    channels, rows, cols = (draw(st.integers(1, 3)) for _ in range(3))
    height, width = rows + draw(st.integers(0, 4)), cols + draw(st.integers(0, 4))
    return {
        "x": draw(whole_numbers(channels, height, width)),
        "rows": rows,
        "cols": cols,
        "stride": draw(st.integers(1, 3)),
    }


def windows_as_rows(x, rows, cols, stride):
    """Each window is a row; it must be a column."""
    return right_columns(x, rows, cols, stride).T


def channels_last(x, rows, cols, stride):
    """Within a column the channel changes fastest; all values of channel 0 must come first."""
    columns = right_columns(x, rows, cols, stride)
    return columns.reshape(len(x), rows * cols, -1).swapaxes(0, 1).reshape(columns.shape)


def column_by_column(x, rows, cols, stride):
    """Within a column the window is read column by column; read it row by row."""
    columns = right_columns(x, rows, cols, stride)
    return columns.reshape(len(x), rows, cols, -1).swapaxes(1, 2).reshape(columns.shape)


def positions_by_column(x, rows, cols, stride):
    """The positions are numbered column by column; number them row by row."""
    columns = right_columns(x, rows, cols, stride)
    out_cols = mf.geometry.Window(cols, stride).output_size(x.shape[2])
    return columns.reshape(len(columns), -1, out_cols).swapaxes(1, 2).reshape(columns.shape)


def only_reshaped(x, rows, cols, stride):
    """`reshape` alone mixes windows and positions; transpose the axes first."""
    columns = right_columns(x, rows, cols, stride)
    return columns.reshape(len(x), rows * cols, -1).swapaxes(1, 2).reshape(columns.shape)


def no_stride(x, rows, cols, stride):
    """The stride is ignored: the window at (i, j) starts at row i * stride."""
    out_rows = mf.geometry.Window(rows, stride).output_size(x.shape[1])
    out_cols = mf.geometry.Window(cols, stride).output_size(x.shape[2])
    return right_columns(x[:, : out_rows + rows - 1, : out_cols + cols - 1], rows, cols, 1)


check_exercise(
    my_im2col,
    right_columns,
    images(),
    mistakes=[
        windows_as_rows,
        channels_last,
        column_by_column,
        positions_by_column,
        only_reshaped,
        no_stride,
    ],
    example={
        "x": np.array([[[1.0, 2, 0, 3], [0, 1, 4, 1], [2, 0, 1, 1]]]),
        "rows": 2,
        "cols": 2,
        "stride": 1,
    },
)

# %% [markdown]
# ## Exercise 4.2: the product
#
# *10 minutes, easy.* The columns are given. Compute the output of the convolution from them.
#
# <details><summary>Hint 1</summary>
#
# `w.reshape(O, -1)` has one filter in each row.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The product is (O, height * width). `b[:, None]` adds one value to each row. `reshape` comes last.
#
# </details>


# %%
def my_conv_by_product(columns, w, b, height, width):
    """Return y (O, height, width) for columns (C * KH * KW, height * width), w (O, C, KH, KW), b (O,)."""
    ### BEGIN SOLUTION
    y = w.reshape(len(w), -1) @ columns + b[:, None]
    return y.reshape(len(w), height, width)
    ### END SOLUTION


# %%
# Check of exercise 4.2: run this cell.
def right_output(columns, w, b, height, width):
    maps = columns.reshape(1, -1, height, width)
    return conv2d(maps, w.reshape(len(w), -1, 1, 1), b)[0]


@st.composite
def columns_and_filters(draw):
    filters, channels, rows, cols, height, width = (
        draw(st.integers(1, 3)) for _ in range(6)
    )
    return {
        "columns": draw(whole_numbers(channels * rows * cols, height * width)),
        "w": draw(whole_numbers(filters, channels, rows, cols)),
        "b": draw(whole_numbers(filters)),
        "height": height,
        "width": width,
    }


def no_bias(columns, w, b, height, width):
    """The bias is missing."""
    return right_output(columns, w, 0 * b, height, width)


def filters_mixed(columns, w, b, height, width):
    """A row contains values of different filters: reshape w to (O, -1)."""
    mixed = np.ascontiguousarray(w.reshape(-1, len(w)).T)
    return right_output(columns, mixed.reshape(w.shape), b, height, width)


def filters_last_axis_first(columns, w, b, height, width):
    """The filters are flattened in a different order than the windows."""
    other = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
    return right_output(columns, other.reshape(w.shape), b, height, width)


def positions_mixed(columns, w, b, height, width):
    """The product has one row for each filter; do not transpose it before you reshape."""
    y = right_output(columns, w, b, height, width)
    return y.reshape(len(w), -1).T.reshape(y.shape)


def swapped(columns, w, b, height, width):
    """Height and width are swapped."""
    return right_output(columns, w, b, height, width).reshape(len(w), width, height)


def bias_by_column(columns, w, b, height, width):
    """The bias is added along the columns; each row (one filter) has its own: b[:, None]."""
    return (w.reshape(len(w), -1) @ columns + b).reshape(len(w), height, width)


check_exercise(
    my_conv_by_product,
    right_output,
    columns_and_filters(),
    mistakes=[
        no_bias,
        filters_mixed,
        filters_last_axis_first,
        positions_mixed,
        swapped,
        bias_by_column,
    ],
)

# %%
# Once their checks print ok, your functions find edges in the photograph; until then, the solutions do.
im2col = checked(my_im2col, otherwise=right_columns)
product = checked(my_conv_by_product, otherwise=right_output)
grey = mf.data.photograph("cat")[::2, ::2].mean(axis=2)[None]  # (1, 150, 226)
edges = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])[None, None]
both = np.concatenate([edges, edges.swapaxes(2, 3)])  # (2, 1, 3, 3)
y = product(im2col(grey, 3, 3, 1), both, np.zeros(2), 148, 224)
show(
    panels({"photograph": grey[0], "above - below": y[0], "left - right": y[1]}, columns=3),
    "Edges, by one product of a 2 x 9 and a 9 x 33,152 matrix.",
)

# %% [markdown]
# ## Run: how much faster?
#
# The same convolution in three ways: value by value, window by window (as in lesson 2), and as one product.
# Predict how many times as long the loops take.


# %% tags=["varies"]
def by_value(x, w):
    filters, channels, rows, cols = w.shape
    y = np.zeros((filters, x.shape[1] - rows + 1, x.shape[2] - cols + 1))
    for o, i, j in np.ndindex(y.shape):
        for c, a, b in np.ndindex(channels, rows, cols):
            y[o, i, j] += x[c, i + a, j + b] * w[o, c, a, b]
    return y


def by_window(x, w):
    filters, _, rows, cols = w.shape
    y = np.zeros((filters, x.shape[1] - rows + 1, x.shape[2] - cols + 1))
    for o, i, j in np.ndindex(y.shape):
        y[o, i, j] = (x[:, i : i + rows, j : j + cols] * w[o]).sum()
    return y


def windows_as_columns(x, rows, cols):
    windows = sliding_window_view(x, (rows, cols), axis=(1, 2))  # (C, OH, OW, KH, KW)
    ordered = windows.transpose(0, 3, 4, 1, 2)  # (C, KH, KW, OH, OW)
    return ordered.reshape(len(x) * rows * cols, -1)


def one_product(x, w):
    filters, _, rows, cols = w.shape
    y = w.reshape(filters, -1) @ windows_as_columns(x, rows, cols)
    return y.reshape(filters, x.shape[1] - rows + 1, x.shape[2] - cols + 1)


def milliseconds(function, *arguments, repeats=3):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


rng = np.random.default_rng(0)
x, w = rng.normal(size=(3, 64, 64)), rng.normal(size=(8, 3, 3, 3))
product = milliseconds(one_product, x, w, repeats=20)
for name, took in {
    "by value": milliseconds(by_value, x, w, repeats=1),
    "by window": milliseconds(by_window, x, w, repeats=1),
    "one product": product,
}.items():
    print(f"{name:11} {took:8.2f} ms: {took / product:7.1f} times as long as the product")
print("same result:", np.allclose(by_value(x, w), one_product(x, w)))

# %% [markdown]
# **Why?** The multiplications are the same, so they cannot be the reason. The next cell measures the time
# for one multiplication when one call of NumPy does 27, 2,700 or 270,000 of them, and in a product of two
# large matrices.

# %% tags=["varies"]
for count in (27, 2_700, 270_000):
    a, b = rng.normal(size=count), rng.normal(size=count)
    took = milliseconds(np.dot, a, b, repeats=200)
    print(
        f"{count:11,} in a call: {1e6 * took:12,.1f} ns, {1e6 * took / count:6.3f} ns each"
    )
a, b = rng.normal(size=(500, 500)), rng.normal(size=(500, 500))
took = milliseconds(np.matmul, a, b, repeats=20)
print(f"{500**3:11,} in a call: {1e6 * took:12,.1f} ns, {1e6 * took / 500**3:6.3f} ns each")

# %% [markdown]
# A call takes some hundred nanoseconds before it multiplies anything. Loops pay this for each window,
# or even for each value; the product pays it once. Per multiplication, the matrices of the last line are
# also faster than the long vectors before them. Each element of a vector is used once. Each element of a
# matrix is used 500 times, mostly while it is in the *cache*, the small fast memory next to the core.
#
# ## What it costs: memory
#
# `sliding_window_view` needs no loop and copies nothing. It returns a *view*: the same
# memory, read in a different order. The distance in bytes to the next element along each axis is
# given by its *strides*, which are not the strides of a convolution.

# %%
windows = sliding_window_view(x, (3, 3), axis=(1, 2))
ordered = windows.transpose(0, 3, 4, 1, 2)
columns = ordered.reshape(27, -1)
arrays = {"x": x, "windows": windows, "ordered": ordered, "columns": columns}
for name, array in arrays.items():
    print(f"{name:8} {array.shape!s:20} shares memory with x: {np.shares_memory(x, array)}")
print("strides of x:      ", x.strides)
print("strides of windows:", windows.strides)

# %% [markdown]
# The next position down is 512 bytes away, and so is the next element down in a window: it is the same
# step. But a matrix product needs a matrix, with one stride for its rows and one for its columns, and
# no two strides describe all windows. So `reshape` copies. Each value of $x$ is stored once for each window
# that contains it: $K_H \cdot K_W$ times, except near the border.

# %%
print(f"x {x.nbytes:,} bytes, columns {columns.nbytes:,} bytes")  # float64: 8 bytes each
values = 64 * 500 * 375  # 64 channels, float32: 4 bytes each
print(
    f"second layer of VGG16, 500 x 375: x {4e-6 * values:.1f} MB, columns {9 * 4e-6 * values:.1f} MB"
)

# %% [markdown]
# ## Exercise 4.3: col2im
#
# *20 minutes, hard.* Backward needs the adjoint of im2col, *col2im*: each window is **added** to the image at
# the position it came from. A loop over the positions would be slow again. Loop over the rows and columns of
# the *filter* instead, and add the values of all positions at once.
#
# <details><summary>Hint 1</summary>
#
# `windows = columns.reshape(C, rows, cols, OH, OW)`: `windows[:, a, b]` has the value at row a, column b of
# each window.
#
# </details>
# <details><summary>Hint 2</summary>
#
# These values belong to rows a, a + stride, and so on, OH of them: a slice with a step.
#
# </details>


# %%
def my_col2im(columns, shape, rows, cols, stride):
    """Return x of shape (C, H, W), given as shape, for columns (C * rows * cols, OH * OW)."""
    ### BEGIN SOLUTION
    channels, height, width = shape
    out_rows, out_cols = (height - rows) // stride + 1, (width - cols) // stride + 1
    x = np.zeros(shape)
    windows = columns.reshape(channels, rows, cols, out_rows, out_cols)
    for a in range(rows):
        for b in range(cols):
            below, right = a + out_rows * stride, b + out_cols * stride
            x[:, a:below:stride, b:right:stride] += windows[:, a, b]
    return x
    ### END SOLUTION


# %%
# Check of exercise 4.3: run this cell.
def right_image(columns, shape, rows, cols, stride):
    picks = np.eye(len(columns)).reshape(len(columns), shape[0], rows, cols)
    out_rows = mf.geometry.Window(rows, stride).output_size(shape[1])
    maps = columns.reshape(1, len(columns), out_rows, -1)
    return conv2d_input_grad(maps, picks, input_size=shape[1:], stride=stride)[0]


@st.composite
def columns_and_shapes(draw):
    channels, rows, cols, out_rows, out_cols, stride = (
        draw(st.integers(1, 3)) for _ in range(6)
    )
    unread = st.integers(0, stride - 1)
    height = (out_rows - 1) * stride + rows + draw(unread)
    width = (out_cols - 1) * stride + cols + draw(unread)
    return {
        "columns": draw(whole_numbers(channels * rows * cols, out_rows * out_cols)),
        "shape": (channels, height, width),
        "rows": rows,
        "cols": cols,
        "stride": stride,
    }


def last_window(columns, shape, rows, cols, stride):
    """The last window overwrites what other windows have added: use +=."""
    x = np.zeros(shape)
    for position in range(columns.shape[1]):
        alone = np.zeros(columns.shape)
        alone[:, position] = 1
        touched = right_image(alone, shape, rows, cols, stride) > 0
        x = np.where(touched, right_image(columns * alone, shape, rows, cols, stride), x)
    return x


def averaged(columns, shape, rows, cols, stride):
    """The sum is divided by the number of windows; the adjoint only adds."""
    count = right_image(np.ones(columns.shape), shape, rows, cols, stride)
    return right_image(columns, shape, rows, cols, stride) / np.maximum(count, 1)


def no_stride(columns, shape, rows, cols, stride):
    """The stride is ignored: the window at (i, j) starts at row i * stride."""
    out_rows = mf.geometry.Window(rows, stride).output_size(shape[1])
    out_cols = mf.geometry.Window(cols, stride).output_size(shape[2])
    x, small = np.zeros(shape), (shape[0], out_rows + rows - 1, out_cols + cols - 1)
    x[:, : small[1], : small[2]] = right_image(columns, small, rows, cols, 1)
    return x


def channels_last(columns, shape, rows, cols, stride):
    """Within a column all values of channel 0 come first: reshape it to (C, rows, cols)."""
    other = columns.reshape(rows * cols, shape[0], -1).swapaxes(0, 1)
    return right_image(other.reshape(columns.shape), shape, rows, cols, stride)


def positions_by_column(columns, shape, rows, cols, stride):
    """The positions are numbered row by row: position (i, j) is column i * OW + j."""
    out_rows = mf.geometry.Window(rows, stride).output_size(shape[1])
    other = columns.reshape(len(columns), -1, out_rows).swapaxes(1, 2)
    return right_image(other.reshape(columns.shape), shape, rows, cols, stride)


check_exercise(
    my_col2im,
    right_image,
    columns_and_shapes(),
    mistakes=[last_window, averaged, no_stride, channels_last, positions_by_column],
    example={
        "columns": np.arange(24.0).reshape(4, 6) % 7,
        "shape": (1, 3, 4),
        "rows": 2,
        "cols": 2,
        "stride": 1,
    },
)

# %% [markdown]
# The next cell proves two claims. First, col2im is the adjoint of im2col: $\langle \mathrm{im2col}\,x,\, c
# \rangle = \langle x,\, \mathrm{col2im}\,c \rangle$ for all $x$ and $c$; `check_adjoint` prints nothing if
# this holds. Second, the whole backward pass consists of two more products; they are compared with minifcn's
# functions.


# %%
# Once its check prints ok, your function is used here; until then, the solution is.
col2im = checked(my_col2im, otherwise=right_image)

check_adjoint(
    lambda x: windows_as_columns(x, 3, 3),
    lambda c: col2im(c, (3, 64, 64), 3, 3, 1),
    x.shape,
)
g = rng.normal(size=(8, 62, 62))  # gradient with respect to the output
dw = g.reshape(8, -1) @ columns.T
dx = col2im(w.reshape(8, -1).T @ g.reshape(8, -1), x.shape, 3, 3, 1)
right_dw = conv2d_weight_grad(x[None], g[None], kernel_size=3)
right_dx = conv2d_input_grad(g[None], w, input_size=(64, 64))[0]
print("dw:", np.allclose(dw.reshape(w.shape), right_dw), " dx:", np.allclose(dx, right_dx))

# %% [markdown]
# ## What the library does: chunks
#
# The columns are not needed all at once. Compute those of 8 rows of positions, a *chunk*, multiply,
# and discard them before the next chunk. Predict: how many bytes does this need, and is it slower?


# %% tags=["varies"]
def in_chunks(x, w, height=8):
    filters, _, rows, cols = w.shape
    y = np.empty((filters, x.shape[1] - rows + 1, x.shape[2] - cols + 1), x.dtype)
    for top in range(0, y.shape[1], height):
        y[:, top : top + height] = one_product(x[:, top : top + height + rows - 1], w)
    return y


def with_minifcn(x, w):
    return conv2d(x[None], w, algorithm="im2col")[0]


x = rng.normal(size=(64, 256, 256)).astype(np.float32)
w = rng.normal(size=(64, 64, 3, 3)).astype(np.float32)
print(f"x:                {x.nbytes:12,} bytes")
print(f"all columns:      {windows_as_columns(x, 3, 3).nbytes:12,} bytes")
print(f"those of a chunk: {windows_as_columns(x[:, :10], 3, 3).nbytes:12,} bytes")
for name, way in {
    "all at once": one_product,
    "in chunks": in_chunks,
    "minifcn": with_minifcn,
}.items():
    print(f"{name:11} {milliseconds(way, x, w, repeats=10):6.1f} ms")
print("same result:", np.allclose(one_product(x, w), with_minifcn(x, w), atol=1e-3))

# %% [markdown]
# Working in chunks needs a small part of the memory and hardly more time, often less: the columns of a chunk
# are still in the cache when the product reads them. minifcn does the same. Its chunks are a few megabytes
# large, and all cores work at the same time, each on its own chunk.
#
# ## Break it
#
# **A reshape too early.** `windows` has the axes ($C$, $O_H$, $O_W$, $K_H$, $K_W$). Suppose one
# forgets `transpose` and reshapes directly. Predict: is there an error?

# %%
photo = mf.data.photograph("cat")[::2, ::2].mean(axis=2)[None]  # (1, H, W)
edges = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]).reshape(1, 9)
windows = sliding_window_view(photo, (3, 3), axis=(1, 2))
height, width = windows.shape[1:3]
right = (edges @ windows.transpose(0, 3, 4, 1, 2).reshape(9, -1)).reshape(height, width)
wrong = (edges @ windows.reshape(9, -1)).reshape(height, width)
show(
    panels({"with transpose": right, "without": wrong}),
    "Edges on the left; noise on the right, of the same shape and without any error.",
)

# %% [markdown]
# A correct shape proves nothing. Compare values.
#
# **There and back.** Is col2im of im2col the image again? Predict for an image of ones.

# %%
ones = np.ones((1, 5, 6))
back = col2im(windows_as_columns(ones, 3, 3), ones.shape, 3, 3, 1)
show(
    panels({"image": ones[0], "there and back": back[0]}),
    "Each pixel is multiplied by the number of windows that cover it: the adjoint is not the inverse.",
)

# %% [markdown]
# **A filter of 1 x 1.** How much memory do its columns need?

# %%
pixels = np.ascontiguousarray(x).reshape(64, -1)  # one channel in each row
print("they are x itself:", np.shares_memory(x, pixels))
print("same values:      ", np.array_equal(pixels, windows_as_columns(x, 1, 1)))

# %% [markdown]
# ## Recall
#
# <details><summary>1. What is a column of im2col, and how many are there?</summary>
#
# A window, written as $C \cdot K_H \cdot K_W$ values; one for each position of the window.
#
# </details>
# <details><summary>2. Why is the product so much faster?</summary>
#
# It is one call instead of one for each value or window, and it uses values in the cache many times.
#
# </details>
# <details><summary>3. How much memory do the columns need for a filter of 5 x 5?</summary>
#
# About 25 times that of the input, unless they are computed in chunks.
#
# </details>
# <details><summary>4. When does NumPy copy: for the view, for transpose, or for reshape?</summary>
#
# For reshape, when no strides describe the new order.
#
# </details>
# <details><summary>5. Which products are dw and dx?</summary>
#
# dw is g times the transposed columns. dx is col2im of the transposed filters times g.
#
# </details>
