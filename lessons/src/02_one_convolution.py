# %% [markdown]
# # 2. One convolution, by loops
#
# **Question.** What is one output value of a convolution, and how many output values are there?
#
# **Minutes:** 12 to read, 1 to run, 40 for the exercises.
#
# **You need** NumPy arrays and loops, and nothing from other lessons.

# %%
import time

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.viz import Sliders, convolution_film, panels, show

# %% [markdown]
# ## The picture
#
# A *convolution* has two operands. The *input* $x$ is an array of $H$ rows and $W$ columns. The
# *filter* $w$, also called kernel, is a small array of $K_H$ rows and $K_W$ columns. A *window* of the
# size of the filter is a part of the input. Each value in the window is multiplied by the filter value
# at the same position, and the products are added. The sum is one output value:
#
# $$y_{ij} = \sum_{a=0}^{K_H-1} \; \sum_{b=0}^{K_W-1} x_{i+a,\,j+b} \; w_{ab}$$
#
# Rows and columns are counted from 0. The window then moves one column to the right, and after the last
# column to the next row. Step through the film below with "next".

# %%
x = np.array([[1.0, 2, 0, 3], [0, 1, 4, 1], [2, 0, 1, 1]])  # 3 rows, 4 columns
w = np.array([[1.0, 2], [0, -1]])  # 2 rows, 2 columns
show(
    convolution_film(x, w),
    "The window visits 2 x 3 positions, and each position gives one value of y.",
)

# %% [markdown]
# In mathematics this sum is called cross-correlation; a convolution in the strict sense rotates the
# filter by 180 degrees first. Networks learn their filters, so the difference does not matter to them,
# and the literature on networks calls the sum above a convolution. So does minifcn.

# %% [markdown]
# ## Predict
#
# Write the answers down before you run the next cell.
#
# 1. The input has 5 rows and 6 columns, the filter 3 rows and 2 columns. What is the shape of $y$?
# 2. The filter is 0 everywhere except for a 1 in its lower right corner. What is $y$?
# 3. All values of the input move one column to the right. What happens to $y$?
#
# `mf.functional.conv2d` takes many images with many channels (both come later in this lesson). An
# array of rows and columns therefore needs two more axes in front: `x[None, None]` has shape
# (1, 1, $H$, $W$).

# %%
rng = np.random.default_rng(0)
x = rng.integers(0, 10, (5, 6)).astype(float)


def convolve(x, w):
    return mf.functional.conv2d(x[None, None], w[None, None])[0, 0]


corner = np.zeros((3, 2))
corner[2, 1] = 1
print("1. shape of y:", convolve(x, corner).shape)

show(
    panels({"x": x, "w": corner, "y": convolve(x, corner)}, boxes={"x": [(2, 1, 3, 5)]}),
    "2. y is the part of x in the box: the filter picks the lower right value of each window.",
)

moved = np.roll(x, 1, axis=1)
w = rng.integers(-2, 3, (3, 2)).astype(float)
same = np.array_equal(convolve(moved, w)[:, 1:], convolve(x, w)[:, :-1])
print("3. y moves one column to the right, too, except for its first column:", same)

# %% [markdown]
# The third answer is the reason why convolutions suit images: an object produces the same values
# wherever it is, only at another position.

# %% [markdown]
# ## Exercise 2.1: the sum
#
# *15 minutes, easy.* Write `my_convolution(x, w)` for one input ($H$, $W$) and one filter ($K_H$, $K_W$):
# two loops over the positions, and the sum of products at each. Do not call a convolution of NumPy,
# SciPy or minifcn.
#
# <details><summary>Hint 1</summary>
#
# The top row of the window goes from 0 to $H - K_H$, which are $H - K_H + 1$ positions.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x[i : i + KH, j : j + KW]` is the window at (i, j), and `*` multiplies element by element.
#
# </details>


# %%
def my_convolution(x, w):
    """Return y of shape (H - KH + 1, W - KW + 1) for x of shape (H, W) and w of shape (KH, KW)."""
    ### BEGIN SOLUTION
    height, width = x.shape
    rows, cols = w.shape
    y = np.zeros((height - rows + 1, width - cols + 1))
    for i in range(height - rows + 1):
        for j in range(width - cols + 1):
            y[i, j] = (x[i : i + rows, j : j + cols] * w).sum()
    return y
    ### END SOLUTION


# %%
# Check of exercise 2.1: run this cell.
def right_convolution(x, w):
    return mf.functional.conv2d(x[None, None], w[None, None])[0, 0]


@st.composite
def inputs_and_filters(draw):
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = rows + draw(st.integers(0, 3)), cols + draw(st.integers(0, 3))
    return draw(whole_numbers(height, width)), draw(whole_numbers(rows, cols))


def rotated(x, w):
    """The filter is rotated by 180 degrees; use it unchanged."""
    return right_convolution(x, w[::-1, ::-1])


def one_less(x, w):
    """The last position along each axis is missing: there are H - KH + 1 of them."""
    return right_convolution(x, w)[:-1, :-1]


def mean(x, w):
    """The result is the mean of the products; it must be their sum."""
    return right_convolution(x, w) / w.size


def swapped(x, w):
    """Rows and columns of the filter are swapped."""
    return right_convolution(x, w.T)


check_exercise(
    my_convolution,
    right_convolution,
    inputs_and_filters(),
    mistakes=[rotated, one_less, mean, swapped],
    example=(np.arange(20.0).reshape(4, 5) % 7, np.array([[1.0, 2], [0, -1]])),
)

# %% [markdown]
# ## What a filter responds to
#
# A grey photograph is an array with one grey level for each *pixel*, from 0 (black) to 255 (white). The
# first filter below subtracts the pixels below a pixel from those above it; the second subtracts the
# pixels on its right from those on its left. Both give 0 where the grey level is constant.
#
# Predict: which of the two responds to the upper edges of the cat's eyes, and which to the side of its
# nose?

# %%
# Every second pixel, the mean of its three channels.
photo = mf.data.photograph("cat")[::2, ::2].mean(axis=2)
above_below = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
left_right = above_below.T
show(
    panels(
        {
            "photo": photo,
            "above - below": convolve(photo, above_below),
            "left - right": convolve(photo, left_right),
        },
        columns=3,
    ),
    "Grey is 0. Horizontal edges stand out in the middle, such as the upper edges of the eyes; vertical "
    "edges on the right, such as the side of the nose.",
)
print(
    "from", photo.shape, "to", convolve(photo, above_below).shape, "pixels (rows, columns)"
)

# %% [markdown]
# ## Stride and padding
#
# Two parameters change which positions the window visits. The *stride* $s$ is its step: with $s = 2$
# it visits every second position, and $y$ has about half as many rows and columns. *Padding* $p$ adds
# $p$ rows or columns of zeros on each side of the input, so that the window can extend beyond its
# edges. Count the positions in the film.

# %%
x = np.array([[1.0, 2, 0, 3, 1], [0, 1, 4, 1, 2], [2, 0, 1, 1, 0], [1, 3, 0, 2, 1]])
w = np.array([[1.0, 0, 2], [0, 1, 0], [-1, 0, 1]])
show(
    convolution_film(x, w, stride=2, padding=1),
    "With padding 1 and stride 2, 4 rows and 5 columns give 2 x 3 values.",
)

# %% [markdown]
# Now along one axis only, with one row for each window. Move the sliders: when does no window contain the
# last value, 7?


# %%
def windows(kernel, stride, padding):
    padded = np.pad(np.arange(1.0, 8), padding)
    count = mf.geometry.Window(kernel, stride, padding).output_size(7)
    read = np.full((count, len(padded)), np.nan)
    for i in range(count):
        start = i * stride
        read[i, start : start + kernel] = padded[start : start + kernel]
    name = f"windows: kernel {kernel}, stride {stride}, padding {padding}"
    figure = panels({"x with its zeros": padded, name: read}, columns=1, width=4)
    return figure, f"{name}: {count} rows"


choices = {"kernel": (2, 3, 4), "stride": (1, 2, 3), "padding": (0, 1)}
show(
    Sliders(windows, choices),
    "A larger kernel makes the rows wider, a larger stride moves them further apart, and padding adds a zero "
    "at both ends.",
)

# %% [markdown]
# ## Exercise 2.2: the size
#
# *5 minutes, easy.* Along one axis, the input has `size` values and the filter `kernel`. How many positions
# does the window have? Write the formula; no array is needed.
#
# <details><summary>Hint 1</summary>
#
# With the zeros there are `size + 2 * padding` values. The first window starts at 0. Where may the
# last one start?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The windows start at 0, $s$, $2s$ and so on, up to that last start. Count the 0, too. `//` divides
# and rounds down.
#
# </details>


# %%
def my_output_size(size, kernel, stride, padding):
    """Return the number of positions of a window along one axis."""
    ### BEGIN SOLUTION
    return (size + 2 * padding - kernel) // stride + 1
    ### END SOLUTION


# %%
# Check of exercise 2.2: run this cell.
def right_size(size, kernel, stride, padding):
    return mf.geometry.Window(kernel, stride, padding).output_size(size)


@st.composite
def windows(draw):
    kernel, stride, padding = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 2)),
    )
    size = max(kernel - 2 * padding, 1) + draw(st.integers(0, 12))
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding}


def one_less(size, kernel, stride, padding):
    """The first position is not counted: add 1."""
    return right_size(size, kernel, stride, padding) - 1


def up(size, kernel, stride, padding):
    """The division rounds up; round down, because every window must fit completely."""
    return right_size(size + stride - 1, kernel, stride, padding)


def one_side(size, kernel, stride, padding):
    """The padding is counted once; it is on both sides, so count it twice."""
    return right_size(size + padding, kernel, stride, 0)


def early(size, kernel, stride, padding):
    """Divide by the stride first, then add 1."""
    return (right_size(size, kernel, 1, padding)) // stride


def no_padding(size, kernel, stride, padding):
    """The padding is missing."""
    return right_size(size + kernel * stride, kernel, stride, 0) - kernel


def no_stride(size, kernel, stride, padding):
    """The stride is missing."""
    return right_size(size, kernel, 1, padding)


def kernel_late(size, kernel, stride, padding):
    """Subtract the kernel before you divide by the stride."""
    return right_size(size + stride, stride, stride, padding) - kernel


check_exercise(
    my_output_size,
    right_size,
    windows(),
    mistakes=[one_less, up, one_side, early, no_padding, no_stride, kernel_late],
)

# %% [markdown]
# ## SAME and VALID
#
# TensorFlow and Keras have names for two kinds of padding. *VALID* is none. *SAME* adds as many zeros as
# $\lceil H / s \rceil$ outputs need. If their number is odd, the end gets one more than the start. Predict: 6
# values, a filter of three ones and stride 2. Does SAME give the same values as `padding=1`?

# %%
zeros = (3 - 1) * 2 + 3 - 6  # 3 outputs need (3 - 1) * 2 + 3 values
ends = {"VALID": (0, 0), "SAME": (zeros // 2, zeros - zeros // 2), "padding=1": (1, 1)}
for name, (start, end) in ends.items():
    row, ones = np.arange(1.0, 7).reshape(1, 1, 1, 6), np.ones((1, 1, 1, 3))
    y = mf.functional.conv2d(row, ones, stride=2, padding=((0, 0), (start, end)))
    print(f"{name:9} {start} zeros at the start, {end} at the end: {y.ravel().astype(int)}")

# %% [markdown]
# The sizes are equal, but all windows are shifted by one value. Weights that were trained with one kind of
# padding need the same kind.

# %% [markdown]
# ## Channels
#
# A colour photograph has three *channels*, for red, green and blue: its array is ($C$, $H$, $W$)
# with $C = 3$. A filter then has one slice for each channel, ($C$, $K_H$, $K_W$), and its products
# are added over all of them: one filter makes one map, however many channels the input has. $O$ filters
# make $O$ maps, which are the channels of the output. All filters together are one array ($O$, $C$,
# $K_H$, $K_W$); each has its own *bias* $b_o$, a value that is added to its whole map.
#
# Predict: the filter below has 1 row and 1 column, with 1 for red and -1/2 for green and blue.
# Where is its map bright?

# %%
cup = mf.data.photograph("cup")[::2, ::2]
channels_first = cup.transpose(2, 0, 1).astype(float)  # (H, W, 3) -> (3, H, W)
red = np.array([1.0, -0.5, -0.5]).reshape(1, 3, 1, 1)  # (O, C, KH, KW)
reddish = mf.functional.conv2d(channels_first[None], red)[0, 0]
show(
    panels({"photo": cup, "red - (green + blue) / 2": reddish}, width=5.5),
    "Saucer, cup and wood contain more red and are bright; the white rim, the spoon and the floor are not.",
)

# %% [markdown]
# ## One, two or three axes
#
# Sound has one axis, an image two, a CT scan three. A convolution is called 1-D, 2-D or 3-D by the number of
# axes along which its window *moves*. Channels do not count: the photograph above has three axes, but the
# window moves along two. The sum is the same in all cases:


# %%
def convolve_all_axes(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape)  # positions, then cells
    return (windows * w).sum(axis=tuple(range(x.ndim, 2 * x.ndim)))


for name, size, kernel in (
    ("sound", (9,), (3,)),
    ("image", (9, 8), (3, 3)),
    ("CT scan", (9, 8, 7), (3, 3, 3)),
):
    x, w = rng.normal(size=size), rng.normal(size=kernel)
    print(f"{x.ndim}-D, {name:8} {size}, filter {kernel}: {convolve_all_axes(x, w).shape}")
x, w = rng.normal(size=(9, 8)), rng.normal(size=(3, 3))
print("2-D as above:", np.allclose(convolve_all_axes(x, w), convolve(x, w)))

# %% [markdown]
# ## Exercise 2.3: all of it
#
# *20 minutes, medium.* Write the complete convolution of one image: channels, bias, stride and padding.
#
# <details><summary>Hint 1</summary>
#
# Make a larger array of zeros and copy x into its middle: `padded[:, p : p + H, p : p + W] = x`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The window of output (i, j) starts at row `i * stride` and column `j * stride` of the padded array.
# Take all channels of the window at once; it then has the shape of one filter, `w[o]`.
#
# </details>


# %%
def my_conv2d(x, w, b, stride, padding):
    """Return y of shape (O, OH, OW) for x (C, H, W), w (O, C, KH, KW) and b (O,)."""
    ### BEGIN SOLUTION
    channels, height, width = x.shape
    filters, _, rows, cols = w.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding))
    padded[:, padding : padding + height, padding : padding + width] = x
    out_rows = (height + 2 * padding - rows) // stride + 1
    out_cols = (width + 2 * padding - cols) // stride + 1
    y = np.zeros((filters, out_rows, out_cols))
    for o in range(filters):
        for i in range(out_rows):
            for j in range(out_cols):
                top, left = i * stride, j * stride
                y[o, i, j] = (
                    padded[:, top : top + rows, left : left + cols] * w[o]
                ).sum() + b[o]
    return y
    ### END SOLUTION


# %%
# Check of exercise 2.3: run this cell.
def right_conv2d(x, w, b, stride, padding):
    return mf.functional.conv2d(x[None], w, b, stride=stride, padding=padding)[0]


@st.composite
def images_and_filters(draw):
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    height, width = rows + draw(st.integers(0, 4)), cols + draw(st.integers(0, 4))
    return {
        "x": draw(whole_numbers(channels, height, width)),
        "w": draw(whole_numbers(filters, channels, rows, cols)),
        "b": draw(whole_numbers(filters)),
        "stride": stride,
        "padding": padding,
    }


def rotated(x, w, b, stride, padding):
    """The filters are rotated by 180 degrees; use them unchanged."""
    return right_conv2d(x, w[:, :, ::-1, ::-1], b, stride, padding)


def no_bias(x, w, b, stride, padding):
    """The bias is missing."""
    return right_conv2d(x, w, 0 * b, stride, padding)


def one_bias(x, w, b, stride, padding):
    """The bias of the first filter is added to all maps; each filter has its own."""
    return right_conv2d(x, w, 0 * b + b[0], stride, padding)


def bias_of_each_product(x, w, b, stride, padding):
    """The bias is added to each product; add it once, to their sum."""
    return right_conv2d(x, w, w[0].size * b, stride, padding)


def unpadded(x, w, b, stride, padding):
    """The padding is missing."""
    return right_conv2d(x, w, b, stride, 0)


def one_sided(x, w, b, stride, padding):
    """All zeros are added below and on the right; half of them belong above and on the left."""
    padded = np.pad(x, ((0, 0), (0, 2 * padding), (0, 2 * padding)))
    return right_conv2d(padded, w, b, stride, 0)


def repeated(x, w, b, stride, padding):
    """The values at the edge are repeated; padding adds zeros."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), mode="edge")
    return right_conv2d(padded, w, b, stride, 0)


def steps_of_one(x, w, b, stride, padding):
    """The window moves by 1 for every stride; it must start at row i * stride."""
    _, rows, cols = right_conv2d(x, w, b, stride, padding).shape
    return right_conv2d(x, w, b, 1, padding)[:, :rows, :cols]


def first_channel(x, w, b, stride, padding):
    """Only the first channel is used; add up the products of all channels."""
    return right_conv2d(x[:1], w[:, :1], b, stride, padding)


check_exercise(
    my_conv2d,
    right_conv2d,
    images_and_filters(),
    mistakes=[
        rotated,
        no_bias,
        one_bias,
        bias_of_each_product,
        unpadded,
        one_sided,
        repeated,
        steps_of_one,
        first_channel,
    ],
    example={
        "x": np.arange(20.0).reshape(1, 4, 5) % 7,
        "w": np.array([[[[1.0, 2], [0, -1]]]]),
        "b": np.array([3.0]),
        "stride": 1,
        "padding": 1,
    },
)

# %%
# Once its check prints ok, your function computes these maps; until then, the solution does.
convolve_image = checked(my_conv2d, otherwise=right_conv2d)
mean = np.full((3, 7, 7), 1 / (3 * 7 * 7))
edges = np.zeros((3, 7, 7))
edges[:, 2:5, 2:5] = left_right
y = convolve_image(channels_first[:, ::2, ::2], np.stack([mean, edges]), np.zeros(2), 1, 3)
show(
    panels({"photo": cup[::2, ::2], "mean of 7 x 7 pixels": y[0], "left - right": y[1]}),
    "Two filters, two maps, as large as the photograph because of the padding of 3.",
)

# %% [markdown]
# ## Break it
#
# **A mistake that hides.** Suppose the code rotates the filter by mistake, and the test uses a filter
# that does not change when it is rotated. Predict both lines.

# %%
for name, w in {"symmetric": np.ones((3, 3)), "asymmetric": above_below}.items():
    same = np.allclose(convolve(photo, w), convolve(photo, w[::-1, ::-1]))
    print(f"{name} filter: the mistake is {'not detected' if same else 'detected'}")

# %% [markdown]
# Therefore test with random filters, as the checks above do, never with ones.
#
# **Values that overflow.** Pixels are stored as `uint8`, integers from 0 to 255. What is 200 + 100?

# %%
pixels = np.array([[200, 100]], dtype=np.uint8)
print("NumPy:  ", (pixels[:, 0] + pixels[:, 1])[0])
try:
    convolve(pixels, np.ones((1, 2)))
except TypeError as error:
    print("minifcn:", error)

# %% [markdown]
# **Loops are slow.** One image of 64 rows and 64 columns, 3 input channels, 8 filters of 3 rows and
# 3 columns: how many multiplications is that, and how long do loops take?

# %% tags=["varies"]
x, w = rng.normal(size=(1, 3, 64, 64)), rng.normal(size=(8, 3, 3, 3))
for algorithm in ("loops", "im2col"):
    mf.functional.conv2d(x, w, algorithm=algorithm)  # the first call takes longer
    started = time.perf_counter()
    y = mf.functional.conv2d(x, w, algorithm=algorithm)
    print(f"{algorithm:7} {1e3 * (time.perf_counter() - started):8.1f} ms")
print(
    f"{y[0].size:,} output values of {w[0].size} products each: {y.size * w[0].size:,} multiplications"
)

# %% [markdown]
# The second algorithm, *im2col*, is one large matrix product. Lesson 4 shows why it is so much faster.
#
# ## Recall
#
# <details><summary>1. What is one output value of a convolution?</summary>
#
# The sum of the products of a window of the input with a filter of the same size, over all channels,
# plus a bias.
#
# </details>
# <details><summary>2. 7 columns, a filter of 3, stride 2, padding 1: how many columns has y?</summary>
#
# (7 + 2 - 3) // 2 + 1 = 4.
#
# </details>
# <details><summary>3. What is the shape of 16 filters of 5 rows and 5 columns for colour images?</summary>
#
# (16, 3, 5, 5).
#
# </details>
# <details><summary>4. Which padding keeps the size if the stride is 1 and the filter has 5 rows?</summary>
#
# 2: without padding there are 4 positions fewer, and 2 zeros on each side make up for them.
#
# </details>
# <details><summary>5. Why is a filter of ones a bad test?</summary>
#
# It does not change when it is rotated or mirrored, so code that does this by mistake passes.
#
# </details>
