"""Checks that a layer keeps the conventions on which containers, training and files rely."""

import json
import math
import operator
from collections.abc import Callable, Iterator
from copy import deepcopy
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module, device_of
from minifcn.checks.comparing import CheckFailedError, as_numpy, in_place, worst_entry
from minifcn.geometry import CoordinateMap
from minifcn.layers import Conv2d, Layer, Sequential, Visitor
from minifcn.layers.base import Shape
from minifcn.layers.config import from_config, to_config
from minifcn.models import explain

_SIZES = (1, 1), (1, 2), (3, 2), (4, 7), (9, 8)
_MAX_SIDE = 40  # largest image whose pixels are changed one by one
_TOLERANCE = {"float64": 1e-9, "float32": 1e-3}


def check_conventions(layer: Layer, shape: Shape, *, rng: int | np.random.Generator = 0) -> None:
    """Check that a layer, built in or your own, keeps the conventions of minifcn.

    The checks run on copies of the layer, in float64 and in float32, on batches of two random inputs: images
    of several small sizes and of the given one. Sizes that `forward` refuses with a `ValueError` are skipped,
    except the given one. Parameters that are all zero get random values. `check_gradient` checks the values
    of the gradients; here the conventions are checked:

    - *dtype*: output and gradients have the dtype of the input; another dtype than that of the parameters is
      refused with a `TypeError` or `ValueError`.
    - *in place*: forward and backward leave the input, dy and the parameters unchanged. A layer with a
      true attribute `inplace` may change the input and dy if its docstring explains `inplace`.
    - *eval*: two forward passes in evaluation give the same output, and keep nothing for backward.
    - *backward*: refused with a `ValueError` without forward, a second time, or if dy has a wrong shape, and
      with a `TypeError` if it has a wrong dtype.
    - *gradients*: a second backward pass adds to the gradients of the parameters, and `backward_parameters`
      gives the same gradients as `backward`.
    - *state*: after `load_state_dict`, a copy with other values gives the same output.
    - *config*: so does a layer made from the `config`; the class must be registered (`layers.register`).
    - *output_shape*: the shape that `output_shape` and `explain` predict is that of the output.
    - *place*: changing one row or column of an image changes outputs only where the reach says, and
      `coordinate_map` gives the centre of what an output depends on.
    - *walk*: a visitor that computes gives the output of `forward`.

    Args:
        layer: The layer; it is not changed.
        shape: Shape of one input without the batch axis: (C, H, W), or (features,).
        rng: Generator or seed of the random values.

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
    generator = np.random.default_rng(rng)
    sizes = {(min(h, shape[1]), min(w, shape[2])) for h, w in _SIZES} if len(shape) == 3 else set()
    items = [(shape[0], *size) for size in sorted(sizes - {shape[1:]}, key=math.prod)]
    for item in [*items, tuple(shape)]:
        for dtype in _TOLERANCE:
            try:
                check = _Conventions(layer, item, dtype, generator)
            except ValueError:
                if item == tuple(shape):
                    raise
                continue
            for convention, problem in check.problems():
                raise CheckFailedError(
                    f"{check.title}: {convention}: {problem}\n"
                    f"smallest example: x of shape {check.x.shape}, {dtype}"
                )


class _Conventions:
    """One layer and one input; the methods yield problems."""

    def __init__(self, layer: Layer, item: Shape, dtype: str, rng: np.random.Generator):
        self.title = repr(layer) if "\n" not in repr(layer) else type(layer).__name__
        self.item, self.dtype, self.tolerance = item, dtype, _TOLERANCE[dtype]
        self.layer = deepcopy(layer).astype(dtype)
        self.xp = array_module(*self.layer.state_dict().values())
        for parameter in self.layer.parameters():
            if not parameter.data.any():
                parameter.data = self.random(rng, parameter.data.shape)
        self.x = self.random(rng, (2, *item))
        self.y = self.copy(training=False)(self.x.copy())
        self.dy = self.random(rng, self.y.shape)

    def random(self, rng: np.random.Generator, shape: Shape) -> Array:
        array: Array = self.xp.asarray(rng.standard_normal(shape).astype(self.dtype))
        return array

    def zeros(self, value: Any) -> Any:
        """Return zeros in place of an array, to compare shapes and dtypes alone."""
        return self.xp.zeros_like(value) if isinstance(value, self.xp.ndarray | np.generic) else value

    def copy(self, *, training: bool = True) -> Layer:
        """Return a new copy, with the random state of the original, so that dropout repeats."""
        return deepcopy(self.layer).train(training)

    def gradients(self, layer: Layer) -> dict[str, Any]:
        return {f"the gradient to {name}": p.grad for name, p in layer.named_parameters() if p.trainable}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the name of a convention and what is wrong."""
        yield from self.output_shape()
        yield from self.passes()
        yield from self.refusals()
        yield from self.parameters()
        yield from self.state()
        if self.dtype == "float64" and len(self.item) == 3 and self.y.ndim == 4:
            yield from self.place()
        y = self.copy(training=False).walk(_Computing(), self.x.copy())
        yield from self.compare("walk", "the output of walk", self.y, y)
        yield from self.config()

    def compare(self, convention: str, name: str, expected: Array, got: Any) -> Iterator[tuple[str, str]]:
        """Yield a problem unless an array is the expected one, in shape, dtype and values."""
        if not isinstance(got, self.xp.ndarray | np.generic):
            yield convention, f"{name} must be an array, got {type(got).__name__}"
        elif got.shape != expected.shape:
            yield convention, f"{name} must have shape {expected.shape}, got {got.shape}"
        elif got.dtype != expected.dtype:
            yield "dtype", f"{name} must have dtype {expected.dtype}, got {got.dtype}"
        else:
            right, wrong = as_numpy(expected), as_numpy(got)
            scale = float(np.abs(right).max(initial=0))
            if not np.allclose(wrong, right, rtol=0, atol=self.tolerance * scale):
                yield convention, f"{name} is wrong {worst_entry(right, wrong)}"

    def refused(self, what: str, kinds: Any, call: Callable[[], Any]) -> Iterator[tuple[str, str]]:
        """Yield a problem unless a call raises one of these exceptions."""
        convention = "dtype" if "forward of" in what else "backward"
        kind = getattr(kinds, "__name__", "TypeError")
        try:
            call()
        except kinds:
            return
        except Exception as error:
            yield convention, f"{what} must raise {kind}, got {type(error).__name__}: {error}"
        else:
            yield convention, f"{what} must raise {kind}, got no error"

    def output_shape(self) -> Iterator[tuple[str, str]]:
        try:
            predicted = self.layer.output_shape(self.item)
        except ValueError as error:
            yield "output_shape", f"expected {self.y.shape[1:]}, got ValueError: {error}"
        else:
            if tuple(predicted) != self.y.shape[1:]:
                yield "output_shape", f"expected {self.y.shape[1:]} as of the output, got {predicted}"

    def passes(self) -> Iterator[tuple[str, str]]:
        """Run forward and backward once: dtypes, shapes, changes in place, evaluation."""
        evaluated = self.copy(training=False)
        first, second = (evaluated(self.x.copy()) for _ in range(2))
        if not np.array_equal(as_numpy(first), as_numpy(second), equal_nan=True):
            entry = worst_entry(as_numpy(first), as_numpy(second))
            yield "eval", f"the second of two forward passes must give the same output, but {entry}"
        yield from self.refused("backward in eval mode", ValueError, lambda: evaluated.backward(self.dy))

        layer, x, dy = self.copy(), self.x.copy(), self.dy.copy()
        in_place_parts = [part for part in layer.layers() if getattr(part, "inplace", False)]
        for part in in_place_parts:
            if "inplace" not in (type(part).__doc__ or ""):
                yield "in place", f"the docstring of {type(part).__name__} must explain inplace"

        def arrays() -> dict[str, Any]:
            own = {name: parameter.data for name, parameter in layer.named_parameters()}
            return own if in_place_parts else {"x": x, "dy": dy, **own}

        before = {name: array.copy() for name, array in arrays().items()}
        y = layer(x)
        if problem := in_place("forward", before, arrays()):
            yield "in place", problem
        like_output = self.xp.zeros(self.y.shape, self.dtype)
        yield from self.compare("output_shape", "the output", like_output, self.zeros(y))
        dx = layer.backward(dy)
        if problem := in_place("backward", before, arrays()):
            yield "in place", problem
        yield from self.compare("dtype", "the gradient to the input", self.zeros(self.x), self.zeros(dx))
        for name, parameter in layer.named_parameters():
            if parameter.trainable:
                expected, got = self.zeros(parameter.data), self.zeros(parameter.grad)
                yield from self.compare("gradients", f"the gradient to {name}", expected, got)

        other = "float32" if self.dtype == "float64" else "float64"
        if any(self.layer.parameters()):
            what = f"forward of {other} with parameters of {self.dtype}"
            wrong = self.x.astype(other)
            yield from self.refused(what, (TypeError, ValueError), lambda: self.copy()(wrong))

    def refusals(self) -> Iterator[tuple[str, str]]:
        layer, dy = self.copy(), self.dy
        other = "float32" if self.dtype == "float64" else "float64"
        yield from self.refused("backward without forward", ValueError, lambda: layer.backward(dy.copy()))
        layer(self.x.copy())
        yield from self.refused(
            f"dy of shape {dy[:1].shape} for an output of shape {dy.shape}",
            ValueError,
            lambda: layer.backward(dy[:1].copy()),
        )
        yield from self.refused(f"dy of {other}", TypeError, lambda: layer.backward(dy.astype(other)))
        layer.backward(dy.copy())
        yield from self.refused("a second backward", ValueError, lambda: layer.backward(dy.copy()))

    def parameters(self) -> Iterator[tuple[str, str]]:
        """Compare two backward passes, and `backward_parameters`, with one backward pass."""
        layers = once, twice, only = self.copy(), self.copy(), self.copy()
        for layer in layers:
            layer(self.x.copy())
        once.backward(self.dy.copy())
        right = self.gradients(once)
        for (_, to_change), (_, source) in zip(
            twice.named_parameters(), once.named_parameters(), strict=True
        ):
            to_change.grad = None if source.grad is None else source.grad.copy()
        twice.backward(self.dy.copy())
        only.backward_parameters(self.dy.copy())
        for name, gradient in right.items():
            sum_of_two = self.gradients(twice)[name]
            yield from self.compare("gradients", f"after a second backward {name}", 2 * gradient, sum_of_two)
            got = self.gradients(only)[name]
            yield from self.compare("backward_parameters", name, gradient, got)

    def state(self) -> Iterator[tuple[str, str]]:
        """Load the state into a copy that has seen another input."""
        trained, other = self.copy(), self.copy()
        trained(self.x.copy())
        other(3 * self.x + 1)
        for array in other.state_dict().values():
            array[...] = 0
        other.load_state_dict(trained.state_dict())
        expected = trained.eval()(self.x.copy())
        name = "the output after load_state_dict"
        yield from self.compare("state", name, expected, other.eval()(self.x.copy()))

    def config(self) -> Iterator[tuple[str, str]]:
        """Make a layer from the config, and load the state into it."""
        try:
            again = from_config(json.loads(json.dumps(to_config(self.layer)))).astype(self.dtype)
            again.to(device_of(self.x)).load_state_dict(self.layer.state_dict())
        except (TypeError, ValueError) as error:
            yield "config", f"expected a layer made from its config, got {type(error).__name__}: {error}"
        else:
            y = again.eval()(self.x.copy())
            yield from self.compare("config", "the output of a layer made from its config", self.y, y)

    def place(self) -> Iterator[tuple[str, str]]:
        """Compare coordinate map, `explain` and the outputs that change with one row or column."""
        channels, *size = self.item
        row = explain(Sequential(Conv2d(channels, channels, 1, init="zeros"), self.layer), size).rows[-1]
        if row.output_shape != self.y.shape[1:]:
            yield "output_shape", f"expected {self.y.shape[1:]}, explain gives {row.output_shape}"
        try:
            grid = self.layer.coordinate_map()
        except ValueError:  # it has none, for example because rows and columns differ
            grid = None
        if max(size) > _MAX_SIDE or row.views is None:
            return
        for axis, (along, view) in enumerate(zip(("row", "column"), row.views, strict=True), 2):
            if grid not in (None, view.grid):
                yield "place", f"coordinate_map gives {grid}, but explain {view.grid}"
            yield from self.along(along, axis, view.grid, view.field)

    def along(self, along: str, axis: int, grid: CoordinateMap, field: int) -> Iterator[tuple[str, str]]:
        depends, leaf = self.changes(axis), not any(self.layer.children())
        # The inputs of an upsampled output lie around a point up to half a step beside its place.
        slack = 0 if leaf and grid.scale >= 1 else Fraction(1, 2)
        half = Fraction(field - 1, 2)
        for index, inputs in enumerate(depends.T):
            if not inputs.any():
                continue
            first, last = (int(i) for i in np.flatnonzero(inputs)[[0, -1]])
            place, found = grid(index), f"output {along} {index} depends on input {along}s {first} to {last}"
            if max(place - first, last - place) > half + slack:
                yield "place", f"{found}, but its reach is {field} around {place}"
            inner = place - half >= 0 and place + half <= len(depends) - 1
            if inner and leaf and abs(Fraction(first + last, 2) - place) > slack:
                yield "place", f"{found}, expected around {place} by its coordinate map"

    def changes(self, axis: int) -> Array:
        """Return which outputs (columns) change with which inputs (rows) along an axis."""
        count, layer = self.x.shape[axis], self.copy(training=False)
        changed = np.zeros((count, self.y.shape[axis]), bool)
        for impulse in (100, -100):
            x = self.xp.repeat(self.x[:1], count + 1, axis=0)  # the last one stays as it is
            lines = self.xp.moveaxis(x, axis, 1)
            for k in range(count):
                lines[k, k] += impulse
            y = as_numpy(layer(x))
            difference = np.abs(y[:-1] - y[-1])
            large = difference > 1e-9 * np.abs(y).max(initial=0)
            changed |= large.any(axis=tuple({1, 2, 3} - {axis}))
        return changed


class _Computing(Visitor):
    """Computes what `forward` computes."""

    def leaf(self, layer: Layer, x: Array) -> Array:
        return layer.forward(x)

    def size(self, x: Array) -> tuple[int, int]:
        return x.shape[2], x.shape[3]

    def add(self, *xs: Array) -> Array:
        return reduce(operator.add, xs)

    def multiply(self, *xs: Array) -> Array:
        return reduce(operator.mul, xs)

    def concat(self, *xs: Array) -> Array:
        joined: Array = array_module(*xs).concatenate(xs, axis=1)
        return joined

    def pad(self, x: Array, sides: tuple[int, int, int, int], mode: str = "zeros") -> Array:
        widths = (0, 0), (0, 0), sides[:2], sides[2:]
        padded: Array = array_module(x).pad(x, widths, "edge" if mode == "edge" else "constant")
        return padded

    def crop(self, x: Array, sides: tuple[int, int, int, int]) -> Array:
        top, bottom, left, right = sides
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right].copy()
