import sys

import numpy as np
import pytest

from minifcn.backend import array_module, cuda_device, device_of, to_device, to_numpy
from minifcn.functional import conv2d


def test_array_module_of_one_library(xp):
    x = xp.array(np.zeros(2))
    assert array_module(x, None, b=None, y=x) is xp.module
    assert array_module() is np
    assert array_module(None) is np


def test_mixed_arrays_raise_with_their_names(strict):
    x, w = np.zeros(2), strict.array(np.zeros(2))
    with pytest.raises(TypeError, match=r"x is on the CPU \(NumPy\), w is on the GPU \(CuPy\)") as caught:
        array_module(x=x, w=w, b=None)
    assert "to_device(array, 'cpu')" in str(caught.value)
    assert "b is" not in str(caught.value)
    with pytest.raises(TypeError, match="argument 0 is on the GPU"):
        array_module(w, x)


@pytest.mark.parametrize("value", [[1.0], 3.0, np.float64(3), "text"])
def test_other_types_raise(value):
    with pytest.raises(TypeError, match=f"x must be a NumPy or CuPy array, got {type(value).__name__}"):
        array_module(x=value)


def test_masked_arrays_raise():
    x = np.ma.masked_less(np.arange(4.0).reshape(1, 1, 2, 2), 2)
    with pytest.raises(TypeError, match=r"x .* masked .*\.filled\(value\)"):
        array_module(x=x)
    with pytest.raises(TypeError, match=r"masked"):
        conv2d(x, np.ones((1, 1, 1, 1)))
    with pytest.raises(TypeError, match=r"masked"):
        to_device(x, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:a", "cuda:1.0", "", "CUDA", 0])
def test_unknown_devices_raise(strict, device):
    with pytest.raises((TypeError, ValueError), match="device"):
        to_device(np.zeros(2), device)


def test_a_device_without_cupy_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # so importing it fails
    with pytest.raises(ValueError, match=r"'cuda' needs CuPy: pip install cupy-cuda12x"):
        cuda_device("cuda")
    assert cuda_device("cpu") is None


def test_a_missing_gpu_raises(strict, monkeypatch):
    with pytest.raises(ValueError, match=r"'cuda:2' does not exist: this machine has 2 GPU"):
        cuda_device("cuda:2")
    assert cuda_device("cuda:0").id == cuda_device("cuda").id == 0

    def no_driver():
        raise strict.module.cuda.runtime.CUDARuntimeError("no driver")

    monkeypatch.setattr(strict.module.cuda.runtime, "getDeviceCount", no_driver)
    with pytest.raises(ValueError, match=r"'cuda': CuPy finds no CUDA GPU \(no driver\); use device 'cpu'"):
        cuda_device("cuda")


def test_results_are_on_the_device_of_the_arguments(strict):
    x = to_device(np.ones((1, 1, 3, 3)), "cuda:1")
    assert device_of(x) == device_of(conv2d(x, x, padding=1)) == "cuda:1"
    moved = to_device(x, "cuda:0")
    assert device_of(moved) == device_of(conv2d(moved, moved, padding=1)) == "cuda:0"


def test_to_the_gpu_and_back(strict):
    x = np.arange(6.0).reshape(2, 3)
    there = to_device(x, "cuda")
    assert isinstance(there, strict.module.ndarray)
    assert to_device(there, "cuda:0") is there
    back = to_numpy(there)
    assert np.array_equal(back, x)
    assert back is not x
    assert to_numpy(x) is to_device(x, "cpu") is x
    with pytest.raises(TypeError, match="array must be a NumPy or CuPy array, got list"):
        to_device([1.0], "cpu")
