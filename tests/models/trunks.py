"""Three trunks with a few channels each, because the tests of FCN depend on their windows only."""

from functools import partial

import numpy as np
import pytest

from minifcn.layers import BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier
from minifcn.models.registry import CLASSIFIERS


def classifier(convs, pool, taps, dense, *, channels=2, make_pool=MaxPool2d, rng=0):
    """Convolutions, each followed by ReLU and a pool; two dense layers; taps: which pool, by stride."""
    rng = np.random.default_rng(rng)
    features, in_channels = Sequential(), 1
    for number, options in enumerate(convs):
        conv = Conv2d(in_channels, channels, **{"kernel_size": 3, "padding": 1, "rng": rng, **options})
        features.parts |= {f"conv{number}": conv, f"relu{number}": ReLU(), f"pool{number}": make_pool(*pool)}
        in_channels = channels
    size = next(n for n in range(1, 2000) if _last_map(features, n) == dense)
    width = channels * dense**2
    head = Sequential(Linear(width, 3, rng=rng), ReLU(), Dropout(0.0, rng=0), Linear(3, 4, rng=rng))
    named = {stride: f"pool{number}" for stride, number in taps.items()}
    return Classifier(features, head, input_shape=(1, size, size), taps=named, architecture={})


def _last_map(features, size):
    try:
        return features.output_shape((1, size, size))[1]
    except ValueError:
        return 0


def vgg(dense=7, **options):
    """The windows of VGG16, one convolution a block: strides 8, 16 and 32."""
    return classifier([{}] * 5, (2,), {8: 2, 16: 3}, dense, **options)


def squeezenet(dense=3, **options):
    """Unpadded convolutions and 3 x 3 pools, whose centres lie on pixels: strides 4, 8 and 16."""
    convs = [{"stride": 2, "padding": 0}, {}, {}]
    return classifier(convs, (3, 2), {4: 0, 8: 1}, dense, **options)


def digits(dense=4, **options):
    """The windows of the digit classifier, whose dense kernel is even: strides 2, 4 and 8."""
    return classifier([{}] * 3, (2,), {2: 0, 4: 1}, dense, **options)


TRUNKS = [(vgg, (32, 16, 8)), (squeezenet, (16, 8, 4)), (digits, (8, 4, 2))]
every_trunk = pytest.mark.parametrize(("make", "strides"), TRUNKS, ids=["vgg", "squeezenet", "digits"])
PAIRS = [
    pytest.param(make, stride, id=f"{make.__name__}-{stride}") for make, all_ in TRUNKS for stride in all_
]
every_pair = pytest.mark.parametrize(("make", "stride"), PAIRS)
coarser = [
    pytest.param(make, stride, id=f"{make.__name__}-{stride}") for make, all_ in TRUNKS for stride in all_[:2]
]
every_step = pytest.mark.parametrize(("make", "stride"), coarser)


def narrow(name, **options):
    """Build a classifier of the package with an eighth of the channels; windows are the same."""

    def eighth(value):
        return value // 8 if isinstance(value, int) and value >= 16 and value % 8 == 0 else value

    def narrower(cls, channels):
        initialise = cls.__init__

        def init(layer, *arguments, **options):
            options |= {name: eighth(value) for name, value in options.items() if name == "groups"}
            initialise(layer, *map(eighth, arguments[:channels]), *arguments[channels:], **options)

        return init

    with pytest.MonkeyPatch.context() as patch:
        for cls, channels in ((Conv2d, 2), (Linear, 2), (BatchNorm2d, 1)):
            patch.setattr(cls, "__init__", narrower(cls, channels))
        return CLASSIFIERS[name](rng=0, **options)


NARROW = {name: partial(narrow, name) for name in sorted(CLASSIFIERS)}


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def randomised(fcn, seed=0):
    """Set random biases and score layers, which begin at zero."""
    rng = np.random.default_rng(seed)
    for name, parameter in fcn.named_parameters():
        if name.startswith(("score", "skips")) or name.endswith("bias"):
            parameter.data[...] = rng.normal(size=parameter.data.shape)
    return fcn


def float64(make, stride, seed=0, **options):
    return randomised(FCN(make(), 2, stride, **options).astype("float64"), seed)


def average(shape, rng):
    """A kernel that averages symmetrically about its centre: it leaves linear maps unchanged."""
    kernel = rng.uniform(0.1, 1, shape)
    kernel += kernel[::-1, ::-1]
    return kernel / kernel.sum()


def coarse_scores(fcn, x):
    """Return the input of the last upsampling of a network."""
    seen = {}
    last = fcn.upsamples[-1]
    forward = last.forward

    def spy(scores, output_size):
        seen["scores"] = scores
        return forward(scores, output_size)

    last.forward = spy
    try:
        y = fcn(x)
    finally:
        del last.forward
    return seen["scores"], y
