"""ONNX files that are damaged, or made to take time or memory: one sentence, quickly, without much memory."""

import random
import tracemalloc

import numpy as np
import pytest

from minifcn.files import FileError
from minifcn.models import digit_classifier
from minifcn.weights import load_onnx, onnx_file, onnx_import, onnx_network, save_onnx
from minifcn.weights.onnx_file import Message, attributes, decode, encode, to_array, to_attribute, to_tensor


def node(op, inputs, output, **attributes):
    given = [to_attribute(name, value) for name, value in attributes.items()]
    return {"op_type": op, "input": inputs, "output": [output], "attribute": given}


def write(path, nodes, weights=(), shape=(0, 3, 8, 8), output="y", **more):
    dims = [{"dim_value": side} for side in shape]
    given: Message = {"name": "x", "type": {"tensor_type": {"elem_type": 1, "shape": {"dim": dims}}}}
    graph = {"node": nodes, "initializer": weights, "input": [given], "output": [{"name": output}]} | more
    path.write_bytes(encode("Model", {"ir_version": 8, "graph": graph}))


def chain(op, count, first="x", **attributes):
    names = [first, *(f"v{i}" for i in range(count))]
    return [node(op, [names[i]], names[i + 1], **attributes) for i in range(count)]


def floats(*shape, name="w"):
    return to_tensor(np.zeros(shape, np.float32), name)


def refused(path, message, limit=50):
    """Demand the error, and that at most `limit` MB are taken for it."""
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=rf"net\.onnx: .*{message}") as caught:
            load_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit * 2**20
    assert str(caught.value).isprintable()


def huge_tensor():
    tensor = floats(4)
    return [node("MatMul", ["x", "w"], "y")], [tensor | {"dims": [2**40, 2**40]}]


def no_data():
    return [node("MatMul", ["x", "w"], "y")], [{"dims": [10**5, 10**4], "data_type": 1, "name": "w"}]


def huge_by_axis_of_zero():
    return [node("MatMul", ["x", "w"], "y")], [floats(0) | {"dims": [2**62, 0]}]


def products():
    """Two vectors make a matrix, which would be 40 GB."""
    return [node("Mul", ["a", "b"], "y")], [floats(100_000, 1, name="a"), floats(1, 100_000, name="b")]


def doubled():
    """Each constant is twice as long as the one before."""
    names = ["w", *(f"v{i}" for i in range(60))]
    nodes = [node("Concat", [names[i]] * 2, names[i + 1], axis=0) for i in range(60)]
    return nodes, [floats(1000)]


def gathered():
    rows = [f"v{i}" for i in range(12)]
    nodes = [node("Gather", [a, "i"], b, axis=0) for a, b in zip(["w", *rows], rows, strict=False)]
    return nodes, [floats(1000), to_tensor(np.zeros((100, 100), np.int64), "i")]


def shared():
    """A thousand convolutions have the same weights, which each layer copies."""
    names = ["x", *(f"v{i}" for i in range(1000))]
    nodes = [node("Conv", [names[i], "w"], names[i + 1], pads=[1, 1, 1, 1]) for i in range(1000)]
    return nodes, [floats(512, 512, 3, 3)]


def padded():
    sides = to_tensor(np.array([0, 0, 2**40, 2**40, 0, 0, 2**40, 2**40]), "sides")
    return [node("Pad", ["x", "sides"], "p"), node("Conv", ["p", "w"], "y")], [sides, floats(4, 3, 1, 1)]


def one_number(shape, *users):
    """A constant that is one number repeated takes no memory until it is used."""
    return [node("ConstantOfShape", ["s"], "c"), *users], [to_tensor(np.array(shape), "s"), floats(3)]


FILES = {
    r"ConstantOfShape \(it makes 1,000,000,000,000 elements": lambda: one_number(
        [10**6, 10**6], node("MatMul", ["x", "c"], "y")
    ),
    r"Reshape \(its input 1 has 1,000,000,000 numbers": lambda: one_number(
        [10**9], node("Reshape", ["x", "c"], "y")
    ),
    r"InstanceNormalization \(its input 1 has the shape \(1000000000,\), expected \(3,\)": lambda: one_number(
        [10**9], node("InstanceNormalization", ["x", "c", "w"], "y")
    ),
    r"BatchNormalization \(its input 4 .*1000000000": lambda: one_number(
        [10**9], node("BatchNormalization", ["x", "w", "w", "w", "c"], "y")
    ),
    r"Mul \(a constant of shape \(1000000000,\)": lambda: one_number([10**9], node("Mul", ["x", "c"], "y")),
    r"Conv .*elements that are left": lambda: one_number(
        [10**8, 3, 1, 1], node("Conv", ["x", "c"], "y")
    ),
    r"a tensor of shape \(1099511627776, 1099511627776\)": huge_tensor,
    r"a tensor of shape \(100000, 10000\)": no_data,
    r"a tensor of shape \(4611686018427387904, 0\)": huge_by_axis_of_zero,
    r"Mul \(its constants have more than": products,
    r"Concat \(its constants have more than": doubled,
    r"Gather \(its constants have more than": gathered,
    r"Conv \(padding must be an integer <= 2147483647": padded,
    "101 nodes": lambda: (chain("Relu", 101), []),
    r"MaxPool \(kernel_size must have at most 262144 elements": lambda: (
        chain("MaxPool", 1, kernel_shape=[2**62, 2**62]),
        [],
    ),
    "MaxPool .*stride": lambda: (chain("MaxPool", 1, kernel_shape=[1, 1], strides=[0, 1]), []),
    "MaxPool .*padding": lambda: (chain("MaxPool", 1, kernel_shape=[2, 2], pads=[0, -9, 0, 0]), []),
    "MaxPool .*two dimensions": lambda: (chain("MaxPool", 1, kernel_shape=[2, 2, 2]), []),
    "If, Loop, Scan": lambda: ([node(op, ["x"], f"{op}y") for op in ("If", "Loop", "Scan")]
                               + [node("Add", ["Ify", "Loopy"], "z"), node("Add", ["z", "Scany"], "y")], []),
    "its output is a constant": lambda: ([node("Identity", ["w"], "y")], [floats(3)]),
    "Relu .*'nowhere' is missing": lambda: ([node("Relu", ["nowhere"], "y")], []),
    "Relu .*'y' is missing": lambda: ([node("Relu", ["y"], "y")], []),
}  # fmt: skip


@pytest.mark.parametrize("message", FILES)
def test_what_a_file_declares_is_checked_first(message, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_network, "_MAX_FOLDED", 10**6)
    monkeypatch.setattr(onnx_import, "_MAX_NODES", 100)
    nodes, weights = FILES[message]()
    write(tmp_path / "net.onnx", nodes, weights, output=nodes[-1]["output"][0])
    refused(tmp_path / "net.onnx", message)


def test_weights_that_many_layers_share_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_import, "MAX_BYTES", 40_000_000)
    nodes, weights = shared()
    write(tmp_path / "net.onnx", nodes, weights, (0, 512, 8, 8), output="v999")
    refused(tmp_path / "net.onnx", "elements that are left", limit=100)


def test_many_small_messages_take_no_memory(tmp_path, monkeypatch):
    """Objects of a library of Protocol Buffers would take a hundred times the size of the file."""
    monkeypatch.setattr(onnx_file, "MAX_FIELDS", 10_000)
    graph = b"\x0a\x00" * 5_000_000  # empty nodes
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x3a" + onnx_file._packed(len(graph)) + graph)
    refused(tmp_path / "net.onnx", "more than 10,000 fields")


@pytest.mark.parametrize("shape", [(0, 3, 8), (0, 0, 8, 8), (0, 3, 2**40, 8), (0, 3, -5, 8)])
def test_images_of_other_shapes(shape, tmp_path):
    write(tmp_path / "net.onnx", chain("Relu", 1), shape=shape, output="v0")
    refused(tmp_path / "net.onnx", "images|size must be given")


def test_texts_of_the_file_are_escaped(tmp_path):
    write(tmp_path / "net.onnx", chain("\x1b[31mRed\n", 1), output="v0")
    refused(tmp_path / "net.onnx", r"\\x1b\[31mRed")


def test_numbers_of_fields():
    message = {"dims": [3, -1, 2**63 - 1], "data_type": 7, "name": "ß"}
    assert decode(memoryview(encode("Tensor", message)), "Tensor").items() >= message.items()
    packed = b"\x0a\x03\x03\x96\x01"  # dims, packed: 3 and 150
    assert decode(memoryview(packed), "Tensor")["dims"] == [3, 150]
    unknown = b"\xf8\x01\x05" + b"\xfa\x01\x02ab" + b"\xfd\x01abcd" + b"\xf9\x01abcdefgh" + b"\x10\x07"
    assert decode(memoryview(unknown), "Tensor")["data_type"] == 7
    for damaged in (b"\x10", b"\x10" + b"\xff" * 10, b"\x0a\x05a", b"\x0b", b"\x10\x01\x10\x02", b"\x42"):
        with pytest.raises(ValueError, match=r"damaged|cut off|twice"):
            decode(memoryview(damaged), "Tensor")


def test_mutations(tmp_path):
    """A changed file is refused in one sentence, or read."""
    save_onnx(digit_classifier(rng=0), tmp_path / "net.onnx")
    model = decode(memoryview((tmp_path / "net.onnx").read_bytes()), "Model")
    for tensor in model["graph"]["initializer"]:  # large weights hide the rest
        tensor["raw_data"] = tensor["raw_data"][:0]
    original = encode("Model", model)
    rng, outcomes = random.Random(0), []
    for _ in range(200):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 3])):
            place = rng.randrange(len(data))
            data[place : place + rng.choice([0, 1, 1, 5])] = rng.randbytes(rng.choice([0, 1, 1, 9]))
        (tmp_path / "net.onnx").write_bytes(data)
        try:
            load_onnx(tmp_path / "net.onnx")
        except FileError as error:
            outcomes.append(str(error))
    assert len(outcomes) > 50
    assert all(said.isprintable() and len(said) < 3000 for said in outcomes)


@pytest.mark.parametrize(
    ("message", "values", "fields"),
    [
        ("Opset", {"domain": "", "version": 17}, 2),
        ("Graph", {"input": [{"name": "x"}, {"name": "y"}]}, 4),
        ("Tensor", b"\x0a\x03\x03\x96\x01", 3),  # two packed integers
        ("Attribute", b"\x3a\x08" + bytes(8), 3),  # two packed numbers in floating point
    ],
    ids=["numbers", "messages", "packed integers", "packed floats"],
)
def test_the_number_of_fields_is_limited(message, values, fields):
    data = memoryview(values if isinstance(values, bytes) else encode(message, values))
    decode(data, message, [fields])
    with pytest.raises(ValueError, match="more than 300,000 fields"):
        decode(data, message, [fields - 1])


def test_texts_up_to_the_limit_are_read():
    assert len(decode(memoryview(encode("Opset", {"domain": "x" * 10**6})), "Opset")["domain"]) == 10**6
    with pytest.raises(ValueError, match="a text of 1,000,001 bytes"):
        decode(memoryview(encode("Opset", {"domain": "x" * (10**6 + 1)})), "Opset")


def decoded(message, values):
    return decode(memoryview(encode(message, values)), message)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (1,) * 8, (0, 10**9)])
@pytest.mark.parametrize("dtype", ["f4", "u1", "i1", "i2", "i4", "i8", "?", "f8"])
def test_tensors_there_and_back(dtype, shape):
    size = int(np.prod(shape))
    array = np.random.default_rng(0).integers(0, 2, size).astype(dtype).reshape(shape)
    back = to_array(decoded("Tensor", to_tensor(array)))
    assert (back.dtype, back.shape) == (array.dtype, shape)
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dims": [1] * 9}, r"shape \(1, 1, 1, 1, 1, 1, 1, 1\) and float32 has 4 bytes"),
        ({"dims": [0, 10**9 + 1], "raw_data": b""}, r"shape \(0, 1000000001\)"),
        ({"dims": [-1, -1]}, r"shape \(-1, -1\)"),
        ({"dims": [2]}, r"shape \(2,\) and float32 has 4 bytes"),
        ({"data_type": 0}, "data type 0, which is not known"),
        ({"data_type": 8}, "data type 8, which is not known"),
        ({"data_location": 1}, "another file"),
        ({"external_data": [b"weights"]}, "another file"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, said):
    tensor = to_tensor(np.zeros(1, np.float32))
    assert to_array(decoded("Tensor", tensor)).tolist() == [0]
    with pytest.raises(ValueError, match=said):
        to_array(decoded("Tensor", tensor | change))


def test_a_tensor_without_a_data_type_is_refused():
    with pytest.raises(ValueError, match="data type 0, which is not known"):
        to_array(decoded("Tensor", {"dims": [1], "raw_data": bytes(4)}))


@pytest.mark.parametrize(
    ("kind", "value"), [(1, 0), (2, 0), (3, None), (4, None), (5, None), (6, []), (7, []), (0, None)]
)
def test_attributes_whose_value_is_left_out(kind, value):
    """Protocol Buffers may leave out numbers that are 0."""
    assert attributes(decoded("Node", {"attribute": [{"name": "a", "type": kind}]})) == {"a": value}


@pytest.mark.parametrize(
    ("made", "largest", "message"),
    [
        (lambda n: {"nodes": [{}] * n, "output": "x"}, 10_000, "it has 10,001 nodes"),
        (lambda n: {"nodes": [], "output": "x", "shape": (0, n, 1, 1)}, 100_000, r"\(100001, 1, 1\)"),
        (lambda n: {"nodes": [], "output": "x", "shape": (0, 1, n, 1)}, 100_000, r"\(1, 100001, 1\)"),
        (lambda n: {"nodes": [], "output": "x", "shape": (0, 1, 1, n)}, 100_000, r"\(1, 1, 100001\)"),
    ],
    ids=["nodes", "channels", "height", "width"],
)
def test_the_largest_graphs_and_images(made, largest, message, tmp_path):
    path = tmp_path / "net.onnx"
    write(path, **made(largest))
    refused(path, "its output is|no layer at its end")  # what is said of a network without scores
    write(path, **made(largest + 1))
    refused(path, message)


@pytest.mark.parametrize(("count", "end"), [(10, "Op9$"), (11, "Op9 and 1 more$"), (12, "Op9 and 2 more$")])
def test_ten_operators_that_are_not_known_are_named(count, end, tmp_path):
    nodes = [node(f"Op{i}", ["x"], f"v{i}") for i in range(count)]
    nodes.append(node("Sum", [f"v{i}" for i in range(count)], "y"))
    write(tmp_path / "net.onnx", nodes)
    refused(tmp_path / "net.onnx", f"not known here: Op0, Op1, .*{end}")
