"""Tensors out of files of three formats: safetensors, npz, and PyTorch's own.

What a file says about itself is checked before memory is taken for it, and nothing in it is executed: a
pickle is opened by PyTorch alone, and by it only in the mode that makes tensors and nothing else.
"""

import os

from minifcn.files import FileError, existing_file
from minifcn.weights.npz_file import read_npz
from minifcn.weights.safetensors_file import MAX_HEADER, read_safetensors
from minifcn.weights.tensors import Tensors
from minifcn.weights.torch_file import is_torch_zip, read_torch_file

_PREFIX = "module."  # of networks that PyTorch has spread over several GPUs


def read_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Read the tensors of a safetensors, npz or PyTorch file (.pt, .pth, .bin).

    How the file begins tells the format, not its name. A PyTorch file may be a state dict, or hold one under
    "state_dict", "model_state_dict" or "model". The prefix "module." is taken off if all names have it.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file or it cannot be read.
        FileError: If it is damaged, is something else, holds more than 1 GB or anything but numbers, or if it
            is a PyTorch file and PyTorch is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "weights.npz"
        >>> np.savez(path, **{"module.fc.bias": np.ones(3, np.float16)})
        >>> tensors = read_tensors(path)
        >>> tensors.format, tensors.arrays["fc.bias"].dtype.name
        ('npz', 'float32')
    """
    file = existing_file(path)
    with file.open("rb") as opened:  # an unreadable file says so by its own error
        start = opened.read(16)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        tensors = read_safetensors(file)
    elif start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        tensors = read_torch_file(file, zipped=True) if is_torch_zip(file) else read_npz(file)
    elif start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        tensors = read_torch_file(file, zipped=False)
    else:
        raise FileError(f"{file} begins like no safetensors file, npz file or PyTorch file")
    if not tensors.arrays or not all(name.startswith(_PREFIX) for name in tensors.arrays):
        return tensors
    arrays = {name.removeprefix(_PREFIX): array for name, array in tensors.arrays.items()}
    dtypes = {name.removeprefix(_PREFIX): dtype for name, dtype in tensors.dtypes.items()}
    return Tensors(arrays, tensors.metadata, tensors.format, dtypes)
