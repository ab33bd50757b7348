import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.checks import check_gradient
from minifcn.geometry import Transposed, Window
from minifcn.kernels.padding import pad_or_crop
from minifcn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from minifcn.models import FCN, Classifier, digit_classifier
from tests.models.trunks import average, digits, every_pair, float64, normal, randomised, squeezenet, vgg

# Sizes


def axis_fits(fcn, size):
    """Follow one axis through the network by arithmetic: does each crop lie inside what it is cut from?"""
    smallest = next(n for n in range(1, 999) if _fits(fcn, n))
    shape = (1, max(size, smallest), 1000)  # the other axis is somebody else's business
    lengths = {}
    for name, layer in fcn.features.children():
        shape = layer.output_shape(shape)
        lengths[name] = shape[1]
    length = fcn.head.output_shape(shape)[1]
    targets = [lengths[fcn.taps[int(stride)]] for stride, _ in fcn.skips.children()] + [size]
    for upsample, target in zip(fcn.upsamples, targets, strict=True):
        before, after, crop = upsample.plan(length, target)
        window = Window(upsample.deconv.kernel_size[0], stride=upsample.factor)
        upsampled = Transposed(window).output_size(length + before + after)
        if min(before, after, crop) < 0 or crop + target > upsampled:
            return False
        length = target
    return True


def _fits(fcn, size):
    try:
        fcn.head.output_shape(fcn.features.output_shape((1, size, 1000)))
    except ValueError:
        return False
    return True


@every_pair
def test_every_size_from_1_to_1299(make, stride):
    fcn = FCN(make(), 2, stride)
    assert [size for size in range(1, 1300) if not axis_fits(fcn, size)] == []


def test_the_kernels_are_even_after_2x2_pools_and_odd_after_3x3_ones():
    def widths(make, stride):
        return [upsample.deconv.kernel_size[0] for upsample in FCN(make(), 2, stride).upsamples]

    assert widths(vgg, 32) == [64]  # as in the reference code
    assert widths(vgg, 8) == [4, 4, 16]
    assert widths(squeezenet, 16) == [31]
    assert widths(squeezenet, 4) == [3, 3, 7]
    assert widths(digits, 8) == [16]  # the even dense kernel moves the coarsest map by half of its step
    assert widths(digits, 2) == [4, 4, 4]
    assert widths(lambda: squeezenet(dense=2), 16) == [31]


@every_pair
@settings(max_examples=12)
@given(data=st.data())
def test_scores_have_the_size_of_the_image(make, stride, data):
    fcn = float64(make, stride)
    height, width = data.draw(st.tuples(*[st.one_of(st.integers(1, 12), st.integers(1, 90))] * 2))
    x = normal((1, 1, height, width))
    y = fcn(x)
    assert y.shape == (1, 2, height, width) == (1, *fcn.output_shape(x.shape[1:]))
    assert fcn.backward(normal(y.shape, 1)).shape == x.shape


@settings(max_examples=12)
@given(size=st.tuples(*[st.integers(1, 70)] * 2), stride=st.sampled_from([8, 4, 2]))
def test_the_digit_classifier_at_many_sizes(size, stride):
    fcn = FCN(digit_classifier(rng=0), 11, stride)
    y = fcn(normal((2, 1, *size)).astype("float32"))
    assert y.shape == (2, 11, *size)
    assert fcn.backward(y).shape == (2, 1, *size)


@every_pair
def test_small_images_are_padded_and_cut_again(make, stride):
    fcn = float64(make, stride).eval()
    smallest = next(n for n in range(1, 999) if _fits(fcn, n))
    assert (smallest > 1) is (make is squeezenet)
    x = normal((1, 1, max(smallest - 3, 1), smallest + 2))
    missing = smallest - x.shape[2]
    padded = fcn(pad_or_crop(x, 0, missing, 0, 0))
    assert np.allclose(fcn(x), padded[:, :, : x.shape[2]], rtol=1e-12, atol=1e-12)


@every_pair
def test_every_score_is_an_average_with_weights_that_sum_to_1(make, stride):
    fcn = FCN(make(), 3, stride).astype("float64")
    fcn.score.bias.data[...] = 1, -2, 5  # the weights are zero: a constant map of scores, at every stride
    for size in ((1, 1), (50, 37), (3, 64)):
        y = fcn(normal((1, 1, *size)))
        assert np.allclose(y, np.broadcast_to([[[1.0]], [[-2.0]], [[5.0]]], y.shape), rtol=1e-6)


# Alignment


@every_pair
def test_a_ramp_comes_out_as_the_same_ramp_through_every_tap(make, stride):
    rng = np.random.default_rng(0)
    model = make(channels=1, make_pool=AvgPool2d).astype("float64")
    for layer in model.features:
        if isinstance(layer, Conv2d):
            layer.weight.data[...] = average(layer.kernel_size, rng)
    dense = model["classifier"][0]
    kernel = int(dense.in_features**0.5)
    dense.weight.data[...] = average((kernel, kernel), rng).ravel()
    fcn = FCN(model, 2, stride).astype("float64")

    size = 460, 430
    rows, cols = np.mgrid[: size[0], : size[1]]
    ramp = 1000 + 3.0 * rows - 2.0 * cols  # positive, so that ReLU lets it pass
    inside = slice(200, -200), slice(200, -200)  # out of reach of what the padding does
    for active in (fcn.score, *fcn.skips):
        for layer in (fcn.score, *fcn.skips):
            layer.weight.data[...] = 0
        active.weight.data[:, 0] = 1 / active.weight.data.shape[1]
        if active is fcn.score:
            active.weight.data[...] = 1 / 3  # the three outputs of the dense layer, all alike
        active.weight.data[1] *= -2
        y = fcn(ramp[None, None])[0]
        assert np.allclose(y[0][inside], ramp[inside], rtol=1e-9)
        assert np.allclose(y[1][inside], -2 * ramp[inside], rtol=1e-9)


# Gradients


@every_pair
def test_the_gradient_of_the_whole_network(make, stride):
    size = (3, 5) if stride in (16, 4) else (17, 18)  # with and without padding to the smallest image
    fcn = float64(make, stride, upsampling="learned")
    check_gradient(fcn, normal((2, 1, *size)), rng=1)


@pytest.mark.parametrize("options", [{}, {"alignment": "paper", "at_once": True}], ids=["exact", "paper"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_same_numbers_in_every_library(xp, options, frozen):
    x, dy = normal((1, 1, 9, 14)), normal((1, 2, 9, 14), 1)
    reference, fcn = (float64(digits, 2, **options) for _ in range(2))

    def results(network, x, dy):
        if frozen:
            network.freeze_trunk()
        results = [network(x)]
        if frozen:
            network.backward_parameters(dy)
        else:
            results.append(network.backward(dy))
        return results + [p.grad for p in network.parameters() if p.trainable]

    expected = results(reference, x, dy)
    if xp.name in ("strict", "cupy"):
        fcn.to("cuda")
    for ours, theirs in zip(results(fcn, xp.array(x), xp.array(dy)), expected, strict=True):
        assert np.allclose(xp.numpy(ours), theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", ["in features", "first in head"])
def test_a_tapped_map_is_not_written_over(place):
    """A ReLU that writes over its input stands behind what a skip scores later."""
    conv, pool = Conv2d(1, 2, 3, padding=1, rng=0), Conv2d(2, 2, 2, stride=2, rng=0)
    relu, dense = ReLU(inplace=True), Linear(8, 3, rng=0)
    features = Sequential(conv=conv, relu=relu, pool=pool)
    head = Sequential(dense, Linear(3, 2, rng=0))
    model = Classifier(features, head, input_shape=(1, 4, 4), taps={1: "conv"}, architecture={})
    if place == "first in head":
        del features.parts["relu"], features.parts["pool"]
        head = Sequential(relu=relu, pool=pool, flatten=Flatten(), dense=dense, last=Linear(3, 2, rng=0))
        model = Classifier(features, head, input_shape=(1, 4, 4), taps={1: "conv"}, architecture={})
    fcn = randomised(FCN(model, 2, 1).astype("float64"))
    check_gradient(fcn, normal((1, 1, 6, 5)), rng=1)
    assert relu.inplace  # the classifier's own still does


def test_backward_needs_a_forward():
    fcn = float64(digits, 4)
    dy = normal((1, 2, 8, 8))
    with pytest.raises(ValueError, match="forward has not run since the last backward"):
        fcn.backward(dy)
    fcn(normal((1, 1, 8, 8)))
    with pytest.raises(
        ValueError, match=r"dy must have the output's shape \(1, 2, 8, 8\), got \(1, 2, 8, 7\)"
    ):
        fcn.backward(dy[..., :7])
    with pytest.raises(TypeError, match="dy must have the output's dtype float64, got float32"):
        fcn.backward(dy.astype("float32"))
    fcn.backward(dy)
    with pytest.raises(ValueError, match="forward has not run since the last backward"):
        fcn.backward(dy)
    fcn.eval()(normal((1, 1, 8, 8)))
    with pytest.raises(ValueError, match=r"in eval mode forward keeps nothing for it; call train\(\)"):
        fcn.backward(dy)


# How it is made from a classifier


@every_pair
def test_scores_begin_at_zero(make, stride):
    fcn = FCN(make(), 5, stride)
    y = fcn(normal((2, 1, 40, 30)).astype("float32"))
    assert not y.any()
    fcn.backward(normal(y.shape).astype("float32"))
    assert fcn.score.weight.grad.any()
    assert all(layer.weight.grad.any() for layer in fcn.skips)  # and every score layer learns from the start


def test_features_and_head_are_taken_over_as_copies():
    model = digit_classifier(rng=0)
    fcn = FCN(model, 11, 2)
    theirs, ours = model.state_dict(), fcn.state_dict()
    for name, array in theirs.items():
        new = name.replace("classifier.", "head.")
        if name.startswith("classifier.3."):
            assert new not in ours  # the last layer knew other classes
        else:
            assert np.array_equal(ours[new].ravel(), array.ravel())
            assert not np.shares_memory(ours[new], array)
    assert ours["head.0.weight"].shape == (128, 64, 4, 4)
    assert not any(layer.ceil_mode for layer in model.features if isinstance(layer, MaxPool2d))
    dropouts = [
        [repr(part) for part in parts if isinstance(part, Dropout)]
        for parts in (fcn.head, model["classifier"])
    ]
    assert dropouts[0] == dropouts[1] != []
    assert list(dict(fcn.skips.children())) == ["4", "2"]
    assert list(dict(fcn.upsamples.children())) == ["8to4", "4to2", "2to1"]


def test_a_classifier_with_one_dense_layer_is_scored_on_its_features():
    features = Sequential(Conv2d(1, 3, 3, padding=1, rng=0), ReLU(), MaxPool2d(2))
    model = Classifier(
        features, Sequential(Linear(12, 5, rng=0)), input_shape=(1, 4, 4), taps={}, architecture={}
    )
    fcn = FCN(model, 2)
    assert len(fcn.head) == 0
    assert fcn.stride == 2
    assert fcn(np.ones((1, 1, 7, 5), np.float32)).shape == (1, 2, 7, 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_new_layers_are_like_the_classifiers(strict, dtype, training):
    model = digits().astype(dtype).to("cuda").train(training)
    parent = FCN(model, 3, 4)
    for fcn in (parent, parent.finer()):
        assert {layer.training for layer in fcn.layers()} == {training}
        assert {str(array.dtype) for array in fcn.state_dict().values()} == {dtype}
        y = fcn(strict.array(normal((1, 1, 9, 8)).astype(dtype)))
        assert isinstance(y, strict.module.ndarray)


def test_a_new_network_starts_fresh():
    parent = FCN(digits(), 3, 4)
    x = normal((1, 1, 9, 8)).astype("float32")
    parent.backward(parent(x))
    parent(x)
    child = parent.finer()
    assert {parameter.grad is None for parameter in child.parameters()} == {True}
    with pytest.raises(ValueError, match="forward has not run"):
        child.backward(np.zeros((1, 3, 9, 8), np.float32))
    parent.backward(np.zeros((1, 3, 9, 8), np.float32))  # the parent is as it was


@pytest.mark.parametrize("training", [True, False])
def test_fixed_and_learned_upsampling(training):
    fixed, learned = (randomised(FCN(digits(), 3, 2, upsampling=kind)) for kind in ("fixed", "learned"))
    x = normal((1, 1, 21, 18)).astype("float32")
    y = fixed.train(training)(x)
    assert np.array_equal(y, learned.train(training)(x))
    for upsample in fixed.upsamples:
        assert not upsample.deconv.weight.trainable
    if training:
        assert np.array_equal(fixed.backward(y), learned.backward(y))
        assert all(upsample.deconv.weight.grad is None for upsample in fixed.upsamples)
        assert all(upsample.deconv.weight.grad.any() for upsample in learned.upsamples)


def test_repr_names_the_parts():
    said = repr(FCN(digits(), 3, 4))
    assert said.startswith("FCN(\n  (features): Sequential(\n    (conv0): Conv2d(")
    for part in ("(head)", "(score)", "(skips)", "(upsamples)", "(8to4)", "(4to1)"):
        assert part in said


# What is refused


def test_impossible_networks_are_refused():
    model = digits()
    for stride in (1, 3, 16):
        with pytest.raises(ValueError, match=rf"stride must be one of \[2, 4, 8\], got {stride}"):
            FCN(model, 3, stride)
    for stride in (0, -8, "8", [8], 8.0):
        with pytest.raises(ValueError, match="stride must be an integer >= 1, got "):
            FCN(model, 3, stride)
    for classes in (1, 0, -1, 2.5, "a", None, True):
        with pytest.raises(ValueError, match="num_classes must be an integer >= 2, got "):
            FCN(model, classes)
    with pytest.raises(ValueError, match=r"num_classes must be at most 255, .* got 256"):
        FCN(model, 256)
    with pytest.raises(ValueError, match="upsampling must be one of 'fixed', 'learned', got 'nearest'"):
        FCN(model, 3, upsampling="nearest")


@pytest.mark.parametrize("shape", [(1, 9, 9), (1, 3, 9, 9), (1, 1, 0, 9), (1, 1, 9, 0), (9, 9)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"FCN takes images \(N, 1, H, W\), got shape "):
        FCN(digits(), 3)(np.ones(shape, np.float32))


def test_other_dtypes_and_libraries_are_refused(strict):
    fcn = FCN(digits(), 3)
    with pytest.raises(TypeError, match="FCN takes preprocessed images in float32, got uint8"):
        fcn(np.ones((1, 1, 9, 9), np.uint8))
    with pytest.raises(TypeError, match="dtypes are mixed: x is float64, w is float32"):
        fcn(np.ones((1, 1, 9, 9)))
    with pytest.raises(TypeError, match=r"x is on the GPU \(CuPy\), w is on the CPU"):
        fcn(strict.array(np.ones((1, 1, 9, 9), np.float32)))
    with pytest.raises(TypeError, match="NumPy or CuPy array, got list"):
        fcn([[[[1.0]]]])


def test_a_dense_kernel_that_is_not_square_has_no_single_place():
    features = Sequential(Conv2d(1, 2, 3, padding=1, rng=0), MaxPool2d(2))
    head = Sequential(Linear(2 * 2 * 3, 4, rng=0), ReLU(), Linear(4, 2, rng=0))
    model = Classifier(features, head, input_shape=(1, 4, 6), taps={}, architecture={})
    with pytest.raises(ValueError, match="treats rows and columns differently"):
        FCN(model, 2)
