"""The stand-in is recognised as CuPy, computes like it, and raises where CuPy raises or is wrong."""

import threading
from contextlib import suppress

import numpy as np
import pytest

from minifcn import backend
from minifcn.kernels import threads as kernel_threads
from tests import cupy_names


@pytest.fixture
def cp(strict):
    return strict.module


def test_it_is_recognised_as_cupy(cp):
    x = cp.asarray(np.arange(6.0).reshape(2, 3))
    assert type(x).__module__ == "cupy"
    assert backend.array_module(x) is cp
    assert isinstance(backend.to_device(np.ones(2), "cuda:0"), cp.ndarray)
    assert isinstance(backend.to_numpy(x), np.ndarray)
    with pytest.raises(TypeError, match="mixed: x is on the GPU"):
        backend.array_module(x=x, w=np.ones(3))
    with pytest.raises(ValueError, match=r"this machine has 2 GPU"):
        backend.to_device(np.ones(2), "cuda:2")


def test_it_computes(cp):
    host = np.random.default_rng(0).normal(size=(3, 4))
    x = cp.asarray(host)
    pairs = [
        (x + x * 2 - 1 / x, host + host * 2 - 1 / host),
        (np.float32(2) * x, np.float32(2) * host),
        (x @ x.T, host @ host.T),
        (cp.maximum(x, 0), np.maximum(host, 0)),
        (cp.where(x > 0, x, 0.0), np.where(host > 0, host, 0.0)),
        (x[1:, None, ::-1], host[1:, None, ::-1]),
        (x[x > 0], host[host > 0]),
        (x[cp.asarray([2, 0])], host[[2, 0]]),
        (cp.concatenate([x, -x], axis=1), np.concatenate([host, -host], axis=1)),
        (x.reshape(2, 6).sum(axis=1, keepdims=True), host.reshape(2, 6).sum(axis=1, keepdims=True)),
        (cp.einsum("ij,kj->ik", x, x), np.einsum("ij,kj->ik", host, host)),
        (cp.lib.stride_tricks.sliding_window_view(x, 4, 1), host[:, None]),
        (cp.lib.stride_tricks.as_strided(x, (2,), (8,)), host[0, :2]),
        (cp.pad(x, ((0, 0), (1, 2)), constant_values=7)[:, 0], np.full(3, 7.0)),
        (cp.take_along_axis(x, cp.argmax(x, axis=1)[:, None], axis=1), host.max(axis=1, keepdims=True)),
        (cp.bincount(cp.asarray([0, 2, 2]), minlength=4), np.array([1, 0, 2, 0])),
        (cp.zeros((2, 3), cp.float32), np.zeros((2, 3), np.float32)),
        (divmod(cp.asarray([7, 8]), 3)[1], np.array([1, 2])),
    ]  # fmt: skip
    for got, expected in pairs:
        assert isinstance(got, cp.ndarray)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(cp.asnumpy(got), expected)


def test_views_and_in_place_operations_share_memory(cp):
    x = cp.zeros((2, 3))
    row = x[0]
    row += 2
    row[1:] *= 3
    x[1, 2] = 7
    x[x == 0] = -1
    cp.add(x, 1, out=x)
    np.testing.assert_array_equal(x.get(), [[3, 7, 7], [0, 0, 8]])
    entry = x[0, 0]
    entry += 1
    assert float(x[0, 0]) == 4


def test_reductions_are_arrays_and_convert_explicitly(cp):
    x = cp.asarray([1.0, 2.0])
    for total in (x.sum(), cp.sum(x), x[0], cp.allclose(x, x), cp.count_nonzero(x), (x > 0).any(), x.max()):
        assert isinstance(total, cp.ndarray)
        assert total.shape == ()
    assert float(x.sum()) == 3
    assert int(x[1]) == 2
    assert bool((x > 0).all())
    assert x[1].item() == 2
    assert x.tolist() == [1, 2]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x > 0)
    with pytest.raises(TypeError):
        range(x.argmax())
    with pytest.raises(TypeError):
        hash(x)


@pytest.mark.parametrize(
    "mix",
    [
        lambda cp, x, host: x + host,
        lambda cp, x, host: host + x,
        lambda cp, x, host: x == host,
        lambda cp, x, host: operator_iadd(x, host),
        lambda cp, x, host: operator_iadd(host, x),
        lambda cp, x, host: cp.add(x, host),
        lambda cp, x, host: cp.concatenate([x, host]),
        lambda cp, x, host: cp.sum(host),
        lambda cp, x, host: cp.where(x > 0, x, host),
        lambda cp, x, host: cp.add(x, x, out=host),
        lambda cp, x, host: x.dot(host),
        lambda cp, x, host: x.sum(out=host),
        lambda cp, x, host: x[host.astype(int)],
        lambda cp, x, host: x.__setitem__(slice(None), host),
        lambda cp, x, host: host.__setitem__(slice(None), x),
        lambda cp, x, host: np.add(x, x),
        lambda cp, x, host: np.add(x, host),
        lambda cp, x, host: np.sum(x),
        lambda cp, x, host: np.concatenate([x, x]),
        lambda cp, x, host: np.asarray(x),
        lambda cp, x, host: np.array([x, x]),
    ],
)
def test_mixing_and_implicit_conversion_raise(cp, mix):
    with pytest.raises(TypeError):
        mix(cp, cp.asarray([0.0, 1.0]), np.array([0.0, 1.0]))


def operator_iadd(a, b):
    a += b
    return a


@pytest.mark.parametrize(
    "use",
    [
        lambda cp, x: cp.add([1, 2], x),
        lambda cp, x: cp.sum([1, 2]),
        lambda cp, x: x + [1, 2],  # noqa: RUF005
        lambda cp, x: x.__setitem__(slice(None), [1, 2]),
        lambda cp, x: x.sum(where=x > 0),
        lambda cp, x: cp.max(x, initial=0),
        lambda cp, x: cp.add(x, x, where=x > 0),
        lambda cp, x: x.astype(int, casting="safe"),
    ],
)
def test_arguments_that_cupy_does_not_accept_raise(cp, use):
    with pytest.raises(TypeError):
        use(cp, cp.asarray([1.0, 2.0]))


@pytest.mark.parametrize("name", ["apply_over_axes", "nditer", "isdtype", "einsum_path", "ma"])
def test_names_that_cupy_lacks_are_missing(cp, name):
    assert hasattr(np, name)
    assert not hasattr(cp, name)


@pytest.mark.parametrize("name", ["ctypes", "setflags", "resize", "byteswap", "at"])
def test_attributes_that_cupy_lacks_are_missing(cp, name):
    assert not hasattr(cp.zeros(2), name)
    assert not hasattr(cp.add, "at")


def test_gathers_out_of_range_raise(cp):
    x = cp.arange(3)
    for gather in (lambda: x[cp.asarray([1, 3])], lambda: x[[5]], lambda: x.take(cp.asarray([4]))):
        with pytest.raises(IndexError):
            gather()
    with pytest.raises(IndexError):
        cp.take_along_axis(x, cp.asarray([3]), axis=0)


def test_scatter_with_duplicates_raises(cp):
    x = cp.zeros(3)
    x[cp.asarray([2, 0])] = 1
    np.testing.assert_array_equal(x.get(), [1, 0, 1])
    with pytest.raises(IndexError, match="duplicate indices"):
        x[cp.asarray([0, 0])] = 1
    with pytest.raises(IndexError, match="duplicate indices"):
        x[[1, -2]] += 1


def test_each_gpu_computes_with_its_own_arrays(cp):
    here = cp.ones(2)
    with cp.cuda.Device(1):
        there = cp.ones(2)
        assert (there + there)[0].device.id == 1
        for use in (lambda: here + 1, lambda: cp.sqrt(here), lambda: here.sum(), lambda: here.fill(0)):
            with pytest.raises(ValueError, match="different from the current device"):
                use()
        with pytest.raises(ValueError, match="different from the current device"):
            there[0] = here[0]
        assert cp.asarray(here).device.id == 1
    assert here.device.id == here[:1].device.id == (here * 2).device.id == 0
    assert there.T.device.id == 1
    assert float(there[0]) == 1  # readable from any device


def test_waits_are_counted(cp):
    x = cp.asarray([1.0, 2.0])
    free = (lambda: x + x, lambda: x.sum(), lambda: cp.where(x > 1, x, 0.0), lambda: x[0], lambda: x.shape)
    waiting = (
        lambda: float(x[0]), lambda: bool(x.all()), lambda: x.tolist(), lambda: cp.asnumpy(x),
        lambda: f"{x[0]}", lambda: x[x > 1], lambda: cp.argwhere(x), lambda: int(x[1]), lambda: x[1].item(),
    )  # fmt: skip
    for count, uses in enumerate((free, waiting)):
        for use in uses:
            before = cp.ndarray.waits
            use()
            assert cp.ndarray.waits - before == count


def test_the_thread_pool_does_not_use_a_gpu(cp, monkeypatch):
    monkeypatch.setattr(kernel_threads, "_state", {"threads": 3, "pool": None, "blas": None})
    rows = cp.zeros((50, 2))
    met = threading.Barrier(3, timeout=2)  # all threads take part, until one has failed

    def fill(i):
        if i % 10 == 0:
            with suppress(threading.BrokenBarrierError):
                met.wait()
        rows[i] = i

    with pytest.raises(RuntimeError, match="work of a GPU was left to a thread"):
        kernel_threads.parallel_map(fill, range(50))
    kernel_threads._state["pool"].shutdown()
    kernel_threads.parallel_map(lambda i: rows.__setitem__(i, i), range(50), cp)
    assert rows[:, 0].tolist() == list(range(50))


def test_every_name_is_also_in_numpy():
    for name in cupy_names.UFUNCS | cupy_names.FUNCTIONS | cupy_names.CREATORS | cupy_names.PLAIN:
        assert hasattr(np, name), name
    for name in (cupy_names.METHODS | cupy_names.ATTRIBUTES | cupy_names.TO_PYTHON) - {"ptp"}:
        assert hasattr(np.ndarray, name), name
