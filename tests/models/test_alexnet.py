import numpy as np
import pytest

from minifcn.geometry import CoordinateMap, Transposed, Window, coordinate_map, crop_offset
from minifcn.models import FCN, alexnet, caffenet


def test_names_are_those_of_the_public_files():
    assert list(alexnet(init="zeros").state_dict())[::2] == [
        *(f"features.{i}.weight" for i in (0, 3, 6, 8, 10)),
        *(f"classifier.{i}.weight" for i in (1, 4, 6)),
    ]
    assert list(caffenet(init="zeros").state_dict())[::2] == [
        *(f"features.conv{i}.weight" for i in range(1, 6)),
        *(f"classifier.fc{i}.weight" for i in range(6, 9)),
    ]


@pytest.mark.parametrize(("make", "smallest"), [(alexnet, 31), (caffenet, 27)])
def test_as_fcn_with_an_even_dense_kernel_on_pixel_centred_pools(make, smallest):
    fcn = FCN(make(init="zeros"), 3)
    [upsample] = fcn.upsamples
    assert upsample.deconv.kernel_size == (63, 63)  # 2 s - 1, as the reference has it for AlexNet
    for size in [(3, 5), (smallest + 40, 70)]:
        scores = fcn(np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32))
        assert scores.shape == (1, 3, *size)
        assert not scores.any()
        assert fcn.backward(scores + 1).shape == (1, 3, *size)


def test_the_references_crop_of_18_follows_from_the_layers_of_caffenet():
    """Its first convolution padded by 100, and the dense kernel of 6 without padding."""
    fcn = FCN(caffenet(init="zeros"), 3)
    before, after = CoordinateMap(offset=-CoordinateMap().scale * 100), Window(6).coordinate_map()
    score = before @ fcn.features.coordinate_map() @ after
    upscore = score @ coordinate_map([Transposed(Window(63, stride=32))])
    assert crop_offset(upscore, CoordinateMap()) == 18
