"""`explain`: what a network does to images of a given size, layer by layer, without computing anything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, count
from typing import Any

from minifcn.geometry import ConvGeometry, CoordinateMap, Pair, Window, check_integer, pair
from minifcn.kernels.threads import num_threads
from minifcn.layers import BatchNorm2d, Conv2d, Cost, Dropout, Layer, Shift, Visitor
from minifcn.layers.base import Shape
from minifcn.layers.containers import INPUT, Stack, fuse, sees_whole_input
from minifcn.layers.cost import Reach
from minifcn.layers.joints import joint_shape
from minifcn.models.classifiers import Classifier
from minifcn.models.explanation import Explanation, Row, Totals, View, Views
from minifcn.models.fcn import FCN
from minifcn.models.memory import IMAGES, SMALL, Step, Timeline
from minifcn.models.scoring import ScoreLayer
from minifcn.printing import brief

_OPTIMIZERS = {"SGD": 1, "Adam": 2}
"""Arrays that an optimiser keeps for each parameter; SGD with momentum."""

_FURTHER_THREADS = {False: 0.75, True: 0.5}
"""Workspace of each further thread, in inference and in training, relative to that of the first one, as
measured; some of the first one's is made for all threads, such as the filters that Winograd transforms."""


MAX_PIXELS = 2**29
"""Pixels of a batch at most: the list of chunks of the work on them would take minutes and gigabytes."""


def explain(model: Layer, size: Pair, *, batch: int = 1) -> Explanation:
    """Describe each layer of a network for images of a given size: shape, receptive field, cost and memory.

    Nothing is computed: any network at any size takes a fraction of a second.

    Args:
        model: A `Classifier`, an `FCN`, or another network that begins with images.
        size: Height and width of the images, or one integer for both.
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
    if check_integer(batch, "batch", 1) * height * width > MAX_PIXELS:
        given = f"{brief(batch)} x {brief(width)} x {brief(height)}"
        raise ValueError(f"batch of images must have at most {MAX_PIXELS:,} pixels, got {given}")
    shape = image_channels(model), height, width
    if isinstance(model, Classifier) and shape != model.input_shape:
        _check_size(model, shape)
    reader = _Reader(model, batch)
    pixels = View(1, CoordinateMap())
    reader.sizes.append(reader.bytes_of(shape))
    reader.visit(model, _Map(shape, (pixels, pixels), IMAGES))
    images = "1 image" if batch == 1 else f"{batch} images"
    return reader.explanation(f"{_title(model)}: {images} of {width} x {height} (width x height)")


def image_channels(model: Layer) -> int:
    """Return how many channels images have for a network.

    Raises:
        ValueError: If it does not say.

    Example:
        >>> image_channels(Conv2d(3, 16, 5))
        3
    """
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
    name = model.architecture.get("name", "classifier") if isinstance(model, Classifier) else None
    return str(name or type(model).__name__)


@dataclass(frozen=True)
class _Map:
    """What flows between layers: its shape, what it sees, and the number of its array.

    `whole` says whether each element sees the whole input.
    """

    shape: Shape
    views: Views
    array: int
    whole: bool = False


class _Reader(Visitor):
    """Follows a map through a network, and records a row and a step for each leaf and each joint."""

    def __init__(self, model: Layer, batch: int):
        arrays = model.state_dict().values()
        self.weight_bytes = sum(array.nbytes for array in arrays)
        self.itemsize = max((array.itemsize for array in arrays), default=4)
        self.batch = batch
        self.names = {id(layer): name or type(layer).__name__ for name, layer in model.named_layers()}
        self.frozen = {
            id(layer)
            for fcn in model.layers()
            if isinstance(fcn, FCN) and fcn.trunk_frozen
            for part in (fcn.features, fcn.head)
            for layer in part.layers()
        }
        self.fused: set[int] = set()
        self.rows: list[Row] = []
        self.steps: list[Step] = []
        self.evaluation: list[Step] = []  # without the fused layers
        self.fused_into: dict[int, int] = {}  # their outputs are those of convolutions
        self.weights_for: dict[int, int] = {}  # bytes, by the output of a convolution
        self.sizes: list[int] = []
        self.workspace: dict[tuple[str, bool], int] = {}  # of a thread, by purpose and whether in training
        self.parts: list[tuple[Layer, int]] = []  # those that the data is in, with their input arrays
        self.failed = False

    def bytes_of(self, shape: Shape) -> int:
        return math.prod(shape) * self.itemsize * self.batch

    # What the network calls

    def visit(self, layer: Layer, x: _Map, *arguments: Any) -> _Map:
        first = len(self.steps)
        self.parts.append((layer, x.array))
        if isinstance(layer, Stack):
            made = {name for name, *_ in fuse(layer.steps(), *arguments, modes=False)}
            self.fused |= {id(part) for read, _, part in layer.readers() if read not in made | {INPUT}}
        try:
            y: _Map = layer.walk(self, x, *arguments)
        except ValueError as error:
            if self.failed:
                raise
            self.failed = True  # the innermost part is named
            raise ValueError(f"{self.names[id(layer)]}: {error}") from error
        self.parts.pop()
        for step in self.steps[first:]:
            step.gradients_held.add(y.array)
        return y

    def leaf(self, layer: Layer, x: _Map) -> _Map:
        shape, cost = layer.output_shape(x.shape), layer.cost(x.shape)
        for training in (False, True):
            used = layer.workspace(x.shape, self.batch, training=training and self._learns())
            for purpose, size in used.items():
                key = purpose, training
                self.workspace[key] = max(self.workspace.get(key, 0), size)
        y = self._step(self.names[id(layer)], layer, shape, _seen(layer, x), [x], cost)
        return replace(y, whole=x.whole or sees_whole_input(layer))

    def add(self, *xs: _Map) -> _Map:
        return self._join("add", xs, Cost())

    def multiply(self, *xs: _Map) -> _Map:
        sizes = [math.prod(x.shape) for x in xs]
        before_sum = max(sizes) if min(sizes) < max(sizes) else 0  # of the gradient to a gate
        return self._join("multiply", xs, Cost(keeps_input=True, backward=before_sum))

    def concat(self, *xs: _Map) -> _Map:
        in_place = bool(self.parts) and self.parts[-1][0].joins_in_place
        if in_place:  # the first array is the joined one, and the others are parts of it
            self.sizes[xs[0].array] = sum(self.bytes_of(x.shape) for x in xs)
            for x in xs[1:]:
                self.sizes[x.array] = 0
        return self._join("concat", xs, Cost(reuses_input=in_place))

    def pad(self, x: _Map, sides: tuple[int, int, int, int], mode: str = "zeros") -> _Map:
        return self._resized("pad", x, sides, edge=mode == "edge")

    def crop(self, x: _Map, sides: tuple[int, int, int, int]) -> _Map:
        top, bottom, left, right = sides
        if min(*sides, x.shape[1] - top - bottom, x.shape[2] - left - right) < 0:
            raise ValueError(
                f"a map of {x.shape[1:]} cannot be cropped by {sides} (top, bottom, left, right); in "
                f"alignment 'paper', that means an image of this size needs alignment 'exact'"
            )
        return self._resized("crop", x, (-top, -bottom, -left, -right), edge=False)

    def _resized(self, kind: str, x: _Map, sides: tuple[int, int, int, int], *, edge: bool) -> _Map:
        """Record that rows and columns are added; negative numbers are removed."""
        if not any(sides):
            return x
        channels, rows, cols = x.shape
        top, bottom, left, right = sides
        shape = channels, rows + top + bottom, cols + left + right
        views = x.views and (x.views[0].through(Shift(-top)), x.views[1].through(Shift(-left)))
        cost = Cost(backward=math.prod(shape) if edge else 0)
        return self._step(self._joint_name(kind), kind, shape, views, [x], cost)

    def resize(self, x: _Map, size: tuple[int, int]) -> _Map:
        channels, height, width = x.shape
        scales = Fraction(height, size[0]), Fraction(width, size[1])
        views = x.views and (x.views[0].resized(scales[0]), x.views[1].resized(scales[1]))
        cost = Cost(channels * height * size[1] * (width + size[0]))  # along the columns, and then the rows
        name = self._joint_name("resize", of_part=True)
        return self._step(name, "resize", (channels, *size), views, [x], cost)

    def size(self, x: _Map) -> tuple[int, int]:
        return x.shape[1], x.shape[2]

    # How it is recorded

    def _joint_name(self, kind: str, *, of_part: bool = False) -> str:
        """Return a name that no row has: the part's own, where it ends in this joint, or one inside it."""
        part = self.names[id(self.parts[-1][0])] if len(self.parts) > 1 else ""
        taken = {row.name for row in self.rows}
        if of_part and part and part not in taken:
            return part
        name = f"{part}.{kind}" if part else kind
        return next(name + number for number in chain([""], map(str, count(2))) if name + number not in taken)

    def _join(self, kind: str, xs: tuple[_Map, ...], cost: Cost) -> _Map:
        name = self._joint_name(kind, of_part=True)
        shape = joint_shape(name, kind, [f"map {i}" for i in range(len(xs))], [x.shape for x in xs])
        y = self._step(name, kind, shape, _shared(xs), xs, cost)
        return replace(y, whole=all(x.whole for x in xs))

    def _learns(self) -> bool:
        return not any(id(part) in self.frozen for part, _ in self.parts)

    def _step(
        self, name: str, what: Layer | str, shape: Shape, views: Views, xs: Sequence[_Map], cost: Cost
    ) -> _Map:
        """Record the row and the step of a layer or a kind of joint, and return its output."""
        parameters = [] if isinstance(what, str) else [*what.parameters()]
        kind, words = (what, "") if isinstance(what, str) else (type(what).__name__, detail(what))
        count = sum(parameter.data.size for parameter in parameters)
        products = None if cost.multiplications is None else cost.multiplications * self.batch
        fused = id(what) in self.fused
        self.rows.append(
            Row(name, kind, words, shape, views, count, products, self.bytes_of(shape), fused=fused)
        )
        learns = self._learns()
        inputs = tuple(x.array for x in xs)
        if cost.reuses_input:
            output = inputs[0]
        else:
            output = len(self.sizes)
            self.sizes.append(self.bytes_of(shape))
        keeps = {*inputs} if cost.keeps_input else set()
        keeps |= {output} if cost.keeps_output else set()
        per_batch = self.itemsize * self.batch
        step = Step(
            inputs,
            output,
            keeps=frozenset(keeps) if learns else frozenset(),
            extra_bytes=cost.extra * per_batch + cost.extra_bytes * self.batch if learns else 0,
            forward_bytes=(cost.forward + (0 if learns else cost.extra)) * per_batch,
            backward_bytes=cost.backward * per_batch + cost.backward_weights * self.itemsize,
            gradient_bytes=sum(one.data.nbytes for one in parameters if one.trainable),
            learns=learns,
            held=frozenset(array for _, array in self.parts),
        )
        self.steps.append(step)
        if fused:
            self._fuse(step, scaled=isinstance(what, BatchNorm2d))
        else:
            found = self.fused_into.get
            inputs, held = tuple(found(a, a) for a in inputs), frozenset(found(a, a) for a in step.held)
            self.evaluation.append(replace(step, inputs=inputs, output=found(output, output), held=held))
            if isinstance(what, Conv2d):
                self.weights_for[output] = what.weight.data.nbytes
        return _Map(shape, views, output)

    def _fuse(self, step: Step, *, scaled: bool) -> None:
        """Record that a layer writes to the output of its convolution, whose weights are copied if scaled."""
        source = self.fused_into.get(step.inputs[0], step.inputs[0])
        self.fused_into[step.output] = source
        number = next(i for i, earlier in enumerate(self.evaluation) if earlier.output == source)
        convolution, copied = self.evaluation[number], self.weights_for[source] if scaled else 0
        self.evaluation[number] = replace(convolution, forward_bytes=convolution.forward_bytes + copied)

    def explanation(self, title: str) -> Explanation:
        """Add everything up."""
        timeline = Timeline(self.steps, self.sizes)
        evaluation = Timeline(self.evaluation, self.sizes)
        rows = tuple(
            replace(row, activation_bytes=timeline.activation_bytes(number))
            for number, row in enumerate(self.rows)
        )
        gradients = sum(step.gradient_bytes for step in self.steps)
        optimizers = {name: arrays * gradients for name, arrays in _OPTIMIZERS.items()}
        further_threads = num_threads() - 1
        workspace = dict.fromkeys((False, True), 3 * SMALL * further_threads)  # they overlap at random
        for (_, in_training), size in self.workspace.items():
            workspace[in_training] += int((1 + _FURTHER_THREADS[in_training] * further_threads) * size)
        training = self.weight_bytes + workspace[True] + timeline.training_bytes()
        total = Totals(
            parameters=sum(row.parameters for row in rows),
            multiplications=sum(row.multiplications or 0 for row in rows),
            output_bytes=sum(row.output_bytes for row in rows),
            activation_bytes=sum(row.activation_bytes for row in rows),
            weight_bytes=self.weight_bytes,
            gradient_bytes=gradients,
            optimizer_bytes=optimizers,
            inference_bytes=self.weight_bytes + workspace[False] + evaluation.inference_bytes(),
            training_bytes={name: training + state for name, state in optimizers.items()},
        )
        return Explanation(title, rows, total)


def _seen(layer: Layer, x: _Map) -> Views:
    """Return what the outputs of a layer see; `None` if it does not say."""
    if x.views is None:
        return None
    try:
        reach: Reach = layer.reach()
    except ValueError:
        return None
    if reach == "global":  # a window over all there is; what has been flattened sees all already
        height, width = x.shape[1:] if len(x.shape) == 3 else (1, 1)
        if sees_whole_input(layer):
            reach = Window(height), Window(width)
        else:  # the outputs have places, as in group normalisation
            reach = Window(2 * height - 1, padding=height - 1), Window(2 * width - 1, padding=width - 1)
    rows, cols = x.views
    return rows.through(reach[0]), cols.through(reach[1])


def _shared(xs: tuple[_Map, ...]) -> Views:
    """Return what maps that meet see: the largest field, or `None` if they do not lie over one another.

    What sees the whole input, as a gate does, has no place, and a map that it meets keeps its own.
    """
    seen = [x.views for x in xs if x.views is not None]
    placed = [x.views for x in xs if x.views and not x.whole] or seen
    grids = {(rows.grid, cols.grid) for rows, cols in placed}
    if len(seen) < len(xs) or len(grids) > 1:
        return None
    fields = (max(view.field for view in views) for views in zip(*seen, strict=True))
    rows, cols = map(View, fields, grids.pop())
    return rows, cols


def detail(layer: Layer) -> str:
    """Return how the windows of a layer slide, in a few words.

    Example:
        >>> from minifcn.layers import MaxPool2d, ReLU
        >>> detail(Conv2d(96, 256, 5, padding=2, groups=2)), detail(MaxPool2d(3, 2)), detail(ReLU())
        ('5x5, padding 2, 2 groups', '3x3, stride 2', '')
    """
    if isinstance(layer, Dropout):
        return f"{layer.p:g}"
    geometry = getattr(layer, "geometry", None)
    if not isinstance(geometry, ConvGeometry):
        return ""
    rows, cols = geometry.kernel_size
    words = [f"{rows}x{cols}"]
    for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1)):
        rows, cols = getattr(geometry, name)
        if (rows, cols) != (usual, usual):
            words.append(f"{name} {rows}" if rows == cols else f"{name} {rows}x{cols}")
    if geometry.groups > 1:
        depthwise = geometry.groups == getattr(layer, "in_channels", 0)
        words.append("depthwise" if depthwise else f"{geometry.groups} groups")
    if isinstance(layer, ScoreLayer) and layer.scale != 1:
        words.append(f"scale {layer.scale:g}")
    if not any(parameter.trainable for parameter in layer.parameters()) and any(layer.parameters()):
        words.append("fixed")
    return ", ".join(words)
