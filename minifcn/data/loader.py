"""Batches: items in a shuffled order, prepared ahead in threads, in a state that can be saved and resumed."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TypeAlias

import numpy as np

from minifcn.backend import Array
from minifcn.data.dataset import Dataset
from minifcn.files import FileError
from minifcn.geometry import whole_number
from minifcn.palette import VOID

Batch: TypeAlias = tuple[Array, Array]
Preprocess: TypeAlias = Callable[[Array], Array]
"""Turns images, uint8 (N, H, W, C), into network input, float32 (N, C, H, W), with the mean at zero."""
Augmentation: TypeAlias = Callable[[Array, Array, np.random.Generator], Batch]
"""Turns an image, uint8 (H, W, C), and its labels into another such pair; see `Augment`."""


class Loader:
    """Iterates over a dataset in batches of network input and labels; one `for` loop is one epoch.

    Images of unequal sizes are padded at the bottom and at the right to the largest height and width of
    their batch: network input with zero, which is the mean of the preprocessing, labels with 255, which is
    void. The last batch of an epoch may be smaller.

    The order of an epoch follows from the seed and the number of the epoch alone, and batches come in that
    order whatever the number of workers. What `augment` draws follows from the seed, the epoch and the index
    of the item. A loop that is left early leaves no thread behind; the next one starts the same epoch again,
    unless a state is loaded in between.

    Args:
        dataset: See `minifcn.data.Dataset`.
        batch_size: Items in a batch.
        preprocess: Called with one image as uint8 (1, H, W, C); returns float32 (1, C, H, W).
        shuffle: Draw a new order for each epoch; otherwise it is that of the dataset.
        seed: Whole number from 0 on.
        workers: Threads that prepare up to twice as many batches ahead; 0 prepares each when it is asked for.
        augment: Called with image, labels and a generator for each item in each epoch, before `preprocess`;
            for example `minifcn.data.Augment`. None for none.

    Yields:
        Network input, float32 (N, C, H, W), and labels, uint8 (N, H, W), or (N,) where each image has one.

    Raises:
        ValueError: If a number is out of its range, if the dataset is empty, or, when its batch is asked for,
            if an item is not what a dataset must give.
        FileError: When its batch is asked for: if a file of the dataset cannot be used.
        RuntimeError: When its batch is asked for: if the dataset, `augment` or `preprocess` raises another
            error at an item.

    Example:
        >>> import numpy as np
        >>> from minifcn.data import DigitCanvases
        >>> def preprocess(images):
        ...     return (images.transpose(0, 3, 1, 2) - np.float32(128)) / np.float32(64)
        >>> loader = Loader(DigitCanvases("train", 5, size=(40, 48)), 2, preprocess=preprocess, shuffle=True)
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
        seed: int = 0,
        workers: int = 2,
        augment: Augmentation | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("the dataset is empty: expected one item or more")
        self.dataset = dataset
        self.batch_size = whole_number(batch_size, "batch_size", 1)
        self.preprocess = preprocess
        self.shuffle = shuffle
        self.seed = whole_number(seed, "seed", 0)
        self.workers = whole_number(workers, "workers", 0)
        self.augment = augment
        self._epoch = 0
        self._delivered = 0  # batches of this epoch that the caller has had
        self._resume_at = 0  # batches that the next loop leaves out, after a state was loaded

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._delivered, self._resume_at = self._resume_at, 0
        with closing(self._prepared(self._batches()[self._delivered :])) as batches:
            for batch in batches:
                self._delivered += 1
                yield batch
        self._epoch += 1
        self._delivered = 0

    def state_dict(self) -> dict[str, int]:
        """Return the position (epoch, and how many of its batches were delivered) and the settings.

        Asked for inside the loop, the batch that the loop works on counts as delivered.
        """
        return {"epoch": self._epoch, "batches": self._delivered, **self._settings()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a saved position: the next loop gives what is left of its epoch, and the epochs go on.

        Args:
            state: From `state_dict` of a loader with as many items and the same settings.

        Raises:
            ValueError: If the state is of another loader, or names a batch that does not exist.
        """
        expected = {"epoch", "batches", *self._settings()}
        if set(state) != expected:
            raise ValueError(f"state must have the entries {sorted(expected)}, got {sorted(state)}")
        for name, value in self._settings().items():
            if state[name] != value:
                raise ValueError(f"state is of a loader with {name} = {state[name]}, this one has {value}")
        epoch = whole_number(state["epoch"], "epoch of the state", 0)
        delivered = whole_number(state["batches"], "batches of the state", 0)
        if delivered > len(self):
            raise ValueError(f"batches of the state must be {len(self)} at most, got {delivered}")
        self._epoch, self._delivered, self._resume_at = epoch, delivered, delivered

    def _settings(self) -> dict[str, int]:
        """Return what must be the same for a position to mean the same batches."""
        return {
            "items": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": int(self.shuffle),
            "seed": self.seed,
            "augment": int(self.augment is not None),
        }

    def _batches(self) -> list[list[int]]:
        """Return the indices of the items in each batch of this epoch."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([self.seed, self._epoch]).shuffle(order)
        return [
            order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)
        ]

    def _prepared(self, todo: list[list[int]]) -> Generator[Batch, None, None]:
        """Yield these batches in order, while threads work on the next ones."""
        load = partial(self._load, epoch=self._epoch)
        if self.workers == 0:
            yield from map(load, todo)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minifcn-loader")
        try:
            rest = iter(todo)
            waiting = deque(pool.submit(load, indices) for indices in islice(rest, 2 * self.workers))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(load, indices) for indices in islice(rest, 1))
                yield batch
        finally:  # also when the caller leaves the loop
            pool.shutdown(cancel_futures=True)

    def _load(self, indices: list[int], epoch: int) -> Batch:
        """Return the batch of these items as they are in an epoch."""
        return _padded([self._item(index, epoch) for index in indices], indices)

    def _item(self, index: int, epoch: int) -> Batch:
        """Return the network input (C, H, W) and the labels of one item."""
        try:
            image, labels = map(np.asarray, self.dataset[index])
        except FileError:  # it names the file, which says more than the index
            raise
        except Exception as error:  # one's own dataset may raise anything; it is told which item
            raise RuntimeError(f"item {index} of the dataset: {type(error).__name__}: {error}") from error
        _check_item(image, labels, index)
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            try:
                image, labels = map(np.asarray, self.augment(image, labels, rng))
            except Exception as error:  # and so may an augmentation
                raise RuntimeError(f"augment, item {index}: {type(error).__name__}: {error}") from error
            _check_item(image, labels, index)
        try:
            x = self.preprocess(image[None])
        except Exception as error:  # and a preprocessing
            raise RuntimeError(f"preprocess, item {index}: {type(error).__name__}: {error}") from error
        if x.dtype != np.float32 or x.ndim != 4 or (len(x), *x.shape[2:]) != (1, *image.shape[:2]):
            raise ValueError(
                f"preprocess must turn uint8 {(1, *image.shape)} into float32 (1, C, {image.shape[0]}, "
                f"{image.shape[1]}), got {x.dtype} {x.shape}"
            )
        return x[0], labels


def _check_item(image: Array, labels: Array, index: int) -> None:
    """Raise ValueError unless the item is an image with labels as a dataset must give them."""
    for name, array in (("image", image), ("labels", labels)):
        if array.dtype != np.uint8:
            raise ValueError(f"{name} of item {index} must be uint8, got {array.dtype}")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image of item {index} must be (H, W, C), each 1 or more, got shape {image.shape}")
    if labels.shape not in ((), image.shape[:2]):
        raise ValueError(
            f"labels of item {index} must have the image's size {image.shape[:2]}, or shape () for one, "
            f"got shape {labels.shape}"
        )


def _padded(items: list[Batch], indices: list[int]) -> Batch:
    """Stack network inputs (C, H, W) with zeros, and labels with void, at the bottom and at the right."""
    first_x, first_labels = items[0]
    for (x, labels), index in zip(items, indices, strict=True):
        if (len(x), labels.ndim) != (len(first_x), first_labels.ndim):
            raise ValueError(
                f"items of one batch must be alike: item {indices[0]} has {len(first_x)} channels and labels "
                f"of rank {first_labels.ndim}, item {index} has {len(x)} and rank {labels.ndim}"
            )
    height = max(x.shape[1] for x, _ in items)
    width = max(x.shape[2] for x, _ in items)
    batch_x = np.zeros((len(items), len(first_x), height, width), np.float32)
    batch_labels = np.full((len(items), height, width)[: 1 + first_labels.ndim], VOID, np.uint8)
    for i, (x, labels) in enumerate(items):
        batch_x[i, :, : x.shape[1], : x.shape[2]] = x
        place: tuple[int | slice, ...] = (i, *(slice(size) for size in labels.shape))
        batch_labels[place] = labels
    return batch_x, batch_labels
