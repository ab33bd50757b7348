"""Damaged and hostile files, made from valid ones."""

import struct
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged copies: bits, bytes and integers changed, parts removed, repeated or inserted."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            copy = _mutated(copy, rng)
        yield bytes(copy)


def _mutated(data: bytearray, rng: np.random.Generator) -> bytearray:
    if not data:
        return bytearray(rng.bytes(8))
    # The header decides how the rest is read, so it is damaged more often than the rest.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 300)
    at, length = int(rng.integers(reach)), int(rng.integers(1, 65))
    match int(rng.integers(8)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + length] = rng.bytes(length)
        case 2:
            number = struct.pack(
                ">I" if rng.random() < 0.5 else "<I", EXTREMES[int(rng.integers(len(EXTREMES)))]
            )
            data[at : at + 4] = number
        case 3:
            del data[at:]
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = rng.bytes(length)
        case 6:
            other = int(rng.integers(len(data)))
            data[at:at] = data[other : other + length]
        case _:
            data[at : at + length] = bytes(min(length, len(data) - at))
    return data


def with_right_checksums(png: bytes) -> bytes:
    """Return a PNG with the right checksum of each chunk; otherwise damage is detected at once."""
    fixed, at = bytearray(png), 8
    while at + 12 <= len(fixed):
        (length,) = struct.unpack(">I", fixed[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def survivors(
    read: Callable[[bytes], object], damaged: Iterator[bytes], rejection: type[Exception]
) -> tuple[int, int]:
    """Read damaged files; return how many were accepted and how many rejected. Other errors propagate.

    Each may take at most five seconds.
    """
    accepted = rejected = longest = 0
    for data in damaged:
        started = time.monotonic()
        try:
            read(data)
        except rejection as error:
            rejected += 1
            longest = max(longest, len(str(error)))
        else:
            accepted += 1
        assert time.monotonic() - started < 5, "too slow"
    assert longest < 1_000, "messages must be short"
    return accepted, rejected
