"""How much memory a training will take, and how much there is."""

import os
import sys
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from minifcn.data import Dataset, FileDataset
from minifcn.data.errors import counted
from minifcn.layers import Layer
from minifcn.models import explain
from minifcn.optim import SGD, Optimizer

MB = 1e6
_CGROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Limit, use, and what of the use is cache, of a container in Linux's newer and older layout."""


def available_memory(root: str | os.PathLike[str] = "/") -> int | None:
    """Return the bytes of memory this process may still take, or `None` where nothing says so.

    Linux tells what is free on the machine and what is left of a container's limit, of which the smaller one
    counts. Elsewhere it is all the memory the machine has.

    Args:
        root: Where the system's own files are; another folder in tests.
    """
    found = [left for names in _CGROUPS if (left := _left_in_container(Path(root), *names)) is not None]
    for line in _read(Path(root) / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            found.append(1024 * int(value.split()[0]))
    if not found and hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def available_on(device: str) -> int | None:
    """Return the bytes that are free on a device, or `None` where nothing says so."""
    if device == "cpu":
        return available_memory()
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(int(device.partition(":")[2] or 0)):
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free + cupy.get_default_memory_pool().free_bytes())  # what CuPy keeps for later arrays


def training_memory(model: Layer, optimizer: Optimizer, batch_size: int, size: tuple[int, int]) -> int:
    """Return the bytes that a step of training will take, on top of the weights that are there already.

    Args:
        model: The network.
        optimizer: Its optimiser.
        batch_size: Images in a batch.
        size: (H, W) of the largest image.
    """
    total = explain(model, size, batch=batch_size).total
    return total.training_bytes["SGD" if isinstance(optimizer, SGD) else "Adam"] - total.weight_bytes


def inference_memory(model: Layer, size: tuple[int, int]) -> int:
    """Return the bytes that labelling one image of (H, W) will take, likewise."""
    total = explain(model, size).total
    return total.inference_bytes - total.weight_bytes


def largest_item(dataset: Dataset) -> int:
    """Return the index of the largest image of a dataset in files; elsewhere it is the first one."""
    if isinstance(dataset, FileDataset):
        return max(range(len(dataset)), key=dataset.pixel_count)
    return 0


def check_step(
    model: Layer, optimizer: Optimizer, batch_size: int, images: int, size: tuple[int, int], device: str
) -> str:
    """Say what a step of training takes, as `check_memory`, or what of it would fit.

    Args:
        model: The network.
        optimizer: Its optimiser.
        batch_size: Images in a batch.
        images: Images in a step, of one batch or more.
        size: (H, W) of the largest image.
        device: Where the network is.

    Raises:
        ValueError: If it does not fit: with the largest batch that does or, if not even one image does,
            with the largest crop.
    """

    def advice(free: int) -> str:
        def of_batch(count: int) -> int:
            return training_memory(model, optimizer, count, size)

        fits = bisect_right(range(1, batch_size), free, key=of_batch)
        if fits:
            whole = (
                f" (with --accumulate {images // fits} for about as many images a step)"
                if images > fits
                else ""
            )
            return f"--batch {fits} would fit{whole}"
        crop = largest_size(lambda smaller: training_memory(model, optimizer, 1, smaller), size, free)
        if crop is None:
            return "take a smaller network, or --freeze-trunk"
        one = " --batch 1" if batch_size > 1 else ""
        return f"--crop {crop[1]}x{crop[0]}{one} would fit, or try --freeze-trunk"

    height, width = size
    return check_memory(
        training_memory(model, optimizer, batch_size, size),
        f"a step on {counted(batch_size, 'image')} of {width} x {height}",
        advice,
        available=lambda: available_on(device),
    )


def check_inference(model: Layer, what: str, size: tuple[int, int], device: str) -> None:
    """Refuse to label an image of (H, W) that would not fit, before the system ends the program for it.

    Raises:
        ValueError: With the largest size that would fit.
    """

    def advice(free: int) -> str:
        fits = largest_size(lambda smaller: inference_memory(model, smaller), size, free)
        return "make it smaller" + ("" if fits is None else f": {fits[1]} x {fits[0]} would fit")

    check_memory(inference_memory(model, size), what, advice, available=lambda: available_on(device))


def largest_size(
    needed: Callable[[tuple[int, int]], int], size: tuple[int, int], free: int
) -> tuple[int, int] | None:
    """Return the largest (H, W) of the proportions of `size` that fits, or `None` if all are too large.

    Args:
        needed: Gives the bytes that a size takes.
        size: (H, W) that does not fit.
        free: Bytes that there are.

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


def check_memory(
    needed: int,
    what: str,
    advice: Callable[[int], str],
    *,
    available: Callable[[], int | None] = available_memory,
) -> str:
    """Compare what is needed with what there is.

    Args:
        needed: Bytes.
        what: What takes them, to begin a sentence with.
        advice: Says of the bytes that are free what would fit, to end it with.
        available: Tells how many are free, or `None` where nothing says so.

    Returns:
        A sentence with both numbers.

    Raises:
        ValueError: If it cannot fit; with the advice.

    Example:
        >>> check_memory(5_000_000, "a step", lambda free: "take less", available=lambda: 10**9)
        'a step takes about 5 MB of 1,000 MB that are free'
    """
    takes, there = f"{what} takes about {needed / MB:,.0f} MB", available()
    if there is None:
        return takes
    if needed > there:
        raise ValueError(f"{takes}, and {there / MB:,.0f} MB are free: {advice(there)}")
    return f"{takes} of {there / MB:,.0f} MB that are free"


def _left_in_container(root: Path, limit: str, used: str, stat: str) -> int | None:
    """Return what is left of a container's limit; cached files make room where it is needed."""
    most, now = _read(root / limit).strip(), _read(root / used).strip()
    if not (most.isdecimal() and now.isdecimal()) or int(most) >= 1 << 60:  # "max", or a number as good as it
        return None
    cached = [0]
    for line in _read(root / stat).splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):  # the latter includes the former
            cached.append(int(value))
    return max(0, int(most) - int(now) + max(cached))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
