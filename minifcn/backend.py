"""NumPy or CuPy: the library and the device of an array.

Every function of minifcn gets the library of its arrays from `array_module`, and then calls functions that
have the same names in NumPy and CuPy. So the same code runs on the CPU and on the GPU.
"""

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""A NumPy or CuPy array; both have the same annotations."""

_NUMPY = {np.ndarray, type(None)}


def array_module(*arrays: Array | None, **named: Array | None) -> Any:
    """Return the library of the given arrays, `numpy` or `cupy`.

    Args:
        *arrays: Arrays; `None` is ignored.
        **named: Arrays by the names that an error message should use.

    Returns:
        The module `numpy` or `cupy`.

    Raises:
        TypeError: If something is not an array, if an array is masked or of another subclass, or if the
            arrays belong to both libraries.

    Example:
        >>> import numpy as np
        >>> array_module(x=np.zeros(3), b=None) is np
        True
    """
    if {*map(type, arrays), *map(type, named.values())} <= _NUMPY:  # nearly always; it has to be quick
        return np
    arguments = {f"argument {i}": array for i, array in enumerate(arrays)} | named
    homes: dict[str, str] = {}
    for name, array in arguments.items():
        if array is None:
            continue
        if isinstance(array, np.ma.MaskedArray):
            why = "whose mask would be ignored; call .filled(value) first"
            raise TypeError(f"{name} must be a NumPy or CuPy array, got a masked array, {why}")
        if type(array) in (np.ndarray, np.memmap):  # others, such as np.matrix, compute in another way
            homes[name] = "numpy"
        elif type(array).__module__.partition(".")[0] == "cupy":
            homes[name] = "cupy"
        else:
            raise TypeError(f"{name} must be a NumPy or CuPy array, got {type(array).__name__}")
    if len(set(homes.values())) > 1:
        places = {"numpy": "CPU (NumPy)", "cupy": "GPU (CuPy)"}
        where = ", ".join(f"{name} is on the {places[home]}" for name, home in homes.items())
        fix = "minifcn.to_device(array, 'cpu') or minifcn.to_device(array, 'cuda')"
        raise TypeError(f"NumPy and CuPy arrays are mixed: {where}; move them to one device with {fix}")
    return sys.modules["cupy"] if "cupy" in homes.values() else np


def cuda_device(device: str) -> Any | None:
    """Return `cupy.cuda.Device` for a device name, or `None` for the CPU.

    Args:
        device: `"cpu"`, `"cuda"` (the first GPU) or `"cuda:N"`.

    Raises:
        ValueError: If the name is unknown, or if CuPy or this GPU is not available.

    Example:
        >>> cuda_device("cpu") is None
        True
    """
    kind, _, index = str(device).partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (":" in device and not index.isdecimal()):
        raise ValueError(f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:N'")
    try:
        import cupy
    except ImportError as error:
        fix = "pip install cupy-cuda12x (or cupy-cuda13x), or use device 'cpu'"
        raise ValueError(f"device {device!r} needs CuPy: {fix}") from error
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ValueError(f"device {device!r}: CuPy finds no CUDA GPU ({error}); use device 'cpu'") from error
    if int(index or 0) >= count:
        raise ValueError(f"device {device!r} does not exist: this machine has {count} GPU(s), counted from 0")
    return cupy.cuda.Device(int(index or 0))


def to_device(array: Array, device: str) -> Array:
    """Return the array on a device, without a copy if it is already there.

    A GPU becomes the current device of the calling thread (CuPy's `Device.use`), so that functions of the
    array compute on it.

    Args:
        array: NumPy or CuPy array.
        device: `"cpu"`, `"cuda"` or `"cuda:N"`.

    Raises:
        TypeError: If `array` is not an array.
        ValueError: If the device is unknown or not available.

    Example:
        >>> import numpy as np
        >>> x = np.zeros(3)
        >>> to_device(x, "cpu") is x
        True
    """
    xp = array_module(array=array)
    gpu = cuda_device(device)
    if gpu is None:
        return array if xp is np else xp.asnumpy(array)
    gpu.use()
    moved: Array = sys.modules["cupy"].asarray(array)
    return moved


def device_of(array: Array) -> str:
    """Return the name of the device of an array: "cpu" or "cuda:N".

    Example:
        >>> import numpy as np
        >>> device_of(np.zeros(3))
        'cpu'
    """
    if array_module(array=array) is np:
        return "cpu"
    gpu: Any = array.device
    return f"cuda:{gpu.id}"


def to_numpy(array: Array) -> Array:
    """Return the array as a NumPy array, copied from the GPU if it is there.

    Example:
        >>> import numpy as np
        >>> to_numpy(np.arange(3)).tolist()
        [0, 1, 2]
    """
    return to_device(array, "cpu")
