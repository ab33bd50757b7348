# %% [markdown]
# # 11. Few labels
#
# **Question.** A label for each pixel is expensive, a label for a whole image is cheap. How many labelled
# pixels does a network need if it has learned from cheap labels before?
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
from minifcn.checks import CheckFailedError, check_exercise, checked, whole_numbers
from minifcn.data import DigitCanvases, DigitCrops, Loader, open_dataset
from minifcn.models import FCN, Preprocessing, digit_classifier
from minifcn.viz import label_map, panels, prediction_strips, show

# %% [markdown]
# ## The picture
#
# A *crop* shows one digit, and has one label. A *canvas* shows several, and has a label for each pixel:
# 0 for background, 1 to 10 for the digits, and void where the class is not clear.

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
    "The crop has one label; the canvas has a map of labels, dark for background, white for void.",
)
print(f"label of the crop: {digit}; the canvas has {labels.size} labels")

# %% [markdown]
# Naming a crop takes a second; painting thousands of pixels takes many. So a network first learns from cheap
# labels, and then starts the expensive task with those weights. This is *transfer learning*. Long et al.
# (2015) start from classifiers that learned from 1.2 million photographs with one label each; they had 1,112
# photographs with labels for pixels.
#
# Here the classifier learns from crops.

# %%
grey = Preprocessing("L", mean=(150.0,), std=(54.0,))  # subtract, divide


def train(model, data, batch_size, lr, epochs=1, class_weights=None):
    batches = Loader(data, batch_size, preprocess=grey, shuffle=True, seed=0)
    steps = epochs * len(batches)
    mf.training.fit(
        model,
        batches,
        mf.optim.Adam(model, lr=lr),
        epochs=epochs,
        schedule=mf.optim.Cosine(steps, warmup_steps=20),
        class_weights=class_weights,
        progress=None,
    )


classifier = digit_classifier(rng=0)
train(classifier, DigitCrops("train", repeats=8), batch_size=32, lr=2e-3)
unseen = Loader(DigitCrops("test"), 100, preprocess=grey)
accuracy = mf.training.evaluate(classifier, unseen).pixel_accuracy()
print(f"right on {100 * accuracy:.1f} % of {len(unseen.dataset)} crops not seen before")

# %% [markdown]
# ## Predict
#
# `FCN` makes a network of stride 4 from it, for 11 classes.
#
# 1. Which layers come from the classifier, and which are new?
# 2. What fraction of all weights is new?
# 3. Which class does the network predict for a pixel before its first step?

# %%
fcn = FCN(classifier, num_classes=11, stride=4).eval()
before, after = classifier.state_dict(), fcn.state_dict()  # arrays by name
# Only the values, without their shape.
known = {array.tobytes() for array in before.values()}
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
fraction = sum(after[name].size for name in new) / sum(
    array.size for array in after.values()
)
print(f"2. new: {100 * fraction:.1f} % of the weights")
scores = fcn(grey(canvas[None]))  # (1, 11, 64, 64)
print("3. largest score:", float(abs(scores).max()), "- all classes are equally likely")

# %% [markdown]
# The new layers are the two that score the 11 classes, and two kernels for upsampling, which are bilinear
# and not trained. The scores of the 10 digits are left over: they cannot be used for 11 classes. All other
# weights are the classifier's; `head.0.weight` is its dense layer, reshaped as in lesson 6.
#
# ## Exercise 11.1: copy weights
#
# *15 minutes, medium.* Weights are copied from one network into another by their names and shapes. Write the
# function that does it, and that reports what it did.
#
# `new` and `old` are dictionaries of arrays by name, as `state_dict()` returns them. The arrays in `new`
# belong to the network: to change the network, write *into* them.
#
# <details><summary>Hint 1</summary>
#
# A name that occurs in both may have different shapes, such as 10 scores and 11. Then nothing is copied,
# and the name is both left over and missing.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `new[name] = ...` puts a different array into the dictionary, which does not change the network.
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
    own = dict(new)  # the network's arrays, even if the dictionary is changed
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
            f"{name} of {title} is {array.tolist()}" for name, array in network.items()
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


def misfits_omitted(new, old):
    """A name in both networks with different shapes is in no list; it is left over and missing."""
    copied, left_over, missing = right_transplant(new, old)
    return copied, left_over - new.keys(), missing - old.keys()


def misfits_copied(new, old):
    """A name in both networks is reported as copied although the shapes differ."""
    right_transplant(new, old)
    both = new.keys() & old.keys()
    return both, old.keys() - both, new.keys() - both


def swapped(new, old):
    """Left over and missing are swapped: left over is what old has and new cannot use."""
    copied, left_over, missing = right_transplant(new, old)
    return copied, missing, left_over


def wrong_way(new, old):
    """The weights are copied from new to old."""
    copied, left_over, missing = right_transplant(old, new)
    return copied, missing, left_over


def names_alone(new, old):
    """Only names are compared; compare shapes, too, because NumPy may broadcast."""
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
        misfits_omitted,
        misfits_copied,
        swapped,
        wrong_way,
        names_alone,
    ],
)

# %%
# Once its check prints ok, your function copies the weights; until then, the solution does.
transplant = checked(my_transplant, otherwise=right_transplant)
copy = digit_classifier(rng=1)
print(
    f"random weights: {100 * mf.training.evaluate(copy, unseen).pixel_accuracy():.1f} % right"
)
copied, left_over, missing = transplant(copy.state_dict(), classifier.state_dict())
print(f"{len(copied)} copied, {len(left_over)} left over, {len(missing)} missing")
print(
    f"after copying:  {100 * mf.training.evaluate(copy, unseen).pixel_accuracy():.1f} % right"
)

# %% [markdown]
# ## Three ways to start
#
# The *trunk* is the part that comes from the classifier: `features` and `head`.
#
# - **From scratch**: the trunk is random, all layers learn.
# - **Frozen**: the trunk is the classifier's and does not learn; the score layers do.
# - **Slow**: the trunk is the classifier's and learns at a tenth of the *learning rate*.
#
# `fcn.freeze_trunk()` freezes it. The learning rate of a parameter is multiplied by its `lr_multiplier`.
#
# A frozen layer saves work, but not always. Backward goes from the loss to the image, layer by layer. A
# layer computes two things: the gradient of its weights, if they learn, and the gradient of its input,
# which it *passes on* to the layer before it. Predict: when is a step fastest: if all layers learn, if the
# trunk is frozen, or if only the score layers are frozen?

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
# because the trunk before them learns.
#
# ## Exercise 11.2: how far back?
#
# *15 minutes, medium.* Layers are connected in a row, from the image to the loss. Which of them must pass a
# gradient on to the layer before them?
#
# <details><summary>Hint 1</summary>
#
# The gradient of the image is not needed. So the first layer passes nothing on.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A layer passes a gradient on exactly if some layer *before* it learns. Whether it learns itself does not
# matter.
#
# </details>


# %%
def my_passing_on(layers, frozen):
    """Return the names of the layers that pass a gradient on, in the order of layers.

    layers: names, from the image to the loss. frozen: names of those that do not learn.
    """
    ### BEGIN SOLUTION
    passing = []
    learning_before = False
    for name in layers:
        if learning_before:
            passing.append(name)
        if name not in frozen:
            learning_before = True
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
    """Backward goes from the loss to the image; yours goes the other way."""
    return right_passing_on(layers[::-1], frozen)[::-1]


def all_but_first(layers, frozen):
    """The frozen layers next to the image pass a gradient on, too; no layer before them learns."""
    return layers[1:]


def frozen_left_out(layers, frozen):
    """A frozen layer after one that learns is left out; it has to pass the gradient on."""
    return [name for name in right_passing_on(layers, frozen) if name not in frozen]


def backwards(layers, frozen):
    """The order is that of backward; it must be the order of layers."""
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
        frozen_left_out,
        backwards,
    ],
)

# %% [markdown]
# ## Run: mean IoU against labels
#
# Now the experiment: 5, 20 and 80 labelled canvases, three ways to start. Each network makes 160 steps
# of 2 canvases, for any number of labels: with 5 canvases it sees each of them 64 times. The measure
# is the mean IoU on 60 canvases with unseen digits. The nine trainings take about half a minute.
#
# Predict: what does *scratch* gain from more labels? And when is *slow* better than *frozen*?


# %%
def labelling_network(
    start, count, steps=160, trunk_rate=1.0, frozen=False, weighted=False
):
    """Return a network trained on `count` labelled canvases."""
    fcn = FCN(start, 11, stride=4)
    for part in (fcn.features, fcn.head):
        for parameter in part.parameters():
            parameter.lr_multiplier = trunk_rate
    if frozen:
        fcn.freeze_trunk()
    labelled = DigitCanvases("train", count, size=64, digits_per_canvas=(2, 4))
    weights = None
    if weighted:
        weights = mf.data.median_frequency_weights(mf.data.class_counts(labelled))
    train(fcn, labelled, 2, 5e-3, epochs=2 * steps // count, class_weights=weights)
    return fcn


test = DigitCanvases("test", 60, size=64, digits_per_canvas=(2, 4))


def mean_iou(fcn):
    return mf.training.evaluate(fcn, Loader(test, 10, preprocess=grey)).mean_iou()


counts = [5, 20, 80]
networks_of = {"slow": [], "frozen": [], "scratch": []}
for count in counts:
    print(f"training three networks on {count} canvases")
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
print(f"background everywhere: {nothing.mean_iou():.3f}")

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
    "Both lines that start from the classifier rise; the line from scratch stays near the bottom.",
)

# %% [markdown]
# The classifier knows digits: the network only has to learn where they end. With 5 canvases the frozen trunk
# is good, because few weights learn. With 80 the slow trunk is better, because it can
# adapt. The two are close, and these are single runs: with a different seed, neighbours may change places.
# From 20 canvases on, the difference to *scratch* is far larger.

# %%
image, labels = test[34]
trained = {
    f"slow, {count} labels": fcn
    for count, fcn in zip(counts, networks_of["slow"], strict=True)
}
trained["scratch, 80 labels"] = networks_of["scratch"][-1]
predictions = [mf.training.predict(fcn, grey(image[None]))[0] for fcn in trained.values()]
show(
    prediction_strips(
        [image] * len(trained),
        [labels] * len(trained),
        predictions,
        test.class_names,
        test.palette,
        row_names=list(trained),
    ),
    "With more labels, more of the digits are found and named; scratch finds strokes, but hardly names them.",
)

# %% [markdown]
# ## Real photographs (optional)
#
# *CamVid* is a collection of 701 street scenes, filmed from a car, with labels for pixels. *SqueezeNet
# 1.0* is a small classifier that was trained on the photographs of ImageNet. If you have both, write their
# paths into the cell. It then trains for one epoch, which takes some minutes.

# %%
CAMVID = ""  # a folder
WEIGHTS = ""  # a file, for example from: minifcn weights download squeezenet1_0
if CAMVID and WEIGHTS:
    streets = open_dataset(f"camvid:{CAMVID}", "train")
    start = mf.weights.load_classifier(WEIGHTS)
    print(str(start.report).splitlines()[0])
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
# On photographs, too, the start matters more than the number of labels. From ImageNet weights, a quarter of
# the labels is almost as good as all; from scratch, all labels do not make up for the missing start.
#
# ## Break it
#
# **Too fast.** The trunk starts with the classifier's weights, but learns at the full rate, from 20
# canvases. Predict: is that better or worse than *slow*? And how much do the filters change?


# %%
def change(fcn):
    """Return the change of the filters, in percent of their norm."""
    pairs = [
        (fcn.features.state_dict()[name], array)
        for name, array in classifier.features.state_dict().items()
    ]
    changed = sum(((now - then) ** 2).sum() for now, then in pairs)
    return 100 * float(np.sqrt(changed / sum((then**2).sum() for _, then in pairs)))


fast = labelling_network(classifier, 20)
for name, fcn in (("slow", networks_of["slow"][1]), ("full rate", fast)):
    print(f"{name}: mean IoU {mean_iou(fcn):.3f}, filters changed by {change(fcn):.1f} %")

# %% [markdown]
# <details><summary>Why?</summary>
#
# A step of Adam changes each weight by about the learning rate, even if the gradient is small. The score
# layers start at zero and need many steps. Meanwhile the full rate overwrites what the trunk has learned.
#
# </details>
#
# **Labels or steps?** *Scratch* did not gain from labels. Does it lack labels, or steps? Give it 80
# canvases and three times as many steps.

# %%
longer = labelling_network(digit_classifier(rng=1), 80, steps=480)
print(
    f"scratch, 80 canvases: {scores['scratch'][2]:.3f} after 160 steps, {mean_iou(longer):.3f} after 480"
)

# %% [markdown]
# It lacks steps: now it learns, but three times as many steps do not reach the result of the classifier's
# start after 160. The classifier was trained, too, but with cheap labels. So compare starts at equal numbers
# of steps, and report them.
#
# **Only background.** Networks often predict background and hardly anything else, as *scratch* does. Three
# remedies: a loss in which each class has a weight, larger for rare classes; more steps; the start of a
# classifier. Predict: which finds most of the digits' pixels, and what does it do to the background?

# %% tags=["varies"]
remedies = {
    "scratch, 160 steps": networks_of["scratch"][2],
    "class weights": labelling_network(digit_classifier(rng=1), 80, weighted=True),
    "480 steps": longer,
    "classifier's start": networks_of["slow"][2],
}
print(f"{'80 labelled canvases':22}{'background':>12}{'digits':>9}{'mean IoU':>11}")
print(f"{'':22}{'predicted':>12}{'right':>9}")
for name, fcn in remedies.items():
    n = mf.training.evaluate(fcn, Loader(test, 10, preprocess=grey)).matrix
    parts = n[:, 0].sum() / n.sum(), n.diagonal()[1:].sum() / n[1:].sum(), mean_iou(fcn)
    print(f"{name:22}{{:12.3f}}{{:9.3f}}{{:11.3f}}".format(*parts))
truth_share = (truth == 0).mean()
print(f"{'truth':22}{truth_share:12.3f}")

# %% [markdown]
# With class weights the network predicts about as much background as there is. But most of the pixels that it
# now calls digits get the wrong digit: the balance is repaired, and little is learned. Steps help more, and
# the start helps most.
#
# ## Recall
#
# <details><summary>1. Which layers of a classifier does an FCN keep, and which not?</summary>
#
# All but the last, which scores the classifier's own classes. The new score layers start at zero.
#
# </details>
# <details><summary>2. What decides which weights are copied?</summary>
#
# Name and shape. What does not fit is left over in the old network and missing in the new one.
#
# </details>
# <details><summary>3. Why does freezing the last layers save so little?</summary>
#
# They must pass the gradient on to the layers before them that learn.
#
# </details>
# <details><summary>4. When is a frozen trunk good, and when one that learns slowly?</summary>
#
# Frozen with very few labels, since few weights can overfit. Slow with more, since it can adapt.
#
# </details>
# <details><summary>5. What must be equal when two starts are compared?</summary>
#
# The labelled images, the number of steps, and the test images.
#
# </details>
