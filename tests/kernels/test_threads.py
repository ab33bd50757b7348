import gc
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from minifcn.kernels import threads as kernel_threads
from minifcn.kernels.threads import flat_chunks, matmul, num_threads, parallel_map, set_num_threads
from minifcn.kernels.workspace import workspace
from minifcn.losses import softmax_cross_entropy
from minifcn.models import FCN, squeezenet1_0
from minifcn.optim import Adam


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """A pool of so many threads, whatever this machine has."""
    monkeypatch.setattr(kernel_threads, "_state", {"threads": request.param, "pool": None, "blas": None})
    yield request.param
    if kernel_threads._state["pool"]:
        kernel_threads._state["pool"].shutdown()


def test_results_are_in_the_order_of_the_chunks(threads):
    assert parallel_map(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    assert parallel_map(abs, []) == []
    assert parallel_map(abs, iter([-7])) == [7]


@pytest.mark.parametrize("threads", [8], indirect=True)
def test_each_chunk_is_done_once(threads):
    """Without the interpreter's lock, threads that share one iterator get some chunks twice."""
    for _ in range(20):
        done = [0] * 5000

        def once(i, done=done):
            done[i] += 1

        parallel_map(once, range(5000))
        assert done == [1] * 5000


def test_chunks_run_at_the_same_time(threads):
    met = threading.Barrier(threads, timeout=20)  # breaks unless all threads wait at once
    parallel_map(lambda _: met.wait(), range(threads))


def test_chunks_may_be_nested(threads):
    def outer(i):
        return parallel_map(lambda j: (i, j, threading.get_ident()), range(4))

    for i, inner in enumerate(parallel_map(outer, range(6))):
        assert [pair[:2] for pair in inner] == [(i, j) for j in range(4)]
        # In the thread of the outer chunk, so none waits for another.
        assert len({ident for *_, ident in inner}) == 1


def test_a_finished_map_keeps_no_arrays(threads):
    array = np.zeros(3)
    alive = weakref.ref(array)
    parallel_map(lambda one: one.sum(), [array] * 20)
    parallel_map(abs, [1, 2])
    time.sleep(0.05)  # the last thread may be about to end its call
    del array
    gc.collect()
    assert alive() is None


def test_an_exception_in_a_chunk_is_raised_and_the_pool_still_works(threads):
    def fails(i):
        if i == 2:
            raise IndexError("chunk 2")
        return i

    for _ in range(3):
        with pytest.raises(IndexError, match="chunk 2"):
            parallel_map(fails, range(8))
    assert parallel_map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_an_exception_in_a_thread_of_the_pool_is_raised(threads):
    caller, met = threading.get_ident(), threading.Barrier(threads, timeout=20)

    def fails_elsewhere(_):
        met.wait()  # so each thread has one chunk
        if threading.get_ident() != caller:
            raise ValueError("in a thread of the pool")

    with pytest.raises(ValueError, match="in a thread of the pool"):
        parallel_map(fails_elsewhere, range(threads))
    assert parallel_map(abs, [-1, -2]) == [1, 2]


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
@pytest.mark.parametrize("threads", [3], indirect=True)
def test_an_interrupt_waits_for_running_chunks(threads):
    """Ctrl-C while the caller only waits: other threads still write to its arrays."""
    caller, met = threading.get_ident(), threading.Barrier(threads, timeout=20)
    finished = []

    def slow_elsewhere(i):
        met.wait()  # so each thread has one chunk
        if threading.get_ident() != caller:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            finished.append(i)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            parallel_map(slow_elsewhere, range(threads))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(finished) == threads - 1
    assert parallel_map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_no_chunk_begins_after_an_interrupt(threads, monkeypatch):
    submit, begun = kernel_threads._Pool.submit, []

    def interrupted(pool, call, threads):
        submit(pool, call, 1)
        time.sleep(0.1)
        raise KeyboardInterrupt

    def slow(i):
        begun.append(i)
        time.sleep(0.2)

    with monkeypatch.context() as patch:
        patch.setattr(kernel_threads._Pool, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parallel_map(slow, range(9))
    assert len(begun) == 1  # the chunk that was running; the caller waits for it
    time.sleep(0.3)
    assert len(begun) == 1
    assert parallel_map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_without_threads_the_caller_does_all_chunks(threads, monkeypatch):
    def fails(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    caller = threading.get_ident()
    assert parallel_map(lambda i: (i, threading.get_ident()), range(5)) == [(i, caller) for i in range(5)]


def test_flat_chunks_are_views_that_cover_the_arrays(monkeypatch):
    monkeypatch.setattr(kernel_threads, "FLAT_CHUNK", 5)
    a = np.arange(12.0).reshape(3, 4)
    chunks = flat_chunks(a, a + 100)
    assert [first.tolist() for first, _ in chunks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert all(np.shares_memory(first, a) for first, _ in chunks)
    assert flat_chunks(a.T, a.T)[0][0].shape == (4, 3)  # not contiguous: returned whole


def _blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_is_limited_to_one_thread_meanwhile(threads):
    before = _blas_threads()
    inside = parallel_map(lambda _: _blas_threads(), range(4))
    assert all(seen == [1] * len(before) for seen in inside)
    assert _blas_threads() == before


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 1, 1000), (1, 300, 129), (4, 2, 0), (0, 3, 2)])
def test_matmul_equals_the_operator(xp, threads, shape):
    rows, inner, cols = shape
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(rows, inner)), rng.normal(size=(cols, inner)).T
    np.testing.assert_allclose(xp.numpy(matmul(xp.array(a), xp.array(b))), a @ b, rtol=1e-12, atol=1e-12)


def test_the_limit_on_blas_ends_when_two_callers_overlap(monkeypatch):
    monkeypatch.setattr(kernel_threads, "_state", {"threads": 4, "pool": None, "blas": None})
    before = _blas_threads()
    limits = []

    def chunk(seconds):
        limits.extend(_blas_threads())
        time.sleep(seconds)

    # The first to begin ends last: a caller that restored what it found would restore the limit of the other.
    callers = [threading.Thread(target=parallel_map, args=(chunk, [wait] * 3)) for wait in (0.2, 0.1)]
    for caller in callers:
        caller.start()
        time.sleep(0.05)
    for caller in callers:
        caller.join()
    kernel_threads._state["pool"].shutdown()
    assert set(limits) == {1}
    assert _blas_threads() == before


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", "", "1025", "100000", "9" * 99, "9" * 5000])
def test_invalid_environment_variables_raise(monkeypatch, setting):
    monkeypatch.setitem(kernel_threads._state, "threads", None)
    monkeypatch.setenv("MINIFCN_NUM_THREADS", setting)
    with pytest.raises(ValueError, match=r"MINIFCN_NUM_THREADS must be an integer (>= 1|<= 1024)"):
        num_threads()


def test_the_number_of_threads_can_be_set(monkeypatch):
    monkeypatch.setitem(kernel_threads._state, "threads", None)
    monkeypatch.setenv("MINIFCN_NUM_THREADS", "5")
    assert num_threads() == 5


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", None])
def test_invalid_numbers_of_threads_raise(threads):
    with pytest.raises(ValueError, match=f"threads must be .* >= 1, got {threads!r}"):
        set_num_threads(threads)


def test_results_are_identical_for_any_number_of_threads():
    """A training step, with every kind of layer of a real network, on one, two and five threads."""
    x = np.random.default_rng(0).normal(size=(3, 3, 70, 90)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, (3, 70, 90)).astype(np.uint8)
    before, results = num_threads(), []
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            fcn = FCN(squeezenet1_0(rng=0), 4, stride=4).train()
            optimizer = Adam(fcn, 1e-3)
            for _ in range(2):
                _, dscores = softmax_cross_entropy(fcn(x), labels)
                fcn.backward(dscores)
                optimizer.step()
                optimizer.zero_grad()
            results.append(fcn.state_dict())
            met = threading.Barrier(threads, timeout=20)
            parallel_map(lambda _, met=met: met.wait(), range(threads))  # so many work at the same time
    finally:
        set_num_threads(before)
    for state in results[1:]:
        for name, array in state.items():
            np.testing.assert_array_equal(array, results[0][name])


def test_workspace_belongs_to_a_thread_and_is_used_again():
    first = workspace(np, (4, 5), np.float32)
    again = workspace(np, (3, 2), np.float64)
    assert (first.shape, first.dtype, again.shape, again.dtype) == ((4, 5), np.float32, (3, 2), np.float64)
    assert np.shares_memory(first, again)
    assert np.shares_memory(*(workspace(np, (5, 4), np.float32, "a slot of its own") for _ in range(2)))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(workspace, np, (4, 5), np.float32).result()
    assert not np.shares_memory(first, other)
    larger = workspace(np, (400, 500), np.float32)
    larger[...] = 1
    assert larger.flags.c_contiguous
    assert workspace(np, (0, 3), np.float32).shape == (0, 3)


def test_workspace_on_a_gpu(strict):
    space = workspace(strict.module, (2, 3), np.float32)
    assert isinstance(space, strict.module.ndarray)
    assert space.shape == (2, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_threads():
    parallel_map(abs, range(8))  # now the pool exists
    child = os.fork()
    if child == 0:
        os._exit(0 if parallel_map(abs, [-1, -2, -3]) == [1, 2, 3] else 1)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
    assert done == (child, 0)
