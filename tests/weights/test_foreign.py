"""Files of other formats are named by their contents, with a way out."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest

from minifcn.files import FileError
from minifcn.weights import load_classifier, read_tensors


def npy():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def zip_of(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


OTHERS = {
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), r"an HDF5 file.*Keras.*numpy.savez"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(99), "a MATLAB file.*scipy.io.loadmat"),
    "MATLAB 7.3": (b"MATLAB 7.3 MAT-file, Platform: PCWIN64" + bytes(99), "MATLAB 7.3.*h5py"),
    "npy": (npy(), r"\.npy.*numpy.savez"),
    "Keras": (zip_of("metadata.json", "config.json", "model.weights.h5"), r"\.keras.*numpy.savez"),
    "TorchScript": (zip_of("a/data.pkl", "a/constants.pkl", "a/code/b.py"), r"TorchScript.*torch.jit.load"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(99), "a GGUF file"),
    "tar": (tar(), "a tar file.*PyTorch"),
    "gzip": (gzip.compress(npy()), "gzip: unpack"),
    "web page": (b"\n<!DOCTYPE html><html>", "a web page"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    "ONNX of PyTorch": (b"\x08\x08\x12\x07pytorch\x1a\x032.1", "an ONNX file.*load_onnx"),
    "ONNX with a graph alone": (b"\x08\x03\x3a\x80\x01" + bytes(99), "an ONNX file"),
    "Caffe": (b"\x0a\x0fVGG_ILSVRC_16_l\xa2\x06\x10" + bytes(99), "a Caffe model.*pycaffe"),
    "Caffe of old": (b"\x0a\x09CaffeNet_\x12\x10" + bytes(99), "a Caffe model"),
}


@pytest.mark.parametrize("ending", [".pth", ".npz", ""])
@pytest.mark.parametrize(("data", "said"), OTHERS.values(), ids=list(OTHERS))
def test_other_formats_are_named_with_a_way_to_convert_them(tmp_path, data, said, ending):
    file = tmp_path / f"weights{ending}"
    file.write_bytes(data)
    for read in (read_tensors, load_classifier):
        with pytest.raises(FileError, match=rf"weights{ending} is .*{said}"):
            read(file)
