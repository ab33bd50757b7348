"""Visitors that compute, and that calculate with sizes that have no values yet."""

from collections import Counter
from functools import cache, reduce

import numpy as np

from minifcn.functional import interpolate
from minifcn.layers import Visitor


class Computing(Visitor):
    """Runs each leaf's forward, and joins by NumPy."""

    def __init__(self):
        self.met = Counter()

    def leaf(self, layer, x):
        self.met[layer] += 1
        return layer.forward(x)

    def add(self, *xs):
        assert len({x.shape for x in xs}) == 1
        return sum(xs[1:], start=xs[0])

    def multiply(self, *xs):
        largest = max((x.shape for x in xs), key=np.prod)
        assert {x.shape for x in xs} <= {largest, (*largest[:2], 1, 1)}
        y = xs[0]
        for x in xs[1:]:
            y = y * x
        return y

    def concat(self, *xs):
        return np.concatenate(xs, axis=1)

    def pad(self, x, sides, mode="zeros"):
        top, bottom, left, right = sides
        widths = (0, 0), (0, 0), (top, bottom), (left, right)
        return np.pad(x, widths, mode={"zeros": "constant", "edge": "edge"}[mode])

    def crop(self, x, sides):
        top, bottom, left, right = sides
        if min(*sides, x.shape[2] - top - bottom, x.shape[3] - left - right) < 0:
            raise ValueError(f"a map of {x.shape[2:]} cannot be cropped by {sides}")
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right].copy()

    def resize(self, x, size):
        return interpolate(x, size, "bilinear")

    def size(self, x):
        return x.shape[2:]


class Size:
    """A number of rows or columns that is a function of the image's; it cannot be compared or converted."""

    def __init__(self, value):
        self.value = cache(value)  # function of (height, width)

    def _with(self, other, operate):
        if isinstance(other, Size):
            return Size(lambda *size: operate(self.value(*size), other.value(*size)))
        assert type(other) is int, other
        return Size(lambda *size: operate(self.value(*size), other))

    def __add__(self, other):
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other):
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other):
        return self._with(other, lambda a, b: a * b)

    def __floordiv__(self, other):
        return self._with(other, lambda a, b: a // b)

    def __rsub__(self, other):
        return self._with(other, lambda a, b: b - a)

    __radd__, __rmul__ = __add__, __mul__

    def _refused(self, *_):
        raise AssertionError("a symbolic size was compared or converted")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refused
    __bool__ = __int__ = __index__ = __float__ = __neg__ = _refused
    __hash__ = None


class Symbolic(Visitor):
    """Passes (rows, columns) of symbolic sizes along, and notes those of each leaf's output."""

    def __init__(self):
        self.sizes = {}

    def leaf(self, layer, x):
        @cache
        def output(*size):
            channels = getattr(layer, "in_channels", getattr(layer, "num_features", 1))
            return layer.output_shape((channels, *(side.value(*size) for side in x)))

        y = Size(lambda *size: output(*size)[1]), Size(lambda *size: output(*size)[2])
        self.sizes[layer] = y
        return y

    def add(self, *xs):
        return xs[0]

    concat = add

    def multiply(self, *xs):
        return tuple(reduce(self.maximum, sides) for sides in zip(*xs, strict=True))

    def pad(self, x, sides, mode="zeros"):
        top, bottom, left, right = sides
        return x[0] + top + bottom, x[1] + left + right

    def crop(self, x, sides):
        top, bottom, left, right = sides
        return x[0] - top - bottom, x[1] - left - right

    def resize(self, x, size):
        return size

    def size(self, x):
        return x

    def maximum(self, a, b):
        if isinstance(a, Size):
            return a._with(b, max)
        return b._with(a, max) if isinstance(b, Size) else max(a, b)

    def minimum(self, a, b):
        if isinstance(a, Size):
            return a._with(b, min)
        return b._with(a, min) if isinstance(b, Size) else min(a, b)
