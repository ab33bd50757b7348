# %% [markdown]
# # 5. Losing where
#
# **Question.** How many pixels does one number deep in a network depend on, and how exactly does it
# still say where they are?
#
# **Minutes:** 12 to read, 1 to run, 40 for the exercises.
#
# **You need** windows, strides and sizes (lesson 2), and what a gradient to the input is (lesson 3).

# %%
import numpy as np
from hypothesis import strategies as st

import minifcn as mf
from minifcn.checks import check_exercise, whole_numbers
from minifcn.data import photograph
from minifcn.layers import Conv2d, MaxPool2d, Sequential
from minifcn.viz import panels, receptive_fields, show

# %% [markdown]
# ## The picture
#
# A *max pool* slides a window over each map and keeps the largest number. It has no weights. Most
# often the window is 2 x 2 and the stride 2, so that windows lie side by side, and rows and columns
# are halved.

# %%
x = np.array(
    [[7.0, 3, 8, 5, 1, 4], [2, 0, 4, 6, 9, 3], [6, 8, 5, 1, 6, 0], [1, 5, 3, 9, 2, 4]]
)
y, _ = mf.functional.max_pool2d(x[None, None], 2)
windows = [(0, 0, 2, 2), (0, 2, 2, 2), (0, 4, 2, 2)]
show(
    panels({"x": x, "y": y[0, 0]}, boxes={"x": windows}),
    "Each window of 2 x 2 becomes its largest number; the first three windows are outlined.",
)

# %% [markdown]
# ## Predict
#
# A *dot*, one bright pixel, lies in a dark picture of 16 x 16 pixels. Three pools follow one
# another: 16, 8, 4, 2 rows and columns.
#
# 1. The dot moves from column 0 to the right, pixel by pixel. When does the last map change?
# 2. And how does it change then?


# %%
def pooled(picture, times):
    for _ in range(times):
        picture = mf.functional.max_pool2d(picture[None, None], 2)[0][0, 0]
    return picture


def thing(column, width):
    picture = np.zeros((16, 16))
    picture[3, column : column + width] = 9
    return picture


for width in (1, 3):
    maps = [pooled(thing(column, width), 3) for column in range(9)]
    same = [column for column in range(9) if np.array_equal(maps[column], maps[0])]
    print(f"width {width}: the same map for columns", same)
dots = {column: thing(column, 1) for column in (0, 7, 8)}
show(
    panels(
        {f"dot in column {n}": np.where(dot, dot, np.nan) for n, dot in dots.items()}
        | {f"column {n}, pooled": pooled(dot, 3) for n, dot in dots.items()},
        columns=3,
        width=6,
    ),
    "Empty cells are 0. Columns 0 to 7 give the same map; from column 8 on the 9 is one cell further.",
)

# %% [markdown]
# A *what* is left, the 9. Its *where* is known to 8 pixels only. (A wider thing shows in two cells
# while it lies across their border.) That suits a classifier: a cat is a cat in any column. For a
# label at each pixel it is a loss.
#
# The *step* of a map is the number of pixels between neighbouring numbers: 2 behind the first pool,
# then 4, then 8. Strides multiply, and it makes no difference whether they are those of pools or of
# convolutions. Lesson 6 calls the step of the last map the stride of the network.
#
# ## Exercise 5.1: max pool
#
# *10 minutes.* Write it for one map ($H$, $W$), with any window and stride. Windows that do not fit
# as a whole are left out.
#
# <details><summary>Hint 1</summary>
#
# It is lesson 2's loop over places, with `.max()` in place of the sum of products.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Numbers may be negative: do not compare with 0.
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
    return mf.functional.max_pool2d(x[None, None], size, stride, **options)[0][0, 0]


@st.composite
def maps(draw):
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = (size + draw(st.integers(0, 4)) for _ in range(2))
    return {"x": draw(whole_numbers(height, width)), "size": size, "stride": stride}


def smallest(x, size, stride):
    """You keep the smallest number of each window."""
    return -right_pool(-x, size, stride)


def mean(x, size, stride):
    """You take the mean of each window."""
    return mf.functional.avg_pool2d(x[None, None], size, stride)[0, 0]


def side_by_side(x, size, stride):
    """The windows lie side by side, as if the stride were their size."""
    return right_pool(x, size, size)


def one_by_one(x, size, stride):
    """The windows move by 1, whatever the stride is."""
    return right_pool(x, size, 1)


def rounded_up(x, size, stride):
    """The last windows hang over the edge; those that do not fit are left out."""
    return right_pool(x, size, stride, ceil_mode=True)


def from_every_start(x, size, stride):
    """The last windows hang over the edge; those that do not fit are left out."""
    return right_pool(np.pad(x, (0, size - 1), constant_values=-np.inf), size, stride)


def not_negative(x, size, stride):
    """Numbers below 0 became 0: begin with the first number of the window, not with 0."""
    return np.maximum(right_pool(x, size, stride), 0)


def largest_size(x, size, stride):
    """The number with the largest absolute value wins; it should be the largest number."""
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

# %% [markdown]
# ## Exercise 5.2: and backward
#
# *15 minutes.* If x changes a little, y follows the winner of each window, and nobody else. So the
# winner gets the gradient of y, all of it, and the others get 0. Where several numbers are equally
# large, the first one wins: by rows from top to bottom, in a row from left to right. A number that
# wins in several windows gets the gradients of all of them.
#
# <details><summary>Hint 1</summary>
#
# `np.argmax(window)` gives the place of the first largest number, counted along the rows of the
# window.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `divmod(place, size)` gives its row and column in the window. Use `+=`.
#
# </details>


# %%
def my_max_pool_backward(x, dy, size, stride):
    """Return dx (H, W), for x (H, W) and dy, the gradient to the pooled map."""
    ### BEGIN SOLUTION
    dx = np.zeros(x.shape)
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            top, left = i * stride, j * stride
            a, b = divmod(np.argmax(x[top : top + size, left : left + size]), size)
            dx[top + a, left + b] += dy[i, j]
    return dx
    ### END SOLUTION


# %%
# Check of exercise 5.2: run this cell.
def right_backward(x, dy, size, stride):
    _, winners = mf.functional.max_pool2d(x[None, None], size, stride)
    return mf.functional.max_pool2d_grad(
        dy[None, None], winners, input_size=x.shape, kernel_size=size, stride=stride
    )[0, 0]


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


def places(dy, size, stride):
    for i, j in np.ndindex(dy.shape):
        yield (
            dy[i, j],
            np.s_[i * stride : i * stride + size, j * stride : j * stride + size],
        )


def last(x, dy, size, stride):
    """Of equal numbers the last one wins; it should be the first."""
    rows, cols = ((n - 1) * stride + size for n in dy.shape)  # what the windows cover
    dx, x = np.zeros(x.shape), x[:rows, :cols]
    dx[:rows, :cols] = right_backward(x[::-1, ::-1], dy[::-1, ::-1], size, stride)[
        ::-1, ::-1
    ]
    return dx


def by_columns(x, dy, size, stride):
    """You look for the first winner along the columns; go along the rows."""
    return right_backward(x.T, dy.T, size, stride).T


def all_equal(x, dy, size, stride):
    """All numbers that are equally large get the gradient; only the first one does."""
    dx = np.zeros(x.shape)
    for gradient, window in places(dy, size, stride):
        dx[window] += gradient * (x[window] == x[window].max())
    return dx


def shared(x, dy, size, stride):
    """Numbers that are equally large share the gradient; the first one gets all of it."""
    dx = np.zeros(x.shape)
    for gradient, window in places(dy, size, stride):
        largest = x[window] == x[window].max()
        dx[window] += gradient * largest / largest.sum()
    return dx


def everyone(x, dy, size, stride):
    """All numbers of a window get its gradient; only the winner does."""
    dx = np.zeros(x.shape)
    for gradient, window in places(dy, size, stride):
        dx[window] += gradient
    return dx


def replaced(x, dy, size, stride):
    """A number that wins several times keeps one gradient only; add them up."""
    dx = np.zeros(x.shape)
    for i, j in np.ndindex(dy.shape):
        only = np.zeros(dy.shape)
        only[i, j] = dy[i, j]
        share = right_backward(x, only, size, stride)
        dx = np.where(share != 0, share, dx)
    return dx


def side_by_side(x, dy, size, stride):
    """The windows lie side by side, as if the stride were their size."""
    dx = np.zeros([max(n, m * size) for n, m in zip(x.shape, dy.shape, strict=True)])
    padded = np.full(dx.shape, -np.inf)
    padded[: x.shape[0], : x.shape[1]] = x
    for gradient, window in places(dy, size, size):
        place = np.unravel_index(np.argmax(padded[window]), (size, size))
        dx[window][place] += gradient
    return dx[: x.shape[0], : x.shape[1]]


def times_x(x, dy, size, stride):
    """The gradient is multiplied by the number itself; it goes to the winner as it is."""
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
        everyone,
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
# ## How much one number sees
#
# The *receptive field* of a number are the pixels that it depends on. Go back from it, layer by
# layer: a window of $k$ numbers, and behind each of these a window again.

# %%
layers = [mf.geometry.Window(3), mf.geometry.Window(2, stride=2), mf.geometry.Window(3)]
sizes = [12]
for window in layers:
    sizes.append(window.output_size(sizes[-1]))
names = [
    "picture",
    "behind the convolution",
    "behind the pool",
    "behind the next convolution",
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
    "Along one axis, cells numbered: cell 1 of the last map sees 3 cells, those see 6, those 8 pixels.",
)

# %% [markdown]
# Now go forward. A pixel sees itself: field 1, step 1. A layer with a window of $k$ sees $k$ numbers
# of the map before, one step apart. The field grows by the $k - 1$ steps between them. The step
# itself is multiplied by the stride $s$, *afterwards*:
#
# $$\text{field} \leftarrow \text{field} + (k - 1) \cdot \text{step}, \qquad
# \text{step} \leftarrow \text{step} \cdot s$$
#
# For the picture above that gives 1, 3, 4, 8 pixels. So a large step lets the field grow fast.
#
# Predict: VGG16, the network that Long et al. (2015) build on, has two convolutions of 3 x 3 and a
# pool, the same again, and then three times three convolutions and a pool. What are field and step
# behind each pool?

# %%
blocks, channels = {}, 3
for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
    for number in range(1, convolutions + 1):
        blocks[f"conv{block}_{number}"] = Conv2d(channels, 1, 3, padding=1, rng=0)
        channels = 1  # VGG16 has 64 to 512; for the field it makes no difference
    blocks[f"pool{block}"] = MaxPool2d(2)
network = Sequential(**blocks)

photo = photograph("cup")[::2, ::2]  # every second pixel: (200, 300, 3)
for row in mf.models.explain(network, photo.shape[:2]).rows:
    if row.kind == "MaxPool2d":
        field, step = row.views[0].field, row.views[0].grid.scale
        print(f"{row.name}: field {field}, step {step}, map", row.output_shape[1:])
print("convolutions of 3 x 3 without pools for a field of 212:", -(-(212 - 1) // 2))

# %% [markdown]
# Each pool halves the map, and so doubles the step. Behind it the field grows twice as fast: from
# pool to pool it more than doubles. *Each halving doubles the receptive field and halves where.*
# Without the halving, it would take 106 layers to see as far as these 18 do.

# %%
show(
    receptive_fields(photo, network, ["pool2", "pool3", "pool4", "pool5"], (80, 145)),
    "What one number sees: coffee, coffee and rim, most of the cup, and at last the saucer, too.",
)

# %% [markdown]
# To know that it is a cup on its saucer, a number must see most of both. Then its step is 32 pixels. This is the
# tension between *what* and *where*. Lesson 7 goes back up to all pixels, and lesson 10 fetches
# back the finer maps.
#
# ## Exercise 5.3: the receptive field
#
# *15 minutes.* Compute both along one axis, for any list of layers.
#
# <details><summary>Hint 1</summary>
#
# `for k, s in layers:` and the two formulas, in their order.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Try `[(3, 1), (2, 2), (3, 1)]` by hand: (8, 2).
#
# </details>


# %%
def my_receptive_field(layers):
    """Return (field, step) behind layers [(k, s), ...], the first one first."""
    ### BEGIN SOLUTION
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field, step
    ### END SOLUTION


# %%
# Check of exercise 5.3: run this cell.
def right_field(layers):
    chain = [mf.geometry.Window(kernel, stride) for kernel, stride in layers]
    first, second = (mf.geometry.receptive_field(chain, index) for index in (0, 1))
    return len(first), second.start - first.start


def step_first(layers):
    """The step is multiplied too early: a layer's own stride does not spread its own window."""
    field, step = 1, 1
    for kernel, stride in layers:
        step *= stride
        field += (kernel - 1) * step
    return field, step


def no_step(layers):
    """The field grows by k - 1 each time; it must be k - 1 steps."""
    return 1 + sum(kernel - 1 for kernel, _ in layers), right_field(layers)[1]


def k_steps(layers):
    """The field grows by k steps; between k numbers there are k - 1."""
    field, step = 1, 1
    for kernel, stride in layers:
        field += kernel * step
        step *= stride
    return field, step


def from_zero(layers):
    """A pixel sees itself: the field begins with 1."""
    return right_field(layers)[0] - 1, right_field(layers)[1]


def backwards(layers):
    """The layers are taken in the wrong order; the first one is nearest to the picture."""
    return right_field(layers[::-1])


def strides_added(layers):
    """Strides multiply; yours are added."""
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step += stride
    return field, step


def windows_multiplied(layers):
    """The windows are multiplied, as if they never overlapped."""
    field = 1
    for kernel, _ in layers:
        field *= kernel
    return field, right_field(layers)[1]


def last_stride(layers):
    """The step is that of the last layer alone; strides multiply."""
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step = stride
    return field, step


check_exercise(
    my_receptive_field,
    right_field,
    st.tuples(
        st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=5)
    ),
    mistakes=[
        step_first,
        no_step,
        k_steps,
        from_zero,
        backwards,
        strides_added,
        windows_multiplied,
        last_stride,
    ],
)

# %% [markdown]
# ## Run: touch every pixel
#
# Is the box true? Two convolutions and two pools have a field of 10 x 10. Here each of 24 x 24
# pixels in turn is made much brighter. Does the number in row 3, column 2 of the last map change?
# The weights are positive, so that a brighter pixel can never make a number smaller.

# %%
small = Sequential(
    Conv2d(1, 1, 3, padding=1, rng=0),
    MaxPool2d(2),
    Conv2d(1, 1, 3, padding=1, rng=0),
    MaxPool2d(2),
).astype("float64")
for parameter in small.parameters():
    parameter.data = abs(parameter.data) + 0.1
picture = np.random.default_rng(0).random((24, 24))
touched = picture + 1000 * np.eye(24 * 24).reshape(-1, 24, 24)  # 576 pictures
numbers = small(touched[:, None])[:, 0, 3, 2]
changed = (numbers != small(picture[None, None])[0, 0, 3, 2]).reshape(24, 24)

chain = [mf.geometry.Window(3, padding=1), mf.geometry.Window(2, stride=2)] * 2
rows, cols = (mf.geometry.receptive_field(chain, index) for index in (3, 2))
box = (rows.start, cols.start, len(rows), len(cols))
show(
    panels({"does it change?": changed}, boxes={"does it change?": [box]}, width=3),
    "White pixels change the number, black ones do not: they are exactly those in the box.",
)
inside = changed[rows.start : rows.stop, cols.start : cols.stop]
print(f"{changed.sum()} pixels change it, {inside.sum()} of them in the box")

# %% [markdown]
# ## Break it
#
# **Equal rights.** Do all pixels of the field count alike? Three convolutions of 3 x 3 with weights
# of 1 follow one another. Predict the gradient of one number to its 7 x 7 pixels.

# %%
ones, gradient = np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1))
for size in (3, 5, 7):
    gradient = mf.functional.conv2d_input_grad(gradient, ones, input_size=(size, size))
show(
    panels({"gradient to the picture": gradient[0, 0]}),
    "From 1 in the corners to 49 in the middle: as many ways lead from a pixel to the number.",
)

# %% [markdown]
# So the box says what *may* count. Most of the weight lies in its middle.
#
# **An odd size.** 5 rows are pooled by 2. Who sees the last row?

# %%
five = np.arange(25.0).reshape(1, 1, 5, 5)
down = mf.functional.max_pool2d(five, 2)[0]
up = mf.functional.max_pool2d(five, 2, ceil_mode=True)[0]
show(
    panels({"x": five[0, 0], "down": down[0, 0], "up": up[0, 0]}),
    "Rounded down, nobody sees the last row and column, which hold the largest numbers.",
)

# %% [markdown]
# Caffe, in which FCN was written, rounds up; PyTorch and minifcn round down, unless they are told
# `ceil_mode=True`.
#
# ## Recall
#
# <details><summary>1. What does a max pool lose, and what does it keep?</summary>
#
# It keeps how strongly something is there, and loses where in the window.
#
# </details>
# <details><summary>2. Who gets the gradient of a max pool?</summary>
#
# The winner of each window; of equal ones the first.
#
# </details>
# <details><summary>3. Field 6, step 2; then a convolution of 3 x 3 with stride 1. And now?</summary>
#
# Field 6 + 2 x 2 = 10, step 2.
#
# </details>
# <details><summary>4. Why does a stride make the field grow faster?</summary>
#
# Behind it, neighbouring numbers lie further apart, and each window spans more pixels.
#
# </details>
# <details><summary>5. What changes if a pixel outside the receptive field changes?</summary>
#
# Nothing for this number.
#
# </details>
