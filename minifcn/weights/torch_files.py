"""PyTorch's own files, read without PyTorch.

They hold pickles, which are programs for a small machine with a stack, and the raw values of the storages
of tensors. `_interpret` knows those of the machine's instructions that make dicts, lists, texts and numbers,
and a list of names, above all those of the functions that rebuild tensors. It imports nothing and calls
nothing that a file names. A tensor remains a description until its sizes have been compared with the file.

Sources: `torch/serialization.py` and `torch/_utils.py` of PyTorch; Python's `pickletools`.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minifcn.backend import Array
from minifcn.files import FileError
from minifcn.weights.tensors import Tensors, check_declared, check_size, shown, widened

_MAX_PICKLE = 32_000_000  # bytes
_MAX_INSTRUCTIONS = 1_000_000  # about 30 a tensor
_MAX_INTEGER = 2**63  # arithmetic with larger ones could take long
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file of the older format
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "weights")
_MAX_DEPTH = 4

_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "uint8",
}
_DTYPES = {f"torch.{dtype}": dtype for dtype in [*_STORAGES.values(), "uint16", "uint32", "uint64"]}
_TENSORS = tuple(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_PARAMETERS = tuple(f"torch._utils._rebuild_parameter{kind}" for kind in ("", "_with_state"))
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
_DICTS = ("collections.OrderedDict", "collections.Counter", "collections.defaultdict")
_IGNORED = (  # numbers and settings beside the tensors, which are not needed
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "torch.device",
    "torch.Size",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "argparse.Namespace",
    "builtins.dict",
    "__builtin__.dict",
)
_COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}  # of items on the stack
_VALUES = {
    code.name for code in pickletools.opcodes if code.arg and code.stack_after and not code.stack_before
}
_VALUES -= {"EXT1", "EXT2", "EXT4", "PERSID"}  # the others push a number or a text
_NAMES = {*_STORAGES, *_DTYPES, *_TENSORS, *_PARAMETERS, _WITH_ATTRIBUTES, *_DICTS, *_IGNORED}


@dataclass(frozen=True)
class _Name:
    """The name of a function or class, which is never imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Elements in the file; `first` is not 0 where an old file describes a part of another storage."""

    key: str
    dtype: str
    count: int
    first: Any

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.count * _bits(self.dtype).itemsize


@dataclass(frozen=True)
class _View:
    """A tensor: elements of a storage, from an offset on, at steps."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_zip(file: Path, archive: zipfile.ZipFile) -> Tensors:
    """Read the tensors of a file in the format that PyTorch has written since version 1.6.

    Args:
        file: Its path, for messages.
        archive: The file, in which a member ends in "/data.pkl".

    Raises:
        FileError: If it is damaged, or holds anything but tensors, texts and numbers.
    """
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    actual = file.stat().st_size
    if (declared := sum(sizes.values())) > actual:  # PyTorch compresses nothing
        raise FileError(f"{file} declares {declared:,} bytes and has {actual:,}")
    folder = next(name for name in sizes if name.endswith("/data.pkl")).removesuffix("data.pkl")
    if sizes[f"{folder}data.pkl"] > _MAX_PICKLE:
        raise FileError(f"{file} describes its tensors in more than {_MAX_PICKLE:,} bytes")
    content, _ = _interpret(file, io.BytesIO(archive.read(f"{folder}data.pkl")))
    order = b""
    if f"{folder}byteorder" in sizes:
        with archive.open(f"{folder}byteorder") as member:
            order = member.read(3)

    stored = {name.removeprefix(f"{folder}data/"): size for name, size in sizes.items()}
    return _tensors(
        file, content, stored, lambda storage: archive.read(f"{folder}data/{storage.key}"), order == b"big"
    )


def read_old(file: Path, opened: BinaryIO) -> Tensors:
    """Read the tensors of a file in PyTorch's older format: five pickles, and then all storages.

    Args:
        file: Its path, for messages.
        opened: The file, at its beginning.

    Raises:
        FileError: If it is damaged, another kind of pickle, or holds anything but tensors, texts and numbers.
    """
    pickles = io.BytesIO(opened.read(_MAX_PICKLE))
    magic, _ = _interpret(file, pickles)
    if magic != _MAGIC:
        raise FileError(f"{file} is a pickle, but not of a PyTorch file")
    _interpret(file, pickles)  # the version of the format
    system, _ = _interpret(file, pickles)
    content, storages = _interpret(file, pickles)
    keys, _ = _interpret(file, pickles)
    big = isinstance(system, dict) and system.get("little_endian") is False
    actual, end = file.stat().st_size, pickles.tell()
    starts: dict[str, int] = {}
    for key in keys:
        storage = storages[key] if type(key) is str and key not in starts else None
        opened.seek(end)
        count = int.from_bytes(opened.read(8), "big" if big else "little")
        if storage is None or count != storage.count or end + 8 + storage.size > actual:
            raise FileError(f"{file} is cut off or damaged: a storage is not complete")
        starts[key], end = end + 8, end + 8 + storage.size

    def read(storage: _Storage) -> bytes:
        opened.seek(starts[storage.key])
        return opened.read(storage.size)

    return _tensors(file, content, {key: storages[key].size for key in starts}, read, big)


def _interpret(file: Path, pickle: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """Return what a pickle describes, and the storages that it mentions, by their keys.

    Sets become lists. Dicts keep only what has a text as its key: hashes of anything else could be made to
    collide.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, _Storage] = {}

    def popped(opcode: str = "") -> list[Any]:
        count = _COUNTS.get(opcode)  # if not, all from the last mark on
        start = marks.pop() if count is None else len(stack) - count
        items = stack[start:]
        del stack[start:]
        return items

    count = 0
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickle):
        count += 1
        if count > _MAX_INSTRUCTIONS:
            raise FileError(f"{file} describes its tensors in more than {_MAX_INSTRUCTIONS:,} instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop(), storages
            case "MARK":
                marks.append(len(stack))
            case "POP":
                stack.pop()
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "FROZENSET":
                stack.append(tuple(popped(opcode.name)))
            case "LIST":
                stack.append(popped())
            case "DICT":
                stack.append(_filled({}, popped()))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = popped(opcode.name)
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = popped(opcode.name)
                _filled(stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                place = len(memo) if argument is None else argument
                if place > _MAX_INSTRUCTIONS:  # places are dense: so their hashes do not collide
                    raise ValueError("a place in the memo")
                memo[place] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_known(file, *argument.split(" ")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_known(file, module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                if arguments and isinstance(arguments[0], list):
                    count += len(arguments[0])  # which a dict would copy
                stack.append(_called(file, function.name, arguments))
            case "BUILD":  # attributes, such as the versions of a state dict's entries
                stack.pop()
            case "BINPERSID":
                stack.append(_storage(storages, *stack.pop()))
            case name if name in _VALUES:
                stack.append(argument)
            case other:
                raise FileError(f"{file} uses {other} in a pickle, which tensors do not need")
    raise AssertionError("genops ends with STOP")


def _filled(target: dict[str, Any], items: list[Any]) -> dict[str, Any]:
    """Add keys and values, which alternate, to a dict."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is str:
            target[key] = value
    return target


def _known(file: Path, module: str, name: str) -> _Name:
    if type(module) is not str or type(name) is not str:
        raise TypeError("a name that is no text")
    if (known := f"{module}.{name}") not in _NAMES:
        raise FileError(
            f"{file} asks for {shown(known)}, which tensors do not need: save model.state_dict() alone, "
            f"with dense tensors"
        )
    return _Name(known)


def _called(file: Path, name: str, arguments: Any) -> Any:
    """Return what a function of the list would make of its arguments, without calling it."""
    if name in _DICTS:
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        return _filled({}, [part for key, value in pairs for part in (key, value)])
    if name in _PARAMETERS:
        return arguments[0]
    if name == _WITH_ATTRIBUTES:
        inner, _, arguments, _ = arguments
        name = inner.name
    if name not in _TENSORS:
        return None
    storage, offset, shape, strides, *more = arguments
    dtype = _DTYPES[more.pop(2).name] if name == _TENSORS[-1] else storage.dtype
    if len(more) > 2 and more[2]:
        raise FileError(f"{file} holds a tensor that is conjugate or negative: save a copy of it")
    if not len(shape) == len(strides) <= 64:
        raise ValueError("a shape and strides")
    if not all(type(number) is int and 0 <= number < _MAX_INTEGER for number in (offset, *shape, *strides)):
        raise ValueError("a shape, strides or an offset")
    return _View(storage, dtype, offset + storage.first, tuple(shape), tuple(strides))


def _storage(
    storages: dict[str, _Storage], what: str, kind: _Name, key: str, _: Any, count: int, part: Any = None
) -> _Storage:
    """Return the storage of a persistent id, and record it."""
    first = 0 if part is None else part[1]
    numbers = all(type(number) is int and 0 <= number < _MAX_INTEGER for number in (count, first))
    if what != "storage" or type(key) is not str or not numbers:
        raise ValueError("a storage")
    storage = _Storage(key, _STORAGES[kind.name], count, first)
    known = storages.setdefault(key, storage)
    if (known.dtype, known.count) != (storage.dtype, storage.count):
        raise ValueError("a storage with two sizes")
    return storage


def _tensors(
    file: Path,
    content: Any,
    stored: Mapping[str, int],
    read: Callable[[_Storage], bytes],
    big: bool,
) -> Tensors:
    """Return the tensors of a file's state dict, after their sizes were compared with the file.

    Args:
        file: For messages.
        content: What its pickle describes.
        stored: Bytes of each storage in the file.
        read: Returns the bytes of a storage.
        big: Whether the first byte of each number is the highest.
    """
    found = _state_dict(content, _MAX_DEPTH)
    if found is None:
        raise FileError(f"{file} holds no tensors by name, neither directly nor in one of {_NESTED}")
    inside, state = found
    check_declared(file, ((name, view.dtype, view.shape) for name, view in state.items()))
    names: dict[str, list[str]] = {}  # of all tensors of a storage, so that each is read once
    for name, view in state.items():
        names.setdefault(view.storage.key, []).append(name)
        size, end = stored.get(view.storage.key, -1), 0
        if math.prod(view.shape):
            last = sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
            end = (view.offset + last + 1) * _bits(view.dtype).itemsize
        if max(view.storage.size, end) > size:
            raise FileError(f"{file} is cut off or damaged: {shown(name)} is not complete")
    check_size(file, sum(stored[key] for key in names))
    arrays: dict[str, Any] = dict.fromkeys(state)
    for sharing in names.values():
        data = read(state[sharing[0]].storage)
        for name in sharing:
            arrays[name] = _array(data, state[name], big)
    texts = {key: text for key, text in content.items() if isinstance(text, str)}
    dtypes = {name: view.dtype for name, view in state.items()}
    return Tensors(arrays, texts, "PyTorch", dtypes, inside)


def _state_dict(content: Any, depth: int) -> tuple[tuple[str, ...], dict[str, _View]] | None:
    """Return the tensors by name, and the nested entries that lead to them."""
    if not isinstance(content, dict) or not depth:
        return None
    for key in _NESTED:
        if (found := _state_dict(content.get(key), depth - 1)) is not None:
            return (key, *found[0]), found[1]
    state = {name: view for name, view in content.items() if isinstance(view, _View)}
    return ((), state) if state else None


def _bits(dtype: str) -> np.dtype[Any]:
    """Return NumPy's dtype of a tensor in the file; of bfloat16, which it does not have, that of the bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _array(data: bytes, view: _View, big: bool) -> Array:
    """Return the values of a tensor, copied from those of its storage."""
    bits = _bits(view.dtype).newbyteorder(">" if big else "<")
    if not math.prod(view.shape):
        return widened(np.zeros(view.shape, bits), view.dtype)
    strides = [step * bits.itemsize for step in view.strides]
    values = np.ndarray(view.shape, bits, data, view.offset * bits.itemsize, strides)
    array = widened(values, view.dtype)
    return array if array.flags.writeable else array.copy()  # so that it does not keep the whole storage
