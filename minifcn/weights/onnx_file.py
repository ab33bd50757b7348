"""The file format of ONNX: messages of Protocol Buffers, read and written by one table of their fields.

A file comes from anywhere, so it is read by a few lines that take no memory but for what they have checked:
tensors stay views of the file's bytes, and the number of fields is bounded. Fields that are not in the table
are skipped. See https://protobuf.dev/programming-guides/encoding and onnx.proto of the ONNX project.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.weights.tensors import widened

Message: TypeAlias = dict[str, Any]
"""Fields by name; those of the table that end in "*" are lists, which may be empty."""

MAX_FIELDS = 300_000
"""Fields and single integers that a file may have; ResNet-152 has about 10,000."""

_MAX_SIDE = 10**9

_MAX_TEXT = 1_000_000  # bytes


class _Field(NamedTuple):
    name: str
    kind: str
    repeated: bool


_TABLE = {
    "Model": "1 ir_version int, 2 producer_name text, 3 producer_version text, 7 graph Graph, "
    "8 opset_import Opset*, 14 metadata_props Entry*",
    "Opset": "1 domain text, 2 version int",
    "Entry": "1 key text, 2 value text",
    "Graph": "1 node Node*, 2 name text, 5 initializer Tensor*, 11 input Value*, 12 output Value*, "
    "15 sparse_initializer data*",
    "Node": "1 input text*, 2 output text*, 3 name text, 4 op_type text, 5 attribute Attribute*, "
    "7 domain text",
    "Attribute": "1 name text, 2 f float, 3 i int, 4 s data, 5 t Tensor, 7 floats float*, 8 ints int*, "
    "20 type int",
    "Tensor": "1 dims int*, 2 data_type int, 4 float_data data*, 5 int32_data int*, 7 int64_data int*, "
    "8 name text, 9 raw_data data, 10 double_data data*, 13 external_data data*, 14 data_location int",
    "Value": "1 name text, 2 type Type",
    "Type": "1 tensor_type TensorType",
    "TensorType": "1 elem_type int, 2 shape Shape",
    "Shape": "1 dim Dim*",
    "Dim": "1 dim_value int, 2 dim_param text",
}
_FIELDS: dict[str, dict[int, _Field]] = {
    message: {
        int(number): _Field(name, kind.rstrip("*"), kind.endswith("*"))
        for number, name, kind in (field.split() for field in fields.split(","))
    }
    for message, fields in _TABLE.items()
}
_NUMBERS = {
    message: {field.name: number for number, field in fields.items()} for message, fields in _FIELDS.items()
}

FLOAT, UINT8, INT64 = 1, 2, 7
_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 16: "<u2"}
_BFLOAT16 = 16
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}  # by the attribute's type


def decode(data: memoryview, message: str, left: list[int] | None = None) -> Message:
    """Return the fields of a message.

    Args:
        data: Its bytes.
        message: Its name in the table, such as "Model".
        left: How many fields may still be read, in a list; it is changed.

    Raises:
        ValueError: If the bytes are no such message, or there are too many fields.

    Example:
        >>> decode(memoryview(encode("Opset", {"version": 17})), "Opset")
        {'version': 17}
    """
    left = [MAX_FIELDS] if left is None else left
    fields = _FIELDS[message]
    values: Message = {field.name: [] for field in fields.values() if field.repeated}
    for number, raw in _raw_fields(data):
        _count(left)
        if (field := fields.get(number)) is None:
            continue
        if field.repeated:
            values[field.name] += _values(raw, field.kind, left)
        elif field.name in values:
            raise ValueError(f"{message} has the field {field.name} twice")
        else:
            (values[field.name],) = _values(raw, field.kind, left)
    return values


def _raw_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number of each field with its value: an integer, or bytes that are not yet read."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is damaged, or is not an ONNX file")
        if length > len(data) - at:
            raise ValueError("it is cut off or damaged")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an integer, 7 bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is cut off or damaged")


def _values(raw: int | memoryview, kind: str, left: list[int]) -> list[Any]:
    """Return the values of a field: several if numbers are packed."""
    if isinstance(raw, int):
        if kind != "int":
            raise ValueError(f"it is damaged: a number is where {kind} is expected")
        return [_signed(raw)]
    if kind == "data":
        return [raw]
    if kind == "text":
        if len(raw) > _MAX_TEXT:
            raise ValueError(f"a text of {len(raw):,} bytes is too long")
        return [bytes(raw).decode("utf-8", "replace")]
    if kind == "float":
        if len(raw) % 4:
            raise ValueError("it is damaged: numbers are cut off")
        _count(left, len(raw) // 4)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    if kind != "int":
        return [decode(raw, kind, left)]
    numbers: list[int] = []
    at = 0
    while at < len(raw):
        number, at = _varint(raw, at)
        numbers.append(_signed(number))
        _count(left)
    return numbers


def _count(left: list[int], fields: int = 1) -> None:
    """Subtract from the fields that may still be read."""
    left[0] -= fields
    if left[0] < 0:
        raise ValueError(f"it has more than {MAX_FIELDS:,} fields")


def _signed(value: int) -> int:
    """Return 64 bits as an integer in two's complement."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def encode(message: str, values: Mapping[str, Any]) -> bytes:
    r"""Return the bytes of a message.

    Example:
        >>> encode("Dim", {"dim_param": "N"})
        b'\x12\x01N'
    """
    return b"".join(encoded(message, values))


def encoded(message: str, values: Mapping[str, Any]) -> list[Any]:
    r"""Return the bytes of a message in parts, so that large tensors are not copied.

    Example:
        >>> b"".join(encoded("Opset", {"version": 300}))
        b'\x10\xac\x02'
    """
    parts: list[Any] = []
    for name, value in values.items():
        number = _NUMBERS[message][name]
        field = _FIELDS[message][number]
        for one in value if field.repeated else [value]:
            if field.kind == "int":
                parts += [_packed(number << 3), _packed(one)]
            elif field.kind == "float":
                parts += [_packed(number << 3 | 5), struct.pack("<f", one)]
            else:
                inner = encoded(field.kind, one) if field.kind in _FIELDS else [_bytes(one)]
                parts += [_packed(number << 3 | 2), _packed(sum(map(len, inner))), *inner]
    return parts


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _packed(value: int) -> bytes:
    """Return an integer as 7 bits a byte."""
    value &= 2**64 - 1
    packed = bytearray()
    while value > 127:
        packed.append(value & 127 | 128)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def to_tensor(array: Array, name: str = "") -> Message:
    """Return the message "Tensor" that holds an array.

    Example:
        >>> to_tensor(np.arange(3))["dims"]
        [3]
    """
    code = next(code for code, dtype in _DTYPES.items() if np.dtype(dtype) == array.dtype)
    values = np.ascontiguousarray(array, _DTYPES[code])
    data: Any = values.reshape(-1).view(np.uint8).data if values.size else b""
    return {"dims": [*array.shape], "data_type": code, "name": name, "raw_data": data}


def to_array(tensor: Message) -> Array:
    """Return the array in a message "Tensor", if possible as a read-only view; half precision as float32.

    Raises:
        ValueError: If the dtype is not known here, the data are in another file, or they do not fill the
            shape.

    Example:
        >>> to_array(decode(memoryview(encode("Tensor", to_tensor(np.eye(2)))), "Tensor"))
        array([[1., 0.],
               [0., 1.]])
    """
    code, shape = tensor.get("data_type", 0), tuple(tensor["dims"])
    if tensor.get("data_location") or tensor["external_data"]:
        raise ValueError(
            "it keeps weights in another file (external data), which is not read: save it again as one file"
        )
    if code not in _DTYPES:
        raise ValueError(f"a tensor has the data type {code}, which is not known here")
    dtype = np.dtype(_DTYPES[code])
    stored = tensor["float_data"] or tensor["double_data"]
    data = tensor.get("raw_data", b"".join(stored))
    if numbers := tensor["int64_data"] or tensor["int32_data"]:  # half precision comes as its bits
        bits = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "f" else dtype
        data = np.array(numbers, np.int64).astype(bits).tobytes()
    fits = len(shape) <= 8 and all(0 <= side <= _MAX_SIDE for side in shape)
    if not fits or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"a tensor of shape {shape[:8]} and {dtype} has {len(data):,} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    return widened(array, "bfloat16" if code == _BFLOAT16 else dtype.name)


def to_attribute(name: str, value: Any) -> Message:
    """Return the message "Attribute" for a number, a text, an array, or several numbers of one type.

    Example:
        >>> to_attribute("axis", 1)
        {'name': 'axis', 'i': 1, 'type': 2}
    """
    values = value if isinstance(value, list | tuple) else [value]
    several = isinstance(value, list | tuple)
    if isinstance(value, np.ndarray):
        return {"name": name, "t": to_tensor(value), "type": 4}
    if isinstance(value, str):
        return {"name": name, "s": value, "type": 3}
    if all(isinstance(one, int | np.integer) for one in values):
        return {"name": name, "ints" if several else "i": value, "type": 7 if several else 2}
    return {"name": name, "floats" if several else "f": value, "type": 6 if several else 1}


def attributes(node: Message) -> dict[str, Any]:
    """Return the attributes of a node by name; those that hold a graph or a type are `None`.

    Example:
        >>> node = {"attribute": [{"name": "axis", "type": 2, "i": 1, "floats": [], "ints": []}]}
        >>> attributes(node)
        {'axis': 1}
    """
    found: dict[str, Any] = {}
    for attribute in node["attribute"]:
        kind = _ATTRIBUTES.get(attribute.get("type", 0), "")
        value = attribute.get(kind, 0 if kind in ("f", "i") else None)
        if kind == "s" and value is not None:
            value = bytes(value[:100]).decode("utf-8", "replace")
        elif kind == "t" and value is not None:
            value = to_array(value)
        found[attribute.get("name", "")] = value
    return found
