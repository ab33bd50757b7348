import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from minifcn import convolutionalize
from minifcn.checks import check_gradient
from minifcn.functional import softmax
from minifcn.models import FCN, Preprocessing, squeezenet1_0, squeezenet1_1
from minifcn.models.squeezenet import Fire
from tests.real_data import CLASS_NAMES, DATA, WEIGHTS, needs_weights

CAFFE = Preprocessing("BGR", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0))


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="module")
def imagenet():
    model = squeezenet1_0(init="zeros").eval()
    model.load_state_dict(load_file(WEIGHTS))
    names = (CLASS_NAMES).read_text().splitlines()
    return model, [name.split(",")[0] for name in names]


def test_fire_has_the_right_gradients():
    fire = Fire(3, 2, 4, rng=0).astype("float64")
    for seed, parameter in enumerate(fire.parameters()):  # biases, too: zeros would lie on ReLU's kink
        parameter.data = normal(parameter.data.shape, seed)
    check_gradient(fire, normal((2, 3, 5, 4), 9))


def test_fire_equals_its_convolutions():
    fire = Fire(3, 2, 4, rng=0).astype("float64")
    x = normal((1, 3, 5, 4))
    squeezed = np.maximum(fire.squeeze(x), 0)
    y = fire(x)
    assert y.shape == (1, *fire.output_shape((3, 5, 4))) == (1, 8, 5, 4)
    assert np.array_equal(y[:, :4], np.maximum(fire.expand1x1(squeezed), 0))
    assert np.array_equal(y[:, 4:], np.maximum(fire.expand3x3(squeezed), 0))


@pytest.mark.parametrize("make", [squeezenet1_0, squeezenet1_1])
def test_names_are_torchvisions(make):
    names = list(make(init="zeros").state_dict())
    assert names[:4] == ["features.0.weight", "features.0.bias"] + [
        f"features.3.squeeze.{kind}" for kind in ("weight", "bias")
    ]
    assert names[-2:] == ["classifier.1.weight", "classifier.1.bias"]
    assert "features.12.expand3x3.weight" in names
    assert len(names) == 52


@pytest.mark.parametrize("make", [squeezenet1_0, squeezenet1_1])
def test_as_fcn_it_labels_every_pixel(make):
    """Its 3 x 3 pools are centred on pixels, so its upsampling kernels are odd: 2 s - 1."""
    fcn = FCN(make(), 4, stride=4)
    assert [up.deconv.kernel_size[0] for up in fcn.upsamples] == [3, 3, 7]
    for size in [(1, 1), (50, 37)]:
        scores = fcn(normal((1, 3, *size)).astype(np.float32))
        assert scores.shape == (1, 4, *size)
        assert fcn.backward(scores).shape == (1, 3, *size)


@needs_weights
@pytest.mark.parametrize(
    ("photo", "name", "probability"),
    [("chelsea.png", "Egyptian cat", 0.63), ("coffee.png", "espresso", 0.97)],
)
def test_it_recognises_a_cat_and_a_cup(imagenet, photo, name, probability):
    model, names = imagenet
    with Image.open(DATA / photo) as picture:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        crop = picture.convert("RGB").crop((left, top, left + side, top + side))
        pixels = np.asarray(crop.resize((227, 227), Image.Resampling.BILINEAR))
    probabilities = softmax(model(CAFFE(pixels[None])))[0]
    assert names[probabilities.argmax()] == name
    assert probabilities.max() == pytest.approx(probability, abs=0.02)


@needs_weights
@pytest.mark.parametrize(
    ("photo", "name", "box"),
    [("chelsea.png", "Egyptian cat", (60, 20, 360, 280)), ("coffee.png", "espresso", (150, 30, 450, 330))],
)
def test_as_convolutions_it_locates_them(imagenet, photo, name, box):
    """The maximum of the heat map lies on the cat's face, or on the cup: left, top, right, bottom."""
    model, names = imagenet
    sliding = convolutionalize(model, (3, 227, 227))
    with Image.open(DATA / photo) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    heat = softmax(sliding(CAFFE(pixels[None])))[0, names.index(name)]
    row, col = np.unravel_index(heat.argmax(), heat.shape)
    position = sliding.coordinate_map()
    left, top, right, bottom = box
    assert left < position(int(col)) < right
    assert top < position(int(row)) < bottom
