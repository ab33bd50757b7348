# %% [markdown]
# # 12. Fewer multiplications, and the same code on a GPU
#
# **Question.** Can a convolution give the same result with a quarter of the multiplications, and is it then
# four times as fast?
#
# **Minutes:** 15 to read, 1 to run, 40 for the exercises.
#
# **You need** what a convolution is (lesson 2), how it becomes one matrix product (lesson 4), and softmax
# (lesson 6). A GPU is not needed. This lesson is optional: nothing in the course depends on it.

# %%
import time

import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import CheckFailedError, check_exercise, checked, whole_numbers
from minifcn.viz import panels, show

# %% [markdown]
# ## The picture
#
# Take four values $d_0 \ldots d_3$ of a row of data, and a filter of three, $g_0, g_1, g_2$. The filter
# fits at two positions:
#
# $$y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2, \qquad y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2$$
#
# These are six multiplications. Four are enough (Winograd 1980). Two of the four are
#
# $$m_2 = (d_1 + d_2) \, \frac{g_0 + g_1 + g_2}{2}, \qquad m_3 = (d_2 - d_1) \, \frac{g_0 - g_1 + g_2}{2}$$
#
# Their sum contains two of the three terms of $y_0$, and their difference two of $y_1$; each has one term too
# many. The sums and halves of the filter are not counted: they are computed once, for all positions in an
# image. Only products of data and filter are counted.

# %%
d, g = np.array([4, 2, 1, 3]), np.array([1, 3, -1])
m2 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2
m3 = (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
y = np.array([d[:3] @ g, d[1:] @ g])
show(
    panels({"d": d, "g": g, "m2 ± m3": np.array([m2 + m3, m2 - m3]), "y": y}),
    "The sum and the difference of two products are not yet y: two products are missing.",
)

# %% [markdown]
# ## Exercise 12.1: four products instead of six
#
# *15 minutes, hard.* Find the other two products, $m_1$ and $m_4$, and compute $y_0$ and $y_1$. The check
# counts the products of data and filter: compute $m_2$ and $m_3$ once each, and use them twice.
#
# <details><summary>Hint 1</summary>
#
# Multiply out: $m_2 + m_3 = d_1 g_1 + d_2 (g_0 + g_2)$. What is missing in $y_0$, and what is too much?
#
# </details>
# <details><summary>Hint 2</summary>
#
# $y_0 - m_2 - m_3 = d_0 g_0 - d_2 g_0$, which is one product. Do the same with $y_1 - m_2 + m_3$.
#
# </details>


# %%
def my_four_products(d, g):
    """Return y0 and y1 for four data d and a filter g of three, by four products of data and filter."""
    ### BEGIN SOLUTION
    m1 = (d[0] - d[2]) * g[0]
    m2 = (d[1] + d[2]) * ((g[0] + g[1] + g[2]) / 2)
    m3 = (d[2] - d[1]) * ((g[0] - g[1] + g[2]) / 2)
    m4 = (d[1] - d[3]) * g[2]
    return m1 + m2 + m3, m2 - m3 - m4
    ### END SOLUTION


# %%
# Check of exercise 12.1: run this cell.
class Number:
    """A number that records its origin, and counts the products of data and filter."""

    def __init__(self, value, source, products):
        self.value, self.source, self.products = value, source, products

    def plus(self, other, sign=1):
        if isinstance(other, Number):
            source = self.source if self.source == other.source else "sum"
            return Number(self.value + sign * other.value, source, self.products)
        return Number(self.value + sign * other, self.source, self.products)

    def times(self, other):
        if not isinstance(other, Number):  # a constant
            return Number(self.value * other, self.source, self.products)
        if self.source == other.source == "filter":  # once for all positions
            return Number(self.value * other.value, "filter", self.products)
        self.products.append(1)
        return Number(self.value * other.value, "product", self.products)

    __add__ = __radd__ = plus
    __mul__ = __rmul__ = times

    def __sub__(self, other):
        return self.plus(other, -1)

    def __rsub__(self, other):
        return self.times(-1) + other

    def __truediv__(self, other):
        return self.times(1 / other)

    def __neg__(self):
        return self.times(-1)

    def __float__(self):
        return float(self.value)


def run(function, case):
    products = []
    d, g = (
        np.array([Number(float(value), source, products) for value in values])
        for values, source in zip(case, ("data", "filter"), strict=True)
    )
    y = function(d, g)
    if len(products) != 4:
        raise CheckFailedError(
            f"{len(products)} products of data and filter were computed; expected 4"
        )
    return None if y is None else [float(value) for value in y]


def right_two(d, g, first=-1, last=-1, fourth=-1):
    m1, m4 = (d[0] + first * d[2]) * g[0], (d[1] + last * d[3]) * g[2]
    sums = ((g[0] + g[2]) + g[1]) * 0.5, ((g[0] + g[2]) - g[1]) * 0.5
    m2, m3 = (d[1] + d[2]) * sums[0], (d[2] - d[1]) * sums[1]
    return m1 + m2 + m3, m2 - m3 + fourth * m4


def definition(d, g):
    """These are six products, as in the definition: compute four, and use m2 and m3 twice."""
    return [sum(d[i + a] * g[a] for a in range(3)) for i in range(2)]


def fourth_added(d, g):
    """The sign of m4 is wrong: look at d3 in y1."""
    return right_two(d, g, fourth=1)


def first_sum(d, g):
    """m1 adds d2 times g0; subtract it, because m2 + m3 contains it already."""
    return right_two(d, g, first=1)


def last_sum(d, g):
    """m4 adds d1 and d3; it must be their difference."""
    return right_two(d, g, last=1)


def reversed_filter(d, g):
    """The filter is reversed; the first term of y0 is d0 times g0."""
    return right_two(d, g[::-1])


def swapped(d, g):
    """y0 and y1 are swapped."""
    return right_two(d, g)[::-1]


def not_halved(d, g):
    """m2 and m3 are twice as large as they should be: halve their filters."""
    m2, m3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]), (d[2] - d[1]) * (g[0] - g[1] + g[2])
    return (d[0] - d[2]) * g[0] + m2 + m3, m2 - m3 - (d[1] - d[3]) * g[2]


check_exercise(
    my_four_products,
    right_two,
    st.tuples(whole_numbers(4), whole_numbers(3)),
    run=run,
    mistakes=[
        definition,
        fourth_added,
        first_sum,
        last_sum,
        reversed_filter,
        swapped,
        not_halved,
    ],
)

# %% [markdown]
# ## Three small matrices
#
# This algorithm is called *F(2, 3)*: 2 outputs, a filter of 3. It can be written with three matrices (which
# contain the answer to exercise 12.1): $G$ transforms the filter, $B^T$ the data, the results are multiplied
# element by element ($\odot$), and $A^T$ computes the outputs:
#
# $$y = A^T \, [\, (G g) \odot (B^T d) \,]$$

# %%
AT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
BT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
show(
    panels({"A^T": AT, "G": G, "B^T": BT}),
    "All values are 0, 1, -1 or halves: these transforms need only additions and halving.",
)
print("by four products:", AT @ ((G @ g) * (BT @ d)), "by definition:", y)

# %% [markdown]
# In two dimensions $d$ is a *tile* of 4 x 4 of the data, and $g$ a filter of 3 x 3. First all columns are
# transformed, then all rows. Each tile gives 2 x 2 outputs, so neighbouring tiles overlap by two rows or two
# columns. This is *F(2 x 2, 3 x 3)*:
#
# $$Y = A^T \, [\, (G g G^T) \odot (B^T d B) \,] \, A$$
#
# Predict, for one tile: how many multiplications does $\odot$ need, and how many the definition?

# %%
rng = np.random.default_rng(0)
image, g = rng.integers(0, 10, (6, 6)), rng.integers(-3, 4, (3, 3))
by_tiles = np.zeros((4, 4))
for i in (0, 2):
    for j in (0, 2):
        tile = image[i : i + 4, j : j + 4]
        products = (G @ g @ G.T) * (BT @ tile @ BT.T)  # element by element
        by_tiles[i : i + 2, j : j + 2] = AT @ products @ AT.T
show(
    panels(
        {"data": image, "g": g, "Y": by_tiles},
        boxes={"data": [(0, 0, 4, 4), (0, 2, 4, 4)], "Y": [(0, 0, 2, 2), (0, 2, 2, 2)]},
    ),
    "Two of the four tiles: each gives the outputs in the box with its number; they overlap in two columns.",
)
print(f"a tile: {products.size} multiplications; by definition: {2 * 2 * g.size}")
whole = mf.functional.conv2d(image[None, None].astype(float), g[None, None].astype(float))
print("exactly equal:", np.array_equal(by_tiles, whole[0, 0]))

# %% [markdown]
# On integers the result is exact, because halving is exact. Over $C$ channels the products of a tile
# are added before $A^T$.
#
# Larger tiles save more. For $m \times m$ outputs a tile has $m + 2$ rows and columns, and one product for
# each of its $(m + 2)^2$ values.

# %%
print("F(m x m, 3 x 3)   products   by definition   ratio")
for m in (1, 2, 4, 6):
    print(f"m = {m}  {(m + 2) ** 2:17}{9 * m * m:16}   {9 * m * m / (m + 2) ** 2:.2f}")

# %% [markdown]
# ## Exercise 12.2: count
#
# *10 minutes, easy.* A layer has `channels` input channels and `filters` filters of 3 x 3; its output has
# `height` rows and `width` columns. How many products of data and filter does it compute with F(m x m, 3 x
# 3)? Tiles at the end may extend beyond the output; they are computed completely.
#
# <details><summary>Hint</summary>
#
# How many tiles cover the output, if the last ones may extend beyond it? Each tile has $(m + 2)^2$ products
# for each pair of a channel and a filter.
#
# </details>


# %%
def my_products(channels, filters, height, width, m):
    """Return the number of products of data and filter."""
    ### BEGIN SOLUTION
    tiles = -(-height // m) * -(-width // m)  # rounded up
    return tiles * (m + 2) ** 2 * channels * filters
    ### END SOLUTION


# %%
# Check of exercise 12.2: run this cell.
def tiles_of(height, width, m):
    return len(range(0, height, m)) * len(range(0, width, m))


def right_products(channels, filters, height, width, m):
    pairs = np.ones((filters, channels))
    return int(tiles_of(height, width, m) * pairs.sum()) * (m + 2) ** 2


layers = st.fixed_dictionaries(
    {name: st.integers(1, 4) for name in ("channels", "filters")}
    | {name: st.integers(1, 9) for name in ("height", "width")}
    | {"m": st.sampled_from([2, 4])}
)


def whole_tiles(channels, filters, height, width, m):
    """Tiles that extend beyond the output are left out; they are needed, so round up."""
    return (height // m) * (width // m) * (m + 2) ** 2 * channels * filters


def by_area(channels, filters, height, width, m):
    """The area is rounded up; round up rows and columns separately."""
    return -(-height * width // m**2) * (m + 2) ** 2 * channels * filters


def small_tiles(channels, filters, height, width, m):
    """A tile has m + 2 rows and columns, not m."""
    return tiles_of(height, width, m) * m**2 * channels * filters


def by_definition(channels, filters, height, width, m):
    """This is the count of the definition: 9 products for each output."""
    return height * width * 9 * channels * filters


def one_side(channels, filters, height, width, m):
    """Only one row of the tile is counted; a tile has (m + 2) x (m + 2) products."""
    return tiles_of(height, width, m) * (m + 2) * channels * filters


def shared(channels, filters, height, width, m):
    """Each pair of a channel and a filter has its own products: multiply by both."""
    return tiles_of(height, width, m) * (m + 2) ** 2 * filters


def added(channels, filters, height, width, m):
    """Channels and filters are added; every filter uses every channel, so multiply them."""
    return tiles_of(height, width, m) * (m + 2) ** 2 * (channels + filters)


check_exercise(
    my_products,
    right_products,
    layers,
    mistakes=[
        whole_tiles,
        by_area,
        small_tiles,
        by_definition,
        one_side,
        shared,
        added,
    ],
)

# %% [markdown]
# ## Run: is it faster?
#
# `mf.functional.conv2d` has both: `"im2col"` is the matrix product of lesson 4, with all
# multiplications of the definition; `"winograd"` is F(4 x 4, 3 x 3), with a quarter of them. Its matrices
# contain other values than 0, 1 and -1, so its transforms multiply. $B^T d B$ is a linear map of the 36
# values of a tile: a matrix of 36 x 36 for each channel, and on the way back 16 x 36 for each filter. Two
# passes with small matrices would need fewer multiplications, but one large product is faster (lesson 4).
#
# The last two columns give the reduction in multiplications, without and with these transforms.
# (Filters are transformed once.) Predict: which layers are four times as fast?


# %% tags=["varies"]
def fastest(*functions):
    """Return the minimum of 20 times of each function, in milliseconds, measured alternately."""
    times = [[] for _ in functions]
    for _ in range(20):
        for function, mine in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            mine.append(1000 * (time.perf_counter() - started))
    return [min(mine) for mine in times]


threads = mf.num_threads()
mf.set_num_threads(1)  # one core, because others may be busy
print("                                             products:  with transforms:")
print("channels  size    im2col   winograd   speedup  times fewer  times fewer")
for channels, size in ((4, 112), (16, 112), (64, 56), (256, 56)):
    x = rng.standard_normal((1, channels, size, size), np.float32)
    w = rng.standard_normal((channels, channels, 3, 3), np.float32)
    one, other = fastest(
        lambda x=x, w=w: mf.functional.conv2d(x, w, padding=1, algorithm="im2col"),
        lambda x=x, w=w: mf.functional.conv2d(x, w, padding=1, algorithm="winograd"),
    )
    direct, products = 144 * channels**2, 36 * channels**2  # of a tile
    transforms = (36 * 36 + 16 * 36) * channels
    print(
        f"{channels:8}{size:6}{one:7.2f} ms{other:8.2f} ms{one / other:10.2f}"
        f"{direct / products:11.2f}{direct / (products + transforms):13.2f}"
    )
mf.set_num_threads(threads)

a = rng.standard_normal((1024, 1024), np.float32)
copying, multiplying = fastest(a.copy, lambda: a @ a)
print(f"1024 x 1024 values: {1e-6 * a.size / copying:.1f} copied in a nanosecond,")
print(f"{1e-6 * 1024**3 / multiplying:.1f} multiplied in a nanosecond, on all cores")

# %% [markdown]
# None. With few channels it is slower, because the transforms cost more than they save. With many channels
# they matter less, but the time does not follow the last column, either. Transformed values are written to
# memory and read again, and the last lines show that a computer multiplies much faster than it copies.
# The number of arithmetic operations, *FLOPs*, does not determine the time. So measure. By default
# (`algorithm="auto"`) minifcn chooses by rules that are based on measurements.
#
# ## The price: rounding
#
# Larger tiles save more multiplications, but lose accuracy. *float32* has about 7 digits. Predict: how many
# remain? The next cell computes the matrices for tiles of any size.
#
# <details><summary>Optional: how are the matrices found?</summary>
#
# Choose some points, such as 0, 1, -1, 2. The row of $G$ for a point $p$
# contains the powers $1, p, p^2$, and its row of $A$ those up to $p^{m-1}$. A last row has a 1 at the highest
# power only. $B^T$ follows from a condition: $g_j$ is multiplied by $d_l$ in $y_i$ exactly if $l = i + j$. So
# $\sum_k A_{ki} \, G_{kj} \, (B^T)_{kl}$ must be 1 then, and 0 otherwise: a linear system for $B^T$. Larger
# tiles need more points, and so higher powers. (This is the method of Toom and Cook.)
#
# </details>


# %%
def matrices(m):
    """Return A^T, G and B^T of F(m, 3); they may differ from those above by factors."""
    points = np.array([0, 1, -1, 2, -2, 0.5, -0.5, 3, -3])[: m + 1]
    last = [np.eye(m)[-1:], np.eye(3)[-1:]]  # a 1 at the highest power only
    A = np.concatenate([points[:, None] ** np.arange(m), last[0]])
    G = np.concatenate([points[:, None] ** np.arange(3), last[1]])
    i, j, k = np.ogrid[:m, :3, : m + 2]
    sums = np.einsum("ki,kj->ijk", A, G).reshape(3 * m, m + 2)
    wanted = (i + j == k).reshape(3 * m, m + 2)  # y[i] contains g[j] times d[i + j]
    return A.T, G, np.linalg.lstsq(sums, wanted.astype(float), rcond=None)[0]


filters = rng.standard_normal((500, 3, 3))
print("largest error in float32, relative to the largest output")
for m in (2, 4, 6, 8):
    data = rng.standard_normal((500, m + 2, m + 2))
    windows = np.lib.stride_tricks.sliding_window_view(data, (3, 3), axis=(1, 2))
    exact = np.einsum("tijab,tab->tij", windows, filters)  # float64
    d32, g32, w32 = (array.astype(np.float32) for array in (data, filters, windows))
    at, gm, bt = (matrix.astype(np.float32) for matrix in matrices(m))
    winograd = at @ ((gm @ g32 @ gm.T) * (bt @ d32 @ bt.T)) @ at.T
    direct = np.einsum("tijab,tab->tij", w32, g32)
    one, other = (abs(y - exact).max() / abs(exact).max() for y in (direct, winograd))
    print(f"F({m} x {m}, 3 x 3): {other:.1e}; by definition: {one:.1e}")

# %% [markdown]
# The error grows with the tile, from the seventh digit to about the fourth: at 8 x 8 there is the point 3,
# and $3^7 = 2187$. The transforms grow, too: F(6 x 6, 3 x 3) needs a matrix of 64 x 64 for each tile and
# channel. minifcn uses no tiles larger than F(4 x 4, 3 x 3).
#
# ## The same code on a GPU
#
# A *GPU* is a processor with thousands of small cores and its own memory. *CuPy* is a library with
# NumPy's function names, whose arrays are in the GPU's memory. One line lets a function work with both: it
# determines the library of its array, and calls it `xp`.


# %%
def softmax(scores):
    xp = mf.array_module(scores)  # numpy, or cupy
    powers = xp.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


x = rng.standard_normal((1, 21, 256, 256), np.float32)
error = abs(softmax(x).sum(axis=1) - 1).max()
print(
    f"xp is numpy: {mf.array_module(x) is np}; the sums are 1, with an error of {error:.1e}"
)

# %% [markdown]
# All layers, losses, metrics and optimisers of minifcn are written like this. `model.to("cuda")` moves a
# network, and `mf.to_device(x, "cuda")` its input.
#
# **Measuring time.** A call to the GPU returns when the work is *queued*, not when it is done. A clock
# that is read then measures only the queueing. So call the function once before, because the first call
# compiles it, and read the clock after `synchronize()`, which waits for the GPU.

# %% tags=["varies"]
for device in ("cpu", "cuda"):
    try:
        moved = mf.to_device(x, device)
    except ValueError as error:
        print(f"{device}: not run: {error}")
        continue
    xp = mf.array_module(moved)
    wait = xp.cuda.Device().synchronize if xp is not np else lambda: None
    softmax(moved)  # the first call
    wait()
    started = time.perf_counter()
    softmax(moved)
    returned = time.perf_counter() - started
    wait()
    done = time.perf_counter() - started
    print(
        f"{device}: returned after {1000 * returned:.2f} ms, done after {1000 * done:.2f} ms"
    )

# %% [markdown]
# ## Exercise 12.3: code for both
#
# *15 minutes, medium.* This function subtracts each channel's mean, adds a border of zeros to the map, and
# multiplies its columns by values that rise linearly from 0 (first column, border included) to 1 (last). For
# x on a GPU it fails: three times, `np.` makes an array in the CPU's memory. It is also slow: `float(...)`
# waits for the GPU once per channel.


# %%
def fade_numpy(x):
    """Return (C, H + 2, W + 2) for x (C, H, W)."""
    means = np.array([float(channel.mean()) for channel in x])
    padded = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    padded[:, 1:-1, 1:-1] = x - means[:, None, None]
    return padded * np.linspace(0, 1, padded.shape[2])


print(fade_numpy(np.array([[[1.0, 2, 6]]]))[0])

# %% [markdown]
# Write it with `xp`, which is an argument, and without `float`. The check runs it twice: with NumPy, and
# with arrays that are as strict as CuPy's, or stricter.
#
# <details><summary>Hint 1</summary>
#
# All functions that *make* an array must come from `xp`: `xp.zeros`, `xp.linspace`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The means need no loop: `x.mean(axis=(1, 2), keepdims=True)`.
#
# </details>


# %%
def my_fade(xp, x):
    """Return (C, H + 2, W + 2), on the device of x (C, H, W); xp is mf.array_module(x)."""
    ### BEGIN SOLUTION
    padded = xp.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2))
    padded[:, 1:-1, 1:-1] = x - x.mean(axis=(1, 2), keepdims=True)
    return padded * xp.linspace(0, 1, padded.shape[2])
    ### END SOLUTION


# %%
# Check of exercise 12.3: run this cell.
class GPU:
    """An array as strict as CuPy's: it can be combined only with its own kind and scalars."""

    __array_ufunc__ = None  # NumPy's functions are refused
    waits = 0  # how often the CPU waited for a value

    def __init__(self, values):
        self.values = values

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "an array on the GPU is given to NumPy; arrays made with np. are on the CPU"
        )

    def __getattr__(self, name):
        if name.startswith("__"):  # so that __array__ cannot be bypassed
            raise AttributeError(name)
        return on_gpu(getattr(self.values, name))

    def __getitem__(self, key):
        return wrapped(self.values[key])

    def __setitem__(self, key, value):
        self.values[key] = unwrapped(value)

    def __neg__(self):
        return GPU(-self.values)

    def __len__(self):
        return len(self.values)

    def __float__(self):
        GPU.waits += 1
        return float(self.values)


def unwrapped(value):
    if isinstance(value, np.ndarray):
        raise TypeError(
            "an array of NumPy is combined with one on the GPU; make both with xp"
        )
    if isinstance(value, tuple | list):
        return type(value)(map(unwrapped, value))
    return value.values if isinstance(value, GPU) else value


def wrapped(value):
    return GPU(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def on_gpu(found):
    if not callable(found) or isinstance(found, type):
        return wrapped(found)

    def call(*args, **kwargs):
        kwargs = {name: unwrapped(value) for name, value in kwargs.items()}
        return wrapped(found(*map(unwrapped, args), **kwargs))

    return call


def operator(name):
    return lambda self, other: on_gpu(getattr(self.values, name))(other)


for word in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    setattr(GPU, f"__{word}__", operator(f"__{word}__"))
    setattr(GPU, f"__r{word}__", operator(f"__r{word}__"))
for word in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(GPU, f"__{word}__", operator(f"__{word}__"))


class Cupy:
    def __getattr__(self, name):
        return on_gpu(getattr(np, name))


def run(function, case):
    x = case["x"]
    y = function(np, x)
    GPU.waits = 0
    on_device = function(Cupy(), GPU(x.copy()))
    if y is None or on_device is None:
        return None
    if not isinstance(on_device, GPU):
        raise CheckFailedError("x is on the GPU, but the result is not")
    if GPU.waits:
        raise CheckFailedError(
            f"float(...) waits for the GPU {GPU.waits} times; expected 0"
        )
    if on_device.values.shape != y.shape or not np.allclose(on_device.values, y):
        raise CheckFailedError("the result on the GPU differs from that of NumPy")
    return y


def faded(xp, inside):
    padded = xp.pad(inside, ((0, 0), (1, 1), (1, 1)))
    return padded * (xp.arange(padded.shape[2]) / (padded.shape[2] - 1))


def right_fade(xp, x):
    return faded(xp, x - x.mean(axis=(1, 2), keepdims=True))


@st.composite
def maps(draw):
    return {"x": draw(whole_numbers(*(draw(st.integers(1, 3)) for _ in range(3))))}


def zeros_on_cpu(xp, x):
    """The border is made by np., on the CPU, and cannot receive values of the GPU: use xp.zeros."""
    np.zeros(x.shape)[...] = x
    return right_fade(xp, x)


def mixed(xp, x):
    """An array made by np. is combined with one on the GPU: means and ramp must come from xp."""
    return right_fade(xp, x) * np.ones(1)


def overall_mean(xp, x):
    """The mean of all channels is subtracted; each channel has its own."""
    return faded(xp, x - x.mean())


def mean_kept(xp, x):
    """The means are not subtracted."""
    return faded(xp, x)


def downwards(xp, x):
    """The values rise from top to bottom; they must rise from left to right, along the last axis."""
    return right_fade(xp, x.transpose(0, 2, 1)).transpose(0, 2, 1)


def other_way(xp, x):
    """The values rise from right to left."""
    return right_fade(xp, x[:, :, ::-1])[:, :, ::-1]


check_exercise(
    my_fade,
    right_fade,
    maps(),
    run=run,
    mistakes=[zeros_on_cpu, mixed, overall_mean, mean_kept, downwards, other_way],
)

# %%
# Once its check prints ok, your function fades the photograph; until then, the solution does.
fade = checked(my_fade, otherwise=right_fade)
photo = (
    mf.data.photograph("cat")[::3, ::3].transpose(2, 0, 1).astype(float)
)  # (3, 100, 151)
show(
    panels({"red, less its mean": fade(mf.array_module(photo), photo)[0]}),
    "From 0 on the left to its full contrast on the right.",
)

# %% [markdown]
# ## Break it
#
# What fails on a GPU can be shown without one. `Pretended` claims to be a CuPy array. Like CuPy's arrays, it
# refuses to become a NumPy array, and refuses NumPy's operations. Predict: which of the three attempts
# silently copies the values to the CPU, and which fails?


# %%
class Pretended:
    __module__ = "cupy"  # the module that it claims to come from

    def __array_ufunc__(self, *args, **kwargs):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


pretended = Pretended()
attempts = {
    "array_module(x, pretended)": lambda: mf.array_module(np.ones(3), pretended),
    "np.asarray(pretended)": lambda: np.asarray(pretended),
    "np.zeros(3) + pretended": lambda: np.zeros(3) + pretended,
}
for name, attempt in attempts.items():
    try:
        attempt()
    except TypeError as error:
        print(f"{name}: {error}")

# %% [markdown]
# None copies silently: all three fail. Copies between the two memories are slow, so each of them must be
# explicit, with `mf.to_device` or `mf.to_numpy`.
#
# ## Recall
#
# <details><summary>1. How many products has a tile of F(2, 3), F(2 x 2, 3 x 3), F(4 x 4, 3 x 3)?</summary>
#
# 4 instead of 6, 16 instead of 36, 36 instead of 144.
#
# </details>
# <details><summary>2. What do the three matrices do?</summary>
#
# $G$ transforms the filter, $B^T$ the data, and $A^T$ computes the outputs.
#
# </details>
# <details><summary>3. Why is a quarter of the products not four times as fast?</summary>
#
# The transforms need time, too, and transformed values must be written and read.
#
# </details>
# <details><summary>4. What do larger tiles cost?</summary>
#
# Accuracy, because high powers combine large and small values, and float32 rounds. Larger transforms, too.
#
# </details>
# <details><summary>5. Why must one wait before reading the clock on a GPU?</summary>
#
# A call returns when the work is queued. `synchronize()` returns when it is done.
#
# </details>
