# %% [markdown]
# # 11. Few labels
#
# **Question.** A label for each pixel is dear, a label for a whole picture cheap. How many labelled
# pixels does a network need that has learnt from cheap labels before?
#
# **Minutes:** 12 to read, 1 to run, 30 for the exercises.
#
# **You need** how a classifier becomes a fully convolutional network (lessons 6 and 9), what a skip is
# (lesson 10), and mean IoU (lesson 8).

# %%
import time

import numpy as np
from hypothesis import strategies as st
from matplotlib.figure import Figure

import minifcn as mf
from minifcn.checks import CheckFailedError, check_exercise, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader, open_dataset
from minifcn.models import FCN, Preprocessing, digit_classifier
from minifcn.viz import label_map, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# A *crop* shows one digit, and has one label. A *canvas* shows several, and has a label for each pixel:
# 0 for background, 1 to 10 for the digits, and void where nobody can tell.

# %%
crop, digit = DigitCrops("train")[4]
canvases = DigitCanvases("train", 80, size=64, digits_per_canvas=(2, 4))
canvas, labels = canvases[1]
show(
    panels(
        {
            "a crop": crop,
            "a canvas": canvas,
            "the canvas's labels": label_map(labels, canvases.palette),
        }
    ),
    "The crop is labelled by one number; the canvas by a map, dark for background, white for void.",
)
print(f"label of the crop: {digit}; labels of the canvas: {labels.size} numbers")

# %% [markdown]
# To name a crop takes a second; to paint thousands of pixels takes many. So one learns from what is cheap
# first, and begins the dear task with those weights. That is *transfer*. Long et al. (2015) begin with
# classifiers that learnt from 1.2 million photographs, one label each; they had 1,112 photographs with
# labels for pixels.
#
# Here the classifier learns from crops.

# %%
grey = Preprocessing("L", mean=(150.0,), std=(54.0,))  # subtract, divide


def train(model, data, batch_size, lr, epochs=1):
    batches = Loader(data, batch_size, preprocess=grey, shuffle=True, seed=0)
    steps = epochs * len(batches)
    mf.training.fit(
        model,
        batches,
        mf.optim.Adam(model, lr=lr),
        epochs=epochs,
        schedule=mf.optim.Cosine(steps, warmup_steps=20),
        progress=None,
    )


classifier = digit_classifier(rng=0)
train(classifier, DigitCrops("train", repeats=8), batch_size=32, lr=2e-3)
unseen = Loader(DigitCrops("test"), 100, preprocess=grey)
accuracy = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(f"right on {100 * accuracy:.1f} % of {len(unseen.dataset)} crops it has never seen")

# %% [markdown]
# ## Predict
#
# `FCN` makes a network of stride 4 from it, for 11 classes.
#
# 1. Which layers come from the classifier, and which are new?
# 2. What share of all weights is new?
# 3. Which class does the network give a pixel before its first step?

# %%
fcn = FCN(classifier, num_classes=11, stride=4).eval()
before, after = classifier.state_dict(), fcn.state_dict()  # arrays by name
known = {
    array.tobytes() for array in before.values()
}  # the numbers alone, without their shape
new = [name for name, array in after.items() if array.tobytes() not in known]
print("1.")
for name, array in after.items():
    print(
        f"   {name:31}{array.shape!s:17}{'new' if name in new else 'from the classifier'}"
    )
kept = {array.tobytes() for array in after.values()}
print(
    "   left over:", [name for name, array in before.items() if array.tobytes() not in kept]
)
share = sum(after[name].size for name in new) / sum(array.size for array in after.values())
print(f"2. new: {100 * share:.1f} % of the weights")
scores = fcn(grey(canvas[None]))  # (1, 11, 64, 64)
print(
    "3. largest of all scores:", float(abs(scores).max()), "- every class is equally likely"
)

# %% [markdown]
# New are the two layers that score the 11 classes, and two kernels for upsampling, which are bilinear
# and stay so. The scores of the 10 digits are left over: they are of no use for 11 classes. All else is
# the classifier's; `head.0.weight` is its dense layer, folded as in lesson 6.
#
# ## Exercise 11.1: transplant
#
# *15 minutes.* Weights go from one network into another by their names and shapes. Write the function
# that does it, and says what it did.
#
# `new` and `old` are dictionaries of arrays by name, as `state_dict()` returns them. The arrays in `new`
# are the network's own: to change the network, write *into* them.
#
# <details><summary>Hint 1</summary>
#
# A name that both know may stand for different shapes, such as 10 scores and 11. Then nothing is copied,
# and the name is left over and missing at once.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `new[name] = ...` puts another array into the dictionary, and the network does not notice.
# `new[name][...] = ...` writes into the array.
#
# </details>


# %%
def my_transplant(new, old):
    """Copy the arrays of old into those of new that have the same name and shape.

    Return three lists of names: copied, left over (of old), missing (of new).
    """
    ### BEGIN SOLUTION
    copied = [name for name in new if name in old and new[name].shape == old[name].shape]
    for name in copied:
        new[name][...] = old[name]
    left_over = [name for name in old if name not in copied]
    missing = [name for name in new if name not in copied]
    return copied, left_over, missing
    ### END SOLUTION


# %%
# Check of exercise 11.1: run this cell.
def right_transplant(new, old):
    copied = {
        name for name in new.keys() & old.keys() if new[name].shape == old[name].shape
    }
    for name in copied:
        np.copyto(new[name], old[name])
    return copied, old.keys() - copied, new.keys() - copied


def run(transplant, case):
    new, old = case
    own = dict(new)  # the network's arrays, whatever happens to the dictionary
    lists = transplant(new, old)
    if not isinstance(lists, tuple | list) or len(lists) != 3:
        returned = f"{len(lists)} values" if isinstance(lists, tuple | list) else f"{lists}"
        raise CheckFailedError(f"three lists must be returned, yours returns {returned}")
    said = [
        f"{title}: {', '.join(sorted(names)) or 'none'}"
        for title, names in zip(("copied", "left over", "missing"), lists, strict=True)
    ]
    for title, network in (("new", own), ("old", old)):
        said += [
            f"{name} of {title} holds {array.tolist()}" for name, array in network.items()
        ]
    return said


@st.composite
def networks(draw):
    new, old = {}, {}
    for name in ("conv", "dense", "score"):
        rows, cols = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        if draw(st.booleans()):
            new[name] = draw(whole_numbers(rows, cols))
        if draw(st.booleans()):
            old[name] = draw(whole_numbers(rows + draw(st.integers(0, 1)), cols))
    return new, old


def dictionary_only(new, old):
    """The entries of the dictionary are replaced; write into the network's arrays, new[name][...]."""
    other = {name: array.copy() for name, array in new.items()}
    return right_transplant(other, old)


def forgets_misfits(new, old):
    """A name that both know, with two shapes, is in no list; it is left over and missing."""
    copied, left_over, missing = right_transplant(new, old)
    return copied, left_over - new.keys(), missing - old.keys()


def counts_misfits(new, old):
    """A name that both know counts as copied, though the shapes differ."""
    right_transplant(new, old)
    both = new.keys() & old.keys()
    return both, old.keys() - both, new.keys() - both


def exchanged(new, old):
    """Left over and missing are exchanged: left over is what old has and new cannot use."""
    copied, left_over, missing = right_transplant(new, old)
    return copied, missing, left_over


def wrong_way(new, old):
    """The weights go from new to old."""
    copied, left_over, missing = right_transplant(old, new)
    return copied, missing, left_over


def names_alone(new, old):
    """Only names are compared; two shapes do not fit, or NumPy repeats rows to make them fit."""
    for name in new.keys() & old.keys():
        new[name][...] = old[name]
    return right_transplant(new, old)


check_exercise(
    my_transplant,
    right_transplant,
    networks(),
    run=run,
    mistakes=[
        dictionary_only,
        forgets_misfits,
        counts_misfits,
        exchanged,
        wrong_way,
        names_alone,
    ],
)

# %% [markdown]
# ## Three ways to begin
#
# The *trunk* is all that comes from the classifier: `features` and `head`.
#
# - **From scratch**: the trunk is random, everything learns.
# - **Frozen**: the trunk is the classifier's and does not learn; the score layers do.
# - **Slow**: the trunk is the classifier's and learns at a tenth of the *rate*, the factor of each step.
#
# `fcn.freeze_trunk()` freezes. `lr_multiplier` of a parameter is a factor of its rate.
#
# A frozen layer saves work, but not always. Backward goes from the loss to the front, layer by layer. A
# layer computes two things: the gradient to its weights, if they learn, and the gradient to its input,
# which it *passes on* to the layer before it. Predict: in which of these three is a step fastest?

# %% tags=["varies"]
x = np.repeat(grey(canvas[None]), 8, axis=0)
for name in ("all layers learn", "trunk frozen", "score layers frozen"):
    fcn = FCN(classifier, 11, stride=4).train()
    if name == "trunk frozen":
        fcn.freeze_trunk()
    for layer in fcn.score_layers():
        layer.weight.trainable = layer.bias.trainable = name != "score layers frozen"
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        scores = fcn(x)
        fcn.backward_parameters(scores)  # any gradient will do
        seconds.append(time.perf_counter() - started)
    print(f"{name}: {1000 * min(seconds):.0f} ms a step")

# %% [markdown]
# With a frozen trunk, backward ends at the score layers. Frozen score layers still pass the gradient on,
# for the trunk in front of them learns.
#
# ## Exercise 11.2: how far back?
#
# *15 minutes.* Layers stand in a row, from the picture to the loss. Which of them must pass a gradient on,
# to the layer before them?
#
# <details><summary>Hint 1</summary>
#
# Nobody needs the gradient to the picture. So the first layer passes nothing on.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A layer passes on exactly if some layer *before* it learns. Whether it learns itself does not matter.
#
# </details>


# %%
def my_passing_on(layers, frozen):
    """Return the names of the layers that pass a gradient on, in the order of layers.

    layers: names, from the picture to the loss. frozen: names of those that do not learn.
    """
    ### BEGIN SOLUTION
    passing = []
    someone_learns = False  # before this layer
    for name in layers:
        if someone_learns:
            passing.append(name)
        if name not in frozen:
            someone_learns = True
    return passing
    ### END SOLUTION


# %%
# Check of exercise 11.2: run this cell.
def right_passing_on(layers, frozen):
    learning = [i for i, name in enumerate(layers) if name not in frozen]
    return layers[learning[0] + 1 :] if learning else []


@st.composite
def rows_of_layers(draw):
    layers = [f"layer {i}" for i in range(draw(st.integers(1, 5)))]
    return {"layers": layers, "frozen": [name for name in layers if draw(st.booleans())]}


def those_that_learn(layers, frozen):
    """These are the layers that learn; a frozen one, too, passes on if a layer before it learns."""
    return [name for name in layers if name not in frozen]


def first_one_too(layers, frozen):
    """The first layer that learns is one too many: no layer before it needs a gradient."""
    learning = [i for i, name in enumerate(layers) if name not in frozen]
    return layers[learning[0] :] if learning else []


def towards_the_loss(layers, frozen):
    """Backward runs from the loss to the picture; you have it the other way round."""
    return right_passing_on(layers[::-1], frozen)[::-1]


def all_but_first(layers, frozen):
    """You pass on through the frozen layers at the front, too, where nobody learns any more."""
    return layers[1:]


def learning_behind(layers, frozen):
    """A frozen layer behind one that learns is left out; it has to pass the gradient on."""
    return [name for name in right_passing_on(layers, frozen) if name not in frozen]


def backwards(layers, frozen):
    """The order is that of backward; the list shall have the order of layers."""
    return right_passing_on(layers, frozen)[::-1]


check_exercise(
    my_passing_on,
    right_passing_on,
    rows_of_layers(),
    mistakes=[
        those_that_learn,
        first_one_too,
        towards_the_loss,
        all_but_first,
        learning_behind,
        backwards,
    ],
)

# %% [markdown]
# ## Run: mean IoU against labels
#
# Now the experiment: 5, 20 and 80 labelled canvases, three ways to begin. Each network makes 160 steps
# of 2 canvases, whatever the number of labels: with 5 canvases it sees each of them 64 times. The score
# is mean IoU on 60 canvases with digits that none has seen.
#
# Predict: what does *scratch* gain from more labels? And when is *slow* better than *frozen*?


# %%
def labelling_network(start, count, steps=160, trunk_rate=1.0, frozen=False):
    """Return a network that has learnt from so many labelled canvases."""
    fcn = FCN(start, 11, stride=4)
    for part in (fcn.features, fcn.head):
        for parameter in part.parameters():
            parameter.lr_multiplier = trunk_rate
    if frozen:
        fcn.freeze_trunk()
    labelled = DigitCanvases("train", count, size=64, digits_per_canvas=(2, 4))
    train(fcn, labelled, batch_size=2, lr=5e-3, epochs=2 * steps // count)
    return fcn


test = DigitCanvases("test", 60, size=64, digits_per_canvas=(2, 4))


def mean_iou(fcn):
    return mf.training.evaluate(fcn, Loader(test, 10, preprocess=grey)).mean_iou()


counts = [5, 20, 80]
networks_of = {"slow": [], "frozen": [], "scratch": []}
for count in counts:
    networks_of["slow"].append(labelling_network(classifier, count, trunk_rate=0.1))
    networks_of["frozen"].append(labelling_network(classifier, count, frozen=True))
    networks_of["scratch"].append(labelling_network(digit_classifier(rng=1), count))

scores = {name: [mean_iou(fcn) for fcn in fcns] for name, fcns in networks_of.items()}
truth = np.concatenate([labels[labels < 255] for _, labels in (test[i] for i in range(60))])
nothing = mf.metrics.ConfusionMatrix(11)
nothing.update(truth, np.zeros_like(truth))
print("labelled canvases" + "".join(f"{count:8}" for count in counts))
for name, row in scores.items():
    print(f"{name:17}" + "".join(f"{score:8.3f}" for score in row))
print(f"nothing but background: {nothing.mean_iou():.3f}")

# %%
figure = Figure(figsize=(5, 3), layout="constrained")
axes = figure.subplots()
for (name, row), style in zip(scores.items(), ("o-", "s--", "^:"), strict=True):
    axes.plot(counts, row, style, label=name)
axes.axhline(nothing.mean_iou(), color="0.6", linewidth=1, label="all background")
axes.set(xscale="log", xlabel="labelled canvases", ylabel="mean IoU", ylim=(0, None))
axes.set_xticks(counts, counts)
axes.minorticks_off()
axes.legend(frameon=False, fontsize=8)
show(
    figure,
    "Both lines that begin with the classifier rise; the line from scratch stays near the bottom.",
)

# %% [markdown]
# The classifier knows digits: it only has to be told where they end. With 5 canvases the frozen trunk
# does well, for few weights learn, and little can go wrong. With 80 the slow trunk gets ahead, for it can
# adapt. The two are close, and these are single runs: another seed may exchange neighbours. From 20
# canvases on, the distance to *scratch* is far larger.

# %%
shown = [test[i] for i in (0, 1)]
rows = [
    (name, image, labels, mf.training.predict(networks_of[name][-1], grey(image[None]))[0])
    for image, labels in shown
    for name in ("slow", "scratch")
]
names, images, truths, predictions = zip(*rows, strict=True)
show(
    prediction_strips(
        images, truths, predictions, test.class_names, test.palette, row_names=names
    ),
    "After 80 canvases, slow names most of some digits; scratch sees strokes, but hardly tells them apart.",
)

# %% [markdown]
# ## Real photographs (optional)
#
# *CamVid* is a collection of 701 street scenes, filmed from a car, with labels for pixels. *SqueezeNet
# 1.0* is a small classifier that has learnt from ImageNet's photographs. If you have both, write where
# they lie into the cell. It then trains for one epoch, which takes some minutes.

# %%
CAMVID = ""  # the folder
WEIGHTS = ""  # the file, for example from: minifcn weights download squeezenet1_0
if CAMVID and WEIGHTS:
    streets = open_dataset(f"camvid:{CAMVID}", "train")
    start = mf.weights.load_classifier(WEIGHTS)
    print(start.report.summary())
    street_fcn = FCN(start, num_classes=len(streets.class_names), stride=4)
    photo = start.info.preprocessing
    mf.training.fit(
        street_fcn,
        Loader(streets, 4, preprocess=photo, shuffle=True, seed=0),
        mf.training.RECIPES["quick"].optimizer(street_fcn),
    )
    unseen = Loader(open_dataset(f"camvid:{CAMVID}", "validation"), 4, preprocess=photo)
    iou = mf.training.evaluate(street_fcn, unseen).mean_iou()
    print(f"mean IoU after one epoch on {len(streets)} labelled photographs: {iou:.3f}")
else:
    print(
        "Not run here. Measured (mean IoU on all 101 validation frames, FCN of stride 4, as many images "
        "seen in each): from ImageNet weights 0.573 with 367 labelled images, 0.566 with 100; "
        "from scratch 0.311 with 367, 0.310 with 100."
    )

# %% [markdown]
# On photographs, too, the start weighs more than the number of labels. From ImageNet, a quarter of the
# labels costs little; from scratch, all of them do not make up for it.
#
# ## Break it
#
# **Too fast.** The trunk begins with the classifier's weights, but learns at the full rate, from 20
# canvases. Predict: is that better or worse than *slow*? And how far do the filters move?


# %%
def change(fcn):
    """Return how far the filters have moved, in percent of their length."""
    pairs = [
        (fcn.features.state_dict()[name], array)
        for name, array in classifier.features.state_dict().items()
    ]
    moved = sum(((now - then) ** 2).sum() for now, then in pairs)
    return 100 * float(np.sqrt(moved / sum((then**2).sum() for _, then in pairs)))


fast = labelling_network(classifier, 20)
for name, fcn in (("slow", networks_of["slow"][1]), ("full rate", fast)):
    print(f"{name}: mean IoU {mean_iou(fcn):.3f}, filters changed by {change(fcn):.1f} %")

# %% [markdown]
# <details><summary>Why?</summary>
#
# A step of Adam moves each weight by about the rate, however small the gradient. The score layers begin
# at zero and need many steps. Meanwhile the full rate overwrites what the trunk knew.
#
# </details>
#
# **Labels or steps?** *Scratch* did not gain from labels. Does it lack labels, or time? Give it 80
# canvases and three times as many steps.

# %%
longer = mean_iou(labelling_network(digit_classifier(rng=1), 80, steps=480))
print(
    f"scratch, 80 canvases: {scores['scratch'][2]:.3f} after 160 steps, {longer:.3f} after 480"
)

# %% [markdown]
# It lacks time: now it learns, but three times as many steps do not reach what the classifier's start
# gives in 160. The classifier took steps, too, but with cheap labels. So compare starts at equal numbers
# of steps, and say so.
#
# ## Recall
#
# <details><summary>1. Which layers of a classifier does an FCN take over, and which not?</summary>
#
# All but the last, which scores the classifier's own classes. The new score layers begin at zero.
#
# </details>
# <details><summary>2. By what is decided which weights go where?</summary>
#
# By name and shape. What does not fit is left over in the old network and missing in the new one.
#
# </details>
# <details><summary>3. Why does freezing the last layers save so little?</summary>
#
# They must pass the gradient on, to the layers before them that learn.
#
# </details>
# <details><summary>4. When is a frozen trunk good, and when one that learns slowly?</summary>
#
# Frozen with very few labels, since few weights can go wrong. Slow with more, since it can adapt.
#
# </details>
# <details><summary>5. What must be equal when two starts are compared?</summary>
#
# The labelled pictures, the number of steps, and the pictures they are scored on.
#
# </details>
