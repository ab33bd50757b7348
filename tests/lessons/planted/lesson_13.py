"""Wrong answers to the exercises of lesson 13, and what must be said about each."""

import numpy as np

import minifcn as mf


def filters(w, *, swap=True, rotate=True):
    w = w.transpose(1, 0, 2, 3) if swap else w
    return w[:, :, ::-1, ::-1] if rotate else w


def unrotated(convolve, g, w, padding):
    return convolve(g, filters(w, rotate=False), w.shape[2] - 1 - padding)


def one_axis_rotated(convolve, g, w, padding):
    return convolve(g, filters(w, rotate=False)[:, :, ::-1], w.shape[2] - 1 - padding)


def transposed_filters(convolve, g, w, padding):
    return convolve(g, w.transpose(1, 0, 3, 2), w.shape[2] - 1 - padding)


def channels_for_filters(convolve, g, w, padding):
    return convolve(g, filters(w, swap=False), w.shape[2] - 1 - padding)


def reshaped(convolve, g, w, padding):
    other = w.reshape(w.shape[1], w.shape[0], *w.shape[2:])
    return convolve(g, filters(other, swap=False), w.shape[2] - 1 - padding)


def forward_padding(convolve, g, w, padding):
    return convolve(g, filters(w), padding)


def full_padding(convolve, g, w, padding):
    return convolve(g, filters(w), w.shape[2] - 1)


def filter_by_filter(convolve, g, w, padding):
    return sum(
        convolve(g[o : o + 1], filters(w[o : o + 1]), w.shape[2] - 1 - padding) for o in range(w.shape[0])
    )


def with_the_library(convolve, g, w, padding):
    return mf.functional.conv_transpose2d(g[None], w, padding=padding)[0]


class Network:
    """A chain with slots for mistakes."""

    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, g):
        for layer in self.layers[::-1]:
            g = layer.backward(g)
        return g


class Forwards(Network):
    def backward(self, g):
        for layer in self.layers:
            g = layer.backward(g)
        return g


class SameGradientForAll(Network):
    def backward(self, g):
        for layer in self.layers[::-1]:
            dx = layer.backward(g)
        return dx


class WithoutTheFirst(Network):
    def backward(self, g):
        for index in range(len(self.layers) - 1, 0, -1):
            g = self.layers[index].backward(g)
        return g


class ImageForAll(Network):
    def __call__(self, x):
        for layer in self.layers:
            y = layer.forward(x)
        return y


class Reversed(Network):
    def __call__(self, x):
        for layer in self.layers[::-1]:
            x = layer.forward(x)
        return x


class NothingReturned(Network):
    def __call__(self, x):
        super().__call__(x)


class NoGradientReturned(Network):
    def backward(self, g):
        super().backward(g)


class Ones(Network):
    def backward(self, g):
        return super().backward(np.ones_like(g))


WRONG = {
    "my_input_grads": {
        unrotated: "Likely mistake: The filters are not rotated",
        one_axis_rotated: "Smallest failing case: g (1, 1, 1)",
        transposed_filters: "Likely mistake: Rows and columns of the filters are swapped",
        channels_for_filters: "Likely mistake: The filters are (O, C, K, K); g has O channels",
        reshaped: "Likely mistake: Filters and channels are mixed",
        forward_padding: "Likely mistake: There are `padding` zeros around g",
        full_padding: "Likely mistake: There are K - 1 zeros around g for each padding",
        filter_by_filter: "is right, but this exercise does not allow loops",
        with_the_library: "does not allow conv_transpose2d, functional, mf",
    },
    "MyNetwork": {
        Forwards: "Likely mistake: The gradient goes through the layers from front to back",
        SameGradientForAll: "Likely mistake: Each layer gets the gradient of the output",
        WithoutTheFirst: "Likely mistake: The first layer gets no gradient",
        ImageForAll: "Likely mistake: Each layer gets the image",
        Reversed: "Likely mistake: Forward, the layers are used in reverse order",
        NothingReturned: 'returns None: is there a "return"?',
        NoGradientReturned: "returned gradient: the function returns None",
        Ones: "Smallest failing case: x (1, 1)",
    },
}
