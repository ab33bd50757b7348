"""What is computed of an ONNX graph while it is read, and limits: one more than the largest is refused."""

import numpy as np
import pytest

from minifcn.layers import ReLU
from minifcn.weights.onnx_network import Call, Flow, Network, folded

ROW = np.arange(6.0, dtype=np.float32)
MATRIX = ROW.reshape(2, 3)


def integers(*values):
    return np.array(values, np.int64)


FOLDS = [
    ("Add", [MATRIX, ROW[:3]], {}, MATRIX + ROW[:3]),
    ("Sub", [MATRIX, ROW[:3]], {}, MATRIX - ROW[:3]),
    ("Mul", [MATRIX, ROW[:3]], {}, MATRIX * ROW[:3]),
    ("Div", [MATRIX, np.float32(4)], {}, MATRIX / 4),
    ("Div", [integers(7, -7, 7, -7, 6), integers(2, 2, -2, -2, 3)], {}, integers(3, -3, -3, 3, 2)),
    ("Cast", [ROW - 2.5], {"to": 7}, integers(-2, -1, 0, 0, 1, 2)),
    ("Cast", [ROW], {"to": 9}, np.array([False] + 5 * [True])),
    ("Concat", [MATRIX, MATRIX], {"axis": 0}, np.vstack([MATRIX, MATRIX])),
    ("Concat", [MATRIX, MATRIX], {"axis": -1}, np.hstack([MATRIX, MATRIX])),
    ("Constant", [], {"value": ROW}, ROW),
    ("Constant", [], {"value_int": 3}, np.int64(3)),
    ("Constant", [], {"value_ints": [3, 4]}, integers(3, 4)),
    ("Constant", [], {"value_float": 0.5}, np.float32(0.5)),
    ("Constant", [], {"value_floats": [0.5]}, np.array([0.5], np.float32)),
    ("ConstantOfShape", [integers(2, 3)], {}, np.zeros((2, 3), np.float32)),
    ("ConstantOfShape", [integers(2)], {"value": integers(7)}, integers(7, 7)),
    ("Gather", [MATRIX, integers(1)], {}, MATRIX[[1]]),
    ("Gather", [MATRIX, np.int64(-1)], {"axis": 1}, MATRIX[:, -1]),
    ("Identity", [ROW], {}, ROW),
    ("Reshape", [ROW, integers(3, -1)], {}, ROW.reshape(3, 2)),
    ("Shape", [np.zeros((2, 3, 4))], {}, integers(2, 3, 4)),
    ("Shape", [np.zeros((2, 3, 4))], {"start": 1}, integers(3, 4)),
    ("Shape", [np.zeros((2, 3, 4))], {"start": -2, "end": -1}, integers(3)),
    ("Slice", [MATRIX, integers(1), integers(3), integers(1)], {}, MATRIX[:, 1:3]),
    ("Slice", [MATRIX, integers(0, 2), integers(1, 0), None, integers(1, -1)], {}, MATRIX[:1, 2:0:-1]),
    ("Slice", [MATRIX], {"starts": [0, 1], "ends": [1, 2**62]}, MATRIX[:1, 1:]),
    ("Squeeze", [MATRIX[None, :, None]], {}, MATRIX),
    ("Squeeze", [MATRIX[None, :, None], integers(2)], {}, MATRIX[None]),
    ("Squeeze", [MATRIX[None, :, None]], {"axes": [0]}, MATRIX[:, None]),
    ("Unsqueeze", [MATRIX, integers(0, 3)], {}, MATRIX[None, :, :, None]),
    ("Unsqueeze", [MATRIX], {"axes": [1]}, MATRIX[:, None]),
    ("Transpose", [MATRIX], {}, MATRIX.T),
    ("Transpose", [MATRIX[None]], {"perm": [1, 0, 2]}, MATRIX[:, None]),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "expected"), FOLDS)
def test_operators_on_constants(op, inputs, attributes, expected):
    result = folded(Network(1), Call(op, inputs, attributes))
    assert (result.dtype, result.shape) == (np.asarray(expected).dtype, np.shape(expected))
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("op", "inputs", "elements"),
    [
        ("Add", [np.ones((2, 1)), np.ones(3)], 6),
        ("Gather", [np.ones((2, 3)), integers(0, 1, 0, 1)], 24),
        ("Concat", [np.ones(4), np.ones(5)], 9),
        ("Cast", [np.ones(7)], 7),
        ("Identity", [np.ones(10**6)], 0),
        ("Transpose", [np.ones(10**6)], 0),
    ],
)
def test_elements_that_are_computed_are_counted(op, inputs, elements):
    network = Network(1)
    network.fold(10**8 - elements)
    attributes = {"to": 1} if op == "Cast" else {}
    folded(network, Call(op, inputs, attributes))
    with pytest.raises(ValueError, match="its constants have more than 100,000,000 elements"):
        network.fold(1)


def test_the_largest_maps_and_constants():
    network = Network(1)
    assert network.layer(Flow("input", (10, 10**4, 10**4)), ReLU()).shape == (10, 10**4, 10**4)
    with pytest.raises(ValueError, match="makes 1,100,000,000 elements, expected 1,000,000,000 at most"):
        network.layer(Flow("input", (11, 10**4, 10**4)), ReLU())
    assert folded(network, Call("ConstantOfShape", [integers(10**9)], {})).shape == (10**9,)
    with pytest.raises(ValueError, match="makes 1,000,000,001 elements"):
        folded(network, Call("ConstantOfShape", [integers(10**9 + 1)], {}))
    assert len(Call("Reshape", [None, np.ones(1000)], {}).integers(1)) == 1000
    with pytest.raises(ValueError, match="its input 1 has 1,001 numbers"):
        Call("Reshape", [None, np.ones(1001)], {}).integers(1)


def test_values_of_a_call():
    call = Call("Op", [MATRIX, Flow("x", (3,))], {"one": 1, "two": 2, "half": 0.5})
    assert call.input(2) is None
    assert call.flag("one")
    assert not call.flag("other")
    assert call.flag("other", 1)
    with pytest.raises(ValueError, match="two is 2, expected 0 or 1"):
        call.flag("two")
    assert (call.integer("two"), call.integer("other"), call.integer("other", 5)) == (2, 0, 5)
    assert (call.number("half", 1.0), call.number("other", 1.5)) == (0.5, 1.5)
    assert np.array_equal(call.weights(0, (2, 3)), MATRIX)
    with pytest.raises(ValueError, match=r"its input 0 has the shape \(2, 3\), expected \(3, 2\)"):
        call.weights(0, (3, 2))
    with pytest.raises(ValueError, match="its first input is a constant"):
        call.flow()
    with pytest.raises(ValueError, match="its input 1 depends on the images"):
        call.constant(1)
