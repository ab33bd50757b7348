"""Files of other formats: recognised by their contents, with a way to convert them."""

import re
from collections.abc import Collection

_NPZ = "save its arrays by name with numpy.savez"
_TORCH = "save model.state_dict() with torch.save"
_KERAS = "in Keras, write numpy.savez('net.npz', **{v.path: v.numpy() for v in model.variables})"
_STARTS = {  # regular expressions for the first bytes
    rb"\x89HDF\r\n\x1a\n": f"an HDF5 file, as Keras writes (.h5): {_KERAS}",
    rb"MATLAB 7.3 MAT-file": f"a MATLAB 7.3 file, which is HDF5: read it with h5py, and {_NPZ}",
    rb"MATLAB 5.0 MAT-file": f"a MATLAB file: read it with scipy.io.loadmat, and {_NPZ}",
    rb"\x93NUMPY": "a single NumPy array (.npy) without a name: save all arrays by name with numpy.savez",
    rb"GGUF": f"a GGUF file of a language model: read it with the package gguf, and {_NPZ}",
    rb".{257}ustar": "a tar file, as PyTorch wrote before 0.1.10: load it in PyTorch, and save it again",
    rb"\x1f\x8b": "compressed by gzip: unpack it first",
    rb"\s*<(?i:!doctype|html|\?xml)": "a web page, not the file that a download should have given",
    rb"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch that with git lfs pull",
    # protobuf: the integer 1, a version, and then one of the fields that follow it in the definition
    rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]": "an ONNX file: load_onnx reads classifiers from it",
    # protobuf: a text of up to 127 bytes, the name of the network, and then its layers or inputs
    rb"\x0a[\x01-\x7f][ -~]+(\x12|\x1a|\xa2\x06)": f"a Caffe model: read it with pycaffe, and {_NPZ}",
}
_MEMBERS = {  # names, or their ends, in zip files
    "constants.pkl": f"TorchScript, which is a program: load it with torch.jit.load, and {_TORCH}",
    "model.weights.h5": f"a Keras file (.keras): {_KERAS}",
    "serialized_exported_program.json": f"a program that torch.export wrote: load it there, and {_TORCH}",
}


def named_by_start(start: bytes) -> str | None:
    r"""Return what a file is and what to do, judging by its first bytes, or `None`.

    Example:
        >>> named_by_start(b"GGUF\3")[:11]
        'a GGUF file'
    """
    return next((said for pattern, said in _STARTS.items() if re.match(pattern, start, re.S)), None)


def named_by_members(names: Collection[str]) -> str | None:
    """Return what a zip file is and what to do, judging by the names in it, or `None`.

    Example:
        >>> named_by_members(["metadata.json", "config.json", "model.weights.h5"])[:12]
        'a Keras file'
    """
    return next((said for end, said in _MEMBERS.items() if any(n.endswith(end) for n in names)), None)
