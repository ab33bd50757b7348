"""Every layer refuses a gradient that is no array, by name."""

import numpy as np
import pytest

from minifcn.models import FCN, digit_classifier
from tests.layers.test_config import EXAMPLES

NETWORKS = [*EXAMPLES, digit_classifier(rng=0), FCN(digit_classifier(rng=0), 3)]
SHAPES = [(1, 1, 32, 32), *((1, channels, 8, 8) for channels in (2, 3, 4, 6, 8)), (2, 4), (2, 8)]


def output(layer):
    """Run a layer on an input that it takes, if there is one in the list."""
    for shape in SHAPES:
        try:
            return layer(np.ones(shape, np.float32))
        except (NotImplementedError, TypeError, ValueError):
            continue
    return None


@pytest.mark.parametrize("name", ["backward", "backward_parameters"])
def test_a_gradient_that_is_no_array_is_refused(name):
    tried = 0
    for layer in NETWORKS:
        layer.train()
        for wrong in (None, [1.0], 1.0, "x", np.ma.ones(3), np.ones(3, np.complex64)):
            if output(layer) is None:
                continue
            with pytest.raises((TypeError, ValueError), match=r"backward|dy must be"):
                getattr(layer, name)(wrong)
            tried += 1
    assert tried > 60
