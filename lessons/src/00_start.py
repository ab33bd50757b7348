# %% [markdown]
# # Start here
#
# This course takes a *fully convolutional network* apart and puts it together again: a network that gives
# each pixel of an image a class. You need Python, NumPy and no GPU; the words are explained below.
#
# Run the cells of a lesson one by one, with Shift+Enter.
#
# - **Predict:** write your answer down, then run the next cell. Its output is hidden until then.
# - **Exercises:** replace `raise NotImplementedError` with your code, run that cell, then its check. It
#   prints `ok`, or `no` with the likely mistake and the smallest case that fails. Hints can be opened.
# - **Skip** whatever you like: what you have not written comes from the library.
# - If your time is short, do lessons 1, 2, 6, 7 and 9.
#
# | lesson | question | you write | needs | minutes |
# |---|---|---|---|---|
# LESSONS
#
# ## Your progress
#
# The next cell reads the outputs of the checks in your notebooks, as they were saved last. Run it again
# whenever you like.

# %%
# Run this cell to see the map of the lessons, and your progress.
import json
import re
from pathlib import Path

from matplotlib.figure import Figure

from minifcn.viz import show

LESSONS = {}  # number: (title, file, numbers of the lessons that it needs)


def verdicts(path):
    """Return what each check of a saved notebook printed: "ok", "no", "todo", or "" if it was not run."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError):  # missing, or no notebook
        return []
    found = []
    for cell in cells:
        if "check" in cell["metadata"].get("tags", []):
            printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
            words = re.findall(r"^(todo|ok|no)  +\w", printed, re.MULTILINE)
            found.append(words[-1] if words else "")
    return found


def earlier(number):
    """Return all lessons that a lesson needs, directly or not."""
    return {n for need in LESSONS[number][2] for n in (need, *earlier(need))}


def column(number):
    return 1 + max((column(need) for need in LESSONS[number][2]), default=-1)


places = {}  # x and y of the box of each lesson
for x in range(max(map(column, LESSONS)) + 1):
    rows = {}  # lessons in this column, next to those that they need
    for number in (n for n in LESSONS if column(n) == x):
        heights = [places[need][1] for need in LESSONS[number][2]]
        rows[number] = sum(heights) / len(heights) if heights else -number
    for row, number in enumerate(sorted(rows, key=rows.get)):
        places[number] = x, row - (len(rows) - 1) / 2

figure = Figure(figsize=(9, 3.2), layout="constrained")
axes = figure.subplots()
for number, (name, file, needs) in LESSONS.items():
    said = verdicts(file)
    implied = {n for need in needs for n in earlier(need)}
    for need in set(needs) - implied:
        line = {"arrowstyle": "->", "color": "0.6", "shrinkA": 26, "shrinkB": 26}
        axes.annotate("", places[number], places[need], arrowprops=line, zorder=1)
    colour = (
        "#9CC7E8"
        if said and set(said) == {"ok"}
        else "#E3EFF8"
        if "ok" in said
        else "white"
    )
    words = re.sub(r"(.{9,}?) ", r"\1\n", f"{number}. {re.split('[,:]', name)[0]}")
    words += f"\n{said.count('ok')} of {len(said)} ok" if said else ""
    box = {"boxstyle": "round", "facecolor": colour}
    axes.text(
        *places[number], words, ha="center", va="center", fontsize=7, bbox=box, zorder=2
    )
axes.set(xlim=(-0.5, x + 0.5), ylim=(1.6, -1.6))
axes.set_axis_off()
show(
    figure,
    "An arrow leads from a lesson to one that needs it. Boxes become blue with the exercises that are ok.",
)
for number, (name, file, _) in LESSONS.items():
    state = (
        ", ".join(word or "not run" for word in verdicts(file))
        or "not found in this folder"
    )
    print(f"{number:2}. {name:50} {state}")

# %% [markdown]
# ## Words
#
# Each word is explained in the section that it links to. A lesson that was not open yet opens at its top: go
# back and click the link again.
#
# | word | meaning | introduced in |
# |---|---|---|
# | batch | several images that are computed together | 3: The gradient with respect to the weights |
# | class, label | integer of a kind of object; the class of a pixel | 1: The picture |
# | confusion matrix | counts of pixels by true and predicted class | 8: One matrix |
# | convolution | sum of products of a window and a filter, at each position | 2: The picture |
# | crop | the rows and columns that are removed after upsampling | 9: Where does a score lie? |
# | cross-entropy | minus the logarithm of the probability of the right class | 9: The picture |
# | dense layer | a matrix that multiplies all values of a map, written as one vector | 6: The picture |
# | dilation | distance of the values that a window reads | 7: Strided, dilated, transposed |
# | filter, kernel | the small array of weights of a convolution | 2: The picture |
# | fully convolutional network, FCN | gives scores to each pixel | 1: Run: from what to which pixel |
# | gradient | derivatives of the loss with respect to all values of an array | 3: The picture |
# | intersection over union, IoU | pixels of a class in both, by those in either | 8: One matrix |
# | map | one channel of a layer's output, or all of them | 6: The picture |
# | max pool | keeps the largest value of each window | 5: The picture |
# | padding | zeros added around an input | 2: Stride and padding |
# | receptive field | the pixels that a value depends on | 5: How much one value sees |
# | score | a value for each class; the largest one is the prediction | 9: The picture |
# | skip | scores of a finer map, added to upsampled scores | 10: The picture |
# | softmax | turns scores into probabilities | 6: Run: a classifier that slides |
# | stride | step of a window; of a network, the distance of its outputs in pixels | 2: Stride and padding |
# | transfer learning | to start from the weights of another task | 11: The picture |
# | transposed convolution, deconvolution | the adjoint of a convolution; makes maps larger | 7: Predict |
# | void | label 255: pixels whose class is not known, ignored everywhere | 1: The picture |
#
# ## Test yourself
#
# Each question needs more than one lesson.
#
# <details><summary>1. An image of 64 x 64 passes two layers: a convolution of 3 x 3 with padding 1, and a
# pool of 2 x 2 with stride 2. How large is the map, and how many pixels does one of its values see? (2,
# 5)</summary>
#
# 32 x 32; 4 x 4 pixels.
#
# </details>
# <details><summary>2. What is the backward pass of a convolution, what that of a transposed convolution? (3,
# 7)</summary>
#
# A transposed convolution of the gradient with the same filter; a convolution with it.
#
# </details>
# <details><summary>3. A test uses filters of ones. Which mistakes in lessons 2, 3 and 7 does it not
# detect?</summary>
#
# A filter that is rotated or transposed, forward or backward.
#
# </details>
# <details><summary>4. A classifier for images of 32 x 32 without padding has the stride 4. How many answers
# does it give on 64 x 96, and at which pixel lies the first? (2, 6, 9)</summary>
#
# (64 - 32) / 4 + 1 = 9 rows and (96 - 32) / 4 + 1 = 17 columns; the first window covers pixels 0 to 31, so
# its centre is at 15.5.
#
# </details>
# <details><summary>5. Where does an FCN learn what there is, and where it is? (5, 10)</summary>
#
# What: in the deep layers, whose receptive fields are large. Where: in the finer maps, which skips add.
#
# </details>
# <details><summary>6. A network for 5 classes predicts background everywhere. Background has 80 percent of
# the pixels. Pixel accuracy, mean accuracy, mean IoU? (8)</summary>
#
# .80, 1/5 = .20, and .80 / 5 = .16.
#
# </details>
# <details><summary>7. The first loss of this network is 9. What do you suspect? (9, 10)</summary>
#
# The scores are too large: it should be about log 5 = 1.6. Perhaps new layers did not start at zero.
#
# </details>
# <details><summary>8. Masks have the values 0 and 255, and the loss falls to 0 at once. Why? (1, 9)</summary>
#
# 255 is void. Only background has labels, so background everywhere is perfect.
#
# </details>
# <details><summary>9. Your FCN shifts everything by 4 pixels, and its pixel accuracy is 94 percent. How do
# you find the mistake? (8, 9)</summary>
#
# The mean IoU shows that something is wrong; a ramp shows where: upsampled positions must give each pixel its
# own index.
#
# </details>
# <details><summary>10. You have 20 labelled images. What do you do first? (9, 11)</summary>
#
# Overfit two of them. Then start from a classifier, with a trunk that is frozen or learns slowly.
#
# </details>
