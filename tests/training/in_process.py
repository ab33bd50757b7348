"""Ranks that are threads of one process, with the three operations of MPI that minifcn uses."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from minifcn.training.ranks import Ranks


class Done:
    def Test(self):
        return True


class Comm:
    """One rank's view of threads that exchange arrays; each operation completes at once."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def _all(self, array):
        slots, barrier = self.shared
        slots[self.rank] = np.array(array)
        barrier.wait(30)
        everything = list(slots)
        barrier.wait(30)
        return everything

    def Iallgather(self, send, receive):
        receive.reshape(self.size, -1)[...] = [one.reshape(-1) for one in self._all(send)]
        return Done()

    def Ialltoall(self, send, receive):
        parts = [one.reshape(self.size, -1)[self.rank] for one in self._all(send)]
        receive.reshape(self.size, -1)[...] = parts
        return Done()

    def Ibcast(self, array, root):
        everything = self._all(array)
        if self.rank != root:
            array[...] = everything[root]
        return Done()

    def Abort(self, status):
        self.shared[1].abort()


def run(size, function):
    """Call a function with the `Ranks` of each rank, in threads; return the results, or raise an error."""
    shared = [None] * size, threading.Barrier(size)

    def one(rank):
        with Ranks(Comm(rank, size, shared)) as ranks:
            return function(ranks)

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(one, rank) for rank in range(size)]
    errors = [future.exception() for future in futures]
    if any(errors):
        raise next(filter(None, errors))
    return [future.result() for future in futures]
