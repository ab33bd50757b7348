# %% [markdown]
# # 5. Losing where
#
# **Question.** How many pixels does one value deep in a network depend on, and how precisely does it still
# locate what it sees?
#
# **Minutes:** 12 to read, 1 to run, 45 for the exercises.
#
# **You need** windows, strides and sizes (lesson 2), and the gradient with respect to the input (lesson 3).

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, checked, whole_numbers
from minifcn.layers import Conv2d, MaxPool2d, Sequential
from minifcn.viz import panels, receptive_fields, show

# %% [markdown]
# ## The picture
#
# A *max pool* slides a window over each map and keeps the largest value. It has no weights. Most
# often the window is 2 x 2 and the stride 2, so that windows do not overlap, and the numbers of rows and
# columns are halved.

# %%
x = np.array(
    [[7.0, 3, 8, 5, 1, 4], [2, 0, 4, 6, 9, 3], [6, 8, 5, 1, 6, 0], [1, 5, 3, 9, 2, 4]]
)
y = mf.functional.max_pool2d(x[None, None], 2)
windows = [(0, 0, 2, 2), (0, 2, 2, 2), (0, 4, 2, 2)]
show(
    panels({"x": x, "y": y[0, 0]}, boxes={"x": windows}),
    "Each window of 2 x 2 is replaced by its largest value; the first three windows are outlined.",
)

# %% [markdown]
# ## Predict
#
# A *dot*, one bright pixel, lies in a dark image of 16 x 16 pixels. Three pools follow one
# another: 16, 8, 4, 2 rows and columns.
#
# 1. The dot moves from column 0 to the right, pixel by pixel. When does the last map change?
# 2. How does it change then?


# %%
def pooled(image, times):
    for _ in range(times):
        image = mf.functional.max_pool2d(image[None, None], 2)[0, 0]
    return image


def bar(column, width):
    image = np.zeros((16, 16))
    image[3, column : column + width] = 9
    return image


for width in (1, 3):
    maps = [pooled(bar(column, width), 3) for column in range(9)]
    same = [column for column in range(9) if np.array_equal(maps[column], maps[0])]
    print(f"width {width}: the same map for columns", same)
dots = {column: bar(column, 1) for column in (0, 7, 8)}
show(
    panels(
        {f"dot in column {n}": np.where(dot, dot, np.nan) for n, dot in dots.items()}
        | {f"column {n}, pooled": pooled(dot, 3) for n, dot in dots.items()},
        columns=3,
        width=6,
    ),
    "Empty cells are 0. Columns 0 to 7 give the same map; from column 8 the 9 is one cell to the right.",
)

# %% [markdown]
# The pools keep *what* there is, the 9. They know *where* it is only to within 8 pixels. (A wider object
# appears in two cells while it lies across their border.) That suits a classifier: a cat is a cat in any
# column. For a label at each pixel it is a loss.
#
# ## Equivariant or invariant?
#
# If the input moves and the output moves along, a layer is *equivariant*; if the output stays as it is, the
# layer is *invariant*. Predict: a photograph moves by one pixel, then by two. Which layer is what?

# %%
photo = mf.data.photograph("cat")[::2, ::2].mean(axis=2)
edge = np.array([[1.0, 0, -1]])
layers = {
    "convolution": lambda x: mf.functional.conv2d(x[None, None], edge[None, None])[0, 0],
    "max pool": lambda x: mf.functional.max_pool2d(x[None, None], 2)[0, 0],
    "largest of all": lambda x: np.full_like(x, x.max()),
}


def moves_by(before, after):
    """Return the shift that explains the difference, without the columns where the photo wraps around."""
    fits = (n for n in (0, 1, 2) if (np.roll(before, n, axis=1) == after)[:, 2:].all())
    return next(fits, "no whole number of")


for by in (1, 2):
    for name, layer in layers.items():
        shift = moves_by(layer(photo), layer(np.roll(photo, by, axis=1)))
        print(f"photo moved by {by}: {name:14} moves by {shift} cells")

# %% [markdown]
# The convolution is equivariant. The pool is so only for multiples of its stride; after one pixel its windows
# contain other pairs of columns, and most of its values change a little. The largest value of the whole image
# is invariant.
#
# The *step* of a map is the distance between neighbouring values in pixels: 2 after the first pool,
# then 4, then 8. Strides multiply, and it makes no difference whether they belong to pools or to
# convolutions. Lesson 6 calls the step of the last map the stride of the network.
#
# ## Exercise 5.1: max pool
#
# *10 minutes, easy.* Write it for one map ($H$, $W$), with any window and stride. Windows that do not fit
# completely are left out.
#
# <details><summary>Hint 1</summary>
#
# Use the loop over positions of lesson 2, with `.max()` in place of the sum of products.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Values may be negative: do not start from 0.
#
# </details>


# %%
def my_max_pool(x, size, stride):
    """Return y, ((H - size) // stride + 1, (W - size) // stride + 1), for x (H, W)."""
    ### BEGIN SOLUTION
    rows, cols = ((n - size) // stride + 1 for n in x.shape)
    y = np.zeros((rows, cols))
    for i in range(rows):
        for j in range(cols):
            top, left = i * stride, j * stride
            y[i, j] = x[top : top + size, left : left + size].max()
    return y
    ### END SOLUTION


# %%
# Check of exercise 5.1: run this cell.
def right_pool(x, size, stride, **options):
    return mf.functional.max_pool2d(x[None, None], size, stride, **options)[0, 0]


@st.composite
def maps(draw):
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = (size + draw(st.integers(0, 4)) for _ in range(2))
    return {"x": draw(whole_numbers(height, width)), "size": size, "stride": stride}


def smallest(x, size, stride):
    """The result is the smallest value of each window."""
    return -right_pool(-x, size, stride)


def mean(x, size, stride):
    """The result is the mean of each window."""
    return mf.functional.avg_pool2d(x[None, None], size, stride)[0, 0]


def side_by_side(x, size, stride):
    """The windows do not overlap, as if the stride were their size."""
    return right_pool(x, size, size)


def one_by_one(x, size, stride):
    """The windows move by 1 for every stride."""
    return right_pool(x, size, 1)


def rounded_up(x, size, stride):
    """The last windows extend beyond the edge; leave out those that do not fit."""
    return right_pool(x, size, stride, ceil_mode=True)


def from_every_start(x, size, stride):
    """The last windows extend beyond the edge; leave out those that do not fit."""
    return right_pool(np.pad(x, (0, size - 1), constant_values=-np.inf), size, stride)


def not_negative(x, size, stride):
    """Negative values became 0: start with the first value of the window, not with 0."""
    return np.maximum(right_pool(x, size, stride), 0)


def largest_size(x, size, stride):
    """The result is the value with the largest absolute value; it must be the largest value."""
    high, low = right_pool(x, size, stride), smallest(x, size, stride)
    return np.where(abs(low) > abs(high), low, high)


check_exercise(
    my_max_pool,
    right_pool,
    maps(),
    mistakes=[
        smallest,
        mean,
        side_by_side,
        one_by_one,
        rounded_up,
        from_every_start,
        not_negative,
        largest_size,
    ],
    example={
        "x": np.array([[5.0, 1, 4, 0], [2, 3, 7, 6], [9, 8, 2, 1]]),
        "size": 2,
        "stride": 1,
    },
)

# %%
# Once its check prints ok, your function pools the photograph; until then, the solution does.
pool = checked(my_max_pool, otherwise=right_pool)
pooled_photos = {"photo": mf.data.photograph("cat")[::2, ::2].mean(axis=2)}
for times in (1, 2, 3):
    pooled_photos[f"pooled {times} x"] = pool(list(pooled_photos.values())[-1], 2, 2)
show(
    panels(pooled_photos, columns=4, shared=True),
    "Bright spots stay and grow; thin dark lines vanish.",
)

# %% [markdown]
# ## Exercise 5.2: max pool, backward
#
# *15 minutes, medium.* If x changes a little, y changes only with the maximum of each window. So the maximum
# gets the whole gradient of y, and the other values get 0. If several values are equally large, the first one
# gets it, in row-major order: rows from top to bottom, each from left to right. A value that is the maximum
# of several windows gets the sum of their gradients.
#
# <details><summary>Hint 1</summary>
#
# `np.argmax(window)` gives the flat index of the first maximum, in row-major order.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `divmod(index, size)` gives its row and column in the window. Use `+=`.
#
# </details>


# %%
def my_max_pool_backward(x, dy, size, stride):
    """Return dx (H, W), for x (H, W) and dy, the gradient with respect to the pooled map."""
    ### BEGIN SOLUTION
    dx = np.zeros(x.shape)
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            top, left = i * stride, j * stride
            row, column = divmod(np.argmax(x[top : top + size, left : left + size]), size)
            dx[top + row, left + column] += dy[i, j]
    return dx
    ### END SOLUTION


# %%
# Check of exercise 5.2: run this cell.
def right_backward(x, dy, size, stride):
    pool = MaxPool2d(size, stride).train()
    pool(x[None, None])
    return pool.backward(dy[None, None])[0, 0]


@st.composite
def maps_and_gradients(draw):
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = (
        (n - 1) * stride + size + draw(st.integers(0, stride - 1)) for n in (rows, cols)
    )
    return {
        "x": draw(
            whole_numbers(height, width).map(lambda x: np.round(x / 4))
        ),  # many are equal
        "dy": draw(whole_numbers(rows, cols)),
        "size": size,
        "stride": stride,
    }


def windows_of(dy, size, stride):
    for i, j in np.ndindex(dy.shape):
        yield (
            dy[i, j],
            np.s_[i * stride : i * stride + size, j * stride : j * stride + size],
        )


def last(x, dy, size, stride):
    """Of equal values the last one gets the gradient; it must be the first."""
    rows, cols = ((n - 1) * stride + size for n in dy.shape)  # what the windows cover
    dx, x = np.zeros(x.shape), x[:rows, :cols]
    dx[:rows, :cols] = right_backward(x[::-1, ::-1], dy[::-1, ::-1], size, stride)[
        ::-1, ::-1
    ]
    return dx


def by_columns(x, dy, size, stride):
    """The first maximum is searched column by column; search row by row."""
    return right_backward(x.T, dy.T, size, stride).T


def all_equal(x, dy, size, stride):
    """All maxima of a window get the gradient; only the first one must get it."""
    dx = np.zeros(x.shape)
    for gradient, window in windows_of(dy, size, stride):
        dx[window] += gradient * (x[window] == x[window].max())
    return dx


def shared(x, dy, size, stride):
    """The maxima of a window share the gradient; the first one must get all of it."""
    dx = np.zeros(x.shape)
    for gradient, window in windows_of(dy, size, stride):
        largest = x[window] == x[window].max()
        dx[window] += gradient * largest / largest.sum()
    return dx


def every_value(x, dy, size, stride):
    """All values of a window get its gradient; only the maximum must get it."""
    dx = np.zeros(x.shape)
    for gradient, window in windows_of(dy, size, stride):
        dx[window] += gradient
    return dx


def replaced(x, dy, size, stride):
    """A value that is the maximum of several windows keeps one gradient only; add them."""
    dx = np.zeros(x.shape)
    for i, j in np.ndindex(dy.shape):
        only = np.zeros(dy.shape)
        only[i, j] = dy[i, j]
        part = right_backward(x, only, size, stride)
        dx = np.where(part != 0, part, dx)
    return dx


def side_by_side(x, dy, size, stride):
    """The windows do not overlap, as if the stride were their size."""
    dx = np.zeros([max(n, m * size) for n, m in zip(x.shape, dy.shape, strict=True)])
    padded = np.full(dx.shape, -np.inf)
    padded[: x.shape[0], : x.shape[1]] = x
    for gradient, window in windows_of(dy, size, size):
        first = np.unravel_index(np.argmax(padded[window]), (size, size))
        dx[window][first] += gradient
    return dx[: x.shape[0], : x.shape[1]]


def times_x(x, dy, size, stride):
    """The gradient is multiplied by x; the maximum must get it unchanged."""
    return x * right_backward(x, dy, size, stride)


check_exercise(
    my_max_pool_backward,
    right_backward,
    maps_and_gradients(),
    mistakes=[
        last,
        by_columns,
        all_equal,
        shared,
        every_value,
        replaced,
        side_by_side,
        times_x,
    ],
    example={
        "x": np.array([[5.0, 1, 4, 0], [2, 3, 7, 7], [9, 8, 2, 1]]),
        "dy": np.array([[1.0, 2, 3], [4, 5, 6]]),
        "size": 2,
        "stride": 1,
    },
)

# %% [markdown]
# ## Exercise 5.3: no loops (optional)
#
# *5 minutes, medium.* A puzzle: pool by 2 x 2 without loops, for even numbers of rows and columns. Only
# `reshape`, `max` and `shape` are allowed.
#
# <details><summary>Hint</summary>
#
# Give the pairs of rows an axis of their own, and the pairs of columns, too: four axes.
#
# </details>


# %%
def my_pool_by_reshape(x):
    """Return y (h, w), the maxima of 2 x 2 blocks, for x (2 h, 2 w)."""
    ### BEGIN SOLUTION
    height, width = x.shape
    return x.reshape(height // 2, 2, width // 2, 2).max(axis=(1, 3))
    ### END SOLUTION


# %%
# Check of exercise 5.3: run this cell.
def right_blocks(x):
    return mf.functional.max_pool2d(x[None, None], 2)[0, 0]


@st.composite
def even_maps(draw):
    return (draw(whole_numbers(2 * draw(st.integers(1, 3)), 2 * draw(st.integers(1, 3)))),)


def in_a_row(x):
    """Four successive values of a row are pooled; pairs of rows and columns need axes of their own."""
    return x.reshape(x.shape[0] // 2, x.shape[1] // 2, 4).max(axis=2)


def other_axes(x):
    """The wrong axes are pooled: the pairs are axes 1 and 3."""
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).max(axis=(0, 2))


def halves(x):
    """Rows and columns far apart are pooled: in reshape, the pairs come after their number."""
    return x.reshape(2, x.shape[0] // 2, 2, x.shape[1] // 2).max(axis=(0, 2))


def columns_only(x):
    """Only columns are pooled."""
    return x.reshape(x.shape[0], x.shape[1] // 2, 2).max(axis=2)


check_exercise(
    my_pool_by_reshape,
    right_blocks,
    even_maps(),
    mistakes=[in_a_row, other_axes, halves, columns_only],
    only={"reshape", "max", "shape"},
)

# %% [markdown]
# ## How much one value sees
#
# The *receptive field* of a value is the set of pixels that it depends on. Go back from the value, layer by
# layer: it depends on a window of $k$ values, and each of these depends on a window again.

# %%
layers = [mf.geometry.Window(3), mf.geometry.Window(2, stride=2), mf.geometry.Window(3)]
sizes = [12]
for window in layers:
    sizes.append(window.output_size(sizes[-1]))
names = [
    "image",
    "after the convolution",
    "after the pool",
    "after the next convolution",
]
fields = [mf.geometry.receptive_field(layers[depth:], index=1) for depth in range(4)]
show(
    panels(
        {name: np.arange(size) for name, size in zip(names, sizes, strict=True)},
        boxes={
            name: [(0, field.start, 1, len(field))]
            for name, field in zip(names, fields, strict=True)
        },
        columns=1,
    ),
    "One axis, with numbered cells: cell 1 of the last map reads 3 cells, those read 6, those 8 pixels.",
)

# %% [markdown]
# Now go forward. A pixel depends on itself: field 1, step 1. A layer with a window of $k$ reads $k$ values
# of the map before it, one step apart. The field grows by the $k - 1$ steps between them. *Afterwards*, the
# step is multiplied by the stride $s$:
#
# $$\text{field} \leftarrow \text{field} + (k - 1) \cdot \text{step}, \qquad
# \text{step} \leftarrow \text{step} \cdot s$$
#
# For the figure above this gives 1, 3, 4, 8 pixels. So a large step lets the field grow fast.
#
# Predict: VGG16, the network that Long et al. (2015) build on, has two convolutions of 3 x 3 and a
# pool, the same again, and then three times three convolutions and a pool. What are field and step
# after each pool?

# %%
blocks, channels = {}, 3
for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
    for number in range(1, convolutions + 1):
        blocks[f"conv{block}_{number}"] = Conv2d(channels, 1, 3, padding=1, rng=0)
        channels = 1  # VGG16 has 64 to 512; for the field it makes no difference
    blocks[f"pool{block}"] = MaxPool2d(2)
network = Sequential(**blocks)

photo = mf.data.photograph("cup")[::2, ::2]  # every second pixel: (200, 300, 3)
for row in mf.models.explain(network, photo.shape[:2]).rows:
    if row.kind == "MaxPool2d":
        field, step = row.views[0].field, row.views[0].grid.scale
        print(f"{row.name}: field {field}, step {step}, map", row.output_shape[1:])
print("convolutions of 3 x 3 without pools for a field of 212:", -(-(212 - 1) // 2))

# %% [markdown]
# Each pool halves the map, and so doubles the step. After it the field grows twice as fast: from
# pool to pool it more than doubles. *Each halving doubles the receptive field, and halves the precision of
# the position.* Without pools, it would take 106 layers to reach the field of these 18.

# %%
show(
    receptive_fields(photo, network, ["pool2", "pool3", "pool4", "pool5"], (75, 140)),
    "What one value depends on: a bit of coffee, most of the coffee, most of the cup, cup and saucer.",
)

# %% [markdown]
# To know that this is a cup, a value must depend on most of it. Then its step is 32 pixels. This is the
# conflict between *what* and *where*. Lesson 7 goes back up to all pixels, and lesson 10 adds
# the finer maps again.
#
# ## Exercise 5.4: the receptive field
#
# *15 minutes, medium.* Compute field and step along one axis, for any list of layers. A layer may also be
# *dilated*: with dilation $d$, the $k$ values that it reads lie $d$ steps apart instead of one.
#
# <details><summary>Hint 1</summary>
#
# Loop with `for k, s, d in layers:`, and derive how the two formulas change.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Try `[(3, 1, 1), (2, 2, 1), (3, 1, 1)]` by hand: (8, 2). With dilation 2 in the last layer: (12, 2).
#
# </details>


# %%
def my_receptive_field(layers):
    """Return (field, step) after a list of layers (k, s, d), the first of which reads the image."""
    ### BEGIN SOLUTION
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step *= stride
    return field, step
    ### END SOLUTION


# %%
# Check of exercise 5.4: run this cell.
def right_field(layers):
    chain = [
        mf.geometry.Window(kernel, stride, dilation=dilation)
        for kernel, stride, dilation in layers
    ]
    first, second = (mf.geometry.receptive_field(chain, index) for index in (0, 1))
    return len(first), second.start - first.start


def step_first(layers):
    """The step is multiplied too early: a layer's stride does not change its own window."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        step *= stride
        field += (kernel - 1) * dilation * step
    return field, step


def no_step(layers):
    """The field grows by k - 1 pixels; it must grow by k - 1 steps."""
    field = 1 + sum((kernel - 1) * dilation for kernel, _, dilation in layers)
    return field, right_field(layers)[1]


def no_dilation(layers):
    """The dilation is missing: the values that a window reads are d steps apart."""
    return right_field([(kernel, stride, 1) for kernel, stride, _ in layers])


def dilated_step(layers):
    """The dilation changes the step, too; only strides do that."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        step *= dilation
        field += (kernel - 1) * step
        step *= stride
    return field, step


def k_steps(layers):
    """The field grows by k steps; between k values there are k - 1."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += kernel * dilation * step
        step *= stride
    return field, step


def from_zero(layers):
    """A pixel depends on itself: the field starts with 1."""
    return right_field(layers)[0] - 1, right_field(layers)[1]


def backwards(layers):
    """The layers are taken in the wrong order; the first one is next to the image."""
    return right_field(layers[::-1])


def strides_added(layers):
    """The strides are added; they must be multiplied."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step += stride
    return field, step


def windows_multiplied(layers):
    """The windows are multiplied, as if they never overlapped."""
    field = 1
    for kernel, _, dilation in layers:
        field *= (kernel - 1) * dilation + 1
    return field, right_field(layers)[1]


def last_stride(layers):
    """The step is the stride of the last layer; it must be the product of all strides."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * step
        step = stride
    return field, step


check_exercise(
    my_receptive_field,
    right_field,
    st.tuples(
        st.lists(
            st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 2)),
            min_size=1,
            max_size=5,
        )
    ),
    mistakes=[
        step_first,
        no_step,
        no_dilation,
        dilated_step,
        k_steps,
        from_zero,
        backwards,
        strides_added,
        windows_multiplied,
        last_stride,
    ],
)

# %% [markdown]
# ## Run: change every pixel
#
# Is the box right? Two convolutions and two pools have a field of 10 x 10. The next cell makes each of
# 24 x 24 pixels in turn much brighter. Does the value in row 3, column 2 of the last map change?
# The weights are positive, so that a brighter pixel can never make a value smaller.

# %%
small = Sequential(
    Conv2d(1, 1, 3, padding=1, rng=0),
    MaxPool2d(2),
    Conv2d(1, 1, 3, padding=1, rng=0),
    MaxPool2d(2),
).astype("float64")
for parameter in small.parameters():
    parameter.data = abs(parameter.data) + 0.1
image = np.random.default_rng(0).random((24, 24))
brighter = image + 1000 * np.eye(24 * 24).reshape(-1, 24, 24)  # 576 images
values = small(brighter[:, None])[:, 0, 3, 2]
changed = (values != small(image[None, None])[0, 0, 3, 2]).reshape(24, 24)

chain = [mf.geometry.Window(3, padding=1), mf.geometry.Window(2, stride=2)] * 2
rows, cols = (mf.geometry.receptive_field(chain, index) for index in (3, 2))
box = (rows.start, cols.start, len(rows), len(cols))
show(
    panels({"does it change?": changed}, boxes={"does it change?": [box]}, width=3),
    "White pixels change the value, black ones do not: the white ones are exactly those in the box.",
)
inside = changed[rows.start : rows.stop, cols.start : cols.stop]
print(f"{changed.sum()} pixels change it, {inside.sum()} of them in the box")

# %% [markdown]
# ## Break it
#
# **Unequal influence.** Do all pixels of the field have the same influence? Three convolutions of 3 x 3
# with weights of 1 follow one another. Predict the gradient of one value with respect to its 7 x 7 pixels.

# %%
ones, gradient = np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1))
for size in (3, 5, 7):
    gradient = mf.functional.conv2d_input_grad(gradient, ones, input_size=(size, size))
show(
    panels({"gradient": gradient[0, 0]}),
    "From 1 in the corners to 49 in the middle: the number of paths from a pixel to the value.",
)

# %% [markdown]
# So the box says which pixels *may* have an influence. Most of the influence comes from its middle.
#
# **An odd size.** 5 rows are pooled by 2. Which window contains the last row?

# %%
five = np.arange(25.0).reshape(1, 1, 5, 5)
down = mf.functional.max_pool2d(five, 2)
up = mf.functional.max_pool2d(five, 2, ceil_mode=True)
show(
    panels({"x": five[0, 0], "down": down[0, 0], "up": up[0, 0]}),
    "Rounded down, no window contains the last row and column, which hold the largest values.",
)

# %% [markdown]
# Caffe, in which FCN was written, rounds up; PyTorch and minifcn round down, unless `ceil_mode=True` is
# given.
#
# ## Recall
#
# <details><summary>1. What does a max pool lose, and what does it keep?</summary>
#
# It keeps how strongly a feature is present, and loses its position in the window.
#
# </details>
# <details><summary>2. Which values get the gradient of a max pool?</summary>
#
# The maximum of each window; of equal ones the first.
#
# </details>
# <details><summary>3. Field 6, step 2; then a convolution of 3 x 3 with stride 1. And now?</summary>
#
# Field 6 + 2 x 2 = 10, step 2.
#
# </details>
# <details><summary>4. Why does a stride make the field grow faster?</summary>
#
# After it, neighbouring values lie further apart, so each window spans more pixels.
#
# </details>
# <details><summary>5. What changes if a pixel outside the receptive field changes?</summary>
#
# Nothing, for this value.
#
# </details>
