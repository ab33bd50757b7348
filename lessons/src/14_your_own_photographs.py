# %% [markdown]
# # 14. Your own photographs
#
# **Question.** You have photographs, and no masks. How do a few strokes of a brush become masks, and masks a
# network?
#
# **Minutes:** 12 to read, 1 to run, 30 for the exercises.
#
# **You need** the loss and void (lesson 9), and the four numbers (lesson 8).

# %%
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from matplotlib.image import imsave

import minifcn as mf
from minifcn.checks import check_exercise, checked
from minifcn.data import Folder, Loader, check_dataset
from minifcn.layers import Conv2d, ReLU, Sequential
from minifcn.viz import label_map, overlay, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# A mask has a class for each pixel. Painting all of them takes many minutes for one photograph. Painting a
# few *strokes* takes seconds: a stroke is a list of points (row, column), connected by lines.
#
# For a photograph of your own, change the next cell: path, names of the classes, and strokes. 200 to 400 rows
# are enough. A box shows where a place is: `show(panels({"photo": photo}, boxes={"photo": [(100, 60, 20,
# 40)]}), "A box.")` draws one at row 100, column 60, 20 rows high and 40 columns wide.

# %%
PATH = ""  # of your photograph; without one, the cup is used
photo = mf.data.read_image(PATH) if PATH else mf.data.photograph("cup")[::2, ::2]
names = ("table", "china", "coffee", "spoon")
palette = mf.palette.palette(len(names))
strokes = [
    ("table", [(5, 10), (30, 20)]),
    ("table", [(75, 10), (175, 15)]),
    ("table", [(187, 30), (195, 90)]),
    ("table", [(192, 185), (160, 285)]),
    ("table", [(30, 240), (125, 285)]),
    ("table", [(37, 52), (12, 80)]),
    ("china", [(65, 62), (130, 55), (160, 80)]),
    ("china", [(180, 110), (177, 160)]),
    ("china", [(75, 217), (130, 225)]),
    ("china", [(22, 100), (13, 145), (30, 190)]),
    ("china", [(32, 112), (25, 160)]),
    ("china", [(105, 100), (117, 150)]),
    ("coffee", [(55, 130), (75, 115), (85, 150), (75, 172)]),
    ("spoon", [(127, 180), (155, 180)]),
    ("spoon", [(40, 206), (59, 203)]),
]
print(photo.shape, len(strokes), "strokes")

# %% [markdown]
# ## Exercise 14.1: a brush
#
# *20 minutes, medium.* Paint a stroke: find the pixels whose distance from one of its lines is at most
# `radius`. A line is the straight connection of two successive points $a$ and $b$. A stroke of one point is a
# dot.
#
# <details><summary>Hint 1</summary>
#
# `rows, cols = np.indices(shape)`. The nearest point of the line is $a + t (b - a)$, where $t$ is the dot
# product of $p - a$ and $b - a$, divided by that of $b - a$ with itself.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The line ends at $a$ and $b$: limit t with `np.clip(t, 0, 1)`. If $a = b$, avoid the division by 0.
#
# </details>


# %%
def my_stroke(shape, points, radius):
    """Return a boolean array of this shape (H, W), true where the stroke is; points are (row, column)."""
    ### BEGIN SOLUTION
    rows, cols = np.indices(shape)
    painted = np.zeros(shape, bool)
    for (a, b), (c, d) in zip(points, points[1:] or points, strict=False):
        length = (c - a) ** 2 + (d - b) ** 2
        t = ((rows - a) * (c - a) + (cols - b) * (d - b)) / max(length, 1e-9)
        t = np.clip(t, 0, 1)
        distance = np.hypot(rows - a - t * (c - a), cols - b - t * (d - b))
        painted |= distance <= radius
    return painted
    ### END SOLUTION


# %%
# Check of exercise 14.1: run this cell.
def distances(shape, points, norm=np.hypot, low=0.0, high=1.0):
    """Return the distance of each pixel from the stroke."""
    pixels = np.moveaxis(np.indices(shape), 0, -1).astype(float)  # (H, W, 2)
    lines = list(pairwise(points)) or [(points[0], points[0])]
    nearest = np.full(shape, np.inf)
    for start, end in np.array(lines, float):
        along = (end - start) / max(((end - start) ** 2).sum(), 1e-12)
        t = np.clip((pixels - start) @ along, low, high)[..., None]
        offset = pixels - start - t * (end - start)
        nearest = np.minimum(nearest, norm(offset[..., 0], offset[..., 1]))
    return nearest


def right_stroke(shape, points, radius):
    return distances(shape, points) <= radius


@st.composite
def brushes(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    point = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    return {
        "shape": (height, width),
        "points": draw(st.lists(point, min_size=1, max_size=3)),
        "radius": draw(st.sampled_from([0.65, 1.15, 1.73])),
    }


def points_only(shape, points, radius):
    """Only the points are painted; paint the lines between them, too."""
    return np.any([right_stroke(shape, [point], radius) for point in points], axis=0)


def beyond_the_ends(shape, points, radius):
    """The lines go on beyond their ends: limit t to values from 0 to 1."""
    return distances(shape, points, low=-np.inf, high=np.inf) <= radius


def columns_first(shape, points, radius):
    """Rows and columns are swapped: a point is (row, column)."""
    return right_stroke(shape, [point[::-1] for point in points], radius)


def square(shape, points, radius):
    """The brush is a square; the distance is the root of the sum of squares."""

    def larger(down, right):
        return np.maximum(abs(down), abs(right))

    return distances(shape, points, norm=larger) <= radius


def diameter(shape, points, radius):
    """The brush is half as wide: the distance may be the whole radius."""
    return right_stroke(shape, points, radius / 2)


def closed(shape, points, radius):
    """The last point is connected with the first one; the stroke must end there."""
    return right_stroke(shape, [*points, points[0]], radius)


def first_line(shape, points, radius):
    """Only the first line is painted."""
    return right_stroke(shape, points[:2], radius)


def last_line(shape, points, radius):
    """Only the last line is painted: combine the lines with |=."""
    return right_stroke(shape, points[-2:], radius)


check_exercise(
    my_stroke,
    right_stroke,
    brushes(),
    mistakes=[
        points_only,
        beyond_the_ends,
        columns_first,
        square,
        diameter,
        closed,
        first_line,
        last_line,
    ],
    example={"shape": (9, 12), "points": [(1, 2), (7, 4), (3, 10)], "radius": 1.15},
)

# %% [markdown]
# Pixels that nobody painted are **void**, 255: their class is not known. They count neither in the loss nor
# in its gradient (lesson 9).

# %%
# Once its check prints ok, your function paints; until then, the solution does.
stroke = checked(my_stroke, otherwise=right_stroke)


def paint(strokes, radius=2):
    labels = np.full(photo.shape[:2], 255, np.uint8)
    for name, points in strokes:
        labels[stroke(labels.shape, points, radius)] = names.index(name)
    return labels


labels = paint(strokes)
show(
    overlay(photo, labels, names, palette),
    f"{len(strokes)} strokes label {100 * (labels != 255).mean():.1f} % of the pixels.",
)

# %% [markdown]
# ## From strokes to a mask
#
# A network learns the painted pixels, and then labels all of them. It only has to know this one photograph,
# so a small network suffices. Its input has eight channels for each pixel: the colour, the mean colour of the
# 5 x 5 pixels around it, and row and column, because near pixels often belong together. Two layers of 1 x 1
# follow, and the scores. At the end, scores are averaged over 5 x 5 pixels, which removes single wrong
# pixels.
#
# Predict: which parts of the photograph will be wrong? Look for colours that occur in two classes.


# %% tags=["varies"]
def averaged(x):
    """Return the means of 5 x 5 values of x (N, C, H, W), with repeated borders."""
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    return mf.functional.avg_pool2d(padded, 5, 1)


def features(images, position=5.0):
    """Return (N, 8, H, W), float32, for images (N, H, W, 3), uint8."""
    colour = images.transpose(0, 3, 1, 2).astype(np.float32) / 64 - 2
    place = np.indices(images.shape[1:3]) / 100 - 1  # row and column, (2, H, W)
    place = np.broadcast_to(position * place, (len(images), *place.shape))
    return np.concatenate([colour, averaged(colour), place], axis=1).astype(np.float32)


def small_network(classes):
    rng = np.random.default_rng(0)
    return Sequential(
        Conv2d(8, 32, 1, rng=rng),
        ReLU(),
        Conv2d(32, 32, 1, rng=rng),
        ReLU(),
        Conv2d(32, classes, 1, init="zeros"),
    )


def learn(network, x, labels, steps, lr):
    """Train with Adam on one image, and print the loss now and then."""
    adam, started = mf.optim.Adam(network.train(), lr=lr), time.perf_counter()
    for step in range(1, steps + 1):
        adam.zero_grad()
        loss, gradient = mf.losses.softmax_cross_entropy(network(x), labels[None])
        network.backward(gradient)
        adam.lr = lr * min(1, 2 * (1 - step / steps))
        adam.step()
        if step % 20 == 0:
            print(f"step {step:3}: loss {loss:.4f}, {time.perf_counter() - started:.1f} s")


def probabilities(network, x):
    """Return (K, H, W)."""
    return mf.functional.softmax(averaged(network.eval()(x)))[0]


x = features(photo[None])
network = small_network(len(names))
learn(network, x, labels, steps=80, lr=0.01)
p = probabilities(network, x)
mask = p.argmax(axis=0).astype(np.uint8)
show(
    overlay(photo, mask, names, palette),
    "The mask of all pixels, from strokes on a fourteenth. Wrong: table behind the cup, and the rim.",
)

# %% [markdown]
# Most borders are right to a pixel or two, although no border was painted: they are where the colour changes.
#
# ## Exercise 14.2: where to paint next?
#
# *10 minutes, easy.* Do not paint what the network knows. Find the pixel where it is least certain: where its
# two largest probabilities differ least. Of equal ones, the first in row-major order.
#
# <details><summary>Hint</summary>
#
# `np.sort(p, axis=0)` sorts the classes of each pixel; the two largest come last. `np.unravel_index` turns a
# flat index into row and column.
#
# </details>


# %%
def my_next_place(p):
    """Return (row, column) of the least certain pixel, for probabilities p (K, H, W)."""
    ### BEGIN SOLUTION
    ordered = np.sort(p, axis=0)
    margin = ordered[-1] - ordered[-2]
    row, column = np.unravel_index(margin.argmin(), margin.shape)
    return int(row), int(column)
    ### END SOLUTION


# %%
# Check of exercise 14.2: run this cell.
def place_of(values):
    return divmod(int(np.argmin(values)), values.shape[1])


def margins(p):
    best = p.max(axis=0)
    others = np.where(np.arange(len(p))[:, None, None] == p.argmax(axis=0), -1, p)
    return best - others.max(axis=0)


def right_place(p):
    return place_of(margins(p))


@st.composite
def predictions(draw):
    classes, height, width = (
        draw(st.integers(2, 4)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = rng.integers(1, 20, (classes, height, width))
    return (np.round(parts / parts.sum(axis=0), 3),)


def most_certain(p):
    """This is the most certain pixel: the two largest probabilities differ most there."""
    return place_of(-margins(p))


def smallest_maximum(p):
    """The largest probability is smallest there; compare it with the second largest of the same pixel."""
    return place_of(p.max(axis=0))


def swapped(p):
    """Row and column are swapped."""
    return right_place(p)[::-1]


def column_major(p):
    """Rows and columns are counted in the wrong order: the flat index is row * W + column."""
    row, column = right_place(p)
    return divmod(row * p.shape[2] + column, p.shape[1])


def with_smallest(p):
    """The largest probability is compared with the smallest; compare it with the second largest."""
    return place_of(p.max(axis=0) - p.min(axis=0))


def flat(p):
    """This is a flat index; return row and column."""
    row, column = right_place(p)
    return row * p.shape[2] + column


check_exercise(
    my_next_place,
    right_place,
    predictions(),
    mistakes=[most_certain, smallest_maximum, swapped, column_major, with_smallest, flat],
)

# %%
# Once its check prints ok, your function chooses; until then, the solution does.
next_place = checked(my_next_place, otherwise=right_place)
row, column = next_place(p)
ordered = np.sort(p, axis=0)
show(
    panels(
        {"photo": photo, "margin of the two best": ordered[-1] - ordered[-2]},
        boxes={"photo": [(max(row - 8, 0), max(column - 8, 0), 16, 16)]},
    ),
    "Dark is uncertain: borders, and the regions between classes of similar colour. The box is the least "
    "certain pixel.",
)

# %% [markdown]
# ## The second round
#
# Look at mask and margins, add strokes where the mask is wrong, and train again. The strokes below took a
# minute to write; for a photograph of your own, write others. For the cup, some ellipses and lines are a good
# mask to compare with. Your own has none, and your eyes must judge: the numbers then only compare with the
# mask of the first round.
#
# Predict: which class gains most?

# %% tags=["varies"]
more = [
    ("table", [(3, 105), (3, 190)]),
    ("table", [(45, 235), (90, 250)]),
    ("table", [(197, 100), (198, 165)]),
    ("table", [(10, 255), (45, 292)]),
    ("china", [(50, 200), (80, 192)]),
    ("china", [(150, 220), (167, 202)]),
    ("china", [(165, 150), (185, 125)]),
    ("china", [(40, 175), (60, 186)]),
    ("spoon", [(107, 191), (122, 187)]),
]


def ellipse(centre, height, width, tilt=0.0):
    rows, cols = np.indices(photo.shape[:2])
    down, right = rows - centre[0], cols - centre[1]
    u = right * np.cos(tilt) + down * np.sin(tilt)
    v = down * np.cos(tilt) - right * np.sin(tilt)
    return (v / height) ** 2 + (u / width) ** 2 <= 1


def mask_of_the_cup():
    truth = np.zeros(photo.shape[:2], np.uint8)
    truth[ellipse((112, 139.5), 81.5, 100.5, 0.05)] = 1  # saucer
    truth[ellipse((56.5, 145), 47.5, 59, 0.12)] = 1  # rim
    truth[ellipse((72, 143.5), 24, 41.5, 0.1)] = 2
    truth[ellipse((142.5, 183), 20.5, 20)] = 3
    truth[right_stroke(truth.shape, [(39, 206), (61, 203)], 5)] = 3
    truth[right_stroke(truth.shape, [(105, 192), (122, 187)], 4)] = 3
    return truth


def table_of(mask):
    counts = mf.metrics.ConfusionMatrix(len(names), class_names=names)
    counts.update(truth[None], mask[None])
    return counts


truth = mask if PATH else mask_of_the_cup()
network = small_network(len(names))
learn(network, x, paint(strokes + more), steps=80, lr=0.01)
p = probabilities(network, x)
second = p.argmax(axis=0).astype(np.uint8)
show(
    overlay(photo, second, names, palette),
    "After the second round: the mask follows saucer, cup, coffee and spoon.",
)
before, after = table_of(mask), table_of(second)
print("IoU       first round  second round")
for name, *ious in zip(names, before.iou_per_class(), after.iou_per_class(), strict=True):
    print(f"{name:9}{ious[0]:12.2f}{ious[1]:14.2f}")
print(f"{'mean':9}{before.mean_iou():12.2f}{after.mean_iou():14.2f}")

# %% [markdown]
# ## From masks to a data set
#
# The small network knows one photograph: with row and column among its inputs it cannot know another. With
# masks of ten or more photographs, train a real network. A data set is a folder with `images`, `masks` of the
# same names, and `classes.txt` (docs/photographs.md). Here, versions of the one photograph stand in for
# several: as it is, darker, and a part of it for training; mirrored for validation. Pixels of which the
# network is not sure become void again.
#
# `check_dataset`, on the command line `minifcn check-data`, finds mistakes before a long training does.

# %%
masks = np.where(p.max(axis=0) > 0.6, second, 255).astype(np.uint8)
colours = np.concatenate([palette, np.zeros((256 - len(palette), 3), np.uint8)])
colours[255] = 255  # white is void
temporary = tempfile.TemporaryDirectory()  # deleted at the end
folder = Path(temporary.name)
lines = [
    f"{name} {red} {green} {blue}"
    for name, (red, green, blue) in zip(
        (*names, "void"), (*palette, colours[255]), strict=True
    )
]
(folder / "classes.txt").write_text("\n".join(lines), encoding="utf-8")
versions = {  # photograph and mask
    "train/whole": (photo, masks),
    "train/darker": (photo * 0.7, masks),
    "train/part": (photo[40:190, 60:240], masks[40:190, 60:240]),
    "val/mirrored": (photo[:, ::-1] * 0.85, masks[:, ::-1]),
}
for name, (image, labels) in versions.items():
    for kind, array in (("images", image.astype(np.uint8)), ("masks", colours[labels])):
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, np.ascontiguousarray(array))
splits = {split: Folder(folder, split) for split in ("train", "validation")}
report = check_dataset(splits)
print(report.table())
print(*(report.findings or ["nothing was found"]), sep="\n")

# %% [markdown]
# Nothing was found here. Read its list before each training of your own: a class that is missing in the
# training set, for example, cannot be learned.
#
# Now the training. If you have weights of SqueezeNet from ImageNet, beside the notebooks or where the
# environment variable `MINIFCN_WEIGHTS` says, an FCN is made from it. They are 5 MB: `minifcn weights
# download squeezenet1_1`. Without them, the small network learns colours alone, without row and column. For
# table and saucer that suffices here, because it is the same cup; on other photographs it would not know a
# cup of another colour.
#
# Predict: in which classes will the network be wrong?

# %% tags=["varies"]
weights = [os.environ.get("MINIFCN_WEIGHTS", ""), *map(str, Path().glob("squeezenet1_*"))]
weights = next((path for path in weights if path), "")
if weights:
    classifier = mf.weights.load_classifier(weights)
    network, preprocess = (
        mf.models.FCN(classifier, len(names), stride=4),
        classifier.info.preprocessing,
    )
    for layer in network.score_layers():
        for parameter in layer.parameters():
            parameter.lr_multiplier = 10  # new layers may learn faster
    epochs, lr = 20, 3e-4
    print("An FCN of SqueezeNet, with weights from ImageNet.")
else:
    network = small_network(len(names))
    preprocess, epochs, lr = lambda images: features(images, position=0), 40, 0.01
    print("No weights from ImageNet: a small network learns colours.")
batches = Loader(splits["train"], 1, preprocess=preprocess, shuffle=True, seed=0)
adam = mf.optim.Adam(network.train(), lr=lr)
records = mf.training.fit(network, batches, adam, epochs=epochs, progress=None)
print(f"loss {records[0]['loss']:.3f} to {records[-1]['loss']:.3f}")
unseen = Loader(splits["validation"], 1, preprocess=preprocess)
print(mf.training.evaluate(network.eval(), unseen).table())

# %%
image, labels = splits["validation"][0]
guess = mf.training.predict(network, preprocess(image[None]))
show(
    prediction_strips([image], [labels], guess, names, palette),
    "The mirrored photograph, its mask, the prediction, and its errors in red.",
)

# %% [markdown]
# Look at the errors rather than at the number. A network of colours does not find the spoon, which reflects
# those around it, and takes the shadow in the cup for the table. The number is too good, too: it is the same
# cup in the same light. With photographs of your own, `minifcn train folder:PATH --weights FILE --out run`
# does the same with augmentation, checkpoints and early warnings, and `minifcn predict` labels the others.
#
# ## Break it
#
# **Void as background.** Suppose unpainted pixels were stored as 0, the table, as many paint programs do.
# Predict: what does the mask look like?

# %% tags=["varies"]
filled = paint(strokes + more)
filled[filled == 255] = 0
network = small_network(len(names))
learn(network, x, filled, steps=60, lr=0.01)
wrong = probabilities(network, x).argmax(axis=0).astype(np.uint8)
show(
    panels(
        {
            "unpainted is void": label_map(second, palette),
            "unpainted is table": label_map(wrong, palette),
        }
    ),
    "On the right nearly everything is table: nine of ten pixels said so.",
)
print(
    f"mean IoU {table_of(wrong).mean_iou():.2f}; with void it was {table_of(second).mean_iou():.2f}"
)

# %% [markdown]
# The loss was low, and the mask is useless. Not knowing a label and knowing that it is background are
# different things; 255 says the first.
#
# ## Recall
#
# <details><summary>1. What does a network learn from an unpainted pixel?</summary>
#
# Nothing: it is void, and has no part in the loss and its gradient.
#
# </details>
# <details><summary>2. Why are borders right although nobody painted them?</summary>
#
# The colour changes there, and the network decides by colour and position.
#
# </details>
# <details><summary>3. Where should the next stroke be?</summary>
#
# Where the mask is wrong, or where the two largest probabilities are close.
#
# </details>
# <details><summary>4. Why can the small network not label another photograph?</summary>
#
# It has learned at which rows and columns and in which colours this one has its classes.
#
# </details>
# <details><summary>5. Why is a validation score from a version of the same photograph too good?</summary>
#
# Light, camera and objects are the same; new photographs differ in all of them.
#
# </details>
