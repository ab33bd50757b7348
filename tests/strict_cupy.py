"""A strict stand-in for CuPy: what runs on it may well run on a GPU, which no machine needs to have for that.

`make()` returns a module to be installed as `sys.modules["cupy"]`. It computes with NumPy, but it offers only
names that CuPy has (those that releases 13.3 and 15.0 share), and it is as strict as CuPy:

- NumPy arrays raise `TypeError` except in `asarray` and `array`; nothing is converted to NumPy implicitly.
- Reductions give 0-d arrays, not scalars; ufuncs do not accept lists; there is no `where=` and no `initial=`.
- What CuPy does wrongly without an error raises here: indices out of range, duplicate indices in `a[i] = v`.
- There are two GPUs that do not see each other's memory. Each thread has a current one, at first GPU 0, and
  computes with its arrays only. Threads of `minifcn.kernels.threads` must not use GPUs, because CuPy's
  streams belong to threads, too.

`ndarray.waits` counts how often the program has waited for the GPU.
"""

import operator
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.cupy_names import ATTRIBUTES, CREATORS, FUNCTIONS, METHODS, PLAIN, TO_PYTHON, UFUNCS, names

NOT_IN_CUPY = names("where initial subok like")
NUMBERS = (bool, int, float, complex, np.generic)
WAITING = names("argwhere bincount flatnonzero nonzero unique")
"""Functions whose results' shapes depend on values."""

_thread = threading.local()


def _current() -> int:
    """Return the number of the GPU that the calling thread uses."""
    return getattr(_thread, "device", 0)


class ndarray:
    """An array that pretends to live on a GPU."""

    __array_priority__ = 100
    __slots__ = ("_host", "_place")
    waits = 0

    def __init__(self, host: np.ndarray, place: int | None = None):
        self._host, self._place = host, _current() if place is None else place

    # No way back to NumPy but `get` and `asnumpy`

    def _awaited(self) -> np.ndarray:
        ndarray.waits += 1
        return self._host

    def get(self) -> np.ndarray:
        return self._awaited().copy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a CuPy array; call xp.{function.__name__}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # numpy.float32(2) * x arrives here and works in CuPy; numpy.multiply(x, y) should be xp.multiply
        if method == "__call__" and isinstance(inputs[0], np.generic) and not kwargs:
            return _ufunc(ufunc.__name__)(*inputs)
        raise TypeError(f"numpy.{ufunc.__name__} was called on a CuPy array; call xp.{ufunc.__name__}")

    # Attributes and methods

    @property
    def device(self) -> SimpleNamespace:
        return SimpleNamespace(id=self._place)

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            value = getattr(self._host, name)
            return ndarray(value, self._place) if isinstance(value, np.ndarray) else value
        if name in TO_PYTHON:
            return getattr(self._awaited(), name)
        if name in METHODS:
            host = _unwrap(self)
            method = getattr(host, name) if name != "ptp" else lambda *a, **k: np.ptp(host, *a, **k)
            return _guarded(f"ndarray.{name}", method)
        raise AttributeError(f"cupy.ndarray has no attribute {name!r}, or the stand-in does not know it yet")

    def astype(self, dtype: Any, order: str = "K", *, copy: bool = True) -> "ndarray":
        result = _unwrap(self).astype(dtype, order=order, copy=copy)
        return self if result is self._host else ndarray(result)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __copy__(self) -> "ndarray":
        return ndarray(self._host.copy(), self._place)

    def __repr__(self) -> str:
        return repr(self._awaited())

    def __format__(self, spec: str) -> str:
        return format(self._awaited(), spec)

    def __float__(self) -> float:
        return float(self._awaited())

    def __int__(self) -> int:
        return int(self._awaited())

    def __complex__(self) -> complex:
        return complex(self._awaited())

    def __bool__(self) -> bool:
        return bool(self._awaited())

    # Indexing

    def __getitem__(self, key: Any) -> "ndarray":
        host_key, gathers = _index(key)
        if not gathers and not any(part is Ellipsis for part in host_key):
            host_key = (*host_key, Ellipsis)  # a single entry is a 0-d view, not a number
        return ndarray(np.asarray(self._host[host_key]), self._place)

    def __setitem__(self, key: Any, value: Any) -> None:
        host_key, gathers = _index(key)
        if gathers:
            touched = np.arange(self._host.size).reshape(self._host.shape)[host_key]
            if len(np.unique(touched)) < touched.size:
                raise IndexError("duplicate indices in a[i] = v: which value wins is undefined in CuPy")
        if not isinstance(value, (ndarray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(value)}: only CuPy arrays and numbers can be assigned")
        _unwrap(self)[host_key] = _unwrap(value)


def _operand(other: Any) -> bool:
    if isinstance(other, np.ndarray):
        raise TypeError(f"Unsupported type {type(other)}: NumPy and CuPy arrays are mixed")
    return isinstance(other, (ndarray, *NUMBERS))


def _unary(name: str, function: Any) -> None:
    setattr(ndarray, f"__{name}__", lambda self: _wrap(function(_unwrap(self))))


def _binary(name: str, function: Any) -> None:
    def forward(self: ndarray, other: Any) -> Any:
        return _wrap(function(_unwrap(self), _unwrap(other))) if _operand(other) else NotImplemented

    def backward(self: ndarray, other: Any) -> Any:
        return _wrap(function(_unwrap(other), _unwrap(self))) if _operand(other) else NotImplemented

    setattr(ndarray, f"__{name}__", forward)
    setattr(ndarray, f"__r{name}__", backward)


def _in_place(name: str, function: Any) -> None:
    def in_place(self: ndarray, other: Any) -> Any:
        if not _operand(other):
            return NotImplemented
        function(_unwrap(self), _unwrap(other))
        return self

    setattr(ndarray, f"__i{name}__", in_place)


for _name in names("neg pos abs invert"):
    _unary(_name, getattr(operator, _name))
for _name in names("add sub mul truediv floordiv mod pow and or xor lshift rshift"):
    _binary(_name, getattr(operator, f"__{_name}__"))
    _in_place(_name, getattr(operator, f"__i{_name}__"))
for _name in names("matmul lt le eq ne gt ge"):
    _binary(_name, getattr(operator, _name))
_binary("divmod", divmod)
ndarray.__hash__ = None  # type: ignore[assignment]
ndarray.__module__ = "cupy"


def _index(key: Any) -> tuple[tuple[Any, ...], bool]:
    """Return an index for NumPy, and whether it gathers by integer arrays."""
    parts, gathers, masks = [], False, 0
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, np.ndarray):
            raise TypeError(f"Unsupported type {type(part)}: a NumPy array cannot index a CuPy array")
        host = _unwrap(part)
        is_array = isinstance(host, np.ndarray | list)
        masks += is_array and np.asarray(host).dtype == bool
        gathers |= is_array and np.asarray(host).dtype != bool
        parts.append(host)
    if masks > 1:
        raise IndexError("CuPy does not support more than one boolean array in an index")
    ndarray.waits += masks  # how many are true?
    return tuple(parts), gathers or masks > 0


def _unwrap(value: Any) -> Any:
    """Return what NumPy computes with; raise for NumPy arrays, another GPU, and the wrong thread."""
    if isinstance(value, ndarray):
        if threading.current_thread().name.startswith("minifcn"):
            raise RuntimeError(
                "work of a GPU was left to a thread of minifcn.kernels.threads: parallel_map(..., xp)"
            )
        if value._place != _current():
            raise ValueError(
                f"The device where the array resides ({value._place}) is different from the current device "
                f"({_current()}). Peer access is unavailable."
            )
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: NumPy and CuPy arrays are mixed")
    if isinstance(value, tuple | list):
        return type(value)(_unwrap(item) for item in value)
    return value


def _wrap(value: Any) -> Any:
    """Return what NumPy computed as arrays of the stand-in; numbers that NumPy makes become 0-d arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    if isinstance(value, tuple) and any(isinstance(item, np.ndarray | np.generic) for item in value):
        return tuple(map(_wrap, value))
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value


def _guarded(name: str, function: Any) -> Any:
    """Return a NumPy function that takes and gives arrays of the stand-in."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        unknown = NOT_IN_CUPY & kwargs.keys()
        if unknown:
            raise TypeError(f"cupy.{name} has no argument {', '.join(sorted(unknown))}")
        result = function(*map(_unwrap, args), **{key: _unwrap(value) for key, value in kwargs.items()})
        return kwargs["out"] if kwargs.get("out") is not None else _wrap(result)

    guarded.__name__ = name
    return guarded


def _on_arrays(name: str) -> Any:
    """Return a function whose first argument must hold an array, as CuPy's must."""
    call = _guarded(name, getattr(np, name))

    def function(first: Any, *args: Any, **kwargs: Any) -> Any:
        operands = first if isinstance(first, tuple | list) else [first, *args]
        if not any(isinstance(operand, ndarray | str) for operand in operands):  # einsum begins with a string
            raise TypeError(f"cupy.{name} takes CuPy arrays, got {type(first)}")
        result = call(first, *args, **kwargs)
        ndarray.waits += name in WAITING
        # NumPy makes Python numbers of these, CuPy does not.
        return ndarray(np.asarray(result)) if isinstance(result, bool | int) else result

    return function


def _ufunc(name: str) -> Any:
    """Return a ufunc: arrays and numbers in, no lists, and no `at`, `reduce` or `where`."""
    call = _guarded(name, getattr(np, name))

    def ufunc(*args: Any, **kwargs: Any) -> Any:
        for argument in args:
            if not _operand(argument):
                raise TypeError(f"Unsupported type {type(argument)}: cupy.{name} takes arrays and numbers")
        return call(*args, **kwargs)

    return ufunc


def _array(obj: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    """Copy numbers, lists or NumPy arrays to the pretended GPU."""
    if isinstance(obj, ndarray) and obj._place == _current():
        return obj.astype(dtype or obj.dtype, copy=copy)
    obj = obj._host if isinstance(obj, ndarray) else obj  # from another GPU there is a way over the host
    return ndarray(np.array(obj, dtype=dtype))


class _Device:
    """One of the two GPUs."""

    def __init__(self, device: int = 0):
        self.id, self._before = device, 0

    def use(self) -> "_Device":
        _thread.device = self.id
        return self

    def __enter__(self) -> "_Device":
        self._before = _current()
        return self.use()

    def __exit__(self, *error: object) -> None:
        _thread.device = self._before

    def synchronize(self) -> None:
        pass


class _CUDARuntimeError(RuntimeError):
    pass


class _Cupy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in PLAIN:
            return getattr(np, name)
        if name in UFUNCS:
            return _ufunc(name)
        if name in CREATORS:
            return _guarded(name, getattr(np, name))
        if name in FUNCTIONS:
            return _on_arrays(name)
        raise AttributeError(f"module 'cupy' has no attribute {name!r}, or the stand-in does not know it yet")


def make() -> ModuleType:
    """Return a module that passes for CuPy."""

    def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
        return ndarray(np.lib.stride_tricks.as_strided(_unwrap(x), shape, strides))

    def sliding_window_view(x: ndarray, window_shape: Any, axis: Any = None) -> ndarray:
        return ndarray(np.lib.stride_tricks.sliding_window_view(_unwrap(x), window_shape, axis))

    def asnumpy(a: Any) -> np.ndarray:
        return a.get() if isinstance(a, ndarray) else np.asarray(a)

    def asarray(a: Any, dtype: Any = None) -> ndarray:
        return _array(a, dtype, copy=False)

    _thread.device = 0
    cupy: Any = _Cupy("cupy", __doc__)
    cupy.ndarray = ndarray
    cupy.array, cupy.asarray, cupy.asnumpy = _array, asarray, asnumpy
    cupy.lib = SimpleNamespace(
        stride_tricks=SimpleNamespace(as_strided=as_strided, sliding_window_view=sliding_window_view)
    )
    cupy.linalg = SimpleNamespace(norm=_guarded("linalg.norm", np.linalg.norm))
    cupy.cuda = SimpleNamespace(
        Device=_Device,
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 2,
            memGetInfo=lambda: (6 << 30, 8 << 30),  # free and in all
            CUDARuntimeError=_CUDARuntimeError,
        ),
    )
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 1 << 30)
    module: ModuleType = cupy
    return module
