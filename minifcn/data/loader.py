"""Batches of a dataset: shuffled, prepared ahead in threads, with a state that can be saved and resumed."""

import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.dataset import Dataset
from minifcn.files import FileError
from minifcn.geometry import check_integer
from minifcn.palette import VOID

Batch: TypeAlias = tuple[Array, Array]
Preprocess: TypeAlias = Callable[[Array], Array]
"""Converts images, uint8 (N, H, W, C), to network input, float32 (N, C, H, W), in which the mean is zero."""
Augmentation: TypeAlias = Callable[[Array, Array, np.random.Generator], Batch]
"""Changes an image, uint8 (H, W, C), and its labels at random; see `Augment`."""


class Loader:
    """Iterates over a dataset in batches of network input and labels; one `for` loop is one epoch.

    Images of different sizes are padded at the bottom and on the right to the largest height and width of
    their batch: network input with zero, which is the mean of the preprocessing, labels with 255, which is
    void. The last batch of an epoch may be smaller.

    The order of an epoch depends on the seed and the number of the epoch only, and batches come in that order
    whatever the number of workers. What `augment` draws depends on the seed, the epoch and the index of the
    item. If a loop is left early, its threads stop, and the next loop starts the same epoch again, unless a
    state is loaded in between.

    Args:
        dataset: See `minifcn.data.Dataset`.
        batch_size: Items in a batch.
        preprocess: Called with one image as uint8 (1, H, W, C); returns float32 (1, C, H, W).
        shuffle: Draw a new order for each epoch; otherwise it is that of the dataset.
        seed: Integer >= 0. By default it is drawn at random; the attribute `seed` and `state_dict` record it,
            and `load_state_dict` replaces it by the one recorded.
        workers: Threads, which prepare up to twice as many batches ahead. With 0, each batch is prepared in
            the calling thread when it is requested.
        augment: Called with image, labels and a generator for each item in each epoch, before `preprocess`;
            for example `minifcn.data.Augment`.

    Yields:
        Network input, float32 (N, C, H, W), and labels, uint8 (N, H, W), or (N,) if each image has one label.

    Raises:
        ValueError: If a number is out of its range or the dataset is empty; when a batch is requested: if an
            item is not as `Dataset` requires.
        FileError: When a batch is requested: if a file of the dataset cannot be used.
        RuntimeError: When a batch is requested: if the dataset, `augment` or `preprocess` raises another
            error for an item.

    Example:
        >>> import numpy as np
        >>> from minifcn.data import DigitCanvases
        >>> def preprocess(images):
        ...     return (images.transpose(0, 3, 1, 2) - np.float32(128)) / np.float32(64)
        >>> loader = Loader(
        ...     DigitCanvases("train", 5, size=(40, 48)), 2, preprocess=preprocess, shuffle=True, seed=0
        ... )
        >>> [(x.shape, labels.shape) for x, labels in loader][-1]
        ((1, 1, 40, 48), (1, 40, 48))
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        preprocess: Preprocess,
        shuffle: bool = False,
        seed: int | None = None,
        workers: int = 2,
        augment: Augmentation | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("dataset must have at least one item, got none")
        self.dataset = dataset
        self.batch_size = check_integer(batch_size, "batch_size", 1)
        self.preprocess = preprocess
        self.shuffle = shuffle
        self.seed = secrets.randbits(32) if seed is None else check_integer(seed, "seed", 0)
        self.workers = check_integer(workers, "workers", 0)
        self.augment = augment
        self._seed_is_drawn = seed is None
        self._epoch = 0
        self._delivered = 0  # batches of this epoch that the caller has received
        self._resume_at = 0  # batches that the next loop skips after a state was loaded

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch in self.share(lambda batch: True) if batch is not None)

    def share(self, wanted: Callable[[int], bool]) -> Iterator[Batch | None]:
        """Iterate as a `for` loop over the loader does, but prepare only some batches.

        Args:
            wanted: Called with the number of a batch, from 0 in each epoch; returns whether to prepare it.

        Yields:
            The batch, or `None` for one that is not wanted; the position counts both.

        Example:
            >>> from minifcn.data import DigitCrops
            >>> from minifcn.models import Preprocessing
            >>> grey = Preprocessing("L", (128.0,), (64.0,))
            >>> loader = Loader(DigitCrops("validation"), 80, preprocess=grey)
            >>> [batch is not None for batch in loader.share(lambda number: number % 2 == 0)]
            [True, False, True]
        """
        self._delivered, self._resume_at = self._resume_at, 0
        batches = list(enumerate(self._batches()))[self._delivered :]
        with closing(self._prepared([items for number, items in batches if wanted(number)])) as prepared:
            for number, _ in batches:
                batch = next(prepared) if wanted(number) else None
                self._delivered += 1
                yield batch
        self._epoch += 1
        self._delivered = 0

    def state_dict(self) -> dict[str, int]:
        """Return the position (the epoch and how many of its batches were delivered) and the settings.

        Inside a loop, the current batch of the loop counts as delivered.
        """
        return {"epoch": self._epoch, "batches": self._delivered, **self._settings()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a saved position: the next loop yields the rest of its epoch, and the epochs continue.

        Args:
            state: From `state_dict` of a loader with as many items and the same settings.

        Raises:
            ValueError: If the state is of another loader, or of a batch that does not exist.
        """
        settings = self._settings()
        if sorted(state) != (expected := sorted({"epoch", "batches", *settings})):
            raise ValueError(f"state must have the entries {expected}, got {sorted(state)}")
        if self._seed_is_drawn:
            settings["seed"] = check_integer(state["seed"], "seed of the state", 0)
        for name, value in settings.items():
            if state[name] != value:
                raise ValueError(f"state is of a loader with {name} = {state[name]}, this one has {value}")
        epoch = check_integer(state["epoch"], "epoch of the state", 0)
        delivered = check_integer(state["batches"], "batches of the state", 0)
        if delivered > len(self):
            raise ValueError(f"batches of the state must be at most {len(self)}, got {delivered}")
        self.seed, self._epoch = settings["seed"], epoch
        self._delivered = self._resume_at = delivered

    def _settings(self) -> dict[str, int]:
        """Return what must be equal for a position to mean the same batches."""
        return {
            "items": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": int(self.shuffle),
            "seed": self.seed,
            "augment": int(self.augment is not None),
        }

    def _batches(self) -> list[list[int]]:
        """Return the indices of the items in each batch of this epoch."""
        order = list(range(len(self.dataset)))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self._epoch]).permutation(len(order)).tolist()
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    def _prepared(self, batches: list[list[int]]) -> Generator[Batch, None, None]:
        """Yield batches of these items in order, while threads prepare the next ones."""
        epoch = self._epoch

        def load(indices: list[int]) -> Batch:
            return _padded([self._item(index, epoch) for index in indices], indices)

        if self.workers == 0:
            yield from map(load, batches)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minifcn-loader")
        try:
            rest = iter(batches)
            waiting = deque(pool.submit(load, indices) for indices in islice(rest, 2 * self.workers))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(load, indices) for indices in islice(rest, 1))
                yield batch
        finally:  # also if the caller leaves the loop
            pool.shutdown(cancel_futures=True)

    def _item(self, index: int, epoch: int) -> Batch:
        """Return the network input (C, H, W) and the labels of one item."""
        with _explained(f"item {index} of the dataset"):
            image, labels = map(np.asarray, self.dataset[index])
        _check_item(image, labels, index)
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            with _explained(f"augment, item {index}"):
                image, labels = map(np.asarray, self.augment(image, labels, rng))
            _check_item(image, labels, index)
        with _explained(f"preprocess, item {index}"):
            x = self.preprocess(image[None])
        if x.dtype != np.float32 or x.ndim != 4 or (len(x), *x.shape[2:]) != (1, *image.shape[:2]):
            expected = f"float32 (1, C, {image.shape[0]}, {image.shape[1]})"
            raise ValueError(f"preprocess must convert item {index} to {expected}, got {x.dtype} {x.shape}")
        return x[0], labels


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Add to an error in the code of a user where it occurred."""
    try:
        yield
    except FileError:  # it names the file, which is more than the index
        raise
    except Exception as error:  # a dataset, an augmentation or a preprocessing of a user may raise anything
        raise RuntimeError(f"{what}: {type(error).__name__}: {error}") from error


def _check_item(image: Array, labels: Array, index: int) -> None:
    """Raise ValueError unless an item is an image with labels as `Dataset` requires."""
    for name, array in (("image", image), ("labels", labels)):
        if array.dtype != np.uint8:
            raise ValueError(f"{name} of item {index} must be uint8, got {array.dtype}")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image of item {index} must be (H, W, C), each >= 1, got shape {image.shape}")
    if labels.shape not in ((), image.shape[:2]):
        expected = f"{image.shape[:2]}, as the image, or () for one label"
        raise ValueError(f"labels of item {index} must have shape {expected}, got {labels.shape}")


def _padded(items: list[Batch], indices: list[int]) -> Batch:
    """Stack network inputs (C, H, W), padded with zeros, and labels, padded with void."""
    first_x, first_labels = items[0]
    for (x, labels), index in zip(items, indices, strict=True):
        if (len(x), labels.ndim) != (len(first_x), first_labels.ndim):
            first = f"{indices[0]} has {len(first_x)} channels and {first_labels.ndim}-dimensional labels"
            raise ValueError(f"items of a batch must agree: {first}, {index} has {len(x)} and {labels.ndim}")
    height, width = np.max([x.shape[1:] for x, _ in items], axis=0)
    batch_x = np.zeros((len(items), len(first_x), height, width), np.float32)
    batch_labels = np.full((len(items), height, width)[: 1 + first_labels.ndim], VOID, np.uint8)
    for i, (x, labels) in enumerate(items):
        batch_x[i, :, : x.shape[1], : x.shape[2]] = x
        batch_labels[i, ...][tuple(map(slice, labels.shape))] = labels
    return batch_x, batch_labels
