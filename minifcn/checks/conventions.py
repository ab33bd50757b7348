"""Checks that a layer keeps the conventions on which containers, training and files rely."""

import json
import math
import operator
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import Any, NoReturn

import numpy as np

from minifcn.backend import Array, array_module, device_of
from minifcn.checks.comparing import CheckFailedError, array_problem, as_numpy, form_problem, in_place
from minifcn.functional import interpolate
from minifcn.geometry import CoordinateMap
from minifcn.layers import Conv2d, Layer, Sequential, Visitor
from minifcn.layers.base import Shape
from minifcn.layers.config import from_config, to_config
from minifcn.models import explain

_SIZES = (1, 1), (1, 2), (3, 2), (4, 7), (9, 8)
_MAX_SIDE = 40  # largest image whose pixels are changed one by one
_TOLERANCE = {"float64": 1e-9, "float32": 1e-3}


def check_conventions(layer: Layer, shape: Shape) -> None:
    """Check that a layer, built in or your own, keeps the conventions of minifcn.

    The checks run on copies of the layer, in float64 and in float32, on batches of two random inputs: images
    of several small sizes and of the given one. Sizes that `forward` refuses with a `ValueError` are skipped,
    except the given one. Parameters that are all zero get random values. `check_gradient` checks the values
    of the gradients; here the conventions are checked:

    - *dtype*: output and gradients have the dtype of the input.
    - *in place*: forward and backward leave the input, dy and the parameters unchanged. A layer with a
      true attribute `inplace` may change the input and dy if its docstring explains `inplace`.
    - *eval*: two forward passes in evaluation give the same output, and keep nothing for backward.
    - *backward*: refused with a `ValueError` without forward, a second time, or if dy has a wrong shape, and
      with a `TypeError` if it has a wrong dtype.
    - *gradients*: a second backward pass adds to the gradients of the parameters, and `backward_parameters`
      gives the same gradients as `backward`.
    - *state*: after `load_state_dict`, a copy with other values gives the same output.
    - *output_shape*: the shape that `output_shape` and `explain` predict is that of the output.
    - *place*: changing one row or column of an image changes outputs only where the reach says, and
      `coordinate_map` gives the centre of what an output depends on.
    - *walk*: a visitor that computes gives the output of `forward`; a layer that holds layers has its own.
    - *config*: a layer made from the `config` gives the same output, too; the class must be registered
      (`layers.register`). This is checked after all else.

    Args:
        layer: The layer; it is not changed.
        shape: Shape of one input without the batch axis: (C, H, W), or (features,).

    Raises:
        CheckFailedError: Names the convention, what was expected and what came, and the smallest input for
            which this happens.

    Example:
        >>> from minifcn.layers import Conv2d, Pointwise
        >>> check_conventions(Conv2d(2, 3, 3, padding=1, rng=0), (2, 6, 5))
        >>> class Double(Pointwise):
        ...     def forward(self, x):
        ...         x *= 2
        ...         self.keep(output=x)
        ...         return x
        ...     def backward(self, dy):
        ...         self.recall(dy)
        ...         return 2 * dy
        >>> try:
        ...     check_conventions(Double(), (2, 6, 5))
        ... except CheckFailedError as failure:
        ...     print(failure)
        Double(): in place: forward changes x in place; work on a copy
        smallest example: x of shape (2, 2, 1, 1), float64
    """
    generator = np.random.default_rng(0)
    sizes = {(min(h, shape[1]), min(w, shape[2])) for h, w in _SIZES} if len(shape) == 3 else set()
    items = [(shape[0], *size) for size in sorted(sizes - {shape[1:]}, key=math.prod)]
    checks = []
    for item, dtype in product([*items, tuple(shape)], _TOLERANCE):
        try:
            checks.append(_Conventions(layer, item, dtype, generator))
        except ValueError:
            if item == tuple(shape):
                raise
    for one in checks:
        one.check()
    for one in checks:
        one.config()


class _Conventions:
    """One layer and one input; `check` and the methods that it calls raise `CheckFailedError`."""

    def __init__(self, layer: Layer, item: Shape, dtype: str, rng: np.random.Generator):
        self.title = repr(layer) if "\n" not in repr(layer) else type(layer).__name__
        self.item, self.dtype = item, dtype
        self.layer = deepcopy(layer).astype(dtype)
        self.xp = array_module(*self.layer.state_dict().values())
        for parameter in self.layer.parameters():
            if not parameter.data.any():
                parameter.data = self.random(rng, parameter.data.shape)
        self.x = self.random(rng, (2, *item))
        self.y = self.copy(training=False)(self.x.copy())
        if not isinstance(self.y, self.xp.ndarray):
            self.fail("forward", f"must return an array, got {type(self.y).__name__}")
        self.dy = self.random(rng, self.y.shape)

    def check(self) -> None:
        """Check all conventions, in an order in which one mistake is named as what it is."""
        self.output_shape()
        self.eval()
        self.forward_and_backward()
        self.refusals()
        self.gradients()
        self.state()
        self.walk()
        self.place()

    # What the conventions below use

    def random(self, rng: np.random.Generator, shape: Shape) -> Any:
        return self.xp.asarray(rng.standard_normal(shape).astype(self.dtype))

    def copy(self, *, training: bool = True) -> Layer:
        """Return a new copy, with the random state of the original, so that dropout repeats."""
        return deepcopy(self.layer).train(training)

    def fail(self, convention: str, problem: str) -> NoReturn:
        raise CheckFailedError(
            f"{self.title}: {convention}: {problem}\n"
            f"smallest example: x of shape {self.x.shape}, {self.dtype}"
        )

    def check_form(self, convention: str, name: str, got: Any, shape: Shape) -> None:
        """Demand an array of a shape and of the dtype of the input."""
        self.refuse(convention, name, form_problem(got, shape, self.dtype, self.xp))

    def compare(self, convention: str, name: str, expected: Array, got: Any, tolerance: float = 1) -> None:
        """Demand an array of the expected shape, dtype and values."""
        self.refuse(convention, name, array_problem(got, expected, tolerance * _TOLERANCE[self.dtype]))

    def refuse(self, convention: str, name: str, problem: str) -> None:
        if problem:
            self.fail("dtype" if "dtype" in problem else convention, f"{name} {problem}".replace("\n", " "))

    def check_refused(
        self, convention: str, what: str, call: Callable[..., Any], array: Array, *kinds: type[Exception]
    ) -> None:
        """Demand that a function of an array raises one of these exceptions."""
        try:
            call(array.copy())
        except kinds:
            return
        except Exception as error:  # the wrong kind of error is what this check reports
            got = f"{type(error).__name__}: {error}"
        else:
            got = "no error"
        self.fail(convention, f"{what} must raise {' or '.join(k.__name__ for k in kinds)}, got {got}")

    # The conventions

    def output_shape(self) -> None:
        try:
            predicted = str(tuple(self.layer.output_shape(self.item)))
        except ValueError as error:
            predicted = f"ValueError: {error}"
        if predicted != str(self.y.shape[1:]):
            self.fail("output_shape", f"expected {self.y.shape[1:]} as of the output, got {predicted}")

    def eval(self) -> None:
        layer = self.copy(training=False)
        first, second = (layer(self.x.copy()) for _ in range(2))
        self.compare("eval", "the output of a second forward pass", first, second, tolerance=0)
        self.check_refused("backward", "backward in eval mode", layer.backward, self.dy, ValueError)

    def forward_and_backward(self) -> None:
        """Run both once: shapes, dtypes and changes in place."""
        layer, x, dy = self.copy(), self.x.copy(), self.dy.copy()
        before = {"x": self.x, "dy": self.dy, **_data(self.layer)}
        for part in layer.layers():
            if getattr(part, "inplace", False):
                before = _data(self.layer)
                if "inplace" not in (type(part).__doc__ or ""):
                    self.fail("in place", f"the docstring of {type(part).__name__} must explain inplace")
        for culprit, function, array, name, shape in (
            ("forward", layer, x, "the output", self.y.shape),
            ("backward", layer.backward, dy, "the gradient to the input", self.x.shape),
        ):
            try:
                result = function(array)
            except ValueError as error:
                self.fail(culprit, f"expected a result, got ValueError: {error}")
            if problem := in_place(culprit, before, {"x": x, "dy": dy, **_data(layer)}):
                self.fail("in place", problem)
            self.check_form("output_shape" if culprit == "forward" else "gradients", name, result, shape)
        for name, parameter in layer.named_parameters():
            if parameter.trainable:
                self.check_form("gradients", f"the gradient to {name}", parameter.grad, parameter.data.shape)

    def refusals(self) -> None:
        layer, dy = self.copy(), self.dy
        other = "float32" if self.dtype == "float64" else "float64"
        self.check_refused("backward", "backward without forward", layer.backward, dy, ValueError)
        layer(self.x.copy())
        what = f"dy of shape {dy[:1].shape} for an output of shape {dy.shape}"
        self.check_refused("backward", what, layer.backward, dy[:1], ValueError)
        self.check_refused("backward", f"dy of {other}", layer.backward, dy.astype(other), TypeError)
        layer.backward(dy.copy())
        self.check_refused("backward", "a second backward", layer.backward, dy, ValueError)

    def gradients(self) -> None:
        """Compare two backward passes, and `backward_parameters`, with one backward pass."""
        once, twice, only = layers = [self.copy() for _ in range(3)]
        for layer in layers:
            layer(self.x.copy())
        once.backward(self.dy.copy())
        for to_change, source in zip(twice.parameters(), once.parameters(), strict=True):
            to_change.grad = None if source.grad is None else source.grad.copy()
        twice.backward(self.dy.copy())
        only.backward_parameters(self.dy.copy())
        results = zip(once.named_parameters(), twice.parameters(), only.parameters(), strict=True)
        for (name, right), doubled, alone in results:
            if right.grad is not None and right.trainable:
                name = f"the gradient to {name}"
                self.compare("gradients", f"after a second backward {name}", 2 * right.grad, doubled.grad)
                self.compare("backward_parameters", name, right.grad, alone.grad)

    def state(self) -> None:
        """Load the state into a copy that has seen another input."""
        trained, other = self.copy(), self.copy()
        trained(self.x.copy())
        other(3 * self.x + 1)
        for array in other.state_dict().values():
            array[...] = 0
        other.load_state_dict(trained.state_dict())
        right, got = (layer.eval()(self.x.copy()) for layer in (trained, other))
        self.compare("state", "the output after load_state_dict", right, got)

    def walk(self) -> None:
        """Compare with a visitor whose values are not arrays, so that `walk` cannot compute with them."""
        for part in self.layer.layers():
            complete = type(part).forward is not Layer.forward  # not so a LayerDict
            if complete and any(part.children()) and type(part).walk is Layer.walk:
                self.fail("walk", f"{type(part).__name__} holds layers, so it must have a walk")
        try:
            y = self.copy(training=False).walk(_Computing(), VisitorValue(self.x.copy()))
        except Exception as error:  # whatever a walk does with values that it takes for arrays
            y = error
        if not isinstance(y, VisitorValue):
            got = f"{type(y).__name__}: {y}" if isinstance(y, Exception) else type(y).__name__
            self.fail(
                "walk",
                "walk must return a value of the visitor, made by visitor.visit(part, x), "
                f"visitor.leaf(self, x) or a joint such as visitor.add(a, b), got {got}",
            )
        self.compare("walk", "the output of walk", self.y, y.array)

    def config(self) -> None:
        """Make a layer from the config, and load the state into it."""
        try:
            again = from_config(json.loads(json.dumps(to_config(self.layer)))).astype(self.dtype)
            again.to(device_of(self.x)).load_state_dict(self.layer.state_dict())
        except (TypeError, ValueError) as error:
            self.fail("config", f"expected a layer made from its config, got {type(error).__name__}: {error}")
        y = again.eval()(self.x.copy())
        self.compare("config", "the output of a layer made from its config", self.y, y)

    def place(self) -> None:
        """Compare coordinate map, `explain` and the outputs that change with one row or column."""
        if self.dtype != "float64" or len(self.item) != 3 or self.y.ndim != 4:
            return
        channels, *size = self.item
        row = explain(Sequential(Conv2d(channels, channels, 1, init="zeros"), self.layer), size).rows[-1]
        if row.output_shape != self.y.shape[1:]:
            self.fail("output_shape", f"expected {self.y.shape[1:]}, explain gives {row.output_shape}")
        if max(size) > _MAX_SIDE or row.views is None:
            return
        try:
            grid = self.layer.coordinate_map()
        except ValueError:  # it has none, for example because rows and columns differ
            grid = None
        for axis, view in enumerate(row.views, 2):
            if grid not in (None, view.grid):
                self.fail("place", f"coordinate_map gives {grid}, but explain {view.grid}")
            self.along(axis, view.grid, view.field)

    def along(self, axis: int, grid: CoordinateMap, field: int) -> None:
        """Compare the inputs that each output along an axis depends on with the reach and its centre."""
        depends, leaf, along = self.changes(axis), not any(self.layer.children()), ("row", "column")[axis - 2]
        # The inputs of an upsampled output lie around a point up to half a step beside its place.
        slack = 0 if leaf and grid.scale >= 1 else Fraction(1, 2)
        half = Fraction(field - 1, 2)
        for index, inputs in enumerate(depends.T):
            if not inputs.any():
                continue
            first, last = (int(i) for i in np.flatnonzero(inputs)[[0, -1]])
            if field >= len(depends):  # all of the image, as where a gate of a global average is a factor
                return
            place, found = grid(index), f"output {along} {index} depends on input {along}s {first} to {last}"
            if max(place - first, last - place) > half + slack:
                self.fail("place", f"{found}, but its reach is {field} around {place}")
            inner = place - half >= 0 and place + half <= len(depends) - 1
            if inner and leaf and abs(Fraction(first + last, 2) - place) > slack:
                self.fail("place", f"{found}, expected around {place} by its coordinate map")

    def changes(self, axis: int) -> Array:
        """Return which outputs (columns) change with which inputs (rows) along an axis."""
        count = self.x.shape[axis]
        impulses = 100 * np.concatenate([np.eye(count), -np.eye(count), np.zeros((1, count))])
        shape = (-1, 1, count, 1) if axis == 2 else (-1, 1, 1, count)
        y = as_numpy(self.copy(training=False)(self.x[:1] + self.xp.asarray(impulses.reshape(shape))))
        changed = np.abs(y[:-1] - y[-1]) > 1e-9 * np.abs(y).max(initial=0)
        either: Array = changed.any(axis=tuple({1, 2, 3} - {axis})).reshape(2, count, -1).any(axis=0)
        return either


@dataclass(frozen=True)
class VisitorValue:
    """An array that only a visitor can compute with."""

    array: Array


def _data(layer: Layer) -> dict[str, Array]:
    return {name: parameter.data for name, parameter in layer.named_parameters()}


class _Computing(Visitor):
    """Computes what `forward` computes."""

    def leaf(self, layer: Layer, x: VisitorValue) -> VisitorValue:
        return VisitorValue(layer.forward(x.array))

    def size(self, x: VisitorValue) -> tuple[int, int]:
        return x.array.shape[2], x.array.shape[3]

    def add(self, *xs: VisitorValue) -> VisitorValue:
        return VisitorValue(reduce(operator.add, (x.array for x in xs)))

    def multiply(self, *xs: VisitorValue) -> VisitorValue:
        return VisitorValue(reduce(operator.mul, (x.array for x in xs)))

    def concat(self, *xs: VisitorValue) -> VisitorValue:
        arrays = [x.array for x in xs]
        return VisitorValue(array_module(*arrays).concatenate(arrays, axis=1))

    def pad(self, x: VisitorValue, sides: tuple[int, int, int, int], mode: str = "zeros") -> VisitorValue:
        widths = (0, 0), (0, 0), sides[:2], sides[2:]
        kind = "edge" if mode == "edge" else "constant"
        return VisitorValue(array_module(x.array).pad(x.array, widths, kind))

    def crop(self, x: VisitorValue, sides: tuple[int, int, int, int]) -> VisitorValue:
        top, bottom, left, right = sides
        rows, cols = self.size(x)
        return VisitorValue(x.array[:, :, top : rows - bottom, left : cols - right].copy())

    def resize(self, x: VisitorValue, size: tuple[int, int]) -> VisitorValue:
        return VisitorValue(interpolate(x.array, size, "bilinear"))
