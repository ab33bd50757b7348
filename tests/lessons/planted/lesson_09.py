"""Wrong answers to the exercises of lesson 9, and what must be said about each."""

import numpy as np

import minifcn as mf


def loss(scores, labels, *, axis=0, void_as=None, pixels=None, void_pushes=False):
    """A loss with slots for mistakes."""
    exponentials = np.exp(scores)
    p = exponentials / exponentials.sum(axis=axis, keepdims=True)
    valid = labels != 255
    if void_as is not None:
        labels = np.where(valid, labels, void_as)
        valid = np.ones(labels.shape, bool)
    onehot = np.arange(len(scores))[:, None, None] == labels
    total = -np.log((p * onehot).sum(axis=0)[valid]).sum()
    counted = np.ones(labels.shape) if void_pushes else valid
    pixels = pixels or valid.sum()
    return total / pixels, (p - onehot) * counted / pixels


def mean_of_all_pixels(scores, labels):
    return loss(scores, labels, pixels=labels.size)


def only_loss_by_all_pixels(scores, labels):
    return loss(scores, labels, pixels=labels.size)[0], loss(scores, labels)[1]


def void_is_background(scores, labels):
    return loss(scores, labels, void_as=0)


def void_is_the_last_class(scores, labels):
    return loss(scores, labels, void_as=len(scores) - 1)


def void_pushes(scores, labels):
    return loss(scores, labels, void_pushes=True)


def gradient_of_the_sum(scores, labels):
    return loss(scores, labels)[0], loss(scores, labels, pixels=1)[1]


def sums(scores, labels):
    return loss(scores, labels, pixels=1)


def onehot_minus_p(scores, labels):
    return loss(scores, labels)[0], -loss(scores, labels)[1]


def without_minus(scores, labels):
    return -loss(scores, labels)[0], loss(scores, labels)[1]


def softmax_over_columns(scores, labels):
    return loss(scores, labels, axis=2)


def softmax_over_rows(scores, labels):
    return loss(scores, labels, axis=1)


def void_like_class_0(scores, labels):
    value, _ = loss(scores, labels)
    return value, loss(scores, labels, void_as=0, pixels=(labels != 255).sum())[1]


def class_number_255(scores, labels):
    rows, columns = np.indices(labels.shape)
    p = np.exp(scores) / np.exp(scores).sum(axis=0)
    right = p[labels, rows, columns]
    return -np.log(right)[labels != 255].mean(), loss(scores, labels)[1]


def loss_alone(scores, labels):
    return loss(scores, labels)[0]


def crop(layers, kernel, *, middle=0.5, sign=-1, first_stride=False):
    """A crop with slots for mistakes."""
    every, start = 1, 0
    for k, s, p in layers:
        if first_stride:
            every *= s
        start += every * (k / 2 - middle + sign * p)
        if not first_stride:
            every *= s
    return kernel / 2 - middle - start


def later_shifts_unscaled(layers, kernel):
    return (kernel - 1) / 2 - sum((k - 1) / 2 - p for k, _, p in layers)


def stride_first(layers, kernel):
    return crop(layers, kernel, first_stride=True)


def last_layer_first(layers, kernel):
    return crop(list(reversed(layers)), kernel)


def start_multiplied(layers, kernel):
    start = 0
    for k, s, p in layers:
        start = s * start + (k - 1) / 2 - p
    return (kernel - 1) / 2 - start


def plus_padding(layers, kernel):
    return crop(layers, kernel, sign=1)


def without_padding(layers, kernel):
    return crop(layers, kernel, sign=0)


def half_kernels(layers, kernel):
    return crop(layers, kernel, middle=0)


def windows_begin(layers, kernel):
    return crop([(1, s, p) for _, s, p in layers], kernel)


def minus(layers, kernel):
    return -crop(layers, kernel)


def place_of_score_0(layers, kernel):
    return (kernel - 1) / 2 - crop(layers, kernel)


def rounded_down(layers, kernel):
    return kernel // 2 - sum(p for _, _, p in layers)


def step(model, x, labels, lr, *, forget=True, reduction="mean", named=None):
    """A step with slots for mistakes."""
    if forget:
        for parameter in model.parameters():
            parameter.grad = None
    value, dscores = mf.losses.softmax_cross_entropy(model(x), labels, reduction=reduction)
    model.backward(dscores)
    for name, parameter in model.named_parameters():
        if named is None or name.endswith(named):
            parameter.data = parameter.data - lr * parameter.grad
    return value


def gradients_added_up(model, x, labels, lr):
    return step(model, x, labels, lr, forget=False)


def uphill(model, x, labels, lr):
    return step(model, x, labels, -lr)


def without_rate(model, x, labels, lr):
    return step(model, x, labels, 1)


def weights_alone(model, x, labels, lr):
    return step(model, x, labels, lr, named="weight")


def summed(model, x, labels, lr):
    return step(model, x, labels, lr, reduction="sum")


def grads_forgotten_too_late(model, x, labels, lr):
    value, dscores = mf.losses.softmax_cross_entropy(model(x), labels)
    model.backward(dscores)
    for parameter in model.parameters():
        parameter.grad = np.zeros_like(parameter.data)
    for parameter in model.parameters():
        parameter.data = parameter.data - lr * parameter.grad
    return value


def loss_after(model, x, labels, lr):
    step(model, x, labels, lr)
    return mf.losses.softmax_cross_entropy(model(x), labels)[0]


def without_backward(model, x, labels, lr):
    value, _ = mf.losses.softmax_cross_entropy(model(x), labels)
    for parameter in model.parameters():
        parameter.data = parameter.data - lr * parameter.grad
    return value


WRONG = {
    "my_loss": {
        mean_of_all_pixels: "Likely mistake: The sums are divided by the number of all pixels",
        only_loss_by_all_pixels: "Likely mistake: The loss is divided by the number of all pixels",
        void_is_background: "Likely mistake: Void pixels are treated as class 0",
        void_is_the_last_class: "Smallest failing case: scores (2, 1, 2)",
        void_pushes: "Likely mistake: At void pixels the gradient must be 0",
        gradient_of_the_sum: "Likely mistake: The gradient is that of the sum",
        sums: "Likely mistake: The losses of the pixels are summed",
        onehot_minus_p: "Likely mistake: The gradient has the wrong sign",
        without_minus: "Likely mistake: The loss has the wrong sign",
        softmax_over_columns: "Likely mistake: Softmax is computed over the columns",
        softmax_over_rows: "Likely mistake: Softmax is computed over the rows",
        void_like_class_0: "Likely mistake: At void pixels the gradient must be 0; yours is that of class 0",
        class_number_255: "IndexError: index 255 is out of bounds",
        loss_alone: "the result must be 2 values",
    },
    "my_crop": {
        later_shifts_unscaled: "Likely mistake: The shift of a layer is in steps of its input",
        stride_first: "Likely mistake: A layer's stride applies to the layers after it",
        start_multiplied: "Likely mistake: This is the result for the layers in reverse order",
        last_layer_first: "Likely mistake: This is the result for the layers in reverse order",
        plus_padding: "Likely mistake: The padding is added",
        without_padding: "Likely mistake: The padding is missing",
        half_kernels: "Likely mistake: The centre of k values",
        windows_begin: "Likely mistake: This is where windows start",
        minus: "Likely mistake: The sign is wrong",
        place_of_score_0: "Likely mistake: This is where score 0 lies",
        rounded_down: "Smallest failing case: layers = [(1, 1, 1)], kernel = 1",
    },
    "my_step": {
        gradients_added_up: "Likely mistake: The gradients of the previous step are added",
        uphill: "Likely mistake: The gradient is added",
        without_rate: "Likely mistake: The learning rate is missing",
        weights_alone: "Likely mistake: Only the weights are updated",
        summed: "Likely mistake: The loss is summed",
        grads_forgotten_too_late: "Likely mistake: The parameters are not updated",
        loss_after: "Likely mistake: The result is the loss after the update",
        without_backward: "unsupported operand type",
    },
}
