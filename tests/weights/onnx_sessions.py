"""ONNX files run by onnxruntime, which shares no code with minifcn."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnxruntime.set_default_logger_severity(4)


def session(path):
    """Return an inference session for a file that the checker of ONNX accepts."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def run(path, images):
    """Return the only output for the only input."""
    opened = session(path)
    (given,) = opened.get_inputs()
    (result,) = opened.run(None, {given.name: images})
    return result


def assert_same_scores(result, expected, relative=1e-5):
    """Compare scores relatively to the largest one, and labels wherever the best two scores differ."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert abs(result - expected).max() <= relative * max(abs(expected).max(), 1e-30)
    if result.shape[1] > 1:
        second, first = np.partition(expected, -2, axis=1)[:, -2:].swapaxes(0, 1)
        clear = first - second > 1e-4
        assert np.array_equal(result.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])
