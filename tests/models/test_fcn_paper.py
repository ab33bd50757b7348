"""FCN as the reference code has it: padding of 100, crops, and no continuation beyond the border.

A finer network begins with its parent's scores here, too, up to upsampling in two steps instead of one. How
far may that take them apart? Along one axis, let S be the step of the coarse scores s and h = S / 2 that of
the finer map. The transposed convolution gives P(x), which goes through s linearly, and through zeros where
s ends: one before its first and one behind its last number; beyond, it is 0. The child takes the values of P
at all the finer centres where P is not 0 (the upsampled map is kept whole, the skip is cropped) and
interpolates those linearly, again through zeros beyond them: Q(x). So Q = P at every finer centre, and
between two of them P has one kink at most, as kinks lie S = 2h apart. There its slope changes by D / S with
D = s[i-1] - 2 s[i] + s[i+1], of s continued with zeros. With the kink a from one centre and h - a from the
other, Q is off by at most |D| / S * a (h - a) / h <= |D| / 8. In two dimensions, as for exact alignment, the
bounds along rows and columns add up: interpolation with weights that are not negative and sum to at most 1
makes no second difference larger.
"""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.checks import check_gradient
from minifcn.geometry import CoordinateMap, Transposed, Window
from minifcn.layers import (
    AvgPool2d,
    Conv2d,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Pointwise,
    ReLU,
    Sequential,
)
from minifcn.models import FCN, Classifier, alexnet, caffenet, googlenet, squeezenet1_0
from minifcn.models.upsampling import PaperUpsample
from tests.models.trunks import (
    average,
    classifier,
    coarse_scores,
    digits,
    every_pair,
    every_step,
    float64,
    normal,
    squeezenet,
    vgg,
)

paper = {"alignment": "paper"}

# Offsets


@pytest.mark.parametrize(
    ("stride", "skips", "last", "widths"),
    [(32, [], 19, [64]), (16, [5], 27, [4, 32]), (8, [5, 9], 31, [4, 4, 16])],
)
def test_the_references_offsets_follow_for_vgg16(stride, skips, last, widths):
    upsamples = list(FCN(vgg(), 21, stride, **paper).upsamples)
    assert [upsample.skip_offset for upsample in upsamples[:-1]] == skips
    assert upsamples[-1].offset == last
    assert [upsample.deconv.kernel_size for upsample in upsamples] == [(width, width) for width in widths]


@pytest.mark.parametrize("make", [caffenet, alexnet])
def test_the_references_offsets_follow_for_alexnet(make):
    [upsample] = FCN(make(init="zeros"), 21, **paper).upsamples
    assert (upsample.offset, upsample.deconv.kernel_size) == (18, (63, 63))


def reaches(fcn, size):
    """Follow one axis by arithmetic: does each crop lie inside what it is cut from?"""
    shape, lengths = (fcn.channels, size, 1000), {}
    for name, layer in fcn.features.children():
        shape = layer.output_shape(shape)
        lengths[name] = shape[1]
    length = fcn.head.output_shape(shape)[1]
    targets = [lengths[fcn.taps[int(stride)]] for stride, _ in fcn.skips.children()] + [size]
    for upsample, target in zip(fcn.upsamples, targets, strict=True):
        window = Window(upsample.deconv.kernel_size[0], stride=upsample.factor)
        upsampled = Transposed(window).output_size(length)
        if upsample.offset < 0:  # the finer map is cropped
            fits, length = -upsample.offset + upsampled <= target, upsampled
        else:
            fits, length = upsample.offset + target <= upsampled, target
        if not fits:
            return False
    return length == size


@every_pair
def test_every_size_from_1_to_1299(make, stride):
    fcn = FCN(make(), 2, stride, **paper)
    assert fcn.smallest == 1
    assert [size for size in range(1, 1300) if not reaches(fcn, size)] == []


@pytest.mark.parametrize(("make", "stride"), [(caffenet, 32), (googlenet, 8), (squeezenet1_0, 4)])
def test_other_classifiers_at_many_sizes(make, stride):
    fcn = FCN(make(init="zeros"), 2, stride, **paper)
    assert [size for size in (*range(1, 140), 375, 500, 1299) if not reaches(fcn, size)] == []


@every_pair
@settings(max_examples=8)
@given(size=st.tuples(*[st.integers(1, 60)] * 2))
def test_scores_have_the_size_of_the_image(make, stride, size):
    fcn = float64(make, stride, **paper)
    x = normal((1, 1, *size))
    y = fcn(x)
    assert y.shape == (1, 2, *size) == (1, *fcn.output_shape(x.shape[1:]))
    assert fcn.backward(normal(y.shape, 1)).shape == x.shape


@pytest.mark.parametrize("stride", [8, 2])
def test_the_gradient_of_the_whole_network(stride):
    fcn = float64(digits, stride, upsampling="learned", at_once=True, **paper)
    check_gradient(fcn, normal((2, 1, 5, 9)), rng=1)


# The reference network, reimplemented from its published layers


def narrow(blocks, pool, taps, dense, *, size, caffe=False):
    """A classifier with the layers of VGG16 or CaffeNet and few channels."""
    rng, parts, channels, named = np.random.default_rng(0), {}, 3, {}
    for number, block in enumerate(blocks, 1):
        for i, options in enumerate(block):
            conv = Conv2d(channels, **{"kernel_size": 3, "padding": 1, "rng": rng, **options})
            parts |= {f"conv{number}_{i}": conv, f"relu{number}_{i}": ReLU(inplace=True)}
            channels = conv.out_channels
        if not caffe or number in (1, 2, 5):
            parts[f"pool{number}"] = MaxPool2d(*pool)
        if caffe and number in (1, 2):
            parts[f"norm{number}"] = LocalResponseNorm(5, alpha=1e-4, beta=0.75)
    for stride, number in taps.items():
        named[stride] = f"pool{number}"
    head = Sequential(
        Linear(channels * dense**2, 5, rng=rng), ReLU(), Linear(5, 4, rng=rng), ReLU(), Linear(4, 10, rng=rng)
    )
    return Classifier(Sequential(**parts), head, input_shape=(3, size, size), taps=named, architecture={})


def narrow_vgg16():
    blocks = [[{"out_channels": width}] * count for width, count in ((2, 2), (3, 2), (3, 3), (4, 3), (4, 3))]
    return narrow(blocks, (2,), {8: 3, 16: 4}, 7, size=224)


def narrow_caffenet():
    blocks = [
        [{"out_channels": 4, "kernel_size": 11, "stride": 4, "padding": 0}],
        [{"out_channels": 6, "kernel_size": 5, "padding": 2, "groups": 2}],
        [{"out_channels": 4}],
        [{"out_channels": 6, "groups": 2}],
        [{"out_channels": 4, "groups": 2}],
    ]
    return narrow(blocks, (3, 2), {}, 6, size=227, caffe=True)


class Reference:
    """The reference's networks built from PyTorch functions; its offsets, paddings and scales as literals."""

    def __init__(self, torch, fcn):
        self.torch, self.F = torch, torch.nn.functional
        self.of = {name: torch.tensor(a, requires_grad=True) for name, a in fcn.state_dict().items()}
        self.classes = fcn.num_classes

    def conv(self, name, x, **options):
        return self.F.conv2d(x, self.of[f"{name}.weight"], self.of[f"{name}.bias"], **options)

    def deconv(self, x, kernel, stride):
        """Full weights, as the reference stores them: bilinear on the diagonal, zeros elsewhere."""
        factor = (kernel + 1) // 2
        centre = factor - 1 if kernel % 2 else factor - 0.5
        tent = 1 - np.abs(np.arange(kernel) - centre) / factor
        weight = np.zeros((self.classes, self.classes, kernel, kernel))
        weight[range(self.classes), range(self.classes)] = np.outer(tent, tent)
        return self.F.conv_transpose2d(x, self.torch.tensor(weight), stride=stride)

    @staticmethod
    def crop(x, like, offset):
        return x[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]

    def head(self, x):
        x = self.F.relu(self.conv("head.0", x))
        return self.conv("score", self.F.relu(self.conv("head.2", x)))

    def vgg16(self, image, stride, scales=(1.0, 1.0)):
        x, pools = image, []
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            for i in range(count):
                x = self.F.relu(self.conv(f"features.conv{block}_{i}", x, padding=100 if x is image else 1))
            x = self.F.max_pool2d(x, 2, 2, ceil_mode=True)
            pools.append(x)
        score = self.head(x)
        if stride == 32:
            return self.crop(self.deconv(score, 64, 32), image, 19)
        upscore2 = self.deconv(score, 4, 2)
        pool4 = self.conv("skips.16", scales[0] * pools[3])
        fuse_pool4 = upscore2 + self.crop(pool4, upscore2, 5)
        if stride == 16:
            return self.crop(self.deconv(fuse_pool4, 32, 16), image, 27)
        upscore_pool4 = self.deconv(fuse_pool4, 4, 2)
        pool3 = self.conv("skips.8", scales[1] * pools[2])
        fuse_pool3 = upscore_pool4 + self.crop(pool3, upscore_pool4, 9)
        return self.crop(self.deconv(fuse_pool3, 16, 8), image, 31)

    def alexnet(self, image):
        F, name = self.F, "features.conv{}_0"
        x = F.max_pool2d(
            F.relu(self.conv(name.format(1), image, stride=4, padding=100)), 3, 2, ceil_mode=True
        )
        x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
        x = F.max_pool2d(F.relu(self.conv(name.format(2), x, padding=2, groups=2)), 3, 2, ceil_mode=True)
        x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
        for number, groups in ((3, 1), (4, 2), (5, 2)):
            x = F.relu(self.conv(name.format(number), x, padding=1, groups=groups))
        score = self.head(F.max_pool2d(x, 3, 2, ceil_mode=True))
        return self.crop(self.deconv(score, 63, 32), image, 18)


def filled(fcn, seed=2):
    """Set random score layers and biases, and exact bilinear kernels in float64."""
    fcn = fcn.astype("float64").eval()
    rng = np.random.default_rng(seed)
    for name, array in fcn.state_dict().items():
        if name.startswith(("score", "skips")) or name.endswith("bias"):
            array[...] = rng.normal(size=array.shape)
    return fcn


def assert_equal_to(torch, fcn, forward, size):
    x, dy = normal((1, 3, *size)), normal((1, fcn.num_classes, *size), 1)
    reference = Reference(torch, fcn)
    image = torch.tensor(x, requires_grad=True)
    theirs = forward(reference, image)
    theirs.backward(torch.tensor(dy))
    y = fcn.train()(x)
    assert theirs.shape == y.shape
    assert np.allclose(y, theirs.detach(), rtol=1e-9, atol=1e-9)
    assert np.allclose(fcn.backward(dy), image.grad, rtol=1e-8, atol=1e-9)
    for name, parameter in fcn.named_parameters():
        if parameter.trainable:
            assert np.allclose(parameter.grad, reference.of[name].grad, rtol=1e-8, atol=1e-8), name


@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_vgg16s_scores_and_gradients_are_the_references(stride, size):
    torch = pytest.importorskip("torch")
    fcn = filled(FCN(narrow_vgg16(), 3, stride, **paper))
    assert_equal_to(torch, fcn, lambda net, image: net.vgg16(image, stride), size)


def test_at_once_training_matches_the_reference():
    torch = pytest.importorskip("torch")
    fcn = filled(FCN(narrow_vgg16(), 3, 8, at_once=True, **paper))
    assert_equal_to(torch, fcn, lambda net, image: net.vgg16(image, 8, (0.01, 0.0001)), (33, 50))


def test_at_the_size_of_an_image_of_pascal_voc():
    torch = pytest.importorskip("torch")
    fcn = filled(FCN(narrow_vgg16(), 3, 8, **paper))
    x = normal((1, 3, 375, 500))
    with torch.no_grad():
        theirs = Reference(torch, fcn).vgg16(torch.tensor(x), 8)
    assert np.allclose(fcn(x), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
def test_caffenets_scores_and_gradients_are_the_references(size):
    torch = pytest.importorskip("torch")
    assert_equal_to(torch, filled(FCN(narrow_caffenet(), 3, **paper)), Reference.alexnet, size)


# Alignment


@every_pair
def test_a_ramp_comes_out_as_the_same_ramp_through_every_tap(make, stride):
    rng = np.random.default_rng(0)
    pools = partial(AvgPool2d, ceil_mode=True)  # rounding down, 460 rows would not be covered
    model = make(channels=1, make_pool=pools).astype("float64")
    for layer in model.features:
        if isinstance(layer, Conv2d):
            layer.weight.data[...] = average(layer.kernel_size, rng)
    dense = model["classifier"][0]
    kernel = int(dense.in_features**0.5)
    dense.weight.data[...] = average((kernel, kernel), rng).ravel()
    fcn = FCN(model, 2, stride, **paper).astype("float64")

    rows, cols = np.mgrid[:460, :430]
    ramp = 1000 + 3.0 * rows - 2.0 * cols
    inside = slice(200, -200), slice(200, -200)
    for active in fcn.score_layers():
        for layer in fcn.score_layers():
            layer.weight.data[...] = 0
        active.weight.data[:, 0] = 1 / active.weight.data.shape[1]
        if active is fcn.score:
            active.weight.data[...] = 1 / 3
        active.weight.data[1] *= -2
        y = fcn(ramp[None, None])[0]
        assert np.allclose(y[0][inside], ramp[inside], rtol=1e-9)
        assert np.allclose(y[1][inside], -2 * ramp[inside], rtol=1e-9)


def test_beyond_the_scores_there_are_zeros():
    """So scores are weaker near the border of the image: 13 rows of FCN-32s of VGG16, as computed apart."""
    fcn = FCN(vgg(), 2, **paper)
    fcn.score.bias.data[...] = 1, 2
    y = fcn(normal((1, 1, 64, 64)).astype("float32"))
    rows = np.minimum((np.arange(19, 19 + 13) + 0.5) / 32, 1)
    assert np.allclose(y[0, 0, :13, 40], rows, atol=1e-6)
    assert np.allclose(y[0, :, 13:30, 30], [[1], [2]], atol=1e-6)


# Staging


def bend(s, axis):
    """Return the largest second difference along an axis, of s continued with zeros."""
    s = np.pad(np.moveaxis(s, axis, -1), [(0, 0)] * 3 + [(2, 2)])
    return float(np.abs(np.diff(s, 2)).max())


def tap_size(fcn, size):
    """Return the size of the finest map that a network scores."""
    shape = (fcn.channels, *size)
    for name, layer in fcn.features.children():
        shape = layer.output_shape(shape)
        if name == fcn.taps[fcn.stride]:
            return shape[1:]
    raise AssertionError(fcn.stride)


@every_step
@settings(max_examples=20)
@given(
    size=st.tuples(*[st.integers(1, 90)] * 2),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["the trunk's", "+-0", "constant", "spike"]),
)
def test_a_finer_network_starts_within_the_bound(make, stride, size, seed, kind):
    parent = float64(make, stride, seed, **paper).eval()
    child = parent.finer()
    assert child.stride == stride // 2
    s, y = coarse_scores(parent, normal((1, 1, *size), seed))
    z = child(normal((1, 1, *size), seed))
    rng = np.random.default_rng(seed)
    if kind != "the trunk's":
        number = {
            "+-0": rng.integers(-1, 2, s.shape),
            "constant": 1,
            "spike": np.arange(s.size) == s.size // 3,
        }[kind]
        s = np.broadcast_to(np.reshape(number, s.shape if np.ndim(number) else ()), s.shape).astype(float)
        y = parent.upsamples[-1].forward(s, size)
        *_, to_fine, to_pixels = child.upsamples
        z = to_pixels.forward(to_fine.forward(s, tap_size(child, size)), size)
    assert np.abs(z - y).max() <= (bend(s, 2) + bend(s, 3)) / 8 + 1e-9


def test_where_the_coarse_scores_are_linear_nothing_changes():
    parent = FCN(vgg(), 2, **paper).astype("float64").eval()
    child, size = parent.finer(), (400, 350)
    shape = coarse_scores(parent, np.zeros((1, 1, *size)))[0].shape
    rows, cols = np.ogrid[: shape[2], : shape[3]]
    s = np.broadcast_to(3.0 * rows - 2.0 * cols, shape)
    y = parent.upsamples[-1].forward(s, size)
    to_fine, to_pixels = child.upsamples
    z = to_pixels.forward(to_fine.forward(s, tap_size(child, size)), size)
    inside = ..., slice(32, -32), slice(32, -32)
    assert np.ptp(y[inside]) > 10
    assert np.allclose(z[inside], y[inside], rtol=1e-9, atol=1e-9)
    assert np.abs(z - y).max() > 0.1  # but at the border they do not continue linearly


# Invalid networks


def test_a_dense_kernel_larger_than_the_padding_is_refused():
    with pytest.raises(
        ValueError, match=r"alignment 'paper' does not suit .* at stride 32, .* begin 77 pixels inside"
    ):
        FCN(vgg(dense=13), 2, **paper)
    FCN(vgg(dense=13), 2)


class Shift(Pointwise):
    """A layer whose coordinate map is shifted by a sixteenth of its step."""

    def forward(self, x):
        return x

    def coordinate_map(self):
        return CoordinateMap(offset=Fraction(1, 16))


@pytest.mark.parametrize("alignment", ["paper", "exact"])
def test_an_offset_that_is_not_an_integer_is_refused(alignment):
    model = classifier([{}] * 2, (2,), {}, 4)
    model.features.parts["shift"] = Shift()
    with pytest.raises(ValueError, match=r"cannot be upsampled .* integer factor and a multiple of 1/2"):
        FCN(model, 2, alignment=alignment)


def test_features_without_a_convolution():
    model = Classifier(
        Sequential(MaxPool2d(2)),
        Sequential(Linear(4, 3, rng=0)),
        input_shape=(1, 4, 4),
        taps={},
        architecture={},
    )
    with pytest.raises(ValueError, match="pads the first convolution, and these features have none"):
        FCN(model, 2, **paper)


def test_maps_that_do_not_cover_one_another():
    layer = PaperUpsample(1, coarse=CoordinateMap(Fraction(2), Fraction(-3, 2)), fine=CoordinateMap())
    assert (layer.offset, layer.skip_offset) == (3, 0)
    assert layer.forward(np.ones((1, 1, 4, 4)).astype("float32"), (7, 5)).shape == (1, 1, 7, 5)
    with pytest.raises(
        ValueError,
        match=r"upsampled to \(10, 10\) and a finer map of \(8, 5\) do not cover .* offset 3 .* 'exact'",
    ):
        layer.forward(np.ones((1, 1, 4, 4)).astype("float32"), (8, 5))


def test_squeezenet_scores_cover_the_image():
    """Unpadded convolutions put its maps inside the image; the padding brings them out again."""
    *_, last = FCN(squeezenet(), 2, 4, **paper).upsamples
    assert last.offset == 100 - 16
