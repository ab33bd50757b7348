"""PyTorch files written by hand, so that no PyTorch is needed to test their reader."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


class Called:
    """What a pickle describes as the result of calling a global name."""

    def __init__(self, name, *arguments, state=None):
        self.name, self.arguments, self.state = name, arguments, state


class Name(str):
    """A global name."""

    __slots__ = ()


class Storage:
    def __init__(self, key, dtype, data, count=None, part=None):
        self.key, self.dtype, self.data, self.part = key, dtype, data, part
        itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        self.count = len(data) // itemsize if count is None else count


def tensor(storage, shape, strides, offset=0):
    """A tensor as PyTorch describes it: elements of a storage."""
    return Called("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, OrderedDict())


def whole(key, array, dtype=None):
    """A tensor that is all of a storage of its own."""
    strides = tuple(step // array.itemsize for step in array.strides)
    return tensor(Storage(key, dtype or array.dtype.name, array.tobytes()), array.shape, strides)


def instructions(value):
    """Return the pickle of a value without its end; names in it need not exist."""
    match value:
        case Storage():
            tuple_ = ("storage", Name(f"torch.{STORAGES[value.dtype]}Storage"), value.key, "cpu", value.count)
            return instructions((*tuple_, value.part) if value.part else tuple_) + b"Q"
        case Name():
            module, _, name = value.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Called():
            made = instructions(Name(value.name)) + instructions(value.arguments) + b"R"
            return made + (b"" if value.state is None else instructions(value.state) + b"b")
        case OrderedDict():
            return b"ccollections\nOrderedDict\n)R" + instructions({**value})[1:]
        case dict():
            return b"}(" + b"".join(instructions(k) + instructions(v) for k, v in value.items()) + b"u"
        case tuple():
            return b"(" + b"".join(map(instructions, value)) + b"t"
        case list():
            return b"](" + b"".join(map(instructions, value)) + b"e"
        case bytes():
            return value  # instructions already
        case _:
            return pickle.dumps(value, 2)[2:-1]


def zipped(content, storages, *, order=b"little", folder="archive"):
    """Return a file in the format of PyTorch from 1.6 on."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + instructions(content) + b".")
        archive.writestr(f"{folder}/byteorder", order)
        for storage in storages:
            archive.writestr(f"{folder}/data/{storage.key}", storage.data)
        archive.writestr(f"{folder}/version", b"3\n")
    return file.getvalue()


def old(content, storages, *, little=True):
    """Return a file in the format of PyTorch before 1.6."""
    system = {"protocol_version": VERSION, "little_endian": little, "type_sizes": {"short": 2}}
    keys = [storage.key for storage in storages]
    pickles = [b"\x80\x02" + instructions(part) + b"." for part in (MAGIC, VERSION, system, content, keys)]
    order = "little" if little else "big"
    return b"".join([*pickles, *(s.count.to_bytes(8, order) + s.data for s in storages)])
