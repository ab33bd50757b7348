"""The memory that training and labelling take, and the memory that is free."""

import math
import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minifcn.data import Dataset, FileDataset
from minifcn.data.errors import counted
from minifcn.layers import Layer
from minifcn.models import explain
from minifcn.models.tiling import smallest_tile
from minifcn.optim import SGD, Optimizer

if TYPE_CHECKING:
    from minifcn.training.ranks import Ranks

MB = 1e6
GRADIENT_BLOCK = 1 << 20
"""Elements of the gradients that several ranks exchange at a time."""
_MOST_WITHOUT_TILES = 10**9  # bytes
_CGROUPS = {
    "sys/fs/cgroup": ("memory.max", "memory.current"),
    "sys/fs/cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Files with limit and use of a container, in version 2 and 1 of Linux's control groups."""


def available_memory(root: str | os.PathLike[str] = "/") -> int | None:
    """Return the bytes of memory that are free for this process, or `None` if unknown.

    On Linux it is the smaller one of what is free on the machine and what is left of a container's limit; on
    other systems it is all the memory of the machine.

    Args:
        root: Root of the file system; another folder in tests.

    Example:
        >>> free = available_memory()
        >>> free is None or free > 0
        True
    """
    found = []
    for folder, (limit, used) in _CGROUPS.items():
        left = _left_in_container(Path(root) / folder, limit, used)
        found += [] if left is None else [left]
    kilobytes = _entries(Path(root) / "proc/meminfo")
    if "MemAvailable" in kilobytes:
        found.append(1024 * kilobytes["MemAvailable"])
    if not found and hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def available_on(device: str) -> int | None:
    """Return the bytes that are free on a device, or `None` if unknown."""
    if device == "cpu":
        return available_memory()
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(int(device.partition(":")[2] or 0)):
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free + cupy.get_default_memory_pool().free_bytes())  # CuPy's pool reuses its blocks


def training_memory(model: Layer, optimizer: Optimizer, batch_size: int, size: tuple[int, int]) -> int:
    """Return the bytes that a step of training takes, in addition to the weights.

    Args:
        model: The network.
        optimizer: SGD or Adam.
        batch_size: Images in a batch.
        size: (H, W) of the largest image.
    """
    total = explain(model, size, batch=batch_size).total
    return total.training_bytes["SGD" if isinstance(optimizer, SGD) else "Adam"] - total.weight_bytes


def inference_memory(model: Layer, size: tuple[int, int]) -> int:
    """Return the bytes that labelling one image of (H, W) takes, in addition to the weights."""
    total = explain(model, size).total
    return total.inference_bytes - total.weight_bytes


def tile_size(model: Layer, size: tuple[int, int]) -> int | None:
    """Return the size of the tiles in which an image of (H, W) is labelled, or `None`: as a whole.

    An image is cut if it has more than a megapixel and labelling it would take more than a gigabyte: into
    tiles of 4096, 2048, 1024 or 512 pixels, the largest of which one takes less. They have at least twice the
    smallest size that the network permits, because most of a smaller one would be its surroundings, which
    other tiles compute, too. This does not depend on the memory that is free, so that a network gives the
    same labels everywhere. Where an output sees the whole image, the image is not cut.

    Example:
        >>> from minifcn.models import FCN, digit_classifier
        >>> fcn = FCN(digit_classifier(init="zeros"), 11)
        >>> tile_size(fcn, (1000, 1000)), tile_size(fcn, (20_000, 20_000))
        (None, 2048)
    """
    pixels = math.prod(size)
    if pixels <= 1_000_000 or (pixels <= 4096**2 and inference_memory(model, size) <= _MOST_WITHOUT_TILES):
        return None
    smallest = smallest_tile(model)
    if smallest is None:
        return None
    fits = (
        side
        for side in (4096, 2048, 1024, 512)
        if inference_memory(model, (side, side)) <= _MOST_WITHOUT_TILES
    )
    return max(2 * smallest, next(fits, 0))


def largest_item(dataset: Dataset) -> int:
    """Return the index of the largest image of a dataset in files; for other datasets 0."""
    if isinstance(dataset, FileDataset):
        return max(range(len(dataset)), key=dataset.pixel_count)
    return 0


def exchange_memory(model: Layer, ranks: int) -> int:
    """Return the bytes that each rank needs to add gradients: its part of the sums, and two blocks.

    Example:
        >>> from minifcn.layers import Linear
        >>> exchange_memory(Linear(999, 1000, rng=0), 4), exchange_memory(Linear(999, 1000, rng=0), 1)
        (9000000, 0)
    """
    if ranks == 1:
        return 0
    sizes = [parameter.data.nbytes for parameter in model.parameters() if parameter.trainable]
    item = next(model.parameters()).data.itemsize
    return sum(sizes) // ranks + 2 * min(sum(sizes), item * GRADIENT_BLOCK)


def check_step(
    model: Layer,
    optimizer: Optimizer,
    batch_size: int,
    images: int,
    size: tuple[int, int],
    device: str,
    ranks: "Ranks | None" = None,
) -> str:
    """Compare the memory of a training step with what is free; see `check_memory`.

    Args:
        model: The network.
        optimizer: SGD or Adam.
        batch_size: Images in a batch.
        images: Images in a step, of one batch or more.
        size: (H, W) of the largest image.
        device: The device of the network.
        ranks: Processes that share the batches, and with those on the same machine the memory.

    Raises:
        ValueError: If it does not fit. The message contains the largest batch size that does or, if not even
            one image fits, the largest crop.
    """
    processes, local = (1, 1) if ranks is None else (ranks.size, ranks.local)
    buffers = exchange_memory(model, processes)

    def needed(count: int, size: tuple[int, int]) -> int:
        return training_memory(model, optimizer, count, size) + buffers

    def advice(free: int) -> str:
        fits = bisect_left(range(1, batch_size), True, key=lambda count: needed(count, size) > free)
        # A slightly larger batch may need less, because another algorithm is chosen for it.
        counts = range(min(fits + 16, batch_size - 1), 0, -1)
        fits = next((count for count in counts if needed(count, size) <= free), 0)
        if fits:
            same = f" (accumulate {images // fits} for about as many images per step)"
            return f"batch size {fits} would fit{same if images > fits else ''}"
        crop = largest_size(lambda smaller: needed(1, smaller), size, free)
        if crop is None:
            return "take a smaller network, or freeze the trunk"
        one = " with batch size 1" if batch_size > 1 else ""
        return f"a crop of {crop[1]} x {crop[0]}{one} would fit, or freeze the trunk"

    what = f"a step on {counted(batch_size, 'image')} of {size[1]} x {size[0]}"
    if local > 1:
        what = f"each of {local} processes on this machine: {what}"
    free = available_on(device)
    return check_memory(needed(batch_size, size), what, advice, free and free // local)


def check_inference(model: Layer, what: str, size: tuple[int, int], device: str) -> None:
    """Refuse to label an image of (H, W) that would not fit, before the system kills the process for it.

    Args:
        model: The network.
        what: What is done, such as "labelling an image"; the beginning of the message.
        size: (H, W) of the image.
        device: The device of the network.

    Raises:
        ValueError: If it does not fit; the message contains the largest size that does.
    """

    def advice(free: int) -> str:
        fits = largest_size(lambda smaller: inference_memory(model, smaller), size, free)
        return "make it smaller" + ("" if fits is None else f": {fits[1]} x {fits[0]} would fit")

    what = f"{what} of {size[1]} x {size[0]}"
    check_memory(inference_memory(model, size), what, advice, available_on(device))


def largest_size(
    needed: Callable[[tuple[int, int]], int], size: tuple[int, int], free: int
) -> tuple[int, int] | None:
    """Return the largest (H, W) with the proportions of `size` that fits, or `None`.

    Args:
        needed: Returns the bytes for an (H, W).
        size: (H, W) that does not fit.
        free: Free bytes.

    Example:
        >>> largest_size(lambda size: 4 * size[0] * size[1], (300, 400), 120_000)
        (150, 200)
    """
    longest = max(size)

    def scaled(side: int) -> tuple[int, int]:
        height, width = (max(1, edge * side // longest) for edge in size)
        return height, width

    side = bisect_right(range(1, longest), free, key=lambda side: needed(scaled(side)))
    return scaled(side) if side else None


def check_memory(needed: int, what: str, advice: Callable[[int], str], free: int | None) -> str:
    """Compare the bytes that are needed with those that are free.

    Args:
        needed: Bytes.
        what: What needs them; the beginning of the sentence.
        advice: Returns for the free bytes what would fit; the end of the sentence.
        free: The free bytes, or `None` if unknown.

    Returns:
        A sentence with both numbers.

    Raises:
        ValueError: If it does not fit; the message ends with the advice.

    Example:
        >>> check_memory(5_000_000, "a step", lambda free: "take less", 10**9)
        'a step takes about 5 MB of 1,000 MB that are free'
    """
    takes = f"{what} takes about {needed / MB:,.0f} MB"
    if free is None:
        return takes
    if needed > free:
        raise ValueError(f"{takes}, and {free / MB:,.0f} MB are free: {advice(free)}")
    return f"{takes} of {free / MB:,.0f} MB that are free"


def _left_in_container(folder: Path, limit: str, used: str) -> int | None:
    """Return what is left of a container's limit; cached files count as free."""
    most, now = _read(folder / limit).strip(), _read(folder / used).strip()
    if not (most.isdecimal() and now.isdecimal()) or int(most) >= 1 << 60:  # "max", or as large as that
        return None
    stat = _entries(folder / "memory.stat")
    cached = max(stat.get("inactive_file", 0), stat.get("total_inactive_file", 0))  # of version 2 and 1
    return max(0, int(most) - int(now) + cached)


def _entries(path: Path) -> dict[str, int]:
    """Return the numbers of a file with a name and a number on each line."""
    lines = (line.split() for line in _read(path).splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
