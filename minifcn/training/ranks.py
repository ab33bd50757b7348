"""Training and evaluation on several processes, the ranks of MPI, with the same bits as on one process.

Batch b of a step goes to rank b % n, so a step of k batches has ceil(k / n) rounds, in which each rank
computes the gradients of at most one batch. They are added after each round as one process adds them,
((g0 + g1) + g2) and so on, whatever the number of ranks: each rank receives its part of the gradients of all
batches of the round (Alltoall), and adds them in the order of the batches to its part of the sums. At the end
of the step, all ranks receive all parts (Allgather). This is done block by block, so the buffers are small.
The MPI library itself adds nothing, because its order depends on its algorithm. (A layer that calls
`accumulate` twice for one parameter in one backward pass gets the same sum up to rounding.)

All ranks do the same; rank 0 also prints and writes. Each exchange begins with a meeting, `Ranks.meet`, where
a rank that has failed says why, so that all raise the same exception.
This module is imported, and with it mpi4py, only if there are several processes.
"""

import hashlib
import os
import pickle
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from threadpoolctl import threadpool_info

from minifcn import __version__
from minifcn.backend import Array, device_of, to_device, to_numpy
from minifcn.data import FileDataset, Loader
from minifcn.kernels.threads import num_threads, set_num_threads
from minifcn.launcher import launched
from minifcn.layers import BatchNorm2d, Layer, Parameter
from minifcn.printing import brief, say
from minifcn.training.memory import GRADIENT_BLOCK
from minifcn.training.state import Training

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds of waiting after which rank 0 prints a line; rank 1, which may wait for it, after twice that."""

_LONGEST_PAUSE = 0.005
_GRACE = 3.0
"""Seconds for which the other ranks leave it to rank 0 to end all, because only one should say why."""
_COUNTS = ("epoch", "step", "images", "total_loss", "weight", "seconds", "epochs", "records")
"""Attributes of a `Training` that rank 0 may have read from a checkpoint, besides its arrays."""


class Ranks:
    """The processes that an MPI launcher has started, as this one sees them; for `fit` and `evaluate`.

    It is a context manager for what all ranks do together: if one of them raises an exception, all raise it,
    at the latest at the end of the block, where all wait for each other.

    Args:
        comm: A communicator of mpi4py; by default that of all processes, among which then the cores of each
            machine are divided, unless `MINIFCN_NUM_THREADS` is set.

    Attributes:
        rank: The number of this process, from 0.
        size: The number of processes.
        local: The number of processes on this machine.

    Raises:
        ImportError: If there is no mpi4py, or no MPI library.
        ValueError: If the library is not that of the launcher, or versions or processors differ.

    Example:
        >>> import minifcn
        >>> from minifcn.training import fit
        >>> def train(model, loader, optimizer):  # in a script that `mpiexec -n 4 python` runs
        ...     with Ranks() as ranks:
        ...         fit(model, loader, optimizer, accumulate=4, ranks=ranks)
        ...         if ranks.rank == 0:
        ...             minifcn.save(model, "model.safetensors")
    """

    def __init__(self, comm: Any = None):
        self._comm = _world() if comm is None else comm
        self.rank, self.size = int(self._comm.rank), int(self._comm.size)
        self._depth, self._ended, self._within = 0, False, False
        cores = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else {*range(num_threads())}
        host = socket.gethostname()
        here = [its for name, its in self.gather((host, cores)) if name == host]
        self.local = len(here)
        self.compare(_software())
        if comm is None and "MINIFCN_NUM_THREADS" not in os.environ:
            set_num_threads(max(1, min(num_threads(), len(set().union(*here)) // self.local)))

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self.rank and isinstance(error, SystemExit) and error.code:
            error = ValueError(f"the arguments of rank {self.rank} are wrong")  # argparse is silent here
        if self._ended or (error is None and self._depth):
            return
        try:
            if not self._within:
                self.meet(error=error)
        except BaseException as agreed:
            if self._ended and agreed is not error:
                raise
            error = agreed
        if self._within:
            self._abort(error)

    # Exchanges; all ranks call them in the same order

    def meet(self, *numbers: float, error: BaseException | None = None) -> Array:
        """Wait for all ranks, and return up to three numbers of each, (ranks, 3).

        Raises:
            BaseException: The error of the first rank that gives one.
        """
        mine, all_rows = np.zeros(4), np.zeros((self.size, 4))
        mine[0], mine[1 : 1 + len(numbers)] = error is not None, numbers
        with self.exchanging():
            self.wait(self._comm.Iallgather(mine, all_rows))
            failed = np.flatnonzero(all_rows[:, 0])
            agreed = self._send(error, int(failed[0])) if failed.size else None
        if agreed is not None:
            self._ended = True
            raise agreed
        return all_rows[:, 1:]

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0, which pickle must be able to copy."""
        self.meet()
        with self.exchanging():
            return self._send(value, 0)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks."""
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        longest = int(self.meet(data.size)[:, 0].max())
        rows = np.empty((self.size, longest), np.uint8)
        with self.exchanging():
            self.wait(self._comm.Iallgather(np.pad(data, (0, longest - data.size)), rows))
        return [pickle.loads(row.tobytes()) for row in rows]  # which ignores the padding

    def wait(self, request: Any) -> None:
        """Wait for an exchange, and leave the cores to others meanwhile."""
        begun, pause, patience = time.monotonic(), 0.0, PATIENCE * (1 + self.rank)
        while not request.Test():
            time.sleep(pause)
            pause = min(pause + 2e-5, _LONGEST_PAUSE)
            if self.rank < 2 and time.monotonic() - begun > patience:
                patience = float("inf")
                with redirect_stderr(sys.__stderr__):
                    say(f"rank {self.rank} has been waiting for another rank for over {PATIENCE:.0f} seconds")

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Mark a block in which ranks depend on each other: an exception in it can only end all of them."""
        self._within = True
        yield
        self._within = False

    def _send(self, value: T, root: int) -> T:
        """Return the value of one rank."""
        data = _pickled(value) if self.rank == root else np.empty(0, np.uint8)
        length = np.array([data.size])
        self.wait(self._comm.Ibcast(length, root))
        data = data if self.rank == root else np.empty(int(length[0]), np.uint8)
        self.wait(self._comm.Ibcast(data, root))
        return value if self.rank == root else pickle.loads(data.tobytes())

    def _abort(self, error: BaseException | None) -> None:
        """End all ranks, when they cannot meet any more."""
        if self.rank:
            time.sleep(_GRACE)
        with redirect_stderr(sys.__stderr__):
            say(f"rank {self.rank} ends all ranks: {str(error) or type(error).__name__}")
        self._comm.Abort(130 if isinstance(error, KeyboardInterrupt) else 2)

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError, with name and rank, for the first value that is not equal on all ranks."""
        rows = self.gather({name: str(value) for name, value in facts.items()})
        for rank, row in enumerate(rows):
            for name in dict.fromkeys((*rows[0], *row)):
                if row.get(name) != rows[0].get(name):
                    first, other = brief(rows[0].get(name)), brief(row.get(name))
                    raise ValueError(
                        f"{name} must be the same on all ranks, got {first} on rank 0, {other} on rank {rank}"
                    )

    def compare_data(self, loader: Loader, name: str = "data") -> None:
        """Compare the settings of a loader and, of a dataset in files, their names and sizes."""
        facts: dict[str, Any] = {f"{key} of the {name} loader": v for key, v in loader.state_dict().items()}
        if loader.augment is None and not loader.shuffle:
            del facts[f"seed of the {name} loader"]  # it has no effect
        if isinstance(data := loader.dataset, FileDataset):
            pairs = [data.pair(index) for index in range(len(data))]
            sizes = [(pair.name, os.path.getsize(pair.image), os.path.getsize(pair.mask)) for pair in pairs]
            total = sum(image + mask for _, image, mask in sizes)
            facts[f"{name} files"] = f"{total} bytes, names and sizes {_digest(map(str, sizes))}"
        self.compare(facts)

    def check(self, model: Layer, batch_size: int, accumulate: int) -> None:
        """Refuse steps of fewer batches than ranks, and batch normalisation that is not frozen."""
        if accumulate < self.size:
            images = batch_size * accumulate
            batches = next((n for n in range(self.size, images + 1) if images % n == 0), self.size)
            size = max(1, images // batches)
            raise ValueError(
                f"accumulate must be at least {self.size}, the number of ranks, got {accumulate}: take "
                f"batch_size={size} accumulate={batches} for {size * batches} images per step (now {images})"
            )
        norms = [layer for layer in model.layers() if isinstance(layer, BatchNorm2d) and not layer.frozen]
        if norms and self.size > 1:
            raise ValueError(
                f"model must have frozen batch normalization on {self.size} ranks, got {norms[0]!r}, whose "
                f"averages would differ: call freeze_batch_norm(model), or train on one rank"
            )

    def begin(self, training: Training, validation: Loader | None) -> "GradientSum":
        """Refuse what several ranks cannot train, and ranks that differ; return what adds their gradients."""
        self.check(training.model, training.loader.batch_size, training.settings["accumulate"])
        arrays, parameters = training.model.state_dict(), training.optimizer.parameters
        described = [f"{name} {array.shape} {array.dtype}" for name, array in arrays.items()]
        described += [name for name, parameter in parameters.items() if parameter.trainable]
        facts = {"model": _digest(described), "use of a validation set": validation is not None}
        self.compare(training.settings | facts)
        self.compare_data(training.loader, "training")
        if validation is not None:
            self.compare_data(validation, "validation")
        return GradientSum(self, parameters.values(), training.settings["accumulate"])

    def share_state(self, training: Training) -> None:
        """Set the training of all ranks to the state of rank 0."""
        optimizer = training.optimizer.state_dict()
        scalars = {name: value for name, value in optimizer.items() if isinstance(value, int | float)}
        state = {name: getattr(training, name) for name in _COUNTS}
        state, scalars, position = self.broadcast((state, scalars, training.loader.state_dict()))
        model = {name: self._shared(array) for name, array in training.model.state_dict().items()}
        arrays = {k: self._shared(v) for k, v in optimizer.items() if not isinstance(v, int | float)}
        if self.rank:
            training.model.load_state_dict(model)
            training.optimizer.load_state_dict(scalars | arrays)
            training.loader.load_state_dict(position)
            for name, value in state.items():
                setattr(training, name, value)

    def _shared(self, array: Array) -> Array:
        """Return the array of rank 0, for one of its shape and dtype on each rank."""
        copy = np.array(to_numpy(array), order="C")
        flat = copy.reshape(-1)  # (...) -> (elements,), a view
        with self.exchanging():
            for start in range(0, flat.size, GRADIENT_BLOCK):
                self.wait(self._comm.Ibcast(flat[start : start + GRADIENT_BLOCK], 0))
        return copy


class GradientSum:
    """The gradients of a step of `accumulate` batches, summed over all ranks in the order of the batches."""

    def __init__(self, ranks: Ranks, parameters: Iterable[Parameter], accumulate: int):
        self.ranks, self.parameters, self.accumulate = ranks, list(parameters), accumulate
        self._used: list[int] | None = None  # indices of the parameters that have gradients
        self._seen = 0  # batches of this round
        self._counts: tuple[float, float, int] | None = None  # of the own batch of this round
        self._begun = False  # whether there are sums already

    def is_own(self, batch: int) -> bool:
        """Return whether this rank computes a batch, counted from the beginning of an epoch."""
        return batch % self.accumulate % self.ranks.size == self.ranks.rank

    def add(self, counts: tuple[float, float, int] | None, complete: bool) -> list[tuple[float, float, int]]:
        """Take note of a batch, and after the last one of a round add the gradients of all ranks.

        Args:
            counts: Loss, weight and number of images of an own batch; `None` for one of another rank.
            complete: Whether it ends the step; then the sums become the gradients of the parameters.

        Returns:
            The counts of each batch of the round, at its end.
        """
        self._seen, self._counts = self._seen + 1, counts or self._counts
        if self._seen < self.ranks.size and not complete:
            return []
        rows = self._add_round()[: self._seen].tolist()
        self._seen, self._counts = 0, None
        if complete:
            self._finish()
        return [(loss, weight, int(images)) for loss, weight, images in rows]

    def _add_round(self) -> Array:
        gradients = [parameter.grad for parameter in self.parameters]
        used = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if self._used is None:
            self._prepare(self.ranks.broadcast(used))  # rank 0 has the first batch of every step
        if self._counts and used != self._used:
            raise ValueError("model must have gradients for the same parameters in all batches")
        rows = self.ranks.meet(*(self._counts or ()))
        flat = [to_numpy(grad).reshape(-1) for grad in gradients if grad is not None]  # (...) -> (elements,)
        with self.ranks.exchanging():
            for total, parts in zip(self._totals, self._parts, strict=True):
                for i, of_array, of_block in parts if self._counts else ():
                    np.copyto(self._block[of_block], flat[i][of_array], casting="no")
                self.ranks.wait(self.ranks._comm.Ialltoall(self._block, self._received))
                for rank in range(self._seen):
                    if self._begun or rank:
                        total += self._received[rank]
                    else:
                        total[...] = self._received[rank]
        self._begun = True
        for parameter in self.parameters:
            parameter.grad = None
        return rows

    def _finish(self) -> None:
        used = [self.parameters[i] for i in self._used or ()]
        arrays = [np.empty(parameter.data.shape, parameter.data.dtype) for parameter in used]
        flat = [array.reshape(-1) for array in arrays]  # (...) -> (elements,), views
        with self.ranks.exchanging():
            for total, parts in zip(self._totals, self._parts, strict=True):
                self.ranks.wait(self.ranks._comm.Iallgather(total, self._block))
                for i, of_array, of_block in parts:
                    flat[i][of_array] = self._block[of_block]
        for parameter, array in zip(used, arrays, strict=True):
            parameter.grad = to_device(array, device_of(parameter.data))
        self._begun = False

    def _prepare(self, used: list[int]) -> None:
        """Cut the gradients, one behind the other, into blocks, of which each rank adds an equal part."""
        size, sizes = self.ranks.size, [self.parameters[i].data.size for i in used]
        part = max(1, min(GRADIENT_BLOCK, sum(sizes)) // size + 1)
        blocks = -(-sum(sizes) // (part * size))
        dtype = self.parameters[used[0]].data.dtype if used else np.float32
        self._totals = np.empty((blocks, part), dtype)
        self._block = np.zeros(size * part, dtype)
        self._received = np.empty((size, part), dtype)
        self._parts = [list(_parts(sizes, n * part * size, (n + 1) * part * size)) for n in range(blocks)]
        self._used = used


def _software() -> dict[str, str]:
    """Return what determines the bits of a result besides data and settings."""
    blas = [one for one in threadpool_info() if one["user_api"] == "blas"]
    config: dict[str, Any] = np.show_config(mode="dicts") or {}  # type: ignore[assignment]
    return {
        "minifcn": __version__,
        "NumPy": np.__version__,
        "BLAS": ", ".join(f"{b['internal_api']} {b['version']} {b.get('architecture')}" for b in blas),
        "CPU features": " ".join(config.get("SIMD Extensions", {}).get("found", ())),
    }


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _parts(sizes: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield which part of which array is in a block, elements `start` to `stop` of all arrays in a row."""
    begin = 0
    for i, size in enumerate(sizes):
        low, high = max(start, begin), min(stop, begin + size)
        if low < high:
            yield i, slice(low - begin, high - begin), slice(low - start, high - start)
        begin += size


def _pickled(value: Any) -> Array:
    """Return a value, or an error with its message if it cannot be copied, as bytes."""
    try:
        data = pickle.dumps(value)
        pickle.loads(data)
    except Exception:
        data = pickle.dumps(RuntimeError(f"{type(value).__name__}: {value}"))
    return np.frombuffer(bytearray(data), np.uint8)


def _world() -> Any:
    """Return the communicator of all processes."""
    try:
        with warnings.catch_warnings():  # of a launcher that does not match, which is refused below
            warnings.simplefilter("ignore", RuntimeWarning)
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"several processes need mpi4py and an MPI library, as from pip install mpi4py mpich ({error})"
        ) from error
    size = MPI.COMM_WORLD.size
    if size < launched()[1]:
        library = MPI.Get_library_version().split("\n")[0]
        raise ValueError(
            f"the launcher has started {launched()[1]} processes, and the MPI library of mpi4py ({library}) "
            f"finds {size}: take the launcher that belongs to that library"
        )
    return MPI.COMM_WORLD
