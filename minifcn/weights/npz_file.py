"""Tensors from npz files, which are zip files of arrays, without NumPy's `load`.

`numpy.load` believes what a header declares, and takes the memory for it. Here the declared sizes are checked
first, and objects, which only unpickling could make, are refused.
"""

import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from minifcn.files import FileError
from minifcn.weights.tensors import Numbers, Tensors, check_shape, check_size, shown

_HEADER = 10_240  # bytes that the header of one array may take
_BLOCK = 1 << 20  # bytes that are unpacked at a time
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def open_zip(file: Path) -> zipfile.ZipFile:
    """Open a zip file whose members have different names.

    Raises:
        FileError: If it is damaged, or a name is there twice.
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # the zip module has no one error for what may be wrong with a file
        raise FileError(f"{file} is cut off or damaged: it has no table of contents") from error
    names = archive.namelist()
    if len(set(names)) < len(names):
        archive.close()
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise FileError(f"{file} holds {shown(twice)} twice")
    return archive


def read_npz(file: Path) -> Tensors:
    """Read the tensors of an npz file; see `read_tensors`."""
    tensors = Tensors({}, {}, "npz")
    with open_zip(file) as archive:
        check_size(file, sum(member.file_size for member in archive.infolist()))
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise FileError(f"{file} holds {shown(name)}, which is no array (.npy)")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FileError(f"{file}: {shown(name)} is compressed by a method that NumPy does not use")
            try:
                tensors.arrays[name], tensors.dtypes[name] = _read(file, archive, member, name)
            except FileError:
                raise
            except Exception as error:  # the zip module has no one error for what may be wrong with a file
                raise FileError(
                    f"{file}: {shown(name)} cannot be read: {shown(error, 200) or type(error).__name__}"
                ) from error
    return tensors


def _read(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> tuple[Numbers, str]:
    """Return an array, and what its dtype was in the file; half precision becomes float32."""
    with archive.open(member) as data:
        start = io.BytesIO(data.read(_HEADER))
        shape, fortran_order, dtype = _header(file, name, start)
        size = math.prod(shape) * dtype.itemsize
        if start.tell() + size != member.file_size:
            raise FileError(
                f"{file}: {shown(name)} declares {shape} numbers of {dtype.name}, {size:,} bytes, and has "
                f"{member.file_size - start.tell():,}"
            )
        buffer = np.empty(size, np.uint8)
        filled = start.readinto(buffer.data)  # with the last byte, the checksum is compared
        while filled < size:
            block = data.read(min(size - filled, _BLOCK))
            if not block:
                raise FileError(f"{file}: {shown(name)} is cut off")
            buffer[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
            filled += len(block)
    array = buffer.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    final = np.dtype("float32") if dtype.name == "float16" else dtype.newbyteorder("=")
    return array.astype(final, order="C", copy=False), dtype.name


def _header(file: Path, name: str, start: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read and check what an array says about itself."""
    reader = _READERS.get(np.lib.format.read_magic(start))
    if reader is None:
        raise FileError(
            f"{file}: {shown(name)} is in a version of NumPy's format that plain numbers do not need"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks about headers that Python 2 wrote
        shape, fortran_order, dtype = reader(start)
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise FileError(f"{file}: {shown(name)} holds {shown(dtype)}, expected numbers of at most 64 bits")
    check_shape(file, name, shape)
    return shape, fortran_order, dtype
