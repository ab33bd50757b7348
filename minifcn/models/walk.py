"""`explain`: what a network does to images of a given size, layer by layer, without computing anything."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from minifcn.geometry import CoordinateMap, Pair, Transposed, pair, whole_number
from minifcn.layers import Add, Concat, Conv2d, Crop, Layer, Pointwise, Sequential
from minifcn.layers.base import Shape
from minifcn.models.accounting import Memory, detail, memory, multiplications, structure, windows
from minifcn.models.classifiers import Classifier
from minifcn.models.explanation import Explanation, Row, Totals, View, Views
from minifcn.models.fcn import FCN
from minifcn.models.peaks import IMAGES, Step, Timeline
from minifcn.models.upsampling import AlignedUpsample

_OPTIMIZERS = {"SGD": 1, "Adam": 2}
"""Arrays that an optimiser keeps for each parameter; SGD with momentum."""


def explain(model: Layer, size: Pair, *, batch: int = 1) -> Explanation:
    """Say what each layer of a network gives, sees, costs and keeps for images of a size.

    Nothing is computed: any network at any size takes milliseconds.

    Args:
        model: A `Classifier`, an `FCN`, or layers in sequence that begin with images, as
            `minifcn.convolutionalize` returns them. A block of one's own that calls its parts in an order of
            its own says so by `minifcn.models.accounting.structure`.
        size: Height and width of the images, or one number for both.
        batch: Number of images.

    Returns:
        The layers in the order of the forward pass, sums, and predicted peaks of memory.

    Raises:
        ValueError: If the network does not take images of this size, or a layer does not say its output
            shape; the message names the layer.

    Example:
        >>> from minifcn.models import FCN, digit_classifier
        >>> explanation = explain(FCN(digit_classifier(init="zeros"), 11, stride=2), (120, 160))
        >>> first = explanation.rows[0]
        >>> first.name, first.output_shape, first.multiplications, explanation.total.parameters
        ('features.0', (16, 120, 160), 2764800, 203169)
    """
    height, width = pair(size, "size", 1)
    whole_number(batch, "batch", 1)
    shape = _channels(model), height, width
    if isinstance(model, Classifier) and shape != model.input_shape:
        _check_size(model, shape)
    walk = _Walk(model, batch)
    pixels = View(1, CoordinateMap())
    walk.through(model, _Map(shape, (pixels, pixels), IMAGES), frozenset())
    images = "1 image" if batch == 1 else f"{batch} images"
    return walk.explanation(
        f"{_title(model)}: {images} of {width} x {height} (width x height)", walk.bytes_of(shape)
    )


def _channels(model: Layer) -> int:
    if isinstance(model, FCN):
        return model.channels
    if isinstance(model, Classifier):
        return model.input_shape[0]
    first = next((layer for layer in model.layers() if isinstance(layer, Conv2d)), None)
    if first is None:
        raise ValueError(
            f"{type(model).__name__} holds no convolution that says how many channels images have"
        )
    return first.in_channels


def _check_size(model: Classifier, shape: Shape) -> None:
    try:
        model.output_shape(shape)
    except ValueError as error:
        _, height, width = model.input_shape
        raise ValueError(
            f"a dense classifier takes images of its own size, {width} x {height} (width x height), and not "
            f"{shape[2]} x {shape[1]}: convolutionalize it, or make an FCN of it"
        ) from error


def _title(model: Layer) -> str:
    if isinstance(model, FCN):
        classifier = model.architecture["arguments"]["classifier"].get("name", "a classifier")
        at_once = ", at once" if model.at_once else ""
        return f"FCN of {classifier}, stride {model.stride}, alignment {model.alignment}{at_once}"
    if isinstance(model, Classifier):
        return str(model.architecture.get("name", "classifier"))
    return type(model).__name__


@dataclass(frozen=True)
class _Map:
    """What flows between layers: its shape, what it sees, and the step that made it."""

    shape: Shape
    views: Views
    source: int


class _Walk:
    """Follows a map through a network, as `forward` does, and writes down each step.

    `held` are always the arrays that the callers of a layer have in memory while it works.
    """

    def __init__(self, model: Layer, batch: int):
        arrays = model.state_dict().values()
        self.weight_bytes = sum(array.nbytes for array in arrays)
        self.itemsize = max((array.itemsize for array in arrays), default=4)
        self.batch = batch
        self.names = dict(_names(model))
        self.steps: list[Step] = []
        self.learns = True

    def bytes_of(self, shape: Shape) -> int:
        return math.prod(shape) * self.itemsize * self.batch

    def through(self, layer: Layer, x: _Map, held: frozenset[int], within: str = "") -> _Map:
        """Return what comes out of a layer; what a `structure` adds is named as the layer it is within."""
        parts, name = structure(layer), self.names.get(id(layer), within)
        if isinstance(parts, FCN):
            return self._fcn(parts, x)
        if isinstance(parts, AlignedUpsample):
            return self._upsample(parts, x, parts.output_shape(x.shape), held)
        if isinstance(parts, Sequential):
            held |= {x.source}
            for part in parts:
                x = self.through(part, x, held, name)
            return x
        if isinstance(parts, Concat | Add):
            held |= {x.source}
            branches: list[_Map] = []
            for part in parts:
                branches.append(self.through(part, x, held, name))
                held |= {branches[-1].source}
            shape = _shape(name, parts, x)
            return self._step(name, parts, x, held, shape, _shared(branches), Memory(), products=0)
        shape = _shape(name, parts, x)
        cost, products = memory(parts, x.shape, shape), multiplications(parts, x.shape, shape)
        return self._step(name, parts, x, held, shape, _views(parts, x), cost, products=products)

    def _step(
        self,
        name: str,
        layer: Layer,
        x: _Map,
        held: frozenset[int],
        shape: Shape,
        views: Views,
        cost: Memory,
        *,
        products: int | None,
        words: str = "",
    ) -> _Map:
        """Write a step down, and return its output."""
        branching = isinstance(layer, Concat | Add)  # the parameters of its branches have been counted
        parameters = [] if branching else list(layer.parameters())
        row = Row(
            name,
            type(layer).__name__,
            words or detail(layer),
            shape,
            views,
            sum(parameter.data.size for parameter in parameters),
            None if products is None else products * self.batch,
            self.bytes_of(shape),
            0,  # it turns out behind it
        )
        output = x.source if cost.reuses_input else len(self.steps)
        keeps = {x.source} if cost.keeps_input else set()
        keeps |= {output} if cost.keeps_output else set()
        self.steps.append(
            Step(
                row,
                x.source,
                held,
                0 if cost.reuses_input else row.output_bytes,
                frozenset(keeps) if self.learns else frozenset(),
                (cost.extra * self.itemsize + cost.extra_bytes) * self.batch if self.learns else 0,
                cost.forward * self.itemsize * self.batch,
                (cost.backward * self.batch + cost.filters) * self.itemsize,
                sum(parameter.data.nbytes for parameter in parameters if parameter.trainable),
                self.learns,
            )
        )
        return _Map(shape, views, output)

    def _fcn(self, fcn: FCN, images: _Map) -> _Map:
        """Follow `FCN.forward` line by line."""
        height, width = images.shape[1:]
        padded = fcn.channels, max(height, fcn.smallest), max(width, fcn.smallest)
        features, held = replace(images, shape=padded), frozenset({IMAGES})
        tapped: dict[str, _Map] = {}
        self.learns = not fcn.trunk_frozen
        for name, layer in fcn.features.children():
            features = self.through(layer, features, held)
            if (stride := fcn.stride_of(name)) in fcn.skips.parts:
                tapped[stride] = features
                held |= {features.source}
        held |= {features.source}
        scores = self.through(fcn.head, features, held)
        self.learns = True

        scores = self.through(fcn.score, scores, held)
        *between, last = fcn.upsamples
        for upsample, (stride, skip) in zip(between, fcn.skips.children(), strict=True):
            finer = self.through(skip, tapped[stride], held | {scores.source})
            scores = self._upsample(upsample, scores, finer.shape, held | {finer.source})
            scores = replace(scores, views=_wider(scores.views, finer.views))
        return self._upsample(last, scores, (fcn.num_classes, height, width), held)

    def _upsample(self, layer: AlignedUpsample, x: _Map, wanted: Shape, held: frozenset[int]) -> _Map:
        """Follow `AlignedUpsample.forward`."""
        name, deconv = self.names[id(layer)], layer.deconv
        try:
            size = layer.output_size((x.shape[1], x.shape[2]), (wanted[1], wanted[2]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        borders = [sum(layer.plan(x.shape[axis], size[axis - 1])[:2]) for axis in (1, 2)]
        continued = (x.shape[0], x.shape[1] + borders[0], x.shape[2] + borders[1])
        upsampled = deconv.output_shape(continued)
        numbers = math.prod(upsampled)
        views: Views = None
        if x.views is not None:
            rows, cols = (view.through(Transposed(deconv.geometry.rows)) for view in x.views)
            views = replace(rows, grid=layer.grid), replace(cols, grid=layer.grid)
        kernel, kind = deconv.geometry.rows.kernel, "learned" if deconv.weight.trainable else "fixed"
        return self._step(
            name,
            layer,
            x,
            held,
            (x.shape[0], *size),
            views,
            Memory(extra=math.prod(continued), forward=2 * numbers, backward=numbers),
            products=multiplications(deconv, continued, upsampled),
            words=f"{kernel}x{kernel}, stride {layer.factor}, {kind}",
        )

    def explanation(self, title: str, image_bytes: int) -> Explanation:
        """Add everything up."""
        timeline = Timeline(self.steps, image_bytes)
        rows = tuple(
            replace(step.row, activation_bytes=timeline.activation_bytes(number))
            for number, step in enumerate(self.steps)
        )
        gradients = sum(step.gradient_bytes for step in self.steps)
        optimizers = {name: arrays * gradients for name, arrays in _OPTIMIZERS.items()}
        training = self.weight_bytes + timeline.training_bytes()
        total = Totals(
            sum(row.parameters for row in rows),
            sum(row.multiplications or 0 for row in rows),
            sum(row.output_bytes for row in rows),
            sum(row.activation_bytes for row in rows),
            self.weight_bytes,
            gradients,
            optimizers,
            self.weight_bytes + timeline.inference_bytes(),
            {name: training + state for name, state in optimizers.items()},
        )
        return Explanation(title, rows, total)


def _names(layer: Layer, name: str = "") -> Iterator[tuple[int, str]]:
    """Yield each layer's identity and its name, as parameters spell it."""
    yield id(layer), name or type(layer).__name__
    for part, child in layer.children():
        yield from _names(child, f"{name}.{part}" if name else part)


def _shape(name: str, layer: Layer, x: _Map) -> Shape:
    try:
        return layer.output_shape(x.shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _views(layer: Layer, x: _Map) -> Views:
    """Return what the outputs of a layer see; `None` if it does not say."""
    slides = windows(layer, x.shape)
    if x.views is None:
        return None
    rows, cols = x.views
    if slides is not None:
        return rows.through(slides[0]), cols.through(slides[1])
    if isinstance(layer, Pointwise | Crop):
        try:
            moved = layer.coordinate_map()
        except ValueError:
            return None
        return replace(rows, grid=rows.grid @ moved), replace(cols, grid=cols.grid @ moved)
    return None


def _shared(branches: list[_Map]) -> Views:
    """Return what branches see that are joined: `None` if they do not lie over one another."""
    views = [branch.views for branch in branches]
    grids = {None if one is None else (one[0].grid, one[1].grid) for one in views}
    if len(grids) > 1:
        return None
    joined = views[0]
    for other in views[1:]:
        joined = _wider(joined, other)
    return joined


def _wider(first: Views, second: Views) -> Views:
    """Return the places of the first, and the larger field of both."""
    if first is None or second is None:
        return None
    rows, cols = (
        replace(one, field=max(one.field, other.field)) for one, other in zip(first, second, strict=True)
    )
    return rows, cols
