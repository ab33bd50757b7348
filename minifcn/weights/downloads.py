"""Public weight files from the network: downloads are resumed, and verified before they get their name."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from minifcn.files import FileError
from minifcn.weights.tensors import MAX_BYTES

PUBLISHED = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "googlenet": "googlenet-1378be20.pth",
    "squeezenet1_0": "squeezenet1_0-b66bff10.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "vgg16": "vgg16-397923af.pth",
}
"""torchvision's files of weights from ImageNet. Each name ends in the first 8 hex digits of its SHA-256."""

URL = "https://download.pytorch.org/models"

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


def download(
    name: str, folder: str | os.PathLike[str] = ".", *, url: str | None = None, progress: bool = True
) -> Path:
    """Download a public weight file.

    An interrupted download is kept beside the file, with the suffix ".part", and continued by the next call.
    A file that exists already is verified and not downloaded again.

    Args:
        name: One of `PUBLISHED`.
        folder: Where to put it; made if it does not exist.
        url: Folder on the server; torchvision's by default.
        progress: Whether to draw a progress bar, on terminals only.

    Returns:
        The file.

    Raises:
        ValueError: If the name is unknown.
        FileError: If the existing or the downloaded file is not the published one.
        OSError: If the server cannot be reached or stops, or the disk is too full.

    Example:
        >>> path = download("squeezenet1_0", "weights")  # doctest: +SKIP
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown file of weights {name!r}: known are {', '.join(PUBLISHED)}")
    target = Path(folder) / PUBLISHED[name]
    digits = target.stem.rpartition("-")[2]
    if target.exists():
        if not _is_published(target, digits):
            raise FileError(f"{target} exists, and it is not the published file: move it away")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    address = f"{url or URL}/{target.name}"
    _fetch(address, part, progress)
    if not _is_published(part, digits):
        part.unlink()
        wrong = f"is not the published file (its SHA-256 does not begin with {digits})"
        raise FileError(f"the download from {address} {wrong}, and was deleted")
    part.replace(target)
    return target


def _is_published(file: Path, digits: str) -> bool:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest().startswith(digits)


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Download a file, starting where the last download stopped; its hash is checked by the caller."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "minifcn"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing follows what is there: it is complete, or wrong
            return
        raise OSError(f"{url} is not available: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
    with response:
        if response.status != 206:  # the server sends the whole file
            have = 0
            part.unlink(missing_ok=True)
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            raise OSError(f"{url} was asked for its bytes from {have} on, and the server sends others")
        length = response.headers["Content-Length"]
        total = have + int(length) if length and length.isdecimal() else None
        _check_room(url, part.parent, total or 0, have)
        _receive(url, response, part, have, total, progress)


def _check_room(url: str, folder: Path, total: int, have: int) -> None:
    """Refuse a file that is too large, before any of it is written."""
    if total > MAX_BYTES:
        raise FileError(f"{url} has {total:,} bytes, and at most {MAX_BYTES:,} are downloaded")
    free = shutil.disk_usage(folder).free
    if total - have > free:
        raise OSError(f"{url} takes {total - have:,} bytes more, and {folder} has room for {free:,}")


def _receive(url: str, response: BinaryIO, part: Path, have: int, total: int | None, progress: bool) -> None:
    """Append what a server sends to what is there."""
    from tqdm import tqdm

    hidden = None if progress else True  # None: hidden where there is no terminal
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=hidden)
    stopped = ""
    with bar, part.open("ab") as file:
        try:
            while have <= MAX_BYTES and (block := response.read(_BLOCK)):
                have += file.write(block)
                bar.update(len(block))
        except (OSError, http.client.HTTPException) as error:
            stopped = str(error) or type(error).__name__
    if have > MAX_BYTES:
        part.unlink()
        raise FileError(f"{url} is larger than the {MAX_BYTES:,} bytes that are downloaded")
    if stopped or total not in (None, have):
        stopped = stopped or "the server sends no more"
        count = f"{have:,} of {total:,}" if total else f"{have:,}"
        raise OSError(f"{url} stopped after {count} bytes ({stopped}): the next download continues there")
