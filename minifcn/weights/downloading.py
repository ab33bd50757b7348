"""Public weight files from the network: resumed, and verified before they get their name."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

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
    name: str,
    folder: str | os.PathLike[str] = ".",
    *,
    url: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a public weight file.

    What has arrived is kept beside the file, under its name and ".part", and the next call goes on from
    there. A file that is there already is verified and not fetched again.

    Args:
        name: One of `PUBLISHED`.
        folder: Where to put it; made if it is not there.
        url: Folder on the server; torchvision's unless given.
        progress: Whether to draw a progress bar, on terminals only.

    Returns:
        The file.

    Raises:
        ValueError: If the name is unknown.
        FileError: If what is there, or what has arrived, is not the published file.
        OSError: If the server cannot be reached or stops, or the disk is too full.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown file of weights {name!r}: known are {', '.join(PUBLISHED)}")
    target = Path(folder) / PUBLISHED[name]
    if target.exists():
        if not _is_published(target):
            raise FileError(f"{target} is there, and it is not the published file: move it away")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    tag = target.with_name(f"{target.name}.part.tag")
    address = f"{url or URL}/{target.name}"
    _fetch(address, part, tag, progress)
    genuine = _is_published(part)
    tag.unlink(missing_ok=True)
    if not genuine:
        part.unlink()
        raise FileError(
            f"what has arrived from {address} is not the published file (its SHA-256 does not "
            f"begin with {_digits(target)}), and was deleted: the next download begins anew"
        )
    part.replace(target)
    return target


def _digits(file: Path) -> str:
    """Return the digits of its SHA-256 that a file's name ends in."""
    return file.name.removesuffix(".part").removesuffix(".pth").rpartition("-")[2]


def _is_published(file: Path) -> bool:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest().startswith(_digits(file))


def _fetch(url: str, part: Path, tag: Path, progress: bool) -> None:
    """Write a file from the network, from where it stopped the last time.

    Args:
        url: Of the file.
        part: What has arrived.
        tag: Where the server's mark of this version of the file is kept, so that two are never mixed.
        progress: Whether to draw a progress bar.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "minifcn"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.exists():
            request.add_header("If-Range", tag.read_text("latin-1"))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing behind what has arrived: it is whole, or wrong
            return
        raise OSError(f"{url} cannot be had: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
    with response:
        if response.status != 206:  # it sends the whole file
            have = 0
            _begin(part, tag, response.headers)
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            raise OSError(f"{url} was asked for its bytes from {have} on, and the server sends others")
        length = response.headers["Content-Length"]
        total = have + int(length) if length and length.isdecimal() else None
        _check_room(url, part.parent, total or 0, have)
        _receive(url, response, part, have, total, progress)


def _begin(part: Path, tag: Path, headers: Any) -> None:
    """Forget what has arrived, and keep the server's mark of what arrives now."""
    part.unlink(missing_ok=True)
    tag.unlink(missing_ok=True)
    mark = headers["ETag"] or headers["Last-Modified"]
    if mark and not mark.startswith("W/"):  # a weak mark does not promise the same bytes
        tag.write_text(mark, "latin-1")


def _check_room(url: str, folder: Path, total: int, have: int) -> None:
    """Refuse a file that is too large, before any of it is written."""
    if total > MAX_BYTES:
        raise FileError(f"{url} would be {total:,} bytes, and at most {MAX_BYTES:,} are fetched")
    free = shutil.disk_usage(folder).free
    if total - have > free:
        raise OSError(f"{url} takes {total - have:,} bytes more, and {folder} has room for {free:,}")


def _receive(url: str, response: BinaryIO, part: Path, have: int, total: int | None, progress: bool) -> None:
    """Write what a server sends behind what there is."""
    from tqdm import tqdm

    hidden = None if progress else True  # None: where there is no terminal
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=hidden)
    stopped = ""
    with bar, part.open("ab") as file:
        while have <= MAX_BYTES:
            try:
                block = response.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                stopped = str(error) or type(error).__name__
                break
            if not block:
                stopped = "" if total in (None, have) else "the server sends no more"
                break
            file.write(block)
            have += len(block)
            bar.update(len(block))
    if have > MAX_BYTES:
        part.unlink()
        raise FileError(f"{url} is larger than the {MAX_BYTES:,} bytes that are fetched")
    if stopped:
        expected = f" of {total:,}" if total else ""
        raise OSError(
            f"{url} stopped after {have:,}{expected} bytes ({stopped}): the next download goes on from there"
        )
