"""What layers say about themselves: the numbers of one item, and where outputs see inputs."""

import pytest

from minifcn.geometry import CoordinateMap
from minifcn.layers import (
    AvgPool2d,
    BatchNorm2d,
    ChannelShuffle,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
)
from minifcn.layers.cost import Cost, Shift

COSTS = [  # what is not named is zero
    (AvgPool2d(2), (3, 4, 4), {}),
    (BatchNorm2d(3), (3, 4, 4), {"extra": 48}),
    (ChannelShuffle(3), (3, 4, 4), {}),
    (
        Conv2d(3, 8, 3, rng=0),
        (3, 10, 10),
        {"multiplications": 64 * 216, "keeps_input": True, "backward_weights": 216},
    ),
    (Dropout(rng=0), (3, 4, 4), {"extra": 48, "forward": 96}),
    (Flatten(), (3, 4, 5), {"reuses_input": True}),
    (GlobalAvgPool2d(), (3, 4, 5), {}),
    (Linear(5, 2, rng=0), (5,), {"multiplications": 10, "keeps_input": True}),
    (MaxPool2d(2), (3, 4, 4), {"extra_bytes": 12}),
    (ReLU(), (3, 4, 5), {"keeps_output": True}),
    (ReLU(inplace=True), (3, 4, 5), {"keeps_output": True, "reuses_input": True}),
    (Sigmoid(), (3, 4, 5), {"keeps_output": True}),
]
ZERO = dict.fromkeys(
    ["multiplications", "extra", "extra_bytes", "forward", "backward", "backward_weights"], 0
)
ZERO |= dict.fromkeys(["keeps_input", "keeps_output", "reuses_input"], False)


@pytest.mark.parametrize(("layer", "shape", "cost"), COSTS, ids=[repr(layer) for layer, *_ in COSTS])
def test_costs(layer, shape, cost):
    assert vars(layer.cost(shape)) == ZERO | cost


def test_a_cost_is_zero_unless_said():
    assert vars(Cost()) == ZERO


@pytest.mark.parametrize("offset", [0, 3, -2])
def test_a_shift_sees_one_input(offset):
    assert Shift(offset).input_range(1, 4) == (1 + offset, 4 + offset)
    assert Shift(offset).coordinate_map() == CoordinateMap(offset=offset)
    assert Shift() == Shift(0)
